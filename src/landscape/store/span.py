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


# ---------------------------------------------------------------------------------------------------------
# Where the rows come from
# ---------------------------------------------------------------------------------------------------------


class _InMemory:
    """Rows of one tensor, shape (T, P)."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights
        self.size = weights.shape[1]
        self.dtype = weights.dtype

    def read(self, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Return columns of the given rows, shape (rows, stop - start), in the dtype they have."""
        return self._weights[torch.from_numpy(rows), start:stop]


class _OnDisk:
    """Rows in safetensors files, read through memory maps; every file is verified when this is made."""

    def __init__(self, places: Sequence[tuple[Snapshot, str]]) -> None:
        self._places = [(snapshot.path, label) for snapshot, label in places]
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


@frozen
class _Entry:
    """A parameter and its columns."""

    name: str
    start: int
    stop: int


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
        source: _InMemory | _OnDisk,
        rows: pd.DataFrame,
        layout: list[dict[str, Any]] | None,
        *,
        _taken: np.ndarray | None = None,
        _entries: tuple[_Entry, ...] | None = None,
        _grams: dict[str, np.ndarray] | None = None,
    ) -> None:
        self._source = source
        self._layout = layout
        self.rows = rows
        self._taken = np.arange(len(rows)) if _taken is None else _taken
        self._entries = _entries_of(layout, source.size) if _entries is None else _entries
        # Shared between a span and its parts: the Gram matrix of each parameter, by name.
        self._grams: dict[str, np.ndarray] = {} if _grams is None else _grams

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
        rows = pd.DataFrame(
            {
                "step": [snapshot.step for snapshot, _ in places],
                "worker": [label for _, label in places],
            }
        )
        return cls(_OnDisk(places), rows, places[0][0].layout)

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
        if self._layout is None:
            raise ConfigurationError(
                "These snapshots were recorded without a layout, so their parts have no names."
            )
        inside = {entry.name for entry in self._entries}
        here = rich_layout([entry for entry in self._layout if entry["name"] in inside])
        chosen = set(here.select(patterns))
        return SnapshotSpan(
            self._source,
            self.rows,
            self._layout,
            _taken=self._taken,
            _entries=tuple(entry for entry in self._entries if entry.name in chosen),
            _grams=self._grams,
        )

    # -- what it is -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._taken)

    def __repr__(self) -> str:
        return f"SnapshotSpan({len(self)} snapshots of {self.size} weights)"

    @property
    def size(self) -> int:
        """How many weights this span looks at: P, or fewer for a part."""
        return sum(entry.stop - entry.start for entry in self._entries)

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
        return torch.cat([weights[..., entry.start : entry.stop] for entry in self._entries], dim=-1)

    def weights(self, rows: Sequence[int] | None = None) -> Tensor:
        """Read snapshots, shape (len(rows), size), in their own dtype; all of them where `rows` is None."""
        taken = self._taken if rows is None else self._taken[np.asarray(rows, dtype=np.int64)]
        parts = [self._source.read(taken, start, stop) for _, start, stop in self._runs]
        return torch.cat(parts, dim=1)

    # -- passes over the snapshots ----------------------------------------------------------------------

    @cached_property
    def _runs(self) -> list[tuple[int, int, int]]:
        """Unbroken runs of columns: place in a vector of shape (size,), start and stop in a whole one."""
        runs: list[tuple[int, int, int]] = []
        offset = 0
        for entry in self._entries:
            if runs and runs[-1][2] == entry.start:
                place, start, _ = runs.pop()
                runs.append((place, start, entry.stop))
            else:
                runs.append((offset, entry.start, entry.stop))
            offset += entry.stop - entry.start
        return runs

    def _chunks(self, further: int = 0) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
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
            Where they stand in a whole vector of shape (P,).
        centred
            Snapshots minus their mean, shape (T, columns), float64.
        mean
            Shape (columns,), float64.
        """
        width = max(1, CHUNK_BYTES // (8 * (len(self) + further)))
        for offset, first_column, last_column in self._runs:
            for start in range(first_column, last_column, width):
                stop = min(start + width, last_column)
                place = offset + start - first_column
                block = self._source.read(self._taken, start, stop).to("cpu", torch.float64, copy=True)
                # Differences to one snapshot first: they are exact, or nearly so, while the mean of the
                # weights themselves would leave its rounding in every row. Equal snapshots give zeros.
                origin = block[0].clone()
                block -= origin
                shift = block.mean(dim=0)
                block -= shift
                yield slice(place, place + stop - start), slice(start, stop), block, origin + shift

    def parameter_grams(self) -> dict[str, np.ndarray]:
        """Return the centred Gram matrix (T, T) of every parameter by name; :attr:`gram` is their sum."""
        missing = [entry for entry in self._entries if entry.name not in self._grams]
        if missing:
            view = SnapshotSpan(
                self._source, self.rows, self._layout, _taken=self._taken, _entries=tuple(missing)
            )
            grams = {entry.name: np.zeros((len(self), len(self))) for entry in missing}
            for _, columns, centred, _ in view._chunks():
                for entry in missing:
                    start = max(entry.start, columns.start) - columns.start
                    stop = min(entry.stop, columns.stop) - columns.start
                    if start < stop:
                        grams[entry.name] += _outer(centred[:, start:stop])
            self._grams.update(grams)
        return {entry.name: self._grams[entry.name] for entry in self._entries}

    @cached_property
    def gram(self) -> np.ndarray:
        """Gram matrix of the snapshots minus their mean, shape (T, T), float64.

        Raises
        ------
        landscape.errors.RunError
            If a snapshot has weights that are not finite, naming the first such snapshot.
        """
        if 8 * len(self) ** 2 * len(self._entries) <= GRAM_BYTES:
            gram = np.asarray(sum(self.parameter_grams().values()))
        else:
            gram = np.zeros((len(self), len(self)))
            for _, _, centred, _ in self._chunks():
                gram += _outer(centred)
        if not np.isfinite(gram).all():
            raise self._not_finite()
        gram.setflags(write=False)
        return gram

    def _not_finite(self) -> RunError:
        for row in range(len(self)):
            for _, start, stop in self._runs:
                if not torch.isfinite(self._source.read(self._taken[row : row + 1], start, stop)).all():
                    step, worker = self.rows.loc[row, ["step", "worker"]]
                    return RunError(
                        f"The snapshot of worker {worker!r} at step {step} has weights that are not finite; "
                        "leave it out with select()."
                    )
        return RunError("The weights are so large that their squares overflow; nothing can be spanned.")

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Significant eigenvalues of the Gram matrix, falling, and their eigenvectors (T, r)."""
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

    def _reader(self, weights: Tensor | SnapshotSpan) -> tuple[Callable[[slice, slice], Tensor], int]:
        """Return a function that gives columns of `weights` in float64, and the number of its rows."""
        if isinstance(weights, SnapshotSpan):
            other = weights
            if other._source.size != self._source.size:
                raise RunError(
                    f"The other span is of {other._source.size} weights, this one of {self._source.size}."
                )
            return (
                lambda place, columns: other._source.read(other._taken, columns.start, columns.stop).to(
                    "cpu", torch.float64
                )
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


def _outer(block: Tensor) -> np.ndarray:
    return np.asarray((block @ block.T).numpy())


def _entries_of(layout: list[dict[str, Any]] | None, size: int) -> tuple[_Entry, ...]:
    if layout is None:
        return (_Entry("", 0, size),)
    entries = []
    start = 0
    for entry in layout:
        stop = start + math.prod(entry["shape"])
        entries.append(_Entry(entry["name"], start, stop))
        start = stop
    return tuple(entries)
