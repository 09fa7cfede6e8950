"""EASGD's asynchronous and round-robin schedules and the variant of 2016, each written down a second time."""

import attrs
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError
from landscape.testing import check_walker
from landscape_walkers.easgd import EASGD
from landscape_walkers.sgd import GD, SGD

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def _begin(workers, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(workers, size))


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


@pytest.mark.parametrize("period", [1, 3, (1, 2, 5)], ids=str)
@pytest.mark.parametrize("schedule", ["asynchronous", "round robin"])
@pytest.mark.parametrize("elasticity", [None, 0.05])
def test_one_worker_at_a_time_walks_as_algorithm_1_says(bowl, generator, schedule, period, elasticity):
    lr, beta, workers = 0.1, 0.9, 3
    data = np.random.default_rng(1).normal(size=(20, 3))
    landscape = bowl(HESSIAN, data)
    walker = EASGD(
        SGD(lr=lr, batch_size=6), workers, moving_rate=beta, elasticity=elasticity, period=period,
        schedule=schedule,
    )  # fmt: skip
    alpha = beta / workers if elasticity is None else elasticity
    state = walker.start(landscape, torch.from_numpy(_begin(workers)), generator())
    stream = landscape.stream(6, 0)
    position, centre, clocks = _begin(workers), _begin(workers).mean(0), [0] * workers
    periods = period if isinstance(period, tuple) else (period,) * workers
    order = []
    for step in range(40):
        after = walker.step(landscape, state)
        moved = [i for i in range(workers) if after.clocks[i] != state.clocks[i]]
        assert len(moved) == 1
        (i,) = moved
        order.append(i)
        x = position[i].copy()
        mean = stream.batch(state.base.streams[i])[0].numpy().mean(0)
        if clocks[i] % periods[i] == 0:
            position[i] = position[i] - alpha * (x - centre)
            centre = centre + beta / workers * (x - centre)
        position[i] = position[i] - lr * HESSIAN @ (x - mean)
        clocks[i] += 1
        state = after
        np.testing.assert_allclose(walker.positions(state), position, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(state.centre, centre, rtol=1e-12, atol=1e-13)
        assert walker.record(state)["clock"] == tuple(map(float, clocks)), step
    np.testing.assert_allclose(
        walker.record(state)["distance_from_centre"], np.linalg.norm(position - centre, axis=1), rtol=1e-12
    )
    if schedule == "round robin":
        assert order == [step % workers for step in range(40)]
    else:
        assert order != [step % workers for step in range(40)]


def test_the_asynchronous_order_follows_the_speeds_and_the_seed_alone(bowl, generator):
    landscape = bowl(np.eye(1), np.zeros((2, 1)))
    speeds = (1.0, 2.0, 5.0)
    walker = EASGD(GD(lr=0.0), 3, schedule="asynchronous", speeds=speeds)
    begin = torch.zeros(3, 1, dtype=torch.float64)
    ends = [
        _walk(walker, landscape, walker.start(landscape, begin, generator(seed)), steps)
        for seed, steps in ((0, 60), (0, 60), (1, 60), (0, 600))
    ]
    assert ends[0].clocks == ends[1].clocks != ends[2].clocks
    counts, shares = np.array(ends[3].clocks), np.array(speeds) / sum(speeds)
    assert counts.sum() == 600
    # Four standard deviations of a multinomial.
    assert (abs(counts - 600 * shares) < 4 * np.sqrt(600 * shares * (1 - shares))).all()


@pytest.mark.parametrize("schedule", ["asynchronous", "round robin"])
def test_resting_workers_are_not_waited_for(bowl, generator, schedule):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.1), 4, schedule=schedule)
    state = walker.start(landscape, torch.from_numpy(_begin(4)), generator())
    active = torch.tensor([False, True, False, True])
    after = _walk(walker, landscape, state, 6, active=active)
    assert after.clocks[0] == after.clocks[2] == 0
    assert sum(after.clocks) == 6
    if schedule == "round robin":
        assert after.clocks == (0, 3, 0, 3)
    assert torch.equal(walker.positions(after)[[0, 2]], walker.positions(state)[[0, 2]])
    nobody = walker.step(landscape, after, active=torch.zeros(4, dtype=torch.bool))
    assert nobody.updates == after.updates
    assert torch.equal(nobody.centre, after.centre)


