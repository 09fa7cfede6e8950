import shutil
import stat
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from landscape.testing import require_system
from landscape_phcpack.installation import find_phc, find_phcpy


@pytest.fixture
def phc():
    require_system("phcpack", find_phc())


@pytest.fixture
def phcpy():
    require_system("python3-phcpy", find_phcpy())


@pytest.fixture(params=["phc", "phcpy"])
def way(request):
    """Each way in, as the field ``executable`` names it."""
    request.getfixturevalue(request.param)
    return request.param


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def fake_phc(tmp_path, monkeypatch):
    """Put a program in the place of phc: a function of a Python body, with `arguments`, `calls` and `real`."""

    def install(body):
        program = tmp_path / "phc"
        program.write_text(
            f"#!{sys.executable}\n"
            "import os, shutil, signal, subprocess, sys, time\nfrom pathlib import Path\n"
            f"real, count = {shutil.which('phc')!r}, Path({str(tmp_path / 'count')!r})\n"
            "calls = int(count.read_text()) + 1 if count.exists() else 1\n"
            "count.write_text(str(calls))\n"
            "arguments = sys.argv[1:]\n" + textwrap.dedent(body)
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("LANDSCAPE_PHC", str(program))
        return tmp_path / "count"

    return install


@pytest.fixture
def no_phcpack(monkeypatch):
    """Hide both ways in."""
    monkeypatch.setenv("LANDSCAPE_PHC", str(Path("/nowhere/phc")))
    monkeypatch.setenv("LANDSCAPE_PHCPY_PYTHON", "/nowhere/python3")
