"""How far the points of a population are from each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from landscape.interfaces import Measurement, PopulationProbe
from landscape_walkers._between import coded, column

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from landscape.objective import Population

__all__ = ["PairwiseDistances", "distances"]

#: Entries of the points that are held in float64 at a time: 8 MB.
_PIECE = 2**20


@frozen
class PairwiseDistances(PopulationProbe):
    r"""The Euclidean distances :math:`|\theta_i - \theta_j|` between all points of a population.

    Differences and sums of squares are float64, whatever the weights are: near each other, two float32
    vectors have a distance of which :math:`|a|^2 + |b|^2 - 2 a \cdot b` would keep nothing.

    Columns of the row ``population``: ``distance_mean``, ``distance_min`` and ``distance_max`` over all pairs
    of workers; for every labelled point, such as a centre, ``distance_to_centre_mean``, ``_min`` and
    ``_max`` over the workers. NaN with a warning where there is one worker only.

    Arrays: ``distances``, shape (n, n), symmetric with zeros on the diagonal, workers first; ``labels``, the
    names of the rows in UTF-8 with zeros at the end, shape (n, width), uint8: ``bytes(row).rstrip(b"\0").decode()``
    is one.

    Costs no gradient; n (n - 1) / 2 passes over the weights.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> landscape = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(2, 1), torch.ones(2, 1)))
    >>> population = ls.Population(landscape, torch.tensor([[0.0, 0.0], [3.0, 4.0]]), step=0)
    >>> population.measure("PairwiseDistances").scalars["distance_mean"]
    5.0
    """

    def measure(self, population: Population, generator: torch.Generator) -> Measurement:
        """Return all distances."""
        workers = len(population.workers)
        found = distances([point.theta for point in population.points])
        scalars: dict[str, float] = {}
        warnings = []
        among = found[np.triu_indices(workers, 1)[0], np.triu_indices(workers, 1)[1]]
        scalars |= _summary("distance", among)
        if not len(among):
            warnings.append("there is one worker only, so distances between workers do not exist.")
        for index, label in enumerate(population.labels, start=workers):
            scalars |= _summary(f"distance_to_{column(label)}", found[index, :workers])
        if not np.isfinite(found).all():
            warnings.append("some points have left the finite numbers, and distances with them.")
        labels = coded([point.worker for point in population.points])
        return Measurement(
            scalars=scalars, arrays={"distances": found, "labels": labels}, warnings=tuple(warnings)
        )


def distances(points: Sequence[Tensor]) -> np.ndarray:
    """Return the Euclidean distances between vectors of shape (P,), as an (n, n) matrix in float64."""
    import torch

    count = len(points)
    squares = np.zeros((count, count))
    step = max(1, _PIECE // max(1, count))
    for begin in range(0, len(points[0]) if count else 0, step):
        piece = torch.stack([point[begin : begin + step].double() for point in points])
        for row in range(count - 1):
            squares[row, row + 1 :] += (piece[row + 1 :] - piece[row]).square_().sum(1).cpu().numpy()
    return np.sqrt(squares + squares.T)


def _summary(name: str, values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {f"{name}_{what}": math.nan for what in ("mean", "min", "max")}
    return {
        f"{name}_mean": float(values.mean()),
        f"{name}_min": float(values.min()),
        f"{name}_max": float(values.max()),
    }
