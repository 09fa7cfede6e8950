import json
import re
import subprocess
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure as Canvas
from scipy.spatial.distance import cdist
from scipy.stats import t as student

from landscape.errors import ConfigurationError
from landscape.store import SnapshotSpan
from landscape_projectors import figures, moving, pictures, surfaces
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.pca import PCA
from landscape_projectors.planes import RandomDirections
from landscape_projectors.som import SOM

LAYOUT = [{"name": "a.weight", "shape": [10, 15]}, {"name": "b.weight", "shape": [5, 10]}]
GENERATOR = torch.Generator()


@pytest.fixture
def span(curved):
    rows = pd.DataFrame({"step": np.tile(np.arange(20) * 5, 3), "worker": np.repeat(["0", "1", "2"], 20)})
    return SnapshotSpan.from_tensor(torch.from_numpy(curved), LAYOUT, rows)


@pytest.fixture
def plane(span):
    return PCA().fit(span, GENERATOR)


@pytest.fixture
def metrics():
    generator = np.random.default_rng(0)
    rows = [
        {"step": step, "worker": str(worker), "loss": np.exp(-0.1 * step) + 0.01 * worker,
         "gradient_norm": 10.0 ** (-0.1 * step), "score": generator.uniform(), "start": "good" if worker < 3 else "bad"}
        for step in range(0, 50, 5) for worker in range(5)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def drawings(span, plane, metrics):
    som = SOM(rows=4, columns=5, epochs=5).fit(span, GENERATOR)
    winners = som.winners(span.coordinates)
    values = np.linspace(0.1, 0.9, 60)
    line = surfaces.LossLine(np.linspace(-0.2, 1.2, 9), np.geomspace(1, 500, 9), np.linspace(0, 1, 9))
    grid = np.random.default_rng(0).uniform(size=(6, 7))
    return {
        "scored": (lambda ax: pictures.draw_scored_paths(plane, span.rows, values, ax), 1, {}),
        "time": (lambda ax: pictures.draw_paths_in_time(plane, span.rows, ax), 1, {"projection": "3d"}),
        "return": (lambda ax: pictures.draw_return_map(plane, span.rows, ax), 2, {}),
        "parts": (lambda ax: pictures.draw_parts(span, {"a": span.part("a")}, PCA(), ax), 2, {}),
        "scree": (lambda ax: pictures.draw_scree(span, ax), 1, {}),
        "distances": (lambda ax: pictures.draw_distances(span, ax), 1, {}),
        "quality": (lambda ax: pictures.draw_quality(plane, span, ax), 2, {}),
        "bands": (lambda ax: pictures.draw_score_bands(metrics, "score", "start", ax), 1, {}),
        "training": (lambda ax: pictures.draw_training({"one": metrics, "two": metrics}, ax), 2, {}),
        "line": (lambda ax: pictures.draw_loss_line(line, ax), 1, {}),
        "heat": (lambda ax: pictures.draw_heat_map(plane.coordinates, values, ax, resolution=8), 1, {}),
        "hits": (lambda ax: pictures.draw_hits(som, winners, None, ax), 1, {}),
        "scores": (lambda ax: pictures.draw_hits(som, winners, values, ax), 1, {}),
        "persistence": (lambda ax: pictures.draw_persistence(grid, ax, threshold=0.1), 1, {}),
    }


NAMES = [
    "scored", "time", "return", "parts", "scree", "distances", "quality", "bands", "training", "line", "heat", "hits",
    "scores", "persistence",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_returns_its_figure_and_the_axes_it_was_given(span, plane, metrics, tmp_path, name):
    draw, count, options = drawings(span, plane, metrics)[name]
    before = dict(matplotlib.rcParams)
    figure, made = draw(None)
    panels = [made] if count == 1 else list(made)
    assert isinstance(figure, Canvas)
    assert all(panel.figure is figure for panel in panels)
    for ending in ("png", "svg"):
        figure.savefig(tmp_path / f"{name}.{ending}", dpi=60)
    own = Canvas(layout="constrained")
    mine = [own.add_subplot(1, count, i + 1, **options) for i in range(count)]
    figure, found = draw(mine[0] if count == 1 else mine)
    assert figure is own
    assert (found is mine[0]) if count == 1 else all(a is b for a, b in zip(found, mine, strict=True))
    own.savefig(tmp_path / "again.png", dpi=60)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in vars(pictures)
    for panel in panels:
        key = panel.get_legend()
        if key is not None:  # a legend stands outside of its axes and covers nothing
            figure_of = panel.figure
            figure_of.canvas.draw()
            assert not key.get_window_extent().overlaps(panel.get_window_extent())


def test_paths_are_coloured_by_their_scores(span, plane):
    values = np.concatenate([np.linspace(0, 1, 20), np.full(20, 0.5), np.full(20, np.nan)])
    _, ax = pictures.draw_scored_paths(plane, span.rows, values)
    lines = [item for item in ax.collections if isinstance(item, LineCollection)]
    np.testing.assert_allclose(lines[0].get_array(), (values[:19] + values[1:20]) / 2)
    assert lines[2].get_array().mask.all() or np.isnan(lines[2].get_array()).all()
    assert lines[0].norm.vmin == 0
    assert lines[0].norm.vmax == 1
    texts = [text.get_text() for text in ax.texts]
    assert "worker 0: 0 → 1" in texts
    assert "worker 1: 0.5 → 0.5" in texts
    with pytest.raises(ConfigurationError, match="rows names 59 snapshots"):
        pictures.draw_scored_paths(plane, span.rows.head(59), values)


def test_the_distances_drawn_are_exact_and_in_the_order_of_workers(curved):
    rows = pd.DataFrame({"step": np.repeat(np.arange(30)[::-1], 2), "worker": ["1", "0"] * 30})
    span = SnapshotSpan.from_tensor(torch.from_numpy(curved), rows=rows)
    _, ax = pictures.draw_distances(span)
    order = [*range(59, 0, -2), *range(58, -1, -2)]
    np.testing.assert_allclose(ax.images[0].get_array(), cdist(curved[order], curved[order]), atol=1e-7)


def test_the_scree_adds_up(span):
    _, ax = pictures.draw_scree(span, most=70)
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, 100 * span.variance_ratio)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata()[-1], 100)


