"""Units of unknowns and parameters that a family does not notice.

With z_j = 2^a_j w_j and p_k = 2^c_k q_k an equation is multiplied by a number where all its terms are multiplied by the
same. The exponents (a, c) for which that is so of every equation are the integer solutions of a linear system; then w
solves the member q exactly when z solves the member p, and powers of two round nothing. So a member with inputs of a
million is one with inputs of a thousand and others of its parameters smaller, and is solved as such.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily
from landscape_homotopy.circuit import Circuit, circuit_of

__all__ = ["InUnits", "in_units", "symmetries"]

#: Larger exponents are cut off: with them, products of a few coefficients would no longer be numbers.
_LARGEST = 100
#: Moduli of zero have no logarithm, and no say.
_TINY = 1e-300


@frozen(eq=False)
class InUnits:
    """Members of a family in units of their own.

    Attributes
    ----------
    parameters
        q of each member, shape (samples, M).
    units
        Powers of two, shape (samples, N): solutions are z = units w.
    """

    parameters: NDArray[np.generic]
    units: NDArray[np.float64]


def _weights(circuit: Circuit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the exponents of the terms of every sum that F needs: differences that must vanish, (rows, N + M).

    Every register is a monomial in the units of z and p, in which all its terms agree.
    """
    constants, n, m = len(circuit.constants), circuit.unknowns, circuit.parameters
    size = n + m
    needed = int(max(circuit.values.max(initial=-1) + 1 - circuit.inputs, 0))
    exponents = np.zeros((circuit.inputs + needed, size), dtype=np.int64)
    exponents[constants + np.arange(size), np.arange(size)] = 1
    differences = [np.zeros((0, size), dtype=np.int64)]
    for number in range(needed):
        own = slice(circuit.first[number], circuit.first[number + 1])
        terms = exponents[circuit.left[own]] + exponents[circuit.right[own]]
        exponents[circuit.inputs + number] = terms[0]
        differences.append(terms[1:] - terms[0])
    return np.unique(np.concatenate(differences), axis=0), exponents


def _kernel(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a basis of the integer vectors that the rows map to zero, shape (dimension, columns)."""
    basis = np.eye(rows.shape[1], dtype=np.int64)
    for row in rows:
        products = basis @ row
        moved = np.flatnonzero(products)
        if moved.size == 0:
            continue
        pivot = moved[np.abs(products[moved]).argmin()]
        others = moved[moved != pivot]
        basis[others] = products[pivot] * basis[others] - products[others, None] * basis[pivot]
        basis = np.delete(basis, pivot, axis=0)
        basis //= np.maximum(np.gcd.reduce(basis, axis=1), 1)[:, None]
    return basis


@lru_cache(maxsize=64)
def symmetries(family: ParametricFamily) -> NDArray[np.int64]:
    """Return a basis of the exponents (a, c) of units that leave the family as it is, shape (dimension, N + M).

    None but zero for families that are no circuits.
    """
    circuit = circuit_of(family)
    size = len(family.unknown_names) + len(family.parameter_names)
    if circuit is None:
        return np.zeros((0, size), dtype=np.int64)
    return _kernel(_weights(circuit)[0])


def in_units(family: ParametricFamily, parameters: NDArray[np.generic]) -> InUnits:
    """Return members (samples, M) in the units in which their parameters are nearest to one.

    The sum of squares of the logarithms of those that are not zero is least, up to whole exponents.
    """
    n = len(family.unknown_names)
    units, changed = np.ones((len(parameters), n)), parameters.copy()
    basis = symmetries(family).astype(np.float64)
    if not len(basis) or not len(parameters):
        return InUnits(changed, units)
    for row, own in enumerate(parameters):
        moduli = np.abs(own)
        known = np.flatnonzero(moduli > _TINY)
        # Of several solutions lstsq takes the shortest, which leaves alone what the parameters do not ask for.
        factors = np.linalg.lstsq(basis[:, n + known].T, np.log2(moduli[known]), rcond=None)[0]
        exponents = np.rint(factors) @ basis
        if np.abs(exponents).max(initial=0.0) > _LARGEST:
            continue
        units[row] = 2.0 ** exponents[:n]
        changed[row] = own * 2.0 ** -exponents[n:]
    return InUnits(changed, units)
