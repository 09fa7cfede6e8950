"""
The paths of elastic averaging
==============================

Four workers are tied to a centre by springs (EASGD). Their paths through weight space, and the centre's,
are projected to the plane of largest variance, over the true loss in that plane.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import landscape as ls

run = ls.Experiment(
    model=ls.models.MLP(hidden=(16,)),
    dataset=ls.datasets.Digits(),
    walker=ls.walkers.EASGD(
        ls.walkers.SGD(lr=0.5, batch_size=16), workers=4, moving_rate=0.05
    ),
    start=ls.Fresh(identical=False),
    probes=("Loss",),
    projectors=(ls.projectors.PCA(),),
    steps=200,
    snapshots=4,
    seed=1,
).run(store=tempfile.mkdtemp())

run.summary()

# %%
# The springs are weak: the workers, each from a start of its own, go their own ways, and the centre goes
# down between them. PCA has an inverse: a point of the plane leads back to weights, so that the loss can be
# computed there.

projector = run.projectors[0]
projection, path = run.project(projector), run.path_table(projector)
low, high = projection.coordinates.min(0), projection.coordinates.max(0)
margin = 0.1 * (high - low)
a, b = (np.linspace(low[i] - margin[i], high[i] + margin[i], 24) for i in (0, 1))
grid = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
weights = run.span().restore(projection.inverse(grid))
losses = np.array(
    [float(value) for value in run.landscape().value(weights)]
).reshape(len(b), len(a))

figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
levels = np.geomspace(losses.min(), losses.max(), 20)
contours = axes.contourf(a, b, losses, levels=levels, cmap="viridis_r", norm="log")
for worker, points in path.groupby("worker", sort=False):
    centre = worker == "centre"
    axes.plot(points["x1"], points["x2"], color="black" if centre else None, linewidth=2.5 if centre else 1,
              label=worker if centre else f"worker {worker}")  # fmt: skip
axes.set(
    xlabel=projection.axis_labels[0],
    ylabel=projection.axis_labels[1],
    aspect="equal",
)
axes.legend()
figure.colorbar(contours, label="loss", format="%.2g")
plt.show()

# %%
# How much of the paths this picture keeps:

projection.quality
