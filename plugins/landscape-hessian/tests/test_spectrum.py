"""The probe on landscapes whose dense Hessian is known."""

import copy
import functools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

import landscape as ls
from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape.testing import check_component, check_probe, quadratic
from landscape_hessian.spectrum import HessianSpectrum


def tanh_mlp(dtype=torch.float64):
    """Return a network of 1,449 weights whose Hessian has many negative eigenvalues, and its data."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 24), nn.Tanh(), nn.Linear(24, 3))
    x, y = torch.randn(400, 20), torch.randint(3, (400,))
    return net.to(dtype), x.to(dtype), y


def dense_hessian(net, x, y):
    """Return the Hessian in float64, by reverse differentiation of the whole network, twice."""
    net, x = copy.deepcopy(net).double(), x.double()
    layout = ls.Landscape(net, "cross_entropy", (x, y)).layout
    theta = layout.vector(net)

    def loss(flat):
        return nn.functional.cross_entropy(functional_call(net, layout.state_dict(flat), (x,)), y)

    return jacrev(jacrev(loss), chunk_size=256)(theta).detach()


@pytest.fixture(scope="module")
def truth():
    net, x, y = tanh_mlp()
    values = torch.linalg.eigvalsh(dense_hessian(net, x, y)).numpy()
    assert (values < -1e-3).sum() > 100
    return values


def spectrum_at_start(dtype, **options):
    net, x, y = tanh_mlp(dtype)
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    return ls.Point(landscape, landscape.initial()).measure("HessianSpectrum", **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-6])
def test_both_ends_are_within_their_bounds_of_the_dense_hessian(truth, dtype, tolerance):
    found = spectrum_at_start(dtype, k=5, bottom=5, tolerance=tolerance)
    # What is said is said of edges where the bounds are larger than the tolerance.
    radius = np.abs(truth).max()
    wide = [
        max(found.errors[f"hessian_eigenvalue{suffix}_{i}"].value for i in range(1, 6))
        > 0.99 * tolerance * radius
        for suffix in ("", "_bottom")
    ]
    assert len(found.warnings) <= sum(wide)
    assert all("are known to" in line and "smaller tolerance" in line for line in found.warnings)
    for suffix, expected in (("", truth[::-1]), ("_bottom", truth)):
        for i, value in enumerate(found.arrays[f"hessian_eigenvalues{suffix}"]):
            name = f"hessian_eigenvalue{suffix}_{i + 1}"
            assert found.scalars[name] == value
            assert found.errors[name].kind == "bound"
            assert abs(value - expected[i]) <= found.errors[name].value
            # The lower edge is so flat that the search does not always come down to the tolerance: with 1e-2, for
            # eight of twelve generators, and to nine times as much for the others.
            limit = max(10 * tolerance if tolerance == 1e-2 else 2 * tolerance, 0.0 if suffix == "" else 1e-2)
            assert found.errors[name].value <= limit * np.abs(truth).max() + 1e-5


def test_the_largest_five_are_complete_and_known_far_better_than_the_tolerance(truth):
    found = spectrum_at_start(torch.float64, k=5)
    assert not found.warnings
    for i, value in enumerate(found.arrays["hessian_eigenvalues"]):
        bound = found.errors[f"hessian_eigenvalue_{i + 1}"].value
        assert abs(value - truth[::-1][i]) <= bound < 1e-3 * truth[-1]
        assert abs(value - truth[::-1][i]) < 1e-5 * truth[-1]


def test_eigenvectors_are_those_of_the_dense_hessian():
    net, x, y = tanh_mlp()
    found = spectrum_at_start(torch.float64, k=3, bottom=1, tolerance=1e-8)
    hessian = dense_hessian(net, x, y)
    for name, values in (
        ("eigenvectors", "hessian_eigenvalues"),
        ("eigenvectors_bottom", "hessian_eigenvalues_bottom"),
    ):
        for vector, value in zip(found.carry[name], found.arrays[values], strict=True):
            assert torch.linalg.vector_norm(hessian @ vector - value * vector) < 1e-7


def test_a_known_quadratic_is_found():
    diagonal = [7.0, -3.0, 5.0, *np.linspace(-1, 1, 40)]
    known = quadratic(diagonal)
    found = ls.Point(known.landscape, known.landscape.initial()).measure("HessianSpectrum", k=2, bottom=1)
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues"], [7.0, 5.0], atol=1e-4)
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues_bottom"], [-3.0], atol=1e-4)


def test_a_linear_regression_with_ten_outputs_has_every_eigenvalue_ten_times():
    torch.manual_seed(0)
    x = torch.randn(50, 8, dtype=torch.float64)
    net = nn.Linear(8, 10, bias=False).double()
    landscape = ls.Landscape(net, "mse", (x, torch.randn(50, 10, dtype=torch.float64)))
    found = ls.Point(landscape, landscape.initial()).measure("HessianSpectrum", k=12)
    single = torch.linalg.eigvalsh(2 / (50 * 10) * x.T @ x).flip(0)  # the mean is over outputs as well
    expected = single.repeat_interleave(10)[:12].numpy()
    for i, value in enumerate(expected):
        error = abs(found.arrays["hessian_eigenvalues"][i] - value)
        assert error <= found.errors[f"hessian_eigenvalue_{i + 1}"].value
        assert error < 1e-3 * expected[0]


def test_the_next_measurement_on_a_path_starts_from_the_last_one():
    net, x, y = tanh_mlp()
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    probe = HessianSpectrum(k=5, risk=None)
    first = ls.Point(landscape, landscape.initial(), step=0)
    theta = first.theta - 1e-3 * first.gradient()
    before = first.measure(probe)
    warm = ls.Point(landscape, theta, step=1, previous=first).measure(probe)
    cold = ls.Point(landscape, theta, step=1).measure(probe)
    assert warm.scalars["hessian_products"] < cold.scalars["hessian_products"]
    assert before.scalars["hessian_products"] > warm.scalars["hessian_products"]
    np.testing.assert_allclose(
        warm.arrays["hessian_eigenvalues"], cold.arrays["hessian_eigenvalues"], rtol=1e-4
    )


def test_what_did_not_converge_is_nan_with_a_warning():
    found = spectrum_at_start(torch.float64, k=5, max_products=6)
    assert all(math.isnan(found.scalars[f"hessian_eigenvalue_{i}"]) for i in range(2, 6))
    assert any("did not all converge" in line for line in found.warnings)
    assert not {f"hessian_eigenvalue_{i}" for i in range(2, 6)} & set(found.errors)
    assert found.scalars["hessian_products"] == 6


@pytest.mark.parametrize("products", [1, 2, 3])
def test_no_pair_is_reported_for_both_ends(products):
    """A matrix of rank one: the smallest eigenvalues are zero, and two products show no more than two pairs."""
    known = quadratic([2.0] + [0.0] * 39)
    point = ls.Point(known.landscape, known.landscape.initial())
    found = point.measure(HessianSpectrum(k=2, bottom=2, max_products=products))
    assert math.isnan(found.scalars["hessian_eigenvalue_2"])
    assert math.isnan(found.scalars["hessian_eigenvalue_bottom_2"])
    assert any("did not all converge" in line for line in found.warnings)
    for name, truth in (("1", 2.0), ("bottom_1", 0.0)):
        value = found.scalars[f"hessian_eigenvalue_{name}"]
        assert math.isnan(value) or abs(value - truth) <= found.errors[f"hessian_eigenvalue_{name}"].value


@pytest.mark.parametrize(("size", "examples"), [(1, 1000), (3, 1000), (10, 5000), (40, 300)])
def test_in_float32_the_rounding_that_all_products_have_in_common_is_in_the_bounds(size, examples):
    torch.manual_seed(size)
    x, y = torch.randn(examples, size) * 3 + 1, torch.randn(examples, 1)
    truth = np.linalg.eigvalsh((2 * x.double().T @ x.double() / examples).numpy())
    landscape = ls.Landscape(nn.Linear(size, 1, bias=False), "mse", (x, y))
    point = ls.Point(landscape, landscape.initial())
    whole = point.measure("CurvatureSpectrum")
    assert (
        np.abs(whole.arrays["hessian_spectrum"] - truth).max() <= whole.errors["hessian_spectrum_max"].value
    )
    found = point.measure(HessianSpectrum(k=1, bottom=1, tolerance=1e-6))
    for name, value in (("", truth[-1]), ("bottom_", truth[0])):
        bound = found.errors[f"hessian_eigenvalue_{name}1"].value
        assert abs(found.scalars[f"hessian_eigenvalue_{name}1"] - value) <= bound < 1e-2


def test_products_too_few_for_the_search_are_confessed_and_more_of_them_help():
    net, x, y = tanh_mlp()
    landscape = ls.Landscape(net, "cross_entropy", (x, y))

    def found(**options):
        # In a run every configuration draws its own start; here the products are the same ones.
        probe = HessianSpectrum(k=5, **options)
        return probe.measure(ls.Point(landscape, landscape.initial()), torch.Generator().manual_seed(0))

    enough = int(found(risk=None).scalars["hessian_products"])
    few = found(max_products=enough)
    assert not np.isnan(few.arrays["hessian_eigenvalues"]).any()
    assert any("Allow more max_products" in line for line in few.warnings)
    assert not found(max_products=2 * enough).warnings


def test_the_bottom_of_a_network_is_decided_without_a_warning_and_within_its_bounds(truth):
    found = spectrum_at_start(torch.float64, k=0, bottom=5)
    assert not found.warnings
    for i, value in enumerate(found.arrays["hessian_eigenvalues_bottom"]):
        bound = found.errors[f"hessian_eigenvalue_bottom_{i + 1}"].value
        assert abs(value - truth[i]) <= bound <= 1e-2 * np.abs(truth).max()


def test_as_many_eigenvalues_as_weights_are_the_full_spectrum(truth):
    found = spectrum_at_start(torch.float64, k=len(truth))
    assert not found.warnings
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues"], truth[::-1], atol=1e-13)
    assert found.scalars["hessian_products"] == len(truth)
    assert sum(name.startswith("hessian_eigenvalue") for name in found.scalars) == 100


def test_more_eigenvalues_than_weights_are_nan_with_a_warning_and_many_more_are_refused():
    landscape = ls.Landscape(nn.Linear(1, 1), "mse", (torch.randn(5, 1), torch.randn(5, 1)))
    point = ls.Point(landscape, landscape.initial())
    found = point.measure("HessianSpectrum", k=4)
    assert np.isnan(found.arrays["hessian_eigenvalues"]).tolist() == [False, False, True, True]
    assert found.warnings == (
        "The landscape has 2 weights, and its Hessian no more eigenvalues; the rest is NaN.",
    )
    with pytest.raises(ConfigurationError, match=r"k=101.* 2 weights.*k=2 or less"):
        point.measure("HessianSpectrum", k=101)
    with pytest.raises(ConfigurationError, match="bottom=1000000"):
        point.measure("HessianSpectrum", k=1, bottom=10**6)


class Killed(BaseException):
    """What a kill looks like to the code that it hits."""


@pytest.mark.parametrize("after", [1, 9, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_killed_measurement_goes_on_where_it_stood_with_the_same_bits(tmp_path, monkeypatch, after, dtype):
    net, x, y = tanh_mlp(dtype)
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    probe = HessianSpectrum(k=3, bottom=2, checkpoint=str(tmp_path / "kept"))
    whole = ls.Point(landscape, landscape.initial()).measure(probe)
    assert not list((tmp_path / "kept").iterdir())  # nothing is left behind
    products = int(whole.scalars["hessian_products"])
    assert products > after

    matvec, count = ls.CurvatureOperator.matvec, 0

    def mortal(operator, vector):
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return matvec(operator, vector)

    monkeypatch.setattr(ls.CurvatureOperator, "matvec", mortal)
    with pytest.raises(Killed):
        ls.Point(landscape, landscape.initial()).measure(probe)
    (folder,) = (tmp_path / "kept").iterdir()
    assert len(list(folder.iterdir())) == after
    torn = folder / f"product-{after:06d}.safetensors"
    torn.write_bytes(b"half a file")  # from a machine without atomic renames
    count = 2 * after - products - 1  # so that it lives for as many as are left and the first, and no more
    again = ls.Point(landscape, landscape.initial()).measure(probe)
    assert count == after
    assert again.scalars == whole.scalars
    assert torch.equal(again.carry["eigenvectors"], whole.carry["eigenvectors"])


def test_what_was_kept_of_other_weights_or_options_is_not_used(tmp_path, monkeypatch):
    known = quadratic([7.0, -3.0, 5.0, *np.linspace(-1, 1, 40)])
    matvec, count = ls.CurvatureOperator.matvec, 0

    def mortal(operator, vector):
        nonlocal count
        count += 1
        if count > 5:
            raise Killed
        return matvec(operator, vector)

    probe = HessianSpectrum(k=2, checkpoint=str(tmp_path))
    theta = known.landscape.initial()
    monkeypatch.setattr(ls.CurvatureOperator, "matvec", mortal)
    with pytest.raises(Killed):
        ls.Point(known.landscape, theta).measure(probe)
    monkeypatch.undo()
    (kept,) = tmp_path.iterdir()
    for other, where in ((probe, theta + 1), (HessianSpectrum(k=3, checkpoint=str(tmp_path)), theta)):
        found = ls.Point(known.landscape, where).measure(other)
        np.testing.assert_allclose(found.arrays["hessian_eigenvalues"][:2], [7.0, 5.0], atol=1e-4)
        assert list(tmp_path.iterdir()) == [kept]


def killed_after(products, monkeypatch, point, probe):
    """Measure until so many products have been taken."""
    matvec, count = ls.CurvatureOperator.matvec, 0

    def mortal(operator, vector):
        nonlocal count
        count += 1
        if count > products:
            raise Killed
        return matvec(operator, vector)

    with monkeypatch.context() as patch:
        patch.setattr(ls.CurvatureOperator, "matvec", mortal)
        with pytest.raises(Killed):
            point().measure(probe)


def test_a_checkpoint_changes_no_bit():
    net, x, y = tanh_mlp()
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    plain, kept = (
        ls.Point(landscape, landscape.initial()).measure("HessianSpectrum", k=3, **option)
        for option in ({}, {"checkpoint": "unused"})
    )
    assert plain.scalars == kept.scalars
    assert plain.errors == kept.errors


@pytest.mark.parametrize("scale", [2.0, 3.0])
def test_products_of_other_data_are_not_taken_up_where_the_gradient_is_the_same(tmp_path, monkeypatch, scale):
    """At zero weights and targets the gradient is zero; twice the inputs have the same vectors, bit for bit."""
    x = torch.randn(60, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    probe = HessianSpectrum(k=2, checkpoint=str(tmp_path))

    def point(factor):
        net = nn.Linear(24, 1, bias=False).double()
        landscape = ls.Landscape(net, "mse", (factor * x, torch.zeros(60, 1).double()))
        return ls.Point(landscape, torch.zeros(24).double())

    killed_after(5, monkeypatch, lambda: point(1.0), probe)
    assert len(list(tmp_path.glob("*/product-*"))) == 5
    found = point(scale).measure(probe)
    truth = np.linalg.eigvalsh((2 / 60 * scale**2 * x.T @ x).numpy())[::-1]
    for i in range(2):
        name = f"hessian_eigenvalue_{i + 1}"
        assert abs(found.scalars[name] - truth[i]) <= found.errors[name].value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [0, 3])
def test_a_flipped_bit_in_a_kept_product_is_noticed(tmp_path, monkeypatch, number):
    net, x, y = tanh_mlp(torch.float32)
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    probe = HessianSpectrum(k=3, checkpoint=str(tmp_path))

    def point():
        return ls.Point(landscape, landscape.initial())

    whole = point().measure(probe)
    killed_after(7, monkeypatch, point, probe)
    (damaged,) = tmp_path.glob(f"*/product-{number:06d}.safetensors")
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 0x40
    damaged.write_bytes(content)
    again = point().measure(probe)
    assert again.scalars == whole.scalars
    assert again.errors == whole.errors


def test_a_run_that_is_killed_within_a_measurement_resumes_within_it(tmp_path, monkeypatch):
    experiment = ls.Experiment(
        ls.models.MLP(hidden=(6,)),
        ls.datasets.Digits(),
        ls.walkers.SGD(lr=0.1, batch_size=32),
        probes=(ls.Every(2, HessianSpectrum(k=2, checkpoint=str(tmp_path / "kept"))),),
        steps=4,
        seed=3,
    )
    matvec, count = ls.CurvatureOperator.matvec, 0

    def mortal(operator, vector):
        nonlocal count
        count += 1
        if count == limit:
            raise KeyboardInterrupt
        return matvec(operator, vector)

    limit = 0
    monkeypatch.setattr(ls.CurvatureOperator, "matvec", mortal)
    whole = experiment.run()
    needed = count
    # Two products before the end of the second measurement.
    taken = whole.metrics["hessian_products"].dropna().tolist()
    assert sum(taken) == needed
    count, limit = 0, int(sum(taken[:2])) - 2
    with pytest.raises(KeyboardInterrupt):
        experiment.run(store=tmp_path / "runs", run_id="r")
    stopped = ls.open(tmp_path / "runs" / "r")
    assert len(list((tmp_path / "kept").glob("*/product-*"))) == limit - 1 - taken[0]
    limit = 0
    resumed = stopped.resume()
    # The product that was killed was counted twice, and the first of that measurement is always taken again.
    assert count == needed + 2
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics, check_exact=True)
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("kind", ["gauss_newton", "fisher", "second_moment", "covariance"])
def test_every_matrix_of_second_order_has_its_ends(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    landscape = ls.Landscape(net, "cross_entropy", (torch.randn(60, 6).double(), torch.randint(3, (60,))))
    point = ls.Point(landscape, landscape.initial())
    truth = torch.linalg.eigvalsh(point.curvature(kind).dense()).numpy()
    found = point.measure("HessianSpectrum", k=4, bottom=1, kind=kind)
    prefix = {"second_moment": "example_second_moment", "covariance": "example_covariance"}.get(kind, kind)
    for i in range(4):
        name = f"{prefix}_eigenvalue_{i + 1}"
        assert abs(found.scalars[name] - truth[-1 - i]) <= found.errors[name].value + 1e-14
    assert abs(found.arrays[f"{prefix}_eigenvalues_bottom"][0] - truth[0]) <= 1e-3 * truth[-1]
    assert not any(name.startswith("hessian") for name in found.scalars)


def test_sharpness_is_one_where_gradient_descent_is_about_to_be_unstable():
    known = quadratic([4.0, 1.0, *np.linspace(0, 0.5, 20)])
    point = ls.Point(known.landscape, known.landscape.initial())
    found = point.measure("HessianSpectrum", k=1, learning_rate=0.5)
    assert found.scalars["hessian_sharpness"] == pytest.approx(1.0, abs=1e-3)
    assert found.errors["hessian_sharpness"].value == 0.25 * found.errors["hessian_eigenvalue_1"].value
    with pytest.raises(ConfigurationError, match="give k=1 or more"):
        HessianSpectrum(k=0, bottom=1, learning_rate=0.1)


def test_equal_inputs_give_equal_bits():
    first, second = (spectrum_at_start(torch.float32, k=4, bottom=2) for _ in range(2))
    assert first.scalars == second.scalars
    assert torch.equal(first.carry["eigenvectors"], second.carry["eigenvectors"])


def test_a_matrix_too_large_for_the_memory_is_refused_with_its_size():
    wide = ls.Landscape(nn.Linear(40_000, 1), "mse", (torch.randn(3, 40_000), torch.randn(3, 1)))
    with pytest.raises(ConfigurationError, match="38 GB"):
        ls.Point(wide, wide.initial()).measure("HessianSpectrum", k=40_000)


def test_examples_takes_one_subset_for_the_whole_run():
    net, x, y = tanh_mlp()
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    theta = landscape.initial()
    probe = HessianSpectrum(k=1, tolerance=1e-8, examples=40)
    first, later, other = (
        ls.Point(landscape, theta, step=step, seed=seed).measure(probe).scalars["hessian_eigenvalue_1"]
        for step, seed in ((0, 0), (9, 0), (0, 1))
    )
    assert first == pytest.approx(later, rel=1e-9)
    assert first != pytest.approx(other, rel=1e-3)
    all_of_them = ls.Point(landscape, theta).measure(HessianSpectrum(k=1, tolerance=1e-8, examples=400))
    full = ls.Point(landscape, theta).measure(HessianSpectrum(k=1, tolerance=1e-8))
    assert all_of_them.scalars["hessian_eigenvalue_1"] == pytest.approx(full.scalars["hessian_eigenvalue_1"])
    with pytest.raises(ConfigurationError, match="the data has 400 examples"):
        ls.Point(landscape, theta).measure("HessianSpectrum", examples=401)


class Inside(nn.Module):
    """A loss that lives inside the model, BatchNorm and dropout: what users bring."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 3)
        )

    def forward(self, inputs, labels):
        return nn.functional.cross_entropy(self.body(inputs), labels)


