"""Polynomials as text, and as sparse monomials.

A polynomial is held as a mapping from exponents to coefficients: ``{(2, 0): 1, (1, 1): 3}`` is ``x^2 + 3*x*y`` in
the variables ``(x, y)``. Text is read by a small parser of its own; nothing is evaluated as code. It means what it
says: ``1/3`` is a third and ``0.1`` a tenth. Coefficients are computed as such by :func:`parse_exact`, and rounded
to double precision once, at the end, by :func:`parse`.
"""

from __future__ import annotations

import re
from cmath import isfinite
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import lcm
from numbers import Complex, Rational, Real
from typing import Any, NamedTuple, NoReturn

import numpy as np

from landscape.errors import PolynomialError, nearest

__all__ = [
    "Exact",
    "ExactMonomials",
    "Gaussian",
    "Monomials",
    "check_names",
    "degree",
    "derivative",
    "exact",
    "format_polynomial",
    "in_full",
    "parse",
    "parse_exact",
    "rounded",
    "rounded_polynomial",
    "to_text",
]

#: Exponents of the variables, in their order, to the coefficient. Zero coefficients are left out.
Monomials = dict[tuple[int, ...], complex]


class Gaussian:
    """A complex number whose real and imaginary parts are rational, the latter not zero.

    Sums, differences, products and quotients are exact; what has no imaginary part is returned as a real number.
    """

    __slots__ = ("imag", "real")

    def __init__(self, real: int | Fraction, imag: int | Fraction) -> None:
        self.real = real
        self.imag = imag

    @staticmethod
    def of(real: int | Fraction, imag: int | Fraction) -> Exact:
        """Return the number with these parts, as a real one where it is."""
        return Gaussian(real, imag) if imag else real

    def __repr__(self) -> str:
        return f"Gaussian({self.real}, {self.imag})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Gaussian):
            return NotImplemented
        return self.real == other.real and self.imag == other.imag

    def __hash__(self) -> int:
        return hash((self.real, self.imag))

    def __neg__(self) -> Gaussian:
        return Gaussian(-self.real, -self.imag)

    def __add__(self, other: Exact) -> Exact:
        if isinstance(other, Gaussian):
            return Gaussian.of(self.real + other.real, self.imag + other.imag)
        return Gaussian(self.real + other, self.imag)

    __radd__ = __add__

    def __mul__(self, other: Exact) -> Exact:
        if isinstance(other, Gaussian):
            return Gaussian.of(
                self.real * other.real - self.imag * other.imag,
                self.real * other.imag + self.imag * other.real,
            )
        return Gaussian.of(self.real * other, self.imag * other)

    __rmul__ = __mul__

    def __complex__(self) -> complex:
        return complex(float(self.real), float(self.imag))


#: A coefficient without rounding error.
Exact = int | Fraction | Gaussian
#: Exponents of the variables, in their order, to the coefficient, which is not rounded. Zeros are left out.
ExactMonomials = dict[tuple[int, ...], Exact]

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[jJ]?(?![A-Za-z_0-9.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<operator>\*\*|[-+*/^()]))"
)
#: Powers above this are taken for a slip of the pen; a power of a sum is written out in full.
_MAXIMAL_POWER = 1000
#: Powers whose coefficients have more bits than this are refused before they fill the memory.
_MOST_BITS = 1 << 20
#: Digits of roots, pi and other numbers that SymPy knows and that are not rational.
_DIGITS = 40


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def check_names(names: Sequence[str], role: str) -> tuple[str, ...]:
    """Return `names` as a tuple when each may name a variable and none stands twice.

    Raises
    ------
    PolynomialError
        For a name that is no identifier, for ``I`` (the imaginary unit), and for repetitions.
    """
    if isinstance(names, str):
        raise PolynomialError(
            f"{role} must be a sequence of names, got the string {names!r}; write ({names!r},) for one name."
        )
    checked = tuple(str(name) for name in names)
    for name in checked:
        if not _NAME.match(name):
            raise PolynomialError(f"{name!r} cannot name one of the {role}; use letters, digits and _.")
        if name == "I":
            raise PolynomialError(f"'I' cannot name one of the {role}: it is the imaginary unit. Rename it.")
    repeated = sorted({name for name in checked if checked.count(name) > 1})
    if repeated:
        raise PolynomialError(f"{role} repeat {', '.join(map(repr, repeated))}; every name stands once.")
    return checked


