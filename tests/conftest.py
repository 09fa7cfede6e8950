from __future__ import annotations

import signal

import pytest


@pytest.fixture
def interruptible():
    """Child processes obey SIGINT, also where the tests run in the background of a shell, which ignores it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
