"""All eigenvalues, and eigenvalues near a given one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.validators import at_least, between, number, optional
from landscape_hessian.dense import DENSE_MEMORY, formed, matrix_bytes
from landscape_hessian.operators import (
    Kind,
    operator_at,
    prefix_of,
    product_rounding,
    valid_kind,
)

if TYPE_CHECKING:
    import torch

    from landscape.objective import CurvatureOperator, Point
    from landscape_hessian.interior import NearestPairs

__all__ = ["CurvatureSpectrum", "EigenvaluesNear"]


@frozen
class CurvatureSpectrum(Probe):
    r"""All eigenvalues of the Hessian, or of another matrix of second order, by way of the dense matrix.

    P products form the matrix A in blocks of columns; it is made symmetric and solved in float64. Every eigenvalue
    is within the rounding of the products, and of LAPACK. That of the products is the Frobenius norm of
    :math:`A - A^\top`, twice what making A symmetric changes, and an estimate of what all products have in common
    (:func:`landscape_hessian.operators.product_rounding`).

    Columns ``hessian_spectrum_min`` and ``_max``, with bounds; ``_negative``, how many eigenvalues are below minus
    `zero` times the largest absolute one; ``_zero``, how many are within; ``_trace``. Array ``hessian_spectrum``,
    shape (P,), rising.

    Parameters
    ----------
    zero
        Eigenvalues within this times the radius count as zero. An eigenvalue whose bound crosses that limit may be
        counted on the wrong side: the bounds of the two counts say how many there are of these.
    kind
        Which matrix: see :class:`landscape.objective.CurvatureOperator`.
    examples
        See :class:`~landscape_hessian.spectrum.HessianSpectrum`.
    memory
        Bytes that three matrices of P times P numbers in float64 may take. 16 GiB by default: P = 26,000.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> x = torch.diag(torch.tensor([2.0, 1.0]))
    >>> landscape = ls.Landscape(torch.nn.Linear(2, 1, bias=False), "mse", (x, torch.zeros(2, 1)))
    >>> point = ls.Point(landscape, landscape.initial())
    >>> point.measure("CurvatureSpectrum").arrays["hessian_spectrum"].tolist()
    [1.0, 4.0]
    """

    zero: float = field(default=1e-3, validator=between(0, 1))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))
    memory: int = field(default=DENSE_MEMORY, validator=at_least(1))

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return all eigenvalues.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the matrix takes more than `memory`, and when `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product is not finite here.
        """
        import numpy as np

        size = point.landscape.size
        if (needed := matrix_bytes(size)) > self.memory:
            raise ConfigurationError(
                f"CurvatureSpectrum: all eigenvalues of {size:,} weights take {needed / 1e9:,.1f} GB, and "
                f"memory={self.memory} allows {self.memory / 1e9:.1f} GB. CurvatureDensity estimates the spectrum, "
                "HessianSpectrum gives its ends, landscape.restrict() takes some of the weights."
            )
        operator = operator_at(point, self.kind, self.examples, "CurvatureSpectrum")
        matrix, asymmetry = formed(operator.matmat, size, operator.dtype, operator.device)
        name = f"{prefix_of(self.kind)}_spectrum"
        values = np.linalg.eigvalsh(matrix)
        radius = float(np.abs(values).max())
        # LAPACK is backward stable: a modest multiple of eps times the norm (Anderson et al. 1999, sec. 4.7).
        lapack = 8 * np.finfo(float).eps * size**0.5
        bound = asymmetry + (lapack + product_rounding(point, operator, self.examples)) * radius
        limit = self.zero * radius
        unsure = float((np.abs(np.abs(values) - limit) <= bound).sum())
        return Measurement(
            scalars={
                f"{name}_min": float(values[0]),
                f"{name}_max": float(values[-1]),
                f"{name}_negative": float((values < -limit).sum()),
                f"{name}_zero": float((np.abs(values) <= limit).sum()),
                f"{name}_trace": float(values.sum()),
            },
            errors={
                f"{name}_min": Uncertainty(bound, "bound"),
                f"{name}_max": Uncertainty(bound, "bound"),
                f"{name}_negative": Uncertainty(unsure, "bound"),
                f"{name}_zero": Uncertainty(unsure, "bound"),
            },
            arrays={name: values},
        )


