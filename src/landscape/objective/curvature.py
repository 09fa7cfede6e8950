r"""The Hessian as an operator: linearised once, then many products.

A product with the Hessian of one batch is a backward pass through the graph of its gradient,

.. math:: H v = \nabla_\theta \bigl( \nabla_\theta \ell(\theta)^\top v \bigr)

(Pearlmutter 1994, "Fast exact multiplication by the Hessian"). The graph is built once and kept. Counting
floating-point operations, a product then costs 1.7 gradients for perceptrons and 2.0 for convolutional
networks, which is the least an exact product can cost with the gradient's intermediate results at hand;
building the graph anew for every product costs 2.7, and ``jvp(grad)`` 3.0. (``jvp(grad)`` also fails for
``mse_loss`` after a linear layer in torch 2.13: "ZeroTensors are immutable".)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape.objective.batch import Batch, leaves
from landscape.objective.differentiability import not_twice_differentiable, why_not_twice
from landscape.objective.losses import weighted

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from landscape.objective.evaluation import Session
    from landscape.objective.landscape import Landscape

__all__ = ["DEFAULT_MEMORY", "CurvatureCost", "CurvatureOperator"]

#: Bytes that kept graphs may hold by default: 2 GiB, which the machines that train small networks can spare.
DEFAULT_MEMORY = 2 * 1024**3

# Gradients per product, by count of floating-point operations (perceptron with 17,610 weights; see above).
_KEPT_COST = 1.7
_RECOMPUTED_COST = 2.7


@frozen
class CurvatureCost:
    """What a product with a curvature operator costs, and what the operator holds.

    Attributes
    ----------
    gradients_per_product
        In gradients over the same data: 1.7 for what is kept, 2.7 for what is computed anew, weighted by the
        examples. An estimate from the counted operations of perceptrons. Time can be more: a convolutional
        network with batch normalisation took 3.1 and 3.9 gradients (16 and 32 channels, 32x32 pixels, one core).
    batches_kept, batches_recomputed
        How many batches have their graph kept, and how many are evaluated anew at every product.
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
    """The gradient of one batch's loss with its graph.

    Attributes
    ----------
    loss
        The loss, without a graph.
    weight
        How much the batch counts.
    """

    def __init__(
        self, loss: Tensor, gradients: Sequence[Tensor], inputs: Sequence[Tensor], weight: Any
    ) -> None:
        self.loss = loss.detach()
        self.weight = weight
        self._inputs = inputs
        # Where a gradient does not depend on the weights, its derivative is zero and there is no graph.
        self._places = [i for i, gradient in enumerate(gradients) if gradient.requires_grad]
        self._gradients = [gradients[i] for i in self._places]

    def product(self, vector: Sequence[Tensor]) -> list[Tensor] | None:
        """Return the product with a vector, given and returned as one tensor per input; None is zero."""
        if not self._places:
            return None
        return list(
            torch.autograd.grad(
                self._gradients,
                self._inputs,
                [vector[i] for i in self._places],
                retain_graph=True,
                materialize_grads=True,
            )
        )


