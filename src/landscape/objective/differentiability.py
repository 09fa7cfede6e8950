"""Whether a loss has a second derivative, and which submodule to blame when it has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from landscape.errors import NotTwiceDifferentiableError
from landscape.objective.batch import Batch, leaves, map_leaves
from landscape.objective.losses import Criterion

__all__ = ["not_twice_differentiable", "own_functions", "why_not_twice"]


def why_not_twice(loss: Tensor, inputs: Sequence[Tensor]) -> str | None:
    """Return why autograd cannot differentiate `loss` twice with respect to `inputs`; None when it can.

    A missing second derivative shows itself in two ways. Some functions raise when their backward pass is
    differentiated. Functions marked with ``once_differentiable`` put a node into the graph that raises when it
    is reached, but ``torch.autograd.grad`` passes it by, because no input lies behind it, and returns a product
    in which the function's part is silently zero. So the graph is searched for such nodes.
    """
    if not loss.requires_grad:
        return None
    # A factor that requires a gradient makes the incoming gradient of every function depend on something.
    # Otherwise a function right before a linear loss would hide that it can be differentiated only once.
    factor = torch.ones_like(loss, requires_grad=True)
    try:
        first = torch.autograd.grad(loss * factor, inputs, create_graph=True, allow_unused=True)
        curved = [gradient for gradient in _present(first) if gradient.requires_grad]
        if _has_node(curved, "torch::autograd::Error"):
            return "trying to differentiate twice a function that was marked with @once_differentiable."
        if _has_node([loss], "WeightNormInterfaceBackward0"):
            return (
                "torch's fused weight normalisation has a wrong second derivative; write the weight as "
                "g * v / v.norm() in a parametrization of your own."
            )
        if curved:
            torch.autograd.grad(
                curved, inputs, [torch.ones_like(gradient) for gradient in curved], allow_unused=True
            )
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0] if lines[0].endswith(".") else f"{lines[0]}."
    return None


def not_twice_differentiable(
    module: nn.Module, criterion: Criterion, batch: Batch, reason: str
) -> NotTwiceDifferentiableError:
    """Return the error that names the submodule to blame.

    The loss is evaluated once while every submodule's inputs are recorded; then each submodule is
    differentiated twice on its own, those without children first. Parameters must be in place in `module`, as
    they are inside a session.

    Parameters
    ----------
    module, criterion, batch
        What failed to be differentiated twice.
    reason
        What autograd said.
    """
    recorded: dict[nn.Module, tuple[tuple[Any, ...], Mapping[str, Any]]] = {}

    def record(owner: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        recorded.setdefault(owner, (inputs, named))

    with ExitStack() as stack:
        for submodule in module.modules():
            handle = submodule.register_forward_hook(record, with_kwargs=True)
            stack.callback(handle.remove)
        criterion.fn(module, batch)

    names = {submodule: name for name, submodule in module.named_modules()}
    # Smallest first, so that a container is blamed only for what it does itself.
    for submodule in sorted(recorded, key=lambda owner: sum(1 for _ in owner.modules())):
        said = _alone(submodule, *recorded[submodule])
        if said is not None:
            kind = type(submodule).__name__
            name = names[submodule]
            return NotTwiceDifferentiableError(
                f"{f'Submodule {name!r} ({kind})' if name else f'The module itself ({kind})'} has no second "
                f"derivative, so there is no Hessian by automatic differentiation. Autograd says: {said} "
                "Write its backward with differentiable operations (without once_differentiable), replace operations "
                "in place (x += 1, inplace=True) by those that give a new tensor, replace it, "
                "or switch off the fused kernel it uses (torch.backends.cudnn.flags(enabled=False) for "
                "recurrent layers on a GPU)."
            )
    return NotTwiceDifferentiableError(
        f"The loss {criterion.name!r} has no second derivative, while every submodule has. Autograd says: "
        f"{reason} Write the loss with differentiable operations."
    )


def _alone(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> str | None:
    """Return why a submodule's outputs cannot be differentiated twice; None when they can."""
    sources: list[Tensor] = [p for p in module.parameters() if p.requires_grad]

    def fresh(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        source = leaf.detach().clone().requires_grad_()
        sources.append(source)
        return source.clone()  # a module that works in place may not be given a leaf

    try:
        output = module(*map_leaves(fresh, inputs), **map_leaves(fresh, named))
        curved = [out for _, out in leaves(output) if isinstance(out, Tensor) and out.requires_grad]
        if not curved or not sources:
            return None
        half_square = torch.stack([out.square().sum() / 2 for out in curved]).sum()
    except Exception:  # what cannot be called alone is not what autograd complained about
        return None
    return why_not_twice(half_square, sources)


def _present(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    return [gradient for gradient in gradients if gradient is not None]


def own_functions(loss: Tensor) -> list[str]:
    """Return the names of functions behind `loss` whose backward pass is somebody's own, each once."""
    own = [node for node in _nodes([loss]) if isinstance(node, BackwardCFunction)]
    return sorted({type(node).__name__.removesuffix("Backward") for node in own})


def _has_node(tensors: Sequence[Tensor], name: str) -> bool:
    return any(node.name() == name for node in _nodes(tensors))


def _nodes(tensors: Sequence[Tensor]) -> Iterator[Any]:
    seen: set[Any] = set()
    pending = [tensor.grad_fn for tensor in tensors]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        pending.extend(function for function, _ in node.next_functions)
