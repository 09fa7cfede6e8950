r"""Plain Lanczos runs: quadrature rules of spectral densities, interior eigenvalues, and resuming from disk.

After m steps from a unit vector z, with all vectors kept orthogonal, the tridiagonal matrix T gives nodes
:math:`t_i` (its eigenvalues) and weights :math:`w_i` (squares of the first components of its eigenvectors) with

.. math:: z^\top f(A) z = \sum_i w_i f(t_i)

exactly for polynomials f of degree up to 2m - 1 (Golub & Welsch 1969; Golub & Meurant 2010, ch. 6). The rule also
brackets the distribution of z over the spectrum: for :math:`t_i < t \le t_{i+1}` (Chebyshev, Markov and Stieltjes;
Szegő 1975, sec. 3.41),

.. math:: \sum_{j < i} w_j \;\le\; z^\top 1[A < t]\, z \;\le\; \sum_{j \le i + 1} w_j .

Without reorthogonalisation copies of converged eigenvalues come up again and again; with it, they do not, and the
vectors must be kept: m of P numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape_hessian.lanczos import orthogonalised

__all__ = ["LanczosRun", "extend_together"]

Floats = NDArray[np.float64]

#: A residual direction below so many units of rounding of the largest entry of T is no direction.
_ULPS = 32
#: Rows by which the basis grows.
_GROWTH = 16


class LanczosRun:
    """A Lanczos run with full reorthogonalisation, which can be extended, saved and taken up again.

    Parameters
    ----------
    matvec
        The product with a symmetric matrix, (P,) to (P,).
    start
        Where to start, shape (P,), not zero.
    beside
        Orthonormal rows, shape (n, P), to stay orthogonal to: the run is that of the matrix in their complement.

    Attributes
    ----------
    diagonal, coupling
        T's diagonal, shape (m,), and what stands beside it, shape (m,): ``coupling[m-1]`` is the norm of the
        residual after the last step, 0 where the space is invariant.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a start that is zero, within the span of `beside`, or not finite.
    """

    def __init__(
        self, matvec: Callable[[Tensor], Tensor], start: Tensor, beside: Tensor | None = None
    ) -> None:
        norm = torch.linalg.vector_norm(start)
        if not (torch.isfinite(norm) and norm > 0):
            raise ConfigurationError("A Lanczos run starts from a finite vector that is not zero.")
        self.matvec = matvec
        self._beside = 0 if beside is None else len(beside)
        self._rows = start.new_empty(self._beside + _GROWTH, len(start))
        first = start / norm
        if beside is not None and len(beside):
            self._rows[: self._beside] = beside
            first, _, left = orthogonalised(first, beside)
            if not float(left) > _ULPS * torch.finfo(start.dtype).eps:
                raise ConfigurationError(
                    "A Lanczos run starts from a vector outside of the span of `beside`."
                )
            first, _, left = orthogonalised(first / float(left), beside)
            first = first / float(left)
        self._rows[self._beside] = first
        self.diagonal: list[float] = []
        self.coupling: list[float] = []

    @property
    def steps(self) -> int:
        """How many products have been taken."""
        return len(self.diagonal)

    @property
    def basis(self) -> Tensor:
        """The orthonormal vectors as rows, shape (m, P)."""
        return self._rows[self._beside : self._beside + self.steps]

    @property
    def exhausted(self) -> bool:
        """Whether the space is invariant: no further step adds to it."""
        return bool(self.coupling) and self.coupling[-1] == 0

    def extend(self, steps: int) -> LanczosRun:
        """Take up to `steps` further steps; fewer where the space becomes invariant. Returns itself.

        Raises
        ------
        landscape.errors.NonFiniteLossError
            When a product is NaN or infinite.
        """
        for _ in range(steps):
            if self.exhausted:
                break
            self.take(self.matvec(self.vector))
        return self

    @property
    def vector(self) -> Tensor:
        """What the matrix is to be multiplied by next, shape (P,), of norm 1."""
        return self._rows[self._beside + self.steps]

    def take(self, product: Tensor) -> None:
        """Take a further step, given the product with :attr:`vector`.

        Raises
        ------
        landscape.errors.NonFiniteLossError
            When the product is NaN or infinite.
        """
        m = self._beside + self.steps
        if m + 1 == len(self._rows):
            more = self._rows.new_empty(min(_GROWTH, self._rows.shape[1] + 1 - m), self._rows.shape[1])
            self._rows = torch.cat([self._rows, more])
        vector, others = self._rows[m], self._rows[: m + 1]
        alpha = float(vector.double() @ product.double())
        rest, _, norm = orthogonalised(product, others)
        beta = float(norm)
        if not (np.isfinite(alpha) and np.isfinite(beta)):
            raise NonFiniteLossError("A product with the curvature is NaN or infinite.")
        self.diagonal.append(alpha)
        largest = max(map(abs, self.diagonal + self.coupling), default=0.0)
        if m + 1 == len(vector) or beta <= _ULPS * torch.finfo(vector.dtype).eps * largest:
            beta = 0.0
        self.coupling.append(beta)
        if beta:
            self._rows[m + 1] = rest / beta

    def _eigh(self) -> tuple[Floats, Floats]:
        off = np.array(self.coupling[:-1])
        matrix = np.diag(np.array(self.diagonal)) + np.diag(off, 1) + np.diag(off, -1)
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors

    def rule(self) -> tuple[Floats, Floats]:
        """Return nodes, rising, and weights, each of shape (m,); the weights are 1 together."""
        values, vectors = self._eigh()
        return values, vectors[0] ** 2

    def ritz(self) -> tuple[Floats, Floats, Floats]:
        """Return Ritz values, rising, the norms of their residuals, and their vectors in the basis as columns."""
        values, vectors = self._eigh()
        return values, self.coupling[-1] * np.abs(vectors[-1]), vectors

    def save(self, path: str | Path) -> None:
        """Write the run to a safetensors file."""
        from safetensors.torch import save_file

        rows = self._rows[: self._beside + self.steps + 1].cpu().clone()
        numbers = torch.tensor([self.diagonal, self.coupling], dtype=torch.float64)
        save_file({"rows": rows, "numbers": numbers, "beside": torch.tensor([self._beside])}, path)

    @classmethod
    def load(cls, path: str | Path, matvec: Callable[[Tensor], Tensor], device: str = "cpu") -> LanczosRun:
        """Return the run that was written to `path`; it goes on bit for bit as if it had never stopped.

        Parameters
        ----------
        path
            A file written by :meth:`save`.
        matvec
            The product with the same matrix.
        device
            Where the products are computed.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the file is none of a Lanczos run.
        """
        from safetensors.torch import load_file

        found = load_file(path, device=device)
        if set(found) != {"rows", "numbers", "beside"}:
            raise ConfigurationError(f"{path} is no Lanczos run: it holds {', '.join(sorted(found))}.")
        run = cls.__new__(cls)
        run.matvec = matvec
        run._beside = int(found["beside"])
        run.diagonal, run.coupling = found["numbers"].tolist()
        run._rows = torch.cat([found["rows"], found["rows"].new_empty(_GROWTH, found["rows"].shape[1])])
        return run


def extend_together(runs: Sequence[LanczosRun], matmat: Callable[[Tensor], Tensor], steps: int) -> None:
    """Extend several runs by up to `steps` steps each, with their vectors multiplied together.

    Parameters
    ----------
    runs
        Of the same matrix.
    matmat
        Its product with columns, (P, n) to (P, n).
    steps
        As for :meth:`LanczosRun.extend`.

    Raises
    ------
    landscape.errors.NonFiniteLossError
        When a product is NaN or infinite.
    """
    for _ in range(steps):
        going = [run for run in runs if not run.exhausted]
        if not going:
            return
        products = matmat(torch.stack([run.vector for run in going]).T)
        for run, product in zip(going, products.T, strict=True):
            run.take(product)
