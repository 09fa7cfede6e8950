"""Gradients of batches and of examples, of which no more are held than the memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field

from landscape.objective.examples import weighed_gradients
from landscape.randomness import preserved_random_state

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Data, Landscape

__all__ = ["Draw", "Gradients", "batches_of", "combining", "rows_that_fit", "taken", "weighed"]

#: Numbers of the gradients that are turned into float64 at a time: 64 MiB.
_NUMBERS = 1 << 23
#: Examples whose batch draws its augmentation from a seed of its own, where there is any.
Draw = tuple["Tensor", int | None]


def taken(data: Data, indices: Tensor, seed: int | None) -> Any:
    """Return some examples as one batch; augmentation draws as `seed` says."""
    if seed is None:
        return data.take(indices)
    with preserved_random_state(seed):
        return data.take(indices)


def batches_of(landscape: Landscape, draws: Sequence[Draw]) -> Iterator[Any]:
    """Yield the batches of some draws."""
    return (taken(landscape.data, *draw) for draw in draws)


def rows_that_fit(landscape: Landscape, memory: int) -> int:
    """Return how many gradients take `memory` bytes; two at least, without which there are no products."""
    return max(2, memory // (landscape.size * landscape.dtype.itemsize))


@define
class Gradients:
    r"""The gradients :math:`g_1, \dots, g_L` at one point, a matrix of shape (L, P) that need not exist at once.

    Where all L fit into the memory they are computed once. Where only R do, some R are held while those after them are
    computed one draw at a time, and forgotten; then the next R are held: (n + 1)/2 times L gradients for
    n = L/R blocks.

    Attributes
    ----------
    landscape, theta
        Where; theta of shape (P,).
    draws
        Examples of each batch, or of each group of single examples.
    per_example
        Whether a draw is a group of single examples.
    memory
        Bytes that gradients may take.
    computed
        How many gradients have been computed.
    """

    landscape: Landscape
    theta: Tensor
    draws: Sequence[Draw]
    per_example: bool
    memory: int
    computed: int = field(default=0, init=False)
    _blocks: list[range] = field(init=False)
    _kept: Tensor | None = field(default=None, init=False)
    #: Near the mean, so that nothing cancels when that is subtracted; None before there is any gradient.
    _reference: Tensor | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        counts = [len(indices) if self.per_example else 1 for indices, _ in self.draws]
        fitting = rows_that_fit(self.landscape, self.memory)
        if sum(counts) > fitting:
            fitting -= max(counts)  # those that pass by
        starts, rows = [0], 0
        for place, count in enumerate(counts):
            if rows and rows + count > fitting:
                starts.append(place)
                rows = 0
            rows += count
        self._blocks = [
            range(low, high) for low, high in zip(starts, [*starts[1:], len(counts)], strict=True)
        ]

    @property
    def count(self) -> int:
        """L."""
        return sum(len(indices) if self.per_example else 1 for indices, _ in self.draws)

    @property
    def fits(self) -> bool:
        """Whether all are held at once."""
        return len(self._blocks) == 1

    def products(
        self, vectors: Tensor | None = None, *, weights: Tensor, centred: bool
    ) -> tuple[Tensor, Tensor]:
        """Return products of all pairs, shape (L, L), and with `vectors`, (k, P), shape (L, k); float64.

        Parameters
        ----------
        vectors
            Along which the gradients are wanted; none by default, and then k = 0.
        weights
            How much each counts, shape (L,); see :func:`weighed`.
        centred
            Whether the mean of the gradients is subtracted from each.

        Raises
        ------
        landscape.errors.ConfigurationError
            When gradients of examples do not make up those of their batches.
        """
        dtype = _float64(self.theta)
        vectors = self.theta.new_zeros(0, len(self.theta)) if vectors is None else vectors
        gram = torch.zeros(self.count, self.count, dtype=dtype, device=self.theta.device)
        along = torch.zeros(self.count, len(vectors), dtype=dtype, device=self.theta.device)
        above = 0
        for number, block in enumerate(self._blocks):
            held = self._rows(block)
            if self._reference is None:
                self._reference = _mean(held) if centred else None
            own = slice(above, above + len(held))
            above += len(held)
            gram[own, own] = self._products(held, held)
            if not number:
                along[own] = self._along(held, vectors)
            low = above
            for place in range(block.stop, len(self.draws)):
                piece = self._rows(range(place, place + 1))
                others = slice(low, low + len(piece))
                low += len(piece)
                gram[own, others] = self._products(held, piece)
                gram[others, own] = gram[own, others].T
                if not number:
                    along[others] = self._along(piece, vectors)
                del piece  # before the next are computed
            del held
        gram = weighed(weighed(gram, weights, centred=centred).T, weights, centred=centred)
        return gram, weighed(along, weights, centred=centred)

    def combined(self, weights: Tensor) -> Tensor:
        """Return weighted sums of the gradients, shape (k, P), in their dtype, for weights of shape (k, L).

        Where the products were centred, so must be the weights: each row sums to zero.
        """
        weights = weights.to(self.theta.device, _float64(self.theta))
        found = torch.zeros(len(weights), len(self.theta), dtype=weights.dtype, device=self.theta.device)
        above = 0
        for rows in self._passing():
            part = weights[:, above : above + len(rows)]
            above += len(rows)
            for columns, block in self._pieces(rows):
                found[:, columns] += part @ block
        return found.to(self.theta.dtype)

    def _passing(self) -> Iterator[Tensor]:
        if self.fits:
            yield self._rows(self._blocks[0])
            return
        for place in range(len(self.draws)):
            yield self._rows(range(place, place + 1))

    def _rows(self, draws: range) -> Tensor:
        """Return the gradients of some draws, in the landscape's dtype."""
        if self._kept is not None:
            return self._kept
        counts = [len(self.draws[place][0]) if self.per_example else 1 for place in draws]
        rows = self.theta.new_empty(sum(counts), len(self.theta))
        done = 0
        for place, count in zip(draws, counts, strict=True):
            batch = taken(self.landscape.data, *self.draws[place])
            if self.per_example:
                rows[done : done + count] = weighed_gradients(
                    self.landscape, self.theta, batch, "A covariance of examples"
                )[0]
            else:
                rows[done : done + count] = self.landscape.gradient(self.theta, batch)
            done += count
        self.computed += done
        if self.fits:
            self._kept = rows
        return rows

    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of gradients, about the reference."""
        found = torch.zeros(len(left), len(right), dtype=_float64(left), device=left.device)
        for columns, block in self._pieces(left, len(right)):
            found += block @ (block if right is left else self._piece(right, columns)).T
        return found

    def _along(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Return the products of gradients about the reference with vectors."""
        found = torch.zeros(len(rows), len(vectors), dtype=_float64(rows), device=rows.device)
        for columns, block in self._pieces(rows, len(vectors)):
            found += block @ vectors[:, columns].to(block).T
        return found

    def _pieces(self, rows: Tensor, others: int = 0) -> Iterator[tuple[slice, Tensor]]:
        width = max(1, _NUMBERS // (len(rows) + others))
        for low in range(0, rows.shape[1], width):
            columns = slice(low, low + width)
            yield columns, self._piece(rows, columns)

    def _piece(self, rows: Tensor, columns: slice) -> Tensor:
        block = rows[:, columns].to(_float64(rows))
        return block if self._reference is None else block - self._reference[columns]


def weighed(rows: Tensor, weights: Tensor, *, centred: bool) -> Tensor:
    r"""Return rows whose second moment is the covariance, or the second moment, of those given.

    With :math:`r_i = w_i / \bar w`: :math:`r_i (g_i - \sum_j w_j g_j / \sum_j w_j)` where they are `centred`, else
    :math:`\sqrt{r_i}\, g_i`; see :class:`~landscape_covariance.covariance.GradientCovariance`.

    Parameters
    ----------
    rows
        Shape (L, n).
    weights
        w, shape (L,).
    centred
        Whether the mean is subtracted.
    """
    ratios = (weights / weights.mean()).to(rows).unsqueeze(1)
    if not centred:
        return rows * ratios.sqrt()
    return (rows - (ratios / len(rows)).T @ rows) * ratios


def combining(factors: Tensor, weights: Tensor, *, centred: bool) -> Tensor:
    """Return the factors of rows with which they are summed, for those of what :func:`weighed` makes of them.

    The transpose of that function; both of shape (k, L), float64.
    """
    ratios = (weights / weights.mean()).to(factors)
    if not centred:
        return factors * ratios.sqrt()
    factors = factors * ratios
    return factors - factors.sum(dim=1, keepdim=True) * ratios / len(ratios)


def _mean(rows: Tensor) -> Tensor:
    found = torch.empty(rows.shape[1], dtype=_float64(rows), device=rows.device)
    width = max(1, _NUMBERS // len(rows))
    for low in range(0, rows.shape[1], width):
        found[low : low + width] = rows[:, low : low + width].to(found.dtype).mean(dim=0)
    return found


def _float64(tensor: Tensor) -> torch.dtype:
    """Return float64, or float32 on the one kind of device that has no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
