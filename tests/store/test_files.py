"""Canonical JSON, atomic files, checksums."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import RunError
from landscape.store import files

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["NaN", "\\NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(one, two):
    """Equal in value and type, NaN being equal to itself and the zeros differing in sign."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return math.isnan(one) == math.isnan(two) and (math.isnan(one) or one.hex() == two.hex())
    return type(one) is type(two) and one == two


@settings(deadline=None)
@given(PLAIN)
def test_plain_values_survive_and_are_standard_json(value):
    text = files.dumps(value)
    json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    assert same(files.loads(text), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor(2.5), 2.5),
        (np.array(7), 7),
        ((1, (2,)), [1, [2]]),
    ],
)
def test_scalars_become_python_numbers(value, expected):
    assert files.loads(files.dumps(value)) == expected


@pytest.mark.parametrize("value", [b"bytes", torch.zeros(2), np.zeros(2), {1}, 1j])
def test_what_json_cannot_say_is_refused_by_its_place(value):
    with pytest.raises(RunError, match=r"row\.a\[1\] is of type"):
        files.dumps({"a": [0, value]}, where="row")


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")

    def refuse(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(RunError, match=r"Cannot write .*file: Input/output error"):
        files.write_atomic(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_sealed_file_knows_when_it_was_changed(tmp_path):
    path = tmp_path / "sealed.json"
    files.write_sealed(path, {"a": [1, math.nan]})
    assert files.read_sealed(path)["a"][0] == 1
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(RunError, match="does not agree with its own checksum"):
        files.read_sealed(path)
    path.write_text("[]")
    with pytest.raises(RunError, match="does not agree"):
        files.read_sealed(path)
