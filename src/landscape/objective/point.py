"""Points and populations: where probes measure, and what has been measured there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from attrs import NOTHING, fields, has
from torch import Tensor

from landscape.errors import ConfigurationError, NonFiniteLossError, nearest
from landscape.interfaces import Measurement, PopulationProbe, Probe
from landscape.objective.batch import Batch, aligned
from landscape.objective.curvature import Curvature, CurvatureOperator
from landscape.objective.data import Data
from landscape.objective.landscape import Landscape
from landscape.randomness import derive_seed, label_of, preserved_random_state, torch_generator

__all__ = ["Point", "Population"]


@final
class Point:
    """A point of a landscape, with what has been computed and measured there.

    Parameters
    ----------
    landscape
        The landscape, with the buffers that belong to the point.
    theta
        Weights, shape (P,).
    step, worker
        Where on which path the point lies.
    initial
        The weights the path started from, shape (P,), where known.
    seed
        Seed of the run; every measurement draws from a generator of its own, derived from the seed, the
        probe's configuration (:func:`landscape.randomness.label_of`), the step and the worker.
    splits
        Further data by name, for :meth:`on`.
    previous
        The same worker's previously measured point. Only its weights and measurements are kept.

    Raises
    ------
    ConfigurationError
        For what is no landscape, and for weights that are no tensor or of another shape.
    """

    def __init__(
        self,
        landscape: Landscape,
        theta: Tensor,
        *,
        step: int = 0,
        worker: str = "0",
        initial: Tensor | None = None,
        seed: int = 0,
        splits: Mapping[str, Data] | None = None,
        previous: Point | None = None,
    ) -> None:
        if not isinstance(landscape, Landscape):
            raise ConfigurationError(
                f"A point lies on a landscape, not on a {type(landscape).__name__}: "
                "Point(Landscape(module, loss, data), theta)."
            )
        if not isinstance(theta, Tensor):
            raise ConfigurationError(
                f"A point's weights are a tensor of shape ({landscape.size},), not {theta!r}; "
                "landscape.initial() gives those of the module."
            )
        if tuple(theta.shape) != (landscape.size,):
            raise ConfigurationError(
                f"A point of this landscape has weights of shape ({landscape.size},), not {tuple(theta.shape)}."
            )
        self.landscape = landscape
        # A worker's row among others gives the numbers of the same weights alone, to the bit.
        self.theta = aligned(theta.detach().to(landscape.device, landscape.dtype))
        self.step = step
        self.worker = str(worker)
        self.initial = initial
        self.seed = seed
        self.splits = dict(splits or {})
        self.previous = None if previous is None else previous._remembered()
        self._value: Tensor | None = None
        self._gradient: Tensor | None = None
        self._operators: dict[str, CurvatureOperator] = {}
        self._measurements: dict[str, Measurement] = {}

    def value(self) -> Tensor:
        """Return L(theta), shape (), float64."""
        if self._value is None:
            self._value = self.landscape.value(self.theta)
        return self._value

    def gradient(self) -> Tensor:
        """Return the gradient of L, shape (P,)."""
        if self._gradient is None:
            self._value, self._gradient = self.landscape.value_and_gradient(self.theta)
        return self._gradient

    def hessian(self, batch: Batch | None = None) -> CurvatureOperator:
        """Return the Hessian of L; that of the data is linearised once and kept, that of a batch is not.

        Raises
        ------
        NonFiniteLossError
            When loss or gradient are not finite here; names step and worker.
        """
        return self.curvature("hessian", batch)

    def curvature(self, kind: Curvature, batch: Batch | None = None) -> CurvatureOperator:
        """Return a matrix of second order here; that of the data is linearised once and kept.

        Parameters
        ----------
        kind
            See :class:`~landscape.objective.CurvatureOperator`.
        batch
            One batch in place of the data.

        Raises
        ------
        ConfigurationError
            For an unknown kind, and for a loss that does not show the module's output where it is needed.
        NonFiniteLossError
            When loss or gradient are not finite here; names step and worker.
        """
        if batch is None and kind in self._operators:
            return self._operators[kind]
        try:
            if kind == "hessian":
                operator = self.landscape.hessian(self.theta, batch)
            else:
                operator = CurvatureOperator.of(self.landscape, self.theta, kind, batch=batch)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"Step {self.step}, worker {self.worker!r}: {error}") from error
        if batch is None:
            self._operators[kind] = operator
        return operator

    def on(self, split: str) -> Landscape:
        """Return the landscape of the same module and loss on another split.

        Raises
        ------
        ConfigurationError
            For a split that the point does not know.
        """
        if split in self.splits:
            return self.landscape.on(self.splits[split], split=split)
        if split == self.landscape.split:
            return self.landscape
        known = sorted({self.landscape.split, *self.splits})
        raise ConfigurationError(
            f"There is no split named {split!r}.{nearest(split, known)} The splits are {', '.join(known)}."
        )

    def measure(self, probe: Probe | str, **configuration: Any) -> Measurement:
        """Return what `probe` measures here; measured once, however often it is asked for.

        The global random states stay as they are, and are seeded while a probe measures: what a probe draws
        from them by mistake is repeatable too.

        Parameters
        ----------
        probe
            A probe, or the name of one with its configuration as keyword arguments.

        Raises
        ------
        ConfigurationError
            For a probe of populations, anything that is no probe, a configuration beside a configured probe, and one
            that the probe does not take; names the nearest that it does.
        """
        probe = _resolved(probe, configuration)
        if not isinstance(probe, Probe):
            raise ConfigurationError(
                f"{type(probe).__name__} is not a Probe and cannot measure at one point"
                + ("; give it to Population.measure." if isinstance(probe, PopulationProbe) else ".")
            )
        key = _key(probe)
        if key not in self._measurements:
            self._measurements[key] = _measured(probe, self, self.seed, self.step, self.worker)
        return self._measurements[key]

    def measured(self, probe: Probe) -> Measurement | None:
        """Return what `probe` measured here, or None when it has not."""
        return self._measurements.get(_key(probe))

    @property
    def measurements(self) -> Mapping[str, Measurement]:
        """What has been measured here, by the text of the probe."""
        return self._measurements

    def record(self, probe: Probe | str, measurement: Measurement) -> None:
        """Put a measurement in place, such as one read from a resumable state, for warm starts.

        Parameters
        ----------
        probe
            The probe, or its text as in :attr:`measurements`.
        measurement
            What it is taken to have measured here.
        """
        self._measurements[_key(probe)] = measurement

    def inherit(self, earlier: Point | None) -> None:
        """Take over, for warm starts, what was measured earlier on the path by probes that did not measure here.

        Afterwards the point is one of the past: :meth:`measured` answers with the newest measurement of each
        probe up to here.
        """
        if earlier is not None:
            self._measurements = dict(earlier._measurements) | self._measurements

    def forget(self) -> None:
        """Drop value, gradient, operators and the previous point; measurements stay."""
        self._value = self._gradient = self.previous = None
        self._operators.clear()

    def _remembered(self) -> Point:
        """Return what a later point needs of this one: weights and measurements, no graph and no chain."""
        point = Point(
            self.landscape,
            self.theta,
            step=self.step,
            worker=self.worker,
            initial=self.initial,
            seed=self.seed,
            splits=self.splits,
        )
        point._measurements = self._measurements
        return point

    def __repr__(self) -> str:
        return f"Point(step={self.step}, worker={self.worker!r}, P={self.landscape.size})"


@final
class Population:
    """The points of K workers at one step, and further labelled points such as a centre.

    Parameters
    ----------
    landscape
        The landscape.
    positions
        The workers' weights, shape (K, P).
    step
        Steps made so far.
    labelled
        Further points, each (P,), by name.
    initial
        Where the paths started: shape (K, P) for the workers, (P,) for all points alike, or by name.
    seed, splits
        See :class:`Point`.
    previous
        Previously measured points by worker, or the population they belong to.

    Raises
    ------
    ConfigurationError
        For positions of another shape, and for a label that is the number of a worker.
    """

    def __init__(
        self,
        landscape: Landscape,
        positions: Tensor,
        *,
        step: int,
        labelled: Mapping[str, Tensor] | None = None,
        initial: Tensor | Mapping[str, Tensor] | None = None,
        seed: int = 0,
        splits: Mapping[str, Data] | None = None,
        previous: Population | Mapping[str, Point] | None = None,
    ) -> None:
        if positions.ndim != 2 or positions.shape[1] != landscape.size:
            raise ConfigurationError(
                f"Positions of shape {tuple(positions.shape)}: give (K, {landscape.size}) for K workers."
            )
        self.landscape = landscape
        self.positions = positions.detach().to(landscape.device, landscape.dtype)
        self.step = step
        self.seed = seed
        names = [str(k) for k in range(len(positions))]
        clash = sorted(set(names) & set(labelled or {}))
        if clash:
            raise ConfigurationError(f"The label {clash[0]!r} is the name of a worker; give another.")
        starts = _starts(initial, names)
        before = previous.by_worker() if isinstance(previous, Population) else dict(previous or {})
        weights = dict(zip(names, self.positions, strict=True)) | dict(labelled or {})
        self.labels = tuple(labelled or {})
        self.points = tuple(
            Point(
                landscape,
                theta,
                step=step,
                worker=name,
                initial=starts.get(
                    name, initial if isinstance(initial, Tensor) and initial.ndim == 1 else None
                ),
                seed=seed,
                splits=splits,
                previous=before.get(name),
            )
            for name, theta in weights.items()
        )
        self._measurements: dict[str, Measurement] = {}

    @property
    def workers(self) -> tuple[Point, ...]:
        """The workers' points, without the labelled ones."""
        return self.points[: len(self.positions)]

    def by_worker(self) -> dict[str, Point]:
        """Return all points by the name of their worker or label."""
        return {point.worker: point for point in self.points}

    def measure(self, probe: PopulationProbe | str, **configuration: Any) -> Measurement:
        """Return what a population probe measures; measured once, however often it is asked for.

        See :meth:`Point.measure`.

        Raises
        ------
        ConfigurationError
            For a probe of single points, anything that is no probe, a configuration beside a configured probe.
        """
        probe = _resolved(probe, configuration)
        if not isinstance(probe, PopulationProbe):
            raise ConfigurationError(
                f"{type(probe).__name__} is not a PopulationProbe"
                + ("; it measures at single points, population.points." if isinstance(probe, Probe) else ".")
            )
        key = _key(probe)
        if key not in self._measurements:
            self._measurements[key] = _measured(probe, self, self.seed, self.step, "population")
        return self._measurements[key]

    def measured(self, probe: PopulationProbe) -> Measurement | None:
        """Return what `probe` measured here, or None when it has not."""
        return self._measurements.get(_key(probe))

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return f"Population(step={self.step}, K={len(self)}, labels={list(self.labels)})"


