"""Landscapes about which everything is known, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import ArrayLike
from torch import Tensor, nn

from landscape.objective import Landscape, Point
from landscape.randomness import preserved_random_state

__all__ = ["KnownLandscape", "quadratic", "rosenbrock", "tanh_regression"]


@frozen(eq=False)
class KnownLandscape:
    """A landscape together with the truth about it, which was found without it.

    Attributes
    ----------
    landscape
        The landscape, in float64.
    start
        A point that is not critical, shape (P,).
    minimum
        A critical point, shape (P,); a minimum unless its Hessian says otherwise.
    value_at_minimum
        The loss there.
    """

    landscape: Landscape
    start: Tensor
    minimum: Tensor
    value_at_minimum: float
    _hessian: Callable[[Tensor], Tensor] = field(repr=False)

    def hessian(self, theta: Tensor | None = None) -> Tensor:
        """Return the Hessian at `theta` (at the minimum if left out), dense, shape (P, P)."""
        return self._hessian(self.minimum if theta is None else theta)

    def point(self, theta: Tensor | None = None, *, step: int = 0, seed: int = 0) -> Point:
        """Return a point at `theta`, shape (P,) (the start if left out), that remembers nothing yet."""
        here = self.start if theta is None else theta
        return Point(self.landscape, here.clone(), step=step, initial=self.start.clone(), seed=seed)


def _mean(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean over examples: the modules that go with it compute the loss of each."""
    return output.mean()


