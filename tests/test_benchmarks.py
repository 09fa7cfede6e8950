"""The part of the benchmarks that is meant for other machines runs here too, on tiny networks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def benchmark(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    for module in [module for module in sys.modules if module.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, module)
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def curvature(monkeypatch):
    pytest.importorskip("sklearn")
    return benchmark("curvature", monkeypatch)


@pytest.fixture
def critical_points(monkeypatch):
    return benchmark("critical_points", monkeypatch)


def rows(printed):
    """Return the cells of all rows of the tables that were printed, heads left out."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    head, *others = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(other) for other in others} == {len(head)}
    return others


def test_counts_without_a_formula_are_printed_with_how_they_are_known(critical_points, capsys, monkeypatch):
    monkeypatch.setattr(
        critical_points, "COUNTED", [((1, 1, 1, 1), 1, None), ((2, 1, 2), 2, None), ((3, 2, 1), 1, (2, 1))]
    )
    critical_points.main(["--counts", "--samples", "1"])
    deep, two, convolution = rows(capsys.readouterr().out)
    assert deep[:6] == ["1, 1, 1, 1", "1", "", "3", "17", "16"]
    assert two[:6] == ["2, 1, 2", "2", "", "4", "17", "16"]
    assert convolution[:6] == ["3, 2, 1", "1", "width 2, stride 1", "4", "9", "8"]
    for row in (deep, two, convolution):
        assert row[6] == "all"
        assert row[7] == "2 trace test"


def test_largest_networks_are_solved_and_said_to_be_complete_or_not(critical_points, capsys, monkeypatch):
    monkeypatch.setattr(critical_points, "LARGEST", [((1, 2, 2), 1), ((1, 1, 1, 1), 1)])
    critical_points.main(["--largest"])
    bounded, deep = rows(capsys.readouterr().out)
    assert bounded[:6] == ["1, 2, 2", "1", "6", "33", "33", "proved"]
    assert deep[:6] == ["1, 1, 1, 1", "1", "3", "17", "17", "trace test"]


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


def test_every_kind_of_matrix_and_every_probe_has_its_cost(curvature, capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    problem = curvature.Problem("tiny", module, torch.randn(40, 3), torch.arange(40) % 3)
    curvature.compare_matrices(problem, 2)
    matrices = rows(capsys.readouterr().out)
    assert [row[0] for row in matrices] == list(curvature.MATRICES)
    for row in matrices:
        assert all(float(cost) > 0 for cost in row[1:5])
        assert float(row[5]) < 1e-5
    chosen = [probe for probe in curvature.PROBES if probe[0].startswith("Covariance")]
    monkeypatch.setattr(
        curvature, "PROBES", [(name, {**options, "batches": 20}, beside) for name, options, beside in chosen]
    )
    curvature.compare_probes(problem, 2)
    costs = rows(capsys.readouterr().out)
    assert [row[0].partition("(")[0] for row in costs] == ["CovarianceHessianAlignment"] * 2
    assert all(float(row[1]) > 0 for row in costs)
