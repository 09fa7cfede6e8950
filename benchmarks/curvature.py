"""Hessian-vector products, leading eigenvalues, traces and densities, beside peers, in units of one gradient.

``python -m benchmarks.curvature`` measures everything in one process: the candidates take turns, every turn
starts with the gradient that is the unit, and each figure is the median over the turns of time / unit. CPU
time counts on shared machines, wall time is printed beside it. Peers that are not installed are left out.

The unit is plain torch: one backward pass of the loss on all data, gradient flattened; in chunks of the examples where
that is faster.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
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
#: Distributions of peers. What cannot be installed here is left out, and said to be.
PEERS = (
    *("curvlinops-for-pytorch", "pyhessian", "hessian-eigenthings"),
    *("backpack-for-pytorch", "vivit-for-pytorch"),
)

_FORMS = f"trace, {SAMPLES} samples (by forms; as many products of the fewest operations take 59.7)"
#: What shall be reached, in gradients, by network (the first word of its name) and by what is measured. The trace of
#: the SimpleCNN was to cost no more than the best peer's, whose 48 gradients were those of PyHessian, which had stopped
#: after a part of the samples: 30 products of as many operations as are needed take 59.7. The quadratic forms that a
#: trace is made of form no products and need half of their operations: that floor is none for them. There are two rows
#: for it, and in the tables all peers take all samples.
GOALS = {
    ("MLP", "a product"): 1.75,
    ("SimpleCNN", "a product"): 2.05,
    ("MLP", "five largest eigenvalues, without the search for missed ones"): 33.0,
    ("SimpleCNN", "five largest eigenvalues, without the search for missed ones"): 121.0,
    ("MLP", "five largest eigenvalues, with the search for missed ones"): 33.0,
    ("SimpleCNN", "five largest eigenvalues, with the search for missed ones"): 121.0,
    ("MLP", "trace, 30 samples"): 53.0,
    ("SimpleCNN", _FORMS): 48.0,
    ("SimpleCNN", "trace, 30 samples, beside the best peer's of as many"): 1.0,
    ("MLP", "density, 2 vectors, 80 steps"): 285.0,
    ("MLP", "Gram matrix, time beside stacked gradients in float32"): 1 / 15,
    ("SimpleCNN", "Gram matrix, time beside stacked gradients in float32"): 1.0,
    ("MLP", "Gram matrix, memory beside stacked gradients in float32"): 1 / 10,
}
#: What was reached, likewise.
reached: dict[tuple[str, str], float] = {}


def note(problem: Problem, what: str, measured: float) -> None:
    """Take note of what was reached where there is a goal for it."""
    key = (problem.name.split()[0], what)
    if key in GOALS:
        reached[key] = measured


def goals() -> None:
    """Say what was to be reached, and what was."""
    print("\n### Goals\n")
    print("| | at most | measured | |")
    print("|---|---|---|---|")
    for key, goal in GOALS.items():
        measured = reached.get(key)
        says = "not measured" if measured is None else f"{measured:.3g}"
        verdict = "" if measured is None else ("met" if measured <= goal else "missed")
        print(f"| {key[0]}: {key[1]} | {goal:.3g} | {says} | {verdict} |", flush=True)


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

    def ours_together() -> Callable[[Tensor], Tensor]:
        landscape = problem.landscape()
        return landscape.hessian(landscape.initial()).matmat

    found: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], int]] = {
        "landscape, CurvatureOperator.matvec": (ours, 1),
        f"landscape, CurvatureOperator.matmat, {PRODUCTS} columns, each": (ours_together, PRODUCTS),
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
    if installed("hessian-eigenthings"):
        found["hessian-eigenthings, HessianOperator.matvec"] = (
            lambda: eigenthings_hessian(problem).matvec,
            1,
        )
    if installed("backpack-for-pytorch"):

        def backpack_product() -> Callable[[Tensor], Tensor]:
            from backpack.hessianfree.hvp import hessian_vector_product

            loss = problem.loss()
            gradient = torch.autograd.grad(loss, problem.parameters, create_graph=True)

            def product(v: Tensor) -> Tensor:
                parts = hessian_vector_product(loss, problem.parameters, problem.split(v), gradient)
                return torch.cat([part.reshape(-1) for part in parts])

            return product

        found["BackPACK, hessian_vector_product"] = (backpack_product, 1)
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
        if name == "landscape, CurvatureOperator.matvec":
            note(problem, "a product", cpu)
    unit.report()


#: What is measured of every kind of matrix.
MATRICES = ("hessian", "gauss_newton", "fisher", "covariance")


def compare_matrices(problem: Problem, repeats: int) -> None:
    """Products and quadratic forms of all kinds of matrices, alone and together."""
    block = torch.stack(problem.vectors, dim=1)

    def jobs(operator: ls.CurvatureOperator) -> list[Callable[[], Tensor]]:
        return [
            lambda: torch.stack([operator.matvec(v) for v in problem.vectors], dim=1),
            lambda: operator.matmat(block),
            lambda: torch.cat([operator.quadratic_forms(v.unsqueeze(1)) for v in problem.vectors]),
            lambda: operator.quadratic_forms(block),
        ]

    landscape, exact = problem.landscape(), problem.landscape(torch.float64)
    theta, few = landscape.initial(), block[:, :2].double()
    candidates = {kind: jobs(ls.CurvatureOperator.of(landscape, theta, kind)) for kind in MATRICES}
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    errors: dict[str, float] = {}
    unit = Unit(problem)
    for turn in range(repeats):
        for kind in rotated(list(candidates), turn):
            found: list[Tensor] = []
            times = [timed(lambda work=work, found=found: found.append(work())) for work in candidates[kind]]
            one = unit.now()
            for number, (cpu, wall) in enumerate(times):
                rows.setdefault((kind, number), []).append(
                    (cpu / PRODUCTS / one[0], wall / PRODUCTS / one[1])
                )
            if not turn:
                product = ls.CurvatureOperator.of(exact, theta.double(), kind).matmat(few)
                truths = {2: product, 1: (product * few).sum(dim=0)}
                apart = [
                    (result[..., :2].double() - truths[result.ndim], truths[result.ndim]) for result in found
                ]
                norm = torch.linalg.vector_norm
                errors[kind] = max(float(norm(off) / norm(truth)) for off, truth in apart)
    print(f"\n### Products and quadratic forms of all matrices, CPU time / gradient: {problem.name}\n")
    together = f"{PRODUCTS} together, each"
    print(f"| | a product | {together} | a quadratic form | {together} | largest relative error |")
    print("|---|---|---|---|---|---|")
    for kind in MATRICES:
        measured = " | ".join(f"{medians(rows[kind, number])[0]:.2f}" for number in range(4))
        print(f"| {kind} | {measured} | {errors[kind]:.0e} |")
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
                gradient=operator.gradient,
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
    if installed("hessian-eigenthings"):

        def peer(steps: int) -> Callable[[], tuple[np.ndarray, str]]:
            def solve() -> tuple[np.ndarray, str]:
                from hessian_eigenthings import lanczos

                operator = eigenthings_hessian(problem)
                result = lanczos(
                    operator, k=5, max_iter=steps, tol=tolerance, reorthogonalize=True, which="LA", seed=0
                )
                converged = int(result.converged.sum())
                values = np.sort(result.eigenvalues.detach().double().numpy())[::-1]
                return values, f"{steps} steps, {converged} of 5 converged"

            return solve

        for steps in (20, 50):
            found[f"hessian-eigenthings, lanczos, {steps} steps"] = peer(steps)
    return found


def compare_eigensolvers(problem: Problem, repeats: int, tolerance: float, *, exact: bool = True) -> None:
    """Compare with peers, and with a truth, which large networks are left without."""
    truth: np.ndarray | None = None
    solvers = eigensolvers(problem, tolerance)
    if exact:
        landscape = problem.landscape(torch.float64)
        operator = landscape.hessian(landscape.initial())
        truth = np.sort(eigsh(operator.to_scipy(), k=5, which="LA", tol=0, return_eigenvectors=False))[::-1]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in solvers}
    notes: dict[str, tuple[float, str]] = {}
    unit = Unit(problem)
    for turn in range(repeats):
        for name in rotated(list(solvers), turn):
            results: list[tuple[np.ndarray, str]] = []
            cpu, wall = timed(lambda name=name, results=results: results.append(solvers[name]()))
            rows[name].append(unit.ratio(cpu, wall))
            values, how = results[0]
            error = np.nan if truth is None else float(np.abs(values - truth).max() / np.abs(truth).max())
            notes[name] = (error, how)
    print(f"\n### The five largest eigenvalues, tolerance {tolerance:g}: {problem.name}\n")
    print("| | CPU time / gradient | wall time / gradient | error / largest | |")
    print("|---|---|---|---|---|")
    for name, ratios in rows.items():
        cpu, wall = medians(ratios)
        error = "not compared" if truth is None else f"{notes[name][0]:.0e}"
        print(f"| {name} | {cpu:.0f} | {wall:.0f} | {error} | {notes[name][1]} |")
        if name == "landscape, without the search for missed ones":
            note(problem, "five largest eigenvalues, without the search for missed ones", cpu)
        elif name == "landscape, HessianSpectrum's solver":
            note(problem, "five largest eigenvalues, with the search for missed ones", cpu)
    if truth is not None:
        print(f"\nTruth: ARPACK in float64 at tolerance 0: {', '.join(f'{value:.4f}' for value in truth)}.")
    unit.report()


def compare_warm_starts(problem: Problem) -> None:
    """Count the products of eigenvalues along a path, begun from the last eigenvectors and from nothing."""
    walker = ls.walkers.SGD(lr=0.1, batch_size=64)
    walk = ls.Walk(problem.landscape(), walker)
    counts: dict[str, list[int]] = {"from the last eigenvectors": [], "from nothing": []}
    previous = None
    for step in range(10, 110, 10):
        for _ in range(10):
            walk.advance()
        theta = walk.positions[0]
        for name, found in counts.items():
            warm = previous if name == "from the last eigenvectors" else None
            point = ls.Point(walk.landscape, theta, step=step, previous=warm)
            found.append(int(point.measure("HessianSpectrum", k=5).scalars["hessian_products"]))
            if name == "from the last eigenvectors":
                previous = point
    print(f"\n### Products of the five largest eigenvalues, every 10 steps of SGD: {problem.name}\n")
    print("| | products of the first ten measurements | together |")
    print("|---|---|---|")
    for name, found in counts.items():
        print(f"| {name} | {', '.join(map(str, found))} | {sum(found)} |", flush=True)


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
            # It stops where a change relative to the mean, whose sign counts, is below the tolerance: for a
            # negative mean at once. Below minus infinity is nothing: as many samples as asked for.
            values = pyhessian_hessian(problem).trace(maxIter=SAMPLES, tol=-np.inf)
            return _estimate(np.array(values))

        traces["PyHessian, trace()"] = signs
    if installed("hessian-eigenthings"):

        def eigenthings() -> str:
            from hessian_eigenthings import hutchinson

            return _estimate(
                hutchinson(eigenthings_hessian(problem), num_samples=SAMPLES, seed=0).samples.numpy()
            )

        def density() -> str:
            from hessian_eigenthings import spectral_density

            spectral_density(eigenthings_hessian(problem), num_runs=2, lanczos_steps=80, seed=0)
            return "full reorthogonalisation"

        traces["hessian-eigenthings, hutchinson"] = eigenthings
        densities["hessian-eigenthings, spectral_density"] = density
    return {
        f"The trace of the Hessian, {SAMPLES} samples": traces,
        "The density, 2 vectors, 80 steps": densities,
    }


def _estimate(samples: np.ndarray) -> str:
    """Say what so many samples give."""
    error = samples.std(ddof=1) / len(samples) ** 0.5
    return f"trace {samples.mean():.1f}, standard error {error:.1f}, {len(samples)} samples"


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
        peers = [medians(ratios)[0] for name, ratios in rows.items() if not name.startswith("landscape")]
        if "trace" in title and peers:
            ours = medians(rows["landscape, CurvatureTrace, signs"])[0]
            note(problem, f"trace, {SAMPLES} samples, beside the best peer's of as many", ours / min(peers))
        print(f"\n### {title}: {problem.name}\n")
        print("| | CPU time / gradient | wall time / gradient | |")
        print("|---|---|---|---|")
        for name, ratios in rows.items():
            cpu, wall = medians(ratios)
            print(f"| {name} | {cpu:.0f} | {wall:.0f} | {notes[name]} |")
            if name == "landscape, CurvatureTrace, signs":
                note(problem, f"trace, {SAMPLES} samples", cpu)
                note(problem, _FORMS, cpu)
            elif name.startswith("landscape, CurvatureDensity"):
                note(problem, "density, 2 vectors, 80 steps", cpu)
    unit.report()


#: What a probe costs that starts from nothing, or at a point where another one has been measured.
PROBES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("HessianSpectrum", {"k": 5}, ""),
    ("HessianSpectrum", {"k": 0, "bottom": 5}, ""),
    ("HessianSpectrum", {"k": 0, "bottom": 5, "tolerance": 1e-4}, ""),
    ("CurvatureTrace", {"samples": 1000, "relative_error": 0.05}, ""),
    ("CurvatureTrace", {"samples": SAMPLES, "per_layer": True}, ""),
    ("CurvatureDiagonal", {"samples": SAMPLES}, ""),
    ("CurvatureDensity", {"samples": 4, "steps": 80}, ""),
    ("GradientHessianOverlap", {"k": 5}, "HessianSpectrum"),
    ("GradientHessianOverlap", {"k": 5, "batches": 25}, "HessianSpectrum"),
    ("GradientCovariance", {"batches": 25}, ""),
    ("GradientCovariance", {"batches": 500, "per_example": True}, ""),
    ("GradientNoiseScale", {"examples": 256}, ""),
    ("GradientNoiseScale", {"examples": 256, "curvature": True}, ""),
    ("CovarianceHessianAlignment", {"k": 5}, "HessianSpectrum"),
    ("CovarianceHessianAlignment", {"k": 5, "batches": 500, "per_example": True}, "HessianSpectrum"),
)


#: Gradients beyond which a probe is measured once: it is long beside the clock's resolution and what comes between.
LONG = 60


def compare_probes(problem: Problem, repeats: int) -> None:
    """Measure what every probe costs; which tools do the same, other tables say."""
    rows: dict[int, list[tuple[float, float]]] = {number: [] for number in range(len(PROBES))}
    said: dict[int, str] = {}
    unit = Unit(problem)
    for turn in range(repeats):
        for number in rotated(list(rows), turn):
            if turn and rows[number] and rows[number][0][0] > LONG:
                continue
            name, options, beside = PROBES[number]
            landscape = problem.landscape()
            point = ls.Point(landscape, landscape.initial())
            if beside:
                point.measure(beside, k=options["k"])
            found: list[ls.Measurement] = []
            cpu, wall = timed(
                lambda point=point, name=name, options=options, found=found: found.append(
                    point.measure(name, **options)
                )
            )
            rows[number].append(unit.ratio(cpu, wall))
            said[number] = _says(found[0])
    print(f"\n### What probes cost: {problem.name}\n")
    print("| | CPU time / gradient | wall time / gradient | |")
    print("|---|---|---|---|")
    for number, (name, options, beside) in enumerate(PROBES):
        cpu, wall = medians(rows[number])
        arguments = ", ".join(f"{key}={value}" for key, value in options.items())
        where = f", where {beside} has been measured" if beside else ""
        print(f"| {name}({arguments}){where} | {cpu:.1f} | {wall:.1f} | {said[number]} |")
    unit.report()


def _says(found: ls.Measurement) -> str:
    """Say what a probe measured, in a few words: its products, or its first column, with the error."""
    counts = [name for name in found.scalars if name.endswith("_products")]
    parts = [f"{found.scalars[name]:.0f} products" for name in counts]
    name = next((name for name in found.scalars if name not in counts), None)
    if name is not None:
        error = found.errors.get(name)
        parts.append(
            f"{name} {found.scalars[name]:.3g}" + ("" if error is None else f" +- {error.value:.1g}")
        )
    return ", ".join(parts)


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
    if installed("vivit-for-pytorch"):
        candidates["ViViT, GramBatchGrad (BackPACK's BatchGrad)"] = vivit_gram(problem, x, y)
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
    layers_beside = statistics.median(
        one[0] / other[0]
        for one, other in zip(
            rows["landscape, from inputs and outputs of the layers"],
            rows["vmapped gradients, stacked, float32"],
            strict=True,
        )
    )
    note(problem, "Gram matrix, time beside stacked gradients in float32", layers_beside)
    unit.report()
    grown = {name: peak_of(problem, name) for name in ("layers", "stacked")}
    print(
        f"\nMemory that a process of its own grows by (its peak, after a gradient of the same examples): from the "
        f"layers {grown['layers'] / 2**20:.1f} MiB, stacked in float32 {grown['stacked'] / 2**20:.1f} MiB, which "
        f"is {grown['layers'] / grown['stacked']:.3f} times as much.",
        flush=True,
    )
    note(
        problem,
        "Gram matrix, memory beside stacked gradients in float32",
        grown["layers"] / grown["stacked"],
    )


def peak_of(problem: Problem, which: str) -> float:
    """Return the bytes by which the peak of a fresh process grows while it computes a Gram matrix."""
    command = [sys.executable, "-m", "benchmarks.curvature", "--peak", which, problem.name.split()[0]]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said.split()[-1])


def print_peak(which: str, name: str) -> None:
    """Compute a Gram matrix and print by how many bytes the peak of this process has grown."""
    problem = next(found for found in problems() if found.name.split()[0] == name)
    count = min(512, len(problem.x))
    x, y = problem.x[:count], problem.y[:count]
    landscape = ls.Landscape(problem.module, "cross_entropy", (x, y))
    theta = landscape.initial()
    # What the first use of anything takes is not what it needs.
    few = ls.Landscape(problem.module, "cross_entropy", (x[:2], y[:2]))
    work: dict[str, Callable[[ls.Landscape, tuple[Tensor, Tensor]], Tensor | None]] = {
        "layers": lambda place, batch: example_gram(place, theta, place.batches()),
        "stacked": lambda place, batch: (rows := place.example_gradients(theta, batch)) @ rows.T,
    }
    landscape.gradient(theta)
    work[which](few, (x[:2], y[:2]))
    peaks = Path("/proc/self/clear_refs")
    if peaks.exists():
        peaks.write_text("5")  # forget the peak so far: making the networks took more than what is measured
    before = peak()
    work[which](landscape, (x, y))
    # A page at the least: what fits into memory that was there before grows nothing.
    print(max(peak() - before, resource.getpagesize()))


def peak() -> int:
    """Return the largest number of bytes that this process has had in memory."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            1024 * int(line.split()[1])
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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


