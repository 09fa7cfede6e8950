"""The Hessian against dense autograd and closed forms."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from landscape.errors import (
    ConfigurationError,
    NonFiniteLossError,
    NotTwiceDifferentiableError,
    UnstableDataError,
)
from landscape.objective import BatchLoss, CurvatureOperator, Landscape, as_data, curvature


def dense(function, theta):
    return torch.autograd.functional.hessian(function, theta)


def test_the_operator_is_the_dense_hessian(net, classes, reference):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=10))
    theta = landscape.initial() * 1.5
    exact = dense(reference(landscape, F.cross_entropy, *classes), theta)
    operator = landscape.hessian(theta)
    P = landscape.size
    assert operator.shape == (P, P)
    assert (operator.dtype, operator.device) == (torch.float64, torch.device("cpu"))
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-12, atol=1e-15)
    assert torch.equal(operator.dense(), operator.dense().T)
    V = torch.randn(P, 4, dtype=torch.float64)
    torch.testing.assert_close(operator.matmat(V), exact @ V, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(operator.matvec(V[:, 0]), operator.matmat(V)[:, 0], rtol=1e-13, atol=1e-16)
    assert torch.equal(operator.matmat(V), operator.matmat(V))
    torch.testing.assert_close(operator @ V, exact @ V, rtol=1e-11, atol=1e-14)


def test_a_batch_has_its_own_hessian(net, classes, reference):
    x, y = classes
    landscape = Landscape(net, "cross_entropy", classes)
    theta = landscape.initial()
    exact = dense(reference(landscape, F.cross_entropy, x[:6], y[:6]), theta)
    torch.testing.assert_close(
        landscape.hessian(theta, (x[:6], y[:6])).dense(), exact, rtol=1e-11, atol=1e-14
    )


def test_least_squares_has_the_closed_form(values):
    x, y = values
    landscape = Landscape(nn.Linear(3, 3, bias=False).double(), "mse", (x, y))
    # L = |x W' - y|^2 / (3 B), so H = 2 / (3 B) I (x) x'x.
    exact = 2 / (3 * len(x)) * torch.kron(torch.eye(3, dtype=torch.float64), x.T @ x)
    torch.testing.assert_close(landscape.hessian(landscape.initial()).dense(), exact, rtol=1e-12, atol=1e-15)


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    examples=st.integers(1, 12),
    batch_size=st.integers(1, 12),
    memory=st.sampled_from([0, 3000, 2**31]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_products_agree_with_dense_autograd_for_any_widths_batches_and_memory(
    widths, examples, batch_size, memory, seed
):
    torch.manual_seed(seed)
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.Tanh()]
    net = nn.Sequential(*layers).double()
    x, y = torch.randn(examples, widths[0]).double(), torch.randn(examples, widths[-1]).double()
    landscape = Landscape(
        net, "mse", as_data((x, y), batch_size=batch_size), penalty=lambda t: (t**2).sum() / 2
    )
    theta = landscape.initial()

    def function(theta):
        return (
            F.mse_loss(torch.func.functional_call(net, landscape.layout.split(theta), (x,)), y)
            + theta @ theta / 2
        )

    operator = landscape.hessian(theta, memory=memory)
    V = torch.randn(landscape.size, 2).double()
    torch.testing.assert_close(operator.matmat(V), dense(function, theta) @ V, rtol=1e-10, atol=1e-12)
    cost = operator.cost
    assert cost.batches_kept + cost.batches_recomputed == -(-examples // batch_size)


def test_what_exceeds_the_memory_is_computed_anew_and_said_so(net, classes):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=5))
    theta = landscape.initial()
    full = landscape.hessian(theta)
    none = landscape.hessian(theta, memory=0)
    half = landscape.hessian(theta, memory=full.cost.bytes_held // 2)
    assert (full.cost.batches_kept, full.cost.batches_recomputed) == (5, 0)
    assert (none.cost.batches_kept, none.cost.batches_recomputed) == (0, 5)
    assert none.cost.bytes_held == 0
    assert half.cost.batches_kept == 2
    assert half.cost.bytes_held <= full.cost.bytes_held // 2
    assert full.cost.gradients_per_product < half.cost.gradients_per_product < none.cost.gradients_per_product
    v = torch.randn(landscape.size, dtype=torch.float64)
    for other in (none, half):
        torch.testing.assert_close(other.matvec(v), full.matvec(v), rtol=1e-13, atol=1e-16)
        torch.testing.assert_close(other.gradient, full.gradient, rtol=1e-13, atol=1e-16)
    assert "recomputed=5" in repr(none)
    assert none.products == 1
    with pytest.raises(ConfigurationError, match="memory=-1"):
        landscape.hessian(theta, memory=-1)


def test_the_bytes_held_are_those_of_the_activations():
    width, examples = 200, 1000
    net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))
    x, y = torch.randn(examples, 2), torch.randn(examples, 1)
    landscape = Landscape(net, "mse", (x, y))
    held = landscape.hessian(landscape.initial()).cost.bytes_held
    activation = width * examples * 4
    # At least tanh's output and the gradient that arrives at it; at most a few of that size more.
    assert 2 * activation < held < 6 * activation


def test_a_graph_is_freed_with_its_operator(net, classes):
    landscape = Landscape(net, "cross_entropy", classes)
    operator = landscape.hessian(landscape.initial())
    watched = weakref.ref(operator._kept[0])
    del operator
    assert watched() is None, "a reference cycle keeps the graph alive"
    gc.collect()


def test_the_weights_may_change_in_place_after_the_operator_was_built(net, classes):
    landscape = Landscape(net, "cross_entropy", classes)
    theta = landscape.initial()
    operator = landscape.hessian(theta)
    before = operator.matvec(torch.ones_like(theta))
    theta += 1
    with torch.no_grad():
        net.first.weight.zero_()
    assert torch.equal(operator.matvec(torch.ones_like(theta)), before)


def test_scipy_finds_the_eigenvalues_of_the_dense_matrix(net, classes):
    landscape = Landscape(net, "cross_entropy", classes)
    operator = landscape.hessian(landscape.initial())
    wrapped = operator.to_scipy()
    assert wrapped.dtype == np.float64
    exact = np.linalg.eigvalsh(operator.dense().numpy())
    found = scipy.sparse.linalg.eigsh(wrapped, k=3, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), exact[-3:], rtol=1e-10)
    V = np.random.default_rng(0).standard_normal((landscape.size, 2))
    np.testing.assert_allclose(wrapped @ V, operator.dense().numpy() @ V, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(wrapped.T @ V, wrapped @ V)
    assert (
        Landscape(net, "cross_entropy", classes, dtype=torch.float32)
        .hessian(landscape.initial())
        .to_scipy()
        .dtype
        == np.float32
    )


@pytest.mark.parametrize("shape", [(), (2,)])
def test_complex_vectors_are_refused_by_the_scipy_operator(shape):
    """scipy itself would take them, and the imaginary parts would be lost."""
    x = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    landscape = Landscape(nn.Linear(2, 1, bias=False), "mse", (x, torch.zeros(2, 1)))
    wrapped = landscape.hessian(landscape.initial()).to_scipy()
    with pytest.raises(ConfigurationError, match=r"complex128.*\.real and \.imag"):
        wrapped @ np.full((2, *shape), 1j)
    np.testing.assert_allclose(wrapped @ np.ones(2), [4.0, 1.0])


def test_a_linear_loss_has_a_zero_hessian_and_no_error(values):
    net = nn.Linear(3, 1).double()
    landscape = Landscape(net, lambda output, y: output.mean(), values)
    operator = landscape.hessian(landscape.initial())
    assert not operator.dense().any()
    assert operator.gradient.any()


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class OnceOnly(nn.Module):
    def forward(self, x):
        return Square.apply(x)


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("curved", [True, False])
def test_a_function_that_is_differentiable_once_is_named(values, after, curved):
    last = [nn.Linear(4, 3)] if after else []
    net = nn.Sequential(nn.Linear(3, 4 if after else 3), OnceOnly(), *last).double()
    loss = F.mse_loss if curved else (lambda output, y: output.sum())
    landscape = Landscape(net, loss, values)
    assert landscape.gradient(landscape.initial()).any()
    with pytest.raises(NotTwiceDifferentiableError, match=r"Submodule '1' \(OnceOnly\).*once_differentiable"):
        landscape.hessian(landscape.initial())


def test_the_deepest_module_is_named_when_containers_hold_it(values):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), OnceOnly())

        def forward(self, x, *, scale):
            return self.inner(x) * scale

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()
            self.head = nn.Linear(3, 3)

        def forward(self, x):
            return self.head(self.block(x, scale=2.0))

    landscape = Landscape(Net().double(), "mse", values)
    with pytest.raises(NotTwiceDifferentiableError, match=r"Submodule 'block\.inner\.2' \(OnceOnly\)"):
        landscape.hessian(landscape.initial())


def test_a_module_or_loss_that_does_it_itself_is_named(values):
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()

        def forward(self, x):
            return Square.apply(self.linear(x))

    landscape = Landscape(Direct(), "mse", values)
    with pytest.raises(NotTwiceDifferentiableError, match=r"The module itself \(Direct\)"):
        landscape.hessian(landscape.initial())

    def strange_loss(output, y):
        return Square.apply(output - y).mean()

    landscape = Landscape(nn.Linear(3, 3).double(), strange_loss, values)
    with pytest.raises(NotTwiceDifferentiableError, match=r"The loss 'strange_loss'"):
        landscape.hessian(landscape.initial())


def test_an_operation_without_second_derivative_is_named(values):
    class FusedAttention(nn.Module):
        def forward(self, x):
            x = x[None, None]
            # Calls the fused kernel by name, which no choice of backend can replace.
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, x, x)[0][0, 0]

    net = nn.Sequential(nn.Linear(3, 8), FusedAttention(), nn.Linear(8, 3)).double()
    landscape = Landscape(net, "mse", values)
    with pytest.raises(
        NotTwiceDifferentiableError, match=r"Submodule '1' \(FusedAttention\).*not implemented"
    ):
        landscape.hessian(landscape.initial())


def test_errors_of_the_first_derivative_are_not_disguised(values):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("no first derivative")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()

        def forward(self, x):
            return Broken.apply(self.linear(x))

    landscape = Landscape(Net(), "mse", values)
    with pytest.raises(RuntimeError, match="no first derivative") as caught:
        landscape.hessian(landscape.initial())
    assert not isinstance(caught.value, NotTwiceDifferentiableError)


def attention(x, heads=2):
    query = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(query, query, query).transpose(1, 2).flatten(2)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4)

    def forward(self, x):
        return attention(self.project(x))


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    "make", [Attending, MultiHead, lambda: nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)]
)
def test_attention_is_differentiated_twice(make):
    torch.manual_seed(0)
    net = make().double()
    x, y = torch.randn(3, 5, 4).double(), torch.randn(3, 5, 4).double()
    landscape = Landscape(net, "mse", (x, y))
    theta = landscape.initial()
    operator = landscape.hessian(theta)
    v = torch.randn(landscape.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    difference = (landscape.gradient(theta + step * v) - landscape.gradient(theta - step * v)) / (2 * step)
    torch.testing.assert_close(operator.matvec(v), difference, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(landscape.value(theta), operator.value, rtol=1e-12, atol=0)
    torch.testing.assert_close(landscape.gradient(theta), operator.gradient, rtol=1e-10, atol=1e-13)


def test_checkpointed_activations_are_recomputed_with_the_points_weights(values):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=False))

    net = Checkpointed().double()
    landscape = Landscape(net, "mse", values)
    x, y = values
    theta = landscape.initial() + 0.5

    def function(theta):
        w = landscape.layout.split(theta)
        hidden = torch.tanh(x @ w["body.0.weight"].T + w["body.0.bias"])
        return F.mse_loss(hidden @ w["head.weight"].T + w["head.bias"], y)

    torch.testing.assert_close(
        landscape.gradient(theta), torch.func.grad(function)(theta), rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(
        landscape.hessian(theta).dense(), dense(function, theta), rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("recomputing", [False, True])
def test_an_operator_stays_that_of_its_buffers_when_training_goes_on(values, memory, recomputing):
    class Normed(nn.Sequential):
        def forward(self, x):
            if not recomputing:
                return super().forward(x)
            return checkpoint(super().forward, x, use_reentrant=False)

    torch.manual_seed(0)
    net = Normed(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double()
    landscape = Landscape(net, "mse", as_data(values, batch_size=9))
    operator = landscape.hessian(landscape.initial(), memory=memory)
    before = operator.dense()
    statistics = landscape.buffers()
    net.train()(values[0])
    assert torch.equal(operator.dense(), before)
    later = landscape.hessian(landscape.initial())
    assert not torch.allclose(later.dense(), before)
    held = landscape.with_buffers(statistics).hessian(landscape.initial())
    assert torch.equal(held.dense(), before)


def test_a_point_without_finite_gradient_has_no_hessian(net, values):
    landscape = Landscape(net, "mse", values)
    with pytest.raises(NonFiniteLossError, match="The loss is nan"):
        landscape.hessian(torch.full((landscape.size,), torch.nan))

    def root(output, y):
        return (output - output).abs().sqrt().sum() + output.square().sum()

    landscape = Landscape(net, root, values)
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite.*'first\.weight'"):
        landscape.hessian(landscape.initial())


def test_a_relu_network_has_the_hessian_of_its_linear_piece(values):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x, y = values
    landscape = Landscape(net, "mse", values)
    theta = landscape.initial()
    exact = dense(
        lambda t: F.mse_loss(torch.func.functional_call(net, landscape.layout.split(t), (x,)), y), theta
    )
    torch.testing.assert_close(landscape.hessian(theta).dense(), exact, rtol=1e-12, atol=1e-15)


def test_sums_over_batches_are_kept_in_float64(values):
    """A large batch and many small ones: a float32 sum would lose what float64 keeps."""
    torch.manual_seed(0)
    net = nn.Linear(1, 1, bias=False)
    x = torch.cat([torch.full((1, 1), 4096.0), torch.full((300, 1), 0.7)])
    landscape = Landscape(net, "mse", as_data((x, torch.zeros_like(x)), batch_size=1), reduction="sum")
    exact = 2 * (x.double() ** 2).sum()
    product = landscape.hessian(torch.ones(1)).matvec(torch.ones(1))
    assert abs(product.item() - exact) / exact < 1e-7
    singles = [(2 * x[i] * x[i]) for i in range(len(x))]
    naive = sum(singles[1:], singles[0])
    assert abs(naive.item() - exact) / exact > 1e-6


def test_wrong_vectors_are_refused(net, classes):
    operator = Landscape(net, "cross_entropy", classes).hessian(torch.zeros(31, dtype=torch.float64))
    with pytest.raises(ConfigurationError, match=r"give \(31,\)"):
        operator.matvec(torch.zeros(30))
    with pytest.raises(ConfigurationError, match=r"give \(31, k\)"):
        operator.matmat(torch.zeros(2, 31))


@pytest.mark.parametrize("memory", ["a", 1.5, float("nan"), True, -1, [3]])
def test_an_amount_of_memory_is_a_whole_number_of_bytes(net, classes, memory):
    landscape = Landscape(net, "cross_entropy", classes)
    with pytest.raises(ConfigurationError, match=r"memory=.*whole number of bytes"):
        landscape.hessian(landscape.initial(), memory=memory)
    if memory != -1:
        with pytest.raises(ConfigurationError, match=r"memory=.*whole number of bytes"):
            landscape.hessian(landscape.initial()).dense(memory=memory)


@pytest.mark.parametrize("vector", ["a", None, [0.0] * 31, np.zeros(31), 3])
def test_what_is_no_tensor_of_real_numbers_is_not_multiplied(net, classes, vector):
    operator = Landscape(net, "cross_entropy", classes).hessian(torch.zeros(31, dtype=torch.float64))
    for product in (operator.matvec, operator.matmat, operator.__matmul__):
        with pytest.raises(ConfigurationError, match=r"Got a .*give a tensor"):
            product(vector)
        with pytest.raises(ConfigurationError, match="real and imaginary parts"):
            product(torch.zeros(31, dtype=torch.complex128))
    assert operator.matmat(torch.zeros(31, 0)).shape == (31, 0)


def test_operations_in_place_that_autograd_cannot_undo_are_named(values):
    class Shifted(nn.Module):
        def forward(self, x):
            z = torch.tanh(x)
            z += 1
            return z

    net = nn.Sequential(nn.Linear(3, 4), Shifted(), nn.Linear(4, 3)).double()
    landscape = Landscape(net, "mse", values)
    with pytest.raises(
        NotTwiceDifferentiableError, match=r"Submodule '1' \(Shifted\).*inplace operation.*in place"
    ):
        landscape.hessian(landscape.initial())


def test_data_that_differs_between_passes_is_refused(net):
    class Augmented(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return torch.randn(3), torch.tensor(index % 3)

    landscape = Landscape(net, "cross_entropy", Augmented())
    for kind in ("hessian", "gauss_newton"):
        with pytest.raises(UnstableDataError, match=r"fixed"):
            CurvatureOperator.of(landscape, landscape.initial(), kind)


def test_dictionary_batches_and_unsliceable_weights_have_a_hessian(net, values):
    x, y = values
    loss = BatchLoss(lambda m, b: F.mse_loss(m(b["x"]), b["y"]), weight=lambda b: len(b["x"]))
    batches = [{"x": x[:9], "y": y[:9]}, {"x": x[9:], "y": y[9:]}]
    plain = Landscape(net, "mse", values)
    theta = plain.initial()
    torch.testing.assert_close(
        Landscape(net, loss, batches).hessian(theta).dense(),
        plain.hessian(theta).dense(),
        rtol=1e-12,
        atol=1e-15,
    )


# -- other kinds ----------------------------------------------------------------------------------------------

KINDS = ("gauss_newton", "fisher", "second_moment", "covariance")


def example_weights(loss, y):
    if isinstance(loss, nn.CrossEntropyLoss):
        weights = torch.ones(3, dtype=torch.float64) if loss.weight is None else loss.weight
        return torch.where(y == loss.ignore_index, 0.0, weights[y.clamp(min=0)])
    return torch.ones(len(y), dtype=torch.float64)


def dense_kinds(landscape, loss, x, y, penalty=None, reduction="mean"):
    """Return every matrix, (P, P), from dense Jacobians of the whole data at once."""
    theta = landscape.initial()
    shares, examples = example_weights(loss, y), len(y)
    counted = shares.nonzero().squeeze(1)
    x, y, shares = x[counted], y[counted], shares[counted]

    def output(theta):
        return torch.func.functional_call(landscape.module, landscape.layout.split(theta), (x,))

    def losses(z):
        return torch.stack([loss(z[i : i + 1], y[i : i + 1]) for i in range(len(x))])

    def total(z):
        return (shares * losses(z)).sum() / (shares.sum() if reduction == "mean" else 1)

    jacobian = torch.func.jacrev(output)(theta).flatten(0, 1)
    z = output(theta).detach()
    of_output = torch.func.jacrev(torch.func.jacrev(total))(z).reshape(z.numel(), z.numel())
    rows = torch.func.jacrev(lambda theta: losses(output(theta)))(theta)
    p = shares / shares.sum()
    slope = curvature = 0.0
    if penalty is not None:
        slope, curvature = (
            torch.func.grad(penalty)(theta),
            torch.func.jacrev(torch.func.jacrev(penalty))(theta),
        )
    moved, mean = rows + slope, p @ rows
    return {
        "gauss_newton": jacobian.T @ of_output @ jacobian + curvature,
        "fisher": rows.T @ (p.unsqueeze(1) * rows),
        "second_moment": moved.T @ (p.unsqueeze(1) * moved),
        "covariance": examples * (rows - mean).T @ (p.unsqueeze(1) ** 2 * (rows - mean)),
    }


def assert_forms(operator, exact):
    v = torch.randn(len(exact), 3, generator=torch.Generator().manual_seed(0), dtype=exact.dtype)
    before = operator.products
    torch.testing.assert_close(
        operator.quadratic_forms(v), ((exact @ v) * v).sum(dim=0), rtol=1e-11, atol=1e-13
    )
    assert operator.products == before + 3
    assert operator.quadratic_forms(v[:, :0]).shape == (0,)


def penalty_of(theta):
    return (theta**3).sum() + theta @ theta / 2


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("penalty", [None, penalty_of])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_kind_is_the_dense_matrix_over_uneven_batches(net, classes, kind, penalty, memory, weighted):
    x, y = classes
    loss = nn.CrossEntropyLoss()
    if weighted:
        loss = nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64), ignore_index=-1)
        y = y.clone()
        y[[0, 3, 11, 22]] = -1
    landscape = Landscape(net, loss, as_data((x, y), batch_size=10), penalty=penalty)
    exact = dense_kinds(landscape, loss, x, y, penalty)[kind]
    operator = CurvatureOperator.of(landscape, landscape.initial(), kind, memory=memory)
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-11, atol=1e-14)
    assert_forms(operator, exact)
    assert repr(kind) in repr(operator)
    torch.testing.assert_close(
        operator.gradient, landscape.gradient(landscape.initial()), rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(operator.value, landscape.value(landscape.initial()), rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_examples_count_every_example_alike(net, values, kind):
    x, y = values
    loss = nn.MSELoss(reduction="sum")
    landscape = Landscape(net, loss, as_data((x, y), batch_size=7), reduction="sum")
    exact = dense_kinds(landscape, loss, x, y, reduction="sum")[kind]
    operator = CurvatureOperator.of(landscape, landscape.initial(), kind)
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-11, atol=1e-13)
    assert_forms(operator, exact)


@pytest.mark.parametrize("kind", ["hessian", *KINDS])
@pytest.mark.parametrize("memory", [None, 0])
def test_blocks_are_the_blocks_of_the_matrix(net, classes, kind, memory):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=10), penalty=penalty_of)
    operator = CurvatureOperator.of(landscape, landscape.initial(), kind, memory=memory)
    whole = operator.dense()
    blocks = operator.blocks()
    assert list(blocks) == ["first", "second"]
    for name, block in blocks.items():
        at = landscape.layout.indices(f"{name}.*")
        torch.testing.assert_close(block.dense(), whole[at][:, at], rtol=1e-12, atol=1e-15)
        assert torch.equal(block.gradient, operator.gradient[at])
        assert_forms(block, whole[at][:, at])
    weight = operator.block("*.weight").block("second.*")
    at = landscape.layout.indices("second.weight")
    torch.testing.assert_close(weight.dense(), whole[at][:, at], rtol=1e-12, atol=1e-15)
    with pytest.raises(ConfigurationError):
        operator.block("third.*")


def test_the_gauss_newton_matrix_of_a_linear_module_is_the_hessian(values):
    landscape = Landscape(nn.Linear(3, 3).double(), nn.HuberLoss(), values)
    theta = landscape.initial()
    torch.testing.assert_close(
        CurvatureOperator.of(landscape, theta, "gauss_newton").dense(),
        landscape.hessian(theta).dense(),
        rtol=1e-12,
        atol=1e-15,
    )


def test_a_module_whose_output_depends_on_few_weights_has_zero_rows(values):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    landscape = Landscape(Half().double(), "mse", values)
    at = landscape.layout.indices("unused.*")
    for kind in KINDS:
        operator = CurvatureOperator.of(landscape, landscape.initial(), kind)
        assert not operator.dense()[at].any()
        assert not operator.block("unused.*").dense().any()
        assert not operator.block("unused.*").quadratic_forms(torch.ones(12, 2)).any()


def test_the_covariance_of_examples_agrees_with_their_gradients(net, classes):
    landscape = Landscape(net, "cross_entropy", as_data(classes, batch_size=5), penalty=penalty_of)
    theta = landscape.initial()
    rows = landscape.example_gradients(theta, classes)
    for kind, moved in (("second_moment", rows), ("covariance", rows - rows.mean(dim=0))):
        found = CurvatureOperator.of(landscape, theta, kind).dense()
        torch.testing.assert_close(found, moved.T @ moved / len(rows), rtol=1e-11, atol=1e-14)


def test_what_a_kind_cannot_do_without_is_named(net, classes):
    landscape = Landscape(net, BatchLoss(lambda m, b: F.cross_entropy(m(b[0]), b[1])), classes)
    with pytest.raises(ConfigurationError, match="loss of \\(output, target\\)"):
        CurvatureOperator.of(landscape, landscape.initial(), "fisher")
    with pytest.raises(ConfigurationError, match="Did you mean 'gauss_newton'"):
        CurvatureOperator.of(landscape, landscape.initial(), "gaussnewton")
    half = Landscape(net, "cross_entropy", classes, dtype=torch.float16)
    with pytest.raises(ConfigurationError, match="float32"):
        half.hessian(half.initial())


def test_a_matrix_that_is_too_large_is_refused_with_its_size(net, classes):
    landscape = Landscape(net, "cross_entropy", classes)
    operator = landscape.hessian(landscape.initial())
    needed = 8 * landscape.size**2
    assert operator.dense(memory=needed).shape == operator.shape
    with pytest.raises(ConfigurationError, match=f"memory={needed - 1}"):
        operator.dense(memory=needed - 1)


# -- chunks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", *KINDS])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_beyond_the_cache_are_taken_in_chunks_with_the_same_result(
    net, values, kind, reduction, monkeypatch
):
    landscape = Landscape(
        net, nn.MSELoss(reduction=reduction), as_data(values, batch_size=16), reduction=reduction
    )
    theta = landscape.initial()
    whole = CurvatureOperator.of(landscape, theta, kind)
    assert whole.cost.batches_kept == 2
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", whole.cost.bytes_held // 4)
    for memory in (None, 0, whole.cost.bytes_held // 2):
        chunked = CurvatureOperator.of(landscape, theta, kind, memory=memory)
        cost = chunked.cost
        assert cost.batches_kept + cost.batches_recomputed > 4
        torch.testing.assert_close(chunked.dense(), whole.dense(), rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(chunked.gradient, whole.gradient, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(chunked.value, whole.value, rtol=1e-13, atol=0)


def test_a_loss_that_is_no_sum_over_examples_is_left_whole(net, values, monkeypatch):
    def spread(output, target):
        return (output - target).var(dim=0).sum()  # of the batch, not of its parts

    landscape = Landscape(net, spread, values)
    theta = landscape.initial()
    whole = landscape.hessian(theta)
    monkeypatch.setattr(curvature, "_CHUNK_BYTES", 1000)
    again = landscape.hessian(theta)
    assert again.cost == whole.cost
    assert torch.equal(again.dense(), whole.dense())


class LanguageModel(nn.Module):
    """Two causal blocks over tokens; the loss is computed inside."""

    def __init__(self, tokens=7, width=6):
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(5, width)
        self.joint = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.out = nn.Linear(width, tokens)

    def forward(self, input_ids, labels):
        h = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        for joint, norm in zip(self.joint, self.norms, strict=True):
            q, k, v = joint(norm(h)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            h = h + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return F.cross_entropy(self.out(F.gelu(h)).flatten(0, 1), labels.flatten())


def test_a_transformer_on_dictionaries_of_tokens_has_the_dense_hessian():
    torch.manual_seed(0)
    module = LanguageModel().double()
    tokens = torch.randint(7, (9, 6))
    batches = [
        {"input_ids": part[:, :-1], "labels": part[:, 1:]} for part in (tokens[:4], tokens[4:6], tokens[6:])
    ]
    landscape = Landscape(module, "model", batches)
    theta = landscape.initial()

    def loss(theta):
        weights = landscape.layout.split(theta)
        everything = (tokens[:, :-1], tokens[:, 1:])
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return torch.func.functional_call(module, weights, everything)

    exact = dense(loss, theta)
    for memory in (None, 0):
        operator = landscape.hessian(theta, memory=memory)
        torch.testing.assert_close(operator.dense(), exact, rtol=1e-10, atol=1e-13)
    for name, block in landscape.hessian(theta).blocks().items():
        at = landscape.layout.indices(f"{name}.*")
        torch.testing.assert_close(block.dense(), exact[at][:, at], rtol=1e-10, atol=1e-13)
