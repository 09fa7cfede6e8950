"""Proofs that solutions exist, are distinct and are real: Krawczyk's operator in ball arithmetic.

For a box X around x, an approximate inverse Y of the Jacobian J(x), and

    K(X) = x - Y F(x) + (1 - Y J(X)) (X - x),

evaluated with all rounding errors enclosed: if K(X) lies in the interior of X, there is a solution in X, and if
moreover sqrt(2) |1 - Y J(X)| < 1 in the row-sum norm, there is exactly one, and it is regular (Krawczyk,
Computing 4 (1969); Burr, Lee and Leykin, Effective certification of approximate solutions to systems of
equations involving analytic functions, ISSAC 2019; Breiding, Rose and Timme, Certifying zeros of polynomial
systems using interval arithmetic, ACM Trans. Math. Softw. 49 (2023)). If the equations are real and X is its own
complex conjugate, so is the one solution in it: it is real.

What is certified are the solutions of the equations as they are written: 2/3 is two thirds and 0.1 a tenth, as balls
that hold them. Parameters, and coefficients given as floating-point numbers, are the binary numbers that they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import flint
import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, PolynomialFamily, Solutions
from landscape_homotopy.circuit import Circuit, circuit_of
from landscape_homotopy.exact_terms import Terms, exact_terms

__all__ = ["Certifier", "certified"]

Complex = NDArray[np.complex128]

#: Bits of the ball arithmetic: twice double precision, so that F(x) is known far below the size of the box.
_PRECISION = 106
#: Radii tried, as multiples of the length of the Newton step; the first suffices almost always.
_FACTORS = (4.0, 64.0, 1024.0, 16384.0)
#: Points tried for one solution: where none of the boxes around a badly conditioned point holds, its Newton step in
#: ball arithmetic leads to one that is as near to the solution as double precision allows.
_CENTERS = 3
#: A Newton step longer than this part of the largest coordinate is taken before boxes are tried.
_IMPROVABLE = 1e-14
#: No box is smaller than this part of the largest coordinate: a few units in the last place.
_SMALLEST = 1e-15
#: Nor larger than this part of it, or of one: points of solvers are polished, and a box around one that is not
#: would prove a solution nearby, not the one that was written down.
_LARGEST = 1e-6
#: Largest imaginary part, relative to the largest coordinate, of points that are tried as real ones; that of
#: :meth:`landscape.Solutions.is_real`.
_REAL = 1e-8


@frozen(eq=False)
class _Box:
    """A point and a radius such that one solution lies within it in every real and imaginary part."""

    point: Complex
    radius: float


def _exact_circuit(family: ParametricFamily) -> Circuit | None:
    """Return a circuit of a family where its constants are whole numbers, which have no rounding error.

    It costs far fewer products than the monomials; families in monomials stay what they are.
    """
    if isinstance(family, PolynomialFamily):
        return None
    circuit = circuit_of(family)
    if circuit is None or (circuit.constants != np.round(circuit.constants.real)).any():
        return None
    return circuit


class Certifier:
    """Certifies solutions of one member of a family.

    Parameters
    ----------
    family
        The family.
    parameters
        Of the member, shape (M,), real or complex.
    """

    def __init__(self, family: ParametricFamily, parameters: NDArray[np.generic]) -> None:
        self._circuit = _exact_circuit(family)
        self._numbers: list[flint.acb] = []
        if self._circuit is not None:
            self.unknowns = self._circuit.unknowns
            values = np.asarray(parameters, dtype=np.complex128).reshape(-1)
            with flint.ctx.workprec(_PRECISION):
                self._numbers = [flint.acb(v.real, v.imag) for v in values.tolist()]
            #: Whether every coefficient is real.
            self.is_real = not (values.imag.any() or self._circuit.constants.imag.any())
            return
        written, values = family.written_out(np.asarray(parameters, dtype=np.complex128))
        n = len(written.unknowns)
        self.unknowns = n
        with flint.ctx.workprec(_PRECISION):
            self._terms: list[Terms] = exact_terms(written.exact, n, values)
        degrees = [1] * n
        for terms in self._terms:
            for _, powers in terms:
                for v, power in powers:
                    degrees[v] = max(degrees[v], power)
        self._degrees = degrees
        self.is_real = all(value.imag.is_zero() for terms in self._terms for value, _ in terms)

    def _powers(self, x: Sequence[flint.acb]) -> list[list[flint.acb]]:
        table = []
        for value, degree in zip(x, self._degrees, strict=True):
            row = [flint.acb(1), value]
            for _ in range(degree - 1):
                row.append(row[-1] * value)
            table.append(row)
        return table

    def _registers(self, circuit: Circuit, x: Sequence[flint.acb]) -> list[flint.acb]:
        """Return what a circuit computes, in ball arithmetic; its last register, -1, is zero."""
        registers = [flint.acb(c) for c in circuit.constants.tolist()]
        registers += [*x, *self._numbers, *([flint.acb(0)] * circuit.parameters)]
        append = registers.append
        for (left, right), *others in self._sums:
            total = registers[left] * registers[right]
            for left, right in others:
                total = total + registers[left] * registers[right]
            append(total)
        append(flint.acb(0))
        return registers

    @cached_property
    def _sums(self) -> list[list[tuple[int, int]]]:
        """Pairs of factors of the products of every sum that F and its Jacobian need."""
        circuit = self._circuit
        assert circuit is not None
        pairs = list(zip(circuit.left.tolist(), circuit.right.tolist(), strict=True))
        first = circuit.first.tolist()
        return [pairs[begin:end] for begin, end in pairwise(first[: circuit.plain + 1])]

    @cached_property
    def _entries(self) -> list[tuple[int, int, int]]:
        circuit = self._circuit
        assert circuit is not None
        return list(
            zip(circuit.rows.tolist(), circuit.columns.tolist(), circuit.entries.tolist(), strict=True)
        )

    def value(self, x: Sequence[flint.acb]) -> list[flint.acb]:
        """Return F(x)."""
        return self._value_and_jacobian(x)[0]

    def jacobian(self, x: Sequence[flint.acb]) -> list[list[flint.acb]]:
        """Return dF/dz at x."""
        return self._value_and_jacobian(x)[1]

    def _value_and_jacobian(self, x: Sequence[flint.acb]) -> tuple[list[flint.acb], list[list[flint.acb]]]:
        circuit, n = self._circuit, self.unknowns
        zero = flint.acb(0)
        rows = [[zero] * n for _ in range(n)]
        if circuit is not None:
            registers = self._registers(circuit, x)
            for i, j, register in self._entries:
                rows[i][j] = registers[register]
            return [registers[register] for register in circuit.values.tolist()], rows
        powers = self._powers(x)
        values = []
        for row, terms in zip(rows, self._terms, strict=True):
            total = zero
            for coefficient, factors in terms:
                product = coefficient
                for v, power in factors:
                    product = product * powers[v][power]
                total = total + product
                for v, power in factors:
                    product = coefficient if power == 1 else coefficient * power
                    for w, other in factors:
                        exponent = other - 1 if w == v else other
                        if exponent:
                            product = product * powers[w][exponent]
                    row[v] = row[v] + product
            values.append(total)
        return values, rows

    def certify(self, point: Complex) -> _Box | None:
        """Return a box around `point`, of shape (N,), that holds exactly one solution; None if none is proved.

        A point that is real up to rounding is proved to be near a real solution, and one that is not, that it
        is not near a real one, where the equations are real; else nothing is returned.
        """
        n = self.unknowns
        size = float(np.abs(point).max(initial=0.0))
        if n == 0:
            return _Box(point, 0.0)
        if not np.isfinite(point).all():
            return None
        if not (self.is_real and bool(np.abs(point.imag).max() <= _REAL * max(size, 1.0))):
            return self._certified(point, size, real=False)
        box = self._certified(point.real.astype(np.complex128), size, real=True)
        if box is not None and bool(np.abs(point - box.point).max() <= box.radius):
            return box
        # Near a real point and perhaps not real: a pair of conjugates may lie this near to each other.
        if point.imag.any() and (apart := self._certified(point, size, real=False)) is not None:
            return apart
        return box

    def _certified(self, point: Complex, size: float, *, real: bool) -> _Box | None:
        """Return a box around a point, or one near it; with real centre if `real`, else one of no real solution."""
        n, center = self.unknowns, point
        with flint.ctx.workprec(_PRECISION):
            for tries in range(_CENTERS, 0, -1):
                x = [flint.acb(c) for c in center.tolist()]
                value, jacobian = self._value_and_jacobian(x)
                try:
                    inverse = np.linalg.inv(np.array([[complex(entry) for entry in row] for row in jacobian]))
                except np.linalg.LinAlgError:
                    return None
                if not np.isfinite(inverse).all():
                    return None
                approximate = flint.acb_mat(inverse.tolist())
                step = approximate * flint.acb_mat(n, 1, value)
                newton = max(float(step[k, 0].abs_upper()) for k in range(n))
                # The point may solve rounded equations; that of the written ones is a step away.
                improvable = newton > _IMPROVABLE * size and tries > 1
                for factor in () if improvable else _FACTORS:
                    radius = float(np.nextafter(max(factor * newton, _SMALLEST * size, 1e-300), np.inf))
                    if radius > _LARGEST * max(size, 1.0):
                        break
                    if self._holds(x, step, approximate, radius):
                        if real or not self.is_real or bool(np.abs(center.imag).max() > radius):
                            return _Box(center, radius)
                        return None
                correction = np.array([complex(step[k, 0]) for k in range(n)])
                # Zeros for structural reasons stay zeros; rounding of the inverse is all that moves them.
                correction[(center == 0) & (np.abs(correction) <= _SMALLEST * size)] = 0.0
                moved = center - correction
                center = moved.real.astype(np.complex128) if real else moved
                # Written so that a step that is not a number ends it too.
                if not bool(np.abs(center - point).max() <= _LARGEST * max(size, 1.0)):
                    return None
        return None

    def _holds(
        self, x: list[flint.acb], step: flint.acb_mat, approximate: flint.acb_mat, radius: float
    ) -> bool:
        ball = flint.acb(flint.arb(0, radius), flint.arb(0, radius))
        one = flint.acb_mat(len(x), len(x), [int(i == j) for i in range(len(x)) for j in range(len(x))])
        spread = one - approximate * flint.acb_mat(self.jacobian([value + ball for value in x]))
        limit = flint.arb(radius)
        for row, moved in zip(spread.tolist(), step.entries(), strict=True):
            total = sum((entry.abs_upper() for entry in row), flint.arb(0))
            # Points of the box are within sqrt(2) of its radius, which is less than 3/2. An undecidable comparison of
            # balls is False.
            if not (moved.abs_upper() + 1.5 * total * limit < limit and 2 * total * total < 1):
                return False
        return True


def certified(family: ParametricFamily, parameters: NDArray[np.generic], solutions: Solutions) -> Solutions:
    """Return the solutions with radii of boxes that hold exactly one true solution each, NaN where unproved.

    One solution of every sign orbit is certified, the others follow by symmetry. Boxes that are not disjoint
    from all others are not counted as certified: two points may stand for one solution. The imaginary parts
    of solutions that are proved to be real become exactly zero.

    Statistics gain ``certified`` and ``certified_real``; the evidence tells what could not be certified.
    """
    certifier = Certifier(family, parameters)
    points = solutions.points.copy()
    n = len(points)
    radii = np.full(n, np.nan)
    proved_real = np.zeros(n, dtype=bool)
    signs = family.sign_group().elements()
    # Without negative zeros, equal points have equal bytes.
    where = {(point + 0.0).tobytes(): k for k, point in enumerate(points)}
    done = np.zeros(n, dtype=bool)
    for k in range(n):
        if done[k]:
            continue
        images = np.where(signs < 0, -points[k], points[k]) + 0.0
        members = [where.get(image.tobytes()) for image in images]
        box = certifier.certify(points[k])
        for member, flips in zip(members, signs, strict=True):
            if member is None or done[member]:
                continue
            done[member] = True
            if box is not None:
                radii[member] = box.radius
                proved_real[member] = certifier.is_real and not box.point.imag.any()
                points[member] = np.where(flips < 0, -box.point, box.point)
    touching = _touching(points, radii)
    radii[touching] = np.nan
    count, real = int(np.isfinite(radii).sum()), int((proved_real & np.isfinite(radii)).sum())
    sentence = f"{count} of {n} were proved to be regular solutions, all different, {real} of them real."
    missing = np.flatnonzero(~np.isfinite(radii))
    if missing.size:
        named = ", ".join(str(k) for k in missing[:10]) + (" and others" if missing.size > 10 else "")
        sentence += f" Not certified: number {named}, counted from zero."
    bound = family.solution_bound()
    complete = count == n == bound
    if complete:
        sentence += f" There are at most {bound}: {family.solution_bound_reason()}"
    return evolve(
        solutions,
        points=points,
        certificates=radii,
        completeness="proved" if complete else solutions.completeness,
        evidence=f"{solutions.evidence} {sentence}".strip(),
        statistics={**solutions.statistics, "certified": count, "certified_real": real},
    )


def _touching(points: Complex, radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes are not certainly disjoint from all others."""
    n = len(points)
    touching = np.zeros(n, dtype=bool)
    sized = np.flatnonzero(np.isfinite(radii))
    if len(sized) < 2:
        return touching
    # Boxes that overlap overlap in this coordinate; sorted by it, only neighbours need comparing.
    along = points[sized].real @ (1.0 / np.arange(1, points.shape[1] + 1))
    order = sized[np.argsort(along, kind="stable")]
    position = np.sort(along, kind="stable")
    weight = float((1.0 / np.arange(1, points.shape[1] + 1)).sum())
    largest = float(radii[sized].max())
    for offset in range(1, len(order)):
        # Rounding of the products is far below this margin.
        near = position[offset:] - position[:-offset] <= 2 * weight * largest + 1e-12 * (
            np.abs(position[offset:]) + 1
        )
        if not near.any():
            break
        left, right = order[:-offset][near], order[offset:][near]
        difference = points[left] - points[right]
        distance = np.maximum(np.abs(difference.real), np.abs(difference.imag)).max(axis=1, initial=0.0)
        # Twice the sum of the radii leaves room for the rounding of the difference.
        close = distance <= 2 * (radii[left] + radii[right])
        touching[left[close]] = touching[right[close]] = True
    return touching
