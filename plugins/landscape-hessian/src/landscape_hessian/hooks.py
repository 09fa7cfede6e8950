"""What this plugin adds to a run: spectral densities for the report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from landscape.plugins import hookimpl

if TYPE_CHECKING:
    from landscape.composition import Run
    from landscape.interfaces import Figure

__all__ = ["landscape_figures"]


@hookimpl
def landscape_figures(run: Run) -> Iterable[Figure]:
    """Return the spectral densities that were measured."""
    # Imported here: hooks are loaded with every run, figures are drawn with few.
    from landscape_hessian.figures import figures

    return figures(run)
