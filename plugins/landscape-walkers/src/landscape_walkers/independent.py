"""Workers that walk side by side: what all walkers of single points have in common.

A walker of this kind is its update equation. Data orders, noise, hyper-parameters that differ from worker to
worker, workers that rest, and the state that goes to disk are looked after here, in one place.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs import Factory, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape.randomness import derive_seed, torch_generator
from landscape.validators import at_least
from landscape_walkers._values import (
    PerWorker,
    Range,
    check_names,
    check_positions,
    given,
    moving_rows,
    shared,
    spread,
)

if TYPE_CHECKING:
    import torch
    from attrs import Attribute
    from torch import Tensor

    from landscape.objective import BatchStreamState, Landscape, PerRow

__all__ = [
    "FirstOrder",
    "Independent",
    "Team",
    "Worker",
    "WorkersState",
    "exit_steps",
    "has_a_rule",
    "number_of_workers",
]

#: What one worker keeps from update to update, by name; tensors in it are replaced, never changed.
Memory = dict[str, Any]


@frozen(eq=False)
class WorkersState:
    """Where workers stand that walk side by side.

    Attributes
    ----------
    positions
        Shape (K, P).
    updates
        How many updates each worker has made.
    streams
        For each worker its place in its data order; empty for full batches.
    seed
        From which the workers' data orders and noise derive.
    values
        The hyper-parameters in force, one number per worker.
    memory
        What each worker keeps from one update to the next, such as a velocity.
    """

    positions: Tensor
    updates: tuple[int, ...]
    streams: tuple[BatchStreamState, ...]
    seed: int
    values: dict[str, tuple[float, ...]]
    memory: tuple[Memory, ...]


class Worker:
    """One worker in the middle of an update, which changes it in place.

    Attributes
    ----------
    number
        Which of the K workers it is.
    updates
        How many updates it has made before this one.
    position
        Shape (P,); may be changed in place.
    memory
        Entries may be set; tensors in it may not be changed in place, an earlier state may hold them too.
    """

    __slots__ = ("_seed", "_values", "memory", "number", "position", "updates")

    def __init__(self, state: WorkersState, number: int, position: Tensor) -> None:
        self.number = number
        self.updates = state.updates[number]
        self.position = position
        self.memory: Memory = dict(state.memory[number])
        self._values = state.values
        self._seed = state.seed

    def __getitem__(self, name: str) -> float:
        """Return the worker's own value of a hyper-parameter."""
        return self._values[name][self.number]

    def noise(self, *labels: str | int) -> Tensor:
        """Return standard normal numbers, shape (P,), in the dtype and on the device of the position.

        They are a function of the seed, the worker, the update and `labels`, so that nothing needs to be
        remembered to go on exactly.
        """
        import torch

        position = self.position
        generator = self._generator("noise", *labels, device=str(position.device))
        return torch.randn(position.shape, generator=generator, dtype=position.dtype, device=position.device)

    def uniform(self, *labels: str | int) -> float:
        """Return a number that is uniform on [0, 1), found as :meth:`noise` is."""
        import torch

        return float(torch.rand((), generator=self._generator("uniform", *labels), dtype=torch.float64))

    def remember(self, value: float, gradient: Tensor) -> None:
        """Keep loss and gradient at the present position for the next update."""
        self.memory |= {"at": self.position.clone(), "value": value, "gradient": gradient.clone()}

    def recalled(self) -> tuple[float, Tensor] | None:
        """Return what :meth:`remember` kept; None where it kept nothing or the worker has been moved since."""
        import torch

        if "at" not in self.memory or not torch.equal(self.memory["at"], self.position):
            return None
        return self.memory["value"], self.memory["gradient"]

    def _generator(self, *labels: str | int, device: str = "cpu") -> torch.Generator:
        return torch_generator(self._seed, *labels[:1], self.number, self.updates, *labels[1:], device=device)


