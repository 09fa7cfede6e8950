"""Ascent in a ball and the sharpness it finds, on quadratics."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape_walkers.path import Sharpness
from landscape_walkers.sharpness import SharpnessAscent

HESSIAN = np.diag([4.0, 1.0, 0.5])
BEGIN = np.array([[0.01, 0.02, -0.01]])


def test_inside_the_ball_it_is_plain_ascent(bowl, walked):
    state = walked(SharpnessAscent(0.1, radius=100.0), bowl(HESSIAN, np.zeros((2, 3))), BEGIN, 12)
    expected = np.linalg.matrix_power(np.eye(3) + 0.1 * HESSIAN, 12) @ BEGIN[0]
    np.testing.assert_allclose(state.positions[0], expected, rtol=1e-12)


def test_it_ends_on_the_sphere_where_the_gradient_points_outward(bowl, walked):
    radius = 0.5
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    state = walked(SharpnessAscent(0.2, radius), landscape, BEGIN, 200)
    way = state.positions[0].numpy() - BEGIN[0]
    assert np.linalg.norm(way) == pytest.approx(radius, rel=1e-12)
    # The condition of Kuhn and Tucker: the gradient is a positive multiple of the way.
    gradient = landscape.gradient(state.positions[0]).numpy()
    np.testing.assert_allclose(gradient / np.linalg.norm(gradient), way / radius, atol=1e-9)


def test_no_random_point_of_the_ball_is_higher(bowl, walked):
    radius = 0.5
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    state = walked(SharpnessAscent(0.2, radius), landscape, BEGIN, 200)
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    sphere = BEGIN + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    losses = 0.5 * ((sphere @ HESSIAN) * sphere).sum(1)
    assert float(landscape.value(state.positions[0])) >= losses.max()


def test_at_the_first_exit_it_rests_outside_and_says_when(bowl, walked):
    lr, radius = 0.1, 0.3
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = SharpnessAscent(lr, radius, at_boundary="stop")
    theta, step = BEGIN[0], 0
    while np.linalg.norm(theta - BEGIN[0]) <= radius:
        theta, step = theta + lr * HESSIAN @ theta, step + 1
    before = walked(walker, landscape, BEGIN, step - 1)
    assert math.isnan(walker.record(before)["exit_step"][0])
    state = walked(walker, landscape, BEGIN, step + 5)
    assert walker.record(state) == {"exit_step": (float(step),)}
    np.testing.assert_allclose(state.positions[0], theta, rtol=1e-12)


def test_the_probe_finds_the_normalised_rise(bowl):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walk = ls.Walk(landscape, SharpnessAscent(0.2, 0.5), start=torch.from_numpy(BEGIN[0]))
    for _ in walk.steps(50):
        pass

    def loss(theta):
        return 0.5 * theta @ HESSIAN @ theta

    start, end = BEGIN[0], walk.positions[0].numpy()
    found = walk.population().points[0].measure(Sharpness())
    expected = 100 * (loss(end) - loss(start)) / (1 + loss(start))
    assert found.scalars["sharpness"] == pytest.approx(expected, rel=1e-13)
    assert found.warnings == ()


def test_the_probe_computes_the_loss_at_the_start_once(bowl):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    start, probe = torch.from_numpy(BEGIN[0]), Sharpness()
    first = landscape_point(landscape, start, start)
    assert first.measure(probe).scalars == {"sharpness": 0.0}
    second = landscape_point(landscape, start + 1, start, first)
    calls = []
    inner = landscape.value
    landscape.value = lambda theta, batch=None: calls.append(theta) or inner(theta, batch)
    alone = landscape_point(landscape, start + 1, start)
    assert second.measure(probe).scalars == alone.measure(probe).scalars
    assert len(calls) == 1 + 2


def landscape_point(landscape, theta, initial, previous=None):
    from landscape.objective import Point

    return Point(landscape, theta, initial=initial, previous=previous)


def test_without_a_start_or_with_a_loss_that_has_no_normalisation_it_is_nan_and_says_why(bowl):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    theta = torch.from_numpy(BEGIN[0])
    found = landscape_point(landscape, theta, None).measure(Sharpness())
    assert math.isnan(found.scalars["sharpness"])
    assert "where its path started" in found.warnings[0]
    landscape.penalty = lambda theta: -5.0 + 0 * theta.sum()
    first = landscape_point(landscape, theta, theta)
    for point in (first, landscape_point(landscape, theta, theta, first)):
        found = point.measure(Sharpness())
        assert math.isnan(found.scalars["sharpness"])
        assert "1 more is not positive" in found.warnings[0]
