"""Simple solutions that lie too near to each other for double precision, and coordinates too small for it.

Where several paths end at one place, the equations have a multiple solution there, or several simple ones whose
distance is lost in rounding. Newton's method on the equations as they are written, with numbers of 400 bits, tells
which: near a solution of multiplicity m its steps shrink by 1 - 1/m and no faster, near a simple one they are squared
as soon as they are smaller than the distance to the next solution (Decker, Keller and Kelley, Convergence rates for
Newton's method at singular points, SIAM J. Numer. Anal. 20 (1983)). In the same way a coordinate that double precision
cannot tell from zero either falls below every bound, or stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flint
import numpy as np
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, PolynomialSystem
from landscape_homotopy.exact_terms import Terms, exact_terms

__all__ = ["REACH", "Precise", "Root"]

Complex = NDArray[np.complex128]
#: A point with coordinates of 400 bits.
Root = list[flint.acb]

_BITS = 400
#: Steps of Newton's method. From a distance of 0.1 to solutions of a cluster of three that are 1e-12 apart, 62.
_STEPS = 80
#: Newton's method has arrived when a step is smaller than this, relative to the point, and than that part of the last
#: one. At a multiple solution steps shrink by 1/2 at best, and 80 of them do not make 1e-40.
_ARRIVED, _QUADRATIC = 1e-40, 1e-3
#: Two limits are one when they are nearer than this, relative to the point.
_ONE = 1e-30
#: Newton's method begins at these distances from the place where paths ended, relative to the point; most at any one.
_DISTANCES = (1e-2, 1e-4, 1e-1, 1e-3, 1e-6, 1e-8)
_MOST = 24
#: A last step that is longer than this leads nowhere in particular.
_SLOW = 1e-8
#: A limit farther from it than this belongs to other paths.
REACH = 0.15
#: A real or imaginary part of a limit that is smaller than this, in units that suit the equations and relative to the
#: point where that is large, is zero: algebraic numbers of moderate degree and height are not as small.
_NOTHING = 1e-60
#: The limit from a solution that is known to rounding is no farther off than this.
_ONE_POINT = 1e-8


def _middle(value: flint.acb) -> flint.acb:
    return flint.acb(value.real.mid(), value.imag.mid())


class Precise:
    """The equations of one member of a family, with numbers of 400 bits.

    Parameters
    ----------
    system
        The member, or what writes it out; of its coefficients nothing is rounded that was not before.
    units
        Sizes of the unknowns, shape (N,): distances are measured in them.
    family, parameters
        The family and the parameters of the member, where rounded coefficients are not all that is known.
    """

    def __init__(
        self,
        system: Callable[[], PolynomialSystem],
        units: NDArray[np.float64],
        family: ParametricFamily | None = None,
        parameters: NDArray[np.generic] | None = None,
    ) -> None:
        n = len(units)
        self.units = units
        values: NDArray[np.generic] = np.zeros(0)
        if family is None or parameters is None:
            exact = system().exact
        else:
            written, values = family.written_out(np.asarray(parameters, dtype=np.complex128))
            exact = written.exact
        with flint.ctx.workprec(_BITS):
            self._terms: list[Terms] = [
                [(_middle(value), powers) for value, powers in terms]
                for terms in exact_terms(exact, n, values)
            ]

    def _value_and_jacobian(self, x: Root) -> tuple[list[flint.acb], list[list[flint.acb]]]:
        n = len(x)
        zero = flint.acb(0)
        values, rows = [], [[zero] * n for _ in self._terms]
        for row, terms in zip(rows, self._terms, strict=True):
            total = zero
            for coefficient, factors in terms:
                product = coefficient
                for v, power in factors:
                    product = product * x[v] ** power
                total = total + product
                for v, power in factors:
                    slope = coefficient * power
                    for w, other in factors:
                        exponent = other - 1 if w == v else other
                        if exponent:
                            slope = slope * x[w] ** exponent
                    row[v] = row[v] + slope
            values.append(total)
        return values, rows

    def _length(self, step: Sequence[flint.acb]) -> float:
        return max(float(abs(s).mid()) / float(u) for s, u in zip(step, self.units, strict=True))

    def limit(self, start: Complex, centre: Complex, reach: float) -> tuple[Root | None, float]:
        """Return where Newton's method leads from `start`, of shape (N,), and the length of the last step.

        The length is zero at a simple solution, positive where the method is still on its way, to a multiple one most
        likely. None is returned for what is farther from `centre` than `reach`. Lengths are relative to the size of
        `centre`, in the units of this object.
        """
        n = len(start)
        size = max(1.0, float(np.abs(centre / self.units).max(initial=0.0)))
        previous = np.inf
        with flint.ctx.workprec(_BITS):
            x = [flint.acb(value) for value in start.tolist()]
            middle = [flint.acb(value) for value in centre.tolist()]
            for _ in range(_STEPS):
                value, jacobian = self._value_and_jacobian(x)
                try:
                    solved = flint.acb_mat(jacobian).solve(flint.acb_mat(n, 1, value), algorithm="approx")
                except ZeroDivisionError:
                    return None, np.inf
                step = [_middle(solved[k, 0]) for k in range(n)]
                length = self._length(step) / size
                if not np.isfinite(length):
                    return None, np.inf
                x = [_middle(a - b) for a, b in zip(x, step, strict=True)]
                if length < _ARRIVED and length < _QUADRATIC * previous:
                    length = 0.0
                    break
                previous = length
            near = self._length([a - b for a, b in zip(x, middle, strict=True)]) <= reach * size
            return (x, length) if near else (None, np.inf)

    def same(self, one: Root, other: Root) -> bool:
        """Return whether two limits are one solution."""
        with flint.ctx.workprec(_BITS):
            size = max(1.0, self._length(one))
            return self._length([a - b for a, b in zip(one, other, strict=True)]) < _ONE * size

    def rounded(self, root: Root) -> Complex:
        """Return a limit in double precision, shape (N,), with zeros for real and imaginary parts below all bounds."""
        with flint.ctx.workprec(_BITS):
            smallest = _NOTHING * max(1.0, float(self._length(root))) * self.units
        parts = np.array([complex(value) for value in root], dtype=np.complex128)
        for part in (parts.real, parts.imag):
            part[np.abs(part) <= smallest] = 0.0
        return parts

    def around(
        self, centre: Complex, directions: Complex, paths: int, taken: Sequence[Root]
    ) -> tuple[list[Root], Complex | None]:
        """Return simple solutions near a place where paths ended, and what else is there.

        Parameters
        ----------
        centre
            Where, shape (N,).
        directions
            In which the equations change, the last one least of all, shape (N, N), in the units of this object.
        paths
            How many paths ended there: no more solutions are looked for.
        taken
            Solutions at which other paths ended; they are left out.

        Returns
        -------
        found
            The solutions.
        other
            Shape (N,): where Newton's method tends to as slowly as to a multiple solution, None if nowhere.
        """
        n = len(centre)
        size = max(1.0, float(np.abs(centre / self.units).max(initial=0.0)))
        # Any directions will do, the same ones every time.
        rng = np.random.default_rng(n)
        found: list[Root] = []
        slowest, other = _SLOW, None
        tries = min(_MOST, 2 * paths + 2)
        for distance in _DISTANCES:
            for number in range(tries):
                # Around a circle in the direction in which the equations change least; and other ones.
                weights = np.zeros(n, dtype=np.complex128)
                weights[-1] = np.exp(2j * np.pi * (number + rng.random()) / tries)
                if number % 2 and n > 1:
                    weights[:-1] = rng.normal(size=n - 1) + 1j * rng.normal(size=n - 1)
                offset = weights @ directions
                start = centre + distance * size * self.units * offset / np.abs(offset).max()
                limit, length = self.limit(start, centre, REACH)
                if limit is None:
                    continue
                if length:
                    if length < slowest:
                        slowest, other = length, self.rounded(limit)
                elif not any(self.same(limit, known) for known in (*taken, *found)):
                    found.append(limit)
                    if len(found) == paths:
                        return found, None
        return found, other

    def with_zeros(self, point: Complex, doubtful: NDArray[np.bool_]) -> Complex:
        """Return a simple solution, shape (N,), with its `doubtful` coordinates known: zero, or not.

        The others stay as they are; so do all where Newton's method does not return to the point.
        """
        limit, length = self.limit(point, point, _ONE_POINT)
        if limit is None or length:
            return point
        return np.where(doubtful, self.rounded(limit), point)
