"""Curves: every quantity in its panel, nothing drawn that was not measured."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.collections import PolyCollection

from landscape.report import columns, curves, style


@pytest.fixture
def drawn():
    """Return a function that draws metrics and gives the figures by name."""

    def draw(records):
        figures = list(curves.figures(pd.DataFrame(records)))
        for figure in figures:
            figure.figure.draw_without_rendering()
        return {figure.name: figure for figure in figures}

    return draw


def panels(figure):
    return [axes for axes in figure.figure.axes if axes.axison]


def table(steps, **columns):
    return {"step": steps, "worker": ["0"] * len(steps)} | columns


def test_every_family_has_its_figure_in_the_conventional_order(drawn, rows):
    figures = drawn(rows())
    assert {name: figure.order for name, figure in figures.items()} == {
        "training": 10,
        "path": 10,
        "hessian-eigenvalues": 30,
        "covariance-eigenvalues": 30,
        "gradient-hessian-overlap": 30,
    }
    assert [axes.get_title(loc="left") for axes in panels(figures["path"])] == [
        "Gradient norm",
        "Weight norm",
        "Distance from the start",
        "Cosine with the start",
    ]


def test_lines_are_the_measured_numbers(drawn, rows):
    metrics = pd.DataFrame(rows())
    loss = panels(drawn(metrics)["training"])[0]
    for worker, line in zip(("0", "1", "2", "3", "centre"), loss.lines, strict=False):
        own = metrics[metrics["worker"] == worker]
        np.testing.assert_array_equal(line.get_xdata(), own["step"])
        np.testing.assert_array_equal(line.get_ydata(), own["loss"])
    assert len(loss.lines) == 10  # training and test


def test_quantities_measured_at_other_steps_are_joined_without_gaps(drawn, rows):
    figures = drawn(rows(workers=("0",), every=50))
    line = panels(figures["hessian-eigenvalues"])[0].lines[0]
    assert line.get_xdata().tolist() == list(range(0, 2001, 100))
    assert np.isfinite(line.get_ydata()).all()


def test_the_centre_is_black_and_thick_and_above_the_workers():
    styles = style.worker_styles(["centre", "10", "2", "0"])
    assert list(styles) == ["0", "2", "10", "centre"]
    assert styles["centre"].color == "#000000"
    assert styles["centre"].linewidth > styles["0"].linewidth
    assert styles["centre"].zorder > styles["0"].zorder
    assert len({line.color for line in styles.values()}) == 4


def test_many_workers_share_a_colour_and_a_legend_entry(drawn, rows):
    figures = drawn(rows(workers=(*map(str, range(12)), "centre")))
    (legend,) = figures["path"].figure.legends
    assert [text.get_text() for text in legend.texts] == ["workers 0 to 11", "centre"]
    assert "Shown for 6 of 13 workers." in figures["hessian-eigenvalues"].caption
    titles = [axes.get_title(loc="left") for axes in panels(figures["hessian-eigenvalues"])]
    assert titles == [*(f"Worker {index}" for index in range(5)), "Centre"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 1e-3], "log"),
        ([1.0, 0.5], "linear"),
        ([1.0, 0.0], "linear"),
        ([1e5, -1.0], "linear"),
        ([1.0, 0.01], "linear"),
        ([1.0, np.nan, 1e-3, np.inf], "log"),
    ],
)
def test_the_scale_is_logarithmic_above_two_decades_of_positive_numbers(values, scale):
    _, axes = style.figure()
    assert style.scale(axes[0, 0], values) == scale
    assert axes[0, 0].get_yscale() == scale


def test_the_caption_says_that_a_scale_is_logarithmic(drawn):
    records = table([0, 1, 2], loss=[1.0, 0.1, 0.001], score=[0.0, 0.5, 1.0])
    assert "Logarithmic vertical axis for loss." in drawn(records)["training"].caption


def test_errors_are_bands_where_they_are_known(drawn):
    records = table(
        [0, 1, 2, 3],
        trace=[1.0, 2.0, 3.0, 4.0],
        trace_error=[0.1, 0.2, np.nan, 0.4],
        other=[1.0, 2.0, 3.0, 4.0],
    )
    figure = drawn(records)["further-1"]
    with_band, without = panels(figure)
    (band,) = [item for item in with_band.collections if isinstance(item, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.9)
    assert corners[:, 1].max() == pytest.approx(4.4)
    assert not without.collections
    assert "Bands: the reported error." in figure.caption


def test_words_and_bookkeeping_are_not_quantities():
    metrics = pd.DataFrame(
        table([0, 1], attempt=[0, 0], warnings=["a", None], empty=[np.nan] * 2, a=[1, 2], a_error=[1, 1])
    )
    assert curves.quantities(metrics) == ["a"]


def test_one_step_is_no_curve(drawn):
    assert drawn(table([5], loss=[1.0])) == {}
    assert drawn({"step": [], "worker": []}) == {}


def test_a_single_worker_needs_no_legend(drawn):
    assert drawn(table([0, 1], loss=[2.0, 1.0]))["training"].figure.legends == []


@pytest.mark.parametrize("workers", [("0",), ("0", "1", "2", "3", "centre"), tuple(map(str, range(7)))])
def test_legends_and_titles_cover_no_axes(drawn, workers, rows):
    for figure in drawn(rows(workers=workers)).values():
        canvas = figure.figure
        boxes = [axes.get_tightbbox() for axes in panels(figure)]
        for legend in canvas.legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(other) for other in boxes)
            assert box.x0 >= 0
            assert box.x1 <= canvas.bbox.x1
        for index, box in enumerate(boxes):
            assert not any(_overlap(box, other) > 1 for other in boxes[index + 1 :])


def _overlap(one, two):
    """Return the area that two boxes share, in pixels."""
    width = min(one.x1, two.x1) - max(one.x0, two.x0)
    height = min(one.y1, two.y1) - max(one.y0, two.y0)
    return max(0, width) * max(0, height)


@pytest.mark.parametrize("count", [6, 7, 8, 10])
def test_legends_of_short_names_are_not_cut_off(count):
    canvas, axes = style.figure()
    handles = [axes[0, 0].plot([0, 1], [0, index])[0] for index in range(count)]
    style.legend_below(canvas, handles, [f"i = {index + 1}" for index in range(count)])
    canvas.draw_without_rendering()
    box = canvas.legends[0].get_window_extent()
    assert canvas.bbox.x0 <= box.x0
    assert box.x1 <= canvas.bbox.x1


def test_legends_of_long_names_use_the_width_there_is():
    canvas, axes = style.figure(width=5.2)
    names = [
        "theory, small steps, in the end",
        "theory",
        "theory, independent draws",
        "theory, small steps",
    ]
    handles = [axes[0, 0].plot([0, 1], [0, index])[0] for index in range(4)]
    style.legend_below(canvas, handles, names)
    canvas.draw_without_rendering()
    box = canvas.legends[0].get_window_extent()
    assert canvas.bbox.x0 <= box.x0
    assert box.x1 <= canvas.bbox.x1
    assert len({round(text.get_window_extent().x0) for text in canvas.legends[0].texts}) == 2


def test_legends_read_row_by_row():
    canvas, axes = style.figure()
    handles = [axes[0, 0].plot([0, 1], [0, index])[0] for index in range(7)]
    style.legend_below(canvas, handles, [f"a rather long label {index}" for index in range(7)])
    canvas.draw_without_rendering()
    (legend,) = canvas.legends
    texts = sorted(
        legend.texts, key=lambda text: (-round(text.get_window_extent().y0), text.get_window_extent().x0)
    )
    assert [text.get_text()[-1] for text in texts] == list("0123456")


def test_colours_of_an_order_are_distinct():
    for count in (1, 5, 6, 7, 20):
        assert len(set(style.sequence(count))) == count


def test_nothing_touches_the_global_state_of_matplotlib(drawn, rows):
    before = dict(rcParams)
    drawn(rows())
    assert dict(rcParams) == before
    program = (
        "import sys, landscape.report as r, pandas as pd;"
        "list(r.curves.figures(pd.DataFrame({'step': [0, 1], 'worker': ['0', '0'], 'loss': [1.0, 2.0]})));"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split()[0] == "False"


def test_what_belongs_together_shares_a_panel(drawn):
    steps = [0, 1, 2]
    records = table(
        steps,
        distance_mean=[0.0, 2.0, 3.0],
        distance_min=[0.0, 1.0, 2.0],
        distance_max=[0.0, 3.0, 5.0],
        ratio=[0.5, 0.6, 0.7],
        ratio_low=[0.4, 0.5, np.nan],
        ratio_high=[0.6, 0.7, 0.8],
        height_mean=[1.0, 2.0, 1.0],
        height_max=[2.0, 2.5, 2.0],
        height_mean_test=[1.5, 2.5, 1.0],
        height_max_test=[2.5, 3.5, 2.0],
        odd_test=[1.0, 2.0, 3.0],
        max=[3.0, 2.0, 1.0],
    )
    figure = drawn(records)["further-1"]
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["Distance between points, mean", "Ratio", "Height mean", "Odd (test)", "Max"]
    distance, ratio, height, *_ = panels(figure)
    (band,) = [item for item in distance.collections if isinstance(item, PolyCollection)]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(0, 0), (1, 1), (1, 3), (2, 2), (2, 5)} <= corners
    (band,) = [item for item in ratio.collections if isinstance(item, PolyCollection)]
    assert band.get_paths()[0].vertices[:, 0].max() == 1  # where both ends are known
    assert [line.get_linestyle() for line in height.lines] == ["-", "--"]
    assert len(height.collections) == 2
    assert "Ratio with a band of its interval" not in figure.caption
    assert "ratio with a band of its interval" in figure.caption
    assert "Solid: training data; dashed: test data." in figure.caption


def test_what_never_changed_is_said_and_not_drawn(drawn):
    figures = drawn(table([0, 1], a=[1.0, 2.0], b=[3.0, 3.0], b_test=[3.0, 3.0], c_mean=[0.0, 0.0]))
    (axes,) = panels(figures["further-1"])
    assert axes.get_title(loc="left") == "A"
    assert "Not drawn, as they never changed: B (3.000), C mean (0)." in figures["further-1"].caption
    assert drawn(table([0, 1], b=[3.0, 3.0])) == {}


def test_legends_name_only_who_is_drawn(drawn):
    records = {
        "step": [0, 1] * 3,
        "worker": ["0", "0", "1", "1", "population", "population"],
        "loss": [3.0, 2.0, 3.0, 1.0, np.nan, np.nan],
        "distance_mean": [np.nan] * 4 + [0.0, 1.0],
    }
    figures = drawn(records)
    (legend,) = figures["training"].figure.legends
    assert [text.get_text() for text in legend.texts] == ["worker 0", "worker 1"]
    assert "population" not in figures["training"].caption
    assert figures["further-1"].figure.legends == []


def test_members_of_a_sweep_have_an_order_and_colours_of_it():
    ramp = style.worker_styles([str(index) for index in range(9)], ramp=True)
    assert len({line.color for line in ramp.values()}) == 9
    assert style.worker_styles(["0", "1"], ramp=True) == style.worker_styles(["0", "1"])


def test_long_legends_leave_the_panels_their_height():
    heights = []
    for count in (2, 9):
        canvas, grid = style.figure(1, 2, height=2.7)
        handles = grid[0, 0].plot(np.zeros((2, count)))
        style.legend_below(
            canvas, handles, [f"a long name of a member of a sweep, number {i}" for i in range(count)]
        )
        canvas.draw_without_rendering()
        heights.append(grid[0, 0].get_window_extent().height)
    assert heights[1] > 0.9 * heights[0]


@pytest.mark.parametrize(
    ("stem", "label", "limited"),
    [
        ("batch_gradient_hessian_overlap", "mean of |Pᵢg| / |g|", True),
        ("covariance_along_hessian", "variance vᵢᵀKvᵢ", False),
        ("covariance_hessian_ratio", "vᵢᵀKvᵢ / λᵢ", False),
        ("covariance_hessian_cosine", "cosine vᵢᵀKvᵢ / |Kvᵢ|", True),
        ("covariance_in_hessian", "tr(PᵢK) / tr K", True),
    ],
)
def test_noise_along_the_curvature_says_what_it_is(drawn, stem, label, limited):
    columns = {f"{stem}_{i}": [0.1 * i, 0.2 * i] for i in (1, 2, 3)}
    figure = drawn(pd.DataFrame(table([0, 5], **columns)))[stem.replace("_", "-")]
    (axes,) = panels(figure)
    assert axes.get_ylabel() == label
    assert figure.caption
    legend = figure.figure.legends[0]
    assert [text.get_text()[1:] for text in legend.get_texts()] == ["₁", "₂", "₃"]
    assert all(text.get_text()[0] in "vP" for text in legend.get_texts())
    # What never changes is a table's matter.
    still = {name: [values[0]] * 2 for name, values in columns.items()}
    assert stem.replace("_", "-") not in drawn(pd.DataFrame(table([0, 5], loss=[1.0, 2.0], **still)))


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.4), (0.02, 0.3), (1e-3, 5.0), (1e-9, 1e7), (3.1, 3.2)])
def test_numbers_of_logarithmic_axes_are_few_and_do_not_touch(low, high):
    canvas, grid = style.figure(1, 2)
    for axes in grid.flat:
        axes.plot([low, high], [low, high])
        axes.set_yscale("log")
    axes.set_xscale("log")
    for axis in (axes.xaxis, axes.yaxis, grid[0, 0].xaxis):
        style.logarithmic(axis)
    canvas.canvas.draw()
    for axis in (axes.xaxis, axes.yaxis):
        shown = [
            tick.label1.get_window_extent()
            for tick in axis.get_major_ticks()
            if tick.label1.get_text() and low * 0.99 <= tick.get_loc() <= high * 1.01
        ]
        assert len(shown) <= 10
        assert not any(one.overlaps(other) for k, one in enumerate(shown) for other in shown[:k])
    # A linear axis stays one.
    assert grid[0, 0].get_xscale() == "linear"


def test_quantities_on_other_data_are_drawn_as_those_of_training(drawn):
    steps = [0, 1, 2]
    own = {f"hessian_eigenvalue_{i}": [1.0, 10.0 / i, 1000.0 / i] for i in (1, 2, 3)}
    other = {f"test.head.{name}": values for name, values in own.items()}
    figures = drawn(table(steps, **own, **other, **{"test.head.hessian_products": [3.0, 4.0, 5.0]}))
    assert list(figures) == ["hessian-eigenvalues", "test-head-hessian-eigenvalues"]
    figure = figures["test-head-hessian-eigenvalues"]
    assert figure.title == "Largest Hessian eigenvalues (test data, head)"
    assert "training" not in figure.caption
    assert "Logarithmic vertical axis" in figure.caption
    (axes,) = panels(figure)
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "eigenvalue")
    assert [text.get_text() for text in figure.figure.legends[0].texts] == ["λ₁", "λ₂", "λ₃"]


def test_the_loss_of_a_probe_on_the_test_data_is_drawn_beside_the_others(drawn):
    metrics = {"loss": [3.0, 2.0], "loss_test": [3.5, 2.5], "test.loss": [3.25, 2.25]}
    figures = drawn(table([0, 1], **metrics))
    assert list(figures) == ["training"]
    (axes,) = panels(figures["training"])
    assert [line.get_ydata().tolist() for line in axes.lines] == list(metrics.values())


def test_traces_of_layers_share_axes_and_costs_have_none(drawn):
    names = ("hessian_trace", "hessian_trace_a.0", "hessian_trace_b", "hessian_trace_products")
    figures = drawn(table([0, 1], **{name: [1.0 + i, 2.0] for i, name in enumerate(names)}))
    (figure,) = figures.values()
    assert figure.title == "Trace of the Hessian, by layer"
    assert [text.get_text() for text in figure.figure.legends[0].texts] == ["all weights", "a.0", "b"]


def test_captions_say_which_covariance_was_measured():
    metrics = pd.DataFrame(table([0, 1], covariance_eigenvalue_1=[1.0, 2.0]))
    (known,) = curves.figures(metrics, noises={"eigenvalues_of": "the covariance of 7 things"})
    assert "κ₂ ≥ … of the covariance of 7 things." in known.caption
    (unknown,) = curves.figures(metrics)
    assert "mini-batch" not in unknown.caption


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"batches": 9, "per_example": True, "batch_size": 4},
            "the covariance of the gradients of 9 single examples",
        ),
        (
            {"batches": 9, "batch_size": 4},
            "the covariance of the gradients of 9 mini-batches of 4 examples",
        ),
        (
            {"batches": 9, "centred": False},
            "the second moment (mean not subtracted) of the gradients of 9 mini-batches",
        ),
        ({}, "the covariance of the gradients"),
    ],
)
def test_a_covariance_is_named_as_its_probe_was_set(settings, words):
    probes = [{"probe": {"component": "GradientCovariance", **settings}, "split": None}]
    assert columns.noises_of({"experiment": {"probes": probes}}, "GradientCovariance") == words


@pytest.mark.parametrize(
    ("column", "prefix", "words"),
    [
        ("hessian_trace_conv.0", "", ""),
        ("test.layer4.0.hessian_trace_layer4.0", "test.layer4.0.", "test data, layer4.0"),
        ("small.covariance_trace", "small.", "small"),
        ("a.b", "", ""),
    ],
)
def test_what_stands_before_a_quantity(column, prefix, words):
    assert columns.prefix_of(column) == prefix
    assert columns.where(prefix) == words


def test_a_caption_names_a_few_constants_and_counts_the_others(drawn):
    constants = {f"constant_{letter}": [2.0, 2.0] for letter in "abcdefghi"}
    (figure,) = drawn(table([0, 1], moving=[1.0, 2.0], **constants)).values()
    assert "Constant f (2.000), and 3 more, whose values stand in metrics.jsonl." in figure.caption
    assert "Constant g" not in figure.caption
    assert "  " not in figure.caption
