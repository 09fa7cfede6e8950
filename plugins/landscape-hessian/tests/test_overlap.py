"""The share of the gradient in leading eigenspaces."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe
from landscape_hessian.overlap import GradientHessianOverlap
from landscape_hessian.spectrum import HessianSpectrum


def parabola(curvatures):
    """Return the landscape L(w) = mean_i (sqrt(n c_i) w_i)^2 = sum_i c_i w_i^2: Hessian 2 diag(c)."""
    n = len(curvatures)
    x = torch.diag((n * torch.tensor(curvatures, dtype=torch.float64)).sqrt())
    net = nn.Linear(n, 1, bias=False).double()
    return ls.Landscape(net, "mse", (x, torch.zeros(n, 1, dtype=torch.float64)))


def overlaps(found, k):
    return [found.scalars[f"gradient_hessian_overlap_{i + 1}"] for i in range(k)]


def test_a_diagonal_hessian_gives_the_closed_form():
    curvatures = [5.0, 4.0, 3.0, 2.0, *([0.5] * 20)]
    w = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ls.Point(parabola(curvatures), w).measure("GradientHessianOverlap", k=3, tolerance=1e-8)
    gradient = 2 * np.array(curvatures) * w.numpy()
    expected = np.sqrt(np.cumsum(gradient**2)[:3]) / np.linalg.norm(gradient)
    np.testing.assert_allclose(overlaps(found, 3), expected, rtol=1e-7)
    assert not found.warnings


def test_overlaps_with_all_eigenvectors_reach_one():
    w = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    found = ls.Point(parabola([3.0, 2.0, 1.0]), w).measure("GradientHessianOverlap", k=3)
    assert overlaps(found, 3)[-1] == pytest.approx(1.0)


def test_a_zero_gradient_has_no_overlap():
    found = ls.Point(parabola([3.0, 2.0, 1.0]), torch.zeros(3)).measure("GradientHessianOverlap", k=2)
    assert all(map(math.isnan, overlaps(found, 2)))
    assert "gradient is zero" in found.warnings[0]


def test_eigenpairs_that_did_not_converge_have_no_overlap():
    point = ls.Point(parabola(list(np.linspace(1, 2, 60))), torch.ones(60))
    found = point.measure("GradientHessianOverlap", k=3, max_products=4)
    assert all(map(math.isnan, overlaps(found, 3)))
    assert "did not all converge" in found.warnings[0]


def test_an_eigenspace_cut_in_two_is_not_determined_and_says_so():
    curvatures = [5.0, 3.0, 3.0, *([0.1] * 30)]
    w = torch.randn(33, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ls.Point(parabola(curvatures), w).measure("GradientHessianOverlap", k=3, tolerance=1e-6)
    gradient = 2 * np.array(curvatures) * w.numpy()
    expected = np.sqrt(np.cumsum(gradient**2)[:3]) / np.linalg.norm(gradient)
    first, second, third = overlaps(found, 3)
    assert math.isnan(second)
    assert "_2 is not determined" in found.warnings[0]
    np.testing.assert_allclose([first, third], expected[[0, 2]], rtol=1e-6)


@pytest.mark.parametrize(("k", "copies"), [(1, 2), (2, 2), (2, 10), (5, 10)])
@pytest.mark.parametrize("rest", [1, 40])
def test_an_eigenspace_that_goes_on_after_the_last_eigenvalue_is_not_determined(k, copies, rest):
    single = 2.0 * np.arange(k - 1, 0, -1) + 3.0
    curvatures = [*single, *([3.0] * copies), *np.linspace(0.0, 1.0, rest)]
    w = torch.randn(len(curvatures), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ls.Point(parabola(curvatures), w).measure(GradientHessianOverlap(k=k))
    gradient = 2 * np.array(curvatures) * w.numpy()
    expected = np.sqrt(np.cumsum(gradient**2)) / np.linalg.norm(gradient)
    *first, last = overlaps(found, k)
    assert math.isnan(last)
    assert f"_{k} is not determined" in found.warnings[0]
    np.testing.assert_allclose(first, expected[: k - 1], rtol=1e-3)


def test_an_eigenspace_that_ends_with_the_last_eigenvalue_is_determined():
    """The rest lies so near that the search for missed eigenvalues alone cannot tell."""
    curvatures = [5.0, 3.0, 3.0, *np.linspace(2.9, 0.0, 40)]
    w = torch.randn(len(curvatures), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient = 2 * np.array(curvatures) * w.numpy()
    expected = np.sqrt((gradient[:3] ** 2).sum()) / np.linalg.norm(gradient)
    for basis in (None, 10):
        found = ls.Point(parabola(curvatures), w).measure(GradientHessianOverlap(k=3, basis=basis))
        assert overlaps(found, 3)[2] == pytest.approx(expected, rel=2e-2)


def test_the_spectrum_is_computed_once_for_both_probes():
    landscape = parabola(list(np.linspace(0, 2, 60)))
    point = ls.Point(landscape, torch.ones(60))
    point.measure(HessianSpectrum(k=4))
    products = point.hessian().products
    point.measure(GradientHessianOverlap(k=4))
    assert point.hessian().products == products


def test_the_probe_keeps_the_rules():
    check_component(GradientHessianOverlap(k=2))
    check_probe(GradientHessianOverlap(k=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k=0 .*at least 1"), ({"risk": 2.0}, "between 0 and 1"), ({"basis": 3}, "basis")],
)
def test_impossible_configurations_are_refused_with_the_cure(options, message):
    with pytest.raises(ConfigurationError, match=message):
        GradientHessianOverlap(**options)
