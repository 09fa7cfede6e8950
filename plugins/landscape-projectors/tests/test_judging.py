"""How far the loss that a map shows is from that of the snapshots, in `quality`."""

import numpy as np
import pandas as pd
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.objective import Landscape
from landscape.plugins import PluginWarning
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain, FitOn, Part
from landscape_projectors.judging import judged, quality_table
from landscape_projectors.layouts import TSNE
from landscape_projectors.pca import PCA
from landscape_projectors.planes import HessianPlane, RandomDirections, ThreePoints
from landscape_projectors.som import SOM


@pytest.fixture
def regression():
    """A linear regression of 200 weights; its loss is known in closed form."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 200, generator=generator, dtype=torch.float64)
    y = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    module = torch.nn.Linear(200, 1, bias=False, dtype=torch.float64)
    landscape = Landscape(module, "mse", (x, y), dtype=torch.float64)

    def loss(weights):
        return np.mean((x.numpy() @ np.asarray(weights).T - y.numpy()) ** 2, axis=0)

    return landscape, loss


@pytest.fixture
def span(span_of, curved):
    rows = pd.DataFrame({"step": np.tile(range(20), 3), "worker": np.repeat(["0", "1", "2"], 20)})
    return span_of(curved, rows)


@pytest.mark.parametrize(
    "projector",
    [
        PCA(),
        SOM(rows=4, columns=4, epochs=5),
        Autoencoder(iterations=10),
        TSNE(iterations=250),
        ThreePoints(),
        FitOn(PCA()),
        Chain(PCA(dimensions=3), SOM(rows=3, columns=3)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_mismatch_stands_in_the_quality_when_a_landscape_is_given(span, regression, projector):
    landscape, loss = regression
    plain = projector.fit(span, torch.Generator().manual_seed(1))
    found = projector.fit_to(landscape, span, torch.Generator().manual_seed(1))
    assert type(found) is type(plain)
    np.testing.assert_array_equal(found.coordinates, plain.coordinates)
    shown = loss(span.restore(plain.inverse(plain.coordinates)))
    ratio = np.abs(np.log10(shown / loss(span.weights())))
    assert found.quality["loss_mismatch"] == pytest.approx(np.median(ratio), rel=1e-5, abs=1e-9)
    assert found.quality["loss_mismatch_largest"] == pytest.approx(ratio.max(), rel=1e-5, abs=1e-9)
    rest = {name: value for name, value in found.quality.items() if not name.startswith("loss_")}
    assert rest == pytest.approx(dict(plain.quality), nan_ok=True)


def test_planes_that_do_not_lie_in_the_span_are_compared_too(span, regression):
    landscape, loss = regression
    for projector in (RandomDirections(normalisation="none"), HessianPlane()):
        found = projector.fit_to(landscape, span, torch.Generator().manual_seed(1))
        shown = loss(found.weights(found.coordinates))
        ratio = np.abs(np.log10(shown / loss(span.weights())))
        assert found.quality["loss_mismatch"] == pytest.approx(np.median(ratio), rel=1e-5)


def test_what_does_not_lead_back_shows_no_loss(span, regression):
    landscape, _ = regression
    projection = BinaryEncoder(threshold=5.0).fit(span, torch.Generator())
    assert judged(projection, landscape, span) is projection


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ls.Experiment(
        ls.models.MLP(hidden=(4,)),
        ls.datasets.Digits(),
        ls.walkers.SGD(lr=0.5, batch_size=64, workers=2),
        start=ls.Fresh(identical=False),
        projectors=(PCA(), SOM(rows=4, columns=4), Part(PCA(), "layer1"), PCA(dimensions=40)),
        steps=20,
        snapshots=2,
        seed=1,
    )


def test_a_run_has_a_table_of_what_its_maps_are_worth(run, tmp_path):
    with pytest.warns(UserWarning, match="No map by PCA_2"):
        run = run.run(store=tmp_path)
    with pytest.warns(PluginWarning, match="No row for PCA: .*span only"):
        table = quality_table(run)
    assert list(table.index) == ["PCA", "SOM", "PCA of layer1"]
    assert table.index.name == "projector"
    for name in (
        "explained_variance",
        "explained_variance_of_random_walks",
        "off_plane_share",
        "loss_mismatch",
    ):
        assert np.isfinite(table.loc["PCA", name])
    assert np.isnan(table.loc["PCA", "quantisation_error"])
    assert np.isnan(table.loc["PCA of layer1", "loss_mismatch"])
    projection = run.project(PCA(), loss=True)
    assert projection.quality["loss_mismatch"] == table.loc["PCA", "loss_mismatch"]
    assert "loss_mismatch" not in run.project(PCA()).quality
    with pytest.warns(PluginWarning):
        assert "loss_mismatch" not in quality_table(run, loss=False)
    with pytest.raises(ConfigurationError, match="a part of the network has no loss of its own"):
        run.project(PCA(), "layer1", loss=True)
