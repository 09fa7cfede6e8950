"""Eigenvalues of the covariance of gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe
from landscape.validators import at_least, of_type, optional

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import Data, Landscape, Point
    from landscape_covariance.gradients import Draw, Gradients

__all__ = ["GradientCovariance", "Sample", "eigenpairs"]

#: Eigenvectors are combined by a backward pass each where there are so many times as many examples.
_PASSES = 4
#: An eigenvalue that is so many units of rounding of the largest has a vector to one part in so many.
_CLEAR = 1e4


@frozen(eq=False)
class Sample:
    """What is known of the gradients of drawn batches.

    Attributes
    ----------
    draws
        Examples of the batches.
    gradients
        The gradients themselves; None where inputs and outputs of the layers stood for them.
    weights
        How much they count, shape (L,), float64: ones, but for examples that count differently.
    gram
        Their products over L, weighed and about their mean where that is asked for, shape (L, L), float64.
    along
        Their products with given vectors, likewise, shape (L, j), float64.
    warnings
        What is to be said about how they were had.
    """

    draws: Sequence[Draw]
    gradients: Gradients | None
    weights: Tensor
    gram: np.ndarray
    along: np.ndarray
    warnings: tuple[str, ...]

    @property
    def finite(self) -> bool:
        """Whether all products are numbers."""
        import numpy as np

        return bool(np.isfinite(self.gram).all() and np.isfinite(self.along).all())


@frozen
class GradientCovariance(Probe):
    r"""Eigenvalues of the covariance of mini-batch (or single-example) gradients.

    With the gradients :math:`g_1, \dots, g_L` of L batches, their mean :math:`\bar g`, and the matrix

    .. math:: K = \frac1L \sum_{l=1}^L (g_l - \bar g)(g_l - \bar g)^T,

    of shape (P, P), the non-zero eigenvalues of K are those of the L x L Gram matrix
    :math:`G_{ij} = (g_i - \bar g) \cdot (g_j - \bar g) / L`, at most L - 1 of them. It divides by L, so that K
    is the covariance of the uniform distribution over these L gradients; multiply by L/(L-1) for the unbiased
    estimate of the covariance over all possible batches. With ``centred=False``, :math:`\bar g` is left out
    everywhere: the second moment, of rank up to L. G is summed in float64.

    The batches are drawn by the measurement's own generator: without replacement within a batch, and each
    batch independently of the others, as in the theory of stochastic gradient noise; they may share examples.
    The penalty of the landscape adds the same vector to every gradient. In a landscape with a group of processes, each
    process draws `batch_size` of its own examples for every batch.

    With `per_example` the L gradients are those of single examples, which may count differently in the loss: by
    weights :math:`w_l` that are zero for ignored targets, those of classes, the tokens of a sequence. Then

    .. math:: K = \frac1L \sum_{l=1}^L \Big(\frac{w_l}{\bar w}\Big)^2 (g_l - \bar g)(g_l - \bar g)^T, \qquad
              \bar g = \frac{\sum_l w_l g_l}{\sum_l w_l},

    with the mean weight :math:`\bar w` of the L. K/B is the covariance of the gradient of a batch of B of them drawn
    with replacement, to the first order in 1/B: that gradient is a ratio, of the sum of :math:`w_l g_l` to that of
    :math:`w_l` (Cochran 1977, ch. 6; ``GradientNoiseScale`` says how good this is). With ``centred=False``, it is
    :math:`\sum_l w_l\, g_l g_l^T / \sum_l w_l`, the mean that the loss takes. For equal weights both are those
    above. On all examples, they are the matrices of ``point.curvature("covariance")`` and ``"second_moment"``.

    Columns ``covariance_eigenvalue_1`` .. ``_k``, largest first, and ``covariance_trace``, the sum of all,
    including those that have no column; ``covariance_stable_rank``, the trace over the largest eigenvalue. Array
    ``covariance_eigenvalues``: all that can be non-zero, shape (L - 1,) or (L,), or (P,) where that is smaller. With
    `vectors`, carried: ``eigenvectors``, shape (k, P), orthonormal, zeros where the eigenvalue is zero.

    Costs L batch gradients, and L vectors of P numbers. Where only R of these fit into `memory`, gradients are computed
    again, (n + 1)/2 times each for n = L/R, and once more for `vectors`; a warning says so. With `per_example`,
    networks of linear layers, convolutions, normalisation and embeddings cost about two gradients of L examples, and no
    vectors: the Gram matrix comes from the inputs and outputs of the layers, as long as these fit
    (:func:`landscape.objective.gram.example_gram` says which layers). Of weights in other places, the gradients of
    single examples are stacked, of these weights alone; of all weights where the layers do not do at all. With
    `vectors` and at most L/4 of them, each is one further backward pass of L examples, unless its eigenvalue is below
    1e4 units of rounding of the largest. For 512 examples of a perceptron with 17,610 weights, the eigenvalues took
    9 ms in place of 295 ms.

    Parameters
    ----------
    batches
        L, how many gradients. 25 is what the seed study used. With ``per_example=True``, how many examples:
        a second-order quantity of them, not of batches.
    batch_size
        Examples per batch. The covariance falls like 1/batch_size for small batches, so take the walker's for
        its noise. None takes 64, or a quarter of the data where that is less (a batch of all the data has no
        noise).
    centred
        Whether the mean gradient is subtracted.
    k
        How many columns; the array always has all eigenvalues. Five, as for the Hessian beside which they are
        read.
    per_example
        Gradients of L single examples, drawn without replacement, in place of those of L batches. Then
        `batch_size` is only how many are computed at once.
    vectors
        Whether eigenvectors are computed and carried.
    memory
        Bytes that gradients, or inputs and outputs of layers, may hold at once; at least two gradients are held. 2 GiB
        as for curvature operators. Eigenvectors, one gradient in float64 and pieces of 64 MiB come on top.

    Raises
    ------
    landscape.errors.ConfigurationError
        When measuring on data with fewer examples than one draw needs. With `per_example`: in a landscape with a
        group of processes; and when the gradients of examples do not make up that of their batch, because the loss
        compares examples or does not say how they count.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> x, y = torch.ones(4, 1), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> landscape = ls.Landscape(net, "mse", (x, y))  # gradients 2 (w - y): mean 2 w, variance 4
    >>> point = ls.Point(landscape, torch.zeros(1))
    >>> probe = ls.probes.GradientCovariance(batches=4, per_example=True, k=1)
    >>> {name: round(value, 3) for name, value in point.measure(probe).scalars.items()}
    {'covariance_eigenvalue_1': 4.0, 'covariance_trace': 4.0, 'covariance_stable_rank': 1.0}
    """

    batches: int = field(default=25, validator=at_least(1))
    batch_size: int | None = field(default=None, validator=optional(at_least(1)))
    centred: bool = field(default=True, validator=of_type(bool, "True or False"))
    k: int = field(default=5, validator=at_least(0))
    per_example: bool = field(default=False, validator=of_type(bool, "True or False"))
    vectors: bool = field(default=False, validator=of_type(bool, "True or False"))
    memory: int = field(default=2 * 1024**3, validator=at_least(1))

    references: ClassVar[tuple[str, ...]] = (
        "F. Dangel, L. Tatzel, P. Hennig. ViViT: curvature access through the generalized Gauss-Newton's low-rank "
        "structure. TMLR (2022).",
        "W. G. Cochran. Sampling techniques, 3rd edition, chapter 6: ratio estimators. Wiley (1977).",
    )

    def __attrs_post_init__(self) -> None:
        if self.centred and self.batches < 2:
            raise ConfigurationError(
                f"GradientCovariance(batches={self.batches}): about its own mean, one gradient does not vary; "
                "give 2 batches or more, or centred=False."
            )

    def measure(self, point: Point, generator: torch.Generator) -> Measurement:
        """Return the eigenvalues; draws the batches from `generator`."""
        import numpy as np

        landscape = point.landscape
        # A pass for every vector is dearer than stacking where they are many.
        layers = not self.vectors or self.k * _PASSES <= self.batches
        sample = self.sampled(point, generator, layers=layers)
        names = [f"covariance_eigenvalue_{i + 1}" for i in range(self.k)]
        rank = self.rank(landscape.size)
        if not sample.finite:
            return Measurement(
                scalars=dict.fromkeys([*names, "covariance_trace", "covariance_stable_rank"], math.nan),
                arrays={"covariance_eigenvalues": np.full(rank, np.nan)},
                warnings=sample.warnings
                or ("The covariance of gradients is unknown: a gradient is NaN or infinite here.",),
            )
        # Eigenvalues alone take a third of the time.
        values, coefficients = (
            eigenpairs(sample.gram, rank) if self.vectors else (eigenvalues(sample.gram, rank), None)
        )
        warnings: tuple[str, ...] = ()
        if self.k > len(values):
            warnings = (
                f"covariance_eigenvalue_i beyond i={len(values)} are zero whatever the landscape: "
                f"{self.batches} gradients of {landscape.size} weights have no more.",
            )
        scalars = {name: float(values[i]) if i < len(values) else 0.0 for i, name in enumerate(names)}
        trace = scalars["covariance_trace"] = float(np.trace(sample.gram))
        if trace > 0:
            scalars["covariance_stable_rank"] = trace / float(values[0])
        else:
            scalars["covariance_stable_rank"] = math.nan
            warnings += ("covariance_stable_rank is unknown: the covariance is zero here.",)
        carry = (
            {}
            if coefficients is None
            else {"eigenvectors": self._eigenvectors(point, sample, values, coefficients)}
        )
        return Measurement(
            scalars=scalars,
            arrays={"covariance_eigenvalues": values.copy()},
            warnings=warnings + sample.warnings,
            carry=carry,
        )

    def rank(self, size: int) -> int:
        """Return how many eigenvalues can be non-zero for so many weights."""
        return min(self.batches - self.centred, size)

    def require_possible(self, landscape: Landscape) -> None:
        """Refuse data with fewer examples than one draw needs, and examples that lie with several processes.

        Raises
        ------
        landscape.errors.ConfigurationError
            Naming both numbers, or the group.
        """
        from landscape.objective.examples import everywhere

        data = landscape.data
        if self.per_example and landscape.group is not None:
            raise ConfigurationError(
                "GradientCovariance(per_example=True) knows the examples of its own process only, and this landscape "
                "sums over those of a group. Measure on a landscape of all data without group=..., or take the "
                "gradients of batches, per_example=False: they are those of all processes together, batch_size "
                "examples of each."
            )
        needed = self.batches if self.per_example else self._batch_size(data)
        if not everywhere(landscape, needed <= data.examples):
            name = "batches" if self.per_example else "batch_size"
            raise ConfigurationError(
                f"GradientCovariance({name}={needed}) draws {needed} examples without replacement, but the data "
                f"has {data.examples}; give {name}={data.examples} or less"
                + ("." if landscape.group is None else ", and no more than any process of the group has.")
            )

    def sampled(
        self, point: Point, generator: torch.Generator, along: Tensor | None = None, *, layers: bool = True
    ) -> Sample:
        """Return the products of drawn gradients.

        Parameters
        ----------
        point
            Where.
        generator
            Draws the batches.
        along
            Vectors, shape (j, P), whose products with the gradients are wanted too.
        layers
            Whether inputs and outputs of the layers may stand for gradients that are not formed.

        Raises
        ------
        landscape.errors.ConfigurationError
            When the data has fewer examples than one draw needs; see also the class.
        """
        from landscape.objective.examples import everywhere
        from landscape.objective.gram import example_products
        from landscape_covariance.gradients import Gradients, batches_of, weighed

        landscape, theta = point.landscape, point.theta
        self.require_possible(landscape)
        draws = self._draws(landscape, generator)
        weights = self._weights(landscape, draws)
        gram = self._layer_wise(landscape, theta, draws, weights) if layers else None
        if gram is not None and (self.vectors or along is not None) and not self._told_apart(gram, landscape):
            gram = None
        gradients: Gradients | None = None
        if gram is None:
            gradients = Gradients(landscape, theta, draws, self.per_example, self.memory)
            gram, products = gradients.products(along, weights=weights, centred=self.centred)
        elif along is None:
            products = gram.new_zeros(len(gram), 0)
        else:
            products = example_products(landscape, theta, batches_of(landscape, draws), along)
            products = weighed(products, weights, centred=self.centred)
        warnings = []
        if not weights.any():
            warnings.append(
                f"None of the {self.batches} drawn examples counts in the loss: all of their targets are ignored. "
                "Give more batches."
            )
        if gradients is not None and not gradients.fits:
            times = gradients.computed / gradients.count
            warnings.append(
                f"{gradients.count} gradients do not fit into memory={self.memory} bytes: for their products, each was "
                f"computed {times:.1f} times. Give more memory, or fewer batches."
            )
        if everywhere(landscape, self._all_alike(landscape.data)):
            # Not the rounding of equal gradients; NaN stays.
            gram, products = 0.0 * gram, 0.0 * products
            warnings.append(
                f"Batches of all {landscape.data.examples} examples are the same, and so are their gradients: the "
                "covariance is zero. Give a smaller batch_size."
            )
        return Sample(
            draws, gradients, weights, _array(gram) / self.batches, _array(products), tuple(warnings)
        )

    def _all_alike(self, data: Data) -> bool:
        """Whether there is but one batch to be drawn, and its gradient is subtracted."""
        return (
            self.centred
            and not self.per_example
            and not data.draws
            and self._batch_size(data) == data.examples
        )

    def _batch_size(self, data: Data) -> int:
        return self.batch_size or max(1, min(64, data.examples // 4))

    def _draws(self, landscape: Landscape, generator: torch.Generator) -> list[Draw]:
        """Return the examples of every batch, and the seed of its augmentation where there is any."""
        import torch

        from landscape_covariance.gradients import rows_that_fit

        data = landscape.data

        def draw(count: int) -> Tensor:
            return torch.randperm(data.examples, generator=generator, device=generator.device)[:count].cpu()

        def seed() -> int | None:
            if not data.draws:
                return None
            # Random augmentation draws from the global generators; here it is ours that decides.
            return int(torch.randint(2**62, (), generator=generator, device=generator.device))

        size = self._batch_size(data)
        if self.per_example:
            # Others are held beside those that are computed together.
            size = min(size, rows_that_fit(landscape, self.memory) // 2)
            return [(part, seed()) for part in torch.split(draw(self.batches), size)]
        return [(draw(size), seed()) for _ in range(self.batches)]

    def _weights(self, landscape: Landscape, draws: Sequence[Draw]) -> Tensor:
        """Return how much each gradient counts, shape (L,), float64."""
        import torch

        from landscape.objective.examples import example_weights
        from landscape_covariance.gradients import batches_of

        if not self.per_example:
            return torch.ones(self.batches, dtype=torch.float64)
        return torch.cat(
            [example_weights(landscape, batch).cpu().double() for batch in batches_of(landscape, draws)]
        )

    def _layer_wise(
        self, landscape: Landscape, theta: Tensor, draws: Sequence[Draw], weights: Tensor
    ) -> Tensor | None:
        """Return the products of single examples from the layers' inputs and outputs, where that gives them."""
        # A penalty adds a vector to every gradient: without centring, its products are needed as well.
        if not self.per_example or (landscape.penalty is not None and not self.centred):
            return None
        from landscape.objective.gram import example_gram
        from landscape_covariance.gradients import batches_of, weighed

        found = example_gram(landscape, theta, batches_of(landscape, draws), memory=self.memory)
        if found is None:
            return None
        return weighed(weighed(found, weights, centred=self.centred).T, weights, centred=self.centred)

    def _told_apart(self, gram: Tensor, landscape: Landscape) -> bool:
        """Whether k eigenvectors can be combined from sums of gradients in the dtype of the weights."""
        import numpy as np
        import torch

        products = _array(gram)
        if not self.k:
            return True
        if not np.isfinite(products).all():
            return False
        values = np.linalg.eigvalsh(products)[::-1]
        # A unit vector of a small eigenvalue is a small difference of large gradients, divided by its length.
        return bool(values[self.k - 1] > _CLEAR * torch.finfo(landscape.dtype).eps * values[0])

    def _eigenvectors(
        self, point: Point, sample: Sample, values: np.ndarray, coefficients: np.ndarray
    ) -> Tensor:
        """Return unit eigenvectors of K, shape (k, P), zeros where the eigenvalue is: gradients combined."""
        import numpy as np
        import torch

        from landscape.objective.gram import combined_gradients
        from landscape_covariance.gradients import batches_of, combining

        vectors = point.theta.new_zeros(self.k, len(point.theta))
        count = min(self.k, above_rounding(values, len(sample.gram)))
        if not count:
            return vectors
        factors = torch.from_numpy((coefficients[:, :count] / np.sqrt(len(sample.gram) * values[:count])).T)
        factors = combining(factors, sample.weights, centred=self.centred)
        if sample.gradients is not None:
            vectors[:count] = sample.gradients.combined(factors)
        else:
            batches = batches_of(point.landscape, sample.draws)
            found = combined_gradients(point.landscape, point.theta, batches, factors)
            # The products are known to be those of unit vectors but for rounding.
            vectors[:count] = found / torch.linalg.vector_norm(found, dim=1, keepdim=True)
        return vectors


def eigenvalues(gram: np.ndarray, rank: int) -> np.ndarray:
    """Return the first `rank` eigenvalues, largest first."""
    import numpy as np

    return np.maximum(np.linalg.eigvalsh(gram)[::-1][:rank], 0.0)


def eigenpairs(gram: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `rank` eigenvalues, largest first, and unit eigenvectors as columns."""
    import numpy as np

    values, vectors = np.linalg.eigh(gram)
    # Non-negative by definition; rounding may say -1e-20.
    return np.maximum(values[::-1][:rank], 0.0), vectors[:, ::-1][:, :rank]


def above_rounding(values: np.ndarray, count: int) -> int:
    """Return how many of the eigenvalues, largest first, of a matrix of `count` rows have a vector."""
    import numpy as np

    # Below the rounding of the products, a combination of gradients is a difference of equal vectors.
    return int((values > count * float(np.finfo(np.float64).eps) * values[:1]).sum())


def _array(tensor: Tensor) -> np.ndarray:
    result: np.ndarray = tensor.cpu().double().numpy()
    return result
