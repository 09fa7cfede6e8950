"""How numbers of solutions are printed: equality only where nothing can be missing.

A number alone is proved to be the number. ``≥ 33`` says that 33 solutions were proved to exist and to differ,
``≤ 33 (33 found)`` that there are proved to be no more than the 33 that a solver found, ``33 found`` that it found so
many and nothing was proved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pandas as pd

__all__ = ["claim", "footnote", "latex", "printed"]

#: Columns that count solutions, and the one that says how many of these were certified.
_COUNTS = {"N_C": "certified", "N_C_torus": "certified_torus", "N_R": "certified_real"}
_HEADS = {
    "d": "$d$",
    "dx": "$d_x$",
    "dy": "$d_y$",
    "m": "$m$",
    "H": "$H$",
    "N": "$N$",
    "B_C": r"$B_{\mathbb{C}}$",
    "B_C_torus": r"$B_{\mathbb{C}^*}$",
    "BKK_stable": "BKK stable",
    "dedieu_malajovich": "D--M",
    "N_C": r"$N_{\mathbb{C}}$",
    "N_C_torus": r"$N_{\mathbb{C}^*}$",
    "N_R": r"$N_{\mathbb{R}}$",
    "N_R_mean": r"mean $N_{\mathbb{R}}$",
    "N_R_max": r"max $N_{\mathbb{R}}$",
}
_ESCAPES = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
#: Rows of a LaTeX table that fit on one page; one with more falls into parts.
_LONG = 40
#: Whole numbers from here on are written with four digits and a power of ten, as doubles that hold them may be rounded.
_LARGE = 1e10


def claim(found: int, certified: float, completeness: str) -> str:
    """Return what may be said of a number of solutions.

    Parameters
    ----------
    found
        How many were found.
    certified
        How many of them were proved to exist and to differ; NaN where nobody tried.
    completeness
        How it is known that none is missing; equality is said for ``"proved"`` only, where all are certified.

    Examples
    --------
    >>> claim(33, 33, "proved"), claim(33, 33, "heuristic")
    ('33', '≥ 33')
    >>> claim(33, 31, "heuristic"), claim(33, float("nan"), "unknown"), claim(33, float("nan"), "proved")
    ('≥ 31 (33 found)', '33 found', '≤ 33 (33 found)')
    """
    if completeness == "proved" and (certified >= found or not found):
        return str(found)
    if math.isnan(certified) or not found:
        return f"≤ {found} ({found} found)" if completeness == "proved" else f"{found} found"
    return f"≥ {found}" if certified >= found else f"≥ {int(certified)} ({found} found)"


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its numbers of solutions as :func:`claim` says them; any other table as it is."""
    if not {"N_C", "certified", "completeness"} <= set(frame.columns):
        return frame
    shown = frame.copy()
    for column, proof in _COUNTS.items():
        if column not in frame:
            continue
        proved = frame[proof] if proof in frame else pd.Series(float("nan"), frame.index)
        known = frame["completeness"]
        if column != "N_C":
            # That none is missing says nothing of which are real, or have a zero coordinate.
            known = known.where((known != "proved") | (proved == frame[column]), "unknown")
        rows = zip(frame[column], proved, known, strict=True)
        shown[column] = pd.Series(
            [claim(int(found), float(sure), how) for found, sure, how in rows], frame.index, dtype=object
        )
    return shown.drop(columns=[name for name in ("certified_torus", "certified_real") if name in shown])


