"""Reinstall those editable distributions of the workspace whose metadata were edited since.

The code of an editable distribution is read where it stands, but its entry points, version and dependencies
are copies made when it was installed, and tox does not compare them again. This script does, in every tox
environment before its commands, so that a component added to a ``pyproject.toml`` is found at once:

    python tools/refresh_editable.py
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement


class Metadata(NamedTuple):
    """What an installation copies out of a ``pyproject.toml``."""

    version: str
    entry_points: frozenset[tuple[str, str, str]]  # (group, name, value)
    requirements: frozenset[str]


def declared(project: dict[str, Any]) -> Metadata:
    """Read the metadata from the ``[project]`` table of a ``pyproject.toml``."""
    groups = {
        "console_scripts": project.get("scripts", {}),
        "gui_scripts": project.get("gui-scripts", {}),
        **project.get("entry-points", {}),
    }
    requirements = [Requirement(line) for line in project.get("dependencies", ())]
    for extra, lines in project.get("optional-dependencies", {}).items():
        for requirement in map(Requirement, lines):
            marker = f"({requirement.marker}) and " if requirement.marker else ""
            requirement.marker = None
            requirements.append(Requirement(f'{requirement}; {marker}extra == "{extra}"'))
    return Metadata(
        version=project["version"],
        entry_points=frozenset(
            (group, name, value) for group, entries in groups.items() for name, value in entries.items()
        ),
        requirements=frozenset(map(str, requirements)),
    )


def installed(found: Distribution) -> Metadata:
    """Read the metadata of an installed distribution."""
    return Metadata(
        version=found.version,
        entry_points=frozenset((entry.group, entry.name, entry.value) for entry in found.entry_points),
        requirements=frozenset(str(Requirement(line)) for line in found.requires or ()),
    )


def workspace(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder and the ``[project]`` table of every distribution that ``workspace.txt`` installs."""
    for path in [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]:
        yield path.parent, tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def main(root: Path) -> int:
    """Reinstall what changed under `root`; return pip's exit status."""
    relinked, resolved = [], []
    for folder, project in workspace(root):
        try:
            now = installed(distribution(project["name"]))
        except PackageNotFoundError:
            continue  # not part of this environment; workspace.txt decides what is
        wanted = declared(project)
        if now.requirements != wanted.requirements:
            resolved.append(folder)
        elif now != wanted:
            relinked.append(folder)
    for folders, options in ((relinked, ["--no-deps"]), (resolved, [])):
        if folders:
            print("metadata edited, installed again:", *(folder.name for folder in folders), flush=True)
            editables = [argument for folder in folders for argument in ("-e", str(folder))]
            constraints = ["--constraint", str(root / "constraints.txt")]
            command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *constraints, *editables]
            if status := subprocess.run(command, check=False).returncode:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
