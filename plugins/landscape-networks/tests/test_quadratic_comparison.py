"""Theory beside measurement in runs on noisy quadratics: the table, the figures, and when there are none."""

import numpy as np
import pytest
from scipy.stats import chi2

import landscape as ls
from landscape_networks.hooks import landscape_figures, landscape_tables
from landscape_networks.quadratic_comparison import COLUMNS, _form, comparison_of

H = (1.0, 0.5, 0.2)
C = ((1.0, 0.3, 0.0), (0.3, 0.5, -0.1), (0.0, -0.1, 0.4))


def experiment(**changes):
    common = ls.Experiment(
        ls.models.NoisyQuadratic(hessian=H, minimum=(1.0, 0.0, -1.0)),
        ls.datasets.GradientNoise(covariance=C, examples=64),
        ls.walkers.SGD(lr=0.4, batch_size=4, workers=300),
        loss="model",
        dtype="float64",
        steps=40,
        snapshots=2,
        seed=1,
    )
    return common.replace(**changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    probes = (
        ls.probes.Loss(), ls.probes.GradientNorm(), ls.probes.WeightNorm(), ls.probes.HessianSpectrum(k=2, bottom=1),
        ls.probes.CurvatureTrace(samples=10), ls.probes.GradientHessianOverlap(k=2),
        ls.probes.GradientNoiseScale(examples=20, curvature=True),
        ls.probes.GradientCovariance(batches=10, batch_size=4),
        ls.probes.CovarianceHessianAlignment(k=3, batches=64, per_example=True),
    )  # fmt: skip
    return experiment(probes=tuple(ls.Every(10, probe, on="0") for probe in probes)).run(
        store=tmp_path_factory.mktemp("runs")
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = experiment(steps=20, walker=ls.walkers.SGD(lr=0.4, batch_size=4, workers=40))
    return ls.Sweep(base, {"walker.lr": (0.05, 0.5, 2.1)}).run(store=tmp_path_factory.mktemp("runs"))


def test_the_table_sets_every_quantity_beside_its_theory(run):
    table = run.tables["theory"].set_index("quantity")
    assert list(table.columns) == list(COLUMNS[1:])
    assert (run.path / "tables/theory.csv").is_file()
    names = [
        "E[L] at step 40", "E[v₁·a] at step 4", "E[v₃·a] at step 4", "E[(v₁·a)²], steps 20 to 40",
        "E[(v₁·a)(v₃·a)], steps 20 to 40", "E[L], steps 20 to 40", "loss at step 40", "gradient_norm at step 40",
        "weight_norm at step 40", "hessian_eigenvalue_1 at step 40", "hessian_eigenvalue_bottom_1 at step 40",
        "hessian_trace at step 40", "gradient_hessian_overlap_2 at step 40", "gradient_noise_scale at step 40",
        "gradient_noise_scale_hessian at step 40", "gradient_noise_trace_hessian at step 40",
        "covariance_trace, mean of 5",
        "covariance_along_hessian_3 at step 40", "covariance_in_hessian_1 at step 40",
    ]  # fmt: skip
    assert set(names) <= set(table.index)
    z = table["z"].dropna()
    assert len(z) >= 14
    # Correlated as they are: none far off, and not all of them too well.
    assert z.abs().max() < 4
    assert 0.1 < (z**2).mean() < 3


def test_what_has_no_error_agrees_to_rounding_and_bounds_hold(run):
    table = run.tables["theory"]
    exact = table[table["standard error"].isna() & table["bound"].isna()]
    assert len(exact) >= 8
    np.testing.assert_allclose(exact["measured"], exact["theory"], rtol=1e-9, atol=1e-12)
    bounded = table[table["bound"].notna()]
    assert len(bounded) == 3
    assert (abs(bounded["measured"] - bounded["theory"]) <= bounded["bound"] + 1e-15).all()


def test_the_weights_of_all_workers_are_normal_about_theory(run):
    # The Mahalanobis distance of the mean over workers, at every snapshot after the first.
    found = comparison_of(run)
    workers = found.away.shape[1]
    for place in range(1, len(found.steps), 4):
        expected = found.moments[found.steps[place]]
        off = found.away[place].mean(axis=0) - expected.mean
        distance = workers * off @ np.linalg.solve(expected.covariance, off)
        assert distance < chi2.ppf(1 - 1e-5, 3)


def test_the_comparison_knows_matrices_minimum_and_step(run):
    found = comparison_of(run)
    np.testing.assert_allclose(found.theory.hessian, np.diag(H), atol=1e-14)
    np.testing.assert_allclose(found.theory.covariance, C, atol=1e-12)
    np.testing.assert_array_equal(found.minimum, [1.0, 0.0, -1.0])
    assert (found.theory.lr, found.theory.batch_size, found.theory.examples) == (0.4, 4, 64)
    assert found.away.shape == (21, 300, 3)


def test_too_few_workers_leave_what_the_probes_say(tmp_path):
    alone = experiment(walker=ls.walkers.SGD(lr=0.4, batch_size=4), probes=(ls.Every(20, "Loss"),)).run(
        store=tmp_path
    )
    assert alone.tables["theory"]["quantity"].tolist() == ["loss at step 40"]
    assert list(landscape_figures(alone)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"walker": ls.walkers.Adam(lr=0.1, batch_size=4)},
        {"walker": ls.walkers.SGD(lr=tuple([0.1] * 9 + [0.2]), batch_size=4)},
        {"schedule": (ls.At(2, {"lr": 0.1}),)},
        {"snapshots": None},
    ],
    ids=str,
)
def test_theory_is_silent_where_it_does_not_apply(tmp_path, changes):
    run = experiment(steps=4, **({"walker": ls.walkers.SGD(lr=0.1, batch_size=4)} | changes)).run(
        store=tmp_path
    )
    # The last weights are always a snapshot; without one of the start nothing can be said.
    assert comparison_of(run) is None or run.directory.snapshots()[0].step == 0
    if "snapshots" not in changes:
        assert comparison_of(run) is None
        assert landscape_tables(run) == {}


