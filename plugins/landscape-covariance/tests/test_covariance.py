"""Covariances of gradients against dense matrices and closed forms."""

import copy
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.objective import fixed
from landscape.testing import check_component, check_probe, quadratic
from landscape_covariance import gradients as held
from landscape_covariance.covariance import GradientCovariance
from landscape_covariance.gradients import Gradients


def network(dtype=torch.float64, n=40):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)
    x, y = torch.randn(n, 5, dtype=dtype), torch.randint(3, (n,))
    return net, x, y, ls.Landscape(net, "cross_entropy", (x, y))


def gradients_one_by_one(net, x, y, batches):
    """Return the gradients by plain backward passes, shape (L, P), float64."""
    rows = []
    for batch in batches:
        net.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    return torch.stack(rows).double().numpy()


def dense_eigenvalues(rows, centred):
    deviations = rows - rows.mean(axis=0) if centred else rows
    return np.linalg.eigvalsh(deviations.T @ deviations / len(rows))[::-1]


def drawn(generator, total, batch_size, count):
    return [torch.randperm(total, generator=generator)[:batch_size] for _ in range(count)]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eigenvalues_are_those_of_the_dense_covariance_of_the_same_batches(centred, dtype):
    net, x, y, landscape = network(dtype)
    probe = GradientCovariance(batches=7, batch_size=10, centred=centred, k=3)
    point = ls.Point(landscape, landscape.initial())
    found = probe.measure(point, torch.Generator().manual_seed(5))
    batches = drawn(torch.Generator().manual_seed(5), 40, 10, 7)
    expected = dense_eigenvalues(gradients_one_by_one(net, x, y, batches), centred)
    values = found.arrays["covariance_eigenvalues"]
    assert values.shape == (6 if centred else 7,)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(values, expected[: len(values)], rtol=tolerance, atol=tolerance * expected[0])
    assert found.scalars["covariance_trace"] == pytest.approx(expected.sum(), rel=tolerance)
    assert [found.scalars[f"covariance_eigenvalue_{i + 1}"] for i in range(3)] == values[:3].tolist()


def test_per_example_eigenvalues_are_those_of_the_dense_covariance_over_all_examples():
    net, x, y, landscape = network()
    found = ls.Point(landscape, landscape.initial()).measure(
        "GradientCovariance", batches=40, batch_size=7, per_example=True
    )
    expected = dense_eigenvalues(gradients_one_by_one(net, x, y, torch.arange(40)[:, None]), centred=True)
    np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], expected[:39], atol=1e-12)


def test_a_linear_regression_gives_the_closed_form():
    # L = mean (w.x - y)^2 has example gradients 2 r_i x_i; at the optimum of y = noise they average to zero.
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y).solution[:, 0]
    landscape = ls.Landscape(nn.Linear(4, 1, bias=False).double(), "mse", (x, y))
    rows = (2 * (x @ w[:, None] - y) * x).numpy()
    expected = np.linalg.eigvalsh(rows.T @ rows / 30)[::-1]
    for centred in (True, False):
        found = ls.Point(landscape, w).measure(
            "GradientCovariance", batches=30, per_example=True, centred=centred, k=4
        )
        np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], expected, rtol=1e-10)


def test_a_quadratic_with_scattered_examples_has_the_covariance_h_c_h():
    hessian = np.diag([3.0, 2.0, 1.0]) + 0.5
    known = quadratic(hessian, noise=0.3, examples=20)
    x = known.landscape.data.everything()[0].numpy()
    found = ls.Point(known.landscape, known.landscape.initial()).measure(
        "GradientCovariance", batches=20, per_example=True, k=3
    )
    expected = np.linalg.eigvalsh(hessian @ np.cov(x.T, bias=True) @ hessian)[::-1]
    np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], expected, rtol=1e-10)


def test_batches_of_one_example_have_the_covariance_of_examples_on_average():
    # Independent batches: the expectation of the estimate is (L - 1)/L of the covariance of examples.
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    exact = point.measure("GradientCovariance", batches=40, per_example=True).scalars["covariance_trace"]
    probe = GradientCovariance(batches=20, batch_size=1)
    estimates = [
        probe.measure(point, torch.Generator().manual_seed(seed)).scalars["covariance_trace"]
        for seed in range(30)
    ]
    spread = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - 19 / 20 * exact) < 5 * spread


def regression(rows):
    """Return a landscape whose examples have these gradients at 0: of (w.x - y)^2 with y = -1/2."""
    rows = torch.as_tensor(rows)
    net = nn.Linear(rows.shape[1], 1, bias=False).double()
    return ls.Landscape(net, "mse", (rows, torch.full((len(rows), 1), -0.5, dtype=torch.float64)))


