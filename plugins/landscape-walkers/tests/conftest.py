"""Landscapes whose paths are known."""

import pytest
import torch
from torch import nn

import landscape as ls


class Bowl(nn.Module):
    """theta - x, so that a quadratic loss of the output is a quadratic landscape around the mean of x."""

    def __init__(self, size):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))

    def forward(self, x):
        return self.theta - x


@pytest.fixture(scope="session")
def make_bowl():
    """Return a maker of landscapes with gradient H (theta - mean of the batch's x)."""

    def make(hessian, x, dtype=torch.float64):
        hessian = torch.as_tensor(hessian, dtype=dtype)
        x = torch.as_tensor(x, dtype=dtype)

        def loss(output, target):
            return 0.5 * ((output @ hessian) * output).sum(1).mean()

        return ls.Landscape(Bowl(len(hessian)), loss, (x, torch.zeros(len(x), dtype=dtype)), dtype=dtype)

    return make


@pytest.fixture
def bowl(make_bowl):
    """The same, for tests without hypothesis, whose health check wants fixtures of the session."""
    return make_bowl


@pytest.fixture
def classifier():
    """Return a maker of small networks on random class data."""

    def make(dtype=torch.float32, examples=60, hidden=16):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(examples, 12, generator=generator)
        y = torch.randint(4, (examples,), generator=generator)
        module = ls.models.MLP(hidden=(hidden,), outputs=4).build((x, y), generator)
        return ls.Landscape(module, "cross_entropy", (x, y), dtype=dtype)

    return make


@pytest.fixture
def generator():
    """Return a maker of generators."""
    return lambda seed=0: torch.Generator().manual_seed(seed)
