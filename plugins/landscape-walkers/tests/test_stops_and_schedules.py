"""Stop rules on rows written by hand, and schedules against torch's own."""

from __future__ import annotations

import math

import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError


def rows(*losses, metric="loss"):
    return [{"step": 10 * i, "worker": "0", metric: loss} for i, loss in enumerate(losses)]


def test_a_target_is_reached_from_its_own_side():
    assert ls.stops.Target("loss", 0.5).reason(rows(1.0, 0.6)) is None
    assert "0.5" in ls.stops.Target("loss", 0.5).reason(rows(1.0, 0.5))
    assert ls.stops.Target("loss", 0.5, mode="max").reason(rows(0.1, 0.6)) is not None
    assert ls.stops.Target("score", 0.5).reason(rows(0.1)) is None
    assert ls.stops.Target("loss", 0.5).reason([]) is None
    assert ls.stops.Target("loss", 0.5).reason(rows(math.nan)) is None


def test_a_target_asks_all_any_or_one_point():
    both = [{"step": 3, "worker": "0", "loss": 0.1}, {"step": 3, "worker": "centre", "loss": 0.9}]
    assert ls.stops.Target("loss", 0.5).reason(both) is None
    assert ls.stops.Target("loss", 0.5, worker="any").reason(both)
    assert ls.stops.Target("loss", 0.5, worker="0").reason(both)
    assert ls.stops.Target("loss", 0.5, worker="centre").reason(both) is None


def test_patience_counts_measurements_without_improvement():
    rule = ls.stops.Patience("loss", measurements=3)
    assert rule.reason(rows(1.0, 0.9, 0.95, 0.92)) is None
    assert rule.reason(rows(1.0, 0.9, 0.95, 0.92, 0.9)) == "loss has not improved on 0.9 since step 10"
    assert rule.reason(rows(1.0, 0.9, 0.95, 0.92, 0.89)) is None
    assert ls.stops.Patience("loss", measurements=2, least=0.1).reason(rows(1.0, 0.95, 0.91))
    assert ls.stops.Patience("loss", measurements=1, mode="max").reason(rows(0.5, 0.6)) is None


def test_a_maximal_loss_names_who_exceeds_it():
    assert ls.stops.MaximalLoss(2.0).reason(rows(1.0)) is None
    assert "worker 0" in ls.stops.MaximalLoss(2.0).reason(rows(1.0, 3.0))


def torch_values(make, steps):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = make(optimiser)
    values = []
    for _ in range(steps):
        values.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return values


def test_cosine_annealing_is_torchs():
    ours = [ls.schedules.Anneal(0.1, 0.001, 20).changes(step)["lr"] for step in range(21)]
    theirs = torch_values(
        lambda optimiser: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=20, eta_min=0.001), 21
    )
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_decay_is_torchs_step_schedule():
    value, ours = 0.1, []
    for step in range(25):
        value = ls.schedules.Decay(0.1, every=7, factor=0.5).changes(step).get("lr", value)
        ours.append(value)
    theirs = torch_values(
        lambda optimiser: torch.optim.lr_scheduler.StepLR(optimiser, step_size=7, gamma=0.5), 25
    )
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_annealing_holds_its_ends_and_nothing_outside():
    for shape in ("linear", "cosine", "exponential"):
        schedule = ls.schedules.Anneal(0.2, 0.05, 10, shape=shape, begin=5, name="momentum")
        assert schedule.changes(4) == schedule.changes(16) == {}
        assert schedule.changes(5)["momentum"] == pytest.approx(0.2)
        assert schedule.changes(15)["momentum"] == pytest.approx(0.05)
    assert ls.schedules.Anneal(0.4, 0.1, 2, shape="exponential").changes(1)["lr"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ls.schedules.Anneal(0.0, 0.1, 10, shape="exponential"),
        lambda: ls.schedules.Anneal(0.1, 0.1, 0),
        lambda: ls.schedules.Anneal(0.1, 0.1, 5, shape="cosin"),
        lambda: ls.stops.Target(3, 0.1),
        lambda: ls.stops.Patience("loss", measurements=0),
        lambda: ls.stops.MaximalLoss(math.inf),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigurationError, match="is not possible"):
        make()


def test_an_experiment_stops_at_its_target_and_follows_its_schedule(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(4,)),
        ls.datasets.Digits(),
        ls.walkers.SGD(lr=0.1, batch_size=32),
        probes=(ls.Every(1, "Loss"),),
        schedule=(ls.schedules.Anneal(0.1, 0.01, 10, shape="linear"),),
        stop=(ls.stops.Target("loss", 2.25),),
        steps=200,
    )
    assert ls.loads(ls.dumps(experiment, "toml"), "toml") == experiment
    run = experiment.run(store=tmp_path)
    assert run.status == "stopped"
    assert run.metrics["loss"].iloc[-1] <= 2.25 < run.metrics["loss"].iloc[-2]
    changes = run.changes
    assert changes["value"].tolist()[:3] == pytest.approx([0.1, 0.091, 0.082])


@pytest.mark.parametrize(
    "rule", [ls.stops.Target("loss_tset", 1.0), ls.stops.Patience("lss", 3), ls.stops.MaximalLoss(9.0, "los")]
)
def test_a_rule_on_what_nobody_measures_is_refused_before_the_run(rule, tmp_path):
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(3,)),
        ls.datasets.Digits(),
        ls.walkers.GD(lr=0.1),
        probes=("Loss", ls.probes.Loss(split="test")),
        stop=(rule,),
        steps=2,
    )
    with pytest.raises(ConfigurationError, match=rf"stop\[0\]: {type(rule).__name__}.*Did you mean 'loss"):
        experiment.run(tmp_path / "s")
    assert not list((tmp_path).rglob("config.json"))
