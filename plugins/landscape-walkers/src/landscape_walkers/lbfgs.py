"""L-BFGS: quasi-Newton steps from the last few changes of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.validators import at_least, one_of
from landscape_walkers._values import FRACTION, POSITIVE, given, single
from landscape_walkers._wolfe import Trial, strong_wolfe
from landscape_walkers.independent import Independent, Memory, number_of_workers

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.objective import Landscape
    from landscape_walkers.independent import Team, Worker, WorkersState

__all__ = ["LBFGS"]

# A pair enters only if s.y > this times y.y, so that the matrix stays positive definite and of a size that
# float32 can tell from zero (the cautious update of Li, Fukushima 2001).
_CAUTION = 1e-10


@frozen
class LBFGS(Independent):
    r"""L-BFGS (Liu, Nocedal 1989; Nocedal, Wright 2006, algorithm 7.4), with all data.

    .. math::

        \theta_{t+1} = \theta_t - t_t\,B_t\,g_t, \qquad g_t = \nabla L(\theta_t)

    :math:`B_t` is the BFGS approximation of the inverse Hessian from the last m pairs
    :math:`s = \theta_{i+1} - \theta_i`, :math:`y = g_{i+1} - g_i`, applied by the two-loop recursion, which
    begins with the multiple :math:`s \cdot y/y \cdot y` of the identity (of the newest pair). The first step
    goes along :math:`-g`.

    ``line_search="strong Wolfe"`` finds a step length :math:`t_t` with

    .. math::

        L(\theta_{t+1}) \le L(\theta_t) + c_1 t_t\,d_t \cdot g_t, \qquad
        |d_t \cdot g_{t+1}| \le c_2\,|d_t \cdot g_t|, \qquad d_t = -B_t g_t,

    so that the loss never rises. Where it finds none (rounding, near a minimum), the worker stays for this
    step and forgets its pairs. ``line_search="none"`` takes :math:`t_t` = `lr` unseen, as
    ``torch.optim.LBFGS`` does by default; then nothing keeps the walk from diverging. In both cases the first
    step length is that of ``torch.optim.LBFGS``, :math:`\min(1, 1/|g|_1)` times `lr`.

    On a quadratic in P dimensions with exact line search (small :math:`c_2`) and :math:`m \ge P` it arrives at
    the minimum after P steps.

    Costs one gradient of all data for each step length tried, one or two per worker and step as a rule; the
    column ``evaluations`` records how many a worker has used so far. Keeps 2 m + 3 P-vectors per worker.

    Parameters
    ----------
    lr
        The first step length that is tried, or taken; 1 is that of Newton's method. A tuple gives each worker
        its own.
    history
        m. 10, within the 3 to 20 of Nocedal, Wright (section 7.2).
    line_search
        ``"strong Wolfe"`` or ``"none"``.
    decrease, curvature
        :math:`c_1` and :math:`c_2`; 1e-4 and 0.9 are those of Nocedal, Wright (section 3.1) for quasi-Newton
        methods.
    evaluations
        The largest number of step lengths tried in a step; 25 is that of ``torch.optim.LBFGS``.
    workers
        How many points walk where nobody says otherwise: 1, or as many as a tuple has entries.

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for tuples of another length than the number of workers.
    """

    references: ClassVar[tuple[str, ...]] = (
        "Liu, Nocedal. On the limited memory BFGS method for large scale optimization. Math. Program. 45 (1989).",
        "Nocedal, Wright. Numerical optimization. 2nd edition, Springer (2006).",
    )

    lr: float | tuple[float, ...] = field(default=1.0, converter=given, validator=POSITIVE)
    history: int = field(default=10, validator=at_least(1), kw_only=True)
    line_search: Literal["strong Wolfe", "none"] = field(
        default="strong Wolfe", validator=one_of(("strong Wolfe", "none")), kw_only=True
    )
    decrease: float = field(default=1e-4, converter=given, validator=single(FRACTION), kw_only=True)
    curvature: float = field(default=0.9, converter=given, validator=single(FRACTION), kw_only=True)
    evaluations: int = field(default=25, validator=at_least(1), kw_only=True)
    workers: int = number_of_workers()

    def _check(self) -> None:
        if not self.decrease < self.curvature:
            raise ConfigurationError(
                f"LBFGS: decrease={self.decrease} and curvature={self.curvature} can contradict each other; "
                "decrease must be the smaller one."
            )

    def _begin(self, landscape: Landscape, positions: Tensor) -> Sequence[Memory]:
        shape = (self.history, landscape.size)
        return [
            {"steps": row.new_zeros(shape), "changes": row.new_zeros(shape), "pairs": 0, "evaluations": 0}
            for row in positions
        ]

    def record(self, state: WorkersState) -> Mapping[str, tuple[float, ...]]:
        """Return how many gradients each worker has used."""
        return {"evaluations": tuple(float(memory["evaluations"]) for memory in state.memory)}

    def _update(self, team: Team) -> None:
        for worker in team:
            worker.memory["evaluations"] += worker.recalled() is None
        team.evaluated()  # of all workers at once
        for worker in team:
            self.descend(worker, team.landscape.value_and_gradient)

    def descend(self, worker: Worker, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        """Move `worker` by one step down a function.

        Parameters
        ----------
        worker
            Remembers value and gradient of the function from one step to the next.
        evaluate
            Returns the function's value, shape (), and its gradient, shape (P,), at a point of shape (P,).
        """
        memory = worker.memory
        known = worker.recalled()
        if known is None:
            memory["evaluations"] += 1
            found, slopes = evaluate(worker.position)
            known = float(found), slopes
            worker.remember(*known)
        value, gradient = known
        direction = _two_loops(memory, gradient)
        slope = _dot(direction, gradient)
        if not slope < 0:
            memory["pairs"] = 0
            direction, slope = -gradient, -_dot(gradient, gradient)
        if not slope < 0:
            return  # a critical point
        step = worker["lr"]
        if memory["pairs"] == 0:
            step *= min(1.0, 1 / float(gradient.abs().sum()))

        def at(length: float) -> Trial:
            memory["evaluations"] += 1
            found, slopes = evaluate(worker.position.add(direction, alpha=length))
            return Trial(length, float(found), _dot(slopes, direction), slopes)

        trial: Trial | None
        if self.line_search == "none":
            trial = at(step)
        else:
            trial = strong_wolfe(
                at,
                Trial(0.0, value, slope, gradient),
                step,
                decrease=self.decrease,
                curvature=self.curvature,
                evaluations=self.evaluations,
            )
        if trial is None:
            memory["pairs"] = 0
            return
        _enter(memory, direction.mul(trial.step), trial.gradient - gradient)
        worker.position.add_(direction, alpha=trial.step)
        worker.remember(trial.value, trial.gradient)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a @ b)


def _two_loops(memory: Memory, gradient: Tensor) -> Tensor:
    """Return minus the product of the inverse Hessian's approximation with `gradient`, shape (P,)."""
    direction = gradient.neg()
    count = memory["pairs"]
    if count == 0:
        return direction
    # The newest pair stands last.
    pairs = list(zip(memory["steps"][-count:], memory["changes"][-count:], strict=True))
    weights = []
    for step, change in reversed(pairs):
        weight = _dot(step, direction) / _dot(step, change)
        direction.sub_(change, alpha=weight)
        weights.append(weight)
    step, change = pairs[-1]
    direction.mul_(_dot(step, change) / _dot(change, change))
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        direction.add_(step, alpha=weight - _dot(change, direction) / _dot(step, change))
    return direction


def _enter(memory: Memory, step: Tensor, change: Tensor) -> None:
    """Remember a pair in place of the oldest, if the curvature along it is positive."""
    import torch

    if not _dot(step, change) > _CAUTION * _dot(change, change):
        return
    for name, row in (("steps", step), ("changes", change)):
        memory[name] = torch.cat([memory[name][1:], row[None]])
    memory["pairs"] = min(memory["pairs"] + 1, len(memory["steps"]))
