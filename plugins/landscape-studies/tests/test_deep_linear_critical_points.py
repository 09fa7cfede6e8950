"""The recipe deep-linear-critical-points: the thesis's tables, at a size that suits a test."""

from __future__ import annotations

from math import comb

import pytest

import landscape as ls
from landscape.cli import main
from landscape.errors import ConfigurationError
from landscape.report.counts import claim

NAME = "deep-linear-critical-points"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")


def test_the_recipe_survives_a_file(tmp_path):
    study = ls.studies[NAME](seed=3, examples=(1, 2))
    ls.save(study, tmp_path / "study.toml")
    assert ls.load(tmp_path / "study.toml") == study
    assert study != ls.studies[NAME](seed=4, examples=(1, 2))


def test_every_network_of_the_sizes_asked_for_is_there():
    stages = {stage.name: stage.recipe for stage in ls.studies[NAME](largest=3, examples=(1, 2)).stages}
    assert len(stages["one-example"].members()) == 27
    # d (dx + dy) <= 8: all nine with d = 1, six with d = 2, and dx = dy = 1 with d = 3.
    assert len(stages["two-examples"].members()) == 9 + 6 + 1
    assert {member.model.examples for member in stages["two-examples"].members()} == {2}


def test_counts_are_the_conjectured_ones_beside_the_bounds_and_drawn_again_without_solving(monkeypatch):
    run = ls.studies[NAME](samples=2, largest=2).run(store="runs")
    assert run.status == "complete"
    stage = run.stages["one-example"]
    table = stage.summary()
    assert len(table) == 8
    for row in table.to_dict("records"):
        d, dy = int(row["d"]), int(row["dy"])
        # An independent sum: sub-networks of r units.
        assert row["N_C"] == sum(comb(d, r) * comb(dy, r) * 4**r for r in range(d + 1))
        assert row["N_C_torus"] == 4**d * comb(dy, d)
        assert (row["certified"], row["formula"], row["checks_failed"]) == (row["N_C"], "agrees", 0)
        assert row["B_C"] == (4 * dy + 1) ** d
        assert row["B_C_torus"] == (4 * dy) ** d
        assert row["completeness"] == "proved"
        assert row["N_R_max"] % 2 == 1
    assert (stage.path / "tables" / "summary.tex").is_file()
    assert (stage.path / "tables" / "summary.csv").is_file()

    def never(*args, **kwargs):
        raise AssertionError("solved again")

    monkeypatch.setattr(type(ls.solvers.Monodromy()), "solve_family", never)
    assert main(["report", str(run.path)]) == 0
    page = (run.path / "report.html").read_text()
    said = claim(33, 33, table["completeness"].iloc[-1])
    for words in (
        f">{said}<",
        "A number alone",
        "Bounds and counts",
        "Hessian indices of the real critical points",
    ):
        assert words in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"largest": 0},
        {"unknowns": 1, "examples": (2,)},
        {"examples": ()},
        {"examples": (0,)},
        {"examples": (1, 1)},
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"{NAME}: "):
        ls.studies[NAME](**wrong)