@given(
    schedule=st.sampled_from(["synchronous", "asynchronous", "round robin"]),
    workers=st.integers(1, 5),
    moving_rate=st.floats(0, 1),
    period=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_springs_conserve_the_sum_of_centre_and_workers_in_every_schedule(
    make_bowl, schedule, workers, moving_rate, period, seed
):
    landscape = make_bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.0), workers, moving_rate=moving_rate, period=period, schedule=schedule)
    begin = torch.from_numpy(_begin(workers, seed=seed))
    state = walker.start(landscape, begin, torch.Generator().manual_seed(seed))
    state = walker.relocate(state, begin + 1)
    before = state.centre + walker.positions(state).sum(0)
    state = _walk(walker, landscape, state, 8)
    torch.testing.assert_close(state.centre + walker.positions(state).sum(0), before, rtol=1e-13, atol=1e-13)


def _matrix_of_a_step(walker, landscape, workers):
    """Return the matrix of one step on a quadratic around 0, found by stepping from unit vectors."""
    columns = []
    for unit in torch.eye(workers + 1, dtype=torch.float64):
        rows = unit[:workers, None]
        state = walker.start(landscape, rows, torch.Generator().manual_seed(0))
        state = walker.step(landscape, attrs.evolve(state, centre=unit[workers:]))
        columns.append(torch.cat([walker.positions(state)[:, 0], state.centre]))
    return torch.stack(columns, dim=1).numpy()


@given(workers=st.integers(1, 4), alpha=st.floats(0.05, 0.8), beta=st.floats(0.1, 1.5))
@settings(max_examples=25, deadline=None)
def test_the_documented_curvature_is_the_limit_of_stability(make_bowl, workers, alpha, beta):
    limit = 2 - 2 * alpha / (2 - beta)
    if workers > 1:
        limit = min(limit, 2 - alpha)
    assume(limit > 0.1)
    landscape = make_bowl(np.eye(1), np.zeros((2, 1)))
    radius = {}
    for share in (0.98, 1.0, 1.02):
        walker = EASGD(SGD(lr=share * limit), workers, moving_rate=beta, elasticity=alpha)
        step = _matrix_of_a_step(walker, landscape, workers)
        radius[share] = abs(np.linalg.eigvals(step)).max()
    assert radius[0.98] < 1 < radius[1.02]
    assert radius[1.0] == pytest.approx(1, abs=1e-7)


def test_the_minimum_is_a_fixed_point_of_every_schedule(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    for schedule in ("synchronous", "asynchronous", "round robin"):
        walker = EASGD(SGD(lr=0.1, momentum=0.9), 3, schedule=schedule)
        state = walker.start(landscape, torch.zeros(3, 3, dtype=torch.float64), generator())
        state = _walk(walker, landscape, state, 7)
        assert not walker.positions(state).any()
        assert not state.centre.any()


def test_over_nesterov_momentum_the_walk_is_eamsgd_at_the_look_ahead_point(bowl, generator):
    lr, momentum, workers, alpha = 0.1, 0.8, 3, 0.2
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=lr, momentum=momentum, nesterov=True), workers, moving_rate=workers * alpha)
    state = walker.start(landscape, torch.from_numpy(_begin(workers)), generator())
    # x is the place, v the velocity; the look-ahead point x + momentum v is what the walker stores.
    look, centre, velocity = _begin(workers), _begin(workers).mean(0), np.zeros((workers, 3))
    for _ in range(20):
        gradient, stretch = look @ HESSIAN, look - centre
        place = look - lr * gradient
        velocity = momentum * velocity - lr * gradient
        look = place + momentum * velocity - alpha * stretch
        centre = centre + alpha * stretch.sum(0)
        state = walker.step(landscape, state)
        np.testing.assert_allclose(walker.positions(state), look, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(state.centre, centre, rtol=1e-12, atol=1e-13)


OPTIONS = {
    "all": {"sequential": True, "centre_norm": "mean", "output_bias_damping": 0.9},
    "sequential": {"sequential": True},
    "centre norm": {"centre_norm": "mean"},
    "damped output biases": {"output_bias_damping": 0.9},
    "another damping": {"output_bias_damping": 0.25, "output_bias": "*bias"},
}


@pytest.mark.parametrize("moving_rate", [1.0, 0.6])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_options_of_the_program_of_2016_do_what_it_did(classifier, generator, options, moving_rate):
    workers, lr, momentum, alpha = 3, 0.1, 0.5, 0.15
    landscape = classifier(torch.float64)
    walker = EASGD(
        SGD(lr=lr, batch_size=20, momentum=momentum, dampening=momentum), workers,
        moving_rate=moving_rate, elasticity=alpha, **options,
    )  # fmt: skip
    begin = landscape.initial() + 0.1 * torch.from_numpy(_begin(workers, landscape.size))
    state = walker.start(landscape, begin, generator())
    stream = landscape.stream(20, 0)
    weights, centre, velocity = begin.numpy().copy(), begin.numpy().mean(0), None
    size, classes, hidden = landscape.size, 4, 16
    damped = list(range(size - classes, size))  # the biases of the outputs are the last entries
    if options.get("output_bias") == "*bias":
        damped = list(range(12 * hidden, 12 * hidden + hidden)) + damped
    damping = options.get("output_bias_damping", 0.0)
    for _ in range(6):
        old, gradient = weights.copy(), np.empty_like(weights)
        for i in range(workers):
            batch = stream.batch(state.base.streams[i])
            gradient[i] = landscape.gradient(torch.from_numpy(old[i]), batch).numpy()
        velocity = gradient if velocity is None else momentum * velocity + (1 - momentum) * gradient
        weights = old - lr * velocity
        weights[:, damped] = (1 - damping) * weights[:, damped] + damping * old[:, damped]
        if options.get("sequential"):
            weights = weights - alpha * (weights - centre)
            followed = weights
        else:
            weights = weights - alpha * (old - centre)
            followed = old
        centre = centre + moving_rate * (followed.mean(0) - centre)
        if "centre_norm" in options:
            centre = centre * np.linalg.norm(followed, axis=1).mean() / np.linalg.norm(centre)
        state = walker.step(landscape, state)
        np.testing.assert_allclose(walker.positions(state), weights, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(state.centre, centre, rtol=1e-10, atol=1e-12)


def test_a_centre_at_the_origin_is_left_there(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.1), 2, moving_rate=1.0, elasticity=0.1, centre_norm="mean")
    begin = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], dtype=torch.float64)
    state = walker.step(landscape, walker.start(landscape, begin, generator()))
    assert not state.centre.any()


