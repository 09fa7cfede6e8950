"""Shares of higher neighbours against geometry, shares of eigenvalues against the matrices themselves."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape_walkers.minimum_ratio import MinimumRatio, neighbours, wilson


def _point(landscape, theta=None):
    theta = torch.zeros(landscape.size) if theta is None else torch.as_tensor(theta)
    return ls.Point(landscape, theta.to(landscape.dtype), seed=5)


def _at_origin(bowl, hessian, **options):
    hessian = np.diag(hessian) if np.ndim(hessian) == 1 else hessian
    landscape = bowl(hessian, np.zeros((1, len(hessian))))
    return _point(landscape).measure(MinimumRatio(relative=False, **options))


def test_all_neighbours_of_a_minimum_are_higher_and_none_of_a_maximum(bowl):
    for sign, share in ((1, 1.0), (-1, 0.0)):
        found = _at_origin(bowl, sign * np.array([1.0, 2.0, 3.0])).scalars
        assert found["minimum_ratio"] == share
        assert found["positive_eigenvalue_share"] == share
        # Wilson's interval for n of n begins at n / (n + z^2).
        edge = 100 / (100 + 1.959964**2)
        ends = (edge, 1.0) if share else (1 - edge, 0.0)
        assert (found["minimum_ratio_low"] if share else found["minimum_ratio_high"]) == pytest.approx(
            ends[0]
        )
        assert (found["minimum_ratio_high"] if share else found["minimum_ratio_low"]) == ends[1]


@pytest.mark.parametrize("steepness", [0.2, 1.0, 5.0])
def test_at_a_saddle_of_the_plane_the_share_is_that_of_the_ascending_angles(bowl, steepness):
    # x^2 - a y^2 > 0 where |tan| < 1 / sqrt(a): a share of (2 / pi) atan(1 / sqrt(a)) of the directions.
    truth = 2 / math.pi * math.atan(1 / math.sqrt(steepness))
    found = _at_origin(bowl, [1.0, -steepness], neighbours=2000, confidence=0.9999)
    assert found.scalars["minimum_ratio_low"] < truth < found.scalars["minimum_ratio_high"]
    spread = math.sqrt(truth * (1 - truth) / 2000)
    assert found.errors["minimum_ratio"].value == pytest.approx(spread, rel=0.05)
    assert found.scalars["positive_eigenvalue_share"] == 0.5


def test_in_many_dimensions_the_share_is_the_normal_probability_of_the_docstring(bowl):
    size, radius, slope, curvature = 400, 0.5, 2.0, 0.3
    landscape = bowl(curvature * np.eye(size), np.zeros((1, size)))
    theta = np.zeros(size)
    theta[0] = slope / curvature
    found = _point(landscape, theta).measure(
        MinimumRatio(radius=radius, relative=False, neighbours=1000, confidence=0.9999, dense=0, extremes=0)
    )
    argument = radius * curvature * size / (2 * math.sqrt(size) * slope)
    truth = (1 + math.erf(argument / math.sqrt(2))) / 2
    assert found.scalars["minimum_ratio_low"] < truth < found.scalars["minimum_ratio_high"]
    assert "positive_eigenvalue_share" not in found.scalars


def test_neighbours_do_not_accumulate_and_have_no_preferred_direction(generator):
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64)
    offsets = np.stack([(n - theta).numpy() for n in neighbours(theta, 0.3, 4000, generator())])
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 0.3, rtol=1e-13)
    np.testing.assert_allclose(offsets.mean(0), 0, atol=4 * 0.3 / math.sqrt(5 * 4000))
    np.testing.assert_allclose(offsets.T @ offsets / 4000, 0.3**2 / 5 * np.eye(5), atol=0.002)


@settings(deadline=None)
@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_the_ends_of_wilsons_interval_solve_its_equation(trials, share, confidence):
    successes = round(share * trials)
    low, high = wilson(successes, trials, confidence)
    assert 0 <= low <= successes / trials <= high <= 1
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(confidence, dtype=torch.float64)))
    for p in (low, high):
        if 0 < p < 1:
            distance = abs(successes / trials - p)
            assert distance == pytest.approx(z * math.sqrt(p * (1 - p) / trials), rel=1e-6)


def test_eigenvalues_count_as_positive_or_negative_beyond_rounding_only(bowl):
    values = np.array([3.0, 1.0, 0.0, 0.0, -2.0])
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    hessian = basis @ np.diag(values) @ basis.T
    found = _at_origin(bowl, (hessian + hessian.T) / 2)
    assert found.scalars["positive_eigenvalue_share"] == pytest.approx(0.4)
    assert found.scalars["positive_eigenvalue_share_high"] == pytest.approx(0.8)
    assert found.errors["positive_eigenvalue_share"].value == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("negative", "low", "high"), [(0, 1.0, 1.0), (2, 28 / 30, 28 / 30), (7, 1 / 30, 25 / 30)]
)
def test_above_the_limit_the_ends_of_the_spectrum_give_bounds(bowl, negative, low, high):
    values = np.linspace(1, 3, 30)
    values[:negative] *= -1
    found = _at_origin(bowl, values, dense=20, neighbours=2)
    assert found.scalars["positive_eigenvalue_share_low"] == pytest.approx(low)
    assert found.scalars["positive_eigenvalue_share_high"] == pytest.approx(high)
    if low == high:
        assert found.scalars["positive_eigenvalue_share"] == pytest.approx(low)
    else:
        assert math.isnan(found.scalars["positive_eigenvalue_share"])
        assert "5 of the 5 smallest of 30 eigenvalues are certainly negative" in found.warnings[0]


def test_losses_that_rounding_hides_are_not_called_higher(bowl):
    landscape = bowl(np.eye(2), [[100.0, 0.0], [-100.0, 0.0]], torch.float32)
    found = _point(landscape).measure(MinimumRatio(radius=1e-3, relative=False))
    assert found.scalars["minimum_ratio"] == 0
    assert found.scalars["minimum_ratio_high"] == 1
    assert "cannot be told" in found.warnings[0]


def test_relative_radii_need_weights_that_are_not_zero(bowl):
    found = _point(bowl(np.eye(2), np.zeros((1, 2)))).measure(MinimumRatio())
    assert math.isnan(found.scalars["minimum_ratio"])
    assert "relative=False" in found.warnings[0]
