"""The relation A V = V H + Q B in memory: see :mod:`landscape_hessian.lanczos`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import NonFiniteLossError
from landscape_hessian.dense import finite

__all__ = ["Floats", "Krylov", "orthogonalised"]

Floats = NDArray[np.float64]

#: Columns handled at a time when the basis is rotated in place: bounds the scratch memory of a restart.
_CHUNK = 1 << 16
#: Weights summed at a time in the vectors' own precision, before sums go on in float64: on a CPU, where the
#: error grows with the number of terms, and on accelerators, which sum in trees. 16,384 float32 leave one unit.
_TERMS, _TERMS_OF_TREES = 1 << 14, 1 << 22
#: A direction shorter than so many units of rounding of what it was left over from is no direction.
_NOISE = 32
#: A vector that keeps so much of its length when it is made orthogonal, twice, need not be made so again.
_MOST_LEFT = 0.1
#: Where what is left along the basis, after known couplings have been removed, is this part of the new direction at
#: most, one pass makes that orthogonal to rounding: what it leaves is this part of the basis' own loss, plus rounding
#: (Daniel, Gragg, Kaufman & Stewart 1976, with 0.7; beside the known couplings it is 1e-6 in float32 as a rule).
_LITTLE_LEFT = 0.1


def _host(tensor: Tensor) -> Floats:
    """Copy to the CPU in float64; the one synchronisation of a step on an accelerator."""
    array: Floats = tensor.detach().to(device="cpu", dtype=torch.float64).numpy()
    return array


def _parts(vector: Tensor) -> Iterator[slice]:
    terms = _TERMS if vector.device.type == "cpu" else _TERMS_OF_TREES
    return (slice(low, low + terms) for low in range(0, len(vector), terms))


def _inner(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the products of rows, (n, P), with a vector, (P,): shape (n,), float64, summed as `_TERMS` says."""
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for part in _parts(vector):
        total += (rows[:, part] @ vector[part]).double()
    return total


def _norm(vector: Tensor) -> float:
    return math.sqrt(float(_inner(vector[None], vector)))


