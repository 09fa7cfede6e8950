"""A study: several recipes, run one after another, in one report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from attrs.validators import matches_re

from landscape.composition.configuration import to_tree
from landscape.composition.critical_point_study import CriticalPointStudy
from landscape.composition.experiment import Experiment
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.composition.running import default_store
from landscape.composition.sweep import Sweep
from landscape.errors import ConfigurationError
from landscape.plugins import RunHooks
from landscape.store import RunStore

if TYPE_CHECKING:
    from landscape.interfaces import Backend

__all__ = ["Stage", "Study"]


def _stages(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    return tuple(stages)


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

    name: str = field(validator=matches_re(r"[A-Za-z0-9][A-Za-z0-9_-]*"))
    recipe: Experiment | CriticalPointStudy | Sweep
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
    name: str | None = None
    text: str = ""

    def __attrs_post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ConfigurationError("stages: give at least one.")
        if repeated:
            raise ConfigurationError(f"stages: names must be unique; {', '.join(repeated)} occurs twice.")

    def run(
        self,
        store: str | os.PathLike[str] | None = None,
        backend: Backend | None = None,
        *,
        run_id: str | None = None,
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
        """
        directory = RunStore(default_store(store)).create(
            to_tree(self), gather(self), kind="study", run_id=run_id
        )
        return self._carry_out(Run(directory, recipe=self), backend)

    def resume(self, run: Run, backend: Backend | None = None) -> Run:
        """Finish the stages that are not complete."""
        return self._carry_out(Run(run.directory.reopen(), recipe=self), backend)

    def _carry_out(self, run: Run, backend: Backend | None) -> Run:
        import pandas as pd

        directory = run.directory
        hooks = RunHooks(run)
        hooks.started()
        error: BaseException | None = None
        rows: list[dict[str, Any]] = []
        try:
            for stage in self.stages:
                store = RunStore(directory.path / "stages")
                if store.contains(stage.name):
                    done = Run(store.open(stage.name), recipe=stage.recipe).resume()
                elif isinstance(stage.recipe, Sweep):
                    done = stage.recipe.run(store.root, backend, run_id=stage.name)
                else:
                    done = stage.recipe.run(store.root, run_id=stage.name)
                rows.append(
                    {
                        "stage": stage.name,
                        "kind": done.kind,
                        "status": done.status,
                        "run": str(done.path.relative_to(directory.path)),
                    }
                )
                directory.write_table("stages", pd.DataFrame(rows))
            directory.close("complete")
        except KeyboardInterrupt as interrupt:
            error = interrupt
            directory.close("interrupted", f"{len(rows)} of {len(self.stages)} stages done")
            raise
        except BaseException as failure:
            error = failure
            directory.close("failed", f"{type(failure).__name__}: {failure}")
            raise
        finally:
            hooks.finished(error)
        return run
