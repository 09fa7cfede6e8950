"""What theory says of paths on quadratics and of networks, and nobody has to measure.

Most landscapes of these tests are one quadratic in many copies that do not know of each other, so that the mean
over the coordinates of one walk is a mean over thousands of walks. With mini-batches of one example and fewer
steps than examples, the noise of the gradients is independent from step to step: the examples are.
"""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape_walkers.langevin import SGLD
from landscape_walkers.sgd import GD, SGD

COPIES = 20_000
# Relative standard error of the variance of so many normal numbers.
ERROR = (2 / COPIES) ** 0.5


def noisy(many, h, examples):
    """A quadratic with curvature h whose gradients of single examples have the variance h^2."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(examples, COPIES, generator=generator, dtype=torch.float64)
    return many(COPIES, h, x)


def second_moment(state):
    return float(state.positions.square().mean())


@pytest.mark.parametrize(("h", "lr"), [(1.0, 0.1), (1.0, 0.8), (2.0, 0.7)])
def test_sgd_fluctuates_about_a_minimum_with_the_variance_of_the_noisy_quadratic(many, walked, h, lr):
    steps = 60
    landscape = noisy(many, h, steps)
    state = walked(SGD(lr, 1), landscape, torch.zeros(1, COPIES), steps)
    variance = lr * h**2 / (h * (2 - lr * h))
    variance *= 1 - (1 - lr * h) ** (2 * steps)  # what it has of it after so many steps
    assert second_moment(state) == pytest.approx(variance, rel=4 * ERROR)
    # The loss above the minimum, in the mean over data that the walk has not seen, is eta C/(2 (2 - eta h)).
    rise = float(many(COPIES, h).value(state.positions[0])) / COPIES
    assert rise == pytest.approx(h / 2 * variance, rel=4 * ERROR)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.5}, {"momentum": 0.8}, {"momentum": 0.8, "dampening": 0.8}], ids=str
)
def test_momentum_multiplies_the_variance_as_theory_says(many, walked, options):
    h, lr, steps = 1.0, 0.3, 80
    landscape = noisy(many, h, steps)
    state = walked(SGD(lr, 1, **options), landscape, torch.zeros(1, COPIES), steps)
    b = options["momentum"]
    # Torch7's dampening is a smaller step in disguise.
    eta = lr * (1 - options.get("dampening", 0.0))
    variance = eta * h**2 * (1 + b) / (h * (1 - b) * (2 * (1 + b) - eta * h))
    assert second_moment(state) == pytest.approx(variance, rel=4 * ERROR)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_limit_of_stability_is_where_theory_puts_it(walked, bowl, momentum):
    # Curvatures a little below, at and above the limit. There one eigenvalue is -1: the weight changes its sign
    # for ever, and neither grows nor shrinks once the other eigenvalue, minus the momentum, has died out.
    lr = 0.5
    limit = 2 * (1 + momentum) / lr
    landscape = bowl(np.diag([limit * 0.99, limit, limit * 1.01]), np.zeros((1, 3)))
    walker = GD(lr, momentum=momentum)
    early = walked(walker, landscape, torch.ones(1, 3), 300)
    late = early
    for _ in range(300):
        late = walker.step(landscape, late)
    growth = (late.positions / early.positions)[0].abs()
    assert growth[0] < 0.9
    assert float(growth[1]) == pytest.approx(1, rel=1e-11)
    assert growth[2] > 1.1


@pytest.mark.parametrize(
    ("nbeta", "h", "gamma", "decay", "lr"),
    [(4.0, 0.5, 0.0, 0.0, 0.1), (4.0, 0.5, 0.0, 0.0, 1.0), (3.0, 1.0, 2.0, 0.5, 0.4)],
)
def test_sgld_has_the_variance_of_its_step_size_and_the_learning_coefficient_of_a_regular_model(
    many, walked, nbeta, h, gamma, decay, lr
):
    k = nbeta * h + gamma + decay
    landscape = many(COPIES, h)
    start = 0.7
    walker = SGLD(lr, nbeta=nbeta, localization=gamma, weight_decay=decay)
    steps = 60
    state = walked(walker, landscape, torch.full((1, COPIES), start), steps)
    variance = 1 / (k * (1 - lr * k / 4))
    # The spring to the start, and how much of the start is left.
    mean = gamma * start / k + (1 - lr * k / 2) ** steps * (start - gamma * start / k)
    variance *= 1 - (1 - lr * k / 2) ** (2 * steps)
    assert float(state.positions.mean()) == pytest.approx(mean, abs=4 * (variance / COPIES) ** 0.5)
    assert float(state.positions.var()) == pytest.approx(variance, rel=4 * ERROR)
    coefficient = nbeta * float(landscape.value(state.positions[0])) / COPIES
    expected = nbeta * h / 2 * (variance + mean**2)
    assert coefficient == pytest.approx(expected, rel=4 * ERROR + 4 * mean / variance**0.5 * ERROR)


# -- the edge of stability ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tanh_fit():
    """A network of 32 tanh units that fits sixty digits, centred, by least squares: fixed as the edge needs it."""
    digits = ls.datasets.Digits(centre=True).load(torch.Generator().manual_seed(0))["train"]
    x, y = (part[:60] for part in digits.everything())
    x, y = x.flatten(1).double(), torch.nn.functional.one_hot(y, 10).double()
    module = ls.models.MLP(hidden=(32,)).build((x, y), torch.Generator().manual_seed(0))
    return ls.Landscape(module.double(), "mse", (x, y), dtype=torch.float64)


def sharpness(landscape, theta, along=None):
    """Return the largest eigenvalue of the Hessian and its eigenvector, by power iteration from `along`."""
    hessian = landscape.hessian(theta)
    vector = torch.ones(landscape.size, dtype=torch.float64) if along is None else along
    for _ in range(40):
        vector = hessian.matvec(vector)
        vector = vector / vector.norm()
    return float(vector @ hessian.matvec(vector)), vector


@pytest.mark.parametrize(("lr", "arrival"), [(2.0, 1400), (3.0, 600)])
def test_full_batch_descent_drives_the_sharpness_to_two_over_the_step_size_and_keeps_it_there(
    tanh_fit, lr, arrival
):
    # Cohen et al. 2021: the curvature rises until steps are barely stable, and then hovers about 2 / lr.
    walk = ls.Walk(tanh_fit, GD(lr))
    largest, vector = sharpness(tanh_fit, walk.positions[0])
    assert largest * lr / 2 < 0.6
    before = float(tanh_fit.value(walk.positions[0]))
    shares, losses = [], []
    for population in walk.steps(arrival + 1000):
        if population.step >= arrival and population.step % 100 == 0:
            largest, vector = sharpness(tanh_fit, walk.positions[0], vector)
            shares.append(largest * lr / 2)
            losses.append(float(tanh_fit.value(walk.positions[0])))
    assert float(np.median(shares)) == pytest.approx(1, abs=0.04)
    assert 0.85 < min(shares) <= max(shares) < 1.2
    # Unstable as the steps are, the loss goes on falling.
    assert losses[-1] < losses[0] < 0.05 * before


def test_with_small_steps_descent_stays_far_from_the_edge(tanh_fit):
    walk = ls.Walk(tanh_fit, GD(0.3))
    for _ in range(600):
        walk.advance()
    assert sharpness(tanh_fit, walk.positions[0])[0] * 0.3 / 2 < 0.2


# -- symmetries of ReLU networks ----------------------------------------------------------------------------


@pytest.fixture
def relu():
    """A ReLU network on random classes, at weights that are nowhere special."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (30,), generator=generator)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 7), torch.nn.ReLU(), torch.nn.Linear(7, 4)
    ).double()
    theta = 0.5 * torch.randn(
        sum(p.numel() for p in module.parameters()), generator=generator, dtype=torch.float64
    )
    return ls.Landscape(module, "cross_entropy", (x, y)), theta


