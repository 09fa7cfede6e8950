"""Values at many points: a forward pass is recorded once and replayed with other weights.

A grid of losses is thousands of forward passes of one module on the same data. The module's own code, and putting
weights in place for it, need not run for each of them: what it computes is recorded as a list of tensor operations
while it runs once, and the list is run for every point. This makes three things possible.

- Whatever does not depend on the weights is computed once.
- On a flat, theta(z) = o + z D, everything that is affine in the weights is affine in z: a first layer W x + b at
  theta(z) is its value at o plus z_1 times that of the first direction, and so on. These parts are computed once,
  and a point costs their sum in place of the product (of a 64-100-100-10 perceptron, 37 % of the multiplications).
- Several points go through the list together where one does not fill the processor's cache
  (:data:`TOGETHER`), and linear layers are computed with examples along the last dimension, where the products
  of matrices and the softmax are faster.

What cannot be recorded (branches that depend on the weights, random numbers, hooks, data shared out to several
processes) is computed by the loop over points. Which of the two it is depends on the module and its data alone,
not on timing; every recording is compared with the loop at two points before it is used.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from attrs import define, frozen
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.errors import ConfigurationError
from landscape.objective.batch import Batch, aligned
from landscape.objective.landscape import Landscape
from landscape.objective.memory import keep_freed_memory
from landscape.objective.recording import first_line, first_with_hooks

__all__ = ["Replay"]

#: Bytes that the results of the operations for points computed together may take. Measured on one core with 1 MiB
#: of second-level cache, microseconds a point for 1, 2, 4, 8 and 16 points at once, on 1 797 digits: 16 hidden units
#: (0.3 MB a point) 69, 51, 55, 64, 53; 100 units (0.9 MB) 312, 222, 268, 287, 343; on 200 digits: 16 units
#: 30, 15, 9, 13, 10; 100 units 33, 25, 29, 22, 19.
TOGETHER: Final = 1 << 20
#: The same for accelerators, which want many points at once.
TOGETHER_ON_ACCELERATORS: Final = 256 << 20
#: Points together at most: by then what the interpreter costs is spread thin.
_AT_ONCE: Final = 64
#: Bytes of what is computed once for a flat, over all batches: beyond this, the products are computed at every point.
KEPT: Final = 256 << 20
#: Entries from which on a sum of few terms is computed row by row: the product of matrices that it is takes 1 ns an
#: entry, the sum a quarter of that, and 2 us more.
_LONG: Final = 4096
#: Fewer points are computed by the loop: a recording costs about as much as ten of them.
WORTHWHILE: Final = 24
#: How far the values of recording and loop may be apart, relative to the larger of the values at the two points.
_TOLERANCES: Final = {torch.float64: 1e-10, torch.float32: 1e-3}
_COARSE: Final = 1e-1

_aten = torch.ops.aten


class _NotRecordable(Exception):  # noqa: N818 - a reason that is passed on, not an error that users see
    """Why the loop must do it."""


# ---------------------------------------------------------------------------------------------------------
# Programs
# ---------------------------------------------------------------------------------------------------------


@frozen
class _Value:
    """A tensor of a program, by number."""

    number: int


@define(eq=False)
class _Step:
    """An operation of a program: ``result = function(*arguments, **keywords)``."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    result: _Value

    def sources(self) -> list[_Value]:
        """Return the values that the operation takes in."""
        return list(_values_in((self.arguments, tuple(self.keywords.values()))))


