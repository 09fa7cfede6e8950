"""What this plugin adds to a run: figures of what was measured between its workers."""

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
    """Return distances, paths between workers, trained curves and minimum ratios, where the run measured them."""
    # Imported here: hooks are loaded with every run, figures are drawn with few.
    from landscape_walkers import figures, ratio_figures

    return [*figures.figures(run), *ratio_figures.figures(run)]