def layers(landscape, vector):
    """Return [(weights, biases), ...] of the layers."""
    parts = list(landscape.layout.split(vector).values())
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_each_relu_unit_balances_what_comes_in_with_what_goes_out(relu):
    # Scaling a unit's inputs and bias by c and its outputs by 1/c changes nothing: one identity per unit.
    landscape, theta = relu
    weights, gradients = layers(landscape, theta), layers(landscape, landscape.gradient(theta))
    for (w, b), (g, gb), (out, _), (gout, _) in zip(
        weights[:-1], gradients[:-1], weights[1:], gradients[1:], strict=True
    ):
        incoming = (w * g).sum(1) + b * gb
        torch.testing.assert_close(incoming, (out * gout).sum(0), rtol=0, atol=1e-14)
        assert incoming.abs().max() > 1e-3


def test_gradients_of_the_last_layer_sum_to_zero_over_the_classes(relu):
    # Adding the same to all logits changes no probability.
    landscape, theta = relu
    weights, biases = layers(landscape, landscape.gradient(theta))[-1]
    torch.testing.assert_close(weights.sum(0), torch.zeros(7, dtype=torch.float64), rtol=0, atol=1e-15)
    assert abs(float(biases.sum())) < 1e-15


def test_gradient_descent_changes_the_balance_of_a_relu_unit_in_second_order_only(relu, walked):
    # q = |w_in|^2 + b^2 - |w_out|^2 is conserved by gradient flow; a step eta adds
    # eta^2 (|g_in|^2 + g_b^2 - |g_out|^2), exactly.
    landscape, theta = relu
    lr = 0.3
    after = layers(landscape, walked(GD(lr), landscape, theta[None], 1).positions[0])
    before, gradient = layers(landscape, theta), layers(landscape, landscape.gradient(theta))

    def balance(of, layer):
        (w, b), (out, _) = of[layer], of[layer + 1]
        return w.square().sum(1) + b.square() - out.square().sum(0)

    for layer in range(2):
        change = balance(after, layer) - balance(before, layer)
        torch.testing.assert_close(change, lr**2 * balance(gradient, layer), rtol=0, atol=1e-13)
        assert change.abs().max() > 1e-5