@define(eq=False)
class _Program:
    """Operations from inputs to one output.

    Attributes
    ----------
    inputs
        What is put in.
    steps
        In their order.
    output
        What comes out.
    known
        Tensors that are the same at every run.
    like
        For each value the tensor that it was while recording; of its shape, layout and type only is made use.
    """

    inputs: list[_Value]
    steps: list[_Step]
    output: _Value
    known: dict[_Value, Tensor]
    like: dict[_Value, Any]

    def compiled(self) -> Callable[..., Tensor]:
        """Return a function of the inputs."""
        last: dict[int, int] = {}
        for place, step in enumerate(self.steps):
            last.update((value.number, place) for value in step.sources())
        last.pop(self.output.number, None)
        held = {value.number for value in self.known}
        plan = [
            (
                step.function,
                step.arguments,
                step.keywords,
                _is_flat(step),
                step.result.number,
                tuple(
                    n for n in {v.number for v in step.sources()} if last.get(n) == place and n not in held
                ),
            )
            for place, step in enumerate(self.steps)
        ]
        size = 1 + max(
            (v.number for v in (*self.inputs, *self.known, *(s.result for s in self.steps))), default=0
        )
        start: list[Any] = [None] * size
        for value, tensor in self.known.items():
            start[value.number] = tensor
        places = [value.number for value in self.inputs]
        output = self.output.number

        def run(*inputs: Tensor) -> Tensor:
            values = start.copy()
            for place, tensor in zip(places, inputs, strict=True):
                values[place] = tensor
            for function, arguments, keywords, flat, result, done in plan:
                if flat:
                    given = [values[one.number] if type(one) is _Value else one for one in arguments]
                    values[result] = function(*given, **keywords)
                else:
                    filled = _filled(arguments, values)
                    values[result] = function(
                        *filled, **{k: _filled(one, values) for k, one in keywords.items()}
                    )
                for number in done:
                    values[number] = None
            found: Tensor = values[output]
            return found

        return run

    def peak(self) -> int:
        """Return how many bytes the results of operations take at their most; those of inputs are not counted."""
        origin: dict[_Value, _Value] = {}
        last: dict[_Value, int] = {}
        for place, step in enumerate(self.steps):
            sources = step.sources()
            if sources and _shares_memory(step.function):
                origin[step.result] = origin.get(sources[0], sources[0])
            for value in (*sources, step.result):
                last[origin.get(value, value)] = place
        made = {step.result for step in self.steps} - origin.keys()
        ending: dict[int, list[_Value]] = {}
        for value, place in last.items():
            ending.setdefault(place, []).append(value)
        held = peak = 0
        for place, step in enumerate(self.steps):
            if step.result in made:
                held += _size(self.like[step.result])
                peak = max(peak, held)
            held -= sum(_size(self.like[value]) for value in ending.get(place, ()) if value in made)
        return peak


def _values_in(nested: Any) -> Iterator[_Value]:
    if type(nested) is _Value:
        yield nested
    elif isinstance(nested, list | tuple):
        for one in nested:
            yield from _values_in(one)


def _is_flat(step: _Step) -> bool:
    return not any(
        isinstance(one, list | tuple) and any(True for _ in _values_in(one)) for one in step.arguments
    ) and not any(True for _ in _values_in(tuple(step.keywords.values())))


def _filled(nested: Any, values: Sequence[Any]) -> Any:
    if type(nested) is _Value:
        return values[nested.number]
    if isinstance(nested, list | tuple):
        return type(nested)(_filled(one, values) for one in nested)
    return nested


# ---------------------------------------------------------------------------------------------------------
# Recording
# ---------------------------------------------------------------------------------------------------------

