from math import comb

import numpy as np
import pytest
import sympy
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.composition.critical_points import checks, real_points
from landscape.errors import ConfigurationError, PolynomialError, SolverError
from landscape.systems import PolynomialFamily, PolynomialSystem, match
from landscape_homotopy import monodromy, tracker
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.points import distinct
from landscape_homotopy.total_degree import TotalDegree


def deep_linear(widths, examples=1):
    """Another distribution's model, by name."""
    return ls.models.DeepLinear(widths=widths, examples=examples).family()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def solve_family(family, parameters, seed=0, **fields):
    return list(Monodromy(**fields).solve_family(family, parameters, generator(seed)))


# -- deep linear networks -----------------------------------------------------------------------------------


# Exact counts of Groebner bases with integer coefficients (msolve); the last three are the sums over
# sub-networks for one hidden layer and one example, sum_r binomial(d, r) binomial(dy, r) 4^r.
@pytest.mark.parametrize(
    ("widths", "count", "torus"),
    [
        ((1, 1, 1), 5, 4),
        ((1, 1, 2), 9, 8),
        ((2, 1, 2), 9, 8),
        ((1, 2, 1), 9, 0),
        ((2, 2, 1), 9, 0),
        ((1, 3, 1), 13, 0),
        ((1, 2, 2), 33, 16),
        ((2, 2, 2), 33, 16),
        ((1, 2, 3), 73, 48),
    ],
)
def test_every_sample_of_a_deep_linear_network_has_the_exact_count(widths, count, torus):
    family = deep_linear(widths)
    parameters = family.sample(8, 1)
    for row, solutions in zip(parameters, solve_family(family, parameters), strict=True):
        assert (len(solutions), len(solutions.torus())) == (count, torus)
        assert len(solutions.real()) % 2 == 1
        assert solutions.statistics["lost"] == 0
        assert checks(family, row, solutions) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_the_main_job_is_complete_in_every_sample(seed):
    family = deep_linear((2, 2, 2))
    parameters = family.sample(100, seed)
    found = solve_family(family, parameters, seed)
    assert [len(solutions) for solutions in found] == [33] * 100
    assert [len(solutions.torus()) for solutions in found] == [16] * 100
    assert all(len(solutions.real()) % 2 == 1 for solutions in found)
    assert not any(solutions.statistics["lost"] for solutions in found)
    for row, solutions in zip(parameters[::10], found[::10], strict=True):
        # The independent judge: the equations written out in monomials.
        system = family.system(row)
        value = np.abs(system.value(solutions.points)).max()
        scale = np.abs(system.jacobian(solutions.points)).max() * np.abs(solutions.points).max()
        assert value < 1e-12 * scale
        assert checks(family, row, solutions) == []


def test_losses_and_indices_are_those_of_the_loss_by_autograd():
    family = deep_linear((2, 2, 2))
    (parameters,) = family.sample(1, 3)
    (solutions,) = solve_family(family, parameters[None])
    lam, x, y = (torch.tensor(part) for part in np.split(parameters, [8, 10]))

    def loss(w):
        first, second = w[:4].reshape(2, 2), w[4:].reshape(2, 2)
        return 0.5 * ((second @ first @ x - y) ** 2).sum() + 0.5 * (lam * w**2).sum()

    expected = []
    for point in torch.tensor(solutions.real().points.real):
        hessian = torch.autograd.functional.hessian(loss, point)
        expected.append((loss(point).item(), int((torch.linalg.eigvalsh(hessian) < 0).sum())))
        assert torch.func.grad(loss)(point).abs().max() < 1e-12
    rows = real_points(family, parameters, solutions)
    np.testing.assert_allclose([row["loss"] for row in rows], sorted(e[0] for e in expected), rtol=1e-12)
    assert sorted(row["index"] for row in rows) == sorted(e[1] for e in expected)
    assert max(row["gradient_residual"] for row in rows) < 1e-12


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.floats(0.1, 2.0)] * 4))
def test_one_unit_networks_have_the_solutions_of_the_closed_form(values):
    # w2 x r + a w1 = 0 and w1 x r + b w2 = 0 with r = w1 w2 x - y. Off the origin a w1^2 = b w2^2, so that
    # r = s sqrt(a b) / x with s = +-1, w2 = -s sqrt(a / b) w1 and w1^2 = -s (r + y) sqrt(b / a) / x.
    a, b, x, y = values
    expected = [(0, 0)]
    for s in (1, -1):
        r = s * np.sqrt(a * b) / x
        square = -s * (r + y) * np.sqrt(b / a) / x
        w1 = np.sqrt(complex(square))
        if abs(square) < 1e-3:
            return
        expected += [(w1, -s * np.sqrt(a / b) * w1), (-w1, s * np.sqrt(a / b) * w1)]
    (solutions,) = solve_family(deep_linear((1, 1, 1)), np.array([values]))
    assert sorted(match(np.array(expected, dtype=complex), solutions.points, 1e-9)) == [0, 1, 2, 3, 4]


