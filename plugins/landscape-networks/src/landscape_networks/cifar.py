"""CIFAR-10 and CIFAR-100, from the files in which they are published: the binary version or Python's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from landscape.interfaces import Dataset
from landscape.validators import one_of
from landscape_networks._fields import optional_count
from landscape_networks._files import Source, find, read_bytes
from landscape_networks._images import NORMALISATIONS, choose, image_splits
from landscape_networks._pickles import MalformedError, read_pickle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import Data

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["CIFAR10", "CIFAR100"]

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_HOME = "the CIFAR page of Alex Krizhevsky at the University of Toronto"
_REFERENCE = (
    "Krizhevsky. Learning multiple layers of features from tiny images. University of Toronto (2009)."
)


@frozen
class _Version:
    """One of the ways in which a data set is published.

    Attributes
    ----------
    folder
        The name of the folder in the published archive.
    archive
        The name of the archive.
    train, test
        Names of the files, and how many images each holds.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    train_images: int
    test: str
    test_images: int


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARY_10 = _Version(
    "cifar-10-batches-bin", "cifar-10-binary.tar.gz",
    tuple(f"{name}.bin" for name in _BATCHES), 10_000, "test_batch.bin", 10_000,
)  # fmt: skip
_PYTHON_10 = _Version("cifar-10-batches-py", "cifar-10-python.tar.gz", _BATCHES, 10_000, "test_batch", 10_000)
_BINARY_100 = _Version(
    "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), 50_000, "test.bin", 10_000
)
_PYTHON_100 = _Version("cifar-100-python", "cifar-100-python.tar.gz", ("train",), 50_000, "test", 10_000)


@frozen
class _Labels:
    """The labels that precede each image in the binary version: their names in Python's, and their classes."""

    names: tuple[str, ...]
    classes: tuple[int, ...]


def _read_binary(source: Source, path: Path, images: int, labels: _Labels) -> tuple[Bytes, list[Bytes]]:
    """Return pixels, shape (n, 3072), and each kind of label, shape (n,)."""
    import numpy as np

    record = len(labels.names) + _PIXELS
    content = read_bytes(source, path)
    if len(content) != images * record:
        raise source.damaged(
            path,
            f"has {len(content):,} bytes; {images:,} records of {record:,} bytes are {images * record:,}",
        )
    records = np.frombuffer(content, np.uint8).reshape(images, record)
    return records[:, len(labels.names) :], [records[:, column] for column in range(len(labels.names))]


def _read_python(source: Source, path: Path, images: int, labels: _Labels) -> tuple[Bytes, list[Bytes]]:
    """Return pixels, shape (n, 3072), and each kind of label, shape (n,)."""
    import numpy as np

    try:
        batch = read_pickle(read_bytes(source, path))
    except MalformedError as error:
        raise source.damaged(path, str(error)) from error
    wanted = [b"data", *(name.encode() for name in labels.names)]
    if type(batch) is not dict or not all(key in batch for key in wanted):
        raise source.damaged(path, f"is no dictionary with the keys {b', '.join(wanted).decode()}")
    pixels, *columns = (batch[key] for key in wanted)
    if type(pixels) is not np.ndarray or pixels.shape != (images, _PIXELS):
        raise source.damaged(path, f"holds no array of {images:,} x {_PIXELS:,} pixels")
    for column in columns:
        if type(column) is not list or len(column) != images:
            raise source.damaged(path, f"holds no list of {images:,} labels")
        if not all(type(label) is int and 0 <= label < 256 for label in column):
            raise source.damaged(path, "holds labels that are no numbers below 256")
    return pixels, [np.array(column, np.uint8) for column in columns]


def _load(
    name: str,
    versions: Sequence[_Version],
    dataset: CIFAR10 | CIFAR100,
    labels: _Labels,
    chosen: str,
    generator: torch.Generator,
) -> Mapping[str, Data]:
    """Return the splits of the first version that is there, labelled by the kind of label `chosen`."""
    version, paths = _installed(name, versions, dataset.folder)
    column = labels.names.index(chosen)
    parts = {}
    for split, among, images in (
        ("train", paths[:-1], version.train_images),
        ("test", paths[-1:], version.test_images),
    ):
        x, y = _joined(version, among, images, labels, column)
        wanted = "examples" if split == "train" else "test_examples"
        rows = choose(name, wanted, y, getattr(dataset, wanted), labels.classes[column], generator)
        parts[split] = (x, y) if rows is None else (x[rows], y[rows])
    return image_splits(parts, dataset.normalisation)


