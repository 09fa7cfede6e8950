"""Every coupling walks in an experiment, and goes on from its files as if nothing had happened."""

import numpy as np
import pandas as pd
import pytest
import torch

import landscape as ls
from landscape_walkers.easgd import EASGD
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.group import Group
from landscape_walkers.parle import Parle
from landscape_walkers.robust_ensemble import RobustEnsemble
from landscape_walkers.sam import SAM
from landscape_walkers.sgd import GD, SGD

SMALL = SGD(lr=0.1, batch_size=64, momentum=0.5)
WALKERS = {
    "synchronous": EASGD(SMALL, 2),
    "asynchronous": EASGD(SMALL, 2, schedule="asynchronous", speeds=(1.0, 2.0)),
    "round robin": EASGD(SMALL, 2, schedule="round robin", period=2),
    "2016": EASGD(
        SGD(lr=0.1, batch_size=100, momentum=0.5, dampening=0.5), 2,
        elasticity=0.1, moving_rate=1.0, sequential=True, centre_norm="mean", output_bias_damping=0.9,
    ),
    "robust": RobustEnsemble(SMALL, 2, gamma=0.1, growth=0.1),
    "elastic": RobustEnsemble(SMALL, 2, gamma=0.1, increment=0.1, every=2, centre="elastic"),
    "parle": Parle(SMALL, 2, inner_steps=3),
    "of Entropy-SGD": RobustEnsemble(EntropySGD(batch_size=64, inner_steps=2, gamma=0.1), 2, gamma=0.2),
    "parle of SAM": Parle(SAM(SMALL), 2, inner_steps=2),
    "group": EASGD(Group((SMALL, 2), (GD(lr=0.1), 1))),
}  # fmt: skip


@pytest.mark.parametrize("walker", WALKERS.values(), ids=WALKERS)
def test_a_run_records_the_centre_and_the_distances_from_it(tmp_path, walker):
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(8,)), ls.datasets.Digits(), walker,
        probes=("Loss", "DistanceFromStart"), steps=4, snapshots=2, seed=1,
    )  # fmt: skip
    metrics = experiment.run(tmp_path).metrics
    last = metrics[metrics["step"] == 4].set_index("worker")
    assert set(last.index) == {*map(str, range(walker.workers)), "centre"}
    assert np.isfinite(last["loss"]).all()
    assert (last["distance_from_start"].drop("centre") > 0).all()
    apart = pd.to_numeric(last["distance_from_centre"])
    assert apart.drop("centre").notna().all()


@pytest.mark.parametrize("walker", WALKERS.values(), ids=WALKERS)
def test_a_saved_walk_goes_on_bit_for_bit(tmp_path, classifier, walker):
    landscape = classifier()
    walk = ls.Walk(landscape, walker, seed=3)
    list(walk.steps(3))
    walk.save(tmp_path / "walk")
    again = ls.Walk.load(tmp_path / "walk", landscape)
    list(walk.steps(4))
    list(again.steps(4))
    assert torch.equal(walk.positions, again.positions)
    for label, point in walk.walker.labelled(walk.state).items():
        assert torch.equal(point, again.walker.labelled(again.state)[label])


def test_a_schedule_reaches_hyper_parameters_of_the_base_that_have_the_couplings_names(tmp_path):
    run = ls.Experiment(
        ls.models.MLP(hidden=(8,)), ls.datasets.Digits(), WALKERS["of Entropy-SGD"], probes=("Loss",), steps=4,
        schedule=(ls.At(1, {"gamma": 0.4}), ls.At(2, {"base.gamma": 0.3, "scoping": 0.0})),
    ).run(tmp_path)  # fmt: skip
    assert run.changes["name"].tolist() == ["gamma", "base.gamma", "scoping"]
    last = run.metrics[run.metrics["worker"] == "0"].iloc[-1]
    assert last[["gamma", "base_gamma"]].tolist() == pytest.approx([0.4, 0.3])
