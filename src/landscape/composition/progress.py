"""Progress bars that say what is happening.

Bars are drawn on the standard error stream, so that what a command prints can be piped. Where that is not a
terminal, one line per finished stage is written instead. ``LANDSCAPE_PROGRESS=0`` turns both off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Stage", "stage"]


@define
class Stage:
    """A piece of work under way."""

    _progress: Progress | None
    _task: TaskID
    done: int = 0

    def advance(self, steps: int = 1) -> None:
        """Say that `steps` more are done."""
        self.done += steps
        if self._progress is not None:
            self._progress.update(self._task, completed=self.done)

    def note(self, text: str) -> None:
        """Say what is being done."""
        if self._progress is not None:
            self._progress.update(self._task, note=text)


@define
class _Screen:
    progress: Progress | None = None
    depth: int = 0
    titles: list[str] = field(factory=list)


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
        yield Stage(None, TaskID(0), done)
        return
    console = Console(file=sys.stderr)
    started = time.monotonic()
    if not console.is_terminal:
        current = Stage(None, TaskID(0), done)
        yield current
        console.print(
            f"{title}: {current.done}/{total} in {time.monotonic() - started:.1f} s", highlight=False
        )
        return
    outermost = _screen.depth == 0
    if outermost:
        _screen.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        _screen.progress.start()
    progress = _screen.progress
    assert progress is not None
    _screen.depth += 1
    task = progress.add_task(title, total=total, completed=done, note="")
    try:
        yield Stage(progress, task, done)
    finally:
        progress.update(task, note="")
        _screen.depth -= 1
        if outermost:
            progress.stop()
            _screen.progress = None
