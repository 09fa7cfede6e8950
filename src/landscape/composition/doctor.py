"""Examining an installation for what would make its numbers wrong or its commands fail."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Literal

from attrs import frozen

from landscape import plugins

__all__ = ["Finding", "examine"]


@frozen
class Finding:
    """One thing that was looked at."""

    level: Literal["good", "note", "bad"]
    text: str


def examine() -> list[Finding]:
    """Look at Python, torch, the plugins and the name of the distribution."""
    return [_python(), _distribution(), *_torch(), *_components()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "good" if sys.version_info >= (3, 11) else "bad", f"Python {version} (3.11 or newer is needed)"
    )


def _distribution() -> Finding:
    import landscape

    try:
        stranger = metadata.version("landscape")
    except metadata.PackageNotFoundError:
        return Finding("good", f"landscape-core {landscape.__version__}")
    return Finding(
        "bad",
        f"the distribution 'landscape' {stranger} is installed: it is an unrelated project that shares this import "
        "name. Cure: pip uninstall landscape; pip install --force-reinstall landscape-core.",
    )


def _torch() -> list[Finding]:
    import torch

    found = [Finding("good", f"torch {torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        found.append(Finding("good", f"CUDA: {torch.cuda.get_device_name()}"))
    elif torch.version.cuda:
        found.append(
            Finding(
                "note", f"torch was built for CUDA {torch.version.cuda}, and no such device is usable here"
            )
        )
    return found


def _components() -> list[Finding]:

    findings, counts = [], {}
    for kind in plugins.KINDS:
        entries = plugins.entries(kind, check=True)
        counts[kind] = len(entries)
        findings += [Finding("bad", entry.error) for entry in entries if entry.error]
        claimed: dict[str, list[str]] = {}
        for entry in entries:
            claimed.setdefault(entry.name, []).append(entry.distribution or "this session")
        for name, owners in claimed.items():
            if len(owners) > 1:
                findings.append(
                    Finding(
                        "note", f"{kind}: {name} is claimed by {', '.join(owners)}; write {owners[0]}:{name}"
                    )
                )
    for plugin in plugins.manager().plugins():
        if plugin.error:
            findings.append(
                Finding(
                    "bad",
                    f"the hooks {plugin.name!r} of {plugin.distribution} cannot be used: {plugin.error}",
                )
            )
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return [Finding("good", f"components: {summary or 'none; install landscape-core[all]'}"), *findings]
