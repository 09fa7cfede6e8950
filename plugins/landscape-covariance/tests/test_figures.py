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
    assert list(found) == [
        "eigenvalues-of-noise-and-curvature",
        "noise-against-curvature-covariancehessianalignment",
        "overlaps-with-the-hessian",
    ]
    for figure in found.values():
        figure.figure.canvas.draw()
        panels = [axes for axes in figure.figure.axes if axes.lines or axes.images]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in panels)
        # The label of every axis tick of a logarithmic axis is apart from its neighbours'.
        for axes in panels:
            labels = [label for label in axes.get_xticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in labels]
            assert all(a.x1 <= b.x0 or b.x1 <= a.x0 for a, b in itertools.pairwise(boxes))
    # Seven eigenvalues were asked for, and six batches about their mean have five: the others are zero.
    assert (
        "6 values that are not positive are left out" in found["eigenvalues-of-noise-and-curvature"].caption
    )
    assert "Bands" in found["overlaps-with-the-hessian"].caption


def test_eigenvalues_stand_on_logarithmic_axes_with_their_values(run):
    figure = next(iter(figures(run))).figure
    left, right = figure.axes[:2]
    assert (left.get_yscale(), right.get_yscale()) == ("log", "log")
    table = run.metrics.dropna(subset="hessian_eigenvalue_1")
    np.testing.assert_array_equal(left.lines[0].get_ydata(), table["hessian_eigenvalue_1"])
    np.testing.assert_array_equal(right.lines[2].get_ydata(), table["covariance_eigenvalue_3"])


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
