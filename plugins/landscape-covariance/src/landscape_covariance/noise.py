"""How large gradient noise is beside the gradient, and how it lies to the Hessian."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.validators import at_least, of_type, optional
from landscape_covariance.covariance import GradientCovariance, above_rounding, eigenpairs

if TYPE_CHECKING:
    import numpy as np
    import torch

    from landscape.objective import Point

__all__ = ["CovarianceHessianAlignment", "GradientNoiseScale"]

#: Examples of which the noise scale is estimated where nothing is said.
_EXAMPLES = 256
#: Bytes that gradients of examples may take, and bytes for each of their numbers: in their own type, in float64 (or
#: their products with the Hessian), and squared.
_MEMORY, _BYTES = 2 * 1024**3, 24
#: Points that a line with a standard error needs.
_FITTED = 3


@frozen
class GradientNoiseScale(Probe):
    r"""The gradient noise scale: the batch size at which noise and gradient are equally large.

    .. math:: B_{\mathrm{simple}} = \frac{\operatorname{tr} \Sigma}{|G|^2}

    with G the gradient of L and :math:`\Sigma` the covariance of the gradients of single examples (McCandlish et al.
    2018, eq. 2.9). A batch of B examples has a gradient with :math:`E|g_B - G|^2 = \operatorname{tr}\Sigma / B`. G is
    that of all data, not an estimate; the trace is estimated without bias from S examples drawn without replacement,
    and its standard error vanishes when they are all.

    Where examples count differently, as with ignored targets, weights of classes, or the tokens of sequences of unequal
    length, the gradient of a batch is a ratio, :math:`g_B = \sum_{i \in B} w_i g_i / \sum_{i \in B} w_i`, and

    .. math:: \Sigma = \operatorname{cov} u_i, \qquad u_i = \frac{w_i}{\bar w} (g_i - G),

    with the mean weight :math:`\bar w` of all data: :math:`g_B - G` is the mean of the :math:`u_i` over the batch,
    divided by :math:`\sum_{i \in B} w_i / (B \bar w)`, which is 1 to the first order in 1/B (Cochran 1977). What is
    left out makes the noise larger by a part of about :math:`c^2 / B`, with c the standard deviation of the weights
    over their mean: by 9 % for batches of 32 of which three quarters are ignored. B counts examples, also those that
    are ignored; sequences, not their tokens.

    With `curvature`, also the scale that takes the Hessian H into account (eq. 2.8), at which a step of the best
    length gains half of what it would gain without noise:

    .. math:: B_{\mathrm{noise}} = \frac{\operatorname{tr}(H \Sigma)}{G^\top H G} .

    It is NaN, with a warning, where the curvature along the gradient is not positive: no length is best there.

    Columns ``gradient_noise_scale`` and ``gradient_noise_trace``, with standard errors; with `curvature` also
    ``gradient_noise_scale_hessian`` and ``gradient_noise_trace_hessian``, the numerator. Costs one gradient of all
    data and the gradients of S examples, `batch_size` at a time, with that of all of these together, which they must
    make up; with `curvature` a product with the Hessian for each of these, and one more. Where examples may count
    differently, the targets of all data are read.

    Parameters
    ----------
    examples
        S. None takes 256, or all where there are fewer. With 256, the traces of a perceptron and of a convolutional
        network on digits, after 200 steps of SGD, were known to 9 % and 3 %.
    batch_size
        How many gradients of P numbers are held at a time; fewer where so many, in float64 beside their own type and
        with what is computed from them, take more than 2 GiB. The result does not depend on it.
    curvature
        Whether the scale with the Hessian is computed too.

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

    examples: int | None = field(default=None, validator=optional(at_least(2)))
    batch_size: int = field(default=64, validator=at_least(1))
    curvature: bool = field(default=False, validator=of_type(bool, "True or False"))

    references: ClassVar[tuple[str, ...]] = (
        "S. McCandlish, J. Kaplan, D. Amodei and others. An empirical model of large-batch training. "
        "arXiv:1812.06162 (2018).",
        "W. G. Cochran. Sampling techniques, 3rd edition, chapter 6: ratio estimators. Wiley (1977).",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the noise scale and the trace; draws the examples from `generator`.

        Raises
        ------
        landscape.errors.ConfigurationError
            When there are fewer examples than asked for, or only one; in a landscape with a group of processes; and
            when the gradients of examples do not make up that of their batch, because the loss compares examples.
        landscape.errors.NonFiniteLossError
            With `curvature`, when loss, gradient or a product with the Hessian is not finite here.
        """
        import torch

        from landscape.objective.examples import mean_weight, weighed_gradients
        from landscape_covariance.gradients import taken

        landscape, data = point.landscape, point.landscape.data
        if landscape.group is not None:
            raise ConfigurationError(
                "GradientNoiseScale knows the examples of its own process only, and this landscape sums over those of "
                "a group. Measure on a landscape of all data without group=..."
            )
        if data.examples < 2:
            raise ConfigurationError("GradientNoiseScale needs at least two examples; the data has one.")
        count = min(_EXAMPLES, data.examples) if self.examples is None else self.examples
        if count > data.examples:
            raise ConfigurationError(
                f"GradientNoiseScale(examples={count}) draws {count} examples without replacement, but the data "
                f"has {data.examples}; give examples={data.examples} or less, or None for all of so few."
            )
        gradient = point.gradient().double()
        centre = gradient / (data.examples if landscape.reduction == "sum" else 1)
        indices = torch.randperm(data.examples, generator=generator, device=generator.device)[:count].cpu()
        # The squared lengths of the deviations, by the metrics in which they are measured: the identity and H.
        squares: dict[str, list[float]] = {"": []}
        if self.curvature:
            squares["_hessian"] = []
        total, mean = torch.zeros_like(centre), mean_weight(landscape)
        together = min(self.batch_size, max(1, _MEMORY // (_BYTES * landscape.size)))
        for part in torch.split(indices, together):
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            batch = taken(data, part, seed if data.draws else None)
            rows, weights = weighed_gradients(landscape, point.theta, batch, "GradientNoiseScale")
            away = rows.double().sub_(centre).mul_((weights / mean).to(centre).unsqueeze(1))
            squares[""] += torch.linalg.vector_norm(away, dim=1).square().tolist()
            if self.curvature:
                squares["_hessian"] += (away * _products(point, away)).sum(dim=1).tolist()
            total += away.sum(dim=0)
        shift = total / count
        scalars: dict[str, float] = {}
        errors: dict[str, Uncertainty] = {}
        warnings: tuple[str, ...] = ()
        flat = not gradient.any()
        for name, several in squares.items():
            ends = torch.stack([shift, centre])
            bent = _products(point, ends) if name else ends
            rest, norm = (ends * bent).sum(dim=1).tolist()
            found, deviation, problem = self._scale(name, several, rest, norm, data.examples, flat=flat)
            scalars |= found
            warnings += problem
            for column, value in found.items():
                scale = deviation if "trace" in column else deviation / norm if norm else math.nan
                if math.isfinite(value):
                    errors[column] = Uncertainty(scale, "standard error")
        return Measurement(scalars=scalars, errors=errors, warnings=warnings)

    @staticmethod
    def _scale(
        name: str, several: list[float], rest: float, norm: float, examples: int, *, flat: bool
    ) -> tuple[dict[str, float], float, tuple[str, ...]]:
        """Return scale and trace, the standard error of the trace, and what is wrong.

        Parameters
        ----------
        name
            Ending of the columns.
        several
            Squared lengths of the deviations from the gradient of all data.
        rest, norm
            Squared lengths of their mean, and of the gradient.
        examples
            Of how many examples they were drawn.
        flat
            Whether the gradient is zero.
        """
        import numpy as np

        distances, count = np.array(several), len(several)
        scale, trace = f"gradient_noise_scale{name}", f"gradient_noise_trace{name}"
        value = (float(distances.mean()) - rest) * count / (count - 1)
        # Of a finite population, drawn without replacement.
        error = float(distances.std(ddof=1)) * math.sqrt((1 - count / examples) / count)
        if not math.isfinite(value) or not math.isfinite(norm):
            reason = "a gradient is NaN or infinite here."
            return {scale: math.nan, trace: math.nan}, math.nan, (f"{scale} is unknown: {reason}",)
        if norm <= 0:
            reason = (
                "the gradient is zero here."
                if flat or not name
                else "the curvature along the gradient is not positive here."
            )
            return {scale: math.nan, trace: value}, error, (f"{scale} is unknown: {reason}",)
        return {scale: value / norm, trace: value}, error, ()


def _products(point: Point, rows: torch.Tensor) -> torch.Tensor:
    """Return the products of the Hessian with some rows, shape (k, P), float64."""
    operator = point.hessian()
    columns = rows.T.to(operator.dtype).contiguous()
    return operator.matmat(columns).T.double()


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
    - ``covariance_hessian_overlap``: :math:`\frac1k \|U_k^\top V_k\|_F^2` of the k leading eigenvectors of each;
    - ``covariance_hessian_slope``: the slope of :math:`\log c_i` over :math:`\log \lambda_i`, by least squares over
      the pairs where both are positive: 0 where the noise is the same in all directions,
      1 where K is proportional to H, 2 for its square. Its standard error is that of the fit, which takes the pairs
      for independent. There is no such column for k below 3.

    Arrays: ``covariance_along_hessian`` and ``hessian_eigenvalues``, shape (k,); ``covariance_eigenvalues``;
    ``covariance_hessian_cosines``, shape (j, k), the squared cosines :math:`(u_l \cdot v_i)^2` of the leading
    eigenvectors u of K with those of H, j = k or the rank of K where that is less; NaN for what the Hessian's pairs
    leave unknown.

    Where eigenvalues of the Hessian coincide, single :math:`v_i` are not determined, only sums over their space.

    All of it comes from the products of the gradients with each other and with the :math:`v_i`: for the deviations
    :math:`d_l` from the mean, :math:`M_{li} = d_l \cdot v_i` and :math:`G = d\, d^\top / L` with eigenpairs
    :math:`(\kappa_j, a_j)`,

    .. math:: c_i = \frac1L |M_i|^2, \qquad |K v_i|^2 = \frac1L M_i^\top G M_i, \qquad
              u_j \cdot v_i = \frac{a_j^\top M_i}{\sqrt{L \kappa_j}} .

    Costs `batches` batch gradients, of which no more are held than fit into `memory`, and no vectors of P numbers
    besides the Hessian's k; for single examples of networks of linear layers, convolutions, normalisation and
    embeddings about two gradients of all of them, and less than one more for each eigenpair, no gradient of an example
    being formed.

    Parameters
    ----------
    k
        How many eigenpairs of the Hessian.
    batches, batch_size, centred, per_example, memory
        See :class:`~landscape_covariance.covariance.GradientCovariance`.
    """

    k: int = field(default=5, validator=at_least(1))
    batches: int = field(default=25, validator=at_least(2))
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    centred: bool = field(default=True, validator=of_type(bool, "True or False"))
    per_example: bool = field(default=False, validator=of_type(bool, "True or False"))
    memory: int = field(default=2 * 1024**3, validator=at_least(1))

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

        rank = min(self.batches - self.centred, point.landscape.size)
        covariance = GradientCovariance(
            batches=self.batches,
            batch_size=self.batch_size,
            centred=self.centred,
            k=min(self.k, rank),
            per_example=self.per_example,
            memory=self.memory,
        )
        covariance.require_possible(point.landscape)
        hessian = point.measure("HessianSpectrum", k=self.k)
        sample = covariance.sampled(point, generator, hessian.carry["eigenvectors"])
        names = [
            f"covariance_{name}_{i + 1}"
            for name in ("along_hessian", "hessian_ratio", "hessian_cosine", "in_hessian")
            for i in range(self.k)
        ]
        names += ["covariance_hessian_overlap", *["covariance_hessian_slope"] * (self.k >= _FITTED)]
        scalars = dict.fromkeys(names, math.nan)
        trace = float(np.trace(sample.gram))
        if not (sample.finite and trace > 0):
            return Measurement(
                scalars=scalars,
                warnings=("The covariance of gradients is zero or unknown here.", *sample.warnings),
            )
        spread, coefficients = eigenpairs(sample.gram, rank)
        curvatures = hessian.arrays["hessian_eigenvalues"]
        known = ~np.isnan(curvatures[: sample.along.shape[1]])
        # Of the leading eigenvectors of K with those of the Hessian.
        cosines = np.full((min(self.k, rank), self.k), np.nan)
        told = min(len(cosines), above_rounding(spread, self.batches))
        weights = np.zeros((self.batches, len(cosines)))
        weights[:, :told] = coefficients[:, :told] / np.sqrt(self.batches * spread[:told])
        cosines[:, : len(known)][:, known] = weights.T @ sample.along[:, known]
        noise = np.full(self.k, np.nan)
        share = 0.0
        for i in range(self.k):
            if math.isnan(curvatures[i]):
                break
            own = sample.along[:, i]
            along = float(own @ own) / self.batches
            moved = math.sqrt(max(float(own @ sample.gram @ own), 0.0) / self.batches)
            share += along / trace
            noise[i] = scalars[f"covariance_along_hessian_{i + 1}"] = along
            scalars[f"covariance_in_hessian_{i + 1}"] = share
            if curvatures[i] != 0:
                scalars[f"covariance_hessian_ratio_{i + 1}"] = along / float(curvatures[i])
            if moved > 0:
                scalars[f"covariance_hessian_cosine_{i + 1}"] = along / moved
        if not np.isnan(curvatures).any() and len(cosines) >= self.k:
            scalars["covariance_hessian_overlap"] = float((cosines**2).sum()) / self.k
        errors = {}
        if self.k >= _FITTED:
            slope, error = _slope(curvatures, noise)
            scalars["covariance_hessian_slope"] = slope
            if math.isfinite(error):
                errors["covariance_hessian_slope"] = Uncertainty(error, "standard error")
        warnings = self._warnings(scalars, curvatures, rank) + sample.warnings
        arrays = {
            "covariance_along_hessian": noise,
            "hessian_eigenvalues": curvatures.copy(),
            "covariance_eigenvalues": spread.copy(),
            "covariance_hessian_cosines": cosines**2,
        }
        return Measurement(scalars=scalars, errors=errors, arrays=arrays, warnings=warnings)

    def _warnings(self, scalars: dict[str, float], curvatures: np.ndarray, rank: int) -> tuple[str, ...]:
        """Return why some of it is NaN."""
        import numpy as np

        found = []
        unknown = int(np.isnan(curvatures).sum())
        if unknown:
            found.append(
                f"{unknown} of the {self.k} eigenpairs of the Hessian are unknown, for which see the warnings of "
                "HessianSpectrum; the alignment is NaN from the first of them on."
            )
        if rank < self.k:
            found.append(
                f"covariance_hessian_overlap is NaN: {self.batches} gradients have {rank} eigenvectors of their "
                f"covariance, and k={self.k} are asked for; give more batches, or a smaller k."
            )
        if (curvatures == 0).any():
            found.append("covariance_hessian_ratio_i is NaN where the Hessian's eigenvalue is zero.")
        if any(scalars[f"covariance_along_hessian_{i + 1}"] == 0 for i in range(self.k)):
            found.append(
                "covariance_hessian_cosine_i is NaN where no noise lies along the Hessian's eigenvector."
            )
        if math.isnan(scalars.get("covariance_hessian_slope", 0.0)):
            found.append(
                f"covariance_hessian_slope is NaN: fewer than {_FITTED} pairs are positive, or the eigenvalues are "
                "equal."
            )
        return tuple(found)


def _slope(curvatures: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """Return the slope of log noise over log curvature, and its standard error; NaN where there are too few pairs."""
    import numpy as np

    kept = (curvatures > 0) & (noise > 0)
    if kept.sum() < _FITTED:
        return math.nan, math.nan
    x, y = np.log(curvatures[kept]), np.log(noise[kept])
    x = x - x.mean()
    spread = float(x @ x)
    # Equal curvatures leave no slope to be seen.
    if spread <= len(x) * (1e-6) ** 2:
        return math.nan, math.nan
    slope = float(x @ y) / spread
    left = y - y.mean() - slope * x
    return slope, math.sqrt(float(left @ left) / (len(x) - 2) / spread)
