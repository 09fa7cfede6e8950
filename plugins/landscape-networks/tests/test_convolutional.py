"""LeNet and SimpleCNN against networks written out here, and counts of their weights."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape import Landscape
from landscape.errors import ConfigurationError
from landscape.testing import check_component
from landscape_networks.convolutional import LeNet, SimpleCNN


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _batch(*shape, n=3):
    return torch.rand(n, *shape, generator=_generator(1)), torch.arange(n) % 10


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def _lenet(module, x):
    w = module.state_dict()
    x = F.pad(x, (2, 2, 2, 2))
    for number in (1, 2):
        x = torch.tanh(F.conv2d(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"]))
        n, c, height, width = x.shape
        x = x.reshape(n, c, height // 2, 2, width // 2, 2).mean((3, 5))
    x = x.reshape(len(x), -1)
    for number in (1, 2):
        x = torch.tanh(x @ w[f"linear{number}.weight"].T + w[f"linear{number}.bias"])
    return x @ w["linear3.weight"].T + w["linear3.bias"]


def _simple_cnn(module, x):
    w = module.state_dict()
    for number in (1, 2, 3, 4):
        x = F.conv2d(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"], padding=1).clamp(min=0)
        if number % 2 == 0:
            n, c, height, width = x.shape
            x = x[:, :, : height // 2 * 2, : width // 2 * 2]
            x = x.reshape(n, c, height // 2, 2, width // 2, 2).amax((3, 5))
    x = (x.reshape(len(x), -1) @ w["linear1.weight"].T + w["linear1.bias"]).clamp(min=0)
    return x @ w["linear2.weight"].T + w["linear2.bias"]


def test_lenet_computes_the_layers_of_its_table():
    x, y = _batch(1, 28, 28)
    module = LeNet(outputs=10).build((x, y), _generator())
    torch.testing.assert_close(module(x), _lenet(module, x))
    assert [
        _count(module.get_submodule(name)) for name in ("conv1", "conv2", "linear1", "linear2", "linear3")
    ] == [
        156,
        2416,
        48120,
        10164,
        850,
    ]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (4, 4), (13, 22)])
def test_lenet_places_small_images_in_a_field_of_32_pixels(height, width):
    x, y = _batch(2, height, width)
    module = LeNet(outputs=10).build((x, y), _generator())
    field = torch.zeros(3, 2, 32, 32)
    down, across = (32 - height) // 2, (32 - width) // 2
    field[:, :, down : down + height, across : across + width] = x
    full = LeNet(outputs=10).build((field, y), _generator())
    torch.testing.assert_close(module(x), full(field))


def test_lenet_takes_larger_images_as_they_are():
    x, y = _batch(3, 64, 40)
    module = LeNet(outputs=4).build((x, y), _generator())
    assert module(x).shape == (3, 4)
    assert module.linear1.in_features == 16 * 13 * 7


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 9, 14)])
def test_simple_cnn_computes_the_layers_of_its_table(shape):
    x, y = _batch(*shape)
    module = SimpleCNN(channels=(3, 5), hidden=7, times_wider=2, outputs=10).build((x, y), _generator())
    torch.testing.assert_close(module(x), _simple_cnn(module, x))


@pytest.mark.parametrize("w", [1, 2])
def test_a_factor_of_width_makes_every_layer_as_many_times_wider(w):
    x, y = _batch(3, 32, 32)
    module = SimpleCNN(times_wider=w, outputs=10).build((x, y), _generator())
    widths = [3, 32 * w, 32 * w, 64 * w, 64 * w]
    expected = sum(9 * a * b + b for a, b in pairwise(widths))
    expected += 128 * w * (64 * w * 64 + 1) + 10 * (128 * w + 1)
    assert _count(module) == expected == {1: 591_274, 2: 2_360_138}[w]


def test_the_default_initialisation_has_the_bits_of_pytorchs_own():
    x, y = _batch(3, 32, 32)
    module = LeNet(outputs=10).build((x, y), _generator(3))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        own = [
            nn.Conv2d(3, 6, 5),
            nn.Conv2d(6, 16, 5),
            nn.Linear(400, 120),
            nn.Linear(120, 84),
            nn.Linear(84, 10),
        ]
    theirs = [parameter for layer in own for parameter in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), theirs, strict=True))


def test_the_variance_of_a_convolution_counts_channels_and_pixels():
    x, y = _batch(3, 32, 32)
    model = SimpleCNN(initialisation="kaiming_normal", scale=0.5, outputs=10)
    weight = model.build((x, y), _generator()).conv4.weight.detach().double()
    assert float(weight.var()) == pytest.approx(0.25 * 2 / (64 * 9), rel=0.03)


@pytest.mark.parametrize("model", [LeNet(outputs=10), SimpleCNN(channels=(2, 3), hidden=4, outputs=10)])
def test_weights_depend_on_the_generator_alone(model):
    before = torch.get_rng_state()
    first, again, other = (model.build(_batch(1, 8, 8), _generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("model", [LeNet(), SimpleCNN(channels=(2, 3), hidden=4)])
def test_outputs_follow_the_targets(model):
    x, y = _batch(8, 8, n=10)  # no channel dimension
    assert model.build((x, y), _generator())(x).shape == (10, 10)
    soft = torch.full((10, 4), 0.25)
    assert model.build((x, soft), _generator())(x).shape == (10, 4)
    assert model.build((x, soft[:, 0]), _generator())(x).shape == (10,)
    assert model.build((x, torch.rand(10, 2, 3)), _generator())(x).shape == (10, 2, 3)


def test_with_smooth_layers_the_hessian_is_that_of_autograd():
    model = SimpleCNN(channels=(1, 2), hidden=2, activation="tanh", pooling="average", bias=False)
    x, y = _batch(1, 4, 4)
    module = model.build((x, y), _generator()).double()
    landscape = Landscape(module, "cross_entropy", (x.double(), y))
    theta = landscape.initial()

    def loss(weights):
        output = torch.func.functional_call(module, landscape.layout.split(weights), (x.double(),))
        return F.cross_entropy(output, y)

    torch.testing.assert_close(
        landscape.hessian(theta).dense(),
        torch.autograd.functional.hessian(loss, theta),
        rtol=1e-10,
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (LeNet(), _batch(64), r"LeNet is built for images.*\(3, 64\).*flatten=False"),
        (SimpleCNN(), _batch(64), "SimpleCNN is built for images"),
        (SimpleCNN(), _batch(1, 3, 8), "3 x 8 pixels"),
        (SimpleCNN(outputs=2), _batch(1, 8, 8), "SimpleCNN: outputs=2, but the data holds the class 2"),
        (LeNet(), {"x": 1}, "LeNet is built for batches that are a pair"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_a_cure(model, batch, message):
    with pytest.raises(ConfigurationError, match=message):
        model.build(batch, _generator())


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (LeNet, {"pooling": "maxx"}, r"LeNet: pooling='maxx'.*Did you mean 'max'"),
        (SimpleCNN, {"times_wider": 0}, "SimpleCNN: times_wider=0"),
        (SimpleCNN, {"channels": (3,)}, r"SimpleCNN: channels=\(3,\)"),
        (SimpleCNN, {"hidden": 2.5}, r"SimpleCNN: hidden=2.5"),
        (SimpleCNN, {"scale": -1.0}, r"SimpleCNN: scale=-1.0"),
    ],
)
def test_impossible_fields_are_refused_by_value(cls, fields, message):
    with pytest.raises(ConfigurationError, match=message):
        cls(**fields)


def test_the_models_keep_the_rules_of_a_component():
    for cls in (LeNet, SimpleCNN):
        check_component(cls)
        check_component(cls(activation="gelu", pooling="max", bias=False, outputs=3, scale=0.5))
    check_component(SimpleCNN(times_wider=2, channels=(4, 8), hidden=16))
