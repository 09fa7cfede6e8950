"""Mixed populations: every worker walks as under its own walker, hyper-parameters reach whom they are for."""

import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.store import decode, encode
from landscape.testing import check_walker
from landscape_walkers.adam import Adam
from landscape_walkers.easgd import EASGD
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.group import Group, Share
from landscape_walkers.parle import Parle
from landscape_walkers.robust_ensemble import RobustEnsemble
from landscape_walkers.sgd import GD, SGD

HESSIAN = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])
MIXED = Group((SGD(lr=0.1, batch_size=16, momentum=0.9), 3), (GD(lr=0.2), 1), (Adam(lr=0.01), 2))


def _begin(workers, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(workers, size))


def _walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


def test_workers_walk_bit_for_bit_as_under_their_own_walker(classifier, generator):
    landscape = classifier()
    begin = landscape.initial() + 0.1 * torch.from_numpy(_begin(6, landscape.size)).float()
    group = _walk(MIXED, landscape, MIXED.start(landscape, begin, generator()), 8)
    rest = generator()
    for share, rows in zip(MIXED.members, (slice(0, 3), slice(3, 4), slice(4, 6)), strict=True):
        alone = share.walker.start(landscape, begin[rows], rest)
        alone = _walk(share.walker, landscape, alone, 8)
        assert torch.equal(share.walker.positions(alone), MIXED.positions(group)[rows])


def test_ways_to_say_the_same_group_are_equal():
    one = Group((SGD(lr=0.1), 2), (GD(lr=0.2), 1))
    assert one == Group(members=[(SGD(lr=0.1), 2), (GD(lr=0.2), 1)])
    assert one == Group(Share(SGD(lr=0.1), 2), GD(lr=0.2))
    assert one == Group([SGD(lr=0.1), 2], (GD(lr=0.2), 1))
    assert hash(one) == hash(Group(members=one.members))
    assert one != Group((SGD(lr=0.1), 1), (GD(lr=0.2), 2))
    assert Group((SGD(lr=(0.1, 0.2)), 2), GD(lr=0.2)).workers == 3


@pytest.mark.parametrize("format", ["json", "toml"])
@pytest.mark.parametrize(
    "walker",
    [
        MIXED,
        EASGD(Group((SGD(lr=0.1), 2), (GD(lr=0.1), 1)), schedule="asynchronous", speeds=(1, 2, 3)),
        EASGD(SGD(lr=0.1), 3, period=(1, 2, 3), schedule="round robin"),
        EASGD(SGD(lr=0.1), sequential=True, centre_norm="mean", output_bias_damping=0.9, output_bias="*.bias"),
        RobustEnsemble(SGD(lr=0.1), 3, gamma=0.1, centre="elastic", rate=0.1),
        Parle(SGD(lr=0.1), 3, scoping=0.01),
        Group((EASGD(SGD(lr=0.1), 2), 2), (Group((GD(lr=0.1), 1), (GD(lr=0.2), 1)), 2)),
    ],
    ids=["group", "asynchronous", "round robin", "2016", "robust", "parle", "nested"],
)  # fmt: skip
def test_couplings_and_groups_survive_the_way_through_a_configuration(walker, format):
    experiment = ls.Experiment(ls.models.MLP(hidden=(8,)), ls.datasets.Digits(), walker, steps=3)
    again = ls.loads(ls.dumps(experiment, format), format)
    assert again == experiment
    assert again.walker.workers == walker.workers


def test_a_group_reads_well_in_a_file_that_people_write():
    text = """
    [experiment]
    model = { component = "MLP", hidden = [8] }
    dataset = "Digits"
    [[experiment.walker.base.members]]
    walker = { component = "SGD", lr = 0.1, batch_size = 64 }
    count = 5
    [[experiment.walker.base.members]]
    walker = { component = "GD", lr = 0.1 }
    count = 1
    [experiment.walker]
    component = "EASGD"
    base.component = "Group"
    """
    walker = ls.loads(text, "toml").walker
    assert walker == EASGD(Group((SGD(lr=0.1, batch_size=64), 5), (GD(lr=0.1), 1)))


