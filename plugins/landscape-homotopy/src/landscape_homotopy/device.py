"""The tracker of :mod:`landscape_homotopy.tracker` with torch, on an accelerator or on the CPU.

All paths of a batch advance at once. The circuit is walked level by level: sums that need nothing of each other are
computed together, so that a step takes some dozen kernels, whatever the size of the network.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.errors import SolverError
from landscape.systems import ParametricFamily
from landscape_homotopy.circuit import Circuit, circuit_of
from landscape_homotopy.predictor import hermite_weights
from landscape_homotopy.tracker import NOISE, REGULAR, Settings

__all__ = ["advance", "checked", "checked_for", "polish"]

Complex = NDArray[np.complex128]

#: Products that one step computes at once, in all paths of a batch: 16 bytes each, a few times over.
_PRODUCTS = {"cpu": 4_000_000, "cuda": 100_000_000}


def checked(device: str) -> str:
    """Return the name of a device that can be used.

    Raises
    ------
    SolverError
        When torch does not know it, it is not there, or it has no complex numbers of double precision.
    """
    try:
        torch.ones(1, dtype=torch.complex128, device=device) * 2
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SolverError(
            f"paths cannot be followed on the device {device!r}: {reason}. Give device=None for the CPU."
        ) from error
    return device


def checked_for(device: str | None, family: ParametricFamily) -> str | None:
    """Return the name of a device that can follow paths of a family; None stands for the CPU without torch.

    Raises
    ------
    SolverError
        As :func:`checked` does, and when the family is no circuit that a device could compute.
    """
    if device is None:
        return None
    if circuit_of(family) is None:
        raise SolverError(
            f"{type(family).__name__} has no circuit of sums and products, which a device needs. Give device=None, or "
            f"write the family out as a PolynomialFamily."
        )
    return checked(device)


class _Walk:
    """A circuit on a device.

    Sums of the same level and the same number of products stand together: indices of their factors, shape (sums,
    products), and where the sums are written.
    """

    def __init__(self, circuit: Circuit, device: torch.device) -> None:
        self.circuit = circuit
        inputs, counts = circuit.inputs, np.diff(circuit.first)
        level = np.zeros(inputs + circuit.sums, dtype=np.int64)
        groups: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
        for number in range(circuit.sums):
            own = slice(circuit.first[number], circuit.first[number + 1])
            factors = np.concatenate([circuit.left[own], circuit.right[own]])
            level[inputs + number] = 1 + int(level[factors].max(initial=0))
            groups[number >= circuit.plain, int(level[inputs + number]), int(counts[number])].append(number)

        def there(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.as_tensor(array, device=device)

        self.plain: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.rest: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        # What the derivative along dp alone needs comes last, each part by levels.
        for (directional, _, count), numbers in sorted(groups.items()):
            own = circuit.first[np.array(numbers)][:, None] + np.arange(count)
            group = (
                there(circuit.left[own]),
                there(circuit.right[own]),
                there(inputs + np.array(numbers, dtype=np.int64)),
            )
            (self.rest if directional else self.plain).append(group)
        self.constants = there(circuit.constants)[:, None]
        # Register -1 is zero: the last one.
        self.values, self.directional = there(circuit.values), there(circuit.directional)
        self.entries = there(circuit.entries)
        self.places = there(circuit.rows * circuit.unknowns + circuit.columns)

    def __call__(
        self, z: torch.Tensor, p: torch.Tensor, dp: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return -F as a column and, if `dp` is given, minus its derivative along dp as a second; and the Jacobian.

        Shapes (B, N, 1 or 2) and (B, N, N).
        """
        batch, n = z.shape
        circuit = self.circuit
        registers = z.new_zeros((circuit.inputs + circuit.sums + 1, batch))
        end = len(circuit.constants)
        registers[:end] = self.constants
        registers[end : end + n] = z.T
        registers[end + n : end + n + p.shape[1]] = p.T
        if dp is not None:
            registers[end + n + p.shape[1] : circuit.inputs] = dp.T
        for left, right, sums in self.plain if dp is None else [*self.plain, *self.rest]:
            registers[sums] = (registers[left] * registers[right]).sum(dim=1)
        jacobian = z.new_zeros((n * n, batch))
        jacobian[self.places] = registers[self.entries]
        columns = [self.values] if dp is None else [self.values, self.directional]
        right_side = torch.stack([-registers[which].T for which in columns], dim=2)
        return right_side, jacobian.T.reshape(batch, n, n)


