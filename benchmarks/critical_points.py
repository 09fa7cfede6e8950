"""Every critical point of deep linear networks: how long 100 samples take, against goals and against LAPACK.

``python -m benchmarks.critical_points`` solves 100 samples of several families with ``Monodromy``, monodromy and trace
test included, and prints CPU seconds after start-up on one thread beside the goals. Compiling the tracker (numba, once
per installation) is timed apart. ``--all`` adds the sets of all networks with one hidden layer, widths up to 3, with
one example, and with two and three examples where there are at most 8 weights; ``--certified`` proves every solution
of the first set. A row fails where a sample lacks solutions.

The floor: what LAPACK takes (``numpy.linalg.solve``, batched, complex) for the two factorisations of a step, with one
and with two right-hand sides, beside what a step of a path takes altogether. ``--device cuda`` follows many paths at
once on a GPU, where there is one, and prints paths per second.

``--counts`` prints the counts of networks for which no formula is known, and ``--largest`` solves one sample of each of
the largest networks that take less than ten minutes; each of them instead of the rest.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from math import comb

import numpy as np
import torch

import landscape as ls
from benchmarks._machine import line
from landscape.randomness import torch_generator
from landscape.systems import ParametricFamily
from landscape_homotopy import tracker
from landscape_homotopy.circuit import circuit_of
from landscape_homotopy.device import checked
from landscape_homotopy.tracker import Settings

SAMPLES = 100

#: Widths, examples, and width and stride of a convolution: networks without a known formula, in the documentation.
COUNTED: list[tuple[tuple[int, ...], int, tuple[int, int] | None]] = [
    ((2, 1, 2), 2, None),
    ((2, 1, 2), 3, None),
    ((2, 2, 1), 2, None),
    ((2, 2, 2), 2, None),
    ((2, 2, 2), 3, None),
    ((3, 1, 3), 3, None),
    ((3, 2, 1), 3, None),
    ((1, 1, 1, 1), 1, None),
    ((2, 1, 1, 2), 1, None),
    ((1, 2, 2, 1), 1, None),
    ((2, 2, 2, 2), 1, None),
    ((1, 3, 3, 1), 1, None),
    ((1, 1, 1, 1, 1), 1, None),
    ((1, 2, 2, 2, 1), 1, None),
    ((1, 1, 1, 1, 1, 1), 1, None),
    ((3, 2, 1), 1, (2, 1)),
    ((3, 2, 2), 1, (2, 1)),
    ((4, 2, 2), 1, (2, 2)),
]
#: The largest networks of which one sample was solved to the end, smaller ones first.
LARGEST: list[tuple[tuple[int, ...], int]] = [
    ((4, 4, 5), 1),
    ((2, 3, 3, 2), 1),
    ((2, 3, 3), 2),
    ((5, 5, 5), 1),
    ((1, 6, 6), 1),
]


def seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds of this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def solved(
    widths: tuple[int, ...], examples: int, seed: int, certified: bool
) -> tuple[Counter[tuple[int, str]], int, float]:
    """Solve the samples of one family; return how often each count came, how much was lost, and CPU seconds."""
    family = ls.models.DeepLinear(widths=widths, examples=examples).family()
    parameters = family.sample(SAMPLES, seed)
    begin = time.process_time()
    counts: Counter[tuple[int, str]] = Counter()
    lost = 0
    for solutions in ls.solvers.Monodromy(certified=certified).solve_family(
        family, parameters, torch_generator(seed)
    ):
        counts[len(solutions), solutions.completeness] += 1
        lost += solutions.statistics["lost"]
        if certified:
            lost += len(solutions) - solutions.statistics["certified"]
    return counts, lost, time.process_time() - begin


def known(widths: tuple[int, ...], examples: int) -> int | None:
    """Return the number of critical points where a formula is known: one hidden layer and one example."""
    if len(widths) != 3 or examples != 1:
        return None
    _, units, outputs = widths
    return sum(comb(units, r) * comb(outputs, r) * 4**r for r in range(units + 1))


def one_hidden_layer(examples: int, unknowns: int | None) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Yield all networks with one hidden layer and widths up to 3, and at most so many weights."""
    for dx, d, dy in product(range(1, 4), repeat=3):
        if unknowns is None or d * (dx + dy) <= unknowns:
            yield (dx, d, dy), examples


