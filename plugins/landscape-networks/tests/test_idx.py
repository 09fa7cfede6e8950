"""MNIST and its relatives, from small files written here byte by byte."""

import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError, DataError
from landscape.testing import check_component
from landscape_networks._files import Source
from landscape_networks.idx import KMNIST, MNIST, FashionMNIST, read_idx

SOURCE = Source("MNIST", ("MNIST/raw", "MNIST", "."), "somewhere")


def _idx(array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return head + b"".join(struct.pack(">I", n) for n in array.shape) + array.astype(np.uint8).tobytes()


def _arrays(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)


def _write(folder, train=60, test=20, suffix="", separator="-"):
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for name, count, seed in (("train", train, 0), ("t10k", test, 1)):
        parts[name] = _arrays(count, seed)
        for kind, array in zip(
            (f"images{separator}idx3", f"labels{separator}idx1"), parts[name], strict=True
        ):
            content = _idx(array)
            path = folder / f"{name}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)
    return parts


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("cls", "place"),
    [
        (MNIST, "MNIST/raw"),
        (MNIST, "MNIST"),
        (MNIST, "."),
        (FashionMNIST, "FashionMNIST/raw"),
        (FashionMNIST, "FashionMNIST"),
        (KMNIST, "KMNIST/raw"),
        (KMNIST, "."),
    ],
)
@pytest.mark.parametrize(("suffix", "separator"), [("", "-"), (".gz", "-"), ("", ".")])
def test_the_splits_are_the_files(tmp_path, cls, place, suffix, separator):
    parts = _write(tmp_path / place, suffix=suffix, separator=separator)
    splits = cls(folder=str(tmp_path)).load(_generator())
    assert list(splits) == ["train", "test"]
    for split, part in (("train", "train"), ("test", "t10k")):
        x, y = splits[split].everything()
        images, labels = parts[part]
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(x[:, 0].numpy(), (images / 255).astype(np.float32))
        np.testing.assert_array_equal(y.numpy(), labels)


def test_the_folder_is_the_environments_and_its_bare_files_belong_to_no_data_set(tmp_path, monkeypatch):
    _write(tmp_path / "FashionMNIST")
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path))
    assert FashionMNIST().load(_generator())["train"].examples == 60
    with pytest.raises(DataError, match="MNIST: there is no train-images-idx3-ubyte"):
        MNIST().load(_generator())
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "FashionMNIST"))
    # The four files could be those of any of three data sets here.
    with pytest.raises(DataError, match="there is no"):
        KMNIST().load(_generator())


@pytest.mark.parametrize("normalisation", ["unit", "centre", "standard"])
def test_normalisation_uses_the_training_images_that_are_used(tmp_path, normalisation):
    parts = _write(tmp_path)
    splits = MNIST(folder=str(tmp_path), examples=30, normalisation=normalisation).load(_generator())
    plain = MNIST(folder=str(tmp_path), examples=30).load(_generator())
    train = plain["train"].everything()[0].double()
    shift = {"unit": 0.0, "centre": train.mean(0), "standard": train.mean()}[normalisation]
    scale = train.std(unbiased=False) if normalisation == "standard" else 1.0
    test = torch.from_numpy(parts["t10k"][0] / 255)[:, None]
    torch.testing.assert_close(
        splits["train"].everything()[0].double(), (train - shift) / scale, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        splits["test"].everything()[0].double(), (test - shift) / scale, atol=1e-6, rtol=0
    )


def test_black_images_stay_black_when_they_are_standardised(tmp_path):
    _write(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(np.zeros((60, 28, 28))))
    x, _ = MNIST(folder=str(tmp_path), normalisation="standard").load(_generator())["train"].everything()
    assert not x.any()


