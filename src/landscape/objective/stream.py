"""Mini-batches in an order that a seed alone decides."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import final

import torch
from attrs import frozen
from torch import Tensor

from landscape.errors import ConfigurationError, DataError
from landscape.objective.batch import Batch, PerRow
from landscape.objective.data import Data
from landscape.randomness import derive_seed, preserved_random_state, torch_generator
from landscape.validators import is_whole

__all__ = ["BatchStream", "BatchStreamState"]

#: Permutations kept at hand at least; as many as there are workers if these are more, so that workers in step
#: with each other do not draw theirs at every batch.
_PERMUTATIONS_KEPT = 64
#: Bytes up to which the permutations of workers in step are kept as one matrix.
_MATRIX = 1 << 26


@frozen
class BatchStreamState:
    """Where a stream stands: three integers, so that it resumes exactly.

    Attributes
    ----------
    seed
        Decides every permutation.
    epoch
        Passes over the data finished so far.
    cursor
        Batches of this epoch that have been used.
    """

    seed: int
    epoch: int = 0
    cursor: int = 0


@final
class BatchStream:
    """Mini-batches of `data`, a fresh permutation in every epoch.

    A stream is pure: what :meth:`batch` returns depends on the state alone. The last batch of an epoch is
    short when the batch size does not divide the number of examples; it is kept, so that every example is
    used once per epoch. Random augmentation in a dataset is seeded by the state as well.

    Parameters
    ----------
    data
        The data.
    batch_size
        Examples per batch; None gives all of the data as one batch, in the order of the data.
    seed
        The seed of :meth:`start`.

    Raises
    ------
    ConfigurationError
        For a batch size below 1.
    DataError
        For mini-batches of data that cannot pick single examples.
    """

    def __init__(self, data: Data, batch_size: int | None, seed: int) -> None:
        if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
            raise ConfigurationError(
                f"batch_size={batch_size!r}: give a whole number, at least 1, or None for all of the data."
            )
        if batch_size is not None and not data.picks:
            raise DataError(
                f"batch_size={batch_size}: mini-batches are drawn example by example in an order that the seed "
                "decides, and this data yields whole batches (an iterable dataset, or a loader without batching). "
                "Draw it once with landscape.fixed(data, batches=...), or give batch_size=None for all of it."
            )
        self.data = data
        self.batch_size = batch_size
        self.seed = int(seed)
        self._permutations: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._kept = _PERMUTATIONS_KEPT
        self._together: tuple[tuple[int, ...], int, Tensor] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch, the short one included."""
        return 1 if self.batch_size is None else -(-self.data.examples // self.batch_size)

    def start(self, seed: int | None = None) -> BatchStreamState:
        """Return the state before the first batch; `seed` makes it another worker's."""
        return BatchStreamState(self.seed if seed is None else int(seed))

    def advance(self, state: BatchStreamState) -> BatchStreamState:
        """Return the state after one batch."""
        if state.cursor + 1 < self.batches_per_epoch:
            return BatchStreamState(state.seed, state.epoch, state.cursor + 1)
        return BatchStreamState(state.seed, state.epoch + 1)

    def indices(self, state: BatchStreamState) -> Tensor:
        """Return which examples the batch at `state` consists of, int64."""
        if self.batch_size is None:
            return torch.arange(self.data.examples)
        permutation = self._permutation(state.seed, state.epoch)
        return permutation[state.cursor * self.batch_size : (state.cursor + 1) * self.batch_size]

    def batch(self, state: BatchStreamState) -> Batch:
        """Return the batch at `state`.

        Raises
        ------
        DataError
            For mini-batches of data that cannot pick single examples.
        """
        if not self.data.draws:
            return self._read(state)
        seed = derive_seed(state.seed, "augmentation", state.epoch, state.cursor)
        with preserved_random_state(seed):
            return self._read(state)

    def _read(self, state: BatchStreamState) -> Batch:
        # All of the data has no need of places, which an iterable dataset does not have.
        return self.data.everything() if self.batch_size is None else self.data.take(self.indices(state))

    def batches(self, states: Sequence[BatchStreamState]) -> PerRow:
        """Return the batch at each of the states: those of :meth:`batch`, read together where that is possible.

        Workers that walk in step stand at the same place of their epochs; the batches of all of them are then
        rows of one tensor.
        """
        if len(states) < 2 or self.data.draws or self.batch_size is None:
            return PerRow([self.batch(state) for state in states])
        self._kept = max(self._kept, len(states))
        epoch, cursor = states[0].epoch, states[0].cursor
        in_step = all(state.epoch == epoch and state.cursor == cursor for state in states)
        if not in_step or 8 * len(states) * self.data.examples > _MATRIX:
            return PerRow([self.batch(state) for state in states])
        rows = self._permutations_of(tuple(state.seed for state in states), epoch)
        rows = rows[:, cursor * self.batch_size : (cursor + 1) * self.batch_size]
        stack = self.data.take_rows(rows)
        if stack is None:
            return PerRow([self.data.take(row) for row in rows])
        return PerRow.of_stack(stack, len(states))

    def _permutations_of(self, seeds: tuple[int, ...], epoch: int) -> Tensor:
        """Return the permutations of several seeds in one epoch, shape (K, examples)."""
        if self._together is None or self._together[:2] != (seeds, epoch):
            matrix = torch.stack([self._drawn(seed, epoch) for seed in seeds])
            self._together = (seeds, epoch, matrix)
        return self._together[2]

    def _permutation(self, seed: int, epoch: int) -> Tensor:
        permutation = self._permutations.get((seed, epoch))
        if permutation is None:
            permutation = self._permutations[seed, epoch] = self._drawn(seed, epoch)
            if len(self._permutations) > self._kept:
                self._permutations.popitem(last=False)
        return permutation

    def _drawn(self, seed: int, epoch: int) -> Tensor:
        return torch.randperm(self.data.examples, generator=torch_generator(seed, "epoch", epoch))
