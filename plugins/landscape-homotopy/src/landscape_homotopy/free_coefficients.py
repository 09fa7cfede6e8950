"""The family of all systems with given monomials.

Its solutions can have zeros in any pattern that leaves as many equations as unknowns, each of which needs a start pair
of its own. All 2^N patterns of N unknowns are tried for that, so that systems of more than 16 unknowns are refused;
``TotalDegree`` and solvers for systems with fixed coefficients have no such limit, nor have families that name their
zero patterns themselves, as deep linear networks do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landscape.systems import PolynomialFamily, PolynomialSystem

__all__ = ["coefficient_family"]

Complex = NDArray[np.complex128]


def coefficient_family(system: PolynomialSystem) -> tuple[PolynomialFamily, Complex]:
    """Return the family of all systems with the monomials of `system`, and the coefficients of `system`."""
    prefix = "c"
    while any(name.startswith(prefix) for name in system.unknowns):
        prefix += "_c"
    total = sum(map(len, system.monomials))
    monomials: list[dict[tuple[int, ...], complex]] = []
    coefficients: list[complex] = []
    names: list[str] = []
    for number, polynomial in enumerate(system.monomials, 1):
        lifted = {}
        for term, (exponents, coefficient) in enumerate(polynomial.items(), 1):
            own = [0] * total
            own[len(names)] = 1
            lifted[(*exponents, *own)] = 1.0 + 0j
            names.append(f"{prefix}{number}_{term}")
            coefficients.append(complex(coefficient))
        monomials.append(lifted)
    family = PolynomialFamily.from_monomials(monomials, system.unknowns, names)
    target = np.array(coefficients)
    return family, target if target.imag.any() else target.real
