"""Every rule is broken once, and the check says which."""

import math
import random
from typing import ClassVar

import attrs
import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.systems import Solutions
from landscape.testing import (
    ConformanceError,
    check_component,
    check_probe,
    check_projector,
    check_solver,
    check_walker,
    quadratic,
)


def broken(match):
    return pytest.raises(ConformanceError, match=match)


def test_a_broken_rule_is_an_assertion():
    assert issubclass(ConformanceError, AssertionError)


# -- components -------------------------------------------------------------------------------------------


@attrs.frozen
class GoodProbe(ls.Probe):
    power: int = 2
    names: tuple[str, ...] = ("a",)
    scale: float | None = None

    def measure(self, point, generator):
        draw = torch.randn((), generator=generator, dtype=torch.float64)
        return ls.Measurement(
            scalars={"x": float(point.theta.norm() ** self.power + draw)},
            errors={"x": ls.Uncertainty(1.0, "standard error")},
            arrays={"spectrum": np.arange(3.0)},
            carry={"direction": point.theta.clone()},
        )


def test_a_good_probe_passes_as_class_and_as_instance():
    check_component(GoodProbe)
    check_component(GoodProbe(power=3, scale=0.5))
    assert check_probe(GoodProbe(power=1)).scalars.keys() == {"x"}


def probe(**body):
    """A probe class with fields and methods as given; what it measures is good by default."""
    body.setdefault("measure", lambda self, point, generator: ls.Measurement(scalars={"x": 1.0}))
    return attrs.frozen(type("BadProbe", (ls.Probe,), {"__module__": __name__, **body}))


def field(annotation, default):
    return {"__annotations__": {"value": annotation}, "value": default}


@pytest.mark.parametrize(
    ("component", "complaint"),
    [
        (ls.Probe, "cannot be made without arguments"),
        (attrs.define(type("Mutable", (ls.Probe,), {"measure": len})), "not a frozen one"),
        (type("Plain", (ls.Probe,), {"measure": len}), "decorate the class with @attrs.frozen"),
        (attrs.frozen(type("Alone", (), {})), "derives from none of the interfaces"),
        (probe(**field(list, attrs.Factory(list))), "cannot be hashed"),
        (probe(**field(object, attrs.Factory(object))), "which a configuration cannot say"),
        (probe(**field(float, attrs.Factory(lambda: math.nan))), "not equal to a copy|comes back"),
        (probe(**field(complex, 1j)), "which a configuration cannot say"),
        (probe(**field(int, "three")), "does not survive"),
        (probe(**field(int, attrs.field(default=1, converter=lambda n: n + 1))), "not equal to a copy"),
        (probe(schema=0), "schema must be"),
        (probe(references="a paper"), "references must be a tuple"),
    ],
)
def test_a_broken_component_is_named(component, complaint):
    with broken(complaint):
        check_component(component)


# -- probes -----------------------------------------------------------------------------------------------


def measuring(**found):
    return lambda self, point, generator: ls.Measurement(**found)


class Remembering:
    count = 0

    def __call__(self, probe, point, generator):
        Remembering.count += 1
        return ls.Measurement(scalars={"x": float(Remembering.count)})


def draws_from_torch(self, point, generator):
    return ls.Measurement(scalars={"x": float(torch.randn(()))})


def draws_from_numpy(self, point, generator):
    return ls.Measurement(scalars={"x": float(np.random.rand())})


def draws_from_python(self, point, generator):
    return ls.Measurement(scalars={"x": random.random()})


def moves_theta(self, point, generator):
    point.theta.add_(1.0)
    return ls.Measurement(scalars={"x": 0.0})


def moves_the_module(self, point, generator):
    with torch.no_grad():
        next(point.landscape.module.parameters()).add_(1.0)
    return ls.Measurement(scalars={"x": 0.0})


def leaves_a_gradient(self, point, generator):
    parameter = next(point.landscape.module.parameters())
    parameter.sum().backward()
    return ls.Measurement(scalars={"x": 0.0})


def leaves_training_mode(self, point, generator):
    point.landscape.module.train(not point.landscape.module.training)
    return ls.Measurement(scalars={"x": 0.0})


