"""Noise of examples that count differently, against dense matrices and drawn batches; and what has no such thing."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_covariance.covariance import GradientCovariance
from landscape_covariance.noise import GradientNoiseScale

NAMES = ["equal", "ignored", "no class", "classes", "tokens", "own weight"]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x))).transpose(1, 2)


def weighed(name, n=60):
    """Return a point, its batch, and how much the examples count, shape (n,)."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(n, 4, generator=generator).double()
    y = torch.randint(3, (n,), generator=generator)
    loss, counts = nn.CrossEntropyLoss(), torch.ones(n).double()
    if name == "ignored":
        y[torch.arange(n) % 4 != 0] = -100
        counts = (y != -100).double()
    elif name in ("classes", "no class"):
        loss = nn.CrossEntropyLoss(weight=torch.tensor([0.05 * (name == "classes"), 1.0, 6.0]).double())
        counts = loss.weight[y]
    elif name in ("tokens", "own weight"):
        net = Tokens().double()
        x = torch.randn(n, 6, 4, generator=generator).double()
        y = torch.randint(3, (n, 6), generator=generator)
        lengths = torch.randint(1, 7, (n,), generator=generator)
        y[torch.arange(6) >= lengths[:, None]] = -100
        counts = lengths.double()
        if name == "own weight":
            loss = ls.BatchLoss(
                lambda module, batch: F.cross_entropy(module(batch[0]), batch[1]),
                weight=lambda batch: (batch[1] != -100).sum(),
            )
    landscape = ls.Landscape(net, loss, (x, y))
    return ls.Point(landscape, landscape.initial()), (x, y), counts


