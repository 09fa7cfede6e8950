"""
All critical points of a deep linear network
============================================

The regularised loss of a deep linear network is a polynomial. Over the complex numbers it has the same
number of critical points for almost all data; how many of them are real depends on the data.
"""

import tempfile

import matplotlib.pyplot as plt

import landscape as ls

study = ls.CriticalPointStudy(
    ls.models.DeepLinear(widths=(2, 2, 2), examples=1),
    ls.solvers.Monodromy(),
    samples=40,
    seed=0,
)
run = study.run(store=tempfile.mkdtemp())
table = run.summary()
table.head()

# %%
# The number of complex critical points is always the same, and that of the real ones is odd.

counts = table["N_R"].value_counts().sort_index()
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.bar(counts.index, counts, width=0.8)
axes.set(
    xlabel="number of real critical points", ylabel="samples", xticks=counts.index
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
