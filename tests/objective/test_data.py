from __future__ import annotations

import random
import weakref
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from landscape.errors import DataError, UnstableDataError
from landscape.objective import Data, Landscape, as_data, fixed
from landscape.objective.batch import concatenate, examples_in, map_leaves, move

X = torch.arange(22.0).view(11, 2)
Y = torch.arange(11)


class Augmented(Dataset):
    """Noise from one of the global generators, as augmentation libraries draw it."""

    def __init__(self, source=lambda: torch.rand(()).item()):
        self.source = source

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return X[index] + self.source(), Y[index]


class Plain(Dataset):
    def __len__(self):
        return 11

    def __getitem__(self, index):
        return X[index], Y[index]


class Endless(IterableDataset):
    """Iterable, and the same each time."""

    def __iter__(self):
        return iter([(X[i], Y[i]) for i in range(11)])


def states():
    legacy = np.random.get_state()
    return random.getstate(), legacy[1].tobytes(), legacy[2:], torch.get_rng_state().numpy().tobytes()


def whole(data):
    return concatenate(list(data.batches()))


SOURCES = {
    "pair": lambda: (X, Y),
    "numpy": lambda: (X.numpy(), Y.numpy()),
    "list": lambda: [(X[:4], Y[:4]), (X[4:5], Y[4:5]), (X[5:], Y[5:])],
    "loader of tensors": lambda: DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, drop_last=True),
    "loader of a dataset": lambda: DataLoader(Plain(), batch_size=4, shuffle=True, num_workers=2),
    "dataset": lambda: Plain(),
    "iterable dataset": lambda: Endless(),
    "loader of an iterable dataset": lambda: DataLoader(Endless(), batch_size=4),
    "subset": lambda: Subset(
        Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(22)), range(11)
    ),
    "fixed": lambda: fixed(DataLoader(Plain(), batch_size=4)),
    "fixed generator": lambda: fixed((X[i : i + 1], Y[i : i + 1]) for i in range(11)),
    "fixed pair": lambda: fixed((X, Y)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_examples_in_order_and_one_fingerprint(name):
    before = states()
    data = as_data(SOURCES[name]())
    assert data.examples == 11
    x, y = whole(data)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert data.fingerprint() == as_data((X, Y)).fingerprint()
    assert data.deterministic
    assert states() == before
    x, y = data.everything()
    assert torch.equal(x, X)
    if "iterable" in name:
        with pytest.raises(DataError, match=r"landscape\.fixed"):
            data.take(torch.tensor([0]))
        with pytest.raises(DataError, match=r"landscape\.fixed"):
            next(data.batches(3))
        return
    indices = torch.tensor([10, 0, 4, 4, 7])
    x, y = data.take(indices)
    assert torch.equal(x, X[indices])
    assert y.tolist() == indices.tolist()
    assert [len(y) for _, y in data.batches(3)] == [3, 3, 3, 2]
    assert torch.equal(torch.cat([x for x, _ in data.batches(3)]), X)
    assert torch.equal(torch.cat([x for x, _ in data.batches_from(2, 3)]), X[6:])


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    size=st.integers(1, 30),
    chosen=st.lists(st.integers(0, 10**6), min_size=1, max_size=10),
)
@settings(max_examples=40, deadline=None)
def test_batches_given_as_a_list_can_be_read_in_any_size_and_order(sizes, size, chosen):
    total = sum(sizes)
    x = torch.randn(total, 2)
    data = as_data([{"x": part} for part in x.split(sizes)])
    assert torch.equal(torch.cat([batch["x"] for batch in data.batches(size)]), x)
    indices = torch.tensor([index % total for index in chosen])
    assert torch.equal(data.take(indices)["x"], x[indices])


def test_fingerprints_tell_contents_types_and_shapes_apart():
    prints = {
        as_data(source).fingerprint()
        for source in (
            (X, Y),
            (X + 1, Y),
            (X.double(), Y),
            (X.flatten()[:11], Y),
            (X.view(11, 1, 2), Y),
            {"x": X, "y": Y},
            (X, Y.int()),
        )
    }
    assert len(prints) == 7
    assert len(as_data((X, Y)).fingerprint()) == 64
    with pytest.raises(DataError, match=r"batch\[1\] is a object"):
        as_data([(X, object())]).fingerprint()


