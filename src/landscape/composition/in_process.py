"""The backend that everybody has: this process."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

from attrs import frozen

from landscape.interfaces import Backend, Failure, Receipt, Task

__all__ = ["InProcess"]


@frozen
class InProcess(Backend):
    """Runs tasks here, one after another."""

    def map(self, tasks: Iterable[Task]) -> Iterator[Receipt | Failure]:
        """Run each task; an error becomes a :class:`~landscape.interfaces.Failure` and the next one is run."""
        from landscape.composition.shipping import carry_out_task

        for task in tasks:
            try:
                run = carry_out_task(task)
            except Exception as error:
                yield Failure(task.key, f"{type(error).__name__}: {error}", traceback.format_exc())
            else:
                yield Receipt(task.key, str(run.path))
