"""Recording inside somebody's own loop."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, RunError


def train(steps, watch=None, start=0, net=None):
    torch.manual_seed(0)
    net = net or torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.linspace(-1, 1, 24).reshape(12, 2)
    y = x.sum(1, keepdim=True)
    watch = watch(net, (x, y)) if watch else None
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(start, steps):
        if watch:
            watch(step)
        sgd.zero_grad()
        torch.nn.functional.mse_loss(net(x), y).backward()
        sgd.step()
    return net, watch


def recorder(**options):
    options = {"every": 5} | options
    return lambda net, data: ls.Recorder(
        ls.Landscape(net, "mse", data),
        ["Loss", "DistanceFromStart", ls.Every(10, ls.probes.HessianSpectrum(k=1))],
        **options,
    )


def test_rows_come_at_their_steps_and_hold_the_loss_before_the_update():
    _, watch = train(21, recorder())
    metrics = watch.metrics
    assert list(metrics["step"]) == [0, 5, 10, 15, 20]
    assert metrics["hessian_eigenvalue_1"].notna().tolist() == [True, False, True, False, True]
    assert metrics["distance_from_start"][0] == 0
    assert metrics["loss"].is_monotonic_decreasing


def test_a_recorder_with_a_store_makes_a_run(tmp_path):
    _, watch = train(21, recorder(store="runs", run="mine"))
    watch.close()
    run = ls.open("runs/mine")
    assert run.kind == "recorder"
    assert run.status == "complete"
    assert list(run.metrics["step"]) == [0, 5, 10, 15, 20]
    assert run.metrics["loss"].tolist() == watch.metrics["loss"].tolist()
    assert [record.step for record in run.directory.snapshots()] == [0, 5, 10, 15, 20]
    with pytest.raises(ConfigurationError, match="somebody's own program"):
        _ = run.recipe


def test_a_recorder_goes_on_in_its_run_and_supersedes_what_is_done_again():
    _, whole = train(31, recorder())
    _, watch = train(18, recorder(store="runs", run="mine"))
    watch.close()
    # The program died at step 17 and starts again from a checkpoint that it wrote at step 12.
    again, _ = train(12)
    _, watch = train(31, recorder(store="runs", run="mine"), start=12, net=again)
    watch.close()
    metrics = ls.open("runs/mine").metrics
    assert list(metrics["step"]) == [0, 5, 10, 15, 20, 25, 30]
    assert metrics["loss"].tolist() == whole.metrics["loss"].tolist()
    assert metrics["distance_from_start"].tolist() == whole.metrics["distance_from_start"].tolist()
    spectrum = ["hessian_eigenvalue_1", "hessian_products"]
    pd.testing.assert_frame_equal(metrics[spectrum], whole.metrics[spectrum], check_exact=True)


@pytest.mark.parametrize("options", [{"every": 4}, {"seed": 3}])
def test_a_run_is_not_continued_with_another_recorder(options):
    train(6, recorder(store="runs", run="mine"))[1].close()
    with pytest.raises(RunError, match=next(iter(options))):
        train(12, recorder(store="runs", run="mine", **options), start=6)


def test_a_run_is_not_continued_on_other_data():
    train(6, recorder(store="runs", run="mine"))[1].close()
    make = recorder(store="runs", run="mine")
    with pytest.raises(RunError, match="train data is no longer"):
        train(12, lambda net, data: make(net, (data[0] + 1, data[1])), start=6)


@pytest.mark.parametrize(
    ("last", "status"),
    [("pass", "complete"), ("1 / 0", "failed"), ("raise KeyboardInterrupt", "interrupted")],
)
def test_a_program_that_ends_without_closing_says_how_it_ended(tmp_path, last, status):
    program = f"""if True:
        import torch, landscape as ls
        net = torch.nn.Linear(1, 1)
        landscape = ls.Landscape(net, "mse", (torch.ones(3, 1), torch.ones(3, 1)))
        watch = ls.Recorder(landscape, ["Loss"], store="runs", run="mine")
        watch(0)
        {last}
    """
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert ls.open(tmp_path / "runs" / "mine").status == status


def test_a_loss_that_is_not_finite_does_not_end_the_training_it_is_measured_in():
    net = torch.nn.Linear(1, 1)
    watch = ls.Recorder(
        ls.Landscape(net, "mse", (torch.ones(3, 1), torch.ones(3, 1))), ["Loss", "HessianSpectrum"], every=1
    )
    with torch.no_grad():
        net.weight.fill_(float("nan"))
    watch(0)
    assert watch.metrics["loss"].isna().all()
    assert "HessianSpectrum" in watch.metrics["warnings"][0]


def test_an_error_in_the_loop_closes_the_run_as_failed():
    landscape = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(3, 1), torch.ones(3, 1)))

    def loop():
        with ls.Recorder(landscape, ["Loss"], store="runs", run="bad") as watch:
            watch(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert ls.open("runs/bad").status == "failed"


@pytest.mark.parametrize("step", [0, 4])
def test_steps_must_rise(step):
    _, watch = train(5, recorder())
    with pytest.raises(ConfigurationError, match=f"step {step} after step 4"):
        watch(step)


def test_another_landscape_is_not_mixed_into_a_run():
    train(6, recorder(store="runs", run="mine"))[1].close()
    data = (torch.ones(3, 1), torch.ones(3, 1))
    with pytest.raises(RunError, match="parameters"):
        ls.Recorder(ls.Landscape(torch.nn.Linear(1, 1), "mse", data), ["Loss"], store="runs", run="mine")


def test_measuring_checkpoints_follows_the_training(tmp_path):
    paths = []
    for steps in (1, 5, 10):
        net, _ = train(steps)
        paths.append(tmp_path / f"{steps}.pt")
        torch.save(net.state_dict(), paths[-1])
    _, watch = train(11, recorder(every=1))
    x = torch.linspace(-1, 1, 24).reshape(12, 2)
    landscape = ls.Landscape(net, "mse", (x, x.sum(1, keepdim=True)))
    table = ls.measure(landscape, ["Loss"], at=paths)
    assert table["loss"].tolist() == [watch.metrics["loss"][step] for step in (1, 5, 10)]
    assert table["at"].tolist() == [str(path) for path in paths]
    part = ls.measure(landscape.restrict("2.*"), [ls.probes.HessianSpectrum(k=1)], at=paths)
    assert len(part) == 3
    assert (part["hessian_eigenvalue_1"] > 0).all()


def test_a_checkpoint_that_does_not_fit_is_named_before_any_work(tmp_path):
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "other.pt")
    landscape = ls.Landscape(torch.nn.Linear(1, 1), "mse", (torch.ones(3, 1), torch.ones(3, 1)))
    with pytest.raises(ls.errors.DataError, match="weight"):
        ls.measure(landscape, ["Loss"], at=[tmp_path / "other.pt"])
    with pytest.raises(ls.errors.DataError, match=r"missing\.pt"):
        ls.measure(landscape, ["Loss"], at=[tmp_path / "missing.pt"])
    with pytest.raises(ConfigurationError, match="match no file"):
        ls.measure(landscape, ["Loss"], at=[])


def restricted(patterns, **options):
    return lambda net, data: ls.Recorder(
        ls.Landscape(net, "mse", data).restrict(patterns),
        ["Loss", "GradientNorm"],
        **{"every": 5, "store": "runs", "run": "part"} | options,
    )


def test_weights_that_do_not_vary_on_a_restriction_are_those_of_the_step():
    _, watch = train(11, restricted("2.*"))
    _, whole = train(11, recorder())
    assert watch.metrics["loss"].tolist() == whole.metrics["loss"].tolist()
    watch.close()
    run = ls.open("runs/part")
    assert run.configuration["recorder"]["restricted_to"] == ["2.weight", "2.bias"]
    net, _ = train(10)
    snapshot = run.directory.snapshots()[-1]
    assert torch.equal(snapshot.weights(), torch.cat([net[2].weight.flatten(), net[2].bias]).detach())
    rest = snapshot.rest()
    assert list(rest) == ["0.bias", "0.weight"]
    assert torch.equal(rest["0.weight"], net[0].weight)
    # Runs of whole landscapes have none.
    _, watch = train(1, recorder(store="runs", run="whole"))
    watch.close()
    assert ls.open("runs/whole").directory.snapshots()[0].rest() == {}
    assert ls.open("runs/whole").configuration["recorder"]["restricted_to"] is None


def test_a_recorder_of_a_restriction_goes_on_with_the_same_one_only():
    _, whole = train(16, restricted("*.bias", run="whole"))
    train(8, restricted("*.bias"))[1].close()
    again, _ = train(8)
    # Five weights either way.
    with pytest.raises(RunError, match=r"restricted_to = \['0.bias', '2.bias'\]"):
        train(16, restricted("2.*"), start=8)
    _, watch = train(16, restricted("*.bias"), start=8, net=again)
    watch.close()
    assert ls.open("runs/part").metrics["loss"].tolist() == whole.metrics["loss"].tolist()


def test_an_experiment_starts_from_the_snapshot_of_a_restriction(tmp_path):
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(3,)),
        ls.datasets.Digits(examples=40),
        ls.walkers.GD(lr=0.1),
        probes=["Loss"],
        steps=1,
    )
    landscape = experiment.landscapes()["train"]
    with ls.Recorder(landscape.restrict("*.bias"), ["Loss"], store="runs", run="part") as watch:
        watch(0)
    run = experiment.replace(start=ls.starts.FromRun("runs/part")).run()
    assert run.metrics["loss"][0] == watch.metrics["loss"][0]


def test_many_columns_are_summarised_and_reported_without_a_warning(tmp_path):
    probes = [ls.Every(1, probe, label=f"l{i}") for i in range(60) for probe in ("Loss", "GradientNorm")]
    x = torch.linspace(-1, 1, 8)[:, None]
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", (x, 3 * x))
    with ls.Recorder(line, probes, store=tmp_path, run="wide") as watch:
        watch(0)
        watch(100)
    run = ls.open(tmp_path / "wide")
    last = run.metrics.iloc[[-1]].reset_index(drop=True)
    assert run.summary()[list(last)].to_dict("records") == last.to_dict("records")
    assert run.report().is_file()


DATA = (torch.linspace(-1, 1, 8)[:, None], torch.ones(8, 1))


@pytest.mark.parametrize(
    ("probes", "options", "says"),
    [
        (
            [ls.Every(1, "Loss", split="test")],
            {},
            r"'test', and there is train only. Pass splits={'test': ...}",
        ),
        ([ls.Every(1, "Loss", split="tset")], {"splits": {"test": DATA}}, "Did you mean 'test'"),
        ([ls.Every(1, "Loss", restrict="nothing.*")], {}, "nothing"),
        ([ls.Every(1, "Loss", on="centre")], {}, "names no point"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_training(probes, options, says, tmp_path):
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", DATA)
    with pytest.raises(ConfigurationError, match=says):
        ls.Recorder(line, probes, store=tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()
    if probes and probes[0].split == "test":
        with pytest.raises(ConfigurationError, match=says):
            ls.measure(line, probes)


def test_nothing_to_record_is_refused_and_weights_alone_are_something(tmp_path):
    line = ls.Landscape(torch.nn.Linear(1, 1), "mse", DATA)
    with pytest.raises(ConfigurationError, match="nothing to record"):
        ls.Recorder(line, [])
    with ls.Recorder(line, [], store=tmp_path, run="weights") as watch:
        watch(0)
    assert len(ls.open(tmp_path / "weights").directory.snapshots()) == 1
