"""Curves of what was measured along a run, one panel per kind of quantity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from attrs import evolve, frozen

from landscape.interfaces import Figure
from landscape.report import style
from landscape.report.columns import MATRICES, is_minor, prefix_of, where
from landscape.report.numbers import name_of, number, subscript

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figures", "quantities"]

#: Curves of more points than this are drawn without a mark at each.
MARKED = 25
#: A caption names so many quantities that never changed.
CONSTANTS = 6
#: A spectrum has a panel per worker, for at most so many workers.
PANELS = 6


@frozen
class _Panel:
    """What one panel shows.

    Attributes
    ----------
    title, y
        Its title and the label of its vertical axis.
    columns
        The columns it draws: the first solid, the others, of test data, dashed.
    bands
        For each of them the columns between which a band is drawn, or None.
    caption
        What the caption says of it.
    """

    title: str
    y: str
    columns: tuple[str, ...]
    bands: tuple[tuple[str, str] | None, ...] = ()
    caption: str = ""


_TRAINING = (
    _Panel("Loss", "loss L", ("loss", "loss_test", "test.loss")),
    _Panel("Score", "score", ("score", "score_test", "test.score")),
)
_PATH = (
    _Panel(
        "Gradient norm",
        "‖∇L‖",
        ("gradient_norm", "gradient_norm_test", "test.gradient_norm"),
        caption="Euclidean norm of the gradient of the loss",
    ),
    _Panel("Weight norm", "‖θ‖", ("weight_norm",), caption="Euclidean norm of the weights"),
    _Panel(
        "Distance from the start",
        "‖θ − θ₀‖",
        ("distance_from_start",),
        caption="distance of the weights from where they started",
    ),
    _Panel(
        "Cosine with the start",
        "⟨θ, θ₀⟩ / ‖θ‖‖θ₀‖",
        ("cosine_with_start",),
        caption="cosine of the angle between the weights and those at the start",
    ),
)


@frozen
class _Family:
    """Numbered quantities that belong into one panel, such as eigenvalues."""

    stem: str
    name: str
    title: str
    y: str
    item: str
    caption: str
    limits: tuple[float, float] | None = None


_FAMILIES = (
    _Family(
        "hessian_eigenvalue",
        "hessian-eigenvalues",
        "Largest Hessian eigenvalues",
        "eigenvalue",
        "λ",
        "Largest eigenvalues of the Hessian of the {loss}, λ₁ ≥ λ₂ ≥ …",
    ),
    _Family(
        "hessian_eigenvalue_bottom",
        "hessian-eigenvalues-bottom",
        "Smallest Hessian eigenvalues",
        "eigenvalue",
        "λ",
        "Smallest eigenvalues of the Hessian of the {loss}, the smallest first.",
    ),
    _Family(
        "covariance_eigenvalue",
        "covariance-eigenvalues",
        "Largest eigenvalues of the gradient covariance",
        "eigenvalue",
        "κ",
        "Largest eigenvalues κ₁ ≥ κ₂ ≥ … of {eigenvalues_of}.",
    ),
    _Family(
        "gradient_hessian_overlap",
        "gradient-hessian-overlap",
        "Share of the gradient in the Hessian's leading eigenspaces",
        "overlap |Pᵢ∇L| / |∇L|",
        "P",
        "Length of the gradient's projection on the first i eigenvectors of the Hessian, relative to the gradient: "
        "it rises with i, and 1 means that the gradient lies in their span.",
        limits=(0.0, 1.0),
    ),
)


#: What numbered quantities are that are drawn where they change.
_DESCRIBED = {
    one.stem: one
    for one in (
        _Family(
            "batch_gradient_hessian_overlap",
            "batch-gradient-hessian-overlap",
            "Share of mini-batch gradients in the Hessian's leading eigenspaces",
            "mean of |Pᵢg| / |g|",
            "P",
            "Mean length of the projections of mini-batch gradients g on the first i eigenvectors of the Hessian, "
            "relative to g.",
            limits=(0.0, 1.0),
        ),
        _Family(
            "covariance_along_hessian",
            "covariance-along-hessian",
            "Gradient noise along the Hessian's eigenvectors",
            "variance vᵢᵀKvᵢ",
            "v",
            "Variance of the gradients along the Hessian's leading eigenvectors vᵢ; K is {along}.",
        ),
        _Family(
            "covariance_hessian_ratio",
            "covariance-hessian-ratio",
            "Gradient noise over curvature",
            "vᵢᵀKvᵢ / λᵢ",
            "v",
            "Variance of the gradients along the Hessian's leading eigenvectors vᵢ, over its eigenvalues λᵢ: the same "
            "for all where K, {along}, is proportional to the Hessian.",
        ),
        _Family(
            "covariance_hessian_cosine",
            "covariance-hessian-cosine",
            "Agreement of the Hessian's eigenvectors with those of the noise",
            "cosine vᵢᵀKvᵢ / |Kvᵢ|",
            "v",
            "Cosine of the angle by which K, {along}, turns the Hessian's leading eigenvectors vᵢ: 1 where they are "
            "its own.",
            limits=(0.0, 1.0),
        ),
        _Family(
            "covariance_in_hessian",
            "covariance-in-hessian",
            "Share of the gradient noise in the Hessian's leading eigenspaces",
            "tr(PᵢK) / tr K",
            "P",
            "Share of the variance of the gradients that lies in the span of the Hessian's first i eigenvectors; K is "
            "{along}.",
            limits=(0.0, 1.0),
        ),
    )
}


def quantities(metrics: pd.DataFrame) -> list[str]:
    """Return the columns that hold measured numbers: not steps, workers, errors or words.

    The well-known ones come first, then spectra, then the others as they first appeared.
    """
    names: list[str] = []
    for name in metrics.columns:
        is_error = name.endswith("_error") and name.removesuffix("_error") in metrics.columns
        if name in ("step", "worker", "attempt") or is_error:
            continue
        if pd.api.types.is_numeric_dtype(metrics[name]) and metrics[name].notna().any():
            names.append(str(name))
    known = [name for panel in (*_TRAINING, *_PATH) for name in panel.columns if name in names]
    prefixes = _prefixes(names)
    spectra = [
        name for family in _FAMILIES for prefix in prefixes for name in _members(names, prefix + family.stem)
    ]
    first = [*known, *spectra]
    return [*first, *(name for name in names if name not in first)]


def _prefixes(names: Sequence[str]) -> list[str]:
    """Return what stands before names, nothing first."""
    return list(dict.fromkeys(["", *map(prefix_of, names)]))


#: Words in captions where nothing better is known.
_WORDS = {
    "loss": "training loss",
    "eigenvalues_of": "the covariance of the gradients",
    "along": "the covariance of the gradients",
}


def figures(
    metrics: pd.DataFrame,
    *,
    noun: str = "worker",
    called: Mapping[str, str] | None = None,
    noises: Mapping[str, str] | None = None,
) -> Iterator[Figure]:
    """Yield the curves of everything in the metrics.

    Parameters
    ----------
    metrics
        Columns ``step``, ``worker`` and quantities; ``<quantity>_error`` where an error is known.
    noun
        What the numbers in the column ``worker`` are numbers of.
    called
        What to call them, by number, where they have names of their own.
    noises
        Which covariance it is whose ``"eigenvalues_of"`` were measured, and which one ``"along"`` the Hessian's
        eigenvectors.
    """
    called, words = called or {}, _WORDS | dict(noises or {})
    names = quantities(metrics)
    if not names or metrics["step"].nunique() < 2:
        return  # a curve of one point says less than the table of last values
    taken: set[str] = set()

    def present(panels: Sequence[_Panel]) -> list[_Panel]:
        found = [panel for panel in panels if any(name in names for name in panel.columns)]
        taken.update(name for panel in found for name in panel.columns)
        return found

    training, path = present(_TRAINING), present(_PATH)
    if training:
        yield _curves(
            metrics,
            training,
            name="training",
            title="Loss and score",
            caption="Recorded before the update of each step.",
            noun=noun,
            called=called,
        )
    if path:
        yield _curves(
            metrics,
            path,
            name="path",
            title="Gradient, weights and distance",
            caption=_sentence([panel.caption for panel in path]),
            noun=noun,
            called=called,
        )
    prefixes = _prefixes(names)
    for family in _FAMILIES:
        for prefix in prefixes:
            members = _members(names, prefix + family.stem)
            taken.update(members)
            if members:
                yield _spectrum(metrics, _placed(family, prefix, words), members, noun, called)
    for prefix in prefixes:
        for matrix in MATRICES:
            members = _traces(names, f"{prefix}{matrix}_trace")
            if len(members) > 2:
                taken.update(members)
                traces = _family_of_traces(matrix)
                labels = ["all weights", *(name.removeprefix(f"{members[0]}_") for name in members[1:])]
                yield _spectrum(metrics, _placed(traces, prefix, words), members, noun, called, labels=labels)
    for family in _unknown_families(metrics, [name for name in names if name not in taken], words):
        members = _members(names, family.stem)
        taken.update(members)
        yield _spectrum(metrics, family, members, noun, called)
    taken.update(name for name in names if name.endswith("_products"))  # a cost, told in the table
    panels, constant = _further(metrics, [name for name in names if name not in taken])
    for start in range(0, len(panels), 8):
        some, last = panels[start : start + 8], start + 8 >= len(panels)
        yield _curves(
            metrics,
            some,
            name=f"further-{start // 8 + 1}",
            title="Further quantities" if start == 0 else "Further quantities, continued",
            caption=" ".join(
                part
                for part in (
                    "What else was measured, by its name.",
                    _sentence([panel.caption for panel in some if panel.caption]),
                    f"Not drawn, as they never changed: {constant}." if constant and last else "",
                )
                if part
            ),
            noun=noun,
            called=called,
        )


def _placed(family: _Family, prefix: str, words: Mapping[str, str]) -> _Family:
    """Return a family as it was measured on the data or weights of a prefix."""
    here = where(prefix)
    loss = f"loss ({here})" if here else words["loss"]
    caption = family.caption.format_map({**words, "loss": loss})
    if here and "{loss}" not in family.caption:
        caption += f" Measured on: {here}."
    return evolve(
        family,
        stem=prefix + family.stem,
        name=(prefix + family.name).replace(".", "-").replace("_", "-"),
        title=f"{family.title} ({here})" if here else family.title,
        caption=caption,
    )


def _traces(names: Sequence[str], total: str) -> list[str]:
    """Return the trace of a whole matrix and those of its layers; nothing where the former is missing."""
    if total not in names:
        return []
    return [total, *(name for name in names if name.startswith(f"{total}_") and not is_minor(name))]


def _family_of_traces(matrix: str) -> _Family:
    name = MATRICES[matrix]
    return _Family(
        f"{matrix}_trace",
        f"{matrix}-trace".replace("_", "-"),
        f"Trace of the {name}, by layer",
        "trace",
        "",
        f"Sum of the diagonal of the {name}, over all weights and over those of each layer.",
    )


#: Numbered columns from which on they share a panel, whatever they are.
_NUMBERED = 3


def _unknown_families(
    metrics: pd.DataFrame, names: Sequence[str], words: Mapping[str, str] = _WORDS
) -> list[_Family]:
    """Return the families of numbered quantities that change; of most, nothing is known but their names."""
    found = [re.fullmatch(r"(.+)_\d+", name) for name in names]
    stems = list(dict.fromkeys(match[1] for match in found if match))
    return [
        _placed(_DESCRIBED[stem.removeprefix(prefix_of(stem))], prefix_of(stem), words)
        if stem.removeprefix(prefix_of(stem)) in _DESCRIBED
        else _Family(
            stem,
            stem.replace("_", "-").replace(".", "-"),
            name_of(stem),
            "value",
            "no. ",
            f"{name_of(stem)}, by number.",
        )
        for stem in stems
        if len(_members(names, stem)) >= _NUMBERED
        and not all(_constant(metrics[name].dropna().to_numpy(np.float64)) for name in _members(names, stem))
    ]


def _constant(values: np.ndarray) -> bool:
    """Return whether values differ by rounding at most."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


