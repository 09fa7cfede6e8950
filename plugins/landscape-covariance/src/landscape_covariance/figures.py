"""Gradient noise beside the curvature, along a run: eigenvalues, the one against the other, and overlaps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from landscape.interfaces import Figure
from landscape.report.style import (
    INK,
    TEXT,
    dress,
    figure,
    legend_below,
    logarithmic,
    sequence,
    worker_styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_alignment", "draw_cosines", "figures"]

#: Alignments of at most so many steps are drawn.
_STEPS = 4
#: Eigenvalues and shares of at most so many indices are drawn.
_INDICES = 10

#: Columns of shares that belong to the first i eigenvectors of the Hessian: title and label of the axis.
_SHARES = {
    "gradient_hessian_overlap": ("Gradient of all data", "|Pᵢ∇L| / |∇L|"),
    "batch_gradient_hessian_overlap": ("Mini-batch gradients", "mean of |Pᵢg| / |g|"),
    "covariance_in_hessian": ("Noise of the gradient", "tr(PᵢK) / tr K"),
}


def _indices(names: Sequence[str], stem: str) -> list[int]:
    found = (re.fullmatch(rf"{stem}_(\d+)", name) for name in names)
    return sorted(int(one[1]) for one in found if one)[:_INDICES]


def draw_alignment(axes: Axes, arrays: Mapping[str, Any], **keywords: Any) -> None:
    """Draw the variance of the gradient along the Hessian's eigenvectors against their eigenvalues, log-log.

    Parameters
    ----------
    axes
        Where to draw.
    arrays
        What ``CovarianceHessianAlignment`` measured.
    **keywords
        For the points.
    """
    curvature, noise = (
        np.asarray(arrays[name], dtype=np.float64)
        for name in ("hessian_eigenvalues", "covariance_along_hessian")
    )
    kept = (curvature > 0) & (noise > 0)
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4}
    axes.plot(curvature[kept], noise[kept], **(look | keywords))
    axes.set_xscale("log")
    axes.set_yscale("log")


def draw_cosines(axes: Axes, arrays: Mapping[str, Any]) -> Any:
    """Draw the squared cosines between the leading eigenvectors of covariance and Hessian; return the image.

    Parameters
    ----------
    axes
        Where to draw.
    arrays
        What ``CovarianceHessianAlignment`` measured.
    """
    cosines = np.asarray(arrays["covariance_hessian_cosines"], dtype=np.float64)
    rows, columns = cosines.shape
    extent = (0.5, columns + 0.5, rows + 0.5, 0.5)
    image = axes.imshow(cosines, vmin=0, vmax=1, cmap="cividis", extent=extent, interpolation="nearest")
    axes.grid(False)
    axes.set_xticks(range(1, columns + 1) if columns <= 12 else [1, columns])
    axes.set_yticks(range(1, rows + 1) if rows <= 12 else [1, rows])
    return image


def figures(run: Run) -> Iterator[Figure]:
    """Yield the figures for whatever of it an experiment measured."""
    if run.kind not in ("experiment", "recorder"):
        return
    metrics = run.metrics
    if not len(metrics):
        return
    names = [str(name) for name in metrics.columns]
    hessian, covariance = (_indices(names, f"{stem}_eigenvalue") for stem in ("hessian", "covariance"))
    worker = _worker(metrics, names)
    if hessian and covariance:
        own = metrics[metrics["worker"] == worker]
        if own.dropna(subset="covariance_eigenvalue_1")["step"].nunique() > 2:
            yield _eigenvalues(own, hessian, covariance, worker)
    for probe in run.directory.array_names():
        entries = [entry for entry in run.arrays(probe) if "covariance_hessian_cosines" in entry]
        if entries:
            yield _alignment([entry for entry in entries if entry["worker"] == entries[-1]["worker"]], probe)
    shares = {stem: _indices(names, stem) for stem in _SHARES}
    if shares["covariance_in_hessian"]:
        own = metrics[metrics["worker"] == worker]
        if own.dropna(subset="covariance_in_hessian_1")["step"].nunique() > 2:
            yield _shares(own, {stem: indices for stem, indices in shares.items() if indices}, worker)


def _worker(metrics: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the point whose noise is drawn: the first of those that were measured."""
    measured = [name for name in names if name.startswith(("covariance_eigenvalue", "covariance_in_hessian"))]
    known = metrics[metrics[measured].notna().any(axis=1)]["worker"] if measured else metrics["worker"]
    return str(next(iter(worker_styles(list(known.unique()) or ["0"]))))


def _of(worker: str) -> str:
    return "" if worker == "0" else f" Of the point {worker!r}."


def _curve(axes: Axes, table: pd.DataFrame, column: str, **keywords: Any) -> np.ndarray:
    known = table[table[column].notna()]
    steps, values = known["step"].to_numpy(np.float64), known[column].to_numpy(np.float64)
    marker: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(steps) <= 25 else {}
    axes.plot(steps, values, **(marker | keywords))
    error = f"{column}_error"
    if error in known:
        errors = known[error].to_numpy(np.float64)
        there = np.isfinite(errors)
        axes.fill_between(
            steps[there],
            (values - errors)[there],
            (values + errors)[there],
            color=keywords["color"],
            alpha=0.2,
            linewidth=0,
        )
    return values


