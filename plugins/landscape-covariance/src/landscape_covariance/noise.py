"""How large gradient noise is beside the gradient, and how it lies to the Hessian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.validators import at_least, of_type, optional
from landscape_covariance.covariance import GradientCovariance, taken

if TYPE_CHECKING:
    import torch

    from landscape.objective import Point

__all__ = ["CovarianceHessianAlignment", "GradientNoiseScale"]


@frozen
class GradientNoiseScale(Probe):
    r"""The gradient noise scale: the batch size at which noise and gradient are equally large.

    .. math:: B_{\mathrm{simple}} = \frac{\operatorname{tr} \Sigma}{|G|^2}

    with G the gradient of L and :math:`\Sigma` the covariance of the gradients of single examples (McCandlish et al.
    2018, eq. 2.9). A batch of B examples has a gradient with :math:`E|g_B - G|^2 = \operatorname{tr}\Sigma / B`. G is
    that of all data, not an estimate; the trace is estimated without bias from S examples drawn without replacement,
    and its standard error vanishes when they are all.

    Columns ``gradient_noise_scale`` and ``gradient_noise_trace``, with standard errors. Costs one gradient of all
    data and the gradients of S examples, `batch_size` at a time.

    Parameters
    ----------
    examples
        S; all where there are fewer. With 256, the traces of a perceptron and of a convolutional network on digits,
        after 200 steps of SGD, were known to 9 % and 3 %.
    batch_size
        How many gradients of P numbers are held at a time.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> x, y = torch.ones(4, 1), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    >>> landscape = ls.Landscape(torch.nn.Linear(1, 1, bias=False), "mse", (x, y))
    >>> point = ls.Point(landscape, torch.ones(1))  # gradients 2 (w - y): mean 2, variance 4 * 4 / 3
    >>> round(point.measure("GradientNoiseScale").scalars["gradient_noise_scale"], 3)
    1.333
    """

    examples: int = field(default=256, validator=at_least(2))
    batch_size: int = field(default=64, validator=at_least(1))

    references: ClassVar[tuple[str, ...]] = (
        "S. McCandlish, J. Kaplan, D. Amodei and others. An empirical model of large-batch training. "
        "arXiv:1812.06162 (2018).",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the noise scale and the trace; draws the examples from `generator`.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there is only one example.
        """
        import numpy as np
        import torch

        landscape, data = point.landscape, point.landscape.data
        count = min(self.examples, data.examples)
        if count < 2:
            raise ConfigurationError("GradientNoiseScale needs at least two examples; the data has one.")
        gradient = point.gradient().double()
        # A reference near the mean: what is left to subtract is small, and nothing cancels.
        centre = gradient / (data.examples if landscape.reduction == "sum" else 1)
        indices = torch.randperm(data.examples, generator=generator, device=generator.device)[:count].cpu()
        squares: list[float] = []
        total = torch.zeros_like(centre)
        for part in torch.split(indices, self.batch_size):
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            batch = taken(data, part, seed if data.draws else None)
            away = landscape.example_gradients(point.theta, batch).double() - centre
            squares += (away**2).sum(dim=1).tolist()
            total += away.sum(dim=0)
        distances = np.array(squares)
        shift = total / count
        trace = (float(distances.mean()) - float(shift @ shift)) * count / (count - 1)
        # Of a finite population, drawn without replacement.
        error = float(distances.std(ddof=1)) * math.sqrt((1 - count / data.examples) / count)
        norm = float(centre @ centre)
        scalars = {"gradient_noise_scale": math.nan, "gradient_noise_trace": trace}
        errors = {"gradient_noise_trace": Uncertainty(error, "standard error")}
        if not math.isfinite(trace) or not math.isfinite(norm):
            names = ("gradient_noise_scale", "gradient_noise_trace")
            return Measurement(
                scalars=dict.fromkeys(names, math.nan),
                warnings=("gradient_noise_scale is unknown: a gradient is NaN or infinite here.",),
            )
        if norm == 0:
            return Measurement(
                scalars=scalars,
                errors=errors,
                warnings=("gradient_noise_scale is unknown: the gradient is zero here.",),
            )
        scalars["gradient_noise_scale"] = trace / norm
        errors["gradient_noise_scale"] = Uncertainty(error / norm, "standard error")
        return Measurement(scalars=scalars, errors=errors)