@lru_cache(maxsize=64)
def _walk(circuit: Circuit, device: torch.device) -> _Walk:
    return _Walk(circuit, device)


def _solved(matrices: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return matrices^-1 right; NaN where a matrix is exactly singular."""
    result, info = torch.linalg.solve_ex(matrices, right)
    return torch.where((info != 0)[:, None, None], torch.nan, result)


def _weights(z: torch.Tensor) -> torch.Tensor:
    moduli = z.abs()
    return torch.maximum(moduli, 0.01 * moduli.amax(dim=1, keepdim=True) + 1e-12)


def _size(step: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (step.abs() / weights).amax(dim=1)


def _hermite(s: torch.Tensor, nodes: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
    """Evaluate the polynomials that have given values and slopes at the nodes, as the tracker of arrays does."""
    weights = torch.stack(hermite_weights(s, nodes), dim=1)
    return (weights[:, None, :].to(history.dtype) @ history)[:, 0]


def _begun(
    z: torch.Tensor, slope: torch.Tensor, h: torch.Tensor, used: int
) -> tuple[torch.Tensor, torch.Tensor]:
    times = -h[:, None] * torch.arange(used, device=h.device)
    values = z[:, None, :] + times[:, :, None] * slope[:, None, :]
    return times, torch.cat([values, slope[:, None, :].expand(-1, used, -1)], dim=1)


def _batch(circuit: Circuit, device: torch.device) -> int:
    size = len(circuit.left) + 8 * circuit.unknowns**2 + circuit.inputs + circuit.sums
    return max(1, _PRODUCTS.get(device.type, _PRODUCTS["cpu"]) // size)


def advance(
    circuit: Circuit,
    points: Complex,
    outcome: NDArray[np.int64],
    corners: Complex,
    settings: Settings,
    device: str,
) -> int:
    """Advance all paths as the tracker of arrays does; return the steps tried.

    Writes endpoints into `points` (n, N) and REGULAR into `outcome` (n,). `corners` has shape (legs + 1, n, M).
    """
    place = torch.device(device)
    walk, chunk, tried = _walk(circuit, place), _batch(circuit, place), 0
    for first in range(0, len(points), chunk):
        own = slice(first, first + chunk)
        z = torch.as_tensor(points[own], device=place)
        way = torch.as_tensor(np.ascontiguousarray(corners[:, own]), device=place)
        ends, there, steps = _advanced(walk, z, way, settings)
        points[own] = ends.cpu().numpy()
        outcome[own][there.cpu().numpy()] = REGULAR
        tried += steps
    return tried


def _advanced(
    walk: _Walk, start: torch.Tensor, corners: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return endpoints, which paths arrived, and the steps tried."""
    power = 1.0 / (settings.order + 1)
    used = 3 if settings.order == 5 else 2
    last_leg = len(corners) - 2
    points = start.clone()
    arrived = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    which = torch.arange(len(start), device=start.device)
    leg = torch.zeros_like(which)
    origin, dp = corners[0].clone(), corners[1] - corners[0]
    h = torch.full((len(start),), settings.first_step, dtype=torch.float64, device=start.device)

    def tangent(z: torch.Tensor, p: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        right, jacobian = walk(z, p, direction)
        return _solved(jacobian, right)[:, :, 1]

    t, history = _begun(start, tangent(start, origin, dp), h, used)
    grew = torch.ones_like(arrived)
    tried = 0
    for _ in range(settings.most_steps * (last_leg + 1)):
        tried += len(t)
        target = torch.clamp(t[:, 0] + h, max=1.0)
        guess = _hermite(target, t, history)
        p = origin + target[:, None] * dp
        right, jacobian = walk(guess, p)
        first = _solved(jacobian, right)[:, :, 0]
        closer = guess + first
        weights = _weights(closer)
        first_size = _size(first, weights)
        right, jacobian = walk(closer, p, dp)
        solved = _solved(jacobian, right)
        second, new_slope = solved[:, :, 0], solved[:, :, 1]
        second_size = _size(second, weights)
        theta = torch.where(second_size < NOISE, 0.0, second_size / torch.clamp(first_size, min=NOISE))
        ratio = torch.maximum(theta / settings.contraction, first_size / settings.displacement)
        accepted = (ratio < 4.0) & (second_size < 1e-3) & (theta < 0.25) & torch.isfinite(ratio)
        rough = torch.nonzero(accepted & (second_size > 1e-6))[:, 0]
        closer = closer + second
        if len(rough):
            right, jacobian = walk(closer[rough], p[rough], dp[rough])
            solved = _solved(jacobian, right)
            closer[rough] += solved[:, :, 0]
            new_slope = new_slope.clone()
            new_slope[rough] = solved[:, :, 1]
        growth = torch.where(grew, 2.5, 1.0).to(torch.float64)
        factor = (0.5 / torch.clamp(ratio, min=1e-12)) ** power
        factor = torch.minimum(torch.clamp(factor, min=0.25), growth)
        factor = torch.where(torch.isfinite(factor), factor, 0.25)
        grew = accepted
        factor = torch.where(accepted, factor, torch.clamp(factor, max=0.5))
        step = target - t[:, 0]
        h = torch.where(accepted, torch.maximum(step, h * 0.25), step) * factor
        moved = torch.cat(
            [closer[:, None], history[:, : used - 1], new_slope[:, None], history[:, used:-1]], dim=1
        )
        history = torch.where(accepted[:, None, None], moved, history)
        t = torch.where(accepted[:, None], torch.cat([target[:, None], t[:, :-1]], dim=1), t)
        done = t[:, 0] >= 1.0
        turning = torch.nonzero(done & (leg < last_leg))[:, 0]
        if len(turning):
            leg[turning] += 1
            done[turning] = False
            here = corners[leg[turning], which[turning]]
            origin[turning] = here
            dp[turning] = corners[leg[turning] + 1, which[turning]] - here
            h[turning] = settings.first_step
            grew = grew.index_fill(0, turning, True)
            at = history[turning, 0]
            slope = tangent(at, here, dp[turning])
            t[turning], history[turning] = _begun(at, slope, h[turning], used)
        points[which[done]] = history[done, 0]
        arrived[which[done]] = True
        keep = ~done & (h > settings.smallest_step) & (history[:, 0].abs().amax(dim=1) < 1e10)
        left = torch.nonzero(keep)[:, 0]
        if len(left) == 0:
            break
        if len(left) < len(t):
            which, leg, t, h, grew = which[left], leg[left], t[left], h[left], grew[left]
            origin, dp, history = origin[left], dp[left], history[left]
    return points, arrived, tried


def polish(
    circuit: Circuit, z: Complex, p: Complex, device: str, iterations: int = 6
) -> tuple[Complex, NDArray[np.float64]]:
    """Return z after Newton's method, and the relative size of its last correction.

    As :func:`landscape_homotopy.tracker.polish`: until corrections no longer shrink.
    """
    place = torch.device(device)
    walk, chunk = _walk(circuit, place), _batch(circuit, place)
    ends, sizes = z.copy(), np.full(len(z), np.inf)
    for first in range(0, len(z), chunk):
        own = slice(first, first + chunk)
        at, parameters = (torch.as_tensor(np.ascontiguousarray(each[own]), device=place) for each in (z, p))
        at = at.clone()
        last = torch.full((len(at),), torch.inf, dtype=torch.float64, device=place)
        active = torch.arange(len(at), device=place)
        for _ in range(iterations):
            right, jacobian = walk(at[active], parameters[active])
            step = _solved(jacobian, right)[:, :, 0]
            size = _size(step, _weights(at[active]))
            better = size < last[active]
            moving = active[better]
            at[moving] += step[better]
            last[moving] = size[better]
            active = moving[size[better] > 1e-15]
            if len(active) == 0:
                break
        ends[own], sizes[own] = at.cpu().numpy(), last.cpu().numpy()
    return ends, sizes
