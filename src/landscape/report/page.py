"""One self-contained page: what stands on it, and how it becomes HTML.

A `Page` has sections, a `Section` has text, figures, tables, settings, lists, and sections of its own. A run
is a page; a study is a page whose sections hold what its runs' pages hold.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from attrs import field, frozen
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from landscape.interfaces import Figure
from landscape.report import numbers, style

__all__ = ["Page", "Raw", "Section", "Table", "render", "save_figures"]

#: A table shows at most this many rows; the file beside it has them all.
ROWS = 16


def _figures(values: Iterable[Figure]) -> tuple[Figure, ...]:
    return tuple(values)


def _tables(values: Iterable[Table]) -> tuple[Table, ...]:
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _raws(values: Iterable[Raw]) -> tuple[Raw, ...]:
    return tuple(values)


def _sections(values: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(values)


@frozen
class Table:
    """A table on a page.

    Attributes
    ----------
    title, caption
        Above it.
    frame
        The table; its index is not shown.
    file
        A file that holds the whole table, relative to the page, or None.
    rows
        At most so many rows are shown.
    right
        Columns of words that are aligned like numbers; numbers are anyway.
    """

    title: str
    frame: pd.DataFrame = field(eq=False, repr=False)
    caption: str = ""
    file: str | None = None
    rows: int = ROWS
    right: tuple[str, ...] = ()


@frozen
class Raw:
    """Text to be opened by whoever wants it, such as the configuration as JSON."""

    title: str
    text: str = field(repr=False)

    @classmethod
    def json(cls, title: str, value: Any) -> Raw:
        """Return a value as indented JSON."""
        return cls(title, json.dumps(value, indent=2, ensure_ascii=False, default=str))


@frozen
class Section:
    """A part of a page.

    Attributes
    ----------
    title
        Its heading.
    text
        Paragraphs, separated by empty lines. Plain text; web addresses become links.
    settings
        Nested names and values.
    figures, tables
        In the order they are shown.
    items
        A list of sentences or references. Plain text; web addresses become links.
    raw
        At the end, folded.
    sections
        Sections inside it.
    """

    title: str
    text: str = ""
    settings: Mapping[str, Any] = field(factory=dict)
    figures: tuple[Figure, ...] = field(default=(), converter=_figures)
    tables: tuple[Table, ...] = field(default=(), converter=_tables)
    items: tuple[str, ...] = field(default=(), converter=_texts)
    raw: tuple[Raw, ...] = field(default=(), converter=_raws)
    sections: tuple[Section, ...] = field(default=(), converter=_sections)


@frozen
class Page:
    """A page.

    Attributes
    ----------
    title
        Its heading.
    lead
        One paragraph that says what this is.
    sections
        Its parts.
    facts
        A line of names and values under the heading.
    notice
        A sentence that must not be overlooked, such as that the run was interrupted; empty for none.
    """

    title: str
    lead: str
    sections: tuple[Section, ...] = field(converter=_sections)
    facts: Mapping[str, str] = field(factory=dict)
    notice: str = ""


# ---------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------


def picture(figure: Figure, kind: str) -> bytes:
    """Return a figure as ``"png"`` or ``"svg"``."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Without a date and with fixed identifiers, equal figures are equal files.
    with rc_context({"svg.hashsalt": figure.name, "svg.fonttype": "path"}):
        figure.figure.savefig(
            buffer,
            format=kind,
            dpi=style.DOTS_PER_INCH,
            metadata={"Date": None} if kind == "svg" else {"Software": None},
        )
    return buffer.getvalue()


def file_stems(sections: Iterable[Section]) -> dict[int, str]:
    """Return the file name without ending of every figure, by its ``id``; no two are equal."""
    stems: dict[int, str] = {}

    def collect(inner: Iterable[Section]) -> None:
        for section in inner:
            for figure in section.figures:
                stem = name = slug(figure.name)
                copies = 1
                while stem in stems.values():
                    copies += 1
                    stem = f"{name}-{copies}"
                stems[id(figure)] = stem
            collect(section.sections)

    collect(sections)
    return stems