def test_the_band_is_the_confidence_interval_of_the_mean(metrics):
    _, ax = pictures.draw_score_bands(metrics, "score", "start")
    good = metrics[metrics["start"] == "good"].pivot(index="step", columns="worker", values="score")
    half = student.ppf(0.975, 2) * good.std(axis=1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), good.mean(axis=1))
    band = ax.collections[0].get_paths()[0].vertices
    lower, upper = (good.mean(axis=1) - half).to_numpy(), (good.mean(axis=1) + half).to_numpy()
    for step, low, high in zip(good.index, lower, upper, strict=True):
        there = band[np.isclose(band[:, 0], step), 1]
        assert there.min() == pytest.approx(low)
        assert there.max() == pytest.approx(high)
    assert [line.get_label() for line in ax.get_lines()] == ["good (3 networks)", "bad (2 networks)"]


def test_the_quality_panel_shows_all_distances_and_what_is_missed(span, plane):
    _, (left, right) = pictures.draw_quality(plane, span)
    cloud = left.get_lines()[0]
    assert (cloud.get_ydata() <= cloud.get_xdata() * (1 + 1e-9)).all()
    points = np.asarray(span.coordinates)
    missed = np.linalg.norm(points - plane.inverse(plane.coordinates), axis=1) / np.linalg.norm(
        points, axis=1
    )
    np.testing.assert_allclose(right.get_lines()[1].get_ydata(), missed[20:40], rtol=1e-6)
    directions = RandomDirections().fit(span, torch.Generator().manual_seed(0))
    _, (_, right) = pictures.draw_quality(directions, span)
    offset = span.weights().numpy() - span.weights([19]).numpy()
    z, *_ = np.linalg.lstsq(directions.directions.T, offset.T, rcond=None)
    off = np.linalg.norm(offset.T - directions.directions.T @ z, axis=0) / np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), off[:20], rtol=1e-6, atol=1e-6)
    _, (_, right) = pictures.draw_quality(BinaryEncoder(threshold=5.0).fit(span, GENERATOR), span)
    assert right.texts[0].get_text() == "no way back to weights"


