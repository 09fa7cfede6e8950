"""Checks of the components that say what is run: models, datasets, starts, schedules, stop rules, backends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.interfaces import (
    Backend,
    Component,
    Dataset,
    Failure,
    Model,
    Receipt,
    Schedule,
    Start,
    StopRule,
    Task,
)
from landscape.objective import Data, Landscape
from landscape.randomness import preserved_random_state, torch_generator
from landscape.testing.checks import (
    ConformanceError,
    _bits,
    _changes_nothing,
    _generator,
    _instance,
    _require,
    check_component,
)
from landscape.testing.landscapes import tanh_regression

__all__ = [
    "check_backend",
    "check_dataset",
    "check_model",
    "check_schedule",
    "check_start",
    "check_stop_rule",
]


def _checked(component: Any, kind: type[Component]) -> Any:
    check_component(component)
    instance = _instance(component)
    if not isinstance(instance, kind):
        raise ConformanceError(f"{type(instance).__name__} does not derive from {kind.__name__}.")
    return instance


def check_model(model: Model | type[Model], example: Any = None) -> nn.Module:
    """Check that a model is built from its generator alone, as often as asked.

    Parameters
    ----------
    model
        An instance, or a class whose fields all have defaults.
    example
        A batch to build it for; eight pairs of 3 inputs and one of 2 classes if left out.

    Returns
    -------
    torch.nn.Module
        What it built.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(model, Model)
    if example is None:
        example = (torch.randn(8, 3, generator=_generator()), torch.arange(8) % 2)
    who = f"{type(instance).__name__}.build"

    def build(global_seed: int) -> nn.Module:
        with preserved_random_state(global_seed), _changes_nothing(who, example=example):
            built: nn.Module = instance.build(example, _generator(7))
        return built

    first, second = build(1), build(2)
    _require(isinstance(first, nn.Module), f"{who} must return a torch.nn.Module; it returned {first!r}.")
    _require(first is not second, f"{who} returns one and the same module twice; build a new one each time.")
    _require(
        _bits(dict(first.state_dict())) == _bits(dict(second.state_dict())),
        f"{who} initialises differently with the same generator. Fill every parameter from the generator.",
    )
    shared = {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in second.parameters()}
    _require(not shared, f"{who} gives two modules the same storage; make parameters of their own.")
    _require(list(first.parameters()), f"{who} builds a module without parameters: there is no landscape.")
    return first


def check_dataset(dataset: Dataset | type[Dataset]) -> Mapping[str, Data]:
    """Check that a dataset is the same data whenever it is loaded and read.

    Parameters
    ----------
    dataset
        An instance, or a class whose fields all have defaults.

    Returns
    -------
    Mapping of str to Data
        Its splits.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(dataset, Dataset)
    who = f"{type(instance).__name__}.load"

    def load(global_seed: int) -> Mapping[str, Data]:
        with preserved_random_state(global_seed), _changes_nothing(who):
            splits: Mapping[str, Data] = instance.load(_generator(7))
        _require(isinstance(splits, Mapping), f"{who} must return splits by name; it returned {splits!r}.")
        return splits

    first, second = load(1), load(2)
    _require("train" in first, f"{who} must return a split 'train'; it returned {sorted(first)}.")
    _require(sorted(first) == sorted(second), f"{who} returns other splits the second time.")
    for name, data in first.items():
        _require(
            isinstance(data, Data), f"{who}: the split {name!r} is {data!r}, which is not landscape's Data."
        )
        _require(data.examples > 0, f"{who}: the split {name!r} has no examples.")
        _require(
            data.fingerprint() == second[name].fingerprint(),
            f"{who} gives a different split {name!r} with the same generator. Draw from the generator alone.",
        )
        if data.deterministic:
            once, again = _bits(list(data.batches())), _bits(list(data.batches()))
            _require(once == again, f"{who}: the split {name!r} reads differently the second time.")
    return first


def check_start(start: Start | type[Start], workers: int = 3) -> Tensor:
    """Check that a start gives every worker a place, the same ones each time.

    Parameters
    ----------
    start
        An instance, or a class whose fields all have defaults.
    workers
        How many.

    Returns
    -------
    torch.Tensor
        The positions, shape (workers, P).

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(start, Start)
    who = f"{type(instance).__name__}.begin"
    landscape = tanh_regression().landscape
    theta = landscape.initial()

    def draw(index: int) -> Tensor:
        if index == 0:
            return theta.clone()
        noise = torch.randn(theta.shape, generator=torch_generator(index, "draw"), dtype=torch.float64)
        return theta + noise.to(theta)

    def begin(global_seed: int) -> Tensor:
        with preserved_random_state(global_seed), _changes_nothing(who, [landscape]):
            found: Any = instance.begin(landscape, workers, draw)
        _require(
            isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Landscape),
            f"{who} must return a landscape and positions; it returned {found!r}.",
        )
        positions: Tensor = found[1]
        given: Any = positions
        shape = (workers, theta.numel())
        _require(
            isinstance(given, Tensor) and tuple(given.shape) == shape,
            f"{who} must return positions of shape {shape}; it returned {positions!r}.",
        )
        return positions

    first, second = begin(1), begin(2)
    _require(bool(torch.isfinite(first).all()), f"{who} returns positions that are not finite.")
    _require(_bits(first) == _bits(second), f"{who} begins elsewhere the second time; use draw(i) alone.")
    return first


