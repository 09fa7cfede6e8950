"""Families whose start pairs need not lead to all solutions, against solutions found in other ways."""

from itertools import product

import mpmath
import numpy as np
import pytest
import sympy
import torch
from attrs import evolve
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.composition.critical_points import checks
from landscape.errors import PolynomialError, SolverError
from landscape.systems import PolynomialFamily, match
from landscape_homotopy import monodromy
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.watch import Watch


def solve(family, parameters, seed=0, **fields):
    generator = torch.Generator().manual_seed(seed)
    return list(Monodromy(**fields).solve_family(family, np.asarray(parameters), generator))


@pytest.fixture(params=["degrees", "monomials"])
def way(request, monkeypatch):
    """Generic members are solved from a system of the same degrees, or with the same monomials."""
    if request.param == "monomials":
        monkeypatch.setattr(monodromy, "_TOTAL_DEGREE", 0)
    return request.param


def tied():
    """One regularisation for both weights: the equations share all their parameters."""
    return PolynomialFamily.gradient("(a*b*x - y)^2/2 + l*(a^2 + b^2)/2", ["a", "b"], ["x", "y", "l"])


def roots_by_resultants(equations):
    """Solve two equations in x and y: roots of the resultant, then of the equations above them, 40 digits.

    Returns the regular solutions, or None where solutions are too close to singular to be sure, or not
    isolated.
    """
    x, y = sympy.symbols("x y")
    f, g = (sympy.Poly(sympy.sympify(text.replace("^", "**"), rational=True), x, y) for text in equations)
    eliminant = sympy.Poly(sympy.resultant(f.as_expr(), g.as_expr(), y), x)
    if eliminant.is_zero:
        return None
    jacobian = sympy.Matrix([[h.diff(v).as_expr() for v in (x, y)] for h in (f, g)])
    found = []
    with mpmath.workdps(40):
        values = sympy.lambdify((x, y), [f.as_expr(), g.as_expr(), *jacobian], "mpmath")
        above = []
        for h in (f, g):
            rows = sympy.Poly(h.as_expr(), y).all_coeffs()
            above.append(sympy.lambdify(x, rows, "mpmath"))
        for factor, _ in eliminant.factor_list()[1]:
            for root in factor.nroots(n=40, maxsteps=500):
                candidate = mpmath.mpmathify(root)
                for coefficients in (above[0](candidate), above[1](candidate)):
                    while coefficients and abs(coefficients[0]) < 1e-25:
                        coefficients = coefficients[1:]
                    if coefficients:
                        break
                else:
                    return None
                if len(coefficients) < 2:
                    continue
                for other in mpmath.polyroots(coefficients, maxsteps=500, extraprec=400):
                    first, second, *entries = values(candidate, other)
                    if max(abs(first), abs(second)) > 1e-10:
                        continue
                    determinant = entries[0] * entries[3] - entries[1] * entries[2]
                    scale = max(max(map(abs, entries)) ** 2, 1e-30)
                    if abs(determinant) < 1e-12 * scale:
                        continue
                    if abs(determinant) < 1e-4 * scale or max(abs(candidate), abs(other)) > 1e4:
                        return None
                    found.append((complex(candidate), complex(other)))
    distinct = []
    for point in found:
        if all(max(abs(point[0] - other[0]), abs(point[1] - other[1])) > 1e-8 for other in distinct):
            distinct.append(point)
    return np.array(distinct, dtype=complex).reshape(-1, 2)


def test_a_shared_regularisation_has_all_five_critical_points(way):
    family = tied()
    assert not family.start_pairs_suffice
    parameters = [[1.0, 3.0, 1.0], [2.0, -1.5, 0.25], [1.0, 1.0, 3.0]]
    for (x, y, lam), solutions in zip(parameters, solve(family, parameters), strict=True):
        # Off the origin a^2 = b^2. For b = s a: s (s a^2 x - y) x + lam = 0.
        expected = [(0, 0)]
        for s in (1, -1):
            a = np.sqrt(complex((s * y * x - lam) / x**2))
            expected += [(a, s * a), (-a, -s * a)]
        assert sorted(match(np.array(expected, dtype=complex), solutions.points, 1e-10)) == [0, 1, 2, 3, 4]
        assert solutions.completeness == "heuristic"
        assert solutions.statistics["lost"] == 0
        assert checks(family, np.array([x, y, lam]), solutions) == []


