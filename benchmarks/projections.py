"""Self-organising maps, autoencoders, spans and loss grids beside their peers or a plain loop.

``python -m benchmarks.projections`` prints one table per question, by CPU time; candidates take turns, and figures are
medians. Goals stand beside what was measured. ``--large`` streams 200 snapshots of ten million weights instead of one
million: 8 GB of disk, deleted afterwards, and a few minutes. ``--only grid`` measures one question.

``--device cuda`` measures loss grids on a GPU, by wall time; everything else computes on the CPU by design.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from minisom import MiniSom

import landscape as ls
from benchmarks._machine import line
from landscape.store import RunStore, SnapshotSpan
from landscape_projectors import surfaces
from landscape_projectors._lattice import Lattice
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.pca import PCA
from landscape_projectors.som import SOM, train


def seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def digits_paths(hidden: tuple[int, ...] = (100,), networks: int = 5, snapshots: int = 60) -> SnapshotSpan:
    """Return the span of networks that learn digits, 60 snapshots each; the last one learns far too slowly."""
    store = tempfile.mkdtemp()
    rates = (*(0.5,) * (networks - 1), 0.002)
    run = ls.Experiment(
        ls.models.MLP(hidden=hidden),
        ls.datasets.Digits(),
        ls.walkers.SGD(lr=rates, batch_size=64, workers=networks),
        start=ls.Fresh(identical=False),
        steps=10 * (snapshots - 1),
        snapshots=10,
        seed=0,
    ).run(store=store)
    return run.span()


def batch_som(span: SnapshotSpan, epochs: int = 20, turns: int = 5) -> None:
    """Time batch training beside minisom's, from the same codebook with the same radii."""
    som = SOM(rows=19, columns=20, epochs=epochs)  # an odd number of rows: minisom's lattice is the same
    samples, start, radii = np.asarray(span.coordinates), som.start(span), som.radii()
    lattice = Lattice(som.rows, som.columns, som.topology)

    def peer() -> MiniSom:
        package = MiniSom(
            som.columns,
            som.rows,
            samples.shape[1],
            sigma=1.0,
            learning_rate=1.0,
            decay_function=lambda rate, step, steps: 1.0,
            topology=som.topology,
            random_seed=0,
        )
        package._sigma_decay_function = lambda sigma, step, steps: radii[step]
        package._weights = np.array(start.reshape(som.rows, som.columns, -1).transpose(1, 0, 2))
        package.train_batch_offline(samples, epochs)
        return package

    ours, theirs = [], []
    for _ in range(turns):
        ours.append(seconds(lambda: train(samples, start, lattice, radii)) / epochs)
        theirs.append(seconds(peer) / epochs)
    codebook = train(samples, start, lattice, radii)
    reference = peer().get_weights().transpose(1, 0, 2).reshape(codebook.shape)
    apart = float(np.abs(codebook - reference).max() / np.abs(samples).max())
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(
        f"\n### Batch SOM, {som.rows} x {som.columns} nodes, {samples.shape[0]} snapshots, "
        f"{samples.shape[1]} dimensions\n"
    )
    print("| | ms an epoch |\n|---|---|")
    print(f"| landscape | {1e3 * statistics.median(ours):.2f} |")
    print(f"| minisom, train_batch_offline | {1e3 * statistics.median(theirs):.1f} |")
    print(
        f"\n{ratio:.1f} times as fast (goal: 20); codebooks differ by {apart:.1e} of the largest coordinate (1e-12)."
    )


