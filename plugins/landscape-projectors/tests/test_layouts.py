import builtins
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn import manifold

from landscape.errors import ConfigurationError
from landscape.testing import check_projector
from landscape_projectors._scattered import LayoutProjection
from landscape_projectors.layouts import PHATE, TSNE, UMAP
from landscape_projectors.pca import PCA

GENERATOR = torch.Generator()


def test_t_sne_is_that_of_scikit_learn_on_the_raw_weights(span_of, curved):
    span = span_of(curved)
    start = PCA().fit(span, GENERATOR).coordinates
    start = 1e-4 * start / start[:, 0].std()
    projection = TSNE(perplexity=12, iterations=250).fit(span, GENERATOR)
    reference = manifold.TSNE(perplexity=12, max_iter=250, init=start, method="exact", random_state=3)
    expected = reference.fit_transform(span.coordinates)
    np.testing.assert_array_equal(projection.coordinates, expected)
    assert projection.quality["kl_divergence"] == pytest.approx(reference.kl_divergence_, rel=1e-12)
    # On raw weights distances differ by rounding, which gradient descent amplifies.
    reference.fit(curved)
    assert projection.quality["kl_divergence"] == pytest.approx(reference.kl_divergence_, rel=0.05)


@pytest.fixture
def layout():
    generator = np.random.default_rng(1)
    points = generator.normal(size=(40, 7))
    return LayoutProjection.of("map", points, np.tanh(points[:, :2]) + 0.1 * points[:, 2:4], {})


def test_both_maps_agree_with_the_layout_at_the_snapshots(layout):
    np.testing.assert_allclose(layout.transform(layout.points), layout.coordinates, atol=1e-12)
    np.testing.assert_allclose(layout.inverse(layout.coordinates), layout.points, atol=1e-10)
    assert layout.axis_labels == ("map 1", "map 2")


def test_further_points_are_placed_by_their_neighbours(layout):
    asked = np.random.default_rng(2).normal(size=(15, 7))
    squared = cdist(asked, layout.points) ** 2
    for point, row in zip(layout.transform(asked), squared, strict=True):
        nearest = np.argsort(row)[:12]
        weights = 1 / row[nearest]
        expected = (weights[:, None] * layout.coordinates[nearest]).sum(0) / weights.sum()
        np.testing.assert_allclose(point, expected, rtol=1e-12)


def test_the_way_back_is_the_interpolation_by_radial_functions(layout):
    from scipy.interpolate import RBFInterpolator

    reference = RBFInterpolator(layout.coordinates, layout.points, kernel="linear", degree=0)
    asked = np.random.default_rng(3).uniform(-2, 2, size=(30, 2))
    np.testing.assert_allclose(layout.inverse(asked), reference(asked), atol=1e-9)


def test_the_error_of_the_way_back_is_that_of_leaving_one_out(layout):
    missed = []
    for left in range(len(layout.points)):
        others = np.arange(len(layout.points)) != left
        part = LayoutProjection.of("map", layout.points[others], layout.coordinates[others], {})
        missed.append(np.sum((part.inverse(layout.coordinates[[left]])[0] - layout.points[left]) ** 2))
    spread = np.mean(np.sum((layout.points - layout.points.mean(0)) ** 2, axis=1))
    assert layout.quality["inverse_error"] == pytest.approx(np.sqrt(np.mean(missed) / spread), rel=1e-9)


def test_snapshots_at_one_place_lead_back_to_their_mean():
    points = np.random.default_rng(0).normal(size=(5, 3))
    found = LayoutProjection.of("map", points, np.array([[0, 0], [1, 0], [0, 1], [1, 1], [1, 1.0]]), {})
    np.testing.assert_allclose(found.inverse([[1.0, 1.0]])[0], points[3:].mean(0), atol=1e-12)
    np.testing.assert_allclose(found.inverse([[0.0, 1.0]])[0], points[2], atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_t_sne_draws_nothing(span_of, curved, seed):
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    TSNE(iterations=250).fit(span_of(curved), generator)
    assert torch.equal(generator.get_state(), before)


def test_what_cannot_be_fitted_is_refused(span_of, curved):
    with pytest.raises(
        ConfigurationError, match=r"perplexity=30\) cannot be fitted to 60 snapshots.*at most 19.7"
    ):
        TSNE(perplexity=30).fit(span_of(curved), GENERATOR)
    with pytest.raises(ConfigurationError, match="2 snapshots"):
        TSNE().fit(span_of(curved[:2]), GENERATOR)
    with pytest.raises(ConfigurationError, match=r"perplexity=0\.5"):
        TSNE(perplexity=0.5)
    with pytest.raises(ConfigurationError, match="implementation='opentsne'"):
        TSNE(implementation="opentsne")


@pytest.mark.parametrize(
    ("projector", "module", "extra"),
    [
        (UMAP(), "umap", "umap"),
        (PHATE(), "phate", "phate"),
        (TSNE(implementation="openTSNE"), "openTSNE", "opentsne"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_cure(
    span_of, curved, monkeypatch, projector, module, extra
):
    plain = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return plain(name, *rest, **named)

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("landscape_projectors._requirements.import_module", lambda name: without(name))
    with pytest.raises(ConfigurationError, match=rf"pip install 'landscape-projectors\[{extra}\]'"):
        projector.fit(span_of(curved), GENERATOR)


OPTIONAL = [("openTSNE", TSNE(implementation="openTSNE")), ("umap", UMAP()), ("phate", PHATE())]


@pytest.mark.parametrize(("module", "projector"), OPTIONAL)
def test_methods_of_optional_packages_keep_neighbours(span_of, curved, module, projector):
    pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    one, two = (projector.fit(span_of(curved), torch.Generator().manual_seed(4)) for _ in range(2))
    np.testing.assert_array_equal(one.coordinates, two.coordinates)
    assert one.quality["trustworthiness"] > 0.9
    assert one.quality["continuity"] > 0.9
    np.testing.assert_allclose(one.inverse(one.coordinates), span_of(curved).coordinates, atol=1e-6)


def test_keeps_the_rules_of_projectors():
    check_projector(TSNE(iterations=250))
    check_projector(TSNE(dimensions=1, iterations=250))
