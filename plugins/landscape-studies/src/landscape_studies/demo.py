"""The main job, on real data, in about a minute."""

from __future__ import annotations

import landscape as ls

__all__ = ["demo"]


def demo(seed: int = 0) -> ls.Study:
    """Walk, measure, project and solve once: the shortest tour of everything.

    Four SGD workers of a small network learn scikit-learn's handwritten digits, tied together by elastic
    averaging, while curvature and gradient noise are measured; their weight paths are drawn over the true loss;
    and all complex critical points of a deep linear network are found for a hundred random samples.

    Parameters
    ----------
    seed
        The one seed of both stages.
    """
    # Weaker springs than the usual moving rate of 0.9: four paths can be told apart, and still meet.
    walk = ls.Experiment(
        model=ls.models.MLP(hidden=(32,)),
        dataset=ls.datasets.Digits(),
        loss="cross_entropy",
        walker=ls.walkers.EASGD(
            ls.walkers.SGD(lr=0.1, batch_size=64, momentum=0.9), workers=4, moving_rate=0.1
        ),
        start=ls.Fresh(identical=False),
        probes=(
            ls.Every(10, ls.probes.Loss()),
            ls.Every(10, ls.probes.Loss(split="test")),
            ls.Every(10, ls.probes.Score()),
            ls.Every(10, ls.probes.Score(split="test")),
            ls.Every(10, ls.probes.GradientNorm()),
            ls.Every(10, ls.probes.WeightNorm()),
            ls.Every(10, ls.probes.CosineWithStart()),
            ls.Every(10, ls.probes.DistanceFromStart()),
            ls.Every(50, ls.probes.HessianSpectrum(k=5)),
            ls.Every(50, ls.probes.GradientHessianOverlap(k=5)),
            ls.Every(50, ls.probes.GradientCovariance(batches=25)),
        ),
        projectors=(ls.projectors.PCA(), ls.projectors.SOM(rows=20, columns=20)),
        steps=400,
        snapshots=8,
        seed=seed,
        name="Four elastic workers on the digits",
    )
    algebra = ls.CriticalPointStudy(
        ls.models.DeepLinear(widths=(2, 2, 2), examples=1),
        ls.solvers.Monodromy(),
        samples=100,
        seed=seed,
        name="Critical points of a deep linear network",
    )
    return ls.Study(
        name="landscape: the demo",
        text=(
            "Two studies of loss landscapes, one by walking and one by algebra. First, four workers of a small "
            "network learn 1,797 images of handwritten digits (four fifths to learn from, the rest to test on), "
            "coupled by elastic averaging, while probes measure the loss, its curvature and the noise of its "
            "gradients. Then every complex critical point of a deep linear network is found for a hundred random "
            "samples of its data and regularisation."
        ),
        stages=(
            ls.Stage(
                "walk",
                walk,
                title="Walking: elastic averaging on the digits",
                text=(
                    "Each worker is plain stochastic gradient descent with its own order of the data; an elastic "
                    "force ties it to a common centre, which follows the workers' mean. The score is the accuracy: the "
                    "share of images that are classified correctly."
                ),
            ),
            ls.Stage(
                "algebra",
                algebra,
                title="Solving: all critical points of a deep linear network",
                text=(
                    "Widths 2-2-2, one training example. The gradient of the regularised squared error is a system "
                    "of polynomials; its complex solutions are found by monodromy at one generic member, and "
                    "followed from there to every sample at once."
                ),
            ),
        ),
    )