#: What stands behind the name of a quantity's lower and upper end, and of its smallest and largest value.
_ENDS = (("", "_low", "_high"), ("_mean", "_min", "_max"), ("_mean", "_mean", "_max"))


def _further(metrics: pd.DataFrame, names: Sequence[str]) -> tuple[list[_Panel], str]:
    """Return panels for quantities of which nothing is known but their names, and a list of the constant ones.

    What belongs together shares a panel: ``x`` and ``x_test``; ``x_low``, ``x`` and ``x_high``; ``x_min``,
    ``x_mean`` and ``x_max``.
    """
    bands = {name: _band(name, names) for name in names}
    hidden = {end for name, band in bands.items() if band for end in band if end != name}
    hidden |= {twin for name in names for twin in (f"{name}_test", f"test.{name}")}
    panels: list[_Panel] = []
    constant: list[str] = []
    for name in (name for name in names if name not in hidden):
        lines = [line for line in (name, f"{name}_test", f"test.{name}") if line in names]
        known = [bands[line] for line in lines]
        drawn = metrics[[*lines, *(end for band in known if band for end in band)]].to_numpy(np.float64)
        values = np.unique(drawn[~np.isnan(drawn)])
        if _constant(values):
            constant.append(f"{name_of(name)} ({number(float(values[0]))})")
            continue
        extent = "from the smallest to the largest" if name.endswith("_mean") else "of its interval"
        told = f"{_small(name_of(name))} with a band {extent}" if known[0] else ""
        panels.append(_Panel(name_of(name), "", tuple(lines), tuple(known), told))
    if len(constant) > CONSTANTS:
        constant = [
            *constant[:CONSTANTS],
            f"and {len(constant) - CONSTANTS} more, whose values stand in metrics.jsonl",
        ]
    return panels, ", ".join(constant)


