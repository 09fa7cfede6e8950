"""What this plugin adds to a run: how gradient noise lies to the curvature, for the report."""

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
    """Return eigenvalues of covariance and Hessian, the one against the other, and overlaps, where measured."""
    # Imported here: hooks are loaded with every run, figures are drawn with few.
    from landscape_covariance.figures import figures

    return figures(run)
