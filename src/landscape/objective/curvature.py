r"""Curvature as an operator: linearised once, then many products.

A product with the Hessian of one batch is a backward pass through the graph of its gradient,

.. math:: H v = \nabla_\theta \bigl( \nabla_\theta \ell(\theta)^\top v \bigr)

(Pearlmutter 1994, "Fast exact multiplication by the Hessian"). The graph is built once and kept. Counting
floating-point operations, a product then costs 1.7 gradients for perceptrons and 2.0 for convolutional
networks, which is the least an exact product can cost with the gradient's intermediate results at hand;
building the graph anew for every product costs 2.7, and ``jvp(grad)`` 3.0. (``jvp(grad)`` also fails for
``mse_loss`` after a linear layer in torch 2.13: "ZeroTensors are immutable".)

Where the module is made of known operations (:mod:`landscape.objective.chain`), and its first batch shows so in loss
and gradient, both passes are written out and no graph is kept: a product costs as much at most, and several cost less
each. Anything else keeps its graph. Which of the two it is depends on the module alone, so that results are the same
bits every time; a column of ``matmat`` differs from ``matvec`` by rounding.

The other matrices are products :math:`J^\top M J` with the Jacobian J of what the module gives, or of the losses
of single examples. :math:`J^\top u` is linear in u, so that its graph, kept as well, differentiated with respect
to u gives :math:`J v` by a backward pass; no matrix of (examples, P) is ever formed.

On a CPU, batches whose graph exceeds the cache are linearised in several chunks, where value and gradient show
that the loss is a sum over examples: a convolutional network of 591,274 weights on 32 images of 32x32 pixels
takes a tenth less per product in two chunks of 16 than in one of 32.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any, Literal, final, get_args

import numpy as np
import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ConfigurationError, DataError, NonFiniteLossError, nearest
from landscape.objective.batch import Batch, examples_in, leaves, map_leaves
from landscape.objective.chain import Chain, Middle, Recording
from landscape.objective.differentiability import (
    not_twice_differentiable,
    own_functions,
    why_not_twice,
)
from landscape.objective.losses import Criterion, predict, scalar, weighted
from landscape.validators import is_whole

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from landscape.objective.evaluation import Session
    from landscape.objective.landscape import Landscape
    from landscape.objective.layout import Layout

__all__ = ["DEFAULT_MEMORY", "Curvature", "CurvatureCost", "CurvatureOperator", "losses_of", "output_of"]

#: Which matrix: see :class:`CurvatureOperator`.
Curvature = Literal["hessian", "gauss_newton", "fisher", "second_moment", "covariance"]

#: Bytes that kept graphs may hold by default: 2 GiB, which the machines that train small networks can spare.
DEFAULT_MEMORY = 2 * 1024**3

#: Bytes that :meth:`CurvatureOperator.dense` may take by default: 4 GiB is P = 32,000 in float32.
DENSE_MEMORY = 4 * 1024**3

#: Columns of :meth:`CurvatureOperator.dense` at a time.
_COLUMNS = 64

# Gradients per product, by count of floating-point operations (perceptron with 17,610 weights; see above). With a
# Jacobian J, a layer takes two matrix products for J v and two for its transpose; a gradient takes three.
_KEPT_COST = 1.7
_KEPT_COST_JACOBIAN = 1.3
#: What building the graph anew adds.
_REBUILDING = 1.0
#: Bytes of a graph beyond which a batch is taken in chunks on a CPU. Of 8, 16 and 32 MiB, 16 gave the fastest
#: gradient and product of the convolutional network named above, where a core had 16 MiB of last-level cache;
#: a perceptron's graphs of a few MiB are best left whole.
_CHUNK_BYTES = 16 * 1024**2
#: Beside the names of parameters, in the record of what has been tried.
_WRITTEN_OUT = "written out:"
#: Numbers up to which the sums of several products are kept for the next ones: 64 MiB.
_SUMS_KEPT = 1 << 23
#: What is written out is tried on one of so many examples first, and on two at least.
_TRIED = 16
#: Chunks must reproduce loss and gradient of their batch to so many units of rounding.
_SAME = 1e4
#: The same for the loss alone, which is all that batches after the first are tried by.
_SAME_LOSS = 1e2
#: A gradient is not that of the loss where the loss changes along it at a rate that is so much of it away.
_FORMAL = 0.2
#: The longest step along it for that, in norms of the weights.
_SHORT = 1e-3


@frozen
class CurvatureCost:
    """What a product with a curvature operator costs, and what the operator holds.

    Attributes
    ----------
    gradients_per_product
        In gradients over the same data: for a Hessian 1.7 for what is kept, 2.7 for what is computed anew; for the
        other matrices 1.3 and 2.3; weighted by the examples. An estimate from the counted operations of
        perceptrons. Time can be more: a convolutional
        network with batch normalisation took 3.1 and 3.9 gradients (16 and 32 channels, 32x32 pixels, one core).
    batches_kept, batches_recomputed
        How many batches (or chunks of large ones) have their graph kept, and how many are evaluated anew at every
        product.
    bytes_held
        Bytes that the kept graphs hold beyond weights and data, estimated from the first batch.
    vectors_held
        Vectors of shape (P,) held, in units of the weights' type.
    """

    gradients_per_product: float
    batches_kept: int
    batches_recomputed: int
    bytes_held: int
    vectors_held: int


class _Linearised:
    """The gradient of one batch's loss with its graph; multiplies by the Hessian.

    Attributes
    ----------
    loss
        The loss, without a graph.
    weight
        How much the batch counts, in the loss and in the products.
    """

    examples = 0.0

    def __init__(
        self, loss: Tensor, gradients: Sequence[Tensor], inputs: Sequence[Tensor], weight: Any
    ) -> None:
        self.loss = loss.detach()
        self.weight = float(weight)
        self._inputs = inputs
        self._gradients = gradients

    def product(self, vector: Sequence[Tensor], chosen: Sequence[int]) -> list[Tensor] | None:
        """Return the product of the block of the `chosen` inputs with one tensor for each; None is zero."""
        # Where a gradient does not depend on the weights, its derivative is zero and there is no graph.
        places = [
            (place, at)
            for place, at in enumerate(chosen)
            if at < len(self._gradients) and self._gradients[at].requires_grad
        ]
        if not places:
            return None
        return list(
            torch.autograd.grad(
                [self._gradients[at] for _, at in places],
                [self._inputs[at] for at in chosen],
                [vector[place] for place, _ in places],
                retain_graph=True,
                materialize_grads=True,
            )
        )

    def form(self, vector: Sequence[Tensor], chosen: Sequence[int]) -> Tensor | None:
        """Return the vector times its product, shape (); None is zero."""
        product = self.product(vector, chosen)
        return None if product is None else _inner(vector, product)


class _Factored:
    """Multiplies by J^T M J, with J the Jacobian of `outputs` with respect to `inputs`.

    Attributes
    ----------
    loss
        The batch's loss, without a graph.
    weight
        How much the products count.
    examples, shares
        How much the examples count, in all and each, where J is that of their losses.
    """

    examples = 0.0
    shares: Tensor | None = None

    def __init__(
        self,
        loss: Tensor,
        outputs: Tensor,
        inputs: Sequence[Tensor],
        middle: Callable[[Tensor], Tensor],
        weight: Any,
        *,
        graph: bool,
    ) -> None:
        self.loss = loss.detach()
        self.weight = float(weight)
        self._inputs, self._outputs, self._middle = inputs, outputs, middle
        self._transposed: Sequence[Tensor] = ()
        if graph and outputs.requires_grad:
            self._probe = torch.zeros_like(outputs, requires_grad=True)
            self._transposed = torch.autograd.grad(
                outputs, inputs, self._probe, create_graph=True, materialize_grads=True
            )

    def gradient(self, slopes: Tensor) -> list[Tensor]:
        """Return J^T `slopes`, one tensor per input."""
        if not self._outputs.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self._inputs]
        return list(
            torch.autograd.grad(
                self._outputs, self._inputs, slopes, retain_graph=True, materialize_grads=True
            )
        )

    def product(self, vector: Sequence[Tensor], chosen: Sequence[int]) -> list[Tensor] | None:
        """Return the product of the block of the `chosen` inputs with one tensor for each; None is zero."""
        moved = self._moved(vector, chosen)
        if moved is None:
            return None
        return list(
            torch.autograd.grad(
                self._outputs,
                [self._inputs[at] for at in chosen],
                self._middle(moved),
                retain_graph=True,
                materialize_grads=True,
            )
        )

    def form(self, vector: Sequence[Tensor], chosen: Sequence[int]) -> Tensor | None:
        """Return the vector times its product, shape (), by J v alone; None is zero."""
        moved = self._moved(vector, chosen)
        return None if moved is None else _inner([moved], [self._middle(moved)])

    def _moved(self, vector: Sequence[Tensor], chosen: Sequence[int]) -> Tensor | None:
        """Return J v, the outputs' derivative along v; None is zero."""
        places = [
            (place, at)
            for place, at in enumerate(chosen)
            if self._transposed and self._transposed[at].requires_grad
        ]
        if not places:
            return None
        (moved,) = torch.autograd.grad(
            [self._transposed[at] for _, at in places],
            self._probe,
            [vector[place] for place, _ in places],
            retain_graph=True,
            materialize_grads=True,
        )
        return moved


