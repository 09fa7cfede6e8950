r"""Extreme eigenpairs of a symmetric operator by thick-restart Lanczos, with bounds on their errors.

The operator is known by its products with vectors only. Everything is built on one relation, kept exact to
rounding through expansions, restarts and injected vectors:

.. math:: A V = V H + Q B, \qquad [V\; Q] \text{ orthonormal},

with the basis V (j vectors), the Rayleigh quotient :math:`H = V^T A V`, and the queue Q of q directions in
which the residuals lie; the classical method has q = 1. Taking the next direction out of Q costs one
product. If :math:`H y = \theta y`, then :math:`|A V y - \theta V y| = |B y|` exactly.

- Restart (Wu & Simon 2000, sec. 2): V becomes a few Ritz vectors, H their Ritz values, B becomes B Y.
- Orthogonality: every new vector is orthogonalised against all the others by matrix products, so there are no ghost
  copies of eigenvalues. Twice is enough (Giraud, Langou & Rozložník 2005), and the first time costs next to nothing:
  the components along the old basis are known by symmetry, and all but a few are zero. Where they were not as known, it
  is done again.
- Breakdown: a residual direction as small as rounding is dropped. With nothing left in the queue, V is
  invariant, and a random vector orthogonal to it carries on.
- Copies: the space grown from one vector holds one vector of each eigenspace, so a multiple eigenvalue
  shows once however long one iterates. Hence the *search for missed eigenvalues*: when the wanted pairs have
  converged, a second Lanczos run starts from a random vector u in the complement of V. After i steps with
  Ritz values t_1 .. t_i and subdiagonals beta_1 .. beta_i, an eigenvalue x of the complement beyond all t,
  with unit eigenvector z, obeys :math:`|z \cdot u|^2 \le 1 / \sum_{l=0}^i p_l(x)^2` with the orthonormal
  polynomials :math:`p_l(x) = \prod_m (x - t_m) / \beta_m` of the l-th step, since no measure with the moments that
  the run has seen has more mass in x (Christoffel's function; Szegő 1975, sec. 3.41). That is improbable for
  random u (van Dorsselaer, Hochstenbach & van der Vorst 2000, sec. 3, with the last term of the sum alone). So
  either something large shows, and joins the basis, or the complement's spectrum lies below some x but for the
  stated risk. This x is there from the first step on and falls with every further one; how far it falls is a
  question of patience.
- Bounds: with the complement below x, the number of eigenvalues above y > x is at most the number of
  positive eigenvalues of the Schur complement :math:`H - y + B^T B / (y - x)`. The i-th Ritz value is never
  above the i-th eigenvalue, and the smallest y with fewer than i positive ones is never below it (Lehmann's
  bounds; Parlett 1998, sec. 10.5). They shrink like the *square* of the residual over the gap.
- Rounding is added to the bounds. Measured: what the products contradict their own symmetry by, the residual
  directions dropped, and what a restart's rotation leaves out because LAPACK's eigenvectors of H are eigenvectors
  to some units only. Estimated: sums over the basis. A combination of j orthonormal vectors has a rounding error
  of norm :math:`\lambda \sqrt{j}\, \epsilon / 2`, :math:`\lambda` a small number, where single errors are independent
  with mean zero (Higham & Mary 2019); it spoils the relation by that times the spectral radius, and orthonormality
  by as much. With :math:`\lambda = 2` for each, and R restarts adding up like independent errors, that is
  :math:`2 \epsilon \sqrt{j (1 + R)}` times the radius. Sums over the P weights do not count: they are taken
  over some thousand weights at a time and added up in float64. (One sum in float32 over ten million weights
  was off by 1.7e-3.)

References
----------
.. [1] K. Wu, H. Simon. Thick-restart Lanczos method for large symmetric eigenvalue problems. SIAM J. Matrix
   Anal. Appl. 22 (2000) 602-616.
.. [2] J. L. M. van Dorsselaer, M. E. Hochstenbach, H. A. van der Vorst. Computing probabilistic bounds for
   extreme eigenvalues of symmetric matrices with the Lanczos method. SIAM J. Matrix Anal. Appl. 22 (2000)
   837-852.
.. [3] B. N. Parlett. The Symmetric Eigenvalue Problem. SIAM 1998.
.. [4] G. Szegő. Orthogonal Polynomials. AMS 1975.
.. [5] N. J. Higham, T. Mary. A new approach to probabilistic rounding error analysis. SIAM J. Sci. Comput. 41
   (2019) A2815-A2835.
.. [6] L. Giraud, J. Langou, M. Rozložník. The loss of orthogonality in the Gram-Schmidt orthogonalization
   process. Comput. Math. Appl. 50 (2005) 1069-1075.
.. [7] J. W. Daniel, W. B. Gragg, L. Kaufman, G. W. Stewart. Reorthogonalization and stable algorithms for updating
   the Gram-Schmidt QR factorization. Math. Comp. 30 (1976) 772-795.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape_hessian.dense import DENSE_MEMORY, finite, formed, matrix_bytes

__all__ = ["Eigenpairs", "ExtremePairs", "extreme_eigenpairs", "least_bound", "orthogonalised"]

Floats = NDArray[np.float64]

#: Columns handled at a time when the basis is rotated in place: bounds the scratch memory of a restart.
_CHUNK = 1 << 16
#: Products after which to give up by default: ten times what the hardest of 24 places along walks took.
MAX_PRODUCTS = 1000
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
#: Bisections end when the distance that they look for, added to a bound, is known to so much of it.
_SHARP = 1e-3
#: Part of the risk that the first search takes; it is the only one as a rule.
_FIRST = 0.8
#: Iterating on and searching together may use as many products as there had been when the wanted pairs converged.
#: At twelve places (three networks on digits, both ends, two generators each) this resolved the edge of the
#: spectrum to 5e-3 of the radius or better; half as many left it open by up to a tenth at flat edges.
_SEARCHING = 1.0
#: Residual that wanted pairs must have before a second search, in units of the tolerance: with 0.5, searches
#: found what hid behind the residuals and had to be repeated; with 0.3, one was enough.
_STRICT = 0.3


#: Part of the tolerance that residuals of pairs that are not wanted may take. Of 0.06 to 0.9, the largest took the
#: fewest products at the ends of three networks' spectra and left the smallest bounds, over twelve generators.
_COUPLED = 0.9


@frozen(eq=False)
class Eigenpairs:
    """Eigenpairs of one end of a spectrum, the extreme one first.

    Attributes
    ----------
    values
        Ritz values, shape (k,), float64. Also those that have not converged: see `converged`.
    vectors
        Orthonormal Ritz vectors as rows, shape (k, P), in the dtype of the operator.
    residuals
        Norms |A v - theta v|, shape (k,). Some eigenvalue is this near, whatever else is true.
    bounds
        Distance of ``values[i]`` from the i-th eigenvalue, at most, shape (k,). If
        :attr:`ExtremePairs.complete`, it holds but for the risk; otherwise, provided none was missed.
    converged
        Whether the residual reached the tolerance, shape (k,), bool.
    edge
        Where the rest of the spectrum ends, at most: the first eigenvalue that is not reported lies below it
        (above it, at the bottom). It holds as the bounds do; infinite where nothing is known, and where the
        reported pairs are all there are, infinite on the other side.
    """

    values: Floats
    vectors: Tensor
    residuals: Floats
    bounds: Floats
    converged: NDArray[np.bool_]
    edge: float


@frozen(eq=False)
class ExtremePairs:
    """What :func:`extreme_eigenpairs` found.

    Attributes
    ----------
    top, bottom
        The largest eigenvalues, largest first, and the smallest, smallest first.
    products
        How many times the operator was applied.
    radius
        Largest absolute Ritz value: the estimate of the spectral radius that the tolerance refers to.
    rounding
        The part of the bounds that is rounding.
    complete
        Whether a search has bounded what was missed: then the bounds hold but for the risk. False also when no
        search was asked for.
    resolved
        Whether that search came down to the tolerance. Where it did not, since the spectrum's edge is too flat
        for as many products, an eigenvalue that was missed may lie beyond the reported ones, and the bounds are
        as large as to allow for it.
    """

    top: Eigenpairs
    bottom: Eigenpairs
    products: int
    radius: float
    rounding: float
    complete: bool
    resolved: bool


def extreme_eigenpairs(
    matvec: Callable[[Tensor], Tensor],
    size: int,
    *,
    top: int,
    bottom: int = 0,
    matmat: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-3,
    max_products: int | None = None,
    basis: int | None = None,
    risk: float | None = 1e-3,
    start: Tensor | None = None,
    gradient: Tensor | None = None,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> ExtremePairs:
    """Find the algebraically largest and smallest eigenpairs of a symmetric operator.

    Parameters
    ----------
    matvec
        The product of the operator with a vector, (P,) to (P,). Must be the same linear map each time.
    size
        P.
    top, bottom
        How many of the largest and of the smallest are wanted, each at most P. From half of P on in all, P
        products form the matrix, and it is solved densely in float64: 3 matrices of (P, P).
    matmat
        The product with the columns of a matrix, (P, n) to (P, n), where that is cheaper than n products.
    tolerance
        A pair has converged when its residual is at most this times the spectral radius. The error of the
        eigenvalue is smaller by a further factor residual/gap, see `Eigenpairs.bounds`. A tolerance below
        the rounding of the dtype is taken to be that rounding.
    max_products
        Give up after this many products; what has not converged by then is marked so. None is 1,000, or P where
        the matrix is formed.
    basis
        Vectors held before a restart, at least 2 (top + bottom) + 4, by default 2 (top + bottom) + 30. Memory is
        this times P.
    risk
        Accepted probability that an eigenvalue was missed (as copies of a multiple eigenvalue would be) by
        more than the bounds allow for. None does not look for any. Looking at most doubles the products,
        unless something is found, and may need twice as many vectors as the larger of `basis` and its default.
    start
        Approximate eigenvectors as rows, shape (s, P), to start from.
    gradient
        A vector that is likely to lie in the wanted eigenspaces, shape (P,): where there is no `start`, the first
        vector is made of it and of a random one.
    generator
        Source of the random vectors; drawn on its own device, so that a CPU generator gives the same start
        on every device.
    dtype, device
        Of the vectors. The projected problem is solved in float64 on the CPU in any case.

    Raises
    ------
    landscape.errors.ConfigurationError
        For counts, tolerance, basis or risk outside their range.
    landscape.errors.NonFiniteLossError
        If a product is NaN or infinite.
    """
    _check(size, top, bottom, tolerance, max_products, basis, risk)
    wanted = top + bottom
    if size <= max(2 * wanted, 16) and (max_products is None or size <= max_products):
        return _dense(matmat or _column_by_column(matvec), size, top, bottom, dtype, torch.device(device))
    capacity = min(basis if basis is not None else 2 * wanted + 30, size)
    room = min(2 * max(capacity, 2 * wanted + 30), size)
    krylov = _Krylov(matvec, size, capacity, generator, dtype, torch.device(device), room)
    krylov.begin(start, gradient)
    return _iterate(krylov, top, bottom, tolerance, max_products or MAX_PRODUCTS, risk)


def _check(
    size: int,
    top: int,
    bottom: int,
    tolerance: float,
    max_products: int | None,
    basis: int | None,
    risk: float | None,
) -> None:
    wanted = top + bottom
    if size < 1:
        raise ConfigurationError(f"An operator needs at least one dimension; got size={size}.")
    if top < 0 or bottom < 0 or wanted < 1:
        raise ConfigurationError(
            f"At least one eigenpair must be asked for, and no negative number; got top={top}, bottom={bottom}."
        )
    if max(top, bottom) > size:
        raise ConfigurationError(
            f"{max(top, bottom)} eigenpairs of an operator of {size} dimensions; there are {size}."
        )
    if not tolerance > 0:
        raise ConfigurationError(f"The tolerance must be positive; got {tolerance}.")
    if max_products is not None and max_products < 1:
        raise ConfigurationError(f"At least one product must be allowed; got max_products={max_products}.")
    if basis is not None and basis < 2 * wanted + 4:
        raise ConfigurationError(
            f"A basis of {basis} vectors cannot be restarted with {wanted} wanted pairs; "
            f"give basis={2 * wanted + 4} or more, or leave it out."
        )
    if risk is not None and not 0 < risk < 1:
        raise ConfigurationError(f"The risk is a probability between 0 and 1, or None; got {risk}.")


def _column_by_column(matvec: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda columns: torch.stack([matvec(column) for column in columns.T], dim=1)


def _dense(
    matmat: Callable[[Tensor], Tensor],
    size: int,
    top: int,
    bottom: int,
    dtype: torch.dtype,
    device: torch.device,
) -> ExtremePairs:
    """Solve a problem so small, or of which so much is wanted, that the matrix is cheaper than a Krylov space."""
    needed = matrix_bytes(size)
    if needed > DENSE_MEMORY:
        raise ConfigurationError(
            f"{top + bottom} eigenpairs of an operator of {size:,} dimensions need its matrix, and that takes "
            f"{needed / 1e9:,.0f} GB; {DENSE_MEMORY / 1e9:.0f} GB is the limit. Ask for fewer pairs, or restrict "
            "the landscape to some of its weights."
        )
    matrix, asymmetry = formed(matmat, size, dtype, device)
    values, vectors = np.linalg.eigh(matrix)
    radius = float(np.abs(values).max())
    eps = torch.finfo(dtype).eps
    # Of LAPACK, in float64, and of the products, which asymmetry shows but for its symmetric part.
    rounding = 2 * asymmetry + 2 * eps * math.sqrt(size) * radius
    symmetric = _symmetric(asymmetry, radius, 0.0, eps)

    def pairs(order: NDArray[np.intp], edge: float) -> Eigenpairs:
        chosen = vectors[:, order]
        residuals = np.linalg.norm(matrix @ chosen - chosen * values[order], axis=0) + asymmetry / 2
        return Eigenpairs(
            values=values[order],
            vectors=torch.from_numpy(chosen.T.copy()).to(device=device, dtype=dtype),
            residuals=residuals,
            bounds=np.full(len(order), rounding),
            converged=np.full(len(order), symmetric),
            edge=edge,
        )

    ascending = np.arange(size)
    return ExtremePairs(
        top=pairs(ascending[::-1][:top], values[size - top - 1] + rounding if top < size else -math.inf),
        bottom=pairs(ascending[:bottom], values[bottom] - rounding if bottom < size else math.inf),
        products=size,
        radius=radius,
        rounding=rounding,
        complete=True,
        resolved=True,
    )


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


class _Krylov:
    """The relation A V = V H + Q B, and the operations that keep it.

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


