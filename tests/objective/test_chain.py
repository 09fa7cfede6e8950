"""Products written out for known operations, against dense autograd; and what is left to the graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from landscape.errors import NotTwiceDifferentiableError
from landscape.objective import BatchLoss, Landscape, as_data, chain, curvature
from landscape.objective.curvature import _Chained


def written_out(operator):
    return all(isinstance(piece, _Chained) for piece in operator._kept)


def exact_hessian(landscape, loss, x, y):
    theta = landscape.initial()

    def function(theta):
        weights = landscape.layout.split(theta)
        return loss(torch.func.functional_call(landscape.module, weights, (x,)), y)

    return torch.autograd.functional.hessian(function, theta)


def assert_forms(operator, exact):
    """One, and nine at a time, which is more than are taken together."""
    for count in (1, 9):
        v = torch.randn(len(exact), count).double()
        found = operator.quadratic_forms(v)
        assert found.dtype == torch.float64
        torch.testing.assert_close(
            found,
            ((exact @ v) * v).sum(dim=0),
            rtol=1e-10,
            atol=1e-11 * float(exact.abs().max() * (v * v).sum()),
        )
        assert torch.equal(found, operator.quadratic_forms(v))


def compared(module, x, y, loss=F.cross_entropy, batch_size=None, chained=True):
    module = module.double().eval()
    landscape = Landscape(module, loss, as_data((x.double(), y), batch_size=batch_size))
    operator = landscape.hessian(landscape.initial())
    assert written_out(operator) is chained
    exact = exact_hessian(landscape, loss, x.double(), y)
    size = exact.abs().max()
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-10, atol=1e-12 * float(size))
    torch.testing.assert_close(
        operator.gradient, landscape.gradient(landscape.initial()), rtol=1e-11, atol=1e-14
    )
    v = torch.randn(landscape.size, 3).double()
    for k in range(3):
        torch.testing.assert_close(
            operator.matvec(v[:, k]), exact @ v[:, k], rtol=1e-10, atol=1e-12 * float(size)
        )
    assert torch.equal(operator.matmat(v), operator.matmat(v))
    assert_forms(operator, exact)
    for name, block in operator.blocks().items():
        at = landscape.layout.indices(f"{name}.*" if name else "*")
        torch.testing.assert_close(
            block.dense(), exact[at][:, at], rtol=1e-10, atol=1e-12 * float(size), msg=f"block {name}"
        )
        assert_forms(block, exact[at][:, at])
    return operator


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    examples=st.integers(1, 9),
    batch_size=st.integers(1, 9),
    bias=st.booleans(),
    activation=st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU, nn.Softplus, nn.Identity]),
    seed=st.integers(0, 999),
    cache=st.sampled_from([1, 1 << 20]),
)
def test_perceptrons_of_any_shape(widths, examples, batch_size, bias, activation, seed, cache):
    torch.manual_seed(seed)
    layers = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o, bias=bias), activation()]
    x, y = torch.randn(examples, widths[0]), torch.randn(examples, widths[-1]).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_CACHE", cache)
        patch.setattr(chain, "_VALUES", 0)
        compared(nn.Sequential(*layers), x, y, F.mse_loss, batch_size)


@pytest.mark.parametrize("activation", chain._ELEMENTWISE)
def test_every_function_of_single_numbers(activation):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.second(activation(self.first(x)))

    torch.manual_seed(0)
    compared(Net(), torch.randn(7, 3), torch.randint(3, (7,)))


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 1)}, {"bias": False}],
)
@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2),
    ],
)
@pytest.mark.parametrize("together", [1, 1 << 40])
def test_convolutions_and_pooling(options, pooling, together, monkeypatch):
    monkeypatch.setattr(chain, "_TOGETHER", together)
    torch.manual_seed(0)
    x, y = torch.randn(5, 2, 8, 7), torch.randint(3, (5,))
    front = nn.Sequential(nn.Conv2d(2, 2, (3, 2), **options), nn.Softplus(), pooling, nn.Flatten())
    compared(nn.Sequential(*front, nn.Linear(front(x).shape[1], 3)), x, y)


class Residual(nn.Module):
    """Normalised convolutions with a bypass, activations in place, a mean over pixels."""

    def __init__(self):
        super().__init__()
        self.front = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 1)
        self.plain = nn.BatchNorm2d(2, affine=False)
        self.head = nn.Linear(2, 3)
        self.drop, self.relu = nn.Dropout(0.5), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.norm(self.front(x)))
        x = F.relu(x + self.plain(self.two(torch.tanh(self.one(x)))))
        return self.head(self.drop(x.mean(dim=(2, 3))))


def test_residual_networks_with_normalisation():
    torch.manual_seed(0)
    net = Residual()
    net(torch.randn(20, 1, 5, 5))  # statistics that are not those of the start
    compared(net, torch.randn(6, 1, 5, 5), torch.randint(3, (6,)), batch_size=4)


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.each, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.each(x))).flatten(1)


def test_linear_layers_at_every_position_of_a_sequence():
    torch.manual_seed(0)
    compared(Sequences(), torch.randn(5, 4, 3), torch.randn(5, 8).double(), F.mse_loss)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


def test_many_rows_and_few_make_the_same_forms():
    """Which of two matrix products a linear layer takes for its second derivative depends on the rows."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    for examples in (2, 40):
        compared(net, torch.randn(examples, 3), torch.randint(4, (examples,)))
        compared(Sequences(), torch.randn(examples, 1, 3), torch.randn(examples, 2).double(), F.mse_loss)