@pytest.mark.parametrize(
    ("measure", "complaint"),
    [
        (Remembering().__call__, "different results at the same point"),
        (draws_from_torch, "draws from a global random state"),
        (draws_from_numpy, "draws from a global random state"),
        (draws_from_python, "draws from a global random state"),
        (moves_theta, "changes its argument theta"),
        (moves_the_module, "changes the parameters of landscape.module"),
        (leaves_a_gradient, "changes the gradients of landscape.module"),
        (leaves_training_mode, "changes the training of landscape.module"),
        (lambda self, point, generator: {"x": 1.0}, "must return a landscape.Measurement"),
        (measuring(), "found nothing"),
        (measuring(scalars={"not a name": 1.0}), "not a name"),
        (measuring(scalars={"step": 1.0}), "the metrics table has taken"),
        (measuring(scalars={"x": torch.tensor(1.0)}), "make it a Python float"),
        (measuring(scalars={"x": True}), "make it a Python float"),
        (measuring(scalars={"x": math.nan}), "does not say why"),
        (measuring(scalars={"x": math.inf}), "does not say why"),
        (measuring(arrays={"a": np.array([1.0, math.nan])}), "leaves a without"),
        (measuring(arrays={"a": [1.0]}), "must be a numpy array"),
        (measuring(arrays={"a": np.array([object()])}), "must be a numpy array of numbers"),
        (measuring(scalars={"x": 1.0}, errors={"y": ls.Uncertainty(1.0, "bound")}), "not among its scalars"),
        (measuring(scalars={"x": 1.0}, errors={"x": 0.1}), "must be an Uncertainty"),
        (measuring(scalars={"x": 1.0}, errors={"x": ls.Uncertainty(1.0, "guess")}), "of kind 'bound' or"),
        (measuring(scalars={"x": 1.0}, errors={"x": ls.Uncertainty(-1.0, "bound")}), "cannot be negative"),
        (measuring(scalars={"x": 1.0}, warnings="careful"), "tuple of sentences"),
        (measuring(scalars={"x": 1.0}, carry={"v": np.zeros(2)}), "a tensor without a graph"),
        (measuring(scalars={"x": 1.0}, carry={"v": torch.zeros(2, requires_grad=True)}), "without a graph"),
    ],
)
def test_a_broken_probe_is_named(measure, complaint):
    body = measure if type(measure).__name__ == "function" else lambda *arguments: measure(*arguments)
    with broken(complaint):
        check_probe(probe(measure=body), quadratic((1.0, 2.0)).landscape)


def test_nan_with_a_warning_is_fine():
    check_probe(probe(measure=measuring(scalars={"x": math.nan}, warnings=("It did not converge.",))))


def test_the_global_random_state_survives_a_check_of_an_offender():
    before = torch.get_rng_state(), random.getstate()
    with broken("global"):
        check_probe(probe(measure=draws_from_torch))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_probe_of_populations_is_checked_on_one():
    @attrs.frozen
    class Spread(ls.PopulationProbe):
        def measure(self, population, generator):
            thetas = torch.stack([point.theta for point in population.points])
            return ls.Measurement(scalars={"spread": float(thetas.std())})

    assert check_probe(Spread()).scalars["spread"] > 0


@pytest.mark.parametrize("check", [check_probe, check_walker, check_projector, check_solver])
def test_a_component_of_another_kind_is_refused(check):
    other = GoodProbe() if check is not check_probe else Descent()
    with broken("derives? "):
        check(other)


# -- walkers ----------------------------------------------------------------------------------------------


@attrs.frozen
class DescentState:
    positions: torch.Tensor
    seed: int
    count: int
    lr: float


@attrs.frozen
class Descent(ls.Walker[DescentState]):
    """Noisy gradient descent that keeps every rule."""

    lr: float = 0.05
    points: int = 2

    @property
    def workers(self):
        return self.points

    def start(self, landscape, positions, generator):
        seed = int(torch.randint(2**31, (), generator=generator))
        return DescentState(positions.clone(), seed, 0, self.lr)

    def step(self, landscape, state, *, active=None):
        generator = torch.Generator().manual_seed(state.seed + state.count)
        noise = torch.randn(state.positions.shape, generator=generator, dtype=torch.float64)
        update = -state.lr * (landscape.gradient(state.positions) + 0.1 * noise)
        if active is not None:
            update = torch.where(active[:, None], update, 0.0)
        return attrs.evolve(state, positions=state.positions + update, count=state.count + 1)

    def positions(self, state):
        return state.positions

    def labelled(self, state):
        return {"centre": state.positions.mean(0)}

    def record(self, state):
        return {"updates": (float(state.count),) * len(state.positions)}

    def relocate(self, state, positions):
        return attrs.evolve(state, positions=positions.clone())

    def hyperparameters(self, state):
        return {"lr": state.lr}

    def adjust(self, state, **changes):
        if changes.keys() - {"lr"}:
            raise ConfigurationError("only lr")
        return attrs.evolve(state, **changes)