def _wanted(count: int, top: int, bottom: int) -> NDArray[np.intp]:
    """Return indices into `count` ascending Ritz values: the top ones, largest first, then the bottom ones.

    While there are fewer than wanted, an index may stand for both ends.
    """
    ascending = np.arange(count)
    return np.concatenate([ascending[::-1][:top], ascending[:bottom]])


def _iterate(
    krylov: _Krylov, top: int, bottom: int, tolerance: float, max_products: int, risk: float | None
) -> ExtremePairs:
    wanted = top + bottom
    searches: list[_Search] = []
    settled: Floats | None = None
    limit = patience = max_products
    while True:
        values, vectors = krylov.ritz()
        residuals = np.linalg.norm(krylov.B @ vectors, axis=0)
        threshold = max(tolerance * krylov.radius, krylov.rounding)
        indices = _wanted(krylov.j, top, bottom)
        late = indices[residuals[indices] > threshold]
        if krylov.j >= wanted and not len(late):
            if risk is None or krylov.j == krylov.size:
                break
            theta = values[indices]
            if settled is None or float(np.abs(theta - settled).max()) > threshold:
                # Converged for the first time, or to other values since something missed came in.
                limit = min(krylov.products + max(int(_SEARCHING * krylov.products), 10), max_products)
                settled = theta
            if krylov.products >= limit:
                break
            if searches and krylov.products < patience:
                late = indices[residuals[indices] > _STRICT * threshold]
            if not len(late):
                _keep_decoupled(krylov, values, vectors, top, bottom, threshold)
                # However many searches there are, their risks add up to no more than the one accepted; most of
                # it is the first one's, which as a rule is the only one.
                share = _FIRST * risk / 5 ** len(searches)
                searches.append(_search(krylov, top, bottom, threshold, limit - krylov.products, share))
                if not searches[-1].found:
                    break
                # What is left for the next search is half of what is left.
                patience = krylov.products + (limit - krylov.products) // 2
                continue
        if krylov.products >= max_products:
            break
        if krylov.full:
            _thick_restart(krylov, vectors, top, bottom)
            continue
        if krylov.q == 0 and not krylov.inject():
            break  # the basis is the whole space
        if krylov.q > 1 and len(late):
            krylov.focus(vectors[:, late])
        krylov.expand()
    return _conclude(krylov, top, bottom, tolerance, searches)


