"""TorchvisionDataset against a small stand-in for torchvision, which need not be installed."""

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from landscape.errors import ConfigurationError, DataError
from landscape.testing import check_component
from landscape_networks.torchvision_dataset import TorchvisionDataset


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _pixels(place, mode, size=(6, 4)):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return np.random.default_rng(place).integers(0, 256, shape, np.uint8)


class _Items:
    """Ten images, the modes and sizes of which a subclass says."""

    first = 0
    modes = ("RGB",)
    sizes = ((6, 4),)
    label = staticmethod(int)

    def __len__(self):
        return 10

    def __getitem__(self, place):
        mode, size = self.modes[place % len(self.modes)], self.sizes[place % len(self.sizes)]
        return Image.fromarray(_pixels(self.first + place, mode, size)), self.label(place % 3)


class ByFlag(_Items):
    def __init__(self, root, train=True, transform=None, download=False):
        if root != "files" and not download:
            raise RuntimeError("Dataset not found.")
        self.first = 0 if train else 100


class BySplit(_Items):
    modes = ("L",)
    label = staticmethod(torch.tensor)

    def __init__(self, root, split="train"):
        self.first = {"train": 0, "test": 100, "extra": 200}[split]


class Whole(_Items):
    modes = ("RGB", "L")

    def __init__(self, root):
        pass


class Sizes(Whole):
    sizes = ((6, 4), (5, 7))


class Boxes(Whole):
    label = staticmethod(lambda place: {"box": place})


@pytest.fixture(autouse=True)
def _torchvision(monkeypatch):
    package, datasets = ModuleType("torchvision"), ModuleType("torchvision.datasets")
    classes = [ByFlag, BySplit, Whole, Sizes, Boxes]
    datasets.__all__ = tuple(cls.__name__ for cls in classes)
    for cls in classes:
        setattr(datasets, cls.__name__, cls)
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.parametrize(("name", "mode"), [("ByFlag", "RGB"), ("BySplit", "L")])
def test_the_splits_are_the_images_from_zero_to_one(name, mode):
    splits = TorchvisionDataset(name, folder="files").load(_generator())
    assert list(splits) == ["train", "test"]
    for split, first in (("train", 0), ("test", 100)):
        x, y = splits[split].everything()
        truth = np.stack([_pixels(first + place, mode) for place in range(10)]) / 255
        truth = truth.transpose(0, 3, 1, 2) if mode == "RGB" else truth[:, None]
        np.testing.assert_array_equal(x.numpy(), truth.astype(np.float32))
        assert y.tolist() == [place % 3 for place in range(10)]
        assert y.dtype == torch.int64


def test_a_split_named_in_the_arguments_is_the_only_one():
    splits = TorchvisionDataset("BySplit", arguments={"split": "extra"}).load(_generator())
    assert list(splits) == ["train"]
    np.testing.assert_allclose(splits["train"].everything()[0][0, 0], _pixels(200, "L") / 255, rtol=1e-6)


def test_grey_and_coloured_images_together_are_coloured():
    x, _ = TorchvisionDataset("Whole").load(_generator())["train"].everything()
    assert x.shape == (10, 3, 4, 6)
    grey = torch.from_numpy(_pixels(1, "L") / 255).float()
    assert all(torch.equal(channel, grey) for channel in x[1])


def test_a_subset_is_drawn_from_the_generator_and_keeps_labels():
    dataset = TorchvisionDataset("ByFlag", folder="files", examples=4, test_examples=2)
    splits = dataset.load(_generator(1))
    assert [data.examples for data in splits.values()] == [4, 2]
    x, y = splits["train"].everything()
    truth = {(_pixels(place, "RGB") / 255).astype(np.float32).tobytes(): place % 3 for place in range(10)}
    assert [truth[image.permute(1, 2, 0).contiguous().numpy().tobytes()] for image in x] == y.tolist()
    assert splits["train"].fingerprint() == dataset.load(_generator(1))["train"].fingerprint()
    assert splits["train"].fingerprint() != dataset.load(_generator(2))["train"].fingerprint()


def test_images_of_several_sizes_need_a_size():
    with pytest.raises(DataError, match=r"differ in size \(4 x 6 and 7 x 5, for instance\); give a size"):
        TorchvisionDataset("Sizes").load(_generator())
    x, _ = TorchvisionDataset("Sizes", size=5).load(_generator())["train"].everything()
    assert x.shape == (10, 3, 5, 5)


def test_without_torchvision_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(
        DataError, match=r"needs torchvision.*Install the release .* or use a data set of this"
    ):
        TorchvisionDataset("MNIST").load(_generator())


def test_a_torchvision_that_was_built_for_another_torch_is_reported_alike(monkeypatch):
    def fail(module):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("landscape_networks.torchvision_dataset.imported", fail)
    with pytest.raises(
        DataError, match=r"cannot be imported \(operator .* release of torchvision that belongs"
    ):
        TorchvisionDataset("MNIST").load(_generator())


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (TorchvisionDataset("ByFlg"), ConfigurationError, r"no data set 'ByFlg'. Did you mean 'ByFlag'"),
        (
            TorchvisionDataset("ByFlag", folder="other"),
            DataError,
            r"ByFlag says: Dataset not found. \(root is other",
        ),
        (
            TorchvisionDataset("Whole", arguments={"spilt": "x"}),
            DataError,
            "unexpected keyword argument 'spilt'",
        ),
        (TorchvisionDataset("Whole", examples=11), DataError, "examples=11, but Whole has only 10"),
        (TorchvisionDataset("Boxes"), DataError, "targets of Boxes are no classes; image 0 has dict"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_our_words(dataset, error, message):
    with pytest.raises(error, match=message):
        dataset.load(_generator())


def test_downloading_is_asked_for_in_the_arguments():
    assert "download" in inspect.signature(ByFlag).parameters
    splits = TorchvisionDataset("ByFlag", folder="new", arguments={"download": True}).load(_generator())
    assert splits["train"].examples == 10


def test_the_dataset_keeps_the_rules_of_a_component():
    check_component(TorchvisionDataset("MNIST"))
    check_component(
        TorchvisionDataset("EMNIST", "x", {"split": "letters", "download": True}, 3, 4, 5, "centre")
    )
