"""Components by kind and name: what is installed, what a name means, what a class is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from attrs import evolve

from landscape.errors import (
    AmbiguousComponentError,
    BrokenPluginError,
    ConfigurationError,
    UnknownComponentError,
    nearest,
)
from landscape.plugins.entry import KINDS, ComponentEntry, bases, canonical, check_kind, flaw, infer_kind
from landscape.plugins.first_party import FIRST_PARTY
from landscape.plugins.manager import PluginManager, trace
from landscape.plugins.provider import is_disabled, metadata_entries

__all__ = ["Namespace", "entries", "get", "identify", "isolated", "manager", "names", "namespace", "register"]

C = TypeVar("C", bound=Callable[..., Any])


class _State:
    """What this process knows: the plugins, and which components turned out to be broken."""

    def __init__(self) -> None:
        self.manager = PluginManager()
        self.errors: dict[ComponentEntry, str] = {}


_state = _State()


def manager() -> PluginManager:
    """Return the plugin manager of this process."""
    return _state.manager


@contextmanager
def isolated() -> Iterator[PluginManager]:
    """Forget, inside the block, everything that was registered by hand, and afterwards what was inside."""
    global _state
    kept, _state = _state, _State()
    try:
        yield _state.manager
    finally:
        _state = kept


# ---------------------------------------------------------------------------------------------------------
# From names to components
# ---------------------------------------------------------------------------------------------------------


def _known(kind: str) -> list[ComponentEntry]:
    check_kind(kind)
    _state.manager.load("landscape.providers")
    listed = _state.manager.collect("landscape_components", kind=kind)
    return sorted(listed, key=lambda entry: (entry.name, entry.source))


def entries(kind: str, *, check: bool = False) -> list[ComponentEntry]:
    """Return the components of a kind, sorted by name; nothing of them is imported.

    Parameters
    ----------
    kind
        ``"models"``, ``"probes"`` and so on.
    check
        Import each component to find out whether it works; what does not has its `error`. Without, only
        what already failed in this process has one.

    Raises
    ------
    landscape.errors.ConfigurationError
        If there is no such kind.
    """
    if check:
        _state.manager.load("landscape")
    found = _known(kind)
    if check:
        for entry in found:
            try:
                _load(entry)
            except BrokenPluginError:
                continue  # _load has noted it
    return [evolve(entry, error=_state.errors.get(entry, entry.error)) for entry in found]


def names(kind: str) -> list[str]:
    """Return the names of the components of a kind, sorted, each once; nothing is imported."""
    return list(dict.fromkeys(entry.name for entry in _known(kind)))


def get(kind: str, name: str) -> Any:
    """Return the component of that kind and name, importing it if need be.

    Parameters
    ----------
    kind
        ``"models"``, ``"probes"`` and so on.
    name
        Its name, or ``distribution:Name``.

    Raises
    ------
    landscape.errors.UnknownComponentError
        If nothing installed provides it; says what is installed and what might be meant.
    landscape.errors.AmbiguousComponentError
        If two distributions provide it.
    landscape.errors.BrokenPluginError
        If it is there and cannot be imported, or is not what it should be.
    """
    check_kind(kind)
    if not isinstance(name, str):
        raise ConfigurationError(f"{name!r} is no name of one of the {kind}; names are text.")
    source, _, bare = name.rpartition(":")
    claimants = _claimants(kind, bare, source)
    if not claimants:
        _state.manager.load("landscape")  # a plugin there may provide components as well
        claimants = _claimants(kind, bare, source)
    if not claimants:
        raise UnknownComponentError(_unknown(kind, name, bare, source))
    if len(claimants) > 1:
        ways = " or ".join(sorted(repr(entry.qualified_name) for entry in claimants))
        raise AmbiguousComponentError(
            f"{len(claimants)} {kind} are called {bare!r}. Say which is meant: {ways}. "
            f"(In Python: landscape.{kind}[{claimants[0].qualified_name!r}].)"
        )
    return _load(claimants[0])


def _claimants(kind: str, name: str, source: str) -> list[ComponentEntry]:
    _state.manager.load("landscape.providers")
    found = _state.manager.collect("landscape_component", kind=kind, name=name)
    return [
        entry
        for entry in found
        if entry.name == name and (not source or canonical(entry.source) == canonical(source))
    ]


def _load(entry: ComponentEntry) -> Any:
    if entry.peek() is None:
        trace(f"importing {entry.value} of {entry.source}")
    try:
        component = entry.load()
    except BrokenPluginError as error:
        _state.errors[entry] = str(error)
        raise
    _state.errors.pop(entry, None)  # it may have been repaired since
    return component


def _unknown(kind: str, name: str, bare: str, source: str) -> str:
    """Return the text of the error for a name that nothing provides."""
    singular = check_kind(kind).singular
    listed = _known(kind)
    text = f"No installed plugin provides a {singular} called {name!r}."
    switched_off = [
        entry
        for entry in metadata_entries(f"landscape.{kind}")
        if entry.name == bare and is_disabled(entry.distribution, entry.name)
    ]
    elsewhere = [other for other in KINDS if other != kind and any(e.name == bare for e in _known(other))]
    if switched_off:
        text += f" {switched_off[0].qualified_name!r} is switched off by LANDSCAPE_DISABLE_PLUGINS."
    elif source and any(entry.name == bare for entry in listed):
        text += f" {bare!r} is provided by {', '.join(e.source for e in listed if e.name == bare)}."
    elif (kind, bare) in FIRST_PARTY:
        distribution = FIRST_PARTY[kind, bare]
        text += f" It comes with {distribution}: pip install {distribution}."
    elif elsewhere:
        other = KINDS[elsewhere[0]].singular
        text += f" {bare!r} is a {other}: landscape.{elsewhere[0]}.{bare}."
    else:
        text += nearest(bare, {entry.name for entry in listed})
    return f"{text} Installed {kind}: {', '.join(names(kind)) or 'none'}."


# ---------------------------------------------------------------------------------------------------------
# By hand, and back from components to names
# ---------------------------------------------------------------------------------------------------------


@overload
def register(component: C, /, *, kind: str | None = None, name: str | None = None) -> C: ...


@overload
def register(
    component: None = None, /, *, kind: str | None = None, name: str | None = None
) -> Callable[[C], C]: ...


def register(component: Any = None, /, *, kind: str | None = None, name: str | None = None) -> Any:
    """Make a class known by name, as an installed plugin's is; the one line that a notebook needs.

    Parameters
    ----------
    component
        A frozen attrs class that implements one of the interfaces, or a function that returns a study.
        Left out, a decorator is returned.
    kind
        ``"models"``, ``"probes"`` and so on; by default read off the base class.
    name
        The name; by default the class's own. Registering a class of the same name and module again, as
        when a notebook's cell runs twice, replaces the first.

    Returns
    -------
    type or callable
        `component` itself, so that this can be a decorator.

    Raises
    ------
    landscape.errors.ConfigurationError
        If it cannot be a component; says why.

    Examples
    --------
    >>> import attrs
    >>> import landscape as ls
    >>> @ls.register
    ... @attrs.frozen
    ... class Zero(ls.Probe):
    ...     def measure(self, point, generator):
    ...         return ls.Measurement(scalars={"zero": 0.0})
    >>> ls.probes.Zero()
    Zero()
    """
    if component is None:
        return lambda decorated: register(decorated, kind=kind, name=name)
    kind = infer_kind(component) if kind is None else kind
    problem = flaw(kind, component)
    called = getattr(component, "__name__", None) if name is None else name
    if problem is not None:
        raise ConfigurationError(f"{called or component!r} cannot be registered among {kind}: {problem}.")
    if not called or not called.isidentifier():
        raise ConfigurationError(f"{called!r} cannot be the name of a component: give name= an identifier.")
    value = f"{component.__module__}:{component.__qualname__}"
    if not any(
        entry.name == called and entry.value == value for entry in metadata_entries(f"landscape.{kind}")
    ):
        _state.manager.components.add(ComponentEntry(kind, called, None, None, value, component=component))
    return component


def identify(component: Any) -> ComponentEntry | None:
    """Return the entry by which a class or a study is known, or None if it is not.

    It is found whether it was got by name or imported from its module. Of two names for one class, the
    class's own is preferred.
    """
    if not isinstance(component, type) and not callable(component):
        return None
    kinds = [
        kind
        for kind in KINDS
        if (issubclass(component, bases(kind)) if isinstance(component, type) else not KINDS[kind].bases)
    ]
    called = getattr(component, "__name__", "")
    found = [
        entry
        for kind in kinds
        for entry in [*_known(kind), *_state.manager.collect("landscape_component", kind=kind, name=called)]
    ]
    found.sort(key=lambda entry: entry.name != called)  # stable: its own name first
    for entry in found:
        if entry.peek() is component:
            return entry
    # The entry may name another module of the plugin, which passes the class on and is not imported yet.
    package = getattr(component, "__module__", "").partition(".")[0]
    for entry in found:
        if entry.value.partition(":")[0].partition(".")[0] == package and entry.peek() is None:
            try:
                if _load(entry) is component:
                    return entry
            except BrokenPluginError:
                continue  # noted by _load; it is not this class, which could be imported
    return None


# ---------------------------------------------------------------------------------------------------------
# landscape.probes and its like
# ---------------------------------------------------------------------------------------------------------


class Namespace:
    """The components of one kind as attributes: ``landscape.probes.HessianSpectrum``.

    ``dir()`` lists what is installed and imports nothing. ``landscape.probes["distribution:Name"]`` is for
    a name that two distributions claim.
    """

    def __init__(self, kind: str) -> None:
        check_kind(kind)
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        # copy, pickle, IPython and doctest look for names like these on everything; no component has them.
        if name.startswith("_"):
            raise AttributeError(f"landscape.{self.__dict__.get('_kind')} has no attribute {name!r}")
        return get(self._kind, name)

    def __getitem__(self, name: str) -> Any:
        return get(self._kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(names(self._kind))

    def __len__(self) -> int:
        return len(names(self._kind))

    def __contains__(self, name: object) -> bool:
        return name in names(self._kind)

    def __dir__(self) -> list[str]:
        return [name for name in self if name.isidentifier()]

    def __reduce__(self) -> tuple[Callable[[str], Namespace], tuple[str]]:
        return namespace, (self._kind,)

    def __repr__(self) -> str:
        return f"<landscape.{self._kind}: {', '.join(self) or 'none installed'}>"


_namespaces: dict[str, Namespace] = {}


def namespace(kind: str) -> Namespace:
    """Return the components of a kind as attributes; always the same object for the same kind."""
    if kind not in _namespaces:
        _namespaces[kind] = Namespace(kind)
    return _namespaces[kind]
