"""A run: what an experiment, a study or a recorder left on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.composition.configuration import from_tree
from landscape.errors import ConfigurationError, RunError
from landscape.randomness import derive_seed, label_of, preserved_random_state, torch_generator

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from landscape.composition.critical_point_study import CriticalPointStudy
    from landscape.composition.experiment import Experiment
    from landscape.interfaces import Projection, Projector
    from landscape.objective import Landscape
    from landscape.objective.engine import EngineChoice
    from landscape.store import RunDirectory, SnapshotSpan
    from landscape.systems import Solutions

__all__ = ["Run", "open_run"]


class Run:
    """What is on disk of an experiment, a critical-point study, a sweep, a study or a recorder.

    Runs come from ``.run()``, from :func:`landscape.open` and from :class:`landscape.RunStore`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        landscapes: Mapping[str, Landscape] | None = None,
        recipe: Any = None,
        trust: bool = False,
    ) -> None:
        self.directory = directory
        self._landscapes = dict(landscapes) if landscapes is not None else None
        self._recipe = recipe
        self._trust = trust
        self._projections: dict[Any, Projection] = {}

    def __repr__(self) -> str:
        return f"<Run {self.id} ({self.kind}, {self.status}) at {self.path}>"

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self.directory.path

    @property
    def id(self) -> str:
        """The name of its directory."""
        return self.directory.id

    @property
    def kind(self) -> str:
        """``"experiment"``, ``"critical-points"``, ``"sweep"``, ``"study"``, ``"losses"`` or ``"recorder"``."""
        return self.directory.kind

    @property
    def status(self) -> str:
        """``"running"``, ``"complete"``, ``"stopped"``, ``"failed"``, ``"interrupted"`` or ``"crashed"``."""
        return self.directory.status

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What ``config.json`` says."""
        return self.directory.configuration

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What ``provenance.json`` says."""
        return self.directory.provenance

    @property
    def recipe(self) -> Any:
        """The experiment or study that was run, built from ``config.json``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If it cannot be built: a component is not installed, or the run was made by a recorder.
        """
        if self._recipe is None:
            if self.kind == "recorder":
                raise ConfigurationError(
                    f"{self.path} was recorded inside somebody's own program; there is no recipe to run again."
                )
            self._recipe = from_tree(self.configuration, trust=self._trust)
        return self._recipe

    @property
    def experiment(self) -> Experiment:
        """The experiment that was run.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the run is of another kind.
        """
        self._require("experiment")
        return self.recipe  # type: ignore[no-any-return]

    @property
    def study(self) -> CriticalPointStudy:
        """The critical-point study that was run.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the run is of another kind.
        """
        self._require("critical-points")
        return self.recipe  # type: ignore[no-any-return]

    def _require(self, kind: str) -> None:
        if self.kind != kind:
            raise ConfigurationError(f"{self.path} is a run of kind {self.kind!r}, not {kind!r}.")

    def verify(self) -> list[str]:
        """Compare a closed run's files with its manifest; return a sentence for every one that differs."""
        return self.directory.verify() if (self.path / "MANIFEST.json").is_file() else []

    # -- what it holds ------------------------------------------------------------------------------------

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per (step, worker), one column per scalar."""
        return self.directory.metrics

    def arrays(self, probe: str) -> Sequence[Mapping[str, Any]]:
        """Return what a probe stored besides scalars, by the probe's name or label.

        Each entry has ``step``, ``worker`` and the arrays by name.
        """
        return self.directory.arrays(probe)

    @property
    def changes(self) -> pd.DataFrame:
        """Every change of a hyper-parameter while it ran: columns step, name and value."""
        return self.directory.changes()

    def best(self) -> tuple[Tensor, Mapping[str, Any]]:
        """Return the best weights, shape (P,), and ``{"step", "worker", "metric", "value"}``.

        Raises
        ------
        landscape.errors.ConfigurationError
            If the experiment did not ask for them.
        """
        found = self.directory.best()
        if found is None:
            raise ConfigurationError(
                f"{self.path} kept no best weights; ask for them with Experiment(..., best='loss_test')."
            )
        snapshot, facts = found
        return snapshot.weights(facts["worker"]), facts

    @property
    def solutions(self) -> list[Solutions]:
        """The solutions of every sample of a critical-point study."""
        from landscape.systems import Solutions

        return [Solutions.from_arrays(arrays, metadata) for arrays, metadata in self.directory.solutions()]

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Tables by name, as they stand in ``tables/``."""
        return self.directory.tables()

    @property
    def stages(self) -> Mapping[str, Run]:
        """The runs of a study's stages, in their order, or of a sweep's members, by name."""
        from landscape.store import RunStore

        paths = self.directory.children()
        if self.kind == "study":
            names = [stage["name"] for stage in self.configuration["study"]["stages"]]
            paths = {name: paths[name] for name in names if name in paths}
        return {
            name: Run(RunStore(path.parent).open(path.name), trust=self._trust)
            for name, path in paths.items()
        }

    def summary(self) -> pd.DataFrame:
        """Return the table that says most: a row per sample, per member, per stage, or the last metrics."""
        for name in ("summary", "members", "stages"):
            if name in self.tables:
                return self.tables[name]
        metrics = self.metrics
        if not len(metrics):
            return metrics
        # Copied into one block, or pandas warns of every column that is put beside a hundred others.
        return metrics.groupby("worker", sort=False).last().copy().reset_index()

    def span(self, part: str | tuple[str, ...] | None = None, workers: Any = None) -> SnapshotSpan:
        """Return the affine span of the recorded weights.

        Parameters
        ----------
        part
            Pattern or patterns of parameter names: only these coordinates.
        workers
            Labels of the points to take; all by default.
        """
        return self.directory.span(part=part, workers=workers)

    def splits(self) -> Mapping[str, Landscape]:
        """Return the landscapes of all splits of the data, built anew from the recipe if need be."""
        if self._landscapes is None:
            landscapes = self.experiment.landscapes()
            snapshots = self.directory.snapshots()
            buffers = snapshots[-1].buffers() if snapshots else {}
            if buffers:
                landscapes = {name: split.with_buffers(buffers) for name, split in landscapes.items()}
            self._landscapes = landscapes
        return self._landscapes

    @property
    def built_landscapes(self) -> Mapping[str, Landscape] | None:
        """The landscapes if they were built already, else None."""
        return self._landscapes

    def landscape(self, split: str = "train") -> Landscape:
        """Return the landscape that was walked on, or the same weights' loss on another split."""
        splits = self.splits()
        if split not in splits:
            raise ConfigurationError(f"{split!r}: the data has the splits {', '.join(splits)}.")
        return splits[split]

    def measure(
        self,
        probes: Iterable[Any],
        *,
        steps: Iterable[int] | None = None,
        restrict: str | Iterable[str] | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Measure probes at the recorded weights, as if they had been part of the experiment.

        The run itself is left as it is.

        Parameters
        ----------
        probes
            Probes, or their names.
        steps
            Steps of the snapshots to measure at; all by default.
        restrict
            Pattern or patterns of parameter names: only these vary. For runs of one worker.
        seed
            Of the probes' own generators; that of the experiment by default, with which a probe draws what it
            would have drawn in the run.

        Returns
        -------
        pandas.DataFrame
            A row per snapshot and point with the columns ``step``, ``worker`` and one per scalar.

        Raises
        ------
        landscape.errors.ConfigurationError
            For no probes, steps without a snapshot, and runs that are no experiment.
        KeyboardInterrupt
            For Ctrl-C; its ``table`` holds the rows measured by then, its ``missing`` names the other steps.
        """
        from landscape.composition.measuring import measure_run

        return measure_run(self, probes, steps=steps, restrict=restrict, seed=seed)

    # -- projections --------------------------------------------------------------------------------------

    @property
    def projectors(self) -> tuple[Projector, ...]:
        """The projectors of the experiment; none for other kinds of run."""
        return self.experiment.projectors if self.kind == "experiment" else ()

    def named_projectors(self) -> dict[str, Projector]:
        """Return the projectors by a name fit for files: the class, numbered where it occurs twice."""
        names: dict[str, Projector] = {}
        for projector in self.projectors:
            name = base = type(projector).__name__
            count = 1
            while name in names:
                count += 1
                name = f"{base}_{count}"
            names[name] = projector
        return names

    def project(
        self, projector: Projector, part: str | tuple[str, ...] | None = None, *, loss: bool = False
    ) -> Projection:
        """Fit `projector` to the recorded weights.

        Parameters
        ----------
        projector
            A projector.
        part
            Pattern or patterns of parameter names: only these coordinates.
        loss
            Whether `quality` also says what takes losses to find out: how far the loss that the map shows at the
            snapshots is from theirs. That costs some two losses per snapshot, and is not to be had for a part.

        Raises
        ------
        landscape.errors.ConfigurationError
            For what is no projector, snapshots that it cannot be fitted to, or `loss` together with a part.
        """
        from landscape.interfaces import LandscapeProjector, Projector

        if not isinstance(projector, Projector):
            raise ConfigurationError(
                f"projector={projector!r} is no projector; give an instance of one, such as "
                "landscape.projectors.PCA()."
            )
        if loss and part is not None:
            raise ConfigurationError(
                f"project(part={part!r}, loss=True): a part of the network has no loss of its own. Leave out one of "
                "the two."
            )
        # Of equal projectors, one of 2 and one of 2.0 say, every one gives the same picture.
        name = label_of(projector)
        key = (f"{type(projector).__module__}:{name}", part, loss)
        if key not in self._projections:
            seed = self.experiment.seed if self.kind == "experiment" else 0
            label = ("projector", name)
            with preserved_random_state(derive_seed(seed, *label, "global")):
                span, generator = self.span(part), torch_generator(seed, *label)
                if loss or isinstance(projector, LandscapeProjector):
                    self._projections[key] = projector.fit_to(self.landscape(), span, generator)
                else:
                    self._projections[key] = projector.fit(span, generator)
        return self._projections[key]

    def path_table(self, projector: Projector) -> pd.DataFrame:
        """Return step, worker and coordinates of every snapshot under `projector`."""
        import pandas as pd

        projection = self.project(projector)
        rows = self.span().rows.reset_index(drop=True)
        coordinates: np.ndarray = projection.coordinates
        names = [f"x{axis + 1}" for axis in range(coordinates.shape[1])]
        return pd.concat([rows, pd.DataFrame(coordinates, columns=names)], axis=1)

    # -- what can be done with it -------------------------------------------------------------------------

    def report(self) -> Path:
        """Write ``report.html``, one self-contained page, and return its path."""
        from landscape import report
        from landscape.composition.conduct import torch_threads

        with torch_threads(self._threads()):
            return report.write(self)

    def _threads(self) -> int:
        """Return with how many threads the run was computed, the most of its stages for a study."""
        import torch

        recorded = [run.provenance.get("threads") for run in (self, *self.stages.values())]
        if self.kind == "study":
            recorded = recorded[1:]
        return max((int(count) for count in recorded if count), default=torch.get_num_threads())

    def resume(self, **options: Any) -> Run:
        """Go on where the run was interrupted or failed.

        A run that is complete, or that a stop rule ended, is returned as it is.

        Raises
        ------
        landscape.errors.RunError
            If another process is at work on it, or it cannot be resumed.
        """
        if self.status in ("complete", "stopped"):
            return self
        if self.kind == "experiment":
            from landscape.composition.running import resume_experiment

            return resume_experiment(self, **options)
        if self.kind == "recorder":
            raise RunError(
                f"{self.path} was recorded inside somebody's own program; start that program again with "
                f"Recorder(..., store={str(self.path.parent)!r}, run={self.id!r})."
            )
        return self.recipe.resume(self)  # type: ignore[no-any-return]

    @property
    def engine_choices(self) -> tuple[EngineChoice, ...]:
        """Which engine served which kind of call from which update on (:mod:`landscape.objective.engine`).

        Raises
        ------
        landscape.errors.RunError
            If this version does not have one of them.
        """
        from landscape.objective.engine import EngineChoice

        engine = self.provenance.get("engine", "loop")
        if engine not in ("loop", "traced"):
            raise RunError(
                f"{self.path} was computed by the engine {engine!r}; this version has 'loop' and 'traced'."
            )
        return tuple(EngineChoice.from_plain(plain) for plain in self.provenance.get("engine_choices", ()))

    def replicate(self, store: str | os.PathLike[str] | None = None, *, run_id: str | None = None) -> Run:
        """Run the same recipe again, from the run's own files, into a new run beside this one.

        Engines that were chosen by timing are not chosen anew: the record says which served from which step on.

        Parameters
        ----------
        store
            Directory of runs; that of this run by default.
        run_id
            Name of the new run's directory; made from the time by default.

        Raises
        ------
        landscape.errors.RunError
            If the run said when it started that it cannot be replicated.
        """
        from landscape.composition.conduct import default_store

        obstacles = self.provenance.get("obstacles", [])
        if obstacles and not self._trust:
            raise RunError(f"{self.path} cannot be replicated: {' '.join(obstacles)}")
        recipe = from_tree(self.configuration, trust=self._trust)
        place = default_store(store) if store is not None else self.path.parent
        if self.kind in ("study", "sweep"):
            return recipe.run(store=place, run_id=run_id, like=self)  # type: ignore[no-any-return]
        if self.kind != "experiment":
            return recipe.run(store=place, run_id=run_id)  # type: ignore[no-any-return]
        from landscape.composition.conduct import refuse_unless_same_data
        from landscape.composition.running import run_experiment
        from landscape.composition.schedules import At

        # What somebody changed by hand while it ran becomes a schedule.
        by_hand = tuple(At(step, values) for step, values in self.directory.changes_by_hand())
        return run_experiment(
            recipe.replace(schedule=(*recipe.schedule, *by_hand)),
            place,
            run_id=run_id,
            facts={"replicates": self.id},
            engines=self.engine_choices,
            fingerprints=lambda found: refuse_unless_same_data(self, found, "replicating"),
        )


def open_run(path: str | os.PathLike[str], *, trust: bool = False) -> Run:
    """Open a run.

    Parameters
    ----------
    path
        Its directory; or its name, or the beginning of its name, in the default store.
    trust
        Whether its configuration may import classes that are not registered components.

    Raises
    ------
    landscape.errors.RunError
        If there is no such run.
    """
    from landscape.composition.conduct import default_store
    from landscape.store import RunStore
    from landscape.store.files import explained, path_of

    place = path_of(path, "path")
    with explained(place, "open"):
        found = place.is_dir()
    if found:
        place = place.resolve()
        return Run(RunStore(place.parent).open(place.name), trust=trust)
    root = place.parent if place.parent != Path() else default_store(None)
    return Run(RunStore(root).open(place.name), trust=trust)
