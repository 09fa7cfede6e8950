"""The ends of the Hessian's spectrum."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.randomness import label_of
from landscape.validators import at_least, between, number, of_type, optional
from landscape_hessian.operators import Kind, operator_at, prefix_of, product_rounding, valid_kind

if TYPE_CHECKING:
    import numpy as np
    import torch

    from landscape.objective import CurvatureOperator, Point
    from landscape_hessian.checkpoint import KeptProducts

__all__ = ["HessianSpectrum"]

#: Columns per end; the arrays have all values.
_COLUMNS = 100


@frozen
class HessianSpectrum(Probe):
    r"""The algebraically largest and smallest eigenvalues of the Hessian of L, or of another matrix of second order.

    Thick-restart Lanczos with full reorthogonalisation on products :math:`H v` (see
    `landscape_hessian.lanczos`). An eigenvalue is reported when its pair's residual is small,

    .. math:: |H v - \theta v| \le \mathrm{tolerance} \cdot \max_i |\theta_i|,

    and comes with a bound on its error, which is smaller than that by a further factor of residual/gap. What
    has not converged is NaN with a warning. A search in the complement looks for what a Krylov space cannot
    see by itself, copies of multiple eigenvalues above all: the Hessian of a linear regression with ten
    outputs has every eigenvalue ten times. A walk's next measurement starts from the eigenvectors of the
    last one, which saves about a tenth of the products.

    Where the edge of the spectrum is flat, as the lower one of a network's Hessian, the search may not come
    down to the tolerance with as many products as the iteration took. Then an eigenvalue that was missed may
    lie a little beyond the reported ones; the bounds are as large as to allow for it, and a warning says so. A
    smaller `tolerance` helps. It refers to the spectral radius, of which the smallest eigenvalues of a trained
    network are a small part, 0.2 of 9.6 for a perceptron (17,610 weights) on digits: there, with four generators, 1e-3
    took 108 to 126 products for the five smallest and left bounds of 3e-3 to 1.2e-2 of the radius, 3e-4 took 176 to 221
    and left 4e-4 to 1.5e-3, and 1e-4 took 198 to 214 and left 3e-4, a sixtieth of the smallest eigenvalue. A larger
    `basis` did not help. In float32, rounding hides from the search what is nearer to the edge than 1.2e-4 of the
    radius at a risk of 1e-3, or 2.4e-4 where both ends are asked for; float64 does not.

    For the whole spectrum, give k = P: from P/2 pairs on, P products form the matrix, which is solved densely.

    Columns ``hessian_eigenvalue_1`` .. ``_k``, largest first; ``hessian_eigenvalue_bottom_1`` .., smallest
    first, the first hundred of each; ``hessian_products``, what it cost. Arrays ``hessian_eigenvalues``, shape
    (k,), and ``hessian_eigenvalues_bottom``. With another `kind` they begin with its name. With `learning_rate`,
    ``hessian_sharpness``: :math:`\theta_1 \eta / 2`. Carried: ``eigenvectors``, shape (k, P), and
    ``eigenvectors_bottom``, in the order of the values, orthonormal; and ``edge``, a bound above the eigenvalue
    after the k largest (infinite where there is none), and ``edge_bottom``, below the one after the smallest.

    Parameters
    ----------
    k
        How many of the largest eigenvalues. Five is what the seed studies of stochastic gradient
        noise looked at; classification with c classes shows about c outliers (Sagun et al. 2017, sec. 3). More than P
        is an error beyond a hundred; up to there, what does not exist is NaN with a warning.
    bottom
        How many of the smallest eigenvalues.
    tolerance
        Of the residual, relative to the spectral radius. With 1e-3, on a fully connected (17,610 weights) and
        a convolutional network on digits, at 12 places each along 400 steps of SGD, the five largest
        eigenvalues were within 3e-6 of the radius. From random vectors alone, they took 13 to 21 products from
        step 100 on, and up to 48 in the first steps, where the largest eigenvalues lie close together.
    max_products
        Products after which to give up. None is 1,000, of which the hardest of those 24 places took a tenth, or
        P where the matrix is formed.
    basis
        Vectors of P numbers held at a time, at least 2 (k + bottom) + 4. By default 2 (k + bottom) + 30: from
        step 100 on, all of those places were solved without a restart. A search at a flat edge takes up
        to twice as many, also where fewer are given; without a search (``risk=None``), there are no more.
    risk
        Accepted probability that an eigenvalue was missed by more than the bounds allow for; None does not
        search. From step 100 on, the search for the five largest took 3 to 5 products. For the five smallest
        of three networks on digits it took 16 to 50, and the bounds were at most 6e-3 of the radius. It at
        most doubles the products, unless it finds something.
    examples
        How many examples, drawn once per run, to use in place of all. None takes all.
    kind
        Which matrix: see :class:`landscape.objective.CurvatureOperator`.
    learning_rate
        The step :math:`\eta` of plain gradient descent. It is unstable along an eigenvector whose eigenvalue is
        above :math:`2 / \eta`, and settles where the largest hovers just there (Cohen et al. 2021): at a sharpness
        of 1.
    checkpoint
        A folder for what has been computed, so that a measurement that is killed goes on where it stood when it is
        asked for again: at the same weights, of the same loss and data, with the same options. The numbers are those
        of a measurement that was never interrupted, and of one without a checkpoint, bit for bit on the same machine.
        The first product is computed again: where it is not the one that is kept, as with other data or another loss,
        nothing that is kept is used. It takes P numbers for every product, and is removed at the end. Where the
        matrix is formed, nothing is kept.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> x = torch.diag(torch.tensor([2.0, 1.0]))  # L = (4 w1^2 + w2^2) / 2: eigenvalues 4 and 1
    >>> landscape = ls.Landscape(torch.nn.Linear(2, 1, bias=False), "mse", (x, torch.zeros(2, 1)))
    >>> point = ls.Point(landscape, landscape.initial())
    >>> point.measure("HessianSpectrum", k=2).arrays["hessian_eigenvalues"].round(3).tolist()
    [4.0, 1.0]
    """

    k: int = field(default=5, validator=at_least(0))
    bottom: int = field(default=0, validator=at_least(0))
    tolerance: float = field(default=1e-3, validator=between(0, 1))
    max_products: int | None = field(default=None, validator=optional(at_least(1)))
    basis: int | None = field(default=None, validator=optional(at_least(1)))
    risk: float | None = field(default=1e-3, validator=optional(between(0, 1)))
    examples: int | None = field(default=None, validator=optional(at_least(1)))
    kind: Kind = field(default="hessian", validator=valid_kind)
    learning_rate: float | None = field(default=None, validator=optional(number(above=0)))
    # Not compared: where products are kept changes no number, and so no seed.
    checkpoint: str | None = field(
        default=None, validator=optional(of_type(str, "the path of a folder")), eq=False
    )

    references: ClassVar[tuple[str, ...]] = (
        "K. Wu, H. Simon. Thick-restart Lanczos method for large symmetric eigenvalue problems. "
        "SIAM J. Matrix Anal. Appl. 22 (2000) 602-616.",
        "B. A. Pearlmutter. Fast exact multiplication by the Hessian. Neural Computation 6 (1994) 147-160.",
        "J. L. M. van Dorsselaer, M. E. Hochstenbach, H. A. van der Vorst. Computing probabilistic bounds for "
        "extreme eigenvalues of symmetric matrices with the Lanczos method. SIAM J. Matrix Anal. Appl. 22 "
        "(2000) 837-852.",
        "J. Cohen, S. Kaur, Y. Li, J. Z. Kolter, A. Talwalkar. Gradient descent on neural networks typically occurs at "
        "the edge of stability. ICLR 2021.",
    )

    def __attrs_post_init__(self) -> None:
        if self.k + self.bottom < 1:
            raise ConfigurationError("HessianSpectrum(k=0, bottom=0) asks for nothing; give k or bottom.")
        if self.learning_rate is not None and not self.k:
            raise ConfigurationError(
                f"HessianSpectrum(k=0, learning_rate={self.learning_rate}): sharpness is that of the largest "
                "eigenvalue; give k=1 or more."
            )
        wanted = self.k + self.bottom
        if self.basis is not None and self.basis < 2 * wanted + 4:
            raise ConfigurationError(
                f"HessianSpectrum(basis={self.basis}): {wanted} wanted pairs need a basis of {2 * wanted + 4} "
                "or more; or leave it out."
            )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the eigenvalues with bounds on their errors.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are, `k` or `bottom` is more than a hundred and than P, or the
            vectors or the matrix that so many pairs need are too large for the memory.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product is not finite here.
        """
        import numpy as np
        import torch

        from landscape_hessian.lanczos import extreme_eigenpairs, least_bound

        size = point.landscape.size
        for name, count in (("k", self.k), ("bottom", self.bottom)):
            if count > max(size, _COLUMNS):
                raise ConfigurationError(
                    f"HessianSpectrum({name}={count}): the landscape has {size} weights, and its Hessian as many "
                    f"eigenvalues; give {name}={size} or less."
                )
        self._refuse_more_than_memory(point)
        operator = operator_at(point, self.kind, self.examples, "HessianSpectrum")
        prefix = prefix_of(self.kind)
        start = self._start(point, operator)
        products = self._kept_products(point, operator, start, generator)
        found = extreme_eigenpairs(
            products or operator.matvec,
            size,
            matmat=operator.matmat,
            top=min(self.k, size),
            bottom=min(self.bottom, size),
            tolerance=self.tolerance,
            max_products=self.max_products,
            basis=self.basis,
            risk=self.risk,
            start=start,
            gradient=operator.gradient,
            product_rounding=product_rounding(point, operator, self.examples),
            generator=generator,
            dtype=operator.dtype,
            device=operator.device,
        )
        if products is not None:
            products.remove()
        scalars: dict[str, float] = {}
        errors: dict[str, Uncertainty] = {}
        arrays: dict[str, np.ndarray] = {}
        carry: dict[str, torch.Tensor] = {}
        warnings: list[str] = []
        for count, pairs, suffix in ((self.k, found.top, ""), (self.bottom, found.bottom, "_bottom")):
            if count:
                # Fewer products than pairs leave some without any value, and so do fewer weights.
                values = np.full(count, np.nan)
                values[: len(pairs.values)] = np.where(pairs.converged, pairs.values, np.nan)
                for i, value in enumerate(values[:_COLUMNS]):
                    name = f"{prefix}_eigenvalue{suffix}_{i + 1}"
                    scalars[name] = float(value)
                    if not np.isnan(value):
                        errors[name] = Uncertainty(float(pairs.bounds[i]), "bound")
                arrays[f"{prefix}_eigenvalues{suffix}"] = values
                carry[f"eigenvectors{suffix}"] = pairs.vectors
                carry[f"edge{suffix}"] = torch.tensor(pairs.edge, dtype=torch.float64)
                if count > size:
                    warnings.append(
                        f"The landscape has {size} weights, and its Hessian no more eigenvalues; the rest is NaN."
                    )
                if np.isnan(values[:size]).any():
                    warnings.append(
                        f"{prefix}_eigenvalues{suffix} did not all converge. Allow more max_products, a larger "
                        "basis or a larger tolerance; where the products are not those of a symmetric matrix, "
                        "the second derivative of some operation of the module is wrong."
                    )
                # No tolerance cures what is rounding.
                limit = max(self.tolerance * found.radius, found.rounding) + found.rounding
                wide = [bound for bound in pairs.bounds[pairs.converged] if bound > limit]
                if wide and found.complete and not found.resolved and self.risk is not None:
                    least = least_bound(operator.dtype, self.risk, both=bool(self.k and self.bottom))
                    cure = (
                        "Give a smaller tolerance: it takes some more products, and the search begins with more of "
                        "the edge."
                        if least < self.tolerance
                        else f"At risk={self.risk:g}, rounding hides eigenvalues within {least * found.radius:.2g} of "
                        "the edge: evaluate in float64, Landscape(..., dtype=torch.float64), or allow a larger risk."
                    )
                    warnings.append(
                        f"{prefix}_eigenvalues{suffix} are known to {max(wide):.2g} only, by their bounds, and not to "
                        f"tolerance={self.tolerance:g} times {found.radius:.3g}: the spectrum's edge is so flat that "
                        f"an eigenvalue may have been missed. {cure}"
                    )
        if self.risk is not None and errors and not found.complete:
            warnings.append(
                "max_products were used up before a search for missed eigenvalues could begin; the bounds hold if "
                "none was missed. Allow more max_products."
            )
        if self.learning_rate is not None and self.k:
            largest = f"{prefix}_eigenvalue_1"
            scalars[f"{prefix}_sharpness"] = scalars[largest] * self.learning_rate / 2
            if largest in errors:
                bound = errors[largest].value * self.learning_rate / 2
                errors[f"{prefix}_sharpness"] = Uncertainty(bound, "bound")
        scalars[f"{prefix}_products"] = float(found.products)
        return Measurement(
            scalars=scalars, errors=errors, arrays=arrays, warnings=tuple(warnings), carry=carry
        )

    def _refuse_more_than_memory(self, point: Point) -> None:
        """Refuse a basis of more vectors than the device can hold; a matrix has its own limit."""
        import torch

        size, wanted = point.landscape.size, self.k + self.bottom
        if size <= 2 * wanted:
            return
        vectors = min(self.basis or 2 * wanted + 30, size)
        needed = vectors * size * point.theta.element_size()
        if point.theta.device.type == "cuda":
            there = torch.cuda.get_device_properties(point.theta.device).total_memory
        elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        else:
            return
        if needed > there:
            raise ConfigurationError(
                f"HessianSpectrum(k={self.k}, bottom={self.bottom}): {vectors:,} vectors of {size:,} weights take "
                f"{needed / 1e9:,.1f} GB, and {point.theta.device} has {there / 1e9:,.1f} GB. Ask for fewer pairs, "
                f"give basis={2 * wanted + 4} or a little more, or restrict the landscape to some of its weights."
            )

    def _kept_products(
        self,
        point: Point,
        operator: CurvatureOperator,
        start: torch.Tensor | None,
        generator: torch.Generator,
    ) -> KeptProducts | None:
        """Return products kept in a folder that belongs to this place, loss, data and iteration alone."""
        if self.checkpoint is None:
            return None
        from landscape_hessian.checkpoint import KeptProducts, digest

        facts = (
            label_of(self),
            str(operator.dtype),
            point.theta,
            operator.gradient,
            start,
            generator.get_state(),
        )
        return KeptProducts(Path(self.checkpoint) / digest(*facts)[:32], operator.matvec)

    def _start(self, point: Point, operator: CurvatureOperator) -> torch.Tensor | None:
        """Return the eigenvectors of the same worker's last measurement, (k + bottom, P), if there are any."""
        import torch

        before = point.previous.measured(self) if point.previous is not None else None
        if before is None or not before.carry:
            return None
        rows = torch.cat([before.carry[name] for name in sorted(before.carry) if "vectors" in name])
        return rows if rows.shape[1] == operator.shape[0] else None
