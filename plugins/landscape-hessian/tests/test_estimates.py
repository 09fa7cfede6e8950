"""Traces, diagonals and densities against dense matrices and known densities."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe, quadratic
from landscape_hessian.estimates import CurvatureDensity, CurvatureDiagonal, CurvatureTrace, xtrace
from landscape_hessian.operators import KINDS, prefix_of


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = torch.randn(50, 6, dtype=torch.float64), torch.randint(3, (50,))
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    return ls.Point(landscape, landscape.initial())


def near(found, name, truth, errors=5):
    """Whether a number is within a few standard errors of the truth, and the error is one."""
    error = found.errors[name]
    assert error.kind == "standard error"
    return abs(found.scalars[name] - truth) <= errors * error.value + 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
def test_traces_are_within_standard_errors_of_the_dense_trace(kind, method):
    point = network()
    truth = float(point.curvature(kind).dense().trace())
    found = point.measure(CurvatureTrace(samples=40, method=method, kind=kind))
    assert near(found, f"{prefix_of(kind)}_trace", truth)


def test_layers_have_the_traces_of_their_blocks_and_sum_to_the_whole():
    point = network()
    found = point.measure(CurvatureTrace(samples=60, per_layer=True))
    for layer, block in point.hessian().blocks().items():
        assert near(found, f"hessian_trace_{layer}", float(block.dense().trace()))
    parts = found.scalars["hessian_trace_0"] + found.scalars["hessian_trace_2"]
    assert parts == pytest.approx(found.scalars["hessian_trace"], rel=1e-12)


def test_the_trace_is_the_same_with_layers_and_without():
    """With layers, products are formed; without, quadratic forms: of the same vectors."""
    for kind in KINDS:
        name = f"{prefix_of(kind)}_trace"
        whole, parts = (
            CurvatureTrace(samples=5, kind=kind, per_layer=layers).measure(
                network(), torch.Generator().manual_seed(0)
            )
            for layers in (False, True)
        )
        assert whole.scalars[name] == pytest.approx(parts.scalars[name], rel=1e-10)
        assert whole.errors[name].value == pytest.approx(parts.errors[name].value, rel=1e-10)


def test_standard_errors_of_the_trace_are_those_of_many_repetitions():
    """The variance of one sample is twice the squares off the diagonal."""
    matrix = network().hessian().dense()
    off = matrix - torch.diag(matrix.diagonal())
    expected = math.sqrt(2 * float((off**2).sum()) / 400)
    found = network().measure(CurvatureTrace(samples=400))
    assert found.errors["hessian_trace"].value == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("values", "products", "largest"),
    [
        # Fractions that the error may be of what it should be: measured in numpy, with bases of their own, 1.0 to 3.8.
        ([(-1.0) ** i * 0.7**i for i in range(120)], 24, 5.0),
        ([0.8**i for i in range(200)], 20, 3.0),
        (np.random.default_rng(0).normal(size=60).tolist(), 20, 2.0),
        ([10.0, 8, 5, 4, *(0.05 * np.random.default_rng(1).normal(size=196))], 20, 1.8),
        (np.random.default_rng(2).normal(size=22).tolist(), 20, 3.0),
    ],
)
def test_xtrace_is_unbiased_and_its_standard_error_is_not_too_small(values, products, largest):
    size = len(values)
    basis = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1)).double())[0]
    matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    runs = np.array(
        [
            xtrace(
                lambda v: matrix @ v,
                size,
                products,
                torch.Generator().manual_seed(seed),
                torch.float64,
                torch.device("cpu"),
            )
            for seed in range(300)
        ]
    )
    truth, spread = float(matrix.trace()), runs[:, 0].std(ddof=1)
    assert abs(runs[:, 0].mean() - truth) <= 4 * spread / len(runs) ** 0.5
    # The spread of 300 runs is itself known to 4 %.
    assert 1 <= 1.1 * math.sqrt((runs[:, 1] ** 2).mean()) / spread <= 1.1 * largest
    if size > 60 and products == 24:
        signs = math.sqrt(2 * float(((matrix - torch.diag(matrix.diagonal())) ** 2).sum()) / products)
        assert spread < signs / 5


def test_xtrace_and_its_error_are_those_of_bases_made_one_by_one():
    size, count = 30, 5
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()
    matrix = matrix + matrix.T
    value, error = xtrace(
        lambda v: matrix @ v,
        size,
        2 * count,
        torch.Generator().manual_seed(1),
        torch.float64,
        torch.device("cpu"),
    )
    test = torch.randn(size, count, generator=torch.Generator().manual_seed(1)).double()
    test *= size**0.5 / test.norm(dim=0)

    def mean(vectors):
        """The estimate of so many test vectors, with a decomposition for each that is left out."""
        found = []
        for i in vectors:
            others = [j for j in vectors if j != i]
            basis = torch.linalg.qr(matrix @ test[:, others])[0]
            rest = test[:, i] - basis @ (basis.T @ test[:, i])
            scale = (size - len(others)) / (rest @ rest)
            found.append(float(torch.trace(basis.T @ matrix @ basis) + scale * (rest @ matrix @ rest)))
        return np.mean(found)

    assert value == pytest.approx(mean(range(count)), rel=1e-10)
    without = np.array([mean([j for j in range(count) if j != i]) for i in range(count)])
    assert error == pytest.approx(np.sqrt(((without - without.mean()) ** 2).sum()), rel=1e-10)


@pytest.mark.parametrize("samples", [4, 5, 30])
def test_no_more_products_than_weights_are_taken_for_an_exact_trace(samples):
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = nn.Linear(3, 1, bias=False).double()
    landscape = ls.Landscape(net, "mse", (x, torch.zeros(9, 1).double()))
    found = ls.Point(landscape, landscape.initial()).measure(CurvatureTrace(method="xtrace", samples=samples))
    assert found.scalars["hessian_trace"] == pytest.approx(2 / 9 * float((x**2).sum()), rel=1e-14)
    assert found.scalars["hessian_trace_products"] == 3
    assert found.errors["hessian_trace"].value == 0


def test_a_layer_named_products_keeps_its_trace():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.products = nn.Linear(3, 1, bias=False)

        def forward(self, x):
            return self.products(x)

    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    landscape = ls.Landscape(Named().double(), "mse", (x, torch.zeros(9, 1).double()))
    found = ls.Point(landscape, landscape.initial()).measure(CurvatureTrace(samples=7, per_layer=True))
    assert found.scalars["hessian_trace_products"] == 7
    assert found.scalars["hessian_trace_products_"] == pytest.approx(found.scalars["hessian_trace"])
    assert near(found, "hessian_trace_products_", 2 / 9 * float((x**2).sum()))


def test_where_all_curvature_is_zero_so_are_all_eigenvalues():
    known = quadratic([0.0] * 30)
    found = ls.Point(known.landscape, known.landscape.initial()).measure(CurvatureDensity(samples=3, steps=5))
    assert found.scalars["hessian_density_zero"] == pytest.approx(1, abs=1e-14)
    assert found.scalars["hessian_density_negative"] == 0
    assert (
        found.scalars["hessian_density_zero_low"] <= 1 <= found.scalars["hessian_density_zero_high"] + 1e-14
    )


@pytest.mark.parametrize("rank", [0, 3])
def test_xtrace_is_exact_for_low_rank(rank):
    factor = torch.randn(60, rank, generator=torch.Generator().manual_seed(0)).double()
    value, error = xtrace(
        lambda v: factor @ (factor.T @ v),
        60,
        12,
        torch.Generator().manual_seed(0),
        torch.float64,
        torch.device("cpu"),
    )
    assert value == pytest.approx(float((factor**2).sum()), rel=1e-10)
    assert error == 0


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_diagonals_are_within_standard_errors_of_the_dense_diagonal(kind):
    point = network()
    truth = point.curvature(kind).dense().diagonal().numpy()
    found = point.measure(CurvatureDiagonal(samples=200, kind=kind))
    error = found.arrays[f"{kind}_diagonal_error"]
    distance = np.abs(found.arrays[f"{kind}_diagonal"] - truth)
    assert (distance <= 5 * error).all()
    assert 0.5 < (distance <= error).mean() < 0.85  # 68 % of normal errors are within one
    assert found.scalars[f"{kind}_diagonal_max"] == found.arrays[f"{kind}_diagonal"].max()


def test_a_diagonal_matrix_has_its_diagonal_and_trace_exactly():
    diagonal = [3.0, -1.0, 0.5, 0.0]
    known = quadratic(diagonal)
    point = ls.Point(known.landscape, known.landscape.initial())
    found = point.measure(CurvatureDiagonal(samples=2))
    np.testing.assert_allclose(found.arrays["hessian_diagonal"], diagonal, atol=1e-12)
    np.testing.assert_allclose(found.arrays["hessian_diagonal_error"], 0, atol=1e-12)
    assert found.scalars["hessian_diagonal_negative"] == 0.25
    assert point.measure(CurvatureTrace(samples=2)).scalars["hessian_trace"] == pytest.approx(2.5)


def semicircle(size=600):
    """Return the quantiles of Wigner's semicircle law on [-2, 2]."""
    t = np.linspace(-2, 2, 200_001)
    density = np.sqrt(np.maximum(4 - t**2, 0)) / (2 * np.pi)
    cumulated = np.cumsum(density) * (t[1] - t[0])
    return t, density, np.interp((np.arange(size) + 0.5) / size, cumulated, t)


