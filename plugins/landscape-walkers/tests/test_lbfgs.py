"""L-BFGS against torch's, against finite termination on quadratics, and its line search against its conditions."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.testing import rosenbrock, tanh_regression
from landscape_walkers._wolfe import Trial, strong_wolfe
from landscape_walkers.lbfgs import LBFGS


@pytest.mark.parametrize(("history", "lr"), [(10, 1.0), (3, 0.5), (1, 0.3)])
def test_without_line_search_its_path_is_that_of_torchs(classifier, walked, history, lr):
    landscape = classifier(torch.float64)
    module = copy.deepcopy(landscape.module).double()
    optimiser = torch.optim.LBFGS(module.parameters(), lr=lr, max_iter=1, history_size=history)
    (x, y), *_ = landscape.batches()

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        return loss

    walker = LBFGS(lr, history=history, line_search="none")
    state = walked(walker, landscape, landscape.initial()[None], 0)
    for _ in range(15):
        optimiser.step(closure)
        state = walker.step(landscape, state)
        torch.testing.assert_close(
            state.positions[0], landscape.layout.vector(module).detach(), rtol=1e-7, atol=1e-9
        )


def test_with_exact_line_search_it_solves_a_quadratic_in_as_many_steps_as_dimensions(bowl, walked):
    # Then it is the method of conjugate gradients (Nocedal, Wright 2006, section 7.2).
    size = 5
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    hessian = rotation @ np.diag([0.1, 0.5, 1.0, 3.0, 20.0]) @ rotation.T
    hessian = (hessian + hessian.T) / 2
    landscape = bowl(hessian, np.zeros((2, size)))
    walker = LBFGS(curvature=1e-3, decrease=1e-4)
    before = walked(walker, landscape, np.ones((1, size)), size - 1)
    after = walker.step(landscape, before)
    assert float(landscape.gradient(before.positions[0]).norm()) > 1e-3
    assert float(landscape.gradient(after.positions[0]).norm()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_never_rises(classifier, walked, dtype):
    landscape = classifier(dtype)
    walker = LBFGS()
    state = walked(walker, landscape, landscape.initial()[None], 0)
    losses = [float(landscape.value(state.positions[0]))]
    for _ in range(60):
        state = walker.step(landscape, state)
        losses.append(float(landscape.value(state.positions[0])))
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 1e-2 * losses[0]


def test_it_goes_round_rosenbrocks_valley(walked):
    known = rosenbrock()
    state = walked(LBFGS(), known.landscape, known.start[None], 45)
    torch.testing.assert_close(state.positions[0], known.minimum, rtol=0, atol=1e-9)


def test_at_a_minimum_it_rests(walked):
    known = tanh_regression()
    state = walked(LBFGS(), known.landscape, known.minimum[None], 5)
    torch.testing.assert_close(state.positions[0], known.minimum, rtol=0, atol=1e-12)
    flat = walked(LBFGS(), rosenbrock().landscape, [[1.0, 1.0]], 3)
    assert flat.positions.tolist() == [[1.0, 1.0]]
    assert flat.memory[0]["evaluations"] == 1  # and computes nothing any more


def test_its_memory_has_the_same_size_from_the_start_on(classifier, walked):
    landscape = classifier()
    for steps in (0, 2, 7):
        state = walked(LBFGS(history=4), landscape, landscape.initial()[None], steps)
        assert state.memory[0]["steps"].shape == state.memory[0]["changes"].shape == (4, landscape.size)
        assert state.memory[0]["pairs"] == min(steps, 4)


def test_it_counts_the_gradients_it_computes(classifier):
    landscape = classifier()
    calls = []
    inner = landscape.value_and_gradient
    landscape.value_and_gradient = lambda theta, batch=None: (
        calls.append(1 if theta.ndim == 1 else len(theta)) or inner(theta, batch)
    )
    walker = LBFGS((1.0, 30.0))
    begin = landscape.initial().expand(2, -1)
    state = walker.start(landscape, begin, torch.Generator())
    for _ in range(6):
        state = walker.step(landscape, state)
    assert sum(walker.record(state)["evaluations"]) == sum(calls)


def test_it_turns_back_from_where_the_loss_is_not_finite(many, walked):
    landscape = many(1, 1.0)
    landscape.penalty = lambda theta: -theta.log().sum()  # minimum of x^2/2 - log x at 1
    state = walked(LBFGS(lr=50.0), landscape, [[0.01]], 30)
    assert float(state.positions) == pytest.approx(1.0, abs=1e-7)


# -- the line search ----------------------------------------------------------------------------------------


@given(
    coefficients=st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    first=st.floats(1e-3, 1e3),
    curvature=st.floats(0.01, 0.9),
)
@settings(max_examples=200, deadline=None)
def test_a_step_of_the_line_search_satisfies_both_conditions(coefficients, first, curvature):
    # A polynomial that falls at 0 and rises far away, with hills and hollows between.
    def f(t):
        return t**4 / 40 - t + sum(c * math.sin(i * t) / i**2 for i, c in enumerate(coefficients, 1))

    def slope(t):
        return t**3 / 10 - 1 + sum(c * math.cos(i * t) / i for i, c in enumerate(coefficients, 1))

    if slope(0) >= -1e-3:
        return
    start = Trial(0.0, f(0), slope(0), torch.zeros(0))
    found = strong_wolfe(
        lambda t: Trial(t, f(t), slope(t), torch.zeros(0)),
        start,
        first,
        decrease=1e-4,
        curvature=curvature,
        evaluations=60,
    )
    assert found is not None
    assert found.step > 0
    assert found.value <= f(0) + 1e-4 * found.step * slope(0)
    assert abs(found.slope) <= curvature * abs(slope(0))


@given(scale=st.floats(1e-3, 1e3), minimum=st.floats(1e-2, 1e2), first=st.floats(1e-2, 1e2))
@settings(max_examples=50, deadline=None)
def test_on_a_parabola_the_second_trial_is_the_minimum(scale, minimum, first):
    def evaluate(t):
        return Trial(t, scale * (t - minimum) ** 2, 2 * scale * (t - minimum), torch.zeros(0))

    if not 0.1 < minimum / first < 10:
        return  # beyond the longest stride
    found = strong_wolfe(
        evaluate, evaluate(0.0), first, decrease=1e-6, curvature=1e-3, evaluations=3 if minimum > first else 2
    )
    assert found.step == pytest.approx(minimum, rel=0.1 if minimum > first else 1e-6)


def test_a_function_that_only_seems_to_fall_has_no_step():
    # Its slope says down and its values say up: rounding near a minimum looks like this.
    start = Trial(0.0, 0.0, -1e-20, torch.zeros(0))
    found = strong_wolfe(
        lambda t: Trial(t, 1e-16 * t, -1e-20, torch.zeros(0)),
        start,
        1.0,
        decrease=1e-4,
        curvature=0.9,
        evaluations=25,
    )
    assert found is None
