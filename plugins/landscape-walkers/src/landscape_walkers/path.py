"""Probes of a path: loss, score, gradient norm, and where the weights are relative to their start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from attrs import evolve, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Point

__all__ = ["CosineWithStart", "DistanceFromStart", "GradientNorm", "Loss", "Score", "Sharpness", "WeightNorm"]


@frozen
class Loss(Probe):
    r"""The loss :math:`L(\theta)` on all data of a split, its penalty included.

    Column ``loss``, or ``loss_test`` for ``split="test"`` and so on. Costs one forward pass over the split,
    less than half a gradient.

    Parameters
    ----------
    split
        On which data; the walk's own landscape is ``"train"``.
    """

    split: str = "train"

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``loss``."""
        value = point.value() if self.split == "train" else point.on(self.split).value(point.theta)
        return _found(_named("loss", self.split), float(value))


@frozen
class Score(Probe):
    """The score on all data of a split: the share of correct predictions, or what the landscape was given.

    Column ``score``, or ``score_test`` for ``split="test"`` and so on. Costs one forward pass over the split.

    Parameters
    ----------
    split
        On which data; the walk's own landscape is ``"train"``.

    Raises
    ------
    landscape.errors.ConfigurationError
        When measuring on a landscape that has no score.
    """

    split: str = "train"

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``score``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the landscape has no score.
        """
        landscape = point.landscape if self.split == "train" else point.on(self.split)
        if not landscape.has_score:
            raise ConfigurationError(
                "Score: this landscape has no score. There is one by default for loss='cross_entropy' with "
                "class targets; elsewhere give Landscape(..., score=function of (output, target)), or leave "
                "the probe out."
            )
        score = landscape.score(point.theta)
        return _found(_named("score", self.split), math.nan if score is None else float(score))


@frozen
class GradientNorm(Probe):
    r"""The Euclidean norm :math:`|\nabla L(\theta)|` of the gradient on all data of a split.

    Column ``gradient_norm``, or ``gradient_norm_test`` for ``split="test"`` and so on. Costs one gradient,
    which the point keeps for the other probes at it. The sum of squares accumulates in float64.

    Parameters
    ----------
    split
        On which data; the walk's own landscape is ``"train"``.
    """

    split: str = "train"

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``gradient_norm``."""
        gradient = point.gradient() if self.split == "train" else point.on(self.split).gradient(point.theta)
        return _found(_named("gradient_norm", self.split), _norm(gradient))


@frozen
class WeightNorm(Probe):
    r"""The Euclidean norm :math:`|\theta|` of the weights, shape (P,), summed in float64.

    Column ``weight_norm``. Costs no gradient.
    """

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``weight_norm``."""
        return _found("weight_norm", _norm(point.theta))


@frozen
class CosineWithStart(Probe):
    r"""The cosine :math:`\theta \cdot \theta_0 / (|\theta|\,|\theta_0|)` between the weights and their start.

    Column ``cosine_with_start``, with sums in float64. NaN with a warning where the start is unknown or one
    of the vectors is zero. Costs no gradient.
    """

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``cosine_with_start``."""
        name = "cosine_with_start"
        if point.initial is None:
            return _unknown(name, "the point does not know where its path started")
        here, start = _norm(point.theta), _norm(point.initial)
        if here == 0 or start == 0:
            return _unknown(name, f"the {'present' if here == 0 else 'initial'} weights are all zero")
        cosine = _dot(point.theta, point.initial) / here / start
        # Rounding may lead an ulp beyond 1, where acos would fail. NaN compares false and stays.
        return _found(name, math.copysign(1.0, cosine) if abs(cosine) > 1 else cosine)


@frozen
class DistanceFromStart(Probe):
    r"""The Euclidean distance :math:`|\theta - \theta_0|` from the start, differences and sums in float64.

    Column ``distance_from_start``. NaN with a warning where the start is unknown. Costs no gradient.
    """

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``distance_from_start``."""
        name = "distance_from_start"
        if point.initial is None:
            return _unknown(name, "the point does not know where its path started")
        squares = sum(float((a - b).square().sum()) for a, b in _pieces(point.theta, point.initial))
        return _found(name, math.sqrt(squares))


@frozen
class Sharpness(Probe):
    r"""The rise of the loss over the start of the path, normalised as by Keskar et al. (2017, metric 2.1).

    .. math:: 100\,\frac{L(\theta) - L(\theta_0)}{1 + L(\theta_0)}

    Column ``sharpness``, or ``sharpness_test`` for ``split="test"`` and so on. At the end of a
    :class:`~landscape_walkers.sharpness.SharpnessAscent` it is the sharpness of the start. NaN with a warning
    where the start is unknown, or has a loss of -1 or below, for which the quotient means nothing.

    Costs two forward passes over the split; one where an earlier point of the path has been measured.

    Parameters
    ----------
    split
        On which data; the walk's own landscape is ``"train"``.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Keskar, Mudigere, Nocedal, Smelyanskiy, Tang. On large-batch training for deep learning: "
        "generalization gap and sharp minima. ICLR 2017, arXiv:1609.04836.",
    )

    split: str = "train"

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the column ``sharpness``."""
        name = _named("sharpness", self.split)
        if point.initial is None:
            return _unknown(name, "the point does not know where its path started")
        landscape = point.landscape if self.split == "train" else point.on(self.split)
        before = None if point.previous is None else point.previous.measured(self)
        known = None if before is None else before.carry.get("loss_at_start")
        start = landscape.value(point.initial) if known is None else known
        if float(start) <= -1:
            return _unknown(name, f"the loss at the start is {float(start):.6g}, and 1 more is not positive")
        value = point.value() if self.split == "train" else landscape.value(point.theta)
        found = _found(name, 100 * float(value - start) / (1 + float(start)))
        return evolve(found, carry={"loss_at_start": start})


def _named(name: str, split: str) -> str:
    return name if split == "train" else f"{name}_{split}"


def _found(name: str, value: float) -> Measurement:
    warnings = () if math.isfinite(value) else (f"{name} is {value}: the path has left the finite numbers.",)
    return Measurement(scalars={name: value}, warnings=warnings)


def _unknown(name: str, why: str) -> Measurement:
    return Measurement(scalars={name: math.nan}, warnings=(f"{name} is unknown: {why}.",))


# Float64 copies of so many entries at a time: 8 MB, small beside the vectors for which copies would matter.
_PIECE = 2**20


def _pieces(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in range(0, len(a), _PIECE):
        piece = slice(begin, begin + _PIECE)
        yield a[piece].double(), b[piece].to(a.device).double()


def _dot(a: Tensor, b: Tensor) -> float:
    return sum(float(first @ second) for first, second in _pieces(a, b))


def _norm(vector: Tensor) -> float:
    return math.sqrt(_dot(vector, vector))