def inside_landscape():
    torch.manual_seed(0)
    module = Inside().double().train()
    data = {"inputs": torch.randn(60, 6, dtype=torch.float64), "labels": torch.randint(3, (60,))}
    return module, data, ls.Landscape(module, ls.BatchLoss(lambda m, batch: m(**batch)), data)


def test_a_loss_inside_a_module_in_train_mode_is_measured_in_eval_mode_and_left_untouched():
    module, data, landscape = inside_landscape()
    before, random_state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    point = ls.Point(landscape, landscape.initial())
    found = point.measure("HessianSpectrum", k=3, bottom=2, tolerance=1e-8)
    point.measure("GradientHessianOverlap", k=3)
    assert module.training
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())

    quiet = copy.deepcopy(module).eval()
    layout = landscape.layout

    def loss(flat):
        return functional_call(quiet, layout.state_dict(flat), (data["inputs"], data["labels"]))

    truth = torch.linalg.eigvalsh(jacrev(jacrev(loss))(layout.vector(quiet))).detach().numpy()
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues"], truth[::-1][:3], rtol=1e-9)
    np.testing.assert_allclose(found.arrays["hessian_eigenvalues_bottom"], truth[:2], rtol=1e-9)


def test_a_point_without_a_finite_loss_is_an_error():
    landscape = ls.Landscape(nn.Linear(3, 1), "mse", (torch.randn(5, 3), torch.randn(5, 1)))
    with pytest.raises(NonFiniteLossError):
        ls.Point(landscape, torch.full((4,), torch.inf)).measure("HessianSpectrum", k=1)


