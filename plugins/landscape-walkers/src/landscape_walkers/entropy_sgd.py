"""Entropy-SGD: descent of the local entropy, whose gradient a Langevin walk around the worker estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import at_least, optional
from landscape_walkers._values import NON_NEGATIVE, SHARE, entries, given, single
from landscape_walkers.independent import Independent, number_of_workers
from landscape_walkers.sgd import velocity_step

if TYPE_CHECKING:
    from torch import Tensor

    from landscape_walkers.independent import Team, Worker, WorkersState

__all__ = ["EntropySGD"]


@frozen
class EntropySGD(Independent):
    r"""Entropy-SGD (Chaudhari et al. 2017, algorithm 1), with a scoping that works.

    One step is an inner walk of n steps from the worker's place x, and then one outer step towards the inner
    walk's mean:

    .. math::

        x' = \mu = x, \quad\text{then n times}\quad &
        \begin{cases}
        d = \nabla L_B(x') + \lambda x' - \gamma_t\,(x - x') \\
        x' \leftarrow x' - \eta' d + \sqrt{\eta'}\,\epsilon\,N(0, 1) \\
        \mu \leftarrow (1-\alpha)\,\mu + \alpha\,x'
        \end{cases} \\
        \text{and} \quad &
        x \leftarrow x - \eta\,(x - \mu + \lambda x), \qquad \gamma_t = \gamma\,(1+\gamma_1)^t

    where every inner step has its own mini-batch B and t counts the worker's outer steps. :math:`x - \mu`
    estimates the gradient of the negative local entropy over :math:`\gamma_t`. With
    ``multiply_by_gamma=True`` the outer step has the paper's further factor :math:`\gamma_t`; the authors'
    program leaves it out, so that :math:`\eta = 1` goes to the mean itself. On a quadratic with curvature h
    the local entropy has the curvature :math:`\gamma h/(\gamma + h)`: wide valleys (:math:`h \ll \gamma`)
    stay as they are, and none is steeper than :math:`\gamma`.

    Two lines of the authors' program differ from the paper and are as in the paper here: there the noise is
    larger by :math:`\sqrt2`, and t is never raised, so that :math:`\gamma` stays what it was.

    Momentum acts as in :class:`~landscape_walkers.sgd.SGD`, within each inner walk (from rest) and along the
    outer steps.

    Costs n gradients of a mini-batch per worker and step. Keeps one P-vector per worker, two with momentum,
    and three more during a step. Records the column ``gamma``, the :math:`\gamma_t` of the next step.

    Parameters
    ----------
    lr
        Outer step size :math:`\eta`; a tuple gives each worker its own, here and below.
    batch_size
        Examples per mini-batch; None takes all data in every inner step.
    inner_steps
        n. 20, like the defaults below, is from the authors' published program and its instructions.
    inner_lr
        :math:`\eta'`.
    gamma
        :math:`\gamma`, the stiffness of the spring that holds the inner walk, at t = 0.
    scoping
        :math:`\gamma_1`, the relative growth of :math:`\gamma_t` per outer step.
    noise
        :math:`\epsilon`.
    averaging
        :math:`\alpha`, the weight of the newest point in the inner mean; in (0, 1].
    momentum
        Of both loops; 0.9 in the authors' program.
    nesterov
        Look ahead along the velocity in both loops; needs ``momentum > 0``. On in the authors' program.
    weight_decay
        :math:`\lambda`, in both loops.
    multiply_by_gamma
        Whether the outer step is multiplied by :math:`\gamma_t`.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.EntropySGD(batch_size=64).inner_steps
    20
    """

    references: ClassVar[tuple[str, ...]] = (
        "Chaudhari, Choromanska, Soatto, LeCun, Baldassi, Borgs, Chayes, Sagun, Zecchina. Entropy-SGD: biasing "
        "gradient descent into wide valleys. ICLR 2017, arXiv:1611.01838.",
    )

    lr: float | tuple[float, ...] = field(default=1.0, converter=given, validator=NON_NEGATIVE)
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    inner_steps: int = field(default=20, validator=at_least(1), kw_only=True)
    inner_lr: float | tuple[float, ...] = field(
        default=0.1, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    gamma: float | tuple[float, ...] = field(
        default=1e-4, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    scoping: float | tuple[float, ...] = field(
        default=1e-3, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    noise: float | tuple[float, ...] = field(
        default=1e-4, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    averaging: float = field(default=0.25, converter=given, validator=single(SHARE), kw_only=True)
    momentum: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    multiply_by_gamma: bool = field(default=False, kw_only=True)
    workers: int = number_of_workers()

    def _check(self) -> None:
        if self.nesterov and 0.0 in entries(self.momentum):
            raise ConfigurationError(f"EntropySGD: nesterov=True needs momentum > 0, got {self.momentum!r}.")

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return the stiffness of each worker's spring in its next step."""
        clocks = zip(state.values["gamma"], state.values["scoping"], state.updates, strict=True)
        return {"gamma": tuple(_stiffness(*clock) for clock in clocks)}

    def _update(self, team: Team) -> None:
        workers = team.workers
        # The outer places stay in worker.position; these are x' and the mean of each worker.
        inner = [worker.position.clone() for worker in workers]
        means = [worker.position.clone() for worker in workers]
        for number in range(self.inner_steps):
            gradients = team.landscape.gradient(_matrix(inner), team.batches())
            for worker, place, mean, gradient in zip(workers, inner, means, gradients, strict=True):
                self._inner_step(worker, place, gradient, number)
                mean.lerp_(place, self.averaging)
        for worker, mean in zip(workers, means, strict=True):
            worker.memory.pop("inner velocity", None)
            direction = worker.position - mean
            if self.multiply_by_gamma:
                direction *= _stiffness(worker["gamma"], worker["scoping"], worker.updates)
            if worker["weight_decay"] != 0:
                direction.add_(worker.position, alpha=worker["weight_decay"])
            update = velocity_step(worker, "velocity", direction, worker["momentum"], nesterov=self.nesterov)
            worker.position.add_(update, alpha=-worker["lr"])

    def _inner_step(self, worker: Worker, place: Tensor, gradient: Tensor, number: int) -> None:
        """Move `place`, shape (P,), by one step of the inner walk, in place."""
        if worker["weight_decay"] != 0:
            gradient = gradient.add(place, alpha=worker["weight_decay"])
        update = velocity_step(worker, "inner velocity", gradient, worker["momentum"], nesterov=self.nesterov)
        stiffness = _stiffness(worker["gamma"], worker["scoping"], worker.updates)
        update = update.add(worker.position - place, alpha=-stiffness)
        place.add_(update, alpha=-worker["inner_lr"])
        if worker["noise"] != 0:
            place.add_(worker.noise(number), alpha=math.sqrt(worker["inner_lr"]) * worker["noise"])


def _stiffness(gamma: float, scoping: float, updates: int) -> float:
    try:
        return gamma * (1 + scoping) ** updates
    except OverflowError:
        return math.inf


def _matrix(rows: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(rows)
