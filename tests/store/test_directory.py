"""Runs: written, read back, resumed, refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from attrs import frozen
from landscape.errors import ConfigurationError, RunError
from landscape.store import RunDirectory, RunStore, SnapshotSpan


@frozen
class State:
    position: torch.Tensor
    step: int = 0


@pytest.fixture
def run(tmp_path):
    run = RunStore(tmp_path / "runs").create({"seed": 1, "name": "x"}, {"python": "3"}, kind="experiment")
    yield run
    run.close("complete")


def weights(seed, size=6):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_a_run_reads_back_what_was_written(run):
    run.write_row({"step": 0, "worker": "0", "loss": 0.5, "accuracy": float("nan")})
    run.write_row({"step": 1, "worker": "0", "loss": math.inf, "gap": np.float64(2.0)})
    run.write_snapshot(0, {"0": weights(0), "centre": weights(1)}, {"all": {"running": torch.ones(2)}})
    run.write_arrays("Spectrum", 0, "0", {"values": np.arange(3.0)})
    again = RunDirectory(run.path)
    metrics = again.metrics
    assert list(metrics) == ["step", "worker", "loss", "accuracy", "gap"]
    assert metrics["loss"].tolist() == [0.5, math.inf]
    assert math.isnan(metrics["accuracy"][0])
    (snapshot,) = again.snapshots()
    assert snapshot.labels == ("0", "centre")
    assert torch.equal(snapshot.weights("centre"), weights(1))
    assert snapshot.buffers("0")["running"].tolist() == [1, 1]
    assert again.arrays("Spectrum")[0].arrays["values"].tolist() == [0, 1, 2]
    assert again.configuration == {"seed": 1, "name": "x"}
    assert (again.kind, again.status) == ("experiment", "running")


def test_every_line_on_disk_is_standard_json(run):
    run.write_row({"step": 0, "worker": "0", "loss": float("nan"), "bound": -math.inf})
    (line,) = (run.path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=lambda token: pytest.fail(token))
    assert record == {"step": 0, "worker": "0", "loss": "NaN", "bound": "-Infinity", "attempt": 0}
