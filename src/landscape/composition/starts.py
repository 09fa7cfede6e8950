"""Where the workers begin."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from landscape.composition.checkpoints import placed, read_checkpoint, transferred
from landscape.errors import ConfigurationError, DataError, RunError
from landscape.interfaces import Start
from landscape.validators import at_least, of_type, one_of, optional

if TYPE_CHECKING:
    from torch import Tensor

    from landscape.composition.experiment import Experiment
    from landscape.objective import Landscape
    from landscape.store.records import Snapshot

__all__ = ["Fresh", "FromFile", "FromRun", "PreTrained"]


@frozen
class Fresh(Start):
    """The model's own initialisation.

    Attributes
    ----------
    identical
        Whether all workers begin at the same point, as elastic averaging and replicated descent have it, or
        each at an independent draw.
    """

    identical: bool = True

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape as it is, and positions of shape (workers, P)."""
        import torch

        if self.identical:
            return landscape, landscape.initial().expand(workers, -1).clone()
        return landscape, torch.stack([draw(i) for i in range(workers)])


@frozen
class FromFile(Start):
    """Weights and buffers from a checkpoint: every worker begins there.

    Attributes
    ----------
    path
        A ``.safetensors`` file, or a file that ``torch.load(weights_only=True)`` reads, with a state
        dictionary of the model.
    fit
        ``"exact"``: the file has the parameters and buffers of the model. ``"partial"``: parameters of the same
        name and shape are taken, the rest keeps the model's own initialisation and is reported in a warning;
        buffers are the model's own.
    """

    path: str = field(validator=of_type(str, "the path of a file"))
    fit: Literal["exact", "partial"] = field(default="exact", validator=one_of(("exact", "partial")))

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape with the file's buffers, and positions of shape (workers, P).

        Raises
        ------
        landscape.errors.DataError
            If the file cannot be read or its tensors do not fit the model: with ``fit="partial"``, none of them.
        """
        try:
            state = read_checkpoint(Path(self.path))
            if self.fit == "partial":
                there, theta = landscape, _reported(landscape, state, draw(0))
            else:
                there, theta = placed(landscape, state)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        return there, theta.expand(workers, -1).clone()

    def facts(self) -> Mapping[str, Any]:
        """Return the checksum of the file."""
        return {"file": self.path, "sha256": hashlib.sha256(Path(self.path).read_bytes()).hexdigest()}


@frozen
class FromRun(Start):
    """Weights from a snapshot of another run.

    Attributes
    ----------
    run
        The run's directory; or its name, or the beginning of its name, in the default store.
    worker
        Label of the point to begin at, such as ``"0"`` or ``"centre"``; None: worker i begins where worker i
        of the run was.
    step
        The snapshot's step; the last one by default.
    fit
        ``"exact"``: the run's network has the same parameters and shapes. ``"partial"``: what has the same
        name and shape is taken, the rest keeps the model's own initialisation and is reported in a warning.
    """

    run: str = field(validator=of_type(str, "the path or name of a run"))
    worker: str | None = field(
        default="0", validator=optional(of_type(str, "a label such as '0' or 'centre'"))
    )
    step: int | None = field(default=None, validator=optional(at_least(0)))
    fit: Literal["exact", "partial"] = field(default="exact", validator=one_of(("exact", "partial")))

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape with the snapshot's buffers, and positions of shape (workers, P).

        Raises
        ------
        landscape.errors.RunError
            If there is no such run, snapshot or worker.
        landscape.errors.DataError
            If the weights do not fit.
        """
        import torch

        snapshot = self._snapshot()
        rows = []
        there = landscape
        for index in range(workers):
            label = str(index) if self.worker is None else self.worker
            there, theta = _from_snapshot(landscape, snapshot, label, self.fit, draw(0))
            rows.append(theta)
        return there, torch.stack(rows)

    def _snapshot(self) -> Snapshot:
        from landscape.composition.run import open_run

        run = open_run(self.run)
        snapshots = run.directory.snapshots()
        found = [s for s in snapshots if self.step is None or s.step == self.step]
        if not found:
            steps = ", ".join(str(s.step) for s in snapshots) or "none"
            raise RunError(f"{run.path} has no snapshot of step {self.step}; it has {steps}.")
        return found[-1]

    def facts(self) -> Mapping[str, Any]:
        """Return which snapshot it is, and its checksum."""
        snapshot = self._snapshot()
        return {"run": self.run, "step": snapshot.step, "sha256": snapshot.sha256}


def _from_snapshot(
    landscape: Landscape, snapshot: Snapshot, label: str, fit: str, own: Tensor
) -> tuple[Landscape, Tensor]:
    from landscape.store.layout import rich_layout

    layout = rich_layout(snapshot.layout or ())
    state = layout.state_dict(snapshot.weights(label)) | snapshot.rest()
    if fit == "exact":
        return placed(landscape, state | snapshot.buffers(label))
    return landscape, _reported(landscape, state, own)


def _reported(landscape: Landscape, state: Mapping[str, Tensor], own: Tensor) -> Tensor:
    """Take over what fits, and warn of what is left."""
    theta, left = transferred(landscape, state, own)
    if left:
        warnings.warn(
            f"Left at the model's own initialisation: {'; '.join(left)}.", UserWarning, stacklevel=2
        )
    return theta


@frozen
class PreTrained(Start):
    """Weights that were trained on other data first, as in transfer from OMNIGLOT to MNIST.

    The given experiment is carried out in memory, without probes and without a record, each time that the
    start is needed; what has the same name and shape in the model at hand is taken from where it ended, and
    the rest keeps the model's own initialisation and is reported in a warning.

    Attributes
    ----------
    experiment
        What to train first: any experiment.
    worker
        Label of the point of that experiment to take, such as ``"0"`` or ``"centre"``.
    """

    experiment: Experiment = field()
    worker: str = field(default="0", validator=of_type(str, "a label such as '0' or 'centre'"))

    @experiment.validator
    def _check(self, attribute: Any, value: Any) -> None:
        from landscape.composition.experiment import Experiment

        if not isinstance(value, Experiment):
            raise ConfigurationError(f"PreTrained: experiment={value!r} is not an Experiment.")

    def begin(
        self, landscape: Landscape, workers: int, draw: Callable[[int], Tensor]
    ) -> tuple[Landscape, Tensor]:
        """Return the landscape as it is, and positions of shape (workers, P).

        Raises
        ------
        landscape.errors.DataError
            If nothing of the trained network fits.
        landscape.errors.ConfigurationError
            If the experiment has no point called `worker`.
        """
        from landscape.composition.progress import stage

        walk = self.experiment.walk()
        with stage("Training on other data first", self.experiment.steps) as progress:
            for population in walk.steps(self.experiment.steps):
                for schedule in self.experiment.schedule:
                    values = schedule.changes(population.step)
                    if values:
                        walk.adjust(**values)
                progress.advance()
        points = {point.worker: point.theta for point in walk.population().points}
        if self.worker not in points:
            raise ConfigurationError(
                f"PreTrained: worker={self.worker!r} is no point of the experiment; it has {', '.join(points)}."
            )
        state = walk.landscape.layout.state_dict(points[self.worker])
        return landscape, _reported(landscape, state, draw(0)).expand(workers, -1).clone()
