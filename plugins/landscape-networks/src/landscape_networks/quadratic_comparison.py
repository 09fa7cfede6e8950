"""Runs on noisy quadratics beside their theory: a table of expected and measured values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, frozen

from landscape_networks.quadratic_theory import Moments, QuadraticTheory

if TYPE_CHECKING:
    import pandas as pd

    from landscape.composition import Run

__all__ = ["COLUMNS", "Comparison", "comparison_of", "theory_table"]

#: Columns of the table.
COLUMNS = (
    "quantity",
    "theory",
    "measured",
    "standard error",
    "z",
    "bound",
    "independent draws",
    "small steps",
)
#: Weights up to which there is a comparison: moments are matrices of twice as many rows, one for each step.
_LARGEST = 64
#: Workers from which on means over them have a standard error worth the name.
_WORKERS = 8
#: What is no more than so much of the terms that it is a sum of is their rounding: expected moments have come through
#: hundreds of steps.
_ROUNDING = 1e-12
#: Steps of which the expected loss stands in the table, as parts of the run.
_PARTS = (0.1, 0.3, 1.0)
_DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@frozen
class Row:
    """One line of the table; NaN for what there is not."""

    quantity: str
    theory: float
    measured: float
    error: float = math.nan
    bound: float = math.nan
    independent: float = math.nan
    small: float = math.nan

    def cells(self) -> dict[str, Any]:
        """Return the line by its columns."""
        z = (self.measured - self.theory) / self.error if self.error > 0 else math.nan
        values = (self.theory, self.measured, self.error, z, self.bound, self.independent, self.small)
        return dict(zip(COLUMNS, (self.quantity, *map(float, values)), strict=True))


@define(slots=False, eq=False)
class Comparison:
    """A run of SGD on a noisy quadratic, and what theory says of it.

    Attributes
    ----------
    run
        The run.
    theory
        With the Hessian, the noise and the step of the run.
    minimum
        m, shape (P,).
    steps
        Steps of the snapshots, shape (T,).
    away
        The workers' weights there about the minimum, shape (T, K, P).
    """

    run: Run
    theory: QuadraticTheory
    minimum: np.ndarray
    steps: np.ndarray
    away: np.ndarray

    @cached_property
    def losses(self) -> np.ndarray:
        """The loss of every worker at every snapshot, as the landscape computes it, shape (T, K)."""
        import torch

        landscape = self.run.landscape()
        positions = torch.from_numpy(self.away + self.minimum).to(landscape.device, landscape.dtype)
        return np.stack([landscape.value(each).cpu().double().numpy() for each in positions])

    @cached_property
    def moments(self) -> list[Moments]:
        """What theory expects, step by step, of workers that start where these did."""
        return self._moments("reshuffled")

    @cached_property
    def independent(self) -> list[Moments]:
        """The same for mini-batches with replacement."""
        return self._moments("independent")

    def _moments(self, draws: Any) -> list[Moments]:
        start = self.away[0]
        return self.theory.moments(
            start.mean(axis=0), int(self.steps[-1]), second=start.T @ start / len(start), draws=draws
        )

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of H, the largest first, and eigenvectors as columns."""
        values, vectors = np.linalg.eigh(self.theory.hessian)
        return values[::-1], vectors[:, ::-1]

    @cached_property
    def late(self) -> np.ndarray:
        """Which snapshots are from the second half of the run."""
        return self.steps >= self.steps[-1] / 2

    @property
    def stable(self) -> bool:
        """Whether there is a stationary state."""
        return bool(self.theory.rate < 1)

    @cached_property
    def stationary(self) -> tuple[Moments | None, np.ndarray | None]:
        """The stationary moments of independent draws, and those of small steps; None where there are none."""
        if not self.stable:
            return None, None
        curved = np.linalg.eigvalsh(self.theory.hessian)[0] + self.theory.weight_decay
        return self.theory.stationary(
            "independent"
        ), self.theory.small_step_covariance() if curved > 0 else None

    def late_products(self, first: np.ndarray, second: np.ndarray) -> Row:
        """Return mean products of the weights along two directions, over workers and late steps."""
        times = self.steps[self.late]
        products = ((self.away[self.late] @ first) * (self.away[self.late] @ second)).mean(axis=0)
        independent, small = self.stationary
        return Row(
            "",
            _form(first, np.mean([self.moments[t].second for t in times], axis=0), second),
            *_mean(products),
            independent=math.nan if independent is None else _form(first, independent.second, second),
            small=math.nan if small is None else _form(first, small, second),
        )

    def late_loss(self) -> Row:
        """Return the mean loss over workers and late steps."""
        times = self.steps[self.late]
        expected = np.mean([self.theory.loss(self.moments[t]) for t in times])
        independent, small = self.stationary
        return Row(
            "",
            float(expected),
            *_mean(self.losses[self.late].mean(axis=0)),
            independent=math.nan if independent is None else self.theory.loss(independent),
            small=math.nan if small is None else float((self.theory.hessian * small).sum()) / 2,
        )

    def rows(self) -> Iterator[Row]:
        """Yield the lines of the table: the workers, then the probes."""
        if self.away.shape[1] >= _WORKERS and len(self.steps) > 1:
            yield from self._walk_rows()
        yield from self._probe_rows()

    def _nearest(self, step: float) -> int:
        """Return the snapshot nearest to a step, but not the first."""
        return 1 + int(np.argmin(abs(self.steps[1:] - step)))

    def _walk_rows(self) -> Iterator[Row]:
        last = self.steps[-1]
        for place in dict.fromkeys(self._nearest(part * last) for part in _PARTS):
            step = int(self.steps[place])
            expected, independent = (self.theory.loss(m[step]) for m in (self.moments, self.independent))
            yield Row(f"E[L] at step {step}", expected, *_mean(self.losses[place]), independent=independent)
        values, vectors = self.axes
        size = len(values)
        # Where a good part of the start is left along the direction that forgets most slowly.
        place = self._nearest(_PARTS[0] * last)
        for index in dict.fromkeys((0, size - 1)):
            step, v = int(self.steps[place]), vectors[:, index]
            yield Row(
                f"E[{_name('v', index)}·a] at step {step}",
                float(v @ self.moments[step].mean),
                *_mean(self.away[place] @ v),
            )
        between = f"steps {int(self.steps[self.late][0])} to {last}"
        for index in dict.fromkeys((0, size // 2, size - 1)):
            v = vectors[:, index]
            yield _named(f"E[({_name('v', index)}·a)²], {between}", self.late_products(v, v))
        if size > 1:
            label = f"E[({_name('v', 0)}·a)({_name('v', size - 1)}·a)], {between}"
            yield _named(label, self.late_products(vectors[:, 0], vectors[:, -1]))
        yield _named(f"E[L], {between}", self.late_loss())

    def _probe_rows(self) -> Iterator[Row]:
        metrics = self.run.metrics
        names = self._labels()
        for every in self.run.experiment.probes:
            known = _PROBES.get(type(every.probe).__name__)
            if known is None or every.label is not None:
                continue
            for column, truth in known(self, every.probe):
                if column not in metrics:
                    continue
                rows = metrics[metrics[column].notna()]
                rows = rows[rows["worker"].isin(names) & rows["step"].isin(self.steps)]
                if len(rows):
                    yield from self._probe_row(column, truth, rows, names)

    def _labels(self) -> list[str]:
        return [str(worker) for worker in range(self.away.shape[1])]

    def _probe_row(
        self, column: str, truth: _Truth, rows: pd.DataFrame, names: Sequence[str]
    ) -> Iterator[Row]:
        if truth.scatters:
            # Drawn anew each time, and the same in expectation wherever the weights are.
            if len(rows) > 1:
                label = f"{column}, mean of {len(rows)}"
                yield Row(label, truth.value(self.away[0, 0]), *_mean(rows[column].to_numpy(np.float64)))
            return
        last = rows.iloc[-1]
        place = int(np.flatnonzero(self.steps == last["step"])[0])
        expected = truth.value(self.away[place, names.index(last["worker"])])
        error = float(last.get(f"{column}_error", math.nan))
        label = f"{column} at step {int(last['step'])}"
        if truth.bound:
            yield Row(label, expected, float(last[column]), bound=error)
        else:
            yield Row(label, expected, float(last[column]), error)


def _name(letter: str, index: int) -> str:
    return letter + str(index + 1).translate(_DIGITS)


def _named(quantity: str, row: Row) -> Row:
    from attrs import evolve

    return evolve(row, quantity=quantity)


def _form(first: np.ndarray, matrix: np.ndarray, second: np.ndarray) -> float:
    """Return a bilinear form; zero where it is no more than the rounding of its terms, as along two eigenvectors."""
    value, size = float(first @ matrix @ second), float(abs(first) @ abs(matrix) @ abs(second))
    return value if abs(value) > _ROUNDING * size else 0.0


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over independent values, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


# ---------------------------------------------------------------------------------------------------------
# What is known of the probes
# ---------------------------------------------------------------------------------------------------------


@frozen
class _Truth:
    """What a column should be.

    Attributes
    ----------
    value
        The value where the weights are `away` from the minimum, shape (P,).
    scatters
        Whether each measurement is a random number with this expectation, whose error only shows in several.
    bound
        Whether the probe's error is a bound.
    """

    value: Any
    scatters: bool = False
    bound: bool = False


def _loss(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    if probe.split == "train":
        yield "loss", _Truth(lambda a: c.theory.loss(Moments(a, np.outer(a, a))))


def _gradient(c: Comparison, away: np.ndarray) -> np.ndarray:
    slope: np.ndarray = c.theory.hessian @ away
    return slope if c.theory.drift is None else slope + c.theory.drift


def _gradient_norm(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    if probe.split == "train":
        yield "gradient_norm", _Truth(lambda a: float(np.linalg.norm(_gradient(c, a))))


def _weight_norm(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    yield "weight_norm", _Truth(lambda a: float(np.linalg.norm(a + c.minimum)))


def _spectrum(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    values, _ = c.axes
    for i, value in enumerate(values[: probe.k]):
        yield f"hessian_eigenvalue_{i + 1}", _Truth(lambda a, value=value: value, bound=True)
    for i, value in enumerate(values[::-1][: probe.bottom]):
        yield f"hessian_eigenvalue_bottom_{i + 1}", _Truth(lambda a, value=value: value, bound=True)


def _trace(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    if probe.kind == "hessian" and probe.examples is None:
        yield "hessian_trace", _Truth(lambda a: float(np.trace(c.theory.hessian)))


def _overlap(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    _, vectors = c.axes
    for i in range(min(probe.k, vectors.shape[1])):

        def share(away: np.ndarray, i: int = i) -> float:
            gradient = _gradient(c, away)
            return float(np.linalg.norm(vectors[:, : i + 1].T @ gradient) / np.linalg.norm(gradient))

        yield f"gradient_hessian_overlap_{i + 1}", _Truth(share)


def _noise_scale(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    n = c.run.landscape().data.examples
    h, noise = c.theory.hessian, c.theory.covariance * n / (n - 1)
    metrics = {"": np.eye(len(h))} | ({"_hessian": h} if probe.curvature else {})
    for name, metric in metrics.items():
        trace = float((metric * noise).sum())

        def scale(away: np.ndarray, metric: np.ndarray = metric, trace: float = trace) -> float:
            gradient = _gradient(c, away)
            return trace / float(gradient @ metric @ gradient)

        yield f"gradient_noise_trace{name}", _Truth(lambda a, trace=trace: trace)
        yield f"gradient_noise_scale{name}", _Truth(scale)


def _covariance(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    n, noise = c.run.landscape().data.examples, c.theory.covariance
    if not probe.centred:
        return
    if not probe.per_example:
        size = probe._batch_size(c.run.landscape().data)
        # Of batches without replacement; about the mean of L of them.
        factor = (1 - 1 / probe.batches) / size * ((n - size) / (n - 1) if n > 1 else 0.0)
        yield "covariance_trace", _Truth(lambda a: factor * float(np.trace(noise)), scatters=True)
    elif probe.batches == n:
        values = np.linalg.eigvalsh(noise)[::-1]
        for i, value in enumerate(values[: probe.k]):
            yield f"covariance_eigenvalue_{i + 1}", _Truth(lambda a, value=value: value)
        yield "covariance_trace", _Truth(lambda a: float(np.trace(noise)))


def _alignment(c: Comparison, probe: Any) -> Iterator[tuple[str, _Truth]]:
    n, noise = c.run.landscape().data.examples, c.theory.covariance
    if not (probe.centred and probe.per_example and probe.batches == n):
        return
    _, vectors = c.axes
    along = np.einsum("pi,pq,qi->i", vectors, noise, vectors)[: probe.k]
    for i, value in enumerate(along):
        yield f"covariance_along_hessian_{i + 1}", _Truth(lambda a, value=value: value)
    for i, value in enumerate((along.cumsum() / np.trace(noise))[:3]):
        yield f"covariance_in_hessian_{i + 1}", _Truth(lambda a, value=value: value)


_PROBES: Mapping[str, Any] = {
    "Loss": _loss,
    "GradientNorm": _gradient_norm,
    "WeightNorm": _weight_norm,
    "HessianSpectrum": _spectrum,
    "CurvatureTrace": _trace,
    "GradientHessianOverlap": _overlap,
    "GradientNoiseScale": _noise_scale,
    "GradientCovariance": _covariance,
    "CovarianceHessianAlignment": _alignment,
}


# ---------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------


def _component(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key)
    return str(value["component"]).rpartition(":")[2] if isinstance(value, Mapping) else ""


def comparison_of(run: Run) -> Comparison | None:
    """Return an experiment's comparison with theory, None for runs about which theory has nothing to say.

    These are walks by other walkers than SGD and GD or on another landscape, with learning rates that change or
    differ from worker to worker, with more than 64 weights, and without a snapshot of the start.
    """
    import torch

    if run.kind != "experiment":
        return None
    tree = run.configuration["experiment"]
    if _component(tree, "model") != "NoisyQuadratic" or _component(tree, "walker") not in ("SGD", "GD"):
        return None
    experiment, snapshots = run.experiment, run.directory.snapshots()
    walker: Any = experiment.walker
    varied = any(isinstance(getattr(walker, name), tuple) for name in ("lr", "momentum", "weight_decay"))
    if varied or len(run.changes) or not snapshots or snapshots[0].step != 0:
        return None
    landscape = run.landscape()
    if landscape.size > _LARGEST or landscape.penalty is not None:
        return None
    minimum = np.zeros(landscape.size)
    if getattr(experiment.model, "minimum", None) is not None:
        minimum = np.array(experiment.model.minimum, dtype=np.float64)  # type: ignore[attr-defined]
    theta = torch.from_numpy(minimum).to(landscape.device, landscape.dtype)
    rows = landscape.example_gradients(theta, landscape.data.everything()).cpu().double().numpy()
    drift = rows.mean(axis=0)
    exact = np.abs(drift).max() <= 1e-12 * np.abs(rows).max(initial=1.0)
    theory = QuadraticTheory(
        landscape.hessian(theta).dense().cpu().double().numpy(),
        np.cov(rows.T, bias=True).reshape(len(drift), len(drift))
        if len(rows) > 1
        else 0 * np.outer(drift, drift),
        lr=walker.lr,
        momentum=walker.momentum,
        dampening=walker.dampening,
        nesterov=walker.nesterov,
        weight_decay=walker.weight_decay,
        batch_size=getattr(walker, "batch_size", None),
        examples=landscape.data.examples,
        minimum=minimum,
        drift=None if exact else drift,
    )
    labels = [label for label in snapshots[0].labels if label.isdecimal()]
    weights = [snapshot.read() for snapshot in snapshots]
    away = np.array([[each[label].cpu().double().numpy() for label in labels] for each in weights]) - minimum
    return Comparison(run, theory, minimum, np.array([snapshot.step for snapshot in snapshots]), away)


def _with_values(run: Run, name: str, part: Run) -> str:
    """Return the name of a part; of a sweep's member, with the values that it has of what is varied."""
    if run.kind != "sweep":
        return name
    told = []
    for path in run.configuration["sweep"]["vary"]:
        value: Any = part.configuration.get("experiment")
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str | int | float):
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            told.append(f"{path.rpartition('.')[2]} = {shown}")
    return f"{name} ({', '.join(told)})" if told else name


def theory_table(run: Run) -> pd.DataFrame | None:
    """Return the table of expected and measured values of a run, or of all parts of a sweep or study; or None.

    Columns: what the quantity is; its value in theory, for mini-batches as the walkers draw them; as measured, with
    standard error and z, the difference in standard errors, or with the probe's bound; and for comparison what
    theory says of mini-batches with replacement, in the end, and to first order in the learning rate. a is the
    distance of the weights from the minimum, v are the Hessian's eigenvectors.
    """
    import pandas as pd

    if run.kind in ("sweep", "study"):
        parts = []
        for name, part in run.stages.items():
            table = part.tables.get("theory")
            if table is not None and len(table):
                nested = "part" in table
                name = _with_values(run, name, part)
                label = name if not nested else name + " / " + table["part"]
                parts.append(table.drop(columns="part", errors="ignore").assign(part=label))
        if not parts:
            return None
        joined = pd.concat(parts, ignore_index=True)
        return joined[["part", *COLUMNS]]
    found = comparison_of(run)
    if found is None:
        return None
    rows = [row.cells() for row in found.rows()]
    return pd.DataFrame(rows, columns=list(COLUMNS)) if rows else None
