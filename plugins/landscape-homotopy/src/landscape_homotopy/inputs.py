"""What solvers are given, checked before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import PolynomialError
from landscape.systems import ParametricFamily, PolynomialSystem

__all__ = ["checked_parameters", "checked_system"]


def checked_system(system: Any) -> PolynomialSystem:
    """Return a polynomial system.

    Raises
    ------
    PolynomialError
        For anything else, with what would be one.
    """
    if isinstance(system, PolynomialSystem):
        return system
    if isinstance(system, ParametricFamily):
        raise PolynomialError(
            f"solve takes one system, got the family {type(system).__name__}: give its member system(parameters), or "
            f"solve members together with solve_family(family, parameters, generator)."
        )
    raise PolynomialError(
        f"solve takes a PolynomialSystem, got {type(system).__name__}; write PolynomialSystem(equations, unknowns) "
        f"with equations as text or SymPy expressions."
    )


def checked_parameters(family: Any, parameters: Any) -> NDArray[np.generic]:
    """Return parameters of members of a family as an array of shape (samples, M).

    Raises
    ------
    PolynomialError
        For what is no family, and for parameters that are no finite numbers or of another shape.
    """
    if not isinstance(family, ParametricFamily):
        raise PolynomialError(
            f"solve_family takes a family such as PolynomialFamily(equations, unknowns, parameters), got "
            f"{type(family).__name__}."
        )
    names = len(family.parameter_names)
    try:
        targets = np.asarray(parameters)
        numbers = targets.dtype.kind in "biufc"
    except ValueError:
        numbers = False
    if not numbers:
        raise PolynomialError(
            f"parameters must be numbers, of shape (samples, {names}), got {parameters!r:.80}."
        )
    if targets.ndim != 2 or targets.shape[1] != names:
        raise PolynomialError(f"parameters must have shape (samples, {names}), got {targets.shape}.")
    if not np.isfinite(targets).all():
        raise PolynomialError("parameters must be finite; some are NaN or infinite.")
    return targets
