"""Certificates are of the equations as they are written: boxes against exact roots, in fractions."""

import pickle
from decimal import Decimal
from fractions import Fraction
from itertools import product

import flint
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.randomness import torch_generator
from landscape.systems import PolynomialFamily, PolynomialSystem
from landscape_homotopy.certification import Certifier

SOLVERS = [
    ls.solvers.Monodromy(certified=True),
    ls.solvers.TotalDegree(certified=True),
]


def holds(box_point, radius, exact):
    """Whether the real and imaginary parts of exact real coordinates are within the radius: in fractions."""
    radius = Fraction(float(radius))
    return all(
        abs(Fraction(float(z.real)) - root) <= radius and abs(Fraction(float(z.imag))) <= radius
        for z, root in zip(np.atleast_1d(box_point), exact, strict=True)
    )


x = sympy.Symbol("x")
THIRDS = [
    "x^2 - 2/3*x + 1/9 - 1/1000000000000",
    "(x - 1/3)^2 - 1e-12",
    x**2 - sympy.Rational(2, 3) * x + sympy.Rational(1, 9) - sympy.Rational(1, 10**12),
    # One floating-point number, which is a whole number, does not spoil the others.
    x**2.0 - sympy.Rational(2, 3) * x + sympy.Rational(1, 9) - sympy.Rational(1, 10**12),
]


@pytest.mark.parametrize("equation", THIRDS, ids=str)
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_boxes_hold_the_roots_of_what_was_written(equation, solver):
    # Rounded coefficients move these roots by 3e-13, a thousand times as far as the boxes reach.
    solutions = solver.solve(PolynomialSystem([equation], ["x"]), torch_generator(0))
    roots = [Fraction(1, 3) - Fraction(1, 10**6), Fraction(1, 3) + Fraction(1, 10**6)]
    assert solutions.completeness == "proved"
    assert (solutions.certificates < 1e-14).all()
    for root in roots:
        assert (
            sum(holds(p, r, [root]) for p, r in zip(solutions.points, solutions.certificates, strict=True))
            == 1
        )


def test_a_family_is_certified_with_its_own_coefficients_and_the_parameters_as_they_are():
    family = PolynomialFamily(["x^2 - 2/3*x + 1/9 - a"], ["x"], ["a"])
    a = 2.0**-20
    for solver in SOLVERS:
        (solutions,) = solver.solve_family(family, np.array([[a]]), torch_generator(0))
        for root in (Fraction(1, 3) - Fraction(1, 2**10), Fraction(1, 3) + Fraction(1, 2**10)):
            assert any(
                holds(p, r, [root]) for p, r in zip(solutions.points, solutions.certificates, strict=True)
            )


def test_decimals_are_tenths_and_floating_point_numbers_are_binary():
    def at_one_tenth(system):
        certifier = Certifier(PolynomialFamily(system.equations, ["x"], []), np.zeros(0))
        with flint.ctx.workprec(200):
            return certifier.value([flint.acb(flint.fmpq(1, 10))])[0]

    assert at_one_tenth(PolynomialSystem(["x - 0.1"], ["x"])).contains(0)
    number = at_one_tenth(PolynomialSystem.from_monomials([{(1,): 1, (0,): -0.1}], ["x"]))
    assert not number.contains(0)
    assert float(number.real) == float(Fraction(1, 10) - Fraction(0.1))


fractions = st.fractions(min_value=-9, max_value=9, max_denominator=997)


