"""Any data set of torchvision, by name, where torchvision is installed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.errors import ConfigurationError, DataError, nearest
from landscape.interfaces import Dataset
from landscape.randomness import imported
from landscape.validators import one_of
from landscape_networks._drawing import permutation
from landscape_networks._fields import optional_count
from landscape_networks._files import root
from landscape_networks._images import NORMALISATIONS, image_splits

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Data

__all__ = ["TorchvisionDataset"]

#: How a data set's constructor is told which split to give, in the order in which it is asked.
_SPLITS: tuple[tuple[str, Any, Any], ...] = (("train", True, False), ("split", "train", "test"))


@frozen
class TorchvisionDataset(Dataset):
    """A classification data set of torchvision, by name: images to float32 arrays, targets to classes.

    The training split is made with ``train=True`` or ``split="train"``, the test split with ``train=False`` or
    ``split="test"``, whichever the data set knows; one that knows neither, or is told the split in
    `arguments`, gives ``"train"`` alone. All images that are used are read once, and kept in memory: uint8
    images become numbers from 0 to 1, of shape (n, channels, height, width); where some are grey and some
    are coloured, all are made coloured.

    torchvision is no dependency of this plugin. Its data sets are read by its own code, which for some of them
    loads pickles: use files that you trust, or the data sets of this plugin, which do not.

    Parameters
    ----------
    name
        Class in ``torchvision.datasets``, such as ``"SVHN"``.
    folder
        Its ``root``. None is that of the environment variable ``LANDSCAPE_DATA``, or ``data``.
    arguments
        Further arguments of the class, such as ``{"split": "letters"}`` for EMNIST, or ``{"download": True}``.
    examples, test_examples
        How many images to use, drawn at random and kept in their order; None uses all. Only these are read.
    size
        Resize all images to size x size pixels (bilinear, smoothed). Needed where they differ in size.
    normalisation
        As in :class:`MNIST`.

    Raises
    ------
    landscape.errors.DataError
        When loading: without torchvision, with what torchvision reports (files that are missing, above all),
        for targets that are no classes and for images that differ in size.
    """

    name: str
    folder: str | None = None
    # A dictionary has no hash; equal data sets hash alike without it.
    arguments: Mapping[str, str | int | float | bool] = field(factory=dict, hash=False)
    examples: int | None = field(default=None, validator=optional_count)
    test_examples: int | None = field(default=None, validator=optional_count)
    size: int | None = field(default=None, validator=optional_count)
    normalisation: str = field(default="unit", validator=one_of(NORMALISATIONS))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, where torchvision has one, ``"test"``."""
        cls = self._class()
        known = inspect.signature(cls).parameters
        switch = next((s for s in _SPLITS if s[0] in known and s[0] not in self.arguments), None)
        if switch is None:
            return image_splits({"train": self._part(cls, {}, "examples", generator)}, self.normalisation)
        name, train, test = switch
        parts = {
            "train": self._part(cls, {name: train}, "examples", generator),
            "test": self._part(cls, {name: test}, "test_examples", generator),
        }
        return image_splits(parts, self.normalisation)

    def _class(self) -> Any:
        try:
            datasets = imported("torchvision.datasets")
        # One that was built for another torch fails with whatever its first missing operator raises.
        except Exception as error:
            raise DataError(
                f"TorchvisionDataset({self.name!r}) needs torchvision, which cannot be imported ({error}). Install "
                "the release of torchvision that belongs to your torch, or use a data set of this plugin: "
                "MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, Omniglot."
            ) from error
        known = list(datasets.__all__)
        if self.name not in known:
            raise ConfigurationError(
                f"TorchvisionDataset: torchvision has no data set {self.name!r}.{nearest(self.name, known)}"
            )
        return getattr(datasets, self.name)

    def _part(
        self, cls: Any, split: Mapping[str, Any], field: str, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the images that are used of one split, and their classes."""
        import torch

        try:
            items = cls(root=str(root(self.folder)), **split, **self.arguments)
        # Whatever the class may raise: files missing or damaged, arguments that it does not know.
        except Exception as error:
            raise DataError(
                f"TorchvisionDataset: torchvision.datasets.{self.name} says: {error} (root is "
                f"{root(self.folder)}; arguments={{'download': True}} lets torchvision fetch the files)"
            ) from error
        rows: Sequence[int] = range(len(items))
        wanted = getattr(self, field)
        if wanted is not None:
            if wanted > len(items):
                raise DataError(
                    f"TorchvisionDataset: {field}={wanted}, but {self.name} has only {len(items)}; None takes "
                    "them all."
                )
            rows = permutation(len(items), generator)[:wanted].sort().values.tolist()
        images, labels = [], []
        for row in rows:
            image, label = items[row]
            images.append(self._image(image))
            if isinstance(label, torch.Tensor) and label.numel() == 1:
                label = label.item()
            if isinstance(label, bool) or not isinstance(label, int):
                raise DataError(
                    f"TorchvisionDataset: the targets of {self.name} are no classes; image {row} has "
                    f"{type(label).__name__}. Make (x, y) tensors of them yourself, for landscape.Landscape or "
                    "the dataset Tensors."
                )
            labels.append(label)
        if not images:
            raise DataError(f"TorchvisionDataset: {self.name} has no images in {root(self.folder)}.")
        return self._stacked(images), torch.tensor(labels)

    def _image(self, image: Any) -> Tensor:
        """Return one image, shape (channels, height, width), uint8."""
        import numpy as np
        import torch
        from PIL import Image

        if isinstance(image, torch.Tensor | np.ndarray):
            image = Image.fromarray(np.asarray(image))
        if not isinstance(image, Image.Image):
            raise DataError(
                f"TorchvisionDataset: {self.name} gives a {type(image).__name__}, which is no image."
            )
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
        if self.size is not None:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, np.uint8))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)

    def _stacked(self, images: list[Tensor]) -> Tensor:
        import torch

        channels = max(len(image) for image in images)
        sizes = {tuple(image.shape[1:]) for image in images}
        if len(sizes) > 1:
            some = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)[:2])
            raise DataError(
                f"TorchvisionDataset: the images of {self.name} differ in size ({some}, for instance); give a size, "
                "such as size=32, to which all are brought."
            )
        return torch.stack([image.expand(channels, -1, -1) for image in images])
