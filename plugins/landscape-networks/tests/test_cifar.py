"""CIFAR from small files: the binary version, and pickles written here instruction by instruction as Python 2 did."""

import contextlib
import io
import os
import pickle
import struct
import warnings

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError, DataError
from landscape.testing import check_component
from landscape_networks import cifar
from landscape_networks._pickles import MalformedError, read_pickle
from landscape_networks.cifar import CIFAR10, CIFAR100

N, TEST = 20, 10


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Files of a few images; the published ones have 10,000 and 50,000."""
    for name in ("_BINARY_10", "_PYTHON_10", "_BINARY_100", "_PYTHON_100"):
        version = evolve(getattr(cifar, name), train_images=N, test_images=TEST)
        monkeypatch.setattr(cifar, name, version)


def _string(text):
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def _integer(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)


def _array(array, order="C"):
    """Write an array as numpy's __reduce__ made Python 2's cPickle write it, protocol 2."""
    shape = b"".join(map(_integer, array.shape))
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06"
        b"(K\x01" + (shape + b"\x86" if array.ndim == 2 else shape + b"\x85") + b"q\x07"
        b"cnumpy\ndtype\nq\x08U\x02u1q\x09K\x00K\x01\x87q\x0aRq\x0b"
        b"(K\x03U\x01|q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0db"
        + (b"\x88" if order == "F" else b"\x89")
        + _string(array.tobytes(order))
        + b"q\x0etq\x0fb"
    )


def _list(values):
    return b"]q\x10(" + b"".join(map(_integer, values)) + b"e"


def _pickle(entries):
    items = b"".join(_string(key) + value for key, value in entries.items())
    return b"\x80\x02}q\x00(" + items + b"u."


def _unpickled(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about the way in which old releases wrote a dtype
        return pickle.loads(content, encoding="bytes")


def _images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def _labels(count, classes):
    return np.arange(count) % classes


def _write(folder, python, coarse=False):
    """Write a data set; returns pixels and labels of both splits, with the files' own order."""
    folder.mkdir(parents=True)
    if coarse:
        names = [("train", N, 0, "train"), ("test", TEST, 1, "test")]
    else:
        names = [(f"data_batch_{k}", N, k, "train") for k in range(1, 6)]
        names.append(("test_batch", TEST, 9, "test"))
    parts = {"train": ([], [], []), "test": ([], [], [])}
    for name, count, seed, split in names:
        x, fine, group = _images(count, seed), _labels(count, 10), _labels(count, 7)
        for held, value in zip(parts[split], (x, fine, group), strict=True):
            held.append(value)
        if python:
            labels = (
                {b"fine_labels": _list(fine), b"coarse_labels": _list(group)}
                if coarse
                else {b"labels": _list(fine)}
            )
            entries = {b"batch_label": _string(b"a batch"), **labels, b"data": _array(x)}
            entries[b"filenames"] = b"]q\x11(" + b"".join(_string(b"%d.png" % i) for i in range(count)) + b"e"
            (folder / name).write_bytes(_pickle(entries))
        else:
            columns = (group, fine) if coarse else (fine,)
            records = np.column_stack([*(c.astype(np.uint8) for c in columns), x])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    return {split: tuple(np.concatenate(values) for values in held) for split, held in parts.items()}


CASES = [
    (CIFAR10, "cifar-10-batches-bin", False, False, "labels"),
    (CIFAR10, "cifar-10-batches-py", True, False, "labels"),
    (CIFAR10, "here", True, False, "labels"),
    (CIFAR100, "cifar-100-binary", False, True, "fine"),
    (CIFAR100, "cifar-100-binary", False, True, "coarse"),
    (CIFAR100, "cifar-100-python", True, True, "fine"),
    (CIFAR100, "cifar-100-python", True, True, "coarse"),
    (CIFAR100, "here", False, True, "coarse"),
]


