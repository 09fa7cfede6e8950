"""The solver PHCpack."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from landscape.errors import SolverError
from landscape.interfaces import Solver
from landscape.randomness import numpy_generator
from landscape.systems import (
    ParametricFamily,
    PolynomialFamily,
    PolynomialSystem,
    Refined,
    Solutions,
    match,
    refine,
)
from landscape.validators import at_least, number, one_of, optional
from landscape_phcpack.calling import Answer, Call, Problem
from landscape_phcpack.installation import find_phc, find_phcpy, missing

if TYPE_CHECKING:
    import torch

__all__ = ["PHCpack"]

_log = logging.getLogger("landscape")

#: A total-degree homotopy with more paths than this is refused: it would take days, and gigabytes of text.
_MOST_PATHS = 200_000


@frozen
class PHCpack(Solver):
    """The isolated regular solutions of one system, by PHCpack's path trackers.

    PHCpack runs as a separate program; its answer is checked before it is believed. Every endpoint in every list
    is polished with Newton's method on the original system; what is no regular solution, or stands there twice, is
    left out and counted. A call that crashes, is silent, breaks off, or whose solutions are not closed under the
    symmetries of the system (complex conjugation where the coefficients are real, changes of signs), is repeated
    with another seed, and the solutions of all calls are joined. What is missing then is filled in by symmetry.

    Attributes
    ----------
    executable
        ``"phc"``: the program; ``"phcpy"``: the Python package, in this or the system's Python; ``"auto"``: the
        program where it is installed and can do what is asked, else phcpy.
    method
        ``"automatic"``: what the blackbox solver finds to have the fewest paths; ``"polyhedral"``: polyhedral
        homotopies, by phcpy only; ``"total degree"``: as many paths as the product of the degrees, in
        double precision.
    tasks
        Threads; 0, the default, is without threads and the only setting that repeats bit for bit. phc 2.4.86 with
        two was measured to bring nothing in 3 of 60 runs, which the repetitions here make up for.
    precision
        ``"d"``, ``"dd"`` or ``"qd"``: double, double double or quad double arithmetic along the paths. Solutions
        are rounded to double precision.
    seed
        Of PHCpack's random numbers; drawn from the solver's generator by default.
    time_limit
        Seconds for one system, all calls together.
    retries
        Calls after the first.

    References
    ----------
    Verschelde, Algorithm 795: PHCpack: a general-purpose solver for polynomial systems by homotopy continuation,
    ACM Trans. Math. Softw. 25 (1999) 251-276.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Verschelde: Algorithm 795: PHCpack: a general-purpose solver for polynomial systems by homotopy "
        "continuation. ACM Trans. Math. Softw. 25 (1999) 251-276",
        "Gao, Li, Wu: Algorithm 846: MixedVol: a software package for mixed-volume computation. "
        "ACM Trans. Math. Softw. 31 (2005) 555-560",
    )

    executable: str = field(default="auto", validator=one_of(("auto", "phcpy", "phc")))
    method: str = field(
        default="automatic", kw_only=True, validator=one_of(("automatic", "polyhedral", "total degree"))
    )
    tasks: int = field(default=0, kw_only=True, validator=at_least(0))
    precision: str = field(default="d", kw_only=True, validator=one_of(("d", "dd", "qd")))
    seed: int | None = field(default=None, kw_only=True, validator=optional(at_least(1)))
    time_limit: float = field(default=600.0, kw_only=True, validator=number(above=0))
    retries: int = field(default=2, kw_only=True, validator=at_least(0))

    # -- the interface ------------------------------------------------------------------------------------

    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Find the isolated regular solutions of one system.

        Returns
        -------
        Solutions
            Of completeness ``"heuristic"`` where the last call went well and the solutions are closed under the
            symmetries without help, else ``"unknown"``. ``statistics``: ``calls``; of these ``troubled``;
            ``tracked`` paths; ``read`` endpoints; of these ``unreadable``, ``rejected``, ``singular`` and
            ``repeated``; ``reflected`` solutions that were filled in by symmetry.

        Raises
        ------
        SolverError
            When PHCpack is not installed, cannot do what is asked, or no call brought anything: with how each
            ended.
        """
        return self._solve(self._call(), system, numpy_generator(generator))

    def solve_family(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members one after another, each from scratch.

        Raises
        ------
        SolverError
            At once when PHCpack is not installed, else as for :meth:`solve`.
        """
        call, rng = self._call(), numpy_generator(generator)

        def members() -> Iterator[Solutions]:
            for row in np.asarray(parameters):
                yield evolve(self._solve(call, family.system(row), rng), parameters=np.asarray(row))

        return members()

    # -- the way in ---------------------------------------------------------------------------------------

    def _call(self) -> Call:
        """Find PHCpack, and check that it can do what is asked."""
        if self.method == "total degree" and self.precision != "d":
            raise SolverError(
                f"PHCpack is asked for total-degree homotopies in double precision only, not {self.precision!r}: the "
                f"trackers in higher precision of 2.4.86 return the start solutions. Leave precision or method out."
            )
        needs_phcpy = ""
        if self.method == "polyhedral":
            needs_phcpy = "polyhedral homotopies without comparing other root counts"
        elif self.method == "total degree" and self.tasks:
            needs_phcpy = "total-degree homotopies with tasks"
        if self.executable == "phc" and needs_phcpy:
            raise SolverError(
                f"the program phc is not asked for {needs_phcpy}; leave executable out, or say "
                f"executable='phcpy'."
            )
        if self.executable != "phcpy" and not needs_phcpy:
            program = find_phc()
            if program is not None:
                return Call("phc", program, self.method, self.tasks, self.precision)
            if self.executable == "phc":
                raise missing("the program phc of PHCpack is not installed.")
        python = find_phcpy()
        if python is not None:
            return Call("phcpy", python, self.method, self.tasks, self.precision)
        if needs_phcpy:
            raise missing(f"phcpy, which {needs_phcpy} need, is not installed.")
        what = "phcpy" if self.executable == "phcpy" else "PHCpack, neither the program phc nor phcpy,"
        raise missing(f"{what} is not installed.")

    # -- one system ---------------------------------------------------------------------------------------

    def _solve(self, call: Call, system: PolynomialSystem, rng: np.random.Generator) -> Solutions:
        unknowns = len(system.unknowns)
        # A seed is drawn whether it is used or not: fixing it moves no other random number.
        seed = int(rng.integers(1, 2**30))
        if self.seed is not None:
            seed = self.seed
        if unknowns == 0:
            return Solutions(
                np.zeros((1, 0)), np.zeros(1), completeness="proved", evidence="There are no unknowns."
            )
        if min(system.degrees) == 0:
            return Solutions(
                np.zeros((0, unknowns)),
                completeness="proved",
                evidence="One equation is a constant that is not zero.",
            )
        if call.method == "total degree" and system.bezout_number > _MOST_PATHS:
            raise SolverError(
                f"a total-degree homotopy has {system.bezout_number} paths here, more than {_MOST_PATHS}; use "
                f"method='automatic'."
            )
        problem, symmetries = Problem.of(system), _Symmetries(system)
        deadline = time.monotonic() + self.time_limit
        answers: list[Answer] = []
        candidates = np.zeros((0, unknowns), dtype=np.complex128)
        refined = refine(system, candidates)
        closed = False
        for attempt in range(1 + self.retries):
            try:
                answer = call(problem, seed + attempt, deadline - time.monotonic())
            except OSError as error:
                raise SolverError(f"{call.program} cannot be started: {error.strerror or error}.") from error
            answers.append(answer)
            if answer.trouble:
                _log.info("PHCpack, call %d: %s", attempt + 1, answer.trouble)
            candidates = np.concatenate([candidates, answer.endpoints(problem.system.unknowns)])
            refined = refine(system, candidates)
            closed = symmetries.keep(refined.points)
            if (not answer.trouble and closed and len(refined.points)) or time.monotonic() >= deadline:
                break
        if len(refined.points) == 0 and not any(answer.trouble in ("", "no solutions") for answer in answers):
            raise SolverError(_failure(call, answers, self.time_limit))
        return _assembled(system, call, seed, answers, refined, len(candidates), symmetries, closed)


