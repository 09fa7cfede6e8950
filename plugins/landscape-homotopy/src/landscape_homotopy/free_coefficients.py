"""The family of all systems with given monomials.

Its solutions can have zeros in any pattern that leaves as many equations as unknowns, each of which needs a start pair
of its own. All 2^N patterns of N unknowns are tried for that, so that systems of more than 16 unknowns are refused;
``TotalDegree`` and solvers for systems with fixed coefficients have no such limit, nor have families that name their
zero patterns themselves, as deep linear networks do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from landscape.systems import PolynomialFamily, PolynomialSystem

__all__ = ["coefficient_family"]

Complex = NDArray[np.complex128]


@frozen(slots=False)
class _CoefficientFamily(PolynomialFamily):
    """All systems with the monomials of one, which knows the coefficients of that one without rounding.

    Attributes
    ----------
    origin
        The system whose monomials these are.
    """

    origin: PolynomialSystem = field(kw_only=True)

    def written_out(self, p: NDArray[Any]) -> tuple[PolynomialFamily, NDArray[Any]]:
        """Return the family and `p`; for the rounded coefficients of the system it came from, that system itself."""
        if np.array_equal(np.asarray(p), _coefficients(self.origin)):
            return PolynomialFamily(self.origin.equations, self.origin.unknowns, ()), np.zeros(0)
        return super().written_out(p)


def _coefficients(system: PolynomialSystem) -> NDArray[Any]:
    target = np.array(
        [c for polynomial in system.monomials for c in polynomial.values()], dtype=np.complex128
    )
    return target if target.imag.any() else target.real


def coefficient_family(system: PolynomialSystem) -> tuple[PolynomialFamily, NDArray[Any]]:
    """Return the family of all systems with the monomials of `system`, and the coefficients of `system`.

    They are rounded to double precision, as parameters are; what is certified of the member with these parameters is
    certified of `system` as it is written.
    """
    prefix = "c"
    while any(name.startswith(prefix) for name in system.unknowns):
        prefix += "_c"
    total = sum(map(len, system.monomials))
    monomials: list[dict[tuple[int, ...], int]] = []
    names: list[str] = []
    for number, polynomial in enumerate(system.monomials, 1):
        lifted = {}
        for term, exponents in enumerate(polynomial, 1):
            own = [0] * total
            own[len(names)] = 1
            lifted[(*exponents, *own)] = 1
            names.append(f"{prefix}{number}_{term}")
        monomials.append(lifted)
    family = _CoefficientFamily.from_monomials(monomials, system.unknowns, names, origin=system)
    return family, _coefficients(system)