@pytest.mark.parametrize(("cls", "place", "python", "coarse", "labels"), CASES)
def test_the_splits_are_the_files(tmp_path, cls, place, python, coarse, labels):
    parts = _write(tmp_path / place, python, coarse)
    folder = tmp_path / place if place == "here" else tmp_path
    fields = {"labels": labels} if coarse else {}
    splits = cls(folder=str(folder), **fields).load(_generator())
    for split, (x, fine, group) in parts.items():
        images, y = splits[split].everything()
        assert images.shape == (len(x), 3, 32, 32)
        # Red comes first, then green and blue, each row by row.
        np.testing.assert_array_equal(images.flatten(1).numpy(), (x / 255).astype(np.float32))
        np.testing.assert_array_equal(y.numpy(), group if labels == "coarse" else fine)


def test_channels_are_standardised_apart(tmp_path):
    _write(tmp_path / "cifar-10-batches-bin", False)
    splits = CIFAR10(folder=str(tmp_path), examples=50, normalisation="standard").load(_generator())
    x = splits["train"].everything()[0].double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), unbiased=False), torch.ones(3).double(), atol=1e-6, rtol=0)


def test_a_missing_file_is_named_with_its_place_and_home(tmp_path):
    with pytest.raises(DataError) as error:
        CIFAR10(folder=str(tmp_path)).load(_generator())
    for part in ("data_batch_1.bin", "cifar-10-batches-py", "Alex Krizhevsky", "cifar-10-python.tar.gz"):
        assert part in str(error.value)
    _write(tmp_path / "cifar-100-python", True, True)
    (tmp_path / "cifar-100-python" / "train").unlink()
    with pytest.raises(DataError, match="no train beside test"):
        CIFAR100(folder=str(tmp_path)).load(_generator())


@pytest.mark.parametrize("change", [-1, -3073, 1, 3073])
def test_binary_files_of_another_length_are_refused(tmp_path, change):
    _write(tmp_path / "cifar-10-batches-bin", False)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(DataError, match=r"data_batch_3.bin has .* records of 3,073 bytes"):
        CIFAR10(folder=str(tmp_path)).load(_generator())


def test_a_label_that_no_class_has_is_refused(tmp_path):
    _write(tmp_path / "cifar-100-binary", False, True)
    path = tmp_path / "cifar-100-binary" / "test.bin"
    content = bytearray(path.read_bytes())
    content[0] = 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"test.bin holds the label 20; there are 20 \(coarse_labels\)"):
        CIFAR100(folder=str(tmp_path)).load(_generator())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"labels": _list([0] * N)}, "no dictionary with the keys data, labels"),
        ({b"labels": _list([0] * N), b"data": _array(_images(N - 1, 0))}, "no array of 20 x 3,072"),
        ({b"labels": _list([0] * (N - 1)), b"data": _array(_images(N, 0))}, "no list of 20 labels"),
        ({b"labels": _list([300] * N), b"data": _array(_images(N, 0))}, "no numbers below 256"),
        ({b"labels": _list([10] * N), b"data": _array(_images(N, 0))}, "holds the label 10"),
    ],
)
def test_pickled_files_that_hold_something_else_are_refused(tmp_path, entries, message):
    _write(tmp_path / "cifar-10-batches-py", True)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(_pickle(entries))
    with pytest.raises(DataError, match=message):
        CIFAR10(folder=str(tmp_path)).load(_generator())


# ---------------------------------------------------------------------------------------------------------
# The reader of pickles
# ---------------------------------------------------------------------------------------------------------

_SMALL = _pickle(
    {
        b"batch_label": _string(b"training batch 1 of 5"),
        b"labels": _list([6, 9, 255, 256, 70000]),
        b"data": _array(np.arange(300, dtype=np.uint8).reshape(3, 100)),
        b"none": b"N",
        b"yes": b"\x88",
        b"pair": b"K\x01K\x02\x86",
    }
)


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_read_is_what_python_reads(order):
    array = np.arange(300).astype(np.uint8).reshape(3, 100)
    content = _pickle({b"data": _array(array, order), b"labels": _list([1, 2, 3])})
    found, truth = read_pickle(content), _unpickled(content)
    assert list(found) == list(truth) == [b"data", b"labels"]
    np.testing.assert_array_equal(truth[b"data"], array)
    np.testing.assert_array_equal(found[b"data"], array)
    assert found[b"data"].dtype == np.uint8
    assert found[b"labels"] == truth[b"labels"]