@frozen
class EigenvaluesNear(Probe):
    r"""Eigenvalues of the Hessian, or of another matrix of second order, near a given value.

    A Lanczos run with full reorthogonalisation goes on until the k Ritz values nearest to `near` have residuals

    .. math:: |A v - t v| \le \mathrm{tolerance} \cdot \max_i |t_i| .

    In their complement a search goes on for what the run cannot have seen, copies of multiple eigenvalues above all,
    and what it has passed over (:mod:`landscape_hessian.interior`): it takes about as many products again, and as many
    for every copy. Then the i-th value is that of the i-th nearest eigenvalue, copies counted, within its bound, but
    for the risk; of eigenvalues on either side of `near` that are equally far within their bounds, it may be either.
    Where `max_products` end the search, a warning says so; every value is still within its bound of an eigenvalue of
    its own. In the dense part of a spectrum eigenvalues are told apart only by about as many products as there are
    eigenvalues around: what has not converged is NaN with a warning. Up to 64 weights, and where k is a half of them,
    the matrix is formed and solved.

    Columns ``hessian_near_1`` .. ``_k``, the nearest first, with bounds; ``hessian_near_products``. Array
    ``hessian_near``, shape (k,). Carried: ``eigenvectors``, shape (k, P).

    Parameters
    ----------
    near
        The value.
    k
        How many.
    tolerance
        Of the residuals, relative to the spectral radius.
    max_products
        Products after which to give up, the search included; memory is as many vectors of P numbers at most.
    risk
        Accepted probability that a nearer eigenvalue, or a copy, was missed by more than the bounds allow for. None
        does not search: then each value is within its bound of an eigenvalue of its own, nothing more.
    kind, examples
        See :class:`CurvatureSpectrum`.
    """

    near: float = field(default=0.0, validator=number())
    k: int = field(default=5, validator=at_least(1))
    tolerance: float = field(default=1e-3, validator=between(0, 1))
    max_products: int = field(default=200, validator=at_least(1))
    risk: float | None = field(default=1e-3, validator=optional(between(0, 1)))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "B. N. Parlett. The Symmetric Eigenvalue Problem. SIAM 1998, ch. 13.",
        "G. Szegő. Orthogonal Polynomials. AMS 1975, sec. 3.41.",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the eigenvalues with bounds.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product is not finite here.
        """
        import numpy as np

        operator = operator_at(point, self.kind, self.examples, "EigenvaluesNear")
        size, name = operator.shape[0], f"{prefix_of(self.kind)}_near"
        pairs = self._pairs(point, operator, generator)
        found = np.full(self.k, np.nan)
        found[: len(pairs.values)] = pairs.values
        warnings = []
        if np.isnan(found[: min(self.k, size)]).any():
            warnings.append(
                f"{name} did not all converge: eigenvalues lie dense there, or are copies of one. What is given is "
                "within its bound of an eigenvalue of its own, which need not be the i-th nearest. Allow more "
                "max_products or a larger tolerance."
            )
        elif self.risk is not None and not pairs.complete:
            warnings.append(
                f"{name}: max_products were used up before the search for nearer eigenvalues and copies had come to an "
                "end. Each is within its bound of an eigenvalue of its own, which need not be the i-th nearest. Allow "
                "more max_products."
            )
        if self.k > size:
            warnings.append(f"The landscape has {size} weights, and no more eigenvalues; the rest is NaN.")
        return Measurement(
            scalars={
                **{f"{name}_{i + 1}": float(value) for i, value in enumerate(found)},
                f"{name}_products": float(pairs.products),
            },
            errors={
                f"{name}_{i + 1}": Uncertainty(float(bound), "bound")
                for i, bound in enumerate(pairs.bounds)
                if not np.isnan(found[i])
            },
            arrays={name: found},
            warnings=tuple(warnings),
            carry={"eigenvectors": pairs.vectors},
        )

    def _pairs(self, point: Point, operator: CurvatureOperator, generator: torch.Generator) -> NearestPairs:
        """Return the pairs, with the rounding of the products in their bounds."""
        import numpy as np
        import torch
        from attrs import evolve

        from landscape_hessian.interior import NearestPairs, nearest_eigenpairs

        size, rounding = operator.shape[0], product_rounding(point, operator, self.examples)
        if size <= min(max(_SMALL, 2 * self.k), self.max_products):
            matrix, asymmetry = formed(operator.matmat, size, operator.dtype, operator.device)
            values, vectors = np.linalg.eigh(matrix)
            chosen = np.argsort(np.abs(values - self.near), kind="stable")[: self.k]
            radius = float(np.abs(values).max())
            lapack = 8 * np.finfo(float).eps * size**0.5
            return NearestPairs(
                values=values[chosen],
                vectors=torch.from_numpy(vectors[:, chosen].T.copy()).to(operator.device, operator.dtype),
                bounds=np.full(len(chosen), asymmetry + (lapack + rounding) * radius),
                products=size,
                radius=radius,
                complete=True,
            )
        pairs = nearest_eigenpairs(
            operator.matvec,
            size,
            self.near,
            min(self.k, size),
            tolerance=self.tolerance,
            max_products=self.max_products,
            risk=self.risk,
            generator=generator,
            dtype=operator.dtype,
            device=operator.device,
        )
        return evolve(pairs, bounds=pairs.bounds + rounding * pairs.radius)


#: Weights up to which the matrix is formed: a run and its search take as many products, as a rule.
_SMALL = 64
