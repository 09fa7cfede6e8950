"""Paths followed to whatever ends they have: regular, singular, or at infinity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from landscape.errors import SolverError
from landscape.systems import PolynomialSystem, Solutions
from landscape_homotopy.endgame import RADIUS, VANISHED, endings, escaping, falling, height
from landscape_homotopy.multiplicity import LocalStructure, local_structure
from landscape_homotopy.points import distinct, is_regular, with_zeros
from landscape_homotopy.scaling import scaled
from landscape_homotopy.tracker import LOST, REGULAR, Homotopy, Settings, polish, track

__all__ = ["CAREFUL", "INFINITE", "SINGULAR", "Ends", "follow", "gathered"]

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


def gathered(
    system: Callable[[], PolynomialSystem],
    ends: Ends,
    *,
    parameters: NDArray[np.generic] | None = None,
    sentences: Sequence[str] = (),
    complete: bool = True,
    lost: int = 0,
    leave_out_curves: bool = True,
) -> Solutions:
    """Return the isolated solutions at the ends of all paths to one target.

    Parameters
    ----------
    system
        Writes out the target, where there are singular ends.
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

    Raises
    ------
    SolverError
        Where there are, if they are not to be left out.
    """
    n = ends.points.shape[1]
    regular = np.flatnonzero(ends.outcome == REGULAR)
    found = distinct(np.zeros(len(regular), dtype=np.int64), ends.points[regular])
    # Two paths with one regular end: one of them jumped.
    lost += int((ends.outcome == LOST).sum() + (~found).sum())
    regular = regular[found]
    points, residuals = [ends.points[regular]], [ends.residuals[regular]]
    multiplicities = [np.ones(len(regular), dtype=np.int64)]
    curves = undecided = multiple = contradictory = 0
    left = np.flatnonzero(ends.outcome == SINGULAR)
    units = scaled(system()) if left.size else None
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
        if structure.isolated and structure.multiplicity == 1:
            # A regular solution that paths did not reach as such, or another path did: one of them has jumped.
            lost += len(members)
        elif structure.isolated:
            # Coordinates at rounding level of a singular end are those of a power of it; they stay.
            points.append(ends.points[best][None])
            residuals.append(ends.residuals[best][None])
            multiplicities.append(np.array([structure.multiplicity]))
            multiple += 1
            contradictory += structure.multiplicity != len(members)
        elif structure.isolated is None:
            undecided += len(members)
        else:
            if not leave_out_curves:
                raise _not_isolated(units.system.unknowns, ends.points[best], parameters)
            curves += len(members)
    infinite = int((ends.outcome == INFINITE).sum())
    text = list(sentences)
    text.append(
        f"Of {len(ends.points)} paths {len(regular)} ended in regular solutions and {infinite} at infinity."
    )
    if multiple:
        total = sum(int(m[0]) for m in multiplicities[1:])
        text.append(f"{multiple} solutions are multiple, together {total}-fold.")
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
    together = np.concatenate([np.zeros((0, n), dtype=np.complex128), *points])
    accuracy = np.concatenate([np.zeros(0), *residuals])
    zero = np.zeros((1, n), dtype=np.complex128)
    together = with_zeros(together, lambda: not system().value(zero).any(), accuracy)
    return Solutions(
        together,
        accuracy,
        np.concatenate([np.zeros(0, dtype=np.int64), *multiplicities]),
        completeness="heuristic" if complete and not (lost or undecided or contradictory) else "unknown",
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
