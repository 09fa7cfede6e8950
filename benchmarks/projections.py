"""Self-organising maps, autoencoders, spans and loss grids beside their peers or a plain loop.

``python -m benchmarks.projections`` prints one table per question, by CPU time; candidates take turns, and figures are
medians. ``--weights`` sets the number of weights of the streamed PCA (a million by default; ten millions need 8 GB of
disk and a quarter of an hour).
"""

from __future__ import annotations

import argparse
import functools
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from minisom import MiniSom

import landscape as ls
from benchmarks._machine import line
from landscape.store import RunStore, SnapshotSpan
from landscape_projectors import surfaces
from landscape_projectors._lattice import Lattice
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.pca import PCA, PCAProjection
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


def grid(turns: int = 3) -> None:
    """Time a 41 x 41 grid of true losses beside a loop over its points with a module."""
    print("\n### 41 x 41 true losses on all digits\n")
    print("| | weights | loop over points, s | grid, s | times as fast |\n|---|---|---|---|---|")
    for hidden in ((100, 100), (16,)):
        run = ls.Experiment(
            ls.models.MLP(hidden=hidden), ls.datasets.Digits(test_fraction=0.0), ls.walkers.SGD(lr=0.1, batch_size=64),
            steps=40, snapshots=4, seed=0,
        ).run(store=tempfile.mkdtemp())  # fmt: skip
        span, landscape = run.span(), run.landscape()
        plane = PCA().fit(span, torch.Generator())
        x, y = next(iter(landscape.batches(10_000)))
        module = run.experiment.model.build((x, y), torch.Generator().manual_seed(0))

        loop = functools.partial(by_hand, module, span, plane, x, y)
        ours = functools.partial(by_landscape, landscape, span, plane)
        np.testing.assert_allclose(loop(), ours(), rtol=1e-3)
        pairs = [(seconds(loop), seconds(ours)) for _ in range(turns)]
        ratio = statistics.median(a / b for a, b in pairs)
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"| MLP {hidden} | {span.size:,} | {a:.2f} | {b:.2f} | {ratio:.2f} |")
    print("\nGoals: 1.4 for the first, 2 for the second.")


def by_hand(
    module: torch.nn.Module, span: SnapshotSpan, plane: PCAProjection, x: torch.Tensor, y: torch.Tensor
) -> np.ndarray:
    """Return the losses of a 41 x 41 grid by a loop over its points."""
    axes = surfaces._axes(plane.coordinates, 41, 0.12, None)
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    found = np.empty(len(points))
    with torch.no_grad():
        origin, *along = span.restore(plane.inverse(np.array([[0.0, 0], [1, 0], [0, 1]])))
        for place, (a, b) in enumerate(points):
            theta = origin + a * (along[0] - origin) + b * (along[1] - origin)
            torch.nn.utils.vector_to_parameters(theta, module.parameters())
            found[place] = torch.nn.functional.cross_entropy(module(x), y)
    return found


def by_landscape(landscape: ls.Landscape, span: SnapshotSpan, plane: PCAProjection) -> np.ndarray:
    """Return the losses of the same grid."""
    return surfaces.loss_grid(landscape, span, plane, resolution=41, evaluations=10**9).loss.ravel()


def streamed(weights: int, snapshots: int = 200) -> None:
    """Time PCA of snapshots on disk, beside reading them, converting to float64 and one symmetric product."""
    directory = RunStore(tempfile.mkdtemp()).create({}, kind="recorder", provenance={})
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(weights, generator=generator)
    for step in range(snapshots):
        theta += 0.01 * torch.randn(weights, generator=generator)
        directory.write_snapshot(step, {"0": theta})
    taken = directory.snapshots()
    for snapshot in taken:  # checksums are verified once per process, before either is timed
        snapshot.layout  # noqa: B018

    def plain() -> np.ndarray:
        from safetensors import safe_open

        gram = np.zeros((snapshots, snapshots))
        width = 40_000
        for first in range(0, weights, width):
            rows = []
            for snapshot in taken:
                with safe_open(snapshot.path, framework="pt") as file:
                    rows.append(file.get_slice("0")[first : first + width])
            block = torch.stack(rows).double().numpy()
            gram += block @ block.T
        return gram

    start = time.perf_counter()
    plain()
    unit = time.perf_counter() - start
    start = time.perf_counter()
    PCA().fit(directory.span(), torch.Generator())
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n### PCA of {snapshots} snapshots of {weights:,} weights, from disk\n")
    print("| | wall seconds |\n|---|---|")
    print(f"| read, convert, one symmetric product | {unit:.1f} |")
    print(f"| landscape | {took:.1f} |")
    print(
        f"\n{took / unit:.2f} times the time (goal: 1.2); at most {peak:.2f} GiB of memory by this process (goal: 2)."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("streamed", "som", "raw", "autoencoder", "grid"))
    options = parser.parse_args(arguments)
    print(line("landscape-core", "torch", "numpy", "minisom"))

    def wanted(name: str) -> bool:
        return options.only in (None, name)

    if wanted("streamed"):
        streamed(options.weights)  # first: its memory is the largest that the process ever had
    if wanted("som") or wanted("autoencoder"):
        span = digits_paths()
        if wanted("som"):
            batch_som(span)
        if wanted("autoencoder"):
            autoencoder(span)
    if wanted("raw"):
        raw_som()
    if wanted("grid"):
        grid()


if __name__ == "__main__":
    main()
