from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import PolynomialError
from landscape.systems.expressions import (
    Gaussian,
    derivative,
    exact,
    format_polynomial,
    parse,
    parse_exact,
    rounded,
    to_text,
)

NAMES = ("x", "y", "z")
_SYMBOLS = sympy.symbols(NAMES)


def by_sympy(text):
    """The same polynomial, read and expanded by SymPy."""
    expression = sympy.sympify(text.replace("^", "**"))
    terms = sympy.Poly(expression, *_SYMBOLS).terms()
    return {tuple(map(int, e)): complex(c) for e, c in terms if c != 0}


@pytest.mark.parametrize(
    "text",
    [
        "x^2 + 3*x*y - 1",
        "-x**2",
        "--x - -y",
        "(x + y)^3 * (x - 2*z)",
        "2*x/4 - y/(1 + 1)",
        "(1 + 2*I)*x*y^2 + 2.5*I",
        "1e-3*x + .5*y + 3.*z",
        "((((x))))",
        "2^3*x^(1 + 1)",
        "x - x + y",
        "-(x + y)^2",
    ],
)
def test_text_is_read_as_sympy_reads_it(text):
    ours, theirs = parse(text, NAMES), by_sympy(text)
    assert ours.keys() == theirs.keys()
    for exponents, coefficient in theirs.items():
        assert ours[exponents] == pytest.approx(coefficient, rel=1e-14)


def test_python_imaginary_literals_are_numbers():
    assert parse("2.5j*x + 1J", NAMES) == {(1, 0, 0): 2.5j, (0, 0, 0): 1j}


coefficients = st.complex_numbers(max_magnitude=1e6, allow_nan=False, allow_infinity=False).filter(
    lambda c: c != 0
)
polynomials = st.dictionaries(st.tuples(*[st.integers(0, 4)] * 3), coefficients, max_size=6)


@settings(deadline=None)
@given(polynomials)
def test_what_is_written_is_read_back_bit_for_bit(polynomial):
    assert parse(format_polynomial(polynomial, NAMES), NAMES) == polynomial


@settings(deadline=None)
@given(polynomials, st.integers(0, 2))
def test_derivatives_agree_with_sympy(polynomial, variable):
    expression = sum(
        (sympy.Mul(*(s**e for s, e in zip(_SYMBOLS, powers, strict=True))) * 1 for powers in polynomial),
        sympy.Integer(0),
    )
    ones = dict.fromkeys(polynomial, 1)
    expected = sympy.Poly(sympy.diff(expression, _SYMBOLS[variable]), *_SYMBOLS).terms()
    assert derivative(ones, variable) == {e: int(c) for e, c in expected if c != 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x +", "unexpected the end"),
        ("x y", "products need"),
        ("2x", "unexpected"),
        ("x^y", "exponent must be a number"),
        ("x^-1", "whole number"),
        ("x^0.5", "whole number"),
        ("x^99999", "whole number"),
        ("1/x", "non-zero number"),
        ("x/0", "division by zero"),
        ("(x", "not closed"),
        ("x)", "unexpected"),
        ("sin(x)", "unknown variable 'sin'"),
        ("x.__class__", "unexpected"),
        ("x = 1", "unexpected '='"),
        ("", "empty"),
        ("(" * 5000 + "x" + ")" * 5000, "too deeply"),
    ],
)
def test_what_is_no_polynomial_is_refused_with_the_place(text, message):
    with pytest.raises(PolynomialError, match=message.replace("(", r"\(").replace(")", r"\)")):
        parse(text, NAMES)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PolynomialError, match=r"'weigth'.*Did you mean 'weight'\?"):
        parse("2*weigth", ["weight", "bias"])


def test_text_is_never_evaluated():
    with pytest.raises(PolynomialError, match="__import__"):
        parse("__import__('os')", NAMES)


def test_sympy_expressions_become_text_with_their_exact_coefficients():
    x, y = sympy.symbols("x y")
    text = to_text(sympy.Eq(sympy.sqrt(2) * x**2, sympy.I * y + sympy.Rational(1, 3)))
    assert parse(text, ("x", "y")) == {(2, 0): np.sqrt(2), (0, 1): -1j, (0, 0): pytest.approx(-1 / 3)}
    assert to_text(sympy.Integer(3)) == "3"


