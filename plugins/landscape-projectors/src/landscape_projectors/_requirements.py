"""What snapshots must be like to be projected, and packages that must be there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from landscape.errors import ConfigurationError
from landscape.interfaces import Projector
from landscape.randomness import preserved_random_state

__all__ = ["optional_package", "require_different", "require_dimensions"]


def require_different(projector: Projector, points: np.ndarray) -> None:
    """Refuse fewer than three snapshots, shape (T, r), and snapshots that are all the same."""
    snapshots, rank = points.shape
    if snapshots < 3 or rank < 1:
        what = "all the same point" if rank < 1 else "too few to lie in any way to each other"
        raise ConfigurationError(
            f"{type(projector).__name__} cannot be fitted: the {snapshots} snapshots are {what}. Record at least 3 "
            f"different snapshots (more steps, or snapshots more often)."
        )


def require_dimensions(projector: Projector, points: np.ndarray, dimensions: int) -> None:
    """Refuse snapshots, shape (T, r), that span fewer dimensions than are asked for."""
    snapshots, rank = points.shape
    if rank < dimensions or snapshots < 3:
        raise ConfigurationError(
            f"{type(projector).__name__}(dimensions={dimensions}) cannot be fitted: the {snapshots} snapshots span "
            f"only {rank} dimension{'' if rank == 1 else 's'} about their mean. Record at least "
            f"{max(3, dimensions + 1)} different snapshots (more steps, or snapshots more often), or use fewer "
            f"dimensions."
        )


def optional_package(projector: str, module: str, distribution: str, extra: str) -> Any:
    """Import a package that is not installed with this plugin.

    Raises
    ------
    landscape.errors.ConfigurationError
        If it is not installed, with the command that installs it.
    """
    try:
        # Some packages draw random numbers while they are imported.
        with preserved_random_state():
            return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise ConfigurationError(
            f"{projector} needs the package {distribution}: pip install 'landscape-projectors[{extra}]'."
        ) from error
