"""How sharp the surroundings of a point are: gradient ascent in a ball around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from landscape.validators import one_of
from landscape_walkers._values import NON_NEGATIVE, POSITIVE, given
from landscape_walkers.independent import Independent, Memory, exit_steps, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape_walkers.independent import Team, WorkersState

__all__ = ["SharpnessAscent"]


@frozen
class SharpnessAscent(Independent):
    r"""Gradient ascent in a ball around the start, towards the largest loss in it.

    .. math::

        \theta \leftarrow \theta + \eta\,\nabla L(\theta), \qquad
        \theta \leftarrow \theta_0 + r\,\frac{\theta-\theta_0}{|\theta-\theta_0|}
        \text{ where } |\theta-\theta_0| > r

    with all data. The probe :class:`~landscape_walkers.path.Sharpness` turns the loss that is reached
    into the normalised sharpness of Keskar et al. (2017, section 2.2.2), who search a box by L-BFGS-B; the
    ball and the plain ascent are those of the elementary-walkers program of 2016, which stops where it first
    leaves the ball: ``at_boundary="stop"``. The worker then rests at the point outside, and the column
    ``exit_step`` records the number of the update that led there (NaN until then).

    On a quadratic with curvatures h, :math:`\theta - m` grows by :math:`1 + \eta h` per step along each
    eigenvector about the minimum m; started off it, the ascent ends at the ball's point of largest loss near
    the leading eigenvector.

    Costs one gradient of all data per worker and step; none after an exit. Keeps two P-vectors per worker.

    Parameters
    ----------
    lr
        :math:`\eta`; a tuple gives each worker its own. 1e-4 is that of the program of 2016, which gave up
        after 1000 steps; where gradients are small, larger steps are needed to reach the boundary.
    radius
        r; a tuple gives each worker its own. 0.01 is that of the program of 2016.
    at_boundary
        ``"project"`` back to the ball, or ``"stop"``.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Keskar, Mudigere, Nocedal, Smelyanskiy, Tang. On large-batch training for deep learning: "
        "generalization gap and sharp minima. ICLR 2017, arXiv:1609.04836.",
    )

    lr: float | tuple[float, ...] = field(default=1e-4, converter=given, validator=NON_NEGATIVE)
    radius: float | tuple[float, ...] = field(default=0.01, converter=given, validator=POSITIVE)
    at_boundary: Literal["project", "stop"] = field(
        default="project", validator=one_of(("project", "stop")), kw_only=True
    )
    workers: int = number_of_workers()

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        return [{"origin": row.clone(), "exit": None} for row in positions]

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return the step of each worker's exit."""
        return {"exit_step": exit_steps(state)} if self.at_boundary == "stop" else {}

    def _update(self, team: Team) -> None:
        import torch

        inside = [worker for worker in team if worker.memory["exit"] is None]
        if not inside:
            return
        gradients = team.landscape.gradient(torch.stack([worker.position for worker in inside]))
        for worker, gradient in zip(inside, gradients, strict=True):
            worker.position.add_(gradient, alpha=worker["lr"])
            way = worker.position - worker.memory["origin"]
            distance = float(way.norm())
            if distance <= worker["radius"]:
                continue
            if self.at_boundary == "stop":
                worker.memory["exit"] = worker.updates + 1
            else:
                worker.position.copy_(worker.memory["origin"].add(way, alpha=worker["radius"] / distance))
