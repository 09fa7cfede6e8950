r"""The Gram matrix of the gradients of examples, without the gradients.

The gradient of example b with respect to the weights of a linear layer is :math:`\sum_t \delta_{bt} a_{bt}^\top`,
with the layer's inputs a, the derivatives :math:`\delta` of the example's loss with respect to its outputs, and t
running over positions in a sequence or an image. Where there is one position, the products of all pairs of examples
are

.. math:: G_{bc} = (a_b \cdot a_c)\,(\delta_b \cdot \delta_c),

two products of (B, inputs) and (B, outputs) in place of one of (B, inputs x outputs) (Goodfellow 2015, "Efficient
per-example gradient computations", for the diagonal; Dangel, Tatzel & Hennig 2022, "ViViT"). Convolutions are linear
layers of the patches that they see. With T positions, the same is a sum over :math:`T^2` pairs of positions, at the
cost of :math:`T^2 (i + o)` per pair of examples for i inputs and o outputs; where that is more than the :math:`i\,o`
of the products of formed gradients, those of a few outputs at a time are formed, from the patches of a few examples at
a time, and never those of all weights.

One forward and one backward pass over the batch give all of a and :math:`\delta`. That the layers are used as
assumed (once, and their weights nowhere else) shows in the sums over the examples, which must be the gradients of
the weights; that examples do not see each other, in the gradient of one alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ConfigurationError, DataError
from landscape.objective.batch import Batch, examples_in, leaves, map_leaves
from landscape.objective.curvature import losses_of, output_of, pick_examples
from landscape.objective.examples import example_weights

if TYPE_CHECKING:
    from landscape.objective.landscape import Landscape

__all__ = ["combined_gradients", "example_gram", "example_products"]

#: Numbers in the gradients of a few outputs that are formed at a time: 16 MiB in float32.
_NUMBERS = 1 << 22
#: Numbers in the patches of a few examples that are unfolded at a time: 4 MiB in float32. Those of all 32 images
#: that the SimpleCNN sees took three times as long, most of it for fresh memory.
_PATCHES = 1 << 20
#: Sums over examples must be the weights' gradients to so many units of rounding.
_SAME = 1e4


@define
class _Layer:
    """A linear layer or a convolution, with what is known of it batch by batch.

    Attributes
    ----------
    module
        The layer.
    weight, bias
        Where its parameters stand in the layout; None where they do not vary.
    inputs, slopes
        For every batch: inputs, shape (B, T, i), of convolutions (B, channels, ...) as they are; and derivatives
        with respect to outputs, (B, T, o).
    """

    module: nn.Module
    weight: int | None = None
    bias: int | None = None
    inputs: list[Tensor] = field(factory=list)
    slopes: list[Tensor] = field(factory=list)


def example_gram(
    landscape: Landscape, theta: Tensor, batches: Iterable[Batch], *, memory: int | None = None
) -> Tensor | None:
    """Return the inner products of the gradients of all examples, shape (B, B), float64.

    The penalty, which adds the same vector to every gradient, is left out.

    Parameters
    ----------
    landscape
        The landscape.
    theta
        Weights, shape (P,).
    batches
        The examples, as many at a time as fit into memory; their inputs and outputs of all layers are held.
    memory
        Bytes that these may take; no limit by default.

    Returns
    -------
    Tensor or None
        None where the layers do not allow it: weights outside of ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d``
        (without groups, padded by zeros), layers used more than once, tied weights, examples that see each other,
        gradients that are not finite, a loss that does not show the module's output; and where inputs and outputs
        take more than `memory`.

    Raises
    ------
    ConfigurationError
        For weights of another shape.
    """
    theta = landscape._one_row(theta)
    layers = _layers(landscape)
    if layers is None or landscape._criterion.of_output is None:
        return None
    parts = landscape._leaves(theta)
    sums = [torch.zeros_like(part) for part in parts]
    first: Batch | None = None
    held = 0
    with landscape._session(differentiate=True) as session:
        for given in batches:
            batch = landscape._moved(given)
            first = batch if first is None else first
            with _recorded([layer.module for layer in layers]) as seen:
                try:
                    output, target = output_of(landscape, session, parts, batch, "A Gram matrix")
                    count = examples_in(batch)
                except (ConfigurationError, DataError):
                    return None
            if len(output) != count or any(len(calls) != 1 for calls in seen.values()):
                return None
            losses, counted = _losses(landscape, batch, output, target)
            if not _make_up(landscape, batch, losses, counted, output, target):
                return None
            outputs = [seen[layer.module][0][1] for layer in layers]
            found = torch.autograd.grad(losses.sum(), [*outputs, *parts], allow_unused=True)
            for total, part in zip(sums, found[len(outputs) :], strict=True):
                if part is not None:
                    total += part
            for layer, slope in zip(layers, found, strict=False):
                given_inputs, result = seen[layer.module][0]
                # autograd says None for zero, whatever the stubs say
                slopes = torch.zeros_like(result) if slope is None else slope  # type: ignore[redundant-expr]
                if not _record(layer, given_inputs.detach(), slopes, count):
                    return None
                held += layer.inputs[-1].nbytes + layer.slopes[-1].nbytes
            if memory is not None and held > memory:
                return None
    if first is None:
        return None
    # Products and sums of a few layers in the type of the weights are as good as the gradients themselves.
    summed: list[Tensor] = []
    for layer in layers:
        of_layer = _of_layer(layer, sums)
        if of_layer is None:
            return None
        summed = [summed[0].add_(of_layer)] if summed else [of_layer]
    gram = summed[0].to(landscape._summing)
    return gram if _sees_itself_alone(landscape, theta, first, gram) else None


def combined_gradients(
    landscape: Landscape, theta: Tensor, batches: Iterable[Batch], weights: Tensor
) -> Tensor:
    r"""Return sums of the gradients of examples with given weights, :math:`\sum_b w_{kb} g_b`, shape (k, P).

    A backward pass of the weighted sum of the losses for each of them, and no gradient of a single example. The
    penalty is left out.

    Parameters
    ----------
    landscape
        A landscape of which :func:`example_gram` has given the products: its examples do not see each other.
    theta
        Weights of the network, shape (P,).
    batches
        The examples, as many at a time as fit into memory.
    weights
        Of the examples, shape (k, B), in the order of the batches.

    Raises
    ------
    ConfigurationError
        When the loss is not one of an output and a target, for weights of another shape, and for fewer or more
        examples than weights.
    """
    theta = landscape._one_row(theta)
    weights = weights.to(theta)
    parts = landscape._leaves(theta)
    slices = list(landscape.layout.slices.values())
    found = torch.zeros(len(weights), len(theta), dtype=landscape._summing, device=theta.device)
    above = 0
    with landscape._session(differentiate=True) as session:
        for given in batches:
            batch = landscape._moved(given)
            output, target = output_of(landscape, session, parts, batch, "A sum of gradients")
            losses, counted = _losses(landscape, batch, output, target)
            low, above = above, above + len(output)
            if above > weights.shape[1]:
                break
            if not len(losses):
                continue
            for row, own in zip(found, weights[:, low:above][:, counted], strict=True):
                gradients = torch.autograd.grad(losses, parts, own, retain_graph=True, allow_unused=True)
                for place, gradient in zip(slices, gradients, strict=True):
                    if gradient is not None:
                        row[place] += gradient.reshape(-1)
    if above != weights.shape[1]:
        raise ConfigurationError(f"weights of shape {tuple(weights.shape)} do not fit {above} examples.")
    return found


def example_products(
    landscape: Landscape, theta: Tensor, batches: Iterable[Batch], vectors: Tensor
) -> Tensor:
    r"""Return the products of the gradients of examples with given vectors, :math:`g_b \cdot v_k`, shape (B, k).

    The transpose of :func:`combined_gradients`, and its derivative with respect to the examples' weights: one backward
    pass that keeps its graph, and for each vector one through that graph. No gradient of a single example is held. The
    penalty is left out.

    Parameters
    ----------
    landscape
        A landscape of which :func:`example_gram` has given the products: its examples do not see each other.
    theta
        Weights of the network, shape (P,).
    batches
        The examples, as many at a time as fit into memory.
    vectors
        Shape (k, P).

    Raises
    ------
    ConfigurationError
        When the loss is not one of an output and a target, and for weights or vectors of another shape.
    """
    theta = landscape._one_row(theta)
    if vectors.ndim != 2 or vectors.shape[1] != len(theta):
        raise ConfigurationError(f"vectors of shape {tuple(vectors.shape)}: give (k, {len(theta)}).")
    parts = landscape._leaves(theta)
    split = [landscape.layout.parts(row) for row in vectors.to(theta)]
    found: list[Tensor] = []
    # The other kinds of attention are differentiable but once.
    with sdpa_kernel(SDPBackend.MATH), landscape._session(differentiate=True) as session:
        for given in batches:
            batch = landscape._moved(given)
            output, target = output_of(landscape, session, parts, batch, "A product with gradients")
            losses, counted = _losses(landscape, batch, output, target)
            weights = torch.ones_like(losses, requires_grad=True)
            gradients = torch.autograd.grad(losses, parts, weights, create_graph=True, allow_unused=True)
            # autograd says None for zero, whatever the stubs say; a sum of no gradients has no graph either
            used = [i for i, one in enumerate(gradients) if one is not None and one.requires_grad]  # type: ignore[redundant-expr]
            along = [
                torch.autograd.grad(
                    [gradients[i] for i in used],
                    weights,
                    [own[i] for i in used],
                    retain_graph=True,
                    materialize_grads=True,
                )[0]
                if used
                else torch.zeros_like(losses)
                for own in split
            ]
            rows = losses.detach().new_zeros(len(output), len(along))
            if along:
                rows[counted] = torch.stack(along, dim=1)
            found.append(rows)
    return torch.cat(found).to(landscape._summing)


def _losses(landscape: Landscape, batch: Batch, output: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Return the losses of the examples that count, shape (b,), and which these are, int64, shape (b,)."""
    assert landscape._criterion.of_output is not None
    # A mean over nothing has a gradient that is NaN.
    counted = example_weights(landscape, batch).nonzero().squeeze(1)
    if not len(counted):
        return output.flatten()[:0], counted  # with its graph
    if len(counted) < len(output):
        output, target = output[counted], pick_examples(target, counted, len(output))
    return losses_of(landscape._criterion.of_output, output, target), counted


