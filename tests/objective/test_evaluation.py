"""Measuring leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from landscape.errors import ConfigurationError
from landscape.objective import BatchLoss, Landscape


def noisy_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    ).double()
    net.train()
    net(torch.randn(11, 3, dtype=torch.float64))  # running statistics that are not the initial ones
    return net


def everything(landscape, theta, batch):
    landscape.value(theta)
    landscape.value_and_gradient(theta, batch)
    landscape.example_gradients(theta, batch)
    operator = landscape.hessian(theta, memory=0)
    operator.matvec(theta)
    landscape.hessian(theta).matvec(theta)
    landscape.score(theta)


def test_flags_buffers_gradients_and_random_states_stay_bit_for_bit(classes, snapshot):
    net = noisy_net()
    net[3].eval()  # mixed flags
    F.cross_entropy(net(classes[0]), classes[1]).backward()
    landscape = Landscape(net, "cross_entropy", classes)
    before = snapshot(net)
    everything(landscape, landscape.initial() * 1.1, classes)
    assert snapshot(net) == before
    assert [m.training for m in net] == [True, True, True, False, True]


def test_a_failing_evaluation_leaves_no_trace_either(classes, snapshot):
    net = noisy_net()

    class StopHereError(Exception):
        pass

    def failing(module, batch):
        module(batch[0])
        torch.rand(3)
        raise StopHereError

    landscape = Landscape(net, BatchLoss(failing), classes)
    before = snapshot(net)
    for evaluate in (
        landscape.value,
        landscape.gradient,
        landscape.hessian,
        lambda theta: landscape.example_gradients(theta, classes),
    ):
        with pytest.raises(StopHereError):
            evaluate(landscape.initial())
        assert snapshot(net) == before


def test_dropout_is_inert_and_batch_norm_uses_its_running_statistics(classes):
    net = noisy_net()
    landscape = Landscape(net, "cross_entropy", classes)
    value = landscape.value(landscape.initial())
    x, y = classes
    normed = (net[0](x) - net[1].running_mean) / torch.sqrt(net[1].running_var + net[1].eps)
    output = net[4](torch.tanh(normed * net[1].weight + net[1].bias))
    torch.testing.assert_close(value, F.cross_entropy(output, y).detach(), rtol=1e-13, atol=0)


def test_buffers_are_the_modules_own_until_fixed(classes):
    net = noisy_net()
    live = Landscape(net, "cross_entropy", classes)
    theta = live.initial()
    held = live.with_buffers(live.buffers())
    before = live.value(theta)
    mean = net[1].running_mean.clone()
    net[1].running_mean += 1
    assert live.value(theta) != before
    assert held.value(theta) == before
    assert torch.equal(live.buffers()["1.running_mean"], net[1].running_mean)
    assert torch.equal(held.buffers()["1.running_mean"], mean)
    again = held.with_buffers({"1.running_mean": net[1].running_mean})
    assert again.value(theta) == live.value(theta)
    with pytest.raises(ConfigurationError, match=r"no buffer '1\.runing_mean'.*running_mean"):
        live.with_buffers({"1.runing_mean": torch.zeros(6)})
    with pytest.raises(ConfigurationError, match=r"shape \(6,\), not \(5,\)"):
        live.with_buffers({"1.running_mean": torch.zeros(5)})


def test_initial_reads_the_parameters_of_now_and_values_do_not(classes):
    net = noisy_net()
    landscape = Landscape(net, "cross_entropy", classes)
    theta = landscape.initial()
    before = landscape.value(theta)
    with torch.no_grad():
        net[0].weight += 1
    assert landscape.value(theta) == before
    assert torch.equal(landscape.initial()[:18], theta[:18] + 1)


def test_buffers_written_during_evaluation_are_scratch(values):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()
            self.register_buffer("calls", torch.zeros(()))
            self.seen = 0

        def forward(self, x):
            self.calls += 1
            self.seen += 1
            self.extra = x
            return self.linear(x) * self.calls

    net = Counting()
    x, y = values
    landscape = Landscape(net, "mse", [(x[:5], y[:5]), (x[5:], y[5:])])
    theta = landscape.initial()
    # Every batch starts from the module's own buffers: the second does not see the first one's count.
    torch.testing.assert_close(landscape.value(theta), F.mse_loss(net.linear(x), y).detach())
    assert landscape.value(theta) == landscape.value(theta)
    assert (net.calls.item(), net.seen, vars(net).get("extra")) == (0, 0, None)


def test_a_module_that_draws_in_eval_mode_draws_the_same_each_time(values, snapshot):
    class Sampling(nn.Module):
        def __init__(self, source):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()
            self.source = source

        def forward(self, x):
            return self.linear(x) + self.source()

    for source in (lambda: torch.randn(()), lambda: np.random.rand(), random.random):
        net = Sampling(source)
        landscape = Landscape(net, "mse", values)
        theta = landscape.initial()
        before = snapshot(net)
        values_seen = {landscape.value(theta).item() for _ in range(3)}
        source()
        values_seen.add(landscape.value_and_gradient(theta)[0].item())
        assert len(values_seen) == 1
        source()
        operator, anew = landscape.hessian(theta), landscape.hessian(theta, memory=0)
        torch.testing.assert_close(operator.matvec(theta), anew.matvec(theta), rtol=1e-12, atol=1e-15)
        assert snapshot(net)[:5] == before[:5]


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(()).item()])
def test_a_score_that_draws_leaves_no_trace_though_the_loss_does_not_draw(net, classes, snapshot, draw):
    def score(output, target):
        return (output.argmax(1) == target).double().mean() + draw()

    landscape = Landscape(net, "cross_entropy", classes, score=score)
    theta = landscape.initial()
    before = snapshot(net)
    loss = landscape.value(theta)
    first = landscape.score(theta)
    draw()
    assert landscape.score(theta) == first
    assert landscape.value_and_score(theta) == (loss, first)
    assert landscape.value(theta) == loss
    after = snapshot(net)
    assert after[:5] == before[:5]
    before = snapshot(net)
    landscape.score(theta), landscape.value_and_score(theta), landscape.hessian(theta)
    assert snapshot(net) == before


def test_a_session_that_evaluates_nothing_leaves_no_trace_of_what_is_computed_again(values, snapshot):
    class Sampling(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()

        def inner(self, x):
            return torch.tanh(self.linear(x)) + random.random() * np.random.rand()

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    net = Sampling()
    landscape = Landscape(net, "mse", values)
    operator = landscape.hessian(landscape.initial())
    before = snapshot(net)
    operator.matvec(landscape.initial())
    assert snapshot(net) == before


def test_the_callers_autocast_and_gradient_mode_do_not_reach_in(net, values):
    landscape = Landscape(net, "mse", values)
    theta = landscape.initial()
    value, gradient = landscape.value_and_gradient(theta)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = landscape.value_and_gradient(theta)
        product = landscape.hessian(theta).matvec(theta)
    assert torch.equal(inside[0], value)
    assert torch.equal(inside[1], gradient)
    assert torch.equal(product, landscape.hessian(theta).matvec(theta))
    assert not value.requires_grad
    assert not gradient.requires_grad


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_use_the_given_weights_and_keep_their_own(layer):
    torch.manual_seed(0)
    net = layer(2, 3, batch_first=True).double()
    x, y = torch.randn(5, 4, 2).double(), torch.randn(5, 4, 3).double()
    loss = BatchLoss(lambda module, batch: F.mse_loss(module(batch[0])[0], batch[1]))
    landscape = Landscape(net, loss, (x, y))
    theta = landscape.initial() + 0.1
    flat = list(net._flat_weights)
    value, gradient = landscape.value_and_gradient(theta)
    dense = landscape.hessian(theta).dense()
    assert all(a is b for a, b in zip(flat, net._flat_weights, strict=True))
    other = layer(2, 3, batch_first=True).double()
    other.load_state_dict(landscape.layout.state_dict(theta))
    exact = F.mse_loss(other(x)[0], y)
    torch.testing.assert_close(value, exact.detach(), rtol=1e-13, atol=0)
    slopes = torch.autograd.grad(exact, list(other.parameters()))
    torch.testing.assert_close(gradient, torch.cat([s.reshape(-1) for s in slopes]), rtol=1e-12, atol=1e-15)
    step = 1e-6
    for i in (0, 7, landscape.size - 1):
        bump = torch.zeros_like(theta)
        bump[i] = step
        difference = (landscape.gradient(theta + bump) - landscape.gradient(theta - bump)) / (2 * step)
        torch.testing.assert_close(dense[i], difference, rtol=1e-6, atol=1e-9)


def test_recomputed_attributes_of_weight_normalisation_are_put_back(values):
    with pytest.warns(FutureWarning):
        net = nn.utils.weight_norm(nn.Linear(3, 3).double())
    held = net.weight
    landscape = Landscape(net, "mse", values)
    theta = landscape.initial() * 2
    value = landscape.value(theta)
    assert net.weight is held
    direction, length = landscape.layout.split(theta)["weight_v"], landscape.layout.split(theta)["weight_g"]
    weight = length * direction / direction.norm(dim=1, keepdim=True)
    x, y = values
    exact = F.mse_loss(x @ weight.T + landscape.layout.split(theta)["bias"], y)
    torch.testing.assert_close(value, exact, rtol=1e-13, atol=0)


def test_parametrised_modules_work(values):
    net = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3).double())
    net.train()
    landscape = Landscape(net, "mse", values)
    before = {name: b.clone() for name, b in net.named_buffers()}
    value, gradient = landscape.value_and_gradient(landscape.initial())
    assert value.isfinite()
    assert gradient.any()
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())


def test_frozen_parameters_are_constants(values):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    net[0].requires_grad_(False)
    landscape = Landscape(net, "mse", values)
    assert landscape.layout.names == ("2.weight", "2.bias")
    x, y = values
    loss = F.mse_loss(net(x), y)
    slopes = torch.autograd.grad(loss, list(net[2].parameters()))
    torch.testing.assert_close(
        landscape.gradient(landscape.initial()), torch.cat([s.reshape(-1) for s in slopes])
    )


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}])
def test_maxima_are_taken_by_another_kernel_to_the_bit_where_nothing_is_differentiated(options, snapshot):
    seen = []
    pooling = nn.MaxPool2d(**options)
    pooling.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].clone(), output)))
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), pooling, nn.Flatten(), nn.Linear(128, 3)
    ).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (5,), generator=generator)
    landscape = Landscape(net, "cross_entropy", (x, y))
    before = snapshot(net)
    value = landscape.value(landscape.initial())
    assert snapshot(net) == before
    assert "forward" not in pooling.__dict__
    (images, pooled) = seen.pop()
    assert torch.equal(pooled, F.max_pool2d(images, **options))
    assert pooled.is_contiguous()
    assert value == landscape.value_and_gradient(landscape.initial())[0]
    assert value == landscape.value_and_score(landscape.initial()[None])[0][0]
    assert value == F.cross_entropy(net(x), y)


def test_a_pooling_that_also_returns_places_is_left_alone(classes):
    class Unpooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
            self.pooling = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x):
            images = (self.scale * x)[:, :1, None, None].expand(-1, 8, 4, 4).contiguous()
            found, places = self.pooling(images)
            return F.max_unpool2d(found, places, 2).flatten(1)[:, :3]

    landscape = Landscape(Unpooling(), "cross_entropy", classes)
    theta = landscape.initial()
    assert landscape.value(theta) == landscape.value_and_gradient(theta)[0]
