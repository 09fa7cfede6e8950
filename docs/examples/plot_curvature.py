"""
Spectrum of the Hessian and the noise of gradients
==================================================

How the spectral density changes while a network trains, and whether gradient noise follows the curvature, as the
noisy quadratic model has it.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import landscape as ls
from landscape_hessian.figures import draw_density

experiment = ls.Experiment(
    model=ls.models.MLP(hidden=(16,)),
    dataset=ls.datasets.Digits(),
    walker=ls.walkers.SGD(lr=0.2, batch_size=64),
    probes=(
        "Loss",
        ls.Every(200, ls.probes.CurvatureDensity(samples=3, steps=60)),
        ls.Every(50, ls.probes.HessianSpectrum(k=5), first=1),
        ls.Every(
            200,
            ls.probes.CovarianceHessianAlignment(k=5, batches=25, batch_size=64),
        ),
    ),
    steps=400,
    seed=1,
)
run = experiment.run(store=tempfile.mkdtemp())

# %%
# The bulk of the spectrum lies around zero; a few outliers move away from it. Bands are one standard error of the
# mean over three random vectors; a single eigenvalue is a bell of weight 1/P.

figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
for entry, color in zip(
    run.arrays("CurvatureDensity"),
    ("tab:gray", "tab:orange", "tab:blue"),
    strict=True,
):
    draw_density(axes, entry, color=color, label=f"step {entry['step']}")
axes.set(xlabel="eigenvalue", ylabel="density")
axes.legend()
plt.show()

# %%
# Where the covariance of the gradients is proportional to the Hessian, the ratio of the two along the Hessian's
# eigenvectors is the same for all of them. The share is that of the noise within the first five.

table = run.metrics.dropna(subset="covariance_in_hessian_5")
columns = [f"covariance_hessian_ratio_{i}" for i in range(1, 6)]
table[["step", *columns, "covariance_in_hessian_5"]].round(4)

# %%
# The same as a picture, at the last step.

last = table.iloc[-1]
curvature = np.array([last[f"hessian_eigenvalue_{i}"] for i in range(1, 6)])
noise = np.array([last[f"covariance_along_hessian_{i}"] for i in range(1, 6)])
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.loglog(curvature, noise, "o", label="along the Hessian's eigenvectors")
scale = (noise / curvature).mean()
axes.loglog(
    curvature, scale * curvature, color="gray", linewidth=1, label="in proportion"
)
axes.set(xlabel="eigenvalue of the Hessian", ylabel="variance of the gradient")
axes.legend()
plt.show()
