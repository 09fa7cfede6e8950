"""Further pictures of weight paths: scores, distances, quality, parts of the network, lines, basins.

Every function takes the axes to draw into, or makes a figure of its own, and returns ``(figure, axes)``. None of them
shows or saves anything, and none touches matplotlib's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from scipy.spatial.distance import cdist, pdist

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection, Projection
from landscape.report.style import PALETTE, WIDTH, dress, order_of, scale, worker_styles
from landscape_projectors._style import INK, PAPER, TEXT, canvas, colour_bar, legend, paths_of
from landscape_projectors.planes import PlaneProjection
from landscape_projectors.surfaces import LossLine, merge_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.figure import SubFigure

    from landscape.store import SnapshotSpan
    from landscape_projectors.som import SOMProjection

    AnyFigure = MatplotlibFigure | SubFigure

__all__ = [
    "draw_distances",
    "draw_heat_map",
    "draw_hits",
    "draw_loss_line",
    "draw_panels",
    "draw_parts",
    "draw_paths_in_time",
    "draw_persistence",
    "draw_quality",
    "draw_return_map",
    "draw_score_bands",
    "draw_scored_paths",
    "draw_scree",
    "draw_training",
]

_STYLES = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (5, 1.4, 1.2, 1.4)))


# ---------------------------------------------------------------------------------------------------------
# Paths and their scores
# ---------------------------------------------------------------------------------------------------------


def draw_scored_paths(
    projection: Projection,
    rows: pd.DataFrame,
    values: np.ndarray,
    ax: Axes | None = None,
    *,
    label: str = "score",
    marks: int = 0,
) -> tuple[AnyFigure, Axes]:
    """Draw the path of every network, coloured by how good it is on the way.

    One scale of colours for all networks. The kind of line tells networks apart (up to four; more share the solid
    one), and beside the end of each stands its name and its first and last value, unless ends lie together.
    Missing values leave the path grey.

    Parameters
    ----------
    projection
        Of two dimensions.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    values
        One per snapshot, shape (T,), such as scores.
    ax
        Axes to draw into; None makes a figure.
    label
        What the values are.
    marks
        How many snapshots between the ends of each path have their step beside them; they are spread evenly over its
        length.
    """
    coordinates = checked(projection, rows)
    values = measured(values, len(coordinates))
    figure, ax = canvas(ax, 0.75)
    finite = values[np.isfinite(values)]
    norm = Normalize(
        *((finite.min(), finite.max()) if np.ptp(finite) else (finite[0] - 0.5, finite[0] + 0.5))
    )
    colours = colormaps["viridis"].with_extremes(bad="0.6")
    paths = paths_of(np.column_stack([coordinates, values, rows["step"].to_numpy()]), rows)
    several = len(paths) > 1
    collection = None
    handles: list[Any] = []
    ends = []
    marked: list[np.ndarray] = []
    for place, (name, path) in enumerate(paths.items()):
        points, score = path[:, :2], path[:, 2]
        marked += _mark(ax, points, path[:, 3], marks)
        style = _STYLES[place % len(_STYLES)] if len(paths) <= len(_STYLES) else "-"
        segments = np.stack([points[:-1], points[1:]], axis=1)
        collection = LineCollection(
            list(segments),
            array=0.5 * (score[:-1] + score[1:]),
            norm=norm,
            cmap=colours,
            linewidths=1.8,
            linestyles=[style],
            zorder=3,
        )
        ax.add_collection(collection)
        # One light line under the path, and not one around each of its pieces: half the size on disk.
        ax.plot(*points.T, color=PAPER, linewidth=3.0, zorder=2.9)
        edge: dict[str, Any] = {
            "edgecolor": INK,
            "linewidth": 0.7,
            "cmap": colours,
            "norm": norm,
            "plotnonfinite": True,
        }
        ax.scatter(*points[0], c=[score[0]], s=30, marker="o", zorder=4, **edge)
        ax.scatter(*points[-1], c=[score[-1]], s=95, marker="*", zorder=5, **edge)
        ends.append((points, f"{_name(name)}: {score[0]:.2g} → {score[-1]:.2g}"))
        if several and len(paths) <= len(_STYLES):
            handles.append(Line2D([], [], color=INK, linewidth=1.6, linestyle=style, label=_name(name)))
    ax.set_aspect("equal")
    ax.autoscale_view()
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    if collection is not None:
        colour_bar(figure, ax, collection, norm, label)
    extent = np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())])
    apart = pdist(np.stack([points[-1] for points, _ in ends]) / extent)
    # Labels of ends that lie together could not be told apart.
    if len(ends) <= 8 and (apart > 0.04).all():
        _label_ends(ax, ends, marked)
    legend(ax, handles)
    return figure, ax


def _name(worker: str) -> str:
    return f"worker {worker}" if worker.isdecimal() else worker


def _mark(ax: Axes, points: np.ndarray, steps: np.ndarray, marks: int) -> list[np.ndarray]:
    """Write the step beside some points of a path, spread evenly over its length; return the points."""
    found = []
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    for share in np.arange(1, marks + 1) / (marks + 1):
        at = int(np.argmin(np.abs(way - share * way[-1])))
        found.append(points[at])
        ax.plot(*points[at], marker="o", markersize=3.2, color=INK, markeredgecolor=PAPER, zorder=5)
        ax.annotate(
            f"{steps[at]:.0f}",
            points[at],
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=TEXT - 2.5,
            color="0.35",
            zorder=5,
            path_effects=[Stroke(linewidth=1.8, foreground=PAPER), Normal()],
        )
    return found


def _label_ends(ax: Axes, ends: Sequence[tuple[np.ndarray, str]], marked: Sequence[np.ndarray]) -> None:
    """Write each label beside the end of its path, where it covers least of the paths and of other labels."""
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    extent = high - low
    # In shares of the axes: the paths, in steps shorter than a line of text is high, and the stars.
    ways = []
    for path, _ in ends:
        scaled = (path - low) / extent
        way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(scaled, axis=0), axis=1))])
        at = np.linspace(0.0, way[-1], max(2, int(way[-1] / 0.01)))
        ways.append(np.stack([np.interp(at, way, scaled[:, axis]) for axis in (0, 1)], axis=1))
    taken = np.concatenate(ways)
    line = 0.042
    boxes: list[tuple[float, float, float, float]] = []
    for point in marked:  # a step stands above and right of its mark
        x, y = (point - low) / extent
        boxes.append((x, x + 0.06, y, y + 1.4 * line))
    for path, text in ends:
        star = (path[-1] - low) / extent
        # A letter of this text takes about one seventieth of the width of a map.
        width = 0.014 * len(text)
        best: tuple[float, tuple[float, float, float, float], bool, float] | None = None
        for right in (True, False):
            for shift in (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0):
                left = star[0] + 0.025 if right else star[0] - 0.025 - width
                y = star[1] + shift * line
                box = (left, left + width, y - 0.5 * line, y + 0.5 * line)
                covered = (taken > (box[0], box[2])) & (taken < (box[1], box[3]))
                others = sum(
                    box[0] < o[1] and o[0] < box[1] and box[2] < o[3] and o[2] < box[3] for o in boxes
                )
                outside = max(0.0, -box[0], box[1] - 1.0, -box[2], box[3] - 1.0)
                cost = float(covered.all(axis=1).sum()) + 50.0 * others + 200.0 * outside + 1.5 * abs(shift)
                if best is None or cost < best[0]:
                    best = (cost, box, right, y)
        assert best is not None
        _, box, right, y = best
        boxes.append(box)
        ax.annotate(
            text,
            path[-1],
            xytext=(low[0] + (box[0] if right else box[1]) * extent[0], low[1] + y * extent[1]),
            ha="left" if right else "right",
            va="center",
            fontsize=TEXT - 1.5,
            color=INK,
            zorder=6,
            path_effects=[Stroke(linewidth=2.2, foreground=PAPER), Normal()],
        )


def checked(projection: Projection, rows: pd.DataFrame) -> np.ndarray:
    """Return the coordinates of a projection of two dimensions, fitted on as many snapshots as there are rows."""
    coordinates = projection.coordinates
    if coordinates.shape[1] != 2:
        raise ConfigurationError(
            f"A map needs a projection of 2 dimensions; this one has {coordinates.shape[1]}. Fit one of two, "
            f"or draw each coordinate with draw_coordinates."
        )
    if len(rows) != len(coordinates):
        raise ConfigurationError(
            f"rows names {len(rows)} snapshots, the projection was fitted on {len(coordinates)}. Pass the "
            f"rows of the span it was fitted on."
        )
    return coordinates


def measured(values: np.ndarray, points: int) -> np.ndarray:
    """Return values of so many points in float64, at least one of them finite."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (points,):
        raise ConfigurationError(
            f"values has shape {values.shape}, for {points} points; give one value per point, NaN where there is none."
        )
    if not np.isfinite(values).any():
        raise ConfigurationError(
            "None of the values is finite, so there is nothing to colour by; draw the paths alone."
        )
    return values


