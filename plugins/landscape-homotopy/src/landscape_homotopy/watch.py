"""Long work that says how far it is, and stops when its time is up."""

from __future__ import annotations

import time

from attrs import define, field

from landscape.composition.progress import Stage

__all__ = ["Watch"]


@define
class Watch:
    """Kept over the work on a generic member.

    Attributes
    ----------
    limit
        Seconds of wall-clock time, or None for as many as it takes.
    stage
        The bar, or the lines of a log, that show what is being done.
    """

    limit: float | None = None
    stage: Stage = field(factory=lambda: Stage("", 0))
    started: float = field(factory=time.monotonic, init=False)

    def inside(self) -> Watch:
        """Return a watch over a part of the work: the same clock, and nothing to be seen."""
        part = Watch(self.limit)
        part.started = self.started
        return part

    def tell(self, text: str) -> None:
        """Say what is being done."""
        self.stage.note(text)
        self.stage.advance(0)

    def is_up(self) -> bool:
        """Return whether the time is up."""
        return self.limit is not None and self.elapsed() > self.limit

    def elapsed(self) -> float:
        """Return the seconds of wall-clock time since the work began."""
        return time.monotonic() - self.started