def test_a_landscape_over_a_shuffling_loader_consumes_no_random_numbers():
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)
    landscape = Landscape(nn.Linear(2, 11), "cross_entropy", loader)
    theta = landscape.initial()
    before = states()
    value = landscape.value(theta)
    landscape.hessian(theta)
    assert states() == before
    assert value == landscape.value(theta)
    torch.testing.assert_close(
        value.float(), F.cross_entropy(landscape.module(X), Y).detach(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    "source",
    [
        lambda: torch.rand(()).item(),
        lambda: np.random.rand(),
        random.random,
        np.random.default_rng(0).random,  # a generator of its own, which no seeding reaches
    ],
)
def test_random_augmentation_is_found_out_and_refused_where_a_hessian_is_asked(source):
    data = as_data(DataLoader(Augmented(source), batch_size=4, shuffle=True))
    before = states()
    assert not data.deterministic
    assert states() == before
    landscape = Landscape(nn.Linear(2, 11), "cross_entropy", data)
    theta = landscape.initial()
    before = states()
    assert landscape.value(theta).isfinite()
    assert landscape.gradient(theta).isfinite().all()
    with pytest.raises(UnstableDataError, match=r"split 'train'.*landscape\.fixed"):
        landscape.hessian(theta)
    with pytest.raises(UnstableDataError, match=r"split 'test'"):
        landscape.on(data, split="test").hessian(theta)
    assert landscape.hessian(theta, next(data.batches())).shape == (33, 33)
    assert states() == before


def test_the_two_passes_are_made_once():
    class Counting(Plain):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

    landscape = Landscape(nn.Linear(2, 11), "cross_entropy", as_data(Counting(), batch_size=4))
    theta = landscape.initial()
    landscape.hessian(theta)
    assert Counting.reads == 2 * 11 + 11  # two passes to compare, one for the graphs
    operator = landscape.hessian(theta)
    assert Counting.reads == 4 * 11
    operator.matvec(theta)
    assert Counting.reads == 4 * 11
    landscape.data.fingerprint()
    assert Counting.reads == 4 * 11
    part = landscape.hessian(theta, memory=operator.cost.bytes_held // 2)
    reads = Counting.reads
    part.matvec(theta)
    recomputed = part.cost.batches_recomputed
    assert 0 < recomputed < 3
    assert Counting.reads - reads == 11 - 4 * (3 - recomputed)  # only what was not kept is read again


def test_augmented_data_repeats_itself_in_values_and_can_be_fixed():
    data = as_data(Augmented(), batch_size=4)
    assert torch.equal(whole(data)[0], whole(data)[0])
    noise = (whole(data)[0] - X)[:, 0]
    assert len(noise.unique()) == 11, "batches must not repeat each other's noise"
    held = fixed(data, seed=1)
    assert held.deterministic
    assert not torch.equal(whole(held)[0], X)
    assert held.fingerprint() == fixed(data, seed=1).fingerprint()
    assert held.fingerprint() != fixed(data, seed=2).fingerprint()


def test_fixed_draws_from_the_loader_itself_and_leaves_the_global_states():
    loader = DataLoader(Augmented(), batch_size=4, shuffle=True)
    before = states()
    held = fixed(loader, batches=2, seed=3)
    assert states() == before
    assert held.examples == 8
    assert sorted(whole(held)[1].tolist()) != list(range(8))  # shuffled, as the loader does
    assert torch.equal(whole(held)[0], whole(fixed(loader, batches=2, seed=3))[0])
    original = X.clone()
    held = fixed((original, Y))
    original += 1
    assert torch.equal(whole(held)[0], X)
    with pytest.raises(DataError, match="ended after 3"):
        fixed(loader, batches=4)
    with pytest.raises(DataError, match="batches=0"):
        fixed(loader, batches=0)
    with pytest.raises(DataError, match="empty"):
        fixed(iter([]))


def test_what_can_be_read_only_once_is_refused_with_the_cure():
    class OneShot(IterableDataset):
        def __init__(self):
            self.items = iter([(X[0], Y[0])])

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.items)

    for source in (
        iter([(X, Y)]),
        ((X, Y) for _ in range(1)),
        OneShot(),
        DataLoader(OneShot(), batch_size=1),
    ):
        with pytest.raises(DataError, match=r"only once.*landscape\.fixed"):
            as_data(source)


def test_an_iterable_that_runs_dry_is_unstable():
    class RunsDry:
        def __init__(self):
            self.left = [(X, Y)]

        def __iter__(self):
            while self.left:
                yield self.left.pop()

    landscape = Landscape(nn.Linear(2, 11), "cross_entropy", RunsDry())
    with pytest.raises(UnstableDataError):
        landscape.hessian(landscape.initial())
    with pytest.raises(DataError, match="gave no batch"):
        landscape.value(landscape.initial())


def test_samplers_that_choose_examples_are_obeyed_or_refused():
    items = TensorDataset(X, Y)
    chosen = as_data(DataLoader(items, batch_size=2, sampler=SubsetRandomSampler([7, 2, 5])))
    assert whole(chosen)[1].tolist() == [2, 5, 7]
    chosen = as_data(DataLoader(Plain(), batch_size=2, sampler=SubsetRandomSampler([7, 2, 5])))
    assert whole(chosen)[1].tolist() == [2, 5, 7]
    shares = [
        as_data(DataLoader(items, batch_size=2, sampler=DistributedSampler(items, num_replicas=3, rank=rank)))
        for rank in range(3)
    ]
    assert sorted(torch.cat([whole(share)[1] for share in shares]).tolist()) == list(range(11))
    with pytest.raises(DataError, match=r"WeightedRandomSampler.*landscape\.fixed"):
        as_data(DataLoader(items, batch_size=2, sampler=WeightedRandomSampler([1.0] * 11, 11)))
    with pytest.raises(DataError, match="draws batches with a list"):
        as_data(DataLoader(items, batch_sampler=[[0, 1], [2]]))


class Own(RandomSampler):
    def __iter__(self):
        return iter([0, 0, 0])


@pytest.mark.parametrize("items", [TensorDataset(X, Y), Plain()], ids=["tensors", "items"])
@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (SequentialSampler(range(5)), [0, 1, 2, 3, 4]),
        (RandomSampler(range(4)), [0, 1, 2, 3]),
        (SubsetRandomSampler(torch.tensor([9, 3, 3])), [3, 3, 9]),
        ([6, 1], [6, 1]),
        (range(2, 9, 3), [2, 5, 8]),
        (DistributedSampler(range(7), num_replicas=5, rank=1, shuffle=False), [1, 6]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sampler_over_a_part_of_the_dataset_gives_that_part(items, sampler, expected):
    for arguments in (
        {"sampler": sampler, "batch_size": 2},
        {"batch_sampler": BatchSampler(sampler, 2, True)},
    ):
        loader = DataLoader(items, **arguments)
        data = as_data(loader)
        assert whole(data)[1].tolist() == expected
        assert data.examples == len(expected)
        assert len(next(data.batches())[1]) == 2
        # What the loader itself reads, but for the order and a last batch that is too short.
        assert {int(label) for _, y in loader for label in y} <= set(expected)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (RandomSampler(range(11), num_samples=5), r"draws 5 of 11 .*landscape\.fixed"),
        (RandomSampler(range(11), num_samples=22), "draws 22 of 11"),
        (RandomSampler(range(11), replacement=True), "with replacement"),
        (Own(range(11)), "samples with a Own"),
        (SequentialSampler(range(12)), "item 11 of a dataset of 11"),
        (SubsetRandomSampler([1, 99]), "item 99 of a dataset of 11"),
        (SubsetRandomSampler([]), "empty"),
        (["a"], "item 'a' of"),
    ],
)
def test_a_sampler_that_is_no_fixed_set_of_examples_is_refused(sampler, message):
    for arguments in ({"sampler": sampler}, {"batch_sampler": BatchSampler(sampler, 2, False)}):
        with pytest.raises(DataError, match=message):
            as_data(DataLoader(TensorDataset(X, Y), **arguments))


