"""Carrying out an experiment: walk, measure, record; and going on where it stopped."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from landscape.composition.best import Best
from landscape.composition.conduct import (
    begin,
    beyond_seeds,
    closed,
    conducted,
    default_store,
    refuse_unless_same_data,
    reopened,
    torch_threads,
)
from landscape.composition.every import Every
from landscape.composition.probing import Found, Prober, rows_of
from landscape.composition.progress import Stage, stage, suspended
from landscape.composition.run import Run
from landscape.composition.schedules import At
from landscape.composition.trees import plain
from landscape.composition.walk import Walk
from landscape.errors import ConfigurationError, LandscapeError, NonFiniteLossError, nearest
from landscape.store import RunStore

if TYPE_CHECKING:
    from landscape.composition.experiment import Experiment
    from landscape.objective import Landscape
    from landscape.objective.engine import EngineChoice
    from landscape.plugins import RunHooks
    from landscape.store import RunDirectory

__all__ = ["record_measurements", "resume_experiment", "run_experiment"]


def run_experiment(
    experiment: Experiment,
    store: str | os.PathLike[str] | None,
    *,
    run_id: str | None = None,
    pause_at: Sequence[int] = (),
    facts: Mapping[str, Any] | None = None,
    fingerprints: Callable[[Mapping[str, str]], None] = lambda found: None,
    engines: Sequence[EngineChoice] | None = None,
) -> Run:
    """Carry out `experiment` in this process; see :meth:`landscape.Experiment.run`.

    Everything that can be found wrong at once is found before the run's directory is made: the first
    measurement, too, is taken before.

    Parameters
    ----------
    experiment, store, run_id, pause_at
        See :meth:`landscape.Experiment.run`.
    facts
        Further entries of the provenance.
    fingerprints
        Called with the fingerprints of the data, by split, before any work; may refuse them.
    engines
        Choices of an engine to repeat; see :class:`landscape.Walk`.
    """
    # Said at once, not after the data was read and the start measured.
    RunStore(default_store(store)).require_folder()
    for step in pause_at:
        if not 0 <= step < experiment.steps:
            raise ConfigurationError(
                f"pause_at={step}: the updates of this experiment are 0 to {experiment.steps - 1}; choose one of them."
            )
    with torch_threads(experiment.threads):
        landscapes = experiment.landscapes()
        data = {name: landscape.data.fingerprint() for name, landscape in landscapes.items()}
        fingerprints(data)
        walk, notes = _begun(experiment, landscapes, engines)
        prober = _prober(experiment)
        _check_changes(experiment, walk)
        prober.check(walk.population())
        with stage("Measuring the start", 1) as progress:
            first = prober.measure(walk.population(), prober.due(0), progress.note)
            progress.advance()
        best = Best.parse(experiment.best)
        if len(prober.due(0)) == len(experiment.probes):
            # Else what some probes will measure is not known yet.
            _require_measured(experiment, best, first, walk)
        run = begin(
            experiment,
            "experiment",
            store,
            run_id,
            space=_bytes_of_snapshots(experiment, walk),
            landscapes=landscapes,
            facts=dict(facts or {}) | _facts_of_start(experiment, notes) | _facts_of_engine(walk),
            data=data,
            device=experiment.device,
            threads=experiment.threads,
            obstacles=beyond_seeds(landscapes),
        )
        return _carry_out(experiment, walk, run, pause_at, prober, best, first)


def resume_experiment(run: Run, *, pause_at: Sequence[int] = ()) -> Run:
    """Go on with an experiment that was interrupted or failed before its last step.

    Raises
    ------
    landscape.errors.RunError
        If it was computed by an engine that this version does not have, on other data, or another process is
        at work on it.
    """
    experiment = run.experiment
    engines = run.engine_choices
    # A replicate repeats the choices of its model and makes none of its own.
    given = engines if "replicates" in run.provenance else None
    with torch_threads(experiment.threads):
        landscapes = experiment.landscapes()
        data = {name: landscape.data.fingerprint() for name, landscape in landscapes.items()}
        refuse_unless_same_data(run, data, "resuming")
        for obstacle in beyond_seeds(landscapes):
            warnings.warn(f"This run is not resumed exactly: {obstacle}", UserWarning, stacklevel=3)
        prober, best = _prober(experiment), Best.parse(experiment.best)
        snapshots = run.directory.snapshots()
        if snapshots:
            # Where it began is recorded; the start itself, a file say, need not be there any more.
            buffers = snapshots[-1].buffers()
            place = landscapes["train"].with_buffers(buffers) if buffers else landscapes["train"]
            start = place.initial().expand(experiment.walker.workers, -1)
            walk = Walk(
                place,
                experiment.walker,
                seed=experiment.seed,
                start=start,
                splits=landscapes,
                engines=given,
            )
        else:
            walk, _ = _begun(experiment, landscapes, given)
        run = reopened(
            Run(run.directory, landscapes=landscapes, recipe=experiment),
            experiment,
            data=data,
            engine=run.provenance["engine"],
            device=experiment.device,
            threads=experiment.threads,
        )
        template: dict[str, Any] = {"walk": walk.snapshot(), "prober": prober.snapshot(), "best": best}
        found = run.directory.latest_resume(template)
        if found is None:
            run.directory.begin_attempt(-1)
            walk, _ = _begun(experiment, landscapes, given)
            walk.follow_engines(engines)
            first = prober.measure(walk.population(), prober.due(0))
            return _carry_out(experiment, walk, run, pause_at, prober, best, first)
        step, state = found
        walk.restore(state["walk"])
        walk.follow_engines(engines)
        prober.restore(state["prober"], walk.population())
        run.directory.begin_attempt(step)
        return _carry_out(experiment, walk, run, pause_at, prober, state["best"], None)


def _begun(
    experiment: Experiment,
    landscapes: Mapping[str, Landscape],
    engines: Sequence[EngineChoice] | None = None,
) -> tuple[Walk, list[str]]:
    """Return the walk before its first step, and what its start had to say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        walk = experiment.walk(landscapes, engines=engines)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return walk, [str(warning.message) for warning in caught]


