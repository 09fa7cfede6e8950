"""Paths between workers: on a quadratic the loss along a straight line is a parabola."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_walkers._between import barrier, labels_of
from landscape_walkers.interpolation import Interpolation, norm_corrected, straight

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, -5.0]])
X = np.random.default_rng(3).normal(size=(6, 3))


def _population(landscape, positions, splits=None, **labelled):
    positions = torch.as_tensor(np.asarray(positions), dtype=landscape.dtype)
    labelled = {name: torch.as_tensor(theta, dtype=landscape.dtype) for name, theta in labelled.items()}
    return ls.Population(landscape, positions, step=0, labelled=labelled, splits=splits)


def _loss(theta, x):
    difference = theta - x
    return 0.5 * np.einsum("ni,ij,nj->n", difference, HESSIAN, difference).mean()


def test_the_loss_along_a_straight_path_on_a_quadratic_is_its_parabola(bowl):
    train, test = bowl(HESSIAN, X), bowl(HESSIAN, X + 0.5)
    workers = np.random.default_rng(0).normal(size=(3, 3))
    population = _population(train, workers, {"train": train.data, "test": test.data}, centre=workers.mean(0))
    found = population.measure(Interpolation(resolution=4, gradient_norm=True))
    t = found.arrays["t"]
    assert t.tolist() == [l / 4 for l in range(-4, 9)]  # noqa: E741
    assert labels_of(found.arrays["labels"]) == ("0", "1", "2", "centre")
    assert found.arrays["pairs"].tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    every = [*workers, workers.mean(0)]
    for split, x in (("train", X), ("test", X + 0.5)):
        heights = []
        for row, (j, i) in enumerate(found.arrays["pairs"]):
            a, b = every[j], every[i]
            # L(a + t d) = L(a) + t g.d + t^2 d.H d / 2
            slope, bend = (b - a) @ HESSIAN @ (a - x.mean(0)), (b - a) @ HESSIAN @ (b - a)
            truth = _loss(a, x) + t * slope + t**2 * bend / 2
            np.testing.assert_allclose(found.arrays[f"loss_{split}"][row], truth, rtol=1e-12, atol=1e-13)
            slopes = [np.linalg.norm(HESSIAN @ (a + s * (b - a) - x.mean(0))) for s in t]
            np.testing.assert_allclose(found.arrays[f"gradient_norm_{split}"][row], slopes, rtol=1e-12)
            # A parabola exceeds its chord by -bend t (1 - t) / 2, most of it at 1/2 where bend < 0.
            heights.append(max(0.0, -bend / 8))
        assert max(heights) > 0
        tail = "" if split == "train" else "_test"
        assert found.scalars[f"barrier_mean{tail}"] == pytest.approx(np.mean(heights), rel=1e-11)
        assert found.scalars[f"barrier_max{tail}"] == pytest.approx(max(heights), rel=1e-11)


def test_the_norm_corrected_path_is_its_formula(bowl):
    landscape = bowl(HESSIAN, X)
    a, b = np.array([1.0, 2.0, -1.0]), np.array([-0.5, 1.0, 2.0])
    found = _population(landscape, [a, b]).measure(Interpolation(spherical=True, splits=["train"]))
    for t, loss in zip(found.arrays["t"], found.arrays["spherical_loss_train"][0], strict=True):
        c = (1 - t) * a + t * b
        c *= (t * np.linalg.norm(b) + (1 - t) * np.linalg.norm(a)) / np.linalg.norm(c)
        assert loss == pytest.approx(_loss(c, X), rel=1e-12)
    assert "loss_train" not in found.arrays
    assert set(found.scalars) == {"spherical_barrier_mean", "spherical_barrier_max"}


vectors = st.lists(st.floats(-10, 10, width=32), min_size=5, max_size=5).map(np.array)


@given(a=vectors, b=vectors, t=st.floats(-1, 2))
@settings(max_examples=200, deadline=None)
def test_a_norm_corrected_point_has_exactly_the_norm_it_should_have_or_is_none(a, b, t):
    target = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
    c = (1 - t) * a + t * b
    found = norm_corrected(torch.from_numpy(a), torch.from_numpy(b), t)
    if found is None:
        scale = abs(1 - t) * np.linalg.norm(a) + abs(t) * np.linalg.norm(b)
        assert target < 0 or np.linalg.norm(c) <= 1e-15 * scale
    else:
        assert np.linalg.norm(found) == pytest.approx(target, rel=1e-14, abs=1e-300)
        np.testing.assert_allclose(found * np.linalg.norm(c), c * target, rtol=1e-12, atol=1e-10)


@given(seed=st.integers(0, 2**20), spherical=st.sampled_from([False, True, "both"]))
@settings(max_examples=10, deadline=None)
def test_the_ends_of_every_path_have_the_workers_own_losses(make_bowl, seed, spherical):
    landscape = make_bowl(HESSIAN, X, torch.float32)
    workers = np.random.default_rng(seed).normal(size=(3, 3))
    population = _population(landscape, workers)
    found = population.measure(Interpolation(resolution=2, spherical=spherical))
    own = [float(landscape.value(point.theta)) for point in population.points]
    for name in ("loss_train", "spherical_loss_train"):
        for row, (j, i) in zip(found.arrays.get(name, ()), found.arrays["pairs"], strict=False):
            assert row[found.arrays["t"] == 0] == own[j]
            assert row[found.arrays["t"] == 1] == own[i]


def test_where_the_norm_corrected_path_does_not_exist_rows_are_nan_and_say_so(bowl):
    landscape = bowl(HESSIAN, X)
    # |W_1| = 3 |W_0|: at t = -1 the norm would be 2 - 3 = -1.
    found = _population(landscape, [[1.0, 0, 0], [0, 3.0, 0]]).measure(
        Interpolation(resolution=2, spherical="both")
    )
    assert found.arrays["spherical_exists"].tolist() == [[False] + 6 * [True]]
    assert np.isnan(found.arrays["spherical_loss_train"]).tolist() == [[True] + 6 * [False]]
    assert np.isfinite(found.arrays["loss_train"]).all()
    assert math.isfinite(found.scalars["spherical_barrier_max"])
    (sentence,) = found.warnings
    assert "does not exist at 1 of 7 points: t=-1 of 0-1" in sentence
    # Half way between opposite points is zero, which has no direction: so the barrier is not known either.
    opposite = _population(landscape, [[1.0, 1.0, 0], [-1.0, -1.0, 0]]).measure(
        Interpolation(resolution=2, spherical=True, beyond=(0, 1))
    )
    assert opposite.arrays["spherical_exists"].tolist() == [[True, False, True]]
    assert math.isnan(opposite.scalars["spherical_barrier_max"])
    assert len(opposite.warnings) == 2


def test_pairs_are_all_consecutive_or_named(bowl):
    landscape = bowl(HESSIAN, X)
    population = _population(landscape, np.eye(3), centre=np.ones(3))

    def pairs(which):
        probe = Interpolation(resolution=1, beyond=(0, 1), pairs=which)
        return population.measure(probe).arrays["pairs"].tolist()

    assert pairs("consecutive") == [[0, 1], [1, 2], [2, 3]]
    assert pairs([["2", "0"], ["0", "centre"]]) == [[2, 0], [0, 3]]
    with pytest.raises(ConfigurationError, match=r"no point 'center'.*Did you mean 'centre'"):
        pairs([["0", "center"]])
    with pytest.raises(ConfigurationError, match="is one point"):
        pairs([["0", "0"]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "some"}, "'consecutive' or a list"),
        ({"spherical": "yes"}, "False, True or 'both'"),
        ({"beyond": (0.2, 1)}, "at most 0 and at least 1"),
        ({"resolution": 0}, "whole number, at least 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        Interpolation(**options)


def test_a_classifier_has_scores_along_the_path_and_no_gradient_unless_asked(classifier):
    landscape = classifier(torch.float64)
    a = landscape.initial()
    b = a.flip(0)
    probe = Interpolation(resolution=2, splits=["train"])
    found = _population(landscape, torch.stack([a, b])).measure(probe)
    assert "gradient_norm_train" not in found.arrays
    for t, loss, score in zip(
        found.arrays["t"], found.arrays["loss_train"][0], found.arrays["score_train"][0], strict=True
    ):
        theta = straight(a, b, float(t))
        assert loss == float(landscape.value(theta))
        assert score == float(landscape.score(theta))


@pytest.mark.parametrize("spherical", [False, True])
def test_ends_are_evaluated_once_and_paths_in_turns_of_any_length(classifier, monkeypatch, spherical):
    import landscape_walkers.interpolation as module

    landscape = classifier(torch.float64)
    noise = torch.randn(3, landscape.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positions = landscape.initial() + noise
    options = {"resolution": 3, "spherical": spherical, "splits": ["train"]}
    whole = _population(landscape, positions).measure(Interpolation(**options))
    evaluated = []
    real = ls.Landscape.value_and_score
    monkeypatch.setattr(
        ls.Landscape,
        "value_and_score",
        lambda self, theta: (evaluated.append(len(theta)), real(self, theta))[1],
    )
    monkeypatch.setattr(module, "_MEMORY", 3 * landscape.size * landscape.dtype.itemsize)
    in_turns = _population(landscape, positions).measure(Interpolation(**options))
    name = "spherical_loss_train" if spherical else "loss_train"
    there = np.isfinite(whole.arrays[name])
    # Three ends, and three paths of ten points less two, of which some may not exist.
    assert sum(evaluated) == 3 + there.sum() - 6
    assert max(evaluated) <= 3
    for key, array in whole.arrays.items():
        np.testing.assert_allclose(in_turns.arrays[key], array, rtol=1e-14)


def test_one_point_has_no_paths_and_a_path_without_numbers_has_no_barrier(bowl):
    landscape = bowl(HESSIAN, X)
    found = _population(landscape, np.ones((1, 3))).measure(Interpolation())
    assert math.isnan(found.scalars["barrier_max"])
    assert "one point only" in found.warnings[0]
    assert found.arrays["loss_train"].shape == (0, 31)
    lost = _population(landscape, [[0.0, 0, 0], [math.inf, 0, 0]]).measure(Interpolation())
    assert math.isnan(lost.scalars["barrier_max"])
    assert "not known for 0-1" in lost.warnings[0]


def test_the_barrier_is_the_largest_excess_over_the_chord():
    t = np.array([-1, 0, 0.25, 0.5, 1, 2])
    assert barrier(t, np.array([100, 1, 1.5, 4, 3, 100.0])) == 2.0  # 4 - (1 + 3) / 2
    assert barrier(t, np.array([100, 1, 1, 1, 3, 100.0])) == 0.0
    assert math.isnan(barrier(t, np.array([100, 1, np.nan, 1, 3, 100.0])))
