"""A user's own shuffling loader as the data of a walk: continued exactly, or said that it cannot be."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from attrs import frozen
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import landscape as ls
from landscape import plugins
from landscape.errors import DataError, RunError

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)


class Augmented(Dataset):
    """Noise from the global generator, as augmentation draws it."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return X[index] + 0.1 * torch.randn(3), Y[index]


class Private(Augmented):
    """Noise from a generator of its own, of which nobody else knows."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __getitem__(self, index):
        return X[index] + 0.1 * torch.randn(3, generator=self.generator), Y[index]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def shuffling(items, **settings):
    return DataLoader(items, **({"batch_size": 4, "shuffle": True} | settings))


def walk_over(data, batch_size=5):
    torch.manual_seed(0)
    landscape = ls.Landscape(torch.nn.Linear(3, 1), "mse", data)
    return ls.Walk(landscape, ls.walkers.SGD(lr=0.05, batch_size=batch_size), seed=7)


def go(walk, count):
    for _ in walk.steps(count):
        pass
    return walk


@pytest.mark.parametrize(
    "make",
    [
        lambda: shuffling(TensorDataset(X, Y)),
        lambda: shuffling(TensorDataset(X, Y), generator=torch.Generator().manual_seed(3), drop_last=True),
        lambda: shuffling(Augmented()),
    ],
    ids=["tensors", "own generator of the loader", "augmentation"],
)
def test_a_walk_over_a_shuffling_loader_is_continued_bit_for_bit(make):
    walk = go(walk_over(make()), 6)
    walk.save("walk")
    torch.manual_seed(123)  # neither the global state nor a loader half used up plays a part
    loader = make()
    next(iter(loader))
    again = ls.Walk.load("walk", ls.Landscape(walk.landscape.module, "mse", loader))
    assert torch.equal(go(walk, 7).positions, go(again, 7).positions)
    straight = go(walk_over(make()), 13)
    assert torch.equal(walk.positions, straight.positions)


def test_data_that_no_seed_decides_is_said_when_a_walk_is_saved_and_read():
    walk = go(walk_over(shuffling(Private())), 2)
    with pytest.warns(
        UserWarning, match=r"walk cannot be continued exactly: .*no seed decides.*landscape\.fixed"
    ):
        walk.save("walk")
    with pytest.raises(RunError, match=r"walk cannot be continued exactly: .*other_data=True"):
        ls.Walk.load("walk", walk.landscape)
    go(ls.Walk.load("walk", walk.landscape, other_data=True), 1)
    fixed = go(walk_over(ls.fixed(shuffling(Private()))), 2)
    fixed.save("fixed")
    assert torch.equal(go(ls.Walk.load("fixed", fixed.landscape), 3).positions, go(fixed, 3).positions)


def test_what_gives_no_single_examples_is_refused_before_the_first_step():
    with pytest.raises(DataError, match=r"batch_size=5: .*landscape\.fixed.*batch_size=None"):
        walk_over(shuffling(Endless(), shuffle=False))
    with pytest.raises(DataError, match="batch_size=5"):
        walk_over(DataLoader(TensorDataset(X[None], Y[None]), batch_size=None))
    with pytest.raises(DataError, match="WeightedRandomSampler"):
        walk_over(DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler(torch.ones(20), 20)))
    whole = go(walk_over(shuffling(Endless(), shuffle=False), batch_size=None), 2)
    whole.save("whole")
    assert torch.equal(go(ls.Walk.load("whole", whole.landscape), 3).positions, go(whole, 3).positions)


def test_whether_data_repeats_is_seen_in_its_first_batch():
    assert ls.Landscape(torch.nn.Linear(3, 1), "mse", shuffling(Augmented())).data.repeats
    assert ls.Landscape(torch.nn.Linear(3, 1), "mse", (X, Y)).data.repeats
    assert ls.Landscape(torch.nn.Linear(3, 1), "mse", [(X, Y)]).data.repeats
    assert ls.Landscape(torch.nn.Linear(3, 1), "mse", shuffling(Endless(), shuffle=False)).data.repeats
    assert not ls.Landscape(torch.nn.Linear(3, 1), "mse", shuffling(Private())).data.repeats


@frozen
class Loaded(ls.interfaces.Dataset):
    """A dataset of somebody's own that hands out loaders."""

    kind: str = "tensors"

    def load(self, generator: Any) -> dict[str, Any]:
        items = {"tensors": lambda: TensorDataset(X, Y), "augmented": Augmented, "private": Private}[
            self.kind
        ]()
        if self.kind == "endless":
            return {"train": shuffling(Endless(), shuffle=False)}
        return {"train": shuffling(items)}


def experiment(kind):
    return ls.Experiment(
        model=ls.models.MLP(hidden=(2,)),
        dataset=Loaded(kind),
        walker=ls.walkers.SGD(lr=0.05, batch_size=5),
        loss="mse",
        probes=("Loss",),
        steps=8,
        snapshots=2,
    )


@pytest.fixture
def registered(isolated_registry):
    plugins.register(Loaded)


@pytest.mark.parametrize("kind", ["tensors", "augmented"])
def test_an_experiment_on_a_shuffling_loader_is_resumed_bit_for_bit(registered, monkeypatch, kind):
    whole = experiment(kind).run(store="s", run_id="whole")
    original = ls.Walk.advance

    def advance(walk):
        if walk.step == 5:
            raise KeyboardInterrupt
        original(walk)

    with monkeypatch.context() as patched:
        patched.setattr(ls.Walk, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            experiment(kind).run(store="s", run_id="broken")
    resumed = ls.open("s/broken").resume()
    for one, other in zip(whole.directory.snapshots(), resumed.directory.snapshots(), strict=True):
        assert torch.equal(one.weights("0"), other.weights("0"))


def test_an_experiment_that_is_not_resumed_exactly_says_so_when_it_goes_on(registered, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(ls.Walk, "advance", lambda walk: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="no seed decides"):
            experiment("private").run(store="s", run_id="r")
    with pytest.warns(UserWarning, match="This run is not resumed exactly: The train data draws"):
        assert ls.open("s/r").resume().status == "complete"


def test_an_experiment_that_cannot_be_resumed_exactly_says_so_when_it_starts(registered):
    with pytest.warns(UserWarning, match="train data draws random numbers that no seed decides"):
        run = experiment("private").run(store="s", run_id="r")
    assert run.provenance["replicable"] is False
    with pytest.raises(RunError, match="The train data draws random numbers"):
        run.replicate()
    assert os.listdir("s") == ["r"]
