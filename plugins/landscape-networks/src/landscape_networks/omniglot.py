"""OMNIGLOT: handwritten characters of fifty alphabets, from the folders of images in which it is published."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError, DataError, nearest
from landscape.interfaces import Dataset
from landscape.validators import one_of
from landscape_networks._drawing import permutation
from landscape_networks._fields import optional_count
from landscape_networks._files import Source, read_bytes
from landscape_networks._images import NORMALISATIONS, image_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = ["Omniglot"]

_SIDE = 105
_DRAWINGS = 20
_PNG = b"\x89PNG\r\n\x1a\n"
#: The last chunk of every PNG file: no bytes, its name, its checksum.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _check_test_drawings(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, int) or not 0 <= value < _DRAWINGS:
        raise ConfigurationError(
            f"Omniglot: test_drawings={value!r} is not possible; there are {_DRAWINGS} drawings of a character, "
            "of which at least one is for training."
        )


def _check_size(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, int) or not 1 <= value <= _SIDE:
        raise ConfigurationError(
            f"Omniglot: size={value!r} is not possible; images have {_SIDE} x {_SIDE} pixels and can be made "
            "smaller."
        )


@frozen
class Omniglot(Dataset):
    """OMNIGLOT: 1,623 handwritten characters of 50 alphabets, drawn by 20 people each.

    The folders are the published ones: ``images_background`` (30 alphabets, 964 characters) and
    ``images_evaluation`` (20 alphabets, 659 characters), each with
    ``<alphabet>/character<number>/<character>_<person>.png``. They are looked for in ``omniglot-py`` (where
    torchvision puts them), ``Omniglot`` and ``omniglot``, and in the folder itself. Nothing is downloaded.

    Inputs are float32 of shape (n, 1, size, size), 1 where there is ink and 0 where there is none. Targets are
    the characters (or alphabets), numbered in the order of their names. For every character, the drawings of
    some people become the split ``"test"``; the same people for all characters of an alphabet, drawn from the
    generator. Characters take turns: the first images of a split are one of each.

    Parameters
    ----------
    folder
        The folder of data sets, or the one that holds the images. None is that of the environment variable
        ``LANDSCAPE_DATA``, or ``data``.
    part
        ``"background"``, ``"evaluation"``, or ``"both"``.
    alphabets
        Names of the alphabets to use, such as ``"Greek"``; none means all of them.
    characters
        How many characters to use, drawn from the generator; None uses all.
    test_drawings
        How many of the 20 drawings of a character are held back for testing.
    size
        Images are made smaller, from 105 x 105 pixels to size x size, by averaging over areas. 28 is that of
        MNIST, and what most work on OMNIGLOT uses since Vinyals et al. (2016).
    normalisation
        As in :class:`MNIST`.
    labels
        ``"character"`` or ``"alphabet"``.

    Raises
    ------
    landscape.errors.DataError
        When loading: for folders that are missing, with where to get them, and for images that are damaged,
        missing, or of another size. Checksums are verified, and nothing of a damaged folder is used.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Lake, Salakhutdinov, Tenenbaum. Human-level concept learning through probabilistic program induction. "
        "Science 350 (2015).",
    )

    folder: str | None = None
    part: str = field(default="background", validator=one_of(("background", "evaluation", "both")))
    alphabets: tuple[str, ...] = field(default=(), converter=_texts)
    characters: int | None = field(default=None, validator=optional_count)
    test_drawings: int = field(default=4, validator=_check_test_drawings)
    size: int = field(default=28, validator=_check_size)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))
    labels: str = field(default="character", validator=one_of(("character", "alphabet")))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, for ``test_drawings > 0``, ``"test"``.

        Raises
        ------
        landscape.errors.DataError
            For files that are missing or damaged, and alphabets or characters that there are not.
        """
        import torch

        characters = self._characters()
        if self.characters is not None:
            if self.characters > len(characters):
                raise DataError(
                    f"Omniglot: characters={self.characters}, but there are only {len(characters)}; None takes "
                    "them all."
                )
            chosen = permutation(len(characters), generator)[: self.characters].sort().values
            characters = [characters[place] for place in chosen.tolist()]
        alphabets = sorted({folder.parent.name for folder in characters})
        orders = {name: permutation(_DRAWINGS, generator).tolist() for name in alphabets}

        drawings = [_drawings(folder) for folder in characters]
        parts: dict[str, tuple[Tensor, Tensor]] = {}
        for split, places in (
            ("train", range(self.test_drawings, _DRAWINGS)),
            ("test", range(self.test_drawings)),
        ):
            if not places:
                continue
            images, labels = [], []
            for place in places:
                for number, (folder, paths) in enumerate(zip(characters, drawings, strict=True)):
                    images.append(self._image(paths[orders[folder.parent.name][place]]))
                    alphabet = alphabets.index(folder.parent.name)
                    labels.append(number if self.labels == "character" else alphabet)
            parts[split] = torch.stack(images), torch.tensor(labels)
        return image_splits(parts, self.normalisation)

    def _characters(self) -> list[Path]:
        """Return the folders of characters, in the order of their names."""
        known = ("background", "evaluation")
        names = [f"images_{part}" for part in (known if self.part == "both" else (self.part,))]
        folders: list[Path] = []
        for name in names:
            there = [here / name for here in _SOURCE.folders(self.folder) if (here / name).is_dir()]
            if not there:
                raise _SOURCE.missing(self.folder, f"folder {name}")
            folders += sorted(path for path in there[0].glob("*/character*") if path.is_dir())
        found = sorted({folder.parent.name for folder in folders})
        if not found:
            raise _SOURCE.missing(self.folder, f"folder of an alphabet in {' or '.join(names)}")
        for alphabet in self.alphabets:
            if alphabet not in found:
                raise DataError(
                    f"Omniglot: there is no alphabet {alphabet!r} in {' or '.join(names)}."
                    f"{nearest(alphabet, found)} There are {', '.join(found)}."
                )
        return [folder for folder in folders if not self.alphabets or folder.parent.name in self.alphabets]

    def _image(self, path: Path) -> Tensor:
        """Return one image, shape (1, size, size), float32, ink 1."""
        import torch
        from torch.nn.functional import interpolate

        image = torch.from_numpy(1 - _read_png(path))[None]
        return image if self.size == _SIDE else interpolate(image[None], size=self.size, mode="area")[0]


_SOURCE = Source(
    "Omniglot",
    ("omniglot-py", "Omniglot", "omniglot", "."),
    "the omniglot repository of Brenden Lake on GitHub (images_background.zip and images_evaluation.zip, unpacked)",
)


def _drawings(folder: Path) -> Sequence[Path]:
    """Return the twenty images of a character, by person."""
    paths = sorted(folder.glob("*.png"))
    if len(paths) != _DRAWINGS:
        raise _SOURCE.damaged(folder, f"holds {len(paths)} images of the character instead of {_DRAWINGS}")
    return paths


def _read_png(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the grey values of an image, shape (105, 105), float32 in [0, 1]."""
    import numpy as np
    from PIL import Image

    content = read_bytes(_SOURCE, path)
    # Pillow does not look at what follows the last chunk, nor at its checksum.
    if not content.startswith(_PNG) or not content.endswith(_PNG_END):
        raise _SOURCE.damaged(path, "is no complete PNG image")
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            size = image.size
            if size != (_SIDE, _SIDE):
                raise _SOURCE.damaged(path, f"has {size[0]} x {size[1]} pixels instead of {_SIDE} x {_SIDE}")
            image.verify()  # the checksums of all chunks; the image has to be opened anew afterwards
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    except (OSError, SyntaxError, ValueError) as error:  # pillow's, for what is no PNG image
        if isinstance(error, DataError):
            raise
        raise _SOURCE.damaged(path, f"cannot be read as a PNG image ({error})") from error
