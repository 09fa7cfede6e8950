"""The recipes of paths through weight space and maps of it, at sizes that suit a test."""

from __future__ import annotations

import re

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigurationError

NAMES = ("optimisation-path", "learning-dynamics", "weight-space-map", "initialisation")
SMALL = {
    "optimisation-path": {"networks": 2, "steps": 12, "every": 3},
    "learning-dynamics": {
        "networks": 2,
        "iterations": 2,
        "depth": 3,
        "projections": ("PCA", "Autoencoder+SOM"),
    },
    "weight-space-map": {"spacing": 200},
    "initialisation": {"spacing": 250, "samples": 1, "repetitions": 2, "iterations": 2},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty directory: no data sets, no runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_a_file(name, tmp_path):
    study = ls.studies[name](seed=3)
    ls.save(study, tmp_path / "study.toml")
    assert ls.load(tmp_path / "study.toml") == study
    assert study != ls.studies[name](seed=4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("optimisation-path", {"networks": 0}, "networks=0; give numbers of at least 1"),
        ("optimisation-path", {"data": "mnist"}, "data='mnist'; choose from digits, cifar10"),
        ("learning-dynamics", {"projections": ("PCA", "UMAP")}, "projections='UMAP'; choose from PCA"),
        ("learning-dynamics", {"solver": "lbfgs"}, "solver='lbfgs'; choose from sgd, adam"),
        ("learning-dynamics", {"fit_on": "last"}, "fit_on='last'"),
        ("weight-space-map", {"spacing": 0}, "spacing=0"),
        ("initialisation", {"samples": 0, "iterations": -1}, "samples=0, iterations=-1"),
    ],
)
def test_wrong_arguments_are_refused(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        ls.studies[name](**options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each recipe's run and its report, carried out when first asked for."""
    store = tmp_path_factory.mktemp("runs")
    done = {}

    def get(name):
        if name not in done:
            run = ls.studies[name](**SMALL[name]).run(store=store)
            done[name] = run, run.report().read_text(encoding="utf-8")
        return done[name]

    return get


def test_paths_of_the_whole_network_and_its_first_layer_are_drawn(runs):
    run, page = runs("optimisation-path")
    images = run.stages["images"]
    assert {"loss", "gradient_norm", "score"} <= set(images.metrics)
    assert images.span().rows["worker"].nunique() == 2
    for text in (
        "Paths over the loss: PCA",
        "Paths and score: PCA of layer1",
        "Paths and loss: PCA of layer1",
    ):
        assert text in page
    assert len(run.stages["models"].stages) == 3


def test_networks_from_scratch_and_after_other_data(runs):
    run, page = runs("learning-dynamics")
    scratch, after = run.stages["scratch"], run.stages["pre-trained"]
    first = scratch.span().weights(scratch.span().rows.index[scratch.span().rows["step"] == 0])
    assert not np.allclose(first[0], first[1])
    begin = after.span().weights(after.span().rows.index[after.span().rows["step"] == 0])
    assert np.array_equal(begin[0], begin[1])
    assert "Paths over the loss: Autoencoder and SOM" in page
    # Layers, weights without biases and the mean of the hidden layers stand side by side.
    assert "Parts of the network and score" in page
    for text in ("layer1 ", "layer4 ", "*.weight ", "the mean of layer2, layer3 "):
        assert re.search(re.escape(text) + r"\d+ % \(\d+ %\)", page), text
    # Fitted on the first network, drawn for all.
    only = ls.studies["learning-dynamics"](**SMALL["learning-dynamics"], fit_on="first")
    assert all(isinstance(projector, ls.projectors.FitOn) for projector in only.stages[1].recipe.projectors)


def test_scores_on_the_lattice_are_those_of_its_networks(runs):
    run, page = runs("weight-space-map")
    stage = run.stages["map"]
    rows = stage.metrics[stage.metrics["step"] == 0]
    assert len(rows) == 36
    projection = stage.project(stage.projectors[0])
    corners = {(x, y) for x in range(0, 1024, 200) for y in range(0, 1024, 200)}
    assert {tuple(map(int, place)) for place in projection.coordinates} == corners
    landscape, span = stage.landscape(), stage.span()
    for place in (0, 17, 35):
        score = rows[rows["worker"].astype(str) == str(span.rows["worker"][place])]["score"].item()
        assert float(landscape.score(span.weights([place])[0])) == pytest.approx(score)
    assert "Scores over weight space: BinaryEncoder of layer2.weight" in page


def test_the_best_and_the_worst_points_are_trained_and_compared(runs):
    run, page = runs("initialisation")
    grid, walks = run.stages["map"].metrics, run.stages["walks"].metrics
    scores = grid[grid["step"] == 0]["score"]
    start = walks[walks["step"] == 0].sort_values("worker")["score"].tolist()
    assert start == pytest.approx([scores.max()] * 2 + [scores.min()] * 2)
    assert "Score by where the walk began" in page
    # The points among which the walks begin and the walks, in one projection.
    assert "From the best and the worst points over the score of all" in page
    for text in (
        "PCA of layer2.weight, fitted to the 25 points alone",
        "SOM of layer2.weight, fitted to the 25 ",
    ):
        assert text in page


def test_many_walks_take_fewer_snapshots():
    few, many = (ls.studies["initialisation"](samples=samples).stages[1].recipe for samples in (3, 50))
    assert few.snapshots == 8
    assert many.walker.workers == 200
    assert many.walker.workers * many.steps // many.snapshots <= 1000


def test_a_report_is_written_again_without_training(runs, monkeypatch):
    run, _ = runs("weight-space-map")
    monkeypatch.setattr(ls.Experiment, "run", lambda *a, **k: pytest.fail("trained again"))
    again = ls.open(run.path)
    page = again.report().read_text(encoding="utf-8")
    assert "Scores over weight space" in page


def test_a_study_is_replicated_from_its_metadata(runs, tmp_path):
    run, _ = runs("weight-space-map")
    replica = ls.open(run.path).replicate(tmp_path / "replicas")
    one, two = (r.stages["map"].span().weights() for r in (run, replica))
    assert np.array_equal(one, two)