def _multiply(left: ExactMonomials, right: ExactMonomials) -> ExactMonomials:
    total: ExactMonomials = {}
    for a, p in left.items():
        for b, q in right.items():
            exponents = tuple(map(int.__add__, a, b))
            total[exponents] = total.get(exponents, 0) + p * q
    return {exponents: coefficient for exponents, coefficient in total.items() if coefficient != 0}


def _parts(value: Exact) -> tuple[int | Fraction, int | Fraction]:
    return (value.real, value.imag) if isinstance(value, Gaussian) else (value, 0)


def _power(base: ExactMonomials, times: int, one: ExactMonomials) -> ExactMonomials:
    """Return base^times, with whole numbers on the way: sums of fractions look for common factors all the time."""
    below = lcm(*(part.denominator for value in base.values() for part in _parts(value)))
    whole = {e: _over(value * below, 1) for e, value in base.items()}
    if len(whole) == 1:
        ((exponents, coefficient),) = whole.items()
        result: ExactMonomials = {tuple(times * e for e in exponents): _whole_power(coefficient, times)}
    else:
        result = one
        for _ in range(times):
            result = _multiply(result, whole)
    return {e: _over(value, below**times) for e, value in result.items()} if below > 1 else result


def _whole_power(value: Exact, times: int) -> Exact:
    if not isinstance(value, Gaussian):
        return value**times
    result: Exact = 1
    for bit in bin(times)[2:]:
        result = result * result
        if bit == "1":
            result = result * value
    return result


def _over(value: Exact, below: int) -> Exact:
    """Return value / below, as whole numbers where they are: Python computes with these much faster."""
    if isinstance(value, Gaussian):
        return Gaussian.of(_divided(value.real, below), _divided(value.imag, below))
    return _divided(value, below)


def _divided(value: int | Fraction, below: int) -> int | Fraction:
    quotient = Fraction(value, below)
    return quotient.numerator if quotient.denominator == 1 else quotient


def _inverse(value: Exact) -> Exact:
    if isinstance(value, Gaussian):
        size = Fraction(value.real * value.real + value.imag * value.imag)
        return Gaussian(value.real / size, -value.imag / size)
    return 1 / Fraction(value)


def exact(number: Any) -> Exact:
    """Return a finite number for exactly what it is: a float is a whole multiple of a power of two.

    Raises
    ------
    PolynomialError
        For what is no finite number.
    """
    if isinstance(number, (int, Fraction, Gaussian)):
        return int(number) if isinstance(number, bool) else number
    try:
        if isinstance(number, Rational):
            return _divided(int(number.numerator), int(number.denominator))
        if isinstance(number, (Real, Decimal)):
            return _divided(Fraction(number if isinstance(number, Decimal) else float(number)), 1)
        if isinstance(number, Complex):
            value = complex(number)
            return Gaussian.of(_divided(Fraction(value.real), 1), _divided(Fraction(value.imag), 1))
    except (OverflowError, ValueError):
        raise PolynomialError(f"coefficients must be finite, got {number}.") from None
    raise PolynomialError(f"{number!r} is no number.")


def rounded(value: Exact) -> complex:
    """Return the double precision number nearest to `value`, which is not zero.

    Raises
    ------
    PolynomialError
        When `value` is outside the range of double precision.
    """
    try:
        nearest_ = complex(value)
    except OverflowError:
        nearest_ = 0j
    if nearest_ == 0:
        raise PolynomialError("it leaves the range of double precision")
    return nearest_


