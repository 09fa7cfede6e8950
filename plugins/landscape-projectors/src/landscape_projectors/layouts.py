"""t-SNE, UMAP and PHATE: layouts of the snapshots that keep neighbourhoods."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import at_least, number, one_of, optional
from landscape_projectors._principal import PrincipalAxes
from landscape_projectors._requirements import optional_package, require_different, require_dimensions
from landscape_projectors._scattered import LayoutProjection
from landscape_projectors.judging import JudgedProjector

if TYPE_CHECKING:
    import torch

    from landscape.store import SnapshotSpan

__all__ = ["PHATE", "TSNE", "UMAP"]


def _start(points: np.ndarray, dimensions: int, size: float) -> np.ndarray:
    """Return principal components, shape (T, d), the first with a standard deviation of `size`."""
    scores = PrincipalAxes.of(points).scores[:, :dimensions]
    return np.ascontiguousarray(size * scores / scores[:, 0].std())


def _seed(generator: torch.Generator) -> int:
    """Return a seed for numpy's older generators, which take 32 bits."""
    import torch

    return int(torch.randint(0, 2**31 - 1, (), generator=generator))


@frozen
class TSNE(JudgedProjector):
    """Lay the snapshots out so that near ones stay near: t-distributed stochastic neighbour embedding.

    Distances between groups and the size of groups mean nothing in the picture. It starts from the principal
    components, and with scikit-learn's exact gradient nothing is random. It works on the snapshots' coordinates
    in their span, where neighbours are those of the raw weights: the lists of the 30 nearest were identical for
    300 snapshots of 8 040 and of 99 755 weights.

    Parameters
    ----------
    dimensions
        2 for a picture.
    perplexity
        How many neighbours count, roughly. None: 30, what van der Maaten and Hinton (2008, section 3.3) give as the
        middle of the usual range, but at most a third of the snapshots.
    iterations
        Steps of gradient descent; 1000 as in the paper's experiments (section 3.4).
    implementation
        ``"scikit-learn"``: the exact gradient, T^2 numbers. ``"openTSNE"``, from the extra ``opentsne``: the
        Barnes-Hut approximation for thousands of snapshots.
    """

    references: ClassVar[tuple[str, ...]] = (
        "L. van der Maaten, G. Hinton. Visualizing data using t-SNE. Journal of Machine Learning Research 9, 2008.",
        "P. G. Policar, M. Strazar, B. Zupan. openTSNE: a modular Python library for t-SNE dimensionality reduction "
        "and embedding. Journal of Statistical Software 109(3), 2024.",
    )

    dimensions: int = field(default=2, validator=at_least(1))
    perplexity: float | None = field(default=None, validator=optional(number(above=1.0)))
    iterations: int = field(default=1000, validator=at_least(250))
    implementation: Literal["scikit-learn", "openTSNE"] = field(
        default="scikit-learn", validator=one_of(("scikit-learn", "openTSNE"))
    )

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> LayoutProjection:
        """Fit to the snapshots of `span`; only openTSNE draws from `generator`.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the snapshots span fewer than `dimensions` dimensions or are not three times as many as the
            perplexity, or openTSNE is not installed.
        """
        points = np.asarray(span.coordinates, dtype=np.float64)
        require_dimensions(self, points, self.dimensions)
        perplexity = self.perplexity or min(30.0, max(1.01, (len(points) - 1) / 3))
        if 3 * perplexity > max(len(points) - 1, 3.03):
            raise ConfigurationError(
                f"TSNE(perplexity={perplexity:g}) cannot be fitted to {len(points)} snapshots; they must be "
                f"three times as many. Record more, or use a perplexity of at most {(len(points) - 1) / 3:.3g}."
            )
        start = _start(points, self.dimensions, 1e-4)  # as van der Maaten and Hinton start, section 3.4
        if self.implementation == "openTSNE":
            package = optional_package("TSNE(implementation='openTSNE')", "openTSNE", "openTSNE", "opentsne")
            found = package.TSNE(
                n_components=self.dimensions,
                perplexity=perplexity,
                n_iter=self.iterations - 250,
                early_exaggeration_iter=250,
                initialization=start,
                # Trees of approximate neighbours are random; T is small enough to look at all.
                neighbors="exact",
                negative_gradient_method="bh",
                random_state=_seed(generator),
                n_jobs=1,
            ).fit(points)
            return LayoutProjection.of(
                "t-SNE", points, np.asarray(found), {"kl_divergence": float(found.kl_divergence)}
            )
        method = optional_package("TSNE", "sklearn.manifold", "scikit-learn", "tsne").TSNE(
            n_components=self.dimensions,
            perplexity=perplexity,
            max_iter=self.iterations,
            init=start,
            method="exact",
            learning_rate="auto",
            random_state=0,  # not drawn from, with a start given and the exact gradient
        )
        layout = method.fit_transform(points)
        return LayoutProjection.of("t-SNE", points, layout, {"kl_divergence": float(method.kl_divergence_)})


