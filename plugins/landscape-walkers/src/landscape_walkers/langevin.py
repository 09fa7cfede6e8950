"""Langevin dynamics: walkers that sample the weights instead of minimising the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from attrs import converters, field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import at_least, optional
from landscape_walkers._values import NON_NEGATIVE, POSITIVE, given
from landscape_walkers.independent import Independent, Memory, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape_walkers.independent import Team, Worker, WorkersState

__all__ = ["MALA", "SGLD"]


@frozen
class _Posterior(Independent):
    """The distribution that :class:`SGLD` and :class:`MALA` sample, which is localised about the start."""

    lr: float | tuple[float, ...] = field(converter=given, validator=POSITIVE)
    nbeta: float | tuple[float, ...] | None = field(
        default=None, converter=converters.optional(given), validator=NON_NEGATIVE, kw_only=True
    )
    localization: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    weight_decay: float | tuple[float, ...] = field(
        default=0.0, converter=given, validator=NON_NEGATIVE, kw_only=True
    )
    workers: int = number_of_workers()

    def _open(self, landscape: Landscape) -> Mapping[str, float]:
        if self.nbeta is not None:
            return {}
        examples = landscape.data.examples
        if examples < 2:
            raise ConfigurationError(
                f"{type(self).__name__}: nbeta=None is n/log n, which {examples} example has not; give a number."
            )
        return {"nbeta": examples / math.log(examples)}

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        return [{"origin": row.clone()} for row in positions]


def _drift(worker: Worker, position: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the energy at `position`, given that of the loss; shapes (P,)."""
    drift = gradient.mul(worker["nbeta"])
    if worker["weight_decay"] != 0:
        drift.add_(position, alpha=worker["weight_decay"])
    if worker["localization"] != 0:
        drift.add_(position - worker.memory["origin"], alpha=worker["localization"])
    return drift


def _energy(worker: Worker, position: Tensor, loss: float) -> float:
    """Return the energy at `position`, shape (P,), given the loss there."""
    energy = worker["nbeta"] * loss
    if worker["weight_decay"] != 0:
        energy += worker["weight_decay"] / 2 * _square(position)
    if worker["localization"] != 0:
        energy += worker["localization"] / 2 * _square(position - worker.memory["origin"])
    return energy


def _square(vector: Tensor) -> float:
    return float(vector.double().square().sum())


@frozen
class SGLD(_Posterior):
    r"""Stochastic gradient Langevin dynamics (Welling, Teh 2011), localised about the start (Lau et al. 2023).

    .. math::

        \theta \leftarrow \theta - \frac{\varepsilon}{2} \bigl( n\beta\,\nabla L_B(\theta) + \lambda\,\theta
        + \gamma\,(\theta - \theta_0) \bigr) + \sqrt{\varepsilon}\,N(0, 1)

    For small :math:`\varepsilon` and large batches it samples the density proportional to :math:`e^{-E}`,

    .. math::

        E(\theta) = n\beta\,L(\theta) + \tfrac{\lambda}{2}|\theta|^2 + \tfrac{\gamma}{2}|\theta-\theta_0|^2 ,

    where L is the landscape's loss, a mean over n examples by default, so that :math:`n\beta L` is its sum at
    the inverse temperature :math:`\beta`. :math:`\theta_0` is where the walk started, also after workers have
    been moved. The symbols and the factor 1/2 are those of the ``devinterp`` library.

    With curvature h and exact gradients, :math:`k = n\beta h + \lambda + \gamma`, the variance of a weight is
    :math:`1/(k(1-\varepsilon k/4))` in the long run, and the walk diverges for :math:`\varepsilon k \ge 4`.
    :math:`n\beta` times the mean rise of the loss over the start estimates the local learning coefficient.

    Costs one gradient of a mini-batch per worker and step. Keeps two P-vectors per worker. The noise of a step
    is a function of seed, worker and step, and nothing of it has to be kept.

    Parameters
    ----------
    lr
        :math:`\varepsilon`; a tuple gives each worker its own, here and below.
    batch_size
        Examples per mini-batch; None takes all data in every step.
    nbeta
        :math:`n\beta`. None takes n/log n with the n examples of the data, at which the mean loss gives the
        learning coefficient (Watanabe 2013, theorem 4). ``devinterp`` takes the same of the batch size.
    localization
        :math:`\gamma`, the stiffness of the spring to the start.
    weight_decay
        :math:`\lambda`.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> ls.walkers.SGLD(lr=1e-5, batch_size=64, nbeta=20.0, localization=100.0, workers=4).workers
    4
    """

    references: ClassVar[tuple[str, ...]] = (
        "Welling, Teh. Bayesian learning via stochastic gradient Langevin dynamics. ICML 2011.",
        "Lau, Furman, Wang, Murfet, Wei. The local learning coefficient: a singularity-aware complexity "
        "measure. arXiv:2308.12108 (2023).",
        "Watanabe. A widely applicable Bayesian information criterion. JMLR 14 (2013).",
    )

    batch_size: int | None = field(default=None, validator=optional(at_least(1)))

    def _update(self, team: Team) -> None:
        for worker, gradient in zip(team, team.gradients(team.batches()), strict=True):
            drift = _drift(worker, worker.position, gradient)
            worker.position.add_(drift, alpha=-worker["lr"] / 2)
            worker.position.add_(worker.noise(), alpha=math.sqrt(worker["lr"]))


