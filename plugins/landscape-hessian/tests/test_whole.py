"""All eigenvalues and interior ones against dense matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe, quadratic
from landscape_hessian.interior import largest_mass, nearest_eigenpairs
from landscape_hessian.operators import KINDS, prefix_of
from landscape_hessian.quadrature import LanczosRun
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


@pytest.mark.parametrize("make", [lambda: CurvatureSpectrum(zero=5), lambda: EigenvaluesNear(tolerance=100)])
def test_parts_of_the_radius_are_less_than_it(make):
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        make()


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
    np.testing.assert_allclose(found.arrays["hessian_near"], [1, 1, 1, np.nan], atol=1e-14)
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("near", "k", "truth"), [(2.0, 3, [2, 2, 2]), (2.1, 1, [2]), (1.2, 7, [1, 1, 1, 1, 1, 2, 2])]
)
def test_copies_count_among_the_nearest(near, k, truth):
    known = quadratic([*np.repeat([1.0, 2.0, 3.0], 5), *np.linspace(-5, -1, 85)])
    found = ls.Point(known.landscape, known.landscape.initial()).measure(EigenvaluesNear(near=near, k=k))
    for i, value in enumerate(truth):
        bound = found.errors[f"hessian_near_{i + 1}"].value
        assert abs(found.arrays["hessian_near"][i] - value) <= bound < 1e-2
    assert not found.warnings


@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_are_those_of_the_dense_matrix_in_order(seed):
    """Distances within their bounds: of eigenvalues on either side it may be either."""
    rng = np.random.default_rng(seed)
    spectrum = [
        rng.normal(size=90),
        np.repeat(rng.normal(size=24), 5),
        np.r_[rng.uniform(5, 9, 50), rng.uniform(-9, -5, 46), rng.normal(size=4)],
    ][seed % 3]
    size = len(spectrum)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    dtype = (torch.float64, torch.float32)[seed // 3]
    matrix = torch.tensor((basis * spectrum) @ basis.T, dtype=dtype)
    matrix = (matrix + matrix.T) / 2
    exact = np.linalg.eigvalsh(matrix.double().numpy())
    for near, k in ((0.0, 1), (0.5, 4)):
        found = nearest_eigenpairs(
            lambda v: matrix @ v,
            size,
            near,
            k,
            tolerance=1e-3,
            max_products=2000,
            risk=1e-3,
            generator=torch.Generator().manual_seed(seed),
            dtype=dtype,
            device=torch.device("cpu"),
        )
        assert found.complete
        distances = np.sort(np.abs(exact - near))[:k]
        # A product of `size` terms is rounded as well; the probe adds that.
        allowed = found.bounds + 2 * torch.finfo(dtype).eps * size**0.5 * np.abs(exact).max()
        assert (np.abs(np.abs(found.values - near) - distances) <= allowed).all()
        products = (found.vectors @ found.vectors.T).double()
        assert float((products - torch.eye(k)).abs().max()) < 1e-5


def test_a_search_that_ends_early_is_confessed_and_none_is_made_without_risk():
    known = quadratic([*np.repeat([1.0, 2.0, 3.0], 5), *np.linspace(-5, -1, 85)])
    point = ls.Point(known.landscape, known.landscape.initial())
    alone = point.measure(EigenvaluesNear(near=1.8, k=1, risk=None))
    assert not alone.warnings
    enough = int(alone.scalars["hessian_near_products"])
    found = point.measure(EigenvaluesNear(near=1.8, k=1, max_products=enough + 3))
    assert "need not be the i-th nearest" in found.warnings[0]
    assert abs(found.scalars["hessian_near_1"] - 2) <= found.errors["hessian_near_1"].value


def test_the_largest_mass_is_christoffels_function():
    """Here by the Gram matrix of Legendre polynomials, whose degree is the number of steps."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(-1, 1, 40))
    start = torch.tensor(rng.normal(size=40))
    run = LanczosRun(lambda v: torch.tensor(values) * v, start).extend(8)
    squares = (start.numpy() / np.linalg.norm(start.numpy())) ** 2
    polynomials = np.polynomial.legendre.legvander(values, 8)
    inverse = np.linalg.inv(polynomials.T @ (squares[:, None] * polynomials))
    for low, high in ((-0.9, 0.9), (0.05, 0.2), (-0.31, -0.3)):
        at = np.polynomial.legendre.legvander(np.linspace(low, high, 20_001), 8)
        truth = (1 / np.einsum("ni,ij,nj->n", at, inverse, at)).max()
        assert truth * (1 - 1e-6) <= largest_mass(run, low, high)
        # At nodes it is the weight, that of one degree less, which is more.
        nodes, weights = run.rule()
        inside = weights[(nodes >= low) & (nodes <= high)].max(initial=0.0)
        assert largest_mass(run, low, high) <= max(truth, inside) * (1 + 1e-6)


def test_a_run_beside_vectors_is_that_of_the_matrix_in_their_complement(tmp_path):
    rng = np.random.default_rng(1)
    matrix = torch.tensor(rng.normal(size=(12, 12)))
    matrix = matrix + matrix.T
    beside = torch.linalg.qr(torch.tensor(rng.normal(size=(12, 3))))[0].T
    run = LanczosRun(lambda v: matrix @ v, torch.ones(12).double(), beside=beside).extend(4)
    run.save(tmp_path / "run.safetensors")
    run = LanczosRun.load(tmp_path / "run.safetensors", lambda v: matrix @ v).extend(20)
    assert run.exhausted
    assert run.steps == 9
    rest = torch.linalg.svd(beside)[2][3:]
    np.testing.assert_allclose(
        run.ritz()[0], torch.linalg.eigvalsh(rest @ matrix @ rest.T).numpy(), atol=1e-12
    )
    with pytest.raises(ConfigurationError, match="outside of the span"):
        LanczosRun(lambda v: matrix @ v, beside[1], beside=beside)


@pytest.mark.parametrize(
    "probe", [CurvatureSpectrum(), EigenvaluesNear(k=2), EigenvaluesNear(k=1, examples=4)]
)
def test_the_probes_keep_the_rules(probe):
    check_component(probe)
    check_probe(probe)