@settings(deadline=None, max_examples=60)
@given(st.lists(fractions, min_size=1, max_size=4, unique=True), fractions.filter(bool))
def test_boxes_hold_rational_roots_exactly(roots, leading):
    assume(all(abs(a - b) > Fraction(1, 500) for k, a in enumerate(roots) for b in roots[:k]))
    polynomial = {(0,): leading}
    for root in roots:
        raised = {(e + 1,): c for (e,), c in polynomial.items()}
        polynomial = {
            key: raised.get(key, 0) - root * polynomial.get(key, 0)
            for key in raised.keys() | polynomial.keys()
        }
    system = PolynomialSystem.from_monomials([{e: c for e, c in polynomial.items() if c}], ["x"])
    # Nothing is lost on the way through text, and to other programs.
    assert system.exact[0] == {e: c for e, c in polynomial.items() if c}
    certifier = Certifier(PolynomialFamily(system.equations, system.unknowns, []), np.zeros(0))
    for root in roots:
        box = certifier.certify(np.array([complex(root)]))
        assert box is not None
        assert holds(box.point, box.radius, [root])


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(fractions, fractions), min_size=2, max_size=2),
    st.lists(fractions, min_size=4, max_size=4),
)
def test_boxes_of_two_unknowns_hold_rational_solutions(lines, mixing):
    # (u - a)(u - b) = 0 and (v - c)(v - d) = 0 in u = p x + q y, v = r x + s y.
    (a, b), (c, d) = lines
    p, q, r, s = mixing
    determinant = p * s - q * r
    assume(
        abs(determinant) > Fraction(1, 10) and abs(a - b) > Fraction(1, 50) and abs(c - d) > Fraction(1, 50)
    )
    u, v = f"(({p})*x + ({q})*y", f"(({r})*x + ({s})*y"
    family = PolynomialFamily([f"{u} - ({a}))*{u} - ({b}))", f"{v} - ({c}))*{v} - ({d}))"], ["x", "y"], [])
    certifier = Certifier(family, np.zeros(0))
    for left, right in product((a, b), (c, d)):
        solution = ((s * left - q * right) / determinant, (p * right - r * left) / determinant)
        box = certifier.certify(np.array([complex(value) for value in solution]))
        assert box is not None
        assert holds(box.point, box.radius, solution)


@settings(deadline=None, max_examples=25)
@given(st.lists(fractions, min_size=3, max_size=5).filter(lambda c: c[0] != 0))
def test_boxes_of_real_roots_are_passed_with_a_change_of_sign(coefficients):
    degree = len(coefficients) - 1
    text = " + ".join(f"({c})*x^{degree - k}" for k, c in enumerate(coefficients))

    def value(at):
        total = Fraction(0)
        for c in coefficients:
            total = total * at + c
        return total

    certifier = Certifier(PolynomialFamily([text], ["x"], []), np.zeros(0))
    for root in np.roots([float(c) for c in coefficients]):
        box = certifier.certify(np.array([complex(root)]))
        if box is not None and box.point[0].imag == 0:
            centre, radius = Fraction(box.point[0].real), Fraction(box.radius)
            assert value(centre - radius) * value(centre + radius) <= 0


def test_what_was_written_survives_pickles_text_and_other_programs():
    system = PolynomialSystem(["x^2 - 2/3*x + 0.1", "y/7 + (1/3 - 2.5e-3*I)*x"], ["x", "y"])
    assert system.exact[0][(1, 0)] == Fraction(-2, 3)
    assert system.exact[0][(0, 0)] == Fraction(1, 10)
    assert pickle.loads(pickle.dumps(system)).exact == system.exact
    for format in ("phc", "hc", "bertini"):
        assert ls.systems.read_system(system.to_text(format), format).exact == system.exact
    # PHCpack gets no more digits than it reads.
    long = PolynomialSystem(["x - 12345678901234567890123/7000000000000000000001"], ["x"])
    assert ls.systems.read_system(long.to_text("hc"), "hc").exact == long.exact
    (back,) = ls.systems.read_system(long.to_text("phc"), "phc").exact
    assert 0 < abs(back[(0,)] / long.exact[0][(0,)] - 1) < Fraction(1, 10**69)
    again = PolynomialSystem.from_monomials(system.exact, system.unknowns)
    assert again.exact == system.exact


def test_numbers_of_every_kind_are_taken_for_what_they_are():
    values = [
        3,
        Fraction(1, 3),
        Decimal("0.1"),
        0.1,
        np.float64(0.1),
        np.int64(7),
        2.5 - 1j,
        np.complex128(0.5j),
    ]
    system = PolynomialSystem.from_monomials([{(k,): value for k, value in enumerate(values)}], ["x"])
    found = system.exact[0]
    assert [found[(k,)] for k in range(6)] == [
        3, Fraction(1, 3), Fraction(1, 10), Fraction(0.1), Fraction(0.1), 7,
    ]  # fmt: skip
    assert [complex(found[(k,)]) for k in (6, 7)] == [2.5 - 1j, 0.5j]
