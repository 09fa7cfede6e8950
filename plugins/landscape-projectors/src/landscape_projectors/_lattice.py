"""The lattice of a self-organising map: positions, neighbours and triangles of its nodes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from attrs import field, frozen

__all__ = ["Lattice", "nearest_on_triangles"]

#: Distance between neighbouring rows of a hexagonal lattice whose neighbours are at distance 1.
_ROW = np.sqrt(3.0) / 2.0


@frozen(eq=False)
class Lattice:
    """Nodes in rows and columns; node ``row * columns + column`` comes at that place of every array.

    Attributes
    ----------
    rows, columns
        At least 2 each.
    topology
        ``"rectangular"``: unit squares, 8 neighbours. ``"hexagonal"``: odd rows are shifted by half a
        column, rows are sqrt(3)/2 apart, and each node has 6 neighbours at distance 1.
    positions
        Where the nodes lie in the picture, shape (nodes, 2).
    triangles
        Nodes of the triangles that fill the convex hull of the positions, shape (triangles, 3).
    """

    rows: int
    columns: int
    topology: Literal["hexagonal", "rectangular"]
    positions: np.ndarray = field(init=False, repr=False)
    triangles: np.ndarray = field(init=False, repr=False)

    @positions.default
    def _place(self) -> np.ndarray:
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        if self.topology == "rectangular":
            return np.stack([column, row], axis=1).astype(np.float64)
        return np.stack([column + 0.5 * (row % 2), row * _ROW], axis=1)

    @triangles.default
    def _fill(self) -> np.ndarray:
        node = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        found: list[np.ndarray] = []

        def add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
            found.append(np.stack([a.ravel(), b.ravel(), c.ravel()], axis=1))

        lower, upper = node[:-1], node[1:]
        if self.topology == "rectangular":
            add(lower[:, :-1], lower[:, 1:], upper[:, 1:])
            add(lower[:, :-1], upper[:, 1:], upper[:, :-1])
        else:
            # Between an even row and the shifted row above it, and between a shifted row and the one above.
            even, odd = (lower[0::2], upper[0::2]), (lower[1::2], upper[1::2])
            add(even[0][:, :-1], even[0][:, 1:], even[1][:, :-1])
            add(even[0][:, 1:], even[1][:, 1:], even[1][:, :-1])
            add(odd[0][:, :-1], odd[1][:, 1:], odd[1][:, :-1])
            add(odd[0][:, :-1], odd[0][:, 1:], odd[1][:, 1:])
            # The notches that the shifted rows leave on the left, the others on the right.
            add(node[0:-2:2, 0], node[1:-1:2, 0], node[2::2, 0])
            add(node[1:-2:2, -1], node[3::2, -1], node[2:-1:2, -1])
        return np.concatenate(found)

    def squared_distances(self) -> np.ndarray:
        """Return the squared distances between nodes in the picture, shape (nodes, nodes)."""
        difference = self.positions[:, None, :] - self.positions[None, :, :]
        return np.asarray(np.sum(difference**2, axis=2))

    def neighbours(self) -> np.ndarray:
        """Return which nodes touch, bool of shape (nodes, nodes): 6 for hexagons, 8 for squares."""
        reach = 1.0 if self.topology == "hexagonal" else 2.0
        squared = self.squared_distances()
        return np.asarray((squared > 0.5) & (squared < reach + 1e-6))

    def cells(self) -> np.ndarray:
        """Return the corners of the nodes' cells, shape (nodes, corners, 2)."""
        if self.topology == "hexagonal":
            angles = np.pi / 6 + np.arange(6) * np.pi / 3
            corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(3.0)
        else:
            corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        return np.asarray(self.positions[:, None, :] + corners[None, :, :])


def nearest_on_triangles(
    squared: np.ndarray, between: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the point nearest to each of K points on a surface of triangles, in any dimension.

    Only squared distances are needed. With u = b - a, v = c - a the edges of triangle (a, b, c) and
    w = y - a, polarisation gives ``u.w = (|y-a|^2 + |u|^2 - |y-b|^2) / 2``, and the nearest point of the
    triangle's plane solves the 2 x 2 normal equations; outside the triangle the nearest point is on an edge.

    Parameters
    ----------
    squared
        Squared distances from the points to the nodes, shape (K, nodes).
    between
        Squared distances between the nodes, shape (nodes, nodes).
    triangles
        Shape (triangles, 3).

    Returns
    -------
    index
        The triangle that holds the nearest point, shape (K,); of equally near ones the first.
    barycentric
        Weights of its three nodes, non-negative with sum 1, shape (K, 3).
    """
    index = np.empty(len(squared), dtype=np.intp)
    barycentric = np.empty((len(squared), 3))
    # A block of points at a time: some thirty arrays of (points, triangles) are alive at once.
    block = max(1, 200_000 // len(triangles))
    for first in range(0, len(squared), block):
        rows = slice(first, first + block)
        index[rows], barycentric[rows] = _nearest_block(squared[rows], between, triangles)
    return index, barycentric


def _nearest_block(
    squared: np.ndarray, between: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = triangles.T
    ya, yb, yc = squared[:, a], squared[:, b], squared[:, c]
    uu, vv, bc = between[a, b], between[a, c], between[b, c]
    uv = 0.5 * (uu + vv - bc)
    uw, vw = 0.5 * (ya + uu - yb), 0.5 * (ya + vv - yc)
    determinant = uu * vv - uv * uv
    # A triangle that has collapsed to a segment or a point has no inside; its edges still stand.
    solid = determinant > 1e-14 * uu * vv
    safe = np.where(solid, determinant, 1.0)
    s, t = (vv * uw - uv * vw) / safe, (uu * vw - uv * uw) / safe
    inside = solid & (s >= 0) & (t >= 0) & (s + t <= 1)

    best = np.where(inside, ya - s * uw - t * vw, np.inf)
    weight_b, weight_c = np.where(inside, s, 0.0), np.where(inside, t, 0.0)
    weight_a = 1.0 - weight_b - weight_c

    # The three edges p -> q: parameter e of the nearest point, clipped to the edge.
    for p, yp, yq, length in (("ab", ya, yb, uu), ("ac", ya, yc, vv), ("bc", yb, yc, bc)):
        along = 0.5 * (yp + length - yq)
        e = np.clip(along / np.where(length > 0, length, 1.0), 0.0, 1.0)
        distance = yp - 2 * e * along + e * e * length
        closer = ~inside & (distance < best)
        best = np.where(closer, distance, best)
        edge = {"ab": (1 - e, e, 0.0), "ac": (1 - e, 0.0, e), "bc": (0.0, 1 - e, e)}[p]
        weight_a = np.where(closer, edge[0], weight_a)
        weight_b = np.where(closer, edge[1], weight_b)
        weight_c = np.where(closer, edge[2], weight_c)

    index = np.argmin(best, axis=1)
    chosen = np.arange(len(squared)), index
    return index, np.stack([weight_a[chosen], weight_b[chosen], weight_c[chosen]], axis=1)
