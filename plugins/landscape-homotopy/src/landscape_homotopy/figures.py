"""Figures of a critical-point study: how many real critical points, and how loss and index go together.

Functions that draw return the matplotlib figure; none shows, saves or touches matplotlib's global state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from landscape.interfaces import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_losses_against_index", "draw_real_counts", "figures"]

# From the palette of Okabe and Ito, told apart with any colour vision.
_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#555555"


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    axes = canvas.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def draw_real_counts(summary: pd.DataFrame) -> Canvas:
    """Draw how many samples have how many real critical points.

    Parameters
    ----------
    summary
        One row per sample with a column ``N_R``.
    """
    canvas, axes = _canvas(6.0, 3.4)
    counts = summary["N_R"].value_counts().sort_index()
    values, heights = counts.index.to_numpy(), counts.to_numpy()
    gap = int(np.diff(values).min()) if len(values) > 1 else 1
    bars = axes.bar(values, heights, width=0.8 * gap, color=_BLUE)
    axes.bar_label(bars, padding=2, color=_GREY)
    axes.set_xticks(values if len(values) <= 20 else values[:: len(values) // 20 + 1])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("real critical points $N_R$")
    axes.set_ylabel("samples")
    axes.margins(x=0.05, y=0.1)
    return canvas


def draw_losses_against_index(points: pd.DataFrame) -> Canvas:
    """Draw the loss of every real critical point against its Hessian index, with counts and medians.

    Parameters
    ----------
    points
        One row per real critical point with columns ``loss`` and ``index``.
    """
    canvas, axes = _canvas(6.0, 4.0)
    points = points.dropna(subset=["loss", "index"])
    # Fixed jitter, so that the same run gives the same picture.
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(points))
    index = points["index"].to_numpy(dtype=float)
    loss = points["loss"].to_numpy(dtype=float)
    many = len(points) > 2000
    axes.plot(
        index + jitter,
        loss,
        ".",
        color=_BLUE,
        alpha=0.2 if many else 0.45,
        markersize=3 if many else 6,
        markeredgewidth=0,
        rasterized=many,
        zorder=2,
    )
    top = axes.get_xaxis_transform()
    for value in np.unique(index):
        here = loss[index == value]
        axes.hlines(np.median(here), value - 0.36, value + 0.36, color=_VERMILION, linewidth=2, zorder=3)
        axes.text(value, 1.02, f"{len(here)}", transform=top, ha="center", va="bottom", color=_GREY)
    axes.plot([], [], color=_VERMILION, linewidth=2, label="median")
    axes.text(-0.01, 1.02, "points:", transform=axes.transAxes, ha="right", va="bottom", color=_GREY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Hessian index (number of negative eigenvalues)")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, loc="best")
    return canvas


def figures(run: Run) -> list[Figure]:
    """Return the figures of a critical-point study; none for a run of another kind."""
    if run.kind != "critical-points":
        return []
    found = []
    summary, points = run.tables["summary"], run.tables["real_points"]
    samples = len(summary)
    if samples:
        incomplete = int((summary["lost"] > 0).sum())
        note = f" In {incomplete} of them solutions are missing." if incomplete else ""
        if (summary["N_R"] % 2 == 1).all():
            note += (
                " All counts are odd: points come in orbits of sign changes, only the origin stands alone."
            )
        found.append(
            Figure(
                name="real-critical-points",
                title="How many critical points are real",
                caption=f"Real ones among the {_range(summary['N_C'])} isolated complex critical points of "
                f"each of {samples} random samples.{note}",
                figure=draw_real_counts(summary),
                order=40,
            )
        )
    if "loss" in points and points["loss"].notna().any():
        found.append(
            Figure(
                name="losses-against-index",
                title="Loss against Hessian index",
                caption=f"All {len(points)} real critical points of {samples} samples; index 0 are local "
                f"minima. Points are spread sideways by chance to be seen. Numbers at the top count points, "
                f"bars are medians. Samples have data and regularisation of their own, so losses of "
                f"different samples share no scale.",
                figure=draw_losses_against_index(points),
                order=41,
            )
        )
    return found


def _range(column: pd.Series[int]) -> str:
    low, high = int(column.min()), int(column.max())
    return str(low) if low == high else f"{low} to {high}"
