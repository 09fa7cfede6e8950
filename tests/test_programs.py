import os
import sys
import time

import pytest

from landscape.programs import read, run

PYTHON = [sys.executable, "-c"]


def test_what_a_program_prints_and_how_it_ends_is_told(tmp_path):
    ended = run(
        [*PYTHON, "import sys; print(input(), flush=True); print('no', file=sys.stderr)"],
        tmp_path,
        60,
        "typed\n",
    )
    assert ended.well
    assert ended.printed == "typed\nno\n"
    assert str(ended) == "ended with status 0"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "ended with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "killed by SIGABRT"),
        ("input()", "ended with status 1"),  # nobody answers
    ],
)
def test_bad_ends_are_named(tmp_path, code, words):
    ended = run([*PYTHON, code], tmp_path, 60)
    assert not ended.well
    assert str(ended) == words


def test_the_time_limit_is_kept(tmp_path):
    began = time.monotonic()
    ended = run([*PYTHON, "print('here', flush=True); import time; time.sleep(60)"], tmp_path, 5)
    assert time.monotonic() - began < 40
    assert ended.code is None
    assert ended.printed == "here\n"
    assert str(ended).startswith("stopped at the time limit after ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux's")
def test_a_program_ends_by_itself_when_nobody_is_left_to_stop_it(tmp_path):
    """Its CPU time is limited by the system, too."""
    ended = run([*PYTHON, "import resource; print(*resource.getrlimit(resource.RLIMIT_CPU))"], tmp_path, 7)
    soft, hard = map(int, ended.printed.split())
    assert soft == hard == 7 * (os.cpu_count() or 1) + 1


def test_the_environment_of_this_python_is_not_passed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("KEPT", "kept")
    ended = run([*PYTHON, "import os; print(os.environ.get('PYTHONPATH'), os.environ['KEPT'])"], tmp_path, 60)
    assert ended.printed == "None kept\n"


def test_a_program_that_does_not_exist_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(["/nowhere/program"], tmp_path, 1)


def test_files_are_read_whatever_is_in_them(tmp_path):
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 3)
    assert len(read(tmp_path / "noise", 5)) == 5
    assert read(tmp_path / "nowhere") == ""
