"""Figures of walks on noisy quadratics: what was measured, and what theory expects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.interfaces import Figure
from landscape.report.style import PALETTE, dress, figure, legend_below, logarithmic
from landscape_networks.quadratic_comparison import Comparison, comparison_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_loss", "draw_rates", "draw_variances", "figures"]

#: Workers from which on means over them are drawn.
_WORKERS = 8
#: Bars are so many standard errors long, to either side.
_ERRORS = 2.0
_MEASURED, _THEORY, _INDEPENDENT, _SMALL = "#000000", PALETTE[0], PALETTE[1], PALETTE[2]


def figures(run: Run) -> Iterator[Figure]:
    """Yield loss and variances of a walk, losses over the learning rates of a sweep, and all z of a study."""
    if run.kind == "study":
        table = run.tables.get("theory")
        if table is not None and table["z"].notna().sum() > 1:
            yield _agreement(table["z"].dropna().to_numpy(np.float64))
    elif run.kind == "sweep":
        if set(run.configuration["sweep"]["vary"]) == {"walker.lr"}:
            found = [comparison_of(member) for member in run.stages.values()]
            known = [one for one in found if one is not None and one.away.shape[1] >= _WORKERS]
            if len(known) > 1:
                yield _rates(known)
    else:
        one = comparison_of(run)
        if one is not None and one.away.shape[1] >= _WORKERS and len(one.steps) > 2:
            yield _walk(one)


def _mean(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over workers, and the bar to be drawn."""
    count = values.shape[axis]
    return values.mean(axis=axis), _ERRORS * values.std(axis=axis, ddof=1) / math.sqrt(count)


def draw_loss(axes: Axes, found: Comparison) -> None:
    """Draw the mean loss of the workers with bars of two standard errors, and what theory expects."""
    steps = range(len(found.moments))
    axes.plot(
        steps,
        [found.theory.loss(m) for m in found.moments],
        color=_THEORY,
        linewidth=1.4,
        zorder=2,
        label="theory",
    )
    axes.plot(
        steps,
        [found.theory.loss(m) for m in found.independent],
        color=_INDEPENDENT,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        zorder=1,
        label="independent draws",
    )
    row = found.late_loss()
    if math.isfinite(row.small) and row.small > 0:
        axes.axhline(
            row.small, color=_SMALL, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=1, label="small steps"
        )
    mean, bar = _mean(found.losses, 1)
    axes.errorbar(found.steps, mean, bar, label="measured", **_POINTS)
    if mean.min() > 0:
        axes.set_yscale("log")


_POINTS: dict[str, Any] = {
    "color": _MEASURED,
    "linestyle": "",
    "marker": "o",
    "markersize": 2.6,
    "elinewidth": 0.9,
    "zorder": 3,
}


def draw_variances(axes: Axes, found: Comparison) -> None:
    """Draw the mean squares of the weights along the Hessian's eigenvectors in the second half of the walk."""
    values, vectors = found.axes
    kept = values > 0
    rows = [found.late_products(v, v) for v in vectors.T[kept]]
    curvature = values[kept]
    for name, colour, line in (
        ("theory", _THEORY, "-"),
        ("independent", _INDEPENDENT, (0, (4, 2))),
        ("small", _SMALL, (0, (1, 1.5))),
    ):
        drawn = np.array([getattr(row, name) for row in rows])
        if np.isfinite(drawn).all():
            axes.plot(curvature, drawn, color=colour, linestyle=line, linewidth=1.3)
    axes.errorbar(curvature, [row.measured for row in rows], [_ERRORS * row.error for row in rows], **_POINTS)
    axes.set_xscale("log")
    if min(row.measured for row in rows) > 0:
        axes.set_yscale("log")


def _legend(canvas: Any, extra: Sequence[tuple[Any, str]] = (), *, small: bool = True) -> None:
    from matplotlib.lines import Line2D

    entries = [
        (
            Line2D([], [], color=_MEASURED, linestyle="", marker="o", markersize=3.5),
            "measured, ± 2 standard errors",
        ),
        (Line2D([], [], color=_THEORY), "theory"),
        (Line2D([], [], color=_INDEPENDENT, linestyle=(0, (4, 2))), "theory, independent draws"),
    ]
    if small:
        entries.append(
            (Line2D([], [], color=_SMALL, linestyle=(0, (1, 1.5))), "theory, small steps, in the end")
        )
    entries += extra
    legend_below(canvas, [handle for handle, _ in entries], [label for _, label in entries])


