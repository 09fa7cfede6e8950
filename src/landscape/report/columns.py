"""What the names of columns say: of what data or weights, and of which covariance, a quantity was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["MATRICES", "is_minor", "noises_of", "prefix_of", "where"]

#: Matrices of the curvature, by what the names of their columns begin with.
MATRICES = {
    "hessian": "Hessian",
    "gauss_newton": "Gauss-Newton matrix",
    "fisher": "empirical Fisher matrix",
    "second_moment": "second moment of the examples' gradients",
    "covariance": "covariance of the examples' gradients",
}
_OWN = re.compile(
    r"(loss|score|gradient_norm|weight_norm)(_test)?"
    rf"|({'|'.join(MATRICES)})_trace_.+"  # traces of layers, whose names may have points
    rf"|({'|'.join(MATRICES)}|gradient|batch_gradient|cosine|distance|positive)_[^.]+"
)
_SPLITS = ("test", "train", "validation")
#: What a search cost, and the ends of an interval about a value that has a row or panel of its own.
_MINOR = re.compile(r".+_(products|low|high)(_test)?")


def prefix_of(column: str) -> str:
    """Return what stands before a known quantity, with its point: ``"test.head."``; empty for none."""
    starts = [0, *(found.end() for found in re.finditer(r"\.", column))]
    return next((column[:start] for start in starts if _OWN.fullmatch(column[start:])), "")


def where(prefix: str) -> str:
    """Return the data or weights of a prefix in words, such as ``"test data, head"``; empty for none."""
    first, _, rest = prefix.rstrip(".").partition(".")
    return ", ".join(filter(None, [f"{first} data" if first in _SPLITS else first, rest]))


def is_minor(column: str) -> bool:
    """Whether a column only says what another one cost, or how well it is known."""
    return _MINOR.fullmatch(column) is not None


def _settings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _settings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _settings(item)


def noises_of(configuration: Mapping[str, Any], component: str) -> str:
    """Return in words of which gradients a probe takes the covariance.

    Parameters
    ----------
    configuration
        Of a run.
    component
        ``"GradientCovariance"`` or ``"CovarianceHessianAlignment"``.

    Returns
    -------
    str
        Such as ``"the covariance of the gradients of 30 single examples"``; all of them where probes differ, and
        ``"the covariance of the gradients"`` where the configuration names no such probe.
    """
    found = []
    for settings in _settings(configuration):
        if str(settings.get("component", "")).rpartition(":")[2] != component or "batches" not in settings:
            continue
        count, size = settings["batches"], settings.get("batch_size")
        if settings.get("per_example"):
            gradients = f"the gradients of {count} single examples"
        else:
            gradients = f"the gradients of {count} mini-batches" + (f" of {size} examples" if size else "")
        matrix = "covariance" if settings.get("centred", True) else "second moment (mean not subtracted)"
        found.append(f"the {matrix} of {gradients}")
    return " or ".join(dict.fromkeys(found)) or "the covariance of the gradients"
