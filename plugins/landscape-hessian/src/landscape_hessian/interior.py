r"""Eigenvalues near a given one, with what a Krylov space has not shown, copies above all, searched for.

A Lanczos run goes on until the Ritz values nearest to the given value :math:`\sigma` have converged. Its space holds
one vector of each eigenspace, and in the interior of a spectrum a Ritz value may still be on its way to an eigenvalue
that is nearer. So the pairs found, F with :math:`A F = F \Theta + E`, are put aside, and a second run starts from a
random vector u in their complement. Its nodes :math:`t_i`, weights :math:`w_i` and orthonormal polynomials
:math:`p_l` bound what u can have of any eigenvector z of the complement, with eigenvalue x:

.. math:: |z \cdot u|^2 \le 1 \Big/ \sum_{l=0}^{m} p_l(x)^2

(Christoffel's function; Szegő 1975, sec. 3.41), which is :math:`w_i` at a node. Where that is improbably small for all
x nearer to :math:`\sigma` than what has been found, nothing is there, but for the stated risk. Otherwise something
shows, converges, and joins F; then the next run starts.

With nothing in the complement within a distance d, the eigenvalues of A and those of :math:`\Theta` and of the
complement together, in order, differ by :math:`\|E\|` at most (Weyl), where E adds up over the runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor

from landscape_hessian.bounds import hidden
from landscape_hessian.krylov import Floats
from landscape_hessian.quadrature import LanczosRun

__all__ = ["NearestPairs", "largest_mass", "nearest_eigenpairs"]

#: Products between two looks at the Ritz values.
_STRIDE = 10
#: Rounding of a step, in units of eps times the radius: as for breakdown in :mod:`landscape_hessian.quadrature`.
_ULPS = 32
#: Points between two nodes at which Christoffel's function is evaluated, first and around its largest values.
_POINTS, _FINER = 16, 3


@frozen(eq=False)
class NearestPairs:
    """Eigenpairs near a value, the nearest first.

    Attributes
    ----------
    values
        Shape (n,), float64, n at most k; NaN where a Ritz value has not converged.
    vectors
        Orthonormal, as rows, shape (n, P).
    bounds
        Shape (n,): there are n different eigenvalues, copies counted, that are each this near. If `complete`, no other
        one is nearer to the given value than ``values[i]``, by more than this, except those before it.
    products
        How many times the operator was applied.
    radius
        Largest absolute Ritz value.
    complete
        Whether a search has excluded nearer eigenvalues and further copies, but for the risk.
    """

    values: Floats
    vectors: Tensor
    bounds: Floats
    products: int
    radius: float
    complete: bool


def nearest_eigenpairs(
    matvec: Callable[[Tensor], Tensor],
    size: int,
    near: float,
    k: int,
    *,
    tolerance: float,
    max_products: int,
    risk: float | None,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
) -> NearestPairs:
    """Find the k eigenvalues nearest to a value.

    Parameters
    ----------
    matvec
        The product with a symmetric matrix, (P,) to (P,).
    size
        P.
    near, k
        The value, and how many eigenvalues.
    tolerance
        Of residuals, relative to the spectral radius.
    max_products
        After which to give up, searches included.
    risk
        Accepted probability that a nearer eigenvalue was missed. None does not search.
    generator, dtype, device
        Source of the starts, and where products are computed.

    Raises
    ------
    landscape.errors.NonFiniteLossError
        When a product is NaN or infinite.
    """
    eps = torch.finfo(dtype).eps
    held = torch.empty(0, size, dtype=dtype, device=device)
    kept: Floats = np.zeros(0)
    products, radius, residual, attempt = 0, 0.0, 0.0, 0
    excluded = math.inf
    while True:
        # However many searches there are, their risks add up to no more than the one accepted.
        share = (risk or 1.0) / (max(attempt, 1) * (max(attempt, 1) + 1))
        # P(|z.u| <= d) <= d sqrt(2 n / pi) for u uniform on the unit sphere of dimension n.
        light = share**2 * math.pi / (2 * max(size - len(held), 1))
        drawn = torch.randn(size, generator=generator, device=generator.device, dtype=torch.float32)
        run = LanczosRun(matvec, drawn.to(device, dtype), beside=held)
        farthest = np.sort(np.abs(kept - near))[k - 1] if len(kept) >= k else math.inf
        complete = False
        while True:
            before = run.steps
            run.extend(min(_STRIDE, max_products - products))
            products += run.steps - before
            values, residuals, vectors = run.ritz()
            weights = vectors[0] ** 2
            radius = max(radius, float(np.abs(values).max()))
            rounding = _ULPS * eps * radius
            limit = max(tolerance * radius, rounding)
            margin = rounding + hidden(eps, share) * radius
            inside = farthest - max(limit, 2 * margin)
            distance = np.abs(values - near)
            order = np.argsort(distance, kind="stable")
            # What is certainly nearer is taken as well, however little that is.
            nearer = (distance < inside) | (distance + residuals + residual < farthest - 2 * margin)
            wanted = order[nearer[order]]
            wanted = wanted[weights[wanted] > light] if len(kept) >= k else wanted[: k - len(kept)]
            converged = residuals[wanted] <= limit
            enough = len(kept) + len(wanted) >= k
            if run.exhausted or (len(wanted) and enough and bool(converged.all())):
                complete = run.exhausted and not len(wanted) and len(kept) >= k
                if complete:
                    excluded = _excluded(run, near, farthest, inside, margin, light)
                break
            if not len(wanted) and enough:
                complete = inside < 0 or _nothing_within(run, near, inside + margin, light)
                if complete:
                    excluded = _excluded(run, near, farthest, inside, margin, light)
                    break
            if products >= max_products:
                break
        late = wanted[~converged]
        added = wanted[converged]
        held = torch.cat([held, _combined(vectors[:, added], run)])
        kept = np.concatenate([kept, values[added]])
        residual += float(np.linalg.norm(residuals[added]))
        complete = complete or len(kept) == size
        attempt += 1
        if complete or len(late) or products >= max_products or (risk is None and len(kept) >= k):
            break
    every = np.concatenate([kept, values[late]])
    known = np.arange(len(every)) < len(kept)
    rows = torch.cat([held, _combined(vectors[:, late], run)])
    chosen = np.argsort(np.abs(every - near), kind="stable")[:k]
    # Of what is as far as the last one, others may be nearer by what could not be excluded.
    beyond = np.maximum(np.abs(every[chosen] - near) - excluded, 0.0) if complete else 0.0
    return NearestPairs(
        values=np.where(known[chosen], every[chosen], np.nan),
        vectors=rows[torch.from_numpy(chosen).to(device)],
        bounds=np.full(len(chosen), residual + rounding) + beyond,
        products=products,
        radius=radius,
        complete=complete,
    )


def _combined(coefficients: Floats, run: LanczosRun) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(run.basis) @ run.basis


def _nothing_within(run: LanczosRun, near: float, distance: float, light: float) -> bool:
    return distance < 0 or largest_mass(run, near - distance, near + distance) <= light


def _excluded(
    run: LanczosRun, near: float, farthest: float, inside: float, margin: float, light: float
) -> float:
    """Return up to which distance there is nothing more: `inside`, or more of what is tried up to the farthest."""
    for part in (0.01, 0.1, 0.3):
        level = farthest - max(part * (farthest - inside), 2 * margin)
        if level > inside and _nothing_within(run, near, level + margin, light):
            return level
    return inside


def largest_mass(run: LanczosRun, low: float, high: float) -> float:
    """Return the largest part that the start may have in an eigenspace, squared, between two values.

    It is the maximum of Christoffel's function. Between nodes, points are tried, and finer ones around the largest
    values found.

    Parameters
    ----------
    run
        A Lanczos run.
    low, high
        The ends of the interval, which counts with them.
    """
    nodes, weights = run.rule()
    within = (nodes >= low) & (nodes <= high)
    largest = float(weights[within].max(initial=0.0))
    if run.exhausted:
        return largest
    ends = np.unique(np.concatenate([[low], nodes[within], [high]]))
    # The nodes themselves are known better by their weights.
    parts = (np.arange(_POINTS) + 0.5) / _POINTS
    grid = np.concatenate([[low, high], (ends[:-1, None] + np.diff(ends)[:, None] * parts).ravel()])
    step = np.diff(ends).max(initial=0.0) / _POINTS
    for _ in range(_FINER):
        found = _christoffel(run, grid)
        largest = max(largest, float(found.max()))
        best = grid[np.argsort(found)[-_POINTS:]]
        grid = np.clip((best[:, None] + step * np.linspace(-1, 1, _POINTS)).ravel(), low, high)
        step /= _POINTS / 2
    return largest


def _christoffel(run: LanczosRun, x: Floats) -> Floats:
    """Return 1 over the sum of the squares of the orthonormal polynomials at x, shape (n,)."""
    before, now, total = np.zeros_like(x), np.ones_like(x), np.ones_like(x)
    growing: NDArray[np.bool_] = np.ones(len(x), dtype=bool)
    coupling = 0.0
    for alpha, beta in zip(run.diagonal, run.coupling, strict=True):
        before, now = now, np.where(growing, ((x - alpha) * now - coupling * before) / beta, 0.0)
        coupling = beta
        total = total + now**2
        # Far below every risk, and far from overflow.
        growing &= total < 1e100
    found: Floats = 1 / total
    return found
