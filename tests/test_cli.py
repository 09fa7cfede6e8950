"""The command line, as a person types it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import landscape as ls
from landscape.cli import main
from landscape.report.counts import claim

RECIPE = """
[experiment]
steps = 6
snapshots = 2
model = { component = "MLP", hidden = [4] }
dataset = "Digits"
walker = { component = "SGD", lr = 0.1, batch_size = 32 }
probes = ["Loss", "GradientNorm"]
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    monkeypatch.delenv("LANDSCAPE_STORE", raising=False)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def test_run_prints_the_path_of_the_report_last(capsys):
    assert main(["run", "recipe.toml", "--set", "walker.lr=0.05", "--store", "s"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith("report.html")
    assert os.path.exists(last)
    (name,) = [entry for entry in os.listdir("s") if not entry.startswith(".")]
    assert ls.open(f"s/{name}").experiment.walker.lr == 0.05


def test_a_dry_run_prints_the_recipe_and_runs_nothing(capsys, place):
    assert main(["run", "recipe.toml", "--dry-run"]) == 0
    assert ls.loads(capsys.readouterr().out, "toml") == ls.load("recipe.toml")
    assert not (place / "runs").exists()


def test_list_show_report_and_replicate_go_by_the_beginning_of_a_name(capsys):
    run = ls.load("recipe.toml").run(store="runs")
    for command in (["list"], ["show", run.id[:18]], ["report", run.id], ["replicate", run.id]):
        assert main(command) == 0, command
    out = capsys.readouterr().out
    assert "complete" in out
    assert run.id in out  # also where the table is wider than the screen
    assert "gradient_norm" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nothing.toml"], "nothing.toml cannot be read"),
        (["run", "domo"], "Did you mean 'demo'"),
        (["run", "recipe.toml", "--set", "walker.l=1"], "Did you mean 'lr'"),
        (["run", "recipe.toml", "--set", "walker.lr"], "PATH=VALUE"),
        (["run", "recipe.toml", "--set", "walker.lr=fast"], "walker.lr: expected a number"),
        (["show", "nothing"], "nothing"),
        (
            ["probe", "x.pt", "--probe", "HesianSpectrum", "--experiment", "recipe.toml"],
            "Did you mean 'HessianSpectrum'",
        ),
    ],
)
def test_errors_name_the_cure_and_end_with_code_1(arguments, says, capsys):
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


def test_pausing_asks_and_records_the_change(monkeypatch, capsys):
    answers = iter(["lr=0.01", "nonsense", "momentum=-1", ""])
    monkeypatch.setattr("builtins.input", lambda: next(answers))
    assert main(["run", "recipe.toml", "--pause-at", "3", "--store", "s", "--no-report"]) == 0
    captured = capsys.readouterr()
    assert "nonsense" in captured.err
    assert "momentum" in captured.err
    changes = ls.open(captured.out.strip()).changes
    assert changes.to_dict("records") == [{"step": 3, "name": "lr", "value": 0.01}]


def test_a_pause_outside_of_the_run_is_refused(capsys):
    assert main(["run", "recipe.toml", "--pause-at", "6", "--no-report"]) == 1
    assert "pause_at=6: the updates of this experiment are 0 to 5" in capsys.readouterr().err


def test_on_a_terminal_no_bar_writes_over_the_question():
    pty = pytest.importorskip("pty")
    inside, outside = pty.openpty()
    command = [sys.executable, "-m", "landscape.cli", "run", "recipe.toml", "--pause-at", "3", "--no-report"]
    environment = {**os.environ, "LANDSCAPE_PROGRESS": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        command, stdin=outside, stdout=outside, stderr=outside, env=environment, start_new_session=True
    )
    os.close(outside)
    seen = bytearray()

    def read(until):
        while not until():
            ready, _, _ = select.select([inside], [], [], 60)
            assert ready, bytes(seen)
            try:
                seen.extend(os.read(inside, 4096))
            except OSError:  # the other side is closed
                return

    try:
        read(lambda: seen.endswith(b"> "))
        asked = len(seen)
        ready, _, _ = select.select([inside], [], [], 0.5)  # bars are drawn ten times a second
        assert not ready
        os.write(inside, b"lr = 0.01\n\n")
        read(lambda: False)
        assert process.wait(60) == 0, bytes(seen)
    finally:
        process.kill()
        process.wait()
        os.close(inside)
    assert b"lr = 0.1" in seen[:asked]
    assert b"6/6" in seen[asked:]  # the bar goes on
    (name,) = [entry for entry in os.listdir("runs") if not entry.startswith(".")]
    assert ls.open(f"runs/{name}").changes.to_dict("records") == [{"step": 3, "name": "lr", "value": 0.01}]


