"""The solver Msolve."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import evolve, field, frozen
from flint import acb, arb, fmpz_poly
from numpy.typing import NDArray

from landscape.errors import PolynomialError, SolverError
from landscape.interfaces import Solver
from landscape.programs import read, run
from landscape.randomness import numpy_generator
from landscape.systems import ParametricFamily, PolynomialSystem, Solutions
from landscape.systems.rational import RationalFamily, RationalMonomials, rational_monomials
from landscape.validators import at_least, number
from landscape_msolve.certify import Certifier, precision
from landscape_msolve.program import HOW_TO_INSTALL, Parametrization, find_msolve, input_text, parse_output

if TYPE_CHECKING:
    import torch

__all__ = ["Msolve"]

_DEGREE = re.compile(r"^degree of ideal\s+(\d+)\s*$", re.MULTILINE)
#: Bits at which coordinates are first computed, and at which it is given up.
_FIRST_BITS, _MOST_BITS = 256, 1 << 20
#: Coordinates are known to this many bits, relative to the largest of the point, before they are rounded.
_KNOWN_BITS = 80


@frozen
class Msolve(Solver):
    """All isolated solutions of a system with rational coefficients, by a Groebner basis and exact roots.

    The program msolve computes the degree of the ideal and a rational parametrisation of the solutions: every
    coordinate as a rational function of the roots of one integer polynomial. The roots are isolated with FLINT, the
    coordinates computed in ball arithmetic until they are known to 80 bits, and rounded. What is real and what is
    zero is decided exactly. Krawczyk's test then proves for each solution that it is one, regular, and alone in a
    small box. Multiple solutions, of which it proves nothing, are counted and left out.

    Attributes
    ----------
    threads
        Of msolve.
    time_limit
        Seconds for one system.

    References
    ----------
    Berthomieu, Eder, Safey El Din, msolve: a library for solving polynomial systems, ISSAC 2021, 51-58.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Berthomieu, Eder, Safey El Din: msolve: a library for solving polynomial systems. ISSAC 2021, 51-58",
    )

    threads: int = field(default=1, validator=at_least(1))
    time_limit: float = field(default=600.0, kw_only=True, validator=number(above=0))

    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Find the isolated regular solutions of one system.

        The text of the equations is taken as it stands: ``0.1`` is 1/10
        (:attr:`~landscape.PolynomialSystem.exact`). Where coefficients are rounded results
        of a computation, the solutions are those of the rounded system, which may have more: see
        :class:`landscape.systems.rational.RationalFamily`; :meth:`solve_family` avoids this.

        Returns
        -------
        Solutions
            ``certificates`` for all. Of completeness ``"proved"`` where there are as many as a proved bound allows
            (the product of the degrees; for a family its ``solution_bound()``), else ``"heuristic"``.
            ``statistics``: ``degree`` of the ideal, the number of solutions with multiplicities; ``distinct``
            solutions; of these ``singular`` ones, left out; ``bits`` of the largest coefficient of the
            eliminating polynomial.

        Raises
        ------
        SolverError
            When msolve is not installed, does not end in time, or the system has infinitely many solutions; and
            for coefficients that are not rational.
        """
        program = _program()
        try:
            equations = rational_monomials(system)
        except PolynomialError as error:
            raise _irrational(error) from error
        return self._solve(program, equations, int(numpy_generator(generator).integers(1, 2**30)))

    def solve_family(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members one after another, written out exactly from parameters taken as they are.

        Raises
        ------
        SolverError
            As for :meth:`solve`; at once where msolve is not installed, the family has complex coefficients, or
            a parameter is not real.
        PolynomialError
            At once for a family that is not known as polynomials in its parameters.
        """
        program = _program()
        rows = np.asarray(parameters)
        try:
            exact = RationalFamily(family.expanded())
            if np.iscomplexobj(rows) and rows.imag.any():
                raise PolynomialError("the parameters are not real.")
        except PolynomialError as error:
            raise _irrational(error) from error
        rng = numpy_generator(generator)
        bound = family.solution_bound(), family.solution_bound_reason()

        def members() -> Iterator[Solutions]:
            for row in rows:
                solved = self._solve(program, exact.at(row), int(rng.integers(1, 2**30)), bound)
                yield evolve(solved, parameters=row)

        return members()

    # -- one system ---------------------------------------------------------------------------------------

    def _solve(
        self,
        program: str,
        equations: Sequence[RationalMonomials],
        seed: int,
        bound: tuple[int, str] | None = None,
    ) -> Solutions:
        n = len(equations)
        if n == 0:
            return Solutions(
                np.zeros((1, 0)), np.zeros(1), completeness="proved", evidence="There are no unknowns."
            )
        names = [f"z{k}" for k in range(1, n + 1)]
        answer, printed = self._run(program, input_text(equations, names), seed)
        found = parse_output(answer)
        if found is None:
            return Solutions(
                np.zeros((0, n)),
                completeness="heuristic",
                evidence=f"msolve: the ideal is the whole ring, so there are no solutions. {_LIFTED}",
                statistics={"degree": 0, "distinct": 0, "singular": 0},
            )
        degree = _DEGREE.search(printed)
        distinct = found.eliminating.degree()
        if degree is not None and int(degree[1]) < distinct:
            raise SolverError(f"msolve says degree {degree[1]} of the ideal and gives {distinct} solutions.")
        enclosed, bits = _coordinates(found, names)
        return _certified(equations, enclosed, bits, int(degree[1]) if degree else distinct, found, bound)

    def _run(self, program: str, text: str, seed: int) -> tuple[str, str]:
        """Return what msolve wrote to its output, and what it printed."""
        with tempfile.TemporaryDirectory(prefix="landscape-msolve-") as name:
            folder = Path(name)
            (folder / "in").write_text(text, encoding="ascii")
            command = [program, "-f", "in", "-o", "out", "-P", "2", "-v", "1", "-t", str(self.threads)]
            try:
                ended = run([*command, "--random-seed", str(seed)], folder, self.time_limit)
                if ended.code == 1 and "random-seed" in ended.printed:  # before 0.8 there was no such option
                    ended = run(command, folder, self.time_limit)
            except OSError as error:
                raise SolverError(f"{program} cannot be started: {error.strerror or error}.") from error
            if not ended.well:
                said = ended.printed.strip().splitlines()[-1:]
                raise SolverError(
                    f"msolve {ended}{f': {said[0][:200]!r}' if said else ''}. Raise time_limit (now "
                    f"{self.time_limit:g} s), give parameters with fewer digits, or take a numerical solver."
                )
            return read(folder / "out"), ended.printed


