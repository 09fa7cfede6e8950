"""Steps of K workers beside a loop over K modules with torch.optim, and what a walk of one worker adds to a step.

``python -m benchmarks.populations`` measures everything in one process: the candidates take turns, and each figure
is the median over the turns of time of the loop over modules / time, both of the same turn: how many times as fast.
CPU time counts on shared machines; wall time stands beside it. The unit is what one would write by hand: K
``nn.Module``s, K ``torch.optim.SGD`` with momentum, and for each its own permutation of the data, drawn anew every
epoch.

Of landscape, whole steps of ``Walk.advance`` are timed: batches, gradients, update, the check for finite numbers.
"loop" and "traced" are the engines when they are asked for; "auto" is what a walk ends up with by itself, and
"choosing" what that costs, once.

One worker is compared with two loops: one with ``torch.optim.SGD``, and one in which also the update is written
out, in three operations per parameter. Neither does what makes a walk a walk: resume to the bit, check for finite
numbers, keep the state before a step that fails, leave the module alone.

On a GPU, ``--device cuda`` measures the same by wall time, for 1, 16, 64 and 256 workers.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from benchmarks._machine import line

LR, MOMENTUM = 0.01, 0.9


@dataclass
class Problem:
    """A kind of network, its data, and for how many workers it is measured."""

    name: str
    make: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    workers: tuple[int, ...]
    batch: int = 64

    def seeded(self) -> nn.Module:
        """Return the network, initialised the same way every time."""
        torch.manual_seed(0)
        return self.make().to(self.x.device)

    def landscape(self, engine: str) -> ls.Landscape:
        """Return a landscape made afresh."""
        return ls.Landscape(self.seeded(), "cross_entropy", (self.x, self.y), engine=engine)


class SimpleCNN(nn.Module):
    """The network of PyTorch's CIFAR-10 tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of ten classes."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def perceptron(*widths: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return make


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def problems(device: str) -> list[Problem]:
    images, labels = load_digits(return_X_y=True)
    digits = (
        torch.tensor(images / 16, dtype=torch.float32, device=device),
        torch.tensor(labels, device=device),
    )
    generator = torch.Generator().manual_seed(0)
    pictures = (
        torch.randn(2048, 3, 32, 32, generator=generator).to(device),
        torch.randint(10, (2048,), generator=generator).to(device),
    )
    if device != "cpu":
        many = (1, 16, 64, 256)
        return [
            Problem("MLP 64-100-100-10", perceptron(64, 100, 100, 10), *digits, many),
            Problem("MLP 64-16-10", perceptron(64, 16, 10), *digits, many),
            Problem("CNN 8-16 channels, 8x8 pixels", convolutions, *digits, many),
            Problem("SimpleCNN, 32x32 pixels", SimpleCNN, *pictures, many),
        ]
    return [
        Problem("MLP 64-100-100-10", perceptron(64, 100, 100, 10), *digits, (4, 16, 64)),
        Problem("MLP 64-16-10", perceptron(64, 16, 10), *digits, (4, 16, 64)),
        Problem("CNN 8-16 channels, 8x8 pixels", convolutions, *digits, (4, 16, 64)),
        Problem("MLP 64-2048-2048-10", perceptron(64, 2048, 2048, 10), *digits, (4,), batch=128),
        Problem("SimpleCNN, 32x32 pixels", SimpleCNN, *pictures, (4, 16)),
    ]