class _Parser:
    """Recursive descent over ``+ - * / ^ ** ( )``, numbers and names."""

    def __init__(self, text: str, variables: Sequence[str]) -> None:
        self.text = text
        self.names = {name: number for number, name in enumerate(variables)}
        self.variables = len(variables)
        self.tokens = list(self._tokens())
        self.next = 0

    def fail(self, what: str, position: int) -> NoReturn:
        shown = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        raise PolynomialError(f"cannot read {shown!r}: {what} at character {position + 1}.")

    def _tokens(self) -> list[_Token]:
        tokens, position, end = [], 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                start = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                self.fail(f"unexpected {self.text[start]!r}", start)
            kind = match.lastgroup
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return tokens

    def peek(self) -> _Token:
        if self.next < len(self.tokens):
            return self.tokens[self.next]
        return _Token("end", "the end", len(self.text))

    def take(self, *texts: str) -> bool:
        token = self.peek()
        if token.kind == "operator" and token.text in texts:
            self.next += 1
            return True
        return False

    def constant(self, value: Exact) -> ExactMonomials:
        return {(0,) * self.variables: value} if value != 0 else {}

    def parse(self) -> ExactMonomials:
        result = self.sum()
        token = self.peek()
        if token.kind != "end":
            self.fail(f"unexpected {token.text!r} (products need a *)", token.position)
        return result

    def sum(self) -> ExactMonomials:
        result = dict(self.product())
        while True:
            if self.take("+"):
                sign = 1
            elif self.take("-"):
                sign = -1
            else:
                return result
            # In place: a gradient written out has thousands of terms.
            for exponents, coefficient in self.product().items():
                value = result.get(exponents, 0) + sign * coefficient
                if value == 0:
                    result.pop(exponents, None)
                else:
                    result[exponents] = value

    def product(self) -> ExactMonomials:
        result = self.signed()
        while True:
            if self.take("*"):
                result = _multiply(result, self.signed())
                continue
            position = self.peek().position
            if not self.take("/"):
                return result
            divisor = self.number(self.signed(), "only a non-zero number may stand below a /", position)
            if divisor == 0:
                self.fail("division by zero", position)
            inverse = _inverse(divisor)
            result = {exponents: _over(coefficient * inverse, 1) for exponents, coefficient in result.items()}

    def signed(self) -> ExactMonomials:
        if self.take("-"):
            return {exponents: -coefficient for exponents, coefficient in self.signed().items()}
        if self.take("+"):
            return self.signed()
        return self.power()

    def power(self) -> ExactMonomials:
        base = self.atom()
        position = self.peek().position
        if not self.take("^", "**"):
            return base
        exponent = self.number(self.signed(), "an exponent must be a number", position)
        if not isinstance(exponent, int) or not 0 <= exponent <= _MAXIMAL_POWER:
            self.fail(f"an exponent must be a whole number from 0 to {_MAXIMAL_POWER}", position)
        if exponent == 0:
            return self.constant(1)
        bits = [
            part.numerator.bit_length() + part.denominator.bit_length()
            for value in base.values()
            for part in _parts(value)
        ]
        if exponent * max(bits, default=0) > _MOST_BITS:
            self.fail(
                "the coefficients of this power have too many digits, in the range of double precision or "
                "outside it",
                position,
            )
        return _power(base, exponent, self.constant(1))

    def number(self, polynomial: ExactMonomials, complaint: str, position: int) -> Exact:
        if any(any(exponents) for exponents in polynomial):
            self.fail(complaint, position)
        return next(iter(polynomial.values()), 0)

    def atom(self) -> ExactMonomials:
        token = self.peek()
        self.next += 1
        if token.kind == "number":
            return self.constant(self.literal(token))
        if token.kind == "name":
            if token.text in self.names:
                exponents = [0] * self.variables
                exponents[self.names[token.text]] = 1
                return {tuple(exponents): 1}
            if token.text == "I":
                return self.constant(Gaussian(0, 1))
            raise PolynomialError(
                f"unknown variable {token.text!r} in {self.text!r}; declared are "
                f"{', '.join(self.names) or 'none'}.{nearest(token.text, self.names)}"
            )
        if token.kind == "operator" and token.text == "(":
            inner = self.sum()
            if not self.take(")"):
                self.fail("a ( is not closed", token.position)
            return inner
        self.fail(f"unexpected {token.text}", token.position)

    def literal(self, token: _Token) -> Exact:
        if not token.text.isdigit():
            value = complex(token.text.lower())
            if not isfinite(value) or (value == 0 and re.search(r"[1-9]", re.split("[eE]", token.text)[0])):
                self.fail(f"the number {token.text} is outside the range of double precision", token.position)
            if value == 0:
                return 0
        # Whole numbers may be larger: where one stands above another, only the quotient has to be in range.
        try:
            number = _divided(Fraction(token.text.rstrip("jJ")), 1)
        except ValueError:  # Python reads no more than 4300 digits
            self.fail(f"the number {token.text[:20]}... has too many digits", token.position)
        return Gaussian(0, number) if token.text[-1] in "jJ" else number


