"""EASGD against its linear recursion on quadratics, what its springs conserve, and the promises of a walker."""

import numpy as np
import pytest
import torch
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape_walkers.easgd import EASGD
from landscape_walkers.sgd import SGD

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


def _begin(workers, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(workers, size))


@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("elasticity", [None, 0.05])
@pytest.mark.parametrize("workers", [1, 3, 4])
def test_full_batch_paths_on_a_quadratic_are_powers_of_one_matrix(
    bowl, generator, workers, elasticity, period
):
    lr, beta, steps, size = 0.2, 0.6, 24, 3
    landscape = bowl(HESSIAN, np.zeros((4, size)))
    walker = EASGD(SGD(lr=lr), workers, moving_rate=beta, elasticity=elasticity, period=period)
    begin = _begin(workers)
    state = walker.start(landscape, torch.from_numpy(begin), generator())
    state = _walk(walker, landscape, state, steps)

    # z = (x_1, ..., x_p, c); the two kinds of step are the matrices `free` and `free + springs`.
    alpha = beta / workers if elasticity is None else elasticity
    identity = np.eye(size)
    free = np.eye((workers + 1) * size)
    springs = np.zeros_like(free)
    blocks = [slice(i * size, (i + 1) * size) for i in range(workers + 1)]
    centre = blocks[-1]
    for block in blocks[:-1]:
        free[block, block] -= lr * HESSIAN
        springs[block, block] -= alpha * identity
        springs[block, centre] += alpha * identity
        springs[centre, block] += beta / workers * identity
    springs[centre, centre] -= beta * identity
    cycle = np.linalg.matrix_power(free, period - 1) @ (free + springs)
    z = np.concatenate([begin.ravel(), begin.mean(0)])
    z = np.linalg.matrix_power(cycle, steps // period) @ z

    np.testing.assert_allclose(walker.positions(state).ravel(), z[:-size], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(walker.labelled(state)["centre"], z[-size:], rtol=1e-11, atol=1e-13)


def test_stochastic_paths_follow_the_recursion_on_each_workers_own_batches(bowl, generator):
    lr, beta, workers = 0.1, 0.9, 4
    x = np.random.default_rng(1).normal(size=(20, 3))
    landscape = bowl(HESSIAN, x)
    walker = EASGD(SGD(lr=lr, batch_size=6), workers)
    state = walker.start(landscape, torch.from_numpy(_begin(workers)), generator())
    stream = landscape.stream(6, 0)
    position, centre = _begin(workers), _begin(workers).mean(0)
    for _ in range(15):
        means = np.stack([stream.batch(place)[0].numpy().mean(0) for place in state.base.streams])
        gradient = (position - means) @ HESSIAN
        position, centre = (
            position - lr * gradient - beta / workers * (position - centre),
            centre + beta * (position.mean(0) - centre),
        )
        state = walker.step(landscape, state)
        np.testing.assert_allclose(walker.positions(state), position, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(state.centre, centre, rtol=1e-12, atol=1e-13)


@given(
    workers=st.integers(1, 6),
    moving_rate=st.floats(0, 1),
    period=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_springs_with_elastic_symmetry_conserve_the_sum_of_centre_and_workers(
    make_bowl, workers, moving_rate, period, seed
):
    landscape = make_bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.0), workers, moving_rate=moving_rate, period=period)
    begin = torch.from_numpy(_begin(workers, seed=seed))
    state = walker.start(landscape, begin, torch.Generator().manual_seed(0))
    # Away from the mean, where the springs have something to do.
    state = walker.relocate(state, begin + 1)
    before = state.centre + walker.positions(state).sum(0)
    state = _walk(walker, landscape, state, 9)
    torch.testing.assert_close(state.centre + walker.positions(state).sum(0), before, rtol=1e-13, atol=1e-13)
    # The spread of the workers about their mean shrinks by 1 - alpha in every pull.
    spread = walker.positions(state) - walker.positions(state).mean(0)
    pulls = -(-9 // period)
    expected = (begin - begin.mean(0)) * (1 - moving_rate / workers) ** pulls
    torch.testing.assert_close(spread, expected, rtol=1e-11, atol=1e-13)


@given(
    shift=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    workers=st.integers(1, 4),
    elasticity=st.none() | st.floats(0, 0.5),
)
@settings(max_examples=20, deadline=None)
def test_paths_move_along_with_the_data_and_the_start(make_bowl, shift, workers, elasticity):
    shift = np.array(shift)
    x = np.random.default_rng(2).normal(size=(8, 3))
    walker = EASGD(SGD(lr=0.1, batch_size=3, momentum=0.5), workers, elasticity=elasticity)
    ends = []
    for offset in (np.zeros(3), shift):
        landscape = make_bowl(HESSIAN, x + offset)
        begin = torch.from_numpy(_begin(workers) + offset)
        state = walker.start(landscape, begin, torch.Generator().manual_seed(0))
        state = _walk(walker, landscape, state, 10)
        ends.append(torch.cat([walker.positions(state), state.centre[None]]).numpy())
    np.testing.assert_allclose(ends[1], ends[0] + shift, rtol=0, atol=1e-11)


@given(order=st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_full_batch_workers_are_interchangeable(make_bowl, order):
    landscape = make_bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.1, momentum=0.9), 4)
    begin = torch.from_numpy(_begin(4))
    ends = []
    for rows in (begin, begin[list(order)]):
        state = walker.start(landscape, rows, torch.Generator().manual_seed(0))
        ends.append(_walk(walker, landscape, state, 8))
    torch.testing.assert_close(
        walker.positions(ends[1]), walker.positions(ends[0])[list(order)], rtol=0, atol=1e-13
    )
    torch.testing.assert_close(ends[1].centre, ends[0].centre, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("workers", [1, 3, 4, 7])
def test_workers_that_start_together_start_at_their_centre_to_the_last_bit(
    classifier, generator, workers, dtype
):
    landscape = classifier(dtype)
    walker = EASGD(SGD(lr=0.1), workers)
    state = walker.start(landscape, landscape.initial().expand(workers, -1), generator())
    assert torch.equal(walker.labelled(state)["centre"], landscape.initial())


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True}], ids=str)
def test_without_elasticity_workers_walk_like_the_base_walker_and_the_centre_averages_them(
    classifier, generator, options
):
    landscape = classifier()
    base = SGD(lr=0.1, batch_size=16, **options)
    walker = EASGD(base, 3, elasticity=0.0, moving_rate=1.0)
    begin = landscape.initial().expand(3, -1)
    tied = walker.start(landscape, begin, generator())
    free = base.start(landscape, begin, generator())
    for _ in range(8):
        mean = base.positions(free).double().mean(0)
        tied, free = walker.step(landscape, tied), base.step(landscape, free)
        assert torch.equal(walker.positions(tied), base.positions(free))
        # With moving rate 1 the centre is the mean of where the workers were.
        torch.testing.assert_close(tied.centre.double(), mean, rtol=0, atol=1e-6)


