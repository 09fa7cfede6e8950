"""Adam: steps in proportion to the mean of past gradients over the root of the mean of their squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.validators import at_least, optional
from landscape_walkers._values import FRACTION, NON_NEGATIVE, given
from landscape_walkers.independent import FirstOrder, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape_walkers.independent import Worker

__all__ = ["Adam"]


@frozen
class Adam(FirstOrder):
    r"""Adam (Kingma, Ba 2015, algorithm 1), with decoupled weight decay (AdamW) as an option.

    .. math::

        g_t &= \nabla L_{B_t}(\theta_{t-1}) + \lambda\,\theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1-\beta_1)\,g_t, \qquad
        s_t = \beta_2 s_{t-1} + (1-\beta_2)\,g_t^2, \qquad m_0 = s_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta\,\frac{m_t/(1-\beta_1^t)}{\sqrt{s_t/(1-\beta_2^t)} + \epsilon}

    entry by entry, where t counts the worker's own updates. With ``decoupled=True`` the weights shrink by
    the factor :math:`1-\eta\lambda` before the step, and the gradient is left alone (Loshchilov, Hutter
    2019, algorithm 2). The order of operations is that of ``torch.optim.Adam``: fed with the same gradients,
    the two agree bit for bit. The first step moves every weight by :math:`\eta`, whatever the scale of the
    loss.

    Costs one gradient of a mini-batch per worker and step. Keeps three P-vectors per worker.

    Parameters
    ----------
    lr
        Step size :math:`\eta`; 0.001 is the paper's. A tuple gives each worker its own, here and below.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    beta1, beta2
        Decay of the means; 0.9 and 0.999 are the paper's.
    eps
        :math:`\epsilon`; 1e-8 is the paper's.
    weight_decay
        :math:`\lambda`.
    decoupled
        Shrink the weights instead of adding to the gradient.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.Adam(batch_size=64).lr
    0.001
    """

    references: ClassVar[tuple[str, ...]] = (
        "Kingma, Ba. Adam: a method for stochastic optimization. ICLR 2015, arXiv:1412.6980.",
        "Loshchilov, Hutter. Decoupled weight decay regularization. ICLR 2019, arXiv:1711.05101.",
    )

    lr: float | tuple[float, ...] = field(default=0.001, converter=given, validator=NON_NEGATIVE)
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    beta1: float | tuple[float, ...] = field(default=0.9, converter=given, validator=FRACTION, kw_only=True)
    beta2: float | tuple[float, ...] = field(default=0.999, converter=given, validator=FRACTION, kw_only=True)
    eps: float | tuple[float, ...] = field(
        default=1e-8, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    decoupled: bool = field(default=False, kw_only=True)
    workers: int = number_of_workers()

    def follow(self, worker: Worker, gradient: Tensor) -> None:
        """Move `worker` by one update in which the gradient is `gradient`, shape (P,)."""
        import torch

        position, memory = worker.position, worker.memory
        lr, beta1, beta2, decay = worker["lr"], worker["beta1"], worker["beta2"], worker["weight_decay"]
        if not memory:
            memory |= {"mean": torch.zeros_like(position), "square": torch.zeros_like(position), "count": 0}
        memory["count"] += 1
        if decay != 0 and self.decoupled:
            position.mul_(1 - lr * decay)
        elif decay != 0:
            gradient = gradient.add(position, alpha=decay)
        mean = memory["mean"].lerp(gradient, 1 - beta1)
        square = memory["square"].mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        memory |= {"mean": mean, "square": square}
        first, second = 1 - beta1 ** memory["count"], 1 - beta2 ** memory["count"]
        scale = square.sqrt().div_(second**0.5).add_(worker["eps"])
        position.addcdiv_(mean, scale, value=-(lr / first))
