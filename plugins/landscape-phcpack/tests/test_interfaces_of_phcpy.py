"""phcpy's two programming interfaces, played by modules of that name."""

import sys

import numpy as np
import pytest

from landscape.errors import SolverError
from landscape.systems import PolynomialSystem, Solutions
from landscape_phcpack import installation
from landscape_phcpack.phcpack import PHCpack
from landscape_phcpack.volumes import _of_support, mixed_volumes

CIRCLE = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
TRUTH = Solutions(np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=complex))

ANSWER = """
def text(x, y):
    return (
        "t :  1.00000000000000E+00   0.00000000000000E+00\\nm : 1\\nthe solution for t :\\n"
        f" z1 :  {x:.14E}   0.00000000000000E+00\\n z2 :  {y:.14E}   0.00000000000000E+00\\n"
        "== err :  0.000E+00 = rco :  1.000E+00 = res :  0.000E+00 ="
    )

ALL = [text(1, 2), text(2, 1), text(-1, -2), text(-2, -1)]
"""
#: The ctypes interface: no `verbose`, other modules, trackers that return two things.
NEW = {
    "__init__": "__version__ = '1.1.7'\nprint('PHCv2.4.90 released 2024-01-01 works!')\n",
    "answer": ANSWER,
    "dimension": "seeds = []\ndef set_seed(seed, vrblvl=0):\n    seeds.append(seed)\n",
    "solver": (
        "from .answer import ALL\nfrom .dimension import seeds\n"
        "def solve(pols, tasks=0, mvfocus=0, precision='d', checkin=True, dictionary_output=False, vrblvl=0):\n"
        "    assert seeds == [3] and all(p.endswith(';') for p in pols)\n    return ALL\n"
    ),
    "trackers": (
        "from .answer import ALL\n"
        "def double_track(target, start, startsols, gamma=0, pwt=2, tasks=0, vrblvl=0):\n"
        "    assert len(startsols) == 4 and all('z2' in s for s in startsols)\n    return 1j, ALL\n"
    ),
    "volumes": "def stable_mixed_volume(pols, demics=True, vrblvl=0):\n    return 3, 4\n",
}
#: The C extension, which is silent and wrong unless `verbose`, as Debian's.
OLD = {
    "__init__": "__version__ = '1.1.2'\n",
    "answer": ANSWER,
    "phcpy2c3": "seeds = []\ndef py2c_set_seed(seed):\n    seeds.append(seed)\n",
    "solver": (
        "from .answer import ALL\nfrom .phcpy2c3 import seeds\n"
        "def solve(pols, verbose=True, tasks=0, mvfocus=0, precision='d', checkin=True, dictionary_output=False,"
        " verbose_level=0):\n    assert seeds == [3]\n    return ALL if verbose else []\n"
        "def mixed_volume(pols, stable=False, checkin=True):\n    return (3, 4) if stable else 3\n"
    ),
    "trackers": (
        "from .answer import ALL\n"
        "def standard_double_track(target, start, sols, gamma=0, pwt=2, tasks=0):\n    return ALL\n"
    ),
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a phcpy of given modules the only one there is."""

    def make(modules):
        folder = tmp_path / "site" / "phcpy"
        folder.mkdir(parents=True)
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        monkeypatch.setenv("LANDSCAPE_PHCPY_PYTHON", str(python))
        monkeypatch.setenv("LANDSCAPE_PHC", "/nowhere/phc")
        installation._has_phcpy.cache_clear()
        _of_support.cache_clear()

    yield make
    installation._has_phcpy.cache_clear()
    _of_support.cache_clear()


@pytest.mark.parametrize("modules", [NEW, OLD], ids=["ctypes", "extension"])
def test_both_interfaces_are_spoken(install, modules, generator):
    install(modules)
    for method in ("automatic", "polyhedral", "total degree"):
        solved = PHCpack(method=method, seed=3).solve(CIRCLE, generator)
        assert solved.matches(TRUTH)
        assert solved.statistics["calls"] == 1
    assert (mixed_volumes(CIRCLE).mixed, mixed_volumes(CIRCLE).stable) == (3, 4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "killed by SIGABRT"),
        ("raise RuntimeError('no library')", "no library"),
        ("import sys; sys.exit(0)", "wrote nothing"),
    ],
)
def test_a_phcpy_that_cannot_be_imported_is_reported(install, body, words, generator):
    install({"__init__": body})
    with pytest.raises(SolverError, match=words):
        PHCpack().solve(CIRCLE, generator)


@pytest.mark.parametrize("returned", ["None", "[]", "['nonsense', 'm : 1']", "[17]"])
def test_a_solver_that_returns_nothing_or_nonsense_is_asked_again(install, returned, generator):
    install(OLD | {"solver": f"def solve(pols, verbose=True):\n    return {returned}\n"})
    if returned in ("None", "[]"):
        solved = PHCpack().solve(CIRCLE, generator)
        assert len(solved) == 0
        assert solved.completeness == "unknown"
        assert solved.statistics["calls"] == 3
    else:
        with pytest.raises(SolverError, match="a list of"):
            PHCpack().solve(CIRCLE, generator)
