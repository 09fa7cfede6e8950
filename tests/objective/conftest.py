"""Modules, data and dense references that the tests of the objective share."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape.objective import Landscape


class TanhNet(nn.Module):
    """A perceptron with dense Hessian, few enough weights for a dense reference."""

    def __init__(self, inputs: int = 3, hidden: int = 4, outputs: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.fixture
def net() -> TanhNet:
    torch.manual_seed(1)
    return TanhNet().double()


@pytest.fixture
def classes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(23, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (23,), generator=generator)


@pytest.fixture
def values() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(23, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(23, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def reference() -> Callable[..., Callable[[Tensor], Tensor]]:
    """Return theta -> loss on all of the data at once, through ``torch.func.functional_call``."""

    def make(landscape: Landscape, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor):
        def function(theta: Tensor) -> Tensor:
            weights = landscape.layout.split(theta)
            return loss(torch.func.functional_call(landscape.module, weights, (x,)), y)

        return function

    return make


@pytest.fixture
def snapshot() -> Callable[..., tuple[object, ...]]:
    """Return all that an evaluation may not change: flags, weights, gradients, buffers, random states."""

    def take(module: nn.Module) -> tuple[object, ...]:
        numpy_state = np.random.get_state()
        return (
            [(name, m.training) for name, m in module.named_modules()],
            [(name, id(p), p.detach().numpy().tobytes()) for name, p in module.named_parameters()],
            [
                (name, None if p.grad is None else p.grad.numpy().tobytes())
                for name, p in module.named_parameters()
            ],
            [(name, id(b), b.numpy().tobytes()) for name, b in module.named_buffers()],
            [sorted(m.__dict__) for m in module.modules()],
            random.getstate(),
            (numpy_state[1].tobytes(), numpy_state[2:]),
            torch.get_rng_state().numpy().tobytes(),
        )

    return take
