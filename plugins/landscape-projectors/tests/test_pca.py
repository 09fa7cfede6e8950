import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import decomposition
from sklearn.manifold import trustworthiness

from landscape.errors import ConfigurationError
from landscape.interfaces import InvertibleProjection
from landscape.testing import check_projector
from landscape_projectors import _quality
from landscape_projectors.pca import PCA
from landscape_projectors.random_walks import cosine_content, random_walk_shares, shares_of_random_walks

GENERATOR = torch.Generator()
ROWS = pd.DataFrame({"step": range(60), "worker": "0"})


def up_to_sign(found, expected):
    return found * np.sign(np.sum(found * expected, axis=0))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_equals_a_pca_of_the_raw_weights(span_of, curved, dimensions):
    reference = decomposition.PCA(dimensions, svd_solver="full").fit(curved)
    projection = PCA(dimensions=dimensions).fit(span_of(curved), GENERATOR)
    expected = reference.transform(curved)
    found = up_to_sign(projection.coordinates, expected)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(projection.explained, reference.explained_variance_ratio_, rtol=1e-9)


def test_new_points_are_projected_as_a_pca_of_the_raw_weights_does(span_of, curved):
    reference = decomposition.PCA(2, svd_solver="full").fit(curved)
    span = span_of(curved)
    projection = PCA().fit(span, GENERATOR)
    new = curved[:5] + np.random.default_rng(0).normal(size=(5, 200))
    expected = reference.transform(new)
    found = projection.transform(span.reduce(torch.as_tensor(new)))
    signs = np.sign(np.sum(projection.coordinates * reference.transform(curved), axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-8)


def test_the_plane_leads_back_to_the_weights_a_pca_of_the_raw_weights_reconstructs(span_of, curved):
    reference = decomposition.PCA(2, svd_solver="full").fit(curved)
    span = span_of(curved)
    projection = PCA().fit(span, GENERATOR)
    restored = span.restore(projection.inverse(projection.coordinates)).double().numpy()
    expected = reference.inverse_transform(reference.transform(curved))
    np.testing.assert_allclose(restored, expected, atol=1e-8)


def test_inverse_then_transform_is_the_identity_on_the_plane(span_of, curved):
    projection = PCA().fit(span_of(curved), GENERATOR)
    points = np.random.default_rng(1).normal(size=(30, 2))
    np.testing.assert_allclose(projection.transform(projection.inverse(points)), points, atol=1e-12)


def test_off_plane_share_is_the_median_computed_from_raw_weights(span_of, curved):
    reference = decomposition.PCA(2, svd_solver="full").fit(curved)
    off = np.linalg.norm(curved - reference.inverse_transform(reference.transform(curved)), axis=1)
    expected = np.median(off / np.linalg.norm(curved - curved.mean(axis=0), axis=1))
    projection = PCA().fit(span_of(curved), GENERATOR)
    assert projection.quality["off_plane_share"] == pytest.approx(expected, rel=1e-8)


def test_paths_in_a_plane_lie_on_the_plane(span_of):
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(15, 2)) @ generator.normal(size=(2, 40)) + 1.0
    projection = PCA().fit(span_of(flat), GENERATOR)
    assert projection.quality["explained_variance"] == pytest.approx(1.0, abs=1e-12)
    assert projection.quality["off_plane_share"] < 1e-6
    assert projection.quality["trustworthiness"] == 1.0
    assert projection.quality["continuity"] == 1.0


def test_trustworthiness_and_continuity_equal_those_of_an_independent_package(span_of, curved):
    projection = PCA().fit(span_of(curved), GENERATOR)
    picture = projection.coordinates
    assert projection.quality["trustworthiness"] == pytest.approx(
        trustworthiness(curved, picture, n_neighbors=10), abs=1e-12
    )
    # Continuity is trustworthiness with truth and picture exchanged.
    assert projection.quality["continuity"] == pytest.approx(
        trustworthiness(picture, curved, n_neighbors=10), abs=1e-12
    )


