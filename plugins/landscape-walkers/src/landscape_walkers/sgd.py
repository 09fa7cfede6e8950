"""Gradient descent and stochastic gradient descent with momentum, for any number of workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape_walkers._values import (
    PerWorker,
    check_names,
    check_number,
    check_positions,
    given,
    moving_rows,
    shared,
    spread,
    whole,
    within,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import BatchStreamState, Landscape

__all__ = ["SGD", "SGDState"]

# What can change on the way, with the range that torch.optim.SGD allows as well.
_RANGES = {
    "lr": (0.0, math.inf, "a finite number >= 0"),
    "momentum": (0.0, math.inf, "a finite number >= 0"),
    "weight_decay": (0.0, math.inf, "a finite number >= 0"),
}


@frozen(eq=False)
class SGDState:
    """Where :class:`SGD` stands.

    Attributes
    ----------
    positions
        Shape (K, P).
    velocities
        For each worker its momentum buffer, shape (P,); None until its first step with momentum.
    streams
        For each worker its place in its data order; empty for full batches.
    seed
        From which the workers' data orders derive.
    lr, momentum, weight_decay
        The values in force, one per worker.
    """

    positions: Tensor
    velocities: tuple[Tensor | None, ...]
    streams: tuple[BatchStreamState, ...]
    seed: int
    lr: tuple[float, ...]
    momentum: tuple[float, ...]
    weight_decay: tuple[float, ...]


def _single(value: float) -> float:
    number = given(value)
    if isinstance(number, tuple) or not math.isfinite(number):
        raise ConfigurationError(f"SGD: dampening={value!r} is not possible; dampening is a finite number.")
    return number


@frozen
class SGD(Walker[SGDState]):
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

    Costs one gradient of a mini-batch per worker and step. Keeps one P-vector per worker, two with momentum.

    Parameters
    ----------
    lr
        Step size :math:`\eta`; a tuple gives each worker its own.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    momentum
        :math:`\mu`; a tuple gives each worker its own. On a quadratic with curvature h, steps of size eta
        are stable for :math:`\eta h < 2 (1 + \mu)`.
    dampening
        :math:`\tau`. ``dampening=momentum`` is what Torch7 did by default.
    nesterov
        Look ahead along the velocity; needs ``momentum > 0`` and ``dampening=0``.
    weight_decay
        :math:`\lambda`; a tuple gives each worker its own. It acts in the step only: the recorded loss
        does not contain it. A penalty that the loss shall contain belongs to the landscape.
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

    lr: float | tuple[float, ...] = field(converter=given, validator=within(*_RANGES["lr"]))
    batch_size: int | None = field(default=None, validator=whole(1))
    momentum: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=within(*_RANGES["momentum"])
    )
    dampening: float = field(default=0.0, converter=_single)
    nesterov: bool = False
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=within(*_RANGES["weight_decay"])
    )
    workers: int = field(validator=whole(1))

    @workers.default
    def _as_many_as_a_tuple_says(self) -> int:
        lengths = [len(value) for name in _RANGES if isinstance(value := getattr(self, name), tuple)]
        return max(lengths, default=1)

    def __attrs_post_init__(self) -> None:
        if self.nesterov and (self.dampening != 0 or not _all_positive(self.momentum)):
            raise ConfigurationError(
                f"SGD: nesterov=True needs momentum > 0 and dampening=0, got momentum={self.momentum!r} and "
                f"dampening={self.dampening!r}."
            )
        for name in _RANGES:
            spread("SGD", name, getattr(self, name), self.workers)

    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> SGDState:
        """Return the state at `positions`, shape (K, P); one integer is drawn from `generator`."""
        import torch

        from landscape.randomness import derive_seed

        positions = check_positions("SGD", landscape, positions)
        workers = len(positions)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        streams: tuple[BatchStreamState, ...] = ()
        if self.batch_size is not None:
            streams = tuple(
                landscape.stream(self.batch_size, derive_seed(seed, "data order", worker)).start()
                for worker in range(workers)
            )
        return SGDState(
            positions=positions,
            velocities=(None,) * workers,
            streams=streams,
            seed=seed,
            lr=spread("SGD", "lr", self.lr, workers),
            momentum=spread("SGD", "momentum", self.momentum, workers),
            weight_decay=spread("SGD", "weight_decay", self.weight_decay, workers),
        )

    def step(self, landscape: Landscape, state: SGDState, *, active: Tensor | None = None) -> SGDState:
        """Return the state after one update of the active workers; the others keep everything."""
        from landscape.objective import PerRow

        rows = moving_rows("SGD", active, len(state.positions))
        if not rows:
            return state
        batch, streams = None, list(state.streams)
        if self.batch_size is not None:
            stream = landscape.stream(self.batch_size, state.seed)
            batch = PerRow([stream.batch(streams[row]) for row in rows])
            for row in rows:
                streams[row] = stream.advance(streams[row])
        here = state.positions if len(rows) == len(state.positions) else state.positions[rows]
        gradients = landscape.gradient(here, batch)

        # Row by row, so that a worker's rounding depends neither on how many others there are nor on where
        # it stands among them; the arithmetic is a small part of a step.
        positions, velocities = state.positions.clone(), list(state.velocities)
        for row, gradient in zip(rows, gradients, strict=True):
            position, momentum = positions[row], state.momentum[row]
            if state.weight_decay[row] != 0:
                gradient = gradient.add(position, alpha=state.weight_decay[row])
            update = gradient
            if momentum != 0:
                before = velocities[row]
                if before is None:
                    velocity = gradient.clone()
                else:
                    velocity = before.mul(momentum).add_(gradient, alpha=1 - self.dampening)
                velocities[row] = velocity
                update = gradient.add(velocity, alpha=momentum) if self.nesterov else velocity
            position.add_(update, alpha=-state.lr[row])
        return attrs.evolve(state, positions=positions, velocities=tuple(velocities), streams=tuple(streams))

    def positions(self, state: SGDState) -> Tensor:
        """Return the workers' positions, shape (K, P)."""
        return state.positions

    def relocate(self, state: SGDState, positions: Tensor) -> SGDState:
        """Return the state with the workers at `positions`; velocities and data orders stay."""
        if positions.shape != state.positions.shape:
            raise ConfigurationError(
                f"SGD: the workers' positions have shape {tuple(state.positions.shape)}; "
                f"got {tuple(positions.shape)}."
            )
        return attrs.evolve(state, positions=positions.detach().to(state.positions, copy=True))

    def hyperparameters(self, state: SGDState) -> Mapping[str, PerWorker]:
        """Return lr, momentum and weight_decay as they are in force."""
        return {name: shared(getattr(state, name)) for name in _RANGES}

    def adjust(self, state: SGDState, **changes: PerWorker) -> SGDState:
        """Return the state with lr, momentum or weight_decay changed, for all workers or one by one.

        Raises
        ------
        landscape.errors.ConfigurationError
            For other names, values outside of their range, and tuples of another length than K.
        """
        check_names("SGD", list(changes), list(_RANGES))
        workers, values = len(state.positions), {}
        for name, change in changes.items():
            value = given(change)
            check_number("SGD", name, value, *_RANGES[name])
            values[name] = spread("SGD", name, value, workers)
        return attrs.evolve(
            state,
            lr=values.get("lr", state.lr),
            momentum=values.get("momentum", state.momentum),
            weight_decay=values.get("weight_decay", state.weight_decay),
        )


def _all_positive(value: PerWorker) -> bool:
    return all(entry > 0 for entry in (value if isinstance(value, tuple) else (value,)))
