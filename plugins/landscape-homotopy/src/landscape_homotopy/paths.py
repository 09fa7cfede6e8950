"""Paths followed to whatever ends they have: regular, singular, or at infinity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from landscape.errors import SolverError
from landscape.systems import ParametricFamily, PolynomialSystem, Solutions
from landscape_homotopy.certification import certified
from landscape_homotopy.endgame import RADIUS, VANISHED, endings, escaping, falling, height
from landscape_homotopy.multiplicity import LocalStructure, local_structure
from landscape_homotopy.points import NEAR, SAME, ZERO, distinct, is_regular
from landscape_homotopy.scaling import Scaled, scaled
from landscape_homotopy.separation import REACH, Precise, Root
from landscape_homotopy.tracker import LOST, REGULAR, Homotopy, Settings, polish, track

__all__ = ["CAREFUL", "INFINITE", "SINGULAR", "Ends", "follow", "gathered", "proved"]

Complex = NDArray[np.complex128]

#: More outcomes of a path: a finite end where the Jacobian is singular, and none because the path is unbounded.
SINGULAR, INFINITE = 2, 3

CAREFUL = Settings(
    contraction=0.002, displacement=0.01, first_step=0.002, smallest_step=1e-12, most_steps=6000
)
#: From s = RADIUS a regular end is a few steps away.
_LAST = Settings(first_step=0.1, most_steps=80)
#: And from where its exponents were looked at last, if it is regular.
_NEAR = Settings(first_step=0.5, most_steps=40)
#: Paths in homogeneous coordinates that got lost are looked at so often on the way to s = RADIUS.
_LEGS = 40
#: Paths have met when they are nearer than this, relative to their size: both are polished to about 1e-14, and
#: paths to infinity may differ only in coordinates that are small beside the others.
_MET = 1e-11
#: Singular ends nearer to each other than this, relative to their size, are one. They are known to about 1e-9.
_TOGETHER = 1e-5
#: Numbers of a point that are written out in errors.
_SHOWN = 4
#: The homogenising coordinate of an end at infinity is smaller than its largest value nearby by this factor. What it
#: is instead of zero is an error; ends are excluded that are this part as far out as it says.
_NO_CONSTANT, _ROUNDED = 1e-2, 0.1
#: Singular ends this far out, in units that suit the equations, are not told from points of curves at infinity.
_FARTHEST = 1e5
#: What a singular end is known to, with a margin, and how small the equations are there beside the sum of the moduli
#: of their terms. Ends that come of a wrong extrapolation miss the second by far.
_KNOWN, _SOLVED = 1e-6, 1e-5
#: Where no coordinate is smaller than this part of the largest, none is looked at in units that suit the equations.
_SMALL = 1e-6
#: To what a multiple solution beside simple ones is known at least, from Newton's method alone.
_TOLD = 1e-8


@frozen(eq=False)
class Ends:
    """Ends of n paths.

    Attributes
    ----------
    points
        Shape (n, N); of a path without a finite end, the last point where the endgame saw it, or zero.
    outcome
        REGULAR, SINGULAR, INFINITE or LOST, shape (n,).
    winding
        Winding numbers of singular ends, one elsewhere, shape (n,).
    residuals
        Relative size of the last Newton correction, or of the change in the last estimate of a singular end.
    retried
        Which paths were followed again with short steps, shape (n,).
    reach
        Of paths in homogeneous coordinates that are said to be infinite: finite ends at most so far out are
        excluded. Shape (n,), infinite for all others.
    """

    points: Complex
    outcome: NDArray[np.int64]
    winding: NDArray[np.int64]
    residuals: NDArray[np.float64]
    retried: NDArray[np.bool_]
    reach: NDArray[np.float64]


class Projective(Protocol):
    """Homogeneous coordinates on a patch, a linear equation whose coefficients are parameters."""

    def centred(self, z: Complex, p: Complex) -> Complex:
        """Return parameters (n, M) as p, on patches that suit the points z (n, N)."""

    def onto(self, z: Complex, p: Complex) -> Complex:
        """Return the representatives (n, N) of the points z on the patches of p."""


def _on(settings: Settings, device: str | None) -> Settings:
    """Return settings for a device, careful ones as they are."""
    return settings if device is None or settings == CAREFUL else evolve(settings, device=device)


def _met(target: NDArray[np.int64], points: Complex) -> NDArray[np.bool_]:
    """Return which points coincide with another one of the same target."""
    first = distinct(target, points, _MET)
    return np.asarray(~(first & distinct(target[::-1], points[::-1], _MET)[::-1]))


def follow(
    family: Homotopy,
    start: Complex,
    p0: Complex,
    p1: Complex,
    target: NDArray[np.int64],
    *,
    projective: Projective | None = None,
    device: str | None = None,
) -> Ends:
    """Follow solutions of F(.; p0) to their ends at p1.

    Two paths to one target do not meet before its end. Where two have, at a short distance from it, one has
    jumped, and both are followed again with short steps; so are paths that got lost before.

    Parameters
    ----------
    family
        The family.
    start
        Regular solutions, distinct for each target, shape (n, N).
    p0, p1
        Parameters, shape (n, M). Points on the segment between them, its end apart, must be generic.
    target
        Numbers of the targets, shape (n,): paths with equal numbers have equal parameters.
    projective
        Where the last coordinate is a homogenising one, zero at infinity: how to change the patch. Paths that go to
        infinity are found out early: some come so near to it long before their end that nothing is left to be told
        apart, or tracked. Where a patch is nearly parallel to the end of a path, power series have no room to
        converge: for s < RADIUS every path has a patch of its own.
    device
        Where torch follows paths to their regular ends; what is followed again, and endgames, stay on the CPU.
    """
    n, unknowns = start.shape
    points = np.zeros((n, unknowns), dtype=np.complex128)
    outcome, winding = np.full(n, LOST), np.ones(n, dtype=np.int64)
    residuals = np.full(n, np.nan)
    retried = np.zeros(n, dtype=bool)
    if n == 0 or unknowns == 0:
        return Ends(points, np.full(n, REGULAR), winding, np.zeros(n), retried, np.full(n, np.inf))
    near = p1 + RADIUS * (p0 - p1)
    z = np.zeros((n, unknowns), dtype=np.complex128)
    there, gone = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    which = np.arange(n)
    for settings in (Settings(), CAREFUL, CAREFUL):
        if projective is not None and settings == CAREFUL:
            z[which], there[which], gone[which] = _in_legs(family, start[which], p0[which], p1[which])
        else:
            ends = track(family, start[which], p0[which], near[which], _on(settings, device))
            z[which], there[which] = ends.points, ends.outcome == REGULAR
            if projective is not None:
                gone[which] = there[which] & (height(z[which]) < VANISHED)
        there &= ~gone
        arrived = np.flatnonzero(there)
        again = ~(there | gone)
        again[arrived] = _met(target[arrived], z[arrived])
        # Of two that meet after the second turn, the one that was not in it has jumped in the first.
        which = np.flatnonzero(again & ~retried)
        if which.size == 0:
            break
        retried[which] = True
    reach = np.full(n, np.inf)
    points[gone], outcome[gone] = z[gone], INFINITE
    reach[gone] = 1.0 / np.maximum(height(z[gone]), 1e-300)
    points[~there] = z[~there]
    # What still meets has jumped for good: one of them is right, nobody knows which path it belongs to.
    arrived = np.flatnonzero(there)
    which = arrived[distinct(target[arrived], z[arrived], _MET)]
    ends = track(family, z[which], near[which], p1[which], _on(_LAST, device))
    regular = ends.outcome == REGULAR
    regular[regular] = is_regular(family, ends.points[regular], p1[which[regular]])
    regular[regular] = ~_met(target[which[regular]], ends.points[regular])
    done = which[regular]
    points[done], residuals[done], outcome[done] = ends.points[regular], ends.residuals[regular], REGULAR
    which = which[~regular]
    radii = np.full(n, RADIUS)
    origin, goal = p0.copy(), p1.copy()
    if projective is not None and which.size:
        _centre(projective, z, origin, goal, which)
        seen = escaping(family, z[which], origin[which], goal[which])
        z[which], radii[which] = seen.points, seen.radii
        # A regular end that is far out, or has a branch point nearby, can be reached from as near as that.
        far = goal[which] + seen.remaining[:, None] * (origin[which] - goal[which])
        ends = track(family, seen.nearest, far, goal[which], _NEAR)
        regular = ends.outcome == REGULAR
        regular[regular] = is_regular(family, ends.points[regular], goal[which[regular]])
        common = projective.onto(ends.points[regular], p1[which[regular]])
        regular[regular] = ~_met(target[which[regular]], common)
        done = which[regular]
        points[done], residuals[done], outcome[done] = ends.points[regular], ends.residuals[regular], REGULAR
        gone = seen.infinite & ~regular
        outcome[which[gone]], reach[which[gone]] = INFINITE, seen.reach[gone]
        which = which[~gone & ~regular]
        _centre(projective, z, origin, goal, which)
    for radius in np.unique(radii[which]):
        some = which[radii[which] == radius]
        last = endings(family, z[some], origin[some], goal[some], float(radius))
        points[some] = last.points
        # In homogeneous coordinates all ends are finite.
        outcome[some[last.infinite]] = INFINITE if projective is None else LOST
        ended = last.finite
        if projective is not None:
            # Without a constant term the homogenising coordinate is zero at the end.
            gone = ended & (last.constant < _NO_CONSTANT)
            outcome[some[gone]] = INFINITE
            reach[some[gone]] = _ROUNDED / np.maximum(height(last.points[gone]), 1e-300)
            ended = ended & ~gone
        finite = np.flatnonzero(ended)
        done = some[finite]
        winding[done] = last.winding[finite]
        residuals[done], outcome[done] = last.accuracy[finite], SINGULAR
        # An end that was regular after all, only hard to reach.
        once = finite[last.winding[finite] == 1]
        done = some[once]
        refined, correction, _ = polish(family, points[done], goal[done])
        size = np.maximum(np.abs(refined).max(axis=1, initial=0.0), 1.0)
        good = (correction < 1e-9) & (np.abs(refined - points[done]).max(axis=1, initial=0.0) < 1e-6 * size)
        good[good] = is_regular(family, refined[good], goal[done[good]])
        done = done[good]
        points[done], residuals[done], outcome[done] = refined[good], correction[good], REGULAR
    return Ends(points, outcome, winding, residuals, retried, reach)


def _centre(projective: Projective, z: Complex, p0: Complex, p1: Complex, which: NDArray[np.int64]) -> None:
    """Bring the points `which` and their parameters, written in place, to patches of their own."""
    p0[which], p1[which] = (projective.centred(z[which], p[which]) for p in (p0, p1))
    z[which] = projective.onto(z[which], p1[which])


def _in_legs(
    family: Homotopy, start: Complex, p0: Complex, p1: Complex
) -> tuple[Complex, NDArray[np.bool_], NDArray[np.bool_]]:
    """Follow paths to s = RADIUS carefully, looking on the way which are as good as at infinity.

    Returns
    -------
    points, there, gone
        Where they ended, which are at s = RADIUS, and which went to infinity before.
    """
    points, gone = start.copy(), np.zeros(len(start), dtype=bool)
    active = np.arange(len(start))
    for s, following in pairwise(np.geomspace(1.0, RADIUS, _LEGS + 1)):
        if active.size == 0:
            break
        here, difference = p1[active], p0[active] - p1[active]
        ends = track(family, points[active], here + s * difference, here + following * difference, CAREFUL)
        arrived = ends.outcome == REGULAR
        lost, active = active[~arrived], active[arrived]
        gone[lost] = falling(family, points[lost], p0[lost], p1[lost], s)
        points[active] = ends.points[arrived]
        gone[active] = height(points[active]) < VANISHED
        active = active[~gone[active]]
    there = np.zeros(len(start), dtype=bool)
    there[active] = True
    return points, there, gone


def _solves(system: PolynomialSystem, point: Complex) -> bool:
    """Return whether a singular end solves the equations, as far as it is known."""
    moduli = np.abs(point)
    moduli = moduli + _KNOWN * max(1.0, float(moduli.max(initial=0.0)))
    sizes = [sum(abs(c) * float(np.prod(moduli**e)) for e, c in f.items()) for f in system.monomials]
    return bool((np.abs(system.value(point[None])[0]) <= _SOLVED * np.array(sizes)).all())


def _not_isolated(
    unknowns: Sequence[str], point: Complex, parameters: NDArray[np.generic] | None
) -> SolverError:
    """Return the error that says where solutions are not isolated, and what can be done."""
    size = float(np.abs(point).max())
    digits = 3 - int(np.floor(np.log10(size))) if size else 0
    # Adding zero makes a zero of what would be a negative one.
    values = np.round(point[:_SHOWN], digits) + 0.0
    shown = ", ".join(
        f"{name} = {value:.6g}" if value.imag else f"{name} = {value.real:.6g}"
        for name, value in zip(unknowns[:_SHOWN], values, strict=True)
    )
    more = ", ..." if len(unknowns) > _SHOWN else ""
    member = ""
    if parameters is not None and len(parameters):
        some = ", ".join(f"{value:.4g}" for value in parameters[:_SHOWN])
        member = f" with the parameters ({some}{', ...' if len(parameters) > _SHOWN else ''})"
    return SolverError(
        f"the system{member} has infinitely many solutions: a curve or surface of them passes through {shown}{more}. "
        f"Replace equations by ones that pick points of it, such as a linear one with random coefficients; regularise, "
        f"with a coefficient of its own for every weight, where the equations are the gradient of a loss; or give "
        f"leave_out_curves=True for the isolated solutions alone."
    )


@frozen(eq=False)
class _Cluster:
    """Singular ends at one place: their paths, the best known of them, and what double precision says of it."""

    members: NDArray[np.int64]
    best: int
    structure: LocalStructure


def _beside(points: Complex, centres: Complex, units: Scaled) -> NDArray[np.int64]:
    """Return which points (n, N) are near one of the centres (m, N)."""
    sizes = np.maximum(np.abs(centres / units.units).max(axis=1), 1.0)
    distances = np.abs((points[:, None] - centres) / units.units).max(axis=2, initial=0.0)
    return np.flatnonzero((distances <= 2 * REACH * sizes).any(axis=1))


def _limits(
    points: Complex, which: NDArray[np.int64], precise: Precise
) -> tuple[list[Root], NDArray[np.bool_]]:
    """Return what simple solutions some of the points (n, N) are, and which points are the same as one before.

    Points that are known badly, since others are near, are replaced in place.
    """
    taken: list[Root] = []
    same = np.zeros(len(points), dtype=bool)
    for number in which:
        limit, length = precise.limit(points[number], points[number], REACH)
        if limit is None or length:
            continue
        if any(precise.same(limit, known) for known in taken):
            same[number] = True
            continue
        taken.append(limit)
        points[number] = precise.rounded(limit)
    return taken, same


def _separated(
    clusters: list[_Cluster], precise: Precise, units: Scaled, ends: Ends, taken: list[Root]
) -> tuple[list[list[Root]], list[Complex | None], list[bool]]:
    """Return the simple solutions near every cluster that are not `taken` by other paths, and what else is there.

    Every solution is given to the nearest cluster. The third value tells of which clusters all paths are accounted for:
    there are as many solutions, or as many at these clusters together, since means over a few of several solutions
    that are permuted lie anywhere between them.
    """
    centres = np.array([ends.points[cluster.best] for cluster in clusters]) / units.units
    sizes = np.maximum(np.abs(centres).max(axis=1), 1.0)
    found: list[list[Root]] = [[] for _ in clusters]
    pool: list[Root] = []
    tending: list[Complex | None] = []
    for cluster, centre, size in zip(clusters, centres, sizes, strict=True):
        close = np.abs(centres - centre).max(axis=1) <= 2 * REACH * size
        paths = sum(len(other.members) for other, here in zip(clusters, close, strict=True) if here)
        directions = np.linalg.svd(units.system.jacobian(centre[None])[0])[2].conj()
        roots, other = precise.around(ends.points[cluster.best], directions, paths, taken)
        tending.append(other)
        for root in roots:
            if any(precise.same(root, known) for known in pool):
                continue
            pool.append(root)
            nearest = np.abs(centres - precise.rounded(root) / units.units).max(axis=1).argmin()
            found[nearest].append(root)
    paths_of = np.array([len(cluster.members) for cluster in clusters])
    roots_of = np.array([len(roots) for roots in found])
    settled = paths_of == roots_of
    for group in (~settled & (roots_of > 0), ~settled):
        if roots_of[group].sum() == paths_of[group].sum():
            settled |= group
            break
    return found, tending, settled.tolist()


def _alone(points: Complex, precise: Callable[[], Precise]) -> NDArray[np.bool_]:
    """Return a mask that keeps the first of regular ends (n, N) that are one solution.

    Of those that nearly coincide, relative to one if all coordinates are small, numbers of 400 bits decide.
    """
    alone = distinct(np.zeros(len(points), dtype=np.int64), points)
    if alone.all():
        return alone
    sizes = np.maximum(np.abs(points).max(axis=1, initial=0.0), 1.0)
    kept: dict[int, Root] = {}
    for number in np.flatnonzero(~alone).tolist():
        limit, length = precise().limit(points[number], points[number], NEAR)
        if limit is None or length:
            continue
        differ = True
        for other in np.flatnonzero(np.abs(points - points[number]).max(axis=1) <= 2 * SAME * sizes).tolist():
            if not alone[other]:
                continue
            if other not in kept:
                its, left = precise().limit(points[other], points[other], NEAR)
                if its is None or left:
                    differ = False
                    break
                kept[other] = its
            differ = differ and not precise().same(kept[other], limit)
        if differ:
            alone[number], kept[number] = True, limit
    return alone


def _vanish(system: PolynomialSystem, zeros: NDArray[np.bool_]) -> bool:
    """Return whether as many equations as there are `zeros` vanish identically where these coordinates are zero."""
    which = np.flatnonzero(zeros)
    vanishing = sum(all(any(e[k] for k in which) for e in f) for f in system.monomials)
    return vanishing >= which.size


def _with_zeros(
    points: Complex,
    accuracy: NDArray[np.float64],
    multiplicities: NDArray[np.int64],
    system: Callable[[], PolynomialSystem],
    precise: Callable[[], Precise],
) -> Complex:
    """Return distinct solutions (n, N) of one system with zeros where coordinates at rounding level are zero.

    A small coordinate is no zero: of simple solutions numbers of 400 bits decide. A multiple one has zeros where
    equations vanish identically with them, and otherwise what was found; what is small is asked there in units that
    suit the equations.
    """
    moduli = np.abs(points)
    if not len(points) or not (moduli < _SMALL * moduli.max(initial=0.0)).any():
        return points
    threshold = np.maximum(accuracy, ZERO)
    relative = moduli / scaled(system()).units
    doubtful = np.zeros(points.shape, dtype=bool)
    for each, rows in ((moduli, multiplicities == 1), (relative, multiplicities > 0)):
        sizes = each.max(axis=1, initial=0.0)
        small = (each <= (threshold * sizes)[:, None]) | (sizes < threshold * sizes.max())[:, None]
        doubtful |= small & rows[:, None]
    doubtful &= points != 0
    points = points.copy()
    for row in np.flatnonzero(doubtful.any(axis=1)):
        if multiplicities[row] == 1:
            points[row] = precise().with_zeros(points[row], doubtful[row])
        elif _vanish(system(), doubtful[row] | (points[row] == 0)):
            points[row, doubtful[row]] = 0.0
    return points


def proved(family: ParametricFamily, parameters: NDArray[np.generic], solutions: Solutions) -> Solutions:
    """Return solutions with certificates, complete only where no point that is called multiple has one.

    A box holds one solution, and that is regular: where it is around a multiple one, others are missing.
    """
    solutions = certified(family, parameters, solutions)
    certificates = np.empty(0) if solutions.certificates is None else solutions.certificates
    wrong = np.flatnonzero(np.isfinite(certificates) & (solutions.multiplicities > 1))
    if wrong.size == 0:
        return solutions
    named = ", ".join(map(str, wrong[:10]))
    return evolve(
        solutions,
        completeness="unknown",
        evidence=f"{solutions.evidence} Proved to be simple, though several paths ended there, so that others nearby "
        f"are missing: number {named}.",
    )


def gathered(
    system: Callable[[], PolynomialSystem],
    ends: Ends,
    *,
    parameters: NDArray[np.generic] | None = None,
    sentences: Sequence[str] = (),
    complete: bool = True,
    lost: int = 0,
    leave_out_curves: bool = True,
    family: ParametricFamily | None = None,
) -> Solutions:
    """Return the isolated solutions at the ends of all paths to one target.

    Parameters
    ----------
    system
        Writes out the target, where there are singular ends or very small coordinates.
    ends
        Of all paths to it.
    parameters
        Of the target in its family.
    sentences
        Beginning of the evidence.
    complete
        Whether every isolated solution is the end of as many paths as its multiplicity.
    lost
        Paths that were lost before.
    leave_out_curves
        Whether to return the isolated solutions where there are curves or surfaces of solutions besides.
    family
        Where coefficients without rounding come from, with `parameters`; those of the written system otherwise.

    Raises
    ------
    SolverError
        Where there are, if they are not to be left out.
    """
    n = ends.points.shape[1]
    regular = np.flatnonzero(ends.outcome == REGULAR)
    system, precise = (
        cache(system),
        cache(lambda: Precise(system, scaled(system()).units, family, parameters)),
    )
    alone = _alone(ends.points[regular], precise)
    # Two paths with one regular end: one of them jumped.
    lost += int((ends.outcome == LOST).sum() + (~alone).sum())
    regular = regular[alone]
    points, residuals = [ends.points[regular]], [ends.residuals[regular]]
    multiplicities = [np.ones(len(regular), dtype=np.int64)]
    curves = undecided = multiple = contradictory = near = inseparable = 0
    system, precise = (
        cache(system),
        cache(lambda: Precise(system, scaled(system()).units, family, parameters)),
    )
    left = np.flatnonzero(ends.outcome == SINGULAR)
    units = scaled(system()) if left.size else None
    clusters: list[_Cluster] = []
    while units is not None and left.size:
        others = ends.points[left] / units.units
        first = others[0]
        size = max(1.0, float(np.abs(first).max(initial=0.0)))
        here = np.abs(others - first).max(axis=1) < _TOGETHER * size
        members, left = left[here], left[~here]
        best = members[np.argmin(ends.residuals[members])]
        point = ends.points[best] / units.units
        if not _solves(units.system, point):
            lost += len(members)
            continue
        structure = local_structure(units.system, point, len(members))
        if structure.isolated is False and np.abs(point).max() > _FARTHEST:
            structure = LocalStructure(None, structure.multiplicity)
        if structure.isolated is False:
            if not leave_out_curves:
                raise _not_isolated(units.system.unknowns, ends.points[best], parameters)
            curves += len(members)
        else:
            clusters.append(_Cluster(members, int(best), structure))
    together: list[list[Root]] = []
    if units is not None and clusters:
        centres = np.array([ends.points[cluster.best] for cluster in clusters])
        beside = _beside(points[0], centres, units)
        taken, same = _limits(points[0], beside, precise())
        # Two regular ends that are badly known, of one solution.
        lost += int(same.sum())
        points, residuals, multiplicities = (
            [points[0][~same]],
            [residuals[0][~same]],
            [multiplicities[0][~same]],
        )
        together, tending, settled = _separated(clusters, precise(), units, ends, taken)
    for number, roots in enumerate(together):
        cluster = clusters[number]
        structure, paths, place = cluster.structure, len(cluster.members), ends.points[cluster.best]
        accuracy, simple = float(ends.residuals[cluster.best]), [precise().rounded(root) for root in roots]
        if len({point.tobytes() for point in simple}) < len(roots):
            inseparable += paths
        elif not roots and settled[number]:
            continue
        elif roots:
            points += [point[None] for point in simple]
            residuals.append(np.full(len(roots), np.finfo(float).eps))
            multiplicities.append(np.ones(len(roots), dtype=np.int64))
            near += len(roots)
            paths = 0 if settled[number] else paths - len(roots)
            if paths <= 0:
                contradictory += paths < 0
                continue
            other = tending[number]
            if other is None:
                lost += paths
                continue
            place, accuracy = other, _TOLD
            structure = local_structure(units.system, place / units.units, paths)
        if structure.isolated and structure.multiplicity == 1:
            # A regular solution that paths did not reach as such, or another path did: one of them has jumped.
            lost += paths
        elif structure.isolated:
            # Coordinates at rounding level of a singular end are those of a power of it; they stay.
            points.append(place[None])
            residuals.append(np.array([accuracy]))
            multiplicities.append(np.array([structure.multiplicity]))
            multiple += 1
            contradictory += structure.multiplicity != paths
        else:
            undecided += paths
    infinite = int((ends.outcome == INFINITE).sum())
    text = list(sentences)
    text.append(
        f"Of {len(ends.points)} paths {len(regular)} ended in regular solutions and {infinite} at infinity."
    )
    if multiple:
        total = int(sum(m[m > 1].sum() for m in multiplicities))
        text.append(f"{multiple} solutions are multiple, together {total}-fold.")
    if near:
        text.append(f"{near} solutions are so near to others that it took 400 bits to tell them apart.")
    if inseparable:
        text.append(
            f"{inseparable} paths ended in solutions that are different, but equal in double precision."
        )
    if curves:
        text.append(f"{curves} ended on curves or surfaces of solutions, which are left out.")
    if undecided:
        text.append(
            f"{undecided} ended where the Jacobian is singular and it was too costly to find out more."
        )
    if complete and contradictory:
        text.append(f"{contradictory} multiple solutions are the ends of another number of paths.")
    if lost:
        text.append(f"{lost} were lost: that many solutions may be missing.")
    known = np.concatenate([np.zeros(0), *residuals])
    counted = np.concatenate([np.zeros(0, dtype=np.int64), *multiplicities])
    found = np.concatenate([np.zeros((0, n), dtype=np.complex128), *points])
    doubt = lost or undecided or contradictory or inseparable
    return Solutions(
        _with_zeros(found, known, counted, system, precise),
        known,
        counted,
        completeness="heuristic" if complete and not doubt else "unknown",
        evidence=" ".join(text),
        parameters=parameters,
        statistics={
            "tracked": len(ends.points),
            "retried": int(ends.retried.sum()),
            "infinite": infinite,
            "singular": curves + undecided,
            "curves": curves,
            "lost": lost,
        },
    )
