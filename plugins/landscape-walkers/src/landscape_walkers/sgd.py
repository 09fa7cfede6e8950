"""Gradient descent and stochastic gradient descent with momentum, for any number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import at_least, optional
from landscape_walkers._values import FINITE, NON_NEGATIVE, entries, given, single
from landscape_walkers.independent import FirstOrder, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape_walkers.independent import Team, Worker

__all__ = ["GD", "SGD", "velocity_step"]


@frozen
class _HeavyBall(FirstOrder):
    """The fields and the rule that :class:`GD` and :class:`SGD` share."""

    lr: float | tuple[float, ...] = field(converter=given, validator=NON_NEGATIVE)
    momentum: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    dampening: float = field(default=0.0, converter=given, validator=single(FINITE), kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    workers: int = number_of_workers()

    def _check(self) -> None:
        if self.nesterov and (self.dampening != 0 or 0.0 in entries(self.momentum)):
            raise ConfigurationError(
                f"{type(self).__name__}: nesterov=True needs momentum > 0 and dampening=0, got "
                f"momentum={self.momentum!r} and dampening={self.dampening!r}."
            )

    def follow(self, worker: Worker, gradient: Tensor) -> None:
        """Move `worker` by one update in which the gradient is `gradient`, shape (P,)."""
        if worker["weight_decay"] != 0:
            gradient = gradient.add(worker.position, alpha=worker["weight_decay"])
        update = velocity_step(
            worker, "velocity", gradient, worker["momentum"], self.dampening, nesterov=self.nesterov
        )
        worker.position.add_(update, alpha=-worker["lr"])

    def follow_all(self, team: Team, gradients: Tensor) -> None:
        """Move every worker as :meth:`follow` does, all in one operation where their values are equal."""
        import torch

        values = team.together("lr", "momentum", "weight_decay")
        before = team.recall("velocity")
        if values is None or len(before) not in (0, len(gradients)):
            super().follow_all(team, gradients)
            return
        if len(before) == 0 or values[1] == 0:
            velocities = self._descend(team.positions(), gradients, None, values)
        elif len(before) == 1:
            velocities = self._descend(team.positions(), gradients, before[0][None], values)
        else:
            velocities = self._descend(team.positions(), gradients, torch.stack(before), values)
        if velocities is not None:
            team.remember("velocity", velocities)
        team.move(gradients)

    def _descend(
        self, position: Tensor, gradient: Tensor, before: Tensor | None, values: tuple[float, ...]
    ) -> Tensor | None:
        """Write the new position into `gradient`, which has served; return the new velocity. All of one shape."""
        import torch

        lr, momentum, decay = values
        place = gradient
        if decay != 0:
            gradient = gradient.add(position, alpha=decay)
        if momentum == 0:
            torch.add(position, gradient, alpha=-lr, out=place)
            return None
        share = 1 - self.dampening
        velocity = gradient.clone() if before is None else before.mul(momentum).add_(gradient, alpha=share)
        update = gradient.add(velocity, alpha=momentum) if self.nesterov else velocity
        torch.add(position, update, alpha=-lr, out=place)
        return velocity

    def _update(self, team: Team) -> None:
        if team.landscape.size >= _LONG and not self.nesterov and self.dampening == 0:
            values, before = team.together("lr", "momentum", "weight_decay"), team.recall("velocity")
            if (
                values is not None
                and values[1] != 0
                and values[2] == 0
                and len(before) == len(team.positions())
            ):
                self._long_update(team, before, *values[:2])
                return
        super()._update(team)

    @staticmethod
    def _long_update(team: Team, before: list[Tensor], lr: float, momentum: float) -> None:
        """Make the update stretch by stretch, each of them in the cache from its gradient to its new position."""
        import torch

        positions, blank = team.positions(), team.landscape.blank
        velocities, moved = blank(len(positions)), blank(len(positions))
        gradients = team.landscape.gradient_pieces(positions, team.batches())
        for *vectors, pieces in zip(before, velocities, positions, moved, gradients, strict=True):
            stretches = [stretch for piece in pieces for stretch in piece.split(_STRETCH)]
            lengths = [len(stretch) for stretch in stretches]
            columns = [vector.split_with_sizes(lengths) for vector in vectors]
            for old, new, here, there, gradient in zip(*columns, stretches, strict=True):
                torch.mul(old, momentum, out=new)
                new += gradient
                torch.add(here, new, alpha=-lr, out=there)
        team.remember("velocity", velocities)
        team.move(moved)


# Weights from which on one more pass over all of them costs more than the operations.
_LONG = 1 << 19
# Weights that are updated at once: five vectors of this length in single precision take 2.5 MB. With four networks
# of 4.3 million weights, a step is one percent faster than over whole vectors.
_STRETCH = 1 << 17


def velocity_step(
    worker: Worker, name: str, gradient: Tensor, momentum: float, dampening: float = 0.0, *, nesterov: bool
) -> Tensor:
    """Return the direction in which momentum leads, and remember the velocity in ``worker.memory[name]``.

    The arithmetic is that of ``torch.optim.SGD`` in its order; the first velocity is the first gradient.
    """
    if momentum == 0:
        return gradient
    before, share = worker.memory.get(name), 1 - dampening
    # A copy of the first gradient: it is a row of a matrix, and the store keeps no shared memory.
    velocity = gradient.clone() if before is None else before.mul(momentum).add_(gradient, alpha=share)
    worker.memory[name] = velocity
    return gradient.add(velocity, alpha=momentum) if nesterov else velocity


@frozen
class SGD(_HeavyBall):
    r"""Stochastic gradient descent; with ``batch_size=None`` gradient descent on all the data.

    One step of each worker, with its mini-batch :math:`B_t` and the symbols below, is

    .. math::

        g_t &= \nabla L_{B_t}(\theta_{t-1}) + \lambda\,\theta_{t-1} \\
        v_t &= \mu\,v_{t-1} + (1-\tau)\,g_t, \qquad v_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \eta\,u_t, \qquad
        u_t = \begin{cases} g_t & \mu = 0 \\ v_t & \mu > 0 \\ g_t + \mu\,v_t & \text{Nesterov} \end{cases}

    in this order of operations, which is that of ``torch.optim.SGD``: fed with the same gradients, the two
    agree bit for bit. The gradient is that of the whole landscape, its penalty included.

    A worker goes through its own permutation of the data in each epoch, derived from the walk's seed and the
    number of the worker. Worker i of K therefore sees what worker i of any other K sees.

    On a quadratic with curvature h and gradients of variance C the weights fluctuate about the minimum with
    the variance :math:`\eta C/(h(2-\eta h))` without momentum, and with momentum
    :math:`\eta C (1+\mu)/(h(1-\mu)(2(1+\mu)-\eta h))`. The tests check both.

    Costs one gradient of a mini-batch per worker and step. Keeps one P-vector per worker, two with momentum.

    Parameters
    ----------
    lr
        Step size :math:`\eta`; a tuple gives each worker its own, here and below.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    momentum
        :math:`\mu`. On a quadratic with curvature h, steps of size eta are stable for
        :math:`\eta h < 2 (1 + \mu)`.
    dampening
        :math:`\tau`. ``dampening=momentum`` is what Torch7 did by default.
    nesterov
        Look ahead along the velocity; needs ``momentum > 0`` and ``dampening=0``.
    weight_decay
        :math:`\lambda`. It acts in the step only: the recorded loss does not contain it. A penalty that the
        loss shall contain belongs to the landscape.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.SGD(lr=0.1, batch_size=64, momentum=0.9).lr
    0.1
    """

    references: ClassVar[tuple[str, ...]] = (
        "Robbins, Monro. A stochastic approximation method. Ann. Math. Statist. 22 (1951).",
        "Polyak. Some methods of speeding up the convergence of iteration methods. "
        "USSR Comput. Math. Math. Phys. 4 (1964).",
        "Sutskever, Martens, Dahl, Hinton. On the importance of initialization and momentum in deep "
        "learning. ICML 2013. (Nesterov's momentum in the form used here.)",
    )

    batch_size: int | None = field(default=None, validator=optional(at_least(1)))


@frozen
class GD(_HeavyBall):
    r"""Gradient descent on all the data, with momentum if you like.

    .. math::

        g_t &= \nabla L(\theta_{t-1}) + \lambda\,\theta_{t-1} \\
        v_t &= \mu\,v_{t-1} + (1-\tau)\,g_t, \qquad v_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \eta\,u_t, \qquad
        u_t = \begin{cases} g_t & \mu = 0 \\ v_t & \mu > 0 \\ g_t + \mu\,v_t & \text{Nesterov} \end{cases}

    The steps are those of :class:`~landscape_walkers.sgd.SGD` with ``batch_size=None``, bit for bit; nothing
    is random. On a quadratic with curvature h they are stable for :math:`\eta h < 2 (1 + \mu)` (Polyak 1964),
    which is why the largest curvature of networks in training stays near :math:`2/\eta` (Cohen et al. 2021).

    Costs one gradient of all data per worker and step. Keeps one P-vector per worker, two with momentum.

    Parameters
    ----------
    lr
        Step size :math:`\eta`; a tuple gives each worker its own, here and below.
    momentum
        :math:`\mu`.
    dampening
        :math:`\tau`.
    nesterov
        Look ahead along the velocity; needs ``momentum > 0`` and ``dampening=0``.
    weight_decay
        :math:`\lambda`. It acts in the step only: the recorded loss does not contain it.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.GD(lr=(0.1, 0.2)).workers
    2
    """

    references: ClassVar[tuple[str, ...]] = (
        "Polyak. Some methods of speeding up the convergence of iteration methods. "
        "USSR Comput. Math. Math. Phys. 4 (1964).",
        "Cohen, Kaur, Li, Kolter, Talwalkar. Gradient descent on neural networks typically occurs at the edge "
        "of stability. ICLR 2021, arXiv:2103.00065.",
    )