def test_the_density_of_a_semicircle_is_the_semicircle():
    t, density, quantiles = semicircle()
    known = quadratic(quantiles)
    found = ls.Point(known.landscape, known.landscape.initial()).measure(
        CurvatureDensity(samples=8, steps=40, width=0.03)
    )
    grid, rho = found.arrays["hessian_density_grid"], found.arrays["hessian_density"]
    assert np.trapezoid(rho, grid) == pytest.approx(1, abs=1e-3)
    sigma = 0.03 * 4
    expected = (
        np.array([(density * np.exp(-0.5 * ((x - t) / sigma) ** 2)).sum() for x in grid])
        * (t[1] - t[0])
        / (sigma * math.sqrt(2 * math.pi))
    )
    error = found.arrays["hessian_density_error"]
    assert (np.abs(rho - expected) <= 5 * error + 0.02).all()
    assert error.max() < 0.05
    assert found.scalars["hessian_density_products"] == 320


def test_the_density_of_a_network_has_the_moments_and_shares_of_the_dense_spectrum():
    point = network()
    values = point.measure("CurvatureSpectrum").arrays["hessian_spectrum"]
    found = point.measure(CurvatureDensity(samples=20, steps=30, zero=1e-2))
    assert near(found, "hessian_density_trace", values.sum())
    limit = 1e-2 * np.abs(values).max()
    for name, share in (
        ("hessian_density_negative", (values < -limit).mean()),
        ("hessian_density_zero", (np.abs(values) <= limit).mean()),
    ):
        low, high, error = (
            found.scalars[f"{name}_low"],
            found.scalars[f"{name}_high"],
            found.errors[name].value,
        )
        assert low - 4 * error <= share <= high + 4 * error
        assert low <= found.scalars[name] <= high
    # First Wasserstein distance between quadrature and spectrum.
    nodes, weights = (
        found.arrays["hessian_density_nodes"].ravel(),
        found.arrays["hessian_density_weights"].ravel(),
    )
    order = np.argsort(nodes)
    grid = np.linspace(values[0], values[-1], 4000)
    below = np.concatenate([[0], np.cumsum(weights[order]) / weights.sum()])[
        np.searchsorted(nodes[order], grid)
    ]
    exact = np.searchsorted(values, grid) / len(values)
    assert np.trapezoid(np.abs(below - exact), grid) < 0.02 * (values[-1] - values[0])


