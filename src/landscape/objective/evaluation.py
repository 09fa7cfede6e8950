"""Evaluating a module at given weights, and leaving no trace.

The module's own forward runs with its parameters and buffers swapped for tensors of ours, in eval mode; when
the session ends, also by an exception, everything about the module is as it was: parameters, buffers, every
submodule's training flag, and attributes that a forward pass may have set. The global random states are put
back too. ``torch.func.functional_call`` swaps in the same way but resolves every name at every call, which
costs as much as the forward pass of a small network (90 of 320 microseconds for a 64-100-100-10 perceptron
and 32 examples, one core); here the places are found once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import ConfigurationError, LandscapeError, nearest
from landscape.objective.batch import Batch, leaves
from landscape.objective.layout import Layout
from landscape.objective.losses import Criterion, scalar

__all__ = ["SIDE_BY_SIDE", "Evaluator", "Session"]

#: Seeds the global generators for every evaluation of a batch. A module that draws random numbers in eval mode
#: draws the same ones each time, so that its loss is a function of the weights.
_DRAW_SEED = 0

_EMPTY: dict[str, Any] = {}

#: Channels from which on maxima over pixels are found faster where the channels of a pixel lie side by side.
SIDE_BY_SIDE = 8


class Evaluator:
    """A module and the places of its parameters and buffers; shared by all landscapes of the module.

    Parameters
    ----------
    module
        The module.
    layout
        Its trainable parameters.
    device, dtype
        Where and in which floating type to evaluate.
    extra
        Further modules that a criterion calls (a loss that is a module); their parameters are constants.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        device: torch.device,
        dtype: torch.dtype,
        extra: Sequence[nn.Module] = (),
    ) -> None:
        self.module = module
        self.layout = layout
        self.device = device
        self.dtype = dtype
        position = {name: index for index, name in enumerate(layout.names)}
        position |= {alias: position[name] for alias, name in layout.aliases}
        # (owner, key, position in the layout), for every place a trainable parameter is reached from.
        self._trained: list[tuple[nn.Module, str, int]] = []
        self._constants: list[tuple[nn.Module, str]] = []
        self._buffers: list[tuple[nn.Module, str, str]] = []
        self._modules = list(dict.fromkeys(m for root in (module, *extra) for m in root.modules()))
        for prefix, owner in module.named_modules():
            for key, parameter in owner._parameters.items():
                name = f"{prefix}.{key}" if prefix else key
                if name in position:
                    self._trained.append((owner, key, position[name]))
                elif parameter is not None:
                    self._constants.append((owner, key))
            for key, buffer in owner._buffers.items():
                if buffer is not None:
                    self._buffers.append((owner, key, f"{prefix}.{key}" if prefix else key))
        inside = set(module.modules())
        for owner in self._modules:
            if owner not in inside:
                self._constants += [(owner, key) for key, p in owner._parameters.items() if p is not None]
                self._buffers += [(owner, key, "") for key, b in owner._buffers.items() if b is not None]
        #: Whether a criterion of this module was seen to draw from the global generators of Python or numpy.
        self._draws_elsewhere = False
        #: The sessions that are open, the innermost last.
        self.open: list[Session] = []
        #: Whether per-example gradients are vectorised; settled by the first call.
        self.vectorises: bool | None = None
        #: The selections of parameters for which a product with the Hessian has succeeded.
        self.twice_differentiable: set[tuple[str, ...]] = set()

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """Torch's global generators that a forward pass may draw from."""
        return _generators(self.device)

    @cached_property
    def attends(self) -> bool:
        """Whether there is an attention layer with a fast path."""
        kinds = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)
        return any(isinstance(m, kinds) for m in self._modules)

    @cached_property
    def poolings(self) -> list[nn.MaxPool2d]:
        """Layers that take maxima over neighbouring pixels by torch's kernel for contiguous images."""
        if self.device.type != "cpu" or any(hasattr(m, "_orig_mod") for m in self._modules):
            return []  # a compiled module would be compiled again
        return [m for m in self._modules if type(m) is nn.MaxPool2d and "forward" not in m.__dict__]

    def buffers(self, override: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of the module's buffers by name, with those of `override` in their place."""
        return {
            name: override.get(name, owner._buffers[key]).detach().clone()  # type: ignore[union-attr]
            for owner, key, name in self._buffers
            if name
        }

    def constants(self, override: Mapping[str, Tensor]) -> list[Tensor]:
        """Return frozen parameters and buffers as a session puts them in place (:meth:`Session.constants`)."""
        parameters = [self._moved(owner._parameters[key]) for owner, key in self._constants]
        return parameters + [
            self._moved(self.source(owner, key, name, override)) for owner, key, name in self._buffers
        ]

    def source(self, owner: nn.Module, key: str, name: str, override: Mapping[str, Tensor]) -> Tensor:
        """Return the buffer that evaluations start from: one of `override`, or the module's own."""
        buffer = override.get(name) if name else None
        return owner._buffers[key] if buffer is None else buffer  # type: ignore[return-value]

    def check_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Refuse buffers that the module does not have.

        Raises
        ------
        ConfigurationError
            Naming the first unknown or misshapen one.
        """
        if not isinstance(buffers, Mapping):
            raise ConfigurationError(
                f"Buffers are tensors by name, such as landscape.buffers(); got a {type(buffers).__name__}."
            )
        known = {name: owner._buffers[key] for owner, key, name in self._buffers if name}
        for name, value in buffers.items():
            if name not in known:
                raise ConfigurationError(
                    f"The module has no buffer {name!r}.{nearest(name, known)} Its buffers are "
                    f"{sorted(known) or 'none'}."
                )
            if not isinstance(value, Tensor):
                raise ConfigurationError(f"Buffer {name!r} is a {type(value).__name__}; give a tensor.")
            expected = known[name]
            if expected is not None and expected.shape != value.shape:
                raise ConfigurationError(
                    f"Buffer {name!r} has shape {tuple(expected.shape)}, not {tuple(value.shape)}."
                )

    def session(
        self, buffers: Mapping[str, Tensor], *, differentiate: bool = False, underived: bool = False
    ) -> Session:
        """Return a context in which the module can be evaluated.

        Parameters
        ----------
        buffers
            Take the place of the module's own.
        differentiate
            Whether graphs are made in it whatever the caller's gradient mode is.
        underived
            That nothing is differentiated in it, so that kernels may be used that are fast only forwards.
        """
        return Session(self, buffers, differentiate, underived)

    def _moved(self, tensor: Any) -> Tensor:
        moved: Tensor = tensor.detach().to(self.device)
        return moved.to(self.dtype) if moved.is_floating_point() else moved


class Session:
    """An open module: evaluates criteria at any weights until its context ends.

    It is entered at every step of every walk, and what it saves, puts in place and puts back is a noticeable part
    of the time that a small network takes: hence a plain class, and little that is not needed.
    """

    def __init__(
        self, evaluator: Evaluator, buffers: Mapping[str, Tensor], differentiate: bool, underived: bool
    ) -> None:
        self._evaluator = evaluator
        self._overrides = buffers
        self._differentiate = differentiate
        self._underived = underived
        self._before: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._scratch: list[tuple[nn.Module, str, Tensor, int]] = []

    def __enter__(self) -> Session:
        evaluator = self._evaluator
        # Shallow copies put back whatever a forward pass sets: flags, caches, call counters, old-style weight
        # normalisation's recomputed `weight`, the flat weights of recurrent modules.
        before = self._before
        for m in evaluator._modules:
            attributes: dict[str, Any] = m.__dict__
            for held in (attributes, m._parameters, m._buffers):
                before.append((held, dict(held) if held else _EMPTY))
        self._random = [generator.get_state() for generator in evaluator.generators]
        self._elsewhere: tuple[Any, Any] | None = None
        if evaluator._draws_elsewhere:
            self._remember_elsewhere()
        self._fast_path = evaluator.attends and torch.backends.mha.get_fastpath_enabled()
        self._autocast: Any = None
        self._graphs = torch.is_grad_enabled()
        try:
            if torch.is_autocast_enabled(evaluator.device.type):
                self._autocast = torch.autocast(evaluator.device.type, enabled=False)
                self._autocast.__enter__()
            if self._fast_path:
                # The fast path of attention layers replaces kernels (and with masks, shapes) when gradients are
                # off; value and gradient shall belong to one function.
                torch.backends.mha.set_fastpath_enabled(False)
            if self._differentiate and not self._graphs:
                torch.set_grad_enabled(True)
            for m in evaluator._modules:
                # Not m.eval(): that runs code of the module, which may change weights (merged adapters).
                m.__dict__["training"] = False
            if self._underived:
                for pooling in evaluator.poolings:
                    pooling.__dict__["forward"] = partial(_pooled, pooling)
            for owner, key in evaluator._constants:
                owner._parameters[key] = evaluator._moved(owner._parameters[key])  # type: ignore[assignment]
            if evaluator._buffers:
                self._sources = [
                    (owner, key, evaluator.source(owner, key, name, self._overrides))
                    for owner, key, name in evaluator._buffers
                ]
                self._fill_scratch()
        except BaseException:
            self._put_back()
            raise
        evaluator.open.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._evaluator.open.remove(self)
        self._put_back()

    def require_innermost(self) -> None:
        """Refuse to go on where the weights in place are not those of this session.

        Raises
        ------
        ConfigurationError
            When it has ended, or another was opened inside.
        """
        if self._evaluator.open[-1:] != [self]:
            raise ConfigurationError(
                "A value is differentiated where its weights are not in place: after the context of "
                "differentiable_value has ended, or inside another one. Take derivatives right inside it."
            )

    def _put_back(self) -> None:
        if self._fast_path:
            torch.backends.mha.set_fastpath_enabled(True)
        if self._differentiate and not self._graphs:
            torch.set_grad_enabled(False)
        for now, before in self._before:
            if now or before:
                now.clear()
                now.update(before)
        if self._autocast is not None:
            self._autocast.__exit__(None, None, None)
        for generator, state in zip(self._evaluator.generators, self._random, strict=True):
            generator.set_state(state)
        if self._elsewhere is not None:
            random.setstate(self._elsewhere[0])
            np.random.set_state(self._elsewhere[1])

    def evaluate(self, criterion: Criterion, parts: Sequence[Tensor], batch: Batch) -> Tensor:
        """Return the criterion, a 0-dimensional tensor, at the weights `parts` on one batch.

        Parameters
        ----------
        criterion
            Loss or score.
        parts
            One tensor per parameter of the evaluator's layout; gradients flow to them.
        batch
            On the evaluator's device and in its dtype.
        """
        evaluator = self._evaluator
        self.place(parts)
        for owner, key, tensor, version in self._scratch:
            if owner._buffers[key] is not tensor or tensor._version != version:
                self._fill_scratch()
                break
        for generator in evaluator.generators:
            generator.manual_seed(_DRAW_SEED)
        try:
            if criterion.draws.elsewhere is False:
                result = criterion.fn(evaluator.module, batch)
            else:
                result = self._evaluate_seeded(criterion, batch)
        except Exception as error:
            # What the user's own code raises stays as it is: others may catch it by its type.
            if not isinstance(error, LandscapeError):
                error.add_note(
                    f"In the {criterion.name} of {type(evaluator.module).__name__} on a batch of {_described(batch)}."
                )
            raise
        result = scalar(result, criterion.name)
        return result if result.device == evaluator.device else result.to(evaluator.device)

    def _evaluate_seeded(self, criterion: Criterion, batch: Batch) -> Any:
        """Evaluate with the global generators of Python and numpy seeded; the first time, see if they are used.

        To put them back takes 0.1 ms, as long as the forward pass of a small network, which most criteria can
        be spared. (Torch's own generators are cheap to put back, and always are.)
        """
        evaluator, draws = self._evaluator, criterion.draws
        self._remember_elsewhere()
        random.seed(_DRAW_SEED)
        np.random.seed(_DRAW_SEED)  # the global generator is the one a module may draw from
        python, legacy = random.getstate(), np.random.get_state()
        result = criterion.fn(evaluator.module, batch)
        if draws.elsewhere is None:
            draws.elsewhere = random.getstate() != python or not _same(np.random.get_state(), legacy)
            # Also sessions that evaluate nothing may draw then: activations that are computed again.
            evaluator._draws_elsewhere |= draws.elsewhere
        return result

    def _remember_elsewhere(self) -> None:
        if self._elsewhere is None:
            self._elsewhere = random.getstate(), np.random.get_state()

    def untouched(self) -> bool:
        """Whether the modules' attributes are those that the session put in place; forward passes may set some."""
        for now, before in self._before[::3]:
            for name, value in now.items():
                if before.get(name, _EMPTY) is not value and name not in ("training", "forward"):
                    return False
            if not now.keys() >= before.keys():
                return False
        return True

    def place(self, parts: Sequence[Tensor]) -> None:
        """Put the weights `parts` in the places of the parameters.

        A graph in which activations are checkpointed runs parts of the module again when it is differentiated,
        and must find the same weights there.
        """
        for owner, key, index in self._evaluator._trained:
            owner._parameters[key] = parts[index]  # type: ignore[assignment]

    def constants(self) -> list[Tensor]:
        """Return what is in place besides the weights: parameters that do not vary, and buffers."""
        evaluator = self._evaluator
        parameters: list[Any] = [owner._parameters[key] for owner, key in evaluator._constants]
        return parameters + [scratch for _, _, scratch, _ in self._scratch]

    @contextmanager
    def with_constants(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Put `tensors` in place of :meth:`constants`, to record what is computed from them."""
        evaluator, scratch, constants = self._evaluator, self._scratch, self.constants()
        places: list[tuple[dict[str, Any], str]]
        places = [(owner._parameters, key) for owner, key in evaluator._constants]
        places += [(owner._buffers, key) for owner, key, _, _ in scratch]
        try:
            self._scratch = []  # not to be compared with what is in place now
            for (held, key), tensor in zip(places, tensors, strict=True):
                held[key] = tensor
            yield
        finally:
            self._scratch = scratch
            for (held, key), tensor in zip(places, constants, strict=True):
                held[key] = tensor

    def _fill_scratch(self) -> None:
        self._scratch = []
        shared: dict[int, Tensor] = {}
        for owner, key, source in self._sources:
            scratch = shared.setdefault(id(source), self._evaluator._moved(source).clone())
            owner._buffers[key] = scratch
            self._scratch.append((owner, key, scratch, scratch._version))


def _pooled(pooling: nn.MaxPool2d, images: Tensor) -> Any:
    """Return what `pooling` gives, to the bit; where no gradients are asked for, two to four times as fast.

    The kernel for images whose channels lie side by side compares many channels at once, and is the faster one
    even with the conversions there and back. With a backward pass through them, small images lose by it.
    """
    if (
        type(images) is not Tensor
        or images.ndim != 4
        or images.shape[1] < SIDE_BY_SIDE
        or images.device.type != "cpu"
        or not images.is_contiguous()
        or torch.is_grad_enabled()
        or pooling.return_indices
    ):
        return nn.MaxPool2d.forward(pooling, images)
    beside = images.contiguous(memory_format=torch.channels_last)
    return nn.MaxPool2d.forward(pooling, beside).contiguous()


def _generators(device: torch.device) -> list[torch.Generator]:
    """Return torch's global generators that a forward pass on `device` may draw from."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index: int | None = device.index
        if index is None:
            index = torch.cuda.current_device()
        generators.append(torch.cuda.default_generators[index])
    return generators


def _described(batch: Batch) -> str:
    return ", ".join(
        f"{path} {str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}"
        for path, leaf in leaves(batch)
        if isinstance(leaf, Tensor)
    )


def _same(first: Any, second: Any) -> bool:
    return bool(first[2:] == second[2:] and np.array_equal(first[1], second[1]))
