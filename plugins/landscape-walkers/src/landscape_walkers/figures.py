"""Figures of what was measured between workers: distances, interpolations, trained curves.

Functions that draw return the matplotlib figure; none shows, saves or touches matplotlib's global state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from landscape.interfaces import Figure
from landscape.report import style
from landscape_walkers._between import labels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from landscape.composition import Run

__all__ = ["draw_connectivity", "draw_distances", "draw_interpolation", "figures"]

Record = Mapping[str, Any]

#: More paths than this share colours: nobody tells so many apart.
_APART = 6
#: Distance matrices up to this size have their numbers written into them.
_WRITTEN = 9
_BLUE, _VERMILION, _GREEN = style.PALETTE[:3]
_TEST = (0, (3, 1.5))
# From almost white, for points that coincide, to a blue on which white numbers can be read.
_FAR = LinearSegmentedColormap.from_list("landscape_distances", ["#f7fbff", "#9ecae1", "#3182bd", "#08427b"])


def _noun(label: str) -> str:
    return f"worker {label}" if label.isdecimal() else f"the {label}"


def _splits(record: Record, quantity: str, prefix: str = "") -> list[str]:
    """Return the splits on which a record has a quantity, train first."""
    found = [
        match[1] for name in record if (match := re.fullmatch(rf"{re.escape(prefix)}{quantity}_(\w+)", name))
    ]
    return sorted(found, key=lambda split: (split != "train", split))


def _dash(split: str) -> Any:
    return "-" if split == "train" else _TEST


def _line_kinds(splits: Sequence[str]) -> tuple[list[Line2D], list[str]]:
    """Return what the legend says of solid and dashed lines; nothing where all are solid."""
    if all(split == "train" for split in splits):
        return [], []
    names = ["training data" if split == "train" else f"{split} data" for split in splits]
    return [Line2D([], [], color=style.INK, linestyle=_dash(split)) for split in splits], names


def _slug(name: str, default: str, stem: str) -> str:
    """Return a figure's name: the stem alone for the probe's own name, else with its label."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return stem if name == default else f"{stem}-{label}"


# ---------------------------------------------------------------------------------------------------------
# Distances
# ---------------------------------------------------------------------------------------------------------


def draw_distances(records: Sequence[Record]) -> Canvas:
    """Draw the distances between all points at the last step, and their means over the steps.

    Parameters
    ----------
    records
        What :class:`PairwiseDistances` stored, one record per step, in order.
    """
    last = records[-1]
    labels, matrix = labels_of(last["labels"]), last["distances"]
    several = len(records) > 1
    canvas, grid = style.figure(1, 2 if several else 1, width=style.WIDTH if several else 3.6, height=3.1)
    _matrix(canvas, grid[0, 0], labels, matrix, f"Step {last['step']}")
    if several:
        _over_steps(grid[0, 1], labels, records)
    return canvas


def _matrix(canvas: Canvas, axes: Axes, labels: Sequence[str], matrix: np.ndarray, title: str) -> None:
    style.dress(axes, title=title)
    axes.grid(False)
    finite = matrix[np.isfinite(matrix)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    image = axes.imshow(matrix, cmap=_FAR, vmin=0, vmax=top)
    step = max(1, -(-len(labels) // 12))
    shown = range(0, len(labels), step)
    axes.set_xticks(list(shown), [labels[i] for i in shown])
    axes.set_yticks(list(shown), [labels[i] for i in shown])
    axes.tick_params(length=0)
    if len(shown) > 5 and any(len(label) > 2 for label in labels):
        axes.tick_params(axis="x", labelrotation=40)
    for side in axes.spines.values():
        side.set_visible(False)
    if len(labels) <= _WRITTEN:
        for i, j in np.argwhere(np.isfinite(matrix)).tolist():
            if i != j:
                colour = "white" if matrix[i, j] > 0.55 * top else style.INK
                axes.text(j, i, f"{matrix[i, j]:.3g}", ha="center", va="center", fontsize=6.5, color=colour)
    bar = canvas.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=style.TEXT - 0.5, colors=style.INK, color="#888888")
    bar.outline.set_visible(False)


def _over_steps(axes: Axes, labels: Sequence[str], records: Sequence[Record]) -> None:
    style.dress(axes, title="Means over the run", x="step", y="distance")
    steps = np.array([record["step"] for record in records])
    stack = np.stack([record["distances"] for record in records])
    workers = [i for i, label in enumerate(labels) if label.isdecimal()]
    series: list[tuple[str, str, np.ndarray]] = []
    if len(workers) > 1:
        rows, columns = np.triu_indices(len(workers), 1)
        series.append(("between workers", _BLUE, stack[:, rows, columns]))
    others = [i for i in range(len(labels)) if i not in workers]
    for colour, i in zip([_VERMILION, _GREEN, *style.PALETTE[3:6]], others, strict=False):
        series.append((f"workers to {_noun(labels[i])}", colour, stack[:, i, workers]))
    handles = []
    for name, colour, values in series:
        (line,) = axes.plot(steps, values.mean(1), color=colour, linewidth=1.5, label=name)
        axes.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
        handles.append(line)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if style.scale(axes, np.concatenate([values.ravel() for _, _, values in series])) == "linear":
        axes.set_ylim(bottom=0)
    axes.legend(handles=handles, frameon=False, fontsize=style.TEXT, labelcolor=style.INK, loc="best")


# ---------------------------------------------------------------------------------------------------------
# Interpolations
# ---------------------------------------------------------------------------------------------------------


def draw_interpolation(record: Record) -> Canvas:
    """Draw loss and score along the paths of all pairs: a row per quantity, a column per kind of path.

    Parameters
    ----------
    record
        What :class:`Interpolation` stored at one step.
    """
    kinds = [kind for kind in ("", "spherical_") if _splits(record, "loss", kind)]
    quantities = [
        quantity for quantity in ("loss", "score", "gradient_norm") if _splits(record, quantity, kinds[0])
    ]
    labels = labels_of(record["labels"])
    pairs = [(labels[j], labels[i]) for j, i in record["pairs"].tolist()]
    colours, handles, names = _pair_colours(pairs)
    t = record["t"]
    height = len(quantities) * (2.5 if len(kinds) > 1 else 2.7) + 0.5
    canvas, grid = style.figure(len(quantities), len(kinds), height=height, share_x=True, share_y="row")  # type: ignore[arg-type]
    for row, quantity in enumerate(quantities):
        drawn: list[float] = []
        for column, kind in enumerate(kinds):
            axes = grid[row, column]
            for split in _splits(record, quantity, kind):
                values = record[f"{kind}{quantity}_{split}"]
                drawn += values.ravel().tolist()
                many = len(pairs) > _APART
                for line, colour in zip(values, colours, strict=True):
                    axes.plot(
                        t,
                        line,
                        color=colour,
                        linestyle=_dash(split),
                        linewidth=0.8 if many else 1.3,
                        alpha=0.6 if many else 1.0,
                        zorder=3 if colour == _VERMILION else 2,
                    )
            _ends(axes, t)
            title = ("Norm-corrected path" if kind else "Straight path") if row == 0 else None
            style.dress(
                axes,
                title=title,
                x="t" if row == len(quantities) - 1 else None,
                y=_axis(quantity) if column == 0 else None,
            )
        style.scale(grid[row, 0], drawn)
    names = names if len(names) > 1 else []
    more, words = _line_kinds(_splits(record, "loss", kinds[0]))
    style.legend_below(canvas, [*handles[: len(names)], *more], [*names, *words])
    return canvas


def _axis(quantity: str) -> str:
    return {"loss": "loss L", "score": "score", "gradient_norm": "‖∇L‖"}[quantity]


def _ends(axes: Axes, t: np.ndarray) -> None:
    """Mark the two points that a path connects, and keep to the path."""
    for end in (0, 1):
        axes.axvline(end, color="#888888", linewidth=0.9, zorder=1)
    axes.set_xlim(t[0], t[-1])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _pair_colours(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[Line2D], list[str]]:
    """Return a colour per pair, and the legend: pair by pair where they are few, else by what they join."""
    if len(pairs) <= _APART:
        colours = style.sequence(len(pairs))
        names = [f"{_noun(a)} to {_noun(b)}" for a, b in pairs]
        return colours, [Line2D([], [], color=colour, linewidth=2) for colour in colours], names
    groups = {"between workers": _BLUE, "with a centre or another labelled point": _VERMILION}
    kinds = [
        "between workers" if a.isdecimal() and b.isdecimal() else "with a centre or another labelled point"
        for a, b in pairs
    ]
    present = [name for name in groups if name in kinds]
    others = sorted({label for pair in pairs for label in pair if not label.isdecimal()})
    names = [
        "between workers" if name == "between workers" else f"with {' or '.join(map(_noun, others))}"
        for name in present
    ]
    return (
        [groups[kind] for kind in kinds],
        [Line2D([], [], color=groups[name], linewidth=2) for name in present],
        names,
    )


# ---------------------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------------------


def draw_connectivity(record: Record) -> Canvas:
    """Draw loss and score along a trained curve and along the straight line between its ends.

    Parameters
    ----------
    record
        What :class:`ModeConnectivity` stored at one step.
    """
    quantities = [quantity for quantity in ("loss", "score") if _splits(record, quantity)]
    canvas, grid = style.figure(1, len(quantities), height=3.0 if len(quantities) > 1 else 3.4)
    t = record["t"]
    paths = (("trained curve", "", _BLUE), ("straight line", "straight_", _VERMILION))
    for axes, quantity in zip(grid[0], quantities, strict=True):
        drawn: list[float] = []
        for _, prefix, colour in paths:
            for split in _splits(record, quantity, prefix):
                values = record[f"{prefix}{quantity}_{split}"]
                drawn += values.tolist()
                axes.plot(t, values, color=colour, linestyle=_dash(split), linewidth=1.4)
        axes.set_xlim(0, 1)
        style.dress(axes, x="t", y=_axis(quantity))
        style.scale(axes, drawn)
    more, words = _line_kinds(_splits(record, "loss"))
    style.legend_below(
        canvas,
        [*(Line2D([], [], color=colour, linewidth=2) for _, _, colour in paths), *more],
        [*(name for name, _, _ in paths), *words],
    )
    return canvas


# ---------------------------------------------------------------------------------------------------------
# Figures of a run
# ---------------------------------------------------------------------------------------------------------


def figures(run: Run) -> Iterator[Figure]:
    """Yield the figures of everything that was measured between workers; nothing for runs without.

    Arrays are known by their names, whatever label the probe had.
    """
    for name in run.directory.array_names():
        records = list(run.arrays(name))
        kinds = set(records[-1])
        if {"distances", "labels"} <= kinds:
            yield _distances(name, records)
        elif {"pairs", "t", "labels"} <= kinds and len(records[-1]["pairs"]):
            yield _interpolation(name, records[-1])
        elif {"pair", "t", "training_loss"} <= kinds:
            yield _connectivity(name, records[-1])


def _distances(name: str, records: Sequence[Record]) -> Figure:
    last = records[-1]
    labels = labels_of(last["labels"])
    caption = f"Euclidean distances between {_points(labels)} at step {last['step']}."
    if len(records) > 1:
        caption += (
            f" Right: their means at {len(records)} steps; bands reach from the smallest to the largest."
        )
    return Figure(
        _slug(name, "PairwiseDistances", "distances"),
        "Distances between workers",
        caption,
        draw_distances(records),
        order=15,
    )


def _points(labels: Sequence[str]) -> str:
    workers = sum(label.isdecimal() for label in labels)
    others = [_noun(label) for label in labels if not label.isdecimal()]
    return " and ".join([f"{workers} worker{'' if workers == 1 else 's'}", *others])


def _interpolation(name: str, record: Record) -> Figure:
    t, pairs = record["t"], record["pairs"]
    kind = "" if _splits(record, "loss") else "spherical_"
    splits = _splits(record, "loss", kind)
    sentences = [
        f"Along the paths between {len(pairs)} pair{'' if len(pairs) == 1 else 's'} of points at step "
        f"{record['step']}, at {len(t)} values of t from {t[0]:g} to {t[-1]:g}; the points themselves are at the "
        "grey lines, t = 0 (the first of the pair) and t = 1.",
    ]
    if "spherical_exists" in record:
        sentences.append(
            "The norm-corrected path has a norm that changes linearly from one end to the other."
        )
        missing = int((~record["spherical_exists"].astype(bool)).sum())
        if missing:
            sentences.append(
                f"It does not exist at {missing} of {record['spherical_exists'].size} points, where lines end."
            )
    bad = sum(int((~np.isfinite(record[f"{kind}loss_{split}"])).sum()) for split in splits)
    if bad and not kind:
        sentences.append(f"{bad} losses are not finite and not drawn.")
    return Figure(
        _slug(name, "Interpolation", "interpolation"),
        "Between the workers",
        " ".join(filter(None, sentences)),
        draw_interpolation(record),
        order=16,
    )


def _connectivity(name: str, record: Record) -> Figure:
    labels = labels_of(record["labels"])
    first, last = (_noun(labels[i]) for i in record["pair"].tolist())
    caption = (
        f"From {first} (t = 0) to {last} (t = 1) at step {record['step']}, along a curve that was trained for "
        f"{len(record['training_loss'])} steps to have a low training loss, and along the straight line."
    )
    return Figure(
        _slug(name, "ModeConnectivity", "mode-connectivity"),
        f"A curve from {first} to {last}",
        caption,
        draw_connectivity(record),
        order=17,
    )
