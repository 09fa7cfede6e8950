"""Losses along the paths between workers: forward passes alone, and with the gradients of the 2016 programs.

``python -m benchmarks.interpolation`` measures, for K workers of each network, loss and accuracy at the points of
all pairs on norm-corrected paths, as the probe ``Interpolation`` does. Candidates take turns within one process;
the unit of every table is the first line, and its other lines are medians over the turns of time / unit of the same
turn. CPU time counts on shared machines, wall time is printed beside it.

- "forward and backward at every point" is what the programs did, in torch of today: weights into the module,
  ``loss.backward()``, the norm of the gradient, the accuracy. They did so at the ends of every path as well.
- "forward at every point" is the same loop without the gradient: what is left to gain or to lose by anything else.
- "vmap" evaluates the points of a path, or all of them, as one batch of networks; losses and accuracies.

``Interpolation`` evaluates the ends of all paths once per worker, reads and weighs the data once for all points of
a path, and takes the maxima of pooling layers by a faster kernel than the module does.

With ``--device cuda`` the same is measured on a GPU, by wall time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from benchmarks._machine import line
from landscape_walkers.interpolation import norm_corrected

#: Points per pair: t = 0, 0.1, ..., 1, as in the measurements that led to the probe.
POINTS = 11


def problems(device: str) -> Iterator[tuple[str, ls.Landscape]]:
    """Yield networks on the digits, in float32."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32, device=device), torch.tensor(labels, device=device)
    makers: dict[str, tuple[Callable[[], nn.Module], int]] = {
        "MLP 64-100-100-10": (
            lambda: nn.Sequential(
                nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
            ),
            len(x),
        ),
        "MLP 64-16-10": (lambda: nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)), 256),
        "CNN 8-16 channels": (
            lambda: nn.Sequential(
                nn.Unflatten(1, (1, 8, 8)),
                nn.Conv2d(1, 8, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(64, 10),
            ),
            256,
        ),
    }
    for name, (make, examples) in makers.items():
        torch.manual_seed(0)
        landscape = ls.Landscape(make().to(device), "cross_entropy", (x[:examples], y[:examples]))
        yield f"{name} ({landscape.size:,} weights), {examples} examples", landscape


def workers(landscape: ls.Landscape, count: int) -> Tensor:
    """Return independent weights near the module's own, shape (count, P)."""
    generator = torch.Generator().manual_seed(1)
    start = landscape.initial()
    noise = torch.randn(count, len(start), generator=generator).to(start)
    return start + start.std() * noise


def candidates(landscape: ls.Landscape, population: ls.Population) -> dict[str, Callable[[], Tensor]]:
    """Return, by name, a function that returns the losses of all points of all pairs, shape (pairs, points)."""
    t = [index / (POINTS - 1) for index in range(POINTS)]
    pairs = list(combinations(population.positions, 2))
    options = {"beyond": (0.0, 1.0), "spherical": True, "splits": ("train",)}

    def probe(gradient_norm: bool) -> Tensor:
        measured = ls.probes.Interpolation(gradient_norm=gradient_norm, **options).measure(
            population, torch.Generator()
        )
        return torch.from_numpy(measured.arrays["spherical_loss_train"])

    def path(a: Tensor, b: Tensor) -> list[Tensor]:
        points = [norm_corrected(a, b, here) for here in t]
        return [point for point in points if point is not None]

    parts = list(landscape.batches())
    x, y = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    module = landscape.module
    parameters = list(module.parameters())
    sizes = [p.numel() for p in parameters]

    def by_hand(backward: bool) -> Tensor:
        rows = []
        for a, b in pairs:
            for theta in path(a, b):
                with torch.no_grad():
                    for parameter, part in zip(parameters, theta.split(sizes), strict=True):
                        parameter.copy_(part.view_as(parameter))
                if backward:
                    module.zero_grad()
                with torch.set_grad_enabled(backward):
                    output = module(x)
                    loss = F.cross_entropy(output, y)
                if backward:
                    loss.backward()
                    torch.cat([parameter.grad.reshape(-1) for parameter in parameters]).norm().item()
                (output.argmax(1) == y).sum().item()
                rows.append(loss.item())
        return torch.tensor(rows, dtype=torch.float64).view(len(pairs), POINTS)

    def of_one(theta: Tensor) -> tuple[Tensor, Tensor]:
        output = torch.func.functional_call(module, landscape.layout.split(theta), (x,))
        return F.cross_entropy(output, y), (output.argmax(1) == y).sum()

    batched = torch.func.vmap(of_one)

    def in_batches(whole: bool) -> Tensor:
        with torch.no_grad():
            if whole:
                points = torch.stack([theta for a, b in pairs for theta in path(a, b)])
                return batched(points)[0].double().view(len(pairs), POINTS).cpu()
            return torch.stack([batched(torch.stack(path(a, b)))[0] for a, b in pairs]).double().cpu()

    return {
        "landscape, Interpolation": lambda: probe(False),
        "landscape, Interpolation(gradient_norm=True)": lambda: probe(True),
        "torch, forward and backward at every point": lambda: by_hand(True),
        "torch, forward at every point": lambda: by_hand(False),
        "torch.func.vmap, a path at a time": lambda: in_batches(False),
        "torch.func.vmap, all at once": lambda: in_batches(True),
    }


def compare(name: str, landscape: ls.Landscape, count: int, repeats: int) -> None:
    population = ls.Population(landscape, workers(landscape, count), step=0)
    work = candidates(landscape, population)
    truth = next(iter(work.values()))()
    errors = {label: float((found() - truth).abs().max()) for label, found in work.items()}
    seen: dict[str, list[tuple[float, float]]] = {label: [] for label in work}
    first, *others = work
    units: list[tuple[float, float]] = []
    for turn in range(repeats):
        units.append(timed(work[first]))
        seen[first].append((1.0, 1.0))
        shift = turn % len(others)
        for label in others[shift:] + others[:shift]:
            cpu, wall = timed(work[label])
            seen[label].append((cpu / units[-1][0], wall / units[-1][1]))
    pairs = count * (count - 1) // 2
    print(f"\n### {name}: {count} workers, {pairs} pairs x {POINTS} points\n")
    print("| | CPU time | wall time | largest difference of a loss |")
    print("|---|---|---|---|")
    for label, ratios in seen.items():
        cpu = statistics.median(ratio for ratio, _ in ratios)
        wall = statistics.median(ratio for _, ratio in ratios)
        print(f"| {label} | {cpu:.2f} | {wall:.2f} | {errors[label]:.0e} |")
    cpus = [cpu for cpu, _ in units]
    print(
        f"\nThe unit is {1000 * statistics.median(cpus):.0f} ms; it varied by {max(cpus) / min(cpus):.2f} between "
        "its fastest and slowest turn.",
        flush=True,
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall seconds; every candidate ends by reading numbers, which waits for an accelerator."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns of every candidate")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch sees no GPU here.")
    print(line("landscape-core", "torch"), "float32", options.device, sep="; ")
    for name, landscape in problems(options.device):
        compare(name, landscape, options.workers, options.repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
