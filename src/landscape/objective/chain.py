r"""Second derivatives of networks of known operations, written out: products with many vectors at once.

Most modules are made of few operations: linear layers and convolutions, activations, pooling, changes of shape,
batch normalisation, sums. For these, both passes of Pearlmutter's product (1994, "Fast exact multiplication by the
Hessian") can be written down. With a layer :math:`z = W a`, the slopes :math:`\delta = \partial\ell/\partial z`, and a
dot for the derivative along a vector V of the weights,

.. math::
    \dot z = W \dot a + V a, \qquad
    \dot\delta_a = W^\top \dot\delta + V^\top \delta, \qquad
    (H V)_W = \dot\delta\, a^\top + \delta\, \dot a^\top .

A backward pass through the graph of a gradient computes the same, one vector at a time; it also adds the zeros that
are the second derivatives of ReLUs. Here, k vectors share their matrix products: a and :math:`\delta` meet all V in one
product of k times the width, W meets the :math:`\dot a` of all vectors in one of k times the rows. And as examples do
not see each other in these operations, they are taken so many at a time as keeps what is in between in the cache.

:func:`recorded` watches one evaluation of a module and returns a :class:`Chain`, or None where the module does
anything else; then the graph is kept instead (:mod:`landscape.objective.curvature`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from landscape.objective.memory import keep_freed_memory

__all__ = ["Chain", "Middle", "Outer", "Recording", "Vectors"]

#: Bytes of one layer's values, for all vectors, that shall stay in the cache of a core between two operations. The
#: perceptron 64-100-100-10 took 1.4, 1.2, 1.3 and 1.5 gradients a vector with 128, 256, 512 and 1,024 examples at a
#: time, for eight vectors; one vector 2.4, 2.1, 1.8 and 1.7 (a core with 1 MiB of its own).
_CACHE = 1 << 20
#: The same where convolutions come between, which go through memory in an order of their own, and cost more to begin:
#: 8 and 16 channels on 8x8 pixels took 3.6, 1.7 and 1.0 gradients with 64, 256 and 1,024 examples at a time.
_CACHE_CONVOLUTION = 4 << 20
#: Numbers in all values, for each weight, in what is taken together at least.
_VALUES = 6
#: Bytes of all layers' values, for all vectors, beyond which fewer vectors are taken together: a network of 591,274
#: weights took 1.9 gradients a vector for one or two of them at a time, and 2.2 for four.
_TOGETHER = 24 << 20
#: The same on an accelerator, for the memory that it takes (nothing has been measured there).
_TOGETHER_ELSEWHERE = 1 << 30
#: Vectors taken together at most.
_VECTORS = 8
#: Outputs up to which the Hessian of the loss with respect to them is held for every example.
_OUTPUTS = 32
#: A loss has a softmax's second derivative where both differ by no more than so many units of rounding.
_ROUNDED = 16
#: What the matrices of single examples give must be the whole's product to so many units of rounding.
_SAME = 1e4


class Vectors:
    """One matrix of k rows, the vectors, as tensors of shape (k, ...) for each parameter.

    Parameters
    ----------
    parts
        By the position of the parameter among the leaves.
    count
        k.
    """

    def __init__(self, parts: Mapping[int, Tensor], count: int) -> None:
        self._parts = parts
        self._moved: dict[int, Tensor] = {}
        self.count = count

    def __contains__(self, leaf: int | None) -> bool:
        return leaf in self._parts

    def __getitem__(self, leaf: int) -> Tensor:
        """Return a parameter's vectors, shape (k, ...)."""
        return self._parts[leaf]

    def beside(self, leaf: int) -> Tensor:
        """Return a weight's vectors side by side: (outputs, k * inputs, ...)."""
        if leaf not in self._moved:
            part = self._parts[leaf]
            self._moved[leaf] = part.transpose(0, 1).flatten(1, 2)
        return self._moved[leaf]


class _Sums:
    """Sums over examples for each parameter and vector, in both orders in which products give them."""

    def __init__(self, vectors: int, shapes: Mapping[int, torch.Size], like: Tensor) -> None:
        self._count, self._shapes, self._like = vectors, shapes, like
        self._above: dict[int, Tensor] = {}
        self._beside: dict[int, Tensor] = {}

    def wants(self, leaf: int | None) -> bool:
        return leaf in self._shapes

    def above(self, leaf: int) -> Tensor:
        """Return the sums with vectors above each other, (k * outputs, ...)."""
        if leaf not in self._above:
            first, *rest = self._shapes[leaf]
            self._above[leaf] = self._like.new_zeros((self._count * first, *rest))
        return self._above[leaf]

    def beside(self, leaf: int) -> Tensor:
        """Return the sums with vectors side by side, (outputs, k * inputs, ...)."""
        if self._count == 1:
            return self.above(leaf)
        if leaf not in self._beside:
            first, second, *rest = self._shapes[leaf]
            self._beside[leaf] = self._like.new_zeros((first, self._count * second, *rest))
        return self._beside[leaf]

    def total(self, leaf: int) -> Tensor:
        """Return the sums of a parameter, (k, ...)."""
        shape = self._shapes[leaf]
        found = self.above(leaf).view(self._count, *shape)
        if leaf in self._beside:
            found += self._beside[leaf].view(shape[0], self._count, *shape[1:]).transpose(0, 1)
        return found


