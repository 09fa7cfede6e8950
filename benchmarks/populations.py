"""Steps of K workers beside a loop over K modules with torch.optim, and what a walk of one worker adds to a step.

``python -m benchmarks.populations`` measures everything in one process: the candidates take turns, and each figure
is the median over the turns of time / time of the loop over modules in that turn. CPU time counts on shared
machines. The unit is what one would write by hand: K ``nn.Module``s, K ``torch.optim.SGD`` with momentum, and for
each its own permutation of the data, drawn anew every epoch.

Of landscape, whole steps of ``Walk.advance`` are timed: batches, gradients, update, the check for finite numbers.
``auto`` is what a walk ends up with; what choosing costs is printed apart.

With a GPU, ``--device cuda`` measures the same there by wall time, for 1, 16, 64 and 256 workers.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import itertools
import platform
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


def walk(problem: Problem, count: int, engine: str) -> ls.Walk:
    walker = ls.walkers.SGD(lr=LR, batch_size=problem.batch, momentum=MOMENTUM, workers=count)
    return ls.Walk(problem.landscape(engine), walker)


# -- timing -----------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object], steps: int, device: str) -> float:
    """Return seconds per step: of the CPU, or by the clock where an accelerator works."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    begin = clock()
    for _ in range(steps):
        work()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock() - begin) / steps


def turns(
    candidates: dict[str, Callable[[], object]], repeats: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Let the candidates take turns of about `seconds`; return each one's seconds per step in every turn."""
    names = list(candidates)
    for name in names:
        timed(candidates[name], 2, device)
    steps = max(1, round(seconds / timed(candidates[names[0]], 2, device)))
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(timed(candidates[name], steps, device))
    return found


def speeds(found: dict[str, list[float]], unit: str, name: str) -> float:
    return statistics.median(one / other for one, other in zip(found[unit], found[name], strict=True))


def measure(problem: Problem, repeats: int, seconds: float, device: str) -> None:
    size = sum(p.numel() for p in problem.make().parameters())
    print(f"\n### {problem.name}: {size:,} weights, batches of {problem.batch}\n")
    print("| K | modules, ms a step | modules | loop | traced | auto | chosen | choosing, s |")
    print("|---|---|---|---|---|---|---|---|")
    for count in problem.workers:
        modules = Modules(problem, count)
        walks = {engine: walk(problem, count, engine) for engine in ("loop", "traced", "auto")}
        cost = time.process_time()
        walks["auto"].settle_engine()  # which a walk does by itself once it has taken a second
        cost = time.process_time() - cost
        chosen = walks["auto"].engine
        rows = next((f", {c.rows} rows at once" for c in walks["auto"].engine_choices if c.rows), "")
        candidates = {"modules": modules.step} | {name: w.advance for name, w in walks.items()}
        found = turns(candidates, repeats, seconds, device)
        ratios = " | ".join(f"{speeds(found, 'modules', name):.2f}" for name in candidates)
        ms = 1e3 * statistics.median(found["modules"])
        print(f"| {count} | {ms:.2f} | {ratios} | {chosen}{rows} | {cost:.1f} |", flush=True)
        del modules, walks, candidates, found
        gc.collect()


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
    """Compare a walk of one worker with the loop that one would write by hand."""
    problem = problems("cpu")[0]
    print(f"\n### One worker: {problem.name}, batches of {problem.batch}\n")
    print("| | us a step | time / loop by hand |")
    print("|---|---|---|")
    candidates = {"by hand": Modules(problem, 1).step, "Walk.advance": walk(problem, 1, "auto").advance}
    found = turns(candidates, 4 * repeats, seconds, "cpu")
    for name in candidates:
        us = 1e6 * statistics.median(found[name])
        print(f"| {name} | {us:.0f} | {1 / speeds(found, 'by hand', name):.3f} |", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns of every candidate")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default=None, help="cpu or cuda; both where there is a GPU by default")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("landscape-core", "torch")]
    print(
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} thread(s), float32; {', '.join(versions)}"
    )
    start = time.perf_counter()
    if options.device in (None, "cpu"):
        for problem in problems("cpu"):
            measure(problem, options.repeats, options.seconds, "cpu")
        overhead(options.repeats, options.seconds)
        agreement()
    if options.device not in (None, "cpu") or (options.device is None and torch.cuda.is_available()):
        device = options.device or "cuda"
        print(f"\n## {torch.cuda.get_device_name(device)}, wall time")
        for problem in problems(device):
            measure(problem, options.repeats, options.seconds, device)
    elif options.device is None:
        print("\nGPU: not measured (none here).")
    print(f"\nAll of it took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
