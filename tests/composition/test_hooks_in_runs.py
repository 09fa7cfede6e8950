"""Plugins that look on while real experiments run: whatever they do, the run goes on."""

from __future__ import annotations

import sys
import warnings

import pandas as pd
import pytest
import torch

import landscape as ls
from landscape.plugins import PluginWarning, hookimpl
from landscape.plugins.provider import metadata_entries

HOOKS = (
    "landscape_run_started",
    "landscape_step",
    "landscape_measured",
    "landscape_snapshot",
    "landscape_run_finished",
    "landscape_provenance",
    "landscape_figures",
    "landscape_tables",
)


@pytest.fixture(autouse=True)
def _hooks_of_the_tests_alone(monkeypatch):
    installed = {entry.qualified_name for entry in metadata_entries("landscape")}
    monkeypatch.setenv("LANDSCAPE_DISABLE_PLUGINS", ",".join(installed))
    monkeypatch.delenv("LANDSCAPE_STRICT_HOOKS")


@pytest.fixture
def short():
    return ls.Experiment(
        model=ls.models.MLP(hidden=(3,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1, batch_size=32),
        probes=("Loss",),
        steps=3,
        snapshots=2,
        seed=1,
    )


def plugin_of(hooks, act):
    """Return a plugin that calls ``act(hook)`` first of all in each of `hooks`."""

    def implementation(hook):
        return staticmethod(hookimpl(tryfirst=True)(lambda: act(hook)))

    return type("Plugin", (), {hook: implementation(hook) for hook in hooks})()


def raising(hook):
    raise RuntimeError(f"no {hook}")


def leaving(hook):
    sys.exit(3)


def drawing(hook):
    torch.manual_seed(11)


@pytest.mark.parametrize("act", [raising, leaving])
@pytest.mark.parametrize("as_errors", [False, True])
def test_no_hook_can_end_a_run(isolated_registry, short, capsys, act, as_errors):
    called = []
    isolated_registry.register(plugin_of(HOOKS, called.append), name="witness")
    isolated_registry.register(plugin_of(HOOKS, act), name="culprit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error" if as_errors else "always", PluginWarning)
        run = short.run()
        report = run.report()
    assert run.status == "complete"
    assert report.exists()
    assert set(called) == set(HOOKS)
    assert called.count("landscape_step") == 3
    reported = [str(each.message) for each in caught if each.category is PluginWarning]
    if as_errors:
        assert reported == []
        reported = [line for line in capsys.readouterr().err.splitlines() if line.startswith("PluginWarning")]
    for hook in HOOKS:
        # What is called once per run (and once per page) has nothing to be asked again for.
        times = sum(f"'culprit' failed in {hook} " in text for text in reported)
        assert times == called.count(hook) if hook == "landscape_figures" else times == 1, hook


def test_a_run_that_is_looked_at_is_the_same_run(isolated_registry, short):
    alone = short.run()
    isolated_registry.register(plugin_of(HOOKS, drawing), name="drawing")
    before = torch.get_rng_state()
    looked_at = short.run()
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(alone.metrics, looked_at.metrics, check_exact=True)


def test_no_hook_can_end_or_change_somebodys_own_program(isolated_registry, line):
    def spoil(hook):
        torch.manual_seed(11)
        raise RuntimeError(f"no {hook}")

    def train(recorder):
        torch.manual_seed(0)
        for step in range(3):
            if recorder is not None:
                recorder(step)
            with torch.no_grad():
                line.module.weight += torch.rand(())
        return line.module.weight.item()

    expected = train(None)
    with torch.no_grad():
        line.module.weight.fill_(0.0)
    isolated_registry.register(plugin_of(HOOKS, spoil), name="culprit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PluginWarning)
        recorder = ls.Recorder(line, ["Loss"], store="runs", run="mine")
        assert train(recorder) == expected
        recorder.close()
    assert ls.open("runs/mine").status == "complete"
    texts = [str(each.message) for each in caught if each.category is PluginWarning]
    assert 0 < len(texts) == len(set(texts))


class Tabulating:
    """A plugin with a table of every run."""

    def __init__(self, tables):
        self.tables = tables

    @hookimpl
    def landscape_tables(self, run):
        return self.tables(run)


def test_tables_of_plugins_stand_in_the_run_and_its_report(isolated_registry, short):
    def count(run):
        # Everything else is recorded when a plugin is asked.
        return {
            "rows": pd.DataFrame({"rows": [len(run.metrics)], "snapshots": [len(run.directory.snapshots())]})
        }

    isolated_registry.register(Tabulating(count), name="counting")
    run = short.run()
    assert run.tables["rows"].to_dict("list") == {"rows": [len(run.metrics)], "snapshots": [3]}
    assert run.provenance["from_plugins"]["counting"] == {"tables": ["rows"]}
    assert (run.path / "tables/rows.csv").is_file()
    assert run.verify() == []
    assert "Rows." in run.report().read_text(encoding="utf-8")


def test_tables_of_plugins_stand_in_a_critical_point_study(isolated_registry):
    def count(run):
        return {"rows": pd.DataFrame({"rows": [len(run.tables["summary"])]})}

    study = ls.CriticalPointStudy(ls.models.DeepLinear((1, 1, 1)), ls.solvers.Monodromy(), samples=2)
    isolated_registry.register(Tabulating(count), name="counting")
    run = study.run()
    assert run.tables["rows"]["rows"].tolist() == [2]
    assert run.provenance["from_plugins"]["counting"] == {"tables": ["rows"]}
    assert run.verify() == []


def test_a_recorder_asks_for_tables_when_it_is_closed_and_not_when_it_failed(isolated_registry):
    def count(run):
        return {"rows": pd.DataFrame({"rows": [len(run.metrics)]})}

    isolated_registry.register(Tabulating(count), name="counting")
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(4, 1), torch.ones(4, 1)))
    with ls.Recorder(line, ["Loss"], every=1, store="runs", run="well") as watch:
        watch(0)
        watch(1)
    run = ls.open("runs/well")
    assert run.tables["rows"]["rows"].tolist() == [2]
    assert run.provenance["from_plugins"]["counting"] == {"tables": ["rows"]}
    assert run.verify() == []
    # Gone on with, its tables are made anew.
    with ls.Recorder(line, ["Loss"], every=1, store="runs", run="well") as watch:
        watch(2)
    assert ls.open("runs/well").tables["rows"]["rows"].tolist() == [3]
    watch = ls.Recorder(line, ["Loss"], store="runs", run="badly")
    watch(0)
    watch.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert ls.open("runs/badly").status == "failed"
    assert not ls.open("runs/badly").tables


