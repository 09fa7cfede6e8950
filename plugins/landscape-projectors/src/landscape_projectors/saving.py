"""Projections on disk: one safetensors file each, without pickle.

A projection is a frozen attrs class of arrays, numbers, strings and other projections, so what is written is its
fields: arrays as tensors, the rest as JSON in the header. Loading builds the same values, bit for bit, and only
classes of this plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from landscape.errors import RunError
from landscape.interfaces import Projection
from landscape_projectors._lattice import Lattice
from landscape_projectors._scattered import LayoutProjection
from landscape_projectors.autoencoder import AutoencoderProjection
from landscape_projectors.binary import BinaryProjection
from landscape_projectors.composite import (
    ChainProjection,
    InvertibleChainProjection,
    InvertibleSubspaceProjection,
    SubspaceProjection,
)
from landscape_projectors.pca import PCAProjection
from landscape_projectors.planes import PlaneProjection, SpannedPlaneProjection
from landscape_projectors.som import SOMProjection

__all__ = ["load", "save"]

#: What may be loaded, by the name that stands in the file.
_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        AutoencoderProjection,
        BinaryProjection,
        ChainProjection,
        InvertibleChainProjection,
        InvertibleSubspaceProjection,
        Lattice,
        LayoutProjection,
        PCAProjection,
        PlaneProjection,
        SOMProjection,
        SpannedPlaneProjection,
        SubspaceProjection,
    )
}
_FORMAT = 1


def save(projection: Projection, path: str | Path) -> Path:
    """Write a projection of this plugin to one file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    landscape.errors.RunError
        If the projection is of another class, or the file cannot be written.
    """
    from landscape.store.tensors import save_tensors

    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    plain = _plain(projection, "projection", arrays)
    save_tensors(path, arrays, {"format": _FORMAT, "projection": plain})
    return path


def load(path: str | Path) -> Any:
    """Return the projection that :func:`save` wrote.

    Raises
    ------
    landscape.errors.RunError
        If the file is missing or damaged, or was not written by :func:`save`.
    """
    from landscape.store.tensors import load_arrays, metadata_of

    path = Path(path)
    header = metadata_of(path)
    if not isinstance(header, dict) or "projection" not in header or header.get("format") != _FORMAT:
        raise RunError(f"{path} holds no projection of a format that this version knows (format {_FORMAT}).")
    return _rich(header["projection"], load_arrays(path), path)


def _plain(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"array": place}
    if attrs.has(type(value)):
        name = type(value).__name__
        if _CLASSES.get(name) is not type(value):
            raise RunError(
                f"{name} is not a projection of this plugin and cannot be saved; save its to_arrays()."
            )
        fields = [field.name for field in attrs.fields(type(value)) if field.init]
        return {
            "class": name,
            "fields": {f: _plain(getattr(value, f), f"{place}.{f}", arrays) for f in fields},
        }
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, f"{place}.{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, Mapping):
        # JSON has no NaN; numbers become texts that give the same bits back.
        return {"numbers": {str(key): float(number).hex() for key, number in value.items()}}
    if isinstance(value, float):
        return {"number": float(value).hex()}
    if isinstance(value, str | int):
        return value
    raise RunError(f"A projection holds {value!r}, which cannot be saved.")


def _rich(value: Any, arrays: Mapping[str, np.ndarray], path: Path) -> Any:
    if isinstance(value, str | int):
        return value
    ((kind, content), *rest) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "class":
        if content not in _CLASSES:
            raise RunError(f"{path} holds a {content!r}, which this version does not know.")
        fields = {name: _rich(item, arrays, path) for name, item in rest[0][1].items()}
        return _CLASSES[content](**fields)
    if kind == "tuple":
        return tuple(_rich(item, arrays, path) for item in content)
    if kind == "numbers":
        return {name: float.fromhex(text) for name, text in content.items()}
    if kind == "number":
        return float.fromhex(content)
    raise RunError(f"{path} holds a value of kind {kind!r}, which this version does not know.")
