"""What holds for all walkers of single points: workers do not see each other, whoever they are."""

import attrs
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, UnstableDataError
from landscape.store import decode, encode
from landscape_walkers.adam import Adam
from landscape_walkers.entropy_sgd import EntropySGD
from landscape_walkers.gradient_norm import GradientNormDescent
from landscape_walkers.langevin import MALA, SGLD
from landscape_walkers.lbfgs import LBFGS
from landscape_walkers.rmsprop import RMSprop
from landscape_walkers.sam import SAM
from landscape_walkers.sgd import GD, SGD
from landscape_walkers.sharpness import SharpnessAscent
from landscape_walkers.wandering import ExcursionWalk, RandomWalk

WALKERS = [
    GD(0.1, momentum=0.9),
    Adam(0.01, 16),
    RMSprop(0.01, 16, centered=True, momentum=0.5),
    LBFGS(),
    LBFGS(0.1, line_search="none", history=2),
    SAM(SGD(0.1, 16, momentum=0.9)),
    SAM(Adam(0.01, 16), adaptive=True),
    GradientNormDescent(GD(0.05)),
    GradientNormDescent(Adam(0.01, 16), objective="norm"),
    EntropySGD(batch_size=16, inner_steps=3, momentum=0.9, nesterov=True, noise=0.01, gamma=0.1),
    SGLD(1e-4, 16, localization=1.0, weight_decay=0.1),
    MALA(1e-3, nbeta=10.0, localization=1.0),
    RandomWalk(0.01),
    ExcursionWalk(0.02, 0.01, relative=True),
    ExcursionWalk(0.02, 0.02, relative=True, at_boundary="stop"),
    SharpnessAscent(0.1, 0.05),
    SharpnessAscent(0.1, 0.05, at_boundary="stop"),
]
every_walker = pytest.mark.parametrize("walker", WALKERS, ids=str)


def rows(landscape, count, seed=0):
    noise = torch.randn(count, landscape.size, generator=torch.Generator().manual_seed(seed))
    return landscape.initial() + 0.01 * noise.to(landscape.dtype)


def walk(walker, landscape, state, steps, **step):
    for _ in range(steps):
        state = walker.step(landscape, state, **step)
    return state


def same(one, other):
    """Whether two states agree in every bit."""
    (tree, tensors), (tree_, tensors_) = encode(one), encode(other)
    return tree == tree_ and all(torch.equal(tensors[name], tensors_[name]) for name in tensors)


# One that the store has and one with an odd number of weights, where vectorised arithmetic has a remainder.
@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def landscape(request, classifier):
    return classifier(request.param, examples=40, hidden=9)


@every_walker
def test_a_worker_walks_the_same_however_many_others_there_are(landscape, generator, walker):
    begin = rows(landscape, 3)
    ends = {
        workers: walk(walker, landscape, walker.start(landscape, begin[:workers], generator(7)), 5).positions
        for workers in (1, 3)
    }
    assert not torch.equal(ends[1], begin[:1])
    assert torch.equal(ends[1], ends[3][:1])


@every_walker
def test_resting_workers_keep_everything_and_catch_up_later(landscape, generator, walker):
    begin = walker.start(landscape, rows(landscape, 2), generator())
    first = torch.tensor([True, False])
    some = walk(walker, landscape, begin, 3, active=first)
    assert some.updates == (3, 0)
    assert torch.equal(some.positions[1], begin.positions[1])
    later = walk(walker, landscape, some, 3, active=~first)
    assert same(later, walk(walker, landscape, begin, 3))


@every_walker
def test_a_state_that_went_through_the_store_continues_bit_for_bit(classifier, generator, walker):
    landscape = classifier(examples=40)
    middle = walk(walker, landscape, walker.start(landscape, rows(landscape, 2), generator()), 4)
    tree, tensors = encode(middle)
    restored = decode(tree, tensors, walker.start(landscape, rows(landscape, 2), generator(99)))
    assert same(walk(walker, landscape, restored, 4), walk(walker, landscape, middle, 4))


@every_walker
def test_hyper_parameters_that_differ_act_on_their_worker_alone(classifier, generator, walker):
    landscape = classifier(examples=40)
    begin = rows(landscape, 2)
    state = walker.start(landscape, begin, generator())
    values = walker.hyperparameters(state)
    name = next(iter(values))
    changed = walker.adjust(state, **{name: (values[name], values[name] / 2)})
    mixed, plain = walk(walker, landscape, changed, 4), walk(walker, landscape, state, 4)
    uniform = walk(walker, landscape, walker.adjust(state, **{name: values[name] / 2}), 4)
    assert walker.hyperparameters(mixed)[name] == (values[name], values[name] / 2)
    assert torch.equal(mixed.positions[0], plain.positions[0])
    assert torch.equal(mixed.positions[1], uniform.positions[1])


