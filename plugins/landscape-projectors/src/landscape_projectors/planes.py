"""Planes that something else than the variance of the snapshots chose.

Random directions and the Hessian's eigenvectors do not lie in the span of the snapshots, so these planes lead
back to weights by themselves: :meth:`PlaneProjection.weights`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection, LandscapeProjector, Projection
from landscape.validators import at_least, one_of, optional
from landscape_projectors._quality import neighbourhood_preservation, off_plane_share
from landscape_projectors._requirements import require_different
from landscape_projectors.judging import JudgedProjector, judged

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape.store import SnapshotSpan

__all__ = [
    "HessianPlane",
    "PlaneProjection",
    "RandomDirections",
    "SpannedPlaneProjection",
    "ThreePoints",
    "normalised",
]


def row_of(span: SnapshotSpan, worker: str | None, step: int | None) -> int:
    """Return the row of a worker's snapshot at a step: by default the last step, and the first worker there.

    Raises
    ------
    landscape.errors.ConfigurationError
        If there is no such snapshot.
    """
    names = span.rows["worker"].astype(str).to_numpy()
    steps = span.rows["step"].to_numpy()
    if worker is not None and worker not in names:
        raise ConfigurationError(
            f"There is no snapshot of worker {worker!r}; there are those of {', '.join(dict.fromkeys(names))}."
        )
    chosen = np.full(len(names), True) if worker is None else names == worker
    wanted = steps[chosen].max() if step is None else step
    found = np.flatnonzero(chosen & (steps == wanted))
    if not len(found):
        shown = ", ".join(str(value) for value in np.unique(steps[chosen])[:8])
        raise ConfigurationError(f"There is no snapshot at step {step}; the first steps are {shown}.")
    return int(found[0])


@frozen(eq=False)
class PlaneProjection(Projection):
    """The orthogonal projection on a plane through a point, whose directions need not be orthogonal.

    With directions D (d, P) and origin o, the coordinates of w are the least-squares solution of D^T z = w - o,

        z = (D D^T)^(-1) D (w - o),        weights(z) = o + z D,

    so that a point of the plane gets the coordinates it was made of, also where directions are not orthogonal,
    as filter-normalised ones are not.

    Attributes
    ----------
    labels
        What stands at the axes.
    origin
        o, shape (P,), float64.
    directions
        D, shape (d, P), float64.
    shift, matrix
        z = shift + c matrix for a point with coordinates c in the span; shapes (d,) and (r, d).
    coordinates
        The snapshots' z, shape (T, d).
    quality
        ``off_plane_share``: median over the snapshots of their distance to the plane, divided by that to their
        mean; ``explained_variance``: 1 - the sum of the squares of the one over that of the other, negative
        where the plane is farther from the snapshots than their mean; ``largest_cosine`` between directions;
        ``trustworthiness``, ``continuity``.
    """

    labels: tuple[str, ...]
    origin: np.ndarray = field(repr=False)
    directions: np.ndarray = field(repr=False)
    shift: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @classmethod
    def of(
        cls,
        span: SnapshotSpan,
        row: int,
        directions: Tensor,
        labels: Sequence[str],
        extra: Mapping[str, float],
    ) -> PlaneProjection:
        """Return the plane through the snapshot of a row, along directions of shape (d, P), over a span."""
        import torch

        points = np.asarray(span.coordinates, dtype=np.float64)
        directions = directions.to("cpu", torch.float64)
        origin = span.weights([row])[0].double()
        mean = span.mean().double()
        # Directions as coordinates in the span, from one pass: reduce() takes the mean off.
        inside = span.reduce(mean + directions)
        gram = (directions @ directions.T).numpy()
        lengths = np.sqrt(np.diag(gram))
        if not lengths.all():
            raise ConfigurationError("A direction of the plane has length 0; choose other directions.")
        cosines = gram / np.outer(lengths, lengths)
        matrix = np.ascontiguousarray(np.linalg.solve(gram, inside).T)
        shift = -points[row] @ matrix
        coordinates = shift + points @ matrix
        # |w - o|^2 = |projection|^2 + |rest|^2; o is a snapshot, so w - o lies in the span.
        squares = np.sum((points - points[row]) ** 2, axis=1)
        rest = np.sqrt(np.maximum(0.0, squares - np.einsum("ti,ij,tj->t", coordinates, gram, coordinates)))
        total = float(np.sum((points - points.mean(axis=0)) ** 2))
        trustworthiness, continuity = neighbourhood_preservation(points, coordinates)
        quality = {
            **extra,
            "explained_variance": 1.0 - float(np.sum(rest**2)) / total,
            "off_plane_share": off_plane_share(points, rest),
            "largest_cosine": float(np.abs(cosines - np.eye(len(gram))).max()),
            "trustworthiness": trustworthiness,
            "continuity": continuity,
        }
        return cls(tuple(labels), origin.numpy(), directions.numpy(), shift, matrix, coordinates, quality)

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, d)."""
        return np.asarray(self.shift + np.asarray(coefficients, dtype=np.float64) @ self.matrix)

    def weights(self, coordinates: np.ndarray) -> Tensor:
        """Return the weight vectors at coordinates, shape (G, d), as float64 of shape (G, P)."""
        import torch

        z = torch.from_numpy(np.asarray(coordinates, dtype=np.float64).copy())
        return torch.from_numpy(self.origin) + z @ torch.from_numpy(self.directions)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return origin, directions and coordinates."""
        return {
            "origin": self.origin,
            "directions": self.directions,
            "shift": self.shift,
            "matrix": self.matrix,
            "coordinates": self.coordinates,
        }


# ---------------------------------------------------------------------------------------------------------
# Random directions
# ---------------------------------------------------------------------------------------------------------

Normalisation = Literal["filter", "layer", "none"]


def normalised(
    direction: Tensor,
    weights: Tensor,
    shapes: Mapping[str, tuple[int, ...]],
    normalisation: Normalisation,
    *,
    vectors: Literal["zero", "scale"] = "zero",
) -> Tensor:
    """Give a direction the lengths that the weights have, filter by filter or layer by layer.

    Parameters
    ----------
    direction, weights
        Shape (P,).
    shapes
        Of the parameters, in their order.
    normalisation
        ``"filter"``: each filter of the direction, one index of the first axis of a parameter of two axes or more,
        gets the norm of the same filter of the weights. ``"layer"``: each such parameter does. ``"none"``: as is.
    vectors
        Parameters of one axis or none, biases and the factors of normalisation layers: ``"zero"`` leaves them
        where they are, as Li et al. do; ``"scale"`` gives each of them the norm of the weights'.

    Returns
    -------
    torch.Tensor
        Shape (P,), float64. A filter whose weights are all zero stays where it is.
    """
    import torch

    if normalisation == "none":
        return direction.double().clone()
    found = []
    place = 0
    for shape in shapes.values():
        length = math.prod(shape)
        part = direction[place : place + length].double()
        own = weights[place : place + length].double()
        place += length
        if len(shape) < 2:
            rows = 1
            if vectors == "zero":
                found.append(torch.zeros_like(part))
                continue
        else:
            rows = shape[0] if normalisation == "filter" else 1
        part, own = part.view(rows, -1), own.view(rows, -1)
        found.append((part * (own.norm(dim=1) / part.norm(dim=1))[:, None]).reshape(-1))
    return torch.cat(found)


@frozen
class RandomDirections(JudgedProjector):
    """Project on random directions through one of the snapshots.

    Directions are Gaussian. Filter normalisation gives each filter of a direction the norm of that filter of the
    weights, so that surfaces of networks that differ only in the scale of their filters are the same (Li et al.
    2018, section 4). What is normalised stays so: the directions are not made orthogonal afterwards, which would
    change the norms again, and coordinates are found by least squares instead.

    Two random directions see next to nothing of a path: of P weights they hold the share d / P of its squared
    length. They are for the shape of the surface around a point, not for paths.

    Parameters
    ----------
    dimensions
        Number of directions.
    normalisation
        ``"filter"``, ``"layer"`` or ``"none"``: see :func:`normalised`. The first two need snapshots with a layout.
    vectors
        What happens to biases and factors: ``"zero"`` or ``"scale"``.
    worker, step
        Whose weights, and when, the directions start from. None: the last step, and the first worker there.
    """

    references: ClassVar[tuple[str, ...]] = (
        "H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein. Visualizing the Loss Landscape of Neural Nets. NeurIPS "
        "2018, section 4: filter normalisation.",
    )

    dimensions: int = field(default=2, validator=at_least(1))
    normalisation: Normalisation = field(default="filter", validator=one_of(("filter", "layer", "none")))
    vectors: Literal["zero", "scale"] = field(default="zero", validator=one_of(("zero", "scale")))
    worker: str | None = None
    step: int | None = field(default=None, validator=optional(at_least(0)))

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> PlaneProjection:
        """Draw the directions from `generator`, and project the snapshots of `span` on them.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there are fewer than three snapshots, no snapshot as asked for, or no layout to normalise by.
        """
        import torch

        require_different(self, np.asarray(span.coordinates))
        if self.normalisation != "none" and list(span.shapes) == [""]:
            raise ConfigurationError(
                f"RandomDirections(normalisation={self.normalisation!r}) needs the shapes of the parameters, and these "
                f"snapshots were recorded without a layout. Use normalisation='none'."
            )
        row = row_of(span, self.worker, self.step)
        weights = span.weights([row])[0]
        drawn = torch.randn(self.dimensions, span.size, generator=generator, dtype=torch.float64)
        directions = torch.stack(
            [normalised(one, weights, span.shapes, self.normalisation, vectors=self.vectors) for one in drawn]
        )
        labels = [f"random direction {i}" for i in range(1, self.dimensions + 1)]
        return PlaneProjection.of(span, row, directions, labels, {})


# ---------------------------------------------------------------------------------------------------------
# Eigenvectors of the Hessian
# ---------------------------------------------------------------------------------------------------------


@frozen
class HessianPlane(LandscapeProjector):
    """Project on the Hessian's leading eigenvectors at one of the snapshots, where the loss bends most.

    The eigenvectors are those that the probe ``HessianSpectrum`` finds there.

    Parameters
    ----------
    dimensions
        Number of eigenvectors.
    worker, step
        Whose weights, and when. None: the last step, and the first worker there.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Z. Yao, A. Gholami, K. Keutzer, M. Mahoney. PyHessian: neural networks through the lens of the Hessian. "
        "IEEE Big Data 2020, section IV: the loss along the top eigenvectors.",
    )

    dimensions: int = field(default=2, validator=at_least(1))
    worker: str | None = None
    step: int | None = field(default=None, validator=optional(at_least(0)))

    def fit_to(self, landscape: Landscape, span: SnapshotSpan, generator: torch.Generator) -> PlaneProjection:
        """Find the eigenvectors at the snapshot, and project the snapshots of `span` on them.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there are fewer than three snapshots, no snapshot as asked for, or a span of other weights than the
            landscape's.
        """
        import torch

        from landscape.objective import Point

        require_different(self, np.asarray(span.coordinates))
        if span.size != landscape.size:
            raise ConfigurationError(
                f"HessianPlane: the snapshots have {span.size} weights and the landscape {landscape.size}. Fit it to "
                f"the whole network, or to landscape.restrict() with the same part."
            )
        row = row_of(span, self.worker, self.step)
        seed = int(torch.randint(0, 2**62, (), generator=generator))
        point = Point(landscape, span.weights([row])[0], seed=seed)
        measured = point.measure("HessianSpectrum", k=self.dimensions)
        values = np.asarray(measured.arrays["hessian_eigenvalues"])
        vectors = torch.as_tensor(measured.carry["eigenvectors"]).to("cpu", torch.float64)[: self.dimensions]
        # An eigenvector has no sign of its own; the entry of largest magnitude, the first of several, is positive.
        sizes = vectors.abs()
        largest = (sizes >= (1 - 1e-6) * sizes.amax(dim=1, keepdim=True)).int().argmax(dim=1)
        vectors = vectors * vectors.gather(1, largest[:, None]).sign()
        labels = [f"eigenvector {i} (λ = {value:.3g})" for i, value in enumerate(values, start=1)]
        extra = {f"eigenvalue_{i}": float(value) for i, value in enumerate(values, start=1)}
        return judged(PlaneProjection.of(span, row, vectors, labels, extra), landscape, span)


