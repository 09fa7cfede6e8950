"""Families of polynomial systems that depend on parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.errors import PolynomialError
from landscape.systems.symmetry import SignGroup

if TYPE_CHECKING:
    from landscape.systems.polynomial import PolynomialFamily, PolynomialSystem

__all__ = ["ParametricFamily", "Subfamily"]


@frozen
class Subfamily:
    """The part of a family whose unknowns are zero outside a subset.

    Attributes
    ----------
    family
        The family that remains for the other unknowns. Equal parts of a family (sub-networks of equal shape)
        have equal families here, so that a solver studies each only once.
    unknowns
        Which unknowns of the whole family the unknowns of `family` are, in their order.
    parameters
        Which parameters of the whole family the parameters of `family` are, in their order.
    """

    family: ParametricFamily
    unknowns: tuple[int, ...]
    parameters: tuple[int, ...]


class ParametricFamily(ABC):
    """A square polynomial system F(z; p) = 0 in N unknowns z with M parameters p.

    Everything is batched: z has shape (B, N) and p has shape (B, M), complex128 or float64. Implementations
    are frozen attrs classes; equal ones are the same family.
    """

    @property
    @abstractmethod
    def unknown_names(self) -> tuple[str, ...]:
        """Names of the N unknowns."""

    @property
    def unknown_count(self) -> int:
        """N; override where there may be too many to name, so that they are refused at once."""
        return len(self.unknown_names)

    @property
    @abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the M parameters."""

    @abstractmethod
    def value(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return F(z; p), shape (B, N)."""

    @abstractmethod
    def jacobian(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return dF/dz, shape (B, N, N); entry (b, i, j) is dF_i/dz_j."""

    @abstractmethod
    def parameter_derivative(
        self, z: NDArray[np.complex128], p: NDArray[np.complex128], dp: NDArray[np.complex128]
    ) -> NDArray[np.complex128]:
        """Return the derivative of F along `dp`, sum_k dF/dp_k dp_k, shape (B, N); `dp` is (B, M)."""

    def value_and_jacobian(
        self, z: NDArray[np.complex128], p: NDArray[np.complex128]
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Return both; override where they share work."""
        return self.value(z, p), self.jacobian(z, p)

    @abstractmethod
    def system(self, p: NDArray[np.complex128] | NDArray[np.float64]) -> PolynomialSystem:
        """Return the member with parameters `p` of shape (M,), written out in monomials."""

    def expanded(self) -> PolynomialFamily:
        """Return the whole family written out in monomials of unknowns and parameters.

        Solvers that compute exactly need it: the coefficients of :meth:`system` are rounded.

        Raises
        ------
        PolynomialError
            By default, for a family that is not known in this way.
        """
        raise PolynomialError(
            f"{type(self).__name__} is not known as polynomials in its parameters; solve its members one by one."
        )

    @abstractmethod
    def start_pair(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Return (z, p) of shapes (N,) and (M,) with F(z; p) = 0, both complex and otherwise generic.

        Raises
        ------
        PolynomialError
            When no such pair can be had by linear algebra.
        """

    @abstractmethod
    def sample(self, n: int, seed: int) -> NDArray[np.float64]:
        """Return n real parameter vectors, shape (n, M); a longer sample begins with the shorter one."""

    def sign_group(self) -> SignGroup:
        """Return sign changes of the unknowns that map solutions to solutions for every p."""
        return SignGroup([], len(self.unknown_names))

    def subfamilies(self) -> tuple[Subfamily, ...]:
        """Return the zero patterns that isolated solutions can have for generic parameters.

        For generic p every isolated solution has exactly one pattern of zero coordinates; what remains are
        solutions without zero coordinates (in the torus) of the subfamily of that pattern. The default says
        that solutions have no zero coordinates.
        """
        return (
            Subfamily(self, tuple(range(len(self.unknown_names))), tuple(range(len(self.parameter_names)))),
        )

    @property
    def start_pairs_suffice(self) -> bool:
        """Whether start pairs and loops of parameters lead to every regular solution of generic members.

        True promises two things. First, :meth:`subfamilies` names every zero pattern that a regular solution
        of a generic member has. Second, for each of them the pairs (z, p) without zero coordinates, over an
        open dense set of parameters, form an irreducible variety of which :meth:`start_pair` draws a generic
        point. Then either the Jacobian is regular at a generic start pair and loops of parameters carry its
        z to every other solution (monodromy is transitive exactly on irreducible varieties), or it is
        singular and generic members have no regular solution of that pattern.

        Neither follows from a regular start pair alone: pairs on another component of the variety, over
        which the equations for the parameters lose rank, are never drawn and never reached. The default
        therefore is False; solvers then take another way, which costs more.
        """
        return False

    @property
    def has_objective(self) -> bool:
        """Whether F is the gradient of a function of z, so that a solution has a value and an index."""
        return False

    def objective_value(self, z: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the function whose gradient F is, at real z and p, shape (B,).

        Raises
        ------
        PolynomialError
            For a family that is not the gradient of anything.
        """
        raise PolynomialError(
            f"{type(self).__name__} is not known to be a gradient; build it with PolynomialFamily.gradient."
        )

    def bounds(self) -> Mapping[str, float]:
        """Return bounds on the number of isolated solutions and expected counts, by name.

        ``CBB``, the classical Bezout bound (the product of the degrees), is always among them.
        """
        return {"CBB": float(self.bezout_number())}

    def description(self) -> Mapping[str, int | str]:
        """Return what tells this family from others of its kind, by short names, for tables; nothing by default."""
        return {}

    def conjectured_counts(self) -> Mapping[str, int]:
        """Return what formulas say that were observed and are not proved, by the columns of a summary.

        ``N_C`` and ``N_C_torus``, for generic members; nothing by default. They are compared with what was found
        and never decide when a search ends.
        """
        return {}

    def degeneracy(self, p: NDArray[np.complex128] | NDArray[np.float64]) -> str:
        """Return why the member with parameters `p`, of shape (M,), has curves of solutions; empty for no reason.

        That none is named proves nothing. Studies refuse members for which one is, before any work.
        """
        return ""

    def written_out(
        self, p: NDArray[np.complex128] | NDArray[np.float64]
    ) -> tuple[PolynomialFamily, NDArray[np.complex128] | NDArray[np.float64]]:
        """Return a family in monomials and parameters of it, the member of which is the one with parameters `p`.

        For arithmetic other than double precision: what is computed from coefficients and parameters of the
        result has no rounding error in it. The default has the coefficients of :meth:`system`, which may be
        rounded; families that can do better override it.
        """
        from landscape.systems.polynomial import PolynomialFamily

        system = self.system(p)
        return PolynomialFamily(system.equations, system.unknowns, ()), np.zeros(0)

    def solution_bound(self) -> int:
        """Return a proved upper bound on the number of isolated complex solutions of any member."""
        return self.bezout_number()

    def solution_bound_reason(self) -> str:
        """Return one sentence that says why :meth:`solution_bound` holds."""
        return "the product of the degrees bounds the number of isolated solutions (Bezout)."

    @abstractmethod
    def bezout_number(self) -> int:
        """Return the product of the degrees in z, for generic parameters."""

    def zero_pattern(self, nonzero: NDArray[np.bool_]) -> str:
        """Write which unknowns are not zero, bool of shape (N,), as text: ``*`` and ``0``."""
        return "".join("*" if flag else "0" for flag in nonzero)