def test_hyper_parameters_are_listed_by_member_and_where_they_can_be_by_their_bare_name(
    classifier, generator
):
    landscape = classifier()
    state = MIXED.start(landscape, landscape.initial().expand(6, -1), generator())
    listed = MIXED.hyperparameters(state)
    assert listed["lr"] == (0.1, 0.1, 0.1, 0.2, 0.01, 0.01)
    assert (listed["0.lr"], listed["1.lr"], listed["2.lr"]) == (0.1, 0.2, 0.01)
    assert "momentum" not in listed  # 0.9 and 0, and Adam has none
    assert listed["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"0.lr": 0.3}, {"0.lr": 0.3, "1.lr": 0.2, "2.lr": 0.01}),
        ({"0.lr": (0.3, 0.4, 0.5)}, {"0.lr": (0.3, 0.4, 0.5), "1.lr": 0.2}),
        ({"lr": 0.3}, {"lr": 0.3, "0.lr": 0.3, "1.lr": 0.3, "2.lr": 0.3}),
        ({"lr": (1, 2, 3, 4, 5, 5)}, {"0.lr": (1, 2, 3), "1.lr": 4, "2.lr": 5, "lr": (1, 2, 3, 4, 5, 5)}),
        ({"momentum": 0.5}, {"0.momentum": 0.5, "1.momentum": 0.5, "momentum": 0.5}),
        ({"lr": 0.3, "1.lr": 0.4}, {"0.lr": 0.3, "1.lr": 0.4, "2.lr": 0.3}),
    ],
    ids=str,
)
def test_changes_reach_the_members_they_are_for(classifier, generator, changes, expected):
    landscape = classifier()
    state = MIXED.start(landscape, landscape.initial().expand(6, -1), generator())
    listed = MIXED.hyperparameters(MIXED.adjust(state, **changes))
    assert {name: listed[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"3.lr": 0.1}, "no hyper-parameter '3.lr'"),
        ({"2.momentum": 0.1}, "no hyper-parameter '2.momentum'"),
        ({"lrr": 0.1}, r"Did you mean 'lr'\?"),
        ({"0.lr": -1.0}, "SGD: lr=-1.0"),
        ({"0.lr": (0.1, 0.2)}, "2 entries for 3 workers"),
        ({"lr": (0.1, 0.2)}, "2 entries for 6 workers"),
        ({"momentum": (0.1,) * 6}, "member 2 has no momentum"),
    ],
)
def test_impossible_changes_are_refused_by_value(classifier, generator, changes, message):
    landscape = classifier()
    state = MIXED.start(landscape, landscape.initial().expand(6, -1), generator())
    with pytest.raises(ConfigurationError, match=message):
        MIXED.adjust(state, **changes)


def test_a_walk_and_a_schedule_change_one_members_values(classifier):
    walk = ls.Walk(classifier(), EASGD(MIXED), seed=0)
    list(walk.steps(2))
    walk.set(**{"1.lr": 0.05, "moving_rate": 0.5})
    list(walk.steps(1))
    in_force = walk.walker.hyperparameters(walk.state)
    assert (in_force["1.lr"], in_force["0.lr"], in_force["moving_rate"]) == (0.05, 0.1, 0.5)
    assert walk.changes[-1]["values"] == {"1.lr": 0.05, "moving_rate": 0.5}
    assert ls.schedules.At(3, {"1.lr": 0.05}).changes(3) == {"1.lr": 0.05}


def test_a_tied_group_follows_the_recursion_of_its_members(bowl, generator):
    workers, beta, rates = 3, 0.6, np.array([[0.1], [0.1], [0.3]])
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    walker = EASGD(Group((GD(lr=0.1), 2), (GD(lr=0.3), 1)), moving_rate=beta)
    position, centre = _begin(workers), _begin(workers).mean(0)
    state = walker.start(landscape, torch.from_numpy(position), generator())
    for _ in range(10):
        stretch = position - centre
        position = position - rates * (position @ HESSIAN) - beta / workers * stretch
        centre = centre + beta * stretch.mean(0)
        state = walker.step(landscape, state)
    np.testing.assert_allclose(walker.positions(state), position, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state.centre, centre, rtol=1e-12, atol=1e-14)


