"""Principal component analysis of weight paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection
from landscape_projectors._principal import PrincipalAxes
from landscape_projectors._quality import neighbourhood_preservation
from landscape_projectors._requirements import require_dimensions
from landscape_projectors.judging import JudgedProjector
from landscape_projectors.random_walks import cosine_content, shares_of_random_walks

if TYPE_CHECKING:
    import torch

    from landscape.store import SnapshotSpan

__all__ = ["PCA", "PCAProjection"]


@frozen(eq=False)
class PCAProjection(InvertibleProjection):
    """The orthogonal projection on the plane (or line, or space) of most variance.

    With c the coordinates of a point in the span's orthonormal basis, m their mean over the snapshots and
    the rows of V the leading principal directions,

        transform(c) = V (c - m),        inverse(z) = m + V^T z.

    The basis is orthonormal in weight space, so lengths in the picture are lengths of weight vectors.

    Attributes
    ----------
    centre
        m, shape (r,).
    components
        V, shape (d, r).
    coordinates
        The snapshots in the plane, shape (T, d).
    explained
        Share of the snapshots' variance along each axis, shape (d,).
    quality
        ``explained_variance_1``, ... : `explained`; ``explained_variance``: their sum;
        ``off_plane_share``: median over the snapshots of |w - w in the plane| / |w - mean|, so 0 when the
        plane holds every snapshot; ``trustworthiness`` and ``continuity`` with 10 neighbours.
        ``explained_variance_of_random_walks_1``, ... and ``explained_variance_of_random_walks``: what walks at random
        from the same starts would have along each axis, and together, see
        :func:`~landscape_projectors.random_walks.shares_of_random_walks`; of one path also ``cosine_content_1``, ...:
        how much of each coordinate is the cosine that a random walk has there.
    """

    centre: np.ndarray = field(repr=False)
    components: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    explained: np.ndarray
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """``("PC 1 (61.0 %)", ...)``: the axis and its share of the variance."""
        return tuple(f"PC {i} ({100 * share:.1f} %)" for i, share in enumerate(self.explained, start=1))

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points given in the basis of the span, shape (K, r), to shape (K, d)."""
        return np.asarray((np.asarray(coefficients, dtype=np.float64) - self.centre) @ self.components.T)

    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points of the plane, shape (G, d), in the basis of the span, shape (G, r)."""
        return np.asarray(self.centre + np.asarray(coordinates, dtype=np.float64) @ self.components)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return centre, components, coordinates and shares of variance."""
        return {
            "centre": self.centre,
            "components": self.components,
            "coordinates": self.coordinates,
            "explained": self.explained,
        }


@frozen
class PCA(JudgedProjector):
    """Project on the directions along which the snapshots vary most.

    Nothing is random. The result is that of a PCA of the raw weight vectors, at the cost of one of the
    snapshots' few coordinates: the span's basis is orthonormal, so distances and angles are the same.

    Much explained variance alone does not mean that the picture found something: a random walk in many
    dimensions also puts most of its variance into the first two components, and draws Lissajous curves there
    (Antognini & Sohl-Dickstein, 2018). Every figure therefore states the explained variance together with
    the share of each path that lies off the plane, and with what random walks would have.

    Parameters
    ----------
    dimensions
        Number of axes d; 2 because a picture has two.
    """

    references: ClassVar[tuple[str, ...]] = (
        "K. Pearson. On lines and planes of closest fit to systems of points in space. Philosophical Magazine "
        "2(11), 1901.",
        "H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein. Visualizing the Loss Landscape of Neural Nets. "
        "NeurIPS 2018, section 7: PCA of the optimisation path.",
        "J. Antognini, J. Sohl-Dickstein. PCA of high dimensional random walks with comparison to neural "
        "network training. NeurIPS 2018.",
    )

    dimensions: int = field(default=2)

    @dimensions.validator
    def _check_dimensions(self, attribute: object, value: int) -> None:
        if value < 1:
            raise ConfigurationError(f"PCA: dimensions is {value}; it must be at least 1. Use 2 for a plane.")

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> PCAProjection:
        """Fit to the snapshots of `span`; `generator` is not drawn from.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the snapshots are fewer than three or span fewer than `dimensions` dimensions.
        """
        points = np.asarray(span.coordinates, dtype=np.float64)
        require_dimensions(self, points, self.dimensions)
        axes = PrincipalAxes.of(points)
        d = self.dimensions
        components, coordinates = axes.components[:d], axes.scores[:, :d]
        explained = axes.variance[:d] / axes.total

        length = np.linalg.norm(points - axes.centre, axis=1)
        off = np.linalg.norm(points - axes.centre - coordinates @ components, axis=1)
        # A snapshot at the mean itself has no direction that could point off the plane.
        away = length > 1e-12 * length.max()
        trustworthiness, continuity = neighbourhood_preservation(points, coordinates)
        quality = {f"explained_variance_{i}": float(share) for i, share in enumerate(explained, start=1)}
        quality["explained_variance"] = float(explained.sum())
        walks = shares_of_random_walks(span)
        walks = np.concatenate([walks, np.zeros(max(0, d - len(walks)))])[:d]
        quality |= {f"explained_variance_of_random_walks_{i}": float(s) for i, s in enumerate(walks, start=1)}
        quality["explained_variance_of_random_walks"] = float(walks.sum())
        quality |= _cosine_contents(span, coordinates)
        quality["off_plane_share"] = float(np.median(off[away] / length[away]))
        quality["trustworthiness"] = trustworthiness
        quality["continuity"] = continuity
        return PCAProjection(axes.centre, components, coordinates, explained, quality)


def _cosine_contents(span: SnapshotSpan, coordinates: np.ndarray) -> dict[str, float]:
    """Return the cosine content of each axis, for the snapshots of one path."""
    if span.rows["worker"].nunique() != 1:
        return {}
    order = np.argsort(span.rows["step"].to_numpy(), kind="stable")
    contents = cosine_content(coordinates[order])
    return {f"cosine_content_{i}": float(content) for i, content in enumerate(contents, start=1)}