@pytest.mark.parametrize("probe", [HessianSpectrum(k=2), HessianSpectrum(k=0, bottom=3, examples=4)])
def test_the_probe_keeps_the_rules(probe):
    check_component(probe)
    check_probe(probe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": -1}, "k=-1 .*at least 0"),
        ({"k": 0}, "asks for nothing"),
        ({"tolerance": 0.0}, "between 0 and 1"),
        ({"tolerance": 100}, "between 0 and 1"),
        ({"max_products": 0}, "at least 1"),
        ({"basis": 8}, "need a basis of 14"),
        ({"risk": 1.0}, "between 0 and 1"),
        ({"examples": 0}, "at least 1"),
    ],
)
def test_impossible_configurations_are_refused_with_the_cure(options, message):
    with pytest.raises(ConfigurationError, match=message):
        HessianSpectrum(**options)


def test_a_layer_on_other_data_has_the_spectrum_of_that_block_of_the_hessian_there():
    net, x, y = tanh_mlp()
    torch.manual_seed(1)
    other = torch.randn(90, 20, dtype=torch.float64) + 1, torch.randint(3, (90,))
    landscape = ls.Landscape(net, "cross_entropy", (x, y))
    there = landscape.on(other, split="shifted").restrict("0.*")
    rows = landscape.layout.indices(there.layout.names)
    block = dense_hessian(net, *other)[rows][:, rows]
    truth = torch.linalg.eigvalsh(block).numpy()
    found = ls.Point(there, there.initial()).measure("HessianSpectrum", k=3, bottom=2)
    for i in range(3):
        error = found.errors[f"hessian_eigenvalue_{i + 1}"].value
        assert abs(found.scalars[f"hessian_eigenvalue_{i + 1}"] - truth[-1 - i]) <= error
    for i in range(2):
        error = found.errors[f"hessian_eigenvalue_bottom_{i + 1}"].value
        assert abs(found.scalars[f"hessian_eigenvalue_bottom_{i + 1}"] - truth[i]) <= error


