"""Modules that compute the losses of their examples themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

__all__ = ["SURFACES", "Quadratic", "Surface"]


class Quadratic(nn.Module):
    """(theta - m)^T H (theta - m) / 2 + noise^T (theta - m), for each example.

    Parameters
    ----------
    start
        The weights, shape (P,).
    hessian
        H, shape (P, P), or its diagonal, shape (P,).
    minimum
        m, shape (P,).
    """

    hessian: Tensor
    minimum: Tensor

    def __init__(self, start: Tensor, hessian: Tensor, minimum: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(start.clone())
        self.register_buffer("hessian", hessian)
        self.register_buffer("minimum", minimum)

    def forward(self, noise: Tensor) -> Tensor:  # (B, P) -> (B,)
        """Return the losses of the examples."""
        away = self.theta - self.minimum
        slope = self.hessian * away if self.hessian.ndim == 1 else self.hessian @ away
        return torch.dot(away, slope) / 2 + noise @ away


def _rosenbrock(a: Tensor, b: Tensor) -> Tensor:
    return (1 - a) ** 2 + 100 * (b - a**2) ** 2


def _himmelblau(a: Tensor, b: Tensor) -> Tensor:
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def _beale(a: Tensor, b: Tensor) -> Tensor:
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def _saddle(a: Tensor, b: Tensor) -> Tensor:
    return (a**2 - b**2) / 2


def _monkey_saddle(a: Tensor, b: Tensor) -> Tensor:
    return a**3 - 3 * a * b**2


def _double_well(a: Tensor, b: Tensor) -> Tensor:
    return (a**2 - 1) ** 2 / 4 + b**2 / 2


def _six_hump_camel(a: Tensor, b: Tensor) -> Tensor:
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


def _rastrigin(a: Tensor, b: Tensor) -> Tensor:
    waves = torch.cos(2 * math.pi * a) + torch.cos(2 * math.pi * b)
    return 20 + a**2 + b**2 - 10 * waves


#: Functions of the plane by name.
SURFACES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "beale": _beale,
        "double_well": _double_well,
        "himmelblau": _himmelblau,
        "monkey_saddle": _monkey_saddle,
        "rastrigin": _rastrigin,
        "rosenbrock": _rosenbrock,
        "saddle": _saddle,
        "six_hump_camel": _six_hump_camel,
    }
)


class Surface(nn.Module):
    """f(a, b) + noise^T (a, b), for each example.

    Parameters
    ----------
    start
        The weights a and b, shape (2,).
    function
        Name of f.
    """

    def __init__(self, start: Tensor, function: str) -> None:
        super().__init__()
        self.theta = nn.Parameter(start.clone())
        self.function = function

    def forward(self, noise: Tensor) -> Tensor:  # (B, 2) -> (B,)
        """Return the losses of the examples."""
        a, b = self.theta.unbind()
        return SURFACES[self.function](a, b) + noise @ self.theta
