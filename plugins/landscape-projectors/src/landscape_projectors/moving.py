"""Pictures that move: an animation of a walk over the loss, and a surface to turn by hand."""

from __future__ import annotations

import json
import shutil
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.patheffects import Normal, Stroke

from landscape.errors import ConfigurationError
from landscape.interfaces import Projection
from landscape.report.style import PALETTE
from landscape_projectors._style import INK, PAPER, TEXT, paths_of
from landscape_projectors.figures import draw_path_over_loss
from landscape_projectors.pictures import checked
from landscape_projectors.surfaces import LossGrid

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

__all__ = ["animate", "find_ffmpeg", "surface_page"]


def animate(
    projection: Projection,
    rows: pd.DataFrame,
    path: str | Path,
    grid: LossGrid | None = None,
    *,
    seconds: float = 6.0,
    frames_per_second: int = 12,
    dots_per_inch: int = 110,
) -> Path:
    """Write an animation of the paths, growing from their starts over the true loss.

    Frames are evenly spaced in steps, so what is fast in it is fast in training.

    Parameters
    ----------
    projection
        Of two dimensions.
    rows
        The columns ``step`` and ``worker`` of the snapshots.
    path
        The file: ``.gif``, written with Pillow, or ``.mp4``, which needs the program ffmpeg: that on the PATH, or
        the one of the package imageio-ffmpeg (``pip install 'landscape-projectors[film]'``).
    grid
        The background, from :func:`~landscape_projectors.surfaces.loss_grid`; None leaves it white.
    seconds, frames_per_second
        How long, and how smooth. The last frame stays for a second more.
    dots_per_inch
        110 dots on each of the 6.5 inches make a picture of about 700 dots.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another ending, an MP4 without ffmpeg, or a projection of other than two dimensions.
    """
    from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    coordinates = checked(projection, rows)
    if path.suffix == ".gif":
        writer: Any = PillowWriter(fps=frames_per_second)
    elif path.suffix == ".mp4":
        program = find_ffmpeg()
        if program is None:
            raise ConfigurationError(
                f"{path.name}: writing MP4 needs the program ffmpeg, which is not on the PATH. Install it, or pip "
                f"install 'landscape-projectors[film]', or write a .gif."
            )

        class Writer(FFMpegWriter):
            # matplotlib looks for the program where its global settings say.
            @classmethod
            def bin_path(cls) -> str:
                return program

        # Players want pixels in 4:2:0, of which width and height are even.
        options = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-pix_fmt", "yuv420p"]
        writer = Writer(fps=frames_per_second, codec="libx264", extra_args=options)
    else:
        raise ConfigurationError(f"{path.name} has the ending {path.suffix!r}; give .gif or .mp4.")

    figure, ax = draw_path_over_loss(projection, rows, grid)
    FigureCanvasAgg(figure)  # type: ignore[arg-type]
    figure.set_dpi(dots_per_inch)
    # The finished picture fixes limits and legend; its paths become faint, and are drawn again as they grow.
    for line in ax.get_lines():
        line.set_alpha(0.18)
    steps = rows["step"].to_numpy(dtype=np.float64)
    paths = paths_of(np.column_stack([coordinates, steps]), rows)
    colours: list[Any] = _colours(paths, ax)
    heads: list[Line2D] = []
    tails: list[Line2D] = []
    for colour in colours:
        around = [Stroke(linewidth=2.8, foreground=PAPER), Normal()]
        tails += ax.plot([], [], color=colour, linewidth=1.8, zorder=20, path_effects=around)
        heads += ax.plot(
            [], [], marker="o", markersize=6, color=colour, markeredgecolor=PAPER, zorder=21, linestyle="none"
        )
    said = ax.text(
        0.02, 0.97, "", transform=ax.transAxes, ha="left", va="top", fontsize=TEXT, color=INK, zorder=22,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )  # fmt: skip
    count = max(2, round(seconds * frames_per_second))
    times = [*np.linspace(steps.min(), steps.max(), count), *[steps.max()] * frames_per_second]

    def draw(now: float) -> list[Any]:
        for walked, tail, head in zip(paths.values(), tails, heads, strict=True):
            passed = walked[walked[:, 2] <= now]
            here = [np.interp(now, walked[:, 2], walked[:, axis]) for axis in (0, 1)]
            tail.set_data(np.append(passed[:, 0], here[0]), np.append(passed[:, 1], here[1]))
            head.set_data([here[0]], [here[1]])
        said.set_text(f"step {now:.0f}")
        return [*tails, *heads, said]

    animation = FuncAnimation(figure, draw, frames=times, blit=False, cache_frame_data=False)  # type: ignore[arg-type]
    animation.save(str(path), writer=writer, dpi=dots_per_inch)
    return path


