"""From known solutions of one member of a family to those of other members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from landscape.errors import PolynomialError
from landscape.interfaces import Solver
from landscape.randomness import numpy_generator
from landscape.systems import ParametricFamily, PolynomialSystem, Solutions
from landscape.validators import of_type, optional
from landscape_homotopy.device import checked_for
from landscape_homotopy.free_coefficients import coefficient_family
from landscape_homotopy.inputs import checked_parameters, checked_system
from landscape_homotopy.paths import Ends, follow, gathered, proved
from landscape_homotopy.points import distinct, generic, is_regular
from landscape_homotopy.tracker import REGULAR, polish

if TYPE_CHECKING:
    import torch

__all__ = ["ParameterHomotopy"]

Complex = NDArray[np.complex128]

#: Paths followed at once have at most this many Jacobian entries together: 32 MB.
_JACOBIAN_ENTRIES = 2_000_000
#: Given solutions may be rounded; farther than this from a true one, relative to their size, they are refused.
_GIVEN = 1e-4


def _numbers(values: Any) -> tuple[tuple[float, float], ...]:
    """Return complex numbers as pairs of real ones, which a configuration file can hold."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biufc":
        raise PolynomialError(f"numbers are needed for start parameters and solutions, got {values!r:.80}.")
    if array.ndim == 0:
        raise PolynomialError(
            f"start parameters, and each of the start solutions, are sequences of numbers, got the number {values}; "
            f"write [{values}] for one coordinate."
        )
    if np.iscomplexobj(array) or array.ndim == 1:
        array = np.stack([array.real, array.imag], axis=-1)
    if array.size == 0:
        return ()
    if array.ndim != 2 or array.shape[1] != 2:
        raise PolynomialError(f"complex numbers are given as such or as pairs, got shape {array.shape}.")
    return tuple((float(real), float(imaginary)) for real, imaginary in array)


