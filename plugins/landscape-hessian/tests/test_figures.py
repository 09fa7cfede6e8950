"""Figures of densities in the report of a run."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import landscape as ls
from landscape_hessian.figures import draw_density, figures


def test_a_run_with_densities_shows_them_in_its_report(tmp_path):
    run = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1, batch_size=64),
        probes=(
            "Loss",
            ls.Every(2, ls.probes.CurvatureDensity(samples=2, steps=6, examples=100)),
            ls.Every(4, ls.probes.CurvatureDensity(samples=2, steps=6, kind="gauss_newton"), label="ggn"),
        ),
        steps=4,
        seed=1,
    ).run(store=tmp_path)
    found = list(figures(run))
    assert [figure.title for figure in found] == [
        "Spectral density of the Hessian",
        "Spectral density of the Gauss-Newton matrix",
    ]
    assert len({figure.name for figure in found}) == 2
    hessian = found[0].figure.axes[0]
    assert hessian.get_yscale() == "log"
    assert len(hessian.lines) == 3
    assert "Spectral density of the Hessian" in run.report().read_text(encoding="utf-8")


def test_the_curve_is_the_density_and_the_band_its_standard_error():
    grid = np.linspace(-1, 1, 9)
    density, error = np.exp(-4 * grid**2), np.full(9, 0.01)
    arrays = {"hessian_density_grid": grid, "hessian_density": density, "hessian_density_error": error}
    axes = Figure().subplots()
    draw_density(axes, arrays, color="black")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), density)
    assert len(axes.collections) == 1


def test_a_run_without_densities_has_no_figure(tmp_path):
    run = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.1),
        probes=("Loss",),
        steps=2,
    ).run(store=tmp_path)
    assert not list(figures(run))


def test_sharpness_is_drawn_beside_the_edge_of_stability(tmp_path):
    run = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.SGD(lr=0.5, batch_size=64),
        probes=(ls.Every(5, ls.probes.HessianSpectrum(k=1, learning_rate=0.5, examples=100)),),
        steps=20,
        seed=1,
    ).run(store=tmp_path)
    (found,) = figures(run)
    assert found.title == "Sharpness against the edge of stability"
    curve, edge = found.figure.axes[0].lines
    np.testing.assert_allclose(curve.get_ydata(), run.metrics["hessian_sharpness"])
    np.testing.assert_allclose(curve.get_ydata(), run.metrics["hessian_eigenvalue_1"] / 4)
    assert set(edge.get_ydata()) == {1.0}
    axes = found.figure.axes[0]
    assert axes.get_ylabel() == "largest eigenvalue, λ₁η / 2"
    assert [text.get_text() for text in found.figure.legends[0].texts][-1] == "edge of stability, λ₁η / 2 = 1"
    found.figure.savefig(tmp_path / "sharpness.png")


@pytest.mark.parametrize(
    ("walker", "factor"),
    [
        (ls.walkers.GD(lr=0.5), 0.25),
        (ls.walkers.SGD(lr=(0.5, 0.1), batch_size=64), (0.25, 0.05)),
        (ls.walkers.GD(lr=0.5, momentum=0.9), None),
        (ls.walkers.GD(lr=0.5, weight_decay=0.1), None),
        (ls.walkers.Adam(lr=0.01), None),
    ],
)
def test_the_edge_of_stability_is_that_of_a_walker_with_one_constant_rate(walker, factor, tmp_path):
    run = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=walker,
        probes=(ls.Every(2, ls.probes.HessianSpectrum(k=1, examples=50)),),
        steps=4,
        seed=1,
    ).run(store=tmp_path)
    found = list(figures(run))
    if factor is None:
        assert not found
        return
    (drawn,) = found
    assert "the walker's learning rate" in drawn.caption
    *curves, _edge = drawn.figure.axes[0].lines
    metrics = run.metrics
    for worker, curve in enumerate(curves):
        rows = metrics[metrics["worker"] == str(worker)]
        scale = factor[worker] if isinstance(factor, tuple) else factor
        np.testing.assert_allclose(curve.get_ydata(), rows["hessian_eigenvalue_1"] * scale)


def test_a_rate_that_was_changed_on_the_way_gives_no_edge(tmp_path):
    run = ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.GD(lr=0.5),
        schedule=(ls.At(2, {"lr": 0.1}),),
        probes=(ls.Every(2, ls.probes.HessianSpectrum(k=1, examples=50)),),
        steps=4,
        seed=1,
    ).run(store=tmp_path)
    assert not list(figures(run))
