"""What stochastic gradient descent does on a quadratic with known gradient noise, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from attrs import Attribute, evolve, field, frozen

from landscape.errors import ConfigurationError

__all__ = ["Moments", "QuadraticTheory"]

Draws = Literal["reshuffled", "independent"]


@frozen(eq=False)
class Moments:
    r"""Mean and second moment of the weights about the minimum, after some number of steps.

    Attributes
    ----------
    mean
        :math:`E[\theta - m]`, shape (P,).
    second
        :math:`E[(\theta - m)(\theta - m)^T]`, shape (P, P).
    """

    mean: np.ndarray
    second: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The covariance of the weights, shape (P, P)."""
        return self.second - np.outer(self.mean, self.mean)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def _vector(value: Any) -> np.ndarray | None:
    return None if value is None else _array(value)


def _check_matrix(instance: Any, attribute: Attribute[Any], value: np.ndarray) -> None:
    if value.ndim != 2 or value.shape[0] != value.shape[1] or not np.isfinite(value).all():
        raise ConfigurationError(
            f"QuadraticTheory: {attribute.name} has the shape {value.shape}; give a finite square matrix."
        )
    if not np.allclose(value, value.T, rtol=1e-12, atol=1e-12 * abs(value).max(initial=0.0)):
        raise ConfigurationError(f"QuadraticTheory: {attribute.name} is not symmetric.")