class _Operation(ABC):
    """One step of the network. Tangents and cotangents have shape (rows, k, ...)."""

    #: Where inputs stand among the values; None for one that no weight moves.
    inputs: tuple[int | None, ...]
    output: int
    #: Parameters, by their position among the leaves.
    leaves: tuple[int | None, ...] = ()
    #: Bytes of what :meth:`keep` will hold more than before.
    slopes_bytes = 0

    @abstractmethod
    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        """Return the derivative of the output along the vectors."""

    @abstractmethod
    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        """Return what reaches the inputs, where `below` asks for it; add to `sums` what reaches the parameters.

        The cotangent is the operation's own, to write into or to give on. Who keeps it as slopes, or gives it to
        several inputs, gives on other numbers: new ones, or copies.
        """

    def bend(  # noqa: B027 (nothing to do for what is linear)
        self,
        tangents: Sequence[Tensor | None],
        vectors: Vectors,
        rows: slice,
        sums: _Sums,
        into: list[Tensor | None],
    ) -> None:
        """Add the derivative of :meth:`pull` itself along the vectors, at the slopes."""

    def curve(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        """Return the slopes times the output's second derivative along each vector: summands, (..., k, ...).

        The vectors are the second of the dimensions. None for what is linear in inputs and parameters together.
        """
        return None

    def keep(self, slopes: Tensor) -> None:  # noqa: B027 (what is linear needs none)
        """Take note of the derivatives of the loss with respect to the output, (rows, ...)."""

    def held(self) -> Sequence[Tensor]:
        """Return the tensors that are held."""
        return [value for value in self.__dict__.values() if isinstance(value, Tensor)]


def _of(tensor: Tensor, rows: slice) -> Tensor:
    """Return some rows; the tensor itself for all, as a view of it takes longer to make."""
    return tensor if rows.stop - rows.start == len(tensor) else tensor[rows]


def _folded(tensor: Tensor) -> Tensor:
    """Return (rows, k, ...) as (rows * k, ...)."""
    return tensor.reshape(-1, *tensor.shape[2:])


def _twice(first: Tensor, second: Tensor) -> Tensor:
    """Return twice the products of the entries."""
    return (first * second).mul_(2)


def _repeated(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return numbers of its own, even where there is nothing to repeat: operations to come may write into them."""
    return tensor.expand(*shape).clone(memory_format=torch.contiguous_format)


def _add(into: list[Tensor | None], extra: Tensor) -> None:
    first = into[0]
    into[0] = extra if first is None else first.add_(extra)


class _Linear(_Operation):
    """Rows of (positions, i) times a weight (o, i)."""

    def __init__(self, inputs: int | None, leaves: tuple[int | None, ...], a: Tensor, weight: Tensor) -> None:
        self.inputs, self.leaves = (inputs,), leaves
        self.a, self.weight = a, weight
        self.slopes = a

    def keep(self, slopes: Tensor) -> None:
        self.slopes = slopes

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        k, (o, _) = vectors.count, self.weight.shape
        moved, a = tangents[0], _of(self.a, rows)
        found = None if moved is None else moved @ self.weight.T
        leaf, bias = self.leaves
        if leaf in vectors:
            assert leaf is not None
            v = vectors[leaf].reshape(k * o, -1)
            if a.ndim == 2:
                if found is None:
                    found = (a @ v.T).view(-1, k, o)
                else:
                    found.view(-1, k * o).addmm_(a, v.T)
            else:
                many = (a @ v.T).view(*a.shape[:-1], k, o).movedim(-2, 1)
                found = many.contiguous() if found is None else found.add_(many)
        if bias in vectors:
            assert bias is not None
            v = vectors[bias].view(1, k, *(1,) * (a.ndim - 2), o)
            found = _repeated(v, (len(a), k, *a.shape[1:-1], o)) if found is None else found.add_(v)
        return found

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        leaf, bias = self.leaves
        k, (o, i) = cotangent.shape[1], self.weight.shape
        if sums.wants(leaf):
            assert leaf is not None
            flat = cotangent if cotangent.ndim == 3 else cotangent.movedim(1, -2)
            sums.above(leaf).addmm_(flat.reshape(-1, k * o).T, _of(self.a, rows).reshape(-1, i))
        if sums.wants(bias):
            assert bias is not None
            sums.above(bias).add_(_positions_summed(cotangent, -1).reshape(-1))
        return [cotangent @ self.weight if below else None]

    def bend(
        self,
        tangents: Sequence[Tensor | None],
        vectors: Vectors,
        rows: slice,
        sums: _Sums,
        into: list[Tensor | None],
    ) -> None:
        k, i = vectors.count, self.weight.shape[1]
        leaf, slopes, moved = self.leaves[0], _of(self.slopes, rows), tangents[0]
        wide = slopes.reshape(-1, slopes.shape[-1])
        if moved is not None and sums.wants(leaf):
            assert leaf is not None
            flat = moved if moved.ndim == 3 else moved.movedim(1, -2)
            sums.beside(leaf).addmm_(wide.T, flat.reshape(-1, k * i))
        if moved is not None and leaf in vectors:
            assert leaf is not None
            v, first = vectors.beside(leaf), into[0]
            if slopes.ndim == 2 and first is not None and first.is_contiguous():
                first.view(-1, k * i).addmm_(wide, v)
            else:
                extra = (slopes @ v).view(*slopes.shape[:-1], k, i)
                _add(into, extra if slopes.ndim == 2 else extra.movedim(-2, 1).contiguous())

    def curve(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        leaf, moved = self.leaves[0], tangents[0]
        if moved is None or leaf not in vectors:
            return None
        assert leaf is not None
        k, (o, i) = vectors.count, self.weight.shape
        slopes = _of(self.slopes, rows)
        if slopes[..., 0].numel() < o:
            # Few rows: V meets the slopes, and nothing of its size is written.
            found = (slopes @ vectors.beside(leaf)).view(*slopes.shape[:-1], k, i)
            return _twice(found if slopes.ndim == 2 else found.movedim(-2, 1), moved)
        flat = moved if moved.ndim == 3 else moved.movedim(1, -2)
        found = slopes.reshape(-1, o).T @ flat.reshape(-1, k * i)
        return _twice(found.view(o, k, i), vectors.beside(leaf).view(o, k, i))


class _Convolution(_Operation):
    """A convolution of one group, padded by zeros."""

    def __init__(
        self,
        inputs: int | None,
        leaves: tuple[int | None, ...],
        a: Tensor,
        weight: Tensor,
        geometry: tuple[list[int], list[int], list[int]],
        after: torch.Size,
    ) -> None:
        self.inputs, self.leaves = (inputs,), leaves
        self.a, self.weight = a, weight
        self.slopes = a
        self._geometry, self._after = geometry, after[1:]

    def keep(self, slopes: Tensor) -> None:
        self.slopes = slopes

    def _forward(self, a: Tensor, weight: Tensor) -> Tensor:
        stride, padding, dilation = self._geometry
        found: Tensor = torch.ops.aten.convolution.default(
            a, weight, None, stride, padding, dilation, False, [0] * len(stride), 1
        )
        return found

    def _backward(
        self, slopes: Tensor, a: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor]:
        stride, padding, dilation = self._geometry
        first, second, _ = torch.ops.aten.convolution_backward.default(
            slopes, a, weight, None, stride, padding, dilation, False, [0] * len(stride), 1, [*wanted, False]
        )
        return first, second

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        k, moved, found = vectors.count, tangents[0], None
        if moved is not None:
            found = self._forward(_folded(moved), self.weight)
            found = found.view(-1, k, *found.shape[1:])
        leaf, bias = self.leaves
        if leaf in vectors:
            assert leaf is not None
            many = self._forward(_of(self.a, rows), vectors[leaf].flatten(0, 1))
            many = many.view(len(many), k, -1, *many.shape[2:])
            found = many if found is None else found.add_(many)
        if bias in vectors:
            assert bias is not None
            v = vectors[bias].view(1, k, -1, *(1,) * (len(self._after) - 1))
            shape = (rows.stop - rows.start, k, *self._after)
            found = _repeated(v, shape) if found is None else found.add_(v)
        return found

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        leaf, bias = self.leaves
        a, k = _of(self.a, rows), cotangent.shape[1]
        weighs = sums.wants(leaf)
        found = None
        if k == 1 and (below or weighs):
            found, weights = self._backward(cotangent[:, 0], a, self.weight, (below, weighs))
        elif k > 1:
            if below:
                like = a.unsqueeze(1).expand(-1, k, *a.shape[1:])
                found = self._backward(_folded(cotangent), _folded(like), self.weight, (True, False))[0]
            if weighs:
                assert leaf is not None
                wide = cotangent.flatten(1, 2)
                like = self.weight.repeat(k, *(1,) * (self.weight.ndim - 1))
                weights = self._backward(wide, a, like, (False, True))[1]
        if weighs:
            assert leaf is not None
            sums.above(leaf).add_(weights)
        if sums.wants(bias):
            assert bias is not None
            sums.above(bias).add_(_positions_summed(cotangent, 2).reshape(-1))
        return [found.view(-1, k, *a.shape[1:]) if below and found is not None else None]

    def bend(
        self,
        tangents: Sequence[Tensor | None],
        vectors: Vectors,
        rows: slice,
        sums: _Sums,
        into: list[Tensor | None],
    ) -> None:
        leaf, slopes, moved = self.leaves[0], _of(self.slopes, rows), tangents[0]
        weighs = moved is not None and sums.wants(leaf)
        bends = moved is not None and leaf in vectors
        if moved is None or not (weighs or bends):
            return
        k, a, many = vectors.count, _of(self.a, rows), moved.flatten(1, 2)
        if bends:
            assert leaf is not None
            weight = vectors.beside(leaf)
        else:  # for its shape alone
            weight = self.weight.repeat(1, k, *(1,) * (self.weight.ndim - 2))
        found, weights = self._backward(slopes, many, weight, (bends, weighs))
        if weighs:
            assert leaf is not None
            sums.beside(leaf).add_(weights)
        if bends:
            _add(into, found.view(-1, k, *a.shape[1:]))

    def curve(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        leaf, moved = self.leaves[0], tangents[0]
        if moved is None or leaf not in vectors:
            return None
        assert leaf is not None
        many = moved.flatten(1, 2)
        found, _ = self._backward(_of(self.slopes, rows), many, vectors.beside(leaf), (True, False))
        return _twice(found.view_as(moved), moved)


class _Elementwise(_Operation):
    """A function of every number by itself, with its first and second derivative."""

    def __init__(self, inputs: int, first: Tensor, second: Tensor | None) -> None:
        self.inputs = (inputs,)
        self.first, self.second = first, second
        #: Whether the tangent of the input is needed nowhere else.
        self.last_use = False

    def keep(self, slopes: Tensor) -> None:
        if self.second is not None:
            self.second = self.second * slopes

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved = tangents[0]
        if moved is None:
            return None
        slope = _of(self.first, rows).unsqueeze(1)
        return moved.mul_(slope) if self.last_use and self.second is None else moved * slope

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        return [cotangent.mul_(_of(self.first, rows).unsqueeze(1))]

    def bend(
        self,
        tangents: Sequence[Tensor | None],
        vectors: Vectors,
        rows: slice,
        sums: _Sums,
        into: list[Tensor | None],
    ) -> None:
        moved = tangents[0]
        if self.second is not None and moved is not None:
            _add(into, moved * _of(self.second, rows).unsqueeze(1))

    def curve(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved = tangents[0]
        if self.second is None or moved is None:
            return None
        return moved.square().mul_(_of(self.second, rows).unsqueeze(1))


class _Shape(_Operation):
    """The numbers of every row in another shape."""

    def __init__(self, inputs: int, before: torch.Size, after: torch.Size) -> None:
        self.inputs = (inputs,)
        self._before, self._after = before[1:], after[1:]

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved = tangents[0]
        return None if moved is None else moved.reshape(*moved.shape[:2], *self._after)

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        return [cotangent.reshape(*cotangent.shape[:2], *self._before)]


class _LargestPixels(_Operation):
    """Maxima over neighbouring pixels, which stay where they are."""

    def __init__(self, inputs: int, before: torch.Size, places: Tensor, overlap: bool) -> None:
        self.inputs = (inputs,)
        self._before, self._overlap = before[1:], overlap
        self.places = places.flatten(2)
        self._after = places.shape[2:]

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved = tangents[0]
        if moved is None:
            return None
        places = _of(self.places, rows).unsqueeze(1).expand(-1, moved.shape[1], -1, -1)
        return moved.flatten(3).gather(3, places).view(*moved.shape[:3], *self._after)

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        k = cotangent.shape[1]
        places = _of(self.places, rows).unsqueeze(1).expand(-1, k, -1, -1)
        found = cotangent.new_zeros(len(cotangent), k, *self._before)
        flat = found.view(*found.shape[:3], -1)
        if self._overlap:
            flat.scatter_add_(3, places, cotangent.flatten(3))
        else:
            flat.scatter_(3, places, cotangent.flatten(3))
        return [found]


class _Map(_Operation):
    """A linear function of every row, such as an average."""

    def __init__(self, inputs: int, before: torch.Size, function: Callable[[Tensor], Tensor]) -> None:
        self.inputs = (inputs,)
        self._before, self._function = before[1:], function

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved = tangents[0]
        if moved is None:
            return None
        found = self._function(_folded(moved))
        return found.view(*moved.shape[:2], *found.shape[1:])

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        count = cotangent.shape[0] * cotangent.shape[1]
        with torch.enable_grad():
            leaf = cotangent.new_zeros(count, *self._before).requires_grad_()
            output = self._function(leaf)
        (found,) = torch.autograd.grad(output, leaf, _folded(cotangent))
        return [found.view(*cotangent.shape[:2], *self._before)]


class _Sum(_Operation):
    """Sum of values; constants among them do not matter."""

    def __init__(self, inputs: tuple[int | None, ...]) -> None:
        self.inputs = inputs

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        there = [moved for moved in tangents if moved is not None]
        if len(there) < 2:
            return there[0].clone() if there else None
        return there[0] + there[1]

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        return [None if slot is None else cotangent.clone() for slot in self.inputs]


class _Normalisation(_Operation):
    """Batch normalisation with fixed statistics: every channel times a number, plus another."""

    def __init__(
        self, inputs: int | None, leaves: tuple[int | None, ...], normal: Tensor, rate: Tensor, scale: Tensor
    ) -> None:
        self.inputs, self.leaves = (inputs,), leaves
        self.normal, self.rate, self.scale = normal, rate, scale
        self.slopes = normal

    def keep(self, slopes: Tensor) -> None:
        self.slopes = slopes

    def _spread(self, numbers: Tensor) -> Tensor:
        """Return numbers (..., C) so that they meet the channels."""
        return numbers.view(*numbers.shape, *(1,) * (self.normal.ndim - 2))

    def push(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        moved, found = tangents[0], None
        if moved is not None:
            found = moved * self._spread(self.rate * self.scale)
        leaf, bias = self.leaves
        normal = _of(self.normal, rows).unsqueeze(1)
        if leaf in vectors:
            assert leaf is not None
            extra = normal * self._spread(vectors[leaf])
            found = extra if found is None else found.add_(extra)
        if bias in vectors:
            assert bias is not None
            extra = self._spread(vectors[bias])
            shape = (len(normal), vectors.count, *normal.shape[2:])
            found = _repeated(extra, shape) if found is None else found.add_(extra)
        return found

    def pull(self, cotangent: Tensor, rows: slice, sums: _Sums, below: bool) -> Sequence[Tensor | None]:
        leaf, bias = self.leaves
        if sums.wants(leaf):
            assert leaf is not None
            many = cotangent * _of(self.normal, rows).unsqueeze(1)
            sums.above(leaf).add_(_positions_summed(many, 2).reshape(-1))
        if sums.wants(bias):
            assert bias is not None
            sums.above(bias).add_(_positions_summed(cotangent, 2).reshape(-1))
        return [cotangent * self._spread(self.rate * self.scale) if below else None]

    def bend(
        self,
        tangents: Sequence[Tensor | None],
        vectors: Vectors,
        rows: slice,
        sums: _Sums,
        into: list[Tensor | None],
    ) -> None:
        leaf, moved = self.leaves[0], tangents[0]
        slopes = _of(self.slopes, rows).unsqueeze(1)
        if moved is not None and sums.wants(leaf):
            assert leaf is not None
            many = moved * slopes * self._spread(self.rate)
            sums.above(leaf).add_(_positions_summed(many, 2).reshape(-1))
        if moved is not None and leaf in vectors:
            assert leaf is not None
            _add(into, slopes * self._spread(self.rate * vectors[leaf]))

    def curve(self, tangents: Sequence[Tensor | None], vectors: Vectors, rows: slice) -> Tensor | None:
        leaf, moved = self.leaves[0], tangents[0]
        if moved is None or leaf not in vectors:
            return None
        assert leaf is not None
        slopes = _of(self.slopes, rows).unsqueeze(1)
        return _twice(slopes * self._spread(self.rate * vectors[leaf]), moved)


def _positions_summed(tensor: Tensor, channels: int) -> Tensor:
    """Return (rows, k, ...) summed over rows and positions: (k, channels)."""
    channels %= tensor.ndim
    return tensor.sum(dim=[d for d in range(tensor.ndim) if d not in (1, channels)])


class Middle:
    """The Hessian of a loss with respect to the outputs, given its gradient with a graph.

    Parameters
    ----------
    output
        The outputs, (B, ...), a leaf.
    slopes
        The derivatives of the loss with respect to them.

    Attributes
    ----------
    output, slopes
        The same without graphs.
    """

    def __init__(self, output: Tensor, slopes: Tensor) -> None:
        self._output, self._slopes = output, slopes
        self.output, self.slopes = output.detach(), slopes.detach()
        self._width = output[0].numel()
        self._matrices: Tensor | None = None
        self._separate: bool | None = None if slopes.requires_grad and self._width <= _OUTPUTS else False
        #: Probabilities and a factor, where the loss is found to be that of a softmax; None where it is not.
        self._softmax = self._as_softmax() if slopes.requires_grad and output.ndim == 2 else None

    @property
    def bytes(self) -> int:
        """Bytes that are held, or may be."""
        width = 0 if self._separate is False or self._softmax is not None else self._width
        return self._output.nbytes * (3 + width)

    @staticmethod
    def most(output: Tensor) -> int:
        """Return the most bytes that will be held for such outputs."""
        width = output[0].numel()
        return output.nbytes * (3 + (width if width <= _OUTPUTS else 0))

    def _as_softmax(self) -> tuple[Tensor, Tensor] | None:
        r"""Return p and c where the matrix of every example is :math:`c\,(\operatorname{diag} p - p p^\top)`.

        The mean and the sum of cross-entropies have it, with the softmax p of the outputs and one c for all
        examples. One product, with a vector that favours no entry, gives c, and shows whether it is so everywhere.
        """
        with torch.no_grad():
            p = torch.softmax(self._output.detach(), dim=1)
        waves = torch.arange(p.numel(), dtype=p.dtype, device=p.device).view_as(p)
        vector = waves.cos_()
        found, one = self.product(vector), _softmax_product(p, 1, vector)
        c = (found * one).sum() / (one * one).sum()
        apart = torch.linalg.vector_norm(c * one - found)
        # Where outputs are sure of themselves, what is subtracted is larger than what is left, and so is its rounding.
        rounding = torch.finfo(p.dtype).eps * abs(c) * torch.linalg.vector_norm(p * vector)
        return (p, c) if apart <= _ROUNDED * rounding else None

    def each(self, moved: Tensor, rows: slice) -> Tensor | None:
        """Return the products of some examples with (rows, k, ...); None where the loss is no sum over them."""
        if self._softmax is not None:
            p, c = self._softmax
            return _softmax_product(_of(p, rows).unsqueeze(1), c, moved)
        matrices = self.matrices()
        return None if matrices is None else torch.bmm(moved.flatten(2), _of(matrices, rows)).view_as(moved)

    @property
    def is_sum(self) -> bool:
        """Whether the loss is known to be a sum over examples."""
        return self._softmax is not None or self.matrices() is not None

    @property
    def quick(self) -> bool:
        """Whether :meth:`each` needs no more to begin with than :meth:`product`."""
        return self._softmax is not None

    def product(self, moved: Tensor) -> Tensor:
        """Return the product with (B, ...)."""
        if not self._slopes.requires_grad:
            return torch.zeros_like(moved)
        (found,) = torch.autograd.grad(
            self._slopes, self._output, moved, retain_graph=True, materialize_grads=True
        )
        return found

    def matrices(self) -> Tensor | None:
        """Return one matrix for every example, (B, q, q).

        None where outputs are many, or the loss is not a sum over examples.
        """
        if self._separate is None:
            self._matrices = self._found()
            self._separate = self._matrices is not None
        return self._matrices

    def _found(self) -> Tensor | None:
        count, width = len(self._output), self._width
        columns = []
        for number in range(width):
            vector = torch.zeros_like(self._output)
            vector.view(count, width)[:, number] = 1
            columns.append(self.product(vector).reshape(count, width))
        matrices = torch.stack(columns, dim=1)  # symmetric: rows are columns
        # Ones for every example at once also add up what examples do to each other, where there is such a thing.
        # A vector without a period tells all examples from each other.
        waves = torch.arange(count * width, dtype=matrices.dtype, device=matrices.device).cos_()
        expected, found = self.product(waves.view_as(self._output)), waves.view(count, 1, width) @ matrices
        apart = torch.linalg.vector_norm(expected.reshape(found.shape) - found)
        limit = _SAME * torch.finfo(matrices.dtype).eps
        return matrices if apart <= limit * torch.linalg.vector_norm(matrices) else None


def _softmax_product(p: Tensor, c: Tensor | float, vector: Tensor) -> Tensor:
    moved = p * vector
    return (moved - p * moved.sum(dim=-1, keepdim=True)).mul_(c)


class Outer(Middle):
    r"""One outer product :math:`c_i\, s_i s_i^\top` for every example, in the place of the loss's Hessian.

    With the slopes s of the losses of single examples at the outputs, :math:`J^\top M J` is
    :math:`\sum_i c_i\, g_i g_i^\top`, with the gradients g of these losses.

    Parameters
    ----------
    output, slopes
        The outputs, (B, ...), and s.
    factors
        c, (B,).
    """

    def __init__(self, output: Tensor, slopes: Tensor, factors: Tensor) -> None:
        self.output, self.slopes = output.detach(), slopes.detach()
        self._factors = factors.view(-1, *(1,) * slopes.ndim)

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        return self.output.nbytes + self.slopes.nbytes + self._factors.nbytes

    def each(self, moved: Tensor, rows: slice) -> Tensor:
        """Return the products of some examples with (rows, k, ...)."""
        s = _of(self.slopes, rows).unsqueeze(1)
        along = (s * moved).flatten(2).sum(dim=2).view(*moved.shape[:2], *(1,) * (moved.ndim - 2))
        return s * (_of(self._factors, rows) * along)

    @property
    def is_sum(self) -> bool:
        """Whether the loss is known to be a sum over examples: it is made of those of single ones."""
        return True

    quick = is_sum

    def product(self, moved: Tensor) -> Tensor:
        """Return the product with (B, ...)."""
        return self.each(moved.unsqueeze(1), slice(0, len(moved))).squeeze(1)

    def matrices(self) -> None:
        """Return None: no matrix is formed."""


class Chain:
    """A network of known operations at a batch, ready to multiply by its Hessian.

    Parameters
    ----------
    operations
        In the order in which they were done.
    output
        Where the module's output stands among the values.
    values
        How many values there are.
    leaves
        The parameters.
    rows
        Examples in the batch.
    expected
        Bytes that the derivatives of the loss will take.
    """

    def __init__(
        self,
        operations: Sequence[_Operation],
        output: int,
        values: int,
        leaves: Sequence[Tensor],
        rows: int,
        expected: int,
    ) -> None:
        self._operations, self._output, self._values = operations, output, values
        self._leaves, self._rows, self._expected = leaves, rows, expected
        #: Numbers per example in all values, and in the largest.
        self._numbers = self._widest = 1
        self._convolves = any(isinstance(operation, _Convolution) for operation in operations)
        #: The Hessian of the loss with respect to the output, or what is in its place.
        self.middle: Middle
        self._differentiated = self._linearised = False
        if leaves[0].device.type == "cpu":
            # Else every product of two vectors with a network of 8 and 16 channels may take 4,000 pages anew, and 1.17
            # gradients a vector in place of 0.85.
            keep_freed_memory()

    def gradient(self, slopes: Tensor, *, linearised: bool = False) -> list[Tensor]:
        r"""Return the gradient, a tensor for each leaf, given the loss's derivatives at the output.

        Parameters
        ----------
        slopes
            These, (B, ...).
        linearised
            Whether products are those of the network's linearisation: :math:`J^\top M J` with the Jacobian J of the
            output and the matrix M of :attr:`middle`, which for the Hessian of the loss is the generalised
            Gauss-Newton matrix (Schraudolph 2002). They take four matrix products a layer in place of six, and
            nothing is kept for them; only then can the gradient be asked for with several slopes.
        """
        sums = _Sums(1, {n: leaf.shape for n, leaf in enumerate(self._leaves)}, self._leaves[0].detach())
        cotangents: list[Tensor | None] = [None] * self._values
        cotangents[self._output] = slopes.detach().unsqueeze(1).clone()
        numbers = widest = 1
        for operation in reversed(self._operations):
            arrived = cotangents[operation.output]
            assert arrived is not None  # operations whose results are not used have been left out
            cotangents[operation.output] = None
            if not linearised:
                operation.keep(arrived.squeeze(1))
            numbers += arrived[0].numel()
            widest = max(widest, arrived[0].numel())
            below = any(slot is not None for slot in operation.inputs)
            _arrive(cotangents, operation.inputs, operation.pull(arrived, slice(0, self._rows), sums, below))
        self._numbers, self._widest = numbers, widest
        self._differentiated, self._linearised = True, linearised
        return [sums.total(n).squeeze(0) for n in range(len(self._leaves))]

    @property
    def bytes(self) -> int:
        """Bytes held beyond weights; before :meth:`gradient`, what it will take note of is counted as well."""
        weights = {leaf.untyped_storage().data_ptr() for leaf in self._leaves}
        sizes: dict[int, int] = {}
        held = [tensor for operation in self._operations for tensor in operation.held()]
        for tensor in held:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
        found = sum(sizes.values())
        if not self._differentiated:
            return found + self._expected
        return found + self.middle.bytes

    def products(self, vectors: Mapping[int, Tensor]) -> Iterator[tuple[slice, dict[int, Tensor]]]:
        """Yield the products of the block of some leaves with k vectors: a few vectors, and theirs, at a time.

        Of the Hessian, or of what :meth:`gradient` was told.

        Parameters
        ----------
        vectors
            For each of the leaves, tensors of shape (k, ...).
        """
        for here, few in self._groups(vectors):
            yield here, self._products(few)

    def forms(self, vectors: Mapping[int, Tensor], dtype: torch.dtype) -> Tensor:
        r"""Return :math:`v^\top H v` for k vectors, shape (k,), summed over the examples in `dtype`.

        Along a line in the direction of v, the loss has the second derivative

        .. math:: \dot z^\top \nabla^2_z \ell\, \dot z
                  + \sum_l \delta_l \cdot D^2 f_l[(\dot a, V)]^2,

        with the output z and what every operation :math:`f_l` does to second order: :math:`2 V \dot a` where it is
        linear in its inputs, :math:`\sigma''(a)\, \dot a^2` for activations. The tangents, which go forwards, are all
        that is needed, so that a layer takes three matrix products in place of six; the gradient takes three, too.

        Parameters
        ----------
        vectors
            As for :meth:`products`.
        dtype
            Of the sums.
        """
        found = []
        for _, few in self._groups(vectors):
            sums = torch.zeros(few.count, device=self._leaves[0].device, dtype=dtype)
            for rows in self._parts(few.count):
                self._add_forms(few, sums, rows)
            found.append(sums)
        return torch.cat(found)

    def _add_forms(self, vectors: Vectors, sums: Tensor, rows: slice) -> None:
        tangents: list[Tensor | None] = [None] * self._values
        for operation in self._operations:
            inputs = _at(tangents, operation.inputs)
            # Before inputs may be overwritten.
            curved = None if self._linearised else operation.curve(inputs, vectors, rows)
            if curved is not None:
                sums += _each_summed(curved)
            tangents[operation.output] = operation.push(inputs, vectors, rows)
        moved = tangents[self._output]
        if moved is not None:
            sums += _each_summed(self._bent(moved, rows) * moved)

    def _groups(self, vectors: Mapping[int, Tensor]) -> Iterator[tuple[slice, Vectors]]:
        """Yield a few of the vectors at a time."""
        count = len(next(iter(vectors.values())))
        together = self._together(count)
        for low in range(0, count, together):
            here = slice(low, min(low + together, count))
            yield here, Vectors({leaf: part[here] for leaf, part in vectors.items()}, here.stop - low)

    def _parts(self, vectors: int) -> Iterator[slice]:
        """Yield which examples to take together for so many vectors."""
        count = -(-self._rows // self._step(vectors))
        for low, high in pairwise(self._rows * part // count for part in range(count + 1)):
            yield slice(low, high)

    def _together(self, count: int) -> int:
        """Return how many of `count` vectors to take together."""
        size = self._numbers * self._leaves[0].dtype.itemsize
        most = min(_VECTORS, count)
        room = _TOGETHER if self._leaves[0].device.type == "cpu" else _TOGETHER_ELSEWHERE
        while most > 1 and self._step(most) * most * size > room:
            most -= 1
        groups = -(-count // most)
        return -(-count // groups)

    def _step(self, vectors: int) -> int:
        """Return how many examples to take together; all where the loss is not a sum over them."""
        if self._leaves[0].device.type != "cpu":
            return self._rows
        size = self._widest * self._leaves[0].dtype.itemsize
        cached = (_CACHE_CONVOLUTION if self._convolves else _CACHE) // (vectors * size)
        # Each time, all weights and their sums are read as well, which shall be little beside the values.
        weights = _VALUES * sum(leaf.numel() for leaf in self._leaves) // self._numbers
        step = min(self._rows, max(1, cached, weights))
        return step if step == self._rows or self.middle.is_sum else self._rows

    def _products(self, vectors: Vectors) -> dict[int, Tensor]:
        chosen = {n: leaf.shape for n, leaf in enumerate(self._leaves) if n in vectors}
        sums = _Sums(vectors.count, chosen, self._leaves[0].detach())
        for rows in self._parts(vectors.count):
            self._add(vectors, sums, rows)
        return {leaf: sums.total(leaf) for leaf in chosen}

    def _add(self, vectors: Vectors, sums: _Sums, rows: slice) -> None:
        tangents: list[Tensor | None] = [None] * self._values
        for operation in self._operations:
            tangents[operation.output] = operation.push(_at(tangents, operation.inputs), vectors, rows)
        cotangents: list[Tensor | None] = [None] * self._values
        moved = tangents[self._output]
        if moved is not None:
            cotangents[self._output] = self._bent(moved, rows)
        for operation in reversed(self._operations):
            if tangents[operation.output] is None:
                continue  # nothing that varies lies behind it
            arrived = cotangents[operation.output]
            cotangents[operation.output] = None
            inputs = _at(tangents, operation.inputs)
            below = any(moved is not None for moved in inputs)
            into: list[Tensor | None] = [None] * len(inputs)
            if arrived is not None:
                into = list(operation.pull(arrived, rows, sums, below))
            if not self._linearised:
                operation.bend(inputs, vectors, rows, sums, into)
            _arrive(cotangents, operation.inputs, into)

    def _bent(self, moved: Tensor, rows: slice) -> Tensor:
        """Return the derivative of the slopes at the output along the vectors."""
        # A vector alone goes through the graph of the loss, which costs less than matrices to begin with.
        alone = moved.shape[1] == 1 and len(moved) == self._rows and not self.middle.quick
        each = None if alone else self.middle.each(moved, rows)
        if each is not None:
            return each
        return torch.stack([self.middle.product(moved[:, k]) for k in range(moved.shape[1])], dim=1)


def _each_summed(terms: Tensor) -> Tensor:
    """Return the sums over all but the second dimension, in which the vectors are."""
    return terms.sum(dim=[d for d in range(terms.ndim) if d != 1])


def _at(values: Sequence[Tensor | None], slots: Sequence[int | None]) -> list[Tensor | None]:
    return [None if slot is None else values[slot] for slot in slots]


def _arrive(
    cotangents: list[Tensor | None], slots: Sequence[int | None], found: Sequence[Tensor | None]
) -> None:
    for slot, part in zip(slots, found, strict=True):
        if slot is not None and part is not None:
            before = cotangents[slot]
            cotangents[slot] = part if before is None else before + part


_ELEMENTWISE: tuple[Any, ...] = (
    *(F.relu, F.gelu, F.silu, F.softplus, F.elu, F.leaky_relu, F.selu, F.logsigmoid, F.softsign, F.mish),
    *(F.relu6, F.hardtanh, F.tanh, F.sigmoid, F.celu, F.tanhshrink),
    *(torch.relu, torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.square),
    *(Tensor.relu, Tensor.tanh, Tensor.sigmoid, Tensor.sin, Tensor.cos, Tensor.exp, Tensor.square),
)
_RELUS: tuple[Any, ...] = (F.relu, torch.relu, Tensor.relu)
_SHAPES: tuple[Any, ...] = (
    *(torch.flatten, torch.reshape, torch.unflatten, torch.squeeze, torch.unsqueeze),
    *(Tensor.flatten, Tensor.reshape, Tensor.unflatten, Tensor.squeeze, Tensor.unsqueeze, Tensor.view),
    *(Tensor.contiguous, F.dropout, torch.dropout),
)
_CONVOLUTIONS: dict[Any, int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_POOLINGS: tuple[Any, ...] = (F.max_pool2d, torch.max_pool2d)
_AVERAGES: tuple[Any, ...] = (F.avg_pool2d, F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d)
_SUMS: tuple[Any, ...] = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)


class _UnknownError(Exception):
    """Something that is not known to be what a chain can be made of."""


class Recording(TorchFunctionMode):
    """Watches what a module does with its parameters and its input.

    Parameters
    ----------
    leaves
        The parameters that vary.
    constants
        All other tensors that the module may use: its input, buffers, parameters that are fixed.

    Attributes
    ----------
    reason
        Why there is no chain; empty while there may be one.
    """

    def __init__(self, leaves: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        super().__init__()
        self.reason = ""
        self._leaves = list(leaves)
        self._leaf = {id(leaf): n for n, leaf in enumerate(leaves)}
        # The tensors are held, so that no other can get the identity of one of them.
        self._known: dict[int, Tensor] = {id(tensor): tensor for tensor in constants}
        self._slots: dict[int, int] = {}
        self._held: list[Tensor] = []
        self._versions: list[tuple[Tensor, int]] = []
        self._operations: list[_Operation] = []
        self._rows = 0
        self._count = 0
        self._inference = torch.is_inference_mode_enabled()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch._C._set_grad_enabled:
            # What a module does not want differentiated cannot be told from the rest here.
            self.reason = self.reason or "gradients are switched on or off on the way"
        if self.reason:
            return func(*args, **kwargs)
        tensors = list(_tensors([*args, *kwargs.values()]))
        moving = any(id(tensor) in self._slots or id(tensor) in self._leaf for tensor in tensors)
        if not moving:
            result = func(*args, **kwargs)
            if all(id(tensor) in self._known for tensor in tensors):
                self._known.update((id(tensor), tensor) for tensor in _tensors([result]))
            return result
        try:
            result, operation = self._understood(func, args, kwargs)
        except _UnknownError:
            result = func(*args, **kwargs)
            if not list(_tensors([result])):
                return result  # a question about a tensor, such as its shape
            self.reason = f"{getattr(func, '__name__', func)} is not among the operations known"
            return result
        if operation is not None:
            self._append(operation, result)
        return result

    def _append(self, operation: _Operation, result: Tensor) -> None:
        if torch.is_inference_mode_enabled() is not self._inference:
            self.reason = "inference mode is switched on or off on the way"
            return
        operation.output = self._count
        self._count += 1
        self._slots[id(result)] = operation.output
        self._held.append(result)
        self._operations.append(operation)
        if isinstance(operation, _Linear | _Convolution | _Normalisation):
            operation.slopes_bytes = result.nbytes
        saved = [tensor for tensor in operation.held() if not tensor.is_inference()]
        self._versions += [(tensor, tensor._version) for tensor in saved]

    def _understood(
        self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Any, _Operation | None]:
        """Return the result, and what it is of the known operations; None where it is its input.

        Raises
        ------
        _UnknownError
            Before anything has been changed.
        """
        for tensor in _tensors([*args, *kwargs.values()]):
            if (
                id(tensor) not in self._slots
                and id(tensor) not in self._leaf
                and id(tensor) not in self._known
            ):
                raise _UnknownError  # from a function that cannot be seen
            if tensor.dtype != self._leaves[0].dtype:
                raise _UnknownError
        if func is F.linear:
            return self._linear(*args, **kwargs)
        if func in _CONVOLUTIONS:
            return self._convolution(func, *args, **kwargs)
        if func is F.batch_norm:
            return self._normalisation(*args, **kwargs)
        if func in _SUMS:
            return self._sum(func, *args, **kwargs)
        # All others are functions of one value and of numbers.
        rest = [*args[1:], *kwargs.values()]
        if not args or id(args[0]) not in self._slots or list(_tensors(rest)):
            raise _UnknownError
        value, slot = args[0], self._slots[id(args[0])]
        if func in _ELEMENTWISE:
            return self._elementwise(func, value, slot, args, kwargs)
        if func in _SHAPES:
            return self._shape(func, value, slot, args, kwargs)
        if func in _POOLINGS:
            return self._maxima(value, slot, *args[1:], **kwargs)
        if func in _AVERAGES or func in (Tensor.mean, torch.mean):
            return self._average(func, value, slot, args, kwargs)
        raise _UnknownError

    def _place(self, tensor: Tensor) -> int | None:
        if id(tensor) in self._leaf:
            raise _UnknownError  # a parameter in the place of a value
        return self._slots.get(id(tensor))

    def _parameters(self, *tensors: Tensor | None) -> tuple[int | None, ...]:
        if any(id(tensor) in self._slots for tensor in tensors):
            raise _UnknownError  # weights that are computed
        return tuple(None if tensor is None else self._leaf.get(id(tensor)) for tensor in tensors)

    def _checked(self, result: Tensor) -> Tensor:
        if not self._rows:
            self._rows = len(result)
        if result.ndim < 2 or len(result) != self._rows:
            raise _UnknownError
        return result

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, _Operation]:
        slot, leaves = self._place(input), self._parameters(weight, bias)
        if weight.ndim != 2:
            raise _UnknownError
        result = self._checked(F.linear(input, weight, bias))
        return result, _Linear(slot, leaves, input.detach(), weight.detach())

    def _convolution(
        self,
        func: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> tuple[Tensor, _Operation]:
        slot, leaves = self._place(input), self._parameters(weight, bias)
        dimensions = _CONVOLUTIONS[func]
        if groups != 1 or isinstance(padding, str) or input.ndim != dimensions + 2:
            raise _UnknownError
        result = self._checked(func(input, weight, bias, stride, padding, dilation))
        geometry = tuple(
            [numbers] * dimensions
            if isinstance(numbers, int)
            else list(numbers) * (dimensions // len(numbers))
            for numbers in (stride, padding, dilation)
        )
        return result, _Convolution(slot, leaves, input.detach(), weight.detach(), geometry, result.shape)  # type: ignore[arg-type]

    def _normalisation(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Tensor, _Operation]:
        slot, leaves = self._place(input), self._parameters(weight, bias)
        if training or running_mean is None or running_var is None:
            raise _UnknownError
        result = self._checked(
            F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        )
        rate = (running_var + eps).rsqrt()
        across = (-1, *(1,) * (input.ndim - 2))
        normal = (input.detach() - running_mean.view(across)) * rate.view(across)
        scale = torch.ones_like(rate) if weight is None else weight.detach()
        return result, _Normalisation(slot, leaves, normal, rate, scale)

    def _sum(self, func: Any, first: Any, second: Any, **kwargs: Any) -> tuple[Tensor, _Operation]:
        if kwargs:
            raise _UnknownError
        slots = tuple(self._place(term) for term in (first, second) if isinstance(term, Tensor))
        result = self._checked(func(first, second))
        shapes = [
            term.shape
            for term in (first, second)
            if isinstance(term, Tensor) and self._place(term) is not None
        ]
        if any(shape != result.shape for shape in shapes):
            raise _UnknownError
        return result, _Sum(slots)

    def _elementwise(
        self, func: Any, value: Tensor, slot: int, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Tensor, _Operation]:
        if func in _RELUS:
            # Also in place: the result is the same tensor then, and takes the former's place from here on.
            first = (value > 0).to(value.dtype)
            return func(*args, **kwargs), _Elementwise(slot, first, None)
        if kwargs.get("inplace") or any(argument is True for argument in args):
            raise _UnknownError
        with torch.enable_grad():
            leaf = value.detach().requires_grad_()
            result = func(leaf, *args[1:], **kwargs)
            (first,) = torch.autograd.grad(result.sum(), leaf, create_graph=True)
            second = None
            if first.requires_grad:
                (second,) = torch.autograd.grad(first.sum(), leaf)
        return result.detach(), _Elementwise(slot, first.detach(), second)

    def _shape(
        self, func: Any, value: Tensor, slot: int, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Tensor, _Operation | None]:
        if func in (F.dropout, torch.dropout):
            training = kwargs.get("training", args[2] if len(args) > 2 else True)
            if training or kwargs.get("inplace") or len(args) > 3:
                raise _UnknownError
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or result.dtype != value.dtype:
            raise _UnknownError
        if result is value:
            return result, None
        return self._checked(result), _Shape(slot, value.shape, result.shape)

    def _maxima(
        self,
        value: Tensor,
        slot: int,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> tuple[Tensor, _Operation]:
        if return_indices or value.ndim != 4:
            raise _UnknownError
        result, places = F.max_pool2d_with_indices(
            value, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
        )
        wide, step, apart = (_pair(n) for n in (kernel_size, stride or kernel_size, dilation))
        overlap = any((w - 1) * d + 1 > s for w, s, d in zip(wide, step, apart, strict=True))
        return result, _LargestPixels(slot, value.shape, places, overlap)

    def _average(
        self, func: Any, value: Tensor, slot: int, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Tensor, _Operation]:
        if func in (Tensor.mean, torch.mean):
            dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
            dims = [dims] if isinstance(dims, int) else dims
            if dims is None or any(not isinstance(d, int) or d % value.ndim == 0 for d in dims):
                raise _UnknownError
        result = self._checked(func(*args, **kwargs))

        def again(rows: Tensor) -> Tensor:
            found: Tensor = func(rows, *args[1:], **kwargs)
            return found

        return result, _Map(slot, value.shape, again)

    def chain(self, output: Any) -> Chain | None:
        """Return the operations that lead to `output`; None where they are not all known."""
        if self.reason or not isinstance(output, Tensor) or id(output) not in self._slots:
            self.reason = self.reason or "the output comes from no operation known"
            return None
        if any(tensor._version != version for tensor, version in self._versions):
            self.reason = "a value was changed in place"
            return None
        place = self._slots[id(output)]
        used, chosen = {place}, []
        for operation in reversed(self._operations):
            if operation.output in used:
                used.update(slot for slot in operation.inputs if slot is not None)
                chosen.append(operation)
        chosen.reverse()
        uses = [slot for operation in chosen for slot in operation.inputs] + [place]
        made = {operation.output: operation for operation in chosen}
        for operation in chosen:
            if isinstance(operation, _Elementwise):
                slot = operation.inputs[0]
                # What changes shapes gives views of what it was given.
                own = isinstance(made.get(slot or 0), _Linear | _Convolution | _Normalisation | _Sum)
                operation.last_use = own and uses.count(slot) == 1
        expected = Middle.most(output) + sum(operation.slopes_bytes for operation in chosen)
        return Chain(chosen, place, self._count, self._leaves, self._rows, expected)


def _pair(numbers: Any) -> tuple[int, int]:
    found = [numbers] * 2 if isinstance(numbers, int) else [*numbers] * (2 // len(numbers))
    return found[0], found[1]


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors in nested sequences and mappings."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
        elif isinstance(value, Mapping):
            found += _tensors(value.values())
    return found
