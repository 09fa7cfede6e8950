"""Noise scale and alignment against closed forms and dense matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe
from landscape_covariance.covariance import GradientCovariance
from landscape_covariance.noise import CovarianceHessianAlignment, GradientNoiseScale


def network(n=60):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(n, 4, dtype=torch.float64), torch.randint(3, (n,))
    return ls.Landscape(net, "cross_entropy", (x, y)), (x, y)


def noisy_quadratic(curvatures, scatter, n, seed=0):
    """Return L = mean of |sqrt(h) w - n_i|^2 / 2: Hessian diag(h), covariance of examples h times that of n."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(len(curvatures), dtype=torch.float64))

        def forward(self, x):
            return torch.tensor(curvatures, dtype=torch.float64).sqrt() * self.w - x

    noise = torch.randn(
        n, len(curvatures), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    noise = noise * torch.tensor(scatter, dtype=torch.float64)

    def loss(output, target):
        return (output**2).sum(dim=1).mean() / 2

    return ls.Landscape(Quadratic(), loss, (noise, torch.zeros(n))), noise


def test_the_noise_scale_of_all_examples_is_that_of_the_dense_covariance():
    landscape, batch = network()
    point = ls.Point(landscape, landscape.initial())
    rows = landscape.example_gradients(point.theta, batch)
    trace = float(torch.cov(rows.T).trace())
    found = point.measure(GradientNoiseScale(examples=1000, batch_size=7))
    assert found.scalars["gradient_noise_trace"] == pytest.approx(trace)
    assert found.scalars["gradient_noise_scale"] == pytest.approx(
        trace / float(point.gradient() @ point.gradient())
    )
    assert found.errors["gradient_noise_trace"].value == 0
    assert found.errors["gradient_noise_trace"].kind == "standard error"


def test_the_trace_is_unbiased_and_knows_its_error():
    landscape, batch = network()
    theta = landscape.initial()
    rows = landscape.example_gradients(theta, batch)
    # The covariance over a finite population, as draws without replacement estimate it.
    truth = float(torch.cov(rows.T).trace())
    found = [
        ls.Point(landscape, theta, seed=seed).measure(GradientNoiseScale(examples=12)) for seed in range(200)
    ]
    traces = np.array([one.scalars["gradient_noise_trace"] for one in found])
    errors = np.array([one.errors["gradient_noise_trace"].value for one in found])
    spread = traces.std(ddof=1)
    assert abs(traces.mean() - truth) < 4 * spread / len(traces) ** 0.5
    assert np.median(errors) == pytest.approx(spread, rel=0.25)


def test_the_noise_scale_of_sums_is_that_of_their_mean():
    landscape, (x, y) = network()
    summed = ls.Landscape(landscape.module, nn.CrossEntropyLoss(reduction="sum"), (x, y), reduction="sum")
    theta = landscape.initial()
    one, other = (
        ls.Point(each, theta).measure(GradientNoiseScale(examples=60)) for each in (landscape, summed)
    )
    assert one.scalars["gradient_noise_scale"] == pytest.approx(other.scalars["gradient_noise_scale"])


def test_where_there_is_no_gradient_there_is_no_scale():
    x = torch.tensor([[1.0], [1.0]])
    landscape = ls.Landscape(nn.Linear(1, 1, bias=False), "mse", (x, torch.tensor([[1.0], [-1.0]])))
    found = ls.Point(landscape, torch.zeros(1)).measure("GradientNoiseScale")
    assert math.isnan(found.scalars["gradient_noise_scale"])
    assert found.scalars["gradient_noise_trace"] == pytest.approx(8)
    assert "gradient is zero" in found.warnings[0]
    alone = ls.Landscape(nn.Linear(1, 1), "mse", (x[:1], x[:1]))
    with pytest.raises(ConfigurationError, match="at least two"):
        ls.Point(alone, alone.initial()).measure("GradientNoiseScale")


def test_the_noisy_quadratic_model_has_noise_along_the_eigenvectors_in_proportion_to_the_curvature():
    curvatures = [5.0, 3.0, 2.0, 1.0, 0.5]
    landscape, _ = noisy_quadratic(curvatures, [1.0] * 5, 4000)
    point = ls.Point(landscape, landscape.initial())
    found = point.measure(CovarianceHessianAlignment(k=3, batches=1500, per_example=True)).scalars
    # Gradients are h w - sqrt(h) n: covariance h, Hessian h; 1500 examples leave 1 / sqrt(750) of a variance.
    for i, h in enumerate(curvatures[:3], start=1):
        assert found[f"covariance_along_hessian_{i}"] == pytest.approx(h, rel=0.12)
        assert found[f"covariance_hessian_ratio_{i}"] == pytest.approx(1, rel=0.12)
        assert found[f"covariance_hessian_cosine_{i}"] > 0.98
        assert found[f"covariance_in_hessian_{i}"] == pytest.approx(sum(curvatures[:i]) / 11.5, rel=0.05)
    assert found["covariance_hessian_overlap"] > 0.98


def test_noise_across_the_leading_eigenvectors_is_seen_as_such():
    landscape, _ = noisy_quadratic([4.0, 2.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0], 200)
    found = ls.Point(landscape, landscape.initial()).measure(
        CovarianceHessianAlignment(k=2, batches=50, per_example=True)
    )
    assert found.scalars["covariance_in_hessian_2"] == pytest.approx(0, abs=1e-12)
    assert found.scalars["covariance_hessian_overlap"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("per_example", [True, False])
def test_alignment_agrees_with_dense_matrices(centred, per_example):
    landscape, _ = network()
    point = ls.Point(landscape, landscape.initial())
    options = {"batches": 20, "batch_size": 5, "centred": centred, "per_example": per_example}
    found = point.measure(CovarianceHessianAlignment(k=3, **options)).scalars
    probe = GradientCovariance(k=20 - centred, vectors=True, **options)
    covariance = point.measure(probe)
    values, vectors = covariance.arrays["covariance_eigenvalues"], covariance.carry["eigenvectors"]
    K = vectors.T @ torch.diag(torch.tensor(values)) @ vectors
    eigenvalues, eigenvectors = torch.linalg.eigh(point.hessian().dense())
    share = 0.0
    for i in range(1, 4):
        v, h = eigenvectors[:, -i], float(eigenvalues[-i])
        along = float(v @ K @ v)
        share += along / float(K.trace())
        assert found[f"covariance_along_hessian_{i}"] == pytest.approx(along, rel=1e-2)
        assert found[f"covariance_hessian_ratio_{i}"] == pytest.approx(along / h, rel=1e-2)
        assert found[f"covariance_hessian_cosine_{i}"] == pytest.approx(
            along / float((K @ v).norm()), rel=1e-2
        )
        assert found[f"covariance_in_hessian_{i}"] == pytest.approx(share, rel=1e-2)
    overlap = float(((vectors[:3] @ eigenvectors[:, -3:]) ** 2).sum()) / 3
    assert found["covariance_hessian_overlap"] == pytest.approx(overlap, rel=1e-2)


@pytest.mark.parametrize(
    "probe", [GradientNoiseScale(examples=8), CovarianceHessianAlignment(k=2, batches=6)]
)
def test_the_probes_keep_the_rules(probe):
    check_component(probe)
    check_probe(probe)
