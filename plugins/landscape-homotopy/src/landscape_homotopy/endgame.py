"""Where paths end that do not end in a regular solution: Cauchy's integral formula.

Near its end, with s = 1 - t, a path is a power series in s^(1/c), beginning with a negative power where it goes
to infinity. Carried around the circle |s| = r it closes after c turns, c the *winding number*. The mean over
those turns is the constant term of the series: for a finite end the end itself, however singular, from points
that are all regular. The other Fourier coefficients tell finite ends from infinite ones (Morgan, Sommese and
Wampler, A power series method for computing singular solutions to nonlinear analytic systems, Numer. Math. 63
(1992); Sommese and Wampler, The Numerical Solution of Systems of Polynomials, 2005, chapter 10).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape_homotopy.tracker import REGULAR, Homotopy, Settings, solve_batched, track

__all__ = ["RADIUS", "VANISHED", "Endings", "Escapes", "endings", "escaping", "falling", "height"]

Complex = NDArray[np.complex128]

#: Where the first circle lies. The radius shrinks until two circles in a row agree.
RADIUS = 0.05
_SHRINK = 0.25
_LEVELS = 12
#: Points per turn. The error of the mean is about (r / R)^8, R the distance of the next branch point, so that
#: a circle a quarter as large is 65,000 times better.
_CORNERS = 8
#: A path that has not closed after this many turns is tried on a smaller circle.
_TURNS = 16
#: Two ends of one turn are the same point when they differ by less than this, relative to its size. Points are
#: polished to about 1e-14, two branches of a series differ by a part of r^(1/c).
_CLOSED = 1e-7
#: Means of two circles that agree to this; the error of the smaller one is far below.
_AGREE = 1e-6
#: The same means on two circles also come of a third that other branch points lie in. The end itself solves the
#: equations: there they are smaller than on the circle by this factor at least.
_SOLVED = 1e-3
#: Points of a circle that are nearer to their mean than this, relative to its size, are one.
_STILL = 1e-9
#: Negative powers are less than this part of the size for finite ends, which have none but aliases of high powers,
#: and more than that part on two circles in a row, the outer being smaller, for infinite ones.
_POSITIVE, _NEGATIVE = 1e-3, 0.5
#: Exponents of the homogenising coordinate on its way to zero: estimates at so many radii in a row, by its slope and
#: by its decrease from radius to radius, agree to this part of them.
_STEADY, _STEADY_LEVELS = 0.03, 3
#: Changes of exponents above this part of them may not grow by this factor from radius to radius: a constant term,
#: which there is at finite ends, changes them by a factor of 4^e.
_DEPARTING, _FASTER = 0.002, 1.1
#: A constant term of the homogenising coordinate changes its exponent by the same part, so that it is smaller than the
#: coordinate by this factor where the exponent is steady.
_BEYOND = 10.0
#: Exponents in power series in s^(1/c) are not smaller than this for c up to 16. At finite ends estimates tend to zero.
_SLOWEST = 1 / 32
#: Paths with a steady exponent are at infinity at the last radius, or where they are lost, when they are this near to
#: it, and at any radius when they are that near.
_NEAR_INFINITY, _STEADY_NEAR = 0.5, 1e-6
#: A path that is lost this near to infinity while it falls as this power of s, or a higher one. From s = 0.5 to
#: RADIUS that makes 1e-8.
_FALLEN, _FALLS = 1e-3, 5.0
#: Radii at which exponents are estimated, and number of the one at which paths that stay in doubt are kept for the
#: integrals: their windings close there, which on the largest circle other branch points prevent.
_ESCAPE_LEVELS, _KEPT_LEVEL = 12, 4
#: A path whose homogenising coordinate has become this small beside the largest while s >= RADIUS is at infinity: at
#: degenerate points of infinity it falls as s^40 and faster, and soon all bits of the Jacobian are gone. To come as
#: near and return, a path would have to meet a complex number to eight digits.
VANISHED = 1e-8
#: The same for s < RADIUS, and for paths that are lost there.
_GONE, _LOST_NEAR = 1e-10, 1e-5
#: A path this far out is at infinity.
_FAR = 1e8

_ARC = Settings(first_step=0.25, most_steps=300)


@frozen(eq=False)
class Endings:
    """Ends of n paths.

    Attributes
    ----------
    points
        Shape (n, N): the end where it is finite, else the last point that was reached on the way to it.
    finite, infinite
        Shape (n,); neither where the endgame came to no result.
    winding
        Winding numbers where finite, shape (n,).
    accuracy
        Difference between the last two estimates relative to their size, shape (n,); the error is smaller.
    constant
        Modulus of the last coordinate where finite, beside its largest on the circle around, shape (n,). A coordinate
        that is zero at the end has no constant term, but for errors.
    """

    points: Complex
    finite: NDArray[np.bool_]
    infinite: NDArray[np.bool_]
    winding: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    constant: NDArray[np.float64]


def height(z: Complex) -> NDArray[np.float64]:
    """Return the modulus of the last, homogenising coordinate beside the largest: zero at infinity, shape (n,)."""
    moduli = np.abs(z)
    return np.asarray(moduli[:, -1] / np.maximum(moduli.max(axis=1, initial=0.0), 1e-300))


def _exponent(family: Homotopy, z: Complex, p0: Complex, p1: Complex, s: float) -> NDArray[np.float64]:
    """Return the real part of s w' / w, w = z_0 / z_k, at `s`: z_0 the last coordinate, z_k the largest one.

    Shapes (n, N) and (n, M). The ratio is a power of s as soon as the path is near its end, wherever that lies; z_0 by
    itself only where the patch is not nearly parallel to it, since then all coordinates still grow.
    """
    difference = p0 - p1
    p = p1 + s * difference
    with np.errstate(all="ignore"):
        slope = solve_batched(
            family.jacobian(z, p), family.parameter_derivative(z, p, difference)[:, :, None]
        )
        largest = np.abs(z).argmax(axis=1)[:, None]
        one, its = (np.take_along_axis(each, largest, axis=1)[:, 0] for each in (z, slope[:, :, 0]))
        return np.asarray(-(s * (slope[:, -1, 0] / z[:, -1] - its / one)).real)


def falling(family: Homotopy, z: Complex, p0: Complex, p1: Complex, s: float) -> NDArray[np.bool_]:
    """Return which paths that cannot be tracked on from `z` at `s` are so because they fall to infinity.

    The homogenising coordinate is small, and decreases as a high power of s: then more bits of the Jacobian are lost
    from step to step. Shapes as for :func:`escaping`.
    """
    return np.asarray((height(z) < _FALLEN) & (_exponent(family, z, p0, p1, s) > _FALLS))


@frozen(eq=False)
class Escapes:
    """What :func:`escaping` finds out about n paths.

    Attributes
    ----------
    infinite
        Which go to infinity, shape (n,); False where nothing can be said.
    points
        Regular solutions at s = `radii`, shape (n, N): nearer to the end than before where possible.
    radii
        Shape (n,), of two values.
    nearest, remaining
        The last points that were reached, shape (n, N), and s there, shape (n,).
    reach
        Finite ends at most so far out are excluded where infinite, shape (n,), beside the largest coordinate.
    """

    infinite: NDArray[np.bool_]
    points: Complex
    radii: NDArray[np.float64]
    nearest: Complex
    remaining: NDArray[np.float64]
    reach: NDArray[np.float64]


def escaping(family: Homotopy, z: Complex, p0: Complex, p1: Complex) -> Escapes:
    """Find out which paths go to infinity, in homogeneous coordinates, without going around their ends.

    There the last coordinate is a power series in s that begins with s^(m/c), m > 0; at a finite end it begins with a
    constant. The exponent is estimated by s z_0' / z_0 at ever smaller s until it is steady, or its limit as s^(1/c)
    tends to zero is (Aitken's extrapolation). That is several times cheaper than Cauchy's integrals, which need c
    turns; and infinity is where most paths of a total degree homotopy end, at points of every multiplicity.

    Parameters
    ----------
    family
        The family.
    z
        Regular solutions at s = RADIUS, shape (n, N).
    p0, p1
        Parameters at s = 1 and s = 0, shape (n, M).
    """
    n = len(z)
    infinite, points, radii = np.zeros(n, dtype=bool), z.copy(), np.full(n, RADIUS)
    active, here, radius = np.arange(n), z, RADIUS
    # Estimates at the last three radii, their limits at the last two; latest first.
    exponents = np.full((n, 3), np.nan)
    limits = np.full((n, 2), np.nan)
    agreed, steady = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    heights = np.full(n, np.nan)
    nearest, remaining, reach = z.copy(), np.full(n, RADIUS), np.zeros(n)
    for level in range(_ESCAPE_LEVELS):
        difference = p0[active] - p1[active]
        if level:
            smaller = radius * _SHRINK
            ends = track(
                family, here, p1[active] + radius * difference, p1[active] + smaller * difference, Settings()
            )
            good = ends.outcome == REGULAR
            infinite[active[~good & (steady[active] | (height(here) < _LOST_NEAR))]] = True
            active, here, radius, difference = active[good], ends.points[good], smaller, difference[good]
        nearest[active], remaining[active] = here, radius
        if level == _KEPT_LEVEL:
            points[active], radii[active] = here, radius
        if active.size == 0:
            break
        exponent = _exponent(family, here, p0[active], p1[active], radius)
        with np.errstate(all="ignore"):
            decrease = np.log(height(here) / heights[active]) / np.log(_SHRINK)
            first, second, third = exponent, exponents[active, 0], exponents[active, 1]
            limit = first - (first - second) ** 2 / (first - 2 * second + third)
            same = np.maximum(np.abs(first - second), np.abs(first - decrease)) < _STEADY * first
            extrapolated = (np.abs(limits[active] - limit[:, None]) < _STEADY * limit[:, None]).all(axis=1)
            # On the way to a finite end the exponents leave that of its neighbourhood ever faster, which the formula
            # would lead back to it.
            extrapolated &= np.abs(first - second) < np.abs(second - third)
            same &= (np.abs(first - second) < _DEPARTING * first) | (
                np.abs(first - second) < _FASTER * np.abs(second - third)
            )
        agreed[active] = np.where(same, agreed[active] + 1, 0)
        exponents[active] = np.stack([first, second, third], axis=1)
        heights[active] = height(here)
        limits[active] = np.stack([limit, limits[active, 0]], axis=1)
        steady[active] = (agreed[active] >= _STEADY_LEVELS - 1) | (extrapolated & (limit > _SLOWEST))
        steady[active] &= (exponent > _SLOWEST) & (height(here) < _NEAR_INFINITY)
        reach[active] = np.where(steady[active], _BEYOND, 1.0) / np.maximum(height(here), 1e-300)
        # A double solution of size R looks infinite while s > 1 / R^2, so that steadiness alone does not count yet.
        gone = height(here) < np.where(steady[active], _STEADY_NEAR, _GONE)
        infinite[active[gone]] = True
        active, here = active[~gone], here[~gone]
    infinite[active] = steady[active]
    return Escapes(infinite, points, radii, nearest, remaining, reach)


def _circle(
    family: Homotopy, z: Complex, p0: Complex, p1: Complex, radius: float
) -> tuple[list[Complex], NDArray[np.int64]]:
    """Go around |s| = radius until every path closes; return its points, (c * corners, N), and c or 0."""
    n = len(z)
    winding = np.zeros(n, dtype=np.int64)
    samples: list[list[Complex]] = [[z[k]] for k in range(n)]
    active = np.arange(n)
    here = z.copy()
    corners = radius * np.exp(2j * np.pi * np.arange(_CORNERS + 1) / _CORNERS)
    corners[-1] = corners[0]
    size = np.maximum(np.abs(z).max(axis=1), 1e-300)
    for turn in range(1, _TURNS + 1):
        for a, b in pairwise(corners):
            difference = p0[active] - p1[active]
            ends = track(family, here, p1[active] + a * difference, p1[active] + b * difference, _ARC)
            good = ends.outcome == REGULAR
            active, here = active[good], ends.points[good]
            for k, point in zip(active, here, strict=True):
                samples[k].append(point)
        closed = np.abs(here - z[active]).max(axis=1, initial=0.0) < _CLOSED * size[active]
        winding[active[closed]] = turn
        active, here = active[~closed], here[~closed]
        if active.size == 0:
            break
    # The last point repeats the first.
    return [
        np.array(points[:-1]) if c else np.array(points) for points, c in zip(samples, winding, strict=True)
    ], winding


def endings(family: Homotopy, z: Complex, p0: Complex, p1: Complex, radius: float = RADIUS) -> Endings:
    """Find the ends at s = 0 of paths with parameters p_1 + s (p_0 - p_1) that are at `z` for s = `radius`.

    Parameters
    ----------
    family
        The family.
    z
        Regular solutions at s = `radius`, shape (n, N).
    p0, p1
        Parameters at s = 1 and s = 0, shape (n, M).
    radius
        Of the first circle.
    """
    n, unknowns = z.shape
    points = z.copy()
    finite, infinite = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    winding = np.zeros(n, dtype=np.int64)
    accuracy, constant = np.full(n, np.inf), np.ones(n)
    means = np.full((n, unknowns), np.nan, dtype=np.complex128)
    negative, before = np.zeros(n), np.full(n, np.inf)
    active, here = np.arange(n), z.copy()
    for level in range(_LEVELS):
        if level:
            difference = p0[active] - p1[active]
            smaller = radius * _SHRINK
            there = p1[active] + smaller * difference
            ends = track(family, here, p1[active] + radius * difference, there, Settings())
            good = ends.outcome == REGULAR
            # Out of reach: the coordinates have grown beyond what the tracker takes.
            infinite[active[~good & (np.abs(here).max(axis=1) > _FAR / 100)]] = True
            active, here, radius = active[good], ends.points[good], smaller
        far = np.abs(here).max(axis=1, initial=0.0) > _FAR
        infinite[active[far]] = True
        active, here = active[~far], here[~far]
        points[active] = here
        if active.size == 0:
            break
        circles, turns = _circle(family, here, p0[active], p1[active], radius)
        settled = np.zeros(len(active), dtype=bool)
        for number, (k, circle, c) in enumerate(zip(active, circles, turns, strict=True)):
            if not c:
                negative[k], before[k], means[k] = 0.0, np.inf, np.nan
                continue
            coefficients = np.fft.fft(circle, axis=0) / len(circle)
            size = max(float(np.abs(coefficients[0]).max()), 1e-300)
            # Of len(circle) coefficients the second half are the negative powers.
            below = float(np.abs(coefficients[len(circle) // 2 + 1 :]).max(initial=0.0))
            share = below / max(size, float(np.abs(circle).max()))
            scale = max(size, 1.0)
            change = float(np.abs(coefficients[0] - means[k]).max()) / scale
            if share > _NEGATIVE and negative[k] > _NEGATIVE and below > before[k]:
                infinite[k] = settled[number] = True
            elif change < _AGREE and share < _POSITIVE and c == winding[k]:
                target = np.tile(p1[k], (len(circle) + 1, 1))
                sizes = np.abs(
                    family.value_and_jacobian(np.vstack([coefficients[:1], circle]), target)[0]
                ).max(axis=1)
                # A path that no longer moves, or never did, has arrived: then all of them are rounding errors.
                still = np.abs(circle - coefficients[0]).max() < _STILL * size
                if still or sizes[0] < _SOLVED * sizes[1:].max():
                    points[k], accuracy[k] = coefficients[0], change
                    largest = max(float(np.abs(circle[:, -1]).max()), 1e-300)
                    constant[k] = float(np.abs(coefficients[0, -1])) / largest
                    finite[k] = settled[number] = True
            negative[k], before[k], means[k], winding[k] = share, below, coefficients[0], c
        active, here = active[~settled], here[~settled]
        if active.size == 0:
            break
    return Endings(points, finite, infinite, np.where(finite, winding, 0), accuracy, constant)