class Modules:
    """The unit: K modules, each with its optimiser and its order of the data."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        self.modules = [problem.seeded() for _ in range(count)]
        self.optimisers = [torch.optim.SGD(m.parameters(), lr=LR, momentum=MOMENTUM) for m in self.modules]
        self.generator = torch.Generator().manual_seed(0)
        self.orders: list[Tensor] = []
        self.batch = 0

    def step(self) -> None:
        """Make one step of every module."""
        problem, size = self.problem, self.problem.batch
        if self.batch * size >= len(problem.x) or not self.orders:
            self.batch = 0
            self.orders = [
                torch.randperm(len(problem.x), generator=self.generator).to(problem.x.device)
                for _ in self.modules
            ]
        for module, optimiser, order in zip(self.modules, self.optimisers, self.orders, strict=True):
            rows = order[self.batch * size : (self.batch + 1) * size]
            optimiser.zero_grad()
            F.cross_entropy(module(problem.x[rows]), problem.y[rows]).backward()
            optimiser.step()
        self.batch += 1


class Written:
    """One module whose update is written out instead of left to torch.optim."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.module = problem.seeded()
        self.parameters = list(self.module.parameters())
        self.velocities = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.generator = torch.Generator().manual_seed(0)
        self.order = torch.empty(0, dtype=torch.int64)
        self.batch = 0

    def step(self) -> None:
        """Make one step."""
        problem, size = self.problem, self.problem.batch
        if self.batch * size >= len(self.order):
            self.batch = 0
            self.order = torch.randperm(len(problem.x), generator=self.generator)
        rows = self.order[self.batch * size : (self.batch + 1) * size]
        loss = F.cross_entropy(self.module(problem.x[rows]), problem.y[rows])
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for place, velocity, gradient in zip(self.parameters, self.velocities, gradients, strict=True):
                velocity.mul_(MOMENTUM).add_(gradient)
                place.add_(velocity, alpha=-LR)
        self.batch += 1


def walk(problem: Problem, count: int, engine: str) -> ls.Walk:
    walker = ls.walkers.SGD(lr=LR, batch_size=problem.batch, momentum=MOMENTUM, workers=count)
    return ls.Walk(problem.landscape(engine), walker)


# -- timing -----------------------------------------------------------------------------------------------------

#: Seconds per step of one turn, by clock.
Times = dict[str, float]


