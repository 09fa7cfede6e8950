"""Noisy quadratics: the landscape about which everything is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Dataset, Model
from landscape_networks._building import check_scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor, nn

    from landscape.objective import Data

__all__ = ["GradientNoise", "NoisyQuadratic", "noise_of"]

_ZHANG = (
    "Zhang, Li, Nado, Martens, Sachdeva, Dahl, Shallue, Grosse. Which algorithmic choices matter at which batch "
    "sizes? Insights from a noisy quadratic model. NeurIPS 2019, arXiv:1907.04164."
)

Symmetric = tuple[float, ...] | tuple[tuple[float, ...], ...]


def _matrix(value: Any) -> Any:
    """Return rows or a diagonal as tuples of floats."""
    if value is None:
        return None
    return tuple(tuple(map(float, row)) if isinstance(row, list | tuple) else float(row) for row in value)


def _numbers(value: Any) -> Any:
    return None if value is None else tuple(map(float, value))


def _check_symmetric(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    if value is None:
        return
    who = f"{type(instance).__name__}: {attribute.name}"
    rows = [row for row in value if isinstance(row, tuple)]
    if not value or (rows and (len(rows) != len(value) or any(len(row) != len(value) for row in rows))):
        raise ConfigurationError(
            f"{who}={value!r} is no square matrix; give its rows, or the entries of a diagonal one."
        )
    flat = [entry for row in rows for entry in row] if rows else list(value)
    if not all(map(math.isfinite, flat)):
        raise ConfigurationError(f"{who}={value!r} has an entry that is not finite.")
    if rows and any(rows[i][j] != rows[j][i] for i in range(len(rows)) for j in range(i)):
        raise ConfigurationError(f"{who}={value!r} is not symmetric.")


def noise_of(who: str, example: Any) -> Tensor:
    """Return the noise, shape (n, P), of a batch of :class:`GradientNoise`.

    Raises
    ------
    ConfigurationError
        For batches of another form.
    """
    import torch

    single = isinstance(example, tuple | list) and len(example) == 1
    if not single or not isinstance(example[0], torch.Tensor) or example[0].ndim != 2:
        raise ConfigurationError(
            f"{who} computes its own loss and is built for batches (noise,) with noise of shape (n, P); give it "
            "the dataset GradientNoise, and loss='model'."
        )
    noise: Tensor = example[0]
    return noise


def _symmetric(value: Any, size: int, decay: float) -> Tensor:
    """Return a matrix, or the diagonal of one, in float64: what was given, or the powers i ** -decay."""
    import torch

    if value is None:
        return torch.arange(1, size + 1, dtype=torch.float64) ** -decay
    return torch.tensor(value, dtype=torch.float64)


@frozen
class NoisyQuadratic(Model):
    r"""A quadratic landscape with the Hessian H of your choice, for the noise of :class:`GradientNoise`.

    With :math:`\theta \in \mathbb{R}^P`, the minimum (or saddle) m and noise :math:`\xi_i`, the loss of example
    i is

    .. math::

        \ell_i(\theta) = \tfrac12 (\theta - m)^T H\,(\theta - m) + \xi_i^T (\theta - m),
        \qquad \nabla \ell_i = H(\theta - m) + \xi_i .

    The mean of the :math:`\xi_i` is zero and their covariance C, both exactly, so that on all data the loss is
    the quadratic alone, its Hessian is H everywhere, and the gradients of the examples have the covariance C
    everywhere. Where H is invertible, this is, up to constants, the loss
    :math:`\frac12 (\theta - x_i)^T H (\theta - x_i)` of examples :math:`x_i = m - H^{-1} \xi_i`.

    The module returns the losses of the examples: use ``loss="model"``.

    Parameters
    ----------
    hessian
        H: the rows of a symmetric matrix, or the entries of a diagonal one. It need not be positive. None is
        the diagonal :math:`h_i = i^{-\mathrm{decay}}`, of the size of the noise.
    decay
        Of that diagonal; 1 is the choice of Zhang et al. (2019).
    minimum
        m; zero if left out.
    scale
        Standard deviation of the starting point about m, in every coordinate.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a matrix that is not square, symmetric and finite; when building, for data that is not noise of the
        same dimension.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> experiment = ls.Experiment(
    ...     ls.models.NoisyQuadratic(hessian=(1.0, 4.0)), ls.datasets.GradientNoise(2, examples=64),
    ...     ls.walkers.SGD(lr=0.1), loss="model", dtype="float64")
    >>> landscape = experiment.landscapes()["train"]
    >>> landscape.hessian(landscape.initial()).dense().tolist()
    [[1.0, 0.0], [0.0, 4.0]]
    """

    references: ClassVar[tuple[str, ...]] = (_ZHANG,)

    hessian: Symmetric | None = field(default=None, converter=_matrix, validator=_check_symmetric)
    decay: float = 1.0
    minimum: tuple[float, ...] | None = field(default=None, converter=_numbers)
    scale: float = field(default=1.0, validator=check_scale)

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module, in float64, for batches like `example`; draw the start from `generator` only.

        Raises
        ------
        landscape.errors.ConfigurationError
            For data that is no noise, and a Hessian or a centre of another dimension than the noise.
        """
        import torch

        from landscape_networks._modules import Quadratic

        noise = noise_of("NoisyQuadratic", example)
        size = noise.shape[1]
        for name, value in (("hessian", self.hessian), ("minimum", self.minimum)):
            if value is not None and len(value) != size:
                raise ConfigurationError(
                    f"NoisyQuadratic: {name} is for {len(value)} dimensions, but the noise of the data has {size}."
                )
        centre = torch.zeros(size, dtype=torch.float64)
        if self.minimum is not None:
            centre = torch.tensor(self.minimum, dtype=torch.float64)
        start = torch.randn(size, generator=generator, device=generator.device, dtype=torch.float64)
        return Quadratic(
            centre.to(start.device) + self.scale * start, _symmetric(self.hessian, size, self.decay), centre
        ).to(generator.device)


