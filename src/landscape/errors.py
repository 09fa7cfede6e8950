"""Every error that landscape raises on purpose.

An error deserves a class here when a caller may want to catch it apart from the others. Its message
names the value that is wrong and what to do about it; ``str(error)`` is meant to be read by a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AmbiguousComponentError",
    "BrokenPluginError",
    "ConfigurationError",
    "DataError",
    "LandscapeError",
    "NonFiniteLossError",
    "NotTwiceDifferentiableError",
    "PolynomialError",
    "RunError",
    "SolverError",
    "UnknownComponentError",
    "UnstableDataError",
    "nearest",
]


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to `name`, or an empty string."""
    if not isinstance(name, str):
        return ""
    known = list(known)
    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean {by_folded[matches[0]]!r}?" if matches else ""


class LandscapeError(Exception):
    """Base of every error that landscape raises on purpose."""


class ConfigurationError(LandscapeError, ValueError):
    """A configuration, an argument or a file that describes an experiment is wrong."""


class UnknownComponentError(ConfigurationError, AttributeError):
    """No installed plugin provides a component of that name."""


class AmbiguousComponentError(ConfigurationError):
    """Two distributions claim one component name; ``distribution:Name`` says which is meant."""


class BrokenPluginError(LandscapeError, ImportError):
    """A plugin that provides the component cannot be imported."""


class DataError(LandscapeError, ValueError):
    """Data cannot be used as the data of a landscape."""


class UnstableDataError(DataError):
    """Data differs between two passes where the same data is needed; ``ls.fixed`` is the cure."""


class NotTwiceDifferentiableError(LandscapeError, RuntimeError):
    """A module has no second derivative where a Hessian is asked for."""


class NonFiniteLossError(LandscapeError, ArithmeticError):
    """The loss became NaN or infinite."""


class RunError(LandscapeError, OSError):
    """A run directory cannot be created, read, resumed or replicated."""


class PolynomialError(LandscapeError, ValueError):
    """A polynomial system or family is malformed, not square, or otherwise not what a solver can take."""


class SolverError(LandscapeError, RuntimeError):
    """A solver could not do what it promises for this system."""
