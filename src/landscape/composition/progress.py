"""Progress bars that say what is happening.

Bars are drawn on the standard error stream, so that what a command prints can be piped. Where that is not a
terminal or a notebook, a line is written now and then instead. ``LANDSCAPE_PROGRESS=0`` turns both off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, field

from landscape.randomness import imported

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["Stage", "stage", "suspended"]

# Seconds between lines where there is no terminal: a log of ten hours stays readable.
_LINE_INTERVAL = 30.0
# Work that is done sooner is not worth a line.
_WORTH_A_LINE = 1.0


@define
class Stage:
    """A piece of work under way, and nothing to be seen of it."""

    title: str
    total: int
    done: int = 0

    def advance(self, steps: int = 1) -> None:
        """Say that `steps` more are done."""
        self.done += steps

    def note(self, text: str) -> None:
        """Say what is being done."""


@define
class _Bar(Stage):
    """A bar on a terminal or in a notebook."""

    progress: Progress = field(kw_only=True)
    task: TaskID = field(kw_only=True)

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        self.progress.update(self.task, completed=self.done)

    def note(self, text: str) -> None:
        self.progress.update(self.task, note=text)


@define
class _Lines(Stage):
    """A line now and then, for logs of batch systems and pipes."""

    console: Console = field(kw_only=True)
    started: float = field(factory=time.monotonic, init=False)
    told: float = field(factory=time.monotonic, init=False)
    text: str = field(default="", init=False)
    # When, and how much was done, after the first steps: these also waited for what is done once, such as compilation
    # and the first reading of data, so that they say nothing about the others.
    first: tuple[float, int] | None = field(default=None, init=False)

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if self.first is None and steps > 0:
            self.first = (time.monotonic(), self.done)
        if time.monotonic() - self.told > _LINE_INTERVAL:
            self.tell(f", {self.text}" if self.text else "")

    def note(self, text: str) -> None:
        self.text = text

    def tell(self, tail: str = "") -> None:
        """Write a line."""
        self.told = time.monotonic()
        elapsed = self.told - self.started
        if self.first is not None and self.done < self.total:
            since, here = self.told - self.first[0], self.done - self.first[1]
            if here > 0 and since > _WORTH_A_LINE:
                tail += f", about {since * (self.total - self.done) / here:.0f} s to go"
        self.console.print(
            f"{self.title}: {self.done}/{self.total} in {elapsed:.1f} s{tail}",
            highlight=False,
            soft_wrap=True,
        )


@define
class _Screen:
    progress: Progress | None = None


# One screen for the process: stages inside stages share it, since two live displays cannot share a terminal.
_screen = _Screen()


@contextmanager
def stage(title: str, total: int, *, done: int = 0) -> Iterator[Stage]:
    """Show progress over `total` steps while the context lasts.

    Parameters
    ----------
    title
        What the bar is called.
    total
        Number of steps.
    done
        Steps that were done before, when work is resumed.
    """
    if os.environ.get("LANDSCAPE_PROGRESS") == "0":
        yield Stage(title, total, done)
        return
    imported("rich.progress")  # first, for rich draws from Python's random numbers while it is imported
    from rich.console import Console

    console = Console(file=sys.stderr)
    if not (console.is_terminal or console.is_jupyter):
        lines = _Lines(title, total, done, console=console)
        yield lines
        if time.monotonic() - lines.started > _WORTH_A_LINE:
            lines.tell()
        return
    outermost = _screen.progress is None
    if _screen.progress is None:
        _screen.progress = _bars(console)
        _screen.progress.start()
    progress = _screen.progress
    task = progress.add_task(title, total=total, completed=done, note="")
    try:
        yield _Bar(title, total, done, progress=progress, task=task)
    finally:
        progress.update(task, note="")
        if outermost:
            progress.stop()
            _screen.progress = None


@contextmanager
def suspended() -> Iterator[None]:
    """Draw no bars while the context lasts, so that a person can be asked something on the same terminal."""
    progress = _screen.progress
    if progress is None:
        yield
        return
    progress.stop()
    try:
        yield
    finally:
        progress.start()


def _bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )
