import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from minisom import MiniSom

from landscape.errors import ConfigurationError
from landscape.testing import check_projector
from landscape_projectors._lattice import Lattice
from landscape_projectors.som import SOM, train

GENERATOR = torch.Generator()


def to_minisom(values, som):
    """Rearrange nodes from row * columns + column to minisom's [column, row]."""
    return values.reshape(som.rows, som.columns, -1).transpose(1, 0, 2)


def from_minisom(values):
    columns, rows, features = values.shape
    return values.transpose(1, 0, 2).reshape(rows * columns, features)


def oracle(som, samples, codebook, radii):
    """Train minisom's batch algorithm from the same codebook with the same radii.

    minisom shifts the rows of a hexagonal lattice counted from the LAST one to the left, we shift the odd
    ones to the right. For an odd number of rows this is the same lattice, for an even number its mirror
    image.
    """
    mirrored = som.topology == "hexagonal" and som.rows % 2 == 0
    package = MiniSom(
        som.columns,
        som.rows,
        samples.shape[1],
        sigma=1.0,
        learning_rate=1.0,
        decay_function=lambda rate, step, steps: 1.0,
        topology=som.topology,
        random_seed=0,
    )
    package._sigma_decay_function = lambda sigma, step, steps: radii[step]
    start = to_minisom(codebook, som)
    package._weights = np.array(start[::-1] if mirrored else start)
    package.train_batch_offline(samples, len(radii))
    return package, mirrored


MAPS = [
    SOM(rows=7, columns=9, topology="hexagonal", epochs=12),
    SOM(rows=8, columns=6, topology="hexagonal", epochs=12),
    SOM(rows=7, columns=9, topology="rectangular", epochs=12),
    SOM(rows=6, columns=6, topology="rectangular", epochs=20, start_radius=4.0, end_radius=0.7),
    SOM(rows=2, columns=2, topology="hexagonal", epochs=5),
]


@pytest.mark.parametrize("som", MAPS, ids=str)
def test_codebook_and_errors_equal_those_of_minisom(span_of, curved, som):
    span = span_of(curved)
    samples = np.asarray(span.coordinates)
    package, mirrored = oracle(som, samples, som.start(span), som.radii())
    weights = package.get_weights()[::-1] if mirrored else package.get_weights()
    projection = som.fit(span, GENERATOR)
    scale = np.abs(samples).max()
    np.testing.assert_allclose(projection.codebook, from_minisom(weights), rtol=0, atol=1e-12 * scale)

    radius = np.linalg.norm(samples, axis=1).mean()
    assert projection.quality["quantisation_error"] == pytest.approx(
        package.quantization_error(samples) / radius, rel=1e-6
    )
    assert projection.quality["topographic_error"] == pytest.approx(package.topographic_error(samples))
    winners = [package.winner(sample) for sample in samples]
    found = [(column, row) for row, column in (divmod(w, som.columns) for w in projection.winners(samples))]
    if mirrored:
        winners = [(som.columns - 1 - column, row) for column, row in winners]
    assert found == winners


@pytest.mark.parametrize("som", MAPS, ids=str)
def test_the_map_of_the_coordinates_is_that_of_minisom_on_raw_weights(span_of, curved, som):
    span = span_of(curved)
    raw = np.asarray(curved, dtype=np.float64)
    package, mirrored = oracle(som, raw, span.restore(som.start(span)).double().numpy(), som.radii())
    weights = package.get_weights()[::-1] if mirrored else package.get_weights()
    projection = som.fit(span, GENERATOR)
    found = span.restore(projection.codebook).double().numpy()
    np.testing.assert_allclose(found, from_minisom(weights), rtol=0, atol=1e-10 * np.abs(raw).max())
    winners = [package.winner(snapshot) for snapshot in raw]
    if mirrored:
        winners = [(som.columns - 1 - column, row) for column, row in winners]
    ours = (divmod(w, som.columns) for w in projection.winners(np.asarray(span.coordinates)))
    assert [(column, row) for row, column in ours] == winners


