"""The share of the gradient in leading eigenspaces."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component, check_probe
from landscape_hessian.operators import KINDS, prefix_of
from landscape_hessian.overlap import GradientHessianOverlap, HessianSubspaceOverlap
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


def test_a_batch_without_a_gradient_is_left_out_and_no_other_number_is_lost():
    # Examples on one side are fitted exactly: with one of these as the batch, there is no gradient.
    # Small whole numbers, so that nothing is rounded.
    x = torch.randint(-4, 5, (30, 4), generator=torch.Generator().manual_seed(0)).double()
    w = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    y = (x @ w).unsqueeze(1) + torch.where(x[:, :1] > 0, 1.0, 0.0)
    landscape = ls.Landscape(torch.nn.Linear(4, 1, bias=False).double(), "mse", (x, y))
    point = ls.Point(landscape, w)
    probe = GradientHessianOverlap(k=2, batches=12, batch_size=1, tolerance=1e-8)
    found = probe.measure(point, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    drawn = []
    for _ in range(12):
        drawn.append(int(torch.randperm(30, generator=generator)[0]))
        torch.randint(2**62, (), generator=generator)  # of augmentation
    rows = torch.stack([2 * (x[i] @ w - y[i]) * x[i] for i in drawn])
    _, vectors = torch.linalg.eigh(landscape.hessian(w).dense())
    directed = rows[rows.norm(dim=1) > 0]
    assert 0 < len(directed) < 12
    gone = [str(i + 1) for i in range(12) if not rows[i].any()]
    shares = (directed @ vectors[:, [-1, -2]]).square().cumsum(1).sqrt() / directed.norm(dim=1, keepdim=True)
    for i in range(2):
        name = f"batch_gradient_hessian_overlap_{i + 1}"
        assert found.scalars[name] == pytest.approx(float(shares[:, i].mean()), rel=1e-6)
        error = float(shares[:, i].std()) / len(directed) ** 0.5
        assert found.errors[name].value == pytest.approx(error, rel=1e-5)
    gradient = point.gradient()
    share = float((vectors[:, -1] @ gradient).abs() / gradient.norm())
    assert found.scalars["gradient_hessian_overlap_1"] == pytest.approx(share, rel=1e-6)
    (warning,) = found.warnings
    assert (
        f"leaves out {len(gone)} of 12 batches, number {', '.join(gone)}: their gradient is zero" in warning
    )
    # Where all examples together have none, single batches still do.
    level = ls.Landscape(
        torch.nn.Linear(1, 1, bias=False).double(),
        "mse",
        (torch.ones(2, 1).double(), torch.tensor([[1.0], [-1.0]])),
    )
    found = ls.Point(level, torch.zeros(1).double()).measure(
        GradientHessianOverlap(k=1, batches=3, batch_size=1)
    )
    assert math.isnan(found.scalars["gradient_hessian_overlap_1"])
    assert found.scalars["batch_gradient_hessian_overlap_1"] == pytest.approx(1)
    assert "gradient_hessian_overlap is unknown: the gradient is zero here" in found.warnings[0]


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
    landscape = parabola([*np.linspace(0, 1, 56), 1.4, 1.6, 1.8, 2.0])
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


def test_overlaps_of_batches_are_those_of_their_gradients():
    x = torch.eye(4, dtype=torch.float64) * torch.tensor([2.0, 1.5, 1.0, 0.5], dtype=torch.float64)
    landscape = ls.Landscape(
        torch.nn.Linear(4, 1, bias=False).double(), "mse", (x, torch.zeros(4, 1, dtype=torch.float64))
    )
    point = ls.Point(landscape, torch.ones(4, dtype=torch.float64))
    # The gradient of one example lies along one axis: the overlap is 0 or 1.
    probe = GradientHessianOverlap(k=2, batches=200, batch_size=1)
    found = point.measure(probe)
    for i in (1, 2):
        name = f"batch_gradient_hessian_overlap_{i}"
        share = i / 4
        assert found.errors[name].kind == "standard error"
        assert found.errors[name].value == pytest.approx(math.sqrt(share * (1 - share) / 200), rel=0.2)
        assert abs(found.scalars[name] - share) < 4 * found.errors[name].value
    whole = point.measure(GradientHessianOverlap(k=2, batches=2, batch_size=4))
    for i in (1, 2):
        assert whole.scalars[f"batch_gradient_hessian_overlap_{i}"] == pytest.approx(
            whole.scalars[f"gradient_hessian_overlap_{i}"]
        )
    with pytest.raises(ConfigurationError, match="batch_size=5"):
        point.measure(GradientHessianOverlap(k=2, batches=1, batch_size=5))


class Turning(torch.nn.Module):
    """L = a (w.e1')^2 + b (w.e2')^2 with axes that turn with the third weight."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        first, second, angle = self.w
        c, s = torch.cos(angle), torch.sin(angle)
        return (3 * (c * first + s * second) ** 2 + (c * second - s * first) ** 2 + 0 * angle).reshape(1)