def check_schedule(schedule: Schedule | type[Schedule], steps: Iterable[int] = range(101)) -> None:
    """Check that a schedule is a function of the step: it can be asked in any order, as resuming does.

    Parameters
    ----------
    schedule
        An instance, or a class whose fields all have defaults.
    steps
        Where to ask.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(schedule, Schedule)
    who = f"{type(instance).__name__}.changes"
    steps = list(steps)
    with _changes_nothing(who):
        forward = {step: instance.changes(step) for step in steps}
        backward = {step: instance.changes(step) for step in reversed(steps)}
    for step, changes in forward.items():
        _require(
            isinstance(changes, Mapping), f"{who}({step}) must return a mapping; it returned {changes!r}."
        )
        entries: Mapping[Any, Any] = changes  # what the annotations promise is what is checked here
        for name, value in entries.items():
            values = value if isinstance(value, tuple) else (value,)
            _require(
                isinstance(name, str)
                and all(isinstance(v, float | int) and math.isfinite(v) for v in values),
                f"{who}({step}) says {name!r}: {value!r}; give finite numbers, or tuples of them, by name.",
            )
        _require(
            _bits(changes) == _bits(backward[step]),
            f"{who}({step}) depends on what was asked before; it must depend on the step alone.",
        )


def check_stop_rule(
    rule: StopRule | type[StopRule], rows: Sequence[Mapping[str, Any]] | None = None
) -> str | None:
    """Check that a stop rule depends on the recorded rows alone and takes rows of any kind.

    Parameters
    ----------
    rule
        An instance, or a class whose fields all have defaults.
    rows
        Rows of metrics, newest last; of a loss that falls, of two workers, with gaps, if left out.

    Returns
    -------
    str or None
        Why it stops at the end of the rows.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(rule, StopRule)
    who = f"{type(instance).__name__}.reason"
    if rows is None:
        rows = [
            {"step": step, "worker": worker, "loss": 1 / (1 + step)}
            | ({"loss_test": 2 / (1 + step)} if step % 3 == 0 else {"gradient_norm": math.nan})
            for step in range(20)
            for worker in ("0", "1")
        ]
    answers = []
    for end in [*range(len(rows) + 1), *range(len(rows), -1, -1)]:
        given = [dict(row) for row in rows[:end]]
        with _changes_nothing(who, rows=given):
            answers.append(instance.reason(given))
    for answer in answers:
        _require(
            answer is None or (isinstance(answer, str) and answer),
            f"{who} must return a sentence or None; it returned {answer!r}.",
        )
    _require(answers == answers[::-1], f"{who} remembers what it was asked before; use the rows alone.")
    last: str | None = answers[len(rows)]
    return last


def check_backend(backend: Backend | type[Backend], tasks: Sequence[Task] = ()) -> None:
    """Check that a backend yields one outcome of every task, and that no task ends the others.

    Parameters
    ----------
    backend
        An instance, or a class whose fields all have defaults.
    tasks
        Tasks that succeed. One that cannot is added.

    Raises
    ------
    ConformanceError
        If a rule is broken.
    """
    instance = _checked(backend, Backend)
    who = f"{type(instance).__name__}.map"
    impossible = Task("impossible", {"impossible": {}}, str(Path(tasks[0].store if tasks else ".") / "none"))
    given = [impossible, *tasks]
    with instance:
        _require(not list(instance.map([])), f"{who} yields outcomes of no tasks.")
        outcomes = list(instance.map(given))
    _require(
        sorted(outcome.key for outcome in outcomes) == sorted(task.key for task in given),
        f"{who} must yield one outcome per task, with its key; it yielded {outcomes!r}.",
    )
    for outcome in outcomes:
        if outcome.key == "impossible":
            _require(
                isinstance(outcome, Failure) and outcome.error,
                f"{who} must yield a Failure that says why for a task that raises; it yielded {outcome!r}.",
            )
            continue
        _require(isinstance(outcome, Receipt), f"{who} must yield a Receipt; it yielded {outcome!r}.")
        place = Path(outcome.run) if isinstance(outcome, Receipt) else Path()
        _require((place / "config.json").is_file(), f"{who} says that the run is {place}; there is none.")