def _source(name: str, *versions: _Version) -> Source:
    archives = " or ".join(version.archive for version in versions)
    return Source(name, (*(version.folder for version in versions), "."), f"{_HOME} ({archives}, unpacked)")


def _installed(name: str, versions: Sequence[_Version], folder: str | None) -> tuple[_Version, list[Path]]:
    """Return the first version of which any file is there, and its files: those for training, that for testing."""
    for version in versions:
        source = _source(name, version)
        files = (*version.train, version.test)
        if any((here / file).is_file() for here in source.folders(folder) for file in files):
            return version, find(source, folder, *((file,) for file in files))
    raise _source(name, *versions).missing(folder, versions[0].train[0])


def _joined(
    version: _Version, paths: Sequence[Path], images: int, labels: _Labels, column: int
) -> tuple[Tensor, Tensor]:
    """Return images, shape (n, 3, 32, 32) uint8, and one kind of label, shape (n,), of some files."""
    import numpy as np
    import torch

    source = _source(f"CIFAR{labels.classes[-1]}", version)
    read = _read_binary if version.test.endswith(".bin") else _read_python
    pixels, targets = [], []
    for path in paths:
        rows, columns = read(source, path, images, labels)
        for name, found, classes in zip(labels.names, columns, labels.classes, strict=True):
            if found.max() >= classes:
                raise source.damaged(path, f"holds the label {found.max()}; there are {classes} ({name})")
        pixels.append(rows)
        targets.append(columns[column])
    x = np.concatenate(pixels).reshape(-1, *_SHAPE)
    return torch.from_numpy(x), torch.from_numpy(np.concatenate(targets).astype(np.int64))


@frozen
class CIFAR10(Dataset):
    """CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 pixels in ten classes, from their six files.

    The files are the published ones, unpacked from their archive: the binary version
    (``cifar-10-batches-bin``), or Python's (``cifar-10-batches-py``), which is looked for next. Python's files
    are pickles, and a pickle is a program; this one is not run. The instructions are read one by one, calls
    are not made, and what is no plain value and no array of bytes is refused. Nothing is downloaded.

    Inputs are float32 of shape (n, 3, 32, 32), targets the classes 0 to 9 as int64. The splits ``"train"`` and
    ``"test"`` are those of the files. All of it takes 740 MB, and 1.2 GB while it is read.

    Parameters
    ----------
    folder
        The folder of data sets, or the one that holds the files. None is that of the environment variable
        ``LANDSCAPE_DATA``, or ``data``.
    examples
        How many of the training images to use, drawn with the same share of every class, up to rounding; None
        uses all.
    test_examples
        The same of the test images.
    normalisation
        ``"unit"``: values from 0 to 1. ``"centre"``: from every pixel, its mean over the training images is
        subtracted. ``"standard"``: every channel has mean 0 and variance 1 over all pixels of the training
        images. The numbers are those of the training images that are used, for both splits.

    Raises
    ------
    landscape.errors.DataError
        When loading: for a file that is missing, with where to get it, and for one that is damaged. Lengths,
        shapes and labels are checked, and nothing of a damaged file is used.
    """

    references: ClassVar[tuple[str, ...]] = (_REFERENCE,)

    folder: str | None = None
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits ``"train"`` and ``"test"``."""
        labels = _Labels(("labels",), (10,))
        return _load("CIFAR10", (_BINARY_10, _PYTHON_10), self, labels, "labels", generator)


@frozen
class CIFAR100(Dataset):
    """CIFAR-100: 50,000 and 10,000 colour images of 32 x 32 pixels, in 100 classes or 20 groups of them.

    The files are ``train.bin`` and ``test.bin`` of the binary version (``cifar-100-binary``), or ``train`` and
    ``test`` of Python's (``cifar-100-python``). What is said of :class:`CIFAR10` holds here too.

    Parameters
    ----------
    folder, examples, test_examples, normalisation
        As in :class:`CIFAR10`.
    labels
        ``"fine"``: the 100 classes; ``"coarse"``: the 20 groups.
    """

    references: ClassVar[tuple[str, ...]] = (_REFERENCE,)

    folder: str | None = None
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))
    labels: str = field(default="fine", validator=one_of(("fine", "coarse")))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits ``"train"`` and ``"test"``."""
        # In the order in which the binary version has them.
        labels = _Labels(("coarse_labels", "fine_labels"), (20, 100))
        return _load("CIFAR100", (_BINARY_100, _PYTHON_100), self, labels, f"{self.labels}_labels", generator)
