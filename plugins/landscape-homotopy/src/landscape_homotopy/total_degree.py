"""All isolated solutions of one system, from as many paths as the product of the degrees."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from landscape.errors import SolverError
from landscape.interfaces import Solver
from landscape.randomness import numpy_generator
from landscape.systems import ParametricFamily, PolynomialFamily, PolynomialSystem, Solutions
from landscape.validators import at_least, of_type
from landscape_homotopy.inputs import checked_parameters, checked_system
from landscape_homotopy.paths import INFINITE, SINGULAR, Ends, follow, gathered, proved
from landscape_homotopy.scaling import Scaled, scaled
from landscape_homotopy.tracker import LOST, REGULAR, polish

if TYPE_CHECKING:
    import torch

__all__ = ["TotalDegree", "total_degree_ends"]

_log = logging.getLogger("landscape")

Complex = NDArray[np.complex128]

#: Paths followed at once have at most this many Jacobian entries together: 32 MB.
_JACOBIAN_ENTRIES = 2_000_000


#: An end whose homogenising coordinate is smaller than this, beside the largest, is at infinity; ends that are
#: regular are known to about 1e-14, singular ones to about 1e-8. Of a path without an end nothing is concluded from
#: how near it came: simple solutions may be a million times as far out as the coefficients are large.
_AT_INFINITY = {REGULAR: 1e-10, SINGULAR: 1e-7}
#: A path is said to go to infinity only if a finite end is excluded so many times farther out than the coefficients
#: of the equations, in the units that suit them, are different from each other. For one unknown all ends are within
#: twice that (Fujiwara's bound); for more there is no such bound, and this is a rule of thumb.
_MARGIN = 10.0
#: Where that leaves paths in doubt, all are followed once more in larger units: so many times larger than would do, and
#: no more than this altogether, lest the solutions that are not far out be too near to each other.
_SPARE, _LARGEST_UNITS = 8.0, 2.0**10


@frozen(eq=False)
class _Line:
    """a G(z) + b F(z) in homogeneous coordinates (z_1, ..., z_N, z_0), with the parameters (a, b, patch).

    G_i = (U z)_i^d_i - c_i z_0^d_i, U a unitary matrix of size N. The last equation, patch . z = 1, picks one
    representative of every point but those on a hyperplane, so that paths to infinity end at ordinary points with
    z_0 = 0.
    """

    target: PolynomialSystem
    degrees: NDArray[np.int64]
    constants: Complex
    rotation: Complex

    def value(self, z: Complex, p: Complex) -> Complex:
        value = p[:, 1:2] * self.target.value(z)
        turned = z[:, :-1] @ self.rotation.T
        value[:, :-1] += p[:, :1] * (turned**self.degrees - self.constants * z[:, -1:] ** self.degrees)
        value[:, -1] = (z * p[:, 2:]).sum(axis=1) - 1.0
        return np.asarray(value)

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        jacobian = p[:, 1, None, None] * self.target.jacobian(z)
        turned = z[:, :-1] @ self.rotation.T
        lowered = p[:, :1] * self.degrees
        jacobian[:, :-1, :-1] += (lowered * turned ** (self.degrees - 1))[:, :, None] * self.rotation
        jacobian[:, :-1, -1] -= lowered * self.constants * z[:, -1:] ** (self.degrees - 1)
        jacobian[:, -1] = p[:, 2:]
        return np.asarray(jacobian)

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        return self.value(z, p), self.jacobian(z, p)

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        derivative = self.value(z, dp)
        derivative[:, -1] += 1.0
        return derivative

    def centred(self, z: Complex, p: Complex) -> Complex:
        """Return p with the patches in which points in the direction of z are shortest."""
        return np.concatenate([p[:, :2], z.conj() / (np.abs(z) ** 2).sum(axis=1, keepdims=True)], axis=1)

    def onto(self, z: Complex, p: Complex) -> Complex:
        """Return the representatives of z in the patches of p."""
        return np.asarray(z / (z * p[:, 2:]).sum(axis=1, keepdims=True))

    def start(self, patch: Complex) -> Complex:
        """Return all solutions of G on a patch, shape (product of the degrees, N + 1)."""
        n = len(self.degrees)
        roots = [
            complex(c) ** (1 / d) * np.exp(2j * np.pi * np.arange(d) / d)
            for c, d in zip(self.constants, self.degrees, strict=True)
        ]
        grid = np.stack(np.meshgrid(*roots, indexing="ij"), axis=-1).reshape(-1, n)
        # U^-1 is the conjugate of its transpose.
        z = np.concatenate([grid @ self.rotation.conj(), np.ones((len(grid), 1))], axis=1)
        return np.asarray(z / (z @ patch)[:, None])


@frozen(eq=False)
class _Fixed:
    """One system, for Newton's method."""

    target: PolynomialSystem

    def jacobian(self, z: Complex, p: Complex) -> Complex:
        return self.target.jacobian(z)

    def value_and_jacobian(self, z: Complex, p: Complex) -> tuple[Complex, Complex]:
        return self.target.value(z), self.target.jacobian(z)

    def parameter_derivative(self, z: Complex, p: Complex, dp: Complex) -> Complex:
        return np.zeros_like(z)


