"""Random walks: free ones, and those that stay below a level of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import one_of
from landscape_walkers._values import FINITE, NON_NEGATIVE, given
from landscape_walkers.independent import Independent, Memory, exit_steps, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape_walkers.independent import Team, WorkersState

__all__ = ["ExcursionWalk", "RandomWalk"]


@frozen
class RandomWalk(Independent):
    r"""A random walk that knows nothing of the loss, with isotropic Gaussian steps.

    .. math:: \theta \leftarrow \theta + \sigma\,N(0, 1)

    After t steps, the squared distance from the start has the mean :math:`t \sigma^2 P` for P weights.

    Costs no gradient. Keeps one P-vector per worker.

    Parameters
    ----------
    step_size
        :math:`\sigma`, per weight; a tuple gives each worker its own. 0.005 is what the elementary-walkers
        program of 2016 took for perceptrons.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.
    """

    step_size: float | tuple[float, ...] = field(default=0.005, converter=given, validator=NON_NEGATIVE)
    workers: int = number_of_workers()

    def _update(self, team: Team) -> None:
        for worker in team:
            worker.position.add_(worker.noise(), alpha=worker["step_size"])


@frozen
class ExcursionWalk(Independent):
    r"""A random walk in the excursion set :math:`\{L \le \ell\}` below a level of the loss.

    A step proposes :math:`\theta' = \theta + \sigma\,N(0, 1)` and evaluates the loss there.

    ``at_boundary="reject"``: where :math:`L(\theta') > \ell`, or is not finite, the worker stays. This is
    Metropolis' rule for the uniform distribution on the set (Metropolis et al. 1953), which the walk samples
    in the long run as far as its steps can reach. Records the column ``acceptance``, the share of accepted
    proposals so far (NaN before the first).

    ``at_boundary="stop"``: the walk is free until it leaves the set for the first time; there it ends, with
    the worker at the point that is outside, as in the elementary-walkers program of 2016. Records the column
    ``exit_step``, the number of the update that left the set (NaN until then).

    Costs one forward pass over all data per worker and step, less than half a gradient, and one more in the
    first; nothing after an exit.
    Keeps one P-vector per worker.

    Parameters
    ----------
    threshold
        The level :math:`\ell`, or with ``relative=True`` how far it lies above the loss at the start; a tuple
        gives each worker its own.
    step_size
        :math:`\sigma`, per weight; a tuple gives each worker its own. 0.005 is that of the program of 2016.
    relative
        Measure the threshold from the loss at the worker's start.
    at_boundary
        ``"reject"`` or ``"stop"``.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, for tuples of another length than the number of workers, and in its
        first step where a worker does not stand in its set.

    Examples
    --------
    >>> import landscape as ls
    >>> walker = ls.walkers.ExcursionWalk(0.01, relative=True, at_boundary="stop")
    >>> walker.step_size
    0.005
    """

    references: ClassVar[tuple[str, ...]] = (
        "Metropolis, Rosenbluth, Rosenbluth, Teller, Teller. Equation of state calculations by fast computing "
        "machines. J. Chem. Phys. 21 (1953).",
    )

    threshold: float | tuple[float, ...] = field(converter=given, validator=FINITE)
    step_size: float | tuple[float, ...] = field(default=0.005, converter=given, validator=NON_NEGATIVE)
    relative: bool = field(default=False, kw_only=True)
    at_boundary: Literal["reject", "stop"] = field(
        default="reject", validator=one_of(("reject", "stop")), kw_only=True
    )
    workers: int = number_of_workers()

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        landscape.require_deterministic("an excursion set")
        bases: list[float] = landscape.value(positions).tolist() if self.relative else [0.0] * len(positions)
        return [{"base": base, "accepted": 0, "exit": None} for base in bases]

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return the acceptance of each worker, or the step of its exit."""
        if self.at_boundary == "stop":
            return {"exit_step": exit_steps(state)}
        counts = zip(state.memory, state.updates, strict=True)
        return {"acceptance": tuple(m["accepted"] / n if n else math.nan for m, n in counts)}

    def _update(self, team: Team) -> None:
        import torch

        self._require_inside(team)
        inside = [worker for worker in team if worker.memory["exit"] is None]
        if not inside:
            return
        proposals = [worker.position.add(worker.noise(), alpha=worker["step_size"]) for worker in inside]
        losses: list[float] = team.landscape.value(torch.stack(proposals)).tolist()
        for worker, place, loss in zip(inside, proposals, losses, strict=True):
            stays_in = loss <= worker.memory["base"] + worker["threshold"]
            if stays_in:
                worker.memory["accepted"] += 1
            elif self.at_boundary == "stop":
                worker.memory["exit"] = worker.updates + 1
            else:
                continue
            worker.position.copy_(place)

    def _require_inside(self, team: Team) -> None:
        """Raise for workers that are about to make their first step from outside of their set."""
        import torch

        fresh = [worker for worker in team if worker.updates == 0]
        if not fresh:
            return
        losses: list[float] = team.landscape.value(torch.stack([w.position for w in fresh])).tolist()
        for worker, loss in zip(fresh, losses, strict=True):
            level = worker.memory["base"] + worker["threshold"]
            if not loss <= level:
                raise ConfigurationError(
                    f"ExcursionWalk: worker {worker.number} starts at the loss {loss:.6g}, outside of its set: the "
                    f"level is {level:.6g}. Start lower (after a descent), or raise the threshold."
                )