def _make_up(
    landscape: Landscape, batch: Batch, losses: Tensor, counted: Tensor, output: Tensor, target: Any
) -> bool:
    """Whether the losses of the examples that count make up that of the batch."""
    of_output = landscape._criterion.of_output
    assert of_output is not None
    if not len(losses):
        return True
    weights = example_weights(landscape, batch)[counted]
    if landscape.reduction == "mean":
        weights = weights / weights.sum()
    with torch.no_grad():
        summands = weights * losses
        whole = of_output(output, target)
        apart = (summands.sum() - whole).abs()
        limit = _SAME * torch.finfo(landscape.dtype).eps * summands.abs().sum()
        # What is not finite shows in the gradients.
        return bool(apart <= limit) or not bool(whole.isfinite())


def _layers(landscape: Landscape) -> list[_Layer] | None:
    """Return the layers that hold all weights that vary; None where other modules hold some."""
    if landscape.layout.aliases:
        return None
    modules = dict(landscape.module.named_modules())
    found: dict[str, _Layer] = {}
    for index, name in enumerate(landscape.layout.names):
        owner, _, parameter = name.rpartition(".")
        module = modules.get(owner)
        if not _is_linear(module) or parameter not in ("weight", "bias"):
            return None
        setattr(found.setdefault(owner, _Layer(modules[owner])), parameter, index)
    return list(found.values())


