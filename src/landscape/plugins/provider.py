"""The built-in provider: components from the entry points of installed distributions, and by hand.

One entry point is one component, in the group ``landscape.<kind>``. They are read as metadata; nothing of a
plugin is imported here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from landscape.plugins.entry import KINDS, ComponentEntry, canonical
from landscape.plugins.specs import hookimpl

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["CORE", "InstalledComponents", "disabled", "is_disabled", "metadata_entries"]

#: The distribution of the core itself, which is no plugin and cannot be switched off.
CORE = "landscape-core"

_GROUPS = {f"landscape.{kind}" for kind in KINDS} | {"landscape", "landscape.providers"}


def disabled() -> frozenset[str]:
    """Return what ``LANDSCAPE_DISABLE_PLUGINS`` lists: distributions (canonical), names, or ``all``."""
    listed = os.environ.get("LANDSCAPE_DISABLE_PLUGINS", "")
    return frozenset(word for word in (part.strip() for part in listed.split(",")) if word)


def is_disabled(distribution: str | None, name: str) -> bool:
    """Whether the entry `name` of `distribution` is switched off by ``LANDSCAPE_DISABLE_PLUGINS``."""
    listed = disabled()
    if not listed or (distribution is not None and canonical(distribution) == CORE):
        return False
    if "all" in listed or name in listed:
        return True
    if distribution is None:
        return False
    distributions = {canonical(word) for word in listed}
    return canonical(distribution) in distributions or f"{canonical(distribution)}:{name}" in listed


def _state_of_path() -> tuple[tuple[str, int], ...]:
    """Return what changes when a distribution is installed or removed while Python runs."""
    state = []
    for folder in sys.path:
        try:
            state.append((folder, os.stat(folder or ".").st_mtime_ns))
        except OSError:
            state.append((folder, 0))
    return tuple(state)


_cache: tuple[tuple[tuple[str, int], ...], dict[str, tuple[ComponentEntry, ...]]] | None = None


def metadata_entries(group: str) -> tuple[ComponentEntry, ...]:
    """Return the entries of an entry-point group, sorted by name; switched-off ones are among them.

    The metadata is read again only when a folder of ``sys.path`` has changed, so that a distribution that is
    installed while a notebook is open is found.
    """
    global _cache
    state = _state_of_path()
    if _cache is None or _cache[0] != state:
        _cache = (state, _read_metadata())
    return _cache[1].get(group, ())


def _read_metadata() -> dict[str, tuple[ComponentEntry, ...]]:
    from importlib.metadata import distributions

    found: dict[str, set[ComponentEntry]] = {}
    seen: set[str] = set()
    for distribution in distributions():
        try:
            points: list[EntryPoint] = [each for each in distribution.entry_points if each.group in _GROUPS]
            if not points:
                continue
            metadata: Any = distribution.metadata  # a Message; its protocol has no get before Python 3.12
            name, version = metadata.get("Name"), metadata.get("Version")
        except Exception:  # half removed: what Python raises without the files differs between versions
            continue
        if name is None or canonical(name) in seen:  # half removed, or shadowed by an earlier folder
            continue
        seen.add(canonical(name))
        for point in points:
            kind = point.group.partition(".")[2]
            value = "".join(
                point.value.partition("[")[0].split()
            )  # EntryPoint.attr raises for a malformed one
            found.setdefault(point.group, set()).add(ComponentEntry(kind, point.name, name, version, value))
    return {
        group: tuple(sorted(entries, key=lambda entry: (entry.name, entry.source)))
        for group, entries in found.items()
    }


class InstalledComponents:
    """Answers the component hooks from entry points and from what was registered by hand."""

    def __init__(self) -> None:
        self._registered: dict[tuple[str, str, str], ComponentEntry] = {}

    def add(self, entry: ComponentEntry) -> None:
        """Add an entry made by hand; one of the same kind, name and module is replaced."""
        self._registered[entry.kind, entry.name, entry.source] = entry

    def _all(self, kind: str) -> Iterator[ComponentEntry]:
        for entry in metadata_entries(f"landscape.{kind}"):
            if not is_disabled(entry.distribution, entry.name):
                yield entry
        for entry in self._registered.values():
            if entry.kind == kind:
                yield entry

    @hookimpl
    def landscape_components(self, kind: str) -> Iterable[ComponentEntry]:
        """Return the installed and the registered components of `kind`."""
        return list(self._all(kind))

    @hookimpl
    def landscape_component(self, kind: str, name: str) -> Iterable[ComponentEntry]:
        """Return the installed and the registered components of `kind` called `name`."""
        return [entry for entry in self._all(kind) if entry.name == name]
