"""Systems and solutions as PHCpack, HomotopyContinuation.jl and Bertini write them.

Systems are written by :meth:`PolynomialSystem.to_text`; :func:`read_system` reads them back. Solutions are
written by :func:`write_solutions` and read by :func:`read_solutions`, or, from the output of a run of PHCpack
with everything else that stands in it, by :func:`phc_lists`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.errors import PolynomialError
from landscape.systems.polynomial import PolynomialSystem
from landscape.systems.refine import refine
from landscape.systems.solutions import Solutions

__all__ = ["Format", "SolutionList", "phc_lists", "read_solutions", "read_system", "write_solutions"]

Format = Literal["phc", "hc", "bertini"]
_FORMATS = ("phc", "hc", "bertini")
_RULE = "=" * 75


def _check_format(format: str) -> None:
    if format not in _FORMATS:
        raise PolynomialError(f"unknown format {format!r}; it is one of {', '.join(map(repr, _FORMATS))}.")


def _shown(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 3] + "...")


# ---------------------------------------------------------------------------------------------------------
# Lists of solutions in PHCpack's format
# ---------------------------------------------------------------------------------------------------------


@frozen(eq=False)
class SolutionList:
    """One list of solutions or endpoints, as it stands in a text of PHCpack.

    Attributes
    ----------
    unknowns
        Names, in the order in which the list has them: PHCpack orders unknowns as they first occur.
    declared
        How many entries the list says it has.
    points
        Shape (n, N), complex128; NaN where the text has no number. Entries that are cut off are left out.
    t
        The continuation parameter of each entry, shape (n,): one where a path arrived.
    multiplicities
        The field ``m``, shape (n,).
    corrections, conditions, residuals
        The fields ``err``, ``rco`` and ``res``, shape (n,); NaN where they cannot be read.
    """

    unknowns: tuple[str, ...]
    declared: int
    points: NDArray[np.complex128]
    t: NDArray[np.complex128]
    multiplicities: NDArray[np.int64]
    corrections: NDArray[np.float64]
    conditions: NDArray[np.float64]
    residuals: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def complete(self) -> bool:
        """Whether there are as many entries as the list says, all of them numbers."""
        return len(self) == self.declared and bool(np.isfinite(self.points).all())

    def ordered(self, unknowns: Sequence[str]) -> NDArray[np.complex128]:
        """Return the points with their coordinates in the order of `unknowns`.

        Raises
        ------
        PolynomialError
            When the list has other names.
        """
        if len(self) == 0:
            return np.zeros((0, len(unknowns)), dtype=np.complex128)
        if sorted(self.unknowns) != sorted(unknowns):
            raise PolynomialError(
                f"the solutions have the coordinates {', '.join(self.unknowns)}, the system the unknowns "
                f"{', '.join(unknowns)}."
            )
        return self.points[:, [self.unknowns.index(name) for name in unknowns]]


_TITLE = re.compile(r"\s*THE\s+SOLUTIONS\s*:?\s*\Z")
_SIZE = re.compile(r"\s*(\d{1,12})\s+(\d{1,12})\s*\Z")
_ENTRY = re.compile(r"\s*(?:solution\s+\d+\s*:|==\s*\d+\s*=)")
_T = re.compile(r"\s*t\s*:\s*(\S+)\s+(\S+)\s*\Z")
_M = re.compile(r"\s*m\s*:\s*(\d{1,12})(?:\s|\Z)")
_COORDINATE = re.compile(r"\s*([^\s:]+)\s*:\s*(\S+)\s+(\S+)\s*\Z")
_CLOSING = re.compile(r"\s*==\s*err\s*:\s*(\S+)\s*=\s*rco\s*:\s*(\S+)\s*=\s*res\s*:\s*(\S+)\s*=")


def _number(text: str) -> float:
    """Read a number as PHCpack prints it; what is none (``NaN******``, ``+Inf****``) is NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    # float() also takes 1_000, which no program writes: then the field is damaged.
    return value if math.isfinite(value) and "_" not in text else math.nan


class _Entry:
    """One solution while it is being read."""

    def __init__(self) -> None:
        self.t = complex(math.nan, math.nan)
        self.multiplicity = 0
        self.coordinates: dict[str, complex] = {}
        self.closing = (math.nan, math.nan, math.nan)
        self.in_coordinates = False

    def take(self, line: str) -> bool:
        """Read one line of the entry; return whether it was the last one."""
        if closing := _CLOSING.match(line):
            self.closing = (_number(closing[1]), _number(closing[2]), _number(closing[3]))
            return True
        if line.lstrip().startswith("the solution for t"):
            self.in_coordinates = True
        elif not self.in_coordinates:
            if t := _T.match(line):
                self.t = complex(_number(t[1]), _number(t[2]))
            elif m := _M.match(line):
                self.multiplicity = int(m[1])
        elif coordinate := _COORDINATE.match(line):
            value = complex(_number(coordinate[2]), _number(coordinate[3]))
            # A name that stands twice is damage: neither value can be trusted.
            twice = coordinate[1] in self.coordinates
            self.coordinates[coordinate[1]] = complex(math.nan, math.nan) if twice else value
        return False


