from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from landscape.errors import ConfigurationError
from landscape.objective import Layout

shapes = st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=3), min_size=1, max_size=5)


class Holder(nn.Module):
    def __init__(self, shapes, frozen=()):
        super().__init__()
        for number, shape in enumerate(shapes):
            self.register_parameter(
                f"p{number}", nn.Parameter(torch.randn(shape), requires_grad=number not in frozen)
            )


@given(shapes, st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_vector_and_state_dict_are_inverse_to_each_other(shapes, seed):
    torch.manual_seed(seed)
    module = Holder(shapes)
    layout = Layout.of(module)
    theta = layout.vector(module)
    assert theta.shape == (layout.size,) == (sum(p.numel() for p in module.parameters()),)
    other = Holder(shapes)
    other.load_state_dict(layout.state_dict(theta))
    for mine, yours in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, yours)
    assert torch.equal(layout.vector(other), theta)
    assert torch.equal(layout.flatten(layout.split(theta)), theta)


@given(shapes, st.data())
@settings(max_examples=40, deadline=None)
def test_slices_partition_the_vector_and_say_where_each_parameter_stands(shapes, data):
    frozen = data.draw(st.sets(st.integers(1, 4)))
    module = Holder(shapes, frozen)
    layout = Layout.of(module)
    theta = layout.vector(module)
    covered = []
    for name, place in layout.slices.items():
        parameter = dict(module.named_parameters())[name]
        assert parameter.requires_grad
        assert torch.equal(theta[place], parameter.detach().reshape(-1))
        covered += range(place.start, place.stop)
    assert covered == list(range(layout.size))


@given(st.integers(1, 4))
@settings(max_examples=4, deadline=None)
def test_split_takes_leading_dimensions(rows):
    layout = Layout.of(nn.Linear(2, 3))
    theta = torch.randn(rows, layout.size)
    parts = layout.split(theta)
    assert parts["weight"].shape == (rows, 3, 2)
    for row in range(rows):
        assert torch.equal(parts["weight"][row], layout.split(theta[row])["weight"])


def test_a_tied_parameter_stands_once_and_is_written_under_both_names():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    module[2].weight = module[0].weight
    layout = Layout.of(module)
    assert layout.names == ("0.weight", "0.bias", "2.bias")
    assert layout.size == 15
    assert layout.aliases == (("2.weight", "0.weight"),)
    theta = torch.randn(15)
    module.load_state_dict(layout.state_dict(theta))
    assert module[2].weight is module[0].weight
    assert torch.equal(layout.vector(module), theta)
    assert layout.select("2.*") == ("0.weight", "2.bias")


def test_a_module_used_twice_is_laid_out_once():
    shared = nn.Linear(2, 2)
    assert Layout.of(nn.Sequential(shared, nn.Tanh(), shared)).size == 6


def test_select_takes_patterns_and_names_of_submodules():
    layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3)))
    assert layout.select("*.weight") == ("0.weight", "1.weight")
    assert layout.select("1") == ("1.weight", "1.bias")
    assert layout.select(["1.bias", "0.bias"]) == ("0.bias", "1.bias")
    assert layout.indices("0.bias").tolist() == [2, 3]
    assert layout.restricted("1").names == ("1.weight", "1.bias")
    with pytest.raises(ConfigurationError, match=r"No trainable parameter matches '1\.wieght'.*1\.weight"):
        layout.select("1.wieght")
    with pytest.raises(ConfigurationError, match="at least one pattern"):
        layout.select([])


def test_layouts_compare_by_value():
    def layout():
        module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        module[1].weight = module[0].weight
        return Layout.of(module)

    assert layout() == layout()
    assert hash(layout()) == hash(layout())
    assert layout() != Layout(layout().names, layout().shapes)  # without the tie


def test_what_has_no_layout_is_refused_with_the_cure():
    with pytest.raises(ConfigurationError, match="requires_grad"):
        Layout.of(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(ConfigurationError, match=r"one batch"):
        Layout.of(nn.LazyLinear(2))
    with pytest.raises(ConfigurationError, match="real and imaginary"):
        Layout.of(nn.Linear(2, 2, dtype=torch.complex64))
    layout = Layout.of(nn.Linear(2, 2))
    with pytest.raises(ConfigurationError, match="last dimension must be 6"):
        layout.split(torch.zeros(5))
    with pytest.raises(ConfigurationError, match="'bias' is missing"):
        layout.flatten({"weight": torch.zeros(2, 2)})
    with pytest.raises(ConfigurationError, match=r"shape \(2, 3\), the layout says \(2, 2\)"):
        layout.flatten({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
