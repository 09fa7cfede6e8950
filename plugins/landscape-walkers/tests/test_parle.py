"""Parle against its recursion written down a second time, closed forms on quadratics, and the scoping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError
from landscape.store import decode, encode
from landscape.testing import check_walker
from landscape_walkers.easgd import EASGD
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.parle import Parle
from landscape_walkers.sgd import GD, SGD
from landscape_walkers.wandering import RandomWalk

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def _begin(workers, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(workers, size))


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("springs", [{}, {"gamma": 0.5, "smallest_gamma": 0.3, "rho": 0.2}], ids=str)
def test_paths_follow_the_recursion_on_each_replicas_own_batches(bowl, generator, springs, momentum):
    workers, lr, outer_lr, averaging, inner_steps = 3, 0.1, 0.3, 0.4, 4
    landscape = bowl(HESSIAN, np.random.default_rng(1).normal(size=(20, 3)))
    walker = Parle(
        SGD(lr=lr, batch_size=6), workers, inner_steps=inner_steps, outer_lr=outer_lr,
        outer_momentum=momentum, averaging=averaging, **springs,
    )  # fmt: skip
    gamma, rho = springs.get("gamma", 100.0), springs.get("rho", 1.0)
    floors = springs.get("smallest_gamma", 1.0), 0.1
    state = walker.start(landscape, torch.from_numpy(_begin(workers)), generator())
    stream = landscape.stream(6, 0)
    x, velocity, places = _begin(workers), np.zeros((workers, 3)), list(state.base.streams)
    for _ in range(12):
        y, z = x.copy(), x.copy()
        for _ in range(inner_steps):
            means = np.stack([stream.batch(place)[0].numpy().mean(0) for place in places])
            places = [stream.advance(place) for place in places]
            y = y - lr * (y - means) @ HESSIAN - min(lr / gamma, 1) * (y - x)
            z = (1 - averaging) * z + averaging * y
        pull = (x - z) + min(1 / rho, 1 / outer_lr) * (x - x.mean(0))
        velocity = momentum * velocity + pull
        x = x - outer_lr * (pull + momentum * velocity)
        # 20 examples make 4 mini-batches of 6.
        gamma, rho = max(gamma * (1 - 1 / 8), floors[0]), max(rho * (1 - 1 / 8), floors[1])
        state = walker.step(landscape, state)
        np.testing.assert_allclose(walker.positions(state), x, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(walker.labelled(state)["centre"], x.mean(0), rtol=1e-11, atol=1e-12)
        recorded = walker.record(state)
        assert recorded["gamma"] == pytest.approx((gamma,) * workers, rel=1e-13)
        assert recorded["rho"] == pytest.approx((rho,) * workers, rel=1e-13)
    if springs:
        assert (gamma, rho) == (0.3, 0.1)


def test_a_long_inner_walk_makes_the_outer_step_of_the_local_entropy(bowl, generator):
    h, gamma, outer_lr = np.array([2.0, 0.5, 0.1]), 3.0, 0.4
    landscape = bowl(np.diag(h), np.zeros((2, 3)))
    walker = Parle(
        GD(lr=0.2), 1, inner_steps=300, averaging=1.0, gamma=gamma, outer_lr=outer_lr, outer_momentum=0.0,
        scoping=0.0,
    )  # fmt: skip
    state = walker.start(landscape, torch.ones(1, 3), generator())
    after = walker.positions(walker.step(landscape, state))[0]
    # Curvature gamma' h / (gamma' + h) times the 1 / gamma' that the outer step size has in it, gamma' = 1 / gamma.
    np.testing.assert_allclose(after, 1 - outer_lr * h / (h + 1 / gamma), rtol=1e-12)


def test_noise_gives_the_end_of_the_inner_walk_the_variance_of_a_langevin_walk_on_a_spring(many, generator):
    copies, h, gamma, lr, noise = 20_000, 2.0, 0.5, 0.1, 0.7
    walker = Parle(
        GD(lr=lr), 2, inner_steps=60, averaging=1.0, gamma=gamma, outer_lr=1.0, outer_momentum=0.0, rho=1e12,
        smallest_gamma=gamma, noise=noise, scoping=0.0,
    )  # fmt: skip
    landscape = many(copies, h)
    start = walker.start(landscape, torch.ones(2, copies), generator())
    ends = walker.positions(walker.step(landscape, start))
    k = h + 1 / gamma
    variance = lr * noise**2 / (1 - (1 - lr * k) ** 2)
    for end in ends:
        assert float(end.mean()) == pytest.approx(1 / gamma / k, abs=4 * (variance / copies) ** 0.5)
        assert float(end.var()) == pytest.approx(variance, rel=4 * (2 / copies) ** 0.5)
    # Replicas have noises of their own.
    assert abs(float(torch.corrcoef(ends)[0, 1])) < 4 / copies**0.5


def test_a_replica_alone_walks_as_entropy_sgd_does(bowl, generator):
    landscape = bowl(HESSIAN, np.random.default_rng(1).normal(size=(20, 3)))
    lr, stiffness, averaging, inner, outer = 0.1, 0.4, 0.3, 7, 0.8
    parle = Parle(
        SGD(lr=lr, batch_size=5), 1, inner_steps=inner, averaging=averaging, gamma=1 / stiffness, outer_lr=outer,
        outer_momentum=0.0, smallest_gamma=1e-9, scoping=0.0,
    )  # fmt: skip
    entropy = EntropySGD(
        outer, 5, inner_steps=inner, inner_lr=lr, gamma=stiffness, scoping=0.0, noise=0.0, averaging=averaging
    )
    ends = []
    for walker in (parle, entropy):
        state = walker.start(landscape, torch.ones(1, 3), generator())
        ends.append(walker.positions(_walk(walker, landscape, state, 5)))
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-13)


@given(
    workers=st.integers(1, 5),
    rho=st.floats(0.01, 10),
    outer_lr=st.floats(0, 1),
    momentum=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_springs_between_replicas_conserve_their_mean(make_bowl, workers, rho, outer_lr, momentum, seed):
    landscape = make_bowl(HESSIAN, np.zeros((2, 3)))
    walker = Parle(
        GD(lr=0.0),
        workers,
        inner_steps=1,
        rho=rho,
        smallest_rho=0.01,
        outer_lr=outer_lr,
        outer_momentum=momentum,
    )
    begin = torch.from_numpy(_begin(workers, seed=seed))
    state = walker.start(landscape, begin, torch.Generator().manual_seed(0))
    end = walker.positions(_walk(walker, landscape, state, 5))
    torch.testing.assert_close(end.mean(0), begin.mean(0), rtol=1e-12, atol=1e-12)
    if momentum == 0:
        assert float(end.var(0, correction=0).sum()) <= float(begin.var(0, correction=0).sum()) + 1e-12


def test_with_a_stiff_spring_and_no_momentum_the_replicas_meet_at_their_mean(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = Parle(GD(lr=0.0), 3, inner_steps=1, rho=0.05, outer_lr=0.1, outer_momentum=0.0)
    begin = torch.from_numpy(_begin(3))
    state = walker.step(landscape, walker.start(landscape, begin, generator()))
    torch.testing.assert_close(walker.positions(state), begin.mean(0).expand(3, -1), rtol=1e-13, atol=1e-14)
    # What starts below the smallest value is not raised to it.
    assert walker.hyperparameters(state)["rho"] == 0.05


@pytest.mark.parametrize(("batch_size", "batches"), [(6, 4), (20, 1), (None, 1), (7, 3)])
def test_gamma_and_rho_shrink_by_half_a_batch_per_step(bowl, generator, batch_size, batches):
    landscape = bowl(HESSIAN, np.zeros((20, 3)))
    walker = Parle(SGD(lr=0.1, batch_size=batch_size), 2, inner_steps=1)
    state = walker.start(landscape, torch.zeros(2, 3), generator())
    for step in range(8):
        shrunk = (1 - 1 / (2 * batches)) ** step
        assert walker.hyperparameters(state)["gamma"] == pytest.approx(max(100 * shrunk, 1), rel=1e-12)
        assert walker.hyperparameters(state)["rho"] == pytest.approx(max(shrunk, 0.1), rel=1e-12)
        state = walker.step(landscape, state)
    steady = Parle(SGD(lr=0.1), 2, inner_steps=1, scoping=0.0)
    state = _walk(steady, landscape, steady.start(landscape, torch.zeros(2, 3), generator()), 3)
    assert steady.hyperparameters(state)["gamma"] == 100.0


def test_resting_replicas_keep_everything_and_the_others_walk_as_before(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = Parle(GD(lr=0.1), 3, inner_steps=3)
    state = walker.start(landscape, torch.from_numpy(_begin(3)), generator())
    after = walker.step(landscape, state, active=torch.tensor([True, False, True]))
    full = walker.step(landscape, state)
    assert torch.equal(walker.positions(after)[1], walker.positions(state)[1])
    assert torch.equal(after.velocity[1], state.velocity[1])
    assert torch.equal(walker.positions(after)[[0, 2]], walker.positions(full)[[0, 2]])
    nobody = walker.step(landscape, state, active=torch.zeros(3, dtype=torch.bool))
    assert nobody.values == state.values


def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator):
    landscape = classifier()
    walker = Parle(SGD(lr=0.1, batch_size=16, momentum=0.9, nesterov=True), 3, inner_steps=3, noise=0.01)
    begin = landscape.initial().expand(3, -1)
    middle = _walk(walker, landscape, walker.start(landscape, begin, generator()), 3)
    middle = walker.adjust(middle, outer_lr=0.2, rho=0.5, lr=(0.1, 0.2, 0.3))
    restored = decode(*encode(middle), walker.start(landscape, begin, generator(99)))
    assert walker.hyperparameters(restored) == walker.hyperparameters(middle)
    one, two = _walk(walker, landscape, restored, 4), _walk(walker, landscape, middle, 4)
    assert torch.equal(walker.positions(one), walker.positions(two))
    assert torch.equal(one.velocity, two.velocity)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (RandomWalk(), "RandomWalk has no hyper-parameter 'lr'.*Give SGD or another that has"),
        (EASGD(SGD(lr=0.1), 2), "how many mini-batches EASGD makes"),
    ],
    ids=["no lr", "no batches"],
)
def test_base_walkers_that_do_not_fit_are_refused(bowl, generator, base, message):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    with pytest.raises(ConfigurationError, match=message):
        Parle(base, 2).start(landscape, torch.zeros(2, 3), generator())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gamma": 0}, "gamma=0.0"),
        ({"rho": -1}, "rho=-1.0"),
        ({"outer_momentum": 1}, "outer_momentum=1.0"),
        ({"averaging": 0}, "averaging=0.0"),
        ({"scoping": 1}, "scoping=1.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"noise": -1}, "noise=-1.0"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Parle(SGD(lr=0.1), **fields)


@pytest.mark.parametrize(
    "walker",
    [
        Parle(SGD(lr=0.1, batch_size=8), 3, inner_steps=3),
        Parle(
            SGD(lr=(0.1, 0.05), momentum=0.9, nesterov=True), outer_momentum=0.0, inner_steps=2, scoping=0.0
        ),
    ],
    ids=["defaults", "momentum"],
)
def test_it_keeps_the_rules_of_a_walker(walker):
    check_walker(walker)
