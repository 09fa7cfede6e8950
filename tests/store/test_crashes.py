"""A process may die at every write, sync, rename and deletion: what is on disk is the old or the new.

The files of a store are changed through `landscape.store.files` and `landscape.store.lock`, whose calls of the
operating system are counted here; the k-th of them fails, for every k, either before or after it was carried
out. What the dead process left is then opened as another process would.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import RunError
from landscape.store import RunStore, files, lock

COUNTED = ("write", "fsync", "replace", "rename", "link", "unlink", "ftruncate")


class DeadError(BaseException):
    """The process ended here."""


class Faulty:
    """The `os` module of a process that ends at its k-th change of the disk."""

    def __init__(self, fatal, *, after):
        self.count = 0
        self._fatal = fatal
        self._after = after
        self.dead = False

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in COUNTED:
            return real

        def call(*arguments):
            if self.dead:  # a dead process cleans nothing up
                raise DeadError
            self.count += 1
            fatal = self.count == self._fatal
            self.dead = self.dead or fatal
            if fatal and name == "write" and not self._after:
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])  # a torn write
            elif not fatal or self._after:
                result = real(*arguments)
            if fatal:
                raise DeadError
            return result

        return call


@frozen
class State:
    position: torch.Tensor
    step: int


def story(store, done):
    """Live through a run; append to `done` what was acknowledged."""
    run = store.create({"x": 1}, {"p": 2}, kind="experiment", run_id="run")
    done.append("created")
    for step in range(2):
        run.write_row({"step": step, "worker": "0", "loss": float(step)})
        done.append(("row", step))
        run.write_arrays("P", step, "0", {"a": np.array(step)})
        done.append(("arrays", step))
        run.write_snapshot(step, {"0": torch.full((3,), float(step))})
        done.append(("snapshot", step))
        run.write_resume(step, State(torch.full((3,), float(step)), step))
        done.append(("resume", step))
    run.write_solutions(0, {"points": np.ones((1, 1), complex)})
    run.write_table("t", pd.DataFrame({"a": [1.5]}))
    done.append("table")
    run.close("complete")
    done.append("closed")


def live(root, fatal, after, monkeypatch):
    """Live through the story until the fatal call; return what was acknowledged and how many calls there were."""
    faulty, done = Faulty(fatal, after=after), []
    with monkeypatch.context() as patch:
        for module in (files, lock):
            patch.setattr(module, "os", faulty)
        patch.setattr("landscape.store.directory.os", faulty)
        patch.setattr(files, "remove_tree", lambda folder: None)  # a dead process cleans nothing up
        with suppress(DeadError):
            story(RunStore(root), done)
    lock._held.clear()  # and holds nothing
    return done, faulty.count


def check(root, done):
    """The store holds everything that was acknowledged, and nothing torn."""
    store = RunStore(root)
    listed = store.list()
    if "created" not in done:
        assert len(listed) in (0, 1)
        if not len(listed):
            return
    assert listed["status"].tolist()[0] in ("crashed", "complete")
    run = store.open("run")
    assert (run.configuration, run.provenance) == ({"x": 1}, {"p": 2})
    steps = [row["step"] for row in run.rows()]
    assert [row["loss"] for row in run.rows()] == steps == list(range(len(steps)))
    assert len(steps) >= sum(1 for entry in done if entry[0] == "row")
    snapshots = run.snapshots()
    assert [snapshot.weights("0").tolist() for snapshot in snapshots] == [
        [step] * 3 for step in range(len(snapshots))
    ]
    assert len(snapshots) >= sum(1 for entry in done if entry[0] == "snapshot")
    measured = run.arrays("P") if ("arrays", 0) in done else []
    assert [record["a"].item() for record in measured] == list(range(len(measured)))
    assert len(measured) >= sum(1 for entry in done if entry[0] == "arrays")
    found = run.latest_resume(State(torch.zeros(3), 0))
    acknowledged = max((entry[1] for entry in done if entry[0] == "resume"), default=-1)
    if found is None:
        assert acknowledged == -1
    else:
        step, state = found
        assert step >= acknowledged
        assert state.position.tolist() == [state.step] * 3 == [step] * 3
        assert len(steps) > step  # a state is never ahead of the rows that led to it
    if "table" in done:
        assert run.tables()["t"]["a"].tolist() == [1.5]
    if "closed" in done:
        assert run.verify() == []
    # And life goes on.
    resumed = run.reopen()
    resumed.begin_attempt(-1 if found is None else found[0])
    start = 0 if found is None else found[0] + 1
    for step in range(start, 3):
        resumed.write_row({"step": step, "worker": "0", "loss": float(step)})
        resumed.write_snapshot(step, {"0": torch.full((3,), float(step))})
    assert [row["step"] for row in resumed.rows()] == [0, 1, 2]
    assert [snapshot.weights("0")[0].item() for snapshot in resumed.snapshots()][start:] == [*range(start, 3)]
    resumed.close("complete")
    assert resumed.verify() == []
    assert not list(run.path.rglob(f"{files.TEMPORARY}*"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_change_of_the_disk_leaves_old_or_new(tmp_path, after, monkeypatch):
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # hundreds of lives would take minutes of syncing
    _, calls = live(tmp_path / "whole", -1, after, monkeypatch)
    assert calls > 60
    for fatal in range(1, calls + 1):
        root = tmp_path / f"life-{fatal}"
        done, reached = live(root, fatal, after, monkeypatch)
        assert reached == fatal
        check(root, done)
        shutil.rmtree(root, ignore_errors=True)


def test_a_full_disk_leaves_everything_acknowledged_readable(run, monkeypatch):
    run.write_row({"step": 0, "worker": "0", "loss": 0.0})
    real = os.write

    def full(descriptor, data):
        real(descriptor, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        for write in (
            lambda: run.write_row({"step": 1, "worker": "0", "loss": 1.0}),
            lambda: run.write_table("t", pd.DataFrame({"a": [1]})),
        ):
            with pytest.raises(RunError, match="No space left on device"):
                write()
    run.write_row({"step": 2, "worker": "0", "loss": 2.0})
    assert [row["step"] for row in run.rows()] == [0, 2]
    assert run.tables() == {}


def test_a_write_that_takes_half_a_line_is_undone(run, monkeypatch):
    run.write_row({"step": 0, "worker": "0"})
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        with pytest.raises(RunError, match="No space left"):
            run.write_row({"step": 1, "worker": "0"})
    run.write_row({"step": 2, "worker": "0"})
    assert [row["step"] for row in run.rows()] == [0, 2]


def test_killed_processes_lose_no_acknowledged_row(tmp_path):
    program = textwrap.dedent(
        """
        import os, sys
        from landscape.store import RunStore
        run = RunStore(sys.argv[1]).create({}, {}, kind="k", run_id="run")
        for step in range(int(sys.argv[2])):
            run.write_row({"step": step, "worker": "0", "loss": step / 3})
        os._exit(9)
        """
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), "500"], check=False, timeout=60)
    listed = RunStore(tmp_path).list()
    assert listed[["status", "step"]].to_numpy().tolist() == [["crashed", 499]]
    run = RunStore(tmp_path).open("run")
    assert [row["loss"] for row in run.rows()] == [step / 3 for step in range(500)]
    resumed = run.reopen()
    resumed.close("stopped")


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=6), st.data())
def test_a_log_cut_anywhere_gives_its_longest_whole_beginning(tmp_path_factory, records, data):
    path = Path(tmp_path_factory.mktemp("log")) / "log.jsonl"
    log = files.LineLog(path)
    ends = [0]
    for record in records:
        log.append(record)
        ends.append(path.stat().st_size)
    log.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = max(index for index, end in enumerate(ends) if end <= cut)
    assert json.dumps(files.read_lines(path)) == json.dumps(records[:kept])
    log = files.LineLog(path)
    log.append({"new": 1})
    log.close()
    assert json.dumps(files.read_lines(path)) == json.dumps([*records[:kept], {"new": 1}])
