"""Recipes as tasks for a backend."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from landscape.composition.configuration import to_tree
from landscape.composition.run import Run, open_run
from landscape.errors import RunError
from landscape.interfaces import Backend, Failure, Task

__all__ = ["run_on", "task_of"]


def task_of(value: Any, store: str | os.PathLike[str], *, trust: bool = False) -> Task:
    """Return the task of running `value` into `store`; equal recipes have equal keys."""
    tree = to_tree(value)
    key = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
    return Task(key=key, configuration=tree, store=str(store), trust=trust)


def run_on(backend: Backend, value: Any, store: str | os.PathLike[str] | None) -> Run:
    """Run one recipe on a backend and wait for it.

    Raises
    ------
    landscape.errors.RunError
        With the error of the task, if it failed.
    """
    from landscape.composition.running import default_store

    with backend:
        for outcome in backend.map([task_of(value, default_store(store))]):
            if isinstance(outcome, Failure):
                raise RunError(
                    f"The task {outcome.key} failed: {outcome.error}\n{outcome.traceback}".rstrip()
                )
            return open_run(outcome.run)
    raise RunError(f"{type(backend).__name__} gave no outcome for its task.")