def parse_exact(text: str, variables: Sequence[str]) -> ExactMonomials:
    """Read one polynomial in `variables` without rounding anything.

    ``^`` and ``**`` are powers, ``I`` is the imaginary unit and ``2.5j`` an imaginary number; products need
    their ``*``. Decimals are what they are in writing: ``0.1`` is 1/10.

    Raises
    ------
    PolynomialError
        For a name that is not among `variables`, wherever the text is no polynomial, and for coefficients outside
        the range of double precision.

    Examples
    --------
    >>> parse_exact("(x - 1/3)^2 + 0.1", ("x",))
    {(2,): 1, (1,): Fraction(-2, 3), (0,): Fraction(19, 90)}
    """
    if not text.strip():
        raise PolynomialError("cannot read a polynomial from an empty string; write 0 for zero.")
    try:
        return _Parser(text, variables).parse()
    except RecursionError:
        raise PolynomialError(
            f"cannot read {text[:60]!r}...: parentheses are nested too deeply; expand it first."
        ) from None


def rounded_polynomial(polynomial: ExactMonomials, text: str) -> Monomials:
    """Return `polynomial`, which was read from `text`, with the double precision numbers nearest to its coefficients.

    Raises
    ------
    PolynomialError
        When a coefficient is outside the range of double precision.
    """
    try:
        return {exponents: rounded(coefficient) for exponents, coefficient in polynomial.items()}
    except PolynomialError as error:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise PolynomialError(
            f"a coefficient of {shown!r} is too large or too small: {error}. Scale the unknowns or the equation."
        ) from None


def parse(text: str, variables: Sequence[str]) -> Monomials:
    """Read one polynomial as :func:`parse_exact` does, and round its coefficients to double precision.

    Raises
    ------
    PolynomialError
        As :func:`parse_exact`.

    Examples
    --------
    >>> parse("(x + y)^2 - 2*x*y", ("x", "y")) == {(2, 0): 1, (0, 2): 1}
    True
    """
    return rounded_polynomial(parse_exact(text, variables), text)


def derivative(polynomial: Mapping[tuple[int, ...], Any], variable: int) -> dict[tuple[int, ...], Any]:
    """Return the partial derivative with respect to variable number `variable`, of either kind of coefficients."""
    result: dict[tuple[int, ...], Any] = {}
    for exponents, coefficient in polynomial.items():
        power = exponents[variable]
        if power:
            lowered = (*exponents[:variable], power - 1, *exponents[variable + 1 :])
            result[lowered] = coefficient * power
    return result


def degree(polynomial: Mapping[tuple[int, ...], Any]) -> int:
    """Return the total degree; a constant has degree 0."""
    return max((sum(exponents) for exponents in polynomial), default=0)


def in_full(value: int | Fraction, division: str = "/") -> str:
    """Write the modulus of a number: in full as a decimal where that has an end, else as a fraction."""
    above, below = abs(value.numerator), value.denominator
    twos = (below & -below).bit_length() - 1
    rest, fives = below >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{above}{division}{below}"
    places = max(twos, fives)
    digits = str(above * 2 ** (places - twos) * 5 ** (places - fives))
    if places == 0:
        short = digits.rstrip("0")
        return digits if len(digits) - len(short) < 15 else f"{short}e{len(digits) - len(short)}"
    if len(digits) > places:
        return f"{digits[:-places]}.{digits[-places:]}"
    if places - len(digits) < 5:
        return f"0.{digits:0>{places}}"
    return f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{len(digits) - 1 - places}"


def _monomial(exponents: Sequence[int], variables: Sequence[str]) -> str:
    powers = zip(variables, exponents, strict=True)
    return "*".join(name if power == 1 else f"{name}^{power}" for name, power in powers if power) or "1"


