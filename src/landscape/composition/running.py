"""Carrying out an experiment: walk, measure, record; and going on where it stopped."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.composition.best import Best
from landscape.composition.configuration import to_tree
from landscape.composition.probing import Prober, rows_of
from landscape.composition.progress import Stage, stage
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.composition.trees import plain
from landscape.errors import ConfigurationError, NonFiniteLossError, RunError
from landscape.plugins import RunHooks
from landscape.store import RunStore

if TYPE_CHECKING:
    from landscape.composition.experiment import Experiment
    from landscape.composition.walk import Walk
    from landscape.store import RunDirectory

__all__ = ["default_store", "record_measurements", "resume_experiment", "run_experiment"]

ENGINE = "loop"


def default_store(store: str | os.PathLike[str] | None) -> Path:
    """Return the directory of runs: the one given, else ``LANDSCAPE_STORE``, else ``runs``."""
    return Path(store if store is not None else os.environ.get("LANDSCAPE_STORE") or "runs")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads while the context lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_experiment(
    experiment: Experiment,
    store: str | os.PathLike[str] | None,
    *,
    run_id: str | None = None,
    pause_at: Sequence[int] = (),
) -> Run:
    """Carry out `experiment` in this process; see :meth:`landscape.Experiment.run`."""
    with torch_threads(experiment.threads):
        landscapes = experiment.landscapes()
        walk = experiment.walk(landscapes)
        provenance = gather(
            experiment,
            data={name: landscape.data.fingerprint() for name, landscape in landscapes.items()},
            engine=ENGINE,
            device=experiment.device,
            threads=experiment.threads,
        )
        runs = RunStore(default_store(store))
        runs.ensure_space(_bytes_of_snapshots(experiment, walk))
        directory = runs.create(to_tree(experiment), provenance, kind="experiment", run_id=run_id)
        run = Run(directory, landscapes=landscapes, recipe=experiment)
        _announce(provenance)
        return _carry_out(experiment, walk, run, pause_at, recorded=False)


def resume_experiment(run: Run, *, pause_at: Sequence[int] = ()) -> Run:
    """Go on with an experiment that stopped before its last step.

    Raises
    ------
    landscape.errors.RunError
        If it was computed by an engine that this version does not have.
    """
    experiment = run.experiment
    engine = run.provenance.get("engine")
    if engine != ENGINE:
        raise RunError(f"{run.path} was computed by the engine {engine!r}; this version has {ENGINE!r}.")
    with torch_threads(experiment.threads):
        landscapes = experiment.landscapes()
        for name, fingerprint in run.provenance.get("data", {}).items():
            if landscapes[name].data.fingerprint() != fingerprint:
                raise RunError(
                    f"{run.path}: the {name} data is no longer what the run was started on; resuming would mix "
                    "two data sets. Start a new run, or bring the old data back."
                )
        walk = experiment.walk(landscapes)
        prober = _prober(experiment)
        directory = run.directory.reopen()
        run = Run(directory, landscapes=landscapes, recipe=experiment)
        best = Best.parse(experiment.best)
        template: dict[str, Any] = {"walk": walk.snapshot(), "prober": prober.snapshot(), "best": best}
        found = directory.latest_resume(template)
        if found is None:
            directory.begin_attempt(-1)
            return _carry_out(experiment, walk, run, pause_at, recorded=False)
        step, state = found
        walk.restore(state["walk"])
        prober.restore(state["prober"], walk.population())
        directory.begin_attempt(step)
        return _carry_out(experiment, walk, run, pause_at, recorded=True, prober=prober, best=state["best"])


def _prober(experiment: Experiment) -> Prober:
    return Prober(experiment.probes, experiment.default_interval)


def _bytes_of_snapshots(experiment: Experiment, walk: Walk) -> int:
    interval = experiment.default_interval if experiment.snapshots is None else experiment.snapshots
    count = 1 + (experiment.steps // interval if interval else 0)
    points = len(walk.initial)
    # Two resumable states hold the walker's own memory too; three vectors a worker covers Adam.
    return walk.landscape.size * walk.positions.element_size() * points * (count + 2 * 4)


def _announce(provenance: Mapping[str, Any]) -> None:
    import warnings

    for obstacle in provenance.get("obstacles", ()):
        warnings.warn(
            f"This run cannot be replicated from its own files: {obstacle}", UserWarning, stacklevel=4
        )


def record_measurements(
    directory: RunDirectory | None,
    hooks: RunHooks | None,
    found: Sequence[Any],
    recorded: Mapping[str, Sequence[float]] | None = None,
) -> list[dict[str, Any]]:
    """Write what the probes found and the walker recorded; return the rows."""
    rows = rows_of(found, recorded)
    if directory is not None:
        for row in rows:
            directory.write_row(row)
        for entry in found:
            if entry.measurement.arrays:
                directory.write_arrays(entry.name, entry.step, entry.worker, entry.measurement.arrays)
    if hooks is not None:
        for entry in found:
            hooks.measured(entry.step, entry.measurement, entry.worker)
    return rows


def _carry_out(
    experiment: Experiment,
    walk: Walk,
    run: Run,
    pause_at: Sequence[int],
    *,
    recorded: bool,
    prober: Prober | None = None,
    best: Best | None = None,
) -> Run:
    directory = run.directory
    best = best or Best.parse(experiment.best)
    hooks = RunHooks(run)
    hooks.started()
    extra = hooks.provenance()
    if extra:
        directory.add_provenance(extra)
    error: BaseException | None = None
    try:
        reason = _Session(experiment, walk, run, hooks, prober or _prober(experiment), best, pause_at).go(
            recorded
        )
        _project(experiment, run)
        directory.close("stopped" if reason else "complete", reason)
    except KeyboardInterrupt as interrupt:
        error = interrupt
        directory.close("interrupted", f"interrupted at step {walk.step}")
        raise
    except BaseException as failure:
        error = failure
        directory.close("failed", f"{type(failure).__name__}: {failure}")
        raise
    finally:
        hooks.finished(error)
    return run


class _Session:
    """One stretch of an experiment, from its start or from where it was resumed to its end."""

    def __init__(
        self,
        experiment: Experiment,
        walk: Walk,
        run: Run,
        hooks: RunHooks,
        prober: Prober,
        best: Best,
        pause_at: Sequence[int],
    ) -> None:
        self.experiment = experiment
        self.walk = walk
        self.directory = run.directory
        self.hooks = hooks
        self.prober = prober
        self.best = best
        self.pause_at = pause_at
        self.rows = self.directory.rows()
        self.interval = experiment.default_interval if experiment.snapshots is None else experiment.snapshots

    def go(self, recorded: bool) -> str | None:
        """Walk to the end; return why it ended early, if it did.

        Parameters
        ----------
        recorded
            Whether the present step was measured and recorded before.
        """
        experiment, walk, last = self.experiment, self.walk, self.experiment.steps
        title = (
            experiment.name or f"{type(experiment.walker).__name__} on {type(experiment.dataset).__name__}"
        )
        with stage(title, last, done=walk.step) as progress:
            while True:
                reason = None if recorded else self._observe(progress)
                recorded = False
                if walk.step >= last or reason:
                    return reason
                walk.advance()
                self.hooks.step(walk.step - 1)
                progress.advance()

    def _observe(self, progress: Stage) -> str | None:
        """Change, measure and record what is due at the present step; return why to stop, if so."""
        walk, step = self.walk, self.walk.step
        last = step == self.experiment.steps
        self._change(step)
        reason = None
        due = self.prober.due(step, last=last)
        if due:
            found = self.prober.measure(walk.population(self.prober.previous), due, progress.note)
            new = record_measurements(self.directory, self.hooks, found, walk.walker.record(walk.state))
            self.rows += new
            _require_finite(new, walk)
            self._keep_best(new)
            _say(progress, new)
            reasons = (rule.reason(self.rows) for rule in self.experiment.stop)
            reason = next(filter(None, reasons), None)
        if last or reason or (self.interval and step % self.interval == 0):
            self._write_snapshot(step)
        return reason

    def _change(self, step: int) -> None:
        """Make and record the changes that are due before update `step`."""
        for schedule in self.experiment.schedule:
            values = schedule.changes(step)
            if values:
                self.walk.adjust(**values)
                self.directory.write_change(step, plain(values))
        if step in self.pause_at:
            before = len(self.walk.changes)
            _ask(self.walk)
            for change in self.walk.changes[before:]:
                self.directory.write_change(step, change["values"])

    def _keep_best(self, rows: Sequence[Mapping[str, Any]]) -> None:
        row = self.best.improved_by(rows)
        if row is not None:
            landscape, weights = self.walk.landscape, _labelled(self.walk)[row["worker"]]
            self.best = self.best.become(row, weights)
            self.directory.write_best(
                row["step"],
                row["worker"],
                self.best.metric,
                self.best.value,
                weights,
                buffers=landscape.buffers(),
                layout=landscape.layout,
            )

    def _write_snapshot(self, step: int) -> None:
        landscape = self.walk.landscape
        path = self.directory.write_snapshot(
            step, _labelled(self.walk), buffers=landscape.buffers(), layout=landscape.layout
        )
        self.hooks.snapshot(step, path)
        state = {"walk": self.walk.snapshot(), "prober": self.prober.snapshot(), "best": self.best}
        self.directory.write_resume(step, state)


def _labelled(walk: Walk) -> dict[str, Any]:
    workers = {str(i): row for i, row in enumerate(walk.positions)}
    return workers | dict(walk.walker.labelled(walk.state))


def _ask(walk: Walk) -> None:
    """Ask on the terminal for new hyper-parameters, until an empty line."""
    print(f"Paused before update {walk.step}. In force:", file=sys.stderr)
    for name, value in walk.walker.hyperparameters(walk.state).items():
        print(f"  {name} = {value}", file=sys.stderr)
    print("New values as name=value, one a line; an empty line goes on.", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        name, equals, text = line.partition("=")
        try:
            if not equals:
                raise ConfigurationError(f"{line!r} is not name=value.")
            values = tuple(float(part) for part in text.split(","))
            walk.set(**{name.strip(): values if len(values) > 1 else values[0]})
        except ValueError as error:
            print(f"  {error}", file=sys.stderr)


def _require_finite(rows: Sequence[Mapping[str, Any]], walk: Walk) -> None:
    for row in rows:
        if "loss" in row and not math.isfinite(row["loss"]):
            in_force = ", ".join(f"{k} = {v}" for k, v in walk.walker.hyperparameters(walk.state).items())
            raise NonFiniteLossError(
                f"The loss of worker {row['worker']} is {row['loss']} at step {row['step']}. A smaller step helps "
                f"most often{f' (now {in_force})' if in_force else ''}; else look for NaN in the data. Everything "
                "up to this step is recorded."
            )


def _say(progress: Stage, rows: Sequence[Mapping[str, Any]]) -> None:
    losses = [row["loss"] for row in rows if "loss" in row]
    progress.note(f"loss {min(losses):.4g}" if losses else "")


def _project(experiment: Experiment, run: Run) -> None:
    if not experiment.projectors:
        return
    with stage("Projections", len(experiment.projectors)) as progress:
        for name, projector in run.named_projectors().items():
            progress.note(name)
            run.directory.write_table(f"path_{name}", run.path_table(projector))
            progress.advance()
