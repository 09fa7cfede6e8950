"""Polynomial systems and families given by their monomials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from functools import cached_property, partial
from itertools import combinations
from math import prod
from typing import Any, Literal

import numpy as np
from attrs import field, frozen
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from landscape.errors import PolynomialError
from landscape.systems.distributions import Distribution
from landscape.systems.expressions import (
    ExactMonomials,
    Monomials,
    check_names,
    degree,
    derivative,
    exact,
    format_polynomial,
    in_full,
    parse_exact,
    rounded,
    rounded_polynomial,
    to_text,
)
from landscape.systems.family import ParametricFamily, Subfamily
from landscape.systems.symmetry import SignGroup, kernel_mod_2

__all__ = ["PolynomialFamily", "PolynomialSystem"]

#: Quad-double precision holds 64.
_DIGITS_OF_PHCPACK = 70
#: Zero patterns of a family in monomials are found by trying all 2^N of them.
_MAXIMAL_PATTERN_UNKNOWNS = 16


class _SparseMap:
    """R polynomials in V variables, evaluated together at many points."""

    def __init__(self, polynomials: Sequence[Monomials], variables: int) -> None:
        index: dict[tuple[int, ...], int] = {}
        rows, columns, coefficients = [], [], []
        for row, polynomial in enumerate(polynomials):
            for exponents, coefficient in polynomial.items():
                rows.append(row)
                columns.append(index.setdefault(exponents, len(index)))
                coefficients.append(complex(coefficient))
        #: Exponents of the monomials that occur, shape (T, V).
        self.exponents = np.array(list(index), dtype=np.int64).reshape(len(index), variables)
        self.matrix = csr_array(
            (np.array(coefficients, dtype=np.complex128), (rows, columns)),
            shape=(len(polynomials), len(index)),
        )
        self.uses = [
            (v, np.flatnonzero(self.exponents[:, v]), self.exponents[self.exponents[:, v] > 0, v])
            for v in range(variables)
            if self.exponents[:, v].any()
        ]

    def __call__(self, x: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return the values at `x` of shape (B, V), shape (B, R)."""
        monomials = np.ones((len(self.exponents), len(x)), dtype=np.complex128)
        for variable, which, powers in self.uses:
            column = x[:, variable]
            table = np.empty((int(powers.max()) + 1, len(x)), dtype=np.complex128)
            table[0] = 1
            for k in range(1, len(table)):
                np.multiply(table[k - 1], column, out=table[k])
            monomials[which] *= table[powers]
        return np.ascontiguousarray((self.matrix @ monomials).T)


def _texts(equations: Any) -> tuple[str, ...]:
    if isinstance(equations, str):
        raise PolynomialError(f"equations must be a sequence, got one string: [{equations!r}] is meant?")
    return tuple(to_text(equation) for equation in equations)


def _unknowns(names: Sequence[str]) -> tuple[str, ...]:
    return check_names(tuple(map(str, names)) if not isinstance(names, str) else names, "unknowns")


def _parameters(names: Sequence[str]) -> tuple[str, ...]:
    return check_names(tuple(map(str, names)) if not isinstance(names, str) else names, "parameters")


def _rounded(exact: Sequence[ExactMonomials], texts: Sequence[str]) -> tuple[Monomials, ...]:
    return tuple(rounded_polynomial(f, text) for f, text in zip(exact, texts, strict=True))


def _check_square(equations: Sequence[ExactMonomials], unknowns: Sequence[str]) -> None:
    if len(equations) != len(unknowns):
        raise PolynomialError(
            f"the system is not square: {len(equations)} equations in {len(unknowns)} unknowns "
            f"({', '.join(unknowns)}). Isolated solutions are solved for with as many equations as unknowns."
        )
    for number, equation in enumerate(equations, 1):
        if not equation:
            raise PolynomialError(
                f"equation {number} is identically zero, so no solution is isolated; leave it out together "
                f"with an unknown, or change the parameters that made it vanish."
            )