def test_of_very_many_snapshots_an_even_selection_is_compared(monkeypatch):
    monkeypatch.setattr(_quality, "POINTS", 50)
    truth = np.random.default_rng(0).normal(size=(99, 4))
    expected = trustworthiness(truth[::2], truth[::2, :2], n_neighbors=10)
    assert _quality.neighbourhood_preservation(truth, truth[:, :2])[0] == pytest.approx(expected, abs=1e-12)


def test_signs_do_not_depend_on_the_signs_of_the_basis(span_of, curved):
    coordinates = span_of(curved).coordinates
    projection = PCA().fit(span_of(curved), GENERATOR)
    picture = projection.coordinates
    farthest = np.argmax(np.abs(picture), axis=0)
    assert (picture[farthest, [0, 1]] > 0).all()
    for signs in itertools.product([1, -1], repeat=2):
        turned = coordinates.copy()
        turned[:, :2] *= signs
        found = PCA().fit(SimpleNamespace(coordinates=turned, rows=ROWS), GENERATOR).coordinates
        np.testing.assert_allclose(found, picture, atol=1e-10)


def test_of_points_equally_far_the_first_decides_the_sign(span_of):
    line = np.outer([-2.0, -1.0, 1.0, 2.0], np.ones(5))
    coordinates = PCA(dimensions=1).fit(span_of(line), GENERATOR).coordinates
    np.testing.assert_allclose(coordinates[:, 0], np.sqrt(5) * np.array([2, 1, -1, -2]), atol=1e-9)


def test_axis_labels_say_the_explained_variance(span_of):
    cross = np.zeros((4, 7))
    cross[0, 0], cross[1, 0], cross[2, 3], cross[3, 3] = 3, -3, 1, -1
    projection = PCA().fit(span_of(cross), GENERATOR)
    assert projection.axis_labels == ("PC 1 (90.0 %)", "PC 2 (10.0 %)")
    assert isinstance(projection, InvertibleProjection)


def test_too_few_snapshots_are_refused_with_their_number(span_of):
    two = np.random.default_rng(0).normal(size=(2, 9))
    with pytest.raises(ConfigurationError, match="the 2 snapshots span only 1 dimension about"):
        PCA().fit(span_of(two), GENERATOR)


def test_no_dimensions_are_refused():
    with pytest.raises(ConfigurationError, match="dimensions is 0"):
        PCA(dimensions=0)


def test_everything_a_projection_consists_of_is_in_its_arrays(span_of, curved):
    span = span_of(curved)
    projection = PCA().fit(span, GENERATOR)
    arrays = projection.to_arrays()
    by_hand = (span.coordinates - arrays["centre"]) @ arrays["components"].T
    np.testing.assert_allclose(by_hand, arrays["coordinates"], atol=1e-12)


def test_keeps_the_rules_of_projectors():
    check_projector(PCA())
    check_projector(PCA(dimensions=3))


# -- random walks ---------------------------------------------------------------------------------------------


def test_what_a_random_walk_would_explain_stands_beside_what_the_path_does(span_of, curved):
    rows = pd.DataFrame({"step": np.arange(60)[::-1], "worker": "0"})
    quality = PCA(dimensions=3).fit(span_of(curved, rows), GENERATOR).quality
    expected = random_walk_shares(60)[:3]
    for k in (1, 2, 3):
        assert quality[f"explained_variance_of_random_walks_{k}"] == pytest.approx(expected[k - 1], rel=1e-6)
    assert quality["explained_variance_of_random_walks"] == pytest.approx(expected.sum(), rel=1e-6)
    coordinates = decomposition.PCA(3).fit_transform(curved[::-1])
    content = cosine_content(coordinates)
    assert [quality[f"cosine_content_{k}"] for k in (1, 2, 3)] == pytest.approx(content, rel=1e-6)


def test_several_paths_have_no_cosine_content(span_of, curved):
    rows = pd.DataFrame({"step": np.tile(range(20), 3), "worker": np.repeat(["0", "1", "2"], 20)})
    span = span_of(curved, rows)
    quality = PCA().fit(span, GENERATOR).quality
    assert not [name for name in quality if name.startswith("cosine")]
    shares = shares_of_random_walks(span)
    assert quality["explained_variance_of_random_walks"] == pytest.approx(shares[:2].sum())
