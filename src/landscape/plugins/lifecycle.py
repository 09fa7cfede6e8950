"""The hooks of one run, called so that no plugin can end it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.plugins.entry import resolve
from landscape.plugins.manager import (
    Implementation,
    PluginFailure,
    PluginManager,
    PluginWarning,
    in_words,
    is_strict,
    report,
)
from landscape.randomness import preserved_random_state

if TYPE_CHECKING:
    import pandas as pd

    from landscape.interfaces import Figure, Measurement
    from landscape.systems import PolynomialSystem

__all__ = ["PluginFailure", "PluginWarning", "RunHooks"]

_LIFECYCLE = (
    "landscape_run_started",
    "landscape_step",
    "landscape_measured",
    "landscape_snapshot",
    "landscape_run_finished",
    "landscape_provenance",
    "landscape_figures",
    "landscape_bounds",
    "landscape_tables",
)


class RunHooks:
    """Tells the installed plugins what happens to one run.

    An implementation that raises, or calls ``sys.exit``, is reported once, as a :class:`PluginWarning`, and
    not called again for this run; the other plugins' implementations of the hook, and this plugin's of other
    hooks, still are. Where warnings are errors, the report goes to stderr. With ``LANDSCAPE_STRICT_HOOKS=1``
    in the environment it raises instead. The global random states are left as they were found.

    Parameters
    ----------
    run
        What the hooks get as ``run``.
    manager
        The plugins; all installed and registered ones if left out.

    Attributes
    ----------
    failures
        What went wrong so far.
    """

    def __init__(self, run: Any, manager: PluginManager | None = None) -> None:
        if manager is None:
            from landscape.plugins import registry

            manager = registry.manager()
        manager.load("landscape")
        self._run = run
        self._active = {hook: manager.implementations(hook) for hook in _LIFECYCLE}
        self.failures: list[PluginFailure] = []

    def started(self) -> None:
        """Call ``landscape_run_started``."""
        self._call("landscape_run_started")

    def step(self, step: int) -> None:
        """Call ``landscape_step``."""
        self._call("landscape_step", step=step)

    def measured(self, step: int, measurement: Measurement, worker: str = "0") -> None:
        """Call ``landscape_measured``."""
        self._call("landscape_measured", step=step, measurement=measurement, worker=worker)

    def snapshot(self, step: int, path: Path) -> None:
        """Call ``landscape_snapshot``."""
        self._call("landscape_snapshot", step=step, path=path)

    def finished(self, error: BaseException | None = None) -> None:
        """Call ``landscape_run_finished``."""
        self._call("landscape_run_finished", error=error)

    def provenance(self) -> dict[str, Any]:
        """Call ``landscape_provenance`` and return ``{plugin: facts}``, all of it JSON values."""
        return {plugin: facts for plugin, facts in self._call("landscape_provenance", _facts) if facts}

    def figures(self) -> list[Figure]:
        """Call ``landscape_figures`` and return all figures in the order of the report."""
        found = [figure for _, figures in self._call("landscape_figures", _figures) for figure in figures]
        return sorted(found, key=lambda figure: (figure.order, figure.name))

    def bounds(self, system: Callable[[], PolynomialSystem]) -> dict[str, float]:
        """Call ``landscape_bounds`` and return all bounds by name; `system` is made only if a plugin listens."""
        if not self._active["landscape_bounds"]:
            return {}
        bounds: dict[str, float] = {}
        for _, found in self._call("landscape_bounds", _bounds, system=system()):
            bounds |= found
        return bounds

    def tables(self, write: Callable[[str, pd.DataFrame], Any]) -> dict[str, list[str]]:
        """Call ``landscape_tables`` and `write` every table; return their names by plugin.

        A table that cannot be written is the fault of its plugin, as if the hook had raised.
        """
        made = self._call("landscape_tables", lambda answer: _written(answer, write))
        return {plugin: names for plugin, names in made if names}

    def _call(self, hook: str, check: Any = None, /, **arguments: Any) -> list[tuple[str, Any]]:
        """Call the active implementations of `hook`; return what each gave, after `check`."""
        implementations = self._active[hook]
        if not implementations:  # one is called for every step of every run: costs nothing if nobody listens
            return []
        arguments["run"] = self._run
        results = []
        with preserved_random_state():  # a run with somebody who looks on is the same run
            for implementation in implementations:
                try:
                    result = implementation(arguments)
                    results.append((implementation.plugin, check(result) if check else result))
                except (Exception, SystemExit) as error:  # not KeyboardInterrupt: that is the user's
                    if is_strict():
                        raise
                    self._switch_off(implementation, error)
        return results

    def _switch_off(self, implementation: Implementation, error: BaseException) -> None:
        hook = implementation.hook
        self._active[hook] = tuple(each for each in self._active[hook] if each is not implementation)
        text = in_words(error)
        self.failures.append(PluginFailure(implementation.plugin, hook, text))
        report(
            f"Plugin {implementation.plugin!r} failed in {hook} and is not asked again in this run: {text}"
        )


def _facts(answer: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the facts as the JSON they will be stored as; TypeError or ValueError if they are not JSON."""
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise TypeError(f"it returned {answer!r}, which is not a mapping of JSON values")
    facts: Mapping[str, Any] = json.loads(json.dumps(dict(answer), allow_nan=False))
    return facts


def _bounds(answer: Mapping[Any, Any] | None) -> dict[str, float]:
    """Return the bounds as numbers; TypeError if something else is among them."""
    bounds: dict[Any, Any] = dict(answer or {})
    for name, bound in bounds.items():
        if not isinstance(name, str) or not isinstance(bound, Real) or math.isnan(bound):
            raise TypeError(f"it returned {name!r}: {bound!r}, which is not a bound by name")
    return {name: float(bound) for name, bound in bounds.items()}


def _written(answer: Mapping[Any, Any] | None, write: Callable[[str, pd.DataFrame], Any]) -> list[str]:
    """Write the tables and return their names; TypeError if something else is among them."""
    tables: dict[Any, Any] = dict(answer or {})
    for name, table in tables.items():
        # Its class is not imported to look: listing and calling plugins stays fast.
        if not isinstance(name, str) or type(table).__name__ != "DataFrame":
            raise TypeError(f"it returned {name!r}: {table!r}, which is not a pandas.DataFrame by name")
    for name, table in tables.items():
        write(name, table)
    return list(tables)


def _figures(answer: Iterable[Any] | None) -> list[Figure]:
    """Return the figures as a list; TypeError if something else is among them."""
    figure_class = resolve("landscape.interfaces:Figure")
    figures = list(answer or ())
    for figure in figures:
        if not isinstance(figure, figure_class):
            raise TypeError(f"it returned {figure!r}, which is not a landscape.Figure")
        if not isinstance(figure.order, Real):
            raise TypeError(f"the order of {figure!r} is not a number")
    return figures