def format_polynomial(
    polynomial: Mapping[tuple[int, ...], Any],
    variables: Sequence[str],
    *,
    imaginary: str = "I",
    number: Callable[[int | Fraction], str] = in_full,
) -> str:
    """Write a polynomial that :func:`parse_exact` reads back to the very same coefficients.

    Floating-point numbers are written in full, with all their digits: ``0.1`` given as such is
    0.1000000000000000055511151231257827021181583404541015625.

    Parameters
    ----------
    polynomial
        Exponents to coefficients: whole numbers, fractions, floating-point and complex numbers.
    variables
        Names.
    imaginary
        What the imaginary unit is called.
    number
        Writes the modulus of a real number.

    Raises
    ------
    PolynomialError
        For a coefficient that is NaN or infinite, or a fraction with more digits than can be read back.
    """
    if not polynomial:
        return "0"
    text = ""
    for exponents in sorted(polynomial, key=lambda e: (-sum(e), tuple(-k for k in e))):
        try:
            real, imag = _parts(exact(polynomial[exponents]))
        except PolynomialError:
            raise PolynomialError(
                f"the coefficient of {_monomial(exponents, variables)} is {polynomial[exponents]}; coefficients "
                f"must be finite numbers."
            ) from None
        factors = [
            name if power == 1 else f"{name}^{power}"
            for name, power in zip(variables, exponents, strict=True)
            if power
        ]
        sign = "+"
        try:
            if imag == 0:
                sign = "-" if real < 0 else "+"
                if abs(real) != 1 or not factors:
                    factors.insert(0, number(real))
            else:
                before, inner = "-" if real < 0 else "", "-" if imag < 0 else "+"
                parts = number(real), number(imag)
                factors.insert(0, f"({before}{parts[0]} {inner} {parts[1]}*{imaginary})")
        except ValueError:  # Python writes and reads no whole number of more than 4300 digits
            raise PolynomialError(
                f"the coefficient of {_monomial(exponents, variables)} has too many digits to be written."
            ) from None
        term = "*".join(factors)
        if text:
            text += f" {sign} {term}"
        else:
            text = f"-{term}" if sign == "-" else term
    return text


def to_text(equation: Any) -> str:
    """Return an equation given as text, a number or a SymPy expression as text.

    Rational numbers are written exactly, floating-point numbers (SymPy's too) as the binary numbers they are, and
    other numbers that SymPy knows, such as roots and pi, to 40 digits. SymPy is imported only when the equation is
    neither text nor a number.

    Raises
    ------
    PolynomialError
        When it is none of these, or a SymPy expression that is no polynomial with numeric coefficients.
    """
    if isinstance(equation, str):
        return equation
    if isinstance(equation, (int, float, complex, Fraction, Decimal, np.number)):
        return format_polynomial({(): equation} if equation else {}, ())
    try:
        import sympy
    except ImportError:
        sympy = None
    if sympy is None or not isinstance(equation, (sympy.Expr, sympy.Equality, sympy.Poly)):
        raise PolynomialError(
            f"an equation must be text or a SymPy expression, got {type(equation).__name__}: {equation!r}."
        )
    if isinstance(equation, sympy.Equality):
        equation = equation.lhs - equation.rhs
    if isinstance(equation, sympy.Poly):
        equation = equation.as_expr()
    # A single floating-point number would make SymPy round all other coefficients.
    equation = equation.xreplace({number: sympy.Rational(number) for number in equation.atoms(sympy.Float)})
    symbols = sorted(equation.free_symbols, key=str)

    def number(value: Any) -> Exact:
        parts = []
        for part in value.as_real_imag():
            if not part.is_Rational:
                part = sympy.Rational(str(sympy.N(part, _DIGITS)))
            parts.append(_divided(int(part.p), int(part.q)))
        return Gaussian.of(*parts)

    try:
        terms = sympy.Poly(equation, *symbols).terms() if symbols else [((), equation)]
        monomials = {tuple(int(e) for e in exponents): number(value) for exponents, value in terms}
    except (sympy.PolynomialError, TypeError, ValueError) as error:
        raise PolynomialError(f"{equation} is no polynomial with numeric coefficients: {error}") from error
    return format_polynomial({e: c for e, c in monomials.items() if c != 0}, [str(s) for s in symbols])
