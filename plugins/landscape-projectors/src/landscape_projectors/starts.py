"""Where walks begin that explore weight space: on a lattice of 0/1 weights, and at its best and worst points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from attrs import field, frozen

from landscape.composition import (
    Experiment,
)  # when the program runs: fields are read from files by their types
from landscape.composition.progress import stage
from landscape.errors import ConfigurationError
from landscape.interfaces import Start
from landscape.validators import at_least, one_of

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["Ranked", "WeightLattice"]


def _patterns(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@frozen
class WeightLattice(Start):
    """Set some of the weights to 0 and 1, in every combination that a lattice of two integers reaches.

    Of the n chosen weights, the first half is read as the bits of x and the other as those of y, as
    :class:`~landscape_projectors.binary.BinaryEncoder` reads them. x and y take the values 0, step, 2 step, ...;
    worker k begins at the k-th pair, y running faster. ``WeightLattice.size`` says how many pairs there are. A walker
    that does not move (``SGD(lr=0.0, batch_size=1, workers=...)``) makes a map of weight space of it: each network's
    score is measured where it begins.

    Parameters
    ----------
    patterns
        Names or patterns of the parameters that are set.
    step
        Distance between neighbouring values of x, and of y. With 20 weights, 100 makes 11 x 11 networks, 10 makes
        103 x 103, 1 all of 2^20.
    first
        Pairs that are left out before the first worker's, so that several experiments share a lattice out.
    others
        What the other weights are: ``"initial"``, the model's own initialisation, the same for all, or ``"zero"``. A
        network whose first layer is zero gives all inputs the same output, so its scores are shares of classes.
    """

    patterns: tuple[str, ...] = field(converter=_patterns)
    step: int = field(default=100, validator=at_least(1))
    first: int = field(default=0, validator=at_least(0))
    others: Literal["initial", "zero"] = field(default="initial", validator=one_of(("initial", "zero")))

    @staticmethod
    def size(weights: int, step: int) -> int:
        """Return how many pairs a lattice of so many weights has."""
        return int(np.prod([-(-(2**bits) // step) for bits in _halves(weights)], dtype=object))

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape as it is, and positions of shape (workers, P).

        Raises
        ------
        landscape.errors.ConfigurationError
            When a pattern matches nothing, or the lattice has fewer pairs than there are workers.
        """
        import torch

        places = landscape.layout.indices(self.patterns)
        halves = _halves(len(places))
        count = self.size(len(places), self.step)
        if self.first + workers > count:
            raise ConfigurationError(
                f"WeightLattice: {len(places)} weights in steps of {self.step} make {count} networks; {workers} "
                f"workers from number {self.first} on are more. Use fewer workers, or a smaller step."
            )
        columns = -(-(2 ** halves[1]) // self.step)
        rows = [
            [
                bit
                for integer, width in zip(divmod(index, columns), halves, strict=True)
                for bit in _bits(integer * self.step, width)
            ]
            for index in range(self.first, self.first + workers)
        ]
        start = draw(0) if self.others == "initial" else torch.zeros_like(draw(0))
        positions = start.expand(workers, -1).clone()
        positions[:, places.to(positions.device)] = positions.new_tensor(rows)
        return landscape, positions


def _halves(weights: int) -> tuple[int, int]:
    first = -(-weights // 2)
    return first, weights - first


def _bits(value: int, width: int) -> list[float]:
    return [float(value >> place & 1) for place in range(width - 1, -1, -1)]


@frozen
class Ranked(Start):
    """Begin at the best and at the worst points where another experiment begins.

    The first half of the workers begins at the best points, one after another and from the first again when they are
    used up, the other half at the worst: ``samples=3`` and twelve workers start twice from each of six points. What is
    equally good counts in the order of the points.

    Parameters
    ----------
    experiment
        The experiment whose starts are compared, on its own training data; no step of it is made.
    samples
        How many of the best, and how many of the worst.
    by
        ``"score"``: higher is better; ``"loss"``: lower is.
    """

    experiment: Experiment = field()
    samples: int = field(default=3, validator=at_least(1))
    by: Literal["score", "loss"] = field(default="score", validator=one_of(("score", "loss")))

    @experiment.validator
    def _check(self, attribute: Any, value: Any) -> None:
        if not isinstance(value, Experiment):
            raise ConfigurationError(f"Ranked: experiment={value!r} is not an Experiment.")

    @staticmethod
    def groups(workers: int) -> dict[str, str]:
        """Return where each worker began, ``"best"`` or ``"worst"``, by its name."""
        return {str(k): "best" if k < workers // 2 else "worst" for k in range(workers)}

    def points(self) -> tuple[Landscape, Tensor, np.ndarray]:
        """Return the experiment's landscape, the points where it begins, (K, P), and their scores or losses, (K,).

        Raises
        ------
        landscape.errors.ConfigurationError
            When the experiment has fewer points than twice the samples, or no score.
        """
        import torch

        walk = self.experiment.walk()
        points = torch.stack([point.theta for point in walk.population().points])
        there = walk.landscape
        if len(points) < 2 * self.samples:
            raise ConfigurationError(
                f"Ranked: the experiment has {len(points)} points, fewer than {2 * self.samples}; use more workers or "
                f"fewer samples."
            )
        if self.by == "score" and not there.has_score:
            raise ConfigurationError("Ranked: the experiment has no score; use by='loss'.")
        measure = there.score if self.by == "score" else there.value
        values = []
        with stage(f"The {self.by} at every point to rank", len(points)) as progress:
            for point in points:
                values.append(float(measure(point)))
                progress.advance()
        return there, points, np.asarray(values)

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape as it is, and positions of shape (workers, P).

        Raises
        ------
        landscape.errors.ConfigurationError
            When the workers are not a multiple of twice the samples, the experiment has fewer points than twice the
            samples, no score, or another network.
        """
        import torch

        if workers % (2 * self.samples):
            raise ConfigurationError(
                f"Ranked: {workers} workers cannot begin equally often at {self.samples} best and {self.samples} worst "
                f"points; use a multiple of {2 * self.samples}."
            )
        there, points, values = self.points()
        if there.layout != landscape.layout:
            raise ConfigurationError(
                "Ranked: the experiment's network differs from this one in its parameters; use the same model and data "
                "of the same shape."
            )
        goodness = values if self.by == "score" else -values
        order = np.argsort(-goodness, kind="stable")
        worst = np.argsort(goodness, kind="stable")[: self.samples]
        half = workers // 2
        chosen = [order[: self.samples][k % self.samples] for k in range(half)]
        chosen += [worst[k % self.samples] for k in range(half)]
        return landscape, points[torch.as_tensor(np.array(chosen))].to(landscape.device, landscape.dtype)
