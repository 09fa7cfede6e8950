"""Path probes against numpy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_walkers import path
from landscape_walkers.path import (
    CosineWithStart,
    DistanceFromStart,
    GradientNorm,
    Loss,
    Score,
    WeightNorm,
)


def _point(landscape, theta, initial=None, **options):
    return ls.Point(landscape, theta, initial=initial, **options)


def test_loss_and_gradient_norm_on_a_quadratic_are_its_closed_form(bowl):
    hessian = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = np.random.default_rng(0).normal(size=(7, 2))
    train, other = bowl(hessian, x), bowl(hessian, x + 1)
    theta = np.array([0.3, -0.2])
    splits = {"train": train.data, "test": other.data}
    point = _point(train, torch.from_numpy(theta), splits=splits)
    for split, name, centre in (("train", "", x), ("test", "_test", x + 1)):
        loss = 0.5 * np.einsum("ni,ij,nj->n", theta - centre, hessian, theta - centre).mean()
        norm = np.linalg.norm(hessian @ (theta - centre.mean(0)))
        assert point.measure(Loss(split)).scalars == {f"loss{name}": pytest.approx(loss, rel=1e-13)}
        assert point.measure(GradientNorm(split)).scalars == {
            f"gradient_norm{name}": pytest.approx(norm, rel=1e-13)
        }


def test_the_score_is_the_share_of_correct_predictions(classifier):
    landscape = classifier()
    point = _point(landscape, landscape.initial(), splits={"test": landscape.data})
    (x, y), *_ = landscape.batches()
    share = float((landscape.module(x).argmax(1) == y).double().mean())
    assert point.measure(Score()).scalars == {"score": pytest.approx(share, abs=1e-7)}
    assert point.measure(Score("test")).scalars == {"score_test": pytest.approx(share, abs=1e-7)}


def test_a_landscape_without_a_score_is_refused_with_a_cure(bowl):
    landscape = bowl([[1.0]], [[0.0]])
    with pytest.raises(ConfigurationError, match=r"has no score.*leave the probe out"):
        _point(landscape, landscape.initial()).measure(Score())


@given(
    theta=st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
    start=st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
    piece=st.sampled_from([2, 4, 6, 100]),
)
@settings(max_examples=50, deadline=None)
def test_norm_cosine_and_distance_are_numpys_in_float64(make_bowl, theta, start, piece):
    landscape = make_bowl(np.eye(6), np.zeros((1, 6)), torch.float32)
    a, b = np.array(theta), np.array(start)
    point = _point(landscape, torch.tensor(theta), torch.tensor(start))
    whole, path._PIECE = path._PIECE, piece  # also where the vectors come in several pieces
    try:
        norm = point.measure(WeightNorm()).scalars["weight_norm"]
        distance = point.measure(DistanceFromStart()).scalars["distance_from_start"]
        cosine = point.measure(CosineWithStart())
    finally:
        path._PIECE = whole
    assert norm == pytest.approx(np.sqrt((a * a).sum()), rel=1e-14)
    assert distance == pytest.approx(np.sqrt(((a - b) ** 2).sum()), rel=1e-14)
    if a.any() and b.any():
        expected = a @ b / np.sqrt((a * a).sum()) / np.sqrt((b * b).sum())
        assert cosine.scalars["cosine_with_start"] == pytest.approx(expected, abs=1e-14)
        assert abs(cosine.scalars["cosine_with_start"]) <= 1
    else:
        assert math.isnan(cosine.scalars["cosine_with_start"])
        assert "all zero" in cosine.warnings[0]


def test_a_point_at_its_start_is_at_distance_zero_and_cosine_one(classifier):
    landscape = classifier()
    point = _point(landscape, landscape.initial(), landscape.initial())
    assert point.measure(DistanceFromStart()).scalars == {"distance_from_start": 0.0}
    assert point.measure(CosineWithStart()).scalars["cosine_with_start"] == pytest.approx(1, abs=1e-15)
    opposite = _point(landscape, landscape.initial(), -landscape.initial())
    assert opposite.measure(CosineWithStart()).scalars["cosine_with_start"] == pytest.approx(-1, abs=1e-15)


@pytest.mark.parametrize("probe", [CosineWithStart(), DistanceFromStart()])
def test_without_a_known_start_the_answer_is_nan_with_a_warning(classifier, probe):
    landscape = classifier()
    measurement = _point(landscape, landscape.initial()).measure(probe)
    assert [math.isnan(value) for value in measurement.scalars.values()] == [True]
    assert "does not know where its path started" in measurement.warnings[0]


def test_a_norm_of_many_small_numbers_does_not_drown_in_float32(bowl):
    size = 3000
    landscape = bowl(np.zeros((size, size)), np.zeros((1, size)), torch.float32)
    theta = torch.full((size,), 1e-4)
    theta[0] = 10  # in float32, 100 + 1e-8 = 100
    measured = _point(landscape, theta).measure(WeightNorm()).scalars["weight_norm"]
    assert measured**2 - float(theta[0]) ** 2 == pytest.approx((size - 1) * 1e-8, rel=1e-4)


def test_probes_are_found_by_name_and_measured_as_such(classifier):
    landscape = classifier()
    point = _point(landscape, landscape.initial(), landscape.initial())
    names = ("Loss", "Score", "GradientNorm", "WeightNorm", "CosineWithStart", "DistanceFromStart")
    columns = [column for name in names for column in point.measure(name).scalars]
    assert columns == [
        "loss",
        "score",
        "gradient_norm",
        "weight_norm",
        "cosine_with_start",
        "distance_from_start",
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_comes_with_a_warning(classifier, bad):
    landscape = classifier()
    theta = torch.full((landscape.size,), bad)
    point = _point(landscape, theta, landscape.initial())
    for probe in (Loss(), GradientNorm(), WeightNorm(), CosineWithStart(), DistanceFromStart()):
        measurement = point.measure(probe)
        assert not any(map(math.isfinite, measurement.scalars.values()))
        assert "left the finite numbers" in measurement.warnings[0]
