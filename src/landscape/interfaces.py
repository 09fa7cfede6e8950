"""The words of landscape: what a plugin implements, and the values that pass between plugins.

A component is a frozen attrs class whose fields are its configuration, and nothing else. Whatever changes
while it works lives in state objects: frozen attrs classes of tensors, numbers, strings and containers of
these, which only the core writes to disk. A class is abstract or final.

Nothing here imports torch, so that listing and configuring components stays fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from attrs import Factory, field, frozen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from matplotlib.figure import Figure as MatplotlibFigure
    from torch import Tensor, nn

    from landscape.objective import Data, Landscape, Point, Population
    from landscape.store import SnapshotSpan
    from landscape.systems import ParametricFamily, PolynomialSystem, Solutions

__all__ = [
    "Backend",
    "Component",
    "Dataset",
    "Failure",
    "Figure",
    "InvertibleProjection",
    "LandscapeProjector",
    "Measurement",
    "Model",
    "PolynomialModel",
    "PopulationProbe",
    "Probe",
    "Projection",
    "Projector",
    "Receipt",
    "Schedule",
    "Solver",
    "Start",
    "StopRule",
    "Task",
    "Uncertainty",
    "Walker",
]

S = TypeVar("S")


class Component(ABC):
    """Anything that can be named in a configuration.

    Subclasses are frozen attrs classes. Their fields are their whole configuration, of types that JSON and
    TOML can say: numbers, strings, booleans, tuples and mappings of these, and other components.
    """

    #: Version of the meaning of the fields; raised when an old configuration no longer means the same.
    schema: ClassVar[int] = 1
    #: The papers to cite when this component was used.
    references: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def upgrade(cls, configuration: Mapping[str, Any], schema: int) -> Mapping[str, Any]:
        """Turn the fields written under an older `schema` into today's fields."""
        return configuration


# ---------------------------------------------------------------------------------------------------------
# Models and datasets
# ---------------------------------------------------------------------------------------------------------


class Model(Component):
    """A recipe for a module."""

    @abstractmethod
    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module.

        Parameters
        ----------
        example
            One batch of the training data, from which input and output sizes are read.
        generator
            The only source of randomness of the initialisation. The global random state is left alone.
        """


class PolynomialModel(Model):
    """A model whose loss is a polynomial in its weights, so that its critical points can be solved for."""

    @abstractmethod
    def family(self) -> ParametricFamily:
        """Return the gradient system as a family over data and regularisation."""


class Dataset(Component):
    """A recipe for data."""

    @abstractmethod
    def load(self, generator: torch.Generator) -> Mapping[str, Data]:
        """Return the splits by name; ``"train"`` is always among them, ``"test"`` where there is one."""


# ---------------------------------------------------------------------------------------------------------
# Measurements
# ---------------------------------------------------------------------------------------------------------


@frozen
class Uncertainty:
    """How far a number may be from the truth.

    Attributes
    ----------
    value
        In the unit of the number.
    kind
        ``"bound"``: the truth is certainly this near (in exact arithmetic); ``"standard error"``: one
        standard deviation of the estimator.
    """

    value: float
    kind: Literal["bound", "standard error"]


@frozen
class Measurement:
    """What a probe found.

    A quantity that could not be determined is NaN and has a line in `warnings`; it is never a number that
    looks right.

    Attributes
    ----------
    scalars
        Columns of the metrics table, by name.
    errors
        For some of the scalars, how far they may be off.
    arrays
        Whatever is too large for a column: a spectrum, a density. Stored beside the metrics.
    warnings
        Sentences for the reader of the numbers.
    carry
        Tensors for the same probe's next measurement on the same path (a warm start) and for other probes at
        the same point. Kept in memory and in ``resume/`` only.
    """

    scalars: Mapping[str, float] = Factory(dict)
    errors: Mapping[str, Uncertainty] = Factory(dict)
    arrays: Mapping[str, np.ndarray] = Factory(dict)
    warnings: tuple[str, ...] = ()
    carry: Mapping[str, Tensor] = Factory(dict)


class Probe(Component):
    """Measures something at one point of a landscape, and changes nothing."""

    @abstractmethod
    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Measure at `point`; draw only from `generator`, which is this measurement's own."""


class PopulationProbe(Component):
    """Measures something on a population of points at once, such as the distances between them."""

    @abstractmethod
    def measure(self, population: Population, generator: torch.Generator) -> Measurement:
        """Measure on `population`; draw only from `generator`, which is this measurement's own."""