def test_other_landscapes_have_no_table(tmp_path):
    run = ls.Experiment(
        ls.models.MLP(hidden=(2,)), ls.datasets.Digits(examples=50), ls.walkers.SGD(lr=0.1), steps=2
    ).run(store=tmp_path)
    assert landscape_tables(run) == {}
    assert list(landscape_figures(run)) == []


def test_gradient_descent_follows_theory_without_errors(tmp_path):
    run = experiment(walker=ls.walkers.GD(lr=0.4, momentum=0.5, workers=8)).run(store=tmp_path)
    table = run.tables["theory"]
    np.testing.assert_allclose(table["measured"], table["theory"], rtol=1e-9, atol=1e-13)
    assert (table["standard error"] < 1e-13).all()


def test_a_sweep_joins_the_tables_of_its_members_and_draws_the_rates(sweep):
    table = sweep.tables["theory"]
    assert table["part"].unique().tolist() == [
        f"member-000{i} (lr = {lr})" for i, lr in enumerate((0.05, 0.5, 2.1))
    ]
    (figure,) = landscape_figures(sweep)
    axes = figure.figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    # The edge is at two over the largest curvature, and beyond it nothing is stationary.
    edge = next(line for line in axes.lines if np.ptp(np.asarray(line.get_xdata(), dtype=float)) == 0)
    assert edge.get_xdata()[0] == pytest.approx(2.0)
    beyond = table[table["part"].str.startswith("member-0002")]
    assert beyond.loc[beyond["quantity"].str.startswith("E[("), "small steps"].isna().all()
    assert "The best learning rate in theory" in figure.caption


def test_a_study_joins_its_parts_and_draws_all_differences(run, sweep, tmp_path):
    short = experiment(steps=20, walker=ls.walkers.SGD(lr=0.4, batch_size=4, workers=40))
    study = ls.Study((ls.Stage("one", short), ls.Stage("rates", ls.Sweep(short, {"walker.lr": (0.1, 0.2)}))))
    done = study.run(store=tmp_path)
    table = done.tables["theory"]
    names = ["one", "rates / member-0000 (lr = 0.1)", "rates / member-0001 (lr = 0.2)"]
    assert table["part"].unique().tolist() == names
    (figure,) = landscape_figures(done)
    assert f"of {table['z'].notna().sum()} quantities" in figure.caption


def test_figures_name_their_axes_and_draw_what_was_measured(run):
    (figure,) = landscape_figures(run)
    figure.figure.canvas.draw()
    left, right = figure.figure.axes
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (left, right))
    found = comparison_of(run)
    bars = left.containers[0]
    np.testing.assert_allclose(bars.lines[0].get_ydata(), found.losses.mean(axis=1))
    np.testing.assert_allclose(right.containers[0].lines[0].get_xdata(), H)


def test_what_is_zero_in_theory_is_not_printed_as_rounding():
    turned, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))
    values = np.array([3.0, 1.0, 0.3, 0.1, 1e-3, 1e-6])
    matrix = turned * values @ turned.T
    forms = [[_form(first, matrix, second) for second in turned.T] for first in turned.T]
    assert forms[0][4] == forms[1][2] == 0.0 != float(turned[:, 0] @ matrix @ turned[:, 4])
    np.testing.assert_allclose(np.diag(forms), values, rtol=1e-9)
