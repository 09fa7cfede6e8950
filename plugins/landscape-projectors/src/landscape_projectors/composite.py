"""Projectors made of others: one after another, fitted on some of the snapshots, or on part of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection, Projection, Projector
from landscape.store import SnapshotSpan
from landscape.validators import of_type
from landscape_projectors._quality import fidelity
from landscape_projectors._requirements import require_different
from landscape_projectors.judging import JudgedProjector

if TYPE_CHECKING:
    import torch

__all__ = [
    "Chain",
    "ChainProjection",
    "FitOn",
    "InvertibleChainProjection",
    "InvertibleSubspaceProjection",
    "Part",
    "SubspaceProjection",
]


# ---------------------------------------------------------------------------------------------------------
# Some of the snapshots, part of the network
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class SubspaceProjection(Projection):
    """A projection that looks at a linear function of the points: ``transform(c) = inner((c - m) M)``.

    Attributes
    ----------
    inner
        The projection.
    offset
        m, shape (r,).
    matrix
        M, shape (r, s).
    coordinates, quality
        Of all snapshots.
    """

    inner: Projection
    offset: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Those of the inner projection."""
        return self.inner.axis_labels

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, d)."""
        points = np.asarray(coefficients, dtype=np.float64)
        return self.inner.transform((points - self.offset) @ self.matrix)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return the linear function, and the inner projection's arrays."""
        return _arrays(self)


@frozen(eq=False)
class InvertibleSubspaceProjection(InvertibleProjection):
    """As :class:`SubspaceProjection`, where M has orthonormal columns and the inner projection an inverse."""

    inner: InvertibleProjection
    offset: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Those of the inner projection."""
        return self.inner.axis_labels

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, d)."""
        points = np.asarray(coefficients, dtype=np.float64)
        return self.inner.transform((points - self.offset) @ self.matrix)

    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points at coordinates, shape (G, d), in the basis of the span, shape (G, r)."""
        return np.asarray(self.offset + self.inner.inverse(coordinates) @ self.matrix.T)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return the linear function, and the inner projection's arrays."""
        return _arrays(self)


def _arrays(projection: SubspaceProjection | InvertibleSubspaceProjection) -> dict[str, np.ndarray]:
    return {
        "offset": projection.offset,
        "matrix": projection.matrix,
        "coordinates": projection.coordinates,
        **{f"inner.{name}": array for name, array in projection.inner.to_arrays().items()},
    }


@frozen
class FitOn(JudgedProjector):
    """Fit another projector to some of the points' snapshots, and project all of them.

    What the first network alone shows, and where the others lie in it: their part outside the space that the
    fitted snapshots span is projected away orthogonally, and counts as lost in the quality.

    Parameters
    ----------
    projector
        What is fitted.
    workers
        Names of the workers (networks) whose snapshots it is fitted on. Empty: the first of the rows.
    """

    projector: Projector = field(validator=of_type(Projector, "a projector"))
    workers: tuple[str, ...] = field(default=(), converter=lambda names: tuple(str(name) for name in names))

    def fit(
        self, span: SnapshotSpan, generator: torch.Generator
    ) -> SubspaceProjection | InvertibleSubspaceProjection:
        """Fit to the snapshots of the workers; all of `span` is projected.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there is no such worker, or the projector cannot be fitted to its snapshots.
        """
        import torch

        names = span.rows["worker"].astype(str)
        workers = self.workers or (str(names.iloc[0]),)
        for worker in workers:
            if worker not in set(names):
                raise ConfigurationError(
                    f"FitOn: no snapshots of worker {worker!r}; there are those of {', '.join(dict.fromkeys(names))}."
                )
        chosen = names.isin(workers).to_numpy()
        points = np.asarray(span.coordinates, dtype=np.float64)
        # Within the few coordinates of the whole span: no further pass over the weights.
        some = SnapshotSpan.from_tensor(
            torch.from_numpy(points[chosen]), rows=span.rows[chosen].reset_index(drop=True)
        )
        require_different(self.projector, some.coordinates)
        inner = self.projector.fit(some, generator)
        offset = points[chosen].mean(axis=0)
        matrix = _basis_of(some).T @ (points[chosen] - offset)
        return _subspace(inner, points, offset, matrix.T, invertible=True)


@frozen
class Part(JudgedProjector):
    """Fit another projector to part of the network: some layers, weights without biases, a mean of layers.

    Several of them show layers separately. All of them together cost one pass over the snapshots. There is no
    way back to whole networks, because the picture does not say what the other weights are; so no loss can be
    drawn under it, except by ``landscape.restrict``.

    Parameters
    ----------
    projector
        What is fitted.
    patterns
        Names or patterns of the parameters to look at, such as ``"layer1.*"`` or ``"*.weight"``; empty: all.
    average
        Patterns of layers that are replaced by their mean, such as ``"layer[2-4]"``; empty: none.
    """

    projector: Projector = field(validator=of_type(Projector, "a projector"))
    patterns: tuple[str, ...] = field(
        default=(), converter=lambda value: (value,) if isinstance(value, str) else tuple(value)
    )
    average: tuple[str, ...] = field(
        default=(), converter=lambda value: (value,) if isinstance(value, str) else tuple(value)
    )

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> SubspaceProjection:
        """Fit to the part of the snapshots of `span`.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the snapshots have no layout, a pattern matches nothing, or the layers to average differ in shape.
        """
        part = span.part(self.patterns) if self.patterns else span
        part = part.average(self.average) if self.average else part
        points = np.asarray(span.coordinates, dtype=np.float64)
        # With V = B^T X and W the bases of the span and of the part, a point c V of the span has the part's
        # coordinates c (V_p W^T) with V_p = B^T X_p, and X_p W^T are the coordinates of the snapshots in the part.
        matrix = _basis_of(span).T @ np.asarray(part.coordinates, dtype=np.float64)
        inner = self.projector.fit(part, generator)
        found = _subspace(inner, points, np.zeros(points.shape[1]), matrix, invertible=False)
        # What the picture keeps is to be compared with the part, not with the whole network.
        return evolve(found, quality=inner.quality, coordinates=np.asarray(inner.coordinates))


