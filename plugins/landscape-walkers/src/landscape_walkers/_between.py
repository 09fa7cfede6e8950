"""What measurements between points of a population share: names in arrays, pairs, and barriers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape, Point, Population

__all__ = [
    "barrier",
    "chosen",
    "coded",
    "column",
    "labels_of",
    "losses_at",
    "names",
    "norm",
    "randn",
    "splits_of",
    "suffix",
]

Pair = tuple[str, str]


def coded(labels: Sequence[str]) -> np.ndarray:
    """Return names as numbers, since stores of arrays hold nothing else: UTF-8, zeros at the end, (n, width)."""
    encoded = [label.encode() for label in labels]
    codes = np.zeros((len(encoded), max(map(len, encoded), default=1)), dtype=np.uint8)
    for row, text in zip(codes, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return codes


def labels_of(codes: np.ndarray) -> tuple[str, ...]:
    """Return the names that the array ``labels`` of a measurement holds.

    Examples
    --------
    >>> labels_of(coded(["0", "1", "centre"]))
    ('0', '1', 'centre')
    """
    return tuple(bytes(row).rstrip(b"\0").decode() for row in np.asarray(codes, dtype=np.uint8))


def column(label: str) -> str:
    """Return a label as a part of a column's name."""
    return re.sub(r"\W", "_", label)


def suffix(split: str) -> str:
    """Return what the columns of a split end with: nothing for the training data."""
    return "" if split == "train" else f"_{column(split)}"


def splits_of(point: Point, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the splits to measure on: those asked for, else train, and test where there is one."""
    if wanted is not None:
        return tuple(wanted)
    return ("train", "test") if "test" in point.splits else ("train",)


def chosen(owner: str, population: Population, pair: Pair) -> tuple[Point, Point]:
    """Return the two points that a pair names.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a name that no point has, or twice the same.
    """
    points = population.by_worker()
    for label in pair:
        if label not in points:
            raise ConfigurationError(
                f"{owner}: there is no point {label!r} in this population; it has "
                f"{', '.join(points)}.{nearest(label, points)}"
            )
    if pair[0] == pair[1]:
        raise ConfigurationError(f"{owner}: the pair {pair!r} is one point; name two.")
    return points[pair[0]], points[pair[1]]


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector, summed in float64."""
    import torch

    dtype = torch.float32 if vector.device.type == "mps" else torch.float64
    return float(torch.linalg.vector_norm(vector, dtype=dtype))


def losses_at(landscape: Landscape, theta: Tensor, gradient_norm: bool = False) -> dict[str, float]:
    """Return loss, score where there is one, and the norm of the gradient where it is asked for."""
    if not gradient_norm:
        value, score = landscape.value_and_score(theta)
        found = {"loss": float(value)}
    else:
        value, gradient = landscape.value_and_gradient(theta)
        found = {"loss": float(value), "gradient_norm": norm(gradient)}
        score = landscape.score(theta)
    return found if score is None else found | {"score": float(score)}


def barrier(t: np.ndarray, losses: np.ndarray) -> float:
    r"""Return :math:`\max_{t \in [0, 1]} L(c(t)) - [(1 - t) L(c(0)) + t L(c(1))]` on the points of a path.

    Parameters
    ----------
    t
        Shape (points,), with 0 and 1 among them.
    losses
        Shape (points,).

    Returns
    -------
    float
        At least 0, as the ends count; NaN when a loss between the ends is.
    """
    first, last = int(np.flatnonzero(t == 0)[0]), int(np.flatnonzero(t == 1)[0])
    between = (t >= 0) & (t <= 1)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is what is meant
        line = (1 - t[between]) * losses[first] + t[between] * losses[last]
        excess = losses[between] - line
    # At the ends exactly 0; rounding of the line may say otherwise.
    excess[[0, -1]] = np.where(np.isfinite(losses[[first, last]]), 0.0, math.nan)
    return float(excess.max())


def randn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers in the dtype and on the device of `like`, drawn on the generator's device."""
    import torch

    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def names(value: Any) -> Any:
    """Bring what configurations give as lists into tuples, all the way down."""
    return tuple(map(names, value)) if isinstance(value, list | tuple) else value
