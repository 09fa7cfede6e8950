"""What solvers of this plugin ask of sets of points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landscape_homotopy.tracker import Homotopy, solve_batched

__all__ = ["CONDITION", "SAME", "ZERO", "distinct", "equilibrated", "generic", "is_nonzero", "is_regular"]

Complex = NDArray[np.complex128]

#: Two points are one solution when they differ by less than this, relative to their largest coordinate.
#: Regular solutions are polished to about 1e-14.
SAME = 1e-8
#: A coordinate is taken for zero when it is this much smaller than the largest; after Newton's method the
#: zeros of a regular solution are at rounding level.
ZERO = 1e-12
#: A start pair whose Jacobian is worse conditioned than this is singular. Generic ones of the families tried
#: stay below 1e6, singular ones come out at 1e15 and above.
CONDITION = 1e12


def distinct(groups: NDArray[np.int64], points: Complex, tolerance: float = SAME) -> NDArray[np.bool_]:
    """Return a mask that keeps the first of points that coincide within their group.

    Points are sorted along a fixed direction, so that only neighbours need comparing.
    """
    n, unknowns = points.shape
    keep = np.ones(n, dtype=bool)
    if n < 2:
        return keep
    direction = np.exp(1j * np.arange(1, unknowns + 1) ** 2) / max(unknowns, 1)
    along = (points @ direction).real
    size = np.maximum(np.abs(points).max(axis=1, initial=0.0), 1.0)
    order = np.lexsort((along, groups))
    for offset in range(1, n):
        left, right = order[:-offset], order[offset:]
        reach = tolerance * np.maximum(size[left], size[right])
        near = (groups[left] == groups[right]) & (along[right] - along[left] <= reach)
        if not near.any():
            break
        left, right, reach = left[near], right[near], reach[near]
        same = np.abs(points[left] - points[right]).max(axis=1, initial=0.0) <= reach
        keep[np.maximum(left, right)[same]] = False
    return keep


def is_nonzero(z: Complex) -> NDArray[np.bool_]:
    """Return which coordinates are not at rounding level, shape of z."""
    moduli = np.abs(z)
    return np.asarray(moduli > ZERO * moduli.max(axis=1, keepdims=True, initial=0.0))


def with_zeros(
    z: Complex, origin_solves: Callable[[], bool], accuracy: float | NDArray[np.float64] = ZERO
) -> Complex:
    """Return the solutions (n, N) of one system with zeros in place of coordinates at rounding level.

    Parameters
    ----------
    z
        Distinct solutions.
    origin_solves
        Whether zero solves the system exactly. If so, a point that is tiny beside the others stands for it.
    accuracy
        To what part of its largest coordinate each point is known, shape (n,) or ().
    """
    moduli = np.abs(z)
    sizes = moduli.max(axis=1, initial=0.0)
    threshold = np.broadcast_to(np.maximum(accuracy, ZERO), sizes.shape)
    z = np.where(moduli > (threshold * sizes)[:, None], z, 0.0)
    tiny = sizes < threshold * (sizes.max(initial=0.0) if len(z) > 1 else 1.0)
    if tiny.any() and origin_solves():
        z[tiny] = 0.0
    return z


def equilibrated(matrices: Complex) -> Complex:
    """Scale rows, then columns, to largest entries of one: conditioning apart from units."""
    tiny = np.finfo(float).tiny
    scaled = matrices / np.maximum(np.abs(matrices).max(axis=2, keepdims=True), tiny)
    return np.asarray(scaled / np.maximum(np.abs(scaled).max(axis=1, keepdims=True), tiny))


def is_regular(family: Homotopy, z: Complex, p: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return at which of the points (n, N) the Jacobian of the member `p` is regular."""
    n = z.shape[1]
    if len(z) == 0 or n == 0:
        return np.ones(len(z), dtype=bool)
    matrices = equilibrated(family.jacobian(z, np.tile(p.astype(np.complex128), (len(z), 1))))
    inverses = solve_batched(matrices, np.broadcast_to(np.eye(n, dtype=np.complex128), matrices.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        condition = np.abs(matrices).sum(axis=2).max(axis=1) * np.abs(inverses).sum(axis=2).max(axis=1)
    # NaN, for an exactly singular matrix, compares as not less.
    return np.asarray(condition < CONDITION)


def generic(rng: np.random.Generator, size: int) -> Complex:
    """Return complex parameters with moduli in [0.5, 1.5] and uniform phases: none is near zero."""
    return np.asarray(rng.uniform(0.5, 1.5, size) * np.exp(2j * np.pi * rng.random(size)))
