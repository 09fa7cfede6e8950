"""Units in which the coefficients of a system are as nearly alike as they can be.

Tolerances that are relative to a point, and limits beyond which a point is as good as at infinity, ask of a system
that its unknowns and equations have sensible units. With z_j = 2^a_j w_j and equations times 2^b_i the logarithms of
the coefficients become log2 |c| + b_i + sum_j a_j e_j; the a and b that make the sum of their squares least solve a
linear problem of least squares (Morgan, Solving Polynomial Systems Using Continuation for Engineering and Scientific
Problems, 1987, chapter 5). Powers of two round nothing.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import PolynomialSystem

__all__ = ["Scaled", "scaled"]

#: Larger exponents are cut off: with them, products of a few coefficients would no longer be numbers.
_LARGEST = 100


@frozen(eq=False)
class Scaled:
    """A system in other units.

    Attributes
    ----------
    system
        In w = z / units.
    units
        Powers of two, shape (N,).
    spread
        Largest modulus of a coefficient beside the smallest of its equation; one where there is nothing to compare.
    """

    system: PolynomialSystem
    units: NDArray[np.float64]
    spread: float

    def larger(self, factor: float) -> PolynomialSystem:
        """Return the system in units that are larger by a factor, a power of two."""
        changed = [
            {e: complex(c) * factor ** sum(e) for e, c in polynomial.items()}
            for polynomial in self.system.monomials
        ]
        return PolynomialSystem.from_monomials(changed, self.system.unknowns)


def scaled(system: PolynomialSystem) -> Scaled:
    """Return a system in the units that make the moduli of its coefficients least different."""
    n, monomials = len(system.unknowns), system.monomials
    rows, right = [], []
    for equation, polynomial in enumerate(monomials):
        for exponents, coefficient in polynomial.items():
            row = np.zeros(len(monomials) + n)
            row[equation], row[len(monomials) :] = 1.0, exponents
            rows.append(row)
            right.append(-np.log2(abs(complex(coefficient))))
    if not rows:
        return Scaled(system, np.ones(n), 1.0)
    # Of several solutions this is the shortest, which leaves alone what the equations do not ask for.
    powers = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    exact = np.clip(np.rint(powers), -_LARGEST, _LARGEST)
    factors, units = 2.0 ** exact[: len(monomials)], 2.0 ** exact[len(monomials) :]
    changed, spread = [], 1.0
    for factor, polynomial in zip(factors, monomials, strict=True):
        terms = {e: complex(c) * float(factor * np.prod(units**e)) for e, c in polynomial.items()}
        changed.append(terms)
        moduli = [abs(c) for c in terms.values()]
        spread = max(spread, max(moduli, default=1.0) / min(moduli, default=1.0))
    return Scaled(PolynomialSystem.from_monomials(changed, system.unknowns), units, spread)