@pytest.mark.parametrize("som", [MAPS[0], MAPS[2]], ids=str)
def test_u_matrix_equals_that_of_minisom(span_of, curved, som):
    # Only for an odd number of rows: minisom's distance_map assumes that the even rows are the shifted ones.
    span = span_of(curved)
    projection = som.fit(span, GENERATOR)
    package = MiniSom(som.columns, som.rows, projection.codebook.shape[1], sigma=1.0, topology=som.topology)
    package._weights = np.array(to_minisom(projection.codebook, som))
    expected = package.distance_map(scaling="mean").T.ravel()
    found = projection.u_matrix()
    np.testing.assert_allclose(found / found.max(), expected, rtol=1e-10)


def test_the_map_of_the_coordinates_is_the_map_of_the_raw_weights(span_of, curved):
    span = span_of(curved)
    som = SOM(rows=6, columns=7, epochs=15)
    lattice = Lattice(6, 7, "hexagonal")
    start = span.restore(som.start(span)).double().numpy()
    raw = train(curved, start, lattice, som.radii())
    reduced = span.restore(som.fit(span, GENERATOR).codebook).double().numpy()
    np.testing.assert_allclose(reduced, raw, atol=1e-8)


def test_two_fits_give_the_same_bits_and_draw_nothing(span_of, curved):
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    first = SOM(rows=9, columns=9).fit(span_of(curved), generator)
    second = SOM(rows=9, columns=9).fit(span_of(curved), torch.Generator().manual_seed(6))
    assert torch.equal(generator.get_state(), before)
    for name, array in first.to_arrays().items():
        np.testing.assert_array_equal(array, second.to_arrays()[name])
    assert first.quality == second.quality


@pytest.mark.parametrize("topology", ["hexagonal", "rectangular"])
def test_inverse_is_exact_at_the_nodes(span_of, curved, topology):
    projection = SOM(rows=7, columns=8, topology=topology).fit(span_of(curved), GENERATOR)
    back = projection.inverse(projection.lattice.positions)
    np.testing.assert_allclose(back, projection.codebook, atol=1e-12 * np.abs(projection.codebook).max())


def test_inverse_is_continuous_and_stays_within_the_codebook(span_of, curved):
    projection = SOM(rows=5, columns=6).fit(span_of(curved), GENERATOR)
    line = np.linspace([-2.0, -1.0], [7.0, 6.0], 4001)
    values = projection.inverse(line)
    steps = np.linalg.norm(np.diff(values, axis=0), axis=1)
    edges = np.max(np.linalg.norm(projection.codebook[:, None] - projection.codebook[None], axis=2))
    assert steps.max() < edges * np.linalg.norm(line[1] - line[0]) * 2
    assert (values <= projection.codebook.max(axis=0) + 1e-12).all()
    assert (values >= projection.codebook.min(axis=0) - 1e-12).all()


def test_a_flat_map_gives_back_every_position(span_of):
    """On a surface that never comes near itself, transform undoes inverse."""
    generator = np.random.default_rng(0)
    flat = generator.uniform(size=(400, 2)) @ np.linalg.qr(generator.normal(size=(30, 2)))[0].T
    projection = SOM(rows=6, columns=6, end_radius=1.5).fit(span_of(flat), GENERATOR)
    corners = projection.lattice.positions[projection.lattice.triangles]
    weights = generator.dirichlet(np.ones(3), size=300)
    chosen = generator.integers(len(corners), size=300)
    positions = np.einsum("kj,kjd->kd", weights, corners[chosen])
    np.testing.assert_allclose(projection.transform(projection.inverse(positions)), positions, atol=1e-6)


