import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, RunError
from landscape.objective import Landscape
from landscape.store import SnapshotSpan
from landscape_projectors import surfaces
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain
from landscape_projectors.layouts import TSNE
from landscape_projectors.pca import PCA
from landscape_projectors.planes import RandomDirections, ThreePoints
from landscape_projectors.som import SOM


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 6, dtype=torch.float64)
        self.out = torch.nn.Linear(6, 3, dtype=torch.float64)

    def forward(self, x):
        return self.out(torch.tanh(self.inner(x)))


@pytest.fixture
def network():
    """A small classifier as a landscape, and its loss by plain torch."""
    x = torch.randn(50, 4, generator=seeded(1), dtype=torch.float64)
    y = torch.randint(3, (50,), generator=seeded(2))
    module = Net()
    landscape = Landscape(module, "cross_entropy", (x, y), dtype=torch.float64)

    def loss(theta):
        copy = Net()
        torch.nn.utils.vector_to_parameters(theta.double(), copy.parameters())
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(copy(x), y))

    return landscape, loss


@pytest.fixture
def span(network):
    landscape, _ = network
    steps = torch.randn(24, landscape.size, generator=seeded(3), dtype=torch.float64)
    return SnapshotSpan.from_tensor((0.3 * steps).cumsum(0), landscape.layout)


MAPS = [
    PCA(),
    SOM(rows=4, columns=4, epochs=5),
    Autoencoder(iterations=20),
    TSNE(iterations=250),
    ThreePoints(),
    RandomDirections(),
    Chain(Autoencoder(dimensions=4, iterations=10), PCA()),
]


@pytest.mark.parametrize("projector", MAPS, ids=lambda one: type(one).__name__)
def test_the_loss_drawn_is_that_of_the_module_at_those_weights(network, span, projector):
    landscape, loss = network
    projection = projector.fit(span, seeded())
    grid = surfaces.loss_grid(landscape, span, projection, resolution=5)
    points = np.stack(np.meshgrid(grid.x, grid.y), axis=-1).reshape(-1, 2)
    weights = torch.cat(list(surfaces.weights_at(span, projection, points)))
    np.testing.assert_allclose(grid.loss.ravel(), [loss(theta) for theta in weights], rtol=1e-8)


def test_on_exact_maps_the_loss_under_a_snapshot_is_its_own(network, span):
    landscape, _ = network
    projection = PCA(dimensions=23).fit(span, seeded())
    weights = torch.cat(list(surfaces.weights_at(span, projection, projection.coordinates)))
    torch.testing.assert_close(weights, span.weights(), atol=1e-8, rtol=0)
    mismatch = surfaces.loss_mismatch(landscape, span, projection)
    assert mismatch["loss_mismatch_largest"] < 1e-8
    layout = TSNE(iterations=250).fit(span, seeded())
    assert surfaces.loss_mismatch(landscape, span, layout)["loss_mismatch_largest"] < 1e-6


def test_the_mismatch_is_that_of_the_losses(network, span):
    landscape, loss = network
    projection = PCA().fit(span, seeded())
    plane = span.restore(projection.inverse(projection.coordinates))
    shown = np.array([loss(theta) for theta in plane])
    true = np.array([loss(theta) for theta in span.weights()])
    ratio = np.abs(np.log10(shown / true))
    found = surfaces.loss_mismatch(landscape, span, projection)
    assert found["loss_mismatch"] == pytest.approx(np.median(ratio), rel=1e-6)
    assert found["loss_mismatch_largest"] == pytest.approx(ratio.max(), rel=1e-6)
    some = surfaces.loss_mismatch(landscape, span, projection, np.array([3]))
    assert some["loss_mismatch"] == pytest.approx(ratio[3], rel=1e-6)
    assert surfaces.mismatch_of(np.array([-1.0, 2]), np.array([1.0, 2])) == {
        "loss_difference": 1.0,
        "loss_difference_largest": 2.0,
    }


def test_a_window_says_where_to_look(network, span):
    landscape, _ = network
    projection = PCA().fit(span, seeded())
    grid = surfaces.loss_grid(landscape, span, projection, resolution=9, window=(-1.0, 3.0, 0.0, 2.0))
    assert (grid.x[0], grid.x[-1], grid.y[0], grid.y[-1]) == (-1.0, 3.0, 0.0, 2.0)
    assert grid.loss.shape == (5, 9)
    with pytest.raises(ConfigurationError, match="is empty"):
        surfaces.loss_grid(landscape, span, projection, window=(1.0, 1.0, 0.0, 2.0))