def raw_som(weights: int = 100_000, snapshots: int = 300, measured: int = 10) -> None:
    """Time a map of raw weights end to end, beside online iterations of minisom on the same weights."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(snapshots, weights, generator=generator, dtype=torch.float32)
    paths = steps.view(5, snapshots // 5, weights).cumsum(1).reshape(snapshots, weights)

    def ours() -> None:
        SOM().fit(SnapshotSpan.from_tensor(paths), torch.Generator())

    raw = paths.double().numpy()
    package = MiniSom(20, 20, weights, sigma=10.0, learning_rate=0.5, topology="hexagonal", random_seed=0)
    own = statistics.median(seconds(ours) for _ in range(3))
    one = seconds(lambda: package.train(raw, measured)) / measured
    print(f"\n### SOM of {snapshots} snapshots of {weights:,} weights, 20 x 20 nodes\n")
    print("| | CPU seconds |\n|---|---|")
    print(f"| landscape, basis and 50 batch epochs | {own:.2f} |")
    print(f"| minisom, one online iteration (of {measured} measured) | {one:.3f} |")
    print(f"| minisom, 10,000 online iterations, extrapolated | {1e4 * one:.0f} |")
    print(f"\n{1e4 * one / own:.0f} times as fast (goal: 1,000), extrapolated.")


def autoencoder(span: SnapshotSpan) -> None:
    """Say what two dimensions leave, and how long it takes."""
    fits = [Autoencoder().fit(span, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    took = statistics.median(
        seconds(lambda: Autoencoder().fit(span, torch.Generator().manual_seed(0))) for _ in range(3)
    )
    quality = fits[0].quality
    print(f"\n### Autoencoder of five MLPs, {len(span)} snapshots of {span.size:,} weights\n")
    print("| | variance left by two dimensions |\n|---|---|")
    print(f"| PCA | {1 - quality['explained_variance_pca']:.4f} |")
    for seed, fit in enumerate(fits):
        print(f"| autoencoder, seed {seed} | {1 - fit.quality['explained_variance']:.4f} |")
    print(f"\n{took:.2f} CPU seconds (goals: at most 0.01 left, in under a second).")


def grid(device: str, turns: int = 3) -> None:
    """Time a 41 x 41 grid of true losses beside plain loops over its points."""
    print(f"\n### 41 x 41 true losses on all digits, {device}\n")
    if device == "cuda" and not torch.cuda.is_available():
        print("Not measured: there is no GPU here.")
        return
    clock = seconds if device == "cpu" else on_gpu
    rows = []
    for hidden, activation, projector, goal in (
        ((100, 100), "relu", PCA(), 1.4),
        ((100, 100), "tanh", PCA(), 1.4),
        ((16,), "tanh", PCA(), 2.0),
        ((32, 32), "relu", PCA(), 2.0),
        ((32, 32), "relu", SOM(), "-"),
    ):
        run = ls.Experiment(
            ls.models.MLP(hidden=hidden, activation=activation), ls.datasets.Digits(test_fraction=0.0),
            ls.walkers.SGD(lr=0.1, batch_size=64), steps=40, snapshots=4, seed=0,
        ).run(store=tempfile.mkdtemp())  # fmt: skip
        span = run.span()
        own = run.landscape()
        (x, y) = next(iter(own.batches(10_000)))
        x, y = x.to(device), y.to(device)
        module = run.experiment.model.build((x.cpu(), y.cpu()), torch.Generator().manual_seed(0)).to(device)
        landscape = ls.Landscape(module, "cross_entropy", (x, y))
        plane = projector.fit(span, torch.Generator())
        places = np.stack(np.meshgrid(*surfaces._axes(plane.coordinates, 41, 0.12, None)), -1).reshape(-1, 2)
        weights = torch.cat(list(surfaces.weights_at(span, plane, places))).to(device)

        loops = {
            "copied": functools.partial(by_copying, module, weights, x, y),
            "functional_call": functools.partial(by_functional_call, module, weights, x, y),
        }
        ours = functools.partial(by_landscape, landscape, span, plane)
        for loop in loops.values():
            np.testing.assert_allclose(loop(), ours(), rtol=1e-3)
        taken = [([clock(loop) for loop in loops.values()], clock(ours)) for _ in range(turns)]
        ratio = statistics.median(min(loop) / own for loop, own in taken)
        columns = [statistics.median(loop[i] for loop, _ in taken) for i in range(len(loops))]
        columns.append(statistics.median(own for _, own in taken))
        rows.append(
            f"| MLP {hidden}, {activation} | {type(projector).__name__} | {span.size:,} | "
            + " | ".join(f"{1e6 * one / len(places):.0f}" for one in columns)
            + f" | {ratio:.2f} | {goal} |"
        )
    print(
        "| | map | weights | weights copied into the module, us a point | functional_call | loss_grid | times the "
        "faster loop | goal |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    print(
        "\nThe loops are given the weights of all points ready-made; the grid finds its own, and its recording counts. "
        "Goals are of planes; on a curved map nothing is affine."
    )


def on_gpu(call: Callable[[], object]) -> float:
    """Return the wall seconds of one call, all work on the GPU done."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def by_copying(
    module: torch.nn.Module, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> np.ndarray:
    """Return the losses at rows of weights, each put into the module."""
    found = torch.empty(len(weights), device=x.device)
    with torch.no_grad():
        for place, theta in enumerate(weights):
            torch.nn.utils.vector_to_parameters(theta, module.parameters())
            found[place] = torch.nn.functional.cross_entropy(module(x), y)
    return found.cpu().numpy()


