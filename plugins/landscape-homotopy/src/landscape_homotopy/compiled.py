"""The tracker of :mod:`landscape_homotopy.tracker`, one path after another, compiled by numba.

Without arrays of paths there is nothing to allocate, to gather or to wait for: a path takes as many steps as it
needs, and a step costs little more than its two factorisations. The family comes as a
:class:`~landscape_homotopy.circuit.Circuit`, so that this is compiled once for all families, and kept on disk.
Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from landscape_homotopy.circuit import Circuit
from landscape_homotopy.tracker import LOST, NOISE, REGULAR, Settings

__all__ = ["advance", "compile_tracker"]

Complex = NDArray[np.complex128]

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # a division by zero gives infinity, as in numpy, and no exception
    "fastmath": {"contract", "reassoc"},  # keeps NaN and infinity, by which lost paths are known
}


#: Sums of two doubles must be computed as they are written.
_STRICT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
#: 2^27 + 1 splits 53 bits into two times 26.
_SPLITTER = 134217729.0


@njit(**_STRICT)
def _plus_product(high, low, a, a_low, b, b_low, sign):  # type: ignore[no-untyped-def]
    """Return high + low + sign (a + a_low) (b + b_low) as two doubles, as `double_double` does for arrays."""
    a, a_low = sign * a, sign * a_low
    product = a * b
    scaled = _SPLITTER * a
    a_high = scaled - (scaled - a)
    a_rest = a - a_high
    scaled = _SPLITTER * b
    b_high = scaled - (scaled - b)
    b_rest = b - b_high
    error = ((a_high * b_high - product) + a_high * b_rest + a_rest * b_high) + a_rest * b_rest
    error += a * b_low + a_low * b
    total = product + error
    error -= total - product
    product = total
    # Knuth's sum of the high parts, and of the low parts.
    total = high + product
    part = total - high
    rest = (high - (total - part)) + (product - part)
    other = low + error
    part = other - low
    last = (low - (other - part)) + (error - part)
    rest += other
    high = total + rest
    rest -= high - total
    rest += last
    total = high + rest
    return total, rest - (total - high)


@njit(**_STRICT)
def _residual(double, registers, inputs, first, left, right, values, needed, sides):  # type: ignore[no-untyped-def]
    """Write -F, computed in double-double arithmetic, into the first row of `sides`.

    Every row of `double` holds the high and low parts of the real and of the imaginary part of a register.
    """
    for k in range(inputs):
        double[k, 0], double[k, 1] = registers[k].real, 0.0
        double[k, 2], double[k, 3] = registers[k].imag, 0.0
    for number in range(needed):
        x, x_low, y, y_low = 0.0, 0.0, 0.0, 0.0
        for k in range(first[number], first[number + 1]):
            a, b = double[left[k]], double[right[k]]
            x, x_low = _plus_product(x, x_low, a[0], a[1], b[0], b[1], 1.0)
            x, x_low = _plus_product(x, x_low, a[2], a[3], b[2], b[3], -1.0)
            y, y_low = _plus_product(y, y_low, a[0], a[1], b[2], b[3], 1.0)
            y, y_low = _plus_product(y, y_low, a[2], a[3], b[0], b[1], 1.0)
        double[inputs + number, 0], double[inputs + number, 1] = x, x_low
        double[inputs + number, 2], double[inputs + number, 3] = y, y_low
    for i in range(len(values)):
        if values[i] >= 0:
            own = double[values[i]]
            sides[0, i] = -complex(own[0] + own[1], own[2] + own[3])


@njit(**_OPTIONS)
def _evaluate(registers, inputs, first, left, right, begin, end):  # type: ignore[no-untyped-def]
    """Compute the sums begin, ..., end - 1."""
    for number in range(begin, end):
        total = 0j
        for k in range(first[number], first[number + 1]):
            total += registers[left[k]] * registers[right[k]]
        registers[inputs + number] = total


@njit(**_OPTIONS)
def _solve(real, imag, right, sides):  # type: ignore[no-untyped-def]
    """Solve (real + i imag) x = right in place for the first `sides` rows of `right`: Gauss with partial pivoting.

    As in LAPACK's izamax the pivot is the largest by the sum of the moduli of real and imaginary part. Those stand in
    arrays of their own, along which the innermost loop runs with vector instructions.
    """
    n = real.shape[0]
    for k in range(n):
        best, pivot = -1.0, k
        for i in range(k, n):
            size = abs(real[i, k]) + abs(imag[i, k])
            if size > best:
                best, pivot = size, i
        if pivot != k:
            for j in range(k, n):
                swap = real[k, j]
                real[k, j] = real[pivot, j]
                real[pivot, j] = swap
                swap = imag[k, j]
                imag[k, j] = imag[pivot, j]
                imag[pivot, j] = swap
            for s in range(sides):
                moved = right[s, k]
                right[s, k] = right[s, pivot]
                right[s, pivot] = moved
        a, b = real[k, k], imag[k, k]
        scale = 1.0 / (a * a + b * b)
        a, b = a * scale, -b * scale
        real[k, k], imag[k, k] = a, b
        for i in range(k + 1, n):
            c, d = real[i, k], imag[i, k]
            if c == 0.0 and d == 0.0:
                continue
            c, d = c * a - d * b, c * b + d * a
            for j in range(k + 1, n):
                x, y = real[k, j], imag[k, j]
                real[i, j] -= c * x - d * y
                imag[i, j] -= c * y + d * x
            for s in range(sides):
                right[s, i] -= complex(c, d) * right[s, k]
    for s in range(sides):
        for k in range(n - 1, -1, -1):
            total = right[s, k]
            for j in range(k + 1, n):
                total -= complex(real[k, j], imag[k, j]) * right[s, j]
            right[s, k] = total * complex(real[k, k], imag[k, k])


@njit(**_OPTIONS)
def _fill(registers, real, imag, right, values, rows, columns, entries):  # type: ignore[no-untyped-def]
    """Write the Jacobian into `real` and `imag`, and -F into the first row of `right`."""
    real[:, :] = 0.0
    imag[:, :] = 0.0
    for k in range(len(entries)):
        entry = registers[entries[k]]
        real[rows[k], columns[k]] = entry.real
        imag[rows[k], columns[k]] = entry.imag
    for i in range(len(values)):
        right[0, i] = -registers[values[i]] if values[i] >= 0 else 0j


@njit(**_OPTIONS)
def _modulus(number):  # type: ignore[no-untyped-def]
    """Return |number|; ten times as fast as abs, which minds numbers beyond 1e154. Paths end at 1e10."""
    return np.sqrt(number.real * number.real + number.imag * number.imag)


@njit(**_OPTIONS)
def _sizes(step, weights):  # type: ignore[no-untyped-def]
    largest = 0.0
    for i in range(len(step)):
        size = _modulus(step[i]) / weights[i]
        # Written so that NaN gets through.
        if not size <= largest:
            largest = size
    return largest


@njit(**_OPTIONS)
def _follow(  # type: ignore[no-untyped-def]
    constants,
    first,
    left,
    right,
    values,
    rows,
    columns,
    entries,
    directional,
    plain,
    start,
    corners,
    contraction,
    displacement,
    first_step,
    smallest_step,
    most_steps,
    used,
    needed,
    points,
    arrived,
):
    """Follow every path along its corners (legs + 1, paths, M); return the steps tried.

    The first `needed` sums, those of F, are computed in double-double arithmetic, unless that is zero.
    """
    paths, n = start.shape
    legs, m = len(corners) - 1, corners.shape[2]
    k0 = len(constants)
    inputs, sums = k0 + n + 2 * m, len(first) - 1
    registers = np.zeros(inputs + sums, dtype=np.complex128)
    registers[:k0] = constants
    double = np.zeros((inputs + needed, 4))
    real, imag = np.empty((n, n)), np.empty((n, n))
    sides = np.empty((2, n), dtype=np.complex128)
    nodes = np.empty(used)
    history = np.empty((2 * used, n), dtype=np.complex128)
    blend = np.empty(2 * used)
    z = np.empty(n, dtype=np.complex128)
    weights = np.empty(n)
    power = 1.0 / (2 * used)
    tried = 0
    for path in range(paths):
        z[:] = start[path]
        lost = False
        for leg in range(legs):
            for k in range(m):
                registers[k0 + n + k] = corners[leg, path, k]
                registers[k0 + n + m + k] = corners[leg + 1, path, k] - corners[leg, path, k]
            registers[k0 : k0 + n] = z
            _evaluate(registers, inputs, first, left, right, 0, sums)
            _fill(registers, real, imag, sides, values, rows, columns, entries)
            for i in range(n):
                sides[0, i] = -registers[directional[i]] if directional[i] >= 0 else 0j
            _solve(real, imag, sides, 1)
            h = first_step
            # What came before the start is taken to be straight, as in the tracker of arrays.
            for node in range(used):
                nodes[node] = -h * node
                for i in range(n):
                    history[node, i] = z[i] + nodes[node] * sides[0, i]
                    history[used + node, i] = sides[0, i]
            grew = True
            lost = True
            for _ in range(most_steps):
                tried += 1
                now = nodes[0]
                target = min(now + h, 1.0)
                for node in range(used):
                    ahead = target - nodes[node]
                    squared, derivative = 1.0, 0.0
                    for other in range(used):
                        if other != node:
                            inverse = 1.0 / (nodes[node] - nodes[other])
                            squared *= ((target - nodes[other]) * inverse) ** 2
                            derivative += inverse
                    blend[node] = (1.0 - 2.0 * derivative * ahead) * squared
                    blend[used + node] = ahead * squared
                for i in range(n):
                    x, y = 0.0, 0.0
                    for node in range(2 * used):
                        x += blend[node] * history[node, i].real
                        y += blend[node] * history[node, i].imag
                    z[i] = complex(x, y)
                registers[k0 : k0 + n] = z
                for k in range(m):
                    registers[k0 + n + k] = corners[leg, path, k] + target * registers[k0 + n + m + k]
                _evaluate(registers, inputs, first, left, right, 0, plain)
                _fill(registers, real, imag, sides, values, rows, columns, entries)
                if needed:
                    _residual(double, registers, inputs, first, left, right, values, needed, sides)
                _solve(real, imag, sides, 1)
                largest = 0.0
                for i in range(n):
                    z[i] += sides[0, i]
                    weights[i] = _modulus(z[i])
                    largest = max(largest, weights[i])
                floor = 0.01 * largest + 1e-12
                for i in range(n):
                    weights[i] = max(weights[i], floor)
                first_size = _sizes(sides[0], weights)
                registers[k0 : k0 + n] = z
                _evaluate(registers, inputs, first, left, right, 0, sums)
                _fill(registers, real, imag, sides, values, rows, columns, entries)
                if needed:
                    _residual(double, registers, inputs, first, left, right, values, needed, sides)
                for i in range(n):
                    sides[1, i] = -registers[directional[i]] if directional[i] >= 0 else 0j
                _solve(real, imag, sides, 2)
                second_size = _sizes(sides[0], weights)
                theta = 0.0 if second_size < NOISE else second_size / max(first_size, NOISE)
                ratio = max(theta / contraction, first_size / displacement)
                finite = np.isfinite(first_size) and np.isfinite(second_size)
                accepted = finite and ratio < 4.0 and second_size < 1e-3 and theta < 0.25
                if finite:
                    factor = (0.5 / max(ratio, 1e-12)) ** power
                    factor = min(max(factor, 0.25), 2.5 if grew else 1.0)
                else:
                    factor = 0.25
                step = target - now
                grew = accepted
                if not accepted:
                    h = step * min(factor, 0.5)
                    if not h > smallest_step:
                        break
                    continue
                h = max(step, 0.25 * h) * factor
                for i in range(n):
                    z[i] += sides[0, i]
                if second_size > 1e-6:
                    # The tangent and the point deserve one more correction.
                    registers[k0 : k0 + n] = z
                    _evaluate(registers, inputs, first, left, right, 0, sums)
                    _fill(registers, real, imag, sides, values, rows, columns, entries)
                    if needed:
                        _residual(double, registers, inputs, first, left, right, values, needed, sides)
                    for i in range(n):
                        sides[1, i] = -registers[directional[i]] if directional[i] >= 0 else 0j
                    _solve(real, imag, sides, 2)
                    for i in range(n):
                        z[i] += sides[0, i]
                for node in range(used - 1, 0, -1):
                    nodes[node] = nodes[node - 1]
                    history[node] = history[node - 1]
                    history[used + node] = history[used + node - 1]
                nodes[0] = target
                history[0] = z
                history[used] = sides[1]
                if target >= 1.0:
                    lost = False
                    break
                largest = 0.0
                for i in range(n):
                    size = _modulus(z[i])
                    if not size <= largest:
                        largest = size
                if not (h > smallest_step and largest < 1e10):
                    break
            if lost:
                break
        points[path] = z
        arrived[path] = not lost
    return tried


def advance(
    circuit: Circuit,
    points: Complex,
    outcome: NDArray[np.int64],
    corners: Complex,
    settings: Settings,
    *,
    extended: bool = False,
) -> int:
    """Advance all paths as the tracker of arrays does; write ends into `points` and REGULAR into `outcome`.

    Where `extended`, residuals are computed in double-double arithmetic.
    """
    needed = max(int(circuit.values.max(initial=-1)) + 1 - circuit.inputs, 0) if extended else 0
    arrived = np.zeros(len(points), dtype=np.bool_)
    ends = np.empty_like(points)
    tried = _follow(
        circuit.constants,
        circuit.first,
        circuit.left,
        circuit.right,
        circuit.values,
        circuit.rows,
        circuit.columns,
        circuit.entries,
        circuit.directional,
        circuit.plain,
        np.ascontiguousarray(points),
        np.ascontiguousarray(corners, dtype=np.complex128),
        settings.contraction,
        settings.displacement,
        settings.first_step,
        settings.smallest_step,
        settings.most_steps,
        3 if settings.order == 5 else 2,
        needed,
        ends,
        arrived,
    )
    points[arrived] = ends[arrived]
    outcome[:] = np.where(arrived, REGULAR, LOST)
    return int(tried)


def compile_tracker() -> None:
    """Compile now, or load what was compiled before, so that nothing that is timed has to."""
    none = np.zeros(0, dtype=np.int64)
    empty = Circuit(
        np.ones(1, dtype=np.complex128), 1, 1, np.zeros(1, dtype=np.int64), none, none,
        np.array([-1]), none, none, none, np.array([-1]), 0,
    )  # fmt: skip
    advance(
        empty,
        np.zeros((1, 1), dtype=np.complex128),
        np.zeros(1, dtype=np.int64),
        np.zeros((2, 1, 1), dtype=np.complex128),
        Settings(most_steps=1),
    )