def products_of(rows, *, memory=1 << 30, size=1, centred=True, vectors=None):
    """Return the products of these gradients, of which `size` are computed at once, and the gradients."""
    landscape = regression(rows)
    draws = [(part, None) for part in torch.split(torch.arange(len(rows)), size)]
    gradients = Gradients(landscape, torch.zeros(landscape.size).double(), draws, True, memory)
    return *gradients.products(vectors, weights=torch.ones(len(rows)), centred=centred), gradients


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 8),
    st.integers(1, 12),
    st.booleans(),
    st.floats(1e-6, 1e6),
    st.integers(0, 99),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_the_gram_matrix_has_the_eigenvalues_of_the_covariance_however_little_is_held(
    count, size, centred, scale, seed, fitting, together
):
    generator = np.random.default_rng(seed)
    rows = scale * generator.standard_normal((count, size))
    vectors = torch.from_numpy(generator.standard_normal((3, size)))
    together = min(together, max(fitting, 2) // 2)
    gram, along, gradients = products_of(
        rows, memory=fitting * size * 8, size=together, centred=centred, vectors=vectors
    )
    values = np.linalg.eigvalsh(gram.numpy() / count)[::-1]
    dense = dense_eigenvalues(rows, centred)
    shared = min(count, size)
    np.testing.assert_allclose(values[:shared], dense[:shared], atol=1e-10 * dense[0])
    deviations = rows - rows.mean(axis=0) if centred else rows
    np.testing.assert_allclose(along, deviations @ vectors.T.numpy(), atol=1e-12 * scale * size)
    assert gradients.fits == (count <= max(fitting, 2))
    weights = generator.standard_normal((2, count))
    weights -= weights.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        gradients.combined(torch.from_numpy(weights)), weights @ rows, atol=1e-12 * scale * count
    )


def test_no_more_gradients_are_held_than_fit_and_the_cost_is_as_stated(monkeypatch):
    rows = torch.randn(40, 30, dtype=torch.float64)
    alive = []
    compute = Gradients._rows

    def watched(self, draws):
        found = compute(self, draws)
        alive.append(weakref.ref(found))
        there = [one() for one in alive]
        assert sum(len(one) for one in there if one is not None) <= 10
        return found

    monkeypatch.setattr(Gradients, "_rows", watched)
    gram, _, gradients = products_of(rows, memory=10 * 30 * 8, size=2, centred=False)
    torch.testing.assert_close(gram, rows @ rows.T)
    # Five blocks of eight, and those after each: 40 + 32 + 24 + 16 + 8 = (5 + 1) / 2 * 40.
    assert gradients.computed == 120
    assert products_of(rows[:10], memory=10 * 30 * 8, size=2)[2].computed == 10


def test_many_columns_are_summed_in_pieces(monkeypatch):
    rows = torch.randn(5, 1000, dtype=torch.float64)
    whole, _, _ = products_of(rows)
    monkeypatch.setattr(held, "_NUMBERS", 64)
    torch.testing.assert_close(products_of(rows)[0], whole, rtol=1e-12, atol=1e-12)


class Unknown(nn.Linear):
    """What a subclass computes is not known: its inputs and outputs do not do."""


