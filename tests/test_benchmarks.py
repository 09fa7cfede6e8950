"""The part of the benchmarks that is meant for other machines runs here too, on tiny networks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def curvature(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("benchmarks.curvature")


def test_curvature_of_large_networks_runs_with_tiny_ones_on_a_cpu(curvature, capsys):
    curvature.main(["--device", "cpu", "--tiny"])
    printed = capsys.readouterr().out
    assert "ResNet-18" in printed
    assert "Transformer" in printed
    assert "five largest eigenvalues" in printed
    assert "Fits: 42,634 weights" in printed


def test_goals_say_what_was_met_missed_and_not_measured(curvature, capsys, monkeypatch):
    (first, second, *_), goals = curvature.GOALS, curvature.GOALS
    monkeypatch.setattr(curvature, "reached", {first: goals[first] / 2, second: goals[second] * 2})
    curvature.goals()
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ") and ":" in row]
    assert rows[0].endswith("| met |")
    assert rows[1].endswith("| missed |")
    assert all("not measured" in row for row in rows[2:])
