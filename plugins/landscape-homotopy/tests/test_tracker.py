from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.systems import PolynomialFamily
from landscape_homotopy import tracker
from landscape_homotopy.paths import CAREFUL
from landscape_homotopy.tracker import LOST, REGULAR, Settings, polish, solve_batched, track

QUADRATIC = PolynomialFamily(["x^2 - a"], ["x"], ["a"])


def monic(degree):
    names = [f"a{k}" for k in range(degree)]
    terms = " + ".join(f"{name}*x^{k}" for k, name in enumerate(names))
    return PolynomialFamily([f"x^{degree} + {terms}"], ["x"], names)


def test_a_square_root_is_continued_along_the_branch():
    # From sqrt(1) = 1 over the upper half plane to a = -4: the branch ends in 2i; over the lower in -2i.
    start = np.array([[1.0 + 0j], [1.0 + 0j]])
    corner = np.array([[3j], [-3j]])
    first = track(QUADRATIC, start, np.ones((2, 1), dtype=complex), corner, Settings())
    second = track(QUADRATIC, first.points, corner, np.full((2, 1), -4.0 + 0j), Settings())
    assert (second.outcome == REGULAR).all()
    np.testing.assert_allclose(second.points[:, 0], [2j, -2j], rtol=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_all_roots_of_random_polynomials_arrive_and_are_those_of_numpy(degree, seed):
    rng = np.random.default_rng(seed)
    family = monic(degree)
    # From x^n = c for a generic c.
    start_parameters = np.zeros(degree, dtype=complex)
    start_parameters[0] = np.exp(1j * rng.uniform(0, 6))
    roots = np.roots([1, *np.zeros(degree - 1), start_parameters[0]])
    target = rng.normal(size=degree) + 1j * rng.normal(size=degree)
    ends = track(
        family,
        roots[:, None],
        np.tile(start_parameters, (degree, 1)),
        np.tile(target, (degree, 1)),
        Settings(),
    )
    expected = np.roots([1, *target[::-1]])
    assert (ends.outcome == REGULAR).all()
    distances = np.abs(ends.points - expected[None, :])
    assert distances.min(axis=1).max() < 1e-10
    assert sorted(distances.argmin(axis=1)) == list(range(degree))


@pytest.mark.parametrize("engine", ["compiled", "arrays"])
def test_paths_are_followed_where_rounding_errors_do_not_contract(monkeypatch, engine):
    # (x - 1) (x - 2) ... (x - 9) - a written out: rounding moves its roots by some 1e-12, and so the corrections.
    if engine == "arrays":
        monkeypatch.setattr(tracker, "compiled_engine", lambda: None)
    x = sympy.symbols("x")
    product = sympy.expand(sympy.prod([x - k for k in range(1, 10)]))
    family = PolynomialFamily([f"{product} - a".replace("**", "^")], ["x"], ["a"])
    here, there = 100 + 100j, 50j
    roots = [
        np.array(
            [complex(root) for root in sympy.Poly(product - sympy.sympify(a), x).nroots(n=30, maxsteps=500)]
        )
        for a in (here, there)
    ]
    ends = track(family, roots[0][:, None], np.full((9, 1), here), np.full((9, 1), there), CAREFUL)
    assert (ends.outcome == REGULAR).all()
    distances = np.abs(ends.points - roots[1][None, :])
    assert sorted(distances.argmin(axis=1)) == list(range(9))
    assert distances.min(axis=1).max() < 1e-9


def test_a_path_that_goes_to_infinity_is_lost():
    family = PolynomialFamily(["a*x - 1"], ["x"], ["a"])
    ends = track(
        family, np.ones((1, 1), dtype=complex), np.ones((1, 1)) + 0j, np.zeros((1, 1)) + 0j, Settings()
    )
    assert ends.outcome.tolist() == [LOST]


def test_a_path_that_ends_in_a_double_root_is_lost():
    start = np.array([[1.0 + 0j], [-1.0]])
    ends = track(QUADRATIC, start, np.ones((2, 1)) + 0j, np.zeros((2, 1)) + 0j, Settings())
    assert ends.outcome.tolist() == [LOST, LOST]


def test_a_path_over_a_singularity_is_lost_and_does_not_jump():
    # Real a from 1 to -1 runs through the branch point at 0.
    start = np.array([[1.0 + 0j]])
    ends = track(QUADRATIC, start, np.ones((1, 1)) + 0j, -np.ones((1, 1)) + 0j, Settings())
    assert ends.outcome.tolist() == [LOST]


def test_lost_paths_do_not_disturb_the_others():
    start = np.array([[1.0 + 0j], [1.0], [-1.0]])
    p1 = np.array([[4.0 + 0j], [0.0], [9.0]])
    ends = track(QUADRATIC, start, np.ones((3, 1)) + 0j, p1, Settings())
    assert ends.outcome.tolist() == [REGULAR, LOST, REGULAR]
    np.testing.assert_allclose(ends.points[[0, 2], 0], [2, -3], rtol=1e-15)


def test_paths_are_the_same_alone_and_together():
    rng = np.random.default_rng(0)
    family = monic(4)
    p0 = np.array([-1, 0, 0, 0]) + 0j
    start = np.array([1, 1j, -1, -1j])[:, None]
    p1 = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    together = track(family, start, np.tile(p0, (4, 1)), p1, Settings())
    for k in range(4):
        alone = track(family, start[k : k + 1], p0[None], p1[k : k + 1], Settings())
        np.testing.assert_allclose(alone.points[0], together.points[k], rtol=1e-13)


@pytest.mark.parametrize("order", [3, 5])
def test_the_predictor_is_exact_for_polynomials_of_its_order(order):
    rng = np.random.default_rng(order)
    path = np.polynomial.Polynomial(rng.normal(size=order + 1))
    count = (order + 1) // 2
    nodes = np.tile((0.3, 0.2, 0.05)[:count], (2, 1))
    history = np.concatenate([path(nodes), path.deriv()(nodes)], axis=1)[:, :, None] + 0j
    at = np.array([0.4, 0.7])
    np.testing.assert_allclose(tracker._hermite(at, nodes, history)[:, 0], path(at), rtol=1e-12)


def test_a_polygon_ends_where_its_legs_end_one_after_another():
    rng = np.random.default_rng(3)
    family = PolynomialFamily(["x^4 + a*x^3 + b*x^2 + c*x + d"], ["x"], list("abcd"))
    corners = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    roots = np.roots([1, *corners[0]])[:, None]
    legs = [np.tile(corner, (4, 1)) for corner in corners]
    at_once = track(family, roots, legs[0], legs[3], Settings(), via=legs[1:3])
    z = roots
    for here, there in pairwise(legs):
        z = track(family, z, here, there, Settings()).points
    assert (at_once.outcome == REGULAR).all()
    np.testing.assert_allclose(at_once.points, z, rtol=1e-12)


def test_polishing_reaches_rounding_level_and_says_how_far_it_moved():
    z, residuals, _ = polish(QUADRATIC, np.array([[1.414 + 0j]]), np.array([[2.0 + 0j]]))
    assert z[0, 0] == pytest.approx(np.sqrt(2), rel=1e-15)
    assert residuals[0] < 1e-12


def test_one_singular_matrix_in_a_batch_is_marked_and_the_others_are_solved():
    matrices = np.array([np.eye(2), np.zeros((2, 2)), 2 * np.eye(2)]) + 0j
    solved = solve_batched(matrices, np.ones((3, 2, 1)) + 0j)
    assert np.isnan(solved[1]).all()
    np.testing.assert_allclose(solved[[0, 2], :, 0], [[1, 1], [0.5, 0.5]])
