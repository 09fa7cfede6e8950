"""Paths through weight space, and maps of it: four programs that trained networks and drew where they went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import landscape as ls
from landscape.errors import ConfigurationError

if TYPE_CHECKING:
    from landscape.interfaces import Dataset, Projector

__all__ = ["initialisation", "learning_dynamics", "optimisation_path", "weight_space_map"]

#: Images in a mini-batch, where nothing else was said.
_BATCH = 200

#: Snapshots in all, beyond the first of each network, from which on they are taken less often.
_SNAPSHOTS = 1000


def _positive(recipe: str, **numbers: int) -> None:
    wrong = {name: value for name, value in numbers.items() if value < 1}
    if wrong:
        said = ", ".join(f"{name}={value}" for name, value in wrong.items())
        raise ConfigurationError(f"{recipe}: {said}; give numbers of at least 1.")


def _one_of(recipe: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{recipe}: {name}={value!r}; choose from {', '.join(choices)}.")


# ---------------------------------------------------------------------------------------------------------
# Training several times
# ---------------------------------------------------------------------------------------------------------


def optimisation_path(
    seed: int = 0,
    networks: int = 3,
    steps: int = 300,
    every: int = 10,
    data: Literal["digits", "cifar10"] = "digits",
) -> ls.Study:
    """Train several times, project the recorded weights to a plane, and follow loss and gradient norm.

    The first task of a course programme of 2018, on images and on a function to fit: the paths of the whole weight
    vector and of the first layer alone, labelled by step and score, and loss and gradient norm of several models in one
    plot.

    Parameters
    ----------
    seed
        The one seed.
    networks
        How many trainings, each from a start of its own.
    steps
        Of each training.
    every
        Weights are recorded, and loss and gradient norm measured, every so many steps.
    data
        ``"digits"``, or ``"cifar10"``, from its files.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another name of data, or numbers below 1.
    """
    _positive("optimisation-path", networks=networks, steps=steps, every=every)
    _one_of("optimisation-path", "data", data, ("digits", "cifar10"))
    images: Dataset = ls.datasets.Digits() if data == "digits" else ls.datasets.CIFAR10(examples=5000)
    images_model = ls.models.MLP(hidden=(32,)) if data == "digits" else ls.models.SimpleCNN()
    # The first layer of either: the network's first weights and biases.
    first = "layer1" if data == "digits" else "*1.*"
    curve = ls.datasets.Seeded(ls.datasets.FunctionFit(examples=300, standardise=True), seed=seed)
    wide, deep = ls.models.MLP(hidden=(70,)), ls.models.MLP(hidden=(20, 20, 20))

    def paths(model: Any, dataset: Dataset, walker: Any, loss: str, layer: str) -> ls.Experiment:
        probes = [ls.probes.Loss(), ls.probes.GradientNorm()]
        probes += [ls.probes.Score()] if loss == "cross_entropy" else []
        return ls.Experiment(
            model,
            dataset,
            walker,
            loss=loss,
            start=ls.Fresh(identical=False),
            probes=tuple(ls.Every(every, probe) for probe in probes),
            projectors=(ls.projectors.PCA(), ls.projectors.Part(ls.projectors.PCA(), layer)),
            steps=steps,
            snapshots=every,
            seed=seed,
        )

    adam = ls.walkers.Adam(lr=0.01, batch_size=64, workers=networks)
    models = ls.Sweep(
        ls.Experiment(
            wide,
            curve,
            ls.walkers.Adam(lr=0.01),
            loss="mse",
            probes=(ls.Every(1, ls.probes.Loss()), ls.Every(1, ls.probes.GradientNorm())),
            steps=steps,
            seed=seed,
        ),
        {"model": (wide, deep, ls.models.MLP(hidden=(10, 10)))},
        name="Loss and gradient norm of three models",
    )
    return ls.Study(
        name="The path of optimisation",
        text=(
            "The same network is trained several times, from different initial weights, and its weights are recorded "
            "on the way. Where do the paths go, in the plane of most variance? And how does the gradient's norm fall "
            "with the loss?"
        ),
        stages=(
            ls.Stage(
                "images",
                paths(
                    images_model,
                    images,
                    ls.walkers.SGD(lr=0.1, batch_size=64, momentum=0.9, workers=networks),
                    "cross_entropy",
                    first,
                ),
                title="Images: paths of the whole network and of its first layer",
                text=f"{networks} trainings by SGD with momentum; weights recorded every {every} steps.",
            ),
            ls.Stage(
                "function-fit",
                paths(deep, curve, adam, "mse", "layer1"),
                title="Function fit: paths of the whole network and of its first layer",
                text=f"{networks} trainings by Adam on y = 4 sin(exp(x/8)) - 5 cos(x) + exp(x/8).",
            ),
            ls.Stage(
                "models",
                models,
                title="Loss and gradient norm of several models",
                text="Three networks fit the same function; all data in every step.",
            ),
        ),
    )


# ---------------------------------------------------------------------------------------------------------
# Learning dynamics
# ---------------------------------------------------------------------------------------------------------

_PROJECTIONS = ("PCA", "SOM", "Autoencoder", "BinaryEncoder", "Autoencoder+SOM", "Autoencoder+TSNE")


def _projector(name: str, snapshots: int) -> Projector:
    simple: dict[str, Projector] = {
        "PCA": ls.projectors.PCA(),
        "SOM": ls.projectors.SOM(),
        "Autoencoder": ls.projectors.Autoencoder(),
        "BinaryEncoder": ls.projectors.BinaryEncoder(),
        "TSNE": ls.projectors.TSNE(),
    }
    first, _, second = name.partition("+")
    if not second:
        return simple[first]
    # So many snapshots span one dimension less.
    dimensions = min(16, max(2, snapshots - 1))
    return ls.projectors.Chain(ls.projectors.Autoencoder(dimensions=dimensions), simple[second])


def learning_dynamics(
    seed: int = 0,
    data: Literal["digits", "mnist"] = "digits",
    networks: int = 3,
    iterations: int = 30,
    width: int = 8,
    depth: int = 5,
    activation: str = "tanh",
    solver: Literal["sgd", "adam"] = "sgd",
    projections: tuple[str, ...] = ("PCA", "SOM", "Autoencoder", "Autoencoder+SOM", "Autoencoder+TSNE"),
    fit_on: Literal["all", "first"] = "all",
) -> ls.Study:
    """Several networks learn, from scratch and after training on other data; their weights are drawn on the way.

    The main experiment of a program on learning dynamics in weight space (2020). One iteration is a pass over the
    data. The whole network is projected by each of `projections`; each layer, the mean of the hidden layers, and the
    weights without biases by PCA.

    Parameters
    ----------
    seed
        The one seed.
    data
        ``"digits"``: scikit-learn's; trained before on ten normal clusters of the same dimension. ``"mnist"``, from
        its files; trained before on ten characters of OMNIGLOT, from its files.
    networks
        How many, each from a start of its own; after training on other data all from where that ended, with data in
        different orders.
    iterations
        Passes over the data; weights and scores are recorded after each.
    width, depth
        Units of each hidden layer, and number of hidden layers; at least 3 for a mean of hidden layers.
    activation
        Of the hidden layers.
    solver
        ``"sgd"`` with learning rate 0.1, or ``"adam"`` with 0.01; mini-batches of 200.
    projections
        Of the whole network: ``"PCA"``, ``"SOM"``, ``"Autoencoder"``, ``"BinaryEncoder"``, ``"Autoencoder+SOM"``,
        ``"Autoencoder+TSNE"``.
    fit_on
        ``"all"`` networks, or the ``"first"`` alone, in whose picture the others are then drawn.

    Raises
    ------
    landscape.errors.ConfigurationError
        For an unknown name, or numbers below 1.
    """
    recipe = "learning-dynamics"
    _positive(recipe, networks=networks, iterations=iterations, width=width, depth=depth)
    _one_of(recipe, "data", data, ("digits", "mnist"))
    _one_of(recipe, "solver", solver, ("sgd", "adam"))
    _one_of(recipe, "fit_on", fit_on, ("all", "first"))
    for name in projections:
        _one_of(recipe, "projections", name, _PROJECTIONS)
    mnist = data == "mnist"
    images: Dataset = ls.datasets.MNIST() if mnist else ls.datasets.Digits()
    other: Dataset = (
        ls.datasets.Omniglot(characters=10)
        if mnist
        else ls.datasets.GaussianClusters(classes=10, dimension=64, examples=1500, separation=4.0)
    )
    per_pass = 300 if mnist else 8  # of 60,000 and of 1,437 images
    model = ls.models.MLP(hidden=(width,) * depth, activation=activation)

    def walker(workers: int) -> Any:
        if solver == "adam":
            return ls.walkers.Adam(lr=0.01, batch_size=_BATCH, workers=workers)
        return ls.walkers.SGD(lr=0.1, batch_size=_BATCH, momentum=0.9, workers=workers)

    def fitted(projector: Projector) -> Projector:
        return projector if fit_on == "all" else ls.projectors.FitOn(projector, ("0",))

    pca = ls.projectors.PCA()
    parts = [ls.projectors.Part(fitted(pca), f"layer{i}") for i in range(1, depth + 2)]
    parts.append(ls.projectors.Part(fitted(pca), "*.weight"))
    if depth >= 3:
        hidden = tuple(f"layer{i}" for i in range(2, depth + 1))
        parts.append(ls.projectors.Part(fitted(pca), average=hidden))
    # Different ones: after training on other data all networks have the first in common.
    fitted_on = iterations * (networks if fit_on == "all" else 1) + 1
    whole = tuple(fitted(_projector(name, fitted_on)) for name in projections)
    steps = iterations * per_pass
    scratch = ls.Experiment(
        model,
        images,
        walker(networks),
        start=ls.Fresh(identical=False),
        probes=tuple(
            ls.Every(per_pass, probe)
            for probe in (ls.probes.Loss(), ls.probes.Score(), ls.probes.Score(split="test"))
        ),
        projectors=(*whole, *parts),
        steps=steps,
        snapshots=per_pass,
        seed=seed,
    )
    before = ls.Experiment(model, other, walker(1), steps=steps, seed=seed)
    after = scratch.replace(start=ls.starts.PreTrained(before), projectors=whole[:2])
    return ls.Study(
        name="Learning dynamics in weight space",
        text=(
            "Several networks learn the same images, from initial weights of their own and from weights that were "
            "trained on other data before. Each snapshot is a point in weight space; the pictures show what becomes "
            "of the paths in two dimensions, for the whole network and for its parts."
        ),
        stages=(
            ls.Stage(
                "scratch",
                scratch,
                title="From scratch",
                text=f"{networks} networks with {depth} hidden layers of {width} units, {iterations} passes.",
            ),
            ls.Stage(
                "pre-trained",
                after,
                title="After training on other data",
                text=(
                    "The same networks, all from where one network stood after as many passes over "
                    f"{'ten characters of OMNIGLOT' if mnist else 'ten normal clusters'}; their order of the data "
                    "differs."
                ),
            ),
        ),
    )


# ---------------------------------------------------------------------------------------------------------
# Maps of weight space
# ---------------------------------------------------------------------------------------------------------


def _lattice(seed: int, spacing: int) -> ls.Experiment:
    """Return the networks whose 20 last weights are 0 or 1, on a lattice; none of them is trained."""
    count = ls.starts.WeightLattice.size(20, spacing)
    still = ls.walkers.SGD(lr=0.0, batch_size=1, workers=count)
    second = "layer2.weight"
    return ls.Experiment(
        ls.models.MLP(hidden=(2,), activation="relu"),
        ls.datasets.Digits(),
        still,
        start=ls.starts.WeightLattice(second, step=spacing),
        probes=(ls.Every(10, ls.probes.Score()), ls.Every(10, ls.probes.Loss())),
        projectors=(
            ls.projectors.Part(ls.projectors.BinaryEncoder(), second),
            ls.projectors.Part(ls.projectors.PCA(), second),
        ),
        steps=1,
        snapshots=1,
        seed=seed,
        name="Lattice of weights",
    )


def weight_space_map(seed: int = 0, spacing: int = 100) -> ls.Study:
    """Score networks whose weights are 0 and 1, on a lattice in weight space, and draw the map of the scores.

    The weight-space experiment of a program of 2020. A network of 64-2-10 units reads digits; its 20 last weights are
    the bits of two integers, and the other weights one random initialisation. Nothing is trained.

    Parameters
    ----------
    seed
        Of the initialisation.
    spacing
        Between neighbouring integers, of 1024: 100 makes 121 networks, 10 makes 10,609.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a spacing below 1.
    """
    _positive("weight-space-map", spacing=spacing)
    lattice = _lattice(seed, spacing)
    return ls.Study(
        name="A map of weight space",
        text=(
            "Which regions of weight space are good? The last weights of a small network are set to 0 and 1, the bits "
            "of two integers x and y, and each such network reads the digits as it is. In the first layer stands one "
            "random initialisation: with zeros there, the scores would be shares of classes and say nothing."
        ),
        stages=(
            ls.Stage(
                "map",
                lattice,
                title="Scores on a lattice of weights",
                text=f"{lattice.walker.workers} networks, none of them trained.",
            ),
        ),
    )


def initialisation(
    seed: int = 0, spacing: int = 100, samples: int = 3, repetitions: int = 2, iterations: int = 20
) -> ls.Study:
    """Train from the best and from the worst points of a map of weight space, and compare.

    The initialisation experiment of a program of 2020: the last layer's path is followed from each point, and scores
    are compared by where the walk began, with bands of 95 % confidence. The report draws the walks over the map that
    they begin in, in one projection fitted to the map's points.

    Parameters
    ----------
    seed
        The one seed.
    spacing
        Of the map, see :func:`weight_space_map`.
    samples
        How many of the best points, and how many of the worst.
    repetitions
        Trainings from each, with data in different orders.
    iterations
        Passes over the data; scores are measured after each. Weights are recorded after each too, and after every few
        where that would make more than 1,000 snapshots, whose projections would take longer than the training.

    Raises
    ------
    landscape.errors.ConfigurationError
        For numbers below 1.
    """
    _positive(
        "initialisation", spacing=spacing, samples=samples, repetitions=repetitions, iterations=iterations
    )
    lattice = _lattice(seed, spacing)
    per_pass = 8  # of 1,437 images
    second = "layer2.weight"
    workers = 2 * samples * repetitions
    passes = -(-workers * iterations // _SNAPSHOTS)  # between snapshots
    walks = lattice.replace(
        start=ls.starts.Ranked(lattice, samples=samples),
        walker=ls.walkers.SGD(lr=0.1, batch_size=_BATCH, momentum=0.9, workers=workers),
        probes=tuple(
            ls.Every(per_pass, probe)
            for probe in (ls.probes.Score(), ls.probes.Loss(), ls.probes.Score(split="test"))
        ),
        projectors=(
            ls.projectors.PCA(),
            ls.projectors.Part(ls.projectors.PCA(), second),
            ls.projectors.Part(ls.projectors.SOM(rows=12, columns=12), second),
        ),
        steps=iterations * per_pass,
        snapshots=passes * per_pass,
        name="From the best and the worst points",
    )
    return ls.Study(
        name="Good and bad initialisations",
        text=(
            "Does it matter where training begins? Of a map of weight space the best and the worst points are taken, "
            "and networks are trained from there."
        ),
        stages=(
            ls.Stage(
                "map",
                lattice,
                title="The map",
                text=f"{lattice.walker.workers} networks whose last weights are 0 and 1, none of them trained.",
            ),
            ls.Stage(
                "walks",
                walks,
                title="Training from the best and the worst points",
                text=(
                    f"Workers 0 to {samples * repetitions - 1} begin at the {samples} best points of the map, the "
                    f"others at the {samples} worst, {repetitions} from each."
                ),
            ),
        ),
    )