def _configured(kind: Any, configuration: Mapping[str, Any]) -> Any:
    """Return a probe of this class; what it has no field for is refused with the nearest name that it has."""
    if has(kind):
        known = [one.alias for one in fields(kind) if one.init]
        for name in configuration:
            if name not in known:
                raise ConfigurationError(
                    f"{kind.__name__} has no {name!r}.{nearest(name, known)} "
                    f"It takes {', '.join(known) or 'nothing'}."
                )
        missing = [
            one.alias
            for one in fields(kind)
            if one.init and one.default is NOTHING and one.alias not in configuration
        ]
        if missing:
            raise ConfigurationError(f"{kind.__name__} needs {', '.join(missing)}.")
    return kind(**configuration)


def _resolved(probe: Any, configuration: Mapping[str, Any]) -> Any:
    if isinstance(probe, str):
        from landscape.plugins import get

        return _configured(get("probes", probe), configuration)
    if isinstance(probe, type):
        return _configured(probe, configuration)
    if configuration:
        raise ConfigurationError(
            f"{type(probe).__name__} is configured already; got {', '.join(sorted(configuration))} besides. "
            "Give the probe's name or class with its configuration, or the probe alone."
        )
    return probe


def _measured(probe: Any, place: Point | Population, seed: int, step: int, where: str) -> Measurement:
    """Measure, with a generator and global random states that belong to this measurement."""
    labels = ("probe", label_of(probe), step, where)
    # A user's autocast around the loop is for the training, not for its measurement.
    precise = torch.autocast(place.landscape.device.type, enabled=False)
    with precise, preserved_random_state(derive_seed(seed, *labels, "global")):
        measurement = probe.measure(place, torch_generator(seed, *labels))
    if not isinstance(measurement, Measurement):
        raise ConfigurationError(
            f"{type(probe).__name__}.measure returned {measurement!r}, which is not a Measurement."
        )
    return measurement


def _key(probe: Any) -> str:
    """Return what a measurement is kept under: where the class is from, and its whole configuration."""
    return probe if isinstance(probe, str) else f"{type(probe).__module__}:{label_of(probe)}"


def _starts(initial: Tensor | Mapping[str, Tensor] | None, names: Iterable[str]) -> dict[str, Tensor]:
    if isinstance(initial, Mapping):
        return dict(initial)
    if isinstance(initial, torch.Tensor) and initial.ndim == 2:
        return dict(zip(names, initial, strict=True))
    return {}
