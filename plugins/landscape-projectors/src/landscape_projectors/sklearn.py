"""Any projector as a scikit-learn transformer.

>>> import numpy as np
>>> from landscape_projectors.pca import PCA
>>> from landscape_projectors.sklearn import ProjectorTransformer
>>> X = np.outer(np.linspace(0, 1, 20), [1.0, 2.0, 0.0]) + np.eye(20, 3)
>>> ProjectorTransformer(PCA()).fit_transform(X).shape
(20, 2)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection, Projector
from landscape_projectors.pca import PCA

__all__ = ["ProjectorTransformer"]


class ProjectorTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fit a projector to rows of an array, with the methods and conventions of scikit-learn.

    Parameters
    ----------
    projector
        What is fitted; None: ``PCA()``.
    random_state
        Seed, or generator that a seed is drawn from, for projectors that are not deterministic; None draws one
        from numpy's global state, as everywhere in scikit-learn.

    Attributes
    ----------
    projection_
        What the projector fitted: coordinates, quality, axis labels.
    n_features_in_
        Number of columns.
    """

    def __init__(self, projector: Projector | None = None, random_state: Any = None) -> None:
        self.projector = projector
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> ProjectorTransformer:
        """Fit to the rows of X, shape (T, P); `y` is not looked at."""
        self._fit(X)
        return self

    def _fit(self, X: Any) -> None:
        import torch

        from landscape.store import SnapshotSpan

        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=3)
        projector = PCA() if self.projector is None else self.projector
        seed = int(check_random_state(self.random_state).randint(0, 2**31 - 1))
        span = SnapshotSpan.from_tensor(torch.from_numpy(np.array(X)))
        try:
            projection = projector.fit(span, torch.Generator().manual_seed(seed))
        except ConfigurationError as error:
            samples, features = X.shape
            raise ConfigurationError(
                f"{error} Got n_samples={samples}, n_features={features} ({features} feature(s))."
            ) from error
        self.projection_ = projection
        self._span, self._dtype = span, X.dtype
        self._n_features_out = projection.coordinates.shape[1]

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit to the rows of X and return where they stand in the picture, shape (T, d)."""
        self._fit(X)
        return np.asarray(self.projection_.coordinates, dtype=self._dtype)

    def transform(self, X: Any) -> np.ndarray:
        """Project rows, shape (K, P), to shape (K, d); their part outside the span is left out."""
        import torch

        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        coefficients = self._span.reduce(torch.from_numpy(np.array(X)))
        return np.asarray(self.projection_.transform(coefficients), dtype=X.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that coordinates, shape (G, d), lead back to, shape (G, P).

        Raises
        ------
        landscape.errors.ConfigurationError
            If the projection has no inverse.
        """
        check_is_fitted(self)
        if not isinstance(self.projection_, InvertibleProjection):
            raise ConfigurationError(f"A {type(self.projection_).__name__} has no inverse.")
        coordinates = np.asarray(X, dtype=np.float64)
        restored = self._span.restore(self.projection_.inverse(coordinates))
        return np.asarray(restored.numpy())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "projection_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
