"""The Gram matrix of examples against stacked gradients."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from landscape.errors import ConfigurationError
from landscape.objective import BatchLoss, Landscape, as_data, gram
from landscape.objective.gram import combined_gradients, example_gram, example_products


def stacked(landscape, theta, batch):
    rows = landscape.example_gradients(theta, batch)
    if landscape.penalty is not None:
        rows = rows - torch.func.grad(landscape.penalty)(theta)
    return rows.double() @ rows.double().T


def compared(landscape, batch, sizes=(None,)):
    theta = landscape.initial() * 1.3
    expected = stacked(landscape, theta, batch)
    for size in sizes:
        found = example_gram(landscape, theta, landscape.batches(size))
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    examples=st.integers(1, 15),
    size=st.integers(1, 16),
    bias=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    seed=st.integers(0, 999),
)
def test_perceptrons_of_any_shape(widths, examples, size, bias, reduction, seed):
    torch.manual_seed(seed)
    layers = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o, bias=bias), nn.Tanh()]
    net = nn.Sequential(*layers).double()
    batch = torch.randn(examples, widths[0]).double(), torch.randn(examples, widths[-1]).double()
    landscape = Landscape(
        net, nn.MSELoss(reduction=reduction), batch, reduction=reduction, penalty=lambda t: t @ t
    )
    compared(landscape, batch, (None, size))


@pytest.mark.parametrize(("numbers", "patches"), [(1 << 22, 1 << 20), (50, 100)])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 1)}, {"bias": False}]
)
def test_convolutions_of_images(options, numbers, patches, monkeypatch):
    monkeypatch.setattr(gram, "_NUMBERS", numbers)
    monkeypatch.setattr(gram, "_PATCHES", patches)
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(2, 3, (3, 2), **options), nn.Tanh(), nn.Flatten())
    x, y = torch.randn(7, 2, 8, 7), torch.randint(4, (7,))
    net = nn.Sequential(*front, nn.Linear(front(x).shape[1], 4)).double()
    landscape = Landscape(net, "cross_entropy", (x.double(), y))
    compared(landscape, (x.double(), y), (None, 3))


@pytest.mark.parametrize("numbers", [1 << 22, 50])
@pytest.mark.parametrize("bias", [True, False])
def test_few_positions_of_wide_layers_are_taken_in_pairs(numbers, bias, monkeypatch):
    monkeypatch.setattr(gram, "_NUMBERS", numbers)
    monkeypatch.setattr(gram, "_of_blocks", None)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 2, bias=bias), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)).double()
    batch = torch.randn(7, 3, 2, 3).double(), torch.randint(2, (7,))
    compared(Landscape(net, "cross_entropy", batch), batch, (None, 3))


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.each = nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        return self.each(torch.tanh(self.conv(x)).transpose(1, 2)).mean(dim=1)


def test_sequences_and_convolutions_along_them():
    torch.manual_seed(0)
    batch = torch.randn(6, 3, 9).double(), torch.randint(5, (6,))
    compared(Landscape(Sequences().double(), "cross_entropy", batch), batch, (None, 4))


def test_a_restriction_has_the_products_of_its_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    batch = torch.randn(6, 3).double(), torch.randint(2, (6,))
    landscape = Landscape(net, "cross_entropy", batch)
    compared(landscape.restrict(["0.*", "2.weight"]), batch)


def nothing_for(module, batch, loss="mse"):
    landscape = Landscape(module.double(), loss, as_data(batch))
    return example_gram(landscape, landscape.initial(), landscape.batches()) is None


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x))


class Elsewhere(Twice):
    def forward(self, x):
        return self.layer(x) + self.layer.weight.sum()


class SeesOthers(Twice):
    def forward(self, x):
        z = self.layer(x)
        return z - z.mean(dim=0)


class InPlace(Twice):
    def forward(self, x):
        return self.layer(x).mul_(2).relu_() + 0.1


@pytest.mark.parametrize("module", [Twice, Elsewhere, SeesOthers])
def test_layers_used_in_another_way_are_noticed(module, values):
    torch.manual_seed(0)
    assert nothing_for(module(), values)


def test_what_is_done_to_outputs_in_place_is_no_matter(values, monkeypatch):
    monkeypatch.setattr(gram, "_stacked", None)
    torch.manual_seed(0)
    compared(Landscape(InPlace().double(), "mse", values), values, (None, 5))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.twice = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.scale, self.last = nn.Parameter(torch.randn(3)), nn.Linear(3, 3)

    def forward(self, x):
        z = self.twice(torch.tanh(self.twice(self.second(torch.tanh(self.first(x))))))
        return self.last(torch.tanh(self.scale * z)) + self.last.bias


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (Tied, 9 + 12 + 3 + 12),
        (lambda: nn.Sequential(Elsewhere(), nn.Tanh(), nn.Linear(3, 3)), 12),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.GroupNorm(1, 3), nn.Linear(3, 3)), 6),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3)), 15),
    ],
)
def test_only_weights_in_unknown_places_have_their_gradients_stacked(module, count, values, monkeypatch):
    torch.manual_seed(0)
    landscape = Landscape(module().double(), "mse", values, penalty=lambda t: t @ t)
    widths = []

    def watched(*given):
        rows = stacked_rows(*given)
        widths.append(rows.shape[1])
        return rows

    stacked_rows = gram._stacked
    monkeypatch.setattr(gram, "_stacked", watched)
    compared(landscape, values, (None, 5))
    assert widths == [count, count]
    names = [name for name in landscape.layout.names if "weight" in name]
    compared(landscape.restrict(names), values, (None,))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("numbers", "patches"), [(1 << 22, 1 << 20), (50, 100)])
@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"groups": 4, "bias": False, "stride": 2, "padding": 1},
        {"padding": "same", "kernel_size": (4, 3)},
        {"padding": "valid"},
        {"padding": (2, 1), "padding_mode": "circular", "groups": 2},
        {"padding": "same", "padding_mode": "reflect", "dilation": 2},
        {"padding": 1, "padding_mode": "replicate"},
    ],
)
def test_convolutions_of_any_padding_and_groups(options, numbers, patches, monkeypatch):
    monkeypatch.setattr(gram, "_NUMBERS", numbers)
    monkeypatch.setattr(gram, "_PATCHES", patches)
    monkeypatch.setattr(gram, "_stacked", None)
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(4, 8, **{"kernel_size": (3, 2)} | options), nn.Tanh(), nn.Flatten())
    x, y = torch.randn(7, 4, 6, 7), torch.randint(4, (7,))
    net = nn.Sequential(*front, nn.Linear(front(x).shape[1], 4)).double()
    compared(Landscape(net, "cross_entropy", (x.double(), y)), (x.double(), y), (None, 3))
    alike = {name: value for name, value in options.items() if name in ("groups", "padding_mode", "bias")}
    padding = options.get("padding", 0)
    alike["padding"] = padding if isinstance(padding, str) else 1
    net = nn.Sequential(
        nn.Conv1d(4, 8, 3, **alike), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    ).double()
    batch = torch.randn(7, 4, 6).double(), torch.randint(8, (7,))
    compared(Landscape(net, "cross_entropy", batch), batch, (None, 3))


class Words(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.words, self.norm = nn.Embedding(6, 5, padding_idx=padding), nn.LayerNorm((4, 5))
        self.inner, self.last = nn.LayerNorm(5), nn.Linear(5, 6)

    def forward(self, x):
        return self.last(torch.tanh(self.inner(self.norm(self.words(x))))).transpose(1, 2)


@pytest.mark.parametrize("numbers", [1 << 22, 100])
@pytest.mark.parametrize("padding", [None, 1])
def test_embeddings_and_normalisation_of_layers(padding, numbers, monkeypatch):
    monkeypatch.setattr(gram, "_NUMBERS", numbers)
    monkeypatch.setattr(gram, "_stacked", None)
    torch.manual_seed(0)
    words = torch.randint(5, (9, 4))
    targets = torch.where(torch.rand(9, 4) < 0.4, -100, words)
    targets[3] = -100  # an example that does not count
    landscape = Landscape(Words(padding).double(), "cross_entropy", (words, targets))
    compared(landscape, (words, targets), (None, 4))
    compared(landscape.restrict(["words.weight", "norm.bias", "inner.weight"]), (words, targets), (None,))


def test_normalisation_of_batches_by_what_was_seen(monkeypatch):
    monkeypatch.setattr(gram, "_stacked", None)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.BatchNorm1d(5),
    ).double()
    batch = torch.randn(8, 2, 5, 5).double(), torch.randint(5, (8,))
    net.train()(batch[0])
    compared(Landscape(net, "cross_entropy", batch), batch, (None, 3))


def test_examples_whose_losses_do_not_make_up_that_of_the_batch_are_noticed(values):
    def pairs(output, target):
        return (output - output.mean(dim=0)).square().mean() + F.mse_loss(output, target)

    assert nothing_for(nn.Linear(3, 3), values, pairs)


def test_losses_that_do_not_show_the_output_and_tied_weights_are_noticed(values):
    torch.manual_seed(0)
    loss = BatchLoss(lambda m, batch: F.mse_loss(m(batch[0]), batch[1]))
    assert nothing_for(nn.Linear(3, 3), values, loss)
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False))
    tied[2].weight = tied[0].weight
    assert nothing_for(tied, values)
    assert nothing_for(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), values)
    assert nothing_for(nn.Linear(3, 3), (values[0] * float("inf"), values[1]))


def test_the_module_is_left_as_it_was(values, snapshot):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double().train()
    landscape = Landscape(net, "mse", values)
    before = snapshot(net)
    assert example_gram(landscape, landscape.initial(), landscape.batches(5)) is not None
    assert snapshot(net) == before
    assert not net[0]._forward_hooks


@pytest.mark.parametrize("size", [None, 4])
def test_combined_gradients_are_sums_of_stacked_ones(size):
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).double()
    batch = torch.randn(11, 2, 6).double(), torch.randint(4, (11,))
    landscape = Landscape(net, "cross_entropy", batch)
    theta, weights = landscape.initial(), torch.randn(5, 11).double()
    expected = weights @ landscape.example_gradients(theta, batch)
    found = combined_gradients(landscape, theta, landscape.batches(size), weights)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    for wrong in (10, 12):
        with pytest.raises(ConfigurationError, match=r"do not fit"):
            combined_gradients(landscape, theta, landscape.batches(size), torch.ones(5, wrong).double())


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_products_with_vectors_are_those_of_stacked_gradients(size, count):
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)).double()
    batch = torch.randn(11, 2, 6).double(), torch.randint(4, (11,))
    landscape = Landscape(net, "cross_entropy", batch, penalty=lambda t: t @ t)
    theta, vectors = landscape.initial(), torch.randn(count, landscape.size).double()
    rows = landscape.example_gradients(theta, batch) - 2 * theta
    found = example_products(landscape, theta, landscape.batches(size), vectors)
    torch.testing.assert_close(found, rows @ vectors.T, rtol=1e-11, atol=1e-13)
    part = landscape.restrict("3.bias")
    found = example_products(part, part.initial(), part.batches(size), vectors[:, -4:])
    torch.testing.assert_close(found, rows[:, -4:] @ vectors[:, -4:].T, rtol=1e-11, atol=1e-13)
    with pytest.raises(ConfigurationError, match=r"give \(k, 73\)"):
        example_products(landscape, theta, landscape.batches(size), torch.ones(64).double())


def test_inputs_and_outputs_beyond_the_memory_leave_nothing():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    landscape = Landscape(net, "mse", (torch.randn(7, 3).double(), torch.randn(7, 2).double()))
    theta = landscape.initial()
    needed = 7 * 8 * (3 + 5 + 5 + 2)
    for size in (None, 3):
        assert example_gram(landscape, theta, landscape.batches(size), memory=needed) is not None
        assert example_gram(landscape, theta, landscape.batches(size), memory=needed - 1) is None


def test_what_is_stacked_beyond_the_memory_leaves_nothing():
    net = nn.Sequential(nn.Linear(3, 5), nn.GroupNorm(1, 5), nn.Linear(5, 2)).double()
    landscape = Landscape(net, "mse", (torch.randn(7, 3).double(), torch.randn(7, 2).double()))
    theta = landscape.initial()
    needed = 7 * 8 * (3 + 5 + 5 + 2 + 10)
    assert example_gram(landscape, theta, landscape.batches(), memory=needed) is not None
    assert example_gram(landscape, theta, landscape.batches(), memory=needed - 1) is None
