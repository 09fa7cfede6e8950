"""Eigenvalues of the covariance of gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Measurement, Probe
from landscape.randomness import preserved_random_state
from landscape.validators import at_least, of_type, optional

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from landscape.objective import Data, Landscape, Point

__all__ = ["GradientCovariance", "taken"]

#: Entries of a gradient handled at a time in float64: 25 gradients of so many take 52 MB.
_CHUNK = 1 << 18
#: Eigenvectors are combined by a backward pass each where there are so many times as many examples.
_PASSES = 4
#: An eigenvalue that is so many units of rounding of the largest has a vector to one part in so many.
_CLEAR = 1e4


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
    The penalty of the landscape adds the same vector to every gradient.

    Columns ``covariance_eigenvalue_1`` .. ``_k``, largest first, and ``covariance_trace``, the sum of all,
    including those that have no column; ``covariance_stable_rank``, the trace over the largest eigenvalue. Array
    ``covariance_eigenvalues``: all that can be non-zero, shape (L - 1,) or (L,), or (P,) where that is smaller. With
    `vectors`, carried: ``eigenvectors``, shape (k, P), orthonormal, zeros where the eigenvalue is zero.

    Costs L batch gradients, and L vectors of P numbers. With `per_example`, networks of linear layers and convolutions
    cost about two gradients of L examples, and no vectors: the Gram matrix comes from the inputs and outputs of the
    layers (:mod:`landscape.objective.gram`). With `vectors` and at most L/4 of them, each is one further backward pass
    of L examples, unless its eigenvalue is below 1e4 units of rounding of the largest. For 512 examples of a perceptron
    with 17,610 weights, the eigenvalues took 9 ms in place of 295 ms.

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

    Raises
    ------
    landscape.errors.ConfigurationError
        When measuring on data with fewer examples than one draw needs.

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

    references: ClassVar[tuple[str, ...]] = (
        "F. Dangel, L. Tatzel, P. Hennig. ViViT: curvature access through the generalized Gauss-Newton's low-rank "
        "structure. TMLR (2022).",
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
        self._check(landscape.data)
        draws = self._draws(landscape.data, generator)
        rows: Tensor | None = None
        gram = self._layer_wise(landscape, point.theta, draws)
        if gram is not None and self.vectors and not self._told_apart(gram, landscape):
            gram = None
        if gram is None:
            rows = self._gradients(landscape, point.theta, draws)
            gram = _gram(rows, centred=self.centred)
        names = [f"covariance_eigenvalue_{i + 1}" for i in range(self.k)]
        rank = self._rank(landscape.size)
        if not np.isfinite(gram).all():
            return Measurement(
                scalars=dict.fromkeys([*names, "covariance_trace", "covariance_stable_rank"], math.nan),
                arrays={"covariance_eigenvalues": np.full(rank, np.nan)},
                warnings=("The covariance of gradients is unknown: a gradient is NaN or infinite here.",),
            )
        ascending, coefficients = np.linalg.eigh(gram)
        # Non-negative by definition; rounding may say -1e-20.
        values = np.maximum(ascending[::-1][:rank], 0.0)
        warnings: tuple[str, ...] = ()
        if self.k > len(values):
            warnings = (
                f"covariance_eigenvalue_i beyond i={len(values)} are zero whatever the landscape: "
                f"{self.batches} gradients of {landscape.size} weights have no more.",
            )
        scalars = {name: float(values[i]) if i < len(values) else 0.0 for i, name in enumerate(names)}
        trace = scalars["covariance_trace"] = float(np.trace(gram))
        if trace > 0:
            scalars["covariance_stable_rank"] = trace / float(values[0])
        else:
            scalars["covariance_stable_rank"] = math.nan
            warnings += ("covariance_stable_rank is unknown: the covariance is zero here.",)
        carry = {}
        if self.vectors:
            ordered = coefficients[:, ::-1][:, :rank]
            if rows is None:
                carry["eigenvectors"] = self._combined(landscape, point.theta, draws, values, ordered)
            else:
                carry["eigenvectors"] = _eigenvectors(rows, values, ordered, self.k, centred=self.centred)
        return Measurement(
            scalars=scalars, arrays={"covariance_eigenvalues": values.copy()}, warnings=warnings, carry=carry
        )

    def _rank(self, size: int) -> int:
        """Return how many eigenvalues can be non-zero."""
        return min(self.batches - self.centred, size)

    def _check(self, data: Data) -> None:
        needed = self.batches if self.per_example else self._batch_size(data)
        if needed > data.examples:
            name = "batches" if self.per_example else "batch_size"
            raise ConfigurationError(
                f"GradientCovariance({name}={needed}) draws {needed} examples without replacement, but the data "
                f"has {data.examples}; give {name}={data.examples} or less."
            )

    def _batch_size(self, data: Data) -> int:
        return self.batch_size or max(1, min(64, data.examples // 4))

    def _draws(self, data: Data, generator: torch.Generator) -> list[tuple[Tensor, int | None]]:
        """Return the examples of every batch, and the seed of its augmentation where there is any."""
        import torch

        def draw(count: int) -> Tensor:
            return torch.randperm(data.examples, generator=generator, device=generator.device)[:count].cpu()

        def seed() -> int | None:
            if not data.draws:
                return None
            # Random augmentation draws from the global generators; here it is ours that decides.
            return int(torch.randint(2**62, (), generator=generator, device=generator.device))

        size = self._batch_size(data)
        if self.per_example:
            return [(part, seed()) for part in torch.split(draw(self.batches), size)]
        return [(draw(size), seed()) for _ in range(self.batches)]

    def _layer_wise(
        self, landscape: Landscape, theta: Tensor, draws: list[tuple[Tensor, int | None]]
    ) -> np.ndarray | None:
        """Return G for single examples from the layers' inputs and outputs, where that gives it."""
        # A penalty adds a vector to every gradient: without centring, its products are needed as well.
        if not self.per_example or (landscape.penalty is not None and not self.centred):
            return None
        if self.vectors and self.k * _PASSES > self.batches:
            return None
        from landscape.objective.gram import example_gram

        found = example_gram(landscape, theta, (taken(landscape.data, *draw) for draw in draws))
        if found is None:
            return None
        if self.centred:
            found = found - found.mean(dim=0) - found.mean(dim=1, keepdim=True) + found.mean()
        result: np.ndarray = (found / len(found)).cpu().double().numpy()
        return result

    def _told_apart(self, gram: np.ndarray, landscape: Landscape) -> bool:
        """Whether k eigenvectors can be combined from sums of gradients in the dtype of the weights."""
        import numpy as np
        import torch

        if not self.k:
            return True
        if not np.isfinite(gram).all():
            return False
        values = np.linalg.eigvalsh(gram)[::-1]
        # A unit vector of a small eigenvalue is a small difference of large gradients, divided by its length.
        return bool(values[self.k - 1] > _CLEAR * torch.finfo(landscape.dtype).eps * values[0])

    def _combined(
        self,
        landscape: Landscape,
        theta: Tensor,
        draws: list[tuple[Tensor, int | None]],
        values: np.ndarray,
        coefficients: np.ndarray,
    ) -> Tensor:
        """Return unit eigenvectors of K, shape (k, P), by backward passes of weighted sums of the losses."""
        import numpy as np
        import torch

        from landscape.objective.gram import combined_gradients

        weights = (coefficients[:, : self.k] / np.sqrt(len(coefficients) * values[: self.k])).T
        if self.centred:
            weights = weights - weights.mean(axis=1, keepdims=True)
        batches = (taken(landscape.data, *draw) for draw in draws)
        found = combined_gradients(landscape, theta, batches, torch.from_numpy(weights.copy()))
        # The inner products are known to be those of unit vectors but for rounding.
        return (found / torch.linalg.vector_norm(found, dim=1, keepdim=True)).to(theta.dtype)

    def _gradients(
        self, landscape: Landscape, theta: Tensor, draws: list[tuple[Tensor, int | None]]
    ) -> Tensor:
        """Return the gradients as rows, shape (L, P), in the landscape's dtype."""
        import torch

        rows = torch.empty(self.batches, landscape.size, dtype=theta.dtype, device=theta.device)
        done = 0
        for draw in draws:
            batch = taken(landscape.data, *draw)
            if self.per_example:
                count = len(draw[0])
                rows[done : done + count] = landscape.example_gradients(theta, batch)
                done += count
            else:
                rows[done] = landscape.gradient(theta, batch)
                done += 1
        return rows