def test_a_share_that_no_node_resolves_has_no_standard_error():
    """A hundredth of the spectrum is negative, near zero; five steps do not find it."""
    values = np.concatenate([np.linspace(-0.02, -0.01, 10), np.linspace(0.5, 10, 990)])
    known = quadratic(values)
    found = ls.Point(known.landscape, known.landscape.initial()).measure(
        CurvatureDensity(samples=3, steps=3, zero=1e-6)
    )
    name = "hessian_density_negative"
    assert found.scalars[name] == 0
    assert found.errors[name].value >= 0.005
    assert found.scalars[f"{name}_low"] <= 0.01 <= found.scalars[f"{name}_high"]
    assert any(f"{name} is not resolved" in line for line in found.warnings)


def test_a_run_that_ends_early_is_padded_with_nodes_of_no_weight():
    known = quadratic([2.0, 2.0, 1.0, 1.0])
    found = ls.Point(known.landscape, known.landscape.initial()).measure(CurvatureDensity(samples=3, steps=9))
    np.testing.assert_allclose(found.arrays["hessian_density_weights"].sum(axis=1), 1)
    assert found.scalars["hessian_density_products"] <= 3 * 4
    assert found.scalars["hessian_density_trace"] == pytest.approx(6)


def test_estimates_on_a_few_examples_are_those_of_the_subset():
    point = network()
    one = point.measure(CurvatureTrace(samples=4, examples=10))
    assert one == point.measure(CurvatureTrace(samples=4, examples=10))
    with pytest.raises(ConfigurationError, match=r"CurvatureTrace\(examples=51\)"):
        point.measure(CurvatureTrace(examples=51))


