"""A training loop of the user's own, measured by a Recorder that leaves no trace in it."""

import copy
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import landscape as ls

PATH_PROBES = ("Loss", "GradientNorm", "WeightNorm", "CosineWithStart", "DistanceFromStart")
PATH_COLUMNS = ("loss", "gradient_norm", "weight_norm", "cosine_with_start", "distance_from_start")
CURVATURE_COLUMNS = ("hessian_eigenvalue_1", "hessian_eigenvalue_2", "hessian_eigenvalue_3")
OTHER_COLUMNS = ("covariance_eigenvalue_1", "gradient_hessian_overlap_1", "gradient_hessian_overlap_3")


def _probes():
    """Every probe there is for one point of a path."""
    return [
        *PATH_PROBES,
        ls.probes.HessianSpectrum(k=3),
        ls.probes.GradientHessianOverlap(k=3),
        ls.probes.GradientCovariance(batches=4, batch_size=8),
    ]


class Block(nn.Module):
    """Two convolutions with normalisation and dropout, and a way around them."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(0.2)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, x):
        inside = self.dropout(torch.relu(self.norm1(self.conv1(x))))
        return torch.relu(self.norm2(self.conv2(inside)) + self.shortcut(x))


class ResNet(nn.Module):
    """What a user brings: convolutions, BatchNorm, dropout, pooling."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1 = Block(4, 4, 1)
        self.layer2 = Block(4, 8, 2)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, classes))

    def forward(self, x):
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


def _images(n=48, classes=4):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(n, 1, 8, 8, generator=generator),
        torch.randint(classes, (n,), generator=generator),
    )


def _seed_everything():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def _leave_global_randomness_to_other_tests():
    from landscape.randomness import preserved_random_state

    with preserved_random_state():
        yield


