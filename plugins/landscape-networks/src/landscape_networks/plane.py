"""Landscapes in the plane: test functions of optimisation, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Model
from landscape.validators import one_of
from landscape_networks._building import check_scale
from landscape_networks.quadratic import noise_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Plane"]

#: Where walks begin by default.
_STARTS = {
    "beale": (1.0, 1.0),
    "double_well": (0.1, 1.0),
    "himmelblau": (0.0, 0.0),
    "monkey_saddle": (0.5, 0.1),
    "rastrigin": (2.2, -1.7),
    "rosenbrock": (-1.2, 1.0),
    "saddle": (1.0, 0.01),
    "six_hump_camel": (1.5, 1.2),
}


def _pair(value: Any) -> Any:
    return None if value is None else tuple(map(float, value))


@frozen
class Plane(Model):
    r"""A landscape over two weights a and b, one of the functions on which optimisers are looked at.

    ====================  =====================================================  ==============================
    name                  f(a, b)                                                critical points
    ====================  =====================================================  ==============================
    ``rosenbrock``        (1 - a)² + 100 (b - a²)²                               minimum 0 at (1, 1)
    ``himmelblau``        (a² + b - 11)² + (a + b² - 7)²                         four minima 0, one at (3, 2);
                                                                                 four saddles, one maximum
    ``beale``             (1.5 - a + ab)² + (2.25 - a + ab²)²                    minimum 0 at (3, 1/2);
                          + (2.625 - a + ab³)²                                   saddle at (0, 1)
    ``saddle``            (a² - b²) / 2                                          saddle at 0, unbounded below
    ``monkey_saddle``     a³ - 3ab²                                              degenerate at 0, unbounded below
    ``double_well``       (a² - 1)² / 4 + b² / 2                                 minima 0 at (±1, 0); saddle at 0
    ``six_hump_camel``    (4 - 2.1 a² + a⁴/3) a² + ab + (4b² - 4) b²             six minima, the two lowest
                                                                                 -1.0316 at ±(0.0898, -0.7127)
    ``rastrigin``         20 + a² + b² - 10 cos 2πa - 10 cos 2πb                 minimum 0 at 0; a minimum near
                                                                                 every point of the integer lattice
    ====================  =====================================================  ==============================

    The data is :class:`GradientNoise` of dimension 2, which makes every example tilt the landscape a little,
    :math:`\ell_i(\theta) = f(\theta) + \xi_i^T \theta`; on all data the loss is f. With ``scale=0`` there is no
    noise. The module returns the losses of the examples: use ``loss="model"``.

    Parameters
    ----------
    function
        The name.
    start
        Where a walk begins; None is a place that suits the function, such as (-1.2, 1) for Rosenbrock's valley.
    scatter
        Standard deviation of the starting point about `start`.

    Raises
    ------
    landscape.errors.ConfigurationError
        For an unknown name; when building, for data that is not noise of dimension 2.

    Examples
    --------
    >>> import torch
    >>> import landscape as ls
    >>> experiment = ls.Experiment(
    ...     ls.models.Plane("himmelblau"), ls.datasets.GradientNoise(2, scale=0, examples=1),
    ...     ls.walkers.SGD(lr=0.01), loss="model", dtype="float64")
    >>> landscape = experiment.landscapes()["train"]
    >>> float(landscape.value(torch.tensor([3.0, 2.0])))
    0.0
    """

    references: ClassVar[tuple[str, ...]] = (
        "Rosenbrock. An automatic method for finding the greatest or least value of a function. Comput. J. 3 "
        "(1960).",
        "Himmelblau. Applied Nonlinear Programming. McGraw-Hill (1972).",
        "More, Garbow, Hillstrom. Testing unconstrained optimization software. ACM TOMS 7 (1981), problem 5 "
        "(Beale).",
        "Dixon, Szego. The global optimization problem: an introduction. Towards Global Optimisation 2 (1978).",
    )

    function: str = field(default="rosenbrock", validator=one_of(tuple(_STARTS)))
    start: tuple[float, float] | None = field(default=None, converter=_pair)
    scatter: float = field(default=0.0, validator=check_scale)

    def __attrs_post_init__(self) -> None:
        if self.start is not None and len(self.start) != 2:
            raise ConfigurationError(f"Plane: start={self.start} is no point of the plane; give two numbers.")

    def build(self, example: Any, generator: torch.Generator) -> nn.Module:
        """Build the module, in float64, for batches like `example`; draw the start from `generator` only.

        Raises
        ------
        landscape.errors.ConfigurationError
            For data whose noise has another dimension than 2.
        """
        import torch

        from landscape_networks._modules import Surface

        noise = noise_of("Plane", example)
        if noise.shape[1] != 2:
            raise ConfigurationError(
                f"Plane has two weights, but the noise of the data has dimension {noise.shape[1]}; give "
                "GradientNoise(2)."
            )
        centre = torch.tensor(self.start or _STARTS[self.function], dtype=torch.float64)
        scatter = torch.randn(2, generator=generator, device=generator.device, dtype=torch.float64)
        return Surface(centre.to(scatter.device) + self.scatter * scatter, self.function)
