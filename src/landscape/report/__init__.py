"""Figures and pages: what a run looks like to its reader.

`write` makes the one self-contained page of a run, `write_study` one of several runs; `Section`, `Table` and
`Page` are what pages consist of. `style` gives figures the look of the core's own, `counts` says
how numbers of solutions are printed.
"""

from __future__ import annotations

from landscape.report import counts, curves, style
from landscape.report.content import page_of, sections_of
from landscape.report.page import Page, Raw, Section, Table, render
from landscape.report.writing import write, write_study

__all__ = [
    "Page",
    "Raw",
    "Section",
    "Table",
    "counts",
    "curves",
    "page_of",
    "render",
    "sections_of",
    "style",
    "write",
    "write_study",
]
