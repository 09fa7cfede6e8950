"""States of walkers: taken apart and put together again, bit for bit, and nothing else."""

import json
import math
import struct

import attrs
import numpy as np
import pytest
import torch
from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import RunError
from landscape.store import decode, encode, files, read_state, write_state


@frozen
class Inner:
    seed: int
    cursor: tuple


@frozen
class Outer:
    positions: torch.Tensor
    inner: Inner
    memory: dict
    label: str | None = None
    _private: float = 0.0
    derived: list = field(init=False, factory=list)


@frozen
class Stranger:
    x: int = 0


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    if dtype == torch.bool:
        raw = bytes(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    else:
        raw = draw(st.binary(min_size=size, max_size=size))  # every bit pattern: NaNs, subnormals, zeros
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if size else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0])
    | st.complex_numbers()
    | st.text()
)
KEYS = st.text() | st.integers() | st.booleans() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(Inner, st.integers(), st.tuples(inner))
    ),
    max_leaves=10,
)


def bits(value):
    """A value as something that is equal exactly when type, structure and every bit are."""
    if isinstance(value, torch.Tensor):
        flat = value.contiguous().reshape(-1)
        return (
            "tensor",
            value.dtype,
            tuple(value.shape),
            flat.view(torch.uint8).tolist() if len(flat) else [],
        )
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if attrs.has(type(value)):
        return (type(value), [bits(getattr(value, entry.name)) for entry in attrs.fields(type(value))])
    if isinstance(value, dict):
        return ("dict", [(bits(key), bits(item)) for key, item in value.items()])
    if isinstance(value, tuple | list):
        return (type(value), [bits(item) for item in value])
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, complex):
        return struct.pack(">dd", value.real, value.imag)
    return (type(value), value)


def through_disk(value, template, folder):
    tree, found = encode(value)
    write_state(folder, {"tree": tree}, found)
    header, back = read_state(folder)
    return decode(header["tree"], back, template)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_every_state_comes_back_bit_for_bit(value):
    tree, found = encode(value)
    back = decode(files.loads(files.dumps(tree)), found, Inner(0, ()))
    assert bits(back) == bits(value)


