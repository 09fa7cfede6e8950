import numpy as np
import pandas as pd
import pytest
import torch

from landscape.errors import ConfigurationError
from landscape.objective import Landscape, Layout
from landscape.store import SnapshotSpan
from landscape.testing import check_projector
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.planes import HessianPlane, RandomDirections, ThreePoints, normalised

LAYOUT = [
    {"name": "conv.weight", "shape": [4, 2, 3, 3]},
    {"name": "conv.bias", "shape": [4]},
    {"name": "out.weight", "shape": [3, 5]},
    {"name": "out.bias", "shape": [3]},
]
SHAPES = {entry["name"]: tuple(entry["shape"]) for entry in LAYOUT}
SIZE = 94


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def walked():
    weights = torch.randn(10, SIZE, generator=seeded(3), dtype=torch.float64).cumsum(0)
    rows = pd.DataFrame({"step": [0, 0, 5, 5, 10, 10, 15, 15, 20, 20], "worker": ["0", "1"] * 5})
    return weights, SnapshotSpan.from_tensor(weights, LAYOUT, rows)


def filters(vector):
    return [*vector[:72].reshape(4, 18), *vector[76:91].reshape(3, 5)]


# -- random directions ----------------------------------------------------------------------------------------


def test_each_filter_of_a_direction_has_the_norm_of_that_of_the_weights(walked):
    weights, span = walked
    projection = RandomDirections().fit(span, seeded())
    for direction in projection.directions:
        for one, own in zip(filters(direction), filters(weights[8].numpy()), strict=True):
            assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(own), rel=1e-12)
        np.testing.assert_array_equal(direction[72:76], 0)
        np.testing.assert_array_equal(direction[91:], 0)
    # They are random, hence not parallel, and were not turned to be orthogonal.
    assert 0 < projection.quality["largest_cosine"] < 0.6


def test_layers_and_vectors_are_scaled_where_asked_for(walked):
    weights, _ = walked
    drawn = torch.randn(SIZE, generator=seeded(1), dtype=torch.float64)
    layer = normalised(drawn, weights[0], SHAPES, "layer", vectors="scale")
    for part in (slice(0, 72), slice(72, 76), slice(76, 91), slice(91, 94)):
        torch.testing.assert_close(layer[part].norm(), weights[0, part].norm())
        torch.testing.assert_close(layer[part] / layer[part].norm(), drawn[part] / drawn[part].norm())
    assert torch.equal(normalised(drawn, weights[0], SHAPES, "none"), drawn)
    # A filter of zeros stays where it is.
    zero = weights[0].clone()
    zero[:18] = 0
    found = normalised(drawn, zero, SHAPES, "filter")
    assert torch.equal(found[:18], torch.zeros(18, dtype=torch.float64))


def test_filter_normalised_directions_do_not_see_the_scale_of_filters(walked):
    """Rescaling a filter rescales the direction with it, so surfaces of equivalent networks agree."""
    weights, _ = walked
    drawn = torch.randn(SIZE, generator=seeded(1), dtype=torch.float64)
    scaled = weights[0].clone()
    scaled[18:36] *= 7.0
    one, two = (normalised(drawn, w, SHAPES, "filter") for w in (weights[0], scaled))
    torch.testing.assert_close(two[18:36], 7.0 * one[18:36])
    torch.testing.assert_close(two[:18], one[:18])


def test_directions_of_a_network_with_batch_normalisation():
    """Filters as they are in the module; biases and the factors of batch normalisation stay where they are."""
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Flatten(), torch.nn.Linear(5, 4)
    ).double()
    layout = Layout.of(module)
    weights = layout.vector(module).detach()
    path = weights + 0.1 * torch.randn(4, layout.size, generator=seeded(1), dtype=torch.float64).cumsum(0)
    projection = RandomDirections().fit(SnapshotSpan.from_tensor(path, layout), seeded())
    own = layout.split(path[-1])
    for direction in torch.from_numpy(projection.directions):
        for name, part in layout.split(direction).items():
            if part.ndim < 2:
                assert not part.any(), name
            else:
                torch.testing.assert_close(part.flatten(1).norm(dim=1), own[name].flatten(1).norm(dim=1))


