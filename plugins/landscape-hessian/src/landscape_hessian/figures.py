"""Spectral densities along a run, drawn with their standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from landscape.interfaces import Figure
from landscape.report.columns import MATRICES, where
from landscape.report.style import dress, figure, legend_below, sequence, worker_styles
from landscape_hessian.operators import KINDS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_density", "figures"]

#: Densities of at most so many steps are drawn, and of so many workers.
_STEPS = 5
_WORKERS = 4
#: Parts of the largest density below which nothing is drawn: a bell's tail says nothing of the spectrum.
_FLOOR = 1e-5


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
    known = _sharpness_table(run)
    if known is None:
        return
    table, stated = known
    counts = table["worker"].value_counts(sort=False)
    workers = [str(worker) for worker in table["worker"].unique() if counts[worker] > 1]
    if not workers:
        return
    canvas, grid = figure(1, 1)
    axes = grid.flat[0]
    dress(axes, x="step", y="largest eigenvalue, λ₁η / 2")
    styles = worker_styles(workers)
    handles = []
    for worker in workers:
        rows = table[table["worker"] == worker].sort_values("step")
        (line,) = axes.plot(rows["step"], rows["sharpness"], **styles[worker].keywords())
        handles.append(line)
    handles.append(axes.axhline(1.0, color="0.3", linestyle="--", linewidth=1.0))
    legend_below(
        canvas, handles, [*(f"worker {worker}" for worker in workers), "edge of stability, λ₁η / 2 = 1"]
    )
    yield Figure(
        "sharpness",
        "Sharpness against the edge of stability",
        f"Largest eigenvalue λ₁ of the Hessian in units of 2 / η, with {stated} η. Above the dashed line, plain "
        "gradient descent is unstable along its eigenvector. Noise in the gradient often keeps SGD below it.",
        canvas,
        order=29,
    )


def _sharpness_table(run: Run) -> tuple[pd.DataFrame, str] | None:
    """Return the measurements with a column ``sharpness``, and which learning rate that is for; None for none."""
    table = run.metrics
    if "hessian_sharpness" in table:
        values, stated = table["hessian_sharpness"], "the stated learning rate"
    elif "hessian_eigenvalue_1" in table and (rates := _constant_rates(run)) is not None:
        rate = table["worker"].astype(str).map(lambda worker: rates.get(worker, np.nan))
        values, stated = table["hessian_eigenvalue_1"] * rate / 2, "the walker's learning rate"
    else:
        return None
    found = table[["step"]].assign(worker=table["worker"].astype(str), sharpness=values)
    return found[found["sharpness"].notna()], stated


def _constant_rates(run: Run) -> Mapping[str, float] | None:
    """Return the learning rate of every worker; None where it changes, or where 2 over it is not the edge."""
    if run.kind != "experiment" or len(run.changes):
        return None
    walker = run.configuration["experiment"]["walker"]
    if str(walker.get("component")).rpartition(":")[2] not in ("GD", "SGD"):
        return None
    if any(np.any(walker.get(name)) for name in ("momentum", "weight_decay")):
        return None
    rates = walker.get("lr")
    if isinstance(rates, Sequence) and not isinstance(rates, str):
        return {str(worker): float(rate) for worker, rate in enumerate(rates)}
    if not isinstance(rates, int | float):
        return None
    return {str(worker): float(rates) for worker in run.metrics["worker"].unique() if str(worker).isdigit()}


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
    here = where(probe.rpartition(".")[0])
    skipped = (
        f" {len(chosen)} of the {len(steps)} measured steps are drawn." if len(chosen) < len(steps) else ""
    )
    return Figure(
        f"density-{probe.lower()}-{kind}".replace(".", "-"),
        f"Spectral density of the {MATRICES[kind]}" + (f" ({here})" if here else ""),
        "Stochastic Lanczos quadrature, smoothed by a bell curve; 1 in all. The band is one standard error of the mean "
        "over random vectors. Single outliers are bells of weight 1/P."
        + skipped
        + (f" {left} further workers are not drawn." if left else ""),
        canvas,
        order=30,
    )
