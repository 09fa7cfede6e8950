"""A study: several recipes, run one after another, in one report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.composition.conduct import begin, closed, conducted, reopened
from landscape.composition.critical_point_study import CriticalPointStudy
from landscape.composition.experiment import Experiment
from landscape.composition.run import Run
from landscape.composition.shipping import as_backend
from landscape.composition.sweep import Sweep
from landscape.errors import ConfigurationError
from landscape.store import RunStore
from landscape.validators import of_type, optional, refuse

if TYPE_CHECKING:
    from landscape.interfaces import Backend

__all__ = ["Stage", "Study"]


def _stages(stages: Any) -> tuple[Stage, ...]:
    return tuple(stages) if isinstance(stages, Iterable) else (stages,)


def _name(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        refuse(instance, attribute, value, "use letters, digits, '-' and '_', a letter or digit first.")


def _recipe(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Experiment | CriticalPointStudy | Sweep):
        refuse(instance, attribute, value, "give an experiment, a critical-point study or a sweep.")


@frozen
class Stage:
    """One recipe of a study.

    Attributes
    ----------
    name
        Name of its run's directory: letters, digits, ``-`` and ``_``.
    recipe
        An experiment, a critical-point study or a sweep.
    title
        Heading in the report; the name by default.
    text
        What the reader of the report is told about it.
    """

    name: str = field(validator=_name)
    recipe: Experiment | CriticalPointStudy | Sweep = field(validator=_recipe)
    title: str | None = None
    text: str = ""


@frozen
class Study:
    """Stages that are run one after another into one run, with one report.

    Attributes
    ----------
    stages
        The recipes; names are unique.
    name
        Heading of the report.
    text
        What the reader of the report is told first.
    """

    stages: tuple[Stage, ...] = field(converter=_stages)
    name: str | None = field(default=None, validator=optional(of_type(str)))
    text: str = ""

    def __attrs_post_init__(self) -> None:
        given: tuple[Any, ...] = self.stages
        strangers = [stage for stage in given if not isinstance(stage, Stage)]
        if strangers:
            raise ConfigurationError(f"stages: {strangers[0]!r} is not a Stage; write Stage(name, recipe).")
        names = [stage.name for stage in self.stages]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ConfigurationError("stages: give at least one.")
        if repeated:
            raise ConfigurationError(f"stages: names must be unique; {', '.join(repeated)} occurs twice.")

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | str | None = None,
        *,
        run_id: str | None = None,
        like: Run | None = None,
    ) -> Run:
        """Run every stage.

        Parameters
        ----------
        store
            Directory of runs; the environment's ``LANDSCAPE_STORE``, or ``runs``, by default.
        backend
            Where sweeps run their members; everything else runs in this process.
        run_id
            Name of the study's directory; made from the time by default.
        like
            An earlier run of this study whose stages are replicated.
        """
        facts = {} if like is None else {"replicates": like.id}
        backend = None if backend is None else as_backend(backend)
        return self._carry_out(begin(self, "study", store, run_id, facts=facts), backend, like)

    def resume(self, run: Run, backend: Backend | str | None = None) -> Run:
        """Finish the stages that are not complete."""
        backend = None if backend is None else as_backend(backend)
        return self._carry_out(reopened(run, self), backend)

    def _carry_out(self, run: Run, backend: Backend | None, like: Run | None = None) -> Run:
        import pandas as pd

        directory = run.directory
        rows: list[dict[str, Any]] = []
        models = {} if like is None else like.stages
        with conducted(run, lambda: f"{len(rows)} of {len(self.stages)} stages done") as hooks:
            for stage in self.stages:
                store = RunStore(directory.path / "stages")
                options: dict[str, Any] = {"backend": backend} if isinstance(stage.recipe, Sweep) else {}
                if store.contains(stage.name):
                    done = Run(store.open(stage.name), recipe=stage.recipe).resume(**options)
                elif stage.name in models:
                    done = models[stage.name].replicate(store.root, run_id=stage.name)
                else:
                    done = stage.recipe.run(store.root, run_id=stage.name, **options)
                place = str(done.path.relative_to(directory.path))
                rows.append({"stage": stage.name, "kind": done.kind, "status": done.status, "run": place})
                directory.write_table("stages", pd.DataFrame(rows))
            bad = [row["stage"] for row in rows if row["status"] not in ("complete", "stopped")]
            closed(
                run,
                hooks,
                "failed" if bad else "complete",
                f"not complete: {', '.join(bad)}" if bad else None,
            )
        return run
