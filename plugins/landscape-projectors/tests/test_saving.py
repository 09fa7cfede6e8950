import numpy as np
import pandas as pd
import pytest
import torch
from attrs import frozen

from landscape.errors import RunError
from landscape.interfaces import InvertibleProjection, Projection
from landscape.store import SnapshotSpan
from landscape_projectors import saving
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain, FitOn, Part
from landscape_projectors.layouts import TSNE
from landscape_projectors.pca import PCA
from landscape_projectors.planes import RandomDirections, ThreePoints
from landscape_projectors.som import SOM

LAYOUT = [{"name": "a.weight", "shape": [10, 15]}, {"name": "b.weight", "shape": [5, 10]}]


@pytest.fixture
def span(curved):
    rows = pd.DataFrame({"step": np.tile(np.arange(20), 3), "worker": np.repeat(["0", "1", "2"], 20)})
    return SnapshotSpan.from_tensor(torch.from_numpy(curved), LAYOUT, rows)


@pytest.mark.parametrize(
    "projector",
    [
        PCA(),
        SOM(rows=4, columns=5, topology="rectangular"),
        Autoencoder(iterations=10),
        TSNE(iterations=250),
        BinaryEncoder(threshold=5.0),
        RandomDirections(),
        ThreePoints(),
        FitOn(PCA()),
        Part(PCA(), "a"),
        Chain(Autoencoder(dimensions=3, iterations=10), SOM(rows=3, columns=3)),
        Chain(Part(PCA(dimensions=3), "b"), PCA()),
    ],
    ids=lambda projector: type(projector).__name__,
)
def test_a_projection_comes_back_from_disk_bit_for_bit(span, tmp_path, projector):
    projection = projector.fit(span, torch.Generator().manual_seed(1))
    path = saving.save(projection, tmp_path / "projection.safetensors")
    found = saving.load(path)
    assert type(found) is type(projection)
    np.testing.assert_array_equal(found.coordinates, projection.coordinates)
    points = span.coordinates + 0.1
    np.testing.assert_array_equal(found.transform(points), projection.transform(points))
    if isinstance(projection, InvertibleProjection):
        np.testing.assert_array_equal(
            found.inverse(projection.coordinates), projection.inverse(projection.coordinates)
        )
    assert dict(found.quality) == pytest.approx(dict(projection.quality), rel=0, abs=0, nan_ok=True)
    assert found.axis_labels == projection.axis_labels
    for name, array in projection.to_arrays().items():
        np.testing.assert_array_equal(found.to_arrays()[name], array)


def test_other_files_and_strangers_are_refused(tmp_path):
    from landscape.store.tensors import save_tensors

    other = tmp_path / "other.safetensors"
    save_tensors(other, {"a": np.zeros(3)}, {"format": 1})
    with pytest.raises(RunError, match="holds no projection"):
        saving.load(other)
    save_tensors(other, {}, {"format": 1, "projection": {"class": "Popen", "fields": {}}})
    with pytest.raises(RunError, match="holds a 'Popen'"):
        saving.load(other)

    @frozen
    class Stranger(Projection):
        coordinates = np.zeros((3, 2))
        axis_labels = ("a", "b")
        quality = None

        def transform(self, coefficients):
            return coefficients

        def to_arrays(self):
            return {}

    with pytest.raises(RunError, match="Stranger is not a projection of this plugin"):
        saving.save(Stranger(), other)
