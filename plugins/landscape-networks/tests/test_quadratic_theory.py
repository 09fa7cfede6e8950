"""Moments of SGD on quadratics: against formulas, brute-force sums over all noise, and the walkers themselves."""

import itertools
import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_networks.quadratic_theory import QuadraticTheory

rng = np.random.default_rng(0)
Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
H = Q @ np.diag([2.0, 0.7, 0.1]) @ Q.T
H = (H + H.T) / 2
ROOT = rng.standard_normal((3, 3))
C = ROOT @ ROOT.T
START = np.array([1.0, -2.0, 0.5])
WALKERS = [
    {"momentum": 0.0},
    {"momentum": 0.6},
    {"momentum": 0.6, "dampening": 0.4},
    {"momentum": 0.6, "nesterov": True},
    {"momentum": 0.3, "weight_decay": 0.2},
]


def torch_sgd(gradient_noise, lr, start, minimum, **options):
    """Return the path of torch's own SGD for a given sequence of noise, about the minimum."""
    theta = torch.nn.Parameter(torch.tensor(start + minimum))
    optimiser = torch.optim.SGD([theta], lr=lr, **options)
    h = torch.tensor(H)
    path = [start]
    for noise in gradient_noise:
        theta.grad = h @ (theta.detach() - torch.tensor(minimum)) + torch.tensor(noise)
        optimiser.step()
        path.append(theta.detach().numpy() - minimum)
    return np.array(path)


@pytest.mark.parametrize("options", WALKERS, ids=str)
def test_reshuffled_moments_are_those_of_all_permutations(options):
    # Four examples in batches of three and one: 24 permutations per epoch, two epochs, all 576 of them.
    xi = np.array([[1.0, 0, 0.5], [-1, 2, 0], [0.3, -1, -1], [-0.3, -1, 0.5]])
    xi -= xi.mean(axis=0)
    minimum = np.array([0.5, 1.0, -1.0])
    orders = list(itertools.permutations(range(4)))
    ends = []
    for first, second in itertools.product(orders, orders):
        noise = [xi[list(part)].mean(axis=0) for order in (first, second) for part in (order[:3], order[3:])]
        ends.append(torch_sgd(noise, 0.4, START, minimum, **options))
    paths = np.array(ends)
    theory = QuadraticTheory(H, xi.T @ xi / 4, lr=0.4, batch_size=3, examples=4, minimum=minimum, **options)
    for t, found in enumerate(theory.moments(START, 4)):
        np.testing.assert_allclose(found.mean, paths[:, t].mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.second, paths[:, t].T @ paths[:, t] / len(paths), atol=1e-12)


@pytest.mark.parametrize("options", WALKERS, ids=str)
def test_independent_moments_are_those_of_all_signs(options):
    # Noise of two signs along each of two directions, with replacement: all 4 ** 3 sequences.
    xi = np.array([[1.0, 0.5, 0], [-1, -0.5, 0], [0, 1, 2], [0, -1, -2]])
    paths = np.array(
        [torch_sgd(noise, 0.3, START, np.zeros(3), **options) for noise in itertools.product(xi, repeat=3)]
    )
    theory = QuadraticTheory(H, xi.T @ xi / 4, lr=0.3, batch_size=1, examples=4, **options)
    for t, found in enumerate(theory.moments(START, 3, draws="independent")):
        np.testing.assert_allclose(found.mean, paths[:, t].mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.second, paths[:, t].T @ paths[:, t] / len(paths), atol=1e-12)


def test_infinitely_many_examples_make_both_kinds_of_draws_the_same():
    theory = QuadraticTheory(H, C, lr=0.4, batch_size=3, examples=None, momentum=0.5)
    for one, other in zip(
        theory.moments(START, 9), theory.moments(START, 9, draws="independent"), strict=True
    ):
        np.testing.assert_array_equal(one.second, other.second)


@pytest.mark.parametrize("draws", ["reshuffled", "independent"])
@pytest.mark.parametrize("options", WALKERS, ids=str)
def test_the_stationary_state_is_where_many_steps_lead(options, draws):
    theory = QuadraticTheory(H, C, lr=0.5, batch_size=3, examples=10, minimum=np.ones(3), **options)
    period = 4
    tail = theory.moments(START, 4000 * period, draws=draws)[-period:]
    found = theory.stationary(draws)
    np.testing.assert_allclose(found.mean, np.mean([m.mean for m in tail], axis=0), atol=1e-9)
    np.testing.assert_allclose(found.second, np.mean([m.second for m in tail], axis=0), rtol=1e-8, atol=1e-10)


