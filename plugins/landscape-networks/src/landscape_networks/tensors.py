"""Any tensors, from a file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from landscape.errors import ConfigurationError, DataError, nearest
from landscape.interfaces import Dataset
from landscape_networks._drawing import permutation
from landscape_networks._fields import check_fraction, optional_count
from landscape_networks._files import root

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = ["Tensors"]


@frozen
class Tensors(Dataset):
    """Inputs and targets from a ``.safetensors`` or ``.npz`` file.

    Whole numbers as targets are class labels and become int64; everything else stays as it is in the file
    (a landscape brings floating-point numbers to its own type). Inputs of whole numbers, such as grey values,
    are refused unless they are to be tokens: convert them before they are saved, so that the scale is known.
    Neither format can hold code; arrays of Python objects, which could, are refused.

    Parameters
    ----------
    path
        The file; a relative path is looked up in the working directory, then in the folder of data sets (the
        environment variable ``LANDSCAPE_DATA``, or ``data``).
    x, y
        Names of inputs and targets in it; both have the number of examples as their first dimension.
    test_x, test_y
        Names of the tensors of the split ``"test"``.
    test_fraction
        In place of these, the share of the examples that is drawn for that split.
    examples
        How many of the training examples to use, drawn at random and kept in their order; None uses all.
    integers
        Whether inputs may be whole numbers.

    Raises
    ------
    landscape.errors.DataError
        When loading: for a file that is missing, damaged or of another format, and names that it does not have.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> from safetensors.torch import save_file
    >>> save_file({"x": torch.rand(50, 3), "y": torch.arange(50) % 2}, "mine.safetensors")
    >>> splits = ls.datasets.Tensors("mine.safetensors", test_fraction=0.2).load(torch.Generator())
    >>> {name: data.examples for name, data in splits.items()}
    {'train': 40, 'test': 10}
    """

    path: str
    x: str = "x"
    y: str = "y"
    test_x: str | None = None
    test_y: str | None = None
    test_fraction: float = field(default=0.0, validator=check_fraction)
    examples: int | None = field(default=None, validator=optional_count)
    integers: bool = False

    def __attrs_post_init__(self) -> None:
        if (self.test_x is None) != (self.test_y is None):
            raise ConfigurationError("Tensors: test_x and test_y are given together, or not at all.")
        if self.test_x is not None and self.test_fraction:
            raise ConfigurationError(
                "Tensors: the split 'test' is either test_x and test_y or drawn by test_fraction; give one."
            )

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, where it was asked for, ``"test"``.

        Raises
        ------
        landscape.errors.DataError
            If the file is missing or damaged, has no such tensors, or they do not belong together.
        """
        import torch

        from landscape.objective import as_data

        held = _read(self._found())
        x, y = self._pair(held, self.x, self.y)
        parts = {}
        rows = torch.arange(len(y))
        if self.test_x is not None and self.test_y is not None:
            parts["test"] = self._pair(held, self.test_x, self.test_y)
        elif count := round(self.test_fraction * len(y)):
            order = permutation(len(y), generator)
            test, rows = order[:count].sort().values, order[count:].sort().values
            parts["test"] = x[test], y[test]
        if self.examples is not None:
            if self.examples > len(rows):
                raise DataError(
                    f"Tensors: examples={self.examples}, but {self.path} has {len(rows)} for training; None takes "
                    "them all."
                )
            rows = rows[permutation(len(rows), generator)[: self.examples].sort().values]
        parts = {"train": (x[rows], y[rows]), **parts}
        return {name: as_data(pair) for name, pair in parts.items()}

    def _found(self) -> Path:
        places = [Path(self.path), root(None) / self.path]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(
                f"Tensors: there is no file {' or '.join(dict.fromkeys(map(str, places)))}. Write one with "
                "safetensors.torch.save_file({'x': x, 'y': y}, path) or numpy.savez(path, x=x, y=y)."
            )
        return found

    def _pair(self, held: Mapping[str, Tensor], x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
        for name in (x_name, y_name):
            if name not in held:
                raise DataError(
                    f"Tensors: {self.path} has no tensor {name!r}.{nearest(name, held)} It has "
                    f"{', '.join(sorted(held)) or 'none'}."
                )
        x, y = held[x_name], held[y_name]
        if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
            raise DataError(
                f"Tensors: {x_name!r} has the shape {tuple(x.shape)} and {y_name!r} {tuple(y.shape)}; they need "
                "one first dimension, the number of examples, of at least 1."
            )
        if not (x.is_floating_point() or self.integers):
            raise DataError(
                f"Tensors: {x_name!r} has the type {x.dtype}. Save inputs as floating-point numbers, or say "
                "integers=True if they are tokens."
            )
        return (x if x.is_floating_point() else x.long()), (y if y.is_floating_point() else y.long())


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name.

    Raises
    ------
    DataError
        If it is damaged, or of another format.
    """
    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise DataError(f"Tensors: {path} is no complete safetensors file ({error}).") from error
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise DataError(f"Tensors: {damaged} in {path} has another checksum than it should have.")
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        except DataError:
            raise
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"Tensors: {path} is no complete .npz file of numbers ({error}). Save it anew with numpy.savez, "
                "without arrays of Python objects."
            ) from error
    raise DataError(f"Tensors: {path} ends in {path.suffix!r}; known formats are .safetensors and .npz.")
