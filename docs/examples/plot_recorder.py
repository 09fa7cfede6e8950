"""
Curvature along your own training
=================================

A training loop of one's own, a network with batch normalisation and dropout, a loader that shuffles. A
recorder measures along the way and changes nothing in the training.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import landscape as ls

torch.manual_seed(0)
x, y = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
data = torch.utils.data.TensorDataset(x.float() / 16, y)
loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
net = nn.Sequential(
    nn.Linear(64, 16),
    nn.BatchNorm1d(16),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(16, 10),
)
loss = nn.CrossEntropyLoss()
sgd = torch.optim.SGD(net.parameters(), lr=0.2)

# %%
# The landscape is the loss on all data, in eval mode; the recorder is called before each update.

landscape = ls.Landscape(net, loss, loader)
watch = ls.Recorder(
    landscape, ["Loss", "GradientNorm", ls.probes.HessianSpectrum(k=3)], every=14
)
step = 0
for _epoch in range(5):
    for xs, ys in loader:
        watch(step)
        sgd.zero_grad()
        loss(net(xs), ys).backward()
        sgd.step()
        step += 1

watch.metrics[["step", "loss", "gradient_norm", "hessian_eigenvalue_1"]].round(3)

# %%
# Each eigenvalue comes with a bound on its error, drawn as a band (too thin to see where the iteration
# converged well). The dashed line is 2 / learning rate: gradient descent on a quadratic function diverges where
# an eigenvalue is larger. Here they may be, since training does not walk on this landscape: in training mode,
# batch normalisation uses the statistics of each batch.

table = watch.metrics
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(table["step"], table["loss"], label="loss")
left.plot(table["step"], table["gradient_norm"], label="norm of the gradient")
left.set(xlabel="step", yscale="log")
left.legend()
for i in (1, 2, 3):
    value, error = (
        table[f"hessian_eigenvalue_{i}"],
        table[f"hessian_eigenvalue_{i}_error"],
    )
    (line,) = right.plot(table["step"], value, label=f"eigenvalue {i}")
    right.fill_between(
        table["step"],
        value - error,
        value + error,
        color=line.get_color(),
        alpha=0.3,
    )
right.axhline(2 / 0.2, color="gray", linestyle="--", linewidth=1)
right.set(xlabel="step", title="largest Hessian eigenvalues")
right.legend()
plt.show()
