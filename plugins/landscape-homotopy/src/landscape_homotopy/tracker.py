"""Many solution paths of a parameter homotopy, tracked together.

A path is the solution z(t) of F(z; p(t)) = 0 with p(t) = (1 - t) p_0 + t p_1, t from 0 to 1. All paths of a
batch advance at once, each with its own t and step length; paths that are done leave the batch.

Predictor: the polynomial that agrees with z and dz/dt at the last two accepted points (cubic Hermite) or the
last three (quintic), continued. Corrector: Newton, whose last linear solve also yields the next tangent.
Step control follows the contraction theta = |second Newton step| / |first| rather than the distance from
prediction to solution: theta says where in the domain of quadratic convergence the prediction fell, whatever
the scale of the problem, which is the protection against jumping to another path (Timme, Mixed precision path
tracking for polynomial homotopy continuation, Adv. Comput. Math. 2021; Deuflhard, Newton Methods for
Nonlinear Problems, 2004, section 5.1).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

__all__ = ["LOST", "REGULAR", "Homotopy", "Settings", "Tracked", "polish", "solve_batched", "track"]

Complex = NDArray[np.complex128]


class Homotopy(Protocol):
    """What the tracker needs of F(z; p), batched: z (B, N) and p (B, M). Parametric families have it."""

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        """Return dF/dz, shape (B, N, N)."""

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        """Return F (B, N) and dF/dz (B, N, N)."""

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        """Return the derivative of F along `dp` of shape (B, M), shape (B, N)."""


#: Outcomes of a path: a regular solution, or none.
REGULAR, LOST = 0, 1


@frozen
class Settings:
    """How carefully to track.

    Attributes
    ----------
    contraction
        Aimed-at theta of a step. Newton converges from anywhere with theta < 1/2 (Deuflhard); HomotopyContinuation.jl
        rejects above 0.125.
    displacement
        Largest first Newton step, relative to the point, that a step may need.
    first_step
        Length of the first step, where there is nothing to extrapolate from but the tangent.
    smallest_step
        A path that needs shorter steps is lost.
    most_steps
        A path that needs more steps is lost.
    order
        3 or 5: degree of the predicting polynomial.
    """

    contraction: float = 0.02
    displacement: float = 0.05
    first_step: float = 0.02
    smallest_step: float = 1e-9
    most_steps: int = 1500
    order: int = 5


@frozen(eq=False)
class Tracked:
    """Endpoints.

    Attributes
    ----------
    points
        Shape (n, N); meaningless where lost.
    residuals
        Relative size of the last Newton correction, shape (n,).
    outcome
        REGULAR or LOST, shape (n,).
    steps
        Steps tried, over all paths.
    """

    points: Complex
    residuals: NDArray[np.float64]
    outcome: NDArray[np.int64]
    steps: int


def solve_batched(matrices: Complex, right: Complex) -> Complex:
    """Return matrices^-1 right, shapes (B, N, N) and (B, N, k); NaN where a matrix is exactly singular."""
    try:
        return np.asarray(np.linalg.solve(matrices, right))
    except np.linalg.LinAlgError:
        result = np.full(right.shape, np.nan, dtype=np.complex128)
        for row in range(len(matrices)):
            try:
                result[row] = np.linalg.solve(matrices[row], right[row])
            except np.linalg.LinAlgError:
                continue
        return result


def _weights(z: Complex) -> NDArray[np.float64]:
    """Return the scale of every coordinate: its modulus, but at least a hundredth of the largest.

    A jump that shows only in a small coordinate is still seen (the floor is that of HomotopyContinuation.jl).
    """
    moduli = np.abs(z)
    return np.asarray(np.maximum(moduli, 0.01 * moduli.max(axis=1, keepdims=True) + 1e-12))


def _size(step: Complex, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((np.abs(step) / weights).max(axis=1))


def _hermite(
    s: NDArray[np.float64], nodes: list[NDArray[np.float64]], values: list[Complex], slopes: list[Complex]
) -> Complex:
    """Evaluate the polynomial with given values and slopes at the nodes, by divided differences.

    Times have shape (B,), values and slopes (B, N). Each node counts twice, so that k nodes give degree
    2k - 1.
    """
    times = [t for t in nodes for _ in range(2)]
    table = [v for v in values for _ in range(2)]
    coefficients = [table[0]]
    for level in range(1, len(times)):
        following = []
        for i in range(len(times) - level):
            if level == 1 and i % 2 == 0:
                following.append(slopes[i // 2])
            else:
                following.append((table[i + 1] - table[i]) / (times[i + level] - times[i])[:, None])
        table = following
        coefficients.append(table[0])
    result = coefficients[-1]
    for coefficient, time in zip(coefficients[-2::-1], times[len(coefficients) - 2 :: -1], strict=True):
        result = result * (s - time)[:, None] + coefficient
    return result


def polish(
    family: Homotopy, z: Complex, p: Complex, iterations: int = 6
) -> tuple[Complex, NDArray[np.float64], NDArray[np.float64]]:
    """Return z after Newton's method, the relative size of its last correction, and the last contraction.

    Iterates until corrections no longer shrink, at most `iterations` times.
    """
    if z.shape[1] == 0:
        return z, np.zeros(len(z)), np.zeros(len(z))
    with np.errstate(all="ignore"):
        z = z.copy()
        last = np.full(len(z), np.inf)
        contraction = np.full(len(z), np.inf)
        active = np.arange(len(z))
        for _ in range(iterations):
            value, jacobian = family.value_and_jacobian(z[active], p[active])
            step = solve_batched(jacobian, -value[:, :, None])[:, :, 0]
            size = _size(step, _weights(z[active]))
            # Rounding keeps the corrections of a converged point from shrinking; it is left where it is.
            better = size < last[active]
            moving = active[better]
            contraction[moving] = np.where(
                np.isinf(last[moving]), contraction[moving], size[better] / last[moving]
            )
            z[moving] += step[better]
            last[moving] = size[better]
            active = moving[size[better] > 1e-15]
            if active.size == 0:
                break
    return z, last, contraction


def track(family: Homotopy, start: Complex, p0: Complex, p1: Complex, settings: Settings) -> Tracked:
    """Track solutions of F(.; p0) to solutions of F(.; p1).

    Parameters
    ----------
    family
        The family.
    start
        Solutions at `p0`, shape (n, N).
    p0, p1
        Parameters at both ends, shape (n, M): every path has its own.
    settings
        How carefully.
    """
    n, unknowns = start.shape
    points = start.astype(np.complex128, copy=True)
    outcome = np.full(n, LOST)
    if unknowns == 0 or n == 0:
        return Tracked(points, np.zeros(n), np.full(n, REGULAR), 0)
    tried = 0
    with np.errstate(all="ignore"):
        tried = _advance(family, points, outcome, p0, p1, settings)
        arrived = np.flatnonzero(outcome == REGULAR)
        residuals = np.full(n, np.nan)
        if arrived.size:
            before = points[arrived]
            after, last, _ = polish(family, before, p1[arrived])
            moved = _size(after - before, _weights(after))
            # A regular end is where Newton stays put: it moves less than it did along the way, and the
            # corrections end at rounding level.
            good = (last < 1e-9) & (moved < settings.displacement) & np.isfinite(after).all(axis=1)
            points[arrived] = after
            residuals[arrived] = last
            outcome[arrived[~good]] = LOST
    return Tracked(points, residuals, outcome, tried)


def _advance(
    family: Homotopy,
    points: Complex,
    outcome: NDArray[np.int64],
    p0: Complex,
    p1: Complex,
    settings: Settings,
) -> int:
    """Advance all paths; write endpoints into `points` and REGULAR into `outcome` where t reached 1."""
    power = 1.0 / (settings.order + 1)
    which = np.arange(len(points))
    z, origin, dp = points.copy(), np.ascontiguousarray(p0), p1 - p0
    value, jacobian = family.value_and_jacobian(z, origin)
    slope = -solve_batched(jacobian, family.parameter_derivative(z, origin, dp)[:, :, None])[:, :, 0]
    t = np.zeros(len(z))
    h = np.full(len(z), settings.first_step)
    # Up to two earlier points of every path. A path that has fewer repeats the tangent as a made-up point, so
    # that one formula serves all: before t = 0 the path is taken to be straight.
    t_1, z_1, slope_1 = t - h, z - h[:, None] * slope, slope
    t_2, z_2, slope_2 = t - 2 * h, z - 2 * h[:, None] * slope, slope
    grew = np.ones(len(z), dtype=bool)
    tried = 0
    for _ in range(settings.most_steps):
        tried += len(z)
        target = np.minimum(t + h, 1.0)
        if settings.order == 5:
            guess = _hermite(target, [t, t_1, t_2], [z, z_1, z_2], [slope, slope_1, slope_2])
        else:
            guess = _hermite(target, [t, t_1], [z, z_1], [slope, slope_1])
        p = origin + target[:, None] * dp
        value, jacobian = family.value_and_jacobian(guess, p)
        first = -solve_batched(jacobian, value[:, :, None])[:, :, 0]
        closer = guess + first
        weights = _weights(closer)
        first_size = _size(first, weights)
        value, jacobian = family.value_and_jacobian(closer, p)
        right = np.stack([value, family.parameter_derivative(closer, p, dp)], axis=2)
        solved = -solve_batched(jacobian, right)
        second, new_slope = solved[:, :, 0], solved[:, :, 1]
        second_size = _size(second, weights)
        # Below rounding level a contraction means nothing.
        theta = second_size / np.maximum(first_size, 1e-12)
        ratio = np.maximum(theta / settings.contraction, first_size / settings.displacement)
        accepted = (ratio < 4.0) & (second_size < 1e-3) & (theta < 0.25) & np.isfinite(ratio)
        # Where the second correction was still large, the tangent and the point deserve one more.
        rough = np.flatnonzero(accepted & (second_size > 1e-6))
        closer = closer + second
        if rough.size:
            value, jacobian = family.value_and_jacobian(closer[rough], p[rough])
            right = np.stack([value, family.parameter_derivative(closer[rough], p[rough], dp[rough])], axis=2)
            solved = -solve_batched(jacobian, right)
            closer[rough] += solved[:, :, 0]
            new_slope[rough] = solved[:, :, 1]
        factor = np.clip((0.5 / np.maximum(ratio, 1e-12)) ** power, 0.25, np.where(grew, 2.5, 1.0))
        factor[~np.isfinite(factor)] = 0.25
        grew = accepted
        factor = np.where(accepted, factor, np.minimum(factor, 0.5))
        step = target - t
        h = np.where(accepted, np.maximum(step, h * 0.25), step) * factor
        mask = accepted[:, None]
        t_2, z_2, slope_2 = (
            np.where(accepted, t_1, t_2),
            np.where(mask, z_1, z_2),
            np.where(mask, slope_1, slope_2),
        )
        t_1, z_1, slope_1 = (
            np.where(accepted, t, t_1),
            np.where(mask, z, z_1),
            np.where(mask, slope, slope_1),
        )
        t, z, slope = (
            np.where(accepted, target, t),
            np.where(mask, closer, z),
            np.where(mask, new_slope, slope),
        )
        done = t >= 1.0
        if done.any():
            points[which[done]] = z[done]
            outcome[which[done]] = REGULAR
        keep = np.flatnonzero(~done & (h > settings.smallest_step) & (np.abs(z).max(axis=1) < 1e10))
        if keep.size == 0:
            break
        if keep.size < len(z):
            which, t, h, grew = which[keep], t[keep], h[keep], grew[keep]
            origin, dp, z, slope = origin[keep], dp[keep], z[keep], slope[keep]
            t_1, z_1, slope_1 = t_1[keep], z_1[keep], slope_1[keep]
            t_2, z_2, slope_2 = t_2[keep], z_2[keep], slope_2[keep]
    return tried