def by_functional_call(
    module: torch.nn.Module, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> np.ndarray:
    """Return the losses at rows of weights, by ``torch.func.functional_call``."""
    named = dict(module.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]
    found = torch.empty(len(weights), device=x.device)
    with torch.no_grad():
        for place, theta in enumerate(weights):
            parts = {
                name: part.view_as(parameter)
                for (name, parameter), part in zip(named.items(), theta.split(sizes), strict=True)
            }
            output = torch.func.functional_call(module, parts, (x,))
            found[place] = torch.nn.functional.cross_entropy(output, y)
    return found.cpu().numpy()


def by_landscape(landscape: ls.Landscape, span: SnapshotSpan, plane: object) -> np.ndarray:
    """Return the losses of the same grid."""
    return surfaces.loss_grid(landscape, span, plane, resolution=41, evaluations=10**9).loss.ravel()


def streamed(weights: int, snapshots: int = 200) -> None:
    """Time PCA of snapshots on disk, beside reading them, converting to float64 and one symmetric product."""
    print(f"\n### PCA of {snapshots} snapshots of {weights:,} weights, from disk\n")
    needed = 1.2 * 4 * weights * snapshots
    store = Path(tempfile.mkdtemp())
    try:
        free = shutil.disk_usage(store).free
        if free < needed:
            print(f"Not measured: it needs {needed / 1e9:.0f} GB of disk, and {free / 1e9:.0f} are free.")
            return
        directory = RunStore(store).create({}, kind="recorder", provenance={}, run_id="walk")
        generator = torch.Generator().manual_seed(0)
        theta = torch.randn(weights, generator=generator)
        for step in range(snapshots):
            theta += 0.01 * torch.randn(weights, generator=generator)
            directory.write_snapshot(step, {"0": theta})
        directory.close("complete")
        # Processes of their own: the memory of each is the largest that it ever had.
        context = multiprocessing.get_context("spawn")
        units, ours, checks, peaks = [], [], [], []
        for _ in range(3 if weights <= 1_000_000 else 1):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                units.append(pool.submit(read_and_multiplied, store / "walk").result())
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                check, took, peak = pool.submit(streamed_pca, store / "walk").result()
            ours.append(took)
            checks.append(check)
            peaks.append(peak)
    finally:
        shutil.rmtree(store)
    unit, took, check = (statistics.median(one) for one in (units, ours, checks))
    ratio = statistics.median(a / b for a, b in zip(ours, units, strict=True))
    print("| | wall seconds |\n|---|---|")
    print(f"| read, convert, one symmetric product | {unit:.1f} |")
    print(f"| landscape, PCA | {took:.1f} |")
    print(f"| landscape, checksums of all files, once per process | {check:.1f} |")
    print(
        f"\n{ratio:.2f} times the time (goal: 1.2; {(took + check) / unit:.2f} with the checksums); at most "
        f"{max(peaks):.2f} GiB of memory by that process (goal: 2)."
    )


def read_and_multiplied(path: Path) -> float:
    """Return the wall seconds of reading a run's snapshots, converting them, and one symmetric product."""
    from safetensors import safe_open

    torch.set_num_threads(1)
    taken = [snapshot.path for snapshot in RunStore(path.parent).open(path.name).snapshots()]
    with safe_open(taken[0], framework="pt") as file:
        size = file.get_slice("0").get_shape()[0]
    start = time.perf_counter()
    gram = np.zeros((len(taken), len(taken)))
    width = 40_000
    for first in range(0, size, width):
        rows = []
        for place in taken:
            with safe_open(place, framework="pt") as file:
                rows.append(file.get_slice("0")[first : first + width])
        block = torch.stack(rows).double().numpy()
        gram += block @ block.T
    return time.perf_counter() - start


def streamed_pca(path: Path) -> tuple[float, float, float]:
    """Return the wall seconds of verifying and of PCA, and the largest memory of this process in GiB."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    span = RunStore(path.parent).open(path.name).span()
    verified = time.perf_counter()
    PCA().fit(span, torch.Generator())
    end = time.perf_counter()
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return verified - start, end - verified, int(status["VmHWM"].split()[0]) / 2**20


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="PCA of ten million weights: 8 GB of disk")
    parser.add_argument("--only", choices=("streamed", "som", "raw", "autoencoder", "grid"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of loss grids")
    options = parser.parse_args(arguments)
    print(line("landscape-core", "torch", "numpy", "minisom"))

    def wanted(name: str) -> bool:
        return options.only in (None, name)

    if options.device == "cuda":
        grid("cuda")
        return
    if wanted("streamed"):
        streamed(10_000_000 if options.large else 1_000_000)
    if wanted("som") or wanted("autoencoder"):
        span = digits_paths()
        if wanted("som"):
            batch_som(span)
        if wanted("autoencoder"):
            autoencoder(span)
    if wanted("raw"):
        raw_som()
    if wanted("grid"):
        grid("cpu")


if __name__ == "__main__":
    main()
