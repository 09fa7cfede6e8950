"""Tables for LaTeX: what LaTeX would stumble over, found without one."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from landscape.report.counts import latex

NAN = float("nan")
#: Every level of completeness, with and without certificates.
LEVELS = [
    (33, 16, 5, 33, 16, 5, "proved"),
    (33, 16, 5, NAN, NAN, NAN, "proved"),
    (33, 16, 5, 33, 16, 5, "trace test"),
    (33, 16, 5, 31, 14, 3, "heuristic"),
    (9, 8, 3, NAN, NAN, NAN, "heuristic"),
    (9, 8, 3, NAN, NAN, NAN, "unknown"),
]
COLUMNS = ["N_C", "N_C_torus", "N_R_max", "certified", "certified_torus", "certified_real", "completeness"]


def every_level(times: int = 1) -> pd.DataFrame:
    frame = pd.DataFrame(LEVELS * times, columns=COLUMNS)
    bounds = {"BKK": [33.0, NAN] * (3 * times), "CBB": 3.0**36, "dedieu_malajovich": 48213.9}
    return frame.assign(uncertified=0, **bounds)


def cells(row: str) -> list[str]:
    assert row.endswith(r" \\")
    return re.split(r"(?<!\\)&", row[:-3])


def check(text: str, columns: int) -> None:
    """Check what a run of LaTeX would: balance, what is special, and as many cells as columns in every row."""
    lines = text.splitlines()
    assert re.fullmatch(r"% \\usepackage\{[a-z, ]+\}", lines[0])
    body = "\n".join(lines[1:])
    assert body.isascii()
    bare = re.sub(r"\\.", "", body, flags=re.DOTALL)
    assert not set('#%~"<>|') & set(bare)
    assert bare.count("$") % 2 == 0
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    # Powers and indices stand in mathematics, which begins and ends within a line.
    assert not re.search("[_^]", re.sub(r"\$[^$\n]*\$", "", bare))
    open_ones = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if verb == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert not open_ones
    kinds = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
    assert {len(letters) for letters in kinds} == {columns}
    rows = [line for line in lines if line.endswith(r" \\") and not line.startswith(r"\caption")]
    assert {len(cells(row)) for row in rows} == {columns}
    for used, package in {r"\toprule": "booktabs", r"\mathbb": "amssymb", "{adjustbox}": "adjustbox"}.items():
        assert (used not in body) or package in lines[0]


@pytest.mark.parametrize("times", [1, 7])
def test_tables_with_every_footnote_are_well_formed(times):
    frame = every_level(times)
    text = latex(frame, caption="100 % of a_b & more, ~#1", note="a < b > c | {d} ^ \\ $")
    shown = len(frame.columns) - len(["certified_torus", "certified_real"])
    check(text, shown)
    parts = 2 if times > 1 else 1
    assert text.count(r"\begin{table}") == text.count(r"\begin{adjustbox}{max width=\linewidth}") == parts
    assert (text.count(r"\caption"), text.count("(continued)")) == (1, parts - 1)
    assert text.count(r"\footnotesize") == 1
    assert sum(line.count("&") == shown - 1 for line in text.splitlines()) == len(frame) + parts
    for said in (r"$\geq$ 31 (33 found)", r"$\leq$ 33 (33 found)", "trace test:", "heuristic:", "unknown:"):
        assert said in text


def test_large_numbers_are_powers_of_ten_and_all_digits_that_are_printed_are_known():
    text = latex(every_level())
    # Not 150094635296999136, which is what the double nearest to 3^36 holds.
    assert str(int(3.0**36)) not in text
    assert r"$1.501 \cdot 10^{17}$" in text
    assert r"$4.821 \cdot 10^{4}$" in text
    whole = latex(pd.DataFrame({"CBB": [387420489.0, 1e10 - 1]}))
    assert "387420489 " in whole
    assert "9999999999 " in whole


def test_signs_infinities_and_truth_values_are_what_they_are():
    frame = pd.DataFrame(
        {
            "loss": [-0.5, np.inf, NAN],
            "steps": [-3, 0, 7],
            "bound": [-np.inf, 1.0, 2.0],
            "real": [True, False, True],
        }
    )
    text = latex(frame)
    check(text, 4)
    assert r"$-0.5$ & $-3$ & $-\infty$ & True \\" in text
    assert r"$\infty$ & 0 & 1 & False \\" in text
    assert r"-- & 7 & 2 & True \\" in text


def test_a_table_without_rows_is_one():
    check(latex(every_level().iloc[:0]), len(COLUMNS) + 2)
