"""
SGD on a noisy quadratic: theory and measurement
================================================

On a quadratic whose Hessian and gradient noise are known, the loss that SGD should have
is known at every step, and so is how far its weights fluctuate in every direction.
"""

import tempfile

import matplotlib.pyplot as plt

import landscape as ls
from landscape_networks.quadratic_comparison import comparison_of
from landscape_networks.quadratic_figures import draw_loss, draw_variances

experiment = ls.Experiment(
    model=ls.models.NoisyQuadratic(hessian=(1.0, 0.5, 0.25, 0.125, 0.0625)),
    dataset=ls.datasets.GradientNoise(5, decay=1, examples=400),
    walker=ls.walkers.SGD(lr=0.3, batch_size=8, workers=200),
    loss="model",
    dtype="float64",
    steps=200,
    snapshots=5,
    seed=0,
)
run = experiment.run(store=tempfile.mkdtemp())

# %%
# Every number beside its theory, with the standard error of the mean over the walkers. The
# last two columns are what theory says of mini-batches that are drawn independently of each
# other, and to first order in the learning rate.

run.tables["theory"].round(4)

# %%
# Black: the mean over 200 walkers, with two standard errors. Blue: theory, for mini-batches
# that are cut from a permutation of the data. Dashed: for independent mini-batches, which
# fluctuate more where the curvature is small. Dotted: small steps.

found = comparison_of(run)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
draw_loss(left, found)
left.set(xlabel="step", ylabel="expected loss")
left.legend()
draw_variances(right, found)
right.set(
    xlabel="eigenvalue of the Hessian", ylabel="mean square of the weight along it"
)
plt.show()
