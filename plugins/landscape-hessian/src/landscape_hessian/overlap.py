"""How much of the gradient lies in leading eigenspaces of the curvature, and how much of these stays."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from attrs import evolve, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.randomness import preserved_random_state
from landscape.validators import at_least, between, optional
from landscape_hessian.operators import Kind, prefix_of, valid_kind
from landscape_hessian.spectrum import HessianSpectrum

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Point

__all__ = ["GradientHessianOverlap", "HessianSubspaceOverlap"]

#: Batches that a warning names.
_NAMED = 10


@frozen
class _Eigenspaces(Probe, ABC):
    """Looks at the eigenspaces of the largest eigenvalues, which ``HessianSpectrum`` finds."""

    k: int = field(default=5, validator=at_least(1))
    tolerance: float = field(default=1e-3, validator=between(0, 1))
    max_products: int | None = field(default=None, validator=optional(at_least(1)))
    basis: int | None = field(default=None, validator=optional(at_least(1)))
    risk: float | None = field(default=1e-3, validator=optional(between(0, 1)))
    examples: int | None = field(default=None, validator=optional(at_least(1)))
    kind: Kind = field(default="hessian", validator=valid_kind, kw_only=True)

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
            kind=self.kind,
        )

    def _ends_between_eigenvalues(self, point: Point, spectrum: Measurement) -> bool:
        """Say whether the k-th eigenvalue is certainly larger than the one after it, if there is one."""
        lowest = f"{prefix_of(self.kind)}_eigenvalue_{self.k}"
        if spectrum.scalars[lowest] - spectrum.errors[lowest].value > float(spectrum.carry["edge"]):
            return True
        longer = evolve(self.spectrum(), k=self.k + 1, basis=self.basis and max(self.basis, 2 * self.k + 6))
        values, errors = point.measure(longer).scalars, point.measure(longer).errors
        after = f"{prefix_of(self.kind)}_eigenvalue_{self.k + 1}"
        if lowest not in errors or after not in errors:
            return False
        return values[lowest] - errors[lowest].value > values[after] + errors[after].value

    def _undetermined(self, point: Point, spectrum: Measurement) -> tuple[list[str], list[str]]:
        """Return which i have no converged eigenvalues, and for which i the i-th cannot be told from the next."""
        values = spectrum.arrays[f"{prefix_of(self.kind)}_eigenvalues"]
        bounds = [
            spectrum.errors[name].value if name in spectrum.errors else math.nan
            for name in (f"{prefix_of(self.kind)}_eigenvalue_{i + 1}" for i in range(self.k))
        ]
        unknown: list[str] = []
        ambiguous: list[str] = []
        for i in range(self.k):
            if math.isnan(values[: i + 1].sum()):
                unknown.append(str(i + 1))
            elif (
                values[i] - values[i + 1] <= bounds[i] + bounds[i + 1]
                if i + 1 < self.k
                else not self._ends_between_eigenvalues(point, spectrum)
            ):
                ambiguous.append(str(i + 1))
        return unknown, ambiguous


@frozen
class GradientHessianOverlap(_Eigenspaces):
    r"""The share of the gradient that lies in the leading eigenspaces of the Hessian, or of another such matrix.

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

    With `batches`, the same of mini-batch gradients, drawn without replacement within a batch: the mean over batches,
    with its standard error. Noise spreads a gradient over all directions, and so lowers it. Batches whose gradient is
    zero are left out, with a warning that says which.

    Columns ``gradient_hessian_overlap_1`` .. ``_k``; with `batches`, ``batch_gradient_hessian_overlap_1`` .. ``_k``.
    With another `kind` its name stands in place of ``hessian``, as in the columns of ``HessianSpectrum``.

    Parameters
    ----------
    k
        How many overlaps.
    batches, batch_size
        How many mini-batch gradients, and their size: None takes 64, or a quarter of the data where that is less.
    tolerance, max_products, basis, risk, examples
        See :class:`~landscape_hessian.spectrum.HessianSpectrum`. `examples` concerns the matrix alone.
    kind
        Which matrix: see :class:`landscape.objective.CurvatureOperator`. The gradient is that of L with all of them.
    """

    batches: int = field(default=0, validator=at_least(0))
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))

    def _batch_gradients(self, point: Point, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield mini-batch gradients, each of shape (P,), float64.

        Raises
        ------
        landscape.errors.ConfigurationError
            When a batch is larger than the data.
        """
        import torch

        data = point.landscape.data
        size = self.batch_size or max(1, min(64, data.examples // 4))
        if size > data.examples:
            raise ConfigurationError(
                f"GradientHessianOverlap(batch_size={size}): the data has {data.examples} examples; give that or less."
            )
        for _ in range(self.batches):
            indices = torch.randperm(data.examples, generator=generator, device=generator.device)[:size].cpu()
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            with preserved_random_state(seed):
                batch = data.take(indices)
            yield point.landscape.gradient(point.theta, batch).double()

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the overlaps.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product with the Hessian is not finite here.
        """
        import numpy as np

        column = f"gradient_{prefix_of(self.kind)}_overlap"
        prefixes = [column] + [f"batch_{column}"] * bool(self.batches)
        gradients = {prefixes[0]: [point.gradient().double()]}
        if self.batches:
            gradients[prefixes[1]] = list(self._batch_gradients(point, generator))
        # A gradient of zero has no direction; that of one batch says nothing about the others.
        warnings = []
        directed = {
            prefix: [gradient for gradient in several if float(gradient @ gradient) != 0]
            for prefix, several in gradients.items()
        }
        for prefix, several in gradients.items():
            left = len(several) - len(directed[prefix])
            if left == len(several):
                one = "the gradient is" if prefix == column else "all of these gradients are"
                warnings.append(f"{prefix} is unknown: {one} zero here.")
            elif left:
                places = [str(i + 1) for i, g in enumerate(several) if float(g @ g) == 0]
                named = ", ".join(places[:_NAMED]) + ", ..." * (left > _NAMED)
                warnings.append(
                    f"{prefix} leaves out {left} of {len(several)} batches, number {named}: their gradient is zero."
                )
        if not any(directed.values()):
            return Measurement(
                scalars={f"{prefix}_{i + 1}": math.nan for prefix in prefixes for i in range(self.k)},
                warnings=tuple(warnings),
            )
        spectrum = point.measure(self.spectrum())
        unknown, ambiguous = self._undetermined(point, spectrum)
        scalars: dict[str, float] = {}
        errors: dict[str, Uncertainty] = {}
        for prefix, several in directed.items():
            shares = np.array([_shares(spectrum.carry["eigenvectors"], gradient) for gradient in several])
            for i in range(self.k):
                name = f"{prefix}_{i + 1}"
                scalars[name] = math.nan
                if not several or str(i + 1) in (*unknown, *ambiguous):
                    continue
                scalars[name] = float(shares[:, i].mean())
                if prefix.startswith("batch") and len(shares) > 1:
                    error = float(shares[:, i].std(ddof=1)) / len(shares) ** 0.5
                    errors[name] = Uncertainty(error, "standard error")
        if unknown:
            warnings.append(
                f"{column}_{', '.join(unknown)} is unknown: "
                + (" ".join(spectrum.warnings) or "the eigenpairs have not converged.")
            )
        if ambiguous:
            warnings.append(
                f"{column}_{', '.join(ambiguous)} is not determined: the eigenvalue cannot be "
                "told apart from the next one."
            )
        return Measurement(scalars=scalars, errors=errors, warnings=tuple(warnings))


def _shares(vectors: Tensor, gradient: Tensor) -> list[float]:
    """Return |P_i g| / |g| for i = 1 .. k, where there are so many vectors."""
    squares = ((vectors.double() @ gradient) ** 2).cumsum(0) / (gradient @ gradient)
    # Vectors are orthonormal to rounding only.
    return [min(math.sqrt(float(square)), 1.0) for square in squares]


@frozen
class HessianSubspaceOverlap(_Eigenspaces):
    r"""How much of the leading eigenspaces of the Hessian, or of another such matrix, stays the same along a path.

    .. math:: \mathrm{overlap}_i = \frac1i \| U_i^\top V_i \|_F^2

    with the eigenvectors :math:`V_i` of the i largest eigenvalues here and :math:`U_i` at an earlier point of the
    same worker: 1 for equal spaces, i/P on average for random ones (Gur-Ari, Roberts & Dyer 2018, sec. 3). Turning
    eigenvectors within the space changes nothing; where the i-th and the next eigenvalue cannot be told apart, at
    either point, the space is not determined and the overlap is NaN with a warning.

    Columns ``hessian_subspace_overlap_1`` .. ``_k``, with the last measured point, and
    ``hessian_subspace_overlap_first_1`` .. ``_k``, with the first; NaN at the first itself. With another `kind` they
    begin with its name. The
    eigenvectors are those of ``HessianSpectrum`` with the same options, computed once for both.

    Parameters
    ----------
    k
        How many overlaps.
    tolerance, max_products, basis, risk, examples, kind
        See :class:`~landscape_hessian.spectrum.HessianSpectrum`.
    """

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the overlaps with the last and the first measured point.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product with the Hessian is not finite here.
        """
        import torch

        prefix = f"{prefix_of(self.kind)}_subspace_overlap"
        spectrum = point.measure(self.spectrum())
        vectors = spectrum.carry["eigenvectors"]
        unclear = {int(i) for several in self._undetermined(point, spectrum) for i in several}
        known = torch.tensor([i + 1 not in unclear for i in range(self.k)])
        earlier = point.previous.measured(self) if point.previous is not None else None
        before = dict(earlier.carry) if earlier is not None else {}
        if "vectors" in before and before["vectors"].shape[1] != vectors.shape[1]:
            before = {}  # of another landscape
        scalars: dict[str, float] = {}
        late = False
        for infix, name in (("", "vectors"), ("first_", "first")):
            there = before.get(name)
            for i in range(1, self.k + 1):
                column = f"{prefix}_{infix}{i}"
                if there is None:
                    scalars[column] = math.nan
                    continue
                if not (known[i - 1] and before[f"{name}_known"][i - 1]):
                    scalars[column], late = math.nan, True
                    continue
                cosines = there[:i].to(vectors).double() @ vectors[:i].double().T
                scalars[column] = min(float((cosines**2).sum()) / i, 1.0)
        warnings: tuple[str, ...] = ()
        if not before:
            warnings = (f"{prefix} needs an earlier point of the path: this is the first.",)
        elif late:
            warnings = (
                f"{prefix} is NaN where an eigenvalue has not converged or cannot be told apart "
                "from the next one.",
            )
        first = {"first": before.get("first", vectors), "first_known": before.get("first_known", known)}
        return Measurement(
            scalars=scalars, warnings=warnings, carry={"vectors": vectors, "vectors_known": known, **first}
        )
