"""What principal component analysis makes of random walks: the picture that a path must differ from to say anything.

A random walk in many dimensions has no structure at all, and still its first two components explain three quarters of
its variance and draw a smooth arc: the coordinates along component k are a cosine of k half periods. What PCA shows of
a training path is a finding only so far as it is more than that.

References
----------
J. Antognini, J. Sohl-Dickstein. PCA of high dimensional random walks with comparison to neural network training.
NeurIPS 2018, section 3: the shares of variance and the cosines.

B. Hess. Convergence of sampling in protein simulations. Physical Review E 65, 031910, 2002: the cosine content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.errors import ConfigurationError
from landscape_projectors._quality import POINTS

if TYPE_CHECKING:
    from landscape.store import SnapshotSpan

__all__ = ["cosine_content", "random_walk_path", "random_walk_shares", "shares_of_random_walks"]


def random_walk_shares(snapshots: int) -> np.ndarray:
    """Return the share of the variance along each principal component of one random walk in many dimensions.

    The centred Gram matrix of T points of a walk whose steps are independent and equally long tends, as the number of
    dimensions grows, to the pseudo-inverse of the Laplacian of a path graph of T nodes. Its eigenvalues give

        share_k = 6 / ((T^2 - 1) 4 sin^2(pi k / 2T)),   k = 1 ... T - 1,

    and 6 / (pi^2 k^2) for many snapshots: 61 %, 15 %, 7 %, ... The number of dimensions does not appear as long as it
    is much larger than T.

    Parameters
    ----------
    snapshots
        T, the start included; at least 2.

    Returns
    -------
    numpy.ndarray
        Shape (T - 1,), falling, with sum 1.

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two snapshots.
    """
    if snapshots < 2:
        raise ConfigurationError(f"A random walk of {snapshots} snapshots does not walk; give at least 2.")
    k = np.arange(1, snapshots)
    return np.asarray(6.0 / ((snapshots**2 - 1) * 4.0 * np.sin(np.pi * k / (2 * snapshots)) ** 2))


def random_walk_path(snapshots: int, components: int = 2) -> np.ndarray:
    """Return where the principal components of a random walk in many dimensions have its snapshots.

    The coordinate of snapshot t = 1 ... T along component k is

        sqrt(2 share_k) cos(pi k (t - 1/2) / T),

    scaled so that the mean squared distance of the snapshots from their mean, in all dimensions together, is 1.

    Parameters
    ----------
    snapshots
        T, at least 2.
    components
        How many, at most T - 1.

    Returns
    -------
    numpy.ndarray
        Shape (T, components).

    Raises
    ------
    landscape.errors.ConfigurationError
        For fewer than two snapshots, or more components than there are.
    """
    shares = random_walk_shares(snapshots)
    if not 1 <= components <= len(shares):
        raise ConfigurationError(
            f"A random walk of {snapshots} snapshots has {len(shares)} components; {components} were asked for."
        )
    t, k = np.arange(snapshots)[:, None] + 0.5, np.arange(1, components + 1)
    return np.asarray(np.sqrt(2.0 * shares[:components]) * np.cos(np.pi * k * t / snapshots))


def shares_of_random_walks(span: SnapshotSpan) -> np.ndarray:
    """Return the shares of variance that the snapshots would have if every worker had walked at random.

    Each worker starts where it did and makes as many steps, independent of each other and all as long as the root of
    its mean squared step. In many dimensions such walks have the Gram matrix

        <x_s, x_t> = <a, b> + [same worker] length^2 min(s, t),

    a and b being the starts of the two workers; the shares are the eigenvalues of that matrix, centred, over their
    sum. For one worker they are those of :func:`random_walk_shares`, whatever its steps. A coupling's centre counts as
    a worker of its own. Of more than 2 000 snapshots, 2 000 evenly spaced rows are taken.

    Parameters
    ----------
    span
        The snapshots.

    Returns
    -------
    numpy.ndarray
        Shape (T - 1,), at most (1999,), falling, with sum 1.

    Raises
    ------
    landscape.errors.ConfigurationError
        When all snapshots are the same point.
    """
    points = np.asarray(span.coordinates, dtype=np.float64)
    names, steps = span.rows["worker"].astype(str).to_numpy(), span.rows["step"].to_numpy()
    chosen = np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int)
    place = np.full(len(points), -1)
    place[chosen] = np.arange(len(chosen))
    starts = np.zeros((len(chosen), points.shape[1]))
    walked = np.zeros((len(chosen), len(chosen)))
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(steps[rows], kind="stable")]
        squares = np.sum(np.diff(points[rows], axis=0) ** 2, axis=1)
        length = float(squares.mean()) if len(squares) else 0.0
        made = np.flatnonzero(place[rows] >= 0)
        here = place[rows[made]]
        starts[here] = points[rows[0]]
        walked[np.ix_(here, here)] = length * np.minimum.outer(made, made)
    gram = starts @ starts.T + walked
    gram = gram - gram.mean(axis=0)
    gram = gram - gram.mean(axis=1, keepdims=True)
    values = np.maximum(np.linalg.eigvalsh(0.5 * (gram + gram.T))[::-1][: len(gram) - 1], 0.0)
    if not values.sum() > 0:
        raise ConfigurationError(
            "All snapshots are the same point; there is no walk to compare with another."
        )
    return np.asarray(values / values.sum())


def cosine_content(coordinates: np.ndarray) -> np.ndarray:
    """Return how much of each coordinate of one path is the cosine that a random walk has there.

    With x_k(t) the coordinate along component k, without its mean,

        content_k = (2 / T) (sum_t cos(pi k (t - 1/2) / T) x_k(t))^2 / sum_t x_k(t)^2,

    between 0 and 1. Near 1 the component looks like diffusion, far below it does not. A path that drifts steadily has
    a content near 1 in the first component, too: 1 does not prove a random walk, but a small value disproves it.

    Parameters
    ----------
    coordinates
        Of one path along its principal components, in the order of its steps, shape (T, d).

    Returns
    -------
    numpy.ndarray
        Shape (d,); NaN along a component in which nothing moves.
    """
    coordinates = np.asarray(coordinates, dtype=np.float64)
    snapshots, components = coordinates.shape
    centred = coordinates - coordinates.mean(axis=0)
    t, k = np.arange(snapshots)[:, None] + 0.5, np.arange(1, components + 1)
    along = np.sum(np.cos(np.pi * k * t / snapshots) * centred, axis=0)
    squares = np.sum(centred**2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(squares > 0, 2.0 / snapshots * along**2 / squares, np.nan))
