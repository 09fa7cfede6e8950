"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.interfaces import Model
from landscape.validators import as_tuple, each_at_least, of_type, one_of
from landscape_networks._building import (
    ACTIVATIONS,
    INITIALISATIONS,
    check_outputs,
    check_scale,
    initialise,
    inputs_and_targets,
    output_sizes,
    shaping,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["MLP"]


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
        Whether the layers have biases. A network of rectifiers without them is positively homogeneous,
        :math:`f(cx) = c f(x)` for :math:`c > 0`: of one positive input it can make nothing but the line
        :math:`f(x) = x f(1)`.
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

    hidden: tuple[int, ...] = field(
        default=(100, 100),
        converter=as_tuple,
        validator=each_at_least(
            1,
            "give the widths of the hidden layers, each at least 1, such as (100, 100); () is a linear model.",
        ),
    )
    activation: str = field(default="tanh", validator=one_of(tuple(ACTIVATIONS)))
    bias: bool = field(default=True, validator=of_type(bool, "True or False"))
    initialisation: str = field(default="pytorch", validator=one_of(INITIALISATIONS))
    scale: float = field(default=1.0, validator=check_scale)
    outputs: int | None = field(default=None, validator=check_outputs)

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module for batches like `example`, a pair (x, y); draw weights from `generator` only.

        Classes are counted in `example`: where `outputs` is None, give a batch of all the training data.
        """
        from torch import nn
        from torch.nn.utils import skip_init

        x, y = inputs_and_targets("MLP", example)
        outputs, shape = output_sizes("MLP", y, self.outputs)
        # Numbers, shape (n,), become (n, 1).
        flatten = nn.Flatten() if x.ndim > 1 else nn.Unflatten(0, (-1, 1))
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=flatten)
        widths = (math.prod(x.shape[1:]), *self.hidden, outputs)
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            # skip_init: the constructor would draw from the global random state.
            linear: nn.Linear = skip_init(  # type: ignore[no-untyped-call]
                nn.Linear, fan_in, fan_out, bias=self.bias, device=generator.device
            )
            initialise(linear, self.initialisation, self.scale, generator)
            layers[f"layer{number}"] = linear
            if number < len(widths) - 1:
                layers[f"activation{number}"] = getattr(nn, ACTIVATIONS[self.activation])()
        layers.update(shaping(shape))
        return nn.Sequential(layers)
