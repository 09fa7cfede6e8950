"""Experiments and studies as values, walks, recorders, and what becomes of them."""

from landscape.composition.configuration import dumps, load, loads, save
from landscape.composition.critical_point_study import CriticalPointStudy
from landscape.composition.every import Every
from landscape.composition.experiment import Experiment
from landscape.composition.measuring import measure
from landscape.composition.recorder import Recorder
from landscape.composition.run import Run, open_run
from landscape.composition.schedules import At
from landscape.composition.starts import Fresh, FromFile, FromRun, PreTrained
from landscape.composition.study import Stage, Study
from landscape.composition.sweep import Sweep
from landscape.composition.walk import Walk

__all__ = [
    "At",
    "CriticalPointStudy",
    "Every",
    "Experiment",
    "Fresh",
    "FromFile",
    "FromRun",
    "PreTrained",
    "Recorder",
    "Run",
    "Stage",
    "Study",
    "Sweep",
    "Walk",
    "dumps",
    "load",
    "loads",
    "measure",
    "open_run",
    "save",
]
