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
    rademacher,
    valid_kind,
)

if TYPE_CHECKING:
    import torch

    from landscape.objective import Point

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

    Some eigenvalue then lies within the residual of each; that no nearer one was passed over is not proved, and of
    a multiple eigenvalue there is one copy. In the dense part of a spectrum eigenvalues are told apart only by about
    as many products as there are eigenvalues around: what has not converged is NaN with a warning.

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
        Products after which to give up; memory is as many vectors of P numbers.
    kind, examples
        See :class:`CurvatureSpectrum`.
    """

    near: float = field(default=0.0, validator=number())
    k: int = field(default=5, validator=at_least(1))
    tolerance: float = field(default=1e-3, validator=between(0, 1))
    max_products: int = field(default=200, validator=at_least(1))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "B. N. Parlett. The Symmetric Eigenvalue Problem. SIAM 1998, ch. 13.",
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
        import torch

        from landscape_hessian.quadrature import LanczosRun

        operator = operator_at(point, self.kind, self.examples, "EigenvaluesNear")
        size, name = operator.shape[0], f"{prefix_of(self.kind)}_near"
        run = LanczosRun(operator.matvec, rademacher(size, generator, operator))
        while True:
            run.extend(min(_STRIDE, self.max_products - run.steps))
            values, residuals, vectors = run.ritz()
            nearest = np.argsort(np.abs(values - self.near), kind="stable")[: self.k]
            rounding = _ULPS * torch.finfo(operator.dtype).eps * float(np.abs(values).max())
            limit = max(self.tolerance * float(np.abs(values).max()), rounding)
            converged = residuals[nearest] <= limit
            if (
                (len(nearest) == self.k and converged.all())
                or run.exhausted
                or run.steps >= self.max_products
            ):
                break
        found = np.full(self.k, np.nan)
        found[: len(nearest)] = np.where(converged, values[nearest], np.nan)
        warnings = []
        if np.isnan(found[: min(self.k, size)]).any():
            warnings.append(
                f"{name} did not all converge: eigenvalues lie dense there, or are copies of one. Allow more "
                "max_products or a larger tolerance."
            )
        if self.k > size:
            warnings.append(f"The landscape has {size} weights, and no more eigenvalues; the rest is NaN.")
        coefficients = torch.from_numpy(vectors[:, nearest].T.copy()).to(run.basis)
        return Measurement(
            scalars={
                **{f"{name}_{i + 1}": float(value) for i, value in enumerate(found)},
                f"{name}_products": float(run.steps),
            },
            errors={
                f"{name}_{i + 1}": Uncertainty(float(residuals[at]) + rounding, "bound")
                for i, at in enumerate(nearest)
                if converged[i]
            },
            arrays={name: found},
            warnings=tuple(warnings),
            carry={"eigenvectors": coefficients @ run.basis},
        )


#: Products between two looks at the Ritz values.
_STRIDE = 10
#: Rounding of a product, in units of eps times the radius: see :mod:`landscape_hessian.lanczos`.
_ULPS = 32
