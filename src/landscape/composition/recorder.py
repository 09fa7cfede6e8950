"""Measuring inside somebody's own training loop."""

from __future__ import annotations

import operator
import os
import sys
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from landscape.composition.conduct import closed, default_store, refuse_unless_same_data
from landscape.composition.every import schedule_probes
from landscape.composition.probing import Prober, other_splits, require_landscape, require_splits
from landscape.composition.provenance import gather
from landscape.composition.run import Run
from landscape.composition.running import record_measurements
from landscape.composition.trees import plain
from landscape.errors import ConfigurationError, RunError
from landscape.plugins import RunHooks
from landscape.randomness import whole_seed
from landscape.store import RunStore
from landscape.validators import is_whole

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from landscape.composition.every import Every
    from landscape.objective import Landscape, Population
    from landscape.store import RunDirectory

__all__ = ["Recorder"]


class Recorder:
    """Measures a module while somebody else's loop trains it, and changes nothing in that training.

    Call it before the update of each step. Weights, buffers, gradients, training flags and every global random
    state are left bit for bit as they were. One thing cannot be: a dataset that keeps a generator of its own is
    advanced when it is read; give such a recorder ``ls.fixed(loader)``.

    Parameters
    ----------
    landscape
        The loss of the module that is being trained. Where it is restricted to some weights, the others stay, at each
        measurement, where the training has brought them; snapshots hold them too.
    probes
        Probes, their names, or ``Every(steps, probe)``.
    every
        Steps between measurements of probes that do not say, and between snapshots.
    splits
        Other data for probes that ask for it, such as ``{"test": test_loader}``.
    store
        A directory of runs: what is recorded goes to disk as well, and the weights with it.
    run
        Name of the run in `store`. If it exists, recording goes on in it: rows and snapshots at or after the
        first step that is now recorded are superseded.
    seed
        Of the probes' own generators.

    Raises
    ------
    landscape.errors.ConfigurationError
        For neither probes nor a store, and for probes on data that is not among `splits`, or on weights or points
        that there are not.
    landscape.errors.RunError
        If `run` exists and was recorded otherwise.

    Examples
    --------
    >>> import torch, landscape as ls
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> net, mse = torch.nn.Linear(1, 1), torch.nn.functional.mse_loss
    >>> watch = ls.Recorder(ls.Landscape(net, mse, (x, 3 * x)), ["Loss", "GradientNorm"], every=10)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> for step in range(30):
    ...     watch(step)
    ...     sgd.zero_grad()
    ...     mse(net(x), 3 * x).backward()
    ...     sgd.step()
    >>> list(watch.metrics["step"])
    [0, 10, 20]
    """

    def __init__(
        self,
        landscape: Landscape,
        probes: Iterable[Any],
        *,
        every: int = 100,
        splits: Mapping[str, Any] | None = None,
        store: str | os.PathLike[str] | None = None,
        run: str | None = None,
        seed: int = 0,
    ) -> None:
        require_landscape(landscape, "Recorder")
        if not is_whole(every) or every < 1:
            raise ConfigurationError(f"every={every!r}: give a whole number of steps, at least 1.")
        if run is not None and store is None:
            raise ConfigurationError(
                f"run={run!r} names a run, but no store is given; pass store='runs', say."
            )
        self.landscape = landscape
        self.probes = schedule_probes(probes)
        if not self.probes and store is None:
            raise ConfigurationError(
                f"probes={probes!r}: there is nothing to record; give probes, or their names, or a store for the "
                "weights."
            )
        self.every = int(every)
        self.seed = whole_seed(seed)
        self.splits = {"train": landscape} | other_splits(landscape, splits)
        require_splits(self.probes, {landscape.split: None, **self.splits})
        self._prober = Prober(self.probes, every)
        self._rows: list[dict[str, Any]] = []
        self._initial: Tensor | None = None
        self._last: int | None = None
        self._continued = False
        self.run: Run | None = None
        self._hooks: RunHooks | None = None
        self._prober.check(self._population(0))
        if store is not None:
            self._open(store, run)

    def _open(self, store: str | os.PathLike[str], name: str | None) -> None:
        runs = RunStore(default_store(store))
        data = {name: split.data.fingerprint() for name, split in self.splits.items()}
        if name is not None and runs.contains(name):
            directory = self._continued_directory(runs.open(name), data)
        else:
            provenance = gather(
                [entry.probe for entry in self.probes],
                data=data,
                device=str(self.landscape.device),
                obstacles=["it was recorded inside a program of its own."],
            )
            directory = runs.create(self._configuration(), provenance, kind="recorder", run_id=name)
        self.run = Run(directory, landscapes=self.splits)
        self._hooks = RunHooks(self.run)
        self._hooks.started()
        # Closes the run when the program ends, or when nobody holds the recorder any more.
        self._finalizer = weakref.finalize(self, _close_as_the_program_ends, self.run, self._hooks)

    def _continued_directory(self, directory: RunDirectory, data: Mapping[str, str]) -> RunDirectory:
        """Return the directory open for writing, once it is certain that the recording belongs in it.

        Raises
        ------
        landscape.errors.RunError
            If it is of another kind, landscape, data, or set of probes.
        """
        if directory.kind != "recorder":
            raise RunError(f"{directory.path} is a run of kind {directory.kind!r}, not of a recorder.")
        before: dict[str, Any] = {"restricted_to": None} | directory.configuration["recorder"]
        now = self._configuration()["recorder"]
        if before["size"] != now["size"]:
            raise RunError(
                f"{directory.path} was recorded on {before['size']} parameters; this landscape has {now['size']}."
            )
        for key in now:
            if before[key] != now[key]:
                raise RunError(
                    f"{directory.path} was recorded with {key} = {before[key]}; this recorder has {now[key]}. "
                    "Record under another name, or with what it had."
                )
        refuse_unless_same_data(Run(directory), data, "going on")
        self._continued = True
        return directory.reopen()

    def _configuration(self) -> dict[str, Any]:
        return {
            "recorder": {
                "probes": plain(self.probes),
                "every": self.every,
                "seed": self.seed,
                "module": type(self.landscape.module).__qualname__,
                "size": self.landscape.size,
                "restricted_to": list(self.landscape.layout.names) if self._restricted else None,
            }
        }

    @property
    def _restricted(self) -> bool:
        return self.landscape.layout != self.landscape.full_layout

    def _here(self) -> Landscape:
        """Return the landscape around the module's weights of now: those that do not vary on it move as well."""
        if not self._restricted:
            return self.landscape
        return self.landscape.with_rest(self.landscape.full_layout.vector(self.landscape.module))

    def __call__(self, step: int) -> None:
        """Measure what is due at `step`; call it before the update of that step.

        Raises
        ------
        landscape.errors.ConfigurationError
            If `step` is not larger than that of the call before.
        """
        try:
            step = operator.index(step)
        except TypeError as error:
            raise ConfigurationError(f"step={step!r} is not a whole number.") from error
        if self._last is not None and step <= self._last:
            raise ConfigurationError(
                f"Recorder called with step {step} after step {self._last}; steps must rise. "
                "For another training, make another Recorder."
            )
        if step < 0:
            raise ConfigurationError(f"step={step}: steps are counted from 0.")
        first = self._last is None
        if self._last is None:
            self._begin(step)
        elif self._hooks is not None:
            # That this step has come means that the update of the one before was made.
            self._hooks.step(self._last)
        self._last = step
        due = self._prober.due(step)
        if due:
            self._measure(step, due)
        if self.run is not None and (first or step % self.every == 0):
            self._write_snapshot(step)

    def _begin(self, step: int) -> None:
        theta = self.landscape.initial()
        self._initial = theta
        if self._continued:
            assert self.run is not None
            directory = self.run.directory
            earlier = [snapshot for snapshot in directory.snapshots() if snapshot.step < step]
            if not earlier:
                warnings.warn(
                    f"{directory.path} holds nothing recorded before step {step}; distances are measured from here.",
                    UserWarning,
                    stacklevel=3,
                )
            else:
                self._initial = earlier[0].weights("0").to(theta)
            template: dict[str, Any] = {"prober": self._prober.snapshot()}
            found = directory.latest_resume(template, before=step)
            if found is not None:
                self._prober.restore(found[1]["prober"], self._population(step))
            directory.begin_attempt(step - 1)
            self._rows = directory.rows()

    def _population(self, step: int) -> Population:
        from landscape.objective import Population

        theta = self.landscape.initial()
        return Population(
            self._here(),
            theta[None],
            step=step,
            initial={"0": theta if self._initial is None else self._initial},
            seed=self.seed,
            splits={name: split.data for name, split in self.splits.items()},
            previous=self._prober.previous,
        )

    def _measure(self, step: int, due: Sequence[Every]) -> None:
        found = self._prober.measure(self._population(step), due, tolerant=True)
        directory = self.run.directory if self.run is not None else None
        self._rows += record_measurements(directory, self._hooks, found)

    def _write_snapshot(self, step: int) -> None:
        assert self.run is not None
        assert self._hooks is not None
        directory = self.run.directory
        full = self.landscape.full_layout
        all_parts = full.split(full.vector(self.landscape.module)) if self._restricted else {}
        varying = self.landscape.layout.slices
        path = directory.write_snapshot(
            step,
            {"0": self.landscape.initial()},
            buffers=self.landscape.buffers(),
            layout=self.landscape.layout,
            rest={name: part for name, part in all_parts.items() if name not in varying},
        )
        directory.write_resume(step, {"prober": self._prober.snapshot()})
        self._hooks.snapshot(step, path)

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per measured step, one column per scalar."""
        import pandas as pd

        return pd.DataFrame(self._rows)

    def close(self) -> None:
        """Close the run on disk; without a store there is nothing to do.

        Called when the program ends at the latest; a program that ends with an error closes it as failed.
        """
        self._close("complete", None, None)

    def _close(
        self,
        status: Literal["complete", "failed", "interrupted"],
        reason: str | None,
        error: BaseException | None,
    ) -> None:
        if self.run is not None and self.run.directory.writable:
            assert self._hooks is not None
            self._finalizer.detach()
            if self._last is not None:
                self._hooks.step(self._last)
            _ended(self.run, self._hooks, status, reason)
            self._hooks.finished(error)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._close(*_ended_by(error), error)


def _ended_by(error: BaseException) -> tuple[Literal["failed", "interrupted"], str]:
    status: Literal["failed", "interrupted"] = (
        "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    )
    return status, f"{type(error).__name__}: {error}"


def _ended(
    run: Run,
    hooks: RunHooks,
    status: Literal["complete", "failed", "interrupted"],
    reason: str | None = None,
) -> None:
    """Close the run, with the tables that plugins make of one that is complete."""
    if status == "complete":
        closed(run, hooks, status)
    else:
        run.directory.close(status, reason)


def _close_as_the_program_ends(run: Run, hooks: RunHooks) -> None:
    # The interpreter leaves the error that ended the program here; there is none where it ended well.
    error = getattr(sys, "last_value", None)
    if run.directory.writable:
        if error is None:
            _ended(run, hooks, "complete")
        else:
            _ended(run, hooks, *_ended_by(error))
        hooks.finished(error)
