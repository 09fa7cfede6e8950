"""Memory for (K, P) matrices that is used again and again.

A step of K large networks makes a few matrices and drops as many. The C library gives blocks of this size back
to the operating system and asks for new ones at the next step, and the system hands out page after page of
zeros: for four networks of 4.3 million weights that costs 30 ms a matrix, five times the arithmetic done on it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

__all__ = ["Recycler", "keep_freed_memory"]

#: Bytes of a block that is freed once. Above 32 MiB, it would have no effect.
_BLOCK = 31 << 20
#: Smaller blocks are quick to get from the C library, which keeps them.
_SMALLEST = 1 << 20
#: Blocks that are followed, in use or free: positions, velocities and two moments before and after a step, and
#: the gradient, which is what Adam needs. Further ones go back to the system with their tensors.
_FOLLOWED = 8
#: What torch's own allocator aligns to.
_ALIGNMENT = 64


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 62 MiB of what is freed, for what is asked for next.

    glibc gives freed memory back to the system beyond twice the largest block that it has seen freed, and puts
    larger blocks where they go back at once. A graph makes and drops some 10 MB in small pieces at every step; with
    the limits that a process starts with, fetching those again took a third of the step of 16 small convolutional
    networks. A block of 31 MiB that is never touched raises both limits, at no cost; other C libraries do not mind.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)


class Recycler:
    """Hands out uninitialised tensors, in memory whose former tensors are gone.

    Every block is a numpy array; a tensor on it, and every view of such a tensor, holds a reference to the
    array. Nobody else does, so the array's reference count says whether the memory is free. Devices other
    than the CPU have allocators in torch that do the same, and are left to them.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []

    def empty(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised, contiguous tensor."""
        size = prod(shape) * dtype.itemsize
        if device.type != "cpu" or size < _SMALLEST:
            return torch.empty(tuple(shape), dtype=dtype, device=device)
        keep_freed_memory()  # gradients of single parameters come and go as well
        return torch.from_numpy(self._block(size)).view(dtype).view(tuple(shape))

    def _block(self, size: int) -> np.ndarray:
        blocks, free = self._blocks, []
        for index in range(len(blocks) - 1, -1, -1):
            # Two references: the list, and the argument of getrefcount.
            if sys.getrefcount(blocks[index]) == 2:
                if blocks[index].nbytes == size:
                    return blocks[index]
                free.append(index)
        # None fits. What is free is of another size, or was needed by somebody who has finished.
        for index in free:
            del blocks[index]
        room = np.empty(size + _ALIGNMENT, dtype=np.uint8)
        shift = -room.ctypes.data % _ALIGNMENT
        block = room[shift : shift + size]
        if len(blocks) < _FOLLOWED:
            blocks.append(block)
        return block