@frozen
class CovarianceHessianAlignment(Probe):
    r"""How the covariance of gradients lies to the Hessian.

    In the noisy quadratic model both have the same eigenvectors, and the covariance is often taken to be proportional
    to the Hessian (Zhang et al. 2019, sec. 3). With the covariance K of ``GradientCovariance`` and the Hessian's
    eigenpairs :math:`(\lambda_i, v_i)` of ``HessianSpectrum``, which are measured once for all probes at a point:

    - ``covariance_along_hessian_i``: :math:`c_i = v_i^\top K v_i`;
    - ``covariance_hessian_ratio_i``: :math:`c_i / \lambda_i`, the same for all i where K is proportional to H;
    - ``covariance_hessian_cosine_i``: :math:`c_i / |K v_i|`, 1 where :math:`v_i` is an eigenvector of K;
    - ``covariance_in_hessian_i``: :math:`\sum_{l \le i} c_l / \operatorname{tr} K`, the share of the noise in the
      leading eigenspaces;
    - ``covariance_hessian_overlap``: :math:`\frac1k \|U_k^\top V_k\|_F^2` of the k leading eigenvectors of each.

    Where eigenvalues of the Hessian coincide, single :math:`v_i` are not determined, only sums over their space.

    Parameters
    ----------
    k
        How many eigenpairs of the Hessian.
    batches, batch_size, centred, per_example
        See :class:`~landscape_covariance.covariance.GradientCovariance`. The eigenvectors of K take `batches` vectors
        of P numbers.
    """

    k: int = field(default=5, validator=at_least(1))
    batches: int = field(default=25, validator=at_least(2))
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    centred: bool = field(default=True, validator=of_type(bool, "True or False"))
    per_example: bool = field(default=False, validator=of_type(bool, "True or False"))

    references: ClassVar[tuple[str, ...]] = (
        "G. Zhang, L. Li, Z. Nado and others. Which algorithmic choices matter at which batch sizes? Insights from a "
        "noisy quadratic model. NeurIPS 2019.",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the alignment.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the data has fewer examples than one draw needs.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product with the Hessian is not finite here.
        """
        import numpy as np

        covariance = point.measure(
            GradientCovariance(
                batches=self.batches,
                batch_size=self.batch_size,
                centred=self.centred,
                k=self.batches - self.centred,
                per_example=self.per_example,
                vectors=True,
            )
        )
        hessian = point.measure("HessianSpectrum", k=self.k)
        names = [
            f"covariance_{name}_{i + 1}"
            for name in ("along_hessian", "hessian_ratio", "hessian_cosine", "in_hessian")
            for i in range(self.k)
        ]
        scalars = dict.fromkeys([*names, "covariance_hessian_overlap"], math.nan)
        trace = covariance.scalars["covariance_trace"]
        if not trace > 0:
            return Measurement(
                scalars=scalars, warnings=("The covariance of gradients is zero or unknown here.",)
            )
        ours, theirs = covariance.carry["eigenvectors"].double(), hessian.carry["eigenvectors"].double()
        cosines = (ours @ theirs.to(ours.device).T).cpu().numpy()  # (rank of K, k)
        spread = covariance.arrays["covariance_eigenvalues"]
        spread = np.pad(spread, (0, len(cosines) - len(spread)))
        curvatures = hessian.arrays["hessian_eigenvalues"]
        share = 0.0
        for i in range(self.k):
            if math.isnan(curvatures[i]):
                break
            along = float(spread @ cosines[:, i] ** 2)
            moved = math.sqrt(float(spread**2 @ cosines[:, i] ** 2))
            share += along / trace
            scalars[f"covariance_along_hessian_{i + 1}"] = along
            scalars[f"covariance_in_hessian_{i + 1}"] = share
            if curvatures[i] != 0:
                scalars[f"covariance_hessian_ratio_{i + 1}"] = along / float(curvatures[i])
            if moved > 0:
                scalars[f"covariance_hessian_cosine_{i + 1}"] = along / moved
        if not np.isnan(curvatures).any() and len(cosines) >= self.k:
            scalars["covariance_hessian_overlap"] = float((cosines[: self.k] ** 2).sum()) / self.k
        warnings: tuple[str, ...] = ()
        if any(math.isnan(value) for value in scalars.values()):
            warnings = (
                "The alignment is NaN where an eigenvalue of the Hessian is unknown or zero, or the covariance has "
                "nothing in its direction.",
            )
        return Measurement(scalars=scalars, warnings=warnings)