def test_a_subset_holds_every_class_alike_and_keeps_labels(tmp_path):
    parts = _write(tmp_path)
    lookup = {image.tobytes(): int(label) for image, label in zip(*parts["train"], strict=True)}
    splits = MNIST(folder=str(tmp_path), examples=30, test_examples=10).load(_generator(3))
    x, y = splits["train"].everything()
    assert np.bincount(y.numpy()).tolist() == [3] * 10
    assert [lookup[(image * 255).round().byte().numpy().tobytes()] for image in x[:, 0]] == y.tolist()
    assert splits["test"].examples == 10
    again, other = (
        MNIST(folder=str(tmp_path), examples=30).load(_generator(seed))["train"].fingerprint()
        for seed in (3, 4)
    )
    assert splits["train"].fingerprint() == again != other
    with pytest.raises(DataError, match=r"examples=61, but there are only 60"):
        MNIST(folder=str(tmp_path), examples=61).load(_generator())


def test_a_missing_file_is_named_with_its_place_and_home(tmp_path):
    with pytest.raises(DataError) as error:
        MNIST(folder=str(tmp_path)).load(_generator())
    for part in ("train-images-idx3-ubyte", str(tmp_path / "MNIST/raw"), "Yann LeCun", "LANDSCAPE_DATA"):
        assert part in str(error.value)
    _write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte beside train-images-idx3-ubyte"):
        MNIST(folder=str(tmp_path)).load(_generator())


_CONTENT = _idx(_arrays(3)[0])
_PACKED = gzip.compress(_CONTENT, mtime=0)


@given(cut=st.integers(0, len(_CONTENT) - 1))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_at_any_byte_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "images"
    path.write_bytes(_CONTENT[:cut])
    with pytest.raises(DataError, match=r"images (has|begins)"):
        read_idx(SOURCE, path, 3)


@given(cut=st.integers(0, len(_PACKED) - 1))
@settings(max_examples=60, deadline=None)
def test_a_compressed_file_cut_at_any_byte_is_refused(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "images.gz"
    path.write_bytes(_PACKED[:cut])
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(SOURCE, path, 3)


@given(place=st.integers(10, len(_PACKED) - 1), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_of_a_compressed_file_is_refused_or_changes_nothing(tmp_path_factory, place, flip):
    path = tmp_path_factory.mktemp("flip") / "images.gz"
    content = bytearray(_PACKED)
    content[place] ^= flip
    path.write_bytes(content)
    try:
        found = read_idx(SOURCE, path, 3)
    except DataError:
        return
    np.testing.assert_array_equal(found, _arrays(3)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x08\x01" + _CONTENT[4:], r"0x00000801, not with the magic number 0x00000803"),
        (b"\x00\x00\x0d\x03" + _CONTENT[4:], "magic number"),
        (_CONTENT + b"\x00", r"2,369 bytes where its header announces 2,368"),
        (_CONTENT[:4] + b"\xff" * 12 + _CONTENT[16:], "announces 79,228,162,458,924,105,385,300,197,391"),
        (b"<html>404</html>", "magic number"),
        (b"", "magic number"),
    ],
)
def test_what_is_no_idx_file_of_images_is_refused(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(SOURCE, path, 3)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.arange(60) % 11, "holds the label 10"),
        ("train-labels-idx1-ubyte", np.zeros(59), "59 labels for the 60 images"),
        ("train-images-idx3-ubyte", np.zeros((0, 28, 28)), "holds no images"),
    ],
)
def test_files_that_contradict_each_other_are_refused(tmp_path, name, array, message):
    _write(tmp_path)
    (tmp_path / name).write_bytes(_idx(array))
    with pytest.raises(DataError, match=message):
        MNIST(folder=str(tmp_path)).load(_generator())


def test_a_small_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape_networks._files._PIECE", 1000)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    from landscape_networks._files import read_bytes

    with pytest.raises(DataError, match=r"larger than 5,000 bytes"):
        read_bytes(SOURCE, path, limit=5_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": 0}, "MNIST: examples=0"),
        ({"test_examples": True}, "MNIST: test_examples=True"),
        ({"normalisation": "unitt"}, r"normalisation='unitt'.*Did you mean 'unit'"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        MNIST(**fields)


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST, KMNIST])
def test_the_datasets_keep_the_rules_of_a_component(cls):
    check_component(cls)
    check_component(cls(folder="x", examples=3, test_examples=4, normalisation="centre"))
