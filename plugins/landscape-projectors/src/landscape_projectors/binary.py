"""Weights as bits, and bits as two integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

from landscape.interfaces import Projection
from landscape.validators import number
from landscape_projectors._quality import neighbourhood_preservation
from landscape_projectors._requirements import require_different
from landscape_projectors.judging import JudgedProjector

if TYPE_CHECKING:
    import torch

    from landscape.store import SnapshotSpan

__all__ = ["BinaryEncoder", "BinaryProjection"]

#: Bits of an integer that float64 holds exactly.
BITS = 53


@frozen(eq=False)
class BinaryProjection(Projection):
    """Two integers of the bits of thresholded weights.

    Attributes
    ----------
    threshold
        A weight above it is a 1.
    halves
        Number of bits of x, of y.
    mean, basis
        The weights that count, as a function of coordinates c in the span: ``mean + c basis``; shapes (n,), (r, n).
    coordinates
        Shape (T, 2), whole numbers.
    quality
        ``bits_used``: share of the weights that count; ``trustworthiness``, ``continuity``.
    """

    threshold: float
    halves: tuple[int, int]
    mean: np.ndarray = field(repr=False)
    basis: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """``("bits of the first half", "bits of the second half")``."""
        return ("bits of the first half", "bits of the second half")

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Encode points in the basis of the span, shape (K, r), as shape (K, 2)."""
        weights = self.mean + np.asarray(coefficients, dtype=np.float64) @ self.basis
        return encoded(weights > self.threshold, self.halves)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return threshold, halves, mean, basis and coordinates."""
        return {
            "threshold": np.array(self.threshold),
            "halves": np.array(self.halves),
            "mean": self.mean,
            "basis": self.basis,
            "coordinates": self.coordinates,
        }


def encoded(bits: np.ndarray, halves: tuple[int, int]) -> np.ndarray:
    """Return the integers of the first and the other bits, shape (K, 2), of bits of shape (K, sum of halves)."""
    first, second = halves
    parts = (bits[:, :first], bits[:, first : first + second])
    return np.stack([part @ 2.0 ** np.arange(part.shape[1] - 1, -1, -1) for part in parts], axis=1)


@frozen
class BinaryEncoder(JudgedProjector):
    """Read thresholded weights as two integers: the first half of the bits is x, the second half y.

    On weights that are all 0 or 1 this is a lattice on which each of up to 2^106 networks has a place of its own:
    the map of the weight-space experiment. On general weights the first bits of each half decide nearly
    everything, and of halves with more than 53 bits only the first 53 count, because no more fit into a number;
    ``quality["bits_used"]`` says how many. It does not lead back to weights.

    Parameters
    ----------
    threshold
        A weight above it is a 1; 0.5 for weights that are 0 or 1.
    """

    threshold: float = field(default=0.5, validator=number())

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> BinaryProjection:
        """Encode the snapshots of `span`; `generator` is not drawn from.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there are fewer than three snapshots, or all are the same.
        """
        points = np.asarray(span.coordinates, dtype=np.float64)
        require_different(self, points)
        middle = -(-span.size // 2)
        halves = (min(middle, BITS), min(span.size - middle, BITS))
        weights = np.concatenate(
            [
                span.weights(first=start, last=start + bits).double().numpy()
                for start, bits in zip((0, middle), halves, strict=True)
            ],
            axis=1,
        )
        mean = weights.mean(axis=0)
        basis = (points / np.sum(points**2, axis=0)).T @ (weights - mean)
        coordinates = encoded(weights > self.threshold, halves)
        trustworthiness, continuity = neighbourhood_preservation(points, coordinates)
        quality = {
            "bits_used": sum(halves) / span.size,
            "trustworthiness": trustworthiness,
            "continuity": continuity,
        }
        return BinaryProjection(self.threshold, halves, mean, basis, coordinates, quality)