def _everything(net, sgd):
    """Whatever of a training could have been touched, copied."""
    legacy = np.random.get_state()
    return {
        "parameters": [p.detach().clone() for p in net.parameters()],
        "buffers": [b.clone() for b in net.buffers()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "momentum": copy.deepcopy([sgd.state[p].get("momentum_buffer") for p in net.parameters()]),
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "training": [m.training for m in net.modules()],
        "torch": torch.get_rng_state(),
        "numpy": (legacy[0], torch.from_numpy(legacy[1].astype(np.int64)), *legacy[2:]),
        "python": random.getstate(),
    }


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _train(store=None, *, recorded, epochs=2):
    """Return what training left behind at every step, and the recorder."""
    _seed_everything()
    x, y = _images()
    loader = DataLoader(TensorDataset(x, y), batch_size=12, shuffle=True)
    net = ResNet()
    identities = [id(tensor) for tensor in (*net.parameters(), *net.buffers())]
    net.layer1.norm1.eval()  # one part frozen in eval mode, which must stay so
    net.stem[0].weight.requires_grad_(False)
    sgd = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    watch = None
    if recorded:
        landscape = ls.Landscape(net, "cross_entropy", loader)
        watch = ls.Recorder(landscape, [*_probes(), "Score"], every=3, store=store)
    history, step = [_everything(net, sgd)], 0
    for _ in range(epochs):
        for inputs, targets in loader:
            if watch is not None:
                watch(step)
            history.append(_everything(net, sgd))
            sgd.zero_grad()
            noise = random.random() * 1e-3 + np.random.rand() * 1e-3
            F.cross_entropy(net(inputs + noise), targets).backward()
            sgd.step()
            history.append(_everything(net, sgd))
            step += 1
    assert [id(tensor) for tensor in (*net.parameters(), *net.buffers())] == identities
    return history, watch


@pytest.mark.parametrize("stored", [False, True])
def test_training_under_a_recorder_is_bit_identical_to_training_without(tmp_path, stored):
    alone, _ = _train(recorded=False)
    watched, watch = _train(tmp_path / "runs" if stored else None, recorded=True)
    watch.close()
    assert len(alone) == len(watched) == 17
    for moment, (without, with_recorder) in enumerate(zip(alone, watched, strict=True)):
        for what in without:
            assert _same(without[what], with_recorder[what]), f"{what} differ at moment {moment}"
    # The training did something that could have been disturbed.
    assert not _same(alone[0]["buffers"], alone[-1]["buffers"])
    assert not _same(alone[0]["torch"], alone[-1]["torch"])
    # And the recorder measured something.
    metrics = watch.metrics
    assert list(metrics["step"]) == [0, 3, 6]
    columns = (*PATH_COLUMNS, "score", *CURVATURE_COLUMNS, *OTHER_COLUMNS)
    assert np.isfinite(metrics.loc[1:, list(columns)].to_numpy(float)).all()
    if stored:
        run = watch.run
        assert list(ls.open(run.path).metrics["step"]) == [0, 3, 6]


def test_what_a_recorder_measures_belongs_to_the_weights_and_buffers_of_that_step_in_eval_mode():
    _seed_everything()
    x, y = _images()
    net = ResNet()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    watch = ls.Recorder(
        ls.Landscape(net, "cross_entropy", DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)),
        ["Loss", "Score", "GradientNorm", "WeightNorm", "DistanceFromStart"],
        every=1,
    )
    expected = []
    start = torch.cat([p.detach().flatten() for p in net.parameters()]).double()
    for step in range(4):
        watch(step)
        judge = copy.deepcopy(net).eval()
        loss = F.cross_entropy(judge(x), y)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in judge.parameters()]).double()
        theta = torch.cat([p.detach().flatten() for p in judge.parameters()]).double()
        expected.append(
            [
                loss.item(),
                float((judge(x).argmax(1) == y).double().mean()),
                float(gradient.norm()),
                float(theta.norm()),
                float((theta - start).norm()),
            ]
        )
        sgd.zero_grad()
        F.cross_entropy(net(x), y).backward()
        sgd.step()
    columns = ["loss", "score", "gradient_norm", "weight_norm", "distance_from_start"]
    np.testing.assert_allclose(watch.metrics[columns].to_numpy(float), expected, rtol=1e-5, atol=1e-7)


# -- losses inside the model, batches that are dictionaries -----------------------------------------------


class Tagger(nn.Module):
    """A model in the manner of transformer libraries: takes keywords, returns its loss."""

    def __init__(self, vocabulary=7, width=5, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens, mask, labels=None):
        hidden = torch.tanh(self.mix(self.embedding(tokens)))
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = self.head(pooled)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


class Sentences(Dataset):
    """Yields dictionaries."""

    def __init__(self, n=40):
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(7, (n, 6), generator=generator)
        self.mask = (torch.rand(n, 6, generator=generator) < 0.8).float()
        self.mask[:, 0] = 1
        self.labels = torch.randint(3, (n,), generator=generator)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"tokens": self.tokens[index], "mask": self.mask[index], "labels": self.labels[index]}


class Unpacked(nn.Module):
    """The same weights behind (x, y) batches, as the reference."""

    def __init__(self, tagger):
        super().__init__()
        self.tagger = tagger

    def forward(self, tokens, mask):
        return self.tagger(tokens, mask)["logits"]


def _own_loss(model, batch):
    return model(**batch)["loss"]


def _own_score(model, batch):
    return (model(batch["tokens"], batch["mask"])["logits"].argmax(1) == batch["labels"]).float().mean()


def _taggers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tagger = Tagger()
    sentences = Sentences()
    loader = DataLoader(sentences, batch_size=16, shuffle=True)
    inside = ls.Landscape(
        tagger, ls.BatchLoss(_own_loss), loader, score=ls.BatchLoss(_own_score), dtype=torch.float64
    )
    pairs = ((sentences.tokens, sentences.mask), sentences.labels)
    outside = ls.Landscape(Unpacked(tagger), "cross_entropy", pairs, dtype=torch.float64)
    return inside, outside


