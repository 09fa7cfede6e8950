import json
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import pairwise

import attrs
import numpy as np
import pytest
import torch

import landscape as ls
from landscape.composition.losses import Losses
from landscape.composition.shipping import task_of
from landscape.errors import ConfigurationError, DataError, RunError
from landscape.interfaces import Backend, Failure, Receipt
from landscape.objective import Landscape
from landscape.store import SnapshotSpan
from landscape.testing import check_backend
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


def counted(monkeypatch, cls, name, *, fails_at=None, error=KeyboardInterrupt):
    """Let a method note what it was called with, and fail in the call of a number."""
    compute, calls = getattr(cls, name), []

    def method(self, *given):
        if len(calls) == fails_at:
            raise error("as asked")
        calls.append(given)
        return compute(self, *given)

    monkeypatch.setattr(cls, name, method)
    return calls


@pytest.mark.parametrize("projector", [PCA(), SOM(rows=4, columns=4, epochs=5)], ids=["flat", "curved"])
def test_a_grid_that_was_interrupted_goes_on(network, span, tmp_path, monkeypatch, projector):
    landscape, _ = network
    projection = projector.fit(span, seeded())
    expected = surfaces.loss_grid(landscape, span, projection, resolution=11)
    options = {"resolution": 11, "path": tmp_path / "grid.safetensors", "chunk": 25}
    with monkeypatch.context() as patch:
        counted(patch, surfaces._Places, "__call__", fails_at=2)
        with pytest.raises(KeyboardInterrupt):
            surfaces.loss_grid(landscape, span, projection, **options)
    calls = counted(monkeypatch, surfaces._Places, "__call__")
    grid = surfaces.loss_grid(landscape, span, projection, **options)
    np.testing.assert_allclose(grid.loss, expected.loss, rtol=1e-10)
    # Two points again, to see that the file is of this loss, and what was not finished.
    assert calls[:2] == [(0, 1), (49, 50)]
    cuts = [*range(50, grid.loss.size, 25), grid.loss.size]
    assert calls[2:] == list(pairwise(cuts))
    monkeypatch.setattr(surfaces, "_keep", lambda *arguments: pytest.fail("computed again"))
    again = surfaces.loss_grid(landscape, span, projection, **options)
    np.testing.assert_array_equal(again.loss, grid.loss)


def test_a_line_that_was_interrupted_goes_on(network, tmp_path, monkeypatch):
    landscape, _ = network
    start, end = torch.randn(2, landscape.size, generator=seeded(4), dtype=torch.float64)
    expected = surfaces.loss_line(landscape, start, end, points=23)
    path = tmp_path / "line.safetensors"
    with monkeypatch.context() as patch:
        counted(patch, surfaces._Places, "__call__", fails_at=2)
        with pytest.raises(KeyboardInterrupt):
            surfaces.loss_line(landscape, start, end, points=23, path=path, chunk=5)
    calls = counted(monkeypatch, surfaces._Places, "__call__")
    # Other parts: a point that is there already may be computed again, none is left out.
    line = surfaces.loss_line(landscape, start, end, points=23, path=path, chunk=4)
    assert calls == [(0, 1), (9, 10), (8, 12), (12, 16), (16, 20), (20, 23)]
    np.testing.assert_allclose(line.loss, expected.loss, rtol=1e-12)
    np.testing.assert_array_equal(line.score, expected.score)
    with pytest.raises(RunError, match="at other places"):
        surfaces.loss_line(landscape, start, end, points=22, path=path)
    with pytest.raises(RunError, match="holds another loss: at point 0"):
        surfaces.loss_line(landscape, end, start, points=23, path=path)
    span = SnapshotSpan.from_tensor(torch.stack([start, end, 0 * end]), landscape.layout)
    projection = PCA().fit(span, seeded())
    with pytest.raises(RunError, match="holds no losses of a grid"):
        surfaces.loss_grid(landscape, span, projection, path=path)


@pytest.mark.parametrize("resolution", [1, 0, 4.5, True])
def test_a_grid_without_sides_is_refused(network, span, resolution):
    projection = PCA().fit(span, seeded())
    with pytest.raises(ConfigurationError, match=r"resolution=.*at least 2"):
        surfaces.loss_grid(network[0], span, projection, resolution=resolution)


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
    with pytest.raises(RunError, match="holds another loss: at point 0"):
        surfaces.loss_grid(other, span, projection, resolution=5, path=path)
    save_tensors(path, {"a": np.zeros(2)}, {})
    with pytest.raises(RunError, match="holds no losses of a grid"):
        surfaces.loss_grid(landscape, span, projection, resolution=5, path=path)


