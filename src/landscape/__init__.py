"""Explore the loss landscapes of neural networks.

Every public name is imported on first use, so that ``import landscape`` costs neither torch nor a plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape import errors as errors
    from landscape import interfaces as interfaces
    from landscape import testing as testing
    from landscape.composition import At as At
    from landscape.composition import CriticalPointStudy as CriticalPointStudy
    from landscape.composition import Every as Every
    from landscape.composition import Experiment as Experiment
    from landscape.composition import Fresh as Fresh
    from landscape.composition import FromFile as FromFile
    from landscape.composition import FromRun as FromRun
    from landscape.composition import PreTrained as PreTrained
    from landscape.composition import Recorder as Recorder
    from landscape.composition import Run as Run
    from landscape.composition import Stage as Stage
    from landscape.composition import Study as Study
    from landscape.composition import Sweep as Sweep
    from landscape.composition import Walk as Walk
    from landscape.composition import dumps as dumps
    from landscape.composition import load as load
    from landscape.composition import loads as loads
    from landscape.composition import measure as measure
    from landscape.composition import open_run as open_run

    open = open_run
    from landscape.composition import save as save
    from landscape.errors import LandscapeError as LandscapeError
    from landscape.interfaces import Backend as Backend
    from landscape.interfaces import Component as Component
    from landscape.interfaces import Dataset as Dataset
    from landscape.interfaces import Figure as Figure
    from landscape.interfaces import InvertibleProjection as InvertibleProjection
    from landscape.interfaces import LandscapeProjector as LandscapeProjector
    from landscape.interfaces import Measurement as Measurement
    from landscape.interfaces import Model as Model
    from landscape.interfaces import PolynomialModel as PolynomialModel
    from landscape.interfaces import PopulationProbe as PopulationProbe
    from landscape.interfaces import Probe as Probe
    from landscape.interfaces import Projection as Projection
    from landscape.interfaces import Projector as Projector
    from landscape.interfaces import Solver as Solver
    from landscape.interfaces import StopRule as StopRule
    from landscape.interfaces import Uncertainty as Uncertainty
    from landscape.interfaces import Walker as Walker
    from landscape.namespaces import backends as backends
    from landscape.namespaces import datasets as datasets
    from landscape.namespaces import models as models
    from landscape.namespaces import probes as probes
    from landscape.namespaces import projectors as projectors
    from landscape.namespaces import schedules as schedules
    from landscape.namespaces import solvers as solvers
    from landscape.namespaces import starts as starts
    from landscape.namespaces import stops as stops
    from landscape.namespaces import studies as studies
    from landscape.namespaces import walkers as walkers
    from landscape.objective import BatchLoss as BatchLoss
    from landscape.objective import CurvatureOperator as CurvatureOperator
    from landscape.objective import Data as Data
    from landscape.objective import Landscape as Landscape
    from landscape.objective import Layout as Layout
    from landscape.objective import PerRow as PerRow
    from landscape.objective import Point as Point
    from landscape.objective import Population as Population
    from landscape.objective import fixed as fixed
    from landscape.plugins import hookimpl as hookimpl
    from landscape.plugins import register as register
    from landscape.store import RunStore as RunStore
    from landscape.store import SnapshotSpan as SnapshotSpan
    from landscape.systems import ParametricFamily as ParametricFamily
    from landscape.systems import PolynomialFamily as PolynomialFamily
    from landscape.systems import PolynomialSystem as PolynomialSystem
    from landscape.systems import Solutions as Solutions

__version__ = "0.1.0"

_HOMES = {
    "composition": (
        "At CriticalPointStudy Every Experiment Fresh FromFile FromRun PreTrained Recorder Run Stage Study Sweep Walk "
        "dumps load loads measure save"
    ),
    "errors": "LandscapeError",
    "interfaces": (
        "Backend Component Dataset Figure InvertibleProjection LandscapeProjector Measurement Model "
        "PolynomialModel PopulationProbe Probe Projection Projector Solver StopRule Uncertainty Walker"
    ),
    "objective": "BatchLoss CurvatureOperator Data Landscape Layout PerRow Point Population fixed",
    "plugins": "hookimpl register",
    "store": "RunStore SnapshotSpan",
    "systems": "ParametricFamily PolynomialFamily PolynomialSystem Solutions",
}
_NAMES: dict[str, tuple[str, str | None]] = {
    name: (f"landscape.{home}", name) for home, names in _HOMES.items() for name in names.split()
}
_NAMES["open"] = ("landscape.composition", "open_run")
_NAMES |= {name: (f"landscape.{name}", None) for name in ("errors", "interfaces", "testing")}
_KINDS = (
    "models",
    "datasets",
    "probes",
    "walkers",
    "projectors",
    "solvers",
    "backends",
    "starts",
    "stops",
    "schedules",
    "studies",
)

__all__ = sorted([*_NAMES, *_KINDS])


def __getattr__(name: str) -> Any:
    if name in _KINDS:
        from landscape.plugins import namespace

        value: Any = namespace(name)
    elif name in _NAMES:
        from landscape.randomness import imported

        module, attribute = _NAMES[name]
        value = imported(module)
        if attribute is not None:
            value = getattr(value, attribute)
    else:
        from landscape.errors import nearest

        raise AttributeError(f"module 'landscape' has no attribute {name!r}.{nearest(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