def footnote(frame: pd.DataFrame) -> str:
    """Return how the numbers of solutions in a table are known; empty for a table without such numbers."""
    if not {"N_C", "certified", "completeness"} <= set(frame.columns):
        return ""
    rows = list(zip(frame["N_C"], frame["certified"], frame["completeness"], strict=True))
    said = []
    numbers = [claim(int(found), float(sure), how) for found, sure, how in rows]
    if any(text.isdigit() for text in numbers):
        said.append("A number alone: proved that there are so many and no more.")
    if any(text.startswith("≥") for text in numbers):
        said.append(
            "≥: so many were proved, in ball arithmetic, to exist and to differ; that there are no more is proved only "
            "where completeness says so."
        )
    if any(text.startswith("≤") for text in numbers):
        said.append(
            "≤: proved that there are no more; that those found are different solutions is known numerically only."
        )
    rest = [(found, sure, how) for found, sure, how in rows if how != "proved"]
    shown = printed(frame)
    cells = [str(cell) for name in _COUNTS if name in shown for cell in shown[name]]
    if any(text.endswith("found") for text in cells):
        said.append(
            "n found: the solver computed n different solutions numerically; nothing is proved of their number."
        )
    if any(text.endswith("found)") for text in cells):
        said.append(
            "(n found): the solver computed n different solutions numerically; only what stands before the bracket "
            "is proved."
        )
    known = {how for _, _, how in rest}
    if "trace test" in known:
        said.append("trace test: that none is missing passed a test that can fail.")
    if "heuristic" in known:
        said.append(
            "heuristic: nothing was seen to be missing, and searches from independent starts agree; no proof that "
            "none is."
        )
    if "unknown" in known:
        said.append("unknown: solutions are missing, or may be.")
    if "N_R_max" in frame and not all(text.isdigit() for text in numbers):
        said.append("Means and largest numbers of real ones are of what was found.")
    if "uncertified" in frame and (samples := int(frame["uncertified"].sum())):
        said.append(f"In {samples} sample{'s' * (samples > 1)} not every solution could be certified.")
    if "BKK" in frame and frame["BKK"].isna().any():
        said.append(
            "Where BKK is missing, the mixed volumes were not computed: no program, or not enough time."
        )
    return " ".join(said)


def latex(
    frame: pd.DataFrame, columns: Iterable[str] | None = None, *, caption: str = "", note: str = ""
) -> str:
    """Return a table for LaTeX, which begins with a comment that names the packages it needs.

    Numbers of solutions stand as :func:`claim` says them, and below the table stands how they are known. It is no
    wider than the text, and one of many rows falls into parts of a page each.

    Parameters
    ----------
    frame
        The table; its index is left out.
    columns
        Which columns to show; all by default.
    caption
        Above it.
    note
        What else is said below it.
    """
    shown = printed(frame)
    if columns is not None:
        shown = shown[list(columns)]
    note = _escaped(" ".join(filter(None, [footnote(frame), note])))
    heads = [_HEADS.get(str(name), _escaped(str(name))) for name in shown.columns]
    kinds = "".join(
        "r" if name in _COUNTS or pd.api.types.is_numeric_dtype(shown[name]) else "l"
        for name in shown.columns
    )
    whole = [_is_whole(shown[name]) for name in shown.columns]
    body = [
        " & ".join(_text(value, is_whole) for value, is_whole in zip(row, whole, strict=True)) + r" \\"
        for row in shown.itertuples(index=False, name=None)
    ]
    head = [r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    lines = [r"% \usepackage{amssymb, booktabs, adjustbox}"]
    parts = max(1, math.ceil(len(body) / _LONG))
    ends = [len(body) * part // parts for part in range(parts + 1)]
    for part, (first, last) in enumerate(pairwise(ends), 1):
        lines += [r"\begin{table}", r"\centering"]
        if caption and part == 1:
            lines += [rf"\caption{{{_escaped(caption)}}}", r"\smallskip"]
        elif caption:
            # No second caption: a list of tables would name it, too.
            lines += [r"\tablename\ \thetable{} (continued)\par\smallskip"]
        lines += [r"\begin{adjustbox}{max width=\linewidth}", rf"\begin{{tabular}}{{{kinds}}}", *head]
        lines += [*body[first:last], r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}"]
        if note and part == parts:
            lines += [rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {note}}}"]
        lines += [r"\end{table}"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _is_whole(column: pd.Series[Any]) -> bool:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    known = column.dropna()
    return bool((known == known.round()).all())


def _text(value: Any, whole: bool) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, str):
        return _escaped(value)
    if whole and abs(value) < _LARGE:
        text = str(int(value))
    elif whole or isinstance(value, float):
        text = f"{value:.4g}"
    else:
        return _escaped(str(value))
    mantissa, power, exponent = text.partition("e")
    if power:
        return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"
    # In mathematics a hyphen is a minus sign.
    return "$" + text.replace("inf", r"\infty") + "$" if value < 0 or math.isinf(value) else text