def _assemble(entries: list[_Entry], declared: int, dimension: int) -> SolutionList:
    """Build a list; an entry with other coordinates than the first readable one is NaN throughout."""
    names: tuple[str, ...] = ()
    for entry in entries:
        if len(entry.coordinates) == dimension:
            names = tuple(entry.coordinates)
            break
    points = np.full((len(entries), len(names)), np.nan, dtype=np.complex128)
    for row, entry in zip(points, entries, strict=True):
        if entry.coordinates.keys() == set(names):
            row[:] = [entry.coordinates[name] for name in names]
    closings = np.array([entry.closing for entry in entries], dtype=np.float64).reshape(len(entries), 3)
    return SolutionList(
        names,
        declared,
        points,
        np.array([entry.t for entry in entries], dtype=np.complex128),
        np.array([entry.multiplicity for entry in entries], dtype=np.int64),
        closings[:, 0],
        closings[:, 1],
        closings[:, 2],
    )


def phc_lists(text: str) -> tuple[SolutionList, ...]:
    """Return all lists titled ``THE SOLUTIONS`` in a text of PHCpack: an output, or an appended input file.

    ``phc -b`` writes several: solutions with zero coordinates, those without, endpoints of paths before and
    after a last refinement. Some entries are no solutions, and one solution stands in several lists;
    :func:`landscape.systems.refine` tells. Start solutions, which belong to another system, are left out.

    Nothing is raised for damaged text: what is not read is missing from the lists, and
    :attr:`SolutionList.complete` is False where a list lacks something it declares.
    """
    found: list[SolutionList] = []
    entries: list[_Entry] = []
    entry: _Entry | None = None
    declared = dimension = 0
    # Where the scanner is: outside, after a title, or in a list.
    place = "outside"

    def close() -> None:
        if place == "list":
            found.append(_assemble(entries, declared, dimension))

    for line in text.splitlines():
        if _TITLE.match(line):
            close()
            entries, entry, place = [], None, "title"
        elif place == "title":
            if size := _SIZE.match(line):
                declared, dimension, place = int(size[1]), int(size[2]), "list"
            elif line.strip():
                place = "outside"
        elif place == "list":
            if _ENTRY.match(line):
                # One that was begun and not closed is cut off, its last number perhaps in the middle.
                entry = _Entry() if len(entries) < declared else None
            elif entry is not None and entry.take(line):
                entries.append(entry)
                entry = None
    close()
    return tuple(found)


# ---------------------------------------------------------------------------------------------------------
# Solutions
# ---------------------------------------------------------------------------------------------------------


def write_solutions(solutions: Solutions, unknowns: Sequence[str], format: Format) -> str:
    """Write solutions as PHCpack, HomotopyContinuation.jl (``write_solutions``) or Bertini do.

    Numbers keep 17 digits, so that they are read back bit for bit. The last two formats are one: no names,
    only coordinates in their order. PHCpack reads the result after a system as start solutions; its fields
    ``err`` and ``rco`` are the residual and, not being known, one.

    Raises
    ------
    PolynomialError
        For another format, and when there are not as many names as coordinates.
    """
    _check_format(format)
    points = solutions.points
    if points.shape[1] != len(unknowns):
        raise PolynomialError(f"points with {points.shape[1]} coordinates cannot be named {tuple(unknowns)}.")
    if format != "phc":
        blocks = [str(len(points))]
        blocks += ["\n".join(f"{z.real:.16e} {z.imag:.16e}" for z in point) for point in points]
        return "\n\n".join(blocks) + "\n"
    lines = ["THE SOLUTIONS :", "", f"{len(points)} {len(unknowns)}", _RULE]
    for number, (point, residual, multiplicity) in enumerate(
        zip(points, solutions.residuals, solutions.multiplicities, strict=True), 1
    ):
        accuracy = 0.0 if math.isnan(residual) else residual
        lines += [
            f"solution {number} :",
            f"t : {1.0: .17E}  {0.0: .17E}",
            f"m : {multiplicity}",
            "the solution for t :",
            *(f" {name} : {z.real: .16E}  {z.imag: .16E}" for name, z in zip(unknowns, point, strict=True)),
            f"== err : {accuracy: .3E} = rco : {1.0: .3E} = res : {accuracy: .3E} ==",
        ]
    return "\n".join(lines) + "\n"