# ---------------------------------------------------------------------------------------------------------
# Three points
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class SpannedPlaneProjection(InvertibleProjection):
    """The orthogonal projection on a plane in the span, with orthonormal axes: see :class:`ThreePoints`.

    Attributes
    ----------
    origin
        Shape (r,).
    axes
        Orthonormal rows, shape (2, r).
    corners
        Coordinates of the three points, shape (3, 2).
    coordinates
        Of the snapshots, shape (T, 2).
    quality
        ``explained_variance``, ``off_plane_share``, ``trustworthiness``, ``continuity``.
    """

    origin: np.ndarray = field(repr=False)
    axes: np.ndarray = field(repr=False)
    corners: np.ndarray
    coordinates: np.ndarray = field(repr=False)
    quality: Mapping[str, float]

    @property
    def axis_labels(self) -> tuple[str, ...]:
        """Along the line from the first to the second point, and across it."""
        return ("along points 1 and 2", "across")

    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Project points in the basis of the span, shape (K, r), to shape (K, 2)."""
        return np.asarray((np.asarray(coefficients, dtype=np.float64) - self.origin) @ self.axes.T)

    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points of the plane, shape (G, 2), in the basis of the span, shape (G, r)."""
        return np.asarray(self.origin + np.asarray(coordinates, dtype=np.float64) @ self.axes)

    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return origin, axes, corners and coordinates."""
        return {
            "origin": self.origin,
            "axes": self.axes,
            "corners": self.corners,
            "coordinates": self.coordinates,
        }


def _points(value: Sequence[Sequence[str | int | None]]) -> tuple[tuple[str | None, int | None], ...]:
    try:
        return tuple(
            (None if worker is None else str(worker), None if step is None else int(step))
            for worker, step in value
        )
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"ThreePoints: points={value!r} are no pairs of worker and step, such as (('0', 0), ('0', 50), ('1', 50))."
        ) from None


@frozen
class ThreePoints(JudgedProjector):
    """Project on the plane through three snapshots.

    With w1, w2, w3 the points, ``u = w2 - w1`` and ``v = w3 - w1 - <w3 - w1, u> u / |u|^2``, the axes are
    ``u / |u|`` and ``v / |v|`` through w1 (Garipov et al. 2018, appendix A.1). All three lie in the plane, so the loss
    drawn under them is theirs.

    Parameters
    ----------
    points
        Worker and step of each, such as ``(("0", 0), ("0", None), ("1", None))``; step None: the worker's last; worker
        None: the first worker there. Empty: the ends of the first three workers, or, of fewer, the first, the middle
        and the last snapshot of the first worker.
    """

    references: ClassVar[tuple[str, ...]] = (
        "T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. G. Wilson. Loss surfaces, mode connectivity, and fast "
        "ensembling of DNNs. NeurIPS 2018, appendix A.1.",
    )

    points: tuple[tuple[str | None, int | None], ...] = field(default=(), converter=_points)

    @points.validator
    def _check_points(self, attribute: object, value: tuple[tuple[str | None, int | None], ...]) -> None:
        if len(value) not in (0, 3):
            raise ConfigurationError(
                f"ThreePoints: points={value!r} are {len(value)}; give three pairs of worker and step, or none."
            )

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> SpannedPlaneProjection:
        """Fit to the snapshots of `span`; `generator` is not drawn from.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there is no snapshot as asked for, or the three lie on a line.
        """
        found = np.asarray(span.coordinates, dtype=np.float64)
        require_different(self, found)
        rows = [row_of(span, worker, step) for worker, step in self.points] or _three(span)
        first, second, third = found[rows]
        along, across = second - first, third - first
        length = np.linalg.norm(along)
        unit = along / length if length else along
        across = across - (across @ unit) * unit
        across = (
            across - (across @ unit) * unit
        )  # once more: the first time leaves rounding of the larger part
        size = max(length, float(np.linalg.norm(third - first)))
        # Coordinates are exact to about half of the digits, as the Gram matrix they come from has all of them.
        if length <= 1e-7 * size or np.linalg.norm(across) <= 1e-7 * size:
            where = ", ".join(f"{span.rows['worker'][row]} at step {span.rows['step'][row]}" for row in rows)
            raise ConfigurationError(f"ThreePoints: the points ({where}) lie on a line; choose others.")
        axes = np.stack([unit, across / np.linalg.norm(across)])
        fitted = SpannedPlaneProjection(first, axes, (found[rows] - first) @ axes.T, np.empty((0, 2)), {})
        coordinates = fitted.transform(found)
        off = np.linalg.norm(found - fitted.inverse(coordinates), axis=1)
        trustworthiness, continuity = neighbourhood_preservation(found, coordinates)
        total = float(np.sum((found - found.mean(axis=0)) ** 2))
        quality = {
            "explained_variance": 1.0 - float(np.sum(off**2)) / total,
            "off_plane_share": off_plane_share(found, off),
            "trustworthiness": trustworthiness,
            "continuity": continuity,
        }
        return SpannedPlaneProjection(first, axes, fitted.corners, coordinates, quality)


def _three(span: SnapshotSpan) -> list[int]:
    names = span.rows["worker"].astype(str).to_numpy()
    workers = list(dict.fromkeys(names))
    if len(workers) >= 3:
        return [row_of(span, worker, None) for worker in workers[:3]]
    own = np.flatnonzero(names == workers[0])
    own = own[np.argsort(span.rows["step"].to_numpy()[own], kind="stable")]
    return [int(own[0]), int(own[len(own) // 2]), int(own[-1])]
