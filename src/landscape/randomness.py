"""One seed, and generators of their own for every use.

A use is named by labels (``derive_seed(seed, "data order", epoch)``), so that adding a use, or drawing more
often in one of them, changes no other.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from importlib import import_module
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from landscape.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "derive_seed",
    "imported",
    "label_of",
    "numpy_generator",
    "preserved_random_state",
    "torch_generator",
    "whole_seed",
]


def whole_seed(seed: Any) -> int:
    """Return a seed as Python's whole number.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything else.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ConfigurationError(f"seed={seed!r}: give a whole number.")
    return int(seed)


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed for the use that `labels` name; independent for different labels."""
    text = json.dumps([whole_seed(seed), *labels])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def label_of(component: Any) -> str:
    """Return a text that names a component and its configuration, the same for all equal configurations.

    For labels of seeds. The ``repr`` does not do: a field of 2 and one of 2.0, or of numpy's number 0.3, are
    equal but look different, and a file read back may give the other.

    Parameters
    ----------
    component
        An instance of a frozen attrs class. Its fields (those that are compared and are arguments of the
        constructor, without underscore) may be numbers of Python and numpy, strings, None, sequences,
        mappings, sets and instances of attrs classes again.

    Examples
    --------
    >>> from attrs import frozen
    >>> @frozen
    ... class Probe:
    ...     k: int
    ...     tolerance: float = 1.0
    >>> label_of(Probe(3))
    'Probe(k=3, tolerance=1)'
    >>> label_of(Probe(3, 1)) == label_of(Probe(3, 1.0))
    True
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(component, numpy.generic | numpy.ndarray):
        component = component.tolist()
    if isinstance(component, float):
        return repr(int(component) if component.is_integer() else float(component))
    if isinstance(component, str | bytes | bool | int | complex) or component is None:
        return repr(component)
    if attrs.has(type(component)):
        fields = [
            f"{a.name}={label_of(getattr(component, a.name))}"
            for a in attrs.fields(type(component))
            if a.eq and a.init and not a.name.startswith("_")
        ]
        return f"{type(component).__qualname__.rsplit('>.', 1)[-1]}({', '.join(fields)})"
    if isinstance(component, Mapping):
        pairs = sorted(f"{label_of(key)}: {label_of(value)}" for key, value in component.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(component, Set):
        return f"{{{', '.join(sorted(map(label_of, component)))}}}"
    if isinstance(component, Sequence):
        return f"({', '.join(map(label_of, component))})"
    return repr(component)


def imported(module: str) -> ModuleType:
    """Import a module and leave the global random states of Python, numpy and torch as they were found.

    What landscape imports late is imported in the middle of somebody's program, after it was seeded, and some
    packages draw while they are imported (rich does, for the numbers of its links). Numpy and torch are not
    imported for this: a generator that nobody has yet needs no keeping.
    """
    put_back = _remembered_states(sys.modules.get("numpy"), sys.modules.get("torch"))
    try:
        return import_module(module)
    finally:
        put_back()


def torch_generator(seed: int, *labels: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator for the use that `labels` name."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *labels))


def numpy_generator(source: torch.Generator) -> np.random.Generator:
    """Return a numpy generator seeded by one draw from `source`.

    Raises
    ------
    ConfigurationError
        When `source` is no generator of torch.
    """
    import numpy as np
    import torch

    if not isinstance(source, torch.Generator):
        raise ConfigurationError(
            f"generator={source!r:.80}: give a generator of torch, such as "
            f"landscape.randomness.torch_generator(0)."
        )
    return np.random.default_rng(int(torch.randint(2**62, (), generator=source, device=source.device)))


@contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Leave the global random states of Python, numpy and torch (CPU and CUDA) as they were found.

    With `seed`, code inside that draws from the global states is repeatable. Takes 0.1 ms, two thirds of it
    for numpy's state.
    """
    import numpy as np
    import torch

    put_back = _remembered_states(np, torch)
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            # Not torch.manual_seed: before CUDA is in use it only notes the seed, and the note would outlive
            # this context and seed CUDA later. It also takes 130 microseconds for that.
            for generator in _torch_generators(torch):
                generator.manual_seed(seed)
        yield
    finally:
        put_back()


def _torch_generators(torch: Any) -> list[torch.Generator]:
    """Return torch's global generators that are in use: the CPU's, and those of all CUDA devices or none."""
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    return generators


def _remembered_states(numpy: Any, torch: Any) -> Callable[[], None]:
    """Return a function that puts the global random states back to what they are now; modules may be None."""
    python = random.getstate()
    legacy = None if numpy is None else numpy.random.get_state()
    held = () if torch is None else [(g, g.get_state()) for g in _torch_generators(torch)]

    def put_back() -> None:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(legacy)
        for generator, state in held:
            generator.set_state(state)
        if torch is not None:
            # CUDA may have come into use meanwhile. A generator starts at its seed.
            for generator in _torch_generators(torch)[len(held) :]:
                generator.manual_seed(generator.initial_seed())

    return put_back
