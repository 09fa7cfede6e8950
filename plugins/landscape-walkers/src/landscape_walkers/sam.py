"""Sharpness-aware minimisation: the gradient of the worst point nearby, to first order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape_walkers._values import NON_NEGATIVE, given
from landscape_walkers.independent import FirstOrder, Independent, has_a_rule, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape_walkers.independent import Team

__all__ = ["SAM"]

# Keeps the quotient finite where the gradient vanishes; far below any gradient that matters.
_TINY = 1e-12


@frozen
class SAM(Independent):
    r"""Sharpness-aware minimisation (Foret, Kleiner, Mobahi, Neyshabur 2021, section 2, algorithm 1).

    The `base` walker makes its step with the gradient not where it stands, but at the point within the
    distance :math:`\rho` where the loss is largest to first order:

    .. math::

        g &= \nabla L_B(\theta), \qquad e = \rho\,\frac{g}{|g| + 10^{-12}} \\
        \hat g &= \nabla L_B(\theta + e), \qquad \theta \leftarrow \theta - \text{base step}(\hat g)

    with both gradients on the same mini-batch. Weight decay and momentum of the base walker act on
    :math:`\hat g` at :math:`\theta`. With ``adaptive=True`` the ball is stretched along large weights, so that
    the step does not change when layers are rescaled (Kwon et al. 2021, section 3):
    :math:`e = \rho\,\theta^2 g / (|\theta\,g| + 10^{-12})`, products entry by entry.

    SAM with constant :math:`\rho` does not settle. On a quadratic with curvature h and plain steps
    :math:`\eta` in one dimension it ends in a two-cycle at :math:`|\theta| = \eta h \rho/(2 - \eta h)`.

    Costs two gradients of a mini-batch per worker and step. Keeps what the base walker keeps.

    Parameters
    ----------
    base
        The walker that makes the steps: SGD, GD, Adam or RMSprop. Its hyper-parameters are SAM's.
    rho
        :math:`\rho`; a tuple gives each worker its own. 0.05 is the value that the paper found to serve
        without tuning (section 3.1); adaptive balls need larger ones.
    adaptive
        Measure distances relative to the size of the weights.
    workers
        How many points walk where nobody says otherwise: what `base` says, or as many as a tuple has.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another base walker, and for values outside of their range.

    Examples
    --------
    >>> import landscape as ls
    >>> walker = ls.walkers.SAM(ls.walkers.SGD(lr=0.1, batch_size=64, momentum=0.9), rho=0.1)
    >>> walker.batch_size
    64
    """

    references: ClassVar[tuple[str, ...]] = (
        "Foret, Kleiner, Mobahi, Neyshabur. Sharpness-aware minimization for efficiently improving "
        "generalization. ICLR 2021, arXiv:2010.01412.",
        "Kwon, Kim, Park, Choi. ASAM: adaptive sharpness-aware minimization for scale-invariant learning of "
        "deep neural networks. ICML 2021, arXiv:2102.11600.",
    )

    base: FirstOrder = field(validator=has_a_rule)
    rho: float | tuple[float, ...] = field(default=0.05, converter=given, validator=NON_NEGATIVE)
    adaptive: bool = False
    workers: int = number_of_workers()

    @property
    def batch_size(self) -> int | None:
        """Examples per mini-batch of the base walker."""
        return self.base.batch_size

    def _update(self, team: Team) -> None:
        import torch

        batches = team.batches()
        ascents = [
            worker.position + self._ascent(worker.position, gradient, worker["rho"])
            for worker, gradient in zip(team, team.gradients(batches), strict=True)
        ]
        gradients = team.landscape.gradient(torch.stack(ascents), batches)
        for worker, gradient in zip(team, gradients, strict=True):
            self.base.follow(worker, gradient)

    def _ascent(self, position: Tensor, gradient: Tensor, rho: float) -> Tensor:
        if self.adaptive:
            stretched = position * gradient
            return (position * stretched).mul_(rho / (stretched.norm() + _TINY))
        return gradient.mul(rho / (gradient.norm() + _TINY))
