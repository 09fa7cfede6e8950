"""What the elementary-walkers program of 2016 did, and what has been asked of it since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve

import landscape as ls
from landscape.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from landscape.interfaces import Dataset, Walker

__all__ = ["elementary_walkers"]

_CHOICES = ("auto", "digits", "mnist")


def elementary_walkers(
    seed: int = 0,
    data: Literal["auto", "digits", "mnist"] = "auto",
    steps: int = 200,
    workers: int = 4,
) -> ls.Study:
    """Walkers on the landscape of a small classifier: apart, tied together, climbing, and wandering.

    The experiments of the Torch7 program `elementary-walkers` (2016), which stands behind Sagun et al. (2016,
    2017), each as one stage: SGD beside gradient descent; elastic averaging, as in the paper and as in the
    program; robust ensembles; L-BFGS; Entropy-SGD; the ends of the Hessian's spectrum; sharpness ascent; random
    walks below a level of the loss; hyper-parameters that change; soft labels and corrupted data; other networks
    and initial scales.

    The default takes a minute of one core. The sizes of the program are
    ``elementary_walkers(data="mnist", steps=1000)``.

    Parameters
    ----------
    seed
        The one seed of all stages.
    data
        ``"digits"``: the 1,797 digits of scikit-learn. ``"mnist"``: a thousand images of MNIST to learn from and
        a thousand to test on, from its files (see :class:`~landscape_networks.idx.MNIST`). ``"auto"``: MNIST
        where its files can be read, else the digits; the report says why.
    steps
        Steps of each training; other walks are as long, or a fixed part of it.
    workers
        Points of each population; one more walks by gradient descent beside them.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another name of data, or numbers below 1.
    landscape.errors.DataError
        With ``data="mnist"``, where its files are missing or damaged.
    """
    if data not in _CHOICES:
        raise ConfigurationError(f"elementary-walkers: data={data!r}; choose from {', '.join(_CHOICES)}.")
    if steps < 1 or workers < 1:
        raise ConfigurationError(
            f"elementary-walkers: steps={steps}, workers={workers}; give numbers of at least 1."
        )
    images, fewer, lines, about = _images(data)
    model = ls.models.MLP(hidden=(100, 100), activation="relu")
    # Torch7's momentum had a dampening of the same size where nothing else was said.
    sgd = ls.walkers.SGD(lr=0.1, batch_size=100, momentum=0.5, dampening=0.5)
    gd = ls.walkers.GD(lr=0.1, momentum=0.5, dampening=0.5)
    often, seldom = max(1, steps // 20), max(1, steps // 2)

    def experiment(walker: Walker[Any], **options: Any) -> ls.Experiment:
        common = ls.Experiment(
            model, images, walker, probes=_measured(often), steps=steps, snapshots=steps, seed=seed
        )
        return common.replace(**options)

    mixed = ls.walkers.Group(members=((sgd, workers), (gd, 1)))
    between = (
        *_measured(often),
        ls.Every(often, ls.probes.PairwiseDistances()),
        ls.Every(steps, ls.probes.Interpolation(resolution=10, spherical="both")),
    )
    trained = experiment(mixed, probes=())
    last = str(workers)
    stages = (
        ls.Stage(
            "sgd-and-gd",
            experiment(mixed, probes=between),
            title="SGD beside gradient descent",
            text=(
                f"{_counted(workers)} of stochastic gradient descent and one of gradient descent on all the data "
                f"(worker {last}), from the same start, with momentum 0.5 and the same dampening. How far they "
                "drift apart, and what lies between them and beyond, along the straight path and along the one "
                "whose norm changes evenly."
            ),
        ),
        ls.Stage(
            "elastic-averaging",
            experiment(ls.walkers.EASGD(sgd, workers=workers), probes=between),
            title="Elastic averaging",
            text="The same workers, tied to a centre by springs (Zhang, Choromanska, LeCun 2015).",
        ),
        ls.Stage(
            "elastic-averaging-2016",
            experiment(
                ls.walkers.EASGD(
                    sgd,
                    workers=workers,
                    moving_rate=1.0,
                    elasticity=0.1,
                    sequential=True,
                    centre_norm="mean",
                    output_bias_damping=0.9,
                ),
                probes=between,
            ),
            title="Elastic averaging as the program of 2016 had it",
            text=(
                "The springs pull after the step, the centre is the mean of the pulled workers, scaled to their "
                "mean norm, and the biases of the outputs are slow."
            ),
        ),
        ls.Stage(
            "robust-ensemble",
            experiment(
                ls.walkers.RobustEnsemble(
                    sgd, workers=workers, gamma=0.05, growth=0.05, every=max(1, steps // 50)
                ),
                probes=between,
            ),
            title="Robust ensemble",
            text=(
                "Replicas that attract each other ever more strongly, until they are one (Baldassi et al. 2016)."
            ),
        ),
        ls.Stage(
            "lbfgs",
            experiment(
                ls.walkers.LBFGS(),
                steps=max(1, steps // 2),
                probes=_measured(max(1, steps // 40)),
                stop=(ls.stops.Target("gradient_norm", 1e-3),),
            ),
            title="L-BFGS",
            text="Quasi-Newton steps on all the data, until the norm of the gradient is below 0.001.",
        ),
        ls.Stage(
            "entropy-sgd",
            experiment(
                ls.walkers.Group(
                    members=(
                        (ls.walkers.EntropySGD(lr=1.0, batch_size=100, inner_steps=20, gamma=0.03), 2),
                        (gd, 1),
                    )
                ),
                steps=max(1, steps // 5),
                probes=(*_measured(max(1, often // 5)), _spectrum(max(1, steps // 10), 5, 0)),
            ),
            title="Entropy-SGD",
            text=(
                "Workers 0 and 1 descend the local entropy (Chaudhari et al. 2017), 20 mini-batches per step; worker 2 "
                "is gradient descent. The largest curvatures on their ways stand beside the losses."
            ),
        ),
        ls.Stage(
            "spectrum",
            experiment(
                ls.walkers.Group(members=((sgd, 1), (gd, 1))),
                # Smooth, so that there is a Hessian everywhere, and small, so that all of it fits.
                model=ls.models.MLP(hidden=(10,), activation="tanh"),
                dtype="float64",
                probes=(
                    *_measured(often),
                    _spectrum(seldom, 12, 5),
                    ls.Every(seldom, ls.probes.MinimumRatio()),
                ),
            ),
            title="Ends of the Hessian's spectrum",
            text=(
                "A smaller network in double precision: the largest and smallest eigenvalues of the Hessian on the "
                "way of SGD (worker 0) and of gradient descent (worker 1), the share of all eigenvalues that is "
                "positive, and the share of neighbours that lie higher."
            ),
        ),
        ls.Stage(
            "sharpness",
            ls.Sweep(
                experiment(
                    ls.walkers.SharpnessAscent(lr=0.01, radius=0.05, at_boundary="stop"),
                    start=ls.starts.PreTrained(trained, worker="0"),
                    steps=max(1, steps // 2),
                    probes=(
                        ls.Every(often, ls.probes.Sharpness()),
                        ls.Every(often, ls.probes.Sharpness(split="test")),
                        ls.Every(often, ls.probes.DistanceFromStart()),
                        ls.Every(often, ls.probes.GradientNorm()),
                    ),
                ),
                {"start.worker": tuple(dict.fromkeys(("0", str(workers - 1), last)))},
                name="Sharpness of trained points",
            ),
            title="Sharpness",
            text=(
                "From points that SGD found, and from the one that gradient descent found (the last worker), uphill "
                "until the path leaves a ball of radius 0.05: 100 times the rise of the loss over one plus the loss "
                "(Keskar et al. 2017)."
            ),
        ),
        ls.Stage(
            "excursion",
            experiment(
                ls.walkers.Group(
                    members=(
                        (ls.walkers.ExcursionWalk(0.05, relative=True), 2),
                        (ls.walkers.ExcursionWalk(0.05, relative=True, at_boundary="stop"), 2),
                        (ls.walkers.RandomWalk(), 1),
                    )
                ),
                start=ls.starts.PreTrained(trained, worker="0"),
                probes=(*_measured(often), ls.Every(often, ls.probes.DistanceFromStart())),
            ),
            title="Random walks in an excursion set",
            text=(
                "From a trained point, with Gaussian steps of 0.005 per weight. Workers 0 and 1 stay where the loss is "
                "at most 0.05 above the start's, by rejecting what leads out; workers 2 and 3 end where they first "
                "leave that set; worker 4 walks freely."
            ),
        ),
        ls.Stage(
            "hyper-parameters",
            experiment(
                ls.walkers.SGD(lr=0.1, batch_size=100, workers=3),
                schedule=(
                    ls.At(max(1, steps // 4), {"lr": (0.1, 0.3, 1.0)}),
                    ls.At(max(1, steps // 2), {"lr": 0.02, "momentum": 0.9}),
                ),
                stop=(ls.stops.Target("loss", 0.01, worker="any"),),
            ),
            title="Hyper-parameters that change on the way",
            text=(
                f"At step {max(1, steps // 4)} each worker gets a learning rate of its own, at step "
                f"{max(1, steps // 2)} all get the same again, and momentum; the run ends where a loss falls below "
                "0.01. Every change is in the record. In an experiment of its own, --pause-at asks for new values at "
                "the terminal."
            ),
        ),
        ls.Stage(
            "data",
            ls.Sweep(
                experiment(sgd),
                {
                    "dataset": (
                        images,
                        ls.datasets.SoftLabels(images, p=0.91),
                        ls.datasets.DoubleImages(images),
                        ls.datasets.ScrambledLabels(images),
                        ls.datasets.NoiseInputs(images),
                        ls.datasets.NoiseLines(images, rows=lines, columns=lines),
                    )
                },
                name="Corrupted data",
            ),
            title="Soft labels and corrupted data",
            text=(
                "The same walk on clean data; on soft labels (0.91 for the label, 0.01 for each other class, so that "
                "the loss cannot fall below their entropy, 0.5); on pairs of images whose label is the sum of both "
                "modulo 10; on labels in random order; on noise in place of all images; and on noise in some rows and "
                "columns. Test data is clean except for the pairs."
            ),
        ),
        ls.Stage(
            "networks",
            ls.Sweep(
                experiment(sgd, steps=max(1, steps // 2)),
                {
                    "model": (
                        model,
                        ls.models.LeNet(),
                        ls.models.MLP(hidden=(100, 100), activation="relu", scale=0.3),
                        ls.models.MLP(hidden=(100, 100), activation="relu", scale=3.0),
                    )
                },
                name="Networks and initial scales",
            ),
            title="Other networks, and the scale of the initial weights",
            text="The fully connected network, LeNet, and initial weights of 0.3 and of 3 times the size.",
        ),
        ls.Stage(
            "examples",
            ls.Sweep(experiment(sgd), {"dataset": (images, fewer)}, name="Fewer examples"),
            title="Fewer examples",
            text="The same walk on all the data and on a quarter of it.",
        ),
    )
    return ls.Study(
        name="Elementary walkers",
        text=(
            "Walkers on the loss landscape of a small classifier: apart, tied together, climbing and wandering, after "
            f"the program elementary-walkers of 2016. {about}"
        ),
        stages=stages,
    )


def _measured(every: int) -> tuple[ls.Every, ...]:
    """Return what the program logged of every worker."""
    probes = (
        *(probe(split=split) for probe in (ls.probes.Loss, ls.probes.Score) for split in ("train", "test")),
        ls.probes.GradientNorm(),
        ls.probes.GradientNorm(split="test"),
        ls.probes.WeightNorm(),
    )
    return tuple(ls.Every(every, probe) for probe in probes)


def _spectrum(every: int, k: int, bottom: int) -> ls.Every:
    return ls.Every(every, ls.probes.HessianSpectrum(k=k, bottom=bottom))


def _counted(workers: int) -> str:
    return "One worker" if workers == 1 else f"{workers} workers"


def _images(data: str) -> tuple[Dataset, Dataset, int, str]:
    """Return the data, a quarter of it, how many rows and columns noise takes, and a sentence about it.

    Raises
    ------
    DataError
        If MNIST is asked for and cannot be read.
    """
    import torch

    why = ""
    if data != "digits":
        mnist = ls.datasets.MNIST(examples=1000, test_examples=1000)
        try:
            mnist.load(torch.Generator())
        except DataError as error:
            if data == "mnist":
                raise
            why = f" (MNIST cannot be read here. {error})"
        else:
            about = "The data is a thousand images of MNIST, and a thousand others to test on."
            return mnist, evolve(mnist, examples=250), 7, about
    digits = ls.datasets.Digits(flatten=False)
    about = f"The data is the handwritten digits of scikit-learn, 8 x 8 pixels.{why}"
    # Test data is drawn from the images used: 450 of them leave a quarter of the training images.
    return digits, evolve(digits, examples=450), 2, about
