"""Gradients of several rows: both engines beside each other, and what may not be lost on the way."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import ConfigurationError, RunError
from landscape.objective import BatchLoss, Landscape, PerRow
from landscape.objective import engine as engines
from landscape.objective import traced as tracing
from landscape.objective.backward import gradients_of
from landscape.objective.engine import Engine, EngineChoice
from landscape.objective.memory import Recycler

ROWS = 5


def images(dtype=torch.float64, examples=37):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, 2, 6, 6, generator=generator, dtype=dtype)
    return x, torch.randint(10, (examples,), generator=generator)


def vectors(dtype=torch.float64, examples=37):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, 6, generator=generator, dtype=dtype)
    return x, torch.randint(10, (examples,), generator=generator)


def rows(landscape, count=ROWS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, landscape.size, generator=generator, dtype=torch.float64)
    return landscape.initial() + 0.05 * noise.to(landscape.dtype)


def batches(landscape, count=ROWS, size=16):
    stream = landscape.stream(size, 0)
    return stream.batches([stream.start(seed) for seed in range(count)])


def perceptron():
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 10))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(36, 10),
    )


def normalised():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10)
    )
    with torch.no_grad():
        net[1].running_mean.copy_(torch.linspace(-1, 1, 4))
        net[1].running_var.copy_(torch.linspace(0.5, 2, 4))
    return net


class Tied(nn.Module):
    """One matrix there and back, and a parameter that is not used."""

    def __init__(self):
        super().__init__()
        self.there, self.out, self.unused = nn.Linear(6, 6), nn.Linear(6, 10), nn.Linear(2, 3)

    def forward(self, x):
        return self.out(F.linear(torch.sin(self.there(x)), self.there.weight.T))


class OwnLoss(nn.Module):
    """Returns its loss from a dictionary."""

    def __init__(self):
        super().__init__()
        self.net = perceptron()

    def forward(self, x, y, scale):
        return scale * F.cross_entropy(self.net(x), y)


def frozen(name="0.weight"):
    net = perceptron()
    net.get_parameter(name).requires_grad_(False)
    return net


def also_small(output, target):
    return F.cross_entropy(output, target) + 0.1 * output.square().mean()


def square(theta: Tensor) -> Tensor:
    return 0.01 * theta.square().sum() + theta[0]


LANDSCAPES = {
    "perceptron": lambda **o: Landscape(perceptron().double(), "cross_entropy", vectors(), **o),
    "convolutions": lambda **o: Landscape(convolutions().double(), "cross_entropy", images(), **o),
    "batch and layer norm": lambda **o: Landscape(normalised().double(), "cross_entropy", images(), **o),
    "tied and unused weights": lambda **o: Landscape(Tied().double(), "cross_entropy", vectors(), **o),
    "frozen weights": lambda **o: Landscape(frozen().double(), "cross_entropy", vectors(), **o),
    "frozen last weights": lambda **o: Landscape(
        frozen("2.weight").double(), "cross_entropy", vectors(), **o
    ),
    "a frozen last bias": lambda **o: Landscape(frozen("2.bias").double(), "cross_entropy", vectors(), **o),
    "an output used twice": lambda **o: Landscape(perceptron().double(), also_small, vectors(), **o),
    "no last bias": lambda **o: Landscape(
        nn.Sequential(perceptron()[:2], nn.Linear(9, 10, bias=False)).double(),
        "cross_entropy",
        vectors(),
        **o,
    ),
    "a penalty": lambda **o: Landscape(
        perceptron().double(), "cross_entropy", vectors(), penalty=square, **o
    ),
    "sums": lambda **o: Landscape(perceptron().double(), "cross_entropy", vectors(), reduction="sum", **o),
    "a restriction": lambda **o: Landscape(
        normalised().double(), "cross_entropy", images(), penalty=square, **o
    ).restrict(["*.weight"]),
    "ignored targets": lambda **o: Landscape(
        perceptron().double(),
        "cross_entropy",
        (vectors()[0], vectors()[1].where(vectors()[1] != 3, -100)),
        **o,
    ),
    "uneven batches": lambda **o: Landscape(
        perceptron().double(),
        "cross_entropy",
        [tuple(t[a:b] for t in vectors()) for a, b in ((0, 20), (20, 37))],
        **o,
    ),
    "a loss inside the model, mappings": lambda **o: Landscape(
        OwnLoss().double(),
        BatchLoss(lambda m, b: m(**b, scale=2.0), lambda b: len(b["y"])),
        dict(zip("xy", vectors(), strict=True)),
        **o,
    ),
}


def closeness(one, other):
    """Return how far the rows of two matrices are apart, relative to their norms."""
    return float(((one - other).norm(dim=-1) / one.norm(dim=-1)).max())


@pytest.mark.parametrize("name", LANDSCAPES)
def test_both_engines_agree_to_rounding_in_double_precision(name):
    torch.manual_seed(0)
    loop = LANDSCAPES[name](engine="loop")
    traced = loop.with_engine("traced")
    theta, own = rows(loop), batches(loop)
    for batch in (own, own.batches[0], None):
        value, gradient = loop.value_and_gradient(theta, batch)
        for _ in range(2):
            again, other = traced.value_and_gradient(theta, batch)
            assert again.dtype == value.dtype
            torch.testing.assert_close(again, value, rtol=1e-13, atol=1e-14)
            assert closeness(gradient, other) < 1e-12
    assert traced._engine._tracer._graphs


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "batch and layer norm"])
def test_both_engines_agree_in_single_precision(name):
    torch.manual_seed(0)
    module, data = LANDSCAPES[name]().module.float(), images(torch.float32)
    data = vectors(torch.float32) if name == "perceptron" else data
    loop = Landscape(module, "cross_entropy", data, engine="loop")
    theta, own = rows(loop), batches(loop)
    traced = loop.with_engine("traced").gradient(theta, own)
    assert traced.dtype == torch.float32
    assert closeness(loop.gradient(theta, own), traced) < 1e-5


def test_a_row_in_the_loop_has_the_bits_of_the_row_alone():
    loop = LANDSCAPES["convolutions"](engine="loop")
    theta, own = rows(loop), batches(loop, size=7)
    together = loop.value_and_gradient(theta, own)
    for k in range(ROWS):
        alone = loop.value_and_gradient(theta[k], own.batches[k])
        assert torch.equal(alone[0], together[0][k])
        assert torch.equal(alone[1], together[1][k])
        assert torch.equal(loop.gradient(theta[k : k + 1], PerRow([own.batches[k]]))[0], together[1][k])


@pytest.mark.parametrize("width", [2, 3, 4])
def test_rows_may_go_through_the_graph_in_turns(monkeypatch, width):
    monkeypatch.setattr(tracing.Tracer, "width", lambda *_: width)
    loop = LANDSCAPES["a penalty"](engine="loop")
    theta, own = rows(loop), batches(loop)
    traced = loop.with_engine("traced")
    value, gradient = traced.value_and_gradient(theta, own)
    torch.testing.assert_close(value, loop.value(theta, own), rtol=1e-13, atol=0)
    assert closeness(loop.gradient(theta, own), gradient) < 1e-12
    assert {graph.rows for graph in traced._engine._tracer._graphs.values()} == {width}


def test_as_many_rows_go_together_as_the_cache_holds(monkeypatch):
    landscape = LANDSCAPES["perceptron"](engine="traced")
    theta, own = rows(landscape, 8), batches(landscape, 8)
    landscape.gradient(theta, own)
    (graph,) = landscape._engine._tracer._graphs.values()
    assert graph.rows == 8
    monkeypatch.setattr(tracing, "CACHE", graph.size // 2 + 1000)
    narrow = landscape.with_engine("traced")
    narrow.gradient(theta, own)
    assert 2 <= min(graph.rows for graph in narrow._engine._tracer._graphs.values()) <= 4


def test_a_graph_takes_buffers_frozen_weights_and_attributes_as_they_are_now():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.frozen = nn.Linear(6, 10), nn.Linear(6, 6)
            self.frozen.requires_grad_(False)
            self.register_buffer("shift", torch.ones(6))
            self.factor = 1.0

        def forward(self, x):
            return self.factor * self.linear(torch.tanh(self.frozen(x)) + self.shift)

    module = Scaled().double()
    traced = Landscape(module, "cross_entropy", vectors(), engine="traced")
    loop = traced.with_engine("loop")
    theta, own = rows(traced), batches(traced)
    seen = [traced.gradient(theta, own)]
    with torch.no_grad():
        module.shift += 1
        seen.append(traced.gradient(theta, own))
        module.frozen.weight *= 2
    seen.append(traced.gradient(theta, own))
    assert len(traced._engine._tracer._graphs) == 1
    module.factor = 3.0
    seen.append(traced.gradient(theta, own))
    assert closeness(loop.gradient(theta, own), seen[-1]) < 1e-12
    assert all(closeness(a, b) > 1e-3 for a, b in pairwise(seen))
    other = traced.with_buffers({"shift": torch.full((6,), -1.0, dtype=torch.float64)})
    assert closeness(loop.gradient(theta, own), other.gradient(theta, own)) > 1e-3
    assert closeness(other.with_engine("loop").gradient(theta, own), other.gradient(theta, own)) < 1e-12


class Branches(nn.Module):
    """Looks at its data."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 10)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else self.linear(-x)


