"""Bounds on eigenvalues that a Krylov space has not shown: see :mod:`landscape_hessian.lanczos`."""

from __future__ import annotations

import math

import numpy as np
import torch
from attrs import frozen

from landscape_hessian.krylov import Floats, Krylov

__all__ = [
    *("FIRST", "Chain", "ceiling_of", "excluded", "flipped", "hidden", "least_bound", "outer_edge"),
    *("ritz_edge", "schur", "upper_bounds"),
]

#: Bisections end when the distance that they look for, added to a bound, is known to so much of it.
_SHARP = 1e-3
#: Part of the risk that the first search takes; it is the only one as a rule.
FIRST = 0.8


def hidden(eps: float, share: float) -> float:
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
        Of :func:`landscape_hessian.lanczos.extreme_eigenpairs`.
    both
        Whether both ends are asked for: they share the risk.
    """
    return hidden(torch.finfo(dtype).eps, FIRST * risk / (1 + both))


def flipped(values: Floats, couplings: Floats) -> tuple[Floats, Floats]:
    """Return Ritz values and couplings of the negated operator."""
    return -values[::-1], couplings[:, ::-1]


def excluded(level: float, chain: Chain, log_needed: float, margin: float) -> bool:
    """Say whether an eigenvalue at `level`, above the chain's Ritz values, is too improbable."""
    x = level - margin
    if not x > chain.top:
        # Where the chain is invariant, all that u could reach is known.
        return chain.invariant and x >= chain.top
    return chain.invariant or -0.5 * chain.log_squares(x) <= log_needed


def outer_edge(chain: Chain, log_needed: float, margin: float) -> float:
    """Return the smallest value above the chain's Ritz values from which on eigenvalues are excluded."""
    outer = chain.top + margin
    if chain.invariant:
        return outer
    near, far = 0.0, math.exp((float(np.log(chain.beta).sum()) - log_needed) / len(chain.beta))
    for _ in range(40):
        middle = (near + far) / 2
        if excluded(outer + middle, chain, log_needed, margin):
            far = middle
        else:
            near = middle
        if far - near <= _SHARP * far:
            break
    return outer + far


@frozen(eq=False)
class Chain:
    """The tridiagonal matrix of a search: its diagonal alpha, (i,), what stands beside it, beta, (i,), and its top."""

    alpha: Floats
    beta: Floats
    top: float

    @property
    def invariant(self) -> bool:
        return bool(self.beta[-1] == 0)

    @classmethod
    def of(cls, matrix: Floats, beta: list[float], *, flip: bool = False) -> Chain:
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


def schur(krylov: Krylov, *, flip: bool) -> tuple[Floats, Floats]:
    """Return Ritz values, descending, and the couplings of their vectors; of the negated operator if `flip`."""
    values, vectors = np.linalg.eigh(-krylov.H if flip else krylov.H)
    return values[::-1], (krylov.B @ vectors)[:, ::-1]


def ceiling_of(krylov: Krylov, count: int, threshold: float, *, flip: bool = False) -> float:
    """Return how high the complement may reach so that the `count` largest are known to the threshold."""
    values, couplings = schur(krylov, flip=flip)
    levels = values[:count] + threshold
    reach = [
        float(np.linalg.eigvalsh((couplings / (level - values)) @ couplings.T).max(initial=0.0))
        for level in levels
    ]
    return float(np.min(levels - np.array(reach), initial=math.inf))


def upper_bounds(values: Floats, couplings: Floats, count: int, high: float) -> Floats:
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


def ritz_edge(krylov: Krylov, count: int, *, flip: bool = False) -> float:
    """Bound the eigenvalue after the `count` largest from above, provided that none was missed."""
    if count >= krylov.j:
        return -math.inf if krylov.j == krylov.size else math.inf
    values, couplings = schur(krylov, flip=flip)
    residuals = couplings[:, : count + 1]
    return float(values[count]) + (float(np.linalg.norm(residuals, 2)) if residuals.size else 0.0)
