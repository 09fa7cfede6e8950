"""The span of snapshots against dense float64 algebra."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from landscape.errors import ConfigurationError, RunError
from landscape.store import RunDirectory, SnapshotSpan, span

LAYOUT = [
    {"name": "layer1.weight", "shape": [4, 5]},
    {"name": "layer1.bias", "shape": [5]},
    {"name": "layer2.weight", "shape": [5, 3]},
    {"name": "layer2.bias", "shape": [3]},
]
SIZE = 43


def path_of(seed, rows, size, dtype=torch.float64, offset=0.0):
    """A random walk: snapshots of decreasing spread, like a training."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    return (offset + (steps * 0.8 ** torch.arange(rows)[:, None]).cumsum(0)).to(dtype)


@pytest.fixture(params=[64 * 2**20, 2000], ids=["one chunk", "many chunks"])
def _chunked(request, monkeypatch):
    monkeypatch.setattr(span, "CHUNK_BYTES", request.param)


@pytest.fixture
def on_disk(run):
    """Return a function that stores the rows of a tensor as snapshots and returns their span."""

    def make(weights, layout=None, workers=("0",)):
        for step, rows in enumerate(weights.split(len(workers))):
            run.write_snapshot(step, dict(zip(workers, rows, strict=True)), layout=layout)
        return RunDirectory(run.path).span()

    return make


# -- against dense algebra ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 12),
    size=st.integers(1, 40),
    budget=st.sampled_from([1, 300, 10**7]),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_the_span_is_that_of_a_dense_svd(seed, rows, size, budget, offset):
    weights = path_of(seed, rows, size, offset=offset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span, "CHUNK_BYTES", budget)
        found = SnapshotSpan.from_tensor(weights)
        dense = weights.numpy()
        centred = dense - dense.mean(axis=0)
        scale = np.abs(centred).max() if rows > 1 else 1.0
        singular = np.linalg.svd(centred, compute_uv=False)
        rank = found.rank
        assert rank <= min(rows - 1, size)
        np.testing.assert_allclose(found.gram, centred @ centred.T, atol=1e-11 * scale**2 * size)
        np.testing.assert_allclose(
            found.variance, singular[:rank] ** 2 / max(1, rows - 1), rtol=1e-6, atol=1e-12 * scale**2 * size
        )
        # Directions that were left out are too short to matter.
        assert (singular[rank:] <= 1e-6 * max(singular[0], 1e-300)).all()
        np.testing.assert_allclose(found.coordinates.mean(axis=0), 0, atol=1e-10 * scale * size)
        np.testing.assert_allclose(pdist(found.coordinates), pdist(dense), atol=1e-6 * scale, rtol=1e-6)
        np.testing.assert_allclose(found.mean().numpy(), dense.mean(axis=0), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(found.restore(found.coordinates).numpy(), dense, atol=1e-6 * scale)
        np.testing.assert_allclose(found.reduce(weights), found.coordinates, atol=1e-6 * scale)
        np.testing.assert_allclose(found.off_span(weights), 0, atol=1e-6 * scale)
        np.testing.assert_allclose(found.variance_ratio.sum(), 1.0 if rank else 0.0)


@pytest.mark.usefixtures("_chunked")
def test_coordinates_are_those_of_principal_component_analysis(on_disk):
    weights = path_of(1, 9, SIZE)
    found = on_disk(weights)
    pca = PCA().fit(weights.numpy())
    expected = pca.transform(weights.numpy())[:, : found.rank]
    assert found.rank == 8
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(expected), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.variance, pca.explained_variance_[:8], rtol=1e-9)
    np.testing.assert_allclose(found.variance_ratio, pca.explained_variance_ratio_[:8], rtol=1e-9)


@pytest.mark.usefixtures("_chunked")
def test_points_are_projected_orthogonally(on_disk):
    weights = path_of(2, 5, SIZE)
    found = on_disk(weights)
    points = path_of(3, 4, SIZE)
    centred = (weights - weights.mean(0)).numpy()
    offset = points.numpy() - weights.mean(0).numpy()
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    inside = offset @ right[:4].T @ right[:4]
    np.testing.assert_allclose(found.off_span(points), np.linalg.norm(offset - inside, axis=1), rtol=1e-10)
    back = found.restore(found.reduce(points)).numpy()
    np.testing.assert_allclose(back, weights.mean(0).numpy() + inside, atol=1e-10)


