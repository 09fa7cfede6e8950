from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from attrs import field, frozen
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.path import Path
from scipy.spatial.distance import cdist

from landscape.errors import ConfigurationError
from landscape.interfaces import Projection
from landscape.objective import Landscape
from landscape.plugins import PluginWarning
from landscape.report.style import worker_styles
from landscape.store import SnapshotSpan
from landscape_projectors import _style, figures, surfaces
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain, FitOn, Part
from landscape_projectors.pca import PCA
from landscape_projectors.planes import RandomDirections
from landscape_projectors.random_walks import random_walk_path
from landscape_projectors.som import SOM

GENERATOR = torch.Generator()
STEPS = 12


@pytest.fixture
def regression():
    """A linear regression on 40 examples: its loss is known in closed form."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    landscape = Landscape(torch.nn.Linear(5, 1, dtype=torch.float64), "mse", (x, y), dtype=torch.float64)

    def loss(theta):  # (G, 6) -> (G,)
        theta = np.atleast_2d(theta)
        residual = x.numpy() @ theta[:, :5].T + theta[:, 5] - y.numpy()
        return (residual**2).mean(axis=0)

    return landscape, loss


@pytest.fixture
def walked(span_of):
    """Snapshots of two workers and a centre, whose rows are not in the order of the workers."""
    generator = np.random.default_rng(2)
    starts = generator.normal(size=(3, 6))
    weights, rows = [], []
    for step in range(STEPS):
        for place, worker in enumerate(("1", "0", "centre")):
            weights.append(starts[place] * np.exp(-0.2 * step) + 0.05 * generator.normal(size=6))
            rows.append((10 * step, worker))
    return span_of(np.array(weights), pd.DataFrame(rows, columns=["step", "worker"]))


def run_of(span, landscape, *projectors, kind="experiment", metrics=None):
    return SimpleNamespace(
        kind=kind,
        experiment=SimpleNamespace(start=None),
        metrics=pd.DataFrame(columns=["step", "worker"]) if metrics is None else metrics,
        projectors=projectors,
        span=lambda: span,
        landscape=lambda: landscape,
        project=lambda projector: projector.fit(span, GENERATOR),
    )


# -- the loss behind the map ----------------------------------------------------------------------------------


def test_the_background_is_the_true_loss_of_the_points_of_the_plane(regression, walked):
    landscape, loss = regression
    projection = PCA().fit(walked, GENERATOR)
    grid = figures.loss_grid(landscape, walked, projection, resolution=9)
    points = np.stack(np.meshgrid(grid.x, grid.y), axis=-1).reshape(-1, 2)
    weights = walked.restore(projection.inverse(points)).numpy()
    np.testing.assert_allclose(grid.loss.ravel(), loss(weights), rtol=1e-9)
    assert grid.label == "loss on the training data"


def test_losses_at_the_snapshots_are_those_of_the_recorded_weights(regression, walked):
    landscape, loss = regression
    found, examples = figures.loss_at(landscape, walked, walked.coordinates)
    weights = walked.restore(walked.coordinates).numpy()
    np.testing.assert_allclose(found, loss(weights), rtol=1e-8)
    assert examples == 40


def test_the_grid_holds_every_path_with_room_around_it(regression, walked):
    landscape, _ = regression
    projection = PCA().fit(walked, GENERATOR)
    grid = figures.loss_grid(landscape, walked, projection, resolution=21)
    low, high = projection.coordinates.min(axis=0), projection.coordinates.max(axis=0)
    for axis, points in enumerate((grid.x, grid.y)):
        assert points[0] < low[axis]
        assert points[-1] > high[axis]
    assert max(grid.loss.shape) == 21
    # Cells are about square, and a thin path still gets a map at least half as wide as long.
    assert min(grid.loss.shape) >= 10
    np.testing.assert_allclose(grid.x[1] - grid.x[0], grid.y[1] - grid.y[0], rtol=0.1)


def test_a_large_data_set_is_sampled_evenly_and_the_label_says_so(span_of):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1000, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    landscape = Landscape(torch.nn.Linear(5, 1, dtype=torch.float64), "mse", (x, y), dtype=torch.float64)
    weights = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    span = span_of(weights)
    found, examples = figures.loss_at(landscape, span, span.coordinates, evaluations=4 * 300)
    assert examples == 300
    chosen = np.linspace(0, 999, 300).round().astype(int)
    residual = x[chosen] @ weights[:, :5].T + weights[:, 5] - y[chosen]
    np.testing.assert_allclose(found, (residual**2).mean(dim=0).numpy(), rtol=1e-9)
    assert figures.LossGrid(np.zeros(1), np.zeros(1), np.zeros((1, 1)), 300, 1000).label == (
        "loss on 300 of 1\u202f000 training examples"
    )


def test_points_of_a_plane_are_restored_from_three_vectors(walked):
    passes = []

    class Counted:
        size, rows, coordinates = walked.size, walked.rows, walked.coordinates

        def restore(self, coefficients):
            passes.append(len(coefficients))
            return walked.restore(coefficients)

    projection = PCA().fit(walked, GENERATOR)
    points = projection.inverse(np.random.default_rng(0).normal(size=(200, 2)))
    found = torch.cat(list(surfaces.restored(Counted(), points)))
    np.testing.assert_allclose(found.numpy(), walked.restore(points).numpy(), atol=1e-10)
    assert passes == [3]


# -- drawing --------------------------------------------------------------------------------------------------


def test_every_drawing_function_returns_the_figure_and_the_axes_it_was_given(regression, walked):
    landscape, _ = regression
    plane = PCA().fit(walked, GENERATOR)
    grid = figures.loss_grid(landscape, walked, plane, resolution=7)
    som = SOM(rows=3, columns=4, epochs=5).fit(walked, GENERATOR)
    loss, _ = figures.loss_at(landscape, walked, som.codebook)
    for draw in (
        lambda ax: figures.draw_paths(plane.coordinates, walked.rows, ax),
        lambda ax: figures.draw_path_over_loss(plane, walked.rows, grid, ax),
        lambda ax: figures.draw_path_over_loss(plane, walked.rows, ax=ax),
        lambda ax: figures.draw_map(som, walked.rows, loss, ax),
        lambda ax: figures.draw_u_matrix(som, som.winners(walked.coordinates), ax),
        lambda ax: figures.draw_u_matrix(som, ax=ax),
    ):
        figure, ax = draw(None)
        assert isinstance(figure, Canvas)
        assert ax.figure is figure
        mine = Canvas().add_subplot()
        figure, ax = draw(mine)
        assert ax is mine
        assert figure is mine.figure
        figure.savefig("/dev/null", format="png")
    assert "matplotlib.pyplot" not in vars(figures)


def test_each_path_runs_through_its_snapshots_in_the_order_of_the_steps(walked):
    plane = PCA().fit(walked, GENERATOR)
    shuffled = np.random.default_rng(0).permutation(len(walked.rows))
    _, ax = figures.draw_paths(plane.coordinates[shuffled], walked.rows.iloc[shuffled])
    for line in ax.get_lines():
        label = str(line.get_label())
        if label.startswith("_"):
            continue
        worker = label.removeprefix("worker ")
        expected = plane.coordinates[(walked.rows["worker"] == worker).to_numpy()]
        np.testing.assert_array_equal(np.column_stack(line.get_data()), expected)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["worker 0", "worker 1", "centre", "start", "end"]


def test_coordinates_are_drawn_against_the_step(walked):
    projection = PCA(dimensions=3).fit(walked, GENERATOR)
    figure, axes = figures.draw_coordinates(projection, walked.rows)
    assert [ax.get_ylabel() for ax in axes] == list(projection.axis_labels)
    for axis, ax in enumerate(axes):
        for line, worker in zip(ax.get_lines(), ["0", "1", "centre"], strict=True):
            chosen = (walked.rows["worker"] == worker).to_numpy()
            np.testing.assert_array_equal(line.get_xdata(), walked.rows["step"][chosen])
            np.testing.assert_array_equal(line.get_ydata(), projection.coordinates[chosen, axis])
    mine = list(Canvas().subplots(3))
    assert figures.draw_coordinates(projection, walked.rows, mine)[1] is mine
    figure.savefig("/dev/null", format="png")


def test_leaps_are_not_drawn_as_part_of_the_path():
    coordinates = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [10.0, 0.0]])
    rows = pd.DataFrame({"step": range(4), "worker": "0"})
    _, ax = figures.draw_paths(coordinates, rows, jump=3.0)
    (path,) = [line for line in ax.get_lines() if line.get_label() == "worker 0"]
    np.testing.assert_array_equal(path.get_xdata(), [0, 1, np.nan, 9, 10])
    dotted = [line for line in ax.get_lines() if line.get_linestyle() == ":"]
    assert [list(line.get_xdata()) for line in dotted] == [[1, 9]]


def test_workers_have_the_colours_of_the_curves_and_share_one_when_they_are_too_many():
    def lines(workers):
        rows = pd.DataFrame(
            {"step": [0, 1] * workers, "worker": np.repeat(np.arange(workers), 2).astype(str)}
        )
        coordinates = np.random.default_rng(0).normal(size=(2 * workers, 2))
        _, ax = figures.draw_paths(coordinates, rows)
        return [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]

    styles = worker_styles([str(k) for k in range(5)])
    few = lines(5)
    assert [line.get_label() for line in few] == [f"worker {k}" for k in range(5)]
    assert [line.get_color() for line in few] == [styles[str(k)].color for k in range(5)]
    assert [line.get_label() for line in lines(40)] == ["40 workers"]


def test_a_loss_that_is_not_finite_is_hatched_and_named(walked):
    plane = PCA().fit(walked, GENERATOR)
    x = y = np.linspace(-2, 2, 6)
    loss = np.exp(np.add.outer(y, x))
    loss[0, 0], loss[2, 3] = np.nan, np.inf
    figure, ax = figures.draw_path_over_loss(plane, walked.rows, figures.LossGrid(x, y, loss, 5, 5))
    assert "loss not finite" in [text.get_text() for text in ax.get_legend().get_texts()]
    figure.savefig("/dev/null", format="png")
    nowhere = figures.LossGrid(x, y, np.full((6, 6), np.nan), 5, 5)
    figure, _ = figures.draw_path_over_loss(plane, walked.rows, nowhere)
    figure.savefig("/dev/null", format="png")


def test_what_is_far_from_every_snapshot_is_hatched(regression, walked):
    landscape, _ = regression
    plane = PCA().fit(walked, GENERATOR)
    grid = figures.loss_grid(landscape, walked, plane, resolution=9)
    reach = figures.spacing(plane.coordinates, walked.rows)
    steps = [
        np.linalg.norm(
            np.diff(plane.coordinates[(walked.rows["worker"] == w).to_numpy()], axis=0), axis=1
        ).max()
        for w in ("0", "1", "centre")
    ]
    assert reach == pytest.approx(max(steps))
    for limit, expected in ((0.5 * reach, True), (np.inf, False)):
        figure, ax = figures.draw_path_over_loss(plane, walked.rows, grid, reach=limit)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert ("far from every snapshot" in texts) is expected
        hatches = [item for item in ax.collections if isinstance(item, LineCollection)]
        assert bool(hatches) is expected
        if expected:  # the lines are clipped to the points that are farther
            path, transform = hatches[0].get_clip_path(), ax.transData
            points = np.stack(np.meshgrid(grid.x[1:-1], grid.y[1:-1]), axis=-1).reshape(-1, 2)
            far = cdist(points, plane.coordinates).min(axis=1)
            clear = np.abs(far - limit) > 0.5 * (grid.x[1] - grid.x[0])
            rings = [Path(ring) for ring in path.get_fully_transformed_path().to_polygons()]
            inside = sum(ring.contains_points(transform.transform(points)) for ring in rings) % 2 == 1
            np.testing.assert_array_equal(inside[clear], (far > limit)[clear])
        figure.savefig("/dev/null", format="png")
    found = list(figures.figures(run_of(walked, landscape, Autoencoder(iterations=10), PCA())))
    captions = {figure.name: figure.caption for figure in found}
    assert "Hatched: farther than" in captions["map-autoencoder"]
    assert "Hatched" not in captions["map-pca"]


def test_a_random_walk_is_drawn_beside_one_path(regression, span_of, curved):
    landscape, _ = regression
    rows = pd.DataFrame({"step": range(20), "worker": "0"})
    span = span_of(curved[:20, :6], rows)
    plane = PCA().fit(span, GENERATOR)
    loss = np.exp(np.add.outer(np.linspace(0, 1, 5), np.linspace(0, 1, 5)))
    loss[0, 0] = np.nan
    grid = figures.LossGrid(np.linspace(-3, 3, 5), np.linspace(-3, 3, 5), loss, 5, 5)
    _, ax = figures.draw_path_over_loss(plane, rows, grid)
    figure, same = figures.draw_random_walk(plane, ax)
    assert same is ax
    assert figure is ax.figure
    (walk,) = [line for line in ax.get_lines() if line.get_label() == "a random walk as long"]
    spread = np.sqrt(np.mean(np.sum(span.coordinates**2, axis=1)))
    np.testing.assert_allclose(
        np.abs(np.column_stack(walk.get_data())), spread * np.abs(random_walk_path(20)), atol=1e-9
    )
    assert (np.sum(np.column_stack(walk.get_data()) * plane.coordinates, axis=0) > 0).all()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(texts) == sorted(["worker 0", "a random walk as long", "loss not finite", "start", "end"])
    figure.savefig("/dev/null", format="png")
    found = {figure.name: figure.caption for figure in figures.figures(run_of(span, landscape, PCA()))}
    assert "Dashed: where the same components have a random walk" in found["map-pca"]
    assert "Cosine content" in found["map-pca"]
    assert "of random walks from the same starts they would hold" in found["map-pca"]


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (np.array([1e-3, 1.0, np.inf]), LogNorm),
        (np.array([-1.0, 1.0]), Normalize),
        (np.array([2.0, 2.0]), LogNorm),
        (np.array([0.0, 0.0]), Normalize),
        (np.array([np.nan]), Normalize),
    ],
)
def test_losses_are_coloured_by_their_logarithm_where_they_have_one(loss, kind):
    norm = _style.norm_of(loss)
    assert type(norm) is kind
    assert norm.vmin < norm.vmax
    assert np.isfinite([norm.vmin, norm.vmax]).all()
    levels = figures._levels(norm)
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize("low", [1e-6, 0.012, 0.9, 3.0])
@pytest.mark.parametrize("ratio", [1.01, 1.5, 7.0, 100.0, 1e9])
def test_the_colour_bar_has_a_few_ticks_within_its_range(low, ratio):
    ticks = np.array(_style.ticks(low, low * ratio))
    assert 3 <= len(ticks) <= 8
    assert (ticks >= low * (1 - 1e-6)).all()
    assert (ticks <= low * ratio * (1 + 1e-6)).all()
    assert (np.diff(ticks) > 0).all()


def test_a_map_of_other_than_two_dimensions_is_refused(walked):
    with pytest.raises(ConfigurationError, match="this one has 3"):
        figures.draw_path_over_loss(PCA(dimensions=3).fit(walked, GENERATOR), walked.rows)
    with pytest.raises(ConfigurationError, match="rows names 5 snapshots"):
        figures.draw_path_over_loss(PCA().fit(walked, GENERATOR), walked.rows.head(5))


# -- the report -----------------------------------------------------------------------------------------------


def test_a_run_gets_a_map_for_each_projector_and_captions_say_what_is_left_out(regression, walked):
    landscape, loss = regression
    run = run_of(walked, landscape, PCA(), SOM(rows=4, columns=5, epochs=5), PCA(dimensions=3))
    found = list(figures.figures(run))
    maps = [figure for figure in found if figure.name.startswith("map-")]
    assert [figure.name for figure in maps] == ["map-pca", "map-som", "map-pca-2"]
    others = {figure.name for figure in found} - {figure.name for figure in maps}
    assert others == {"quality", "snapshots"}
    plane, som, _ = maps
    projection = run.project(run.projectors[0])
    quality = projection.quality
    assert f"hold {100 * quality['explained_variance']:.1f} % of the snapshots' variance" in plane.caption
    assert f"off them by {100 * quality['off_plane_share']:.0f} %" in plane.caption
    assert "2 workers and the centre (36 snapshots)" in plane.caption
    last = walked.restore(walked.coordinates[-3:]).numpy()
    true = sorted(loss(last))
    assert f"the networks at the ends have {true[0]:.3g} to {true[-1]:.3g}." in plane.caption
    quality = run.project(run.projectors[1]).quality
    assert f"Quantisation error {quality['quantisation_error']:.3f}" in som.caption
    assert f"topographic error {quality['topographic_error']:.3f}" in som.caption
    assert "(20 losses)" in som.caption
    for figure in found:
        figure.figure.savefig("/dev/null", format="svg")


def test_captions_say_when_paths_cannot_be_told_apart(regression, span_of):
    path = np.linspace([0.0] * 6, [3.0, 1.0, 0.0, 2.0, 0.0, 1.0], 8) + np.sin(np.arange(8))[:, None]
    weights = np.repeat(path, 2, axis=0) + 1e-3 * np.random.default_rng(0).normal(size=(16, 6))
    rows = pd.DataFrame({"step": np.repeat(np.arange(8), 2), "worker": ["0", "1"] * 8})
    figure, *_ = figures.figures(run_of(span_of(weights, rows), regression[0], PCA()))
    assert "The paths lie on top of each other" in figure.caption


def test_a_projector_that_cannot_be_fitted_is_left_out_with_a_warning(regression, span_of):
    landscape, _ = regression
    span = span_of(np.outer([0.0, 1.0, 3.0], np.ones(6)))
    run = run_of(span, landscape, PCA(), SOM(rows=3, columns=3, epochs=3))
    with pytest.warns(PluginWarning, match="No map by PCA in the report: .*span only 1 dimension"):
        found = list(figures.figures(run))
    assert [figure.name for figure in found] == ["map-som", "quality", "snapshots"]


def test_other_runs_get_nothing(regression, walked):
    assert list(figures.figures(run_of(walked, regression[0], PCA(), kind="critical-points"))) == []
    assert list(figures.figures(run_of(walked, regression[0]))) == []


def test_a_strangers_projection_without_inverse_is_drawn_without_background(regression, walked):
    @frozen(eq=False)
    class Flat(Projection):
        coordinates: np.ndarray
        axis_labels: tuple[str, ...] = ("a", "b")
        quality: dict = field(factory=lambda: {"stress": 0.25})

        def transform(self, coefficients):
            return coefficients[:, :2]

        def to_arrays(self):
            return {}

    class Stranger:
        def fit(self, span, generator):
            return Flat(span.coordinates[:, :2])

    figure, *_ = figures.figures(run_of(walked, regression[0], Stranger()))
    assert figure.name == "map-stranger"
    assert "background" not in figure.caption
    assert "Stress 0.25." in figure.caption
    assert figure.title == "Paths: Stranger"


def test_projectors_made_of_others_say_what_of():
    assert figures.described(Chain(Autoencoder(), Chain(PCA(), SOM()))) == "Autoencoder and PCA and SOM"
    assert figures.described(FitOn(PCA(), ("1", "2"))) == "PCA of 1, 2"
    assert figures.described(FitOn(PCA())) == "PCA of the first network"
    assert figures.described(Part(PCA(), "layer1")) == "PCA of layer1"
    assert figures.described(Part(PCA(), (), "hidden*")) == "PCA of the mean of hidden*"
    assert figures.described(Part(PCA())) == "PCA of the whole network"


def test_planes_that_do_not_lie_in_the_span_have_a_background_too(regression, walked):
    landscape, _ = regression
    figure, *_ = figures.figures(run_of(walked, landscape, RandomDirections(normalisation="none")))
    assert figure.title == "Paths over the loss: RandomDirections"
    assert "What the picture leads back to explains" in figure.caption
    assert "the loss drawn is off by a factor of" in figure.caption


def test_a_chain_that_ends_in_a_map_is_drawn_in_its_cells(regression, walked):
    landscape, loss = regression
    projectors = (Chain(PCA(dimensions=3), SOM(rows=3, columns=4)), FitOn(SOM(rows=3, columns=4), ("0",)))
    metrics = walked.rows.assign(score=np.linspace(0, 1, len(walked.rows)))
    run = run_of(walked, landscape, *projectors, metrics=metrics)
    found = [figure for figure in figures.figures(run) if figure.name.startswith("map-")]
    assert [figure.title for figure in found] == [
        "Paths over the loss: PCA and SOM",
        "Paths over the loss: SOM of 0",
    ]
    for projector, figure in zip(projectors, found, strict=True):
        projection = projector.fit(walked, GENERATOR)
        lattice = figures._map_in(projection)
        nodes = projection.inverse(lattice.lattice.positions)
        panels = [
            ax for ax in figure.figure.axes if ax.get_title(loc="left") in "abcd" and ax.get_title(loc="left")
        ]
        assert len(panels) == 4
        cells = panels[0].collections[0].get_array()
        np.testing.assert_allclose(cells, loss(walked.restore(nodes).numpy()), rtol=1e-6)
        # The nearest node in the space that the map sees: for the chain, that of the plane before it.
        winners = figures._winners(projection, np.asarray(walked.coordinates))
        if isinstance(projector, Chain):
            first = projection.first.transform(walked.coordinates)
            expected = np.argmin(cdist(first, projection.first.transform(nodes)), axis=1)
            np.testing.assert_array_equal(winners, expected)
        hits = np.bincount(winners, minlength=12).astype(float)
        np.testing.assert_array_equal(panels[3].collections[-1].get_array(), hits[hits > 0])


def test_three_parts_stand_side_by_side(regression):
    landscape, _ = regression
    layout = [{"name": name, "shape": [2]} for name in ("a", "b", "c")]
    weights = torch.randn(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).cumsum(0)
    span = SnapshotSpan.from_tensor(weights, layout)
    found = list(figures.figures(run_of(span, landscape, *(Part(PCA(), name) for name in "abc"))))
    assert [figure.name for figure in found] == ["map-parts", "snapshots"]
    panels = [ax for ax in found[0].figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == ["a", "b", "c"]
    for ax, name in zip(panels, "abc", strict=True):
        expected = Part(PCA(), name).fit(span, GENERATOR)
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), expected.coordinates)
    share = 100 * expected.quality["explained_variance_of_random_walks"]
    assert f"c 100 % ({share:.0f} %)" in found[0].caption
    few = list(figures.figures(run_of(span, landscape, Part(PCA(), "a"))))
    assert [figure.name for figure in few] == ["map-part", "snapshots"]


def test_many_networks_that_do_not_move_are_a_heat_map(regression, span_of):
    landscape, _ = regression
    weights = np.random.default_rng(0).integers(0, 2, size=(30, 6)).astype(float)
    rows = pd.DataFrame({"step": np.repeat([0, 1], 30), "worker": [str(k) for k in range(30)] * 2})
    span = span_of(np.concatenate([weights, weights]), rows)
    metrics = rows.assign(score=np.linspace(0, 1, 60))
    (figure,) = figures.figures(run_of(span, landscape, BinaryEncoder(), metrics=metrics))
    assert figure.title == "Scores over weight space: BinaryEncoder"
    assert "30 networks where BinaryEncoder places them" in figure.caption
    cells = figure.figure.axes[0].collections[0].get_array()
    assert cells.max() == 1.0


def test_the_hook_is_found_and_importing_it_draws_nothing():
    import subprocess
    import sys
    from importlib.metadata import entry_points

    (entry,) = [entry for entry in entry_points(group="landscape") if entry.name == "projectors"]
    assert entry.value == "landscape_projectors.hooks"
    code = (
        "import sys, landscape_projectors.hooks; "
        "assert not {'torch', 'matplotlib'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drawing_leaves_the_global_state_of_matplotlib_alone(walked):
    before = dict(matplotlib.rcParams)
    figures.draw_paths(PCA().fit(walked, GENERATOR).coordinates, walked.rows)
    assert dict(matplotlib.rcParams) == before
