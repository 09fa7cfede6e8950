"""Matrices of gradients of examples that count differently, against dense ones and drawn batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.objective import CurvatureOperator


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x))).transpose(1, 2)


def weighed(name, n=80, size=None):
    """Return a landscape, its batch, and how much its examples count, shape (n,)."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = (
        torch.randn(n, 4, generator=generator).double(), torch.randint(3, (n,), generator=generator)
    )  # fmt: skip
    loss, counts = nn.CrossEntropyLoss(), torch.ones(n).double()
    if name == "ignored":
        y[torch.arange(n) % 4 != 0] = -100
        counts = (y != -100).double()
    elif name == "classes":
        loss = nn.CrossEntropyLoss(weight=torch.tensor([0.05, 1.0, 6.0]).double())
        counts = loss.weight[y]
    elif name == "tokens":
        net = Tokens().double()
        x, y = (
            torch.randn(n, 6, 4, generator=generator).double(),
            torch.randint(3, (n, 6), generator=generator),
        )
        lengths = torch.randint(1, 7, (n,), generator=generator)
        y[torch.arange(6) >= lengths[:, None]] = -100
        counts = lengths.double()
    data = (x, y) if size is None else list(zip(x.split(size), y.split(size), strict=True))
    return ls.Landscape(net, loss, data), (x, y), counts


def covariance(landscape, batch, counts, theta):
    """Return the covariance of the summands of a batch's gradient, each in units of the mean weight, (P, P)."""
    rows = landscape.example_gradients(theta, batch)
    away = rows - (counts[:, None] * rows).sum(dim=0) / counts.sum()
    away = away * (counts / counts.mean())[:, None]
    return away.T @ away / len(rows)


@pytest.mark.parametrize("memory", [2**31, 0])
@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("name", ["equal", "ignored", "classes", "tokens"])
def test_the_covariance_of_examples_is_the_dense_one(name, size, memory):
    landscape, batch, counts = weighed(name, size=size)
    theta = landscape.initial()
    expected = covariance(landscape, batch, counts, theta)
    operator = CurvatureOperator.of(landscape, theta, "covariance", memory=memory)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-9, atol=1e-13)
    columns = torch.randn(landscape.size, 3, generator=torch.Generator().manual_seed(1)).double()
    forms = (columns * (expected @ columns)).sum(dim=0)
    torch.testing.assert_close(operator.quadratic_forms(columns), forms, rtol=1e-9, atol=1e-13)
    names = landscape.layout.names[:1]
    few = landscape.layout.indices(names)
    torch.testing.assert_close(operator.block(names).dense(), expected[few][:, few], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["equal", "ignored", "classes", "tokens"])
def test_the_covariance_is_that_of_the_gradients_of_drawn_batches(name):
    landscape, (x, y), _ = weighed(name, n=400)
    theta = landscape.initial()
    gradient = landscape.gradient(theta)
    generator = torch.Generator().manual_seed(2)
    size, squares = 64, []
    for _ in range(400):
        chosen = torch.randint(len(x), (size,), generator=generator)
        away = landscape.gradient(theta, (x[chosen], y[chosen])) - gradient
        squares.append(size * away @ away)
    found = torch.stack(squares)
    trace = ls.Point(landscape, theta).curvature("covariance").dense().trace()
    error = found.std() / len(found) ** 0.5
    # What is of higher order in 1/64: a few percent.
    assert abs(found.mean() - trace) < 4 * error + 0.05 * trace
