"""Distributions of random parameters, written as one line of text so that a configuration can say them."""

from __future__ import annotations

import re

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from landscape.errors import ConfigurationError, nearest

__all__ = ["Distribution"]

_FORM = re.compile(r"\s*([A-Za-z_]+)\s*\(([^()]*)\)\s*\Z")
_ARGUMENTS = {"normal": 2, "uniform": 2, "constant": 1, "values": None}


@frozen
class Distribution:
    """How real parameters are drawn.

    Attributes
    ----------
    kind
        ``"normal"`` (mean, standard deviation), ``"uniform"`` (low, high), ``"constant"`` (value) or
        ``"values"`` (one value per parameter, in their order).
    arguments
        The numbers in the parentheses.
    """

    kind: str
    arguments: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Distribution:
        """Read ``"normal(0, 1)"``, ``"uniform(0, 1)"``, ``"constant(0.1)"`` or ``"values(1, 2, 3)"``.

        Raises
        ------
        ConfigurationError
            When `text` is none of these.

        Examples
        --------
        >>> Distribution.parse("uniform(0, 2)").arguments
        (0.0, 2.0)
        """
        forms = "normal(mean, std), uniform(low, high), constant(value), values(v1, v2, ...)"
        match = _FORM.match(text)
        if match is None:
            raise ConfigurationError(f"cannot read the distribution {text!r}; the forms are {forms}.")
        kind = match[1].lower()
        if kind not in _ARGUMENTS:
            raise ConfigurationError(
                f"unknown distribution {match[1]!r}; the forms are {forms}.{nearest(kind, _ARGUMENTS)}"
            )
        try:
            arguments = tuple(float(part) for part in re.split(r"[,;]", match[2]) if part.strip())
        except ValueError:
            raise ConfigurationError(f"{text!r} has an argument that is no number.") from None
        expected = _ARGUMENTS[kind]
        if expected is not None and len(arguments) != expected:
            raise ConfigurationError(
                f"{text!r} has {len(arguments)} numbers, {kind} takes {expected}; the forms are {forms}."
            )
        if not all(np.isfinite(arguments)):
            raise ConfigurationError(f"{text!r} has an argument that is not finite.")
        if kind == "normal" and arguments[1] < 0:
            raise ConfigurationError(f"{text!r} has a negative standard deviation; it must be >= 0.")
        if kind == "uniform" and arguments[0] > arguments[1]:
            raise ConfigurationError(f"{text!r} has low above high; swap them.")
        return cls(kind, arguments)

    def check_size(self, size: int, what: str) -> None:
        """Raise ConfigurationError when explicit values are not exactly `size` many."""
        if self.kind == "values" and len(self.arguments) != size:
            raise ConfigurationError(
                f"{what} are {size} numbers, values(...) lists {len(self.arguments)}; list one per parameter."
            )

    def draw(self, rows: int, size: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return real parameters of shape (rows, size).

        Raises
        ------
        ConfigurationError
            For explicit values that are not `size` many.
        """
        self.check_size(size, "parameters")
        if self.kind == "normal":
            return generator.normal(self.arguments[0], self.arguments[1], (rows, size))
        if self.kind == "uniform":
            return generator.uniform(self.arguments[0], self.arguments[1], (rows, size))
        return np.tile(np.broadcast_to(np.array(self.arguments), (size,)), (rows, 1))