def test_a_groebner_basis_counts_the_same_solutions():
    family = deep_linear((2, 1, 2))
    parameters = np.array([[1, 2, 3, 5, 1, -2, 2, 3]]) / 1.0
    (solutions,) = solve_family(family, parameters)
    names = sympy.symbols(family.unknown_names)
    equations = [sympy.sympify(text.replace("^", "**")) for text in family.system(parameters[0]).equations]
    equations = [sympy.nsimplify(equation) for equation in equations]
    basis = sympy.groebner(equations, *names, order="grevlex")
    # The number of monomials below the staircase is the number of solutions with multiplicity.
    leading = [sympy.Poly(g, *names).monoms(order="grevlex")[0] for g in basis.exprs]
    box = np.stack(np.meshgrid(*[np.arange(8)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    below = ~np.any([(box >= np.array(m)).all(axis=1) for m in leading], axis=0)
    assert box[below].max() < 7
    assert below.sum() == len(solutions) == 9


def test_a_family_in_monomials_has_the_solutions_of_the_structured_one():
    family = deep_linear((1, 2, 2))
    parameters = family.sample(4, 5)
    for ours, theirs in zip(
        solve_family(family, parameters, 1), solve_family(family.expanded(), parameters, 2), strict=True
    ):
        assert ours.matches(theirs)


@pytest.mark.parametrize(
    ("widths", "examples"), [((1, 2, 2, 1), 1), ((1, 2, 1), 3), ((1, 1, 1, 1), 1), ((1, 1, 2, 1, 1), 2)]
)
def test_several_examples_and_layers_agree_between_seeds(widths, examples):
    family = deep_linear(widths, examples)
    parameters = family.sample(2, 0)
    first, second = (solve_family(family, parameters, seed) for seed in (1, 2))
    for ours, theirs in zip(first, second, strict=True):
        assert ours.matches(theirs)
        assert len(ours) % 2 == 1


# One hidden layer and one example: the thesis's counts are sum_r binomial(d, r) binomial(dy, r) 4^r.
@pytest.mark.parametrize("widths", [(3, 1, 3), (2, 3, 2), (3, 2, 3)])
def test_counts_with_one_hidden_layer_follow_the_sum_over_sub_networks(widths):
    _, units, outputs = widths
    family = deep_linear(widths)
    expected = sum(comb(units, r) * comb(outputs, r) * 4**r for r in range(units + 1))
    for solutions in solve_family(family, family.sample(2, 0)):
        assert len(solutions) == expected
        assert len(solutions.torus()) == 4**units * comb(outputs, units)


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": (2, 1, 1), "examples": 2},
        {"widths": (2, 2, 1), "convolution": (1, 1)},
    ],
)
def test_networks_without_published_counts_agree_with_total_degree(fields):
    family = ls.models.DeepLinear(**fields).family()
    parameters = family.sample(1, 0)
    paths = list(TotalDegree().solve_family(family, parameters, generator()))
    for row, ours, theirs in zip(parameters, solve_family(family, parameters), paths, strict=True):
        assert ours.matches(theirs)
        assert ours.completeness == "trace test"
        assert checks(family, row, ours) == []


def test_zero_coordinates_of_sub_networks_are_exactly_zero():
    family = deep_linear((2, 2, 2))
    (solutions,) = solve_family(family, family.sample(1, 0))
    moduli = np.abs(solutions.points)
    assert ((moduli == 0) | (moduli > 1e-6)).all()
    patterns = {family.zero_pattern(row > 0) for row in moduli}
    assert patterns == {
        "W1 **/** W2 **/**",
        "W1 **/00 W2 *0/*0",
        "W1 00/** W2 0*/0*",
        "W1 00/00 W2 00/00",
    }


def test_the_same_generator_gives_the_same_solutions():
    family = deep_linear((1, 1, 2))
    parameters = family.sample(3, 0)
    for a, b in zip(solve_family(family, parameters, 7), solve_family(family, parameters, 7), strict=True):
        assert (a.points == b.points).all()


# -- other systems and families -----------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_univariate_families_have_the_roots_of_numpy(seed):
    family = PolynomialFamily(["x^4 + a*x^3 + b*x + c"], ["x"], ["a", "b", "c"])
    parameters = family.sample(5, seed)
    for (a, b, c), solutions in zip(parameters, solve_family(family, parameters, seed), strict=True):
        roots = np.roots([1, a, 0, b, c])[:, None]
        assert sorted(match(roots, solutions.points, 1e-7)) == [0, 1, 2, 3]


def test_a_single_system_is_solved():
    system = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
    solutions = Monodromy().solve(system, generator())
    expected = np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=complex)
    assert sorted(match(expected, solutions.points, 1e-12)) == [0, 1, 2, 3]