@pytest.mark.parametrize(("statistic", "expected"), [("max", 3.0), ("mean", 2.0), ("min", 1.0)])
def test_a_cell_of_the_heat_map_shows_what_was_asked_for(statistic, expected):
    coordinates = np.array([[0.0, 0.0], [0.1, 0.1], [1.0, 1.0], [0.0, 1.0]])
    _, ax = pictures.draw_heat_map(coordinates, [1.0, 3.0, 7.0, np.nan], statistic=statistic, resolution=2)
    cells = ax.collections[0].get_array().reshape(2, 2)
    assert cells[0, 0] == expected
    assert cells[1, 1] == 7.0
    assert np.ma.getmaskarray(cells).tolist() == [[False, True], [True, False]]
    with pytest.raises(ConfigurationError, match="statistic='median'"):
        pictures.draw_heat_map(coordinates, np.ones(4), statistic="median")


def test_points_on_a_lattice_are_in_the_middle_of_their_cells():
    x, y = np.meshgrid([0.0, 100.0, 200.0], [0.0, 50.0])
    figure, ax = pictures.draw_heat_map(np.column_stack([x.ravel(), y.ravel()]), np.arange(6.0))
    corners = ax.collections[0].get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [-50, 50, 150, 250])
    np.testing.assert_allclose(corners[:, 0, 1], [-25, 25, 75])
    np.testing.assert_array_equal(ax.collections[0].get_array().ravel(), np.arange(6.0))
    assert [other.get_ylabel() for other in figure.axes[0].child_axes] == ["score"]  # one in each cell


def test_cells_show_the_mean_of_their_snapshots(span):
    som = SOM(rows=3, columns=3, epochs=5).fit(span, GENERATOR)
    winners = som.winners(span.coordinates)
    values = np.arange(60.0)
    _, ax = pictures.draw_hits(som, winners, values)
    filled = [item for item in ax.collections if isinstance(item, PolyCollection)][-1]
    expected = [values[winners == node].mean() for node in np.unique(winners)]
    np.testing.assert_allclose(filled.get_array(), expected)


def test_ripples_are_left_out_of_the_tree():
    loss = np.array([[0.0, 5, 2, 2.5, 1, 9]])
    _, ax = pictures.draw_persistence(loss, threshold=1.0)
    upright = [
        line.get_ydata()
        for line in ax.get_lines()
        if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert sorted(map(tuple, upright)) == [(0.0, 9.0), (1.0, 5.0)]
    assert ax.get_title(loc="left") == "2 basins, 1 of persistence below 1 left out"


# -- pictures that move ---------------------------------------------------------------------------------------


@pytest.fixture
def grid():
    x, y = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)
    return surfaces.LossGrid(x, y, np.exp(0.3 * np.add.outer(y, x)), 10, 10)


def test_a_walk_is_animated(span, plane, grid, tmp_path):
    from PIL import Image

    path = moving.animate(
        plane, span.rows, tmp_path / "walk.gif", grid, seconds=0.5, frames_per_second=6, dots_per_inch=40
    )
    with Image.open(path) as image:
        assert image.n_frames >= 3
        assert image.size[0] == 260


