import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from landscape.errors import PolynomialError
from landscape.systems.expressions import derivative, format_polynomial, parse, to_text

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


@given(polynomials)
def test_what_is_written_is_read_back_bit_for_bit(polynomial):
    assert parse(format_polynomial(polynomial, NAMES), NAMES) == polynomial


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
