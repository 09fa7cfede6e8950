"""How figures look, for the core and for plugins that want to look alike.

Everything here works on the figure it is given: nothing reads or changes matplotlib's global state, and
nothing imports ``pyplot``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "DOTS_PER_INCH",
    "INK",
    "PALETTE",
    "TEXT",
    "WIDTH",
    "LineStyle",
    "dress",
    "figure",
    "legend_below",
    "logarithmic",
    "order_of",
    "scale",
    "sequence",
    "worker_styles",
]

#: Eight colours that colour-blind readers can tell apart (Okabe & Ito, Color Universal Design, 2008), the
#: weakest on white last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
#: Width of a figure in inches: a page's text width with 1-inch margins.
WIDTH = 6.5
#: Resolution of saved pictures; 200 is sharp on a screen of twice the usual density at this width.
DOTS_PER_INCH = 200

#: Colour of words, and their size in points.
INK = "#222222"
TEXT = 8.5
_FAINT = "#D9D9D9"


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = WIDTH,
    height: float | None = None,
    share_x: bool = False,
    share_y: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Make a figure with a grid of axes, laid out so that nothing overlaps.

    Parameters
    ----------
    rows, columns
        The grid.
    width, height
        In inches. By default the panels are two thirds as high as wide, and at most 3.2 inches high.
    share_x, share_y
        Whether all panels share their horizontal, their vertical axis.

    Returns
    -------
    figure
        A matplotlib figure that belongs to nobody else.
    axes
        Shape (rows, columns).
    """
    if height is None:
        height = rows * min(3.2, width / columns * 2 / 3)
    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = made.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    for panel in axes.flat:
        dress(panel)
    return made, axes


def dress(
    axes: Axes,
    *,
    title: str | None = None,
    x: str | None = None,
    y: str | None = None,
) -> None:
    """Give axes the house style and, where told, a title and labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(which="both", labelsize=TEXT - 0.5, colors=INK, color="#888888", width=0.8)
    axes.grid(True, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if title is not None:
        axes.set_title(title, fontsize=TEXT + 0.5, color=INK, loc="left")
    if x is not None:
        axes.set_xlabel(x, fontsize=TEXT, color=INK)
    if y is not None:
        axes.set_ylabel(y, fontsize=TEXT, color=INK)


def scale(axes: Axes, values: Iterable[float]) -> str:
    """Choose the vertical scale: logarithmic where all values are positive and span more than two decades.

    Returns
    -------
    str
        ``"log"`` or ``"linear"``.
    """
    finite = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if finite.size and finite.min() > 0 and finite.max() / finite.min() > 100:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return "log"
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    return "linear"


def logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis so that its numbers do not overlap, however short or long it is.

    An axis with another scale is left as it is.
    """
    if axis.get_scale() != "log":
        return
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    if decades < 2:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades > 0.7 else tuple(range(1, 10))))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    else:
        axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(NullFormatter())


@frozen
class LineStyle:
    """How the lines of one worker are drawn."""

    color: str
    linewidth: float
    zorder: float
    alpha: float

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments for ``Axes.plot``."""
        return {
            "color": self.color,
            "linewidth": self.linewidth,
            "zorder": self.zorder,
            "alpha": self.alpha,
        }


def order_of(worker: str) -> tuple[int, int, str]:
    """Return the key that sorts workers by number, and further points behind them by name."""
    return (0, int(worker), "") if worker.isdecimal() else (1, 0, worker)


def worker_styles(workers: Sequence[str], *, ramp: bool = False) -> dict[str, LineStyle]:
    """Return a style per worker, in the order of :func:`order_of`.

    Numbered workers have thin lines in colours of their own; more than seven of them share one colour, since
    nobody tells so many apart, or with `ramp` have the colours of :func:`sequence`, since they have an order.
    The other points, a centre or an average, are drawn black and thick above them: they are what the run is
    about.
    """
    ordered = sorted(workers, key=order_of)
    numbered = [worker for worker in ordered if worker.isdecimal()]
    others = [worker for worker in ordered if not worker.isdecimal()]
    colours = [colour for colour in PALETTE if colour != "#000000"]
    many = len(numbered) > len(colours)
    if many and ramp:
        many, colours = False, sequence(len(numbered))
    styles = {
        worker: LineStyle(
            color="#7A9CC6" if many else colours[index],
            linewidth=0.7 if many else 1.2,
            zorder=2,
            alpha=0.7 if many else 1.0,
        )
        for index, worker in enumerate(numbered)
    }
    emphasis = ["#000000", PALETTE[1], PALETTE[2], PALETTE[3]]
    for index, worker in enumerate(others):
        styles[worker] = LineStyle(emphasis[index % len(emphasis)], linewidth=2.0, zorder=3, alpha=1.0)
    return styles


def sequence(count: int) -> list[str]:
    """Return `count` colours for things that have an order: the palette's first if few, else a ramp."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count <= 6:
        return list(PALETTE[:count])
    # The last fifth of viridis is too light to be seen on white.
    return [to_hex(colormaps["viridis"](0.8 * index / (count - 1))) for index in range(count)]


def legend_below(target: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put one legend for all panels below them, where it covers nothing."""
    if not handles:
        return
    # In inches: a handle with the gaps about it, and a character of this size.
    room = max(1, int(target.get_figwidth() / (0.58 + 0.06 * max(map(len, labels)))))
    rows = -(-len(handles) // room)
    columns = -(-len(handles) // rows)
    # The panels keep their height: the figure grows by what the legend has beyond two rows, of 0.19 inches each.
    target.set_figheight(target.get_figheight() + 0.19 * max(0, rows - 2))
    # matplotlib fills column by column; people read row by row.
    order = [index for column in range(columns) for index in range(column, len(handles), columns)]
    target.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
        labelcolor=INK,
    )
