"""Curves between two points: on quadratics the best bend is known, in a ring a curve avoids the hill."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_walkers.connectivity import ModeConnectivity, bernstein, hats, on_curve


class Ring(nn.Module):
    """(|w|^2 - 1)^2: a valley round the origin, where there is a hill of height 1."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 0.0], dtype=torch.float64))

    def forward(self, x):
        return ((self.w @ self.w - 1) ** 2).expand(len(x))


@pytest.fixture
def ring():
    return ls.Landscape(Ring(), "model", [(torch.zeros(1, dtype=torch.float64),)])


def _population(landscape, positions, **options):
    positions = torch.as_tensor(positions, dtype=landscape.dtype)
    return ls.Population(landscape, positions, step=0, **options)


@pytest.mark.parametrize(
    ("curve", "bends", "barrier"), [("bezier", 1, 0.06), ("chain", 2, 0.15), ("bezier", 3, 0.06)]
)
def test_in_a_ring_shaped_valley_the_curve_goes_round_the_hill(ring, curve, bends, barrier):
    population = _population(ring, [[-1.0, 0.0], [1.0, 0.0]])
    probe = ModeConnectivity(curve, bends, steps=1000, lr=0.05, momentum=0.5, batch_size=None)
    found = population.measure(probe)
    assert found.scalars["straight_barrier"] == 1
    assert found.scalars["curve_barrier"] < barrier
    assert 1.2 < found.scalars["curve_length_ratio"] < 1.8  # half the circle has pi / 2
    t, straight_loss = found.arrays["t"], found.arrays["straight_loss_train"]
    np.testing.assert_allclose(straight_loss, ((2 * t - 1) ** 2 - 1) ** 2, atol=1e-15)
    assert found.carry["bends"].shape == (bends, 2)
    a, b = population.positions
    for here, loss in zip(t[1:-1], found.arrays["loss_train"][1:-1], strict=True):
        w = on_curve(a, b, found.carry["bends"], float(here), curve=curve)
        assert loss == pytest.approx(float(w @ w - 1) ** 2, rel=1e-12)


@pytest.mark.parametrize(("curve", "factor"), [("bezier", -3 / 4), ("chain", -1 / 4)])
def test_on_a_quadratic_the_bend_goes_to_its_closed_form(bowl, curve, factor):
    # E[c_1^2] bend = -E[c_1 c_0] (a + b), about the minimum: 2/15 and 1/10 for the Bezier curve, 1/3 and 1/12
    # for the chain, whatever the Hessian.
    minimum = np.array([0.5, -1.0, 0.25])
    landscape = bowl(np.diag([1.0, 2.0, 0.5]) + 0.2, minimum[None])
    a, b = np.array([1.0, 1.0, -2.0]), np.array([2.0, 0.0, 1.0])
    probe = ModeConnectivity(curve, steps=1500, lr=0.1, momentum=0.5, batch_size=None)
    found = _population(landscape, np.stack([a, b])).measure(probe)
    truth = minimum + factor * (a + b - 2 * minimum)
    np.testing.assert_allclose(found.carry["bends"][0], truth, atol=0.1)
    assert found.scalars["curve_barrier"] == 0


@settings(deadline=None)
@given(t=st.floats(0, 1), pieces=st.integers(1, 6))
def test_coefficients_are_a_partition_of_one_and_reproduce_straight_lines(t, pieces):
    for coefficients in (bernstein(t, pieces), hats(t, pieces)):
        assert min(coefficients) >= 0
        assert sum(coefficients) == pytest.approx(1, abs=1e-14)
        assert sum(c * m / pieces for m, c in enumerate(coefficients)) == pytest.approx(t, abs=1e-14)


@given(seed=st.integers(0, 1000), curve=st.sampled_from(["bezier", "chain"]), bends=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_untrained_curves_without_spread_are_the_straight_line(make_bowl, seed, curve, bends):
    landscape = make_bowl(np.eye(4), np.zeros((1, 4)))
    ends = np.random.default_rng(seed).normal(size=(2, 4))
    probe = ModeConnectivity(curve, bends, steps=1, lr=1e-300, spread=0.0, batch_size=None, resolution=7)
    found = _population(landscape, ends).measure(probe)
    np.testing.assert_allclose(found.arrays["loss_train"], found.arrays["straight_loss_train"], rtol=1e-12)
    assert found.scalars["curve_length_ratio"] == pytest.approx(1, rel=1e-12)


def test_a_chain_passes_through_its_bends(generator):
    points = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    for m in range(5):
        at = on_curve(points[0], points[-1], points[1:-1], m / 4, curve="chain")
        torch.testing.assert_close(at, points[m])


def test_mini_batches_decide_the_training_and_the_seed_decides_them(classifier):
    landscape = classifier()
    ends = torch.stack([landscape.initial(), landscape.initial().flip(0)])
    probe = ModeConnectivity(steps=20, batch_size=16, resolution=4)
    splits = {"train": landscape.data, "test": landscape.data}
    first, again = (_population(landscape, ends, splits=splits).measure(probe) for _ in range(2))
    other = _population(landscape, ends, splits=splits, seed=1).measure(probe)
    assert torch.equal(first.carry["bends"], again.carry["bends"])
    assert not torch.equal(first.carry["bends"], other.carry["bends"])
    assert len(first.arrays["training_loss"]) == 20
    own = [float(landscape.value(theta)) for theta in ends]
    for name in ("loss_train", "loss_test", "straight_loss_train", "straight_loss_test"):
        assert first.arrays[name][[0, -1]].tolist() == pytest.approx(own, rel=1e-7)
    assert first.arrays["score_test"].shape == (5,)


def test_training_that_diverges_says_so(bowl):
    landscape = bowl(np.eye(2), np.zeros((1, 2)))
    probe = ModeConnectivity(steps=2000, lr=100.0, batch_size=None)
    found = _population(landscape, [[1.0, 0.0], [0.0, 1.0]]).measure(probe)
    assert not math.isfinite(found.scalars["curve_barrier"])
    assert any("Choose a smaller lr" in sentence for sentence in found.warnings)


def test_a_pair_that_is_not_there_and_options_that_mean_nothing_are_refused(ring):
    with pytest.raises(ConfigurationError, match=r"no point '1'.*it has 0"):
        _population(ring, [[1.0, 0.0]]).measure(ModeConnectivity())
    with pytest.raises(ConfigurationError, match="'bezier' or 'chain'"):
        ModeConnectivity("spline")
    with pytest.raises(ConfigurationError, match="names of two points"):
        ModeConnectivity(pair=("0",))
