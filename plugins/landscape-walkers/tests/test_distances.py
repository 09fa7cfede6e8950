"""Distances against numpy in float64."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import landscape as ls
from landscape_walkers import distances
from landscape_walkers._between import labels_of
from landscape_walkers.distances import PairwiseDistances


def _population(landscape, positions, **labelled):
    return ls.Population(landscape, positions, step=0, labelled=labelled)


@given(
    points=arrays.arrays(np.float32, (4, 6), elements=st.floats(-1e3, 1e3, width=32)),
    piece=st.sampled_from([1, 8, 12, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_distances_are_symmetric_and_numpys_in_float64(make_bowl, points, piece):
    landscape = make_bowl(np.eye(6), np.zeros((1, 6)), torch.float32)
    population = _population(landscape, torch.from_numpy(points[:3]), centre=torch.from_numpy(points[3]))
    whole, distances._PIECE = distances._PIECE, piece
    try:
        found = population.measure(PairwiseDistances())
    finally:
        distances._PIECE = whole
    matrix = found.arrays["distances"]
    exact = points.astype(np.float64)
    truth = np.linalg.norm(exact[:, None] - exact[None], axis=2)
    assert matrix.dtype == np.float64
    assert np.array_equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    np.testing.assert_allclose(matrix, truth, rtol=1e-13)
    assert labels_of(found.arrays["labels"]) == ("0", "1", "2", "centre")
    among = truth[np.triu_indices(3, 1)]
    for what in ("mean", "min", "max"):
        assert math.isclose(found.scalars[f"distance_{what}"], getattr(among, what)(), rel_tol=1e-12)
        ours = found.scalars[f"distance_to_centre_{what}"]
        assert math.isclose(ours, getattr(truth[3, :3], what)(), rel_tol=1e-12)


def test_points_that_are_nearly_the_same_keep_their_distance(make_bowl):
    size = 1000
    landscape = make_bowl(np.zeros((size, size)), np.zeros((1, size)), torch.float32)
    first = torch.full((size,), 3.0)
    second = first.clone()
    second[7] += 2.0**-22
    found = _population(landscape, torch.stack([first, second])).measure(PairwiseDistances())
    assert found.scalars["distance_max"] == 2.0**-22


def test_one_worker_has_no_distances_and_says_so(make_bowl):
    landscape = make_bowl(np.eye(2), np.zeros((1, 2)))
    found = _population(landscape, torch.zeros(1, 2, dtype=torch.float64)).measure(PairwiseDistances())
    assert all(map(math.isnan, found.scalars.values()))
    assert "one worker only" in found.warnings[0]
    tethered = _population(landscape, torch.zeros(1, 2).double(), centre=torch.tensor([3.0, 4.0]).double())
    assert tethered.measure(PairwiseDistances()).scalars["distance_to_centre_mean"] == 5
