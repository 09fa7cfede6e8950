"""The recipe noisy-quadratic: what is in it, and that its theory holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from attrs import evolve

import landscape as ls
from landscape.cli import main
from landscape.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty directory without runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """All of the recipe at a small size."""
    study = ls.studies["noisy-quadratic"](workers=48, steps=40, dimension=4, train=8, hidden=(4,))
    return study.run(store=tmp_path_factory.mktemp("runs"))


def test_it_survives_a_file(tmp_path):
    study = ls.studies["noisy-quadratic"](seed=3)
    ls.save(study, tmp_path / "study.toml")
    assert ls.load(tmp_path / "study.toml") == study
    assert study != ls.studies["noisy-quadratic"](seed=4)


@pytest.mark.parametrize("dimension", [3, 4, 8, 9])
def test_its_matrices_are_what_the_stages_say(dimension):
    stages = {stage.name: stage.recipe for stage in ls.studies["noisy-quadratic"](dimension=dimension).stages}
    hessian = np.array(stages["along"].model.hessian)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian)[::-1], 1 / np.arange(1, dimension + 1), atol=1e-12)
    assert abs(hessian - np.diag(np.diag(hessian))).max() > 0.05
    along, squared, across = (
        np.array(stages[name].dataset.covariance) for name in ("along", "squared", "across")
    )
    np.testing.assert_allclose(along, hessian, atol=1e-14)
    np.testing.assert_allclose(
        squared / np.trace(squared), hessian @ hessian / (hessian**2).sum(), atol=1e-12
    )
    assert np.trace(across) == pytest.approx(np.trace(hessian))
    np.testing.assert_allclose(np.linalg.eigvalsh(across), np.linalg.eigvalsh(hessian), atol=1e-12)
    assert abs(across @ hessian - hessian @ across).max() > 0.05


def test_everything_of_the_program_is_measured_on_the_network():
    network = ls.studies["noisy-quadratic"]().stages[-1].recipe
    names = {type(every.probe).__name__ for every in network.probes}
    assert names >= {
        "Loss", "Score", "GradientNorm", "WeightNorm", "CosineWithStart", "DistanceFromStart", "HessianSpectrum",
        "GradientCovariance", "GradientHessianOverlap", "CovarianceHessianAlignment", "GradientNoiseScale",
        "CurvatureDensity",
    }  # fmt: skip


def test_measurement_is_within_the_errors_of_theory(small):
    assert small.status == "complete"
    table = small.tables["theory"]
    assert set(table["part"].str.partition(" / ")[0]) == {"along", "squared", "across", "momentum", "rates"}
    z = table["z"].dropna()
    assert len(z) > 80
    # 48 workers know the standard error of a mean square to some 20 %, and what is measured of one walk is correlated.
    assert z.abs().median() < 1.1
    assert z.abs().max() < 6
    exact = table[table["standard error"].isna() & table["bound"].isna()]
    np.testing.assert_allclose(exact["measured"], exact["theory"], rtol=1e-6, atol=1e-10)


def test_the_report_has_its_figures_and_is_drawn_from_disk_alone(small):
    page = ls.open(small.path).report().read_text(encoding="utf-8")
    for title in (
        "Theory and measurement", "Learning rates, in theory and measured", "Differences from theory",
        "Largest eigenvalues of the gradient covariance", "Covariance of the gradients against the Hessian",
        "Share of the gradient noise in the Hessian", "Spectral density of the Hessian",
    ):  # fmt: skip
        assert title in page, title


def test_a_replica_has_the_same_table_to_the_bit():
    study = ls.studies["noisy-quadratic"](workers=32, steps=20, dimension=3, train=1, hidden=(2,))
    run = evolve(study, stages=study.stages[2:3]).run()
    table = run.replicate().tables["theory"]
    assert len(table) > 15
    pd.testing.assert_frame_equal(table, run.tables["theory"], check_exact=True)


def test_the_command_prints_the_table(monkeypatch, capsys):
    study = ls.studies["noisy-quadratic"](workers=32, steps=20, dimension=3, train=1, hidden=(2,))
    ls.save(evolve(study, stages=study.stages[3:4]), "part.toml")
    assert main(["run", "part.toml", "--no-report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Theory"
    assert lines[1].split()[:5] == ["part", "quantity", "theory", "measured", "standard"]
    assert sum(line.strip().startswith("momentum") for line in lines) >= 8


@pytest.mark.parametrize(
    "wrong", [{"workers": 31}, {"steps": 19}, {"dimension": 2}, {"dimension": 65}, {"train": 0}]
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"noisy-quadratic: .*{next(iter(wrong))}="):
        ls.studies["noisy-quadratic"](**wrong)