def test_the_stationary_variances_of_one_dimension_are_the_known_formulas():
    h, c, eta, mu, b = 1.5, 0.8, 0.3, 0.7, 4
    one = QuadraticTheory([[h]], [[c]], lr=eta, batch_size=b)
    assert one.stationary("independent").second[0, 0] == pytest.approx(
        eta * c / b / (h * (2 - eta * h)), rel=1e-12
    )
    two = QuadraticTheory([[h]], [[c]], lr=eta, batch_size=b, momentum=mu)
    expected = eta * c / b * (1 + mu) / (h * (1 - mu) * (2 * (1 + mu) - eta * h))
    assert two.stationary("independent").second[0, 0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", WALKERS[:3], ids=str)
def test_small_steps_approach_their_formula(options):
    for lr, tolerance in ((1e-2, 0.05), (1e-4, 5e-4)):
        theory = QuadraticTheory(H, C, lr=lr, batch_size=2, **options)
        exact = theory.stationary("independent").covariance
        np.testing.assert_allclose(
            theory.small_step_covariance(), exact, rtol=tolerance, atol=tolerance * exact.max()
        )
    isotropic = QuadraticTheory(H, H, lr=0.1, batch_size=5)
    np.testing.assert_allclose(isotropic.small_step_covariance(), 0.1 / 10 * np.eye(3), atol=1e-15)


@pytest.mark.parametrize("options", WALKERS, ids=str)
def test_the_edge_is_where_the_spectral_radius_is_one(options):
    theory = QuadraticTheory(H, C, lr=1.0, **options)
    assert theory.at(theory.edge).rate == pytest.approx(1, abs=1e-7)
    assert theory.at(0.999 * theory.edge).rate < 1 < theory.at(1.001 * theory.edge).rate


def test_the_best_rate_is_better_than_its_neighbours_and_known_without_noise():
    theory = QuadraticTheory(H, 0.05 * C, lr=1.0, batch_size=4, examples=32)
    rate, loss = theory.best_lr(START, 30)
    assert loss == pytest.approx(theory.at(rate).loss_after(START, 30))
    for factor in (0.5, 0.98, 1.02, 1.5):
        assert theory.at(factor * rate).loss_after(START, 30) >= loss
    # One dimension without noise: one step of 1/h is exact.
    assert QuadraticTheory([[2.0]], [[0.0]], lr=1.0).best_lr(np.ones(1), 1)[0] == pytest.approx(0.5, rel=1e-4)


def test_noise_scales_are_those_of_their_formulas():
    theory = QuadraticTheory(H, C, lr=0.1)
    g = H @ START
    assert theory.noise_scale(START) == pytest.approx(np.trace(C) / (g @ g))
    assert theory.curved_noise_scale(START) == pytest.approx(np.trace(H @ C) / (g @ H @ g))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.8}, {"momentum": 0.5, "nesterov": True}], ids=str)
def test_walkers_have_the_moments_within_their_standard_errors(options):
    workers, steps = 600, 40
    noise = ls.datasets.GradientNoise(covariance=tuple(map(tuple, (C + C.T) / 2)), examples=24)
    experiment = ls.Experiment(
        ls.models.NoisyQuadratic(hessian=tuple(map(tuple, H))), noise,
        ls.walkers.SGD(lr=0.3, batch_size=5, workers=workers, **options), loss="model", dtype="float64", seed=1,
    )  # fmt: skip
    walk = experiment.walk()
    start = walk.positions[0].numpy().copy()
    for _ in range(steps):
        walk.advance()
    found = walk.positions.numpy()
    expected = QuadraticTheory(H, C, lr=0.3, batch_size=5, examples=24, **options).moments(start, steps)[-1]
    error = found.std(axis=0, ddof=1) / math.sqrt(workers)
    assert (abs(found.mean(axis=0) - expected.mean) < 4 * error).all()
    products = found[:, :, None] * found[:, None, :]
    error = products.std(axis=0, ddof=1) / math.sqrt(workers)
    assert (abs(products.mean(axis=0) - expected.second) < 4 * error).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hessian": [[1.0, 0.0]]}, "hessian has the shape"),
        ({"hessian": [[1.0, 1.0], [0.0, 1.0]]}, "hessian is not symmetric"),
        ({"covariance": np.eye(2)}, "covariance is for 2 dimensions, the Hessian for 3"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"examples": 0}, "examples=0"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        QuadraticTheory(**({"hessian": H, "covariance": C, "lr": 0.1} | changes))


def test_what_does_not_exist_is_refused_with_the_reason():
    with pytest.raises(ConfigurationError, match=r"not stable \(spectral radius"):
        QuadraticTheory(H, C, lr=1.01).stationary()
    with pytest.raises(ConfigurationError, match="a curvature is not positive"):
        QuadraticTheory(-H, C, lr=0.1).small_step_covariance()
    with pytest.raises(ConfigurationError, match="no best learning rate"):
        QuadraticTheory(-H, C, lr=0.1).best_lr(START, 3)
    with pytest.raises(ConfigurationError, match="draws='sometimes'"):
        QuadraticTheory(H, C, lr=0.1).moments(START, 1, draws="sometimes")
