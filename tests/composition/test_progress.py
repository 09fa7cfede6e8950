"""Progress: bars on a terminal, lines in a log, nothing when asked for nothing."""

from __future__ import annotations

import time

import pytest

from landscape.composition import progress
from landscape.composition.progress import stage


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "1")


def work(count=3):
    with stage("Walking", count) as current:
        for step in range(count):
            current.note(f"loss {step}")
            current.advance()


@pytest.mark.usefixtures("lines")
def test_a_log_gets_a_line_when_work_was_long(capsys, monkeypatch):
    work()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_WORTH_A_LINE", -1.0)
    work()
    assert capsys.readouterr().err.startswith("Walking: 3/3 in 0.0 s")


@pytest.mark.usefixtures("lines")
def test_a_log_hears_of_long_work_while_it_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_INTERVAL", -1.0)
    work()
    assert "Walking: 2/3 in 0.0 s, loss 1" in capsys.readouterr().err


@pytest.mark.usefixtures("lines")
def test_a_log_hears_how_long_it_still_takes(capsys, monkeypatch):
    class Clock:
        now = time.monotonic()

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "_LINE_INTERVAL", -1.0)
    with stage("Walking", 10, done=4) as current:
        clock.now += 35.0  # compiling, which is done once
        current.advance(0)
        current.advance()
        assert "to go" not in capsys.readouterr().err
        clock.now += 60.0  # two steps took a minute, so the other three take a minute and a half
        current.advance(2)
    assert "Walking: 7/10 in 95.0 s, about 90 s to go" in capsys.readouterr().err


@pytest.mark.usefixtures("lines")
def test_a_terminal_gets_one_screen_for_stages_inside_stages(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with stage("Study", 1) as outer:
        work()
        outer.advance()
    err = capsys.readouterr().err
    assert "Study" in err
    assert "3/3" in err
    assert progress._screen.progress is None


def test_nothing_is_drawn_when_nothing_is_wanted(capsys):
    work()
    assert capsys.readouterr().err == ""
