"""The trace test passes for complete sets, and for no others; counts are those of closed formulas."""

from math import comb

import numpy as np
import pytest
import torch
from attrs import evolve

import landscape as ls
from landscape.randomness import torch_generator
from landscape.systems import PolynomialFamily
from landscape_homotopy import monodromy
from landscape_homotopy import trace_test as module
from landscape_homotopy.certification import certified
from landscape_homotopy.circuit import circuit_of
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.trace_test import own_parameters, trace_test
from landscape_homotopy.watch import Watch


def generic_member(family, seed=0):
    return Monodromy()._generic_member(family, np.random.default_rng(seed), Watch())


# One hidden layer, one example: 4^d binomial(dy, d) solutions without zero coordinates, 2^d in every orbit.
@pytest.mark.parametrize("widths", [(1, 1, 1), (1, 1, 2), (2, 2, 2), (1, 2, 3)])
def test_sets_as_large_as_the_closed_formula_says_pass(widths):
    _, units, outputs = widths
    family = ls.models.DeepLinear(widths=widths).family()
    start = generic_member(family)
    assert len(start.points) == 2**units * comb(outputs, units)
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert test.passed
    assert len(test.found) == len(start.points)
    assert test.deviation < 1e-12 < test.contribution


@pytest.mark.parametrize(("widths", "examples"), [((1, 1, 2), 1), ((2, 2, 2), 1), ((2, 1, 2), 2)])
def test_a_set_that_lacks_an_orbit_is_completed_or_fails(monkeypatch, widths, examples):
    family = ls.models.DeepLinear(widths=widths, examples=examples).family()
    start = generic_member(family)
    # The loops between planes find what is missing ...
    test = trace_test(family, start.points[:-1], start.parameters, np.random.default_rng(1))
    assert test.passed
    assert len(test.found) == len(start.points)
    # ... and where they cannot, the sums tell: the planes show every orbit but one.
    joined = module._joined

    def forgetful(group, known, more):
        points = joined(group, known, more)
        if len(points) == test.size:
            points = points[:-1]
        return points

    monkeypatch.setattr(module, "_joined", forgetful)
    monkeypatch.setattr(module, "_ROUNDS", 1)
    short = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert short.size == test.size - 1
    assert short.passed is False
    assert short.deviation > 1e-8


def test_every_single_orbit_is_missed(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 1, 2)).family()
    start = generic_member(family)
    joined = module._joined
    whole = trace_test(family, start.points, start.parameters, np.random.default_rng(2))
    for left_out in range(whole.size):

        def forgetful(group, known, more, left_out=left_out):
            points = joined(group, known, more)
            return np.delete(points, left_out, axis=0) if len(points) == whole.size else points

        monkeypatch.setattr(module, "_joined", forgetful)
        monkeypatch.setattr(module, "_ROUNDS", 1)
        assert not trace_test(family, start.points, start.parameters, np.random.default_rng(2)).passed


def test_loops_that_stop_too_early_are_made_good():
    family = ls.models.DeepLinear(widths=(2, 2, 2)).family()
    parameters = family.sample(3, 0)
    solver = Monodromy(quiet_loops=1, starts=1)
    for solutions in solver.solve_family(family, parameters, torch.Generator().manual_seed(3)):
        assert len(solutions) == 33
        assert solutions.completeness == "trace test"
        assert "Trace test: passed for 2 of 2 kinds" in solutions.evidence


def test_a_test_that_fails_leaves_the_level_heuristic_and_says_so(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 1, 1, 1)).family()
    real = monodromy.trace_test

    def failing(*arguments):
        return evolve(real(*arguments), passed=False, deviation=1e-3)

    monkeypatch.setattr(monodromy, "trace_test", failing)
    (solutions,) = Monodromy().solve_family(family, family.sample(1, 0), torch.Generator().manual_seed(0))
    assert solutions.completeness == "heuristic"
    assert "The trace test failed: sums are affine-linear to 1e-03 only." in solutions.evidence


def test_a_point_that_contributes_too_little_leaves_it_open(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 1, 2)).family()
    start = generic_member(family)
    monkeypatch.setattr(module, "_SEEN", 1e12)
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert test.passed is None
    assert "contributes only" in test.reason


def test_polynomials_with_free_coefficients_pass_with_their_degree():
    family = PolynomialFamily(["x^5 + a*x^3 + b*x + c"], ["x"], ["a", "b", "c"])
    start = generic_member(family)
    assert len(start.points) == 5
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(0))
    assert test.passed
    short = trace_test(family, start.points[:4], start.parameters, np.random.default_rng(0))
    assert len(short.found) == 5