def test_the_biases_of_the_outputs_are_not_guessed(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.1), 2, output_bias_damping=0.9)
    with pytest.raises(ConfigurationError, match=r"the last parameter, 'theta', is none; say which"):
        walker.start(landscape, torch.zeros(2, 3), generator())
    walker = attrs.evolve(walker, output_bias="no_such")
    with pytest.raises(ConfigurationError, match="No trainable parameter matches 'no_such'"):
        walker.start(landscape, torch.zeros(2, 3), generator())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "in turn"}, "schedule='in turn' is not possible"),
        ({"centre_norm": "max"}, "centre_norm='max'"),
        ({"period": (1, 2)}, "clocks of their own"),
        ({"period": (1, 2), "schedule": "round robin"}, "2 entries for 3 workers"),
        ({"period": (), "schedule": "round robin"}, r"period=\(\)"),
        ({"period": (1, 0, 1), "schedule": "round robin"}, r"period=\(1, 0, 1\)"),
        ({"speeds": (1, 2, 3)}, "'asynchronous'; it is 'synchronous'"),
        ({"speeds": (1, 2), "schedule": "asynchronous"}, "2 entries for 3 workers"),
        ({"speeds": (1, 2, 0), "schedule": "asynchronous"}, "finite numbers > 0"),
        ({"output_bias_damping": 1.0}, "output_bias_damping=1.0"),
        ({"moving_rate": (0.1, 0.2, 0.3)}, "give one number"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        EASGD(SGD(lr=0.1), 3, **fields)


@pytest.mark.parametrize(
    "walker",
    [
        EASGD(
            SGD(lr=0.1, batch_size=8), schedule="asynchronous", speeds=(1, 2, 3, 4), period=(1, 2, 3, 4)
        ),
        EASGD(SGD(lr=0.1, batch_size=8, momentum=0.9), 3, schedule="round robin", period=2),
        EASGD(
            SGD(lr=0.1, batch_size=8), elasticity=0.1, moving_rate=1.0, sequential=True, centre_norm="mean",
            output_bias_damping=0.9, output_bias="*",
        ),
    ],
    ids=["asynchronous", "round robin", "2016"],
)  # fmt: skip
def test_schedules_and_options_keep_the_rules_of_a_walker(walker):
    check_walker(walker)


def test_a_base_walker_that_says_its_number_need_not_be_repeated():
    assert EASGD(SGD(lr=(0.1, 0.2, 0.3))).workers == 3
    assert EASGD(SGD(lr=0.1)).workers == 4
