"""Robust ensembles: replicas that are drawn together ever more strongly, towards wide valleys."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs import field, frozen
from attrs.converters import optional

from landscape.validators import at_least, one_of
from landscape_walkers._values import NON_NEGATIVE, given, moving_rows, single
from landscape_walkers.coupling import (
    CoupledState,
    Coupling,
    OneNumber,
    distances,
    mean_of_rows,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["RobustEnsemble", "RobustEnsembleState"]

_STRENGTH = OneNumber(NON_NEGATIVE.low, NON_NEGATIVE.high, NON_NEGATIVE.described)


@frozen(eq=False)
class RobustEnsembleState(CoupledState):
    """Where :class:`RobustEnsemble` stands.

    Attributes
    ----------
    centre
        Shape (P,), where it is a replica of its own; None where it is the replicas' mean.
    """

    centre: Tensor | None


@frozen
class RobustEnsemble(Coupling[RobustEnsembleState]):
    r"""Replicated SGD on a robust ensemble (Baldassi et al. 2016), with scoping.

    y replicas :math:`W_a` and their centre :math:`W^*` descend the energy

    .. math::

        \sum_a E(W_a) + \gamma \sum_a d(W_a, W^*), \qquad d(W, W^*) = \tfrac12\,|W - W^*|^2

    whose minima are surrounded by many configurations of low E. One step is a step of the `base` walker,
    :math:`W_a - \eta\,g_a` for SGD, and an elastic kick, with the old positions on the right-hand sides:

    .. math::

        W_a \leftarrow W_a - \eta\,g_a(W_a) - \kappa\,(W_a - W^*), \qquad \kappa = \eta'\,\gamma_t

    and then :math:`\gamma_t` rises ("scoping"): every so many steps,
    :math:`\gamma \leftarrow (1 + \mathrm{growth})\,\gamma + \mathrm{increment}`, until the replicas are one.

    ``centre="mean"``: the centre is traced out. It is the replicas' mean, which minimises the energy, and
    leaves :math:`\frac{\gamma}{2y} \sum_{a<b} |W_a - W_b|^2`: every replica feels all others. The kicks
    conserve the mean. ``centre="elastic"``: the centre is a replica without an energy of its own, and is
    kicked by every replica as hard as it kicks, :math:`W^* \leftarrow W^* + \kappa \sum_a (W_a - W^*)`. The
    kicks conserve :math:`W^* + \sum_a W_a`.

    A kick never goes beyond the place where centre and mean meet: :math:`\kappa` is limited to 1 for a mean
    and to :math:`1/(1+y)` for an elastic centre, so that a :math:`\gamma` without limits does no harm.

    On a quadratic with curvature h the mean of the replicas moves as plain SGD does, with gradient noise of
    :math:`1/y` of the variance, and their differences as on the curvature :math:`h + \gamma`.

    Rows that are not active neither move nor kick. Costs what the base walker's steps cost, and with an
    elastic centre keeps one P-vector beside its state. The centre is measured and stored as ``"centre"``.
    Records ``distance_from_centre`` and ``gamma``.

    Parameters
    ----------
    base
        The walker of the replicas.
    workers
        y; by default as many as the base walker says, and 4 where it says one.
    gamma
        :math:`\gamma` at the first step.
    growth, increment
        How :math:`\gamma` rises. Published programs add a constant per epoch, or multiply in every step.
    every
        Number of steps from one rise to the next, such as that of an epoch.
    rate
        :math:`\eta'`; None takes the base walker's lr as it is in force, worker by worker.
    centre
        ``"mean"`` or ``"elastic"``.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, for a base walker with another number of workers, and without lr
        where no rate is given.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.RobustEnsemble(ls.walkers.SGD(lr=0.1, batch_size=64), workers=3, gamma=0.01, growth=1e-3).gamma
    0.01
    """

    references: ClassVar[tuple[str, ...]] = (
        "Baldassi, Borgs, Chayes, Ingrosso, Lucibello, Saglietti, Zecchina. Unreasonable effectiveness of "
        "learning neural networks: from accessible states and robust ensembles to basic algorithmic schemes. "
        "PNAS 113 (2016), arXiv:1605.06444.",
    )

    gamma: float = field(converter=given, validator=_STRENGTH, kw_only=True)
    growth: float = field(default=0.0, converter=given, validator=single(NON_NEGATIVE), kw_only=True)
    increment: float = field(default=0.0, converter=given, validator=single(NON_NEGATIVE), kw_only=True)
    every: int = field(default=1, validator=at_least(1), kw_only=True)
    rate: float | None = field(default=None, converter=optional(given), validator=_STRENGTH, kw_only=True)
    centre: str = field(default="mean", validator=one_of(("mean", "elastic")), kw_only=True)

    def _begin(
        self, landscape: Landscape, positions: Tensor, state: CoupledState, generator: torch.Generator
    ) -> RobustEnsembleState:
        if self.rate is None:
            self._step_sizes(state.base, len(positions))
        centre = mean_of_rows(positions) if self.centre == "elastic" else None
        return RobustEnsembleState(base=state.base, updates=0, values=state.values, centre=centre)

    def step(
        self, landscape: Landscape, state: RobustEnsembleState, *, active: Tensor | None = None
    ) -> RobustEnsembleState:
        """Return the state after a step of the replicas, their kicks, and the rise of gamma if it is due."""
        before = self.base.positions(state.base)
        rows = moving_rows("RobustEnsemble", active, len(before))
        if not rows:
            return state
        kicks = self._kicks(state, before, rows)
        base = self.base.step(landscape, state.base, active=active)
        base = self.base.relocate(base, self.base.positions(base) - kicks)
        updates, values = state.updates + 1, dict(state.values)
        if updates % self.every == 0:
            raised = values["gamma"] * (1 + self.growth) + self.increment
            values["gamma"] = min(raised, sys.float_info.max)
        centre = None if state.centre is None else state.centre + kicks.sum(0)
        return attrs.evolve(state, base=base, updates=updates, values=values, centre=centre)

    def _kicks(self, state: RobustEnsembleState, before: Tensor, rows: list[int]) -> Tensor:
        """Return what the springs take from the positions, shape (K, P); zero for rows that rest."""
        workers = len(before)
        own = state.values.get("rate")
        rates = self._step_sizes(state.base, workers) if own is None else (own,) * workers
        limit = 1.0 if state.centre is None else 1 / (1 + workers)
        strength = before.new_tensor(
            [
                min(rate * state.values["gamma"], limit) if row in rows else 0.0
                for row, rate in enumerate(rates)
            ]
        )
        return strength[:, None] * (before - self._centre(state))

    def _centre(self, state: RobustEnsembleState) -> Tensor:
        return mean_of_rows(self.positions(state)) if state.centre is None else state.centre

    def labelled(self, state: RobustEnsembleState) -> Mapping[str, Tensor]:
        """Return the centre, and what the base walker labels."""
        return self._labelled_with(state, centre=self._centre(state))

    def _own_record(self, state: RobustEnsembleState) -> Mapping[str, tuple[float, ...]]:
        positions = self.positions(state)
        return {
            "distance_from_centre": distances(positions, self._centre(state)),
            "gamma": (state.values["gamma"],) * len(positions),
        }