def save_figures(folder: Path, sections: Iterable[Section]) -> dict[int, bytes]:
    """Write every figure of the sections as PNG and SVG into `folder`; return the PNGs for :func:`render`."""
    from landscape.store import files

    sections = tuple(sections)
    stems = file_stems(sections)
    pictures: dict[int, bytes] = {}

    def save(inner: Iterable[Section]) -> None:
        for section in inner:
            for figure in section.figures:
                for kind in ("svg", "png"):
                    content = picture(figure, kind)
                    files.write_atomic(folder / f"{stems[id(figure)]}.{kind}", content)
                pictures[id(figure)] = content
            save(section.sections)

    if stems:
        with files.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        save(sections)
    return pictures


def drawable(figures: Iterable[Figure]) -> tuple[list[Figure], list[str]]:
    """Return the figures that can be drawn, in their order, and a sentence about each that cannot.

    A plugin's figure that fails must not cost the reader the page.
    """
    from landscape.plugins import PluginWarning

    good, sentences = [], []
    for figure in sorted(figures, key=lambda figure: figure.order):
        try:
            figure.figure.draw_without_rendering()
        except Exception as error:  # whatever somebody else's drawing code raises
            sentences.append(
                f"The figure {figure.name!r} could not be drawn: {type(error).__name__}: {error}"
            )
            warnings.warn(sentences[-1], PluginWarning, stacklevel=2)
        else:
            # Laid out now; doing it again for each file would be a third of the time of a page.
            figure.figure.set_layout_engine("none")
            good.append(figure)
    return good, sentences


# ---------------------------------------------------------------------------------------------------------
# HTML
# ---------------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(
    r"(?P<url>https?://[^\s<>]*[^\s<>.,;:!?)\]}\"'])"
    r"|\b(?P<doi>doi:10\.\d{4,}/[^\s<>]*[^\s<>.,;:!?)\]}\"'])"
    r"|\b(?P<arxiv>arXiv:(?:\d{4}\.\d{4,5}|[a-z-]+/\d{7})(?:v\d+)?)",
    re.IGNORECASE,
)
_HOMES = {"doi": "https://doi.org/", "arxiv": "https://arxiv.org/abs/"}


def linked(text: str) -> Markup:
    """Return text as HTML, with links where it names a web address, a DOI or an arXiv number."""
    result, end = Markup(), 0
    for found in _ADDRESS.finditer(text):
        shown = found[0]
        kind = found.lastgroup or "url"
        target = shown if kind == "url" else _HOMES[kind] + shown.partition(":")[2]
        result += escape(text[end : found.start()])
        result += Markup('<a href="{}">{}</a>').format(target, shown)
        end = found.end()
    return result + escape(text[end:])


