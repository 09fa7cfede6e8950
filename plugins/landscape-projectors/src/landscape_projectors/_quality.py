"""How much of the truth a picture keeps: measures that need only distances before and after."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

__all__ = ["POINTS", "neighbourhood_preservation", "neighbours_compared"]

#: Points that are compared at most. Three tables of (T, T) are alive at once: 96 MB for 2 000 points.
POINTS = 2000


def neighbours_compared(points: int) -> int:
    """Return how many neighbours k are compared among `points` points.

    Ten, the number the measurements of this library's projections were made with, but fewer than half of
    the points: only then is the scale of trustworthiness and continuity a share (Venna & Kaski, 2001).
    """
    return max(1, min(10, (points - 1) // 2))


def neighbourhood_preservation(truth: np.ndarray, picture: np.ndarray) -> tuple[float, float]:
    """Return trustworthiness and continuity of a picture.

    With ``r(i, j)`` the rank of j among the neighbours of i in the truth, and ``U_k(i)`` those among the k
    nearest in the picture that are not among the k nearest in truth,

        trustworthiness = 1 - 2 / (T k (2T - 3k - 1)) * sum_i sum_{j in U_k(i)} (r(i, j) - k);

    continuity is the same with truth and picture exchanged. Trustworthiness falls when the picture shows
    neighbours that are none, continuity when it tears neighbours apart. Both are 1 at best. Of more than
    2 000 points, 2 000 evenly spaced rows are compared.

    Parameters
    ----------
    truth
        Shape (T, r).
    picture
        Shape (T, d), the same points.

    Returns
    -------
    tuple of float
        NaN twice for fewer than four points, where no k leaves the scale positive.

    References
    ----------
    J. Venna, S. Kaski. Neighborhood preservation in nonlinear projection methods: an experimental study.
    ICANN 2001, section 2.
    """
    if len(truth) > POINTS:
        chosen = np.linspace(0, len(truth) - 1, POINTS).round().astype(int)
        truth, picture = truth[chosen], picture[chosen]
    points = len(truth)
    if points < 4:
        return float("nan"), float("nan")
    k = neighbours_compared(points)
    near, shown = _ranks(truth), _ranks(picture)
    scale = 2.0 / (points * k * (2 * points - 3 * k - 1))
    trustworthiness = 1.0 - scale * np.sum(np.where(shown <= k, np.maximum(near - k, 0), 0))
    continuity = 1.0 - scale * np.sum(np.where(near <= k, np.maximum(shown - k, 0), 0))
    return float(trustworthiness), float(continuity)


def _ranks(points: np.ndarray) -> np.ndarray:
    """Return r(i, j), 1 for the nearest other point, shape (T, T); r(i, i) = 0; ties in the order of rows."""
    distances = cdist(points, points, "sqeuclidean")
    np.fill_diagonal(distances, -1.0)
    order = np.argsort(distances, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(points))[None, :], axis=1)
    return ranks


def fidelity(
    points: np.ndarray, coordinates: np.ndarray, restored: np.ndarray | None = None
) -> dict[str, float]:
    """Return what every projection of this plugin says about itself.

    Parameters
    ----------
    points
        The snapshots in the span's basis, shape (T, r).
    coordinates
        Where the picture has them, shape (T, d).
    restored
        Where the picture leads back to, shape (T, r), for maps with an inverse that is not exact by construction.

    Returns
    -------
    dict
        ``explained_variance``, with `restored`: 1 - sum |w - restored|^2 / sum |w - mean|^2;
        ``off_plane_share``, with `restored`: median of |w - restored| / |w - mean|;
        ``trustworthiness`` and ``continuity``: see :func:`neighbourhood_preservation`.
    """
    quality: dict[str, float] = {}
    if restored is not None:
        quality["explained_variance"] = explained_variance(points, restored)
        quality["off_plane_share"] = off_plane_share(points, np.linalg.norm(points - restored, axis=1))
    trustworthiness, continuity = neighbourhood_preservation(points, coordinates)
    return quality | {"trustworthiness": trustworthiness, "continuity": continuity}


def explained_variance(points: np.ndarray, restored: np.ndarray) -> float:
    """Return 1 - sum |w - restored|^2 / sum |w - mean|^2; it is negative where the mean is nearer."""
    total = float(np.sum((points - points.mean(axis=0)) ** 2))
    return 1.0 - float(np.sum((points - restored) ** 2)) / total


def off_plane_share(points: np.ndarray, off: np.ndarray) -> float:
    """Return the median of off / |w - mean| over the snapshots, without those at the mean itself."""
    length = np.linalg.norm(points - points.mean(axis=0), axis=1)
    away = length > 1e-12 * length.max()
    return float(np.median(off[away] / length[away]))


def topographic_error(distances: np.ndarray, neighbours: np.ndarray) -> float:
    """Return the share of points whose two nearest nodes do not touch.

    Parameters
    ----------
    distances
        From points to nodes, shape (T, nodes).
    neighbours
        Which nodes touch, bool of shape (nodes, nodes).
    """
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :2]
    return float(1.0 - neighbours[nearest[:, 0], nearest[:, 1]].mean())
