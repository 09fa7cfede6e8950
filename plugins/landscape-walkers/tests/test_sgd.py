"""SGD against torch.optim.SGD, closed forms on quadratics, and the promises of a walker."""

import copy
import math

import attrs
import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_walkers import sgd
from landscape_walkers.sgd import SGD


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


def _rows(landscape, count, seed=0):
    noise = torch.randn(count, landscape.size, generator=torch.Generator().manual_seed(seed))
    return landscape.initial() + 0.01 * noise.to(landscape.dtype)


OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.7, "dampening": 0.7},
    {"weight_decay": 0.01},
    {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fed_with_the_same_batches_it_has_the_bits_of_torchs_optimiser(classifier, generator, dtype, options):
    landscape = classifier(dtype)
    walker = SGD(lr=0.1, batch_size=16, **options)
    state = walker.start(landscape, landscape.initial()[None], generator())

    module = copy.deepcopy(landscape.module).to(dtype)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, foreach=False, **options)
    stream = landscape.stream(16, state.seed)
    for _ in range(12):
        x, y = stream.batch(state.streams[0])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x.to(dtype)), y).backward()
        optimiser.step()
        state = walker.step(landscape, state)
        assert torch.equal(walker.positions(state)[0], landscape.layout.vector(module))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_long_vectors_take_another_way_to_the_same_bits(classifier, generator, monkeypatch, options):
    landscape = classifier(torch.float32)
    walker = SGD(lr=0.1, batch_size=16, **options)
    rows = _rows(landscape, 3)
    short = _walk(walker, landscape, walker.start(landscape, rows, generator()), 6)
    monkeypatch.setattr(sgd, "_LONG", 1)
    monkeypatch.setattr(sgd, "_STRETCH", 16)
    long = _walk(walker, landscape, walker.start(landscape, rows, generator()), 6)
    assert torch.equal(long.positions, short.positions)


def test_workers_with_equal_values_move_together_to_the_bits_of_each_alone(classifier, generator):
    landscape = classifier(torch.float32)
    rows = _rows(landscape, 3)
    # An odd one out sends all of them one by one.
    apart = SGD(lr=(0.1, 0.1, 0.2), batch_size=16, momentum=0.9)
    together = SGD(lr=0.1, batch_size=16, momentum=0.9, workers=3)
    ends = [
        _walk(walker, landscape, walker.start(landscape, rows, generator()), 6).positions
        for walker in (apart, together)
    ]
    assert torch.equal(ends[0][:2], ends[1][:2])
    assert not torch.equal(ends[0][2], ends[1][2])