def taken(data: Data, indices: Tensor, seed: int | None) -> Any:
    """Return some examples as one batch; augmentation draws as `seed` says."""
    if seed is None:
        return data.take(indices)
    with preserved_random_state(seed):
        return data.take(indices)


def _eigenvectors(
    rows: Tensor, values: np.ndarray, coefficients: np.ndarray, k: int, *, centred: bool
) -> Tensor:
    """Return unit eigenvectors of K, shape (k, P): the gradients combined by the eigenvectors of G."""
    import numpy as np
    import torch

    vectors = rows.new_zeros(k, rows.shape[1])
    # Below the rounding of G, a combination of gradients is a difference of equal vectors.
    floor = len(rows) * float(np.finfo(np.float64).eps) * float(values[0]) if len(values) else 0.0
    kept = [i for i in range(min(k, len(values))) if values[i] > floor]
    if not kept:
        return vectors
    weights = coefficients[:, kept] / np.sqrt(len(rows) * values[kept])
    factor = torch.from_numpy(weights.T.copy()).to(rows.device, _float64(rows))
    for low in range(0, rows.shape[1], _CHUNK):
        block = rows[:, low : low + _CHUNK].to(factor.dtype)
        if centred:
            block = block - block.mean(dim=0)
        vectors[: len(kept), low : low + _CHUNK] = (factor @ block).to(vectors.dtype)
    return vectors


def _gram(gradients: Tensor, *, centred: bool) -> np.ndarray:
    """Return G, shape (L, L), float64, from gradients of shape (L, P), a few columns at a time."""
    import torch

    count = len(gradients)
    gram = gradients.new_zeros(count, count, dtype=_float64(gradients))
    for part in torch.split(gradients, _CHUNK, dim=1):
        block = part.to(gram.dtype)
        if centred:
            block = block - block.mean(dim=0)
        gram += block @ block.T
    result: np.ndarray = (gram / count).cpu().double().numpy()
    return result


def _float64(tensor: Tensor) -> torch.dtype:
    """Return float64, or float32 on the one kind of device that has no float64."""
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64
