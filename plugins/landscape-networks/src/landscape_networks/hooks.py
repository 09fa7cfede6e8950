"""What this plugin adds to a run: theory beside measurement, for walks on noisy quadratics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from landscape.plugins import hookimpl

if TYPE_CHECKING:
    import pandas as pd

    from landscape.composition import Run
    from landscape.interfaces import Figure

__all__ = ["landscape_figures", "landscape_tables"]


@hookimpl
def landscape_tables(run: Run) -> Mapping[str, pd.DataFrame]:
    """Return the table ``theory`` of walks on noisy quadratics, and of sweeps and studies with such walks."""
    # Imported here: hooks are loaded with every run.
    from landscape_networks.quadratic_comparison import theory_table

    table = theory_table(run)
    return {} if table is None else {"theory": table}


@hookimpl
def landscape_figures(run: Run) -> Iterable[Figure]:
    """Return loss and weights of walks on noisy quadratics beside theory, and losses over learning rates."""
    from landscape_networks.quadratic_figures import figures

    return figures(run)