class _Symmetries:
    """Maps that take solutions of a system to solutions, and that its coefficients show."""

    def __init__(self, system: PolynomialSystem) -> None:
        self._system = system
        self._real = all(complex(c).imag == 0 for f in system.monomials for c in f.values())
        group = PolynomialFamily.from_monomials(system.exact, system.unknowns, ()).sign_group()
        self._generators = group.generators

    def images(self, points: NDArray[np.complex128]) -> list[NDArray[np.complex128]]:
        """Return the images of the points under each generator."""
        images = [np.where(generator, -points, points) for generator in self._generators]
        return [*images, points.conj()] if self._real else images

    def keep(self, points: NDArray[np.complex128]) -> bool:
        """Return whether every image of a point is among the points."""
        return all(bool((match(image, points) >= 0).all()) for image in self.images(points))

    def close(self, refined: Refined) -> Refined:
        """Add images until nothing new comes; Newton's method checks each."""
        while True:
            images = np.concatenate([refined.points, *self.images(refined.points)])
            larger = refine(self._system, images)
            if len(larger.points) <= len(refined.points):
                return refined
            refined = larger


def _assembled(
    system: PolynomialSystem,
    call: Call,
    seed: int,
    answers: list[Answer],
    refined: Refined,
    read: int,
    symmetries: _Symmetries,
    closed: bool,
) -> Solutions:
    last = answers[-1]
    found = len(refined.points)
    counts = refined.counts
    whole = refined if closed else symmetries.close(refined)
    reflected = len(whole.points) - found
    troubles = [answer.trouble for answer in answers if answer.trouble]
    tracked = [answer.paths for answer in answers if answer.paths is not None]
    version = next((answer.version for answer in answers if answer.version), "of unknown version")
    way = {"phc": "the program phc", "phcpy": "phcpy"}[call.way]
    sentences = [
        f"PHCpack {version} by {way}, method {call.method}, precision {call.precision}, {call.tasks} tasks, seed "
        f"{seed}: {len(answers)} call{'s' * (len(answers) > 1)}"
        + (f", {sum(tracked)} paths" if tracked else "")
        + f", {read} endpoints, of which {found} are distinct regular solutions.",
    ]
    bounds = last.counts
    if "stable mixed volume" in bounds:
        sentences.append(f"The stable mixed volume is {bounds['stable mixed volume']}.")
    if troubles:
        sentences.append(f"Calls in trouble: {'; '.join(troubles)}.")
    if counts["singular"]:
        sentences.append(
            f"{counts['singular']} endpoints are left out because the Jacobian is singular there: they are "
            f"multiple, or lie on curves of solutions."
        )
    if reflected:
        sentences.append(
            f"{reflected} solutions were filled in by symmetry: paths were lost, and more solutions may be missing."
        )
    elif closed:
        sentences.append("The solutions are closed under the symmetries of the system.")
    statistics = {
        "calls": len(answers),
        "troubled": len(troubles),
        **({"tracked": sum(tracked)} if tracked else {}),
        "read": read,
        **counts,
        "reflected": reflected,
    }
    return Solutions(
        whole.points,
        whole.residuals,
        completeness="heuristic" if closed and not last.trouble and found else "unknown",
        evidence=" ".join(sentences),
        statistics=statistics,
    )


def _failure(call: Call, answers: list[Answer], limit: float) -> str:
    how = "; ".join(answer.trouble for answer in answers)
    last: Any = answers[-1].ended.printed.strip().splitlines()[-1:]
    said = f" It said: {last[0][:200]!r}." if last else ""
    return (
        f"PHCpack ({call.program}) brought no solutions in {len(answers)} calls: {how}.{said} Raise time_limit "
        f"(now {limit:g} s) or retries, set tasks=0, or try executable="
        f"{'phcpy' if call.way == 'phc' else 'phc'!r}."
    )