def _line(system: PolynomialSystem, rng: np.random.Generator) -> _Line:
    degrees = np.array(system.degrees, dtype=np.int64)
    n = len(degrees)
    homogenising = "z0"
    while homogenising in system.unknowns:
        homogenising += "_"
    rows: list[dict[tuple[int, ...], complex]] = []
    for f, d in zip(system.monomials, degrees, strict=True):
        # Largest entry one, so that no equation outweighs its start.
        scale = max(abs(complex(c)) for c in f.values())
        rows.append({(*e, int(d) - sum(e)): c / scale for e, c in f.items()})
    # Stands for the patch, which does not take part in the homotopy.
    rows.append({(0,) * n + (1,): 1.0})
    homogeneous = PolynomialSystem.from_monomials(rows, [*system.unknowns, homogenising])
    rotation = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0]
    return _Line(homogeneous, degrees, np.exp(2j * np.pi * rng.random(n)), rotation)


def total_degree_ends(system: PolynomialSystem, rng: np.random.Generator) -> Ends:
    """Follow the solutions of (U z)_i^d_i = c_i to the ends of their paths at `system`.

    Where it stays in doubt whether paths go to infinity or to solutions far out, all are followed again in units in
    which these would be nearer. If that accounts for every path it is returned, and the first ends otherwise.
    """
    units = scaled(system)
    first, short = _ends(units, rng, 1.0)
    if short:
        outward = 2.0 ** float(np.ceil(np.log2(_SPARE * short)))
        again, _ = _ends(units, rng, min(outward, _LARGEST_UNITS))
        if not (again.outcome == LOST).any():
            return again
    return first


