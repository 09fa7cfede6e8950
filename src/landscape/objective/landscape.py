"""The landscape: a module's loss on data as a function of one flat vector of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ConfigurationError, DataError, LandscapeError, UnstableDataError
from landscape.objective.backward import gradients_of
from landscape.objective.batch import Batch, PerRow, aligned, examples_in, leaves, map_leaves, move
from landscape.objective.curvature import DEFAULT_MEMORY, CurvatureOperator
from landscape.objective.data import Data, as_data
from landscape.objective.device import usable_device
from landscape.objective.engine import Engine, EngineName
from landscape.objective.evaluation import Evaluator, Session
from landscape.objective.layout import Layout
from landscape.objective.losses import (
    Criterion,
    Reduction,
    require_callable,
    resolve_loss,
    resolve_score,
    says_classes,
    scalar,
    sharing_output,
    weighted,
)
from landscape.objective.memory import Recycler
from landscape.objective.stream import BatchStream
from landscape.validators import is_whole

__all__ = ["Landscape"]

Penalty = Callable[[Tensor], Tensor | float]

#: Weights from which on a vector is worth looking for used memory.
_LONG = 1 << 18
#: Streams kept with the permutations they have drawn: a walker asks for its own at every step.
_STREAMS_KEPT = 8


@final
class Landscape:
    r"""The loss of a module on data, L(theta), with all trainable weights in one vector theta of shape (P,).

    With ``reduction="mean"``,

    .. math:: L(\theta) = \frac{\sum_b w_b\, \ell_b(\theta)}{\sum_b w_b} + \mathrm{penalty}(\theta),

    where b runs over the batches of the data, and the weight :math:`w_b` is the number of examples of the batch
    unless the loss says otherwise. With ``reduction="sum"``, :math:`L(\theta) = \sum_b \ell_b(\theta) +
    \mathrm{penalty}(\theta)`. On a single batch, L is that batch's loss plus the penalty.

    The module is evaluated in eval mode on copies of its buffers. Its mode, buffers, ``.grad`` and the global
    random states are as before after every call, also after one that fails. Weights in `theta` are used; the
    module's own are only read by :meth:`initial`. Buffers are read at every evaluation, until
    :meth:`with_buffers` fixes them.

    Parameters
    ----------
    module
        Any module. Parameters with ``requires_grad=False`` are constants.
    loss
        ``"cross_entropy"`` (of class numbers, or of probabilities (B, C)), ``"mse"``, a callable
        ``(output, target) -> scalar`` for batches ``(x, y)``, or a :class:`BatchLoss` for anything else.
        Batches count by their examples; under torch's own losses of class numbers (modules, functions, and
        ``functools.partial`` of these) by the targets that are not ignored, each with the weight of its
        class, so that the mean is that of all data at once. How other callables weigh examples inside a batch
        cannot be known: say it with ``BatchLoss(fn, weight)``.
        ``"model"``: the module is called with the whole batch, ``module(*batch)`` or ``module(**batch)``, and
        returns the losses of its examples, shape (B,), or their mean (their sum with ``reduction="sum"``).
    data
        What :func:`landscape.objective.as_data` takes.
    score
        A callable ``(output, target) -> scalar`` or a :class:`BatchLoss`, averaged over batches like the loss.
        The accuracy for cross-entropy by default; targets of probabilities count as their most probable class.
    penalty
        ``penalty(theta) -> scalar``, of the full vector of trainable weights; counted once, not per batch.
    reduction
        ``"mean"`` or ``"sum"``.
    device, dtype
        Where and in which type to evaluate; the module's by default. Floating tensors of module and batches
        are converted, others keep their type.
    engine
        How gradients at several points at once are computed: ``"loop"``, one row after another; ``"traced"``,
        all rows through one recorded graph; ``"auto"``, whichever a walk finds faster. See
        :mod:`landscape.objective.engine`.
    group
        A ``torch.distributed`` process group whose processes each hold a share of the data: weighted sums are
        all-reduced. Every process must make the same calls.
    split
        What the data is called in messages.

    Raises
    ------
    ConfigurationError
        For what is no module, a module without trainable parameters or compiled by TorchScript, an unknown loss,
        a device that is not there, a reduction that is neither, or a loss
        that says itself (``loss.reduction``, a default argument ``reduction``) that it reduces in another way.
    DataError
        For data that cannot be read again and again.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Any,
        data: Any,
        *,
        score: Any = None,
        penalty: Penalty | None = None,
        reduction: Reduction = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        engine: EngineName = "auto",
        group: Any = None,
        split: str = "train",
    ) -> None:
        if reduction not in ("mean", "sum"):
            raise ConfigurationError(f"reduction={reduction!r}: give 'mean' or 'sum'.")
        if penalty is not None:
            require_callable(penalty, "penalty", ("theta",))
        _require_floating(dtype)
        _require_group(group)
        full = Layout.of(module)
        _require_python(module)
        first = next(p for p in module.parameters() if p.requires_grad)
        self.module = module
        self.data = as_data(data)
        self.split = split
        self.reduction = reduction
        self.penalty = penalty
        self.group = group
        self.device = first.device if device is None else usable_device(device)
        self.dtype = dtype or _common_dtype(module)
        self.layout = full
        self._full = full
        self._rest: Tensor | None = None
        self._chosen = torch.arange(0)
        self._override: Mapping[str, Tensor] = {}
        self._criterion = resolve_loss(loss, reduction)
        self._score = resolve_score(score, loss)
        self._score_is_default = score is None
        extra = self._criterion.modules + (self._score.modules if self._score else ())
        self._evaluator = Evaluator(module, full, self.device, self.dtype, extra)
        self._has_score: bool | None = None
        self._engine = Engine(engine)
        self._streams: dict[tuple[int | None, int], BatchStream] = {}
        self._recycler = Recycler()
        self._stable: bool | None = None

    # -- relatives ----------------------------------------------------------------------------------------

    def _copy(self) -> Landscape:
        copy = object.__new__(Landscape)
        copy.__dict__.update(self.__dict__)
        return copy

    def on(self, data: Any, *, split: str = "given") -> Landscape:
        """Return the landscape of the same module and loss on other data.

        Raises
        ------
        DataError
            For data that cannot be read again and again.
        """
        other = self._copy()
        other._streams = {}
        other.data = as_data(data)
        other.split = split
        other._has_score = other._stable = None
        return other

    def restrict(self, patterns: str | Iterable[str], at: Tensor | None = None) -> Landscape:
        """Return the landscape in which only the selected weights vary.

        Parameters
        ----------
        patterns
            See :meth:`Layout.select`.
        at
            Where the other weights stay, shape (P,); the module's present parameters by default.

        Raises
        ------
        ConfigurationError
            When a pattern matches nothing, or `at` has another shape.
        """
        layout = self.layout.restricted(patterns)
        at = self.embed(self.initial() if at is None else self._converted(at))
        other = self._copy()
        other._rest = at.clone()
        other.layout = layout
        # `layout` is a selection of the full layout also when this landscape was a restriction itself.
        other._chosen = self._full.indices(layout.names).to(self.device)
        return other

    def with_rest(self, weights: Tensor) -> Landscape:
        """Return this restriction with the other weights at those of `weights`, a vector of all weights.

        Raises
        ------
        ConfigurationError
            When the landscape is not a restriction, or for weights of another shape.
        """
        if self._rest is None:
            raise ConfigurationError("This landscape is not a restriction: there is no rest to set.")
        self._full._check(weights)
        other = self._copy()
        other._rest = weights.detach().to(self.device, self.dtype).clone()
        return other

    def with_buffers(self, buffers: Mapping[str, Tensor]) -> Landscape:
        """Return the landscape with buffers fixed at `buffers`; those not named stay the module's own.

        Raises
        ------
        ConfigurationError
            For names or shapes that the module does not have.
        """
        self._evaluator.check_buffers(buffers)
        other = self._copy()
        other._override = {
            **self._override,
            **{name: value.detach().to(self.device, copy=True) for name, value in buffers.items()},
        }
        return other

    def with_engine(self, engine: EngineName) -> Landscape:
        """Return the landscape with gradients at several points computed by `engine`."""
        return self._with_engine(Engine(engine))

    def _with_engine(self, engine: Engine) -> Landscape:
        other = self._copy()
        other._engine = engine
        return other

    @property
    def engine(self) -> EngineName:
        """How gradients at several points at once are computed, as it was asked for."""
        return self._engine.asked

    # -- the vector ---------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """P, the number of weights that vary."""
        return self.layout.size

    @property
    def full_layout(self) -> Layout:
        """The layout of all trainable weights, which is `layout` unless the landscape is a restriction."""
        return self._full

    def initial(self) -> Tensor:
        """Return the module's parameters now, shape (P,)."""
        return self.layout.vector(self.module).to(self.device, self.dtype)

    def buffers(self) -> dict[str, Tensor]:
        """Return copies of the buffers that evaluations use, by name."""
        return self._evaluator.buffers(self._override)

    def embed(self, theta: Tensor) -> Tensor:
        """Return the vector of all trainable weights that belongs to `theta`, shape (P,) or (K, P).

        Raises
        ------
        ConfigurationError
            For weights of another shape.
        """
        theta = self._converted(theta)
        if self._rest is None:
            return theta
        full = self._rest.expand(*theta.shape[:-1], -1).clone()
        full[..., self._chosen] = theta
        return full

    def extract(self, weights: Tensor) -> Tensor:
        """Return the entries of a vector of all trainable weights that vary here; undoes :meth:`embed`.

        Raises
        ------
        ConfigurationError
            For weights of another shape.
        """
        self._full._check(weights)
        weights = weights.detach().to(self.device, self.dtype)
        return weights if self._rest is None else weights[..., self._chosen]

    # -- values and derivatives ---------------------------------------------------------------------------

    def value(self, theta: Tensor, batch: Batch | PerRow | None = None) -> Tensor:
        """Return L(theta), float64: shape () for theta of shape (P,), (K,) for (K, P).

        Parameters
        ----------
        theta
            Weights.
        batch
            One batch in place of the data, shared by all rows, or :class:`PerRow`.

        Returns
        -------
        Tensor
            NaN and infinity are returned as they come.

        Raises
        ------
        ConfigurationError
            For weights of another shape, :class:`PerRow` of another length, a loss that is not one number.
        DataError
            When the data gives no batch, or batches that the loss cannot take.
        """
        return self._by_row(self._value, theta, batch)

    def gradient(self, theta: Tensor, batch: Batch | PerRow | None = None) -> Tensor:
        """Return the gradient of L, in the shape of `theta`.

        Raises
        ------
        ConfigurationError
            Also when autograd finds no way from the loss to any weight; otherwise see :meth:`value`.
        DataError
            See :meth:`value`.
        """
        if batch is not None and theta.ndim == 2 and len(theta) == 1 and self.penalty is None and self._alone:
            # The step of a single worker, kept short.
            theta = self._converted(theta)
            batch = self._moved(self._for_row(batch, (0, 1)))
            out = self.blank(1) if self.size > _LONG else None
            with self._session(differentiate=True) as session:
                gradient = self._of_batch(session, theta[0], batch, None if out is None else out[0])[1]
            return gradient[None] if out is None else out
        return self.value_and_gradient(theta, batch)[1]

    def value_and_gradient(self, theta: Tensor, batch: Batch | PerRow | None = None) -> tuple[Tensor, Tensor]:
        """Return L(theta) and its gradient from one pass; see :meth:`value` and :meth:`gradient`.

        Several rows are computed by the landscape's :attr:`engine`.

        Raises
        ------
        ConfigurationError
            See :meth:`gradient`; also for ``engine="traced"`` where no graph can be recorded.
        DataError
            See :meth:`value`.
        """
        theta = self._converted(theta)
        if theta.ndim == 1:
            return self._value_and_gradient(theta, self._for_row(batch, None))
        if isinstance(batch, PerRow) and len(batch) != len(theta):
            self._for_row(batch, (0, len(theta)))
        if not len(theta):
            return self._accumulator(0), theta.clone()
        return self._engine.value_and_gradient(self, theta, batch)

    def gradient_pieces(self, theta: Tensor, batch: Batch | PerRow | None = None) -> Iterator[list[Tensor]]:
        """Yield the gradient at one row of `theta`, shape (K, P), after another, in pieces.

        The pieces of a row, one after another, are what :meth:`gradient` returns. For large networks, whose
        gradients do not fit into the cache, it spares writing them into one vector, to be read again from there.

        Raises
        ------
        ConfigurationError
            See :meth:`gradient`.
        DataError
            See :meth:`value`.
        """
        theta = self._converted(theta)
        if batch is None or not self._alone or self.penalty is not None or self._engine.combines(self):
            for row in self.gradient(theta, batch):
                yield [row]
            return
        for k, row in enumerate(theta):
            one = self._moved(self._for_row(batch, (k, len(theta))))
            with self._session(differentiate=True) as session:
                parts = self._leaves(self._alone_like(row, one))
                pieces = self._gradients(self._loss(session, parts, one), parts)
            yield [piece.reshape(-1) for piece in pieces]

    def _row_by_row(self, theta: Tensor, batch: Batch | PerRow | None) -> tuple[Tensor, Tensor]:
        """Return values (K,) and gradients (K, P), one row after another."""
        gradients = self.blank(len(theta))
        values = []
        for k, row in enumerate(theta):
            one = self._for_row(batch, (k, len(theta)))
            values.append(self._value_and_gradient(self._alone_like(row, one), one, out=gradients[k])[0])
        return torch.stack(values), gradients

    def _alone_like(self, row: Tensor, batch: Batch | None) -> Tensor:
        """Return a row of (K, P) weights in memory that begins like that of a single vector.

        Products of a matrix with one vector round differently elsewhere, and in double precision also those of which
        one vector is left over beside blocks of four: 1, 5 or 33 examples (x86-64, torch 2.13). Large rows cost
        several percent of a step to copy, and are left where they are for batches of whole blocks.
        """
        if batch is None or len(row) <= _LONG:
            return aligned(row)
        shapes = (leaf.shape for _, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim)
        blocks = next((shape[0] % 8 == 0 for shape in shapes), False)
        return row if blocks else aligned(row)

    def blank(self, rows: int) -> Tensor:
        """Return an uninitialised matrix of shape (rows, P), in memory that former ones have left where it can.

        What a walker puts its next positions into: fresh memory for large matrices costs more than the
        arithmetic (:mod:`landscape.objective.memory`).
        """
        return self._recycler.empty((rows, self.size), self.dtype, self.device)

    @contextmanager
    def differentiable_value(self, theta: Tensor, batch: Batch) -> Iterator[Tensor]:
        """Give L(theta) on one batch as a tensor through which autograd differentiates `theta`.

        For walkers whose step needs derivatives of their own making. All derivatives, also second ones, must be
        taken inside the context, where the weights `theta` are in place: a module that checkpoints activations
        computes parts of itself again when it is differentiated. Draw no random numbers inside.

        Parameters
        ----------
        theta
            Weights, shape (P,), with ``requires_grad`` or a history of their own.
        batch
            The batch.

        Yields
        ------
        Tensor
            Shape (), in the landscape's dtype.

        Raises
        ------
        ConfigurationError
            For weights of another shape, a loss that is cut off from all weights, and when the value is
            differentiated after its context has ended, or inside another one.

        Examples
        --------
        >>> import torch
        >>> from landscape.objective import Landscape
        >>> line = torch.nn.Linear(1, 1, bias=False)
        >>> batch = (torch.tensor([[2.0]]), torch.tensor([[0.0]]))
        >>> landscape = Landscape(line, "mse", batch)
        >>> theta = torch.tensor([3.0], requires_grad=True)
        >>> with landscape.differentiable_value(theta, batch) as value:
        ...     (gradient,) = torch.autograd.grad(value, theta)
        >>> value.item(), gradient.item()
        (36.0, 24.0)
        """
        self.layout._check(theta)
        if theta.ndim != 1:
            raise ConfigurationError(f"Weights of shape {tuple(theta.shape)}: give ({self.size},).")
        # Fused attention kernels have no second derivative; the composed one has.
        with sdpa_kernel(SDPBackend.MATH), self._session() as session:
            with torch.enable_grad():
                moved = theta.to(self.device, self.dtype)
                value = self._loss(session, self.layout.parts(moved), self._moved(batch))
                if theta.requires_grad:
                    self._require_graph(value)
                if self.penalty is not None:
                    value = value + self._penalty(moved)
            if value.requires_grad:
                value.register_hook(lambda slope: session.require_innermost())  # type: ignore[no-untyped-call]
            yield value

    def example_gradients(self, theta: Tensor, batch: Batch) -> Tensor:
        """Return the gradient on every example of a batch, shape (B, P).

        Row i is ``gradient(theta, example i as a batch of one)``, penalty included. The rows are computed
        together (``torch.func.vmap``); where a module cannot be vectorised (control flow that depends on the
        data), one after another, which :attr:`vectorises` then says.

        Raises
        ------
        ConfigurationError
            For weights of another shape.
        torch.OutOfMemoryError
            When B gradients at once do not fit into the memory of the device; give fewer examples.
        """
        theta = self._one_row(theta)
        batch = self._moved(batch)
        count = examples_in(batch)
        if self._evaluator.vectorises is not False:
            try:
                rows = self._vectorised_gradients(theta, batch)
            except (LandscapeError, torch.OutOfMemoryError):
                raise
            except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
                if self._evaluator.vectorises or "DefaultCPUAllocator" in str(error):
                    raise  # memory of the CPU that does not suffice has no error class of its own
                # If the examples fail one by one too, that error is the one to show.
            else:
                self._evaluator.vectorises = True
                return rows
        singles = [map_leaves(partial(_single, index=i, count=count), batch) for i in range(count)]
        rows = torch.stack([self._local_gradient(theta, single) for single in singles])
        self._evaluator.vectorises = False
        return rows

    @property
    def vectorises(self) -> bool | None:
        """Whether :meth:`example_gradients` vectorises over examples; None before its first call."""
        return self._evaluator.vectorises

    def hessian(
        self, theta: Tensor, batch: Batch | None = None, *, memory: int | None = None
    ) -> CurvatureOperator:
        """Return the Hessian of L at `theta`, shape (P,), linearised once for many products.

        Parameters
        ----------
        theta
            Weights.
        batch
            One batch in place of the data.
        memory
            Bytes that gradient graphs may hold, 2 GiB by default. What does not fit is computed anew at every
            product; ``operator.cost`` says how much that is.

        Raises
        ------
        ConfigurationError
            For weights of another shape, and for less than no memory.
        UnstableDataError
            When the data differs between two passes.
        NotTwiceDifferentiableError
            When a submodule has no second derivative.
        NonFiniteLossError
            When the loss or its gradient is not finite at `theta`.
        """
        theta = self._one_row(theta)
        if batch is None:
            self.require_deterministic("a Hessian")
        return CurvatureOperator(self, theta, batch, DEFAULT_MEMORY if memory is None else memory)

    def require_deterministic(self, purpose: str) -> None:
        """Refuse data that differs between two passes, where `purpose` needs the same data twice.

        Raises
        ------
        UnstableDataError
            Naming the split.
        """
        if self._stable is None:
            self._stable = self._agreed(self.data.deterministic)
        if not self._stable:
            raise UnstableDataError(
                f"The data of split {self.split!r} differs between two passes over it (random augmentation?), "
                f"and {purpose} needs the same data every time. Draw it once: "
                "landscape.fixed(data, batches=...)."
            )

    # -- score --------------------------------------------------------------------------------------------

    @property
    def has_score(self) -> bool:
        """Whether :meth:`score` gives a number: always for a given score, else where targets say classes."""
        if self._score is None:
            return False
        if not self._score_is_default:
            return True
        if self._has_score is None:
            self._has_score = says_classes(next(iter(self.data.batches()), None))
        return self._has_score

    def score(self, theta: Tensor, batch: Batch | PerRow | None = None) -> Tensor | None:
        """Return the score averaged over the data (or one batch), shaped like :meth:`value`; None without one.

        Raises
        ------
        ConfigurationError
            See :meth:`value`.
        DataError
            See :meth:`value`.
        """
        if not self.has_score:
            return None
        return self._by_row(self._score_value, theta, batch)

    def value_and_score(self, theta: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return L(theta) and the score (None without one) from one forward pass, where both are of its output.

        Many points at once, (K, P), cost less than one by one: the module is prepared, the data is read, and its
        batches are weighed once for all of them.

        Parameters
        ----------
        theta
            Weights, shape (P,) or (K, P).

        Returns
        -------
        value, score
            Each the same as from :meth:`value` and :meth:`score`: shape (), or (K,).

        Raises
        ------
        ConfigurationError
            See :meth:`value`.
        DataError
            See :meth:`value`.
        """
        theta = self._converted(theta)
        criteria: tuple[tuple[Criterion, Reduction], ...] = ((self._criterion, self.reduction),)
        if self._score is not None and self.has_score:
            first, second = sharing_output(self._criterion, self._score)
            criteria = (first, self.reduction), (second, "mean")
        if theta.ndim == 2 and not len(theta):
            return self._accumulator(0), self._accumulator(0) if len(criteria) > 1 else None
        with torch.no_grad():
            value, *scores = self._means(criteria, theta, None)
            if self.penalty is not None:
                rows = theta.view(-1, theta.shape[-1])
                extra = torch.stack([self._penalty(row) for row in rows])
                value = value + extra.view_as(value).to(value)
        return value, scores[0] if scores else None

    # -- data ---------------------------------------------------------------------------------------------

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Yield the batches of the data, on the device and in the dtype of the landscape."""
        for batch in self._held().batches(size):
            yield self._moved(batch)

    def stream(self, batch_size: int | None, seed: int) -> BatchStream:
        """Return mini-batches in an order that `seed` decides; None gives all data as one batch.

        Raises
        ------
        ConfigurationError
            For a batch size below 1.
        """
        if not is_whole(seed):
            raise ConfigurationError(f"seed={seed!r}: give a whole number.")
        held = self._held()
        key = (batch_size, int(seed))
        stream = self._streams.get(key)
        if stream is None or stream.data is not held:
            if len(self._streams) >= _STREAMS_KEPT:
                del self._streams[next(iter(self._streams))]
            self._streams[key] = stream = BatchStream(held, batch_size, seed)
        return stream

    def _held(self) -> Data:
        return self.data.moved(self.device, self.dtype)

    def _moved(self, batch: Batch) -> Batch:
        return move(batch, self.device, self.dtype)

    def _batches(self, batch: Batch | None, first: int = 0) -> Iterator[Batch]:
        """Yield the batches L is made of here, from number `first` on."""
        if batch is not None:
            if first == 0:
                yield self._moved(batch)
            return
        for own in self._held().batches_from(first):
            yield self._moved(own)

    # -- one row ------------------------------------------------------------------------------------------

    def _value(self, theta: Tensor, batch: Batch | None) -> Tensor:
        with torch.no_grad():
            total = self._mean(self._criterion, self.reduction, theta, batch)
            return total if self.penalty is None else total + self._penalty(theta).to(total)

    def _score_value(self, theta: Tensor, batch: Batch | None) -> Tensor:
        assert self._score is not None
        with torch.no_grad():
            return self._mean(self._score, "mean", theta, batch)

    def _mean(self, criterion: Criterion, reduction: Reduction, theta: Tensor, batch: Batch | None) -> Tensor:
        return self._means([(criterion, reduction)], theta, batch)[0]

    def _means(
        self, criteria: Sequence[tuple[Criterion, Reduction]], theta: Tensor, batch: Batch | None
    ) -> list[Tensor]:
        """Return each criterion at `theta`, (P,) or (K, P), without gradients: shape () or (K,)."""
        one_row = theta.ndim == 1
        rows = [self.layout.parts(aligned(row)) for row in ([theta] if one_row else theta)]
        sums = [_Sums(self, criterion, reduction) for criterion, reduction in criteria]
        with self._session(underived=True) as session:
            rows = [self._all_parts(row) for row in rows]
            for one in self._batches(batch):
                found = []
                for row in rows:
                    found.append([session.evaluate(criterion, row, one) for criterion, _ in criteria])
                    if len(found) < len(rows) and not session.untouched():
                        break
                if len(found) < len(rows):
                    break
                for total, column in zip(sums, zip(*found, strict=True), strict=True):
                    total.add(one, column[0] if one_row else torch.stack(column))
            else:
                return [total.result()[0] for total in sums]
        # What the module keeps from call to call may belong to the weights it was computed with.
        apart = [self._means(criteria, row, batch) for row in theta]
        return [torch.stack(column) for column in zip(*apart, strict=True)]

    def _value_and_gradient(
        self, theta: Tensor, batch: Batch | None, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if batch is not None and self._alone:
            # The common case in a walk: the batch's loss is the value, and nothing is summed.
            with self._session(differentiate=True) as session:
                value, gradient = self._of_batch(session, theta, self._moved(batch), out)
            value = value.to(self._summing)
        else:
            value, gradient = self._summed(theta, batch)
        if self.penalty is not None:
            extra, slope = self._penalty_gradient(theta)
            value, gradient = value + extra.to(value), gradient + slope
        if out is not None and gradient is not out:
            gradient = out.copy_(gradient)
        return value, gradient

    def _of_batch(
        self, session: Session, theta: Tensor, batch: Batch, out: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return loss and gradient on one batch, the gradient in `out` where it is given."""
        parts = self._leaves(theta)
        loss = self._loss(session, parts, batch)
        return loss.detach(), self._flat_gradient(loss, parts, out)

    def _summed(self, theta: Tensor, batch: Batch | None) -> tuple[Tensor, Tensor]:
        sums = self._sums()
        with self._session(differentiate=True) as session:
            parts = self._leaves(theta)
            for one in self._batches(batch):
                loss = self._loss(session, parts, one)
                sums.add(one, loss.detach(), self._flat_gradient(loss, parts))
        value, gradient = sums.result()
        assert gradient is not None
        return value, gradient

    def _sums(self) -> _Sums:
        return _Sums(self, self._criterion, self.reduction)

    def _local_gradient(self, theta: Tensor, batch: Batch) -> Tensor:
        """Return the gradient on one batch of this process alone, penalty included."""
        with self._session(differentiate=True) as session:
            parts = self._leaves(theta)
            gradient = self._flat_gradient(self._loss(session, parts, batch), parts)
        return gradient if self.penalty is None else gradient + self._penalty_gradient(theta)[1]

    def _vectorised_gradients(self, theta: Tensor, batch: Batch) -> Tensor:
        count = examples_in(batch)
        is_column = [isinstance(leaf, Tensor) and leaf.ndim > 0 for _, leaf in leaves(batch)]
        flat = [leaf for _, leaf in leaves(batch)]
        columns = [leaf for leaf, column in zip(flat, is_column, strict=True) if column]
        # The other kinds of attention are not vectorised: they go example by example, with a warning.
        with sdpa_kernel(SDPBackend.MATH), self._session() as session:

            def loss_of_one(parts: tuple[Tensor, ...], *example: Tensor) -> Tensor:
                entries = iter([entry.unsqueeze(0) for entry in example])
                others = iter(
                    partial(_single, index=0, count=count)(leaf)
                    for leaf, column in zip(flat, is_column, strict=True)
                    if not column
                )
                kinds = iter(is_column)
                single = map_leaves(lambda leaf: next(entries) if next(kinds) else next(others), batch)
                return self._loss(session, list(parts), single)

            gradient = torch.func.grad(loss_of_one)
            in_dims = (None, *([0] * len(columns)))
            parts = tuple(part.detach() for part in self.layout.parts(theta))
            with torch.enable_grad():
                rows = torch.func.vmap(gradient, in_dims=in_dims)(parts, *columns)
        flat_rows = torch.cat([row.detach().reshape(count, -1) for row in rows], dim=1)
        return flat_rows if self.penalty is None else flat_rows + self._penalty_gradient(theta)[1]

    # -- pieces -------------------------------------------------------------------------------------------

    def _session(self, *, differentiate: bool = False, underived: bool = False) -> Session:
        return self._evaluator.session(self._override, differentiate=differentiate, underived=underived)

    def _loss(
        self, session: Session, parts: list[Tensor], batch: Batch, rest: Tensor | None = None
    ) -> Tensor:
        return session.evaluate(self._criterion, self._all_parts(parts, rest), batch)

    def _constants(self) -> list[Tensor]:
        """Return what graphs hold besides: tensors that exist whether or not a graph does."""
        return [] if self._rest is None else [self._rest]

    def _leaves(self, theta: Tensor) -> list[Tensor]:
        return self.layout.leaves(theta, requires_grad=True)

    def _all_parts(self, parts: list[Tensor], rest: Tensor | None = None) -> list[Tensor]:
        """Return a tensor for every trainable parameter: those that vary, and the rest of a restriction.

        `rest` takes the place of the rest, where it must be known what is computed from it.
        """
        rest = self._rest if rest is None else rest
        if rest is None:
            return parts
        every = self._full.split(rest)
        every.update(zip(self.layout.names, parts, strict=True))
        return list(every.values())

    def _flat_gradient(self, loss: Tensor, parts: list[Tensor], out: Tensor | None = None) -> Tensor:
        return self.layout.join(self._gradients(loss, parts), out)

    def _gradients(self, loss: Tensor, parts: list[Tensor]) -> list[Tensor]:
        self._require_graph(loss)
        if not loss.requires_grad:
            return [torch.zeros_like(part, requires_grad=False) for part in parts]
        found = zip(gradients_of(loss, parts), parts, strict=True)
        return [torch.zeros_like(part) if gradient is None else gradient for gradient, part in found]

    def _require_graph(self, loss: Tensor) -> None:
        """Refuse a loss that autograd cannot follow to any weight; a restriction may well have none.

        Raises
        ------
        ConfigurationError
            When the loss of an unrestricted landscape is cut off from all its weights.
        """
        if not loss.requires_grad and self._rest is None:
            raise ConfigurationError(
                f"Autograd finds no way from the loss {self._criterion.name!r} to any of the {self.size} "
                "weights. Does forward detach its result, run under torch.no_grad(), or use weights kept "
                "outside of nn.Parameter?"
            )

    def _weight(self, criterion: Criterion, reduction: Reduction, batch: Batch) -> Any:
        return criterion.weight(batch) if reduction == "mean" else 1

    def _penalty(self, theta: Tensor, rest: Tensor | None = None) -> Tensor:
        """Return the penalty at the weights that belong to `theta`, with their graph."""
        assert self.penalty is not None
        rest = self._rest if rest is None else rest
        if rest is not None:
            theta = rest.index_copy(0, self._chosen, theta)
        return scalar(self.penalty(theta), "penalty").to(self.device)

    def _penalty_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            value = self._penalty(leaf)
            if not value.requires_grad:
                return value.detach(), torch.zeros_like(theta)
            (slope,) = torch.autograd.grad(value, leaf, materialize_grads=True)
        return value.detach(), slope

    @property
    def _alone(self) -> bool:
        """Whether a single batch of a mean is its own result and needs neither weight nor sum."""
        return self.reduction == "mean" and self.group is None

    @property
    def _summing(self) -> torch.dtype:
        # Apple's GPUs have no float64.
        return torch.float32 if self.device.type == "mps" else torch.float64

    def _accumulator(self, size: int) -> Tensor:
        return torch.zeros(size, device=self.device, dtype=self._summing)

    def _reduce(self, sums: Tensor) -> None:
        if self.group is not None:
            torch.distributed.all_reduce(sums, group=self.group)

    def _agreed(self, yes: bool) -> bool:
        """Whether all processes of the group say yes."""
        if self.group is None:
            return yes
        doubts = torch.tensor([0.0 if yes else 1.0], device=self.device)
        torch.distributed.all_reduce(doubts, group=self.group)
        return not doubts.item()

    # -- rows ---------------------------------------------------------------------------------------------

    def _converted(self, theta: Tensor) -> Tensor:
        """Return weights of shape (P,) or (K, P) on the device and in the dtype of the landscape.

        Raises
        ------
        ConfigurationError
            For any other shape.
        """
        self.layout._check(theta)
        if theta.ndim > 2:
            raise ConfigurationError(
                f"Weights of shape {tuple(theta.shape)}: give ({self.size},), or (K, {self.size}) for K points."
            )
        theta = theta.detach()
        if theta.dtype == self.dtype and theta.device == self.device:
            return theta
        return theta.to(self.device, self.dtype)

    def _one_row(self, theta: Tensor) -> Tensor:
        theta = self._converted(theta)
        if theta.ndim != 1:
            raise ConfigurationError(
                f"Weights of shape {tuple(theta.shape)}: this is defined at one point; give ({self.size},)."
            )
        return theta

    def _for_row(self, batch: Batch | PerRow | None, row: tuple[int, int] | None) -> Batch | None:
        if not isinstance(batch, PerRow):
            return batch
        if row is None:
            raise ConfigurationError(
                "PerRow gives each row of (K, P) weights its batch; these weights are (P,)."
            )
        index, count = row
        if len(batch) != count:
            raise ConfigurationError(f"PerRow has {len(batch)} batches for {count} rows of weights.")
        return batch.batches[index]

    def _by_row(
        self,
        function: Callable[[Tensor, Batch | None], Tensor],
        theta: Tensor,
        batch: Batch | PerRow | None,
    ) -> Tensor:
        theta = self._converted(theta)
        if theta.ndim == 1:
            return function(theta, self._for_row(batch, None))
        rows = [function(aligned(row), self._for_row(batch, (k, len(theta)))) for k, row in enumerate(theta)]
        return torch.stack(rows) if rows else self._accumulator(0)

    def __repr__(self) -> str:
        return (
            f"Landscape({type(self.module).__name__}, P={self.size}, loss={self._criterion.name!r}, "
            f"split={self.split!r}, dtype={self.dtype}, device={self.device})"
        )


class _Sums:
    """Sums a criterion and its gradient over batches, in float64 and over the processes of a group.

    A single batch of a mean, the common case in a walk, is its own result and needs neither weight nor sum.
    """

    def __init__(self, landscape: Landscape, criterion: Criterion, reduction: Reduction) -> None:
        self._landscape = landscape
        self._criterion = criterion
        self._reduction = reduction
        self._alone = reduction == "mean" and landscape.group is None
        self._pending: tuple[Batch, Tensor, Tensor | None] | None = None
        self._value: Tensor | None = None
        self._weight: Tensor | None = None
        self._gradient: Tensor | None = None

    def add(self, batch: Batch, value: Tensor, gradient: Tensor | None = None) -> None:
        """Add what a batch gave: value and gradient at one point, or (K,) and (K, P) at several."""
        if self._alone and self._pending is None and self._value is None:
            self._pending = (batch, value, gradient)
            return
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._add(*pending)
        self._add(batch, value, gradient)

    def _add(self, batch: Batch, value: Tensor, gradient: Tensor | None) -> None:
        zeros = self._landscape._accumulator
        if self._value is None:
            self._value, self._weight = zeros(value.numel()).view_as(value), zeros(1).view(())
        assert self._weight is not None
        weight = self._landscape._weight(self._criterion, self._reduction, batch)
        self._value += weighted(weight, value.to(self._value.dtype))
        self._weight += weight
        if gradient is not None:
            if self._gradient is None:
                self._gradient = zeros(gradient.numel()).view_as(gradient)
            self._gradient += weighted(weight, gradient)

    def result(self) -> tuple[Tensor, Tensor | None]:
        """Return the value, float64, and the gradient in the landscape's dtype."""
        landscape = self._landscape
        if self._pending is not None:
            _, alone, gradient = self._pending
            return alone.to(landscape._summing), gradient
        value, weight, gradient = self._value, self._weight, self._gradient
        if value is None:
            raise DataError(f"The data of split {landscape.split!r} gave no batch.")
        assert weight is not None
        if landscape.group is not None:
            # One message instead of three.
            terms = [value, weight] if gradient is None else [value, weight, gradient]
            packed = torch.cat([term.reshape(-1) for term in terms])
            landscape._reduce(packed)
            pieces = torch.split(packed, [term.numel() for term in terms])
            value, weight = pieces[0].view_as(value), pieces[1].view_as(weight)
            gradient = None if gradient is None else pieces[2].view_as(gradient)
        if self._reduction == "mean" and not weight > 0:
            raise DataError(
                f"The batches of split {landscape.split!r} count {float(weight):g} together under the loss "
                f"{self._criterion.name!r}, and a mean over nothing is not defined. Are all targets ignored?"
            )
        scale = weight if self._reduction == "mean" else torch.ones_like(weight)
        return value / scale, None if gradient is None else (gradient / scale).to(landscape.dtype)


def _require_python(module: nn.Module) -> None:
    """Refuse what TorchScript compiled: its weights cannot be put in place of others.

    Raises
    ------
    ConfigurationError
        Naming the submodule.
    """
    for name, submodule in module.named_modules():
        if isinstance(submodule, torch.jit.ScriptModule):
            where = f"submodule {name!r}" if name else "module"
            raise ConfigurationError(
                f"The {where} was compiled by TorchScript ({submodule.original_name}), which keeps its weights to "
                "itself. Give the module that it was made from; torch.compile may be used."
            )


def _require_floating(dtype: Any) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigurationError(
            f"dtype={dtype!r}: weights are real; give a floating type of torch, such as torch.float64."
        )


def _require_group(group: Any) -> None:
    """Refuse a group that is none of torch.distributed's.

    Raises
    ------
    ConfigurationError
        Naming what it is.
    """
    if group is None:
        return
    there = torch.distributed.is_available()
    if not there or not isinstance(group, torch.distributed.ProcessGroup):
        raise ConfigurationError(
            f"group={group!r} is no process group; give torch.distributed.new_group(...) or group.WORLD."
        )


def _common_dtype(module: nn.Module) -> torch.dtype:
    dtypes = [parameter.dtype for parameter in module.parameters() if parameter.requires_grad]
    return reduce(torch.promote_types, dtypes)


def _single(leaf: Any, index: int, count: int) -> Any:
    """Return one example of a leaf, as a batch of one."""
    if isinstance(leaf, Tensor) and leaf.ndim:
        return leaf[index : index + 1]
    return leaf
