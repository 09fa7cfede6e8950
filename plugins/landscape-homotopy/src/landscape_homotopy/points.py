"""What solvers of this plugin ask of sets of points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from landscape_homotopy.double_double import extended_precision
from landscape_homotopy.tracker import Homotopy, solve_batched

__all__ = [
    "ALPHA",
    "CONDITION",
    "NEAR",
    "SAME",
    "SUSPECT",
    "ZERO",
    "distinct",
    "equilibrated",
    "generic",
    "is_nonzero",
    "is_regular",
]

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
#: Between that and this a point may be a regular solution of a badly scaled member, which a Newton step with a residual
#: in twice the precision decides: the inverse of the Jacobian is known to a hundredth. Above nothing is known of it.
_DECIDABLE = 1e14
#: A point with another solution nearer than about this, relative to its coordinates, cannot be told from a multiple
#: one: Newton's method in double precision finds a double solution to about 1e-8.
NEAR = 1e-8
#: And one with another solution nearer than this may be one of the points that rounding makes of a solution of higher
#: multiplicity: of a five-fold one, at a distance of about 1e-3.
SUSPECT = 1e-3
#: Largest product of the length of a Newton step and the relative change of the Jacobian per length at a regular
#: solution; 1/2 would do for exact numbers (Kantorovich), and a double solution has 1/2.
ALPHA = 0.05
#: Relative size of the steps along which the change of a Jacobian is measured.
_PROBED = 1e-4


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
    """Return at which of the points (n, N) the Jacobian J is regular.

    Two things are asked: that the condition of the equilibrated J is below `CONDITION`, and that
    ``|J(z)^-1 (J(z + h) - J(z))|``, in the scale of the coordinates, is below one for steps h of size `NEAR`. In a
    multiple solution J is as small as the point is far from it, by rounding, so that the second is large there
    whatever the scale of the equations; at a regular one it says that no other solution is as near as that.

    A point that fails these, with a condition of `_DECIDABLE` at most, may be a regular one of a badly conditioned
    member, and one that would fail the second for h of size `SUSPECT` near a solution of multiplicity three or more.
    Then a Newton step with a residual in double-double arithmetic decides: with its length beta and the above divided
    by the size of h, omega, a regular solution known to rounding has beta omega far below one, a multiple one about 1/2
    or more, however well it is known (it halves the distance at best). Below `ALPHA` Newton's method converges
    quadratically (Kantorovich), so that there is a regular solution at that point.

    Parameters
    ----------
    family
        The family.
    z
        Shape (n, N).
    p
        Parameters, shape (M,), or (n, M): every point has its own.
    """
    n = z.shape[1]
    if len(z) == 0 or n == 0:
        return np.ones(len(z), dtype=bool)
    parameters = np.broadcast_to(p.astype(np.complex128), (len(z), p.shape[-1]))
    jacobian = family.jacobian(z, parameters)
    matrices = equilibrated(jacobian)
    inverses = solve_batched(matrices, np.broadcast_to(np.eye(n, dtype=np.complex128), matrices.shape))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        condition = np.abs(matrices).sum(axis=2).max(axis=1) * np.abs(inverses).sum(axis=2).max(axis=1)
        # NaN, for an exactly singular matrix, compares as not less.
        regular = np.asarray(condition < _DECIDABLE)
        uncertain = regular & (condition >= CONDITION)
        # The origin has no scale, and no rounding that could hide that it is multiple.
        moduli = np.abs(z)
        scale = np.maximum(moduli, 0.01 * moduli.max(axis=1, keepdims=True))
        regular &= ~uncertain | (scale > 0).all(axis=1)
        which = np.flatnonzero(regular & (scale > 0).all(axis=1))
        if which.size == 0:
            return regular
        omega = np.zeros(len(which))
        for turn in (1, 2):
            step = scale[which] * np.exp(1j * turn * np.arange(1, n + 1) ** 2)
            # The change is nearly linear in h: from steps that rounding does not swamp it is known for small ones.
            change = family.jacobian(z[which] + _PROBED * step, parameters[which]) - jacobian[which]
            size = scale[which, None, :]
            moved = solve_batched(jacobian[which] * size, change * size)
            omega = np.maximum(omega, np.abs(moved).sum(axis=2).max(axis=1) / _PROBED)
        regular[which[~(omega * NEAR < 1.0) | uncertain[which]]] = False
        doubtful = ~(omega * SUSPECT < 1.0) | uncertain[which]
        which, omega = which[doubtful], omega[doubtful]
        extended = extended_precision(family) if which.size else None
        if extended is not None:
            value = extended.value(z[which], parameters[which])
            correction = solve_batched(jacobian[which], value[:, :, None])[:, :, 0]
            beta = (np.abs(correction) / scale[which]).max(axis=1)
            regular[which] = beta * omega < ALPHA
    return regular


def generic(rng: np.random.Generator, size: int) -> Complex:
    """Return complex parameters with moduli in [0.5, 1.5] and uniform phases: none is near zero."""
    return np.asarray(rng.uniform(0.5, 1.5, size) * np.exp(2j * np.pi * rng.random(size)))
