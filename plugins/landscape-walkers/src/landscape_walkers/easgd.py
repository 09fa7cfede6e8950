"""Elastic averaging: workers tied to a common centre by springs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs import field, frozen
from attrs.converters import optional

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape_walkers._values import (
    PerWorker,
    check_names,
    check_number,
    check_positions,
    given,
    moving_rows,
    whole,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["EASGD", "EASGDState"]

_OWN = ("moving_rate", "elasticity")
_RANGE = (0.0, math.inf, "a finite number >= 0")


def _number(name: str, value: Any) -> float:
    number = given(value)
    if isinstance(number, tuple):
        raise ConfigurationError(f"EASGD: {name}={value!r}: the springs are all alike; give one number.")
    check_number("EASGD", name, number, *_RANGE)
    return number


def _rate(value: float) -> float:
    return _number("moving_rate", value)


def _strength(value: float) -> float:
    return _number("elasticity", value)


@frozen(eq=False)
class EASGDState:
    """Where :class:`EASGD` stands.

    Attributes
    ----------
    base
        State of the base walker, which holds the workers' positions.
    centre
        Shape (P,).
    updates
        Steps taken so far.
    moving_rate, elasticity
        The values in force.
    """

    base: Any
    centre: Tensor
    updates: int
    moving_rate: float
    elasticity: float


@frozen
class EASGD(Walker[EASGDState]):
    r"""Elastic averaging SGD, synchronous (Zhang, Choromanska, LeCun 2015, section 3).

    Worker i of p feels its own stochastic gradient and a spring to the centre c, and the centre follows the
    workers' mean:

    .. math::

        x_i &\leftarrow x_i - \eta\,g_i(x_i) - \alpha\,(x_i - c) \\
        c &\leftarrow c + \beta\,\Big(\frac{1}{p} \sum_i x_i - c\Big)

    with the old :math:`x_i` and the old c on all right-hand sides. :math:`x_i - \eta g_i(x_i)` is one step of
    the `base` walker, whichever it is; its momentum feels the gradient only, as in the paper's EAMSGD. With
    :math:`\beta = p\,\alpha` ("elastic symmetry") the springs pull on the centre as hard as on the workers:
    they conserve :math:`c + \sum_i x_i`.

    The springs act in the steps t = 0, period, 2 period, ... (the condition "tau divides t" of the paper's
    algorithm 1). Rows that are not active neither move nor pull; the centre then moves by
    :math:`(\beta/p) \sum_{i\,\mathrm{active}} (x_i - c)`.

    The centre starts at the workers' mean, and is measured and stored as ``"centre"``. It never computes a
    gradient: a step costs what the base walker's costs. Keeps one P-vector beside the base walker's state.

    Parameters
    ----------
    base
        The walker whose points are tied together.
    workers
        p.
    moving_rate
        :math:`\beta`. 0.9 is the value of the paper's experiments (section 5).
    elasticity
        :math:`\alpha`; None keeps elastic symmetry, :math:`\alpha = \beta/p`, also when the moving rate is
        changed on the way. 0 sets the workers free.
    period
        :math:`\tau`, the number of steps from one pull of the springs to the next.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, for a base walker with another number of workers, and for one
        whose hyper-parameters have the names of these.

    Examples
    --------
    >>> import landscape as ls
    >>> walker = ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=64), workers=4)
    >>> walker.moving_rate, walker.workers
    (0.9, 4)
    """

    references: ClassVar[tuple[str, ...]] = (
        "Zhang, Choromanska, LeCun. Deep learning with elastic averaging SGD. NeurIPS 2015, arXiv:1412.6651.",
    )

    base: Walker[Any]
    workers: int = field(default=4, validator=whole(1))
    moving_rate: float = field(default=0.9, converter=_rate)
    elasticity: float | None = field(default=None, converter=optional(_strength))
    period: int = field(default=1, validator=whole(1))

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.base, Walker):
            raise ConfigurationError(
                f"EASGD: base={self.base!r} is not a walker; give one, such as SGD(lr=0.1)."
            )
        if self.base.workers not in (1, self.workers):
            raise ConfigurationError(
                f"EASGD ties {self.workers} workers together but its base walker says "
                f"{self.base.workers}; leave the base walker's number out."
            )

    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> EASGDState:
        """Return the state at `positions`, shape (K, P), with the centre at their mean."""
        positions = check_positions("EASGD", landscape, positions)
        base = self.base.start(landscape, positions, generator)
        taken = sorted(set(_OWN) & set(self.base.hyperparameters(base)))
        if taken:
            raise ConfigurationError(
                f"EASGD cannot tie {type(self.base).__name__} together: both call a hyper-parameter "
                f"{' and '.join(repr(name) for name in taken)}, and a change would not know whose is meant."
            )
        return EASGDState(
            base=base,
            # About the first worker, so that the mean of equal rows is that row to the last bit.
            centre=positions[0] + _mean(positions - positions[0]),
            updates=0,
            moving_rate=self.moving_rate,
            elasticity=self._elasticity(self.moving_rate, len(positions)),
        )

    def step(self, landscape: Landscape, state: EASGDState, *, active: Tensor | None = None) -> EASGDState:
        """Return the state after one step of the base walker and, where it is due, one pull."""
        before = self.base.positions(state.base)
        rows = moving_rows("EASGD", active, len(before))
        base, centre = self.base.step(landscape, state.base, active=active), state.centre
        if state.updates % self.period == 0 and rows:
            stretch = before - centre  # (K, P), with old positions and old centre
            if len(rows) < len(before):
                idle = [row for row in range(len(before)) if row not in rows]
                stretch[idle] = 0
            base = self.base.relocate(base, self.base.positions(base).sub(stretch, alpha=state.elasticity))
            centre = centre + state.moving_rate * _mean(stretch)
        return attrs.evolve(state, base=base, centre=centre, updates=state.updates + 1)

    def positions(self, state: EASGDState) -> Tensor:
        """Return the workers' positions, shape (K, P)."""
        return self.base.positions(state.base)

    def labelled(self, state: EASGDState) -> Mapping[str, Tensor]:
        """Return the centre, and what the base walker labels."""
        return {**self.base.labelled(state.base), "centre": state.centre}

    def record(self, state: EASGDState) -> Mapping[str, tuple[float, ...]]:
        """Return what the base walker records."""
        return self.base.record(state.base)

    def relocate(self, state: EASGDState, positions: Tensor) -> EASGDState:
        """Return the state with the workers at `positions`; the centre stays."""
        return attrs.evolve(state, base=self.base.relocate(state.base, positions))

    def hyperparameters(self, state: EASGDState) -> Mapping[str, PerWorker]:
        """Return the base walker's hyper-parameters, moving_rate and elasticity as they are in force."""
        return {**self.base.hyperparameters(state.base), **{name: getattr(state, name) for name in _OWN}}

    def adjust(self, state: EASGDState, **changes: PerWorker) -> EASGDState:
        """Return the state with its own or the base walker's hyper-parameters changed.

        Where the configuration leaves the elasticity open, it follows the moving rate.

        Raises
        ------
        landscape.errors.ConfigurationError
            For names that neither has, and values outside of their range.
        """
        check_names("EASGD", list(changes), list(self.hyperparameters(state)))
        own = {name: _number(name, changes.pop(name)) for name in _OWN if name in changes}
        if "moving_rate" in own and "elasticity" not in own and self.elasticity is None:
            own["elasticity"] = self._elasticity(own["moving_rate"], len(self.positions(state)))
        base = self.base.adjust(state.base, **changes) if changes else state.base
        return attrs.evolve(
            state,
            base=base,
            moving_rate=own.get("moving_rate", state.moving_rate),
            elasticity=own.get("elasticity", state.elasticity),
        )

    def _elasticity(self, moving_rate: float, workers: int) -> float:
        return moving_rate / workers if self.elasticity is None else self.elasticity


def _mean(rows: Tensor) -> Tensor:
    import torch

    return rows.mean(0, dtype=torch.float64).to(rows.dtype)
