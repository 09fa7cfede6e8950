"""Which of the measured points was the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from landscape.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Best"]


@frozen(eq=False)
class Best:
    """The best row so far by one metric, with its weights; part of a run's resumable state.

    Attributes
    ----------
    metric
        The column that decides; empty when nothing is kept.
    mode
        ``"min"``: lower is better; ``"max"``: higher is.
    value, step, worker, weights
        The best value, where it was found, and the weights there, shape (P,).
    """

    metric: str
    mode: Literal["min", "max"]
    value: float = math.nan
    step: int = -1
    worker: str = ""
    weights: Tensor | None = None

    @classmethod
    def parse(cls, text: str | None) -> Best:
        """Return what ``"loss_test"`` or ``"score_test:max"`` asks to keep.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a mode that is neither ``min`` nor ``max``.
        """
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"best={text!r}: write a metric, as in 'score_test:max'.")
        metric, _, mode = (text or "").partition(":")
        if mode not in ("", "min", "max"):
            raise ConfigurationError(
                f"best={text!r}: write 'metric:min' or 'metric:max', as in 'score_test:max'."
            )
        return cls(metric, "max" if mode == "max" else "min")

    def improved_by(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the best of `rows` if it is better than what was best before, else None."""
        sign = 1.0 if self.mode == "min" else -1.0
        known = [row for row in rows if self.metric and not math.isnan(row.get(self.metric, math.nan))]
        if not known:
            return None
        row = min(known, key=lambda row: sign * row[self.metric])
        better = math.isnan(self.value) or sign * row[self.metric] < sign * self.value
        return row if better else None

    def become(self, row: Mapping[str, Any], weights: Tensor) -> Best:
        """Return the state in which `row` is the best."""
        return evolve(
            self,
            value=float(row[self.metric]),
            step=int(row["step"]),
            worker=str(row["worker"]),
            weights=weights.detach().clone(),
        )
