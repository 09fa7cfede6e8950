"""Fixtures for the tests of plugins; pytest finds them by itself where landscape is installed.

Nothing heavy is imported until a fixture is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from landscape.plugins import PluginManager
    from landscape.testing.landscapes import KnownLandscape

__all__ = ["fake_distribution", "isolated_registry", "known_landscape"]


@pytest.fixture
def known_landscape() -> KnownLandscape:
    """Give a quadratic landscape in five dimensions whose minimum, Hessian and spectrum are known."""
    from landscape.testing.landscapes import quadratic

    return quadratic((4.0, 2.0, 1.0, 0.5, -1.0))


@pytest.fixture
def isolated_registry() -> Iterator[PluginManager]:
    """Give a plugin manager of the test's own: what is registered by hand in the test ends with it."""
    from landscape.plugins import isolated

    with isolated() as manager:
        yield manager


@pytest.fixture
def fake_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_registry: PluginManager
) -> Iterator[Callable[..., Path]]:
    """Give a function that installs a distribution for the length of the test, without pip.

    ``fake_distribution("landscape-foo", {"landscape.probes": {"Foo": "foo:Foo"}}, {"foo": "source text"})``
    writes its modules and its metadata into a folder of ``sys.path`` and returns the folder.
    """
    before = set(sys.modules)
    written: set[str] = set()

    def install(
        name: str,
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> Path:
        folder = tmp_path / f"site-{name}-{version}"
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, points in entry_points.items():
            lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items()), ""]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        for module, source in (modules or {}).items():
            (folder / f"{module}.py").write_text(source)
            written.add(module)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield install
    for module in written - before:
        sys.modules.pop(module, None)