# ---------------------------------------------------------------------------------------------------------
# Walkers
# ---------------------------------------------------------------------------------------------------------


class Walker(Component, Generic[S]):
    """Moves K points. All that changes is in the state S, a frozen attrs class; methods return a new one."""

    @property
    def workers(self) -> int:
        """How many points the walker moves when a run does not say otherwise."""
        return 1

    @abstractmethod
    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> S:
        """Return the state before the first step, at `positions` of shape (K, P)."""

    @abstractmethod
    def step(self, landscape: Landscape, state: S, *, active: Tensor | None = None) -> S:
        """Return the state after one update; `active`, bool of shape (K,), says which rows move."""

    @abstractmethod
    def positions(self, state: S) -> Tensor:
        """Return the workers' positions, shape (K, P)."""

    def labelled(self, state: S) -> Mapping[str, Tensor]:
        """Return further points worth measuring, each of shape (P,): a centre, an average."""
        return {}

    @abstractmethod
    def relocate(self, state: S, positions: Tensor) -> S:
        """Return the state with the workers moved to `positions`, all else unchanged."""

    def hyperparameters(self, state: S) -> Mapping[str, float | tuple[float, ...]]:
        """Return what :meth:`adjust` can change, with the values now in force; tuples are per worker."""
        return {}

    def record(self, state: S) -> Mapping[str, tuple[float, ...]]:
        """Return numbers of the walker's own for the metrics: one value per worker, by column.

        An acceptance rate, the step of an exit. They stand in the rows of the workers that were measured;
        NaN where there is no number yet.
        """
        return {}

    def adjust(self, state: S, **changes: float | tuple[float, ...]) -> S:
        """Return the state with hyper-parameters changed.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a name that is not in :meth:`hyperparameters`.
        """
        from landscape.errors import ConfigurationError

        raise ConfigurationError(
            f"{type(self).__name__} has no hyper-parameters that can be changed while it walks; "
            f"got {', '.join(sorted(changes))}."
        )


class Start(Component):
    """Says where the workers begin."""

    @abstractmethod
    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return where the walk begins.

        Parameters
        ----------
        landscape
            The landscape; ``landscape.initial()`` is its module's own initialisation, equal to ``draw(0)``.
        workers
            How many points.
        draw
            ``draw(i)`` builds the i-th independent initialisation of the model, shape (P,).

        Returns
        -------
        landscape, positions
            The landscape to walk on, with other buffers where the start brings some; and positions of shape
            (workers, P).
        """

    def facts(self) -> Mapping[str, Any]:
        """Return what the provenance of a run should say of the start: checksums of files, say."""
        return {}


class Schedule(Component):
    """Says which hyper-parameters change at which step."""

    @abstractmethod
    def changes(self, step: int) -> Mapping[str, float | tuple[float, ...]]:
        """Return the new values that hold from update `step` on; empty when nothing changes there."""


class StopRule(Component):
    """Ends a walk early."""

    @abstractmethod
    def reason(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Return why to stop, given the metric rows recorded so far (newest last), or None to go on."""

    def metrics(self) -> tuple[str, ...]:
        """Return the columns without which the rule never stops anything; an experiment must measure them."""
        return ()


# ---------------------------------------------------------------------------------------------------------
# Projections
# ---------------------------------------------------------------------------------------------------------


class Projection(ABC):
    """A fitted map from weight vectors to d coordinates. Final subclasses are frozen attrs classes."""

    @property
    @abstractmethod
    def coordinates(self) -> np.ndarray:
        """Coordinates of the snapshots it was fitted on, shape (T, d), float64."""

    @property
    @abstractmethod
    def axis_labels(self) -> tuple[str, ...]:
        """What stands at the axes, such as ``("PC 1 (61.0 %)", "PC 2 (20.3 %)")``."""

    @property
    @abstractmethod
    def quality(self) -> Mapping[str, float]:
        """How much of the truth the picture keeps: explained variance, trustworthiness and so on."""

    @abstractmethod
    def transform(self, coefficients: np.ndarray) -> np.ndarray:
        """Map further points to d coordinates.

        Parameters
        ----------
        coefficients
            Coordinates of the points in the orthonormal basis of the span, shape (K, r), as
            ``SnapshotSpan.reduce`` gives them.

        Returns
        -------
        numpy.ndarray
            Shape (K, d).
        """

    @abstractmethod
    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """Return everything the projection consists of, for the store."""


