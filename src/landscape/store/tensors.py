"""Tensors and arrays on disk as safetensors, with a checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.errors import RunError
from landscape.store import files

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_arrays", "load_tensors", "metadata_of", "opened", "save_tensors", "verify"]

_COMPLEX = "complex"
_PLAIN = "plain"
# (device, inode, size, modified) -> sha256 of files this process has hashed; a changed file has another key.
_verified: dict[tuple[int, int, int, int], str] = {}


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor | np.ndarray], metadata: Any = None
) -> dict[str, Any]:
    """Write a safetensors file atomically.

    Parameters
    ----------
    path
        The file.
    tensors
        Dense tensors or arrays of numbers, on any device. Complex ones are stored as pairs of reals, since
        the format has no double-precision complex numbers.
    metadata
        Plain values for the header of the file.

    Returns
    -------
    dict
        ``{"sha256": ..., "bytes": ...}``, what a commit record needs.

    Raises
    ------
    landscape.errors.RunError
        If a value cannot be stored, or the file cannot be written.
    """
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    complexes: list[str] = []
    storages: set[int] = set()
    for name, value in tensors.items():
        tensor = _storable(value, f"{path.name}: {name!r}")
        if tensor.is_complex():
            import torch

            complexes.append(name)
            tensor = torch.view_as_real(tensor.resolve_conj())
        tensor = tensor.contiguous()
        # The format refuses tensors that share memory.
        pointer = tensor.untyped_storage().data_ptr()
        if tensor.numel() and (pointer in storages or tensor.untyped_storage().nbytes() != tensor.nbytes):
            tensor = tensor.clone()
            pointer = tensor.untyped_storage().data_ptr()
        storages.add(pointer)
        stored[name] = tensor
    header = {_COMPLEX: json.dumps(complexes), _PLAIN: files.dumps(metadata, where=path.name)}
    with files.explained(path):
        temporary = files.temporary_beside(path)
        try:
            save_file(stored, temporary, metadata=header)
            sha256 = files.sha256_of(temporary)
            record = {"sha256": sha256, "bytes": temporary.stat().st_size}
            files.commit(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    _verified[_identity(path)] = sha256
    return record


def _storable(value: Tensor | np.ndarray, where: str) -> Tensor:
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_quantized:
            raise RunError(f"{where} is a {value.layout} tensor; only dense tensors can be stored.")
        return value.detach().cpu().resolve_neg()
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise RunError(f"{where} is an array of {array.dtype}; only numbers and booleans can be stored.")
    try:
        # A copy: torch cannot share memory that numpy has marked read-only.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise RunError(f"{where} is an array of {array.dtype}, which cannot be stored: {error}.") from error


def _identity(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def verify(path: Path, sha256: str) -> None:
    """Raise unless the file has this checksum. A file is read once per process, until it changes.

    Raises
    ------
    landscape.errors.RunError
        If the file is missing or differs from its commit record.
    """
    with files.explained(path, "read"):
        identity = _identity(path)
        found = _verified.get(identity)
        if found is None:
            found = _verified[identity] = files.sha256_of(path)
    if found != sha256:
        raise RunError(
            f"{path} is damaged: its SHA-256 is {found[:12]}... and {sha256[:12]}... was recorded when it "
            "was written. Restore the file from a copy, or leave this snapshot out."
        )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file for reading through a memory map."""
    from safetensors import SafetensorError, safe_open

    with files.explained(path, "read"):
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except SafetensorError as error:
            raise RunError(f"{path} is damaged: {error}.") from error


def metadata_of(path: Path) -> Any:
    """Return the metadata that was given to :func:`save_tensors`."""
    with opened(path) as file:
        return files.loads((file.metadata() or {}).get(_PLAIN, "null"))


def load_tensors(
    path: Path, sha256: str | None = None, *, prefix: str = "", names: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Read tensors on the CPU: those in `names` whose names start with `prefix`. Verified with `sha256`."""
    import torch

    if sha256 is not None:
        verify(path, sha256)
    with opened(path) as file:
        complexes = set(json.loads((file.metadata() or {}).get(_COMPLEX, "[]")))
        tensors = {
            name: file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a mapping
            if name.startswith(prefix) and (names is None or name in names)
        }
    # A complex number is aligned to its whole size, in the file a real number only to its own: reading it in
    # place can end the process. A copy is aligned.
    return {
        name: torch.view_as_complex(tensor.clone()) if name in complexes else tensor
        for name, tensor in tensors.items()
    }


def load_arrays(path: Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a file as numpy arrays; with `sha256`, verified first."""
    return {name: tensor.numpy() for name, tensor in load_tensors(path, sha256).items()}
