"""Hyper-parameters as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from attrs import field, frozen

from landscape.interfaces import Schedule
from landscape.validators import at_least, number, of_type, one_of

__all__ = ["Anneal", "Decay"]

_SHAPES: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": lambda a, b, t: a + (b - a) * t,
    "cosine": lambda a, b, t: b + (a - b) * (1 + math.cos(math.pi * t)) / 2,
    "exponential": lambda a, b, t: a * (b / a) ** t,
}


@frozen
class Anneal(Schedule):
    r"""Takes a hyper-parameter from one value to another along a named function.

    With :math:`t = (\text{step} - \text{begin}) / \text{steps}` between 0 and 1,

    .. math::
        \text{linear: } a + (b - a) t, \qquad
        \text{cosine: } b + \tfrac12 (a - b)(1 + \cos \pi t), \qquad
        \text{exponential: } a (b / a)^t .

    Before `begin` the walker's own value holds, afterwards the end value.

    Attributes
    ----------
    start, end
        The values a and b; both positive for the exponential.
    steps
        Over how many steps.
    shape
        ``"linear"``, ``"cosine"`` (Loshchilov & Hutter 2017, eq. 5, without restarts) or ``"exponential"``.
    begin
        The first step.
    name
        The hyper-parameter.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another shape, numbers that are not finite, and ends of an exponential that are not positive.
    """

    start: float = field(validator=number())
    end: float = field(validator=number())
    steps: int = field(validator=at_least(1))
    shape: Literal["linear", "cosine", "exponential"] = field(default="cosine", validator=one_of(_SHAPES))
    begin: int = field(default=0, validator=at_least(0))
    name: str = field(default="lr", validator=of_type(str, "the name of a hyper-parameter"))

    def __attrs_post_init__(self) -> None:
        if self.shape == "exponential":
            for bound in ("start", "end"):
                number(above=0.0)(self, getattr(type(self).__attrs_attrs__, bound), getattr(self, bound))

    def changes(self, step: int) -> Mapping[str, float]:
        """Return the value at `step`, empty before the beginning and after the end."""
        if not self.begin <= step <= self.begin + self.steps:
            return {}
        return {self.name: _SHAPES[self.shape](self.start, self.end, (step - self.begin) / self.steps)}


@frozen
class Decay(Schedule):
    r"""Multiplies a hyper-parameter by a factor every so many steps.

    .. math:: \text{value} = \text{start} \cdot \text{factor}^{\lfloor \text{step} / \text{every} \rfloor}

    Attributes
    ----------
    start
        The value at step 0.
    every
        Steps between changes.
    factor
        Of each change.
    name
        The hyper-parameter.

    Raises
    ------
    landscape.errors.ConfigurationError
        For numbers that are not finite, and a factor or an interval that is not positive.
    """

    start: float = field(validator=number())
    every: int = field(validator=at_least(1))
    factor: float = field(default=0.1, validator=number(above=0.0))
    name: str = field(default="lr", validator=of_type(str, "the name of a hyper-parameter"))

    def changes(self, step: int) -> Mapping[str, float]:
        """Return the value at multiples of `every`, empty elsewhere."""
        if step % self.every:
            return {}
        return {self.name: self.start * self.factor ** (step // self.every)}