def test_a_good_walker_passes():
    check_walker(Descent())
    check_walker(Descent(points=1))
    check_walker(Descent)


GOOD = Descent()


class Unfrozen:
    def __init__(self, positions):
        self.positions = positions


def global_noise(self, landscape, state, *, active=None):
    return attrs.evolve(state, positions=state.positions + torch.randn(state.positions.shape))


def in_place(self, landscape, state, *, active=None):
    state.positions.add_(1.0)
    return state


def counting(self, landscape, state, *, active=None):
    counting.calls = getattr(counting, "calls", 0) + 1
    return attrs.evolve(state, positions=state.positions + counting.calls)


def all_move(self, landscape, state, *, active=None):
    return GOOD.step(landscape, state)


def all_move_when_any_is_active(self, landscape, state, *, active=None):
    return state if active is not None and not active.any() else GOOD.step(landscape, state)


def mask_changes_the_step(self, landscape, state, *, active=None):
    after = GOOD.step(landscape, state, active=active)
    return after if active is None or not active.all() else attrs.evolve(after, positions=after.positions + 1)


def relocation_counts(self, state, positions):
    return attrs.evolve(state, positions=positions.clone(), count=state.count + 1)


def relocation_changes_lr(self, state, positions):
    return attrs.evolve(state, positions=positions.clone(), lr=1.0)


@pytest.mark.parametrize(
    ("method", "body", "complaint"),
    [
        ("start", lambda self, space, positions, g: Unfrozen(positions), "must return a frozen attrs class"),
        (
            "start",
            lambda self, space, positions, g: DescentState(positions + 1, 0, 0, 0.1),
            "must return, before the first step, the positions given",
        ),
        (
            "start",
            lambda self, space, positions, g: DescentState(positions, int(torch.randint(9, ())), 0, 0.1),
            "start draws from a global random state",
        ),
        ("step", global_noise, "step draws from a global random state"),
        ("step", in_place, "step changes its argument state in place"),
        ("step", counting, "step gives different results for the same state"),
        ("step", all_move, "although none is active"),
        ("step", all_move_when_any_is_active, "moves workers that are not active"),
        ("step", mask_changes_the_step, "every worker active differs"),
        ("relocate", lambda self, state, positions: state, "where it is told to"),
        ("relocate", relocation_counts, "more than the positions"),
        ("relocate", relocation_changes_lr, "changes hyper-parameters"),
        ("labelled", lambda self, state: {"the centre": state.positions[0]}, "no name for a point"),
        ("labelled", lambda self, state: {"centre": state.positions}, r"not \(6,\)"),
        ("record", lambda self, state: {"step": (1.0, 2.0)}, "'step' is no name for a column"),
        ("record", lambda self, state: {"exit": (1.0,)}, "a tuple of 2 floats"),
        ("record", lambda self, state: {"exit": (1, 2)}, "a tuple of 2 floats"),
        ("hyperparameters", lambda self, state: {"lr": (0.1,)}, "1 values for 2 workers"),
        ("adjust", lambda self, state, **changes: state, "is not in force afterwards"),
        (
            "adjust",
            lambda self, state, **changes: attrs.evolve(state, lr=0.9, count=0),
            "with the value in force changes the walk",
        ),
        (
            "adjust",
            lambda self, state, lr=None, **others: attrs.evolve(state, lr=lr) if lr else state,
            "accepts a name",
        ),
    ],
)
def test_a_broken_walker_is_named(method, body, complaint):
    bad = type("BadWalker", (Descent,), {method: body, "__module__": __name__, "__annotations__": {}})
    with broken(complaint):
        check_walker(attrs.frozen(bad)())