@pytest.mark.parametrize("normalisation", ["filter", "none"])
def test_coordinates_solve_the_least_squares_problem(walked, normalisation):
    weights, span = walked
    projection = RandomDirections(dimensions=3, normalisation=normalisation, worker="1", step=5).fit(
        span, seeded()
    )
    offset = (weights - weights[3]).numpy()
    expected, *_ = np.linalg.lstsq(projection.directions.T, offset.T, rcond=None)
    np.testing.assert_allclose(projection.coordinates, expected.T, atol=1e-9)
    np.testing.assert_allclose(projection.transform(span.coordinates), expected.T, atol=1e-9)
    rest = np.linalg.norm(offset - expected.T @ projection.directions, axis=1)
    away = np.linalg.norm(weights - weights.mean(0), axis=1)
    assert projection.quality["off_plane_share"] == pytest.approx(np.median(rest / away), rel=1e-8)
    z = np.random.default_rng(0).normal(size=(6, 3))
    plane = projection.weights(z)
    torch.testing.assert_close(
        plane, weights[3] + torch.from_numpy(z) @ torch.from_numpy(projection.directions)
    )
    again, *_ = np.linalg.lstsq(projection.directions.T, (plane - weights[3]).numpy().T, rcond=None)
    np.testing.assert_allclose(again.T, z, atol=1e-10)


def test_directions_need_shapes_to_be_normalised(span_of, curved):
    with pytest.raises(ConfigurationError, match="recorded without a layout"):
        RandomDirections().fit(span_of(curved), seeded())
    assert RandomDirections(normalisation="none").fit(span_of(curved), seeded()).directions.shape == (2, 200)


def test_snapshots_that_are_not_there_are_named(walked):
    _, span = walked
    with pytest.raises(ConfigurationError, match="worker '7'; there are those of 0, 1"):
        RandomDirections(worker="7").fit(span, seeded())
    with pytest.raises(ConfigurationError, match="at step 3; the first steps are 0, 5, 10"):
        RandomDirections(step=3).fit(span, seeded())


# -- the Hessian ----------------------------------------------------------------------------------------------


@pytest.fixture
def quadratic():
    """A loss whose Hessian is known: linear regression on 40 examples of 5 numbers."""
    x = torch.randn(40, 5, generator=seeded(), dtype=torch.float64) * torch.tensor([5.0, 3, 1, 1, 1])
    y = torch.randn(40, 1, generator=seeded(), dtype=torch.float64)
    module = torch.nn.Linear(5, 1, dtype=torch.float64)
    design = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], dim=1)
    return Landscape(module, "mse", (x, y), dtype=torch.float64), 2 * design.T @ design / 40


def test_the_axes_are_the_top_eigenvectors_of_the_hessian(quadratic):
    landscape, hessian = quadratic
    weights = torch.randn(7, 6, generator=seeded(), dtype=torch.float64)
    span = SnapshotSpan.from_tensor(weights)
    projection = HessianPlane().fit_to(landscape, span, seeded())
    values, vectors = np.linalg.eigh(hessian.numpy())
    for axis, direction in enumerate(projection.directions):
        expected = vectors[:, -1 - axis]
        assert abs(direction @ expected) == pytest.approx(1, abs=1e-8)
        assert direction[np.abs(direction).argmax()] > 0
        assert projection.quality[f"eigenvalue_{axis + 1}"] == pytest.approx(values[-1 - axis], rel=1e-6)
    assert projection.axis_labels[0] == f"eigenvector 1 (λ = {values[-1]:.3g})"
    offset = (weights - weights[6]).numpy()
    np.testing.assert_allclose(projection.coordinates, offset @ projection.directions.T, atol=1e-9)


def test_the_landscape_is_asked_for(quadratic, span_of, curved):
    landscape, _ = quadratic
    with pytest.raises(ConfigurationError, match=r"looks at their loss: call fit_to"):
        HessianPlane().fit(span_of(curved), seeded())
    with pytest.raises(ConfigurationError, match="have 200 weights and the landscape 6"):
        HessianPlane().fit_to(landscape, span_of(curved), seeded())


# -- three points ---------------------------------------------------------------------------------------------