def test_subspaces_that_turn_have_the_cosine_of_the_angle():
    landscape = ls.Landscape(Turning(), ls.BatchLoss(lambda m, b: m(b[0])[0]), (torch.zeros(1, 1),))
    probe = HessianSubspaceOverlap(k=2)
    previous = None
    angles = [0.0, 0.3, 0.7]
    found = []
    for step, angle in enumerate(angles):
        theta = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
        point = ls.Point(landscape, theta, step=step, previous=previous)
        found.append(point.measure(probe))
        previous = point
    assert all(map(math.isnan, found[0].scalars.values()))
    assert "this is the first" in found[0].warnings[0]
    for step, (last, first) in enumerate([(0.3, 0.3), (0.4, 0.7)], start=1):
        scalars = found[step].scalars
        assert scalars["hessian_subspace_overlap_1"] == pytest.approx(math.cos(last) ** 2, abs=1e-9)
        assert scalars["hessian_subspace_overlap_first_1"] == pytest.approx(math.cos(first) ** 2, abs=1e-9)
        # Together the two axes span the same plane everywhere.
        assert scalars["hessian_subspace_overlap_2"] == pytest.approx(1, abs=1e-9)


def test_a_subspace_that_is_not_determined_is_nan_with_a_warning():
    landscape = parabola([3.0, 3.0, 1.0])
    first = ls.Point(landscape, torch.ones(3))
    first.measure(HessianSubspaceOverlap(k=2))
    found = ls.Point(landscape, torch.zeros(3), step=1, previous=first).measure(HessianSubspaceOverlap(k=2))
    assert math.isnan(found.scalars["hessian_subspace_overlap_1"])
    assert found.scalars["hessian_subspace_overlap_2"] == pytest.approx(1)
    assert "told apart" in found.warnings[0]


def test_the_subspace_probe_keeps_the_rules():
    check_component(HessianSubspaceOverlap(k=2))
    check_probe(HessianSubspaceOverlap(k=2))


def small_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    data = torch.randn(60, 5, dtype=torch.float64), torch.randint(3, (60,))
    return ls.Landscape(net, "cross_entropy", data, penalty=lambda w: 0.01 * (w @ w))


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_with_every_matrix_are_those_of_the_dense_one(kind):
    landscape = small_network()
    theta = landscape.initial()
    places = [theta, theta + 0.2 * torch.sin(torch.arange(len(theta), dtype=torch.float64))]
    k, previous, leading = 3, None, []
    share, stays = f"gradient_{prefix_of(kind)}_overlap", f"{prefix_of(kind)}_subspace_overlap"
    for step, place in enumerate(places):
        point = ls.Point(landscape, place, step=step, previous=previous)
        vectors = torch.linalg.eigh(point.curvature(kind).dense()).eigenvectors.flip(1)[:, :k]
        leading.append(vectors)
        gradient = landscape.gradient(place)
        expected = (((vectors.T @ gradient) ** 2).cumsum(0) / (gradient @ gradient)).sqrt()
        found = point.measure(
            GradientHessianOverlap(k=k, kind=kind, tolerance=1e-8, batches=2, batch_size=60)
        )
        assert not found.warnings
        for i in range(k):
            assert found.scalars[f"{share}_{i + 1}"] == pytest.approx(float(expected[i]), rel=1e-6)
            # A batch of all examples has the gradient of all.
            assert found.scalars[f"batch_{share}_{i + 1}"] == pytest.approx(float(expected[i]), rel=1e-6)
        turned = point.measure(HessianSubspaceOverlap(k=k, kind=kind, tolerance=1e-8))
        previous = point
    for i in range(1, k + 1):
        cosines = leading[0][:, :i].T @ leading[1][:, :i]
        for name in (f"{stays}_{i}", f"{stays}_first_{i}"):
            assert turned.scalars[name] == pytest.approx(float((cosines**2).sum()) / i, rel=1e-6)
    names = [*found.scalars, *turned.scalars]
    assert kind == "hessian" or not any("hessian" in name for name in names)


@pytest.mark.parametrize("probe", [GradientHessianOverlap, HessianSubspaceOverlap])
def test_the_probes_of_other_matrices_keep_the_rules(probe):
    check_component(probe(k=2, kind="fisher"))
    check_probe(probe(k=2, kind="fisher"))
    with pytest.raises(ConfigurationError, match="fischer"):
        probe(kind="fischer")
