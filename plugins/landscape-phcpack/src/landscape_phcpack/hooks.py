"""What this plugin adds to a run: mixed volumes as bounds of critical-point studies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from landscape.errors import SolverError
from landscape.plugins import hookimpl

if TYPE_CHECKING:
    from landscape.systems import PolynomialSystem

__all__ = ["landscape_bounds"]

_log = logging.getLogger("landscape")

#: Seconds. A bound is no reason to keep a study waiting; all networks with at most 10 unknowns take less than one.
_TIME_LIMIT = 20.0


@hookimpl
def landscape_bounds(system: PolynomialSystem) -> Mapping[str, float]:
    """Return ``BKK``, the mixed volume, and ``BKK_stable``, the stable mixed volume."""
    # Imported here: hooks are loaded with every run, few of them are critical-point studies.
    from landscape_phcpack.installation import find_phc, find_phcpy
    from landscape_phcpack.volumes import mixed_volumes

    if find_phc() is None and find_phcpy() is None:
        return {}
    try:
        volumes = mixed_volumes(system, time_limit=_TIME_LIMIT)
    except SolverError as error:
        _log.info("no BKK bound: %s", error)
        return {}
    return {"BKK": float(volumes.mixed), "BKK_stable": float(volumes.stable)}
