"""Validators that several datasets share."""

from __future__ import annotations

from typing import Any

from attrs import Attribute

from landscape.errors import ConfigurationError
from landscape.validators import is_number, is_whole

__all__ = ["check_count", "check_fraction", "optional_count"]


def check_fraction(instance: Any, attribute: Attribute[float], value: Any) -> None:
    """Validate the share of the examples that is held back for testing."""
    if not is_number(value) or not 0 <= value < 1:
        raise ConfigurationError(
            f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; give the share of the "
            "examples that is held back for testing, at least 0 and less than 1."
        )


def check_count(instance: Any, attribute: Attribute[int], value: Any) -> None:
    """Validate a whole number of at least 1."""
    if not is_whole(value) or value < 1:
        raise ConfigurationError(
            f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; give a whole number of at "
            "least 1."
        )


def optional_count(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Validate a whole number of at least 1, or None for all there is."""
    if value is not None and (not is_whole(value) or value < 1):
        raise ConfigurationError(
            f"{type(instance).__name__}: {attribute.name}={value!r} is not possible; give a whole number of at "
            "least 1, or None for all there is."
        )
