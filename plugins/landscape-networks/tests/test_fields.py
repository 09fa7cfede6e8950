"""Fields of models and datasets: what is no possible value is refused when the component is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError


@pytest.mark.parametrize(
    "hidden",
    [4, "44", "abc", (2, 2.7), (2, 0), (True,), None, 3.5, {4: 4}, {4}, torch.nn.Linear(1, 1)],
    ids=repr,
)
def test_hidden_widths_are_a_list_of_whole_numbers(hidden):
    with pytest.raises(ConfigurationError, match=r"MLP: hidden=.* is not possible; give the widths"):
        ls.models.MLP(hidden=hidden)


def test_lists_and_arrays_of_widths_are_those_of_a_tuple():
    assert (
        ls.models.MLP(hidden=[3, 4]) == ls.models.MLP(hidden=np.array([3, 4])) == ls.models.MLP(hidden=(3, 4))
    )
    deep = ls.models.DeepLinear
    assert deep(widths=[2, 3, 2]) == deep(widths=np.array([2, 3, 2])) == deep(widths=(2, 3, 2))


@pytest.mark.parametrize(
    "widths", [(2, 2.7, 2), "222", (2, 2), 3, None, (2, True, 2), ("2", "2", "2")], ids=repr
)
def test_widths_of_deep_linear_networks_are_whole_numbers(widths):
    with pytest.raises(ConfigurationError, match=r"widths=.* must list the input"):
        ls.models.DeepLinear(widths=widths)


@pytest.mark.parametrize("examples", [0, 1.5, "1", True, None])
def test_numbers_of_examples_are_whole(examples):
    with pytest.raises(ConfigurationError, match=r"examples=.* must be a whole number"):
        ls.models.DeepLinear(examples=examples)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bias", "no"),
        ("bias", None),
        ("scale", "a"),
        ("scale", True),
        ("scale", float("nan")),
        ("outputs", True),
        ("outputs", 2.5),
        ("outputs", "2"),
        ("activation", 3),
        ("activation", "rlu"),
        ("initialisation", None),
    ],
)
def test_other_fields_of_a_perceptron_are_checked(field, value):
    with pytest.raises(ConfigurationError, match=rf"MLP: {field}={value!r} is not possible"):
        ls.models.MLP(**{field: value})


@pytest.mark.parametrize("fraction", ["a", True, 1.0, -0.1, float("nan")])
def test_shares_of_examples_are_numbers(fraction):
    with pytest.raises(ConfigurationError, match="share of the examples"):
        ls.datasets.Digits(test_fraction=fraction)
