"""When probes measure."""

from itertools import pairwise

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import landscape as ls
from landscape.composition.configuration import dumps, loads
from landscape.errors import ConfigurationError


@settings(deadline=None, max_examples=40)
@given(
    st.floats(1.0001, 20, exclude_min=True),
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(0, 30),
    st.integers(1, 50),
)
def test_distances_grow_up_to_the_largest(growth, every, first, default):
    schedule = ls.Every(every, "Loss", growth=growth, first=first)
    due = [step for step in range(400) if schedule.due(step, default)]
    assert due[: max(first, 1)] == list(range(max(first, 1)))
    grown = [step for step in range(400) if ls.Every(every, "Loss", growth=growth).due(step, default)]
    assert sorted({*range(first), *grown}) == due
    largest = every or default
    for before, after in pairwise(grown):
        assert after - before == min(max(int(before * growth) - before, 1), largest)


def test_steps_asked_for_in_any_order_have_the_same_answer():
    schedule = ls.Every(10_000, "Loss", growth=1.7)
    late = schedule.due(4913, 10)
    forward = [schedule.due(step, 10) for step in range(5000)]
    assert forward == [schedule.due(step, 10) for step in reversed(range(5000))][::-1]
    assert forward[4913] == late


def test_a_run_and_a_recorder_measure_when_they_are_told_to(small):
    probes = ("Loss", ls.Every(1000, "GradientNorm", growth=2, first=3))
    run = evolve(small, probes=probes, steps=20).run()
    table = run.metrics[run.metrics["worker"] == "0"]
    assert table.dropna(subset="gradient_norm")["step"].tolist() == [0, 1, 2, 4, 8, 16, 20]  # and at the end
    net = nn.Linear(2, 1)
    landscape = ls.Landscape(net, "mse", (torch.ones(4, 2), torch.zeros(4, 1)))
    watch = ls.Recorder(landscape, [ls.Every(100, "Loss", first=2)], every=3)
    for step in range(7):
        watch(step)
    assert watch.metrics["step"].tolist() == [0, 1]


@pytest.mark.parametrize("format", ["json", "toml"])
def test_schedules_survive_a_configuration(small, format):
    value = evolve(small, probes=(ls.Every(100, "Loss", growth=1.5, first=7), "GradientNorm"))
    assert loads(dumps(value, format), format) == value


@pytest.mark.parametrize(
    ("options", "message"), [({"growth": 1.0}, "larger than 1"), ({"first": -1}, "at least 0")]
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ls.Every(10, "Loss", **options)