def _basis_of(span: SnapshotSpan) -> np.ndarray:
    """Return B, shape (T, r), so that the rows of ``B.T @ X`` are the span's basis for centred snapshots X."""
    coordinates = np.asarray(span.coordinates, dtype=np.float64)
    return np.asarray(coordinates / np.sum(coordinates**2, axis=0))


def _subspace(
    inner: Projection, points: np.ndarray, offset: np.ndarray, matrix: np.ndarray, *, invertible: bool
) -> SubspaceProjection | InvertibleSubspaceProjection:
    matrix = np.ascontiguousarray(matrix)  # as it comes back from disk, or sums differ in their last bit
    coordinates = inner.transform((points - offset) @ matrix)
    if invertible and isinstance(inner, InvertibleProjection):
        restored = offset + inner.inverse(coordinates) @ matrix.T
        quality = {**inner.quality, **fidelity(points, coordinates, restored)}
        return InvertibleSubspaceProjection(inner, offset, matrix, coordinates, quality)
    return SubspaceProjection(
        inner, offset, matrix, coordinates, {**inner.quality, **fidelity(points, coordinates)}
    )


# ---------------------------------------------------------------------------------------------------------
# One after another
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class ChainProjection(Projection):
    """Two projections, the second of what the first makes.

    Attributes
    ----------
    first
        From the span.
    second
        From the coordinates of the first, given in a basis of their own.
    offset
        Mean of the first coordinates, shape (s,).
    basis
        The directions in which the second sees them, as rows, shape (q, s).
    coordinates, quality
        Of the snapshots. Trustworthiness and continuity compare the picture with the span; what belongs to the
        second alone, such as a quantisation error, is taken over from it.
    """

    first: Projection
    second: Projection
    offset: np.ndarray = field(repr=False)
    basis: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Those of the second."""
        return self.second.axis_labels

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, d)."""
        return self.second.transform((self.first.transform(coefficients) - self.offset) @ self.basis.T)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return the arrays of both, and what is between them."""
        return _chain_arrays(self)


@frozen(eq=False)
class InvertibleChainProjection(InvertibleProjection):
    """As :class:`ChainProjection`, where both have an inverse."""

    first: InvertibleProjection
    second: InvertibleProjection
    offset: np.ndarray = field(repr=False)
    basis: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Those of the second."""
        return self.second.axis_labels

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, d)."""
        return self.second.transform((self.first.transform(coefficients) - self.offset) @ self.basis.T)

    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points at coordinates, shape (G, d), in the basis of the span, shape (G, r)."""
        return self.first.inverse(self.offset + self.second.inverse(coordinates) @ self.basis)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return the arrays of both, and what is between them."""
        return _chain_arrays(self)


def _chain_arrays(chain: ChainProjection | InvertibleChainProjection) -> dict[str, np.ndarray]:
    return {
        "offset": chain.offset,
        "basis": chain.basis,
        "coordinates": chain.coordinates,
        **{f"first.{name}": array for name, array in chain.first.to_arrays().items()},
        **{f"second.{name}": array for name, array in chain.second.to_arrays().items()},
    }


#: What a projector says about its own map, of which the second of a chain sees only the first's coordinates.
_COMPARED = ("explained_variance", "off_plane_share", "trustworthiness", "continuity", "inverse_error")


@frozen
class Chain(JudgedProjector):
    """Project what another projector made: ``Chain(Autoencoder(dimensions=16), SOM())``.

    Parameters
    ----------
    first
        Applied to the snapshots.
    second
        Applied to the coordinates that the first gives them; a further Chain makes a longer one.
    """

    first: Projector = field(validator=of_type(Projector, "a projector"))
    second: Projector = field(validator=of_type(Projector, "a projector"))

    def fit(
        self, span: SnapshotSpan, generator: torch.Generator
    ) -> ChainProjection | InvertibleChainProjection:
        """Fit the first to the snapshots of `span`, and the second to what comes out.

        Raises
        ------
        landscape.errors.ConfigurationError
            When one of them cannot be fitted.
        """
        import torch

        first = self.first.fit(span, generator)
        between = np.asarray(first.coordinates, dtype=np.float64)
        inner = SnapshotSpan.from_tensor(torch.from_numpy(between.copy()), rows=span.rows)
        second = self.second.fit(inner, generator)
        offset = between.mean(axis=0)
        basis = _basis_of(inner).T @ (between - offset)
        points = np.asarray(span.coordinates, dtype=np.float64)
        coordinates = np.asarray(second.coordinates)
        own = {
            name: value
            for name, value in second.quality.items()
            if name not in _COMPARED and not name.startswith(("explained_variance", "cosine_content"))
        }
        if isinstance(first, InvertibleProjection) and isinstance(second, InvertibleProjection):
            chain = InvertibleChainProjection(first, second, offset, basis, coordinates, {})
            return evolve(chain, quality=own | fidelity(points, coordinates, chain.inverse(coordinates)))
        return ChainProjection(first, second, offset, basis, coordinates, own | fidelity(points, coordinates))
