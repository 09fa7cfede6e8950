"""Measurements between workers in recorded runs: rows, arrays, figures, resuming."""

import math
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest

import landscape as ls
from landscape_walkers._between import labels_of
from landscape_walkers.distances import PairwiseDistances
from landscape_walkers.figures import figures


def _experiment(**options):
    probes = (
        ls.Every(5, ls.probes.PairwiseDistances()),
        ls.Every(10, ls.probes.Interpolation(resolution=2, spherical="both", gradient_norm=True)),
        ls.Every(20, ls.probes.Interpolation(resolution=3, pairs="consecutive"), label="chain"),
        ls.Every(20, ls.probes.ModeConnectivity(steps=10, resolution=4)),
        ls.Every(20, ls.probes.MinimumRatio(neighbours=4, dense=0, extremes=0), on="centre"),
    )
    walker = ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=64), workers=2)
    return ls.Experiment(
        ls.models.MLP(hidden=(5,)),
        ls.datasets.Digits(),
        walker,
        start=ls.starts.Fresh(identical=False),
        probes=probes,
        steps=20,
        snapshots=10,
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return _experiment().run(store=tmp_path_factory.mktemp("runs"))


def _weights(run, step):
    (snapshot,) = (record for record in run.directory.snapshots() if record.step == step)
    return snapshot.read()


def test_a_run_records_rows_and_arrays_of_the_population(run):
    rows = run.metrics[run.metrics["worker"] == "population"]
    assert rows["step"].tolist() == [0, 5, 10, 15, 20]
    assert rows["distance_mean"].notna().all()
    assert rows["barrier_max_test"].notna().tolist() == [True, False, True, False, True]
    assert rows["chain.barrier_max"].notna().tolist() == [True, False, False, False, True]
    assert run.metrics.loc[run.metrics["worker"] == "centre", "minimum_ratio"].notna().sum() == 2
    last = run.arrays("PairwiseDistances")[-1]
    labels = labels_of(last["labels"])
    assert labels == ("0", "1", "centre")
    weights = _weights(run, 20)
    points = np.stack([weights[label].double().numpy() for label in labels])
    truth = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_allclose(last["distances"], truth, rtol=1e-12)
    paths = run.arrays("Interpolation")[-1]
    assert paths["loss_test"].shape == paths["spherical_gradient_norm_train"].shape == (3, 7)
    landscape = run.landscape()
    for end, worker in enumerate(("0", "1")):
        own = float(landscape.value(weights[worker]))
        assert paths["loss_train"][0, paths["t"] == end] == own
    middle = float(landscape.value((weights["0"] + weights["1"]) / 2))
    np.testing.assert_allclose(paths["loss_train"][0, paths["t"] == 0.5], middle, rtol=1e-6)


def test_the_report_shows_distances_paths_and_curves(run):
    hooks = entry_points(group="landscape")["walkers"].load()
    shown = {figure.name: figure for figure in hooks.landscape_figures(run)}
    assert set(shown) == {"distances", "interpolation", "interpolation-chain", "mode-connectivity"}
    assert "2 workers and the centre at step 20" in shown["distances"].caption
    assert "3 pairs of points" in shown["interpolation"].caption
    assert len(shown["interpolation"].figure.axes) == 6  # loss, score, gradient norm; straight, corrected
    assert shown["mode-connectivity"].title == "A curve from worker 0 to worker 1"
    for figure in shown.values():
        figure.figure.draw_without_rendering()


def test_a_resumed_run_measures_the_same_between_its_workers(run, tmp_path, monkeypatch):
    measure = PairwiseDistances.measure

    def interrupted(self, population, generator):
        if population.step == 15:
            raise KeyboardInterrupt
        return measure(self, population, generator)

    with monkeypatch.context() as patch:
        patch.setattr(PairwiseDistances, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _experiment().run(store=tmp_path, run_id="broken")
    resumed = ls.open(tmp_path / "broken").resume()
    assert resumed.status == "complete"
    pd.testing.assert_frame_equal(resumed.metrics, run.metrics, check_exact=True)
    for name in ("PairwiseDistances", "Interpolation", "chain", "ModeConnectivity"):
        for one, other in zip(resumed.arrays(name), run.arrays(name), strict=True):
            assert set(one) == set(other)
            for array in set(one) - {"step", "worker"}:
                np.testing.assert_array_equal(one[array], other[array])


def test_a_run_that_measured_nothing_between_workers_has_no_such_figures(tmp_path):
    plain = ls.Experiment(
        ls.models.MLP(hidden=(2,)), ls.datasets.Digits(), ls.walkers.SGD(lr=0.1), probes=("Loss",), steps=2
    ).run(store=tmp_path)
    assert list(figures(plain)) == []
    assert math.isfinite(plain.metrics["loss"].iloc[-1])
