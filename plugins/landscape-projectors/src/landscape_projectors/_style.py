"""What the figures of this plugin have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from landscape.report.style import WIDTH, order_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.figure import SubFigure

    AnyFigure = MatplotlibFigure | SubFigure

__all__ = ["INK", "LOSS", "PAPER", "TEXT", "canvas", "colour_bar", "legend", "norm_of", "paths_of", "ticks"]

PAPER = "white"
INK = "#222222"
TEXT = 8.5
LOSS = LinearSegmentedColormap.from_list(
    # From almost white to dark grey in even steps of lightness, hardly blue: dark enough to be read, light
    # enough that every path stands out, and no colour that a path has.
    "landscape_loss",
    ["#f8f9fa", "#dde1e6", "#bcc3cb", "#9aa3ae", "#788391", "#586473"],
)


def norm_of(values: np.ndarray) -> Normalize:
    """Return a scale for the finite values: logarithmic where all are positive, else linear."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Normalize(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if low > 0:
        # A constant loss still needs two ends.
        return LogNorm(low, high) if high > low * (1 + 1e-9) else LogNorm(low * 0.9, high * 1.1)
    return Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)


def ticks(low: float, high: float) -> list[float]:
    """Return between 3 and 8 round values of a logarithmic axis; without so many, evenly spaced ones."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        values = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if 3 <= len(inside) <= 8:
            return inside
        if len(inside) > 8:
            return inside[:: len(inside) // 6 + 1]
    return [float(value) for value in np.geomspace(low, high, 4)]


def colour_bar(
    figure: AnyFigure, ax: Axes, mappable: Any, norm: Normalize, label: str, *, whole: bool = False
) -> None:
    """Put a bar beside the axes; `whole`: what it shows are counts."""
    # Axes inside the map's own, so that the bar is as high as the map whatever its aspect.
    bar = figure.colorbar(mappable, cax=ax.inset_axes((1.02, 0.0, 0.035, 1.0)))
    bar.set_label(label, fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT - 0.5, colors=INK, color="#888888", width=0.8)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(FixedLocator(ticks(float(norm.vmin or 1), float(norm.vmax or 1))))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    elif whole:
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    bar.outline.set_visible(False)


def canvas(ax: Axes | None, ratio: float, *, bar: bool = True) -> tuple[AnyFigure, Axes]:
    """Return the axes with their figure, or make both, for a map of the given height by width."""
    if ax is not None:
        return ax.figure, ax
    # A colour bar leaves the map four fifths of the width; labels and legend take 1.1 inches.
    figure = Canvas(figsize=(WIDTH, (0.8 if bar else 0.9) * WIDTH * ratio + 1.1), layout="constrained")
    return figure, figure.add_subplot()


def paths_of(coordinates: np.ndarray, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the path of each worker by name, in the order of its steps; workers by number, then the others."""
    names, steps = rows["worker"].astype(str).to_numpy(), rows["step"].to_numpy()
    paths = {}
    for name in sorted(set(names), key=order_of):
        chosen = np.flatnonzero(names == name)
        paths[name] = coordinates[chosen[np.argsort(steps[chosen], kind="stable")]]
    return paths


def legend(ax: Axes, handles: Sequence[Any], *, ends: bool = True, columns: int = 5) -> None:
    """Put a legend under the axes, where it covers nothing."""
    if ends:
        ring = Line2D([], [], marker="o", markersize=4.5, color="none", markeredgecolor=INK, label="start")
        star = Line2D([], [], marker="*", markersize=9, color="none", markerfacecolor=INK, label="end")
        star.set_markeredgecolor(INK)
        handles = [*handles, ring, star]
    if not handles:
        return
    # In points below the axes, so that it clears their labels whatever the height of the figure.
    height = (
        ax.get_position().height * ax.figure.get_figheight() if hasattr(ax.figure, "get_figheight") else 3.0
    )
    # Rows of equal length; matplotlib fills column by column, people read row by row.
    rows = -(-len(handles) // columns)
    count = -(-len(handles) // rows)
    ordered = [handles[index] for column in range(count) for index in range(column, len(handles), count)]
    ax.legend(
        handles=ordered,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.5 / max(height, 1.0)),
        ncols=count,
        frameon=False,
        fontsize=TEXT,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.4,
    )