def test_a_wide_linear_network_has_the_blocks_of_its_closed_form():
    # L = sum |B A x - y|^2 / (2 n): with R = (B A X - Y) X^T / n and S = X X^T / n, and weights by rows,
    # H_AA = (B^T B) (x) S, H_BB = 1 (x) A S A^T, and H_AB = B^T (x) S A^T + the residual's part, by entries.
    inputs, hidden, outputs, examples = 5, 7, 4, 30
    generator = torch.Generator().manual_seed(3)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    x, y, a, b = draw(examples, inputs), draw(examples, outputs), draw(hidden, inputs), draw(outputs, hidden)
    net = torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden, bias=False), torch.nn.Linear(hidden, outputs, bias=False)
    )
    landscape = ls.Landscape(
        net.double(), lambda z, t: (z - t).square().sum(dim=1).mean() / 2, (x, y), dtype=torch.float64
    )
    point = ls.Point(landscape, torch.cat([a.flatten(), b.flatten()]))
    A, B, X, Y = (t.numpy() for t in (a, b, x.T, y.T))
    S, R = X @ X.T / examples, (B @ A @ X - Y) @ X.T / examples
    mixed = np.einsum("jh,im->hijm", B, S @ A.T)
    mixed += np.einsum("hm,ji->hijm", np.eye(hidden), R)
    mixed = mixed.reshape(hidden * inputs, outputs * hidden)
    truth = np.block([[np.kron(B.T @ B, S), mixed], [mixed.T, np.kron(np.eye(outputs), A @ S @ A.T)]])
    np.testing.assert_allclose(point.hessian().dense().numpy(), truth, atol=1e-12 * np.abs(truth).max())
    values = np.linalg.eigvalsh(truth)
    found = point.measure("HessianSpectrum", k=4, bottom=3)
    for i in range(4):
        name = f"hessian_eigenvalue_{i + 1}"
        assert abs(found.scalars[name] - values[-1 - i]) <= found.errors[name].value + 1e-12
    for i in range(3):
        name = f"hessian_eigenvalue_bottom_{i + 1}"
        assert abs(found.scalars[name] - values[i]) <= found.errors[name].value + 1e-12
    whole = point.measure("CurvatureSpectrum").arrays["hessian_spectrum"]
    np.testing.assert_allclose(whole, values, atol=1e-11 * np.abs(values).max())
    layers = point.measure("CurvatureTrace", samples=100, per_layer=True)
    for layer, exact in (("0", np.trace(B.T @ B) * np.trace(S)), ("1", outputs * np.trace(A @ S @ A.T))):
        error = layers.errors[f"hessian_trace_{layer}"].value
        assert abs(layers.scalars[f"hessian_trace_{layer}"] - exact) <= 5 * error