@final
class CurvatureOperator:
    """The Hessian of a landscape at a point, as a symmetric operator on R^P.

    Made by :meth:`landscape.objective.Landscape.hessian`. Batches are summed in float64 with their weights, the
    penalty's Hessian is included, and results come back in the landscape's dtype. The operator stays that of the
    weights and buffers it was made with.

    Attributes
    ----------
    gradient
        The gradient at the point, shape (P,), which building the operator computes anyway.
    value
        The loss there, shape (), float64.
    products
        How many products have been computed so far.

    Raises
    ------
    ConfigurationError
        For less than no memory.
    NotTwiceDifferentiableError
        When a submodule has no second derivative.
    NonFiniteLossError
        When the loss or its gradient is not finite at the point.
    """

    def __init__(self, landscape: Landscape, theta: Tensor, batch: Batch | None, memory: int) -> None:
        if memory < 0:
            raise ConfigurationError(f"memory={memory}: give a number of bytes, 0 to keep nothing.")
        # What is computed anew must find the buffers that the rest was computed with, however far the module
        # has been trained since.
        self._landscape = landscape = landscape.with_buffers(landscape.buffers())
        self._theta = theta.clone()  # the graphs must outlive an update of `theta` in place
        self._batch = batch
        self._leaves = landscape._leaves(self._theta)
        self._kept: list[_Linearised] = []
        self.products = 0
        totals, gradient = self._linearise_all(memory)
        landscape._reduce(totals)
        landscape._reduce(gradient)
        #: What weighted sums over batches are divided by.
        self._total = totals[1] if landscape.reduction == "mean" else torch.ones_like(totals[1])
        self.value = totals[0] / self._total
        self.gradient = (gradient / self._total).to(self.dtype)
        self._penalty = self._linearised_penalty()
        self._require_finite()

    # -- description --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self._landscape.size, self._landscape.size)

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
        if vectors.ndim != 2 or vectors.shape[0] != self.shape[0]:
            raise ConfigurationError(f"Columns of shape {tuple(vectors.shape)}: give ({self.shape[0]}, k).")
        return self._products(vectors)

    __call__ = matvec

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    def dense(self) -> Tensor:
        """Return the matrix, shape (P, P), made exactly symmetric; P products."""
        matrix = self.matmat(torch.eye(self.shape[0], device=self.device, dtype=self.dtype))
        return (matrix + matrix.T) / 2

    def to_scipy(self) -> LinearOperator:
        """Return the operator for ``scipy.sparse.linalg``; numpy arrays in, numpy arrays out."""
        from scipy.sparse.linalg import LinearOperator

        def apply(columns: np.ndarray) -> np.ndarray:
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
            f"CurvatureOperator(P={self.shape[0]}, kept={cost.batches_kept}, "
            f"recomputed={cost.batches_recomputed}, gradients_per_product={cost.gradients_per_product:.1f})"
        )

    # -- building -----------------------------------------------------------------------------------------

    def _linearise_all(self, memory: int) -> tuple[Tensor, Tensor]:
        """Keep the graphs of as many batches as `memory` allows; return the sums over all batches.

        Returns
        -------
        tuple of Tensor
            Sums of weighted loss and of weight, shape (2,), and of weighted gradients, shape (P,).
        """
        landscape = self._landscape
        totals, gradient = landscape._accumulator(2), landscape._accumulator(landscape.size)
        held, recomputed, recomputed_extent, extent_total = 0, 0, 0, 0
        bytes_per_element = 0.0
        with self._session() as session:
            for number, batch in enumerate(landscape._batches(self._batch)):
                extent = _extent(batch)
                extent_total += extent
                if number == 0:
                    piece, flat, measured = self._linearise_first(session, batch)
                    bytes_per_element = measured / max(extent, 1)
                needed = int(bytes_per_element * extent)
                # Batches are kept in their order and without gaps: what is not kept can be read from there on.
                keep = not recomputed and held + needed <= memory
                if number > 0:
                    piece, flat = self._linearise(session, batch, graph=keep)
                totals[0] += weighted(piece.weight, piece.loss.to(totals.dtype))
                totals[1] += piece.weight
                gradient += weighted(piece.weight, flat)
                if keep:
                    self._kept.append(piece)
                    held += needed
                else:
                    recomputed += 1
                    recomputed_extent += extent
                del piece, flat  # else a graph would live on while the next one is built
        share = recomputed_extent / max(extent_total, 1)
        self._cost = CurvatureCost(
            gradients_per_product=(1 - share) * _KEPT_COST + share * _RECOMPUTED_COST,
            batches_kept=len(self._kept),
            batches_recomputed=recomputed,
            bytes_held=held,
            vectors_held=1 + len(self._kept),
        )
        return totals, gradient

    def _linearise(self, session: Session, batch: Batch, *, graph: bool) -> tuple[_Linearised, Tensor]:
        """Return the batch's gradient, with its graph where asked for, and as a flat vector (P,)."""
        landscape = self._landscape
        loss = landscape._loss(session, self._leaves, batch)
        weight = landscape._weight(landscape._criterion, landscape.reduction, batch)
        landscape._require_graph(loss)
        if not loss.requires_grad:
            return _Linearised(loss, [], [], weight), torch.zeros_like(self._theta)
        gradients = torch.autograd.grad(loss, self._leaves, create_graph=graph, materialize_grads=True)
        flat = landscape.layout.join([gradient.detach() for gradient in gradients])
        return _Linearised(loss, gradients, self._leaves, weight), flat

    def _linearise_first(self, session: Session, batch: Batch) -> tuple[_Linearised, Tensor, int]:
        """Make sure that products are possible, then linearise the first batch and measure what it holds."""
        self._require_second_derivative(session, batch)
        exempt = [self._theta, *self._landscape._constants(), *(leaf for _, leaf in leaves(batch))]
        with _measured_graph(exempt) as held:
            piece, flat = self._linearise(session, batch, graph=True)
        # Beside the graph, the gradient itself is held, as its root.
        return piece, flat, held.bytes + flat.nbytes

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
        landscape._flat_gradient(loss, self._leaves)  # what fails here fails without a Hessian too
        loss = landscape._loss(session, self._leaves, batch)
        reason = why_not_twice(loss, self._leaves)
        if reason is not None:
            raise not_twice_differentiable(evaluator.module, landscape._criterion, batch, reason)
        evaluator.twice_differentiable.add(landscape.layout.names)

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
        self.gradient = self.gradient + gradients[0].detach()
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
        rows = columns.detach().to(self.device, self.dtype).T.contiguous()
        vectors = [landscape.layout.parts(row) for row in rows]
        sums = landscape._accumulator(rows.numel()).view_as(rows)

        def add(piece: _Linearised) -> None:
            for row, vector in zip(sums, vectors, strict=True):
                product = piece.product(vector)
                if product is not None:
                    row += weighted(piece.weight, landscape.layout.join(product))

        with self._session() as session:
            session.place(landscape._all_parts(self._leaves))
            for piece in self._kept:
                add(piece)
            if self._cost.batches_recomputed:
                for batch in landscape._batches(self._batch, first=len(self._kept)):
                    add(self._linearise(session, batch, graph=True)[0])
        landscape._reduce(sums)
        results = (sums / self._total).to(self.dtype)
        if self._penalty is not None:
            for result, row in zip(results, rows, strict=True):
                product = self._penalty.product([row])
                if product is not None:
                    result += product[0]
        self.products += len(rows)
        return results.T


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


def _extent(batch: Batch) -> int:
    """Return the number of tensor elements of a batch, to which the size of its graph is proportional."""
    return sum(leaf.numel() for _, leaf in leaves(batch) if isinstance(leaf, Tensor))
