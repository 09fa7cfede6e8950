"""The affine space that weight snapshots span.

T snapshots in R^P span an affine space of at most T - 1 dimensions, and P may be millions. Everything a
projector needs lives in that small space: with the centred snapshots as rows of X (T x P), the Gram matrix
G = X X^T = U diag(lambda) U^T gives coordinates Y = U diag(sqrt(lambda)) (T x r) whose pairwise distances are
those of the snapshots, in the orthonormal basis V = diag(lambda)^(-1/2) U^T X of the space. V is never formed:
a point with coordinates c is mean + (c diag(lambda)^(-1/2) U^T) X, a combination of the snapshots.

Snapshots are read from disk a slice of columns at a time, so memory does not grow with T x P, and sums are
accumulated in float64: forming G squares the condition number, and with float32 products the distances
between late, close snapshots would be wrong by 5 to 23 % (measured on 300 snapshots of five networks, with
8 040 to a million weights; in float64 the worst error was 1e-7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from attrs import frozen
from torch import Tensor

from landscape.errors import ConfigurationError, RunError, nearest
from landscape.store import tensors as stored
from landscape.store.layout import plain_layout, rich_layout

if TYPE_CHECKING:
    from landscape.objective import Layout
    from landscape.store.records import Snapshot

__all__ = ["SnapshotSpan"]

#: A slice of columns of all snapshots takes this many bytes in float64; with its working copies a pass holds
#: about three times as much. 64 MiB keeps 300 snapshots at 28 000 columns a slice, long enough for the matrix
#: product to run at full speed.
CHUNK_BYTES = 64 * 2**20
#: Grams per parameter are kept, so that every part comes from the same pass, up to this many bytes.
GRAM_BYTES = 256 * 2**20
#: Snapshots above which a span of fewer weights than snapshots does without their Gram matrix.
MANY = 1000


# ---------------------------------------------------------------------------------------------------------
# Where the rows come from
# ---------------------------------------------------------------------------------------------------------


class _InMemory:
    """Rows of one tensor, shape (T, P)."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights
        self.rows, self.size = weights.shape
        self.dtype = weights.dtype

    def read(self, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Return columns of the given rows, shape (rows, stop - start), in the dtype they have."""
        return self._weights[torch.from_numpy(rows), start:stop]


class _OnDisk:
    """Rows in safetensors files, read through memory maps; every file is verified when this is made."""

    def __init__(self, places: Sequence[tuple[Snapshot, str]]) -> None:
        self._places = [(snapshot.path, label) for snapshot, label in places]
        self.rows = len(places)
        for snapshot, _ in places:
            stored.verify(snapshot.path, snapshot.sha256)
        kinds = {self._kind(path, label) for path, label in self._places}
        if len(kinds) > 1:
            raise RunError(f"The snapshots differ in size or dtype: {sorted(map(str, kinds))}.")
        self.size, self.dtype = kinds.pop()

    @staticmethod
    def _kind(path: Path, label: str) -> tuple[int, torch.dtype]:
        with stored.opened(path) as file:
            part = file.get_slice(label)
            return part.get_shape()[0], part[:0].dtype

    def read(self, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Return columns of the given rows, shape (rows, stop - start), in the dtype they have."""
        block = torch.empty((len(rows), stop - start), dtype=self.dtype)
        # One file holds several workers' rows: open each file once.
        by_path: dict[Path, list[tuple[int, str]]] = {}
        for position, row in enumerate(rows):
            path, label = self._places[row]
            by_path.setdefault(path, []).append((position, label))
        for path, wanted in by_path.items():
            with stored.opened(path) as file:
                for position, label in wanted:
                    block[position] = file.get_slice(label)[start:stop]
        return block


class _Joined:
    """Rows of several sources, one after another."""

    def __init__(self, first: _Source, second: _Source) -> None:
        self._first, self._second = first, second
        self.rows: int = first.rows + second.rows
        self.size: int = first.size
        self.dtype: torch.dtype = torch.promote_types(first.dtype, second.dtype)

    def read(self, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Return columns of the given rows, shape (rows, stop - start), in the dtype that holds both."""
        block = torch.empty((len(rows), stop - start), dtype=self.dtype)
        later = rows >= self._first.rows
        for source, chosen, shift in ((self._first, ~later, 0), (self._second, later, self._first.rows)):
            if chosen.any():
                block[torch.from_numpy(chosen)] = source.read(rows[chosen] - shift, start, stop).to(
                    self.dtype
                )
        return block


_Source = _InMemory | _OnDisk | _Joined


@frozen
class _Entry:
    """A parameter, or the mean of several of the same shape, and its columns.

    Attributes
    ----------
    name
        Of the parameter; ``"mean(a, b)"`` for a mean.
    starts
        Where each of the parameters starts in a whole weight vector.
    length
        How many columns each of them has.
    shape
        Theirs.
    """

    name: str
    starts: tuple[int, ...]
    length: int
    shape: tuple[int, ...]


@frozen
class _Columns:
    """Columns `first` to `last` of the parameters that start at `starts`: their mean where there are several."""

    starts: tuple[int, ...]
    first: int
    last: int

    def of(self, read: Callable[[int, int], Tensor]) -> Tensor:
        """Return them in float64, of what `read` returns for a start and a stop in a whole vector."""
        blocks = (read(start + self.first, start + self.last) for start in self.starts)
        total = next(blocks).to("cpu", torch.float64, copy=True)
        for block in blocks:
            total += block.to("cpu", torch.float64)
        return total if len(self.starts) == 1 else total.div_(len(self.starts))


class _Grams:
    """Gram matrices of snapshots minus the first of them, shared by a span and its parts.

    A matrix belongs to a group of entries, whose products it sums. What is asked for while anything is missing
    comes from one pass over the files, together with every mean of layers that was announced before.
    """

    def __init__(self, source: _Source, taken: np.ndarray) -> None:
        self.source, self.taken = source, taken
        #: Of the first n snapshots each, n <= T: a span that grew has the matrices of before.
        self._known: dict[tuple[_Entry, ...], np.ndarray] = {}
        self._announced: dict[tuple[_Entry, ...], None] = {}

    def announce(self, groups: Iterable[tuple[_Entry, ...]]) -> None:
        """Have these computed in the next pass, whoever asks for it."""
        self._announced.update(dict.fromkeys(groups))

    def grown(self, source: _Source, taken: np.ndarray) -> _Grams:
        """Return those of more snapshots, of which `taken` starts with these."""
        more = _Grams(source, taken)
        more._known, more._announced = dict(self._known), dict(self._announced)
        return more

    def of(self, groups: Sequence[tuple[_Entry, ...]]) -> list[np.ndarray]:
        """Return the matrix of each group, shape (T, T), float64."""
        if any(len(self._known.get(group, ())) < len(self.taken) for group in groups):
            wanted = dict.fromkeys((*groups, *self._announced))
            self._compute([g for g in wanted if len(self._known.get(g, ())) < len(self.taken)])
        return [self._known[group] for group in groups]

    def _compute(self, groups: list[tuple[_Entry, ...]]) -> None:
        snapshots = len(self.taken)
        old = min(len(self._known.get(group, ())) for group in groups)
        products = [np.zeros((snapshots - old, snapshots)) for _ in groups]
        for starts, length in _bundles(groups):
            width = max(1, CHUNK_BYTES // (8 * snapshots * len(starts)))
            for first in range(0, length, width):
                last = min(first + width, length)
                blocks = {}
                for start in starts:
                    raw = self.source.read(self.taken, start + first, start + last)
                    block = raw.to("cpu", torch.float64, copy=True)
                    # Differences to one snapshot: they are exact, or nearly so, and equal snapshots give zeros.
                    block -= block[0].clone()
                    blocks[start] = block.numpy()
                for group, total in zip(groups, products, strict=True):
                    for run in _runs_of(group):
                        _add_products(total, old, blocks, run, starts, first, last)
        for group, new in zip(groups, products, strict=True):
            matrix = np.empty((snapshots, snapshots))
            before = self._known.get(group)
            if before is not None:
                matrix[:old, :old] = before[:old, :old]
            matrix[old:] = new
            matrix[:old, old:] = new[:, :old].T
            self._known[group] = matrix
            self._announced.pop(group, None)


def _add_products(
    total: np.ndarray,
    old: int,
    blocks: Mapping[int, np.ndarray],
    run: tuple[tuple[int, ...], int],
    starts: Sequence[int],
    first: int,
    last: int,
) -> None:
    """Add to `total` the products of the columns of `run` that are in `blocks`."""
    (begin, *others), length = run
    for start in starts:
        # Columns of the run that this block holds.
        low, high = max(begin, start + first), min(begin + length, start + last)
        if low >= high:
            continue
        parts = [blocks[start][:, low - start - first : high - start - first]]
        for other in others:
            # All layers of a mean are in one bundle, at the same distance from the starts of their blocks.
            shift = other - begin
            parts.append(blocks[start + shift][:, low - start - first : high - start - first])
        block = parts[0] if len(parts) == 1 else np.mean(parts, axis=0)
        # numpy computes a product with its own transpose by the symmetric routine, at half the cost. Weights that
        # are not finite are named once the products are there; numpy's warning would not say which.
        with np.errstate(invalid="ignore", over="ignore"):
            total += block[old:] @ block.T if old else block @ block.T


def _runs_of(entries: Sequence[_Entry]) -> list[tuple[tuple[int, ...], int]]:
    """Return the entries as unbroken runs of columns: starts in a whole vector, and length."""
    runs: list[tuple[tuple[int, ...], int]] = []
    for entry in entries:
        if runs and tuple(start + runs[-1][1] for start in runs[-1][0]) == entry.starts:
            starts, length = runs.pop()
            runs.append((starts, length + entry.length))
        else:
            runs.append((entry.starts, entry.length))
    return runs


def _bundles(groups: Sequence[Sequence[_Entry]]) -> list[tuple[tuple[int, ...], int]]:
    """Return what to read together so that every column of the groups is read once: starts, and length."""
    lengths: dict[int, int] = {}
    together: dict[int, set[int]] = {}
    for entry in (entry for group in groups for entry in group):
        joined = set(entry.starts).union(*(together.get(start, {start}) for start in entry.starts))
        for start in joined:
            lengths[start] = entry.length
            together[start] = joined
    bundles: list[tuple[tuple[int, ...], int]] = []
    for start in sorted(together):
        if start != min(together[start]):
            continue
        single = len(together[start]) == 1
        if (
            bundles
            and single
            and len(bundles[-1][0]) == 1
            and sum((bundles[-1][0][0], bundles[-1][1])) == start
        ):
            (before,), length = bundles.pop()
            bundles.append(((before,), length + lengths[start]))
        else:
            bundles.append((tuple(sorted(together[start])), lengths[start]))
    return bundles


# ---------------------------------------------------------------------------------------------------------
# The span
# ---------------------------------------------------------------------------------------------------------


class SnapshotSpan:
    """The affine space spanned by T weight snapshots, or by a part of their weights.

    Made by :meth:`landscape.store.RunDirectory.span`, from the files of a run, or by :meth:`from_tensor`. The
    snapshots are read when a result first needs them.

    Attributes
    ----------
    rows
        A table of ``step`` and ``worker``, one row per snapshot, in the order of all arrays here.
    """

    def __init__(
        self,
        source: _Source,
        rows: pd.DataFrame,
        layout: list[dict[str, Any]] | None,
        *,
        _taken: np.ndarray | None = None,
        _entries: tuple[_Entry, ...] | None = None,
        _grams: _Grams | None = None,
    ) -> None:
        self._source = source
        self._layout = layout
        self.rows = rows
        self._taken = np.arange(len(rows)) if _taken is None else _taken
        self._entries = _entries_of(layout, source.size) if _entries is None else _entries
        self._grams = _Grams(source, self._taken) if _grams is None else _grams

    # -- making one -------------------------------------------------------------------------------------

    @classmethod
    def from_tensor(
        cls,
        weights: Tensor,
        layout: Layout | Iterable[Mapping[str, Any]] | None = None,
        rows: pd.DataFrame | None = None,
    ) -> SnapshotSpan:
        """Return the span of the rows of `weights`, shape (T, P).

        Parameters
        ----------
        weights
            One snapshot per row.
        layout
            Names and shapes of the parameters, for :meth:`part`.
        rows
            A table of ``step`` and ``worker``; by default steps 0 to T - 1 of worker ``"0"``.

        Raises
        ------
        landscape.errors.RunError
            If the shapes do not fit each other.
        """
        if weights.ndim != 2 or not len(weights) or not weights.is_floating_point():
            raise RunError(
                f"A span needs weights of shape (T, P) with T > 0, of a floating-point dtype; got "
                f"{tuple(weights.shape)}, {weights.dtype}."
            )
        if rows is None:
            rows = pd.DataFrame({"step": range(len(weights)), "worker": "0"})
        if len(rows) != len(weights):
            raise RunError(f"There are {len(weights)} snapshots and {len(rows)} rows that describe them.")
        rows = rows.reset_index(drop=True)
        return cls(_InMemory(weights.detach()), rows, plain_layout(layout, weights.shape[1]))

    @classmethod
    def from_snapshots(
        cls, snapshots: Iterable[Snapshot], labels: Sequence[str] | None = None
    ) -> SnapshotSpan:
        """Return the span of the snapshots of a run, ordered by step and then by label.

        Parameters
        ----------
        snapshots
            What `RunDirectory.snapshots` returned.
        labels
            Workers and other labels to take; all of them where None.

        Raises
        ------
        landscape.errors.RunError
            If there is nothing to take, or a file differs from its commit record.
        """
        snapshots = tuple(snapshots)
        known = list(dict.fromkeys(label for snapshot in snapshots for label in snapshot.labels))
        for label in labels or ():
            if label not in known:
                raise RunError(
                    f"No snapshot has weights of {label!r}; there are {', '.join(known) or 'no snapshots'}."
                    f"{nearest(label, known)}"
                )
        places = [
            (snapshot, label)
            for snapshot in snapshots
            for label in (snapshot.labels if labels is None else labels)
            if label in snapshot.labels
        ]
        if not places:
            raise RunError("There are no snapshots to span a space; record some with the run.")
        return _span_of(places)

    def select(self, mask: Sequence[bool] | np.ndarray | pd.Series) -> SnapshotSpan:
        """Return the span of some of the snapshots, with a mean and a basis of its own.

        Parameters
        ----------
        mask
            Shape (T,), bool; for example ``span.rows["worker"] == "0"``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the mask has another shape or selects nothing.
        """
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_ or chosen.shape != (len(self),) or not chosen.any():
            raise ConfigurationError(
                f"A mask needs {len(self)} booleans, at least one of them True; got "
                f"{chosen.dtype} of shape {chosen.shape} with {np.count_nonzero(chosen)} True."
            )
        return SnapshotSpan(
            self._source,
            self.rows[chosen].reset_index(drop=True),
            self._layout,
            _taken=self._taken[chosen],
            _entries=self._entries,
        )

    def part(self, patterns: str | Sequence[str]) -> SnapshotSpan:
        """Return the span of the same snapshots in some of their parameters only.

        All parts come from one pass over the files: the Gram matrix of a part is the sum of those of its
        parameters.

        Parameters
        ----------
        patterns
            Names or patterns of names, such as ``"layer1.*"``, as `Layout.select` takes them.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the snapshots have no layout, or a pattern matches nothing.
        """
        chosen = set(self._names_matching(patterns))
        return self._with(tuple(entry for entry in self._entries if entry.name in chosen))

    def average(self, patterns: str | Sequence[str]) -> SnapshotSpan:
        """Return the span of the same snapshots with some of their layers replaced by the layers' mean.

        Parameters are averaged with those that have the same last name, weights with weights and biases with
        biases; the mean stands where the first of them stood. What matches no pattern stays as it is, so
        ``span.average("layer[2-4]")`` has the first layer, the mean of three hidden ones and the others, and
        ``span.part("layer[2-4]").average("layer[2-4]")`` the mean alone.

        A mean does not lead back to whole weight vectors; :meth:`restore` gives vectors as :meth:`columns` does.

        Parameters
        ----------
        patterns
            Names or patterns of names, as for :meth:`part`.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the snapshots have no layout, a pattern matches nothing, or layers to average differ in shape.
        """
        chosen = set(self._names_matching(patterns))
        members: dict[str, list[_Entry]] = {}
        for entry in self._entries:
            if entry.name in chosen:
                members.setdefault(entry.name.rpartition(".")[2], []).append(entry)
        means: dict[str, _Entry | None] = {}
        for last, entries in members.items():
            shapes = dict.fromkeys(entry.shape for entry in entries)
            if len(shapes) > 1 or any(len(entry.starts) > 1 for entry in entries):
                raise ConfigurationError(
                    f"The parameters named {last!r} cannot be averaged: "
                    + ", ".join(f"{entry.name} has shape {entry.shape}" for entry in entries)
                    + ". Name layers of one shape, none of them a mean already."
                )
            means.update({entry.name: None for entry in entries[1:]})
            means[entries[0].name] = _Entry(
                f"mean({', '.join(entry.name for entry in entries)})",
                tuple(entry.starts[0] for entry in entries),
                entries[0].length,
                entries[0].shape,
            )
        replaced = (means.get(entry.name, entry) for entry in self._entries)
        result = self._with(tuple(entry for entry in replaced if entry is not None))
        self._grams.announce([*self._groups, *result._groups])
        return result

    def _names_matching(self, patterns: str | Sequence[str]) -> tuple[str, ...]:
        if self._layout is None:
            raise ConfigurationError(
                "These snapshots were recorded without a layout, so their parts have no names."
            )
        aliases = {entry["name"]: entry.get("aliases", ()) for entry in self._layout}
        here = [
            {"name": entry.name, "shape": entry.shape, "aliases": aliases.get(entry.name, ())}
            for entry in self._entries
        ]
        return rich_layout(here).select(patterns)

    def _with(self, entries: tuple[_Entry, ...]) -> SnapshotSpan:
        return SnapshotSpan(
            self._source, self.rows, self._layout, _taken=self._taken, _entries=entries, _grams=self._grams
        )

    # -- more snapshots ---------------------------------------------------------------------------------

    def updated(self, snapshots: Iterable[Snapshot]) -> SnapshotSpan:
        """Return the span of these snapshots and of those that a run has written since.

        Of the Gram matrices that are known already, only the products with the new snapshots are computed: T P
        multiplications for each. The new rows come last; a snapshot that is here already is passed over.

        Parameters
        ----------
        snapshots
            What `RunDirectory.snapshots` returns now. Labels that this span does not have are left out.

        Raises
        ------
        landscape.errors.RunError
            If a file differs from its commit record, or a layout from that of this span.
        """
        here = set(zip(self.rows["step"], self.rows["worker"].astype(str), strict=True))
        labels = list(dict.fromkeys(self.rows["worker"].astype(str)))
        places = [
            (snapshot, label)
            for snapshot in snapshots
            for label in snapshot.labels
            if label in labels and (snapshot.step, label) not in here
        ]
        return self if not places else self._followed_by(_span_of(places))

    @classmethod
    def joined(cls, spans: Mapping[str, SnapshotSpan]) -> SnapshotSpan:
        """Return one span of the snapshots of several, such as runs of the same model.

        Parameters
        ----------
        spans
            By name. The ``worker`` of a row becomes the name, followed by ``/`` and the worker where a span
            has several.

        Raises
        ------
        landscape.errors.RunError
            If there are none, or they have different layouts.
        """
        result: SnapshotSpan | None = None
        for name, span in spans.items():
            workers = span.rows["worker"].astype(str)
            several = workers.nunique() > 1
            rows = span.rows.assign(worker=[f"{name}/{w}" if several else name for w in workers])
            named = SnapshotSpan(
                span._source,
                rows,
                span._layout,
                _taken=span._taken,
                _entries=span._entries,
                _grams=span._grams,
            )
            if result is not None and result._entries != named._entries:
                raise _different(result._entries, named._entries)
            result = named if result is None else result._followed_by(named)
        if result is None:
            raise RunError("There are no spans to join; give at least one.")
        return result

    def _followed_by(self, other: SnapshotSpan) -> SnapshotSpan:
        mine, theirs = (_entries_of(span._layout, span._source.size) for span in (self, other))
        if mine != theirs:
            raise _different(mine, theirs)
        source = _Joined(self._source, other._source)
        taken = np.concatenate([self._taken, other._taken + self._source.rows])
        return SnapshotSpan(
            source,
            pd.concat([self.rows, other.rows], ignore_index=True),
            self._layout,
            _taken=taken,
            _entries=self._entries,
            _grams=self._grams.grown(source, taken),
        )

    # -- what it is -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._taken)

    def __repr__(self) -> str:
        return f"SnapshotSpan({len(self)} snapshots of {self.size} weights)"

    @property
    def size(self) -> int:
        """How many weights this span looks at: P, or fewer for a part."""
        return sum(entry.length for entry in self._entries)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the snapshots."""
        return self._source.dtype

    @property
    def names(self) -> list[str]:
        """Names of the parameters; one empty name where no layout was given."""
        return [entry.name for entry in self._entries]

    def columns(self, weights: Tensor) -> Tensor:
        """Return the columns of whole weight vectors, shape (..., P), that this span looks at."""
        if weights.shape[-1] != self._source.size:
            raise RunError(
                f"The weights have {weights.shape[-1]} entries; a whole vector has {self._source.size}."
            )
        parts = []
        for starts, length in _runs_of(self._entries):
            blocks = [weights[..., start : start + length] for start in starts]
            parts.append(blocks[0] if len(blocks) == 1 else torch.stack(blocks).mean(dim=0))
        return torch.cat(parts, dim=-1)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name, in their order in a vector of shape (size,)."""
        return {entry.name: entry.shape for entry in self._entries}

    def weights(
        self, rows: Sequence[int] | None = None, *, first: int = 0, last: int | None = None
    ) -> Tensor:
        """Read snapshots, in their own dtype.

        Parameters
        ----------
        rows
            Which; all of them where None.
        first, last
            The places of a vector of shape (size,) to read, `last` excluded; all of them by default.

        Returns
        -------
        torch.Tensor
            Shape (len(rows), last - first).
        """
        taken = self._taken if rows is None else self._taken[np.asarray(rows, dtype=np.int64)]
        last = self.size if last is None else last
        parts = []
        place = 0
        for starts, length in _runs_of(self._entries):
            low, high = max(0, first - place), min(length, last - place)
            place += length
            if low < high:
                columns = _Columns(starts, low, high)
                parts.append(
                    columns.of(lambda start, stop: self._source.read(taken, start, stop)).to(self.dtype)
                )
        return torch.cat(parts, dim=1) if parts else torch.empty((len(taken), 0), dtype=self.dtype)

    # -- passes over the snapshots ----------------------------------------------------------------------

    def _chunks(self, further: int = 0) -> Iterator[tuple[slice, _Columns, Tensor, Tensor]]:
        """Yield the centred snapshots slice by slice of columns.

        Parameters
        ----------
        further
            How many rows of float64 the caller holds beside the snapshots.

        Yields
        ------
        place
            Where the columns stand in a vector of shape (size,).
        columns
            Where they come from in a whole vector of shape (P,).
        centred
            Snapshots minus their mean, shape (T, columns), float64.
        mean
            Shape (columns,), float64.
        """
        width = max(1, CHUNK_BYTES // (8 * (len(self) + further)))
        place = 0
        for starts, length in _runs_of(self._entries):
            for first in range(0, length, width):
                columns = _Columns(starts, first, min(first + width, length))
                block = columns.of(lambda start, stop: self._source.read(self._taken, start, stop))
                # Differences to one snapshot first: they are exact, or nearly so, while the mean of the
                # weights themselves would leave its rounding in every row. Equal snapshots give zeros.
                origin = block[0].clone()
                block -= origin
                shift = block.mean(dim=0)
                block -= shift
                yield slice(place + first, place + columns.last), columns, block, origin + shift
            place += length

    @property
    def _groups(self) -> list[tuple[_Entry, ...]]:
        """The entries, each alone while their Gram matrices may be kept, else all in one."""
        if 8 * len(self) ** 2 * len(self._entries) <= GRAM_BYTES:
            return [(entry,) for entry in self._entries]
        return [self._entries]

    def parameter_grams(self) -> dict[str, np.ndarray]:
        """Return the centred Gram matrix (T, T) of every parameter by name; :attr:`gram` is their sum."""
        matrices = self._grams.of([(entry,) for entry in self._entries])
        return {entry.name: _centred(one) for entry, one in zip(self._entries, matrices, strict=True)}

    @cached_property
    def gram(self) -> np.ndarray:
        """Gram matrix of the snapshots minus their mean, shape (T, T), float64.

        Raises
        ------
        landscape.errors.RunError
            If a snapshot has weights that are not finite, naming the first such snapshot.
        """
        total = np.zeros((len(self), len(self)))
        for matrix in self._grams.of(self._groups):
            total += matrix
        if not np.isfinite(total).all():
            raise self._not_finite()
        gram = _centred(total)
        gram.setflags(write=False)
        return gram

    def _not_finite(self) -> RunError:
        for row in range(len(self)):
            for starts, length in _runs_of(self._entries):
                one = self._taken[row : row + 1]
                if not all(torch.isfinite(self._source.read(one, at, at + length)).all() for at in starts):
                    step, worker = self.rows.loc[row, ["step", "worker"]]
                    return RunError(
                        f"The snapshot of worker {worker!r} at step {step} has weights that are not finite; "
                        "leave it out with select()."
                    )
        return RunError("The weights are so large that their squares overflow; nothing can be spanned.")

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Significant eigenvalues of the Gram matrix, falling, and their eigenvectors (T, r)."""
        if len(self) > max(self.size, MANY):
            # Thousands of snapshots of few weights, as on a map of weight space: they are smaller than their Gram
            # matrix, and their singular values come without it, for one more pass over them.
            matrix = np.empty((len(self), self.size))
            for place, _, centred, _ in self._chunks():
                matrix[:, place] = centred.numpy()
            if not np.isfinite(matrix).all():
                raise self._not_finite()
            vectors, singular, _ = np.linalg.svd(matrix, full_matrices=False)
            values = singular**2
        else:
            values, vectors = np.linalg.eigh(self.gram)
            values, vectors = values[::-1], vectors[:, ::-1]
        # Rounding in the Gram matrix and in eigh moves eigenvalues by about eps * lambda_1 each; T of them
        # is the usual bound (numpy.linalg.matrix_rank). Below it a direction is noise.
        rank = int(np.count_nonzero(values > len(self) * np.finfo(np.float64).eps * values[0]))
        if values[0] <= 0:
            rank = 0
        values, vectors = values[:rank].copy(), vectors[:, :rank].copy()
        # Eigenvectors have no sign of their own. The first of the entries of largest magnitude is made
        # positive; entries within one in a million of the largest count as largest, so that rounding does not
        # choose between two that are equal in exact arithmetic.
        for column in vectors.T:
            magnitudes = np.abs(column)
            if column[np.argmax(magnitudes >= (1 - 1e-6) * magnitudes.max())] < 0:
                column *= -1
        return values, vectors

    # -- the space --------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number r of significant dimensions, at most T - 1.

        Eigenvalues of the Gram matrix above T * 2.2e-16 times the largest one count. One snapshot, or equal
        snapshots, span a single point: r is 0, coordinates have no columns, and the mean is all there is.
        """
        return len(self._eigen[0])

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Coordinates of the snapshots about their mean, shape (T, r), float64.

        Column i belongs to the i-th principal direction; distances between rows are those between snapshots.
        """
        values, vectors = self._eigen
        coordinates = np.asarray(vectors * np.sqrt(values))
        coordinates.setflags(write=False)
        return coordinates

    @property
    def variance(self) -> np.ndarray:
        """Sample variance along each direction, lambda / (T - 1), shape (r,), falling."""
        return self._eigen[0] / max(1, len(self) - 1)

    @property
    def variance_ratio(self) -> np.ndarray:
        """Share of the whole variance along each direction, shape (r,)."""
        values = self._eigen[0]
        return np.asarray(values / values.sum()) if len(values) else values

    @property
    def _basis(self) -> np.ndarray:
        """The basis V as combinations of the centred snapshots: V = _basis.T @ X, shape (T, r)."""
        values, vectors = self._eigen
        return np.asarray(vectors / np.sqrt(values))

    def mean(self) -> Tensor:
        """Return the mean of the snapshots, shape (size,), in their dtype."""
        result = torch.empty(self.size, dtype=self.dtype)
        for place, _, _, mean in self._chunks():
            result[place] = mean.to(self.dtype)
        return result

    def reduce(self, weights: Tensor | SnapshotSpan) -> np.ndarray:
        """Return the coordinates of further points, projected orthogonally onto the span.

        Parameters
        ----------
        weights
            Shape (K, size); or another span of the same weights, such as the one this was selected from,
            which is read from disk as this one is.

        Returns
        -------
        numpy.ndarray
            Shape (K, r), float64.
        """
        read, count = self._reader(weights)
        products = np.zeros((count, len(self)))
        for place, columns, centred, mean in self._chunks(further=count):
            products += ((read(place, columns) - mean) @ centred.T).numpy()
        return np.asarray(products @ self._basis)

    def off_span(self, weights: Tensor | SnapshotSpan) -> np.ndarray:
        """Return the distance of points to the span, shape (K,), float64; arguments as for :meth:`reduce`."""
        read, count = self._reader(weights)
        combinations = torch.from_numpy(self.reduce(weights) @ self._basis.T)
        squares = torch.zeros(count, dtype=torch.float64)
        # A second pass, because |w|^2 - |c|^2 would lose half of the digits.
        for place, columns, centred, mean in self._chunks(further=2 * count):
            squares += (read(place, columns) - mean - combinations @ centred).square().sum(dim=1)
        return np.asarray(squares.sqrt().numpy())

    def _reader(self, weights: Tensor | SnapshotSpan) -> tuple[Callable[[slice, _Columns], Tensor], int]:
        """Return a function that gives columns of `weights` in float64, and the number of its rows."""
        if isinstance(weights, SnapshotSpan):
            other = weights
            if other._source.size != self._source.size:
                raise RunError(
                    f"The other span is of {other._source.size} weights, this one of {self._source.size}."
                )
            return (
                lambda place, columns: columns.of(lambda a, b: other._source.read(other._taken, a, b))
            ), len(other)
        if weights.ndim != 2 or weights.shape[1] != self.size:
            raise RunError(
                f"Weights of shape (K, {self.size}) are needed; got {tuple(weights.shape)}."
                + (" columns() takes a part out of whole vectors." if self.size != self._source.size else "")
            )
        rows = weights.detach()
        return (lambda place, columns: rows[:, place].to("cpu", torch.float64)), len(rows)

    def restore(self, coordinates: np.ndarray | Tensor) -> Tensor:
        """Return the weight vectors at coordinates in the span.

        Parameters
        ----------
        coordinates
            Shape (G, r).

        Returns
        -------
        torch.Tensor
            Shape (G, size), in the snapshots' dtype; summed in float64.
        """
        points = np.asarray(coordinates, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.rank:
            raise RunError(f"Coordinates of shape (G, {self.rank}) are needed; got {points.shape}.")
        combinations = torch.from_numpy(points @ self._basis.T)
        result = torch.empty((len(points), self.size), dtype=self.dtype)
        for place, _, centred, mean in self._chunks(further=len(points)):
            result[:, place] = (mean + combinations @ centred).to(self.dtype)
        return result


def _centred(matrix: np.ndarray) -> np.ndarray:
    """Return the Gram matrix of rows minus their mean, of one of rows minus anything."""
    rows = matrix.mean(axis=0)
    return np.asarray(matrix - rows - rows[:, None] + rows.mean())


def _entries_of(layout: list[dict[str, Any]] | None, size: int) -> tuple[_Entry, ...]:
    if layout is None:
        return (_Entry("", (0,), size, (size,)),)
    entries = []
    start = 0
    for entry in layout:
        length = math.prod(entry["shape"])
        entries.append(_Entry(entry["name"], (start,), length, tuple(entry["shape"])))
        start += length
    return tuple(entries)


def _different(one: Sequence[_Entry], two: Sequence[_Entry], where: str = "") -> RunError:
    def listed(entries: Sequence[_Entry]) -> str:
        shown = ", ".join(f"{entry.name or 'weights'} {list(entry.shape)}" for entry in entries[:6])
        return shown if len(entries) <= 6 else f"{shown} and {len(entries) - 6} more"

    return RunError(
        f"Snapshots of different layouts cannot lie in one space; they differ{where}: {listed(one)} against "
        f"{listed(two)}. Span each by itself."
    )


def _span_of(places: Sequence[tuple[Snapshot, str]]) -> SnapshotSpan:
    """Return the span of snapshots and labels; all must have the layout of the first."""
    source = _OnDisk(places)
    first = places[0][0]
    expected = _entries_of(first.layout, source.size)
    for snapshot, _ in places:
        found = _entries_of(snapshot.layout, source.size)
        if found != expected:
            raise _different(expected, found, f" from step {first.step} to step {snapshot.step}")
    rows = pd.DataFrame(
        {"step": [snapshot.step for snapshot, _ in places], "worker": [label for _, label in places]}
    )
    return SnapshotSpan(source, rows, first.layout)
