"""Wrong arguments and damaged runs: a typed error that names the value and the cure, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.cli import main
from landscape.errors import ConfigurationError, DataError, LandscapeError, RunError


@pytest.fixture
def tiny():
    return ls.Experiment(
        model=ls.models.MLP(hidden=(2,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1, batch_size=64),
        probes=("Loss",),
        steps=2,
    )


# -- where to run and where to write ----------------------------------------------------------------------


def test_a_backend_is_given_by_name_by_class_or_as_a_value(tiny):
    runs = [tiny.run(store="s", backend=given) for given in ("InProcess", ls.backends.InProcess)]
    assert [run.status for run in runs] == ["complete", "complete"]
    assert runs[0].metrics.equals(runs[1].metrics)
    sweep = ls.Sweep(tiny, {"seed": [0, 1]})
    assert sweep.run(store="sweeps", backend="InProcess").status == "complete"


@pytest.mark.parametrize(
    ("backend", "message"),
    [("InProces", "Did you mean 'InProcess'"), (3, "backend=3 is no backend"), (dict, "is no backend")],
)
def test_what_is_no_backend_is_refused_before_anything_is_made(tiny, backend, message):
    sweep = ls.Sweep(tiny, {"seed": [0, 1]})
    for recipe in (tiny, sweep, ls.Study(stages=[ls.Stage("one", sweep)])):
        with pytest.raises(ConfigurationError, match=message):
            recipe.run(store="s", backend=backend)
    assert not os.path.exists("s")


@pytest.mark.parametrize("store", [3, ["s"], b"s", "", "a\0b"])
def test_what_is_no_store_is_refused_at_once(tiny, store):
    with pytest.raises(RunError, match=r"store=.* is no path"):
        tiny.run(store=store)
    with pytest.raises(RunError, match=r"store=.* is no path"):
        ls.RunStore(store)


def test_a_store_that_cannot_be_is_said_before_the_data_is_read(tiny, monkeypatch):
    monkeypatch.setattr(ls.Experiment, "landscapes", lambda self: pytest.fail("read data"))
    Path("file").write_text("in the way")
    for store in ("file", "file/runs", "/dev/null/runs"):
        with pytest.raises(RunError, match=r"cannot be a store: .* is no folder"):
            tiny.run(store=store)
    assert sorted(os.listdir()) == ["file"]


@pytest.mark.parametrize("steps", ["3", (-1,), 2.5, ("a",)])
def test_steps_at_which_to_pause_are_whole_numbers(tiny, steps):
    with pytest.raises(ConfigurationError, match="pause_at="):
        tiny.run(store="s", pause_at=steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": 3}, "probes: 3 is not a probe"),
        ({"probes": None}, "probes: None is not a probe"),
        ({"best": 3}, "best=3"),
    ],
)
def test_fields_of_another_kind_are_named(tiny, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        evolve(tiny, **changes)


def test_one_probe_class_alone_stands_for_itself(tiny):
    assert evolve(tiny, probes=ls.probes.Loss).probes == tiny.probes


def test_a_best_metric_that_nobody_measures_is_refused_at_the_start(tiny):
    with pytest.raises(ConfigurationError, match=r"best='los' is measured by no probe .*Did you mean 'loss'"):
        evolve(tiny, best="los").run(store="s")
    assert not os.path.exists("s")


def test_points_and_labels_of_probes_are_texts():
    with pytest.raises(ConfigurationError, match="Every: on=3"):
        ls.Every(2, "Loss", on=3)
    with pytest.raises(ConfigurationError, match="Every: label=3"):
        ls.Every(2, "Loss", label=3)


# -- what a run is asked ----------------------------------------------------------------------------------


def test_a_run_says_what_it_can_be_asked(tiny):
    run = tiny.run(store="s", run_id="r")
    for wrong in ("PCA", ls.projectors.PCA, 3):
        with pytest.raises(ConfigurationError, match=r"is no projector; .*PCA\(\)"):
            run.project(wrong)
    with pytest.raises(RunError, match="has no arrays of 3"):
        run.arrays(3)
    with pytest.raises(RunError, match="workers=3"):
        run.span(workers=3)
    assert run.span(workers="0").rows.equals(run.span(workers=["0"]).rows)
    with pytest.raises(RunError, match="store=3 is no path"):
        run.replicate(3)
    for wrong in (None, 3, b"r", run):
        with pytest.raises(RunError, match=r"path=.* is no path"):
            ls.open(wrong)
    with pytest.raises(RunError, match="File name too long"):
        ls.open("x" * 5000)


# -- measuring, recording, walking ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": 3}, r"splits=3: give data by name"),
        ({"splits": [1]}, r"splits=\[1\]"),
        ({"splits": {3: None}}, "splits="),
        ({"splits": {"test": 3}}, "3 .int. is no data"),
        ({"seed": "a"}, "seed='a': give a whole number"),
        ({"seed": 1.5}, r"seed=1\.5"),
        ({"seed": None}, "seed=None"),
    ],
)
def test_splits_and_seeds_are_checked_wherever_they_are_given(line, changes, message):
    sgd = ls.walkers.SGD(lr=0.1)
    for make in (
        lambda: ls.measure(line, ["Loss"], **changes),
        lambda: ls.Recorder(line, ["Loss"], **changes),
        lambda: ls.Walk(line, sgd, **changes),
    ):
        with pytest.raises(LandscapeError, match=message):
            make()


def test_a_module_is_no_landscape_anywhere(line):
    for make in (
        lambda: ls.measure(line.module, ["Loss"]),
        lambda: ls.Recorder(line.module, ["Loss"]),
        lambda: ls.Walk(line.module, ls.walkers.SGD(lr=0.1)),
        lambda: ls.Walk.load("nowhere", line.module),
    ):
        with pytest.raises(ConfigurationError, match="needs a landscape, not a Linear"):
            make()


def test_splits_of_a_walk_may_be_data(line):
    x = torch.linspace(0, 1, 4)[:, None]
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1), splits={"test": (x, x)})
    measured = walk.population().points[0].measure(ls.probes.Loss(split="test"))
    assert measured.scalars["loss_test"] == pytest.approx(line.on((x, x)).value(line.initial()).item())


def test_nothing_to_measure_is_said(line):
    with pytest.raises(ConfigurationError, match=r"probes=\[\]: there is nothing to measure"):
        ls.measure(line, [])


@pytest.mark.parametrize(
    "start",
    [3, [0.0, 0.0], np.zeros(2), torch.zeros(2) + 0j, torch.zeros(3), torch.nn.Linear(1, 1)],
    ids=repr,
)
def test_a_start_that_is_no_vector_of_weights_is_refused(line, start):
    with pytest.raises(ConfigurationError, match=r"Weights|start has shape \(3,\)"):
        ls.Walk(line, ls.walkers.SGD(lr=0.1), start=start)


def test_points_that_are_no_weights_are_refused(line):
    for wrong in (torch.zeros(2) + 0j, torch.zeros(3), torch.zeros(2, 2, 2)):
        with pytest.raises(ConfigurationError, match=r"(?i)weights|shape"):
            ls.measure(line, ["Loss"], at=wrong)


@pytest.mark.parametrize("count", [-1, 2.5, "a", None, True])
def test_numbers_of_updates_are_whole_and_checked_at_once(line, count):
    with pytest.raises(ConfigurationError, match=r"steps\(.*\): give a number of updates"):
        ls.Walk(line, ls.walkers.SGD(lr=0.1)).steps(count)


def test_a_walk_is_saved_to_a_path(line):
    walk = ls.Walk(line, ls.walkers.SGD(lr=0.1))
    with pytest.raises(RunError, match="path=3 is no path"):
        walk.save(3)
    with pytest.raises(RunError, match="path=None is no path"):
        ls.Walk.load(None, line)


@pytest.mark.parametrize("second", ["a", None, 1.5])
def test_every_step_of_a_recorder_is_a_whole_number(line, second):
    watch = ls.Recorder(line, ["Loss"], every=np.int64(1))
    watch(0)
    with pytest.raises(ConfigurationError, match="is not a whole number"):
        watch(second)


@pytest.mark.parametrize("name", [3, "../a", ""])
def test_the_run_of_a_recorder_has_a_name(line, name):
    with pytest.raises(RunError, match="cannot name a run"):
        ls.Recorder(line, ["Loss"], store="s", run=name)
    assert not os.path.exists("s")


# -- damaged runs -----------------------------------------------------------------------------------------

_DAMAGES = [b"null", b"[]", b"3", b'{"exper', b"\xff\xfe\xfa", b'{"experiment": null}', b"[" * 100_000]


@pytest.fixture
def finished(tiny):
    return tiny.run(store="s", run_id="r")


@pytest.mark.parametrize("content", _DAMAGES, ids=lambda content: repr(content[:12]))
def test_a_damaged_configuration_is_said_by_everything_that_needs_it(finished, content, capsys):
    (finished.path / "config.json").write_bytes(content)
    state = json.loads((finished.path / "state.json").read_text())
    (finished.path / "state.json").write_text(json.dumps(state | {"status": "interrupted"}))
    run = ls.open("s/r")
    for ask in (lambda: run.recipe, run.resume, run.replicate):
        with pytest.raises(LandscapeError, match=r"config\.json is damaged|expected a table"):
            ask()
    assert os.listdir("s") == ["r"]
    for command in (["resume", "r"], ["replicate", "r"]):
        assert main([*command, "--store", "s"]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert main(["list", "--store", "s"]) == 0
    assert "r" in capsys.readouterr().out
    assert main(["show", "r", "--store", "s"]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"null\n", b"[]\n", b"{}\n", b'{"step": 0}\n', b"\xff\xfe\n", b"[" * 99_999 + b"\n"]
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "snapshots.jsonl"])
def test_a_damaged_log_is_said_with_its_line(finished, name, content):
    (finished.path / name).write_bytes((finished.path / name).read_bytes() + content)
    ask = (lambda: ls.open("s/r").metrics) if name == "metrics.jsonl" else (lambda: ls.open("s/r").span())
    with pytest.raises(RunError, match=rf"{name}, line \d+ is damaged"):
        ask()


@pytest.mark.parametrize("content", [b"null", b"[]", b"{}", b'{"format": 1', b"\xff"])
def test_a_damaged_state_makes_a_run_unreadable_and_is_listed(finished, content):
    (finished.path / "state.json").write_bytes(content)
    with pytest.raises(RunError, match=r"state\.json is damaged"):
        ls.open("s/r")
    assert ls.RunStore("s").list()["status"].tolist() == ["unreadable"]


@pytest.mark.parametrize("attempts", [3, [3], [{"resume_step": "a"}]])
def test_damaged_attempts_are_said(finished, attempts):
    state = json.loads((finished.path / "state.json").read_text())
    (finished.path / "state.json").write_text(json.dumps(state | {"attempts": attempts}))
    with pytest.raises(RunError, match=r"state\.json is damaged"):
        ls.open("s/r")


@pytest.mark.parametrize("content", [b"null", b"[]", b'{"config.json": 3}'])
def test_a_damaged_manifest_is_said(finished, content):
    (finished.path / "MANIFEST.json").write_bytes(content)
    run = ls.open("s/r")
    if content.startswith(b"{"):
        assert any("no checksum of 'config.json'" in problem for problem in run.verify())
    else:
        with pytest.raises(RunError, match=r"MANIFEST\.json is damaged"):
            run.verify()


# -- a folder that goes away while the run goes on --------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_run_whose_folder_goes_away_ends_with_an_error_and_writes_nowhere_else(tiny, monkeypatch, how):
    original = ls.Walk.advance

    def advance(walk):
        original(walk)
        if walk.step == 3:
            if how == "removed":
                shutil.rmtree("s/r")
            else:
                os.rename("s/r", "elsewhere")
            if how == "replaced":
                os.mkdir("s/r")

    with monkeypatch.context() as patched:
        patched.setattr(ls.Walk, "advance", advance)
        with pytest.raises(RunError, match=r"s/r was moved or removed while it was being written"):
            evolve(tiny, steps=6, snapshots=1).run(store="s", run_id="r")
    assert sorted(os.listdir("s")) == (["r"] if how == "replaced" else [])
    assert how != "replaced" or not os.listdir("s/r")
    if how == "removed":
        assert not os.path.exists("elsewhere")
    else:
        # What was recorded before is whole, and goes on where it is now.
        run = ls.open("elsewhere")
        assert run.status == "crashed"
        assert run.resume().status == "complete"
        assert ls.open("elsewhere").metrics["step"].tolist() == list(range(7))


def test_a_recorder_whose_folder_goes_away_says_so(line):
    watch = ls.Recorder(line, ["Loss"], every=1, store="s", run="r")
    watch(0)
    os.rename("s/r", "elsewhere")
    with pytest.raises(RunError, match="moved or removed"):
        watch(1)
    with pytest.raises(RunError, match="moved or removed"):
        watch.close()
    watch.close()
    assert os.listdir("s") == []
    assert ls.open("elsewhere").metrics["step"].tolist() == [0]


# -- checkpoints ------------------------------------------------------------------------------------------


class Stranger:
    """Something that a checkpoint may not hold."""


@pytest.mark.parametrize("kind", ["text", "object", "cut", "tensors"])
def test_a_checkpoint_that_cannot_be_read_is_no_reason_to_unpickle_it(line, kind):
    path = Path("weights.safetensors" if kind == "tensors" else "weights.pt")
    if kind == "object":
        torch.save({"state_dict": Stranger()}, path)
    else:
        path.write_bytes(b"hello")
    if kind == "cut":
        torch.save(line.module.state_dict(), path)
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read as a checkpoint") as caught:
        ls.measure(line, ["Loss"], at=str(path))
    said = str(caught.value)
    assert "weights_only" not in said
    assert "http" not in said
    assert caught.value.__cause__ is None
    assert ("Stranger" in said) == (kind == "object")


def test_a_folder_is_no_checkpoint(line):
    os.mkdir("ckpt")
    with pytest.raises(DataError, match="ckpt is a folder"):
        ls.measure(line, ["Loss"], at="ckpt")


# -- configurations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"experiment": null}', r"experiment: expected a table, got 'None'"),
        ('{"experiment": 3}', "experiment: expected a table"),
        ('{"experiment": [3]}', r"experiment\[0\]: expected a table"),
        ('{"experiment": []}', "experiment: an empty list"),
        ("[" * 100_000, "This is not JSON"),
    ],
)
def test_texts_that_hold_no_table_are_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        ls.loads(text)


@pytest.mark.parametrize("place", [3, None, "", "a\0.toml", b"a.toml"])
def test_configurations_are_read_from_and_written_to_paths(tiny, place):
    with pytest.raises(ConfigurationError, match=r"path=.* is no path"):
        ls.load(place)
    with pytest.raises(ConfigurationError, match=r"path=.* is no path"):
        ls.save(tiny, place)


@pytest.mark.parametrize("text", [3, None, b"{}"])
def test_configurations_are_texts(text):
    with pytest.raises(ConfigurationError, match="is a text in JSON or TOML"):
        ls.loads(text)


@pytest.mark.parametrize("stages", [3, None, "demo", [3]])
def test_a_study_is_made_of_stages(stages):
    with pytest.raises(ConfigurationError, match=r"(?i)stage"):
        ls.Study(stages=stages)


@pytest.mark.parametrize("name", [3, None])
def test_runs_of_a_store_have_names(finished, name):
    with pytest.raises(RunError, match="is no name of a run"):
        ls.RunStore("s").open(name)


_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_NAMES = st.text(min_size=1, max_size=8)
_STEPS = st.integers(0, 10**6)
_SCHEDULES = st.one_of(
    st.builds(
        ls.At,
        _STEPS,
        st.dictionaries(
            _NAMES,
            _NUMBERS
            | st.integers(-100, 100)
            | st.lists(_NUMBERS, min_size=1, max_size=3)
            | st.lists(_NUMBERS, min_size=1, max_size=3).map(tuple)
            | _NUMBERS.map(np.float64),
            max_size=3,
        ),
    ),
    st.builds(
        ls.schedules.Anneal,
        st.floats(1e-6, 1.0),
        st.floats(1e-6, 1.0),
        st.integers(1, 1000),
        shape=st.sampled_from(["linear", "cosine", "exponential"]),
        begin=_STEPS,
        name=_NAMES,
    ),
    st.builds(ls.schedules.Decay, _NUMBERS, st.integers(1, 1000), st.floats(0.01, 10.0), name=_NAMES),
)


@settings(max_examples=50, deadline=None)
@given(schedules=st.lists(_SCHEDULES, max_size=3), format=st.sampled_from(["json", "toml"]))
def test_every_schedule_survives_json_and_toml(schedules, format):
    experiment = ls.Experiment(
        model=ls.models.MLP(hidden=(2,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1, batch_size=64),
        schedule=schedules,
    )
    back = ls.loads(ls.dumps(experiment, format), format)
    assert back == experiment
    assert hash(back) == hash(experiment)


def test_lists_and_tuples_of_values_are_one():
    assert ls.At(2, {"lr": [0.05]}) == ls.At(2, {"lr": (0.05,)}) != ls.At(2, {"lr": 0.05})


@pytest.mark.parametrize(
    "values", [3, None, {3: 0.1}, {"lr": None}, {"lr": "a"}, {"lr": float("nan")}, {"lr": ()}, {"lr": True}]
)
def test_schedules_change_numbers_by_name(values):
    with pytest.raises(ConfigurationError, match=r"At: values=.* is not possible"):
        ls.At(2, values)
