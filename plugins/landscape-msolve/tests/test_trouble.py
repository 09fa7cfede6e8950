"""Programs in the place of msolve that crash, hang, are silent or write damage."""

import time
from contextlib import suppress

import pytest
from flint import ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import SolverError
from landscape.systems import PolynomialSystem
from landscape_msolve.msolve import Msolve
from landscape_msolve.program import parse_output

CIRCLE = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
ANSWER = """[0, [0,
2,
4,
['z1', 'z2'],
[0, 1],
[1,
[[4, [4, 0, -5, 0, 1]],
[3, [0, -10, 0, 4]],
[
[[3, [20, 0, -8, 0]],
1]
]]]]]:
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("sys.exit('Not enough memory')", "ended with status 1: 'Not enough memory'"),
        ("pass", "wrote nothing"),
        ("output.write_bytes(bytes(range(256)))", "something unexpected"),
        ("output.write_text('[-4]:')", "gave up with the code -4"),
        ("output.write_text('[1, 2, -1, []]:')", "infinitely many"),
        (f"output.write_text({ANSWER[:60]!r})", "breaks off"),
        (f"output.write_text({ANSWER.replace('-10', '-11')!r})", "does not fit together"),
        (f"output.write_text({ANSWER!r}); print('degree of ideal    3')", "degree 3 .* 4 solutions"),
    ],
)
def test_trouble_is_reported(fake_msolve, generator, body, words):
    fake_msolve(body)
    with pytest.raises(SolverError, match=words):
        Msolve().solve(CIRCLE, generator)


def test_a_hanging_program_is_stopped(fake_msolve, generator):
    fake_msolve("time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(SolverError, match=r"stopped at the time limit.*Raise time_limit \(now 0.5 s\)"):
        Msolve(time_limit=0.5).solve(CIRCLE, generator)
    assert time.monotonic() - began < 20


def test_a_wrong_answer_is_not_certified(fake_msolve, generator):
    """The solutions of another system: none passes Krawczyk's test."""
    fake_msolve(f"output.write_text({ANSWER.replace('20, 0, -8', '21, 0, -8')!r})")
    found = Msolve().solve(CIRCLE, generator)
    assert len(found) == 0
    assert found.statistics["singular"] == 4
    assert "nothing could be proved" in found.evidence


def test_an_old_program_without_seeds_is_called_without(fake_msolve, generator):
    fake_msolve(
        "if '--random-seed' in arguments:\n    sys.exit('unrecognized option --random-seed')\n"
        f"output.write_text({ANSWER!r})\n"
    )
    assert len(Msolve().solve(CIRCLE, generator)) == 4


def test_a_program_that_cannot_be_started_says_so(tmp_path, monkeypatch, generator):
    (tmp_path / "msolve").write_bytes(b"\x00")
    (tmp_path / "msolve").chmod(0o755)
    monkeypatch.setenv("LANDSCAPE_MSOLVE", str(tmp_path / "msolve"))
    with pytest.raises(SolverError, match="cannot be started"):
        Msolve().solve(CIRCLE, generator)


def test_the_precision_of_flint_is_put_back(fake_msolve, generator):
    fake_msolve(f"output.write_text({ANSWER!r})")
    before = ctx.prec
    Msolve().solve(CIRCLE, generator)
    assert ctx.prec == before


def test_numbers_of_any_length_are_read():
    digits = "9" * 6000
    text = (
        ANSWER.replace("-5", f"-{digits}")
        .replace("-10", f"-{2 * int('9')}")
        .replace("-18", f"-1{digits[:-1]}8")
    )
    assert parse_output(text).eliminating.height_bits() > 19_000


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_output_never_crashes(data):
    text = ANSWER
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        until = data.draw(st.integers(at, min(len(text), at + 40)))
        text = text[:at] + data.draw(st.text("0123456789-[],:' xz\n", max_size=6)) + text[until:]
    with suppress(SolverError):
        found = parse_output(text)
        assert found is None or found.derivative == found.eliminating.derivative()
