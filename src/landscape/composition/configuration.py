"""Whole recipes as text and files: experiments, critical-point studies, sweeps and studies."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.composition.trees import plain, recipe_key, recipes, structure, unsayable
from landscape.errors import ConfigurationError, RunError, nearest
from landscape.store.files import path_of

__all__ = ["dumps", "from_tree", "load", "loads", "save", "to_tree"]


def to_tree(value: Any) -> dict[str, Any]:
    """Return an experiment, critical-point study, sweep or study as plain values, under its own key.

    Examples
    --------
    >>> import landscape as ls
    >>> from landscape.composition.configuration import to_tree
    >>> to_tree(ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 1, 1)), ls.solvers.Monodromy(), samples=3))[
    ...     "critical_points"
    ... ]["samples"]
    3
    """
    if recipe_key(type(value)):
        tree: dict[str, Any] = plain(value)
        return tree
    raise ConfigurationError(
        f"{type(value).__name__} is not an experiment, a critical-point study, a sweep or a study."
    )


def from_tree(tree: Mapping[str, Any], *, trust: bool = False) -> Any:
    """Build the value that a tree of plain values describes.

    A tree with several experiments (or other recipes) gives a :class:`~landscape.Study` of them.

    Parameters
    ----------
    tree
        As :func:`to_tree` returns it, or as a TOML file says it.
    trust
        Whether classes that are not registered components may be imported.

    Raises
    ------
    landscape.errors.ConfigurationError
        Naming the path of what is wrong.
    """
    known = recipes()
    unknown = [key for key in tree if key not in known]
    if unknown or not tree:
        key = unknown[0] if unknown else ""
        raise ConfigurationError(
            f"{key or 'an empty configuration'}: expected one of the tables "
            f"{', '.join(known)} at the top.{nearest(key, known)}"
        )
    values: list[tuple[str, Any]] = []
    for key, entry in tree.items():
        entries = entry if isinstance(entry, list) else [entry]
        if not entries:
            raise ConfigurationError(f"{key}: an empty list; give at least one table.")
        for index, single in enumerate(entries):
            path = key if not isinstance(entry, list) else f"{key}[{index}]"
            if not isinstance(single, Mapping):
                raise ConfigurationError(f"{path}: expected a table, got {str(single)[:40]!r}.")
            values.append((path, structure(single, known[key], path=path, trust=trust)))
    if len(values) == 1:
        return values[0][1]
    from landscape.composition.study import Stage, Study

    stages: list[Stage] = []
    for position, (path, value) in enumerate(values, start=1):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", getattr(value, "name", None) or "").strip("-_")
        if not name or name in {stage.name for stage in stages}:
            name = f"{name or path.split('[')[0]}-{position}"
        stages.append(Stage(name=name, recipe=value))
    return Study(stages=stages)


def dumps(value: Any, format: str = "json") -> str:
    """Return an experiment, critical-point study, sweep or study as text.

    Parameters
    ----------
    value
        What to write.
    format
        ``"json"`` (canonical: sorted keys) or ``"toml"``.
    """
    tree = to_tree(value)
    if format == "json":
        return json.dumps(tree, indent=2, sort_keys=True, allow_nan=False) + "\n"
    if format == "toml":
        import tomli_w

        missing = unsayable(value, recipe_key(type(value)) or "")
        if missing:
            raise ConfigurationError(
                f"TOML cannot say None, which {', '.join(missing)} is, and leaving it out would mean the default; "
                "write JSON."
            )
        return tomli_w.dumps(_without_none(tree))
    raise ConfigurationError(f"format={format!r}: known formats are 'json' and 'toml'.")


def _without_none(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_without_none(value) for value in tree]
    return tree


def _require_text(text: Any) -> None:
    if not isinstance(text, str):
        raise ConfigurationError(f"A configuration is a text in JSON or TOML; got a {type(text).__name__}.")


def loads(text: str, format: str = "json", *, trust: bool = False) -> Any:
    """Build the value that a text describes; the inverse of :func:`dumps`.

    Raises
    ------
    landscape.errors.ConfigurationError
        For text that does not parse, and for everything :func:`from_tree` refuses.
    """
    _require_text(text)
    try:
        if format == "json":
            tree = json.loads(text)
        elif format == "toml":
            tree = tomllib.loads(text)
        else:
            raise ConfigurationError(f"format={format!r}: known formats are 'json' and 'toml'.")
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"This is not {format.upper()}: {error}.") from error
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"Expected a table at the top, got {type(tree).__name__}.")
    return from_tree(tree, trust=trust)


def _path(place: Any) -> Path:
    try:
        return path_of(place, "path")
    except RunError as error:
        raise ConfigurationError(str(error)) from error


def _format_of(path: Path) -> str:
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("json", "toml"):
        raise ConfigurationError(f"{path}: a configuration file ends in .toml or .json.")
    return suffix


def load(path: str | Path, *, trust: bool = False) -> Any:
    """Read an experiment, critical-point study, sweep or study from a ``.toml`` or ``.json`` file."""
    path = _path(path)
    format = _format_of(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not text in UTF-8 ({error}).") from error
    try:
        return loads(text, format, trust=trust)
    except ConfigurationError as error:
        raise type(error)(f"{path}: {error}") from error


def save(value: Any, path: str | Path) -> None:
    """Write an experiment, critical-point study, sweep or study to a ``.toml`` or ``.json`` file."""
    path = _path(path)
    text = dumps(value, _format_of(path))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
