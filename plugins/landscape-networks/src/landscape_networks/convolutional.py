"""Convolutional networks: LeNet-5, and the plain network of the noisy-quadratic experiments."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Model
from landscape.validators import one_of
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
from landscape_networks._fields import check_count

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["LeNet", "SimpleCNN"]

_POOLINGS = {"average": "AvgPool2d", "max": "MaxPool2d"}
#: Side of the field in which LeNet-5 places its images.
_FIELD = 32


class _Layers:
    """Collects the layers of a network and draws their weights, in the order of the forward pass."""

    def __init__(self, model: LeNet | SimpleCNN, generator: torch.Generator) -> None:
        self.model = model
        self.generator = generator
        self.layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(self, name: str, layer: nn.Module) -> None:
        self.layers[name] = layer

    def weighted(self, name: str, cls: Any, *sizes: int, **options: int) -> None:
        from torch.nn.utils import skip_init

        # skip_init: the constructor would draw from the global random state.
        layer = skip_init(  # type: ignore[no-untyped-call]
            cls, *sizes, **options, bias=self.model.bias, device=self.generator.device
        )
        initialise(layer, self.model.initialisation, self.model.scale, self.generator)
        self.layers[name] = layer

    def activation(self, name: str) -> None:
        from torch import nn

        self.layers[name] = getattr(nn, ACTIVATIONS[self.model.activation])()

    def pooling(self, name: str) -> None:
        from torch import nn

        self.layers[name] = getattr(nn, _POOLINGS[self.model.pooling])(2)


def _image_shape(who: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (channels, height, width) of inputs of `shape`, the number of examples first."""
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return 1, shape[1], shape[2]
    raise ConfigurationError(
        f"{who} is built for images of shape (n, channels, height, width) or (n, height, width), got {shape}. "
        "Digits and others give images with flatten=False."
    )


