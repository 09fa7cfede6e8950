"""Snapshots of known shape, shared by the tests of the projectors."""

import numpy as np
import pytest
import torch

from landscape.store import SnapshotSpan


@pytest.fixture
def span_of():
    """Return a function that makes the span of raw weight vectors, shape (T, P)."""

    def make(weights, rows=None):
        return SnapshotSpan.from_tensor(torch.as_tensor(weights), rows=rows)

    return make


@pytest.fixture
def curved():
    """Sixty float64 snapshots of three bent, slightly noisy paths in 200 dimensions."""
    generator = np.random.default_rng(3)
    frame = np.linalg.qr(generator.normal(size=(200, 6)))[0]
    t = np.linspace(0, 1, 20)[:, None]
    paths = [
        np.hstack([3 * t, np.sin(3 * t + k), np.cos(2 * t) * k, t**2, t**3 - t, np.exp(-t) * (k == 1)])
        for k in range(3)
    ]
    points = np.concatenate(paths) @ frame.T + 5.0
    return points + 0.02 * generator.normal(size=points.shape)