@given(
    st.recursive(
        st.integers(-(2**31), 2**31 - 1) | st.booleans() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.tuples(inner, inner, inner, inner)
        ),
        max_leaves=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_plain_values_are_read_as_python_reads_them(value):
    # Python 3 writes these with the instructions of Python 2.
    content = pickle.dumps({1: value, 2: [value, value]}, protocol=2)
    assert read_pickle(content) == {1: value, 2: [value, value]}


@given(cut=st.integers(0, len(_SMALL) - 1))
@settings(max_examples=150, deadline=None)
def test_a_pickle_cut_at_any_byte_is_refused(cut):
    with pytest.raises(MalformedError):
        read_pickle(_SMALL[:cut])


@given(place=st.integers(0, len(_SMALL) - 1), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_refused_or_gives_plain_values(place, value):
    content = bytearray(_SMALL)
    content[place] = value
    try:
        found = read_pickle(bytes(content))
    except MalformedError:
        return
    assert type(found) in (dict, int, bytes, tuple, list, bool, type(None)), found


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_raise_nothing_else(content):
    with contextlib.suppress(MalformedError):
        read_pickle(b"\x80\x02" + content)


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("inside", [lambda evil: evil, lambda evil: {1: evil}, lambda evil: {1: [evil]}])
def test_no_function_that_a_pickle_names_is_called(tmp_path, inside):
    path = tmp_path / "written"
    content = pickle.dumps(inside(_Evil(str(path))), protocol=2)
    with pytest.raises(MalformedError):
        read_pickle(content)
    assert not path.exists()
    pickle.load(io.BytesIO(content))
    assert path.exists()  # Python's own reader runs it


def test_values_that_hold_each_other_a_billion_times_are_read_in_no_time():
    laughs: list = []
    for _ in range(100):
        laughs = [laughs, laughs]
    assert len(read_pickle(pickle.dumps(laughs, protocol=2))) == 2
    circle: list = []
    circle.append(circle)
    assert len(read_pickle(pickle.dumps({1: circle}, protocol=2))) == 1


def test_no_function_is_called_in_a_file_of_a_data_set_either(tmp_path):
    _write(tmp_path / "cifar-10-batches-py", True)
    path = tmp_path / "written"
    evil = b"c__builtin__\nopen\n" + _string(str(path).encode()) + _string(b"w") + b"\x86R"
    entries = {b"labels": evil, b"data": _array(_images(N, 1))}
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(_pickle(entries))
    with pytest.raises(DataError, match="calls '__builtin__ open', which"):
        CIFAR10(folder=str(tmp_path)).load(_generator())
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_SMALL + b"x", "goes on after its end"),
        (b"\x80\x04}.", "protocol 4"),
        (b"\x80\x02G\x00\x00\x00\x00\x00\x00\x00\x00.", "instruction 'G'"),
        (b"\x80\x02.", "0 values instead of one"),
        (b"\x80\x02K\x01K\x02.", "2 values instead of one"),
        (b"\x80\x02(\x85.", "takes a value where there is none"),
        (b"\x80\x02]e.", "up to a mark"),
        (b"\x80\x02K\x01K\x02a.", "puts entries into a int"),
        (
            _pickle({b"data": _array(np.zeros((3, 5), np.uint8)).replace(b"u1", b"i1")}),
            "else than unsigned bytes",
        ),
        (
            _pickle({b"data": _array(np.zeros((3, 5), np.uint8)).replace(b"K\x03K\x05", b"K\x03K\x06")}),
            "in 15 bytes",
        ),
    ],
)
def test_what_the_published_files_do_not_have_is_refused(content, message):
    with pytest.raises(MalformedError, match=message):
        read_pickle(content)


def test_impossible_fields_are_refused_by_value():
    with pytest.raises(ConfigurationError, match=r"labels='coars'.*Did you mean 'coarse'"):
        CIFAR100(labels="coars")
    with pytest.raises(ConfigurationError, match="CIFAR10: examples=-1"):
        CIFAR10(examples=-1)


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
def test_the_datasets_keep_the_rules_of_a_component(cls):
    check_component(cls)
    check_component(cls(folder="x", examples=3, test_examples=4, normalisation="centre"))
