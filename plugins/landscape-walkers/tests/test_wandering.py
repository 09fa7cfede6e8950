"""Random walks against diffusion, the uniform distribution, and Wald's identity."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape_walkers.wandering import ExcursionWalk, RandomWalk


def test_the_squared_distance_grows_by_the_variance_of_a_step(many, walked):
    size, steps, step_size = 20_000, 9, 0.05
    state = walked(RandomWalk(step_size, workers=2), many(size, 1.0), torch.zeros(2, size), steps)
    for row in state.positions:
        assert float(row.square().mean()) == pytest.approx(steps * step_size**2, rel=4 * (2 / size) ** 0.5)
    # Workers wander apart: their correlation is that of independent numbers.
    correlation = float(torch.corrcoef(state.positions)[0, 1])
    assert abs(correlation) < 4 / size**0.5


def test_it_asks_the_landscape_for_nothing(many, walked):
    landscape = many(3, 1.0)
    landscape.value = landscape.gradient = landscape.value_and_gradient = None
    assert walked(RandomWalk(), landscape, torch.zeros(1, 3), 3).updates == (3,)


@pytest.mark.parametrize(("size", "step_size"), [(1, 1.2), (3, 0.6)])
def test_with_rejection_it_samples_the_excursion_set_uniformly(many, walked, size, step_size):
    # {h |theta|^2/2 <= level} is a ball of radius R, in which the mean of |theta|^2 is R^2 P/(P + 2).
    h, level, steps = 2.0, 1.0, 2500
    landscape = many(size, h)
    walker = ExcursionWalk(level, step_size)
    state = walked(walker, landscape, torch.zeros(1, size), 0)
    squares = []
    for _ in range(steps):
        state = walker.step(landscape, state)
        squares.append(float(state.positions.square().sum()))
    means = np.array([batch.mean() for batch in np.array_split(np.array(squares), 25)])
    error = means.std(ddof=1) / 5
    assert max(squares) <= 2 * level / h * (1 + 1e-12)
    assert error < 0.05
    assert means.mean() == pytest.approx(2 * level / h * size / (size + 2), abs=4 * error)


def test_the_acceptance_is_the_share_of_steps_that_moved(many, walked):
    landscape = many(2, 1.0)
    walker = ExcursionWalk((0.5, 0.5), (0.3, 3.0))
    state = walked(walker, landscape, torch.zeros(2, 2), 0)
    assert all(math.isnan(rate) for rate in walker.record(state)["acceptance"])
    moved = []
    for _ in range(60):
        after = walker.step(landscape, state)
        moved.append((after.positions != state.positions).any(1).tolist())
        state = after
    rates = walker.record(state)["acceptance"]
    assert rates == tuple(np.mean(moved, axis=0))
    assert 0 < rates[1] < rates[0] < 1


def test_until_its_exit_it_is_the_free_walk_and_then_it_rests(many, walked):
    landscape = many(2, 1.0)
    walker = ExcursionWalk(0.5, 0.2, at_boundary="stop", workers=4)
    free = RandomWalk(0.2, workers=4)
    state = walked(walker, landscape, torch.zeros(4, 2), 0)
    other = walked(free, landscape, torch.zeros(4, 2), 0)
    exits = [math.nan] * 4
    for step in range(1, 80):
        state, other = walker.step(landscape, state), free.step(landscape, other)
        for worker in range(4):
            if math.isnan(exits[worker]):
                assert torch.equal(state.positions[worker], other.positions[worker])
                if float(landscape.value(state.positions[worker])) > 0.5:
                    exits[worker] = float(step)
    assert not any(map(math.isnan, exits))
    assert walker.record(state)["exit_step"] == tuple(exits)
    assert torch.equal(walker.step(landscape, state).positions, state.positions)


def test_the_mean_time_of_the_exit_obeys_walds_identity(many, walked):
    # E |theta_tau - theta_0|^2 = sigma^2 P E tau, whatever the set.
    workers, step_size = 150, 0.5
    landscape = many(1, 1.0)
    walker = ExcursionWalk(0.5, step_size, at_boundary="stop", workers=workers)
    state = walked(walker, landscape, torch.zeros(workers, 1), 60)
    times = np.array(walker.record(state)["exit_step"])
    assert np.isfinite(times).all()
    difference = state.positions.square().sum(1).numpy() - step_size**2 * times
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / workers**0.5


def test_thresholds_are_levels_or_rises_over_the_start(many, walked):
    landscape = many(1, 2.0)  # the loss theta^2
    for walker, level in (
        (ExcursionWalk(4.5, 0.5), 4.5),
        (ExcursionWalk(0.5, 0.5, relative=True), 4.5),
    ):
        state = walked(walker, landscape, [[2.0]], 0)
        highest = 0.0
        for _ in range(40):
            state = walker.step(landscape, state)
            highest = max(highest, float(landscape.value(state.positions[0])))
        assert 3.0 < highest <= level


def test_who_starts_outside_is_told_the_loss_and_the_level(many, walked):
    with pytest.raises(
        ConfigurationError, match=r"worker 1 starts at the loss 4, outside.* the level is 1\."
    ):
        walked(ExcursionWalk(1.0), many(1, 2.0), [[0.5], [2.0]], 1)


def test_a_walk_that_was_saved_goes_on_from_any_module(many, tmp_path):
    # Loading makes a fresh state at the module's own weights, which need not be in the set.
    landscape = many(1, 2.0)
    walker = ExcursionWalk(1.0, 0.5)
    walk = ls.Walk(landscape, walker, start=torch.tensor([0.5], dtype=torch.float64))
    for _ in walk.steps(5):
        pass
    walk.save(tmp_path / "walk")
    with torch.no_grad():
        landscape.module.theta.fill_(100.0)
    again = ls.Walk.load(tmp_path / "walk", landscape)
    for each in (walk, again):
        for _ in each.steps(20):
            pass
    assert torch.equal(walk.positions, again.positions)
    assert walker.record(walk.state) == walker.record(again.state)


def test_a_loss_that_is_not_a_number_is_outside(many, walked):
    landscape = many(1, 1.0)
    landscape.penalty = lambda theta: 0 * theta.log().sum()
    inside = walked(ExcursionWalk(10.0, 1.0), landscape, [[0.5]], 30)
    assert float(inside.positions) > 0
    assert inside.memory[0]["accepted"] < 30
