"""Small experiments that run in a moment."""

from __future__ import annotations

import pytest
import torch

import landscape as ls


@pytest.fixture(autouse=True)
def quiet_and_alone(tmp_path, monkeypatch):
    """Every test has a working directory of its own, draws no bars, and meets strict hooks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    monkeypatch.setenv("LANDSCAPE_STRICT_HOOKS", "1")
    monkeypatch.delenv("LANDSCAPE_STORE", raising=False)


@pytest.fixture
def small():
    """Two elastic workers of a tiny network on the digits, with cheap probes and a warm-started one."""
    return ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=32, momentum=0.5), workers=2),
        probes=("Loss", "GradientNorm", ls.Every(6, ls.probes.HessianSpectrum(k=1))),
        steps=12,
        snapshots=4,
        seed=3,
    )


@pytest.fixture
def line():
    """A straight line through points: a quadratic landscape of two parameters."""
    x = torch.linspace(-1, 1, 16)[:, None]
    module = torch.nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(0.0)
        module.bias.fill_(1.0)
    return ls.Landscape(module, "mse", (x, 2 * x))
