"""Gradient noise against the curvature, along a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from landscape.interfaces import Figure
from landscape.report.columns import noises_of, where
from landscape.report.style import INK, TEXT, dress, figure, legend_below, logarithmic, sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from landscape.composition import Run

__all__ = ["draw_alignment", "draw_cosines", "figures"]

#: Alignments of at most so many steps are drawn.
_STEPS = 6


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
    noise = noises_of(run.configuration, "CovarianceHessianAlignment")
    for probe in run.directory.array_names():
        entries = [entry for entry in run.arrays(probe) if "covariance_hessian_cosines" in entry]
        if entries:
            own = [entry for entry in entries if entry["worker"] == entries[-1]["worker"]]
            yield _alignment(own, probe, noise)


def _of(worker: str) -> str:
    return "" if worker == "0" else f" Of the point {worker!r}."


def _alignment(entries: Sequence[Mapping[str, Any]], probe: str, noise: str) -> Figure:
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
    # Rings, the earlier the larger: points of different steps that lie on each other are all seen.
    sizes = np.linspace(9, 4, len(chosen)) if len(chosen) > 1 else [4.0]
    rings = [
        {"color": colour, "markersize": size, "markerfacecolor": "none", "markeredgewidth": 1.2}
        for colour, size in zip(colours, sizes, strict=True)
    ]
    for ring, place in zip(rings, chosen, strict=True):
        entry = entries[place]
        draw_alignment(left, entry, **ring)
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
    handles = [Line2D([], [], linestyle="", marker="o", **ring) for ring in rings]
    handles.append(Line2D([], [], color="#888888", linewidth=1))
    legend_below(canvas, handles, [*(f"step {steps[place]}" for place in chosen), "in proportion, last step"])
    caption = (
        f"K is {noise}. Left: its variance along each of the Hessian's leading eigenvectors, against the eigenvalue, "
        "both logarithmic. Where the noise is proportional to the curvature, the points lie on a line of slope 1; that "
        "through the last step's points is grey. Right: how the leading eigenvectors of K lie to those "
        "of the Hessian; ones on the diagonal where they are the same."
    )
    if hidden:
        caption += f" {hidden} eigenvalues that are not positive are not drawn."
    if len(chosen) < len(entries):
        caption += f" {len(chosen)} of the {len(entries)} measured steps are drawn."
    here = where(probe.rpartition(".")[0])
    return Figure(
        f"noise-against-curvature-{probe.lower()}".replace(".", "-"),
        "Covariance of the gradients against the Hessian" + (f" ({here})" if here else ""),
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
