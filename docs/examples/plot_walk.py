"""
Step by step, with a change on the way
======================================

A walk hands out the points before each update, to be looked at and measured. Hyper-parameters may change
while it goes on; each change is recorded.
"""

import matplotlib.pyplot as plt
import torch

import landscape as ls

splits = ls.datasets.Digits().load(torch.Generator().manual_seed(0))
example = splits["train"].take(torch.arange(500))
module = ls.models.MLP(hidden=(16,)).build(
    example, torch.Generator().manual_seed(0)
)
landscape = ls.Landscape(module, "cross_entropy", splits["train"])

# %%
# Four workers from one start, each with batches of its own, and a smaller learning rate from step 100 on.

walker = ls.walkers.SGD(lr=1.0, batch_size=16, workers=4)
walk = ls.Walk(landscape, walker, seed=0)
steps, losses, spreads = [], [], []
for population in walk.steps(160):
    if population.step == 100:
        walk.set(lr=0.1)
    if population.step % 4 == 0:
        positions = torch.stack([point.theta for point in population.points])
        steps.append(population.step)
        losses.append([float(point.value()) for point in population.points])
        spreads.append(float((positions - positions.mean(0)).norm(dim=1).mean()))

print(walk.changes)

# %%
# With the smaller rate the noise of the batches is averaged out: the losses fall together, and the workers
# hardly move apart any more.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(steps, losses)
left.set(xlabel="step", ylabel="loss", yscale="log", title="four workers")
right.plot(steps, spreads, color="black")
right.set(xlabel="step", title="mean distance from their mean")
for axes in (left, right):
    axes.axvline(100, color="gray", linestyle="--", linewidth=1)
plt.show()
