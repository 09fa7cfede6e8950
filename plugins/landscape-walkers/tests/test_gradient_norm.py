"""Descent of the gradient's norm against matrix powers, dense derivatives, and saddles it must reach."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, NotTwiceDifferentiableError
from landscape.store import decode, encode
from landscape.testing import check_walker, tanh_regression
from landscape_walkers.adam import Adam
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.gradient_norm import GradientNormDescent
from landscape_walkers.lbfgs import LBFGS
from landscape_walkers.sgd import GD, SGD
from landscape_walkers.wandering import RandomWalk

SADDLE = np.array([[1.0, 0.4, 0.0], [0.4, -0.7, 0.2], [0.0, 0.2, 0.5]])


def test_on_a_quadratic_it_contracts_by_the_square_of_the_hessian(bowl, walked):
    lr, begin = 0.3, np.array([1.0, -2.0, 0.5])
    state = walked(GradientNormDescent(GD(lr)), bowl(SADDLE, np.zeros((4, 3))), begin[None], 15)
    expected = np.linalg.matrix_power(np.eye(3) - lr * SADDLE @ SADDLE, 15) @ begin
    np.testing.assert_allclose(state.positions[0], expected, rtol=1e-11)


def test_it_reaches_a_saddle_from_which_gradient_descent_runs_away(bowl, walked):
    centre = np.array([1.0, 2.0, 3.0])
    landscape = bowl(SADDLE, np.tile(centre, (4, 1)))
    begin = (centre + np.array([0.3, 0.2, -0.1]))[None]
    reached = walked(GradientNormDescent(GD(0.9)), landscape, begin, 200).positions[0]
    np.testing.assert_allclose(reached, centre, atol=1e-9)
    left = walked(GD(0.9), landscape, begin, 200).positions[0]
    assert np.linalg.norm(left.numpy() - centre) > 1e3


@pytest.mark.parametrize("objective", ["squared", "norm"])
def test_on_a_network_its_direction_is_that_of_dense_derivatives(walked, objective):
    known = tanh_regression()
    lr, theta = 0.01, known.start
    state = walked(GradientNormDescent(GD(lr), objective=objective), known.landscape, theta[None], 1)
    gradient = known.landscape.gradient(theta)
    direction = known.hessian(theta) @ gradient / (1 if objective == "squared" else gradient.norm())
    torch.testing.assert_close((theta - state.positions[0]) / lr, direction, rtol=1e-9, atol=1e-11)


def test_the_norm_falls_at_the_rate_of_its_own_gradient(bowl, walked):
    # d|g|/dt = -|Hg|^2/|g|^2 along the flow: on a bowl with H = h, |g| falls by eta h^2 in every step.
    h, lr = 2.0, 0.01
    landscape = bowl(h * np.eye(2), np.zeros((3, 2)))
    state = walked(GradientNormDescent(GD(lr), objective="norm"), landscape, [[3.0, 4.0]], 10)
    norm = float(landscape.gradient(state.positions[0]).norm())
    assert norm == pytest.approx(h * 5 - 10 * lr * h**2, rel=1e-12)


@pytest.mark.parametrize("objective", ["squared", "norm"])
def test_where_the_gradient_is_zero_it_stays(bowl, walked, objective):
    walker = GradientNormDescent(GD(0.5), objective=objective)
    state = walked(walker, bowl(SADDLE, np.zeros((2, 3))), torch.zeros(1, 3), 3)
    assert torch.equal(state.positions, torch.zeros(1, 3, dtype=torch.float64))


def test_gradient_and_hessian_are_of_the_workers_own_batch(bowl, walked):
    x = np.random.default_rng(0).normal(size=(12, 3))
    landscape = bowl(SADDLE, x)
    lr, begin = 0.1, np.zeros((2, 3))
    walker = GradientNormDescent(SGD(lr, 4), workers=2)
    state = walked(walker, landscape, begin, 0)
    stream = landscape.stream(4, state.seed)
    means = np.stack([stream.batch(place)[0].numpy().mean(0) for place in state.streams])
    state = walker.step(landscape, state)
    np.testing.assert_allclose(state.positions, lr * means @ SADDLE @ SADDLE, rtol=1e-12)


def test_with_adam_it_finds_a_critical_point_of_a_network(walked):
    known = tanh_regression()
    walker = GradientNormDescent(Adam(0.01))
    before = float(known.landscape.gradient(known.start).norm())
    state = walked(walker, known.landscape, known.start[None], 400)
    assert float(known.landscape.gradient(state.positions[0]).norm()) < 0.05 * before


@pytest.mark.parametrize("objective", ["squared", "norm"])
def test_lbfgs_makes_the_steps_of_lbfgs_on_a_landscape_that_is_the_objective(bowl, walked, objective):
    # On a quadratic 1/2 |g|^2 is the quadratic with the Hessian H^2, on which L-BFGS walks by itself.
    begin = np.array([[1.0, -2.0, 0.5], [0.1, 0.2, -0.3]])
    lbfgs = LBFGS(history=5)
    walker, landscape = GradientNormDescent(lbfgs, objective=objective), bowl(SADDLE, np.zeros((2, 3)))
    state = walked(walker, landscape, begin, 4)
    if objective == "squared":
        other = walked(lbfgs, bowl(SADDLE @ SADDLE, np.zeros((2, 3))), begin, 4)
        torch.testing.assert_close(state.positions, other.positions, rtol=1e-9, atol=1e-12)
        assert walker.record(state) == lbfgs.record(other)
    norms = [
        landscape.gradient(rows.positions).norm(dim=1)
        for rows in (walked(walker, landscape, begin, 0), state)
    ]
    assert (norms[1] < norms[0]).all()


def test_with_lbfgs_it_arrives_at_a_saddle_exactly_and_ends_there(bowl, walked):
    centre = np.array([1.0, 2.0, 3.0])
    landscape = bowl(SADDLE, np.tile(centre, (4, 1)))
    state = walked(GradientNormDescent(LBFGS(curvature=0.01)), landscape, centre[None] + 0.3, 12)
    np.testing.assert_allclose(state.positions[0], centre, atol=1e-9)


def test_with_lbfgs_it_comes_further_on_a_network_than_with_adam(walked):
    known = tanh_regression()
    ends = [
        walked(GradientNormDescent(base), known.landscape, known.start[None], 100).positions[0]
        for base in (LBFGS(history=20), Adam(0.01))
    ]
    lbfgs, adam = (float(known.landscape.gradient(end).norm()) for end in ends)
    assert lbfgs < 0.1 * adam


def test_a_walk_by_lbfgs_goes_on_bit_for_bit_and_can_be_moved(walked):
    known = tanh_regression()
    walker = GradientNormDescent(LBFGS(), workers=2)
    start = torch.stack([known.start, known.start + 0.1])
    middle = walked(walker, known.landscape, start, 3)
    restored = decode(*encode(middle), walked(walker, known.landscape, start, 0))
    one, two = (walker.step(known.landscape, state).positions for state in (middle, restored))
    assert torch.equal(one, two)
    moved = walker.step(known.landscape, walker.relocate(middle, start))
    assert torch.isfinite(moved.positions).all()


def test_lbfgs_below_it_keeps_the_rules_of_a_walker():
    check_walker(GradientNormDescent(LBFGS(lr=0.5), workers=2))
    assert GradientNormDescent(LBFGS(lr=(0.5, 1.0))).workers == 2


@pytest.mark.parametrize("base", [EntropySGD, RandomWalk])
def test_only_walkers_that_turn_a_gradient_into_a_step_are_taken(base):
    with pytest.raises(ConfigurationError, match="give SGD, GD, Adam, RMSprop or LBFGS"):
        GradientNormDescent(base())


def test_a_module_without_a_second_derivative_is_refused(walked):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * math.pi

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * math.pi

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            return Once.apply(self.theta * x) ** 2

    landscape = ls.Landscape(Module(), lambda out, y: out.mean(), (torch.ones(4, 2), torch.ones(4)))
    with pytest.raises(NotTwiceDifferentiableError):
        walked(GradientNormDescent(GD(0.1)), landscape, torch.ones(1, 2), 1)
