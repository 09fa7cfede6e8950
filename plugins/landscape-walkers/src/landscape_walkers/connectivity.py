"""Curves of low loss between two points: Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), section 3."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, PopulationProbe
from landscape.validators import at_least
from landscape_walkers._between import (
    barrier,
    chosen,
    coded,
    losses_at,
    names,
    norm,
    randn,
    splits_of,
    suffix,
)
from landscape_walkers._values import FRACTION, NON_NEGATIVE, POSITIVE, single
from landscape_walkers.interpolation import straight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from landscape.objective import Landscape, Point, Population

__all__ = ["ModeConnectivity", "bernstein", "hats", "on_curve"]


def _curve(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if value not in ("bezier", "chain"):
        raise ConfigurationError(f"ModeConnectivity(curve={value!r}): give 'bezier' or 'chain'.")


def _pair(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(label, str) for label in value)):
        raise ConfigurationError(
            f"ModeConnectivity(pair={value!r}): give the names of two points, such as ('0', '1')."
        )


def _batch_size(instance: Any, attribute: Attribute[Any], value: int | None) -> None:
    if value is not None:
        at_least(1)(instance, attribute, value)


@frozen
class ModeConnectivity(PopulationProbe):
    r"""A curve between two points that was trained to have low loss, and the barrier that is left on it.

    With the ends :math:`\theta_0, \theta_{n}` fixed and n - 1 bends :math:`\theta_1 .. \theta_{n-1}` between,

    .. math:: \phi(t) = \sum_{m=0}^{n} c_m(t)\, \theta_m, \qquad 0 \le t \le 1 .

    A Bézier curve has :math:`c_m(t) = \binom{n}{m} t^m (1 - t)^{n-m}`, a polygonal chain the hat functions of
    the knots m/n. The bends minimise the expected loss :math:`E_{t \sim U(0, 1)} L(\phi(t))` (eq. 2 of the
    paper): each step draws a t and a mini-batch, and with the gradient g of the loss at :math:`\phi(t)`

    .. math:: v_m \leftarrow \mu\, v_m + c_m(t)\, g, \qquad \theta_m \leftarrow \theta_m - \eta\, v_m .

    The learning rate is constant for the first half of the steps, falls linearly to a hundredth of it over the
    next two fifths, and stays there. The bends start evenly on the straight line, moved off it by a small
    normal vector: where the straight line is an axis of symmetry of the landscape, the gradient never leaves
    it by itself.

    A low barrier is a proof that the points are connected at that level, up to the resolution. A high one
    proves nothing but that this curve was not found.

    Columns of the row ``population``: ``curve_barrier``, the largest excess of the loss along the curve over
    the line between the losses of the ends (see :class:`Interpolation`); ``straight_barrier``, the same
    along the straight line, for comparison; both with ``_test`` and so on for other splits;
    ``curve_length_ratio``, the length of the curve (of the polygon through the computed points) over the
    distance of the ends.

    Arrays: ``t``, shape (points,); ``loss_train``, ``score_train`` and so on for other splits along the
    curve, the same with ``straight_`` before the name along the straight line, all of shape (points,);
    ``training_loss``, shape (steps,), of the mini-batches; ``pair``, two numbers that count in ``labels``.
    Carried: ``bends``, shape (bends, P); for its use see :func:`landscape_walkers.connectivity.on_curve`.

    Costs `steps` gradients of a mini-batch and 2 (resolution - 1) forward passes over every split. Holds 2
    bends + 4 P-vectors. All points are evaluated with the same buffers; the running statistics of
    normalisation layers belong to none of the points between the ends.

    Parameters
    ----------
    curve
        ``"bezier"`` or ``"chain"``.
    bends
        How many points between the ends are trained. One makes the quadratic Bézier curve of the paper.
    pair
        The names of the two points.
    steps
        Updates of the bends.
    lr
        :math:`\eta`. The default is that of the authors' program, and so are those of `momentum` and
        `batch_size`, and the fall of the learning rate.
    momentum
        :math:`\mu`.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    spread
        Expected norm of the random vector that moves a bend off the straight line, over the distance of the ends.
    resolution
        At how many steps of t the loss along the curve is computed.
    splits
        On which data; by default the training data, and the split ``"test"`` where there is one. The curve is
        trained on the landscape's own data.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another curve, anything but a pair of names, and numbers outside of their range.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> class Ring(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    ...     def forward(self, x):
    ...         return ((self.w @ self.w - 1) ** 2).expand(len(x))
    >>> landscape = ls.Landscape(Ring(), "model", [(torch.zeros(1),)])
    >>> ends = ls.Population(landscape, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), step=0)
    >>> found = ends.measure("ModeConnectivity", lr=0.05, momentum=0.5, batch_size=None)
    >>> found.scalars["straight_barrier"], found.scalars["curve_barrier"] < 0.1
    (1.0, True)
    """

    curve: str = field(default="bezier", validator=_curve)
    bends: int = field(default=1, validator=at_least(1))
    pair: tuple[str, str] = field(default=("0", "1"), converter=names, validator=_pair)
    steps: int = field(default=1000, validator=at_least(1))
    lr: float = field(default=0.01, validator=single(POSITIVE))
    momentum: float = field(default=0.9, validator=single(FRACTION))
    batch_size: int | None = field(default=128, validator=_batch_size)
    spread: float = field(default=0.01, validator=single(NON_NEGATIVE))
    resolution: int = field(default=20, validator=at_least(2))
    splits: tuple[str, ...] | None = field(default=None, converter=names)

    references: ClassVar[tuple[str, ...]] = (
        "Garipov, Izmailov, Podoprikhin, Vetrov, Wilson. Loss surfaces, mode connectivity, and fast ensembling of "
        "DNNs. NeurIPS 2018.",
        "Draxler, Veschgini, Salmhofer, Hamprecht. Essentially no barriers in neural network energy landscape. "
        "ICML 2018.",
    )

    def measure(self, population: Population, generator: torch.Generator) -> Measurement:
        """Train the curve and return losses along it.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a pair or a split that does not exist.
        """
        first, last = chosen("ModeConnectivity", population, self.pair)
        splits = splits_of(first, self.splits)
        bends, training = self._trained(first, last, generator)
        t = np.arange(self.resolution + 1) / self.resolution
        at_curve = partial(on_curve, first.theta, last.theta, bends, curve=self.curve)
        curve = self._along(first, last, at_curve, t, splits)
        line = self._along(first, last, partial(straight, first.theta, last.theta), t, splits)
        scalars: dict[str, float] = {}
        warnings: list[str] = []
        for split in splits:
            for name, path in (("curve_barrier", curve), ("straight_barrier", line)):
                height = barrier(t, path[f"loss_{split}"])
                scalars[f"{name}{suffix(split)}"] = height
                if not math.isfinite(height):
                    warnings.append(f"{name}{suffix(split)} is not known: a loss on the way is not finite.")
        distance = norm(last.theta - first.theta)
        length = _length([at_curve(float(here)) for here in t])
        scalars["curve_length_ratio"] = length / distance if distance else math.nan
        if not distance:
            warnings.append("the two points are the same: curve_length_ratio does not exist.")
        if len(training) < self.steps:
            warnings.append(
                f"the loss on the curve was {training[-1]:g} at step {len(training)} of its training, which "
                "stopped there. Choose a smaller lr."
            )
        place = [point.worker for point in population.points]
        arrays = {"t": t} | curve | {f"straight_{name}": values for name, values in line.items()}
        arrays["training_loss"] = np.array(training)
        arrays["pair"] = np.array([place.index(label) for label in self.pair])
        arrays["labels"] = coded(place)
        return Measurement(scalars=scalars, arrays=arrays, warnings=tuple(warnings), carry={"bends": bends})

    def _trained(self, first: Point, last: Point, generator: torch.Generator) -> tuple[Tensor, list[float]]:
        """Return the bends, shape (bends, P), and the losses of the mini-batches."""
        import torch

        from landscape.objective import BatchStream

        landscape: Landscape = first.landscape
        a, b = first.theta, last.theta
        knots = [(m + 1) / (self.bends + 1) for m in range(self.bends)]
        bends = torch.stack([straight(a, b, knot) for knot in knots])
        offset = randn(tuple(bends.shape), bends, generator)
        bends.add_(offset, alpha=self.spread * norm(b - a) / math.sqrt(len(a)))
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        stream = BatchStream(landscape.data, self.batch_size, seed)
        state = stream.start()
        velocity = torch.zeros_like(bends)
        losses: list[float] = []
        for step in range(self.steps):
            t = float(torch.rand((), generator=generator, device=generator.device, dtype=torch.float64))
            batch = None
            if self.batch_size is not None:
                batch, state = stream.batch(state), stream.advance(state)
            theta = on_curve(a, b, bends, t, curve=self.curve)
            loss, gradient = landscape.value_and_gradient(theta, batch)
            losses.append(float(loss))
            if not math.isfinite(losses[-1]):
                break
            inner = _coefficients(self.curve, t, self.bends)[1:-1]
            velocity.mul_(self.momentum)
            for row, share in zip(velocity, inner, strict=True):
                row.add_(gradient, alpha=share)
            bends.sub_(velocity, alpha=self.lr * _decay(step / self.steps))
        return bends, losses

    def _along(
        self,
        first: Point,
        last: Point,
        at: Callable[[float], Tensor],
        t: np.ndarray,
        splits: Sequence[str],
    ) -> dict[str, np.ndarray]:
        found: dict[str, list[float]] = {}
        for here in t.tolist():
            # The ends themselves: the sum of coefficients times points may round.
            theta = first.theta if here == 0 else last.theta if here == 1 else at(here)
            for split in splits:
                landscape = first.landscape if split == "train" else first.on(split)
                for name, value in losses_at(landscape, theta).items():
                    found.setdefault(f"{name}_{split}", []).append(value)
        return {name: np.array(values) for name, values in found.items()}


def on_curve(first: Tensor, last: Tensor, bends: Tensor, t: float, *, curve: str = "bezier") -> Tensor:
    """Return the point at `t` of a curve.

    Parameters
    ----------
    first, last
        The ends, shape (P,).
    bends
        The points between, shape (bends, P).
    t
        0 at `first`, 1 at `last`.
    curve
        ``"bezier"`` or ``"chain"``.

    Returns
    -------
    Tensor
        Shape (P,).
    """
    start, *inner, end = _coefficients(curve, t, len(bends))
    point = first.mul(start).add_(last, alpha=end)
    for share, bend in zip(inner, bends, strict=True):
        point.add_(bend, alpha=share)
    return point


def bernstein(t: float, degree: int) -> list[float]:
    """Return the Bernstein polynomials of a degree at `t`: the coefficients of a Bézier curve."""
    return [math.comb(degree, m) * t**m * (1 - t) ** (degree - m) for m in range(degree + 1)]


def hats(t: float, pieces: int) -> list[float]:
    """Return the hat functions of the knots m / pieces at `t`: the coefficients of a polygonal chain."""
    return [max(0.0, 1 - abs(pieces * t - m)) for m in range(pieces + 1)]


def _coefficients(curve: str, t: float, bends: int) -> list[float]:
    return bernstein(t, bends + 1) if curve == "bezier" else hats(t, bends + 1)


def _decay(progress: float) -> float:
    """Return the learning rate over its first value, after a share of the steps."""
    if progress <= 0.5:
        return 1.0
    return max(0.01, 1 - 0.99 * (progress - 0.5) / 0.4)


def _length(points: Sequence[Tensor]) -> float:
    return sum(norm(b - a) for a, b in pairwise(points))
