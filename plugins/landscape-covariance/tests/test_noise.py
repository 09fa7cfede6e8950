"""Noise scale and alignment against closed forms and dense matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.plugins import get
from landscape.testing import check_component, check_probe
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
    found = point.measure(GradientNoiseScale(batch_size=7))
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


def drawn_gradients(landscape, theta, batches, batch_size, per_example, seed):
    """Return the gradients that the probe draws from this seed, by plain derivatives, shape (L, P)."""
    generator = torch.Generator().manual_seed(seed)
    n = landscape.data.examples
    if per_example:
        draws = list(torch.randperm(n, generator=generator)[:batches][:, None])
    else:
        draws = [torch.randperm(n, generator=generator)[:batch_size] for _ in range(batches)]
    return torch.stack([landscape.gradient(theta, landscape.data.take(draw)) for draw in draws]).double()


class Unknown(nn.Linear):
    """What a subclass computes is not known: its inputs and outputs do not do."""


@pytest.mark.parametrize("linear", [nn.Linear, Unknown])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("memory", [2**31, 3500])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.float32, 5e-3)])
def test_alignment_agrees_with_dense_matrices(linear, centred, per_example, memory, dtype, close):
    torch.manual_seed(0)
    net = nn.Sequential(linear(4, 6), nn.Tanh(), linear(6, 3)).to(dtype)
    x, y = torch.randn(60, 4, dtype=dtype), torch.randint(3, (60,))
    landscape = ls.Landscape(net, "cross_entropy", (x, y), penalty=lambda t: 0.01 * t @ t)
    point = ls.Point(landscape, landscape.initial())
    # Pairs as good as their type allows; the probe asks for them by name and configuration.
    exact = point.measure("HessianSpectrum", k=3, tolerance=1e-9 if dtype == torch.float64 else 1e-5)
    point.record(get("probes", "HessianSpectrum")(k=3), exact)
    options = {"batches": 20, "batch_size": 5, "centred": centred, "per_example": per_example}
    probe = CovarianceHessianAlignment(k=3, memory=memory, **options)
    measurement = probe.measure(point, torch.Generator().manual_seed(7))
    found = measurement.scalars
    rows = drawn_gradients(landscape, point.theta, 20, 5, per_example, seed=7)
    rows = rows - rows.mean(dim=0) if centred else rows
    K = rows.T @ rows / 20
    values, vectors = (each.flip(-1) for each in torch.linalg.eigh(K))
    eigenvalues, eigenvectors = torch.linalg.eigh(point.hessian().dense().double())
    share = 0.0
    for i in range(1, 4):
        v, h = eigenvectors[:, -i], float(eigenvalues[-i])
        along = float(v @ K @ v)
        share += along / float(K.trace())
        assert found[f"covariance_along_hessian_{i}"] == pytest.approx(along, rel=close)
        assert found[f"covariance_hessian_ratio_{i}"] == pytest.approx(along / h, rel=close)
        assert found[f"covariance_hessian_cosine_{i}"] == pytest.approx(
            along / float((K @ v).norm()), rel=close
        )
        assert found[f"covariance_in_hessian_{i}"] == pytest.approx(share, rel=close)
    cosines = (vectors[:, :3].T @ eigenvectors[:, -3:].flip(1)) ** 2
    np.testing.assert_allclose(measurement.arrays["covariance_hessian_cosines"], cosines, atol=close)
    assert found["covariance_hessian_overlap"] == pytest.approx(float(cosines.sum()) / 3, rel=close)
    rank = min(20 - centred, landscape.size)
    np.testing.assert_allclose(
        measurement.arrays["covariance_eigenvalues"], values[:rank], atol=close * float(values[0])
    )
    recomputed = memory == 3500 and (linear is Unknown or not per_example or not centred)
    assert any("do not fit into memory=3500" in text for text in measurement.warnings) == recomputed


def test_fewer_weights_than_pairs_leave_the_rest_unknown():
    landscape, _ = noisy_quadratic([4.0, 2.0, 1.0], [1.0, 1.0, 1.0], 50)
    point = ls.Point(landscape, landscape.initial())
    found = point.measure(CovarianceHessianAlignment(k=5, batches=50, per_example=True))
    exact = point.measure(CovarianceHessianAlignment(k=3, batches=50, per_example=True))
    for i in range(1, 6):
        value = found.scalars[f"covariance_hessian_ratio_{i}"]
        assert value == pytest.approx(
            exact.scalars.get(f"covariance_hessian_ratio_{i}", math.nan), nan_ok=True
        )
    cosines = found.arrays["covariance_hessian_cosines"]
    assert cosines.shape == (3, 5)
    np.testing.assert_allclose(cosines[:, :3], exact.arrays["covariance_hessian_cosines"], atol=1e-9)
    assert np.isnan(cosines[:, 3:]).all()
    assert "2 of the 5 eigenpairs of the Hessian are unknown" in found.warnings[0]
    assert "50 gradients have 3 eigenvectors" in found.warnings[1]


def test_fewer_gradients_than_pairs_leave_no_overlap_and_say_what_to_give():
    landscape, _ = network()
    found = ls.Point(landscape, landscape.initial()).measure(CovarianceHessianAlignment(k=5, batches=4))
    assert [name for name, value in found.scalars.items() if math.isnan(value)] == [
        "covariance_hessian_overlap"
    ]
    assert found.warnings == (
        "covariance_hessian_overlap is NaN: 4 gradients have 3 eigenvectors of their covariance, and k=5 are asked "
        "for; give more batches, or a smaller k.",
    )
    assert found.arrays["covariance_hessian_cosines"].shape == (3, 5)


def test_more_examples_than_there_are_are_refused_with_both_numbers():
    landscape, _ = network(n=40)
    point = ls.Point(landscape, landscape.initial())
    with pytest.raises(ConfigurationError, match=r"examples=41.*has 40; give examples=40 or less, or None"):
        point.measure(GradientNoiseScale(examples=41))
    few, all_of_them = (point.measure(GradientNoiseScale(examples=examples)) for examples in (None, 40))
    assert few.scalars["gradient_noise_trace"] == pytest.approx(all_of_them.scalars["gradient_noise_trace"])
    with pytest.raises(ConfigurationError, match=r"batches=41.*has 40; give batches=40 or less"):
        point.measure(CovarianceHessianAlignment(batches=41, per_example=True))
    # Before the Hessian's spectrum is computed.
    assert not any("HessianSpectrum" in name for name in point.measurements)


def test_a_flat_point_has_no_noise_and_says_so():
    # Where a ReLU network is dead, every gradient is exactly zero.
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).double()
    x, y = torch.rand(20, 3).double(), torch.zeros(20, 2).double()
    landscape = ls.Landscape(net, "mse", (x, y))
    theta = -torch.ones(landscape.size).double()
    point = ls.Point(landscape, theta)
    noise = point.measure(GradientNoiseScale(curvature=True))
    assert noise.scalars["gradient_noise_trace"] == noise.scalars["gradient_noise_trace_hessian"] == 0
    assert math.isnan(noise.scalars["gradient_noise_scale"])
    assert math.isnan(noise.scalars["gradient_noise_scale_hessian"])
    assert all("the gradient is zero here" in text for text in noise.warnings)
    assert len(noise.warnings) == 2
    for per_example in (True, False):
        covariance = point.measure("GradientCovariance", batches=20, batch_size=3, per_example=per_example)
        assert covariance.scalars["covariance_trace"] == 0
        assert math.isnan(covariance.scalars["covariance_stable_rank"])
        assert "the covariance is zero here" in covariance.warnings[-1]
        aligned = point.measure("CovarianceHessianAlignment", k=3, batches=20, per_example=per_example)
        assert np.isnan(list(aligned.scalars.values())).all()
        assert "zero or unknown" in aligned.warnings[0]


@pytest.mark.parametrize(
    "probe",
    [
        GradientNoiseScale(examples=8),
        GradientNoiseScale(examples=8, curvature=True),
        CovarianceHessianAlignment(k=2, batches=6),
        CovarianceHessianAlignment(k=3, batches=6),
    ],
)
def test_the_probes_keep_the_rules(probe):
    check_component(probe)
    check_probe(probe)


def test_the_noise_scale_with_the_hessian_is_that_of_the_dense_matrices():
    landscape, batch = network()
    # Some steps down: at the initialisation the curvature along the gradient may have any sign.
    theta = landscape.initial()
    for _ in range(20):
        theta = theta - 0.2 * landscape.gradient(theta)
    point = ls.Point(landscape, theta)
    rows, hessian, gradient = (
        landscape.example_gradients(theta, batch), point.hessian().dense(), point.gradient()
    )  # fmt: skip
    trace = float((torch.cov(rows.T) * hessian).sum())
    found = point.measure(GradientNoiseScale(examples=60, batch_size=7, curvature=True))
    assert found.scalars["gradient_noise_trace_hessian"] == pytest.approx(trace, rel=1e-8)
    norm = float(gradient @ hessian @ gradient)
    assert norm > 0
    assert found.scalars["gradient_noise_scale_hessian"] == pytest.approx(trace / norm, rel=1e-8)
    assert found.errors["gradient_noise_scale_hessian"].value == 0
    # What the first scale says does not depend on the second.
    alone = ls.Point(landscape, theta).measure(GradientNoiseScale(examples=60, batch_size=7))
    assert set(alone.scalars) == {"gradient_noise_scale", "gradient_noise_trace"}
    for name, value in alone.scalars.items():
        assert found.scalars[name] == pytest.approx(value, rel=1e-12)


def test_the_trace_with_the_hessian_is_unbiased_and_knows_its_error():
    landscape, batch = network()
    theta = landscape.initial()
    hessian = landscape.hessian(theta).dense()
    truth = float((torch.cov(landscape.example_gradients(theta, batch).T) * hessian).sum())
    probe = GradientNoiseScale(examples=12, curvature=True)
    found = [ls.Point(landscape, theta, seed=seed).measure(probe) for seed in range(120)]
    traces = np.array([one.scalars["gradient_noise_trace_hessian"] for one in found])
    errors = np.array([one.errors["gradient_noise_trace_hessian"].value for one in found])
    spread = traces.std(ddof=1)
    assert abs(traces.mean() - truth) < 4 * spread / len(traces) ** 0.5
    assert np.median(errors) == pytest.approx(spread, rel=0.3)


def test_where_the_loss_bends_down_along_the_gradient_there_is_no_best_step():
    known = ls.datasets.GradientNoise(2, examples=9).load(torch.Generator().manual_seed(0))["train"]
    module = ls.models.NoisyQuadratic(hessian=(1.0, -1.0)).build(known.everything(), torch.Generator())
    landscape = ls.Landscape(module, "model", known)
    theta = torch.tensor([0.1, 2.0], dtype=torch.float64)
    found = ls.Point(landscape, theta).measure(GradientNoiseScale(curvature=True))
    assert math.isnan(found.scalars["gradient_noise_scale_hessian"])
    assert found.scalars["gradient_noise_scale"] > 0
    assert "curvature along the gradient is not positive" in found.warnings[0]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_slope_is_the_power_of_the_hessian_that_the_noise_has(power):
    curvatures = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    data = ls.datasets.GradientNoise(covariance=tuple(0.3 * curvatures**power), examples=40)
    data = data.load(torch.Generator().manual_seed(0))["train"]
    module = ls.models.NoisyQuadratic(hessian=tuple(curvatures)).build(data.everything(), torch.Generator())
    landscape = ls.Landscape(module, "model", data)
    point = ls.Point(landscape, landscape.initial())
    found = point.measure(CovarianceHessianAlignment(k=5, batches=40, per_example=True))
    assert found.scalars["covariance_hessian_slope"] == pytest.approx(power, abs=1e-6)
    assert found.errors["covariance_hessian_slope"].value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found.arrays["covariance_along_hessian"], 0.3 * curvatures**power, rtol=1e-6)
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues"], curvatures, rtol=1e-6)
    if power:
        np.testing.assert_allclose(found.arrays["covariance_hessian_cosines"], np.eye(5), atol=1e-6)


def test_the_slope_has_the_error_of_the_fit():
    landscape, _ = network()
    point = ls.Point(landscape, landscape.initial())
    found = point.measure(CovarianceHessianAlignment(k=4, batches=30, per_example=True))
    x, y = (np.log(found.arrays[name]) for name in ("hessian_eigenvalues", "covariance_along_hessian"))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert found.scalars["covariance_hessian_slope"] == pytest.approx(slope)
    assert found.errors["covariance_hessian_slope"].value == pytest.approx(covariance[0, 0] ** 0.5)
    assert "covariance_hessian_slope" not in point.measure("CovarianceHessianAlignment", k=2).scalars


def test_equal_curvatures_have_no_slope_and_say_so():
    data = ls.datasets.GradientNoise(3, decay=1, examples=20).load(torch.Generator().manual_seed(0))["train"]
    module = ls.models.NoisyQuadratic(hessian=(1.0,) * 3).build(data.everything(), torch.Generator())
    landscape = ls.Landscape(module, "model", data)
    found = ls.Point(landscape, landscape.initial()).measure(
        CovarianceHessianAlignment(k=3, batches=20, per_example=True)
    )
    assert math.isnan(found.scalars["covariance_hessian_slope"])
    assert "covariance_hessian_slope is NaN" in found.warnings[0]


def test_no_more_gradients_are_computed_at_once_than_fit(monkeypatch):
    landscape, _ = network(n=40)
    theta = landscape.initial()
    whole = ls.Point(landscape, theta).measure(GradientNoiseScale(curvature=True))
    sizes = []
    compute = ls.Landscape.example_gradients

    def counted(self, theta, batch):
        sizes.append(len(batch[0]))
        return compute(self, theta, batch)

    monkeypatch.setattr(ls.Landscape, "example_gradients", counted)
    monkeypatch.setattr("landscape_covariance.noise._MEMORY", 7 * 24 * landscape.size)
    little = ls.Point(landscape, theta).measure(GradientNoiseScale(curvature=True))
    assert sizes == [7] * 5 + [5]
    for name, value in whole.scalars.items():
        assert little.scalars[name] == pytest.approx(value, rel=1e-12)
