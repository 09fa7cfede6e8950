"""How much of the neighbourhood of a point lies higher than the point."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.validators import at_least
from landscape_walkers._between import norm, randn
from landscape_walkers._values import POSITIVE, Range, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from landscape.objective import Point

__all__ = ["MinimumRatio", "neighbours", "wilson"]

#: Losses that differ by less than so many units in the last place of the dtype are not told apart.
_ULPS = 4.0

_INSIDE = Range(math.ulp(0.0), 1.0, "above 0 and below 1")


@frozen
class MinimumRatio(Probe):
    r"""The share of neighbours with a higher loss, and the share of positive Hessian eigenvalues.

    Neighbours lie on the sphere of radius r around :math:`\theta` in the full space, uniformly: r times a
    normal vector over its norm, each drawn afresh from :math:`\theta`. At a minimum the share is 1, and at a
    generic point it approaches 1/2 as r falls. In between, in many dimensions, it is about

    .. math:: \Phi\!\left( \frac{r\,\mathrm{tr} H}{2 \sqrt{P}\, |\nabla L|} \right)

    (the slope along a random direction is normal with deviation :math:`|\nabla L|/\sqrt P`, the curvature
    nearly :math:`\mathrm{tr} H/P`): a share near 1 says that the gradient is small beside the mean curvature. It
    does not say that the point is a minimum. A saddle with few descending directions among many has it too,
    which is why the share of positive eigenvalues stands beside it.

    The 2018 programs whose quantity this is differ in two ways that are not copied. Their neighbours were
    never reset, so that the i-th one was the end of a random walk of i steps; here all have the same distance
    from :math:`\theta`. And they scaled whole layers by a random factor each, four degrees of freedom for
    four layers; the loss of a ReLU network without biases is a function of the product of these factors
    alone, and the share then says nothing about saddles.

    Columns: ``minimum_ratio`` with its standard error; ``minimum_ratio_low`` and ``_high``, the Wilson score
    interval (Wilson 1927), which is honest also where no neighbour, or every one, is higher.
    ``positive_eigenvalue_share``, with ``_low`` and ``_high``, between which it certainly is; the share counts
    eigenvalues that are positive beyond rounding, and ``_high`` those that are not negative beyond rounding.
    Of a landscape of more than `dense` weights, the two ends of the spectrum are asked for
    (:class:`HessianSpectrum`, of landscape-hessian); they give bounds, and the share only where they meet.

    Neighbours whose loss cannot be told from that of the point in its floating type count as not higher, widen
    the interval upwards, and are named in a warning: increase the radius or use float64.

    Costs `neighbours` forward passes over the data, and P or fewer products with the Hessian where P is at
    most `dense`, else what :class:`HessianSpectrum` costs.

    Parameters
    ----------
    radius
        r, or r over :math:`|\theta|`. One percent is of the size of the changes that the 2018 programs made
        (up to half a percent of every weight).
    relative
        Whether `radius` is in units of :math:`|\theta|`.
    neighbours
        How many. With a hundred, the interval is at most 0.2 wide.
    confidence
        Of the interval.
    dense
        The largest P for which all eigenvalues are computed. A thousand take 8 MB and a second.
    extremes
        How many of the smallest eigenvalues to ask for in larger landscapes; 0: none, and no shares.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> landscape = ls.Landscape(torch.nn.Linear(2, 1), "mse", (torch.randn(9, 2), torch.zeros(9, 1)))
    >>> minimum = ls.Point(landscape, torch.zeros(3))
    >>> minimum.measure("MinimumRatio", radius=0.1, relative=False).scalars["minimum_ratio"]
    1.0
    """

    radius: float = field(default=0.01, validator=single(POSITIVE))
    relative: bool = True
    neighbours: int = field(default=100, validator=at_least(1))
    confidence: float = field(default=0.95, validator=single(_INSIDE))
    dense: int = field(default=1000, validator=at_least(0))
    extremes: int = field(default=5, validator=at_least(0))

    references: ClassVar[tuple[str, ...]] = (
        "Wilson. Probable inference, the law of succession, and statistical inference. J. Amer. Statist. Assoc. "
        "22 (1927) 209-212.",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return both shares.

        Raises
        ------
        landscape.errors.UnknownComponentError
            Where P is above `dense`, `extremes` is not 0 and no plugin provides HessianSpectrum.
        """
        scalars, errors, warnings = self._ratio(point, generator)
        if point.landscape.size <= self.dense or self.extremes:
            found = self._dense(point) if point.landscape.size <= self.dense else self._extreme(point)
            positive, negative, sentences = found
            size = point.landscape.size
            low, high = positive / size, 1 - negative / size
            name = "positive_eigenvalue_share"
            known = size <= self.dense or positive + negative == size
            scalars |= {name: low if known else math.nan, f"{name}_low": low, f"{name}_high": high}
            if known:
                errors[name] = Uncertainty(high - low, "bound")
            warnings += sentences
        return Measurement(scalars=scalars, errors=errors, warnings=tuple(warnings))

    def _ratio(
        self, point: Point, generator: torch.Generator
    ) -> tuple[dict[str, float], dict[str, Uncertainty], list[str]]:
        import torch

        name = "minimum_ratio"
        unknown = {name: math.nan, f"{name}_low": math.nan, f"{name}_high": math.nan}
        radius = self.radius * (norm(point.theta) if self.relative else 1.0)
        here = float(point.value())
        if not (math.isfinite(here) and math.isfinite(radius)):
            return unknown, {}, ["minimum_ratio is unknown: the path has left the finite numbers."]
        if radius == 0:
            return unknown, {}, ["minimum_ratio is unknown: the weights are zero. Use relative=False."]
        rounding = _ULPS * torch.finfo(point.theta.dtype).eps * abs(here)
        higher = same = 0
        for neighbour in neighbours(point.theta, radius, self.neighbours, generator):
            difference = float(point.landscape.value(neighbour)) - here
            # NaN is no number that is higher; it counts as not known.
            higher += difference > rounding
            same += not abs(difference) > rounding
        low, _ = wilson(higher, self.neighbours, self.confidence)
        _, high = wilson(higher + same, self.neighbours, self.confidence)
        own = wilson(higher, self.neighbours, self.confidence)
        z = NormalDist().inv_cdf(0.5 + self.confidence / 2)
        error = Uncertainty((own[1] - own[0]) / 2 / z, "standard error")
        scalars = {name: higher / self.neighbours, f"{name}_low": low, f"{name}_high": high}
        sentences = []
        if same:
            sentences.append(
                f"the losses of {same} of {self.neighbours} neighbours cannot be told from that of the point in "
                f"{point.theta.dtype}; they count as not higher. Increase radius or use float64."
            )
        return scalars, {name: error}, sentences

    def _dense(self, point: Point) -> tuple[int, int, list[str]]:
        """Return how many eigenvalues are positive, how many negative, both beyond rounding."""
        import torch

        matrix = point.hessian().dense().double().cpu()
        if not bool(matrix.isfinite().all()):
            return 0, 0, ["the Hessian is not finite here."]
        values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
        rounding = len(values) * torch.finfo(point.theta.dtype).eps * float(values.abs().max())
        return int((values > rounding).sum()), int((values < -rounding).sum()), []

    def _extreme(self, point: Point) -> tuple[int, int, list[str]]:
        """Return how many eigenvalues are certainly positive, how many negative, from the spectrum's ends."""
        size = point.landscape.size
        found = point.measure("HessianSpectrum", k=1, bottom=min(self.extremes, size))
        ends = []
        for i in range(min(self.extremes, size)):
            name = f"hessian_eigenvalue_bottom_{i + 1}"
            error = found.errors.get(name)
            # Without a bound nothing is certain: all comparisons with NaN are false.
            bound = error.value if error is not None and error.kind == "bound" else math.nan
            ends.append((found.scalars[name] - bound, found.scalars[name] + bound))
        negative = sum(high < 0 for _, high in ends)
        positive = next((size - i for i, (low, _) in enumerate(ends) if low > 0), 0)
        if not positive:
            top = found.errors.get("hessian_eigenvalue_1")
            certain = top is not None and found.scalars["hessian_eigenvalue_1"] - top.value > 0
            positive = int(certain)
        if positive + negative == size:
            return positive, negative, []
        return (
            positive,
            negative,
            [
                f"positive_eigenvalue_share is known by its bounds only: {negative} of the {len(ends)} smallest "
                f"of {size} eigenvalues are certainly negative. More extremes, or a larger dense, narrow them."
            ],
        )


def neighbours(theta: Tensor, radius: float, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield points uniformly distributed on the sphere of `radius` around `theta`, shape (P,)."""
    for _ in range(count):
        direction = randn(tuple(theta.shape), theta, generator)
        yield direction.mul_(radius / norm(direction)).add_(theta)


def wilson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    r"""Return the Wilson score interval of a share.

    Its ends are the p for which :math:`|\hat p - p| = z \sqrt{p (1 - p) / n}`.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, shrink = successes / trials, 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high