def test_a_dataset_that_cannot_be_counted_or_collated_is_refused():
    class Uncounted(Dataset):
        def __getitem__(self, index):
            return X[index], Y[index]

    class Objects(Plain):
        def __getitem__(self, index):
            return object()

    with pytest.raises(DataError, match="Uncounted does not say how many"):
        as_data(Uncounted())
    with pytest.raises(DataError, match=r"Objects cannot be made into a batch.*collate_fn"):
        next(as_data(Objects()).batches())
    with pytest.raises(DataError, match="Subset asks for item 99"):
        as_data(Subset(TensorDataset(X, Y), [0, 99]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("train.csv", r"'train.csv' \(str\) is no data"),
        (Path("train.csv"), "is no data"),
        ({1, 2}, r"\{1, 2\} \(set\) is no data"),
        (range(3), "is no data"),
        (TensorDataset, "is no data"),
        (pd.DataFrame({"a": [1.0]}), "One DataFrame alone"),
        (pd.Series([1.0]), "One Series alone"),
        (np.zeros(3), "One ndarray alone"),
        (["a", "b"], r"yields 'a' \(str\), which is no batch"),
        ([1, 2], r"yields 1 \(int\), which is no batch"),
        ((), "empty"),
        ({}, "empty"),
        ((np.array(["a", "b"]), np.zeros(2)), "dtype <U1"),
        ({"x": [1, 2]}, r"data\['x'\]\[0\] is 1"),
    ],
)
def test_what_is_no_data_is_said_before_it_is_read(source, message):
    with pytest.raises(DataError, match=message):
        as_data(source)