def test_transform_finds_the_nearest_point_of_the_surface(span_of, curved):
    """Against brute force: no point of a fine grid over every triangle is nearer."""
    span = span_of(curved)
    projection = SOM(rows=4, columns=5).fit(span, GENERATOR)
    samples = np.asarray(span.coordinates)
    found = np.linalg.norm(samples - projection.inverse(projection.transform(samples)), axis=1)
    steps = np.linspace(0, 1, 13)
    weights = np.array([(1 - u - v, u, v) for u in steps for v in steps if u + v <= 1 + 1e-12])
    surface = np.einsum("wj,tjr->twr", weights, projection.codebook[projection.lattice.triangles])
    surface = surface.reshape(-1, samples.shape[1])
    brute = np.array([np.linalg.norm(surface - sample, axis=1).min() for sample in samples])
    assert (found <= brute + 1e-9).all()
    assert projection.quality["surface_error"] <= projection.quality["quantisation_error"]


def test_paths_do_not_collapse_on_the_cells(span_of, curved):
    span = span_of(curved)
    projection = SOM(rows=5, columns=5).fit(span, GENERATOR)
    cells = len(np.unique(projection.winners(span.coordinates)))
    places = len(np.unique(np.round(projection.coordinates, 9), axis=0))
    assert cells <= 25
    assert places > 2 * cells


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    topology=st.sampled_from(["hexagonal", "rectangular"]),
    points=st.integers(2, 25),
    features=st.integers(1, 6),
    seed=st.integers(0, 10_000),
)
def test_winners_are_nearest_and_the_codebook_stays_in_the_hull(
    rows, columns, topology, points, features, seed
):
    generator = np.random.default_rng(seed)
    samples = generator.normal(size=(points, features))
    lattice = Lattice(rows, columns, topology)
    start = generator.normal(size=(rows * columns, features))
    codebook = train(samples, start, lattice, np.geomspace(3.0, 0.05, 8))
    # A codebook vector is a mean of samples with positive weights, however small the radius.
    assert np.isfinite(codebook).all()
    assert (codebook <= samples.max(axis=0) + 1e-9).all()
    assert (codebook >= samples.min(axis=0) - 1e-9).all()

    from landscape_projectors.som import SOMProjection

    projection = SOMProjection(lattice, codebook, np.empty((0, 2)), {})
    distances = np.linalg.norm(samples[:, None] - codebook[None], axis=2)
    winners = projection.winners(samples)
    np.testing.assert_allclose(
        distances[np.arange(points), winners], distances.min(axis=1), rtol=1e-12, atol=1e-12
    )
    nearest = np.linalg.norm(samples - projection.inverse(projection.transform(samples)), axis=1)
    assert (nearest <= distances.min(axis=1) + 1e-7).all()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 7), columns=st.integers(2, 7), topology=st.sampled_from(["hexagonal", "rectangular"])
)
def test_triangles_fill_the_hull_of_the_lattice_once(rows, columns, topology):
    from scipy.spatial import ConvexHull

    lattice = Lattice(rows, columns, topology)
    a, b, c = (lattice.positions[lattice.triangles[:, k]] for k in range(3))
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (np.abs(areas) > 0.1).all()
    assert np.abs(areas).sum() == pytest.approx(ConvexHull(lattice.positions).volume)
    # Every edge belongs to one triangle (on the border) or two.
    edges = np.sort(np.concatenate([lattice.triangles[:, pair] for pair in ([0, 1], [1, 2], [0, 2])]), axis=1)
    assert np.unique(edges, axis=0, return_counts=True)[1].max() <= 2
    touching = lattice.neighbours()
    assert (touching == touching.T).all()
    assert touching.sum(axis=1).max() <= (6 if topology == "hexagonal" else 8)


def test_one_dimension_is_enough(span_of):
    line = np.outer([0.0, 1.0, 3.0], np.ones(9))
    projection = SOM(rows=3, columns=3).fit(span_of(line), GENERATOR)
    assert np.isfinite(projection.codebook).all()
    assert np.isfinite(projection.coordinates).all()
    assert np.isnan(projection.quality["trustworthiness"])