def timed(work: Callable[[], object], steps: int, device: str) -> Times:
    """Return seconds per step; the time of the CPU says nothing where an accelerator works."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        work()
    wait()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"wall": wall / steps} | ({"CPU": cpu / steps} if device == "cpu" else {})


def turns(
    candidates: dict[str, Callable[[], object]], repeats: int, seconds: float, device: str
) -> dict[str, list[Times]]:
    """Let the candidates take turns of about `seconds`, of two steps at the least; return what each turn took."""
    names = list(candidates)
    for name in names:
        timed(candidates[name], 2, device)
    steps = max(2, round(seconds / timed(candidates[names[0]], 2, device)["wall"]))
    found: dict[str, list[Times]] = {name: [] for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(timed(candidates[name], steps, device))
    return found


def speed(found: dict[str, list[Times]], unit: str, name: str, clock: str) -> float:
    """Return how many times as fast as the unit a candidate is."""
    turns_of_both = zip(found[unit], found[name], strict=True)
    return statistics.median(one[clock] / other[clock] for one, other in turns_of_both)


def middle(found: dict[str, list[Times]], name: str, clock: str) -> float:
    return statistics.median(turn[clock] for turn in found[name])


#: What the choice of a walk shall reach, in times of the loop over modules; nowhere less than FLOOR.
GOALS = {
    ("MLP 64-100-100-10", 16): 2.0,
    ("MLP 64-100-100-10", 64): 2.0,
    ("MLP 64-16-10", 16): 5.0,
    ("MLP 64-16-10", 64): 10.0,
    ("CNN 8-16 channels, 8x8 pixels", 16): 1.8,
}
FLOOR = 0.95


def measure(problem: Problem, repeats: int, seconds: float, device: str) -> dict[tuple[str, int], float]:
    """Print the table of one kind of network; return how fast the chosen engine is, by name and workers."""
    clocks = ("CPU", "wall") if device == "cpu" else ("wall",)
    size = sum(p.numel() for p in problem.make().parameters())
    engines = ("loop", "traced", "auto")
    print(f"\n### {problem.name}: {size:,} weights, batches of {problem.batch}\n")
    headings = [f"{name}, {clock}" for clock in clocks for name in engines]
    print(f"| K | modules, ms a step | {' | '.join(headings)} | chosen | choosing, s |")
    print("|---" * (4 + len(headings)) + "|")
    reached = {}
    for count in problem.workers:
        modules = Modules(problem, count)
        walks = {engine: walk(problem, count, engine) for engine in engines}
        cost = time.perf_counter()
        walks["auto"].settle_engine()  # which a walk does by itself once it has taken a second
        cost = time.perf_counter() - cost
        chosen = walks["auto"].engine
        rows = next((f", {c.rows} rows at once" for c in walks["auto"].engine_choices if c.rows), "")
        candidates = {"modules": modules.step} | {name: w.advance for name, w in walks.items()}
        found = turns(candidates, repeats, seconds, device)
        speeds = [speed(found, "modules", name, clock) for clock in clocks for name in engines]
        reached[problem.name, count] = speeds[2]
        ms = 1e3 * middle(found, "modules", clocks[0])
        ratios = " | ".join(f"{ratio:.2f}" for ratio in speeds)
        print(f"| {count} | {ms:.2f} | {ratios} | {chosen}{rows} | {cost:.1f} |", flush=True)
        del modules, walks, candidates, found
        gc.collect()
    return reached


def goals(reached: dict[tuple[str, int], float]) -> None:
    """Say what was to be reached and what was, by CPU time."""
    print("\n### Goals for the engine that a walk chooses\n")
    print("| | K | at least | measured |")
    print("|---|---|---|---|")
    for (name, count), ratio in reached.items():
        print(f"| {name} | {count} | {GOALS.get((name, count), FLOOR)} | {ratio:.2f} |")


def agreement() -> None:
    """Say how far the engines are apart, where rounding is all that can differ."""
    print("\n### Gradients of both engines, relative to their norm, 16 rows, double precision\n")
    print("| | largest difference |")
    print("|---|---|")
    for problem in problems("cpu")[:3]:
        x, y = problem.x.double(), problem.y
        loop = ls.Landscape(problem.seeded(), "cross_entropy", (x, y), dtype=torch.float64, engine="loop")
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(16, loop.size, generator=generator, dtype=torch.float64)
        rows = loop.initial() + 0.01 * noise
        stream = loop.stream(problem.batch, 0)
        batches = stream.batches([stream.start(seed) for seed in range(16)])
        one, other = (place.gradient(rows, batches) for place in (loop, loop.with_engine("traced")))
        apart = ((one - other).norm(dim=1) / one.norm(dim=1)).max()
        print(f"| {problem.name} | {float(apart):.0e} |", flush=True)


def overhead(repeats: int, seconds: float) -> None:
    """Compare walks of one worker with the loops that one would write by hand."""
    print("\n### One worker: time of a step of Walk.advance, and in times of two loops by hand\n")
    print(
        "| | us a step, CPU | with torch.optim, CPU | with torch.optim, wall | all written out, CPU | "
        "all written out, wall |"
    )
    print("|---|---|---|---|---|---|")
    for problem in problems("cpu"):
        candidates = {
            "optim": Modules(problem, 1).step,
            "written": Written(problem).step,
            "walk": walk(problem, 1, "auto").advance,
        }
        found = turns(candidates, 3 * repeats, seconds / 2, "cpu")
        ratios = " | ".join(
            f"{1 / speed(found, unit, 'walk', clock):.3f}"
            for unit in ("optim", "written")
            for clock in ("CPU", "wall")
        )
        print(f"| {problem.name} | {1e6 * middle(found, 'walk', 'CPU'):.0f} | {ratios} |", flush=True)
        del candidates
        gc.collect()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns of every candidate")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default=None, help="cpu or cuda; both where there is a GPU by default")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(line("landscape-core", "torch"), "float32", sep="; ")
    start = time.perf_counter()
    gpu = torch.cuda.is_available()
    if options.device not in (None, "cpu") and not gpu:
        parser.error(f"--device {options.device}: torch sees no GPU here.")
    if options.device in (None, "cpu"):
        reached = {}
        for problem in problems("cpu"):
            reached |= measure(problem, options.repeats, options.seconds, "cpu")
        goals(reached)
        overhead(options.repeats, options.seconds)
        agreement()
    if options.device != "cpu" and gpu:
        device = options.device or "cuda"
        print(f"\n## {torch.cuda.get_device_name(device)}, wall time")
        for problem in problems(device):
            measure(problem, options.repeats, options.seconds, device)
    elif options.device is None:
        print("\nGPU: not measured (none here).")
    print(f"\nAll of it took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
