"""What operators conclude from a look at a point or a batch must hold at all others: dense autograd is the judge."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape.errors import ConfigurationError
from landscape.objective import Landscape, curvature
from landscape.objective.curvature import CurvatureOperator


def exact_hessian(landscape, mean_loss):
    """Return the Hessian at the initial weights of a function of the module's parameters."""

    def function(theta):
        return mean_loss(
            lambda x: torch.func.functional_call(landscape.module, landscape.layout.split(theta), (x,))
        )

    return torch.autograd.functional.hessian(function, landscape.initial())


def network(*widths):
    torch.manual_seed(1)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_losses_of_pairs_are_no_sums_over_examples(distance):
    """A loss may be invariant under signs that alternate, and mix examples all the same."""

    def pairs(output, target):
        return (output[:-distance] - output[distance:]).square().mean() + 0 * target.sum()

    torch.manual_seed(0)
    x, y = torch.randn(8, 3).double(), torch.zeros(8).double()
    landscape = Landscape(network(3, 8, 2), pairs, (x, y))
    operator = landscape.hessian(landscape.initial())
    exact = exact_hessian(landscape, lambda f: pairs(f(x), y))
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("normalised", [False, True])
def test_products_leave_vectors_of_biases_as_they_are(normalised):
    """Batches of one example have nothing to repeat a bias for."""
    torch.manual_seed(0)
    second = nn.BatchNorm1d(6).double().eval() if normalised else nn.Identity()
    module = nn.Sequential(nn.Linear(3, 6), second, nn.ReLU(), nn.Linear(6, 2)).double()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    singles = [(x[i : i + 1], y[i : i + 1]) for i in range(5)]
    landscape = Landscape(module, "mse", singles).restrict("*.bias")
    operator = landscape.hessian(landscape.initial())
    vectors = torch.randn(landscape.size, 3).double()
    before = vectors.clone()
    found = torch.stack([operator.matvec(vectors[:, k]) for k in range(3)], dim=1)
    together = operator.matmat(vectors)
    assert torch.equal(vectors, before)
    exact = torch.autograd.functional.hessian(
        lambda theta: landscape_loss(landscape, theta, x, y), landscape.initial()
    )
    torch.testing.assert_close(found, exact @ before, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(together, exact @ before, rtol=1e-10, atol=1e-13)


def landscape_loss(landscape, theta, x, y):
    return F.mse_loss(torch.func.functional_call(landscape.module, landscape.layout.split(theta), (x,)), y)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Hardswish()], ids=["written out", "graph"])
def test_every_batch_shows_whether_it_may_be_taken_in_chunks(activation, monkeypatch):
    """A mean over tokens is a mean over examples where nothing is padded, as in the first batch."""

    def token_mean(output, target):
        return F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=0)

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), activation, nn.Linear(6, 5)).double()
    x, y = torch.randn(2, 32, 7, 4).double(), torch.randint(1, 5, (2, 32, 7))
    y[1, :16, 2:] = 0
    landscape = Landscape(module, token_mean, [(x[0], y[0]), (x[1], y[1])])
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", 20_000)
    operator = landscape.hessian(landscape.initial())
    exact = exact_hessian(landscape, lambda f: (token_mean(f(x[0]), y[0]) + token_mean(f(x[1]), y[1])) / 2)
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(operator.value, landscape.value(landscape.initial()))
    full = Landscape(module, token_mean, [(x[0], y[0]), (x[0], y[0])])
    assert len(full.hessian(full.initial())._kept) > len(operator._kept) == 2


class Probe(nn.Module):
    """A head on features that are not trained."""

    def __init__(self, guard):
        super().__init__()
        self.body, self.head, self.guard = nn.Linear(3, 4), nn.Linear(4, 2), guard
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        if self.guard == "detach":
            return self.head(torch.tanh(self.body(x)).detach())
        with torch.no_grad():
            features = torch.tanh(self.body(x))
        return self.head(features)


@pytest.mark.parametrize("guard", ["no_grad", "detach"])
def test_what_a_module_does_not_differentiate_is_not_differentiated(guard):
    """With a head of zeros nothing can be seen of it in the gradient."""
    torch.manual_seed(0)
    module = Probe(guard).double()
    x, y = torch.randn(50, 3).double(), torch.randn(50, 2).double()
    landscape = Landscape(module, "mse", (x, y))
    landscape.hessian(landscape.initial())
    theta = torch.randn(landscape.size).double()
    found = landscape.hessian(theta).dense()
    assert torch.equal(found, Landscape(module, "mse", (x, y)).hessian(theta).dense())
    body = torch.cat([torch.full((p.numel(),), "body" in name) for name, p in module.named_parameters()])
    assert not found[body].any()
    assert found[~body].any()


@pytest.mark.parametrize("kind", ["fisher", "second_moment", "covariance"])
def test_gradients_of_examples_need_a_loss_that_is_their_mean(kind):
    def spread(output, target):
        return (output - output.mean(dim=0)).square().sum(dim=1).mean() + F.mse_loss(output, target)

    x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    landscape = Landscape(network(3, 4, 2), spread, (x, y))
    with pytest.raises(ConfigurationError, match="needs a loss that is a mean over examples"):
        CurvatureOperator.of(landscape, landscape.initial(), kind)


class Rounded(torch.autograd.Function):
    """Straight through: as if nothing had been rounded."""

    @staticmethod
    def forward(ctx, x):
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Cubed(torch.autograd.Function):
    """Right, and differentiable as often as one likes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [Rounded, Reversed, Cubed])
def test_backward_passes_that_are_no_derivatives_are_spoken_of(function, dtype):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), Applied(function), nn.Linear(5, 2)).to(dtype)
    x, y = torch.randn(40, 3).to(dtype), torch.randn(40, 2).to(dtype)
    landscape = Landscape(module, "mse", (x, y))
    theta = landscape.initial()
    if function is Cubed:
        found = landscape.hessian(theta).dense()
        exact = exact_hessian(landscape, lambda f: F.mse_loss(f(x), y))
        torch.testing.assert_close(found, exact)
        return
    with pytest.warns(UserWarning, match=f"^{function.__name__}: the backward pass .* is not the derivative"):
        landscape.hessian(theta)
    landscape.hessian(theta)  # said once


def test_backward_passes_of_losses_that_are_no_derivatives_are_spoken_of():
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    landscape = Landscape(network(3, 5, 2), lambda z, t: F.mse_loss(Rounded.apply(z), t), (x, y))
    with pytest.warns(UserWarning, match="^Rounded: the backward pass"):
        landscape.hessian(landscape.initial())
