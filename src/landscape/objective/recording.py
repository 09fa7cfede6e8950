"""What every recording of a forward pass asks first, and says when it cannot be had."""

from collections.abc import Iterable

from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def first_with_hooks(modules: Iterable[nn.Module]) -> nn.Module | None:
    """Return the first module that calls hooks: they would run while it is recorded, and never again."""
    return next((m for m in modules if any(getattr(m, hooks, None) for hooks in _HOOKS)), None)


def first_line(error: Exception) -> str:
    """Return the class of an error and the first line of what it says, as part of a sentence."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ").removesuffix(".")