def frames_of(program, path):
    """Decode a film and return its number of frames, its width and its height."""
    done = subprocess.run(
        [program, "-i", str(path), "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    width, height = re.search(r"Video: .*?, (\d+)x(\d+)", done.stderr).groups()
    return int(re.findall(r"frame=\s*(\d+)", done.stderr)[-1]), int(width), int(height)


@pytest.mark.parametrize("source", ["PATH", "imageio-ffmpeg"])
def test_a_walk_is_filmed(span, plane, grid, tmp_path, monkeypatch, source):
    package = pytest.importorskip("imageio_ffmpeg")
    if source == "PATH":
        # A program of this name is what a system package installs; the same one serves for both.
        (tmp_path / "ffmpeg").symlink_to(package.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", str(tmp_path))
    program = moving.find_ffmpeg()
    assert ("imageio_ffmpeg" in program) is (source != "PATH")
    path = moving.animate(
        plane, span.rows, tmp_path / "walk.mp4", grid, seconds=1.0, frames_per_second=6, dots_per_inch=41
    )
    frames, width, height = frames_of(program, path)
    assert frames == 12  # one second, and one more of the end
    assert width % 2 == height % 2 == 0
    assert width in (266, 267, 268)


def test_the_film_needs_its_program(span, plane, tmp_path, monkeypatch):
    monkeypatch.setattr(moving, "find_ffmpeg", lambda: None)
    with pytest.raises(ConfigurationError, match="needs the program ffmpeg"):
        moving.animate(plane, span.rows, tmp_path / "walk.mp4")
    with pytest.raises(ConfigurationError, match=r"give \.gif or \.mp4"):
        moving.animate(plane, span.rows, tmp_path / "walk.avi")


def test_the_page_of_a_surface_holds_everything(span, plane, grid):
    loss = grid.loss.copy()
    loss[0, 0] = np.nan
    page = moving.surface_page(
        surfaces.LossGrid(grid.x, grid.y, loss, 10, 10), plane, span.rows, np.ones(60), title="a < b"
    )
    assert "<title>a &lt; b</title>" in page
    assert not re.findall(r"(?:src|href)\s*=", page)
    data = json.loads(re.search(r"const data = (\{.*\});", page).group(1))
    assert data["z"][0] is None
    np.testing.assert_allclose(data["z"][1:], np.log10(loss.ravel()[1:]))
    assert [path["name"] for path in data["paths"]] == ["worker 0", "worker 1", "worker 2"]
    np.testing.assert_allclose(data["paths"][1]["x"], plane.coordinates[20:40, 0])
    assert set(data["paths"][0]["z"]) == {0.0}
    with pytest.raises(ConfigurationError, match="no surface to draw"):
        moving.surface_page(surfaces.LossGrid(grid.x, grid.y, np.full((5, 7), np.inf), 1, 1))


def test_without_true_losses_paths_lie_on_the_surface(span, grid):
    x = np.linspace(-2, 2, 60)
    flat = SimpleNamespace(coordinates=np.stack([x, 0.5 * x], 1), axis_labels=("a", "b"))
    page = moving.surface_page(grid, flat, span.rows)
    data = json.loads(re.search(r"const data = (\{.*\});", page).group(1))
    np.testing.assert_allclose(data["paths"][0]["z"], np.log10(np.exp(0.3 * 1.5 * x[:20])), atol=0.02)


# -- the report -----------------------------------------------------------------------------------------------


def test_scores_of_the_snapshots_are_found_in_the_metrics(span):
    rows = span.rows
    metrics = pd.DataFrame(
        {"step": [0, 5, 5, 10], "worker": [0, 0, 0, 1], "score": [0.1, 0.2, 0.3, 0.4], "loss": 1.0}
    )
    assert figures._scores(SimpleNamespace(metrics=metrics), rows) is None  # three of sixty
    few = rows.iloc[[0, 1, 22]]
    values, label = figures._scores(SimpleNamespace(metrics=metrics), few)
    np.testing.assert_array_equal(values, [0.1, 0.3, 0.4])
    assert label == "score"
    renamed = metrics.rename(columns={"score": "score_test"})
    assert figures._scores(SimpleNamespace(metrics=renamed), few)[1] == "score on the test data"
    assert figures._scores(SimpleNamespace(metrics=metrics[["step", "worker"]]), few) is None
    between = pd.DataFrame({"step": [2, 3], "worker": ["0", "0"]})
    values, label = figures._scores(SimpleNamespace(metrics=metrics), between)
    np.testing.assert_allclose(values, [0.18, 0.22])
    assert label == "score, between measurements interpolated"


def test_values_that_do_not_fit_the_points_are_refused(plane, span):
    count = len(span)
    for draw in (
        lambda values: pictures.draw_scored_paths(plane, span.rows, values),
        lambda values: pictures.draw_heat_map(plane.coordinates, values),
    ):
        with pytest.raises(ConfigurationError, match=rf"shape \(3,\), for {count} points"):
            draw(np.zeros(3))
        with pytest.raises(ConfigurationError, match="None of the values is finite"):
            draw(np.full(count, np.nan))


def test_a_worker_without_a_group_is_refused(plane, span):
    with pytest.raises(ConfigurationError, match="groups says nothing of the workers"):
        figures.draw_paths(plane.coordinates, span.rows, groups={})