class Draws(Branches):
    """Draws random numbers in eval mode."""

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, training=True)


class ReadsBuffer(Branches):
    """Looks at a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("on", torch.ones(()))

    def forward(self, x):
        return self.linear(x if self.on.item() > 0 else -x)


class WritesBuffer(Branches):
    """Counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * self.calls


class KeepsCount(Branches):
    """Does something else when a list of its own is long enough, which no graph can know."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(1)
        return self.linear(x) * (1.0 if len(self.seen) % 2 else 3.0)


def hooked():
    module = perceptron()
    module[0].register_forward_hook(lambda m, i, o: None)
    return module


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Branches, "data-dependent control flow"),
        (Draws, "random"),
        (ReadsBuffer, "data-dependent|item"),
        (WritesBuffer, "in-place"),
        (KeepsCount, "differ from the loop's"),
        (hooked, "hooks"),
    ],
    ids=lambda value: getattr(value, "__name__", "words"),
)
def test_what_no_graph_can_say_is_refused_with_the_reason_or_left_to_the_loop(make, words):
    landscape = Landscape(make().double(), "cross_entropy", vectors(), engine="traced")
    theta, own = rows(landscape), batches(landscape)
    with pytest.raises(ConfigurationError, match=f"(?s)engine='traced'.*({words}).*engine='loop'"):
        landscape.gradient(theta, own)

    automatic = Engine("auto", watching=True)
    place = landscape._with_engine(automatic)
    automatic.settle(4, lambda: place.gradient(theta, own))
    (choice,) = automatic.choices
    assert (choice.engine, choice.step) == ("loop", 4)
    assert choice.reason.startswith("no graph: ")
    assert automatic.in_force == "loop"


def test_tracing_and_running_leave_no_trace(snapshot):
    module = normalised().train()
    landscape = Landscape(module, "cross_entropy", images(torch.float32), engine="traced")
    theta, own = rows(landscape), batches(landscape)
    torch.manual_seed(3)
    before = snapshot(module)
    first = landscape.gradient(theta, own)
    assert snapshot(module) == before
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(landscape.gradient(theta, own), first)
    assert snapshot(module) == before


def test_what_works_in_place_is_recorded_without(monkeypatch):
    class InPlace(Branches):
        def forward(self, x):
            h = self.linear(x)
            h.mul_(2).relu_()
            return h

    traced = Landscape(InPlace().double(), "cross_entropy", vectors(), engine="traced")
    theta, own = rows(traced), batches(traced)
    kept = [tensor.clone() for tensor in own.stack()]
    assert closeness(traced.with_engine("loop").gradient(theta, own), traced.gradient(theta, own)) < 1e-12
    assert all(torch.equal(one, other) for one, other in zip(kept, own.stack(), strict=True))
    assert not any(graph.writes for graph in traced._engine._tracer._graphs.values())


def test_a_landscape_without_a_walk_keeps_to_the_loop(monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 0.0)
    landscape = LANDSCAPES["perceptron"]()
    theta, own = rows(landscape), batches(landscape)
    for _ in range(3):
        assert torch.equal(landscape.gradient(theta, own), landscape.with_engine("loop").gradient(theta, own))
    assert landscape.engine == "auto"
    assert landscape._engine.choices == ()


@pytest.mark.parametrize(("loop", "traced", "engine"), [(1.0, 0.5, "traced"), (1.0, 0.95, "loop")])
def test_the_faster_engine_is_chosen_when_the_loop_has_taken_long_and_from_then_on(
    monkeypatch, loop, traced, engine
):
    monkeypatch.setattr(engines, "_times", lambda *_: (loop, traced))
    watched = Engine("auto", watching=True)
    place = LANDSCAPES["perceptron"]()._with_engine(watched)
    theta, own = rows(place), batches(place)
    place.gradient(theta, own)
    assert not watched.begin(1)
    watched._patience = 0.0
    place.gradient(theta, own)
    assert watched.choices == ()
    assert watched.begin(2)
    (choice,) = watched.choices
    assert (choice.engine, choice.step) == (engine, 2)
    assert choice.calls.startswith(f"{ROWS} x {place.size} weights, a batch each: [0] (16, 6) float64")
    by_graph = place.with_engine("traced").gradient(theta, own)
    by_loop = place.with_engine("loop").gradient(theta, own)
    assert torch.equal(place.gradient(theta, own), by_graph if engine == "traced" else by_loop)
    # Another shape is another kind of call, which the loop serves until it has taken long itself.
    short = batches(place, size=5)
    assert torch.equal(place.gradient(theta, short), place.with_engine("loop").gradient(theta, short))

    # A record is followed from its step on, and nothing else is chosen.
    follower = Engine("auto", [EngineChoice.from_plain(choice.to_plain())])
    again = place._with_engine(follower)
    follower.begin(1)
    assert torch.equal(again.gradient(theta, own), by_loop)
    follower.begin(2)
    assert torch.equal(again.gradient(theta, own), by_graph if engine == "traced" else by_loop)
    assert follower.choices == watched.choices


def test_batches_of_different_shapes_are_left_to_the_loop():
    landscape = LANDSCAPES["perceptron"](engine="traced")
    x, y = vectors()
    ragged = PerRow([(x[:4], y[:4]), (x[:7], y[:7])])
    theta = rows(landscape, 2)
    assert torch.equal(
        landscape.gradient(theta, ragged), landscape.with_engine("loop").gradient(theta, ragged)
    )
    automatic = Engine("auto", watching=True)
    automatic.settle(0, lambda: landscape._with_engine(automatic).gradient(theta, ragged))
    assert automatic.choices == ()


def test_large_rows_are_left_to_the_loop(monkeypatch):
    monkeypatch.setattr(tracing, "CACHE", 1000)
    automatic = Engine("auto", watching=True)
    place = LANDSCAPES["perceptron"]()._with_engine(automatic)
    automatic.settle(0, lambda: place.gradient(rows(place), batches(place)))
    assert automatic.choices == ()
    assert not automatic._tracer._graphs


def test_unknown_engines_are_refused():
    with pytest.raises(ConfigurationError, match="engine='fast': give 'auto', 'loop' or 'traced'"):
        LANDSCAPES["perceptron"](engine="fast")
    with pytest.raises(RunError, match="'compiled'; this version has 'loop' and 'traced'"):
        EngineChoice.from_plain({"calls": "", "engine": "compiled", "step": 0})
    with pytest.raises(RunError, match="no record of an engine"):
        EngineChoice.from_plain({"calls": ""})
    with pytest.raises(RunError, match="'compiled'"):
        Engine("auto").follow_plain({"asked": "compiled", "watching": True, "choices": []})


@pytest.mark.parametrize("name", ["perceptron", "a penalty", "sums", "frozen weights"])
@pytest.mark.parametrize("engine", ["loop", "traced"])
def test_the_pieces_of_a_gradient_have_its_bits(name, engine):
    landscape = LANDSCAPES[name](engine=engine)
    theta, own = rows(landscape), batches(landscape)
    for batch in (own, None):
        found = torch.stack([torch.cat(pieces) for pieces in landscape.gradient_pieces(theta, batch)])
        assert torch.equal(found, landscape.gradient(theta, batch))


def test_the_pieces_of_weights_that_a_loss_does_not_use_are_zero():
    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.ones(2))
            self.used = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.used

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    landscape = Landscape(Half(), "mse", (x, 2 * x), engine="loop")
    theta = landscape.initial()[None]
    (pieces,) = landscape.gradient_pieces(theta, (x, 2 * x))
    assert torch.equal(torch.cat(pieces), landscape.gradient(theta)[0])
    ((piece,),) = landscape.restrict("unused").gradient_pieces(theta[:, :2], (x, 2 * x))
    assert piece.tolist() == [0, 0]
    assert not piece.requires_grad


def test_the_short_way_to_a_gradient_is_torchs_own():
    used, unused = torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)
    first, second = gradients_of((used**3).sum(), [used, unused])
    (expected,) = torch.autograd.grad((used**3).sum(), [used])
    assert torch.equal(first, expected)
    assert second is None
    assert used.grad is None

    class Wrapped(Tensor):
        pass

    assert torch.equal(gradients_of((used**3).sum().as_subclass(Wrapped), [used])[0], expected)


def test_memory_is_used_again_when_its_tensors_are_gone_and_not_before():
    recycler = Recycler()
    shape, here = (4, 1 << 17), torch.device("cpu")
    first = recycler.empty(shape, torch.float32, here)
    place = first.data_ptr()
    assert first.is_contiguous()
    assert place % 64 == 0
    view = first[1, 5:]
    second = recycler.empty(shape, torch.float32, here)
    assert second.data_ptr() != place
    del first
    gc.collect()
    third = recycler.empty(shape, torch.float32, here)
    assert third.data_ptr() not in (place, second.data_ptr())  # the view still needs the first
    del view
    gc.collect()
    assert recycler.empty(shape, torch.float32, here).data_ptr() == place
    assert recycler.empty((2, 1 << 18), torch.float32, here).data_ptr() == place
    assert recycler.empty((4, 1 << 16), torch.float64, here).data_ptr() == place
    small = recycler.empty((3,), torch.float64, here)
    assert (small.shape, small.dtype) == ((3,), torch.float64)


def test_a_stack_of_batches_is_made_where_they_are_alike():
    x, y = vectors()
    same = PerRow([{"x": x[:3], "y": y[:3], "n": 3}, {"x": x[3:6], "y": y[3:6], "n": 3}])
    stack = same.stack()
    assert torch.equal(stack["x"], x[:6].view(2, 3, -1))
    assert stack["n"] == 3
    assert PerRow([{"x": x[:3]}, {"x": x[:2]}]).stack() is None
    assert PerRow([{"x": x[:3]}, {"z": x[:3]}]).stack() is None
    assert PerRow([(x[:3], 1), (x[:3], 2)]).stack() is None
    assert PerRow([]).stack() is None
    back = PerRow.of_stack(stack, 2)
    assert len(back) == 2
    assert torch.equal(back.batches[1]["x"], x[3:6])
    assert back.batches[1]["n"] == 3
    assert repr(back) == "PerRow(2 batches)"
