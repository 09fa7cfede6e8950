"""What a user writes, as mypy must understand it; test_typing.py runs mypy in strict mode on this file.

An ignored error that is none is an error itself (warn_unused_ignores), so the lines with ``type: ignore`` say
what mypy must find.
"""

from typing import Any, assert_type

import attrs
import torch

import landscape as ls
from landscape_hessian.spectrum import HessianSpectrum

# (b) of the design: an experiment, composed.
run = ls.Experiment(
    model=ls.models.MLP(hidden=(100, 100)),
    dataset=ls.datasets.Digits(),
    loss="cross_entropy",
    walker=ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=64), workers=4),
    probes=(ls.probes.GradientCovariance(batches=25), ls.Every(100, ls.probes.HessianSpectrum(k=10))),
    projectors=(ls.projectors.SOM(rows=20, columns=20),),
    steps=2_000,
    seed=1,
).run(store="runs")
assert_type(run, ls.Run)

# First-party names have their types, and their arguments are checked.
assert_type(ls.probes.HessianSpectrum(k=5), HessianSpectrum)
ls.probes.HessianSpectrum(kk=5)  # type: ignore[call-arg]
ls.walkers.SGD(lr="fast")  # type: ignore[arg-type]

# A group is written as pairs, as walkers, or by the name of its field.
sgd, gd = ls.walkers.SGD(lr=0.1, batch_size=64), ls.walkers.GD(lr=0.1)
ls.walkers.EASGD(ls.walkers.Group((sgd, 5), (gd, 1)))
ls.walkers.Group(sgd, (gd, 2))
ls.walkers.Group(members=((sgd, 5), (gd, 1)))
ls.walkers.Group((sgd, "5"))  # type: ignore[arg-type]

# Other people's are looked up when the program runs.
assert_type(ls.probes.HessianTrace(samples=4), Any)
assert_type(ls.probes["landscape-trace:HessianTrace"], Any)
names: list[str] = list(ls.studies)


# A component of one's own.
@ls.register
@attrs.frozen
class Distance(ls.Probe):
    power: float = 2.0

    def measure(self, point: ls.Point, generator: torch.Generator) -> ls.Measurement:
        return ls.Measurement(scalars={"distance": float(point.theta.norm()) ** self.power})


assert_type(Distance(power=1.0), Distance)
Distance(strength=1.0)  # type: ignore[call-arg]
