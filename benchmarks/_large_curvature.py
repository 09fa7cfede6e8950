"""Curvature of a residual network and of a transformer, and the largest network whose eigenvalues fit.

``python -m benchmarks.curvature --device cuda`` measures both, in float32, in units of a gradient on the same device;
with ``--tiny`` and ``--device cpu`` the same code runs on networks of a second or two, which a test does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from benchmarks._machine import line
from landscape_hessian.lanczos import extreme_eigenpairs

#: Vectors in a block.
COLUMNS = 4
#: Samples of a trace.
SAMPLES = 10


class _Block(nn.Module):
    """Two convolutions with a bypass."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.two = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.bypass = nn.Sequential()
        if stride != 1 or before != width:
            self.bypass = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the images after the block."""
        z = F.relu(self.norms[0](self.one(x)))
        return F.relu(self.norms[1](self.two(z)) + self.bypass(x))


class ResidualNetwork(nn.Module):
    """The 18-layer residual network (He et al. 2016) in its form for images of 32 x 32 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks, before = [], width
        for stage in range(4):
            for block in range(2):
                after = width * 2**stage
                blocks.append(_Block(before, after, 2 if stage and not block else 1))
                before = after
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 10)."""
        return self.head(self.blocks(self.front(x)).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """A decoder whose loss is computed inside, as language models have it."""

    def __init__(self, tokens: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.joint = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(layers)])
        self.mix = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2 * layers + 1)])
        self.wide = nn.ModuleList([nn.Linear(width, 4 * width) for _ in range(layers)])
        self.narrow = nn.ModuleList([nn.Linear(4 * width, width) for _ in range(layers)])

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of the next token."""
        h = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer, joint in enumerate(self.joint):
            q, k, v = (
                joint(self.norms[2 * layer](h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            )
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            h = h + self.mix[layer](seen)
            h = h + self.narrow[layer](F.gelu(self.wide[layer](self.norms[2 * layer + 1](h))))
        logits = self.norms[-1](h) @ self.embed.weight.T
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@dataclass
class Large:
    """A network with data, made when it is needed."""

    name: str
    make: Callable[[], tuple[nn.Module, Any, Any]]


def networks(*, tiny: bool) -> Iterator[Large]:
    """Yield the networks."""

    def residual() -> tuple[nn.Module, Any, Any]:
        count = 4 if tiny else 256
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(count, 3, 8 if tiny else 32, 8 if tiny else 32, generator=generator)
        return ResidualNetwork(2 if tiny else 64), "cross_entropy", (x, torch.arange(count) % 10)

    def transformer() -> tuple[nn.Module, Any, Any]:
        tokens, length, count = (11, 6, 3) if tiny else (16384, 256, 8)
        sizes = (8, 2, 2) if tiny else (768, 12, 12)
        generator = torch.Generator().manual_seed(0)
        text = torch.randint(tokens, (count, length + 1), generator=generator)
        batch = {"input_ids": text[:, :-1], "labels": text[:, 1:]}
        return Transformer(tokens, length, *sizes), "model", [batch]

    yield Large("ResNet-18 for 32x32 pixels", residual)
    yield Large("Transformer, 12 layers, loss inside", transformer)


def perceptron(width: int) -> tuple[nn.Module, Any, Any]:
    """Return a perceptron of 3 hidden layers on 256 examples: its weights are what takes memory."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 64, generator=generator)
    sizes = [64, width, width, width, 10]
    layers = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), "cross_entropy", (x, torch.arange(256) % 10)


class _Clock:
    """Times work on a device, and what memory it takes at most."""

    def __init__(self, device: str) -> None:
        self.gpu = torch.device(device).type == "cuda"
        self.device = device

    def seconds(self, work: Callable[[], object]) -> float:
        """Return wall seconds."""
        if self.gpu:
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        work()
        if self.gpu:
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def room(self) -> int | None:
        """Return the bytes that graphs may hold: half of what is free; None leaves it to the library."""
        return torch.cuda.mem_get_info(self.device)[0] // 2 if self.gpu else None

    def forget_peak(self) -> None:
        """Measure memory from here on."""
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> str:
        """Return the most memory taken since then, in words."""
        if not self.gpu:
            return "not measured on a CPU"
        return f"{torch.cuda.max_memory_allocated(self.device) / 2**30:.2f} GiB"


def landscape_of(made: tuple[nn.Module, Any, Any], device: str) -> ls.Landscape:
    module, loss, data = made
    return ls.Landscape(module, loss, data, device=device, dtype=torch.float32)


def five_largest(landscape: ls.Landscape, operator: Any) -> Any:
    return extreme_eigenpairs(
        operator.matvec,
        landscape.size,
        top=5,
        tolerance=1e-3,
        risk=None,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float32,
        device=operator.device,
    )


def measure(large: Large, device: str, repeats: int) -> None:
    """Print the table of one network."""
    torch.manual_seed(0)
    landscape, clock = landscape_of(large.make(), device), _Clock(device)
    theta = landscape.initial()
    rows: list[tuple[str, float, str]] = []

    def gradient() -> float:
        return statistics.median(clock.seconds(lambda: landscape.gradient(theta)) for _ in range(repeats))

    landscape.gradient(theta)
    clock.forget_peak()
    unit = gradient()
    memory = clock.peak()
    clock.forget_peak()
    made: list[Any] = []
    building = clock.seconds(lambda: made.append(landscape.hessian(theta, memory=clock.room())))
    operator = made[0]
    cost = operator.cost
    rows.append(
        (
            "building the operator",
            building / unit,
            f"{cost.batches_kept} kept, {cost.batches_recomputed} anew",
        )
    )
    generator = torch.Generator().manual_seed(1)
    block = torch.randn(landscape.size, COLUMNS, generator=generator).to(device)
    operator.matmat(block)
    one = statistics.median(clock.seconds(lambda: operator.matvec(block[:, 0])) for _ in range(repeats))
    many = statistics.median(clock.seconds(lambda: operator.matmat(block)) for _ in range(repeats))
    rows.append(("a product", one / unit, ""))
    rows.append((f"{COLUMNS} products at once, each", many / COLUMNS / unit, ""))
    products = clock.peak()
    clock.forget_peak()
    found: list[Any] = []
    top = clock.seconds(lambda: found.append(five_largest(landscape, operator)))
    values = ", ".join(f"{value:.4g}" for value in found[0].top.values)
    rows.append(
        ("five largest eigenvalues, tolerance 0.001", top / unit, f"{found[0].products} products: {values}")
    )
    eigenvalues = clock.peak()
    point = ls.Point(landscape, theta)
    traced = clock.seconds(lambda: found.append(point.measure("CurvatureTrace", samples=SAMPLES)))
    scalars, errors = found[1].scalars, found[1].errors
    says = f"{scalars['hessian_trace']:.4g}, standard error {errors['hessian_trace'].value:.2g}"
    rows.append((f"trace, {SAMPLES} samples, by the probe, which keeps 2 GiB", traced / unit, says))
    print(f"\n### {large.name}: {landscape.size:,} weights\n")
    print("| | wall time / gradient | |")
    print("|---|---|---|")
    for name, ratio, note in rows:
        print(f"| {name} | {ratio:.2f} | {note} |")
    print(
        f"\nA gradient takes {1e3 * unit:.1f} ms. Peak memory: gradient {memory}, operator and products {products}, "
        f"eigenvalues {eigenvalues}.",
        flush=True,
    )


def largest(device: str, most: int) -> None:
    """Double the width of a perceptron until its five largest eigenvalues do not fit any more."""
    clock, width, fits = _Clock(device), 64, "none"
    print("\n### The largest perceptron whose five largest eigenvalues fit\n")
    while width <= most:
        clock.forget_peak()
        try:
            landscape = landscape_of(perceptron(width), device)
            found = five_largest(landscape, landscape.hessian(landscape.initial()))
            fits = f"{landscape.size:,} weights ({found.products} products, peak memory {clock.peak()})"
            del landscape, found
        except (torch.OutOfMemoryError, MemoryError):
            print(f"Fits: {fits}. Width {width} does not.", flush=True)
            return
        width *= 2
    print(f"Fits: {fits}. Larger ones were not tried.", flush=True)


def measure_large(device: str, *, tiny: bool = False, repeats: int = 5) -> None:
    """Measure all networks on a device.

    Parameters
    ----------
    device
        For torch.
    tiny
        Whether to take networks of a second or two.
    repeats
        Turns of gradients and products; medians count.
    """
    print(line("landscape-core", "torch"), device, "float32", sep="; ")
    if torch.device(device).type == "cuda":
        print(torch.cuda.get_device_name(device))
    for large in networks(tiny=tiny):
        measure(large, device, repeats)
    largest(device, 128 if tiny else 1 << 20)