@frozen
class UMAP(JudgedProjector):
    """Lay the snapshots out by uniform manifold approximation; needs the extra ``umap``.

    Placing further points and the way back to weights are not the package's own: its `transform` moves points
    that were there already, and depends on which are asked for together.

    Parameters
    ----------
    dimensions
        2 for a picture.
    neighbours
        Size of a neighbourhood; 15 is the package's default (McInnes, Healy and Melville 2018, section 4.3
        compare several).
    minimum_distance
        How close points may come in the picture; 0.1 is the package's default.
    """

    references: ClassVar[tuple[str, ...]] = (
        "L. McInnes, J. Healy, J. Melville. UMAP: uniform manifold approximation and projection for dimension "
        "reduction. arXiv 1802.03426, 2018.",
    )

    dimensions: int = field(default=2, validator=at_least(1))
    neighbours: int = field(default=15, validator=at_least(2))
    minimum_distance: float = field(default=0.1, validator=number(at_least=0.0))

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> LayoutProjection:
        """Fit to the snapshots of `span`, on one thread, which is what makes it repeatable.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the snapshots span fewer than `dimensions` dimensions, or umap-learn is not installed.
        """
        package = optional_package("UMAP", "umap", "umap-learn", "umap")
        points = np.asarray(span.coordinates, dtype=np.float64)
        require_dimensions(self, points, self.dimensions)
        method = package.UMAP(
            n_components=self.dimensions,
            n_neighbors=min(self.neighbours, len(points) - 1),
            min_dist=self.minimum_distance,
            init=_start(points, self.dimensions, 1.0).astype(np.float32),
            random_state=_seed(generator),
            n_jobs=1,
        )
        return LayoutProjection.of("UMAP", points, np.asarray(method.fit_transform(points)), {})


@frozen
class PHATE(JudgedProjector):
    """Lay the snapshots out by diffusion distances, which keep paths in one piece; needs the extra ``phate``.

    The package is under GPL-2, so it is never installed unasked.

    Parameters
    ----------
    dimensions
        2 for a picture.
    neighbours
        Nearest neighbours that set the width of the kernel; 5 is the package's default (Moon et al. 2019, methods).
    decay
        How fast the kernel falls; 40 is the package's default.
    time
        Steps of diffusion. None: where the entropy of the diffusion operator bends (Moon et al. 2019, methods).
    """

    references: ClassVar[tuple[str, ...]] = (
        "K. R. Moon et al. Visualizing structure and transitions in high-dimensional biological data. Nature "
        "Biotechnology 37, 2019.",
        "S. Horoi et al. Exploring the geometry and topology of neural network loss landscapes. IDA 2022.",
    )

    dimensions: int = field(default=2, validator=at_least(1))
    neighbours: int = field(default=5, validator=at_least(1))
    decay: float = field(default=40.0, validator=number(above=0.0))
    time: int | None = field(default=None, validator=optional(at_least(1)))

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> LayoutProjection:
        """Fit to the snapshots of `span`.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there are fewer than three different snapshots, or phate is not installed.
        """
        package = optional_package("PHATE", "phate", "phate", "phate")
        points = np.asarray(span.coordinates, dtype=np.float64)
        require_different(self, points)
        method = package.PHATE(
            n_components=self.dimensions,
            knn=min(self.neighbours, len(points) - 2),
            decay=self.decay,
            t="auto" if self.time is None else self.time,
            n_pca=None,  # the coordinates are principal components; a second, random PCA would cut them
            mds_solver="smacof",  # the default solver samples pairs
            random_state=_seed(generator),
            n_jobs=1,
            verbose=0,
        )
        with warnings.catch_warnings():
            # Its dependencies announce deprecations of their own.
            for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
                warnings.simplefilter("ignore", category)
            layout = np.asarray(method.fit_transform(points), dtype=np.float64)
        return LayoutProjection.of("PHATE", points, layout, {})
