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

Groups of channels are layers beside each other. Normalisation multiplies every entry by a weight of its own: the
gradients of an example are no more numbers than there are entries, and are formed. Those of an embedding are formed
for a few of its rows at a time. Weights in other places have their gradients stacked, theirs alone: the Gram matrix is
a sum over the weights.

One forward and one backward pass over the batch give all of a and :math:`\delta`. That a layer is used as
assumed (once, and its weights nowhere else) shows in the sums over the examples, which must be the gradients of
the weights, else its gradients are stacked too; that examples do not see each other shows in the gradient of one alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import ConfigurationError, DataError
from landscape.objective.batch import Batch, examples_in, leaves
from landscape.objective.curvature import losses_of, output_of, pick_examples
from landscape.objective.examples import example_weights
from landscape.objective.memory import keep_freed_memory

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
#: Layers that multiply every entry by a weight of its own.
_NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)


@define
class _Layer:
    """A layer whose gradients are known from its inputs and outputs, with what is known of these batch by batch.

    Attributes
    ----------
    module
        The layer.
    weight, bias
        Where its parameters stand in the layout; None where they do not vary.
    inputs, slopes
        For every batch: inputs, shape (B, T, i), of convolutions (B, channels, ...) as they are, of embeddings the
        rows, (B, T); and derivatives with respect to outputs, (B, T, o). Of normalisation the gradients themselves,
        with respect to weight and bias, each (B, 1, o).
    """

    module: nn.Module
    weight: int | None = None
    bias: int | None = None
    inputs: list[Tensor] = field(factory=list)
    slopes: list[Tensor] = field(factory=list)

    @property
    def parameters(self) -> list[int]:
        """Where those of its parameters that vary stand in the layout."""
        return [index for index in (self.weight, self.bias) if index is not None]

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        return sum(part.nbytes for part in (*self.inputs, *self.slopes))


