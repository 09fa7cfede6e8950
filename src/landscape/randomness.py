"""One seed, and generators of their own for every use.

A use is named by labels (``derive_seed(seed, "data order", epoch)``), so that adding a use, or drawing more
often in one of them, changes no other.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["derive_seed", "imported", "numpy_generator", "preserved_random_state", "torch_generator"]


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed for the use that `labels` name; independent for different labels."""
    text = json.dumps([int(seed), *labels])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def imported(module: str) -> ModuleType:
    """Import a module and leave Python's global random state as it was found.

    What landscape imports late is imported in the middle of somebody's program, after it was seeded, and some
    packages draw while they are imported (rich does, for the numbers of its links).
    """
    state = random.getstate()
    try:
        return import_module(module)
    finally:
        random.setstate(state)


def torch_generator(seed: int, *labels: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator for the use that `labels` name."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *labels))


def numpy_generator(source: torch.Generator) -> np.random.Generator:
    """Return a numpy generator seeded by one draw from `source`."""
    import numpy as np
    import torch

    return np.random.default_rng(int(torch.randint(2**62, (), generator=source, device=source.device)))


@contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Leave the global random states of Python, numpy and torch (all devices) as they were found.

    With `seed`, code inside that draws from the global states is repeatable.
    """
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    # Naming the devices: all of them, or none before CUDA is in use; otherwise torch warns where there are many.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=list(devices)):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
