"""Finding the submodule that has no second derivative."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import NotTwiceDifferentiableError
from landscape.objective.batch import Batch, leaves, map_leaves
from landscape.objective.losses import Criterion

__all__ = ["not_twice_differentiable"]


def not_twice_differentiable(
    module: nn.Module, criterion: Criterion, batch: Batch, cause: Exception
) -> NotTwiceDifferentiableError:
    """Return the error that names the submodule to blame for `cause`.

    The loss is evaluated once while every submodule's inputs are recorded; then each submodule is
    differentiated twice on its own, those without children first. Parameters must be in place in `module`, as
    they are inside a session.

    Parameters
    ----------
    module, criterion, batch
        What failed to be differentiated twice.
    cause
        What autograd said.
    """
    recorded: dict[nn.Module, tuple[tuple[Any, ...], Mapping[str, Any]]] = {}

    def record(owner: nn.Module, inputs: tuple[Any, ...], named_inputs: dict[str, Any], output: Any) -> None:
        recorded.setdefault(owner, (inputs, named_inputs))

    with ExitStack() as stack:
        for submodule in module.modules():
            handle = submodule.register_forward_hook(record, with_kwargs=True)
            stack.callback(handle.remove)
        criterion.fn(module, batch)

    names = {submodule: name for name, submodule in module.named_modules()}
    # Deepest first, so that a container is blamed only for what it does itself.
    for submodule in sorted(recorded, key=lambda owner: sum(1 for _ in owner.modules())):
        said = _what_fails(submodule, *recorded[submodule])
        if said is not None:
            name = names[submodule]
            where = (
                f"Submodule {name!r} ({type(submodule).__name__})"
                if name
                else (f"The module's own forward ({type(submodule).__name__})")
            )
            return NotTwiceDifferentiableError(
                f"{where} has no second derivative, so the loss has no Hessian by automatic differentiation. "
                f"Autograd says: {said} Write its backward with differentiable operations (without "
                "once_differentiable), replace it, or switch off the fused kernel it uses "
                "(torch.backends.cudnn.flags(enabled=False) for recurrent layers on a GPU)."
            )
    return NotTwiceDifferentiableError(
        f"The loss {criterion.name!r} has no second derivative, while every submodule has. Autograd says: "
        f"{_first_line(cause)} Write the loss with differentiable operations."
    )


def _what_fails(module: nn.Module, inputs: tuple[Any, ...], named_inputs: Mapping[str, Any]) -> str | None:
    """Differentiate half the squared output twice; return what autograd says when that fails."""
    sources: list[Tensor] = [
        p for p in module._parameters.values() if isinstance(p, Tensor) and p.requires_grad
    ]

    def fresh(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        source = leaf.detach().clone().requires_grad_()
        sources.append(source)
        return source.clone()  # modules that work in place may not be given a leaf

    inputs = map_leaves(fresh, inputs)
    named_inputs = map_leaves(fresh, named_inputs)
    try:
        # The square makes the incoming gradient depend on the weights, as any curved loss does.
        outputs = [
            leaf
            for _, leaf in leaves(module(*inputs, **named_inputs))
            if isinstance(leaf, Tensor) and leaf.requires_grad
        ]
    except Exception:  # a module that cannot be called alone is not the one that autograd complained about
        return None
    if not outputs or not sources:
        return None
    try:
        half_square = torch.stack([output.square().sum() / 2 for output in outputs]).sum()
        first = torch.autograd.grad(half_square, sources, create_graph=True, allow_unused=True)
        curved = [gradient for gradient in first if gradient is not None and gradient.requires_grad]
        if curved:
            torch.autograd.grad(
                torch.stack([gradient.sum() for gradient in curved]).sum(), sources, allow_unused=True
            )
    except (RuntimeError, NotImplementedError) as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if line.endswith(".") else f"{line}."