def _facts_of_start(experiment: Experiment, notes: Sequence[str]) -> dict[str, Any]:
    facts = dict(experiment.start.facts()) | ({"notes": list(notes)} if notes else {})
    return {"start": facts} if facts else {}


def _facts_of_engine(walk: Walk) -> dict[str, Any]:
    """Return what the provenance says of engines: the one in force, and every choice from its step on."""
    return {
        "engine": walk.engine,
        "engine_choices": [choice.to_plain() for choice in walk.engine_choices],
    }


# A schedule that changes something at every step is tried out at this many of them.
_TRIED_CHANGES = 1000


def _check_changes(experiment: Experiment, walk: Walk) -> None:
    """Try the schedules on the walk's state, so that a wrong one does not end a run after hours.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a hyper-parameter that the walker does not have, or a value that it does not take.
    """
    for number, schedule in enumerate(experiment.schedule):
        tried = 0
        if isinstance(schedule, At) and schedule.step >= experiment.steps:
            warnings.warn(
                f"schedule[{number}] changes something at step {schedule.step}, and the last update is "
                f"{experiment.steps - 1}: it has no effect.",
                UserWarning,
                stacklevel=4,
            )
        for step in range(experiment.steps + 1):
            values = schedule.changes(step)
            if values:
                try:
                    walk.walker.adjust(walk.state, **values)
                except ConfigurationError as error:
                    raise ConfigurationError(f"schedule[{number}], step {step}: {error}") from error
                tried += 1
                if tried == _TRIED_CHANGES:
                    break


def _require_measured(experiment: Experiment, best: Best, first: Sequence[Found], walk: Walk) -> None:
    """Raise unless the metrics by which the best weights are kept, and the walk is ended, are measured.

    Raises
    ------
    landscape.errors.ConfigurationError
        With the columns that there are.
    """
    rows = rows_of(first, walk.walker.record(walk.state))
    known = sorted({name for row in rows for name in row} - {"step", "worker", "warnings"})
    wanted = [(f"best={best.metric!r}", best.metric)] if best.metric else []
    for number, rule in enumerate(experiment.stop):
        wanted += [
            (f"stop[{number}]: {type(rule).__name__}: {metric!r}", metric) for metric in rule.metrics()
        ]
    for what, metric in wanted:
        if metric not in known:
            raise ConfigurationError(
                f"{what} is measured by no probe of this experiment; its columns are "
                f"{', '.join(known) or 'none'}.{nearest(metric, known)}"
            )


def _prober(experiment: Experiment) -> Prober:
    return Prober(experiment.probes, experiment.default_interval)


