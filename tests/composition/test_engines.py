"""Engines that walks choose by timing: recorded when chosen, and reused where the same bits are wanted."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, RunError
from landscape.objective import engine as engines

WORKERS = 4


@pytest.fixture
def digits():
    """Four workers of a small network; a short batch, of 8, ends every epoch of seven steps."""
    return ls.Experiment(
        model=ls.models.MLP(hidden=(4,)),
        dataset=ls.datasets.Digits(examples=250),
        walker=ls.walkers.SGD(lr=0.1, batch_size=32, momentum=0.9, workers=WORKERS),
        probes=("Loss",),
        steps=16,
        snapshots=4,
        seed=1,
    )


@pytest.fixture
def prompt(monkeypatch):
    """Let walks choose at once, and find the graph faster."""
    monkeypatch.setattr(engines, "PATIENCE", 0.0)
    monkeypatch.setattr(engines, "_times", lambda *_: (1.0, 0.1))


def end(run):
    return run.directory.snapshots()[-1].read()


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_walk_goes_from_the_loop_to_the_graph_between_two_steps(digits, prompt):
    walk = digits.walk()
    by_loop = digits.replace(engine="loop").walk()
    walk.advance()
    by_loop.advance()
    assert torch.equal(walk.positions, by_loop.positions)
    assert (walk.engine, walk.engine_choices) == ("loop", ())
    for _ in range(9):
        walk.advance()
        by_loop.advance()
    assert walk.engine == "traced"
    # Full batches from update 1 on; the short one, first seen in update 6, from the next on.
    assert [(choice.step, choice.rows) for choice in walk.engine_choices] == [(1, WORKERS), (7, WORKERS)]
    torch.testing.assert_close(walk.positions, by_loop.positions, rtol=1e-4, atol=1e-6)

    again = digits.walk(engines=walk.engine_choices)
    for _ in range(10):
        again.advance()
    assert torch.equal(again.positions, walk.positions)
    assert again.engine_choices == walk.engine_choices


def test_in_double_precision_both_engines_walk_alike(digits):
    walks = [digits.replace(engine=engine, dtype="float64").walk() for engine in ("loop", "traced")]
    for walk in walks:
        for _ in range(10):
            walk.advance()
    torch.testing.assert_close(walks[0].positions, walks[1].positions, rtol=0, atol=1e-12)


def test_a_walk_that_is_saved_chooses_first_and_continues_to_the_same_bits(digits, monkeypatch):
    monkeypatch.setattr(engines, "_times", lambda *_: (1.0, 0.1))
    walk = digits.walk()
    for _ in range(3):
        walk.advance()
    before = walk.positions
    walk.save("saved")
    assert torch.equal(walk.positions, before)
    assert [choice.step for choice in walk.engine_choices] == [3]
    monkeypatch.setattr(engines, "PATIENCE", 0.0)
    loaded = ls.Walk.load("saved", walk.landscape)
    assert loaded.engine_choices == walk.engine_choices
    for each in (walk, loaded):
        for _ in range(8):
            each.advance()
    assert torch.equal(loaded.positions, walk.positions)
    assert loaded.engine_choices == walk.engine_choices  # nothing is chosen after that, in neither


def test_a_run_records_its_engine_and_a_replica_follows_it(digits, prompt, monkeypatch):
    run = digits.run("s", run_id="r")
    provenance = json.loads((run.path / "provenance.json").read_text())
    assert provenance["engine"] == "traced"
    assert [choice["step"] for choice in provenance["engine_choices"]] == [1, 7]
    assert run.configuration["experiment"]["engine"] == "auto"
    assert run.engine_choices == tuple(
        engines.EngineChoice.from_plain(plain) for plain in provenance["engine_choices"]
    )

    # A machine on which the loop is faster makes no difference.
    monkeypatch.setattr(engines, "_times", lambda *_: (0.1, 1.0))
    again = ls.open("s/r").replicate()
    assert again.configuration["experiment"] == run.configuration["experiment"]
    assert again.engine_choices == run.engine_choices
    pd.testing.assert_frame_equal(again.metrics, run.metrics, check_exact=True)
    assert_same(end(again), end(run))


def test_without_a_choice_the_record_says_loop_and_a_replica_makes_none(digits, prompt, monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 1e9)
    run = digits.run("s", run_id="r")
    assert (run.provenance["engine"], run.engine_choices) == ("loop", ())
    monkeypatch.setattr(engines, "PATIENCE", 0.0)
    again = run.replicate()
    assert again.engine_choices == ()
    assert_same(end(again), end(run))


def test_an_interrupted_run_resumes_with_the_engines_it_had(digits, prompt, monkeypatch):
    whole = digits.run("s", run_id="whole")
    original = ls.Walk.advance

    def interrupted(self):
        if self.step == 10:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(ls.Walk, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digits.run("s", run_id="part")
    monkeypatch.setattr(ls.Walk, "advance", original)
    monkeypatch.setattr(engines, "_times", lambda *_: (0.1, 1.0))
    part = ls.open("s/part").resume()
    assert [choice.step for choice in part.engine_choices] == [1, 7]
    pd.testing.assert_frame_equal(part.metrics, whole.metrics, check_exact=True)
    assert_same(end(part), end(whole))


def test_members_of_sweeps_and_stages_of_studies_are_replicated_with_their_engines(
    digits, prompt, monkeypatch
):
    digits = digits.replace(steps=4)
    sweep = ls.Sweep(digits, {"walker.lr": (0.1, 0.2)})
    study = ls.Study([ls.Stage("one", digits), ls.Stage("several", sweep)]).run("s", run_id="r")
    monkeypatch.setattr(engines, "_times", lambda *_: (0.1, 1.0))
    again = ls.open("s/r").replicate()
    assert again.status == "complete"
    assert again.provenance["replicates"] == "r"

    def leaves(run):
        return [run.stages["one"], *run.stages["several"].stages.values()]

    for first, second in zip(leaves(study), leaves(again), strict=True):
        assert first.provenance["engine"] == "traced"
        assert second.engine_choices == first.engine_choices
        assert_same(end(second), end(first))


def test_an_engine_that_was_asked_for_is_used_from_the_first_step(digits):
    run = digits.replace(engine="traced", steps=3).run("s", run_id="r")
    assert (run.provenance["engine"], run.engine_choices) == ("traced", ())
    assert_same(end(run.replicate()), end(run))
    with pytest.raises(ConfigurationError, match="engine"):
        digits.replace(engine="fast")


def test_a_run_of_an_engine_of_another_version_is_not_resumed(digits, monkeypatch):
    run = digits.replace(steps=2).run("s", run_id="r")
    path = run.path / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"engine": "compiled"}))
    with pytest.raises(RunError, match="'compiled'; this version has 'loop' and 'traced'"):
        ls.open("s/r").replicate()


def test_a_single_worker_never_meets_a_graph(digits, prompt):
    walk = digits.replace(walker=ls.walkers.SGD(lr=0.1, batch_size=32)).walk()
    for _ in range(4):
        walk.advance()
    walk.save("saved")
    assert (walk.engine, walk.engine_choices) == ("loop", ())