def test_layers_used_twice_and_weights_that_do_not_vary():
    torch.manual_seed(0)
    compared(Tied(), torch.randn(5, 3), torch.randint(3, (5,)))
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight.requires_grad_(False)
    compared(net, torch.randn(5, 3), torch.randint(3, (5,)))
    x, y = torch.randn(5, 3).double(), torch.randint(3, (5,))
    landscape = Landscape(net.double(), "cross_entropy", (x, y))
    part = landscape.restrict(["0.weight", "4.*"])
    at = landscape.layout.indices(["0.weight", "4.*"])
    operator = part.hessian(part.initial())
    assert written_out(operator)
    whole = landscape.hessian(landscape.initial()).dense()
    torch.testing.assert_close(operator.dense(), whole[at][:, at], rtol=1e-11, atol=1e-14)
    assert_forms(operator, whole[at][:, at])


def coupled(output, target):
    return F.cross_entropy(output, target) + output.mean(dim=0).square().sum()


@pytest.mark.parametrize("outputs", [3, 40])
@pytest.mark.parametrize("loss", [F.cross_entropy, coupled])
def test_losses_that_couple_examples_and_many_outputs(outputs, loss):
    torch.manual_seed(0)
    compared(
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, outputs)),
        torch.randn(6, 2),
        torch.randint(outputs, (6,)),
        loss,
    )


def smoothed(output, target):
    return F.cross_entropy(output, target, label_smoothing=0.1, reduction="sum")


def weighted(output, target):
    return F.cross_entropy(
        output, target, weight=torch.tensor([1, 1 + 1e-9, 1], dtype=torch.float64).to(output)
    )


def nearly(output, target):
    return F.cross_entropy(output, target) + 1e-9 * output.square().sum()


@pytest.mark.parametrize("scale", [1, 30])  # the second is sure of its outputs
@pytest.mark.parametrize(
    ("loss", "softmax"),
    [
        (F.cross_entropy, True),
        (smoothed, True),
        (coupled, False),
        (weighted, False),
        (nearly, False),
        (F.mse_loss, False),
    ],
)
def test_cross_entropies_are_recognised_and_nothing_else_is(loss, softmax, scale):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    with torch.no_grad():
        net[2].weight.mul_(scale)
    y = torch.randn(7, 3).double() if loss is F.mse_loss else torch.arange(7) % 3
    operator = compared(net, torch.randn(7, 2), y, loss)
    assert [piece.chain.middle.quick for piece in operator._kept] == [softmax]
    module = net.float()
    single = Landscape(module, loss, (torch.randn(7, 2), y.float() if loss is F.mse_loss else y))
    found = [piece.chain.middle.quick for piece in single.hessian(single.initial())._kept]
    if loss not in (weighted, nearly):  # below the rounding of single precision
        assert found == [softmax]


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Unseen(Tied):
    def forward(self, x):
        return self.layer(Hidden.apply(self.layer(x)))


class UnseenAtTheEnd(Tied):
    def forward(self, x):
        return Hidden.apply(self.layer(x))


class Multiplied(Tied):
    def forward(self, x):
        return self.layer(x) * self.layer(x)


class InPlace(Tied):
    def forward(self, x):
        z = self.layer(x)
        z += 1
        return self.layer(z)


class Overwritten(Tied):
    """The activation overwrites a value that the bypass uses afterwards."""

    def forward(self, x):
        z = self.layer(x)
        torch.relu(z)
        return F.relu(z, inplace=True) + z


