"""Hessian-vector products, leading eigenvalues, traces and densities, beside peers, in units of one gradient.

``python -m benchmarks.curvature`` measures everything in one process: the candidates take turns, every turn
starts with the gradient that is the unit, and each figure is the median over the turns of time / unit. CPU
time counts on shared machines, wall time is printed beside it. Peers that are not installed are left out.

The unit is plain torch: one backward pass of the loss on all data, gradient flattened; in chunks of the examples where
that is faster.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from benchmarks._machine import line
from landscape.objective.gram import example_gram
from landscape_hessian.lanczos import extreme_eigenpairs

#: Products in one turn: enough that a turn is long beside the clock's resolution.
PRODUCTS = 5
#: Samples of a trace.
SAMPLES = 30


@dataclass
class Problem:
    """A module on the digits, with the vectors to multiply."""

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor
    #: Examples in one backward pass of the unit; None for all.
    chunk: int | None = None
    #: Whether eigenvalues and densities take minutes.
    large: bool = False
    vectors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = list(self.module.parameters())
        self.size = sum(p.numel() for p in self.parameters)
        generator = torch.Generator().manual_seed(1)
        self.vectors = [torch.randn(self.size, generator=generator) for _ in range(PRODUCTS)]

    def loss(self) -> Tensor:
        """Return the loss on all data, shape ()."""
        return F.cross_entropy(self.module(self.x), self.y)

    def gradient(self) -> Tensor:
        """Return its gradient, shape (P,): the unit of every table."""
        size = self.chunk or len(self.x)
        sums: list[Tensor] = []
        for x, y in zip(self.x.split(size), self.y.split(size), strict=True):
            loss = F.cross_entropy(self.module(x), y) * (len(x) / len(self.x))
            parts = torch.autograd.grad(loss, self.parameters)
            sums = [a.add_(b) for a, b in zip(sums, parts, strict=True)] if sums else list(parts)
        return torch.cat([g.reshape(-1) for g in sums])

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return a vector, shape (P,), as one tensor per parameter."""
        parts = vector.split([p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def landscape(self, dtype: torch.dtype = torch.float32) -> ls.Landscape:
        """Return a landscape made afresh."""
        return ls.Landscape(self.module, "cross_entropy", (self.x, self.y), dtype=dtype)


def problems() -> list[Problem]:
    """Return the networks after 200 steps of SGD: the spectrum has outliers, as it has when one looks at it."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    makers: dict[str, Callable[[], nn.Module]] = {
        "MLP 64-100-100-10": lambda: nn.Sequential(
            nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
        ),
        "CNN 8-16 channels": lambda: nn.Sequential(
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
        ),
    }
    found = []
    for name, make in makers.items():
        torch.manual_seed(0)
        module = make()
        sgd = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(200):
            rows = torch.randint(len(x), (64,))
            sgd.zero_grad()
            F.cross_entropy(module(x[rows]), y[rows]).backward()
            sgd.step()
        sgd.zero_grad(set_to_none=True)
        found.append(
            Problem(f"{name} ({sum(p.numel() for p in module.parameters()):,} weights)", module, x, y)
        )
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 3, 32, 32, generator=generator), torch.randint(10, (32,), generator=generator)
    module = ls.models.SimpleCNN().build((x, y), generator).float()
    sgd = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(10):
        sgd.zero_grad()
        F.cross_entropy(module(x), y).backward()
        sgd.step()
    sgd.zero_grad(set_to_none=True)
    size = sum(p.numel() for p in module.parameters())
    # Of 4, 8, 16 and 32 images at a time, 16 gave the fastest gradient.
    found.append(Problem(f"SimpleCNN ({size:,} weights), 32 random images of 32x32", module, x, y, 16, True))
    return found


# -- products -------------------------------------------------------------------------------------------------


def products(problem: Problem) -> dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], int]]:
    """Return, by name, a function that prepares a product, and how many vectors one call multiplies.

    What is prepared outside the timing is what a user of that tool prepares once per point.
    """

    def ours() -> Callable[[Tensor], Tensor]:
        landscape = problem.landscape()
        return landscape.hessian(landscape.initial()).matvec

    def double_backward() -> Callable[[Tensor], Tensor]:
        def product(v: Tensor) -> Tensor:
            gradient = torch.autograd.grad(problem.loss(), problem.parameters, create_graph=True)
            parts = torch.autograd.grad(gradient, problem.parameters, problem.split(v))
            return torch.cat([part.reshape(-1) for part in parts])

        return product

    def forward_over_reverse() -> Callable[[Tensor], Tensor]:
        names = [name for name, _ in problem.module.named_parameters()]
        weights = {name: p.detach() for name, p in problem.module.named_parameters()}

        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return F.cross_entropy(
                torch.func.functional_call(problem.module, parameters, (problem.x,)), problem.y
            )

        def product(v: Tensor) -> Tensor:
            tangent = dict(zip(names, problem.split(v), strict=True))
            parts = torch.func.jvp(torch.func.grad(loss), (weights,), (tangent,))[1]
            return torch.cat([parts[name].reshape(-1) for name in names])

        return product

    found: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], int]] = {
        "landscape, CurvatureOperator.matvec": (ours, 1),
        "torch, double backward": (double_backward, 1),
        "torch.func, jvp(grad)": (forward_over_reverse, 1),
    }
    if installed("curvlinops-for-pytorch"):

        def peer() -> Callable[[Tensor], Tensor]:
            operator = curvlinops_hessian(problem)
            return lambda v: operator @ v

        found["curvlinops, H @ v"] = (peer, 1)
        found[f"curvlinops, H @ V, {PRODUCTS} columns, each"] = (peer, PRODUCTS)
    if installed("pyhessian"):

        def pyhessian_product() -> Callable[[Tensor], Tensor]:
            from pyhessian.utils import hessian_vector_product

            peer = pyhessian_hessian(problem)

            def product(v: Tensor) -> Tensor:
                parts = hessian_vector_product(peer.gradsH, peer.params, problem.split(v))
                return torch.cat([part.reshape(-1) for part in parts])

            return product

        found["PyHessian, one batch"] = (pyhessian_product, 1)
    return found


def compare_products(problem: Problem, repeats: int) -> None:
    candidates = {name: (prepare(), columns) for name, (prepare, columns) in products(problem).items()}
    exact = problem.landscape(torch.float64)
    operator = exact.hessian(exact.initial())
    truths = [operator.matvec(v.double()) for v in problem.vectors]
    block = torch.stack(problem.vectors, dim=1)

    def run(product: Callable[[Tensor], Tensor], columns: int) -> list[Tensor]:
        if columns == 1:
            return [product(v) for v in problem.vectors]
        return list(product(block).T)

    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    errors = {
        name: max(
            float(torch.linalg.vector_norm(found.double() - truth) / torch.linalg.vector_norm(truth))
            for found, truth in zip(run(*candidate), truths, strict=True)
        )
        for name, candidate in candidates.items()
    }
    unit = Unit(problem)
    for turn in range(repeats):
        for name in rotated(list(candidates), turn):
            cpu, wall = timed(lambda name=name: run(*candidates[name]))
            rows[name].append(unit.ratio(cpu / PRODUCTS, wall / PRODUCTS))
    print(f"\n### One Hessian-vector product: {problem.name}\n")
    print("| | CPU time / gradient | wall time / gradient | relative error |")
    print("|---|---|---|---|")
    for name, ratios in rows.items():
        cpu, wall = medians(ratios)
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {errors[name]:.0e} |")
    unit.report()


# -- eigenvalues ------------------------------------------------------------------------------------------------


def eigensolvers(problem: Problem, tolerance: float) -> dict[str, Callable[[], tuple[np.ndarray, str]]]:
    """Return, by name, a function that finds the five largest eigenvalues from nothing, and says how."""

    def ours(risk: float | None) -> Callable[[], tuple[np.ndarray, str]]:
        def solve() -> tuple[np.ndarray, str]:
            landscape = problem.landscape()
            operator = landscape.hessian(landscape.initial())
            found = extreme_eigenpairs(
                operator.matvec,
                problem.size,
                top=5,
                tolerance=tolerance,
                risk=risk,
                generator=torch.Generator().manual_seed(0),
                dtype=torch.float32,
            )
            bound = found.top.bounds.max() / found.radius
            return found.top.values, f"{found.products} products, error bound {bound:.0e}"

        return solve

    def arpack(operator: LinearOperator) -> tuple[np.ndarray, str]:
        count = 0

        def counted(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return operator.matvec(v)

        start = np.random.default_rng(0).standard_normal(problem.size).astype(np.float32)
        values = eigsh(
            LinearOperator(operator.shape, matvec=counted, dtype=np.float32),
            k=5,
            which="LA",
            tol=tolerance,
            v0=start,
            return_eigenvectors=True,  # as ours does
        )[0]
        return np.sort(values)[::-1], f"{count} products"

    def on_ours() -> tuple[np.ndarray, str]:
        landscape = problem.landscape()
        return arpack(landscape.hessian(landscape.initial()).to_scipy())

    found = {
        "landscape, HessianSpectrum's solver": ours(1e-3),
        "landscape, without the search for missed ones": ours(None),
        "scipy eigsh on landscape's operator": on_ours,
    }
    if installed("curvlinops-for-pytorch"):
        found["scipy eigsh on curvlinops' operator"] = lambda: arpack(curvlinops_hessian(problem).to_scipy())
    if installed("pyhessian"):

        def power() -> tuple[np.ndarray, str]:
            # Largest in magnitude, which here are the largest; tol is a change of the Rayleigh quotient.
            values, _ = pyhessian_hessian(problem).eigenvalues(tol=tolerance, top_n=5)
            return np.sort(np.array(values))[::-1], "power iteration"

        found["PyHessian, eigenvalues()"] = power
    return found


def compare_eigensolvers(problem: Problem, repeats: int, tolerance: float) -> None:
    landscape = problem.landscape(torch.float64)
    operator = landscape.hessian(landscape.initial())
    truth = np.sort(eigsh(operator.to_scipy(), k=5, which="LA", tol=0, return_eigenvectors=False))[::-1]
    solvers = eigensolvers(problem, tolerance)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in solvers}
    notes: dict[str, tuple[float, str]] = {}
    unit = Unit(problem)
    for turn in range(repeats):
        for name in rotated(list(solvers), turn):
            results: list[tuple[np.ndarray, str]] = []
            cpu, wall = timed(lambda name=name, results=results: results.append(solvers[name]()))
            rows[name].append(unit.ratio(cpu, wall))
            values, note = results[0]
            notes[name] = (float(np.abs(values - truth).max() / np.abs(truth).max()), note)
    print(f"\n### The five largest eigenvalues, tolerance {tolerance:g}: {problem.name}\n")
    print("| | CPU time / gradient | wall time / gradient | error / largest | |")
    print("|---|---|---|---|---|")
    for name, ratios in rows.items():
        cpu, wall = medians(ratios)
        print(f"| {name} | {cpu:.0f} | {wall:.0f} | {notes[name][0]:.0e} | {notes[name][1]} |")
    print(f"\nTruth: ARPACK in float64 at tolerance 0: {', '.join(f'{value:.4f}' for value in truth)}.")
    unit.report()


# -- traces, densities, covariances ------------------------------------------------------------------------------


def estimators(problem: Problem) -> dict[str, dict[str, Callable[[], str]]]:
    """Return, by table and by name, a function that estimates from nothing, and says how far it got."""

    def probe(name: str, **configuration: Any) -> Callable[[], str]:
        def measure() -> str:
            landscape = problem.landscape()
            found = ls.Point(landscape, landscape.initial()).measure(name, **configuration)
            column = "hessian_trace" if name == "CurvatureTrace" else "hessian_density_trace"
            return f"trace {found.scalars[column]:.1f}, standard error {found.errors[column].value:.1f}"

        return measure

    traces = {
        "landscape, CurvatureTrace, signs": probe("CurvatureTrace", samples=SAMPLES),
        "landscape, CurvatureTrace, XTrace": probe("CurvatureTrace", samples=SAMPLES, method="xtrace"),
    }
    densities = {
        "landscape, CurvatureDensity, full reorthogonalisation": probe(
            "CurvatureDensity", samples=2, steps=80
        )
    }
    if installed("curvlinops-for-pytorch"):

        def hutchinson() -> str:
            from curvlinops import hutchinson_trace

            return f"trace {float(hutchinson_trace(curvlinops_hessian(problem), num_matvecs=SAMPLES)):.1f}"

        traces["curvlinops, hutchinson_trace"] = hutchinson
    if installed("pyhessian"):

        def signs() -> str:
            # A tolerance below 0 is never reached: as many samples as asked for.
            values = pyhessian_hessian(problem).trace(maxIter=SAMPLES, tol=-1.0)
            return f"trace {float(np.mean(values)):.1f}"

        traces["PyHessian, trace()"] = signs
    return {
        f"The trace of the Hessian, {SAMPLES} samples": traces,
        "The density, 2 vectors, 80 steps": densities,
    }


def compare_estimators(problem: Problem, repeats: int, *, slow: bool) -> None:
    unit = Unit(problem)
    for title, candidates in estimators(problem).items():
        if problem.large and not slow and "density" in title:
            continue
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
        notes: dict[str, str] = {}
        for turn in range(repeats):
            for name in rotated(list(candidates), turn):
                results: list[str] = []
                cpu, wall = timed(lambda run=candidates[name], results=results: results.append(run()))
                rows[name].append(unit.ratio(cpu, wall))
                notes[name] = results[0]
        print(f"\n### {title}: {problem.name}\n")
        print("| | CPU time / gradient | wall time / gradient | |")
        print("|---|---|---|---|")
        for name, ratios in rows.items():
            cpu, wall = medians(ratios)
            print(f"| {name} | {cpu:.0f} | {wall:.0f} | {notes[name]} |")
    unit.report()


def compare_grams(problem: Problem, repeats: int) -> None:
    """Gradients of single examples: their Gram matrix with and without the gradients."""
    count = min(512, len(problem.x))
    x, y = problem.x[:count], problem.y[:count]
    landscape = ls.Landscape(problem.module, "cross_entropy", (x, y))
    theta = landscape.initial()

    def layers() -> Tensor:
        found = example_gram(landscape, theta, landscape.batches())
        assert found is not None
        return found

    def stacked(dtype: torch.dtype) -> Callable[[], Tensor]:
        def product() -> Tensor:
            rows = landscape.example_gradients(theta, (x, y)).to(dtype)
            return rows @ rows.T

        return product

    candidates = {
        "landscape, from inputs and outputs of the layers": layers,
        "vmapped gradients, stacked, float32": stacked(torch.float32),
        "vmapped gradients, stacked, float64": stacked(torch.float64),
    }
    truth = candidates["vmapped gradients, stacked, float64"]()
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    unit = Unit(problem)
    for turn in range(repeats):
        for name in rotated(list(candidates), turn):
            rows[name].append(unit.ratio(*timed(candidates[name])))
    print(f"\n### The Gram matrix of {count} gradients of single examples: {problem.name}\n")
    print("| | CPU time / gradient of all data | wall time / gradient | relative error |")
    print("|---|---|---|---|")
    for name, ratios in rows.items():
        cpu, wall = medians(ratios)
        error = torch.linalg.matrix_norm(candidates[name]().double() - truth) / torch.linalg.matrix_norm(
            truth
        )
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {float(error):.0e} |")
    unit.report()


# -- peers ------------------------------------------------------------------------------------------------------


def installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def curvlinops_hessian(problem: Problem) -> Any:
    from curvlinops import HessianLinearOperator

    return HessianLinearOperator(
        problem.module,
        nn.CrossEntropyLoss(),
        problem.parameters,
        [(problem.x, problem.y)],
        check_deterministic=False,
        num_data=len(problem.x),
    )


def pyhessian_hessian(problem: Problem) -> Any:
    from pyhessian import hessian

    return hessian(problem.module, nn.CrossEntropyLoss(), data=(problem.x, problem.y), cuda=False)


# -- timing -----------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


class Unit:
    """One gradient, timed afresh beside everything that is measured in it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.seen: list[tuple[float, float]] = []

    def ratio(self, cpu: float, wall: float) -> tuple[float, float]:
        """Return CPU and wall seconds in units of a gradient timed now."""
        count = 10
        unit_cpu, unit_wall = timed(lambda: [self.problem.gradient() for _ in range(count)])
        self.seen.append((unit_cpu / count, unit_wall / count))
        return cpu / self.seen[-1][0], wall / self.seen[-1][1]

    def report(self) -> None:
        """Say how steady the unit was."""
        cpu = [seconds for seconds, _ in self.seen]
        print(
            f"\nThe gradient varied by {max(cpu) / min(cpu):.2f} between its fastest and slowest turn.",
            flush=True,
        )


def rotated(names: list[str], turn: int) -> list[str]:
    shift = turn % len(names)
    return names[shift:] + names[:shift]


def medians(ratios: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(cpu for cpu, _ in ratios), statistics.median(wall for _, wall in ratios)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=9, help="turns of every product; a third for eigenvalues"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--slow",
        action="store_true",
        help="eigenvalues and densities of the largest network too: half an hour",
    )
    parser.add_argument("--tolerance", type=float, default=1e-3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    peers = ("scipy", "numpy", "curvlinops-for-pytorch", "pyhessian")
    print(line("landscape-core", "torch", *peers), "float32", sep="; ")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peers
        for problem in problems():
            compare_products(problem, options.repeats)
            if options.slow or not problem.large:
                compare_eigensolvers(problem, max(3, options.repeats // 3), options.tolerance)
            compare_estimators(problem, max(3, options.repeats // 3), slow=options.slow)
            compare_grams(problem, max(3, options.repeats // 3))
    print(f"\nAll of this took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
