"""Maps of weight paths: where the points went, drawn over the true loss.

Every function that draws takes the axes to draw into, or makes a figure of its own, and returns
``(figure, axes)``. None of them shows or saves anything, and none touches matplotlib's global state.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from attrs import evolve
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import Normal, Stroke
from matplotlib.transforms import Affine2D
from scipy.spatial import cKDTree

from landscape.errors import ConfigurationError
from landscape.interfaces import Figure, InvertibleProjection, LandscapeProjector, Projection, Projector
from landscape.plugins import PluginWarning
from landscape.randomness import torch_generator
from landscape.report.style import PALETTE, WIDTH, dress, order_of, worker_styles
from landscape.store import SnapshotSpan
from landscape_projectors._style import INK, LOSS, PAPER, TEXT, canvas, colour_bar, legend, norm_of, paths_of
from landscape_projectors.composite import (
    Chain,
    ChainProjection,
    FitOn,
    InvertibleChainProjection,
    InvertibleSubspaceProjection,
    Part,
    SubspaceProjection,
)
from landscape_projectors.pca import PCAProjection
from landscape_projectors.pictures import (
    PAIRS,
    checked,
    draw_distances,
    draw_heat_map,
    draw_hits,
    draw_panels,
    draw_quality,
    draw_score_bands,
    draw_scored_paths,
    draw_scree,
)
from landscape_projectors.planes import PlaneProjection, SpannedPlaneProjection
from landscape_projectors.random_walks import random_walk_path, shares_of_random_walks
from landscape_projectors.som import SOMProjection
from landscape_projectors.starts import Ranked
from landscape_projectors.surfaces import (
    LossGrid,
    leads_back,
    loss_at,
    loss_grid,
    loss_label,
    losses_shown_and_true,
    mismatch_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.figure import SubFigure

    from landscape.composition import Run
    from landscape.objective import Landscape

    AnyFigure = MatplotlibFigure | SubFigure

__all__ = [
    "LossGrid",
    "draw_coordinates",
    "draw_map",
    "draw_path_over_loss",
    "draw_paths",
    "draw_random_walk",
    "draw_u_matrix",
    "figures",
    "loss_at",
    "loss_grid",
    "spacing",
]

#: Cells between consecutive snapshots from which on a path on a self-organising map is said to leap: the
#: cells in between, two or more, belong to other regions of weight space.
JUMP = 3.0

#: Of workers too many to be told apart; the curves' pale blue would drown in the background.
_MANY = _DOTS = PALETTE[1]
#: An arrow head that points right, longer than wide, so that nobody takes it for another direction.
_HEAD = Path([(1.0, 0.0), (-0.9, 0.62), (-0.5, 0.0), (-0.9, -0.62), (1.0, 0.0)], closed=True)
#: Lines over what is far from every snapshot: thin, so that the loss under them is still seen.
#: Scores under paths: greys like those of losses, the lightest of which could be taken for paper.
_SCORES = LinearSegmentedColormap.from_list("landscape_scores", ["#dde1e6", "#9aa3ae", "#4a5561"])
_FAR: dict[str, Any] = {"colors": INK, "linewidths": 0.45, "alpha": 0.6}
_HATCHED: dict[str, Any] = {"facecolor": PAPER, "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
# ---------------------------------------------------------------------------------------------------------
# Colours of losses
# ---------------------------------------------------------------------------------------------------------


def _levels(norm: Normalize, count: int = 15) -> np.ndarray:
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    levels = np.geomspace(low, high, count) if isinstance(norm, LogNorm) else np.linspace(low, high, count)
    levels[0], levels[-1] = low, high  # not a rounding inside, which would leave the extremes blank
    return np.asarray(levels)


# ---------------------------------------------------------------------------------------------------------
# Paths
# ---------------------------------------------------------------------------------------------------------


def draw_paths(
    coordinates: np.ndarray,
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    jump: float = np.inf,
    key: bool = True,
    groups: Mapping[str, str] | None = None,
) -> tuple[AnyFigure, Axes]:
    """Draw the path of every worker, in the order of its steps.

    A ring marks where a path starts, a star where it ends, arrow heads its direction. Workers have the
    colours that they have in the curves of the report; labelled points such as the centre of a coupling are
    drawn broad and black, under the workers, so that workers close to it are seen on it. More workers than
    can be told apart share one colour.

    Parameters
    ----------
    coordinates
        Shape (T, 2).
    rows
        The columns ``step`` and ``worker`` of the snapshots, T rows.
    ax
        Axes to draw into; None makes a figure.
    jump
        Consecutive snapshots farther apart than this are joined by a thin dotted line: the path was not
        where the line is drawn.
    key
        Whether to put a legend under the axes.
    groups
        The group of every worker, by its name: workers of a group have one colour, and the legend names groups.

    Raises
    ------
    landscape.errors.ConfigurationError
        If a worker has no group.
    """
    figure, ax = canvas(ax, 0.8, bar=False)
    paths = paths_of(coordinates, rows)
    workers = [name for name in paths if name.isdecimal()]
    styles = worker_styles(list(paths))
    many = groups is not None or len({styles[name].color for name in workers}) < len(workers)
    alone = [] if groups is None else [name for name in workers if name not in groups]
    if alone:
        raise ConfigurationError(f"groups says nothing of the workers {', '.join(alone)}; give each a group.")
    kinds = dict.fromkeys(workers, "") if groups is None else {name: groups[name] for name in workers}
    colours = dict(zip(dict.fromkeys(kinds.values()), [_MANY] if groups is None else PALETTE, strict=False))
    first = {workers[list(kinds.values()).index(kind)] for kind in set(kinds.values())}
    extent = float(np.ptp(coordinates, axis=0).max()) or 1.0
    handles: list[Line2D] = []
    for place, (name, path) in enumerate(paths.items()):
        numbered = name in workers
        colour = colours[kinds[name]] if many and numbered else styles[name].color
        width = 0.8 if many and numbered else 1.2 if numbered else 3.0
        above = (4.0 if numbered else 3.0) + 0.9 * place / len(paths)
        leaps = np.flatnonzero(np.linalg.norm(np.diff(path, axis=0), axis=1) > jump)
        for leap in leaps:
            ax.plot(*path[leap : leap + 2].T, color=colour, linestyle=":", linewidth=1.2, zorder=2.5)
        broken = np.insert(path, leaps + 1, np.nan, axis=0)  # a line breaks at NaN
        (line,) = ax.plot(
            broken[:, 0],
            broken[:, 1],
            color=colour,
            linewidth=width,
            solid_joinstyle="round",
            solid_capstyle="round",
            path_effects=[Stroke(linewidth=width + 1.0, foreground=PAPER), Normal()],
            zorder=above,
        )
        if not many or not numbered:
            line.set_label(f"worker {name}" if numbered else name)
            handles.append(line)
        elif name in first:
            count = sum(kind == kinds[name] for kind in kinds.values())
            line.set_label(f"{kinds[name]} ({count})" if kinds[name] else f"{count} workers")
            handles.append(line)
        _arrow_heads(ax, path, leaps, colour, 7.0 + 1.5 * width, extent, above)
        mark: dict[str, Any] = {"color": colour, "markeredgecolor": PAPER, "markeredgewidth": 0.8}
        ring: dict[str, Any] = {"color": PAPER, "markeredgecolor": colour, "markeredgewidth": 1.3}
        ax.plot(*path[0], marker="o", markersize=4 if numbered else 7, zorder=2 + above, **ring)
        ax.plot(*path[-1], marker="*", markersize=8 if numbered else 15, zorder=4 + above, **mark)
    ax.set_aspect("equal")  # the projection's lengths mean the same along both axes
    dress(ax)
    ax.grid(False)
    if key:
        legend(ax, handles)
    return figure, ax


def _arrow_heads(
    ax: Axes, path: np.ndarray, leaps: np.ndarray, colour: str, size: float, extent: float, above: float
) -> None:
    """Put arrow heads at a quarter, a half and three quarters of the way, as the path first gets there.

    The way is the distance from the start, not the length of the path: late in training a path shakes on
    the spot, and heads at equal lengths would all lie there, pointing anywhere. A path that leaps about has
    no such distance; its way is its length without the leaps.
    """
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    if len(leaps):
        lengths[leaps] = 0.0
        way = np.concatenate([[0.0], np.cumsum(lengths)])
    else:
        way = np.maximum.accumulate(np.linalg.norm(path - path[0], axis=1))
    if way[-1] < 0.05 * extent:
        return
    for share in (0.25, 0.5, 0.75):
        target = share * way[-1]
        reached = int(np.argmax(way >= target))
        before, after = path[reached - 1], path[reached]
        tip = before + (target - way[reached - 1]) / (way[reached] - way[reached - 1]) * (after - before)
        direction = (after - before) / np.linalg.norm(after - before)
        # The axes have equal scales, so angles in the data are angles on paper.
        turn = Affine2D().rotate(float(np.arctan2(direction[1], direction[0])))
        ax.plot(
            *tip,
            marker=MarkerStyle(_HEAD, transform=turn),
            markersize=size,
            color=colour,
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
            zorder=above,
        )


# ---------------------------------------------------------------------------------------------------------
# Maps
# ---------------------------------------------------------------------------------------------------------


def draw_path_over_loss(
    projection: Projection,
    rows: pd.DataFrame,
    grid: LossGrid | None = None,
    ax: Axes | None = None,
    *,
    reach: float = np.inf,
    groups: Mapping[str, str] | None = None,
) -> tuple[AnyFigure, Axes]:
    """Draw the paths in two dimensions, over contours of the true loss.

    Contours are spaced evenly in the logarithm of the loss where it is positive everywhere. Where it is not
    finite, the background is hatched and the legend says so.

    Parameters
    ----------
    projection
        Of two dimensions.
    rows
        The columns ``step`` and ``worker`` of the snapshots, in the order of ``projection.coordinates``:
        ``span.rows``.
    grid
        The background, from :func:`loss_grid`; None draws the paths alone.
    ax
        Axes to draw into; None makes a figure.
    reach
        What is farther than this from every snapshot is hatched: a curved map knows little of the weights there.
        :func:`spacing` gives a measure. A plane is the same plane everywhere.
    groups
        See :func:`draw_paths`.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the projection does not have two dimensions, or `rows` has another length.
    """
    coordinates = checked(projection, rows)
    ratio = 0.8 if grid is None else float(np.ptp(grid.y) / np.ptp(grid.x))
    figure, ax = canvas(ax, ratio, bar=grid is not None)
    extra: list[Any] = []
    if grid is not None:
        norm = norm_of(grid.loss)
        extra += _hatch_where_not_finite(ax, grid.loss, (grid.x[0], grid.x[-1]), (grid.y[0], grid.y[-1]))
        loss = np.ma.masked_invalid(grid.loss)
        if loss.count():
            levels = _levels(norm)
            filled = ax.contourf(grid.x, grid.y, loss, levels=levels, norm=norm, cmap=LOSS, zorder=1)
            ax.contour(
                grid.x, grid.y, loss, levels=levels, colors="white", linewidths=0.5, alpha=0.7, zorder=1.1
            )
            colour_bar(figure, ax, filled, norm, grid.label)
        extra += _surround(ax, grid, coordinates, reach)
        ax.set_xlim(grid.x[0], grid.x[-1])
        ax.set_ylim(grid.y[0], grid.y[-1])
    draw_paths(coordinates, rows, ax, key=False, groups=groups)
    _finish(ax, projection, extra)
    return figure, ax


def draw_random_walk(projection: PCAProjection, ax: Axes) -> tuple[AnyFigure, Axes]:
    """Draw where principal components have a random walk of as many snapshots and as much variance.

    A dashed grey curve, the first component half a period of a cosine and the second a whole one, for comparison with
    a path of one worker: Antognini and Sohl-Dickstein (2018).

    Parameters
    ----------
    projection
        Of two dimensions, fitted to one path.
    ax
        The axes in which the path is drawn.
    """
    coordinates = projection.coordinates
    total = float(np.mean(coordinates[:, 0] ** 2) / projection.explained[0])
    walk = np.sqrt(total) * random_walk_path(len(coordinates))
    # A component and its negative are equally principal: take the one along which the path goes.
    walk *= np.where(np.sum(walk * coordinates, axis=0) < 0, -1.0, 1.0)
    (line,) = ax.plot(
        *walk.T, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="a random walk as long", zorder=2.2
    )
    line.set_path_effects([Stroke(linewidth=2.6, foreground=PAPER), Normal()])
    old = ax.get_legend()
    keys = [] if old is None else list(zip(old.legend_handles, old.get_texts(), strict=True))
    _finish(
        ax,
        projection,
        # Lines are found again in the axes; patches stand for what is drawn in other ways.
        [Patch(**_key_of(key), label=text.get_text()) for key, text in keys if isinstance(key, Patch)],
    )
    return ax.figure, ax


def _key_of(patch: Patch) -> dict[str, Any]:
    return {
        "facecolor": patch.get_facecolor(),
        "edgecolor": patch.get_edgecolor(),
        "hatch": patch.get_hatch(),
    }


def spacing(coordinates: np.ndarray, rows: pd.DataFrame) -> float:
    """Return the longest step between consecutive snapshots of a path in a picture, its coordinates of shape (T, 2)."""
    paths = paths_of(coordinates, rows).values()
    return max(float(np.linalg.norm(np.diff(path, axis=0), axis=1).max(initial=0.0)) for path in paths)


def _surround(ax: Axes, grid: LossGrid, coordinates: np.ndarray, reach: float) -> list[Any]:
    """Hatch what is farther than `reach` from every snapshot; return a key for the legend."""
    # Finer than the losses: a path may pass between two of their points.
    x, y = (np.linspace(axis[0], axis[-1], 4 * len(axis)) for axis in (grid.x, grid.y))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    distance = cKDTree(coordinates).query(points)[0].reshape(len(y), len(x))
    farthest = float(distance.max())
    if not farthest > reach:
        return []
    # Colours of contours would cover the loss, and hatches of matplotlib have one width for all figures: so
    # only the outline is taken from the contour, and lines are drawn into it.
    far = ax.contourf(x, y, distance, levels=[reach, 2 * farthest], colors="none", zorder=1.4)
    width, height = float(np.ptp(grid.x)), float(np.ptp(grid.y))
    starts = np.arange(-height, width, 0.022 * max(width, height))
    lines = [((grid.x[0] + s, grid.y[0]), (grid.x[0] + s + height, grid.y[-1])) for s in starts]
    hatch = LineCollection(lines, **_FAR, zorder=1.4)
    ax.add_collection(hatch, autolim=False)
    hatch.set_clip_path(far.get_paths()[0], transform=ax.transData)
    ax.contour(x, y, distance, levels=[reach], colors=INK, linewidths=0.7, zorder=1.5)
    return [
        Patch(
            facecolor="#dde1e6", edgecolor=INK, linewidth=0.7, hatch="//////", label="far from every snapshot"
        )
    ]


def _finish(ax: Axes, projection: Projection, extra: Sequence[Any]) -> None:
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    legend(ax, [*lines, *extra])


def _hatch_where_not_finite(
    ax: Axes, values: np.ndarray, x: tuple[float, float], y: tuple[float, float]
) -> list[Patch]:
    """Hatch the whole map, for the colours to cover where there are any; return a key for the legend."""
    if np.isfinite(values).all():
        return []
    ax.add_patch(Rectangle((x[0], y[0]), x[1] - x[0], y[1] - y[0], zorder=0.5, **_HATCHED))
    return [Patch(**_HATCHED, label="loss not finite")]


def draw_map(
    projection: SOMProjection,
    rows: pd.DataFrame,
    loss: np.ndarray,
    ax: Axes | None = None,
    *,
    label: str = "loss on the training data",
    groups: Mapping[str, str] | None = None,
) -> tuple[AnyFigure, Axes]:
    """Draw the paths on a self-organising map whose cells show the true loss at their codebook vectors.

    Parameters
    ----------
    projection
        The map.
    rows
        The columns ``step`` and ``worker`` of the snapshots, in the order of ``projection.coordinates``.
    loss
        Losses at the codebook vectors, shape (nodes,): ``loss_at(landscape, span, projection.codebook)``.
    ax
        Axes to draw into; None makes a figure.
    label
        What the colours mean.
    groups
        See :func:`draw_paths`.
    """
    coordinates = checked(projection, rows)
    figure, ax = canvas(ax, _ratio(projection))
    norm = norm_of(loss)
    finite = np.isfinite(loss)
    extra: list[Patch] = []
    if not finite.all():
        ax.add_collection(PolyCollection(list(projection.lattice.cells()[~finite]), zorder=1, **_HATCHED))
        extra.append(Patch(**_HATCHED, label="loss not finite"))
    if finite.any():
        cells = _cells(ax, projection, loss, finite, norm, LOSS)
        colour_bar(figure, ax, cells, norm, label)
    draw_paths(coordinates, rows, ax, jump=JUMP, key=False, groups=groups)
    _frame(ax, projection)
    _finish(ax, projection, extra)
    return figure, ax


def draw_u_matrix(
    projection: SOMProjection, winners: np.ndarray | None = None, ax: Axes | None = None
) -> tuple[AnyFigure, Axes]:
    """Draw how far apart neighbouring cells of a self-organising map lie in weight space: its U-matrix.

    Light regions are close together, dark ridges lie between regions that are far apart.

    Parameters
    ----------
    projection
        The map.
    winners
        The node nearest to each snapshot, shape (T,), from ``projection.winners``; drawn as dots whose area
        is the number of snapshots. None draws none.
    ax
        Axes to draw into; None makes a figure.
    """
    figure, ax = canvas(ax, _ratio(projection))
    values = projection.u_matrix()
    norm = Normalize(0.0, float(values.max()) or 1.0)
    cells = _cells(ax, projection, values, np.ones(len(values), dtype=bool), norm, LOSS)
    colour_bar(figure, ax, cells, norm, "mean distance to the neighbouring cells")
    positions = projection.lattice.positions
    handles: list[Any] = []
    if winners is not None:
        hits = np.bincount(winners, minlength=len(positions))
        most = int(hits.max())
        hit = hits > 0
        scale = 45.0 / most
        x, y = positions[hit].T
        dots: dict[str, Any] = {"color": _DOTS, "edgecolor": PAPER, "linewidth": 0.6}
        ax.scatter(x, y, scale * hits[hit], zorder=2, **dots)
        for count in sorted({1, most}):
            label = f"nearest to {count} snapshot{'' if count == 1 else 's'}"
            handles.append(ax.scatter([], [], scale * count, label=label, **dots))
    _frame(ax, projection)
    ax.set_aspect("equal")
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    if handles:
        legend(ax, handles, ends=False)
    return figure, ax


def _ratio(projection: SOMProjection) -> float:
    width, height = np.ptp(projection.lattice.positions, axis=0) + 1.6
    return float(height / width)


def _cells(
    ax: Axes,
    projection: SOMProjection,
    values: np.ndarray,
    drawn: np.ndarray,
    norm: Normalize,
    colours: Colormap,
) -> PolyCollection:
    cells = PolyCollection(
        list(projection.lattice.cells()[drawn]),
        array=values[drawn],
        norm=norm,
        cmap=colours,
        # The edge has the colour of the cell, or hairlines of paper show between cells.
        edgecolor="face",
        linewidth=0.4,
        zorder=1,
    )
    ax.add_collection(cells)
    return cells


def _frame(ax: Axes, projection: SOMProjection) -> None:
    """Fit the axes to the cells and number rows and columns as the lattice does."""
    lattice = projection.lattice
    low, high = lattice.positions.min(axis=0), lattice.positions.max(axis=0)
    ax.set_xlim(low[0] - 0.8, high[0] + 0.8)
    ax.set_ylim(low[1] - 0.8, high[1] + 0.8)
    columns = np.arange(0, lattice.columns, max(1, lattice.columns // 5))
    rows = np.arange(0, lattice.rows, max(1, lattice.rows // 5))
    ax.set_xticks(columns, [str(column) for column in columns])
    ax.set_yticks(lattice.positions[rows * lattice.columns, 1], [str(row) for row in rows])


def draw_coordinates(
    projection: Projection, rows: pd.DataFrame, ax: Sequence[Axes] | None = None
) -> tuple[AnyFigure, Sequence[Axes]]:
    """Draw each coordinate of a projection against the step, for projections of other than two dimensions.

    Parameters
    ----------
    projection
        Of any number of dimensions d.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    ax
        d axes to draw into; None makes a figure.
    """
    dimensions = projection.coordinates.shape[1]
    if ax is None:
        made = Canvas(figsize=(WIDTH, 0.9 + 1.4 * dimensions), layout="constrained")
        ax = list(made.subplots(dimensions, sharex=True, squeeze=False)[:, 0])
    points = np.column_stack([rows["step"].to_numpy(), projection.coordinates])
    paths = paths_of(points, rows)
    styles = worker_styles(list(paths))
    for axis in range(dimensions):
        for name, path in paths.items():
            label = f"worker {name}" if name.isdecimal() else name
            ax[axis].plot(path[:, 0], path[:, 1 + axis], label=label, **styles[name].keywords())
        dress(ax[axis], y=projection.axis_labels[axis])
    dress(ax[-1], x="step")
    handles = ax[-1].get_lines()
    if len({line.get_color() for line in handles}) == len(handles):
        legend(ax[-1], handles, ends=False)
    return ax[0].figure, ax


# ---------------------------------------------------------------------------------------------------------
# Figures of a run
# ---------------------------------------------------------------------------------------------------------


def figures(run: Run) -> Iterator[Figure]:
    """Yield what the snapshots of an experiment look like; nothing for other runs.

    For every projector its map over the true loss where it leads back to weights, with the same paths coloured by their
    scores where scores were measured; parts of the network side by side; and, once, what all maps do to distances, and,
    without any projection, the variance along principal components and all distances between snapshots. A projector
    that cannot be fitted to the snapshots there are is left out with a warning.
    """
    if run.kind != "experiment" or not run.projectors:
        return
    span = run.span()
    landscape = run.landscape()
    still = _stand_still(span)
    scored = _scores(run, span.rows)
    start = run.experiment.start
    groups = Ranked.groups(run.experiment.walker.workers) if isinstance(start, Ranked) else None
    seen: dict[str, int] = {}
    parts: list[tuple[str, str, SubspaceProjection]] = []
    whole: dict[str, Projection] = {}
    drawn = False
    for projector in run.projectors:
        kind = described(projector)
        stem = f"map-{type(projector).__name__.lower()}"
        seen[stem] = seen.get(stem, 0) + 1
        name = stem + (f"-{seen[stem]}" if seen[stem] > 1 else "")
        try:
            projection = run.project(projector)
        except ConfigurationError as error:
            warnings.warn(f"No map by {kind} in the report: {error}", PluginWarning, stacklevel=2)
            continue
        drawn = True
        plane = projection.coordinates.shape[1] == 2
        if plane and still:
            if scored is not None:
                yield _heat_figure(name, kind, projection, span, *scored)
            continue
        if plane and isinstance(projection, SubspaceProjection):
            parts.append((name, kind, projection))
            continue
        behind = None
        if leads_back(projection):
            behind = losses_shown_and_true(landscape, span, projection)
            quality = {**projection.quality, **mismatch_of(*behind)}
            projection = cast("Projection", evolve(cast("Any", projection), quality=quality))
        lattice = _map_in(projection)
        if lattice is not None and isinstance(projection, InvertibleProjection):
            yield _som_figure(name, kind, projection, lattice, span, landscape, behind, scored, groups)
        elif plane:
            yield _plane_figure(name, kind, projection, span, landscape, behind, scored, groups)
        else:
            canvas, _ = draw_coordinates(projection, span.rows)
            caption = f"Each coordinate of {_who(span.rows)} against the step. {_kept(projection)}"
            yield Figure(name, f"Coordinates: {kind}", caption, canvas, order=20)  # type: ignore[arg-type]
        if not isinstance(projection, SubspaceProjection):
            whole[name if kind in whole else kind] = projection
    if len(parts) >= _SIDE_BY_SIDE:
        yield _parts_figure(parts, span, scored)
    else:
        for name, kind, part in parts:
            # There is no background, so the scores can stand on the only picture of the paths.
            if scored is not None:
                yield _scored_figure(name, kind, part, span, *scored)
            else:
                yield _plane_figure(name, kind, part, span, landscape, None, None)
    if whole:
        yield _quality_figure(whole, span)
    if drawn and not still:
        yield _snapshots_figure(span)
    yield from _band_figures(run)
    yield from _common_figures(run, span, groups, getattr(start, "by", "score"))


#: Parts of the network from which on they stand side by side in one figure.
_SIDE_BY_SIDE = 3


def _map_in(projection: Projection) -> SOMProjection | None:
    """Return the self-organising map whose lattice the picture is, with the coordinates of the projection."""
    if isinstance(projection, SOMProjection):
        return projection
    inner: Projection | None = None
    if isinstance(projection, ChainProjection | InvertibleChainProjection):
        inner = projection.second
    elif isinstance(projection, InvertibleSubspaceProjection):
        inner = projection.inner
    found = None if inner is None else _map_in(inner)
    return None if found is None else evolve(found, coordinates=projection.coordinates)


def _winners(projection: Projection, coefficients: np.ndarray) -> np.ndarray:
    """Return the node of the map in a projection that is nearest to each point, shape (K, r) in the span."""
    if isinstance(projection, ChainProjection | InvertibleChainProjection):
        between = projection.first.transform(coefficients)
        return _winners(projection.second, (between - projection.offset) @ projection.basis.T)
    if isinstance(projection, InvertibleSubspaceProjection):
        return _winners(projection.inner, (coefficients - projection.offset) @ projection.matrix)
    return cast("SOMProjection", projection).winners(coefficients)


def described(projector: Projector) -> str:
    """Return what to call a projector in a heading."""
    if isinstance(projector, Chain):
        return f"{described(projector.first)} and {described(projector.second)}"
    if isinstance(projector, FitOn):
        return f"{described(projector.projector)} of {', '.join(projector.workers) or 'the first network'}"
    if isinstance(projector, Part):
        what = [", ".join(projector.patterns)] if projector.patterns else []
        what += [f"the mean of {', '.join(projector.average)}"] if projector.average else []
        return f"{described(projector.projector)} of {' with '.join(what) or 'the whole network'}"
    return type(projector).__name__


def _stand_still(span: SnapshotSpan) -> bool:
    """Whether there are many points and none of them moves: a map of weight space, not paths."""
    names = span.rows["worker"].astype(str).to_numpy()
    points = np.asarray(span.coordinates)
    workers = np.unique(names)
    if len(workers) < 20:
        return False
    extent = float(np.ptp(points, axis=0).max(initial=0.0))
    moved = max(float(np.ptp(points[names == worker], axis=0).max(initial=0.0)) for worker in workers)
    return moved <= 1e-6 * extent


def _heat_figure(
    name: str, kind: str, projection: Projection, span: SnapshotSpan, values: np.ndarray, label: str
) -> Figure:
    canvas, _ = draw_heat_map(
        projection.coordinates,
        values,
        label=label,
        labels=(projection.axis_labels[0], projection.axis_labels[1]),
        resolution=30,
    )
    caption = (
        f"{span.rows['worker'].nunique()} networks where {kind} places them; each cell shows the largest {label} of "
        f"the networks in it, and cells without a network are empty. {_kept(projection)}"
    )
    return Figure(name, f"Scores over weight space: {kind}", caption, canvas, order=20)  # type: ignore[arg-type]


def _band_figures(run: Run) -> Iterator[Figure]:
    """Yield scores and losses by step, for walks that began at the best and at the worst points."""
    if not isinstance(run.experiment.start, Ranked):
        return
    groups = Ranked.groups(run.experiment.walker.workers)
    metrics = run.metrics.assign(group=run.metrics["worker"].astype(str).map(groups)).dropna(subset=["group"])
    for column, label in (("score", "score"), ("loss", "loss")):
        if column in metrics and metrics[column].notna().any():
            canvas, _ = draw_score_bands(metrics, column, "group", label=label)
            caption = (
                f"Mean {label} by step of the networks that began at the best and at the worst points, with bands "
                f"of 95 % confidence of the mean over networks."
            )
            yield Figure(
                f"bands-{column}", f"{label.capitalize()} by where the walk began", caption, canvas, order=19
            )  # type: ignore[arg-type]


#: Panels of a figure of common maps; there are letters for so many.
_PANELS = 4


def _common_figures(
    run: Run, span: SnapshotSpan, groups: Mapping[str, str] | None, label: str
) -> Iterator[Figure]:
    """Yield walks over the scores of all points among which they begin, in maps fitted to these points alone.

    The points are made, and their scores measured, again; nothing is trained.
    """
    start = run.experiment.start
    if not isinstance(start, Ranked) or groups is None:
        return
    there, points, values = start.points()
    rows = pd.DataFrame({"step": 0, "worker": [str(k) for k in range(len(points))]})
    own = SnapshotSpan.from_tensor(points.detach().to("cpu", span.dtype), there.layout, rows)
    both = SnapshotSpan.joined({"point": own, "walk": span})
    at = np.arange(len(both)) < len(points)
    names = tuple(both.rows["worker"].astype(str)[at])
    parts = [projector for projector in run.projectors if isinstance(projector, Part)]
    maps: list[tuple[str, SnapshotSpan, Projection]] = []
    for projector in parts or run.projectors:
        kind = described(projector)
        view, inner = both, projector
        try:
            if isinstance(projector, Part):
                inner = projector.projector
                view = both.part(projector.patterns) if projector.patterns else both
                view = view.average(projector.average) if projector.average else view
            if isinstance(inner, FitOn | LandscapeProjector):
                continue  # fitted to something else already
            generator = torch_generator(run.experiment.seed, "common map", kind)
            fitted = FitOn(inner, names).fit(view, generator)
        except ConfigurationError as error:
            warnings.warn(f"No common map by {kind} in the report: {error}", PluginWarning, stacklevel=2)
            continue
        if fitted.coordinates.shape[1] == 2:
            maps.append((kind, view, fitted))
    maps = maps[:_PANELS]
    if not maps:
        return
    made, panels = _side_by_side(0.9, len(maps))
    sentences = []
    for place, (kind, view, projection) in enumerate(maps):
        ax = panels[place]
        coordinates = np.asarray(projection.coordinates)
        lattice = _map_in(projection)
        letter = f"({'abcd'[place]}) " if len(maps) > 1 else ""
        if lattice is None:
            labels = (projection.axis_labels[0], projection.axis_labels[1])
            draw_heat_map(coordinates[at], values, ax, labels=labels, label=label, colours=_SCORES)
            draw_paths(coordinates[~at], span.rows, ax, key=False, groups=groups)
            ax.autoscale_view()
        else:
            winners = _winners(projection, np.asarray(view.coordinates)[at])
            draw_hits(lattice, winners, values, ax, label=label, colours=_SCORES)
            draw_paths(coordinates[~at], span.rows, ax, jump=JUMP, key=False, groups=groups)
            _frame(ax, lattice)
        _finish(ax, projection, [])
        sentence = f"{letter}{kind[:1].upper()}{kind[1:]}, fitted to the {len(points)} points alone."
        if isinstance(getattr(projection, "inner", None), PCAProjection):
            walks = np.asarray(view.coordinates)[~at]
            share = float(np.var(coordinates[~at], axis=0).sum() / np.var(walks, axis=0).sum())
            sentence += f" The plane holds {100 * share:.0f} % of the walks' own variance."
        sentences.append(sentence)
    caption = _join(
        [
            f"Walks of {_who(span.rows)} over the points among which they were chosen to begin, in one projection: "
            f"greys are the {label} of the points before any training, the largest in a cell of a plane and the mean "
            f"in a cell of a lattice, the palest cells of which hold none. Colours say whether a walk began at the "
            f"best or at the worst of them.",
            *sentences,
        ]
    )
    yield Figure(
        "map-common", f"From the best and the worst points over the {label} of all", caption, made, order=18
    )


def _scores(run: Run, rows: pd.DataFrame) -> tuple[np.ndarray, str] | None:
    """Return the score of each snapshot and what it is, or None without scores.

    Between two measurements of the same worker it is interpolated, and the text says so; before the first and after
    the last it is NaN.
    """
    metrics = run.metrics
    names, steps = rows["worker"].astype(str).to_numpy(), rows["step"].to_numpy(dtype=np.float64)
    known = (("score", "score"), ("score_test", "score on the test data"), ("loss", "loss"))
    for column, label in known:
        if column not in metrics or not metrics[column].notna().any():
            continue
        measured = metrics.assign(worker=metrics["worker"].astype(str)).dropna(subset=[column])
        values = np.full(len(rows), np.nan)
        between = False
        for worker, own in measured.groupby("worker", sort=False):
            own = own.drop_duplicates("step", keep="last").sort_values("step")
            here = names == worker
            at = own["step"].to_numpy(dtype=np.float64)
            values[here] = np.interp(
                steps[here], at, own[column].to_numpy(dtype=np.float64), left=np.nan, right=np.nan
            )
            between |= bool((np.isfinite(values[here]) & ~np.isin(steps[here], at)).any())
        # A few points of many say little about a path.
        if np.isfinite(values).mean() > 0.5:
            return values, f"{label}, between measurements interpolated" if between else label
    return None


def _scored_figure(
    name: str, kind: str, projection: Projection, span: SnapshotSpan, values: np.ndarray, label: str
) -> Figure:
    short = label.partition(",")[0]
    marks = _marks(span)
    canvas, _ = draw_scored_paths(projection, span.rows, values, label=short, marks=marks)
    sentences = [
        f"Paths of {_who(span.rows)}, projected by {kind} and {_coloured(label, marks)}",
        _missing(int(np.sum(~np.isfinite(values)))),
        _kept(projection),
    ]
    return Figure(name, f"Paths and {label}: {kind}", _join(sentences), canvas, order=22)  # type: ignore[arg-type]


def _marks(span: SnapshotSpan) -> int:
    """Return beside how many snapshots of each path their steps stand."""
    return 3 if span.rows["worker"].nunique() <= 3 else 0


def _coloured(label: str, marks: int) -> str:
    short = label.partition(",")[0]
    return (
        f"coloured by the {short} of the network at each snapshot{label.removeprefix(short)}; beside ends that lie "
        f"apart stand the first and last value{', on the way some steps' if marks else ''}."
    )


def _missing(count: int) -> str:
    return f"Grey: {count} snapshots without a measurement." if count else ""


def _parts_figure(
    parts: Sequence[tuple[str, str, SubspaceProjection]],
    span: SnapshotSpan,
    scored: tuple[np.ndarray, str] | None,
) -> Figure:
    kinds = [kind for _, kind, _ in parts]
    # What all have in common, "PCA of ", stands in the caption.
    common = kinds[0].partition(" of ")[0] + " of "
    common = common if all(kind.startswith(common) for kind in kinds) else ""
    names = [kind.removeprefix(common) for kind in kinds]
    values, label = (None, "step") if scored is None else scored
    short = label.partition(",")[0]
    shown = {_short(name): projection for name, (_, _, projection) in zip(names, parts, strict=True)}
    if len(shown) < len(parts):
        shown = {f"{i}": projection for i, (_, _, projection) in enumerate(parts, start=1)}
    canvas, _ = draw_panels(shown, span.rows, values, label=short)
    told = []
    for name, (_, _, projection) in zip(names, parts, strict=True):
        quality = projection.quality
        if isinstance(projection.inner, PCAProjection):
            told.append(
                f"{name} {100 * quality['explained_variance']:.0f} % "
                f"({100 * quality['explained_variance_of_random_walks']:.0f} %)"
            )
    by = common.removesuffix(" of ") or "the projectors named above them"
    sentences = [
        f"Paths of {_who(span.rows)} in parts of the network, each part by itself, from the ring to the star; "
        f"projected by {by}, coloured by the {short}{label.removeprefix(short)}.",
        _missing(0 if values is None else int(np.sum(~np.isfinite(values)))),
        f"Share of a part's variance in its plane, and of random walks from the same starts: {', '.join(told)}."
        if told
        else "",
    ]
    return Figure("map-parts", f"Parts of the network and {label}", _join(sentences), canvas, order=22)  # type: ignore[arg-type]


def _short(name: str) -> str:
    """Return the name of a part in the room above a small panel: two lines."""
    lines = textwrap.wrap(name, 26)
    return "\n".join(lines[:2]) + (" …" if len(lines) > 2 else "")


#: Rows of a figure of quality; more do not fit on a page.
_ROWS = 6


def _quality_figure(whole: Mapping[str, Projection], span: SnapshotSpan) -> Figure:
    left_out = list(whole)[_ROWS:]
    shown = dict(list(whole.items())[:_ROWS])
    canvas = Canvas(figsize=(WIDTH, 2.4 * len(shown) + 0.4), layout="constrained")
    panels = canvas.subplots(len(shown), 2, squeeze=False)
    for index, (kind, projection) in enumerate(shown.items(), start=1):
        draw_quality(projection, span, panels[index - 1], titles=(kind, ""), key=index == len(shown))
    sentences = [
        f"Left: distance between two snapshots in the picture against their true distance, "
        f"{min(PAIRS, len(span) * (len(span) - 1) // 2)} pairs."
    ]
    if any(isinstance(projection, PCAProjection) for projection in shown.values()):
        sentences.append("A plane only shortens: on the grey line nothing is lost.")
    if any(leads_back(projection) for projection in shown.values()):
        sentences.append(
            "Right: how far each snapshot is from the point that the picture leads back to, relative to its distance "
            "from the mean: 0 where the picture holds the snapshot, 1 where it knows no better than the mean."
        )
    if left_out:
        sentences.append(f"Not drawn: {', '.join(left_out)}.")
    return Figure("quality", "What the pictures keep", _join(sentences), canvas, order=23)


def _snapshots_figure(span: SnapshotSpan) -> Figure:
    width = 1.3 * WIDTH
    canvas = Canvas(figsize=(width, 0.42 * width), layout="constrained")
    left, right = canvas.subplots(1, 2)
    draw_scree(span, left, reference=shares_of_random_walks(span))
    draw_distances(span, right)
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(letter, loc="left", fontweight="bold", fontsize=TEXT + 1, color=INK)
    caption = (
        f"Of {_who(span.rows)}, without any projection: (a) share of the variance along each principal component, and "
        f"of random walks from the same starts, which have no structure at all (Antognini & Sohl-Dickstein, 2018); (b) "
        f"distances between all pairs of weight vectors, ordered by worker and in each by step."
    )
    return Figure("snapshots", "Variance and distances of the snapshots", caption, canvas, order=24)


def _plane_figure(
    name: str,
    kind: str,
    projection: Projection,
    span: SnapshotSpan,
    landscape: Landscape,
    behind: tuple[np.ndarray, np.ndarray] | None,
    scored: tuple[np.ndarray, str] | None,
    groups: Mapping[str, str] | None = None,
) -> Figure:
    single = isinstance(projection, PCAProjection) and span.rows["worker"].nunique() == 1
    two = "(a) " if scored is not None else ""
    sentences = [f"{two}Paths of {_who(span.rows)}, from the ring to the star, projected by {kind}."]
    grid = None
    reach = np.inf
    if behind is not None:
        grid = loss_grid(landscape, span, projection)
        steps = ", in steps of equal ratio" if isinstance(norm_of(grid.loss), LogNorm) else ""
        sentences.append(
            f"The background is the true {grid.label} at {grid.loss.size} points ({len(grid.x)} x "
            f"{len(grid.y)}) of the map{steps}."
        )
        sentences.append(_not_finite(grid.loss))
        if not isinstance(projection, PCAProjection | PlaneProjection | SpannedPlaneProjection):
            # A plane is what it is everywhere; a curved map is fitted where the snapshots are.
            reach = max(2 * spacing(projection.coordinates, span.rows), 0.05 * float(np.ptp(grid.x)))
            sentences.append(
                f"Hatched: farther than {reach:.2g} from every snapshot, where the map only guesses which weights "
                f"belong there."
            )
    if single:
        sentences.append("Dashed: where the same components have a random walk of as many snapshots.")
    ratio = 0.8 if grid is None else float(np.ptp(grid.y) / np.ptp(grid.x))
    canvas, panels = _side_by_side(ratio, 1 if scored is None else 2)
    draw_path_over_loss(projection, span.rows, grid, panels[0], reach=reach, groups=groups)
    if single:
        draw_random_walk(cast("PCAProjection", projection), panels[0])
    if scored is not None:
        values, label = scored
        marks = _marks(span)
        draw_scored_paths(
            projection, span.rows, values, panels[1], label=label.partition(",")[0], marks=marks
        )
        panels[1].set_xlim(panels[0].get_xlim())
        panels[1].set_ylim(panels[0].get_ylim())
        sentences.append(f"(b) The same paths, {_coloured(label, marks)}")
        sentences.append(_missing(int(np.sum(~np.isfinite(values)))))
    sentences += [_coinciding(projection.coordinates, span.rows), _kept(projection)]
    if behind is not None:
        sentences += [_behind(span, behind), _buffers(landscape)]
    title = f"Paths over the loss: {kind}" if grid is not None else f"Paths: {kind}"
    return Figure(name, title, _join(sentences), canvas, order=20)


def _side_by_side(ratio: float, count: int) -> tuple[Canvas, list[Axes]]:
    """Return a figure with one map of the given height by width, or with several and letters above them."""
    if count == 1:
        figure, ax = canvas(None, ratio)
        return cast("Canvas", figure), [ax]
    # Panels and their colour bars need more than the width of a page of text.
    width = 1.5 * WIDTH
    lines = -(-count // 2)
    made = Canvas(figsize=(width, lines * (0.4 * width * ratio + 1.1)), layout="constrained")
    panels = list(made.subplots(lines, 2, squeeze=False).ravel())
    for unused in panels[count:]:
        unused.set_axis_off()
    for ax, letter in zip(panels[:count], "abcd", strict=False):
        ax.set_title(letter, loc="left", fontweight="bold", fontsize=TEXT + 1, color=INK)
    return made, panels[:count]


def _som_figure(
    name: str,
    kind: str,
    projection: InvertibleProjection,
    lattice_map: SOMProjection,
    span: SnapshotSpan,
    landscape: Landscape,
    behind: tuple[np.ndarray, np.ndarray] | None,
    scored: tuple[np.ndarray, str] | None,
    groups: Mapping[str, str] | None = None,
) -> Figure:
    lattice = lattice_map.lattice
    winners = _winners(projection, np.asarray(span.coordinates))
    # At the nodes the surface of the map is the codebook.
    loss, examples = loss_at(landscape, span, projection.inverse(lattice.positions))
    label = loss_label(examples, landscape.data.examples)
    chained = isinstance(projection, InvertibleChainProjection)
    space = "the coordinates that the first map of the chain makes" if chained else "weight space"
    figure, panels = _side_by_side(_ratio(lattice_map), 2 if scored is None else 4)
    draw_map(lattice_map, span.rows, loss, panels[0], label=label, groups=groups)
    draw_u_matrix(lattice_map, winners, panels[1])
    sentences = [
        f"Self-organising map of {lattice.rows} x {lattice.columns} nodes"
        f"{'' if projection is lattice_map else f', by {kind}'}.",
        f"(a) Paths of {_who(span.rows)}, from the ring to the star, dotted where two snapshots are more "
        f"than {JUMP:g} cells apart; each cell shows the true {label} of the network at its codebook vector "
        f"({len(loss)} losses).",
        _not_finite(loss),
        f"(b) U-matrix: mean distance of each cell to its neighbours in {space}, so that dark ridges "
        f"separate what the map draws side by side; dots count the snapshots nearest to the cell.",
    ]
    if scored is not None:
        values, scores = scored
        known = np.isfinite(values)
        short = scores.partition(",")[0]
        draw_hits(lattice_map, winners[known], values[known], panels[2], label=short)
        draw_hits(lattice_map, winners, None, panels[3])
        for panel in panels[2:]:
            _frame(panel, lattice_map)
        sentences.append(
            f"(c) Mean {short} of the snapshots nearest to the cell{scores.removeprefix(short)}. (d) How many they are."
        )
    sentences += [_kept(projection), "" if behind is None else _behind(span, behind), _buffers(landscape)]
    return Figure(name, f"Paths over the loss: {kind}", _join(sentences), figure, order=21)


def _join(sentences: Sequence[str]) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _who(rows: pd.DataFrame) -> str:
    names = sorted(set(rows["worker"].astype(str)), key=order_of)
    workers = [name for name in names if name.isdecimal()]
    labelled = [name for name in names if not name.isdecimal()]
    count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
    who = " and ".join([count, *(f"the {name}" for name in labelled)]) if workers else " and ".join(labelled)
    return f"{who} ({len(rows)} snapshots)"


def _not_finite(loss: np.ndarray) -> str:
    count = int(np.sum(~np.isfinite(loss)))
    return f"At {count} of {loss.size} points the loss is not finite (hatched)." if count else ""


def _kept(projection: Projection) -> str:
    """Say what the picture keeps and what it leaves out."""
    quality = projection.quality
    both = ""
    if np.isfinite(quality.get("trustworthiness", float("nan"))):
        both = (
            f" Trustworthiness {quality['trustworthiness']:.3f}, continuity {quality['continuity']:.3f} "
            f"(1 is best)."
        )
    if isinstance(projection, PCAProjection):
        contents = [quality[name] for name in quality if name.startswith("cosine_content_")]
        cosines = (
            f" Cosine content {', '.join(f'{content:.2f}' for content in contents)} (1 as of a random walk)."
            if contents
            else ""
        )
        return (
            f"The axes hold {100 * quality['explained_variance']:.1f} % of the snapshots' variance, of random walks "
            f"from the same starts they would hold {100 * quality['explained_variance_of_random_walks']:.1f} %; the "
            f"median snapshot lies off them by {100 * quality['off_plane_share']:.0f} % of its distance from "
            f"the mean.{cosines}{both}"
        )
    if "quantisation_error" in quality:
        return (
            f"Quantisation error {quality['quantisation_error']:.3f} of the snapshots' mean distance from "
            f"their mean; topographic error {quality['topographic_error']:.3f}. Distances on the map are not "
            f"distances between weights.{both}"
        )
    if isinstance(projection, SubspaceProjection):
        return f"Of these weights alone: {_kept(projection.inner)}"
    said = ""
    told = {"trustworthiness", "continuity", *(name for name in quality if name.startswith("loss_"))}
    if "off_plane_share" in quality:
        told |= {"explained_variance", "off_plane_share"}
        said = (
            f"What the picture leads back to explains {100 * quality['explained_variance']:.1f} % of the snapshots' "
            f"variance; the median snapshot lies off it by {100 * quality['off_plane_share']:.0f} % of its distance "
            f"from the mean."
        )
    rest = ", ".join(
        f"{_NAMES.get(name, name.replace('_', ' '))} {value:.3g}"
        for name, value in quality.items()
        if name not in told
    )
    return f"{said} {rest[:1].upper() + rest[1:] + '.' if rest else ''}{both}".strip()


#: Names of numbers that are more than their words.
_NAMES = {
    "kl_divergence": "KL divergence",
    "explained_variance_pca": "share of the variance in a plane of PCA",
}


def _coinciding(coordinates: np.ndarray, rows: pd.DataFrame) -> str:
    """Say so when paths of several points cannot be told apart in the picture."""
    steps = rows["step"].to_numpy()
    together = [coordinates[steps == step] for step in np.unique(steps)]
    apart = max(float(np.ptp(points, axis=0).max()) for points in together)
    extent = float(np.ptp(coordinates, axis=0).max())
    if max(map(len, together)) < 2 or apart > 0.02 * extent:
        return ""
    return (
        f"The paths lie on top of each other: at no step are they more than {apart:.2g} apart along an axis, "
        f"{100 * apart / extent:.1g} % of what the paths span."
    )


def _buffers(landscape: Landscape) -> str:
    if not landscape.buffers():
        return ""
    return "All losses were computed with the same buffers (running statistics of normalisation layers)."


def _behind(span: SnapshotSpan, behind: tuple[np.ndarray, np.ndarray]) -> str:
    """Compare the loss drawn under snapshots, and under the end of each path, with the losses of the networks."""
    rows = span.rows.reset_index(drop=True)
    last = rows.groupby(rows["worker"].astype(str))["step"].idxmax().to_numpy()
    shown, true = behind
    sentence = (
        f"Under the {'stars' if len(last) > 1 else 'star'} the background shows a loss of {_range(shown[last])}; "
        f"the {'networks' if len(last) > 1 else 'network'} at the {'ends have' if len(last) > 1 else 'end has'} "
        f"{_range(true[last])}."
    )
    mismatch = mismatch_of(shown, true)
    if "loss_mismatch" in mismatch:
        sentence += (
            f" Over all snapshots the loss drawn is off by a factor of {10 ** mismatch['loss_mismatch']:.3g} in the "
            f"median and {10 ** mismatch['loss_mismatch_largest']:.3g} at most."
        )
    return sentence


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"
