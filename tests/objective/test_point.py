from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from attrs import Factory, field, frozen

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape.interfaces import Measurement, PopulationProbe, Probe
from landscape.objective import Landscape, Point, Population, as_data
from landscape.plugins import isolated, register
from landscape.randomness import label_of, torch_generator


@frozen
class Draw(Probe):
    """Draws a number and counts how often it was asked."""

    scale: float = 1.0
    asked: list = field(factory=list, eq=False, repr=False)

    def measure(self, point, generator):
        self.asked.append(point)
        return Measurement(scalars={"draw": self.scale * torch.rand((), generator=generator).item()})


@frozen(hash=False)
class Unhashable(Probe):
    settings: dict = Factory(dict)

    def measure(self, point, generator):
        return Measurement(scalars={"calls": len(self.settings)}, carry={"theta": point.theta})


@frozen
class Warm(Probe):
    """Starts from what it carried at the previous point."""

    def measure(self, point, generator):
        before = point.previous.measured(self) if point.previous else None
        return Measurement(scalars={"depth": 1 + (before.scalars["depth"] if before else 0)})


@frozen
class Nested(Probe):
    def measure(self, point, generator):
        return Measurement(scalars={"twice": 2 * point.measure(Draw(3.0)).scalars["draw"]})


@frozen
class Careless(Probe):
    """Draws from the global generators, which a probe should not."""

    inner: bool = False

    def measure(self, point, generator):
        if self.inner:
            point.measure(Draw())
        return Measurement(
            scalars={"p": random.random(), "n": np.random.rand(), "t": torch.rand(()).item()},
        )


@frozen
class CarelessOnPopulations(PopulationProbe):
    def measure(self, population, generator):
        return Careless().measure(population, generator)


@frozen
class Spread(PopulationProbe):
    def measure(self, population, generator):
        return Measurement(scalars={"spread": population.positions.std().item()})


@pytest.fixture
def landscape(net, classes):
    return Landscape(net, "cross_entropy", as_data(classes, batch_size=7))


def counted(landscape, monkeypatch):
    calls = []
    for name in ("value", "value_and_gradient", "hessian"):
        original = getattr(Landscape, name)

        def wrapped(self, *args, original=original, name=name, **kwargs):
            calls.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Landscape, name, wrapped)
    return calls


def test_value_gradient_and_hessian_are_computed_once(landscape, monkeypatch):
    point = Point(landscape, landscape.initial())
    calls = counted(landscape, monkeypatch)
    assert point.gradient() is point.gradient()
    assert point.value() is point.value()
    assert point.hessian() is point.hessian()
    assert calls == ["value_and_gradient", "hessian"]
    batch = next(landscape.batches())
    assert point.hessian(batch) is not point.hessian(batch)
    point.forget()
    point.value()
    assert calls[-1] == "value"
    torch.testing.assert_close(point.hessian().gradient, point.gradient())


def test_a_probe_measures_once_per_configuration(landscape):
    point = Point(landscape, landscape.initial())
    probe = Draw()
    first = point.measure(probe)
    assert point.measure(probe) is first
    assert point.measure(Draw()) is first
    assert len(probe.asked) == 1
    assert point.measured(Draw()) is first
    assert point.measured(Draw(2.0)) is None
    assert point.measure(Draw(2.0)) is not first
    same = Unhashable({"k": 1})
    assert point.measure(same) is point.measure(Unhashable({"k": 1}))
    assert point.measured(Unhashable({"k": 2})) is None


@pytest.mark.parametrize("probe", [Careless(), CarelessOnPopulations()])
def test_a_probe_that_draws_globally_is_repeatable_and_changes_nothing_outside(landscape, probe, snapshot):
    def measure(seed=0, step=0):
        population = Population(landscape, landscape.initial()[None], step=step, seed=seed)
        place = population if isinstance(probe, PopulationProbe) else population.points[0]
        return place.measure(probe).scalars

    before = snapshot(landscape.module)
    first = measure()
    assert snapshot(landscape.module) == before
    torch.rand(5), random.random(), np.random.rand()
    assert measure() == first
    for other in (measure(seed=1), measure(step=1)):
        assert not set(first.values()) & set(other.values())
    generator = torch_generator(0, "probe", label_of(probe), 0, "0")
    assert torch.rand((), generator=generator).item() != first["t"]


def test_what_a_probe_draws_globally_does_not_depend_on_what_was_measured_before_it(landscape):
    fresh, used = (Point(landscape, landscape.initial()) for _ in range(2))
    used.measure(Draw())
    assert fresh.measure(Careless(inner=True)) == used.measure(Careless(inner=True))


@pytest.mark.parametrize(("one", "other"), [(2, 2.0), (np.float64(0.3), 0.3), (np.int64(2), 2.0)])
def test_equal_configurations_draw_the_same_numbers(landscape, one, other):
    numbers = {
        Point(landscape, landscape.initial()).measure(Draw(scale)).scalars["draw"] for scale in (one, other)
    }
    assert len(numbers) == 1


def test_a_measurement_draws_from_its_own_generator(landscape):
    theta = landscape.initial()

    def draw(probe=None, **where):
        return Point(landscape, theta, **where).measure(probe or Draw()).scalars["draw"]

    generator = torch_generator(4, "probe", label_of(Draw()), 7, "2")
    assert draw(seed=4, step=7, worker="2") == torch.rand((), generator=generator).item()
    draws = {draw(), draw(seed=1), draw(step=1), draw(worker="1"), draw(Draw(1.5)) / 1.5}
    assert len(draws) == 5
    point = Point(landscape, theta)
    before = torch.get_rng_state()
    point.measure(Draw(2.0))
    assert point.measure(Draw()).scalars["draw"] == draw(), "what else was measured must not matter"
    assert torch.equal(torch.get_rng_state(), before)


