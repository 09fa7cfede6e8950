"""All eigenvalues and interior ones against dense matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe, quadratic
from landscape_hessian.operators import KINDS, prefix_of
from landscape_hessian.whole import CurvatureSpectrum, EigenvaluesNear


def network(dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).to(dtype)
    x, y = torch.randn(50, 6, dtype=dtype), torch.randint(3, (50,))
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    return ls.Point(landscape, landscape.initial())


@pytest.mark.parametrize("kind", KINDS)
def test_all_eigenvalues_are_those_of_the_dense_matrix(kind):
    point = network()
    truth = torch.linalg.eigvalsh(point.curvature(kind).dense()).numpy()
    found = point.measure(CurvatureSpectrum(kind=kind))
    name = f"{prefix_of(kind)}_spectrum"
    np.testing.assert_allclose(found.arrays[name], truth, atol=1e-14)
    limit = 1e-3 * np.abs(truth).max()
    assert found.scalars[f"{name}_negative"] == (truth < -limit).sum()
    assert found.scalars[f"{name}_zero"] == (np.abs(truth) <= limit).sum()
    assert found.scalars[f"{name}_trace"] == pytest.approx(truth.sum())
    assert found.errors[f"{name}_max"].kind == "bound"


def test_in_float32_the_ends_are_within_their_bounds():
    point = network(torch.float32)
    double = point.landscape.module.double()
    x, y = point.landscape.data.everything()
    exact = ls.Landscape(double, "cross_entropy", (x.double(), y))
    truth = torch.linalg.eigvalsh(exact.hessian(exact.initial()).dense()).numpy()
    found = ls.Point(ls.Landscape(double.float(), "cross_entropy", (x, y)), point.theta).measure(
        CurvatureSpectrum()
    )
    for name, value in (("min", truth[0]), ("max", truth[-1])):
        bound = found.errors[f"hessian_spectrum_{name}"].value
        assert abs(found.scalars[f"hessian_spectrum_{name}"] - value) <= bound < 1e-5


def test_a_linear_regression_with_ten_outputs_has_every_eigenvalue_ten_times():
    torch.manual_seed(0)
    x = torch.randn(50, 8, dtype=torch.float64)
    net = nn.Linear(8, 10, bias=False).double()
    landscape = ls.Landscape(net, "mse", (x, torch.randn(50, 10, dtype=torch.float64)))
    found = ls.Point(landscape, landscape.initial()).measure("CurvatureSpectrum")
    single = torch.linalg.eigvalsh(2 / 500 * x.T @ x)
    np.testing.assert_allclose(
        found.arrays["hessian_spectrum"], single.repeat_interleave(10).numpy(), atol=1e-15
    )


def test_too_many_weights_are_refused_with_the_size():
    with pytest.raises(ConfigurationError, match="HessianSpectrum gives its ends"):
        network().measure(CurvatureSpectrum(memory=1000))


def test_eigenvalues_near_a_value_are_within_their_bounds_of_the_spectrum():
    spectrum = np.concatenate([np.linspace(5, 9, 40), [0.02, -0.3, 0.5], np.linspace(-9, -5, 40)])
    known = quadratic(spectrum)
    point = ls.Point(known.landscape, known.landscape.initial())
    found = point.measure(EigenvaluesNear(near=0.0, k=3, tolerance=1e-6))
    np.testing.assert_allclose(found.arrays["hessian_near"], [0.02, -0.3, 0.5], atol=1e-5)
    assert not found.warnings
    for i, value in enumerate([0.02, -0.3, 0.5]):
        assert (
            abs(found.scalars[f"hessian_near_{i + 1}"] - value) <= found.errors[f"hessian_near_{i + 1}"].value
        )
    vectors = found.carry["eigenvectors"]
    residual = (
        vectors @ torch.diag(torch.tensor(spectrum))
        - torch.tensor(found.arrays["hessian_near"])[:, None] * vectors
    )
    assert torch.linalg.vector_norm(residual, dim=1).max() < 1e-5


def test_in_a_network_the_nearest_are_eigenvalues_of_the_dense_hessian():
    point = network()
    truth = torch.linalg.eigvalsh(point.hessian().dense()).numpy()
    target = float(truth[-3])
    found = point.measure(EigenvaluesNear(near=target, k=2, tolerance=1e-8))
    assert found.arrays["hessian_near"][0] == pytest.approx(target, abs=1e-8)
    for value in found.arrays["hessian_near"]:
        assert np.abs(truth - value).min() < 1e-8


def test_what_did_not_converge_is_nan_with_a_warning():
    known = quadratic(np.linspace(-1, 1, 300))
    point = ls.Point(known.landscape, known.landscape.initial())
    found = point.measure(EigenvaluesNear(k=3, tolerance=1e-6, max_products=25))
    assert all(math.isnan(found.scalars[f"hessian_near_{i}"]) for i in (1, 2, 3))
    assert not found.errors
    assert "did not all converge" in found.warnings[0]
    copies = quadratic([1.0, 1.0, 1.0])
    found = ls.Point(copies.landscape, copies.landscape.initial()).measure(EigenvaluesNear(near=1.0, k=4))
    assert found.scalars["hessian_near_1"] == pytest.approx(1)
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    "probe", [CurvatureSpectrum(), EigenvaluesNear(k=2), EigenvaluesNear(k=1, examples=4)]
)
def test_the_probes_keep_the_rules(probe):
    check_component(probe)
    check_probe(probe)
