"""Candidates of any origin made into regular solutions: Newton's method, and what does not survive it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from landscape.errors import PolynomialError
from landscape.systems.polynomial import PolynomialSystem

__all__ = ["Refined", "distinct", "refine"]

#: Newton's corrections of a regular solution end at rounding level, about 1e-15 times its condition; a
#: candidate whose correction stays above this, relative to the point, is not taken for a solution.
_CORRECTION = 1e-8
#: A candidate that Newton's method moves farther than this, relative to the point, led to a solution by
#: chance: it is not what the candidate stands for.
_MOVED = 1e-3
#: From this far, relative to the point, one Newton step must come back to a regular solution tenfold nearer;
#: to a double one it comes back half way.
_DISPLACED = 1e-6
#: A Jacobian worse conditioned than this, rows and columns scaled to one, is singular.
_SINGULAR = 1e12
#: A coordinate this much smaller than the largest is zero; the zeros of regular solutions are at rounding level.
_ZERO = 1e-12
#: Singular values below this, relative to the largest, do not count towards the rank at a singular solution.
_RANK = 1e-8
#: Candidates beyond this are on their way to infinity, where every Jacobian looks singular.
_INFINITE = 1e5
_ITERATIONS = 12


@frozen(eq=False)
class Refined:
    """What became of candidates for solutions.

    Attributes
    ----------
    points
        Distinct regular solutions, shape (n, N), sorted by their coordinates (rounded, real parts before
        imaginary ones). Coordinates at rounding level are exactly zero.
    residuals
        Size of the last Newton correction relative to the point, shape (n,).
    counts
        Where the candidates went: ``unreadable`` (NaN or infinite), ``rejected`` (Newton's method does not
        stay there), ``singular`` (solutions where the Jacobian is singular), ``repeated``; the rest are `points`.
    singular
        The singular solutions as they were given, not polished and not told apart, shape (m, N).
    """

    points: NDArray[np.complex128]
    residuals: NDArray[np.float64]
    counts: Mapping[str, int]
    singular: NDArray[np.complex128]


def _sizes(z: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the largest modulus of each point where it exceeds one, else one: the unit of distances."""
    return np.asarray(np.maximum(np.abs(z).max(axis=1, initial=0.0), 1.0))


