"""Solvers of polynomial systems side by side: deep linear networks, then classical systems.

``python -m benchmarks.polynomial_solvers`` solves one sample of every deep linear network with at most
``--unknowns`` weights (6 by default; 10 takes hours) and one example, and a few systems that everybody
measures, with every solver that is installed. ``--rows FILE`` keeps finished rows: the same command goes on
after the last one. Each run is a process of its own that is stopped after
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
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
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

    def longer(widths: tuple[int, ...], left: int, layers: int) -> Iterator[tuple[int, ...]]:
        if layers == 0:
            yield widths
            return
        # Every layer after this one takes a weight at least.
        for width in range(1, (left - layers + 1) // widths[-1] + 1):
            yield from longer((*widths, width), left - widths[-1] * width, layers - 1)

    for first in range(1, unknowns + 1):
        yield from longer((first,), unknowns, hidden + 1)


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


def table(
    title: str,
    heads: list[str],
    names: list[str],
    rows: dict[str, Callable[[], list[str]]],
    kept: Path | None,
) -> None:
    """Print a table in Markdown, line by line; rows that are in a file already are taken from there."""
    columns = [*heads, *(cell for name in names for cell in (f"{name}: found", "CPU s"))]
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    before = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    known = {line.split(" | ")[0].removeprefix("| "): line for line in before if line.endswith(" |")}
    for name, row in rows.items():
        if name not in known:
            known[name] = f"| {' | '.join([name, *row()])} |"
            if kept is not None:
                with kept.open("a") as file:
                    file.write(known[name] + "\n")
        print(known[name], flush=True)


def bound(system: PolynomialSystem, limit: float) -> str:
    """Return the stable mixed volume where PHCpack is there to say it in time."""
    try:
        from landscape_phcpack import mixed_volumes

        return str(mixed_volumes(system, time_limit=limit).stable)
    except (ImportError, LandscapeError):
        return ""


def network_row(widths: tuple[int, ...], solvers: Makers, limit: float) -> list[str]:
    """Solve one sample of a network with every solver."""
    family = ls.models.DeepLinear(widths=widths).family()
    parameters = family.sample(1, 0)
    results = {name: limited(make(limit), (family, parameters), limit) for name, make in solvers.items()}
    generic = family.system(np.ones(len(family.parameter_names)) + np.arange(len(parameters[0])))
    return [str(len(family.unknown_names)), bound(generic, limit), *cells(results, limit)]


def classical_row(name: str, solvers: Makers, limit: float) -> list[str]:
    """Solve a classical system with every solver."""
    system, count = CLASSICAL[name]
    results = {solver: limited(make(limit), system, limit) for solver, make in solvers.items()}
    return [str(count), str(system.bezout_number), bound(system, limit), *cells(results, limit)]


NETWORK_SOLVERS = ("Monodromy", "PHCpack phc", "PHCpack phcpy", "Msolve")


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unknowns", type=int, default=6, help="weights of a network, at most")
    parser.add_argument("--at-least", type=int, default=1, help="weights of a network, at least")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for a system and a solver")
    parser.add_argument("--hidden", type=int, nargs="*", default=[1, 2], help="numbers of hidden layers")
    parser.add_argument("--only", choices=["networks", "classical"], help="one of the two tables")
    parser.add_argument("--solvers", nargs="*", help="of networks", default=NETWORK_SOLVERS)
    parser.add_argument("--rows", type=Path, help="a file that keeps the rows of the networks")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    print(line("landscape-core", "numpy", "python-flint"))

    if options.only != "classical":
        solvers = makers(tuple(options.solvers))
        cases = [
            (weights, widths)
            for hidden in options.hidden
            for widths in networks(options.unknowns, hidden)
            if (weights := sum(a * b for a, b in pairwise(widths))) >= options.at_least
        ]
        rows = {
            ", ".join(map(str, widths)): partial(network_row, widths, solvers, options.limit)
            for _, widths in sorted(cases, key=lambda case: (len(case[1]), *case))
        }
        heads = ["widths", "N", "BKK_stable"]
        table("Deep linear networks, one example", heads, list(solvers), rows, options.rows)

    if options.only != "networks":
        general = makers(("TotalDegree", *NETWORK_SOLVERS))
        rows = {name: partial(classical_row, name, general, options.limit) for name in CLASSICAL}
        table("Classical systems", ["system", "known", "CBB", "BKK_stable"], list(general), rows, None)
    print(f"\nAll of it took {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
