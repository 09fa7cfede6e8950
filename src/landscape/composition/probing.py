"""Measuring populations on a schedule, and turning what is found into rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.composition.every import Every
from landscape.errors import ConfigurationError, NonFiniteLossError, nearest
from landscape.interfaces import Measurement, PopulationProbe, Probe

if TYPE_CHECKING:
    from landscape.objective import Landscape, Point, Population

__all__ = ["POPULATION", "Found", "Prober", "other_splits", "require_landscape", "require_splits", "rows_of"]

#: The label under which what a population probe found stands in the table.
POPULATION = "population"
# Columns of the table that are not measured.
_RESERVED = {"step", "worker", "at", "warnings"}


def require_landscape(landscape: Any, whose: str) -> None:
    """Refuse what is no landscape.

    Raises
    ------
    landscape.errors.ConfigurationError
        Naming its type, and how it becomes one.
    """
    from landscape.objective import Landscape

    if not isinstance(landscape, Landscape):
        raise ConfigurationError(
            f"{whose} needs a landscape, not a {type(landscape).__name__}: Landscape(module, loss, data)."
        )


def other_splits(landscape: Landscape, splits: Any) -> dict[str, Landscape]:
    """Return the landscapes of further data under the same weights, by name.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything but data, or landscapes, by name.
    """
    from landscape.objective import Landscape

    if not isinstance(splits, Mapping | None) or not all(isinstance(name, str) for name in splits or ()):
        raise ConfigurationError(f"splits={splits!r}: give data by name, such as {{'test': test_loader}}.")
    return {
        name: data if isinstance(data, Landscape) else landscape.on(data, split=name)
        for name, data in (splits or {}).items()
    }


def require_splits(probes: Sequence[Every], known: Collection[str]) -> None:
    """Refuse probes that see the loss on data that was not given.

    Raises
    ------
    landscape.errors.ConfigurationError
        Naming the split, and how it is given.
    """
    for scheduled in probes:
        if scheduled.split is not None and scheduled.split not in known:
            raise ConfigurationError(
                f"probes: {type(scheduled.probe).__name__} is to see the split {scheduled.split!r}, and there is "
                f"{', '.join(known)} only.{nearest(scheduled.split, known)} Pass splits={{{scheduled.split!r}: ...}} "
                "with its data."
            )


@frozen
class Found:
    """What one probe found on one point."""

    step: int
    worker: str
    probe: Every
    measurement: Measurement

    @property
    def name(self) -> str:
        """The name under which arrays are stored: the label, or the name of the probe's class, and where it is."""
        return self.probe.label or self.probe.column(type(self.probe.probe).__name__)


