"""One recipe with some fields varied; every member is an independent shard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from attrs import evolve, field, frozen

from landscape.composition.conduct import begin, closed, conducted, reopened
from landscape.composition.critical_point_study import CriticalPointStudy
from landscape.composition.experiment import Experiment
from landscape.composition.in_process import Replication
from landscape.composition.paths import replaced, structured_at
from landscape.composition.progress import stage
from landscape.composition.run import Run
from landscape.composition.shipping import as_backend, finished_run, task_of
from landscape.errors import ConfigurationError
from landscape.interfaces import Backend, Failure, Task
from landscape.store import RunDirectory, RunStore
from landscape.validators import of_type, one_of, optional

__all__ = ["Sweep"]


def _lists(vary: Any) -> Any:
    if not isinstance(vary, Mapping):
        raise ConfigurationError(f"vary={vary!r}: give a mapping from paths of fields to lists of values.")
    lists = {}
    for path, values in vary.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ConfigurationError(f"vary: {path} has {values!r}; give a list of values.")
        # Arrays of numbers give Python's numbers.
        lists[str(path)] = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    return lists


@frozen
class Sweep:
    """A base recipe and the fields to vary.

    ``Sweep(experiment, {"walker.lr": (0.1, 0.01), "seed": range(5)})`` has ten members.

    Attributes
    ----------
    base
        The experiment or critical-point study that the members are made from.
    vary
        Values by the dotted path of a field.
    mode
        ``"product"``: every combination; ``"zip"``: the i-th values together.
    name
        Stands in the report.
    """

    base: Experiment | CriticalPointStudy
    vary: Mapping[str, tuple[Any, ...]] = field(converter=_lists, hash=False)
    mode: Literal["product", "zip"] = field(default="product", validator=one_of(("product", "zip")))
    name: str | None = field(default=None, validator=optional(of_type(str)))

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.base, Experiment | CriticalPointStudy):
            raise ConfigurationError(
                f"base={self.base!r} is neither an experiment nor a critical-point study."
            )
        lengths = {len(values) for values in self.vary.values()}
        if not self.vary or 0 in lengths:
            raise ConfigurationError("vary: give at least one field and one value for each.")
        if self.mode == "zip" and len(lengths) > 1:
            raise ConfigurationError(
                f"vary: with mode='zip' all fields have equally many values; got {sorted(lengths)}."
            )
        # Values are kept as their fields want them; a wrong one is refused here, before any work.
        structured = {
            path: tuple(structured_at(self.base, path, value) for value in values)
            for path, values in self.vary.items()
        }
        object.__setattr__(self, "vary", structured)
        self.members()

    def settings(self) -> list[dict[str, Any]]:
        """Return what each member sets, by path, in the order of the members."""
        combine = itertools.product if self.mode == "product" else zip
        return [dict(zip(self.vary, values, strict=True)) for values in combine(*self.vary.values())]

    def members(self) -> list[Experiment | CriticalPointStudy]:
        """Return the members.

        Raises
        ------
        landscape.errors.ConfigurationError
            If a path leads nowhere or a value does not fit its field.
        """
        members = []
        for setting in self.settings():
            member: Any = self.base
            for path, value in setting.items():
                member = replaced(member, path, value)
            members.append(member)
        return members

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | str | None = None,
        *,
        run_id: str | None = None,
        like: Run | None = None,
    ) -> Run:
        """Run every member; what fails is listed, and the others go on.

        Parameters
        ----------
        store
            Directory of runs; the environment's ``LANDSCAPE_STORE``, or ``runs``, by default.
        backend
            Where the members run; in this process by default.
        run_id
            Name of the sweep's directory; made from the time by default.
        like
            An earlier run of this sweep whose members are replicated, in this process.
        """
        facts = {} if like is None else {"replicates": like.id}
        if like is not None:
            backend = Replication(str(like.path))
        backend = None if backend is None else as_backend(backend)
        return self._carry_out(begin(self, "sweep", store, run_id, facts=facts), backend)

    def resume(self, run: Run, backend: Backend | str | None = None) -> Run:
        """Run the members that `run` is missing, and go on with those that stopped halfway."""
        backend = None if backend is None else as_backend(backend)
        return self._carry_out(reopened(run, self), backend)

    def _carry_out(self, run: Run, backend: Backend | None) -> Run:
        import pandas as pd

        from landscape.composition.in_process import InProcess

        directory = run.directory
        settings = self.settings()
        names = [f"member-{index:04d}" for index in range(len(settings))]
        tasks: list[Task] = []
        outcomes: dict[str, dict[str, str]] = {}
        for name, member in zip(names, self.members(), strict=True):
            place = directory.path / "members" / name
            done = finished_run(place)
            if done is None:
                # Classes that are not registered can only come from this process, never from a file.
                tasks.append(evolve(task_of(member, place, trust=True), key=name))
            else:
                outcomes[name] = {"status": done.status, "run": str(done.path.relative_to(directory.path))}
        with (
            conducted(run, lambda: f"{len(outcomes)} of {len(names)} members done") as hooks,
            backend or InProcess() as engine,
            stage(self.name or "Sweep", len(names), done=len(outcomes)) as progress,
        ):
            for outcome in engine.map(tasks):
                if isinstance(outcome, Failure):
                    outcomes[outcome.key] = {"status": "failed", "error": outcome.error}
                    directory.write_log(f"{outcome.key}.txt", outcome.traceback or outcome.error)
                else:
                    place = Path(outcome.run)
                    there = (
                        place.relative_to(directory.path) if place.is_relative_to(directory.path) else place
                    )
                    outcomes[outcome.key] = {"status": "complete", "run": str(there)}
                progress.note(f"{outcome.key} {outcomes[outcome.key]['status']}")
                progress.advance()
            rows = [
                {"member": name} | setting | outcomes.get(name, {"status": "missing"})
                for name, setting in zip(names, settings, strict=True)
            ]
            for row in rows:
                # A component in a column is shown as it is written, and the table stays plain.
                row |= {path: _cell(row[path]) for path in self.vary}
            directory.write_table("members", pd.DataFrame(rows))
            if isinstance(self.base, CriticalPointStudy):
                self._join(directory, rows)
            failures = sum(row["status"] not in ("complete", "stopped") for row in rows)
            reason = f"{failures} members failed" if failures else None
            closed(run, hooks, "failed" if failures else "complete", reason)
        return run

    def _join(self, directory: RunDirectory, rows: list[dict[str, Any]]) -> None:
        """Write the tables of all members' critical points as one each."""
        from landscape.composition.critical_points import joined, latex_of

        members = {}
        for row in rows:
            if row["status"] in ("complete", "stopped"):
                place = directory.path / row["run"]
                tables = RunStore(place.parent).open(place.name).tables()
                members[row["member"]] = ({path: row[path] for path in self.vary}, tables)
        for name, table in joined(members).items():
            latex = latex_of(table, self.name or "") if name == "summary" else None
            directory.write_table(name, table, latex=latex)


def _cell(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else _brief(value)


def _brief(value: Any) -> str:
    """Return a component as one would write it: without the fields that have their default values."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))}{',' if len(value) == 1 else ''})"
    if not attrs.has(type(value)):
        return repr(value)
    arguments = []
    for position, spec in enumerate(spec for spec in attrs.fields(type(value)) if spec.init):
        entry = getattr(value, spec.name)
        default = spec.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory(value) if default.takes_self else default.factory()
        if default is attrs.NOTHING or entry != default:
            first = position == 0 and default is attrs.NOTHING
            arguments.append(_brief(entry) if first else f"{spec.alias}={_brief(entry)}")
    return f"{type(value).__name__}({', '.join(arguments)})"
