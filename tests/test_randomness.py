"""Seeds, labels, and global random states that stay as they were found."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from attrs import evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError
from landscape.randomness import (
    derive_seed,
    imported,
    label_of,
    numpy_generator,
    preserved_random_state,
)


def states():
    legacy = np.random.get_state()
    return random.getstate(), legacy[1].tobytes(), legacy[2:], torch.get_rng_state().numpy().tobytes()


def drawn():
    return np.array([random.random(), np.random.rand(), torch.rand(()).item()])


def test_the_states_are_put_back_and_a_seed_repeats_what_is_drawn():
    before = states()
    with preserved_random_state(3):
        first = drawn()
    assert states() == before
    with preserved_random_state(3):
        assert np.array_equal(drawn(), first)
    with preserved_random_state(4):
        assert not (drawn() == first).any()
    with pytest.raises(ValueError, match="reshape"), preserved_random_state():
        drawn().reshape(7)
    assert states() == before


def test_seeding_notes_nothing_for_a_device_that_is_not_in_use_yet():
    code = (
        "import torch\n"
        "from landscape.randomness import preserved_random_state\n"
        "queued = len(torch.cuda._queued_calls)\n"
        "with preserved_random_state(5): pass\n"
        "print(len(torch.cuda._queued_calls) - queued)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "0"


def test_an_import_leaves_the_states_of_what_is_imported_already(tmp_path, monkeypatch):
    (tmp_path / "draws_while_imported.py").write_text(
        "import random, numpy, torch\nrandom.random(), numpy.random.rand(), torch.rand(())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = states()
    imported("draws_while_imported")
    assert states() == before


PACKAGES = ["composition", "objective", "store", "report", "systems", "plugins", "testing", "cli"]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_of_the_core_draws_nothing(package):
    code = (
        "import random, sys, numpy, torch\n"
        "random.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n"
        "before = random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()\n"
        f"import landscape.{package}\n"
        "after = random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()\n"
        "print(before == after)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "True"


def test_an_import_neither_needs_nor_brings_numpy_or_torch():
    code = (
        "import random, sys\n"
        "random.seed(0); before = random.getstate()\n"
        "from landscape.randomness import imported\n"
        "imported('rich.progress')\n"
        "print(random.getstate() == before, 'numpy' in sys.modules, 'torch' in sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["True", "False", "False"]


@frozen
class Inner:
    lr: float = 0.1


@frozen
class Outer:
    k: int = 3
    tolerance: float = 1.0
    names: tuple[str, ...] = ("a", "b")
    sizes: tuple[float, ...] = (1.0, 2.5)
    inner: Inner | None = None
    options: dict[str, float] = field(factory=dict)
    notes: tuple[str, ...] = field(default=(), eq=False)
    _cache: int = field(default=0, init=False)


def test_a_label_names_the_class_and_every_field():
    assert label_of(Outer(inner=Inner())) == (
        "Outer(k=3, tolerance=1, names=('a', 'b'), sizes=(1, 2.5), inner=Inner(lr=0.1), options={})"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Outer(tolerance=2), Outer(tolerance=2.0)),
        (Outer(tolerance=np.float64(0.3)), Outer(tolerance=0.3)),
        (Outer(tolerance=np.float32(0.5)), Outer(tolerance=0.5)),
        (Outer(k=np.int64(4)), Outer(k=4)),
        (Outer(sizes=[1, 2.5]), Outer(sizes=(1.0, 2.5))),
        (Outer(sizes=np.array([1, 2.5])), Outer()),
        (Outer(inner=Inner(np.float64(1))), Outer(inner=Inner(1))),
        (Outer(options={"a": 1, "b": 2.0}), Outer(options={"b": np.int32(2), "a": 1.0})),
        (Outer(tolerance=-0.0), Outer(tolerance=0)),
        (Outer(notes=("read twice",)), Outer()),
    ],
)
def test_equal_configurations_have_one_label(one, other):
    assert label_of(one) == label_of(other)


@pytest.mark.parametrize(
    "other",
    [
        Outer(k=4),
        Outer(tolerance=1.5),
        Outer(names=("a, b",)),
        Outer(names=("a", "b", "c")),
        Outer(sizes=(1.0, (2.5,))),
        Outer(inner=Inner()),
        Outer(options={"a": 1}),
        Outer(tolerance=float("nan")),
        Outer(tolerance=float("inf")),
        Outer(k=2**60 + 1),
        Outer(k=2**60),
        Inner(),
    ],
)
def test_other_configurations_have_other_labels(other):
    assert label_of(other) != label_of(Outer())
    assert label_of(Outer(k=2**60)) != label_of(Outer(k=2**60 + 1))


@settings(deadline=None)
@given(st.floats(allow_nan=False), st.integers())
def test_labels_survive_a_file(number, whole):
    before = Outer(k=whole, tolerance=number)
    text = json.dumps([before.k, before.tolerance])
    k, tolerance = json.loads(text)
    assert label_of(evolve(before, k=k, tolerance=tolerance)) == label_of(before)
    assert derive_seed(0, label_of(before)) >= 0


@pytest.mark.parametrize("source", [None, 7])
def test_what_is_no_generator_is_refused_in_words(source):
    with pytest.raises(
        ConfigurationError, match=r"give a generator of torch, such as .*torch_generator\(0\)"
    ):
        numpy_generator(source)