def test_resting_workers_neither_move_nor_pull(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(SGD(lr=0.1), 3, moving_rate=0.6)
    begin = _begin(3)
    state = walker.start(landscape, torch.from_numpy(begin), generator())
    active = torch.tensor([True, False, True])
    after = walker.step(landscape, state, active=active)
    mean = begin.mean(0)
    expected = begin - 0.1 * begin @ HESSIAN - 0.2 * (begin - mean)
    np.testing.assert_allclose(walker.positions(after)[[0, 2]], expected[[0, 2]], rtol=1e-12)
    assert torch.equal(walker.positions(after)[1], walker.positions(state)[1])
    np.testing.assert_allclose(
        after.centre, mean + 0.6 / 3 * (begin[[0, 2]] - mean).sum(0), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("period", [1, 4])
def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator, period):
    from landscape.store import decode, encode

    landscape = classifier()
    walker = EASGD(SGD(lr=0.1, batch_size=16, momentum=0.9), 3, period=period)
    begin = landscape.initial().expand(3, -1)
    middle = _walk(walker, landscape, walker.start(landscape, begin, generator()), 6)
    middle = walker.adjust(middle, lr=(0.1, 0.2, 0.3), moving_rate=0.5)
    tree, tensors = encode(middle)
    restored = decode(tree, tensors, walker.start(landscape, begin, generator(99)))
    assert walker.hyperparameters(restored) == walker.hyperparameters(middle)
    one, two = _walk(walker, landscape, restored, 7), _walk(walker, landscape, middle, 7)
    assert torch.equal(walker.positions(one), walker.positions(two))
    assert torch.equal(one.centre, two.centre)


def test_a_step_does_not_change_the_state_before_it(classifier, generator):
    landscape = classifier()
    walker = EASGD(SGD(lr=0.1, batch_size=16), 3)
    state = _walk(
        walker, landscape, walker.start(landscape, landscape.initial().expand(3, -1), generator()), 2
    )
    positions, centre = walker.positions(state).clone(), state.centre.clone()
    walker.step(landscape, state)
    assert torch.equal(walker.positions(state), positions)
    assert torch.equal(state.centre, centre)


def test_hyper_parameters_of_both_are_listed_and_changed(classifier, generator):
    landscape = classifier()
    begin = landscape.initial().expand(4, -1)
    walker = EASGD(SGD(lr=0.1))
    state = walker.start(landscape, begin, generator())
    assert walker.hyperparameters(state) == {
        "lr": 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "moving_rate": 0.9,
        "elasticity": 0.225,
    }
    changed = walker.adjust(state, lr=0.01, moving_rate=0.4)
    assert walker.hyperparameters(changed) == {
        "lr": 0.01,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "moving_rate": 0.4,
        "elasticity": 0.1,  # follows, to stay symmetric
    }
    fixed = EASGD(SGD(lr=0.1), elasticity=0.3)
    state = fixed.adjust(fixed.start(landscape, begin, generator()), moving_rate=0.4)
    assert fixed.hyperparameters(state)["elasticity"] == 0.3
    assert fixed.hyperparameters(fixed.adjust(state, elasticity=0))["elasticity"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moving_rat": 0.1}, r"EASGD has no hyper-parameter 'moving_rat'.*Did you mean 'moving_rate'\?"),
        ({"elasticity": -0.1}, "elasticity=-0.1"),
        ({"elasticity": (0.1, 0.2)}, "give one number"),
        ({"lr": -1.0}, "SGD: lr=-1.0"),
    ],
)
def test_impossible_changes_are_refused_by_value(classifier, generator, changes, message):
    landscape = classifier()
    walker = EASGD(SGD(lr=0.1))
    state = walker.start(landscape, landscape.initial().expand(4, -1), generator())
    with pytest.raises(ConfigurationError, match=message):
        walker.adjust(state, **changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": 0.1}, "base=0.1 is not a walker"),
        (
            {"base": SGD(lr=0.1, workers=3), "workers": 4},
            "ties 4 workers together but its base walker says 3",
        ),
        ({"base": SGD(lr=0.1), "workers": 0}, "workers=0"),
        ({"base": SGD(lr=0.1), "period": 0}, "period=0"),
        ({"base": SGD(lr=0.1), "moving_rate": -1}, "moving_rate=-1"),
        ({"base": SGD(lr=0.1), "elasticity": float("nan")}, "elasticity=nan"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        EASGD(**fields)


def test_in_couplings_of_couplings_every_hyper_parameter_and_centre_has_a_name_of_its_own(
    classifier, generator
):
    landscape = classifier()
    nested = EASGD(EASGD(SGD(lr=0.1), workers=2, moving_rate=0.5), workers=2, moving_rate=0.7)
    state = nested.start(landscape, landscape.initial().expand(2, -1), generator())
    values = nested.hyperparameters(state)
    assert (values["moving_rate"], values["base.moving_rate"], values["lr"]) == (0.7, 0.5, 0.1)
    state = nested.adjust(state, **{"base.moving_rate": 0.4, "moving_rate": 0.6, "lr": 0.2})
    values = nested.hyperparameters(state)
    assert (values["moving_rate"], values["base.moving_rate"], values["lr"]) == (0.6, 0.4, 0.2)
    assert nested.base.hyperparameters(state.base)["moving_rate"] == 0.4
    state = nested.step(landscape, state)
    assert set(nested.labelled(state)) == {"centre", "base_centre"}
    assert {"distance_from_centre", "base_distance_from_centre"} <= set(nested.record(state))
    with pytest.raises(ConfigurationError, match=r"has no hyper-parameter 'base\.lr'"):
        nested.adjust(state, **{"base.lr": 0.1})


def test_any_walker_can_be_the_base(bowl, generator):
    @frozen
    class Jump(Walker):
        """Moves by one in every coordinate and knows nothing of gradients."""

        def start(self, landscape, positions, generator):
            return positions

        def step(self, landscape, state, *, active=None):
            return state + 1

        def positions(self, state):
            return state

        def relocate(self, state, positions):
            return positions

        def labelled(self, state):
            return {"first": state[0]}

    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(Jump(), 2, moving_rate=0.5)
    begin = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    state = walker.step(landscape, walker.start(landscape, begin, generator()))
    assert walker.positions(state)[:, 0].tolist() == [0 + 1 + 0.25, 2 + 1 - 0.25]
    assert set(walker.labelled(state)) == {"first", "centre"}
    assert walker.hyperparameters(state) == {"moving_rate": 0.5, "elasticity": 0.25}


def test_the_walker_is_a_value():
    assert EASGD(SGD(lr=0.1), moving_rate=1) == EASGD(SGD(lr=0.1), moving_rate=1.0)
    assert len({EASGD(SGD(lr=0.1)), EASGD(SGD(lr=0.1)), EASGD(SGD(lr=0.2))}) == 2