class OfWeights(Tied):
    def forward(self, x):
        return F.linear(x, self.layer.weight @ self.layer.weight)


class AcrossExamples(Tied):
    def forward(self, x):
        return self.layer(x).t().reshape(len(x), -1)


class MeanOfExamples(Tied):
    def forward(self, x):
        z = self.layer(x)
        return z - z.mean(dim=0)


@pytest.mark.parametrize(
    "module", [Unseen, UnseenAtTheEnd, Multiplied, InPlace, OfWeights, AcrossExamples, MeanOfExamples]
)
def test_what_is_not_known_is_left_to_the_graph(module):
    torch.manual_seed(0)
    compared(module(), torch.randn(5, 3), torch.randint(3, (5,)), chained=False)


def test_values_changed_in_place_are_the_changed_ones():
    torch.manual_seed(0)
    compared(Overwritten(), torch.randn(5, 3), torch.randint(3, (5,)))


def test_losses_inside_the_module_are_left_to_the_graph(values):
    loss = BatchLoss(lambda m, batch: F.mse_loss(m(batch[0]), batch[1]))
    landscape = Landscape(nn.Linear(3, 3).double(), loss, values)
    assert not written_out(landscape.hessian(landscape.initial()))


def test_a_loss_that_is_differentiable_once_is_still_named(values):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return 2 * ctx.saved_tensors[0] * gradient

    def loss(output, target):
        return Once.apply(output - target).mean()

    landscape = Landscape(nn.Linear(3, 3).double(), loss, values)
    with pytest.raises(NotTwiceDifferentiableError, match="The loss 'loss'"):
        landscape.hessian(landscape.initial())


def test_the_module_is_left_as_it_was(values, snapshot):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).double().train()
    landscape = Landscape(net, "mse", values)
    before = snapshot(net)
    operator = landscape.hessian(landscape.initial())
    operator.matmat(torch.ones(landscape.size, 2))
    assert written_out(operator)
    assert snapshot(net) == before


class OfOneSize(Tied):
    """Takes batches of six examples only."""

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x.view(6, 3))))


class Hiding(Tied):
    """Does with few examples what it does not do with many."""

    def forward(self, x):
        z = self.layer(x)
        return self.layer(torch.tanh(z) if len(x) < 40 else torch.relu(z))


def test_modules_of_one_batch_size_are_tried_on_all_examples():
    torch.manual_seed(0)
    compared(OfOneSize(), torch.randn(6, 3), torch.randint(3, (6,)))
    compared(Hiding(), torch.randn(64, 3), torch.randint(3, (64,)))


