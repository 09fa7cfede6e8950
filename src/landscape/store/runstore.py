"""A folder of runs."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from attrs import frozen

from landscape.errors import RunError, nearest
from landscape.store import files, lock
from landscape.store.directory import RunDirectory

__all__ = ["RunStore"]

_COLUMNS = ("id", "kind", "name", "status", "started", "ended", "step", "attempts", "reason", "path")


def _require_name(name: Any) -> None:
    """Refuse what cannot name a run.

    Raises
    ------
    landscape.errors.RunError
        Naming it.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise RunError(
            f"{name!r} cannot name a run; use letters, digits, '.', '_' and '-', not '.' or '-' first."
        )


@frozen
class RunStore:
    """A folder whose subfolders are runs.

    Attributes
    ----------
    root
        The folder; it is made when the first run is.
    """

    root: Path = Path("runs")

    def __init__(self, root: str | os.PathLike[str] = "runs") -> None:
        self.__attrs_init__(files.path_of(root, "store"))  # type: ignore[attr-defined]

    def create(
        self,
        configuration: Mapping[str, Any],
        provenance: Mapping[str, Any],
        *,
        kind: str,
        run_id: str | None = None,
        name: str = "",
    ) -> RunDirectory:
        """Make a run and take its lock; either the whole run is there afterwards, or nothing.

        Parameters
        ----------
        configuration, provenance
            Plain values: numbers, strings, booleans, None, and lists and mappings of these.
        kind
            What is run, such as ``"experiment"``.
        run_id
            Name of the folder. By default the time in UTC and eight random hexadecimal digits.
        name
            What people call the run.

        Raises
        ------
        landscape.errors.RunError
            If the run exists, the store cannot be written, or a value is not plain.
        """
        if run_id is None:
            # From the operating system: runs with one seed must not have one name.
            run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        _require_name(run_id)
        self.require_folder()
        with files.explained(self.root, "use"):
            self._clear()
        return RunDirectory.create(self.root / run_id, configuration, provenance, kind=kind, name=name)

    def require_folder(self) -> None:
        """Raise a `RunError` unless the store is a folder that may hold runs, or can become one."""
        with files.explained(self.root, "use"):
            place = self._nearest()
            total = shutil.disk_usage(place).total
        if not place.is_dir():
            raise RunError(
                f"{self.root} cannot be a store: {place} is no folder. Give the path of a folder; it is made if "
                "it is not there."
            )
        if not total:
            raise RunError(
                f"{self.root} cannot be a store: {place} belongs to a file system that keeps nothing. Give a "
                "folder on a disk."
            )

    def _nearest(self) -> Path:
        """Return the store itself, or the last of the folders above it that is there."""
        place = self.root.absolute()
        while not os.path.lexists(place):
            place = place.parent
        return place

    def _clear(self) -> None:
        """Delete runs whose process died while it was making them."""
        for place in self.root.glob(f"{files.TEMPORARY}*"):
            holder = lock.holder_of(place / "lock")
            if holder is not None and lock.status_of(holder) == "dead":
                files.remove_tree(place)

    def ids(self) -> list[str]:
        """Return the names of the runs, the oldest first."""
        with files.explained(self.root, "read"):
            if not self.root.is_dir():
                return []
            return sorted(
                path.parent.name
                for path in self.root.glob("*/config.json")
                if not path.parent.name.startswith(files.TEMPORARY)
            )

    def contains(self, run_id: str) -> bool:
        """Whether there is a run of exactly this name."""
        _require_name(run_id)
        with files.explained(self.root / run_id, "read"):
            return (self.root / run_id / "config.json").is_file()

    def ensure_space(self, needed: int) -> None:
        """Raise a `RunError` that says how much is missing unless `needed` bytes are free."""
        files.ensure_space(self._nearest(), needed)

    def open(self, run: str) -> RunDirectory:
        """Open a run for reading.

        Parameters
        ----------
        run
            Its name, or the beginning of its name or of its eight hexadecimal digits.

        Raises
        ------
        landscape.errors.RunError
            If there is no such run, or more than one.
        """
        if not isinstance(run, str):
            raise RunError(f"run={run!r} is no name of a run; give a text.")
        known = self.ids()
        matches = [run] if run in known else [name for name in known if name.startswith(run)]
        matches = matches or [name for name in known if name.rpartition("-")[2].startswith(run)]
        if not run or not matches:
            raise RunError(
                f"There is no run {run!r} in {self.root.absolute()}, which holds {len(known) or 'no'} "
                f"run{'' if len(known) == 1 else 's'}.{nearest(run, known)}"
            )
        if len(matches) > 1:
            raise RunError(
                f"{run!r} could be {', '.join(matches[:5])}{' ...' if len(matches) > 5 else ''}; "
                "write more of the name."
            )
        return RunDirectory(self.root / matches[0])

    def list(self) -> pd.DataFrame:
        """Return a row per run, the oldest first.

        A run whose process died says ``"crashed"``; one that cannot be read says ``"unreadable"``, and why.
        """
        rows = []
        for name in self.ids():
            row: dict[str, Any] = dict.fromkeys(_COLUMNS) | {"id": name, "path": str(self.root / name)}
            try:
                directory = RunDirectory(self.root / name)
                state = directory.state
                row |= {key: state.get(key) for key in ("kind", "status", "started", "ended", "reason")}
                row |= {"name": directory.name, "step": directory.last_step}
                row |= {"attempts": len(state["attempts"])}
            except RunError as error:
                row |= {"status": "unreadable", "reason": str(error)}
            rows.append(row)
        return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"step": "Int64", "attempts": "Int64"})
