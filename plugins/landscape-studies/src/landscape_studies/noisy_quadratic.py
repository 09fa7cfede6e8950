"""Is the noisy quadratic model realistic? Theory and measurement on the model, and the same probes on a network."""

from __future__ import annotations

import math

import landscape as ls
from landscape.errors import ConfigurationError

__all__ = ["noisy_quadratic"]

#: Rates of the sweep, as parts of the largest stable one; the last is beyond it.
_RATES = (0.01, 0.03, 0.1, 0.25, 0.5, 0.8, 0.95, 1.005)


def noisy_quadratic(
    seed: int = 0,
    workers: int = 256,
    steps: int = 400,
    dimension: int = 8,
    train: int = 400,
    hidden: tuple[int, ...] = (32,),
) -> ls.Study:
    """Set theory and measurement of the noisy quadratic model side by side, and measure the same on a network.

    On a quadratic with a Hessian H and gradient noise of covariance C, both known, everything about SGD is known:
    mean and covariance of the weights and the expected loss step by step, the stationary state, the edge of
    stability. Many workers walk there, and what they do is set beside theory, with standard errors, in the table
    ``theory``: for C proportional to H, to its square, and lying across it; with momentum; over learning rates up to
    and beyond the edge. The probes measure eigenvalues, overlaps, noise and alignment there, where their true values
    are known as well. Then the same probes follow a small network that learns handwritten digits: is its noise along
    its curvature, as the model has it?

    The default takes about two minutes of one core.

    Parameters
    ----------
    seed
        The seed of the first stage; the others count on from it, so that their noise differs.
    workers
        How many walk on the quadratics, at least 32; standard errors fall like the root of it. Mean squares are far
        from normal: with fewer than a few hundred workers, their standard errors are known badly themselves.
    steps
        Steps on the quadratics, at least 20.
    dimension
        P of the quadratics, from 3 to 64; the eigenvalues of the Hessian are 1, 1/2, .. 1/P.
    train
        Steps of the network.
    hidden
        Units of its hidden layers.

    Raises
    ------
    landscape.errors.ConfigurationError
        For sizes that are too small or too large.
    """
    if workers < 32 or steps < 20 or not 3 <= dimension <= 64 or train < 1:
        raise ConfigurationError(
            f"noisy-quadratic: workers={workers}, steps={steps}, dimension={dimension}, train={train}; give at least "
            "32 workers, 20 steps, from 3 to 64 dimensions, and at least 1 step of training."
        )
    hessian, noises = _matrices(dimension)
    examples = 64 * dimension
    batch = 8
    along, squared, across = noises
    model = ls.models.NoisyQuadratic(hessian=hessian, scale=2.0)
    walk = ls.Experiment(
        model,
        ls.datasets.GradientNoise(covariance=across, examples=examples),
        ls.walkers.SGD(lr=0.3, batch_size=batch, workers=workers),
        loss="model",
        probes=_of_noise(steps, dimension, examples, batch),
        steps=steps,
        snapshots=max(1, steps // 40),
        dtype="float64",
        seed=seed,
    )
    about = (
        f"SGD on a quadratic of {dimension} weights with known Hessian H, not diagonal, and known covariance C of the "
        "gradients of examples. Theory for the way in which walkers draw, every example once in each epoch, and for "
        "independent draws: the difference is largest in flat directions, where an epoch is not yet forgotten and "
        "its noise adds up to zero."
    )
    further = _of_curvature(steps, dimension, examples)
    kinds = (
        ("along", along, (), "Noise in proportion to the Hessian", "C = H, as the model is often used."),
        ("squared", squared, (), "Noise in proportion to the square of the Hessian", "C is H², scaled."),
        (
            "across",
            across,
            further,
            "Noise across the Hessian",
            "C has eigenvectors of its own. All probes measure.",
        ),
    )
    stages = (
        *(
            ls.Stage(
                name,
                walk.replace(
                    dataset=ls.datasets.GradientNoise(covariance=covariance, examples=examples),
                    probes=(*walk.probes, *more),
                    seed=seed + place,
                ),
                title=title,
                text=f"{told} {about}",
            )
            for place, (name, covariance, more, title, told) in enumerate(kinds)
        ),
        ls.Stage(
            "momentum",
            walk.replace(
                walker=ls.walkers.SGD(lr=0.05, batch_size=batch, momentum=0.9, workers=workers),
                probes=(),
                seed=seed + 3,
            ),
            title="Momentum",
            text="The same with momentum 0.9, and the noise across the Hessian.",
        ),
        ls.Stage(
            "rates",
            ls.Sweep(
                walk.replace(probes=(), steps=steps // 2, snapshots=max(1, steps // 20), seed=seed + 4),
                # Twice over the largest eigenvalue, which is 1.
                {"walker.lr": tuple(2 * part for part in _RATES)},
                name="Learning rates",
            ),
            title="Learning rates, up to the edge of stability and beyond",
            text=(
                "Small rates have not arrived yet, large ones fluctuate more; beyond two over the largest eigenvalue "
                "the steps are not stable."
            ),
        ),
        ls.Stage(
            "network",
            ls.Experiment(
                ls.models.MLP(hidden=hidden),
                ls.datasets.Digits(),
                ls.walkers.SGD(lr=0.2, batch_size=64),
                probes=_on_network(train),
                steps=train,
                snapshots=train,
                seed=seed + 5,
            ),
            title="A network that learns digits",
            text=(
                "The same measurements where nothing is known beforehand: the largest eigenvalues of Hessian and "
                "covariance, how the one lies to the other, how much of gradient and noise lies in the leading "
                "eigenspaces, the density of the spectrum. A slope near 1 of the noise over the curvature, and ones "
                "on the diagonal of the squared cosines, would be the model of a covariance proportional to the "
                "Hessian."
            ),
        ),
    )
    return ls.Study(
        name="Is the noisy quadratic model realistic?",
        text=(
            "On a quadratic with known gradient noise, all that SGD does follows from two matrices. First, everything "
            "that theory says of it is measured, and set beside theory in one table with standard errors, to know "
            "what the walkers and the probes are worth. Then the same is measured on a network, to see how much of "
            "the model is true there."
        ),
        stages=stages,
    )


def _matrices(
    dimension: int,
) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[tuple[float, ...], ...], ...]]:
    """Return H, and the covariances H, its square, and one with eigenvectors of its own, all of trace tr H."""
    import numpy as np

    # The orthonormal cosines of the discrete transform: far from the axes, and nothing to draw.
    grid = np.arange(dimension)
    basis = np.cos(math.pi * (grid[:, None] + 0.5) * grid / dimension) * math.sqrt(2 / dimension)
    basis[:, 0] /= math.sqrt(2)
    values = 1 / (1.0 + grid)
    hessian = basis * values @ basis.T
    squared = hessian @ hessian
    # The eigenvectors are turned by 45 degrees in planes of the largest and the smallest, and so on inwards.
    turned = (basis + basis[:, ::-1] * np.sign(dimension - 1 - 2 * grid)) / math.sqrt(2)
    if dimension % 2:
        turned[:, dimension // 2] = basis[:, dimension // 2]
    across = turned * values @ turned.T
    trace = values.sum()

    def rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
        even = (matrix + matrix.T) / 2
        return tuple(tuple(float(entry) for entry in row) for row in even * trace / np.trace(even))

    return rows(hessian), (rows(hessian), rows(squared), rows(across))


def _of_noise(steps: int, dimension: int, examples: int, batch: int) -> tuple[ls.Every, ...]:
    """Return the probes of noise on the quadratics, on one worker: what they should find is known at every point."""
    alignment = ls.probes.CovarianceHessianAlignment(k=dimension, batches=examples, per_example=True)
    return (
        ls.Every(max(1, steps // 40), ls.probes.GradientCovariance(batches=25, batch_size=batch), on="0"),
        ls.Every(steps, alignment, on="0"),
    )


def _of_curvature(steps: int, dimension: int, examples: int) -> tuple[ls.Every, ...]:
    """Return the other probes on the quadratics."""
    often, k = max(1, steps // 40), min(3, dimension)
    return tuple(
        ls.Every(every, probe, on="0")
        for every, probe in (
            (often, ls.probes.Loss()),
            (often, ls.probes.GradientNorm()),
            (often, ls.probes.WeightNorm()),
            (steps, ls.probes.HessianSpectrum(k=k, bottom=1)),
            (steps, ls.probes.CurvatureTrace(samples=30)),
            (steps, ls.probes.GradientHessianOverlap(k=k)),
            (steps, ls.probes.GradientNoiseScale(examples=examples // 4, curvature=True)),
        )
    )


def _on_network(steps: int) -> tuple[ls.Every, ...]:
    """Return what is measured of the network."""
    often, seldom, thrice = (max(1, steps // part) for part in (40, 8, 2))
    return tuple(
        ls.Every(every, probe)
        for every, probe in (
            (often, ls.probes.Loss()),
            (often, ls.probes.Loss(split="test")),
            (often, ls.probes.Score()),
            (often, ls.probes.Score(split="test")),
            (often, ls.probes.GradientNorm()),
            (often, ls.probes.WeightNorm()),
            (often, ls.probes.CosineWithStart()),
            (often, ls.probes.DistanceFromStart()),
            (seldom, ls.probes.HessianSpectrum(k=10)),
            (seldom, ls.probes.GradientCovariance(batches=25, batch_size=64, k=10)),
            (seldom, ls.probes.GradientHessianOverlap(k=10, batches=25, batch_size=64)),
            (seldom, ls.probes.CovarianceHessianAlignment(k=10, batches=256, per_example=True)),
            (seldom, ls.probes.GradientNoiseScale(examples=64, curvature=True)),
            (thrice, ls.probes.CurvatureDensity(samples=4, steps=60)),
        )
    )