def find_ffmpeg() -> str | None:
    """Return where the program ffmpeg is: on the PATH, or in the package imageio-ffmpeg; None if nowhere."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ModuleNotFoundError:
        return None
    return str(get_ffmpeg_exe())


def _colours(paths: dict[str, np.ndarray], ax: Any) -> list[Any]:
    """Return the colour that each path has in the picture already."""
    by_label = {str(line.get_label()).removeprefix("worker "): line.get_color() for line in ax.get_lines()}
    return [by_label.get(name, PALETTE[1]) for name in paths]


def surface_page(
    grid: LossGrid,
    projection: Projection | None = None,
    rows: pd.DataFrame | None = None,
    heights: np.ndarray | None = None,
    *,
    title: str = "Loss surface",
) -> str:
    """Return a page that shows the loss as a surface to turn with the mouse, complete in one text.

    The page has no other files and asks no server: a surface of some thousand cells is drawn by two hundred lines of
    JavaScript, so no plotting library has to be put into it.

    Parameters
    ----------
    grid
        The losses.
    projection, rows
        Paths to draw on the surface; both or none. Of two dimensions.
    heights
        The true losses of the snapshots, shape (T,). Paths hang at these heights, above or below the surface where the
        map hides something; without them they lie on the surface.
    title
        Of the page.
    """
    finite = grid.loss[np.isfinite(grid.loss)]
    if not finite.size:
        raise ConfigurationError("No loss of this grid is finite; there is no surface to draw.")
    logarithmic = bool(finite.min() > 0)

    def height(values: np.ndarray) -> list[float | None]:
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.log10(values) if logarithmic else np.asarray(values, dtype=np.float64)
        return [float(value) if np.isfinite(value) else None for value in scaled.ravel()]

    lines: list[dict[str, Any]] = []
    if projection is not None and rows is not None:
        coordinates = checked(projection, rows)
        if heights is None:
            heights = _on_surface(grid, coordinates)
        paths = paths_of(np.column_stack([coordinates, heights]), rows)
        for place, (name, path) in enumerate(paths.items()):
            lines.append(
                {
                    "name": f"worker {name}" if name.isdecimal() else name,
                    "colour": PALETTE[place % len(PALETTE)],
                    "x": path[:, 0].tolist(),
                    "y": path[:, 1].tolist(),
                    "z": height(path[:, 2]),
                }
            )
    labels = projection.axis_labels if projection is not None else ("x", "y")
    data = {
        "x": grid.x.tolist(),
        "y": grid.y.tolist(),
        "z": height(grid.loss),
        "labels": [*labels, grid.label],
        "logarithmic": logarithmic,
        "paths": lines,
    }
    template = resources.files("landscape_projectors").joinpath("surface.html").read_text(encoding="utf-8")
    # "</" could end the script early.
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    return template.replace("{{title}}", escape(title)).replace("{{data}}", text)


def _on_surface(grid: LossGrid, coordinates: np.ndarray) -> np.ndarray:
    from scipy.interpolate import RegularGridInterpolator

    interpolate = RegularGridInterpolator((grid.y, grid.x), grid.loss, bounds_error=False, fill_value=np.nan)
    return np.asarray(interpolate(coordinates[:, ::-1]))
