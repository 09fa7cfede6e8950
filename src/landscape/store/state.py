"""The state of a walker as JSON and tensors, and back, bit for bit.

What may stand in a state is what a reader can check: frozen attrs classes, tensors and arrays, numbers,
strings, None, tuples, lists and dictionaries of these. Nothing on disk can make :func:`decode` import or call
anything: only the attrs classes that occur in the caller's own template are built.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import numpy as np
import torch
from torch import Tensor

from landscape.errors import RunError
from landscape.store import files
from landscape.store.tensors import load_tensors, save_tensors

__all__ = ["decode", "encode", "read_state", "write_state"]

S = TypeVar("S")


def encode(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Take a state apart.

    Parameters
    ----------
    state
        A frozen attrs class, tensor, array, number, string, None, or a tuple, list or dictionary of these.
        Scalars of numpy come back as Python numbers; everything else comes back as it was.

    Returns
    -------
    tree
        Plain values for JSON.
    tensors
        The tensors by the names that `tree` refers to them by.

    Raises
    ------
    landscape.errors.RunError
        For a value of another type, naming the path to it and the cure.
    """
    encoder = _Encoder()
    return encoder.encode(state, ()), encoder.tensors


def decode(tree: Any, tensors: Mapping[str, Tensor], template: S) -> S:
    """Put a state together again.

    Parameters
    ----------
    tree, tensors
        What :func:`encode` returned.
    template
        A fresh state of the same kind. Only attrs classes that occur in it are built; tensors that were on an
        accelerator go to the accelerator of its tensors, or to the CPU where it has none.

    Raises
    ------
    landscape.errors.RunError
        If the tree names a class that `template` does not contain, or fields that the class does not have.
    """
    classes: dict[str, type] = {}
    device = torch.device("cpu")
    for value in _inside(template):
        if attrs.has(type(value)):
            classes[_class_name(type(value))] = type(value)
        elif isinstance(value, Tensor) and value.device.type != "cpu":
            device = value.device
    return cast(S, _Decoder(classes, tensors, device).decode(tree, ()))


def write_state(path: Path, header: Any, tensors: Mapping[str, Tensor]) -> None:
    """Write an encoded state to a new folder: ``state.json`` and ``state.safetensors``, both or neither.

    Parameters
    ----------
    path
        The folder; it must not exist.
    header
        Plain values, the tree of :func:`encode` somewhere among them.
    tensors
        The tensors of :func:`encode`.

    Raises
    ------
    landscape.errors.RunError
        If the folder exists or cannot be written.
    """
    if path.exists():
        raise RunError(f"{path} exists already; choose another name.")
    building = files.temporary_beside(path)
    with files.explained(path):
        try:
            building.mkdir(parents=True)
            record = save_tensors(building / "state.safetensors", tensors)
            files.write_sealed(building / "state.json", {"header": header, "tensors": record})
            os.rename(building, path)
            files.sync_directory(path.parent)
        except BaseException:
            files.remove_tree(building)
            raise