# -- over a backend -------------------------------------------------------------------------------------------

WORKER = """
import json, sys
import attrs
import landscape as ls
from landscape.interfaces import Task
for line in sys.stdin:
    (outcome,) = ls.backends.InProcess().map([Task(**json.loads(line))])
    print(json.dumps([type(outcome).__name__, attrs.asdict(outcome)]), flush=True)
"""


WORKERS = []


@attrs.frozen
class Processes(Backend):
    """Sends tasks as JSON to other processes, as one would send them to other machines."""

    def map(self, tasks):
        idle = queue.SimpleQueue()
        for worker in WORKERS:
            idle.put(worker)

        def carried_out(task):
            worker = idle.get()
            try:
                print(json.dumps(attrs.asdict(task)), file=worker.stdin, flush=True)
                name, fields = json.loads(worker.stdout.readline())
            finally:
                idle.put(worker)
            return {"Receipt": Receipt, "Failure": Failure}[name](**fields)

        with ThreadPoolExecutor(len(WORKERS)) as pool:
            for future in as_completed([pool.submit(carried_out, task) for task in tasks]):
                yield future.result()


@pytest.fixture(scope="module")
def processes():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    WORKERS.extend(subprocess.Popen([sys.executable, "-c", WORKER], **pipes) for _ in range(2))
    yield Processes()
    while WORKERS:
        WORKERS.pop().communicate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a small network."""
    return ls.Experiment(
        ls.models.MLP(hidden=(3,)), ls.datasets.Digits(examples=60, test_fraction=0.5),
        ls.walkers.SGD(lr=0.5, batch_size=16), steps=12, snapshots=2, dtype="float64", seed=0,
    ).run(store=tmp_path_factory.mktemp("runs"))  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")


def test_parts_of_surfaces_are_shared_out_to_other_processes(trained, processes):
    landscape, test, span = trained.landscape(), trained.landscape("test"), trained.span()
    flat, curved = PCA().fit(span, seeded()), SOM(rows=4, columns=4, epochs=5).fit(span, seeded())
    start, end = span.weights([0, 6])
    ends = curved.coordinates[[0, 6]]

    def drawn(**options):
        return [
            surfaces.loss_grid(landscape, span, flat, resolution=8, chunk=30, **options),
            surfaces.loss_grid(test, span, curved, resolution=8, chunk=30, **options),
            surfaces.loss_line(landscape, start, end, points=9, chunk=5, **options),
            surfaces.loss_along(test, span, curved, *ends, points=9, chunk=5, **options),
        ]

    for found, expected in zip(drawn(backend=processes, run=trained), drawn(), strict=True):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
        if isinstance(expected, surfaces.LossLine):
            np.testing.assert_array_equal(found.score, expected.score)


def test_the_tasks_of_a_surface_are_those_of_any_backend(trained, processes, tmp_path):
    check_backend(processes, [task_of(part_of(trained, tmp_path), tmp_path / "part")])


def part_of(run, folder, **options):
    from landscape.store.tensors import save_tensors

    span = run.span()
    weights = span.weights([0, 1])
    arrays = {"origin": weights[0], "directions": weights[1:], "factors": torch.zeros(4, 1)}
    sha256 = save_tensors(folder / "points.safetensors", arrays)["sha256"]
    return Losses(str(run.path), str(folder / "points.safetensors"), sha256, 1, 3, **options)


@pytest.mark.parametrize("projector", [PCA(), SOM(rows=4, columns=4, epochs=5)], ids=["flat", "curved"])
def test_a_shared_grid_that_was_interrupted_goes_on(trained, tmp_path, monkeypatch, projector):
    landscape, span = trained.landscape(), trained.span()
    projection = projector.fit(span, seeded())
    expected = surfaces.loss_grid(landscape, span, projection, resolution=9)
    path = tmp_path / "grid.safetensors"
    options = {"resolution": 9, "path": path, "chunk": 15, "backend": "InProcess", "run": trained}
    with monkeypatch.context() as patch:
        counted(patch, Losses, "_computed", fails_at=2)
        with pytest.raises(KeyboardInterrupt):
            surfaces.loss_grid(landscape, span, projection, **options)
    assert (tmp_path / "grid.safetensors.parts").is_dir()
    calls = counted(monkeypatch, Losses, "_computed")
    grid = surfaces.loss_grid(landscape, span, projection, **options)
    np.testing.assert_allclose(grid.loss, expected.loss, rtol=1e-12)
    assert len(calls) == -(-grid.loss.size // 15) - 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["grid.safetensors"]


@attrs.frozen
class Lost(Backend):
    """Carries all tasks out, and is interrupted before it says so."""

    def map(self, tasks):
        list(ls.backends.InProcess().map(tasks))
        raise KeyboardInterrupt
        yield


def test_what_tasks_finished_is_there_although_nobody_heard(trained, tmp_path, monkeypatch):
    landscape, span = trained.landscape(), trained.span()
    projection = PCA().fit(span, seeded())
    options = {"resolution": 6, "path": tmp_path / "grid.safetensors", "chunk": 9, "run": trained}
    with pytest.raises(KeyboardInterrupt):
        surfaces.loss_grid(landscape, span, projection, backend=Lost(), **options)
    monkeypatch.setattr(Losses, "_computed", lambda *given: pytest.fail("computed again"))
    grid = surfaces.loss_grid(landscape, span, projection, backend="InProcess", **options)
    expected = surfaces.loss_grid(landscape, span, projection, resolution=6)
    np.testing.assert_allclose(grid.loss, expected.loss, rtol=1e-12)


@pytest.mark.parametrize("kept", [True, False])
def test_a_task_that_fails_is_told_after_the_others_are_kept(trained, tmp_path, monkeypatch, kept):
    landscape, span = trained.landscape(), trained.span()
    start, end = span.weights([0, 6])
    path = tmp_path / "line.safetensors" if kept else None
    options = {"points": 12, "path": path, "chunk": 4, "backend": "InProcess", "run": trained}
    compute = Losses._computed

    def failing(self, *given):
        if self.first == 4:
            raise DataError("the disk is gone")
        return compute(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Losses, "_computed", failing)
        message = "1 of 3 parts failed.*kept in" if kept else "1 of 3 parts failed.*give a path"
        with pytest.raises(RunError, match=f"{message}.*part-0000004: DataError: the disk is gone"):
            surfaces.loss_line(landscape, start, end, **options)
    calls = counted(monkeypatch, Losses, "_computed")
    line = surfaces.loss_line(landscape, start, end, **options)
    assert len(calls) == (1 if kept else 3)
    expected = surfaces.loss_line(landscape, start, end, points=12)
    np.testing.assert_allclose(line.loss, expected.loss, rtol=1e-12)
    np.testing.assert_array_equal(line.score, expected.score)


@attrs.frozen
class Silent(Backend):
    def map(self, tasks):
        return iter(())


def test_what_cannot_be_shared_out_is_refused_before_any_work(trained, tmp_path, network):
    landscape, span = trained.landscape(), trained.span()
    projection = PCA().fit(span, seeded())
    there = {"backend": "InProcess", "run": trained, "path": tmp_path / "grid.safetensors"}
    for wrong, message in (
        ({"run": None}, "give a backend and the run together"),
        ({"backend": None}, "give a backend and the run together"),
        ({"backend": "InProces"}, "Did you mean 'InProcess'"),
        ({"chunk": 0}, "a part has at least one point"),
    ):
        with pytest.raises(ls.errors.LandscapeError, match=message):
            surfaces.loss_grid(landscape, span, projection, **there | wrong)
    with pytest.raises(ConfigurationError, match=r"the landscape is none of .* train, test"):
        surfaces.loss_grid(network[0], span, projection, **there)
    start, end = span.weights([0, 6])
    with pytest.raises(ConfigurationError, match=r"loss_line: start and end have shapes \(5,\)"):
        surfaces.loss_line(landscape, start[:5], end)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunError, match="Silent gave no outcome for part-0000000"):
        surfaces.loss_grid(landscape, span, projection, **there | {"backend": Silent()})


def test_a_task_that_finds_another_loss_is_refused(trained):
    other = trained.landscape("test")
    changed = ls.Run(trained.directory, landscapes={"train": other})
    span = trained.span()
    with pytest.raises(RunError, match="Tasks find another loss than this process"):
        surfaces.loss_line(other, *span.weights([0, 6]), backend="InProcess", run=changed)


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