def test_probes_are_found_by_name_and_share_work(landscape):
    with isolated():
        register(Draw, kind="probes", name="Draw")
        point = Point(landscape, landscape.initial())
        named = point.measure("Draw", scale=3.0)
        assert point.measure(Draw, scale=3.0) is named
        assert point.measure(Nested()).scalars["twice"] == 2 * named.scalars["draw"]
    with pytest.raises(ConfigurationError, match="configured already; got scale"):
        point.measure(Draw(), scale=2.0)
    with pytest.raises(ConfigurationError, match=r"not a Probe.*Population"):
        point.measure(Spread())


def test_the_previous_point_is_remembered_with_its_measurements_and_without_a_chain(landscape):
    previous = None
    for step in range(4):
        point = Point(landscape, landscape.initial() + step, step=step, previous=previous)
        point.hessian()
        assert point.measure(Warm()).scalars["depth"] == step + 1
        previous = point
    assert point.previous.step == 2
    assert not point.previous._operators
    assert point.previous.previous is None
    fresh = Point(landscape, landscape.initial(), step=9)
    fresh.record(Warm(), Measurement(scalars={"depth": 41}))
    after = Point(landscape, landscape.initial(), step=10, previous=fresh)
    assert after.measure(Warm()).scalars["depth"] == 42


def test_other_splits_are_measured_at_the_same_weights(landscape, classes):
    x, y = classes
    test = as_data((x[:5], y[:5]))
    point = Point(landscape, landscape.initial(), splits={"test": test})
    assert point.on("test").data is test
    assert point.on("test").split == "test"
    assert point.on("train") is landscape
    torch.testing.assert_close(
        point.on("test").value(point.theta), landscape.value(point.theta, (x[:5], y[:5]))
    )
    with pytest.raises(ConfigurationError, match=r"'tset'. Did you mean 'test'\? The splits are test, train"):
        point.on("tset")


def test_a_point_where_the_loss_is_not_finite_names_step_and_worker(landscape):
    point = Point(landscape, torch.full((landscape.size,), torch.nan), step=12, worker="centre")
    assert point.value().isnan()
    with pytest.raises(NonFiniteLossError, match="Step 12, worker 'centre': The loss is nan"):
        point.hessian()


def test_a_restricted_landscape_has_points_of_its_own(landscape):
    part = landscape.restrict("second.*")
    point = Point(part, part.initial())
    assert point.hessian().shape == (15, 15)
    with pytest.raises(ConfigurationError, match=r"shape \(15,\), not \(31,\)"):
        Point(part, landscape.initial())


def test_a_population_has_points_for_workers_and_labels(landscape):
    positions = torch.stack([landscape.initial() + k for k in range(3)])
    first = Population(
        landscape, positions, step=0, labelled={"centre": positions.mean(0)}, initial=positions
    )
    assert [point.worker for point in first.points] == ["0", "1", "2", "centre"]
    assert [point.worker for point in first.workers] == ["0", "1", "2"]
    assert torch.equal(first.points[1].theta, positions[1])
    assert torch.equal(first.points[1].initial, positions[1])
    assert first.points[3].initial is None
    first.points[3].measure(Warm())
    second = Population(
        landscape,
        positions + 1,
        step=5,
        labelled={"centre": positions.mean(0)},
        initial={"centre": positions[0]},
        previous=first,
        seed=3,
    )
    assert second.by_worker()["centre"].measure(Warm()).scalars["depth"] == 2
    assert torch.equal(second.by_worker()["centre"].initial, positions[0])
    assert second.points[0].previous.step == 0
    assert all(point.step == 5 and point.seed == 3 for point in second.points)
    alike = Population(landscape, positions, step=0, initial=positions[0])
    assert all(torch.equal(point.initial, positions[0]) for point in alike.points)
    spread = second.measure(Spread())
    assert second.measure(Spread()) is spread is second.measured(Spread())
    assert spread.scalars["spread"] == second.positions.std().item()
    assert len(second) == 3
    with pytest.raises(ConfigurationError, match="not a PopulationProbe; it measures at single points"):
        second.measure(Draw())
    with pytest.raises(ConfigurationError, match="give \\(K, 31\\)"):
        Population(landscape, positions[0], step=0)
    with pytest.raises(ConfigurationError, match="name of a worker"):
        Population(landscape, positions, step=0, labelled={"1": positions[0]})


def test_what_a_probe_does_not_take_is_refused_with_the_nearest_name():
    landscape = Landscape(torch.nn.Linear(2, 1), "mse", (torch.ones(3, 2), torch.ones(3, 1)))
    point = Point(landscape, landscape.initial())
    with pytest.raises(
        ConfigurationError, match=r"HessianSpectrum has no 'kk'\. Did you mean 'k'\? It takes k, "
    ):
        point.measure("HessianSpectrum", kk=2)
    with pytest.raises(ConfigurationError, match="weights are a tensor"):
        Point(landscape, 3)
    with pytest.raises(ConfigurationError, match="not on a Linear"):
        Point(torch.nn.Linear(2, 1), landscape.initial())