def read_state(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Read header and tensors that :func:`write_state` wrote.

    Raises
    ------
    landscape.errors.RunError
        If a file is missing, or is not what was written.
    """
    document = files.read_sealed(path / "state.json")
    return document["header"], load_tensors(path / "state.safetensors", document["tensors"]["sha256"])


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _where(path: tuple[str, ...]) -> str:
    return "The state" + "".join(f".{step}" for step in path)


def _inside(value: Any) -> Iterator[Any]:
    """Yield `value` and everything in it."""
    yield value
    if attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            yield from _inside(getattr(value, attribute.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _inside(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _inside(item)


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def encode(self, value: Any, path: tuple[str, ...]) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str, int):
            return value
        if kind is float:
            # Finite floats survive JSON exactly. NaN and the infinities are not JSON, and NaNs differ in bits.
            return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
        if kind is complex:
            return {"$complex": [self.encode(part, path) for part in (value.real, value.imag)]}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if kind is np.ndarray and value.dtype.kind in "biufc":
            return {"$array": self._keep(torch.from_numpy(value.copy()), path), "dtype": value.dtype.str}
        if isinstance(value, np.generic):
            return self.encode(value.item(), path)
        if kind is tuple:
            return {"$tuple": self._items(value, path)}
        if kind is list:
            return self._items(value, path)
        if kind is dict:
            for key in value:
                if type(key) not in (str, int, bool, float, tuple, type(None)):
                    raise RunError(
                        f"{_where(path)} has the key {key!r}; numbers, strings and tuples of these can be keys."
                    )
            keys = [self.encode(key, (*path, "key")) for key in value]
            items = [self.encode(item, (*path, str(key))) for key, item in value.items()]
            return {"$dict": [list(pair) for pair in zip(keys, items, strict=True)]}
        if attrs.has(kind):
            fields = {
                attribute.name: self.encode(getattr(value, attribute.name), (*path, attribute.name))
                for attribute in attrs.fields(kind)
            }
            return {"$class": _class_name(kind), "fields": fields}
        hint = "store generator.get_state()" if kind is torch.Generator else "keep it in a frozen attrs class"
        raise RunError(
            f"{_where(path)} is of type {kind.__module__}.{kind.__qualname__}, which cannot be stored; {hint}, "
            "tensors, numbers, strings, None, and tuples, lists and dictionaries of these."
        )

    def _items(self, values: tuple[Any, ...] | list[Any], path: tuple[str, ...]) -> list[Any]:
        return [self.encode(item, (*path, str(index))) for index, item in enumerate(values)]

    def _tensor(self, tensor: Tensor, path: tuple[str, ...]) -> dict[str, Any]:
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
            raise RunError(
                f"{_where(path)} is a {tensor.layout} tensor on {tensor.device}; store a dense one."
            )
        name = self._keep(tensor.detach(), path)
        return {"$tensor": name, "accelerator": tensor.device.type != "cpu"}

    def _keep(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        # Two paths may read alike ("a/b" as one key, or as two), so the name is made unique.
        stem = name = "/".join(path) or "state"
        copies = 0
        while name in self.tensors:
            copies += 1
            name = f"{stem}#{copies}"
        self.tensors[name] = tensor
        return name


class _Decoder:
    def __init__(
        self, classes: Mapping[str, type], tensors: Mapping[str, Tensor], accelerator: torch.device
    ) -> None:
        self._classes = classes
        self._tensors = tensors
        self._accelerator = accelerator

    def decode(self, tree: Any, path: tuple[str, ...]) -> Any:
        if isinstance(tree, list):
            return self._items(tree, path)
        if not isinstance(tree, dict):
            return tree
        match tree:
            case {"$float": str(bits)}:
                return struct.unpack(">d", bytes.fromhex(bits))[0]
            case {"$complex": [real, imaginary]}:
                return complex(self.decode(real, path), self.decode(imaginary, path))
            case {"$tensor": str(name), "accelerator": bool(accelerator)}:
                # A copy, so that two decodings of one file never share memory.
                tensor = self._stored(name, path)
                return tensor.to(self._accelerator) if accelerator else tensor.clone()
            case {"$array": str(name), "dtype": str(dtype)}:
                return self._stored(name, path).numpy().astype(np.dtype(dtype))
            case {"$tuple": list(items)}:
                return tuple(self._items(items, path))
            case {"$dict": list(pairs)}:
                keys = [self.decode(key, (*path, "key")) for key, _ in pairs]
                return {
                    key: self.decode(item, (*path, str(key)))
                    for key, (_, item) in zip(keys, pairs, strict=True)
                }
            case {"$class": str(name), "fields": dict(fields)}:
                return self._instance(name, fields, path)
        raise RunError(f"{_where(path)} is damaged: {sorted(tree)} is nothing that a state consists of.")

    def _items(self, items: list[Any], path: tuple[str, ...]) -> list[Any]:
        return [self.decode(item, (*path, str(index))) for index, item in enumerate(items)]

    def _stored(self, name: str, path: tuple[str, ...]) -> Tensor:
        if name not in self._tensors:
            raise RunError(f"{_where(path)} refers to the tensor {name!r}, which was not stored.")
        return self._tensors[name]

    def _instance(self, name: str, fields: dict[str, Any], path: tuple[str, ...]) -> Any:
        cls = self._classes.get(name)
        if cls is None:
            raise RunError(
                f"{_where(path)} was stored as {name}, which does not occur in a fresh state; it has "
                f"{', '.join(sorted(self._classes)) or 'no classes'}. "
                "Continue with the walker the run was started with."
            )
        attributes = {attribute.name: attribute for attribute in attrs.fields(cls)}
        if attributes.keys() != fields.keys():
            raise RunError(
                f"{_where(path)} was stored by another version of {name}: it has the fields "
                f"{', '.join(sorted(fields))}, and the class has {', '.join(sorted(attributes))}."
            )
        values = {key: self.decode(value, (*path, key)) for key, value in fields.items()}
        instance = cls(**{attributes[key].alias: values[key] for key in values if attributes[key].init})
        for key, value in values.items():
            if not attributes[key].init:
                object.__setattr__(instance, key, value)
        return instance
