"""Descent of the gradient's norm: to critical points of every index, saddles included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import one_of
from landscape_walkers.independent import FirstOrder, Independent, number_of_workers
from landscape_walkers.lbfgs import LBFGS

if TYPE_CHECKING:
    from attrs import Attribute
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape_walkers.independent import Memory, Team, WorkersState

__all__ = ["GradientNormDescent"]


def _has_a_rule(walker: GradientNormDescent, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, FirstOrder | LBFGS):
        raise ConfigurationError(
            f"{type(walker).__name__}: {attribute.name}={value!r} does not turn a gradient into a step; give SGD, "
            "GD, Adam, RMSprop or LBFGS, such as LBFGS()."
        )


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

    The condition number of :math:`\tfrac12|g|^2` is the square of the loss's, so that first-order rules crawl
    where the Hessian has small eigenvalues, as it does on plateaus of networks. With ``LBFGS()`` as the base
    walker the steps are quasi-Newton steps with a line search on the objective, which never rises. In the study
    ``zero-gradient`` they bring 14 or 15 of 16 networks (machines round differently) below a norm of 0.002 within
    1000 steps; Adam, on
    :math:`|g|` with a falling learning rate, brought 8 below 0.005.

    With mini-batches, g and H are those of the worker's own batch, and the mean of d is the gradient of the
    mean of :math:`\tfrac12|g_B|^2`, which contains the variance of the batch gradients: then the minima
    are not critical points of the loss. Take all data to find critical points.

    Costs 2.7 gradients of a mini-batch per worker and step, or for each step length that L-BFGS tries, which
    the column ``evaluations`` counts. Keeps what the base walker keeps.

    Parameters
    ----------
    base
        The walker that makes the steps: SGD, GD, Adam, RMSprop or LBFGS. Its hyper-parameters are this
        walker's. Weight decay there pulls away from critical points.
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
    landscape.errors.UnstableDataError
        In a step with L-BFGS, when the data differs between two passes.

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

    base: FirstOrder | LBFGS = field(validator=_has_a_rule)
    objective: Literal["squared", "norm"] = field(default="squared", validator=one_of(("squared", "norm")))
    workers: int = number_of_workers()

    @property
    def batch_size(self) -> int | None:
        """Examples per mini-batch of the base walker."""
        return self.base.batch_size

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        return self.base._begin(landscape, positions)

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return what the base walker records."""
        return self.base.record(state)

    def _update(self, team: Team) -> None:
        if isinstance(self.base, LBFGS):
            team.landscape.require_deterministic("a walker that compares norms of gradients")
            for worker in team:
                self.base.descend(worker, lambda place: self._objective(team.landscape, place))
            return
        batches = team.batches()
        for index, worker in enumerate(team):
            batch = None if batches is None else batches.batches[index]
            self.base.follow(worker, self._objective(team.landscape, worker.position, batch)[1])

    def _objective(self, landscape: Landscape, place: Tensor, batch: Any = None) -> tuple[Tensor, Tensor]:
        """Return the objective, shape (), and its gradient d, shape (P,), at `place` of shape (P,)."""
        hessian = landscape.hessian(place, batch)
        gradient = hessian.gradient
        if self.objective == "squared":
            return gradient @ gradient / 2, hessian.matvec(gradient)
        norm = gradient.norm()
        return norm, hessian.matvec(gradient) / norm if norm else gradient
