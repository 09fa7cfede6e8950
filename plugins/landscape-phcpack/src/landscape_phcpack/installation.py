"""Where PHCpack is on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache

from landscape.errors import SolverError

__all__ = ["HOW_TO_INSTALL", "find_phc", "find_phcpy", "missing"]

HOW_TO_INSTALL = (
    "Debian and Ubuntu: apt install phcpack python3-phcpy. macOS, Windows and other systems: put the program phc, "
    "from the releases of github.com/janverschelde/PHCpack, on the PATH and make it executable. From source: build "
    "phc with GNAT's gprbuild (or alire) in the same repository; for phcpy also libPHCpack, copy it into "
    "src/Python/PHCpy/phcpy and run pip install there."
)


def find_phc() -> str | None:
    """Return the path of the program phc: LANDSCAPE_PHC, or what the PATH has."""
    return shutil.which(os.environ.get("LANDSCAPE_PHC") or "phc")


def find_phcpy() -> str | None:
    """Return a Python that has phcpy: LANDSCAPE_PHCPY_PYTHON, this one, or the system's."""
    named = os.environ.get("LANDSCAPE_PHCPY_PYTHON")
    if named:
        return named if _has_phcpy(named) else None
    if importlib.util.find_spec("phcpy") is not None:
        return sys.executable
    # A virtual environment puts its own python3 on the PATH, so usual places are looked at by name.
    candidates = [
        shutil.which("python3"),
        "/usr/bin/python3",
        "/usr/local/bin/python3",
        "/opt/homebrew/bin/python3",
    ]
    for candidate in dict.fromkeys(filter(None, candidates)):
        if os.access(candidate, os.X_OK) and _has_phcpy(candidate):
            return candidate
    return None


@cache
def _has_phcpy(python: str) -> bool:
    # Found, not imported: importing prints a banner, and may crash.
    question = "import importlib.util, sys; sys.exit(importlib.util.find_spec('phcpy') is None)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        asked = subprocess.run(
            [python, "-c", question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def missing(what: str) -> SolverError:
    """Return the error that says how to install PHCpack."""
    return SolverError(f"{what} {HOW_TO_INSTALL}")
