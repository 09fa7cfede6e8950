"""One backward pass, as directly as torch allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["gradients_of"]


def gradients_of(loss: Tensor, parts: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradients of `loss`, shape (), by `parts`; None for those that it does not depend on.

    What ``torch.autograd.grad(loss, parts, allow_unused=True)`` returns. That function asks its arguments many
    questions whose answers are known here, which takes 25 of the 450 microseconds of a step of a small perceptron;
    so its last line is called instead, once it has been seen to do what it should.
    """
    run = _engine() if type(loss) is Tensor else None
    if run is None:
        return torch.autograd.grad(loss, parts, allow_unused=True)
    found: Sequence[Tensor | None] = run(
        (loss,),
        (_one(loss.dtype, loss.device),),
        False,  # keep the graph
        False,  # make a graph of the gradients
        tuple(parts),
        allow_unreachable=True,
        accumulate_grad=False,
    )
    return found


@cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((), dtype=dtype, device=device)


@cache
def _engine() -> Callable[..., Any] | None:
    """Return the function that runs a backward pass; None where this version of torch has another one."""
    weights, unused = torch.tensor([2.0, 3.0], requires_grad=True), torch.ones(1, requires_grad=True)
    with torch.enable_grad():
        loss = (weights * weights).sum()
    try:
        run: Callable[..., Any] = torch.autograd.Variable._execution_engine.run_backward
        first, second = run(
            (loss,),
            (_one(loss.dtype, loss.device),),
            False,
            False,
            (weights, unused),
            allow_unreachable=True,
            accumulate_grad=False,
        )
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    right = second is None and weights.grad is None and first.tolist() == [4.0, 6.0]
    return run if right else None
