"""What solvers refuse before any work, and what it says."""

import numpy as np
import pytest
import sympy
import torch

import landscape as ls
from landscape.errors import ConfigurationError, PolynomialError, SolverError
from landscape.systems import PolynomialFamily, PolynomialSystem
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.parameter_homotopy import ParameterHomotopy
from landscape_homotopy.total_degree import TotalDegree

FAMILY = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
HOMOTOPY = ParameterHomotopy(parameters=[1.0], solutions=[[1.0], [-1.0]])


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("solver", [TotalDegree(), HOMOTOPY, Monodromy()])
@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("x^2 - 1", "got str; write PolynomialSystem"),
        (["x^2 - 1"], "got list; write PolynomialSystem"),
        (FAMILY, "got the family PolynomialFamily: give its member"),
    ],
)
def test_what_is_no_system_is_refused(solver, given, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        solver.solve(given, generator())


@pytest.mark.parametrize("solver", [TotalDegree(), HOMOTOPY, Monodromy()])
@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([["a"]], "must be numbers"),
        ([[1.0], [1.0, 2.0]], "must be numbers"),
        (None, "must be numbers"),
        ([1.0, 2.0], r"shape \(samples, 1\), got \(2,\)"),
        (np.ones((3, 2)), r"shape \(samples, 1\), got \(3, 2\)"),
        ([[np.nan]], "finite"),
        ([[np.inf]], "finite"),
    ],
)
def test_parameters_that_are_none_are_refused_at_once(solver, given, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        solver.solve_family(FAMILY, given, generator())


@pytest.mark.parametrize("solver", [TotalDegree(), HOMOTOPY, Monodromy()])
def test_what_is_no_family_is_refused(solver):
    with pytest.raises(PolynomialError, match="solve_family takes a family"):
        solver.solve_family(PolynomialSystem(["x"], ["x"]), [[1.0]], generator())


@pytest.mark.parametrize("solver", [TotalDegree(), HOMOTOPY, Monodromy()])
def test_what_is_no_generator_is_refused(solver):
    with pytest.raises(ConfigurationError, match="give a generator of torch"):
        list(solver.solve_family(FAMILY, [[1.0]], None))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"solutions": [1.0, -1.0]}, r"write \[1.0\] for one coordinate"),
        ({"solutions": "x = 1"}, "start solutions are points"),
        ({"solutions": None}, "start solutions are points"),
        ({"solutions": [["one"]]}, "numbers are needed"),
        ({"parameters": ["a"]}, "numbers are needed"),
        ({"parameters": None}, "numbers are needed"),
        ({"parameters": 1.0}, r"write \[1.0\]"),
        ({"solutions": [[[[1.0]]]]}, "as such or as pairs"),
    ],
)
def test_starts_that_are_no_numbers_are_refused(fields, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        ParameterHomotopy(**{"parameters": [1.0], "solutions": [[1.0]]} | fields)


def test_what_a_solver_found_may_be_given_as_it_is():
    found = TotalDegree().solve(FAMILY.system(np.array([1.0])), generator())
    (solutions,) = ParameterHomotopy(parameters=[1.0], solutions=found).solve_family(
        FAMILY, [[9.0]], generator()
    )
    assert sorted(solutions.points[:, 0].real.round(10)) == [-3, 3]


@pytest.mark.parametrize("solver", [TotalDegree(), Monodromy()])
def test_a_system_without_unknowns_has_one_solution(solver):
    solutions = solver.solve(PolynomialSystem([], []), generator())
    assert solutions.points.shape == (1, 0)
    assert solutions.completeness == "proved"


x, y = sympy.symbols("x y")


@pytest.mark.parametrize("solver", ["TotalDegree", "Monodromy"])
@pytest.mark.parametrize(
    ("equations", "count"),
    [
        ([x**2 + y**2 - 5, sympy.Eq(x * y, 2)], 4),
        (["x^2 + y^2 - 5", x * y - 2], 4),
        ([sympy.Poly(x**2 - y, x, y), y**2 - sympy.sqrt(2)], 4),
        (["x*y - 1", "x*y - 2"], 0),
        (["1", "x + y"], 0),
    ],
)
def test_text_and_sympy_expressions_are_solved(solver, equations, count):
    found = getattr(ls.solvers, solver)()
    assert len(found.solve(PolynomialSystem(equations, ["x", "y"]), generator())) == count


@pytest.mark.parametrize(
    ("equations", "complaint"),
    [
        (["x^2 - z", "y"], "unknown variable 'z'"),
        ([sympy.sin(x), y], "no polynomial"),
        ([1 / x, y], "no polynomial"),
        (["x + y"], "1 equations in 2 unknowns"),
        (["x", "y", "x - y"], "3 equations in 2 unknowns"),
        (["x - x", "y"], "equation 1 is identically zero"),
        (["x^2.5", "y"], "whole number"),
        ([sympy.nan, "y"], "no polynomial"),
    ],
)
def test_what_is_no_square_polynomial_system_is_refused(equations, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        PolynomialSystem(equations, ["x", "y"])


def test_unknowns_that_nothing_determines_make_infinitely_many_solutions():
    with pytest.raises(SolverError, match="infinitely many"):
        TotalDegree().solve(PolynomialSystem(["x^2 - 1", "x^3 - x"], ["x", "y"]), generator())