def _solve(matrices: NDArray[np.complex128], right: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Solve (n, N, N) x = (n, N, k); NaN where a matrix is exactly singular."""
    try:
        return np.asarray(np.linalg.solve(matrices, right))
    except np.linalg.LinAlgError:
        result = np.full(right.shape, np.nan, dtype=np.complex128)
        for k, (matrix, side) in enumerate(zip(matrices, right, strict=True)):
            try:
                result[k] = np.linalg.solve(matrix, side)
            except np.linalg.LinAlgError:
                continue
        return result


def _corrections(system: PolynomialSystem, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return _solve(system.jacobian(z), -system.value(z)[:, :, None])[:, :, 0]


def _condition(matrices: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return condition numbers in the maximum norm after scaling rows, then columns."""
    tiny = np.finfo(float).tiny
    scaled = matrices / np.maximum(np.abs(matrices).max(axis=2, keepdims=True, initial=0.0), tiny)
    scaled = scaled / np.maximum(np.abs(scaled).max(axis=1, keepdims=True, initial=0.0), tiny)
    identity = np.broadcast_to(np.eye(matrices.shape[1], dtype=np.complex128), matrices.shape)
    inverses = _solve(scaled, identity)
    norms = [np.abs(each).sum(axis=2).max(axis=1, initial=0.0) for each in (scaled, inverses)]
    return np.asarray(norms[0] * norms[1])


def distinct(
    points: NDArray[np.complex128], tolerance: float = 1e-8, errors: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Return a mask that keeps the first of points that are nearer than their errors allow to tell apart.

    Parameters
    ----------
    points
        Shape (n, N).
    tolerance
        Distance, relative to the largest coordinate of the points, up to which they are the same.
    errors
        To which the points are known, shape (n,), in the unit of the points; nearer than ten times that they are the
        same too. Of points near zero nothing else tells when they are the same.

    Returns
    -------
    numpy.ndarray
        Bool of shape (n,).

    Examples
    --------
    >>> distinct(np.array([[1e-10], [2e-10], [2e-10 + 1e-25]])).tolist()
    [True, True, False]
    >>> distinct(np.array([[1e-10], [2e-10]]), errors=np.array([1e-10, 1e-16])).tolist()
    [True, False]

    Notes
    -----
    Points are sorted along a fixed direction, so that only neighbours need comparing.
    """
    n, unknowns = points.shape
    keep = np.ones(n, dtype=bool)
    if n < 2:
        return keep
    direction = np.exp(1j * np.arange(1, unknowns + 1) ** 2) / max(unknowns, 1)
    along = (points @ direction).real
    reaches = tolerance * np.abs(points).max(axis=1, initial=0.0)
    if errors is not None:
        reaches = np.maximum(reaches, 10 * errors)
    order = np.argsort(along, kind="stable")
    # Walks in the order of rank, so that the first of a pair is always the one that was given first.
    for offset in range(1, n):
        left, right = order[:-offset], order[offset:]
        reach = np.maximum(reaches[left], reaches[right])
        near = along[right] - along[left] <= reach
        if not near.any():
            break
        left, right, reach = left[near], right[near], reach[near]
        same = np.abs(points[left] - points[right]).max(axis=1, initial=0.0) <= reach
        keep[np.maximum(left, right)[same]] = False
    return keep


def refine(system: PolynomialSystem, candidates: ArrayLike) -> Refined:
    """Polish candidates with Newton's method and keep the distinct regular solutions among them.

    Parameters
    ----------
    system
        The system.
    candidates
        Shape (n, N): the endpoints of another program, say. They may repeat, be wrong, NaN or infinite.

    Returns
    -------
    Refined
        The solutions, and what became of the other candidates.

    Raises
    ------
    PolynomialError
        When the candidates do not have N coordinates.

    Examples
    --------
    >>> from landscape import PolynomialSystem
    >>> refine(PolynomialSystem(["x^2 - 4"], ["x"]), [[2.0001], [1.9999], [37.0]]).points
    array([[2.+0.j]])
    """
    z = np.array(candidates, dtype=np.complex128)
    unknowns = len(system.unknowns)
    if z.ndim != 2 or z.shape[1] != unknowns:
        raise PolynomialError(f"candidates must have shape (n, {unknowns}), got {z.shape}.")
    total = len(z)
    z = z[np.isfinite(z).all(axis=1)]
    unreadable = total - len(z)
    given = z
    with np.errstate(all="ignore"):
        # A diverged endpoint may overflow; what becomes NaN then is not a solution.
        residuals = np.full(len(z), np.inf)
        for _ in range(_ITERATIONS):
            step = _corrections(system, z)
            correction = np.abs(step).max(axis=1, initial=0.0) / _sizes(z)
            better = correction < residuals
            if not better.any():
                break
            # Rounding ends the improvement; the point before the last, useless correction stays.
            residuals = np.where(better, correction, residuals)
            moved = z + step
            z = np.where((better & np.isfinite(moved).all(axis=1))[:, None], moved, z)
        moved_far = np.abs(z - given).max(axis=1, initial=0.0) > _MOVED * _sizes(given)
        solves = (residuals <= _CORRECTION) & ~moved_far
        regular = solves & _is_regular(system, z)
        singular = ~regular & (solves | _stays(system, given)) & (_sizes(given) < _INFINITE)
    kept = z[regular]
    modulus = np.abs(kept)
    kept = np.where(modulus > _ZERO * modulus.max(axis=1, keepdims=True, initial=0.0), kept, 0.0)
    errors = residuals[regular] * _sizes(kept)
    # Small, and yet not zero, are points that the last correction moved by far less than their size.
    zero = modulus.max(axis=1, initial=0.0) <= np.minimum(_ZERO, 10 * errors)
    kept = np.where(zero[:, None], 0.0, kept)
    first = distinct(kept, errors=errors)
    points, accuracy = kept[first], residuals[regular][first]
    order = _sorted(points)
    return Refined(
        points[order],
        accuracy[order],
        {
            "unreadable": unreadable,
            "rejected": len(z) - int(regular.sum()) - int(singular.sum()),
            "singular": int(singular.sum()),
            "repeated": len(kept) - len(points),
        },
        given[singular],
    )


def _stays(system: PolynomialSystem, z: NDArray[np.complex128]) -> NDArray[np.bool_]:
    """Return where the shortest correction is short: also on curves of solutions, where J is singular."""
    values, jacobians = system.value(z), system.jacobian(z)
    finite = np.isfinite(values).all(axis=1) & np.isfinite(jacobians).all(axis=(1, 2))
    result = np.zeros(len(z), dtype=bool)
    inverses = np.linalg.pinv(jacobians[finite], rcond=_RANK)
    shortest = np.abs((inverses @ values[finite][:, :, None])[:, :, 0]).max(axis=1, initial=0.0)
    result[finite] = shortest <= _DISPLACED * _sizes(z[finite])
    return result


def _is_regular(system: PolynomialSystem, z: NDArray[np.complex128]) -> NDArray[np.bool_]:
    if z.shape[1] == 0 or len(z) == 0:
        return np.ones(len(z), dtype=bool)
    condition = _condition(system.jacobian(z))
    direction = np.exp(1j * np.arange(1, z.shape[1] + 1) ** 2)
    attracts = np.zeros(len(z), dtype=bool)
    moduli = np.abs(z)
    own = moduli.max(axis=1, keepdims=True)
    # At the scale of one, that of the point and those of its coordinates: there may be others within a millionth of the
    # larger ones. Near a multiple solution Newton's method comes no more than half way back at any scale.
    for size in (_sizes(z)[:, None], own, np.where(moduli > 0, moduli, own)):
        distance = np.broadcast_to(_DISPLACED * size, z.shape)
        displaced = z + distance * direction
        back = displaced + _corrections(system, displaced)
        # NaN compares as not less.
        attracts |= (np.abs(back - z) < 0.1 * distance).all(axis=1)
    return np.asarray((condition < _SINGULAR) & attracts)


def _sorted(points: NDArray[np.complex128]) -> NDArray[np.int64]:
    """Return the order by coordinates rounded to 1e-9, so that rounding errors change no order."""
    if points.shape[1] == 0:
        return np.arange(len(points))
    rounded = np.round(points, 9) + 0.0
    keys = [part for column in rounded.T[::-1] for part in (column.imag, column.real)]
    return np.asarray(np.lexsort(keys))
