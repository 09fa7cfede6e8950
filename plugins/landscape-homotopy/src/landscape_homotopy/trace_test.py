r"""The trace test: whether a set of solutions of a generic member is all of them.

Why it applies. Let V be the pairs (z, p) of solutions without zero coordinates and parameters of a family whose
start pairs suffice: V is irreducible. On a generic line of parameters p + t v the solutions form a curve
{(z, t)}, irreducible by Bertini's theorem. Where every equation has a parameter of its own, times a monomial in z,
lines in the space of those parameters alone will do, since V over fixed values of all other parameters still is a
graph over z (the lambda of deep linear networks). A function l(z), here a generic combination of squares and
products :math:`z_i z_j` of unknowns that flip together (and of unknowns that never flip), maps orbits of the sign
changes to points, and the curve of orbits to a curve in three-dimensional space by :math:`(t, l, t\,l)`. To that
curve the classical linear trace test applies (Sommese, Verschelde and Wampler, Symmetric functions applied to
decomposing solution sets of polynomial systems, SIAM J. Numer. Anal. 40 (2002); Leykin, Rodriguez and Sottile, Trace
test, Arnold Math. J. 4 (2018)): its points on the planes

.. math:: (t - t_0)(l - c) = s, \qquad s = s_0, s_1, s_2,

which are parallel, have sums of coordinates that are affine-linear in s if and only if no point is missing. For
:math:`t_0, c` generic these are planes in general position, and their points at s = 0 are the solutions at
:math:`p + t_0 v` and those with l(z) = c. So the solutions of one member are completed by monodromy, with loops of
lines, functions l and planes, to a set for :math:`s \ne 0`, which is some times as large; its sums are compared at
three s; and for s = 0 exactly the solutions that were known must come back.

What the test cannot see: a point whose own sum is affine-linear to within rounding. How much every known point
contributes to the second difference is therefore measured; where one of them contributes no more than rounding does,
nothing is concluded.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.systems import ParametricFamily, SignGroup
from landscape_homotopy.circuit import Circuit, Walked, circuit_of, traced, written
from landscape_homotopy.double_double import extended_precision
from landscape_homotopy.paths import CAREFUL
from landscape_homotopy.points import distinct, generic
from landscape_homotopy.tracker import REGULAR, Settings, polish, track
from landscape_homotopy.watch import Watch

__all__ = ["TraceTest", "own_parameters", "trace_test"]

_log = logging.getLogger("landscape")

Complex = NDArray[np.complex128]

#: The second difference of the sums is taken for zero below this part of the sum of moduli. Paths are polished to
#: about 1e-14; complete sets of 6 to 352 orbits had 1e-17 to 6e-14, and sets that lacked one or two 2e-12 and more.
_ZERO = 1e-13
#: Below this it may be rounding of badly conditioned points, and is computed again from more exact ones.
_ROUNDING = 1e-8
#: Every known point must contribute more than this many times as much.
_SEEN = 10.0
#: From one plane to the next, where the first one has s of modulus one.
_STEP = 4.0
#: Loops per round, and rounds: more loops follow where the test fails.
_LOOPS, _ROUNDS = 3, 12
#: A test that would follow more paths is given up, where nobody says how long it may take: 20,000 take half a minute
#: with a dozen unknowns.
_MOST_PATHS = 20_000


@frozen(eq=False)
class TraceTest:
    """Outcome of a trace test.

    Attributes
    ----------
    passed
        True or False; None where nothing can be concluded.
    known, found
        Orbits given, and orbits of solutions of the same member that came back, points (found, N).
    size
        Orbits on the planes.
    deviation
        Largest second difference of a sum, relative to the sum of moduli.
    contribution
        Smallest second difference of a single point, likewise.
    paths
        Paths tracked.
    reason
        Why nothing can be concluded.
    """

    passed: bool | None
    known: int
    found: Complex
    size: int = 0
    deviation: float = float("nan")
    contribution: float = float("nan")
    paths: int = 0
    reason: str = ""


def _monomials(circuit: Circuit) -> list[dict[int, int] | None]:
    """Return for every register its powers of inputs, where it is a monomial with a constant factor."""
    constants = len(circuit.constants)
    known: list[dict[int, int] | None] = [{} for _ in range(constants)]
    known += [{register: 1} for register in range(constants, circuit.inputs)]
    for number in range(circuit.sums):
        begin, end = circuit.first[number], circuit.first[number + 1]
        known.append(
            _product(known, int(circuit.left[begin]), int(circuit.right[begin])) if end == begin + 1 else None
        )
    return known


def _product(known: list[dict[int, int] | None], a: int, b: int) -> dict[int, int] | None:
    left, right = known[a], known[b]
    if left is None or right is None:
        return None
    return {key: left.get(key, 0) + right.get(key, 0) for key in {*left, *right}}


def own_parameters(circuit: Circuit) -> tuple[int, ...] | None:
    """Return one parameter for each equation that enters nowhere else, and there linearly, times a monomial in z.

    None where an equation has no such parameter. Solving for these parameters, every point without zero coordinates
    is a solution for exactly one choice of them.
    """
    monomials = _monomials(circuit)
    constants, n, m = len(circuit.constants), circuit.unknowns, circuit.parameters
    z_end, p_end = constants + n, constants + n + m
    needs: list[frozenset[int]] = [frozenset() for _ in range(z_end)]
    needs += [frozenset({register - z_end}) for register in range(z_end, p_end)]
    needs += [frozenset() for _ in range(m)]
    for number in range(circuit.plain):
        own = slice(circuit.first[number], circuit.first[number + 1])
        factors = np.concatenate([circuit.left[own], circuit.right[own]]).tolist()
        needs.append(frozenset().union(*(needs[factor] for factor in factors)))
    used = [needs[register] if register >= 0 else frozenset() for register in circuit.values.tolist()]
    found = []
    for row, register in enumerate(circuit.values.tolist()):
        if register < circuit.inputs:
            return None
        own = slice(circuit.first[register - circuit.inputs], circuit.first[register - circuit.inputs + 1])
        products = list(zip(circuit.left[own].tolist(), circuit.right[own].tolist(), strict=True))
        for parameter in sorted(used[row]):
            if any(parameter in other for k, other in enumerate(used) if k != row):
                continue
            with_it = [pair for pair in products if parameter in needs[pair[0]] | needs[pair[1]]]
            powers = _product(monomials, *with_it[0]) if len(with_it) == 1 else None
            if powers is not None and all(
                key < z_end or (key == z_end + parameter and power == 1) for key, power in powers.items()
            ):
                found.append(parameter)
                break
        else:
            return None
    return tuple(found)


def _planes(
    family: ParametricFamily, p: Complex, directions: list[int], pairs: list[tuple[int, int]]
) -> Circuit | None:
    """Return the circuit of F(z; p + t v) = 0, (t - t0) (l(z) - c) = s in (z, t).

    Its parameters are v, which is zero but for the `directions`, the coefficients of l, one for each of the `pairs`,
    then t0, c and s.
    """
    n = len(family.unknown_names)

    def value(x: list[Any], q: list[Any]) -> list[Any]:
        z, t = x[:n], x[n]
        v, (*a, t0, c, s) = q[: len(directions)], q[len(directions) :]
        on_line: list[Any] = [complex(p_k) for p_k in p]
        for k, v_k in zip(directions, v, strict=True):
            on_line[k] = on_line[k] + t * v_k
        combined = sum(a_k * (z[i] * z[j] if j < n else z[i]) for (i, j), a_k in zip(pairs, a, strict=True))
        return [*written(family, z, on_line), (t - t0) * (combined - c) - s]

    return traced(value, n + 1, len(directions) + len(pairs) + 3)


def _products(z: Complex, left: NDArray[np.int64], right: NDArray[np.int64]) -> Complex:
    """Return z_i z_j, where z_N is one, shape (B, pairs)."""
    extended = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    return np.asarray(extended[:, left] * extended[:, right])


def _compared(
    ends: list[Complex], left: NDArray[np.int64], right: NDArray[np.int64], a: Complex
) -> tuple[float, float]:
    """Return the second difference of the sums of t, l and t l, and the smallest one of a point.

    Both relative to the sum of moduli; `ends` holds (z, t) on three parallel planes, shape (n, N + 1) each.
    """
    terms = []
    for z in ends:
        combined = _products(z[:, :-1], left, right) @ a
        terms.append(np.stack([z[:, -1], combined, z[:, -1] * combined], axis=1))
    each = terms[0] - 2 * terms[1] + terms[2]
    moduli = sum(factor * np.abs(term).sum(axis=0) for factor, term in zip((1, 2, 1), terms, strict=True))
    second = np.abs(each.sum(axis=0)) / moduli
    return float(second.max()), float((np.abs(each) / moduli).max(axis=1).min())


def _drawn(rng: np.random.Generator, directions: int, pairs: int, size: float) -> tuple[Complex, Complex]:
    """Return the parameters of planes with s = 0 and t0 = 0, where the member lies, and of a parallel one."""
    line, a = generic(rng, directions), generic(rng, pairs) / size
    c, s = generic(rng, 1), generic(rng, 1)
    rest = [line, a, np.zeros(1), c]
    return np.concatenate([*rest, 0 * s]), np.concatenate([*rest, s])


def _corners(rng: np.random.Generator, a: Complex) -> Complex:
    """Return corners of loops: other lines, other l, and planes at other distances, near and far.

    Lines at other angles matter: without them loops missed one or two of the 64 orbits of the torus with widths
    (2, 2, 2) in most of 8 seeds, with them three loops found all in each of 10.
    """
    size = (_LOOPS, len(a) + 3)
    scales = 16.0 ** rng.uniform(-1, 1, size)
    return np.asarray(np.append(a, np.ones(3)) * scales * generic(rng, size[0] * size[1]).reshape(size))


def _arrived(orbits: SignGroup, homotopy: Walked, points: Complex, here: Complex, there: Complex) -> Complex:
    """Return the ends of the paths that arrive, one of every orbit."""
    starts, ends = (np.tile(each, (len(points), 1)) for each in (here, there))
    tracked = track(homotopy, points, starts, ends, Settings())
    lost = np.flatnonzero(tracked.outcome != REGULAR)
    again = track(homotopy, points[lost], starts[lost], ends[lost], CAREFUL)
    found = [each.points[each.outcome == REGULAR] for each in (tracked, again)]
    return _joined(orbits, points[:0], np.concatenate(found))


def _tracked(homotopy: Walked, points: Complex, here: Complex, there: Complex) -> tuple[Complex, bool]:
    """Return the ends of all paths, and whether all arrived; what gets lost is followed again with short steps."""
    starts, ends = np.tile(here, (len(points), 1)), np.tile(there, (len(points), 1))
    tracked = track(homotopy, points, starts, ends, Settings())
    result = tracked.points
    lost = np.flatnonzero(tracked.outcome != REGULAR)
    again = track(homotopy, points[lost], starts[lost], ends[lost], CAREFUL)
    result[lost] = again.points
    return result, bool((again.outcome == REGULAR).all())


def trace_test(
    family: ParametricFamily,
    points: Complex,
    parameters: Complex,
    rng: np.random.Generator,
    watch: Watch | None = None,
) -> TraceTest:
    """Test whether `points` are all solutions without zero coordinates of a generic member, up to sign changes.

    Parameters
    ----------
    family
        A family whose start pairs suffice.
    points
        Regular solutions, one of every orbit, shape (k, N).
    parameters
        Of the member, generic and complex, shape (M,).
    rng
        For the line, the planes and the loops.
    watch
        Is told what is done, and says when the time is up.
    """
    watch = watch or Watch()
    k, n = points.shape
    circuit = circuit_of(family)
    if circuit is None:
        return TraceTest(None, k, points, reason="the family is not known as a circuit")
    if n == 0:
        return TraceTest(True, k, points, k, 0.0, 1.0)
    group = family.sign_group()
    own = own_parameters(circuit)
    directions = list(range(circuit.parameters) if own is None else own)
    flipped = group.generators.any(axis=0)
    # Index n stands for one.
    same = [
        (i, j)
        for i in range(n)
        for j in (range(i, n) if flipped[i] else (n,))
        if j == n or (group.generators[:, i] == group.generators[:, j]).all()
    ]
    left, right = np.array(same).T
    size = np.median(np.abs(_products(points, left, right) @ generic(rng, len(same))))
    planes = _planes(family, parameters, directions, same)
    if planes is None:
        return TraceTest(None, k, points, reason="the circuit of the planes is too large")
    homotopy = Walked(planes)
    flips = np.concatenate([group.generators, np.zeros((len(group.generators), 1), dtype=bool)], axis=1)
    orbits = SignGroup(flips, n + 1)
    member, plane = _drawn(rng, len(directions), len(same), float(size))
    x = np.concatenate([points, np.zeros((k, 1))], axis=1)
    # A point whose path gets lost is left to the loops; in the end all known ones must come back.
    x = _arrived(orbits, homotopy, x, member, plane)
    paths = k
    result = TraceTest(None, k, points, reason="all paths to the first plane were lost")
    for number in range(_ROUNDS):
        if number:
            # Another line, other planes: a point of the ones before may have been near a singular one.
            member, there = _drawn(rng, len(directions), len(same), float(size))
            # Where none arrived, once more from the points that are known.
            again = not len(x)
            x = np.concatenate([points, np.zeros((k, 1))], axis=1) if again else x
            paths += len(x)
            x, plane = _arrived(orbits, homotopy, x, member if again else plane, there), there
        if not len(x):
            continue
        a = plane[len(directions) : -3]
        corners = [_corners(rng, plane[:-3]) for _ in range(2)]
        done = 0
        while done < len(x):
            watch.tell(f"trace test, round {number + 1}: {len(x)} orbits on a plane")
            if watch.is_up():
                reason = f"it was stopped after {watch.limit:g} s, the time_limit"
                return TraceTest(None, k, points, len(x), paths=paths, reason=reason)
            frontier = x[done:]
            loop = np.repeat(np.arange(_LOOPS), len(frontier))
            home = np.broadcast_to(plane, (len(loop), len(plane)))
            around = track(
                homotopy,
                np.tile(frontier, (_LOOPS, 1)),
                home,
                home,
                Settings(),
                via=[corner[loop] for corner in corners],
            )
            paths += 3 * len(loop)
            done = len(x)
            x = _joined(orbits, x, around.points[around.outcome == REGULAR])
            if watch.limit is None and paths + 3 * _LOOPS * (len(x) - done) > _MOST_PATHS:
                reason = f"it takes more than {_MOST_PATHS} paths; with a time_limit it goes on until then"
                return TraceTest(None, k, points, len(x), paths=paths, reason=reason)
        all_there = True
        step = _STEP * generic(rng, 1)
        parallel, ends = [plane], [x]
        for multiple in (1, 2):
            there = np.concatenate([plane[:-1], plane[-1:] + multiple * step])
            z, arrived = _tracked(homotopy, x, plane, there)
            all_there &= arrived
            parallel.append(there)
            ends.append(z)
        paths += 2 * len(x)
        if not all_there:
            result = TraceTest(None, k, points, len(x), paths=paths, reason="paths between planes were lost")
            continue
        deviation, contribution = _compared(ends, left, right, a)
        precise = extended_precision(homotopy) if _ZERO < deviation < _ROUNDING else None
        if precise is not None:
            # Badly conditioned points are rounded more than others: they are made as exact as numbers can be.
            ends = [
                polish(precise, z, np.tile(there, (len(z), 1)))[0]
                for z, there in zip(ends, parallel, strict=True)
            ]
            deviation, contribution = _compared(ends, left, right, a)
        back, arrived = _tracked(homotopy, x, plane, member)
        paths += len(x)
        here = np.abs(back[:, n]) < 1e-8
        found = _joined(group, points, back[here, :n])
        _log.info(
            "trace test: %d orbits on the planes, deviation %.1e, one point contributes %.1e; %d paths",
            len(x),
            deviation,
            contribution,
            paths,
        )
        reason, passed = "", deviation <= _ZERO
        if not arrived:
            reason = "paths back to the member were lost"
        elif contribution <= _SEEN * max(_ZERO, deviation if passed else 0.0):
            reason = f"one of the points contributes only {contribution:.0e}"
        elif passed and int(here.sum()) < k:
            reason = "known solutions did not come back"
        result = TraceTest(
            None if reason else passed, k, found, len(x), deviation, contribution, paths, reason
        )
        if result.passed:
            break
    return result


def _joined(group: SignGroup, known: Complex, more: Complex) -> Complex:
    """Return the known points and the new ones among `more`, one of every orbit."""
    together = np.concatenate([known, more])
    keep = distinct(np.zeros(len(together), dtype=np.int64), group.invariants(together))
    keep[: len(known)] = True
    return together[keep]
