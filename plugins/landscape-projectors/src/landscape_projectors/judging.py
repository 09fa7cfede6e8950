"""What a picture is worth once the loss is known, and a table of what all pictures of a run are worth."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

import attrs

from landscape.errors import ConfigurationError
from landscape.interfaces import Projection, Projector
from landscape.plugins import PluginWarning

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from landscape.composition import Run
    from landscape.objective import Landscape
    from landscape.store import SnapshotSpan

__all__ = ["JudgedProjector", "judged", "quality_table"]


class JudgedProjector(Projector):
    """A projector whose maps say in `quality` how far the loss that they show is from that of the snapshots."""

    def fit_to(self, landscape: Landscape, span: SnapshotSpan, generator: torch.Generator) -> Projection:
        """Fit to the snapshots of `span`, and compare the loss that the map shows under them with theirs.

        See :func:`judged` for what it costs, and what `quality` says.
        """
        return judged(self.fit(span, generator), landscape, span)


def judged(projection: Projection, landscape: Landscape, span: SnapshotSpan) -> Projection:
    """Return a projection whose `quality` also says how far the loss that it shows is from that of the snapshots.

    Parameters
    ----------
    projection
        Of this plugin. One that does not lead back to weights shows no loss, and is returned as it is.
    landscape
        The loss.
    span
        What the projection was fitted to.

    Returns
    -------
    Projection
        With ``loss_mismatch`` and ``loss_mismatch_largest``, the median and the largest ``|log10(shown / true)|``
        over the snapshots; of losses that are not all positive ``loss_difference`` and ``loss_difference_largest``.
        Both cost two losses per snapshot, on at most as many examples as
        :data:`landscape_projectors.surfaces.EVALUATIONS` allows.
    """
    # Surfaces know the planes, which are made by projectors like these.
    from landscape_projectors.surfaces import leads_back, loss_mismatch

    if not leads_back(projection):
        return projection
    quality = {**projection.quality, **loss_mismatch(landscape, span, projection)}
    return cast("Projection", attrs.evolve(cast("Any", projection), quality=quality))


def quality_table(run: Run, *, loss: bool = True) -> pd.DataFrame:
    """Return what the maps of a run's projectors are worth, a row per projector and a column per number.

    Parameters
    ----------
    run
        Of an experiment.
    loss
        Whether to compute losses too; see :func:`judged`.

    Returns
    -------
    pandas.DataFrame
        Indexed by projector, as the report calls it. NaN where a number has no meaning for a map. A projector that
        cannot be fitted to the snapshots there are is left out with a warning.
    """
    import pandas as pd

    from landscape_projectors.figures import described

    found: dict[str, dict[str, float]] = {}
    for projector in run.projectors:
        try:
            quality = run.project(projector, loss=loss).quality
        except ConfigurationError as error:
            warnings.warn(f"No row for {described(projector)}: {error}", PluginWarning, stacklevel=2)
            continue
        found[described(projector)] = dict(quality)
    table = pd.DataFrame.from_dict(found, orient="index")
    return table.rename_axis("projector")