def _walk(found: Comparison) -> Figure:
    canvas, grid = figure(1, 2, height=3.3)
    left, right = grid[0]
    dress(left, title="Expected loss", x="step", y="E[L]")
    draw_loss(left, found)
    dress(
        right, title="Fluctuations of the weights", x="eigenvalue hᵢ of the Hessian", y="E[(vᵢ · a)²], late"
    )
    draw_variances(right, found)
    for axis in (left.yaxis, right.xaxis, right.yaxis):
        logarithmic(axis)
    _legend(canvas)
    late = found.steps[found.late]
    return Figure(
        "theory-and-walk",
        "Theory and measurement",
        f"Means over {found.away.shape[1]} workers, a = θ − m the distance of the weights from the minimum. Right: "
        f"mean squares along the Hessian's eigenvectors, from step {late[0]} to {late[-1]}. Theory is exact for "
        "mini-batches cut from a permutation of the data in every epoch, as walkers draw them; independent draws are "
        "the usual assumption, small steps its limit.",
        canvas,
        order=12,
    )


def draw_rates(axes: Axes, found: Sequence[Comparison]) -> None:
    """Draw the expected loss after the last step over the learning rate, the best rate, and the edge of stability."""
    first = found[0]
    rates = np.array([one.theory.lr for one in found])
    start, steps = first.away[0], int(first.steps[-1])
    second = start.T @ start / len(start)
    grid = np.geomspace(rates[rates > 0].min() / 1.2, rates.max(), 200)

    def expected(rate: float, draws: Any) -> float:
        theory = first.theory.at(rate)
        return theory.loss(theory.moments(start.mean(axis=0), steps, second=second, draws=draws)[-1])

    axes.plot(grid, [expected(rate, "reshuffled") for rate in grid], color=_THEORY, linewidth=1.4)
    axes.plot(
        grid,
        [expected(rate, "independent") for rate in grid],
        color=_INDEPENDENT,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        zorder=1,
    )
    below = grid[grid < 0.999 * first.theory.edge]
    floors = [first.theory.at(rate) for rate in below]
    axes.plot(
        below,
        [float((one.hessian * one.small_step_covariance()).sum()) / 2 for one in floors],
        color=_SMALL,
        linewidth=1.2,
        linestyle=(0, (1, 1.5)),
        zorder=1,
    )
    means = [_mean(one.losses[-1], 0) for one in found]
    axes.errorbar(rates, [mean for mean, _ in means], [bar for _, bar in means], **_POINTS)
    axes.axvline(first.theory.edge, color="#888888", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")


def _rates(found: Sequence[Comparison]) -> Figure:
    from matplotlib.lines import Line2D

    found = sorted(found, key=lambda one: one.theory.lr)
    first = found[0]
    steps = int(first.steps[-1])
    canvas, grid = figure(1, 1, height=3.4, width=5.2)
    axes = grid[0, 0]
    dress(axes, title=f"Loss after {steps} steps", x="learning rate η", y="E[L]")
    draw_rates(axes, found)
    extra = [(Line2D([], [], color="#888888"), "edge of stability")]
    words = f"Beyond the edge of stability at η = {first.theory.edge:.4g} the loss grows without bound."
    start = first.away[0]
    if np.allclose(start, start[0]):
        try:
            rate, least = first.theory.best_lr(start[0], steps)
        except LandscapeError:
            pass
        else:
            axes.plot([rate], [least], color=PALETTE[3], marker="*", markersize=11, linestyle="", zorder=4)
            extra.append(
                (
                    Line2D([], [], color=PALETTE[3], marker="*", linestyle="", markersize=9),
                    "best rate in theory",
                )
            )
            words = f"The best learning rate in theory is η = {rate:.4g}, with a loss of {least:.4g}. {words}"
    logarithmic(axes.xaxis)
    logarithmic(axes.yaxis)
    _legend(canvas, extra)
    return Figure(
        "theory-and-rates",
        "Learning rates, in theory and measured",
        f"Means over {first.away.shape[1]} workers. {words} Small steps: the floor that is reached in the end, to "
        "first order in η.",
        canvas,
        order=12,
    )


def _agreement(z: np.ndarray) -> Figure:
    from scipy.stats import norm

    canvas, grid = figure(1, 1, height=3.2, width=5.2)
    axes = grid[0, 0]
    ordered = np.sort(z)
    normal = norm.ppf((np.arange(len(z)) + 0.5) / len(z))
    dress(axes, title="All differences", x="quantile of the normal distribution", y="z")
    ends = np.array([min(normal[0], ordered[0]), max(normal[-1], ordered[-1])])
    axes.plot(ends, ends, color=_THEORY, linewidth=1.3, zorder=1)
    axes.plot(normal, ordered, color=_MEASURED, linestyle="", marker="o", markersize=2.8)
    outside = int((abs(z) > 2).sum())
    return Figure(
        "theory-and-all-quantities",
        "Differences from theory in standard errors",
        f"z = (measured − theory) / standard error of {len(z)} quantities, in order, against what as many normal "
        f"numbers would be. {outside} lie beyond ±2, where {0.0455 * len(z):.1f} are to be expected; the largest is "
        f"{abs(z).max():.2f}. Quantities of the same walk are not independent of each other.",
        canvas,
        order=11,
    )
