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

__all__ = [
    *(
        "KINDS",
        "Kind",
        "operator_at",
        "prefix_of",
        "product_rounding",
        "rademacher",
        "together",
        "valid_kind",
    ),
]

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


def product_rounding(point: Point, operator: CurvatureOperator, examples: int | None) -> float:
    r"""Return what rounding is estimated to add to a product with a unit vector, in parts of the spectral radius.

    :math:`2 \epsilon \sqrt n`, with n examples summed in the operator's own precision, which is those of a batch or of
    a chunk of one: these are summed in float64. A sum of n terms has an error of :math:`\lambda \sqrt n\, \epsilon / 2`
    times the terms' absolute values, :math:`\lambda` a small number, where single errors are independent with mean
    zero (Higham & Mary 2019); :math:`\lambda = 4` leaves room for what precedes the sum. Much of this is the same for
    every product and symmetric, so that the products among themselves do not show it. Products of float32 with
    leading eigenvectors differed from those of float64 by up to a ninth of it for linear regressions (n = 10 to
    1,024), two fifths for perceptrons, a half for convolutional networks (n = 4 to 32), and a fifth for a transformer.
    Where the terms cancel, it is more; then products contradict their own symmetry as well, which is counted where
    they are used.

    Parameters
    ----------
    point, operator, examples
        Where, the operator there, and of how many examples, None for all.
    """
    import torch

    pieces = max(operator.cost.batches_kept + operator.cost.batches_recomputed, 1)
    summed = (point.landscape.data.examples if examples is None else examples) / pieces
    return 2 * torch.finfo(operator.dtype).eps * max(summed, 1.0) ** 0.5


def rademacher(size: int, generator: torch.Generator, like: CurvatureOperator) -> Tensor:
    """Return a vector of P random signs, on the operator's device and in its dtype."""
    import torch

    signs = torch.randint(0, 2, (size,), generator=generator, device=generator.device, dtype=torch.int8)
    return (2 * signs - 1).to(like.device, like.dtype)


def together(size: int, like: CurvatureOperator) -> int:
    """Return how many vectors of P numbers to multiply at a time, so that they share their work."""
    return max(1, min(_VECTORS, _BYTES // (size * like.dtype.itemsize)))