def test_parameters_of_their_own_are_found():
    assert own_parameters(circuit_of(ls.models.DeepLinear(widths=(2, 1, 2)).family())) == (0, 1, 2, 3)
    convolution = ls.models.DeepLinear(widths=(3, 2, 2), convolution=(2, 1)).family()
    assert own_parameters(circuit_of(convolution)) == tuple(range(6))
    # Shared, squared, within a sum, or absent.
    for equations in (
        ["a*x - 1", "a*y + x"],
        ["a^2*x - 1", "b*y + x"],
        ["(x + 1)*a - 2", "b*y"],
        ["x - 1", "b*y"],
    ):
        family = PolynomialFamily(equations, ["x", "y"], ["a", "b"])
        assert own_parameters(circuit_of(family)) is None
    assert (
        own_parameters(circuit_of(PolynomialFamily(["3*a*x^2 - 1", "b*y*x + a"], ["x", "y"], ["a", "b"])))
        is None
    )
    assert own_parameters(
        circuit_of(PolynomialFamily(["3*a*x^2 - y", "b*y*x + x"], ["x", "y"], ["a", "b"]))
    ) == (0, 1)


@pytest.mark.parametrize(("widths", "level"), [((1, 1, 1, 1), "trace test"), ((1, 2, 2), "proved")])
def test_without_it_paths_take_the_same_routes(widths, level):
    family = ls.models.DeepLinear(widths=widths).family()
    parameters = family.sample(3, 0)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    with_it = list(Monodromy().solve_family(family, parameters, generators[0]))
    without = list(Monodromy(trace_test=False).solve_family(family, parameters, generators[1]))
    for a, b in zip(with_it, without, strict=True):
        assert (a.points == b.points).all()
        assert (a.completeness, b.completeness) == (level, "heuristic")


def never(*args):
    raise AssertionError("a trace test was made")


