"""One recipe with some fields varied; every member is an independent shard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, field, frozen
from attrs.validators import in_

from landscape.composition.configuration import from_tree, replace_at, to_tree
from landscape.composition.critical_point_study import CriticalPointStudy
from landscape.composition.experiment import Experiment
from landscape.composition.progress import stage
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.composition.running import default_store
from landscape.composition.shipping import task_of
from landscape.errors import ConfigurationError, RunError
from landscape.interfaces import Backend, Failure, Task
from landscape.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sweep"]


def _lists(vary: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    return {path: tuple(values) for path, values in vary.items()}


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
    vary: Mapping[str, tuple[Any, ...]] = field(converter=_lists)
    mode: Literal["product", "zip"] = field(default="product", validator=in_(("product", "zip")))
    name: str | None = None

    def __attrs_post_init__(self) -> None:
        lengths = {len(values) for values in self.vary.values()}
        if not self.vary or 0 in lengths:
            raise ConfigurationError("vary: give at least one field and one value for each.")
        if self.mode == "zip" and len(lengths) > 1:
            raise ConfigurationError(
                f"vary: with mode='zip' all fields have equally many values; got {sorted(lengths)}."
            )

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
        ((key, tree),) = to_tree(self.base).items()
        members = []
        for setting in self.settings():
            varied = tree
            for path, value in setting.items():
                varied = replace_at(varied, path, value)
            members.append(from_tree({key: varied}, trust=True))
        return members

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | None = None,
        *,
        run_id: str | None = None,
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
        """
        self.members()  # refuses a bad path before anything is written
        directory = RunStore(default_store(store)).create(
            to_tree(self), gather(self), kind="sweep", run_id=run_id
        )
        return self._carry_out(Run(directory, recipe=self), backend)

    def resume(self, run: Run, backend: Backend | None = None) -> Run:
        """Run the members that `run` is missing."""
        return self._carry_out(Run(run.directory.reopen(), recipe=self), backend)

    def _carry_out(self, run: Run, backend: Backend | None) -> Run:
        import pandas as pd

        from landscape.composition.in_process import InProcess

        directory = run.directory
        tasks: dict[str, Task] = {}
        outcomes: dict[str, tuple[str, str]] = {}
        settings = self.settings()
        names = [f"member-{index:04d}" for index in range(len(settings))]
        for name, member in zip(names, self.members(), strict=True):
            place = directory.path / "members" / name
            task = evolve(task_of(member, place, trust=True), key=name)
            done = _complete_run(place)
            if done is None:
                tasks[name] = task
            else:
                outcomes[name] = ("complete", done)
        try:
            with (
                backend or InProcess() as engine,
                stage(self.name or "Sweep", len(names), done=len(outcomes)) as progress,
            ):
                for outcome in engine.map(list(tasks.values())):
                    failed = isinstance(outcome, Failure)
                    outcomes[outcome.key] = (
                        ("failed", outcome.error)
                        if isinstance(outcome, Failure)
                        else ("complete", outcome.run)
                    )
                    progress.note(f"{outcome.key} {'failed' if failed else 'done'}")
                    progress.advance()
        except KeyboardInterrupt:
            directory.close("interrupted", f"{len(outcomes)} of {len(names)} members done")
            raise
        frame: pd.DataFrame = pd.DataFrame(
            [
                {"member": name}
                | setting
                | dict(zip(("status", "run"), outcomes.get(name, ("missing", "")), strict=True))
                for name, setting in zip(names, settings, strict=True)
            ]
        )
        directory.write_table("members", frame)
        failures = int((frame["status"] != "complete").sum())
        directory.close(
            "failed" if failures else "complete", f"{failures} members failed" if failures else None
        )
        return run


def _complete_run(place: Any) -> str | None:
    """Return the path of a complete run in the store `place`, if there is one."""
    if not place.is_dir():
        return None
    listed = RunStore(place).list()
    complete = listed[listed["status"] == "complete"] if len(listed) else listed
    return str(place / complete["id"].iloc[0]) if len(complete) else None


def open_member(run: Run, name: str) -> Run:
    """Return the run of a sweep's member.

    Raises
    ------
    landscape.errors.RunError
        If it has none.
    """
    found = _complete_run(run.path / "members" / name)
    if found is None:
        raise RunError(f"{run.path} has no complete run of {name!r}.")
    from landscape.composition.run import open_run

    return open_run(found, trust=True)
