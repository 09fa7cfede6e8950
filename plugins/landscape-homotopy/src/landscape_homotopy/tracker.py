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

Three engines do the same: one advances arrays of paths with numpy; another, where numba is installed and the family
is a circuit (:mod:`landscape_homotopy.circuit`), one path after another in a compiled loop, which takes a tenth of
the time for small systems; the third advances arrays with torch on a device (:mod:`landscape_homotopy.device`). Their
ends differ by rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Protocol

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily
from landscape_homotopy.circuit import Circuit, Walked, circuit_of
from landscape_homotopy.double_double import Extended, extended_precision
from landscape_homotopy.predictor import hermite_weights

__all__ = ["LOST", "NOISE", "REGULAR", "Homotopy", "Settings", "Tracked", "polish", "solve_batched", "track"]

Complex = NDArray[np.complex128]


class Homotopy(Protocol):
    """What the tracker needs of F(z; p), batched: z (B, N) and p (B, M). Parametric families have it."""

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        """Return dF/dz, shape (B, N, N)."""

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        """Return F (B, N) and dF/dz (B, N, N)."""

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        """Return the derivative of F along `dp` of shape (B, M), shape (B, N)."""


#: Paths (of N unknowns) that the compiled engine follows in one go have at most this many N^3 together.
_CUBES = 2_000_000
#: Relative size of the last correction of Newton's method at a regular end.
_CONVERGED = 1e-9
#: Where it stays above the first and below the second of these, it is worth computing residuals in double-double
#: arithmetic: rounding in double precision leaves 1e-16 times the condition.
_POLISHED, _ROUGH = 1e-12, 1e-3
#: Corrections below this, relative to the point, may be rounding errors, which do not contract: 1e-16 times a
#: condition of up to a million. Two paths that are so near to each other cannot be told apart anyway.
NOISE = 1e-10
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
    device
        Where torch follows paths, as ``"cuda"``; None for the CPU, without torch. Families that are no circuits,
        and residuals in double-double arithmetic, stay on the CPU.
    """

    contraction: float = 0.02
    displacement: float = 0.05
    first_step: float = 0.02
    smallest_step: float = 1e-9
    most_steps: int = 1500
    order: int = 5
    device: str | None = None


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
    extended
        Ends that needed residuals in double-double arithmetic, shape (n,).
    """

    points: Complex
    residuals: NDArray[np.float64]
    outcome: NDArray[np.int64]
    steps: int
    extended: NDArray[np.bool_] = field(
        default=Factory(lambda self: np.zeros(len(self.points), dtype=bool), takes_self=True)
    )


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


def _hermite(s: NDArray[np.float64], nodes: NDArray[np.float64], history: Complex) -> Complex:
    """Evaluate the polynomial that has given values and slopes at the nodes.

    Parameters
    ----------
    s
        Where, shape (B,).
    nodes
        Times, shape (B, k).
    history
        Values at the nodes, then slopes, shape (B, 2 k, N).
    """
    weights = np.stack(hermite_weights(s, nodes), axis=1)
    return np.asarray((weights[:, None, :] @ history)[:, 0])


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


