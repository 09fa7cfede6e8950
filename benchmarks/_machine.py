"""What the tables were measured on, in a line."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import torch


def line(*distributions: str) -> str:
    """Return processor, system and versions; distributions that are not installed are left out."""
    return (
        f"{_processor()}, {platform.system()}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} thread(s); {', '.join(filter(None, map(_version, distributions)))}"
    )


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = [row.partition(":")[2].strip() for row in described.splitlines() if row.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
