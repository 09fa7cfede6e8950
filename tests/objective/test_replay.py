"""Values at many points by a recorded forward pass, against the module's own."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.errors import ConfigurationError
from landscape.objective import BatchLoss, Landscape, replay
from landscape.objective.replay import Replay


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def classes(examples=40, dtype=torch.float64):
    x = torch.randn(examples, 16, generator=seeded(1), dtype=dtype)
    return x, torch.randint(3, (examples,), generator=seeded(2))


class Residual(nn.Module):
    """Convolutions, batch normalisation, rectifiers in place, a shortcut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Linear(16, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.norm(self.first(x.view(-1, 1, 4, 4))))
        return self.out(self.pool(self.act(x + self.second(x))).flatten(1))


class Words(nn.Module):
    """An embedding, attention, layer normalisation, and a tied output."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, 9, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.layer(self.table(x)).mean(1))


class Scaled(nn.Module):
    """A first layer whose weights are a product of weights, which no flat makes affine."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(5))
        self.inner = nn.Linear(16, 5)
        self.register_buffer("shift", torch.full((5,), 0.3))
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(torch.tanh(F.linear(x, self.gain[:, None] * self.inner.weight, self.shift)))


def perceptron(act=nn.ReLU):
    return nn.Sequential(nn.Linear(16, 7), act(), nn.Linear(7, 6), act(), nn.Linear(6, 3))


def linear():
    return nn.Sequential(nn.Linear(16, 4, bias=False), nn.Linear(4, 3))


MODULES = {
    "perceptron": perceptron,
    "in place": functools.partial(perceptron, functools.partial(nn.ELU, inplace=True)),
    "smooth": functools.partial(perceptron, nn.GELU),
    "linear": linear,
    "softmax": lambda: nn.Linear(16, 3),
    "residual": Residual,
    "scaled": Scaled,
}


def made(module, loss="cross_entropy", data=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = module().double()
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer += 0.1 * torch.rand(buffer.shape)
    return Landscape(module, loss, classes() if data is None else data, dtype=torch.float64, **options)


def flat_of(landscape, dimensions=2, points=60):
    directions = 0.3 * torch.randn(dimensions, landscape.size, generator=seeded(3), dtype=torch.float64)
    coordinates = torch.randn(points, dimensions, generator=seeded(4), dtype=torch.float64)
    return landscape.initial(), directions, coordinates


def require_agreement(landscape, reason="", rtol=1e-12, dimensions=2):
    origin, directions, coordinates = flat_of(landscape, dimensions)
    points = origin + coordinates @ directions
    expected = torch.stack([landscape.value(theta) for theta in points])
    for one, given in ((Replay(landscape), points), (Replay(landscape, origin, directions), coordinates)):
        found = one.values(given)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=rtol, atol=0)
        if reason:
            assert reason in one.reason
        else:
            assert one.reason == ""


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("together", [1, replay.TOGETHER], ids=["one", "several"])
def test_values_are_those_of_the_module(name, together, monkeypatch):
    monkeypatch.setattr(replay, "TOGETHER", together)
    require_agreement(made(MODULES[name]))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_flats_have_any_dimension(dimensions):
    require_agreement(made(perceptron), dimensions=dimensions)


def test_what_is_affine_on_a_flat_is_computed_once():
    landscape = made(perceptron)
    origin, directions, coordinates = flat_of(landscape)
    on_flat = Replay(landscape, origin, directions)
    on_flat.values(coordinates)
    (one,) = on_flat._passes
    # Of three layers, the products of the second and the third remain.
    assert one.combined.shapes == [(40, 7), (6, 7), (6,), (3, 6), (3,)]
    assert one.places == [2, 3, 4, 5]
    # A network without activations is one affine layer after another, but not affine in all their weights.
    (one,) = _passes(made(linear))
    assert [sorted(shape) for shape in one.combined.shapes] == [[4, 40], [3, 4], [3]]
    (one,) = _passes(made(lambda: nn.Linear(16, 3)))
    assert one.places == []
    assert [sorted(shape) for shape in one.combined.shapes] == [[3, 40]]


def _passes(landscape):
    origin, directions, coordinates = flat_of(landscape)
    made = Replay(landscape, origin, directions)
    made.values(coordinates)
    return made._passes


def test_what_would_take_too_much_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(replay, "KEPT", 1000)
    landscape = made(perceptron)
    require_agreement(landscape)
    (one,) = _passes(landscape)
    assert one.combined.shapes == [(7, 16), (7,), (6, 7), (6,), (3, 6), (3,)]


def test_attention_embeddings_and_tied_weights():
    x = torch.randint(9, (24, 5), generator=seeded(1))
    landscape = made(Words, data=(x, torch.randint(9, (24,), generator=seeded(2))))
    require_agreement(landscape)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_of_different_sizes_are_weighed(reduction):
    x, y = classes()
    data = [(x[:17], y[:17]), (x[17:34], y[17:34]), (x[34:], y[34:])]
    require_agreement(made(perceptron, data=data, reduction=reduction))


