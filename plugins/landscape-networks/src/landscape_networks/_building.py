"""What the models share: reading sizes off a batch, activations by name, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import Attribute

from landscape.errors import ConfigurationError
from landscape.validators import is_number, is_whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "ACTIVATIONS",
    "INITIALISATIONS",
    "check_outputs",
    "check_scale",
    "initialise",
    "inputs_and_targets",
    "output_sizes",
    "shaping",
]

#: Activations by name, as classes of torch.nn.
ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "elu": "ELU",
        "gelu": "GELU",
        "identity": "Identity",
        "leaky_relu": "LeakyReLU",
        "relu": "ReLU",
        "sigmoid": "Sigmoid",
        "silu": "SiLU",
        "softplus": "Softplus",
        "tanh": "Tanh",
    }
)

INITIALISATIONS = (
    "pytorch",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "normal",
)


def check_outputs(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Validate a number of outputs, or None."""
    if value is not None and (not is_whole(value) or value < 1):
        raise ConfigurationError(
            f"{type(instance).__name__}: outputs={value!r} is not possible; give a whole number of at least 1, or "
            "None to read it from the training data."
        )


def check_scale(instance: Any, attribute: Attribute[float], value: Any) -> None:
    """Validate a factor of initial weights."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise ConfigurationError(
            f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; {attribute.name} is a "
            "finite number >= 0."
        )


def inputs_and_targets(who: str, example: Any) -> tuple[Tensor, Tensor]:
    """Return the pair that a model's example must be.

    Raises
    ------
    ConfigurationError
        For batches of another form.
    """
    import torch

    pair = isinstance(example, tuple | list) and len(example) == 2
    if not pair or not all(isinstance(part, torch.Tensor) and part.ndim >= 1 for part in example):
        raise ConfigurationError(
            f"{who} is built for batches that are a pair (x, y) of tensors, got {type(example).__name__}. For "
            "batches of another form bring your own module: Landscape(module, BatchLoss(...), data)."
        )
    x, y = example
    return x, y


def output_sizes(who: str, y: Tensor, outputs: int | None) -> tuple[int, tuple[int, ...] | None]:
    """Return the number of outputs and, for floating-point targets, the shape of one target.

    Raises
    ------
    ConfigurationError
        For class targets that are not of shape (n,), and targets that contradict `outputs`.
    """
    if y.is_floating_point():
        shape = tuple(y.shape[1:])
        if outputs is not None and outputs != math.prod(shape):
            raise ConfigurationError(
                f"{who}: outputs={outputs} does not fit to targets of shape {tuple(y.shape)}; leave outputs "
                "out, it is read from the data."
            )
        return math.prod(shape), shape
    if y.ndim != 1:
        raise ConfigurationError(
            f"{who}: class targets have shape (n,), got {tuple(y.shape)}; for one-hot or soft targets give "
            "floating point numbers."
        )
    classes = int(y.max()) + 1
    if outputs is not None and outputs < classes:
        raise ConfigurationError(
            f"{who}: outputs={outputs}, but the data holds the class {classes - 1}; give at least {classes}, "
            "or None to read it from the data."
        )
    return outputs or classes, None


def shaping(shape: tuple[int, ...] | None) -> Mapping[str, nn.Module]:
    """Return the layers, none or one, that turn outputs (n, k) into targets of `shape`."""
    from torch import nn

    if shape == ():
        return {"shape": nn.Flatten(0)}
    if shape is not None and len(shape) > 1:
        return {"shape": nn.Unflatten(1, shape)}
    return {}


def initialise(
    layer: nn.Linear | nn.Conv2d, initialisation: str, scale: float, generator: torch.Generator
) -> None:
    """Draw the weights of a layer from `generator` only, by one of ``INITIALISATIONS``, times `scale`."""
    import torch
    from torch.nn import init

    weight, bias = layer.weight, layer.bias
    draw: dict[str, Callable[[Tensor], Any]] = {
        # The same calls as those of the layers themselves, and so the same bits for the same generator state.
        "pytorch": lambda w: init.kaiming_uniform_(w, a=math.sqrt(5), generator=generator),
        "xavier_uniform": lambda w: init.xavier_uniform_(w, generator=generator),
        "xavier_normal": lambda w: init.xavier_normal_(w, generator=generator),
        "kaiming_uniform": lambda w: init.kaiming_uniform_(w, nonlinearity="relu", generator=generator),
        "kaiming_normal": lambda w: init.kaiming_normal_(w, nonlinearity="relu", generator=generator),
        "normal": lambda w: init.normal_(w, generator=generator),
    }
    draw[initialisation](weight)
    if bias is not None:
        if initialisation == "pytorch":
            bound = 1 / math.sqrt(weight[0].numel())  # the fan-in
            init.uniform_(bias, -bound, bound, generator=generator)
        else:
            init.zeros_(bias)
    if scale != 1:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(scale)