def _ends(units: Scaled, rng: np.random.Generator, outward: float) -> tuple[Ends, float]:
    """Return the ends in units that are larger than the given ones, and by what factor these fell short.

    That is zero unless there are paths of which it stays in doubt whether they go to infinity or far out.

    The c_i and the factor of (1 - t) gamma G + t F are random complex numbers of modulus one, so that for almost
    all of them paths meet nowhere before t = 1 (Sommese and Wampler 2005, theorem 8.4.1). So it is without the random
    unitary matrix U; but then the ends on a surface of solutions can all be special points of it, at infinity.
    """
    n = len(units.system.unknowns)
    patch = np.exp(2j * np.pi * rng.random(n + 1))
    line = _line(units.system if outward == 1.0 else units.larger(outward), rng)
    begin = np.array([np.exp(2j * np.pi * rng.random()), 0.0, *patch])
    end = np.array([0.0, 1.0, *patch])
    start = line.start(patch)
    chunk = max(1, _JACOBIAN_ENTRIES // (n + 1) ** 2)
    found = []
    for first in range(0, len(start), chunk):
        some = start[first : first + chunk]
        here, there = np.tile(begin, (len(some), 1)), np.tile(end, (len(some), 1))
        none = np.zeros(len(some), dtype=np.int64)
        found.append(follow(line, some, here, there, none, projective=line))
        _log.info("total degree: %d of %d paths", first + len(some), len(start))
    points, outcome, winding, residuals, retried, reach = (
        np.concatenate([getattr(ends, name) for ends in found])
        for name in ("points", "outcome", "winding", "residuals", "retried", "reach")
    )
    for kind, smallest in _AT_INFINITY.items():
        which = np.flatnonzero(outcome == kind)
        limit = np.fmax(smallest, 10 * residuals[which]) if kind == SINGULAR else smallest
        sizes = np.abs(points[which]).max(axis=1, initial=0.0)
        near = np.abs(points[which, -1]) < limit * sizes
        outcome[which[near]] = INFINITE
        reach[which[near]] = np.broadcast_to(1.0 / limit, len(which))[near]
    reach *= outward
    unsure = (outcome == INFINITE) & (reach < _MARGIN * units.spread)
    outcome[unsure] = LOST
    short = float((_MARGIN * units.spread / np.maximum(reach[unsure], 1.0)).max(initial=0.0))
    finite = (outcome == REGULAR) | (outcome == SINGULAR)
    affine = np.zeros((len(points), n), dtype=np.complex128)
    affine[finite] = points[finite, :-1] / points[finite, -1:] * outward
    which = np.flatnonzero(outcome == REGULAR)
    affine[which], residuals[which], _ = polish(
        _Fixed(units.system), affine[which], np.zeros((len(which), 0), dtype=np.complex128)
    )
    return Ends(affine * units.units, outcome, winding, residuals, retried, reach), short


@frozen
class TotalDegree(Solver):
    """All isolated solutions of one system, multiple ones included, from a start system of the same degrees.

    By Bezout's theorem a system has at most as many isolated solutions as the product of its degrees, counted
    with their multiplicities, and each is the end of that many of the paths that lead here from the solutions
    of z_i^d_i = c_i (Sommese and Wampler, The Numerical Solution of Systems of Polynomials, 2005, theorem
    8.4.1). The other paths go to infinity, or end on curves of solutions; what each did is counted. An endgame
    finds singular ends, and a local test whether they are isolated, and their multiplicity.

    Systems with infinitely many solutions are refused. Every curve or surface of solutions is the end of at least as
    many paths as its degree when they come from a generic system of the same degrees (Fulton, Intersection Theory,
    1998, theorem 12.3), so that it goes unnoticed only if all of these are lost. That powers of random linear forms,
    with which paths begin here, are generic enough is not proved.

    Nothing is assumed of the system but that it is square, and the members of a family are solved one by one.
    For many members of a family that has fewer solutions than its degrees allow, :class:`Monodromy` follows
    only as many paths as there are solutions.

    Attributes
    ----------
    most_paths
        Larger products of degrees are refused. A path of four unknowns takes about a millisecond.
    certified
        Prove of every regular solution that it exists, differs from all others, and is real or is not, in ball
        arithmetic: ``Solutions.certificates``. Where they are as many as the product of the degrees, the set is
        proved complete.
    leave_out_curves
        Return the isolated solutions of systems that have curves or surfaces of solutions besides, and count in
        ``statistics["curves"]`` how many paths ended there, where such systems are refused otherwise.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Sommese, Wampler: The Numerical Solution of Systems of Polynomials Arising in Engineering and Science. "
        "World Scientific (2005)",
    )

    most_paths: int = field(default=100_000, validator=at_least(1))
    certified: bool = field(default=False, validator=of_type(bool))
    leave_out_curves: bool = field(default=False, validator=of_type(bool), kw_only=True)

    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Find the isolated solutions of one system.

        Raises
        ------
        SolverError
            When there are more than `most_paths` paths to follow, or infinitely many solutions.
        """
        solutions = self._solve(checked_system(system), generator)
        if self.certified:
            alone = PolynomialFamily(system.equations, system.unknowns, ())
            return proved(alone, np.zeros(0), solutions)
        return solutions

    def solve_family(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members with the given parameters (samples, M) one after another.

        Raises
        ------
        PolynomialError
            At once when `parameters` are no finite numbers, or have another shape.
        SolverError
            At once when generic members need more than `most_paths` paths; on the way, at a member with infinitely
            many solutions.
        """
        targets = checked_parameters(family, parameters)
        self._check(family.bezout_number())
        return self._members(family, targets, generator)

    def _members(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        for row in parameters:
            solutions = evolve(self._solve(family.system(row), generator, row, family), parameters=row)
            yield proved(family, row, solutions) if self.certified else solutions

    def _check(self, number: int) -> None:
        if number > self.most_paths:
            raise SolverError(
                f"the product of the degrees is {number}, and as many paths would have to be followed; raise "
                f"most_paths={self.most_paths}, or use Monodromy, which follows as many as there are solutions."
            )

    def _solve(
        self,
        system: PolynomialSystem,
        generator: torch.Generator,
        parameters: NDArray[np.generic] | None = None,
        family: ParametricFamily | None = None,
    ) -> Solutions:
        self._check(system.bezout_number)
        rng = numpy_generator(generator)
        if not system.unknowns:
            return Solutions(
                np.zeros((1, 0)), np.zeros(1), completeness="proved", evidence="There are no unknowns."
            )
        if system.bezout_number == 0:
            return Solutions(
                np.zeros((0, len(system.unknowns)), dtype=np.complex128),
                completeness="proved",
                evidence="An equation is a constant other than zero, so that there are no solutions.",
            )
        return gathered(
            lambda: system,
            total_degree_ends(system, rng),
            parameters=parameters,
            leave_out_curves=self.leave_out_curves,
            family=family,
        )