class Prober:
    """Measures the probes that are due, and remembers each point for the next measurement's warm start."""

    def __init__(self, probes: Sequence[Every], default: int) -> None:
        self.probes = tuple(probes)
        self.default = default
        #: By worker, and for what measures on a landscape of its own by worker and :func:`_elsewhere`.
        self.previous: dict[str, Point] = {}

    def due(self, step: int, *, last: bool = False) -> tuple[Every, ...]:
        """Return the probes that measure at `step`; all of them at the last one."""
        return tuple(probe for probe in self.probes if last or probe.due(step, self.default))

    def check(self, population: Population) -> None:
        """Raise unless every probe measures on some point of `population`.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a label that no point has, a split that the data has not, and patterns that match no weights.
        """
        labels = {point.worker for point in population.points}
        for scheduled in self.probes:
            if scheduled.on not in ("all", "workers") and scheduled.on not in labels:
                raise ConfigurationError(
                    f"probes: Every({scheduled.every}, ..., on={scheduled.on!r}) names no point of this walk; it has "
                    f"{', '.join(sorted(labels))}.{nearest(scheduled.on, labels)}"
                )
            scheduled.place(population.points[0], None)

    def measure(
        self,
        population: Population,
        due: Sequence[Every],
        note: Callable[[str], None] = lambda text: None,
        *,
        tolerant: bool = False,
    ) -> list[Found]:
        """Measure `due` on the points of `population` that each of them covers.

        Parameters
        ----------
        population, due
            What to measure, and by which probes.
        note
            Told what is being done.
        tolerant
            Whether a probe that cannot measure where the loss is not finite leaves a warning in place of its
            numbers, as inside somebody's own training, which a measurement must not end.
        """
        found = []
        for point in population.points:
            used: dict[str, Point] = {}
            for scheduled in due:
                probe = scheduled.probe
                if isinstance(probe, Probe) and scheduled.covers(point.worker):
                    note(f"{type(probe).__name__} on {_spoken(point.worker)}")
                    key = _key(point.worker, scheduled)
                    if key not in used:
                        used[key] = scheduled.place(point, self.previous.get(key))
                    try:
                        measurement = used[key].measure(probe)
                    except NonFiniteLossError as error:
                        if not tolerant:
                            raise
                        measurement = Measurement(warnings=(str(error),))
                    found.append(Found(population.step, point.worker, scheduled, measurement))
            for key, place in used.items():
                place.forget()
                place.inherit(self.previous.get(key))
                self.previous[key] = place
        for scheduled in due:
            probe = scheduled.probe
            if isinstance(probe, PopulationProbe):
                note(f"{type(probe).__name__} on the population")
                found.append(Found(population.step, POPULATION, scheduled, population.measure(probe)))
        return found

    # -- warm starts survive a pause ----------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what the next measurement starts from, as containers of plain values and tensors."""
        return {
            key: {
                "step": point.step,
                "theta": point.theta,
                "carry": {
                    probe: dict(measurement.carry)
                    for probe, measurement in point.measurements.items()
                    if measurement.carry
                },
            }
            for key, point in self.previous.items()
        }

    def restore(self, snapshot: Mapping[str, Any], population: Population) -> None:
        """Go back to what :meth:`snapshot` returned; `population` says on which landscape."""
        from landscape.objective import Point

        self.previous = {}
        now = population.by_worker()
        places = {
            _key(worker, scheduled): scheduled.place(point, None)
            for worker, point in now.items()
            for scheduled in self.probes
            if scheduled.elsewhere
        }
        for key, kept in snapshot.items():
            place = now[key] if key in now else places[key]
            point = Point(
                place.landscape,
                kept["theta"],
                step=kept["step"],
                worker=place.worker,
                initial=place.initial,
                seed=population.seed,
                splits=place.splits,
            )
            for probe, carry in kept["carry"].items():
                point.record(probe, Measurement(carry=carry))
            self.previous[key] = point


def _key(worker: str, scheduled: Every) -> str:
    """Return what tells apart the landscapes on which a worker is measured; that of the walk is the worker alone."""
    return (
        "\n".join([worker, scheduled.split or "", *(scheduled.restrict or ())])
        if scheduled.elsewhere
        else worker
    )


def _spoken(worker: str) -> str:
    return f"worker {worker}" if worker.isdigit() else f"the {worker}"


@frozen
class _Row:
    values: dict[str, Any] = field(factory=dict)
    owners: dict[str, str] = field(factory=dict)


def rows_of(
    found: Sequence[Found], recorded: Mapping[str, Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """Return one row per (step, worker) with the scalars of every probe, errors in ``<name>_error``.

    Parameters
    ----------
    found
        What the probes found.
    recorded
        What the walker says of its workers: columns, each with one value per worker, for their rows.

    Raises
    ------
    landscape.errors.ConfigurationError
        If two probes fill the same column with different values, or a probe one of the walker's.
    """
    rows: dict[tuple[int, str], _Row] = {}
    for entry in found:
        row = rows.setdefault((entry.step, entry.worker), _Row({"step": entry.step, "worker": entry.worker}))
        measurement = entry.measurement
        columns = {name: float(value) for name, value in measurement.scalars.items()}
        columns |= {f"{name}_error": float(error.value) for name, error in measurement.errors.items()}
        taken = sorted(_RESERVED & columns.keys())
        if taken:
            raise ConfigurationError(
                f"{entry.name} fills the column {taken[0]!r}, which has a meaning of its own."
            )
        for name, value in columns.items():
            column = entry.probe.column(name)
            if column in row.owners and row.values[column] != value:
                raise ConfigurationError(
                    f"{entry.name} and {row.owners[column]} both fill the column {column!r}, with different values; "
                    "give one of them a label: Every(steps, probe, label='...')."
                )
            row.owners[column] = entry.name
            row.values[column] = value
        if measurement.warnings:
            texts = [f"{entry.name}: {text}" for text in measurement.warnings]
            row.values["warnings"] = "; ".join(filter(None, [row.values.get("warnings"), *texts]))
    for name, per_worker in (recorded or {}).items():
        for (_, worker), row in rows.items():
            if not worker.isdigit():
                continue
            if name in row.owners:
                raise ConfigurationError(
                    f"The walker and {row.owners[name]} both fill the column {name!r}; give the probe a label: "
                    "Every(steps, probe, label='...')."
                )
            row.values[name] = float(per_worker[int(worker)])
    return [row.values for row in rows.values()]
