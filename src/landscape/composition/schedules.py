"""Hyper-parameters that change while a walk goes on."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from landscape.interfaces import Schedule
from landscape.validators import at_least

__all__ = ["At"]


@frozen
class At(Schedule):
    """New values from one step on.

    ``At(200, {"lr": 0.01})`` changes the learning rate before update 200.

    Attributes
    ----------
    step
        The step before whose update the change is made.
    values
        Hyper-parameters of the walker by name; a tuple gives one value per worker.
    """

    step: int = field(validator=at_least(0))
    # A dictionary has no hash; equal schedules hash alike without it.
    values: Mapping[str, float | tuple[float, ...]] = field(factory=dict, hash=False)

    def changes(self, step: int) -> Mapping[str, float | tuple[float, ...]]:
        """Return the new values at `step`, empty elsewhere."""
        return self.values if step == self.step else {}
