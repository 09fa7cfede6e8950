"""A walk, step by step: the engine of every experiment, and a tool of its own."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.composition.probing import other_splits, require_landscape
from landscape.composition.trees import plain, structure
from landscape.errors import ConfigurationError, NonFiniteLossError, RunError
from landscape.interfaces import Walker
from landscape.randomness import torch_generator, whole_seed
from landscape.validators import is_whole

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape, Point, Population
    from landscape.objective.engine import EngineChoice

__all__ = ["Walk"]

_FORMAT = 1
_BEYOND_SEEDS = (
    "its data draws random numbers that no seed decides (from a generator of its own?), and differs each time it "
    "is read. landscape.fixed(...) draws such data once."
)


class Walk:
    """Points moving on a landscape under a walker, one update at a time.

    Parameters
    ----------
    landscape
        Where to walk.
    walker
        What moves the points.
    seed
        Data order, noise and probes each draw from a generator of their own derived from it.
    start
        Positions of shape (P,) or (K, P); the module's own parameters by default, for as many workers as the
        walker says. One position is given to every worker.
    splits
        Other data under the same weights, by name (``{"test": test_loader}``), or their landscapes, for probes that
        ask.
    engines
        Choices of an engine that another walk made and this one shall repeat (:attr:`engine_choices`); nothing
        else is chosen then. By default a walk on a landscape with ``engine="auto"`` chooses for itself.

    Examples
    --------
    >>> import torch, landscape as ls
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> module = torch.nn.Linear(1, 1)
    >>> landscape = ls.Landscape(module, "mse", (x, 3 * x))
    >>> walk = ls.Walk(landscape, ls.walkers.SGD(lr=0.5), seed=0)
    >>> for population in walk.steps(50):
    ...     if population.step == 25:
    ...         walk.set(lr=0.1)
    >>> bool(landscape.value(walk.positions[0]) < 1e-2)
    True
    """

    def __init__(
        self,
        landscape: Landscape,
        walker: Walker[Any],
        *,
        seed: int = 0,
        start: Tensor | None = None,
        splits: Mapping[str, Any] | None = None,
        engines: Iterable[EngineChoice] | None = None,
    ) -> None:
        from landscape.objective.engine import Engine

        if not isinstance(walker, Walker):
            raise ConfigurationError(
                f"walker={walker!r} is not a walker; give an instance of one, such as ls.walkers.SGD(lr=0.1)."
            )
        require_landscape(landscape, "Walk")
        self.landscape = landscape
        self.walker = walker
        self.seed = whole_seed(seed)
        self.splits = other_splits(landscape, splits)
        self.step = 0
        self._engine = Engine(landscape.engine, engines or (), watching=engines is None)
        # What updates are made on. Measurements keep to the landscape itself, whose engine no timing changes.
        self._ground = landscape._with_engine(self._engine)
        #: Every change of a hyper-parameter: ``{"step": ..., "values": {...}}``, oldest first.
        self.changes: list[dict[str, Any]] = []
        positions = _start_positions(landscape, walker, start)
        self.state = walker.start(landscape, positions, torch_generator(self.seed, "walker"))
        #: Where each worker and each labelled point was at step 0.
        self.initial: dict[str, Tensor] = {k: v.clone() for k, v in self._labelled_positions().items()}

    @property
    def positions(self) -> Tensor:
        """The workers' positions, shape (K, P)."""
        return self.walker.positions(self.state)

    @property
    def engine(self) -> str:
        """``"loop"`` or ``"traced"``: how gradients of several workers are computed, of the most part by now."""
        return self._engine.in_force

    @property
    def engine_choices(self) -> tuple[EngineChoice, ...]:
        """Which engine was chosen for which kind of call, and from which update on."""
        return self._engine.choices

    def settle_engine(self) -> None:
        """Choose now and for good, by the calls of one update whose result is thrown away.

        For a walk that must not change its engine on the way; kinds of call that do not occur in this update keep
        to the loop. Does nothing where the engine was asked for or settled before.
        """
        self._engine.settle(self.step, lambda: self.walker.step(self._ground, self.state))

    def follow_engines(self, choices: Iterable[EngineChoice]) -> None:
        """Use the engines that an earlier attempt at this walk chose, each from its step on."""
        self._engine.follow(choices)

    def _labelled_positions(self) -> dict[str, Tensor]:
        workers = {str(i): row for i, row in enumerate(self.positions)}
        return workers | dict(self.walker.labelled(self.state))

    def population(self, previous: Mapping[str, Point] | None = None) -> Population:
        """Return the points as they stand now, ready to be measured.

        Parameters
        ----------
        previous
            The points that were measured before, by label, for warm starts.
        """
        from landscape.objective import Population

        return Population(
            self.landscape,
            self.positions,
            step=self.step,
            labelled=dict(self.walker.labelled(self.state)),
            initial=self.initial,
            seed=self.seed,
            splits={name: split.data for name, split in self.splits.items()},
            previous=dict(previous or {}),
        )

    def steps(self, count: int) -> Iterator[Population]:
        """Make `count` updates, handing out the population before each of them.

        What the loop's body changes through :meth:`set` holds for the very update that follows.

        Raises
        ------
        landscape.errors.ConfigurationError
            For what is no number of updates.
        """
        if not is_whole(count) or count < 0:
            raise ConfigurationError(f"steps({count!r}): give a number of updates, a whole number from 0 on.")
        return self._steps(self.step + count)

    def _steps(self, end: int) -> Iterator[Population]:
        while self.step < end:
            yield self.population()
            self.advance()

    def advance(self) -> None:
        """Make one update.

        Raises
        ------
        landscape.errors.NonFiniteLossError
            If a worker's weights are no longer finite. The state stays as it was before the update.
        """
        import torch

        self._engine.begin(self.step)
        state = self.walker.step(self._ground, self.state)
        positions = self.walker.positions(state)
        if not _all_finite(positions):
            rows = torch.nonzero(~torch.isfinite(positions).all(dim=1)).flatten().tolist()
            in_force = ", ".join(f"{k} = {v}" for k, v in self.walker.hyperparameters(self.state).items())
            loss = [float(self.landscape.value(self.positions[row])) for row in rows]
            raise NonFiniteLossError(
                f"Update {self.step} took worker {', '.join(map(str, rows))} out of the finite numbers (loss before "
                f"it: {', '.join(f'{value:.6g}' for value in loss)}). A smaller step helps most often"
                f"{f' (now {in_force})' if in_force else ''}; else look for NaN in the data or in the loss itself."
            )
        self.state = state
        self.step += 1

    def set(self, **values: float | tuple[float, ...]) -> None:
        """Change hyper-parameters from the next update on; the change is recorded in :attr:`changes`.

        Parameters
        ----------
        **values
            New values by name; a tuple gives one value per worker.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a name or a value that the walker does not take.
        """
        record = {"step": self.step, "values": plain(values)}
        self.adjust(**values)
        self.changes.append(record)

    def adjust(self, **values: float | tuple[float, ...]) -> None:
        """Change hyper-parameters as :meth:`set` does, for whoever keeps the record elsewhere."""
        self.state = self.walker.adjust(self.state, **values)

    def relocate(self, positions: Tensor) -> None:
        """Move the workers to `positions`, shape (K, P), keeping everything else."""
        self.state = self.walker.relocate(self.state, positions)

    # -- on disk ------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return everything that is needed to go on, as containers of plain values, tensors and the state."""
        return {
            "step": self.step,
            "seed": self.seed,
            "changes": json.dumps(self.changes),
            "state": self.state,
            "initial": dict(self.initial),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what :meth:`snapshot` returned."""
        self.step = snapshot["step"]
        self.seed = snapshot["seed"]
        self.changes = json.loads(snapshot["changes"])
        self.state = snapshot["state"]
        self.initial = dict(snapshot["initial"])

    def save(self, path: str | Path) -> None:
        """Write the walk to a new directory; :meth:`load` continues it bit for bit.

        Data that draws random numbers which no seed decides, from a generator of its own, say, is no such data;
        saving says so with a warning. The order of the examples is always the walk's own and continues exactly.

        A walk of several workers that has not chosen its engine yet does so now, and for good: by the calls of
        one update, whose result is thrown away.

        Raises
        ------
        landscape.errors.RunError
            If `path` exists already or cannot be written.
        """
        from landscape.store import encode, write_state
        from landscape.store.files import path_of
        from landscape.store.layout import plain_layout

        path = path_of(path, "path")
        if not self.landscape.data.repeats:
            warnings.warn(f"{path} cannot be continued exactly: {_BEYOND_SEEDS}", UserWarning, stacklevel=2)
        self.settle_engine()
        tree, tensors = encode(self.snapshot())
        workers, size = self.positions.shape
        header = {
            "format": _FORMAT,
            "walker": plain(self.walker),
            "workers": workers,
            "size": size,
            "layout": plain_layout(self.landscape.layout, size),
            "dtype": str(self.landscape.dtype),
            "data": self.landscape.data.fingerprint(),
            "engine": self._engine.to_plain(),
        }
        write_state(path, header | {"walk": tree}, tensors)

    @classmethod
    def load(
        cls,
        path: str | Path,
        landscape: Landscape,
        *,
        splits: Mapping[str, Any] | None = None,
        other_data: bool = False,
        trust: bool = False,
    ) -> Walk:
        """Read a walk that :meth:`save` wrote, to go on over `landscape`.

        Parameters
        ----------
        path
            The directory.
        landscape
            Of the same parameters and dtype, on the same data.
        splits
            As when the walk was made.
        other_data
            Whether to go on although the data is not what it was.
        trust
            Whether the walker's class may be imported if it is not a registered component.

        Raises
        ------
        landscape.errors.RunError
            If the files are missing or damaged, or of another landscape.
        """
        from landscape.store import decode, read_state
        from landscape.store.files import path_of

        require_landscape(landscape, "Walk.load")
        header, tensors = read_state(path_of(path, "path"))
        _check_header(path, header, landscape, other_data)
        walker: Walker[Any] = structure(header["walker"], Walker, path=f"{path}: walker", trust=trust)
        # A fresh walk of the same shape says which classes the saved state may consist of.
        start = landscape.initial().expand(header["workers"], -1)
        walk = cls(landscape, walker, start=start, splits=splits)
        walk._engine.follow_plain(header["engine"])
        walk.restore(decode(header["walk"], tensors, walk.snapshot()))
        return walk


def _all_finite(positions: Tensor) -> bool:
    # A sum is finite only if all its terms are, and takes a tenth of the time; it may overflow though they are.
    return math.isfinite(positions.sum()) or bool(positions.isfinite().all())


def _check_header(
    path: str | Path, header: Mapping[str, Any], landscape: Landscape, other_data: bool
) -> None:
    """Raise unless a saved walk belongs on `landscape`.

    Raises
    ------
    landscape.errors.RunError
        Naming what differs.
    """
    from landscape.store.layout import plain_layout

    if header.get("size") != landscape.size:
        raise RunError(
            f"{path} was saved on a landscape of {header.get('size')} parameters; this one has {landscape.size}."
        )
    if header["layout"] != plain_layout(landscape.layout, landscape.size):
        names = ", ".join(entry["name"] for entry in header["layout"][:4])
        raise RunError(f"{path} was saved on parameters of other names or shapes: {names}, ...")
    if header["dtype"] != str(landscape.dtype):
        raise RunError(
            f"{path} was saved in {header['dtype']}; this landscape computes in {landscape.dtype}."
        )
    if not other_data and not landscape.data.repeats:
        raise RunError(
            f"{path} cannot be continued exactly: {_BEYOND_SEEDS} To go on all the same, pass other_data=True."
        )
    if header["data"] != landscape.data.fingerprint() and not other_data:
        raise RunError(
            f"{path} was saved on other data. To go on over this data all the same, pass other_data=True."
        )


def _start_positions(landscape: Landscape, walker: Walker[Any], start: Tensor | None) -> Tensor:
    if start is None:
        return landscape.initial().expand(walker.workers, -1).clone()
    landscape.layout._check_numbers(start)
    positions = start.detach().to(landscape.device, landscape.dtype)
    if positions.ndim == 1:
        positions = positions.expand(walker.workers, -1)
    if positions.ndim != 2 or positions.shape[1] != landscape.size:
        raise ConfigurationError(
            f"start has shape {tuple(start.shape)}; expected ({landscape.size},) or (workers, {landscape.size})."
        )
    return positions.clone()
