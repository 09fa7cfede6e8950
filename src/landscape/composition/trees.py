"""Between values and plain trees: components and recipes as tables that JSON and TOML can say.

A component is written as a table with the key ``component`` beside its fields. Files that people write need
nothing else; files that landscape writes add ``distribution``, ``version`` and ``schema``, so that an old
configuration is understood, or refused with a reason, by a newer installation.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from inspect import isabstract
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import cattrs
import numpy as np
from cattrs import AttributeValidationNote, IterableValidationNote
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn

from landscape import plugins
from landscape.composition.every import Every
from landscape.errors import ConfigurationError, LandscapeError, UnknownComponentError, nearest
from landscape.interfaces import Component

__all__ = ["META", "plain", "recipe_key", "recipes", "structure", "unsayable"]

#: Keys of a component's table that are not fields.
META = ("component", "distribution", "version", "schema")
#: Before ``module:Class``, for classes that are not registered; read only where the file is trusted.
IMPORT = "import:"


class _WrongTypeError(ConfigurationError):
    """A value of the wrong type; the path is added by whoever knows it."""


# ---------------------------------------------------------------------------------------------------------
# Values -> trees
# ---------------------------------------------------------------------------------------------------------


def component_tree(component: Component) -> dict[str, Any]:
    """Return a component as a table of plain values, with everything needed to find it again."""
    cls: type[Any] = type(component)
    taken = [a.name for a in attrs.fields(cls) if a.name in META]
    if taken:
        raise ConfigurationError(
            f"{cls.__qualname__} has a field called {taken[0]!r}, which in a file says whose component it is; "
            "give the field another name."
        )
    entry = plugins.identify(cls)
    if entry is None:
        head = {"component": f"{IMPORT}{cls.__module__}:{cls.__qualname__}", "schema": cls.schema}
    else:
        head = {
            "component": entry.name,
            "distribution": entry.distribution,
            "version": entry.version,
            "schema": cls.schema,
        }
    return head | _fields_tree(component)


def _fields_tree(value: Any) -> dict[str, Any]:
    return {
        a.name: plain(getattr(value, a.name))
        for a in attrs.fields(type(value))
        if a.init and not a.name.startswith("_")
    }


def plain(value: Any) -> Any:
    """Return `value` as JSON can say it; NaN and infinities become their names."""
    if isinstance(value, Component):
        return component_tree(value)
    if attrs.has(type(value)):
        key = recipe_key(type(value))
        return {key: _fields_tree(value)} if key else _fields_tree(value)
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        value = float(value)
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return [plain(entry) for entry in value]
    raise ConfigurationError(
        f"{value!r} of type {type(value).__name__} cannot be part of a configuration: only numbers, strings, "
        "booleans, tuples, mappings and components can."
    )


# ---------------------------------------------------------------------------------------------------------
# Trees -> values
# ---------------------------------------------------------------------------------------------------------


def _kind_of(cls: type) -> str:
    for kind, bases in plugins.base_classes().items():
        if any(issubclass(cls, base) for base in bases):
            return kind
    raise ConfigurationError(f"{cls.__name__} is not a kind of component that a configuration can name.")


def _find_component(name: str, wanted: type, trust: bool) -> type[Component]:
    kind = _kind_of(wanted)
    found: Any
    if name.startswith(IMPORT):
        if not trust:
            raise ConfigurationError(
                f"{name!r} names a class that is not a registered component. Importing code that a file names "
                "is only done for files you trust: pass trust=True (command line: --trust), or register the class."
            )
        module, _, qualname = name.removeprefix(IMPORT).partition(":")
        try:
            found = import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"{name!r} cannot be imported: {error}.") from error
    else:
        try:
            found = plugins.get(kind, name)
        except UnknownComponentError as error:
            module, _, qualname = name.rpartition(":")
            if not all(part.isidentifier() for part in (*module.split("."), *qualname.split("."))):
                raise
            raise UnknownComponentError(
                f"{error} A class in a module of yours, which is not registered, is {IMPORT + name!r}."
            ) from error
    if not (isinstance(found, type) and issubclass(found, wanted) and issubclass(found, Component)):
        raise ConfigurationError(f"{name!r} is not a {wanted.__name__}.")
    return found


def _structure_component(tree: Any, wanted: type, converter: cattrs.Converter, trust: bool) -> Component:
    if isinstance(tree, wanted):
        return tree  # type: ignore[return-value]
    if isinstance(tree, str):
        tree = {"component": tree}
    if not isinstance(tree, Mapping):
        raise _WrongTypeError(
            f"expected a component, as a name or a table with the key 'component'; got {tree!r}"
        )
    name = tree.get("component")
    if not isinstance(name, str):
        if isabstract(wanted):
            raise _WrongTypeError(
                f"the key 'component' is missing; it names one of: {', '.join(plugins.names(_kind_of(wanted)))}"
            )
        cls: type[Component] = wanted
    else:
        distribution = tree.get("distribution")
        # A file that says whose component it means gets that one or none.
        whole = f"{distribution}:{name}" if distribution and ":" not in name else name
        cls = _find_component(whole, wanted, trust)
    schema = tree.get("schema", cls.schema)
    if not isinstance(schema, int) or schema > cls.schema:
        raise ConfigurationError(
            f"{name} was written with schema {schema}, this installation knows up to {cls.schema}; "
            f"install {tree.get('distribution', 'its distribution')} >= {tree.get('version', 'the writing one')}."
        )
    fields = {key: value for key, value in tree.items() if key not in META}
    if schema < cls.schema:
        fields = dict(cls.upgrade(fields, schema))
    structure = _structure_function(cls, converter)
    return structure(fields, cls)  # type: ignore[no-any-return]


def _structure_function(cls: type, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    try:
        return make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)
    except NameError as error:
        raise ConfigurationError(
            f"The fields of {cls.__qualname__} are annotated with a name that cannot be resolved ({error}); "
            "import it outside of `if TYPE_CHECKING:`."
        ) from error


def _strict(kind: type, accepted: tuple[type, ...]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if kind is float and isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
            return float(value)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise _WrongTypeError(f"expected {_readable(kind)}, got {value!r} ({type(value).__name__})")
        return kind(value)

    return structure


def _readable(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if kind in names:
        return names[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_readable(member) for member in get_args(kind))
    if kind is type(None):
        return "nothing"
    if get_origin(kind) is tuple:
        return f"a list of {_readable(get_args(kind)[0]).removeprefix('a ')}s"
    return getattr(kind, "__name__", str(kind))


def _member_of(candidates: Sequence[Any], tree: Any, trust: bool) -> Any:
    """Return the kind of component, among those that a union allows, that a table names."""
    name = tree.get("component") if isinstance(tree, Mapping) else tree
    for candidate in candidates[:-1]:
        with suppress(ConfigurationError):
            _find_component(str(name), candidate, trust)
            return candidate
    return candidates[-1]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def recipes() -> dict[str, type]:
    """Return what can be run, by the key under which it stands in a file."""
    from landscape.composition.critical_point_study import CriticalPointStudy
    from landscape.composition.experiment import Experiment
    from landscape.composition.losses import Losses
    from landscape.composition.study import Study
    from landscape.composition.sweep import Sweep

    return {
        "experiment": Experiment,
        "critical_points": CriticalPointStudy,
        "sweep": Sweep,
        "study": Study,
        "losses": Losses,
    }


def recipe_key(cls: type) -> str | None:
    """Return the key of a class of recipes, None for anything else."""
    return next((key for key, recipe in recipes().items() if recipe is cls), None)


def _origin(annotation: Any) -> Any:
    return get_origin(annotation)


def _is_union(annotation: Any) -> bool:
    return _origin(annotation) in (Union, types.UnionType)


def _is_component(annotation: Any) -> bool:
    origin = _origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Component)


@cache
def _converter(trust: bool) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook(int, _strict(int, (int,)))
    converter.register_structure_hook(float, _strict(float, (int, float)))
    converter.register_structure_hook(str, _strict(str, (str,)))
    converter.register_structure_hook(bool, _strict(bool, (bool,)))

    def structure_union(value: Any, annotation: Any) -> Any:
        members = get_args(annotation)
        if value is None and type(None) in members:
            return None
        # An exact type wins, so that 1 stays a whole number where int | float is allowed.
        for member in members:
            if member in (bool, int, float, str) and type(value) is member:
                return value
        problems: list[Exception] = []
        candidates = [member for member in members if member is not type(None)]
        if isinstance(value, Mapping):
            # A table with the key 'component' is one, and no other table is: errors then speak of one thing.
            named = [member for member in candidates if _is_component(member) == ("component" in value)]
            candidates = named or candidates
        if len(candidates) > 1 and all(map(_is_component, candidates)) and not isinstance(value, Component):
            return converter.structure(value, _member_of(candidates, value, trust))
        for member in candidates:
            try:
                return converter.structure(value, member)
            except Exception as problem:
                problems.append(problem)
        if isinstance(value, Mapping | str):
            # The last error of a component or a table is more telling than "none of these".
            telling = [
                p for m, p in zip(candidates, problems, strict=True) if _is_component(m) or attrs.has(m)
            ]
            if telling and (isinstance(value, Mapping) or str not in members):
                raise telling[-1]
        raise _WrongTypeError(f"expected {_readable(annotation)}, got {value!r} ({type(value).__name__})")

    def structure_sequence(value: Any, annotation: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _WrongTypeError(f"expected {_readable(annotation)}, got {value!r} ({type(value).__name__})")
        arguments = get_args(annotation)
        if len(arguments) == 2 and arguments[1] is ...:
            member_types = [arguments[0]] * len(value)
        elif len(arguments) == len(value):
            member_types = list(arguments)
        else:
            raise _WrongTypeError(f"expected a list of {len(arguments)} entries, got {value!r}")
        members, problems = [], []
        for index, (entry, kind) in enumerate(zip(value, member_types, strict=True)):
            try:
                members.append(converter.structure(entry, kind))
            except Exception as problem:
                problem.add_note(IterableValidationNote("", index, kind))
                problems.append(problem)
        if problems:
            raise IterableValidationError("", problems, tuple)
        return tuple(members)

    def structure_recipe(value: Any, annotation: Any) -> Any:
        allowed = {key: cls for key, cls in recipes().items() if cls in get_args(annotation)}
        if isinstance(value, tuple(allowed.values())):
            return value
        if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in allowed:
            raise _WrongTypeError(
                f"expected a table with one of the keys {', '.join(allowed)}; got {_short(value)}"
            )
        ((key, entry),) = value.items()
        return converter.structure(entry, allowed[key])

    def structure_every(value: Any, _: Any) -> Every:
        if isinstance(value, Every):
            return value
        if isinstance(value, str) or (isinstance(value, Mapping) and "component" in value):
            value = {"probe": value}
        if isinstance(value, Mapping):
            value = {"every": None} | dict(value)
            if isinstance(value.get("restrict"), str):  # one pattern, as Every takes it
                value["restrict"] = [value["restrict"]]
        return _structure_function(Every, converter)(value, Every)  # type: ignore[no-any-return]

    converter.register_structure_hook(Every, structure_every)

    def structure_literal(value: Any, annotation: Any) -> Any:
        choices = get_args(annotation)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            known = [choice for choice in choices if isinstance(choice, str)]
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise _WrongTypeError(
                f"expected one of {', '.join(map(repr, choices))}; got {_short(value)}.{hint}"
            )
        return value

    def structure_mapping(value: Any, annotation: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _WrongTypeError(f"expected a table, got {_short(value)} ({type(value).__name__})")
        _, kind = get_args(annotation) or (str, Any)
        entries, problems = {}, []
        for key, entry in value.items():
            try:
                entries[str(key)] = entry if kind is Any else converter.structure(entry, kind)
            except Exception as problem:
                problem.add_note(AttributeValidationNote("", str(key), kind))
                problems.append(problem)
        if problems:
            raise ClassValidationError("", problems, dict)
        return entries

    def structure_sweep(value: Any, _: Any) -> Any:
        sweep = recipes()["sweep"]
        if isinstance(value, sweep):
            return value
        if isinstance(value, Mapping) and isinstance(value.get("vary"), Mapping):
            from landscape.composition.paths import structured_at

            # What is varied is a field of the base: its type, and whether to trust the file, are known here.
            base = converter.structure(value.get("base"), attrs.fields(attrs.resolve_types(sweep)).base.type)
            vary = {
                path: [structured_at(base, path, entry, trust=trust) for entry in entries]
                if isinstance(entries, list | tuple)
                else entries
                for path, entries in value["vary"].items()
            }
            value = dict(value) | {"base": base, "vary": vary}
        return _structure_function(sweep, converter)(value, sweep)

    def structure_nested(value: Any, annotation: Any) -> Any:
        if isinstance(value, annotation):
            return value
        # Inside another value a recipe stands under its key, as it does in a file.
        key = recipe_key(annotation)
        if isinstance(value, Mapping) and set(value) == {key}:
            value = value[key]
        return _structure_function(annotation, converter)(value, annotation)

    converter.register_structure_hook_func(
        lambda annotation: any(annotation is recipe for recipe in recipes().values()), structure_nested
    )
    converter.register_structure_hook_func(
        lambda annotation: annotation is recipes()["sweep"], structure_sweep
    )
    converter.register_structure_hook_func(
        lambda annotation: _origin(annotation) is Literal, structure_literal
    )
    converter.register_structure_hook_func(
        lambda annotation: isinstance(_origin(annotation), type) and issubclass(_origin(annotation), Mapping),
        structure_mapping,
    )
    converter.register_structure_hook_func(_is_union, structure_union)
    converter.register_structure_hook_func(
        lambda annotation: (
            _is_union(annotation) and all(member in recipes().values() for member in get_args(annotation))
        ),
        structure_recipe,
    )
    converter.register_structure_hook_func(
        lambda annotation: _origin(annotation) is tuple, structure_sequence
    )
    converter.register_structure_hook_func(
        _is_component,
        lambda tree, annotation: _structure_component(
            tree, _origin(annotation) or annotation, converter, trust
        ),
    )
    return converter


def _problems(error: BaseException, path: str) -> list[tuple[str, str]]:
    """Flatten cattrs' tree of exceptions into (path, sentence) pairs."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        found: list[tuple[str, str]] = []
        with_notes, without = error.group_exceptions()
        for problem, note in with_notes:
            place = f"[{note.index}]" if isinstance(note, IterableValidationNote) else f".{note.name}"
            found += _problems(problem, path + place)
        for problem in without:
            found += _problems(problem, path)
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        known = [a.name for a in attrs.fields(error.cl)]
        return [
            (
                f"{path}.{key}",
                f"unknown key; {error.cl.__name__} knows {', '.join(known)}.{nearest(key, known)}",
            )
            for key in sorted(error.extra_fields)
        ]
    if isinstance(error, KeyError):
        key = f".{error.args[0]}"
        return [(path if path.endswith(key) else path + key, "this key is required and missing")]
    # attrs' own validators put the attribute and the value behind the sentence.
    text = str(error.args[0]) if error.args else str(error)
    return [(path, text if not isinstance(error, LandscapeError) else str(error))]