def test_ignored_and_weighed_classes():
    x, y = classes()
    y[3] = y[20] = -100
    require_agreement(made(perceptron, data=(x, y)))
    weighed = nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64))
    require_agreement(made(perceptron, weighed, data=(x, y)))
    require_agreement(made(perceptron, data=(x, torch.softmax(x[:, :3], 1))))
    require_agreement(made(perceptron, "mse", data=(x, x[:, :3])))


def test_penalties_restrictions_and_losses_of_batches():
    require_agreement(made(perceptron, penalty=lambda theta: theta.square().sum()))
    require_agreement(made(perceptron).restrict("0.*"))
    require_agreement(made(perceptron).restrict(["2.weight", "4.bias"]))
    data = [{"x": x, "y": y} for x, y in [classes()]]
    loss = BatchLoss(lambda module, batch: F.cross_entropy(module(batch["x"]), batch["y"]), lambda batch: 40)
    require_agreement(made(perceptron, loss, data=data))


def test_single_precision_agrees_to_rounding():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        landscape = Landscape(perceptron(), "cross_entropy", classes(dtype=torch.float32))
    require_agreement(landscape, rtol=1e-5)


def test_the_module_is_left_as_it_was():
    landscape = made(Residual)
    module = landscape.module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    require_agreement(landscape)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require_agreement(landscape)


def test_the_same_points_have_the_same_values_whatever_they_are_asked_with():
    landscape = made(perceptron)
    origin, directions, coordinates = flat_of(landscape)
    whole = Replay(landscape, origin, directions).values(coordinates)
    other = Replay(landscape, origin, directions)
    torch.testing.assert_close(other.values(coordinates[:33]), whole[:33], rtol=1e-14, atol=0)
    torch.testing.assert_close(other.values(coordinates[33:]), whole[33:], rtol=1e-14, atol=0)


# -- what the loop does ---------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Forward passes that no recording can say."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.inner = nn.Linear(16, 3)
        self.calls = 0

    def forward(self, x):
        x = self.inner(x)
        if self.how == "branches":
            return x if x.sum() > 0 else -x
        if self.how == "picks":
            return x[x[:, 0] > 0].mean(0) + x
        if self.how == "draws":
            return x + torch.rand_like(x)
        if self.how == "leaves torch":
            return x * float(x.detach().numpy().max())
        self.calls += 1
        return x


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("branches", "depend on the values"),
        ("picks", "depend on the values"),
        ("draws", "random numbers"),
        ("leaves torch", "differ from the loop's"),
        ("counts", "from call to call"),
    ],
)
def test_what_cannot_be_recorded_is_left_to_the_loop(how, reason):
    require_agreement(made(lambda: Odd(how)), reason)


def test_hooks_run_at_every_point():
    landscape = made(perceptron)
    seen = []
    landscape.module[0].register_forward_hook(lambda *arguments: seen.append(1))
    require_agreement(landscape, "has hooks")
    assert len(seen) >= 180


def test_few_points_are_not_worth_a_recording():
    landscape = made(perceptron)
    origin, directions, coordinates = flat_of(landscape, points=replay.WORTHWHILE - 1)
    one = Replay(landscape, origin, directions)
    expected = [landscape.value(origin + z @ directions) for z in coordinates]
    torch.testing.assert_close(one.values(coordinates), torch.stack(expected), rtol=1e-12, atol=0)
    assert one._passes == []
    assert one.values(coordinates[:0]).shape == (0,)


def test_what_does_not_fit_is_refused():
    landscape = made(perceptron)
    with pytest.raises(ConfigurationError, match="needs an origin"):
        Replay(landscape, landscape.initial())
    with pytest.raises(ConfigurationError, match=r"directions \(2, 3\); give \(188,\)"):
        Replay(landscape, landscape.initial(), torch.zeros(2, 3))
    with pytest.raises(ConfigurationError, match=r"give \(G, 188\)"):
        Replay(landscape).values(landscape.initial())


def test_hyperbolic_tangents_are_exact_to_rounding():
    x = torch.randn(300, 16, generator=seeded(1), dtype=torch.float64)
    data = x, torch.randint(3, (300,), generator=seeded(2))
    wide = made(
        lambda: nn.Sequential(nn.Linear(16, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 3)),
        data=data,
    )
    require_agreement(wide)
    values = 10 ** torch.linspace(-6, 1.5, 8192)
    for dtype, bound in ((torch.float32, 3e-7), (torch.float64, 5e-16)):
        given = torch.cat([values, -values]).to(dtype)
        expected = torch.tanh(given)
        torch.testing.assert_close(replay._tanh(given), expected, rtol=bound, atol=0)
        assert replay._tanh_in_place(given) is given
        torch.testing.assert_close(given, expected, rtol=bound, atol=0)