def _points(values: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    rows = values.points if isinstance(values, Solutions) else values
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise PolynomialError(
            f"start solutions are points of shape (n, N), or Solutions of a solver, got {rows!r:.80}."
        )
    return tuple(_numbers(row) for row in rows)


def _complex(pairs: Any) -> Complex:
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return np.asarray(array[:, 0] + 1j * array[:, 1])


@frozen
class ParameterHomotopy(Solver):
    """Follow given solutions of one member of a family to other members.

    When the given solutions are all isolated solutions of a generic member, the ends of their paths are all
    isolated solutions of any other member, multiple ones with as many paths as their multiplicity (Sommese and
    Wampler 2005, theorem 7.1.4). Whether they are all is for the caller to know: `completeness` is never better
    than ``"unknown"`` here, and the evidence says how many arrived.

    Attributes
    ----------
    parameters
        Of the member whose solutions are known, shape (M,): complex or real numbers, or pairs of real and
        imaginary part. Where all are real the paths make a detour over a random complex member, since real
        members with solutions that meet can lie on the straight way.
    solutions
        Regular solutions of that member, shape (n, N), given likewise, or as the Solutions that a solver returned.
    certified
        Prove of every regular solution that it exists, differs from all others, and is real or is not, in ball
        arithmetic: ``Solutions.certificates``.
    leave_out_curves
        Return the isolated solutions of members that have curves or surfaces of solutions besides, and count in
        ``statistics["curves"]`` how many paths ended there; otherwise a path that ends there is an error.
    device
        Where paths to regular ends are followed with torch, all of a batch at once, as ``"cuda"``; None for the CPU
        without torch, which is the faster one of the two for few paths of small families. What is followed again, and
        endgames, stay on the CPU.

    Examples
    --------
    >>> import landscape as ls
    >>> from landscape.randomness import torch_generator
    >>> family = ls.PolynomialFamily(["x^2 + b*x + c"], ["x"], ["b", "c"])
    >>> solver = ParameterHomotopy(parameters=[0.0, -1.0], solutions=[[1.0], [-1.0]])
    >>> (found,) = solver.solve_family(family, [[-5.0, 6.0]], torch_generator(0))
    >>> sorted(found.points[:, 0].real.round(12).tolist())
    [2.0, 3.0]
    """

    references: ClassVar[tuple[str, ...]] = (
        "Morgan, Sommese: Coefficient-parameter polynomial continuation. Appl. Math. Comput. 29 (1989) 123-160",
    )

    parameters: tuple[tuple[float, float], ...] = field(converter=_numbers)
    solutions: tuple[tuple[tuple[float, float], ...], ...] = field(converter=_points)
    certified: bool = field(default=False, validator=of_type(bool), kw_only=True)
    leave_out_curves: bool = field(default=False, validator=of_type(bool), kw_only=True)
    device: str | None = field(default=None, validator=optional(of_type(str)), kw_only=True)

    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Solve one system from another one with the same monomials.

        The parameters of the start member are its coefficients here, in the order in which the monomials stand in
        the equations of `system`, equation by equation.

        Raises
        ------
        PolynomialError
            As :meth:`solve_family` does.
        """
        family, coefficients = coefficient_family(checked_system(system))
        (solutions,) = self.solve_family(family, coefficients[None], generator)
        return evolve(solutions, parameters=None)

    def solve_family(
        self, family: ParametricFamily, parameters: NDArray[np.generic], generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members with the given parameters (samples, M), yielding them in their order.

        Raises
        ------
        PolynomialError
            At once when shapes do not fit, numbers are not finite, or the given points are not distinct regular
            solutions of their member.
        SolverError
            At once when there is no such device, or the family is no circuit that one could compute. On the way, at a
            member where a path ends on a curve or surface of solutions.
        """
        targets = checked_parameters(family, parameters)
        checked_for(self.device, family)
        origin, points = self._checked(family)
        return self._solved(family, origin, points, targets, numpy_generator(generator))

    def _checked(self, family: ParametricFamily) -> tuple[Complex, Complex]:
        """Return the start parameters (M,) and the start solutions (n, N), polished."""
        n, m = len(family.unknown_names), len(family.parameter_names)
        origin = _complex(self.parameters)
        if len(origin) != m:
            raise PolynomialError(f"the family has {m} parameters, the start member {len(origin)}.")
        for number, row in enumerate(self.solutions, 1):
            if len(row) != n:
                raise PolynomialError(
                    f"the family has {n} unknowns, start solution {number} has {len(row)} coordinates."
                )
        points = np.array([_complex(row) for row in self.solutions]).reshape(-1, n)
        if not (np.isfinite(origin).all() and np.isfinite(points).all()):
            raise PolynomialError("start parameters and solutions must be finite; some are NaN or infinite.")
        if len(points) == 0:
            raise PolynomialError("no start solutions are given, so there is nothing to follow.")
        refined, correction, _ = polish(family, points, np.tile(origin, (len(points), 1)), iterations=10)
        size = np.maximum(np.abs(points).max(axis=1, initial=0.0), 1.0)
        moved = np.abs(refined - points).max(axis=1, initial=0.0)
        wrong = np.flatnonzero(
            ~((correction < 1e-9) & (moved < _GIVEN * size)) | ~is_regular(family, refined, origin)
        )
        if wrong.size:
            raise PolynomialError(
                f"start solution {wrong[0] + 1} is no regular solution of the start member: Newton's method moves "
                f"it by {moved[wrong[0]]:.1e}. Give solutions to at least four digits, singular ones left out."
            )
        alone = distinct(np.zeros(len(points), dtype=np.int64), refined)
        if not alone.all():
            raise PolynomialError(
                f"start solution {int(np.flatnonzero(~alone)[0]) + 1} is given twice; every solution stands once."
            )
        return origin, refined

    def _solved(
        self,
        family: ParametricFamily,
        origin: Complex,
        points: Complex,
        targets: NDArray[np.generic],
        rng: np.random.Generator,
    ) -> Iterator[Solutions]:
        given, n = len(points), points.shape[1]
        lost = retried = 0
        if not origin.imag.any():
            # A complex member has no special position to the real ones.
            corner = generic(rng, len(origin)) * max(1.0, float(np.abs(origin).max(initial=0.0)))
            here, there = np.tile(origin, (given, 1)), np.tile(corner, (given, 1))
            none = np.zeros(given, dtype=np.int64)
            ends = follow(family, points, here, there, none, device=self.device)
            points = ends.points[ends.outcome == REGULAR]
            origin, lost, retried = corner, given - len(points), int(ends.retried.sum())
        said = f"{given} given solutions of one member were followed."
        if retried:
            said += (
                f" {retried} of them were followed again on the way to a generic member, with short steps."
            )
        if lost:
            said += f" {lost} of them did not reach a generic member."
        k = len(points)
        chunk = max(1, _JACOBIAN_ENTRIES // max(1, k * n * n))
        for first in range(0, len(targets), chunk):
            rows = targets[first : first + chunk].astype(np.complex128)
            member = np.repeat(np.arange(len(rows)), k)
            ends = follow(
                family,
                np.tile(points, (len(rows), 1)),
                np.tile(origin, (len(member), 1)),
                rows[member],
                member,
                device=self.device,
            )
            for row in range(len(rows)):
                own = slice(row * k, (row + 1) * k)
                part = Ends(
                    ends.points[own],
                    ends.outcome[own],
                    ends.winding[own],
                    ends.residuals[own],
                    ends.retried[own],
                    ends.reach[own],
                )
                target = targets[first + row]
                solutions = gathered(
                    partial(family.system, target),
                    part,
                    parameters=target,
                    sentences=[said],
                    complete=False,
                    lost=lost,
                    leave_out_curves=self.leave_out_curves,
                    family=family,
                )
                yield proved(family, target, solutions) if self.certified else solutions