def test_a_loss_inside_the_model_on_dictionary_batches_works_in_every_probe():
    inside, outside = _taggers()
    probes = [*_probes(), "Score"]
    # 40 examples in batches of 16: the short batch counts by its examples, as in one batch of 40.
    got, expected = ls.measure(inside, probes).iloc[0], ls.measure(outside, probes).iloc[0]
    columns = [*PATH_COLUMNS, "score", *CURVATURE_COLUMNS, *OTHER_COLUMNS]
    columns = [column for column in columns if not column.startswith("covariance")]
    np.testing.assert_allclose(got[columns].astype(float), expected[columns].astype(float), rtol=1e-6)
    assert got["covariance_eigenvalue_1"] > 0


def test_the_hessian_of_a_loss_inside_the_model_is_autograds():
    inside, outside = _taggers()
    theta = inside.initial()

    inputs, labels = next(iter(outside.batches()))

    def loss(vector):
        logits = torch.func.functional_call(outside.module, outside.layout.split(vector), inputs)
        return nn.functional.cross_entropy(logits, labels)

    truth = torch.autograd.functional.hessian(loss, theta)
    eigenvalues = torch.linalg.eigvalsh(truth).flip(0)[:3]
    spectrum = ls.Point(inside, theta).measure("HessianSpectrum", k=3, tolerance=1e-6)
    measured = [spectrum.scalars[column] for column in CURVATURE_COLUMNS]
    np.testing.assert_allclose(measured, eigenvalues, rtol=1e-5)


def test_a_recorder_follows_the_training_of_a_model_with_a_loss_of_its_own():
    _seed_everything()
    tagger = Tagger()
    loader = DataLoader(Sentences(), batch_size=8, shuffle=True)
    adam = torch.optim.Adam(tagger.parameters(), lr=0.05)
    watch = ls.Recorder(ls.Landscape(tagger, ls.BatchLoss(_own_loss), loader), _probes(), every=5)
    for step, batch in enumerate(batch for _ in range(3) for batch in loader):
        watch(step)
        adam.zero_grad()
        tagger(**batch)["loss"].backward()
        adam.step()
    assert list(watch.metrics["step"]) == [0, 5, 10]
    losses = watch.metrics["loss"].tolist()
    assert losses[0] > losses[1] > losses[2]
    assert watch.metrics["distance_from_start"].is_monotonic_increasing


def test_a_score_that_the_landscape_does_not_have_is_asked_for_in_vain():
    tagger = Tagger()
    landscape = ls.Landscape(tagger, ls.BatchLoss(_own_loss), DataLoader(Sentences(), batch_size=8))
    with pytest.raises(ls.LandscapeError, match="has no score"):
        ls.measure(landscape, ["Score"])


def test_what_landscape_imports_late_draws_from_no_global_random_state():
    # In a process of its own, where nothing of landscape has been imported yet.
    program = """
import random, numpy, torch
random.seed(0); numpy.random.seed(0); torch.manual_seed(0)
before = random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state()
import landscape as ls
net = torch.nn.utils.skip_init(torch.nn.Linear, 64, 10)
torch.nn.init.zeros_(net.weight), torch.nn.init.zeros_(net.bias)
data = ls.datasets.Digits(examples=100).load(torch.Generator())["train"]
probes = ["Loss", ls.probes.HessianSpectrum(k=2), ls.probes.GradientCovariance(batches=3, batch_size=9)]
watch = ls.Recorder(ls.Landscape(net, "cross_entropy", data), probes)
watch(0)
assert len(watch.metrics) == len(ls.measure(watch.landscape, probes)) == 1
assert random.getstate() == before[0]
assert repr(numpy.random.get_state()) == before[1]
assert torch.equal(torch.get_rng_state(), before[2])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
