"""The matrix itself, where it is small enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from landscape.errors import NonFiniteLossError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["DENSE_MEMORY", "finite", "formed", "matrix_bytes"]

#: Bytes that a matrix and what solves it may take: 16 GiB is enough for P = 26,000.
DENSE_MEMORY = 16 * 1024**3
#: Columns multiplied at a time.
_COLUMNS = 64


def matrix_bytes(size: int) -> int:
    """Return what three matrices of (P, P) in float64 take: the matrix, its eigenvectors and LAPACK's own."""
    return 24 * size**2


def finite(product: Tensor) -> Tensor:
    """Return a product as it is.

    Raises
    ------
    landscape.errors.NonFiniteLossError
        If anything in it is NaN or infinite.
    """
    import torch

    if not bool(torch.isfinite(product).all()):
        raise NonFiniteLossError(
            "A product with the curvature is NaN or infinite. Look at the loss here: it may have overflowed, "
            "or its second derivative may not exist at this point."
        )
    return product


def formed(
    matmat: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype, device: torch.device
) -> tuple[NDArray[np.float64], float]:
    """Form a symmetric matrix by P products, in blocks of columns.

    Parameters
    ----------
    matmat
        The product with columns, (P, n) to (P, n).
    size, dtype, device
        P, and of the columns.

    Returns
    -------
    matrix, asymmetry
        :math:`(A + A^T) / 2`, shape (P, P), float64, and the Frobenius norm of :math:`A - A^T`.

    Raises
    ------
    landscape.errors.NonFiniteLossError
        If a product is NaN or infinite.
    """
    import numpy as np
    import torch

    matrix = np.empty((size, size))
    for low in range(0, size, _COLUMNS):
        high = min(low + _COLUMNS, size)
        columns = torch.zeros(size, high - low, dtype=dtype, device=device)
        columns[low:high].fill_diagonal_(1)
        matrix[:, low:high] = finite(matmat(columns)).detach().cpu().double().numpy()
    squares = 0.0
    for low in range(0, size, _COLUMNS):
        part = slice(low, low + _COLUMNS)
        squares += float(((matrix[part] - matrix[:, part].T) ** 2).sum())
    matrix += matrix.T.copy()
    matrix /= 2
    return matrix, squares**0.5