def families(options: argparse.Namespace) -> None:
    print(f"\n## {SAMPLES} samples, seed {options.seed}\n")
    print("| networks | N_C | complete | lost | completeness | CPU s | goal |")
    print("|---|---|---|---|---|---|---|")
    sets: list[tuple[str, list[tuple[tuple[int, ...], int]], bool, float]] = [
        ("(2, 2, 2)", [((2, 2, 2), 1)], False, 1.0),
        ("(2, 2, 2), every solution certified", [((2, 2, 2), 1)], True, float("nan")),
        ("(1, 3, 3, 1)", [((1, 3, 3, 1), 1)], False, 5.0),
    ]
    if options.all or options.certified:
        small = list(one_hidden_layer(1, None))
        sets.append((f"all {len(small)} (dx, d, dy) up to 3, one example", [*small], False, 60.0))
        if options.certified:
            sets.append((f"all {len(small)}, every solution certified", [*small], True, 120.0))
    if options.all:
        more = [*one_hidden_layer(2, 8), *one_hidden_layer(3, 8)]
        sets.append((f"{len(more)} with two or three examples, at most 8 weights", [*more], False, 60.0))
    for name, members, certified, goal in sets:
        total, complete, lost = 0.0, 0, 0
        found: set[int] = set()
        levels: Counter[str] = Counter()
        for widths, examples in members:
            counts, missing, spent = solved(widths, examples, options.seed, certified)
            total += spent
            lost += missing
            ((most, _), _), *_ = counts.most_common()
            expected = known(widths, examples) or most
            complete += sum(times for (count, _), times in counts.items() if count == expected)
            found.add(expected)
            for (_, level), times in counts.items():
                levels[level] += times
        numbers = str(found.pop()) if len(found) == 1 else f"{min(found)} to {max(found)}"
        print(
            f"| {name} | {numbers} | {complete} of {SAMPLES * len(members)} | {lost} | {said(levels)} | {total:.2f} | "
            f"{'' if np.isnan(goal) else f'{goal:g}'} |",
            flush=True,
        )


def said(levels: Counter[str]) -> str:
    return ", ".join(f"{times} {level}" for level, times in levels.most_common())


