"""Polynomials as text, and as sparse monomials.

A polynomial is held as a mapping from exponents to complex coefficients: ``{(2, 0): 1, (1, 1): 3}`` is
``x^2 + 3*x*y`` in the variables ``(x, y)``. Text is read by a small parser of its own; nothing is evaluated.
"""

from __future__ import annotations

import re
from cmath import isfinite
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from landscape.errors import PolynomialError, nearest

__all__ = ["Monomials", "check_names", "degree", "derivative", "format_polynomial", "parse", "to_text"]

#: Exponents of the variables, in their order, to the coefficient. Zero coefficients are left out.
Monomials = dict[tuple[int, ...], complex]

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[jJ]?(?![A-Za-z_0-9.]))"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<operator>\*\*|[-+*/^()]))"
)
#: Powers above this are taken for a slip of the pen; a power of a sum is written out in full.
_MAXIMAL_POWER = 1000


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


def _multiply(left: Monomials, right: Monomials) -> Monomials:
    total: Monomials = {}
    for a, p in left.items():
        for b, q in right.items():
            exponents = tuple(map(int.__add__, a, b))
            total[exponents] = total.get(exponents, 0) + p * q
    return {exponents: coefficient for exponents, coefficient in total.items() if coefficient != 0}


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

    def constant(self, value: complex) -> Monomials:
        return {(0,) * self.variables: value} if value != 0 else {}

    def parse(self) -> Monomials:
        result = self.sum()
        token = self.peek()
        if token.kind != "end":
            self.fail(f"unexpected {token.text!r} (products need a *)", token.position)
        return result

    def sum(self) -> Monomials:
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

    def product(self) -> Monomials:
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
            result = {exponents: coefficient / divisor for exponents, coefficient in result.items()}

    def signed(self) -> Monomials:
        if self.take("-"):
            return {exponents: -coefficient for exponents, coefficient in self.signed().items()}
        if self.take("+"):
            return self.signed()
        return self.power()

    def power(self) -> Monomials:
        base = self.atom()
        position = self.peek().position
        if not self.take("^", "**"):
            return base
        exponent = self.number(self.signed(), "an exponent must be a number", position)
        if exponent.imag or exponent.real != int(exponent.real) or not 0 <= exponent.real <= _MAXIMAL_POWER:
            self.fail(f"an exponent must be a whole number from 0 to {_MAXIMAL_POWER}", position)
        times = int(exponent.real)
        if len(base) == 1:
            ((exponents, coefficient),) = base.items()
            return {tuple(times * e for e in exponents): coefficient**times}
        result = self.constant(1)
        for _ in range(times):
            result = _multiply(result, base)
        return result

    def number(self, polynomial: Monomials, complaint: str, position: int) -> complex:
        if any(any(exponents) for exponents in polynomial):
            self.fail(complaint, position)
        return complex(sum(polynomial.values()))

    def atom(self) -> Monomials:
        token = self.peek()
        self.next += 1
        if token.kind == "number":
            value = complex(token.text.lower())
            if not isfinite(value) or (value == 0 and re.search(r"[1-9]", re.split("[eE]", token.text)[0])):
                self.fail(f"the number {token.text} is outside the range of double precision", token.position)
            return self.constant(value)
        if token.kind == "name":
            if token.text in self.names:
                exponents = [0] * self.variables
                exponents[self.names[token.text]] = 1
                return {tuple(exponents): 1.0 + 0j}
            if token.text == "I":
                return self.constant(1j)
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


