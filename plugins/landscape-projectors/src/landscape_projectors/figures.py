"""Maps of weight paths: where the points went, drawn over the true loss.

Every function that draws takes the axes to draw into, or makes a figure of its own, and returns
``(figure, axes)``. None of them shows or saves anything, and none touches matplotlib's global state.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import Normal, Stroke
from matplotlib.transforms import Affine2D
from scipy.spatial import cKDTree

from landscape.errors import ConfigurationError
from landscape.interfaces import Figure, Projection, Projector
from landscape.plugins import PluginWarning
from landscape.report.style import PALETTE, WIDTH, dress, order_of, worker_styles
from landscape_projectors._style import INK, LOSS, PAPER, TEXT, canvas, colour_bar, legend, norm_of, paths_of
from landscape_projectors.composite import Chain, FitOn, Part, SubspaceProjection
from landscape_projectors.pca import PCAProjection
from landscape_projectors.pictures import (
    PAIRS,
    checked,
    draw_distances,
    draw_heat_map,
    draw_hits,
    draw_quality,
    draw_score_bands,
    draw_scored_paths,
    draw_scree,
)
from landscape_projectors.planes import PlaneProjection, SpannedPlaneProjection
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
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.figure import SubFigure

    from landscape.composition import Run
    from landscape.objective import Landscape
    from landscape.store import SnapshotSpan

    AnyFigure = MatplotlibFigure | SubFigure

__all__ = [
    "LossGrid",
    "draw_coordinates",
    "draw_map",
    "draw_path_over_loss",
    "draw_paths",
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
    """
    figure, ax = canvas(ax, 0.8, bar=False)
    paths = paths_of(coordinates, rows)
    workers = [name for name in paths if name.isdecimal()]
    styles = worker_styles(list(paths))
    many = len({styles[name].color for name in workers}) < len(workers)
    extent = float(np.ptp(coordinates, axis=0).max()) or 1.0
    handles: list[Line2D] = []
    for place, (name, path) in enumerate(paths.items()):
        numbered = name in workers
        colour = _MANY if many and numbered else styles[name].color
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
        elif name == workers[0]:
            line.set_label(f"{len(workers)} workers")
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
        A dashed line separates what is farther than this from every snapshot: a curved map knows little of the weights
        there. :func:`spacing` gives a measure.

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
    draw_paths(coordinates, rows, ax, key=False)
    _finish(ax, projection, extra)
    return figure, ax


def spacing(coordinates: np.ndarray, rows: pd.DataFrame) -> float:
    """Return the longest step between consecutive snapshots of a path in a picture, its coordinates of shape (T, 2)."""
    paths = paths_of(coordinates, rows).values()
    return max(float(np.linalg.norm(np.diff(path, axis=0), axis=1).max(initial=0.0)) for path in paths)


