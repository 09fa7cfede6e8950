"""Importing landscape, and listing what is installed, is cheap. Measured in processes of their own."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "pandas", "scipy", "cattrs", "jinja2", "rich", "sklearn", "sympy")


def run(code):
    """Run `code` in a fresh Python and return what it leaves in `out`, and which modules it loaded."""
    wrapped = (
        "import json, sys, time\n"
        "plain = set(sys.modules)\n"
        f"{code}\n"
        "loaded = sorted({name.partition('.')[0] for name in set(sys.modules) - plain})\n"
        "print(json.dumps([out, loaded]))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", wrapped], capture_output=True, text=True, check=True, timeout=60
    )
    out, loaded = json.loads(finished.stdout)
    return out, set(loaded)


def timed(module):
    """Code that measures an import in processor time, which a busy machine changes least."""
    return f"start = time.process_time(); import {module}; out = time.process_time() - start"


@pytest.mark.parametrize(("module", "seconds"), [("landscape", 0.1), ("landscape.plugins", 0.1)])
def test_importing_is_fast_and_loads_nothing_heavy(module, seconds):
    results = [run(timed(module)) for _ in range(5)]
    loaded = results[0][1]
    assert not loaded & {*HEAVY, "numpy"}
    assert not any(name.startswith("landscape_") for name in loaded)
    assert min(took for took, _ in results) < seconds


def test_the_plugin_machinery_itself_costs_less_than_50_milliseconds():
    code = "import attrs, pluggy, inspect\n" + timed("landscape.plugins")
    assert min(run(code)[0] for _ in range(5)) < 0.05


def test_listing_everything_loads_no_plugin_and_nothing_heavy():
    code = (
        "import landscape as ls\n"
        "from landscape.plugins import KINDS\n"
        "out = {kind: [dir(getattr(ls, kind)), repr(getattr(ls, kind))] for kind in KINDS}\n"
    )
    listed, loaded = run(code)
    assert "HessianSpectrum" in listed["probes"][0]
    assert not loaded & {*HEAVY, "numpy"}
    assert not any(name.startswith("landscape_") for name in loaded)


def test_the_pytest_plugin_loads_nothing_heavy():
    _, loaded = run("import landscape.testing.pytest_plugin\nout = None")
    assert not loaded & {*HEAVY, "numpy"}