@settings(deadline=None, max_examples=40)
@given(VALUES)
def test_every_state_comes_back_from_disk_bit_for_bit(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("state") / "walk"
    assert bits(through_disk(value, Inner(0, ()), folder)) == bits(value)


def test_a_nested_state_with_everything_in_it(tmp_path):
    generator = torch.Generator().manual_seed(3)
    state = Outer(
        positions=torch.randn(3, 4)[:, ::2],
        inner=Inner(2**70, (1, math.nan)),
        memory={
            "a/b": torch.zeros(1),
            "a": {"b": torch.ones(1)},
            3: generator.get_state(),
            "n": np.arange(3),
        },
        label=None,
        private=math.inf,
    )
    state.derived.append(-0.0)
    fresh = Outer(torch.zeros(3, 2), Inner(0, ()), {})
    back = through_disk(state, fresh, tmp_path / "walk")
    assert bits(back) == bits(state)
    assert torch.equal(torch.rand(5, generator=generator), torch.rand(5, generator=_restored(back.memory[3])))


def _restored(state):
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def test_what_is_decoded_shares_no_memory(tmp_path):
    shared = torch.zeros(2)
    tree, found = encode([shared, shared])
    first, second = decode(tree, found, None)
    first += 1
    assert second.tolist() == shared.tolist() == [0, 0]


def test_scalars_of_numpy_become_python_numbers():
    tree, found = encode([np.float64(0.1), np.int32(2), np.bool_(True)])
    back = decode(tree, found, None)
    assert back == [0.1, 2, True]
    assert [type(value) for value in back] == [float, int, bool]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": (0, torch.Generator())}, r"The state\.a\.1 is .*Generator.*get_state\(\)"),
        ([object()], r"The state\.0 is of type builtins\.object"),
        ([{1, 2}], r"builtins\.set"),
        ([b"x"], r"builtins\.bytes"),
        ([torch.float32], r"torch\.dtype"),
        ([{Inner(0, ()): 1}], r"has the key Inner"),
        ([torch.eye(2).to_sparse()], r"store a dense one"),
        ([np.array(["a"])], r"numpy\.ndarray"),
        ([len], r"builtin_function_or_method"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_place(value, message):
    with pytest.raises(RunError, match=message):
        encode(value)


def test_only_classes_of_the_template_are_built():
    tree, found = encode([Stranger(1), Inner(0, ())])
    with pytest.raises(RunError, match=r"state\.0 was stored as .*Stranger, which does not occur.*Inner"):
        decode(tree, found, {"x": [Inner(0, ())]})


@pytest.mark.parametrize(
    "tree",
    [
        {"$class": "os:system", "fields": {"command": "true"}},
        {"$class": "builtins:eval", "fields": {}},
        {"$class": "landscape.errors:RunError", "fields": {}},
    ],
)
def test_no_tree_makes_the_decoder_call_anything_else(tree):
    with pytest.raises(RunError, match="does not occur in a fresh state; it has no classes"):
        decode(tree, {}, 0)


@pytest.mark.parametrize(
    "tree", [{"$tensor": "a"}, {"x": 1}, {"$float": 1}, {"$dict": {}}, {"$class": 1, "fields": {}}, {}]
)
def test_a_tree_of_anything_else_is_refused(tree):
    with pytest.raises(RunError, match="nothing that a state consists of"):
        decode(tree, {}, 0)


def test_a_tensor_that_is_not_there_is_named():
    with pytest.raises(RunError, match=r"The state\.0 refers to the tensor 'gone'"):
        decode([{"$tensor": "gone", "accelerator": False}], {}, None)


def test_a_class_whose_fields_changed_is_refused_by_name():
    tree, found = encode(Stranger(1))
    tree["fields"]["y"] = 2
    with pytest.raises(RunError, match=r"another version of .*Stranger: it has the fields x, y, .* has x"):
        decode(tree, found, Stranger())


def test_tensor_names_tell_what_they_are():
    _, found = encode({"walk": Outer(torch.zeros(1), Inner(0, ()), {"m": [torch.ones(1)]})})
    assert sorted(found) == ["walk/memory/m/0", "walk/positions"]


def test_a_saved_state_is_not_written_over(tmp_path):
    write_state(tmp_path / "walk", {"a": 1}, {})
    with pytest.raises(RunError, match="walk exists already"):
        write_state(tmp_path / "walk", {"a": 2}, {})
    assert read_state(tmp_path / "walk") == ({"a": 1}, {})


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_saved_state_is_refused(tmp_path, name):
    write_state(tmp_path / "walk", {"a": 1}, {"t": torch.zeros(3)})
    path = tmp_path / "walk" / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        read_state(tmp_path / "walk")


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(RunError, match="is of type object"):
        write_state(tmp_path / "walk", {"a": object()}, {})
    assert list(tmp_path.iterdir()) == []


def test_trees_are_standard_json():
    tree, _ = encode([math.nan, math.inf, -0.0, {"$float": "x"}, ("NaN",)])
    json.loads(files.dumps(tree), parse_constant=lambda token: pytest.fail(token))


@pytest.mark.parametrize("before", [1, 2])
def test_complex_numbers_are_aligned_after_reading(tmp_path, before):
    # A file that keeps real numbers aligned to 8 bytes puts one of these two at an odd multiple of them.
    found = {"a": torch.ones(before, dtype=torch.float64), "b": torch.ones(3, dtype=torch.complex128)}
    write_state(tmp_path / "state", {}, found)
    _, back = read_state(tmp_path / "state")
    assert back["b"].data_ptr() % 16 == 0
    assert torch.equal(back["b"], found["b"])
