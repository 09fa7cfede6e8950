"""One writer per run: a lock file that says who holds it.

The holder is known by host, boot of that host, process id and start time of the process, so that a process
id that was given out again is not taken for the holder. The lock of a dead process is taken over; the lock
of a living one, or of a process on another host, is respected.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from attrs import asdict, frozen

from landscape.errors import RunError
from landscape.store import files

__all__ = ["Holder", "Lock", "holder_of", "status_of"]


@frozen
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    host
        Name of the machine.
    boot_id
        Identifier of the machine's current boot; empty where the operating system has none.
    pid
        Process id.
    starttime
        When the process started, in clock ticks after boot; -1 where the operating system does not say.
    token
        Tells two locks of one process apart.
    """

    host: str
    boot_id: str
    pid: int
    starttime: int
    token: str = ""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, int] | None:
    """Return state and start time of a process from ``/proc``, or None if there is no such process."""
    try:
        # The name of the program, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _own() -> Holder:
    process = _process(os.getpid())
    return Holder(
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=os.getpid(),
        starttime=-1 if process is None else process[1],
        token=secrets.token_hex(8),
    )


# Locks of this process whose objects are still in use; a lock that was garbage-collected is nobody's.
_held: WeakValueDictionary[str, Lock] = WeakValueDictionary()


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock file `path`, or None if there is none or it cannot be understood."""
    try:
        content = files.loads(path.read_bytes())
        return Holder(**content)
    except (OSError, ValueError, TypeError):
        return None


def status_of(holder: Holder) -> Literal["alive", "dead", "elsewhere"]:
    """Say whether a holder still lives; ``"elsewhere"`` when that cannot be seen from this machine."""
    if holder.host != socket.gethostname():
        return "elsewhere"
    if holder.boot_id != _boot_id():
        return "dead"
    if holder.pid == os.getpid():
        own = _process(holder.pid)
        same = own is None or own[1] == holder.starttime
        return "alive" if same and holder.token in _held else "dead"
    if Path("/proc/self/stat").exists():
        process = _process(holder.pid)
        # A zombie has ended; only its parent has not looked yet.
        alive = process is not None and process[0] not in "ZX" and process[1] == holder.starttime
        return "alive" if alive else "dead"
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return "dead"
    except OSError:
        return "alive"
    return "alive"


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at and replace the lock of `folder`.

    Only the takeover of a dead lock needs this; a free lock is taken by an atomic link. Where the file
    system knows no ``flock``, two processes that find the same dead lock in the same instant are not told
    apart.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # releases the flock


class Lock:
    """The lock of one run, held from construction until :meth:`release`.

    Raises
    ------
    landscape.errors.RunError
        If another living process, or one on another host, holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder = _own()
        data = (files.dumps(asdict(self._holder), indent=2) + "\n").encode()
        with files.explained(path, "lock"):
            candidate = files.temporary_beside(path)
            files.write_atomic(candidate, data)
            try:
                with _guard(path.parent):
                    if path.exists():
                        self._refuse_if_held()
                        os.unlink(path)
                    self._take(candidate, data)
            finally:
                with suppress(OSError):
                    os.unlink(candidate)
        _held[self._holder.token] = self

    def _take(self, candidate: Path, data: bytes) -> None:
        try:
            try:
                os.link(candidate, self._path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links; creating exclusively is the next best
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                try:
                    os.write(descriptor, data)
                finally:
                    os.close(descriptor)
        except FileExistsError:
            self._refuse_if_held()
            raise RunError(f"{self._path} was taken by another process just now; try again.") from None

    def moved(self, path: Path) -> None:
        """Follow the run's folder to its new name."""
        self._path = path

    def _refuse_if_held(self) -> None:
        holder = holder_of(self._path)
        if holder is None:
            return
        status = status_of(holder)
        if status == "dead":
            return
        if status == "elsewhere":
            raise RunError(
                f"{self._path.parent} is locked by process {holder.pid} on {holder.host}, which cannot be "
                f"seen from {socket.gethostname()}. If that process has ended, delete {self._path}."
            )
        whose = "this very process" if holder.pid == os.getpid() else "a running process"
        raise RunError(
            f"{self._path.parent} is being written by {whose}, {holder.pid} on {holder.host}. "
            "Wait for it, or interrupt it; what it has recorded can be read meanwhile."
        )

    @property
    def held(self) -> bool:
        """Whether this process still holds the lock (a forked child does not)."""
        return self._holder.pid == os.getpid() and holder_of(self._path) == self._holder

    def release(self) -> None:
        """Give the lock back; a lock that is not held any more is left alone."""
        if self.held:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        _held.pop(self._holder.token, None)
