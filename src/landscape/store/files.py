"""Bytes on disk: atomic files, appended lines, canonical JSON, checksums.

Every change to a store goes through this module. Its promise is old or new: whenever the process dies, a
file written by :func:`write_atomic` or :func:`commit` is either absent or as before, or complete; a line
appended by :class:`LineLog` is either whole or a torn tail, which is cut off when the log is next opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import RunError

__all__ = [
    "LineLog",
    "commit",
    "dumps",
    "ensure_space",
    "loads",
    "path_of",
    "plain",
    "read_json",
    "read_lines",
    "read_sealed",
    "remove_leftovers",
    "remove_tree",
    "sha256_of",
    "sync_directory",
    "temporary_beside",
    "write_atomic",
    "write_json",
    "write_sealed",
]

_TOKENS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: Temporary files carry this prefix; whoever holds the lock of a run may delete them.
TEMPORARY = ".tmp-"
#: Appended lines reach the disk at the latest after this many seconds. A sync per row costs 5 ms, one every
#: five seconds nothing that can be measured; a *process* that dies loses no row either way, because the
#: rows already are with the operating system.
SYNC_SECONDS = 5.0


# ---------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------


def plain(value: Any, where: str = "value") -> Any:
    """Return `value` as what JSON can say, losing nothing.

    NaN and the infinities become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; a string that
    would read like one of them gets a backslash in front, which :func:`loads` takes off again. Scalars of
    numpy and zero-dimensional arrays and tensors become Python numbers, tuples become lists.

    Raises
    ------
    landscape.errors.RunError
        For anything else, naming the path to it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "\\" + value if value.lstrip("\\") in _TOKENS else str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RunError(f"{where} has the key {key!r}; only strings can be keys on disk.")
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return plain(value.item(), where)
    raise RunError(
        f"{where} is of type {type(value).__name__}, which cannot be written as JSON; "
        "pass numbers, strings, booleans, None, and lists and mappings of these."
    )


def _revive(value: Any) -> Any:
    if isinstance(value, str):
        if value in _TOKENS:
            return _TOKENS[value]
        return value[1:] if value.startswith("\\") and value.lstrip("\\") in _TOKENS else value
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if isinstance(value, dict):
        return {key: _revive(item) for key, item in value.items()}
    return value