@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_little_memory_gives_the_same_eigenpairs_and_says_what_it_cost(centred, per_example, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(Unknown(5, 6), nn.LayerNorm(6, bias=False), nn.Tanh(), Unknown(6, 3)).double()
    net[1].weight.requires_grad_(False)
    data = torch.randn(40, 5).double(), torch.randint(3, (40,))
    landscape = ls.Landscape(net, "cross_entropy", data, penalty=lambda t: t @ t)
    point = ls.Point(landscape, landscape.initial())
    options = {"batches": 12, "batch_size": 5, "centred": centred, "per_example": per_example}
    options |= {"vectors": True, "k": 3}
    whole, little = (
        GradientCovariance(memory=memory, **options).measure(point, torch.Generator().manual_seed(1))
        for memory in (2**31, 6 * 8 * landscape.size)
    )
    np.testing.assert_allclose(
        whole.arrays["covariance_eigenvalues"], little.arrays["covariance_eigenvalues"], rtol=1e-9, atol=1e-15
    )
    overlaps = whole.carry["eigenvectors"] @ little.carry["eigenvectors"].T
    torch.testing.assert_close(overlaps.abs(), torch.eye(3).double(), rtol=0, atol=1e-9)
    assert not whole.warnings
    # Four blocks of three beside three, or 5, 5 and 2 beside one: 12 + 7 + 2 = 21.
    assert f"was computed {2.5 if per_example else 1.8} times" in little.warnings[-1]


def test_the_penalty_moves_every_gradient_alike_and_so_changes_no_centred_eigenvalue():
    net, x, y, landscape = network()
    pulled = ls.Landscape(net, "cross_entropy", (x, y), penalty=lambda theta: 3 * theta.square().sum())
    first, second = (
        ls.Point(where, where.initial()).measure("GradientCovariance", batches=5, batch_size=8)
        for where in (landscape, pulled)
    )
    np.testing.assert_allclose(
        first.arrays["covariance_eigenvalues"], second.arrays["covariance_eigenvalues"], rtol=1e-8
    )


def test_a_batch_of_all_the_data_has_no_noise():
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    found = point.measure("GradientCovariance", batches=4, batch_size=40)
    assert found.scalars["covariance_eigenvalue_1"] == found.scalars["covariance_trace"] == 0
    # Not the ratio of two numbers that are nothing but rounding.
    assert np.isnan(found.scalars["covariance_stable_rank"])
    assert any("Batches of all 40 examples are the same" in text for text in found.warnings)
    aligned = point.measure("CovarianceHessianAlignment", k=2, batches=4, batch_size=40)
    assert np.isnan(list(aligned.scalars.values())).all()
    assert any("Batches of all 40 examples are the same" in text for text in aligned.warnings)
    # About zero they have their gradient.
    found = point.measure("GradientCovariance", batches=4, batch_size=40, centred=False)
    gradient = point.gradient()
    assert found.scalars["covariance_trace"] == pytest.approx(float(gradient @ gradient))
    assert not any("the same" in text for text in found.warnings)
    nowhere = ls.Point(landscape, torch.full((landscape.size,), torch.nan, dtype=torch.float64))
    found = nowhere.measure("GradientCovariance", batches=4, batch_size=40)
    assert np.isnan(found.scalars["covariance_trace"])


def test_the_default_batch_is_small_where_the_data_is_small():
    assert GradientCovariance()._batch_size(network(n=40)[3].data) == 10
    assert GradientCovariance()._batch_size(network(n=1000)[3].data) == 64


def test_columns_beyond_the_rank_are_zero_with_a_warning():
    _, _, _, landscape = network()
    found = ls.Point(landscape, landscape.initial()).measure("GradientCovariance", batches=3, batch_size=4)
    assert [found.scalars[f"covariance_eigenvalue_{i}"] == 0 for i in range(1, 6)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert "beyond i=2 are zero" in found.warnings[0]


def test_gradients_that_are_not_finite_give_nan_with_a_warning():
    _, _, _, landscape = network()
    theta = torch.full((landscape.size,), torch.inf, dtype=torch.float64)
    found = ls.Point(landscape, theta).measure("GradientCovariance", batches=3, batch_size=4)
    assert np.isnan(found.scalars["covariance_trace"])
    assert np.isnan(found.arrays["covariance_eigenvalues"]).all()
    assert "NaN or infinite" in found.warnings[0]


def test_a_loss_inside_a_module_with_dict_batches_is_left_untouched():
    torch.manual_seed(0)
    module = (
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double().train()
    )
    data = {"x": torch.randn(40, 5, dtype=torch.float64), "y": torch.randint(3, (40,))}
    loss = ls.BatchLoss(lambda m, batch: nn.functional.cross_entropy(m(batch["x"]), batch["y"]))
    landscape = ls.Landscape(module, loss, data)
    before, random_state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    point = ls.Point(landscape, landscape.initial())
    batched = GradientCovariance(batches=6, batch_size=10).measure(point, torch.Generator().manual_seed(1))
    single = GradientCovariance(batches=40, per_example=True).measure(point, torch.Generator())
    assert module.training
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

    quiet = copy.deepcopy(module).eval()
    batches = drawn(torch.Generator().manual_seed(1), 40, 10, 6)
    expected = dense_eigenvalues(gradients_one_by_one(quiet, data["x"], data["y"], batches), centred=True)
    np.testing.assert_allclose(batched.arrays["covariance_eigenvalues"], expected[:5], rtol=1e-8)
    expected = dense_eigenvalues(
        gradients_one_by_one(quiet, data["x"], data["y"], torch.arange(40)[:, None]), centred=True
    )
    np.testing.assert_allclose(single.arrays["covariance_eigenvalues"], expected[:39], atol=1e-10)


class Jittered(torch.utils.data.Dataset):
    """Random augmentation from the global generator."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((3,), float(index)) + torch.randn(3), index % 2


def test_random_augmentation_is_drawn_from_the_measurements_own_generator():
    landscape = ls.Landscape(nn.Linear(3, 2), "cross_entropy", Jittered())
    point = ls.Point(landscape, landscape.initial())
    probe = GradientCovariance(batches=3, batch_size=5)
    state = torch.get_rng_state()
    first = probe.measure(point, torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(10)
    second = probe.measure(point, torch.Generator().manual_seed(0))
    assert first.scalars == second.scalars
    assert fixed(Jittered()).examples == 20


@pytest.mark.parametrize(
    "probe", [GradientCovariance(batches=3), GradientCovariance(batches=4, per_example=True)]
)
def test_the_probe_keeps_the_rules(probe):
    check_component(probe)
    check_probe(probe)


def test_data_with_too_few_examples_is_refused_with_both_numbers():
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    with pytest.raises(ConfigurationError, match=r"batch_size=41.*has 40; give batch_size=40 or less"):
        point.measure("GradientCovariance", batch_size=41)
    with pytest.raises(ConfigurationError, match=r"batches=50.*has 40; give batches=40 or less"):
        point.measure("GradientCovariance", batches=50, per_example=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 1}, "2 batches or more"),
        ({"batches": 0, "centred": False}, "batches=0 .*at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"k": -1}, "at least 0"),
        ({"centred": "no"}, "centred='no' is not possible; give True or False"),
        ({"per_example": 1}, "per_example=1"),
        ({"vectors": "yes"}, "vectors='yes'"),
    ],
)
def test_impossible_configurations_are_refused_with_the_cure(options, message):
    with pytest.raises(ConfigurationError, match=message):
        GradientCovariance(**options)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eigenvectors_are_those_of_the_dense_covariance(centred, per_example, dtype):
    _, _, _, landscape = network(dtype)
    point = ls.Point(landscape, landscape.initial())
    probe = GradientCovariance(
        batches=12, batch_size=5, k=15, centred=centred, per_example=per_example, vectors=True
    )
    found = point.measure(probe)
    rank = 12 - centred
    values, vectors = found.arrays["covariance_eigenvalues"], found.carry["eigenvectors"].double()
    assert vectors.shape == (15, landscape.size)
    rounding = 1e-10 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(
        vectors[:rank] @ vectors[:rank].T, torch.eye(rank, dtype=torch.float64), rtol=0, atol=rounding
    )
    assert not vectors[rank:].any()
    # All of the covariance is in them: its trace, and its products.
    assert values.sum() == pytest.approx(found.scalars["covariance_trace"])
    assert found.scalars["covariance_stable_rank"] == pytest.approx(values.sum() / values[0])


@pytest.mark.parametrize("centred", [True, False])
def test_layer_by_layer_and_stacked_gradients_give_the_same_eigenvalues(centred):
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    options = {"batches": 20, "batch_size": 7, "per_example": True, "centred": centred}
    probe = GradientCovariance(**options)
    generator = torch.Generator().manual_seed(3)
    one = probe.measure(point, generator)
    generator.manual_seed(3)
    other = GradientCovariance(vectors=True, **options).measure(point, generator)
    np.testing.assert_allclose(
        one.arrays["covariance_eigenvalues"], other.arrays["covariance_eigenvalues"], rtol=1e-9, atol=1e-15
    )
    draws = probe._draws(landscape, generator)
    assert probe._layer_wise(landscape, point.theta, draws, torch.ones(20).double()) is not None


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-11), (torch.float32, 1e-3)])
def test_eigenvectors_combined_by_backward_passes_are_those_of_stacked_gradients(
    centred, dtype, close, monkeypatch
):
    net, x, y, _ = network(dtype)
    penalty = (lambda t: (t**2).sum()) if centred else None
    landscape = ls.Landscape(net, "cross_entropy", (x, y), penalty=penalty)
    point = ls.Point(landscape, landscape.initial())
    probe = GradientCovariance(batches=24, batch_size=7, k=3, per_example=True, centred=centred, vectors=True)
    with monkeypatch.context() as patched:
        patched.setattr(GradientCovariance, "_layer_wise", lambda *_: None)
        stacked = probe.measure(point, torch.Generator().manual_seed(2)).carry["eigenvectors"]

    def refuse(*_):
        raise AssertionError("gradients were stacked")

    with monkeypatch.context() as patched:
        patched.setattr(Gradients, "products", refuse)
        combined = probe.measure(point, torch.Generator().manual_seed(2)).carry["eigenvectors"]
    assert combined.dtype == stacked.dtype == dtype
    # Up to their signs.
    overlaps = (combined.double() @ stacked.double().T).numpy()
    np.testing.assert_allclose(np.abs(overlaps), np.eye(3), atol=close)


def test_eigenvectors_of_small_eigenvalues_are_taken_from_stacked_gradients():
    # One pixel that no example shows much of: its direction has an eigenvalue 1e-10 of the largest.
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1:] *= 1e-5
    landscape = ls.Landscape(torch.nn.Linear(3, 1, bias=False), "mse", (x, torch.ones(40, 1)))
    point = ls.Point(landscape, torch.zeros(3))
    vectors = point.measure("GradientCovariance", batches=40, per_example=True, k=3, vectors=True).carry
    rows = landscape.example_gradients(point.theta, (x, torch.ones(40, 1))).double()
    _, expected = torch.linalg.eigh(torch.cov(rows.T))
    overlaps = vectors["eigenvectors"].double() @ expected.flip(1)
    torch.testing.assert_close(overlaps.abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-3)


def test_a_penalty_is_in_the_second_moment_of_examples():
    net, x, y, _ = network()
    landscape = ls.Landscape(net, "cross_entropy", (x, y), penalty=lambda t: (t**2).sum())
    theta = landscape.initial()
    found = ls.Point(landscape, theta).measure(
        GradientCovariance(batches=len(x), per_example=True, centred=False)
    )
    rows = landscape.example_gradients(theta, (x, y))
    assert found.scalars["covariance_trace"] == pytest.approx(float((rows**2).sum()) / len(x))


# -- identities of Gram matrices (Dangel, Tatzel & Hennig 2022) -----------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("per_example", [True, False])
def test_eigenpairs_solve_the_eigenvalue_problem_of_the_dense_covariance(centred, per_example):
    net, x, y, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    probe = GradientCovariance(
        batches=8, batch_size=6, k=8, centred=centred, per_example=per_example, vectors=True
    )
    found = probe.measure(point, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    one_by_one = torch.randperm(40, generator=generator)[:8][:, None] if per_example else None
    batches = drawn(generator, 40, 6, 8) if one_by_one is None else one_by_one
    rows = gradients_one_by_one(net, x, y, batches)
    rows = rows - rows.mean(axis=0) if centred else rows
    values = found.arrays["covariance_eigenvalues"]
    vectors = found.carry["eigenvectors"].numpy()[: len(values)]
    np.testing.assert_allclose(vectors @ rows.T @ rows / 8, values[:, None] * vectors, atol=1e-12 * values[0])
    # Along an eigenvector the gradients have its eigenvalue as mean square, and along two of them no correlation.
    along = rows @ vectors.T
    np.testing.assert_allclose(along.T @ along / 8, np.diag(values), atol=1e-12 * values[0])
    if centred:
        np.testing.assert_allclose(along.mean(axis=0), 0, atol=1e-12)


def test_centring_takes_the_mean_gradient_out_and_nothing_else():
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    about_mean, about_zero = (
        point.measure("GradientCovariance", batches=40, per_example=True, centred=centred)
        for centred in (True, False)
    )
    gradient = point.gradient()
    lost = about_zero.scalars["covariance_trace"] - about_mean.scalars["covariance_trace"]
    assert lost == pytest.approx(float(gradient @ gradient), rel=1e-10)


def test_the_traces_of_the_layers_add_up_to_that_of_the_network():
    _, _, _, landscape = network()
    options = {"batches": 40, "per_example": True}
    whole = ls.Point(landscape, landscape.initial()).measure("GradientCovariance", **options)
    parts = [landscape.restrict(f"{layer}.*") for layer in (0, 2)]
    traces = [
        ls.Point(part, part.initial()).measure("GradientCovariance", **options).scalars["covariance_trace"]
        for part in parts
    ]
    assert sum(traces) == pytest.approx(whole.scalars["covariance_trace"], rel=1e-10)


def test_eigenvalues_agree_with_the_covariance_operator():
    _, _, _, landscape = network()
    point = ls.Point(landscape, landscape.initial())
    dense = torch.linalg.eigvalsh(point.curvature("covariance").dense()).flip(0)
    found = point.measure("GradientCovariance", batches=40, per_example=True)
    np.testing.assert_allclose(
        found.arrays["covariance_eigenvalues"], dense[:39], atol=1e-12 * float(dense[0])
    )