def test_a_point_of_the_span_is_at_distance_zero_though_it_is_far_from_the_mean():
    weights = path_of(4, 6, 500)
    found = SnapshotSpan.from_tensor(weights)
    far = found.restore(1e6 * np.eye(found.rank)[:2])
    assert (found.off_span(far) < 1e-6).all()  # half of the digits would be 1e-2


@pytest.mark.usefixtures("_chunked")
def test_float32_snapshots_keep_small_distances(on_disk):
    # Late snapshots 1e4 times closer than the diameter: products in float32 lose them.
    weights = path_of(5, 4, 3000, torch.float32, offset=10.0)
    late = weights[-1] + 1e-4 * path_of(6, 3, 3000, torch.float32)
    both = torch.cat([weights, late])
    found = on_disk(both)
    np.testing.assert_allclose(pdist(found.coordinates), pdist(both.double().numpy()), rtol=1e-6)
    centred = both - both.mean(0)
    single = (centred @ centred.T).double()
    squares = single.diagonal()[:, None] + single.diagonal() - 2 * single
    apart = squares.clamp(min=0).sqrt().numpy()[np.triu_indices(len(both), 1)]
    assert (np.abs(apart / pdist(both.double().numpy()) - 1) > 0.05).any()
    assert found.restore(found.coordinates).dtype == torch.float32
    np.testing.assert_allclose(found.restore(found.coordinates).numpy(), both.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(on_disk, dtype):
    weights = path_of(7, 4, SIZE, dtype)
    np.testing.assert_allclose(
        pdist(on_disk(weights).coordinates), pdist(weights.double().numpy()), rtol=1e-9
    )


# -- parts and selections -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_chunked")
def test_grams_of_parts_add_up_to_the_whole(on_disk):
    weights = path_of(8, 6, SIZE)
    found = on_disk(weights, LAYOUT)
    grams = found.parameter_grams()
    assert list(grams) == [entry["name"] for entry in LAYOUT]
    # Entries far smaller than the largest are differences of large ones.
    np.testing.assert_allclose(sum(grams.values()), found.gram, rtol=0, atol=1e-14 * found.gram.max())
    one, two = found.part("layer1"), found.part(["layer2.weight", "layer2.bias"])
    np.testing.assert_allclose(one.gram + two.gram, found.gram, rtol=1e-12, atol=1e-12)
    assert (one.size, two.size, len(one)) == (25, 18, 6)
    np.testing.assert_allclose(pdist(one.coordinates), pdist(weights[:, :25].numpy()), rtol=1e-9)


@pytest.mark.usefixtures("_chunked")
def test_a_part_that_is_in_pieces_is_put_together_in_order(on_disk):
    weights = path_of(9, 5, SIZE)
    found = on_disk(weights, LAYOUT).part("*.weight")
    expected = torch.cat([weights[:, :20], weights[:, 25:40]], dim=1)
    assert found.names == ["layer1.weight", "layer2.weight"]
    assert torch.equal(found.weights(), expected)
    assert torch.equal(found.weights([3, 1]), expected[[3, 1]])
    assert torch.equal(found.weights(first=18, last=23), expected[:, 18:23])
    assert found.weights([0], first=4, last=4).shape == (1, 0)
    assert found.shapes == {"layer1.weight": (4, 5), "layer2.weight": (5, 3)}
    assert torch.equal(found.columns(weights), expected)
    np.testing.assert_allclose(found.mean().numpy(), expected.mean(0).numpy(), atol=1e-14)
    np.testing.assert_allclose(found.restore(found.coordinates).numpy(), expected.numpy(), atol=1e-9)
    np.testing.assert_allclose(found.reduce(expected), found.coordinates, atol=1e-9)
    with pytest.raises(RunError, match=r"\(K, 35\) are needed; got \(5, 43\)\. columns\(\)"):
        found.reduce(weights)


def test_all_parts_come_from_one_pass(on_disk, monkeypatch):
    found = on_disk(path_of(10, 4, SIZE), LAYOUT)
    found.gram  # noqa: B018 - reads the files
    monkeypatch.setattr(span._OnDisk, "read", lambda *arguments: pytest.fail("read again"))
    assert found.part("layer1.*").rank == 3
    assert found.part("layer2.*").part("*.bias").rank == 3


@pytest.mark.usefixtures("_chunked")
def test_more_snapshots_than_weights_need_no_gram_matrix(on_disk, monkeypatch):
    weights = path_of(15, 60, SIZE)
    monkeypatch.setattr(span, "MANY", 50)
    monkeypatch.setattr(span.SnapshotSpan, "gram", property(lambda _: pytest.fail("a Gram matrix")))
    found = on_disk(weights, LAYOUT)
    assert found.rank == SIZE < len(found)
    np.testing.assert_allclose(pdist(found.coordinates), pdist(weights.numpy()), rtol=1e-9)
    np.testing.assert_allclose(found.restore(found.coordinates).numpy(), weights.numpy(), atol=1e-9)
    np.testing.assert_allclose(found.reduce(weights), found.coordinates, atol=1e-9)
    singular = np.linalg.svd((weights - weights.mean(dim=0)).numpy(), compute_uv=False)
    np.testing.assert_allclose(found.variance, singular**2 / 59, rtol=1e-8)
    broken = weights.clone()
    broken[7, 3] = float("nan")
    with pytest.raises(RunError, match="at step 7 has weights that are not finite"):
        on_disk(broken).coordinates  # noqa: B018


def test_grams_that_are_too_many_are_not_kept(on_disk, monkeypatch):
    weights = path_of(11, 4, SIZE)
    monkeypatch.setattr(span, "GRAM_BYTES", 0)
    found = on_disk(weights, LAYOUT)
    centred = (weights - weights.mean(0)).numpy()
    np.testing.assert_allclose(found.gram, centred @ centred.T, atol=1e-11)
    assert list(found._grams._known) == [found._entries]


LAYERS = [
    {"name": "layer1.weight", "shape": [3, 4]},
    {"name": "layer1.bias", "shape": [3]},
    {"name": "layer2.weight", "shape": [3, 3]},
    {"name": "layer2.bias", "shape": [3]},
    {"name": "layer3.weight", "shape": [3, 3]},
    {"name": "layer3.bias", "shape": [3]},
    {"name": "layer4.weight", "shape": [2, 3]},
]
MEAN = [
    "layer1.weight",
    "layer1.bias",
    "mean(layer2.weight, layer3.weight)",
    "mean(layer2.bias, layer3.bias)",
    "layer4.weight",
]


def averaged(weights):
    return torch.cat([weights[:, :15], (weights[:, 15:27] + weights[:, 27:39]) / 2, weights[:, 39:]], dim=1)


@pytest.mark.usefixtures("_chunked")
def test_hidden_layers_are_averaged(on_disk):
    weights = path_of(20, 6, 45)
    whole = on_disk(weights, LAYERS)
    found, expected = whole.average("layer[23]"), SnapshotSpan.from_tensor(averaged(weights))
    assert found.names == MEAN
    assert found.size == 33
    np.testing.assert_allclose(found.gram, expected.gram, atol=1e-12)
    np.testing.assert_allclose(found.coordinates, expected.coordinates, atol=1e-9)
    assert torch.equal(found.weights(), averaged(weights))
    assert torch.equal(found.columns(weights), averaged(weights))
    np.testing.assert_allclose(found.mean().numpy(), expected.mean().numpy(), atol=1e-14)
    np.testing.assert_allclose(found.reduce(whole), expected.coordinates, atol=1e-9)
    np.testing.assert_allclose(found.off_span(whole), 0, atol=1e-9)
    np.testing.assert_allclose(found.restore(found.coordinates).numpy(), averaged(weights).numpy(), atol=1e-9)
    alone = whole.part("layer[23]").average("layer[23].weight")
    assert alone.names == ["mean(layer2.weight, layer3.weight)", "layer2.bias", "layer3.bias"]
    both = (weights[:, 15:24] + weights[:, 27:36]) / 2
    np.testing.assert_allclose(pdist(alone.part("mean*").coordinates), pdist(both.numpy()), rtol=1e-9)
    grams = found.parameter_grams()
    np.testing.assert_allclose(sum(grams.values()), found.gram, rtol=0, atol=1e-13 * found.gram.max())


@pytest.mark.parametrize("budget", [300, 10**7])
def test_the_whole_its_parts_and_means_come_from_one_pass(on_disk, monkeypatch, budget):
    monkeypatch.setattr(span, "CHUNK_BYTES", budget)
    weights = path_of(21, 5, 45)
    whole = on_disk(weights, LAYERS)
    mean = whole.average("layer[23]")
    read = span._OnDisk.read
    columns = np.zeros(45, dtype=int)

    def count(self, rows, start, stop):
        columns[start:stop] += 1
        return read(self, rows, start, stop)

    monkeypatch.setattr(span._OnDisk, "read", count)
    first = whole.part("layer1")
    for found, dense in (
        (first, weights[:, :15]),
        (mean, averaged(weights)),
        (whole, weights),
        (
            whole.part("*.weight"),
            torch.cat([weights[:, 0:12], weights[:, 15:24], weights[:, 27:36], weights[:, 39:]], 1),
        ),
        (whole.part("layer3"), weights[:, 27:39]),
    ):
        np.testing.assert_allclose(pdist(found.coordinates), pdist(dense.numpy()), rtol=1e-9)
    assert (columns == 1).all()


def test_layers_of_different_shapes_have_no_mean(on_disk):
    whole = on_disk(path_of(22, 3, 45), LAYERS)
    with pytest.raises(
        ConfigurationError, match=r"'weight' cannot be averaged: layer1.weight has shape \(3, 4\)"
    ):
        whole.average("layer[12].weight")
    with pytest.raises(ConfigurationError, match="none of them a mean already"):
        whole.average("layer[23]").average(["mean*", "layer1.bias"])
    with pytest.raises(ConfigurationError, match="without a layout"):
        SnapshotSpan.from_tensor(path_of(22, 3, 45)).average("layer1")


# -- more snapshots -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 2**28], ids=["one Gram", "Grams per parameter"])
@pytest.mark.usefixtures("_chunked")
def test_a_span_grows_while_a_training_runs(run, monkeypatch, kept):
    monkeypatch.setattr(span, "GRAM_BYTES", kept)
    weights = path_of(23, 8, 45)
    for step in range(5):
        run.write_snapshot(step, {"0": weights[step]}, layout=LAYERS)
    early = run.span()
    mean = early.average("layer[23]")
    assert (early.rank, mean.rank) == (4, 4)
    assert early.updated(run.snapshots()) is early
    for step in range(5, 8):
        run.write_snapshot(step, {"0": weights[step], "centre": weights[0]}, layout=LAYERS)
    multiplied = []
    add = span._add_products
    monkeypatch.setattr(
        span, "_add_products", lambda total, *rest: (multiplied.append(total.shape), add(total, *rest))
    )
    late = early.updated(run.snapshots())
    late.gram  # noqa: B018 - computes
    assert set(multiplied) == {(3, 8)}  # the five first were multiplied before
    dense = SnapshotSpan.from_tensor(weights)
    np.testing.assert_allclose(late.gram, dense.gram, rtol=0, atol=1e-12 * dense.gram.max())
    np.testing.assert_allclose(pdist(late.coordinates), pdist(weights.numpy()), rtol=1e-8)
    np.testing.assert_allclose(late.restore(late.coordinates).numpy(), weights.numpy(), atol=1e-9)
    assert late.rows["step"].tolist() == list(range(8))
    found = mean.updated(run.snapshots())
    np.testing.assert_allclose(pdist(found.coordinates), pdist(averaged(weights).numpy()), rtol=1e-8)
    np.testing.assert_allclose(pdist(early.coordinates), pdist(weights[:5].numpy()), rtol=1e-8)


def test_spans_of_several_runs_are_joined(on_disk):
    weights = path_of(24, 9, SIZE)
    several = on_disk(weights[:6], LAYOUT, workers=("0", "1"))
    single = SnapshotSpan.from_tensor(weights[6:], LAYOUT)
    found = SnapshotSpan.joined({"first": several, "second": single})
    assert found.rows["worker"].tolist() == ["first/0", "first/1"] * 3 + ["second"] * 3
    assert found.rows["step"].tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    np.testing.assert_allclose(pdist(found.coordinates), pdist(weights.numpy()), rtol=1e-8)
    assert torch.equal(found.weights([0, 8, 3]), weights[[0, 8, 3]])
    np.testing.assert_allclose(
        pdist(found.part("layer2").coordinates), pdist(weights[:, 25:].numpy()), rtol=1e-8
    )
    second = found.select(found.rows["worker"] == "second")
    np.testing.assert_allclose(second.coordinates, single.coordinates, atol=1e-12)
    with pytest.raises(RunError, match="no spans to join"):
        SnapshotSpan.joined({})


def test_snapshots_of_different_layouts_do_not_lie_in_one_space(run, weights):
    one = SnapshotSpan.from_tensor(path_of(25, 3, SIZE), LAYOUT)
    turned = [*LAYOUT[2:], *LAYOUT[:2]]
    two = SnapshotSpan.from_tensor(path_of(25, 3, SIZE), turned)
    with pytest.raises(RunError, match=r"different layouts.*layer1.weight \[4, 5\].*against layer2.weight"):
        SnapshotSpan.joined({"one": one, "two": two})
    run.write_snapshot(0, {"0": weights(0, 6)}, layout=[{"name": "a", "shape": [6]}])
    run.write_snapshot(1, {"0": weights(0, 6)}, layout=[{"name": "a", "shape": [2, 3]}])
    with pytest.raises(RunError, match=r"from step 0 to step 1: a \[6\] against a \[2, 3\]"):
        run.span()


def test_a_selection_has_a_mean_and_a_basis_of_its_own(on_disk):
    weights = path_of(12, 8, SIZE)
    found = on_disk(weights, LAYOUT, workers=("0", "1"))
    assert found.rows.to_dict("list") == {
        "step": [0, 0, 1, 1, 2, 2, 3, 3],
        "worker": ["0", "1"] * 4,
    }
    first = found.select(found.rows["worker"] == "0")
    alone = SnapshotSpan.from_tensor(weights[::2])
    np.testing.assert_allclose(first.coordinates, alone.coordinates, atol=1e-12)
    assert first.rows["step"].tolist() == [0, 1, 2, 3]
    # The others are seen from there without being read into memory.
    np.testing.assert_allclose(first.reduce(found), alone.reduce(weights), atol=1e-10)
    np.testing.assert_allclose(first.off_span(found), alone.off_span(weights), atol=1e-10)
    np.testing.assert_allclose(
        first.part("layer1.*").reduce(found), alone_part(weights[::2]).reduce(weights[:, :25]), atol=1e-10
    )


def alone_part(weights):
    return SnapshotSpan.from_tensor(weights[:, :25])


def test_the_workers_asked_for_are_taken(run, weights):
    run.write_snapshot(0, {"0": weights(0), "centre": weights(1)})
    run.write_snapshot(5, {"0": weights(2)})
    found = run.span(workers=["centre", "0"])
    assert found.rows.to_numpy().tolist() == [[0, "centre"], [0, "0"], [5, "0"]]
    assert torch.equal(found.weights(), torch.stack([weights(1), weights(0), weights(2)]))


# -- corners --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_equal_snapshots_span_a_point(rows):
    weights = path_of(13, 1, 30, torch.float32, offset=1e3).expand(rows, 30)
    found = SnapshotSpan.from_tensor(weights)
    assert found.rank == 0
    assert found.coordinates.shape == (rows, 0)
    assert found.variance.shape == found.variance_ratio.shape == (0,)
    assert torch.equal(found.restore(np.zeros((2, 0))), weights[:1].expand(2, 30))
    assert found.reduce(weights + 1).shape == (rows, 0)
    np.testing.assert_allclose(found.off_span(weights + 3.0), 3 * np.sqrt(30), rtol=1e-5)


def test_duplicates_have_equal_coordinates():
    weights = path_of(14, 4, 50)
    found = SnapshotSpan.from_tensor(weights[[0, 1, 1, 2, 3, 0]])
    assert found.rank == 3
    np.testing.assert_allclose(found.coordinates[1], found.coordinates[2], rtol=1e-12)
    np.testing.assert_allclose(found.coordinates[0], found.coordinates[5], atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 8))
