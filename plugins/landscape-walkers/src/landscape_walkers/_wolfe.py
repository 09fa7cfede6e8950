"""Line search for the strong Wolfe conditions (Nocedal, Wright 2006, algorithms 3.5 and 3.6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Trial", "strong_wolfe"]

# A bracket that two trials have not narrowed to this share is halved (Moré, Thuente 1994, section 4).
_NARROWER = 0.66
# Where no minimum is in sight yet, the next trial goes at most so many times as far.
_FARTHER = 10.0


@frozen(eq=False)
class Trial:
    """What was found at one step length along a line.

    Attributes
    ----------
    step
        The step length.
    value, slope
        The function there, and its derivative along the line.
    gradient
        Its gradient, shape (P,).
    """

    step: float
    value: float
    slope: float
    gradient: Tensor


def strong_wolfe(
    evaluate: Callable[[float], Trial],
    start: Trial,
    step: float,
    *,
    decrease: float,
    curvature: float,
    evaluations: int,
) -> Trial | None:
    r"""Find a step t with :math:`f(t) \le f(0) + c_1 t f'(0)` and :math:`|f'(t)| \le c_2 |f'(0)|`.

    Trials are the minima of the cubics through the last two. On a quadratic the second trial is the minimum.

    Parameters
    ----------
    evaluate
        Returns the trial at a step length.
    start
        The trial at 0; its slope is negative.
    step
        The first step length to be tried.
    decrease, curvature
        :math:`c_1 < c_2`.
    evaluations
        The largest number of trials.

    Returns
    -------
    Trial or None
        A step that satisfies both conditions; after the last trial the best that satisfies the first one;
        None where none was found.
    """

    def too_high(trial: Trial, best: Trial) -> bool:
        bound = start.value + decrease * trial.step * start.slope
        return not trial.value <= bound or (best.step > 0 and trial.value >= best.value)

    def flat(trial: Trial) -> bool:
        return abs(trial.slope) <= -curvature * start.slope

    # Expansion, until the interval from `low` to `high` must contain such a step.
    low, left = start, evaluations
    while True:
        if not left:
            return low if low.step > 0 else None
        trial = evaluate(step)
        left -= 1
        if too_high(trial, low):
            high = trial
            break
        if flat(trial):
            return trial
        if trial.slope >= 0:
            low, high = trial, low
            break
        beyond = _minimum(low, trial)
        low, step = trial, min(max(beyond, 1.1 * step), _FARTHER * step) if beyond else _FARTHER * step

    # Narrowing: `low` satisfies the first condition and is the lowest so far; the function falls towards `high`.
    widths = [math.inf, math.inf]
    while left:
        width = abs(high.step - low.step)
        inner = _minimum(low, high)
        ends = sorted((low.step, high.step))
        if width > _NARROWER * widths[-2] or inner is None or not ends[0] < inner < ends[1]:
            inner = (low.step + high.step) / 2
        if not ends[0] < inner < ends[1]:
            break  # neighbouring numbers: rounding ends the search
        widths.append(width)
        trial = evaluate(inner)
        left -= 1
        if too_high(trial, low):
            high = trial
            continue
        if flat(trial):
            return trial
        if trial.slope * (high.step - low.step) >= 0:
            high = low
        low = trial
    return low if low.step > 0 else None


def _minimum(a: Trial, b: Trial) -> float | None:
    """Return where the cubic through values and slopes of two trials has its minimum; None without one."""
    mixed = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    radicand = mixed**2 - a.slope * b.slope
    if not radicand >= 0 or not math.isfinite(radicand):
        return None
    root = math.copysign(math.sqrt(radicand), b.step - a.step)
    below = b.slope - a.slope + 2 * root
    return b.step - (b.step - a.step) * (b.slope + root - mixed) / below if below else None
