"""The guarded plugin manager: pluggy finds and checks the plugins, and no plugin can hurt another.

pluggy calls all implementations of a hook as one, so that the first one that raises ends the others. Here
each implementation is called by itself, and the caller decides what its failure means.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pluggy
from attrs import frozen

from landscape.errors import BrokenPluginError, nearest
from landscape.plugins import specs
from landscape.plugins.entry import ComponentEntry, resolve
from landscape.plugins.provider import InstalledComponents, is_disabled, metadata_entries

__all__ = ["HookPlugin", "Implementation", "PluginFailure", "PluginManager", "PluginWarning", "is_strict"]


class PluginWarning(UserWarning):
    """A plugin did something wrong and was, as far as it did, switched off."""


def is_strict() -> bool:
    """Whether ``LANDSCAPE_STRICT_HOOKS`` asks that a failing hook raises, as tests want it."""
    return os.environ.get("LANDSCAPE_STRICT_HOOKS", "") not in ("", "0")


def is_traced() -> bool:
    """Whether ``LANDSCAPE_TRACE_PLUGINS`` asks that every call of a hook is printed."""
    return os.environ.get("LANDSCAPE_TRACE_PLUGINS", "") not in ("", "0")


def trace(text: str) -> None:
    """Print `text` to stderr if ``LANDSCAPE_TRACE_PLUGINS`` asks for it."""
    if is_traced():
        print(f"landscape.plugins: {text}", file=sys.stderr)


def in_words(error: BaseException) -> str:
    """Return type and text of an error, also of one that cannot say what it is."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def report(text: str) -> None:
    """Warn of a plugin, where that cannot end anything.

    Where a filter makes errors of warnings, or what shows them fails, the text goes to stderr instead: the
    complaint about a plugin must not do what the plugin was kept from doing.
    """
    try:
        warnings.warn(text, PluginWarning, stacklevel=5)
    except Exception:
        print(f"PluginWarning: {text}", file=sys.stderr)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} that has no repr>"


@frozen
class HookPlugin:
    """A plugin that implements hooks, or tried to.

    Attributes
    ----------
    name
        Name of its entry point, or the name it was registered under.
    distribution, version
        Where it comes from; None for one that was registered by hand.
    value
        Where it lies.
    hooks
        The hooks it implements.
    error
        Why it is not used; None if it is.
    """

    name: str
    distribution: str | None
    version: str | None
    value: str
    hooks: tuple[str, ...] = ()
    error: str | None = None


@frozen
class PluginFailure:
    """A hook implementation that raised."""

    plugin: str
    hook: str
    error: str


@frozen
class Implementation:
    """One plugin's implementation of one hook."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    parameters: tuple[str, ...]

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with those of `arguments` that it takes. A generator is run to its end here."""
        started = time.perf_counter()
        outcome = "raised"
        try:
            result = self.function(*(arguments[name] for name in self.parameters))
            if isinstance(result, Iterator):  # so that what a generator raises is raised inside the guard
                result = list(result)
            outcome = "returned"
            return result
        finally:
            if is_traced():  # the repr of a run reads a file: not for every step of every run
                took = (time.perf_counter() - started) * 1e3
                shown = ", ".join(f"{name}={_shown(arguments[name])}" for name in self.parameters)
                trace(f"{self.plugin}: {self.hook}({shown}) {outcome} after {took:.1f} ms")


