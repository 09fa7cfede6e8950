"""The layout of a weight vector as plain data: ``[{"name": str, "shape": [int, ...]}, ...]``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from landscape.errors import RunError

if TYPE_CHECKING:
    from landscape.objective import Layout

__all__ = ["plain_layout", "rich_layout"]


def plain_layout(
    layout: Layout | Iterable[Mapping[str, Any]] | None, size: int
) -> list[dict[str, Any]] | None:
    """Return names and shapes in the order of the vector, checked against its `size`.

    A tied parameter has its further names under ``"aliases"``.

    Raises
    ------
    landscape.errors.RunError
        If the shapes do not add up to `size`.
    """
    if layout is None:
        return None
    if isinstance(layout, Iterable):
        entries = [dict(entry) for entry in layout]
    else:
        entries = [
            {
                "name": name,
                "shape": shape,
                "aliases": [alias for alias, first in layout.aliases if first == name],
            }
            for name, shape in zip(layout.names, layout.shapes, strict=True)
        ]
    plain: list[dict[str, Any]] = []
    for entry in entries:
        plain.append({"name": str(entry["name"]), "shape": [int(length) for length in entry["shape"]]})
        if entry.get("aliases"):
            plain[-1]["aliases"] = [str(alias) for alias in entry["aliases"]]
    total = sum(math.prod(entry["shape"]) for entry in plain)
    if total != size:
        raise RunError(f"The layout describes {total} weights, and the vectors have {size}.")
    return plain


def rich_layout(plain: Iterable[Mapping[str, Any]]) -> Layout:
    """Return the `Layout` that :func:`plain_layout` described."""
    from landscape.objective.layout import Layout

    entries = list(plain)
    return Layout(
        [entry["name"] for entry in entries],
        [entry["shape"] for entry in entries],
        [(alias, entry["name"]) for entry in entries for alias in entry.get("aliases", ())],
    )
