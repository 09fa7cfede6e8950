"""Finding and reading the files of data sets; what is missing or damaged is refused by name."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from landscape.errors import DataError

__all__ = ["FOLDER", "Source", "find", "read_bytes", "root"]

#: Environment variable that names the folder of data sets.
FOLDER = "LANDSCAPE_DATA"

#: More than any file that is read here holds, unpacked: what claims to be larger is damaged or no such file.
_LARGEST = 2**30
_PIECE = 2**20


def root(folder: str | None) -> Path:
    """Return the folder of data sets: `folder`, or the environment's, or ``data``."""
    return Path(folder or os.environ.get(FOLDER) or "data")


@frozen
class Source:
    """Where a data set comes from and where its files are looked for.

    Attributes
    ----------
    name
        Of the data set.
    places
        Folders, below the folder of data sets, that are searched in this order. The folder of data sets itself,
        ``"."``, is searched only where one was given: files of several data sets have the same names.
    home
        In words, where to get the files.
    """

    name: str
    places: tuple[str, ...]
    home: str

    def folders(self, folder: str | None) -> list[Path]:
        """Return the folders that are searched."""
        return [root(folder) / place for place in self.places if place != "." or folder is not None]

    def missing(self, folder: str | None, wanted: str) -> DataError:
        """Return the error for a file or folder that is not there."""
        looked = ", ".join(map(str, self.folders(folder)))
        return DataError(
            f"{self.name}: there is no {wanted} in {looked}. Get it from {self.home}, and put it into one of these "
            f"folders; or give another folder with folder=..., or in the environment variable {FOLDER}."
        )

    def damaged(self, path: Path, why: str) -> DataError:
        """Return the error for a file that is not what it should be."""
        return DataError(
            f"{self.name}: {path} {why}: it is damaged, was not downloaded completely, or is another file. Get it "
            f"again from {self.home}."
        )


def find(source: Source, folder: str | None, *names: Sequence[str]) -> list[Path]:
    """Return the paths of files that lie in one folder.

    Parameters
    ----------
    source
        Of which the places are searched; the first that holds any of the files must hold all.
    folder
        The folder of data sets, as configured.
    names
        For each file, the names under which it may lie there.

    Raises
    ------
    DataError
        Naming the first file that is missing.
    """
    for here in source.folders(folder):
        found = [next((here / name for name in among if (here / name).is_file()), None) for among in names]
        if any(found):
            for path, among in zip(found, names, strict=True):
                if path is None:
                    raise source.missing(folder, f"{among[0]} beside {next(filter(None, found)).name}")
            return [path for path in found if path is not None]
    raise source.missing(folder, names[0][0])


def read_bytes(source: Source, path: Path, limit: int = _LARGEST) -> bytes:
    """Return the contents of a file, unpacked where it is compressed by gzip.

    Raises
    ------
    DataError
        If it cannot be read, is larger than `limit` bytes, or its compression is damaged (the checksum
        included).
    """
    try:
        with path.open("rb") as raw:
            packed = path.suffix == ".gz" or raw.peek(2)[:2] == b"\x1f\x8b"
            content = bytearray()
            # Piece by piece, and no further than the limit: a small file can unpack to any size.
            with gzip.open(raw) if packed else raw as file:
                while len(content) <= limit and (piece := file.read(_PIECE)):
                    content += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise source.damaged(path, f"cannot be unpacked ({error})") from error
    except OSError as error:
        raise DataError(f"{source.name}: {path} cannot be read: {error.strerror}.") from error
    if len(content) > limit:
        raise source.damaged(path, f"is larger than {limit:,} bytes")
    return bytes(content)