@pytest.mark.parametrize(
    "probe",
    [
        CurvatureTrace(samples=3, per_layer=True),
        CurvatureTrace(samples=4, method="xtrace"),
        CurvatureDiagonal(samples=3, kind="gauss_newton"),
        CurvatureDensity(samples=2, steps=5),
    ],
)
def test_the_probes_keep_the_rules(probe):
    check_component(probe)
    check_probe(probe)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CurvatureTrace(samples=1), "at least 2"),
        (lambda: CurvatureTrace(method="hutch"), "Did you mean 'hutchinson'"),
        (lambda: CurvatureTrace(method="xtrace", per_layer=True), "method='hutchinson'"),
        (lambda: CurvatureTrace(method="xtrace", samples=3), "give 4 or more"),
        (lambda: CurvatureTrace(kind="hesian"), "Did you mean 'hessian'"),
        (lambda: CurvatureDiagonal(samples=0), "at least 2"),
        (lambda: CurvatureDensity(steps=1), "at least 2"),
        (lambda: CurvatureDensity(width=0.0), "larger than 0"),
        (lambda: CurvatureDensity(zero=5), "between 0 and 1"),
    ],
)
def test_impossible_configurations_are_refused_with_the_cure(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_trace_stops_when_its_standard_error_is_small_enough():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)).double()
    landscape = ls.Landscape(net, "cross_entropy", (torch.randn(80, 8).double(), torch.randint(3, (80,))))
    point = ls.Point(landscape, landscape.initial())
    exact = float(point.hessian().dense().trace())
    taken = []
    for wanted in (0.2, 0.05):
        found = point.measure("CurvatureTrace", samples=2000, relative_error=wanted)
        error = found.errors["hessian_trace"].value
        assert not found.warnings
        assert error <= wanted * abs(found.scalars["hessian_trace"])
        assert abs(found.scalars["hessian_trace"] - exact) < 4 * error
        taken.append(found.scalars["hessian_trace_products"])
    assert 10 <= taken[0] < taken[1] < 2000
    late = point.measure("CurvatureTrace", samples=12, relative_error=1e-6)
    assert late.scalars["hessian_trace_products"] == 12
    assert "Allow more samples" in late.warnings[0]
    with pytest.raises(ConfigurationError, match="all its samples at once"):
        ls.probes.CurvatureTrace(method="xtrace", relative_error=0.1)


