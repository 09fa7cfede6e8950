"""Batches: nested tuples, lists and mappings of tensors.

A batch is whatever a data loader yields. Its leaves are tensors, whose leading dimension counts examples, and
anything else (strings, numbers), which travels along untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor

from landscape.errors import DataError

__all__ = ["Batch", "PerRow", "as_tensors", "concatenate", "examples_in", "leaves", "map_leaves", "move"]

Batch: TypeAlias = Any


@frozen
class PerRow:
    """One batch for each row of a (K, P) matrix of weights.

    Attributes
    ----------
    batches
        K batches, in the order of the rows.
    """

    batches: tuple[Batch, ...] = field(converter=tuple)

    def __len__(self) -> int:
        return len(self.batches)


def map_leaves(function: Callable[[Any], Any], batch: Batch) -> Batch:
    """Return a batch of the same structure with `function` applied to every leaf.

    Named tuples keep their class; every other sequence becomes a list or a tuple, every mapping a ``dict``.
    """
    if isinstance(batch, Mapping):
        return {key: map_leaves(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        parts = [map_leaves(function, value) for value in batch]
        return tuple(parts) if type(batch) is tuple else type(batch)(*parts)
    if isinstance(batch, list):
        return [map_leaves(function, value) for value in batch]
    return function(batch)


def leaves(batch: Batch, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of `batch` with their paths, such as ``("[0]", x)`` or ``("['label']", y)``."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(batch, tuple | list):
        for index, value in enumerate(batch):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, batch


def as_tensors(batch: Batch) -> Batch:
    """Return `batch` with numpy arrays turned into tensors (which share their memory)."""
    return map_leaves(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, batch)


def examples_in(batch: Batch) -> int:
    """Return how many examples a batch holds: the leading dimension that all its tensors share.

    Raises
    ------
    DataError
        When there is no tensor with a leading dimension, or the tensors disagree.
    """
    sizes = {
        path: leaf.shape[0] for path, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 0
    }
    if len(set(sizes.values())) == 1:
        return next(iter(sizes.values()))
    if not sizes:
        raise DataError(
            f"A batch of type {type(batch).__name__} has no tensor with a leading dimension, so its examples "
            "cannot be counted. Give BatchLoss(fn, weight=...) with a weight that can be computed from it."
        )
    listed = ", ".join(f"batch{path}: {size}" for path, size in sizes.items())
    raise DataError(
        f"The tensors of a batch disagree about the number of examples ({listed}). Give them one leading "
        "dimension, or say how much a batch counts with BatchLoss(fn, weight=...)."
    )


def move(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Return `batch` on `device`, its floating tensors in `dtype`.

    Integers and booleans keep their type; complex tensors get the complex type of the same precision.
    """

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return leaf.to(device=device, dtype=dtype)
        if leaf.is_complex():
            return leaf.to(device=device, dtype=dtype.to_complex())
        return leaf.to(device=device)

    return map_leaves(moved, batch)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Join batches of one structure along the leading dimension of their tensors.

    Leaves that are not tensors must be lists of one entry per example inside each batch, or equal throughout.

    Raises
    ------
    DataError
        When the batches differ in structure, or their tensors in trailing shape.
    """
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    try:
        if isinstance(first, Mapping):
            return {key: concatenate([batch[key] for batch in batches]) for key in first}
        if isinstance(first, tuple):
            parts = [concatenate(column) for column in zip(*batches, strict=True)]
            return tuple(parts) if type(first) is tuple else type(first)(*parts)
        if isinstance(first, list):
            if first and not any(isinstance(leaf, Tensor) for _, leaf in leaves(first)):
                return [entry for batch in batches for entry in batch]
            return [concatenate(column) for column in zip(*batches, strict=True)]
        if isinstance(first, Tensor):
            return torch.cat(list(batches)) if first.ndim else torch.stack(list(batches))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"Batches cannot be joined: {error}. Batches that differ in shape (padding, graphs) can be "
            "evaluated one by one, but not re-batched: leave the batch size to the loader."
        ) from error
    if all(batch == first for batch in batches):
        return first
    raise DataError(f"Batches cannot be joined: leaves of type {type(first).__name__} differ between them.")
