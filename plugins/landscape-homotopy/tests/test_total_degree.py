"""Total degree, parameter homotopy, the endgame and local multiplicities, against counts known otherwise."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import PolynomialError, SolverError
from landscape.randomness import torch_generator
from landscape.systems import PolynomialFamily, PolynomialSystem, match
from landscape_homotopy import paths
from landscape_homotopy.endgame import RADIUS, endings, escaping
from landscape_homotopy.multiplicity import local_structure
from landscape_homotopy.parameter_homotopy import ParameterHomotopy
from landscape_homotopy.points import is_regular
from landscape_homotopy.total_degree import TotalDegree
from landscape_homotopy.tracker import Settings, polish, track


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def solve(equations, unknowns, seed=0, **fields):
    return TotalDegree(**fields).solve(PolynomialSystem(equations, unknowns), generator(seed))


def katsura(n):
    names = [f"u{k}" for k in range(n + 1)]
    equations = [
        " + ".join(f"u{abs(k)}*u{abs(m - k)}" for k in range(-n, n + 1) if abs(m - k) <= n) + f" - u{m}"
        for m in range(n)
    ]
    return [*equations, "u0 - 1 + " + " + ".join(f"2*u{k}" for k in range(1, n + 1))], names


def cyclic(n):
    names = [f"x{k}" for k in range(n)]
    equations = [
        " + ".join("*".join(names[(i + k) % n] for k in range(d)) for i in range(n)) for d in range(1, n)
    ]
    return [*equations, "*".join(names) + " - 1"], names


def noon(n):
    names = [f"x{k}" for k in range(n)]
    equations = []
    for name in names:
        squares = " + ".join(f"{other}^2" for other in names if other != name)
        equations.append(f"{name}*({squares}) - 1.1*{name} + 1")
    return equations, names


def eco(n):
    equations = [
        f"(x{k}" + "".join(f" + x{i}*x{i + k}" for i in range(1, n - k)) + f")*x{n} - {k}"
        for k in range(1, n)
    ]
    return [*equations, " + ".join(f"x{k}" for k in range(1, n)) + " + 1"], [f"x{k}" for k in range(1, n + 1)]


# Counts of the literature: Katsura 2^n, cyclic 5-roots 70 and 6-roots 156, Noonburg 3^n - 2 n, economics 2^(n-2).
@pytest.mark.parametrize(
    ("system", "bezout", "count"),
    [
        (katsura(4), 16, 16),
        (katsura(6), 64, 64),
        (noon(3), 27, 21),
        (noon(4), 81, 73),
        (cyclic(5), 120, 70),
        (cyclic(6), 720, 156),
        (eco(4), 18, 4),
        # Most paths go to infinity, where they meet in points of high multiplicity; some fall there as s^40.
        (eco(6), 162, 16),
        (eco(7), 486, 32),
    ],
)
def test_known_systems_have_their_known_numbers_of_solutions(system, bezout, count):
    target = PolynomialSystem(*system)
    assert target.bezout_number == bezout
    solutions = TotalDegree().solve(target, generator())
    assert len(solutions) == count
    assert (solutions.multiplicities == 1).all()
    assert solutions.completeness == "heuristic"
    assert solutions.statistics["lost"] == 0
    assert solutions.statistics["infinite"] == bezout - count
    # Judged by the equations, and told apart.
    scale = np.abs(target.jacobian(solutions.points)).max() * np.abs(solutions.points).max()
    assert np.abs(target.value(solutions.points)).max() < 1e-12 * scale
    assert (match(solutions.points, solutions.points) == np.arange(count)).all()


@pytest.mark.parametrize(
    ("equations", "unknowns", "expected"),
    [
        # Griewank and Osborne (1983): Newton's method diverges from the triple solution at the origin.
        (["29/16*x^3 - 2*x*y", "y - x^2"], "xy", {(0, 0): 3}),
        (["(x - 1)^3*(x - 2)"], "x", {(1,): 3, (2,): 1}),
        (["x^2", "y^2"], "xy", {(0, 0): 4}),
        (["x^2 - y^3", "x*y"], "xy", {(0, 0): 5}),
        # A parabola and its tangent.
        (["y - x^2", "y - 2*x + 1"], "xy", {(1, 1): 2}),
        (["(x - 1)^2 + y^2 - 1", "(x - 2)^2 + y^2 - 4"], "xy", {(0, 0): 2}),
        (["x^2 + y^2 - 2", "x*y - 1"], "xy", {(1, 1): 2, (-1, -1): 2}),
    ],
)
def test_multiple_solutions_are_found_with_their_multiplicities(equations, unknowns, expected):
    solutions = solve(equations, list(unknowns))
    partners = match(np.array(list(expected), dtype=complex), solutions.points, 1e-5)
    assert sorted(partners) == list(range(len(expected)))
    assert solutions.multiplicities[partners].tolist() == list(expected.values())
    assert solutions.completeness == "heuristic"


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=5), st.integers(0, 1000))
# Here circles of the first four radii enclose another branch point, and have equal means.
@example([-1, -3, -1, -2, -1], 397)
def test_roots_of_products_have_their_multiplicities(roots, seed):
    x = sympy.Symbol("x")
    polynomial = sympy.expand(sympy.prod([x - root for root in roots]))
    solutions = solve([polynomial], ["x"], seed)
    expected = sorted(set(roots))
    partners = match(np.array(expected, dtype=complex)[:, None], solutions.points, 1e-3)
    assert sorted(partners) == list(range(len(solutions)))
    assert solutions.multiplicities[partners].tolist() == [roots.count(root) for root in expected]


@pytest.mark.parametrize(
    ("equations", "count", "infinite"),
    [
        (["1e-6*x - 1", "x*y - 1"], 1, 1),
        (["x^2 - 1e10", "x*y - 1"], 2, 2),
        # A double one a thousand times as far out as the coefficients of the highest powers are large.
        (["x^2 - 2000*x + 1e6", "y - 1"], 1, 0),
        (["x^3 - 300*x^2 + 30000*x - 1e6", "x*y - 1"], 1, 3),
    ],
)
def test_solutions_far_out_are_not_taken_for_infinite_ones(equations, count, infinite):
    for seed in range(3):
        solutions = solve(equations, ["x", "y"], seed)
        assert (len(solutions), solutions.statistics["infinite"]) == (count, infinite)
        assert solutions.completeness == "heuristic"


def test_paths_in_doubt_are_followed_again_in_larger_units():
    # The elimination ideal has degree three; all solutions are hundreds of units far out.
    r, x, y, z = 10000, *sympy.symbols("x y z")
    equations = [x * y * z - r, x * y + y * z - 1, x * z - r * y * z + 1]
    quotient = sympy.groebner(equations, x, y, z, order="lex").exprs[-1]
    assert sympy.degree(quotient, z) == 3
    solutions = solve(equations, ["x", "y", "z"])
    assert (len(solutions), solutions.completeness) == (3, "heuristic")
    exact = np.array([complex(root) for root in sympy.Poly(quotient, z).nroots(n=30, maxsteps=200)])
    assert match(exact[:, None], solutions.points[:, 2:], 1e-9).min() >= 0


class Branch:
    """w^c = s^m in w = z_0 / z_1 and a z_1 + z_0 = 1: a path that tends to infinity as s^(m/c); p = (s,).

    With a shift, w^c = 1 + s^m, the end is finite. A patch with small a is nearly parallel to the end at infinity.
    """

    def __init__(self, m, c, shift=0.0, patch=1.0):
        self.m, self.c, self.shift, self.patch = m, c, shift, patch

    def value_and_jacobian(self, z, p):
        (one, zero), s = z.T, p[:, 0]
        right = self.shift + s**self.m
        value = np.stack([zero**self.c - right * one**self.c, self.patch * one + zero - 1], axis=1)
        rows = [
            [-right * self.c * one ** (self.c - 1), self.c * zero ** (self.c - 1)],
            [self.patch + 0 * s, 1 + 0 * s],
        ]
        return value, np.moveaxis(np.array(rows), 2, 0)

    def jacobian(self, z, p):
        return self.value_and_jacobian(z, p)[1]

    def parameter_derivative(self, z, p, dp):
        change = -self.m * p[:, 0] ** (self.m - 1) * dp[:, 0] * z[:, 0] ** self.c
        return np.stack([change, 0 * change], axis=1)

    def at(self, s):
        w = (self.shift + s**self.m) ** (1 / self.c)
        return np.array([[1, w]], dtype=complex) / (self.patch + w)


@pytest.mark.parametrize(("m", "c"), [(1, 1), (1, 2), (3, 2), (1, 4), (2, 5), (1, 8), (8, 1)])
def test_exponents_of_paths_to_infinity_are_seen(m, c):
    family = Branch(m, c)
    seen = escaping(family, family.at(RADIUS), np.ones((1, 1)), np.zeros((1, 1), dtype=complex))
    assert seen.infinite.all()


@pytest.mark.parametrize(("m", "c"), [(1, 2), (1, 5), (1, 6)])
@pytest.mark.parametrize("patch", [0.1, 0.01, 1e-4])
def test_exponents_of_paths_to_infinity_do_not_depend_on_the_patch(m, c, patch):
    # Cyclic roots have ends like this one, with the exponent 1/5 or 1/6.
    family = Branch(m, c, patch=patch)
    seen = escaping(family, family.at(RADIUS), np.ones((1, 1)), np.zeros((1, 1), dtype=complex))
    assert seen.infinite.all()


def test_no_path_of_cyclic_roots_stays_in_doubt():
    # Here the first patch is nearly parallel to the ends of ten paths.
    solutions = TotalDegree().solve(PolynomialSystem(*cyclic(5)), torch_generator(2, "benchmark"))
    assert solutions.statistics["lost"] == 0


@pytest.mark.parametrize(("m", "c"), [(1, 1), (1, 2), (3, 2), (2, 5)])
def test_finite_ends_are_not_seen_as_infinite(m, c):
    family = Branch(m, c, shift=1.0)
    seen = escaping(family, family.at(RADIUS), np.ones((1, 1)), np.zeros((1, 1), dtype=complex))
    assert not seen.infinite.any()
    assert (seen.radii < RADIUS).all()
    for point, s in zip(seen.points, seen.radii, strict=True):
        assert np.abs(point - family.at(s)).max() < 1e-12


def gradient(loss, unknowns):
    return PolynomialSystem.gradient(loss, list(unknowns)).equations, unknowns


@pytest.mark.parametrize(
    "system",
    [
        cyclic(4),
        # Lines, with and without isolated points, with embedded ones, and to be counted several times.
        (["x*y", "x*(y - 1)"], "xy"),
        (["x*(x - 1)", "x*y"], "xy"),
        (["x^2", "x*y"], "xy"),
        (["x^3*(x - 1)", "x^3*(y - 2)"], "xy"),
        (["(x - 1000)*y", "(x - 1000)*(y - 5)"], "xy"),
        (["x^2", "y^2", "x*y*z"], "xyz"),
        (["x*y", "y*z", "x*z"], "xyz"),
        # A circle and a point, a twisted cubic, a plane with lines and a point.
        (["(x^2 + y^2 - 1)*(x - 2)", "(x^2 + y^2 - 1)*(y - 3)"], "xy"),
        (["y - x^2", "z - x^3", "x*z - y^2"], "xyz"),
        (["x*(y - 1)*(z - 2)*(x - 3)", "x*(y - 1)*(y - 4)", "x*(z - 2)*(z - 5)"], "xyz"),
        # Deep linear networks without regularisation: layers can be scaled against each other.
        gradient("(a*b - 2)^2", "ab"),
        gradient("(a*b*c - 2)^2", "abc"),
        gradient("(a*c + b*d - 2)^2", "abcd"),
    ],
)
def test_systems_with_curves_or_surfaces_of_solutions_are_refused(system):
    equations, unknowns = system
    for seed in range(2):
        with pytest.raises(SolverError, match=r"infinitely many solutions.*regularise.*leave_out_curves"):
            solve(equations, list(unknowns), seed)


def test_a_curve_of_solutions_is_said_to_pass_through_a_point_of_it():
    with pytest.raises(SolverError, match=r"passes through x = 7, y = \S+j\. Replace"):
        solve(["(x - 7)*y", "(x - 7)*(y - 5)"], ["x", "y"])


def test_the_member_with_curves_of_solutions_is_named():
    family = PolynomialFamily(["x*(y - a)", "x*(y - b) + a - b"], ["x", "y"], ["a", "b"])
    members = TotalDegree().solve_family(family, np.array([[1.0, 2.0], [3.0, 3.0]]), generator())
    assert len(next(members)) == 1
    with pytest.raises(SolverError, match=r"with the parameters \(3, 3\) has infinitely many"):
        next(members)


@pytest.mark.parametrize(
    ("equations", "unknowns", "distinct", "total"),
    [
        (["x^5", "y^5"], "xy", 1, 25),
        (["x^3", "y^3", "z^3"], "xyz", 1, 27),
        (["x^7 - y", "y^2"], "xy", 1, 14),
        (["(x - 100)^3", "(y - x)^2"], "xy", 1, 6),
        (["x^3 - y*z", "y^3 - x*z", "z^3 - x*y"], "xyz", 17, 27),
    ],
)
def test_isolated_solutions_of_high_multiplicity_are_not_taken_for_curves(
    equations, unknowns, distinct, total
):
    solutions = solve(equations, list(unknowns))
    assert (len(solutions), solutions.multiplicities.sum()) == (distinct, total)


def test_a_root_that_paths_are_lost_near_is_not_taken_for_a_curve():
    # Of multiplicity 12, which double precision cannot follow.
    assert solve(["(x - 1)^12"], ["x"]).completeness == "unknown"


def test_curves_of_solutions_are_left_out_and_said_where_asked_for():
    solutions = solve(["x*(x - 1)", "x*y"], ["x", "y"], leave_out_curves=True)
    # The line x = 0, and (1, 0).
    assert match(np.array([[1, 0]], dtype=complex), solutions.points).tolist() == [0]
    assert len(solutions) == 1
    assert solutions.statistics["curves"] + solutions.statistics["infinite"] == 3
    assert "curves or surfaces" in solutions.evidence


def test_systems_without_solutions_are_said_to_have_none():
    assert len(solve(["x + y - 1", "x + y - 2"], ["x", "y"])) == 0
    solutions = solve(["x", "3"], ["x", "y"])
    assert (len(solutions), solutions.completeness) == (0, "proved")


def test_larger_products_of_degrees_are_refused_with_the_number():
    with pytest.raises(SolverError, match="is 120, and as many paths"):
        solve(*cyclic(5), most_paths=100)


def test_members_of_a_family_are_solved_one_by_one():
    family = PolynomialFamily(["x^2 - a", "x*y - b"], ["x", "y"], ["a", "b"])
    found = list(TotalDegree().solve_family(family, np.array([[4.0, 6.0], [0.0, 1.0]]), generator()))
    assert sorted(match(np.array([[2, 3], [-2, -3]], dtype=complex), found[0].points)) == [0, 1]
    assert len(found[1]) == 0


def test_a_study_with_multiple_solutions_counts_points(tmp_path):
    family = PolynomialFamily.gradient("x^4 + p*x^3", ["x"], ["p"])
    run = ls.CriticalPointStudy(family, TotalDegree(), samples=2).run(tmp_path)
    assert run.summary()["N_C"].tolist() == [2, 2]
    assert sorted(run.solutions[0].multiplicities) == [1, 2]


# -- the endgame --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "winding"), [(2, 2), (3, 3), (5, 5)])
def test_winding_numbers_are_those_of_the_branches(power, winding):
    # (z - 1)^k = s times something regular: k branches that are permuted in a circle.
    family = PolynomialFamily([f"(z - 1)^{power} - s*(2 + z)"], ["z"], ["s"])
    s = np.array([[RADIUS + 0j]])
    z = np.roots(np.polyadd(np.poly1d([1, -1]) ** power, -RADIUS * np.poly1d([1, 2])))
    ends = endings(family, z[:1, None].astype(complex), s / RADIUS, np.zeros((1, 1), dtype=complex))
    assert ends.finite.all()
    assert ends.winding.tolist() == [winding]
    assert abs(ends.points[0, 0] - 1) < 1e-9


@pytest.mark.parametrize("power", [1, 2, 4])
def test_paths_that_grow_like_a_root_are_seen_to_go_to_infinity(power):
    family = PolynomialFamily([f"s*z^{power} - s*z - 1"], ["z"], ["s"])
    if power == 1:
        family = PolynomialFamily(["s*z - 1"], ["z"], ["s"])
    coefficients = np.zeros(power + 1)
    coefficients[0], coefficients[-2], coefficients[-1] = RADIUS, -RADIUS, -1
    start = np.roots(coefficients) if power > 1 else np.array([1 / RADIUS])
    ones = np.ones((len(start), 1), dtype=complex)
    ends = endings(family, start[:, None].astype(complex), ones, 0 * ones)
    assert ends.infinite.all()
    assert not ends.finite.any()


def test_jumped_paths_are_followed_again(monkeypatch):
    def jumping(family, start, p0, p1, settings):
        ends = track(family, start, p0, p1, settings)
        if settings == Settings() and len(start) > 1:
            ends.points[-1] = ends.points[0]
        return ends

    expected = solve(*noon(3))
    monkeypatch.setattr(paths, "track", jumping)
    solutions = solve(*noon(3))
    assert solutions.matches(expected)
    assert solutions.statistics["retried"] > 0


def test_paths_that_never_move_arrive():
    # The origin solves every member; at b = 0 it is on a line of solutions, at a = 0 a triple solution.
    family = PolynomialFamily(["x^2 - b*y", "y^2 - a*x"], ["x", "y"], ["a", "b"])
    zero, p0 = np.zeros((1, 2), dtype=complex), np.array([[1.0, 1.0]])
    ends = endings(family, zero, p0, np.array([[0.0, 1.0 + 0j]]))
    assert ends.finite.all()
    assert not ends.points.any()


def test_lost_paths_leave_the_count_unknown(monkeypatch):
    def losing(family, start, p0, p1, settings):
        ends = track(family, start, p0, p1, settings)
        ends.outcome[:2] = paths.LOST
        return ends

    monkeypatch.setattr(paths, "track", losing)
    solutions = solve(*noon(3))
    assert solutions.statistics["lost"] > 0
    assert solutions.completeness == "unknown"


# -- local structure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equations", "point", "most", "isolated", "multiplicity"),
    [
        (["x - 1", "y"], (1, 0), 1, True, 1),
        (["x^2", "y^2"], (0, 0), 4, True, 4),
        (["x^2 + y^2", "x*y"], (0, 0), 4, True, 4),
        # The cusp and the parabola.
        (["y^2 - x^3", "y - x^2"], (0, 0), 3, True, 3),
        (["x*y", "x*(x - 1)"], (0, 0.5), 2, False, None),
        (["x^2 + y^2 - 1", "(x^2 + y^2 - 1)*x"], (0.6, 0.8), 3, False, None),
        # An embedded point: the line x = 0 with a double structure at the origin.
        (["x^2", "x*y"], (0, 0), 5, False, None),
    ],
)
def test_multiplicity_and_isolation_follow_from_the_equations(equations, point, most, isolated, multiplicity):
    structure = local_structure(PolynomialSystem(equations, ["x", "y"]), np.array(point, dtype=complex), most)
    assert structure.isolated is isolated
    if isolated:
        assert structure.multiplicity == multiplicity


@pytest.mark.parametrize("multiplicity", [2, 3, 4, 5])
def test_what_newtons_method_makes_of_a_multiple_solution_is_not_regular(multiplicity):
    family = PolynomialFamily([f"(x - 1)^{multiplicity - 1}*(y - a)", "x + y - 3"], ["x", "y"], ["a"])
    for turn in range(8):
        step = 0.1 * np.exp(2j * np.pi * turn / 8)
        start, p = np.array([[1 + step, 2 - step]]), np.array([[2.0 + 0j]])
        points, _, _ = polish(family, start, p, iterations=200)
        assert not is_regular(family, points, p[0]).any()


def test_matrices_that_would_be_too_large_leave_it_undecided(monkeypatch):
    monkeypatch.setattr("landscape_homotopy.multiplicity._COLUMNS", 4)
    structure = local_structure(PolynomialSystem(["x^2", "y^2"], ["x", "y"]), np.zeros(2, dtype=complex), 4)
    assert structure.isolated is None


def test_matrices_that_would_be_too_large_are_not_needed_on_a_curve(monkeypatch):
    monkeypatch.setattr("landscape_homotopy.multiplicity._COLUMNS", 4)
    line = PolynomialSystem(["x^2*(y - 3)", "x^2*(y + 5)"], ["x", "y"])
    assert local_structure(line, np.array([0, 1], dtype=complex), 4).isolated is False


# -- from given solutions -----------------------------------------------------------------------------------

CIRCLES = PolynomialFamily(["x^2 + y^2 - a", "x*y - b"], ["x", "y"], ["a", "b"])
START = {"parameters": (10.0, 3.0), "solutions": ((1, 3), (3, 1), (-1, -3), (-3, -1))}


def follow(family, targets, **fields):
    return list(ParameterHomotopy(**fields).solve_family(family, np.asarray(targets), generator()))


def test_solutions_are_followed_to_other_members():
    found = follow(CIRCLES, [[5.0, 2.0], [13.0, 6.0]], **START)
    for (x, y), solutions in zip([(1, 2), (2, 3)], found, strict=True):
        expected = np.array([[x, y], [y, x], [-x, -y], [-y, -x]], dtype=complex)
        assert sorted(match(expected, solutions.points, 1e-12)) == [0, 1, 2, 3]
        assert "4 given solutions" in solutions.evidence
        assert solutions.completeness == "unknown"


def test_solutions_that_meet_are_found_as_multiple_ones():
    # a = 2 b: the circle touches the hyperbola.
    (solutions,) = follow(CIRCLES, [[2.0, 1.0]], **START)
    assert sorted(match(np.array([[1, 1], [-1, -1]], dtype=complex), solutions.points, 1e-6)) == [0, 1]
    assert solutions.multiplicities.tolist() == [2, 2]


def test_members_with_curves_of_solutions_are_refused_by_parameters():
    family = PolynomialFamily(["x*y - a*x", "x*(x - 2) - b*(y + x)"], ["x", "y"], ["a", "b"])
    fields = {"parameters": (1.0, 1.0), "solutions": ((0, 0), (1.5 - 13**0.5 / 2, 1), (1.5 + 13**0.5 / 2, 1))}
    with pytest.raises(SolverError, match=r"\(3, 0\) has infinitely many solutions"):
        follow(family, [[3.0, 0.0]], **fields)
    (solutions,) = follow(family, [[3.0, 0.0]], **fields, leave_out_curves=True)
    assert match(np.array([[2, 3]], dtype=complex), solutions.points).tolist() == [0]
    assert solutions.statistics["curves"] == 2


def test_paths_to_infinity_are_counted_as_such():
    family = PolynomialFamily(["a*x^2 + x - 2"], ["x"], ["a"])
    (solutions,) = follow(family, [[0.0]], parameters=[1.0], solutions=[[1.0], [-2.0]])
    assert match(np.array([[2.0 + 0j]]), solutions.points, 1e-10).tolist() == [0]
    assert solutions.statistics["infinite"] == 1
    assert solutions.statistics["lost"] == 0


def test_given_solutions_that_jump_on_their_way_are_followed_again(monkeypatch):
    def jumping(family, start, p0, p1, settings):
        ends = track(family, start, p0, p1, settings)
        if settings == Settings() and len(start) > 1:
            ends.points[-1] = ends.points[0]
        return ends

    monkeypatch.setattr(paths, "track", jumping)
    (solutions,) = follow(CIRCLES, [[5.0, 2.0]], **START)
    assert (len(solutions), solutions.statistics["lost"]) == (4, 0)
    # Both of the paths that met: on the way to a generic member, and from there.
    assert "2 of them were followed again on the way to a generic member" in solutions.evidence
    assert solutions.statistics["retried"] == 2


def test_given_solutions_that_are_lost_on_their_way_are_counted(monkeypatch):
    def losing(family, start, p0, p1, settings):
        ends = track(family, start, p0, p1, settings)
        ends.outcome[:1] = paths.LOST
        return ends

    monkeypatch.setattr(paths, "track", losing)
    (solutions,) = follow(CIRCLES, [[5.0, 2.0]], **START)
    # One on the way to a generic member, one from there.
    assert (len(solutions), solutions.statistics["lost"]) == (2, 2)
    assert solutions.statistics["retried"] > 0
    assert "1 of them did not reach a generic member" in solutions.evidence
    assert "2 were lost" in solutions.evidence


def test_complex_numbers_may_be_given_as_such_or_as_pairs():
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    as_such = ParameterHomotopy(parameters=[2j], solutions=[[1 + 1j], [-1 - 1j]])
    as_pairs = ParameterHomotopy(parameters=[(0, 2)], solutions=[[(1, 1)], [(-1, -1)]])
    assert as_such == as_pairs
    (solutions,) = as_such.solve_family(family, np.array([[9.0]]), generator())
    assert sorted(solutions.points[:, 0].real.round(10)) == [-3, 3]


def test_what_monodromy_found_can_be_carried_on():
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    parameters = family.sample(3, 0)
    found = list(ls.solvers.Monodromy().solve_family(family, parameters, generator()))
    carried = follow(family, parameters[1:], parameters=parameters[0], solutions=found[0].points)
    for ours, theirs in zip(carried, found[1:], strict=True):
        assert ours.matches(theirs)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"parameters": (10.0,)}, "2 parameters, the start member 1"),
        ({"solutions": ((1, 3, 0),)}, "start solution 1 has 3 coordinates"),
        ({"solutions": ()}, "nothing to follow"),
        ({"solutions": ((1, 3), (1, 3))}, "start solution 2 is given twice"),
        ({"solutions": ((1, 3), (1.0, 2.5))}, "start solution 2 is no regular solution"),
        ({"solutions": ((1, float("nan")),)}, "finite"),
        ({"parameters": (2.0, 1.0), "solutions": ((1, 1),)}, "start solution 1 is no regular solution"),
    ],
)
def test_starts_that_are_none_are_refused_at_once(fields, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        ParameterHomotopy(**START | fields).solve_family(CIRCLES, np.ones((1, 2)), generator())


def test_targets_that_are_none_are_refused_at_once():
    solver = ParameterHomotopy(**START)
    with pytest.raises(PolynomialError, match=r"\(samples, 2\)"):
        solver.solve_family(CIRCLES, np.ones((1, 3)), generator())
    with pytest.raises(PolynomialError, match="finite"):
        solver.solve_family(CIRCLES, np.full((1, 2), np.inf), generator())
