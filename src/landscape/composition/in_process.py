"""The backend that everybody has: this process."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from landscape.composition.run import Run
from landscape.interfaces import Backend, Failure, Receipt, Task

__all__ = ["InProcess", "Replication"]


@frozen
class InProcess(Backend):
    """Runs tasks here, one after another."""

    def map(self, tasks: Iterable[Task]) -> Iterator[Receipt | Failure]:
        """Run each task; an error becomes a :class:`~landscape.interfaces.Failure` and the next one is run."""
        for task in tasks:
            try:
                run = self._run(task)
            except Exception as error:
                yield Failure(task.key, f"{type(error).__name__}: {error}", traceback.format_exc())
            else:
                yield Receipt(task.key, str(run.path))

    def _run(self, task: Task) -> Run:
        from landscape.composition.shipping import carry_out_task

        return carry_out_task(task)


@frozen
class Replication(InProcess):
    """Runs the tasks of a sweep here, each as the member of the same name was run before.

    Attributes
    ----------
    sweep
        Directory of the sweep's earlier run. Members that did not end well there are run from their recipe.
    """

    sweep: str

    def _run(self, task: Task) -> Run:
        from landscape.composition.shipping import finished_run

        model = finished_run(Path(self.sweep) / "members" / task.key)
        return super()._run(task) if model is None else model.replicate(task.store)
