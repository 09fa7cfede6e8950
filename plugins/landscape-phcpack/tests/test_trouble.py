"""What PHCpack has been seen to do wrong, done on purpose by programs in its place."""

import time
from pathlib import Path

import numpy as np
import pytest

from landscape.errors import SolverError
from landscape.systems import PolynomialSystem, Solutions
from landscape_phcpack.phcpack import PHCpack

CIRCLE = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
TRUTH = Solutions(np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=complex))

#: Calls the real program.
REAL = "subprocess.run([real, *arguments], check=True)\n"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("sys.exit('raised ADA.NUMERICS.ARGUMENT_ERROR : a-ngcefu.adb:491')", "ended with status 1"),
        ("", "wrote nothing"),
        ("Path(arguments[-1]).touch()", "wrote nothing"),
        ("Path(arguments[-1]).write_text('PHCv2.4.86 released 2022-05-30\\n')", "no solutions"),
        ("Path(arguments[-1]).write_bytes(bytes(range(256)) * 1000)", "wrote nothing"),
        (
            "Path(arguments[-1]).write_text('THE SOLUTIONS :\\n\\n4 2\\n====\\n')",
            "a list of 4 solutions has 0",
        ),
    ],
)
def test_a_call_in_trouble_is_repeated(phc, fake_phc, generator, trouble, words):
    fake_phc(f"if calls == 1:\n    {trouble or 'pass'}\nelse:\n    {REAL}")
    solved = PHCpack().solve(CIRCLE, generator)
    assert solved.matches(TRUTH)
    assert (solved.statistics["calls"], solved.statistics["troubled"]) == (2, 1)
    assert words in solved.evidence
    assert solved.completeness == "heuristic"


def test_the_seeds_of_repeated_calls_differ(phc, fake_phc, generator, tmp_path):
    fake_phc(f"with open({str(tmp_path / 'seeds')!r}, 'a') as file:\n    file.write(arguments[0] + '\\n')\n")
    with pytest.raises(
        SolverError, match=r"no solutions in 3 calls: wrote nothing; wrote nothing; wrote nothing"
    ):
        PHCpack(seed=7).solve(CIRCLE, generator)
    assert (tmp_path / "seeds").read_text().split() == ["-07", "-08", "-09"]


def test_a_hanging_program_is_stopped_with_its_children(fake_phc, generator, tmp_path):
    fake_phc(
        f"child = subprocess.Popen(['sleep', '60'])\n"
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\ntime.sleep(60)\n"
    )
    began = time.monotonic()
    with pytest.raises(
        SolverError, match=r"stopped at the time limit after \d+ s.*Raise time_limit \(now 5 s\)"
    ):
        PHCpack(time_limit=5).solve(CIRCLE, generator)
    assert time.monotonic() - began < 40
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_what_a_stopped_program_had_written_counts(phc, fake_phc, generator):
    fake_phc(REAL + "time.sleep(60)\n")
    solved = PHCpack(time_limit=6).solve(CIRCLE, generator)
    assert solved.matches(TRUTH)
    assert solved.completeness == "unknown"
    assert "stopped at the time limit" in solved.evidence


def test_lost_paths_are_looked_for_again_and_then_filled_in_by_symmetry(phc, fake_phc, generator):
    lose = (
        "for name in arguments[-2:]:\n"
        "    text = Path(name).read_text()\n"
        "    Path(name).write_text(text.replace(' z1 : -', ' z1 :  7', 99))\n"
    )
    fake_phc(REAL + f"if calls == 1:\n    {lose.replace(chr(10), chr(10) + '    ')}")
    again = PHCpack().solve(CIRCLE, generator)
    assert again.matches(TRUTH)
    assert again.statistics["calls"] == 2
    assert again.statistics["reflected"] == 0
    assert again.completeness == "heuristic"
    fake_phc(REAL + lose)
    filled = PHCpack(retries=1).solve(CIRCLE, generator)
    assert filled.matches(TRUTH)
    assert filled.statistics["reflected"] == 2
    assert filled.completeness == "unknown"
    assert "filled in by symmetry" in filled.evidence


def test_endpoints_that_are_no_solutions_are_never_counted(phc, fake_phc, generator):
    fake_phc(
        REAL
        + "text = Path(arguments[-1]).read_text()\n"
        + "Path(arguments[-1]).write_text(text + text.replace(' z1 :  1.', ' z1 :  1.3').replace('E+00', 'E+07'))\n"
    )
    solved = PHCpack().solve(CIRCLE, generator)
    assert solved.matches(TRUTH)
    assert solved.statistics["rejected"] > 0


def test_the_input_is_fresh_for_every_call(phc, fake_phc, generator, tmp_path):
    """phc appends its answer to the input file; a second call with that file would read a start solution."""
    fake_phc(
        f"with open({str(tmp_path / 'inputs')!r}, 'a') as file:\n"
        "    file.write(str('SOLUTIONS' in Path(arguments[-2]).read_text()))\n" + REAL
    )
    PHCpack().solve(CIRCLE, generator)
    PHCpack().solve(CIRCLE, generator)
    assert (tmp_path / "inputs").read_text() == "FalseFalse"


def test_a_program_that_cannot_be_started_says_so(tmp_path, monkeypatch, generator):
    program = tmp_path / "phc"
    program.write_bytes(b"\x00 no program")
    program.chmod(0o755)
    monkeypatch.setenv("LANDSCAPE_PHC", str(program))
    with pytest.raises(SolverError, match="cannot be started"):
        PHCpack("phc").solve(CIRCLE, generator)


def test_nothing_is_left_in_the_temporary_directory(phc, fake_phc, generator, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    PHCpack().solve(CIRCLE, generator)
    fake_phc("time.sleep(60)")
    with pytest.raises(SolverError):
        PHCpack(time_limit=0.2).solve(CIRCLE, generator)
    assert list((tmp_path / "scratch").iterdir()) == []