def orthogonalised(vector: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make a vector orthogonal to orthonormal rows, twice, with sums over the weights that go on in float64.

    Parameters
    ----------
    vector, others
        Shapes (P,) and (n, P).

    Returns
    -------
    rest, inside, norm
        What is left, shape (P,); the components removed, shape (n,), float64; and the norm of the rest, float64.
    """
    first = _inner(others, vector)
    rest, second, norm = _removed(vector, others, first)
    return rest, first + second, norm


def _removed(vector: Tensor, others: Tensor, known: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Remove components that are known, and what is found to be left of all; see :func:`orthogonalised`.

    `known` are the components along the rows from `start` on; along those before, there are none. Returned are
    the rest, the components found left, (n,), and the norm of the rest.
    """
    rest = torch.empty_like(vector)
    left = torch.zeros(len(others), dtype=torch.float64, device=vector.device)
    away, coupled = known.to(vector), others[start : start + len(known)]
    for part in _parts(vector):
        # Removed and multiplied again while the part is in the cache.
        torch.sub(vector[part], away @ coupled[:, part], out=rest[part])
        left += (others[:, part] @ rest[part]).double()
    away = left.to(vector)
    square = torch.zeros((), dtype=torch.float64, device=vector.device)
    for part in _parts(vector):
        rest[part] -= away @ others[:, part]
        square += (rest[part] @ rest[part]).double()
    return rest, left, square.sqrt()


class Krylov:
    """The relation A V = V H + Q B of a symmetric operator A, and the operations that keep it.

    V and Q lie in one tensor, `rows`: V is ``rows[:j]``, Q is ``rows[j:j+q]``. Taking the first vector of
    the queue into the basis therefore moves nothing.
    """

    def __init__(
        self,
        matvec: Callable[[Tensor], Tensor],
        size: int,
        capacity: int,
        generator: torch.Generator,
        dtype: torch.dtype,
        device: torch.device,
        room: int | None = None,
    ) -> None:
        self.matvec, self.size, self.capacity, self.generator = matvec, size, capacity, generator
        self.room = capacity if room is None else room
        # One row more than the basis: the vector that a step appends before it is known to be wanted.
        self.rows = torch.empty(capacity + 1, size, dtype=dtype, device=device)
        self.eps = torch.finfo(dtype).eps
        self.j = self.q = 0
        self.H: Floats = np.zeros((0, 0))
        self.B: Floats = np.zeros((0, 0))
        self.products = 0
        self.radius = 0.0
        self.asymmetry = 0.0
        # Norm of what has been dropped from the residuals as being no more than rounding.
        self.dropped = 0.0
        self.restarts = 0
        self.largest = 1  # basis so far
        self.parked: tuple[Tensor, Floats] | None = None

    @property
    def full(self) -> bool:
        """Whether there is no room for another vector."""
        return self.j + self.q >= self.capacity

    def grow(self) -> bool:
        """Make room for a few more vectors; False where the caller has allowed no more."""
        more = min(self.room - self.capacity, 16)
        if more < 1:
            return False
        self.rows = torch.cat([self.rows, self.rows.new_empty(more, self.size)])
        self.capacity += more
        return True

    @property
    def rounding(self) -> float:
        """What rounding may have added to any eigenvalue, as :mod:`landscape_hessian.lanczos` derives it."""
        sums = 2 * self.eps * math.sqrt(self.largest * (1 + self.restarts)) * self.radius
        return self.asymmetry + self.dropped + sums

    def begin(self, start: Tensor | None, gradient: Tensor | None = None) -> None:
        """Fill the queue: with one random vector, or with approximate eigenvectors and a random part.

        The sum of approximate eigenvectors is a better start than their block: as many products later the
        Krylov space of the sum holds them all, and if they were good it goes on from there in one direction
        instead of s. Every 5 steps of SGD on digits, cold starts took 16.5 products, blocks 15.4, sums 14.2
        (fully connected; convolutional: 16.1, 15.3, 14.7). The random part lets in what has risen since; its
        size, 0.01 to 0.3, made no difference.

        Without them, the gradient is a good start, since it lies mostly among the leading eigenvectors; but not in all
        of them, and in some not at all. With a random part that is, along every eigenvector, a tenth of the gradient's
        length, the five largest eigenvalues of three networks on digits and images took 14 to 15, 15 to 16 and 53
        products; from random vectors alone 15 to 16, 16 to 18 and 55 to 57.
        """
        noise = self._random()
        if start is not None and bool(torch.isfinite(start).all()):
            combined = start.to(self.rows).sum(dim=0)
            norm = _norm(combined)
            if norm > 0:
                noise = combined / norm + 0.1 * noise / _norm(noise)
        elif gradient is not None and (norm := _norm(gradient)) > 0 and math.isfinite(norm):
            noise = gradient.to(self.rows) / norm + 0.1 * math.sqrt(self.size) * noise / _norm(noise)
        if not self._append(noise):
            self.inject()

    def _random(self) -> Tensor:
        drawn = torch.randn(
            self.size, generator=self.generator, device=self.generator.device, dtype=torch.float32
        )
        return drawn.to(self.rows)

    def _append(self, vector: Tensor) -> bool:
        """Put a vector, made orthogonal and normalised, at the end of the queue, with no coupling."""
        others = self.rows[: self.j + self.q]
        vector, _, norm = orthogonalised(vector / _norm(vector), others)
        if not norm > 100 * self.eps:  # numerically within the span
            return False
        if norm < _MOST_LEFT:
            vector, _, norm = orthogonalised(vector / float(norm), others)
        self.rows[self.j + self.q] = vector / float(norm)
        self.q += 1
        self.B = np.vstack([self.B, np.zeros((1, self.j))])
        return True

    def inject(self) -> bool:
        """Put a random direction into the queue; False if the basis spans the whole space."""
        return self.j + self.q < self.size and self._append(self._random())

    def expand(self) -> float:
        """Take the first of the queue into the basis: one product.

        Returns
        -------
        float
            Norm of the new residual direction; 0 if it was rounding and was dropped.
        """
        vector = self.rows[self.j]
        product = self.matvec(vector)
        self.products += 1
        j, q = self.j + 1, self.q - 1
        others = self.rows[: j + q]
        # What symmetry says the product has along the old basis is removed first, and then what is found left of
        # anything: the second pass, which costs as much as all vectors that there are, is the only full one.
        (coupled,) = self.B[0].nonzero()
        start = int(coupled[0]) if len(coupled) else j - 1
        with torch.no_grad():
            product = product.detach()
            along = _inner(vector[None], product)
            known = torch.cat([torch.from_numpy(self.B[0, start:]).to(along), along])
            rest, left, norm = _removed(product, others, known, start)
            # Components along what is parked ride along, so that there is one transfer.
            aside = _inner(self.parked[0], vector) if self.parked is not None else left[:0]
            coefficients = _host(torch.cat([aside, left, norm[None], along]))
            if not np.linalg.norm(coefficients[len(aside) : -2]) <= _LITTLE_LEFT * coefficients[-2]:
                rest, more, norm = orthogonalised(rest, others)
                coefficients = _host(torch.cat([aside, left + more, norm[None], along]))
        coefficients[len(aside) + start : len(aside) + j - 1] += self.B[0, start:]
        coefficients[len(aside) + j - 1] += coefficients[-1]
        coefficients = coefficients[:-1]
        if not np.isfinite(coefficients).all():
            finite(product)
            raise NonFiniteLossError("A product with the curvature overflows its floating point type.")
        parked, coefficients = np.split(coefficients, [len(aside)])
        beta = float(coefficients[-1])
        column, queued = coefficients[:j], coefficients[j:-1]
        # By symmetry the couplings to the old basis are known already; the difference is rounding, of the
        # product above all, and is the only honest measurement of it that is free.
        expected = self.B[0]
        if self.parked is not None:
            couplings = self.parked[1]
            expected = expected + np.pad(parked @ couplings, (0, j - 1 - couplings.shape[1]))
        self.asymmetry = max(self.asymmetry, float(np.linalg.norm(column[:-1] - expected)))
        self.radius = max(self.radius, abs(float(column[-1])))
        grown = np.zeros((j, j))
        grown[:-1, :-1] = self.H
        grown[:-1, -1] = grown[-1, :-1] = (column[:-1] + expected) / 2
        grown[-1, -1] = column[-1]
        self.H = grown
        self.B = np.hstack([self.B[1:], queued[:, None]])
        self.j, self.q, self.largest = j, q, max(self.largest, j)
        if beta <= _NOISE * self.eps * max(self.radius, float(np.linalg.norm(coefficients))):
            self.dropped = math.hypot(self.dropped, beta)
            return 0.0
        self.rows[j + q] = rest / beta
        self.B = np.vstack([self.B, np.zeros((1, j))])
        self.B[-1, -1] = beta
        self.q += 1
        return beta

    def ritz(self) -> tuple[Floats, Floats]:
        """Return the Ritz values, ascending, and the coefficients of their vectors as columns."""
        values, vectors = np.linalg.eigh(self.H)
        if len(values):
            self.radius = max(self.radius, float(np.abs(values).max()))
        return values, vectors

    def restart(self, kept: Floats) -> None:
        """Shrink the basis to the Ritz vectors with coefficients `kept`, shape (j, n), in place.

        LAPACK's eigenvectors are orthonormal, and eigenvectors, to some five units of rounding. Over many restarts
        that added up to 40: a step of Newton's iteration for the polar factor makes them orthonormal to one, H
        is what they make of it, not the diagonal of the Ritz values, and what is left out is counted.
        """
        n = kept.shape[1]
        kept = kept @ (1.5 * np.eye(n) - 0.5 * (kept.T @ kept))
        moved = self.H @ kept
        inner = kept.T @ moved
        self.dropped = math.hypot(self.dropped, float(np.linalg.norm(moved - kept @ inner)))
        self._rotate(slice(0, self.j), slice(0, n), kept.T)
        self.rows[n : n + self.q] = self.rows[self.j : self.j + self.q].clone()
        self.H, self.B, self.j = (inner + inner.T) / 2, self.B @ kept, n
        self.restarts += 1

    def focus(self, directions: Floats) -> None:
        """Turn the queue so that its first vector carries most of B times `directions`."""
        if self.q > 1:
            left = np.linalg.svd(self.B @ directions)[0].T
            queue = slice(self.j, self.j + self.q)
            self._rotate(queue, queue, left)
            self.B = left @ self.B

    def compress(self) -> None:
        """Drop what of the queue no basis vector is coupled to, but for one direction to go on with."""
        if self.q > 1:
            self.focus(np.eye(self.j))
            norms = np.linalg.norm(self.B, axis=1)
            self.q = max(1, int((norms > _NOISE * self.eps * self.radius).sum()))
            self.dropped = math.hypot(self.dropped, float(np.linalg.norm(norms[self.q :])))
            self.B = self.B[: self.q]

    def _rotate(self, source: slice, target: slice, matrix: Floats) -> None:
        factor = torch.from_numpy(np.ascontiguousarray(matrix)).to(self.rows)
        for low in range(0, self.size, _CHUNK):
            columns = slice(low, low + _CHUNK)
            self.rows[target, columns] = factor @ self.rows[source, columns]

    def combine(self, coefficients: Floats) -> Tensor:
        """Return the vectors with `coefficients` as columns, shape (j, n), as rows, shape (n, P)."""
        return torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(self.rows) @ self.rows[: self.j]

    def park(self) -> None:
        """Empty the queue for a time: the relation is A V = V H + Q B + F C with what is parked, F and C."""
        self.parked = self.rows[self.j : self.j + self.q].clone(), self.B
        self.q, self.B = 0, np.zeros((0, self.j))

    def rewind(self, H: Floats, parked: tuple[Tensor, Floats]) -> None:
        """Forget what has been added since :meth:`park`, given the Rayleigh quotient H and queue of then."""
        vectors, self.B = parked
        self.H, self.j, self.q = H, len(H), len(vectors)
        self.rows[self.j : self.j + self.q] = vectors

    def unpark(self) -> None:
        """Put the parked queue back behind what has been added since; the relation is A V = V H + Q B again.

        F C has since been found partly within the basis, where H has it already, and within the queue, where
        B gets it; what is left of F joins the queue.
        """
        assert self.parked is not None
        vectors, couplings = self.parked
        self.parked = None
        couplings = np.pad(couplings, ((0, 0), (0, self.j - couplings.shape[1])))
        for vector, coupling in zip(vectors, couplings, strict=True):
            others = self.rows[: self.j + self.q]
            rest, inside, norm = orthogonalised(vector, others)
            length = float(norm)
            self.B = self.B + np.outer(_host(inside)[self.j :], coupling)
            if length > _NOISE * self.eps:
                self.rows[self.j + self.q] = rest / length
                self.B = np.vstack([self.B, length * coupling])
                self.q += 1
            else:
                self.dropped = math.hypot(self.dropped, length * float(np.linalg.norm(coupling)))
