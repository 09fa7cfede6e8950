import numpy as np
import pandas as pd
import pytest
from scipy.fft import dct
from sklearn import decomposition

from landscape.errors import ConfigurationError
from landscape_projectors import random_walks
from landscape_projectors.random_walks import (
    cosine_content,
    random_walk_path,
    random_walk_shares,
    shares_of_random_walks,
)


def walk(generator, snapshots, dimensions, step=1.0):
    steps = generator.normal(size=(snapshots, dimensions)) * step / np.sqrt(dimensions)
    steps[0] = 0.0
    return steps.cumsum(axis=0)


@pytest.mark.parametrize("snapshots", [2, 3, 10, 57])
def test_the_shares_are_the_eigenvalues_of_the_expected_gram_matrix(snapshots):
    made = np.arange(snapshots)
    centre = np.eye(snapshots) - 1.0 / snapshots
    values = np.linalg.eigvalsh(centre @ np.minimum.outer(made, made) @ centre)[::-1][: snapshots - 1]
    found = random_walk_shares(snapshots)
    np.testing.assert_allclose(found, values / values.sum(), rtol=1e-9)
    assert found.sum() == pytest.approx(1.0, rel=1e-12)


def test_of_many_snapshots_they_are_those_of_antognini_and_sohl_dickstein():
    k = np.arange(1, 6)
    np.testing.assert_allclose(random_walk_shares(20_000)[:5], 6 / (np.pi**2 * k**2), rtol=1e-7)


def test_a_simulated_walk_has_the_shares_and_the_cosines():
    generator = np.random.default_rng(5)
    points = walk(generator, 80, 100_000)
    fit = decomposition.PCA(4).fit(points)
    np.testing.assert_allclose(fit.explained_variance_ratio_, random_walk_shares(80)[:4], rtol=0.03)
    coordinates = fit.transform(points)
    scale = np.sqrt(np.mean(np.sum((points - points.mean(axis=0)) ** 2, axis=1)))
    expected = random_walk_path(80, 4) * scale
    signs = np.sign(np.sum(coordinates * expected, axis=0))
    np.testing.assert_allclose(coordinates * signs, expected, atol=0.05 * scale)
    assert (cosine_content(coordinates) > 0.98).all()


def test_several_simulated_walks_from_starts_of_their_own(span_of):
    generator = np.random.default_rng(6)
    starts = 3.0 * generator.normal(size=(3, 40_000)) / np.sqrt(40_000)
    lengths, steps = (30, 40, 25), (0.4, 1.0, 0.7)
    points = [
        start + walk(generator, length, 40_000, step)
        for start, length, step in zip(starts, lengths, steps, strict=True)
    ]
    rows = pd.DataFrame(
        [(step, str(worker)) for worker, length in enumerate(lengths) for step in range(length)],
        columns=["step", "worker"],
    )
    shuffled = generator.permutation(len(rows))
    span = span_of(np.concatenate(points)[shuffled], rows.iloc[shuffled].reset_index(drop=True))
    found = shares_of_random_walks(span)
    np.testing.assert_allclose(span.variance_ratio[:6], found[:6], rtol=0.05)
    assert found.sum() == pytest.approx(1.0)


def test_one_worker_has_the_closed_form_whatever_its_path(span_of, curved):
    rows = pd.DataFrame({"step": range(60), "worker": "0"})
    np.testing.assert_allclose(
        shares_of_random_walks(span_of(curved, rows)), random_walk_shares(60), rtol=1e-8
    )


def test_of_very_many_snapshots_some_are_taken(span_of, monkeypatch):
    points = walk(np.random.default_rng(1), 300, 40)
    rows = pd.DataFrame({"step": [*range(200), *range(100)], "worker": ["0"] * 200 + ["1"] * 100})
    span = span_of(points, rows)
    whole = shares_of_random_walks(span)
    monkeypatch.setattr(random_walks, "POINTS", 100)
    some = shares_of_random_walks(span)
    assert len(some) == 99
    np.testing.assert_allclose(some[:4], whole[:4], rtol=0.02)


def test_the_cosine_content_is_that_of_the_cosine_transform(curved):
    coordinates = curved[:, :5]
    centred = coordinates - coordinates.mean(axis=0)
    transformed = dct(centred, axis=0, norm="ortho")
    expected = [transformed[k + 1, k] ** 2 / np.sum(centred[:, k] ** 2) for k in range(5)]
    np.testing.assert_allclose(cosine_content(coordinates), expected, rtol=1e-9)
    assert np.isnan(cosine_content(np.zeros((9, 1))))[0]


def test_a_path_that_swings_is_no_random_walk():
    turn = np.linspace(0, 12 * np.pi, 200)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    assert (cosine_content(circle) < 0.1).all()


def test_what_does_not_walk_is_refused(span_of):
    with pytest.raises(ConfigurationError, match="1 snapshots does not walk"):
        random_walk_shares(1)
    with pytest.raises(ConfigurationError, match="has 4 components; 5 were asked for"):
        random_walk_path(5, 5)
    with pytest.raises(ConfigurationError, match="All snapshots are the same point"):
        shares_of_random_walks(span_of(np.ones((4, 3))))
