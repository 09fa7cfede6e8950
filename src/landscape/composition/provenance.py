"""Where a run's numbers come from: packages, machine, commit, seeds, data."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import attrs

from landscape import plugins
from landscape.interfaces import Component

__all__ = ["gather", "references_of", "unregistered"]

# Whatever can change a number.
_PACKAGES = ("torch", "numpy", "scipy", "pandas", "attrs", "cattrs", "scikit-learn", "safetensors")


def gather(
    value: Any,
    *,
    data: Mapping[str, str] | None = None,
    engine: str = "loop",
    device: str = "cpu",
    threads: int | None = None,
    obstacles: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the provenance of a run of `value`.

    Parameters
    ----------
    value
        The experiment or study, or any component.
    data
        Fingerprints of the data by split.
    engine, device, threads
        How it is computed.
    obstacles
        Why the run cannot be replicated from its own files; empty when it can.
    """
    import torch

    obstacles = [*obstacles, *unregistered(value)]
    provenance: dict[str, Any] = {
        "landscape": metadata.version("landscape-core"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": _device_name(device),
        "threads": threads or torch.get_num_threads(),
        "engine": engine,
        "packages": _versions(),
        "plugins": _plugins(),
        "data": dict(data or {}),
        "command": sys.argv[:],
        "commit": _commit(),
        "references": references_of(value),
        "replicable": not obstacles,
    }
    if obstacles:
        provenance["obstacles"] = obstacles
    return provenance


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plugins() -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in plugins.KINDS:
        for entry in plugins.entries(kind):
            if entry.distribution:
                found[entry.distribution] = entry.version or "unknown"
    for plugin in plugins.manager().plugins():
        if plugin.distribution:
            found[plugin.distribution] = plugin.version or "unknown"
    return dict(sorted(found.items()))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def _commit() -> str | None:
    """Return the commit of the user's working directory, with ``+changes`` if it is not clean."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def components_of(value: Any) -> list[Component]:
    """Return every component inside `value`, itself included."""
    found: list[Component] = []
    if isinstance(value, Component):
        found.append(value)
    if attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            found += components_of(getattr(value, attribute.name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            found += components_of(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            found += components_of(entry)
    return found


def references_of(value: Any) -> list[str]:
    """Return the papers to cite for the components in `value`, each once."""
    return sorted({reference for part in components_of(value) for reference in type(part).references})


def unregistered(value: Any) -> list[str]:
    """Return a sentence for each component in `value` that another process could not find again."""
    sentences = []
    for cls in dict.fromkeys(type(part) for part in components_of(value)):
        entry = plugins.identify(cls)
        if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
            sentences.append(
                f"{cls.__qualname__} is defined in {cls.__module__}, where another process cannot find it; "
                "put it in a module of its own."
            )
        elif entry is None:
            sentences.append(
                f"{cls.__qualname__} is not a registered component: replicate with trust=True, or register it."
            )
    return sentences