def _band(name: str, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of a quantity's lower and upper end, if it has both."""
    suffix = "_test" if name.endswith("_test") else ""
    stem = name.removesuffix(suffix)
    for own, low, high in _ENDS:
        if stem.endswith(own):
            root = stem.removesuffix(own)
            ends = f"{root}{low}{suffix}", f"{root}{high}{suffix}"
            if all(end in names for end in ends):
                return ends
    return None


def _small(title: str) -> str:
    """Return a title as it stands within a sentence: names such as Hessian keep their capital."""
    return title[:1].lower() + title[1:] if title.split()[0] not in ("Hessian", "Gauss-Newton") else title


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _members(names: Sequence[str], stem: str) -> list[str]:
    found = [name for name in names if re.fullmatch(rf"{re.escape(stem)}_\d+", name)]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))


def _series(metrics: pd.DataFrame, worker: str, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, values and errors (NaN where unknown) of one curve, without what was not measured."""
    rows = metrics[(metrics["worker"] == worker) & metrics[column].notna()]
    error = f"{column}_error"
    errors = rows[error].to_numpy(np.float64) if error in rows else np.full(len(rows), np.nan)
    return rows["step"].to_numpy(np.float64), rows[column].to_numpy(np.float64), errors


def _draw(
    axes: Axes,
    metrics: pd.DataFrame,
    worker: str,
    column: str,
    band: tuple[str, str] | None = None,
    **keywords: Any,
) -> np.ndarray:
    steps, values, errors = _series(metrics, worker, column)
    if 0 < len(steps) <= MARKED:
        keywords |= {"marker": "o", "markersize": 2.5 * keywords.get("linewidth", 1.0) ** 0.5}
    if len(steps):
        axes.plot(steps, values, **keywords)
    low, high = values - errors, values + errors
    if band is not None:
        rows = metrics[(metrics["worker"] == worker) & metrics[column].notna()]
        low, high = (rows[end].to_numpy(np.float64) for end in band)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        axes.fill_between(
            steps[known], low[known], high[known], color=keywords["color"], alpha=0.2, linewidth=0
        )
    return values


def _curves(
    metrics: pd.DataFrame,
    panels: Sequence[_Panel],
    *,
    name: str,
    title: str,
    caption: str,
    noun: str,
    called: Mapping[str, str],
) -> Figure:
    from matplotlib.lines import Line2D

    styles = style.worker_styles(list(metrics["worker"].unique()), ramp=bool(called))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    canvas, grid = style.figure(rows, columns, height=(3.0 if columns == 1 else 2.2) * rows + 0.5)
    dashed = False
    shown: set[str] = set()
    logarithmic = []
    banded = False
    for axes, panel in zip(grid.flat, panels, strict=False):
        style.dress(axes, title=panel.title, x="step", y=panel.y)
        drawn: list[float] = []
        for index, column in enumerate(panel.columns):
            if column not in metrics:
                continue
            band = panel.bands[index] if panel.bands else None
            for worker, line in styles.items():
                keywords = line.keywords() | {"linestyle": "-" if index == 0 else (0, (3, 1.5))}
                values = _draw(axes, metrics, worker, column, band, **keywords)
                if len(values):
                    shown.add(worker)
                    dashed |= index > 0
                drawn += values.tolist()
            banded |= band is None and f"{column}_error" in metrics
        if style.scale(axes, drawn) == "log":
            logarithmic.append(panel.title)
        _whole_steps(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    styles = {worker: line for worker, line in styles.items() if worker in shown}
    handles, labels = _worker_handles(styles, noun, called)
    if dashed:
        grey = "#555555"
        handles += [Line2D([], [], color=grey), Line2D([], [], color=grey, linestyle=(0, (3, 1.5)))]
        labels += ["training data", "test data"]
    if len(handles) > 1:
        style.legend_below(canvas, handles, labels)
    sentences = [caption.strip()]
    if dashed:
        sentences.append("Solid: training data; dashed: test data.")
    sentences += _remarks(styles, logarithmic, len(panels), banded)
    if len(panels) == 1:
        title = panels[0].title
    return Figure(name, title, " ".join(sentences), canvas, order=10)


def _spectrum(
    metrics: pd.DataFrame,
    family: _Family,
    members: Sequence[str],
    noun: str,
    called: Mapping[str, str],
    labels: Sequence[str] | None = None,
) -> Figure:
    from matplotlib.lines import Line2D

    measured = metrics[metrics[list(members)].notna().any(axis=1)]
    workers = sorted(measured["worker"].unique(), key=style.order_of)
    # The centre and the like are what the run is about: they are never the ones left out.
    shown = sorted(workers, key=lambda worker: (worker.isdecimal(), style.order_of(worker)))[:PANELS]
    shown = sorted(shown, key=style.order_of)
    # Panels share both axes, so that workers can be compared.
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    height = 3.6 if len(shown) == 1 else 2.0 * rows + 0.5
    canvas, grid = style.figure(rows, columns, height=height, share_x=True, share_y=True)
    colours = style.sequence(len(members))
    values: list[float] = []
    banded = False
    for axes, worker in zip(grid.flat, shown, strict=False):
        if len(workers) > 1:
            style.dress(axes, title=called.get(worker, _who(worker, noun)))
        for colour, column in zip(colours, members, strict=True):
            drawn = _draw(axes, metrics, worker, column, color=colour, linewidth=1.3)
            values += drawn.tolist()
            banded |= f"{column}_error" in metrics
        _whole_steps(axes)
    logarithmic = False
    if family.limits is not None and min(values) >= family.limits[0] and max(values) <= family.limits[1]:
        room = 0.03 * (family.limits[1] - family.limits[0])
        grid.flat[0].set_ylim(family.limits[0] - room, family.limits[1] + room)
    else:
        logarithmic = style.scale(grid.flat[0], values) == "log"
    for axes in grid[:, 0]:
        style.dress(axes, y=family.y)
    for index, axes in enumerate(grid.flat):
        if index >= len(shown):
            axes.set_axis_off()
        elif index + columns >= len(shown):  # nothing below it
            axes.tick_params(labelbottom=True)
            style.dress(axes, x="step")
    if labels is None:
        numbers = [name.rpartition("_")[2] for name in members]
        # Small digits are an index of a letter; alone they cannot be read.
        letter = family.item and not family.item.endswith(" ")
        labels = [family.item + (subscript(index) if letter else index) for index in numbers]
    style.legend_below(canvas, [Line2D([], [], color=colour, linewidth=2) for colour in colours], labels)
    sentences = [family.caption]
    if len(shown) < len(workers):
        sentences.append(f"Shown for {len(shown)} of {len(workers)} {noun}s.")
    if logarithmic:
        sentences.append("Logarithmic vertical axis.")
    if banded:
        sentences.append("Bands: the reported error.")
    return Figure(family.name, family.title, " ".join(sentences), canvas, order=30)


def _whole_steps(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _who(worker: str, noun: str) -> str:
    return f"{noun} {worker}".capitalize() if worker.isdecimal() else worker.capitalize()


def _worker_handles(
    styles: dict[str, style.LineStyle], noun: str, called: Mapping[str, str]
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    numbered = [worker for worker in styles if worker.isdecimal()]
    merged = len({styles[worker].color for worker in numbered}) < len(numbered)
    handles, labels = [], []
    for worker, line in styles.items():
        if merged and worker.isdecimal():
            if worker != numbered[0]:
                continue
            labels.append(f"{noun}s {numbered[0]} to {numbered[-1]}")
        else:
            labels.append(called.get(worker, _who(worker, noun).lower()))
        handles.append(Line2D([], [], color=line.color, linewidth=max(1.5, line.linewidth)))
    return handles, labels


def _remarks(
    styles: dict[str, style.LineStyle], logarithmic: Sequence[str], panels: int, banded: bool
) -> list[str]:
    sentences = []
    special = [worker for worker in styles if not worker.isdecimal()]
    if special and len(special) < len(styles):
        sentences.append(f"Thick lines: {' and '.join(special)}.")
    if logarithmic:
        which = "" if len(logarithmic) == panels else f" for {' and '.join(map(_small, logarithmic))}"
        sentences.append(f"Logarithmic vertical axis{which}.")
    if banded:
        sentences.append("Bands: the reported error.")
    return sentences
