"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError, nearest
from landscape.interfaces import Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["MLP"]

#: Activations by name, as classes of torch.nn.
_ACTIVATIONS = {
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

_INITIALISATIONS = (
    "pytorch",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "normal",
)


def _one_of(known: Sequence[str]) -> Callable[[Any, Attribute[str], str], None]:
    def validate(instance: Any, attribute: Attribute[str], value: str) -> None:
        if value not in known:
            raise ConfigurationError(
                f"MLP: {attribute.name}={value!r} is unknown; known are {', '.join(known)}."
                f"{nearest(str(value), known)}"
            )

    return validate


def _widths(value: Sequence[int]) -> tuple[int, ...]:
    widths: tuple[Any, ...] = tuple(value)
    if not all(isinstance(width, int) and not isinstance(width, bool) and width >= 1 for width in widths):
        raise ConfigurationError(
            f"MLP: hidden={value!r} is not possible; give the widths of the hidden layers, each at least 1, "
            "such as (100, 100); () is a linear model."
        )
    return widths


def _check_outputs(instance: MLP, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ConfigurationError(
            f"MLP: outputs={value!r} is not possible; give a number of at least 1, or None to read it from "
            "the training data."
        )


def _check_scale(instance: MLP, attribute: Attribute[float], value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"MLP: scale={value!r} is not possible; scale is a finite number >= 0.")


@frozen
class MLP(Model):
    r"""A multilayer perceptron.

    With hidden widths :math:`n_1, \ldots, n_{D-1}`, input size :math:`n_0` and output size :math:`n_D`,

    .. math::

        a_0 = x, \qquad a_l = \sigma(W_l\,a_{l-1} + b_l), \quad l = 1, \ldots, D-1, \qquad
        f(x) = W_D\,a_{D-1} + b_D

    has :math:`\sum_l n_l (n_{l-1} + 1)` parameters, named ``layer1.weight``, ``layer1.bias`` and so on.
    Inputs of any shape (n, ...) are flattened to (n, n_0).

    Class targets (integers) get one output per class; targets of floating point numbers get outputs of
    their own shape, so that (n,) targets meet (n,) outputs.

    Parameters
    ----------
    hidden
        Widths of the hidden layers; () is a linear model.
    activation
        ``"tanh"``, ``"relu"``, ``"gelu"``, ``"sigmoid"``, ``"silu"``, ``"softplus"``, ``"elu"``,
        ``"leaky_relu"`` or ``"identity"``. The rectifiers have no second derivative at their kinks; their
        Hessian is that of the linear pieces.
    bias
        Whether the layers have biases.
    initialisation
        ``"pytorch"``: weights and biases uniform in :math:`\pm 1/\sqrt{n_{l-1}}`, what ``nn.Linear`` does.
        ``"xavier_uniform"``, ``"xavier_normal"``: variance :math:`2/(n_{l-1} + n_l)` (Glorot and Bengio
        2010). ``"kaiming_uniform"``, ``"kaiming_normal"``: variance :math:`2/n_{l-1}` (He et al. 2015).
        ``"normal"``: variance 1, to be scaled. Biases start at zero in all but the first.
    scale
        Factor for all initial weights and biases.
    outputs
        Number of classes, for class targets. None takes the largest class of the training data plus one,
        which is right for any data that holds an example of the last class.

    Raises
    ------
    landscape.errors.ConfigurationError
        For an unknown name (with the nearest one) or an impossible number; when building, for data that is
        not of (input, target) batches or that contradicts `outputs`.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> batch = torch.zeros(3, 64), torch.tensor([0, 9, 4])
    >>> module = ls.models.MLP(hidden=(100,)).build(batch, torch.Generator().manual_seed(0))
    >>> [tuple(parameter.shape) for parameter in module.parameters()]
    [(100, 64), (100,), (10, 100), (10,)]
    """

    hidden: tuple[int, ...] = field(default=(100, 100), converter=_widths)
    activation: str = field(default="tanh", validator=_one_of(tuple(_ACTIVATIONS)))
    bias: bool = True
    initialisation: str = field(default="pytorch", validator=_one_of(_INITIALISATIONS))
    scale: float = field(default=1.0, validator=_check_scale)
    outputs: int | None = field(default=None, validator=_check_outputs)

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module for batches like `example`, a pair (x, y); draw weights from `generator` only.

        Classes are counted in `example`: where `outputs` is None, give a batch of all the training data.
        """
        from torch import nn
        from torch.nn.utils import skip_init

        inputs, outputs, shape = self._sizes(example)
        # Numbers, shape (n,), become (n, 1).
        flatten = nn.Flatten() if example[0].ndim > 1 else nn.Unflatten(0, (-1, 1))
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=flatten)
        widths = (inputs, *self.hidden, outputs)
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            # skip_init: the constructor would draw from the global random state.
            linear: nn.Linear = skip_init(  # type: ignore[no-untyped-call]
                nn.Linear, fan_in, fan_out, bias=self.bias, device=generator.device
            )
            self._initialise(linear, generator)
            layers[f"layer{number}"] = linear
            if number < len(widths) - 1:
                layers[f"activation{number}"] = getattr(nn, _ACTIVATIONS[self.activation])()
        if shape == ():
            layers["shape"] = nn.Flatten(0)
        elif shape is not None and len(shape) > 1:
            layers["shape"] = nn.Unflatten(1, shape)
        return nn.Sequential(layers)

    def _sizes(self, example: Any) -> tuple[int, int, tuple[int, ...] | None]:
        """Return input size, output size and, for floating-point targets, the shape of one target."""
        import torch

        pair = isinstance(example, tuple | list) and len(example) == 2
        if not pair or not all(isinstance(part, torch.Tensor) and part.ndim >= 1 for part in example):
            raise ConfigurationError(
                "MLP is built for batches that are a pair (x, y) of tensors, got "
                f"{type(example).__name__}. For batches of another form bring your own module: "
                "Landscape(module, BatchLoss(...), data)."
            )
        x, y = example
        inputs = math.prod(x.shape[1:])
        if y.is_floating_point():
            shape = tuple(y.shape[1:])
            if self.outputs is not None and self.outputs != math.prod(shape):
                raise ConfigurationError(
                    f"MLP: outputs={self.outputs} does not fit to targets of shape {tuple(y.shape)}; leave "
                    "outputs out, it is read from the data."
                )
            return inputs, math.prod(shape), shape
        if y.ndim != 1:
            raise ConfigurationError(
                f"MLP: class targets have shape (n,), got {tuple(y.shape)}; for one-hot or soft targets give "
                "floating point numbers."
            )
        classes = int(y.max()) + 1
        if self.outputs is not None and self.outputs < classes:
            raise ConfigurationError(
                f"MLP: outputs={self.outputs}, but the data holds the class {classes - 1}; give at least "
                f"{classes}, or None to read it from the data."
            )
        return inputs, self.outputs or classes, None

    def _initialise(self, linear: nn.Linear, generator: torch.Generator) -> None:
        import torch
        from torch.nn import init

        fan_in = linear.in_features
        weight, bias = linear.weight, linear.bias
        draw: dict[str, Callable[[Tensor], Any]] = {
            # The same call as nn.Linear's own, and so the same bits for the same generator state.
            "pytorch": lambda w: init.kaiming_uniform_(w, a=math.sqrt(5), generator=generator),
            "xavier_uniform": lambda w: init.xavier_uniform_(w, generator=generator),
            "xavier_normal": lambda w: init.xavier_normal_(w, generator=generator),
            "kaiming_uniform": lambda w: init.kaiming_uniform_(w, nonlinearity="relu", generator=generator),
            "kaiming_normal": lambda w: init.kaiming_normal_(w, nonlinearity="relu", generator=generator),
            "normal": lambda w: init.normal_(w, generator=generator),
        }
        draw[self.initialisation](weight)
        if self.bias:
            if self.initialisation == "pytorch":
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(bias, -bound, bound, generator=generator)
            else:
                init.zeros_(bias)
        if self.scale != 1:
            with torch.no_grad():
                for parameter in linear.parameters():
                    parameter.mul_(self.scale)
