"""All isolated solutions of a family: monodromy for one generic member, parameter homotopy to all others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import define, evolve, field, frozen
from numpy.typing import NDArray

from landscape.composition.progress import stage
from landscape.errors import PolynomialError, SolverError
from landscape.interfaces import Solver
from landscape.randomness import numpy_generator
from landscape.systems import (
    ParametricFamily,
    PolynomialSystem,
    SignGroup,
    Solutions,
    Subfamily,
)
from landscape.systems.solutions import Completeness
from landscape.validators import at_least, number, of_type, optional
from landscape_homotopy.certification import certified
from landscape_homotopy.circuit import circuit_of, vanishing
from landscape_homotopy.device import checked
from landscape_homotopy.double_double import extended_precision
from landscape_homotopy.free_coefficients import coefficient_family
from landscape_homotopy.inputs import checked_parameters, checked_system
from landscape_homotopy.paths import CAREFUL, SINGULAR, gathered
from landscape_homotopy.points import (
    CONDITION,
    SAME,
    distinct,
    equilibrated,
    generic,
    is_nonzero,
    is_regular,
    with_zeros,
)
from landscape_homotopy.total_degree import total_degree_ends
from landscape_homotopy.trace_test import TraceTest, trace_test
from landscape_homotopy.tracker import REGULAR, Homotopy, Settings, compiled_engine, polish, track
from landscape_homotopy.units import in_units
from landscape_homotopy.watch import Watch

if TYPE_CHECKING:
    import torch

__all__ = ["Monodromy"]

_log = logging.getLogger("landscape")

Complex = NDArray[np.complex128]

#: Systems (of N unknowns) tracked at once have at most this many Jacobian entries: 3.2 MB. What is solved at
#: once is all there or all lost when somebody interrupts: 4 s for 17 members with widths (2, 2, 2, 2), of
#: which the monodromy took 22. A quarter of it takes half as long again per member.
_JACOBIAN_ENTRIES = 200_000
#: And on a device, which is slow with few paths.
_ENTRIES_OF_DEVICE = 20_000_000
#: Solutions of one member that differ by less than this, relative to the largest coordinate, cannot be told apart:
#: they are polished to about 1e-14.
_COINCIDENT = 1e-12


@define
class _Counts:
    """What happened on the way to one target; added up over the parts of a family."""

    tracked: int = 0
    retried: int = 0
    jumped: int = 0
    lost: int = 0
    conjugated: int = 0
    singular: int = 0
    extended: int = 0
    infinite: int = 0


#: Families without suitable start pairs: a generic member is solved anew until two agree, at most this often.
_MEMBERS = 4
#: Such members are solved by as many paths as the product of their degrees up to this many, which take seconds,
#: and above by way of systems with the same monomials, which have fewer solutions, but need a monodromy.
_TOTAL_DEGREE = 2000
#: Complex matrices of the size of the Jacobian that a path takes at once: its parts, their sum, factors and a copy.
_MATRICES = 6
#: From this rung on, what is lost is followed with residuals in double-double arithmetic.
_EXTENDED_RUNG = 2
#: Parameters change by no more than a factor of two to this power between corners of a path to a member.
_STRIDE = 12.0
#: Corners, by the distance from the end relative to the whole path, of paths that hardly move before they come near to
#: it: so near that two solutions differ by 1e-5 of their size at the last one, if they meet at the end.
_LAST_CORNERS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14)
#: Paths (of N unknowns) around loops between two looks at the clock have at most this many N^3 together: some
#: seconds. A device takes more at once.
_CUBES_OF_LOOPS = 40_000_000
_CUBES_OF_DEVICE = 4_000_000_000
#: Seconds after which somebody who has no numba is told, once, what it would bring.
_PATIENCE = 5.0
#: Sets of loops that are tried for enough of them that lose no path.
_ROUNDS = 6
#: Loops at a time where a bound may end the search.
_FEW = 2
#: How far from its end a path that does not arrive is looked at. Where it runs to infinity z grows like
#: (1 - t)^(-w): over the last two decades w = 1/6 gives a factor of 2.15. A path that has left the range of the
#: tracker by then grew at least five-fold over the decade before.
_REMAINING = (1e-2, 1e-3, 1e-5)
_GROWTH, _FAST_GROWTH = 1.7, 5.0


@frozen(eq=False)
class _Start:
    """One representative per sign orbit of the torus solutions of a generic member.

    Attributes
    ----------
    family, group
        The family and its sign changes.
    parameters
        Of the generic member, shape (M,).
    points
        Shape (k, N).
    forbidden
        Zero patterns of other parts of the family, bool (patterns, N), true where not zero: an endpoint that
        shows one of them has jumped.
    loops, seeds, paths
        Loops that map the points into themselves, independent start pairs that arrived, and paths tracked altogether.
    evidence
        How the points were found, where it was not from start pairs.
    trusted
        Whether nothing contradicts that these are all.
    trace
        Of these points, where a trace test was made.
    stopped
        Whether the time was up before the loops had come to rest.
    full
        Whether there can be no more by a proved bound, so that no quiet loops were waited for.
    curves
        Paths to the generic member that ended on curves or surfaces of solutions.
    """

    family: ParametricFamily
    group: SignGroup
    parameters: Complex
    points: Complex
    forbidden: NDArray[np.bool_]
    loops: int
    seeds: int
    paths: int
    evidence: str = ""
    trusted: bool = True
    trace: TraceTest | None = None
    full: bool = False
    stopped: bool = False
    curves: int = 0


@define
class _Tally:
    """What became of the paths from a system whose solutions are known to a generic member.

    ``curves`` counts ends that are singular and known to be no isolated solutions.
    """

    origin: str = ""
    total: int = 0
    infinite: int = 0
    curves: int = 0
    singular: int = 0


def _allowed(z: Complex, forbidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which points do not show a zero pattern that belongs to another part of the family."""
    nonzero = is_nonzero(z)
    hit = (nonzero[:, None, :] == forbidden[None]).all(axis=2).any(axis=1)
    return np.asarray(~hit)