def test_other_objects_and_non_polynomials_are_refused():
    x = sympy.Symbol("x")
    with pytest.raises(PolynomialError, match="no polynomial"):
        to_text(sympy.sin(x))
    with pytest.raises(PolynomialError, match="text or a SymPy expression"):
        to_text([1, 2])


@pytest.mark.parametrize("text", ["1e400*x", "1e200*1e200*x", "(10*x)^900", "1e-400*x", "1e308*x + 1e308*x"])
def test_coefficients_outside_double_precision_are_refused(text):
    with pytest.raises(PolynomialError, match="double precision"):
        parse(text, ("x",))


def test_zero_is_no_coefficient_that_is_too_small():
    assert parse("0e-5*x + 0.0 + x", ("x",)) == {(1,): 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), complex(1, float("inf"))])
def test_coefficients_that_are_not_finite_are_not_written(value):
    with pytest.raises(PolynomialError, match="x\\^2 is"):
        format_polynomial({(2,): value, (0,): 1}, ("x",))


rationals = st.fractions(max_denominator=10**12)
gaussians = st.builds(Gaussian.of, rationals, rationals).filter(lambda c: c != 0)
exact_polynomials = st.dictionaries(st.tuples(*[st.integers(0, 4)] * 3), gaussians, max_size=6)


@settings(deadline=None)
@given(exact_polynomials)
def test_fractions_are_read_back_as_they_were_written(polynomial):
    assert parse_exact(format_polynomial(polynomial, NAMES), NAMES) == polynomial


@settings(deadline=None)
@given(polynomials)
def test_floating_point_numbers_are_written_without_rounding(polynomial):
    back = parse_exact(format_polynomial(polynomial, NAMES), NAMES)
    assert back == {e: exact(c) for e, c in polynomial.items()}
    for e, c in polynomial.items():
        parts = (back[e].real, back[e].imag) if isinstance(back[e], Gaussian) else (back[e], 0)
        assert parts == (Fraction(c.real), Fraction(c.imag))


def by_sympy_exactly(text):
    expression = sympy.sympify(text.replace("^", "**"), rational=True)
    terms = sympy.Poly(expression, *_SYMBOLS, extension=sympy.I).terms()
    parts = {tuple(map(int, e)): c.as_real_imag() for e, c in terms if c != 0}
    return {
        e: Gaussian.of(Fraction(int(a.p), int(a.q)), Fraction(int(b.p), int(b.q)))
        for e, (a, b) in parts.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "(x - 2/3)^2/7 - 1e-12*y",
        "(x/3 + I*y/7)^5*(z - 0.1)/(1 - 2*I)",
        "(0.1*x + 0.2*x - 0.3*x) + 1e16*y + y - 1e16*y",
        "(1.5*I)^4*x + (2 - I)^3*(2 + I)^3*y^2 + I*I",
        "(x + y/6 - z/35)^4",
        "7^0*x + (x*y)^0",
    ],
)
def test_sums_products_and_powers_are_exact(text):
    found = parse_exact(text, NAMES)
    assert found == by_sympy_exactly(text)
    # Rounded once, at the end.
    for exponents, coefficient in parse(text, NAMES).items():
        assert coefficient == rounded(found[exponents])


def test_one_floating_point_number_does_not_round_the_others():
    x = sympy.Symbol("x")
    found = parse_exact(to_text(sympy.Rational(1, 3) * x**2 + 0.1 * x + sympy.Float("0.1", 50)), ("x",))
    assert found[(2,)] == Fraction(1, 3)
    assert found[(1,)] == Fraction(0.1)
    assert abs(found[(0,)] - Fraction(1, 10)) < Fraction(1, 10**50)
    root = parse_exact(to_text(sympy.sqrt(2) * x), ("x",))[(1,)]
    assert abs(root**2 - 2) < Fraction(1, 10**38)


@pytest.mark.parametrize(
    "text",
    ["((1.1^1000)^1000)^1000*x", "(x + 0." + "7" * 4000 + ")^999", "1" * 5000 + "*x", "0." + "3" * 5000],
)
def test_numbers_of_too_many_digits_are_refused_at_once(text):
    with pytest.raises(PolynomialError, match="too many digits"):
        parse_exact(text, ("x",))


def test_fractions_of_large_numbers_are_within_range():
    large = "1" + "0" * 400
    assert parse(f"{large}/3{'0' * 400}*x", ("x",)) == {(1,): pytest.approx(1 / 3)}
    assert parse("0e999999999 + x", ("x",)) == {(1,): 1}
