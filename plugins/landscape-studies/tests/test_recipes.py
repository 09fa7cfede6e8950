"""The recipes named after programs: what they promise, at sizes that suit a test."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from attrs import evolve

import landscape as ls
from landscape.composition.paths import replaced
from landscape.errors import ConfigurationError, DataError

NAMES = ("elementary-walkers", "zero-gradient")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty directory: no data sets, no runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "nothing"))


def _only(study, *names, **changes):
    """Return a study of some of the stages, with changes of all their experiments that make them cheaper."""
    stages = [stage for stage in study.stages if stage.name in names]
    for path, value in changes.items():
        stages = [
            evolve(
                stage,
                recipe=evolve(stage.recipe, base=evolve(stage.recipe.base, **{path: value}))
                if isinstance(stage.recipe, ls.Sweep)
                else evolve(stage.recipe, **{path: value}),
            )
            for stage in stages
        ]
    return evolve(study, stages=stages)


FEW = ls.datasets.Digits(flatten=False, examples=150)


def _idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_a_file(name, tmp_path):
    study = ls.studies[name](seed=3)
    ls.save(study, tmp_path / "study.toml")
    assert ls.load(tmp_path / "study.toml") == study
    assert study != ls.studies[name](seed=4)


def test_every_row_of_the_program_of_2016_has_a_stage():
    stages = {stage.name: stage.recipe for stage in ls.studies["elementary-walkers"](data="digits").stages}
    assert set(stages) >= {"sgd-and-gd", "elastic-averaging", "robust-ensemble", "lbfgs", "entropy-sgd"}
    assert set(stages) >= {"spectrum", "sharpness", "excursion", "hyper-parameters", "data", "networks"}
    for name, recipe in stages.items():
        for member in recipe.members() if isinstance(recipe, ls.Sweep) else [recipe]:
            walk = member.walk() if name in ("data", "networks", "examples") else None
            assert walk is None or walk.landscape.size > 0


def test_data_that_is_not_there_is_replaced_by_digits_with_the_reason_or_refused():
    study = ls.studies["elementary-walkers"]()
    assert "scikit-learn" in study.text
    assert "MNIST cannot be read here. MNIST: there is no train-images-idx3-ubyte" in study.text
    assert "MNIST" not in ls.studies["elementary-walkers"](data="digits").text
    with pytest.raises(DataError, match="there is no train-images"):
        ls.studies["elementary-walkers"](data="mnist")


def test_mnist_is_taken_where_its_files_are(tmp_path, monkeypatch):
    raw = tmp_path / "files/MNIST/raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(_idx(rng.integers(0, 256, (1200, 28, 28))))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(_idx(np.arange(1200) % 10))
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "files"))
    study = ls.studies["elementary-walkers"]()
    assert "a thousand images of MNIST" in study.text
    stage = study.stages[0].recipe
    assert isinstance(stage.dataset, ls.datasets.MNIST)
    assert stage.landscapes()["train"].data.examples == 1000


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("elementary-walkers", {"data": "cifar"}),
        ("elementary-walkers", {"steps": 0}),
        ("elementary-walkers", {"workers": 0}),
        ("zero-gradient", {"points": 0}),
        ("zero-gradient", {"steps": 0}),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, wrong):
    with pytest.raises(ConfigurationError, match=f"{name}: "):
        ls.studies[name](**wrong)


def test_populations_are_measured_with_everything_the_program_logged():
    study = ls.studies["elementary-walkers"](data="digits", steps=4, workers=2)
    run = _only(study, "sgd-and-gd", "elastic-averaging-2016", "robust-ensemble", dataset=FEW).run()
    assert run.status == "complete"
    columns = [
        "loss",
        "loss_test",
        "score",
        "score_test",
        "gradient_norm",
        "gradient_norm_test",
        "weight_norm",
    ]
    for name, points in (
        ("sgd-and-gd", {"0", "1", "2"}),
        ("elastic-averaging-2016", {"0", "1", "centre"}),
        ("robust-ensemble", {"0", "1", "centre"}),
    ):
        stage = run.stages[name]
        last = stage.metrics.groupby("worker").last()
        assert set(last.index) == points | {"population"}
        assert last.loc[sorted(points), columns].notna().all(axis=None)
        paths = stage.arrays("Interpolation")[-1]
        assert paths["loss_train"].shape == paths["spherical_score_test"].shape == (3, 31)
        assert stage.arrays("PairwiseDistances")[-1]["distances"].shape == (3, 3)
    page = run.stages["elastic-averaging-2016"].report().read_text(encoding="utf-8")
    titles = ("Loss and score", "Gradient, weights and distance", "Distances between workers")
    assert all(title in page for title in (*titles, "Between the workers"))


def test_single_walks_reach_what_their_stages_are_about():
    study = ls.studies["elementary-walkers"](data="digits", steps=8, workers=1)
    names = ("lbfgs", "entropy-sgd", "spectrum", "excursion", "hyper-parameters")
    run = _only(study, *names, dataset=FEW).run()
    assert run.status == "complete"
    last = {name: run.stages[name].metrics.groupby("worker").last() for name in names}
    assert last["lbfgs"]["loss"].notna().all()
    assert last["entropy-sgd"]["gamma"].notna().tolist() == [True, True, False]
    assert last["spectrum"]["hessian_eigenvalue_12"].notna().all()
    assert last["spectrum"]["hessian_eigenvalue_bottom_5"].notna().all()
    assert last["spectrum"]["positive_eigenvalue_share"].notna().all()
    inside = last["excursion"].loc[["0", "1"]]
    start = run.stages["excursion"].metrics.groupby("worker")["loss"].first()
    assert (inside["loss"] <= start[["0", "1"]] + 0.05).all()
    assert inside["acceptance"].notna().all()
    changes = run.stages["hyper-parameters"].changes
    assert {(2, "lr"), (4, "lr"), (4, "momentum")} <= set(zip(changes["step"], changes["name"], strict=True))


def test_sweeps_of_the_program_compare_what_they_vary():
    study = ls.studies["elementary-walkers"](data="digits", steps=2, workers=1)
    names = ("sharpness", "data", "networks", "examples")
    run = _only(study, *names).run()
    assert run.status == "complete"
    sharpness = run.stages["sharpness"]
    assert [member.metrics["sharpness"].iloc[0] for member in sharpness.stages.values()] == [0.0, 0.0]
    assert len(run.stages["data"].stages) == 6
    page = run.stages["data"].report().read_text(encoding="utf-8")
    # Components are told apart by what was given, and not by all of their fields.
    assert "ScrambledLabels(Digits(flatten=False))" in page


def test_points_of_zero_gradient_are_found_and_set_against_their_loss():
    study = ls.studies["zero-gradient"](points=3, steps=30, hidden=(5, 5))
    digits = study.stages[2]
    for path in ("base.model", "base.start.experiment.model"):
        digits = evolve(digits, recipe=replaced(digits.recipe, path, ls.models.MLP(hidden=(2,))))
    run = evolve(study, stages=[*study.stages[:2], digits]).run()
    assert run.status == "complete"
    for name in ("function-fit", "digits"):
        stage = run.stages[name]
        assert len(stage.stages) == 3
        for member in stage.stages.values():
            last = member.metrics.iloc[-1]
            assert last[["loss", "gradient_norm", "minimum_ratio", "positive_eigenvalue_share"]].notna().all()
            assert last["gradient_norm"] < 0.002 or last["step"] == 30
            assert (member.status == "stopped") == (last["gradient_norm"] < 0.002)
        assert (
            stage.stages["member-0000"].metrics["loss"].iloc[0]
            > stage.stages["member-0002"].metrics["loss"].iloc[0]
        )
    curves = run.stages["optimisation"]
    assert all(list(member.metrics["step"]) == list(range(16)) for member in curves.stages.values())
    page = run.stages["digits"].report().read_text(encoding="utf-8")
    assert "Minimum ratio against loss" in page
    assert re.search(r"\d of 3 points reached the gradient norm at which they were to stop; member-0", page)
    assert (run.stages["digits"].path / "figures/minimum-ratio.png").is_file()
