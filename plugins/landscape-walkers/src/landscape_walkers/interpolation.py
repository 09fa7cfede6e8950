"""Losses along the paths between the points of a population.

The norm-corrected path is that of the 2016 programs on elementary walkers. The barrier is the one of
Entezari, Sedghi, Saukh, Neyshabur (2022), definition 2.1.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, PopulationProbe
from landscape.validators import at_least
from landscape_walkers._between import (
    Pair,
    barrier,
    chosen,
    coded,
    losses_at,
    names,
    norm,
    splits_of,
    suffix,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from landscape.objective import Landscape, Point, Population

__all__ = ["Interpolation", "norm_corrected", "straight"]

#: How many places a warning names before it only counts.
_NAMED = 3
#: Bytes that the points may take that are evaluated in one go.
_MEMORY = 64 << 20


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value))


def _contains_ends(instance: Any, attribute: Attribute[Any], value: tuple[float, ...]) -> None:
    if len(value) != 2 or not (-math.inf < value[0] <= 0 and 1 <= value[1] < math.inf):
        raise ConfigurationError(
            f"Interpolation(beyond={value!r}): give the first and last t of the path, at most 0 and at least 1."
        )


def _kind(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if not (isinstance(value, bool) or value == "both"):
        raise ConfigurationError(f"Interpolation(spherical={value!r}): give False, True or 'both'.")


def _pairs(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    named = isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(label, str) for label in pair)
        for pair in value
    )
    if value not in ("all", "consecutive") and not named:
        raise ConfigurationError(
            f"Interpolation(pairs={value!r}): give 'all', 'consecutive' or a list of pairs of names such as "
            "[['0', '1'], ['0', 'centre']]."
        )


@frozen
class Interpolation(PopulationProbe):
    r"""Loss and score along straight and norm-corrected paths between points, and beyond both ends.

    From :math:`W_j` to :math:`W_i`, the straight path is :math:`c(t) = (1 - t) W_j + t W_i`. The
    norm-corrected one has its directions, and a norm that changes linearly instead of sagging in the middle:

    .. math:: \tilde c(t) = \bigl(t |W_i| + (1 - t) |W_j|\bigr) \frac{c(t)}{|c(t)|} .

    Independent workers in many dimensions are nearly orthogonal. Half way between them the straight path has
    :math:`1/\sqrt 2` of their norm, and what one sees there is the loss of small weights as much as that of a
    mixture. The norm-corrected path does not exist where its norm would be negative (at :math:`t = -1` when
    :math:`|W_i| > 2 |W_j|`) and where :math:`c(t)` is zero up to rounding; values there are NaN and a warning
    names the places.

    The barrier of a pair is

    .. math:: \max_{t \in [0, 1]} L(c(t)) - \bigl[(1 - t) L(W_j) + t L(W_i)\bigr] \ge 0

    over the computed points (Entezari et al. 2022, def. 2.1; Frankle et al. 2020 subtract the mean of the ends
    instead). The true maximum over all t is at least that.

    Columns of the row ``population``: ``barrier_mean`` and ``barrier_max`` over the pairs, on the training
    data; ``barrier_mean_test`` and so on for other splits; ``spherical_barrier_mean`` and so on for the
    norm-corrected path. NaN with a warning where a loss between the ends is not finite.

    Arrays: ``t``, shape (points,), with 0 and 1 exactly; ``pairs``, shape (pairs, 2), rows (j, i) that count in
    ``labels`` (see :class:`PairwiseDistances`); and, all of shape (pairs, points): ``loss_train``,
    ``score_train``, ``gradient_norm_train``, the same for the other splits, and with ``spherical_`` before
    the name for the norm-corrected path; ``spherical_exists`` says where it does.

    Costs one forward pass over every split for each point of each pair; gradients are computed only when asked
    for, and take two to three times as long (``python -m benchmarks.interpolation``). Ends are evaluated once
    per worker. Every batch of the data is read once for all points of a path, or as many of them as fit in
    64 MB. On a batch, the points are evaluated one after another: their matrices stay in the cache, which on
    a CPU makes it faster than batches of networks for a perceptron of 17,610 weights; for one of 1,210 weights,
    batches would take half of the time.

    All points are evaluated with the same buffers: the running statistics of normalisation layers belong to
    none of the points in between.

    Parameters
    ----------
    resolution
        Points per unit of t: t = l / resolution for all whole l with t in `beyond`. Ten is what the seed
        programs used.
    beyond
        First and last t. The default goes one distance beyond either end.
    spherical
        False: the straight path. True: the norm-corrected one. ``"both"``: both.
    splits
        On which data; by default the training data, and the split ``"test"`` where there is one.
    gradient_norm
        Whether to compute the norm of the gradient, too.
    pairs
        ``"all"`` pairs of points, labelled ones such as a centre included; ``"consecutive"``: 0-1, 1-2 and so on
        to the last worker, then the labelled points; or a list of pairs of names.

    Raises
    ------
    landscape.errors.ConfigurationError
        For ends that leave out the points themselves, another word for the kind of path or the pairs, and
        numbers outside of their range.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> def two_valleys(output, target):  # (w^2 - 1)^2
    ...     return ((output**2 - 1) ** 2).mean()
    >>> data = (torch.ones(1, 1), torch.ones(1, 1))
    >>> landscape = ls.Landscape(torch.nn.Linear(1, 1, bias=False), two_valleys, data)
    >>> population = ls.Population(landscape, torch.tensor([[-1.0], [1.0]]), step=0)
    >>> population.measure("Interpolation").scalars["barrier_max"]
    1.0
    """

    resolution: int = field(default=10, validator=at_least(1))
    beyond: tuple[float, float] = field(default=(-1.0, 2.0), converter=_numbers, validator=_contains_ends)
    spherical: bool | str = field(default=False, validator=_kind)
    splits: tuple[str, ...] | None = field(default=None, converter=names)
    gradient_norm: bool = False
    pairs: str | tuple[tuple[str, str], ...] = field(default="all", converter=names, validator=_pairs)

    references: ClassVar[tuple[str, ...]] = (
        "Goodfellow, Vinyals, Saxe. Qualitatively characterizing neural network optimization problems. ICLR 2015.",
        "Frankle, Dziugaite, Roy, Carbin. Linear mode connectivity and the lottery ticket hypothesis. ICML 2020.",
        "Entezari, Sedghi, Saukh, Neyshabur. The role of permutation invariance in linear mode connectivity of "
        "neural networks. ICLR 2022.",
    )

    def measure(self, population: Population, generator: torch.Generator) -> Measurement:
        """Return losses along the paths of all pairs.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a pair or a split that does not exist.
        """
        points = population.points
        place = {point.worker: index for index, point in enumerate(points)}
        pairs = self._chosen(population)
        splits = splits_of(points[0], self.splits)
        t = self._t()
        arrays: dict[str, np.ndarray] = {
            "t": t,
            "pairs": np.array([[place[a], place[b]] for a, b in pairs], dtype=np.int64).reshape(-1, 2),
            "labels": coded(list(place)),
        }
        scalars: dict[str, float] = {}
        warnings: list[str] = []
        used = dict.fromkeys(label for pair in pairs for label in pair)
        ends = {label: self._at_end(points[place[label]], splits) for label in used}
        for prefix in self._prefixes():
            rows = [self._path(points[place[a]], points[place[b]], t, splits, ends, prefix) for a, b in pairs]
            quantities = rows[0] if rows else {f"loss_{split}": np.zeros(0) for split in splits}
            for name in quantities:
                arrays[f"{prefix}{name}"] = (
                    np.stack([row[name] for row in rows]) if rows else np.zeros((0, len(t)))
                )
            if prefix:
                exists = arrays[f"{prefix}exists"] = arrays.pop(f"{prefix}exists", np.zeros((0, len(t)))) > 0
                warnings += _missing(exists, pairs, t)
            for split in splits:
                heights = [barrier(t, row[f"loss_{split}"]) for row in rows]
                name = f"{prefix}barrier"
                scalars[f"{name}_mean{suffix(split)}"] = float(np.mean(heights)) if heights else math.nan
                scalars[f"{name}_max{suffix(split)}"] = float(np.max(heights)) if heights else math.nan
                wrong = [
                    pair for pair, height in zip(pairs, heights, strict=True) if not math.isfinite(height)
                ]
                if wrong:
                    warnings.append(
                        f"{name}{suffix(split)} is not known for {_spoken(wrong)}: a loss between the ends is "
                        "not finite, or the path does not exist there."
                    )
        if not pairs:
            warnings.append("there is one point only, so paths between points do not exist.")
        return Measurement(scalars=scalars, arrays=arrays, warnings=tuple(warnings))

    def _t(self) -> np.ndarray:
        # A hair of tolerance: 0.3 times 10 is not quite 3.
        first = math.ceil(self.beyond[0] * self.resolution - 1e-9)
        last = math.floor(self.beyond[1] * self.resolution + 1e-9)
        return np.arange(first, last + 1) / self.resolution

    def _prefixes(self) -> tuple[str, ...]:
        if self.spherical == "both":
            return ("", "spherical_")
        return ("spherical_",) if self.spherical else ("",)

    def _chosen(self, population: Population) -> list[Pair]:
        labels = [point.worker for point in population.points]
        if self.pairs == "all":
            return list(combinations(labels, 2))
        if isinstance(self.pairs, str):
            return list(pairwise(labels))
        for pair in self.pairs:
            chosen("Interpolation", population, pair)
        return list(self.pairs)

    def _at_end(self, point: Point, splits: Sequence[str]) -> dict[str, float]:
        return self._evaluated(point, splits, point.theta[None])[0]

    def _evaluated(self, point: Point, splits: Sequence[str], places: Tensor) -> list[dict[str, float]]:
        """Return what is found at `places`, shape (points, P), with the data of `point`."""
        found: list[dict[str, float]] = [{} for _ in places]
        for split in splits:
            landscape = point.landscape if split == "train" else point.on(split)
            for values, here in zip(found, self._on(landscape, places), strict=True):
                values |= {f"{name}_{split}": value for name, value in here.items()}
        return found

    def _on(self, landscape: Landscape, places: Tensor) -> list[dict[str, float]]:
        if self.gradient_norm:
            return [losses_at(landscape, theta, gradient_norm=True) for theta in places]
        values, scores = landscape.value_and_score(places)
        if scores is None:
            return [{"loss": value} for value in values.tolist()]
        pairs = zip(values.tolist(), scores.tolist(), strict=True)
        return [{"loss": value, "score": score} for value, score in pairs]

    def _path(
        self,
        first: Point,
        last: Point,
        t: np.ndarray,
        splits: Sequence[str],
        ends: dict[str, dict[str, float]],
        prefix: str,
    ) -> dict[str, np.ndarray]:
        """Return what was found at the points of one path, each of shape (points,)."""
        import torch

        quantities = list(ends[first.worker])
        found = {name: np.full(len(t), math.nan) for name in quantities}
        exists = np.ones(len(t))

        def keep(indices: Sequence[int], values: Sequence[dict[str, float]]) -> None:
            for name in quantities:
                found[name][indices] = [here[name] for here in values]

        at_an_end = (t == 0) | (t == 1)
        for index in np.flatnonzero(at_an_end).tolist():
            keep([index], [ends[(last if t[index] else first).worker]])
        norms = (norm(first.theta), norm(last.theta)) if prefix else None
        inner, together = np.flatnonzero(~at_an_end), max(1, _MEMORY // first.theta.nbytes)
        for begin in range(0, len(inner), together):
            turn = inner[begin : begin + together]
            points = line(first.theta, last.theta, t[turn])
            if norms is not None:
                there = correct_norms(points, norms, t[turn])
                exists[turn[~there]] = 0
                if not there.all():
                    turn, points = turn[there], points[torch.from_numpy(there).to(points.device)]
            keep(turn.tolist(), self._evaluated(first, splits, points))
        return found | ({"exists": exists} if prefix else {})


def line(first: Tensor, last: Tensor, t: np.ndarray) -> Tensor:
    """Return (1 - t) first + t last for each of the numbers `t`, shape (points, P)."""
    import torch

    weights = torch.from_numpy(np.stack([1 - t, t])).to(first.device, first.dtype)[:, :, None]
    return first.mul(weights[0]).addcmul_(last, weights[1])


def straight(first: Tensor, last: Tensor, t: float) -> Tensor:
    """Return (1 - t) first + t last, shape (P,)."""
    return line(first, last, np.array([t]))[0]


def correct_norms(points: Tensor, norms: tuple[float, float], t: np.ndarray) -> np.ndarray:
    r"""Give the points of a straight path, shape (points, P), the norms of the norm-corrected one, in place.

    Parameters
    ----------
    points
        :math:`c(t)`; those where the path does not exist are left in any state.
    norms
        Of the ends.
    t
        Shape (points,).

    Returns
    -------
    numpy.ndarray
        Where the path exists, boolean, shape (points,): not where the norm would be negative, nor where the
        straight path passes so near zero that its direction is rounding.
    """
    import torch

    a, b = norms
    exact = torch.float32 if points.device.type == "mps" else torch.float64
    lengths = torch.linalg.vector_norm(points, dim=1, dtype=exact).cpu().double().numpy()
    with np.errstate(all="ignore"):  # weights that are not finite give losses that say so
        target = (1 - t) * a + t * b
        rounding = 4 * torch.finfo(points.dtype).eps * (np.abs(1 - t) * a + np.abs(t) * b)
        there: np.ndarray = ~((target < 0) | (lengths <= rounding))
        factors = np.divide(target, lengths, where=there, out=np.zeros_like(target))
    points.mul_(torch.from_numpy(factors).to(points.device, points.dtype)[:, None])
    return there


def norm_corrected(
    first: Tensor, last: Tensor, t: float, norms: tuple[float, float] | None = None
) -> Tensor | None:
    r"""Return the point at `t` of the norm-corrected path, or None where there is none.

    Parameters
    ----------
    first, last
        The ends, shape (P,).
    t
        0 at `first`, 1 at `last`.
    norms
        Their norms, where known.

    Returns
    -------
    Tensor or None
        Of norm :math:`t |\mathrm{last}| + (1 - t) |\mathrm{first}|`; None where that is negative, or where
        the straight path passes so near zero that its direction is rounding.
    """
    points, here = line(first, last, np.array([t])), np.array([t])
    there = correct_norms(points, norms or (norm(first), norm(last)), here)
    return points[0] if there[0] else None


def _missing(exists: np.ndarray, pairs: Sequence[Pair], t: np.ndarray) -> list[str]:
    places = [
        f"t={t[point]:g} of {pairs[pair][0]}-{pairs[pair][1]}"
        for pair, point in np.argwhere(~exists).tolist()
    ]
    if not places:
        return []
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return [
        f"the norm-corrected path does not exist at {len(places)} of {exists.size} points: "
        f"{', '.join(places[:_NAMED])}{more}. Its norm would be negative there, or the straight path is at zero."
    ]


def _spoken(pairs: Sequence[Pair]) -> str:
    more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    return ", ".join(f"{a}-{b}" for a, b in pairs[:_NAMED]) + more