def test_what_was_changed_by_hand_outlives_an_interruption(monkeypatch):
    answers = iter(["lr=0.01", ""])
    monkeypatch.setattr("builtins.input", lambda: next(answers))
    experiment = ls.load("recipe.toml").replace(snapshots=0)
    with monkeypatch.context() as patch:
        patch.setattr(ls.Walk, "advance", _interrupted_at(4, ls.Walk.advance))
        with pytest.raises(KeyboardInterrupt):
            experiment.run("s", run_id="one", pause_at=(3,))
    run = ls.open("s/one").resume()
    assert run.changes.to_dict("records") == [{"step": 3, "name": "lr", "value": 0.01}]
    whole = experiment.replace(schedule=(ls.At(3, {"lr": 0.01}),)).run("s")
    assert run.metrics["loss"].tolist() == whole.metrics["loss"].tolist()


def _interrupted_at(step, advance):
    def interrupted(walk):
        if walk.step == step:
            raise KeyboardInterrupt
        advance(walk)

    return interrupted


def test_probe_measures_checkpoints_in_order(capsys):
    experiment = ls.load("recipe.toml")
    landscape = experiment.landscapes()["train"]
    for name, scale in (("a.pt", 1.0), ("b.pt", 0.5)):
        torch.save(landscape.layout.state_dict(landscape.initial() * scale), name)
    command = ["probe", "a.pt", "b.pt", "--probe", "Loss", "--probe", "HessianSpectrum:k=2",
               "--experiment", "recipe.toml", "--csv", "out.csv"]  # fmt: skip
    assert main(command) == 0
    import pandas as pd

    table = pd.read_csv("out.csv")
    assert table["at"].tolist() == ["a.pt", "b.pt"]
    assert table["loss"][0] == pytest.approx(float(landscape.value(landscape.initial())), rel=1e-6)
    assert "hessian_eigenvalue_2" in table


def test_probe_measures_what_a_run_recorded(capsys):
    import pandas as pd

    assert main(["run", "recipe.toml", "--set", "snapshots=3", "--store", "s"]) == 0
    (path,) = Path("s").glob("2*")
    run = ls.open(path)
    capsys.readouterr()
    command = ["--probe", "Loss", "--probe", "HessianSpectrum:k=2", "--csv", "out.csv", "--store", "s"]
    assert main(["probe", path.name, *command]) == 0
    table = pd.read_csv("out.csv", dtype={"worker": str})
    steps = [snapshot.step for snapshot in run.directory.snapshots()]
    assert sorted(set(table["step"])) == steps
    own = run.metrics.merge(table, on=["step", "worker"], suffixes=("", "_again"))
    assert len(own) == len(table)
    assert own["loss"].tolist() == own["loss_again"].tolist()
    # Only some, by their files, in any order.
    files = [str(run.directory.snapshots()[index].path) for index in (1, 0)]
    assert main(["probe", *files, *command]) == 0
    assert sorted(set(pd.read_csv("out.csv")["step"])) == steps[:2]


