"""MNIST and its relatives, from the files in the IDX format in which they are published.

IDX (LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "File formats"): two zero
bytes; the type of an entry (8: unsigned byte); the number of dimensions; the size of each, four bytes, the
most significant first; then the entries.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from landscape.interfaces import Dataset
from landscape.validators import one_of
from landscape_networks._fields import optional_count
from landscape_networks._files import Source, find, read_bytes
from landscape_networks._images import NORMALISATIONS, choose, image_splits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = ["KMNIST", "MNIST", "FashionMNIST", "read_idx"]

_CLASSES = 10
_UNSIGNED_BYTE = 8


def read_idx(source: Source, path: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the array of unsigned bytes in an IDX file, compressed by gzip or not.

    Raises
    ------
    DataError
        If the magic number is not that of `dimensions` dimensions of unsigned bytes, or the file is longer or
        shorter than its header says.
    """
    import numpy as np

    content = read_bytes(source, path)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise source.damaged(
            path, f"begins with 0x{content[:4].hex()}, not with the magic number 0x{magic.hex()}"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    # A header that was cut gives a length that does not fit either.
    if len(content) < start or len(content) - start != math.prod(shape):
        raise source.damaged(
            path, f"has {len(content):,} bytes where its header announces {start + math.prod(shape):,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _names(stem: str) -> tuple[str, ...]:
    # As published, unpacked or not, and as some mirrors rename them.
    plain = (stem, stem.replace("-idx", ".idx"))
    return tuple(f"{name}{suffix}" for suffix in ("", ".gz") for name in plain)


def _labelled(source: Source, images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Return images, shape (n, 1, height, width) uint8, and labels, shape (n,), of two files."""
    import torch

    x, y = read_idx(source, images, 3), read_idx(source, labels, 1)
    if len(x) == 0 or 0 in x.shape:
        raise source.damaged(images, f"holds no images (shape {x.shape})")
    if len(x) != len(y):
        raise source.damaged(labels, f"holds {len(y)} labels for the {len(x)} images of {images.name}")
    if y.max() >= _CLASSES:
        raise source.damaged(labels, f"holds the label {y.max()}; there are {_CLASSES} classes")
    # A copy: torch wants memory that it may write to.
    return torch.from_numpy(x.copy())[:, None], torch.from_numpy(y.astype("int64"))


def _load(
    source: Source, dataset: MNIST | FashionMNIST | KMNIST, generator: torch.Generator
) -> Mapping[str, Data]:
    paths = find(
        source,
        dataset.folder,
        *(
            _names(f"{part}-{kind}-ubyte")
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ),
    )
    parts = {}
    for split, wanted, pair in (
        ("train", "examples", paths[:2]),
        ("test", "test_examples", paths[2:]),
    ):
        x, y = _labelled(source, *pair)
        rows = choose(source.name, wanted, y, getattr(dataset, wanted), _CLASSES, generator)
        parts[split] = (x, y) if rows is None else (x[rows], y[rows])
    return image_splits(parts, dataset.normalisation)


@frozen
class MNIST(Dataset):
    """The MNIST handwritten digits: 60,000 and 10,000 images of 28 x 28 pixels, from their four files.

    The files are the published ones, as they are or unpacked: ``train-images-idx3-ubyte.gz``,
    ``train-labels-idx1-ubyte.gz``, ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``. They are
    looked for in ``MNIST/raw`` (where torchvision puts them), in ``MNIST``, and in the folder itself. Nothing is
    downloaded.

    Inputs are float32 of shape (n, 1, 28, 28), targets the digits as int64. The splits ``"train"`` and
    ``"test"`` are those of the files.

    Parameters
    ----------
    folder
        The folder of data sets. None is that of the environment variable ``LANDSCAPE_DATA``, or ``data``.
    examples
        How many of the training images to use, drawn with the same share of every class, up to rounding; None
        uses all.
    test_examples
        The same of the test images.
    normalisation
        ``"unit"``: grey values from 0 to 1. ``"centre"``: from every pixel, its mean over the training images
        is subtracted. ``"standard"``: mean 0 and variance 1 over all pixels of the training images (per
        channel). The numbers are those of the training images that are used, for both splits.

    Raises
    ------
    landscape.errors.DataError
        When loading: for a file that is missing, with where to get it, and for one that is damaged. Magic
        numbers, lengths and labels are checked, and nothing of a damaged file is used.
    """

    references: ClassVar[tuple[str, ...]] = (
        "LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE "
        "86 (1998).",
    )

    folder: str | None = None
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits ``"train"`` and ``"test"``."""
        home = "the MNIST page of Yann LeCun, or a mirror of it"
        return _load(Source("MNIST", ("MNIST/raw", "MNIST", "."), home), self, generator)


@frozen
class FashionMNIST(Dataset):
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28 pixels of ten kinds of clothing.

    The four files have the names of those of :class:`MNIST`, and are looked for in ``FashionMNIST/raw``,
    ``FashionMNIST`` and the folder itself. Fields, splits and checks are those of :class:`MNIST`.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Xiao, Rasul, Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms. arXiv:1708.07747 (2017).",
    )

    folder: str | None = None
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits ``"train"`` and ``"test"``."""
        home = "the Fashion-MNIST repository of Zalando Research on GitHub"
        return _load(Source("FashionMNIST", ("FashionMNIST/raw", "FashionMNIST", "."), home), self, generator)


@frozen
class KMNIST(Dataset):
    """Kuzushiji-MNIST: 60,000 and 10,000 grey images of 28 x 28 pixels of ten cursive Japanese characters.

    The four files have the names of those of :class:`MNIST`, and are looked for in ``KMNIST/raw``, ``KMNIST``
    and the folder itself. Fields, splits and checks are those of :class:`MNIST`.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto, Ha. Deep learning for classical Japanese literature. "
        "arXiv:1812.01718 (2018).",
    )

    folder: str | None = None
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits ``"train"`` and ``"test"``."""
        home = "the KMNIST page of the Center for Open Data in the Humanities (CODH), Tokyo"
        return _load(Source("KMNIST", ("KMNIST/raw", "KMNIST", "."), home), self, generator)
