"""The layout of the flat vector: which weight stands where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn

from landscape.errors import ConfigurationError, nearest

__all__ = ["Layout"]


def _shapes(shapes: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(n) for n in shape) for shape in shapes)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _pairs(pairs: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((alias, name) for alias, name in pairs)


@define(frozen=True, slots=False)
class Layout:
    """Names, shapes and places of a module's trainable parameters in one flat vector of shape (P,).

    Parameters stand in the order of ``module.named_parameters()``, each flattened row by row. A parameter
    that several submodules share ("tied") stands once, under its first name. Parameters with
    ``requires_grad=False`` do not stand in the vector.

    Attributes
    ----------
    names
        Qualified names, such as ``"0.weight"``.
    shapes
        Their shapes.
    aliases
        Further names of tied parameters, with the name under which each stands.
    """

    names: tuple[str, ...] = field(converter=_names)
    shapes: tuple[tuple[int, ...], ...] = field(converter=_shapes)
    aliases: tuple[tuple[str, str], ...] = field(default=(), converter=_pairs)

    def __attrs_post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ConfigurationError(
                f"A layout needs a shape for every name; got {len(self.names)} names and "
                f"{len(self.shapes)} shapes."
            )
        if len(set(self.names)) != len(self.names):
            raise ConfigurationError("The names of a layout must differ from each other.")

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Return the layout of the trainable parameters of `module`.

        Raises
        ------
        ConfigurationError
            When there are none, when one is not real-valued, or when a lazy module has not seen data yet.
        """
        _require_module(module)
        first: dict[int, str] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        aliases: list[tuple[str, str]] = []
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ConfigurationError(
                    f"Parameter {name!r} of {type(module).__name__} has no shape yet. Call the module on one "
                    "batch before making a landscape of it."
                )
            if not parameter.requires_grad:
                continue
            if not parameter.is_floating_point():
                raise ConfigurationError(
                    f"Parameter {name!r} has dtype {parameter.dtype}; a landscape is a function of real "
                    "weights. Keep real and imaginary part as two parameters."
                )
            known = first.setdefault(id(parameter), name)
            if known == name:
                shapes[name] = tuple(parameter.shape)
            else:
                aliases.append((name, known))
        if not shapes:
            raise ConfigurationError(
                f"{type(module).__name__} has no parameter with requires_grad=True, so its loss is no "
                "function of weights. Call module.requires_grad_(True), or give the module that has them."
            )
        return cls(shapes.keys(), shapes.values(), aliases)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of entries, in the order of `names`."""
        return tuple(prod(shape) for shape in self.shapes)

    @cached_property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Where each parameter stands in the flat vector."""
        ends = tuple(accumulate(self.sizes))
        return {name: slice(end - n, end) for name, n, end in zip(self.names, self.sizes, ends, strict=True)}

    @cached_property
    def _places(self) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
        """Shape, strides and offset of each parameter in the flat vector."""
        strides = [tuple(accumulate((1, *reversed(s[1:])), mul))[::-1] if s else () for s in self.shapes]
        offsets = [places.start for places in self.slices.values()]
        return list(zip(self.shapes, strides, offsets, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    # -- selecting ----------------------------------------------------------------------------------------

    def select(self, patterns: str | Iterable[str]) -> tuple[str, ...]:
        """Return the names that match one of the patterns, in the order of the layout.

        Parameters
        ----------
        patterns
            A shell-style pattern or several: ``"*.weight"``, ``"layer4.*"``. The name of a submodule selects
            everything in it; a further name of a tied parameter selects the parameter.

        Raises
        ------
        ConfigurationError
            When a pattern matches nothing.
        """
        patterns = self._patterns(patterns)
        spellings = [(name, name) for name in self.names] + list(self.aliases)
        chosen: set[str] = set()
        for pattern in patterns:
            matched = {
                name
                for spelling, name in spellings
                if fnmatchcase(spelling, pattern) or fnmatchcase(spelling, f"{pattern}.*")
            }
            if not matched:
                raise ConfigurationError(
                    f"No trainable parameter matches {pattern!r}.{nearest(pattern, self.names)} "
                    f"The parameters are {_listed(self.names)}."
                )
            chosen |= matched
        if not chosen:
            raise ConfigurationError("Give at least one pattern; an empty selection has no weights.")
        return tuple(name for name in self.names if name in chosen)

    def _patterns(self, given: Any) -> tuple[str, ...]:
        patterns = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
        strays = [pattern for pattern in patterns if not isinstance(pattern, str)]
        if strays:
            raise ConfigurationError(
                f"{strays[0]!r} is no pattern of parameter names; give texts, such as '*.weight'. "
                f"The parameters are {_listed(self.names)}."
            )
        return patterns

    def indices(self, patterns: str | Iterable[str]) -> Tensor:
        """Return the places of the selected weights in the flat vector, shape (p,), int64, rising.

        Raises
        ------
        ConfigurationError
            When a pattern matches nothing.
        """
        return torch.cat(
            [torch.arange(self.slices[name].start, self.slices[name].stop) for name in self.select(patterns)]
        )

    def restricted(self, patterns: str | Iterable[str]) -> Layout:
        """Return the layout of the selected parameters alone.

        Raises
        ------
        ConfigurationError
            When a pattern matches nothing.
        """
        names = self.select(patterns)
        shapes = dict(zip(self.names, self.shapes, strict=True))
        return Layout(
            names,
            [shapes[name] for name in names],
            [(alias, name) for alias, name in self.aliases if name in names],
        )

    # -- flat vector <-> parameters -----------------------------------------------------------------------

    def parts(self, theta: Tensor) -> list[Tensor]:
        """Return views of `theta`, shape (..., P), one per parameter, each of shape ``(..., *shape)``.

        Raises
        ------
        ConfigurationError
            For a vector of another length.
        """
        self._check(theta)
        pieces: Sequence[Tensor] = theta.split_with_sizes(self.sizes, -1)
        leading = tuple(theta.shape[:-1])
        return [
            piece if len(shape) == 1 else piece.view(leading + shape)
            for piece, shape in zip(pieces, self.shapes, strict=True)
        ]

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """Return views of `theta`, shape (..., P), by name, each of shape ``(..., *shape)``.

        Raises
        ------
        ConfigurationError
            For a vector of another length.
        """
        return dict(zip(self.names, self.parts(theta), strict=True))

    def leaves(self, theta: Tensor, *, requires_grad: bool = False) -> list[Tensor]:
        """Return what :meth:`parts` does, cut off from the graph of `theta`: tensors to differentiate by.

        `theta` has shape (P,) or (K, P). One operation per parameter instead of two: this is done at every step.
        """
        theta = theta.detach()
        if theta.ndim == 1 and theta.is_contiguous() and theta.storage_offset() == 0:
            found = [theta.as_strided(*place) for place in self._places]
        else:
            theta = theta.contiguous()
            leading, start = tuple(theta.shape[:-1]), theta.storage_offset()
            outer = (self.size,) * len(leading)
            found = [
                theta.as_strided(leading + shape, outer + strides, start + offset)
                for shape, strides, offset in self._places
            ]
        return [part.requires_grad_() for part in found] if requires_grad else found

    def join(self, parts: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Return the flat vector (P,) of one tensor per parameter, in the order of `names`.

        Parameters
        ----------
        parts
            The tensors.
        out
            Where to write the vector, shape (P,).
        """
        return torch.cat([part if part.ndim == 1 else part.reshape(-1) for part in parts], out=out)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the flat vector (P,) of tensors by name; the inverse of :meth:`split`.

        Parameters
        ----------
        tensors
            One tensor per name, for example a ``state_dict``; entries that are not in the layout (buffers,
            frozen parameters) are passed over.

        Raises
        ------
        ConfigurationError
            When a name is missing or a shape differs.
        """
        if not isinstance(tensors, Mapping):
            raise ConfigurationError(
                f"Tensors by name are needed, such as module.state_dict(); got a {type(tensors).__name__}."
            )
        missing = [name for name in self.names if name not in tensors]
        if missing:
            raise ConfigurationError(
                f"Parameter {missing[0]!r} is missing ({len(missing)} of {len(self.names)} are)."
                f"{nearest(missing[0], tensors)}"
            )
        for name, shape in zip(self.names, self.shapes, strict=True):
            if not isinstance(tensors[name], Tensor):
                raise ConfigurationError(
                    f"Parameter {name!r} is a {type(tensors[name]).__name__}; give a tensor."
                )
            if tuple(tensors[name].shape) != shape:
                raise ConfigurationError(
                    f"Parameter {name!r} has shape {tuple(tensors[name].shape)}, the layout says {shape}. "
                    "The tensors belong to another architecture."
                )
        return self.join([tensors[name].detach() for name in self.names])

    def vector(self, module: nn.Module) -> Tensor:
        """Return a copy of the module's trainable parameters as one flat vector (P,).

        Raises
        ------
        ConfigurationError
            When the module does not have the parameters of the layout.
        """
        _require_module(module)
        return self.flatten(dict(module.named_parameters(remove_duplicate=False)))

    def state_dict(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the weights `theta`, shape (P,), by name, tied parameters under each of their names.

        Merged into ``module.state_dict()`` it can be loaded with ``module.load_state_dict``. The tensors are
        views of `theta`.

        Raises
        ------
        ConfigurationError
            For a vector of another length.
        """
        by_name = self.split(theta)
        return by_name | {alias: by_name[name] for alias, name in self.aliases}

    def _check_numbers(self, theta: Any) -> None:
        """Refuse weights that are not one tensor of real numbers."""
        if not isinstance(theta, Tensor):
            cure = (
                "layout.flatten(...) makes a vector of tensors by name"
                if isinstance(theta, Mapping)
                else ("torch.as_tensor(...) makes a tensor of numbers")
            )
            raise ConfigurationError(
                f"Weights are one tensor of shape ({self.size},); got a {type(theta).__name__}: {cure}."
            )
        if theta.dtype.is_complex:
            raise ConfigurationError(
                f"Weights of dtype {theta.dtype}; a landscape is a function of real weights. Give theta.real, if "
                "the imaginary part is zero."
            )

    def _check(self, theta: Any) -> None:
        """Refuse weights that are not of shape (..., P)."""
        self._check_numbers(theta)
        if theta.ndim == 0 or theta.shape[-1] != self.size:
            raise ConfigurationError(
                f"Weights of shape {tuple(theta.shape)} do not fit a layout of {self.size} parameters; the "
                f"last dimension must be {self.size}."
            )


def _require_module(module: Any) -> None:
    """Refuse what is no module.

    Raises
    ------
    ConfigurationError
        Saying what it is, and how it becomes a module where it is a class of modules.
    """
    if not isinstance(module, nn.Module):
        cure = "give an instance of it" if isinstance(module, type) else "give a torch.nn.Module"
        raise ConfigurationError(f"module={module!r} is no module; {cure}.")


def _listed(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
