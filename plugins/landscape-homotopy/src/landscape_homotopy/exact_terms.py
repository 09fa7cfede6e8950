"""Polynomials with exact coefficients, as terms whose coefficients are balls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import flint
import numpy as np

from landscape.systems.expressions import Exact, Gaussian

__all__ = ["Terms", "exact_terms"]

#: The coefficient of every term, with the powers of the unknowns that occur in it.
Terms = list[tuple[flint.acb, tuple[tuple[int, int], ...]]]


def exact_terms(
    polynomials: Iterable[Mapping[tuple[int, ...], Exact]], n: int, values: Sequence[np.generic]
) -> list[Terms]:
    """Return the terms of every polynomial in the first `n` unknowns.

    The precision is that of python-flint's context at the call.

    Parameters
    ----------
    polynomials
        Coefficients by exponents, those of the unknowns first.
    n
        How many unknowns stay.
    values
        Of the variables after them.
    """
    numbers = [flint.acb(complex(v).real, complex(v).imag) for v in values]
    found = []
    for polynomial in polynomials:
        collected: dict[tuple[int, ...], flint.acb] = {}
        for exponents, coefficient in polynomial.items():
            value = _ball(coefficient)
            for base, power in zip(numbers, exponents[n:], strict=True):
                if power:
                    value = value * base**power
            inner = exponents[:n]
            collected[inner] = collected[inner] + value if inner in collected else value
        found.append(
            [
                (value, tuple((v, power) for v, power in enumerate(inner) if power))
                for inner, value in collected.items()
            ]
        )
    return found


def _ball(number: Exact) -> flint.acb:
    """Return a ball that holds `number`; its imaginary part is exactly zero for a real one."""
    parts = (number.real, number.imag) if isinstance(number, Gaussian) else (number, 0)
    return flint.acb(*(flint.arb(flint.fmpq(part.numerator, part.denominator)) for part in parts))
