"""The folder of runs: made whole or not at all, found by name, listed."""

import json
import os
import re
from pathlib import Path

import pytest

from landscape.errors import RunError
from landscape.store import RunDirectory, RunStore, files


def test_a_run_is_named_after_its_time(store):
    run = store.create({}, {}, kind="experiment")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", run.id)
    assert run.path.parent == store.root.absolute()


def test_equal_configurations_are_equal_files(store):
    first = store.create({"b": 1, "a": [1.5, None]}, {}, kind="k", run_id="one")
    second = store.create({"a": (1.5, None), "b": 1}, {}, kind="k", run_id="two")
    assert (first.path / "config.json").read_bytes() == (second.path / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"model": object()}, r"config\.model is of type object"),
        ({"a": {"b": [1, {2}]}}, r"config\.a\.b\[1\] is of type set"),
        ({"a": {1: 2}}, r"config\.a has the key 1"),
    ],
)
def test_a_configuration_that_json_cannot_say_leaves_nothing_behind(store, configuration, message):
    with pytest.raises(RunError, match=message):
        store.create(configuration, {}, kind="k")
    assert not store.root.exists()


def test_a_run_that_exists_is_not_touched(store):
    first = store.create({"x": 1}, {}, kind="k", run_id="same")
    first.close("complete")
    before = {path: path.read_bytes() for path in first.path.iterdir()}
    with pytest.raises(RunError, match="same exists already"):
        store.create({"x": 2}, {}, kind="k", run_id="same")
    assert {path: path.read_bytes() for path in first.path.iterdir()} == before
    assert store.ids() == ["same"]


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "-x", "a b", 3])
def test_a_name_that_is_no_file_name_is_refused(store, name):
    with pytest.raises(RunError, match="cannot name a run"):
        store.create({}, {}, kind="k", run_id=name)


