"""Recipes as tasks for a backend."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from landscape import plugins
from landscape.composition.conduct import default_store
from landscape.composition.configuration import from_tree, to_tree
from landscape.composition.run import Run, open_run
from landscape.errors import ConfigurationError, RunError
from landscape.interfaces import Backend, Failure, Task
from landscape.store import RunStore

__all__ = ["as_backend", "carry_out_task", "finished_run", "run_on", "task_of"]


def task_of(value: Any, store: str | os.PathLike[str], *, trust: bool = False) -> Task:
    """Return the task of running `value` into `store`; equal recipes have equal keys."""
    tree = to_tree(value)
    key = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
    return Task(key=key, configuration=tree, store=str(store), trust=trust)


def finished_run(store: str | os.PathLike[str]) -> Run | None:
    """Return the newest run in `store` that ended well, None where there is none."""
    return _newest(store, ("complete", "stopped"))


def _newest(store: str | os.PathLike[str], statuses: tuple[str, ...]) -> Run | None:
    runs = RunStore(Path(store))
    found = [runs.open(name) for name in runs.ids()]
    found = [run for run in found if run.status in statuses]
    if not found:
        return None
    return Run(max(found, key=lambda run: (run.path / "config.json").stat().st_mtime_ns), trust=True)


def carry_out_task(task: Task) -> Run:
    """Run the recipe of a task into its store; go on with what is there of it already.

    For backends: a task that is sent twice, or again after its worker died, costs nothing twice.
    """
    there = _newest(task.store, ("complete", "stopped")) or _newest(
        task.store, ("interrupted", "failed", "crashed")
    )
    if there is not None and there.configuration == task.configuration:
        return there.resume()
    return from_tree(task.configuration, trust=task.trust).run(store=task.store)  # type: ignore[no-any-return]


def as_backend(backend: Any) -> Backend:
    """Return the backend that is given, or that a name or a class stands for, with its defaults.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything else, naming it.
    """
    given = backend
    if isinstance(backend, str):
        backend = plugins.get("backends", backend)
    if isinstance(backend, type) and issubclass(backend, Backend):
        try:
            backend = backend()
        except TypeError as error:
            raise ConfigurationError(f"backend={given!r} needs to be told more: {error}.") from error
    if not isinstance(backend, Backend):
        raise ConfigurationError(
            f"backend={given!r} is no backend; give one, such as landscape.backends.InProcess(), or its name."
        )
    return backend


def run_on(backend: Backend | str, value: Any, store: str | os.PathLike[str] | None) -> Run:
    """Run one recipe on a backend and wait for it.

    Raises
    ------
    landscape.errors.RunError
        With the error of the task, if it failed.
    """
    backend = as_backend(backend)
    with backend:
        for outcome in backend.map([task_of(value, default_store(store))]):
            if isinstance(outcome, Failure):
                raise RunError(
                    f"The task {outcome.key} failed: {outcome.error}\n{outcome.traceback}".rstrip()
                )
            return open_run(outcome.run)
    raise RunError(f"{type(backend).__name__} gave no outcome for its task.")