_LIFTED = (
    "It was computed modulo prime numbers and lifted to the rationals, with a check modulo another prime: an unlucky "
    "choice of primes is possible in principle."
)


def _program() -> str:
    program = find_msolve()
    if program is None:
        raise SolverError(f"the program msolve is not installed. {HOW_TO_INSTALL}")
    return program


def _irrational(error: PolynomialError) -> SolverError:
    return SolverError(
        f"Msolve solves systems with rational coefficients only: {error} Take a numerical solver, such as Monodromy."
    )


def _coordinates(found: Parametrization, names: Sequence[str]) -> tuple[list[list[acb]], int]:
    """Return enclosures of the coordinates of all solutions, in the order of `names`, and the bits they took.

    Imaginary parts of real solutions and coordinates that are zero are exactly so.
    """
    w, slope = found.eliminating, found.derivative
    # How many solutions have a coordinate zero: those where numerator and w vanish together.
    zeros = {
        name: w.gcd(numerator).degree() if numerator != 0 else w.degree()
        for name, numerator in zip(found.names, found.numerators, strict=False)
    }
    last = found.names[-1]
    zeros[last] = w.gcd(fmpz_poly([0, 1])).degree()
    bits = _FIRST_BITS
    while bits <= _MOST_BITS:
        with precision(bits):
            rows = []
            for root, _ in w.complex_roots():
                values = {last: root}
                below = slope(root)
                for name, numerator, factor in zip(
                    found.names, found.numerators, found.factors, strict=False
                ):
                    values[name] = -numerator(root) / (below * factor)
                rows.append([values[name] for name in names])
            if _known(rows, [zeros[name] for name in names]):
                return [[acb(0) if value.contains(0) else value for value in row] for row in rows], bits
        bits *= 2
    raise SolverError(
        f"the coordinates of the solutions need more than {_MOST_BITS} bits; take a numerical solver."
    )