def track(
    family: Homotopy,
    start: Complex,
    p0: Complex,
    p1: Complex,
    settings: Settings,
    via: Sequence[Complex] = (),
) -> Tracked:
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
    via
        Parameters to pass on the way, each of shape (n, M): the way is a polygon then.
    """
    n, unknowns = start.shape
    points = start.astype(np.complex128, copy=True)
    outcome = np.full(n, LOST)
    extended = np.zeros(n, dtype=bool)
    if unknowns == 0 or n == 0:
        return Tracked(points, np.zeros(n), np.full(n, REGULAR), 0)
    with np.errstate(all="ignore"):
        tried = _engine(family, points, outcome, np.array([p0, *via, p1]), settings)
        arrived = np.flatnonzero(outcome == REGULAR)
        residuals = np.full(n, np.nan)
        if arrived.size:
            before = points[arrived]
            circuit = _circuit(family) if settings.device is not None else None
            if circuit is None or settings.device is None:
                after, last, _ = polish(family, before, p1[arrived])
            else:
                after, last = _device_engine().polish(circuit, before, p1[arrived], settings.device)
            moved = _size(after - before, _weights(after))
            # A regular end is where Newton stays put: it moves less than it did along the way, and the
            # corrections end at rounding level.
            close = (moved < settings.displacement) & np.isfinite(after).all(axis=1)
            # Where the Jacobian is badly conditioned, corrections stay above that because residuals are rounded.
            rough = np.flatnonzero(close & (last > _POLISHED) & (last < _ROUGH))
            precise = extended_precision(family) if rough.size else None
            if precise is not None:
                refined, corrections, _ = polish(precise, after[rough], p1[arrived[rough]])
                better = corrections < last[rough]
                rough, refined, corrections = rough[better], refined[better], corrections[better]
                after[rough], last[rough] = refined, corrections
                moved[rough] = _size(after[rough] - before[rough], _weights(after[rough]))
                extended[arrived[rough]] = last[rough] < _CONVERGED
            good = close & (last < _CONVERGED) & (moved < settings.displacement)
            points[arrived] = after
            residuals[arrived] = last
            outcome[arrived[~good]] = LOST
    return Tracked(points, residuals, outcome, tried, extended)


@cache
def compiled_engine() -> ModuleType | None:
    """Return the module of the compiled engine, or None where numba is not installed."""
    try:
        from landscape_homotopy import compiled
    except ImportError:
        return None
    return compiled


@cache
def _device_engine() -> ModuleType:
    # Imported here: it imports this module.
    from landscape_homotopy import device

    return device


def _circuit(family: Homotopy) -> Circuit | None:
    if isinstance(family, Walked):
        return family.circuit
    return circuit_of(family) if isinstance(family, ParametricFamily) else None


def _engine(
    family: Homotopy, points: Complex, outcome: NDArray[np.int64], corners: Complex, settings: Settings
) -> int:
    """Advance all paths with the fastest engine there is; see :func:`_advance`."""
    compiled = compiled_engine()
    if isinstance(family, Extended) and compiled is not None:
        return _compiled(compiled, family.circuit, points, outcome, corners, settings, extended=True)
    circuit = _circuit(family) if compiled is not None or settings.device is not None else None
    if circuit is not None and settings.device is not None:
        return int(_device_engine().advance(circuit, points, outcome, corners, settings, settings.device))
    if compiled is None or circuit is None:
        return _advance(family, points, outcome, corners, settings)
    return _compiled(compiled, circuit, points, outcome, corners, settings)


def _compiled(
    compiled: ModuleType,
    circuit: Circuit,
    points: Complex,
    outcome: NDArray[np.int64],
    corners: Complex,
    settings: Settings,
    *,
    extended: bool = False,
) -> int:
    """Advance all paths with the compiled engine."""
    tried = 0
    # A compiled loop cannot be interrupted: it gets a second's work at most, as long as paths behave.
    chunk = max(1, _CUBES // max(1, points.shape[1]) ** 3)
    for first in range(0, len(points), chunk):
        own = slice(first, first + chunk)
        tried += compiled.advance(
            circuit, points[own], outcome[own], corners[:, own], settings, extended=extended
        )
    return tried


def _tangent(family: Homotopy, z: Complex, p: Complex, dp: Complex) -> Complex:
    jacobian = family.jacobian(z, p)
    return np.asarray(-solve_batched(jacobian, family.parameter_derivative(z, p, dp)[:, :, None])[:, :, 0])


def _advance(
    family: Homotopy, points: Complex, outcome: NDArray[np.int64], corners: Complex, settings: Settings
) -> int:
    """Advance all paths; write endpoints into `points` and REGULAR into `outcome` where the last t reached 1.

    `corners` has shape (legs + 1, n, M). A path that has reached a corner goes on at once, whatever the others do.
    """
    power = 1.0 / (settings.order + 1)
    used = 3 if settings.order == 5 else 2
    last_leg = len(corners) - 2
    which = np.arange(len(points))
    leg = np.zeros(len(points), dtype=np.int64)
    z = points.copy()
    origin = np.ascontiguousarray(corners[0])
    dp = corners[1] - corners[0]
    h = np.full(len(z), settings.first_step)
    # Times, points and slopes now and at up to two earlier points of every path. A path that has fewer repeats
    # the tangent as a made-up point, so that one formula serves all: before t = 0 the path is taken to be straight.
    t, history = _begun(z, _tangent(family, z, origin, dp), h, used)
    grew = np.ones(len(z), dtype=bool)
    tried = 0
    for _ in range(settings.most_steps * (last_leg + 1)):
        tried += len(t)
        target = np.minimum(t[:, 0] + h, 1.0)
        guess = _hermite(target, t, history)
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
        theta = np.where(second_size < NOISE, 0.0, second_size / np.maximum(first_size, NOISE))
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
        step = target - t[:, 0]
        h = np.where(accepted, np.maximum(step, h * 0.25), step) * factor
        moving = np.flatnonzero(accepted)
        if moving.size:
            t[moving, 1:] = t[moving, :-1]
            t[moving, 0] = target[moving]
            shifted = history[moving]
            shifted[:, 1:used] = shifted[:, : used - 1].copy()
            shifted[:, used + 1 :] = shifted[:, used:-1].copy()
            shifted[:, 0], shifted[:, used] = closer[moving], new_slope[moving]
            history[moving] = shifted
        done = t[:, 0] >= 1.0
        turning = np.flatnonzero(done & (leg < last_leg))
        if turning.size:
            leg[turning] += 1
            done[turning] = False
            here = corners[leg[turning], which[turning]]
            origin[turning], dp[turning] = here, corners[leg[turning] + 1, which[turning]] - here
            h[turning], grew[turning] = settings.first_step, True
            at = history[turning, 0]
            slope = _tangent(family, at, here, dp[turning])
            t[turning], history[turning] = _begun(at, slope, h[turning], used)
        if done.any():
            points[which[done]] = history[done, 0]
            outcome[which[done]] = REGULAR
        keep = np.flatnonzero(
            ~done & (h > settings.smallest_step) & (np.abs(history[:, 0]).max(axis=1) < 1e10)
        )
        if keep.size == 0:
            break
        if keep.size < len(t):
            which, leg, t, h, grew = which[keep], leg[keep], t[keep], h[keep], grew[keep]
            origin, dp, history = origin[keep], dp[keep], history[keep]
    return tried


def _begun(
    z: Complex, slope: Complex, h: NDArray[np.float64], used: int
) -> tuple[NDArray[np.float64], Complex]:
    """Return times (B, used) and history (B, 2 used, N) of straight paths that are at `z` for t = 0."""
    times = -h[:, None] * np.arange(used)
    values = z[:, None, :] + times[:, :, None] * slope[:, None, :]
    return times, np.concatenate([values, np.repeat(slope[:, None, :], used, axis=1)], axis=1)
