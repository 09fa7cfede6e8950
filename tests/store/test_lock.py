"""One writer per run, whoever else tries."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from landscape.errors import RunError
from landscape.store import RunDirectory, RunStore
from landscape.store.lock import Lock


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_second_writer_in_this_process_is_refused(run):
    with pytest.raises(RunError, match=rf"this very process, {os.getpid()} on {socket.gethostname()}"):
        RunDirectory(run.path).reopen()
    assert run.reopen() is run


def test_a_writer_in_another_process_is_refused_with_its_name_and_let_in_when_it_ends(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        from landscape.store import RunStore
        run = RunStore(sys.argv[1]).create({}, {}, kind="k", run_id="run")
        print("ready", flush=True)
        sys.stdin.readline()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        run = RunStore(tmp_path).open("run")
        assert run.status == "running"
        with pytest.raises(RunError, match=rf"a running process, {process.pid} on "):
            run.reopen()
        process.kill()
        process.wait()
        assert run.status == "crashed"
        again = run.reopen()
        assert again.status == "running"
        again.close("complete")


@pytest.mark.parametrize(
    "dead",
    [{"pid": 2**22 + 1}, {"boot_id": "another boot"}, {"starttime": 1}, {"token": "of a forgotten object"}],
    ids=lambda dead: next(iter(dead)),
)
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, dead):
    path = tmp_path / "lock"
    first = Lock(path)
    change(path, **dead)
    second = Lock(path)
    assert second.held
    assert not first.held
    first.release()
    assert second.held
    second.release()
    assert not path.exists()


def test_a_lock_of_another_host_is_respected(tmp_path):
    first = Lock(tmp_path / "lock")
    change(tmp_path / "lock", host="elsewhere", pid=12345)
    with pytest.raises(RunError, match=r"process 12345 on elsewhere.*delete .*lock"):
        Lock(tmp_path / "lock")
    del first


def test_a_torn_lock_is_nobodys(tmp_path):
    (tmp_path / "lock").write_text('{"host": "x')
    Lock(tmp_path / "lock").release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_taken_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = Lock(tmp_path / "lock")
    with pytest.raises(RunError, match="this very process"):
        Lock(tmp_path / "lock")
    first.release()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_give_back_its_parents_lock(run):
    child = os.fork()
    if child == 0:
        run._lock.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert run._lock.held


def test_a_closed_run_can_be_opened_by_anybody(run):
    run.close("stopped", "enough")
    assert not (run.path / "lock").exists()
    again = RunDirectory(run.path).reopen()
    assert (again.state["status"], again.state["reason"]) == ("running", None)
    again.close("complete")
