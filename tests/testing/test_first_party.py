"""Every component of this project keeps the rules that landscape.testing checks."""

import pytest
import torch

import landscape as ls
from landscape.plugins import KINDS, entries
from landscape.plugins.first_party import FIRST_PARTY
from landscape.testing import check_component, check_probe, check_projector, check_solver, check_walker


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
    ("probes", "GradientCovariance"): {"batches": 8},
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
    ("starts", "FromFile"): {"path": "weights.safetensors"},
    ("schedules", "At"): {"step": 3, "values": {"lr": 0.1, "momentum": (0.9, 0.5)}},
}
CHECKS = {
    "probes": lambda probe: check_probe(probe, classified() if isinstance(probe, ls.probes.Score) else None),
    "walkers": check_walker,
    "projectors": check_projector,
    "solvers": check_solver,
}
CORE = [
    (kind, entry.name) for kind in KINDS for entry in entries(kind) if entry.distribution == "landscape-core"
]


# Walkers around others, with the number of workers they are checked with.
AROUND = {"EASGD": 3, "SAM": 2, "GradientNormDescent": 2, "RobustEnsemble": 3, "Parle": 2}


def instance(kind, name):
    if kind == "walkers" and name in AROUND:
        base = ls.walkers.SGD(lr=0.05, batch_size=8)
        return ls.walkers[name](base, workers=AROUND[name], **CONFIGURATIONS.get((kind, name), {}))
    return getattr(ls, kind)[name](**CONFIGURATIONS.get((kind, name), {}))


@pytest.mark.parametrize(
    ("kind", "name"), [*CORE, *(pair for pair in sorted(FIRST_PARTY) if pair[0] != "studies")]
)
def test_it_keeps_the_rules(kind, name):
    CHECKS.get(kind, check_component)(instance(kind, name))
