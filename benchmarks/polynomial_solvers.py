"""Solvers of polynomial systems side by side: deep linear networks, then classical systems.

``python -m benchmarks.polynomial_solvers`` solves one sample of every deep linear network with at most
``--unknowns`` weights (6 by default; 10 takes an hour or more) and one example, and a few systems that
everybody measures, with every solver that is installed. Each run is a process of its own that is stopped after
``--limit`` seconds. CPU seconds are those of the process and of all programs that it runs, from the system to the
checked solutions; imports are not counted.

A solver may answer less than all: the column "found" has the number of solutions, ``!`` where another solver found
some that this one lacks, and the first letter of the completeness that it claims (proved, trace test, heuristic,
unknown). PHCpack is stopped at the limit with what it has written so far, which then claims nothing. ``Msolve``
takes the parameters of a network as they are and rounds nothing; the others solve the system with rounded
coefficients.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from multiprocessing import get_context
from typing import Any

import numpy as np

import landscape as ls
from benchmarks._machine import line
from landscape import plugins
from landscape.errors import LandscapeError
from landscape.interfaces import Solver
from landscape.randomness import torch_generator
from landscape.systems import ParametricFamily, PolynomialSystem, Solutions

Makers = dict[str, Callable[[float], Solver]]


def makers(names: tuple[str, ...]) -> Makers:
    """Return the installed ones among some solvers; PHCpack by both ways in."""
    found: Makers = {}
    for name in names:
        component, _, way = name.partition(" ")
        try:
            solver = plugins.get("solvers", component)
        except LandscapeError:
            continue
        if component == "PHCpack":
            found[name] = lambda limit, solver=solver, way=way: solver(way, time_limit=limit)
        elif component == "Msolve":
            found[name] = lambda limit, solver=solver: solver(time_limit=limit)
        else:
            found[name] = lambda limit, solver=solver: solver()
    return found


def networks(unknowns: int, hidden: int) -> Iterator[tuple[int, ...]]:
    """Yield the widths of all networks with so many hidden layers and at most so many weights."""
    for widths in product(range(1, unknowns), repeat=hidden + 2):
        if sum(a * b for a, b in pairwise(widths)) <= unknowns:
            yield widths


def cyclic(n: int) -> PolynomialSystem:
    """Return the cyclic n-roots."""
    names = [f"x{k}" for k in range(n)]
    sums = [
        " + ".join("*".join(names[(i + j) % n] for j in range(size)) for i in range(n))
        for size in range(1, n)
    ]
    return PolynomialSystem([*sums, "*".join(names) + " - 1"], names)


def katsura(n: int) -> PolynomialSystem:
    """Return Katsura's magnetism problem in n + 1 unknowns."""
    names = [f"u{k}" for k in range(n + 1)]

    def u(k: int) -> str:
        return names[abs(k)] if abs(k) <= n else "0"

    equations = [" + ".join(f"{u(j)}*{u(m - j)}" for j in range(-n, n + 1)) + f" - {u(m)}" for m in range(n)]
    return PolynomialSystem([*equations, " + ".join(u(j) for j in range(-n, n + 1)) + " - 1"], names)


def noon(n: int) -> PolynomialSystem:
    """Return Noonburg's neural network with n nodes."""
    names = [f"x{k}" for k in range(1, n + 1)]
    return PolynomialSystem(
        [f"{x}*({' + '.join(f'{y}^2' for y in names if y != x)}) - 1.1*{x} + 1" for x in names], names
    )


def eco(n: int) -> PolynomialSystem:
    """Return the economic modelling problem in n unknowns."""
    x = [f"x{k}" for k in range(n + 1)]
    equations = [
        f"({' + '.join([x[k], *(f'{x[i]}*{x[i + k]}' for i in range(1, n - k))])})*{x[n]} - {k}"
        for k in range(1, n)
    ]
    return PolynomialSystem([*equations, " + ".join(x[1:n]) + " + 1"], x[1:])


#: With their numbers of isolated solutions, as the literature has them.
CLASSICAL: dict[str, tuple[PolynomialSystem, int]] = {
    "cyclic-5": (cyclic(5), 70),
    "cyclic-6": (cyclic(6), 156),
    "katsura-6": (katsura(6), 64),
    "katsura-7": (katsura(7), 128),
    "katsura-8": (katsura(8), 256),
    "noon-4": (noon(4), 73),
    "eco-8": (eco(8), 64),
}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def solve(
    solver: Solver, problem: PolynomialSystem | tuple[ParametricFamily, Any]
) -> tuple[Solutions, float]:
    """Solve one system, or one member of a family; return CPU seconds, too."""
    began, generator = _cpu(), torch_generator(0, "benchmark")
    if isinstance(problem, PolynomialSystem):
        found = solver.solve(problem, generator)
    else:
        family, parameters = problem
        (found,) = solver.solve_family(family, parameters, generator)
    return found, _cpu() - began


