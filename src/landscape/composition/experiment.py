"""An experiment: model, data, walker, probes, schedule and seed as one frozen value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
from attrs import evolve, field, frozen

from landscape.composition import starts
from landscape.composition.best import Best
from landscape.composition.every import Every, schedule_probes
from landscape.composition.starts import Fresh
from landscape.errors import ConfigurationError, nearest
from landscape.interfaces import (
    Backend,
    Dataset,
    Model,
    Projector,
    Schedule,
    Start,
    StopRule,
    Walker,
)
from landscape.plugins import registry
from landscape.plugins.entry import infer_kind
from landscape.randomness import derive_seed, preserved_random_state, torch_generator
from landscape.validators import at_least, is_whole, of_type, one_of, optional, whole

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor, nn

    from landscape.composition.run import Run
    from landscape.composition.walk import Walk
    from landscape.objective import Data, Landscape
    from landscape.objective.engine import EngineChoice

__all__ = ["Experiment"]

# How many measurements and snapshots an experiment makes where it does not say.
_DEFAULT_RECORDS = 50
# Models read their sizes off an example of the data: all of it where it is in memory, else this many rows.
_EXAMPLE_ROWS = 10_000


def _tuple(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(value)
    return (value,)


def _example(data: Data) -> Any:
    """Return a batch that a model can read its sizes off: the number of classes, above all."""
    return data.first(_EXAMPLE_ROWS) if data.draws else data.everything()


def _component(kind: type) -> Any:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        for entry in value if isinstance(value, tuple) else (value,):
            if not isinstance(entry, kind):
                namespace = infer_kind(kind)
                raise ConfigurationError(
                    f"{attribute.name}: {entry!r} is not a {kind.__name__}; give an instance of one, such as "
                    f"those of `landscape.{namespace}`.{nearest(entry, registry.names(namespace))}"
                )

    return check


def _require_device(device: str) -> None:
    """Raise unless torch can compute there.

    Raises
    ------
    landscape.errors.ConfigurationError
        With what torch says, and what there is.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"device={device!r} cannot be used here ({reason}); there is {', '.join(there)}."
        ) from error


def _steps(steps: Any) -> tuple[int, ...]:
    """Return steps at which to pause, one or several.

    Raises
    ------
    landscape.errors.ConfigurationError
        For what is no step.
    """
    several = tuple(steps) if isinstance(steps, Iterable) and not isinstance(steps, str) else (steps,)
    for step in several:
        if not is_whole(step) or step < 0:
            raise ConfigurationError(f"pause_at={steps!r}: give steps, whole numbers from 0 on.")
    return several


def _metric(instance: Any, attribute: Any, value: str | None) -> None:
    Best.parse(value)