@every_walker
def test_a_moved_worker_walks_on_from_where_it_was_put(classifier, generator, walker):
    # Whatever is remembered of the old place must not be taken for the new one.
    landscape = classifier(examples=40)
    state = walk(walker, landscape, walker.start(landscape, rows(landscape, 1), generator()), 2)
    target = rows(landscape, 1, seed=3)
    moved = walker.relocate(state, target)
    assert torch.equal(moved.positions, target)
    forgetful = attrs.evolve(
        moved, memory=tuple({k: v for k, v in m.items() if k != "at"} for m in moved.memory)
    )
    one, other = walk(walker, landscape, moved, 1), walk(walker, landscape, forgetful, 1)
    assert torch.equal(one.positions, other.positions)


@pytest.mark.parametrize(
    "walker",
    [
        Adam((0.1, 0.2)),
        SAM(SGD((0.1, 0.2))),
        SAM(SGD(0.1), rho=(0.1, 0.2)),
        SAM(SGD(0.1, workers=2)),
        GradientNormDescent(GD((0.1, 0.2))),
        EntropySGD(gamma=(0.1, 0.2)),
        MALA(lr=(0.1, 0.2)),
        ExcursionWalk((0.1, 0.2)),
    ],
    ids=str,
)
def test_there_are_as_many_workers_as_a_tuple_has_entries(walker):
    assert walker.workers == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam((0.1, 0.2), workers=3), "Adam: lr has 2 entries for 3 workers"),
        (lambda: Adam(beta1=1.0), "Adam: beta1=1.0 is not possible; beta1 must be at least 0 and below 1"),
        (lambda: RMSprop(alpha=-0.1), "RMSprop: alpha=-0.1"),
        (lambda: RMSprop(lr=None), "got None"),
        (lambda: SAM(0.1), "SAM: base=0.1 does not turn a gradient into a step; give SGD"),
        (lambda: SAM(RandomWalk()), "does not turn a gradient into a step"),
        (lambda: SAM(SGD((0.1, 0.2)), rho=(1, 2, 3)), "SAM moves 3 workers but its base walker says 2"),
        (lambda: SAM(SGD(0.1, workers=2), workers=3), "SAM moves 3 workers but its base walker says 2"),
        (lambda: SAM(SGD(0.1), rho=-1), "SAM: rho=-1.0"),
        (
            lambda: GradientNormDescent(GD(0.1), objective="cube"),
            "objective='cube'.*one of 'squared', 'norm'",
        ),
        (lambda: EntropySGD(nesterov=True), "nesterov=True needs momentum > 0"),
        (lambda: EntropySGD(averaging=0), "averaging=0.0.*above 0 and at most 1"),
        (lambda: EntropySGD(averaging=(0.1, 0.2)), "give one number"),
        (lambda: EntropySGD(inner_steps=0), "inner_steps=0"),
        (lambda: SGLD(0), "SGLD: lr=0.0.*finite number > 0"),
        (lambda: LBFGS(history=0), "history=0"),
        (lambda: LBFGS(decrease=0.9), "decrease=0.9 and curvature=0.9 can contradict"),
        (lambda: LBFGS(line_search="golden"), "line_search"),
        (lambda: SharpnessAscent(radius=0), "radius=0.0"),
        (lambda: ExcursionWalk(float("nan")), "threshold=nan"),
        (lambda: ExcursionWalk(1, at_boundary="bounce"), "at_boundary"),
    ],
)
def test_impossible_fields_are_refused_by_value(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_changes_reach_the_base_walker_and_unknown_names_are_refused(classifier, generator):
    landscape = classifier()
    walker = SAM(SGD(0.1, momentum=0.9))
    state = walker.start(landscape, rows(landscape, 2), generator())
    changed = walker.adjust(state, lr=(0.1, 0.01), rho=0.2)
    assert walker.hyperparameters(changed) == {
        "lr": (0.1, 0.01),
        "momentum": 0.9,
        "weight_decay": 0.0,
        "rho": 0.2,
    }
    with pytest.raises(ConfigurationError, match=r"SAM has no hyper-parameter 'roh'.*Did you mean 'rho'\?"):
        walker.adjust(state, roh=0.1)
    with pytest.raises(ConfigurationError, match=r"SAM: lr=-1\.0"):
        walker.adjust(state, lr=-1)


@pytest.mark.parametrize("walker", [LBFGS(), MALA(0.1, nbeta=1.0), ExcursionWalk(9.0)], ids=str)
def test_walkers_that_compare_losses_refuse_data_that_changes(generator, walker):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return torch.randn(2), torch.zeros(1)

    landscape = ls.Landscape(torch.nn.Linear(2, 1), "mse", torch.utils.data.DataLoader(Noisy(), batch_size=2))
    with pytest.raises(UnstableDataError, match=r"landscape\.fixed"):
        walker.step(landscape, walker.start(landscape, landscape.initial()[None], generator()))
