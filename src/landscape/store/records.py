"""What is read back from a run: snapshots and arrays, verified against their checksums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.errors import RunError, nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["ArrayRecord", "Snapshot"]


@frozen
class Snapshot:
    """The weights at one step.

    Attributes
    ----------
    step
        Number of updates before it.
    labels
        Workers ``"0"``, ``"1"``, ... and further points such as ``"centre"``.
    path, sha256, bytes
        The file, its checksum and its size.
    """

    step: int
    labels: tuple[str, ...]
    path: Path
    sha256: str = field(repr=False)
    bytes: int

    def read(self) -> dict[str, Tensor]:
        """Read the weights of every label, each of shape (P,), verified.

        Raises
        ------
        landscape.errors.RunError
            If the file differs from its commit record.
        """
        return {label: self.weights(label) for label in self.labels}

    def weights(self, label: str = "0") -> Tensor:
        """Read the weights of one label, shape (P,), verified.

        Raises
        ------
        landscape.errors.RunError
            If there is no such label, or the file differs from its commit record.
        """
        from landscape.store.tensors import load_tensors

        if label not in self.labels:
            raise RunError(
                f"{self.path} has no weights of {label!r}; it has {', '.join(self.labels)}."
                f"{nearest(label, self.labels)}"
            )
        return load_tensors(self.path, self.sha256, names=(label,))[label]

    def buffers(self, label: str = "0") -> dict[str, Tensor]:
        """Read the module's buffers that belong to `label`: those all labels share, then its own."""
        from landscape.store.tensors import load_tensors

        buffers: dict[str, Tensor] = {}
        for owner in ("all", label):
            prefix = f"buffer/{owner}/"
            found = load_tensors(self.path, self.sha256, prefix=prefix)
            buffers |= {name.removeprefix(prefix): tensor for name, tensor in found.items()}
        return buffers

    def rest(self) -> dict[str, Tensor]:
        """Read the parameters that did not vary, by name: those outside of a restricted landscape."""
        from landscape.store.tensors import load_tensors

        found = load_tensors(self.path, self.sha256, prefix="rest/")
        return {name.removeprefix("rest/"): tensor for name, tensor in found.items()}

    @property
    def layout(self) -> list[dict[str, Any]] | None:
        """Names and shapes of the parameters in their order, or None where none were given."""
        from landscape.store.tensors import metadata_of, verify

        verify(self.path, self.sha256)
        layout: list[dict[str, Any]] | None = metadata_of(self.path)["layout"]
        return layout


class ArrayRecord(Mapping[str, Any]):
    """Arrays that were measured at one step on one worker.

    A mapping of ``"step"``, ``"worker"`` and the arrays by name; the arrays are read, verified, on first use.
    """

    def __init__(self, step: int, worker: str, names: Sequence[str], path: Path, sha256: str) -> None:
        self.step = step
        self.worker = worker
        self.path = path
        self._names = tuple(names)
        self._sha256 = sha256

    def __repr__(self) -> str:
        return f"<{', '.join(self._names)} at step {self.step} of worker {self.worker!r}>"

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        from landscape.store.tensors import load_arrays

        return load_arrays(self.path, self._sha256)

    def __getitem__(self, name: str) -> Any:
        if name in ("step", "worker"):
            return self.step if name == "step" else self.worker
        if name not in self._names:
            raise KeyError(name)
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("step", "worker", *self._names))

    def __len__(self) -> int:
        return 2 + len(self._names)
