"""Maps of weight paths: where the points went, drawn over the true loss.

Every function that draws takes the axes to draw into, or makes a figure of its own, and returns
``(figure, axes)``. None of them shows or saves anything, and none touches matplotlib's global state.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Affine2D

from landscape.errors import ConfigurationError
from landscape.interfaces import Figure, InvertibleProjection, Projection
from landscape.plugins import PluginWarning
from landscape.report.style import PALETTE, WIDTH, dress, order_of, worker_styles
from landscape_projectors.pca import PCAProjection
from landscape_projectors.som import SOMProjection

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.figure import SubFigure
    from torch import Tensor

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
]

#: Points along the longer side of the background. A report must stay fast: 31 x 31 = 961 losses on the 1 797
#: digits take 1.2 s of one core for 3 190 weights and 1.7 s for 17 610. On two such planes, interpolation
#: between the points was off by 0.13 and 0.16 of the step from one colour to the next in the median, and by
#: 0.6 and 1.1 steps at worst, against four times as many points.
RESOLUTION = 31

#: Forward passes of single examples that one background may cost. 961 points leave 2 081 examples each: all
#: of a small data set, an even selection of a large one. The standard error of a mean over 2 000 examples
#: is 2 % of their spread, less than the step from one colour to the next.
EVALUATIONS = 2_000_000

#: Cells between consecutive snapshots from which on a path on a self-organising map is said to leap: the
#: cells in between, two or more, belong to other regions of weight space.
JUMP = 3.0

_PAPER = "white"
_INK = "#222222"
_TEXT = 8.5
#: Of workers too many to be told apart; the curves' pale blue would drown in the background.
_MANY = _DOTS = PALETTE[1]
#: An arrow head that points right, longer than wide, so that nobody takes it for another direction.
_HEAD = Path([(1.0, 0.0), (-0.9, 0.62), (-0.5, 0.0), (-0.9, -0.62), (1.0, 0.0)], closed=True)
_HATCHED: dict[str, Any] = {"facecolor": _PAPER, "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
_LOSS = LinearSegmentedColormap.from_list(
    # From almost white to dark grey in even steps of lightness, hardly blue: dark enough to be read, light
    # enough that every path stands out, and no colour that a path has.
    "landscape_loss",
    ["#f8f9fa", "#dde1e6", "#bcc3cb", "#9aa3ae", "#788391", "#586473"],
)


# ---------------------------------------------------------------------------------------------------------
# The true loss behind a map
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class LossGrid:
    """True losses at the points that a grid over a map leads back to.

    Attributes
    ----------
    x, y
        Coordinates of the columns, shape (X,), and rows, shape (Y,), of the grid.
    loss
        Shape (Y, X); not finite where the loss overflowed.
    examples
        On how many examples each loss was computed.
    of
        How many examples the data has.
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    examples: int
    of: int

    @property
    def label(self) -> str:
        """What the colours mean, for a colour bar."""
        return _loss_label(self.examples, self.of)


def _loss_label(examples: int, of: int) -> str:
    return (
        "loss on the training data"
        if examples == of
        else f"loss on {examples:,} of {of:,} training examples".replace(",", "\u202f")
    )