@pytest.mark.parametrize("few", [True, False])
def test_what_does_otherwise_in_parts_is_left_whole(few, monkeypatch):
    """Chunks are taken where they have the outputs of the whole."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 3).double(), torch.randint(3, (64,))
    landscape = Landscape(Hiding().double() if few else TwoLayers().double(), "cross_entropy", (x, y))
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", 6000)
    operator = landscape.hessian(landscape.initial())
    assert (len(operator._kept) > 1) is not few
    assert written_out(operator)
    exact = exact_hessian(landscape, F.cross_entropy, x, y)
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-10, atol=1e-13)
    assert_forms(operator, exact)


class TwoLayers(Tied):
    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))


def test_a_loss_that_couples_examples_in_its_second_derivative_alone_is_left_whole(monkeypatch):
    """At this point, value and gradient of the loss are sums over examples."""

    def flat(output, target):
        return F.mse_loss(output, target) + (output - output.detach()).mean(dim=0).square().sum()

    torch.manual_seed(0)
    x, y = torch.randn(64, 3).double(), torch.randn(64, 3).double()
    landscape = Landscape(TwoLayers().double(), flat, (x, y))
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", 6000)
    operator = landscape.hessian(landscape.initial())
    assert len(operator._kept) == 1
    theta = landscape.initial()
    plain = Landscape(landscape.module, "mse", (x, y)).hessian(theta).dense()
    z = torch.func.jacrev(
        lambda t: torch.func.functional_call(landscape.module, landscape.layout.split(t), (x,)).mean(dim=0)
    )(theta)
    torch.testing.assert_close(operator.dense(), plain + 2 * z.T @ z, rtol=1e-10, atol=1e-13)


def recorded_chain(module, x, slopes, middle):
    """The chain of a module at a batch, linearised."""
    parameters = list(module.parameters())
    with torch.no_grad(), chain.Recording(parameters, [x, *module.buffers()]) as recording:
        output = module(x)
    found = recording.chain(output)
    assert found is not None, recording.reason
    gradient = found.gradient(slopes, linearised=True)
    found.middle = middle
    return found, torch.cat([part.reshape(-1) for part in gradient])


def assert_linearised(found, module, exact):
    """One, and nine at a time; all parameters, and some."""
    parameters = list(module.parameters())
    sizes = [p.numel() for p in parameters]
    for chosen in (range(len(sizes)), [1], [0, len(sizes) - 1]):
        at = torch.cat([torch.arange(sum(sizes)).split(sizes)[n] for n in chosen])
        block = exact[at][:, at]
        for count in (1, 9):
            v = torch.randn(count, len(at)).double()
            parts = v.split([sizes[n] for n in chosen], dim=1)
            vectors = {
                n: part.reshape(count, *parameters[n].shape) for n, part in zip(chosen, parts, strict=True)
            }
            products = torch.cat(
                [torch.cat([few[n].flatten(1) for n in chosen], dim=1) for _, few in found.products(vectors)]
            )
            size = float(exact.abs().max())
            torch.testing.assert_close(products, v @ block, rtol=1e-10, atol=1e-12 * size)
            torch.testing.assert_close(
                found.forms(vectors, torch.float64),
                ((v @ block) * v).sum(dim=1),
                rtol=1e-10,
                atol=1e-11 * size,
            )


def linear_and_convolutional():
    torch.manual_seed(0)
    perceptron = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
    convolutional = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten()
    )
    images = nn.Sequential(convolutional, nn.Linear(3, 3))
    residual = Residual()
    residual(torch.randn(20, 1, 6, 6))
    return [
        (perceptron.double(), torch.randn(7, 3).double()),
        (images.double(), torch.randn(7, 1, 6, 6).double()),
        (residual.double().eval(), torch.randn(7, 1, 6, 6).double()),
    ]


def jacobian(module, function):
    """The derivatives of a function of the module with respect to all of its parameters."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    parts = torch.func.jacrev(
        lambda weights: function(lambda x: torch.func.functional_call(module, weights, (x,)))
    )(dict(zip(names, (p.detach() for p in parameters), strict=True)))
    rows = [parts[name].reshape(-1, p.numel()) for name, p in zip(names, parameters, strict=True)]
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("loss", [F.cross_entropy, coupled, F.mse_loss])
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("cache", [1, 1 << 20])
def test_products_of_the_linearised_network_are_those_of_gauss_newton(which, loss, cache, monkeypatch):
    monkeypatch.setattr(chain, "_CACHE", cache)
    monkeypatch.setattr(chain, "_VALUES", 0)
    module, x = linear_and_convolutional()[which]
    y = torch.randn(7, 3).double() if loss is F.mse_loss else torch.arange(7) % 3
    leaf = module(x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(loss(leaf, y), leaf, create_graph=True)
    found, gradient = recorded_chain(module, x, slopes.detach(), chain.Middle(leaf, slopes))
    j = jacobian(module, lambda forward: forward(x).flatten())
    m = torch.autograd.functional.hessian(lambda z: loss(z, y), leaf.detach()).reshape(21, 21)
    torch.testing.assert_close(gradient, slopes.detach().flatten() @ j, rtol=1e-11, atol=1e-14)
    assert_linearised(found, module, j.T @ m @ j)


@pytest.mark.parametrize("which", range(3))
def test_outer_products_give_second_moments_of_gradients(which):
    module, x = linear_and_convolutional()[which]
    y, factors = torch.arange(7) % 3, torch.rand(7).double()
    leaf = module(x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(F.cross_entropy(leaf, y, reduction="sum"), leaf)
    found, gradient = recorded_chain(module, x, slopes, chain.Outer(leaf, slopes, factors))
    rows = jacobian(module, lambda forward: F.cross_entropy(forward(x), y, reduction="none"))
    torch.testing.assert_close(gradient, rows.sum(dim=0), rtol=1e-11, atol=1e-13)
    assert_linearised(found, module, rows.T @ (factors.unsqueeze(1) * rows))
    weighted = found.gradient(factors.unsqueeze(1) * slopes, linearised=True)
    torch.testing.assert_close(
        torch.cat([part.reshape(-1) for part in weighted]), factors @ rows, rtol=1e-11, atol=1e-13
    )
    assert_linearised(found, module, rows.T @ (factors.unsqueeze(1) * rows))