def test_a_sweep_and_a_study_are_asked_when_their_parts_have_answered(isolated_registry, short):
    def join(run):
        if run.kind == "experiment":
            return {"seed": pd.DataFrame({"seed": [run.experiment.seed]})}
        return {"seed": pd.concat([part.tables["seed"] for part in run.stages.values()], ignore_index=True)}

    isolated_registry.register(Tabulating(join), name="joining")
    sweep = ls.Sweep(short.replace(steps=1), {"seed": (4, 5)})
    run = ls.Study((ls.Stage("one", short), ls.Stage("several", sweep))).run()
    assert run.tables["seed"]["seed"].tolist() == [1, 4, 5]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"rows": [1, 2]}, "not a pandas.DataFrame"),
        ({3: pd.DataFrame()}, "not a pandas.DataFrame by name"),
        (
            {"rows": pd.DataFrame({"x": [1]}), "again": pd.DataFrame([[1, 2]], columns=["x", "x"])},
            "distinct strings",
        ),
        (3, "not iterable"),
    ],
)
def test_tables_that_are_none_are_the_fault_of_their_plugin(isolated_registry, short, answer, complaint):
    isolated_registry.register(Tabulating(lambda run: answer), name="wrong")
    isolated_registry.register(Tabulating(lambda run: {"right": pd.DataFrame({"x": [1]})}), name="right")
    with pytest.warns(PluginWarning, match=complaint):
        run = short.run()
    assert run.status == "complete"
    assert "right" in run.tables


def test_two_plugins_cannot_fill_one_table(isolated_registry, short):
    for name in ("one", "other"):
        isolated_registry.register(Tabulating(lambda run: {"same": pd.DataFrame({"x": [1]})}), name=name)
    with pytest.warns(PluginWarning, match="a table 'same', which the run has already"):
        assert short.run().status == "complete"


def test_the_command_prints_the_tables_of_plugins(isolated_registry, short, tmp_path, capsys):
    from landscape.cli import main

    table = pd.DataFrame({"quantity": ["loss"], "theory": [0.123456], "z": [float("nan")]})
    isolated_registry.register(Tabulating(lambda run: {"theory": table}), name="theory")
    ls.save(short, tmp_path / "short.toml")
    assert main(["run", str(tmp_path / "short.toml"), "--no-report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Theory", "quantity  theory  z", "    loss  0.1235  -"]
    assert lines[-1].startswith("runs") or "runs" in lines[-1]