def loss_at(
    landscape: Landscape, span: SnapshotSpan, coefficients: np.ndarray, *, evaluations: int = EVALUATIONS
) -> tuple[np.ndarray, int]:
    """Compute the true loss at points given in the basis of a span.

    Parameters
    ----------
    landscape
        Whose loss.
    span
        The span in whose basis the points are given; it turns them back into weights.
    coefficients
        Shape (G, r).
    evaluations
        Forward passes of single examples that may be spent. When G points on all examples cost more, every
        point is evaluated on the same evenly spaced examples, at least 256 of them.

    Returns
    -------
    losses
        Shape (G,), float64; not finite where the loss overflows.
    examples
        On how many examples.
    """
    import torch

    from landscape.objective import as_data

    data = landscape.data
    examples = min(data.examples, max(256, evaluations // max(1, len(coefficients))))
    if examples < data.examples:
        chosen = np.linspace(0, data.examples - 1, examples).round().astype(int)
        landscape = landscape.on(
            as_data([data.take(torch.from_numpy(part)) for part in _blocks(chosen, 256)])
        )
    losses = np.empty(len(coefficients))
    done = 0
    for weights in _restored(span, np.asarray(coefficients, dtype=np.float64)):
        # Several networks per call, so that the landscape can batch them; not too many copies on its device.
        for first in range(0, len(weights), 16):
            part = weights[first : first + 16].to(device=landscape.device, dtype=landscape.dtype)
            losses[done : done + len(part)] = landscape.value(part).double().cpu().numpy()
            done += len(part)
    return losses, examples


#: Weights restored at a time, in bytes of float64.
_RESTORED = 2**28


def _restored(span: SnapshotSpan, coefficients: np.ndarray) -> Iterator[Tensor]:
    """Yield the weight vectors of the points, shape (G, r), some rows at a time.

    Restoring points is a pass over all snapshots on disk. Points of a plane are combinations of three of
    them, so a grid over a plane costs one pass instead of one per block.
    """
    block = max(1, _RESTORED // (8 * span.size))
    centre = coefficients.mean(axis=0)
    left, singular, right = np.linalg.svd(coefficients - centre, full_matrices=False)
    rank = int(np.sum(singular > 1e-12 * singular[0])) if singular.size else 0
    if rank + 1 > min(block, len(coefficients) // 4):
        for part in _blocks(coefficients, block):
            yield span.restore(part)
        return
    # Steps as long as the points are apart: in float32, short ones would drown in the rounding of the centre.
    step = float(singular[0]) / np.sqrt(len(coefficients)) if rank else 1.0
    frame = span.restore(np.concatenate([centre[None], centre + step * right[:rank]]))
    along = (left[:, :rank] * singular[:rank]) / step
    for part in _blocks(along, block):
        yield frame[0] + frame.new_tensor(part) @ (frame[1:] - frame[0])


def _blocks(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def loss_grid(
    landscape: Landscape,
    span: SnapshotSpan,
    projection: InvertibleProjection,
    *,
    resolution: int = RESOLUTION,
    padding: float = 0.12,
    evaluations: int = EVALUATIONS,
) -> LossGrid:
    """Compute the true loss on a grid over a map of two dimensions.

    Parameters
    ----------
    landscape, span, evaluations
        As in :func:`loss_at`.
    projection
        With an inverse, and two dimensions.
    resolution
        Points along the longer side; the shorter one has as many as keep the cells square. The cost is at
        most ``resolution ** 2`` losses.
    padding
        Room around the paths, as a share of the longer side. The shorter side is at least half the longer.
    """
    low, high = projection.coordinates.min(axis=0), projection.coordinates.max(axis=0)
    longer = float((high - low).max())
    half = np.maximum(0.5 * (high - low) + padding * longer, (0.25 + 0.5 * padding) * longer)
    centre = 0.5 * (low + high)
    step = 2 * half.max() / (resolution - 1)
    x, y = (
        np.linspace(centre[axis] - half[axis], centre[axis] + half[axis], round(2 * half[axis] / step) + 1)
        for axis in (0, 1)
    )
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    losses, examples = loss_at(landscape, span, projection.inverse(points), evaluations=evaluations)
    return LossGrid(x, y, losses.reshape(len(y), len(x)), examples, landscape.data.examples)


# ---------------------------------------------------------------------------------------------------------
# Colours of losses
# ---------------------------------------------------------------------------------------------------------


def _norm(values: np.ndarray) -> Normalize:
    """Return a scale for the finite values: logarithmic where all are positive, else linear."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Normalize(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if low > 0:
        # A constant loss still needs two ends.
        return LogNorm(low, high) if high > low * (1 + 1e-9) else LogNorm(low * 0.9, high * 1.1)
    return Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)


def _levels(norm: Normalize, count: int = 15) -> np.ndarray:
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    levels = np.geomspace(low, high, count) if isinstance(norm, LogNorm) else np.linspace(low, high, count)
    levels[0], levels[-1] = low, high  # not a rounding inside, which would leave the extremes blank
    return np.asarray(levels)


def _ticks(low: float, high: float) -> list[float]:
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


def _colour_bar(figure: AnyFigure, ax: Axes, mappable: Any, norm: Normalize, label: str) -> None:
    # Axes inside the map's own, so that the bar is as high as the map whatever its aspect.
    bar = figure.colorbar(mappable, cax=ax.inset_axes((1.02, 0.0, 0.035, 1.0)))
    bar.set_label(label, fontsize=_TEXT, color=_INK)
    bar.ax.tick_params(labelsize=_TEXT - 0.5, colors=_INK, color="#888888", width=0.8)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(FixedLocator(_ticks(float(norm.vmin or 1), float(norm.vmax or 1))))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    bar.outline.set_visible(False)


def _canvas(ax: Axes | None, ratio: float, *, bar: bool = True) -> tuple[AnyFigure, Axes]:
    """Return the axes with their figure, or make both, for a map of the given height by width."""
    if ax is not None:
        return ax.figure, ax
    # A colour bar leaves the map four fifths of the width; labels and legend take 1.1 inches.
    figure = Canvas(figsize=(WIDTH, (0.8 if bar else 0.9) * WIDTH * ratio + 1.1), layout="constrained")
    return figure, figure.add_subplot()


# ---------------------------------------------------------------------------------------------------------
# Paths
# ---------------------------------------------------------------------------------------------------------


def draw_paths(
    coordinates: np.ndarray,
    rows: pd.DataFrame,
    ax: Axes | None = None,
    *,
    jump: float = np.inf,
    legend: bool = True,
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
    legend
        Whether to put a legend under the axes.
    """
    figure, ax = _canvas(ax, 0.8, bar=False)
    paths = _paths(coordinates, rows)
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
            path_effects=[Stroke(linewidth=width + 1.0, foreground=_PAPER), Normal()],
            zorder=above,
        )
        if not many or not numbered:
            line.set_label(f"worker {name}" if numbered else name)
            handles.append(line)
        elif name == workers[0]:
            line.set_label(f"{len(workers)} workers")
            handles.append(line)
        _arrow_heads(ax, path, leaps, colour, 7.0 + 1.5 * width, extent, above)
        mark: dict[str, Any] = {"color": colour, "markeredgecolor": _PAPER, "markeredgewidth": 0.8}
        ring: dict[str, Any] = {"color": _PAPER, "markeredgecolor": colour, "markeredgewidth": 1.3}
        ax.plot(*path[0], marker="o", markersize=4 if numbered else 7, zorder=2 + above, **ring)
        ax.plot(*path[-1], marker="*", markersize=8 if numbered else 15, zorder=4 + above, **mark)
    ax.set_aspect("equal")  # the projection's lengths mean the same along both axes
    dress(ax)
    ax.grid(False)
    if legend:
        _legend(ax, handles)
    return figure, ax


def _paths(coordinates: np.ndarray, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the path of each worker by name, in the order of its steps; workers by number, then the others."""
    names, steps = rows["worker"].astype(str).to_numpy(), rows["step"].to_numpy()
    paths = {}
    for name in sorted(set(names), key=order_of):
        chosen = np.flatnonzero(names == name)
        paths[name] = coordinates[chosen[np.argsort(steps[chosen], kind="stable")]]
    return paths


def _legend(ax: Axes, handles: Sequence[Any], *, ends: bool = True) -> None:
    """Put a legend under the axes, where it covers nothing."""
    if ends:
        ring = Line2D([], [], marker="o", markersize=4.5, color="none", markeredgecolor=_INK, label="start")
        star = Line2D([], [], marker="*", markersize=9, color="none", markerfacecolor=_INK, label="end")
        star.set_markeredgecolor(_INK)
        handles = [*handles, ring, star]
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=min(5, len(handles)),
        frameon=False,
        fontsize=_TEXT,
        labelcolor=_INK,
        handlelength=1.6,
        columnspacing=1.4,
    )


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
            markeredgecolor=_PAPER,
            markeredgewidth=0.6,
            zorder=above,
        )


# ---------------------------------------------------------------------------------------------------------
# Maps
# ---------------------------------------------------------------------------------------------------------


def draw_path_over_loss(
    projection: Projection, rows: pd.DataFrame, grid: LossGrid | None = None, ax: Axes | None = None
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

    Raises
    ------
    landscape.errors.ConfigurationError
        If the projection does not have two dimensions, or `rows` has another length.
    """
    coordinates = _checked(projection, rows)
    ratio = 0.8 if grid is None else float(np.ptp(grid.y) / np.ptp(grid.x))
    figure, ax = _canvas(ax, ratio, bar=grid is not None)
    extra: list[Patch] = []
    if grid is not None:
        norm = _norm(grid.loss)
        extra += _hatch_where_not_finite(ax, grid.loss, (grid.x[0], grid.x[-1]), (grid.y[0], grid.y[-1]))
        loss = np.ma.masked_invalid(grid.loss)
        if loss.count():
            levels = _levels(norm)
            filled = ax.contourf(grid.x, grid.y, loss, levels=levels, norm=norm, cmap=_LOSS, zorder=1)
            ax.contour(
                grid.x, grid.y, loss, levels=levels, colors="white", linewidths=0.5, alpha=0.7, zorder=1.1
            )
            _colour_bar(figure, ax, filled, norm, grid.label)
        ax.set_xlim(grid.x[0], grid.x[-1])
        ax.set_ylim(grid.y[0], grid.y[-1])
    draw_paths(coordinates, rows, ax, legend=False)
    _finish(ax, projection, extra)
    return figure, ax


def _checked(projection: Projection, rows: pd.DataFrame) -> np.ndarray:
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


def _finish(ax: Axes, projection: Projection, extra: Sequence[Patch]) -> None:
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    _legend(ax, [*lines, *extra])


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
    coordinates = _checked(projection, rows)
    figure, ax = _canvas(ax, _ratio(projection))
    norm = _norm(loss)
    finite = np.isfinite(loss)
    extra: list[Patch] = []
    if not finite.all():
        ax.add_collection(PolyCollection(list(projection.lattice.cells()[~finite]), zorder=1, **_HATCHED))
        extra.append(Patch(**_HATCHED, label="loss not finite"))
    if finite.any():
        cells = _cells(ax, projection, loss, finite, norm, _LOSS)
        _colour_bar(figure, ax, cells, norm, label)
    draw_paths(coordinates, rows, ax, jump=JUMP, legend=False)
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
    figure, ax = _canvas(ax, _ratio(projection))
    values = projection.u_matrix()
    norm = Normalize(0.0, float(values.max()) or 1.0)
    cells = _cells(ax, projection, values, np.ones(len(values), dtype=bool), norm, _LOSS)
    _colour_bar(figure, ax, cells, norm, "mean distance to the neighbouring cells")
    positions = projection.lattice.positions
    handles: list[Any] = []
    if winners is not None:
        hits = np.bincount(winners, minlength=len(positions))
        most = int(hits.max())
        hit = hits > 0
        scale = 45.0 / most
        x, y = positions[hit].T
        dots: dict[str, Any] = {"color": _DOTS, "edgecolor": _PAPER, "linewidth": 0.6}
        ax.scatter(x, y, scale * hits[hit], zorder=2, **dots)
        for count in sorted({1, most}):
            label = f"nearest to {count} snapshot{'' if count == 1 else 's'}"
            handles.append(ax.scatter([], [], scale * count, label=label, **dots))
    _frame(ax, projection)
    ax.set_aspect("equal")
    dress(ax, x=projection.axis_labels[0], y=projection.axis_labels[1])
    ax.grid(False)
    if handles:
        _legend(ax, handles, ends=False)
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
    paths = _paths(points, rows)
    styles = worker_styles(list(paths))
    for axis in range(dimensions):
        for name, path in paths.items():
            label = f"worker {name}" if name.isdecimal() else name
            ax[axis].plot(path[:, 0], path[:, 1 + axis], label=label, **styles[name].keywords())
        dress(ax[axis], y=projection.axis_labels[axis])
    dress(ax[-1], x="step")
    handles = ax[-1].get_lines()
    if len({line.get_color() for line in handles}) == len(handles):
        _legend(ax[-1], handles, ends=False)
        ax[-1].get_legend().set_bbox_to_anchor((0.5, -0.35), ax[-1].transAxes)  # type: ignore[union-attr]
    return ax[0].figure, ax


# ---------------------------------------------------------------------------------------------------------
# Figures of a run
# ---------------------------------------------------------------------------------------------------------


def figures(run: Run) -> Iterator[Figure]:
    """Yield a map for every projector of an experiment; nothing for other runs.

    A projector that cannot be fitted to the snapshots there are is left out with a warning.
    """
    if run.kind != "experiment" or not run.projectors:
        return
    span = run.span()
    landscape = run.landscape()
    seen: dict[str, int] = {}
    for projector in run.projectors:
        kind = type(projector).__name__
        seen[kind] = seen.get(kind, 0) + 1
        name = f"map-{kind.lower()}" + (f"-{seen[kind]}" if seen[kind] > 1 else "")
        try:
            projection = run.project(projector)
        except ConfigurationError as error:
            warnings.warn(f"No map by {kind} in the report: {error}", PluginWarning, stacklevel=2)
            continue
        if isinstance(projection, SOMProjection):
            yield _som_figure(name, projection, span, landscape)
        elif projection.coordinates.shape[1] == 2:
            yield _plane_figure(name, kind, projection, span, landscape)
        else:
            canvas, _ = draw_coordinates(projection, span.rows)
            caption = f"Each coordinate of {_who(span.rows)} against the step. {_kept(projection)}"
            yield Figure(name, f"Coordinates: {kind}", caption, canvas, order=20)  # type: ignore[arg-type]


def _plane_figure(
    name: str, kind: str, projection: Projection, span: SnapshotSpan, landscape: Landscape
) -> Figure:
    sentences = [f"Paths of {_who(span.rows)}, from the ring to the star, projected by {kind}."]
    grid = None
    if isinstance(projection, InvertibleProjection):
        grid = loss_grid(landscape, span, projection)
        steps = ", in steps of equal ratio" if isinstance(_norm(grid.loss), LogNorm) else ""
        sentences.append(
            f"The background is the true {grid.label} at {grid.loss.size} points ({len(grid.x)} x "
            f"{len(grid.y)}) of the map{steps}."
        )
        sentences.append(_not_finite(grid.loss))
    sentences += [_coinciding(projection.coordinates, span.rows), _kept(projection)]
    if isinstance(projection, InvertibleProjection):
        sentences += [_behind(projection, span, landscape), _buffers(landscape)]
    canvas, _ = draw_path_over_loss(projection, span.rows, grid)
    return Figure(name, f"Paths over the loss: {kind}", _join(sentences), canvas, order=20)  # type: ignore[arg-type]


def _som_figure(name: str, projection: SOMProjection, span: SnapshotSpan, landscape: Landscape) -> Figure:
    loss, examples = loss_at(landscape, span, projection.codebook)
    label = _loss_label(examples, landscape.data.examples)
    # Two panels and their colour bars need more than the width of a page of text.
    width = 1.5 * WIDTH
    canvas = Canvas(figsize=(width, 0.4 * width * _ratio(projection) + 1.1), layout="constrained")
    left, right = canvas.subplots(1, 2)
    draw_map(projection, span.rows, loss, left, label=label)
    draw_u_matrix(projection, projection.winners(span.coordinates), right)
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(letter, loc="left", fontweight="bold", fontsize=_TEXT + 1, color=_INK)
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
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in quality.items()) + "."


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


def _behind(projection: InvertibleProjection, span: SnapshotSpan, landscape: Landscape) -> str:
    """Compare the loss drawn under the end of each path with the loss of the network that is there."""
    rows = span.rows.reset_index(drop=True)
    last = rows.groupby(rows["worker"].astype(str))["step"].idxmax().to_numpy()
    shown = projection.inverse(projection.coordinates[last])
    losses, _ = loss_at(landscape, span, np.concatenate([shown, np.asarray(span.coordinates)[last]]))
    drawn, true = losses[: len(last)], losses[len(last) :]
    return (
        f"Under the {'stars' if len(last) > 1 else 'star'} the background shows a loss of {_range(drawn)}; "
        f"the {'networks' if len(last) > 1 else 'network'} at the {'ends have' if len(last) > 1 else 'end has'} "
        f"{_range(true)}."
    )


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"
