"""Partners among points: what sorting finds against all pairs."""

import time

import numpy as np
import pytest

from landscape.systems import match, solutions


def all_pairs(points, others, tolerance):
    """Return the nearest of `others` within the tolerance, in so many words."""
    result = []
    for a in points:
        best, nearest = np.inf, -1
        for index, b in enumerate(others):
            size = max(1.0, np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
            distance = np.abs(a - b).max(initial=0.0) / size
            if distance < best:
                best, nearest = distance, index
        result.append(nearest if best <= tolerance else -1)
    return result


def clustered(rng, number, unknowns, spread):
    """Return points of sizes from tiny to huge in groups of about the distance `spread`, some of them twice."""
    size = 10.0 ** rng.uniform(-3, 6, (number, 1))
    centers = size * (rng.normal(size=(number, unknowns)) + 1j * rng.normal(size=(number, unknowns)))
    points = centers[rng.integers(number // 3, size=number)]
    moved = points + spread * np.maximum(np.abs(points), 1.0) * rng.normal(size=points.shape)
    return np.where(rng.random((number, 1)) < 0.3, points, moved)


@pytest.mark.parametrize("tolerance", [0.0, 1e-12, 1e-6, 1e-2, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("unknowns", [1, 2, 7])
def test_partners_are_those_of_all_pairs(monkeypatch, tolerance, unknowns):
    for seed, compared in ((0, 4_000_000), (1, 50)):
        monkeypatch.setattr(solutions, "_COMPARED", compared)
        rng = np.random.default_rng(seed)
        together = clustered(rng, 90, unknowns, max(tolerance, 1e-14))
        points, others = together[:50], together[40:]
        assert match(points, others, tolerance).tolist() == all_pairs(points, others, tolerance)


def test_nothing_matches_nothing_and_what_is_no_number():
    none, one = np.zeros((0, 2), complex), np.zeros((1, 2), complex)
    nan = np.array([[np.nan, 0.0], [0.0, 0.0], [np.inf, 0.0]], dtype=complex)
    assert match(none, one).tolist() == []
    assert match(one, none).tolist() == [-1]
    assert match(one, nan).tolist() == [1]
    assert match(nan, nan).tolist() == [-1, 1, -1]
    assert match(np.zeros((2, 0), complex), np.zeros((3, 0), complex)).tolist() == [0, 0]


def test_a_hundred_thousand_points_find_their_partners_in_seconds():
    # All pairs would be 10^10; these have symmetries of signs and complex conjugation, as critical points do.
    rng = np.random.default_rng(0)
    base = rng.normal(size=(12_500, 6)) + 1j * rng.normal(size=(12_500, 6))
    flipped = np.concatenate([base, base * [-1, -1, 1, 1, 1, 1]])
    points = np.concatenate([flipped, flipped * [1, 1, -1, -1, 1, 1]])
    points = np.concatenate([points, points.conj()])
    order = rng.permutation(len(points))
    begin = time.process_time()
    assert (match(points[order] * (1 + 1e-9), points) == order).all()
    assert time.process_time() - begin < 20
