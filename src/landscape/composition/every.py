"""How often a probe measures, on which points, on which data and with which weights varying."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape import plugins
from landscape.errors import ConfigurationError
from landscape.interfaces import PopulationProbe, Probe
from landscape.plugins.entry import flaw
from landscape.validators import at_least, number, of_type, optional

if TYPE_CHECKING:
    from landscape.objective import Point

__all__ = ["Every", "schedule_probes"]


def _probe(probe: Any) -> Any:
    """Return the probe that a name or a class stands for, with its defaults."""
    if isinstance(probe, str):
        probe = plugins.get("probes", probe)
    if isinstance(probe, type) and issubclass(probe, Probe | PopulationProbe):
        probe = probe()
    return probe


def _patterns(patterns: Any) -> Any:
    """Return patterns as a tuple."""
    if patterns is None:
        return None
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    found = tuple(patterns) if isinstance(patterns, Iterable) else ()
    if not found or not all(isinstance(pattern, str) for pattern in found):
        raise ConfigurationError(
            f"restrict={patterns!r}: give patterns of names of parameters, such as 'layer4.*'."
        )
    return found


@frozen
class Every:
    """A probe and when it measures.

    Attributes
    ----------
    every
        Measure at steps 0, every, 2 every, ... and at the last step; None: as often as the run's default
        says, about fifty times in an experiment.
    probe
        What measures. A name stands for the probe of that name with its defaults.
    on
        ``"all"`` points of the population, the ``"workers"`` only, or one label such as ``"centre"`` or
        ``"0"``. A population probe always sees the whole population.
    label
        Put before the names of the columns, as ``label.name``; needed where two probes would fill the same
        column. Where `split` or `restrict` is given, these make one: ``test``, ``layer4``, ``test.layer4``.
    first
        Measure at each of so many first steps besides, where a network changes fastest.
    growth
        Measure at steps that lie further and further apart: after step t at step growth * t, but not more than
        `every` steps later and at least one. A factor larger than 1; with a large `every`, about
        log(10) / log(growth) measurements per decade.
    split
        The split of the data on which the probe sees the loss, such as ``"test"``; the one that is walked on by
        default.
    restrict
        Patterns of the weights that vary for the probe, as in :meth:`landscape.Landscape.restrict`, such as
        ``"layer4.*"``; the others stay where they are at the point. All vary by default.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a split or a restriction of a population probe, which sees the whole population where it is.

    Examples
    --------
    >>> import landscape as ls
    >>> dense = ls.Every(50, "Loss", first=4)
    >>> [step for step in range(200) if dense.due(step, default=10)]
    [0, 1, 2, 3, 50, 100, 150]
    >>> logarithmic = ls.Every(1000, "Loss", growth=2)
    >>> [step for step in range(3000) if logarithmic.due(step, default=10)]
    [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2024]

    Curvature of the last layer on the test data, in columns such as ``test.head.hessian_eigenvalue_1``:

    >>> ls.Every(100, "HessianSpectrum", split="test", restrict="head.*").column("hessian_eigenvalue_1")
    'test.head.hessian_eigenvalue_1'
    """

    every: int | None = field(validator=optional(at_least(1)))
    probe: Probe | PopulationProbe = field(converter=_probe)
    on: str = field(default="all", validator=of_type(str, "'all', 'workers' or the label of a point"))
    label: str | None = field(default=None, validator=optional(of_type(str, "a text")))

    first: int = field(default=0, validator=at_least(0))
    growth: float | None = field(default=None, validator=optional(number(above=1)))
    split: str | None = field(default=None, validator=optional(of_type(str, "the name of a split")))
    restrict: tuple[str, ...] | None = field(default=None, converter=_patterns)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.probe, PopulationProbe) and self.elsewhere:
            raise ConfigurationError(
                f"probes: {type(self.probe).__name__} sees the whole population on the data that is walked on; "
                "split= and restrict= are for probes of points."
            )

    @property
    def elsewhere(self) -> bool:
        """Whether the probe measures on a landscape of its own."""
        return self.split is not None or self.restrict is not None

    @property
    def prefix(self) -> str:
        """What stands before the names of columns: the label, or what `split` and `restrict` make; may be empty."""
        if self.label is not None:
            return self.label
        patterns = [re.sub(r"[^\w.-]+", "", pattern).strip(".") for pattern in self.restrict or ()]
        return ".".join(filter(None, [self.split, "+".join(filter(None, patterns))]))

    def place(self, point: Point, previous: Point | None) -> Point:
        """Return the point on the landscape that the probe sees.

        Parameters
        ----------
        point
            A point of the population.
        previous
            The same worker's point before it, on that landscape.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a split that there is not, and for patterns that match no weights.
        """
        from landscape.objective import Point

        if not self.elsewhere:
            return point
        whole = point.landscape
        here = whole if self.split is None else point.on(self.split)
        theta, initial = point.theta, point.initial
        if self.restrict is not None:
            here = here.restrict(self.restrict, at=theta)
            theta = here.extract(whole.embed(theta))
            initial = None if initial is None else here.extract(whole.embed(initial))
        return Point(
            here,
            theta,
            step=point.step,
            worker=point.worker,
            initial=initial,
            seed=point.seed,
            splits={whole.split: whole.data} | point.splits,
            previous=previous,
        )

    def due(self, step: int, default: int) -> bool:
        """Whether the probe measures at `step`."""
        every = self.every or default
        if step < self.first:
            return True
        if self.growth is None:
            return step % every == 0
        return step in _spread_out(self.growth, every, step)

    def covers(self, worker: str) -> bool:
        """Whether the probe measures on the point called `worker`."""
        if self.on == "all":
            return True
        if self.on == "workers":
            return worker.isdigit()
        return worker == self.on

    def column(self, name: str) -> str:
        """Return the column that the scalar `name` fills."""
        return f"{self.prefix}.{name}" if self.prefix else name


#: Steps by growth and largest distance: a run asks at every step.
_SPREAD_OUT: dict[tuple[float, int], tuple[int, set[int]]] = {}


def _spread_out(growth: float, every: int, least: int) -> set[int]:
    """Return steps whose distances grow, all of those up to `least` and perhaps more."""
    last, steps = _SPREAD_OUT.get((growth, every), (0, {0}))
    while last < least:
        last += min(max(int(last * growth) - last, 1), every)
        steps.add(last)
    _SPREAD_OUT[growth, every] = last, steps
    return steps


def schedule_probes(probes: Iterable[Any]) -> tuple[Every, ...]:
    """Return `probes` as :class:`Every`; names, probes, and probe classes with defaults are accepted.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything else, naming it.
    """
    if isinstance(probes, str | type | Probe | PopulationProbe | Every) or not isinstance(probes, Iterable):
        probes = (probes,)
    scheduled = []
    for probe in probes:
        probe = _probe(probe)
        if isinstance(probe, Probe | PopulationProbe):
            probe = Every(None, probe)
        if not isinstance(probe, Every):
            raise ConfigurationError(
                f"probes: {probe!r} is not a probe; give a probe, its name, or Every(steps, probe)."
            )
        if not isinstance(probe.probe, Probe | PopulationProbe):
            raise ConfigurationError(f"probes: Every({probe.every}, {probe.probe!r}) does not hold a probe.")
        wrong = flaw("probes", type(probe.probe))
        if wrong:
            raise ConfigurationError(f"probes: {type(probe.probe).__name__} cannot be used: {wrong}.")
        scheduled.append(probe)
    return tuple(scheduled)