def test_a_store_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "runs", tmp_path / "file"):
        with pytest.raises(RunError, match=r"cannot be a store: .*file is no folder"):
            RunStore(place).create({}, {}, kind="k")
    with pytest.raises(RunError, match="File name too long"):
        RunStore(tmp_path / ("x" * 300)).create({}, {}, kind="k")
    with pytest.raises(RunError, match="File name too long"):
        RunStore(tmp_path).create({}, {}, kind="k", run_id="x" * 300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that keeps nothing")
def test_a_store_where_nothing_is_kept_is_refused():
    with pytest.raises(RunError, match="/proc belongs to a file system that keeps nothing"):
        RunStore("/proc/runs").require_folder()
    with pytest.raises(RunError, match="/dev/null is no folder"):
        RunStore("/dev/null/runs").require_folder()


@pytest.mark.parametrize("place", [3, None, b"runs", ["runs"], "", "a\0b"])
def test_a_store_is_a_path(place):
    with pytest.raises(RunError, match=r"store=.* is no path; give one, such as 'runs'"):
        RunStore(place)


def test_runs_are_opened_by_the_beginning_of_their_name(store):
    run = store.create({}, {}, kind="k", run_id="20260101-000000-abcdef01")
    store.create({}, {}, kind="k", run_id="20260102-000000-12345678")
    for name in (run.id, "20260101", "abcd"):
        assert store.open(name).id == run.id
    with pytest.raises(RunError, match="could be 20260101-000000-abcdef01, 20260102-000000-12345678"):
        store.open("2026")
    with pytest.raises(RunError, match=r"no run 'zzz'.*which holds 2 runs"):
        store.open("zzz")
    with pytest.raises(RunError, match="no run ''"):
        store.open("")
    assert store.contains(run.id)
    assert not store.contains("2026")


def test_the_list_says_how_every_run_ended(store):
    runs = {
        status: store.create(
            {"experiment": {"name": f"a {status} one"}}, {}, kind="experiment", run_id=status
        )
        for status in ("complete", "failed", "interrupted", "running", "stopped")
    }
    runs["complete"].write_row({"step": 7, "worker": "0"})
    for status, run in runs.items():
        if status != "running":
            run.close(status, "because")
    broken = store.create({}, {}, kind="k", run_id="unreadable")
    broken.close("complete")
    (broken.path / "state.json").write_text("{")
    listed = store.list().set_index("id")
    assert listed["status"].to_dict() == {status: status for status in (*runs, "unreadable")}
    assert listed.loc["complete", "step"] == 7
    assert listed.loc["failed", "name"] == "a failed one"
    assert listed.loc["failed", "reason"] == "because"
    assert "state.json is damaged" in listed.loc["unreadable", "reason"]


def test_an_empty_store_lists_nothing(store):
    assert len(store.list()) == 0
    assert "status" in store.list()


def test_a_run_whose_process_died_is_listed_as_crashed(store):
    run = store.create({}, {}, kind="k", run_id="dead")
    lock = json.loads((run.path / "lock").read_text())
    (run.path / "lock").write_text(json.dumps(lock | {"pid": 2**22 + 1}))
    assert store.list()["status"].tolist() == ["crashed"]
    (run.path / "lock").unlink()
    assert store.open("dead").status == "crashed"


def test_what_a_process_left_that_died_while_making_a_run_is_cleared_away(store, monkeypatch):
    from landscape.store import directory, files, lock

    with monkeypatch.context() as patch:
        patch.setattr(directory.os, "rename", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(files, "remove_tree", lambda folder: None)
        patch.setattr(lock.Lock, "release", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            store.create({}, {}, kind="k", run_id="half")
    lock._held.clear()
    assert [path.name for path in store.root.iterdir()] == [".tmp-half"]
    assert store.ids() == []
    store.create({}, {}, kind="k", run_id="whole")
    assert [path.name for path in store.root.iterdir()] == ["whole"]


def test_children_are_the_stages_and_the_best_run_of_each_member(store):
    study = store.create({}, {}, kind="study", run_id="study")
    stage = RunStore(study.path / "stages").create({}, {}, kind="k", run_id="first")
    member = RunStore(study.path / "members" / "member-0000")
    for name, status in (("a", "failed"), ("b", "complete"), ("c", "interrupted")):
        member.create({}, {}, kind="k", run_id=name).close(status)
    unlucky = RunStore(study.path / "members" / "member-0001")
    unlucky.create({}, {}, kind="k", run_id="d").close("failed")
    assert study.children() == {
        "first": stage.path,
        "member-0000": member.root / "b",
        "member-0001": unlucky.root / "d",
    }


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_of_several_tries_of_a_member_the_one_made_last_counts_whatever_its_name(store, status):
    study = store.create({}, {}, kind="study", run_id="study")
    member = RunStore(study.path / "members" / "member-0000")
    for made, name in enumerate("zax"):  # names within one second end at random
        member.create({}, {}, kind="k", run_id=name).close(status)
        os.utime(member.root / name / "config.json", ns=(0, 1_000_000_000 + made))
    assert study.children() == {"member-0000": member.root / "x"}
    member.create({}, {}, kind="k", run_id="b").close(status)
    assert study.children() == {"member-0000": member.root / "b"}


def test_of_two_creators_of_one_run_one_makes_it_whole_and_the_other_is_told(store, monkeypatch):
    real = files.write_json
    told = []

    def meanwhile(path, value):
        """Let another creator of the same run come while the first one writes."""
        if path.name == "config.json":
            with pytest.raises(RunError, match=r"Cannot create.*exists") as caught:
                RunDirectory.create(store.root / "one", {"second": 2}, {}, kind="k")
            told.append(str(caught.value))
        real(path, value)

    monkeypatch.setattr(files, "write_json", meanwhile)
    first = RunDirectory.create(store.root / "one", {"first": 1}, {"by": "first"}, kind="k")
    assert len(told) == 1
    assert [path.name for path in store.root.iterdir()] == ["one"]
    assert (first.configuration, first.provenance) == ({"first": 1}, {"by": "first"})
    assert first.writable
    first.write_row({"step": 0, "worker": "0", "loss": 1.0})
    first.close("complete")
    assert RunDirectory(first.path).metrics["loss"].tolist() == [1.0]


@pytest.mark.parametrize("group", ["stages", "members"])
def test_what_a_run_inside_is_writing_survives_that_the_outer_one_is_reopened(store, group):
    study = store.create({}, {}, kind="study", run_id="study")
    inner = RunStore(study.path / group).create({}, {}, kind="k", run_id="inner")
    study.close("interrupted")
    (study.path / "weights").mkdir(exist_ok=True)
    ours = [study.path / files.TEMPORARY, study.path / "weights" / f"{files.TEMPORARY}1"]
    theirs = [inner.path / f"{files.TEMPORARY}2", study.path / group / f"{files.TEMPORARY}3"]
    for path in [*ours, *theirs]:
        path.touch()
    study.reopen().close("complete")
    assert [path.exists() for path in ours] == [False, False]
    assert [path.exists() for path in theirs] == [True, True]
