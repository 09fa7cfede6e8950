"""What every kind of run has in common: how it begins, and how it ends whatever happens."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from landscape.composition.configuration import to_tree
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.errors import RunError
from landscape.plugins import RunHooks
from landscape.store import RunStore
from landscape.store.files import path_of

__all__ = ["begin", "beyond_seeds", "closed", "conducted", "default_store", "torch_threads"]


def default_store(store: str | os.PathLike[str] | None) -> Path:
    """Return the directory of runs: the one given, else ``LANDSCAPE_STORE``, else ``runs``.

    Raises
    ------
    landscape.errors.RunError
        For what is no path.
    """
    return path_of(store if store is not None else os.environ.get("LANDSCAPE_STORE") or "runs", "store")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads while the context lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def begin(
    recipe: Any,
    kind: str,
    store: str | os.PathLike[str] | None,
    run_id: str | None,
    *,
    space: int = 0,
    facts: Mapping[str, Any] | None = None,
    landscapes: Mapping[str, Any] | None = None,
    **provenance: Any,
) -> Run:
    """Make the run of a recipe: gather its provenance, say what stands in the way of replicating it, create.

    Parameters
    ----------
    recipe
        An experiment, a critical-point study, a sweep or a study.
    kind, store, run_id
        See :meth:`landscape.RunStore.create`.
    space
        Bytes that the run will need.
    facts
        Further entries of the provenance.
    landscapes
        Landscapes that were built already.
    **provenance
        For :func:`~landscape.composition.provenance.gather`.

    Raises
    ------
    landscape.errors.RunError
        If the run exists, the store cannot be written, or the disk is too small. Nothing is left behind.
    """
    gathered = gather(recipe, **provenance) | dict(facts or {})
    runs = RunStore(default_store(store))
    runs.ensure_space(space)
    announce(gathered.get("obstacles", ()))
    directory = runs.create(to_tree(recipe), gathered, kind=kind, run_id=run_id)
    return Run(directory, landscapes=landscapes, recipe=recipe)


def announce(obstacles: Iterable[str]) -> None:
    """Warn of what stands in the way of replicating a run."""
    for obstacle in obstacles:
        warnings.warn(
            f"This run cannot be replicated from its own files: {obstacle}", UserWarning, stacklevel=5
        )


def beyond_seeds(landscapes: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every split whose data no seed decides, for the obstacles of a run."""
    return [
        f"The {name} data draws random numbers that no seed decides (from a generator of its own?): what is read of "
        "it differs each time, so the run can be neither resumed nor replicated exactly. landscape.fixed(...) draws "
        "such data once."
        for name, landscape in landscapes.items()
        if not landscape.data.repeats
    ]


def reopened(run: Run, recipe: Any, **provenance: Any) -> Run:
    """Return `run` open for writing again, with the provenance of the new attempt noted.

    Raises
    ------
    landscape.errors.RunError
        If another process is at work on it.
    """
    directory = run.directory.reopen()
    try:
        directory.note_attempt(gather(recipe, **provenance))
    except BaseException:
        directory.close("interrupted", "it could not be resumed")
        raise
    return Run(directory, landscapes=run.built_landscapes, recipe=recipe)


@contextmanager
def conducted(run: Run, where: Callable[[], str]) -> Iterator[RunHooks]:
    """Carry a run: tell the plugins, and close it as interrupted or failed if the body raises.

    The body closes the run itself when it ends well.

    Parameters
    ----------
    run
        A run open for writing.
    where
        Says how far the work has come, for the record of an interruption.
    """
    directory = run.directory
    hooks = RunHooks(run)
    error: BaseException | None = None
    try:
        hooks.started()
        extra = hooks.provenance()
        if extra:
            directory.add_provenance(extra)
        yield hooks
    except KeyboardInterrupt as interrupt:
        error = interrupt
        directory.close("interrupted", where())
        interrupt.add_note(f"`landscape resume {shlex.quote(str(run.path))}` goes on.")
        raise
    except BaseException as failure:
        error = failure
        directory.close("failed", f"{type(failure).__name__}: {failure}")
        raise
    finally:
        hooks.finished(error)


def closed(
    run: Run, hooks: RunHooks, status: Literal["complete", "stopped", "failed"], reason: str | None = None
) -> None:
    """Close a run that ended by itself, with the tables that plugins make of it.

    Parameters
    ----------
    run
        A run open for writing, all else of it recorded.
    hooks
        Its hooks.
    status, reason
        How it ended.
    """
    directory = run.directory
    if not directory.in_place:
        directory.close(status, reason)  # says what has become of it
        return
    facts = run.provenance.get("from_plugins", {})
    # A run that is closed for the second time, being resumed, has its plugins' tables made anew.
    taken = set(run.tables) - {name for said in facts.values() for name in said.get("tables", ())}

    def write(name: str, table: Any) -> None:
        if name in taken:
            raise ValueError(f"it returned a table {name!r}, which the run has already")
        directory.write_table(name, table)
        taken.add(name)

    made = {
        plugin: dict(facts.get(plugin, {})) | {"tables": names}
        for plugin, names in hooks.tables(write).items()
    }
    if made:
        directory.add_provenance(made)
    directory.close(status, reason)


def refuse_unless_same_data(run: Run, fingerprints: Mapping[str, str], doing: str) -> None:
    """Raise unless the data is what the run recorded.

    Raises
    ------
    landscape.errors.RunError
        Naming the split that is gone or differs.
    """
    for name, fingerprint in run.provenance.get("data", {}).items():
        if name not in fingerprints:
            raise RunError(f"{run.path}: the data no longer has a split {name!r}; {doing} needs it.")
        if fingerprints[name] != fingerprint:
            raise RunError(
                f"{run.path}: the {name} data is no longer what the run was started on; {doing} would mix two data "
                "sets. Bring the old data back, or start a new run."
            )
