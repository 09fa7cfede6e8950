"""Hyper-parameters that may differ from worker to worker: how they are given, checked and spread."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from attrs import frozen

from landscape.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from attrs import Attribute
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = [
    "FINITE",
    "FRACTION",
    "NON_NEGATIVE",
    "POSITIVE",
    "SHARE",
    "PerWorker",
    "Range",
    "check_names",
    "check_number",
    "check_positions",
    "entries",
    "given",
    "moving_rows",
    "shared",
    "single",
    "spread",
]

#: One number for all workers, or a tuple with one number for each.
PerWorker = float | tuple[float, ...]


def given(value: float | Sequence[float]) -> PerWorker:
    """Bring a hyper-parameter into the form in which configurations keep it: a float or a tuple of floats.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything that is not made of numbers.
    """
    several = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(entry, Real) and not isinstance(entry, bool) for entry in several):
        raise ConfigurationError(
            f"A hyper-parameter is a number or a list with one number per worker, got {value!r}."
        )
    numbers = tuple(float(entry) for entry in several)
    return numbers if isinstance(value, list | tuple) else numbers[0]


def entries(value: PerWorker) -> tuple[float, ...]:
    """Return the numbers that a hyper-parameter consists of."""
    return value if isinstance(value, tuple) else (value,)


def check_number(owner: str, name: str, value: PerWorker, low: float, high: float, described: str) -> None:
    """Raise unless every entry of `value` lies in [low, high) (NaN and infinities do not)."""
    if value == ():
        raise ConfigurationError(f"{owner}: {name}=() has no entries; give a number, or one for each worker.")
    for entry in entries(value):
        if not low <= entry < high:
            raise ConfigurationError(
                f"{owner}: {name}={value!r} is not possible; {name} must be {described}."
            )


@frozen
class Range:
    """The values [low, high) that a hyper-parameter may have, as the validator of its field.

    A field with this validator can be changed while the walker walks, and may differ from worker to worker.

    Attributes
    ----------
    low, high
        The interval; NaN and infinities are never in it.
    described
        The interval in words.
    """

    low: float
    high: float
    described: str

    def check(self, owner: str, name: str, value: PerWorker) -> None:
        """Raise unless every entry of `value` is possible."""
        check_number(owner, name, value, self.low, self.high, self.described)

    def __call__(self, instance: Any, attribute: Attribute[Any], value: PerWorker | None) -> None:
        if value is None and attribute.default is None:
            return
        if value is None:
            raise ConfigurationError(f"{type(instance).__name__}: {attribute.name} needs a number.")
        self.check(type(instance).__name__, attribute.name, value)


NON_NEGATIVE = Range(0.0, math.inf, "a finite number >= 0")
POSITIVE = Range(math.ulp(0.0), math.inf, "a finite number > 0")
FINITE = Range(-sys.float_info.max, math.inf, "a finite number")
FRACTION = Range(0.0, 1.0, "at least 0 and below 1")
SHARE = Range(math.ulp(0.0), math.nextafter(1.0, 2.0), "above 0 and at most 1")


def single(values: Range) -> Callable[[Any, Attribute[Any], PerWorker], None]:
    """Return an attrs validator for one number of `values`, the same for all workers and updates."""

    def validate(instance: Any, attribute: Attribute[Any], value: PerWorker) -> None:
        owner = type(instance).__name__
        if isinstance(value, tuple):
            raise ConfigurationError(f"{owner}: {attribute.name}={value!r} is not possible; give one number.")
        values.check(owner, attribute.name, value)

    return validate


def spread(owner: str, name: str, value: PerWorker, workers: int) -> tuple[float, ...]:
    """Return one number per worker.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `value` is a tuple of another length.
    """
    if not isinstance(value, tuple):
        return (value,) * workers
    if len(value) != workers:
        raise ConfigurationError(
            f"{owner}: {name} has {len(value)} entries for {workers} workers; give one number for all of "
            f"them, or exactly {workers}."
        )
    return value


def shared(values: tuple[float, ...]) -> PerWorker:
    """Return the one number that all workers share, or the tuple where they differ."""
    return values[0] if len(set(values)) == 1 else values


def check_names(owner: str, changes: Sequence[str], known: Sequence[str]) -> None:
    """Raise for names that are no hyper-parameter of `owner`."""
    for name in changes:
        if name not in known:
            raise ConfigurationError(
                f"{owner} has no hyper-parameter {name!r} that can be changed while it walks; it has "
                f"{', '.join(known)}.{nearest(name, known)}"
            )


def check_positions(owner: str, landscape: Landscape, positions: Tensor) -> Tensor:
    """Return a copy of `positions` in the landscape's dtype and on its device.

    Raises
    ------
    landscape.errors.ConfigurationError
        Unless the shape is (K, P) with K >= 1.
    """
    if positions.ndim != 2 or positions.shape[0] < 1 or positions.shape[1] != landscape.size:
        raise ConfigurationError(
            f"{owner} starts from positions of shape (workers, {landscape.size}), one row for each worker; "
            f"got {tuple(positions.shape)}."
        )
    return positions.detach().to(dtype=landscape.dtype, device=landscape.device, copy=True)


def moving_rows(owner: str, active: Tensor | None, workers: int) -> list[int]:
    """Return the numbers of the rows that move.

    Raises
    ------
    landscape.errors.ConfigurationError
        If `active` is not a mask of one bool per worker.
    """
    if active is None:
        return list(range(workers))
    if tuple(active.shape) != (workers,) or str(active.dtype) != "torch.bool":
        raise ConfigurationError(
            f"{owner}: active is a bool mask of shape ({workers},); "
            f"got {active.dtype} of shape {tuple(active.shape)}."
        )
    return [row for row, moves in enumerate(active.tolist()) if moves]
