"""Measuring at given points: weights, modules, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.composition.checkpoints import placed, read_checkpoint
from landscape.composition.every import schedule_probes
from landscape.composition.probing import Prober, other_splits, require_landscape, require_splits, rows_of
from landscape.composition.progress import stage
from landscape.errors import ConfigurationError
from landscape.randomness import whole_seed

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from landscape.composition.run import Run
    from landscape.objective import Landscape

__all__ = ["MeasuringInterrupted", "measure", "measure_run"]


class MeasuringInterrupted(KeyboardInterrupt):
    """Ctrl-C while many points were measured, with what had been found by then.

    Attributes
    ----------
    table
        The rows of the points that were measured; empty if there are none.
    missing
        Names of the points that were not, in their order.
    """

    def __init__(self, table: pd.DataFrame, missing: Sequence[str]) -> None:
        super().__init__()
        self.table = table
        self.missing = tuple(missing)


@contextmanager
def _keeping(rows: list[dict[str, Any]], left: list[str]) -> Iterator[None]:
    """Give an interruption the rows that there are, and the names of the points that are left."""
    import pandas as pd

    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise MeasuringInterrupted(pd.DataFrame(rows), left) from interrupt


def measure(
    landscape: Landscape,
    probes: Iterable[Any],
    at: Any = None,
    *,
    splits: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure probes at one or many points of a landscape.

    Parameters
    ----------
    landscape
        The loss.
    probes
        Probes, or their names.
    at
        Where: a vector of shape (P,), a state dictionary, a module of the same shapes, the path of a
        checkpoint (``torch.save`` or safetensors), or a list of any of these, in order; rows of a matrix count
        as a list. By default the module's parameters as they are.
    splits
        Other data for probes that ask for it, such as ``{"test": test_loader}``.
    seed
        Of the probes' own generators.

    Returns
    -------
    pandas.DataFrame
        A row per point with the columns ``step`` (its place in the list), ``worker``, ``at`` (the path, or
        the place in the list) and one per scalar.

    Raises
    ------
    landscape.errors.ConfigurationError
        For no probes, what is no landscape, points that are none, and splits that were not given.
    landscape.errors.DataError
        For a checkpoint that cannot be read or does not fit.
    KeyboardInterrupt
        For Ctrl-C; its ``table`` holds the rows of the points measured by then, its ``missing`` names the others.

    Examples
    --------
    >>> import torch, landscape as ls
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> landscape = ls.Landscape(torch.nn.Linear(1, 1, bias=False), "mse", (x, 3 * x))
    >>> table = ls.measure(landscape, ["Loss"], at=[torch.tensor([3.0]), torch.tensor([2.0])])
    >>> table["loss"].round(3).tolist()
    [0.0, 0.355]
    """
    import pandas as pd

    from landscape.objective import Population

    require_landscape(landscape, "measure")
    seed = whole_seed(seed)
    scheduled = _scheduled(probes)
    others = other_splits(landscape, splits)
    require_splits(scheduled, {"train": None, landscape.split: None, **others})
    places = _places(at)
    # Every file is read once before any work starts, so that a bad one costs nothing.
    for place in places:
        if isinstance(place, str | os.PathLike):
            _resolve(landscape, place)
    prober = Prober(scheduled, 1)
    rows: list[dict[str, Any]] = []
    first: Tensor | None = None
    left = [str(place) if isinstance(place, str | os.PathLike) else str(i) for i, place in enumerate(places)]
    with _keeping(rows, left), stage("Measuring", len(places)) as progress:
        for index, place in enumerate(places):
            here, theta = _resolve(landscape, place)
            first = theta if first is None else first
            named = {"train": here} | {name: here.on(other.data) for name, other in others.items()}
            population = Population(
                here,
                theta[None],
                step=index,
                initial={"0": first},
                seed=seed,
                splits={name: split.data for name, split in named.items()},
                previous=prober.previous,
            )
            if index == 0:
                prober.check(population)
            found = prober.measure(population, scheduled, progress.note, tolerant=True)
            label = str(place) if isinstance(place, str | os.PathLike) else index
            rows += [{"at": label} | row for row in rows_of(found)]
            del left[0]
            progress.advance()
    return pd.DataFrame(rows)


