"""What walkers have in common that tie the points of another walker together.

A coupling is a base walker, whichever it is, and forces between its points. It moves the points by the base
walker's step and then relocates them by the forces, so that the base walker's momenta feel the gradient only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import Factory, field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape.validators import at_least
from landscape_walkers._values import PerWorker, Range, check_names, check_positions, given, spread

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["CoupledState", "Coupling", "OneNumber", "distances", "mean_of_rows"]

#: Workers where neither the coupling nor its base walker says how many.
_WORKERS = 4


@frozen
class OneNumber(Range):
    """A :class:`~landscape_walkers._values.Range` for a hyper-parameter that all workers share."""

    def check(self, owner: str, name: str, value: PerWorker) -> None:
        """Raise unless `value` is one possible number.

        Raises
        ------
        landscape.errors.ConfigurationError
            Naming the value and what is possible.
        """
        if isinstance(value, tuple):
            raise ConfigurationError(f"{owner}: {name}={value!r}: the workers share it; give one number.")
        Range.check(self, owner, name, value)


@frozen(eq=False)
class CoupledState:
    """Where a coupling stands.

    Attributes
    ----------
    base
        State of the base walker, which holds the workers' positions.
    updates
        Steps taken so far.
    values
        The coupling's own hyper-parameters in force.
    """

    base: Any
    updates: int
    values: dict[str, float]


S = TypeVar("S", bound=CoupledState)


def _number(coupling: Coupling[Any]) -> int:
    base: Any = coupling.base
    return base.workers if isinstance(base, Walker) and base.workers > 1 else _WORKERS


@frozen
class Coupling(Walker[S]):
    """Ties the points of a base walker together.

    Fields whose validator is a :class:`OneNumber` are hyper-parameters: they can be changed on the way,
    beside those of the base walker. Where the base walker has one of the same name, that is called
    ``base.gamma``; what it records is called ``base_gamma`` then, and its centre ``base_centre``.

    Parameters
    ----------
    base
        The walker whose points are tied together.
    workers
        How many points; by default as many as the base walker says, and 4 where it says one.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a base walker with another number of workers.
    """

    base: Walker[Any]
    workers: int = field(default=Factory(_number, takes_self=True), validator=at_least(1))

    def __attrs_post_init__(self) -> None:
        owner = type(self).__name__
        if not isinstance(self.base, Walker):
            raise ConfigurationError(
                f"{owner}: base={self.base!r} is not a walker; give one, such as SGD(lr=0.1)."
            )
        if self.base.workers not in (1, self.workers):
            raise ConfigurationError(
                f"{owner} ties {self.workers} workers together but its base walker says "
                f"{self.base.workers}; leave one of the two numbers out."
            )
        self._check()

    # -- what a coupling says -----------------------------------------------------------------------------

    @abstractmethod
    def _begin(
        self, landscape: Landscape, positions: Tensor, state: CoupledState, generator: torch.Generator
    ) -> S:
        """Return the coupling's state before the first step.

        Parameters
        ----------
        landscape, generator
            As in :meth:`start`; the base walker has drawn from the generator before.
        positions
            Shape (K, P), a copy of its own.
        state
            The state of the base walker and the values of the hyper-parameters.
        """

    def _check(self) -> None:
        """Raise for fields that do not fit together."""

    def _open(self, values: Mapping[str, float], workers: int) -> Mapping[str, float]:
        """Return values of hyper-parameters that the configuration leaves open, given the others."""
        return {}

    def _own_record(self, state: S) -> Mapping[str, tuple[float, ...]]:
        """Return what the coupling itself records."""
        return {}

    # -- what all of them do ------------------------------------------------------------------------------

    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> S:
        """Return the state at `positions`, shape (K, P).

        Raises
        ------
        landscape.errors.ConfigurationError
            For positions of another shape.
        """
        owner = type(self).__name__
        positions = check_positions(owner, landscape, positions)
        base = self.base.start(landscape, positions, generator)
        known = self._own()
        values = {name: getattr(self, name) for name in known if getattr(self, name) is not None}
        values |= self._open(values, len(positions))
        state = CoupledState(base=base, updates=0, values=values)
        return self._begin(landscape, positions, state, generator)

    def positions(self, state: S) -> Tensor:
        """Return the workers' positions, shape (K, P)."""
        return self.base.positions(state.base)

    def labelled(self, state: S) -> Mapping[str, Tensor]:
        """Return what the base walker labels."""
        return self.base.labelled(state.base)

    def _labelled_with(self, state: S, **own: Tensor) -> Mapping[str, Tensor]:
        """Return points of the coupling's own, and what the base walker labels under names that are left."""
        base = self.base.labelled(state.base)
        return {(f"base_{name}" if name in own else name): point for name, point in base.items()} | own

    def record(self, state: S) -> Mapping[str, tuple[float, ...]]:
        """Return what the base walker and the coupling record."""
        own = self._own_record(state)
        base = self.base.record(state.base)
        return {(f"base_{name}" if name in own else name): values for name, values in base.items()} | dict(
            own
        )

    def relocate(self, state: S, positions: Tensor) -> S:
        """Return the state with the workers at `positions`, shape (K, P); all else stays."""
        return attrs.evolve(state, base=self.base.relocate(state.base, positions))

    def hyperparameters(self, state: S) -> Mapping[str, PerWorker]:
        """Return the hyper-parameters in force: the base walker's, and the coupling's own."""
        base = self.base.hyperparameters(state.base)
        return {name: base[called] for name, called in self._names_in_base(base).items()} | state.values

    def _names_in_base(self, base: Iterable[str]) -> dict[str, str]:
        """Return what the base walker calls its hyper-parameters, by what they are called here."""
        own = self._own()
        return {(f"base.{name}" if name in own else name): name for name in base}

    def adjust(self, state: S, **changes: PerWorker) -> S:
        """Return the state with the coupling's own or the base walker's hyper-parameters changed.

        Raises
        ------
        landscape.errors.ConfigurationError
            For names that neither has, and values outside of their range.
        """
        owner, known = type(self).__name__, self._own()
        own = {name: given(changes.pop(name)) for name in list(changes) if name in state.values}
        if changes:
            # The base walker knows its names best; those that nobody has are refused with all names at hand.
            called = self._names_in_base(self.base.hyperparameters(state.base))
            if not set(changes) & set(called) or set(changes) & set(known):
                check_names(owner, list(changes), list(self.hyperparameters(state)))
            theirs = {called.get(name, name): value for name, value in changes.items()}
            state = attrs.evolve(state, base=self.base.adjust(state.base, **theirs))
        if not own:
            return state
        for name, value in own.items():
            known[name].check(owner, name, value)
        numbers = {name: float(value) for name, value in own.items() if not isinstance(value, tuple)}
        values = state.values | numbers
        # What the configuration leaves open follows the others, unless this change says what it is.
        opened = self._open(values, len(self.positions(state)))
        values |= {name: value for name, value in opened.items() if name not in numbers}
        return attrs.evolve(state, values=values)

    def _own(self) -> dict[str, OneNumber]:
        """Return the ranges of the coupling's own hyper-parameters."""
        return {a.name: a.validator for a in attrs.fields(type(self)) if isinstance(a.validator, OneNumber)}

    def _step_sizes(self, base: Any, workers: int) -> tuple[float, ...]:
        """Return the step size of every worker that the base walker calls lr.

        Raises
        ------
        landscape.errors.ConfigurationError
            If it has none.
        """
        in_force = self.base.hyperparameters(base)
        if "lr" not in in_force:
            can = "rate" in attrs.fields_dict(type(self))
            cure = (
                "Give the springs a rate of their own: rate=0.1." if can else "Give SGD or another that has."
            )
            raise ConfigurationError(
                f"{type(self).__name__} multiplies its springs by the base walker's step size, and "
                f"{type(self.base).__name__} has no hyper-parameter 'lr' for all workers; it has "
                f"{', '.join(in_force) or 'none at all'}. {cure}"
            )
        return spread(type(self).__name__, "lr", in_force["lr"], workers)


def mean_of_rows(rows: Tensor) -> Tensor:
    """Return the mean of `rows`, shape (K, P), summed in float64; equal rows have themselves as their mean."""
    import torch

    first = rows[0]
    # About the first row, so that the mean of equal rows is that row to the last bit.
    return first + (rows - first).mean(0, dtype=torch.float64).to(rows.dtype)


def distances(rows: Tensor, point: Tensor) -> tuple[float, ...]:
    """Return the distance of each row, shape (K, P), from `point`, shape (P,)."""
    import torch

    return tuple(torch.linalg.vector_norm((rows - point).double(), dim=1).tolist())
