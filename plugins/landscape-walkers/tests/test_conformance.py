"""What landscape asks of every walker and probe."""

import pytest

from landscape.testing import check_probe, check_walker
from landscape_walkers.adam import Adam
from landscape_walkers.connectivity import ModeConnectivity
from landscape_walkers.distances import PairwiseDistances
from landscape_walkers.easgd import EASGD
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.gradient_norm import GradientNormDescent
from landscape_walkers.interpolation import Interpolation
from landscape_walkers.langevin import MALA, SGLD
from landscape_walkers.lbfgs import LBFGS
from landscape_walkers.minimum_ratio import MinimumRatio
from landscape_walkers.path import (
    CosineWithStart,
    DistanceFromStart,
    GradientNorm,
    Loss,
    Score,
    Sharpness,
    WeightNorm,
)
from landscape_walkers.rmsprop import RMSprop
from landscape_walkers.sam import SAM
from landscape_walkers.sgd import GD, SGD
from landscape_walkers.sharpness import SharpnessAscent
from landscape_walkers.wandering import ExcursionWalk, RandomWalk

BASES = [
    SGD(lr=0.1),
    SGD(lr=0.1, batch_size=8),
    SGD(lr=(0.1, 0.05, 0.2), batch_size=5, momentum=0.9, weight_decay=(0.0, 0.1, 0.0), nesterov=False),
    SGD(lr=0.05, batch_size=7, momentum=0.9, nesterov=True, workers=2),
]


@pytest.mark.parametrize("walker", BASES, ids=str)
def test_sgd_keeps_the_rules_of_a_walker(walker):
    check_walker(walker)


@pytest.mark.parametrize(
    "walker",
    [
        GD((0.1, 0.05), momentum=0.9),
        Adam(0.01, 8, weight_decay=(0.0, 0.1), decoupled=True),
        RMSprop(0.01, 8, momentum=0.9, centered=True, workers=2),
        LBFGS((1.0, 0.5), history=2),
        LBFGS(0.1, line_search="none", workers=2),
        SAM(SGD(0.1, 8, momentum=0.9), rho=(0.1, 0.2)),
        SAM(Adam(), adaptive=True),
        GradientNormDescent(Adam((0.01, 0.02), 8), objective="norm"),
        EntropySGD(batch_size=8, inner_steps=3, momentum=0.9, nesterov=True, noise=0.1, workers=2),
        SGLD(1e-3, 4, localization=(0.1, 0.2, 0.3)),
        MALA((0.01, 0.1), localization=1.0),
        RandomWalk((0.01, 0.02)),
        ExcursionWalk((0.2, 0.5), 0.05, relative=True),
        ExcursionWalk(0.1, 0.1, relative=True, at_boundary="stop", workers=2),
        SharpnessAscent(0.1, (0.01, 0.02)),
        SharpnessAscent(0.1, at_boundary="stop", workers=2),
    ],
    ids=str,
)
def test_walkers_of_single_points_keep_the_rules_of_a_walker(walker):
    check_walker(walker, steps=2)


@pytest.mark.parametrize(
    "walker",
    [
        EASGD(SGD(lr=0.1, batch_size=8)),
        EASGD(SGD(lr=0.1, batch_size=8, momentum=0.9), workers=3, moving_rate=0.5, elasticity=0.1, period=2),
        EASGD(BASES[2], workers=3),
        EASGD(MALA(0.01), workers=2),
    ],
    ids=str,
)
def test_easgd_keeps_the_rules_of_a_walker(walker):
    check_walker(walker)


@pytest.mark.parametrize(
    "probe",
    [
        Loss(),
        Loss("test"),
        GradientNorm(),
        GradientNorm("test"),
        WeightNorm(),
        CosineWithStart(),
        DistanceFromStart(),
        Sharpness(),
        Sharpness("test"),
    ],
    ids=str,
)
def test_path_probes_keep_the_rules_of_a_probe(probe):
    check_probe(probe)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_score_keeps_the_rules_of_a_probe(classifier, split):
    check_probe(Score(split), classifier())


@pytest.mark.parametrize(
    "probe",
    [
        PairwiseDistances(),
        Interpolation(),
        Interpolation(spherical="both", gradient_norm=True, splits=["test"], beyond=[0, 1]),
        Interpolation(pairs=[["0", "2"]], resolution=3),
        MinimumRatio(),
        MinimumRatio(radius=0.1, relative=False, neighbours=20, dense=0, extremes=0),
        ModeConnectivity(steps=5),
        ModeConnectivity(curve="bezier", bends=2, steps=5, pair=["2", "0"], batch_size=7),
    ],
    ids=str,
)
def test_probes_of_populations_and_neighbourhoods_keep_the_rules_of_a_probe(probe):
    check_probe(probe)
