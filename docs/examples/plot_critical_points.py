"""
All critical points of a deep linear network
============================================

The regularised loss of a deep linear network is a polynomial. Over the complex numbers it has the same
number of critical points for almost all data; how many of them are real depends on the data.
"""

import tempfile

import matplotlib.pyplot as plt

import landscape as ls
from landscape.report.counts import printed

study = ls.CriticalPointStudy(
    ls.models.DeepLinear(widths=(2, 2, 2), examples=1),
    ls.solvers.Monodromy(certified=True),
    samples=40,
    seed=0,
)
run = study.run(store=tempfile.mkdtemp())
table = run.summary()
table[
    ["sample", "N", "N_C", "N_C_torus", "N_R", "certified", "completeness"]
].head()

# %%
# One row says what all samples have in common, beside the bounds of the literature. Each solution was proved to
# exist and to differ from the others; printed for people, the number of complex ones is therefore "≥ 33": that
# there are no more is not proved for this network.

printed(run.tables["network"]).T

# %%
# Solutions differ in which weights are zero: those of smaller networks inside.

run.tables["zero_patterns"]

# %%
# The number of complex critical points is always the same, and that of the real ones is odd.

counts = run.tables["real_counts"]
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.bar(counts["N_R"], counts["samples"], width=0.8)
axes.set(
    xlabel="number of real critical points", ylabel="samples", xticks=counts["N_R"]
)
plt.show()

# %%
# Each real critical point has a loss, and an index: the number of directions in which the loss falls.
# Minima have index 0.

points = run.tables["real_points"]
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.scatter(points["loss"], points["index"], s=12, alpha=0.4)
axes.set(xlabel="loss", ylabel="index", yticks=sorted(points["index"].unique()))
plt.show()

# %%
# Several networks in one table: a sweep joins what its members found.

sweep = ls.Sweep(
    ls.CriticalPointStudy(study.model, study.solver, samples=10, seed=0),
    {"model.widths": ((1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 2))},
)
networks = sweep.run(store=tempfile.mkdtemp()).summary()
printed(networks)[["d", "dx", "dy", "N", "CBB", "B_C", "N_C", "N_R_max"]]