class _Quadratic(nn.Module):
    """Loss of each example: (theta - x)^T H (theta - x) / 2."""

    hessian: Tensor

    def __init__(self, start: Tensor, hessian: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(start.clone())
        self.register_buffer("hessian", hessian)

    def forward(self, x: Tensor) -> Tensor:  # (B, P) -> (B,)
        difference = self.theta - x
        energies: Tensor = ((difference @ self.hessian) * difference).sum(dim=1) / 2
        return energies


def quadratic(
    hessian: ArrayLike,
    minimum: ArrayLike | None = None,
    *,
    noise: float = 0.0,
    examples: int = 32,
    seed: int = 0,
) -> KnownLandscape:
    r"""Return a quadratic landscape with the Hessian of your choice.

    The loss of example i is :math:`\frac12 (\theta - x_i)^T H (\theta - x_i)`, where the :math:`x_i` have the
    mean `minimum` and scatter about it, so that mini-batches disagree about the gradient, as in training.
    The gradient on all data is :math:`H(\theta - m)`; the gradients of single examples have the covariance
    :math:`H C H`, C being that of the :math:`x_i`, which are ``landscape.data``.

    Parameters
    ----------
    hessian
        H: a symmetric matrix, shape (P, P), or its diagonal, shape (P,). It need not be positive.
    minimum
        m, shape (P,); ``(1, 1/2, 1/3, ...)`` if left out.
    noise
        Standard deviation of the scatter; 0 makes all examples equal.
    examples
        Number of examples, even: they come in pairs on opposite sides of m, so that their mean is m.
    seed
        Of the scatter.
    """
    matrix = torch.as_tensor(np.asarray(hessian, dtype=np.float64))
    if matrix.ndim == 1:
        matrix = torch.diag(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not torch.equal(matrix, matrix.T):
        raise ValueError(
            f"hessian must be a symmetric matrix or a diagonal; got shape {tuple(matrix.shape)}."
        )
    if examples < 2 or examples % 2:
        raise ValueError(f"examples must be even and at least 2; got {examples}.")
    size = len(matrix)
    if minimum is None:
        centre = 1 / torch.arange(1, size + 1, dtype=torch.float64)
    else:
        centre = torch.as_tensor(np.asarray(minimum, dtype=np.float64))
    generator = torch.Generator().manual_seed(seed)
    scatter = noise * torch.randn(examples // 2, size, generator=generator, dtype=torch.float64)
    x = torch.cat([centre + scatter, centre - scatter])
    start = centre + torch.linspace(1.0, 2.0, size, dtype=torch.float64)
    landscape = Landscape(_Quadratic(start, matrix), _mean, (x, torch.zeros(examples)))
    value = float(((scatter @ matrix) * scatter).sum(dim=1).mean() / 2)
    return KnownLandscape(landscape, start, centre, value, lambda theta: matrix.clone())


class _Rosenbrock(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(start.clone())

    def forward(self, scale: Tensor) -> Tensor:  # (B,) -> (B,)
        a, b = self.theta
        values: Tensor = (1 - a) ** 2 + scale * (b - a**2) ** 2
        return values


def rosenbrock() -> KnownLandscape:
    r"""Return Rosenbrock's curved valley :math:`(1 - a)^2 + 100 (b - a^2)^2`, P = 2, from (-1.2, 1).

    The factors of the examples scatter about 100 and have that mean.

    References
    ----------
    Rosenbrock. An automatic method for finding the greatest or least value of a function.
    Comput. J. 3 (1960).
    """
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    scales = torch.linspace(80.0, 120.0, 9, dtype=torch.float64)

    def hessian(theta: Tensor) -> Tensor:
        a, b = theta.tolist()
        rows = [[2 - 400 * (b - a**2) + 800 * a**2, -400 * a], [-400 * a, 200.0]]
        return torch.tensor(rows, dtype=torch.float64)

    landscape = Landscape(_Rosenbrock(start), _mean, (scales, torch.zeros(len(scales))))
    return KnownLandscape(landscape, start, torch.ones(2, dtype=torch.float64), 0.0, hessian)


def tanh_regression(
    widths: Sequence[int] = (3, 4, 2), *, examples: int = 32, seed: int = 0
) -> KnownLandscape:
    """Return a tanh network in float64 that learns the outputs of another one of its own shape.

    The teacher's weights are a global minimum with loss 0. The loss is the mean squared error over examples
    and outputs. The Hessian is that of the loss written out in one expression, differentiated twice by torch,
    dense: it shares nothing with ``Landscape.hessian`` but torch.

    Parameters
    ----------
    widths
        Units per layer, input first, output last.
    examples
        Number of examples, drawn from a normal distribution.
    seed
        Of the data, the teacher and the start.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shapes = [
        shape for a, b in pairwise(widths) for shape in ((b, a), (b,))
    ]  # weight and bias of each layer, as nn.Linear orders them
    scales = [1 / shape[-1] ** 0.5 if len(shape) == 2 else 0.1 for shape in shapes]
    teacher = torch.cat([scale * draw(*shape).flatten() for scale, shape in zip(scales, shapes, strict=True)])
    start = torch.cat([scale * draw(*shape).flatten() for scale, shape in zip(scales, shapes, strict=True)])
    x = draw(examples, widths[0])

    def forward(theta: Tensor) -> Tensor:
        parts = torch.split(theta, [int(np.prod(shape)) for shape in shapes])
        activation = x
        for layer in range(len(widths) - 1):
            weight, bias = parts[2 * layer].view(shapes[2 * layer]), parts[2 * layer + 1]
            activation = activation @ weight.T + bias
            if layer < len(widths) - 2:
                activation = torch.tanh(activation)
        return activation

    y = forward(teacher)

    def hessian(theta: Tensor) -> Tensor:
        def loss(weights: Tensor) -> Tensor:
            return (forward(weights) - y).square().mean()

        dense: Tensor = torch.autograd.functional.hessian(loss, theta.detach())  # type: ignore[no-untyped-call]
        return dense

    layers: list[nn.Module] = []
    with preserved_random_state():  # nn.Linear draws weights, which are overwritten below
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b, dtype=torch.float64), nn.Tanh()]
    module = nn.Sequential(*layers[:-1])
    nn.utils.vector_to_parameters(start, module.parameters())
    return KnownLandscape(Landscape(module, "mse", (x, y)), start, teacher, 0.0, hessian)
