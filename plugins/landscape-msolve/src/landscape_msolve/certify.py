"""Proofs about single solutions, in ball arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flint import acb, acb_mat, arb, ctx, fmpq

from landscape.systems.rational import RationalMonomials

__all__ = ["Certifier", "precision"]


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with `bits` bits inside; FLINT's setting, which is global, is put back after."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


class Certifier:
    """Krawczyk's test for a square system with rational coefficients.

    For a box X around c, let K(X) = c - Y f(c) + (1 - Y J(X)) (X - c), with Y near the inverse of J(c). When K(X)
    lies in the interior of X, there is exactly one solution in X, and it is regular (Krawczyk 1969; Moore 1977).
    """

    def __init__(self, equations: Sequence[RationalMonomials]) -> None:
        self._equations = [
            [(exponents, fmpq(value.numerator, value.denominator)) for exponents, value in polynomial.items()]
            for polynomial in equations
        ]
        self._highest = [
            max((exponents[v] for polynomial in equations for exponents in polynomial), default=0)
            for v in range(len(equations))
        ]

    def _powers(self, point: Sequence[acb]) -> list[list[acb]]:
        tables = []
        for value, highest in zip(point, self._highest, strict=True):
            table = [acb(1)]
            for _ in range(highest):
                table.append(table[-1] * value)
            tables.append(table)
        return tables

    def value(self, point: Sequence[acb]) -> list[acb]:
        """Return f at a point or box."""
        powers = self._powers(point)
        values = []
        for polynomial in self._equations:
            total = acb(0)
            for exponents, coefficient in polynomial:
                term = acb(coefficient)
                for variable, power in enumerate(exponents):
                    if power:
                        term *= powers[variable][power]
                total += term
            values.append(total)
        return values

    def jacobian(self, point: Sequence[acb]) -> acb_mat:
        """Return the Jacobian at a point or box."""
        powers, n = self._powers(point), len(point)
        rows = [[acb(0)] * n for _ in range(n)]
        for row, polynomial in zip(rows, self._equations, strict=True):
            for exponents, coefficient in polynomial:
                present = [(variable, power) for variable, power in enumerate(exponents) if power]
                for variable, power in present:
                    term = acb(coefficient) * power * powers[variable][power - 1]
                    for other, exponent in present:
                        if other != variable:
                            term *= powers[other][exponent]
                    row[variable] += term
        return acb_mat(rows)

    def proves(self, centre: Sequence[acb], radius: arb) -> bool:
        """Return whether exactly one solution is proved to lie within `radius` of `centre` in every coordinate.

        Real and imaginary parts differ by at most `radius` each.
        """
        n = len(centre)
        ball = arb(0, radius)
        offset = acb(ball, ball)
        box = [value + offset for value in centre]
        try:
            inverse = (
                acb_mat([[entry.mid() for entry in row] for row in self.jacobian(centre).tolist()])
                .inv()
                .mid()
            )
        except ZeroDivisionError:
            return False
        correction = inverse * acb_mat([[value] for value in self.value(centre)])
        identity = acb_mat([[int(i == j) for j in range(n)] for i in range(n)])
        spread = (identity - inverse * self.jacobian(box)) * acb_mat([[offset]] * n)
        image = [spread[k, 0] - correction[k, 0] for k in range(n)]
        return all(part.abs_upper() < radius for value in image for part in (value.real, value.imag))