def test_the_density_of_a_wishart_matrix_is_that_of_marchenko_and_pastur():
    # Hessian of a linear regression on Gaussian data: X^T X / n with p / n = 1/4.
    size, examples = 400, 1600
    x = torch.randn(examples, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = torch.nn.Linear(size, 1, bias=False).double()
    landscape = ls.Landscape(net, "mse", (x, torch.zeros(examples, 1, dtype=torch.float64)))
    point = ls.Point(landscape, landscape.initial())
    found = point.measure("CurvatureDensity", samples=6, steps=40)
    nodes, weights = found.arrays["hessian_density_nodes"] / 2, found.arrays["hessian_density_weights"]
    ratio = size / examples
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    t = np.linspace(low, high, 20_001)
    law = np.sqrt((t - low) * (high - t)) / (2 * np.pi * ratio * t)
    # distribution functions at levels inside; the law is that of size -> infinity, fluctuations are of order 1/size
    for level in np.linspace(low + 0.1, high - 0.1, 9):
        below = np.trapezoid(np.where(t <= level, law, 0.0), t)
        measured = [
            w[n <= level].sum() - 0.5 * w[np.argmin(abs(n - level))]
            for n, w in zip(nodes, weights, strict=True)
        ]
        assert abs(np.mean(measured) - below) < 0.04
    # moments: 1, 1 + c, 1 + 3c + c^2
    moments = [(weights * nodes**k).sum(axis=1).mean() for k in (1, 2, 3)]
    np.testing.assert_allclose(moments, [1, 1 + ratio, 1 + 3 * ratio + ratio**2], rtol=0.03)


def test_a_deep_linear_network_has_the_hessian_of_its_closed_form():
    # L = (a b x - y)^2 / 2 over scalars: [[b^2 x^2, 2 a b x^2 - x y], [.., a^2 x^2]]
    a, b, x, y = 0.7, -1.3, 1.1, 0.4
    net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)).double()
    landscape = ls.Landscape(
        net,
        lambda output, target: ((output - target) ** 2).mean() / 2,
        (torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64)),
    )
    point = ls.Point(landscape, torch.tensor([a, b], dtype=torch.float64))
    mixed = 2 * a * b * x**2 - x * y
    truth = np.linalg.eigvalsh([[b**2 * x**2, mixed], [mixed, a**2 * x**2]])
    found = point.measure("HessianSpectrum", k=1, bottom=1)
    assert found.scalars["hessian_eigenvalue_1"] == pytest.approx(truth[1], rel=1e-12)
    assert found.scalars["hessian_eigenvalue_bottom_1"] == pytest.approx(truth[0], rel=1e-12)
    assert point.measure("CurvatureTrace", samples=400).scalars["hessian_trace"] == pytest.approx(
        truth.sum(), abs=4 * abs(mixed) * 2 / 20
    )


@pytest.mark.parametrize(
    ("probe", "products", "calls"),
    [
        (CurvatureTrace(samples=30), 30, 4),  # of quadratic forms
        (CurvatureTrace(samples=30, per_layer=True), 30, 4),
        # Ten before the first look at the standard error, then eight at a time, and the rest.
        (CurvatureTrace(samples=30, relative_error=1e-9), 30, 5),
        (CurvatureDiagonal(samples=9), 9, 2),
        (CurvatureDensity(samples=4, steps=5), 20, 5),
        (CurvatureTrace(samples=16, method="xtrace"), 16, 2),
    ],
)
def test_products_with_random_vectors_are_taken_together(monkeypatch, probe, products, calls):
    widths = []
    trace = isinstance(probe, CurvatureTrace) and probe.method == "hutchinson" and not probe.per_layer
    method = "quadratic_forms" if trace else "matmat"
    multiply = getattr(ls.CurvatureOperator, method)
    monkeypatch.setattr(
        ls.CurvatureOperator, method, lambda self, v: (widths.append(v.shape[1]), multiply(self, v))[1]
    )
    monkeypatch.setattr(ls.CurvatureOperator, "matvec", None)
    network().measure(probe)
    assert (sum(widths), len(widths)) == (products, calls)
    assert max(widths) <= 8


@pytest.mark.parametrize(
    ("probe", "name"),
    [(CurvatureDiagonal(samples=9), "_BYTES"), (CurvatureDensity(samples=4, steps=5), "_BASES")],
)
def test_where_memory_is_short_vectors_go_alone_to_the_same_numbers(monkeypatch, probe, name):
    found = network().measure(probe)
    monkeypatch.setattr(f"landscape_hessian.{'operators' if name == '_BYTES' else 'estimates'}.{name}", 1)
    alone = network().measure(probe)
    for key, values in found.arrays.items():
        np.testing.assert_allclose(values, alone.arrays[key], atol=1e-10)
    assert found.scalars == pytest.approx(alone.scalars, abs=1e-10)
