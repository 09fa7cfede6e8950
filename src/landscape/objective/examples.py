r"""Gradients of single examples, and how much these count in the gradient of a batch.

The loss of a batch is a weighted mean over its examples, :math:`\sum_i w_i \ell_i / \sum_i w_i`: most weights are one;
with targets that are ignored, weights of classes, and sequences of unequal length they are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from landscape.errors import ConfigurationError
from landscape.objective import curvature
from landscape.objective.batch import Batch, examples_in

if TYPE_CHECKING:
    from landscape.objective.landscape import Landscape

__all__ = ["everywhere", "example_weights", "mean_weight", "weighed_gradients"]

#: The gradients of examples must make up that of their batch to so many units of rounding.
_SAME = 1e4


def everywhere(landscape: Landscape, yes: bool) -> bool:
    """Whether all processes of the landscape's group say yes; what one alone does leaves the others waiting."""
    return landscape._agreed(yes)


def example_weights(landscape: Landscape, batch: Batch) -> Tensor:
    """Return how much every example of a batch counts in the mean that the loss is, shape (B,), float64.

    Ones in a sum. Examples of which every target is ignored have 0.

    Raises
    ------
    DataError
        When the batch has no examples to be counted.
    """
    batch = landscape._moved(batch)
    weight = landscape._weight(landscape._criterion, landscape.reduction, batch)
    found = curvature.example_weights(
        landscape._criterion, landscape.reduction, batch, weight, examples_in(batch)
    )
    return found.to(landscape.device, landscape._summing)


def mean_weight(landscape: Landscape) -> float:
    """Return how much an example of all data counts on average; reads the data, unless every example counts as one."""
    if landscape.reduction == "sum" or landscape._criterion.weight is examples_in:
        return 1.0
    total, count = 0.0, 0
    for batch in landscape._batches(None):
        total += float(landscape._criterion.weight(batch))
        count += examples_in(batch)
    return total / count


def weighed_gradients(
    landscape: Landscape, theta: Tensor, batch: Batch, purpose: str
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the examples of a batch, (B, P), penalty included, and their weights, (B,), float64.

    Their weighted mean is the gradient of the batch, which costs one more gradient to know. Examples that do not count
    have the gradient zero.

    Parameters
    ----------
    landscape
        The landscape.
    theta
        Weights of the network, shape (P,).
    batch
        The examples.
    purpose
        What needs them, for the message.

    Raises
    ------
    ConfigurationError
        When the gradients of the examples do not make up that of the batch: the loss is no mean over examples, or the
        module lets them see each other.
    """
    batch = landscape._moved(batch)
    rows, weights = landscape.example_gradients(theta, batch), example_weights(landscape, batch)
    rows[weights == 0] = 0  # not what a mean over nothing gives
    total = weights.sum() if landscape.reduction == "mean" else torch.ones_like(weights.sum())
    if len(rows) < 2 or not total > 0:
        return rows, weights
    shares = (weights / total).to(rows)
    whole = landscape._local_gradient(theta, batch)
    if landscape.penalty is not None:  # it is in every row
        whole = whole + (shares.sum() - 1) * landscape._penalty_gradient(theta)[1]
    apart = torch.linalg.vector_norm(shares @ rows - whole)
    limit = _SAME * torch.finfo(rows.dtype).eps * (shares @ torch.linalg.vector_norm(rows, dim=1))
    # What is not finite is reported with what is known of it.
    if bool(apart.isfinite() & limit.isfinite()) and bool(apart > limit):
        raise ConfigurationError(
            f"{purpose} needs a loss that is a {landscape.reduction} over examples which do not see each other: what "
            f"the gradients of the {len(rows)} examples of a batch make up is {float(apart):.3g} away from the batch's "
            f"own, of length {float(torch.linalg.vector_norm(whole)):.3g}. Where examples count differently, say how: "
            "with one of torch's losses, such as nn.CrossEntropyLoss(weight=..., ignore_index=...), or "
            "BatchLoss(fn, weight=...). Of a loss that compares examples, take the gradients of batches."
        )
    return rows, weights