@frozen
class Experiment:
    """What to do, as one value that can be compared, written to a file, run, resumed and replicated.

    Attributes
    ----------
    model
        Recipe for the module.
    dataset
        Recipe for the data; its ``"train"`` split makes the landscape.
    walker
        What moves, and how.
    loss
        ``"cross_entropy"``, ``"mse"``, or ``"model"`` for a module that returns its own loss; see
        :class:`landscape.Landscape`.
    start
        Where the workers begin.
    probes
        What is measured: probes, their names, or ``Every(steps, probe)``.
    projectors
        Projections of the weight path that the report draws.
    steps
        Number of updates.
    snapshots
        Weights are recorded every so many steps, and at the last one; the run can be resumed from there. None:
        about fifty times. 0: only the last.
    schedule
        Changes of hyper-parameters.
    stop
        Rules that end the walk early.
    best
        A metric whose best point so far is kept with its weights: ``"loss_test"``, the lowest, or
        ``"score_test:max"``, the highest. See :meth:`landscape.Run.best`.
    seed
        The one seed: initialisation, data order, noise and probes each have a generator derived from it.
    dtype
        Of weights and data.
    device
        As torch names it.
    engine
        How gradients of several workers are computed: ``"loop"``, ``"traced"``, or ``"auto"``, whichever is
        found faster on the way (:mod:`landscape.objective.engine`). What was found is in the provenance of the
        run; resuming and replicating reuse it. With ``"loop"`` the seed alone fixes the bits of fresh runs, too.
    threads
        Threads of torch while the experiment runs. Bits are promised for the same number of threads.
    name
        Stands in the report and in tables.
    """

    model: Model = field(validator=_component(Model))
    dataset: Dataset = field(validator=_component(Dataset))
    walker: Walker = field(validator=_component(Walker))  # type: ignore[type-arg]
    loss: str = field(default="cross_entropy", kw_only=True, validator=of_type(str, "the name of a loss"))
    start: Start = field(factory=Fresh, kw_only=True, validator=_component(Start))
    probes: tuple[Every, ...] = field(default=(), kw_only=True, converter=schedule_probes)
    projectors: tuple[Projector, ...] = field(
        default=(), kw_only=True, converter=_tuple, validator=_component(Projector)
    )
    steps: int = field(default=1000, kw_only=True, validator=at_least(1))
    snapshots: int | None = field(default=None, kw_only=True, validator=optional(at_least(0)))
    schedule: tuple[Schedule, ...] = field(
        default=(), kw_only=True, converter=_tuple, validator=_component(Schedule)
    )
    stop: tuple[StopRule, ...] = field(
        default=(), kw_only=True, converter=_tuple, validator=_component(StopRule)
    )
    best: str | None = field(default=None, kw_only=True, validator=_metric)
    seed: int = field(default=0, kw_only=True, validator=whole)
    dtype: Literal["float32", "float64"] = field(
        default="float32", kw_only=True, validator=one_of(("float32", "float64"))
    )
    device: str = field(default="cpu", kw_only=True, validator=of_type(str))
    engine: Literal["auto", "loop", "traced"] = field(
        default="auto", kw_only=True, validator=one_of(("auto", "loop", "traced"))
    )
    threads: int = field(default=1, kw_only=True, validator=at_least(1))
    name: str | None = field(default=None, kw_only=True, validator=optional(of_type(str)))

    @property
    def default_interval(self) -> int:
        """Steps between measurements, and between snapshots, where nothing else is said."""
        return max(1, -(-self.steps // _DEFAULT_RECORDS))

    def landscapes(self) -> dict[str, Landscape]:
        """Build the landscape of every split of the data; ``"train"`` is the one that is walked on.

        All share one module, initialised from the experiment's seed.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the data has no ``"train"`` split, or the loss is not known.
        """
        import torch

        from landscape.objective import Landscape, as_data

        _require_device(self.device)
        with preserved_random_state(derive_seed(self.seed, "dataset", "global")):
            splits = self.dataset.load(torch_generator(self.seed, "dataset"))
        loaded = {name: as_data(data) for name, data in splits.items()}
        if "train" not in loaded:
            raise ConfigurationError(
                f"dataset: {type(self.dataset).__name__} gave the splits {', '.join(loaded) or 'none'}; "
                "one of them must be called 'train'."
            )
        train = loaded["train"]
        module = self._build(train, 0)
        landscape = Landscape(
            module,
            self.loss,
            train,
            device=self.device,
            dtype=getattr(torch, self.dtype),
            engine=self.engine,
        )
        return {name: landscape if name == "train" else landscape.on(data) for name, data in loaded.items()}

    def _build(self, train: Data, index: int) -> nn.Module:
        """Build the module of the `index`-th independent initialisation."""
        # A model may draw from the global states by mistake: then it is repeatable all the same.
        with preserved_random_state(derive_seed(self.seed, "initialisation", index, "global")):
            return self.model.build(_example(train), torch_generator(self.seed, "initialisation", index))

    def walk(
        self,
        landscapes: Mapping[str, Landscape] | None = None,
        *,
        engines: Iterable[EngineChoice] | None = None,
    ) -> Walk:
        """Return the experiment's walk before its first step, to go through it by hand.

        Parameters
        ----------
        landscapes
            What :meth:`landscapes` returned, if it was called before.
        engines
            See :class:`landscape.Walk`.
        """
        from landscape.composition.walk import Walk

        landscapes = dict(landscapes) if landscapes is not None else self.landscapes()
        landscape = landscapes["train"]

        def draw(index: int) -> Tensor:
            if index == 0:
                return landscape.initial()
            module = self._build(landscape.data, index)
            return landscape.layout.vector(module).to(landscape.device, landscape.dtype)

        place, start = self.start.begin(landscape, self.walker.workers, draw)
        return Walk(place, self.walker, seed=self.seed, start=start, splits=landscapes, engines=engines)

    def run(
        self,
        store: str | PathLike[str] | None = None,
        backend: Backend | str | None = None,
        *,
        run_id: str | None = None,
        pause_at: Iterable[int] = (),
    ) -> Run:
        """Carry the experiment out and record it.

        Parameters
        ----------
        store
            Directory of runs; the environment's ``LANDSCAPE_STORE``, or ``runs``, by default.
        backend
            Where to run, or the name of a backend; in this process by default.
        run_id
            Name of the run's directory; made from the time by default.
        pause_at
            Steps at which to stop and ask, on the terminal, for new hyper-parameters.

        Returns
        -------
        Run
            What it left on disk.

        Raises
        ------
        landscape.errors.LandscapeError
            Whatever stands in the way; what was recorded until then can be read and resumed.
        KeyboardInterrupt
            On Ctrl-C, after the run was closed as interrupted.
        """
        from landscape.composition.running import run_experiment
        from landscape.composition.shipping import run_on

        pause_at = _steps(pause_at)
        if backend is not None:
            if run_id is not None or pause_at:
                raise ConfigurationError(
                    "run_id and pause_at are for runs in this process; leave them out where a backend runs."
                )
            return run_on(backend, self, store)
        return run_experiment(self, store, run_id=run_id, pause_at=pause_at)

    def replace(self, **changes: Any) -> Experiment:
        """Return the same experiment with some fields changed.

        Raises
        ------
        landscape.errors.ConfigurationError
            For a name that is no field, and for values that the fields refuse.
        """
        known = [attribute.name for attribute in attrs.fields(Experiment)]
        for name in changes:
            if name not in known:
                raise ConfigurationError(
                    f"An experiment has no field {name!r}.{nearest(name, known)} Its fields are {', '.join(known)}."
                )
        return evolve(self, **changes)


# A start may hold an experiment, and an experiment holds a start: this annotation can be resolved only now.
attrs.resolve_types(starts.PreTrained, {"ClassVar": ClassVar} | vars(starts) | {"Experiment": Experiment})