def _bytes_of_snapshots(experiment: Experiment, walk: Walk) -> int:
    interval = experiment.default_interval if experiment.snapshots is None else experiment.snapshots
    count = 1 + (experiment.steps // interval if interval else 0)
    points = len(walk.initial)
    # Two resumable states hold the walker's own memory too; three vectors a worker covers Adam.
    return walk.landscape.size * walk.positions.element_size() * points * (count + 2 * 4)


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
    prober: Prober,
    best: Best,
    first: Sequence[Found] | None,
) -> Run:
    with conducted(run, lambda: f"interrupted at step {walk.step}") as hooks:
        session = _Session(experiment, walk, run, hooks, prober, best, pause_at)
        reason = session.go(first)
        _project(experiment, run)
        closed(run, hooks, "stopped" if reason else "complete", reason)
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

    def go(self, first: Sequence[Found] | None) -> str | None:
        """Walk to the end; return why it ended early, if it did.

        Parameters
        ----------
        first
            What was measured at the present step already, not recorded yet; None where the step was recorded
            before the run was resumed.
        """
        experiment, walk, last = self.experiment, self.walk, self.experiment.steps
        title = (
            experiment.name or f"{type(experiment.walker).__name__} on {type(experiment.dataset).__name__}"
        )
        with stage(title, last, done=walk.step) as progress:
            reason = self._observe(progress, first) if first is not None else None
            while True:
                if walk.step >= last or reason:
                    return reason
                self._advance()
                self.hooks.step(walk.step - 1)
                progress.advance()
                reason = self._observe(progress)

    def _advance(self) -> None:
        """Make one update; an engine chosen on the way is recorded before anything it computed is."""
        before = self.walk.engine_choices
        self.walk.advance()
        if self.walk.engine_choices != before:
            self.directory.note(_facts_of_engine(self.walk))

    def _observe(self, progress: Stage, found: Sequence[Found] | None = None) -> str | None:
        """Change, measure and record what is due at the present step; return why to stop, if so."""
        step = self.walk.step
        last = step == self.experiment.steps
        by_hand = self._change(step)
        due = self.prober.due(step, last=last)
        if found is None and due:
            found = self._measure(due, progress)
        reason = None
        if found:
            _say(progress, self._record(found))
            reasons = (rule.reason(self.rows) for rule in self.experiment.stop)
            reason = next(filter(None, reasons), None)
        if reason and not last:
            # The last step is measured by all probes, also where it comes early.
            self._record(self._measure([p for p in self.experiment.probes if p not in due], progress))
        if last or reason or by_hand or (self.interval and step % self.interval == 0):
            # Also where a person has changed something: a run resumed from before would not ask again.
            self._write_snapshot(step)
        return reason

    def _measure(self, due: Sequence[Every], progress: Stage) -> list[Found]:
        return self.prober.measure(self.walk.population(self.prober.previous), due, progress.note)

    def _record(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        walk = self.walk
        new = record_measurements(self.directory, self.hooks, found, walk.walker.record(walk.state))
        self.rows += new
        _require_finite(new, walk)
        self._keep_best(new)
        return new

    def _change(self, step: int) -> bool:
        """Make and record the changes that are due before update `step`; return whether any were made by hand."""
        for schedule in self.experiment.schedule:
            values = schedule.changes(step)
            if values:
                self.walk.adjust(**values)
                self.directory.write_change(step, plain(values))
        if step not in self.pause_at:
            return False
        before = len(self.walk.changes)
        with suspended():
            _ask(self.walk)
        for change in self.walk.changes[before:]:
            self.directory.write_change(step, change["values"], by_hand=True)
        return len(self.walk.changes) > before

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
            print("> ", end="", file=sys.stderr, flush=True)
            line = input().strip()
        except EOFError:
            return
        if not line:
            return
        name, equals, text = line.partition("=")
        try:
            if not equals:
                raise ConfigurationError(f"{line!r} is not name=value.")
            try:
                values = tuple(float(part) for part in text.strip(" ()[]").split(","))
            except ValueError:
                raise ConfigurationError(
                    f"{text.strip()!r} is no number; write lr=0.01, or a number for each worker: lr=0.01,0.02."
                ) from None
            walk.set(**{name.strip(): values if len(values) > 1 else values[0]})
        except (ConfigurationError, ValueError) as error:
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
            try:
                run.directory.write_table(f"path_{name}", run.path_table(projector))
            except LandscapeError as error:
                # The walk is done and recorded; a map that cannot be drawn does not undo it.
                warnings.warn(f"No map by {name}: {error}", UserWarning, stacklevel=2)
            progress.advance()
