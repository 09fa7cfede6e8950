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
def many():
    """Return a maker of landscapes with gradient h (theta - x of the batch): one quadratic, many times over.

    The coordinates do not know of each other, so that one walk in P dimensions is P walks in one.
    """

    def make(size, h, x=None):
        x = torch.zeros(1, size, dtype=torch.float64) if x is None else x

        def loss(output, target):
            return 0.5 * h * output.square().sum(1).mean()

        return ls.Landscape(Bowl(size), loss, (x, torch.zeros(len(x))), dtype=torch.float64)

    return make


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
def walked():
    """Return a function that makes steps from a start and gives the last state."""

    def walk(walker, landscape, begin, steps, seed=0, **step):
        begin = torch.as_tensor(begin, dtype=landscape.dtype)
        state = walker.start(landscape, begin, torch.Generator().manual_seed(seed))
        for _ in range(steps):
            state = walker.step(landscape, state, **step)
        return state

    return walk


@pytest.fixture
def generator():
    """Return a maker of generators."""
    return lambda seed=0: torch.Generator().manual_seed(seed)
