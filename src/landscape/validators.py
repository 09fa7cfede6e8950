"""Checks of a component's fields, for attrs, that name the value and what it must be.

Examples
--------
>>> from attrs import field, frozen
>>> from landscape.validators import at_least
>>> @frozen
... class Plan:
...     steps: int = field(validator=at_least(1))
>>> Plan(0)
Traceback (most recent call last):
...
landscape.errors.ConfigurationError: Plan: steps=0 is not possible; give a whole number, at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any, TypeGuard

from landscape.errors import ConfigurationError, nearest

__all__ = [
    "at_least",
    "between",
    "is_number",
    "is_whole",
    "number",
    "of_type",
    "one_of",
    "optional",
    "refuse",
    "whole",
]

Validator = Callable[[Any, Any, Any], None]


def _is_number(value: Any, kind: type) -> bool:
    # Python counts True and False among the numbers; nobody means them where a number is asked for.
    return isinstance(value, kind) and type(value) is not bool


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether `value` is a whole number, Python's or numpy's; True and False are none."""
    return _is_number(value, Integral)


def is_number(value: Any) -> bool:
    """Whether `value` is a real number, Python's or numpy's; True and False are none."""
    return _is_number(value, Real)


def refuse(instance: Any, attribute: Any, value: Any, cure: str) -> None:
    """Raise the error that says which field of what has which value, and the cure."""
    raise ConfigurationError(f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; {cure}")


def at_least(least: int) -> Validator:
    """Return a validator for whole numbers that are not below `least`."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not is_whole(value) or value < least:
            refuse(instance, attribute, value, f"give a whole number, at least {least}.")

    return check


def as_tuple(value: Any) -> Any:
    """Return a sequence of anything as a tuple, whole numbers as Python's; everything else as it is.

    A converter for fields that hold several values, to be followed by a validator.
    """
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        return value
    return tuple(int(entry) if is_whole(entry) else entry for entry in value)


def each_at_least(least: int, cure: str) -> Validator:
    """Return a validator for tuples of whole numbers that are not below `least`; `cure` says what to give."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, tuple) or not all(is_whole(entry) and entry >= least for entry in value):
            refuse(instance, attribute, value, cure)

    return check


def whole(instance: Any, attribute: Any, value: Any) -> None:
    """Accept whole numbers."""
    if not is_whole(value):
        refuse(instance, attribute, value, "give a whole number.")


def number(*, above: float = -math.inf, at_least: float = -math.inf) -> Validator:
    """Return a validator for finite numbers, larger than `above` and not below `at_least`."""
    bounds = []
    if at_least > -math.inf:
        bounds.append(f"at least {at_least:g}")
    if above > -math.inf:
        bounds.append(f"larger than {above:g}")

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not (is_number(value) and math.isfinite(value) and value > above and value >= at_least):
            refuse(
                instance,
                attribute,
                value,
                f"give a finite number{', ' if bounds else ''}{', '.join(bounds)}.",
            )

    return check


def between(low: float, high: float) -> Validator:
    """Return a validator for numbers strictly between `low` and `high`."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not (is_number(value) and low < value < high):
            refuse(instance, attribute, value, f"give a number between {low:g} and {high:g}.")

    return check


def one_of(choices: Iterable[str]) -> Validator:
    """Return a validator for one of some words; the nearest one is proposed."""
    known = tuple(choices)

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if value not in known:
            words = ", ".join(repr(choice) for choice in known)
            hint = nearest(value, known) if isinstance(value, str) else ""
            refuse(instance, attribute, value, f"give one of {words}.{hint}")

    return check


def of_type(kind: type, described: str | None = None) -> Validator:
    """Return a validator for instances of `kind`."""

    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, kind):
            refuse(instance, attribute, value, f"give {described or 'a ' + kind.__name__}.")

    return check


def optional(check: Validator) -> Validator:
    """Return a validator that also accepts None."""

    def either(instance: Any, attribute: Any, value: Any) -> None:
        if value is not None:
            check(instance, attribute, value)

    return either
