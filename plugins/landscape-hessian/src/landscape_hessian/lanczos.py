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
- Rounding is added to the bounds. Given: what all products have in common, ``product_rounding``. Measured: what the
  products contradict their own symmetry by, the residual directions dropped, and what a restart's rotation leaves
  out because LAPACK's eigenvectors of H are eigenvectors
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
from collections.abc import Callable

import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigurationError
from landscape_hessian.bounds import (
    FIRST,
    Chain,
    ceiling_of,
    excluded,
    flipped,
    hidden,
    least_bound,
    outer_edge,
    ritz_edge,
    schur,
    upper_bounds,
)
from landscape_hessian.dense import DENSE_MEMORY, formed, matrix_bytes
from landscape_hessian.krylov import Floats, Krylov, orthogonalised

__all__ = ["Eigenpairs", "ExtremePairs", "extreme_eigenpairs", "least_bound", "orthogonalised"]

#: Products after which to give up by default: ten times what the hardest of 24 places along walks took.
MAX_PRODUCTS = 1000
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
    product_rounding: float = 0.0,
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
    product_rounding
        How far a product with a unit vector may be off by rounding in a way that is the same for all products, in
        parts of the spectral radius. It is added to the bounds. 0 means that the operator is what its products are.
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
        columns = matmat or _column_by_column(matvec)
        return _dense(columns, size, top, bottom, product_rounding, dtype, torch.device(device))
    capacity = min(basis if basis is not None else 2 * wanted + 30, size)
    room = min(2 * max(capacity, 2 * wanted + 30), size)
    krylov = Krylov(matvec, size, capacity, generator, dtype, torch.device(device), room)
    krylov.begin(start, gradient)
    return _iterate(krylov, top, bottom, tolerance, max_products or MAX_PRODUCTS, risk, product_rounding)


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
    if not 0 < tolerance < 1:
        raise ConfigurationError(f"The tolerance is a part of the radius, between 0 and 1; got {tolerance}.")
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
    product_rounding: float,
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
    # Of LAPACK, in float64, and of the products, of which asymmetry shows what is not symmetric.
    rounding = 2 * asymmetry + (2 * eps * math.sqrt(size) + product_rounding) * radius
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


def _wanted(count: int, top: int, bottom: int) -> NDArray[np.intp]:
    """Return indices into `count` ascending Ritz values: the top ones, largest first, then the bottom ones.

    While there are fewer than wanted, an index may stand for both ends.
    """
    ascending = np.arange(count)
    return np.concatenate([ascending[::-1][:top], ascending[:bottom]])


def _iterate(
    krylov: Krylov,
    top: int,
    bottom: int,
    tolerance: float,
    max_products: int,
    risk: float | None,
    product_rounding: float,
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
                share = FIRST * risk / 5 ** len(searches)
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
    return _conclude(krylov, top, bottom, tolerance, searches, product_rounding)


def _thick_restart(krylov: Krylov, vectors: Floats, top: int, bottom: int) -> None:
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
    krylov: Krylov, values: Floats, vectors: Floats, top: int, bottom: int, threshold: float
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


def _search(krylov: Krylov, top: int, bottom: int, threshold: float, budget: int, risk: float) -> _Search:
    """Look for eigenvalues beyond the wanted ones, from a random vector in the complement of the basis."""
    ceiling, floor = ceiling_of(krylov, top, threshold), -ceiling_of(krylov, bottom, threshold, flip=True)
    before, base = krylov.products, krylov.j
    theta, couplings = schur(krylov, flip=False)
    quotient = krylov.H
    krylov.park()
    # P(|z.u| <= d) <= d sqrt(2 n / pi) for u uniform on the unit sphere of dimension n. The risk is shared
    # between the two ends when both were asked for.
    share = risk / (1 + bool(top and bottom))
    log_needed = math.log(share) - 0.5 * math.log(2 * (krylov.size - base) / math.pi)
    margin = hidden(krylov.eps, share) * krylov.radius
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
        up, down = (Chain.of(krylov.H[base:, base:], beta, flip=flip) for flip in (False, True))
        found = up.top > ceiling or down.top > -floor
        complete = (top == 0 or excluded(ceiling, up, log_needed, margin)) and (
            bottom == 0 or excluded(-floor, down, log_needed, margin)
        )
    queue = krylov.parked
    krylov.unpark()
    if not beta or queue is None:
        return _Search()
    # What lies beyond an edge in the complement of the basis of then does so in the complement of the larger one,
    # which has smaller residuals.
    highest, lowest = outer_edge(up, log_needed, margin), outer_edge(down, log_needed, margin)
    larger = schur(krylov, flip=False)
    upper, lower = (
        np.minimum(*(upper_bounds(*pairs, count + 1, edge) for pairs in both))
        for both, count, edge in (
            (((theta, couplings), larger), top, highest),
            ((flipped(theta, couplings), flipped(*larger)), bottom, lowest),
        )
    )
    # The larger basis has better Ritz pairs. Only where others have come between, with larger residuals, are
    # those that had converged the ones to report; the bounds are good for both.
    _, vectors = krylov.ritz()
    residuals = np.linalg.norm(krylov.B @ vectors[:, _wanted(krylov.j, top, bottom)], axis=0)
    if not found and (residuals > threshold).any():
        krylov.rewind(quotient, queue)
    return _Search(found=found, resolved=complete and not found, upper=upper, lower=-lower)


#: Products may differ from those of a symmetric matrix by so many units of rounding of the radius; an operation
#: whose second derivative is wrong is off by parts of it.
_ASYMMETRY = 1e4


def _symmetric(asymmetry: float, radius: float, tolerance: float, eps: float) -> bool:
    """Whether products contradict the symmetry of the operator by no more than tolerance and rounding explain."""
    return asymmetry <= max(tolerance, _ASYMMETRY * eps) * radius


def _conclude(
    krylov: Krylov,
    top: int,
    bottom: int,
    tolerance: float,
    searches: list[_Search],
    product_rounding: float,
) -> ExtremePairs:
    values, vectors = krylov.ritz()
    threshold = max(tolerance * krylov.radius, krylov.rounding)
    rounding = krylov.rounding + product_rounding * krylov.radius
    symmetric = _symmetric(krylov.asymmetry, krylov.radius, tolerance, krylov.eps)
    indices = _wanted(krylov.j, top, bottom)
    theta, couplings = values[indices], krylov.B @ vectors[:, indices]
    residuals = np.linalg.norm(couplings, axis=0)
    everything = krylov.j == krylov.size
    cut = min(top, krylov.j)
    # Before there are as many Ritz values as are wanted, one may stand for both ends; it is that of one at most.
    shared = np.isin(indices, np.intersect1d(indices[:cut], indices[cut:])) & (not everything)
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
        edges = (ritz_edge(krylov, top), -ritz_edge(krylov, bottom, flip=True))
    rows = krylov.combine(vectors[:, indices])

    def pairs(part: slice, edge: float) -> Eigenpairs:
        return Eigenpairs(
            values=theta[part],
            vectors=rows[part],
            residuals=residuals[part],
            bounds=np.maximum(bounds[part], 0.0) + rounding,
            converged=(residuals[part] <= threshold) & symmetric & ~shared[part],
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
