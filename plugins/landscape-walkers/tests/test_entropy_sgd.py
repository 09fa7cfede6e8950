"""Entropy-SGD against its linear recursion, the curvature of the local entropy, and its own noise."""

import numpy as np
import pytest
import torch

from landscape_walkers.entropy_sgd import EntropySGD


def one_step(x, h, gamma, lr, inner_lr, averaging, steps):
    place = mean = x
    for _ in range(steps):
        place = place - inner_lr * (h * place - gamma * (x - place))
        mean = (1 - averaging) * mean + averaging * place
    return x - lr * (x - mean)


@pytest.mark.parametrize("averaging", [0.25, 1.0])
def test_a_finite_inner_walk_on_a_quadratic_is_its_recursion(bowl, walked, averaging):
    h, gamma, scoping, lr, inner_lr, steps = 2.0, 0.5, 0.1, 0.8, 0.1, 7
    walker = EntropySGD(
        lr,
        inner_steps=steps,
        inner_lr=inner_lr,
        gamma=gamma,
        scoping=scoping,
        noise=0.0,
        averaging=averaging,
    )
    state = walked(walker, bowl([[h]], [[0.0]]), [[1.5]], 6)
    x = 1.5
    for t in range(6):
        x = one_step(x, h, gamma * (1 + scoping) ** t, lr, inner_lr, averaging, steps)
    assert float(state.positions) == pytest.approx(x, rel=1e-13)


@pytest.mark.parametrize(("h", "gamma"), [(2.0, 3.0), (0.1, 2.0), (50.0, 1.0)])
def test_long_inner_walks_descend_the_curvature_of_the_local_entropy(bowl, walked, h, gamma):
    # After many inner steps x - mu = h/(gamma + h) x, so that the paper's direction gamma (x - mu) is
    # gamma h/(gamma + h) x.
    walker = EntropySGD(
        0.1,
        inner_steps=400,
        inner_lr=0.5 / (h + gamma),
        gamma=gamma,
        scoping=0.0,
        noise=0.0,
        multiply_by_gamma=True,
    )
    x = 1.5
    state = walked(walker, bowl([[h]], [[0.0]]), [[x]], 1)
    assert (x - float(state.positions)) / 0.1 == pytest.approx(gamma * h / (gamma + h) * x, rel=1e-12)


def test_scoping_tightens_the_spring_and_is_recorded(bowl, walked):
    landscape = bowl([[1.0]], [[0.0]])
    walker = EntropySGD(gamma=(0.1, 0.2), scoping=0.5, inner_steps=2)
    state = walked(walker, landscape, [[1.0], [1.0]], 3, active=torch.tensor([True, True]))
    np.testing.assert_allclose(walker.record(state)["gamma"], (0.1 * 1.5**3, 0.2 * 1.5**3), rtol=1e-15)
    # Each worker has its own clock.
    state = walker.step(landscape, state, active=torch.tensor([False, True]))
    np.testing.assert_allclose(walker.record(state)["gamma"], (0.1 * 1.5**3, 0.2 * 1.5**4), rtol=1e-15)
    # Changes of gamma change what scoping multiplies.
    state = walker.adjust(state, gamma=1.0, scoping=0.0)
    assert walker.record(state)["gamma"] == (1.0, 1.0)


def test_the_thermal_noise_has_the_size_of_the_paper(many, walked):
    # Between (x', mu) and (x', mu) lies a linear map, so that the covariance follows by recursion.
    h, gamma, inner_lr, averaging, noise, steps, copies = 1.0, 0.5, 0.3, 0.25, 0.2, 5, 20_000
    walker = EntropySGD(
        1.0,
        inner_steps=steps,
        inner_lr=inner_lr,
        gamma=gamma,
        scoping=0.0,
        noise=noise,
        averaging=averaging,
    )
    state = walked(walker, many(copies, h), torch.zeros(1, copies), 1)
    a = 1 - inner_lr * (h + gamma)
    matrix = np.array([[a, 0.0], [averaging * a, 1 - averaging]])
    kick = np.sqrt(inner_lr) * noise * np.array([1.0, averaging])
    covariance = np.zeros((2, 2))
    for _ in range(steps):
        covariance = matrix @ covariance @ matrix.T + np.outer(kick, kick)
    assert float(state.positions.var()) == pytest.approx(covariance[1, 1], rel=4 * (2 / copies) ** 0.5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_acts_in_both_loops_and_rests_between_inner_walks(bowl, walked, nesterov):
    h, gamma, lr, inner_lr, alpha, m, decay = 2.0, 0.5, 0.3, 0.1, 0.25, 0.6, 0.05
    walker = EntropySGD(
        lr,
        inner_steps=4,
        inner_lr=inner_lr,
        gamma=gamma,
        scoping=0.0,
        noise=0.0,
        averaging=alpha,
        momentum=m,
        nesterov=nesterov,
        weight_decay=decay,
    )
    state = walked(walker, bowl([[h]], [[0.0]]), [[1.5]], 5)
    x, outer = 1.5, None
    for _ in range(5):
        place, mean, inner = x, x, None
        for _ in range(4):
            g = (h + decay) * place
            inner = g if inner is None else m * inner + g
            step = g + m * inner if nesterov else inner
            place = place - inner_lr * (step - gamma * (x - place))
            mean = (1 - alpha) * mean + alpha * place
        g = x - mean + decay * x
        outer = g if outer is None else m * outer + g
        x = x - lr * (g + m * outer if nesterov else outer)
    assert float(state.positions) == pytest.approx(x, rel=1e-12)


def test_every_inner_step_has_its_own_batch(bowl, walked):
    x = np.arange(6.0)[:, None]
    landscape = bowl([[1.0]], x)
    walker = EntropySGD(1.0, 2, inner_steps=3, inner_lr=0.1, gamma=0.0, noise=0.0, averaging=1.0)
    state = walked(walker, landscape, [[0.0]], 0)
    stream, place, theta = landscape.stream(2, state.seed), state.streams[0], 0.0
    for _ in range(3):
        theta -= 0.1 * (theta - float(stream.batch(place)[0].mean()))
        place = stream.advance(place)
    after = walker.step(landscape, state)
    assert float(after.positions) == pytest.approx(theta, rel=1e-13)
    assert after.streams[0] == place


def test_what_is_kept_between_steps_is_one_velocity(classifier, walked):
    landscape = classifier()
    plain = walked(EntropySGD(inner_steps=2), landscape, landscape.initial()[None], 2)
    assert plain.memory == ({},)
    pushed = walked(EntropySGD(inner_steps=2, momentum=0.9), landscape, landscape.initial()[None], 2)
    assert [set(memory) for memory in pushed.memory] == [{"velocity"}]
