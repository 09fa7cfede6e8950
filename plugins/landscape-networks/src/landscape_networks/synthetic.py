"""Data that is computed: a function to fit, and clusters to tell apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Dataset
from landscape_networks._building import check_scale
from landscape_networks._drawing import normal, permutation, stratified, uniform
from landscape_networks._fields import check_count, check_fraction

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from landscape.objective import Data

__all__ = ["FunctionFit", "GaussianClusters"]

_LENGTH = 20.0
#: Mean and standard deviation of y over x uniform in [0, 20]; a test computes them by quadrature.
_MEAN, _DEVIATION = 5.127945657912003, 5.045677504188248


@frozen
class FunctionFit(Dataset):
    r"""A function of one variable to fit.

    .. math::

        y = 4 \sin(e^{x/8}) - 5 \cos x + e^{x/8}, \qquad x \sim U[0, 20].

    Inputs and targets are float64 of shape (n, 1); the loss that goes with them is ``"mse"``. The network is
    ``MLP(hidden=(70, 70, 70), activation="relu")``. Without biases it cannot succeed, however long it is
    trained: as :math:`x > 0`, a network of rectifiers without biases is the line :math:`f(x) = x f(1)`, and the
    best line through 0 has a mean squared error of 28.4 (over x uniform in [0, 20]).

    Parameters
    ----------
    examples
        How many, test examples included.
    test_fraction
        Share of the examples that becomes the split ``"test"``; with 0 there is no such split.
    standardise
        Map inputs to [-1, 1] and targets to mean 0 and variance 1 over x uniform in [0, 20] (the same map for
        any sample), which makes training much faster.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> splits = ls.datasets.FunctionFit(examples=100).load(torch.Generator().manual_seed(0))
    >>> {name: data.examples for name, data in splits.items()}
    {'train': 90, 'test': 10}
    """

    examples: int = field(default=1000, validator=check_count)
    test_fraction: float = field(default=0.1, validator=check_fraction)
    standardise: bool = False

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, for ``test_fraction > 0``, ``"test"``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the test data leaves none for training.
        """
        import torch

        from landscape.objective import as_data

        x = _LENGTH * uniform((self.examples, 1), generator)
        grown = torch.exp(x / 8)
        y = 4 * torch.sin(grown) - 5 * torch.cos(x) + grown
        if self.standardise:
            x = 2 * x / _LENGTH - 1
            y = (y - _MEAN) / _DEVIATION
        test = round(self.test_fraction * self.examples)
        if test == self.examples:
            raise ConfigurationError(
                f"FunctionFit: test_fraction={self.test_fraction} of {self.examples} examples leaves none for "
                "training."
            )
        splits = {"train": as_data((x[test:], y[test:]))}
        if test:
            splits["test"] = as_data((x[:test], y[:test]))
        return splits


@frozen
class GaussianClusters(Dataset):
    r"""Normal clusters around the corners of a regular simplex: classes that are all equally hard to tell apart.

    The C centres have the same distance from each other, in an orientation drawn from the generator, and the
    origin as their mean; about its centre, every class is normal with the same variance in all directions. No
    classifier of two classes does better than :math:`\Phi(d / 2s)`, with the distance d of the centres, the
    standard deviation s, and the normal distribution function :math:`\Phi`; the linear one that decides for the
    nearest centre does as well, for any number of classes.

    Inputs are float64 of shape (n, dimension), targets the classes as int64. Classes are equally frequent, up
    to one example, in random order.

    Parameters
    ----------
    classes
        C, at least 2.
    dimension
        Of the inputs, at least C - 1.
    examples
        How many, test examples included.
    separation
        d. With the default and two classes, the best accuracy is 97.7 %.
    spread
        s.
    test_fraction
        Share of the examples that becomes the split ``"test"``, the same of every class; with 0 there is no such
        split.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and more classes than the dimension allows at equal distances.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> splits = ls.datasets.GaussianClusters(classes=3, dimension=5).load(torch.Generator().manual_seed(0))
    >>> x, y = splits["train"].everything()
    >>> x.shape, y.unique().tolist()
    (torch.Size([800, 5]), [0, 1, 2])
    """

    classes: int = field(default=3, validator=check_count)
    dimension: int = field(default=2, validator=check_count)
    examples: int = field(default=1000, validator=check_count)
    separation: float = field(default=4.0, validator=check_scale)
    spread: float = field(default=1.0, validator=check_scale)
    test_fraction: float = field(default=0.2, validator=check_fraction)

    def __attrs_post_init__(self) -> None:
        if not 2 <= self.classes <= self.dimension + 1:
            raise ConfigurationError(
                f"GaussianClusters: classes={self.classes} in dimension={self.dimension}; give at least 2 classes, "
                f"and at most one more than dimensions ({self.dimension + 1}), so that their centres can have the "
                "same distance from each other."
            )
        if self.examples < self.classes:
            raise ConfigurationError(
                f"GaussianClusters: examples={self.examples} for {self.classes} classes; give at least one each."
            )

    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the split ``"train"`` and, for ``test_fraction > 0``, ``"test"``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the test data leaves none for training.
        """
        import torch

        from landscape.objective import as_data

        y = (torch.arange(self.examples) % self.classes)[permutation(self.examples, generator)]
        x = self._centres(generator)[y] + self.spread * normal((self.examples, self.dimension), generator)
        everyone = torch.ones(self.examples, dtype=torch.bool)
        test = stratified(y, everyone, round(self.test_fraction * self.examples), self.classes, generator)
        if test.all():
            raise ConfigurationError(
                f"GaussianClusters: test_fraction={self.test_fraction} of {self.examples} examples leaves none "
                "for training."
            )
        splits = {"train": as_data((x[~test], y[~test]))}
        if test.any():
            splits["test"] = as_data((x[test], y[test]))
        return splits

    def _centres(self, generator: torch.Generator) -> torch.Tensor:
        """Return the centres, shape (classes, dimension)."""
        import torch

        # Unit vectors less their mean have the distance sqrt 2; they span C - 1 dimensions, of which the QR
        # decomposition of their first C - 1 gives a basis.
        corners = torch.eye(self.classes, dtype=torch.float64) - 1 / self.classes
        basis, _ = torch.linalg.qr(corners[:, : self.classes - 1])
        # The orthonormal columns of a normal matrix are uniformly distributed once their signs are fixed.
        q, r = torch.linalg.qr(normal((self.dimension, self.classes - 1), generator))
        turned: torch.Tensor = (corners @ basis) @ (q * torch.sign(torch.diagonal(r))).T
        return self.separation / math.sqrt(2) * turned
