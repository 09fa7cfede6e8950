"""Whole recipes as text and files: experiments, critical-point studies, sweeps and studies."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.composition.trees import META, plain, recipe_key, recipes, structure
from landscape.errors import ConfigurationError, nearest

__all__ = ["dumps", "from_tree", "load", "loads", "replace_at", "save", "to_tree"]


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
        for index, single in enumerate(entries):
            path = key if not isinstance(entry, list) else f"{key}[{index}]"
            values.append((path, structure(single, known[key], path=path, trust=trust)))
    if len(values) == 1:
        return values[0][1]
    from landscape.composition.study import Stage, Study

    stages = []
    for position, (path, value) in enumerate(values):
        stages.append(
            Stage(name=getattr(value, "name", None) or f"{path.split('[')[0]}-{position + 1}", recipe=value)
        )
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

        return tomli_w.dumps(_without_none(tree))
    raise ConfigurationError(f"format={format!r}: known formats are 'json' and 'toml'.")


def _without_none(tree: Any) -> Any:
    # TOML has no null. Every field that may be None has None as its default, so leaving it out says the same.
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [_without_none(value) for value in tree]
    return tree


def loads(text: str, format: str = "json", *, trust: bool = False) -> Any:
    """Build the value that a text describes; the inverse of :func:`dumps`.

    Raises
    ------
    landscape.errors.ConfigurationError
        For text that does not parse, and for everything :func:`from_tree` refuses.
    """
    try:
        if format == "json":
            tree = json.loads(text)
        elif format == "toml":
            tree = tomllib.loads(text)
        else:
            raise ConfigurationError(f"format={format!r}: known formats are 'json' and 'toml'.")
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"This is not {format.upper()}: {error}.") from error
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"Expected a table at the top, got {type(tree).__name__}.")
    return from_tree(tree, trust=trust)


def _format_of(path: Path) -> str:
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("json", "toml"):
        raise ConfigurationError(f"{path}: a configuration file ends in .toml or .json.")
    return suffix


def load(path: str | Path, *, trust: bool = False) -> Any:
    """Read an experiment, critical-point study, sweep or study from a ``.toml`` or ``.json`` file."""
    path = Path(path)
    format = _format_of(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return loads(text, format, trust=trust)
    except ConfigurationError as error:
        raise type(error)(f"{path}: {error}") from error


def save(value: Any, path: str | Path) -> None:
    """Write an experiment, critical-point study, sweep or study to a ``.toml`` or ``.json`` file."""
    path = Path(path)
    path.write_text(dumps(value, _format_of(path)), encoding="utf-8")


def replace_at(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of `tree` with the entry at a dotted path replaced.

    ``walker.base.lr`` goes into tables, ``probes.0.every`` into lists.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the path leads nowhere.
    """
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    parts = path.split(".")
    place: Any = copy
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            key: Any = int(part)
        elif isinstance(place, dict) and part in place:
            key = part
        else:
            known = place if isinstance(place, dict) else []
            known = [entry for entry in known if entry not in META]
            raise ConfigurationError(
                f"{path}: there is no {part!r} in {'.'.join(parts[:depth]) or 'the configuration'}"
                f"{'; it has ' + ', '.join(known) if known else ''}.{nearest(part, known)}"
            )
        if last:
            place[key] = plain(value)
        else:
            place = place[key]
    return copy
