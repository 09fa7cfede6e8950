"""The hooks of landscape, and the two markers that go with them.

A plugin implements any of these functions in a module (or on an object), marks each with
:data:`landscape.hookimpl`, and names the module in an entry point of the group ``landscape``::

    [project.entry-points.landscape]
    lab_notebook = "lab_notebook.hooks"

An implementation may leave out parameters that it does not use. One that raises is reported once and
switched off for the rest of that run; it never ends the run. Hook wrappers are not supported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from landscape.plugins.entry import ComponentEntry

if TYPE_CHECKING:
    import pandas as pd

    from landscape.interfaces import Figure, Measurement
    from landscape.systems import PolynomialSystem

__all__ = [
    "PROJECT",
    "hookimpl",
    "hookspec",
    "landscape_bounds",
    "landscape_component",
    "landscape_components",
    "landscape_figures",
    "landscape_measured",
    "landscape_provenance",
    "landscape_run_finished",
    "landscape_run_started",
    "landscape_snapshot",
    "landscape_step",
    "landscape_tables",
]

PROJECT = "landscape"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# ---------------------------------------------------------------------------------------------------------
# Components. Most plugins need neither hook: an entry point per component is found without any code. They
# are for families of components that cannot be listed in a pyproject, such as every model of another
# library. A module that implements them is named in the group ``landscape.providers``; it is imported
# whenever components are listed, so it must itself import nothing heavy.
# ---------------------------------------------------------------------------------------------------------


@hookspec
def landscape_components(kind: str) -> Iterable[ComponentEntry]:
    """Return the components of `kind` that should be listed; the answers of all plugins are joined.

    Examples
    --------
    >>> import landscape as ls
    >>> from landscape.plugins import ComponentEntry
    >>> @ls.hookimpl
    ... def landscape_components(kind):
    ...     if kind == "models":
    ...         for name in ("resnet18", "resnet50"):
    ...             yield ComponentEntry(kind, name, "landscape-zoo", "1.0", f"landscape_zoo.{name}:Model")
    """
    raise NotImplementedError


@hookspec
def landscape_component(kind: str, name: str) -> Iterable[ComponentEntry]:
    """Return the components of `kind` called `name`, listed or not; the answers of all plugins are joined.

    Two answers from different distributions make the bare name ambiguous, and ``distribution:Name`` the
    way to say which is meant.

    Examples
    --------
    >>> import landscape as ls
    >>> from landscape.plugins import ComponentEntry
    >>> @ls.hookimpl
    ... def landscape_component(kind, name):
    ...     if kind == "models" and name.startswith("resnet"):
    ...         return [ComponentEntry(kind, name, "landscape-zoo", "1.0", f"landscape_zoo.{name}:Model")]
    ...     return []
    """
    raise NotImplementedError


# ---------------------------------------------------------------------------------------------------------
# The life of a run
# ---------------------------------------------------------------------------------------------------------


@hookspec
def landscape_run_started(run: Any) -> None:
    """Tell that `run` has its directory and is about to take its first step (or its next, when resumed).

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_run_started(run):
    ...     print(f"started: {run.path}")
    """


@hookspec
def landscape_step(run: Any, step: int) -> None:
    """Tell that update `step` of `run` was made. It is called for every step, so it should be quick.

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_step(step):
    ...     if step % 1000 == 0:
    ...         print(f"still alive at step {step}")
    """


@hookspec
def landscape_measured(run: Any, step: int, measurement: Measurement, worker: str) -> None:
    """Tell that a probe measured at the weights that `worker` had before update `step`.

    Examples
    --------
    >>> import math
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_measured(step, measurement):
    ...     for name, value in measurement.scalars.items():
    ...         if math.isnan(value):
    ...             print(f"step {step}: {name} is not known")
    """


@hookspec
def landscape_snapshot(run: Any, step: int, path: Path) -> None:
    """Tell that the weights of step `step` are complete on disk, in the file at `path`.

    Examples
    --------
    >>> import shutil
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_snapshot(path):
    ...     shutil.copy(path, "/mnt/backup")
    """


@hookspec
def landscape_run_finished(run: Any, error: BaseException | None) -> None:
    """Tell that `run` ended: by itself when `error` is None, else because of `error`.

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_run_finished(run, error):
    ...     print(f"{run.path}: {'done' if error is None else error}")
    """


@hookspec
def landscape_provenance(run: Any) -> Mapping[str, Any]:
    """Return facts about where `run` happens, as JSON values; stored under the name of the plugin.

    Examples
    --------
    >>> import os
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_provenance():
    ...     return {"job": os.environ.get("SLURM_JOB_ID")}
    """
    raise NotImplementedError


@hookspec
def landscape_figures(run: Any) -> Iterable[Figure]:
    """Return figures for the report of `run`; the report shows all of them in the order they ask for.

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_figures(run):
    ...     from matplotlib.figure import Figure as Canvas
    ...     canvas = Canvas()
    ...     canvas.subplots().plot(run.metrics["step"], run.metrics["loss"] ** 0.5)
    ...     yield ls.Figure("root-loss", "Root of the loss", "Square root of the training loss.", canvas)
    """
    raise NotImplementedError


@hookspec
def landscape_tables(run: Any) -> Mapping[str, pd.DataFrame]:
    """Return tables about `run`, by name; asked once, when it ends well, before its files are closed.

    They are stored among the run's ``tables/``, stand in its report, and ``landscape run`` prints them. Names that
    the run has already are refused. An experiment is asked when its walk is over; a sweep or a study when all of its
    parts are, whose own tables can then be read from ``run.stages``.

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_tables(run):
    ...     if len(run.metrics):
    ...         return {"extremes": run.metrics.describe().loc[["min", "max"]]}
    ...     return {}
    """
    raise NotImplementedError


@hookspec
def landscape_bounds(run: Any, system: PolynomialSystem) -> Mapping[str, float]:
    """Return bounds on the number of isolated solutions of `system`, by name, or nothing.

    Asked once in a critical-point study. `system` is a generic member: it has every monomial that a sample has,
    with other coefficients. The bounds become columns of the summary.

    Examples
    --------
    >>> import landscape as ls
    >>> @ls.hookimpl
    ... def landscape_bounds(system):
    ...     if all(degree == 1 for degree in system.degrees):
    ...         return {"linear": 1.0}
    ...     return {}
    """
    raise NotImplementedError