def _surround(ax: Axes, grid: LossGrid, coordinates: np.ndarray, reach: float) -> list[Line2D]:
    """Draw a dashed line around what is near the snapshots; return a key for the legend."""
    points = np.stack(np.meshgrid(grid.x, grid.y), axis=-1).reshape(-1, 2)
    distance = cKDTree(coordinates).query(points)[0].reshape(grid.loss.shape)
    if not (distance > reach).any():
        return []
    look: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 0.8}
    ax.contour(
        grid.x, grid.y, distance, levels=[reach], colors=INK, linestyles=[look["linestyle"]],
        linewidths=look["linewidth"], zorder=1.5,
    )  # fmt: skip
    return [Line2D([], [], color=INK, label="beyond: far from snapshots", **look)]


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
    draw_paths(coordinates, rows, ax, jump=JUMP, key=False)
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

    For every projector its map over the true loss where it leads back to weights, the same paths coloured by their
    scores where scores were measured, and what the map does to distances; and once, without any projection, the
    variance along principal components and all distances between snapshots. A projector that cannot be fitted to the
    snapshots there are is left out with a warning.
    """
    if run.kind != "experiment" or not run.projectors:
        return
    span = run.span()
    landscape = run.landscape()
    still = _stand_still(span)
    seen: dict[str, int] = {}
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
        scored = _scores(run, span.rows)
        plane = projection.coordinates.shape[1] == 2
        if isinstance(projection, SOMProjection):
            yield _som_figure(name, projection, span, landscape)
            if scored is not None:
                yield _hits_figure(name, projection, span, *scored)
        elif plane and still:
            if scored is not None:
                yield _heat_figure(name, kind, projection, span, *scored)
        elif isinstance(projection, SubspaceProjection) and plane and scored is not None:
            # There is no background, so the scores can stand on the only picture of the paths.
            yield _scored_figure(name, kind, projection, span, *scored)
        elif plane:
            yield _plane_figure(name, kind, projection, span, landscape)
            if scored is not None:
                yield _scored_figure(name, kind, projection, span, *scored)
        else:
            canvas, _ = draw_coordinates(projection, span.rows)
            caption = f"Each coordinate of {_who(span.rows)} against the step. {_kept(projection)}"
            yield Figure(name, f"Coordinates: {kind}", caption, canvas, order=20)  # type: ignore[arg-type]
        drawn = True
        if not isinstance(projection, SubspaceProjection) and not still:
            yield _quality_figure(name, kind, projection, span)
    if drawn and not still:
        yield _snapshots_figure(span)
    yield from _band_figures(run)


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
    # Of a lattice, every column and row is a cell; of points anywhere, 30 cells along each side show most.
    distinct = [len(np.unique(column)) for column in projection.coordinates.T]
    canvas, _ = draw_heat_map(
        projection.coordinates,
        values,
        label=label,
        labels=(projection.axis_labels[0], projection.axis_labels[1]),
        resolution=max(2, min(30, *distinct)),
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
    few = span.rows["worker"].nunique() <= 3
    short = label.partition(",")[0]
    canvas, _ = draw_scored_paths(projection, span.rows, values, label=short, marks=3 if few else 0)
    missing = int(np.sum(~np.isfinite(values)))
    alone = isinstance(projection, SubspaceProjection)
    what = f"Paths of {_who(span.rows)}, projected by {kind} and" if alone else "The same paths,"
    sentences = [
        f"{what} coloured by the {short} of the network at each snapshot{label.removeprefix(short)}; beside ends that "
        f"lie apart stand the first and last value{', on the way some steps' if few else ''}.",
        _missing(missing),
        _kept(projection) if alone else "",
    ]
    return Figure(
        name if alone else f"scores-{name}",
        f"Paths and {label}: {kind}",
        _join(sentences),
        canvas,
        order=20,  # type: ignore[arg-type]
    )


def _missing(count: int) -> str:
    return f"Grey: {count} snapshots without a measurement." if count else ""


def _hits_figure(
    name: str, projection: SOMProjection, span: SnapshotSpan, values: np.ndarray, label: str
) -> Figure:
    known = np.isfinite(values)
    winners = projection.winners(np.asarray(span.coordinates)[known])
    short = label.partition(",")[0]
    canvas, _ = draw_hits(projection, winners, values[known], label=short)
    caption = (
        f"Each cell of the map shows the mean {short} of the snapshots that are nearest to its codebook vector"
        f"{label.removeprefix(short)}; cells without one are light."
    )
    return Figure(f"scores-{name}", "Scores on the map: SOM", caption, canvas, order=21)  # type: ignore[arg-type]


def _quality_figure(name: str, kind: str, projection: Projection, span: SnapshotSpan) -> Figure:
    canvas, _ = draw_quality(projection, span)
    sentences = [
        f"(a) Distance between two snapshots in the picture by {kind} against their true distance, "
        f"{min(PAIRS, len(span) * (len(span) - 1) // 2)} pairs."
    ]
    if isinstance(projection, PCAProjection):
        sentences.append("A projection only shortens: on the grey line nothing is lost.")
    if leads_back(projection):
        sentences.append(
            "(b) How far each snapshot is from the point that the picture leads back to, relative to its distance from "
            "the mean: 0 where the picture holds the snapshot, 1 where it knows no better than the mean."
        )
    return Figure(
        f"quality-{name}",
        f"What the picture keeps: {kind}",
        _join(sentences),
        canvas,
        order=22,  # type: ignore[arg-type]
    )


def _snapshots_figure(span: SnapshotSpan) -> Figure:
    width = 1.3 * WIDTH
    canvas = Canvas(figsize=(width, 0.42 * width), layout="constrained")
    left, right = canvas.subplots(1, 2)
    draw_scree(span, left)
    draw_distances(span, right)
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(letter, loc="left", fontweight="bold", fontsize=TEXT + 1, color=INK)
    caption = (
        f"Of {_who(span.rows)}, without any projection: (a) share of the variance along each principal component; (b) "
        f"distances between all pairs of weight vectors, ordered by worker and in each by step."
    )
    return Figure("snapshots", "Variance and distances of the snapshots", caption, canvas, order=23)


def _plane_figure(
    name: str, kind: str, projection: Projection, span: SnapshotSpan, landscape: Landscape
) -> Figure:
    sentences = [f"Paths of {_who(span.rows)}, from the ring to the star, projected by {kind}."]
    grid = None
    if leads_back(projection):
        grid = loss_grid(landscape, span, projection)
        steps = ", in steps of equal ratio" if isinstance(norm_of(grid.loss), LogNorm) else ""
        sentences.append(
            f"The background is the true {grid.label} at {grid.loss.size} points ({len(grid.x)} x "
            f"{len(grid.y)}) of the map{steps}."
        )
        sentences.append(_not_finite(grid.loss))
    sentences += [_coinciding(projection.coordinates, span.rows), _kept(projection)]
    if leads_back(projection):
        sentences += [_behind(projection, span, landscape), _buffers(landscape)]
    reach = np.inf
    if grid is not None and not isinstance(
        projection, PCAProjection | PlaneProjection | SpannedPlaneProjection
    ):
        # A plane is what it is everywhere; a curved map is fitted where the snapshots are.
        reach = max(2 * spacing(projection.coordinates, span.rows), 0.05 * float(np.ptp(grid.x)))
        sentences.append(
            f"Beyond the dashed line the background is farther than {reach:.2g} from every snapshot."
        )
    canvas, _ = draw_path_over_loss(projection, span.rows, grid, reach=reach)
    title = f"Paths over the loss: {kind}" if grid is not None else f"Paths: {kind}"
    return Figure(name, title, _join(sentences), canvas, order=20)  # type: ignore[arg-type]


def _som_figure(name: str, projection: SOMProjection, span: SnapshotSpan, landscape: Landscape) -> Figure:
    loss, examples = loss_at(landscape, span, projection.codebook)
    label = loss_label(examples, landscape.data.examples)
    # Two panels and their colour bars need more than the width of a page of text.
    width = 1.5 * WIDTH
    canvas = Canvas(figsize=(width, 0.4 * width * _ratio(projection) + 1.1), layout="constrained")
    left, right = canvas.subplots(1, 2)
    draw_map(projection, span.rows, loss, left, label=label)
    draw_u_matrix(projection, projection.winners(span.coordinates), right)
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(letter, loc="left", fontweight="bold", fontsize=TEXT + 1, color=INK)
    lattice = projection.lattice
    sentences = [
        f"Self-organising map of {lattice.rows} x {lattice.columns} nodes.",
        f"(a) Paths of {_who(span.rows)}, from the ring to the star, dotted where two snapshots are more "
        f"than {JUMP:g} cells apart; each cell shows the true {label} of the network at its codebook vector "
        f"({len(loss)} losses).",
        _not_finite(loss),
        "(b) U-matrix: mean distance of each cell to its neighbours in weight space, so that dark ridges "
        "separate what the map draws side by side; dots count the snapshots nearest to the cell.",
        _kept(projection),
        _behind(projection, span, landscape),
        _buffers(landscape),
    ]
    return Figure(name, "Paths over the loss: SOM", _join(sentences), canvas, order=21)


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
        return (
            f"The axes hold {100 * quality['explained_variance']:.1f} % of the snapshots' variance; the "
            f"median snapshot lies off them by {100 * quality['off_plane_share']:.0f} % of its distance from "
            f"the mean. What is left out may be most of what matters: even a random walk explains much "
            f"variance with two components.{both}"
        )
    if isinstance(projection, SOMProjection):
        return (
            f"Quantisation error {quality['quantisation_error']:.3f} of the snapshots' mean distance from "
            f"their mean; topographic error {quality['topographic_error']:.3f}. Distances on the map are not "
            f"distances between weights.{both}"
        )
    if isinstance(projection, SubspaceProjection):
        return f"Of these weights alone: {_kept(projection.inner)}"
    said = ""
    told = {"trustworthiness", "continuity"}
    if "off_plane_share" in quality:
        told |= {"explained_variance", "off_plane_share"}
        said = (
            f"What the picture leads back to explains {100 * quality['explained_variance']:.1f} % of the snapshots' "
            f"variance; the median snapshot lies off it by {100 * quality['off_plane_share']:.0f} % of its distance "
            f"from the mean."
        )
    rest = ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items() if name not in told
    )
    return f"{said} {rest[:1].upper() + rest[1:] + '.' if rest else ''}{both}".strip()


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


def _behind(projection: Projection, span: SnapshotSpan, landscape: Landscape) -> str:
    """Compare the loss drawn under snapshots, and under the end of each path, with the losses of the networks."""
    rows = span.rows.reset_index(drop=True)
    last = rows.groupby(rows["worker"].astype(str))["step"].idxmax().to_numpy()
    shown, true = losses_shown_and_true(landscape, span, projection)
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
