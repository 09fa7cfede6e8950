"""Traces, diagonals and spectral densities from products with random vectors, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe, Uncertainty
from landscape.validators import at_least, between, number, of_type, one_of, optional
from landscape_hessian.operators import Kind, operator_at, prefix_of, rademacher, together, valid_kind

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import CurvatureOperator, Layout, Point

__all__ = ["CurvatureDensity", "CurvatureDiagonal", "CurvatureTrace", "xtrace"]


@frozen
class CurvatureTrace(Probe):
    r"""The trace of the Hessian, or of another matrix of second order, with its standard error.

    ``"hutchinson"``: the mean over S vectors z of random signs,

    .. math:: \operatorname{tr} A \approx \frac1S \sum_s z_s^\top A z_s, \qquad
              \operatorname{Var}(z^\top A z) = 2 \sum_{i \ne j} A_{ij}^2 .

    For the whole trace, :math:`z^\top A z` is computed without A z, at about half the cost
    (:meth:`landscape.objective.CurvatureOperator.quadratic_forms`); products give the trace of every layer's diagonal
    block as well, :math:`z_l \cdot (A z)_l`. ``"xtrace"``
    spends half of the products on a basis of the leading eigenspace, in which the trace is exact, and uses every
    vector for both (Epperly, Tropp & Webber 2024): better the faster the spectrum falls off. On the indefinite
    Hessian of a perceptron with 1,482 weights, 99 products left 2 % of error with signs and 1.2 % with XTrace, 30
    products 4.5 % and 4.3 %. Its standard error, the jackknife's, is too large rather than too small, up to four times
    what the estimates scatter by (:func:`xtrace`). A landscape of no more weights than `samples` has its trace exactly,
    by a product for each, with a standard error of 0.

    Signs are the default since their products are independent: a few at a time, until the standard error is small
    enough, and for every layer at once. XTrace must be told beforehand how many products there will be, holds half as
    many vectors of P numbers in float64, and gains where some ten eigenvalues are most of the trace.

    Columns ``hessian_trace`` (``gauss_newton_trace`` ...), and with `per_layer` ``hessian_trace_<layer>``; each with
    its standard error; ``hessian_trace_products``, what it cost. A layer named ``products`` has the column
    ``hessian_trace_products_``.

    Parameters
    ----------
    samples
        Products, at most. 30 leave about 5 % (see above).
    relative_error
        Stop when the standard error is at most this times the trace, with ten samples at least, so that the standard
        error is itself known to a quarter; it is looked at every few samples after that. With signs only. Where
        `samples` do not suffice, there is a warning.
        None takes all samples.
    method
        ``"hutchinson"`` or ``"xtrace"``.
    per_layer
        Whether every layer has a column; with signs only.
    kind
        Which matrix: see :class:`landscape.objective.CurvatureOperator`.
    examples
        See :class:`~landscape_hessian.spectrum.HessianSpectrum`.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> x = torch.diag(torch.tensor([2.0, 1.0]))  # L = (4 w1^2 + w2^2) / 2
    >>> landscape = ls.Landscape(torch.nn.Linear(2, 1, bias=False), "mse", (x, torch.zeros(2, 1)))
    >>> ls.Point(landscape, landscape.initial()).measure("CurvatureTrace").scalars["hessian_trace"]
    5.0
    """

    samples: int = field(default=30, validator=at_least(2))
    relative_error: float | None = field(default=None, validator=optional(number(above=0)))
    method: Literal["hutchinson", "xtrace"] = field(
        default="hutchinson", validator=one_of(("hutchinson", "xtrace"))
    )
    per_layer: bool = field(default=False, validator=of_type(bool, "True or False"))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "M. F. Hutchinson. A stochastic estimator of the trace of the influence matrix for Laplacian smoothing "
        "splines. Communications in Statistics 18 (1989) 1059-1076.",
        "E. N. Epperly, J. A. Tropp, R. J. Webber. XTrace: making the most of every sample in stochastic trace "
        "estimation. SIAM J. Matrix Anal. Appl. 45 (2024) 1-23.",
        "B. Efron, C. Stein. The jackknife estimate of variance. Annals of Statistics 9 (1981) 586-596.",
    )

    def __attrs_post_init__(self) -> None:
        if self.method == "xtrace" and self.per_layer:
            raise ConfigurationError(
                "CurvatureTrace(method='xtrace', per_layer=True): a basis of the whole matrix says nothing of one "
                "layer's; give method='hutchinson'."
            )
        if self.method == "xtrace" and self.relative_error is not None:
            raise ConfigurationError(
                f"CurvatureTrace(method='xtrace', relative_error={self.relative_error}): XTrace takes all its samples "
                "at once; give method='hutchinson', or samples alone."
            )
        if self.method == "xtrace" and self.samples < 4:
            raise ConfigurationError(
                f"CurvatureTrace(samples={self.samples}): XTrace needs 4 products for two estimates; give 4 or more."
            )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the trace and its standard error.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss or gradient is not finite here.
        """
        import numpy as np

        operator = operator_at(point, self.kind, self.examples, "CurvatureTrace")
        size, name = operator.shape[0], f"{prefix_of(self.kind)}_trace"
        products, warnings = self.samples, tuple[str, ...]()
        if self.method == "xtrace":
            # With as many products as there are weights, nothing need be estimated.
            exact = size <= self.samples
            value, error = (
                (_whole_trace(operator), 0.0)
                if exact
                else xtrace(operator.matmat, size, self.samples, generator, operator.dtype, operator.device)
            )
            products = size if exact else 2 * (self.samples // 2)
            means, errors = {name: value}, {name: Uncertainty(error, "standard error")}
        else:
            layers = _layers(operator.layout) if self.per_layer else {}
            columns = _columns_of(layers, name)
            found: dict[str, list[float]] = {name: [], **{column: [] for column in columns.values()}}
            while len(found[name]) < self.samples and not self._precise(found[name]):
                more = self.samples - len(found[name])
                if self.relative_error is not None:
                    # No look at the standard error before it can be believed, and none later than need be.
                    more = min(more, max(_FEWEST - len(found[name]), together(size, operator)))
                if not layers:
                    found[name] += _forms(operator, more, generator)
                    continue
                for sample in _samples(operator, more, generator):
                    terms = sample.double()
                    found[name].append(float(terms.sum()))
                    for layer, places in layers.items():
                        found[columns[layer]].append(sum(float(terms[place].sum()) for place in places))
            means = {key: float(np.mean(values)) for key, values in found.items()}
            errors = {key: _standard_error(np.array(values)) for key, values in found.items()}
            products = len(found[name])
            if self.relative_error is not None and not self._precise(found[name]):
                warnings = (
                    f"{name} has a standard error of more than relative_error={self.relative_error} of it after all "
                    f"{self.samples} samples. Allow more samples.",
                )
        return Measurement(
            scalars={**means, f"{name}_products": float(products)}, errors=errors, warnings=warnings
        )

    def _precise(self, values: list[float]) -> bool:
        """Whether so many samples have the relative error that was asked for."""
        import numpy as np

        if self.relative_error is None or len(values) < min(_FEWEST, self.samples):
            return False
        found = np.array(values)
        return _standard_error(found).value <= self.relative_error * abs(float(found.mean()))


#: Samples before a standard error is believed: that of ten is off by 1 / sqrt(18) = 24 % (of normal variables).
_FEWEST = 10


def _forms(operator: CurvatureOperator, count: int, generator: torch.Generator) -> list[float]:
    """Return z . A z for `count` vectors z of random signs; a few are taken together."""
    found: list[float] = []
    for signs in _signs(operator, count, generator):
        found += operator.quadratic_forms(signs.T).tolist()
    return found


def _samples(operator: CurvatureOperator, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield z * A z for `count` vectors z of random signs, each of shape (P,); a few are multiplied together."""
    for signs in _signs(operator, count, generator):
        yield from signs * operator.matmat(signs.T).T


def _signs(operator: CurvatureOperator, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `count` vectors of random signs, a few at a time, as rows."""
    import torch

    size = operator.shape[0]
    groups = -(-count // together(size, operator))
    for low, high in pairwise(count * group // groups for group in range(groups + 1)):
        yield torch.stack([rademacher(size, generator, operator) for _ in range(high - low)])


def _standard_error(values: np.ndarray) -> Uncertainty:
    return Uncertainty(float(values.std(ddof=1) / len(values) ** 0.5), "standard error")


def _whole_trace(operator: CurvatureOperator) -> float:
    """Return the sum of the diagonal, by a product for every weight, a few at a time."""
    import torch

    size, total = operator.shape[0], 0.0
    step = together(size, operator)
    for low in range(0, size, step):
        columns = torch.zeros(size, min(step, size - low), dtype=operator.dtype, device=operator.device)
        columns[low : low + step].fill_diagonal_(1)
        total += float(operator.matmat(columns)[low : low + step].diagonal().double().sum())
    return total


def _columns_of(layers: Iterable[str], name: str) -> dict[str, str]:
    """Return the column of every layer's trace; one that is another's name already has underscores after it."""
    taken, columns = {name, f"{name}_products"}, dict[str, str]()
    for layer in layers:
        column = f"{name}_{layer}"
        while column in taken:
            column += "_"
        taken.add(column)
        columns[layer] = column
    return columns


def _layers(layout: Layout) -> dict[str, list[slice]]:
    """Return where the weights of every module stand, by the module's name."""
    layers: dict[str, list[slice]] = {}
    for name, place in layout.slices.items():
        layers.setdefault(name.rpartition(".")[0] or name, []).append(place)
    return layers


def xtrace(
    matmat: Callable[[Tensor], Tensor],
    size: int,
    products: int,
    generator: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[float, float]:
    r"""Return XTrace's estimate of a trace, and a standard error that is not too small on average.

    The estimate is the mean of n = products // 2 others. Each is exact in the range of all test vectors' products but
    one, and uses that one for the rest; the leave-one-out bases come from one QR decomposition (Epperly, Tropp & Webber
    2024, sec. 2.2 and 3.1). Test vectors are uniform on the sphere, and their parts outside of the basis are scaled to
    the length that they have on average.

    These n share their test vectors, so that the standard deviation over them divided by :math:`\sqrt n`, which the
    paper gives, is too small: over 1,000 runs each, the estimates' spread was 1.1 to 1.4 times that for spectra of 60
    to 300 eigenvalues, flat and falling, and 10 to 80 products. What is returned is the jackknife's,

    .. math:: \mathrm{SE}^2 = \sum_j \Bigl(X_{(j)} - \frac1n \sum_i X_{(i)}\Bigr)^2,

    with :math:`X_{(j)}` the estimate without the j-th test vector. By the inequality of Efron & Stein (1981), its mean
    is at least the variance of the estimate from n - 1 vectors, whatever the matrix, and that of n is smaller. Hence
    it is too large as a rule: the spread was 0.9 of it for a few outliers in a flat spectrum, 0.7 for a flat one, 0.6
    to 0.4 for eigenvalues 1/i, 1/i\ :sup:`2` and 0.8\ :sup:`i`, and 0.3 for 0.6\ :sup:`i`.

    Parameters
    ----------
    matmat
        The product of a symmetric matrix with columns, (P, n) to (P, n).
    size
        P, more than `products`.
    products
        How many columns are multiplied in all, at least 4.
    generator, dtype, device
        Source of the test vectors, and where they are multiplied.

    Returns
    -------
    estimate, error
        Where the products span the whole range of the matrix, the trace is exact, and the error is 0.
    """
    import torch

    count = products // 2
    drawn = torch.randn(size, count, generator=generator, device=generator.device, dtype=torch.float32).to(
        device
    )
    test = drawn.double() * (size**0.5 / torch.linalg.vector_norm(drawn.double(), dim=0))
    image = matmat(test.to(dtype)).double()
    basis, triangle = torch.linalg.qr(image)
    moved = matmat(basis.to(dtype)).double()
    if bool((torch.diagonal(triangle).abs() <= 1e-12 * torch.diagonal(triangle).abs().max()).any()):
        return float((basis * moved).sum()), 0.0
    inverse = torch.linalg.inv(triangle).T
    # In the basis, orthogonal to all images but one.
    left_out = inverse / torch.linalg.vector_norm(inverse, dim=0)
    core = basis.T @ moved
    core = (core + core.T) / 2
    inside = basis.T @ test

    # Without the images i and j the basis loses the plane of l_i and l_j; where i = j, the line of l_i. For a test
    # vector w, Q^T w in the basis, the part within what is left is y = Q^T w - u with u the part in that plane, and
    # (w - Q y)^T A (w - Q y) = w^T A w - 2 y^T Q^T A w + y^T core y. Rows are j, columns i.
    def along(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=0)

    alone = torch.eye(count, dtype=torch.bool, device=device)
    angle = (left_out.T @ left_out).masked_fill(alone, 0.0)
    sine = 1 - angle**2
    curved = left_out.T @ core @ left_out
    own = curved.diagonal()
    between = curved.masked_fill(alone, 0.0)
    other = own[:, None].expand_as(curved).masked_fill(alone, 0.0)
    cross, bent = left_out.T @ inside, left_out.T @ (core @ inside)
    share, turned, coupled = cross.diagonal(), bent.diagonal(), along(left_out, triangle)
    second = cross.masked_fill(alone, 0.0)
    first_part, second_part = (share - angle * second) / sine, (second - angle * share) / sine
    removed = (own + other - 2 * angle * between) / sine
    length = size - along(inside, inside) + first_part * share + second_part * second
    outer = (
        along(inside, core @ inside)
        - along(inside, triangle)
        + 2 * first_part * coupled
        - 2 * (first_part * turned + second_part * bent.masked_fill(alone, 0.0))
        + first_part**2 * own
        + 2 * first_part * second_part * between
        + second_part**2 * other
    )
    left = torch.where(alone, count - 1, count - 2)
    estimates = torch.trace(core) - removed + outer * (size - left) / length
    without = estimates.masked_fill(alone, 0.0).sum(dim=1) / (count - 1)
    error = torch.linalg.vector_norm(without - without.mean())
    return float(estimates.diagonal().mean()), float(error)


@frozen
class CurvatureDiagonal(Probe):
    r"""The diagonal of the Hessian, or of another matrix of second order, with standard errors.

    .. math:: A_{ii} \approx \frac1S \sum_s z_{s,i} (A z_s)_i, \qquad
              \operatorname{Var}(z_i (A z)_i) = \sum_{j \ne i} A_{ij}^2,

    with vectors z of random signs (Bekas, Kokiopoulou & Saad 2007). Entries whose row is small beside them are known
    well, others are not: read the standard errors.

    Columns ``hessian_diagonal_min``, ``_max`` (of the estimates) and ``_negative``, the share of entries that are
    negative by more than two standard errors. Arrays ``hessian_diagonal`` and ``hessian_diagonal_error``, shape
    (P,), in the order of the weights' vector.

    Parameters
    ----------
    samples
        Products. As for the trace; an entry is known less well than the sum of all.
    kind, examples
        See :class:`CurvatureTrace`.
    """

    samples: int = field(default=30, validator=at_least(2))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "C. Bekas, E. Kokiopoulou, Y. Saad. An estimator for the diagonal of a matrix. Applied Numerical "
        "Mathematics 57 (2007) 1214-1229.",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the diagonal and its standard errors.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss or gradient is not finite here.
        """
        import torch

        operator = operator_at(point, self.kind, self.examples, "CurvatureDiagonal")
        size, name = operator.shape[0], f"{prefix_of(self.kind)}_diagonal"
        mean = torch.zeros(size, dtype=torch.float64, device=operator.device)
        scatter = torch.zeros_like(mean)
        for count, sample in enumerate(_samples(operator, self.samples, generator), start=1):
            # Welford's update: no difference of large sums.
            difference = sample.double() - mean
            mean += difference / count
            scatter += difference * (sample - mean)
        error = (scatter / (self.samples * (self.samples - 1))).sqrt()
        return Measurement(
            scalars={
                f"{name}_min": float(mean.min()),
                f"{name}_max": float(mean.max()),
                f"{name}_negative": float((mean < -2 * error).double().mean()),
            },
            arrays={name: mean.cpu().numpy(), f"{name}_error": error.cpu().numpy()},
        )


@frozen
class CurvatureDensity(Probe):
    r"""The spectral density of the Hessian, or of another matrix of second order, with its standard error.

    Stochastic Lanczos quadrature (Lin, Saad & Yang 2016; Ghorbani, Krishnan & Xiao 2019): from each of S vectors of
    random signs, a Lanczos run with full reorthogonalisation (:mod:`landscape_hessian.quadrature`) gives nodes
    :math:`t_{si}` and weights :math:`w_{si}`, and

    .. math:: \rho(t) \approx \frac1S \sum_{s,i} w_{si}\, \frac{1}{\sigma\sqrt{2\pi}}
              \exp\Bigl(-\frac{(t - t_{si})^2}{2\sigma^2}\Bigr)

    is the density, 1 in all, smoothed by :math:`\sigma`. Its standard error is that of the mean over the S runs.
    Moments up to degree 2 steps - 1 are exact for each vector; hence the trace. What the nodes cannot resolve is
    bracketed: the share of eigenvalues below t lies, for each run, between the weights of the nodes that are
    certainly below and possibly below.

    Columns ``hessian_density_negative``, the share of eigenvalues below minus `zero` times the radius, and
    ``hessian_density_zero``, the share within; with standard errors, and with ``_low`` and ``_high``, the bracket.
    Where all runs say the same, such as 0, for want of nodes that would tell the vectors apart, half of the bracket
    stands in for the standard error, with a warning;
    ``hessian_density_trace``, with its standard error; ``hessian_density_products``. Arrays
    ``hessian_density_grid``, ``hessian_density`` and ``hessian_density_error``, shape (512,);
    ``hessian_density_nodes`` and ``hessian_density_weights``, shape (S, steps), padded by nodes of weight zero where
    a run ended early.

    Parameters
    ----------
    samples
        S. Small for large networks, whose spectra differ little between vectors (Ghorbani et al. used 10; the
        standard error says whether it was enough).
    steps
        Products per vector. 80 left 1e-3 of the range between the nodes and the exact spectrum of a perceptron of
        1,482 weights (first Wasserstein distance, 10 vectors). Memory is this times P; runs that take 2 GiB together
        share their products.
    width
        :math:`\sigma` in units of the range of the nodes.
    zero
        Eigenvalues within this times the largest absolute node count as zero.
    kind, examples
        See :class:`CurvatureTrace`.
    """

    samples: int = field(default=4, validator=at_least(2))
    steps: int = field(default=80, validator=at_least(2))
    width: float = field(default=0.01, validator=number(above=0))
    zero: float = field(default=1e-3, validator=between(0, 1))
    kind: Kind = field(default="hessian", validator=valid_kind)
    examples: int | None = field(default=None, validator=optional(at_least(1)))

    references: ClassVar[tuple[str, ...]] = (
        "L. Lin, Y. Saad, C. Yang. Approximating spectral densities of large matrices. SIAM Review 58 (2016) 34-65.",
        "B. Ghorbani, S. Krishnan, Y. Xiao. An investigation into neural net optimization via Hessian eigenvalue "
        "density. ICML 2019.",
    )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the density and its standard error.

        Raises
        ------
        landscape.errors.ConfigurationError
            When `examples` is more than there are.
        landscape.errors.NonFiniteLossError
            When loss, gradient or a product is not finite here.
        """
        import numpy as np

        from landscape_hessian.quadrature import LanczosRun, extend_together

        operator = operator_at(point, self.kind, self.examples, "CurvatureDensity")
        size, name = operator.shape[0], f"{prefix_of(self.kind)}_density"
        nodes, weights, products = (
            np.zeros((self.samples, self.steps)),
            np.zeros((self.samples, self.steps)),
            0,
        )
        bases = max(1, _BASES // (size * self.steps * operator.dtype.itemsize))
        groups = -(-self.samples // min(bases, together(size, operator)))
        for low, high in pairwise(self.samples * group // groups for group in range(groups + 1)):
            runs = [
                LanczosRun(operator.matvec, rademacher(size, generator, operator)) for _ in range(low, high)
            ]
            extend_together(runs, operator.matmat, self.steps)
            for s, run in enumerate(runs, start=low):
                nodes[s, : run.steps], weights[s, : run.steps] = run.rule()
                nodes[s, run.steps :] = nodes[s, run.steps - 1]  # of weight zero
                products += run.steps
        radius = float(np.abs(nodes).max())
        spread = float(nodes.max() - nodes.min()) or max(radius, 1.0)
        sigma = self.width * spread
        grid = np.linspace(nodes.min() - 4 * sigma, nodes.max() + 4 * sigma, _POINTS)
        curves = np.stack([_smooth(grid, t, w, sigma) for t, w in zip(nodes, weights, strict=True)])
        scalars, errors = {f"{name}_products": float(products)}, dict[str, Uncertainty]()
        warnings: list[str] = []
        edge = self.zero * radius
        below, zero = _shares(nodes, weights, -edge, "left"), _shares(nodes, weights, edge, "right")
        for column, low, middle, high in (
            (f"{name}_negative", *below),
            # What is within is at the upper edge or below, and not below the lower one.
            (f"{name}_zero", zero[0] - below[2], zero[1] - below[1], zero[2] - below[0]),
        ):
            scalars[column] = float(middle.mean())
            errors[column] = _standard_error(middle)
            unresolved = float((high - low).mean())
            if errors[column].value <= _RESOLVED * unresolved:
                # All runs agree for want of nodes there, not for knowledge.
                errors[column] = Uncertainty(unresolved / 2, "standard error")
                warnings.append(
                    f"{column} is not resolved: all vectors say the same for want of nodes there. Its error is half of "
                    f"what lies between {column}_low and {column}_high, {unresolved:.2g} of the spectrum; take more "
                    "steps."
                )
            scalars[f"{column}_low"] = float(np.clip(low.mean(), 0, 1))
            scalars[f"{column}_high"] = float(np.clip(high.mean(), 0, 1))
        traces = size * (nodes * weights).sum(axis=1)
        scalars[f"{name}_trace"], errors[f"{name}_trace"] = float(traces.mean()), _standard_error(traces)
        return Measurement(
            scalars=scalars,
            errors=errors,
            arrays={
                f"{name}_grid": grid,
                name: curves.mean(axis=0),
                f"{name}_error": curves.std(axis=0, ddof=1) / self.samples**0.5,
                f"{name}_nodes": nodes,
                f"{name}_weights": weights,
            },
            warnings=tuple(warnings),
        )


#: Bytes that the vectors of Lanczos runs may take for these to go on together rather than one after the other.
_BASES = 2 * 1024**3
#: A standard error of a share below this times what its bracket leaves open is none.
_RESOLVED = 1e-6
#: Points of the grid on which a density is given.
_POINTS = 512


def _smooth(grid: np.ndarray, nodes: np.ndarray, weights: np.ndarray, sigma: float) -> np.ndarray:
    import numpy as np

    bells = np.exp(-0.5 * ((grid[:, None] - nodes) / sigma) ** 2) @ weights
    density: np.ndarray = bells / (sigma * (2 * np.pi) ** 0.5)
    return density


def _shares(
    nodes: np.ndarray, weights: np.ndarray, level: float, side: Literal["left", "right"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of each run's spectrum below `level`: the least it can be, by the nodes, the most.

    What is at the level counts for the side "right", and does not for "left".
    """
    import numpy as np

    low, middle, high = [], [], []
    for t, w in zip(nodes, weights, strict=True):
        below = int(np.searchsorted(t, level, side))
        cumulated = np.concatenate([[0.0], np.cumsum(w)])
        low.append(cumulated[max(below - 1, 0)])
        middle.append(cumulated[below])
        high.append(cumulated[min(below + 1, len(w))])
    return np.array(low), np.array(middle), np.array(high)