def draw_paths_in_time(
    projection: Projection, rows: pd.DataFrame, ax: Axes | None = None
) -> tuple[AnyFigure, Axes]:
    """Draw the paths of two dimensions with the step as the third axis.

    Parameters
    ----------
    projection
        Of two dimensions.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    ax
        Axes of matplotlib's ``"3d"`` projection; None makes a figure.
    """
    coordinates = checked(projection, rows)
    if ax is None:
        figure: AnyFigure = Canvas(figsize=(WIDTH, 0.75 * WIDTH), layout="constrained")
        ax = figure.add_subplot(projection="3d")
    else:
        figure = ax.figure
    paths = paths_of(np.column_stack([coordinates, rows["step"].to_numpy()]), rows)
    for place, (name, path) in enumerate(paths.items()):
        colour = PALETTE[place % len(PALETTE)]
        # The same path on the floor, faint, as a map.
        ax.plot(
            path[:, 0], path[:, 1], np.full(len(path), rows["step"].min()), color=colour, lw=0.8, alpha=0.35
        )
        ax.plot(*path.T, color=colour, linewidth=1.4, label=_name(name))
        ax.plot(*path[-1:].T, color=colour, marker="*", markersize=8)
    for axis, text in (("x", projection.axis_labels[0]), ("y", projection.axis_labels[1]), ("z", "step")):
        getattr(ax, f"set_{axis}label")(text, fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=TEXT - 1.5, colors=INK)
    for axis_object in (ax.xaxis, ax.yaxis, ax.zaxis):  # type: ignore[attr-defined]
        axis_object.set_major_locator(MaxNLocator(nbins=4))
        axis_object.pane.set_facecolor("white")
    ax.set_box_aspect((1, 1, 0.8), zoom=0.88)  # type: ignore[arg-type, call-arg]
    if 1 < len(paths) <= len(PALETTE):
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.01),
            ncols=min(5, len(paths)),
            frameon=False,
            fontsize=TEXT,
        )
    return figure, ax


