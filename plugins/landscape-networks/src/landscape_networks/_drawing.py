"""Drawing from a generator on whatever device, with the result on the CPU, where data is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["integers", "normal", "permutation", "stratified", "uniform"]


def permutation(count: int, generator: torch.Generator) -> Tensor:
    """Return the numbers below `count` in random order, shape (count,)."""
    import torch

    return torch.randperm(count, generator=generator, device=generator.device).cpu()


def normal(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Return standard normal numbers; float64 if `dtype` is left out."""
    import torch

    kind = torch.float64 if dtype is None else dtype
    return torch.randn(shape, generator=generator, device=generator.device, dtype=kind).cpu()


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return numbers uniform in [0, 1), float64."""
    import torch

    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def integers(below: int, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` numbers, each uniform among those below `below`, shape (count,)."""
    import torch

    return torch.randint(below, (count,), generator=generator, device=generator.device).cpu()


def stratified(y: Tensor, among: Tensor, count: int, classes: int, generator: torch.Generator) -> Tensor:
    """Return a mask of `count` of the rows in `among`, every class with its share.

    Shares are rounded down; what is missing then goes to the classes with the largest remainders.
    """
    import torch

    sizes = torch.bincount(y[among], minlength=classes)
    shares = sizes.double() * count / sizes.sum()
    taken = shares.floor().long()
    by_remainder = torch.argsort(shares - taken, descending=True, stable=True)
    taken[by_remainder[: count - int(taken.sum())]] += 1

    chosen = torch.zeros_like(among)
    for label in range(classes):
        rows = torch.nonzero(among & (y == label)).flatten()
        order = permutation(len(rows), generator).to(rows.device)
        chosen[rows[order[: int(taken[label])]]] = True
    return chosen