def test_a_state_that_the_store_cannot_write_is_refused():
    @attrs.frozen
    class State:
        positions: torch.Tensor
        memory: object

    @attrs.frozen
    class Odd(Descent):
        def start(self, landscape, positions, generator):
            return State(positions, {1, 2, 3})

    with pytest.raises(ls.LandscapeError, match="memory"):
        check_walker(Odd())


# -- projectors -------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class FirstTwo(ls.InvertibleProjection):
    """The first two coordinates of the span, shifted for tests of broken ones."""

    fitted: np.ndarray
    shift: float = 0.0
    labels: tuple = ("a", "b")
    numbers: ClassVar[dict] = {"kept": 1.0}

    @property
    def coordinates(self):
        return self.fitted

    @property
    def axis_labels(self):
        return self.labels

    @property
    def quality(self):
        return self.numbers

    def transform(self, coefficients):
        return coefficients[:, :2] + self.shift

    def to_arrays(self):
        return {"fitted": self.fitted}

    def inverse(self, coordinates):
        rest = np.zeros((len(coordinates), 28))
        return np.concatenate([coordinates, rest], axis=1)


def projector(make):
    body = {"fit": lambda self, span, generator: make(span, generator), "__module__": __name__}
    return attrs.frozen(type("AProjector", (ls.Projector,), body))


def test_a_good_projector_passes():
    found = check_projector(projector(lambda span, generator: FirstTwo(span.coordinates[:, :2].copy())))
    assert found.coordinates.shape == (40, 2)


def changed(**overrides):
    cls = attrs.frozen(eq=False)(type("Changed", (FirstTwo,), overrides))
    return lambda span, generator: cls(span.coordinates[:, :2].copy())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda span, generator: span.coordinates, "must return a Projection"),
        (lambda span, g: FirstTwo(span.coordinates[:5, :2]), r"shape \(40, d\)"),
        (lambda span, g: FirstTwo(span.coordinates[:, :2].astype(np.float32)), "must be float64"),
        (lambda span, g: FirstTwo(span.coordinates[:, :2] * math.nan), "not all finite"),
        (lambda span, g: FirstTwo(span.coordinates[:, :2], labels=("a",)), "must be 2 strings"),
        (
            lambda span, g: FirstTwo(span.coordinates[:, :2], shift=1.0),
            "away from where coordinates has them",
        ),
        (lambda span, g: FirstTwo(span.coordinates[:, :2] + float(torch.randn(()))), "global random state"),
        (changed(numbers={}), "quality must say"),
        (changed(to_arrays=lambda self: {"x": [1.0]}), "to_arrays must return"),
        (changed(transform=lambda self, c: c[:, :1]), r"must give finite numbers of shape \(40, 2\)"),
        (changed(inverse=lambda self, c: c), "inverse of shape"),
    ],
)
def test_a_broken_projector_is_named(make, complaint):
    with broken(complaint):
        check_projector(projector(make))


def test_a_map_that_holds_only_nearly_may_say_so():
    nearly = projector(lambda span, generator: FirstTwo(span.coordinates[:, :2].copy(), shift=0.01))
    check_projector(nearly, consistent=False)


# -- solvers ----------------------------------------------------------------------------------------------

TRUTH = np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=np.complex128)


def solver(points, **more):
    body = {"solve": lambda self, system, generator: Solutions(points, **more), "__module__": __name__}
    return attrs.frozen(type("ASolver", (ls.Solver,), body))


def test_a_good_solver_passes():
    assert len(check_solver(solver(TRUTH))) == 4


@pytest.mark.parametrize(
    ("points", "more", "complaint"),
    [
        (TRUTH[:3], {}, r"does not find \[\[\(-2"),
        (np.concatenate([TRUTH, [[3, 3]]]), {}, "which they are not"),
        (np.concatenate([TRUTH, TRUTH[:1]]), {}, "some twice"),
        (TRUTH, {"completeness": "proved"}, "gives no evidence"),
    ],
)
def test_a_broken_solver_is_named(points, more, complaint):
    with broken(complaint):
        check_solver(solver(points, **more))


def test_a_solver_may_be_checked_on_a_system_of_the_authors_own():
    system = ls.PolynomialSystem(("x^2 - 2",), ("x",))
    check_solver(solver([[2**0.5], [-(2**0.5)]]), system, [[2**0.5], [-(2**0.5)]])
    with broken("needs the expected solutions"):
        check_solver(solver(TRUTH), system)
