"""Two solvers on the same samples: where they agree, and what each took."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field, frozen

from landscape.composition.progress import stage
from landscape.errors import LandscapeError
from landscape.interfaces import Solver
from landscape.randomness import derive_seed, preserved_random_state, torch_generator
from landscape.systems import ParametricFamily, Solutions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CrossExamination", "Statement", "cross_examine"]


@define
class Statement:
    """What one solver made of the samples.

    Attributes
    ----------
    name
        Of the solver; the two of a cross-examination differ.
    solutions
        Per sample; None where it failed.
    failures
        Why it failed, by sample.
    wall_seconds, cpu_seconds
        For all samples together; CPU seconds include those of the programs that it ran.
    """

    name: str
    solutions: list[Solutions | None] = field(factory=list)
    failures: dict[int, str] = field(factory=dict)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def total(self, statistic: str) -> int | None:
        """Return the sum of a statistic over the samples, or None where the solver does not count it."""
        known = [
            s.statistics[statistic] for s in self.solutions if s is not None and statistic in s.statistics
        ]
        return sum(known) if known else None


@frozen(eq=False)
class CrossExamination:
    """Two solvers compared: what :meth:`CriticalPointStudy.against` returns. True where they agree throughout.

    Attributes
    ----------
    first, second
        The :class:`Statement` of either.
    tolerance
        Up to which solutions count as the same, relative to their size.
    """

    first: Statement
    second: Statement
    tolerance: float

    def __bool__(self) -> bool:
        return bool((self.samples()["agree"] == "yes").all())

    def samples(self) -> pd.DataFrame:
        """Return a row per sample.

        ``N_C_<solver>``, ``certified_<solver>`` (how many of them are proved to exist and to differ; empty where the
        solver did not try), ``completeness_<solver>``; ``common`` solutions; ``missing_<solver>``: those that only the
        other one has; ``largest_difference`` between partners; ``agree``: ``yes``, ``no``, or the name of what
        failed.
        """
        import pandas as pd

        rows = []
        for index, (ours, theirs) in enumerate(zip(self.first.solutions, self.second.solutions, strict=True)):
            row: dict[str, Any] = {"sample": index}
            for statement, solutions in ((self.first, ours), (self.second, theirs)):
                row[f"N_C_{statement.name}"] = len(solutions) if solutions is not None else pd.NA
                proofs = solutions.certificates if solutions is not None else None
                row[f"certified_{statement.name}"] = (
                    int(np.isfinite(proofs).sum()) if proofs is not None else pd.NA
                )
                row[f"completeness_{statement.name}"] = (
                    solutions.completeness if solutions is not None else "failed"
                )
            if ours is None or theirs is None:
                failed = [s.name for s in (self.first, self.second) if index in s.failures]
                row |= dict.fromkeys(("common", *self._missing), pd.NA)
                row |= {"largest_difference": np.nan, "agree": f"{' and '.join(failed)} failed"}
            else:
                agreement = ours.matches(theirs, self.tolerance)
                row["common"] = agreement.common
                row[self._missing[0]] = len(agreement.missing)
                row[self._missing[1]] = len(agreement.surplus)
                row["largest_difference"] = agreement.largest_difference
                row["agree"] = "yes" if agreement else "no"
            rows.append(row)
        names = [self.first.name, self.second.name]
        whole = [f"{column}_{name}" for column in ("N_C", "certified") for name in names]
        return pd.DataFrame(rows).astype(dict.fromkeys([*whole, "common", *self._missing], "Int64"))

    def printed(self) -> pd.DataFrame:
        """Return :meth:`samples` for people: ``N_C`` as :func:`landscape.report.counts.claim` says it."""
        from landscape.report.counts import claim

        samples = self.samples()
        shown = samples.astype(object)
        for name in (self.first.name, self.second.name):
            columns = (f"N_C_{name}", f"certified_{name}", f"completeness_{name}")
            shown[columns[0]] = [
                None if row[0] is None else claim(row[0], float("nan") if row[1] is None else row[1], row[2])
                for row in samples[list(columns)]
                .astype(object)
                .where(samples[list(columns)].notna(), None)
                .to_numpy()
            ]
            shown = shown.drop(columns=columns[1])
        return shown.where(shown.notna(), None)

    @property
    def _missing(self) -> tuple[str, str]:
        return f"missing_{self.first.name}", f"missing_{self.second.name}"

    def solvers(self) -> pd.DataFrame:
        """Return a row per solver: what it found, what it took and what went wrong.

        ``solved`` and ``failed`` samples; ``solutions`` of all; ``missing``: those that only the other one has;
        ``wall_seconds`` and ``cpu_seconds``, programs that it ran included; ``paths`` tracked; ``lost`` solutions;
        ``repeated`` attempts (paths retried, calls in trouble). Empty where a solver does not count such a thing.
        """
        import pandas as pd

        samples = self.samples()
        rows = []
        for statement in (self.first, self.second):
            found = [solutions for solutions in statement.solutions if solutions is not None]
            repeated = [statement.total(name) for name in ("retried", "troubled")]
            rows.append(
                {
                    "solver": statement.name,
                    "solved": len(found),
                    "failed": len(statement.failures),
                    "solutions": sum(map(len, found)),
                    "missing": int(samples[f"missing_{statement.name}"].sum()),
                    "wall_seconds": statement.wall_seconds,
                    "cpu_seconds": statement.cpu_seconds,
                    "paths": statement.total("tracked"),
                    "lost": statement.total("lost"),
                    "repeated": next((count for count in repeated if count is not None), None),
                }
            )
        return pd.DataFrame(rows).astype(dict.fromkeys(("paths", "lost", "repeated"), "Int64"))

    def failures(self) -> list[str]:
        """Return why samples were not solved, one sentence each; equal reasons once."""
        told: dict[tuple[str, str], list[int]] = {}
        for statement in (self.first, self.second):
            for index, reason in statement.failures.items():
                told.setdefault((statement.name, reason), []).append(index)
        return [
            f"{name}, sample{'s' * (len(which) > 1)} {', '.join(map(str, which[:8]))}"
            f"{' ...' * (len(which) > 8)}: {reason}"
            for (name, reason), which in told.items()
        ]

    def __str__(self) -> str:
        samples = self.samples()
        agree = int((samples["agree"] == "yes").sum())
        said = f"{self.first.name} and {self.second.name} agree on {agree} of {len(samples)} samples"
        if agree and len(samples):
            difference = samples.loc[samples["agree"] == "yes", "largest_difference"].max()
            said += f", to {difference:.1e}"
        return f"{said}."


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _state(
    solver: Solver, name: str, family: ParametricFamily, parameters: NDArray[Any], seed: int
) -> Statement:
    """Let a solver solve all samples; go on after one that fails."""
    statement = Statement(name)
    count = len(parameters)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    with (
        preserved_random_state(derive_seed(seed, "solver", "global")),
        stage(name, count) as progress,
    ):
        previous = None
        while len(statement.solutions) < count:
            first = len(statement.solutions)
            try:
                solved = solver.solve_family(family, parameters[first:], torch_generator(seed, "solver"))
                for solutions in solved:
                    statement.solutions.append(solutions)
                    progress.note(f"{len(solutions)} solutions")
                    progress.advance()
            except LandscapeError as error:
                reason = str(error)
                at_once = len(statement.solutions) == first
                # Twice the same at once is about the family, not about a sample: the rest would fail alike.
                many = count - len(statement.solutions) if at_once and reason == previous else 1
                for _ in range(many):
                    statement.failures[len(statement.solutions)] = reason
                    statement.solutions.append(None)
                    progress.advance()
                previous = reason if at_once else None
    statement.wall_seconds = time.perf_counter() - wall
    statement.cpu_seconds = _cpu_seconds() - cpu
    return statement


def cross_examine(
    solvers: Sequence[Solver],
    family: ParametricFamily,
    parameters: NDArray[Any],
    seed: int,
    tolerance: float = 1e-6,
) -> CrossExamination:
    """Let two solvers solve the members of a family with the same parameters (samples, M), and compare."""
    first, second = solvers
    names = [type(first).__name__, type(second).__name__]
    if names[0] == names[1]:
        names = [f"{name}_{number}" for number, name in enumerate(names, 1)]
    statements = [
        _state(solver, name, family, parameters, seed) for solver, name in zip(solvers, names, strict=True)
    ]
    return CrossExamination(statements[0], statements[1], tolerance)
