"""Single calls of PHCpack, by its program or by phcpy, and what they answered."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.programs import Ended, read, run
from landscape.systems import PolynomialSystem, SolutionList, Solutions, phc_lists, write_solutions
from landscape_phcpack import worker

__all__ = ["Answer", "Call", "Problem", "volumes"]

_RULE = "=" * 75
_PRECISION_FLAGS = {"d": "", "dd": "2", "qd": "4"}
_VERSION = re.compile(r"^PHCv(\S+) released", re.MULTILINE)
_COUNT = re.compile(
    r"^\s*(total degree|[\w-]+homogeneous Bezout number|general linear-product Bezout number|(?:common )?mixed volume"
    r"|stable mixed volume)\s*:\s*(\d{1,18})\s*$",
    re.MULTILINE,
)
_STARTED = re.compile(r"^\s*START SOLUTIONS\s*:\s*\n\s*(\d{1,18})\s+\d+\s*$", re.MULTILINE)


def in_order(system: PolynomialSystem) -> list[str]:
    """Return the polynomials, each with its semicolon, so that PHCpack keeps the order of the unknowns.

    The phcpy of 2.4.86 reads start solutions by the numbers of the unknowns, not by their names.
    """
    return system.to_text("phc").splitlines()[1:]


@frozen
class Problem:
    """A system as PHCpack gets it: with names of its own, that it cannot misread.

    Attributes
    ----------
    system
        In the unknowns z1, z2 and so on: PHCpack takes names that begin with i or e for something else.
    """

    system: PolynomialSystem

    @classmethod
    def of(cls, system: PolynomialSystem) -> Problem:
        """Rename the unknowns."""
        names = [f"z{number}" for number in range(1, len(system.unknowns) + 1)]
        return cls(PolynomialSystem.from_monomials(system.exact, names))

    @property
    def polynomials(self) -> list[str]:
        """The polynomials, each with its semicolon."""
        return in_order(self.system)

    @property
    def text(self) -> str:
        """The contents of an input file."""
        return "\n".join([str(len(self.system.unknowns)), *self.polynomials, ""])

    def total_degree_start(self, rng: np.random.Generator) -> tuple[PolynomialSystem, Solutions]:
        """Return z_k^(d_k) = c_k with random c_k of modulus one, and its solutions."""
        names, degrees = self.system.unknowns, self.system.degrees
        turns = rng.random(len(names))
        start = PolynomialSystem.from_monomials(
            [
                {
                    tuple(d if j == k else 0 for j in range(len(names))): 1.0 + 0j,
                    (0,) * len(names): -complex(np.exp(2j * np.pi * turns[k])),
                }
                for k, d in enumerate(degrees)
            ],
            names,
        )
        roots = [
            [np.exp(2j * np.pi * (turn + j) / d) for j in range(d)]
            for turn, d in zip(turns, degrees, strict=True)
        ]
        points = np.array(list(product(*roots)), dtype=np.complex128).reshape(prod(degrees), len(names))
        return start, Solutions(points, np.zeros(len(points)))


@frozen(eq=False)
class Answer:
    """What one call brought.

    Attributes
    ----------
    lists
        Every list of solutions or endpoints.
    ended
        How the program ended.
    trouble
        What was wrong with the call, a few words; empty when it went well.
    counts
        Root counts by name: ``mixed volume``, ``stable mixed volume``, ``total degree``.
    paths
        Number of paths that were tracked, or None where the program does not say.
    version
        Of PHCpack.
    """

    lists: tuple[SolutionList, ...]
    ended: Ended
    trouble: str
    counts: dict[str, int]
    paths: int | None
    version: str

    def endpoints(self, unknowns: Sequence[str]) -> NDArray[np.complex128]:
        """Return the entries of all lists that have the coordinates `unknowns`, shape (n, N)."""
        found = [each.ordered(unknowns) for each in self.lists if set(each.unknowns) == set(unknowns)]
        return np.concatenate([np.zeros((0, len(unknowns)), dtype=np.complex128), *found])


def _at_start(solutions: Solutions, start: PolynomialSystem) -> str:
    """Write solutions as the beginnings of paths: at t = 0."""
    text = write_solutions(solutions, start.unknowns, "phc")
    return re.sub(r"^t : .*$", "t :  0.0E+00   0.0E+00", text, flags=re.MULTILINE)


def _counts(text: str) -> dict[str, int]:
    return {name.removeprefix("common "): int(count) for name, count in _COUNT.findall(text)}


def _printed_version(ended: Ended) -> str:
    version = _VERSION.search(ended.printed)
    return version[1] if version else ""


def _trouble(ended: Ended, lists: Sequence[SolutionList], whole: bool) -> str:
    if not ended.well:
        return str(ended)
    if not whole and not lists:
        return "wrote nothing"
    short = [each for each in lists if len(each) != each.declared]
    if short:
        return f"a list of {short[0].declared} solutions has {len(short[0])}"
    if not any(map(len, lists)):
        return "no solutions"
    return ""


@frozen
class Call:
    """How PHCpack is called.

    Attributes
    ----------
    way
        ``"phc"`` or ``"phcpy"``.
    program
        Path of the program phc, or of the Python that has phcpy.
    method
        ``"automatic"``, ``"polyhedral"`` (phcpy only) or ``"total degree"``.
    tasks, precision
        As for :class:`~landscape_phcpack.phcpack.PHCpack`.
    """

    way: Literal["phc", "phcpy"]
    program: str
    method: str
    tasks: int
    precision: str

    def __call__(self, problem: Problem, seed: int, seconds: float) -> Answer:
        """Solve `problem` once, in a process of its own, within `seconds`."""
        with tempfile.TemporaryDirectory(prefix="landscape-phcpack-") as name:
            folder = Path(name)
            if self.way == "phc":
                return self._phc(problem, seed, seconds, folder)
            return self._phcpy(problem, seed, seconds, folder)

    def _phc(self, problem: Problem, seed: int, seconds: float, folder: Path) -> Answer:
        given, output, start_file = folder / "in", folder / "out", folder / "start"
        given.write_text(problem.text, encoding="ascii")
        flags = [f"-0{seed}"]
        answers = ""
        paths: int | None = None
        if self.method == "total degree":
            start, solutions = problem.total_degree_start(np.random.default_rng(seed))
            paths = len(solutions)
            lines = [str(len(start.unknowns)), *in_order(start), "", _at_start(solutions, start)]
            start_file.write_text("\n".join(lines), encoding="ascii")
            flags.append("-p")
            # Solutions in the same file; the start system; settings of homotopy, tracker and output as they are.
            answers = f"n\n{start_file.name}\n0\n0\n0\n"
        else:
            flags.append(f"-b{_PRECISION_FLAGS[self.precision]}")
            if self.tasks:
                flags.append(f"-t{self.tasks}")
        ended = run([self.program, *flags, given.name, output.name], folder, seconds, answers)
        text = read(output)
        # The blackbox solver appends its answer to the input file, too; the tracker does not.
        lists = (*phc_lists(text), *phc_lists(read(given)))
        version = _VERSION.search(text)
        started = _STARTED.search(text)
        return Answer(
            lists,
            ended,
            _trouble(ended, lists, whole=version is not None),
            _counts(text),
            paths if paths is not None else int(started[1]) if started else None,
            version[1] if version else "",
        )

    def _phcpy(self, problem: Problem, seed: int, seconds: float, folder: Path) -> Answer:
        request: dict[str, Any] = {
            "task": "solve",
            "polynomials": problem.polynomials,
            "tasks": self.tasks,
            "precision": self.precision,
            "polyhedral": self.method == "polyhedral",
            "seed": seed,
        }
        paths = None
        if self.method == "total degree":
            start, solutions = problem.total_degree_start(np.random.default_rng(seed))
            paths = len(solutions)
            entries = re.split(r"^solution \d+ :\n", _at_start(solutions, start), flags=re.MULTILINE)
            request |= {
                "task": "track",
                "start": in_order(start),
                "start_solutions": [entry.rstrip("\n") for entry in entries[1:]],
            }
        ended, answer = _ask(self.program, request, folder, seconds)
        found = (answer or {}).get("solutions") or []
        lines = ["THE SOLUTIONS :", f"{len(found)} {len(problem.system.unknowns)}", _RULE]
        for number, text in enumerate(found, 1):
            lines += [f"solution {number} :", str(text)]
        lists = phc_lists("\n".join(lines)) if answer is not None else ()
        counts = _counts(ended.printed)
        if paths is None and counts:
            # The blackbox solver takes the start system with the fewest paths; polyhedral homotopies also track
            # those that lead to zero coordinates.
            paths = min(count for name, count in counts.items() if name != "mixed volume")
        return Answer(
            lists,
            ended,
            _trouble(ended, lists, whole=answer is not None),
            counts,
            paths,
            _printed_version(ended) or str((answer or {}).get("version", "")),
        )


def _ask(
    python: str, request: dict[str, Any], folder: Path, seconds: float
) -> tuple[Ended, dict[str, Any] | None]:
    """Let the worker answer a request; None when it did not."""
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    command = [python, "-B", worker.__file__, "request.json", "answer.json"]
    if python == sys.executable:
        # Nothing of the folder of the worker: it has modules of this plugin.
        command.insert(1, "-P")
    ended = run(command, folder, seconds)
    text = read(folder / "answer.json")
    try:
        answer = json.loads(text) if text and ended.well else None
    except ValueError:
        answer = None
    return ended, answer if isinstance(answer, dict) else None


def volumes(
    way: Literal["phc", "phcpy"], program: str, problem: Problem, seconds: float
) -> tuple[tuple[int, int] | None, Ended]:
    """Return the mixed and the stable mixed volume, or None when PHCpack did not say."""
    with tempfile.TemporaryDirectory(prefix="landscape-phcpack-") as name:
        folder = Path(name)
        if way == "phcpy":
            request = {"task": "volumes", "polynomials": problem.polynomials, "seed": 1}
            ended, answer = _ask(program, request, folder, seconds)
            found = (answer or {}).get("volumes")
        else:
            (folder / "in").write_text(problem.text, encoding="ascii")
            # MixedVol; no random coefficient system; stable volumes; the cells not to a file of their own.
            ended = run([program, "-01", "-m", "in", "out"], folder, seconds, "4\n0\ny\nn\n")
            counts = _counts(read(folder / "out"))
            found = [counts.get("mixed volume"), counts.get("stable mixed volume")] if ended.well else None
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(isinstance(v, int) and v >= 0 for v in found)
    ):
        return None, ended
    return (found[0], found[1]), ended