def _answer(pipe: Any, solver: Solver, problem: Any) -> None:
    try:
        found, seconds = solve(solver, problem)
        pipe.send((found.to_arrays(), seconds))
    except LandscapeError as error:
        pipe.send((str(error), 0.0))


def limited(solver: Solver, problem: Any, limit: float) -> tuple[Solutions | str, float]:
    """Solve in a process of its own; a reason instead of solutions where that failed."""
    fork = get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_answer, args=(theirs, solver, problem))
    process.start()
    theirs.close()
    try:
        # Programs keep the limit themselves; they are given a little longer, to say so.
        if not ours.poll(limit + 5):
            return "time", limit
        answer, seconds = ours.recv()
    except EOFError:
        return "crash", 0.0
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        return ("time" if "time limit" in answer else answer), seconds
    return Solutions.from_arrays(*answer), seconds


def cells(results: dict[str, tuple[Solutions | str, float]], limit: float) -> list[str]:
    """Return two cells per solver: what it found, and CPU seconds."""
    sets = [found for found, _ in results.values() if isinstance(found, Solutions)]
    row = []
    for found, seconds in results.values():
        if isinstance(found, str):
            row += [f"> {limit:.0f} s" if found == "time" else "failed", ""]
            continue
        lacks = any(len(found.matches(other, 1e-6).missing) for other in sets)
        row += [f"{len(found)}{' !' * lacks} {found.completeness[0]}", f"{seconds:.2f}"]
    return row


def table(title: str, heads: list[str], names: list[str], rows: Iterator[list[str]]) -> None:
    """Print a table in Markdown, line by line."""
    columns = [*heads, *(cell for name in names for cell in (f"{name}: found", "CPU s"))]
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def bound(system: PolynomialSystem) -> str:
    """Return the stable mixed volume where PHCpack is there to say it within 20 s."""
    try:
        from landscape_phcpack import mixed_volumes

        return str(mixed_volumes(system, time_limit=20).stable)
    except (ImportError, LandscapeError):
        return ""


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unknowns", type=int, default=6, help="weights of a network, at most")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for a system and a solver")
    parser.add_argument("--hidden", type=int, nargs="*", default=[1, 2], help="numbers of hidden layers")
    parser.add_argument("--only", choices=["networks", "classical"], help="one of the two tables")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    print(line("landscape-core", "numpy", "python-flint"))

    if options.only != "classical":
        solvers = makers(("Monodromy", "PHCpack phc", "PHCpack phcpy", "Msolve"))

        def of_networks() -> Iterator[list[str]]:
            cases = [w for hidden in options.hidden for w in networks(options.unknowns, hidden)]
            for widths in sorted(cases, key=lambda w: (len(w), sum(a * b for a, b in pairwise(w)), w)):
                family = ls.models.DeepLinear(widths=widths).family()
                parameters = family.sample(1, 0)
                results = {
                    name: limited(make(options.limit), (family, parameters), options.limit)
                    for name, make in solvers.items()
                }
                yield [
                    ", ".join(map(str, widths)),
                    str(len(family.unknown_names)),
                    bound(
                        family.system(np.ones(len(family.parameter_names)) + np.arange(len(parameters[0])))
                    ),
                    *cells(results, options.limit),
                ]

        table(
            "Deep linear networks, one example", ["widths", "N", "BKK_stable"], list(solvers), of_networks()
        )

    if options.only != "networks":
        general = makers(("TotalDegree", "Monodromy", "PHCpack phc", "PHCpack phcpy", "Msolve"))

        def of_classical() -> Iterator[list[str]]:
            for name, (system, count) in CLASSICAL.items():
                results = {
                    solver: limited(make(options.limit), system, options.limit)
                    for solver, make in general.items()
                }
                yield [
                    name,
                    str(count),
                    str(system.bezout_number),
                    bound(system),
                    *cells(results, options.limit),
                ]

        heads = ["system", "known", "CBB", "BKK_stable"]
        table("Classical systems", heads, list(general), of_classical())
    print(f"\nAll of it took {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
