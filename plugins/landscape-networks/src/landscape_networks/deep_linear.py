"""Deep linear networks: every critical point of their regularised loss can be solved for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from itertools import combinations, pairwise, product
from math import comb, prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from landscape.errors import ConfigurationError, DataError, PolynomialError, nearest
from landscape.interfaces import PolynomialModel
from landscape.systems import (
    Distribution,
    ParametricFamily,
    PolynomialFamily,
    PolynomialSystem,
    SignGroup,
    Subfamily,
)
from landscape.validators import as_tuple, is_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["DeepLinear", "DeepLinearFamily"]

_GROUPS = ("regularisation", "inputs", "targets")
#: Sub-networks beyond which listing them takes minutes and gigabytes, and solving for them days.
_PATTERNS = 100_000
_THESIS = "Critical Points of Deep Linear Networks in C^N, arXiv:2301.12651 (2022)"
_DEDIEU = "Dedieu and Malajovich, On the number of minima of a random polynomial, J. Complexity 24 (2008)"


def _groups(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _check_widths(instance: object, attribute: object, widths: Any) -> None:
    whole = isinstance(widths, tuple) and all(map(is_whole, widths))
    if not whole or len(widths) < 3 or min(widths[0], widths[-1]) < 1 or min(widths) < 0:
        raise ConfigurationError(
            f"widths={widths!r} must list the input, at least one hidden layer and the output, each at least 1, "
            f"such as (2, 2, 2)."
        )


def _check_positive_widths(instance: object, attribute: object, widths: tuple[int, ...]) -> None:
    _check_widths(instance, attribute, widths)
    if min(widths) < 1:
        raise ConfigurationError(f"widths={widths} has an empty layer; every layer needs at least one unit.")


def _convolution(value: Any) -> tuple[int, int] | None:
    return None if value is None else as_tuple(value)


def _check_convolution(instance: Any, attribute: object, value: tuple[Any, ...] | None) -> None:
    if value is None:
        return
    widths = instance.widths
    if len(value) != 2 or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in value):
        raise ConfigurationError(
            f"convolution={value} must be (width, stride), whole numbers of at least 1, such as (3, 1)."
        )
    width, stride = value
    if width > widths[0]:
        raise ConfigurationError(
            f"convolution={value} has a filter of {width} weights, but the inputs have length {widths[0]}."
        )
    fitting = (widths[0] - width) // stride + 1
    if widths[1] not in (fitting, 0):
        raise ConfigurationError(
            f"a filter of {width} weights with stride {stride} fits {fitting} times into inputs of length "
            f"{widths[0]}; set widths[1] to {fitting}, it is {widths[1]}."
        )


def _check_examples(instance: object, attribute: object, examples: Any) -> None:
    if not is_whole(examples) or examples < 1:
        raise ConfigurationError(f"examples={examples!r} must be a whole number, at least 1.")


def _check_distribution(instance: object, attribute: object, text: str) -> None:
    Distribution.parse(text)


def _check_regularisation(instance: object, attribute: object, text: str) -> None:
    if text != "off":
        Distribution.parse(text)


def _check_groups(instance: object, attribute: object, groups: tuple[str, ...]) -> None:
    for group in groups:
        if group not in _GROUPS:
            raise ConfigurationError(
                f"once={groups!r} names {group!r}; it may name {', '.join(_GROUPS)}.{nearest(group, _GROUPS)}"
            )


@frozen
class DeepLinear(PolynomialModel):
    r"""A bias-free linear network of any depth.

    With the loss

    .. math:: L = \tfrac12 \sum_i |W_{H+1} \cdots W_1 x_i - y_i|^2
                + \tfrac12 \sum_{l,j,k} \lambda_{l,jk} W_{l,jk}^2

    its critical points are the solutions of a polynomial system, :meth:`family`. As any other model it can be
    trained on any data with inputs of length ``widths[0]``; the sampling fields below only concern the family.

    Attributes
    ----------
    widths
        Input, hidden and output widths: (2, 2, 2) has one hidden layer of two units.
    examples
        m, the number of examples of a sample.
    regularisation
        Distribution of the lambda, one for every weight: ``"uniform(0, 1)"`` as in Mehta et al.
        (arXiv:1810.07716); also ``"normal(mean, std)"``, ``"constant(value)"``, ``"values(...)"`` (weights of
        the first layer row by row, then of the next) or ``"off"``. Without regularisation, and with equal
        lambda for two hidden units, critical points are not isolated.
    inputs, targets
        Distributions of X (dx, m) and Y (dy, m); ``values(...)`` lists them row by row.
    once
        Which of ``"regularisation"``, ``"inputs"``, ``"targets"`` are drawn once and shared by all samples,
        rather than drawn anew for each.
    convolution
        (width, stride) of a filter that the first layer is then a one-dimensional convolution with: hidden unit i
        of the first layer is sum_j w_j x_(i stride + j). It has `width` weights and as many lambda, and the first
        hidden layer has as many units as the filter fits into the input.
    """

    references: ClassVar[tuple[str, ...]] = (_THESIS, _DEDIEU)

    widths: tuple[int, ...] = field(default=(2, 2, 2), converter=as_tuple, validator=_check_positive_widths)
    examples: int = field(default=1, validator=_check_examples)
    regularisation: str = field(default="uniform(0, 1)", validator=_check_regularisation)
    inputs: str = field(default="normal(0, 1)", validator=_check_distribution)
    targets: str = field(default="normal(0, 1)", validator=_check_distribution)
    once: tuple[str, ...] = field(default=(), converter=_groups, validator=_check_groups)
    convolution: tuple[int, int] | None = field(
        default=None, converter=_convolution, validator=_check_convolution, kw_only=True
    )

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the network for batches (x, y); weights are normal with variance 1 / fan-in.

        Weights are named ``layer1.weight``, ``layer2.weight`` and so on.

        Raises
        ------
        landscape.errors.DataError
            When x does not consist of rows of length ``widths[0]``.
        """
        import torch
        from torch import nn
        from torch.nn.utils import skip_init

        inputs = example[0] if isinstance(example, tuple | list) and len(example) else None
        if isinstance(inputs, torch.Tensor) and tuple(inputs.shape[1:]) != (self.widths[0],):
            raise DataError(
                f"DeepLinear(widths={self.widths}) takes rows of length {self.widths[0]}, the data has inputs "
                f"of shape {tuple(inputs.shape[1:])} per example; set widths[0] or flatten the data."
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (fan_in, fan_out) in enumerate(pairwise(self.widths), 1):
            if number == 1 and self.convolution is not None:
                width, stride = self.convolution
                filters = skip_init(
                    nn.Conv1d, 1, 1, width, stride=stride, bias=False, device=generator.device
                )
                nn.init.normal_(filters.weight, std=width**-0.5, generator=generator)
                layers["channel"] = nn.Unflatten(1, (1, fan_in))
                layers["layer1"] = filters
                layers["flat"] = nn.Flatten()
                continue
            # skip_init: the constructor would draw from the global random state.
            linear = skip_init(nn.Linear, fan_in, fan_out, bias=False, device=generator.device)
            nn.init.normal_(linear.weight, std=fan_in**-0.5, generator=generator)
            layers[f"layer{number}"] = linear
        return nn.Sequential(layers)

    def family(self) -> DeepLinearFamily:
        """Return the gradient system as a family over lambda, X and Y.

        Raises
        ------
        landscape.errors.PolynomialError
            Without regularisation: then the critical points form curves and surfaces.
        """
        if self.regularisation == "off":
            raise PolynomialError(
                "without regularisation the critical points of a deep linear network are not isolated (scale "
                "one layer up and the next down); set regularisation='uniform(0, 1)' or another distribution."
            )
        return DeepLinearFamily(
            widths=self.widths,
            examples=self.examples,
            regularisation=self.regularisation,
            inputs=self.inputs,
            targets=self.targets,
            once=self.once,
            convolution=self.convolution,
        )


@frozen(slots=False)
class DeepLinearFamily(ParametricFamily):
    r"""The gradient system of a regularised deep linear network, evaluated as products of matrices.

    With :math:`A_l = W_{H+1} \cdots W_{l+1}`, :math:`B_l = W_{l-1} \cdots W_1 X` and
    :math:`R = W_{H+1} \cdots W_1 X - Y` the equations are

    .. math:: A_l^T R B_l^T + \Lambda_l \circ W_l = 0, \qquad l = 1, \dots, H + 1.

    With a convolution W_1 has the filter in every row, each shifted by the stride, and its equations are those of
    the filter: the sums of the above over the places where a weight of the filter stands.

    Unknowns are the weights, ``w1_1_1`` ..., layer after layer, row by row. Parameters are the lambda in the
    same order (``lambda1_1_1`` ...), then X (``x_1_1`` ..., dx times m) and Y (``y_1_1`` ...), row by row. The
    fields are those of :class:`DeepLinear`; a width of 0 stands for a network that is cut through, all of
    whose weights are zero.

    Notes
    -----
    For generic parameters a solution has zero coordinates exactly where it uses a sub-network: a zero weight
    imposes an equation that its lambda does not enter, so it must hold identically, that is, an end of the
    weight has no path to the input or to the output. Inputs and outputs are always in use, so that
    sub-networks are non-empty subsets of every hidden layer, or nothing at all (the origin). Over the torus,
    :math:`\Lambda = - \text{gradient of the data term} / W` is a function of W, X and Y, so that pairs of
    solution and parameters are a graph: irreducible, which is what monodromy needs. The units of a
    convolution share their weights, so that none can be left out alone.
    """

    references: ClassVar[tuple[str, ...]] = (_THESIS, _DEDIEU)

    widths: tuple[int, ...] = field(default=(2, 2, 2), converter=as_tuple, validator=_check_widths)
    examples: int = field(default=1, validator=_check_examples)
    regularisation: str = field(default="uniform(0, 1)", validator=_check_distribution)
    inputs: str = field(default="normal(0, 1)", validator=_check_distribution)
    targets: str = field(default="normal(0, 1)", validator=_check_distribution)
    once: tuple[str, ...] = field(default=(), converter=_groups, validator=_check_groups)
    convolution: tuple[int, int] | None = field(
        default=None, converter=_convolution, validator=_check_convolution, kw_only=True
    )

    # -- shapes and names ---------------------------------------------------------------------------------

    @cached_property
    def _shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of W_1, ..., W_{H+1}."""
        if 0 in self.widths:
            return ()
        return tuple((rows, columns) for columns, rows in pairwise(self.widths))

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Where each layer begins among the entries of all W_l; the last entry is their number."""
        return tuple(np.cumsum([0, *(rows * columns for rows, columns in self._shapes)]).tolist())

    @cached_property
    def _own_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of the unknowns of every layer: as _shapes, but for the filter of a convolution."""
        if self.convolution is None or not self._shapes:
            return self._shapes
        return ((1, self.convolution[0]), *self._shapes[1:])

    @cached_property
    def _own_starts(self) -> tuple[int, ...]:
        """Where each layer begins among the unknowns; the last entry is N."""
        return tuple(np.cumsum([0, *(rows * columns for rows, columns in self._own_shapes)]).tolist())

    @cached_property
    def _placed(self) -> NDArray[np.float64] | None:
        """The matrix (entries of all W_l, N) that places the unknowns; None where it is the identity."""
        if self.convolution is None or not self._shapes:
            return None
        width, stride = self.convolution
        rows, columns = self._shapes[0]
        placed = np.zeros((self._starts[-1], self._own_starts[-1]))
        for row in range(rows):
            for k in range(width):
                placed[row * columns + row * stride + k, k] = 1.0
        rest = np.arange(self._starts[-1] - self._starts[1])
        placed[self._starts[1] + rest, self._own_starts[1] + rest] = 1.0
        return placed

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        """How many lambda, x and y there are."""
        if not self._shapes:
            return 0, 0, 0
        return self._own_starts[-1], self.widths[0] * self.examples, self.widths[-1] * self.examples

    @property
    def unknown_count(self) -> int:
        """N, the number of weights."""
        return self._sizes[0]

    @cached_property
    def unknown_names(self) -> tuple[str, ...]:
        """``w<layer>_<row>_<column>``, counted from one."""
        return tuple(f"w{indices}" for indices in self._weight_indices)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """``lambda<layer>_<row>_<column>``, then ``x_<row>_<example>`` and ``y_<row>_<example>``."""
        if not self._shapes:
            return ()
        data = [
            f"{letter}_{row}_{column}"
            for letter, rows in (("x", self.widths[0]), ("y", self.widths[-1]))
            for row in range(1, rows + 1)
            for column in range(1, self.examples + 1)
        ]
        return (*(f"lambda{indices}" for indices in self._weight_indices), *data)

    @property
    def _weight_indices(self) -> list[str]:
        return [
            f"{layer}_{row}_{column}"
            for layer, (rows, columns) in enumerate(self._own_shapes, 1)
            for row in range(1, rows + 1)
            for column in range(1, columns + 1)
        ]

    def _weights(self, z: NDArray[Any]) -> list[NDArray[Any]]:
        """Return W_1, ..., W_{H+1}, each (B, rows, columns)."""
        if self._placed is not None:
            z = z @ self._placed.T
        return [
            z[:, start : start + rows * columns].reshape(-1, rows, columns)
            for start, (rows, columns) in zip(self._starts, self._shapes, strict=False)
        ]

    def _split(self, p: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return the lambda (B, N), X (B, dx, m) and Y (B, dy, m)."""
        n, x, _ = self._sizes
        m = self.examples
        return p[:, :n], p[:, n : n + x].reshape(len(p), -1, m), p[:, n + x :].reshape(len(p), -1, m)

    def _products(
        self, weights: list[NDArray[Any]], x: NDArray[Any]
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]], NDArray[Any]]:
        """Return A_1^T, ..., A_{H+1}^T, then B_1, ..., B_{H+1}, then the output of the network."""
        below = [x]
        for w in weights:
            below.append(w @ below[-1])
        last = self.widths[-1]
        above = [np.broadcast_to(np.eye(last, dtype=x.dtype), (len(x), last, last))]
        for w in reversed(weights[1:]):
            above.append(w.transpose(0, 2, 1) @ above[-1])
        return above[::-1], below[:-1], below[-1]

    # -- values and derivatives ---------------------------------------------------------------------------

    def value(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return the gradient of the loss, shape (B, N)."""
        if not self._shapes:
            return np.zeros((len(z), 0), dtype=z.dtype)
        lam, x, y = self._split(p)
        above, below, output = self._products(self._weights(z), x)
        residual = output - y
        blocks = [
            ((a @ residual) @ b.transpose(0, 2, 1)).reshape(len(z), -1)
            for a, b in zip(above, below, strict=True)
        ]
        return np.asarray(lam * z + self._collected(blocks))

    def _collected(self, blocks: list[NDArray[Any]]) -> NDArray[Any]:
        """Return derivatives by the unknowns, (B, N), from those by the entries of every W_l."""
        together = np.concatenate(blocks, axis=1)
        return together if self._placed is None else together @ self._placed

    def value_and_jacobian(
        self, z: NDArray[np.complex128], p: NDArray[np.complex128]
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Return the gradient (B, N) and the Hessian (B, N, N) of the loss."""
        batch, n = z.shape
        if not self._shapes:
            return np.zeros((batch, 0), dtype=z.dtype), np.zeros((batch, 0, 0), dtype=z.dtype)
        lam, x, y = self._split(p)
        weights = self._weights(z)
        above, below, output = self._products(weights, x)
        residual = output - y
        layers = len(weights)
        below_t = [b.transpose(0, 2, 1) for b in below]
        back = [a @ residual for a in above]
        blocks = []
        entries = self._starts[-1]
        hessian = np.zeros((batch, entries, entries), dtype=np.result_type(z, lam))
        for i in range(layers):
            rows, columns = self._shapes[i]
            here = slice(self._starts[i], self._starts[i + 1])
            blocks.append((back[i] @ below_t[i]).reshape(batch, -1))
            between = None
            for j in range(i, layers):
                # dF_i/dW_j, with j the later layer, entries [r, c, a, b]: the change of the residual gives
                # (A_i^T A_j)[r, a] (B_i B_j^T)[c, b]; for j > i the change of A_i gives
                # M[b, r] (A_j^T R B_i^T)[a, c] with M = W_{j-1} ... W_{i+1}.
                left = above[i] @ above[j].transpose(0, 2, 1)
                right = below[i] @ below_t[j]
                block = left[:, :, None, :, None] * right[:, None, :, None, :]
                if j > i:
                    outer = back[j] @ below_t[i]
                    if between is None:
                        # j = i + 1: M is the identity of size rows.
                        diagonal = np.arange(rows)
                        block[:, diagonal, :, :, diagonal] += outer.transpose(0, 2, 1)[None]
                        between = weights[j]
                    else:
                        block += (
                            between.transpose(0, 2, 1)[:, :, None, None, :]
                            * outer.transpose(0, 2, 1)[:, None, :, :, None]
                        )
                        between = weights[j] @ between
                there = slice(self._starts[j], self._starts[j + 1])
                flat = block.reshape(batch, rows * columns, -1)
                hessian[:, here, there] = flat
                if j > i:
                    hessian[:, there, here] = flat.transpose(0, 2, 1)
        if self._placed is not None:
            hessian = self._placed.T @ hessian @ self._placed
        diagonal = np.arange(n)
        hessian[:, diagonal, diagonal] += lam
        return lam * z + self._collected(blocks), hessian

    def jacobian(self, z: NDArray[np.complex128], p: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return the Hessian of the loss, shape (B, N, N)."""
        return self.value_and_jacobian(z, p)[1]

    def parameter_derivative(
        self, z: NDArray[np.complex128], p: NDArray[np.complex128], dp: NDArray[np.complex128]
    ) -> NDArray[np.complex128]:
        """Return the change of the gradient as lambda, X and Y change along `dp`, shape (B, N)."""
        if not self._shapes:
            return np.zeros((len(z), 0), dtype=z.dtype)
        _, x, y = self._split(p)
        d_lam, dx, dy = self._split(dp)
        weights = self._weights(z)
        above, below, output = self._products(weights, x)
        residual = output - y
        d_below = [dx]
        for w in weights:
            d_below.append(w @ d_below[-1])
        d_residual = d_below[-1] - dy
        blocks = [
            ((a @ d_residual) @ b.transpose(0, 2, 1) + (a @ residual) @ db.transpose(0, 2, 1)).reshape(
                len(z), -1
            )
            for a, b, db in zip(above, below, d_below[:-1], strict=True)
        ]
        return np.asarray(d_lam * z + self._collected(blocks))

    @property
    def has_objective(self) -> bool:
        """The equations are the gradient of the loss."""
        return True

    def objective_value(self, z: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the loss, shape (B,)."""
        lam, x, y = self._split(p)
        output = x
        for w in self._weights(z):
            output = w @ output
        data = ((output - y) ** 2).sum(axis=(1, 2)) if self._shapes else np.zeros(len(z))
        return np.asarray(0.5 * data + 0.5 * (lam * z**2).sum(axis=1))

    # -- structure ----------------------------------------------------------------------------------------

    def start_pair(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """Return generic W, X and Y with the lambda for which W is critical."""
        n, x, y = self._sizes
        z = generator.uniform(0.5, 1.5, n) * np.exp(2j * np.pi * generator.random(n))
        p = np.zeros(n + x + y, dtype=np.complex128)
        p[n:] = (generator.normal(size=x + y) + 1j * generator.normal(size=x + y)) / np.sqrt(2)
        p[:n] = -self.value(z[None], p[None])[0] / z
        return z, p

    def sample(self, n: int, seed: int) -> NDArray[np.float64]:
        """Return n real parameter vectors, shape (n, M); lambda, X and Y draw independently of each other."""
        groups = []
        for stream, (name, size) in enumerate(zip(_GROUPS, self._sizes, strict=True)):
            generator = np.random.default_rng([seed, stream])
            text = {"regularisation": self.regularisation, "inputs": self.inputs, "targets": self.targets}[
                name
            ]
            distribution = Distribution.parse(text)
            distribution.check_size(size, name)
            rows = distribution.draw(1 if name in self.once else n, size, generator)
            groups.append(np.broadcast_to(rows, (n, size)))
        return np.concatenate(groups, axis=1)

    def sign_group(self) -> SignGroup:
        """Return the sign changes of hidden units: the unit's incoming and outgoing weights flip.

        Those of a first layer that is a convolution share their weights, and only flip together.
        """
        generators = []
        for layer in range(len(self._shapes) - 1):
            rows, columns = self._own_shapes[layer]
            next_rows, next_columns = self._shapes[layer + 1]
            shared = layer == 0 and self.convolution is not None
            for unit in range(rows):
                flips = np.zeros(self._sizes[0], dtype=bool)
                flips[self._own_starts[layer] : self._own_starts[layer + 1]].reshape(rows, columns)[unit] = (
                    True
                )
                outgoing = flips[self._own_starts[layer + 1] : self._own_starts[layer + 2]]
                outgoing.reshape(next_rows, next_columns)[:, slice(None) if shared else unit] = True
                generators.append(flips)
        return SignGroup(np.array(generators), self._sizes[0])

    def subfamilies(self) -> tuple[Subfamily, ...]:
        """Return the sub-networks: a non-empty subset of every hidden layer, and the origin.

        All units of a convolution are in use, since they share their weights.

        Raises
        ------
        landscape.errors.PolynomialError
            For more than 100,000 of them.
        """
        if not self._shapes:
            return (Subfamily(self, (), ()),)
        free = self.widths[1:-1] if self.convolution is None else self.widths[2:-1]
        patterns = prod(2**width - 1 for width in free)
        if patterns > _PATTERNS:
            raise PolynomialError(
                f"widths={self.widths} have {patterns} sub-networks, each with critical points of its own; "
                f"{_PATTERNS} are the most that are tried. Choose narrower hidden layers."
            )
        n, data = self._sizes[0], self._sizes[1] + self._sizes[2]
        choices = [
            [units for size in range(width, 0, -1) for units in combinations(range(width), size)]
            for width in self.widths[1:-1]
        ]
        if self.convolution is not None:
            choices[0] = [tuple(range(self.widths[1]))]
        found = []
        for hidden in product(*choices):
            active = [tuple(range(self.widths[0])), *hidden, tuple(range(self.widths[-1]))]
            filters = [] if self.convolution is None else list(range(self.convolution[0]))
            weights = (
                *filters,
                *(
                    self._own_starts[layer] + row * columns + column
                    for layer, (_, columns) in enumerate(self._shapes)
                    if layer or not filters
                    for row in active[layer + 1]
                    for column in active[layer]
                ),
            )
            family = DeepLinearFamily(
                widths=tuple(map(len, active)), examples=self.examples, convolution=self.convolution
            )
            found.append(Subfamily(family, weights, (*weights, *range(n, n + data))))
        cut = (self.widths[0], *(0 for _ in self.widths[1:-1]), self.widths[-1])
        found.append(Subfamily(DeepLinearFamily(widths=cut, examples=self.examples), (), ()))
        return tuple(found)

    @property
    def start_pairs_suffice(self) -> bool:
        """True: every equation has its own lambda.

        Where the weights of a zero pattern are not zero, their equations give lambda as a function of W, X and
        Y, so that the pairs form a graph, which is irreducible and of the dimension of the parameters. The
        equation of a weight that is zero does not contain its lambda: where it does not vanish for all W, X
        and Y of the pattern, it cuts the graph down, and generic parameters have no such solution. It
        vanishes where one end of the weight has no path to the inputs or to the outputs, and then isolated
        solutions belong to a sub-network.
        """
        return True

    def bezout_number(self) -> int:
        """Return (2H + 1)^N: every equation has degree 2H + 1."""
        return (2 * len(self._shapes) - 1) ** self._sizes[0] if self._shapes else 1

    def bounds(self) -> Mapping[str, float]:
        """Return bounds and expected counts.

        ``CBB``
            Classical Bezout bound (2H + 1)^N.
        ``B_C``, ``B_C_torus``
            For one hidden layer of d units and one example: bounds (4 dy + 1)^d on all isolated complex
            solutions and (4 dy)^d on those without zero coordinates (arXiv:2301.12651).
        ``dedieu_malajovich``
            sqrt(2) (2H + 1)^((N + 1) / 2), which bounds the expected number of real critical points of a
            random polynomial of degree 2H + 2 in N unknowns (Dedieu and Malajovich 2008); for comparison, it
            is no bound on this family.
        """
        hidden, n = len(self.widths) - 2, self._sizes[0]
        found = {"CBB": float(self.bezout_number())}
        if hidden == 1 and self.examples == 1 and self.convolution is None:
            units, outputs = self.widths[1], self.widths[2]
            found["B_C"] = float((4 * outputs + 1) ** units)
            found["B_C_torus"] = float((4 * outputs) ** units)
        found["dedieu_malajovich"] = float(np.sqrt(2.0) * (2.0 * hidden + 1.0) ** ((n + 1) / 2))
        return found

    def description(self) -> Mapping[str, int | str]:
        """Return H hidden layers of d units each, dx inputs, dy outputs, m examples, and the convolution if any.

        d lists the widths, as ``"2, 3"``, where hidden layers differ.
        """
        hidden = self.widths[1:-1]
        units = hidden[0] if len(set(hidden)) == 1 else ", ".join(map(str, hidden))
        told: dict[str, int | str] = {
            "H": len(hidden),
            "d": units,
            "dx": self.widths[0],
            "dy": self.widths[-1],
        }
        told["m"] = self.examples
        if self.convolution is not None:
            told["convolution"] = "width {}, stride {}".format(*self.convolution)
        return told

    def conjectured_counts(self) -> Mapping[str, int]:
        """Return what was observed for one hidden layer of d units and one example, in every case that was tried.

        ``N_C_torus`` is 4^d binomial(dy, d), ``N_C`` the sum over r of binomial(d, r) binomial(dy, r) 4^r: a
        sub-network of r units for each of its binomial(d, r) choices. That there are no more is proved
        (:meth:`solution_bound`); that there are as many is where as many are certified.
        """
        if not self._one_example_suffices():
            return {}
        units, outputs = self.widths[1], self.widths[2]
        whole = sum(comb(units, r) * comb(outputs, r) * 4**r for r in range(units + 1))
        return {"N_C": whole, "N_C_torus": comb(outputs, units) * 4**units}

    def degeneracy(self, p: NDArray[np.complex128] | NDArray[np.float64]) -> str:
        """Return which hidden units a continuous symmetry scales or mixes, if any.

        A matrix G acts on a hidden layer: the weights into it change by G W_l, those out of it by -W_{l+1} G, and
        the output does not change. For units i and j with the lambda a_k, b_k of the weights into them and c_r, e_r
        of those out of them, the regularisation does not change either when a_k G_ij + b_k G_ji = 0 for all k and
        e_r G_ij + c_r G_ji = 0 for all r; for i = j, when all lambda of the unit are zero. Then a solution where
        these units are in use lies on a curve of solutions. So does every solution where more weights into (or out of)
        one unit have lambda of zero than the layers before (or after) let through.
        """
        if not self._shapes:
            return ""
        lam = np.asarray(p)[: self._sizes[0]]
        blocks = [
            lam[start : start + rows * columns].reshape(rows, columns)
            for start, (rows, columns) in zip(self._own_starts, self._own_shapes, strict=False)
        ]
        for layer, (into, out) in enumerate(pairwise(blocks), 1):
            shared = layer == 1 and self.convolution is not None
            for i in range(len(into)):
                own = out if shared else out[:, i]
                if not into[i].any() and not own.any():
                    which = "the convolution" if shared else f"hidden unit {i + 1} of layer {layer}"
                    return (
                        f"all lambda of the weights into and out of {which} are zero: scale the ones up and the "
                        f"others down, and the loss stays as it is"
                    )
            for i, j in () if shared else combinations(range(len(into)), 2):
                first = np.concatenate([into[i], out[:, j]])
                second = np.concatenate([into[j], out[:, i]])
                minors = np.outer(first, second) - np.outer(second, first)
                size = max(np.abs(first).max(), np.abs(second).max())
                if np.abs(minors).max() <= 1e-14 * size**2:
                    return (
                        f"the lambda of the weights into and out of hidden units {i + 1} and {j + 1} of layer {layer} "
                        f"are tied, so that the two can be mixed, as by a rotation, and the loss stays as it is"
                    )
        return self._unseen(blocks, self._split(np.asarray(p)[None])[1][0])

    def _unseen(self, blocks: list[NDArray[Any]], x: NDArray[Any]) -> str:
        """Return which weights can be changed together while neither the output nor the regularisation changes.

        Weights into one unit whose lambda are zero, more of them than what comes in has dimensions, and weights out of
        one unit, more than what comes after lets through.
        """
        rank = int(np.linalg.matrix_rank(x)) if x.any() else 0
        for number, lam in enumerate(blocks, 1):
            if number == 1 and self.convolution is not None:
                continue
            into = [np.flatnonzero(row == 0) for row in lam]
            for unit, free in enumerate(into, 1):
                # The rank of what comes in, as far as these weights see it.
                seen = min(rank, *self.widths[:number])
                if number == 1 and free.size:
                    seen = int(np.linalg.matrix_rank(x[free])) if x[free].any() else 0
                if free.size > seen:
                    return (
                        f"{free.size} weights into unit {unit} of layer {number} have lambda of zero, and what comes "
                        f"in has only {seen} dimensions: they can be changed together, and the loss stays as it is"
                    )
            let_through = min(self.widths[number + 1 :], default=len(lam))
            for unit, column in enumerate(lam.T, 1):
                many = int((column == 0).sum())
                if many > let_through:
                    return (
                        f"{many} weights out of unit {unit} of layer {number - 1} have lambda of zero, and only "
                        f"{let_through} dimensions reach the output: they can be changed together, and the loss stays "
                        f"as it is"
                    )
        return ""

    def zero_pattern(self, nonzero: NDArray[np.bool_]) -> str:
        """Write the pattern layer by layer, rows separated by ``/``: ``W1 **/00 W2 *0/*0``."""
        layers = []
        for number, (start, (rows, columns)) in enumerate(
            zip(self._own_starts, self._own_shapes, strict=False), 1
        ):
            flags = nonzero[start : start + rows * columns].reshape(rows, columns)
            layers.append(f"W{number} " + "/".join("".join("*" if f else "0" for f in row) for row in flags))
        return " ".join(layers)

    def _one_example_suffices(self) -> bool:
        """Return whether there is one hidden layer, and data that one example can stand for.

        With one input the gradient depends on X X^T, a number, and on Y X^T: those of one example, of complex numbers.
        """
        return len(self.widths) == 3 and min(self.examples, self.widths[0]) == 1 and self.convolution is None

    def solution_bound(self) -> int:
        r"""Return a proved upper bound on the number of isolated solutions of any member.

        For one hidden layer of d units and one example it is the sum over q of
        :math:`\binom{d}{q} \binom{d_y}{q} 4^q`, and so it is with one input and any number of examples, which one
        example can stand for. Else it is Bezout's.

        The proof, for generic parameters. Let h be the activations, r = V h - y the residual, :math:`\lambda` and
        :math:`\mu` the regularisation of W and V, and :math:`c_i = \sum_j x_j^2 / \lambda_{ij}`. The equations say
        :math:`V_{ki} = -r_k h_i / \mu_{ki}`, and that :math:`h_i \ne 0` requires
        :math:`\sum_k r_k^2 / \mu_{ki} = 1 / c_i`, while the weights of a unit with :math:`h_i = 0` vanish. Let
        q units be active, and :math:`H_i = h_i^2`. Then :math:`r_k = -y_k / L_k` with the affine function
        :math:`L_k = 1 + \sum_i H_i / \mu_{ki}`, and the weights are given by H and the q signs. What
        remains are q equations in the q numbers H, quadratic in :math:`u_k = 1 / L_k`:
        :math:`\sum_k (y_k^2 / \mu_{ki}) u_k^2 = 1 / c_i`. The closure of the points (1, u) in projective space is a
        reciprocal linear space; it has dimension q and degree :math:`\binom{d_y}{q}` (Proudfoot and Speyer, A broken
        circuit ring, Beitraege Algebra Geom. 47 (2006): the number of broken-circuit bases, here of
        :math:`d_y + 1` vectors in general position in q + 1 dimensions). By Bezout's theorem q quadrics meet it in at
        most :math:`2^q \binom{d_y}{q}` isolated points, each of which stands for :math:`2^q` solutions. Where
        q exceeds dy, some direction of H changes no u, so that no solution is isolated.

        Special members have no more isolated solutions than generic ones, since as many equations as unknowns are
        given (Morgan and Sommese, Coefficient-parameter polynomial continuation, Appl. Math. Comput. 29 (1989)).
        """
        if not self._one_example_suffices():
            return self.bezout_number()
        units, outputs = self.widths[1], self.widths[2]
        return min(
            self.bezout_number(), sum(comb(units, q) * comb(outputs, q) * 4**q for q in range(units + 1))
        )

    def solution_bound_reason(self) -> str:
        """Return one sentence that says why :meth:`solution_bound` holds."""
        if self.solution_bound() < self.bezout_number():
            return (
                "for one hidden layer of d units and one example, the sum of binomial(d, q) binomial(dy, q) 4^q over "
                "the numbers q of active units, each of which leaves q quadrics on a reciprocal linear space of "
                "degree binomial(dy, q)."
            )
        return super().solution_bound_reason()

    def written_out(
        self, p: NDArray[np.complex128] | NDArray[np.float64]
    ) -> tuple[PolynomialFamily, NDArray[np.complex128] | NDArray[np.float64]]:
        """Return the family in monomials, and `p`."""
        return self.expanded(), p

    def expanded(self) -> PolynomialFamily:
        """Return the same family written out in monomials; :class:`DeepLinear` keeps the notation."""
        return _expanded(evolve(self, once=()))

    def system(self, p: NDArray[np.complex128] | NDArray[np.float64]) -> PolynomialSystem:
        """Return the member with parameters `p` of shape (M,), written out in monomials."""
        values = np.asarray(p).reshape(-1)
        if len(values) != sum(self._sizes):
            raise PolynomialError(f"there are {sum(self._sizes)} parameters, got {len(values)}.")
        return self.expanded().at(values)


def _expanded(family: DeepLinearFamily) -> PolynomialFamily:
    """Write the loss out and differentiate it; products of matrices of names become sums of paths."""
    unknowns, parameters = family.unknown_names, family.parameter_names
    widths, m = family.widths, family.examples
    width, stride = family.convolution or (0, 0)

    def name(layer: int, row: int, column: int) -> str:
        if layer == 1 and family.convolution is not None:
            return f"w1_1_{column - (row - 1) * stride}"
        return f"w{layer}_{row}_{column}"

    terms = [f"1/2*lambda{w[1:]}*{w}^2" for w in unknowns]
    for example in range(1, m + 1):
        for out in range(1, widths[-1] + 1):
            paths = [
                "*".join(
                    [name(layer, b, a) for layer, (a, b) in enumerate(pairwise(path), 1)]
                    + [f"x_{path[0]}_{example}"]
                )
                for path in product(*(range(1, width + 1) for width in widths[:-1]), (out,))
                if family.convolution is None or 1 <= path[0] - (path[1] - 1) * stride <= width
            ]
            terms.append(f"1/2*({' + '.join(paths)} - y_{out}_{example})^2")
    return PolynomialFamily.gradient(" + ".join(terms), unknowns, parameters)
