"""Other programs, run so that nothing they do reaches this process: for solvers that are programs."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

__all__ = ["Ended", "read", "run"]

#: Of what a program prints, so many bytes at the end are kept: an error message stands there.
_TAIL = 1_000_000


@frozen
class Ended:
    """How a program ended.

    Attributes
    ----------
    code
        Its exit status; negative for a signal, as Python says it; None when it was stopped at the time limit.
    seconds
        Wall-clock time it took.
    printed
        The end of what it printed to standard output and error.
    """

    code: int | None
    seconds: float
    printed: str

    @property
    def well(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.code == 0

    def __str__(self) -> str:
        if self.code is None:
            return f"stopped at the time limit after {self.seconds:.0f} s"
        if self.code < 0:
            try:
                return f"killed by {signal.Signals(-self.code).name}"
            except ValueError:
                return f"killed by signal {-self.code}"
        return f"ended with status {self.code}"


def read(path: Path, most: int | None = None) -> str:
    """Return a text that may not be there, or not be text; the end of it where it has more than `most` bytes."""
    try:
        with path.open("rb") as file:
            if most is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _environment() -> dict[str, str]:
    # Another Python must not be led to this one's packages.
    foreign = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in foreign}


def run(command: Sequence[str], folder: Path, seconds: float, answers: str = "") -> Ended:
    """Run a program in `folder`, for at most `seconds`, in a process group of its own.

    Parameters
    ----------
    command
        The program and its arguments.
    folder
        Its working directory; what it prints goes to the file ``printed`` there.
    seconds
        After this, and when this process is interrupted, the program and its children are killed.
    answers
        What it reads from standard input.

    Raises
    ------
    OSError
        When it cannot be started.
    """
    began = time.monotonic()
    printed, typed = folder / "printed", folder / "typed"
    typed.write_text(answers, encoding="ascii")
    with printed.open("wb") as output, typed.open("rb") as given:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
        _bound(process.pid, seconds)
        try:
            code: int | None = process.wait(None if math.isinf(seconds) else max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                _kill(process)
    return Ended(code, time.monotonic() - began, read(printed, _TAIL))


def _bound(pid: int, seconds: float) -> None:
    """Let a program end by itself, where the system can do this, in case this process is killed before it."""
    try:
        from resource import RLIMIT_CPU, prlimit
    except ImportError:  # not on Linux
        return
    if math.isinf(seconds):
        return
    # Threads add up: on all cores it has used so much when its time is over.
    limit = math.ceil(max(seconds, 0.0)) * (os.cpu_count() or 1) + 1
    try:
        prlimit(pid, RLIMIT_CPU, (limit, limit))
    except (OSError, ValueError):  # it has ended already, or the limit here is lower
        return


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # no process groups here, or it has just ended
        process.kill()
    process.wait()