def test_probe_takes_the_snapshots_of_a_run_under_any_landscape(capsys):
    import pandas as pd

    assert main(["run", "recipe.toml", "--store", "one", "--no-report"]) == 0
    assert main(["run", "recipe.toml", "--set", "walker.workers=2", "--store", "two", "--no-report"]) == 0
    (path,) = Path("one").glob("2*")
    table = ls.open(path).measure(["Loss"])
    files = [str(file) for file in sorted((path / "weights").iterdir())]
    command = ["--probe", "Loss", "--experiment", "recipe.toml", "--csv", "out.csv"]
    assert main(["probe", *files, *command]) == 0
    assert pd.read_csv("out.csv")["loss"].tolist() == table["loss"].tolist()
    # Of several workers it is not said which.
    (path,) = Path("two").glob("2*")
    capsys.readouterr()
    assert main(["probe", *map(str, (path / "weights").iterdir()), *command]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "with the weights of 0, 1" in said
    assert "landscape probe RUN --probe" in said


def test_probe_says_what_to_do_with_runs_that_have_no_landscape_of_their_own(capsys):
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(4, 1), torch.ones(4, 1)))
    with ls.Recorder(line, ["Loss"], store="s", run="mine", seed=3) as watch:
        watch(0)
    # In the program itself the run has one.
    assert watch.run.measure(["Loss"])["loss"].tolist() == watch.metrics["loss"].tolist()
    assert ls.measure(line, ["Loss"], at="s/mine/weights/step-00000000.safetensors")["loss"][0] == line.value(
        line.initial()
    )
    sweep = ls.Sweep(ls.load("recipe.toml").replace(steps=1), {"seed": (4, 5)}).run(store="s")
    for run, said in (("mine", "ls.measure(landscape"), (sweep.id, "is a sweep")):
        assert main(["probe", run, "--probe", "Loss", "--store", "s"]) == 1
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pt"], "--experiment FILE-or-RUN"),
        (["x.pt", "y.pt"], "without it, give one run"),
        (["nowhere"], "nowhere"),
    ],
)
def test_probe_without_an_experiment_needs_a_run(arguments, message, capsys):
    Path("x.pt").write_bytes(b"")
    assert main(["probe", *arguments, "--probe", "Loss"]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_critical_points_prints_one_object_per_sample(capsys):
    assert main(["critical-points", "--widths", "1", "1", "1", "--samples", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["N_C"] for row in rows] == [5, 5, 5]
    assert {"N_C", "N_C_torus", "N_R", "CBB"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["2", "2", "2", "--solver", "Monodrony"], "Did you mean 'Monodromy'"),
        (["0", "2", "2"], "widths=(0, 2, 2)"),
        (["2", "2"], "at least one hidden layer"),
        (["2", "2", "2", "--samples", "0"], "samples=0 is not possible"),
        (["2", "2", "2", "--examples", "0"], "examples=0 must be a whole number"),
        (["2", "2", "2", "--regularisation", "off"], "set regularisation='uniform(0, 1)'"),
        (["2", "2", "2", "--regularisation", "constant(1)"], "not isolated: the lambda"),
        (["2", "2", "2", "--regularisation", "constant(0)"], "not isolated: all lambda"),
        (["2", "2", "2", "--inputs", "constant(nan)"], "not finite"),
        (["2", "2", "2", "--targets", "gamma(1, 2)"], "the forms are"),
        (["2", "2", "2", "--once", "input"], "Did you mean 'inputs'"),
        (["2", "2", "2", "--convolution", "3", "1"], "filter of 3 weights"),
        (["2", "30", "2"], "Choose narrower hidden layers"),
        (["2", "2", "2", "--certify", "--solver", "PHCpack"], "--certify: PHCpack has no such option"),
        (
            ["2", "2", "2", "--time-limit", "1", "--solver", "ParameterHomotopy"],
            "--time-limit: ParameterHomotopy has",
        ),
        (["2", "2", "2", "--solver", "ParameterHomotopy"], "it needs parameters and solutions"),
        (["2", "2", "2", "--against", "ParameterHomotopy"], "--against takes Monodromy, "),
        (["2", "2", "2", "--solver", "Nothing"], "Of these --solver takes Monodromy, "),
        (["2", "2", "2", "--time-limit", "0"], "time_limit=0.0 is not possible"),
        (["3000", "3000", "3000"], "18000000 unknowns are too many"),
        (["2", "2", "2", "--latex", "x.tex", "--against", "TotalDegree"], "leave one out"),
    ],
)
def test_critical_points_that_cannot_be_found_are_refused_in_one_line(arguments, says, capsys, place):
    before = sorted(os.listdir(place))
    assert main(["critical-points", "--widths", *arguments]) == 2
    out, error = capsys.readouterr()
    assert says in error
    assert error.count("\n") == 1
    assert out == ""
    assert sorted(os.listdir(place)) == before


