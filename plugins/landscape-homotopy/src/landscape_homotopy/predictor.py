"""The weights of the predicting polynomial, for arrays of numpy and of torch alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["hermite_weights"]

Array = TypeVar("Array", NDArray[np.float64], "torch.Tensor")


def hermite_weights(s: Array, nodes: Array) -> list[Array]:
    """Return by what values and slopes at the nodes are multiplied for the polynomial that has them to be at s.

    The polynomial is the sum over the nodes of values times (1 - 2 l'(t) (s - t)) l(s)^2 and slopes times
    (s - t) l(s)^2, l the Lagrange polynomial of the node t. Each node counts twice, so that k nodes give degree 2k - 1.

    Parameters
    ----------
    s
        Where, shape (B,).
    nodes
        Times, shape (B, k).

    Returns
    -------
    list of arrays
        Weights of the values at the k nodes, then of the slopes, each of shape (B,).
    """
    k = nodes.shape[1]
    values, slopes = [], []
    for i in range(k):
        ahead = s - nodes[:, i]
        # Ones and zeros of the kind of s, on its device.
        squared, derivative = 0.0 * s + 1.0, 0.0 * s
        for j in range(k):
            if j != i:
                inverse = 1.0 / (nodes[:, i] - nodes[:, j])
                squared = squared * ((s - nodes[:, j]) * inverse) ** 2
                derivative = derivative + inverse
        values.append((1.0 - 2.0 * derivative * ahead) * squared)
        slopes.append(ahead * squared)
    return values + slopes