class _Chained:
    """A batch in a network of known operations; multiplies several vectors at once.

    Attributes
    ----------
    loss
        The batch's loss.
    weight
        How much the batch counts, in the loss and in the products.
    """

    examples = 0.0

    def __init__(self, loss: Tensor, chain: Chain, weight: Any) -> None:
        self.loss = loss.detach()
        self.weight = float(weight)
        self.chain = chain


#: What multiplies a batch.
_Piece = _Linearised | _Factored | _Chained
#: What multiplies, the gradient (P,), and the weight in the loss.
_Chunk = tuple[_Piece, Tensor, Any]


@final
class _NoSummandsError(Exception):
    """The loss of a batch is not the sum of the losses of its chunks."""


class CurvatureOperator:
    r"""A matrix of second order at a point of a landscape, as a symmetric operator on R^P.

    The Hessian is made by :meth:`landscape.objective.Landscape.hessian`, every kind by :meth:`of` and
    :meth:`landscape.objective.Point.curvature`. Batches are summed in float64 with their weights, and results come
    back in the landscape's dtype. The operator stays that of the weights and buffers it was made with.

    =================  ========================================================================================
    kind               matrix
    =================  ========================================================================================
    ``hessian``        :math:`\nabla^2 L`, penalty included
    ``gauss_newton``   generalised Gauss-Newton: L's Hessian with the module replaced by its linearisation,
                       :math:`\sum_b w_b J_b^\top \nabla^2_z \ell_b\, J_b / \sum_b w_b` with z the module's output,
                       plus the penalty's Hessian (Schraudolph 2002)
    ``second_moment``  :math:`\sum_i p_i\, g_i g_i^\top` with the gradients of single examples, penalty included
    ``covariance``     :math:`N \sum_i p_i^2\, (g_i - \bar g) (g_i - \bar g)^\top`
    ``fisher``         empirical Fisher: the second moment without the penalty
    =================  ========================================================================================

    The :math:`p_i` are 1/N, or proportional to the examples' weights in the mean, such as their tokens that are
    not ignored, and :math:`\bar g = \sum_i p_i g_i`. The gradients of batches of B examples that are drawn with
    replacement have the covariance of single examples divided by B: exactly where all weights are equal. Where they
    are not, the gradient of a batch is a ratio, :math:`\sum_{i \in B} w_i g_i / \sum_{i \in B} w_i`, whose
    covariance is this one divided by B to the first order in 1/B (Cochran 1977, "Sampling techniques", ch. 6).
    The second moment less the mean's is the covariance for equal weights only. All but the Hessian need the module's
    output, and so a loss of ``(output, target)``.

    Attributes
    ----------
    kind
        Which matrix.
    gradient
        The gradient of L at the point, shape (P,), which building the operator computes anyway.
    value
        The loss there, shape (), float64.
    products
        How many products and quadratic forms have been computed so far.

    Raises
    ------
    ConfigurationError
        For less than no memory, an unknown kind, weights in float16, and a loss without an output where it is
        needed.
    NotTwiceDifferentiableError
        When a submodule has no second derivative.
    NonFiniteLossError
        When the loss or its gradient is not finite at the point.
    """

    def __init__(
        self,
        landscape: Landscape,
        theta: Tensor,
        batch: Batch | None,
        memory: int,
        kind: Curvature = "hessian",
    ) -> None:
        if not is_whole(memory) or memory < 0:
            raise ConfigurationError(
                f"memory={memory!r}: give a whole number of bytes, such as 2 * 1024**3; 0 to keep nothing."
            )
        if kind not in get_args(Curvature):
            known = ", ".join(repr(name) for name in get_args(Curvature))
            raise ConfigurationError(
                f"kind={kind!r}: give one of {known}.{nearest(kind, get_args(Curvature))}"
            )
        if landscape.dtype == torch.float16:
            raise ConfigurationError(
                "Second derivatives overflow in float16, whose largest number is 65,504. Evaluate in another type: "
                "Landscape(..., dtype=torch.float32)."
            )
        # What is computed anew must find the buffers that the rest was computed with, however far the module
        # has been trained since.
        self._landscape = landscape = landscape.with_buffers(landscape.buffers())
        self.kind: Curvature = kind
        self._theta = theta.clone()  # the graphs must outlive an update of `theta` in place
        self._batch = batch
        self._leaves = landscape._leaves(self._theta)
        self._chosen: Sequence[int] = range(len(self._leaves))
        self._layout = landscape.layout
        self._kept: list[_Piece] = []
        #: Whether the module may be a chain of known operations.
        self._chains = kind in ("hessian", "gauss_newton") and landscape._criterion.of_output is not None
        #: Into how many chunks batches are taken, and the most that may be.
        self._split, self._most_chunks = 1, sys.maxsize
        self._sum: Tensor | None = None
        self.products = 0
        try:
            totals, gradient, squared = self._linearise_all(memory)
        except _NoSummandsError:
            self._split, self._most_chunks = 1, 1
            self._kept.clear()
            totals, gradient, squared = self._linearise_all(memory)
        landscape._reduce(totals)
        landscape._reduce(gradient)
        if squared is not None:
            landscape._reduce(squared)
        #: What weighted sums over batches are divided by.
        total = totals[1] if landscape.reduction == "mean" else torch.ones_like(totals[1])
        #: The same for products.
        self._total = totals[2] if self._of_examples else total
        self.value = totals[0] / total
        self.gradient = (gradient / total).to(self.dtype)
        #: The mean gradient of an example, and what the penalty adds to each.
        self._mean = (gradient / self._total).to(self.dtype)
        #: About the mean: the mean with the squares of the weights, and how far these are from equal.
        self._second: Tensor | None = None
        self._unequal = 1.0
        if squared is not None:
            self._total = self._total**2 / totals[3]
            self._second = (squared / self._total).to(self.dtype)
            self._unequal = float(totals[4] / self._total)
        self._extra: Tensor | None = None
        self._penalty = self._linearised_penalty()
        self._require_finite()

    @classmethod
    def of(
        cls,
        landscape: Landscape,
        theta: Tensor,
        kind: Curvature = "hessian",
        *,
        batch: Batch | None = None,
        memory: int | None = None,
    ) -> CurvatureOperator:
        """Return the operator of a kind at `theta`, shape (P,).

        Parameters
        ----------
        landscape, theta
            Where.
        kind
            Which matrix.
        batch
            One batch in place of the data.
        memory
            Bytes that graphs may hold, 2 GiB by default. What does not fit is computed anew at every product;
            :attr:`cost` says how much that is.

        Raises
        ------
        UnstableDataError
            When the data differs between two passes.
        """
        theta = landscape._one_row(theta)
        if batch is None:
            landscape.require_deterministic("a curvature operator")
        return cls(landscape, theta, batch, DEFAULT_MEMORY if memory is None else memory, kind)

    # -- description --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self._layout.size, self._layout.size)

    @property
    def layout(self) -> Layout:
        """Which weight stands where in the vectors."""
        return self._layout

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self._landscape.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self._landscape.device

    @property
    def cost(self) -> CurvatureCost:
        """What a product costs, and what is held."""
        return self._cost

    # -- products -----------------------------------------------------------------------------------------

    def matvec(self, vector: Tensor) -> Tensor:
        """Return H v for `vector` of shape (P,).

        Raises
        ------
        ConfigurationError
            For a vector of another shape.
        """
        _require_numbers(vector)
        if tuple(vector.shape) != (self.shape[0],):
            raise ConfigurationError(
                f"A vector of shape {tuple(vector.shape)}: give ({self.shape[0]},), or use matmat for columns."
            )
        return self._products(vector.unsqueeze(1)).squeeze(1)

    def matmat(self, vectors: Tensor) -> Tensor:
        """Return H V for the columns of `vectors`, shape (P, k).

        Batches that are computed anew are computed once for all columns.

        Raises
        ------
        ConfigurationError
            For anything but P rows.
        """
        self._require_columns(vectors)
        return self._products(vectors)

    def _require_columns(self, vectors: Any) -> None:
        _require_numbers(vectors)
        if vectors.ndim != 2 or vectors.shape[0] != self.shape[0]:
            raise ConfigurationError(f"Columns of shape {tuple(vectors.shape)}: give ({self.shape[0]}, k).")

    def quadratic_forms(self, vectors: Tensor) -> Tensor:
        r"""Return :math:`v^\top H v` for every column v of `vectors`, shape (P, k).

        Where products are written out, and for all kinds but the Hessian, H v itself is not formed: what the module
        gives is differentiated along v, forwards, and no backward pass is needed. It costs a gradient at most where a
        product costs two. A Hessian whose graph is kept is multiplied; then it costs what the product costs.

        Returns
        -------
        Tensor
            Shape (k,), in float64, on the operator's device; in float32 where the device has no float64.

        Raises
        ------
        ConfigurationError
            For anything but P rows.

        Examples
        --------
        >>> import torch
        >>> import landscape as ls
        >>> x = torch.diag(torch.tensor([2.0, 1.0]))  # L = (4 w1^2 + w2^2) / 2
        >>> landscape = ls.Landscape(torch.nn.Linear(2, 1, bias=False), "mse", (x, torch.zeros(2, 1)))
        >>> landscape.hessian(landscape.initial()).quadratic_forms(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        tensor([4., 8.], dtype=torch.float64)
        """
        self._require_columns(vectors)
        return self._forms(vectors)

    __call__ = matvec

    def __matmul__(self, other: Tensor) -> Tensor:
        _require_numbers(other)
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def dense(self, *, memory: int = DENSE_MEMORY) -> Tensor:
        """Return the matrix, shape (P, P), made exactly symmetric; P products.

        Parameters
        ----------
        memory
            Bytes that the matrix may take; 4 GiB by default.

        Raises
        ------
        ConfigurationError
            When it takes more.
        """
        if not is_whole(memory):
            raise ConfigurationError(f"memory={memory!r}: give a whole number of bytes, such as 4 * 1024**3.")
        size = self.shape[0]
        needed = size**2 * self.dtype.itemsize
        if needed > memory:
            raise ConfigurationError(
                f"The matrix of {size:,} weights takes {needed / 1e9:,.1f} GB, and memory={memory} allows "
                f"{memory / 1e9:.1f} GB. Multiply by the operator instead, take a block() of it, or allow more."
            )
        matrix = torch.empty(size, size, device=self.device, dtype=self.dtype)
        for low in range(0, size, _COLUMNS):
            columns = matrix[:, low : low + _COLUMNS].zero_()
            columns[low : low + _COLUMNS].fill_diagonal_(1)
            columns.copy_(self.matmat(columns))
        return matrix.add_(matrix.T.clone()).div_(2)

    def block(self, patterns: str | Sequence[str]) -> CurvatureOperator:
        """Return the diagonal block of some weights, with the graphs that are kept already.

        Its products cost less: only what leads to the chosen weights is differentiated.

        Parameters
        ----------
        patterns
            See :meth:`landscape.objective.Layout.select`.

        Raises
        ------
        ConfigurationError
            When a pattern matches nothing.
        """
        other = object.__new__(CurvatureOperator)
        other.__dict__.update(self.__dict__)
        other._layout = self._layout.restricted(patterns)
        at = {name: index for index, name in enumerate(self._landscape.layout.names)}
        other._chosen = [at[name] for name in other._layout.names]
        inside = self._layout.indices(other._layout.names).to(self.device)
        other.gradient, other._mean = self.gradient[inside], self._mean[inside]
        other._extra = None if self._extra is None else self._extra[inside]
        other._second = None if self._second is None else self._second[inside]
        other.products, other._sum = 0, None
        return other

    def blocks(self) -> Mapping[str, CurvatureOperator]:
        """Return the diagonal block of every layer, by the name of the module that holds the weights."""
        owners: dict[str, list[str]] = {}
        for name in self._layout.names:
            owners.setdefault(name.rpartition(".")[0], []).append(name)
        return {owner: self.block(names) for owner, names in owners.items()}

    def to_scipy(self) -> LinearOperator:
        """Return the operator for ``scipy.sparse.linalg``; numpy arrays in, numpy arrays out.

        Its products raise :class:`ConfigurationError` for complex vectors.
        """
        from scipy.sparse.linalg import LinearOperator

        def apply(columns: np.ndarray) -> np.ndarray:
            if np.iscomplexobj(columns):
                raise ConfigurationError(
                    f"Vectors of {np.asarray(columns).dtype}: the weights are real; multiply by the real and the "
                    "imaginary part, .real and .imag, one after the other."
                )
            tensor = torch.from_numpy(np.ascontiguousarray(columns)).to(self.device, self.dtype)
            flat = tensor.reshape(self.shape[0], -1)
            result: np.ndarray = self.matmat(flat).reshape(tensor.shape).cpu().to(numpy_type).numpy()
            return result

        # numpy has no bfloat16; float32 holds its values exactly.
        numpy_type = self.dtype if self.dtype in (torch.float32, torch.float64) else torch.float32
        dtype = np.float64 if numpy_type == torch.float64 else np.float32
        # Symmetric: the adjoint is the operator itself.
        return LinearOperator(
            self.shape, matvec=apply, rmatvec=apply, matmat=apply, rmatmat=apply, dtype=np.dtype(dtype)
        )

    def __repr__(self) -> str:
        cost = self._cost
        return (
            f"CurvatureOperator({self.kind!r}, P={self.shape[0]}, kept={cost.batches_kept}, "
            f"recomputed={cost.batches_recomputed}, gradients_per_product={cost.gradients_per_product:.1f})"
        )

    # -- building -----------------------------------------------------------------------------------------

    def _linearise_all(self, memory: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keep the graphs of as many batches as `memory` allows; return the sums over all batches.

        Returns
        -------
        tuple of Tensor
            Sums of weighted loss, of weight, of the weights of examples, of examples and of the squares of their
            weights, shape (5,); of weighted gradients, shape (P,); and of gradients of examples with the squares of
            their weights, None but for a covariance.

        Raises
        ------
        _NoSummandsError
            When the loss of some batch is not what its chunks add up to. Losses that are means over something
            else than examples, such as tokens that are not padding, are that for full batches only.
        """
        landscape = self._landscape
        totals, gradient = landscape._accumulator(5), landscape._accumulator(landscape.size)
        squared = landscape._accumulator(landscape.size) if self.kind == "covariance" else None
        held, recomputed, recomputed_extent, extent_total = 0, 0, 0, 0
        bytes_per_element = 0.0
        with self._session() as session:
            for number, batch in enumerate(landscape._batches(self._batch)):
                if number == 0:
                    bytes_per_element, prepared = self._begin(session, batch)
                summed, weights = 0.0, []
                for chunk in _parts(batch, self._split):
                    extent = _extent(chunk)
                    extent_total += extent
                    needed = int(bytes_per_element * extent)
                    # They are kept in their order and without gaps: what is not kept can be read from there on.
                    keep = not recomputed and held + needed <= memory
                    if number == 0:
                        piece, flat, weight = prepared.pop(0)
                    else:
                        piece, flat, weight = self._linearise(session, chunk, graph=keep)
                    totals[0] += weighted(weight, piece.loss.to(totals.dtype))
                    totals[1] += weight
                    totals[2] += piece.examples
                    gradient += weighted(weight, flat)
                    if squared is not None and isinstance(piece, _Factored):
                        assert piece.shares is not None
                        totals[3] += examples_in(chunk)
                        totals[4] += (piece.shares**2).sum()
                        squared += self._squares(piece, weighted(weight, flat))
                    summed += float(weighted(weight, piece.loss.double()))
                    weights.append(float(weight))
                    if keep:
                        self._kept.append(piece)
                        held += needed
                    else:
                        recomputed += 1
                        recomputed_extent += extent
                    del piece, flat  # else a graph would live on while the next one is built
                if number and len(weights) > 1:
                    self._require_summands(session, batch, summed, sum(weights))
        share = recomputed_extent / max(extent_total, 1)
        self._cost = CurvatureCost(
            gradients_per_product=(_KEPT_COST if self.kind == "hessian" else _KEPT_COST_JACOBIAN)
            + share * _REBUILDING,
            batches_kept=len(self._kept),
            batches_recomputed=recomputed,
            bytes_held=held,
            vectors_held=1 + len(self._kept),
        )
        return totals, gradient, squared

    def _require_summands(self, session: Session, batch: Batch, summed: float, weights: float) -> None:
        landscape = self._landscape
        weight = float(landscape._weight(landscape._criterion, landscape.reduction, batch))
        with torch.no_grad():
            loss = weight * float(landscape._loss(session, self._leaves, batch))
        limit = _SAME_LOSS * torch.finfo(self.dtype).eps
        # A loss that is not finite is reported with what is known of it, in the end.
        apart = abs(summed - loss) > limit * abs(loss)
        if apart or (landscape.reduction == "mean" and abs(weights - weight) > limit * weight):
            raise _NoSummandsError

    @property
    def _of_examples(self) -> bool:
        """Whether the matrix is made of the gradients of single examples."""
        return self.kind in ("fisher", "second_moment", "covariance")

    def _chunks(self, first: int = 0) -> Iterator[Batch]:
        """Yield the batches, large ones in chunks, from number `first` on."""
        if self._split == 1:
            yield from self._landscape._batches(self._batch, first=first)
            return
        pieces = (
            piece for batch in self._landscape._batches(self._batch) for piece in _parts(batch, self._split)
        )
        yield from islice(pieces, first, None)

    def _begin(self, session: Session, batch: Batch) -> tuple[float, list[_Chunk]]:
        """Make sure that products are possible, linearise the first batch, and decide whether to take chunks.

        Returns
        -------
        bytes_per_element, chunks
            Bytes that a graph holds per tensor element of a batch; and the batch, linearised.
        """
        if self._chains:
            written = self._begin_chains(session, batch)
            if written is not None:
                return written
            self._chains = False
        self._require_second_derivative(session, batch)
        exempt = [self._theta, *self._landscape._constants(), *(leaf for _, leaf in leaves(batch))]
        with _measured_graph(exempt) as held:
            whole = self._linearise(session, batch, graph=True)
        return self._in_chunks(session, batch, whole, held.bytes)

    def _in_chunks(
        self, session: Session, batch: Batch, whole: _Chunk, held: int
    ) -> tuple[float, list[_Chunk]]:
        """Decide whether to take the first batch, which holds so many bytes, in chunks; see :meth:`_begin`."""
        piece, flat, weight = whole
        # Beside the graph, the gradient itself is held, as its root.
        measured = held + flat.nbytes
        per_element = measured / max(_extent(batch), 1)
        count = -(-measured // _CHUNK_BYTES)
        count = min(count, self._most_chunks)
        if self.device.type == "cpu" and count > 1 and len(parts := list(_parts(batch, count))) > 1:
            chunks = [self._linearise(session, part, graph=True) for part in parts]
            shares = self._shares(chunks, weight)
            if (
                shares is not None
                and self._same(
                    sum(s * piece.loss.double() for s, (piece, _, _) in zip(shares, chunks, strict=True)),
                    piece.loss,
                )
                and self._same(
                    sum(s * part.double() for s, (_, part, _) in zip(shares, chunks, strict=True)), flat
                )
            ):
                self._split = count
                return per_element, chunks
        return per_element, [(piece, flat, weight)]

    def _begin_chains(self, session: Session, batch: Batch) -> tuple[float, list[_Chunk]] | None:
        """Write the first batch out, in chunks where it is large; None where it cannot be; see :meth:`_begin`."""
        if not self._tried and not self._is_right(session, batch):
            return None
        recorded = self._recorded(session, batch)
        if recorded is None:
            return None
        count = -(-(recorded[0].bytes + self._theta.nbytes) // _CHUNK_BYTES)
        count = min(count, self._most_chunks)
        if self.device.type == "cpu" and count > 1 and len(parts := list(_parts(batch, count))) > 1:
            _, output, target = recorded
            del recorded  # what it holds is not needed beside the chunks
            chunks = [chunk for part in parts if (chunk := self._chained(session, part)) is not None]
            if len(chunks) == len(parts) and self._make_up(chunks, output, target, batch):
                self._split = count
                held = sum(piece.chain.bytes for piece, _, _ in chunks) + self._theta.nbytes
                return held / max(_extent(batch), 1), list(chunks)
            recorded = self._recorded(session, batch)
            if recorded is None:
                return None
        whole = self._written(*recorded, batch)
        if whole is None:
            return None
        held = whole[0].chain.bytes + self._theta.nbytes
        return held / max(_extent(batch), 1), [whole]

    def _make_up(
        self, chunks: Sequence[tuple[_Chained, Tensor, Any]], output: Tensor, target: Any, batch: Batch
    ) -> bool:
        """Whether the chunks of a batch have its outputs, and the loss of these is a sum over the chunks.

        Then they have its gradient and its Hessian between them, as known operations do not mix examples.
        """
        landscape = self._landscape
        criterion = landscape._criterion
        shares = self._shares(chunks, landscape._weight(criterion, landscape.reduction, batch))
        middles = [piece.chain.middle for piece, _, _ in chunks]
        if shares is None or not self._same(torch.cat([middle.output for middle in middles]), output):
            return False
        leaf = output.detach().requires_grad_()
        loss = scalar(criterion.of_output(leaf, target), criterion.name)  # type: ignore[misc]
        if not loss.requires_grad:
            return False
        (slopes,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)
        if not self._same(
            sum(s * piece.loss.double() for s, (piece, _, _) in zip(shares, chunks, strict=True)), loss
        ):
            return False
        if not self._same(
            torch.cat([s * middle.slopes for s, middle in zip(shares, middles, strict=True)]), slopes
        ):
            return False
        waves = torch.arange(output.numel(), dtype=output.dtype, device=output.device).view_as(output).cos()
        low, bent = 0, []
        for s, middle in zip(shares, middles, strict=True):
            moved = waves[low : low + len(middle.output)]
            bent.append(s * middle.product(moved))
            low += len(moved)
        return self._same(torch.cat(bent), Middle(leaf, slopes).product(waves))

    def _shares(self, chunks: Sequence[tuple[_Piece, Tensor, Any]], weight: Any) -> list[float] | None:
        """Return how much of their batch's loss that of each chunk is; None where their weights are not its weight."""
        weights = [float(share) for _, _, share in chunks]
        if self._landscape.reduction != "mean":
            return weights  # every one is 1, as that of the batch is
        total = float(weight)
        same = abs(sum(weights) - total) <= _SAME * torch.finfo(self.dtype).eps * total
        return [share / total for share in weights] if same else None

    def _same(self, found: Any, expected: Tensor) -> bool:
        """Whether numbers are others but for rounding."""
        limit = _SAME * torch.finfo(self.dtype).eps
        apart = torch.linalg.vector_norm(found - expected)
        return bool(apart <= limit * torch.linalg.vector_norm(expected))

    def _linearise(self, session: Session, batch: Batch, *, graph: bool) -> _Chunk:
        """Return the batch, ready to multiply where asked for, its gradient (P,), and its weight in the loss."""
        landscape = self._landscape
        weight = landscape._weight(landscape._criterion, landscape.reduction, batch)
        if self._chains:
            written = self._chained(session, batch)
            if written is not None:
                return written
        piece: _Piece
        if self.kind == "hessian":
            loss = landscape._loss(session, self._leaves, batch)
            landscape._require_graph(loss)
            if not loss.requires_grad:
                return _Linearised(loss, [], [], weight), torch.zeros_like(self._theta), weight
            gradients: Sequence[Tensor]
            gradients = torch.autograd.grad(loss, self._leaves, create_graph=graph, materialize_grads=True)
            piece = _Linearised(loss, gradients if graph else (), self._leaves, weight)
        else:
            output, target = output_of(landscape, session, self._leaves, batch, f"kind={self.kind!r}")
            build = self._examples if self._of_examples else self._gauss_newton
            piece, gradients = build(output, target, batch, weight, graph=graph)
        flat = landscape.layout.join([gradient.detach() for gradient in gradients])
        return piece, flat, weight

    def _chained(self, session: Session, batch: Batch) -> tuple[_Chained, Tensor, Any] | None:
        """Return the batch in a network of known operations; None where some are not known."""
        recorded = self._recorded(session, batch)
        return None if recorded is None else self._written(*recorded, batch)

    def _recorded(self, session: Session, batch: Batch) -> tuple[Chain, Tensor, Any] | None:
        """Return the operations on a batch, which are not yet differentiated, the output and the target.

        None where some operations are not known.
        """
        landscape = self._landscape
        criterion = landscape._criterion
        seen: list[tuple[Any, Any, Recording]] = []

        def look(module: Any, given: Batch) -> Tensor:
            constants = [leaf for _, leaf in leaves(given) if isinstance(leaf, Tensor)]
            constants += [parameter for parameter in module.parameters() if not parameter.requires_grad]
            with torch.no_grad(), Recording(self._leaves, constants + session.constants()) as recording:
                seen.append((*predict(module, given), recording))
            return torch.zeros((), device=landscape.device)

        session.evaluate(evolve(criterion, fn=look), landscape._all_parts(self._leaves), batch)
        output, target, recording = seen[-1]
        chain = recording.chain(output)
        return (chain, output, target) if chain is not None and len(output) else None

    def _written(
        self, chain: Chain, output: Tensor, target: Any, batch: Batch
    ) -> tuple[_Chained, Tensor, Any] | None:
        """Return a batch whose operations are known, ready to multiply; None where its loss is not differentiable."""
        landscape = self._landscape
        criterion = landscape._criterion
        assert criterion.of_output is not None
        leaf = output.detach().requires_grad_()
        if not self._tried:
            reason = why_not_twice(scalar(criterion.of_output(leaf, target), criterion.name), [leaf])
            if reason is not None:
                return None  # the graph will say so as well, and there it is found out what is to blame
        loss = scalar(criterion.of_output(leaf, target), criterion.name)
        if not loss.requires_grad or loss.device != landscape.device:
            return None
        (slopes,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)
        gradients = chain.gradient(slopes.detach(), linearised=self.kind == "gauss_newton")
        chain.middle = Middle(leaf, slopes)
        weight = landscape._weight(criterion, landscape.reduction, batch)
        return _Chained(loss, chain, weight), landscape.layout.join(gradients), weight

    def _is_right(self, session: Session, batch: Batch) -> bool:
        """Whether what is written out has the loss and the gradient that automatic differentiation gives.

        Tried once for each selection of parameters: on a few examples, and on all where these do not say so.
        """
        try:
            few = next(_parts(batch, max(1, examples_in(batch) // max(2, examples_in(batch) // _TRIED))))
        except DataError:  # no such thing as an example
            few = batch
        for given in (few, batch):
            try:
                written = self._chained(session, given)
                right = written is not None and self._is_right_on(session, given, written)
            except Exception:
                if given is batch:
                    raise
                continue  # a module that takes batches of one size only
            if right and written is not None:
                # Where a parameter has no gradient at all, as below weights of zero, nothing has been compared.
                if all(part.any() for part in self._landscape.layout.parts(written[1])):
                    names = (_WRITTEN_OUT, *self._landscape.layout.names)
                    self._landscape._evaluator.twice_differentiable.add(names)
                return True
            if written is None:
                return False
        return False

    def _is_right_on(self, session: Session, batch: Batch, written: tuple[_Chained, Tensor, Any]) -> bool:
        landscape = self._landscape
        loss = landscape._loss(session, self._leaves, batch)
        landscape._require_graph(loss)
        if not loss.requires_grad:
            return False
        own = own_functions(loss)
        flat = landscape._flat_gradient(loss, self._leaves)
        piece, found, _ = written
        right = self._same(piece.loss, loss) and self._same(found, flat) and bool(found.isfinite().all())
        if right and own:
            self._warn_of_formal_derivatives(session, batch, own)
        return right

    @property
    def _tried(self) -> bool:
        """Whether what is written out has been seen to be right for these parameters."""
        landscape = self._landscape
        key = (_WRITTEN_OUT, *landscape.layout.names)
        return key in landscape._evaluator.twice_differentiable

    def _gauss_newton(
        self, output: Tensor, target: Any, batch: Batch, weight: Any, *, graph: bool
    ) -> tuple[_Factored, list[Tensor]]:
        of_output = self._landscape._criterion.of_output
        assert of_output is not None
        leaf = output.detach().requires_grad_()
        loss = of_output(leaf, target)
        (slopes,) = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)

        def middle(moved: Tensor) -> Tensor:
            if not slopes.requires_grad:
                return torch.zeros_like(moved)
            (curved,) = torch.autograd.grad(slopes, leaf, moved, retain_graph=True, materialize_grads=True)
            return curved

        piece = _Factored(loss, output, self._leaves, middle, weight, graph=graph)
        return piece, piece.gradient(slopes.detach())

    def _examples(
        self, output: Tensor, target: Any, batch: Batch, weight: Any, *, graph: bool
    ) -> tuple[_Factored, list[Tensor]]:
        landscape = self._landscape
        criterion = landscape._criterion
        assert criterion.of_output is not None
        count = examples_in(batch)
        if len(output) != count:
            raise ConfigurationError(
                f"kind={self.kind!r} needs the losses of single examples: for a batch of {count}, the module's "
                f"output has shape {tuple(output.shape)}."
            )
        shares = example_weights(criterion, landscape.reduction, batch, weight, count).to(output)
        # An example that does not count has a mean over nothing, NaN, whose gradient would be NaN as well.
        counted = shares.nonzero().squeeze(1)
        shares = shares[counted]
        losses = losses_of(criterion.of_output, output[counted], pick_examples(target, counted, count))
        total = shares.sum() if landscape.reduction == "mean" else torch.ones_like(shares.sum())
        loss = (shares * losses).sum() / total
        whole = scalar(criterion.of_output(output.detach(), target), criterion.name)
        summed = loss.detach()
        if bool(whole.isfinite()) and not self._same(summed, whole):
            what = "mean" if landscape.reduction == "mean" else "sum"
            raise ConfigurationError(
                f"kind={self.kind!r} needs a loss that is a {what} over examples: those of a batch of {count} come to "
                f"{float(summed):.6g}, the loss of the batch is {float(whole):.6g}. Where examples count differently, "
                "give one of torch's losses, such as nn.CrossEntropyLoss(weight=..., ignore_index=...): how they "
                "count is known of these."
            )
        factors = shares**2 if self.kind == "covariance" else shares
        piece = _Factored(loss, losses, self._leaves, lambda moved: factors * moved, 1, graph=graph)
        piece.examples, piece.shares = float(shares.sum()), shares
        return piece, piece.gradient((shares / total).detach())

    def _squares(self, piece: _Factored, gradient: Tensor) -> Tensor:
        """Return the sum of the gradients of examples with the squares of their weights, shape (P,).

        Parameters
        ----------
        piece
            The batch.
        gradient
            The sum with the weights themselves.
        """
        assert piece.shares is not None
        if not len(piece.shares) or bool((piece.shares == piece.shares[0]).all()):
            return gradient * piece.shares[:1].sum()
        parts = piece.gradient(piece.shares**2)
        return self._landscape.layout.join([part.detach() for part in parts])

    def _require_second_derivative(self, session: Session, batch: Batch) -> None:
        """Try a product on one batch, once for each selection of parameters.

        Raises
        ------
        NotTwiceDifferentiableError
            When autograd cannot differentiate the gradient; names the submodule.
        """
        landscape = self._landscape
        evaluator = landscape._evaluator
        if landscape.layout.names in evaluator.twice_differentiable:
            return
        loss = landscape._loss(session, self._leaves, batch)
        try:
            landscape._flat_gradient(loss, self._leaves)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise  # what fails here fails without a Hessian too
            said = str(error).strip().splitlines()[0]
            raise not_twice_differentiable(evaluator.module, landscape._criterion, batch, said) from error
        loss = landscape._loss(session, self._leaves, batch)
        reason = why_not_twice(loss, self._leaves)
        if reason is not None:
            raise not_twice_differentiable(evaluator.module, landscape._criterion, batch, reason)
        own = own_functions(loss)
        if own:
            self._warn_of_formal_derivatives(session, batch, own)
        evaluator.twice_differentiable.add(landscape.layout.names)

    def _warn_of_formal_derivatives(self, session: Session, batch: Batch, own: Sequence[str]) -> None:
        """Compare the gradient, where backward passes are somebody's own, with what the loss does along it."""
        loss = self._landscape._loss(session, self._leaves, batch)
        gradient = self._landscape._flat_gradient(loss, self._leaves)
        slope = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
        size = float(loss.detach().abs())
        if not slope > 0 or not math.isfinite(slope + size):
            return
        # Far enough for the loss to change by more than its rounding, not so far that it bends.
        eps = torch.finfo(self.dtype).eps
        longest = _SHORT * float(torch.linalg.vector_norm(self._theta, dtype=torch.float64))
        step = min(eps ** (1 / 3) * size / slope, longest)
        if step * slope < eps / _FORMAL**2 * size:
            return  # nothing to be seen beside the rounding
        ends = []
        with torch.no_grad():
            for sign in (1, -1):
                leaves = self._landscape._leaves(self._theta + gradient * (sign * step / slope))
                ends.append(float(self._landscape._loss(session, leaves, batch)))
        found = (ends[0] - ends[1]) / (2 * step)
        if abs(found - slope) > _FORMAL * slope:
            warnings.warn(
                f"{' and '.join(own)}: the backward pass of a torch.autograd.Function is not the derivative of its "
                f"forward pass. Along its gradient, of norm {slope:.3g}, the loss changes by {found:.3g} per unit. "
                "Second derivatives are those of what the backward passes say, not of the loss.",
                stacklevel=2,
            )

    def _linearised_penalty(self) -> _Linearised | None:
        landscape = self._landscape
        if landscape.penalty is None:
            return None
        with torch.enable_grad():
            leaf = self._theta.detach().requires_grad_()
            value = landscape._penalty(leaf)
            self.value = self.value + value.detach().to(self.value)
            if not value.requires_grad:
                return None
            gradients = torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)
        self._extra = gradients[0].detach()
        self.gradient = self.gradient + self._extra
        if self._of_examples:
            return None
        return _Linearised(value, gradients, [leaf], 1)

    def _require_finite(self) -> None:
        """Refuse a point where loss or gradient are not finite.

        Raises
        ------
        NonFiniteLossError
            Naming the loss, or the first parameter whose gradient is not finite.
        """
        if not self.value.isfinite():
            raise NonFiniteLossError(
                f"The loss is {self.value.item()} here, so it has no Hessian. Measure before the walk "
                "diverges, or lower its learning rate."
            )
        bad = ~self.gradient.isfinite()
        if bad.any():
            names = self._landscape.layout.split(bad)
            name = next(name for name, part in names.items() if part.any())
            raise NonFiniteLossError(
                f"The gradient is not finite in {int(bad.sum())} of {bad.numel()} entries (first in {name!r}), "
                "so the loss has no Hessian here. Measure before the walk diverges, or lower its learning rate."
            )

    @contextmanager
    def _session(self) -> Iterator[Session]:
        # Fused attention kernels have no second derivative; the composed one has.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), self._landscape._session() as session:
            yield session

    # -- multiplying --------------------------------------------------------------------------------------

    def _products(self, columns: Tensor) -> Tensor:
        landscape = self._landscape
        if not columns.shape[1]:
            return torch.zeros(columns.shape, device=self.device, dtype=self.dtype)
        rows = columns.detach().to(self.device, self.dtype).T.contiguous()
        vectors = [self._layout.parts(row) for row in rows]
        sizes = [self._leaves[at].numel() for at in self._chosen]
        places = [slice(high - size, high) for size, high in zip(sizes, accumulate(sizes), strict=True)]
        together = [
            rows[:, place].reshape(len(rows), *self._leaves[at].shape)
            for at, place in zip(self._chosen, places, strict=True)
        ]
        # One batch alone is divided by the weight that it was multiplied by.
        alone = len(self._kept) == 1 and not self._cost.batches_recomputed and landscape.group is None
        alone = alone and not self._of_examples and landscape.reduction == "mean"
        sums = torch.zeros_like(rows) if alone else self._blank(rows)

        def add(piece: _Piece) -> None:
            if isinstance(piece, _Chained):
                for few, found in piece.chain.products(dict(zip(self._chosen, together, strict=True))):
                    for at, place in zip(self._chosen, places, strict=True):
                        part = found[at].reshape(few.stop - few.start, -1)
                        if alone:
                            sums[few, place] = part
                        elif piece.weight:
                            sums[few, place].add_(part, alpha=piece.weight)
                return
            for row, vector in zip(sums, vectors, strict=True):
                product = piece.product(vector, self._chosen)
                if product is None:
                    continue
                if alone:
                    self._layout.join(product, row)
                elif piece.weight:
                    row.add_(self._layout.join(product), alpha=piece.weight)

        self._for_each_piece(add)
        landscape._reduce(sums)
        if not alone:
            # In place, as fresh memory costs more; but what is returned may not be what is used again.
            sums = sums / self._total if sums.dtype == self.dtype else sums.div_(self._total).to(self.dtype)
        for result, row in zip(sums, rows, strict=True):
            self._add_rest(result, row)
        self.products += len(rows)
        return sums.T

    def _forms(self, columns: Tensor) -> Tensor:
        count = columns.shape[1]
        sums = self._landscape._accumulator(count)
        if not count:
            return sums
        rows = columns.detach().to(self.device, self.dtype).T.contiguous()
        together = dict(zip(self._chosen, self._layout.parts(rows), strict=True))

        def add(piece: _Piece) -> None:
            if not piece.weight:
                return
            if isinstance(piece, _Chained):
                sums.add_(piece.chain.forms(together, sums.dtype), alpha=piece.weight)
                return
            for number in range(count):
                form = piece.form([part[number] for part in together.values()], self._chosen)
                if form is not None:
                    sums[number] += piece.weight * form

        self._for_each_piece(add)
        self._landscape._reduce(sums)
        sums /= self._total
        self._add_rest_of_forms(sums, rows)
        self.products += count
        return sums

    def _add_rest_of_forms(self, sums: Tensor, rows: Tensor) -> None:
        """Add to quadratic forms what :meth:`_add_rest` adds to products."""

        def along(vector: Tensor) -> Tensor:
            return rows.to(sums.dtype) @ vector.to(sums.dtype)

        if self._penalty is not None:
            for number, row in enumerate(rows):
                full = self._in_full(row)
                form = self._penalty.form([full], [0])
                if form is not None:
                    sums[number] += form
        if self._second is not None:
            mean = along(self._mean)
            sums += mean * (self._unequal * mean - 2 * along(self._second))
        elif self.kind == "second_moment" and self._extra is not None:
            extra = along(self._extra)
            sums += extra * (2 * along(self._mean) + extra)

    def _for_each_piece(self, add: Callable[[_Piece], None]) -> None:
        """Call with every batch, those that are not kept computed anew."""
        # What is written out does not ask the module again.
        asks = self._cost.batches_recomputed or not all(isinstance(piece, _Chained) for piece in self._kept)
        with self._session() if asks else nullcontext() as session:
            if session is not None:
                session.place(self._landscape._all_parts(self._leaves))
            for piece in self._kept:
                add(piece)
            if session is not None and self._cost.batches_recomputed:
                for batch in self._chunks(first=len(self._kept)):
                    add(self._linearise(session, batch, graph=True)[0])

    def _blank(self, rows: Tensor) -> Tensor:
        """Return zeros to sum products in; small ones are used again, as fresh memory costs more than the sums."""
        if rows.numel() > max(_SUMS_KEPT, rows.shape[1]):
            return self._landscape._accumulator(rows.numel()).view_as(rows)
        if self._sum is None or self._sum.shape != rows.shape:
            self._sum = self._landscape._accumulator(rows.numel()).view_as(rows)
        return self._sum.zero_()

    def _add_rest(self, result: Tensor, row: Tensor) -> None:
        """Add to a product what is not a sum over examples: the penalty's part, and the mean's."""
        if self._penalty is not None:
            product = self._penalty.product([self._in_full(row)], [0])
            if product is not None:
                result += product[0] if self._layout is self._landscape.layout else product[0][self._places]
        if self._second is not None:
            mean, second = self._mean, self._second
            along = mean @ row
            result += mean * (self._unequal * along - second @ row) - second * along
        elif self.kind == "second_moment" and self._extra is not None:
            extra, mean = self._extra, self._mean
            result += mean * (extra @ row) + extra * ((mean + extra) @ row)

    @property
    def _places(self) -> Tensor:
        """Where the weights of a block stand in the landscape's vector."""
        return self._landscape.layout.indices(self._layout.names).to(self.device)

    def _in_full(self, row: Tensor) -> Tensor:
        if self._layout is self._landscape.layout:
            return row
        return torch.zeros_like(self._theta).index_copy(0, self._places, row)


class _Held:
    """Counts the bytes of tensors saved for backward passes, each storage once."""

    def __init__(self, exempt: Sequence[Any]) -> None:
        self._exempt = {t.untyped_storage().data_ptr() for t in exempt if isinstance(t, Tensor)}
        self._sizes: dict[int, int] = {}

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key not in self._exempt:
            self._sizes[key] = storage.nbytes()

    @property
    def bytes(self) -> int:
        return sum(self._sizes.values())


@contextmanager
def _measured_graph(exempt: Sequence[Any]) -> Iterator[_Held]:
    """Measure what the graphs built inside hold, beyond the storages of `exempt`."""
    held = _Held(exempt)

    def pack(tensor: Tensor) -> Tensor:
        held.see(tensor)
        # An alias without history: a saved output that kept its own graph alive would never be freed.
        return tensor.detach()

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield held


def _inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two sequences of tensors, shape (), in float64 where there is such a thing."""
    dtype = torch.float32 if first[0].device.type == "mps" else torch.float64
    terms = [(a.to(dtype) * b.to(dtype)).sum() for a, b in zip(first, second, strict=True)]
    return torch.stack(terms).sum()


def _require_numbers(vector: Any) -> None:
    """Refuse what cannot be multiplied.

    Raises
    ------
    ConfigurationError
        For anything but a tensor of real numbers.
    """
    if not isinstance(vector, Tensor):
        raise ConfigurationError(
            f"Got a {type(vector).__name__} to multiply by: give a tensor, as torch.as_tensor makes one; "
            "to_scipy() takes numpy arrays."
        )
    if vector.is_complex():
        raise ConfigurationError(
            f"Got {vector.dtype} to multiply by; the matrix is real: multiply by the real and imaginary parts."
        )


def _extent(batch: Batch) -> int:
    """Return the number of tensor elements of a batch, to which the size of its graph is proportional."""
    return sum(leaf.numel() for _, leaf in leaves(batch) if isinstance(leaf, Tensor))


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    """Yield a batch in `count` parts of nearly as many consecutive examples, or whole where it has no examples."""
    if count == 1:
        yield batch
        return
    try:
        examples = examples_in(batch)
    except DataError:  # no such thing as an example
        examples = 0
    if examples < 2:
        yield batch
        return
    count = min(count, examples)
    edges = [examples * i // count for i in range(count + 1)]
    for low, high in pairwise(edges):
        yield pick_examples(batch, slice(low, high), examples)


def pick_examples(batch: Any, rows: Any, examples: int) -> Any:
    """Return some examples of a batch, or of its target."""

    def pick(leaf: Any) -> Any:
        return leaf[rows] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == examples else leaf

    return map_leaves(pick, batch)


def example_weights(criterion: Criterion, reduction: str, batch: Batch, weight: Any, count: int) -> Tensor:
    """Return how much every example counts, shape (count,), float64."""
    if reduction == "sum" or (not isinstance(weight, Tensor) and weight == count):
        return torch.ones(count, dtype=torch.float64)
    if isinstance(weight, Tensor) and all(
        isinstance(leaf, Tensor) and leaf.ndim for _, leaf in leaves(batch)
    ):
        try:
            together: Any = torch.func.vmap(
                lambda single: criterion.weight(map_leaves(lambda leaf: leaf.unsqueeze(0), single))
            )(batch)
        except (RuntimeError, ValueError, NotImplementedError, TypeError):
            pass  # control flow that depends on the data
        else:
            return torch.as_tensor(together).double()
    singles = [float(criterion.weight(pick_examples(batch, slice(i, i + 1), count))) for i in range(count)]
    return torch.tensor(singles, dtype=torch.float64)


def output_of(
    landscape: Landscape, session: Session, parts: list[Tensor], batch: Batch, purpose: str
) -> tuple[Tensor, Any]:
    """Return what the module gives for a batch at the weights `parts`, with its graph, and the target.

    Raises
    ------
    ConfigurationError
        When the loss is not one of an output and a target, or the output is not one tensor; names `purpose`.
    """
    criterion = landscape._criterion
    if criterion.of_output is None:
        raise ConfigurationError(
            f"{purpose} needs the module's output, and the loss {criterion.name!r} does not show it. "
            "Give a loss of (output, target) and batches (x, y)."
        )
    seen: list[tuple[Any, Any]] = []

    def look(module: Any, given: Batch) -> Tensor:
        seen.append(predict(module, given))
        return torch.zeros((), device=landscape.device)

    session.evaluate(evolve(criterion, fn=look), landscape._all_parts(parts), batch)
    output, target = seen[-1]
    if not isinstance(output, Tensor):
        raise ConfigurationError(
            f"{purpose} needs one tensor as the module's output; this one gives a {type(output).__name__}. Wrap the "
            "module so that it returns the tensor the loss is of."
        )
    return output, target


def losses_of(of_output: Callable[[Any, Any], Tensor], output: Tensor, target: Any) -> Tensor:
    """Return the losses of single examples, shape (B,)."""
    count = len(output)
    if isinstance(target, Tensor) and target.ndim and count:
        try:
            found: Tensor = torch.func.vmap(lambda z, y: of_output(z.unsqueeze(0), y.unsqueeze(0)))(
                output, target
            )
        except (RuntimeError, ValueError, NotImplementedError):
            pass  # control flow that depends on the data; one after another, it may work
        else:
            return found.reshape(count)
    rows = [
        of_output(output[i : i + 1], pick_examples(target, slice(i, i + 1), count)).reshape(())
        for i in range(count)
    ]
    return torch.stack(rows) if rows else output.new_zeros(0)
