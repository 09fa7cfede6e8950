"""Simple solutions that are nearly multiple, and coordinates that are nearly zero, against exact roots."""

import numpy as np
import pytest
from attrs import evolve

from landscape.errors import SolverError
from landscape.randomness import torch_generator
from landscape.systems import PolynomialFamily, PolynomialSystem, Solutions
from landscape_homotopy import paths
from landscape_homotopy.certification import certified
from landscape_homotopy.parameter_homotopy import ParameterHomotopy
from landscape_homotopy.separation import Precise
from landscape_homotopy.total_degree import TotalDegree


def solve(equations, unknowns, seed=0, **fields):
    return TotalDegree(**fields).solve(PolynomialSystem(equations, list(unknowns)), torch_generator(seed))


def assert_points(found, expected):
    """Every expected point is found, once, to the last digits of its own coordinates."""
    expected = np.array(expected, dtype=complex)
    assert found.points.shape == expected.shape
    left = list(found.points)
    for point in expected:
        errors = [np.abs(other - point).max() for other in left]
        nearest = left.pop(int(np.argmin(errors)))
        assert np.abs(nearest - point).max() <= 4e-16 * max(1.0, np.abs(point).max())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("equations", "unknowns", "expected"),
    [
        (["(x - 1)*(x - 1.0001)*(x - 1.0002)"], "x", [[1], [1.0001], [1.0002]]),
        (["(x - 1)*(x - 1.00001)*(x - 1.00002)"], "x", [[1], [1.00001], [1.00002]]),
        (["(x - 1)*(x - 1.0000000001)"], "x", [[1], [1.0000000001]]),
        (["(x - 1)^2 + 1e-14"], "x", [[1 + 1e-7j], [1 - 1e-7j]]),
        # The ends are means of some of them, anywhere in between.
        (
            ["(x - 1)*(x - 1.01)*(x - 1.02)*(x - 1.03)*(x - 1.04)"],
            "x",
            [[1], [1.01], [1.02], [1.03], [1.04]],
        ),
        (
            ["(x - 1)^2 - 1e-24", "(y - x)*(y + 1)"],
            "xy",
            [[1 - 1e-12, 1 - 1e-12], [1 + 1e-12, 1 + 1e-12], [1 - 1e-12, -1], [1 + 1e-12, -1]],
        ),
    ],
)
def test_simple_solutions_that_are_nearly_multiple_are_told_apart(equations, unknowns, expected, seed):
    found = solve(equations, unknowns, seed, certified=True)
    assert_points(found, expected)
    assert (found.multiplicities == 1).all()
    # As many as the product of the degrees, each in a box of its own.
    assert found.completeness == "proved"


@pytest.mark.parametrize(
    ("equations", "unknowns", "expected"),
    [
        (["(x - 1/3)^2"], "x", {(1 / 3,): 2}),
        (["(x - 0.1)^3*(x + 0.7)"], "x", {(0.1,): 3, (-0.7,): 1}),
        (["x^2*(x - 1)"], "x", {(0,): 2, (1,): 1}),
        # A double one with a simple one nearby.
        (["(x - 1)^2*(x - 1.000001)"], "x", {(1,): 2, (1.000001,): 1}),
        (["x^2*(x - 1e-9)"], "x", {(0,): 2, (1e-9,): 1}),
        (["(x - 0.1)^2", "(y - x)^2"], "xy", {(0.1, 0.1): 4}),
    ],
)
def test_multiple_solutions_stay_multiple(equations, unknowns, expected):
    found = solve(equations, unknowns)
    assert found.completeness == "heuristic"
    assert len(found) == len(expected)
    for point, multiplicity in expected.items():
        (which,) = np.flatnonzero(np.abs(found.points - np.array(point)).max(axis=1) < 3e-10)
        assert found.multiplicities[which] == multiplicity


def test_double_solutions_of_a_member_are_not_split_by_the_rounding_of_its_coefficients():
    # 0.1^2 rounded would make two solutions, 2e-9 apart.
    family = PolynomialFamily(["x^2 - 2*a*x + a^2"], ["x"], ["a"])
    (found,) = TotalDegree().solve_family(family, np.array([[0.1]]), torch_generator(0))
    assert found.multiplicities.tolist() == [2]
    solver = ParameterHomotopy(parameters=[0.0, 1.0], solutions=[[1j], [-1j]])
    family = PolynomialFamily(["x^2 - 2*a*x + a^2 + b"], ["x"], ["a", "b"])
    double, simple = solver.solve_family(family, np.array([[0.1, 0.0], [0.1, 1e-16]]), torch_generator(0))
    assert double.multiplicities.tolist() == [2]
    assert simple.multiplicities.tolist() == [1, 1]
    assert np.abs(np.sort_complex(simple.points[:, 0]) - (0.1 + np.array([-1e-8j, 1e-8j]))).max() < 1e-16


def test_solutions_that_double_precision_has_no_numbers_for_are_said_to_be_different():
    found = solve(["(x - 1)*(x - 1 - 1e-20)"], "x")
    assert found.completeness == "unknown"
    assert "2 paths ended in solutions that are different, but equal in double precision" in found.evidence