def read_solutions(
    text: str,
    format: Format,
    system: PolynomialSystem | None = None,
    *,
    unknowns: Sequence[str] | None = None,
) -> Solutions:
    """Read solutions that another program wrote.

    Parameters
    ----------
    text
        The contents of its file: a list of PHCpack, or everything that ``phc -b`` wrote; what
        HomotopyContinuation.jl's ``write_solutions`` wrote; Bertini's ``finite_solutions``,
        ``nonsingular_solutions``, ``real_finite_solutions`` or ``start`` file.
    format
        ``"phc"``, ``"hc"`` or ``"bertini"``; the last two are read alike.
    system
        The system they solve. Points are then polished with Newton's method; what is no regular solution of
        it, or stands there twice, is left out and counted in the statistics.
    unknowns
        Without `system`: the order of the coordinates for ``"phc"``; the order of the text by default.

    Returns
    -------
    Solutions
        Of completeness ``"unknown"``: a text does not say.

    Raises
    ------
    PolynomialError
        When the text is not in that format, lacks some of the entries that it declares, has entries that are
        no numbers, or has several lists and no system is given to tell solutions from endpoints.
    """
    _check_format(format)
    names = system.unknowns if system is not None else None if unknowns is None else tuple(unknowns)
    if format == "phc":
        candidates, order = _phc_candidates(text, names, several=system is not None)
        names = order
    else:
        candidates = _plain_candidates(text)
        if names is not None and len(candidates) and candidates.shape[1] != len(names):
            raise PolynomialError(
                f"the solutions have {candidates.shape[1]} coordinates; the unknowns are {', '.join(names)}."
            )
        if len(candidates) == 0:
            candidates = np.zeros((0, len(names or ())), dtype=np.complex128)
    if system is None:
        return Solutions(candidates, evidence="Read from a text, as they stand there.")
    refined = refine(system, candidates)
    return Solutions(
        refined.points,
        refined.residuals,
        evidence="Read from a text and polished with Newton's method.",
        statistics={"read": len(candidates), **refined.counts},
    )


def _phc_candidates(
    text: str, names: tuple[str, ...] | None, *, several: bool
) -> tuple[NDArray[np.complex128], tuple[str, ...]]:
    lists = phc_lists(text)
    if not lists:
        raise PolynomialError(
            f"there is no list titled 'THE SOLUTIONS' in {_shown(text)}: the text is not in PHCpack's format, or "
            f"the program found none."
        )
    if len(lists) > 1 and not several:
        raise PolynomialError(
            f"the text has {len(lists)} lists of solutions, some of endpoints that failed; give the system that "
            f"they should solve."
        )
    for number, found in enumerate(lists, 1):
        if len(found) != found.declared:
            raise PolynomialError(
                f"list {number} declares {found.declared} solutions and has {len(found)} that are whole: the "
                f"text is cut off or damaged."
            )
        if not several and not found.complete:
            raise PolynomialError(f"list {number} has coordinates that are no numbers (NaN, Inf).")
    if names is None:
        names = next((found.unknowns for found in lists if len(found)), ())
    return np.concatenate([found.ordered(names) for found in lists]), names


def _plain_candidates(text: str) -> NDArray[np.complex128]:
    """Read a count, then for every solution a block of lines ``real imaginary``; shape (n, N)."""
    lines = enumerate(text.splitlines(), 1)
    declared = None
    for number, line in lines:
        if line.strip():
            if not re.fullmatch(r"\s*\d{1,12}\s*", line):
                raise PolynomialError(f"line {number} should be the number of solutions, not {_shown(line)}.")
            declared = int(line)
            break
    if declared is None:
        raise PolynomialError("the text is empty; it should begin with the number of solutions.")
    blocks: list[list[complex]] = [[]]
    for number, line in lines:
        fields = line.replace(";", " ").split()
        if not fields:
            if blocks[-1]:
                blocks.append([])
            continue
        values = [_number(field) for field in fields]
        if len(values) != 2 or any(map(math.isnan, values)):
            raise PolynomialError(
                f"line {number} should be a real and an imaginary part, not {_shown(line)}."
            )
        blocks[-1].append(complex(*values))
    if not blocks[-1]:
        blocks.pop()
    if len(blocks) != declared:
        raise PolynomialError(
            f"the text declares {declared} solutions and has {len(blocks)}: it is cut off or damaged."
        )
    lengths = {len(block) for block in blocks}
    if len(lengths) > 1:
        raise PolynomialError(f"the solutions have different numbers of coordinates: {sorted(lengths)}.")
    return np.array(blocks, dtype=np.complex128).reshape(len(blocks), lengths.pop() if lengths else 0)


# ---------------------------------------------------------------------------------------------------------
# Systems
# ---------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z_]\w*")
#: Numbers first, so that the e of 1e-5 is no name.
_WORD = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_]\w*")


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        if _NAME.fullmatch(match[0]):
            yield match[0]


