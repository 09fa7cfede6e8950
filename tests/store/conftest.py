"""Runs and weights to store."""

import pytest
import torch

from landscape.store import RunStore


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def run(store):
    run = store.create({"experiment": {"seed": 1}}, {"python": "3"}, kind="experiment")
    yield run
    run.close("complete")


@pytest.fixture
def weights():
    def make(seed, *shape):
        return torch.randn(*(shape or (6,)), generator=torch.Generator().manual_seed(seed))

    return make
