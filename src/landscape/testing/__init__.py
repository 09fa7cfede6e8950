"""Checks that a plugin's components keep the rules, and landscapes about which everything is known.

One call in a test is enough::

    from landscape.testing import check_probe
    from my_plugin import MyProbe

    def test_my_probe_keeps_the_rules():
        check_probe(MyProbe(samples=4))

A check raises :class:`ConformanceError`, an ``AssertionError`` that names the rule, what was seen and what to
do. Importing this package imports neither torch nor a plugin; pytest loads its fixtures by itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.testing.checks import ConformanceError as ConformanceError
    from landscape.testing.checks import check_component as check_component
    from landscape.testing.checks import check_probe as check_probe
    from landscape.testing.checks import check_projector as check_projector
    from landscape.testing.checks import check_solver as check_solver
    from landscape.testing.checks import check_walker as check_walker
    from landscape.testing.landscapes import KnownLandscape as KnownLandscape
    from landscape.testing.landscapes import quadratic as quadratic
    from landscape.testing.landscapes import rosenbrock as rosenbrock
    from landscape.testing.landscapes import tanh_regression as tanh_regression
    from landscape.testing.recipes import check_backend as check_backend
    from landscape.testing.recipes import check_dataset as check_dataset
    from landscape.testing.recipes import check_model as check_model
    from landscape.testing.recipes import check_schedule as check_schedule
    from landscape.testing.recipes import check_start as check_start
    from landscape.testing.recipes import check_stop_rule as check_stop_rule
    from landscape.testing.system import require_system as require_system

_HOMES = {
    "check_backend": "recipes",
    "check_dataset": "recipes",
    "check_model": "recipes",
    "check_schedule": "recipes",
    "check_start": "recipes",
    "check_stop_rule": "recipes",
    "ConformanceError": "checks",
    "KnownLandscape": "landscapes",
    "check_component": "checks",
    "check_probe": "checks",
    "check_projector": "checks",
    "check_solver": "checks",
    "check_walker": "checks",
    "quadratic": "landscapes",
    "require_system": "system",
    "rosenbrock": "landscapes",
    "tanh_regression": "landscapes",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'landscape.testing' has no attribute {name!r}")
    value = getattr(import_module(f"landscape.testing.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