def test_no_test_is_made_where_certificates_prove_completeness(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    parameters = family.sample(2, 0)
    monkeypatch.setattr(monodromy, "trace_test", never)
    for solutions in Monodromy(certified=True).solve_family(
        family, parameters, torch.Generator().manual_seed(0)
    ):
        assert (len(solutions), solutions.completeness) == (33, "proved")
        assert "no trace test was made" in solutions.evidence


# The published counts with one hidden layer and one example, which the bound allows; x^3 + a x + b has three roots.
@pytest.mark.parametrize(
    ("family", "count"),
    [
        (ls.models.DeepLinear(widths=(2, 2, 2)).family(), 33),
        (ls.models.DeepLinear(widths=(1, 2, 1), examples=2).family(), 9),
        (PolynomialFamily(["x^3 + a*x + b"], ["x"], ["a", "b"]), 3),
    ],
)
def test_a_proved_bound_that_is_met_replaces_the_test(monkeypatch, family, count):
    monkeypatch.setattr(monodromy, "trace_test", never)
    parameters = family.sample(2, 0)
    for solutions in Monodromy().solve_family(family, parameters, torch_generator(0)):
        assert (len(solutions), solutions.completeness) == (count, "proved")
        assert solutions.certificates is None
        assert f"It is proved that generic members have {count} isolated solutions" in solutions.evidence
        assert f"{count} different solutions were found numerically, and not certified" in solutions.evidence
    # What the proof says of generic members, ball arithmetic says of these.
    for row, solutions in zip(
        parameters, Monodromy().solve_family(family, parameters, torch_generator(0)), strict=True
    ):
        assert np.isfinite(certified(family, row, solutions).certificates).all()


def test_what_cannot_be_certified_proves_nothing(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    start = {
        part: Monodromy()._generic_member(part, np.random.default_rng(0), Watch())
        for part in monodromy._parts(family)
    }
    starts = {part: found for part, found in start.items() if found is not None}
    rng = np.random.default_rng(1)
    assert "have 33 isolated" in monodromy._proof_of_number(
        family, starts, monodromy._parts(family), rng, Watch()
    )
    assert monodromy._proof_of_number(family, starts, monodromy._parts(family), rng, Watch(1e-9)) == ""
    # A point that is none of the solutions, and one that stands twice.
    part, found = next((part, found) for part, found in starts.items() if len(found.points) > 1)
    for wrong in (found.points[0] + 1e-3, found.points[1]):
        points = np.concatenate([wrong[None], found.points[1:]])
        bad = {**starts, part: evolve(found, points=points)}
        assert monodromy._proof_of_number(family, bad, monodromy._parts(family), rng, Watch()) == ""
    # Equations that are not shown to vanish where a part has zeros.
    with monkeypatch.context() as patch:
        patch.setattr(monodromy, "vanishing", lambda circuit, zeros: np.zeros(8, dtype=bool))
        assert monodromy._proof_of_number(family, starts, monodromy._parts(family), rng, Watch()) == ""
    # Then the trace test is made.
    monkeypatch.setattr(monodromy, "_proof_of_number", lambda *args: "")
    (solutions,) = Monodromy().solve_family(family, family.sample(1, 0), torch_generator(0))
    assert solutions.completeness == "trace test"


def test_one_solution_that_is_not_certified_leaves_the_others_complete(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    parameters = family.sample(3, 0)
    real = monodromy.certified

    def sceptical(family, p, solutions):
        found = real(family, p, solutions)
        if np.iscomplexobj(p):
            return found
        radii = found.certificates.copy()
        radii[-1] = np.nan
        return evolve(found, certificates=radii, completeness=solutions.completeness)

    monkeypatch.setattr(monodromy, "certified", sceptical)
    for solutions in Monodromy(certified=True).solve_family(family, parameters, torch_generator(0)):
        assert solutions.completeness == "proved"
        assert "33 different solutions were found, 32 of them certified" in solutions.evidence


def test_points_that_loops_seldom_reach_are_found_in_further_rounds():
    # After four rounds the first one lacked an orbit, and the second one still lay near a singular plane.
    for model, seed in (
        (ls.models.DeepLinear(widths=(4, 2, 2), convolution=(2, 2)), 0),
        (ls.models.DeepLinear(widths=(2, 1, 2), examples=3), 1),
    ):
        family = model.family()
        (solutions,) = Monodromy().solve_family(family, family.sample(1, seed), torch_generator(seed))
        assert solutions.completeness == "trace test"


def test_badly_conditioned_points_are_made_exact_before_sums_are_compared(monkeypatch):
    family = ls.models.DeepLinear(widths=(2, 1, 2), examples=2).family()
    start = generic_member(family)
    real, rng = module._tracked, np.random.default_rng(0)

    def inexact(*arguments):
        """Ends that are known to ten digits only."""
        points, arrived = real(*arguments)
        return points * (1 + 1e-10 * rng.normal(size=points.shape)), arrived

    monkeypatch.setattr(module, "_tracked", inexact)
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert test.passed
    assert test.deviation < 1e-15
    # A set that lacks an orbit is not saved by this: what is missing is no rounding error.
    monkeypatch.setattr(module, "_ROUNDING", 1.0)
    monkeypatch.setattr(module, "_ROUNDS", 1)
    joined = module._joined

    def forgetful(group, known, more):
        points = joined(group, known, more)
        return points[:-1] if len(points) == test.size else points

    monkeypatch.setattr(module, "_joined", forgetful)
    short = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert short.passed is False
    assert short.deviation > 1e-8


def test_paths_that_get_lost_on_the_way_to_the_planes_are_made_good_by_loops(monkeypatch):
    family = ls.models.DeepLinear(widths=(2, 1, 2), examples=2).family()
    start = generic_member(family)
    real, calls = module._arrived, []

    def worse(*arguments):
        calls.append(None)
        ends = real(*arguments)
        # None at all at first, then one less than there are.
        return ends[:0] if len(calls) == 1 else ends[:-1]

    monkeypatch.setattr(module, "_arrived", worse)
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert len(calls) >= 2
    assert test.passed
    assert len(test.found) == len(start.points)
    monkeypatch.setattr(module, "_arrived", lambda orbits, homotopy, points, here, there: points[:0])
    test = trace_test(family, start.points, start.parameters, np.random.default_rng(1))
    assert test.passed is None
    assert test.reason == "all paths to the first plane were lost"


# Both came to no result: points of the first are badly conditioned, paths of the second started with corrections that
# were nothing but rounding errors.
@pytest.mark.parametrize(("widths", "seed"), [((2, 2, 2), 4), ((2, 1, 1, 2), 2)])
def test_networks_whose_paths_are_badly_conditioned_pass(widths, seed):
    family = ls.models.DeepLinear(widths=widths, examples=2).family()
    (solutions,) = Monodromy().solve_family(family, family.sample(1, seed), torch_generator(seed))
    assert solutions.completeness == "trace test"


def test_how_many_paths_are_too_many_is_for_the_time_limit_to_say(monkeypatch):
    family = ls.models.DeepLinear(widths=(1, 1, 1, 1)).family()
    parameters = family.sample(1, 0)
    monkeypatch.setattr(module, "_MOST_PATHS", 1)
    (short,) = Monodromy().solve_family(family, parameters, torch_generator(0))
    assert short.completeness == "heuristic"
    assert "it takes more than 1 paths; with a time_limit it goes on" in short.evidence
    (solutions,) = Monodromy(time_limit=600.0).solve_family(family, parameters, torch_generator(0))
    assert (len(solutions), solutions.completeness) == (17, "trace test")
