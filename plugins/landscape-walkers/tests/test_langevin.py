"""SGLD and MALA against the distributions that they sample; SGLD's variance on a quadratic is in test_theory."""

import math

import numpy as np
import pytest
import torch

from landscape.errors import ConfigurationError
from landscape_walkers.langevin import MALA, SGLD


def moments(walker, landscape, begin, steps, seed=0, skip=0.1):
    """Return the mean of theta^2 over coordinates and steps, its standard error by batches, and the last state."""
    state = walker.start(landscape, begin, torch.Generator().manual_seed(seed))
    squares = []
    for _ in range(steps):
        state = walker.step(landscape, state)
        squares.append(float(state.positions.square().mean()))
    batches = np.array_split(np.array(squares[int(skip * steps) :]), 20)
    means = np.array([batch.mean() for batch in batches])
    return means.mean(), means.std(ddof=1) / math.sqrt(len(means)), state


def test_sgld_steps_are_those_of_its_equation(bowl, walked):
    x = np.random.default_rng(0).normal(size=(12, 2))
    hessian = np.array([[2.0, 0.5], [0.5, 1.0]])
    landscape = bowl(hessian, x)
    lr, nbeta, gamma, decay = 0.01, 5.0, 3.0, 0.7
    walker = SGLD(lr, 4, nbeta=nbeta, localization=gamma, weight_decay=decay)
    begin = theta = np.array([1.0, -2.0])
    state = walked(walker, landscape, theta[None], 0)
    silent = walked(SGLD(lr, 4, nbeta=0.0), landscape, np.zeros((1, 2)), 0)
    stream = landscape.stream(4, state.seed)
    for _ in range(5):
        mean = stream.batch(state.streams[0])[0].numpy().mean(0)
        drift = nbeta * hessian @ (theta - mean) + decay * theta + gamma * (theta - begin)
        # A walk in no energy tells the noise of each step.
        before, silent = silent, walker.step(landscape, silent)
        noise = (silent.positions - before.positions)[0].numpy()
        theta = theta - lr / 2 * drift + noise
        state = walker.step(landscape, state)
        np.testing.assert_allclose(state.positions[0], theta, rtol=1e-11)


def test_the_spring_stays_at_the_start_when_workers_are_moved(bowl, walked):
    walker = SGLD(1e-12, nbeta=0.0, localization=1e12)
    state = walked(walker, bowl([[1.0]], [[0.0]]), [[2.0]], 0)
    moved = walker.relocate(state, torch.tensor([[5.0]], dtype=torch.float64))
    after = walker.step(bowl([[1.0]], [[0.0]]), moved)
    # Half of the way back to 2, but for noise of size 1e-6.
    assert float(after.positions) == pytest.approx(3.5, abs=1e-5)


def test_the_temperature_left_open_is_that_of_the_information_criterion(bowl, walked):
    landscape = bowl([[1.0]], np.zeros((50, 1)))
    for walker in (SGLD(0.1), MALA(0.1)):
        state = walked(walker, landscape, [[1.0]], 0)
        assert walker.hyperparameters(state)["nbeta"] == pytest.approx(50 / math.log(50), rel=1e-15)
    assert SGLD(0.1, nbeta=None) == SGLD(0.1)
    with pytest.raises(ConfigurationError, match=r"nbeta=None is n/log n, which 1 example has not"):
        walked(SGLD(0.1), bowl([[1.0]], [[0.0]]), [[1.0]], 0)


def test_noise_differs_between_workers_steps_and_seeds(bowl, walked):
    landscape = bowl(np.zeros((4, 4)), np.zeros((1, 4)))
    walker = SGLD(1.0, nbeta=0.0, workers=2)
    one = walked(walker, landscape, torch.zeros(2, 4), 1).positions
    two = walked(walker, landscape, torch.zeros(2, 4), 2).positions - one
    other = walked(walker, landscape, torch.zeros(2, 4), 1, seed=1).positions
    values = torch.cat([one, two, other]).flatten().tolist()
    assert len(set(values)) == len(values)


def test_mala_samples_a_gaussian_exactly_at_a_step_size_where_sgld_does_not(many):
    size, nbeta, h, gamma, decay, lr = 10, 4.0, 0.4, 1.0, 0.4, 0.45
    k = nbeta * h + gamma + decay
    landscape = many(size, h)
    options = {"nbeta": nbeta, "localization": gamma, "weight_decay": decay}
    begin = torch.zeros(1, size, dtype=torch.float64)
    found, error, state = moments(MALA(lr, **options), landscape, begin, 900)
    assert error < 0.07 / k
    assert found == pytest.approx(1 / k, abs=4 * error)
    assert 0.3 < MALA(lr, **options).record(state)["acceptance"][0] < 0.95
    biased, error, _ = moments(SGLD(lr, **options), landscape, begin, 600)
    assert biased == pytest.approx(1 / (k * (1 - lr * k / 4)), abs=4 * error)
    assert biased > 1 / k + 4 * error


def test_mala_samples_what_is_not_gaussian(many):
    # exp(-theta^4/4) has the second moment 2 Gamma(3/4)/Gamma(1/4).
    landscape = many(8, 0.0)
    landscape.penalty = lambda theta: theta.pow(4).sum() / 4
    begin = torch.full((1, 8), 0.5, dtype=torch.float64)
    found, error, _ = moments(MALA(0.5, nbeta=1.0), landscape, begin, 1000)
    assert error < 0.05
    assert found == pytest.approx(2 * math.gamma(0.75) / math.gamma(0.25), abs=4 * error)


def test_mala_accepts_nearly_everything_for_small_steps_and_says_so(many, walked):
    walker = MALA((1e-6, 2.0), nbeta=1.0, localization=1.0)
    landscape = many(40, 1.0)
    state = walked(walker, landscape, torch.ones(2, 40), 0)
    assert all(math.isnan(rate) for rate in walker.record(state)["acceptance"])
    moved = []
    for _ in range(50):
        after = walker.step(landscape, state)
        moved.append((after.positions != state.positions).any(1).tolist())
        state = after
    rates = walker.record(state)["acceptance"]
    assert rates == tuple(np.mean(moved, axis=0))
    assert rates[0] == 1.0
    assert rates[1] < 0.5


def test_mala_never_goes_where_the_loss_is_not_finite(many, walked):
    # log(theta) is the edge of the world at 0.
    landscape = many(1, 1.0)
    landscape.penalty = lambda theta: -theta.log().sum()
    state = walked(MALA(2.0, nbeta=1.0), landscape, [[0.3]], 60)
    assert float(state.positions) > 0
    assert 0 < state.memory[0].get("accepted", 0) < 60


def test_mala_computes_one_gradient_in_a_step(many):
    landscape = many(3, 1.0)
    calls = []
    inner = landscape.value_and_gradient
    landscape.value_and_gradient = lambda theta, batch=None: calls.append(len(theta)) or inner(theta, batch)
    walker = MALA(0.1, nbeta=1.0, workers=2)
    state = walker.start(landscape, torch.zeros(2, 3, dtype=torch.float64), torch.Generator())
    for _ in range(4):
        state = walker.step(landscape, state)
    assert sum(calls) == 2 + 2 * 4  # the start, then one for each proposal