def test_critical_points_of_a_configuration_file(capsys, place):
    config = {
        "H": 1,
        "di": 1,
        "dx": 3,
        "dy": 1,
        "m": 1,
        "runcount": 50,
        "reg": True,
        "reg_parameterized": True,
    }
    config |= {"convolution": True, "width": 2, "stride": 1, "x_parameterized": True, "y_parameterized": True}
    (place / "config.json").write_text(json.dumps(config))
    command = ["critical-points", "--config", "config.json", "--json"]
    assert main([*command, "--samples", "2", "--seed", "3"]) == 0
    out, error = capsys.readouterr()
    rows = json.loads(out)
    assert [(row["N"], row["N_C"], row["seed"], row["certified"]) for row in rows] == [(3, 5, 3, None)] * 2
    assert "reaches 2 of dx = 3 inputs" in error
    assert main([*command, "--examples", "2"]) == 2
    assert "--examples and --config" in capsys.readouterr().err
    (place / "config.json").write_text(json.dumps(config | {"layers": 2}))
    assert main(command) == 2
    assert "config.json: unknown field 'layers'" in capsys.readouterr().err


def test_critical_points_are_printed_as_they_are_known(capsys, place):
    command = [
        "critical-points",
        "--widths",
        "1",
        "2",
        "1",
        "--samples",
        "3",
        "--certify",
        "--latex",
        "table.tex",
    ]
    assert main([*command, "--store", "s"]) == 0
    out = capsys.readouterr().out
    (name,) = [entry for entry in os.listdir("s") if not entry.startswith(".")]
    said = claim(9, 9, ls.open(f"s/{name}").tables["network"]["completeness"][0])
    assert f"  {said}\n" in out
    assert "nan" not in out
    assert "How many critical points are real" in out
    assert "How it is known" in out
    assert out.splitlines()[-1].endswith("report.html")
    assert f" & {said} & ".replace("≥", r"$\geq$") in (place / "table.tex").read_text()
    assert main(["show", name, "--store", "s"]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert "proved" in shown
    assert main([*command[:-1], "nowhere/table.tex", "--json"]) == 2
    assert "--latex nowhere/table.tex cannot be written" in capsys.readouterr().err
    assert main([*command[:-1], str(place), "--json"]) == 2
    assert "is a directory; give the name of a file" in capsys.readouterr().err


def test_nobody_tried_to_certify_prints_no_number(capsys, place):
    assert main(["critical-points", "--widths", "1", "1", "1", "--samples", "1"]) == 0
    out = capsys.readouterr().out
    assert "5 found" in out
    assert "nan" not in out


def test_failed_checks_are_said_with_the_sample_and_end_with_code_1(capsys, monkeypatch):
    kind = type(ls.solvers.Monodromy())
    right = kind.solve_family

    def lossy(self, family, parameters, generator):
        for index, solutions in enumerate(right(self, family, parameters, generator)):
            yield solutions.select(slice(1, None)) if index == 1 else solutions

    monkeypatch.setattr(kind, "solve_family", lossy)
    assert main(["critical-points", "--widths", "1", "1", "1", "--samples", "3", "--json"]) == 1
    out, error = capsys.readouterr()
    assert [bool(row["checks_failed"]) for row in json.loads(out)] == [False, True, False]
    assert "sample 1 of seed 0 failed its checks: " in error
    assert error.count("\n") == 1


def test_checks_that_many_samples_fail_alike_are_said_once(capsys):
    # Without inputs only the origin is left; four solutions of a generic member go to infinity.
    command = ["critical-points", "--widths", "1", "1", "1", "--samples", "3", "--inputs", "constant(0)"]
    assert main([*command, "--json"]) == 1
    error = capsys.readouterr().err
    assert (
        "samples 0, 1, 2 of seed 0 failed their checks: 4 solutions of a generic member did not arrive."
        in error
    )
    assert error.count("\n") == 1


def test_plugins_are_listed_as_json(capsys):
    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kind": "probes", "name": "HessianSpectrum", "distribution": "landscape-hessian"}.items() <= next(
        entry for entry in listed if entry["name"] == "HessianSpectrum"
    ).items()


