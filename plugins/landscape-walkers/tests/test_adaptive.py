"""Adam and RMSprop against torch's, bit for bit, and against closed forms."""

import copy
import math

import numpy as np
import pytest
import torch

from landscape_walkers.adam import Adam
from landscape_walkers.rmsprop import RMSprop
from landscape_walkers.sgd import GD, SGD

PAIRS = [
    (Adam(batch_size=16), torch.optim.Adam, {}),
    (Adam(0.01, 16, beta1=0.5, beta2=0.9, eps=1e-3), torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
    (Adam(batch_size=16, weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (Adam(batch_size=16, weight_decay=0.1, decoupled=True), torch.optim.AdamW, {"weight_decay": 0.1}),
    (RMSprop(batch_size=16), torch.optim.RMSprop, {}),
    (RMSprop(batch_size=16, centered=True), torch.optim.RMSprop, {"centered": True}),
    (
        RMSprop(0.001, 16, alpha=0.9, eps=1e-3, momentum=0.9, centered=True, weight_decay=0.1),
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
    ),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("walker", "rule", "options"), PAIRS, ids=str)
def test_fed_with_the_same_batches_they_have_the_bits_of_torchs_optimisers(
    classifier, generator, dtype, walker, rule, options
):
    landscape = classifier(dtype)
    state = walker.start(landscape, landscape.initial()[None], generator())
    module = copy.deepcopy(landscape.module).to(dtype)
    optimiser = rule(module.parameters(), lr=walker.lr, foreach=False, **options)
    stream = landscape.stream(16, state.seed)
    for _ in range(12):
        x, y = stream.batch(state.streams[0])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x.to(dtype)), y).backward()
        optimiser.step()
        state = walker.step(landscape, state)
        assert torch.equal(walker.positions(state)[0], landscape.layout.vector(module))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_adams_first_step_has_the_length_of_the_learning_rate_in_every_weight(bowl, generator, scale):
    landscape = bowl(scale * np.eye(3), np.zeros((4, 3)))
    begin = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    walker = Adam(lr=0.01, eps=0.0)
    state = walker.step(landscape, walker.start(landscape, begin, generator()))
    torch.testing.assert_close(begin - state.positions, 0.01 * begin.sign(), rtol=1e-10, atol=0)


def test_under_a_constant_gradient_rmsprop_moves_by_the_inverse_root_of_its_warm_up(bowl, generator):
    # A tilted plane: s_t = (1 - alpha^t) g^2, whatever g.
    landscape = bowl([[0.0]], [[0.0]])
    landscape.penalty = lambda theta: 3.0 * theta.sum()
    walker = RMSprop(lr=0.1, alpha=0.8, eps=0.0)
    state = walker.start(landscape, torch.zeros(1, 1, dtype=torch.float64), generator())
    for _ in range(7):
        state = walker.step(landscape, state)
    expected = -0.1 * sum(1 / math.sqrt(1 - 0.8**t) for t in range(1, 8))
    assert float(state.positions) == pytest.approx(expected, rel=1e-12)


def test_centred_rmsprop_divides_a_constant_gradient_by_the_spread_it_remembers(bowl, generator):
    # m_t = (1 - a^t) g and s_t = (1 - a^t) g^2, so that r_t^2 = g^2 a^t (1 - a^t).
    landscape = bowl([[0.0]], [[0.0]])
    landscape.penalty = lambda theta: 3.0 * theta.sum()
    walker = RMSprop(lr=0.1, alpha=0.8, eps=0.0, centered=True)
    state = walker.start(landscape, torch.zeros(1, 1, dtype=torch.float64), generator())
    for _ in range(7):
        state = walker.step(landscape, state)
    expected = -0.1 * sum(1 / math.sqrt(0.8**t * (1 - 0.8**t)) for t in range(1, 8))
    assert float(state.positions) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}], ids=str)
def test_gradient_descent_is_sgd_with_all_the_data(classifier, generator, options):
    landscape = classifier()
    paths = []
    for walker in (GD(0.1, **options), SGD(0.1, **options)):
        state = walker.start(landscape, landscape.initial()[None], generator())
        for _ in range(5):
            state = walker.step(landscape, state)
        paths.append(state.positions)
    assert torch.equal(*paths)