class PluginManager:
    """Holds the plugins that implement hooks.

    Entry points of the group ``landscape.providers`` are loaded when components are first listed, those of
    the group ``landscape`` when a run starts or a name is looked up in vain. Each is loaded by itself; one
    that cannot be, is kept with its error.
    """

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(specs.PROJECT)
        self._pluggy.add_hookspecs(specs)
        self._plugins: dict[str, HookPlugin] = {}
        self._loaded: set[tuple[str, ComponentEntry]] = set()
        self._reported: set[tuple[str, str]] = set()
        #: Entry points of components and components registered by hand.
        self.components = InstalledComponents()
        self._pluggy.register(self.components, name="landscape")

    # -- plugins ------------------------------------------------------------------------------------------

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a module or an object that implements hooks, for instance from a notebook.

        One that was added under the same name before is replaced.

        Raises
        ------
        landscape.errors.BrokenPluginError
            If it has a hook that is not one of landscape's, or takes parameters the hook does not have.
        """
        if name is None:
            name = plugin.__name__ if isinstance(plugin, type | ModuleType) else type(plugin).__qualname__
        self.unregister(name)
        hooks = self._add(plugin, name)
        self._plugins[name] = HookPlugin(name, None, None, name, hooks)

    def unregister(self, name: str) -> None:
        """Take a plugin out again; a name that is not there is no error."""
        self._plugins.pop(name, None)
        if name != "landscape" and self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)

    def _add(self, plugin: object, name: str) -> tuple[str, ...]:
        """Give the plugin to pluggy, check it, and take it out again if it is wrong."""
        try:
            self._pluggy.register(plugin, name=name)
            callers = self._pluggy.get_hookcallers(plugin) or []
            for caller in callers:
                implementation = next(each for each in caller.get_hookimpls() if each.plugin is plugin)
                if implementation.hookwrapper or implementation.wrapper:
                    raise BrokenPluginError(
                        f"{caller.name} is marked as a wrapper; wrappers are not supported"
                    )
                if not caller.has_spec() and not implementation.optionalhook:
                    raise BrokenPluginError(
                        f"landscape has no hook {caller.name!r}.{nearest(caller.name, self.hook_names())}"
                    )
            if not callers:
                raise BrokenPluginError(
                    "it implements no hook; mark the functions that do with @landscape.hookimpl"
                )
        except (ValueError, pluggy.PluginValidationError, BrokenPluginError) as error:
            if self._pluggy.has_plugin(name) and self._pluggy.get_plugin(name) is plugin:
                self._pluggy.unregister(name=name)
            raise BrokenPluginError(f"Plugin {name!r}: {error}") from error
        return tuple(sorted(caller.name for caller in callers))

    def hook_names(self) -> tuple[str, ...]:
        """Return the names of all hooks."""
        return tuple(sorted(name for name in specs.__all__ if name.startswith("landscape_")))

    def load(self, group: str) -> None:
        """Load the entry points of `group` that were not loaded before."""
        for entry in metadata_entries(group):
            if (group, entry) in self._loaded or is_disabled(entry.distribution, entry.name):
                continue
            self._loaded.add((group, entry))
            trace(f"importing {entry.value} of {entry.source}")
            hooks: tuple[str, ...] = ()
            failure = None
            name = entry.qualified_name
            try:
                hooks = self._add(resolve(entry.value), name)
            except (Exception, SystemExit) as error:  # whatever a stranger's module does when imported
                failure = in_words(error)
                trace(f"{name} is switched off: {failure}")
            self._plugins[name] = HookPlugin(
                entry.name, entry.distribution, entry.version, entry.value, hooks, failure
            )

    def plugins(self) -> list[HookPlugin]:
        """Load every plugin and return what is known of each, the broken ones with their error."""
        self.load("landscape.providers")
        self.load("landscape")
        return [self._plugins[name] for name in sorted(self._plugins)]

    # -- calls --------------------------------------------------------------------------------------------

    def implementations(self, hook: str) -> tuple[Implementation, ...]:
        """Return the implementations of `hook` in the order they are to be called in."""
        caller: pluggy.HookCaller = getattr(self._pluggy.hook, hook)
        return tuple(  # pluggy keeps the one to be called first at the end
            Implementation(each.plugin_name, hook, each.function, tuple(each.argnames))
            for each in reversed(caller.get_hookimpls())
        )

    def collect(self, hook: str, **arguments: Any) -> list[ComponentEntry]:
        """Call a component hook of all plugins and join their answers.

        A plugin that raises, or answers with something else than entries, is reported once per hook, and
        its answer is left out.
        """
        joined: dict[ComponentEntry, None] = {}
        for implementation in self.implementations(hook):
            try:
                answer: Iterable[Any] = implementation(arguments) or ()
                entries = list(answer)
                for entry in entries:
                    if not isinstance(entry, ComponentEntry):
                        raise TypeError(f"it answered {entry!r}, which is not a ComponentEntry")
            except (Exception, SystemExit) as error:
                if is_strict():
                    raise
                self._report(implementation, error)
                continue
            joined.update(dict.fromkeys(entries))
        return list(joined)

    def _report(self, implementation: Implementation, error: BaseException) -> None:
        if (implementation.plugin, implementation.hook) in self._reported:
            return
        self._reported.add((implementation.plugin, implementation.hook))
        report(
            f"Plugin {implementation.plugin!r} failed in {implementation.hook} and its components are left "
            f"out: {in_words(error)}"
        )