def summands(point, batch, counts, *, centred=True):
    """Return vectors, shape (n, P), whose second moment is the covariance, or the second moment, of examples."""
    singles = [(x.unsqueeze(0), y.unsqueeze(0)) for x, y in zip(*batch, strict=True)]
    rows = torch.stack(
        [
            point.landscape.gradient(point.theta, single) if count else torch.zeros(len(point.theta))
            for single, count in zip(singles, counts, strict=True)
        ]
    ).double()
    ratios = (counts / counts.mean())[:, None]
    if not centred:
        return ratios.sqrt() * rows
    return ratios * (rows - (ratios * rows).mean(dim=0))


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("memory", [2**31, 3000])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_covariance_of_examples_is_the_dense_one(name, centred, memory, vectors):
    point, batch, counts = weighed(name)
    probe = GradientCovariance(
        batches=60, per_example=True, centred=centred, k=4, vectors=vectors, memory=memory
    )
    found = point.measure(probe)
    moved = summands(point, batch, counts, centred=centred)
    dense = moved.T @ moved / 60
    values = torch.linalg.eigvalsh(dense).flip(0).numpy()
    rank = len(found.arrays["covariance_eigenvalues"])
    np.testing.assert_allclose(found.arrays["covariance_eigenvalues"], values[:rank], atol=1e-12 * values[0])
    if vectors:
        pairs = found.carry["eigenvectors"]
        torch.testing.assert_close(
            pairs @ dense, torch.from_numpy(values[:4, None].copy()) * pairs, rtol=0, atol=1e-9 * values[0]
        )
    if name != "own weight":  # a loss that does not show the output
        operator = point.curvature("covariance" if centred else "second_moment").dense()
        torch.testing.assert_close(operator, dense, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_the_covariance_of_some_examples_is_that_of_these(name):
    point, (x, y), counts = weighed(name)
    found = GradientCovariance(batches=25, per_example=True).measure(point, torch.Generator().manual_seed(4))
    drawn = torch.randperm(60, generator=torch.Generator().manual_seed(4))[:25]
    moved = summands(point, (x[drawn], y[drawn]), counts[drawn])
    assert found.scalars["covariance_trace"] == pytest.approx(float((moved**2).sum()) / 25, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_scale_is_that_of_the_dense_matrices(name):
    point, batch, counts = weighed(name)
    moved = summands(point, batch, counts)
    gradient = point.gradient()
    torch.testing.assert_close(moved.mean(dim=0), torch.zeros_like(gradient), rtol=0, atol=1e-12)
    trace = float((moved**2).sum()) / 59
    found = point.measure(GradientNoiseScale(batch_size=7, curvature=True))
    assert found.scalars["gradient_noise_trace"] == pytest.approx(trace, rel=1e-9)
    assert found.scalars["gradient_noise_scale"] == pytest.approx(
        trace / float(gradient @ gradient), rel=1e-9
    )
    bent = float((moved * (moved @ point.hessian().dense())).sum()) / 59
    assert found.scalars["gradient_noise_trace_hessian"] == pytest.approx(bent, rel=1e-8)
    # Of some examples: unbiased, and it knows how far off it is.
    several = [
        ls.Point(point.landscape, point.theta, seed=seed).measure(GradientNoiseScale(examples=15))
        for seed in range(100)
    ]
    traces = np.array([one.scalars["gradient_noise_trace"] for one in several])
    spread = traces.std(ddof=1)
    assert abs(traces.mean() - trace) < 4 * spread / len(traces) ** 0.5
    errors = [one.errors["gradient_noise_trace"].value for one in several]
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_scale_is_that_of_drawn_batches(name):
    point, (x, y), counts = weighed(name, n=400)
    gradient, size = point.gradient(), 64
    generator = torch.Generator().manual_seed(1)
    squares = []
    for _ in range(500):
        chosen = torch.randint(len(x), (size,), generator=generator)
        away = point.landscape.gradient(point.theta, (x[chosen], y[chosen])) - gradient
        squares.append(size * float(away @ away))
    trace = point.measure(GradientNoiseScale(examples=400)).scalars["gradient_noise_trace"]
    # To the first order in 1/B; what is left out is documented.
    more = 1 + float(counts.var() / counts.mean() ** 2) / size
    error = np.std(squares) / len(squares) ** 0.5
    assert abs(np.mean(squares) - more * trace) < 4 * error + 0.03 * trace


def pairs(output, target):
    return (output - output.mean(dim=0)).square().sum(dim=1).mean() + F.mse_loss(output, target)


def unsaid(output, target):
    return F.cross_entropy(output, target, ignore_index=0)


class SeesOthers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x - x.mean(dim=0))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("what", ["loss", "weights", "module"])
def test_gradients_of_examples_that_do_not_make_up_that_of_the_batch_are_refused(what, reduction):
    torch.manual_seed(0)
    x = torch.randn(40, 4).double()
    y = torch.randint(3, (40,)) if what == "weights" else torch.randn(40, 3).double()
    net = SeesOthers() if what == "module" else nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    mean = {"loss": pairs, "weights": unsaid, "module": F.mse_loss}[what]

    def loss(output, target):
        return mean(output, target) * (len(output) if reduction == "sum" else 1)

    landscape = ls.Landscape(net.double(), loss, (x, y), reduction=reduction, penalty=lambda t: t @ t)
    point = ls.Point(landscape, landscape.initial())
    refused = [
        GradientNoiseScale(examples=20),
        GradientNoiseScale(examples=20, curvature=True),
        GradientCovariance(batches=20, per_example=True),
        GradientCovariance(batches=20, per_example=True, vectors=True, k=20),
    ]
    for probe in refused:
        with pytest.raises(
            ConfigurationError, match=f"a {reduction} over examples which do not see each other"
        ):
            point.measure(probe)
    with pytest.raises(ConfigurationError, match="A covariance of examples needs"):
        point.measure("CovarianceHessianAlignment", k=2, batches=20, per_example=True)
    # Gradients of batches are what they are.
    assert point.measure(GradientCovariance(batches=5, batch_size=8)).scalars["covariance_trace"] > 0


def test_examples_of_which_none_counts_say_so():
    x, y = torch.randn(40, 4).double(), torch.full((40,), -100)
    y[0] = 1
    landscape = ls.Landscape(nn.Linear(4, 3).double(), "cross_entropy", (x, y))
    point = ls.Point(landscape, landscape.initial())
    probe = GradientCovariance(batches=3, per_example=True)
    drawn = [probe.measure(point, torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert all(np.isnan(one.scalars["covariance_trace"]) for one in drawn)
    assert "None of the 3 drawn examples counts" in drawn[0].warnings[0]


def test_examples_that_lie_with_several_processes_are_refused():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        x, y = torch.randn(40, 4).double(), torch.randint(3, (40,))
        landscape = ls.Landscape(
            nn.Linear(4, 3).double(), "cross_entropy", (x, y), group=torch.distributed.group.WORLD
        )
        point = ls.Point(landscape, landscape.initial())
        for probe in (
            GradientNoiseScale(),
            GradientCovariance(per_example=True),
            ls.probes.CovarianceHessianAlignment(per_example=True),
        ):
            with pytest.raises(
                ConfigurationError, match=r"of its own process only.*Measure on a landscape of all"
            ):
                point.measure(probe)
        assert point.measure("GradientCovariance").scalars["covariance_trace"] > 0
    finally:
        torch.distributed.destroy_process_group()