def dumps(value: Any, *, indent: int | None = None, sort: bool = False, where: str = "value") -> str:
    """Return `value` as standard JSON; with `sort`, equal values have equal texts."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        plain(value, where), indent=indent, sort_keys=sort, separators=separators, allow_nan=False
    )


def loads(text: str | bytes) -> Any:
    """Read what :func:`dumps` wrote."""
    return _revive(json.loads(text))


# ---------------------------------------------------------------------------------------------------------
# Whole files
# ---------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_directory(path: Path) -> None:
    """Make a rename inside `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a directory; the rename itself is atomic all the same.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """Return a new name in the folder of `path`, marked as temporary and with the same suffix."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def commit(temporary: Path, path: Path) -> None:
    """Give the complete file `temporary` its final name, durably and atomically."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_directory(path.parent)


@contextmanager
def explained(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an `OSError` of the operating system into a `RunError` that names the file."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"Cannot {doing} {path}: {reason}.") from error


def path_of(place: Any, what: str) -> Path:
    """Return `place` as a path.

    Raises
    ------
    landscape.errors.RunError
        For what is no path, naming `what` it was given as.
    """
    if isinstance(place, str | os.PathLike):
        text = os.fspath(place)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise RunError(f"{what}={place!r} is no path; give one, such as 'runs'.")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file: old content or new content, whatever happens."""
    with explained(path):
        temporary = temporary_beside(path)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
            commit(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_atomic(path, (dumps(value, indent=2, sort=True, where=path.name) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    landscape.errors.RunError
        If it is missing, unreadable or not JSON.
    """
    with explained(path, "read"):
        text = path.read_bytes()
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: not valid JSON ({error}).") from error


def write_sealed(path: Path, value: Any) -> None:
    """Write `value` as JSON together with its own SHA-256, atomically."""
    text = dumps(value, sort=True, where=path.name)
    write_json(path, {"sha256": hashlib.sha256(text.encode()).hexdigest(), "payload": text})


def read_sealed(path: Path) -> Any:
    """Read what :func:`write_sealed` wrote.

    Raises
    ------
    landscape.errors.RunError
        If it is missing, unreadable, or not what was written.
    """
    document = read_json(path)
    text = document.get("payload") if isinstance(document, dict) else None
    if not isinstance(text, str) or hashlib.sha256(text.encode()).hexdigest() != document.get("sha256"):
        raise RunError(f"{path} is damaged: it does not agree with its own checksum.")
    return loads(text)


# ---------------------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------------------


class LineLog:
    """A file of JSON lines that grows by one ``write`` per record.

    Opening it for writing cuts off a last line that has no end, the trace of a process that died inside a
    write. Only the holder of the run's lock may open a log for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._size = os.fstat(self._descriptor).st_size
            whole = _whole(self._descriptor, self._size)
            if whole != self._size:
                os.ftruncate(self._descriptor, whole)
                self._size = whole
        self._synced = time.monotonic()
        self._dirty = False

    def append(self, record: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append one record; with `sync` it is on the disk when this returns."""
        line = (dumps(record, where=self._path.name) + "\n").encode()
        if self._descriptor is None:
            raise RunError(f"{self._path} is closed; nothing can be appended to it.")
        with explained(self._path):
            try:
                written = os.write(self._descriptor, line)
                if written != len(line):  # a full disk may take part of a line
                    raise OSError(28, "No space left on device")
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
                raise
            self._size += written
            self._dirty = True
            if sync or time.monotonic() - self._synced > SYNC_SECONDS:
                self.sync()

    def sync(self) -> None:
        """Put what was appended on the disk."""
        if self._dirty and self._descriptor is not None:
            with explained(self._path):
                os.fsync(self._descriptor)
            self._dirty = False
        self._synced = time.monotonic()

    def close(self) -> None:
        """Put what was appended on the disk and close the file."""
        if self._descriptor is not None:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = None


def _whole(descriptor: int, size: int) -> int:
    """Return how many bytes from the start end with a newline."""
    end = size
    while end:
        start = max(0, end - 65536)
        block = os.pread(descriptor, end - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the records of a log, without a torn last line; an absent file has none.

    Raises
    ------
    landscape.errors.RunError
        If a whole line is not a JSON object: the file was damaged, not interrupted.
    """
    with explained(path, "read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
    records = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}, line {number} is damaged: not valid JSON ({error}).") from error
        if not isinstance(record, dict):
            raise RunError(f"{path}, line {number} is damaged: not a JSON object.")
        records.append(record)
    return records


# ---------------------------------------------------------------------------------------------------------
# Room
# ---------------------------------------------------------------------------------------------------------


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that died with the process that wrote them. Only under the run's lock.

    Runs inside this one, the stages of a study or the members of a sweep, have locks of their own and are
    left alone.
    """
    for place in folder.iterdir():
        if place.name.startswith(TEMPORARY):
            with suppress(OSError):
                place.unlink()
        elif place.is_dir() and place.name not in ("stages", "members"):
            for path in place.rglob(f"{TEMPORARY}*"):
                with suppress(OSError):
                    path.unlink()


def in_words(size: float) -> str:
    """Return a number of bytes with a unit, such as ``"3.2 GB"``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def ensure_space(folder: Path, needed: int) -> None:
    """Raise unless the file system of `folder` has `needed` bytes free.

    Raises
    ------
    landscape.errors.RunError
        Saying how much is needed and how much there is.
    """
    with explained(folder, "measure the free space of"):
        available = shutil.disk_usage(folder).free
    if needed > available:
        raise RunError(
            f"{folder}: {in_words(needed)} are needed and {in_words(available)} are available. "
            "Keep fewer snapshots, free some space, or put the store on another disk."
        )


def remove_tree(folder: Path) -> None:
    """Delete a folder that never became a run."""
    shutil.rmtree(folder, ignore_errors=True)