def _thick_restart(krylov: _Krylov, vectors: Floats, top: int, bottom: int) -> None:
    """Keep the wanted Ritz vectors and, of the rest of the room, two fifths (Wu & Simon 2000, sec. 5).

    With n vectors kept, no more than n directions of the queue matter, so that a basis of 2 (top + bottom)
    and a few more vectors is always left with room to go on.
    """
    wanted = top + bottom
    extra = max(0, int(0.4 * (krylov.capacity - krylov.q - wanted)))
    if wanted + extra + krylov.q > krylov.capacity - 2:
        extra = 0
    # What sticks out at the end that is not wanted is kept as well, or it would come up again and again.
    other = extra // 3 if min(top, bottom) == 0 else 0
    share = extra - other
    upper = min(top + share * top // wanted + (other if not top else 0), krylov.j)
    lower = min(bottom + share * bottom // wanted + (other if not bottom else 0), krylov.j - upper)
    kept = np.concatenate([np.arange(lower), np.arange(krylov.j - upper, krylov.j)])
    krylov.restart(vectors[:, kept])
    krylov.compress()


def _keep_decoupled(
    krylov: _Krylov, values: Floats, vectors: Floats, top: int, bottom: int, threshold: float
) -> None:
    """Keep the wanted Ritz vectors, and of the others those whose residuals cannot lift the edge of the rest.

    A Ritz vector with value t and residual r in the basis lowers what the rest may reach below a level x by
    r^2 / (x - t). Together, these may take a part of the tolerance, or a search would find what is no more than
    an unconverged pair. The ends of the spectrum come first: the more of them is in the basis, the fewer products
    the search takes.
    """
    squares = np.sum((krylov.B @ vectors) ** 2, axis=0)
    if not squares.any():
        return
    wanted = _wanted(krylov.j, top, bottom)
    reach = np.zeros(krylov.j)
    if top:
        reach = np.maximum(reach, squares / np.abs(values[wanted[top - 1]] + threshold - values))
    if bottom:
        reach = np.maximum(reach, squares / np.abs(values - values[wanted[-1]] + threshold))
    allowed = _COUPLED * threshold
    if reach.sum() <= allowed:
        return
    room = max(krylov.capacity // 2, len(wanted))
    kept = sorted(set(wanted.tolist()))
    left = allowed - float(reach[kept].sum())
    outside_in = sorted(set(range(krylov.j)) - set(kept), key=lambda i: min(i, krylov.j - 1 - i))
    for i in outside_in:
        if reach[i] <= left and len(kept) < room:
            kept.append(i)
            left -= reach[i]
    krylov.restart(vectors[:, sorted(kept)])
    krylov.compress()


@frozen(eq=False)
class _Search:
    """What is known of the spectrum in the complement of the basis.

    `found`: something there lies beyond what the wanted pairs and the tolerance allow; it is in the basis now.
    `resolved`: nothing does, up to the tolerance, but for the risk.
    `upper` bounds the largest wanted eigenvalues, and one more, from above, and `lower` the smallest from below,
    but for the risk; empty when nothing could be tried.
    """

    found: bool = False
    resolved: bool = False
    upper: Floats = field(factory=lambda: np.zeros(0))
    lower: Floats = field(factory=lambda: np.zeros(0))


def _search(krylov: _Krylov, top: int, bottom: int, threshold: float, budget: int, risk: float) -> _Search:
    """Look for eigenvalues beyond the wanted ones, from a random vector in the complement of the basis."""
    ceiling, floor = _ceiling(krylov, top, threshold), -_ceiling(krylov, bottom, threshold, flip=True)
    before, base = krylov.products, krylov.j
    theta, couplings = _schur(krylov, flip=False)
    quotient = krylov.H
    krylov.park()
    # P(|z.u| <= d) <= d sqrt(2 n / pi) for u uniform on the unit sphere of dimension n. The risk is shared
    # between the two ends when both were asked for.
    share = risk / (1 + bool(top and bottom))
    log_needed = math.log(share) - 0.5 * math.log(2 * (krylov.size - base) / math.pi)
    margin = _hidden(krylov.eps, share) * krylov.radius
    beta: list[float] = []
    found = complete = False
    parked = 0 if krylov.parked is None else len(krylov.parked[0])
    alive = krylov.inject()
    while alive and not found and not complete and krylov.products - before < budget:
        # With room for the whole space, what is parked lies in it and finds its place.
        short = krylov.j + krylov.q + parked >= krylov.capacity and krylov.capacity < krylov.size
        if short and not krylov.grow():
            break
        beta.append(krylov.expand())
        alive = beta[-1] > 0
        up, down = (_Chain.of(krylov.H[base:, base:], beta, flip=flip) for flip in (False, True))
        found = up.top > ceiling or down.top > -floor
        complete = (top == 0 or _excluded(ceiling, up, log_needed, margin)) and (
            bottom == 0 or _excluded(-floor, down, log_needed, margin)
        )
    queue = krylov.parked
    krylov.unpark()
    if not beta or queue is None:
        return _Search()
    # What lies beyond an edge in the complement of the basis of then does so in the complement of the larger one,
    # which has smaller residuals.
    highest, lowest = _edge(up, log_needed, margin), _edge(down, log_needed, margin)
    larger = _schur(krylov, flip=False)
    upper, lower = (
        np.minimum(*(_upper_bounds(*pairs, count + 1, edge) for pairs in both))
        for both, count, edge in (
            (((theta, couplings), larger), top, highest),
            ((_flipped(theta, couplings), _flipped(*larger)), bottom, lowest),
        )
    )
    # The larger basis has better Ritz pairs. Only where others have come between, with larger residuals, are
    # those that had converged the ones to report; the bounds are good for both.
    _, vectors = krylov.ritz()
    residuals = np.linalg.norm(krylov.B @ vectors[:, _wanted(krylov.j, top, bottom)], axis=0)
    if not found and (residuals > threshold).any():
        krylov.rewind(quotient, queue)
    return _Search(found=found, resolved=complete and not found, upper=upper, lower=-lower)


def _hidden(eps: float, share: float) -> float:
    """Return how near to the Ritz values, in parts of the radius, rounding hides eigenvalues from a search.

    A component of u so small that rounding hides it for good is as improbable as the risk, `share`, where the distance
    is larger than this: an ulp of rounding has the component eps / sqrt(n) along z, and what u has of z counts with the
    distance.
    """
    return math.sqrt(2 / math.pi) * eps / share


def least_bound(dtype: torch.dtype, risk: float, *, both: bool) -> float:
    """Return what bounds at a flat edge come down to at best, in parts of the spectral radius.

    Parameters
    ----------
    dtype, risk
        Of :func:`extreme_eigenpairs`.
    both
        Whether both ends are asked for: they share the risk.
    """
    return _hidden(torch.finfo(dtype).eps, _FIRST * risk / (1 + both))


def _flipped(values: Floats, couplings: Floats) -> tuple[Floats, Floats]:
    return -values[::-1], couplings[:, ::-1]


def _excluded(level: float, chain: _Chain, log_needed: float, margin: float) -> bool:
    """Say whether an eigenvalue at `level`, above the chain's Ritz values, is too improbable."""
    x = level - margin
    if not x > chain.top:
        # Where the chain is invariant, all that u could reach is known.
        return chain.invariant and x >= chain.top
    return chain.invariant or -0.5 * chain.log_squares(x) <= log_needed


def _edge(chain: _Chain, log_needed: float, margin: float) -> float:
    """Return the smallest value above the chain's Ritz values from which on eigenvalues are excluded."""
    outer = chain.top + margin
    if chain.invariant:
        return outer
    near, far = 0.0, math.exp((float(np.log(chain.beta).sum()) - log_needed) / len(chain.beta))
    for _ in range(40):
        middle = (near + far) / 2
        if _excluded(outer + middle, chain, log_needed, margin):
            far = middle
        else:
            near = middle
        if far - near <= _SHARP * far:
            break
    return outer + far


@frozen(eq=False)
class _Chain:
    """The tridiagonal matrix of a search: its diagonal alpha, (i,), what stands beside it, beta, (i,), and its top."""

    alpha: Floats
    beta: Floats
    top: float

    @property
    def invariant(self) -> bool:
        return bool(self.beta[-1] == 0)

    @classmethod
    def of(cls, matrix: Floats, beta: list[float], *, flip: bool = False) -> _Chain:
        sign = -1.0 if flip else 1.0
        return cls(sign * np.diag(matrix), np.array(beta), float(np.linalg.eigvalsh(sign * matrix)[-1]))

    def log_squares(self, x: float) -> float:
        """Return the logarithm of the sum of the squares of the orthonormal polynomials at x, above the top."""
        before, now, total, scale = 0.0, 1.0, 1.0, 0.0
        coupling = 0.0
        for alpha, beta in zip(self.alpha, self.beta, strict=True):
            before, now = now, ((x - alpha) * now - coupling * before) / beta
            coupling = beta
            total += now * now
            if total > 1e200:
                before, now, total, scale = before * 1e-100, now * 1e-100, total * 1e-200, scale + 200
        return math.log(total) + scale * math.log(10)


def _schur(krylov: _Krylov, *, flip: bool) -> tuple[Floats, Floats]:
    """Return Ritz values, descending, and the couplings of their vectors; of the negated operator if `flip`."""
    values, vectors = np.linalg.eigh(-krylov.H if flip else krylov.H)
    return values[::-1], (krylov.B @ vectors)[:, ::-1]


def _ceiling(krylov: _Krylov, count: int, threshold: float, *, flip: bool = False) -> float:
    """Return how high the complement may reach so that the `count` largest are known to the threshold."""
    values, couplings = _schur(krylov, flip=flip)
    levels = values[:count] + threshold
    reach = [
        float(np.linalg.eigvalsh((couplings / (level - values)) @ couplings.T).max(initial=0.0))
        for level in levels
    ]
    return float(np.min(levels - np.array(reach), initial=math.inf))


def _upper_bounds(values: Floats, couplings: Floats, count: int, high: float) -> Floats:
    """Bound the `count` largest eigenvalues from above, given that the complement lies below `high`.

    The positive eigenvalues of H - y + B^T B / (y - x) are, by the inertia of a bordered matrix, as many as
    the Ritz values above y plus the eigenvalues of the q by q matrix B (y - H)^-1 B^T above y - x. `values`
    are the Ritz values, descending, and `couplings` is B times the Ritz vectors.
    """
    order = np.arange(count)
    start = np.maximum(
        np.pad(values[:count], (0, max(count - len(values), 0)), constant_values=-np.inf), high
    )
    near, far = (
        np.zeros(count),
        np.full(count, float(np.linalg.norm(couplings, 2)) if couplings.size else 0.0),
    )
    queued = len(couplings)
    pairs = (couplings[:, None, :] * couplings).reshape(queued**2, len(values))
    for _ in range(40 if far.any() else 0):
        middle = (near + far) / 2
        distance = (start + middle)[:, None] - values
        distance[distance == 0] = -np.finfo(float).tiny
        inner = (pairs @ (1 / distance).T).T
        if queued > 1:
            inner = np.linalg.eigvalsh(inner.reshape(count, queued, queued))
        above = (distance < 0).sum(axis=1) + (inner > (start + middle - high)[:, None]).sum(axis=1)
        fits = above <= order
        near, far = np.where(fits, near, middle), np.where(fits, middle, far)
        if (far - near <= _SHARP * far).all():
            break
    bounds: Floats = start + far
    return bounds


def _ritz_edge(krylov: _Krylov, count: int, *, flip: bool = False) -> float:
    """Bound the eigenvalue after the `count` largest from above, provided that none was missed."""
    if count >= krylov.j:
        return -math.inf if krylov.j == krylov.size else math.inf
    values, couplings = _schur(krylov, flip=flip)
    residuals = couplings[:, : count + 1]
    return float(values[count]) + (float(np.linalg.norm(residuals, 2)) if residuals.size else 0.0)


#: Products may differ from those of a symmetric matrix by so many units of rounding of the radius; an operation
#: whose second derivative is wrong is off by parts of it.
_ASYMMETRY = 1e4


def _symmetric(asymmetry: float, radius: float, tolerance: float, eps: float) -> bool:
    """Whether products contradict the symmetry of the operator by no more than tolerance and rounding explain."""
    return asymmetry <= max(tolerance, _ASYMMETRY * eps) * radius


def _conclude(
    krylov: _Krylov, top: int, bottom: int, tolerance: float, searches: list[_Search]
) -> ExtremePairs:
    values, vectors = krylov.ritz()
    rounding = krylov.rounding
    threshold = max(tolerance * krylov.radius, rounding)
    symmetric = _symmetric(krylov.asymmetry, krylov.radius, tolerance, krylov.eps)
    indices = _wanted(krylov.j, top, bottom)
    theta, couplings = values[indices], krylov.B @ vectors[:, indices]
    residuals = np.linalg.norm(couplings, axis=0)
    everything = krylov.j == krylov.size
    cut = min(top, krylov.j)
    # Of the whole space the Ritz values are the eigenvalues, and what searches excluded before says less.
    tried = [search for search in searches if len(search.upper) and not everything]
    if tried:
        upper = np.min([search.upper for search in tried], axis=0)
        lower = np.max([search.lower for search in tried], axis=0)
        bounds = np.concatenate([upper[:cut] - theta[:cut], theta[cut:] - lower[:-1]])
        edges = (float(upper[cut]), float(lower[-1]))
    else:
        # As many eigenvalues as Ritz values lie within the norm of all the residuals (Parlett 1998,
        # theorem 11.5.1).
        bounds = np.full(len(theta), float(np.linalg.norm(couplings, 2)) if couplings.size else 0.0)
        edges = (_ritz_edge(krylov, top), -_ritz_edge(krylov, bottom, flip=True))
    rows = krylov.combine(vectors[:, indices])

    def pairs(part: slice, edge: float) -> Eigenpairs:
        return Eigenpairs(
            values=theta[part],
            vectors=rows[part],
            residuals=residuals[part],
            bounds=np.maximum(bounds[part], 0.0) + rounding,
            converged=(residuals[part] <= threshold) & symmetric,
            edge=edge,
        )

    return ExtremePairs(
        top=pairs(slice(0, cut), edges[0] + rounding),
        bottom=pairs(slice(cut, None), edges[1] - rounding),
        products=krylov.products,
        radius=krylov.radius,
        rounding=rounding,
        complete=everything or bool(tried),
        resolved=everything or (bool(tried) and tried[-1].resolved),
    )