@frozen
class MALA(_Posterior):
    r"""The Metropolis-adjusted Langevin algorithm (Roberts, Tweedie 1996, section 1.4).

    A step of :class:`~landscape_walkers.langevin.SGLD` with all data proposes a point,

    .. math::

        \theta' = \theta - \frac{\varepsilon}{2}\,\nabla E(\theta) + \sqrt{\varepsilon}\,N(0, 1), \qquad
        E(\theta) = n\beta\,L(\theta) + \tfrac{\lambda}{2}|\theta|^2 + \tfrac{\gamma}{2}|\theta-\theta_0|^2 ,

    and the worker goes there with the probability

    .. math::

        \min\Bigl(1,\; e^{E(\theta) - E(\theta')}\,\frac{q(\theta\,|\,\theta')}{q(\theta'\,|\,\theta)}\Bigr),
        \qquad q(b\,|\,a) \propto
        \exp\Bigl(-\frac{|b - a + \frac{\varepsilon}{2}\nabla E(a)|^2}{2\,\varepsilon}\Bigr),

    else it stays. This samples :math:`e^{-E}` exactly for every :math:`\varepsilon`; the density and its
    symbols are those of SGLD. Where loss or gradient are not finite, the proposal is rejected.

    Costs one gradient of all data per worker and step: that of the point where it stands is kept. Keeps four
    P-vectors per worker. Records the column ``acceptance``, the share of accepted proposals so far (NaN before
    the first); 0.574 is the best in many dimensions (Roberts, Rosenthal 1998, theorem 2).

    Parameters
    ----------
    lr
        :math:`\varepsilon`; a tuple gives each worker its own, here and below.
    nbeta
        :math:`n\beta`; None takes n/log n with the n examples of the data.
    localization
        :math:`\gamma`, the stiffness of the spring to the start.
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
        "Roberts, Tweedie. Exponential convergence of Langevin distributions and their discrete "
        "approximations. Bernoulli 2 (1996).",
        "Roberts, Rosenthal. Optimal scaling of discrete approximations to Langevin diffusions. "
        "J. R. Statist. Soc. B 60 (1998).",
    )

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return the share of proposals that each worker has accepted."""
        counts = zip(state.memory, state.updates, strict=True)
        return {"acceptance": tuple(m.get("accepted", 0) / n if n else math.nan for m, n in counts)}

    def _update(self, team: Team) -> None:
        import torch

        here = team.evaluated()
        drifts = [
            _drift(worker, worker.position, slope) for worker, (_, slope) in zip(team, here, strict=True)
        ]
        proposals = [
            worker.position.add(drift, alpha=-worker["lr"] / 2).add_(
                worker.noise(), alpha=math.sqrt(worker["lr"])
            )
            for worker, drift in zip(team, drifts, strict=True)
        ]
        losses, slopes = team.landscape.value_and_gradient(torch.stack(proposals))
        there = zip(proposals, losses.tolist(), slopes, strict=True)
        for worker, (loss, _), drift, (place, new_loss, slope) in zip(team, here, drifts, there, strict=True):
            energies = _energy(worker, worker.position, loss), _energy(worker, place, new_loss)
            way, back = place - worker.position, _drift(worker, place, slope)
            forth = _square(way + worker["lr"] / 2 * drift) / (2 * worker["lr"])
            home = _square(-way + worker["lr"] / 2 * back) / (2 * worker["lr"])
            logarithm = energies[0] - energies[1] + forth - home
            if math.isfinite(logarithm) and worker.uniform() < math.exp(min(logarithm, 0.0)):
                worker.position.copy_(place)
                worker.memory["accepted"] = worker.memory.get("accepted", 0) + 1
                worker.remember(new_loss, slope)