@frozen(eq=False)
class QuadraticTheory:
    r"""Moments of the weights of SGD on :math:`\frac12 (\theta - m)^T H (\theta - m)`, exactly.

    The gradient of example i is :math:`H (\theta - m) + \xi_i`, and the :math:`\xi_i` have the covariance C. The step
    is that of the walker ``SGD``: with momentum :math:`\mu`, dampening :math:`\tau` and weight decay :math:`\lambda`,

    .. math::

        g_t = (H + \lambda)\,a_{t-1} + \lambda m + \bar\xi_t, \quad
        v_t = \mu v_{t-1} + (1 - \tau) g_t, \quad
        a_t = a_{t-1} - \eta u_t, \quad a = \theta - m,

    with :math:`v_1 = g_1`, and u the gradient itself, v, or :math:`g + \mu v`. It is linear, :math:`s_t = A s_{t-1} +
    N (\bar\xi_t + \lambda m)` for :math:`s = (a, v)`, so that mean and covariance follow :math:`A` and
    :math:`A \cdot A^T`, whatever the distribution of the noise.

    Two kinds of mini-batches. ``independent``: B examples with replacement, :math:`\operatorname{Var} \bar\xi_t = C/B`,
    no correlation in time; the usual assumption. ``reshuffled``: what walkers do, each epoch a permutation of the n
    examples cut into batches (the last one short where B does not divide n). Then

    .. math::

        \operatorname{Var} \bar\xi_t = \frac{C}{B}\,\frac{n - B}{n - 1}, \qquad
        \operatorname{Cov}(\bar\xi_s, \bar\xi_t) = -\frac{C}{n - 1} \quad \text{in the same epoch,}

    and the noise of a whole epoch adds up to zero: directions in which less than an epoch is forgotten fluctuate
    less than independent draws would have it.

    Parameters
    ----------
    hessian, covariance
        H and C, shape (P, P); C that of single examples, divided by n.
    lr, momentum, dampening, nesterov, weight_decay
        As in the walker.
    batch_size
        B; None takes all examples, which is without noise.
    examples
        n. None: infinitely many, which makes both kinds of mini-batches the same.
    minimum
        m, shape (P,); it matters with weight decay only. Zero if left out.
    drift
        Mean of the :math:`\xi_i`, shape (P,), where it is not zero.

    Raises
    ------
    landscape.errors.ConfigurationError
        For matrices that are not symmetric or not of one size, and numbers out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from landscape_networks.quadratic_theory import QuadraticTheory
    >>> theory = QuadraticTheory(np.diag([1.0, 0.1]), np.eye(2), lr=0.5, batch_size=4)
    >>> theory.edge  # 2 over the largest curvature
    2.0
    >>> theory.stationary("independent").covariance.diagonal().round(4).tolist()  # eta C / (B h (2 - eta h))
    [0.0833, 0.641]
    >>> theory.small_step_covariance().diagonal().round(4).tolist()  # eta C / (2 B h)
    [0.0625, 0.625]
    """

    hessian: np.ndarray = field(converter=_array, validator=_check_matrix)
    covariance: np.ndarray = field(converter=_array, validator=_check_matrix)
    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    batch_size: int | None = 1
    examples: int | None = None
    minimum: np.ndarray | None = field(default=None, converter=_vector)
    drift: np.ndarray | None = field(default=None, converter=_vector)

    def __attrs_post_init__(self) -> None:
        size = len(self.hessian)
        for name in ("covariance", "minimum", "drift"):
            value = getattr(self, name)
            if value is not None and len(value) != size:
                raise ConfigurationError(
                    f"QuadraticTheory: {name} is for {len(value)} dimensions, the Hessian for {size}."
                )
        if not (math.isfinite(self.lr) and self.lr >= 0):
            raise ConfigurationError(f"QuadraticTheory: lr={self.lr!r}; give a finite number >= 0.")
        for name in ("momentum", "dampening"):
            if not 0 <= getattr(self, name) <= 1 or self.momentum == 1:
                raise ConfigurationError(
                    f"QuadraticTheory: {name}={getattr(self, name)!r}; give a number from 0 to 1 (momentum below 1)."
                )
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigurationError(
                f"QuadraticTheory: batch_size={self.batch_size}; give 1 or more, or None."
            )
        if self.examples is not None and self.examples < 1:
            raise ConfigurationError(f"QuadraticTheory: examples={self.examples}; give 1 or more, or None.")

    # -- the linear map of a step -------------------------------------------------------------------------

    def transition(self, *, first: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return A and N of one step, shapes (S, S) and (S, P), with S = P, or 2 P with momentum.

        Parameters
        ----------
        first
            Whether it is the first step, which knows no dampening.
        """
        size = len(self.hessian)
        eye = np.eye(size)
        curved = self.hessian + self.weight_decay * eye
        if self.momentum == 0:
            return eye - self.lr * curved, -self.lr * eye
        share = 1.0 if first else 1.0 - self.dampening
        # u = direct g + through v.
        direct, through = share, self.momentum
        if self.nesterov:
            direct, through = 1 + self.momentum * share, self.momentum**2
        step = np.block(
            [
                [eye - self.lr * direct * curved, -self.lr * through * eye],
                [share * curved, self.momentum * eye],
            ]
        )
        return step, np.vstack([-self.lr * direct * eye, share * eye])

    @property
    def rate(self) -> float:
        """The spectral radius of A: below 1, the mean converges by this factor per step."""
        return float(abs(np.linalg.eigvals(self.transition()[0])).max())

    @property
    def edge(self) -> float:
        r"""The learning rate at which steps become unstable: :math:`2 / h` for the largest curvature h.

        With momentum :math:`2 (1 + \mu) / ((1 - \tau) h)`, with Nesterov's :math:`2 (1 + \mu) / ((1 + 2 \mu) h)`.
        Infinite where no curvature is positive; where one is negative, no learning rate is stable at all.
        """
        largest = float(np.linalg.eigvalsh(self.hessian)[-1]) + self.weight_decay
        if largest <= 0:
            return math.inf
        mu = self.momentum
        if self.nesterov and mu > 0:
            return 2 * (1 + mu) / ((1 + 2 * mu) * largest)
        share = 1 - self.dampening if mu > 0 else 1.0
        return 2 * (1 + mu) / (share * largest) if share > 0 else math.inf

    # -- moments along a walk -----------------------------------------------------------------------------

    def _sizes(self, draws: Draws) -> tuple[list[int], float]:
        """Return the batch sizes of an epoch, and the weight of the correlation within it."""
        if draws not in ("reshuffled", "independent"):
            raise ConfigurationError(f"QuadraticTheory: draws={draws!r}; give 'reshuffled' or 'independent'.")
        if self.batch_size is None:
            # All of the data, in every step: no noise either way.
            return [0], 0.0
        if draws == "independent" or self.examples is None:
            return [self.batch_size], 0.0
        if self.examples == 1:
            return [0], 0.0
        whole, rest = divmod(self.examples, self.batch_size)
        return [self.batch_size] * whole + [rest] * (rest > 0), 1 / (self.examples - 1)

    def _steps(self, draws: Draws) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, bool]]:
        """Yield A, N, the part of a step's noise that nothing else knows of, and whether an epoch begins."""
        sizes, shared = self._sizes(draws)
        first = True
        while True:
            for place, size in enumerate(sizes):
                # What is correlated has the formal variance -C/(n-1); the rest makes up for it.
                alone = 0.0 if size == 0 else 1 / size * (1 + shared)
                yield *self.transition(first=first), alone * self.covariance, place == 0
                first = False

    def moments(
        self, start: np.ndarray, steps: int, *, second: np.ndarray | None = None, draws: Draws = "reshuffled"
    ) -> list[Moments]:
        """Return the moments before the first step and after each of `steps` steps.

        Parameters
        ----------
        start
            Mean of the starting points about the minimum, shape (P,).
        steps
            How many steps.
        second
            Second moment of the starting points, shape (P, P); of one point if left out.
        draws
            How mini-batches are drawn.
        """
        size = len(self.hessian)
        start = _array(start)
        wide = size if self.momentum == 0 else 2 * size
        mean = np.zeros(wide)
        mean[:size] = start
        spread = np.zeros((wide, wide))
        if second is not None:
            spread[:size, :size] = _array(second) - np.outer(start, start)
        pushed = self._push()
        shared = -self._sizes(draws)[1] * self.covariance
        mixed = np.zeros((wide, size))
        found = [_moments(mean, spread, size)]
        for _, (step, enter, alone, fresh) in zip(range(steps), self._steps(draws), strict=False):
            if fresh:
                mixed = np.zeros((wide, size))
            spread, mixed = _spread(spread, mixed, step, enter, alone, shared)
            mean = step @ mean + enter @ pushed
            found.append(_moments(mean, spread, size))
        return found

    def _push(self) -> np.ndarray:
        """Return what is added to every gradient: by weight decay, and the mean of the noise."""
        pushed = np.zeros(len(self.hessian))
        if self.minimum is not None:
            pushed = pushed + self.weight_decay * self.minimum
        return pushed if self.drift is None else pushed + self.drift

    def stationary(self, draws: Draws = "reshuffled") -> Moments:
        r"""Return the moments that are reached in the end, in the mean over the steps of an epoch.

        For independent draws :math:`\Sigma = A \Sigma A^T + N C N^T / B`, the discrete Lyapunov equation, solved
        directly. Reshuffled draws repeat themselves epoch by epoch; the equation is then that of an epoch.

        Raises
        ------
        landscape.errors.ConfigurationError
            Where there is no such state: the steps are not stable.
        """
        from scipy.linalg import solve_discrete_lyapunov

        if not self.rate < 1:
            raise ConfigurationError(
                f"QuadraticTheory: with lr={self.lr:.6g} the steps are not stable (spectral radius {self.rate:.6g}); "
                f"there is no stationary state. Stable are positive learning rates below {self.edge:.6g}, where no "
                "curvature is negative or zero."
            )
        size = len(self.hessian)
        period = len(self._sizes(draws)[0])
        step, enter = self.transition()
        wide = len(step)
        mean = np.linalg.solve(np.eye(wide) - step, enter @ self._push())
        shared = -self._sizes(draws)[1] * self.covariance

        def epoch(spread: np.ndarray) -> list[np.ndarray]:
            mixed = np.zeros((wide, size))
            spreads = []
            for _, (_, _, alone, _) in zip(range(period), self._steps(draws), strict=False):
                spread, mixed = _spread(spread, mixed, step, enter, alone, shared)
                spreads.append(spread)
            return spreads

        added = epoch(np.zeros((wide, wide)))[-1]
        whole = np.linalg.matrix_power(step, period)
        spread = solve_discrete_lyapunov(whole, (added + added.T) / 2)
        return _moments(mean, np.mean(epoch(spread), axis=0), size)

    def small_step_covariance(self) -> np.ndarray:
        r"""Return the stationary covariance of the weights to first order in the learning rate, shape (P, P).

        The solution of :math:`H \Sigma + \Sigma H = \frac{\eta'}{B} C`, with
        :math:`\eta' = \eta (1 - \tau) / (1 - \mu)`; where C = H, it is :math:`\frac{\eta'}{2B}` times the identity.
        Draws are independent.

        Raises
        ------
        landscape.errors.ConfigurationError
            Where a curvature is not positive.
        """
        from scipy.linalg import solve_continuous_lyapunov

        curved = self.hessian + self.weight_decay * np.eye(len(self.hessian))
        if np.linalg.eigvalsh(curved)[0] <= 0:
            raise ConfigurationError("QuadraticTheory: a curvature is not positive; nothing is stationary.")
        share = 1 - self.dampening if self.momentum > 0 else 1.0
        effective = self.lr * share / (1 - self.momentum)
        noise = 0.0 if self.batch_size is None else 1 / self.batch_size
        result: np.ndarray = solve_continuous_lyapunov(curved, effective * noise * self.covariance)
        return (result + result.T) / 2

    # -- what follows from them ---------------------------------------------------------------------------

    def loss(self, moments: Moments) -> float:
        r"""Return :math:`E[L] = \frac12 \operatorname{tr}(H\,E[aa^T]) + \bar\xi \cdot E[a]`."""
        linear = 0.0 if self.drift is None else float(self.drift @ moments.mean)
        return float((self.hessian * moments.second).sum()) / 2 + linear

    def best_lr(self, start: np.ndarray, steps: int, *, draws: Draws = "reshuffled") -> tuple[float, float]:
        """Return the learning rate with the least expected loss after `steps` steps, and that loss.

        Parameters
        ----------
        start
            The starting point about the minimum, shape (P,).
        steps
            How many steps.
        draws
            How mini-batches are drawn.

        Raises
        ------
        landscape.errors.ConfigurationError
            Where no curvature is positive: then there is no largest stable rate to search up to.
        """
        from scipy.optimize import minimize_scalar

        if not math.isfinite(self.edge):
            raise ConfigurationError(
                "QuadraticTheory: no curvature is positive; there is no best learning rate."
            )

        def after(exponent: float) -> float:
            return self.at(math.exp(exponent)).loss_after(start, steps, draws=draws)

        high = math.log(self.edge)
        grid = np.linspace(high - math.log(1e4), high, 60)
        values = [after(exponent) for exponent in grid]
        least = int(np.argmin(values))
        low, up = grid[max(least - 1, 0)], grid[min(least + 1, len(grid) - 1)]
        found = minimize_scalar(after, bounds=(low, up), method="bounded", options={"xatol": 1e-6})
        return math.exp(float(found.x)), float(found.fun)

    def loss_after(self, start: np.ndarray, steps: int, *, draws: Draws = "reshuffled") -> float:
        """Return the expected loss after `steps` steps from one point, shape (P,) about the minimum."""
        return self.loss(self.moments(start, steps, draws=draws)[-1])

    def at(self, lr: float) -> QuadraticTheory:
        """Return the same with another learning rate."""
        return evolve(self, lr=lr)

    def noise_scale(self, away: np.ndarray) -> float:
        r"""Return :math:`\operatorname{tr}(C) / |g|^2` where the weights are `away`, shape (P,), from m."""
        gradient = self.hessian @ away
        return float(np.trace(self.covariance)) / float(gradient @ gradient)

    def curved_noise_scale(self, away: np.ndarray) -> float:
        r"""Return :math:`\operatorname{tr}(H C) / g^T H g` where the weights are `away`, shape (P,), from m."""
        gradient = self.hessian @ away
        return float((self.hessian * self.covariance).sum()) / float(gradient @ self.hessian @ gradient)


def _moments(mean: np.ndarray, spread: np.ndarray, size: int) -> Moments:
    centre = mean[:size].copy()
    block = spread[:size, :size]
    return Moments(centre, (block + block.T) / 2 + np.outer(centre, centre))


def _spread(
    spread: np.ndarray,
    mixed: np.ndarray,
    step: np.ndarray,
    enter: np.ndarray,
    alone: np.ndarray,
    shared: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance after a step, and that of the weights with the noise the epoch shares."""
    crossed = step @ mixed @ enter.T
    after = step @ spread @ step.T + enter @ (alone + shared) @ enter.T + crossed + crossed.T
    return after, step @ mixed + enter @ shared