def test_solutions_that_happen_to_have_zero_coordinates_are_kept():
    solutions = Monodromy().solve(PolynomialSystem(["x + y - 1", "x - y - 1"], ["x", "y"]), generator())
    assert solutions.points.tolist() == [[1, 0]]


def test_double_roots_are_reported_as_lost_and_not_as_solutions():
    solutions = Monodromy(retries=2).solve(PolynomialSystem(["x^2 - 2*x + 1"], ["x"]), generator())
    assert len(solutions) == 0
    assert solutions.statistics["lost"] == 2
    assert solutions.completeness == "unknown"
    assert "not regular" in solutions.evidence


def test_points_on_curves_of_solutions_are_left_out_and_counted():
    # With one lambda for all weights the two hidden units can be rotated into each other: of the solutions
    # for generic lambda only the origin stays isolated.
    model = ls.models.DeepLinear(widths=(1, 2, 1), regularisation="constant(0.1)")
    family = model.family()
    (solutions,) = solve_family(family, family.sample(1, 0), retries=1)
    assert solutions.points.tolist() == [[0, 0, 0, 0]]
    assert solutions.statistics["singular"] == 8
    assert "curves of solutions" in solutions.evidence


def test_systems_with_complex_coefficients_are_solved():
    solutions = Monodromy().solve(PolynomialSystem(["x^2 - 2*I"], ["x"]), generator())
    assert sorted(match(np.array([[1 + 1j], [-1 - 1j]]), solutions.points, 1e-12)) == [0, 1]


# -- what goes wrong on the way -----------------------------------------------------------------------------


def forgetful(track, share):
    """A tracker that, on the way to real members, loses paths and lets others end where a neighbour does."""
    rng = np.random.default_rng(0)

    def worse(family, start, p0, p1, settings, via=()):
        ends = track(family, start, p0, p1, settings, via)
        if p1.imag.any() or settings == monodromy.CAREFUL:
            return ends
        outcome, points = ends.outcome.copy(), ends.points.copy()
        outcome[rng.random(len(outcome)) < share] = monodromy.REGULAR + 1
        # A jump: two paths to one member end in one point.
        same = (p1[1:] == p1[:-1]).all(axis=1) & (rng.random(len(p1) - 1) < share)
        points[1:][same] = points[:-1][same]
        return evolve(ends, outcome=outcome, points=points)

    return worse


def test_lost_and_jumped_paths_are_found_again(monkeypatch):
    family = deep_linear((2, 2, 2))
    parameters = family.sample(10, 0)
    expected = solve_family(family, parameters)
    monkeypatch.setattr(monodromy, "track", forgetful(monodromy.track, 0.2))
    found = solve_family(family, parameters)
    assert all(a.matches(b) for a, b in zip(expected, found, strict=True))
    assert sum(solutions.statistics["jumped"] for solutions in found) > 0
    assert sum(solutions.statistics["retried"] for solutions in found) > 0
    assert not any(solutions.statistics["lost"] for solutions in found)


def test_what_stays_lost_is_counted(monkeypatch):
    family = deep_linear((2, 2, 2))
    parameters = family.sample(20, 0)
    monkeypatch.setattr(monodromy, "track", forgetful(monodromy.track, 0.3))
    found = solve_family(family, parameters, retries=0)
    missing = [33 - len(solutions) for solutions in found]
    assert sum(missing) > 0
    assert [solutions.statistics["lost"] for solutions in found] == missing
    short = next(solutions for solutions in found if len(solutions) < 33)
    assert "did not arrive" in short.evidence