class Team:
    """The workers that move in one update, and what they move on.

    Attributes
    ----------
    landscape
        Where they walk.
    """

    def __init__(
        self, landscape: Landscape, state: WorkersState, rows: Sequence[int], batch_size: int | None
    ) -> None:
        self.landscape = landscape
        self._state = state
        self._rows = rows
        self._batch_size = batch_size
        self._positions = state.positions
        self._streams = list(state.streams)
        self._workers: list[Worker] | None = None
        self._memory: tuple[Memory, ...] = state.memory

    @property
    def workers(self) -> list[Worker]:
        """Those that move, in the order of their numbers."""
        if self._workers is None:
            self._positions = self._state.positions.clone()
            self._workers = [Worker(self._state, row, self._positions[row]) for row in self._rows]
        return self._workers

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)

    def positions(self) -> Tensor:
        """Return where the moving workers are now, shape (k, P); not to be changed in place."""
        if len(self._rows) == len(self._positions):
            return self._positions
        return self._positions[list(self._rows)]

    def batches(self) -> PerRow | None:
        """Take the next mini-batch of every moving worker; None, all data, for full batches."""
        if self._batch_size is None:
            return None
        stream = self.landscape.stream(self._batch_size, self._state.seed)
        batches = stream.batches([self._streams[row] for row in self._rows])
        for row in self._rows:
            self._streams[row] = stream.advance(self._streams[row])
        return batches

    def gradients(self, batches: PerRow | None) -> Tensor:
        """Return the gradients where the moving workers are now, shape (k, P)."""
        return self.landscape.gradient(self.positions(), batches)

    # -- all workers at once ------------------------------------------------------------------------------

    def together(self, *names: str) -> tuple[float, ...] | None:
        """Return the workers' common values of hyper-parameters where one operation can move all of them.

        That is where all workers move, with equal values, in a precision in which an entry of a matrix is
        rounded like the same entry of a row. In half precision, the last entries of a row are not.
        """
        state = self._state
        if (
            self._workers is not None
            or len(self._rows) != len(state.positions)
            or state.positions.element_size() < 4
        ):
            return None
        common = []
        for name in names:
            value = state.values[name]
            if value.count(value[0]) < len(value):
                return None
            common.append(value[0])
        return tuple(common)

    def recall(self, name: str) -> list[Tensor]:
        """Return what the workers keep under `name`, of those that do."""
        return [memory[name] for memory in self._memory if name in memory]

    def remember(self, name: str, rows: Tensor) -> None:
        """Let every worker keep its row of `rows`, shape (K, P), under `name`."""
        kept = zip(self._memory, rows.unbind(), strict=True)
        self._memory = tuple([{**memory, name: row} for memory, row in kept])

    def move(self, positions: Tensor) -> None:
        """Put all workers at `positions`, shape (K, P)."""
        self._positions = positions

    # -- on all data --------------------------------------------------------------------------------------

    def evaluated(self) -> list[tuple[float, Tensor]]:
        """Return loss and gradient on all data for every moving worker; computes those not remembered.

        Raises
        ------
        landscape.errors.UnstableDataError
            When the data differs between two passes.
        """
        import torch

        self.landscape.require_deterministic("a walker that compares losses")
        missing = [worker for worker in self.workers if worker.recalled() is None]
        if missing:
            places = torch.stack([worker.position for worker in missing])
            values, gradients = self.landscape.value_and_gradient(places)
            for worker, value, gradient in zip(missing, values.tolist(), gradients, strict=True):
                worker.remember(value, gradient)
        return [(worker.memory["value"], worker.memory["gradient"]) for worker in self.workers]

    def state(self) -> WorkersState:
        """Return the state after the update."""
        state = self._state
        updates, memory = list(state.updates), list(self._memory)
        for row in self._rows:
            updates[row] += 1
        for worker in self._workers or ():
            memory[worker.number] = worker.memory
        return WorkersState(
            positions=self._positions,
            updates=tuple(updates),
            streams=tuple(self._streams),
            seed=state.seed,
            values=state.values,
            memory=tuple(memory),
        )


def exit_steps(state: WorkersState) -> tuple[float, ...]:
    """Return for each worker the number of the update that made it rest; NaN where none did."""
    exits = [memory["exit"] for memory in state.memory]
    return tuple(math.nan if step is None else float(step) for step in exits)


def number_of_workers() -> Any:
    """Return the field ``workers``: as many as a tuple or a base walker says, else one."""

    def count(walker: Independent) -> int:
        longest = 1
        for a in attrs.fields(type(walker)):
            value = getattr(walker, a.name, None)
            if isinstance(a.validator, Range) and isinstance(value, tuple):
                longest = max(longest, len(value))
            elif isinstance(value, Independent):
                longest = max(longest, value.workers)
        return longest

    return field(default=Factory(count, takes_self=True), validator=at_least(1), kw_only=True)


def has_a_rule(walker: Independent, attribute: Attribute[Any], value: Any) -> None:
    """Raise unless `value` is a walker whose rule can be given another gradient; an attrs validator."""
    if not isinstance(value, FirstOrder):
        raise ConfigurationError(
            f"{type(walker).__name__}: {attribute.name}={value!r} does not turn a gradient into a step; give SGD, "
            "GD, Adam or RMSprop, such as SGD(lr=0.1)."
        )


