"""Layouts of points that come without a map: how to place further points, and how to get back to weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import field, frozen
from scipy.spatial.distance import cdist

from landscape.interfaces import InvertibleProjection
from landscape_projectors._quality import fidelity

__all__ = ["NEIGHBOURS", "LayoutProjection"]

#: Nearest snapshots that place a further point, and lead it back; 12 surround a point in the plane twice.
NEIGHBOURS = 12


@frozen(eq=False)
class LayoutProjection(InvertibleProjection):
    """Positions of the snapshots in the picture, and maps between the two spaces that interpolate them.

    The method that made the layout has no map of its own, or one whose answer for a point depends on which other
    points are asked for with it. So both maps are made of the layout alone, and agree with it at the snapshots:

    - `transform` is Shepard's interpolation from the k = 12 nearest snapshots x_i, at positions z_i,
      ``z(x) = sum_i z_i / |x - x_i|^2 / sum_i 1 / |x - x_i|^2``.
    - `inverse` is the interpolation with radial basis functions of all snapshots,
      ``x(z) = a + sum_i c_i |z - z_i|`` with ``sum_i c_i = 0``; it does not swing beyond the data as smoother
      bases do, so a loss drawn between snapshots is one of weights between theirs.

    Snapshots at the same position lead back to their mean.

    Attributes
    ----------
    method
        Name at the axes.
    points
        The snapshots in the span's basis, shape (T, r).
    coordinates
        Their positions, shape (T, d).
    places
        The different positions, shape (n, d).
    way_back
        c and, in the last row, a, shape (n + 1, r).
    quality
        ``inverse_error``: root of the mean squared distance between a snapshot and what `inverse` gives at its position
        when the snapshot is left out of the fit, divided by the same distance from the mean: small where the picture
        tells which weights lie between snapshots, 1 where it knows no better than the mean; ``trustworthiness``,
        ``continuity``; and what the method minimises.
    """

    method: str
    points: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    way_back: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @classmethod
    def of(
        cls, method: str, points: np.ndarray, coordinates: np.ndarray, quality: Mapping[str, float]
    ) -> LayoutProjection:
        """Return the maps that belong to a layout, shape (T, d), of points of shape (T, r)."""
        coordinates = np.asarray(coordinates, dtype=np.float64)
        places, members, counts = np.unique(coordinates, axis=0, return_inverse=True, return_counts=True)
        values = np.zeros((len(places), points.shape[1]))
        np.add.at(values, members.ravel(), points)
        values /= counts[:, None]
        system = np.ones((len(places) + 1, len(places) + 1))
        system[:-1, :-1] = cdist(places, places)
        system[-1, -1] = 0.0
        inverted = np.linalg.inv(system)
        way_back = inverted[:, :-1] @ values
        # Leaving one point out changes the interpolant there by c_i / (A^-1)_ii (Rippa, 1999).
        missed = way_back[:-1] / np.diag(inverted)[:-1, None]
        spread = np.sqrt(np.mean(np.sum((values - values.mean(axis=0)) ** 2, axis=1)))
        found = {
            **quality,
            "inverse_error": float(np.sqrt(np.mean(np.sum(missed**2, axis=1))) / spread),
            **fidelity(points, coordinates),
        }
        return cls(method, points, coordinates, places, way_back, found)

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """``("t-SNE 1", "t-SNE 2")``; positions have no unit."""
        return tuple(f"{self.method} {i}" for i in range(1, self.coordinates.shape[1] + 1))

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Place points in the basis of the span, shape (K, r), among their neighbours, shape (K, d)."""
        asked = np.asarray(coefficients, dtype=np.float64)
        squared = cdist(asked, self.points, "sqeuclidean")
        nearest = np.argsort(squared, axis=1, kind="stable")[:, :NEIGHBOURS]
        near = np.take_along_axis(squared, nearest, axis=1)
        # Relative to the nearest: a point at a snapshot gets weights 1 and 0 and not infinity over infinity.
        closest = near[:, :1]
        weights = np.where(near > 0, closest / np.where(near > 0, near, 1.0), 1.0)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("kn,knd->kd", weights, self.coordinates[nearest]))

    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Interpolate the snapshots at positions, shape (G, d), in the basis of the span, shape (G, r)."""
        distances = cdist(np.asarray(coordinates, dtype=np.float64), self.places)
        return np.asarray(distances @ self.way_back[:-1] + self.way_back[-1])

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return points, coordinates, and what the way back consists of."""
        return {
            "points": self.points,
            "coordinates": self.coordinates,
            "places": self.places,
            "way_back": self.way_back,
        }
