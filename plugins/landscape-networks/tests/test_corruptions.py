"""Corruptions against the data they are made of."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import ConfigurationError, DataError
from landscape.interfaces import Dataset
from landscape.objective import as_data
from landscape.randomness import torch_generator
from landscape.testing import check_component
from landscape_networks.corruptions import (
    DoubleImages,
    NoiseInputs,
    NoiseLines,
    RandomLabels,
    ScrambledLabels,
    Seeded,
    SoftLabels,
)
from landscape_networks.digits import Digits
from landscape_networks.mlp import MLP
from landscape_networks.synthetic import FunctionFit


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _parts(dataset, seed=0):
    return {name: data.everything() for name, data in dataset.load(_generator(seed)).items()}


FLAT = Digits(examples=400)
IMAGES = Digits(examples=400, flatten=False)
ONE_OF_EACH = [
    DoubleImages(FLAT),
    ScrambledLabels(FLAT),
    RandomLabels(FLAT, 0.5),
    NoiseInputs(FLAT),
    NoiseLines(IMAGES, rows=2, columns=2),
    SoftLabels(FLAT),
    Seeded(FLAT, seed=7),
]
TRAINING_ONLY = ONE_OF_EACH[1:-1]


def _name(dataset):
    return type(dataset).__name__


@pytest.mark.parametrize("dataset", TRAINING_ONLY, ids=_name)
def test_the_test_data_is_the_bases_own(dataset):
    for seed in (0, 1):
        assert all(
            torch.equal(a, b)
            for a, b in zip(_parts(dataset, seed)["test"], _parts(dataset.base, seed)["test"], strict=True)
        )


@pytest.mark.parametrize("dataset", ONE_OF_EACH, ids=_name)
def test_corruption_depends_on_the_generator_alone(dataset):
    before = torch.get_rng_state()
    first, again = (dataset.load(_generator(3))["train"].fingerprint() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again
    other = dataset.load(_generator(4))["train"].fingerprint()
    assert (first == other) == isinstance(dataset, Seeded)


def test_doubles_are_two_images_of_one_split_and_the_sum_of_their_labels():
    for base, width in ((FLAT, 64), (IMAGES, 8)):
        single, double = _parts(base), _parts(DoubleImages(base))
        for split in ("train", "test"):
            x, y = single[split]
            lookup = {image.numpy().tobytes(): int(label) for image, label in zip(x, y, strict=True)}
            both, total = double[split]
            left, right = both.split(width, dim=-1)
            assert both.shape == (*x.shape[:-1], 2 * x.shape[-1])
            assert torch.equal(left, x)
            # Every image is once on the right: no image is used twice, and none of the other split.
            labels = [lookup.pop(image.contiguous().numpy().tobytes()) for image in right]
            assert not lookup
            assert [(a + b) % 10 for a, b in zip(y.tolist(), labels, strict=True)] == total.tolist()
    assert not torch.equal(left, right)


def test_the_labels_of_doubles_are_modulo_the_number_of_classes():
    assert int(_parts(DoubleImages(FLAT))["train"][1].max()) == 9
    y, total = _parts(FLAT)["train"][1], _parts(DoubleImages(FLAT, classes=100))["train"][1]
    assert int(total.max()) > 9
    assert int(total.sum()) == 2 * int(y.sum())


def test_scrambled_labels_are_the_same_labels_elsewhere():
    (x, y), (same, scrambled) = _parts(Digits())["train"], _parts(ScrambledLabels(Digits()))["train"]
    assert torch.equal(x, same)
    assert torch.equal(y.sort().values, scrambled.sort().values)
    # One in ten is right by chance: 144 of 1438, give or take 11.
    assert 100 < int((y == scrambled).sum()) < 190


@given(fraction=st.floats(0, 1), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_no_more_labels_change_than_the_fraction_says(fraction, seed):
    (x, y), (same, labels) = _parts(FLAT, seed)["train"], _parts(RandomLabels(FLAT, fraction), seed)["train"]
    assert torch.equal(x, same)
    assert int((y != labels).sum()) <= round(fraction * len(y))
    assert labels.dtype == y.dtype
    assert int(labels.min()) >= 0
    assert int(labels.max()) <= 9


def test_random_labels_are_uniform_and_one_in_ten_keeps_its_own():
    (_, y), (_, labels) = _parts(Digits())["train"], _parts(RandomLabels(Digits(), 0.5))["train"]
    # 719 are drawn, of which a tenth keeps its label: 647 change, give or take 8.
    assert abs(int((y != labels).sum()) - 647) < 32
    (_, everything) = _parts(RandomLabels(Digits(), 1.0, classes=20))["train"]
    counts = np.bincount(everything.numpy(), minlength=20)
    # 72 each, give or take 8.3.
    assert counts.min() > 40
    assert counts.max() < 110


def test_noise_has_the_shape_of_the_inputs_and_nothing_else_of_them():
    (x, y), (noise, same) = _parts(Digits())["train"], _parts(NoiseInputs(Digits()))["train"]
    assert torch.equal(y, same)
    assert (noise.shape, noise.dtype) == (x.shape, x.dtype)
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


@given(rows=st.integers(0, 8), columns=st.integers(0, 8), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_noise_stands_in_the_same_lines_of_all_images_and_nowhere_else(rows, columns, seed):
    x, y = _parts(IMAGES, seed)["train"]
    noisy, same = _parts(NoiseLines(IMAGES, rows, columns), seed)["train"]
    assert torch.equal(y, same)
    changed = noisy != x
    assert (changed == changed[:1]).all()
    pattern = changed[0, 0]
    assert int(pattern.sum()) == 64 - (8 - rows) * (8 - columns)
    if columns < 8:
        assert int(pattern.all(1).sum()) == rows
    if rows < 8:
        assert int(pattern.all(0).sum()) == columns
    if pattern.sum() > 5:
        values = noisy[:, 0, pattern]
        assert abs(float(values.mean())) < 0.15
        assert float(values.std()) == pytest.approx(1, abs=0.15)
        assert float(values.std(0).min()) > 0.5  # another draw in every image


def test_noise_lines_leave_the_bases_tensors_alone():
    x = torch.rand(5, 3, 8, 8)
    before = x.clone()
    noisy, _ = _parts(NoiseLines(_Given(x, torch.arange(5)), rows=1, columns=1))["train"]
    assert torch.equal(x, before)
    changed = noisy != x
    assert (changed == changed[:, :1]).all()  # the same lines in all channels


def test_soft_labels_are_p_at_the_label_and_q_elsewhere():
    (x, y), (same, soft) = _parts(FLAT)["train"], _parts(SoftLabels(FLAT))["train"]
    assert torch.equal(x, same)
    assert soft.shape == (len(y), 10)
    torch.testing.assert_close(soft, torch.where(F.one_hot(y, 10) == 1, 0.91, 0.01))
    explicit = _parts(SoftLabels(FLAT, p=0.55, q=0.05))["train"][1]
    torch.testing.assert_close(explicit.sum(1), torch.ones(len(y)))
    assert _parts(SoftLabels(FLAT, classes=20))["train"][1].shape == (len(y), 20)


def test_an_experiment_learns_soft_labels_and_scores_them_by_the_most_probable_class():
    experiment = ls.Experiment(
        MLP(hidden=(6,)), SoftLabels(FLAT), ls.walkers.SGD(lr=0.1, batch_size=20),
        probes=("Score", "Loss"), dtype="float64",
    )  # fmt: skip
    landscapes = experiment.landscapes()
    theta = landscapes["train"].initial()
    for split, data in FLAT.load(torch_generator(0, "dataset")).items():
        x, y = data.everything()
        module = landscapes["train"].module
        output = torch.func.functional_call(
            module, landscapes["train"].layout.split(theta), (x.double(),)
        ).detach()
        target = F.one_hot(y, 10).double()
        if split == "train":
            target = torch.where(target == 1, 0.91, 0.01).double()
        loss = -(target * output.log_softmax(1)).sum(1).mean()
        # p and q were rounded to the float32 of the data.
        assert float(landscapes[split].value(theta)) == pytest.approx(float(loss), rel=1e-7)
        assert float(landscapes[split].score(theta)) == float((output.argmax(1) == y).double().mean())


def test_corruptions_can_be_put_into_one_another():
    (_, y), (_, soft) = (
        _parts(dataset)["train"] for dataset in (ScrambledLabels(FLAT), SoftLabels(ScrambledLabels(FLAT)))
    )
    assert torch.equal(soft.argmax(1), y)
    (_, permuted) = _parts(ScrambledLabels(SoftLabels(FLAT)))["train"]
    assert torch.equal(permuted.argmax(1), y)
    x, _ = _parts(NoiseLines(DoubleImages(IMAGES), rows=1, columns=1))["train"]
    assert x.shape[1:] == (1, 8, 16)


def test_the_corruption_and_its_seed_are_in_the_record_of_an_experiment():
    experiment = ls.Experiment(MLP(hidden=(6,)), RandomLabels(FLAT, 0.3), ls.walkers.SGD(lr=0.1), seed=5)
    again = ls.loads(ls.dumps(experiment))
    assert again == experiment
    assert (again.dataset.fraction, again.seed) == (0.3, 5)
    found = again.landscapes()["train"].data.fingerprint()
    assert found == experiment.landscapes()["train"].data.fingerprint()
    assert found != experiment.replace(seed=6).landscapes()["train"].data.fingerprint()
    seeded = [
        experiment.replace(dataset=Seeded(experiment.dataset, seed=5), seed=seed).landscapes()["train"]
        for seed in (5, 6)
    ]
    assert [landscape.data.fingerprint() for landscape in seeded] == [found, found]
    assert not torch.equal(seeded[0].initial(), seeded[1].initial())


@frozen(eq=False)
class _Given(Dataset):
    """Tensors as they are."""

    x: torch.Tensor
    y: torch.Tensor

    def load(self, generator):
        return {"train": as_data((self.x, self.y))}


@frozen
class _Single(Dataset):
    """Data of another form than pairs."""

    name: str = "train"

    def load(self, generator):
        return {self.name: as_data((torch.zeros(3, 2),))}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (RandomLabels(FunctionFit()), r"RandomLabels needs class numbers.*FunctionFit are torch.float64"),
        (DoubleImages(SoftLabels(FLAT)), "Corruptions of labels go inside SoftLabels"),
        (SoftLabels(FLAT, classes=5), r"classes=5, but the data holds the class 9; give at least 10"),
        (NoiseLines(FLAT), r"NoiseLines needs images.*\(320, 64\).*flatten=False"),
        (NoiseLines(IMAGES, rows=9), "9 rows and 7 columns of images with 8 x 8"),
        (NoiseInputs(_Single()), "split 'train' of _Single is no pair"),
        (SoftLabels(_Given(torch.zeros(3, 2), torch.zeros(3).long())), "one class only"),
    ],
)
def test_data_that_cannot_be_corrupted_like_this_is_refused_with_a_cure(dataset, message):
    with pytest.raises(DataError, match=message):
        dataset.load(_generator())


def test_soft_labels_that_do_not_sum_to_one_are_refused_with_the_ones_that_do():
    with pytest.raises(ConfigurationError, match=r"sum to 1.36, not to 1; leave q out, which makes it 0.01"):
        SoftLabels(FLAT, q=0.05).load(_generator())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomLabels(FLAT, 1.5), r"RandomLabels: fraction=1.5"),
        (lambda: SoftLabels(FLAT, p=-0.1), r"SoftLabels: p=-0.1"),
        (lambda: SoftLabels(FLAT, p=math.nan), "SoftLabels: p=nan"),
        (lambda: ScrambledLabels("Digits"), "base='Digits' is no dataset"),
        (lambda: NoiseLines(IMAGES, rows=-1), "rows=-1"),
        (lambda: DoubleImages(FLAT, classes=0), "classes=0"),
    ],
)
def test_impossible_fields_are_refused_by_value(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("dataset", ONE_OF_EACH, ids=_name)
def test_the_corruptions_keep_the_rules_of_a_component(dataset):
    check_component(dataset)
