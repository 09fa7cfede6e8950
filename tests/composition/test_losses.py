"""Losses at given weights, as a recipe."""

import numpy as np
import pytest
import torch
from attrs import evolve

import landscape as ls
from landscape.composition.losses import Losses
from landscape.errors import ConfigurationError, RunError
from landscape.store.tensors import save_tensors


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    return ls.Experiment(
        ls.models.MLP(hidden=(3,)), ls.datasets.Digits(examples=60, test_fraction=0.5), ls.walkers.SGD(lr=0.5),
        steps=1, dtype="float64", seed=0,
    ).run(store=tmp_path / "runs")  # fmt: skip


@pytest.fixture
def points(run, tmp_path):
    """Return a function that writes points of a flat, and the weights that they stand for."""
    generator = torch.Generator().manual_seed(1)
    size = run.landscape().size
    origin, *directions = torch.randn(3, size, generator=generator, dtype=torch.float64)
    factors = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    arrays = {"origin": origin, "directions": torch.stack(directions), "factors": factors}
    path = tmp_path / "points.safetensors"
    record = save_tensors(path, arrays)
    weights = [origin + a * directions[0] + b * directions[1] for a, b in factors]
    return Losses(str(run.path), str(path), record["sha256"], 3, 35), torch.stack(weights), arrays


@pytest.mark.parametrize("replayed", [True, False])
@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_losses_and_scores_are_those_of_the_landscape_at_the_points(
    run, points, tmp_path, replayed, scores, split
):
    recipe, weights, _ = points
    recipe = evolve(recipe, replayed=replayed, scores=scores, split=split)
    assert ls.loads(ls.dumps(recipe)) == recipe
    found = recipe.run(store=tmp_path / "losses")
    assert (found.kind, found.status) == ("losses", "complete")
    (arrays,) = ls.open(found.path).arrays("losses")
    landscape = run.landscape(split)
    expected = [float(landscape.value(row)) for row in weights[3:35]]
    np.testing.assert_allclose(arrays["loss"], expected, rtol=1e-10)
    score = [float(landscape.score(row)) if scores else np.nan for row in weights[3:35]]
    np.testing.assert_allclose(arrays["score"], score, rtol=1e-12)
    assert found.report().is_file()


def test_a_selection_of_examples_is_evenly_spaced(run, points, tmp_path):
    recipe, weights, _ = points
    (arrays,) = evolve(recipe, examples=7).run(store=tmp_path / "losses").arrays("losses")
    landscape = run.landscape()
    x, y = landscape.data.take(torch.arange(landscape.data.examples))
    assert len(x) == 30
    chosen = torch.from_numpy(np.linspace(0, 29, 7).round().astype(int))
    expected = [float(landscape.on((x[chosen], y[chosen])).value(row)) for row in weights[3:35]]
    np.testing.assert_allclose(arrays["loss"], expected, rtol=1e-10)


def test_an_interrupted_part_is_computed_again(points, tmp_path, monkeypatch):
    recipe, _, _ = points
    (expected,) = recipe.run(store=tmp_path / "losses", backend="InProcess").arrays("losses")
    with monkeypatch.context() as patch:
        patch.setattr(Losses, "_computed", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recipe.run(store=tmp_path / "other", run_id="one")
    broken = ls.open(tmp_path / "other" / "one")
    assert broken.status == "interrupted"
    (arrays,) = broken.resume().arrays("losses")
    np.testing.assert_array_equal(arrays["loss"], expected["loss"])
    (arrays,) = broken.replicate().arrays("losses")
    np.testing.assert_array_equal(arrays["loss"], expected["loss"])


def test_what_is_not_there_leaves_no_run(points, tmp_path):
    recipe, _, arrays = points
    store = tmp_path / "losses"
    wrong = [
        (evolve(recipe, source=str(tmp_path / "nowhere")), RunError, "nowhere"),
        (evolve(recipe, points=str(tmp_path / "nothing")), RunError, "nothing"),
        (evolve(recipe, sha256="0" * 64), RunError, "is damaged"),
        (evolve(recipe, last=41), ConfigurationError, "has 40 points"),
        (evolve(recipe, first=9, last=9), ConfigurationError, "first=9, last=9"),
        (evolve(recipe, split="tset"), ConfigurationError, "'tset'"),
    ]
    other = tmp_path / "other.safetensors"
    sha256 = save_tensors(other, arrays | {"origin": arrays["origin"][:5]})["sha256"]
    wrong.append((evolve(recipe, points=str(other), sha256=sha256), ConfigurationError, "the network has"))
    few = tmp_path / "few.safetensors"
    sha256 = save_tensors(few, {"origin": arrays["origin"]})["sha256"]
    wrong.append(
        (evolve(recipe, points=str(few), sha256=sha256), ConfigurationError, "no directions, factors")
    )
    for one, error, message in wrong:
        with pytest.raises(error, match=message):
            one.run(store=store)
    with pytest.raises(ConfigurationError, match="run_id is for runs in this process"):
        recipe.run(store=store, backend="InProcess", run_id="a")
    assert not store.exists()
