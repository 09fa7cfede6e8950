"""Studies by their names: what the functions that make them can be told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from landscape.composition.trees import structure
from landscape.errors import ConfigurationError, nearest

__all__ = ["study_called"]


def study_called(
    name: str, make: Callable[..., Any], changes: Sequence[tuple[str, Any]], *, trust: bool = False
) -> tuple[Any, list[tuple[str, Any]]]:
    """Return the recipe that `make` makes with the changes that are arguments of it, and the other changes.

    Parameters
    ----------
    name
        What the study is called, for errors.
    make
        A registered function that returns a recipe.
    changes
        Names and plain values, as a file has them. A name of a parameter is an argument; anything else is left
        for whoever changes fields of the recipe by their paths, and must begin with the name of one.
    trust
        Whether classes that are not registered may be imported.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a name that is neither, with the names there are; for an argument of the wrong type, and one that
        `make` refuses.
    """
    parameters = _parameters(make)
    arguments, others = {}, []
    for change, tree in changes:
        if change in parameters:
            annotation = parameters[change]
            arguments[change] = (
                _tuples(tree)
                if annotation is Any
                else structure(tree, annotation, path=f"{name}: {change}", trust=trust)
            )
        else:
            others.append((change, tree))
    recipe = make(**arguments)
    fields = [a.name for a in attrs.fields(type(recipe)) if a.init]
    for change, _ in others:
        first = change.partition(".")[0]
        if first not in fields:
            raise ConfigurationError(
                f"{name} has no argument {change!r}; it has {', '.join(parameters) or 'none'}. What it makes is a "
                f"{type(recipe).__name__}, with the fields {', '.join(fields)}."
                f"{nearest(first, [*parameters, *fields])}"
            )
    return recipe, others


def _parameters(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the parameters that can be given by name; Any where there is none to be had."""
    try:
        found = inspect.signature(make, eval_str=True).parameters.values()
    except NameError:
        # Annotated with names that only type checkers see.
        found = inspect.signature(make).parameters.values()
    return {
        one.name: Any if one.annotation is one.empty or isinstance(one.annotation, str) else one.annotation
        for one in found
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }


def _tuples(tree: Any) -> Any:
    return tuple(_tuples(entry) for entry in tree) if isinstance(tree, list) else tree