@frozen(slots=False)
class PolynomialSystem:
    """A square system of polynomial equations f(z) = 0.

    Parameters
    ----------
    equations
        Text such as ``"x^2 + 3*x*y - 1"`` (``^`` or ``**``; complex numbers as ``2.5*I`` or ``2.5j``; nothing
        is evaluated as code) or SymPy expressions. The text means what it says: ``2/3`` is two thirds and ``0.1``
        a tenth (:attr:`exact`). Numbers that are given as floating-point numbers, in SymPy expressions say, are the
        binary fractions that they are.
    unknowns
        Names of the unknowns, in the order of the coordinates.

    Raises
    ------
    PolynomialError
        When there are not as many equations as unknowns, an equation uses an unknown name, is no polynomial,
        or is identically zero.

    Examples
    --------
    >>> circle = PolynomialSystem(["x^2 + y^2 - 1", "x - y"], ["x", "y"])
    >>> circle.bezout_number
    2
    >>> circle.value([[1, 1]]).real
    array([[1., 0.]])
    """

    equations: tuple[str, ...] = field(converter=_texts)
    unknowns: tuple[str, ...] = field(converter=_unknowns)

    def __attrs_post_init__(self) -> None:
        _check_square(self.exact, self.unknowns)

    @classmethod
    def from_monomials(
        cls, monomials: Iterable[Mapping[tuple[int, ...], Any]], unknowns: Sequence[str]
    ) -> PolynomialSystem:
        """Build from ``{exponents: coefficient}``, one mapping per equation.

        Coefficients are taken for exactly what they are: whole numbers, fractions, and floating-point numbers,
        which are binary fractions.
        """
        texts = [format_polynomial(polynomial, unknowns) for polynomial in monomials]
        return cls(texts, unknowns)

    @classmethod
    def gradient(cls, loss: Any, unknowns: Sequence[str]) -> PolynomialSystem:
        """Return the system whose solutions are the critical points of a polynomial `loss`.

        Examples
        --------
        >>> PolynomialSystem.gradient("(x^2 - 1)^2", ["x"]).equations
        ('4*x^3 - 4*x',)
        """
        names = _unknowns(unknowns)
        polynomial = parse_exact(to_text(loss), names)
        return cls.from_monomials([derivative(polynomial, v) for v in range(len(names))], names)

    @cached_property
    def exact(self) -> tuple[ExactMonomials, ...]:
        """The equations as ``{exponents: coefficient}``, nothing rounded: what is proved is proved of these.

        Coefficients are whole numbers, :class:`fractions.Fraction`, or, where they are not real,
        :class:`landscape.systems.expressions.Gaussian`, which has a fraction for each part.
        """
        return tuple(parse_exact(text, self.unknowns) for text in self.equations)

    @cached_property
    def monomials(self) -> tuple[Monomials, ...]:
        """The equations as ``{exponents: coefficient}``, each coefficient rounded once to double precision."""
        return _rounded(self.exact, self.equations)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Total degrees of the equations."""
        return tuple(degree(polynomial) for polynomial in self.monomials)

    @property
    def bezout_number(self) -> int:
        """The product of the degrees: an upper bound on the number of isolated solutions."""
        return prod(self.degrees)

    @cached_property
    def _value(self) -> _SparseMap:
        return _SparseMap(self.monomials, len(self.unknowns))

    @cached_property
    def _jacobian(self) -> _SparseMap:
        n = len(self.unknowns)
        return _SparseMap([derivative(f, v) for f in self.monomials for v in range(n)], n)

    def _points(self, z: ArrayLike) -> NDArray[np.complex128]:
        points = np.asarray(z, dtype=np.complex128)
        if points.ndim != 2 or points.shape[1] != len(self.unknowns):
            raise PolynomialError(
                f"points must have shape (S, {len(self.unknowns)}), got {points.shape}; one point is z[None]."
            )
        return points

    def value(self, z: ArrayLike) -> NDArray[np.complex128]:
        """Return f(z), shape (S, N), at points of shape (S, N)."""
        return self._value(self._points(z))

    def jacobian(self, z: ArrayLike) -> NDArray[np.complex128]:
        """Return the Jacobian, shape (S, N, N), at points of shape (S, N); entry (s, i, j) is df_i/dz_j."""
        points = self._points(z)
        n = len(self.unknowns)
        return self._jacobian(points).reshape(len(points), n, n)

    def to_text(self, format: Literal["hc", "phc", "bertini"]) -> str:
        """Write the system for HomotopyContinuation.jl, PHCpack or Bertini.

        Coefficients are not rounded; only for PHCpack, which misreads very long numbers, those of more than 70 digits
        are, which is more than it computes with.

        Raises
        ------
        PolynomialError
            For another format; for PHCpack when a name begins with i, I, e or E, which it may read as the
            imaginary unit or as part of a number; for HomotopyContinuation.jl when a name is im.
        """
        if format == "hc":
            if "im" in self.unknowns:
                raise PolynomialError("Julia reads the name 'im' as the imaginary unit: rename that unknown.")
            lines = [
                format_polynomial(f, self.unknowns, imaginary="im", number=partial(in_full, division="//"))
                for f in self.exact
            ]
            return (
                "using HomotopyContinuation\n"
                f"@var {' '.join(self.unknowns)}\n"
                "F = System([\n" + "".join(f"    {line},\n" for line in lines) + "]; "
                f"variables = [{', '.join(self.unknowns)}])\n"
            )
        if format == "phc":
            wrong = [name for name in self.unknowns if name[0] in "iIeE"]
            if wrong:
                raise PolynomialError(
                    f"PHCpack may misread the name {wrong[0]!r}: rename unknowns that begin with i or e."
                )
            lines = [
                format_polynomial(f, self.unknowns, imaginary="i", number=_for_phcpack) for f in self.exact
            ]
            if lines and not self._occur_in_order():
                # PHCpack numbers unknowns as they first occur; so all of them do, and cancel, at the beginning.
                lines[0] = " + ".join(f"{name} - {name}" for name in self.unknowns) + f" + {lines[0]}"
            return f"{len(lines)}\n" + "".join(f"{line};\n" for line in lines)
        if format == "bertini":
            lines = [format_polynomial(f, self.unknowns) for f in self.exact]
            names = [f"f{number}" for number in range(1, len(lines) + 1)]
            clash = sorted(set(names) & set(self.unknowns))
            if clash:
                names = [f"equation{number}" for number in range(1, len(lines) + 1)]
            body = "".join(f"{name} = {line};\n" for name, line in zip(names, lines, strict=True))
            return (
                "CONFIG\nEND;\nINPUT\n"
                f"variable_group {', '.join(self.unknowns)};\nfunction {', '.join(names)};\n{body}END;\n"
            )
        raise PolynomialError(f"unknown format {format!r}; systems are written as 'hc', 'phc' or 'bertini'.")

    def _occur_in_order(self) -> bool:
        """Return whether all unknowns occur in the monomials as written, in their order."""
        first: dict[int, None] = {}
        for polynomial in self.monomials:
            for exponents in polynomial:
                first |= dict.fromkeys(k for k, power in enumerate(exponents) if power)
        return list(first) == list(range(len(self.unknowns)))


def _for_phcpack(value: int | Fraction) -> str:
    """Write the modulus of a number such that PHCpack 2.4.86 reads it to the precision that it computes with.

    Of whole numbers of 25 digits, above or below a stroke, it reads another magnitude, and decimals of 300 digits it
    reads wrongly in its higher precisions; with decimals of 110 digits all is well.
    """
    above, below = abs(value.numerator), value.denominator
    if max(above, below) < 10**9:
        return in_full(value)
    return f"{Context(prec=_DIGITS_OF_PHCPACK).divide(Decimal(above), Decimal(below)):e}"


def _checked_distribution(instance: object, attribute: object, text: str) -> None:
    Distribution.parse(text)


def _optional_text(loss: Any) -> str | None:
    return None if loss is None else to_text(loss)


@frozen(slots=False)
class PolynomialFamily(ParametricFamily):
    """A square system of polynomial equations with parameters, F(z; p) = 0.

    Parameters
    ----------
    equations
        As for :class:`PolynomialSystem`; polynomial in unknowns and parameters.
    unknowns, parameters
        Names, in the order of the coordinates of z and p.
    sampling
        How :meth:`sample` draws real parameters: ``"normal(0, 1)"`` (the default), ``"uniform(low, high)"``,
        ``"constant(value)"`` or ``"values(v1, v2, ...)"``.
    objective
        The polynomial whose gradient the equations are; set by :meth:`gradient`.

    Raises
    ------
    PolynomialError
        As for :class:`PolynomialSystem`, and when a name is both an unknown and a parameter.

    Examples
    --------
    >>> quadratics = PolynomialFamily(["x^2 + b*x + c"], ["x"], ["b", "c"])
    >>> quadratics.at([0, -4]).equations
    ('x^2 - 4',)
    """

    equations: tuple[str, ...] = field(converter=_texts)
    unknowns: tuple[str, ...] = field(converter=_unknowns)
    parameters: tuple[str, ...] = field(converter=_parameters)
    sampling: str = field(default="normal(0, 1)", kw_only=True, validator=_checked_distribution)
    objective: str | None = field(default=None, kw_only=True, converter=_optional_text)

    def __attrs_post_init__(self) -> None:
        both = sorted(set(self.unknowns) & set(self.parameters))
        if both:
            raise PolynomialError(f"{both[0]!r} is both an unknown and a parameter; it can only be one.")
        _check_square(self.exact, self.unknowns)
        Distribution.parse(self.sampling).check_size(len(self.parameters), "the parameters")

    @classmethod
    def from_monomials(
        cls,
        monomials: Iterable[Mapping[tuple[int, ...], Any]],
        unknowns: Sequence[str],
        parameters: Sequence[str],
        **options: Any,
    ) -> PolynomialFamily:
        """Build from ``{exponents: coefficient}``; exponents of the unknowns first, then the parameters."""
        names = (*unknowns, *parameters)
        return cls([format_polynomial(f, names) for f in monomials], unknowns, parameters, **options)

    @classmethod
    def gradient(
        cls, loss: Any, unknowns: Sequence[str], parameters: Sequence[str] = (), **options: Any
    ) -> PolynomialFamily:
        """Return the family of critical points of a polynomial `loss` in unknowns and parameters."""
        text, inner, outer = to_text(loss), _unknowns(unknowns), _parameters(parameters)
        polynomial = parse_exact(text, (*inner, *outer))
        equations = [derivative(polynomial, v) for v in range(len(inner))]
        return cls.from_monomials(equations, inner, outer, objective=text, **options)

    @property
    def unknown_names(self) -> tuple[str, ...]:
        """Names of the unknowns."""
        return self.unknowns

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.parameters

    # -- the polynomials ----------------------------------------------------------------------------------

    @cached_property
    def exact(self) -> tuple[ExactMonomials, ...]:
        """The equations as ``{exponents: coefficient}``, nothing rounded; see :attr:`PolynomialSystem.exact`.

        Exponents of unknowns, then of parameters.
        """
        names = (*self.unknowns, *self.parameters)
        return tuple(parse_exact(text, names) for text in self.equations)

    @cached_property
    def monomials(self) -> tuple[Monomials, ...]:
        """The equations as ``{exponents: coefficient}``, each coefficient rounded once to double precision."""
        return _rounded(self.exact, self.equations)

    @cached_property
    def _value(self) -> _SparseMap:
        return _SparseMap(self.monomials, len(self.unknowns) + len(self.parameters))

    @cached_property
    def _jacobian(self) -> _SparseMap:
        n = len(self.unknowns)
        return _SparseMap(
            [derivative(f, v) for f in self.monomials for v in range(n)], n + len(self.parameters)
        )

    @cached_property
    def _parameter_jacobian(self) -> _SparseMap:
        n, m = len(self.unknowns), len(self.parameters)
        return _SparseMap([derivative(f, n + k) for f in self.monomials for k in range(m)], n + m)

    def _joined(self, z: NDArray[Any], p: NDArray[Any]) -> NDArray[np.complex128]:
        return np.concatenate([z, p], axis=1).astype(np.complex128, copy=False)

    def value(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return F(z; p), shape (B, N)."""
        return self._value(self._joined(z, p))

    def jacobian(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return dF/dz, shape (B, N, N)."""
        return self._jacobian(self._joined(z, p)).reshape(len(z), z.shape[1], z.shape[1])

    def parameter_derivative(
        self, z: NDArray[np.complex128], p: NDArray[np.complex128], dp: NDArray[np.complex128]
    ) -> NDArray[np.complex128]:
        """Return the derivative of F along `dp`, shape (B, N)."""
        jacobian = self._parameter_jacobian(self._joined(z, p)).reshape(len(z), z.shape[1], p.shape[1])
        return np.asarray(np.matmul(jacobian, dp[:, :, None])[:, :, 0])

    # -- members ------------------------------------------------------------------------------------------

    def at(self, p: ArrayLike) -> PolynomialSystem:
        """Return the member with parameters `p` of shape (M,).

        Coefficients that depend on no parameter stay what they are. The others are rounded to double precision;
        solvers that compute exactly, and certificates, start from the family and `p` themselves.

        Raises
        ------
        PolynomialError
            When `p` has another length, is not finite, or makes an equation vanish identically.
        """
        values = np.asarray(p, dtype=np.complex128).reshape(-1)
        n, m = len(self.unknowns), len(self.parameters)
        if len(values) != m:
            raise PolynomialError(
                f"there are {m} parameters ({', '.join(self.parameters)}), got {len(values)}."
            )
        for name, value in zip(self.parameters, values, strict=True):
            if not np.isfinite(value):
                raise PolynomialError(f"the parameter {name} is {value}; parameters must be finite.")
        members = []
        for polynomial in self.exact:
            fixed = {e[:n]: coefficient for e, coefficient in polynomial.items() if not any(e[n:])}
            member: Monomials = {}
            for exponents, coefficient in polynomial.items():
                if not any(exponents[n:]):
                    continue
                factor = rounded(coefficient)
                for value, power in zip(values, exponents[n:], strict=True):
                    if power:
                        factor *= complex(np.power(value, power))
                member[exponents[:n]] = member.get(exponents[:n], 0) + factor
            # A sum of both kinds is rounded; its parts are not rounded before.
            whole = fixed | {e: exact(c) + fixed.get(e, 0) for e, c in member.items()}
            members.append({e: rounded(c) if e in member else c for e, c in whole.items() if c != 0})
        return PolynomialSystem.from_monomials(members, self.unknowns)

    def system(self, p: ArrayLike) -> PolynomialSystem:
        """Return the member with parameters `p`; the same as :meth:`at`."""
        return self.at(p)

    def expanded(self) -> PolynomialFamily:
        """Return the family itself."""
        return self

    def sample(self, n: int, seed: int) -> NDArray[np.float64]:
        """Return n real parameter vectors, shape (n, M), drawn as `sampling` says."""
        generator = np.random.default_rng(seed)
        return Distribution.parse(self.sampling).draw(n, len(self.parameters), generator)

    # -- structure ----------------------------------------------------------------------------------------

    @cached_property
    def _linear_parameters(self) -> tuple[int, ...]:
        """Parameters of which no product occurs: with all else fixed the equations are affine in these."""
        n = len(self.unknowns)
        chosen: list[int] = []
        # Those that occur in the most equations last, so that one parameter per equation is preferred.
        spread = [
            sum(any(exponents[n + k] for exponents in f) for f in self.monomials)
            for k in range(len(self.parameters))
        ]
        for k in sorted(range(len(self.parameters)), key=lambda k: (spread[k], k)):
            trial = [*chosen, k]
            if all(sum(e[n + j] for j in trial) <= 1 for f in self.monomials for e in f):
                chosen = trial
        return tuple(sorted(k for k in chosen if spread[k]))

    def start_pair(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Return a generic complex pair: z is drawn, then the equations are solved for parameters.

        Raises
        ------
        PolynomialError
            When the equations are not linear in enough parameters, or cannot be met for a generic z.
        """
        n, m = len(self.unknowns), len(self.parameters)
        z = _generic(generator, n)
        p = _generic(generator, m)
        if n == 0:
            return z, p
        linear = list(self._linear_parameters)
        jacobian = self._parameter_jacobian(self._joined(z[None], p[None])).reshape(n, m)[:, linear]
        residual = self.value(z[None], p[None])[0]
        step = np.linalg.lstsq(jacobian, -residual, rcond=None)[0] if linear else np.zeros(0)
        corrected = p.copy()
        corrected[linear] += step
        if np.abs(self.value(z[None], corrected[None])[0]).max() <= 1e-8 * (1 + np.abs(residual).max()):
            return z, corrected
        order = _solvable([[e[n:] for e in f] for f in self.monomials])
        if len(order) == n:
            # One equation after the other: what is solved for does not occur in those before.
            for equation, parameter in order:
                derivative_ = self._parameter_jacobian(self._joined(z[None], p[None])).reshape(n, m)
                value = self.value(z[None], p[None])[0, equation]
                p[parameter] -= value / derivative_[equation, parameter]
            return z, p
        raise PolynomialError(
            f"no start pair: for generic unknowns the {n} equations cannot be met by choosing the "
            f"parameters they are linear in ({', '.join(self.parameters[k] for k in linear) or 'none'}). "
            f"Give every equation a parameter of its own that enters linearly, such as a constant term; "
            f"the homotopy then leads from it to the wanted values."
        )

    def sign_group(self) -> SignGroup:
        """Return all sign changes under which every equation at most changes its sign."""
        n = len(self.unknowns)
        differences = [
            [(a - b) % 2 for a, b in zip(exponents[:n], first[:n], strict=True)]
            for f in self.monomials
            for first in [next(iter(f))]
            for exponents in f
        ]
        if not differences:
            return SignGroup([], n)
        return SignGroup(kernel_mod_2(np.array(differences).reshape(-1, n)), n)

    def subfamilies(self) -> tuple[Subfamily, ...]:
        """Return the zero patterns that leave as many equations as unknowns, by trying all of them.

        A pattern that leaves more equations than unknowns has no solutions for generic parameters, unless
        the equations depend on each other (:attr:`start_pairs_suffice` tells whether they may); one that
        leaves fewer has none that is isolated; one that leaves an equation of a single monomial has none.

        Raises
        ------
        PolynomialError
            For more than 16 unknowns.
        """
        return self._parts[0]

    @property
    def start_pairs_suffice(self) -> bool:
        """Whether the equations of every zero pattern have parameters of their own, which makes this certain.

        Take the equations that a pattern leaves, and set one aside after the other that contains a parameter
        in a single term, linearly, which no equation still there contains. In the opposite order those set
        aside can be solved for these parameters wherever no unknown of the pattern and no parameter is zero,
        since what multiplies them is one monomial. If there are as many of them as unknowns, their solutions
        form a graph over the other coordinates, which is irreducible and has the dimension of the parameter
        space. That is the promise where no equation is left over. One that is left over does not contain the
        parameters solved for, cuts the graph down, and generic parameters have no solution of the pattern.
        """
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[tuple[Subfamily, ...], bool]:
        """The subfamilies, and whether start pairs suffice."""
        n = len(self.unknowns)
        if n > _MAXIMAL_PATTERN_UNKNOWNS:
            raise PolynomialError(
                f"all zero patterns of {n} unknowns are too many to try (at most "
                f"{_MAXIMAL_PATTERN_UNKNOWNS} unknowns); write a ParametricFamily whose subfamilies() names "
                f"the patterns that occur."
            )
        # Per equation and term: which unknowns occur, as bits.
        occurring = [
            [(sum(1 << v for v in range(n) if exponents[v]), exponents) for exponents in f]
            for f in self.monomials
        ]
        found, suffice = [], True
        for size in range(n, -1, -1):
            for kept in combinations(range(n), size):
                zero = (1 << n) - 1 - sum(1 << v for v in kept)
                remaining = [
                    (number, left)
                    for number, terms in enumerate(occurring)
                    if (left := [exponents for bits, exponents in terms if not bits & zero])
                ]
                # A single monomial, whatever its coefficient, is not zero where no unknown is.
                if len(remaining) < size or any(len({e[:n] for e in left}) == 1 for _, left in remaining):
                    continue
                if suffice:
                    solvable = _solvable([[e[n:] for e in left] for _, left in remaining])
                    suffice = len(solvable) >= size
                if len(remaining) == size:
                    found.append(self._restricted(kept, dict(remaining)))
        return tuple(found), suffice

    def _restricted(self, kept: tuple[int, ...], remaining: dict[int, list[tuple[int, ...]]]) -> Subfamily:
        """Return the part in which only the unknowns `kept` are not zero; equations and terms are given."""
        n = len(self.unknowns)
        if len(kept) == n:
            return Subfamily(self, kept, tuple(range(len(self.parameters))))
        parameters = [
            k
            for k in range(len(self.parameters))
            if any(e[n + k] for left in remaining.values() for e in left)
        ]
        columns = [*kept, *(n + k for k in parameters)]
        family = PolynomialFamily.from_monomials(
            [
                {tuple(e[c] for c in columns): self.exact[number][e] for e in left}
                for number, left in remaining.items()
            ],
            [self.unknowns[v] for v in kept],
            [self.parameters[k] for k in parameters],
        )
        return Subfamily(family, kept, tuple(parameters))

    @property
    def has_objective(self) -> bool:
        """Whether the family was made by :meth:`gradient`."""
        return self.objective is not None

    @cached_property
    def _objective(self) -> _SparseMap:
        names = (*self.unknowns, *self.parameters)
        text = self.objective or "0"
        return _SparseMap(_rounded([parse_exact(text, names)], [text]), len(names))

    def objective_value(self, z: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the loss at real z and p, shape (B,).

        Raises
        ------
        PolynomialError
            When the family was not made by :meth:`gradient`.
        """
        if self.objective is None:
            return super().objective_value(z, p)
        return np.ascontiguousarray(self._objective(self._joined(z, p))[:, 0].real)

    def written_out(
        self, p: NDArray[np.complex128] | NDArray[np.float64]
    ) -> tuple[PolynomialFamily, NDArray[np.complex128] | NDArray[np.float64]]:
        """Return this family and `p`."""
        return self, p

    def bezout_number(self) -> int:
        """Return the product of the degrees in the unknowns."""
        n = len(self.unknowns)
        return prod(max(sum(exponents[:n]) for exponents in f) for f in self.monomials)


def _solvable(equations: Sequence[Sequence[tuple[int, ...]]]) -> list[tuple[int, int]]:
    """Return equations and parameters for which they can be solved one after another, in that order.

    Parameters
    ----------
    equations
        Exponents of the parameters in every term of every equation.

    Returns
    -------
    list of (equation, parameter)
        Every parameter occurs in its equation in one term, linearly, and in no equation that stands before it
        or is left out. As many equations as possible are listed.
    """
    count: dict[int, int] = {}
    users: dict[int, set[int]] = {}
    terms = [
        [(k, power) for exponents in equation for k, power in enumerate(exponents) if power]
        for equation in equations
    ]
    for number, powers in enumerate(terms):
        for k, power in powers:
            count[k] = count.get(k, 0) + power
            users.setdefault(k, set()).add(number)
    order: list[tuple[int, int]] = []
    ready = [k for k, times in count.items() if times == 1]
    while ready:
        parameter = ready.pop()
        if count[parameter] != 1:
            continue
        (equation,) = users[parameter]
        order.append((equation, parameter))
        for k, power in terms[equation]:
            count[k] -= power
            users[k].discard(equation)
            if count[k] == 1:
                ready.append(k)
    return order[::-1]


def _generic(generator: np.random.Generator, size: int) -> NDArray[np.complex128]:
    """Return complex numbers with moduli in [0.5, 1.5] and uniform phases: none is near zero."""
    return np.asarray(generator.uniform(0.5, 1.5, size) * np.exp(2j * np.pi * generator.random(size)))
