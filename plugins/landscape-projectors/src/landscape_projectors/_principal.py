"""Principal axes of points, with signs that do not depend on how they were computed."""

from __future__ import annotations

import numpy as np
from attrs import frozen

__all__ = ["PrincipalAxes"]


@frozen(eq=False)
class PrincipalAxes:
    """The singular value decomposition of points about their mean.

    Attributes
    ----------
    centre
        Mean of the points, shape (r,).
    components
        Orthonormal rows, the direction of most variance first, shape (q, r).
    scores
        Coordinates of the points along them, shape (T, q).
    variance
        Mean square of each column of `scores`, shape (q,), falling.
    total
        Variance of the points in all directions.
    """

    centre: np.ndarray
    components: np.ndarray
    scores: np.ndarray
    variance: np.ndarray
    total: float

    @classmethod
    def of(cls, points: np.ndarray) -> PrincipalAxes:
        """Decompose points of shape (T, r).

        A component and its negative are equally principal. The one is taken along which the point farthest
        from the mean has a positive coordinate. Of points that are equally far, up to rounding, the first
        decides, so that the picture is the same on every machine.
        """
        points = np.asarray(points, dtype=np.float64)
        centre = points.mean(axis=0)
        left, singular, right = np.linalg.svd(points - centre, full_matrices=False)
        scores = left * singular
        for column in range(len(singular)):
            size = np.abs(scores[:, column])
            farthest = int(np.argmax(size >= size.max() * (1 - 1e-9)))
            if scores[farthest, column] < 0:
                scores[:, column] *= -1
                right[column] *= -1
        variance = singular**2 / len(points)
        return cls(centre, right, scores, variance, float(variance.sum()))
