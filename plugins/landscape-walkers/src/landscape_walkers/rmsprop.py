"""RMSprop: steps in proportion to the gradient over the root of the mean of its past squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.validators import at_least, optional
from landscape_walkers._values import FRACTION, NON_NEGATIVE, given
from landscape_walkers.independent import FirstOrder, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape_walkers.independent import Worker

__all__ = ["RMSprop"]


@frozen
class RMSprop(FirstOrder):
    r"""RMSprop (Tieleman, Hinton 2012, slide 29), centred (Graves 2013, equations 38 to 45) as an option.

    .. math::

        g_t &= \nabla L_{B_t}(\theta_{t-1}) + \lambda\,\theta_{t-1} \\
        s_t &= \alpha s_{t-1} + (1-\alpha)\,g_t^2, \qquad s_0 = 0 \\
        r_t &= \sqrt{s_t} + \epsilon \quad\text{or, centred,}\quad
        r_t = \sqrt{s_t - m_t^2} + \epsilon, \quad m_t = \alpha m_{t-1} + (1-\alpha)\,g_t, \quad m_0 = 0 \\
        v_t &= \mu\,v_{t-1} + g_t/r_t, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta\,v_t

    entry by entry, in the order of operations of ``torch.optim.RMSprop``: fed with the same gradients, the
    two agree bit for bit. Graves has :math:`\epsilon` under the root.

    Costs one gradient of a mini-batch per worker and step. Keeps two P-vectors per worker, one more with
    momentum and one more when centred.

    Parameters
    ----------
    lr
        Step size :math:`\eta`; a tuple gives each worker its own, here and below. 0.01, like all defaults
        here, is that of ``torch.optim.RMSprop``.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    alpha
        Decay of the means.
    eps
        :math:`\epsilon`.
    momentum
        :math:`\mu`.
    centered
        Divide by the standard deviation of past gradients instead of their root mean square.
    weight_decay
        :math:`\lambda`.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Tieleman, Hinton. Lecture 6.5: rmsprop. Coursera: Neural Networks for Machine Learning (2012).",
        "Graves. Generating sequences with recurrent neural networks. arXiv:1308.0850 (2013).",
    )

    lr: float | tuple[float, ...] = field(default=0.01, converter=given, validator=NON_NEGATIVE)
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    alpha: float | tuple[float, ...] = field(default=0.99, converter=given, validator=FRACTION, kw_only=True)
    eps: float | tuple[float, ...] = field(
        default=1e-8, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    momentum: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    centered: bool = field(default=False, kw_only=True)
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    workers: int = number_of_workers()

    def follow(self, worker: Worker, gradient: Tensor) -> None:
        """Move `worker` by one update in which the gradient is `gradient`, shape (P,)."""
        import torch

        position, memory = worker.position, worker.memory
        alpha, momentum = worker["alpha"], worker["momentum"]

        def before(name: str) -> Tensor:
            return memory[name] if name in memory else torch.zeros_like(position)

        if worker["weight_decay"] != 0:
            gradient = gradient.add(position, alpha=worker["weight_decay"])
        square = memory["square"] = before("square").mul(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        if self.centered:
            mean = memory["mean"] = before("mean").lerp(gradient, 1 - alpha)
            root = square.addcmul(mean, mean, value=-1).sqrt_()
        else:
            root = square.sqrt()
        root.add_(worker["eps"])
        if momentum == 0:
            position.addcdiv_(gradient, root, value=-worker["lr"])
            return
        velocity = memory["velocity"] = before("velocity").mul(momentum).addcdiv_(gradient, root)
        position.add_(velocity, alpha=-worker["lr"])
