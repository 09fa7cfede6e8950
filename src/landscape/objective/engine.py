"""Gradients at several points at once: one after another, or together.

``"loop"``
    One row of the (K, P) weights after another. Worker i of K has the very bits it has alone.
``"traced"``
    All rows, where their batches are equally large, through one recorded graph
    (:mod:`landscape.objective.traced`): faster by what the interpreter costs per operation, so by much for small
    networks and not at all for large ones. Its operations have other kernels, so the last bits differ from the
    loop's: by less than 1e-12 of the gradient in float64.
``"auto"``
    A walk starts with the loop. When the loop has taken as long over one kind of call as recording a graph
    costs, both are timed on copies of the call at hand, before the next step, and the faster one serves that
    kind of call from that step on. So no walk takes more than about twice what the better choice would have
    taken, and short ones never pay for a graph. Which engine serves from which step is written into the run
    and into saved walks: with that record, resuming and replicating give the same bits again. A landscape
    without a walk keeps to the loop, so that its gradient is a function of its arguments alone.

Values, scores and Hessians, and gradients at a single point, do not pass through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from attrs import asdict, define, frozen
from torch import Tensor

from landscape.errors import ConfigurationError, RunError
from landscape.objective.batch import Batch, PerRow
from landscape.objective.traced import NotTraceable, RowBatch, RowGradients, Tracer, is_large

if TYPE_CHECKING:
    from landscape.objective.landscape import Landscape

__all__ = ["ENGINES", "Engine", "EngineChoice", "EngineName"]

EngineName: TypeAlias = Literal["auto", "loop", "traced"]
ENGINES: tuple[EngineName, ...] = ("auto", "loop", "traced")

#: Seconds in the loop after which a graph is tried. Recording one takes 0.2 to 0.5 s for a perceptron or a small
#: convolutional network, and a second more for the first one of a process, which imports the machinery.
PATIENCE = 1.0
#: How much faster than the loop a graph must be to be worth its other bits; also a margin for noise in the timing.
ADVANTAGE = 1.1
#: Kinds of call that are watched at once; data whose batches all differ in shape has no end of them.
_KINDS = 64
#: Each engine is timed so often, and the fastest time counts; after so many seconds, twice is enough.
_TURNS = 4
_TRIAL_SECONDS = 0.5


@frozen
class EngineChoice:
    """Which engine serves one kind of call, and from when on.

    Attributes
    ----------
    calls
        The kind of call: rows, and what they are evaluated on.
    engine
        ``"loop"`` or ``"traced"``.
    step
        The first update of the walk that it holds for.
    rows
        How many rows go through the graph at once; 0 for the loop.
    reason
        Why, in words.
    """

    calls: str
    engine: Literal["loop", "traced"]
    step: int
    rows: int = 0
    reason: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return the choice as values that JSON can say."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> EngineChoice:
        """Return the choice that :meth:`to_plain` described.

        Raises
        ------
        RunError
            For a choice that this version cannot follow.
        """
        try:
            choice = cls(**plain)
        except TypeError as error:
            raise RunError(f"This is no record of an engine: {dict(plain)!r}.") from error
        if choice.engine not in ("loop", "traced"):
            raise RunError(
                f"The record names an engine {choice.engine!r}; this version has 'loop' and 'traced'."
            )
        return choice


@define(eq=False)
class _Spent:
    """What the loop has taken over one kind of call, and the call to try a graph on when that is much."""

    seconds: float = 0.0
    call: tuple[Landscape, Tensor, Batch | PerRow | None] | None = None


class Engine:
    """Computes gradients at several points for the landscapes that share it.

    Parameters
    ----------
    asked
        What the user asked for.
    choices
        Choices to follow, of an earlier computation that is to be repeated or continued.
    watching
        Whether ``"auto"`` may choose: for a walk, which says when a step begins (:meth:`begin`) and records
        what was chosen.

    Raises
    ------
    ConfigurationError
        For an engine that there is not.
    """

    def __init__(
        self, asked: EngineName, choices: Iterable[EngineChoice] = (), *, watching: bool = False
    ) -> None:
        if asked not in ENGINES:
            raise ConfigurationError(f"engine={asked!r}: give 'auto', 'loop' or 'traced'.")
        self.asked = asked
        self.watching = watching
        self._choices = {choice.calls: choice for choice in choices}
        self._spent: dict[str, _Spent] = {}
        self._step = 0
        self._patience = PATIENCE
        self._tracer = Tracer()

    @property
    def choices(self) -> tuple[EngineChoice, ...]:
        """What was chosen so far, in the order of steps."""
        return tuple(sorted(self._choices.values(), key=lambda choice: (choice.step, choice.calls)))

    @property
    def in_force(self) -> Literal["loop", "traced"]:
        """What was asked for, or chosen for any kind of call."""
        if self.asked != "auto":
            return self.asked
        return "traced" if any(choice.engine == "traced" for choice in self._choices.values()) else "loop"

    def follow(self, choices: Iterable[EngineChoice]) -> None:
        """Adopt choices made elsewhere; those made here stay where they are of other kinds of call."""
        self._choices |= {choice.calls: choice for choice in choices}

    def to_plain(self) -> dict[str, Any]:
        """Return what was asked for and chosen as values that JSON can say."""
        return {
            "asked": self.asked,
            "watching": self.watching,
            "choices": [choice.to_plain() for choice in self.choices],
        }

    def follow_plain(self, plain: Mapping[str, Any]) -> None:
        """Become what :meth:`to_plain` described.

        Raises
        ------
        RunError
            For an engine that this version does not have.
        """
        if plain["asked"] not in ENGINES:
            raise RunError(f"The record names an engine {plain['asked']!r}; this version has {ENGINES}.")
        self.asked, self.watching = plain["asked"], plain["watching"]
        self.follow(EngineChoice.from_plain(choice) for choice in plain["choices"])

    def settle(self, step: int, update: Callable[[], object]) -> None:
        """Choose now and for good, before update `step`, by the calls that `update` makes.

        Kinds of call that were not seen by then keep to the loop. For walks that are about to go on in two
        places, which must choose alike.
        """
        if self.asked == "auto" and self.watching:
            self._patience, patience = 0.0, self._patience
            try:
                update()
            finally:
                self._patience = patience
            self.begin(step)
            self.watching = False

    def begin(self, step: int) -> bool:
        """Say that update `step` is next; return whether that was the occasion of a choice."""
        self._step = step
        if not self._spent:
            return False
        due = [calls for calls, spent in self._spent.items() if spent.call is not None]
        for calls in due:
            call = self._spent.pop(calls).call
            assert call is not None
            self._choices[calls] = self._tried(calls, *call)
        return bool(due)

    def combines(self, landscape: Landscape) -> bool:
        """Whether rows of `landscape` may be computed together; never where single ones are large."""
        return self.asked == "traced" or (self.asked == "auto" and not is_large(landscape))

    # -- computing ----------------------------------------------------------------------------------------

    def value_and_gradient(
        self, landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None
    ) -> tuple[Tensor, Tensor]:
        """Return values (K,) and gradients (K, P) at `theta`, shape (K, P), in the dtype of the landscape."""
        if self.asked == "loop" or len(theta) < 2:
            return landscape._row_by_row(theta, batch)
        if self.asked == "traced":
            if isinstance(batch, PerRow) and batch.stack() is None:
                # Workers at different places of their epochs, where one of them has the short batch.
                return landscape._row_by_row(theta, batch)
            return self._traced(landscape, theta, batch, None)
        if is_large(landscape) or (not self.watching and not self._choices):
            return landscape._row_by_row(theta, batch)
        calls = _kind(landscape, theta, batch)
        choice = self._choices.get(calls)
        if choice is not None and choice.step > self._step:
            return landscape._row_by_row(theta, batch)
        if choice is not None and choice.engine == "traced":
            return self._traced(landscape, theta, batch, choice.rows)
        if choice is not None or calls == "" or not self.watching:
            return landscape._row_by_row(theta, batch)
        return self._watched(calls, landscape, theta, batch)

    def _watched(
        self, calls: str, landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None
    ) -> tuple[Tensor, Tensor]:
        """Compute by the loop, and note how long it takes."""
        begin = time.perf_counter()
        result = landscape._row_by_row(theta, batch)
        if calls not in self._spent and len(self._spent) == _KINDS:
            del self._spent[next(iter(self._spent))]
        spent = self._spent.setdefault(calls, _Spent())
        spent.seconds += time.perf_counter() - begin
        if spent.seconds > self._patience and spent.call is None:
            spent.call = (landscape, theta.clone(), batch)
        return result

    def _traced(
        self, landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None, rows: int | None
    ) -> tuple[Tensor, Tensor]:
        try:
            return _through_graphs(self._tracer, landscape, theta, batch, rows)
        except NotTraceable as error:
            asked = "was asked for" if rows is None else "is what the record of the run says"
            raise ConfigurationError(
                f"engine='traced' {asked}, but {type(landscape.module).__name__} cannot be computed that way "
                f"here: {error}. Give engine='loop', or 'auto', which falls back to it."
            ) from error

    # -- choosing -----------------------------------------------------------------------------------------

    def _tried(
        self, calls: str, landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None
    ) -> EngineChoice:
        """Time both engines on one call; what they compute is thrown away."""
        try:
            rows = min(
                self._tracer.width(landscape, theta, one) for one in _row_batches(landscape, theta, batch)
            )
            if rows < 2:
                return EngineChoice(calls, "loop", self._step, reason="a row fills the cache by itself")
            loop, traced = _times(
                landscape,
                lambda: landscape._row_by_row(theta, batch),
                lambda: _through_graphs(self._tracer, landscape, theta, batch, rows),
            )
        except NotTraceable as error:
            return EngineChoice(calls, "loop", self._step, reason=f"no graph: {error}")
        except torch.OutOfMemoryError:
            return EngineChoice(calls, "loop", self._step, reason="the memory of the device does not suffice")
        reason = f"loop {1e3 * loop:.3g} ms, traced {1e3 * traced:.3g} ms"
        if loop < ADVANTAGE * traced:
            return EngineChoice(calls, "loop", self._step, reason=reason)
        return EngineChoice(calls, "traced", self._step, rows, reason)


def _times(
    landscape: Landscape, loop: Callable[[], object], traced: Callable[[], object]
) -> tuple[float, float]:
    """Return how many seconds both take: the fastest of a few turns each."""
    traced()  # records the graph, if it is not there yet
    clocks = _timer(landscape, loop), _timer(landscape, traced)
    times: list[tuple[float, float]] = []
    while len(times) < 2 or (len(times) < _TURNS and sum(map(sum, times)) < _TRIAL_SECONDS):
        times.append((clocks[0](), clocks[1]()))
    return min(slow for slow, _ in times), min(fast for _, fast in times)


def _timer(landscape: Landscape, work: Callable[[], object]) -> Callable[[], float]:
    """Return a function that says how many seconds `work` takes.

    With one thread on the CPU, the time of this thread: what else the machine does is no part of it.
    """
    alone = landscape.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter

    def measure() -> float:
        _wait(landscape.device)
        begin = clock()
        work()
        _wait(landscape.device)
        return clock() - begin

    return measure


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kind(landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None) -> str:
    """Say which kind of call this is; empty for one that no graph can be recorded for."""
    rows = f"{len(theta)} x {theta.shape[1]} weights"
    if landscape.group is not None:
        return ""
    if batch is None:
        return f"{rows}, all {landscape.data.examples} examples"
    stack = batch.stack() if isinstance(batch, PerRow) else batch
    if stack is None:
        return ""
    try:
        found = RowBatch(stack, isinstance(batch, PerRow))
    except NotTraceable:
        return ""
    described = ", ".join(" ".join(map(str, entry)) for entry in found.entries)
    return f"{rows}, {'a batch each' if found.own else 'one batch'}: {described}"


def _row_batches(landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None) -> Iterable[RowBatch]:
    if landscape.group is not None:
        raise NotTraceable("the data is shared out among processes")
    if not isinstance(batch, PerRow):
        for one in landscape._batches(batch):
            yield RowBatch(one, own=False)
        return
    stack = batch.stack()
    if stack is None:
        raise NotTraceable("the rows' batches differ in shape")
    yield RowBatch(landscape._moved(stack), own=True)


def _through_graphs(
    tracer: Tracer, landscape: Landscape, theta: Tensor, batch: Batch | PerRow | None, rows: int | None
) -> tuple[Tensor, Tensor]:
    sums = landscape._sums()
    found: RowGradients | None = None
    for one in _row_batches(landscape, theta, batch):
        width = max(2, tracer.width(landscape, theta, one)) if rows is None else rows
        found = tracer.gradients(landscape, theta, one, width)
        sums.add(one.batch, found.values, found.gradients)
    value, gradient = sums.result()
    assert found is not None
    assert gradient is not None
    if found.penalties is not None and found.slopes is not None:
        value, gradient = value + found.penalties, gradient.add_(found.slopes)
    return value, gradient
