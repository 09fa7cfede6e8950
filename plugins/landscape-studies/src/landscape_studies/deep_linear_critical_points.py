"""How many critical points a deep linear network has, against the bounds in the literature."""

from __future__ import annotations

from itertools import product

import landscape as ls
from landscape.errors import ConfigurationError

__all__ = ["deep_linear_critical_points"]

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def deep_linear_critical_points(
    seed: int = 0,
    samples: int = 100,
    largest: int = 2,
    examples: tuple[int, ...] = (1,),
    unknowns: int = 8,
    certified: bool = True,
) -> ls.Study:
    """Count the critical points of all networks with one hidden layer, and set them beside the bounds.

    The tables of the thesis *Critical Points of Deep Linear Networks in C^N* (arXiv:2301.12651): for every network
    with d hidden units, inputs of length dx and outputs of length dy, the bounds CBB, B_C, B_C* and, where PHCpack
    is installed, BKK; the numbers N_C and N_C* of complex critical points without and with the condition that no
    coordinate is zero; how many are real in random samples, with which Hessian index and which loss; and which
    weights are zero. lambda is uniform on [0, 1], X and Y are normal.

    The default, eight networks with one example, takes half a minute of one core with every solution certified.
    ``largest=3, examples=(1, 2, 3), unknowns=18`` are all of the thesis with d, dx and dy up to 3, and more.

    Parameters
    ----------
    seed
        The seed of all samples.
    samples
        Random samples of each network.
    largest
        d, dx and dy each go from 1 to this.
    examples
        Numbers of examples; each is a stage of its own.
    unknowns
        Networks with more weights are left out where there are several examples: their numbers of critical
        points grow fast. With one example nothing is left out.
    certified
        Prove of every solution that it exists, differs from all others, and is real or is not.

    Raises
    ------
    landscape.errors.ConfigurationError
        For numbers below 1, and where no network is left.
    """
    numbers = {"samples": samples, "largest": largest, "unknowns": unknowns}
    if min(numbers.values()) < 1:
        told = ", ".join(f"{name}={value}" for name, value in numbers.items())
        raise ConfigurationError(f"deep-linear-critical-points: {told}; give numbers of at least 1.")
    if not examples or min(examples) < 1 or len(set(examples)) < len(examples):
        raise ConfigurationError(
            f"deep-linear-critical-points: examples={examples}; give one or more different numbers of at least 1."
        )
    stages = []
    for count in examples:
        widths = tuple(
            (inputs, hidden, outputs)
            for hidden, inputs, outputs in product(range(1, largest + 1), repeat=3)
            if count == 1 or hidden * (inputs + outputs) <= unknowns
        )
        if not widths:
            raise ConfigurationError(
                f"deep-linear-critical-points: no network has at most unknowns={unknowns} weights; give at least 2."
            )
        many = f"{_NUMBERS[count] if count < len(_NUMBERS) else count} example{'s' if count > 1 else ''}"
        base = ls.CriticalPointStudy(
            ls.models.DeepLinear(widths=widths[0], examples=count),
            ls.solvers.Monodromy(certified=certified),
            samples=samples,
            seed=seed,
        )
        stages.append(
            ls.Stage(
                many.replace(" ", "-"),
                ls.Sweep(base, {"model.widths": widths}, name=f"One hidden layer, {many}"),
                title=f"One hidden layer, {many}",
                text=_HOW,
            )
        )
    return ls.Study(
        name="Critical points of deep linear networks",
        text=(
            "The regularised loss of a network without activation functions is a polynomial in its weights, so that "
            "all its critical points can be found, the complex ones too. How many are there, how far are the bounds "
            "from them, and how many are real, minima, or without a weight that is zero?"
        ),
        stages=tuple(stages),
    )


_HOW = (
    "One row per network: d hidden units, inputs of length dx, outputs of length dy, m examples, N weights. N_C counts "
    "the complex critical points, N_C_torus those without a zero weight, N_R those that are real. CBB, BKK_stable and "
    "B_C are bounds on N_C; BKK and B_C_torus are bounds on N_C_torus; dedieu_malajovich bounds the mean number of "
    "real critical points of a random polynomial of the same degree. formula says whether both numbers are those of "
    "the formula for one example: that there are no more is proved, that there are as many where all are certified."
)