def test_an_iterable_of_examples_that_are_no_batches_is_refused_when_it_is_read():
    class Names:
        def __iter__(self):
            return iter(["a.png", "b.png"])

    with pytest.raises(DataError, match=r"yields 'a.png'"):
        next(as_data(Names()).batches())
    with pytest.raises(DataError, match=r"yields 'a.png'"):
        fixed(iter(["a.png"]))


@pytest.mark.parametrize("wrong", ["a", 2.5, True, 0])
def test_numbers_of_batches_and_examples_are_whole(wrong):
    with pytest.raises(DataError, match="give a whole number"):
        fixed([(X, Y)], batches=wrong)
    with pytest.raises(DataError, match="give a whole number"):
        as_data((X, Y), batch_size=wrong)
    with pytest.raises(DataError, match="give a whole number"):
        list(as_data((X, Y)).batches(wrong))


def test_arrays_in_any_order_of_bytes_and_steps_are_read():
    x, y = as_data((np.arange(6.0)[::-1].reshape(3, 2), np.arange(3, dtype=">f8"))).everything()
    assert x.tolist() == [[5, 4], [3, 2], [1, 0]]
    assert y.tolist() == [0, 1, 2]


def test_a_loader_without_batching_has_batches_for_items():
    class Batches(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    data = as_data(DataLoader(Batches(), batch_size=None))
    assert data.examples == 11
    assert torch.equal(whole(data)[0], X)
    with pytest.raises(DataError, match=r"landscape\.fixed"):
        data.take(torch.tensor([0]))
    with pytest.raises(DataError, match="batches of 2"):
        next(data.batches(2))


def test_a_custom_collate_function_is_used():
    def collate(items):
        return {"x": torch.stack([x for x, _ in items]), "y": torch.stack([y for _, y in items])}

    for dataset in (Plain(), TensorDataset(X, Y)):
        data = as_data(DataLoader(dataset, batch_size=5, collate_fn=collate))
        assert [sorted(batch) for batch in data.batches()] == [["x", "y"]] * 3
        assert torch.equal(whole(data)["x"], X)


def test_data_of_ones_own_is_taken_as_it_is():
    class Own(Data):
        @property
        def examples(self):
            return 11

        def batches(self, size=None):
            yield X[:6], Y[:6]
            yield X[6:], Y[6:]

        def take(self, indices):
            return X[indices], Y[indices]

    data = Own()
    assert as_data(data) is data
    assert data.deterministic
    assert data.fingerprint() == as_data((X, Y)).fingerprint()
    landscape = Landscape(nn.Linear(2, 11), "cross_entropy", data)
    plain = Landscape(landscape.module, "cross_entropy", (X, Y))
    theta = landscape.initial()
    torch.testing.assert_close(landscape.value(theta), plain.value(theta), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        landscape.hessian(theta, memory=0).matvec(theta),
        plain.hessian(theta).matvec(theta),
        rtol=1e-4,
        atol=1e-4,
    )
    assert len(list(data.batches_from(1))) == 1
    assert torch.equal(data.everything()[0], X)


def test_bad_data_is_refused_with_the_cure():
    for source, message in [
        (X, "as \\(x, y\\)"),
        ([X, Y], "tuple \\(x, y\\)"),
        ([], "empty"),
        ((X[:0], Y[:0]), "empty"),
        ((X, Y[:3]), "disagree"),
        ((X, 3), r"data\[1\] is 3 \(int\)"),
        (7, "no data"),
    ]:
        with pytest.raises(DataError, match=message):
            as_data(source)
    with pytest.raises(DataError, match="at least 1"):
        as_data((X, Y), batch_size=0)
    with pytest.raises(DataError, match="re-batched"):
        as_data([(torch.zeros(2, 3), Y[:2]), (torch.zeros(2, 4), Y[:2])]).everything()


def test_batches_are_nested_structures_and_only_floating_tensors_change_type():
    Pair = namedtuple("Pair", "x y")
    batch = Pair({"a": [X, "text"], "b": X.to(torch.complex64)}, (Y, None, X > 3))
    moved = move(batch, torch.device("cpu"), torch.float64)
    assert type(moved) is Pair
    assert moved.x["a"][0].dtype == torch.float64
    assert moved.x["a"][1] == "text"
    assert moved.x["b"].dtype == torch.complex128
    assert (moved.y[0].dtype, moved.y[1], moved.y[2].dtype) == (torch.int64, None, torch.bool)
    assert examples_in(batch) == 11
    assert map_leaves(lambda leaf: 0, batch) == Pair({"a": [0, 0], "b": 0}, (0, 0, 0))
    joined = concatenate([batch, batch])
    assert examples_in(joined) == 22
    with pytest.raises(DataError, match=r"weight="):
        examples_in({"x": X, "y": Y[:2]})
    with pytest.raises(DataError, match="no tensor"):
        examples_in(("text", torch.tensor(1)))


def test_converted_data_is_kept_and_has_the_same_examples():
    data = as_data((X, Y), batch_size=4)
    double = data.moved(torch.device("cpu"), torch.float64)
    assert double is data.moved(torch.device("cpu"), torch.float64)
    assert data.moved(torch.device("cpu"), torch.float32) is data
    assert torch.equal(whole(double)[0], X.double())
    assert [len(y) for _, y in double.batches()] == [4, 4, 3]
    batched = as_data([(X, Y)])
    assert batched.moved(torch.device("cpu"), torch.float32) is batched
    double = batched.moved(torch.device("cpu"), torch.float64)
    assert double is batched.moved(torch.device("cpu"), torch.float64)
    assert whole(double)[0].dtype == torch.float64


class Conversions:
    """Counts how often batches are converted."""

    def __init__(self, monkeypatch):
        from landscape.objective import data

        self.count = 0

        def counted(*arguments):
            self.count += 1
            return move(*arguments)

        monkeypatch.setattr(data, "move", counted)


@pytest.mark.parametrize("source", [(X, Y), [(X[:4], Y[:4]), (X[4:], Y[4:])]])
def test_data_is_converted_once_and_not_looked_through_at_every_step(source, monkeypatch):
    conversions, data, cpu = Conversions(monkeypatch), as_data(source), torch.device("cpu")
    for _ in range(3):
        data.moved(cpu, torch.float64)
        data.moved(cpu, torch.float32)
    assert conversions.count == 2
    landscape = Landscape(nn.Linear(2, 11).double(), "cross_entropy", data)
    stream = landscape.stream(4, seed=0)
    for _ in range(3):
        landscape.stream(4, seed=0).batch(stream.start())
    assert conversions.count == 2


def test_only_the_last_conversions_are_kept():
    data, cpu = as_data((X, Y)), torch.device("cpu")
    types = [torch.float64, torch.float16, torch.bfloat16, torch.float32]
    moved = [weakref.ref(data.moved(cpu, dtype)) for dtype in types]
    assert [reference() is not None for reference in moved] == [False, False, True, True]


def seeded_loader(dataset=None, **options):
    generator = torch.Generator().manual_seed(7)
    dataset = TensorDataset(X, Y) if dataset is None else dataset
    return DataLoader(dataset, batch_size=4, generator=generator, **options)


def labels(batches):
    return [y.tolist() for _, y in batches]


@pytest.mark.parametrize(
    "loader",
    [
        lambda: seeded_loader(shuffle=True),
        lambda: seeded_loader(sampler=SubsetRandomSampler(range(9), torch.Generator().manual_seed(1))),
        lambda: DataLoader(
            TensorDataset(X, Y),
            batch_sampler=BatchSampler(
                RandomSampler(range(11), generator=torch.Generator().manual_seed(2)), 4, drop_last=False
            ),
        ),
    ],
)
def test_fixed_data_does_not_change_the_order_of_a_training(loader):
    expected = labels(loader())
    training = loader()
    held = fixed(training, batches=2, seed=0)
    assert labels(training) == expected
    # What is held depends on the seed alone, not on how far the training has come.
    assert labels(fixed(training, batches=2, seed=0).batches()) == labels(held.batches())
    assert labels(fixed(training, batches=2, seed=1).batches()) != labels(held.batches())


def test_fixed_data_does_not_end_the_epoch_of_a_loader_that_keeps_its_workers():
    loader = DataLoader(Plain(), batch_size=4, num_workers=1, persistent_workers=True)
    seen = []
    for _, y in loader:
        seen.append(y.tolist())
        assert fixed(loader, batches=1).examples == 4
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_the_seed_of_fixed_data_reaches_iterables():
    class Noisy:
        def __iter__(self):
            for _ in range(3):
                yield torch.rand(4, 2), torch.zeros(4)

    before = states()
    first, again, other = (fixed(Noisy(), seed=seed).everything()[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == first.numel()
    assert states() == before
    loader = fixed(DataLoader(Endless(), batch_size=4))
    assert torch.equal(loader.everything()[0], X)


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_an_iterable_dataset_leaves_the_loader_of_a_training_alone(workers):
    loader = seeded_loader(Endless(), num_workers=workers, persistent_workers=workers > 0, drop_last=True)
    data = as_data(loader)
    state = loader.generator.get_state()
    seen = []
    for x, _ in loader:
        seen.append(x)
        landscape = Landscape(nn.Linear(2, 11), "cross_entropy", data)
        landscape.hessian(landscape.initial())
        if len(seen) == 1:
            advanced = loader.generator.get_state()
        assert len(seen) <= 2
    assert torch.equal(torch.cat(seen), X[:8])
    assert torch.equal(loader.generator.get_state(), advanced)
    assert not torch.equal(state, advanced)  # by the training's own pass
    assert data.examples == 11, "what the loader drops is measured too"
    assert labels(data.batches())[-1] == [8, 9, 10]


@pytest.mark.parametrize("name", SOURCES)
def test_the_first_examples_come_as_one_batch(name):
    data = as_data(SOURCES[name]())
    before = states()
    for count in (1, 3, 4, 11, 12):
        x, y = data.first(count)
        assert len(x) >= min(count, 11)
        assert torch.equal(x, X[: len(x)])
        assert torch.equal(y, Y[: len(x)])
        if "iterable" not in name:
            assert len(x) == min(count, 11)
    assert states() == before


class Nothing:
    def __iter__(self):
        return iter(())


def test_the_first_examples_are_read_and_no_others():
    class Reading(Plain):
        read = 0

        def __getitem__(self, index):
            Reading.read += 1
            return super().__getitem__(index)

    as_data(Reading(), batch_size=4).first(3)
    assert Reading.read == 3

    class Batches(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            assert index < 2
            return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    assert labels([as_data(DataLoader(Batches(), batch_size=None)).first(5)]) == [list(range(8))]
    with pytest.raises(DataError, match="empty"):
        as_data(Nothing()).first(3)
    with pytest.raises(DataError, match="empty"):
        as_data(Nothing()).everything()
