import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn import decomposition

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection
from landscape.store import SnapshotSpan
from landscape.testing import check_projector
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.composite import Chain, FitOn, Part
from landscape_projectors.layouts import TSNE
from landscape_projectors.pca import PCA
from landscape_projectors.planes import RandomDirections
from landscape_projectors.som import SOM

GENERATOR = torch.Generator()
LAYOUT = [
    {"name": "layer1.weight", "shape": [3, 4]},
    {"name": "layer1.bias", "shape": [3]},
    {"name": "layer2.weight", "shape": [3, 3]},
    {"name": "layer2.bias", "shape": [3]},
    {"name": "layer3.weight", "shape": [3, 3]},
    {"name": "layer3.bias", "shape": [3]},
]


@pytest.fixture
def networks():
    """Twelve snapshots of each of two networks of 39 weights, and their span."""
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(24, 39, generator=generator, dtype=torch.float64).cumsum(0)
    rows = pd.DataFrame({"step": list(range(12)) * 2, "worker": ["a"] * 12 + ["b"] * 12})
    return weights, SnapshotSpan.from_tensor(weights, LAYOUT, rows)


def same_up_to_sign(one, two):
    signs = np.sign(np.sum(one * two, axis=0))
    np.testing.assert_allclose(one * signs, two, atol=1e-8 * np.abs(two).max())


# -- some of the snapshots ------------------------------------------------------------------------------------


def test_a_fit_on_the_first_network_projects_all(networks):
    weights, span = networks
    projection = FitOn(PCA()).fit(span, GENERATOR)
    reference = decomposition.PCA(2).fit(weights[:12].numpy())
    same_up_to_sign(projection.coordinates, reference.transform(weights.numpy()))
    assert isinstance(projection, InvertibleProjection)
    plane = reference.inverse_transform(reference.transform(weights.numpy()))
    # The plane lies in the span, so its points come back exactly.
    np.testing.assert_allclose(
        span.restore(projection.inverse(projection.coordinates)).numpy(), plane, atol=1e-8
    )
    missed = np.sum((weights.numpy() - plane) ** 2)
    spread = np.sum((weights.numpy() - weights.numpy().mean(0)) ** 2)
    assert projection.quality["explained_variance"] == pytest.approx(1 - missed / spread, rel=1e-8)
    further = weights[:3] + 0.1
    same_up_to_sign(projection.transform(span.reduce(weights)), reference.transform(weights.numpy()))
    assert projection.transform(span.reduce(further)).shape == (3, 2)


def test_a_fit_on_a_named_network_is_that_of_its_snapshots(networks):
    weights, span = networks
    found = FitOn(SOM(rows=3, columns=4), workers=("b",)).fit(span, GENERATOR)
    alone = SOM(rows=3, columns=4).fit(SnapshotSpan.from_tensor(weights[12:]), GENERATOR)
    np.testing.assert_allclose(found.coordinates[12:], alone.coordinates, atol=1e-6)
    with pytest.raises(ConfigurationError, match="no snapshots of worker 'c'; there are those of a, b"):
        FitOn(PCA(), workers=("c",)).fit(span, GENERATOR)


# -- part of the network --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "columns"),
    [
        (Part(PCA(), "layer1"), list(range(15))),
        (Part(PCA(), ("layer*.weight",)), [*range(12), *range(15, 24), *range(27, 36)]),
    ],
)
def test_a_part_is_projected_as_if_it_were_alone(networks, part, columns):
    weights, span = networks
    projection = part.fit(span, GENERATOR)
    dense = weights[:, columns].numpy()
    reference = decomposition.PCA(2).fit(dense)
    same_up_to_sign(projection.coordinates, reference.transform(dense))
    same_up_to_sign(projection.transform(span.coordinates), reference.transform(dense))
    assert projection.quality["explained_variance"] == pytest.approx(
        reference.explained_variance_ratio_.sum()
    )
    assert not isinstance(projection, InvertibleProjection)


def test_the_mean_of_hidden_layers_is_projected(networks):
    weights, span = networks
    projection = Part(PCA(), average="layer[23]").fit(span, GENERATOR)
    mean = (weights[:, 15:27] + weights[:, 27:]) / 2
    dense = torch.cat([weights[:, :15], mean], dim=1).numpy()
    same_up_to_sign(projection.transform(span.coordinates), decomposition.PCA(2).fit_transform(dense))
    alone = Part(PCA(), "layer[23]", "layer[23]").fit(span, GENERATOR)
    same_up_to_sign(alone.coordinates, decomposition.PCA(2).fit_transform(mean.numpy()))


def test_parts_need_names(span_of, curved):
    with pytest.raises(ConfigurationError, match="without a layout"):
        Part(PCA(), "layer1").fit(span_of(curved), GENERATOR)


# -- chains ---------------------------------------------------------------------------------------------------


def test_a_chain_is_the_second_of_the_first(span_of, curved):
    span = span_of(curved)
    chain = Chain(PCA(dimensions=4), SOM(rows=5, columns=6)).fit(span, GENERATOR)
    first = PCA(dimensions=4).fit(span, GENERATOR)
    second = SOM(rows=5, columns=6).fit(span_of(first.coordinates), GENERATOR)
    np.testing.assert_allclose(chain.coordinates, second.coordinates, atol=1e-9)
    np.testing.assert_allclose(chain.transform(span.coordinates), second.coordinates, atol=1e-9)
    positions = second.lattice.positions[:7] + 0.2
    between = span_of(first.coordinates).restore(second.inverse(positions)).numpy()
    np.testing.assert_allclose(chain.inverse(positions), first.inverse(between), atol=1e-9)
    assert chain.quality["quantisation_error"] == pytest.approx(second.quality["quantisation_error"])
    missed = np.sum((span.coordinates - chain.inverse(chain.coordinates)) ** 2)
    assert chain.quality["explained_variance"] == pytest.approx(1 - missed / np.sum(span.coordinates**2))


def test_a_chain_has_an_inverse_only_if_both_have(networks):
    _, span = networks
    assert isinstance(Chain(PCA(), PCA(dimensions=1)).fit(span, GENERATOR), InvertibleProjection)
    found = Chain(RandomDirections(dimensions=3), PCA()).fit(span, GENERATOR)
    assert not isinstance(found, InvertibleProjection)
    assert found.axis_labels[0].startswith("PC 1")


def test_projection_by_an_autoencoder_and_a_map_keeps_distances_at_hand(span_of, curved):
    projection = Chain(Autoencoder(dimensions=4, iterations=60), SOM(rows=8, columns=8)).fit(
        span_of(curved), GENERATOR
    )
    assert projection.quality["trustworthiness"] > 0.9
    assert len(pdist(projection.coordinates)) == 60 * 59 // 2


@pytest.mark.parametrize("wrong", [{"first": "PCA", "second": PCA()}, {"first": PCA(), "second": None}])
def test_only_projectors_are_chained(wrong):
    with pytest.raises(ConfigurationError, match="give a projector"):
        Chain(**wrong)


def test_keeps_the_rules_of_projectors(networks):
    _, span = networks
    check_projector(Chain(Autoencoder(dimensions=3, iterations=30), SOM(rows=4, columns=4)))
    check_projector(Chain(PCA(dimensions=3), TSNE(iterations=250)))
    weights, _ = networks
    near = torch.cat([weights[:12], weights[:12] + 0.1 * weights[12:]])
    check_projector(FitOn(PCA()), SnapshotSpan.from_tensor(near, LAYOUT, span.rows))
    check_projector(Part(PCA(), "layer2"), span)