def _renamed(text: str, names: dict[str, str]) -> str:
    return _WORD.sub(lambda match: names.get(match[0], match[0]), text)


def read_system(text: str, format: Format) -> PolynomialSystem:
    """Read a square system in the format of another program.

    ``"phc"``: the number of polynomials, then the polynomials, each ended by a semicolon; unknowns in the order
    in which they first occur; solutions that follow are ignored. ``"bertini"``: ``variable_group``, ``function``
    and the definitions, constants and subfunctions included. ``"hc"``: ``@var`` and one ``System([...])`` with
    every product written out.

    Raises
    ------
    PolynomialError
        When the text is not in that format, or uses something that no square system of polynomials has
        (parameters, projective variable groups, path variables).

    Examples
    --------
    >>> circle = PolynomialSystem(["x^2 + y^2 - 1", "x - y"], ["x", "y"])
    >>> read_system(circle.to_text("bertini"), "bertini") == circle
    True
    """
    _check_format(format)
    return {"phc": _read_phc, "bertini": _read_bertini, "hc": _read_hc}[format](text)


def _read_phc(text: str) -> PolynomialSystem:
    first, _, rest = text.lstrip().partition("\n")
    size = re.fullmatch(r"\s*(\d{1,9})(?:\s+(\d{1,9}))?\s*", first)
    if size is None:
        raise PolynomialError(f"the first line should be the number of polynomials, not {_shown(first)}.")
    count = int(size[1])
    polynomials = rest.split(";", count)
    if len(polynomials) <= count:
        raise PolynomialError(
            f"{count} polynomials are declared and {len(polynomials) - 1} end with a semicolon."
        )
    texts = [" ".join(polynomial.split()) for polynomial in polynomials[:count]]
    names = dict.fromkeys(word for each in texts for word in _words(each) if word not in ("i", "I"))
    return PolynomialSystem([_renamed(each, {"i": "I"}) for each in texts], tuple(names))


def _read_bertini(text: str) -> PolynomialSystem:
    text = re.sub(r"%[^\n]*", "", text)
    section = re.search(r"\bINPUT\b(.*?)\bEND\s*;", text, re.DOTALL)
    unknowns: list[str] = []
    functions: list[str] = []
    definitions: dict[str, str] = {}
    for statement in (section[1] if section else text).split(";"):
        statement = " ".join(statement.split())
        if not statement:
            continue
        declaration = re.fullmatch(r"([a-z_]+)\s+([^=]*)", statement)
        name, equals, value = statement.partition("=")
        if declaration:
            kind, listed = declaration[1], [each.strip() for each in declaration[2].split(",")]
            if kind in ("variable_group", "variable"):
                unknowns += listed
            elif kind == "function":
                functions += listed
            elif kind != "constant":
                raise PolynomialError(f"{_shown(statement)}: {kind} has no place in a square affine system.")
        elif equals:
            # Inserted where it is used, so that constants and subfunctions disappear.
            definitions[name.strip()] = "(" + _renamed(value.strip(), definitions) + ")"
        else:
            raise PolynomialError(
                f"{_shown(statement)} is neither a declaration nor a definition of Bertini."
            )
    missing = [name for name in functions if name not in definitions]
    if missing or not functions:
        raise PolynomialError(
            f"no definition of {', '.join(missing)}." if missing else "the text declares no function."
        )
    return PolynomialSystem([definitions[name][1:-1] for name in functions], unknowns)


def _read_hc(text: str) -> PolynomialSystem:
    text = re.sub(r"#[^\n]*", "", text)
    unknowns = [name for line in re.findall(r"@var([^\n;]*)", text) for name in line.split()]
    wrong = [name for name in unknowns if not _NAME.fullmatch(name)]
    if wrong:
        raise PolynomialError(f"@var {wrong[0]}: only plain names are read; write the unknowns one by one.")
    system = re.search(r"System\s*\(\s*\[(.*?)\]\s*([;,][^)]*(?:\[[^\]]*\])?[^)]*)?\)", text, re.DOTALL)
    if system is None:
        raise PolynomialError(f"there is no System([...]) in {_shown(text)}.")
    options = system[2] or ""
    if "parameters" in options:
        raise PolynomialError(
            "the system has parameters; give them values in Julia first, or write a family."
        )
    ordered = re.search(r"variables\s*=\s*\[([^\]]*)\]", options)
    if ordered:
        unknowns = [name.strip() for name in ordered[1].split(",") if name.strip()]
    # Julia's fractions are written with two strokes.
    equations = [" ".join(part.replace("//", "/").split()) for part in re.split(r"[,;\n]", system[1])]
    return PolynomialSystem([_renamed(each, {"im": "I"}) for each in equations if each], unknowns)
