"""Hyper-parameters that change while a walk goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from landscape.interfaces import Schedule
from landscape.validators import at_least, is_number, is_whole, refuse

__all__ = ["At"]


def _plain(value: Any) -> Any:
    """Return a value in the form in which it is compared: a file says lists, and knows no numbers of numpy."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(entry) for entry in value)
    if is_whole(value):
        return int(value)
    return float(value) if is_number(value) else value


def _numbers_by_name(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        refuse(instance, attribute, value, "give new values by name, such as {'lr': 0.01}.")
    for name, entry in value.items():
        several = entry if isinstance(entry, tuple) else (entry,)
        if not several or not all(is_number(number) and number == number for number in several):
            refuse(
                instance,
                attribute,
                value,
                f"{name!r} needs a number, or a list with one for each worker.",
            )


@frozen
class At(Schedule):
    """New values from one step on.

    ``At(200, {"lr": 0.01})`` changes the learning rate before update 200.

    Attributes
    ----------
    step
        The step before whose update the change is made.
    values
        Hyper-parameters of the walker by name; a tuple or list gives one value per worker.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a step below 0, and for anything but numbers by name (NaN, which equals nothing, is none).
    """

    step: int = field(validator=at_least(0))
    # A dictionary has no hash; equal schedules hash alike without it.
    values: Mapping[str, float | tuple[float, ...]] = field(
        factory=dict, hash=False, converter=_plain, validator=_numbers_by_name
    )

    def changes(self, step: int) -> Mapping[str, float | tuple[float, ...]]:
        """Return the new values at `step`, empty elsewhere."""
        return self.values if step == self.step else {}
