"""Tensors from files."""

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from landscape.errors import ConfigurationError, DataError
from landscape.testing import check_component
from landscape_networks.tensors import Tensors


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _held(n=30):
    x = torch.arange(4.0 * n).reshape(n, 2, 2)
    return {"x": x, "y": torch.arange(n) % 3, "z": x[:7] + 0.5, "w": torch.arange(7) % 3}


def _npz(held):
    file = io.BytesIO()
    np.savez(file, **{name: tensor.numpy() for name, tensor in held.items()})
    return file.getvalue()


@pytest.fixture(params=[".safetensors", ".npz"])
def path(request, tmp_path):
    path = tmp_path / f"mine{request.param}"
    path.write_bytes(save(_held()) if request.param == ".safetensors" else _npz(_held()))
    return str(path)


def test_the_splits_are_the_tensors(path):
    splits = Tensors(path, test_x="z", test_y="w").load(_generator())
    held = _held()
    for split, names in (("train", "xy"), ("test", "zw")):
        for found, name in zip(splits[split].everything(), names, strict=True):
            assert found.dtype == held[name].dtype
            assert torch.equal(found, held[name])
    assert list(Tensors(path).load(_generator())) == ["train"]


@given(fraction=st.floats(0, 0.9), examples=st.none() | st.integers(1, 3), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_drawn_split_is_a_partition_in_the_order_of_the_file(tmp_path_factory, fraction, examples, seed):
    path = tmp_path_factory.mktemp("tensors") / "mine.safetensors"
    save_file(_held(), path)
    splits = Tensors(str(path), test_fraction=fraction, examples=examples).load(_generator(seed))
    places = {}
    for split, data in splits.items():
        x, y = data.everything()
        places[split] = (x[:, 0, 0] / 4).long()
        assert torch.equal(places[split] % 3, y)
        assert (places[split].diff() > 0).all()
    test = round(fraction * 30)
    assert len(places["train"]) == (examples or 30 - test)
    assert len(places.get("test", ())) == test
    assert not set(places["train"].tolist()) & set(places["test"].tolist() if test else ())


def test_small_whole_numbers_become_labels_and_tokens(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.ones((3, 2), np.uint8), y=np.array([0, 1, 2], np.uint8), s=np.full((3, 2), 0.5))
    with pytest.raises(DataError, match=r"'x' has the type torch.uint8.*integers=True"):
        Tensors(str(path)).load(_generator())
    x, y = Tensors(str(path), integers=True).load(_generator())["train"].everything()
    assert (x.dtype, y.dtype) == (torch.int64, torch.int64)
    x, y = Tensors(str(path), x="s", y="s").load(_generator())["train"].everything()
    assert (x.dtype, y.dtype) == (torch.float64, torch.float64)


def test_a_relative_path_is_looked_up_here_and_in_the_folder_of_data_sets(tmp_path, monkeypatch):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "mine.npz").write_bytes(_npz(_held()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no file mine.npz or data/mine.npz.*numpy.savez"):
        Tensors("mine.npz").load(_generator())
    monkeypatch.setenv("LANDSCAPE_DATA", "sets")
    assert Tensors("mine.npz").load(_generator())["train"].examples == 30
    (tmp_path / "mine.npz").write_bytes(_npz(_held(4) | {"z": _held()["z"]}))
    assert Tensors("mine.npz").load(_generator())["train"].examples == 4


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_cut_at_any_byte_is_refused(tmp_path_factory, suffix, data):
    content = save(_held()) if suffix == ".safetensors" else _npz(_held())
    path = tmp_path_factory.mktemp("cut") / f"mine{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match="no complete"):
        Tensors(str(path)).load(_generator())


@given(place=st.integers(0, len(_npz(_held())) - 1), flip=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_of_an_npz_file_is_refused_or_changes_nothing(tmp_path_factory, place, flip):
    path = tmp_path_factory.mktemp("flip") / "mine.npz"
    content = bytearray(_npz(_held()))
    content[place] ^= flip
    path.write_bytes(content)
    try:
        x, y = Tensors(str(path)).load(_generator())["train"].everything()
    except DataError:
        return
    assert torch.equal(x, _held()["x"])
    assert torch.equal(y, _held()["y"])


def test_arrays_of_objects_are_refused_and_not_unpickled(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.array([_Evil(tmp_path / "written")], dtype=object), y=np.zeros(1))
    with pytest.raises(DataError, match="without arrays of Python objects"):
        Tensors(str(path)).load(_generator())
    path.write_bytes(pickle.dumps(_Evil(tmp_path / "written")))
    with pytest.raises(DataError, match="no complete"):
        Tensors(str(path)).load(_generator())
    assert not (tmp_path / "written").exists()


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).mkdir, (self.path,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x": "xx"}, r"no tensor 'xx'.*Did you mean 'x'\? It has w, x, y, z"),
        ({"y": "w"}, r"'x' has the shape \(30, 2, 2\) and 'w' \(7,\)"),
        ({"examples": 31}, "examples=31, but .* has 30"),
    ],
)
def test_names_and_numbers_that_do_not_fit_are_refused_with_a_cure(path, fields, message):
    with pytest.raises(DataError, match=message):
        Tensors(path, **fields).load(_generator())


def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"'.pt'; known formats are .safetensors and .npz"):
        Tensors(str(path)).load(_generator())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_x": "z"}, "given together"),
        ({"test_x": "z", "test_y": "w", "test_fraction": 0.5}, "give one"),
        ({"examples": 0}, "Tensors: examples=0"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Tensors("mine.npz", **fields)


def test_the_dataset_keeps_the_rules_of_a_component():
    check_component(Tensors("mine.npz"))
    check_component(Tensors("mine.npz", "a", "b", "c", "d", 0.0, 5, True))
