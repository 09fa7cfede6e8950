"""
The same paths in four maps
===========================

Three networks, each from a start of its own, learn handwritten digits. A plane, a map in cells, a curved surface
and t-SNE show the same snapshots; under each stands the true loss of the weights that the map leads back to.
"""

import tempfile

import matplotlib.pyplot as plt
import torch

import landscape as ls
from landscape_projectors import figures, pictures, surfaces
from landscape_projectors.judging import quality_table
from landscape_projectors.random_walks import shares_of_random_walks

run = ls.Experiment(
    model=ls.models.MLP(hidden=(16, 16)),
    dataset=ls.datasets.Digits(),
    walker=ls.walkers.SGD(lr=0.3, batch_size=32, workers=3),
    start=ls.Fresh(identical=False),
    probes=(ls.Every(5, "Loss"), ls.Every(5, "Score"), ls.Every(5, "GradientNorm")),
    projectors=(
        ls.projectors.PCA(),
        ls.projectors.Chain(
            ls.projectors.PCA(dimensions=10), ls.projectors.SOM(rows=10, columns=10)
        ),
        ls.projectors.Autoencoder(),
        ls.projectors.TSNE(),
    ),
    steps=200,
    snapshots=5,
    seed=1,
).run(store=tempfile.mkdtemp())
landscape, span = run.landscape(), run.span()

figure, axes = plt.subplots(2, 2, figsize=(11, 9.5), layout="constrained")
for ax, projector in zip(axes.flat, run.projectors, strict=True):
    projection = run.project(projector)
    grid = surfaces.loss_grid(landscape, span, projection, resolution=25)
    curved = projector != ls.projectors.PCA()
    reach = (
        2 * figures.spacing(projection.coordinates, span.rows)
        if curved
        else float("inf")
    )
    figures.draw_path_over_loss(projection, span.rows, grid, ax, reach=reach)
    ax.set_title(type(projector).__name__)
plt.show()

# %%
# What the four maps are worth, in numbers. ``loss_mismatch`` is how far the loss drawn under the snapshots is from
# theirs, as ``|log10|`` of the ratio: the plane hides most, the layout, whose way back is exact at the snapshots,
# nothing; between snapshots all of them guess, and far from every snapshot the background is hatched.

quality_table(run).T.round(3)

# %%
# How much of that would walks without any structure explain, which start where the networks do? Nearly as much: that
# two components hold most of the variance is no finding by itself.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
pictures.draw_scree(span, ax, most=10, reference=shares_of_random_walks(span))
plt.show()

# %%
# One network alone, in the plane of its own path. Dashed: where the same components would have a random walk of as
# many snapshots.

alone = span.select((span.rows["worker"].astype(str) == "0").to_numpy())
path = ls.projectors.PCA().fit(alone, torch.Generator())
figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
figures.draw_path_over_loss(
    path, alone.rows, surfaces.loss_grid(landscape, alone, path), ax
)
figures.draw_random_walk(path, ax)
plt.show()

{name: round(value, 3) for name, value in path.quality.items()}

# %%
# Coloured by the score on the way:

metrics = run.metrics.astype({"worker": str})
scores = (
    span.rows.astype({"worker": str})
    .merge(metrics, how="left", on=["step", "worker"])["score"]
    .to_numpy()
)
plane = run.project(run.projectors[0])
figure, ax = plt.subplots(figsize=(7, 5.5), layout="constrained")
pictures.draw_scored_paths(plane, span.rows, scores, ax, label="training accuracy")
plt.show()

# %%
# The whole network and its parts, each in a plane of its own:

figure, axes = pictures.draw_parts(
    span,
    {
        "layer 1": span.part("layer1"),
        "layer 2": span.part("layer2"),
        "biases": span.part("*.bias"),
    },
    ls.projectors.PCA(),
    plt.figure(figsize=(10, 8), layout="constrained").subplots(2, 2).ravel(),
)
plt.show()

# %%
# Between the ends of two paths:

first, second = span.weights([len(span) - 3, len(span) - 1])
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
pictures.draw_loss_line(surfaces.loss_line(landscape, first, second), ax)
plt.show()

# %%
# What the plane does to distances, and how far it is from the snapshots:

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
pictures.draw_quality(plane, span, axes)
plt.show()

plane.quality
