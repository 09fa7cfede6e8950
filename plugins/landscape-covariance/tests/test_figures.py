"""Figures of gradient noise: they show what was measured, and nothing where nothing was."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

import landscape as ls
from landscape_covariance.figures import draw_alignment, draw_cosines, figures
from landscape_covariance.hooks import landscape_figures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    every = 4
    return ls.Experiment(
        ls.models.MLP(hidden=(4,)),
        ls.datasets.Digits(examples=120),
        ls.walkers.SGD(lr=0.1, batch_size=16),
        probes=(
            ls.Every(every, ls.probes.HessianSpectrum(k=3)),
            ls.Every(every, ls.probes.GradientCovariance(batches=6, k=7)),
            ls.Every(every, ls.probes.GradientHessianOverlap(k=3, batches=3)),
            ls.Every(every, ls.probes.CovarianceHessianAlignment(k=3, batches=20, per_example=True)),
        ),
        steps=8,
        seed=2,
    ).run(store=tmp_path_factory.mktemp("runs"))


def test_all_figures_are_there_and_name_their_axes(run):
    found = {figure.name: figure for figure in landscape_figures(run)}
    assert list(found) == ["noise-against-curvature-covariancehessianalignment"]
    for figure in found.values():
        figure.figure.canvas.draw()
        panels = [axes for axes in figure.figure.axes if axes.lines or axes.images]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in panels)
        # The label of every axis tick of a logarithmic axis is apart from its neighbours'.
        for axes in panels:
            labels = [label for label in axes.get_xticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in labels]
            assert all(a.x1 <= b.x0 or b.x1 <= a.x0 for a, b in itertools.pairwise(boxes))
    (figure,) = found.values()
    assert "K is the covariance of the gradients of 20 single examples." in figure.caption
    assert "measured steps are drawn" not in figure.caption  # all three are


def test_points_of_all_steps_are_seen_where_they_lie_on_each_other(run):
    (figure,) = figures(run)
    *points, _proportional = figure.figure.axes[0].lines
    sizes = [line.get_markersize() for line in points]
    assert len(points) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert all(line.get_markerfacecolor() == "none" for line in points)


def test_points_and_cosines_are_those_of_the_probe():
    arrays = {
        "hessian_eigenvalues": np.array([4.0, 2.0, -1.0]),
        "covariance_along_hessian": np.array([0.4, 0.1, 0.3]),
        "covariance_hessian_cosines": np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]),
    }
    canvas = Figure()
    left, right = canvas.subplots(1, 2)
    draw_alignment(left, arrays, color="k")
    np.testing.assert_array_equal(left.lines[0].get_xydata(), [[4.0, 0.4], [2.0, 0.1]])
    image = draw_cosines(right, arrays)
    np.testing.assert_array_equal(image.get_array(), arrays["covariance_hessian_cosines"])
    # Row and column i are at i.
    assert image.get_extent() == [0.5, 3.5, 2.5, 0.5]


def test_runs_that_measured_nothing_of_it_have_no_figures(tmp_path):
    run = ls.Experiment(
        ls.models.MLP(hidden=(2,)), ls.datasets.Digits(examples=60), ls.walkers.GD(lr=0.1), steps=2
    ).run(store=tmp_path)
    assert landscape_figures(run) is not None
    assert list(figures(run)) == []
