"""A folder of runs."""

from __future__ import annotations

import re
import secrets
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


@frozen
class RunStore:
    """A folder whose subfolders are runs.

    Attributes
    ----------
    root
        The folder; it is made when the first run is.
    """

    root: Path = Path("runs")

    def __init__(self, root: str | Path = "runs") -> None:
        self.__attrs_init__(Path(root))  # type: ignore[attr-defined]

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
        elif not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", run_id):
            raise RunError(
                f"{run_id!r} cannot name a run; use letters, digits, '.', '_' and '-', not '.' or '-' first."
            )
        self._clear()
        return RunDirectory.create(self.root / run_id, configuration, provenance, kind=kind, name=name)

    def _clear(self) -> None:
        """Delete runs whose process died while it was making them."""
        for place in self.root.glob(f"{files.TEMPORARY}*"):
            holder = lock.holder_of(place / "lock")
            if holder is not None and lock.status_of(holder) == "dead":
                files.remove_tree(place)

    def ids(self) -> list[str]:
        """Return the names of the runs, the oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(
            path.parent.name
            for path in self.root.glob("*/config.json")
            if not path.parent.name.startswith(files.TEMPORARY)
        )

    def contains(self, run_id: str) -> bool:
        """Whether there is a run of exactly this name."""
        return (self.root / run_id / "config.json").is_file()

    def ensure_space(self, needed: int) -> None:
        """Raise a `RunError` that says how much is missing unless `needed` bytes are free."""
        place = self.root.absolute()
        while not place.exists():
            place = place.parent
        files.ensure_space(place, needed)

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
        known = self.ids()
        matches = [run] if run in known else [name for name in known if name.startswith(run)]
        matches = matches or [name for name in known if name.rpartition("-")[2].startswith(run)]
        if not run or not matches:
            raise RunError(
                f"There is no run {run!r} in {self.root.absolute()}, which holds {len(known)} runs."
                f"{nearest(run, known)}"
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
