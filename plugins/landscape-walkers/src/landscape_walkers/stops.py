"""When to end a walk early: a goal reached, no more progress, or the loss run away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen

from landscape.interfaces import StopRule
from landscape.validators import at_least, number, of_type, one_of

__all__ = ["MaximalLoss", "Patience", "Target"]


def _column(instance: Any, attribute: Any, value: Any) -> None:
    of_type(str, "the name of a column of the metrics")(instance, attribute, value)


def _newest(rows: Sequence[Mapping[str, Any]], metric: str, worker: str) -> list[tuple[str, float]]:
    """Return the newest step's values of `metric`, by worker, NaN left out."""
    found = []
    for row in reversed(rows):
        if row["step"] != rows[-1]["step"]:
            break
        if metric in row and not math.isnan(row[metric]) and worker in ("all", "any", row["worker"]):
            found.append((str(row["worker"]), float(row[metric])))
    return found


@frozen
class Target(StopRule):
    """Stops when a metric has reached a value.

    An experiment that does not measure the metric is refused.

    Attributes
    ----------
    metric
        Column of the metrics, such as ``"gradient_norm"`` or ``"score_test"``.
    value
        The value to reach.
    mode
        ``"min"``: stop at or below it; ``"max"``: at or above it.
    worker
        ``"all"``: every measured point has reached it; ``"any"``: one has; else the label of one point, such
        as ``"centre"``.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a metric that is no name, another mode, and a value that is not finite.
    """

    metric: str = field(validator=_column)
    value: float = field(validator=number())
    mode: Literal["min", "max"] = field(default="min", validator=one_of(("min", "max")))
    worker: str = field(default="all", validator=of_type(str, "'all', 'any' or a label"))

    def metrics(self) -> tuple[str, ...]:
        """Return the metric."""
        return (self.metric,)

    def reason(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Return that the target was reached, or None."""
        found = _newest(rows, self.metric, self.worker) if rows else []
        sign = 1.0 if self.mode == "min" else -1.0
        reached = [sign * value <= sign * self.value for _, value in found]
        if reached and (any(reached) if self.worker == "any" else all(reached)):
            values = ", ".join(f"{value:.6g}" for _, value in found)
            return f"{self.metric} reached {self.value:g} ({values})"
        return None


@frozen
class Patience(StopRule):
    """Stops when a metric has not improved for a number of its measurements.

    What counts at each step is the best of the points that are looked at.

    Attributes
    ----------
    metric
        Column of the metrics, such as ``"loss_test"``.
    measurements
        How many measurements without improvement are waited for.
    least
        The smallest change that counts as an improvement.
    mode
        ``"min"``: lower is better; ``"max"``: higher is.
    worker
        ``"all"``, or the label of one point.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a metric that is no name, another mode, and numbers outside of their range.
    """

    metric: str = field(validator=_column)
    measurements: int = field(default=10, validator=at_least(1))
    least: float = field(default=0.0, validator=number(at_least=0.0))
    mode: Literal["min", "max"] = field(default="min", validator=one_of(("min", "max")))
    worker: str = field(default="all", validator=of_type(str, "'all' or a label"))

    def metrics(self) -> tuple[str, ...]:
        """Return the metric."""
        return (self.metric,)

    def reason(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Return since when there was no improvement, or None."""
        sign = 1.0 if self.mode == "min" else -1.0
        by_step: dict[int, float] = {}
        for row in rows:
            if self.metric in row and self.worker in ("all", row["worker"]):
                value = sign * float(row[self.metric])
                if not math.isnan(value):
                    by_step[row["step"]] = min(value, by_step.get(row["step"], math.inf))
        best, waited, since = math.inf, 0, 0
        for step, value in by_step.items():
            if value < best - self.least:
                best, waited, since = value, 0, step
            else:
                waited += 1
        if waited < self.measurements:
            return None
        return f"{self.metric} has not improved on {sign * best:.6g} since step {since}"


@frozen
class MaximalLoss(StopRule):
    """Stops when the loss of any point exceeds a bound.

    A loss that is not a number needs no rule: it ends the run as an error.

    Attributes
    ----------
    value
        The bound.
    metric
        The column that is looked at.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a bound that is not finite, and a metric that is no name.
    """

    value: float = field(validator=number())
    metric: str = field(default="loss", validator=_column)

    def metrics(self) -> tuple[str, ...]:
        """Return the metric."""
        return (self.metric,)

    def reason(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Return whose loss is too large, or None."""
        for worker, value in _newest(rows, self.metric, "any") if rows else []:
            if value > self.value:
                return f"{self.metric} of worker {worker} is {value:.6g}, above {self.value:g}"
        return None
