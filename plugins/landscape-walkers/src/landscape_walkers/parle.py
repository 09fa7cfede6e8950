"""Parle: replicas that each follow their local entropy, and are drawn together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs import field, frozen
from attrs.converters import optional

from landscape.errors import ConfigurationError
from landscape.randomness import torch_generator
from landscape.validators import at_least
from landscape_walkers._values import FRACTION, NON_NEGATIVE, POSITIVE, SHARE, given, moving_rows, single
from landscape_walkers.coupling import (
    CoupledState,
    Coupling,
    OneNumber,
    distances,
    mean_of_rows,
)
from landscape_walkers.independent import Independent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["Parle", "ParleState"]

_STRENGTH = OneNumber(NON_NEGATIVE.low, NON_NEGATIVE.high, NON_NEGATIVE.described)
_SCALE = OneNumber(POSITIVE.low, POSITIVE.high, POSITIVE.described)
_FRACTION = OneNumber(FRACTION.low, FRACTION.high, FRACTION.described)


@frozen(eq=False)
class ParleState(CoupledState):
    """Where :class:`Parle` stands.

    Attributes
    ----------
    velocity
        Of the replicas, shape (K, P); zero where they have no momentum.
    shrinking
        By which share gamma and rho shrink per step.
    seed
        From which the noise derives.
    """

    velocity: Tensor
    shrinking: float
    seed: int


@frozen
class Parle(Coupling[ParleState]):
    r"""Parle (Chaudhari et al. 2017): n replicas descend their local entropies and are tied together.

    One step of replica :math:`x^a` is an inner walk of L steps of the `base` walker on a spring, and then
    one outer step to the inner walk's mean and to the replicas' mean c:

    .. math::

        y^a = z^a = x^a; \quad L\times:\;
        & y^a \leftarrow y^a - \eta'\,g_a(y^a) - \frac{\eta'}{\gamma}\,(y^a - x^a)
          + \sqrt{\eta'}\,\epsilon\,N(0, 1), \qquad
          z^a \leftarrow (1-a)\,z^a + a\,y^a \\
        & d^a = (x^a - z^a) + \frac1\rho\,(x^a - c), \qquad v^a \leftarrow \mu\,v^a + d^a, \qquad
          x^a \leftarrow x^a - \eta\,(d^a + \mu\,v^a) \\
        & \gamma \leftarrow \max\big(\gamma\,(1 - s),\, \gamma_{\min}\big), \qquad
          \rho \leftarrow \max\big(\rho\,(1 - s),\, \rho_{\min}\big), \qquad s = \frac{1}{2B}

    with the old c on the right-hand side and B, the number of mini-batches of an epoch. Here
    :math:`1/\gamma` is the stiffness of the inner spring (:class:`~landscape_walkers.entropy_sgd.EntropySGD`
    calls that :math:`\gamma`) and :math:`1/\rho` that between the replicas, so that both springs stiffen.
    :math:`\eta'` is the base walker's lr as it is in force. Its momentum goes on from one inner walk to the
    next, as in the authors' program, and feels the gradient but not the spring. Springs never overshoot:
    :math:`\eta'/\gamma` and :math:`\eta/\rho` are limited to 1.

    On a quadratic with curvature h, a long inner walk with its mean at its end makes an outer step of
    :math:`\eta\,h/(h + 1/\gamma)`, and with noise the end has the variance
    :math:`\eta'\epsilon^2/(1 - (1 - \eta'(h + 1/\gamma))^2)` about it. Each replica alone
    (:math:`\rho \to \infty`) walks as under :class:`~landscape_walkers.entropy_sgd.EntropySGD`, whose inner
    walk this is; the replicas' base walker is therefore a plain one such as SGD.

    Costs L steps of the base walker per step. Keeps one P-vector per worker beside the base walker's state,
    and two more during a step. The replicas' mean is measured and stored as ``"centre"``. Records
    ``distance_from_centre``, ``gamma`` and ``rho``. Rows that are not active do not move; c is the mean of
    all.

    Parameters
    ----------
    base
        The walker of the inner loop, such as ``SGD(lr=0.1, batch_size=128, momentum=0.9, nesterov=True)``.
    workers
        n; by default as many as the base walker says, and 4 where it says one.
    inner_steps
        L. 25, like the defaults below, is the paper's and its program's value.
    outer_lr
        :math:`\eta`.
    outer_momentum
        :math:`\mu`.
    averaging
        a, the weight of the newest point in the inner mean; in (0, 1].
    gamma, rho
        Where the two start.
    smallest_gamma, smallest_rho
        Where they stop.
    noise
        :math:`\epsilon`, the size of the Langevin noise of the inner walk; 0, as in the paper and its program,
        which leave the noise to the mini-batches.
    scoping
        s; None takes 1/(2B), with B from the batch size of the base walker. 0 turns scoping off.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, for a base walker with another number of workers, without lr, or
        from which B is not known.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.Parle(ls.walkers.SGD(lr=0.1, batch_size=64), workers=3).inner_steps
    25
    """

    references: ClassVar[tuple[str, ...]] = (
        "Chaudhari, Baldassi, Zecchina, Soatto, Talwalkar, Oberman. Parle: parallelizing stochastic gradient "
        "descent. 2017, arXiv:1707.00424.",
    )

    inner_steps: int = field(default=25, validator=at_least(1), kw_only=True)
    outer_lr: float = field(default=0.1, converter=given, validator=_STRENGTH, kw_only=True)
    outer_momentum: float = field(default=0.9, converter=given, validator=_FRACTION, kw_only=True)
    averaging: float = field(default=0.25, converter=given, validator=single(SHARE), kw_only=True)
    gamma: float = field(default=100.0, converter=given, validator=_SCALE, kw_only=True)
    rho: float = field(default=1.0, converter=given, validator=_SCALE, kw_only=True)
    smallest_gamma: float = field(default=1.0, converter=given, validator=single(POSITIVE), kw_only=True)
    smallest_rho: float = field(default=0.1, converter=given, validator=single(POSITIVE), kw_only=True)
    noise: float = field(default=0.0, converter=given, validator=_STRENGTH, kw_only=True)
    scoping: float | None = field(default=None, converter=optional(given), kw_only=True)

    def _check(self) -> None:
        if self.scoping is not None:
            single(FRACTION)(self, attrs.fields_dict(Parle)["scoping"], self.scoping)

    def _begin(
        self, landscape: Landscape, positions: Tensor, state: CoupledState, generator: torch.Generator
    ) -> ParleState:
        import torch

        self._step_sizes(state.base, len(positions))
        shrinking = self._shrinking(landscape) if self.scoping is None else self.scoping
        return ParleState(
            base=state.base,
            updates=0,
            values=state.values,
            velocity=torch.zeros_like(positions),
            shrinking=shrinking,
            seed=int(torch.randint(2**62, (), generator=generator, device=generator.device)),
        )

    def _shrinking(self, landscape: Landscape) -> float:
        if not isinstance(self.base, Independent):
            raise ConfigurationError(
                f"Parle: how many mini-batches {type(self.base).__name__} makes of the data is not known; say "
                "by which share gamma and rho shrink per step, scoping=1 / (2 * batches), or scoping=0."
            )
        size = self.base.batch_size
        batches = 1 if size is None else -(-landscape.data.examples // size)
        return 1 / (2 * batches)

    def step(self, landscape: Landscape, state: ParleState, *, active: Tensor | None = None) -> ParleState:
        """Return the state after L inner steps, one outer step, and one step of scoping."""
        outer = self.base.positions(state.base)
        rows = moving_rows("Parle", active, len(outer))
        if not rows:
            return state
        base, means = self._inner_walk(landscape, state, active, rows)
        values = dict(state.values)
        lr, momentum = values["outer_lr"], values["outer_momentum"]
        # lr / rho, limited to 1, over lr.
        stiffness = min(1 / values["rho"], 1 / lr) if lr > 0 else 0.0
        places, velocity = outer.clone(), state.velocity.clone()
        direction = (outer - means).add(outer - mean_of_rows(outer), alpha=stiffness)[rows]
        velocity[rows] = velocity[rows].mul(momentum).add(direction)
        places[rows] = outer[rows].sub(direction.add(velocity[rows], alpha=momentum), alpha=lr)
        for name, smallest in (("gamma", self.smallest_gamma), ("rho", self.smallest_rho)):
            # What starts below the smallest value, or is set there by hand, is not raised.
            values[name] = max(values[name] * (1 - state.shrinking), min(smallest, values[name]))
        return attrs.evolve(
            state,
            base=self.base.relocate(base, places),
            updates=state.updates + 1,
            values=values,
            velocity=velocity,
        )

    def _inner_walk(
        self, landscape: Landscape, state: ParleState, active: Tensor | None, rows: Sequence[int]
    ) -> tuple[Any, Tensor]:
        """Return the base walker's state at the end of the inner walk, and the walk's means, shape (K, P)."""
        base = state.base
        outer = self.base.positions(base)
        means = outer.clone()
        rates = self._step_sizes(base, len(outer))
        pulls = outer.new_tensor([min(rate / state.values["gamma"], 1.0) for rate in rates])[:, None]
        for number in range(self.inner_steps):
            before = self.base.positions(base)
            base = self.base.step(landscape, base, active=active)
            # Rows that rest stand at their outer place, where the spring is slack.
            places = self.base.positions(base) - pulls * (before - outer)
            if state.values["noise"] != 0:
                for row in rows:
                    places[row] += (
                        math.sqrt(rates[row]) * state.values["noise"] * _noise(state, row, number, places)
                    )
            base = self.base.relocate(base, places)
            means = means.lerp(self.base.positions(base), self.averaging)
        return base, means

    def labelled(self, state: ParleState) -> Mapping[str, Tensor]:
        """Return the replicas' mean, and what the base walker labels."""
        return self._labelled_with(state, centre=mean_of_rows(self.positions(state)))

    def _own_record(self, state: ParleState) -> Mapping[str, tuple[float, ...]]:
        positions = self.positions(state)
        return {
            "distance_from_centre": distances(positions, mean_of_rows(positions)),
            "gamma": (state.values["gamma"],) * len(positions),
            "rho": (state.values["rho"],) * len(positions),
        }


def _noise(state: ParleState, row: int, number: int, like: Tensor) -> Tensor:
    """Return standard normal numbers, shape (P,): a function of seed, replica, step and inner step."""
    import torch

    generator = torch_generator(state.seed, "noise", row, state.updates, number, device=str(like.device))
    return torch.randn(like.shape[1:], generator=generator, dtype=like.dtype, device=like.device)
