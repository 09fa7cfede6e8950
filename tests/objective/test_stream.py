from __future__ import annotations

import random

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from landscape.errors import ConfigurationError, DataError
from landscape.objective import BatchStream, BatchStreamState, Landscape, as_data
from landscape.objective.batch import leaves


@given(examples=st.integers(1, 20), batch_size=st.integers(1, 25), seed=st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_every_epoch_is_a_permutation_in_batches_of_which_the_last_may_be_short(examples, batch_size, seed):
    y = torch.arange(examples)
    stream = BatchStream(as_data((y.float(), y)), batch_size, seed)
    state = stream.start()
    for epoch in range(3):
        seen = []
        for cursor in range(stream.batches_per_epoch):
            assert state == BatchStreamState(seed, epoch, cursor)
            batch = stream.batch(state)[1].tolist()
            last = cursor == stream.batches_per_epoch - 1
            assert len(batch) == batch_size or last
            seen += batch
            state = stream.advance(state)
        assert sorted(seen) == list(range(examples))


def test_a_stream_is_pure_and_its_state_is_integers():
    y = torch.arange(50)
    stream = BatchStream(as_data((y.float(), y)), 8, seed=3)
    states = [stream.start()]
    for _ in range(300):
        states.append(stream.advance(states[-1]))
    batches = [stream.batch(state)[1] for state in states]
    fresh = BatchStream(as_data((y.float(), y)), 8, seed=99)
    for index in (300, 0, 171, 7):
        assert all(type(value) is int for value in attrs.astuple(states[index]))
        assert torch.equal(fresh.batch(states[index])[1], batches[index])
    assert not torch.equal(batches[0], batches[7])
    assert not torch.equal(stream.batch(stream.start(seed=4))[1], batches[0])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    stream.batch(BatchStreamState(5, 5, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_batch_size_all_data_is_one_batch_in_order(net, classes):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=5))
    stream = landscape.stream(None, seed=0)
    state = stream.start()
    assert stream.batches_per_epoch == 1
    assert torch.equal(stream.batch(state)[0], classes[0])
    assert stream.advance(state) == BatchStreamState(0, 1, 0)
    theta = landscape.initial()
    torch.testing.assert_close(landscape.gradient(theta, stream.batch(state)), landscape.gradient(theta))
    assert stream.indices(state).tolist() == list(range(23))


def test_batches_come_in_the_dtype_of_the_landscape(net, classes):
    landscape = Landscape(net, "cross_entropy", classes, dtype=torch.float32)
    stream = landscape.stream(4, seed=0)
    assert stream.batch(stream.start())[0].dtype == torch.float32


def test_augmentation_is_seeded_by_the_state():
    class Augmented(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.rand(2) + random.random(), index

    stream = BatchStream(as_data(Augmented()), 6, seed=0)
    state = stream.start()
    later = stream.advance(state)
    before = torch.get_rng_state(), random.getstate()
    first = stream.batch(state)[0]
    assert torch.equal(stream.batch(state)[0], first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert not torch.equal(stream.batch(later)[0].sort(0).values, first.sort(0).values)


@pytest.mark.parametrize("wrong", [2.5, "a", True, -1])
def test_a_batch_size_that_is_no_whole_number_is_refused(classes, wrong):
    with pytest.raises(ConfigurationError, match="give a whole number, at least 1"):
        BatchStream(as_data(classes), wrong, 0)


def test_an_impossible_batch_size_is_refused(classes):
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        BatchStream(as_data(classes), 0, seed=0)


class Noisy:
    """An iterable with augmentation."""

    def __iter__(self):
        for start in (0, 3, 6):
            yield torch.rand(3) + torch.arange(start, start + 3), torch.arange(start, start + 3)


def test_all_of_an_iterable_is_a_batch_and_its_augmentation_obeys_the_state():
    stream = BatchStream(as_data(Noisy()), None, seed=0)
    first = stream.start()
    later = stream.advance(first)
    assert later == BatchStreamState(0, 1, 0)
    before = torch.get_rng_state()
    x, y = stream.batch(first)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(y, torch.arange(9))
    assert torch.equal(stream.batch(first)[0], x)
    assert not torch.equal(stream.batch(later)[0], x)
    with pytest.raises(DataError, match=r"landscape\.fixed"):
        BatchStream(as_data(Noisy()), 4, seed=0).batch(first)


@pytest.mark.parametrize("size", [5, 23, None])
@pytest.mark.parametrize("kind", ["tensors", "batches", "mapping"])
def test_batches_of_several_workers_are_those_of_each_alone(classes, size, kind):
    x, y = classes
    source = {"tensors": (x, y), "batches": [(x[:10], y[:10]), (x[10:], y[10:])], "mapping": {"x": x, "y": y}}
    stream = BatchStream(as_data(source[kind]), size, 0)
    states = [stream.start(seed) for seed in range(4)]
    for step in range(7):
        together = stream.batches(states)
        assert len(together) == 4
        for batch, state in zip(together.batches, states, strict=True):
            alone = stream.batch(state)
            pairs = zip(leaves(batch), leaves(alone), strict=True)
            assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)
        # One of them falls behind on the way.
        states = [s if step == 3 and k == 2 else stream.advance(s) for k, s in enumerate(states)]


@pytest.mark.parametrize("matrix", [1 << 26, 0])
def test_permutations_are_drawn_once_however_many_workers_there_are(classes, monkeypatch, matrix):
    monkeypatch.setattr("landscape.objective.stream._MATRIX", matrix)
    drawn = []
    original = BatchStream._drawn
    monkeypatch.setattr(BatchStream, "_drawn", lambda self, *key: drawn.append(key) or original(self, *key))
    stream = BatchStream(as_data(classes), 5, 0)
    states = [stream.start(seed) for seed in range(100)]
    for _ in range(5):
        stream.batches(states)
        states = [stream.advance(state) for state in states]
    assert len(drawn) == len(set(drawn)) == 100