def structure(tree: Any, annotation: Any, *, path: str, trust: bool = False) -> Any:
    """Build the value that `tree` describes.

    Raises
    ------
    landscape.errors.ConfigurationError
        With the path of every key that is unknown, missing or of the wrong type.
    """
    try:
        return _converter(trust).structure(tree, annotation)
    except Exception as error:
        found = _problems(error, path)
        telling: type[LandscapeError] = ConfigurationError
        single = _only_cause(error)
        if isinstance(single, LandscapeError) and not isinstance(single, _WrongTypeError):
            telling = type(single)
        raise telling("\n".join(f"{where}: {what}" for where, what in found)) from error


def _only_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def unsayable(value: Any, path: str) -> list[str]:
    """Return the paths of what TOML cannot say: None where it is not the default.

    TOML has no null; a field that is left out gets its default.
    """
    found = []
    if attrs.has(type(value)):
        for a in attrs.fields(type(value)):
            entry = getattr(value, a.name)
            # Every(None, probe) is written without its steps, and read so.
            implied = isinstance(value, Every) and a.name == "every"
            if entry is None and a.default is not None and not implied:
                found.append(f"{path}.{a.name}")
            found += unsayable(entry, f"{path}.{a.name}")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            found += [f"{path}.{key}"] if entry is None else unsayable(entry, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            found += [f"{path}[{index}]"] if entry is None else unsayable(entry, f"{path}[{index}]")
    return found
