"""Where the workers begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from landscape.composition.checkpoints import read_checkpoint
from landscape.errors import ConfigurationError, DataError
from landscape.interfaces import Start

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["Fresh", "FromFile"]


@frozen
class Fresh(Start):
    """The model's own initialisation.

    Attributes
    ----------
    identical
        Whether all workers begin at the same point, as elastic averaging and replicated descent have it, or
        each at an independent draw.
    """

    identical: bool = True

    def positions(self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Return the positions, shape (workers, P)."""
        import torch

        if self.identical:
            return landscape.initial().expand(workers, -1).clone()
        return torch.stack([draw(i) for i in range(workers)])


@frozen
class FromFile(Start):
    """Weights from a checkpoint: every worker begins there.

    Attributes
    ----------
    path
        A ``.safetensors`` file, or a file that ``torch.load(weights_only=True)`` reads, with a state
        dictionary of the model.
    """

    path: str

    def positions(self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]) -> Tensor:
        """Return the positions, shape (workers, P).

        Raises
        ------
        landscape.errors.DataError
            If the file cannot be read or its tensors do not fit the model.
        """
        try:
            theta = landscape.layout.flatten(read_checkpoint(Path(self.path)))
        except ConfigurationError as error:
            raise DataError(f"{self.path} does not fit the model: {error}") from error
        theta = theta.to(landscape.device, landscape.dtype)
        return theta.expand(workers, -1).clone()
