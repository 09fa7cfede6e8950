"""FunctionFit and GaussianClusters against quadrature, closed forms and nearest centres."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial.distance import pdist
from scipy.special import ndtr

from landscape import Landscape
from landscape.errors import ConfigurationError
from landscape.testing import check_component
from landscape_networks.mlp import MLP
from landscape_networks.synthetic import FunctionFit, GaussianClusters


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _target(x):
    return 4 * math.sin(math.exp(x / 8)) - 5 * math.cos(x) + math.exp(x / 8)


@given(examples=st.integers(2, 300), fraction=st.floats(0, 0.5), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_targets_are_the_function_of_the_inputs(examples, fraction, seed):
    splits = FunctionFit(examples=examples, test_fraction=fraction).load(_generator(seed))
    assert sum(data.examples for data in splits.values()) == examples
    assert (splits["test"].examples if "test" in splits else 0) == round(fraction * examples)
    for data in splits.values():
        x, y = data.everything()
        assert x.shape == y.shape == (data.examples, 1)
        assert float(x.min()) >= 0
        assert float(x.max()) <= 20
        np.testing.assert_allclose(y[:, 0], [_target(v) for v in x[:, 0].tolist()], rtol=1e-12, atol=1e-12)


def test_standardised_inputs_and_targets_are_those_of_the_uniform_distribution():
    plain = FunctionFit(examples=500).load(_generator())["train"].everything()
    x, y = FunctionFit(examples=500, standardise=True).load(_generator())["train"].everything()
    mean = quad(_target, 0, 20, limit=500)[0] / 20
    variance = quad(lambda v: (_target(v) - mean) ** 2, 0, 20, limit=500)[0] / 20
    torch.testing.assert_close(x, plain[0] / 10 - 1)
    torch.testing.assert_close(y, (plain[1] - mean) / math.sqrt(variance), rtol=1e-9, atol=1e-9)


def test_rectifiers_without_bias_are_a_line_and_no_better_than_the_best_one():
    splits = FunctionFit(examples=400).load(_generator())
    x, y = splits["train"].everything()
    model = MLP(hidden=(70, 70, 70), activation="relu", bias=False)
    for seed in range(3):
        module = model.build((x, y), _generator(seed)).double()
        with torch.no_grad():
            torch.testing.assert_close(
                module(x), x * module(torch.ones(1, 1).double()), rtol=1e-12, atol=1e-12
            )
    # The slope that is best by least squares bounds whatever the network can reach.
    best = (y - x * (x * y).sum() / (x * x).sum()).square().mean()
    assert float(Landscape(module, "mse", (x, y)).value(torch.zeros(9940).double())) > float(best)
    line = quad(lambda v: v * _target(v), 0, 20, limit=500)[0] / quad(lambda v: v * v, 0, 20)[0]
    error = quad(lambda v: (_target(v) - line * v) ** 2, 0, 20, limit=500)[0] / 20
    assert error == pytest.approx(28.4, abs=0.05)  # what the docstring says
    assert float(best) == pytest.approx(error, rel=0.2)


def test_with_bias_the_network_is_no_line():
    x, y = FunctionFit(examples=100).load(_generator())["train"].everything()
    module = MLP(hidden=(70, 70, 70), activation="relu").build((x, y), _generator()).double()
    with torch.no_grad():
        ratio = module(x) / x
    assert float(ratio.std()) > 1e-3


@given(classes=st.integers(2, 6), more=st.integers(0, 4), seed=st.integers(0, 9), d=st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_centres_have_one_distance_and_the_origin_as_their_mean(classes, more, seed, d):
    dimension = classes - 1 + more
    dataset = GaussianClusters(classes, dimension, examples=40, separation=d, spread=0, test_fraction=0)
    x, y = dataset.load(_generator(seed))["train"].everything()
    centres = np.stack([x[y == label][0] for label in range(classes)])
    np.testing.assert_allclose(pdist(centres), d, rtol=1e-10)
    np.testing.assert_allclose(centres.mean(0), 0, atol=1e-10)
    for label in range(classes):
        assert (x[y == label] == x[y == label][0]).all()


def test_the_nearest_centre_is_right_as_often_as_the_formula_says():
    still = GaussianClusters(2, 3, examples=20_000, separation=3.0, spread=0, test_fraction=0)
    noisy = GaussianClusters(2, 3, examples=20_000, separation=3.0, spread=1.5, test_fraction=0)
    centres, labels = still.load(_generator())["train"].everything()
    x, y = noisy.load(_generator())["train"].everything()
    assert torch.equal(labels, y)
    means = torch.stack([centres[y == label][0] for label in range(2)])
    accuracy = float((torch.cdist(x, means).argmin(1) == y).double().mean())
    # sqrt(p (1 - p) / n) is 0.26 %.
    assert accuracy == pytest.approx(float(ndtr(3.0 / (2 * 1.5))), abs=0.01)
    assert torch.allclose((x - centres).std(0), torch.tensor(1.5).double(), rtol=0.02)


def test_classes_are_equally_frequent_and_in_no_order():
    splits = GaussianClusters(classes=3, examples=100).load(_generator())
    counts = [np.bincount(data.everything()[1].numpy()) for data in splits.values()]
    assert sorted(sum(counts).tolist()) == [33, 33, 34]
    assert all(np.ptp(count) <= 1 for count in counts)
    y = splits["train"].everything()[1]
    assert (y[1:] < y[:-1]).any()


@pytest.mark.parametrize("dataset", [FunctionFit(), GaussianClusters()])
def test_data_depends_on_the_generator_alone(dataset):
    before = torch.get_rng_state()
    first, again, other = (dataset.load(_generator(seed))["train"].fingerprint() for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (FunctionFit, {"examples": 0}, "FunctionFit: examples=0"),
        (FunctionFit, {"test_fraction": 1.0}, r"FunctionFit: test_fraction=1.0"),
        (GaussianClusters, {"classes": 4, "dimension": 2}, r"classes=4 in dimension=2.*at most.*\(3\)"),
        (GaussianClusters, {"classes": 1}, "at least 2 classes"),
        (GaussianClusters, {"examples": 2}, "examples=2 for 3 classes"),
        (GaussianClusters, {"spread": -1.0}, r"spread=-1.0"),
    ],
)
def test_impossible_fields_are_refused_by_value(cls, fields, message):
    with pytest.raises(ConfigurationError, match=message):
        cls(**fields)


@pytest.mark.parametrize("dataset", [FunctionFit(1, 0.9), GaussianClusters(examples=3, test_fraction=0.9)])
def test_a_split_that_leaves_nothing_for_training_is_refused(dataset):
    with pytest.raises(ConfigurationError, match="leaves none for training"):
        dataset.load(_generator())


def test_the_datasets_keep_the_rules_of_a_component():
    for cls in (FunctionFit, GaussianClusters):
        check_component(cls)
    check_component(FunctionFit(examples=5, test_fraction=0.5, standardise=True))
    check_component(GaussianClusters(classes=4, dimension=7, separation=1.0, spread=0.1))
