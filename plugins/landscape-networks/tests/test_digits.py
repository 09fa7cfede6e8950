"""Digits against scikit-learn's own arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from landscape.errors import ConfigurationError
from landscape.testing import check_component
from landscape_networks.digits import Digits


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _all(data):
    return data.take(torch.arange(data.examples))


def test_without_a_test_split_the_data_are_scikit_learns():
    splits = Digits(test_fraction=0.0).load(_generator())
    assert list(splits) == ["train"]
    x, y = _all(splits["train"])
    pixels, digits = load_digits(return_X_y=True)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.shape == (1797, 64)
    np.testing.assert_array_equal(x.numpy() * 16, pixels)
    np.testing.assert_array_equal(y.numpy(), digits)


@given(fraction=st.floats(0.01, 0.9), examples=st.none() | st.integers(20, 1797), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_split_is_a_stratified_partition(fraction, examples, seed):
    splits = Digits(test_fraction=fraction, examples=examples).load(_generator(seed))
    total = examples or 1797
    sizes = {name: data.examples for name, data in splits.items()}
    assert sum(sizes.values()) == total
    assert sizes.get("test", 0) == round(fraction * total)
    pixels, digits = load_digits(return_X_y=True)
    whole = {row.tobytes() for row in (pixels / 16).astype(np.float32)}
    parts = [_all(data) for data in splits.values()]
    rows = [row.tobytes() for x, _ in parts for row in x.numpy()]
    assert len(set(rows)) == len(rows)  # the 1,797 images are all different, so no image is in both parts
    assert set(rows) <= whole
    shares = np.bincount(digits, minlength=10) / 1797
    for _, y in parts:
        # Two roundings, of the subset and of the split, move a class by at most one image each.
        assert np.abs(np.bincount(y.numpy(), minlength=10) - shares * len(y)).max() <= 2


def test_images_keep_their_labels():
    lookup = {
        row.tobytes(): digit
        for row, digit in zip((load_digits().data / 16).astype(np.float32), load_digits().target, strict=True)
    }
    for data in Digits(examples=300).load(_generator()).values():
        x, y = _all(data)
        assert [lookup[row.tobytes()] for row in x.numpy()] == y.tolist()


def test_the_split_depends_on_the_generator_alone():
    first, again, other = (Digits().load(_generator(seed)) for seed in (1, 1, 2))
    assert first["train"].fingerprint() == again["train"].fingerprint()
    assert first["test"].fingerprint() == again["test"].fingerprint()
    assert first["test"].fingerprint() != other["test"].fingerprint()


def test_the_global_random_state_is_left_alone():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    Digits(examples=100).load(_generator())
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_centring_subtracts_the_training_mean_from_both_splits():
    plain, centred = Digits().load(_generator()), Digits(centre=True).load(_generator())
    mean = _all(plain["train"])[0].numpy().astype(np.float64).mean(axis=0)
    for split in ("train", "test"):
        x = _all(plain[split])[0].numpy()
        np.testing.assert_allclose(_all(centred[split])[0].numpy(), x - mean, atol=1e-7)


def test_images_can_keep_their_shape():
    flat, images = Digits().load(_generator()), Digits(flatten=False).load(_generator())
    x = _all(images["train"])[0]
    assert x.shape == (1438, 1, 8, 8)
    assert torch.equal(x.flatten(1), _all(flat["train"])[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_fraction": 1.0}, r"test_fraction=1.0.*less than 1"),
        ({"test_fraction": -0.1}, r"test_fraction=-0.1"),
        ({"examples": 5000}, r"examples=5000.*1797"),
        ({"examples": 3}, r"examples=3"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Digits(**fields)


def test_the_dataset_keeps_the_rules_of_a_component():
    check_component(Digits)
    check_component(Digits(test_fraction=0.5, examples=100, centre=True, flatten=False))
