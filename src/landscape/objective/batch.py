"""Batches: nested tuples, lists and mappings of tensors.

A batch is whatever a data loader yields. Its leaves are tensors, whose leading dimension counts examples, and
anything else (strings, numbers), which travels along untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from landscape.errors import DataError

__all__ = [
    "Batch",
    "PerRow",
    "aligned",
    "as_tensors",
    "concatenate",
    "examples_in",
    "leaves",
    "map_leaves",
    "move",
]

Batch: TypeAlias = Any

#: Bytes to whose multiples torch aligns the tensors that it makes.
_ALIGNED = 64


@final
class PerRow:
    """One batch for each row of a (K, P) matrix of weights.

    Parameters
    ----------
    batches
        K batches, in the order of the rows.
    """

    __slots__ = ("_batches", "_count", "_stack", "_tried")

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches: tuple[Batch, ...] | None = tuple(batches)
        self._count = len(self._batches)
        self._stack: Batch | None = None
        self._tried = False

    @classmethod
    def of_stack(cls, stack: Batch, count: int) -> PerRow:
        """Return the batches that stand one above the other in `stack`, whose tensors have shape (count, B, ...)."""
        made = cls(())
        made._batches, made._count, made._stack, made._tried = None, count, stack, True
        return made

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The batches; views where they were given as a stack."""
        if self._batches is None:
            self._batches = tuple(
                map_leaves(partial(_row, number=k), self._stack) for k in range(self._count)
            )
        return self._batches

    def stack(self) -> Batch | None:
        """Return one batch with a further dimension in front, (K, B, ...), for all; None where they differ.

        Batches differ when their structures do, their tensors in shape or dtype, or their other leaves.
        """
        if not self._tried:
            self._tried = True
            self._stack = _stacked(self._batches or ())
        return self._stack

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"PerRow({self._count} batches)"


def _row(leaf: Any, number: int) -> Any:
    """Return a row of a tensor, as if it had been read by itself.

    The products of small matrices round differently where their memory does not begin at a multiple of what the
    processor reads at once, so that a worker's bits would depend on its place among the others.
    """
    if not isinstance(leaf, Tensor):
        return leaf
    return aligned(leaf[number])


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy that begins where torch lets tensors begin."""
    return tensor.clone() if tensor.data_ptr() % _ALIGNED else tensor


def _stacked(batches: Sequence[Batch]) -> Batch | None:
    described = [[(path, _kind(leaf)) for path, leaf in leaves(batch)] for batch in batches]
    if not batches or any(other != described[0] for other in described):
        return None
    columns = iter(zip(*([leaf for _, leaf in leaves(batch)] for batch in batches), strict=True))

    def stacked(leaf: Any) -> Any:
        column = next(columns)
        return torch.stack(column) if isinstance(leaf, Tensor) else leaf

    return map_leaves(stacked, batches[0])


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.device
    return type(leaf), repr(leaf)


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
    """Return `batch` with numpy arrays turned into tensors (which share their memory where they can).

    Raises
    ------
    DataError
        For arrays of something else than numbers.
    """
    return map_leaves(_as_tensor, batch)


def _as_tensor(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        return leaf
    try:
        # Torch knows neither the other order of bytes nor steps backwards.
        native = leaf.astype(leaf.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(native.copy() if any(step < 0 for step in native.strides) else native)
    except TypeError as error:
        raise DataError(
            f"An array of dtype {leaf.dtype} has no counterpart in torch. Give numbers: {error}"
        ) from error


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
    if type(batch) is tuple and all(_is_there(leaf, device, dtype) for leaf in batch):
        return batch  # nearly always, and at every step

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return leaf.to(device=device, dtype=dtype)
        if leaf.is_complex():
            return leaf.to(device=device, dtype=dtype.to_complex())
        return leaf.to(device=device)

    return map_leaves(moved, batch)


def _is_there(leaf: Any, device: torch.device, dtype: torch.dtype) -> bool:
    if type(leaf) is not Tensor or leaf.device != device:
        return False
    return leaf.dtype == dtype or not (leaf.is_floating_point() or leaf.is_complex())


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