def counts(seed: int, samples: int) -> None:
    print(f"\n## Counts for generic data: {samples} samples for each of the seeds {seed} and {seed + 1}\n")
    print(
        "| widths | examples | convolution | weights | N_C | N_C_torus | certified | completeness | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for widths, examples, convolution in COUNTED:
        family = ls.models.DeepLinear(widths=widths, examples=examples, convolution=convolution).family()
        found: set[tuple[int, int]] = set()
        levels: Counter[str] = Counter()
        certified = total = 0
        begin = time.process_time()
        for own in (seed, seed + 1):
            for solutions in ls.solvers.Monodromy(certified=True).solve_family(
                family, family.sample(samples, own), torch_generator(own)
            ):
                found.add((len(solutions), int(solutions.in_torus().sum())))
                levels[solutions.completeness] += 1
                certified += solutions.statistics["certified"]
                total += len(solutions)
        spent = time.process_time() - begin
        # Samples that differ are all named.
        numbers, torus = (" or ".join(map(str, sorted(set(column)))) for column in zip(*found, strict=True))
        filter_ = f"width {convolution[0]}, stride {convolution[1]}" if convolution else ""
        print(
            f"| {', '.join(map(str, widths))} | {examples} | {filter_} | {len(family.unknown_names)} | {numbers} | "
            f"{torus} | {'all' if certified == total else f'{certified} of {total}'} | {said(levels)} | {spent:.1f} |",
            flush=True,
        )


def largest(seed: int, networks: list[tuple[tuple[int, ...], int]]) -> None:
    print(f"\n## One sample, seed {seed}, every solution certified; goal: at most 600 s\n")
    print("| widths | examples | weights | N_C | certified | completeness | CPU s | s |")
    print("|---|---|---|---|---|---|---|---|")
    for widths, examples in networks:
        family = ls.models.DeepLinear(widths=widths, examples=examples).family()
        begin, wall = time.process_time(), time.perf_counter()
        (solutions,) = ls.solvers.Monodromy(certified=True).solve_family(
            family, family.sample(1, seed), torch_generator(seed)
        )
        spent, waited = time.process_time() - begin, time.perf_counter() - wall
        print(
            f"| {', '.join(map(str, widths))} | {examples} | {len(family.unknown_names)} | {len(solutions):,} | "
            f"{solutions.statistics['certified']:,} | {solutions.completeness} | {spent:.0f} | {waited:.0f} |",
            flush=True,
        )


def paths(family: ParametricFamily, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start pairs, and one generic member to follow them all to."""
    rng = np.random.default_rng(0)
    pairs = [family.start_pair(rng) for _ in range(number + 1)]
    z, p = (np.array(each) for each in zip(*pairs, strict=True))
    return z[:-1], p[:-1], np.tile(p[-1], (number, 1))


def step_times(widths: tuple[int, ...], number: int) -> tuple[int, float, float, float]:
    """Return the number of weights, and seconds of LAPACK, the tracker of arrays and the compiled one, medians of 3."""
    family = ls.models.DeepLinear(widths=widths).family()
    compiled, circuit = tracker.compiled_engine(), circuit_of(family)
    z, p, end = paths(family, number)
    corners = np.array([p, end])
    jacobian = family.jacobian(z, p)
    one, two = np.ones((*z.shape, 1), dtype=complex), np.ones((*z.shape, 2), dtype=complex)

    def lapack() -> int:
        np.linalg.solve(jacobian, one)
        np.linalg.solve(jacobian, two)
        return number

    def arrays() -> int:
        return tracker._advance(family, z.copy(), np.full(number, tracker.LOST), corners, Settings())

    def loop() -> int:
        assert compiled is not None
        assert circuit is not None
        return int(compiled.advance(circuit, z.copy(), np.full(number, tracker.LOST), corners, Settings()))

    def per_step(work: Callable[[], int]) -> float:
        begin = time.process_time()
        steps = work()
        return (time.process_time() - begin) / steps

    ways = [lapack, arrays] if compiled is None else [lapack, arrays, loop]
    turns = [[per_step(work) for work in ways] for _ in range(3)]
    medians = [float(median) for median in np.median(turns, axis=0)] + [float("nan")] * (3 - len(ways))
    return z.shape[1], medians[0], medians[1], medians[2]


def floor(number: int) -> None:
    print(f"\n## A step of a path, microseconds: {number} paths at once\n")
    print("| widths | weights | LAPACK: two solves | arrays | times LAPACK | compiled | times LAPACK |")
    print("|---|---|---|---|---|---|---|")
    for widths in ((1, 2, 2), (2, 2, 2), (1, 3, 3, 1), (3, 3, 3)):
        n, base, arrays, fast = step_times(widths, number)
        print(
            f"| {widths} | {n} | {1e6 * base:.2f} | {1e6 * arrays:.1f} | {arrays / base:.1f} | "
            f"{1e6 * fast:.2f} | {fast / base:.1f} |",
            flush=True,
        )


def on_device(device: str, number: int) -> None:
    """Print paths per second, start and transfers included, of torch on a device and of the CPU's engine."""
    print(f"\n## Paths per second with torch on {device!r}, and on one core without\n")
    try:
        checked(device)
    except ls.errors.SolverError as error:
        print(f"Not measured: {error}")
        return
    number *= 1 if device == "cpu" else 40
    print("| widths | weights | paths | on the device | CPU | ratio |")
    print("|---|---|---|---|---|---|")
    for widths in ((2, 2, 2), (1, 3, 3, 1), (3, 3, 3)):
        family = ls.models.DeepLinear(widths=widths).family()
        z, p, end = paths(family, number)
        rates = []
        for settings in (Settings(device=device), Settings()):
            turns = []
            for _ in range(3):
                begin = time.perf_counter()
                found = tracker.track(family, z, p, end, settings)
                turns.append(time.perf_counter() - begin)
            assert (found.outcome == tracker.REGULAR).mean() > 0.9
            rates.append(number / float(np.median(turns)))
        print(
            f"| {widths} | {z.shape[1]} | {number:,} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[0] / rates[1]:.2f} |",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--all", action="store_true", help="all networks with one hidden layer, widths up to 3"
    )
    parser.add_argument("--certified", action="store_true", help="and every solution of them proved")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paths", type=int, default=500, help="paths at once, for the cost of a step")
    parser.add_argument(
        "--device", default="cuda", help="where paths are followed with torch, for comparison"
    )
    parser.add_argument("--counts", action="store_true", help="networks without a known formula, and no more")
    parser.add_argument("--largest", action="store_true", help="what ten minutes are enough for, and no more")
    parser.add_argument("--samples", type=int, default=2, help="of each seed, for --counts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("# Critical points of deep linear networks\n")
    print(line("landscape-homotopy", "numpy", "numba", "torch"))
    compiled = tracker.compiled_engine()
    if compiled is None:
        print("\nnumba is not installed: paths are advanced as arrays.")
    else:
        print(f"\nThe tracker was compiled, or loaded, in {seconds(compiled.compile_tracker):.1f} s.")
    if options.counts:
        counts(options.seed, options.samples)
    if options.largest:
        largest(options.seed, LARGEST)
    if options.counts or options.largest:
        return
    families(options)
    floor(options.paths)
    on_device(options.device, options.paths)


if __name__ == "__main__":
    main()