def slug(text: str) -> str:
    """Return text as an anchor and file name."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-").lower() or "section"


def _cells(table: Table) -> dict[str, Any]:
    frame = table.frame
    # The beginning and the end: where a path went matters as much as where it came from.
    cut = len(frame) > table.rows
    tail = min(4, table.rows // 4)
    shown = pd.concat([frame.head(table.rows - tail), frame.tail(tail)]) if cut else frame
    numeric = [
        name in table.right
        or (pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]))
        for name in frame.columns
    ]
    whole = [is_whole(frame.iloc[:, index]) for index in range(frame.shape[1])]
    rows = [
        [_cell(value, counts) for value, counts in zip(row, whole, strict=True)]
        for row in shown.itertuples(index=False, name=None)
    ]
    return {
        "columns": [
            (numbers.heading(str(name)), right) for name, right in zip(frame.columns, numeric, strict=True)
        ],
        "rows": rows,
        "gap": table.rows - tail if cut else None,
        "hidden": len(frame) - len(rows),
        "total": len(frame),
    }


def is_whole(column: pd.Series[Any]) -> bool:
    """Whether a column counts something, though a missing value made its numbers floats."""
    if not pd.api.types.is_float_dtype(column):
        return False
    known = column.dropna()
    return bool(len(known) and ((known == known.round()) & (known.abs() < 1e15)).all())


def _cell(value: Any, counts: bool = False) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool | int):
        return numbers.number(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return numbers.number(int(value) if counts else value)
    if isinstance(value, complex):
        sign = "−" if value.imag < 0 else "+"
        return f"{numbers.number(value.real)} {sign} {numbers.number(abs(value.imag))}i"
    return str(value)


def _tree(value: Any) -> dict[str, Any]:
    """Return nested settings as what the template can walk; what is None or empty is left out."""
    if isinstance(value, Mapping):
        known = {str(key): item for key, item in value.items() if not _is_nothing(item)}
        if "component" in known:
            title = str(known["component"])
            known = {
                key: item
                for key, item in known.items()
                if key not in ("component", "distribution", "version", "schema")
            }
        else:
            title = ""
            inner = [key for key, item in known.items() if isinstance(item, Mapping) and "component" in item]
            flat = {key: item for key, item in known.items() if key not in inner}
            if len(inner) == 1 and all(_is_leaf(item) for item in flat.values()):
                # A component and how it is used, such as a probe and how often: one entry, not two levels.
                node = _tree(known[inner[0]])
                return node | {"after": _inline(flat)}
        if title and all(_is_leaf(item) for item in known.values()):
            return {"kind": "component", "title": title, "inside": _inline(known), "after": "", "items": []}
        items = [(key, _tree(item)) for key, item in known.items()]
        return {
            "kind": "component" if title else "map",
            "title": title,
            "inside": "",
            "after": "",
            "items": items,
        }
    if _is_leaf(value):
        return {"kind": "leaf", "text": _leaf(value), "items": []}
    return {"kind": "list", "items": [_tree(item) for item in value]}


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping | list | tuple) and not value)


def _is_leaf(value: Any) -> bool:
    """Whether a setting fits on a line: a scalar, or a list of scalars."""
    if isinstance(value, list | tuple):
        return not any(isinstance(item, Mapping | list | tuple) for item in value)
    return not isinstance(value, Mapping)


def _inline(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_leaf(item)}" for key, item in settings.items())


def _leaf(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_leaf, value))})"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)  # numbers too: a setting is shown with every digit it was given with


@cache
def _environment() -> Environment:
    # Everything is escaped unless it is Markup already.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "linked": linked,
        "cells": _cells,
        "tree": _tree,
        "paragraphs": lambda text: [part.strip() for part in text.split("\n\n") if part.strip()],
        "inches": lambda figure: figure.figure.get_figwidth(),
        "slug": slug,
    }
    return environment


def _source(name: str) -> str:
    return (resources.files("landscape.report") / name).read_text(encoding="utf-8")


def _anchored(sections: Iterable[Section], taken: set[str], prefix: str = "") -> list[dict[str, Any]]:
    """Give every section an anchor of its own."""
    result = []
    for section in sections:
        stem = anchor = f"{prefix}{slug(section.title)}"
        copies = 1
        while anchor in taken:
            copies += 1
            anchor = f"{stem}-{copies}"
        taken.add(anchor)
        inner = _anchored(section.sections, taken, f"{anchor}-")
        result.append({"section": section, "anchor": anchor, "inner": inner})
    return result


def render(page: Page, *, figures: str = "figures", pictures: Mapping[int, bytes] | None = None) -> str:
    """Return a page as HTML that needs nothing but itself.

    Parameters
    ----------
    page
        The page.
    figures
        Folder, relative to the page, in which the figures lie as SVG; the page links to them.
    pictures
        PNGs that are drawn already, by the ``id`` of their figures, as :func:`save_figures` returns them.
    """
    drawn = pictures or {}

    def embedded(figure: Figure) -> str:
        content = drawn[id(figure)] if id(figure) in drawn else picture(figure, "png")
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"

    return (
        _environment()
        .from_string(_source("page.html.j2"))
        .render(
            page=page,
            sections=_anchored(page.sections, set()),
            css=Markup(_source("page.css")),
            figures=figures,
            embedded=embedded,
            stems=file_stems(page.sections),
            identity=id,
        )
    )
