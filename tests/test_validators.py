"""Validators for the fields of components."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attrs import field, frozen

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.validators import as_tuple, at_least, between, each_at_least, number, one_of, optional, whole


def made(validator, value, **settings):
    @frozen
    class Plan:
        entry: object = field(validator=validator, **settings)

    return Plan(value).entry


@pytest.mark.parametrize(
    "validator",
    [
        at_least(0),
        whole,
        number(),
        number(at_least=0),
        between(0, 1),
        one_of(("a", "b")),
        each_at_least(0, "no."),
    ],
)
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, True, None, "1", [1], object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_by_value(validator, value):
    with pytest.raises(ConfigurationError, match=r"Plan: entry=.* is not possible"):
        made(validator, value)
    if value is not None:
        with pytest.raises(ConfigurationError, match="Plan: entry="):
            made(optional(validator), value)
    else:
        assert made(optional(validator), value) is None


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), 3])
def test_whole_numbers_of_numpy_are_whole_numbers(value):
    for validator in (at_least(3), whole, number(above=2)):
        assert made(validator, value) == 3
    assert made(each_at_least(3, "no."), (value, value), converter=as_tuple) == (3, 3)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1, 2], (1, 2)),
        (range(2), (0, 1)),
        (np.array([1, 2]), (1, 2)),
        ("12", "12"),
        ({1}, {1}),
        (3, 3),
        (None, None),
    ],
)
def test_sequences_become_tuples_and_nothing_else_does(given, kept):
    assert as_tuple(given) == kept
    assert type(as_tuple(given)) is type(kept)
    if isinstance(kept, tuple):
        assert all(type(entry) is int for entry in as_tuple(given))


@pytest.mark.parametrize("tolerance", [math.inf, math.nan, 0, -1, 1, 100, "a", True])
def test_tolerances_of_a_spectrum_are_parts_of_its_radius(tolerance):
    with pytest.raises(ConfigurationError, match=r"HessianSpectrum: tolerance=.*number between 0 and 1"):
        ls.probes.HessianSpectrum(tolerance=tolerance)


@pytest.mark.parametrize("wrong", [-1, 2.5, True, "5"])
def test_numbers_of_eigenvalues_are_whole(wrong):
    with pytest.raises(ConfigurationError, match=r"HessianSpectrum: k=.*whole number, at least 0"):
        ls.probes.HessianSpectrum(k=wrong)


def test_more_eigenvalues_than_there_can_be_are_refused_and_not_looked_for():
    import torch

    x = torch.ones(3, 2)
    landscape = ls.Landscape(torch.nn.Linear(2, 1), "mse", (x, x[:, :1]))
    with pytest.raises(ConfigurationError, match=r"k=1000000000.*the landscape has 3 weights"):
        ls.measure(landscape, [ls.probes.HessianSpectrum(k=10**9)])