def _is_linear(module: nn.Module | None) -> bool:
    # What subclasses and parametrised modules compute is not known.
    if type(module) is nn.Linear:
        return True
    return (
        isinstance(module, nn.Conv1d | nn.Conv2d)
        and type(module) in (nn.Conv1d, nn.Conv2d)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[tuple[Tensor, Tensor]]]]:
    """Record inputs and outputs of the modules' calls."""
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {module: [] for module in modules}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen[module].append((inputs[0], output))

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(record).remove)
        yield seen


def _record(layer: _Layer, inputs: Tensor, slopes: Tensor, count: int) -> bool:
    """Add a batch's inputs and derivatives, as (B, T, i) and (B, T, o); False where they are no such thing."""
    if len(inputs) != count or len(slopes) != count:
        return False
    module = layer.module
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if inputs.ndim != 4 - isinstance(module, nn.Conv1d):
            return False
        slopes = slopes.flatten(2).transpose(1, 2)
    else:
        inputs, slopes = (
            inputs.reshape(count, -1, inputs.shape[-1]),
            slopes.reshape(count, -1, slopes.shape[-1]),
        )
    layer.inputs.append(inputs)
    layer.slopes.append(slopes)
    return True


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what the outputs at every position are linear in, shape (B, T, i)."""
    if isinstance(module, nn.Conv1d):
        return F.unfold(
            inputs.unsqueeze(2),
            (1, module.kernel_size[0]),
            dilation=(1, module.dilation[0]),
            padding=(0, int(module.padding[0])),
            stride=(1, module.stride[0]),
        ).transpose(1, 2)
    if isinstance(module, nn.Conv2d):
        padding: Any = module.padding  # not a word: see _is_linear
        return F.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride).transpose(1, 2)
    return inputs


def _of_layer(layer: _Layer, sums: Sequence[Tensor]) -> Tensor | None:
    """Return a layer's part of the Gram matrix; None where its weights have other gradients than it says."""
    slopes = _joined(layer.slopes)
    positions, outputs = slopes.shape[1:]
    together = slopes.sum(dim=1) if positions > 1 else slopes[:, 0]
    if layer.bias is not None and not _same(together.sum(dim=0), sums[layer.bias]):
        return None
    if layer.weight is None:
        found: Tensor | None = together @ together.T
    else:
        expected = sums[layer.weight].reshape(outputs, -1)
        width = expected.shape[1]
        if positions == 1:
            # A bias is the weight of one more input, which is 1 for every example.
            found = _of_single_positions(layer, together, expected)
        else:
            pairs = positions**2 * (width + outputs) < width * outputs
            found = (_of_pairs if pairs else _of_blocks)(layer, slopes, expected)
            if found is not None and layer.bias is not None:
                found.addmm_(together, together.T)
    layer.inputs.clear()
    layer.slopes.clear()
    return found


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _of_single_positions(layer: _Layer, slopes: Tensor, expected: Tensor) -> Tensor | None:
    inputs = _joined([_patches(layer.module, inputs)[:, 0] for inputs in layer.inputs])
    if not _same(slopes.T @ inputs, expected):
        return None
    one = inputs.new_full((), 0.0 if layer.bias is None else 1.0)
    return (slopes @ slopes.T).mul_(torch.addmm(one, inputs, inputs.T))


