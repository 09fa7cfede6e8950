"""The configuration files of the Julia program behind arXiv:2301.12651, read as they are.

That program kept one ``config.json`` per network. Its fields changed over time; all forms of it are read:

- ``H`` hidden layers of ``di`` units each, inputs of length ``dx``, outputs of length ``dy``, ``m`` examples, and
  ``runcount`` samples.
- ``convolution`` (at first ``first_layer_conv``) with ``stride`` and ``width``.
- ``reg``: whether there is regularisation; ``reg_dist_params`` (at first ``a`` and ``b``): lambda is uniform between
  these two.
- ``x_dist_params`` and ``y_dist_params``: mean and standard deviation of X and of Y.
- ``reg_parameterized``, ``x_parameterized``, ``y_parameterized``: whether a new draw is made for every sample.
- ``start_params_complex`` and ``fix_seed``.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from landscape.errors import ConfigurationError, nearest
from landscape.systems import Distribution

__all__ = ["ThesisConfiguration", "read_thesis_configuration"]

_NUMBERS = ("H", "di", "dx", "dy", "m", "runcount")
_FLAGS = (
    *("convolution", "first_layer_conv", "reg", "reg_parameterized", "x_parameterized", "y_parameterized"),
    *("start_params_complex", "fix_seed"),
)
_PAIRS = ("reg_dist_params", "x_dist_params", "y_dist_params")
_FIELDS = (*_NUMBERS, *_FLAGS, *_PAIRS, "stride", "width", "a", "b")
#: With ``fix_seed`` that program seeded its generator with this number.
_SEED = 1234


@frozen
class ThesisConfiguration:
    """What such a file asks for, in the terms of this library.

    Attributes
    ----------
    model
        Arguments of ``DeepLinear``.
    samples
        ``runcount``.
    seed
        1234 with ``fix_seed``, otherwise a new one, as in that program (whose numbers other generators do not repeat).
    notes
        What is done otherwise than that program did it, a sentence each.
    """

    model: Mapping[str, Any]
    samples: int
    seed: int
    notes: tuple[str, ...]


def read_thesis_configuration(source: str | os.PathLike[str] | Mapping[str, Any]) -> ThesisConfiguration:
    """Read a ``config.json`` of that program.

    Parameters
    ----------
    source
        The file, or what it holds.

    Raises
    ------
    landscape.errors.ConfigurationError
        For a file that cannot be read, and naming the field, for one that is unknown, missing, of the wrong type,
        or contradicts another.
    """
    if isinstance(source, Mapping):
        where, content = "config", dict(source)
    else:
        where, content = os.fspath(source), _content(os.fspath(source))

    def wrong(what: str) -> ConfigurationError:
        return ConfigurationError(f"{where}: {what}")

    for name in content:
        if name not in _FIELDS:
            raise wrong(
                f"unknown field {name!r}; the fields are {', '.join(_FIELDS)}.{nearest(str(name), _FIELDS)}"
            )
    for name in _NUMBERS:
        if name not in content:
            raise wrong(f"the field {name!r} is missing; give a whole number of at least 1.")
    number = {name: _whole(content[name], name, wrong) for name in _NUMBERS}
    flag = {name: _flag(content[name], name, wrong) for name in _FLAGS if name in content}
    pair = {name: _pair(content[name], name, wrong) for name in _PAIRS if name in content}

    if ("a" in content) != ("b" in content):
        raise wrong("'a' and 'b' belong together: the two ends between which lambda is uniform.")
    if "a" in content:
        ends = _pair([content["a"], content["b"]], "a, b", wrong)
        if pair.setdefault("reg_dist_params", ends) != ends:
            raise wrong(
                f"'reg_dist_params' is {list(pair['reg_dist_params'])}, 'a' and 'b' are {list(ends)}: leave one out."
            )
    if flag.get("convolution", flag.get("first_layer_conv")) != flag.get(
        "first_layer_conv", flag.get("convolution")
    ):
        raise wrong(
            "'convolution' and 'first_layer_conv' are the same field and contradict each other: leave one out."
        )
    if not flag.get("reg", True):
        raise wrong(
            "'reg' is false; without regularisation critical points are not isolated (scale one layer up and the next "
            "down). Set it to true, with small numbers in 'reg_dist_params' if need be."
        )
    # The first form of the file had no such fields: lambda was new for each sample, X and Y were drawn once.
    anew = {
        "regularisation": flag.get(
            "reg_parameterized", "a" in content or not flag.keys() & {"x_parameterized"}
        ),
        "inputs": flag.get("x_parameterized", False),
        "targets": flag.get("y_parameterized", False),
    }
    if not any(anew.values()):
        raise wrong(
            "'reg_parameterized', 'x_parameterized' and 'y_parameterized' are all false: all samples would be "
            "the same. Set one of them to true."
        )

    notes = []
    widths = (number["dx"], *[number["di"]] * number["H"], number["dy"])
    convolution = None
    if flag.get("convolution", flag.get("first_layer_conv", False)):
        for name in ("stride", "width"):
            if name not in content:
                raise wrong(
                    f"with a convolution the field {name!r} is needed; give a whole number of at least 1."
                )
        stride, width = (_whole(content[name], name, wrong) for name in ("stride", "width"))
        reach = (number["di"] - 1) * stride + width
        if reach > number["dx"]:
            raise wrong(
                f"'di' = {number['di']} filters of 'width' = {width} at 'stride' = {stride} reach over {reach} inputs, "
                f"'dx' is {number['dx']}; make one of the three smaller or 'dx' larger."
            )
        if reach < number["dx"]:
            notes.append(
                f"The convolution reaches {reach} of dx = {number['dx']} inputs; the others do not enter, and are "
                "left out."
            )
        widths, convolution = (reach, *widths[1:]), (width, stride)
    else:
        for name in ("stride", "width"):
            if name in content:
                _whole(content[name], name, wrong)

    low, high = pair.get("reg_dist_params", (0.0, 1.0))
    laws = {"regularisation": f"uniform({_said(low)}, {_said(high)})"}
    for field, name in (("inputs", "x_dist_params"), ("targets", "y_dist_params")):
        mean, deviation = pair.get(name, (0.0, 1.0))
        laws[field] = f"normal({_said(mean)}, {_said(deviation)})"
    for field, name in (
        ("regularisation", "reg_dist_params"),
        ("inputs", "x_dist_params"),
        ("targets", "y_dist_params"),
    ):
        try:
            Distribution.parse(laws[field])
        except ConfigurationError as error:
            raise wrong(f"{name!r}: {error}") from error
    if pair.get("y_dist_params", (0.0, 1.0)) != pair.get("x_dist_params", (0.0, 1.0)):
        notes.append(
            "Y follows y_dist_params. (The program took mean and standard deviation of Y from x_dist_params.)"
        )
    if not flag.get("start_params_complex", True):
        notes.append(
            "start_params_complex is false; the start is complex all the same: paths from a real one can meet."
        )
    fixed = flag.get("fix_seed", False)
    seed = _SEED if fixed else secrets.randbelow(2**31)
    if fixed:
        notes.append(
            f"The seed is {_SEED}, as that of the program; its generator is another, and so are its numbers."
        )
    model: dict[str, Any] = {"widths": widths, "examples": number["m"], **laws}
    model |= {"once": tuple(field for field, again in anew.items() if not again), "convolution": convolution}
    return ThesisConfiguration(model, number["runcount"], seed, tuple(notes))


def _content(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_once)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f'{path} holds no table of fields; it must be an object such as {{"H": 1, ...}}.'
        )
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that stands twice; which of the two counts would be a guess."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the field {twice!r} stands twice")
    return dict(pairs)


def _said(value: float) -> str:
    """Return a number as one writes it, with all its digits."""
    return str(int(value)) if value.is_integer() else repr(value)


def _whole(value: Any, name: str, wrong: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise wrong(f"{name!r} is {value!r}; give a whole number of at least 1.")
    return value


def _flag(value: Any, name: str, wrong: Any) -> bool:
    if isinstance(value, bool):
        return value
    if name == "reg" and value in ("y", "n"):  # as the first form of the file had it
        return bool(value == "y")
    raise wrong(f"{name!r} is {value!r}; give true or false.")


def _pair(value: Any, name: str, wrong: Any) -> tuple[float, float]:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise wrong(f"{name!r} is {value!r}; give two numbers.")
    return float(numbers[0]), float(numbers[1])
