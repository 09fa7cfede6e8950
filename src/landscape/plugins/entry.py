"""What is known of a component before it is imported, and the checks it must pass once it is."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen, has

from landscape.errors import BrokenPluginError, ConfigurationError, nearest
from landscape.randomness import imported

__all__ = [
    "KINDS",
    "ComponentEntry",
    "Kind",
    "base_classes",
    "bases",
    "canonical",
    "check_kind",
    "flaw",
    "infer_kind",
]


@frozen
class Kind:
    """One kind of component.

    Attributes
    ----------
    singular
        The word for one of them, as error messages use it.
    bases
        ``module:Class`` of the interfaces, one of which a component of this kind derives from. They stand
        here as text, so that listing components imports nothing. Empty for studies, which are plain
        callables that return an experiment, a critical-point study, a sweep or a study.
    """

    singular: str
    bases: tuple[str, ...]


#: Every kind of component; the entry-point group of a kind is ``landscape.<kind>``.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "models": Kind("model", ("landscape.interfaces:Model",)),
        "datasets": Kind("dataset", ("landscape.interfaces:Dataset",)),
        "probes": Kind("probe", ("landscape.interfaces:Probe", "landscape.interfaces:PopulationProbe")),
        "walkers": Kind("walker", ("landscape.interfaces:Walker",)),
        "projectors": Kind("projector", ("landscape.interfaces:Projector",)),
        "solvers": Kind("solver", ("landscape.interfaces:Solver",)),
        "backends": Kind("backend", ("landscape.interfaces:Backend",)),
        "starts": Kind("start", ("landscape.interfaces:Start",)),
        "stops": Kind("stop rule", ("landscape.interfaces:StopRule",)),
        "schedules": Kind("schedule", ("landscape.interfaces:Schedule",)),
        "studies": Kind("study", ()),
    }
)


def check_kind(kind: str) -> Kind:
    """Return the kind of that name.

    Raises
    ------
    landscape.errors.ConfigurationError
        If there is no such kind.
    """
    try:
        return KINDS[kind]
    except KeyError:
        raise ConfigurationError(
            f"{kind!r} is not a kind of component.{nearest(kind, KINDS)} The kinds are {', '.join(KINDS)}."
        ) from None


def resolve(value: str) -> Any:
    """Import what ``module:attribute`` names."""
    module, _, attribute = value.partition(":")
    found: Any = imported(module)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found


def bases(kind: str) -> tuple[type, ...]:
    """Return the classes, one of which a component of `kind` derives from; empty for studies."""
    return tuple(resolve(value) for value in check_kind(kind).bases)


def base_classes() -> dict[str, tuple[type, ...]]:
    """Return ``{kind: its interfaces}`` for the kinds whose components are classes."""
    return {kind: bases(kind) for kind in KINDS if KINDS[kind].bases}


# attrs marks a frozen class by this one method; the comparison holds for every version of attrs.
@frozen
class _Frozen:
    pass


def flaw(kind: str, component: Any) -> str | None:
    """Return why `component` cannot be a component of `kind`, with the cure, or None if it can."""
    wanted = check_kind(kind)
    if not wanted.bases:
        return None if callable(component) else f"it is {component!r}, which cannot be called"
    if not isinstance(component, type):
        return f"it is {component!r}, not a class"
    if not issubclass(component, bases(kind)):
        names = " or ".join(value.replace(":", ".") for value in wanted.bases)
        return f"its class does not derive from {names}"
    if inspect.isabstract(component):
        missing = ", ".join(sorted(getattr(component, "__abstractmethods__", ())))
        return f"it is abstract: it does not implement {missing}"
    if not has(component) or "__attrs_attrs__" not in vars(component):
        return "it is not an attrs class of its own: decorate the class with @attrs.frozen"
    if component.__setattr__ is not _Frozen.__setattr__:
        return "it is an attrs class, but not a frozen one: decorate it with @attrs.frozen"
    return None


def infer_kind(component: Any) -> str:
    """Return the kind that a class belongs to by its base; any other callable is a study.

    Raises
    ------
    landscape.errors.ConfigurationError
        If it derives from no interface, or from those of several kinds.
    """
    if not isinstance(component, type):
        if callable(component):
            return "studies"
        raise ConfigurationError(f"Only classes and functions can be registered, not {component!r}.")
    fitting = [kind for kind in KINDS if KINDS[kind].bases and issubclass(component, bases(kind))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigurationError(
            f"{component.__name__} derives from the interfaces of {' and '.join(fitting)}; "
            f'say which is meant: register({component.__name__}, kind="{fitting[0]}").'
        )
    interfaces = sorted(value.partition(":")[2] for kind in KINDS.values() for value in kind.bases)
    raise ConfigurationError(
        f"{component.__name__} derives from none of the interfaces in landscape.interfaces "
        f"({', '.join(interfaces)}), so it cannot be registered."
    )


def canonical(distribution: str) -> str:
    """Return the name of a distribution in its one canonical spelling (PEP 503)."""
    spelling = distribution.lower().replace("_", "-").replace(".", "-")
    while "--" in spelling:
        spelling = spelling.replace("--", "-")
    return spelling


@frozen
class ComponentEntry:
    """A component that is installed or registered; it is imported by :meth:`load` and not before.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    name
        The name it is known by.
    distribution
        The distribution that provides it; None for a class that was registered by hand.
    version
        The version of that distribution; None for a class that was registered by hand.
    value
        Where it lies, as ``module:attribute``.
    error
        Why it cannot be used, as far as that is known; None if nothing is known against it.
    """

    kind: str
    name: str
    distribution: str | None
    version: str | None
    value: str
    error: str | None = field(default=None, eq=False)
    _object: Any = field(default=None, eq=False, repr=False, alias="component")

    @property
    def source(self) -> str:
        """The distribution, or the module of a class that was registered by hand."""
        return self.distribution or self.value.partition(":")[0]

    @property
    def qualified_name(self) -> str:
        """``distribution:Name``, which means this entry whatever else is installed."""
        return f"{self.source}:{self.name}"

    def load(self) -> Any:
        """Import the component and check that it is one.

        Returns
        -------
        type or callable
            A frozen attrs class; a callable for a study.

        Raises
        ------
        landscape.errors.BrokenPluginError
            If it cannot be imported or is not a component of its kind. The cause is attached.
        """
        if self._object is not None:
            return self._object
        what = f"The {check_kind(self.kind).singular} {self.name!r} of {self.source}"
        if self.version is not None:
            what += f" {self.version}"
        cure = f"Update {self.source}, or switch it off with LANDSCAPE_DISABLE_PLUGINS={self.source}."
        try:
            component = resolve(self.value)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
            raise BrokenPluginError(
                f"{what} cannot be imported from {self.value}: {type(error).__name__}: {error}. {cure}"
            ) from error
        problem = flaw(self.kind, component)
        if problem is not None:
            raise BrokenPluginError(f"{what} ({self.value}) is not usable: {problem}. {cure}")
        return component

    def peek(self) -> Any:
        """Return the component if its module happens to be imported already, else None; import nothing."""
        if self._object is not None:
            return self._object
        module, _, attribute = self.value.partition(":")
        found: Any = sys.modules.get(module)
        for part in filter(None, attribute.split(".")):
            found = getattr(found, "__dict__", {}).get(part)  # never a module's __getattr__, which may import
        return found
