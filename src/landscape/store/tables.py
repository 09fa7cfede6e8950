"""Tables on disk, and exported for other programs."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from landscape.errors import ConfigurationError, RunError
from landscape.store import files

__all__ = ["export", "load_table", "save_table"]


def save_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as ``path.json``, from which it is read back, with ``path.csv`` beside it for people.

    Raises
    ------
    landscape.errors.RunError
        If column names are not distinct strings, or a value cannot be written as JSON.
    """
    columns = [*frame.columns]
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != len(columns):
        raise RunError(f"Table {path.name!r} has the columns {columns}; they must be distinct strings.")
    index: list[str] = []
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        index = [
            f"index_{level}" if name is None else str(name) for level, name in enumerate(frame.index.names)
        ]
        frame = frame.reset_index(names=index)
    content = {
        "columns": list(frame.columns),
        "dtypes": [str(dtype) for dtype in frame.dtypes],
        "index": index,
        "data": [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)],
    }
    text = files.dumps(content, where=f"table {path.name!r}") + "\n"
    files.write_atomic(path.with_name(path.name + ".csv"), frame.to_csv(index=False, na_rep="NaN").encode())
    # The JSON comes last: a table is there once it can be read back.
    files.write_atomic(path.with_name(path.name + ".json"), text.encode())


def _cell(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT:
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp | pd.Timedelta) else value


def load_table(path: Path) -> pd.DataFrame:
    """Read the table that :func:`save_table` wrote as ``path.json``."""
    content = files.read_json(path.with_name(path.name + ".json"))
    columns = {}
    for position, (name, dtype) in enumerate(zip(content["columns"], content["dtypes"], strict=True)):
        values = [row[position] for row in content["data"]]
        columns[name] = pd.Series(values, dtype="object").astype(dtype)
    frame = pd.DataFrame(columns, columns=content["columns"])
    return frame.set_index(content["index"]) if content["index"] else frame


def export(frame: pd.DataFrame, path: Path, *, index: bool = False) -> Path:
    """Write a table for another program; the ending of `path` says how.

    Parameters
    ----------
    frame
        The table.
    path
        Ends in ``.csv`` (every digit), ``.parquet`` (needs pyarrow) or ``.tex`` (six digits, booktabs; a
        ``longtable`` above 40 rows).
    index
        Whether the index is written too.

    Raises
    ------
    landscape.errors.ConfigurationError
        For any other ending, and for ``.parquet`` without pyarrow.
    """
    if path.suffix not in (".csv", ".parquet", ".tex"):
        raise ConfigurationError(
            f"Cannot tell the format of {path.name!r}; end it in .csv, .parquet or .tex."
        )
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError(
            f"Writing {path.name!r} needs pyarrow: pip install 'landscape-core[parquet]'. "
            "The same table can be written as .csv without it."
        )
    with files.explained(path):
        temporary = files.temporary_beside(path)
        try:
            if path.suffix == ".csv":
                frame.to_csv(temporary, index=index, na_rep="NaN")
            elif path.suffix == ".parquet":
                frame.to_parquet(temporary, index=index)
            else:
                plain = frame.rename(columns=str)
                temporary.write_text(
                    plain.to_latex(
                        index=index,
                        escape=True,
                        na_rep="--",
                        float_format="{:.6g}".format,
                        longtable=len(frame) > 40,
                    ),
                    encoding="utf-8",
                )
            files.commit(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    return path
