"""Mixed volumes: sharp bounds on the number of isolated solutions of a system with generic coefficients."""

from __future__ import annotations

import math
from functools import lru_cache

from attrs import frozen

from landscape.errors import SolverError
from landscape.systems import PolynomialSystem
from landscape_phcpack import calling
from landscape_phcpack.calling import Problem
from landscape_phcpack.installation import find_phc, find_phcpy, missing

__all__ = ["MixedVolumes", "mixed_volumes"]


@frozen
class MixedVolumes:
    """The two mixed volumes of a system.

    Attributes
    ----------
    mixed
        The BKK bound: as many isolated solutions without zero coordinates as a system with these monomials and
        generic coefficients has, and an upper bound for all coefficients (Bernstein 1975).
    stable
        The same for solutions in C^N, zero coordinates included (Huber and Sturmfels 1997); never less.
    """

    mixed: int
    stable: int


def mixed_volumes(system: PolynomialSystem, *, time_limit: float = math.inf) -> MixedVolumes:
    """Compute mixed volumes with PHCpack, which only looks at which monomials occur.

    Parameters
    ----------
    system
        A square system.
    time_limit
        In seconds. The time grows fast with the number of unknowns: 0.1 s for a deep linear network with widths
        (2, 2, 2), 8 unknowns; 30 s with (2, 3, 2), 12 unknowns.

    Raises
    ------
    SolverError
        When PHCpack is not installed, or does not say within `time_limit`.

    Examples
    --------
    >>> from landscape import PolynomialSystem
    >>> from landscape_phcpack import mixed_volumes
    >>> mixed_volumes(PolynomialSystem(["x*y + 2*x", "x + y - 3"], ["x", "y"]))  # doctest: +SKIP
    MixedVolumes(mixed=1, stable=2)
    """
    if not system.unknowns:
        return MixedVolumes(1, 1)
    if min(system.degrees) == 0:
        return MixedVolumes(0, 0)
    if len(system.unknowns) == 1:
        # Of one polynomial PHCpack 2.4.86 names one too many.
        powers = [power for (power,) in system.monomials[0]]
        return MixedVolumes(max(powers) - min(powers), max(powers))
    # Coefficients do not matter: equal supports share one computation.
    support = tuple(tuple(sorted(polynomial)) for polynomial in system.monomials)
    return _of_support(support, float(time_limit))


@lru_cache(maxsize=256)
def _of_support(support: tuple[tuple[tuple[int, ...], ...], ...], time_limit: float) -> MixedVolumes:
    names = [f"z{number}" for number in range(1, len(support) + 1)]
    plain = PolynomialSystem.from_monomials(
        # Distinct positive coefficients: nothing cancels.
        [{exponents: 1.0 + k for k, exponents in enumerate(polynomial)} for polynomial in support],
        names,
    )
    ways = (("phc", find_phc()), ("phcpy", find_phcpy()))
    ended = None
    for way, program in ways:
        if program is None:
            continue
        found, ended = calling.volumes(way, program, Problem(plain), time_limit)
        if found is not None:
            return MixedVolumes(*found)
        if ended.code is None:  # at the time limit; the other way takes as long
            break
    if ended is None:
        raise missing("PHCpack, neither the program phc nor phcpy, is not installed.")
    raise SolverError(f"PHCpack did not say the mixed volumes of {len(support)} equations: {ended}.")
