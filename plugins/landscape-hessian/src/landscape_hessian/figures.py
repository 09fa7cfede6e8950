"""Spectral densities along a run, drawn with their standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from landscape.interfaces import Figure
from landscape.report.style import dress, figure, legend_below, sequence, worker_styles
from landscape_hessian.operators import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_density", "figures"]

#: Densities of at most so many steps are drawn, and of so many workers.
_STEPS = 5
_WORKERS = 4
#: Parts of the largest density below which nothing is drawn: a bell's tail says nothing of the spectrum.
_FLOOR = 1e-5

_NAMES = {
    "hessian": "Hessian",
    "gauss_newton": "Gauss-Newton matrix",
    "fisher": "empirical Fisher matrix",
    "second_moment": "second moment of the examples' gradients",
    "covariance": "covariance of the examples' gradients",
}


def draw_density(axes: Axes, arrays: Mapping[str, Any], *, kind: str = "hessian", **keywords: Any) -> None:
    """Draw one density with a band of one standard error, on a logarithmic scale.

    Parameters
    ----------
    axes
        Where to draw.
    arrays
        What ``CurvatureDensity`` measured.
    kind
        Of which matrix.
    **keywords
        For the curve.
    """
    name = f"{KINDS[kind]}_density"
    grid, density = np.asarray(arrays[f"{name}_grid"]), np.asarray(arrays[name])
    error = np.asarray(arrays[f"{name}_error"])
    floor = _FLOOR * density.max()
    shown = np.where(density > floor, density, np.nan)
    (line,) = axes.plot(grid, shown, **keywords)
    axes.fill_between(
        grid,
        np.maximum(density - error, floor),
        np.maximum(density + error, floor),
        where=density > floor,
        color=line.get_color(),
        alpha=0.25,
        linewidth=0,
    )
    axes.set_yscale("log")


def figures(run: Run) -> Iterator[Figure]:
    """Yield a figure for every kind of density that the run measured, and one of the sharpness."""
    yield from _sharpness(run)
    for probe in run.directory.array_names():
        entries = run.arrays(probe)
        for kind in KINDS:
            if f"{KINDS[kind]}_density_nodes" in entries[0]:
                yield _figure(entries, probe, kind)


def _sharpness(run: Run) -> Iterator[Figure]:
    """Yield the largest eigenvalue in units of 2 / learning rate, where it was measured along a path."""
    table = run.metrics
    if "hessian_sharpness" not in table:
        return
    table = table[table["hessian_sharpness"].notna()]
    counts = table["worker"].value_counts(sort=False)
    workers = [str(worker) for worker in table["worker"].unique() if counts[worker] > 1]
    if not workers:
        return
    canvas, grid = figure(1, 1)
    axes = grid.flat[0]
    dress(axes, x="step", y="largest eigenvalue · learning rate / 2")
    styles = worker_styles(workers)
    handles = []
    for worker in workers:
        rows = table[table["worker"].astype(str) == worker].sort_values("step")
        (line,) = axes.plot(rows["step"], rows["hessian_sharpness"], **styles[worker].keywords())
        handles.append(line)
    handles.append(axes.axhline(1.0, color="0.3", linestyle="--", linewidth=1.0))
    legend_below(canvas, handles, [*(f"worker {worker}" for worker in workers), "2 / learning rate"])
    yield Figure(
        "sharpness",
        "Sharpness against the edge of stability",
        "Above the dashed line, plain gradient descent with the stated learning rate is unstable along the leading "
        "eigenvector of the Hessian.",
        canvas,
        order=29,
    )


def _figure(entries: Sequence[Mapping[str, Any]], probe: str, kind: str) -> Figure:
    by_worker: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_worker.setdefault(str(entry["worker"]), []).append(entry)
    workers = list(by_worker)[:_WORKERS]
    canvas, grid = figure(len(workers), 1, height=2.6 * len(workers), share_x=True)
    steps = sorted({entry["step"] for entry in entries})
    chosen = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, _STEPS).round().astype(int))]
    colours = dict(zip(chosen, sequence(len(chosen)), strict=True))
    for axes, worker in zip(grid.flat, workers, strict=True):
        last = worker == workers[-1]
        dress(
            axes, title=worker if len(by_worker) > 1 else None, x="eigenvalue" if last else None, y="density"
        )
        for entry in by_worker[worker]:
            if entry["step"] in colours:
                draw_density(axes, entry, kind=kind, color=colours[entry["step"]], linewidth=1.2)
    handles = [Line2D([], [], color=colours[step]) for step in chosen]
    legend_below(canvas, handles, [f"step {step}" for step in chosen])
    left = len(by_worker) - len(workers)
    return Figure(
        f"density-{probe.lower()}-{kind}".replace(".", "-"),
        f"Spectral density of the {_NAMES[kind]}",
        "Stochastic Lanczos quadrature, smoothed by a bell curve; 1 in all. The band is one standard error of the mean "
        "over random vectors. Single outliers are bells of weight 1/P."
        + (f" {left} further workers are not drawn." if left else ""),
        canvas,
        order=30,
    )
