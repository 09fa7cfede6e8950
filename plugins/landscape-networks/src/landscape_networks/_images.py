"""From labelled images to splits: choosing examples, scaling grey values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from landscape.errors import DataError
from landscape_networks._drawing import stratified

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = ["NORMALISATIONS", "choose", "image_splits"]

#: ``unit``: grey values in [0, 1]. ``centre``: less the mean of every pixel. ``standard``: every channel with
#: mean 0 and variance 1. Means and variances are those of the training images that are used.
NORMALISATIONS = ("unit", "centre", "standard")

#: Images converted to float64 at once.
_CHUNK = 1000


def choose(
    who: str, field: str, y: Tensor, count: int | None, classes: int, generator: torch.Generator
) -> Tensor | None:
    """Return the places of `count` examples, in their order, every class with its share; None for all.

    Raises
    ------
    DataError
        If there are not as many.
    """
    import torch

    if count is None:
        return None
    if count > len(y):
        raise DataError(f"{who}: {field}={count}, but there are only {len(y)}; None takes them all.")
    if count == len(y):
        return None
    mask = stratified(y, torch.ones(len(y), dtype=torch.bool), count, classes, generator)
    return torch.nonzero(mask).flatten()


def image_splits(parts: Mapping[str, tuple[Tensor, Tensor]], normalisation: str) -> Mapping[str, Data]:
    """Return splits of float32 images.

    Parameters
    ----------
    parts
        For each split, images of shape (n, channels, height, width), uint8 or of floating-point numbers in
        [0, 1], and labels of shape (n,). ``"train"`` is among them.
    normalisation
        One of ``NORMALISATIONS``.
    """
    from landscape.objective import as_data

    train = parts["train"][0]
    shift: Tensor | None = None
    scale: Tensor | None = None
    if normalisation == "centre":
        shift = _total(chunk.sum(0) for chunk in _unit(train)) / len(train)
    elif normalisation == "standard":
        pixels = len(train) * train.shape[2] * train.shape[3]
        mean = _total(chunk.sum((0, 2, 3)) for chunk in _unit(train))[:, None, None] / pixels
        squares = _total(((chunk - mean) ** 2).sum((0, 2, 3)) for chunk in _unit(train))
        shift, scale = mean, (squares / pixels).sqrt()[:, None, None]
        scale[scale == 0] = 1  # a channel of one value is centred, and stays at 0
    return {
        name: as_data((_normalised(images, shift, scale), labels.long()))
        for name, (images, labels) in parts.items()
    }


def _total(terms: Iterable[Tensor]) -> Tensor:
    return reduce(add, terms)


def _unit(images: Tensor) -> Iterator[Tensor]:
    """Yield the images in chunks, float64 in [0, 1]."""
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        yield chunk.double() if chunk.is_floating_point() else chunk.double() / 255


def _normalised(images: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    import torch

    result = torch.empty(images.shape, dtype=torch.float32)
    for number, chunk in enumerate(_unit(images)):
        if shift is not None:
            chunk = chunk - shift
        if scale is not None:
            chunk = chunk / scale
        result[number * _CHUNK :][: len(chunk)] = chunk
    return result
