"""How much of the gradient lies in the Hessian's leading eigenspaces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from attrs import evolve, field, frozen

from landscape.interfaces import Measurement, Probe
from landscape.validators import at_least, between, number, optional
from landscape_hessian.spectrum import HessianSpectrum

if TYPE_CHECKING:
    import torch

    from landscape.objective import Point

__all__ = ["GradientHessianOverlap"]


@frozen
class GradientHessianOverlap(Probe):
    r"""The share of the gradient that lies in the leading eigenspaces of the Hessian.

    .. math:: \mathrm{overlap}_i = |P_i g| / |g|, \qquad P_i = \sum_{l \le i} v_l v_l^T,

    with g the gradient of L on all data and :math:`v_l` the eigenvector of the l-th largest eigenvalue
    (algebraically). It rises from 0 towards 1 with i, and is 1 for i = P. For a direction drawn at random it
    is about :math:`\sqrt{i/P}`.

    The eigenvectors are those of ``HessianSpectrum`` with the same options: measured at the same point, they
    are computed once for both. Where the gradient is zero, eigenpairs have not converged, or the i-th and the
    next eigenvalue cannot be told apart (so that :math:`P_i` is not determined), the overlap is NaN with a
    warning. What comes after the k-th eigenvalue is known from the search for missed ones, as a rule well
    enough: always so every 40 steps along 400 steps of SGD on digits. Where it is not, ``HessianSpectrum``
    with k + 1 is measured too, which costs as much again. Dot products are summed in float64.

    Columns ``gradient_hessian_overlap_1`` .. ``_k``.

    Parameters
    ----------
    k
        How many overlaps.
    tolerance, max_products, basis, risk, examples
        See :class:`~landscape_hessian.spectrum.HessianSpectrum`. `examples` concerns the Hessian alone.
    """

    k: int = field(default=5, validator=at_least(1))
    tolerance: float = field(default=1e-3, validator=number(above=0))
    max_products: int | None = field(default=None, validator=optional(at_least(1)))
    basis: int | None = field(default=None, validator=optional(at_least(1)))
    risk: float | None = field(default=1e-3, validator=optional(between(0, 1)))
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "G. Gur-Ari, D. A. Roberts, E. Dyer. Gradient descent happens in a tiny subspace. "
        "arXiv:1812.04754 (2018).",
    )

    def __attrs_post_init__(self) -> None:
        self.spectrum()  # refuses what the spectrum would refuse

    def spectrum(self) -> HessianSpectrum:
        """Return the probe whose eigenvectors are used."""
        return HessianSpectrum(
            k=self.k,
            tolerance=self.tolerance,
            max_products=self.max_products,
            basis=self.basis,
            risk=self.risk,
            examples=self.examples,
        )

    def _ends_between_eigenvalues(self, point: Point, spectrum: Measurement) -> bool:
        """Say whether the k-th eigenvalue is certainly larger than the one after it, if there is one."""
        lowest = f"hessian_eigenvalue_{self.k}"
        if spectrum.scalars[lowest] - spectrum.errors[lowest].value > float(spectrum.carry["edge"]):
            return True
        longer = evolve(self.spectrum(), k=self.k + 1, basis=self.basis and max(self.basis, 2 * self.k + 6))
        values, errors = point.measure(longer).scalars, point.measure(longer).errors
        after = f"hessian_eigenvalue_{self.k + 1}"
        if lowest not in errors or after not in errors:
            return False
        return values[lowest] - errors[lowest].value > values[after] + errors[after].value

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the overlaps.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product with the Hessian is not finite here.
        """
        names = [f"gradient_hessian_overlap_{i + 1}" for i in range(self.k)]
        gradient = point.gradient().double()
        squared_norm = float(gradient @ gradient)
        if squared_norm == 0:
            return Measurement(
                scalars=dict.fromkeys(names, math.nan),
                warnings=("gradient_hessian_overlap is unknown: the gradient is zero here.",),
            )
        spectrum = point.measure(self.spectrum())
        values = spectrum.arrays["hessian_eigenvalues"]
        vectors = spectrum.carry["eigenvectors"]
        bounds = [
            spectrum.errors[name].value if name in spectrum.errors else math.nan
            for name in (f"hessian_eigenvalue_{i + 1}" for i in range(self.k))
        ]
        scalars: dict[str, float] = {}
        unknown: list[str] = []
        ambiguous: list[str] = []
        within = 0.0
        for i, name in enumerate(names):
            scalars[name] = math.nan
            if math.isnan(values[: i + 1].sum()):
                unknown.append(str(i + 1))
                continue
            within += float(vectors[i].double() @ gradient) ** 2
            if (
                values[i] - values[i + 1] <= bounds[i] + bounds[i + 1]
                if i + 1 < self.k
                else not self._ends_between_eigenvalues(point, spectrum)
            ):
                ambiguous.append(str(i + 1))
                continue
            # Vectors are orthonormal to rounding only.
            scalars[name] = min(math.sqrt(within / squared_norm), 1.0)
        warnings = []
        if unknown:
            warnings.append(
                f"gradient_hessian_overlap_{', '.join(unknown)} is unknown: "
                + (" ".join(spectrum.warnings) or "the eigenpairs have not converged.")
            )
        if ambiguous:
            warnings.append(
                f"gradient_hessian_overlap_{', '.join(ambiguous)} is not determined: the eigenvalue cannot be "
                "told apart from the next one."
            )
        return Measurement(scalars=scalars, warnings=tuple(warnings))