def test_signs_do_not_depend_on_rounding(seed, rows):
    weights = path_of(seed, rows, 20)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))[0]
    one = SnapshotSpan.from_tensor(weights).coordinates
    two = SnapshotSpan.from_tensor(weights @ turn).coordinates
    np.testing.assert_allclose(one, two, atol=1e-7 * np.abs(one).max())


def test_two_points_lie_on_a_line_with_the_first_in_front():
    weights = path_of(15, 2, 20)
    found = SnapshotSpan.from_tensor(weights)
    length = torch.dist(*weights).item()
    np.testing.assert_allclose(found.coordinates, [[length / 2], [-length / 2]], rtol=1e-12)


def test_weights_that_are_not_finite_are_named(on_disk):
    weights = path_of(16, 4, SIZE)
    weights[2, 7] = float("nan")
    found = on_disk(weights)
    with pytest.raises(RunError, match="worker '0' at step 2 has weights that are not finite"):
        found.coordinates  # noqa: B018 - computes
    assert found.select([True, True, False, True]).rank == 2


def test_what_does_not_fit_is_refused(on_disk, weights):
    found = on_disk(path_of(17, 3, SIZE), LAYOUT)
    plain = SnapshotSpan.from_tensor(path_of(17, 3, SIZE))
    cases = {
        RunError: [
            (r"T > 0", lambda: SnapshotSpan.from_tensor(torch.zeros(0, 3))),
            (r"int64", lambda: SnapshotSpan.from_tensor(torch.zeros(2, 3, dtype=torch.int64))),
            (r"describes 43 weights", lambda: SnapshotSpan.from_tensor(torch.zeros(2, 3), LAYOUT)),
            (r"2 snapshots and 1 rows", lambda: SnapshotSpan.from_tensor(torch.zeros(2, 3), rows=rows(1))),
            (r"\(G, 2\) are needed; got \(1, 3\)", lambda: found.restore(np.zeros((1, 3)))),
            (r"\(K, 43\) are needed; got \(43,\)", lambda: found.reduce(torch.zeros(43))),
            (r"whole vector has 43", lambda: found.columns(torch.zeros(3))),
            (r"no snapshots to span", lambda: SnapshotSpan.from_snapshots([])),
            (
                r"of 6 weights, this one of 43",
                lambda: found.reduce(SnapshotSpan.from_tensor(weights(0, 2, 6))),
            ),
        ],
        ConfigurationError: [
            (r"matches 'layer3\.\*'", lambda: found.part("layer3.*")),
            (r"without a layout", lambda: plain.part("layer1.*")),
            (r"3 booleans", lambda: found.select([True])),
            (r"3 booleans", lambda: found.select([False] * 3)),
            (r"3 booleans", lambda: found.select([0, 1, 2])),
        ],
    }
    for error, entries in cases.items():
        for message, act in entries:
            with pytest.raises(error, match=message):
                act()


def rows(count):
    return pd.DataFrame({"step": range(count), "worker": "0"})


def test_snapshots_of_different_sizes_do_not_span_one_space(run, weights):
    run.write_snapshot(0, {"0": weights(0, 6)})
    run.write_snapshot(1, {"0": weights(0, 7)})
    with pytest.raises(RunError, match="differ in size or dtype"):
        run.span()


@pytest.mark.parametrize(("snapshots", "size"), [(10, 20_000), (40, 20_000), (10, 80_000)])
def test_memory_does_not_grow_with_the_snapshots(on_disk, monkeypatch, snapshots, size):
    monkeypatch.setattr(span, "CHUNK_BYTES", 50_000)
    found = on_disk(path_of(18, snapshots, size, torch.float32))
    read = span._OnDisk.read
    largest = []

    def watch(self, taken, start, stop):
        block = read(self, taken, start, stop)
        largest.append(block.numel() * 8)
        return block

    monkeypatch.setattr(span._OnDisk, "read", watch)
    found.restore(found.coordinates[:1])
    found.off_span(found)
    assert max(largest) <= 50_000
