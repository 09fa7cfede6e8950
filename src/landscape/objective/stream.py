"""Mini-batches in an order that a seed alone decides."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

import torch
from attrs import evolve, frozen
from torch import Tensor

from landscape.errors import ConfigurationError
from landscape.objective.batch import Batch
from landscape.objective.data import Data
from landscape.randomness import derive_seed, preserved_random_state, torch_generator

__all__ = ["BatchStream", "BatchStreamState"]

#: Permutations kept at hand, so that K workers in step with each other do not draw theirs at every batch.
_PERMUTATIONS_KEPT = 64


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
    """

    def __init__(self, data: Data, batch_size: int | None, seed: int) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigurationError(
                f"batch_size={batch_size}: give at least 1, or None for all of the data."
            )
        self.data = data
        self.batch_size = batch_size
        self.seed = int(seed)
        self._permutations: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

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
            return evolve(state, cursor=state.cursor + 1)
        return evolve(state, epoch=state.epoch + 1, cursor=0)

    def indices(self, state: BatchStreamState) -> Tensor:
        """Return which examples the batch at `state` consists of, int64."""
        if self.batch_size is None:
            return torch.arange(self.data.examples)
        permutation = self._permutation(state.seed, state.epoch)
        return permutation[state.cursor * self.batch_size : (state.cursor + 1) * self.batch_size]

    def batch(self, state: BatchStreamState) -> Batch:
        """Return the batch at `state`."""
        if not self.data.draws:
            return self.data.everything() if self.batch_size is None else self.data.take(self.indices(state))
        seed = derive_seed(state.seed, "augmentation", state.epoch, state.cursor)
        with preserved_random_state(seed):
            return self.data.take(self.indices(state))

    def _permutation(self, seed: int, epoch: int) -> Tensor:
        key = (seed, epoch)
        if key not in self._permutations:
            generator = torch_generator(seed, "epoch", epoch)
            self._permutations[key] = torch.randperm(self.data.examples, generator=generator)
            if len(self._permutations) > _PERMUTATIONS_KEPT:
                self._permutations.popitem(last=False)
        return self._permutations[key]