def test_a_grid_that_was_interrupted_goes_on(network, span, tmp_path, monkeypatch):
    landscape, _ = network
    projection = PCA().fit(span, seeded())
    expected = surfaces.loss_grid(landscape, span, projection, resolution=11)
    path = tmp_path / "grid.safetensors"
    monkeypatch.setattr(surfaces, "_BETWEEN", 22)
    compute, called = surfaces._OnMap.__call__, []

    def failing(self, points):
        if len(called) == 2:
            raise KeyboardInterrupt
        called.append(len(points))
        return compute(self, points)

    monkeypatch.setattr(surfaces._OnMap, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        surfaces.loss_grid(landscape, span, projection, resolution=11, path=path)
    assert called == [22, 22]
    done = []
    monkeypatch.setattr(
        surfaces._OnMap, "__call__", lambda self, points: (done.append(len(points)), compute(self, points))[1]
    )
    grid = surfaces.loss_grid(landscape, span, projection, resolution=11, path=path)
    np.testing.assert_allclose(grid.loss, expected.loss, rtol=1e-10)
    # One point again, to see that the file is of this loss, and what was not finished.
    assert sum(done) == 1 + grid.loss.size - 44
    monkeypatch.setattr(surfaces, "_keep", lambda *arguments: pytest.fail("computed again"))
    again = surfaces.loss_grid(landscape, span, projection, resolution=11, path=path)
    np.testing.assert_array_equal(again.loss, grid.loss)


def test_a_file_of_something_else_is_refused(network, span, tmp_path):
    from landscape.store.tensors import save_tensors

    landscape, _ = network
    projection = PCA().fit(span, seeded())
    path = tmp_path / "grid.safetensors"
    surfaces.loss_grid(landscape, span, projection, resolution=5, path=path)
    with pytest.raises(RunError, match="at other places"):
        surfaces.loss_grid(landscape, span, projection, resolution=7, path=path)
    x = torch.randn(50, 4, generator=seeded(9), dtype=torch.float64)
    other = landscape.on((x, torch.zeros(50, dtype=torch.int64)))
    with pytest.raises(RunError, match="holds a grid of another loss"):
        surfaces.loss_grid(other, span, projection, resolution=5, path=path)
    save_tensors(path, {"a": np.zeros(2)}, {})
    with pytest.raises(RunError, match="holds no loss grid"):
        surfaces.loss_grid(landscape, span, projection, resolution=5, path=path)


@pytest.mark.parametrize("projector", [PCA(), SOM(rows=4, columns=4, epochs=5)], ids=["flat", "curved"])
def test_rows_are_shared_out_to_processes(tmp_path, monkeypatch, projector):
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    run = ls.Experiment(
        ls.models.MLP(hidden=(3,)), ls.datasets.Digits(examples=60), ls.walkers.SGD(lr=0.5, batch_size=16),
        steps=12, snapshots=2, dtype="float64", seed=0,
    ).run(store=tmp_path)  # fmt: skip
    landscape, span = run.landscape(), run.span()
    projection = projector.fit(span, seeded())
    expected = surfaces.loss_grid(landscape, span, projection, resolution=6)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = surfaces.loss_grid(landscape, span, projection, resolution=6, mapper=pool.map, run=run)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    with pytest.raises(ConfigurationError, match="give a mapper and the run together"):
        surfaces.loss_grid(landscape, span, projection, mapper=map)


def test_without_a_way_back_no_loss_is_drawn(network, span):
    landscape, _ = network
    projection = BinaryEncoder(threshold=0.0).fit(span, seeded())
    with pytest.raises(ConfigurationError, match="BinaryProjection does not lead back to weights"):
        surfaces.loss_grid(landscape, span, projection)
    with pytest.raises(ConfigurationError, match="this one has 3"):
        surfaces.loss_grid(landscape, span, PCA(dimensions=3).fit(span, seeded()))


def test_losses_along_a_line_are_those_of_the_module(network):
    landscape, loss = network
    start, end = torch.randn(2, landscape.size, generator=seeded(4), dtype=torch.float64)
    line = surfaces.loss_line(landscape, start, end, points=7, beyond=0.5)
    np.testing.assert_allclose(line.position, np.linspace(-0.5, 1.5, 7))
    expected = [loss((1 - t) * start + t * end) for t in line.position]
    np.testing.assert_allclose(line.loss, expected, rtol=1e-12)
    assert line.score.shape == (7,)
    assert ((line.score >= 0) & (line.score <= 1)).all()
    with pytest.raises(ConfigurationError, match="points=1 is no line"):
        surfaces.loss_line(landscape, start, end, points=1)


@pytest.mark.parametrize("projector", [PCA(), SOM(rows=4, columns=4, epochs=5), RandomDirections()])
def test_a_line_on_a_map_goes_through_the_weights_it_leads_back_to(network, span, projector):
    landscape, loss = network
    projection = projector.fit(span, seeded())
    start, end = projection.coordinates[[0, 5]]
    line = surfaces.loss_along(landscape, span, projection, start, end, points=5, beyond=0.0)
    places = start + np.linspace(0, 1, 5)[:, None] * (end - start)
    weights = torch.cat(list(surfaces.weights_at(span, projection, places)))
    np.testing.assert_allclose(line.loss, [loss(theta) for theta in weights], rtol=1e-10)
    assert line.score.shape == (5,)
    with pytest.raises(ConfigurationError, match="points=1 is no line"):
        surfaces.loss_along(landscape, span, projection, start, end, points=1)
    with pytest.raises(ConfigurationError, match=r"have shapes \(1,\) and \(2,\)"):
        surfaces.loss_along(landscape, span, projection, start[:1], end)


# -- topology -------------------------------------------------------------------------------------------------


def test_basins_join_at_their_saddles():
    # Three minima in a row: depths 0, 2, 1, with passes of 5 and 3 between them.
    loss = np.array([[0.0, 5, 2, 3, 1, 9]])
    tree = surfaces.merge_tree(loss)
    assert [(basin.birth, basin.death) for basin in tree] == [(0.0, np.inf), (1.0, 5.0), (2.0, 3.0)]
    assert [basin.minimum for basin in tree] == [(0, 0), (0, 4), (0, 2)]
    assert [basin.saddle for basin in tree] == [None, (0, 1), (0, 3)]
    assert [basin.parent for basin in tree] == [None, 0, 1]
    assert tree[1].persistence == 4.0


def test_the_minima_and_the_pass_of_a_function_are_found():
    """(x^2 - 1)^2 + 0.3 x + y^2 has two minima and one saddle, at the roots of 4 x^3 - 4 x + 0.3 and y = 0."""
    x, y = np.linspace(-2, 2, 401), np.linspace(-1, 1, 201)
    left, middle, right = np.sort(np.roots([4.0, 0.0, -4.0, 0.3]).real)
    first, second = surfaces.merge_tree((x**2 - 1) ** 2 + 0.3 * x + y[:, None] ** 2)
    height = np.array([(root**2 - 1) ** 2 + 0.3 * root for root in (left, middle, right)])
    # On a grid of 0.01, minima are at most 8 * 0.005^2 / 2 too high, and the pass 4 * 0.005^2 / 2 too low.
    assert first.birth == pytest.approx(height[0], abs=1e-4)
    assert (second.birth, second.death) == pytest.approx((height[2], height[1]), abs=1e-4)
    for (row, column), root in ((first.minimum, left), (second.minimum, right), (second.saddle, middle)):
        assert x[column] == pytest.approx(root, abs=0.006)
        assert y[row] == pytest.approx(0, abs=1e-9)


def test_what_is_not_finite_is_a_wall():
    loss = np.array([[0.0, np.inf, 1.0], [2.0, np.nan, 3.0]])
    tree = surfaces.merge_tree(loss)
    assert [(basin.birth, basin.death) for basin in tree] == [(0.0, np.inf), (1.0, np.inf)]


@pytest.mark.parametrize("seed", range(5))
def test_basins_are_the_components_of_sublevel_sets(seed):
    """Against counting components of {loss <= level} at every level."""
    from scipy.ndimage import label

    loss = np.random.default_rng(seed).permutation(56).reshape(7, 8).astype(float)
    tree = surfaces.merge_tree(loss)
    for level in np.unique(loss):
        components = label(loss <= level, structure=np.ones((3, 3)))[1]
        assert components == sum(basin.birth <= level < basin.death for basin in tree)


@pytest.mark.parametrize("seed", range(3))
def test_persistence_is_that_of_gudhi(seed):
    gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed")
    loss = np.random.default_rng(seed).normal(size=(9, 11))
    cells = gudhi.CubicalComplex(top_dimensional_cells=loss)
    cells.persistence()
    expected = sorted(map(tuple, cells.persistence_intervals_in_dimension(0)))
    found = sorted((basin.birth, basin.death) for basin in surfaces.merge_tree(loss) if basin.persistence > 0)
    np.testing.assert_allclose(found, expected)
