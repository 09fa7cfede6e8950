"""Robust ensembles against their linear recursion on quadratics, what kicks conserve, and the scoping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError
from landscape.store import decode, encode
from landscape.testing import check_walker
from landscape_walkers.easgd import EASGD
from landscape_walkers.robust_ensemble import RobustEnsemble
from landscape_walkers.sgd import GD, SGD
from landscape_walkers.wandering import RandomWalk

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def _begin(workers, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(workers, size))


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


@pytest.mark.parametrize(
    "scoping",
    [{}, {"growth": 0.1}, {"increment": 0.05, "every": 3}, {"growth": 0.2, "increment": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("lr", [0.1, (0.1, 0.2, 0.05)], ids=str)
@pytest.mark.parametrize("centre", ["mean", "elastic"])
def test_paths_follow_the_recursion_on_each_replicas_own_batches(bowl, generator, centre, lr, scoping):
    workers, gamma = 3, 0.4
    landscape = bowl(HESSIAN, np.random.default_rng(1).normal(size=(20, 3)))
    walker = RobustEnsemble(SGD(lr=lr, batch_size=6), workers, gamma=gamma, centre=centre, **scoping)
    state = walker.start(landscape, torch.from_numpy(_begin(workers)), generator())
    stream = landscape.stream(6, 0)
    position, middle = _begin(workers), _begin(workers).mean(0)
    rates = np.broadcast_to(lr, workers)[:, None]
    for step in range(1, 16):
        assert walker.hyperparameters(state)["gamma"] == pytest.approx(gamma, rel=1e-14)
        assert walker.record(state)["gamma"] == pytest.approx((gamma,) * workers, rel=1e-14)
        means = np.stack([stream.batch(place)[0].numpy().mean(0) for place in state.base.streams])
        kick = np.minimum(rates * gamma, 1 if centre == "mean" else 0.25) * (position - middle)
        position = position - rates * (position - means) @ HESSIAN - kick
        middle = position.mean(0) if centre == "mean" else middle + kick.sum(0)
        if step % scoping.get("every", 1) == 0:
            gamma = gamma * (1 + scoping.get("growth", 0)) + scoping.get("increment", 0)
        state = walker.step(landscape, state)
        np.testing.assert_allclose(walker.positions(state), position, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(walker.labelled(state)["centre"], middle, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(
            walker.record(state)["distance_from_centre"],
            np.linalg.norm(position - middle, axis=1),
            rtol=1e-11,
        )


@given(
    workers=st.integers(1, 6), strength=st.floats(0, 50), growth=st.floats(0, 10), seed=st.integers(0, 1000)
)
@settings(max_examples=25, deadline=None)
def test_kicks_conserve_the_mean_or_the_sum_with_the_centre_and_never_drive_apart(
    make_bowl, workers, strength, growth, seed
):
    landscape = make_bowl(HESSIAN, np.zeros((2, 3)))
    begin = torch.from_numpy(_begin(workers, seed=seed))
    for centre in ("mean", "elastic"):
        walker = RobustEnsemble(GD(lr=0.0), workers, gamma=strength, growth=growth, rate=0.3, centre=centre)
        state = walker.start(landscape, begin, torch.Generator().manual_seed(0))
        state = walker.relocate(state, begin + 1)
        with_centre = 0 if centre == "mean" else 1
        total = walker.positions(state).sum(0) + with_centre * walker.labelled(state)["centre"]
        spread = walker.positions(state).var(0, correction=0).sum()
        gap = torch.linalg.vector_norm(walker.positions(state).mean(0) - walker.labelled(state)["centre"])
        for _ in range(6):
            state = walker.step(landscape, state)
            now = walker.positions(state).sum(0) + with_centre * walker.labelled(state)["centre"]
            torch.testing.assert_close(now, total, rtol=1e-12, atol=1e-12)
            narrower = walker.positions(state).var(0, correction=0).sum()
            nearer = torch.linalg.vector_norm(
                walker.positions(state).mean(0) - walker.labelled(state)["centre"]
            )
            assert narrower <= spread + 1e-12
            assert nearer <= gap + 1e-12
            spread, gap = narrower, nearer


def test_differences_feel_the_curvature_and_gamma_and_the_mean_the_curvature_alone(bowl, generator):
    lr, gamma, steps = 0.1, 0.7, 12
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = RobustEnsemble(GD(lr=lr), 4, gamma=gamma)
    begin = _begin(4)
    state = walker.start(landscape, torch.from_numpy(begin), generator())
    end = walker.positions(_walk(walker, landscape, state, steps)).numpy()
    alone = np.linalg.matrix_power(np.eye(3) - lr * HESSIAN, steps)
    tied = np.linalg.matrix_power(np.eye(3) - lr * (HESSIAN + gamma * np.eye(3)), steps)
    np.testing.assert_allclose(end.mean(0), alone @ begin.mean(0), rtol=1e-12)
    np.testing.assert_allclose(end - end.mean(0), (begin - begin.mean(0)) @ tied, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("centre", ["mean", "elastic"])
def test_small_steps_descend_the_energy_of_the_ensemble(classifier, generator, centre):
    gamma = 0.5
    landscape = classifier(torch.float64)
    walker = RobustEnsemble(GD(lr=0.02), 3, gamma=gamma, centre=centre)
    begin = landscape.initial() + 0.3 * torch.from_numpy(_begin(3, landscape.size))
    state = walker.start(landscape, begin, generator())

    def energy(state):
        apart = walker.positions(state) - walker.labelled(state)["centre"]
        return float(landscape.value(walker.positions(state)).sum() + gamma / 2 * apart.square().sum())

    energies = []
    for _ in range(12):
        energies.append(energy(state))
        state = walker.step(landscape, state)
    assert (np.diff(energies) < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_without_limits_makes_the_replicas_one_and_stays_finite(classifier, generator, dtype):
    landscape = classifier(dtype)
    walker = RobustEnsemble(SGD(lr=0.05, batch_size=16), 3, gamma=1.0, growth=1e30)
    begin = landscape.initial() + 0.1 * torch.from_numpy(_begin(3, landscape.size)).to(dtype)
    state = _walk(walker, landscape, walker.start(landscape, begin, generator()), 30)
    assert np.isfinite(walker.hyperparameters(state)["gamma"])
    # What is left are the differences of the last gradients.
    apart = walker.positions(state) - walker.labelled(state)["centre"]
    assert float(apart.abs().max()) < 0.05
    frozen = walker.adjust(state, lr=0.0)
    frozen = walker.step(landscape, frozen)
    assert torch.isfinite(walker.positions(frozen)).all()


def test_resting_replicas_neither_move_nor_kick(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    begin = _begin(3)
    active = torch.tensor([True, False, True])
    for centre in ("mean", "elastic"):
        walker = RobustEnsemble(GD(lr=0.1), gamma=2.0, workers=3, centre=centre)
        state = walker.start(landscape, torch.from_numpy(begin), generator())
        after = walker.step(landscape, state, active=active)
        kick = 0.2 * (begin - begin.mean(0))
        expected = begin - 0.1 * begin @ HESSIAN - kick
        expected[1] = begin[1]
        np.testing.assert_allclose(walker.positions(after), expected, rtol=1e-12)
        wanted = expected.mean(0) if centre == "mean" else begin.mean(0) + kick[[0, 2]].sum(0)
        np.testing.assert_allclose(walker.labelled(after)["centre"], wanted, rtol=1e-12)


@pytest.mark.parametrize("centre", ["mean", "elastic"])
def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator, centre):
    landscape = classifier()
    walker = RobustEnsemble(
        SGD(lr=0.1, batch_size=16, momentum=0.9), 3, gamma=0.1, growth=0.05, every=2, centre=centre
    )
    begin = landscape.initial().expand(3, -1)
    middle = _walk(walker, landscape, walker.start(landscape, begin, generator()), 5)
    restored = decode(*encode(middle), walker.start(landscape, begin, generator(99)))
    assert walker.hyperparameters(restored) == walker.hyperparameters(middle)
    one, two = _walk(walker, landscape, restored, 7), _walk(walker, landscape, middle, 7)
    assert torch.equal(walker.positions(one), walker.positions(two))
    assert torch.equal(walker.labelled(one)["centre"], walker.labelled(two)["centre"])


def test_the_kicks_take_the_step_size_in_force(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    begin = torch.from_numpy(_begin(3))
    walker = RobustEnsemble(GD(lr=0.1), 3, gamma=0.5)
    state = walker.adjust(walker.start(landscape, begin, generator()), lr=0.2)
    other = RobustEnsemble(GD(lr=0.2), 3, gamma=0.5)
    same = other.start(landscape, begin, generator())
    assert torch.equal(
        walker.positions(walker.step(landscape, state)), other.positions(other.step(landscape, same))
    )
    own = RobustEnsemble(GD(lr=0.1), 3, gamma=0.5, rate=0.2)
    assert own.hyperparameters(own.start(landscape, begin, generator()))["rate"] == 0.2


def test_a_base_walker_without_step_size_needs_a_rate(bowl, generator):
    landscape, begin = bowl(HESSIAN, np.zeros((2, 3))), torch.zeros(2, 3)
    with pytest.raises(ConfigurationError, match=r"RandomWalk has no hyper-parameter 'lr'.*rate=0.1"):
        RobustEnsemble(RandomWalk(), 2, gamma=0.1).start(landscape, begin, generator())
    RobustEnsemble(RandomWalk(), 2, gamma=0.1, rate=0.1).start(landscape, begin, generator())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gamma": -1}, "gamma=-1.0"),
        ({"gamma": (0.1, 0.2)}, "give one number"),
        ({"gamma": 1, "growth": -0.1}, "growth=-0.1"),
        ({"gamma": 1, "every": 0}, "every=0"),
        ({"gamma": 1, "centre": "median"}, "centre='median'"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        RobustEnsemble(SGD(lr=0.1), **fields)


@pytest.mark.parametrize(
    "walker",
    [
        RobustEnsemble(SGD(lr=0.1, batch_size=8), gamma=0.1, growth=0.01),
        RobustEnsemble(
            SGD(lr=(0.1, 0.2, 0.3), momentum=0.9), gamma=0.1, increment=0.01, every=2, centre="elastic"
        ),
        RobustEnsemble(EASGD(SGD(lr=0.1, batch_size=8), 2), 2, gamma=0.1, rate=0.2),
    ],
    ids=["mean", "elastic", "nested"],
)
def test_it_keeps_the_rules_of_a_walker(walker):
    check_walker(walker)
