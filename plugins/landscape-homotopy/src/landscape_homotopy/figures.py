"""Figures of critical-point studies, and of sweeps of them.

How many critical points are real, how loss and index go together, which zero patterns there are; and for several
networks bounds beside counts, histograms side by side, and shares of indices. Functions that draw return the
matplotlib figure; none shows, saves or touches matplotlib's global state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from landscape.interfaces import Figure
from landscape.report import style
from landscape.report.counts import claim

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = [
    "draw_bounds",
    "draw_histograms",
    "draw_index_shares",
    "draw_losses_against_index",
    "draw_real_counts",
    "draw_zero_patterns",
    "figures",
]

# From the palette of Okabe and Ito, told apart with any colour vision.
_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#555555"
_GREEN, _PURPLE, _ORANGE = "#009E73", "#CC79A7", "#E69F00"
#: Patterns and networks beyond which a figure would be a wall.
_MOST_PATTERNS, _MOST_NETWORKS = 14, 40


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
    style.legend_below(canvas, *axes.get_legend_handles_labels())
    return canvas


def draw_zero_patterns(patterns: pd.DataFrame) -> Canvas:
    """Draw which weights are not zero, pattern by pattern, with the number of solutions of each.

    Parameters
    ----------
    patterns
        One row per pattern with columns ``pattern``, ``solutions`` and ``real_mean``. Words of a pattern that
        consist of ``*``, ``0`` and ``/`` are matrices, ``/`` parting their rows; other words are headings.
    """
    shown = patterns.head(_MOST_PATTERNS)
    grids = [_matrices(pattern) for pattern in shown["pattern"]]
    tall = max(len(matrix) for row in grids for _, matrix in row)
    # One place per matrix, the same in all rows, and a gap of one cell between.
    widths = [max(len(line) for line in matrix) for _, matrix in grids[0]]
    starts = np.cumsum([0, *(width + 1 for width in widths)])
    pitch = tall + 0.8
    cell = 0.16
    canvas = Canvas(
        figsize=(max(4.0, cell * starts[-1] + 3.2), cell * pitch * len(shown) + 0.75), layout="constrained"
    )
    axes = canvas.subplots()
    for number, row in enumerate(grids):
        for start, (_, matrix) in zip(starts, row, strict=False):
            for down, line in enumerate(matrix):
                for across, flag in enumerate(line):
                    corner = (start + across, -number * pitch - down - 1)
                    face = _BLUE if flag == "*" else "white"
                    axes.add_patch(
                        Rectangle(corner, 0.9, 0.9, facecolor=face, edgecolor="#888888", linewidth=0.6)
                    )
        entry = shown.iloc[number]
        middle = -number * pitch - tall / 2
        place = starts[-1] + 0.5
        axes.text(place, middle, f"{entry['solutions']}", va="center", ha="left", fontsize=style.TEXT)
        axes.text(place + 4, middle, f"{entry['real_mean']:.3g}", va="center", ha="left", fontsize=style.TEXT)
    for start, (name, _) in zip(starts, grids[0], strict=False):
        axes.text(start, 0.5, name, va="bottom", ha="left", fontsize=style.TEXT, color=style.INK)
    for offset, words in ((0.5, "found"), (4.5, "real, mean")):
        axes.text(
            starts[-1] + offset, 0.5, words, va="bottom", ha="left", fontsize=style.TEXT, color=style.INK
        )
    axes.set_xlim(-0.5, starts[-1] + 10)
    axes.set_ylim(-pitch * len(shown) - 0.2, 2.0)
    axes.set_aspect("equal")
    axes.axis("off")
    return canvas


def _matrices(pattern: str) -> list[tuple[str, list[str]]]:
    """Return the headed matrices in a pattern, rows as strings of ``*`` and ``0``."""
    found, name = [], ""
    for word in pattern.split():
        if re.fullmatch(r"[*0/]+", word):
            found.append((name, word.split("/")))
            name = ""
        else:
            name = word
    return found or [("", [""])]


def _network_names(summary: pd.DataFrame) -> list[str]:
    """Return short names of networks: widths, where a family says them, else members."""
    if not {"d", "dx", "dy"} <= set(summary.columns):
        return [str(name) for name in summary["member"]]
    several = summary["m"].nunique() > 1
    names = []
    for row in summary.to_dict("records"):
        hidden = str(row["d"]).split(", ") if "," in str(row["d"]) else [str(row["d"])] * int(row["H"])
        name = "–".join([str(row["dx"]), *hidden, str(row["dy"])])
        if isinstance(row.get("convolution"), str):
            name += " conv."
        names.append(name + (f", m = {row['m']}" if several else ""))
    return names


def draw_bounds(summary: pd.DataFrame) -> Canvas:
    """Draw bounds, numbers of complex and of real solutions, network by network, on a logarithmic axis.

    Parameters
    ----------
    summary
        One row per network, as the summary of a sweep of critical-point studies.
    """
    shown = summary.head(_MOST_NETWORKS)
    place = np.arange(len(shown))
    canvas, grid = style.figure(width=max(style.WIDTH, 1.4 + 0.3 * len(shown)), height=4.2)
    axes = grid[0, 0]
    drawn = [
        ("CBB", "CBB", "v", _GREY),
        ("dedieu_malajovich", "Dedieu–Malajovich", "x", _PURPLE),
        ("BKK_stable", "BKK (stable)", "s", _ORANGE),
        ("B_C", r"$B_{\mathbb{C}}$", "D", _GREEN),
    ]
    for column, label, marker, colour in drawn:
        if column in shown and shown[column].notna().any():
            axes.plot(
                place,
                shown[column],
                marker,
                markersize=5.5,
                label=label,
                color=colour,
                markerfacecolor="none",
            )
    axes.scatter(
        place, shown["N_C"], marker="o", s=26, color=_BLUE, label=r"$N_{\mathbb{C}}$, found", zorder=3
    )
    axes.scatter(
        place,
        shown["N_R_max"],
        marker="_",
        s=90,
        color=_VERMILION,
        label=r"$N_{\mathbb{R}}$, largest",
        zorder=3,
    )
    axes.set_yscale("log")
    axes.set_xticks(place, _network_names(shown), rotation=90 if len(shown) > 8 else 0)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("widths: inputs – hidden units – outputs", fontsize=style.TEXT)
    axes.set_ylabel("number of solutions", fontsize=style.TEXT)
    handles, labels = axes.get_legend_handles_labels()
    style.legend_below(canvas, handles, labels)
    return canvas


def draw_histograms(summary: pd.DataFrame, real_counts: Mapping[str, pd.DataFrame]) -> Canvas:
    """Draw how many samples have how many real critical points, a panel per network.

    Parameters
    ----------
    summary
        One row per network with a column ``member``.
    real_counts
        By member: columns ``N_R`` and ``share``.
    """
    shown = summary[summary["member"].isin(list(real_counts))].head(_MOST_NETWORKS)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    canvas, grid = style.figure(rows, columns, height=0.5 + 1.45 * rows, share_y=True)
    panels = list(grid.flat)
    for panel, name, title in zip(panels, shown["member"], _network_names(shown), strict=False):
        counts = real_counts[name]
        panel.bar(counts["N_R"], counts["share"], width=1.5, color=_BLUE)
        panel.set_title(title, fontsize=style.TEXT, loc="left", color=style.INK)
        largest = max(5, int(counts["N_R"].max()))
        # The numbers are odd; every k-th odd one is written.
        panel.set_xticks(np.arange(1, largest + 1, 2 * -(-largest // 10)))
        panel.set_xlim(-0.5, largest + 1.5)
        panel.grid(False, axis="x")
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for row in grid:
        row[0].set_ylabel("share of samples", fontsize=style.TEXT)
    canvas.supxlabel(r"real critical points $N_{\mathbb{R}}$", fontsize=style.TEXT)
    return canvas


def draw_index_shares(summary: pd.DataFrame, indices: Mapping[str, pd.DataFrame]) -> Canvas:
    """Draw the share of every Hessian index among the real critical points, a bar per network.

    Parameters
    ----------
    summary
        One row per network with a column ``member``.
    indices
        By member: columns ``index`` and ``share``.
    """
    shown = summary[summary["member"].isin(list(indices))].head(_MOST_NETWORKS)
    canvas, grid = style.figure(width=max(style.WIDTH, 1.4 + 0.3 * len(shown)), height=3.6)
    axes = grid[0, 0]
    every = sorted({int(index) for name in shown["member"] for index in indices[name]["index"]})
    colours = dict(zip(every, style.sequence(len(every)), strict=True))
    place = np.arange(len(shown))
    below = np.zeros(len(shown))
    for index in every:
        heights = np.array(
            [
                float(indices[name].loc[indices[name]["index"] == index, "share"].sum())
                for name in shown["member"]
            ]
        )
        label = "0, local minima" if index == 0 else str(index)
        axes.bar(
            place, heights, bottom=below, color=colours[index], label=label, width=0.75, edgecolor="white"
        )
        below += heights
    axes.set_xticks(place, _network_names(shown), rotation=90 if len(shown) > 8 else 0)
    axes.set_xlabel("widths: inputs – hidden units – outputs", fontsize=style.TEXT)
    axes.set_ylabel("share of the real critical points", fontsize=style.TEXT)
    axes.grid(False, axis="x")
    handles, labels = axes.get_legend_handles_labels()
    style.legend_below(canvas, handles, [f"index {label}" for label in labels])
    return canvas


def figures(run: Run) -> list[Figure]:
    """Return the figures of a critical-point study or of a sweep of them; none for a run of another kind."""
    if run.kind == "critical-points":
        return _of_a_study(run)
    if run.kind == "sweep" and {"N_C", "N_R_max"} <= set(run.tables.get("summary", ())):
        return _of_a_sweep(run)
    return []


def _of_a_sweep(run: Run) -> list[Figure]:
    summary = run.tables["summary"]
    tables = {name: member.tables for name, member in run.stages.items()}
    more = len(summary) - _MOST_NETWORKS
    note = f" The first {_MOST_NETWORKS} of {len(summary)} networks are drawn." if more > 0 else ""
    found = [
        Figure(
            name="bounds-and-counts",
            title="Bounds and counts",
            caption="Upper bounds on the number of isolated complex critical points (CBB is the product of the "
            "degrees, BKK the stable mixed volume), how many were found (the table says how each number is known), and "
            "the most real ones in any sample. The number of Dedieu and Malajovich concerns random polynomials and is "
            f"no bound here.{note}",
            figure=draw_bounds(summary),
            order=40,
        )
    ]
    histograms = {name: own["real_counts"] for name, own in tables.items() if "real_counts" in own}
    if histograms:
        found.append(
            Figure(
                name="real-counts",
                title="How many critical points are real",
                caption="For each network, how many of its samples have how many real critical points. The number is "
                f"odd: points come in orbits of sign changes, and only the origin stands alone.{note}",
                figure=draw_histograms(summary, histograms),
                order=41,
            )
        )
    indices = {
        name: own["hessian_indices"]
        for name, own in tables.items()
        if "hessian_indices" in own and len(own["hessian_indices"])
    }
    if indices:
        found.append(
            Figure(
                name="index-shares",
                title="Hessian indices of the real critical points",
                caption="Index 0 are local minima; of all samples together. The index is that of the Hessian of the "
                f"very loss whose gradient was solved.{note}",
                figure=draw_index_shares(summary, indices),
                order=42,
            )
        )
    return found


def _of_a_study(run: Run) -> list[Figure]:
    found = []
    tables = run.tables
    if "summary" not in tables:  # interrupted before the end
        return []
    summary, points = tables["summary"], tables["real_points"]
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
                caption=f"Real ones among the isolated complex critical points of each of {samples} random samples: "
                f"{_counted(summary)}.{note}",
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
    patterns = tables.get("zero_patterns")
    if patterns is not None and len(patterns):
        more = len(patterns) - _MOST_PATTERNS
        note = f" {more} further patterns stand in the table." if more > 0 else ""
        found.append(
            Figure(
                name="zero-patterns",
                title="Which weights are zero",
                caption="Weights that are not zero are filled, row by row of every weight matrix; beside each pattern "
                "stands how many complex solutions of a sample have it, and how many of these are real, on the "
                f"mean.{note}",
                figure=draw_zero_patterns(patterns),
                order=42,
            )
        )
    return found


def _counted(summary: pd.DataFrame) -> str:
    """Return how many solutions the samples have, as far as it is known; a range where they differ."""
    if not {"certified", "completeness"} <= set(summary.columns):
        return f"{_range(summary['N_C'])} found"
    worst = "proved" if (summary["completeness"] == "proved").all() else "unknown"
    if summary["N_C"].nunique() == 1:
        return claim(int(summary["N_C"].iloc[0]), float(summary["certified"].min(skipna=False)), worst)
    return f"{_range(summary['N_C'])} found"


def _range(column: pd.Series[int]) -> str:
    low, high = int(column.min()), int(column.max())
    return str(low) if low == high else f"{low} to {high}"