@frozen
class Monodromy(Solver):
    """Monodromy, then one parameter homotopy for all members and all solutions at once.

    A family falls into parts by the zero patterns that its solutions can have (for a deep linear network: its
    sub-networks). For each kind of part, a start pair (a solution together with parameters that have it)
    costs only linear algebra. Where its Jacobian is singular the part has no isolated solutions. Otherwise
    the one solution is carried around loops in the space of complex parameters, which permutes the solutions
    and so turns up more of them, until `quiet_loops` loops map what is known into itself. Only one solution per
    orbit of the family's sign changes is ever tracked. From the generic member, straight paths lead to all
    members that were asked for.

    Start pairs lead to all solutions where the family says so
    (:attr:`~landscape.systems.ParametricFamily.start_pairs_suffice`): where every equation has a parameter of
    its own, roughly. Of any other family a generic member is solved by itself, from a system of the same degrees
    or, where there are thousands of paths, from one with the same monomials; a second one is solved as a check,
    and loops between members follow. That takes more paths than the members have solutions, but any family will
    do, also one with fixed coefficients.

    What a path lost or two paths shared is looked for again: among complex conjugates of what was found, with
    short careful steps, along other routes, and with residuals in double-double arithmetic. When a member turns out
    to have more solutions than the generic one was known to have, the monodromy had stopped too early, and the start
    set is completed; the conjugates of all solutions of all real members are tried for this. Whatever still is
    missing is counted in ``statistics["lost"]``.

    Attributes
    ----------
    quiet_loops
        Loops that must map the known solutions among themselves; every solution goes around each of them once.
        Too few stop short of some solutions, which loops alone never tell; the trace test does.
    starts
        Independent start pairs that are connected to the generic member before the first loop.
    retries
        Rungs of the ladder for members with missing solutions: short steps on the same route, then on other ones.
        From the second on, paths that are lost and do not visibly go to infinity are followed once more with residuals
        in double-double arithmetic, towards their ends by powers of ten.
    most_solutions
        Give up when a generic member has more orbits than this.
    trace_test
        Find out whether the solutions of a generic member are all. Where they are as many as a proved bound allows,
        they are certified, once for all members (10 ms for widths (2, 2, 2)); ``completeness`` is ``"proved"`` for
        every member of which as many different solutions are found. Else, where start pairs lead to all solutions,
        comes a trace test (:mod:`landscape_homotopy.trace_test`, where it stands why it applies): ``completeness`` is
        ``"trace test"`` then. It takes longer than the monodromy: 0.2 s for two examples and widths (2, 1, 3), once
        for all members; a test that would take more than 20,000 paths is given up where no `time_limit` is given.
    certified
        Prove of every solution that it exists, differs from all others, and is real or is not, in ball
        arithmetic: ``Solutions.certificates``. Takes about 10 ms for the 33 solutions with widths (2, 2, 2), and
        0.1 s for the 245 with widths (3, 3, 3). Where a proved bound is met, the set is proved complete.
    device
        Where paths around loops and to the members are followed with torch, all at once, as ``"cuda"``; None for
        the CPU, which is the faster one of the two for small families. Trace tests, and what is followed again,
        stay on the CPU.

    time_limit
        Seconds for finding the solutions of the generic member, and for testing whether they are all; None for as many
        as it takes. Loops that are stopped leave ``completeness`` ``"unknown"``, a trace test that is stopped leaves it
        ``"heuristic"``, and the evidence says so. What was found until then is followed to all members, which comes on
        top.
    leave_out_curves
        Return the isolated solutions of families whose generic members have curves or surfaces of solutions besides,
        where such families are refused otherwise, and count in ``statistics["curves"]`` how many paths to a generic
        member ended there. They are noticed where a generic member is solved by as many paths as the product of its
        degrees; points of curves that only single members have count in ``statistics["singular"]`` or ``["lost"]``.

    References
    ----------
    Duff, Hill, Jensen, Lee, Leykin, Sommars, Solving polynomial systems via homotopy continuation and
    monodromy, IMA J. Numer. Anal. 39 (2019). Timme, Mixed precision path tracking for polynomial homotopy
    continuation, Adv. Comput. Math. 47 (2021).
    """

    references: ClassVar[tuple[str, ...]] = (
        "Duff, Hill, Jensen, Lee, Leykin, Sommars: Solving polynomial systems via homotopy continuation and "
        "monodromy. IMA J. Numer. Anal. 39 (2019) 1421-1446",
        "Timme: Mixed precision path tracking for polynomial homotopy continuation. Adv. Comput. Math. 47 (2021)",
    )

    quiet_loops: int = field(default=20, validator=at_least(1))
    starts: int = field(default=8, validator=at_least(1))
    retries: int = field(default=6, validator=at_least(0))
    most_solutions: int = field(default=100_000, validator=at_least(1))
    trace_test: bool = field(default=True, validator=of_type(bool))
    certified: bool = field(default=False, validator=of_type(bool))
    device: str | None = field(default=None, validator=optional(of_type(str)))
    time_limit: float | None = field(default=None, kw_only=True, validator=optional(number(above=0)))
    leave_out_curves: bool = field(default=False, validator=of_type(bool), kw_only=True)

    # -- the interface ------------------------------------------------------------------------------------

    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Find the isolated regular solutions of one system.

        The system is taken as a member of the family of all systems with the same monomials, of which all
        coefficients are parameters. Paths that diverge, or end in a solution that is not regular, count as
        lost: a system with special coefficients has fewer regular solutions than a generic one.

        Raises
        ------
        PolynomialError
            When `system` is none.
        SolverError
            When a generic member of that family has more solutions than `most_solutions`.
        """
        if not checked_system(system).unknowns:
            return Solutions(
                np.zeros((1, 0)), np.zeros(1), completeness="proved", evidence="There are no unknowns."
            )
        family, parameters = coefficient_family(system)
        (solutions,) = self.solve_family(family, parameters[None], generator)
        return solutions

    def solve_family(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members with the given parameters (samples, M), yielding them in their order.

        Some are solved at once, the others when they are asked for; what comes out does not depend on how
        many, unless the start set is completed on the way, which is logged.

        Raises
        ------
        PolynomialError
            At once when `parameters` are no finite numbers or have another shape, when `family` is none, or when it
            has too many unknowns for its zero patterns to be tried, or for its Jacobian to fit into memory.
        SolverError
            At once when there is no such device, or the family is no circuit that one could compute. On the way,
            when a generic member has more solutions than `most_solutions`, or infinitely many.
        """
        targets = checked_parameters(family, parameters)
        _check_memory(family.unknown_count)
        m = len(family.parameter_names)
        if self.device is not None:
            checked(self.device)
            if circuit_of(family) is None:
                raise SolverError(
                    "the family has no circuit of sums and products, which a device needs. Give device=None."
                )
        rng = numpy_generator(generator)
        # What cannot be done is refused here, not when the first member is asked for.
        if family.start_pairs_suffice:
            parts = _parts(family)
            for part in parts:
                part.start_pair(np.random.default_rng(0))
        else:
            member = family.system(generic(np.random.default_rng(0), m))
            if family.bezout_number() > _TOTAL_DEGREE:
                coefficient_family(member)[0].subfamilies()
            everything = Subfamily(family, tuple(range(len(family.unknown_names))), tuple(range(m)))
            parts = {family: [everything]}
        return self._solve_family(family, targets, parts, rng)

    # -- the generic member -------------------------------------------------------------------------------

    def _solve_family(
        self,
        family: ParametricFamily,
        targets: NDArray[np.generic],
        parts: dict[ParametricFamily, list[Subfamily]],
        rng: np.random.Generator,
    ) -> Iterator[Solutions]:
        suffice = family.start_pairs_suffice
        with stage("A generic member", (2 if self.trace_test else 1) * len(parts)) as bar:
            watch = Watch(self.time_limit, bar)
            if suffice:
                starts = self._generic_parts(parts, rng, watch)
            else:
                starts = {family: self._generic_whole(family, rng, watch)}
            # A generator of its own: with and without tests, paths take the same routes.
            own = np.random.default_rng(rng.bit_generator.seed_seq.spawn(1)[0])  # type: ignore[attr-defined]
            bound = family.solution_bound()
            met = self.trace_test and _number(starts, parts) == bound
            # Where every solution of every member is certified, that proves what is proved here, and costs as much.
            later = met and self.certified
            proof = None if later else _proof_of_number(family, starts, parts, own, watch) if met else ""
            if suffice and self.trace_test and not proof and not later:
                starts = {key: self._tested(start, own, watch) for key, start in starts.items()}
            bar.advance(bar.total - bar.done)
        if compiled_engine() is None and self.device is None and watch.elapsed() > _PATIENCE:
            _recommend_numba()
        paths = sum(len(start.points) * len(parts[key]) for key, start in starts.items())
        entries = max(1, paths) * max(1, len(family.unknown_names)) ** 2
        chunk = max(1, (_JACOBIAN_ENTRIES if self.device is None else _ENTRIES_OF_DEVICE) // entries)
        # The same routes for all: how many are solved at once changes nothing.
        routes = int(rng.integers(2**62))
        for first in range(0, len(targets), chunk):
            rows = targets[first : first + chunk]
            known = {key: len(start.points) for key, start in starts.items()}
            for row, solutions in zip(
                rows, self._solve_chunk(family, rows, parts, starts, routes, proof), strict=True
            ):
                if not self.certified:
                    yield solutions
                    continue
                solved = certified(family, row, solutions)
                if met and len(solved) == bound and solved.completeness == "heuristic":
                    # Some solutions of this member could not be certified.
                    if proof is None:
                        proof = _proof_of_number(family, starts, parts, own, Watch())
                    solved = _complete(solved, proof) if proof else solved
                yield solved
            _log.info("solved %d of %d members", min(first + chunk, len(targets)), len(targets))
            if first and any(len(start.points) > known[key] for key, start in starts.items()):
                _log.warning(
                    "the monodromy had stopped too early: the first %d members may lack solutions; raise "
                    "quiet_loops and solve them again",
                    first,
                )

    def _generic_parts(
        self, parts: dict[ParametricFamily, list[Subfamily]], rng: np.random.Generator, watch: Watch
    ) -> dict[ParametricFamily, _Start]:
        """Return the start sets of the parts that have isolated solutions."""
        found: dict[ParametricFamily, _Start] = {}
        # Small ones first: a part has at most what a bound leaves beside the parts inside it.
        for part in sorted(parts, key=lambda part: len(part.unknown_names)):
            start = self._generic_member(part, rng, watch, self._most(part, found))
            watch.stage.advance()
            if start is not None:
                found[part] = start
        return found

    def _most(self, part: ParametricFamily, found: dict[ParametricFamily, _Start]) -> int | None:
        """Return how many orbits a part can have by a proved bound; None where loops have to tell.

        That is: where nothing will be certified, and where the bound is the product of the degrees, which families
        with few monomials are far from.
        """
        bound = part.solution_bound()
        if not (self.trace_test or self.certified) or bound >= part.bezout_number():
            return None
        inside = {key: placed for key, placed in _parts(part).items() if key in found}
        rest = bound - _number({key: found[key] for key in inside}, inside)
        return rest // part.sign_group().order

    def _tested(self, start: _Start, rng: np.random.Generator, watch: Watch) -> _Start:
        """Return a start set with its trace test, which may complete it."""
        if start.stopped:
            return start
        test = trace_test(start.family, start.points, start.parameters, rng, watch)
        watch.stage.advance()
        if len(test.found) > len(start.points):
            _log.info("the trace test found %d solutions, %d were known", len(test.found), len(start.points))
        return evolve(start, points=test.found, paths=start.paths + test.paths, trace=test)

    def _generic_member(
        self, family: ParametricFamily, rng: np.random.Generator, watch: Watch, most: int | None = None
    ) -> _Start | None:
        """Find all torus solutions of one generic member; None when there are no isolated ones.

        No more than `most` orbits are looked for, if that is known.
        """
        n = len(family.unknown_names)
        group = family.sign_group()
        if n == 0:
            empty = np.zeros((1, 0), dtype=np.complex128)
            none = np.zeros((0, 0), dtype=bool)
            return _Start(family, group, np.zeros(0, dtype=np.complex128), empty, none, 0, 0, 0)
        pairs = [family.start_pair(rng) for _ in range(self.starts)]
        z, p = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        regular = np.linalg.cond(equilibrated(family.jacobian(z, p))) < CONDITION
        if not regular.any():
            return None
        z, p = z[regular], p[regular]
        base = p[0]
        forbidden = _patterns(family)
        points, _ = self._merge(family, group, forbidden, z[:1], z[:0], base)
        arrived = 1
        paths = 0
        if len(z) > 1:
            ends = track(family, z[1:], p[1:], np.broadcast_to(base, p[1:].shape), Settings())
            good = ends.outcome == REGULAR
            arrived += int(good.sum())
            paths += len(z) - 1
            points, _ = self._merge(family, group, forbidden, points, ends.points[good], base)
        points, quiet, more, stopped = self._until_quiet(
            family, group, forbidden, points, base, rng, watch, most
        )
        paths += more
        full = len(points) == most
        return _Start(
            family, group, base, points, forbidden, quiet, arrived, paths, stopped=stopped, full=full
        )

    def _generic_whole(self, family: ParametricFamily, rng: np.random.Generator, watch: Watch) -> _Start:
        """Find the regular solutions of one generic member, where start pairs need not lead to them.

        Every regular solution of a member is the end of a path from a generic system of the same degrees, and
        from one with the same monomials (Morgan and Sommese 1989). Each round solves a member of its own in this
        way, from a system of its own, and carries the solutions to the first member; then come loops. The rounds
        end when one finds exactly what was known.
        """
        n, m = len(family.unknown_names), len(family.parameter_names)
        group, forbidden = SignGroup([], n), np.zeros((0, n), dtype=bool)
        base = generic(rng, m)
        points = np.zeros((0, n), dtype=np.complex128)
        tally, agree, quiet, paths, rounds = _Tally(), False, 0, 0, 0
        stopped = False
        while not agree and rounds < _MEMBERS and not (rounds and watch.is_up()):
            member = generic(rng, m) if rounds else base
            tally = _Tally()
            if family.bezout_number() <= _TOTAL_DEGREE:
                found = _by_degrees(family, member, tally, rng)
                if tally.curves and not self.leave_out_curves:
                    raise SolverError(
                        f"generic members of the family have infinitely many solutions: {tally.curves} of "
                        f"{tally.total} paths ended on curves or surfaces of them. Regularise, with a coefficient of "
                        f"its own for every weight, where the equations are the gradient of a loss; or give "
                        f"leave_out_curves=True for the isolated solutions alone."
                    )
            else:
                found = self._by_coefficients(family, member, tally, rng, watch)
            carried = _carried(family, found, member, base)
            known = len(points)
            points, new = self._merge(family, group, forbidden, points, carried, base)
            agree = rounds > 0 and new == 0 and len(carried) == known
            # The tracked paths of rounds that found less do not count as evidence.
            paths += tally.total + len(found)
            if rounds and m:
                before = len(points)
                points, quiet, more, cut = self._until_quiet(
                    family, group, forbidden, points, base, rng, watch
                )
                paths += more
                stopped |= cut
                agree = agree and len(points) == before
            rounds += 1
            _log.info("generic member: %d regular solutions after %d rounds", len(points), rounds)
            watch.tell(f"{len(points)} solutions")
        stopped |= not agree and watch.is_up()
        text = (
            f"Start pairs need not lead to all solutions of this family. Of the {tally.total} {tally.origin}, "
            f"{len(points)} arrived at a generic member"
        )
        gone = tally.total - len(points)
        unknown = gone - tally.infinite - tally.curves - tally.singular
        for many, what in (
            (tally.infinite, "went to infinity"),
            (tally.curves, "ended on curves or surfaces of solutions"),
            (tally.singular, "ended where the Jacobian is singular"),
            (unknown, "were lost"),
        ):
            if many:
                text += f"; {many} {what}"
        text += "."
        if not agree and rounds == 1:
            text += " There was no time for a second one."
        elif not agree:
            text += f" {rounds} members, solved independently, did not agree."
        elif m:
            text += " A second one, solved independently, has as many, and paths between the two match them."
        else:
            text += " The same came out twice, independently."
        if quiet:
            text += f" {quiet} loops map these into themselves."
        trusted = agree and not tally.singular and not unknown
        return _Start(
            family,
            group,
            base,
            points,
            forbidden,
            quiet,
            rounds,
            paths,
            text,
            trusted,
            stopped=stopped,
            curves=tally.curves,
        )

    def _by_coefficients(
        self,
        family: ParametricFamily,
        member: Complex,
        tally: _Tally,
        rng: np.random.Generator,
        watch: Watch,
    ) -> Complex:
        """Return the regular solutions of one generic member, found from one with free coefficients."""
        n = len(family.unknown_names)
        free, coefficients = coefficient_family(family.system(member))
        parts = _parts(free)
        tally.origin = "solutions of a system with the same monomials and free coefficients"
        found = [np.zeros((0, n), dtype=np.complex128)]
        for part, start in self._generic_parts(parts, rng, watch.inside()).items():
            for placed in parts[part]:
                target = coefficients[list(placed.parameters)].astype(np.complex128)
                orbits = start.group.order
                tally.total += len(start.points) * orbits
                ends, arrived = _followed(part, start, target)
                whole = np.zeros((len(ends), n), dtype=np.complex128)
                whole[:, list(placed.unknowns)] = ends
                regular = is_regular(family, whole[arrived], member)
                tally.singular += int((~regular).sum()) * orbits
                infinite, finite = _whereabouts(part, start.points[~arrived], start.parameters, target)
                tally.infinite += int(infinite.sum()) * orbits
                tally.singular += int(finite.sum()) * orbits
                images = start.group.orbits(ends[arrived][regular])
                whole = np.zeros((len(images) * orbits, n), dtype=np.complex128)
                whole[:, list(placed.unknowns)] = images.reshape(len(whole), len(placed.unknowns))
                found.append(whole)
        points = np.concatenate(found)
        return points[distinct(np.zeros(len(points), dtype=np.int64), points)]

    def _until_quiet(
        self,
        family: ParametricFamily,
        group: SignGroup,
        forbidden: NDArray[np.bool_],
        points: Complex,
        base: Complex,
        rng: np.random.Generator,
        watch: Watch,
        most: int | None = None,
    ) -> tuple[Complex, int, int, bool]:
        """Go around loops until they bring nothing new.

        Returns the points, quiet loops, paths tracked, and whether the time was up before.

        The same loops serve for every point, each of which goes around each of them once: when no new point has
        turned up, the loops permute the known ones. Loops that lost a path are replaced by new ones. Where there are
        `most` points, nothing is left to be found.
        """
        quiet = paths = 0
        rounds = 0
        cubes = _CUBES_OF_LOOPS if self.device is None else _CUBES_OF_DEVICE
        # Of every point a path per loop, three legs long.
        together = max(1, cubes // (3 * self.quiet_loops * max(1, points.shape[1]) ** 3))
        while len(points) and quiet < self.quiet_loops and rounds < _ROUNDS:
            rounds += 1
            loops = self.quiet_loops - quiet
            corners = [np.array([_corner(family, rng) for _ in range(loops)]) for _ in range(2)]
            complete = np.ones(loops, dtype=bool)
            # All at once, or few at a time where the last ones may not be needed.
            size = loops if most is None else _FEW
            groups = [slice(first, first + size) for first in range(0, loops, size)]
            done = [0] * len(groups)
            while min(done) < len(points) != most:
                if watch.is_up():
                    return points, 0, paths, True
                known = len(points)
                turn = next(number for number, before in enumerate(done) if before < known)
                frontier, group_of = points[done[turn] : done[turn] + together], groups[turn]
                ends, arrived = _around(
                    family, frontier, base, [corner[group_of] for corner in corners], self.device
                )
                complete[group_of] &= arrived
                paths += 3 * len(arrived) * len(frontier)
                done[turn] += len(frontier)
                points, _ = self._merge(family, group, forbidden, points, ends, base)
                watch.tell(f"{len(points)} solutions up to signs of {points.shape[1]} unknowns")
                if len(points) > self.most_solutions:
                    raise SolverError(
                        f"a generic member of the family has more than {self.most_solutions} solutions up to "
                        f"signs; raise most_solutions, or take a smaller family."
                    )
                if rounds > 1 and len(points) > known:
                    # What the earlier loops did not bring: they stopped short, and are not counted any more.
                    quiet = 0
            if len(points) == most:
                return points, 0, paths, False
            quiet += int(complete.sum())
            _log.info(
                "monodromy: %d solutions up to signs of %d unknowns, %d quiet loops",
                len(points),
                points.shape[1],
                quiet,
            )
        return points, quiet, paths, False

    def _merge(
        self,
        family: ParametricFamily,
        group: SignGroup,
        forbidden: NDArray[np.bool_],
        known: Complex,
        candidates: Complex,
        base: Complex,
    ) -> tuple[Complex, int]:
        """Return the known points and the new ones among the candidates, one per orbit; how many are new."""
        candidates = candidates[_allowed(candidates, forbidden)]
        merged = np.concatenate([known, candidates])
        keep = distinct(np.zeros(len(merged), dtype=np.int64), group.invariants(merged))
        keep[: len(known)] = True
        return merged[keep], int(keep.sum()) - len(known)

    # -- all other members --------------------------------------------------------------------------------

    def _solve_chunk(
        self,
        family: ParametricFamily,
        targets: NDArray[np.generic],
        parts: dict[ParametricFamily, list[Subfamily]],
        starts: dict[ParametricFamily, _Start],
        routes: int,
        proof: str | None,
    ) -> list[Solutions]:
        samples, n = len(targets), len(family.unknown_names)
        given, own_units = targets, in_units(family, targets)
        targets = own_units.parameters
        counts = [_Counts() for _ in range(samples)]
        points: list[list[Complex]] = [[] for _ in range(samples)]
        residuals: list[list[NDArray[np.float64]]] = [[] for _ in range(samples)]
        for key in list(starts):
            members = parts[key]
            stacked = np.concatenate([targets[:, list(part.parameters)] for part in members])
            per_target = [counts[row] for _ in members for row in range(samples)]
            starts[key], found, accuracy = self._all_targets(starts[key], stacked, per_target, routes)
            order = starts[key].group.order
            for place, part in enumerate(members):
                kept = list(part.unknowns)
                own = range(place * samples, (place + 1) * samples)
                row_of = np.repeat(np.arange(samples), [len(found[index]) for index in own])
                whole = np.zeros((len(row_of), n), dtype=np.complex128)
                whole[:, kept] = np.concatenate([found[index] for index in own])
                # Regular among solutions of this zero pattern may still be part of a curve of all.
                regular = is_regular(family, whole, targets[row_of])
                orbits = starts[key].group.orbits(whole[regular][:, kept])
                images = np.zeros((len(orbits), order, n), dtype=np.complex128)
                images[:, :, kept] = orbits
                exact = np.concatenate([accuracy[index] for index in own])[regular]
                ends = np.cumsum(np.bincount(row_of[regular], minlength=samples))[:-1]
                for row, (some, theirs) in enumerate(
                    zip(np.split(images, ends), np.split(exact, ends), strict=True)
                ):
                    counts[row].singular += int((~regular[row_of == row]).sum()) * order
                    points[row].append(some.reshape(-1, n))
                    residuals[row].append(np.repeat(theirs, order))
        evidence = self._evidence(starts, parts)
        curves = sum(start.curves for start in starts.values())
        bound = family.solution_bound()
        if self.trace_test and self.certified and _number(starts, parts) == bound:
            evidence += " They are as many as a proved bound allows, so that no trace test was made."
        trusted = all(start.trusted and not start.stopped for start in starts.values())
        traces = [start.trace for start in starts.values()]
        level: Completeness = (
            "trace test" if all(trace is not None and trace.passed for trace in traces) else "heuristic"
        )
        solved = []
        for row in range(samples):
            together = np.concatenate([np.zeros((0, n), dtype=np.complex128), *points[row]])
            accuracy_row = np.concatenate([np.zeros(0), *residuals[row]])
            # Regular solutions of two parts are never one, and images under sign changes differ: what coincides
            # to the last digits is not what was looked for.
            keep = distinct(np.zeros(len(together), dtype=np.int64), together, _COINCIDENT)
            count = counts[row]
            count.lost += int((~keep).sum())
            missing = (
                f" Of the solutions of a generic member {count.lost} did not arrive: they are missing, or, for "
                f"special parameters, at infinity or not regular."
                if count.lost
                else ""
            )
            if count.infinite:
                missing += f" {count.infinite} of these paths were seen to grow without bound."
            if count.singular:
                missing += (
                    f" {count.singular} points were left out because the Jacobian is singular there: they are "
                    f"multiple, or lie on curves of solutions."
                )
            found = Solutions(
                together[keep] * own_units.units[row],
                accuracy_row[keep],
                # Nothing is known of a set that nothing was found of, or that something is missing from: a
                # point where the Jacobian is singular may be an isolated multiple solution.
                completeness=level
                if len(together) and not count.lost and not count.singular and trusted
                else "unknown",
                evidence=evidence + missing,
                parameters=given[row],
                statistics={
                    "tracked": count.tracked,
                    "retried": count.retried,
                    "jumped": count.jumped,
                    "conjugated": count.conjugated,
                    "lost": count.lost,
                    "infinite": count.infinite,
                    "singular": count.singular + curves,
                    "curves": curves,
                    "extended": count.extended,
                },
            )
            whole = proof and len(found) == bound and not count.lost and not count.singular
            solved.append(_complete(found, proof) if whole else found)
        return solved

    def _evidence(
        self, starts: dict[ParametricFamily, _Start], parts: dict[ParametricFamily, list[Subfamily]]
    ) -> str:
        said = " ".join(start.evidence for start in starts.values() if start.evidence)
        late = ""
        if any(start.stopped for start in starts.values()):
            late = (
                f" Stopped after {self.time_limit:g} s, the time_limit, before loops of parameters had come to rest: "
                f"solutions may be missing."
            )
        if said:
            return said + late
        tried = [start for start in starts.values() if start.points.shape[1]]
        seeds = min((start.seeds for start in tried), default=0)
        loops = min((start.loops for start in tried if not start.full), default=0)
        full = sum(start.full for start in tried)
        ends = []
        if full:
            ends.append(
                f"with as many solutions as a proved bound allows, for {full} kind{'s' * (full > 1)} of zero pattern"
            )
        if full < len(tried) or not tried:
            ends.append(
                f"with a set that {loops} loops map into itself, for each kind of zero pattern ({len(tried) - full})"
            )
        text = late.strip() or f"Monodromy from {seeds} independent start pairs ended {' and '.join(ends)}."
        singular = len(parts) - len(starts)
        if singular:
            text += (
                f" Other kinds ({singular}) have a singular Jacobian at generic start pairs, that is, no "
                f"isolated solutions."
            )
        return text + _said_of_traces([start.trace for start in tried])

    def _all_targets(
        self,
        start: _Start,
        targets: NDArray[np.generic],
        counts: list[_Counts],
        routes: int,
    ) -> tuple[_Start, list[Complex], list[NDArray[np.float64]]]:
        """Return the torus solutions up to signs of every member, and the start set, possibly completed."""
        number, k, n = len(targets), len(start.points), start.points.shape[1]
        if n == 0:
            return start, [start.points] * number, [np.zeros(1)] * number
        state = _Ends(start, targets)
        everything = np.arange(number)
        settings = Settings(device=self.device)
        jumped = state.add(everything, start.parameters, start.points, settings, counts)
        for target, times in zip(*np.unique(jumped, return_counts=True), strict=True):
            counts[target].jumped += int(times)
        # Conjugates of solutions of a real member are solutions: they fill gaps, and where there are no gaps
        # and still something new they show that the start set lacks solutions.
        for target in state.conjugate(everything):
            counts[target].conjugated += 1
        gone = np.zeros(number, dtype=np.int64)
        for rung in range(1, self.retries + 1):
            # As many as are missing may have been seen on their way to infinity.
            missing = np.flatnonzero(state.found() + gone < k)
            if missing.size == 0:
                break
            _log.info("retry %d: %d members lack solutions", rung, missing.size)
            origin, points = start.parameters, start.points
            if rung > 1:
                # Another route: over a corner of its own.
                corner = _corner(start.family, np.random.default_rng([routes, rung]))
                moved = track(start.family, points, np.tile(origin, (k, 1)), np.tile(corner, (k, 1)), CAREFUL)
                good = moved.outcome == REGULAR
                origin, points = corner, moved.points[good]
            for target in missing:
                counts[target].retried += len(points)
            state.add(missing, origin, points, CAREFUL, counts)
            for target in state.conjugate(missing):
                counts[target].conjugated += 1
            if rung >= _EXTENDED_RUNG:
                for target, paths in state.lost.items():
                    if state.found()[target] >= k:
                        continue
                    grows, _ = _whereabouts(start.family, points[paths], origin, targets[target])
                    gone[target] = grows.sum()
                    near = points[paths[~grows]]
                    if state.found()[target] + gone[target] < k and len(near):
                        state.add(np.array([target]), origin, near, CAREFUL, counts, precise=True)
                for target in state.conjugate(missing):
                    counts[target].conjugated += 1
        found = state.found()
        if (found > k).any():
            completed = self._completed(start, state, int(np.argmax(found)))
            if len(completed.points) > k:
                _log.info("the start set grew from %d to %d solutions", k, len(completed.points))
                return self._all_targets(completed, targets, counts, routes)
        order = start.group.order
        for target in np.flatnonzero(found < k):
            counts[target].lost += int(k - found[target]) * order
            counts[target].infinite += int(min(gone[target], k - found[target])) * order
        solutions, accuracy = state.result()
        return start, solutions, accuracy

    def _completed(self, start: _Start, state: _Ends, target: int) -> _Start:
        """Carry the surplus of solutions of one member back to the generic member."""
        points = state.points[state.target == target]
        here = np.tile(state.targets[target].astype(np.complex128), (len(points), 1))
        there = np.broadcast_to(start.parameters, here.shape)
        ends = track(start.family, points, here, there, CAREFUL)
        merged, _ = self._merge(
            start.family,
            start.group,
            start.forbidden,
            start.points,
            ends.points[ends.outcome == REGULAR],
            start.parameters,
        )
        return evolve(start, points=merged, paths=start.paths + len(points), trace=None)


class _Ends:
    """The distinct solutions found so far, of many members of one family."""

    def __init__(self, start: _Start, targets: NDArray[np.generic]) -> None:
        self.start, self.targets = start, targets
        n = start.points.shape[1]
        self.points = np.zeros((0, n), dtype=np.complex128)
        self.residuals = np.zeros(0)
        self.target = np.zeros(0, dtype=np.int64)
        #: Members, and which paths of the last batch to them were lost.
        self.lost: dict[int, NDArray[np.int64]] = {}

    def found(self) -> NDArray[np.int64]:
        """Return how many solutions every member has, shape (members,)."""
        return np.asarray(np.bincount(self.target, minlength=len(self.targets)), dtype=np.int64)

    def add(
        self,
        which: NDArray[np.int64],
        origin: Complex,
        points: Complex,
        settings: Settings,
        counts: list[_Counts],
        *,
        precise: bool = False,
    ) -> NDArray[np.int64]:
        """Track `points`, solutions at `origin`, to the members `which`; keep what is new.

        Where it is to be `precise`, residuals are computed in double-double arithmetic where that is possible, and
        the last decades before the end of a path are gone through one by one.

        Returns the members (with repetition) at which two paths of this batch met, or a path ended at a
        solution of another part.
        """
        k = len(points)
        for target in which:
            counts[target].tracked += k
        self.lost = {}
        routes = {int(target): _route(origin, self.targets[target], precise) for target in which}
        homotopy = (extended_precision(self.start.family) if precise else None) or self.start.family
        met = [np.zeros(0, dtype=np.int64)]
        for legs in sorted({len(route) for route in routes.values()}):
            some = np.array([target for target in which if len(routes[int(target)]) == legs])
            met.append(self._add(some, routes, points, settings, counts, homotopy))
        return np.concatenate(met)

    def _add(
        self,
        which: NDArray[np.int64],
        routes: dict[int, list[Complex]],
        points: Complex,
        settings: Settings,
        counts: list[_Counts],
        homotopy: Homotopy,
    ) -> NDArray[np.int64]:
        """Do so for members whose routes have equally many corners."""
        k = len(points)
        member = np.repeat(which, k)
        corners = np.array([routes[int(target)] for target in which])
        first, *via, last = np.repeat(corners, k, axis=0).transpose(1, 0, 2)
        ends = track(homotopy, np.tile(points, (len(which), 1)), first, last, settings, via)
        for place, target in enumerate(which):
            lost = np.flatnonzero(ends.outcome[place * k : (place + 1) * k] != REGULAR)
            if lost.size:
                self.lost[int(target)] = lost
        good = ends.outcome == REGULAR
        for target in member[good & ends.extended]:
            counts[target].extended += 1
        regular, residuals, member = ends.points[good], ends.residuals[good], member[good]
        allowed = _allowed(regular, self.start.forbidden)
        alone = allowed & distinct(member, self.start.group.invariants(regular))
        self._merge(member[alone], regular[alone], residuals[alone])
        return np.asarray(member[~alone])

    def conjugate(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add complex conjugates of solutions of real members; return the members that gained one each."""
        real = ~np.any(self.targets.imag, axis=1) & np.isin(np.arange(len(self.targets)), which)
        z, member = self.points[real[self.target]].conj(), self.target[real[self.target]]
        invariants = self.start.group.invariants
        new = distinct(
            np.concatenate([self.target, member]), invariants(np.concatenate([self.points, z])), 10 * SAME
        )[len(self.target) :]
        z, member = z[new], member[new]
        if z.size == 0:
            return np.zeros(0, dtype=np.int64)
        # Not so where the family itself has complex coefficients: Newton's method tells.
        refined, residuals, _ = polish(self.start.family, z, self.targets[member].astype(np.complex128))
        size = np.abs(z).max(axis=1)
        good = (residuals < 1e-9) & (np.abs(refined - z).max(axis=1) < 1e-6 * size)
        before = self.found()
        self._merge(member[good], refined[good], residuals[good])
        gained = self.found() - before
        return np.repeat(np.arange(len(gained)), gained)

    def _merge(self, member: NDArray[np.int64], points: Complex, residuals: NDArray[np.float64]) -> None:
        target = np.concatenate([self.target, member])
        together = np.concatenate([self.points, points])
        accuracy = np.concatenate([self.residuals, residuals])
        keep = distinct(target, self.start.group.invariants(together))
        self.target, self.points, self.residuals = target[keep], together[keep], accuracy[keep]

    def result(self) -> tuple[list[Complex], list[NDArray[np.float64]]]:
        """Return points and residuals of every member; coordinates at rounding level are exactly zero."""
        order = np.argsort(self.target, kind="stable")
        ends = np.cumsum(self.found())[:-1]
        family, zero = self.start.family, np.zeros((1, self.points.shape[1]), dtype=np.complex128)

        def origin_solves(target: int) -> bool:
            return not family.value(zero, self.targets[target][None].astype(np.complex128)).any()

        points = [
            with_zeros(z, partial(origin_solves, target))
            for target, z in enumerate(np.split(self.points[order], ends))
        ]
        return points, np.split(self.residuals[order], ends)


def _check_memory(unknowns: int) -> None:
    """Refuse what does not fit.

    Raises
    ------
    PolynomialError
        When the matrices that one path needs exceed the memory of the machine, where that can be found out.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    needed = _MATRICES * 16 * unknowns**2
    if needed > memory:
        raise PolynomialError(
            f"{unknowns} unknowns need {needed / 2**30:.1f} GiB for the Jacobian of a single path; this machine has "
            f"{memory / 2**30:.1f} GiB. Take narrower layers, or fewer inputs and outputs."
        )


@cache
def _recommend_numba() -> None:
    """Say once in this process that there is a faster way."""
    _log.warning(
        "numba is not installed: paths are followed with numpy, which takes several times as long. Install it with "
        "pip install 'landscape-homotopy[fast]'."
    )


def _number(starts: dict[ParametricFamily, _Start], parts: dict[ParametricFamily, list[Subfamily]]) -> int:
    """Return how many solutions a generic member is known to have."""
    return sum(len(start.points) * start.group.order * len(parts[key]) for key, start in starts.items())


def _proof_of_number(
    family: ParametricFamily,
    starts: dict[ParametricFamily, _Start],
    parts: dict[ParametricFamily, list[Subfamily]],
    rng: np.random.Generator,
    watch: Watch,
) -> str:
    """Return how it is proved that generic members have as many solutions as is known of them; empty if it is not.

    The solutions of every part are certified as solutions of a member of the whole family, in which they are regular,
    so that every member near that one has them too, and therefore every generic one. The family's bound says that there
    are no more.

    That solutions of different parts are different, of generic members too, needs that theirs are the zeros exactly.
    Let S be where the unknowns that a part leaves out are zero. It is asked that as many equations as it leaves out
    vanish on S, term by term and for all parameters (weights of a unit that is left out: each of their terms has
    another such weight in it), and that boxes have their centres in S. There the rows of Krawczyk's conditions that
    belong to the other unknowns are his conditions for the other equations restricted to S, since the former add
    nothing: so a solution lies in the box and in S, and it is the only one in the box. On S the derivatives of the
    former by the unknowns of S vanish, so that the Jacobian of the latter is regular too, and solutions stay in S when
    parameters change. Boxes without zero in the other coordinates tell the parts apart.

    Where this cannot be shown, or when the time is up, nothing is proved.
    """
    n = len(family.unknown_names)
    number = _number(starts, parts)
    done = 0
    alone = sum(map(len, parts.values())) == 1
    circuit = circuit_of(family)
    for key, start in starts.items():
        for placed in parts[key]:
            left_out = sorted(set(range(n)) - set(placed.unknowns))
            if left_out and (circuit is None or vanishing(circuit, left_out).sum() != len(left_out)):
                return ""
            watch.tell(f"certifying {number} solutions of generic members, {done} are done")
            if watch.is_up():
                return ""
            done += len(start.points) * start.group.order
            kept = list(placed.unknowns)
            p = generic(rng, len(family.parameter_names))
            p[list(placed.parameters)] = start.parameters
            images = start.group.orbits(start.points)
            points = np.zeros((len(images) * start.group.order, n), dtype=np.complex128)
            points[:, kept] = images.reshape(len(points), len(kept))
            proved = certified(family, p, Solutions(points))
            assert proved.certificates is not None
            sizes = np.maximum(np.abs(proved.points[:, kept].real), np.abs(proved.points[:, kept].imag))
            radii = proved.certificates
            apart = alone or bool((sizes.min(axis=1, initial=np.inf) > radii).all())
            if not (np.isfinite(radii).all() and apart) or proved.points[:, left_out].any():
                return ""
    return (
        f"It is proved that generic members have {number} isolated solutions: so many regular ones were certified, "
        f"all different, and no member has more: {family.solution_bound_reason()}"
    )


def _complete(solutions: Solutions, proof: str) -> Solutions:
    """Return solutions as many as generic members have by a `proof`, with what that says of these."""
    n, sure = len(solutions), solutions.certificates
    if sure is None:
        own = f" Of this member {n} different solutions were found numerically, and not certified."
    else:
        own = f" Of this member {n} different solutions were found, {int(np.isfinite(sure).sum())} of them certified."
    return evolve(solutions, completeness="proved", evidence=f"{solutions.evidence} {proof}{own}")


def _said_of_traces(tests: list[TraceTest | None]) -> str:
    """Return what the trace tests of a generic member came to, in a sentence or two."""
    made = [test for test in tests if test is not None]
    if not made:
        return ""
    passed = [test for test in made if test.passed]
    text = ""
    if passed:
        text += (
            f" Trace test: passed for {len(passed)} of {len(tests)} kinds, with {sum(test.size for test in passed)} "
            f"orbits of sign changes on three parallel planes. Their sums are affine-linear to "
            f"{max(test.deviation for test in passed):.0e}, where one missing point would make "
            f"{min(test.contribution for test in passed):.0e} at least."
        )
    for test in made:
        if test.passed is False:
            text += f" The trace test failed: sums are affine-linear to {test.deviation:.0e} only."
        elif test.passed is None:
            text += f" A trace test came to no result: {test.reason}."
    return text


def _parts(family: ParametricFamily) -> dict[ParametricFamily, list[Subfamily]]:
    """Return the parts of a family, equal ones together."""
    parts: dict[ParametricFamily, list[Subfamily]] = {}
    for part in family.subfamilies():
        parts.setdefault(part.family, []).append(part)
    return parts


def _corner(family: ParametricFamily, rng: np.random.Generator) -> Complex:
    """Return generic complex parameters for a detour."""
    if family.start_pairs_suffice:
        return family.start_pair(rng)[1]
    return generic(rng, len(family.parameter_names))


def _around(
    family: ParametricFamily, points: Complex, base: Complex, corners: list[Complex], device: str | None
) -> tuple[Complex, NDArray[np.bool_]]:
    """Carry all points around loops over two corners (loops, M) each; return the ends and which loops lost none."""
    k, loops, m = len(points), len(corners[0]), len(base)
    loop = np.repeat(np.arange(loops), k)
    home = np.broadcast_to(base, (len(loop), m))
    away = [corner[loop].reshape(-1, m) for corner in corners]
    ends = track(family, np.tile(points, (loops, 1)), home, home, Settings(device=device), via=away)
    good = ends.outcome == REGULAR
    return ends.points[good], np.asarray(np.bincount(loop[good], minlength=loops) == k)


def _followed(part: ParametricFamily, start: _Start, target: Complex) -> tuple[Complex, NDArray[np.bool_]]:
    """Follow a start set to one member; return the ends and which arrived.

    Paths that do not arrive, or end where another one does, are followed again with short steps.
    """
    k = len(start.points)
    here, there = np.tile(start.parameters, (k, 1)), np.tile(target, (k, 1))
    ends = track(part, start.points, here, there, Settings())
    points, arrived = ends.points, ends.outcome == REGULAR
    again = ~arrived
    which = np.flatnonzero(arrived)
    invariants = start.group.invariants(points[which])
    together = np.zeros(len(which), dtype=np.int64)
    again[which] = ~(distinct(together, invariants) & distinct(together, invariants[::-1])[::-1])
    which = np.flatnonzero(again)
    ends = track(part, start.points[which], here[which], there[which], CAREFUL)
    points[which], arrived[which] = ends.points, ends.outcome == REGULAR
    return points, arrived


def _by_degrees(
    family: ParametricFamily, member: Complex, tally: _Tally, rng: np.random.Generator
) -> Complex:
    """Return the regular solutions of one generic member, found from a system of the same degrees."""
    system = family.system(member)
    ends = total_degree_ends(system, rng)
    found = gathered(lambda: system, ends)
    tally.origin = "solutions of a system of the same degrees"
    tally.total = len(ends.points)
    tally.infinite = found.statistics["infinite"]
    tally.curves = found.statistics["curves"]
    # Multiple solutions, and what is not known.
    tally.singular = int((ends.outcome == SINGULAR).sum()) - tally.curves
    return np.asarray(found.points[found.multiplicities == 1])


def _route(origin: Complex, target: NDArray[np.generic], precise: bool = False) -> list[Complex]:
    """Return the corners of a path from generic parameters to those of a member, both included.

    Where moduli differ by orders of magnitude they change by a factor from corner to corner: on a straight way all
    that depends on the smallest parameters would happen at its very end. Corners but the last have the phases of
    `origin`, and so are as generic. Where it is to be `precise`, the end is approached by powers of ten.
    """
    goal = target.astype(np.complex128)
    begin, end = np.abs(origin), np.abs(goal)
    decades = np.zeros(len(goal))
    both = (begin > 0) & (end > 0)
    decades[both] = np.log2(end[both] / begin[both])
    legs = max(1, int(np.ceil(np.abs(decades).max(initial=0.0) / _STRIDE)))
    corners = [origin * 2.0 ** (decades * leg / legs) for leg in range(legs)]
    if precise:
        corners += [goal + rest * (corners[-1] - goal) for rest in _LAST_CORNERS]
    return [*corners, goal]


def _whereabouts(
    part: ParametricFamily, points: Complex, origin: Complex, target: NDArray[np.generic]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of the paths that do not arrive grow without bound, and which stay finite."""
    k = len(points)
    *before, goal = _route(origin, target)
    here = before
    moduli, reached = [], []
    last, alive = points, np.ones(k, dtype=bool)
    for rest in _REMAINING:
        corners = [np.tile(p, (k, 1)) for p in (*here, goal + rest * (before[-1] - goal))]
        ends = track(part, last, corners[0], corners[-1], CAREFUL, corners[1:-1])
        alive = alive & (ends.outcome == REGULAR)
        last, here = ends.points, [corners[-1][0]] if k else here
        moduli.append(np.abs(last).max(axis=1, initial=0.0))
        reached.append(alive)
    growing = reached[2] & (moduli[2] > _GROWTH * moduli[1])
    gone = reached[1] & ~reached[2] & (moduli[1] > _FAST_GROWTH * moduli[0])
    return growing | gone, reached[2] & ~growing


def _carried(family: ParametricFamily, points: Complex, origin: Complex, target: Complex) -> Complex:
    """Return where the solutions of one generic member lead at another; distinct, those that arrived."""
    n = points.shape[1]
    start = _Start(family, SignGroup([], n), origin, points, np.zeros((0, n), dtype=bool), 0, 0, 0)
    ends, arrived = _followed(family, start, target)
    found = ends[arrived]
    return np.asarray(found[distinct(np.zeros(len(found), dtype=np.int64), found)])


def _patterns(family: ParametricFamily) -> NDArray[np.bool_]:
    """Return the zero patterns of the parts of a family other than the torus, bool (patterns, N)."""
    n = len(family.unknown_names)
    masks = []
    for part in family.subfamilies():
        if len(part.unknowns) < n:
            mask = np.zeros(n, dtype=bool)
            mask[list(part.unknowns)] = True
            masks.append(mask)
    return np.array(masks, dtype=bool).reshape(-1, n)