def draw_return_map(
    projection: Projection, rows: pd.DataFrame, ax: Sequence[Axes] | None = None
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw each coordinate against itself one snapshot before.

    On the diagonal nothing moves; a path that converges walks along it to a point, one that swings crosses it.

    Parameters
    ----------
    projection
        Of any number of dimensions d.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    ax
        d axes; None makes a figure.
    """
    dimensions = projection.coordinates.shape[1]
    if ax is None:
        made = Canvas(figsize=(WIDTH, 0.5 + WIDTH / max(2, dimensions)), layout="constrained")
        ax = list(made.subplots(1, dimensions, squeeze=False)[0])
    handles: list[Any] = []
    for axis, panel in enumerate(ax):
        found = paths_of(projection.coordinates[:, [axis]], rows)
        low, high = projection.coordinates[:, axis].min(), projection.coordinates[:, axis].max()
        room = 0.05 * (high - low or 1.0)
        panel.plot(
            [low - room, high + room], [low - room, high + room], color="0.75", linewidth=1.0, zorder=1
        )
        for place, (name, path) in enumerate(found.items()):
            colour = PALETTE[place % len(PALETTE)]
            line = panel.plot(
                path[:-1, 0],
                path[1:, 0],
                color=colour,
                linewidth=0.7,
                marker="o",
                markersize=2.8,
                markeredgewidth=0,
                alpha=0.85,
                label=_name(name),
            )[0]
            panel.plot(
                path[-2:-1, 0], path[-1:, 0], color=colour, marker="*", markersize=9, markeredgecolor=PAPER
            )
            if axis == 0:
                handles.append(line)
        panel.set_xlim(low - room, high + room)
        panel.set_ylim(low - room, high + room)
        panel.set_aspect("equal")
        label = projection.axis_labels[axis]
        dress(panel, x=f"{label}, one snapshot before", y=label)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5))
        panel.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if 1 < len(handles) <= len(PALETTE):
        legend(ax[0], handles, ends=False)
    return ax[0].figure, ax


def draw_parts(
    span: SnapshotSpan,
    parts: Mapping[str, SnapshotSpan],
    projector: Any,
    ax: Sequence[Axes] | None = None,
    *,
    seed: int = 0,
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw the paths of parts of the network side by side, each in a map of its own, coloured by the step.

    Parameters
    ----------
    span
        The whole network; its map comes first.
    parts
        Spans of parts by name: ``{"layer 1": span.part("layer1"), "hidden": span.average("layer[2-4]")}``.
    projector
        Fitted to each; of two dimensions.
    ax
        ``len(parts) + 1`` axes; None makes a figure.
    seed
        Of the generator that each fit draws from.
    """
    import torch

    projections = {
        name: projector.fit(one, torch.Generator().manual_seed(seed))
        for name, one in {"whole network": span, **parts}.items()
    }
    return draw_panels(projections, span.rows, ax=ax)


def draw_panels(
    projections: Mapping[str, Projection],
    rows: pd.DataFrame,
    values: np.ndarray | None = None,
    ax: Sequence[Axes] | None = None,
    *,
    label: str = "step",
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw the same snapshots in several maps side by side, in colours that all of them share.

    Parameters
    ----------
    projections
        Of two dimensions, by name.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    values
        One per snapshot, such as scores; NaN leaves a snapshot grey. None: the steps.
    ax
        As many axes as projections; None makes a figure.
    label
        What the values are.
    """
    if ax is None:
        columns = min(3, len(projections))
        lines = -(-len(projections) // columns)
        made = Canvas(figsize=(WIDTH * 1.15, lines * (0.95 * WIDTH / columns) + 0.7), layout="constrained")
        panels = list(made.subplots(lines, columns, squeeze=False).ravel())
        for unused in panels[len(projections) :]:
            unused.set_axis_off()
        ax = panels[: len(projections)]
    values = (
        rows["step"].to_numpy(dtype=np.float64) if values is None else np.asarray(values, dtype=np.float64)
    )
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1.0)
    colours = colormaps["viridis"].with_extremes(bad="0.6")
    mappable: Any = None
    for panel, (name, projection) in zip(ax, projections.items(), strict=True):
        coordinates = checked(projection, rows)
        for path in paths_of(np.column_stack([coordinates, values]), rows).values():
            panel.plot(*path[:, :2].T, color="0.8", linewidth=0.8, zorder=1)
            mappable = panel.scatter(
                *path[:, :2].T, c=path[:, 2], norm=norm, cmap=colours, s=9, zorder=2, plotnonfinite=True
            )
            panel.plot(
                *path[0, :2],
                marker="o",
                color=PAPER,
                markersize=4.5,
                markeredgecolor=INK,
                linestyle="none",
                zorder=3,
            )
            panel.plot(*path[-1, :2], marker="*", color=INK, markersize=7, markeredgecolor=PAPER, zorder=3)
        panel.set_aspect("equal", adjustable="datalim")
        dress(panel, title=name, x=projection.axis_labels[0], y=projection.axis_labels[1])
        panel.grid(False)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=4))
        panel.yaxis.set_major_locator(MaxNLocator(nbins=4))
    figure = ax[0].figure
    bar = figure.colorbar(mappable, ax=list(ax), shrink=0.7, pad=0.02)
    bar.set_label(label, fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT - 0.5, colors=INK)
    bar.outline.set_visible(False)
    return figure, ax


# ---------------------------------------------------------------------------------------------------------
# What a picture keeps
# ---------------------------------------------------------------------------------------------------------


def draw_scree(
    span: SnapshotSpan, ax: Axes | None = None, *, most: int = 20, reference: np.ndarray | None = None
) -> tuple[AnyFigure, Axes]:
    """Draw the share of the snapshots' variance along each principal component, and their sum.

    Parameters
    ----------
    span
        The snapshots.
    ax
        Axes to draw into; None makes a figure.
    most
        How many components to draw.
    reference
        Shares of something to compare with, drawn as dashed sums and ticks: of random walks from
        :func:`~landscape_projectors.random_walks.shares_of_random_walks`. None draws none.
    """
    figure, ax = canvas(ax, 0.5, bar=False)
    share = 100 * span.variance_ratio
    shown = min(most, len(share))
    order = np.arange(1, shown + 1)
    bars = ax.bar(order, share[:shown], color=PALETTE[5], width=0.75, label="each component", zorder=2)
    (line,) = ax.plot(
        order,
        np.cumsum(share)[:shown],
        color=PALETTE[0],
        marker="o",
        markersize=3.5,
        label="up to it",
        zorder=3,
    )
    handles: list[Any] = [bars, line]
    if reference is not None:
        walks = 100 * np.concatenate([reference, np.zeros(max(0, shown - len(reference)))])[:shown]
        ax.plot(
            order, walks, linestyle="none", marker="_", markersize=9, markeredgewidth=1.4, color=INK, zorder=4
        )
        handles += ax.plot(
            order,
            np.cumsum(walks),
            color=INK,
            linestyle=(0, (3, 1.5)),
            linewidth=1.1,
            marker="_",
            markersize=6,
            label="random walks",
            zorder=3.5,
        )
    dress(ax, x="principal component", y="share of the variance (%)")
    ax.set_ylim(0, 104)
    ax.set_xlim(0.3, shown + 0.7)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax, handles, ends=False)
    return figure, ax


def draw_distances(span: SnapshotSpan, ax: Axes | None = None) -> tuple[AnyFigure, Axes]:
    """Draw the distances between all snapshots, exactly: no projection is involved.

    Rows and columns are snapshots, network by network and in each by step. Dark squares on the diagonal are phases in
    which a network hardly moves; dark blocks beside it are networks that come near each other.
    """
    figure, ax = canvas(ax, 0.85)
    names = span.rows["worker"].astype(str).to_numpy()
    steps = span.rows["step"].to_numpy()
    workers = sorted(set(names), key=order_of)
    order = np.concatenate(
        [np.flatnonzero(names == w)[np.argsort(steps[names == w], kind="stable")] for w in workers]
    )
    points = np.asarray(span.coordinates)[order]
    distances = cdist(points, points)
    norm = Normalize(0.0, float(distances.max()) or 1.0)
    image = ax.imshow(distances, norm=norm, cmap="cividis", interpolation="nearest", origin="upper")
    colour_bar(figure, ax, image, norm, "distance between weight vectors")
    ends = np.cumsum([int(np.sum(names == w)) for w in workers])
    for end in ends[:-1]:
        ax.axhline(end - 0.5, color=PAPER, linewidth=1.0)
        ax.axvline(end - 0.5, color=PAPER, linewidth=1.0)
    middles = ends - 0.5 * np.diff(np.concatenate([[0], ends])) - 0.5
    dress(ax)
    ax.grid(False)
    if len(workers) > 1:
        ax.set_xticks(middles, [_name(w) for w in workers], rotation=0 if len(workers) <= 4 else 45)
        ax.set_yticks(middles, [_name(w) for w in workers])
    else:
        at = np.unique(np.linspace(0, len(order) - 1, 5).round().astype(int))
        shown = [str(value) for value in steps[order][at]]
        ax.set_xticks(at, shown)
        ax.set_yticks(at, shown)
        dress(ax, x="step", y="step")
        ax.grid(False)
    return figure, ax


#: Pairs of snapshots in a Shepard's diagram; more make one black cloud.
PAIRS = 3000


def draw_quality(
    projection: Projection,
    span: SnapshotSpan,
    ax: Sequence[Axes] | None = None,
    *,
    titles: tuple[str, str] = ("a", "b"),
    key: bool = True,
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw what a picture does to distances, and how far each snapshot is from where the picture leads back to.

    (a) Shepard's diagram: the distance of pairs of snapshots in the picture against the true one. For a map that keeps
    distances the points lie on the line through the origin; for an orthogonal projection none lies above it. (b)
    Distance between a snapshot and the point that the picture leads back to, over its distance from the mean, against
    the step; only for maps with an inverse.

    Parameters
    ----------
    projection
        Of any number of dimensions.
    span
        What it was fitted on.
    ax
        Two axes; None makes a figure.
    titles
        Of the two panels.
    key
        Whether to put a legend under the second.
    """
    if ax is None:
        made = Canvas(figsize=(WIDTH, 0.46 * WIDTH), layout="constrained")
        ax = list(made.subplots(1, 2))
    left, right = ax
    points = np.asarray(span.coordinates)
    true, drawn = pdist(points), pdist(projection.coordinates)
    chosen = np.linspace(0, len(true) - 1, min(PAIRS, len(true))).round().astype(int)
    left.plot(
        true[chosen], drawn[chosen], linestyle="none", marker="o", markersize=1.8, markeredgewidth=0,
        alpha=0.35, color=PALETTE[0], rasterized=True,
    )  # fmt: skip
    same_unit = isinstance(projection, InvertibleProjection) and projection.axis_labels[0].startswith("PC")
    if same_unit:
        left.plot([0, true.max()], [0, true.max()], color="0.6", linewidth=1.0, zorder=1)
    left.set_xlim(0)
    left.set_ylim(0)
    dress(left, x="true distance", y="distance in the picture")
    quality = projection.quality
    correlation = float(np.corrcoef(true, drawn)[0, 1])
    lines = [f"correlation {correlation:.3f}"]
    names = ("trustworthiness", "continuity", "quantisation_error", "topographic_error", "inverse_error")
    lines += [f"{name.replace('_', ' ')} {quality[name]:.3f}" for name in names if name in quality]
    if "loss_mismatch" in quality:
        lines.append(f"loss off by a factor of {10 ** quality['loss_mismatch']:.3g}")
    # Above the points, which may be anywhere.
    told = [", ".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
    room = 6 + 1.35 * (TEXT - 1.5) * len(told)
    left.set_title(titles[0], fontsize=TEXT + 0.5, color=INK, loc="left", pad=room)
    words = left.text(
        0.0,
        1.02,
        "\n".join(told),
        transform=left.transAxes,
        ha="left",
        va="bottom",
        fontsize=TEXT - 1.5,
        color=INK,
    )
    words.set_in_layout(
        False
    )  # its height is in the title's distance, and its width is not to widen the panel
    missed = _missed(projection, points)
    if missed is None:
        right.text(
            0.5, 0.5, "no way back to weights", transform=right.transAxes, ha="center", va="center", fontsize=TEXT,
            color=INK,
        )  # fmt: skip
        right.set_axis_off()
        return left.figure, ax
    paths = paths_of(np.column_stack([span.rows["step"].to_numpy(), missed]), span.rows)
    styles = worker_styles(list(paths))
    for name, path in paths.items():
        right.plot(*path.T, label=_name(name), **styles[name].keywords())
    right.set_ylim(0)
    dress(right, title=titles[1], x="step", y="off picture / off mean")
    if key and 1 < len(paths) <= len(PALETTE):
        legend(right, right.get_lines(), ends=False, columns=3)
    return left.figure, ax


def _missed(projection: Projection, points: np.ndarray) -> np.ndarray | None:
    """Return |w - restored| / |w - mean| of each snapshot, or None without a way back in the span."""
    away = np.linalg.norm(points - points.mean(axis=0), axis=1)
    away = np.where(away > 1e-12 * away.max(), away, np.nan)
    if isinstance(projection, InvertibleProjection):
        return np.asarray(np.linalg.norm(points - projection.inverse(projection.coordinates), axis=1) / away)
    if isinstance(projection, PlaneProjection):
        gram = projection.directions @ projection.directions.T
        z = projection.coordinates
        origin = int(np.argmin(np.linalg.norm(z, axis=1)))
        squares = np.sum((points - points[origin]) ** 2, axis=1) - np.einsum("ti,ij,tj->t", z, gram, z)
        return np.asarray(np.sqrt(np.maximum(0.0, squares)) / away)
    return None


# ---------------------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------------------


def draw_score_bands(
    metrics: pd.DataFrame,
    column: str,
    group: str,
    ax: Axes | None = None,
    *,
    label: str | None = None,
) -> tuple[AnyFigure, Axes]:
    """Draw the mean of a quantity by step for groups of networks, with a band of 95 % confidence.

    The band is the mean plus and minus t standard errors, t being that quantile of Student's distribution for the
    number of networks in the group that makes it one of 95 %. A group of one network has none.

    Parameters
    ----------
    metrics
        Rows with ``step``, `column` and `group`.
    column
        What is drawn, such as ``"score"``.
    group
        What tells groups apart, such as ``"initialisation"``.
    ax
        Axes to draw into; None makes a figure.
    label
        Of the vertical axis; by default the name of the column.
    """
    from scipy.stats import t as student

    figure, ax = canvas(ax, 0.55, bar=False)
    handles: list[Any] = []
    groups = list(dict.fromkeys(metrics[group]))
    for place, name in enumerate(groups):
        rows = metrics[metrics[group] == name].dropna(subset=[column])
        by_step = rows.groupby("step")[column].agg(["mean", "sem", "count"])
        colour = PALETTE[place % len(PALETTE)]
        (line,) = ax.plot(by_step.index, by_step["mean"], color=colour, linewidth=1.6, zorder=3)
        most = int(by_step["count"].max())
        line.set_label(f"{name} ({most} network{'' if most == 1 else 's'})")
        handles.append(line)
        several = by_step["count"] > 1
        if several.any():
            some = by_step[several]
            half = some["sem"] * student.ppf(0.975, some["count"] - 1)
            ax.fill_between(
                some.index,
                some["mean"] - half,
                some["mean"] + half,
                color=colour,
                alpha=0.2,
                linewidth=0,
                zorder=2,
            )
    dress(ax, x="step", y=label or column.replace("_", " "))
    legend(ax, handles, ends=False)
    return figure, ax


def draw_training(
    runs: Mapping[str, pd.DataFrame], ax: Sequence[Axes] | None = None
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw loss and gradient norm by step, several models in one picture.

    Parameters
    ----------
    runs
        The metrics of each run by name, with the columns ``step``, ``loss`` and ``gradient_norm``. Of several workers
        the mean is drawn.
    ax
        Two axes; None makes a figure.
    """
    if ax is None:
        made = Canvas(figsize=(WIDTH, 0.9 * WIDTH), layout="constrained")
        ax = list(made.subplots(2, 1, sharex=True))
    handles: list[Any] = []
    for panel, column, label in (
        (ax[0], "loss", "loss L"),
        (ax[1], "gradient_norm", "gradient norm ‖∇L‖"),
    ):
        everything: list[float] = []
        for place, (name, metrics) in enumerate(runs.items()):
            found = metrics.dropna(subset=[column]).groupby("step")[column].mean()
            everything += found.tolist()
            (line,) = panel.plot(
                found.index,
                found.to_numpy(),
                color=PALETTE[place % len(PALETTE)],
                linestyle=_STYLES[place // len(PALETTE) % len(_STYLES)],
                linewidth=1.3,
                label=name,
            )
            if panel is ax[0]:
                handles.append(line)
        scale(panel, everything)
        dress(panel, y=label)
    dress(ax[1], x="step")
    legend(ax[1], handles, ends=False)
    return ax[0].figure, ax


def draw_loss_line(line: LossLine, ax: Axes | None = None) -> tuple[AnyFigure, Axes]:
    """Draw the loss between two points and beyond, and the score on a second axis where there is one.

    Parameters
    ----------
    line
        From :func:`landscape_projectors.surfaces.loss_line`.
    ax
        Axes to draw into; None makes a figure.
    """
    figure, ax = canvas(ax, 0.5, bar=False)
    (curve,) = ax.plot(line.position, line.loss, color=PALETTE[0], linewidth=1.6, label="loss")
    handles: list[Any] = [curve]
    scale(ax, line.loss.tolist())
    for end in (0.0, 1.0):
        ax.axvline(end, color="0.7", linewidth=0.9, zorder=1)
    dress(ax, x="position (0: first point, 1: second)", y="loss")
    if line.score is not None:
        other = ax.twinx()
        (second,) = other.plot(line.position, line.score, color=PALETTE[1], linewidth=1.4, linestyle="--")
        second.set_label("score")
        handles.append(second)
        dress(other, y="score")
        other.grid(False)
        other.spines["right"].set_visible(True)
    legend(ax, handles, ends=False)
    return figure, ax


# ---------------------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------------------


def draw_heat_map(
    coordinates: np.ndarray,
    values: np.ndarray,
    ax: Axes | None = None,
    *,
    statistic: Literal["max", "mean", "min"] = "max",
    resolution: int = 30,
    labels: tuple[str, str] = ("x", "y"),
    label: str = "score",
    colours: Colormap | str = "viridis",
) -> tuple[AnyFigure, Axes]:
    """Draw values over a map of weight space, one per cell; cells without a point stay empty.

    Parameters
    ----------
    coordinates
        Shape (T, 2); the axes of the picture are theirs.
    values
        Shape (T,).
    ax
        Axes to draw into; None makes a figure.
    statistic
        What a cell shows of the values in it.
    resolution
        Cells along each side. Points on a lattice of no more columns, or rows, are each in the middle of a cell.
    labels
        Of the axes.
    label
        What the values are.
    colours
        A colour map or its name.
    """
    if statistic not in ("max", "mean", "min"):
        raise ConfigurationError(f"statistic={statistic!r} is not possible; give 'max', 'mean' or 'min'.")
    values = measured(values, len(coordinates))
    figure, ax = canvas(ax, 0.85)
    edges = [_edges(column, resolution) for column in coordinates.T]
    cell = [
        np.clip(np.searchsorted(edges[axis], coordinates[:, axis], side="right") - 1, 0, len(edges[axis]) - 2)
        for axis in (0, 1)
    ]
    frame = pd.DataFrame({"row": cell[1], "column": cell[0], "value": values})
    found = frame.dropna().groupby(["row", "column"])["value"].agg(statistic)
    grid = np.full((len(edges[1]) - 1, len(edges[0]) - 1), np.nan)
    grid[found.index.get_level_values(0), found.index.get_level_values(1)] = found.to_numpy()
    finite = grid[np.isfinite(grid)]
    norm = Normalize(
        *((finite.min(), finite.max()) if np.ptp(finite) else (finite[0] - 0.5, finite[0] + 0.5))
    )
    mesh = ax.pcolormesh(edges[0], edges[1], np.ma.masked_invalid(grid), norm=norm, cmap=colours, zorder=1)
    words = {"max": "largest", "mean": "mean", "min": "smallest"}
    alone = len(found) == len(frame.dropna())
    colour_bar(figure, ax, mesh, norm, label if alone else f"{words[statistic]} {label} in the cell")
    dress(ax, x=labels[0], y=labels[1])
    ax.grid(False)
    return figure, ax


def _edges(values: np.ndarray, resolution: int) -> np.ndarray:
    """Return the edges of cells that hold all values, around each value where they are evenly spaced and few."""
    different = np.unique(values)
    low, high = float(different[0]), float(different[-1])
    if len(different) == 1:
        return np.array([low - 0.5, low + 0.5])
    steps = np.diff(different)
    if len(different) <= resolution and np.allclose(steps, steps[0], rtol=1e-9, atol=0):
        half = 0.5 * float(steps[0])
        return np.concatenate([different - half, [high + half]])
    return np.linspace(low, high, resolution + 1)


def draw_hits(
    projection: SOMProjection,
    winners: np.ndarray,
    values: np.ndarray | None = None,
    ax: Axes | None = None,
    *,
    label: str = "score",
    colours: Colormap | str | None = None,
) -> tuple[AnyFigure, Axes]:
    """Draw the cells of a self-organising map by the snapshots that they are nearest to.

    Parameters
    ----------
    projection
        The map.
    winners
        The node nearest to each snapshot, shape (T,).
    values
        One per snapshot, such as scores: cells show the mean of theirs. None: cells show how many snapshots they have.
    ax
        Axes to draw into; None makes a figure.
    label
        What the values are.
    colours
        A colour map or its name; None: one for values and another for numbers of snapshots.
    """
    lattice = projection.lattice
    width, height = np.ptp(lattice.positions, axis=0) + 1.6
    figure, ax = canvas(ax, float(height / width))
    hits = np.bincount(winners, minlength=len(lattice.positions)).astype(np.float64)
    if values is None:
        shown = np.where(hits > 0, hits, np.nan)
        text = "snapshots nearest to the cell"
        most = float(hits.max())
        norm: Normalize = Normalize(0.0, most)
    else:
        values = measured(values, len(winners))
        sums = np.bincount(winners, weights=values, minlength=len(hits))
        shown = np.where(hits > 0, sums / np.maximum(hits, 1), np.nan)
        text = f"mean {label} of the snapshots nearest to the cell"
        low, high = np.nanmin(shown), np.nanmax(shown)
        norm = Normalize(low, high if high > low else low + 1.0)
    empty = ~np.isfinite(shown)
    cells = lattice.cells()
    ax.add_collection(
        PolyCollection(list(cells[empty]), facecolor="#f1f2f4", edgecolor=PAPER, linewidth=0.6, zorder=1)
    )
    filled = PolyCollection(
        list(cells[~empty]),
        array=shown[~empty],
        norm=norm,
        cmap=colours or ("viridis" if values is not None else "cividis"),
        edgecolor=PAPER,
        linewidth=0.6,
        zorder=2,
    )
    ax.add_collection(filled)
    colour_bar(figure, ax, filled, norm, text, whole=values is None)
    low_corner, high_corner = lattice.positions.min(axis=0) - 0.8, lattice.positions.max(axis=0) + 0.8
    ax.set_xlim(low_corner[0], high_corner[0])
    ax.set_ylim(low_corner[1], high_corner[1])
    ax.set_aspect("equal")
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    legend(ax, [Patch(facecolor="#f1f2f4", label="nearest to no snapshot")], ends=False)
    return figure, ax


def draw_persistence(
    loss: np.ndarray, ax: Axes | None = None, *, threshold: float = 0.0
) -> tuple[AnyFigure, Axes]:
    """Draw the merge tree of a grid of losses: where basins begin, and how high the way out of each is.

    A vertical line is a basin, from the loss of its minimum to that of the saddle where it joins a deeper one, to which
    the horizontal line leads. The deepest one reaches to the top.

    Parameters
    ----------
    loss
        Shape (Y, X).
    ax
        Axes to draw into; None makes a figure.
    threshold
        Basins of less persistence are ripples of the grid and left out.
    """
    figure, ax = canvas(ax, 0.6, bar=False)
    finite = loss[np.isfinite(loss)]
    top = float(finite.max())
    tree = merge_tree(loss)
    kept = [i for i, basin in enumerate(tree) if basin.parent is None or basin.persistence >= threshold]
    # A basin may have joined a ripple that is left out: look for the next one that is drawn.
    parents = {}
    for i in kept:
        parent = tree[i].parent
        while parent is not None and parent not in kept:
            parent = tree[parent].parent
        parents[i] = parent
    # Children beside their parent, those that join early closest to it.
    place: dict[int, float] = {}
    counter = 0

    def lay(i: int) -> None:
        nonlocal counter
        place[i] = counter
        counter += 1
        for child in sorted((j for j in kept if parents[j] == i), key=lambda j: tree[j].death):
            lay(child)

    for i in kept:
        if parents[i] is None:
            lay(i)
    for i in kept:
        basin = tree[i]
        end = min(basin.death, top)
        ax.plot([place[i]] * 2, [basin.birth, end], color=PALETTE[0], linewidth=2.0, solid_capstyle="butt")
        ax.plot(place[i], basin.birth, marker="o", color=PALETTE[0], markersize=4)
        parent = parents[i]
        if parent is not None:
            ax.plot([place[parent], place[i]], [end, end], color="0.55", linewidth=0.9, zorder=1)
    scale(ax, [value for i in kept for value in (tree[i].birth, min(tree[i].death, top))])
    dress(ax, x="basins", y="loss")
    ax.set_xlim(-0.6, max(counter - 0.4, 0.6))
    ax.set_xticks([])
    left_out = len(tree) - len(kept)
    note = f"{len(kept)} basin{'' if len(kept) == 1 else 's'}"
    note += f", {left_out} of persistence below {threshold:.2g} left out" if left_out else ""
    ax.set_title(note, fontsize=TEXT, color=INK, loc="left")
    return figure, ax