def test_a_noisy_quadratic_has_the_spectrum_that_it_was_given():
    experiment = ls.Experiment(
        ls.models.NoisyQuadratic(decay=1.0),
        ls.datasets.GradientNoise(300, examples=400),
        ls.walkers.SGD(lr=0.1),
        loss="model",
        dtype="float64",
    )
    landscape = experiment.landscapes()["train"]
    point = ls.Point(landscape, landscape.initial())
    exact = 1 / np.arange(1, 301)
    found = point.measure("HessianSpectrum", k=6)
    for i, value in enumerate(exact[:6]):
        name = f"hessian_eigenvalue_{i + 1}"
        assert abs(found.scalars[name] - value) <= found.errors[name].value
        assert found.errors[name].value <= 5e-3
    assert found.carry["edge"] >= exact[6]
    # Eigenvectors are the axes.
    axes = found.carry["eigenvectors"].abs().argmax(dim=1)
    assert axes.tolist() == list(range(6))
    # Random signs give the trace of a diagonal matrix exactly.
    trace = point.measure("CurvatureTrace", samples=3)
    assert trace.scalars["hessian_trace"] == pytest.approx(exact.sum(), rel=1e-12)
    density = point.measure("CurvatureDensity", samples=3, steps=30)
    assert density.scalars["hessian_density_trace"] == pytest.approx(exact.sum(), rel=1e-12)
    assert density.scalars["hessian_density_negative_low"] == 0