@pytest.mark.parametrize(
    ("equations", "unknowns", "expected"),
    [
        (["x - 1", "1e13*y - 1"], "xy", [[1, 1e-13]]),
        (["x - 1", "y*(1e13*y - 1)"], "xy", [[1, 1e-13], [1, 0]]),
        (["x*(1e13*x - 1)*(x - 1)"], "x", [[0], [1e-13], [1]]),
        (["1e13*x^2 - 1e-13", "y - x"], "xy", [[1e-13, 1e-13], [-1e-13, -1e-13]]),
        # No equation vanishes identically for y = 0.
        (["x^2 - 2", "x^2 + y - 2"], "xy", [[2**0.5, 0], [-(2**0.5), 0]]),
        (["x^2 - 2", "y*(x*y - 1)"], "xy", [[s * 2**0.5, y] for s in (1, -1) for y in (0, s * 0.5**0.5)]),
    ],
)
def test_zero_coordinates_are_those_of_the_exact_solutions(equations, unknowns, expected):
    found = solve(equations, unknowns)
    assert_points(found, expected)
    expected = np.array(expected, dtype=complex)
    assert sorted((found.points == 0).sum(axis=1)) == sorted((expected == 0).sum(axis=1))
    assert len(found.torus()) == int((expected != 0).all(axis=1).sum())
    for point in found.points:
        nearest = expected[np.abs(expected - point).max(axis=1).argmin()]
        # Small coordinates are known to their own digits, not only to those of the largest.
        assert (np.abs(point - nearest) <= 1e-14 * np.abs(nearest)).all()


def test_multiple_solutions_have_zeros_in_units_of_the_equations():
    found = solve(["(x - 1)^2", "y*(1e13*y - 1)"], "xy")
    assert found.multiplicities.tolist() == [2, 2]
    assert sorted(np.abs(found.points[:, 1])) == pytest.approx([0, 1e-13], rel=1e-6, abs=0)


def test_a_certificate_of_a_multiple_solution_makes_the_count_unknown():
    family = PolynomialFamily(["x^2 - 1"], ["x"], [])
    found = Solutions(np.array([[1.0 + 0j]]), np.zeros(1), np.array([2]), completeness="heuristic")
    told = paths.proved(family, np.zeros(0), found)
    assert np.isfinite(told.certificates).all()
    assert told.completeness == "unknown"
    assert "Proved to be simple" in told.evidence
    alone = evolve(found, multiplicities=np.array([1]))
    assert paths.proved(family, np.zeros(0), alone).evidence == certified(family, np.zeros(0), alone).evidence


def test_newtons_method_near_a_multiple_solution_is_not_taken_for_arrived():
    precise = Precise(lambda: PolynomialSystem(["(x - 1/3)^2*(x - 2)"], ["x"]), np.ones(1))
    near = np.array([0.34 + 0.01j])
    limit, length = precise.limit(near, near, 0.1)
    # Halved 80 times.
    assert 1e-28 < length < 1e-24
    assert abs(complex(limit[0]) - 1 / 3) < 1e-16
    limit, length = precise.limit(np.array([2.01 + 0j]), np.array([2.0 + 0j]), 0.1)
    assert length == 0
    assert complex(limit[0]) == 2
    assert precise.limit(np.array([2.01 + 0j]), near, 0.1)[0] is None


@pytest.mark.parametrize(
    ("equations", "unknowns"),
    [
        # One equation twice, or a multiple of it.
        (["x^2 + y^2 - 1", "x^2 + y^2 - 1"], "xy"),
        (["x^2 + y^2 - 1", "0.1*x^2 + 0.1*y^2 - 0.1"], "xy"),
        (["x*y - 1", "x*y - 1"], "xy"),
        (["x + y - 1", "2*x + 2*y - 2"], "xy"),
        (["(x + y)^2", "(x + y)^2"], "xy"),
        (["x^3 + y^3 - 1", "x^3 + y^3 - 1"], "xy"),
        # Sums of others.
        (["x + y + z - 1", "x - y", "2*x + z - 1"], "xyz"),
        (["x^2 + y^2 + z^2 - 1", "x*y - z", "x^2 + y^2 + z^2 - 1 + x*y - z"], "xyz"),
        # A common factor.
        (["x*(x + y - 1)", "y*(x + y - 1)"], "xy"),
        ([f"(x^2 + y^2 + z^2 - 1)*({name} - 2)" for name in "xyz"], "xyz"),
    ],
)
def test_equations_that_depend_on_each_other_are_refused(equations, unknowns):
    for seed in range(3):
        with pytest.raises(SolverError, match="infinitely many solutions"):
            solve(equations, unknowns, seed)


@pytest.mark.parametrize("seed", range(6))
def test_the_origin_among_large_solutions_is_the_origin(seed):
    """Critical points of (x a b - y)^2 / 2 + (l a^2 + m b^2) / 2: the origin, and four with b = +- a sqrt(l / m)."""
    x, y, low, high = (float(n) for n in np.abs(np.random.default_rng(seed).normal(size=4)))
    slope = f"({x!r}*a*b - {y!r})*{x!r}"
    found = solve([f"{slope}*b + {low!r}*a", f"{slope}*a + {high!r}*b"], "ab", seed)
    assert len(found) == 5
    at_zero = ~found.points.any(axis=1)
    assert at_zero.sum() == 1
    ratios = (found.points[~at_zero, 1] / found.points[~at_zero, 0]) ** 2
    np.testing.assert_allclose(ratios, low / high, rtol=1e-12)