def _of_pairs(layer: _Layer, slopes: Tensor, expected: Tensor) -> Tensor | None:
    """Return the sums over pairs of positions, for few of them; a few examples with all others at a time."""
    inputs = _joined([_patches(layer.module, inputs) for inputs in layer.inputs])
    count, positions, width = inputs.shape
    a, d = inputs.reshape(-1, width), slopes.reshape(count * positions, -1)
    if not _same(d.T @ a, expected):
        return None
    gram = inputs.new_empty(count, count)
    step = max(1, _NUMBERS // (count * positions**2))
    for low in range(0, count, step):
        rows = slice(low * positions, min(low + step, count) * positions)
        both = (a[rows] @ a.T).mul_(d[rows] @ d.T)
        gram[low : low + step] = both.view(-1, positions, count, positions).sum(dim=(1, 3))
    return gram


def _of_blocks(layer: _Layer, slopes: Tensor, expected: Tensor) -> Tensor | None:
    """Return the products of the gradients, formed for a few outputs at a time."""
    count, positions, outputs = slopes.shape
    width = expected.shape[1]
    gram = slopes.new_zeros(count, count)
    step = max(1, _NUMBERS // (count * width))
    few = max(1, _PATCHES // (positions * width))
    for low in range(0, outputs, step):
        part = slopes.new_empty(count, min(step, outputs - low), width)
        above = 0
        for inputs in layer.inputs:
            for first in range(0, len(inputs), few):
                own = inputs[first : first + few]
                here = slice(above, above + len(own))
                torch.bmm(
                    slopes[here, :, low : low + step].transpose(1, 2),
                    _patches(layer.module, own),
                    out=part[here],
                )
                above += len(own)
        if not _same(part.sum(dim=0), expected[low : low + step]):
            return None
        rows = part.flatten(1)
        gram.addmm_(rows, rows.T)
    return gram


def _same(found: Tensor, expected: Tensor) -> bool:
    limit = _SAME * torch.finfo(expected.dtype).eps
    difference = torch.linalg.vector_norm(found - expected)
    return bool(difference <= limit * torch.linalg.vector_norm(expected))


def _sees_itself_alone(landscape: Landscape, theta: Tensor, batch: Batch, gram: Tensor) -> bool:
    """Whether the first example has the same gradient when it is alone."""
    count = examples_in(batch)
    if not all(isinstance(leaf, Tensor) for _, leaf in leaves(batch)):
        return False
    one = map_leaves(lambda leaf: leaf[:1] if leaf.ndim and len(leaf) == count else leaf, batch)
    gradient = landscape._local_gradient(theta, one)
    if landscape.penalty is not None:
        gradient = gradient - landscape._penalty_gradient(theta)[1]
    alone = float(gradient.double() @ gradient.double())
    return abs(float(gram[0, 0]) - alone) <= _SAME * torch.finfo(landscape.dtype).eps * alone
