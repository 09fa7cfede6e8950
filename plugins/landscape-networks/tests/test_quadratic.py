"""NoisyQuadratic and GradientNoise against the formulas of their docstrings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component
from landscape_networks.quadratic import GradientNoise, NoisyQuadratic

H = ((2.0, 0.5, 0.0), (0.5, -1.0, 0.25), (0.0, 0.25, 3.0))
C = ((1.0, -0.3, 0.0), (-0.3, 0.5, 0.1), (0.0, 0.1, 0.2))
M = (1.0, -2.0, 0.5)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _noise(dataset, seed=0):
    return dataset.load(_generator(seed))["train"].everything()[0]


def _landscape(model, dataset, seed=0):
    data = dataset.load(_generator(seed))["train"]
    return ls.Landscape(model.build(data.everything(), _generator(seed)), "model", data)


@pytest.mark.parametrize(
    ("hessian", "covariance"),
    [(H, C), ((2.0, -1.0, 0.0), (0.0, 0.5, 1.0)), (H, (1.0, 2.0, 0.0)), (None, None)],
)
def test_hessian_minimum_and_covariance_are_those_that_were_given(hessian, covariance):
    model = NoisyQuadratic(hessian=hessian, minimum=M)
    landscape = _landscape(model, GradientNoise(3, covariance=covariance, examples=50))
    powers = np.diag([1, 1 / 2, 1 / 3])
    truth, spread = (
        powers if given is None else np.diag(given) if np.ndim(given) == 1 else np.array(given)
        for given in (hessian, covariance)
    )
    m = np.array(M)
    for theta in (landscape.initial(), torch.tensor([0.3, 2.0, -1.0], dtype=torch.float64)):
        away = theta.numpy() - m
        assert float(landscape.value(theta)) == pytest.approx(away @ truth @ away / 2, abs=1e-12)
        np.testing.assert_allclose(landscape.gradient(theta), truth @ away, atol=1e-12)
        np.testing.assert_allclose(landscape.hessian(theta).dense(), truth, atol=1e-12)
        rows = landscape.example_gradients(theta, landscape.data.everything()).numpy()
        np.testing.assert_allclose(np.cov(rows.T, bias=True), spread, atol=1e-12)


def test_it_is_up_to_constants_the_quadratic_about_each_example():
    model, dataset = NoisyQuadratic(hessian=H, minimum=M), GradientNoise(covariance=C, examples=20)
    landscape = _landscape(model, dataset)
    h, m = np.array(H), np.array(M)
    x = m - np.linalg.solve(h, _noise(dataset).numpy().T).T
    theta = landscape.initial()
    for i in range(3):
        (one,) = (landscape.data.take(torch.tensor([i])),)
        about = [
            (t.numpy() - x[i]) @ h @ (t.numpy() - x[i]) / 2 - float(landscape.value(t, one))
            for t in (theta, 2 * theta, torch.zeros_like(theta))
        ]
        np.testing.assert_allclose(about, about[0], atol=1e-10)


@given(
    size=st.integers(1, 6), examples=st.integers(8, 60), scale=st.floats(0.01, 100), seed=st.integers(0, 5),
    decay=st.floats(0, 2),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_the_noise_has_mean_zero_and_its_covariance_exactly(size, examples, scale, seed, decay):
    noise = _noise(GradientNoise(size, decay=decay, scale=scale, examples=examples), seed)
    assert noise.shape == (examples, size)
    np.testing.assert_allclose(noise.mean(0), 0, atol=1e-12 * scale)
    truth = scale * np.diag(np.arange(1, size + 1) ** -decay)
    np.testing.assert_allclose(noise.T @ noise / examples, truth, atol=1e-12 * scale)


def test_noise_that_is_not_made_exact_is_so_within_the_errors_of_sampling():
    noise = _noise(GradientNoise(covariance=C, examples=20_000, exact=False)).numpy()
    # The standard error of a covariance is at most about sqrt(2 / n) of the variances: 1 %.
    np.testing.assert_allclose(np.cov(noise.T, bias=True), C, atol=0.05)
    assert abs(noise.mean(0)).max() > 1e-6


def test_without_noise_one_example_is_enough():
    assert _noise(GradientNoise(4, scale=0, examples=1)).tolist() == [[0.0] * 4]


def test_sgd_without_noise_goes_down_as_the_closed_form_says():
    experiment = ls.Experiment(
        NoisyQuadratic(hessian=(1.0, 4.0), minimum=(1.0, 2.0)), GradientNoise(2, scale=0, examples=1),
        ls.walkers.SGD(lr=0.1), loss="model", dtype="float64", seed=3,
    )  # fmt: skip
    walk = experiment.walk()
    start = walk.positions[0].numpy().copy()
    for _ in range(10):
        walk.advance()
    m = np.array([1.0, 2.0])
    np.testing.assert_allclose(
        walk.positions[0].numpy(), m + np.array([0.9, 0.6]) ** 10 * (start - m), rtol=1e-12
    )


def test_the_start_is_normal_about_the_minimum_and_the_generators_own():
    model, batch = NoisyQuadratic(minimum=(5.0,) * 2000, scale=0.5), (torch.zeros(1, 2000),)
    before = torch.get_rng_state()
    first, again, other = (model.build(batch, _generator(seed)).theta.detach() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.mean()) == pytest.approx(5.0, abs=0.05)
    assert float(first.std()) == pytest.approx(0.5, rel=0.06)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(3)), "give it the dataset GradientNoise, and loss='model'"),
        ((torch.zeros(3),), "GradientNoise"),
        ((torch.zeros(3, 2),), "hessian is for 3 dimensions, but the noise of the data has 2"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_a_cure(batch, message):
    with pytest.raises(ConfigurationError, match=message):
        NoisyQuadratic(hessian=H).build(batch, _generator())


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (NoisyQuadratic, {"hessian": ((1.0, 2.0), (0.0, 1.0))}, "not symmetric"),
        (NoisyQuadratic, {"hessian": ((1.0, 2.0),)}, "no square matrix"),
        (NoisyQuadratic, {"hessian": ((1.0, 2.0), 1.0)}, "no square matrix"),
        (NoisyQuadratic, {"hessian": ()}, "no square matrix"),
        (NoisyQuadratic, {"hessian": (float("nan"), 1.0)}, "not finite"),
        (NoisyQuadratic, {"scale": -1.0}, "NoisyQuadratic: scale=-1.0"),
        (GradientNoise, {"dimension": 0}, "dimension=0"),
        (GradientNoise, {"dimension": 2, "covariance": C}, "covariance is for 3"),
        (
            GradientNoise,
            {"dimension": 10, "examples": 10},
            "at least 11 for an exact covariance, or give exact=False",
        ),
        (GradientNoise, {"examples": 0, "exact": False}, "examples=0"),
    ],
)
def test_impossible_fields_are_refused_by_value(cls, fields, message):
    with pytest.raises(ConfigurationError, match=message):
        cls(**fields)


@pytest.mark.parametrize("covariance", [(1.0, -0.1), ((1.0, 2.0), (2.0, 1.0))])
def test_a_covariance_with_a_negative_eigenvalue_is_refused(covariance):
    with pytest.raises(ConfigurationError, match="has the eigenvalue -"):
        GradientNoise(covariance=covariance).load(_generator())


def test_both_keep_the_rules_of_a_component():
    for cls in (NoisyQuadratic, GradientNoise):
        check_component(cls)
    check_component(NoisyQuadratic(hessian=[[1, 0.5], [0.5, 2]], minimum=[1, 2], decay=0.5))
    check_component(NoisyQuadratic(hessian=[1, 2]))
    check_component(GradientNoise(covariance=[[1, 0.5], [0.5, 2]], examples=7, exact=False))