def measure_run(
    run: Run,
    probes: Iterable[Any],
    *,
    steps: Iterable[int] | None = None,
    restrict: str | Iterable[str] | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """Measure probes at the snapshots of a run; see :meth:`landscape.Run.measure`."""
    import pandas as pd
    import torch

    from landscape.objective import Population

    scheduled = _scheduled(probes)
    _require_weights(run)
    snapshots = run.directory.snapshots()
    if steps is not None:
        wanted = list(steps)
        snapshots = tuple(snapshot for snapshot in snapshots if snapshot.step in wanted)
        missing = sorted(set(wanted) - {snapshot.step for snapshot in snapshots})
        if missing:
            there = ", ".join(str(snapshot.step) for snapshot in run.directory.snapshots()) or "none"
            raise ConfigurationError(
                f"{run.path} has no snapshot of step {missing[0]}; it has {there}. Experiment(snapshots=n) records "
                "the weights every n steps."
            )
    if not snapshots:
        raise ConfigurationError(
            f"{run.path} has no snapshots to measure at; Experiment(snapshots=n) records the weights every n steps."
        )
    splits = run.splits()
    whole = splits["train"]
    if restrict is not None and snapshots[0].labels != ("0",):
        raise ConfigurationError(
            f"restrict={restrict!r}: the weights that stay differ between {', '.join(snapshots[0].labels)} of "
            f"{run.path}; measure at one of them: ls.measure(landscape.restrict(...), probes, at=[...])."
        )
    if seed is None:
        recorded = run.kind == "recorder"
        seed = int(run.configuration["recorder"]["seed"]) if recorded else run.experiment.seed
    seed = whole_seed(seed)
    prober = Prober(scheduled, 1)
    rows: list[dict[str, Any]] = []
    initial: dict[str, Tensor] = {}
    left = [f"step {snapshot.step}" for snapshot in snapshots]
    with _keeping(rows, left), stage("Measuring", len(snapshots)) as progress:
        for snapshot in snapshots:
            buffers = snapshot.buffers()
            if restrict is None and whole.layout == whole.full_layout:
                here = whole.with_buffers(buffers) if buffers else whole
                points = snapshot.read()
            else:
                state = whole.layout.state_dict(snapshot.weights("0")) | snapshot.rest() | buffers
                here, theta = placed(whole if restrict is None else whole.restrict(restrict), state)
                points = {"0": theta}
            points = {label: theta.to(here.device, here.dtype) for label, theta in points.items()}
            initial = initial or points
            workers = [label for label in points if label.isdecimal()]
            population = Population(
                here,
                torch.stack([points[label] for label in workers]),
                step=snapshot.step,
                labelled={label: theta for label, theta in points.items() if label not in workers},
                initial=initial,
                seed=seed,
                splits={name: split.data for name, split in splits.items()},
                previous=prober.previous,
            )
            if not rows:
                prober.check(population)
            rows += rows_of(prober.measure(population, scheduled, progress.note, tolerant=True))
            del left[0]
            progress.advance()
    return pd.DataFrame(rows)


def _require_weights(run: Run) -> None:
    """Refuse a run that has no weights of its own, or no landscape.

    Raises
    ------
    landscape.errors.ConfigurationError
        Naming what can be measured in its place.
    """
    if run.kind == "recorder" and run.built_landscapes is None:
        raise ConfigurationError(
            f"{run.path} was recorded inside a program of its own, which alone has the module and the data. Measure "
            "there, with ls.measure(landscape, probes, at=[...]) and the files in its folder weights; or say with "
            "`landscape probe FILES --experiment FILE-or-RUN` whose model, data and loss make the landscape."
        )
    if run.kind in ("sweep", "study"):
        parts = ", ".join(str(part.path) for part in run.stages.values())
        raise ConfigurationError(
            f"{run.path} is a {run.kind}, whose weights are recorded in the runs of its parts: {parts or 'none yet'}. "
            "Measure at one of these."
        )


def _scheduled(probes: Iterable[Any]) -> Any:
    scheduled = schedule_probes(probes)
    if not scheduled:
        raise ConfigurationError(
            f"probes={probes!r}: there is nothing to measure; give probes, or their names."
        )
    return scheduled


def _places(at: Any) -> list[Any]:
    import torch

    if isinstance(at, torch.Tensor) and at.ndim == 2:
        return list(at)
    if isinstance(at, Iterator):
        at = list(at)
    if isinstance(at, np.ndarray):
        return _places(torch.from_numpy(at))
    if isinstance(at, list | tuple):
        if not at:
            raise ConfigurationError(
                "at is an empty list: there is nowhere to measure. Did the pattern match no file?"
            )
        return list(at)
    return [at]


def _resolve(landscape: Landscape, place: Any) -> tuple[Landscape, Tensor]:
    """Return the landscape (weights that stay, and buffers, taken from `place`) and the point on it."""
    import torch

    if place is None:
        return landscape, landscape.initial()
    if isinstance(place, torch.Tensor):
        landscape.layout._check(place)
        if place.ndim != 1:
            raise ConfigurationError(
                f"at: a vector of shape {tuple(place.shape)} was given; this landscape has {landscape.size} parameters."
            )
        return landscape, place.to(landscape.device, landscape.dtype)
    if isinstance(place, torch.nn.Module):
        place = place.state_dict()
    if isinstance(place, str | os.PathLike):
        place = read_checkpoint(Path(place))
    if isinstance(place, Mapping):
        return placed(landscape, place)
    raise ConfigurationError(
        f"at: {type(place).__name__} is none of a vector, a state dictionary, a module, and the path of a checkpoint."
    )