def test_the_plane_goes_through_its_three_points(walked):
    weights, span = walked
    projection = ThreePoints((("0", 0), ("0", None), ("1", 10))).fit(span, seeded())
    first, second, third = weights[[0, 8, 5]].numpy()
    u = second - first
    v = third - first - (third - first) @ u / (u @ u) * u
    axes = np.stack([u / np.linalg.norm(u), v / np.linalg.norm(v)])
    np.testing.assert_allclose(projection.coordinates, (weights.numpy() - first) @ axes.T, atol=1e-8)
    np.testing.assert_allclose(projection.corners[0], 0, atol=1e-9)
    assert projection.corners[1, 1] == pytest.approx(0, abs=1e-9)
    restored = span.restore(projection.inverse(projection.corners)).numpy()
    np.testing.assert_allclose(restored, [first, second, third], atol=1e-8)
    assert projection.quality["explained_variance"] == pytest.approx(
        1
        - np.sum((weights.numpy() - first - projection.coordinates @ axes) ** 2)
        / np.sum((weights.numpy() - weights.numpy().mean(0)) ** 2)
    )


def test_by_default_it_goes_through_ends_or_along_the_path(walked):
    weights, span = walked
    corners = span.restore(_inverse_of_corners(ThreePoints().fit(span, seeded())))
    torch.testing.assert_close(corners, weights[[0, 4, 8]], atol=1e-8, rtol=0)
    rows = pd.DataFrame({"step": [0, 0, 0, 1, 1, 1], "worker": list("abcabc")})
    three = SnapshotSpan.from_tensor(weights[:6], LAYOUT, rows)
    corners = three.restore(_inverse_of_corners(ThreePoints().fit(three, seeded())))
    torch.testing.assert_close(corners, weights[3:6], atol=1e-8, rtol=0)


def _inverse_of_corners(projection):
    return projection.inverse(projection.corners)


def test_points_on_a_line_have_no_plane(span_of):
    line = np.outer([0.0, 1.0, 2.0, 4.0], np.ones(5)) + np.outer([0, 0, 0, 0], np.ones(5))
    with pytest.raises(ConfigurationError, match=r"0 at step 0, 0 at step 2, 0 at step 3\) lie on a line"):
        ThreePoints().fit(span_of(line), seeded())
    with pytest.raises(ConfigurationError, match="are 2; give three pairs"):
        ThreePoints((("0", 0), ("0", 1)))


# -- bits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 21, 106])
def test_bits_are_read_as_two_integers(span_of, size):
    bits = np.random.default_rng(size).integers(0, 2, size=(12, size)).astype(float)
    projection = BinaryEncoder().fit(span_of(bits), seeded())
    middle = -(-size // 2)
    for row, found in zip(bits.astype(int), projection.coordinates, strict=True):
        expected = (int("".join(map(str, row[:middle])), 2), int("".join(map(str, row[middle:])), 2))
        assert (int(found[0]), int(found[1])) == expected
    assert projection.quality["bits_used"] == 1.0


def test_of_many_weights_the_first_bits_of_each_half_count(span_of):
    weights = np.random.default_rng(0).normal(size=(8, 300))
    projection = BinaryEncoder(threshold=0.0).fit(span_of(weights), seeded())
    for row, found in zip(weights > 0, projection.coordinates, strict=True):
        halves = [row[:53], row[150:203]]
        assert [int(value) for value in found] == [int("".join(str(int(b)) for b in h), 2) for h in halves]
    assert projection.quality["bits_used"] == pytest.approx(106 / 300)


# -- all ------------------------------------------------------------------------------------------------------


def test_keeps_the_rules_of_projectors(walked, quadratic):
    _, span = walked
    landscape, _ = quadratic
    check_projector(RandomDirections(), span)
    check_projector(RandomDirections(dimensions=1, normalisation="layer", vectors="scale"), span)
    check_projector(ThreePoints(), span)
    check_projector(BinaryEncoder(threshold=0.1))
    small = SnapshotSpan.from_tensor(torch.randn(7, 6, generator=seeded(), dtype=torch.float64))
    check_projector(HessianPlane(dimensions=3), small, landscape=landscape)


@pytest.mark.parametrize("points", [(0, 0, 500), (("0", "last"),) * 3, 3])
def test_points_that_are_no_pairs_are_refused(points):
    with pytest.raises(ConfigurationError, match="are no pairs of worker and step"):
        ThreePoints(points=points)