def test_only_active_workers_move(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    group = Group((GD(lr=0.1), 2), (GD(lr=0.3), 1))
    state = group.start(landscape, torch.from_numpy(_begin(3)), generator())
    after = group.step(landscape, state, active=torch.tensor([False, True, False]))
    moved = (group.positions(after) != group.positions(state)).any(1)
    assert moved.tolist() == [False, True, False]
    with pytest.raises(ConfigurationError, match=r"bool mask of shape \(3,\)"):
        group.step(landscape, state, active=torch.tensor([True]))


def test_labels_carry_the_members_number_and_records_are_nan_for_the_others(classifier, generator):
    landscape = classifier()
    group = Group((EASGD(SGD(lr=0.1), 2), 2), (EntropySGD(inner_steps=2), 1), (EASGD(SGD(lr=0.1), 2), 2))
    state = group.start(landscape, landscape.initial().expand(5, -1), generator())
    assert set(group.labelled(state)) == {"group0_centre", "group2_centre"}
    recorded = group.record(state)
    assert [math.isnan(value) for value in recorded["gamma"]] == [True, True, False, True, True]
    assert [math.isnan(value) for value in recorded["distance_from_centre"]] == [False] * 2 + [True] + [
        False
    ] * 2


def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator):
    landscape = classifier()
    walker = EASGD(MIXED, schedule="asynchronous", period=2)
    begin = landscape.initial().expand(6, -1)
    middle = _walk(walker, landscape, walker.start(landscape, begin, generator()), 9)
    middle = walker.adjust(middle, **{"1.lr": 0.01})
    restored = decode(*encode(middle), walker.start(landscape, begin, generator(99)))
    one, two = _walk(walker, landscape, restored, 9), _walk(walker, landscape, middle, 9)
    assert torch.equal(walker.positions(one), walker.positions(two))
    assert torch.equal(one.centre, two.centre)
    assert one.clocks == two.clocks


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "needs members"),
        ((0.1,), "0.1 is no share"),
        (((0.1, 2),), "0.1 is not a walker"),
        (((SGD(lr=0.1), 0),), "count=0"),
        (((SGD(lr=0.1), 1.5),), "count=1.5"),
        (((SGD(lr=(0.1, 0.2)), 3),), "3 workers shall go to SGD, which says 2"),
    ],
    ids=str,
)
def test_impossible_members_are_refused_by_value(members, message):
    with pytest.raises(ConfigurationError, match=message):
        Group(*members)


def test_another_number_of_positions_is_refused(bowl, generator):
    landscape = bowl(HESSIAN, np.zeros((2, 3)))
    group = Group((GD(lr=0.1), 2), (GD(lr=0.3), 1))
    with pytest.raises(ConfigurationError, match="3 workers together, and there are 2"):
        group.start(landscape, torch.zeros(2, 3), generator())
    state = group.start(landscape, torch.zeros(3, 3), generator())
    with pytest.raises(ConfigurationError, match="3 workers together, and there are 4"):
        group.relocate(state, torch.zeros(4, 3))


@pytest.mark.parametrize(
    "walker",
    [
        Group((SGD(lr=0.1, batch_size=8), 2), (GD(lr=0.1), 1)),
        Group((SGD(lr=(0.1, 0.2), batch_size=8), 2), (GD(lr=0.1), 1)),
        EASGD(Group((SGD(lr=0.1, batch_size=8), 2), (GD(lr=0.2), 1))),
        Parle(Group((SGD(lr=0.1, batch_size=8), 2), (GD(lr=0.2), 1)), scoping=0.01, inner_steps=2),
        Group((EASGD(SGD(lr=0.1, batch_size=8), 2), 2), (GD(lr=0.1), 1)),
    ],
    ids=["two", "per worker", "tied", "parle", "of couplings"],
)
def test_groups_keep_the_rules_of_a_walker(walker):
    check_walker(walker)