def _known(rows: Sequence[Sequence[acb]], zeros: Sequence[int]) -> bool:
    """Return whether enclosures are narrow, and only those of zeros contain zero."""
    limit = arb(2) ** -_KNOWN_BITS
    for row in rows:
        # Where all may be zero the count of zeros decides.
        size = max((value.abs_lower() for value in row), default=arb(1))
        size = size if size > 0 else arb(1)
        if not all(value.is_finite() and value.rad() < limit * size for value in row):
            return False
    return all(sum(row[k].contains(0) for row in rows) == count for k, count in enumerate(zeros))


def _rounded(value: acb) -> complex:
    return complex(float(value.real.mid()), float(value.imag.mid()))


def _certified(
    equations: Sequence[RationalMonomials],
    enclosed: Sequence[Sequence[acb]],
    bits: int,
    degree: int,
    found: Parametrization,
    bound: tuple[int, str] | None,
) -> Solutions:
    """Round the enclosures, and keep those of which Krawczyk's test proves that they are regular solutions."""
    certifier = Certifier(equations)
    points: list[list[complex]] = []
    radii: list[float] = []
    residuals: list[float] = []
    with precision(max(bits, _FIRST_BITS)):
        rounded = [[_rounded(value) for value in row] for row in enclosed]
        sizes = [max(map(abs, point)) for point in rounded]
        # The box of the origin is as small as that of the solution next to it.
        least = min(filter(None, sizes), default=1.0)
        for row, point, own in zip(enclosed, rounded, sizes, strict=True):
            centre = [acb(value.real, value.imag) for value in point]
            error = max((a - b).abs_upper() for a, b in zip(row, centre, strict=True))
            size = own or least
            # From twice the rounding error upwards; at least a bit of the largest coordinate.
            radius = max(float(error) * 2, size * 2.0**-53)
            for _ in range(8):
                if certifier.proves(centre, arb(radius)):
                    points.append(point)
                    radii.append(radius)
                    residuals.append(float(error) / max(size, 1.0))
                    break
                radius *= 16
    n = len(equations)
    distinct = len(enclosed)
    certificates = np.array(radii, dtype=np.float64)
    array = np.array(points, dtype=np.complex128).reshape(len(points), n)
    most, why = bound or (prod(max(map(sum, f)) for f in equations), "the product of the degrees (Bezout).")
    apart = _apart(array, certificates)
    proved = len(points) == most and apart
    sentences = [
        f"msolve: degree {degree} of the ideal, {distinct} distinct solutions.",
        f"Krawczyk's test proved {len(points)} of them regular, alone in boxes of radius {max(radii, default=0):.1e}"
        + (", which are disjoint." if apart else "; some boxes overlap."),
        f"There are at most {most}: {why}" if proved else _LIFTED,
    ]
    left_out = distinct - len(points)
    # Each multiple solution makes the degree exceed their number by one at least.
    simple = left_out > degree - distinct
    if left_out:
        sentences.append(
            f"{left_out} solutions of which nothing could be proved are left out"
            + (
                "; some of them are simple, but so near to others, or of coordinates so different in size, that no box "
                "around rounded coordinates holds one alone."
                if simple
                else ": they are multiple."
            )
        )
    order = np.lexsort([part for column in np.round(array, 9).T[::-1] for part in (column.imag, column.real)])
    return Solutions(
        array[order],
        np.array(residuals, dtype=np.float64)[order],
        certificates=certificates[order],
        completeness="proved" if proved else "unknown" if simple else "heuristic",
        evidence=" ".join(sentences),
        statistics={
            "degree": degree,
            "distinct": distinct,
            "singular": distinct - len(points),
            # A box around real numbers is its own conjugate, and so is the only solution in it.
            "certified_real": int((array.imag == 0).all(axis=1).sum()),
            "bits": int(found.eliminating.height_bits()),
        },
    )


def _apart(points: NDArray[np.complex128], radii: NDArray[np.float64]) -> bool:
    """Return whether no two boxes meet."""
    for k in range(1, len(points)):
        difference = points[:k] - points[k]
        gap = np.maximum(np.abs(difference.real), np.abs(difference.imag)).max(axis=1)
        if (gap <= radii[:k] + radii[k]).any():
            return False
    return True