def _eigenvalues(
    table: pd.DataFrame, hessian: Sequence[int], covariance: Sequence[int], worker: str
) -> Figure:
    count = max(len(hessian), len(covariance))
    colours = sequence(count)
    canvas, grid = figure(1, 2, height=3.0)
    panels = (
        ("hessian", "Hessian of the loss", "eigenvalue λᵢ", hessian),
        ("covariance", "Covariance of the gradients", "eigenvalue κᵢ", covariance),
    )
    hidden = 0
    for axes, (stem, title, label, indices) in zip(grid.flat, panels, strict=True):
        dress(axes, title=title, x="step", y=label)
        for place, index in enumerate(indices):
            column = f"{stem}_eigenvalue_{index}"
            # A logarithmic axis has no place for what is not positive; a gap says so.
            positive = table.assign(**{column: table[column].where(table[column] > 0)})
            hidden += int((table[column] <= 0).sum())
            positive = positive.drop(columns=[f"{column}_error"], errors="ignore")
            _curve(axes, positive, column, color=colours[place], linewidth=1.2)
        axes.set_yscale("log")
        logarithmic(axes.yaxis)
    handles = [Line2D([], [], color=colour) for colour in colours]
    legend_below(canvas, handles, [f"i = {i + 1}" for i in range(count)])
    caption = (
        "The largest eigenvalues of the Hessian of the training loss and of the covariance of the gradients, the "
        "largest first. Logarithmic vertical axes, one for each."
    )
    if hidden:
        caption += f" {hidden} values that are not positive are left out."
    return Figure(
        "eigenvalues-of-noise-and-curvature",
        "Eigenvalues of curvature and noise",
        caption + _of(worker),
        canvas,
        order=31,
    )


def _alignment(entries: Sequence[Mapping[str, Any]], probe: str) -> Figure:
    steps = [entry["step"] for entry in entries]
    chosen = np.unique(np.linspace(0, len(steps) - 1, _STEPS).round().astype(int))
    colours = sequence(len(chosen))
    canvas, grid = figure(1, 2, height=3.6)
    left, right = grid[0]
    dress(
        left,
        title="Noise against curvature",
        x="eigenvalue λᵢ of the Hessian",
        y="variance vᵢᵀKvᵢ of the gradient",
    )
    hidden = 0
    for colour, place in zip(colours, chosen, strict=True):
        entry = entries[place]
        draw_alignment(left, entry, color=colour)
        known = np.isfinite(entry["hessian_eigenvalues"])
        hidden += int((np.asarray(entry["hessian_eigenvalues"])[known] <= 0).sum())
    _proportional(left, entries[chosen[-1]])
    logarithmic(left.xaxis)
    logarithmic(left.yaxis)
    dress(
        right,
        title=f"Squared cosines, step {steps[-1]}",
        x="eigenvector of the Hessian",
        y="eigenvector of K",
    )
    image = draw_cosines(right, entries[-1])
    bar = canvas.colorbar(image, ax=right, shrink=0.8, pad=0.03)
    bar.set_label("(uⱼ · vᵢ)²", fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT - 0.5, colors=INK, color="#888888")
    bar.outline.set_visible(False)
    handles = [Line2D([], [], color=colour, linestyle="", marker="o", markersize=4) for colour in colours]
    handles.append(Line2D([], [], color="#888888", linewidth=1))
    legend_below(canvas, handles, [*(f"step {steps[place]}" for place in chosen), "in proportion, last step"])
    caption = (
        "Left: the variance of the gradients along each of the Hessian's leading eigenvectors, against its eigenvalue, "
        "both logarithmic. Where the noise is proportional to the curvature, the points lie on a line of slope 1; that "
        "through the last step's points is grey. Right: how the leading eigenvectors of the covariance K lie to those "
        "of the Hessian; ones on the diagonal where they are the same."
    )
    if hidden:
        caption += f" {hidden} eigenvalues that are not positive are not drawn."
    return Figure(
        f"noise-against-curvature-{probe.lower()}".replace(".", "-"),
        "Covariance of the gradients against the Hessian",
        caption + _of(str(entries[-1]["worker"])),
        canvas,
        order=32,
    )


def _proportional(axes: Axes, arrays: Mapping[str, Any]) -> None:
    """Draw the line of slope 1 through the geometric mean of the points."""
    curvature, noise = (
        np.asarray(arrays[name], dtype=np.float64)
        for name in ("hessian_eigenvalues", "covariance_along_hessian")
    )
    kept = (curvature > 0) & (noise > 0)
    if kept.sum() > 1:
        ends = np.array([curvature[kept].min(), curvature[kept].max()])
        factor = np.exp(np.log(noise[kept] / curvature[kept]).mean())
        axes.plot(ends, factor * ends, color="#888888", linewidth=1, zorder=1)


def _shares(table: pd.DataFrame, shares: Mapping[str, Sequence[int]], worker: str) -> Figure:
    columns = len(shares)
    canvas, grid = figure(1, columns, height=2.9, share_y=True)
    count = max(map(len, shares.values()))
    colours = sequence(count)
    banded = False
    for axes, (stem, indices) in zip(grid.flat, shares.items(), strict=True):
        title, label = _SHARES[stem]
        dress(axes, title=title, x="step", y=label)
        for place, index in enumerate(indices):
            _curve(axes, table, f"{stem}_{index}", color=colours[place], linewidth=1.2)
            banded |= f"{stem}_{index}_error" in table
        axes.set_ylim(-0.03, 1.03)
    handles = [Line2D([], [], color=colour) for colour in colours]
    legend_below(canvas, handles, [f"i = {i + 1}" for i in range(count)])
    caption = (
        "How much lies in the span of the Hessian's first i eigenvectors (Pᵢ projects on it): of the gradient and of "
        "mini-batch gradients the relative length, of the noise the share of its variance. Each rises with i."
    )
    return Figure(
        "overlaps-with-the-hessian",
        "Overlaps with the Hessian's leading eigenspaces",
        caption + (" Bands: one standard error." if banded else "") + _of(worker),
        canvas,
        order=33,
    )
