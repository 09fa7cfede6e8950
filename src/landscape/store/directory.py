"""One run on disk.

::

    config.json       what was run, canonical; enough to run it again
    provenance.json   packages, plugins, commit, device, threads, engine, data hashes
    state.json        status, times, and the attempts with the step each of them resumed from
    lock              who is writing
    metrics.jsonl     a line per step and worker, one write each
    changes.jsonl     a line per change of hyper-parameters
    snapshots.jsonl   the commit record of weights/, with a SHA-256 each
    weights/          step-XXXXXXXX.safetensors
    spectra/          arrays that probes measured; index.jsonl is their commit record
    solutions/        solutions of polynomial systems, a file per sample; index.jsonl likewise
    resume/           the two last states from which the run can go on
    best/             the weights that were best by a metric, and best.json, which says which and how good
    tables/ figures/ logs/ report.html
    MANIFEST.json     the SHA-256 of everything recorded, on close

A line in a commit record is written after the file it names is complete, so what is listed is there, and
what is not listed does not count. A resumed run is a new *attempt*: what earlier attempts recorded after the
step it resumed from stays on disk, is superseded, and is left out of everything that is read.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import pandas as pd

from landscape.errors import RunError, nearest
from landscape.store import files, lock, tables
from landscape.store.records import ArrayRecord, Snapshot

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from landscape.objective import Layout
    from landscape.store.span import SnapshotSpan

__all__ = ["RunDirectory"]

#: Version of the layout on disk.
FORMAT = 1
#: With what a run can be closed.
STATUSES = ("complete", "stopped", "failed", "interrupted")
#: How many resumable states are kept: two, so that a newest one that was damaged is not the end of the run.
KEPT_STATES = 2

S = TypeVar("S")
Record = dict[str, Any]

_METRICS = "metrics.jsonl"
_CHANGES = "changes.jsonl"
_BEST = "best/best.json"
_SNAPSHOTS = "snapshots.jsonl"
_ARRAYS = "spectra/index.jsonl"
_SOLUTIONS = "solutions/index.jsonl"

#: What every line of a log has.
_FILE = {"attempt", "file", "sha256", "bytes"}
_KEYS: dict[str, set[str]] = {
    _METRICS: {"attempt", "step", "worker"},
    _CHANGES: {"attempt", "step", "values", "by_hand"},
    _SNAPSHOTS: _FILE | {"step", "labels"},
    _ARRAYS: _FILE | {"step", "name", "worker", "arrays"},
    _SOLUTIONS: _FILE | {"sample"},
}


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _made(run: Path) -> int:
    """Return when a run was made. Names of runs tell the second only, and end at random."""
    return (run / "config.json").stat().st_mtime_ns


def file_name(text: str) -> str:
    """Return `text` as a name every file system takes; different texts have different names."""
    quoted = quote(text, safe=" +-_=,@")
    # A leading dot would hide the file, and "." and ".." are not names at all.
    return quoted.replace(".", "%2E", 1) if quoted.startswith(".") else quoted


class RunDirectory:
    """A run on disk, for reading; and for writing by whoever holds its lock.

    Made by :meth:`landscape.store.RunStore.create`, which takes the lock, or opened for reading by
    :meth:`landscape.store.RunStore.open`; :meth:`reopen` takes the lock of an opened run.

    Raises
    ------
    landscape.errors.RunError
        If `path` is not a run, or was written by a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._lock: lock.Lock | None = None
        self._attempt = -1
        self._logs: dict[str, files.LineLog] = {}
        self._committed: dict[str, set[str]] = {}
        self._inode = -1
        if not (self.path / "config.json").is_file():
            raise RunError(f"{self.path} is not a run: it has no config.json.")
        if self._stored_state()["format"] > FORMAT:
            raise RunError(f"{self.path} was written by a newer version of landscape; update to read it.")

    @classmethod
    def create(
        cls,
        path: Path,
        configuration: Mapping[str, Any],
        provenance: Mapping[str, Any],
        *,
        kind: str,
        name: str = "",
    ) -> RunDirectory:
        """Make the run `path` and take its lock; either the whole run is there afterwards, or nothing.

        Raises
        ------
        landscape.errors.RunError
            If it exists already, a value cannot be written as JSON, or the disk cannot be written.
        """
        began = now()
        state = {
            "format": FORMAT,
            "kind": kind,
            "name": name,
            "status": "running",
            "reason": None,
            "started": began,
            "updated": began,
            "ended": None,
            "attempts": [{"resume_step": None, "started": began}],
        }
        documents = {"config.json": configuration, "provenance.json": provenance, "state.json": state}
        for file, document in documents.items():
            files.plain(document, file.removesuffix(".json"))
        with files.explained(path, "create"):
            there = path.exists()
        if there:
            raise RunError(f"{path} exists already; choose another name, or resume it.")
        building = path.with_name(f"{files.TEMPORARY}{path.name}")
        taken: lock.Lock | None = None
        with files.explained(path, "create"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Outside of the try: what another process is making under this name is not ours to remove.
            building.mkdir()
            try:
                taken = lock.Lock(building / "lock")
                for file, document in documents.items():
                    files.write_json(building / file, document)
                os.rename(building, path)
                files.sync_directory(path.parent)
                taken.moved(path / "lock")
                directory = cls(path)
            except BaseException:
                if taken is not None:
                    taken.release()
                files.remove_tree(building)
                raise
        directory._lock, directory._attempt = taken, 0
        directory._inode = path.stat().st_ino
        return directory

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    # -- what it is -------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def kind(self) -> str:
        """What was run, such as ``"experiment"``."""
        return str(self._stored_state()["kind"])

    @property
    def name(self) -> str:
        """What the run was called; empty where it was given no name."""
        name = self._stored_state()["name"]
        if not name:
            # A recipe stands in the configuration under the key that says what it is.
            recipes = [recipe for recipe in self.configuration.values() if isinstance(recipe, dict)]
            name = recipes[0].get("name") if len(recipes) == 1 else self.configuration.get("name")
        return str(name or "")

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """What was run, as plain values."""
        return self._document("config.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """With what it was run, as plain values."""
        return self._document("provenance.json")

    def _document(self, name: str) -> dict[str, Any]:
        document = files.read_json(self.path / name)
        if not isinstance(document, dict):
            raise RunError(
                f"{self.path / name} is damaged: it holds {str(document)[:40]!r} in place of a table. "
                "Bring the file back from a copy of the run."
            )
        return document

    def _stored_state(self) -> Record:
        state = files.read_json(self.path / "state.json")
        if (
            not isinstance(state, dict)
            or not {"format", "kind", "name", "status", "attempts"} <= state.keys()
        ):
            raise RunError(f"{self.path / 'state.json'} is damaged: it does not describe a run.")
        attempts = state["attempts"]
        if (
            not isinstance(state["format"], int)
            or not isinstance(attempts, list)
            or not all(
                isinstance(attempt, dict) and isinstance(attempt.get("resume_step"), int | None)
                for attempt in attempts
            )
        ):
            raise RunError(f"{self.path / 'state.json'} is damaged: its attempts are not those of a run.")
        return state

    @property
    def state(self) -> dict[str, Any]:
        """Status, reason, times and attempts.

        ``status`` is ``"running"``, ``"complete"``, ``"stopped"``, ``"failed"``, ``"interrupted"``, or
        ``"crashed"``: the run says that it is running, and the process that wrote it is gone.
        """
        state = self._stored_state()
        if state["status"] == "running":
            holder = lock.holder_of(self.path / "lock")
            if holder is None or lock.status_of(holder) == "dead":
                # It may have been closed between the two looks.
                state = self._stored_state()
                if state["status"] == "running":
                    state |= {"status": "crashed", "reason": "its process ended without closing the run"}
        return state

    @property
    def status(self) -> str:
        """The status alone; see :attr:`state`."""
        return str(self.state["status"])

    @property
    def writable(self) -> bool:
        """Whether this object holds the run's lock."""
        return self._lock is not None

    def ensure_space(self, needed: int) -> None:
        """Raise a `RunError` that says how much is missing unless `needed` bytes are free."""
        files.ensure_space(self.path, needed)

    # -- writing ----------------------------------------------------------------------------------------

    def _writing(self) -> None:
        if self._lock is None:
            raise RunError(f"{self.path} is open for reading; reopen() opens it for writing.")
        if not self.in_place:
            raise RunError(
                f"{self.path} was moved or removed while it was being written; what follows cannot be recorded. "
                "What was recorded before is where the folder is now, and can be resumed there."
            )

    @property
    def in_place(self) -> bool:
        """Whether the folder of this path is the one that was opened for writing."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def _log(self, name: str) -> files.LineLog:
        self._writing()
        if name not in self._logs:
            self._folder(Path(name).parent)
            self._logs[name] = files.LineLog(self.path / name)
        return self._logs[name]

    def _folder(self, name: str | Path) -> Path:
        path = self.path / name
        with files.explained(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def _set_state(self, **changes: Any) -> None:
        files.write_json(self.path / "state.json", self._stored_state() | changes | {"updated": now()})

    def _close_logs(self) -> None:
        while self._logs:
            self._logs.popitem()[1].close()
        self._committed.clear()

    def _uncommitted(self, index: str, folder: Path, stem: str) -> Path:
        """Return a path in `folder` that no commit record names; what a crash left there may be replaced."""
        if index not in self._committed:
            self._committed[index] = {record["file"] for record in self._records(index)}
        copies = 0
        path = folder / f"{stem}.safetensors"
        while path.relative_to(self.path).as_posix() in self._committed[index]:
            copies += 1
            path = folder / f"{stem}.{copies}.safetensors"
        return path

    def _commit(self, index: str, path: Path, record: Mapping[str, Any], *, sync: bool) -> None:
        """Write the line that makes the complete file `path` part of the run."""
        file = path.relative_to(self.path).as_posix()
        self._log(index).append({**record, "attempt": self._attempt, "file": file}, sync=sync)
        self._committed[index].add(file)

    def reopen(self) -> RunDirectory:
        """Open the run for writing: take its lock and say that it is running.

        What is recorded adds to the last attempt, until :meth:`begin_attempt` begins another.

        Returns
        -------
        RunDirectory
            This object, if it is open for writing already; else a new one.

        Raises
        ------
        landscape.errors.RunError
            If another living process writes this run.
        """
        if self._lock is not None:
            return self
        directory = RunDirectory(self.path)
        taken = lock.Lock(self.path / "lock")
        try:
            files.remove_leftovers(self.path)
            with suppress(FileNotFoundError):
                os.unlink(self.path / "MANIFEST.json")
            directory._set_state(status="running", reason=None, ended=None)
        except BaseException:
            taken.release()
            raise
        directory._lock = taken
        directory._inode = self.path.stat().st_ino
        directory._attempt = len(directory._stored_state()["attempts"]) - 1
        return directory

    def begin_attempt(self, resume_step: int | None) -> int:
        """Go on from `resume_step`; or from the beginning, if it is None or -1.

        What was recorded after that step is superseded from now on. Records of that step itself stay, until
        the new attempt writes them again.

        Returns
        -------
        int
            The number of the attempt; the first one, made by `RunStore.create`, was 0.
        """
        self._writing()
        self._close_logs()
        attempts = [*self._stored_state()["attempts"], {"resume_step": resume_step, "started": now()}]
        self._set_state(attempts=attempts)
        self._attempt = len(attempts) - 1
        return self._attempt

    def add_provenance(self, facts: Mapping[str, Any]) -> None:
        """Add what plugins know of the run, by plugin, to ``provenance.json`` under ``"from_plugins"``."""
        self._writing()
        provenance = self.provenance
        provenance["from_plugins"] = {**provenance.get("from_plugins", {}), **facts}
        files.write_json(self.path / "provenance.json", provenance)

    def write_row(self, row: Mapping[str, Any]) -> None:
        """Record one row of metrics; from here on it survives the death of this process.

        Parameters
        ----------
        row
            ``{"step": int, "worker": str, ...}``. A second row of the same step and worker adds its columns
            to the first.
        """
        step, worker = _step_of(row.get("step")), row.get("worker")
        if not isinstance(worker, str):
            raise RunError(f"A row of metrics needs a str 'worker'; got {worker!r}.")
        if "attempt" in row:
            raise RunError("'attempt' is a column of the store's own; give the quantity another name.")
        self._log(_METRICS).append({**row, "step": step, "attempt": self._attempt})

    def write_change(self, step: int, values: Mapping[str, Any], *, by_hand: bool = False) -> None:
        """Record new values of hyper-parameters that hold from update `step` on.

        Parameters
        ----------
        step, values
            When, and the values by name.
        by_hand
            Whether somebody asked for them while it ran, and the configuration knows nothing of them.
        """
        record = {"step": _step_of(step), "values": dict(values), "by_hand": by_hand}
        self._log(_CHANGES).append(record | {"attempt": self._attempt})

    def note(self, facts: Mapping[str, Any]) -> None:
        """Set entries of ``provenance.json``: what turned out only while the run was computed."""
        self._writing()
        files.write_json(self.path / "provenance.json", {**self.provenance, **facts})

    def note_attempt(self, provenance: Mapping[str, Any]) -> None:
        """Add the provenance of a later attempt to ``provenance.json``, in the list ``"resumed"``."""
        self._writing()
        known = self.provenance
        known["resumed"] = [*known.get("resumed", []), dict(provenance)]
        files.write_json(self.path / "provenance.json", known)

    def write_best(
        self,
        step: int,
        worker: str,
        metric: str,
        value: float,
        weights: Tensor,
        *,
        buffers: Mapping[str, Tensor] | None = None,
        layout: Layout | Sequence[Mapping[str, Any]] | None = None,
    ) -> Path:
        """Record the weights, shape (P,), that are the best so far by `metric`, in place of those before."""
        from landscape.store.layout import plain_layout
        from landscape.store.tensors import save_tensors

        self._writing()
        record = {"step": _step_of(step), "worker": worker, "metric": metric, "value": float(value)}
        metadata = record | {"labels": [worker], "layout": plain_layout(layout, size=weights.numel())}
        content = {worker: weights} | {f"buffer/all/{name}": kept for name, kept in (buffers or {}).items()}
        path = self._folder("best") / f"step-{step:08d}-{file_name(worker)}.safetensors"
        written = save_tensors(path, content, metadata)
        files.write_sealed(self.path / _BEST, record | written | {"file": path.name})
        for stale in path.parent.glob("step-*.safetensors"):
            if stale != path:
                with suppress(FileNotFoundError):
                    os.unlink(stale)
        return path

    def write_arrays(self, name: str, step: int, worker: str, arrays: Mapping[str, np.ndarray]) -> Path:
        """Record arrays under `name`, usually the name of the probe that measured them."""
        from landscape.store.tensors import save_tensors

        self._writing()
        for taken in {"step", "worker"} & arrays.keys():
            raise RunError(f"{taken!r} cannot name an array; it says where the arrays were measured.")
        key = {"name": name, "step": _step_of(step), "worker": worker, "arrays": list(arrays)}
        folder = self._folder(Path("spectra") / file_name(name))
        path = self._uncommitted(_ARRAYS, folder, f"step-{step:08d}-{file_name(worker)}")
        self._commit(_ARRAYS, path, key | save_tensors(path, arrays, key), sync=False)
        return path

    def write_snapshot(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor | Mapping[str, Tensor]] | None = None,
        layout: Layout | Sequence[Mapping[str, Any]] | None = None,
        rest: Mapping[str, Tensor] | None = None,
    ) -> Path:
        """Record weights.

        Parameters
        ----------
        step
            Number of updates before them.
        tensors
            Weights of shape (P,) by label: workers ``"0"``, ``"1"``, ..., and ``"centre"`` and the like.
        buffers
            Buffers of the module by name, which all labels share; or by label and name.
        layout
            Names and shapes of the parameters, so that parts of the network can be told apart:
            ``[{"name": "0.weight", "shape": [4, 3]}, ...]`` or the landscape's `Layout`.
        rest
            Parameters by name that do not vary on a restricted landscape, which all labels share.
        """
        from landscape.store.layout import plain_layout
        from landscape.store.tensors import save_tensors

        self._writing()
        shapes = {label: tuple(tensor.shape) for label, tensor in tensors.items()}
        if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
            raise RunError(f"A snapshot needs weights of one common shape (P,); got {shapes or 'none'}.")
        for label in tensors:
            if "/" in label or not label:
                raise RunError(f"{label!r} cannot be a label of weights; a label has no slash.")
        key = {"step": _step_of(step), "labels": list(tensors)}
        metadata = key | {"layout": plain_layout(layout, size=next(iter(shapes.values()))[0])}
        content = dict(tensors)
        for owner, found in (buffers or {}).items():
            if isinstance(found, Mapping):
                content |= {f"buffer/{owner}/{name}": tensor for name, tensor in found.items()}
            else:
                content[f"buffer/all/{owner}"] = found
        content |= {f"rest/{name}": tensor for name, tensor in (rest or {}).items()}
        path = self._uncommitted(_SNAPSHOTS, self._folder("weights"), f"step-{step:08d}")
        record = save_tensors(path, content, metadata)
        # The rows that lead up to a snapshot are not to be lost where the snapshot is not.
        self.sync()
        self._commit(_SNAPSHOTS, path, key | record, sync=True)
        return path

    def write_solutions(
        self, sample: int, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
    ) -> Path:
        """Record the solutions of one sample of a critical-point study; complex arrays are welcome."""
        from landscape.store.tensors import save_tensors

        self._writing()
        sample = _step_of(sample)
        path = self._uncommitted(_SOLUTIONS, self._folder("solutions"), f"sample-{sample:08d}")
        record = save_tensors(path, arrays, dict(metadata or {}))
        self._commit(_SOLUTIONS, path, {"sample": sample} | record, sync=False)
        return path

    def write_table(self, name: str, frame: pd.DataFrame, *, latex: str | None = None) -> Path:
        """Record a table; returns the CSV file that lies beside it for other programs.

        Parameters
        ----------
        name
            What the table is called.
        frame
            The table.
        latex
            The same for LaTeX, written beside it.
        """
        self._writing()
        path = self._folder("tables") / file_name(name)
        if latex is not None:
            files.write_atomic(path.with_name(path.name + ".tex"), latex.encode())
        tables.save_table(path, frame)
        return path.with_name(path.name + ".csv")

    def write_log(self, name: str, text: str) -> Path:
        """Write a text, such as a traceback, into ``logs/``."""
        self._writing()
        path = self._folder("logs") / file_name(name)
        files.write_atomic(path, text.encode())
        return path

    def write_resume(self, step: int, state: Any) -> None:
        """Record everything from which the run can go on at `step`; the two last such states are kept.

        Parameters
        ----------
        step
            Number of updates before the state.
        state
            What :func:`landscape.store.encode` takes.
        """
        from landscape.store.state import encode
        from landscape.store.tensors import save_tensors

        self._writing()
        step = _step_of(step)
        tree, tensors = encode(state)
        self.sync()  # a state must never be ahead of the rows and arrays that led to it
        folder = self._folder("resume")
        numbers = [number for number, _ in _numbered(folder)]
        number = max(numbers, default=-1) + 1
        path = folder / f"step-{step:08d}-{number:06d}.json"
        record = save_tensors(path.with_suffix(".safetensors"), tensors)
        # The commit record comes last: without it the tensors do not count.
        files.write_sealed(path, {"step": step, "attempt": self._attempt, "tensors": record, "state": tree})
        for old, stale in _numbered(folder):
            if old <= number - KEPT_STATES:
                for suffix in (".json", ".safetensors"):
                    with suppress(FileNotFoundError):
                        os.unlink(stale.with_suffix(suffix))

    def sync(self) -> None:
        """Put every row and record so far on the disk."""
        for log in self._logs.values():
            log.sync()

    def close(
        self, status: Literal["complete", "stopped", "failed", "interrupted"], reason: str | None = None
    ) -> None:
        """End the attempt: write ``MANIFEST.json`` and the status, and give the lock back.

        A run that is not open for writing is left as it is.
        """
        if status not in STATUSES:
            raise RunError(f"{status!r} is not how a run ends; use one of {', '.join(STATUSES)}.")
        if self._lock is None:
            return
        try:
            if not self.in_place:
                with suppress(OSError):
                    self._close_logs()
                if status in ("failed", "interrupted"):
                    return  # what ended it is about to be raised, and here is nothing left to write to
                self._writing()
            try:
                self._close_logs()
                files.write_json(self.path / "MANIFEST.json", self._manifest())
            finally:
                self._set_state(status=status, reason=reason, ended=now())
        finally:
            self._lock.release()
            self._lock = None

    def _manifest(self) -> dict[str, dict[str, Any]]:
        known = {
            record["file"]: {"sha256": record["sha256"], "bytes": record["bytes"]}
            for index in (_SNAPSHOTS, _ARRAYS, _SOLUTIONS)
            for record in self._records(index)
        }
        manifest = {}
        for path in sorted(self._recorded()):
            name = path.relative_to(self.path).as_posix()
            manifest[name] = known.get(name) or {
                "sha256": files.sha256_of(path),
                "bytes": path.stat().st_size,
            }
        return manifest

    def _recorded(self) -> Iterator[Path]:
        """Yield the files that are the run; pages and figures can be drawn again, the state is alive."""
        for path in self.path.iterdir():
            if path.is_file() and path.suffix in (".json", ".jsonl"):
                if path.name not in ("state.json", "MANIFEST.json"):
                    yield path
            elif path.is_dir() and path.name in (
                "weights",
                "spectra",
                "solutions",
                "resume",
                "best",
                "tables",
            ):
                yield from (file for file in path.rglob("*") if file.is_file())

    # -- reading ----------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Compare a closed run with its manifest; return a sentence for every file that differs."""
        problems = []
        for name, entry in self._document("MANIFEST.json").items():
            path = self.path / name
            if not isinstance(entry, dict) or "sha256" not in entry:
                problems.append(f"{self.path / 'MANIFEST.json'} is damaged: it has no checksum of {name!r}.")
            elif not path.is_file():
                problems.append(f"{path} is missing.")
            elif files.sha256_of(path) != entry["sha256"]:
                problems.append(f"{path} differs from what was recorded.")
        return problems

    def _records(self, name: str) -> list[Record]:
        """Read the lines of one of the logs.

        Raises
        ------
        landscape.errors.RunError
            If a line is not such a record.
        """
        records = files.read_lines(self.path / name)
        for number, record in enumerate(records, start=1):
            missing = _KEYS[name] - record.keys()
            if missing:
                raise RunError(
                    f"{self.path / name}, line {number} is damaged: it has no {', '.join(map(repr, sorted(missing)))}."
                )
        return records

    def _effective(self, records: Iterable[Record]) -> Iterator[Record]:
        """Leave out what a later attempt supersedes.

        An attempt that resumed from step s supersedes what earlier attempts recorded after s.
        """
        last: float = math.inf
        limits: list[float] = []
        for attempt in reversed(self._stored_state()["attempts"]):
            limits.append(last)
            resumed = attempt["resume_step"]
            last = min(last, -math.inf if resumed is None else resumed)
        limits.reverse()
        for record in records:
            if record["attempt"] < len(limits) and record["step"] <= limits[record["attempt"]]:
                yield record

    def rows(self, *, superseded: bool = False) -> list[dict[str, Any]]:
        """Return the rows of metrics in the order they were first written, one per step and worker.

        Parameters
        ----------
        superseded
            Return every row as it was written instead, those that a resume superseded included; their
            column ``"attempt"`` says by whom.
        """
        records: Iterable[Record] = self._records(_METRICS)
        if superseded:
            return list(records)
        merged: dict[tuple[int, str], Record] = {}
        for record in self._effective(records):
            key = record["step"], record["worker"]
            earlier = merged.get(key)
            if earlier is not None and earlier["attempt"] == record["attempt"]:
                earlier.update(record)
            elif earlier is None or earlier["attempt"] < record["attempt"]:
                merged[key] = dict(record)
        return [
            {name: value for name, value in record.items() if name != "attempt"} for record in merged.values()
        ]

    @property
    def metrics(self) -> pd.DataFrame:
        """The rows as a table: ``step`` and ``worker`` first, then the quantities as they first appeared."""
        rows = self.rows()
        names = dict.fromkeys(["step", "worker", *(name for row in rows for name in row)])
        frame = pd.DataFrame(rows, columns=list(names))
        return frame.astype({"step": "int64", "worker": "str"})

    def changes(self) -> pd.DataFrame:
        """Return every change of a hyper-parameter: columns step, name and value, in their order."""
        rows = [
            {"step": record["step"], "name": name, "value": value}
            for record in self._effective(self._records(_CHANGES))
            for name, value in record["values"].items()
        ]
        return pd.DataFrame(rows, columns=["step", "name", "value"])

    def changes_by_hand(self) -> list[tuple[int, dict[str, Any]]]:
        """Return step and values of the changes that somebody asked for while it ran."""
        return [
            (record["step"], record["values"])
            for record in self._effective(self._records(_CHANGES))
            if record["by_hand"]
        ]

    def best(self) -> tuple[Snapshot, dict[str, Any]] | None:
        """Return the best weights and ``{"step", "worker", "metric", "value"}``; None where none were kept."""
        if not (self.path / _BEST).is_file():
            return None
        record = files.read_sealed(self.path / _BEST)
        snapshot = Snapshot(
            step=record["step"],
            labels=(record["worker"],),
            path=self.path / "best" / record["file"],
            sha256=record["sha256"],
            bytes=record["bytes"],
        )
        return snapshot, {key: record[key] for key in ("step", "worker", "metric", "value")}

    def export_metrics(self, path: str | Path) -> Path:
        """Write the metrics as ``.csv``, ``.parquet`` or ``.tex``, as the ending of `path` says."""
        return tables.export(self.metrics, Path(path))

    @property
    def last_step(self) -> int | None:
        """The step of the last effective row, or of the last snapshot where there are no rows."""
        steps = [record["step"] for record in self._effective(self._records(_METRICS))]
        steps = steps or [snapshot.step for snapshot in self.snapshots()]
        return max(steps, default=None)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the snapshots in the order of their steps."""
        newest = {record["step"]: record for record in self._effective(self._records(_SNAPSHOTS))}
        return tuple(
            Snapshot(
                step=step,
                labels=tuple(record["labels"]),
                path=self.path / record["file"],
                sha256=record["sha256"],
                bytes=record["bytes"],
            )
            for step, record in sorted(newest.items())
        )

    def array_names(self) -> list[str]:
        """Return the names under which arrays were recorded."""
        return sorted({record["name"] for record in self._effective(self._records(_ARRAYS))})

    def arrays(self, name: str) -> list[ArrayRecord]:
        """Return what was recorded under `name`, in the order of steps, then of writing.

        Raises
        ------
        landscape.errors.RunError
            If nothing was recorded under that name.
        """
        newest: dict[tuple[int, str], Record] = {}
        for record in self._effective(self._records(_ARRAYS)):
            if record["name"] == name:
                newest[record["step"], record["worker"]] = record
        if not newest:
            known = self.array_names()
            raise RunError(
                f"{self.path} has no arrays of {name!r}; it has {', '.join(known) or 'none at all'}."
                f"{nearest(name, known)}"
            )
        return [
            ArrayRecord(step, worker, record["arrays"], self.path / record["file"], record["sha256"])
            for (step, worker), record in sorted(newest.items(), key=lambda item: item[0][0])
        ]

    def solutions(self) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        """Yield arrays and metadata of the recorded solutions, verified, in the order of samples."""
        from landscape.store.tensors import load_arrays, metadata_of

        newest = {record["sample"]: record for record in self._records(_SOLUTIONS)}
        for _, record in sorted(newest.items()):
            path = self.path / record["file"]
            yield load_arrays(path, record["sha256"]), metadata_of(path)

    def children(self) -> dict[str, Path]:
        """Return the runs inside this one, by name: the stages of a study, the members of a sweep.

        A member lies in a store of its own, where it may have been tried more than once; the complete run
        that was made last counts, or the one made last where none is complete.
        """
        found = {}
        for group in ("stages", "members"):
            for place in sorted((self.path / group).glob("[!.]*")):
                runs = [place] if (place / "config.json").is_file() else sorted(place.glob("[!.]*"))
                runs = [run for run in runs if (run / "config.json").is_file()]
                complete = [run for run in runs if RunDirectory(run).status == "complete"]
                if runs:
                    found[place.name] = max(complete or runs, key=_made)
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the recorded tables by name."""
        from urllib.parse import unquote

        found = sorted((self.path / "tables").glob("*.json"))
        return {
            unquote(path.stem): tables.load_table(path.with_suffix(""))
            for path in found
            if not path.name.startswith(files.TEMPORARY)
        }

    def latest_resume(self, template: S, *, before: int | None = None) -> tuple[int, S] | None:
        """Return the newest state from which the run can go on, and its step.

        A state that does not agree with its checksum is passed over, with a warning.

        Parameters
        ----------
        template
            A fresh state of the same kind; only classes that occur in it are built.
        before
            Pass over states at this step and later ones.

        Returns
        -------
        tuple or None
            None where there is no whole state.

        Raises
        ------
        landscape.errors.RunError
            If the state is whole, but of other classes or fields than `template`.
        """
        from landscape.store.state import decode
        from landscape.store.tensors import load_tensors

        candidates = []
        for number, path in _numbered(self.path / "resume"):
            if path.suffix == ".json":
                try:
                    candidates.append({**files.read_sealed(path), "number": number, "path": path})
                except RunError as error:
                    warnings.warn(f"A resumable state was passed over: {error}", RuntimeWarning, stacklevel=2)
        for candidate in sorted(self._effective(candidates), key=operator.itemgetter("number"), reverse=True):
            if before is not None and candidate["step"] >= before:
                continue
            try:
                tensors = load_tensors(
                    candidate["path"].with_suffix(".safetensors"), candidate["tensors"]["sha256"]
                )
            except RunError as error:
                warnings.warn(f"A resumable state was passed over: {error}", RuntimeWarning, stacklevel=2)
                continue
            return candidate["step"], decode(candidate["state"], tensors, template)
        return None

    def span(
        self, part: str | Sequence[str] | None = None, workers: Sequence[str] | None = None
    ) -> SnapshotSpan:
        """Return the affine space that the snapshots span.

        Parameters
        ----------
        part
            Pattern or patterns of parameter names, such as ``"layer1.*"``; all parameters where None.
        workers
            The labels to take, in their order; all of them where None.

        Raises
        ------
        landscape.errors.RunError
            If there are no such snapshots, or a file differs from its commit record.
        """
        from landscape.store.span import SnapshotSpan

        if isinstance(workers, str):
            workers = (workers,)
        elif workers is not None and not isinstance(workers, Iterable):
            raise RunError(f"workers={workers!r}: give the labels of points, such as ['0', '1', 'centre'].")
        span = SnapshotSpan.from_snapshots(self.snapshots(), workers)
        return span if part is None else span.part(part)


def _step_of(value: Any) -> int:
    if not isinstance(value, bool):
        with suppress(TypeError):
            step = operator.index(value)
            if step >= 0:
                return step
    raise RunError(f"A step or sample is a whole number from 0 on; got {value!r}.")


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the files of resumable states with their running numbers."""
    return sorted(
        (int(path.stem.rpartition("-")[2]), path)
        for path in folder.glob("step-*-*")
        if path.suffix in (".json", ".safetensors")
    )
