"""Losses: what a module and a batch give, and how much a batch counts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from attrs import define, evolve, field, frozen
from torch import Tensor, nn

from landscape.errors import ConfigurationError, DataError, nearest
from landscape.objective.batch import Batch, examples_in

__all__ = ["IGNORED_TARGET", "BatchLoss", "Criterion", "resolve_loss", "resolve_score", "weighted"]

#: Losses that a configuration can name.
_NAMED = ("cross_entropy", "mse", "model")

#: Class targets that do not count, by the convention of ``torch.nn.functional.cross_entropy``.
IGNORED_TARGET = -100

Reduction = Literal["mean", "sum"]
LossFunction = Callable[[Any, Any], Tensor]


@frozen
class BatchLoss:
    """A loss of a module on a whole batch, for anything that is not ``loss(module(x), y)``.

    Attributes
    ----------
    fn
        ``fn(module, batch) -> scalar tensor``: the mean over what the batch is counted by (or the sum, in a
        landscape with ``reduction="sum"``).
    weight
        ``weight(batch)``: how much the batch counts in the mean over batches, a finite number that is not
        negative. The number of examples (the leading dimension of the batch's tensors) by default.

    Raises
    ------
    ConfigurationError
        For functions that cannot be called so.

    Examples
    --------
    A model that computes its own loss from a dictionary:

    >>> BatchLoss(lambda model, batch: model(**batch).loss)  # doctest: +SKIP
    """

    fn: Callable[[nn.Module, Batch], Tensor] = field()
    weight: Callable[[Batch], float | Tensor] | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        require_callable(self.fn, "BatchLoss(fn)", ("module", "batch"))
        if self.weight is not None:
            require_callable(self.weight, "BatchLoss(weight)", ("batch",))


@define
class Draws:
    """What is known of the random numbers that a criterion draws.

    Attributes
    ----------
    elsewhere
        Whether it draws from the global generators of Python or numpy; None before it was evaluated.
    """

    elsewhere: bool | None = None


@frozen
class Criterion:
    """What a landscape evaluates on each batch: the loss, and the batch's weight.

    Attributes
    ----------
    fn
        ``fn(module, batch) -> scalar tensor``.
    weight
        ``weight(batch)``.
    name
        For messages.
    modules
        Modules inside `fn` besides the landscape's own: a loss that is an ``nn.Module`` has buffers to move.
    of_output
        ``of_output(output, target)``, where `fn` is that of what :func:`predict` gives, so that two criteria
        can share a forward pass.
    draws
        Found out when it is evaluated.
    """

    fn: Callable[[nn.Module, Batch], Tensor]
    weight: Callable[[Batch], float | Tensor]
    name: str
    modules: tuple[nn.Module, ...] = ()
    of_output: LossFunction | None = None
    draws: Draws = field(factory=Draws, eq=False, repr=False)


def predict(module: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """Return (output, target) for a batch ``(x, y)``; `x` may be a tuple of arguments or a mapping of them.

    Raises
    ------
    DataError
        When the batch is not a pair.
    """
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) != 2:
        raise DataError(
            f"A loss of (output, target) needs batches (x, y); this batch is a {type(batch).__name__}"
            f"{_keys(batch)}. Say how to evaluate it with BatchLoss(lambda module, batch: ...)."
        )
    x, y = batch
    if isinstance(x, Mapping):
        return module(**x), y
    if isinstance(x, tuple | list):
        return module(*x), y
    return module(x), y


def resolve_loss(loss: Any, reduction: Reduction) -> Criterion:
    """Return the criterion that `loss` names or is.

    Raises
    ------
    ConfigurationError
        For an unknown name, something that is not callable, or a loss that says itself that it reduces in
        another way than the landscape.
    """
    if isinstance(loss, BatchLoss):
        return Criterion(loss.fn, _given_weight(loss), getattr(loss.fn, "__name__", "BatchLoss"))
    if loss == "cross_entropy":
        return _of_pairs(_cross_entropy(reduction), _class_targets, "cross_entropy")
    if loss == "mse":
        return _of_pairs(_mean_squared_error(reduction), examples_in, "mse")
    if loss == "model":
        return Criterion(_own_loss(reduction), examples_in, "model")
    if isinstance(loss, str):
        raise ConfigurationError(
            f"There is no loss named {loss!r}.{nearest(loss, _NAMED)} Named losses are "
            f"{', '.join(map(repr, _NAMED))}; any callable (output, target) -> scalar will do as well."
        )
    if callable(loss):
        require_callable(loss, "loss", ("output", "target"))
        _refuse_other_reduction(loss, reduction, "loss")
        modules = (loss,) if isinstance(loss, nn.Module) else ()
        return _of_pairs(loss, _weight_of(loss), _name_of(loss), modules)
    raise ConfigurationError(
        f"loss={loss!r} is no loss. Give 'cross_entropy', 'mse', 'model', a callable (output, target) -> scalar, or "
        "BatchLoss(fn, weight)."
    )


def resolve_score(score: Any, loss: Any) -> Criterion | None:
    """Return the criterion of the score: what the caller gave, accuracy for cross-entropy, or None.

    Raises
    ------
    ConfigurationError
        When `score` is not callable, or says itself that it gives a sum.
    """
    if score is None:
        known = _known_normaliser(loss)
        if loss == "cross_entropy":
            return _of_pairs(accuracy, _class_targets, "accuracy")
        if known is None or not known.takes_logits:
            return None
        ignored = known.ignore_index
        counted = partial(_class_targets, ignore_index=ignored)
        return _of_pairs(partial(accuracy, ignore_index=ignored), counted, "accuracy")
    if isinstance(score, BatchLoss):
        return Criterion(score.fn, _given_weight(score), "score")
    if callable(score):
        require_callable(score, "score", ("output", "target"))
        _refuse_other_reduction(score, "mean", "score")
        return _of_pairs(score, _weight_of(score), _name_of(score))
    raise ConfigurationError(
        f"score={score!r} is no score. Give a callable (output, target) -> scalar, or BatchLoss(fn, weight)."
    )


def require_callable(function: Any, what: str, arguments: Sequence[str]) -> None:
    """Refuse a function that cannot be called with `arguments`, one after another.

    Raises
    ------
    ConfigurationError
        Naming `what` it was given as.
    """
    called = f"{what.partition('(')[2].rstrip(')') or what}({', '.join(arguments)})"
    if isinstance(function, type):
        raise ConfigurationError(
            f"{what}={function!r} is a class; give an instance, {function.__name__}(), that is called as {called}."
        )
    if not callable(function):
        raise ConfigurationError(f"{what}={function!r} is no function; give one that is called as {called}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, for instance
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ConfigurationError(
            f"{what}={function!r} cannot be called as {called}: {error}. Wrap it in a function that can."
        ) from error


def _given_weight(loss: BatchLoss) -> Callable[[Batch], float | Tensor]:
    """Return the weight of batches that the caller gave, checked at every batch; else the number of examples."""
    weight = loss.weight
    if weight is None:
        return examples_in

    def weigh(batch: Batch) -> float:
        given: Any = weight(batch)
        one = isinstance(given, int | float) or (isinstance(given, Tensor) and given.numel() == 1)
        if not one or not 0 <= float(given) < math.inf:
            raise ConfigurationError(
                f"BatchLoss(weight) returned {given!r}; a batch counts by one finite number, at least 0."
            )
        return float(given)

    return weigh


def accuracy(output: Tensor, target: Tensor, ignore_index: int = IGNORED_TARGET) -> Tensor:
    """Return the fraction of class targets (B, ...) that are the largest entry along dimension 1 of output.

    Targets of probabilities, in the shape of the output, stand for their most probable class. Class numbers
    equal to `ignore_index` do not count.
    """
    dim = 1 if output.ndim > 1 else 0
    if target.is_floating_point():
        target, ignore_index = target.argmax(dim), IGNORED_TARGET
    counted = target != ignore_index
    correct = output.argmax(dim) == target
    if ignore_index >= 0:  # else it is the number of no class
        correct &= counted
    # Counts are exact in float64, so that 0.8 is not 0.800000012; Apple's GPUs have no float64.
    exact = torch.float32 if output.device.type == "mps" else torch.float64
    return correct.sum().to(exact) / counted.sum()


def has_class_targets(batch: Batch) -> bool:
    """Whether `batch` is a pair ``(x, y)`` whose target is a tensor of class numbers."""
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) != 2:
        return False
    target = batch[1]
    return isinstance(target, Tensor) and not target.is_floating_point() and not target.is_complex()


def says_classes(batch: Batch) -> bool:
    """Whether `batch` is a pair ``(x, y)`` whose target is class numbers or probabilities of classes (B, C, ...)."""
    if has_class_targets(batch):
        return True
    pair = isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 2
    return pair and isinstance(batch[1], Tensor) and batch[1].is_floating_point() and batch[1].ndim > 1


def _of_pairs(
    loss: LossFunction,
    weight: Callable[[Batch], float | Tensor],
    name: str,
    modules: tuple[nn.Module, ...] = (),
) -> Criterion:
    def evaluate(module: nn.Module, batch: Batch) -> Tensor:
        if type(batch) is tuple and len(batch) == 2 and isinstance(batch[0], Tensor):
            return loss(module(batch[0]), batch[1])  # what nearly all batches are, without further questions
        return loss(*predict(module, batch))

    return Criterion(evaluate, weight, name, modules, loss)


def sharing_output(first: Criterion, second: Criterion) -> tuple[Criterion, Criterion]:
    """Return two criteria of which the second, evaluated right after the first, needs no forward pass.

    Those that take the module itself, or whose output is not one tensor that the first left as it was, stay
    as they are.
    """
    one, other = first.of_output, second.of_output
    if one is None or other is None:
        return first, second
    kept: list[tuple[Tensor, int, Any]] = []

    def begin(module: nn.Module, batch: Batch) -> Tensor:
        kept.clear()
        output, target = predict(module, batch)
        if isinstance(output, Tensor):
            kept.append((output, output._version, target))
        return one(output, target)

    def go_on(module: nn.Module, batch: Batch) -> Tensor:
        if kept:
            output, version, target = kept.pop()
            if output._version == version:
                return other(output, target)
        return second.fn(module, batch)

    return evolve(first, fn=begin), evolve(second, fn=go_on)


def _cross_entropy(reduction: Reduction) -> LossFunction:
    def cross_entropy(output: Any, target: Any) -> Tensor:
        try:
            return F.cross_entropy(output, target, reduction=reduction, ignore_index=IGNORED_TARGET)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            flaw = _flaw_of_targets(output, target)
            if flaw is None:
                raise
            raise DataError(f"cross_entropy: {flaw}") from error

    return cross_entropy


def _flaw_of_targets(output: Any, target: Any) -> str | None:
    """Return why a cross-entropy could not be computed, where it is for what it was given."""
    for what, given in (("output", output), ("target", target)):
        if not isinstance(given, Tensor):
            return f"the {what} is a {type(given).__name__}, not a tensor. Say what to compare with a loss of your own."
    if output.ndim < 2:
        return None  # one example without a leading dimension: torch's own words must do
    classes = tuple(output.shape[:1] + output.shape[2:])
    shapes = (
        f"The output has shape {tuple(output.shape)}, the target {tuple(target.shape)} and {target.dtype}"
    )
    wanted = f"give class numbers of shape {classes}, int64, or probabilities in the shape of the output."
    if target.is_floating_point():
        return None if target.shape == output.shape else f"{shapes}; {wanted}"
    if tuple(target.shape) != classes or target.dtype not in (torch.int64, torch.uint8):
        return f"{shapes}; {wanted}"
    outside = (target != IGNORED_TARGET) & ((target < 0) | (target >= output.shape[1]))
    if bool(outside.any()):
        return (
            f"the target holds the class {int(target[outside][0])}, and the output has {output.shape[1]} classes, "
            f"0 to {output.shape[1] - 1}. Number the classes from 0, or widen the last layer."
        )
    return None


def _mean_squared_error(reduction: Reduction) -> LossFunction:
    def mean_squared_error(output: Any, target: Any) -> Tensor:
        for what, given in (("output", output), ("target", target)):
            if not isinstance(given, Tensor):
                raise DataError(
                    f"mse: the {what} is a {type(given).__name__}, not a tensor. Say what to compare with a loss of "
                    "your own, loss(output, target), or BatchLoss(lambda module, batch: ...)."
                )
        if output.shape != target.shape:
            # Broadcasting (B, 1) against (B,) would compare every output with every target.
            raise DataError(
                f"mse: the output has shape {tuple(output.shape)} but the target {tuple(target.shape)}. Give "
                "them one shape, for example with target.unsqueeze(1)."
            )
        return F.mse_loss(output, target, reduction=reduction)

    return mean_squared_error


def _own_loss(reduction: Reduction) -> Callable[[nn.Module, Batch], Tensor]:
    def own_loss(module: nn.Module, batch: Batch) -> Tensor:
        if isinstance(batch, Mapping):
            loss = module(**batch)
        elif isinstance(batch, tuple | list):
            loss = module(*batch)
        else:
            loss = module(batch)
        if isinstance(loss, Tensor) and loss.ndim == 1:
            return loss.mean() if reduction == "mean" else loss.sum()
        return loss  # type: ignore[no-any-return]  # one number, or refused by `scalar`

    return own_loss


@frozen
class _Normaliser:
    """What the mean inside a cross-entropy of torch divides by: the class weights of the targets that count."""

    ignore_index: int
    class_weights: Callable[[], Tensor | None]
    takes_logits: bool


def _known_normaliser(loss: Any) -> _Normaliser | None:
    """Return how torch's losses of class numbers weigh a batch; None for all other losses."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        base = nn.CrossEntropyLoss if isinstance(loss, nn.CrossEntropyLoss) else nn.NLLLoss
        if type(loss).forward is not base.forward:
            return None  # what a subclass computes is not known
        # Asked for at every batch: while the loss is evaluated its buffers are where the landscape is.
        return _Normaliser(loss.ignore_index, lambda: loss.weight, base is nn.CrossEntropyLoss)
    function, given = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    if function is not F.cross_entropy and function is not F.nll_loss:
        return None
    if isinstance(loss, partial) and loss.args:
        return None  # its first argument is not the output then
    weights: Tensor | None = given.get("weight")
    ignored = given.get("ignore_index", IGNORED_TARGET)
    return _Normaliser(ignored, lambda: weights, function is F.cross_entropy)


def _weight_of(loss: Any) -> Callable[[Batch], float | Tensor]:
    """Return how much a batch counts under `loss`: by what its mean divides by where known, else by examples."""
    known = _known_normaliser(loss)
    if known is None:
        return examples_in

    def weigh(batch: Batch) -> float | Tensor:
        return _class_targets(batch, known.ignore_index, known.class_weights())

    return weigh


def _class_targets(
    batch: Batch, ignore_index: int = IGNORED_TARGET, class_weights: Tensor | None = None
) -> float | Tensor:
    """Weigh a batch by its class targets that count, each by the weight of its class.

    Targets of probabilities are averaged over examples, also with class weights.
    """
    if not has_class_targets(batch):
        return examples_in(batch)
    target: Tensor = batch[1]
    counted = target != ignore_index
    if class_weights is None:
        return counted.sum()
    # Sums over batches are float64; Apple's GPUs have none.
    exact = torch.float32 if target.device.type == "mps" else torch.float64
    weights = class_weights.detach().to(target.device, exact)
    return (weights[torch.where(counted, target, 0)] * counted).sum()


def _refuse_other_reduction(loss: Any, reduction: Reduction, what: str) -> None:
    """Refuse a loss that says itself that it gives a mean where a sum is wanted, or the reverse.

    Raises
    ------
    ConfigurationError
        Naming both reductions.
    """
    stated = _stated_reduction(loss)
    fitting = {"mean": ("mean", "batchmean"), "sum": ("sum",)}[reduction]
    if stated is None or stated in fitting:
        return
    gives = {"none": "one number per entry", "sum": "a sum"}.get(stated, "a mean")
    other = (
        f", or make the landscape with reduction={'sum' if stated == 'sum' else 'mean'!r}"
        if what == "loss" and stated != "none"
        else ""
    )
    raise ConfigurationError(
        f"{what}={loss!r} has reduction={stated!r} and gives {gives}, where a {reduction} over the batch is needed. "
        f"Give it reduction={reduction!r}{other}."
    )


def _stated_reduction(loss: Any) -> str | None:
    """Return what `loss` says of its reduction, by torch's convention; None when it says nothing."""
    if isinstance(loss, nn.Module):
        stated = getattr(loss, "reduction", None)
    else:
        try:
            parameter = inspect.signature(loss).parameters.get("reduction")
        except (TypeError, ValueError):  # written in C, for instance
            return None
        stated = None if parameter is None else parameter.default
    return stated if isinstance(stated, str) and stated in ("mean", "batchmean", "sum", "none") else None


def _name_of(loss: Any) -> str:
    if isinstance(loss, partial):
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def _keys(batch: Batch) -> str:
    return f" with keys {sorted(map(str, batch))}" if isinstance(batch, Mapping) else ""


def weighted(weight: float | Tensor, summand: Tensor) -> Tensor:
    """Return ``weight * summand``, and zeros for a weight of zero.

    A batch in which nothing counts (every target ignored) has a mean over nothing, NaN, and adds nothing.
    """
    if isinstance(weight, Tensor):
        # Not an `if`, which would wait for an accelerator at every batch.
        return torch.where(weight == 0, 0, weight * summand)
    return weight * summand if weight else torch.zeros_like(summand)


def scalar(value: Any, name: str) -> Tensor:
    """Return what a loss gave as a 0-dimensional tensor.

    Raises
    ------
    ConfigurationError
        When it is not one number.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
    raise ConfigurationError(
        f"{name!r} returned {shape}; it must return one number: the mean over a batch, or the sum in a landscape "
        "with reduction='sum'."
    )