def test_a_groebner_basis_over_the_rationals_counts_the_same():
    family = tied()
    values = [2, 5, 3]
    (solutions,) = solve(family, [np.array(values) / 1.0])
    a, b = sympy.symbols("a b")
    x, y, lam = values
    loss = sympy.Rational(1, 2) * ((a * b * x - y) ** 2 + lam * (a**2 + b**2))
    basis = sympy.groebner([loss.diff(a), loss.diff(b)], a, b, order="grevlex")
    leading = [sympy.Poly(g, a, b).monoms(order="grevlex")[0] for g in basis.exprs]
    below = [
        e for e in product(range(8), repeat=2) if not any(e[0] >= m[0] and e[1] >= m[1] for m in leading)
    ]
    assert len(below) == len(solutions) == 5


# Losses in x and y: every monomial has a fixed coefficient, a parameter, or a product of parameters, so that
# parameters are shared, enter with powers, or do not occur.
_MONOMIALS = ["x^2", "x*y", "y^2", "x^2*y", "x*y^2", "x^2*y^2", "x^3", "y^4", "x", "y"]
_COEFFICIENTS = ["1", "-2", "p", "q", "p*q", "p^2", "3*q", "(p - q)"]


# An example takes about a second: no time to look for the smallest one that fails.
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(
        st.tuples(st.sampled_from(_MONOMIALS), st.sampled_from(_COEFFICIENTS)),
        min_size=3,
        max_size=6,
        unique=True,
    ),
    st.tuples(st.integers(1, 20), st.integers(-20, -1)),
)
@example(
    # As many as the degrees allow, and no start pair: the equations share a parameter.
    [("x^3", "1"), ("x^3", "3*q"), ("x*y^2", "1"), ("x", "p"), ("x*y^2", "p*q")],
    (19, -17),
)
def test_random_gradient_families_have_the_solutions_of_resultants(terms, values):
    loss = " + ".join(f"{coefficient}*{monomial}" for monomial, coefficient in terms)
    try:
        family = PolynomialFamily.gradient(loss, ["x", "y"], ["p", "q"])
        parameters = np.array(values) / 8
        system = family.at(parameters)
    except PolynomialError:
        # An equation vanishes.
        assume(False)
    expected = roots_by_resultants(system.equations)
    assume(expected is not None)
    (solutions,) = solve(family, parameters[None])
    # Solutions that are lost at these parameters are told of; without any, all must be there.
    assert (match(solutions.points, expected, 1e-6) >= 0).all()
    if not solutions.statistics["lost"]:
        assert len(solutions) == len(expected)


@pytest.mark.parametrize(
    ("equations", "unknowns"),
    [
        (["x^2 - 1", "y^2 - x - 3"], "xy"),
        (["x^3 - 2*x*y + 3", "y^2 + x*y - 5"], "xy"),
        # Both solutions have a zero coordinate that the monomials do not tell of.
        (["x^2 + y - 1", "x^2 - y - 1"], "xy"),
        # (1 - x)^2 = 4 and a straight line: of the four paths two go to infinity.
        (["x^2 - 2*x + y - 3", "x^2 + 2*x + y - 1"], "xy"),
    ],
)
def test_systems_without_parameters_have_the_solutions_of_resultants(equations, unknowns, way):
    family = PolynomialFamily(equations, list(unknowns), [])
    (solutions,) = solve(family, np.zeros((1, 0)))
    expected = roots_by_resultants(equations)
    assert sorted(match(expected, solutions.points, 1e-9)) == list(range(len(solutions)))
    # As many as the degrees allow, or fewer.
    assert solutions.completeness == ("proved" if len(solutions) == family.bezout_number() else "heuristic")


def test_parameters_that_enter_only_squared_are_no_obstacle(way):
    family = PolynomialFamily(["x^2 - a^2 - 1"], ["x"], ["a"])
    for a, solutions in zip([0.5, 2.0], solve(family, [[0.5], [2.0]]), strict=True):
        root = np.sqrt(a**2 + 1)
        assert sorted(match(np.array([[root], [-root]], dtype=complex), solutions.points, 1e-12)) == [0, 1]


