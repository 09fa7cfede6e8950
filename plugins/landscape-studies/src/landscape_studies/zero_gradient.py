"""Points where the gradient vanishes: how they are found, and whether they are minima."""

from __future__ import annotations

import landscape as ls
from landscape.errors import ConfigurationError

__all__ = ["zero_gradient"]


def zero_gradient(
    seed: int = 0, points: int = 8, steps: int = 1000, hidden: tuple[int, ...] = (10, 10)
) -> ls.Study:
    """Train on the loss, then on the norm of the gradient, and ask whether what is found are minima.

    The second task of a course programme of 2018, on a function to fit and on handwritten digits. Many networks
    are trained on the loss, some shortly and some for long; from where each stands, the norm of the gradient is
    minimised until it is nearly zero. At the end stand the minimum ratio, which is the share of neighbours with
    a higher loss, and the share of positive eigenvalues of the Hessian, to be seen against the loss. Before
    that, loss and gradient norm are followed along the training of three networks.

    The default takes half a minute of one core. The programme's network for the function is
    ``hidden=(70, 70, 70)``, of whose 10,000 Hessian eigenvalues only the ends are computed (here with biases:
    without, it cannot fit).

    Parameters
    ----------
    seed
        The seed of the data and of the first network; the others count on from it.
    points
        How many points to look for in either task.
    steps
        At most so many steps on the gradient norm.
    hidden
        Units of the hidden layers of the network that fits the function.

    Raises
    ------
    landscape.errors.ConfigurationError
        For numbers below 1.
    """
    if points < 1 or steps < 1:
        raise ConfigurationError(
            f"zero-gradient: points={points}, steps={steps}; give numbers of at least 1."
        )
    fit = ls.datasets.Seeded(ls.datasets.FunctionFit(examples=300, standardise=True), seed=seed)
    digits = ls.datasets.Seeded(ls.datasets.Digits(examples=400), seed=seed)
    every = max(1, steps // 50)
    model = ls.models.MLP(hidden=hidden)
    curves = ls.Sweep(
        ls.Experiment(
            model,
            fit,
            ls.walkers.Adam(lr=0.01),
            loss="mse",
            probes=(
                ls.Every(1, ls.probes.Loss()),
                ls.Every(1, ls.probes.GradientNorm()),
                ls.Every(10, ls.probes.Loss(split="test")),
            ),
            steps=max(1, steps // 2),
            seed=seed,
        ),
        {
            "model": (
                model,
                ls.models.MLP(hidden=(*hidden, *hidden)),
                ls.models.MLP(hidden=(10 * max(hidden),)),
            )
        },
        name="Optimisation of three networks",
    )
    return ls.Study(
        name="Points of zero gradient",
        text=(
            "Where the gradient of a loss vanishes there is a minimum, a saddle or a maximum. Networks are trained on "
            "the loss, some shortly and some for long, and then on the norm of the gradient, until it is nearly zero. "
            "Do their neighbours lie higher, and does the Hessian have negative eigenvalues?"
        ),
        stages=(
            ls.Stage(
                "optimisation",
                curves,
                title="Loss and gradient norm in training",
                text="Three networks fit y = 4 sin(exp(x/8)) - 5 cos(x) + exp(x/8); all data in every step.",
            ),
            ls.Stage(
                "function-fit",
                _search(
                    model,
                    fit,
                    "mse",
                    seed=seed,
                    points=points,
                    steps=steps,
                    every=every,
                ),
                title="Function fit: points of zero gradient",
                text=_HOW,
            ),
            ls.Stage(
                "digits",
                _search(
                    ls.models.MLP(hidden=(8,)),
                    digits,
                    "cross_entropy",
                    seed=seed,
                    points=points,
                    steps=steps,
                    every=every,
                ),
                title="Digits: points of zero gradient",
                text=_HOW,
            ),
        ),
    )


#: Below this norm a gradient is called zero here; the programme of 2018 had 0.02.
_ZERO = 0.002

_HOW = (
    "Each member is another network that was trained by Adam on the loss for another number of steps, and from there "
    f"by L-BFGS on half the squared norm of the gradient, until the norm is below {_ZERO}. The table says which "
    "members stopped early, having reached it; the others have met a minimum of the norm that is no critical point, "
    "or need more steps, and are drawn as crosses."
)


def _search(
    model: ls.Model, data: ls.Dataset, loss: str, *, seed: int, points: int, steps: int, every: int
) -> ls.Sweep:
    """Return the search for points of zero gradient, from trainings of rising length."""
    # From 1 to 300 steps, as many per decade: after longer trainings the gradient is small already.
    lengths = [round(300 ** (index / max(1, points - 1))) for index in range(points)]
    trained = ls.Experiment(
        model, data, ls.walkers.Adam(lr=0.01), loss=loss, steps=1, dtype="float64", seed=seed
    )
    base = ls.Experiment(
        model,
        data,
        # Adam on the norm, whose steps are as long as its learning rate, reaches half of these points only.
        ls.walkers.GradientNormDescent(ls.walkers.LBFGS(history=40)),
        loss=loss,
        start=ls.starts.PreTrained(trained),
        probes=(
            ls.Every(every, ls.probes.Loss()),
            ls.Every(every, ls.probes.GradientNorm()),
            ls.Every(steps, ls.probes.MinimumRatio()),
        ),
        stop=(ls.stops.Target("gradient_norm", _ZERO),),
        steps=steps,
        snapshots=steps,
        dtype="float64",
        seed=seed,
    )
    vary = {
        "start.experiment.seed": tuple(range(seed, seed + points)),
        "start.experiment.steps": tuple(lengths),
    }
    return ls.Sweep(base, vary, mode="zip", name="Points of zero gradient")