def test_too_few_and_equal_snapshots_are_refused(span_of):
    with pytest.raises(ConfigurationError, match="the 2 snapshots are too few"):
        SOM(rows=3, columns=3).fit(span_of(np.random.default_rng(0).normal(size=(2, 9))), GENERATOR)
    with pytest.raises(ConfigurationError, match="all the same point"):
        SOM(rows=3, columns=3).fit(span_of(np.ones((4, 5))), GENERATOR)


@pytest.mark.parametrize("topology", ["hexagonal", "rectangular"])
def test_online_training_is_that_of_minisom(span_of, curved, topology):
    """The same samples in the same order, with the same radii and rates: the same codebook."""
    span = span_of(curved)
    som = SOM(
        rows=7, columns=9, topology=topology, training="online", updates=400, learning_rates=(0.5, 0.05)
    )
    samples = np.asarray(span.coordinates)
    order = torch.randint(len(samples), (400,), generator=torch.Generator().manual_seed(8)).numpy()
    radii, rates = som.radii(), np.geomspace(0.5, 0.05, 400)
    package = MiniSom(9, 7, samples.shape[1], sigma=1.0, learning_rate=1.0, topology=topology, random_seed=0)
    package._weights = np.array(to_minisom(som.start(span), som))
    package._learning_rate_decay_function = lambda rate, step, steps: rates[step]
    package._sigma_decay_function = lambda sigma, step, steps: radii[step]
    for step, chosen in enumerate(order):
        package.update(samples[chosen], package.winner(samples[chosen]), step, 400)
    projection = som.fit(span, torch.Generator().manual_seed(8))
    scale = np.abs(samples).max()
    np.testing.assert_allclose(
        projection.codebook, from_minisom(package.get_weights()), rtol=0, atol=1e-12 * scale
    )
    again = som.fit(span, torch.Generator().manual_seed(8))
    np.testing.assert_array_equal(projection.codebook, again.codebook)


def test_explained_variance_is_that_of_the_surface(span_of, curved):
    span = span_of(curved)
    projection = SOM(rows=6, columns=6).fit(span, GENERATOR)
    missed = np.sum((span.coordinates - projection.inverse(projection.coordinates)) ** 2)
    assert projection.quality["explained_variance"] == pytest.approx(1 - missed / np.sum(span.coordinates**2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 1}, "1 x 20 nodes is not a surface"),
        ({"topology": "triangular"}, "'hexagonal' or 'rectangular'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"end_radius": 0.0}, "must be positive"),
        ({"start_radius": 1.0, "end_radius": 2.0}, "must not grow"),
        ({"training": "offline"}, "'batch' or 'online'"),
        ({"updates": 0}, "updates is 0"),
        ({"learning_rates": (0.5, 0.0)}, "above 0 and at most 1"),
    ],
)
def test_wrong_fields_are_refused_with_their_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        SOM(**fields)


def test_the_radius_falls_from_half_the_longer_side_to_the_end():
    radii = SOM(rows=10, columns=20, epochs=4, end_radius=1.25).radii()
    np.testing.assert_allclose(radii, [10, 5, 2.5, 1.25])


def test_the_default_map_has_small_errors_on_paths_like_those_of_training(span_of):
    generator = np.random.default_rng(1)
    frame = np.linalg.qr(generator.normal(size=(500, 10)))[0]
    t = np.linspace(0, 1, 60)[:, None]
    directions = generator.normal(size=(5, 10))
    paths = [(1 - np.exp(-4 * t)) * direction + 0.3 * t**2 * direction[::-1] for direction in directions]
    points = np.concatenate(paths) @ frame.T
    quality = SOM().fit(span_of(points), GENERATOR).quality
    assert quality["quantisation_error"] < 0.05
    assert quality["trustworthiness"] > 0.98


def test_keeps_the_rules_of_projectors():
    check_projector(SOM(rows=6, columns=5, epochs=10))
    check_projector(SOM(rows=4, columns=6, topology="rectangular", epochs=10))
    check_projector(SOM(rows=4, columns=4, training="online", updates=200))
