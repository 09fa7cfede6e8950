"""The demo: what it promises, at a size that suits a test."""

from __future__ import annotations

import pytest
from attrs import evolve

import landscape as ls


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The demo with fewer steps and samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    study = ls.studies.demo(seed=4)
    walk, algebra = study.stages
    return evolve(
        study,
        stages=(
            evolve(walk, recipe=evolve(walk.recipe, steps=20, snapshots=5)),
            evolve(algebra, recipe=evolve(algebra.recipe, samples=5)),
        ),
    )


def test_the_demo_is_a_recipe_that_survives_a_file(tmp_path):
    ls.save(ls.studies.demo(), tmp_path / "demo.toml")
    assert ls.load(tmp_path / "demo.toml") == ls.studies.demo()


def test_the_demo_measures_projects_and_solves_and_its_report_stands_alone(small):
    run = small.run(store="runs")
    walk, algebra = run.stages["walk"], run.stages["algebra"]
    assert list(run.stages) == ["walk", "algebra"]

    last = walk.metrics.groupby("worker").last()
    assert set(last.index) == {"0", "1", "2", "3", "centre"}
    columns = (
        "loss loss_test score score_test gradient_norm weight_norm cosine_with_start distance_from_start"
    )
    columns += " hessian_eigenvalue_5 covariance_eigenvalue_1 gradient_hessian_overlap_5"
    assert last[columns.split()].notna().all(axis=None)
    assert {"path_PCA", "path_SOM"} <= set(walk.tables)

    summary = algebra.summary()
    assert list(summary["N_C"]) == [33] * 5
    assert list(summary["N_C_torus"]) == [16] * 5
    assert (summary["N_R"] % 2 == 1).all()
    real = algebra.tables["real_points"]
    assert len(real) == summary["N_R"].sum()
    assert {"loss", "index"} <= set(real.columns)

    page = run.report().read_text(encoding="utf-8")
    assert page.count("<figure") >= 8
    for outside in ('src="http', "src='http", 'href="http', "<script src", "<link "):
        assert outside not in page.replace('href="https://doi.org', "").replace('href="https://arxiv.org', "")
