"""Every rule for models, datasets, starts, schedules, stop rules and backends is broken once."""

from __future__ import annotations

import itertools

import attrs
import pytest
import torch

from landscape.interfaces import Backend, Dataset, Model, Receipt, Schedule, Start, StopRule
from landscape.objective import as_data
from landscape.testing import (
    ConformanceError,
    check_backend,
    check_dataset,
    check_model,
    check_schedule,
    check_start,
    check_stop_rule,
)

COUNT = itertools.count()


def broken(match):
    return pytest.raises(ConformanceError, match=match)


@attrs.frozen
class CarelessModel(Model):
    """Leaves the initialisation to torch, which draws from the global state."""

    def build(self, example, generator):
        return torch.nn.Linear(3, 2)


@attrs.frozen
class ForgetfulModel(Model):
    """Gives each module other weights."""

    def build(self, example, generator):
        module = torch.nn.Linear(3, 2, device="meta").to_empty(device="cpu")
        torch.nn.init.constant_(module.weight, float(next(COUNT)))
        torch.nn.init.zeros_(module.bias)
        return module


@attrs.frozen
class Unsplit(Dataset):
    def load(self, generator):
        return {"test": as_data((torch.zeros(2, 1), torch.zeros(2)))}


@attrs.frozen
class Restless(Dataset):
    def load(self, generator):
        return {"train": as_data((torch.full((2, 1), float(next(COUNT))), torch.zeros(2)))}


@attrs.frozen
class Lonely(Start):
    def begin(self, landscape, workers, draw):
        return landscape, draw(0)


@attrs.frozen
class Wandering(Start):
    def begin(self, landscape, workers, draw):
        return landscape, torch.stack([draw(next(COUNT)) for _ in range(workers)])


@attrs.frozen
class Counting(Schedule):
    def changes(self, step):
        return {"lr": float(next(COUNT))}


@attrs.frozen
class Wordy(Schedule):
    def changes(self, step):
        return {"lr": "small"}


@attrs.frozen
class Yes(StopRule):
    def reason(self, rows):
        return True


@attrs.frozen
class Spoiling(StopRule):
    def reason(self, rows):
        for row in rows:
            row["loss"] = 0.0
        return None


@attrs.frozen
class Silent(Backend):
    def map(self, tasks):
        yield from ()


@attrs.frozen
class Boasting(Backend):
    def map(self, tasks):
        for task in tasks:
            yield Receipt(task.key, "nowhere")


@pytest.mark.parametrize(
    ("check", "component", "rule"),
    [
        (check_model, CarelessModel, "global random state"),
        (check_model, ForgetfulModel, "initialises differently"),
        (check_dataset, Unsplit, "split 'train'"),
        (check_dataset, Restless, "different split 'train'"),
        (check_start, Lonely, "positions of shape"),
        (check_start, Wandering, "begins elsewhere"),
        (check_schedule, Counting, "asked before"),
        (check_schedule, Wordy, "finite numbers"),
        (check_stop_rule, Yes, "a sentence or None"),
        (check_stop_rule, Spoiling, "changes its argument rows"),
        (check_backend, Silent, "one outcome per task"),
        (check_backend, Boasting, "a Failure that says why"),
    ],
)
def test_a_broken_rule_is_named(check, component, rule):
    with broken(rule):
        check(component)


def test_a_component_of_another_kind_is_refused():
    with broken("does not derive from Dataset"):
        check_dataset(Yes)