def test_where_rounding_hides_the_edge_no_smaller_tolerance_is_advised():
    x = np.linspace(0.5 / 600, 1 - 0.5 / 600, 600)
    flat = -0.02 * np.sqrt(1 - np.sqrt(x))
    curvatures = torch.tensor([9.0, 8.0, *flat], dtype=torch.float32)
    module = nn.Linear(len(curvatures), 1, bias=False)
    loss = ls.BatchLoss(lambda module, batch: (batch[0] * module.weight[0] ** 2).sum() / 2)
    landscape = ls.Landscape(module, loss, (curvatures[None],))
    point = ls.Point(landscape, landscape.initial())
    found = point.measure("HessianSpectrum", k=0, bottom=3, tolerance=1e-5)
    assert "evaluate in float64" in found.warnings[0]
    for i in range(3):
        name = f"hessian_eigenvalue_bottom_{i + 1}"
        assert abs(found.scalars[name] - np.sort(flat)[i]) <= found.errors[name].value


def test_vectors_that_the_memory_cannot_hold_are_refused_before_any_work(monkeypatch):
    x = torch.ones(2, 1000)
    landscape = ls.Landscape(nn.Linear(1000, 1, bias=False), "mse", (x, torch.ones(2, 1)))
    point = ls.Point(landscape, landscape.initial())
    monkeypatch.setattr("os.sysconf", lambda name: 390)
    # 40 vectors of 4,000 bytes in 390 pages of 390 bytes.
    with pytest.raises(ConfigurationError, match=r"40 vectors of 1,000 weights.*give basis=14"):
        point.measure("HessianSpectrum", k=5)
    found = point.measure("HessianSpectrum", k=5, basis=14)
    assert found.scalars["hessian_eigenvalue_1"] == pytest.approx(2000, rel=1e-5)


def test_a_flat_edge_is_said_to_be_known_less_well_and_a_smaller_tolerance_cures_it():
    # Wigner's semicircle: the density rises from zero like a root.
    t = np.linspace(-2, 2, 200_001)
    cumulated = np.cumsum(np.sqrt(np.maximum(4 - t**2, 0))) * (t[1] - t[0]) / (2 * np.pi)
    exact = np.interp((np.arange(600) + 0.5) / 600, cumulated, t)
    known = quadratic(exact)
    point = ls.Point(known.landscape, known.landscape.initial())
    # With 1e-2 the search comes down to the tolerance for other generators.
    wide, narrow = (
        HessianSpectrum(k=0, bottom=3, tolerance=tolerance).measure(point, torch.Generator().manual_seed(0))
        for tolerance in (1e-2, 3e-3)
    )
    assert "Give a smaller tolerance" in wide.warnings[0]
    assert not narrow.warnings
    for found in (wide, narrow):
        for i in range(3):
            name = f"hessian_eigenvalue_bottom_{i + 1}"
            assert abs(found.scalars[name] - exact[i]) <= found.errors[name].value
    worst = [max(error.value for error in found.errors.values()) for found in (wide, narrow)]
    assert worst[1] < worst[0] / 3