class InvertibleProjection(Projection):
    """A projection that leads back to weights, so that the true loss can be drawn under the map."""

    @abstractmethod
    def inverse(self, coordinates: np.ndarray) -> np.ndarray:
        """Map d coordinates, shape (G, d), to coordinates in the basis of the span, shape (G, r).

        ``SnapshotSpan.restore`` turns those into weight vectors.
        """


class Projector(Component):
    """Fits a projection to the snapshots of a run."""

    @abstractmethod
    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> Projection:
        """Fit to the snapshots of `span`; the order of snapshots is the order of its rows."""

    def fit_to(self, landscape: Landscape, span: SnapshotSpan, generator: torch.Generator) -> Projection:
        """Fit to the snapshots of `span`, which are points of `landscape`.

        Here the same as :meth:`fit`. A projector whose `quality` says more where the loss is known, such as how far
        the loss that the map shows is from that of the snapshots, says it here.
        """
        return self.fit(span, generator)


class LandscapeProjector(Projector):
    """A projector that looks at the loss as well, such as one of directions in which it bends most.

    ``Run.project`` calls :meth:`fit_to`.
    """

    @abstractmethod
    def fit_to(self, landscape: Landscape, span: SnapshotSpan, generator: torch.Generator) -> Projection:
        """Fit to the snapshots of `span` and to the landscape that they are points of."""

    def fit(self, span: SnapshotSpan, generator: torch.Generator) -> Projection:
        """Refuse, since the snapshots alone do not say what the loss is.

        Raises
        ------
        landscape.errors.ConfigurationError
            Always.
        """
        from landscape.errors import ConfigurationError

        raise ConfigurationError(
            f"{type(self).__name__} cannot be fitted to snapshots alone, it looks at their loss: call "
            f"fit_to(landscape, span, generator), or Run.project."
        )


# ---------------------------------------------------------------------------------------------------------
# Polynomial systems
# ---------------------------------------------------------------------------------------------------------


class Solver(Component):
    """Finds the isolated complex solutions of polynomial systems."""

    @abstractmethod
    def solve(self, system: PolynomialSystem, generator: torch.Generator) -> Solutions:
        """Find the isolated complex solutions of a square system."""

    def solve_family(
        self, family: ParametricFamily, parameters: np.ndarray, generator: torch.Generator
    ) -> Iterator[Solutions]:
        """Solve the members of a family, one after another, in the order of `parameters`.

        Parameters
        ----------
        family
            The family.
        parameters
            Shape (samples, number of parameters), real or complex.
        generator
            The only source of randomness.
        """
        for row in parameters:
            yield self.solve(family.system(row), generator)


# ---------------------------------------------------------------------------------------------------------
# Backends
# ---------------------------------------------------------------------------------------------------------


@frozen
class Task:
    """One independent shard of work: a pure function of its configuration, run into a store.

    Attributes
    ----------
    key
        Identifies the shard; the same configuration has the same key.
    configuration
        What is to be run, as plain JSON values: an experiment or critical-point study, or part of a surface of losses.
    store
        Directory under which the shard makes its run.
    trust
        Whether the configuration may import classes that are not registered components.
    """

    key: str
    configuration: Mapping[str, Any]
    store: str
    trust: bool = False


@frozen
class Receipt:
    """A finished task: the key, and where its run lies. Data stays in the store."""

    key: str
    run: str


@frozen
class Failure:
    """A task that ended in an error."""

    key: str
    error: str
    traceback: str = ""


class Backend(Component):
    """Where tasks run. Entered as a context manager by the core; never raises away finished results."""

    def open(self) -> None:
        """Acquire what the backend needs."""

    def close(self) -> None:
        """Give it back."""

    @abstractmethod
    def map(self, tasks: Iterable[Task]) -> Iterator[Receipt | Failure]:
        """Run the tasks; yield each outcome as it is known, in any order."""

    def __enter__(self) -> Backend:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# ---------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------


@frozen
class Figure:
    """A figure for the report of a run.

    Attributes
    ----------
    name
        File name without extension; also the anchor in the report.
    title
        Heading in the report.
    caption
        What the reader must know to read the figure: what was drawn, over what, how much it leaves out.
    figure
        The matplotlib figure.
    order
        Figures are shown in rising order; curves 10, maps 20, spectra 30, solutions 40 by convention.
    """

    name: str
    title: str
    caption: str
    figure: MatplotlibFigure = field(eq=False, repr=False)
    order: int = 50