def eigenthings_hessian(problem: Problem) -> Any:
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(problem.module, [(problem.x, problem.y)], supervised_loss(F.cross_entropy))


def vivit_gram(problem: Problem, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Return what computes the Gram matrix of single examples by ViViT, parameter by parameter."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad
    from vivit.extensions.hooks import GramBatchGrad

    module, loss = extend(copy.deepcopy(problem.module)), extend(nn.CrossEntropyLoss(reduction="sum"))

    def product() -> Tensor:
        hook = GramBatchGrad(free_grad_batch=True)
        with backpack(BatchGrad(), extension_hook=hook):
            loss(module(x), y).backward()
        for parameter in module.parameters():
            parameter.grad = None
        found: Tensor = hook.get_result()
        return found

    return product


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
        now = self.now()
        return cpu / now[0], wall / now[1]

    def now(self) -> tuple[float, float]:
        """Return CPU and wall seconds of a gradient timed now."""
        count = 10
        unit_cpu, unit_wall = timed(lambda: [self.problem.gradient() for _ in range(count)])
        self.seen.append((unit_cpu / count, unit_wall / count))
        return self.seen[-1]

    def report(self) -> None:
        """Say how steady the unit was."""
        cpu = [seconds for seconds, _ in self.seen]
        print(
            f"\nThe gradient varied by {max(cpu) / min(cpu):.2f} between its fastest and slowest turn.",
            flush=True,
        )


def rotated(names: list[Any], turn: int) -> list[Any]:
    shift = turn % len(names)
    return names[shift:] + names[:shift]


def medians(ratios: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(cpu for cpu, _ in ratios), statistics.median(wall for _, wall in ratios)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=9, help="turns of every product; a third for all that takes longer"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--slow",
        action="store_true",
        help="as many turns of the largest network, its densities, and a truth: half an hour",
    )
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument(
        "--device",
        help="measure large networks there instead, such as cuda: see benchmarks/_large_curvature.py",
    )
    parser.add_argument("--tiny", action="store_true", help="with --device: networks of a second or two")
    parser.add_argument("--only", help="networks whose name begins with this, such as MLP")
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "NETWORK"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(*options.peak)
        return
    if options.device:
        from benchmarks._large_curvature import measure_large

        measure_large(options.device, tiny=options.tiny)
        return
    print(line("landscape-core", "torch", "scipy", "numpy", *PEERS), "float32", sep="; ")
    missing = [name for name in PEERS if not installed(name)]
    if missing:
        print(f"\nNot installed here, and not compared: {', '.join(missing)}.")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peers
        for problem in problems():
            if options.only and not problem.name.startswith(options.only):
                continue
            brief = problem.large and not options.slow
            turns = 1 if brief else max(1, options.repeats // 3)
            compare_products(problem, turns if brief else options.repeats)
            compare_matrices(problem, turns)
            compare_eigensolvers(problem, turns, options.tolerance, exact=not brief)
            if not problem.large:
                compare_warm_starts(problem)
            if not brief:
                compare_probes(problem, turns)
            compare_estimators(problem, turns, slow=options.slow)
            compare_grams(problem, max(3, turns))
    goals()
    print("\nGPU: not measured here; `--device cuda` measures large networks there.")
    print(f"\nAll of this took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main(sys.argv[1:])