@frozen
class Independent(Walker[WorkersState]):
    """Moves K points that do not see each other; worker i of K walks as it would walk with any other K.

    Fields whose validator is a :class:`~landscape_walkers._values.Range` are hyper-parameters: they may be
    tuples of one number per worker, and can be changed on the way. Those of a walker in a field count too.

    Raises
    ------
    landscape.errors.ConfigurationError
        For tuples of another length than the number of workers.
    """

    def __attrs_post_init__(self) -> None:
        self._check()
        owner = type(self).__name__
        for a in attrs.fields(type(self)):
            inner = getattr(self, a.name)
            if isinstance(inner, Independent) and inner.workers not in (1, self.workers):
                raise ConfigurationError(
                    f"{owner} moves {self.workers} workers but its {a.name} walker says {inner.workers}; leave "
                    "one of the numbers out."
                )
        for name, (_, value) in self._adjustable().items():
            if value is not None:
                spread(owner, name, value, self.workers)

    @property
    def batch_size(self) -> int | None:
        """Examples per mini-batch; None for all data."""
        return None

    # -- what a walker of this kind says ------------------------------------------------------------------

    @abstractmethod
    def _update(self, team: Team) -> None:
        """Move every worker of `team` by one update, in place."""

    def _check(self) -> None:
        """Raise for fields that do not fit together."""

    def _open(self, landscape: Landscape) -> Mapping[str, float]:
        """Return values of hyper-parameters that the configuration leaves open (None)."""
        return {}

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        """Return what each of the workers keeps before its first update, at `positions` of shape (K, P)."""
        return [{} for _ in positions]

    # -- what all of them do ------------------------------------------------------------------------------

    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> WorkersState:
        """Return the state at `positions`, shape (K, P); one integer is drawn from `generator`."""
        import torch

        owner = type(self).__name__
        positions = check_positions(owner, landscape, positions)
        workers = len(positions)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        streams: tuple[BatchStreamState, ...] = ()
        if self.batch_size is not None:
            streams = tuple(
                landscape.stream(self.batch_size, derive_seed(seed, "data order", worker)).start()
                for worker in range(workers)
            )
        values = {name: value for name, (_, value) in self._adjustable().items() if value is not None}
        values |= {name: value for name, value in self._open(landscape).items() if name not in values}
        return WorkersState(
            positions=positions,
            updates=(0,) * workers,
            streams=streams,
            seed=seed,
            values={name: spread(owner, name, values[name], workers) for name in self._adjustable()},
            memory=tuple(self._begin(landscape, positions)),
        )

    def step(
        self, landscape: Landscape, state: WorkersState, *, active: Tensor | None = None
    ) -> WorkersState:
        """Return the state after one update of the active workers; the others keep everything."""
        rows = moving_rows(type(self).__name__, active, len(state.positions))
        if not rows:
            return state
        team = Team(landscape, state, rows, self.batch_size)
        self._update(team)
        return team.state()

    def positions(self, state: WorkersState) -> Tensor:
        """Return the workers' positions, shape (K, P)."""
        return state.positions

    def relocate(self, state: WorkersState, positions: Tensor) -> WorkersState:
        """Return the state with the workers at `positions`, shape (K, P); all else stays.

        Raises
        ------
        landscape.errors.ConfigurationError
            For positions of another shape than the workers have.
        """
        if positions.shape != state.positions.shape:
            raise ConfigurationError(
                f"{type(self).__name__}: the workers' positions have shape {tuple(state.positions.shape)}; "
                f"got {tuple(positions.shape)}."
            )
        return attrs.evolve(state, positions=positions.detach().to(state.positions, copy=True))

    def hyperparameters(self, state: WorkersState) -> Mapping[str, PerWorker]:
        """Return the hyper-parameters in force."""
        return {name: shared(values) for name, values in state.values.items()}

    def adjust(self, state: WorkersState, **changes: PerWorker) -> WorkersState:
        """Return the state with hyper-parameters changed, for all workers or one by one.

        Raises
        ------
        landscape.errors.ConfigurationError
            For other names, values outside of their range, and tuples of another length than K.
        """
        owner, known, values = type(self).__name__, self._adjustable(), dict(state.values)
        check_names(owner, list(changes), list(known))
        for name, change in changes.items():
            value = given(change)
            known[name][0].check(owner, name, value)
            values[name] = spread(owner, name, value, len(state.positions))
        return attrs.evolve(state, values=values)

    def _adjustable(self) -> dict[str, tuple[Range, PerWorker | None]]:
        """Return range and configured value of every hyper-parameter."""
        found: dict[str, tuple[Range, PerWorker | None]] = {}
        for a in attrs.fields(type(self)):
            value = getattr(self, a.name)
            if isinstance(a.validator, Range):
                found[a.name] = (a.validator, value)
            elif isinstance(value, Independent):
                found |= value._adjustable()
        return found


@frozen
class FirstOrder(Independent):
    """Moves each worker by a rule that turns one gradient per update into a step.

    Wrappers such as :class:`~landscape_walkers.sam.SAM` give the same rule another gradient.
    """

    @abstractmethod
    def follow(self, worker: Worker, gradient: Tensor) -> None:
        """Move `worker` by one update in which the gradient is `gradient`, shape (P,)."""

    def follow_all(self, team: Team, gradients: Tensor) -> None:
        """Move every worker of `team` as :meth:`follow` does, its gradient a row of `gradients`, (k, P).

        `gradients` belongs to this method from now on, which may write into it.
        """
        for worker, gradient in zip(team, gradients, strict=True):
            self.follow(worker, gradient)

    def _update(self, team: Team) -> None:
        self.follow_all(team, team.gradients(team.batches()))
