"""MLP against nn.Linear, formulas for variances, and bad input."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from landscape.errors import ConfigurationError
from landscape.interfaces import Model
from landscape.testing import check_component
from landscape_networks.mlp import MLP


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _classes(n=20, inputs=64, classes=10):
    return torch.rand(n, inputs, generator=_generator(1)), torch.arange(n) % classes


def _by_hand(module, x, activation):
    """The formula of the docstring, with the weights read off by name."""
    state = module.state_dict()
    depth = sum(name.endswith("weight") for name in state)
    a = x.reshape(len(x), -1)
    for layer in range(1, depth + 1):
        a = a @ state[f"layer{layer}.weight"].T + state.get(f"layer{layer}.bias", 0)
        if layer < depth:
            a = activation(a)
    return a


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("tanh", torch.tanh),
        ("relu", lambda a: a.clamp(min=0)),
        ("sigmoid", lambda a: 1 / (1 + torch.exp(-a))),
        ("identity", lambda a: a),
        ("softplus", lambda a: torch.log1p(torch.exp(a))),
        ("silu", lambda a: a / (1 + torch.exp(-a))),
        ("gelu", lambda a: a * 0.5 * (1 + torch.erf(a / math.sqrt(2)))),
        ("leaky_relu", lambda a: torch.where(a > 0, a, 0.01 * a)),
        ("elu", lambda a: torch.where(a > 0, a, torch.exp(a) - 1)),
    ],
)
def test_the_module_computes_the_documented_formula(name, function):
    x, y = _classes()
    module = MLP(hidden=(7, 5), activation=name).build((x, y), _generator())
    torch.testing.assert_close(module(x), _by_hand(module, x, function))


def test_the_default_initialisation_has_the_bits_of_pytorchs_own():
    batch = _classes()
    module = MLP(hidden=(100, 100), activation="relu").build(batch, _generator(3))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        own = nn.Sequential(nn.Linear(64, 100), nn.Linear(100, 100), nn.Linear(100, 10))
    for ours, theirs in zip(module.parameters(), own.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("initialisation", "variance"),
    [
        ("pytorch", lambda m, n: 1 / (3 * m)),
        ("xavier_uniform", lambda m, n: 2 / (m + n)),
        ("xavier_normal", lambda m, n: 2 / (m + n)),
        ("kaiming_uniform", lambda m, n: 2 / m),
        ("kaiming_normal", lambda m, n: 2 / m),
        ("normal", lambda m, n: 1.0),
    ],
)
def test_initial_weights_have_the_documented_variance(initialisation, variance):
    scale = 0.5
    model = MLP(hidden=(300,), initialisation=initialisation, scale=scale)
    module = model.build(_classes(inputs=200), _generator())
    weight = module.layer1.weight.detach().double()
    expected = scale**2 * variance(200, 300)
    # 60,000 entries: the relative standard error of a variance is at most sqrt(2/60000) = 0.6 %.
    assert float(weight.var()) == pytest.approx(expected, rel=0.03)
    assert abs(float(weight.mean())) < 4 * math.sqrt(expected / weight.numel())


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    MLP().build(_classes(), _generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_one_generator_state_gives_one_set_of_weights():
    first, second, other = (MLP().build(_classes(), _generator(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.layer1.weight, other.layer1.weight)


@given(
    hidden=st.lists(st.integers(1, 6), max_size=3).map(tuple),
    shape=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    target=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_outputs_have_the_shape_of_floating_point_targets(hidden, shape, target, bias):
    x, y = torch.rand(4, *shape), torch.rand(4, *target)
    module = MLP(hidden=hidden, bias=bias).build((x, y), _generator())
    assert module(x).shape == y.shape
    assert module(x[:1]).shape == y[:1].shape
    widths = (math.prod(shape), *hidden, math.prod(target))
    expected = sum(n * (m + bias) for m, n in pairwise(widths))
    assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_the_number_of_classes_is_read_from_the_example_or_given():
    x, _ = _classes(n=3)
    y = torch.tensor([0, 4, 2])
    assert MLP(hidden=()).build((x, y), _generator())(x).shape == (3, 5)
    assert MLP(hidden=(), outputs=10).build((x, y), _generator())(x).shape == (3, 10)
    with pytest.raises(ConfigurationError, match=r"outputs=3, but the data holds the class 4.*at least 5"):
        MLP(outputs=3).build((x, y), _generator())


def test_images_are_flattened():
    x, y = _classes()
    module = MLP().build((x.reshape(20, 1, 8, 8), y), _generator())
    assert torch.equal(module(x.reshape(20, 1, 8, 8)), module(x))


def test_the_model_is_a_value():
    assert issubclass(MLP, Model)
    assert MLP(hidden=[10, 20]) == MLP(hidden=(10, 20))
    assert hash(MLP(hidden=[10, 20])) == hash(MLP(hidden=(10, 20)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "tanhh"}, r"activation='tanhh'.*Did you mean 'tanh'\?"),
        ({"initialisation": "xavier"}, r"initialisation='xavier'.*Did you mean 'xavier_\w+'\?"),
        ({"hidden": (10, 0)}, r"hidden=\(10, 0\)"),
        ({"hidden": (10, 2.5)}, r"hidden=\(10, 2.5\)"),
        ({"outputs": 0}, r"outputs=0"),
        ({"scale": -1.0}, r"scale=-1.0"),
        ({"scale": math.nan}, r"scale=nan"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        MLP(**fields)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": torch.rand(2, 3)}, "pair .x, y. of tensors, got dict"),
        ((torch.rand(2, 3), torch.tensor(1)), "pair"),
        ((torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.long)), "one-hot"),
    ],
)
def test_batches_that_fit_no_mlp_are_refused_with_a_cure(batch, message):
    with pytest.raises(ConfigurationError, match=message):
        MLP().build(batch, _generator())


def test_outputs_that_contradict_floating_point_targets_are_refused():
    with pytest.raises(ConfigurationError, match="outputs=3"):
        MLP(outputs=3).build((torch.rand(2, 3), torch.rand(2, 2)), _generator())


def test_the_model_keeps_the_rules_of_a_component():
    check_component(MLP)
    check_component(MLP(hidden=(), outputs=3, activation="relu", initialisation="xavier_normal", scale=0.5))