#: Operations that change nothing when shape, layout and type stay what they were.
_RESHAPING = {
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.expand.default,
    _aten.permute.default,
    _aten.detach.default,
    _aten.alias.default,
}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations that depend on some tensors, and carries all of them out."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, for two seconds, to leave out what nobody compiles here.
        return False

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: list[Any] = []  # so that no two tensors have the same id
        self._values: dict[int, _Value] = {}
        self._turned: dict[_Value, _Value] = {}  # matrices that are transposed others, and of which
        self.program = _Program([], [], _Value(-1), {}, {})
        self.writes = False
        for tensor in inputs:
            self.program.inputs.append(self._named(tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._writes_checked(func, (args, tuple(kwargs.values())))
        result = func(*args, **kwargs)
        given = [self._values.get(id(one)) for one in _tensors_in((args, tuple(kwargs.values())))]
        tags = getattr(func, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags and not _is_deterministic(func, args):
            raise _NotRecordable(f"{func} draws random numbers")
        if not any(given):
            # It depends on no input, and keeps its present value. An identifier that a dropped tensor had may
            # not stand for another one, so what is constant is kept as well.
            self._alive.append(result)
            return result
        if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
            raise _NotRecordable(f"{func} makes what follows depend on the values of the weights")
        self._write_down(func, args, kwargs, result)
        return result

    def _writes_checked(self, func: Any, given: Any) -> None:
        if func._schema.is_mutable:
            self.writes = True
            raise _NotRecordable(f"{func} changes a tensor in place")
        for tensor in _tensors_in(given):
            if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
                raise _NotRecordable(f"there is a tensor of the type {type(tensor).__name__}")

    def _write_down(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        same = self._same(func, args, result)
        if same is not None:
            self._values[id(result)] = same
            self._alive.append(result)
            return
        if func is _aten.view.default or func is _aten._unsafe_view.default:
            func = _aten.reshape.default  # layouts may be turned
        arguments, keywords = self._noted(args), {key: self._noted(one) for key, one in kwargs.items()}
        value = self._named(result)
        self.program.steps.append(_Step(func, arguments, keywords, value))
        if isinstance(result, list | tuple):
            for place, entry in enumerate(result):
                if isinstance(entry, Tensor):
                    self.program.steps.append(_Step(operator.getitem, (value, place), {}, self._named(entry)))

    def _same(self, func: Any, args: tuple[Any, ...], result: Any) -> _Value | None:
        """Return the value that an operation gives back unchanged, None where it does something."""
        if not isinstance(result, Tensor):
            return None
        if _leaves_as_is(func, args, result):
            return self._values[id(args[0])]
        if func is _aten.t.default:
            source = self._values[id(args[0])]
            turned = self._turned.get(source)
            if turned is None:
                self._turned[_Value(len(self.program.like))] = source
            return turned
        return None

    def _named(self, tensor: Any) -> _Value:
        value = _Value(len(self.program.like))
        self._values[id(tensor)] = value
        self.program.like[value] = tensor
        return value

    def _noted(self, nested: Any) -> Any:
        if isinstance(nested, Tensor):
            value = self._values.get(id(nested))
            if value is None:
                value = self._named(nested)
                self.program.known[value] = nested
            return value
        if isinstance(nested, list | tuple):
            return type(nested)(self._noted(one) for one in nested)
        return nested

    def value_of(self, tensor: Tensor) -> _Value:
        """Return the value that stands for a tensor.

        Raises
        ------
        _NotRecordable
            When it depends on no input.
        """
        value = self._values.get(id(tensor))
        if value is None or value in self.program.known:
            raise _NotRecordable("the loss does not depend on the weights by torch's operations")
        return value


def _tensors_in(nested: Any) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, list | tuple):
        for one in nested:
            yield from _tensors_in(one)


def _leaves_as_is(func: Any, args: tuple[Any, ...], result: Tensor) -> bool:
    source = args[0]
    if not isinstance(source, Tensor) or source.dtype != result.dtype or source.shape != result.shape:
        return False
    if func is _aten.mul.Scalar:
        return bool(args[1] == 1)
    return func in _RESHAPING and source.stride() == result.stride()


def _is_deterministic(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation that may draw random numbers draws none: attention without dropout."""
    schema = func._schema
    for place, argument in enumerate(schema.arguments):
        if argument.name == "dropout_p":
            return bool((args[place] if place < len(args) else argument.default_value) == 0)
    return False


def _shares_memory(function: Any) -> bool:
    """Whether the result lies where an argument does: a view, an entry of a tuple, or written in place."""
    schema = getattr(function, "_schema", None)
    if schema is None:
        return True
    return any(returned.alias_info is not None for returned in schema.returns)


def _size(result: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors_in(result))


def _recorded(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> _Program:
    """Return the program of a function of tensors.

    Raises
    ------
    _NotRecordable
        When there is none.
    """
    recorder = _Recorder(inputs)
    try:
        with recorder:
            result = function(*inputs)
    except _NotRecordable:
        if not recorder.writes:
            raise
        # Rectifiers that work in place, most often. Writes into what is not its own are refused again.
        recorder = _Recorder(inputs)
        with recorder:
            result = torch.func.functionalize(function)(*inputs)
    program = recorder.program
    program.output = recorder.value_of(result)
    return _without_unused(program)


def _without_unused(program: _Program) -> _Program:
    used = {program.output}
    steps = []
    for step in reversed(program.steps):
        if step.result in used:
            used.update(step.sources())
            steps.append(step)
    known = {value: tensor for value, tensor in program.known.items() if value in used}
    return _Program(program.inputs, steps[::-1], program.output, known, program.like)


# ---------------------------------------------------------------------------------------------------------
# Faster operations
# ---------------------------------------------------------------------------------------------------------

#: Classes from which on the kernel of the softmax along the last dimension fills its registers.
_VECTOR: Final = 16


def _turned(program: _Program) -> _Program:
    """Compute linear layers, and softmaxes over few classes, with examples along the last dimension.

    The kernel of the logarithm of a softmax for the last dimension works on one row of classes at a time: 1 797
    rows of 10 take 300 us, and 16 us along the other dimension. The product of 100 x 100 weights with 1 797
    columns takes 0.8 of the time of 1 797 rows with the weights. Results are views with the strides turned, which
    elementwise operations keep.
    """
    steps = []
    for step in program.steps:
        like = program.like[step.result]
        function = step.function
        if function is _aten.addmm.default and not step.keywords and _is_layer(program, step):
            step = _Step(_linear_turned, step.arguments, {}, step.result)
        elif (
            function is _aten._log_softmax.default
            and like.ndim == 2
            and step.arguments[1] in (1, -1)
            and like.shape[1] < _VECTOR <= like.shape[0]
        ):
            step = _Step(_log_softmax_turned, (step.arguments[0], step.arguments[2]), {}, step.result)
        elif function is _aten.nll_loss_forward.default and _takes_all(program, step):
            step = _Step(_nll_turned, (step.arguments[0], step.arguments[1]), {}, step.result)
        steps.append(step)
    return _Program(program.inputs, steps, program.output, program.known, program.like)


def _is_layer(program: _Program, step: _Step) -> bool:
    bias, examples, weights = (program.like[one] for one in step.arguments)
    return bool(bias.ndim == 1 and examples.shape[0] >= weights.shape[1])


def _linear_turned(bias: Tensor, examples: Tensor, weights: Tensor) -> Tensor:
    return _aten.t(_aten.addmm(_aten.unsqueeze(bias, 1), _aten.t(weights), _aten.t(examples)))  # type: ignore[no-any-return]


def _log_softmax_turned(scores: Tensor, half_to_float: bool) -> Tensor:
    return _aten.t(_aten._log_softmax(_aten.t(scores), 0, half_to_float))  # type: ignore[no-any-return]


def _takes_all(program: _Program, step: _Step) -> bool:
    """Whether a step is the mean over known targets none of which is ignored or weighed."""
    scores, target, weights, reduction, ignored = step.arguments
    known = program.known.get(target)
    return (
        known is not None
        and weights is None
        and reduction == 1
        and program.like[scores].ndim == 2
        and not bool((known == ignored).any())
    )


def _nll_turned(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    picked = _aten.gather(_aten.t(scores), 0, _aten.unsqueeze(target, 0))
    return _aten.neg(_aten.mean(picked)), target


#: Operations with a counterpart that writes into its first argument.
_IN_PLACE = {
    getattr(_aten, name).default: getattr(_aten, f"{name}_").default
    for name in ("relu", "tanh", "sigmoid", "silu", "gelu", "elu", "leaky_relu", "hardtanh", "neg", "exp")
} | {getattr(_aten, name).Tensor: getattr(_aten, f"{name}_").Tensor for name in ("add", "sub", "mul", "div")}


def _in_place(program: _Program, fresh: set[_Value]) -> _Program:
    """Let operations write into what only they use: `fresh` inputs, and results of operations that are no views."""
    uses: dict[_Value, int] = {program.output: 1}
    for step in program.steps:
        for value in step.sources():
            uses[value] = uses.get(value, 0) + 1
    own = set(fresh)
    steps = []
    for step in program.steps:
        source: Any = step.arguments[0] if step.arguments else None
        like = program.like[step.result]
        counterpart = _IN_PLACE.get(step.function)
        if (
            counterpart is not None
            and source in own
            and uses[source] == 1
            and program.like[source].shape == like.shape
            and program.like[source].dtype == like.dtype
        ):
            step = _Step(counterpart, step.arguments, step.keywords, step.result)
            own.add(step.result)
        elif isinstance(like, Tensor) and (
            not _shares_memory(step.function)
            or (source in own and uses[source] == 1 and program.like[source].numel() == like.numel())
        ):
            own.add(step.result)
        steps.append(step)
    return _with_fast_tanh(_Program(program.inputs, steps, program.output, program.known, program.like))


def _with_fast_tanh(program: _Program) -> _Program:
    """Compute hyperbolic tangents on the CPU with numpy's kernel.

    For 179 700 numbers of single precision it takes 68 us where torch's takes 450, as much as the product of
    matrices before it; the largest relative error is 1.1e-7, torch's 6e-8 (numpy 2.4, torch 2.13, x86-64).
    """
    steps = []
    for step in program.steps:
        like = program.like[step.result]
        if (
            step.function in (_aten.tanh.default, _aten.tanh_.default)
            and like.device.type == "cpu"
            and like.dtype in (torch.float32, torch.float64)
            and like.numel() >= _LONG
        ):
            function = _tanh if step.function is _aten.tanh.default else _tanh_in_place
            step = _Step(function, step.arguments, {}, step.result)
        steps.append(step)
    return _Program(program.inputs, steps, program.output, program.known, program.like)


def _tanh(values: Tensor) -> Tensor:
    result = torch.empty_like(values)
    np.tanh(values.numpy(), out=result.numpy())
    return result


def _tanh_in_place(values: Tensor) -> Tensor:
    array = values.numpy()
    np.tanh(array, out=array)
    return values


# ---------------------------------------------------------------------------------------------------------
# Flats
# ---------------------------------------------------------------------------------------------------------

#: For each operation the sets of arguments in which it is linear together, the others staying what they are.
_LINEAR: dict[Any, tuple[frozenset[int], ...]] = {
    function: (frozenset({0}),)
    for function in (
        _aten.t.default,
        _aten.transpose.int,
        _aten.permute.default,
        _aten.reshape.default,
        _aten.expand.default,
        _aten.unsqueeze.default,
        _aten.squeeze.dim,
        _aten.squeeze.dims,
        _aten.clone.default,
        _aten.slice.Tensor,
        _aten.select.int,
        _aten.neg.default,
        _aten.sum.default,
        _aten.sum.dim_IntList,
        _aten.mean.default,
        _aten.mean.dim,
        _aten.mul.Scalar,
        _aten.div.Scalar,
        _aten.div.Tensor,
        _aten.avg_pool2d.default,
        _aten.embedding.default,
        _aten.index_select.default,
    )
} | {
    _aten.add.Tensor: (frozenset({0, 1}),),
    _aten.sub.Tensor: (frozenset({0, 1}),),
    _aten.mul.Tensor: (frozenset({0}), frozenset({1})),
    _aten.mm.default: (frozenset({0}), frozenset({1})),
    _aten.bmm.default: (frozenset({0}), frozenset({1})),
    _aten.addmm.default: (frozenset({0, 1}), frozenset({0, 2})),
    _aten.baddbmm.default: (frozenset({0, 1}), frozenset({0, 2})),
    _aten.convolution.default: (frozenset({0, 2}), frozenset({1, 2})),
}
#: Those that are worth sparing. The others cost no more than the sum that would take their place.
_PRODUCTS = {
    _aten.mm.default,
    _aten.bmm.default,
    _aten.addmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
}


def _linear_in(step: _Step, affine: set[_Value], varying: set[_Value]) -> frozenset[int] | None:
    """Return the arguments in which an operation is linear, and which hold all of it that varies; None if not so."""
    there = {place for place, one in enumerate(step.arguments) if type(one) is _Value and one in varying}
    if len([value for value in step.sources() if value in varying]) != len(there):
        return None  # also inside lists, or by keyword
    if any(step.arguments[place] not in affine for place in there):
        return None
    return next((together for together in _LINEAR.get(step.function, ()) if there <= together), None)


@define(eq=False)
class _Split:
    """A program in two: what is affine in the inputs and worth sparing, and the rest.

    Attributes
    ----------
    affine
        The operations of the first part, with the arguments in which they are linear.
    spared
        The values that the second part takes from it.
    rest
        A program of `spared`, and of those inputs that it needs itself.
    """

    affine: list[tuple[_Step, frozenset[int]]]
    spared: list[_Value]
    rest: _Program


def _split(program: _Program, limit: int) -> _Split:
    """Take apart what is affine in the inputs, if it takes no more bytes than `limit`."""
    varying = {*program.inputs, *(step.result for step in program.steps)}
    affine, worth = set(program.inputs), set[_Value]()
    steps: list[tuple[_Step, frozenset[int]]] = []
    for step in program.steps:
        together = _linear_in(step, affine, varying)
        if together is None:
            continue
        affine.add(step.result)
        steps.append((step, together))
        if step.function in _PRODUCTS or any(source in worth for source in step.sources()):
            worth.add(step.result)
    used = {program.output} | {
        source for step in program.steps if step.result not in worth for source in step.sources()
    }
    spared = [step.result for step in program.steps if step.result in worth & used]
    size = sum(program.like[value].numel() * program.like[value].element_size() for value in spared)
    if not spared or size > limit:
        return _Split([], [], program)
    rest = _Program(
        [*spared, *program.inputs],
        [step for step in program.steps if step.result not in worth],
        program.output,
        program.known,
        program.like,
    )
    needed = set(spared)
    first = []
    for step, together in reversed(steps):
        if step.result in needed:
            needed.update(step.sources())
            first.append((step, together))
    return _Split(first[::-1], spared, _without_unused(rest))


def _terms(
    split: _Split, known: dict[_Value, Tensor], inputs: dict[_Value, list[Tensor]]
) -> list[list[Tensor]]:
    """Return the spared values at the origin and along each direction; the inputs are given likewise."""
    count = len(next(iter(inputs.values())))
    found = dict(inputs)
    for step, together in split.affine:
        results = []
        for term in range(count):

            def given(place: int, one: Any, term: int = term, together: frozenset[int] = together) -> Any:
                if type(one) is not _Value:
                    # A number that is added has no part along a direction.
                    return 0 if term and place in together and isinstance(one, int | float) else one
                if one in found:
                    return found[one][term]
                return torch.zeros_like(known[one]) if term and place in together else known[one]

            arguments = [given(place, one) for place, one in enumerate(step.arguments)]
            results.append(step.function(*arguments, **step.keywords))
        found[step.result] = results
    return [found[value] for value in split.spared]


#: Entries to whose multiples the values of a flat are aligned in memory, as torch aligns tensors.
_ALIGNED: Final = 16


class _Combined:
    """Values of a flat, sums of the same number of terms each, all in one vector.

    Parameters
    ----------
    values
        For each value its terms: at the origin, and along each direction.

    Attributes
    ----------
    shapes
        Those of the values.
    """

    def __init__(self, values: Sequence[Sequence[Tensor]]) -> None:
        first = values[0][0]
        self.shapes = [tuple(terms[0].shape) for terms in values]
        # Shape, strides and offset of each; dense, with the dimensions in the order that they have.
        self._places: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
        falling: list[list[int]] = []
        length = 0
        for terms in values:
            like = terms[0]
            order = sorted(range(like.ndim), key=lambda axis, like=like: -like.stride()[axis])  # type: ignore[misc]
            strides, step = [0] * like.ndim, 1
            for axis in reversed(order):
                strides[axis] = step
                step *= like.shape[axis]
            falling.append(order)
            self._places.append((tuple(like.shape), tuple(strides), length))
            length += -(-like.numel() // _ALIGNED) * _ALIGNED
        self._whole = first.new_zeros(len(values[0]), length)
        for terms, order, (_, _, offset) in zip(values, falling, self._places, strict=True):
            for row, term in zip(self._whole, terms, strict=True):
                row[offset : offset + term.numel()] = term.permute(order).reshape(-1)
        self._terms = list(self._whole)
        self._kept: tuple[tuple[float, ...], Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self._whole.numel() * self._whole.element_size()

    def at(self, factors: Sequence[float]) -> list[Tensor]:
        """Return the values for d factors, in fresh memory."""
        flat = torch.add(self._without_first(factors), self._terms[1], alpha=factors[0])
        return [flat.as_strided(*place) for place in self._places]

    def at_several(self, factors: Tensor, listed: Sequence[Sequence[float]]) -> list[Tensor]:
        """Return the values for rows of factors, shape (K, d), as (K, ...); `listed` are the same as numbers."""
        length = self._whole.shape[1]
        if length < _LONG:
            flat = torch.addmm(self._terms[0], factors, self._whole[1:])
        else:
            flat = self._whole.new_empty(len(listed), length)
            for row, one in zip(flat, listed, strict=True):
                torch.add(self._without_first(one), self._terms[1], alpha=one[0], out=row)
        count = len(listed)
        return [
            flat.as_strided((count, *shape), (length, *strides), offset)
            for shape, strides, offset in self._places
        ]

    def _without_first(self, factors: Sequence[float]) -> Tensor:
        """Return the sum without the first direction, which stays the same along a row of a grid."""
        later = tuple(factors[1:])
        if self._kept is None or self._kept[0] != later:
            partial = self._terms[0]
            for factor, term in zip(later, self._terms[2:], strict=True):
                partial = torch.add(partial, term, alpha=factor)
            self._kept = later, partial
        return self._kept[1]


# ---------------------------------------------------------------------------------------------------------
# Points
# ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class _Pass:
    """How one batch is evaluated: a function of what is spared and of weights, for so many points at once.

    Attributes
    ----------
    run
        Takes a tensor per spared value and per entry of `places`, each with a leading dimension of `rows` points
        unless `rows` is 1; returns the values.
    rows
        How many points at once.
    places
        Which of the parameters, in the order of the layout, are inputs.
    combined
        On a flat, the spared values and these parameters.
    """

    run: Callable[..., Tensor]
    rows: int
    places: list[int]
    combined: _Combined | None

    @property
    def nbytes(self) -> int:
        """What is kept for it."""
        return 0 if self.combined is None else self.combined.nbytes


class Replay:
    """A landscape's values at many points, faster than one after another.

    Without a flat, points are any weights; with one, they are given by coordinates z and stand at
    theta(z) = origin + z directions, and whatever in the network is affine in z is computed once.

    Values agree with :meth:`Landscape.value` to rounding, not to the bit.

    Parameters
    ----------
    landscape
        Whose values. What does not vary in it (buffers, the rest of a restriction) is read when a method is first
        called.
    origin
        Shape (P,); one point of the flat.
    directions
        Shape (d, P).

    Attributes
    ----------
    landscape
        As given.
    reason
        Why points are computed by the loop; empty while they are not, and before the first call.

    Raises
    ------
    ConfigurationError
        For an origin without directions, or shapes that do not fit the landscape.
    """

    def __init__(
        self, landscape: Landscape, origin: Tensor | None = None, directions: Tensor | None = None
    ) -> None:
        if (origin is None) != (directions is None):
            raise ConfigurationError("A flat needs an origin of shape (P,) and directions of shape (d, P).")
        self.landscape = landscape
        self._frame: Tensor | None = None
        if origin is not None and directions is not None:
            if origin.shape != (landscape.size,) or directions.shape[1:] != (landscape.size,):
                raise ConfigurationError(
                    f"origin has shape {tuple(origin.shape)} and directions {tuple(directions.shape)}; give "
                    f"({landscape.size},) and (d, {landscape.size})."
                )
            self._frame = torch.cat([origin[None].double(), directions.double()]).to(
                landscape.device, landscape.dtype
            )
        self._passes: list[_Pass] = []
        self.reason = ""

    # -- what is asked for --------------------------------------------------------------------------------

    def values(self, points: Tensor) -> Tensor:
        """Return L at points, float64 of shape (G,).

        Parameters
        ----------
        points
            Weights, shape (G, P); coordinates, shape (G, d), where there is a flat.

        Raises
        ------
        ConfigurationError
            For points of another shape.
        DataError
            When the data gives no batch, or batches that the loss cannot take.
        """
        landscape = self.landscape
        width = landscape.size if self._frame is None else len(self._frame) - 1
        if points.ndim != 2 or points.shape[1] != width:
            raise ConfigurationError(f"Points of shape {tuple(points.shape)}: give (G, {width}).")
        points = points.detach()
        points = points.to(landscape.device, landscape.dtype)
        if not len(points):
            return landscape._accumulator(0)
        if not self.reason and len(points) >= WORTHWHILE:
            try:
                with torch.no_grad(), _without_autocast(landscape.device):
                    total = self._replayed(points)
            except _NotRecordable as error:
                self.reason = str(error)
            else:
                return total + self._penalties(points)
        return self._looped(points) + self._penalties(points)

    # -- by the loop --------------------------------------------------------------------------------------

    def _weights(self, points: Tensor) -> Tensor:
        return points if self._frame is None else torch.addmm(self._frame[0], points, self._frame[1:])

    def _looped(self, points: Tensor) -> Tensor:
        landscape = self.landscape
        block = max(1, (1 << 28) // (landscape.size * landscape.dtype.itemsize))
        criteria = [(landscape._criterion, landscape.reduction)]
        with torch.no_grad():
            return torch.cat(
                [
                    landscape._means(criteria, self._weights(part), None)[0]
                    for part in torch.split(points, block)
                ]
            )

    def _penalties(self, points: Tensor) -> Tensor:
        landscape = self.landscape
        found = landscape._accumulator(len(points))
        if landscape.penalty is not None:
            with torch.no_grad():
                for place in range(len(points)):
                    found[place] = landscape._penalty(self._weights(points[place : place + 1])[0])
        return found

    # -- by the recording ---------------------------------------------------------------------------------

    def _replayed(self, points: Tensor) -> Tensor:
        landscape = self.landscape
        if landscape.group is not None:
            raise _NotRecordable("the data is shared out to several processes")
        keep_freed_memory()
        sums = landscape._sums()
        kept = sum(one.nbytes for one in self._passes)
        with landscape._session(underived=True) as session:
            for number, batch in enumerate(landscape._batches(None)):
                if number < len(self._passes):
                    found = self._passes[number]
                else:
                    found = self._prepared(session, points, batch, KEPT - kept)
                    kept += found.nbytes
                    # Data in memory is the same at every pass, and is held by what was recorded.
                    if len(self._passes) == number and not landscape.data.draws:
                        self._passes.append(found)
                sums.add(batch, self._run(found, points))
        return sums.result()[0]

    def _prepared(self, session: Any, points: Tensor, batch: Batch, room: int) -> _Pass:
        """Record what a batch needs, and compare it with the loop at the first and the last point."""
        landscape = self.landscape
        _require_plain(landscape)
        criterion = landscape._criterion
        ends = [aligned(row) for row in self._weights(points[[0, -1]])]

        def loss(*parts: Tensor) -> Tensor:
            return session.evaluate(criterion, landscape._all_parts(list(parts)), batch)  # type: ignore[no-any-return]

        expected = torch.stack([loss(*landscape.layout.parts(row)) for row in ends])
        if criterion.draws.elsewhere:
            raise _NotRecordable("the loss draws random numbers")
        if not session.untouched():
            raise _NotRecordable("forward keeps something from call to call")
        inputs = landscape.layout.leaves(ends[0].clone())
        try:
            program = _recorded(loss, inputs)
        except (RuntimeError, NotImplementedError, TypeError) as error:  # the loop has just computed the same
            raise _NotRecordable(first_line(error)) from error
        if landscape.device.type == "cpu":
            program = _recorded(_turned(program).compiled(), inputs)
        found = self._assembled(program, room)
        got = self._run(found, points[[0, -1]])
        scale = expected.abs().max()
        apart = (got - expected).abs() / scale.clamp(min=torch.finfo(expected.dtype).tiny)
        finite = expected.isfinite().all()
        if bool(finite & ~(apart <= _TOLERANCES.get(landscape.dtype, _COARSE)).all()):
            raise _NotRecordable(
                f"its values differ from the loop's by {float(apart.max()):.1e}: does forward branch on its weights?"
            )
        return found

    def _assembled(self, program: _Program, room: int) -> _Pass:
        layout = self.landscape.layout
        spared: list[list[Tensor]] = []
        combined: _Combined | None = None
        rest = program
        frame: list[list[Tensor]] = []
        parts = len(program.inputs)
        if self._frame is not None:
            split = _split(program, room // len(self._frame))
            rest = split.rest
            frame = [layout.leaves(row.clone()) for row in self._frame]
            if split.spared:
                given = {value: [row[place] for row in frame] for place, value in enumerate(program.inputs)}
                spared = _terms(split, program.known, given)
        used = {source for step in rest.steps for source in step.sources()} | {rest.output}
        weights = [value for value in program.inputs if value in used]
        places = [place for place, value in enumerate(program.inputs) if value in used]
        if frame:
            combined = _Combined([*spared, *([row[place] for row in frame] for place in places)])
        fresh = rest.inputs[: len(rest.inputs) - parts]
        rest = _Program([*fresh, *weights], rest.steps, rest.output, rest.known, rest.like)
        if any(step.function is _aten.convolution.default for step in rest.steps):
            rows = 1  # several at once would be a convolution in groups, with copies before and after
        else:
            limit = TOGETHER if self.landscape.device.type == "cpu" else TOGETHER_ON_ACCELERATORS
            spare = sum(terms[0].nbytes for terms in spared)
            rows = max(1, min(_AT_ONCE, limit // max(1, rest.peak() + spare)))
        if rows > 1:
            several = _of_several(rest, rows, len(fresh))
            if several is not None:
                return _Pass(several.compiled(), rows, places, combined)
        return _Pass(_in_place(rest, set(fresh)).compiled(), 1, places, combined)

    def _run(self, found: _Pass, points: Tensor) -> Tensor:
        landscape = self.landscape
        layout = landscape.layout
        result = torch.empty(len(points), dtype=landscape.dtype, device=landscape.device)
        rows = found.rows
        listed = points.tolist() if self._frame is not None else []
        if rows == 1:
            for place in range(len(points)):
                if found.combined is not None:
                    given = found.combined.at(listed[place])
                else:
                    leaves = layout.leaves(points[place])
                    given = [leaves[part] for part in found.places]
                result[place] = found.run(*given)
            return result
        for start in range(0, len(points), rows):
            block, numbers = points[start : start + rows], listed[start : start + rows]
            count = len(block)
            if count < rows:
                block = torch.cat([block, block[-1:].expand(rows - count, -1)])
                numbers += numbers[-1:] * (rows - count)
            if found.combined is not None:
                given = found.combined.at_several(block, numbers)
            else:
                leaves = layout.leaves(block)
                given = [leaves[part] for part in found.places]
            result[start : start + count] = found.run(*given)[:count]
        return result


def _of_several(program: _Program, rows: int, fresh: int) -> _Program | None:
    """Return the program of several points at once; None where torch has no rule for an operation."""
    run = program.compiled()

    def made(value: _Value) -> Tensor:
        like: Tensor = program.like[value]
        # Dense, in the order of the strides that the value has.
        falling = sorted(range(like.ndim), key=lambda axis: -like.stride()[axis])
        back = [1 + falling.index(axis) for axis in range(like.ndim)]
        whole = torch.zeros(
            rows, *(like.shape[axis] for axis in falling), dtype=like.dtype, device=like.device
        )
        return whole.permute(0, *back)

    inputs = [made(value) for value in program.inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an operation without a rule: torch would loop over the points
        try:
            several = _recorded(torch.func.vmap(run), inputs)
        except (_NotRecordable, RuntimeError, NotImplementedError, UserWarning):
            return None
    return _in_place(several, set(several.inputs[:fresh]))


def _require_plain(landscape: Landscape) -> None:
    modules = landscape._evaluator._modules
    hooked = first_with_hooks(modules)
    if hooked is not None:
        raise _NotRecordable(f"{type(hooked).__name__} has hooks, which would run only once")
    if any(hasattr(module, "_orig_mod") for module in modules):
        raise _NotRecordable("the module is compiled")


@contextmanager
def _without_autocast(device: torch.device) -> Iterator[None]:
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            yield
    else:
        yield
