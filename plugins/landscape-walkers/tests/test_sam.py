"""SAM against its two-cycle, its formula, and its base walker."""

import numpy as np
import pytest
import torch

from landscape_walkers.adam import Adam
from landscape_walkers.sam import SAM
from landscape_walkers.sgd import GD, SGD


@pytest.mark.parametrize(("h", "lr", "rho"), [(1.0, 0.1, 0.05), (2.0, 0.3, 0.5), (0.5, 3.0, 0.1)])
def test_in_one_dimension_it_ends_in_the_two_cycle_of_theory(bowl, walked, h, lr, rho):
    landscape = bowl([[h]], [[0.0]])
    walker = SAM(GD(lr), rho)
    state = walked(walker, landscape, [[1.0]], 300)
    size = lr * h * rho / (2 - lr * h)
    for _ in range(3):
        here = float(state.positions)
        assert abs(here) == pytest.approx(size, rel=1e-9)
        state = walker.step(landscape, state)
        assert float(state.positions) * here < 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_paths_on_a_quadratic_follow_the_formula(bowl, walked, adaptive):
    hessian, lr, rho = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.1, 0.3
    landscape = bowl(hessian, np.zeros((3, 2)))
    theta = np.array([1.0, -2.0])
    state = walked(SAM(GD(lr), rho, adaptive), landscape, theta[None], 20)
    for _ in range(20):
        g = hessian @ theta
        e = theta**2 * g / np.linalg.norm(theta * g) if adaptive else g / np.linalg.norm(g)
        theta = theta - lr * hessian @ (theta + rho * e)
    np.testing.assert_allclose(state.positions[0], theta, rtol=1e-10)


def test_both_gradients_are_of_one_batch_and_each_step_has_a_new_one(bowl, walked):
    x = np.random.default_rng(0).normal(size=(12, 2))
    hessian, lr, rho = np.diag([2.0, 1.0]), 0.1, 0.3
    landscape = bowl(hessian, x)
    walker = SAM(SGD(lr, 4), rho)
    theta = np.array([1.0, -2.0])
    state = walked(walker, landscape, theta[None], 0)
    stream = landscape.stream(4, state.seed)
    for _ in range(7):
        mean = stream.batch(state.streams[0])[0].numpy().mean(0)
        g = hessian @ (theta - mean)
        theta = theta - lr * hessian @ (theta + rho * g / np.linalg.norm(g) - mean)
        state = walker.step(landscape, state)
        np.testing.assert_allclose(state.positions[0], theta, rtol=1e-9)


@pytest.mark.parametrize(
    "base", [SGD(0.1, 16, momentum=0.9, nesterov=True, weight_decay=0.1), Adam(0.01, 16)], ids=str
)
def test_without_a_radius_it_is_its_base_walker(classifier, walked, base):
    landscape = classifier()
    begin = landscape.initial().expand(2, -1)
    one, other = walked(SAM(base, 0.0), landscape, begin, 6), walked(base, landscape, begin, 6)
    assert torch.equal(one.positions, other.positions)


def test_weight_decay_acts_on_the_weights_and_not_on_the_point_nearby(bowl, walked):
    # A plane of slope 3: the gradient is the same everywhere.
    landscape = bowl([[0.0]], [[0.0]])
    landscape.penalty = lambda theta: 3 * theta.sum()
    state = walked(SAM(GD(0.1, weight_decay=0.5), 10.0), landscape, [[2.0]], 1)
    assert float(state.positions) == pytest.approx(2 - 0.1 * (3 + 0.5 * 2), rel=1e-14)


def test_at_a_critical_point_it_stays(bowl, walked):
    landscape = bowl(np.eye(2), np.zeros((3, 2)))
    state = walked(SAM(GD(0.1), 0.5), landscape, torch.zeros(1, 2), 5)
    assert torch.equal(state.positions, torch.zeros(1, 2, dtype=torch.float64))


def test_adaptive_steps_agree_when_a_homogeneous_network_is_rescaled(walked):
    # f = w2 w1 x does not change when w1 is multiplied by c and w2 by 1/c, and no more does what ASAM adds to it.
    import landscape as ls

    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    module = torch.nn.Sequential(
        torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    ).double()
    landscape = ls.Landscape(module, "mse", (x, 2 * x))
    seen = []
    gradient = landscape.gradient
    landscape.gradient = lambda theta, batch=None: seen.append(theta.clone()) or gradient(theta, batch)
    for c in (1.0, 7.0):
        walked(SAM(GD(0.1), 0.1, adaptive=True), landscape, [[0.5 * c, 0.8 / c]], 1)
    here, nearby, scaled, scaled_nearby = (float(landscape.value(theta[0])) for theta in seen)
    assert here == pytest.approx(scaled, rel=1e-14)
    assert nearby == pytest.approx(scaled_nearby, rel=1e-12)
    assert nearby > here
