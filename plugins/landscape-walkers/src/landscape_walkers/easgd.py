"""Elastic averaging: workers tied to a common centre by springs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs import field, frozen
from attrs.converters import optional

from landscape.errors import ConfigurationError
from landscape.randomness import torch_generator
from landscape.validators import one_of
from landscape_walkers._values import FRACTION, NON_NEGATIVE, given, moving_rows, single
from landscape_walkers.coupling import (
    CoupledState,
    Coupling,
    OneNumber,
    distances,
    mean_of_rows,
)

if TYPE_CHECKING:
    import torch
    from attrs import Attribute
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["EASGD", "EASGDState"]

_STRENGTH = OneNumber(NON_NEGATIVE.low, NON_NEGATIVE.high, NON_NEGATIVE.described)


def _periods(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _check_periods(instance: EASGD, attribute: Attribute[Any], value: Any) -> None:
    several = value if isinstance(value, tuple) else (value,)
    whole = all(isinstance(entry, int) and not isinstance(entry, bool) and entry >= 1 for entry in several)
    if not (whole and several):
        raise ConfigurationError(
            f"EASGD: period={value!r} is not possible; it is a whole number of at least 1, or one for each "
            "worker."
        )


def _speeds(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = given(value)
    return numbers if isinstance(numbers, tuple) else (numbers,)


@frozen(eq=False)
class EASGDState(CoupledState):
    """Where :class:`EASGD` stands.

    Attributes
    ----------
    centre
        Shape (P,).
    clocks
        How many steps each worker has made.
    turn
        Round robin: whose turn is next.
    seed
        Asynchronous: from which the order of the workers' steps derives.
    """

    centre: Tensor
    clocks: tuple[int, ...]
    turn: int
    seed: int


@frozen
class EASGD(Coupling[EASGDState]):
    r"""Elastic averaging SGD (Zhang, Choromanska, LeCun 2015): synchronous, asynchronous or in turn.

    Worker i of p feels its own stochastic gradient and a spring to the centre c, and the centre follows the
    workers' mean:

    .. math::

        x_i &\leftarrow x_i - \eta\,g_i(x_i) - \alpha\,(x_i - c) \\
        c &\leftarrow c + \beta\,\Big(\frac{1}{p} \sum_i x_i - c\Big)

    with the old :math:`x_i` and the old c on all right-hand sides. :math:`x_i - \eta g_i(x_i)` is one step of
    the `base` walker, whichever it is; its momentum feels the gradient only. With
    :math:`\beta = p\,\alpha` ("elastic symmetry") the springs pull on the centre as hard as on the workers:
    they conserve :math:`c + \sum_i x_i`. Over a base walker with Nesterov's momentum this is the paper's
    EAMSGD, in the form that keeps the look-ahead point as position: the spring pulls at that point.

    On a quadratic, a curvature h is stable for :math:`\eta h < 2 - 2\alpha/(2-\beta)` with one worker, and
    with more of them also :math:`\eta h < 2 - \alpha`, for their differences (:math:`\beta < 2`).

    ``schedule="synchronous"`` (section 3.1): all workers make a step; the springs act in the steps
    t = 0, period, 2 period, ...

    ``schedule="asynchronous"`` (section 3.2, algorithm 1): one worker makes a step, by its own clock
    :math:`t_i`; where the period divides :math:`t_i`, its spring acts, and the centre moves by
    :math:`(\beta/p) (x_i - c)`. Whose step it is is drawn: worker i's with a probability proportional to
    its speed, as if its steps took independent, exponentially distributed times. The order is a function
    of the walk's seed, so that an asynchronous run can be repeated.

    ``schedule="round robin"``: the same, worker after worker in turn.

    Rows that are not active neither move nor pull, and are neither drawn nor waited for.

    The centre starts at the workers' mean, and is measured and stored as ``"centre"``. It never computes a
    gradient: a synchronous step costs what p steps of the base walker cost, any other step what one costs.
    Keeps one P-vector beside the base walker's state. Records ``distance_from_centre``, and unless
    synchronous ``clock``, the number of steps that a worker has made.

    The program `elementary-walkers` (2016) had a variant of its own, which
    ``EASGD(SGD(lr, batch_size, momentum=m, dampening=m), elasticity=a, moving_rate=1, sequential=True,
    centre_norm="mean", output_bias_damping=0.9)`` is:

    .. math::

        x_i &\leftarrow x_i - \eta\,v_i, \quad
            x_i^{\mathrm{out}} \leftarrow 0.1\,x_i^{\mathrm{out}} + 0.9\,x_i^{\mathrm{out, old}}, \quad
            x_i \leftarrow x_i - \alpha\,(x_i - c) \\
        c &\leftarrow \bar x\;\frac{\frac1p \sum_i |x_i|}{|\bar x|}, \qquad
            \bar x = \frac1p \sum_i x_i

    where the spring acts after the step, the centre follows the workers that were pulled already and has
    their mean norm, which averaging would take from it, and the biases of the outputs are slow.

    Parameters
    ----------
    base
        The walker whose points are tied together.
    workers
        p; by default as many as the base walker says, and 4 where it says one.
    moving_rate
        :math:`\beta`. 0.9 is the value of the paper's experiments (section 5).
    elasticity
        :math:`\alpha`; None keeps elastic symmetry, :math:`\alpha = \beta/p`, also when the moving rate is
        changed on the way. 0 sets the workers free.
    period
        :math:`\tau`, the number of steps from one pull of the springs to the next. Where workers have
        clocks of their own (not in the synchronous schedule) a tuple gives each worker its own.
    schedule
        ``"synchronous"``, ``"asynchronous"`` or ``"round robin"``.
    speeds
        Asynchronous: the relative speeds, one per worker; None for equal ones.
    sequential
        Whether the springs pull after the base walker's step, at the new positions, and the centre then
        follows the pulled workers.
    centre_norm
        ``"none"``, or ``"mean"`` to scale the centre to the mean norm of the workers after every pull. A
        centre at the origin is left there.
    output_bias_damping
        d: of every step of a worker's output biases the share 1 - d is made. It acts before the springs.
    output_bias
        Pattern of the parameters that are damped; None for the last of the landscape's parameters, whose
        name must then end in "bias".

    Raises
    ------
    landscape.errors.ConfigurationError
        For values outside of their range, and for a base walker with another number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> walker = ls.walkers.EASGD(ls.walkers.SGD(lr=0.1, batch_size=64), workers=4)
    >>> walker.moving_rate, walker.workers
    (0.9, 4)
    """

    references: ClassVar[tuple[str, ...]] = (
        "Zhang, Choromanska, LeCun. Deep learning with elastic averaging SGD. NeurIPS 2015, arXiv:1412.6651.",
    )

    moving_rate: float = field(default=0.9, converter=given, validator=_STRENGTH)
    elasticity: float | None = field(default=None, converter=optional(given), validator=_STRENGTH)
    period: int | tuple[int, ...] = field(default=1, converter=_periods, validator=_check_periods)
    schedule: str = field(
        default="synchronous", validator=one_of(("synchronous", "asynchronous", "round robin")), kw_only=True
    )
    speeds: tuple[float, ...] | None = field(default=None, converter=_speeds, kw_only=True)
    sequential: bool = field(default=False, kw_only=True)
    centre_norm: str = field(default="none", validator=one_of(("none", "mean")), kw_only=True)
    output_bias_damping: float = field(default=0.0, converter=given, validator=single(FRACTION), kw_only=True)
    output_bias: str | None = field(default=None, kw_only=True)

    def _check(self) -> None:
        if isinstance(self.period, tuple):
            if self.schedule == "synchronous":
                raise ConfigurationError(
                    f"EASGD: period={self.period!r} needs workers with clocks of their own, and in the "
                    "synchronous schedule all pull at once; give one number, or another schedule."
                )
            self._require_one_each("period", self.period, self.workers)
        if self.speeds is not None:
            if self.schedule != "asynchronous":
                raise ConfigurationError(
                    f"EASGD: speeds={self.speeds!r} say who steps how often where the schedule is "
                    f"'asynchronous'; it is {self.schedule!r}."
                )
            self._require_one_each("speeds", self.speeds, self.workers)
            if not all(0 < speed < float("inf") for speed in self.speeds):
                raise ConfigurationError(f"EASGD: speeds={self.speeds!r} must be finite numbers > 0.")

    def _require_one_each(self, name: str, value: Sequence[float], workers: int) -> None:
        if len(value) != workers:
            raise ConfigurationError(
                f"EASGD: {name}={value!r} has {len(value)} entries for {workers} workers; give one for each."
            )

    def _open(self, values: Mapping[str, float], workers: int) -> Mapping[str, float]:
        return {"elasticity": values["moving_rate"] / workers} if self.elasticity is None else {}

    def _begin(
        self, landscape: Landscape, positions: Tensor, state: CoupledState, generator: torch.Generator
    ) -> EASGDState:
        import torch

        for name in ("period", "speeds"):
            value = getattr(self, name)
            if isinstance(value, tuple):
                self._require_one_each(name, value, len(positions))
        if self.output_bias_damping:
            self._damped(landscape)
        return EASGDState(
            base=state.base,
            updates=0,
            values=state.values,
            centre=mean_of_rows(positions),
            clocks=(0,) * len(positions),
            turn=0,
            seed=int(torch.randint(2**62, (), generator=generator, device=generator.device)),
        )

    def step(self, landscape: Landscape, state: EASGDState, *, active: Tensor | None = None) -> EASGDState:
        """Return the state after a step of all workers, or of one, and of the springs where they are due."""
        before = self.base.positions(state.base)
        rows = moving_rows("EASGD", active, len(before))
        if not rows:
            return state
        turn = state.turn
        if self.schedule != "synchronous":
            row = self._next(state, rows)
            rows, turn = [row], (row + 1) % len(before)
            active = _mask(rows, len(before))
        base = self.base.step(landscape, state.base, active=active)
        if self.output_bias_damping:
            base = self._damp(landscape, before, base, rows)
        centre, due = state.centre, self._due(state, rows)
        if due:
            base, centre = self._pull(state, before, base, due)
        return attrs.evolve(
            state,
            base=base,
            centre=centre,
            updates=state.updates + 1,
            clocks=tuple(clock + (row in rows) for row, clock in enumerate(state.clocks)),
            turn=turn,
        )

    def _next(self, state: EASGDState, rows: list[int]) -> int:
        """Return whose step it is, among the active `rows`."""
        import torch

        if self.schedule == "round robin":
            return min(rows, key=lambda row: (row < state.turn, row))
        speeds = [1.0 if self.speeds is None else self.speeds[row] for row in rows]
        generator = torch_generator(state.seed, "event", state.updates)
        weights = torch.tensor(speeds, dtype=torch.float64)
        return rows[int(torch.multinomial(weights, 1, generator=generator))]

    def _due(self, state: EASGDState, rows: list[int]) -> list[int]:
        """Return the rows, among those that step, whose springs act."""
        if not isinstance(self.period, tuple) and self.schedule == "synchronous":
            return rows if state.updates % self.period == 0 else []
        periods = self.period if isinstance(self.period, tuple) else (self.period,) * len(state.clocks)
        return [row for row in rows if state.clocks[row] % periods[row] == 0]

    def _pull(self, state: EASGDState, before: Tensor, base: Any, due: list[int]) -> tuple[Any, Tensor]:
        """Return the base walker's state and the centre after the springs of the rows `due` have acted."""
        import torch

        now, centre = self.base.positions(base), state.centre
        idle = [row for row in range(len(before)) if row not in due]
        stretch = (now if self.sequential else before) - centre  # (K, P), from the old centre
        stretch[idle] = 0
        pulled = now.sub(stretch, alpha=state.values["elasticity"])
        followed = before
        if self.sequential:
            followed, stretch = pulled, pulled - centre
            stretch[idle] = 0
        # A mean of offsets: exact where there are none.
        mean = stretch.mean(0, dtype=torch.float64).to(centre.dtype)
        centre = centre + state.values["moving_rate"] * mean
        if self.centre_norm == "mean":
            norm = float(torch.linalg.vector_norm(centre.double()))
            if norm > 0:
                norms = torch.linalg.vector_norm(followed.double(), dim=1)
                centre = centre * (float(norms.mean()) / norm)
        return self.base.relocate(base, pulled), centre

    def _damp(self, landscape: Landscape, before: Tensor, base: Any, rows: list[int]) -> Any:
        """Return the base walker's state with the steps of the damped weights shortened."""
        now = self.base.positions(base).clone()
        for name in self._damped(landscape):
            place = landscape.layout.slices[name]
            old, new = before[rows, place], now[rows, place]
            now[rows, place] = new.mul(1 - self.output_bias_damping).add_(old, alpha=self.output_bias_damping)
        return self.base.relocate(base, now)

    def _damped(self, landscape: Landscape) -> tuple[str, ...]:
        """Return the names of the parameters that are damped."""
        layout = landscape.layout
        if self.output_bias is not None:
            return layout.select(self.output_bias)
        if not layout.names[-1].endswith("bias"):
            raise ConfigurationError(
                f"EASGD: output_bias_damping={self.output_bias_damping!r} is for the biases of the outputs, "
                f"and the last parameter, {layout.names[-1]!r}, is none; say which ones with "
                'output_bias="...", a pattern of their names.'
            )
        return (layout.names[-1],)

    def labelled(self, state: EASGDState) -> Mapping[str, Tensor]:
        """Return the centre, and what the base walker labels."""
        return self._labelled_with(state, centre=state.centre)

    def _own_record(self, state: EASGDState) -> Mapping[str, tuple[float, ...]]:
        columns = {"distance_from_centre": distances(self.positions(state), state.centre)}
        if self.schedule != "synchronous":
            columns["clock"] = tuple(float(clock) for clock in state.clocks)
        return columns


def _mask(rows: list[int], workers: int) -> Tensor:
    import torch

    mask = torch.zeros(workers, dtype=torch.bool)
    mask[rows] = True
    return mask
