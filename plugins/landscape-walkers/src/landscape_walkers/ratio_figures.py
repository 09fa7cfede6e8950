"""The figure of minimum ratios: which points of zero gradient are minima, and at which loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from landscape.interfaces import Figure
from landscape.report import style
from landscape_walkers.stops import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from landscape.composition import Run

__all__ = ["draw_minimum_ratios", "figures", "points_of"]

_RATIO, _SHARE = "minimum_ratio", "positive_eigenvalue_share"
_COLUMNS = (
    "loss",
    "gradient_norm",
    *(f"{name}{end}" for name in (_RATIO, _SHARE) for end in ("", "_low", "_high")),
)


def points_of(run: Run) -> pd.DataFrame:
    """Return the last measured minimum ratio of every worker of every member, with loss and gradient norm there.

    Columns: ``member``, ``step``, ``worker``, and those of the probes, NaN where something was not measured;
    and ``goal``, the largest gradient norm at which the member was to stop, NaN where it was not to.
    """
    frames = []
    for name, member in run.stages.items():
        metrics = member.metrics
        if _RATIO in metrics:
            last = metrics[metrics[_RATIO].notna()].groupby("worker", sort=False).tail(1)
            known = last.reindex(columns=["step", "worker", *_COLUMNS])
            frames.append(known.assign(member=name, goal=_goal(member)))
    columns = ["member", "step", "worker", *_COLUMNS, "goal"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _goal(member: Run) -> float:
    """Return the gradient norm at which a member was to stop, NaN where it was not to."""
    rules = member.configuration.get("experiment", {}).get("stop", ())
    goals = [
        float(rule["value"])
        for rule in rules
        if rule.get("component") == Target.__name__ and rule.get("metric") == "gradient_norm"
    ]
    return max(goals, default=math.nan)


def missed(points: pd.DataFrame) -> pd.Series[bool]:
    """Return of each point whether it was to reach a gradient norm and did not."""
    return points["gradient_norm"] > points["goal"]


def draw_minimum_ratios(points: pd.DataFrame) -> Canvas:
    """Draw the minimum ratio, and the share of positive Hessian eigenvalues, against the loss.

    Parameters
    ----------
    points
        What :func:`points_of` returns.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    shares = [(_RATIO, "Neighbours with a higher loss"), (_SHARE, "Positive Hessian eigenvalues")]
    shares = [(name, title) for name, title in shares if points[name].notna().any()]
    canvas, grid = style.figure(1, len(shares), height=3.2, share_y=True)
    norms = points["gradient_norm"].to_numpy(np.float64)
    known = norms[np.isfinite(norms) & (norms > 0)]
    scale: Normalize | None = None
    if known.size:
        # Equal norms would leave the scale without a length.
        scale = LogNorm(known.min() / 1.05, known.max() * 1.05)
    shades = ScalarMappable(scale, colormaps["viridis_r"])
    colours: list[Any] = [
        shades.to_rgba(norm) if scale is not None and np.isfinite(norm) and norm > 0 else "#888888"
        for norm in norms
    ]
    for axes, (name, title) in zip(grid[0], shares, strict=True):
        _scatter(axes, points, name, colours)
        style.dress(axes, title=title, x="loss L", y="share" if axes is grid[0, 0] else None)
        axes.set_ylim(-0.03, 1.03)
    if scale is not None:
        bar = canvas.colorbar(shades, ax=list(grid[0]), shrink=0.85, pad=0.02)
        bar.set_label("‖∇L‖", fontsize=style.TEXT, color=style.INK)
        bar.ax.tick_params(which="both", labelsize=style.TEXT - 0.5, colors=style.INK, color="#888888")
        bar.outline.set_visible(False)
    handles = [Line2D([], [], color="#888888", linewidth=1)]
    labels = ["interval, or what is certain"]
    if missed(points).any():
        handles += [Line2D([], [], color="#555555", linestyle="", marker=marker) for marker in "oX"]
        labels += ["gradient norm below its goal", "not reached"]
    style.legend_below(canvas, handles, labels)
    return canvas


def _scatter(axes: Axes, points: pd.DataFrame, name: str, colours: list[Any]) -> None:
    loss, share = (points[column].to_numpy(np.float64) for column in ("loss", name))
    low, high = (points[f"{name}{end}"].to_numpy(np.float64) for end in ("_low", "_high"))
    axes.vlines(loss, low, high, color="#BBBBBB", linewidth=0.9, zorder=2)
    crosses = missed(points).to_numpy()
    for marker, here in (("o", ~crosses), ("X", crosses)):
        if here.any():
            shades = [colour for colour, drawn in zip(colours, here, strict=True) if drawn]
            axes.scatter(
                loss[here],
                share[here],
                c=shades,
                s=26,
                marker=marker,
                linewidths=0.4,
                edgecolors="white",
                zorder=3,
            )
    finite = loss[np.isfinite(loss)]
    if finite.size and finite.min() > 0 and finite.max() / finite.min() > 100:
        axes.set_xscale("log")


def figures(run: Run) -> Iterator[Figure]:
    """Yield the figure for a sweep whose members measured minimum ratio and loss in at least two points."""
    if run.kind != "sweep":
        return
    points = points_of(run)
    points = points[points["loss"].notna()]
    if len(points) < 2:
        return
    caption = (
        f"{len(points)} points, where each member was measured last. Left: the share of neighbours with a higher "
        "loss, which is 1 at a minimum; lines: confidence intervals."
    )
    if points[_SHARE].notna().any():
        caption += (
            " Right: the share of Hessian eigenvalues that are positive beyond rounding; lines reach up to the "
            "share that is not negative beyond rounding."
        )
    if points["gradient_norm"].notna().any():
        caption += " The darker a point, the larger the norm of its gradient."
    goal = points["goal"].dropna()
    if len(goal):
        late = points[missed(points)]
        caption += (
            f" {len(goal) - len(late)} of {len(goal)} points reached the gradient norm at which they were to stop"
            + (f"; {', '.join(dict.fromkeys(late['member']))} did not." if len(late) else ".")
        )
    yield Figure(
        "minimum-ratio", "Minimum ratio against loss", caption, draw_minimum_ratios(points), order=18
    )