@define
class _Call:
    """A call of a layer: its input, its output, and the derivative with respect to that once it is known."""

    given: Tensor
    result: Tensor
    slopes: Tensor | None = None


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
        None where there is no layer of which the gradients are known: ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` of
        any padding and groups, ``nn.LayerNorm``, ``nn.BatchNorm1d`` and ``nn.BatchNorm2d`` in evaluation,
        ``nn.Embedding`` (dense, without ``max_norm`` and ``scale_grad_by_freq``), not their subclasses, each called
        once. All other weights, and those tied to others, have their gradients stacked, shape (B, p). None also where
        examples see each other, or do not make up the loss of the batch; where gradients are not finite; for a loss
        that does not show the module's output; and where inputs and outputs and what is stacked take more than
        `memory`.

    Raises
    ------
    ConfigurationError
        For weights of another shape.
    """
    theta = landscape._one_row(theta)
    keep_freed_memory()  # or a fifth of the time goes for fresh pages
    layers = _layers(landscape)
    if not layers or landscape._criterion.of_output is None:
        return None
    parts = landscape._leaves(theta)
    sums = [torch.zeros_like(part) for part in parts]
    taken: list[Batch] = []
    counts: list[Tensor] = []
    with landscape._session(differentiate=True) as session:
        for given in batches:
            batch = landscape._moved(given)
            taken.append(batch)
            with _recorded([layer.module for layer in layers]) as seen:
                try:
                    output, target = output_of(landscape, session, parts, batch, "A Gram matrix")
                    count = examples_in(batch)
                except (ConfigurationError, DataError):
                    return None
            if len(output) != count:
                return None
            weights = example_weights(landscape, batch)
            counts.append(weights)
            losses, counted = _losses(landscape, weights, output, target)
            if not _make_up(landscape, weights[counted], losses, output, target):
                return None
            for total, part in zip(
                sums, torch.autograd.grad(losses.sum(), parts, allow_unused=True), strict=True
            ):
                if part is not None:  # autograd says None for zero
                    total += part
            layers = [layer for layer in layers if _record(layer, seen[layer.module], count)]
            if not layers or (memory is not None and sum(layer.nbytes for layer in layers) > memory):
                return None
    if not taken:
        return None
    held = sum(layer.nbytes for layer in layers)
    # Products and sums of a few layers in the type of the weights are as good as the gradients themselves.
    summed: list[Tensor] = []
    known: set[int] = set()
    for layer in layers:
        of_layer = _of_layer(layer, sums)
        if of_layer is not None:
            summed = [summed[0].add_(of_layer)] if summed else [of_layer]
            known.update(layer.parameters)
    if not summed:
        return None
    gram = summed[0].to(landscape._summing)
    others = [index for index in range(len(parts)) if index not in known]
    if others:
        width = sum(parts[index].numel() for index in others)
        if memory is not None and held + len(gram) * width * landscape.dtype.itemsize > memory:
            return None
        rows = _stacked(landscape, theta, taken, others, sums)
        if rows is None:
            return None
        gram += (rows @ rows.T).to(gram)
    return gram if _sees_itself_alone(landscape, theta, taken[0], counts[0], gram) else None


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
            losses, counted = _losses(landscape, example_weights(landscape, batch), output, target)
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
            losses, counted = _losses(landscape, example_weights(landscape, batch), output, target)
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


def _losses(landscape: Landscape, weights: Tensor, output: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Return the losses of the examples that count, shape (b,), and which these are, int64, shape (b,)."""
    assert landscape._criterion.of_output is not None
    # A mean over nothing has a gradient that is NaN.
    counted = weights.nonzero().squeeze(1)
    if not len(counted):
        return output.flatten()[:0], counted  # with its graph
    if len(counted) < len(output):
        output, target = output[counted], pick_examples(target, counted, len(output))
    return losses_of(landscape._criterion.of_output, output, target), counted


def _make_up(landscape: Landscape, weights: Tensor, losses: Tensor, output: Tensor, target: Any) -> bool:
    """Whether the losses of the examples that count, with their weights, make up that of the batch."""
    of_output = landscape._criterion.of_output
    assert of_output is not None
    if not len(losses):
        return True
    if landscape.reduction == "mean":
        weights = weights / weights.sum()
    with torch.no_grad():
        summands = weights * losses
        whole = of_output(output, target)
        apart = (summands.sum() - whole).abs()
        limit = _SAME * torch.finfo(landscape.dtype).eps * summands.abs().sum()
        # What is not finite shows in the gradients.
        return bool(apart <= limit) or not bool(whole.isfinite())


def _layers(landscape: Landscape) -> list[_Layer]:
    """Return the layers of which gradients may be known."""
    modules = dict(landscape.module.named_modules())
    # Under its other name a weight is used elsewhere.
    tied = {name for pair in landscape.layout.aliases for name in pair}
    found: dict[str, _Layer] = {}
    for index, name in enumerate(landscape.layout.names):
        owner, _, parameter = name.rpartition(".")
        if name not in tied and parameter in ("weight", "bias") and _is_known(modules.get(owner)):
            setattr(found.setdefault(owner, _Layer(modules[owner])), parameter, index)
    return list(found.values())


def _is_known(module: nn.Module | None) -> bool:
    # What subclasses and parametrised modules compute is not known.
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        kept = module.running_mean is not None
        return type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) and kept
    if isinstance(module, nn.Embedding):
        plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        return type(module) is nn.Embedding and plain
    return type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm)


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[_Call]]]:
    """Record inputs of the modules' calls, and derivatives with respect to outputs when there are any."""
    seen: dict[nn.Module, list[_Call]] = {module: [] for module in modules}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given = _normalised(module, inputs[0])
        call = _Call(given.detach(), output.detach())
        seen[module].append(call)

        def keep(slopes: Tensor) -> None:
            call.slopes = slopes

        # Before anything is done to the output in place.
        if output.requires_grad:
            output.register_hook(keep)

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(record).remove)
        yield seen


def _normalised(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer multiplies by its weight: of normalisation not what it is given."""
    with torch.no_grad():
        if isinstance(module, nn.LayerNorm):
            return F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return F.batch_norm(
                inputs, module.running_mean, module.running_var, training=module.training, eps=module.eps
            )
    return inputs


def _record(layer: _Layer, calls: Sequence[_Call], count: int) -> bool:
    """Add a batch's inputs and derivatives, as (B, T, i) and (B, T, o); False where they are no such thing."""
    if len(calls) != 1:
        return False
    module, inputs, result = layer.module, calls[0].given, calls[0].result
    slopes = torch.zeros_like(result) if calls[0].slopes is None else calls[0].slopes
    if inputs.ndim < 1 or len(inputs) != count or len(slopes) != count:
        return False
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if inputs.ndim != 4 - isinstance(module, nn.Conv1d):
            return False
        slopes = slopes.flatten(2).transpose(1, 2)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        inputs, slopes = (
            each.reshape(count, module.num_features, -1).transpose(1, 2) for each in (inputs, slopes)
        )
    elif isinstance(module, nn.LayerNorm):
        width = math.prod(module.normalized_shape)
        inputs, slopes = inputs.reshape(count, -1, width), slopes.reshape(count, -1, width)
    elif isinstance(module, nn.Embedding):
        inputs, slopes = inputs.reshape(count, -1), slopes.reshape(count, -1, module.embedding_dim)
    else:
        inputs, slopes = (
            inputs.reshape(count, -1, inputs.shape[-1]),
            slopes.reshape(count, -1, slopes.shape[-1]),
        )
    if isinstance(module, _NORMS):
        inputs, slopes = (inputs * slopes).sum(dim=1, keepdim=True), slopes.sum(dim=1, keepdim=True)
    layer.inputs.append(inputs)
    layer.slopes.append(slopes)
    return True


def _stacked(
    landscape: Landscape,
    theta: Tensor,
    batches: Sequence[Batch],
    chosen: Sequence[int],
    sums: Sequence[Tensor],
) -> Tensor | None:
    """Return gradients of examples with respect to some parameters, (B, p); None where their sum is another.

    Parameters
    ----------
    landscape, theta
        Where.
    batches
        The examples.
    chosen
        Where the parameters stand in the layout.
    sums
        The gradient of the sum of the examples' losses with respect to every parameter.
    """
    names = [landscape.layout.names[index] for index in chosen]
    part = landscape.restrict(names, at=theta)
    own = theta[landscape.layout.indices(names).to(theta.device)]
    found = []
    for batch in batches:
        rows = part.example_gradients(own, batch)
        if landscape.penalty is not None:
            rows = rows - part._penalty_gradient(own)[1]
        rows[example_weights(landscape, batch) == 0] = 0
        found.append(rows)
    joined = torch.cat(found)
    expected = torch.cat([sums[index].reshape(-1) for index in chosen])
    return joined if _same(joined.sum(dim=0), expected) else None


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what the outputs at every position are linear in, shape (B, T, i)."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return inputs
    inputs, padding = _padded(module, inputs)
    sizes = (module.kernel_size, module.dilation, padding, module.stride)
    if isinstance(module, nn.Conv1d):
        inputs = inputs.unsqueeze(2)
        kernel, dilation, padding, stride = (
            (plain, size[0]) for plain, size in zip((1, 1, 0, 1), sizes, strict=True)
        )
        return F.unfold(inputs, kernel, dilation, padding, stride).transpose(1, 2)
    return F.unfold(inputs, *sizes).transpose(1, 2)


def _padded(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the inputs, padded unless equal zeros on both sides do, and how many of these are still to be added."""
    sides: list[tuple[int, int]]
    if module.padding == "same":
        missing = [step * (size - 1) for step, size in zip(module.dilation, module.kernel_size, strict=True)]
        sides = [(every // 2, every - every // 2) for every in missing]
    elif module.padding == "valid":
        sides = [(0, 0) for _ in module.kernel_size]
    else:
        sides = [(int(size), int(size)) for size in module.padding]
    zeros = module.padding_mode == "zeros"
    if zeros and all(low == high for low, high in sides):
        return inputs, tuple(low for low, _ in sides)
    flat = [size for pair in reversed(sides) for size in pair]  # the last dimension first
    padded = F.pad(inputs, flat, mode="constant" if zeros else module.padding_mode)
    return padded, tuple(0 for _ in sides)


def _of_layer(layer: _Layer, sums: Sequence[Tensor]) -> Tensor | None:
    """Return a layer's part of the Gram matrix; None where its weights have other gradients than it says."""
    found = _products(layer, _joined(layer.slopes), sums)
    layer.inputs.clear()
    layer.slopes.clear()
    return found


def _products(layer: _Layer, slopes: Tensor, sums: Sequence[Tensor]) -> Tensor | None:
    module = layer.module
    positions, outputs = slopes.shape[1:]
    if isinstance(module, nn.Embedding):
        assert layer.weight is not None
        return _of_rows(module, _joined(layer.inputs), slopes, sums[layer.weight])
    together = slopes.sum(dim=1) if positions > 1 else slopes[:, 0]
    if layer.bias is not None and not _same(together.sum(dim=0), sums[layer.bias].reshape(-1)):
        return None
    if layer.weight is None:
        return together @ together.T
    if isinstance(module, _NORMS):
        rows = _joined(layer.inputs)[:, 0]
        if not _same(rows.sum(dim=0), sums[layer.weight].reshape(-1)):
            return None
        found: Tensor | None = rows @ rows.T
    else:
        expected = sums[layer.weight].reshape(outputs, -1)
        width = expected.shape[1]
        if isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups > 1:
            found = _of_groups(layer, module.groups, slopes, expected)
        elif positions == 1:
            # A bias is the weight of one more input, which is 1 for every example.
            return _of_single_positions(layer, together, expected)
        else:
            pairs = positions**2 * (width + outputs) < width * outputs
            found = (_of_pairs if pairs else _of_blocks)(layer, slopes, expected)
    if found is not None and layer.bias is not None:
        found.addmm_(together, together.T)
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


def _of_groups(layer: _Layer, groups: int, slopes: Tensor, expected: Tensor) -> Tensor | None:
    """Return the products of the gradients of a convolution by groups, formed for a few groups at a time."""
    count, positions, outputs = slopes.shape
    width, own = expected.shape[1], outputs // groups
    gram = slopes.new_zeros(count, count)
    step = max(1, _NUMBERS // (count * own * width))
    for low in range(0, groups, step):
        high = min(low + step, groups)
        few = max(1, _PATCHES // (positions * width * (high - low)))
        rows = []
        above = 0
        for inputs in layer.inputs:
            channels = inputs.shape[1] // groups
            for first in range(0, len(inputs), few):
                part = inputs[first : first + few, low * channels : high * channels]
                patches = _patches(layer.module, part).reshape(-1, positions, high - low, width)
                here = slopes[above : above + len(part), :, low * own : high * own]
                here = here.reshape(-1, positions, high - low, own)
                rows.append(torch.einsum("btgo,btgi->bgoi", here, patches))
                above += len(part)
        formed = torch.cat(rows).flatten(1)
        if not _same(formed.sum(dim=0), expected[low * own : high * own].reshape(-1)):
            return None
        gram.addmm_(formed, formed.T)
    return gram


def _of_rows(module: nn.Embedding, places: Tensor, slopes: Tensor, expected: Tensor) -> Tensor | None:
    """Return the products of the gradients of an embedding, formed for a few of the rows that occur at a time."""
    if module.padding_idx is not None:
        slopes = slopes * (places != module.padding_idx).unsqueeze(2)
    count, _, width = slopes.shape
    used, numbers = torch.unique(places, return_inverse=True)
    total = torch.zeros_like(expected).index_add_(0, places.flatten(), slopes.flatten(0, 1))
    if not _same(total, expected):
        return None
    gram = slopes.new_zeros(count, count)
    step = max(1, _NUMBERS // (count * width))
    for low in range(0, len(used), step):
        high = min(low + step, len(used))
        example, position = ((numbers >= low) & (numbers < high)).nonzero(as_tuple=True)
        rows = slopes.new_zeros(count, high - low, width)
        where = (example, numbers[example, position] - low)
        rows.index_put_(where, slopes[example, position], accumulate=True)
        gram.addmm_(rows.flatten(1), rows.flatten(1).T)
    return gram


def _same(found: Tensor, expected: Tensor) -> bool:
    limit = _SAME * torch.finfo(expected.dtype).eps
    difference = torch.linalg.vector_norm(found - expected)
    return bool(difference <= limit * torch.linalg.vector_norm(expected))


def _sees_itself_alone(
    landscape: Landscape, theta: Tensor, batch: Batch, weights: Tensor, gram: Tensor
) -> bool:
    """Whether the first example that counts has the same gradient when it is alone."""
    count = examples_in(batch)
    if not all(isinstance(leaf, Tensor) for _, leaf in leaves(batch)):
        return False
    counted = weights.nonzero()
    if not len(counted):
        return True
    place = int(counted[0])
    one = pick_examples(batch, slice(place, place + 1), count)
    gradient = landscape._local_gradient(theta, one)
    if landscape.penalty is not None:
        gradient = gradient - landscape._penalty_gradient(theta)[1]
    alone = float(gradient.double() @ gradient.double())
    return abs(float(gram[place, place]) - alone) <= _SAME * torch.finfo(landscape.dtype).eps * alone