def test_doctor_finds_this_installation_sound(capsys):
    assert main(["doctor"]) == 0
    assert "landscape-core" in capsys.readouterr().out


def test_help_imports_no_torch():
    program = """if True:
        import sys
        from landscape.cli import main
        try:
            main(["--help"])
        finally:
            assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_130_and_leaves_a_run_that_resumes(place, capsys):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "landscape.cli",
            "run",
            "recipe.toml",
            "--set",
            "steps=1000000",
            "--set",
            "snapshots=5",
            "--store",
            "s",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(place.glob("s/*/weights/step-00000010.safetensors")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (path,) = place.glob("s/2*")
    assert re.search(rf"`landscape resume \S*{path.name}` goes on", err)
    run = ls.open(path)
    assert run.status == "interrupted"
    assert len(run.metrics) > 0


def test_arguments_of_a_study_are_set_by_name_and_its_fields_by_path(capsys):
    command = ["run", "zero-gradient", "--dry-run", "--set", "points=3", "--set", "hidden=[4, 5]",
               "--set", "name=Mine", "--set", "stages.1.recipe.base.steps=7"]  # fmt: skip
    assert main(command) == 0
    study = ls.loads(capsys.readouterr().out, "toml")
    made = ls.studies["zero-gradient"](points=3, hidden=(4, 5))
    assert study.name == "Mine"
    assert study.stages[1].recipe.base.steps == 7
    assert study.stages[1].recipe.vary == made.stages[1].recipe.vary
    assert study.stages[0] == made.stages[0]
    assert main(["run", "elementary-walkers", "--dry-run", "--set", "data=digits", "--set", "steps=40"]) == 0
    assert ls.loads(capsys.readouterr().out, "toml") == ls.studies["elementary-walkers"](
        data="digits", steps=40
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("point=3", "no argument 'point'; it has seed, points, steps, hidden. What it makes is a Study"),
        ("point=3", "Did you mean 'points'"),
        ("points=many", "zero-gradient: points: expected a whole number, got 'many'"),
        ("points=0", "zero-gradient: points=0"),
        ("hidden=3", "zero-gradient: hidden: expected a list of whole numbers"),
        ("stages.9.name=x", "stages.9.name: tuple has no '9'"),
    ],
)
def test_what_a_study_cannot_be_told_is_refused_with_what_it_can(change, says, capsys):
    assert main(["run", "zero-gradient", "--dry-run", "--set", change]) == 1
    assert says in capsys.readouterr().err


def test_studies_of_others_are_told_what_their_annotations_allow():
    from landscape.composition.named import study_called

    def bare(size, *rest, of: Unknown = (1,), **more):  # noqa: F821
        return ls.Study((ls.Stage("one", ls.load("recipe.toml")),), text=f"{size} {of}")

    study, others = study_called("bare", bare, [("size", [1, [2]]), ("of", "x"), ("text", "t")])
    assert study.text == "(1, (2,)) x"
    assert others == [("text", "t")]


@pytest.mark.parametrize("of_a_run", [True, False])
def test_probe_keeps_what_was_measured_before_ctrl_c(of_a_run, capsys, monkeypatch):
    import pandas as pd

    assert main(["run", "recipe.toml", "--store", "s", "--no-report"]) == 0
    (path,) = Path("s").glob("2*")
    snapshots = ls.open(path).directory.snapshots()
    whole = ls.open(path).measure(["GradientNorm"])
    kind = ls.probes.GradientNorm
    right, calls = kind.measure, []

    def interrupted(self, point, generator):
        calls.append(point.step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return right(self, point, generator)

    monkeypatch.setattr(kind, "measure", interrupted)
    capsys.readouterr()
    files = [str(snapshot.path) for snapshot in snapshots]
    what = [str(path)] if of_a_run else [*files, "--experiment", "recipe.toml"]
    assert main(["probe", *what, "--probe", "GradientNorm", "--csv", "a.csv"]) == 130
    out, error = capsys.readouterr()
    assert out == "a.csv\n"
    assert pd.read_csv("a.csv")["gradient_norm"].tolist() == whole["gradient_norm"].tolist()[:2]
    left = [f"step {snapshot.step}" for snapshot in snapshots[2:]] if of_a_run else files[2:]
    assert f"2 of {len(snapshots)} were measured. Not measured: {', '.join(left)}." in error
    assert "resume" not in error
    calls.clear()
    assert main(["probe", *what, "--probe", "GradientNorm"]) == 130
    assert "gradient_norm" in capsys.readouterr().out


def test_probe_refuses_a_table_that_cannot_be_written_before_it_measures(capsys):
    assert main(["probe", "nowhere", "--probe", "Loss", "--csv", "no/a.csv"]) == 1
    assert "--csv no/a.csv cannot be written: there is no such directory" in capsys.readouterr().err


def test_files_are_written_also_where_the_reader_of_what_is_printed_goes_away(place, monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Closed())
    command = ["critical-points", "--widths", "1", "1", "1", "--samples", "1", "--latex", "f.tex"]
    for more in (["--store", "s"], ["--json"]):
        assert main([*command, *more]) == 0
        assert "tabular" in (place / "f.tex").read_text()
        (place / "f.tex").unlink()
    assert list(place.glob("s/2*/report.html"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["critical-points", "--widths", "2", "2", "2", "--certfy"], "Did you mean '--certify'?"),
        (["probe", "RUN", "--probe", "Loss", "--restrikt=x"], "Did you mean '--restrict'?"),
        (["show", "one", "two"], "unrecognized arguments: two\n"),
    ],
)
def test_options_that_there_are_not_get_the_nearest(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_probe_measures_on_the_test_data_with_any_probe(capsys):
    import pandas as pd

    experiment = ls.load("recipe.toml").replace(snapshots=3)
    run = experiment.run(store="s")
    spectrum = ls.probes.HessianSpectrum(k=1)
    truth = run.measure([ls.Every(None, spectrum, split="test"), ls.Every(None, "Loss", split="test")])
    files = [str(snapshot.path) for snapshot in run.directory.snapshots()]
    what = ["--probe", "HessianSpectrum:k=1", "--probe", "Loss", "--split", "test", "--csv", "a.csv"]
    for checkpoints in ([str(run.path)], [f"{run.path}/weights/"], [*files, "--experiment", "recipe.toml"]):
        assert main(["probe", *checkpoints, *what]) == 0
        table = pd.read_csv("a.csv")
        assert table["test.loss"].tolist() == truth["test.loss"].tolist()
        assert table["test.hessian_eigenvalue_1"].tolist() == pytest.approx(
            truth["test.hessian_eigenvalue_1"].tolist(), rel=1e-3
        )
    # Its bias alone has a gradient of its own.
    pattern = run.landscape().layout.names[-1]
    for checkpoints in ([str(run.path)], [*files, "--experiment", "recipe.toml"]):
        what = ["--probe", "GradientNorm", "--split", "test", "--restrict", pattern, "--csv", "a.csv"]
        assert main(["probe", *checkpoints, *what]) == 0
        part = pd.read_csv("a.csv")["test.gradient_norm"]
        here = run.landscape("test")
        for snapshot, norm in zip(run.directory.snapshots(), part, strict=True):
            gradient = here.layout.split(here.gradient(snapshot.weights("0")))[pattern]
            assert norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    capsys.readouterr()
    assert main(["probe", str(run.path), "--probe", "Loss", "--split", "tset"]) == 1
    assert "Did you mean 'test'" in capsys.readouterr().err
    assert main(["probe", str(run.path), "--probe", "HessianSpectrum:split=test"]) == 1
    assert "--split test is for all probes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("HessianSpectrum:kind=fisher,k=2", {"kind": "fisher", "k": 2}),
        ("HessianSpectrum:k=2,kind = fisher ", {"kind": "fisher", "k": 2}),
        ('HessianSpectrum:kind="fisher"', {"kind": "fisher"}),
        ("landscape-hessian:HessianSpectrum:kind='fisher'", {"kind": "fisher"}),
    ],
)
def test_words_stand_bare_in_the_fields_of_a_probe(text, fields):
    from landscape.cli import _parse_probe

    assert _parse_probe(text, False) == ls.probes.HessianSpectrum(**fields)


def test_fields_of_a_probe_that_are_not_understood_say_how_they_are_written(capsys):
    from landscape.cli import _fields_said

    said = """a="x, y=z", b='k=w',c=word,d=inf,e=1e-3,f=layer4.*,g=true"""
    assert _fields_said("", said) == {
        "a": "x, y=z",
        "b": "k=w",
        "c": "word",
        "d": float("inf"),
        "e": 1e-3,
        "f": "layer4.*",
        "g": True,
    }
    assert main(["probe", "x", "--probe", "HessianSpectrum:kind=two words"]) == 1
    assert 'field="some text"' in capsys.readouterr().err


def test_a_recorded_run_makes_no_landscape_for_others(capsys):
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(4, 1), torch.ones(4, 1)))
    with ls.Recorder(line, ["Loss"], store="s", run="mine") as watch:
        watch(0)
    file = "s/mine/weights/step-00000000.safetensors"
    assert main(["probe", file, "--probe", "Loss", "--experiment", "s/mine"]) == 1
    assert "give the TOML or JSON file of an experiment, or the run of one" in capsys.readouterr().err


def test_a_class_in_a_module_is_named_with_import(capsys, place, monkeypatch):
    (place / "my_sharp.py").write_text(
        "from attrs import frozen\n"
        "import landscape as ls\n\n"
        "@frozen\n"
        "class Sharp(ls.probes.Loss):\n"
        "    level: float = 1.0\n"
    )
    monkeypatch.syspath_prepend(place)
    (place / "trusted.toml").write_text(RECIPE.replace('"Loss"', '"import:my_sharp:Sharp"'))
    (place / "unsaid.toml").write_text(RECIPE.replace('"Loss"', '"my_sharp:Sharp"'))
    assert main(["run", "trusted.toml", "--trust", "--dry-run"]) == 0
    assert main(["run", "trusted.toml", "--dry-run"]) == 1
    assert "--trust" in capsys.readouterr().err
    assert main(["run", "unsaid.toml", "--trust", "--dry-run"]) == 1
    assert "is 'import:my_sharp:Sharp'" in capsys.readouterr().err
    run = ls.load("recipe.toml").run(store="s")
    probe = ["probe", str(run.path), "--probe"]
    assert main([*probe, "my_sharp:Sharp"]) == 1
    assert "is 'import:my_sharp:Sharp'" in capsys.readouterr().err
    assert main([*probe, "import:my_sharp:Sharp:level=2.0", "--trust", "--csv", "a.csv"]) == 0


def test_an_interrupted_sweep_is_what_goes_on_and_not_its_member(capsys, monkeypatch):
    (Path("sweep.toml")).write_text(
        "[sweep]\nvary = { seed = [0, 1] }\n" + RECIPE.replace("[experiment]", "[sweep.base.experiment]")
    )
    with monkeypatch.context() as patch:
        patch.setattr(ls.Walk, "advance", _interrupted_at(4, ls.Walk.advance))
        assert main(["run", "sweep.toml", "--store", "s"]) == 130
    (path,) = Path("s").glob("2*")
    found = re.search(r"`landscape resume (\S+)` goes on", capsys.readouterr().err)
    assert Path(found[1]).resolve() == path.resolve()
    assert main(["resume", found[1]]) == 0


def test_an_interruption_without_a_run_speaks_of_none(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ls, "load", interrupted)
    assert main(["run", "recipe.toml"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_weights_of_another_network_are_said_to_be(capsys):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    torch.save({f"layers.{name}": value for name, value in net.state_dict().items()}, "a.pt")
    assert main(["probe", "a.pt", "--probe", "Loss", "--experiment", "recipe.toml"]) == 1
    said = capsys.readouterr().err
    assert "'layers.0.weight' (4 of 4 names" in said
    assert "another network" in said
    assert "Did you mean" not in said