@frozen
class LeNet(Model):
    r"""LeNet-5, the convolutional network for handwritten characters.

    On images of c channels, with k outputs:

    ==========================  ======================================  =====================
    layer                       on a 32 x 32 field gives                parameters, c = 1, k = 10
    ==========================  ======================================  =====================
    ``conv1``: 5 x 5, 6         6 x 28 x 28, activation, pooled by 2    156
    ``conv2``: 5 x 5, 16        16 x 10 x 10, activation, pooled by 2   2,416
    ``linear1``: 120            120, activation                         48,120
    ``linear2``: 84             84, activation                          10,164
    ``linear3``: k              k                                       850
    ==========================  ======================================  =====================

    61,706 weights for MNIST. As in the paper, images smaller than 32 x 32 are placed in the middle of such a
    field of zeros; larger ones are taken as they are. Other than in the paper, every map of ``conv2`` sees all
    maps below, pooling has no weights, the activation is a plain tanh and the output a linear layer.

    Parameters
    ----------
    activation
        One of those of :class:`MLP`.
    pooling
        ``"average"``, close to the paper's and smooth, or ``"max"``.
    bias
        Whether the layers have biases.
    initialisation, scale
        As in :class:`MLP`; the fan-in of a convolution counts its channels and pixels.
    outputs
        Number of classes, for class targets; None reads it from the training data.

    Raises
    ------
    landscape.errors.ConfigurationError
        For an unknown name; when building, for data that is not of (image, target) batches.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> batch = torch.zeros(2, 1, 28, 28), torch.tensor([0, 9])
    >>> module = ls.models.LeNet().build(batch, torch.Generator().manual_seed(0))
    >>> sum(parameter.numel() for parameter in module.parameters())
    61706
    """

    references: ClassVar[tuple[str, ...]] = (
        "LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to document recognition. Proc. IEEE "
        "86 (1998), section II.B.",
    )

    activation: str = field(default="tanh", validator=one_of(tuple(ACTIVATIONS)))
    pooling: str = field(default="average", validator=one_of(tuple(_POOLINGS)))
    bias: bool = True
    initialisation: str = field(default="pytorch", validator=one_of(INITIALISATIONS))
    scale: float = field(default=1.0, validator=check_scale)
    outputs: int | None = field(default=None, validator=check_outputs)

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module for batches like `example`, a pair (x, y); draw weights from `generator` only."""
        from torch import nn

        x, y = inputs_and_targets("LeNet", example)
        channels, height, width = _image_shape("LeNet", tuple(x.shape))
        outputs, shape = output_sizes("LeNet", y, self.outputs)
        net = _Layers(self, generator)
        if x.ndim == 3:
            net.add("channel", nn.Unflatten(1, (1, height)))
        down, across = (max(_FIELD - size, 0) for size in (height, width))
        if down or across:
            net.add("field", nn.ZeroPad2d((across // 2, across - across // 2, down // 2, down - down // 2)))
        net.weighted("conv1", nn.Conv2d, channels, 6, 5)
        net.activation("activation1")
        net.pooling("pool1")
        net.weighted("conv2", nn.Conv2d, 6, 16, 5)
        net.activation("activation2")
        net.pooling("pool2")
        net.add("flatten", nn.Flatten())
        rows, columns = (((max(size, _FIELD) - 4) // 2 - 4) // 2 for size in (height, width))
        net.weighted("linear1", nn.Linear, 16 * rows * columns, 120)
        net.activation("activation3")
        net.weighted("linear2", nn.Linear, 120, 84)
        net.activation("activation4")
        net.weighted("linear3", nn.Linear, 84, outputs)
        net.layers.update(shaping(shape))
        return nn.Sequential(net.layers)


@frozen
class SimpleCNN(Model):
    r"""A plain convolutional network: twice two convolutions and a pooling, then two linear layers.

    With a factor w of width, on images of c channels and h x v pixels, with k outputs:

    ================  =============================  ==========================
    layer             kind                           gives
    ================  =============================  ==========================
    ``conv1``         3 x 3, zeros at the border     32 w maps, activation
    ``conv2``         3 x 3, zeros at the border     32 w maps, activation
    ``pool1``         2 x 2                          h/2 x v/2
    ``conv3``         3 x 3, zeros at the border     64 w maps, activation
    ``conv4``         3 x 3, zeros at the border     64 w maps, activation
    ``pool2``         2 x 2                          h/4 x v/4 (rounded down)
    ``linear1``       linear                         128 w, activation
    ``linear2``       linear                         k
    ================  =============================  ==========================

    On CIFAR-10 that is 591,274 weights for w = 1 and 2,360,138 for w = 2. There is no dropout and no batch
    normalisation, so that the loss is a function of the weights alone. It is the network with which
    noisy-quadratic models of training were tested on CIFAR-10.

    Parameters
    ----------
    times_wider
        The factor w.
    channels
        Maps of the first and of the second pair of convolutions, before the factor.
    hidden
        Width of the first linear layer, before the factor.
    activation
        One of those of :class:`MLP`.
    pooling
        ``"max"`` or ``"average"``; with a smooth activation the latter makes the network twice differentiable.
    bias
        Whether the layers have biases.
    initialisation, scale
        As in :class:`MLP`; the fan-in of a convolution counts its channels and pixels.
    outputs
        Number of classes, for class targets; None reads it from the training data.

    Raises
    ------
    landscape.errors.ConfigurationError
        For an unknown name or an impossible number; when building, for data that is not of (image, target)
        batches, or images of fewer than 4 x 4 pixels.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> batch = torch.zeros(2, 3, 32, 32), torch.tensor([0, 9])
    >>> module = ls.models.SimpleCNN().build(batch, torch.Generator().manual_seed(0))
    >>> sum(parameter.numel() for parameter in module.parameters())
    591274
    """

    times_wider: int = field(default=1, validator=check_count)
    channels: tuple[int, int] = field(default=(32, 64), converter=tuple)
    hidden: int = field(default=128, validator=check_count)
    activation: str = field(default="relu", validator=one_of(tuple(ACTIVATIONS)))
    pooling: str = field(default="max", validator=one_of(tuple(_POOLINGS)))
    bias: bool = True
    initialisation: str = field(default="pytorch", validator=one_of(INITIALISATIONS))
    scale: float = field(default=1.0, validator=check_scale)
    outputs: int | None = field(default=None, validator=check_outputs)

    @channels.validator
    def _check_channels(self, attribute: Attribute[tuple[int, int]], value: tuple[Any, ...]) -> None:
        if len(value) != 2 or not all(isinstance(count, int) and count >= 1 for count in value):
            raise ConfigurationError(
                f"SimpleCNN: channels={value!r} is not possible; give two whole numbers of at least 1, such as "
                "(32, 64)."
            )

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module for batches like `example`, a pair (x, y); draw weights from `generator` only.

        Raises
        ------
        landscape.errors.ConfigurationError
            For examples that are no images, and images of fewer than 4 x 4 pixels.
        """
        from torch import nn

        x, y = inputs_and_targets("SimpleCNN", example)
        maps, height, width = _image_shape("SimpleCNN", tuple(x.shape))
        if min(height, width) < 4:
            raise ConfigurationError(
                f"SimpleCNN halves images twice; these have {height} x {width} pixels, and 4 x 4 is the least."
            )
        outputs, shape = output_sizes("SimpleCNN", y, self.outputs)
        net = _Layers(self, generator)
        if x.ndim == 3:
            net.add("channel", nn.Unflatten(1, (1, height)))
        for pair, count in enumerate(self.channels, start=1):
            for number in (2 * pair - 1, 2 * pair):
                wider = self.times_wider * count
                net.weighted(f"conv{number}", nn.Conv2d, maps, wider, 3, padding=1)
                net.activation(f"activation{number}")
                maps = wider
            net.pooling(f"pool{pair}")
        net.add("flatten", nn.Flatten())
        hidden = self.times_wider * self.hidden
        net.weighted("linear1", nn.Linear, maps * (height // 2 // 2) * (width // 2 // 2), hidden)
        net.activation("activation5")
        net.weighted("linear2", nn.Linear, hidden, outputs)
        net.layers.update(shaping(shape))
        return nn.Sequential(net.layers)
