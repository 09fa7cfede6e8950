"""What cannot be projected is refused, by every projector, in words that say what to do."""

from importlib.metadata import entry_points

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, RunError
from landscape.interfaces import LandscapeProjector
from landscape.objective import Landscape
from landscape.store import SnapshotSpan
from landscape_projectors import surfaces
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain, FitOn, Part
from landscape_projectors.pca import PCA

LAYOUT = [{"name": "layer1.weight", "shape": [1, 6]}, {"name": "layer2.weight", "shape": [6, 1]}]
ARGUMENTS = {
    "Chain": (Autoencoder(dimensions=2, iterations=3), PCA()),
    "FitOn": (PCA(),),
    "Part": (PCA(), "layer*"),
}
NAMES = sorted(
    entry.name
    for entry in entry_points(group="landscape.projectors")
    if entry.dist.name == "landscape-projectors"
)
NEEDS = {"UMAP": "umap", "PHATE": "phate"}


def fit(name, weights):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    projector = getattr(ls.projectors, name)(*ARGUMENTS.get(name, ()))
    span = SnapshotSpan.from_tensor(weights, LAYOUT)
    generator = torch.Generator().manual_seed(0)
    if isinstance(projector, LandscapeProjector):
        x, y = torch.eye(12, dtype=torch.float64), torch.ones(12, 1, dtype=torch.float64)
        module = torch.nn.Linear(12, 1, bias=False, dtype=torch.float64)
        return projector.fit_to(Landscape(module, "mse", (x, y), dtype=torch.float64), span, generator)
    return projector.fit(span, generator)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("snapshots", [1, 2])
def test_fewer_than_three_snapshots(name, snapshots):
    weights = torch.randn(snapshots, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(
        ConfigurationError, match=rf"cannot be fitted: the {snapshots} snapshots .*Record at least 3"
    ):
        fit(name, weights)


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_that_are_all_the_same(name):
    with pytest.raises(ConfigurationError, match=r"cannot be fitted.*Record at least 3 different snapshots"):
        fit(name, torch.ones(5, 12, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(name, value):
    weights = torch.randn(40, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights[3, 5] = value
    with pytest.raises(RunError, match="worker '0' at step 3 has weights that are not finite"):
        fit(name, weights)


@pytest.mark.parametrize(
    "projector",
    [
        BinaryEncoder(threshold=0.0),
        Part(PCA(), "layer1"),
        FitOn(BinaryEncoder(threshold=0.0)),
        Chain(PCA(), BinaryEncoder(threshold=0.0)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_background_under_a_map_that_does_not_lead_back(projector):
    weights = torch.randn(9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    span = SnapshotSpan.from_tensor(weights, LAYOUT)
    projection = projector.fit(span, torch.Generator())
    module = torch.nn.Linear(12, 1, bias=False, dtype=torch.float64)
    data = (torch.eye(12, dtype=torch.float64), torch.ones(12, 1, dtype=torch.float64))
    landscape = Landscape(module, "mse", data, dtype=torch.float64)
    with pytest.raises(
        ConfigurationError, match="does not lead back to weights, so no loss can be drawn under it"
    ):
        surfaces.loss_grid(landscape, span, projection)


def test_snapshots_of_different_layouts():
    weights = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    other = [{"name": "layer1.weight", "shape": [2, 3]}, {"name": "layer2.weight", "shape": [6, 1]}]
    spans = {
        "one": SnapshotSpan.from_tensor(weights, LAYOUT),
        "two": SnapshotSpan.from_tensor(weights, other),
    }
    with pytest.raises(
        RunError, match=r"different layouts.*layer1.weight \[1, 6\].*against layer1.weight \[2, 3\]"
    ):
        SnapshotSpan.joined(spans)
    assert np.isfinite(SnapshotSpan.joined({"one": spans["one"], "again": spans["one"]}).coordinates).all()
