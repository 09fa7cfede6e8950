"""The data of a landscape: a fixed set of examples, read in a fixed order, as often as needed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from numbers import Number
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from landscape.errors import DataError
from landscape.objective.batch import Batch, as_tensors, concatenate, examples_in, leaves, map_leaves, move
from landscape.randomness import derive_seed, preserved_random_state
from landscape.validators import is_whole

__all__ = [
    "EXAMPLES_PER_BATCH",
    "BatchedData",
    "Data",
    "DatasetData",
    "IterableData",
    "TensorData",
    "as_data",
    "fixed",
]

#: Examples evaluated at once where nobody said how many. Measured on one core, as time for a gradient and for a
#: Hessian product over all data, relative to the best size: perceptron 64-100-100-10 with 8192 examples, 256:
#: 1.67 and 1.61, 512: 1.35 and 1.30, 1024: 1.20 and 1.19, 4096: 1; two convolutions (8 and 16 channels, 8x8
#: pixels) with 2048 examples, 512: 1.04 and 1, 1024: 1 and 1, 2048: 1.40 and 1.34.
EXAMPLES_PER_BATCH = 1024

#: Copies of data in memory, on another device or in another type, that are kept: one landscape asks for one
#: of them at every step, and a second landscape in double precision beside it for another.
_CONVERSIONS_KEPT = 2

_RECOMMENDATION = "Draw it once with landscape.fixed(data, batches=...), which keeps the batches in memory."


class Data(ABC):
    """A fixed set of examples that can be read in the same order again and again."""

    #: Whether reading an example may draw random numbers. Data held in memory says no, which spares streams
    #: the seeding of the global generators around every batch.
    draws: ClassVar[bool] = True

    @property
    @abstractmethod
    def examples(self) -> int:
        """Number of examples."""

    @abstractmethod
    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield all examples in order.

        Parameters
        ----------
        size
            Examples per batch (the last one may be short); None leaves it to the data.

        Raises
        ------
        DataError
            For a size below 1, or data that cannot be read in batches of a given size.
        """

    @abstractmethod
    def take(self, indices: Tensor) -> Batch:
        """Return the examples at `indices`, shape (n,), as one batch.

        Raises
        ------
        DataError
            For data that cannot pick single examples.
        """

    def take_rows(self, indices: Tensor) -> Batch | None:
        """Return the examples at `indices`, shape (K, n), with tensors of shape (K, n, ...).

        None where the data would have to read them one by one.
        """
        return None

    @property
    def picks(self) -> bool:
        """Whether single examples can be picked, as mini-batches in an order of their own need it."""
        return True

    def batches_from(self, first: int, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of :meth:`batches` from number `first` on."""
        return islice(self.batches(size), first, None)

    def first(self, count: int) -> Batch:
        """Return the first `count` examples, or all if there are fewer, as one batch; no other is read."""
        return next(iter(self.batches(count)))

    def everything(self) -> Batch:
        """Return all examples as one batch; augmentation draws from the global generators."""
        return self.take(torch.arange(self.examples))

    def drawn(self) -> Iterator[Batch]:
        """Yield the batches as the global generators have it, neither seeded nor put back."""
        return self.batches()

    def moved(self, device: torch.device, dtype: torch.dtype) -> Data:
        """Return the data on `device` with floating tensors in `dtype`, where that is worth keeping.

        Data that is not held in memory returns itself; its batches are moved as they are read.
        """
        return self

    def fingerprint(self) -> str:
        """Return the SHA-256 of the contents as 64 hexadecimal digits; how they are batched does not count.

        Raises
        ------
        DataError
            For contents that cannot be hashed: neither tensors, strings nor numbers.
        """
        return fingerprint_of(self.batches())

    @property
    def deterministic(self) -> bool:
        """Whether two passes give the same data; found out by reading it twice, once."""
        with preserved_random_state():
            return fingerprint_of(self.batches()) == fingerprint_of(self.batches())

    @property
    def repeats(self) -> bool:
        """Whether the same seeds give the same data; found out by reading the first batch twice.

        A dataset with a generator of its own, or one that asks the operating system for random numbers, gives
        other data each time. A walk on it cannot be continued or repeated exactly.
        """
        seen = []
        for _ in range(2):
            with preserved_random_state(derive_seed(0, "repeats")):
                seen.append(fingerprint_of(islice(self.batches(), 1)))
        return seen[0] == seen[1]


class _InMemory(Data):
    """Data that is held in memory: a structure of tensors that does not change."""

    draws = False

    def __init__(self) -> None:
        self._fingerprint: str | None = None
        self._moved: OrderedDict[tuple[torch.device, torch.dtype], Data] = OrderedDict()

    @abstractmethod
    def _contents(self) -> Batch:
        """Return what is held."""

    @abstractmethod
    def _with(self, contents: Batch) -> Data:
        """Return data that holds other tensors in the same way."""

    def moved(self, device: torch.device, dtype: torch.dtype) -> Data:
        """Return the data on `device` in `dtype`; a conversion is made once, and the last two are kept."""
        key = (device, dtype)
        if key not in self._moved:
            contents = self._contents()
            converted = move(contents, device, dtype)
            pairs = zip(leaves(converted), leaves(contents), strict=True)
            as_it_is = all(new is old for (_, new), (_, old) in pairs)
            self._moved[key] = self if as_it_is else self._with(converted)
            if len(self._moved) > _CONVERSIONS_KEPT:
                self._moved.popitem(last=False)
        return self._moved[key]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the contents."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.batches())
        return self._fingerprint

    @property
    def deterministic(self) -> bool:
        """What is in memory is the same in every pass."""
        return True

    @property
    def repeats(self) -> bool:
        """What is in memory is the same whenever it is read."""
        return True


class TensorData(_InMemory):
    """Examples held in memory: a batch structure of tensors with one common leading dimension.

    Parameters
    ----------
    tensors
        For instance ``(x, y)`` or ``{"x": x, "y": y}``. Kept as they are, not copied.
    batch_size
        Examples evaluated at once.

    Raises
    ------
    DataError
        For anything but tensors with one common leading dimension, and for none at all.
    """

    def __init__(self, tensors: Batch, batch_size: int | None = None) -> None:
        super().__init__()
        if not len(tensors):
            raise DataError(f"The data is empty: {tensors!r}. Give tensors, as (x, y) or {{'x': x, 'y': y}}.")
        self.tensors = as_tensors(tensors)
        strays = [
            (path, leaf)
            for path, leaf in leaves(self.tensors)
            if not isinstance(leaf, Tensor) or not leaf.ndim
        ]
        if strays:
            raise DataError(
                f"Data held in memory consists of tensors with a leading dimension; data{strays[0][0]} is "
                f"{_short(strays[0][1])}. Give tensors or arrays with one row per example."
            )
        # A pair of ordinary tensors is picked from without further questions: a walk does so at every step.
        self._plain = type(self.tensors) is tuple and all(
            isinstance(leaf, Tensor) and leaf.is_contiguous() and leaf.device.type == "cpu"
            for leaf in self.tensors
        )
        self._examples = examples_in(self.tensors)
        self.batch_size = _checked_batch_size(batch_size, EXAMPLES_PER_BATCH)
        _refuse_empty(self._examples)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self._examples

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield views of consecutive examples."""
        return self.batches_from(0, size)

    def batches_from(self, first: int, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches from number `first` on."""
        size = _checked_batch_size(size, self.batch_size)
        for start in range(first * size, self._examples, size):
            if start == 0 and size >= self._examples:
                yield self.tensors
            else:
                stop = start + size
                yield map_leaves(partial(_slice, rows=slice(start, stop)), self.tensors)

    def take(self, indices: Tensor) -> Batch:
        """Return the examples at `indices` as one batch."""
        if self._plain:
            indices = indices.cpu()
            return tuple([leaf.index_select(0, indices) for leaf in self.tensors])
        return map_leaves(partial(_rows, rows=indices), self.tensors)

    def take_rows(self, indices: Tensor) -> Batch | None:
        """Return the examples at `indices`, shape (K, n), as tensors of shape (K, n, ...)."""
        flat, shape = indices.reshape(-1), tuple(indices.shape)
        return map_leaves(lambda leaf: _rows(leaf, flat).unflatten(0, shape), self.tensors)

    def everything(self) -> Batch:
        """Return all examples as one batch, without a copy."""
        return self.tensors

    def _contents(self) -> Batch:
        return self.tensors

    def _with(self, contents: Batch) -> Data:
        return TensorData(contents, self.batch_size)


class BatchedData(_InMemory):
    """Batches held in memory, as somebody else made them.

    Parameters
    ----------
    batches
        The batches, of any structure; kept as they are, not copied.

    Raises
    ------
    DataError
        When there is none.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        super().__init__()
        self.held = tuple(_as_batch(batch) for batch in batches)
        _refuse_empty(len(self.held))
        self._sizes: Tensor | None = None

    @property
    def examples(self) -> int:
        """Number of examples in all batches."""
        return int(self._batch_sizes().sum())

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches as they were given, or batches of `size` examples across their borders."""
        return self.batches_from(0, size)

    def batches_from(self, first: int, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches from number `first` on."""
        if size is None:
            yield from self.held[first:]
            return
        size = _checked_batch_size(size, 1)
        for start in range(first * size, self.examples, size):
            yield self.take(torch.arange(start, min(start + size, self.examples)))

    def take(self, indices: Tensor) -> Batch:
        """Return the examples at `indices`, counted through all batches, as one batch."""
        sizes = self._batch_sizes()
        ends = sizes.cumsum(0)
        owners = torch.searchsorted(ends, indices.cpu(), right=True)
        places = indices.cpu() - (ends - sizes)[owners]
        pieces, order = [], []
        for owner in torch.unique(owners).tolist():
            here = (owners == owner).nonzero().squeeze(1)
            rows = places[here]
            pieces.append(map_leaves(partial(_rows, rows=rows), self.held[owner]))
            order.append(here)
        joined = concatenate(pieces)
        if len(pieces) == 1:
            return joined
        back = torch.cat(order).argsort()
        return map_leaves(partial(_rows, rows=back), joined)

    def everything(self) -> Batch:
        """Return all examples as one batch."""
        return concatenate(self.held)

    def _contents(self) -> Batch:
        return self.held

    def _with(self, contents: Batch) -> Data:
        return BatchedData(contents)

    def _batch_sizes(self) -> Tensor:
        if self._sizes is None:
            self._sizes = torch.tensor([examples_in(batch) for batch in self.held])
        return self._sizes


class DatasetData(Data):
    """A map-style dataset, read in order.

    Random numbers that reading an example draws from the global generators are seeded by the number of the
    batch and the global states are left as they were, so a loss over augmented data repeats itself as far as
    the augmentation obeys seeds. Such data still counts as not deterministic: see ``landscape.fixed``.

    Parameters
    ----------
    dataset
        Has ``__len__`` and ``__getitem__``.
    batch_size
        Examples per batch; 0 when each item of the dataset already is a batch.
    collate
        Makes a batch of a list of items.
    indices
        Which items, in which order; all of them by default.

    Raises
    ------
    DataError
        For a dataset without items.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = None,
        collate: Callable[[list[Any]], Batch] = default_collate,
        indices: Sequence[int] | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = 0 if batch_size == 0 else _checked_batch_size(batch_size, EXAMPLES_PER_BATCH)
        self.collate = collate
        self.indices = range(_length(dataset)) if indices is None else indices
        self._fingerprint: str | None = None
        self._deterministic: bool | None = None
        self._examples: int | None = None
        _refuse_empty(len(self.indices))

    @property
    def examples(self) -> int:
        """Number of examples."""
        if self._examples is None:
            self._examples = (
                len(self.indices) if self.batch_size else sum(examples_in(batch) for batch in self.batches())
            )
        return self._examples

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield batches of consecutive items."""
        return self.batches_from(0, size)

    def batches_from(self, first: int, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches from number `first` on, without reading those before."""
        for number, group in islice(enumerate(self._groups(size)), first, None):
            with preserved_random_state(derive_seed(0, "batch", number)):
                batch = self._read(group)
            yield batch

    def take(self, indices: Tensor) -> Batch:
        """Return the items at `indices` as one batch; augmentation draws from the global generators.

        Raises
        ------
        DataError
            When the items are batches.
        """
        if not self.batch_size:
            raise DataError(
                "The items of this dataset are batches already (batch_size=None in its loader), so single "
                f"examples cannot be picked. {_RECOMMENDATION}"
            )
        with preserved_random_state():
            return self._read([self.indices[i] for i in indices.tolist()])

    @property
    def picks(self) -> bool:
        """Whether the items are examples, not batches."""
        return self.batch_size != 0

    def first(self, count: int) -> Batch:
        """Return the first examples as one batch: `count`, or where items are batches as many as it takes."""
        return super().first(count) if self.batch_size else _head(self.batches(), count)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the contents, read once."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.batches())
        return self._fingerprint

    @property
    def deterministic(self) -> bool:
        """Whether two passes give the same data; found out by reading it twice, once.

        The passes follow each other without seeding between, so that augmentation shows itself; the global
        generators are left as they were.
        """
        if self._deterministic is None:
            with preserved_random_state():
                passes = [fingerprint_of(self.drawn()) for _ in range(2)]
            self._deterministic = passes[0] == passes[1]
            if self._deterministic:
                self._fingerprint = passes[0]
        return self._deterministic

    def drawn(self) -> Iterator[Batch]:
        """Yield the batches as the global generators have it, neither seeded nor put back."""
        return map(self._read, self._groups(None))

    def _groups(self, size: int | None) -> Iterator[Sequence[int]]:
        """Yield the items of each batch."""
        if not self.batch_size and size is not None:
            raise DataError(
                "The items of this dataset are batches already (batch_size=None in its loader), so they cannot "
                f"be read in batches of {size}. {_RECOMMENDATION}"
            )
        step = _checked_batch_size(size, self.batch_size or 1)
        for start in range(0, len(self.indices), step):
            yield self.indices[start : start + step]

    def _read(self, items: Sequence[int]) -> Batch:
        if not self.batch_size:
            return _as_batch(self.collate(self.dataset[items[0]]))
        read = [self.dataset[item] for item in items]
        if self.collate is not default_collate:
            return _as_batch(self.collate(read))
        try:
            return _as_batch(default_collate(read))
        except (TypeError, RuntimeError, KeyError) as error:
            raise DataError(
                f"The items of {type(self.dataset).__name__} cannot be made into a batch: {error} "
                "Give a DataLoader with a collate_fn of your own."
            ) from error


class IterableData(Data):
    """An iterable that yields the same batches each time it is iterated.

    Parameters
    ----------
    iterable
        Yields batches; ``iter(iterable)`` starts anew every time.
    """

    def __init__(self, iterable: Iterable[Batch]) -> None:
        self.iterable = iterable
        self._examples: int | None = None
        self._fingerprint: str | None = None
        self._deterministic: bool | None = None

    @property
    def examples(self) -> int:
        """Number of examples, counted in one pass."""
        if self._examples is None:
            self._examples = sum(examples_in(batch) for batch in self.batches())
            _refuse_empty(self._examples)
        return self._examples

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of the iterable; what it draws from the global generators is seeded.

        Raises
        ------
        DataError
            When a size is given.
        """
        if size is not None:
            raise DataError(f"An iterable dataset cannot be read in batches of {size}. {_RECOMMENDATION}")
        with preserved_random_state(derive_seed(0, "pass")):
            iterator = iter(self.iterable)
        number = 0
        while True:
            with preserved_random_state(derive_seed(0, "batch", number)):
                try:
                    batch = _as_batch(next(iterator))
                except StopIteration:
                    return
            yield batch
            number += 1

    @property
    def picks(self) -> bool:
        """No: an iterable has no random access."""
        return False

    def take(self, indices: Tensor) -> Batch:
        """Refuse: an iterable has no random access.

        Raises
        ------
        DataError
            Always.
        """
        raise DataError(f"Examples of an iterable dataset cannot be picked one by one. {_RECOMMENDATION}")

    def first(self, count: int) -> Batch:
        """Return the first batches, as many as it takes for `count` examples, as one batch.

        Raises
        ------
        DataError
            When the iterable gives nothing, or batches that cannot be joined.
        """
        return _head(self.batches(), count)

    def everything(self) -> Batch:
        """Return all examples as one batch; augmentation draws from the global generators.

        Raises
        ------
        DataError
            When the iterable gives nothing, or batches that cannot be joined.
        """
        with preserved_random_state():
            batches = list(self.drawn())
        _refuse_empty(len(batches))
        return concatenate(batches)

    def drawn(self) -> Iterator[Batch]:
        """Yield the batches as the global generators have it, neither seeded nor put back."""
        return map(_as_batch, self.iterable)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the contents, read once."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.batches())
        return self._fingerprint

    @property
    def deterministic(self) -> bool:
        """Whether two passes give the same data; found out by reading it twice, once."""
        if self._deterministic is None:
            with preserved_random_state():
                passes = [fingerprint_of(self.drawn()) for _ in range(2)]
            self._deterministic = passes[0] == passes[1]
        return self._deterministic


def as_data(source: Any, batch_size: int | None = None) -> Data:
    """Return `source` as data of a landscape.

    Parameters
    ----------
    source
        One of

        - :class:`Data`;
        - a tuple ``(x, y)`` or a mapping of tensors (or numpy arrays) with one leading dimension;
        - a list of batches;
        - a ``torch.utils.data.DataLoader``: read through its dataset with its ``collate_fn`` and batch size,
          in the order of the dataset and in this process, whatever its ``shuffle``, ``drop_last`` and
          ``num_workers``; the loader itself is never iterated, so that a training loop over it does not
          notice. A ``SequentialSampler``, ``RandomSampler`` or list of indices over a part of the dataset gives
          that part, a ``SubsetRandomSampler`` its subset, a ``DistributedSampler`` its rank's share without the
          padding. A ``RandomSampler`` that draws with replacement, or another number of examples than there
          are, gives other examples in every epoch and is refused;
        - a map-style ``Dataset``, or an iterable of batches that starts anew every time.
    batch_size
        Examples evaluated at once for tensors and datasets.

    Raises
    ------
    DataError
        For one-shot iterators, samplers that are not a pass over the data, empty data and other types.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, DataLoader):
        return _from_loader(source)
    if isinstance(source, IterableDataset):
        return _from_iterable(source, DataLoader(source, batch_size=batch_size or EXAMPLES_PER_BATCH))
    if isinstance(source, Dataset):
        return _from_dataset(source, batch_size, default_collate)
    if isinstance(source, Mapping | tuple):
        return TensorData(source, batch_size)
    if isinstance(source, list):
        if source and all(isinstance(entry, Tensor) for entry in source):
            raise DataError(
                "A list is a list of batches, and a tensor alone is no batch. Give inputs and targets as a "
                "tuple (x, y), or inputs alone as (x,) or {'x': x}."
            )
        return BatchedData(source)
    if isinstance(source, Tensor):
        raise DataError("One tensor alone: give inputs and targets as (x, y), or inputs alone as {'x': x}.")
    if getattr(source, "__array__", None) is not None and not isinstance(source, type):
        raise DataError(
            f"One {type(source).__name__} alone: which of it are inputs, and which targets? Give arrays or tensors "
            "as (x, y), or inputs alone as {'x': x}."
        )
    if isinstance(source, Iterable) and not isinstance(source, _NO_DATA):
        return _from_iterable(source, source)
    raise DataError(
        f"{_short(source)} is no data. Give (x, y), a mapping of tensors, a list of batches, a "
        "DataLoader, a Dataset, or landscape.fixed(...) of anything that yields batches."
    )


#: Can be iterated, and what comes out are no batches.
_NO_DATA = (str, bytes, bytearray, os.PathLike, set, frozenset, range, type)


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _as_batch(value: Any) -> Batch:
    """Return what a source yielded as a batch, numpy arrays turned into tensors.

    Raises
    ------
    DataError
        For a number, a text or nothing: examples, or names of files, in place of batches.
    """
    if value is None or isinstance(value, str | bytes | Number):
        raise DataError(
            f"The data yields {_short(value)}, which is no batch. A batch is a pair (x, y) or a mapping of tensors "
            "with one leading dimension, which counts the examples."
        )
    return as_tensors(value)


def fixed(source: Any, batches: int | None = None, seed: int = 0) -> Data:
    """Draw data once and keep it in memory: shuffling, sampling and augmentation included.

    Parameters
    ----------
    source
        Anything that yields batches: a ``DataLoader`` (iterated with its sampler, augmentation and as many
        workers), a generator, or whatever :func:`as_data` takes.
    batches
        How many batches to draw; None draws all.
    seed
        Seeds Python's, numpy's and torch's global generators while drawing, and the generators that a loader
        and its samplers have of their own. All are left as they were, and so are the workers of a loader that
        keeps them: what a training loop draws from the same loader, also in the middle of an epoch, is not
        changed. Generators inside a dataset are out of reach.

    Returns
    -------
    Data
        The drawn batches, copied and detached.

    Raises
    ------
    DataError
        When `source` yields fewer than `batches` batches, or none.
    """
    if batches is not None and (not is_whole(batches) or batches < 1):
        raise DataError(f"batches={batches!r}: give a whole number, at least 1, or None for all.")
    if not is_whole(seed):
        raise DataError(f"seed={seed!r}: give a whole number.")
    with preserved_random_state(derive_seed(seed, "fixed")):
        if isinstance(source, DataLoader):
            with _borrowed_generators(source, seed):
                drawn = _copies(_private(source), batches)
        elif isinstance(source, Iterator):
            drawn = _copies(source, batches)
        else:
            data = as_data(source)
            if isinstance(data, TensorData) and batches is None:
                return TensorData(map_leaves(_copied, data.tensors), data.batch_size)
            drawn = _copies(data.drawn(), batches)
    if batches is not None and len(drawn) < batches:
        raise DataError(f"{batches} batches were asked for, but the source ended after {len(drawn)}.")
    return BatchedData(drawn)


def fingerprint_of(batches: Iterable[Batch]) -> str:
    """Return the SHA-256 of the contents of `batches`.

    Every leaf is hashed along all batches, so that the same examples in batches of another size have the same
    fingerprint.

    Raises
    ------
    DataError
        For a leaf whose contents cannot be read: neither tensor, string, bytes, number nor None.
    """
    digests: dict[str, Any] = {}
    kinds: dict[str, list[Any]] = {}
    for batch in batches:
        for path, leaf in leaves(batch):
            digest = digests.setdefault(path, hashlib.sha256())
            kind: list[Any]
            if isinstance(leaf, Tensor):
                kind = [str(leaf.dtype), list(leaf.shape[1:]), leaf.ndim > 0]
                flat = leaf.detach().reshape(-1).cpu().contiguous()
                digest.update(flat.view(torch.uint8).numpy().data)
            elif isinstance(leaf, bytes):
                kind = ["bytes"]
                digest.update(leaf)
            elif leaf is None or isinstance(leaf, str | bool | int | float | complex):
                kind = [type(leaf).__name__]
                digest.update(repr(leaf).encode())
            else:
                raise DataError(
                    f"batch{path} is a {type(leaf).__name__}, whose contents cannot be hashed. Yield tensors, "
                    "strings and numbers."
                )
            history = kinds.setdefault(path, [])
            if not history or history[-1] != kind:
                history.append(kind)
    table = {path: [kinds[path], digests[path].hexdigest()] for path in sorted(digests)}
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _private(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """Return a loader of the same dataset that can be iterated without touching the other.

    A loader that keeps its workers ends the epoch that is under way when it is iterated again.
    """
    private = copy.copy(loader)
    # A loader refuses changes through attributes once it is made.
    private.__dict__ |= {"_iterator": None, "persistent_workers": False, **changes}
    return private


@contextmanager
def _borrowed_generators(loader: DataLoader[Any], seed: int) -> Iterator[None]:
    """Seed the generators that a loader and its samplers have of their own, and put them back."""
    found: list[torch.Generator] = []
    holders: list[Any] = [loader]
    for holder in holders:
        for value in vars(holder).values():
            if isinstance(value, torch.Generator) and all(value is not other for other in found):
                found.append(value)
            elif isinstance(value, Sampler) and all(value is not other for other in holders):
                holders.append(value)
    states = [generator.get_state() for generator in found]
    try:
        for number, generator in enumerate(found):
            generator.manual_seed(derive_seed(seed, "fixed", "loader", number))
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)


def _from_loader(loader: DataLoader[Any]) -> Data:
    if isinstance(loader.dataset, IterableDataset):
        # In this process, and with a draw for the workers' seeds from the global generator, which is seeded.
        alone = {"num_workers": 0, "timeout": 0, "generator": None, "drop_last": False}
        return _from_iterable(loader.dataset, _private(loader, **alone))
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        raise DataError(
            f"The loader draws batches with a {type(loader.batch_sampler).__name__}, which need not be one pass "
            f"over the data. Give its dataset, or: {_RECOMMENDATION}"
        )
    # A loader that was given a batch sampler holds a sampler beside it that it does not ask. A loader without
    # batching has none; its items are batches.
    sampler: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler.sampler
    size = 0 if loader.batch_sampler is None else loader.batch_sampler.batch_size
    return _from_dataset(loader.dataset, size, loader.collate_fn, _sampled(sampler, loader.dataset))


def _sampled(sampler: Any, dataset: Dataset[Any]) -> Sequence[int] | None:
    """Return the items that one pass of `sampler` gives, in the order of the dataset; None for all of them.

    Raises
    ------
    DataError
        For a sampler of which two passes may give different items, and for items that are not there.
    """
    count = _length(dataset)
    indices: Sequence[int]
    if isinstance(sampler, list | tuple | range):
        indices = sampler
    elif _is_a(sampler, SequentialSampler):
        indices = range(len(sampler.data_source))
    elif _is_a(sampler, RandomSampler):
        indices = range(len(sampler.data_source))
        if sampler.replacement or sampler.num_samples != len(indices):
            again = ", with replacement" if sampler.replacement else ""
            raise DataError(
                f"The loader's RandomSampler draws {sampler.num_samples} of {len(indices)} examples anew in every "
                f"epoch{again}, which is not one fixed set of examples. Give its dataset, or: {_RECOMMENDATION}"
            )
    elif _is_a(sampler, SubsetRandomSampler):
        indices = sorted(int(index) for index in sampler.indices)
    elif _is_a(sampler, DistributedSampler):
        indices = range(sampler.rank, len(sampler.dataset), sampler.num_replicas)
    else:
        raise DataError(
            f"The loader samples with a {type(sampler).__name__}, which need not be one pass over the data. "
            f"Give its dataset, or: {_RECOMMENDATION}"
        )
    _refuse_empty(len(indices))
    _refuse_strays(indices, count, f"The loader's {type(sampler).__name__}")
    return None if indices == range(count) else indices


def _is_a(sampler: Any, kind: type[Sampler[int]]) -> bool:
    """Whether `sampler` draws as `kind` does; a subclass with an order of its own does not."""
    return isinstance(sampler, kind) and type(sampler).__iter__ is kind.__iter__


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise DataError(
            f"{type(dataset).__name__} does not say how many items it has. Give it a __len__, or make it an "
            "IterableDataset."
        ) from error


def _refuse_strays(indices: Sequence[Any], count: int, who: str) -> None:
    """Refuse indices that are not those of a dataset of `count` items.

    Raises
    ------
    DataError
        Naming the first.
    """
    if isinstance(indices, range):
        indices = [indices[0], indices[-1]]
    for index in indices:
        if not is_whole(index) or not -count <= index < count:
            raise DataError(
                f"{who} asks for item {index!r} of a dataset of {count} items; give whole numbers from 0 to "
                f"{count - 1}."
            )


def _from_dataset(
    dataset: Dataset[Any],
    batch_size: int | None,
    collate: Callable[[list[Any]], Batch],
    indices: Sequence[int] | None = None,
) -> Data:
    """Return the dataset as data; tensors in memory are recognised, so that they need not be read one by one."""
    if collate is default_collate and batch_size != 0:
        if type(dataset) is TensorDataset:
            tensors = tuple(dataset.tensors)
            if indices is not None:
                rows = torch.as_tensor(list(indices))
                tensors = tuple(tensor[rows] for tensor in tensors)
            return TensorData(tensors, batch_size)
        if type(dataset) is Subset and len(dataset):
            _refuse_strays(dataset.indices, _length(dataset.dataset), "The Subset")
            chosen = dataset.indices if indices is None else [dataset.indices[i] for i in indices]
            return _from_dataset(dataset.dataset, batch_size, collate, list(chosen))
    return DatasetData(dataset, batch_size, collate, indices)


def _from_iterable(origin: Iterable[Any], iterable: Iterable[Batch]) -> Data:
    with preserved_random_state():
        one_shot = isinstance(origin, Iterator) or iter(origin) is origin
    if one_shot:
        raise DataError(
            f"A {type(origin).__name__} can be read only once, and a landscape needs the same data again and "
            f"again. {_RECOMMENDATION}"
        )
    return IterableData(iterable)


def _copies(batches: Iterable[Batch], count: int | None) -> list[Batch]:
    return [map_leaves(_copied, _as_batch(batch)) for batch in islice(batches, count)]


def _head(batches: Iterator[Batch], count: int) -> Batch:
    """Return the first of `batches`, as many as it takes for `count` examples, as one batch."""
    found, examples = [], 0
    for batch in batches:
        found.append(batch)
        examples += examples_in(batch)
        if examples >= count:
            break
    _refuse_empty(len(found))
    return concatenate(found)


def _copied(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _slice(leaf: Tensor, rows: slice) -> Tensor:
    return leaf[rows]


def _rows(leaf: Any, rows: Tensor) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.ndim:
        return leaf
    if rows.device != leaf.device:
        rows = rows.to(leaf.device)
    # Half the time of leaf[rows], which keeps strides such as those of channels_last.
    return torch.index_select(leaf, 0, rows) if leaf.is_contiguous() else leaf[rows]


def _checked_batch_size(size: int | None, default: int) -> int:
    if size is None:
        return default
    if not is_whole(size) or size < 1:
        raise DataError(f"A batch of {size!r} examples: give a whole number, at least 1.")
    return int(size)


def _refuse_empty(count: int) -> None:
    if count == 0:
        raise DataError("The data is empty; a mean loss over no examples is not defined.")
