"""Pages on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from landscape.report.content import page_of
from landscape.report.page import Page, Section, render, save_figures
from landscape.store import files

__all__ = ["write", "write_study"]


def write(run: Any) -> Path:
    """Write ``report.html`` of a run, and its figures as PNG and SVG into ``figures/``.

    Parameters
    ----------
    run
        A :class:`landscape.Run`.

    Returns
    -------
    pathlib.Path
        The page. It needs nothing but itself: no network, no script, no file beside it.

    Raises
    ------
    landscape.errors.RunError
        If the run cannot be read, or the page cannot be written.
    """
    return _save(run.path / "report.html", page_of(run))


def write_study(path: str | Path, title: str, sections: Iterable[Section], *, lead: str = "") -> Path:
    """Write a page that joins several runs, figures and tables.

    Parameters
    ----------
    path
        The page; its figures go into the folder ``figures`` beside it.
    title, lead
        Heading and first paragraph.
    sections
        Sections; :func:`landscape.report.sections_of` gives those of a run.
    """
    path = Path(path)
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return _save(path, Page(title, lead, sections))


def _save(path: Path, page: Page) -> Path:
    pictures = save_figures(path.parent / "figures", page.sections)
    files.write_atomic(path, render(page, pictures=pictures).encode())
    return path