@frozen
class GradientNoise(Dataset):
    r"""Noise that is added to the gradient, for models that compute their own loss.

    Example i is a vector :math:`\xi_i` of P numbers, in a batch ``(noise,)`` of shape (n, P), float64; the model
    adds :math:`\xi_i^T \theta` to its loss, and so :math:`\xi_i` to its gradient. The :math:`\xi_i` are normal
    with covariance C. They are then shifted and linearly mapped so that their mean is zero and their covariance
    (with 1/n) C exactly: a mini-batch of B examples, drawn with replacement, has a gradient of covariance C/B.
    Walkers draw without replacement; the covariance is then C/B times (n - B)/(n - 1).

    Parameters
    ----------
    dimension
        P. None: the size of `covariance`, or 10.
    covariance
        C: the rows of a symmetric matrix without negative eigenvalues, or the entries of a diagonal one. None
        is the diagonal :math:`c_i = i^{-\mathrm{decay}}`.
    decay
        Of that diagonal. 1 makes it the default Hessian of :class:`NoisyQuadratic`, as in Zhang et al. (2019).
    scale
        Factor for C; 0 is no noise, for which one example is enough.
    examples
        How many; more than P where they are to be exact.
    exact
        Whether mean and covariance are made exact. Without it they are so up to the errors of sampling.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a covariance that is none, and too few examples.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> data = ls.datasets.GradientNoise(covariance=(1.0, 0.25)).load(torch.Generator().manual_seed(0))["train"]
    >>> (noise,) = data.everything()
    >>> torch.allclose(noise.T @ noise / 1000, torch.tensor([[1.0, 0.0], [0.0, 0.25]]).double())
    True
    """

    references: ClassVar[tuple[str, ...]] = (_ZHANG,)

    dimension: int | None = None
    covariance: Symmetric | None = field(default=None, converter=_matrix, validator=_check_symmetric)
    decay: float = 1.0
    scale: float = field(default=1.0, validator=check_scale)
    examples: int = 1000
    exact: bool = True

    def __attrs_post_init__(self) -> None:
        if self.dimension is not None and self.dimension < 1:
            raise ConfigurationError(f"GradientNoise: dimension={self.dimension}; give at least 1.")
        if self.covariance is not None and self.dimension not in (None, len(self.covariance)):
            raise ConfigurationError(
                f"GradientNoise: dimension={self.dimension}, but the covariance is for {len(self.covariance)}; "
                "leave the dimension out."
            )
        least = self.size + 1 if self.exact and self.scale > 0 else 1
        if self.examples < least:
            raise ConfigurationError(
                f"GradientNoise: examples={self.examples}; {self.size} dimensions need at least {least}"
                f"{' for an exact covariance, or give exact=False' if least > 1 else ''}."
            )

    @property
    def size(self) -> int:
        """P."""
        return self.dimension or (10 if self.covariance is None else len(self.covariance))

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"``."""
        import torch

        from landscape.objective import as_data

        covariance = self.scale * _symmetric(self.covariance, self.size, self.decay)
        noise = torch.zeros(self.examples, self.size, dtype=torch.float64)
        if self.scale > 0:
            noise = torch.randn(
                noise.shape, generator=generator, device=generator.device, dtype=torch.float64
            ).cpu()
            if self.exact:
                noise -= noise.mean(0)
                lower = torch.linalg.cholesky(noise.T @ noise / self.examples)
                noise = torch.linalg.solve_triangular(lower, noise.T, upper=False).T
            noise = noise * self._root(covariance) if covariance.ndim == 1 else noise @ self._root(covariance)
        return {"train": as_data((noise.contiguous(),))}

    def _root(self, covariance: Tensor) -> Tensor:
        """Return the symmetric square root of a matrix, or of a diagonal."""
        import torch

        if covariance.ndim == 1:
            values, vectors = covariance, None
        else:
            values, vectors = torch.linalg.eigh(covariance)
        # Rounding may push a zero eigenvalue below zero.
        if values.min() < -1e-12 * values.abs().max():
            raise ConfigurationError(
                f"GradientNoise: the covariance has the eigenvalue {values.min():.6g}; a covariance has none "
                "below 0."
            )
        root = values.clamp(min=0).sqrt()
        return root if vectors is None else (vectors * root) @ vectors.T
