"""Carrying out an experiment: walk, measure, record; and going on where it stopped."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.composition.configuration import to_tree
from landscape.composition.probing import Prober, rows_of
from landscape.composition.progress import Stage, stage
from landscape.composition.provenance import gather
from landscape.composition.run import Run
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
        found = directory.latest_resume({"walk": walk.snapshot(), "prober": prober.snapshot()})
        if found is None:
            directory.begin_attempt(-1)
            return _carry_out(experiment, walk, run, pause_at, recorded=False)
        step, state = found
        walk.restore(state["walk"])
        prober.restore(state["prober"], walk.population())
        directory.begin_attempt(step)
        return _carry_out(experiment, walk, run, pause_at, recorded=True, prober=prober)


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
) -> Run:
    directory = run.directory
    hooks = RunHooks(run)
    hooks.started()
    extra = hooks.provenance()
    if extra:
        directory.add_provenance(extra)
    error: BaseException | None = None
    try:
        reason = _walk_on(experiment, walk, run, hooks, prober or _prober(experiment), pause_at, recorded)
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


def _walk_on(
    experiment: Experiment,
    walk: Walk,
    run: Run,
    hooks: RunHooks,
    prober: Prober,
    pause_at: Sequence[int],
    recorded: bool,
) -> str | None:
    directory = run.directory
    last = experiment.steps
    interval = experiment.default_interval if experiment.snapshots is None else experiment.snapshots
    rows = directory.rows()
    title = experiment.name or f"{type(experiment.walker).__name__} on {type(experiment.dataset).__name__}"
    with stage(title, last, done=walk.step) as progress:
        while True:
            step = walk.step
            reason = None
            if not recorded:
                if _change(experiment, walk, step, pause_at):
                    directory.write_table("changes", walk.change_table())
                due = prober.due(step, last=step == last)
                if due:
                    found = prober.measure(walk.population(prober.previous), due, progress.note)
                    new = record_measurements(directory, hooks, found, walk.walker.record(walk.state))
                    rows += new
                    _require_finite(new, walk)
                    _say(progress, new)
                reason = next(filter(None, (rule.reason(rows) for rule in experiment.stop)), None)
                if step == last or reason or (interval and step % interval == 0):
                    path = directory.write_snapshot(
                        step,
                        _labelled(walk),
                        buffers=walk.landscape.buffers(),
                        layout=walk.landscape.layout,
                    )
                    hooks.snapshot(step, path)
                    directory.write_resume(step, {"walk": walk.snapshot(), "prober": prober.snapshot()})
            recorded = False
            if step >= last or reason:
                return reason
            walk.advance()
            hooks.step(step)
            progress.advance()


def _labelled(walk: Walk) -> dict[str, Any]:
    workers = {str(i): row for i, row in enumerate(walk.positions)}
    return workers | dict(walk.walker.labelled(walk.state))


def _change(experiment: Experiment, walk: Walk, step: int, pause_at: Sequence[int]) -> bool:
    """Make the changes that are due before update `step`; return whether there were any."""
    before = len(walk.changes)
    for schedule in experiment.schedule:
        values = schedule.changes(step)
        if values:
            walk.set(**values)
    if step in pause_at:
        _ask(walk)
    return len(walk.changes) > before


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
