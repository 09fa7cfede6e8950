"""Multiplicity of a solution, and whether it is isolated, from the equations at that point alone.

The polynomials of degree <= k in the derivatives at a point that annihilate the ideal of the equations form a
vector space D_k, the kernel of a Macaulay matrix: its columns are the derivatives of order <= k, its rows the
equations times monomials. If D_k = D_{k-1} the point is isolated, and dim D_k is its multiplicity; at a point of
a curve or surface of solutions the dimensions grow without end, and once they exceed an upper bound on the
multiplicity, such as the number of paths that end there, the point is known not to be isolated (Bates,
Hauenstein, Peterson and Sommese, A numerical local dimension test for points on the solution set of a system of
polynomial equations, SIAM J. Numer. Anal. 47 (2009); Dayton and Zeng, Computing the multiplicity structure in
solving polynomial systems, ISSAC 2005).
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import PolynomialSystem

__all__ = ["LocalStructure", "local_structure"]

Complex = NDArray[np.complex128]

#: Singular values below this are zero, the largest coefficient of an equation being one. Ends of singular paths
#: are known to about 1e-10.
_RANK = 1e-7
#: Larger Macaulay matrices are not built: the answer is then "unknown". One of this size takes a second.
_COLUMNS = 1500
#: Where there are curves or surfaces of solutions there are some at these distances, relative to the point, in every
#: direction; no farther off than so many distances, and found with so many steps.
_NEARBY, _AROUND, _CORRECTIONS = (0.3, 0.1, 0.01), 5.0, 60
#: Equations are solved when they are smaller than this part of the sum of the moduli of their terms. Near an isolated
#: solution they are like a power of the distance, at most the multiplicity: 0.3^24.
_VANISHING = 1e-13


@frozen
class LocalStructure:
    """What the equations say of one solution.

    Attributes
    ----------
    isolated
        True; False where other solutions are nearby, and there are more derivatives than an isolated solution could
        have, or too many for the matrices; None where there are as many, and yet no other solutions nearby.
    multiplicity
        The multiplicity where `isolated`, else the last dimension found, a lower bound on it.
    """

    isolated: bool | None
    multiplicity: int


def _exponents(variables: int, degree: int) -> list[tuple[int, ...]]:
    """Return all exponents of total degree <= degree, by rising degree."""
    found = []
    for total in range(degree + 1):
        for chosen in combinations_with_replacement(range(variables), total):
            exponents = [0] * variables
            for variable in chosen:
                exponents[variable] += 1
            found.append(tuple(exponents))
    return found


def _shifted(system: PolynomialSystem, point: Complex, scale: float) -> list[dict[tuple[int, ...], complex]]:
    """Return the equations in w, with z = point + scale w, largest coefficients one."""
    n = len(point)
    result = []
    for polynomial in system.monomials:
        total: dict[tuple[int, ...], complex] = {}
        for exponents, coefficient in polynomial.items():
            terms: dict[tuple[int, ...], complex] = {(0,) * n: complex(coefficient)}
            for variable, power in enumerate(exponents):
                if not power:
                    continue
                following: dict[tuple[int, ...], complex] = {}
                for done, value in terms.items():
                    for k in range(power + 1):
                        factor = comb(power, k) * complex(point[variable]) ** (power - k) * scale**k
                        if factor:
                            raised = (*done[:variable], k, *done[variable + 1 :])
                            following[raised] = following.get(raised, 0) + value * factor
                terms = following
            for done, value in terms.items():
                total[done] = total.get(done, 0) + value
        largest = max(map(abs, total.values()), default=1.0) or 1.0
        result.append({e: c / largest for e, c in total.items()})
    return result


def _continues(system: PolynomialSystem, point: Complex, scale: float) -> bool:
    """Return whether there are solutions nearby, at every one of a few distances.

    They are looked for on hyperplanes, where equations and that of the plane are one more than there are unknowns, by
    the method of Gauss and Newton.
    """
    n = len(point)
    kernel = np.linalg.svd(system.jacobian(point[None])[0])[2].conj()
    # Directions in which the equations change least, and mixtures of them.
    directions = [kernel[-1], *(np.exp(1j * np.arange(1, n + 1) ** 2 * k) @ kernel for k in (1, 2))]
    for distance in _NEARBY:
        for direction in directions:
            normal = direction / np.linalg.norm(direction)
            step = distance * scale
            z = point + step * normal
            for _ in range(_CORRECTIONS):
                matrix = np.vstack([system.jacobian(z[None])[0] * scale, normal.conj()])
                values = np.append(system.value(z[None])[0], np.vdot(normal, z - point) / scale - distance)
                change = np.linalg.lstsq(matrix, values, rcond=None)[0] * scale
                z = z - change
                if not np.abs(z - point).max() < _AROUND * step or np.abs(change).max() < 1e-14 * scale:
                    break
            reached = np.abs(z) + step
            sizes = [sum(abs(c) * float(np.prod(reached**e)) for e, c in f.items()) for f in system.monomials]
            solved = np.abs(system.value(z[None])[0]) <= _VANISHING * np.maximum(sizes, 1e-300)
            on_plane = abs(np.vdot(normal, z - point) / step - 1.0) < 1e-6
            if solved.all() and on_plane and np.abs(z - point).max() < _AROUND * step:
                break
        else:
            return False
    return True


def local_structure(system: PolynomialSystem, point: Complex, most: int) -> LocalStructure:
    """Return whether a solution is isolated, and its multiplicity.

    Parameters
    ----------
    system
        The equations.
    point
        A solution, shape (N,), accurate to about 1e-10.
    most
        An upper bound on the multiplicity of the point if it is isolated: how many paths end there.
    """
    n = len(point)
    scale = max(1.0, float(np.abs(point).max(initial=0.0)))
    # At the point itself every equation vanishes, up to the error of the point.
    shifted = [
        {e: c for e, c in polynomial.items() if any(e)} for polynomial in _shifted(system, point, scale)
    ]
    before = 1
    for degree in range(1, most + 2):
        columns = _exponents(n, degree)
        if len(columns) > _COLUMNS:
            break
        index = {exponents: number for number, exponents in enumerate(columns)}
        rows = []
        for shift in _exponents(n, degree - 1):
            for polynomial in shifted:
                row = np.zeros(len(columns), dtype=np.complex128)
                for exponents, coefficient in polynomial.items():
                    position = index.get(tuple(map(int.__add__, exponents, shift)))
                    if position is not None:
                        row[position] = coefficient
                if row.any():
                    rows.append(row)
        values = np.linalg.svd(np.array(rows), compute_uv=False) if rows else np.zeros(0)
        rank = int((values > _RANK).sum())
        dimension = len(columns) - rank
        if dimension == before:
            return LocalStructure(True, dimension)
        if dimension > most:
            # `most` is too small where paths that belong here were lost.
            before = dimension
            break
        before = dimension
    # One equation in one unknown has isolated solutions only.
    return LocalStructure(False if n > 1 and _continues(system, point, scale) else None, before)
