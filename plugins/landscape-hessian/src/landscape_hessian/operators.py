"""Which matrix a probe looks at, and on which data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from landscape.errors import ConfigurationError
from landscape.randomness import derive_seed, preserved_random_state, torch_generator
from landscape.validators import one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import CurvatureOperator, Point

__all__ = ["KINDS", "Kind", "operator_at", "prefix_of", "rademacher", "together", "valid_kind"]

#: Vectors multiplied together at most, as many as :mod:`landscape.objective.chain` takes, and the bytes that they may
#: take: their products, and what these are summed in, take as much again.
_VECTORS, _BYTES = 8, 1 << 28

#: A kind of :class:`landscape.objective.CurvatureOperator`; said again here, where torch is not imported.
Kind = Literal["hessian", "gauss_newton", "fisher", "second_moment", "covariance"]

#: Kinds of :class:`landscape.objective.CurvatureOperator`, and what the columns of each begin with.
KINDS = {
    "hessian": "hessian",
    "gauss_newton": "gauss_newton",
    "fisher": "fisher",
    "second_moment": "example_second_moment",
    "covariance": "example_covariance",
}

valid_kind = one_of(KINDS)


def prefix_of(kind: str) -> str:
    """Return what the columns of a kind begin with; ``covariance_`` is that of mini-batches."""
    return KINDS[kind]


def operator_at(point: Point, kind: Kind, examples: int | None, name: str) -> CurvatureOperator:
    """Return the operator on all data, or on a few examples.

    Parameters
    ----------
    point, kind
        Where, and which matrix.
    examples
        How many examples. They are drawn once per run, the same for every probe: along a path, it is the matrix of
        one and the same function. None takes all.
    name
        Of the probe, for the message.

    Raises
    ------
    landscape.errors.ConfigurationError
        When there are fewer examples.
    """
    if examples is None:
        return point.curvature(kind)
    return point.curvature(kind, subset(point, examples, name))


def subset(point: Point, examples: int, name: str) -> Any:
    """Return `examples` examples as one batch; see :func:`operator_at`."""
    import torch

    data = point.landscape.data
    if examples > data.examples:
        raise ConfigurationError(
            f"{name}(examples={examples}): the data has {data.examples} examples; "
            f"give at most that, or None for all."
        )
    label = ("HessianSpectrum examples", examples)
    indices = torch.randperm(data.examples, generator=torch_generator(point.seed, *label))
    with preserved_random_state(derive_seed(point.seed, *label, "augmentation")):
        return data.take(indices[:examples].sort().values)


def rademacher(size: int, generator: torch.Generator, like: CurvatureOperator) -> Tensor:
    """Return a vector of P random signs, on the operator's device and in its dtype."""
    import torch

    signs = torch.randint(0, 2, (size,), generator=generator, device=generator.device, dtype=torch.int8)
    return (2 * signs - 1).to(like.device, like.dtype)


def together(size: int, like: CurvatureOperator) -> int:
    """Return how many vectors of P numbers to multiply at a time, so that they share their work."""
    return max(1, min(_VECTORS, _BYTES // (size * like.dtype.itemsize)))