def test_solutions_with_zero_coordinates_that_dependent_equations_allow_are_found(way):
    # z = 0 leaves three equations in x and y, of which two are proportional.
    family = PolynomialFamily(
        ["x*y - p + t*z", "2*(x*y - p) + s*z", "x + y - q"], ["x", "y", "z"], ["p", "q", "s", "t"]
    )
    assert not family.start_pairs_suffice
    (solutions,) = solve(family, [[2.0, 3.0, 5.0, 1.0]])
    assert sorted(match(np.array([[1, 2, 0], [2, 1, 0]], dtype=complex), solutions.points, 1e-10)) == [0, 1]


def test_multiple_solutions_leave_the_count_unknown(way):
    # (x - p)^2 (x - 2): the double root is isolated, but not regular, whatever p.
    family = PolynomialFamily(["(x - p)^2*(x - 2)"], ["x"], ["p"])
    (solutions,) = solve(family, [[1.0]], retries=1)
    assert match(np.array([[2.0 + 0j]]), solutions.points, 1e-9).tolist() == [0]
    assert solutions.completeness == "unknown"
    assert "2 ended where the Jacobian is singular" in solutions.evidence


def test_paths_to_infinity_are_told_from_paths_that_were_lost(way):
    # x y = 1 and x (y + p) = q meet once; both systems with these monomials and free coefficients, and the
    # second equation's x y can be eliminated, so that the other solutions are at infinity.
    family = PolynomialFamily(["x*y + x^2 - 1", "x*y + x^2 + p*x + y - q"], ["x", "y"], ["p", "q"])
    (solutions,) = solve(family, [[0.5, 2.0]])
    expected = roots_by_resultants(["x*y + x^2 - 1", "x*y + x^2 + 1/2*x + y - 2"])
    assert sorted(match(expected, solutions.points, 1e-9)) == list(range(len(solutions)))
    assert solutions.completeness == "heuristic"
    gone = {"degrees": 2, "monomials": 1}[way]
    assert f"{gone} went to infinity." in solutions.evidence


def test_members_that_do_not_agree_leave_the_count_unknown(monkeypatch):
    complete = monodromy._by_degrees
    calls = []

    def forgetful(family, member, tally, rng):
        found = complete(family, member, tally, rng)
        calls.append(len(found))
        return found if len(calls) == 1 else found[:-1]

    monkeypatch.setattr(monodromy, "_by_degrees", forgetful)
    (solutions,) = solve(tied(), [[1.0, 3.0, 1.0]])
    assert solutions.completeness == "unknown"
    assert f"{len(calls)} members, solved independently, did not agree" in solutions.evidence
    assert len(calls) == monodromy._MEMBERS


def test_jumps_on_the_way_to_a_generic_member_are_followed_again(monkeypatch):
    track = monodromy.track

    def jumping(family, start, p0, p1, settings):
        ends = track(family, start, p0, p1, settings)
        if settings == monodromy.CAREFUL or len(ends.points) < 2:
            return ends
        points = ends.points.copy()
        points[-1] = points[0]
        return evolve(ends, points=points)

    start = Monodromy()._generic_whole(tied(), np.random.default_rng(0), Watch())
    monkeypatch.setattr(monodromy, "track", jumping)
    points, arrived = monodromy._followed(tied(), start, np.array([1.0, 3.0, 1.0], dtype=complex))
    assert arrived.all()
    assert (match(points, points) == np.arange(5)).all()


def test_what_cannot_be_solved_leaves_no_run_behind(tmp_path):
    names = [f"x{k}" for k in range(17)]
    family = PolynomialFamily([f"{name}^2 - p^2" for name in names], names, ["p"])
    with pytest.raises(PolynomialError, match="zero patterns of 17 unknowns"):
        ls.CriticalPointStudy(family, Monodromy(), samples=2).run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_any_family_can_be_studied(tmp_path):
    run = ls.CriticalPointStudy(tied(), Monodromy(), samples=3).run(tmp_path)
    summary = run.summary()
    assert summary["N_C"].tolist() == [5, 5, 5]
    assert (summary["checks_failed"] == "").all()


def test_too_many_solutions_of_a_free_member_end_with_a_typed_error(monkeypatch):
    family = PolynomialFamily(["x^9 + a^2*x + 1"], ["x"], ["a"])
    monkeypatch.setattr(monodromy, "_TOTAL_DEGREE", 0)
    with pytest.raises(SolverError, match="raise most_solutions"):
        solve(family, [[1.0]], most_solutions=3)