def parse(text: str, variables: Sequence[str]) -> Monomials:
    """Read one polynomial in `variables`.

    ``^`` and ``**`` are powers, ``I`` is the imaginary unit and ``2.5j`` an imaginary number; products need
    their ``*``.

    Raises
    ------
    PolynomialError
        For a name that is not among `variables`, wherever the text is no polynomial, and for coefficients outside
        the range of double precision.

    Examples
    --------
    >>> parse("(x + y)^2 - 2*x*y", ("x", "y")) == {(2, 0): 1, (0, 2): 1}
    True
    """
    if not text.strip():
        raise PolynomialError("cannot read a polynomial from an empty string; write 0 for zero.")
    try:
        polynomial = _Parser(text, variables).parse()
    except RecursionError:
        raise PolynomialError(
            f"cannot read {text[:60]!r}...: parentheses are nested too deeply; expand it first."
        ) from None
    except OverflowError:
        polynomial = {(): complex("inf")}
    if not all(map(isfinite, polynomial.values())):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise PolynomialError(
            f"a coefficient of {shown!r} is not finite: it leaves the range of double precision. Scale the "
            f"unknowns or the equation."
        )
    return polynomial


def derivative(polynomial: Monomials, variable: int) -> Monomials:
    """Return the partial derivative with respect to variable number `variable`."""
    result: Monomials = {}
    for exponents, coefficient in polynomial.items():
        power = exponents[variable]
        if power:
            lowered = (*exponents[:variable], power - 1, *exponents[variable + 1 :])
            result[lowered] = coefficient * power
    return result


def degree(polynomial: Monomials) -> int:
    """Return the total degree; a constant has degree 0."""
    return max((sum(exponents) for exponents in polynomial), default=0)


def _real(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _monomial(exponents: Sequence[int], variables: Sequence[str]) -> str:
    powers = zip(variables, exponents, strict=True)
    return "*".join(name if power == 1 else f"{name}^{power}" for name, power in powers if power) or "1"


def format_polynomial(
    polynomial: Monomials,
    variables: Sequence[str],
    *,
    imaginary: str = "I",
    number: Callable[[float], str] = _real,
) -> str:
    """Write a polynomial that :func:`parse` reads back to the same coefficients, bit for bit.

    Raises
    ------
    PolynomialError
        For a coefficient that is NaN or infinite.
    """
    if not polynomial:
        return "0"
    for exponents, coefficient in polynomial.items():
        if not isfinite(coefficient):
            raise PolynomialError(
                f"the coefficient of {_monomial(exponents, variables)} is {coefficient}; coefficients must "
                f"be finite."
            )
    text = ""
    for exponents in sorted(polynomial, key=lambda e: (-sum(e), tuple(-k for k in e))):
        coefficient = complex(polynomial[exponents])
        factors = [
            name if power == 1 else f"{name}^{power}"
            for name, power in zip(variables, exponents, strict=True)
            if power
        ]
        sign = "+"
        if coefficient.imag == 0:
            sign = "-" if coefficient.real < 0 else "+"
            if abs(coefficient.real) != 1 or not factors:
                factors.insert(0, number(abs(coefficient.real)))
        else:
            inner = "-" if coefficient.imag < 0 else "+"
            real, imag = number(coefficient.real), number(abs(coefficient.imag))
            factors.insert(0, f"({real} {inner} {imag}*{imaginary})")
        term = "*".join(factors)
        if text:
            text += f" {sign} {term}"
        else:
            text = f"-{term}" if sign == "-" else term
    return text


def to_text(equation: Any) -> str:
    """Return an equation given as text, a number or a SymPy expression as text.

    SymPy is imported only when the equation is neither text nor a number.

    Raises
    ------
    PolynomialError
        When it is none of these, or a SymPy expression that is no polynomial with numeric coefficients.
    """
    if isinstance(equation, str):
        return equation
    if isinstance(equation, (int, float, complex)):
        return format_polynomial({(): complex(equation)} if equation else {}, ())
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
    symbols = sorted(equation.free_symbols, key=str)
    if not symbols:
        return format_polynomial({(): complex(equation)} if equation != 0 else {}, ())
    try:
        terms = sympy.Poly(equation, *symbols).terms()
        monomials = {tuple(int(e) for e in exponents): complex(value) for exponents, value in terms}
    except (sympy.PolynomialError, TypeError) as error:
        raise PolynomialError(f"{equation} is no polynomial with numeric coefficients: {error}") from error
    return format_polynomial({e: c for e, c in monomials.items() if c != 0}, [str(s) for s in symbols])
