"""Fields inside recipes by their dotted paths: ``walker.base.lr``, ``probes.0.every``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import attrs

from landscape.composition.trees import structure
from landscape.errors import ConfigurationError, nearest

__all__ = ["replaced", "structured_at"]


def _child(owner: Any, part: str, path: str) -> tuple[Any, Any]:
    """Return the entry of `owner` that `part` names, and the type it was declared with.

    Raises
    ------
    landscape.errors.ConfigurationError
        If there is none.
    """
    if attrs.has(type(owner)):
        cls = attrs.resolve_types(type(owner))
        known = {a.name: a.type for a in attrs.fields(cls) if a.init}
        if part in known:
            return getattr(owner, part), known[part]
    elif isinstance(owner, tuple):
        known = {str(index): Any for index in range(len(owner))}
        if part in known:
            return owner[int(part)], type(owner[int(part)])
    elif isinstance(owner, Mapping):
        known = {str(key): Any for key in owner}
        if part in known:
            return owner[part], type(owner[part])
    else:
        known = {}
    raise ConfigurationError(
        f"{path}: {type(owner).__name__} has no {part!r}"
        f"{'; it has ' + ', '.join(known) if known else ''}.{nearest(part, known)}"
    )


def structured_at(recipe: Any, path: str, tree: Any, *, trust: bool = False) -> Any:
    """Return the value that `tree` describes, as the field at `path` wants it.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the path leads nowhere, or the value is of the wrong type.
    """
    owner, annotation = recipe, Any
    for part in path.split("."):
        owner, declared = _child(owner, part, path)
        # The entries of a tuple field are declared with it.
        arguments = get_args(annotation)
        inside = get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is ...
        annotation = arguments[0] if inside else declared
    return tree if annotation is Any else structure(tree, annotation, path=path, trust=trust)


def replaced(recipe: Any, path: str, value: Any) -> Any:
    """Return `recipe` with the entry at `path` replaced by `value`.

    Raises
    ------
    landscape.errors.ConfigurationError
        If the path leads nowhere, or what results is refused by a validator.
    """
    return _replaced(recipe, path.split("."), value, path)


def _replaced(owner: Any, parts: list[str], value: Any, path: str) -> Any:
    child, _ = _child(owner, parts[0], path)
    new = value if len(parts) == 1 else _replaced(child, parts[1:], value, path)
    if attrs.has(type(owner)):
        return attrs.evolve(owner, **{parts[0]: new})
    if isinstance(owner, tuple):
        index = int(parts[0])
        return (*owner[:index], new, *owner[index + 1 :])
    return dict(owner) | {parts[0]: new}
