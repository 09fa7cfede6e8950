"""Sweeps and studies: many recipes as one."""

from __future__ import annotations

import pytest

import landscape as ls
from landscape.errors import ConfigurationError


def test_a_sweep_runs_every_combination_and_lists_it(small):
    sweep = ls.Sweep(
        small.replace(steps=2, snapshots=0, probes=("Loss",)), {"walker.base.lr": (0.1, 0.2), "seed": (0, 1)}
    )
    run = sweep.run(store="s", run_id="sweep")
    table = run.summary()
    assert list(table["status"]) == ["complete"] * 4
    assert list(table["walker.base.lr"]) == [0.1, 0.1, 0.2, 0.2]
    assert ls.open(run.path / table["run"][2]).experiment.walker.base.lr == 0.2


def test_a_member_that_fails_is_listed_and_the_others_go_on(small):
    sweep = ls.Sweep(small.replace(steps=3, probes=("Loss",)), {"walker.base.lr": (0.1, 1e38)})
    run = sweep.run(store="s")
    assert list(run.summary()["status"]) == ["complete", "failed"]
    assert "NonFiniteLossError" in run.summary()["error"][1]
    assert "Traceback" in (run.path / "logs" / "member-0001.txt").read_text()
    assert run.status == "failed"


def test_a_path_that_leads_nowhere_is_refused_before_any_work(small, tmp_path):
    with pytest.raises(ConfigurationError, match="Did you mean 'base'"):
        ls.Sweep(small, {"walker.bose.lr": (0.1,)}).run(store="s")
    assert not (tmp_path / "s").exists()


def test_zipped_fields_have_equally_many_values(small):
    with pytest.raises(ConfigurationError, match="equally many"):
        ls.Sweep(small, {"seed": (1, 2), "steps": (1,)}, mode="zip")


def test_a_study_runs_its_stages_and_resumes_at_the_first_that_is_missing(small):
    short = small.replace(steps=2, probes=("Loss",))
    study = ls.Study(stages=(ls.Stage("one", short), ls.Stage("two", short.replace(seed=9))), name="both")
    run = study.run(store="s", run_id="study")
    assert list(run.stages) == ["one", "two"]
    assert list(run.summary()["status"]) == ["complete", "complete"]
    assert run.resume() is run
    again = ls.open("s/study")
    assert again.stages["two"].experiment.seed == 9


def test_names_of_stages_are_unique(small):
    with pytest.raises(ConfigurationError, match="unique"):
        ls.Study(stages=(ls.Stage("one", small), ls.Stage("one", small)))
