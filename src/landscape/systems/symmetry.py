"""Sign symmetries: z solves the system if and only if z with some signs flipped does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SignGroup", "kernel_mod_2"]


def _echelon_mod_2(matrix: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[int]]:
    """Return the reduced row echelon form over GF(2), without zero rows, and its pivot columns."""
    rows = matrix.copy()
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        rank = len(pivots)
        below = np.flatnonzero(rows[rank:, column])
        if below.size == 0:
            continue
        first = rank + int(below[0])
        rows[[rank, first]] = rows[[first, rank]]
        others = rows[:, column].copy()
        others[rank] = False
        rows[others] ^= rows[rank]
        pivots.append(column)
        if len(pivots) == rows.shape[0]:
            break
    return rows[: len(pivots)], pivots


def kernel_mod_2(matrix: ArrayLike) -> NDArray[np.bool_]:
    """Return a basis of {s : matrix s = 0 mod 2}, shape (dimension, columns)."""
    dense = np.atleast_2d(np.asarray(matrix)).astype(np.int64) % 2 == 1
    columns = dense.shape[1]
    rows, pivots = _echelon_mod_2(dense)
    free = [column for column in range(columns) if column not in pivots]
    basis = np.zeros((len(free), columns), dtype=bool)
    for number, column in enumerate(free):
        basis[number, column] = True
        basis[number, pivots] = rows[:, column]
    return basis


class SignGroup:
    """A group of sign changes of N unknowns.

    Parameters
    ----------
    generators
        Bool of shape (g, N): generator k flips the signs of the unknowns where row k is true. They need not
        be independent.
    unknowns
        N, needed when there are no generators.

    Notes
    -----
    After row reduction over GF(2) every generator owns one *pivot* unknown that no other generator flips.
    On points without zero coordinates the group acts freely, and the monomials of :meth:`invariants` tell
    orbits apart.
    """

    def __init__(self, generators: Sequence[Sequence[bool]] | NDArray[np.bool_], unknowns: int) -> None:
        dense = np.asarray(generators, dtype=bool).reshape(len(generators), unknowns)
        self.generators, pivots = _echelon_mod_2(dense)
        self._pivots = np.array(pivots, dtype=np.int64)

    def __repr__(self) -> str:
        return f"SignGroup(order={self.order}, unknowns={self.generators.shape[1]})"

    @property
    def order(self) -> int:
        """The number of sign changes, a power of two."""
        return 1 << len(self._pivots)

    def elements(self) -> NDArray[np.float64]:
        """Return all sign changes, shape (order, N), entries +1 and -1; the identity first."""
        signs = np.ones((1, self.generators.shape[1]))
        for generator in self.generators:
            signs = np.concatenate([signs, np.where(generator, -signs, signs)])
        return signs

    def orbits(self, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return the orbits of points (n, N) without zero coordinates, shape (n, order, N)."""
        # np.where rather than a product: -1 * (0 + 0j) would leave negative zeros behind.
        return np.where(self.elements() < 0, -z[:, None, :], z[:, None, :])

    def invariants(self, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return what is equal for two points without zero coordinates exactly when they share an orbit.

        Pivot unknowns become z_p^2 / |z_p|, every other one is multiplied by z_p / |z_p| of the pivots that
        flip with it, so that invariants have the magnitudes of the unknowns and depend continuously on them.

        Parameters
        ----------
        z
            Shape (n, N).

        Returns
        -------
        numpy.ndarray
            Shape (n, N).
        """
        result = z.copy()
        if self._pivots.size == 0:
            return result
        pivots = z[:, self._pivots]
        moduli = np.abs(pivots)
        zero = moduli <= 1e-12 * np.abs(z).max(axis=1, initial=0.0)[:, None]
        phases = np.where(zero, 1.0, pivots / np.where(zero, 1.0, moduli))
        for number, generator in enumerate(self.generators):
            result[:, generator] *= phases[:, number, None]
        return result

    def moves_everything(self) -> bool:
        """Return whether every unknown is flipped by some sign change: then only 0 is fixed by all."""
        return bool(self.generators.any(axis=0).all())
