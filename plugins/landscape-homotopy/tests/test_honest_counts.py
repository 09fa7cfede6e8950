"""What Monodromy says of sets that lack something; truths by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landscape import CriticalPointStudy, PolynomialFamily
from landscape.errors import SolverError
from landscape_homotopy.monodromy import Monodromy


def solved(family, parameters):
    (solutions,) = Monodromy().solve_family(family, np.array([parameters]), torch.Generator().manual_seed(0))
    return solutions


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        # x^2 (x - a): the origin is a double solution of every member.
        (
            PolynomialFamily.gradient("x^4/4 - a*x^3/3 + (y - b)^2/2", ["x", "y"], ["a", "b"]),
            [1.3, 0.4],
        ),
        # Isolated (b, a), and the line x = 0.
        (PolynomialFamily(["x*(y - a)", "x*(x - b)"], ["x", "y"], ["a", "b"]), [0.3, 0.7]),
        # y = x and x^2 (x - 1): the origin is double.
        (PolynomialFamily(["x*y*(x - a)", "y - b*x"], ["x", "y"], ["a", "b"]), [1.0, 1.0]),
    ],
)
def test_where_a_point_was_left_out_nothing_is_claimed(family, parameters):
    solutions = solved(family, parameters)
    assert len(solutions) == 1
    assert solutions.completeness == "unknown"
    assert "singular" in solutions.evidence


@pytest.mark.parametrize("small", [1e-6, 1e-4])
def test_solutions_that_are_near_each_other_beside_a_large_coordinate_stay_two(small):
    solutions = solved(PolynomialFamily(["x^2 - a", "y - b"], ["x", "y"], ["a", "b"]), [small**2, 1000.0])
    assert sorted(solutions.points[:, 0].real) == pytest.approx([-small, small], rel=1e-9)
    assert solutions.completeness == "proved"


@pytest.mark.parametrize(
    ("equations", "unknowns", "member", "regular"),
    [
        # Roots a, a^2 and 2: at a = 2 the first and the last meet.
        (["(x - a)*(x - a^2)*(x - 2)"], ["x"], 2.0, [[4.0]]),
        # x = 1 is double for every a, and triple at a = 2.
        (["(x - 1)^2*(y - a)", "x + y - 3"], ["x", "y"], 2.0, []),
        # Roots 1 + a and 1 - a.
        (["x^2 - 2*x + 1 - a^2", "y - x"], ["x", "y"], 0.0, []),
    ],
)
def test_a_multiple_solution_is_not_returned_as_a_regular_one(equations, unknowns, member, regular):
    solutions = solved(PolynomialFamily(equations, unknowns, ["a"]), [member])
    assert solutions.points.real.tolist() == [pytest.approx(point) for point in regular]
    assert solutions.completeness == "unknown"


def test_families_with_curves_of_solutions_are_refused_unless_they_are_to_be_left_out(tmp_path):
    # a b x = y is a curve of critical points; the origin is isolated.
    family = PolynomialFamily.gradient("(a*b*x - y)^2", ["a", "b"], ["x", "y"])
    with pytest.raises(SolverError, match=r"infinitely many solutions.*[Rr]egularise.*leave_out_curves"):
        CriticalPointStudy(family, Monodromy(), samples=1).run(store=tmp_path)
    study = CriticalPointStudy(family, Monodromy(leave_out_curves=True), samples=2)
    run = study.run(store=tmp_path)
    summary = run.summary()
    assert summary["N_C"].tolist() == [1, 1]
    assert (summary["singular"] > 0).all()
    assert run.solutions[0].statistics["curves"] == run.solutions[0].statistics["singular"]
    assert "curves or surfaces" in run.solutions[0].evidence


def test_points_that_were_left_out_as_singular_are_a_failed_check(tmp_path):
    # Roots 1 + a and 1 - a: one double root at a = 0.
    family = PolynomialFamily(["x^2 - 2*x + 1 - a^2", "y - x"], ["x", "y"], ["a"], sampling="constant(0)")
    summary = CriticalPointStudy(family, Monodromy(), samples=1).run(store=tmp_path).summary()
    assert "1 points were left out because the Jacobian is singular" in summary["checks_failed"][0]
    assert summary["completeness"][0] == "unknown"
    # Besides (a, a b) the origin, which is double for every a and b.
    family = PolynomialFamily(["x*y*(x - a)", "y - b*x"], ["x", "y"], ["a", "b"], sampling="constant(1)")
    summary = CriticalPointStudy(family, Monodromy(), samples=1).run(store=tmp_path).summary()
    assert (summary["N_C"][0], summary["singular"][0], summary["completeness"][0]) == (1, 1, "unknown")
    assert "Jacobian is singular" in summary["checks_failed"][0]


def test_what_is_asked_for_most_stands_first(tmp_path):
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    summary = CriticalPointStudy(family, Monodromy(), samples=1).run(store=tmp_path).summary()
    first = ["sample", "N_C", "certified", "N_R", "completeness", "checks_failed"]
    assert list(summary.columns[:6]) == first