def test_momentum_that_is_switched_on_later_begins_with_the_gradient_like_torchs(classifier, generator):
    landscape = classifier(torch.float64)
    walker = SGD(lr=0.1)
    state = walker.start(landscape, landscape.initial()[None], generator())
    module = copy.deepcopy(landscape.module).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, foreach=False)
    (x, y), *_ = landscape.batches()
    for step in range(6):
        if step == 3:
            optimiser.param_groups[0].update(momentum=0.9, lr=0.02)
            state = walker.adjust(state, momentum=0.9, lr=0.02)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
        state = walker.step(landscape, state)
    torch.testing.assert_close(
        walker.positions(state)[0], landscape.layout.vector(module).detach(), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_full_batch_descent_on_a_quadratic_follows_the_powers_of_its_companion_matrix(
    bowl, generator, momentum
):
    eigenvalues, lr, steps = np.array([0.1, 1.0, 3.0]), 0.4, 40
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    landscape = bowl(rotation @ np.diag(eigenvalues) @ rotation.T, np.zeros((5, 3)))
    begin = np.array([[1.0, -2.0, 0.5]])
    walker = SGD(lr=lr, momentum=momentum)
    state = walker.start(landscape, torch.from_numpy(begin), generator())
    end = walker.positions(_walk(walker, landscape, state, steps))[0].numpy()

    expected = np.empty(3)
    for i, (h, z) in enumerate(zip(eigenvalues, begin[0] @ rotation, strict=True)):
        companion = np.array([[1 + momentum - lr * h, -momentum], [1.0, 0.0]])
        expected[i] = (np.linalg.matrix_power(companion, steps) @ [z, z])[0]
    np.testing.assert_allclose(end @ rotation, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("momentum", "limit"), [(0.0, 2.0), (0.5, 3.0), (0.9, 3.8)])
def test_steps_are_stable_up_to_twice_one_plus_momentum(bowl, generator, momentum, limit):
    landscape = bowl([[1.0]], [[0.0]])
    for factor, stable in ((0.98, True), (1.02, False)):
        walker = SGD(lr=limit * factor, momentum=momentum)
        state = walker.start(landscape, torch.ones(1, 1, dtype=torch.float64), generator())
        end = float(walker.positions(_walk(walker, landscape, state, 400)).abs())
        assert (end < 1) is stable


def test_weight_decay_adds_its_multiple_of_the_weights_to_the_gradient(bowl, generator):
    landscape = bowl([[2.0]], [[0.0]])
    walker = SGD(lr=0.1, weight_decay=0.5)
    state = walker.start(landscape, torch.ones(1, 1, dtype=torch.float64), generator())
    end = float(walker.positions(_walk(walker, landscape, state, 10)))
    assert end == pytest.approx((1 - 0.1 * (2.0 + 0.5)) ** 10, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [16, None])
def test_a_worker_walks_the_same_however_many_others_there_are(classifier, generator, dtype, batch_size):
    landscape = classifier(dtype)
    walker = SGD(lr=0.1, batch_size=batch_size, momentum=0.9)
    rows = _rows(landscape, 5)
    paths = {
        workers: walker.positions(
            _walk(walker, landscape, walker.start(landscape, rows[:workers], generator(7)), 10)
        )
        for workers in (1, 2, 5)
    }
    assert torch.equal(paths[1], paths[5][:1])
    assert torch.equal(paths[2], paths[5][:2])


def test_every_worker_has_an_order_of_its_own_and_sees_every_example_once_in_an_epoch(bowl, generator):
    x = torch.arange(12.0)[:, None]
    landscape = bowl([[1.0]], x)
    walker = SGD(lr=0.0, batch_size=4)
    state = walker.start(landscape, torch.zeros(3, 1, dtype=torch.float64), generator())
    stream = landscape.stream(4, state.seed)
    orders = [[], [], []]
    for _ in range(6):
        for worker, place in enumerate(state.streams):
            orders[worker] += stream.batch(place)[0].flatten().tolist()
        state = walker.step(landscape, state)
    epochs = [order[start : start + 12] for order in orders for start in (0, 12)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_another_seed_gives_another_order(classifier, generator):
    landscape = classifier()
    walker = SGD(lr=0.1, batch_size=16)
    first, again, other = (
        _walk(walker, landscape, walker.start(landscape, _rows(landscape, 1), generator(seed)), 3)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)


def test_only_active_workers_move_and_they_move_as_if_alone(classifier, generator):
    landscape = classifier()
    walker = SGD(lr=0.1, batch_size=16, momentum=0.9)
    begin = walker.start(landscape, _rows(landscape, 3), generator())
    active = torch.tensor([True, False, True])
    some = _walk(walker, landscape, begin, 3, active=active)
    everyone = _walk(walker, landscape, begin, 3)
    assert torch.equal(some.positions[[0, 2]], everyone.positions[[0, 2]])
    assert torch.equal(some.positions[1], begin.positions[1])
    assert "velocity" not in some.memory[1]
    assert some.streams[1] == begin.streams[1]
    # Then the rest catches up, with its own data order and the first step of its momentum.
    later = _walk(walker, landscape, some, 3, active=~active)
    assert torch.equal(later.positions, everyone.positions)
    assert walker.step(landscape, later, active=torch.zeros(3, dtype=torch.bool)) is later


def test_hyper_parameters_may_differ_from_worker_to_worker(classifier, generator):
    landscape = classifier()
    rows = _rows(landscape, 3)
    mixed = SGD(lr=(0.3, 0.1, 0.01), batch_size=16, momentum=(0.0, 0.9, 0.5), weight_decay=(0.0, 0.1, 0.0))
    assert mixed.workers == 3
    end = _walk(mixed, landscape, mixed.start(landscape, rows, generator()), 5).positions
    for worker in range(3):
        alone = SGD(
            lr=mixed.lr[worker],
            batch_size=16,
            momentum=mixed.momentum[worker],
            weight_decay=mixed.weight_decay[worker],
        )
        uniform = _walk(alone, landscape, alone.start(landscape, rows, generator()), 5).positions
        assert torch.equal(end[worker], uniform[worker])


def test_hyper_parameters_are_listed_and_changed_for_all_or_one_by_one(classifier, generator):
    landscape = classifier()
    walker = SGD(lr=0.1, momentum=0.9)
    state = walker.start(landscape, _rows(landscape, 2), generator())
    assert walker.hyperparameters(state) == {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    changed = walker.adjust(state, lr=(0.1, 0.01), weight_decay=1)
    assert walker.hyperparameters(changed) == {"lr": (0.1, 0.01), "momentum": 0.9, "weight_decay": 1.0}
    assert walker.hyperparameters(state)["lr"] == 0.1
    assert walker.hyperparameters(walker.adjust(changed, lr=0.5))["lr"] == 0.5


@pytest.mark.parametrize("options", [{}, {"batch_size": 16}, {"batch_size": 7, "momentum": 0.9}], ids=str)
def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator, options):
    from landscape.store import decode, encode

    landscape = classifier()
    walker = SGD(lr=0.1, **options)
    begin = walker.start(landscape, _rows(landscape, 2), generator())
    middle = walker.adjust(_walk(walker, landscape, begin, 5), lr=(0.05, 0.2))
    tree, tensors = encode(middle)
    restored = decode(tree, tensors, walker.start(landscape, _rows(landscape, 2), generator(99)))
    assert walker.hyperparameters(restored) == walker.hyperparameters(middle)
    assert torch.equal(
        _walk(walker, landscape, restored, 7).positions, _walk(walker, landscape, middle, 7).positions
    )


def test_a_step_changes_neither_the_state_before_it_nor_the_module_nor_global_randomness(
    classifier, generator
):
    landscape = classifier()
    walker = SGD(lr=0.1, batch_size=16, momentum=0.9)
    given = _rows(landscape, 2)
    state = walker.step(landscape, walker.start(landscape, given, generator()))
    copies = {name: copy.deepcopy(getattr(state, name)) for name in attrs.fields_dict(type(state))}
    initial, random = landscape.initial().clone(), torch.get_rng_state()
    walker.step(landscape, state)
    assert torch.equal(copies["positions"], state.positions)
    velocities = [(a["velocity"], b["velocity"]) for a, b in zip(copies["memory"], state.memory, strict=True)]
    assert all(torch.equal(a, b) for a, b in velocities)
    assert copies["streams"] == state.streams
    assert torch.equal(initial, landscape.initial())
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(given, _rows(landscape, 2))


def test_relocating_moves_the_workers_and_nothing_else(classifier, generator):
    landscape = classifier()
    walker = SGD(lr=0.1, batch_size=16, momentum=0.9)
    state = _walk(walker, landscape, walker.start(landscape, _rows(landscape, 2), generator()), 2)
    target = _rows(landscape, 2, seed=5)
    moved = walker.relocate(state, target)
    assert torch.equal(walker.positions(moved), target)
    assert moved.memory == state.memory
    assert moved.streams == state.streams
    target.zero_()
    assert not torch.equal(walker.positions(moved), target)
    with pytest.raises(ConfigurationError, match="positions have shape"):
        walker.relocate(state, target[:1])


def test_the_walker_is_a_value():
    assert SGD(1) == SGD(lr=1.0) == SGD(lr=np.float32(1))
    assert type(SGD(lr=np.float32(1)).lr) is float
    assert hash(SGD(lr=[0.1, 0.2])) == hash(SGD(lr=(0.1, 0.2), workers=2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": -0.1}, "lr=-0.1"),
        ({"lr": math.nan}, "lr=nan"),
        ({"lr": math.inf}, "lr=inf"),
        ({"lr": "fast"}, "'fast'"),
        ({"lr": ("a", 0.1)}, "one number per worker"),
        ({"lr": True}, "True"),
        ({"lr": ()}, r"lr=\(\)"),
        ({"lr": 0.1, "dampening": (0.1, 0.2)}, r"dampening=\(0.1, 0.2\)"),
        ({"lr": 0.1, "momentum": -1}, "momentum=-1.0"),
        ({"lr": 0.1, "batch_size": 0}, "batch_size=0"),
        ({"lr": 0.1, "batch_size": 1.5}, "batch_size=1.5"),
        ({"lr": 0.1, "workers": 0}, "workers=0"),
        ({"lr": 0.1, "dampening": math.inf}, "dampening=inf"),
        ({"lr": 0.1, "nesterov": True}, "nesterov=True needs momentum > 0"),
        ({"lr": 0.1, "nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov=True"),
        ({"lr": (0.1, 0.2), "workers": 3}, "lr has 2 entries for 3 workers"),
        ({"lr": (0.1, 0.2), "momentum": (0.9, 0.9, 0.9)}, "lr has 2 entries for 3 workers"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        SGD(**fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "no hyper-parameter 'learning_rate'.*lr, momentum, weight_decay"),
        ({"momentun": 0.1}, r"Did you mean 'momentum'\?"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": (0.1,)}, "lr has 1 entries for 2 workers"),
    ],
)
def test_impossible_changes_are_refused_by_value(classifier, generator, changes, message):
    landscape = classifier()
    walker = SGD(lr=0.1)
    state = walker.start(landscape, _rows(landscape, 2), generator())
    with pytest.raises(ConfigurationError, match=message):
        walker.adjust(state, **changes)


def test_positions_and_masks_of_the_wrong_shape_are_refused(classifier, generator):
    landscape = classifier()
    walker = SGD(lr=0.1)
    with pytest.raises(ConfigurationError, match=rf"shape \(workers, {landscape.size}\)"):
        walker.start(landscape, landscape.initial(), generator())
    with pytest.raises(ConfigurationError, match="lr has 3 entries for 2 workers"):
        SGD(lr=(0.1, 0.2, 0.3)).start(landscape, _rows(landscape, 2), generator())
    state = walker.start(landscape, _rows(landscape, 2), generator())
    for mask in (torch.tensor([True]), torch.tensor([0, 1])):
        with pytest.raises(ConfigurationError, match="active is a bool mask"):
            walker.step(landscape, state, active=mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(5, 7, 4), (11, 13, 3), (17, 9, 5)])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_a_worker_walks_the_same_in_any_place(widths, batch_size, dtype):
    # Neither the weights nor the batches of these shapes begin at multiples of 64 bytes in every row.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, widths[0], generator=generator)
    y = torch.randint(widths[2], (50,), generator=generator)
    net = torch.nn.Sequential(torch.nn.Linear(*widths[:2]), torch.nn.Tanh(), torch.nn.Linear(*widths[1:])).to(
        dtype
    )
    landscape = ls.Landscape(net, "cross_entropy", (x.to(dtype), y), engine="loop")
    walker = SGD(lr=0.1, batch_size=batch_size, workers=4)
    rows = 0.5 * torch.randn(4, landscape.size, generator=generator, dtype=dtype)

    def ends(active):
        state = walker.start(landscape, rows, torch.Generator().manual_seed(3))
        for _ in range(12):
            state = walker.step(landscape, state, active=active)
        return walker.positions(state)

    together = ends(None)
    for worker in range(4):
        alone = ends(torch.arange(4) == worker)
        assert torch.equal(alone[worker], together[worker])
    population = ls.Population(landscape, together, step=12)
    for worker, point in enumerate(population.points):
        single = ls.Point(landscape, together[worker].clone())
        assert torch.equal(point.value(), single.value())
        assert torch.equal(point.gradient(), single.gradient())
    assert torch.equal(
        landscape.value(together), torch.stack([landscape.value(row.clone()) for row in together])
    )
