"""Every probe of curvature and gradient noise, wherever a user can measure: in experiments, loops and checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch

import landscape as ls
from landscape.cli import main
from landscape.plugins.first_party import FIRST_PARTY

RECIPE = """
[experiment]
steps = 8
snapshots = 4
seed = 0
model = { component = "MLP", hidden = [2] }
dataset = { component = "Digits", examples = 40 }
walker = { component = "GD", lr = 0.1 }
probes = []
"""
#: All that the two plugins bring, with what makes them quick, or possible, on 32 digits.
OPTIONS: dict[str, dict[str, object]] = {
    "CurvatureDensity": {"samples": 2, "steps": 12},
    "CurvatureDiagonal": {"samples": 4},
    "CurvatureTrace": {"samples": 4, "per_layer": True},
    "EigenvaluesNear": {"near": 0.1, "k": 2},
    "GradientHessianOverlap": {"k": 3, "batches": 4, "batch_size": 8},
    "HessianSpectrum": {"k": 3, "bottom": 1},
    "GradientCovariance": {"batches": 8, "per_example": True},
    "CovarianceHessianAlignment": {"k": 3, "batches": 8},
    "GradientNoiseScale": {"examples": 16, "curvature": True},
}
PROBES = sorted(
    name
    for (kind, name), distribution in FIRST_PARTY.items()
    if kind == "probes" and distribution in ("landscape-hessian", "landscape-covariance")
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    monkeypatch.delenv("LANDSCAPE_STORE", raising=False)
    (tmp_path / "recipe.toml").write_text(RECIPE)


def made(name):
    return ls.plugins.get("probes", name)(**OPTIONS.get(name, {}))


def typed(name):
    """Return the probe as it is written on the command line."""
    fields = ",".join(
        f"{field}={str(value).lower() if isinstance(value, bool) else value}"
        for field, value in OPTIONS.get(name, {}).items()
    )
    return f"{name}:{fields}" if fields else name


def schedules(probe):
    """Return the first steps dense and then every fifth, and a logarithmic schedule beside it."""
    return [ls.Every(5, probe, first=2), ls.Every(100, probe, growth=2, label="log")]


def numbers(row):
    """Return what a row of a table measured, once."""
    columns = [name for name in row.index if name not in ("step", "worker", "at", "warnings")]
    return row[[name for name in columns if "log." not in name]].astype(float).dropna().sort_index()


def same(table, row, expected, digits=12):
    pd.testing.assert_series_equal(
        numbers(table.iloc[row]), numbers(expected), check_names=False, rtol=10.0**-digits, atol=10.0**-digits
    )


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_measures_the_same_in_experiments_loops_checkpoints_and_on_the_command_line(name):
    probe = made(name)
    experiment = ls.load("recipe.toml").replace(probes=tuple(schedules(probe)))
    run = experiment.run(store="runs")
    steps = [snapshot.step for snapshot in run.directory.snapshots()]
    assert steps == [0, 4, 8]

    # A training loop of the user's own, from the same weights.
    landscape = experiment.landscapes()["train"]
    module = landscape.module
    module.load_state_dict(landscape.layout.state_dict(run.directory.snapshots()[0].weights("0")))
    x, y = landscape.data.everything()
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)
    with ls.Recorder(landscape, schedules(probe), every=4, store="loops", run="loop") as watch:
        for step in range(9):
            watch(step)
            if not step % 4:
                torch.save(module.state_dict(), f"epoch-{step}.pt")
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            sgd.step()
    loop = ls.open("loops/loop").metrics
    pd.testing.assert_frame_equal(loop, watch.metrics, check_dtype=False)

    # A subspace has none before it at first.
    first = [] if name == "HessianSubspaceOverlap" else [0]
    for table, last in ((run.metrics, [8]), (loop, [])):
        column = (
            numbers(table.iloc[-1]).index[0] if last else numbers(table[table["step"] == 5].iloc[0]).index[0]
        )
        assert table.dropna(subset=column)["step"].tolist() == [*first, 1, 5, *last]
        assert table.dropna(subset=f"log.{column}")["step"].tolist() == [*first, 1, 2, 4, 8]

    # Checkpoints: one, a list of them, the files of the loop, and those of the run.
    files = [f"epoch-{step}.pt" for step in (0, 4, 8)]
    one = ls.measure(landscape, [probe], at=files[0])
    several = ls.measure(landscape, [probe], at=files)
    snapshots = sorted(map(str, Path("loops/loop/weights").iterdir()))
    tables = {}
    for label, arguments in {
        "files": [*files, "--experiment", "recipe.toml"],
        "recorded": [*snapshots, "--experiment", "recipe.toml"],
        "run": [str(run.path)],
    }.items():
        assert main(["probe", *arguments, "--probe", typed(name), "--csv", f"{label}.csv"]) == 0
        tables[label] = pd.read_csv(f"{label}.csv")
        assert len(tables[label]) == 3
    for table in (loop, one, several, *tables.values()):
        same(table, 0, run.metrics.iloc[0])
    for row in (1, 2):
        same(tables["files"], row, several.iloc[row])
        same(tables["recorded"], row, several.iloc[row])


@pytest.mark.parametrize("name", PROBES)
def test_a_recorder_of_a_few_layers_leaves_checkpoints_of_the_whole_network(name):
    """The loop trains all weights: what does not vary on the landscape moves all the same."""
    probe = made(name)
    landscape = ls.load("recipe.toml").landscapes()["train"]
    module = landscape.module
    names = landscape.layout.names
    part = landscape.restrict(names[-2:])
    x, y = landscape.data.everything()
    sgd = torch.optim.SGD(module.parameters(), lr=0.5)
    states = []
    with ls.Recorder(part, [probe], every=3, store="loops", run="part") as watch:
        for step in range(4):
            watch(step)
            states.append(copy.deepcopy(module.state_dict()))
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            sgd.step()
    run = ls.open("loops/part")
    assert run.configuration["recorder"]["restricted_to"] == list(names[-2:])
    files = sorted(map(str, Path("loops/part/weights").iterdir()))
    assert len(files) == 2
    # The same at the weights of those steps, at the files, in the run, and on the command line.
    expected = ls.measure(part, [probe], at=[states[0], states[3]])
    command = ["probe", *files, "--probe", typed(name), "--experiment", "recipe.toml", "--csv", "part.csv"]
    assert main([*command, "--restrict", names[-2], "--restrict", names[-1]]) == 0
    for table in (ls.measure(part, [probe], at=files), pd.read_csv("part.csv")):
        for row in (0, 1):
            same(table, row, expected.iloc[row])
    again = watch.run.measure([probe])
    assert again["step"].tolist() == [0, 3]
    for row in (0, 1):
        same(again, row, watch.metrics.iloc[row], digits=6)
    same(again, 0, expected.iloc[0])
    # Without the restriction: the landscape of the whole network at the same weights.
    assert main(command) == 0
    table, whole = pd.read_csv("part.csv"), ls.measure(landscape, [probe], at=[states[0], states[3]])
    for row in (0, 1):
        same(table, row, whole.iloc[row])


def test_snapshots_without_what_was_frozen_are_refused_with_the_cure(capsys):
    landscape = ls.load("recipe.toml").landscapes()["train"]
    first = next(landscape.module.parameters())
    first.requires_grad_(False)
    part = ls.Landscape(landscape.module, "cross_entropy", landscape.data.everything())
    with ls.Recorder(part, ["HessianSpectrum"], store="loops", run="frozen") as watch:
        watch(0)
    (file,) = map(str, Path("loops/frozen/weights").iterdir())
    assert main(["probe", file, "--probe", "HessianSpectrum", "--experiment", "recipe.toml"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "is missing (1 of 4 are)" in said
    assert "torch.save(module.state_dict(), path)" in said
    # Under the landscape that it was recorded on, it is at home.
    assert len(ls.measure(part, ["HessianSpectrum"], at=file)) == 1
