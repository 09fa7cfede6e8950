"""Polynomials with rational coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from landscape.errors import PolynomialError
from landscape.systems.expressions import ExactMonomials, Gaussian, format_polynomial

if TYPE_CHECKING:
    from landscape.systems.polynomial import PolynomialFamily, PolynomialSystem

__all__ = ["RationalFamily", "RationalMonomials", "rational_monomials"]

#: Exponents of the variables to the coefficient; zero coefficients are left out.
RationalMonomials = dict[tuple[int, ...], Fraction]


def _rational(equations: Sequence[ExactMonomials], names: Sequence[str]) -> tuple[RationalMonomials, ...]:
    found: list[RationalMonomials] = []
    for number, polynomial in enumerate(equations, 1):
        real: RationalMonomials = {}
        for exponents, value in polynomial.items():
            if isinstance(value, Gaussian):
                term = format_polynomial({exponents: value}, names)
                raise PolynomialError(
                    f"equation {number} contains {term}, of which the coefficient is not real, so it is not rational."
                )
            real[exponents] = Fraction(value)
        found.append(real)
    return tuple(found)


def _nonzero(equations: tuple[RationalMonomials, ...]) -> tuple[RationalMonomials, ...]:
    for number, polynomial in enumerate(equations, 1):
        if not polynomial:
            raise PolynomialError(f"equation {number} is identically zero in exact arithmetic.")
    return equations


def rational_monomials(system: PolynomialSystem) -> tuple[RationalMonomials, ...]:
    """Return the equations as ``{exponents: coefficient}``, exactly as their text has them.

    ``0.1`` is 1/10 and ``1/3`` a third, not the double precision numbers nearest to them.

    Raises
    ------
    PolynomialError
        When a coefficient is not real.

    Examples
    --------
    >>> from landscape.systems import PolynomialSystem
    >>> rational_monomials(PolynomialSystem(["0.1*x^2 - 1/3"], ["x"]))
    ({(2,): Fraction(1, 10), (0,): Fraction(-1, 3)},)
    """
    return _rational(system.exact, system.unknowns)


class RationalFamily:
    """A family whose members are written out without any rounding.

    The coefficients of a member are polynomials in its parameters. Rounding them, as ``family.system(p)`` must,
    breaks the relations between them: of a deep linear network with widths (2, 2, 2) the exact member has 33
    isolated solutions, the rounded one 225, of which 192 are far out.

    Parameters
    ----------
    family
        With rational coefficients.

    Raises
    ------
    PolynomialError
        When a coefficient of the family is not real.

    Examples
    --------
    >>> from landscape.systems import PolynomialFamily
    >>> RationalFamily(PolynomialFamily(["x^2 - a/10"], ["x"], ["a"])).at([0.5])
    ({(2,): Fraction(1, 1), (0,): Fraction(-1, 20)},)
    """

    def __init__(self, family: PolynomialFamily) -> None:
        self._unknowns = len(family.unknowns)
        self._parameters = len(family.parameters)
        self._equations = _rational(family.exact, (*family.unknowns, *family.parameters))

    def at(self, p: ArrayLike) -> tuple[RationalMonomials, ...]:
        """Return the member with the parameters `p`, shape (M,), as the double precision numbers they are.

        Raises
        ------
        PolynomialError
            When a parameter is not real and finite, there are not M, or an equation is identically zero.
        """
        values = np.asarray(p)
        if values.shape != (self._parameters,):
            raise PolynomialError(f"parameters must have shape ({self._parameters},), got {values.shape}.")
        if np.iscomplexobj(values):
            if values.imag.any():
                raise PolynomialError("the parameters are not real, so they are not rational.")
            values = values.real
        if not np.isfinite(values).all():
            raise PolynomialError("parameters must be finite; some are NaN or infinite.")
        exact = [Fraction(float(value)) for value in values]
        n = self._unknowns
        members: list[RationalMonomials] = []
        for polynomial in self._equations:
            member: RationalMonomials = {}
            for exponents, coefficient in polynomial.items():
                for value, power in zip(exact, exponents[n:], strict=True):
                    if power:
                        coefficient *= value**power
                member[exponents[:n]] = member.get(exponents[:n], Fraction(0)) + coefficient
            members.append({exponents: value for exponents, value in member.items() if value != 0})
        return _nonzero(tuple(members))