@pytest.mark.parametrize("trace_test", [True, False])
def test_a_start_set_that_lacks_solutions_is_completed(monkeypatch, trace_test):
    family = deep_linear((2, 2, 2))
    parameters = family.sample(20, 0)
    complete = Monodromy._generic_member

    def incomplete(self, part, rng, watch, most):
        start = complete(self, part, rng, watch, most)
        return (
            start if start is None else evolve(start, points=start.points[: max(1, len(start.points) // 2)])
        )

    monkeypatch.setattr(Monodromy, "_generic_member", incomplete)
    found = solve_family(family, parameters, trace_test=trace_test)
    assert [len(solutions) for solutions in found] == [33] * 20


def test_a_start_set_completed_too_late_for_some_members_is_reported(monkeypatch, caplog):
    family = deep_linear((2, 2, 2))
    complete = Monodromy._completed
    calls = []

    def late(self, start, state, target):
        """Let the first completion fail, as where its members have no surplus."""
        calls.append(target)
        return start if len(calls) == 1 else complete(self, start, state, target)

    generic = Monodromy._generic_member

    def incomplete(self, part, rng, watch, most):
        start = generic(self, part, rng, watch, most)
        return start and evolve(start, points=start.points[: max(1, len(start.points) // 2)])

    monkeypatch.setattr(Monodromy, "_generic_member", incomplete)
    monkeypatch.setattr(Monodromy, "_completed", late)
    monkeypatch.setattr(monodromy, "_JACOBIAN_ENTRIES", 1)
    solve_family(family, family.sample(6, 0), trace_test=False)
    assert any("may lack solutions" in record.message for record in caplog.records)


def test_no_more_loops_are_made_than_a_proved_bound_needs(monkeypatch):
    family = deep_linear((1, 3, 3))
    parameters = family.sample(1, 0)
    around = monodromy._around
    paths = []

    def counted(part, points, base, corners, device):
        paths.append(len(points) * len(corners[0]))
        return around(part, points, base, corners, device)

    monkeypatch.setattr(monodromy, "_around", counted)
    (short,) = solve_family(family, parameters)
    bounded = sum(paths)
    paths.clear()
    (long,) = solve_family(family, parameters, trace_test=False)
    assert 3 * bounded < sum(paths)
    assert (len(short), short.completeness) == (245, "proved")
    assert "with as many solutions as a proved bound allows, for 3 kinds of zero pattern" in short.evidence
    assert "20 loops map into itself" in long.evidence
    assert short.matches(long)


@pytest.mark.parametrize("more", [0, 8, 1000])
def test_a_bound_that_is_not_met_ends_no_search(monkeypatch, more):
    family = deep_linear((1, 2, 2))
    bound = type(family).solution_bound
    monkeypatch.setattr(type(family), "bezout_number", lambda self: 10**6)
    monkeypatch.setattr(type(family), "solution_bound", lambda self: bound(self) + more)
    (found,) = solve_family(family, family.sample(1, 0))
    assert len(found) == 33
    assert ("20 loops map into itself" in found.evidence) == (more > 0)
    assert (found.completeness == "proved") == (more == 0)


def test_how_many_members_are_solved_at_once_changes_nothing(monkeypatch):
    family = deep_linear((2, 2, 2))
    parameters = family.sample(12, 1)
    # Double roots: solutions are missing for good, and all routes to them are tried.
    double = PolynomialFamily(("x^2 - a*x + b",), unknowns=("x",), parameters=("a", "b"))
    roots = np.array([[2.0, 1.0], [3.0, 2.0], [4.0, 4.0], [5.0, 1.0]])
    together = solve_family(family, parameters) + solve_family(double, roots)
    monkeypatch.setattr(monodromy, "_JACOBIAN_ENTRIES", 1)
    alone = solve_family(family, parameters) + solve_family(double, roots)
    for a, b in zip(together, alone, strict=True):
        assert a.statistics == b.statistics
        assert a.points.shape == b.points.shape
        assert a.matches(b)
        assert a.evidence == b.evidence
    assert sum(solutions.statistics["lost"] for solutions in alone) > 0


def test_members_are_there_before_all_are_solved(monkeypatch):
    """So that an interrupted job keeps what it had, and a bar moves."""
    family = deep_linear((2, 2, 2, 2))
    solved = []

    def counted(self, family, targets, *arguments):
        solved.append(len(targets))
        return [None] * len(targets)

    monkeypatch.setattr(Monodromy, "_solve_chunk", counted)
    found = iter(Monodromy(quiet_loops=4).solve_family(family, family.sample(100, 0), generator()))
    next(found)
    assert sum(solved) <= 25


def test_equal_points_are_told_apart_by_group_and_tolerance():
    points = np.array([[1 + 0j, 2], [1, 2 + 1e-12], [1, 2], [1, 2.001], [2, 1]])
    groups = np.array([0, 0, 1, 0, 0])
    assert distinct(groups, points).tolist() == [True, False, True, True, True]


def test_loops_stop_when_the_time_is_up_and_that_is_said():
    family = deep_linear((1, 2, 2, 1))
    parameters = family.sample(2, 0)
    for solutions in solve_family(family, parameters, time_limit=1e-9):
        # Conjugates of what was found may complete it, but nobody knows.
        assert 3 <= len(solutions) <= 129
        assert solutions.completeness == "unknown"
        assert "Stopped after 1e-09 s, the time_limit" in solutions.evidence
    for solutions in solve_family(family, parameters, time_limit=600.0):
        assert (len(solutions), solutions.completeness) == (129, "trace test")
    # Families that are solved from other systems: one member, and no second one.
    shared = PolynomialFamily.gradient("(a*b*x - y)^2/2 + l*(a^2 + b^2)/2", ["a", "b"], ["x", "y", "l"])
    (solutions,) = solve_family(shared, shared.sample(1, 0), time_limit=1e-9)
    assert solutions.completeness == "unknown"
    assert "There was no time for a second one." in solutions.evidence
    assert "Stopped after" in solutions.evidence


def test_a_trace_test_stops_when_the_time_is_up(monkeypatch):
    family = deep_linear((1, 1, 1, 1))
    test = monodromy.trace_test

    def late(family, points, parameters, rng, watch):
        watch.started -= 1000.0
        return test(family, points, parameters, rng, watch)

    monkeypatch.setattr(monodromy, "trace_test", late)
    (solutions,) = solve_family(family, family.sample(1, 0), time_limit=60.0)
    assert (len(solutions), solutions.completeness) == (17, "heuristic")
    assert "stopped after 60 s, the time_limit" in solutions.evidence


def test_points_that_go_around_loops_in_small_portions_find_the_same_solutions(monkeypatch):
    family = deep_linear((1, 2, 2))
    parameters = family.sample(2, 0)
    together = solve_family(family, parameters)
    monkeypatch.setattr(monodromy, "_CUBES_OF_LOOPS", 1)
    for a, b in zip(together, solve_family(family, parameters), strict=True):
        assert a.matches(b)


def test_who_waits_without_numba_is_told_once(monkeypatch, caplog):
    family = deep_linear((1, 1, 1))
    parameters = family.sample(1, 0)
    monkeypatch.setattr(tracker, "compiled_engine", lambda: None)
    monkeypatch.setattr(monodromy, "compiled_engine", lambda: None)
    monodromy._recommend_numba.cache_clear()
    solve_family(family, parameters)
    assert "numba" not in caplog.text
    monkeypatch.setattr(monodromy, "_PATIENCE", 0.0)
    for _ in range(2):
        (solutions,) = solve_family(family, parameters)
        assert len(solutions) == 5
    assert caplog.text.count("pip install 'landscape-homotopy[fast]'") == 1
    monodromy._recommend_numba.cache_clear()


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "10"])
def test_a_time_limit_is_a_positive_number(seconds):
    with pytest.raises(ConfigurationError, match="time_limit"):
        Monodromy(time_limit=seconds)


@pytest.mark.parametrize("field", ["quiet_loops", "starts", "most_solutions", "retries"])
def test_fields_out_of_range_are_refused(field):
    with pytest.raises(ConfigurationError, match=field):
        Monodromy(**{field: -1})


def test_parameters_of_the_wrong_shape_are_refused_before_any_work():
    family = deep_linear((1, 1, 1))
    with pytest.raises(PolynomialError, match=r"\(samples, 4\)"):
        Monodromy().solve_family(family, np.zeros((3, 2)), generator())
    with pytest.raises(PolynomialError, match="finite"):
        Monodromy().solve_family(family, np.full((3, 4), np.nan), generator())


def test_too_many_solutions_end_with_a_typed_error():
    family = PolynomialFamily(["x^9 + a*x + b"], ["x"], ["a", "b"])
    with pytest.raises(SolverError, match="raise most_solutions"):
        solve_family(family, family.sample(1, 0), most_solutions=3)


def test_more_unknowns_than_memory_allows_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(monodromy.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2}.__getitem__)
    family = deep_linear((3, 3, 3))
    with pytest.raises(PolynomialError, match=r"18 unknowns need .* Take narrower layers"):
        Monodromy().solve_family(family, family.sample(1, 0), generator())
    assert len(solve_family(deep_linear((1, 1, 1)), np.array([[1.0, 2.0, 3.0, 4.0]]))[0]) == 5
