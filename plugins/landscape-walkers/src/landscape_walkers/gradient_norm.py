"""Descent of the gradient's norm: to critical points of every index, saddles included."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from landscape_walkers._values import one_of
from landscape_walkers.independent import FirstOrder, Independent, has_a_rule, number_of_workers

if TYPE_CHECKING:
    from landscape_walkers.independent import Team

__all__ = ["GradientNormDescent"]


@frozen
class GradientNormDescent(Independent):
    r"""Minimises the norm of the gradient instead of the loss, by Hessian-vector products.

    The `base` walker makes its step with the gradient d of

    .. math::

        \tfrac12 |g(\theta)|^2: \quad d = H(\theta)\,g(\theta)
        \qquad\text{or}\qquad
        |g(\theta)|: \quad d = \frac{H(\theta)\,g(\theta)}{|g(\theta)|},

    where g and H are gradient and Hessian of the loss. Every critical point of the loss is a minimum of both,
    whatever its index; that there are other minima, where g is an eigenvector of H with the eigenvalue 0, is
    the method's known weakness (Doye, Wales 2002). ``gradient_norm`` tells the two apart.

    :math:`\tfrac12|g|^2` is smooth at its minima: near a critical point with Hessian H, plain steps
    :math:`\eta` contract by :math:`1-\eta H^2`. :math:`|g|` is not: plain steps of fixed size end by jumping
    about a critical point. At g = 0 exactly it has no gradient, and d is 0 there.

    With mini-batches, g and H are those of the worker's own batch, and the mean of d is the gradient of the
    mean of :math:`\tfrac12|g_B|^2`, which contains the variance of the batch gradients: then the minima
    are not critical points of the loss. Take all data to find critical points.

    Costs 2.7 gradients of a mini-batch per worker and step. Keeps what the base walker keeps.

    Parameters
    ----------
    base
        The walker that makes the steps: SGD, GD, Adam or RMSprop. Its hyper-parameters are this walker's.
        Weight decay there pulls away from critical points.
    objective
        ``"squared"`` for :math:`\tfrac12|g|^2`, ``"norm"`` for :math:`|g|`.
    workers
        How many points walk where nobody says otherwise: what `base` says.

    Raises
    ------
    landscape.errors.ConfigurationError
        For another base walker or objective.
    landscape.errors.NotTwiceDifferentiableError
        In a step, when the module has no second derivative.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.GradientNormDescent(ls.walkers.Adam(lr=1e-4)).objective
    'squared'
    """

    references: ClassVar[tuple[str, ...]] = (
        "McIver, Komornicki. Structure of transition states in organic reactions. J. Am. Chem. Soc. 94 (1972).",
        "Doye, Wales. Saddle points and dynamics of Lennard-Jones clusters, solids, and supercooled liquids. "
        "J. Chem. Phys. 116 (2002).",
        "Pearlmutter. Fast exact multiplication by the Hessian. Neural Computation 6 (1994).",
    )

    base: FirstOrder = field(validator=has_a_rule)
    objective: Literal["squared", "norm"] = field(default="squared", validator=one_of("squared", "norm"))
    workers: int = number_of_workers()

    @property
    def batch_size(self) -> int | None:
        """Examples per mini-batch of the base walker."""
        return self.base.batch_size

    def _update(self, team: Team) -> None:
        batches = team.batches()
        for index, worker in enumerate(team):
            batch = None if batches is None else batches.batches[index]
            hessian = team.landscape.hessian(worker.position, batch)
            gradient = hessian.gradient
            norm = float(gradient.norm()) if self.objective == "norm" else 1.0
            self.base.follow(worker, hessian.matvec(gradient) / norm if norm else gradient)
