"""Certificates hold, and what is wrong gets none."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.systems import PolynomialFamily, PolynomialSystem, Solutions
from landscape_homotopy.certification import Certifier, certified
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.parameter_homotopy import ParameterHomotopy
from landscape_homotopy.total_degree import TotalDegree


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def family(*equations, unknowns="x"):
    return PolynomialFamily(equations, list(unknowns), [])


def certify(equations, point, unknowns="x"):
    return Certifier(family(*equations, unknowns=unknowns), np.zeros(0)).certify(
        np.array(point, dtype=complex)
    )


NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]


@settings(max_examples=25, deadline=None, phases=NO_SHRINKING)
@given(st.lists(st.integers(-9, 9), min_size=3, max_size=7), st.sampled_from([0.0, 1e-13, 1e-10, 1e-7]))
def test_boxes_hold_exactly_one_root_known_to_fifty_digits(coefficients, error):
    coefficients = [1, *coefficients]
    text = " + ".join(f"({c})*x^{k}" for k, c in enumerate(reversed(coefficients)))
    certifier = Certifier(family(text), np.zeros(0))
    with mpmath.workdps(50):
        roots = mpmath.polyroots(coefficients, maxsteps=1000, extraprec=500)
        for root in roots:
            nearest = min((abs(root - other) for other in roots if other is not root), default=1)
            box = certifier.certify(np.array([complex(root) + error]))
            if box is None:
                # Only where roots meet, or nearly.
                assert nearest < 1e-3
                continue
            inside = [
                other
                for other in roots
                if abs((other - box.point[0]).real) <= box.radius
                and abs((other - box.point[0]).imag) <= box.radius
            ]
            assert len(inside) == 1
            assert box.radius <= 1e-5


@pytest.mark.parametrize("error", [1e-7, -1e-7])
def test_a_point_between_close_roots_is_led_to_the_nearer_one(error):
    # Any box around the point itself that holds one root holds both, or is not proved to hold any.
    box = certify(["(x - 1)*(x - 1 - 1/1048576)"], [1 + error])
    assert box is not None
    assert abs(box.point[0] - 1) <= box.radius < 1e-7


def test_points_that_are_no_solutions_get_no_box():
    # x^2 = 2, with wrong digits in ever later places; a box may only be found where it reaches sqrt(2).
    for error in (1e-1, 1e-2, 1e-4, 1e-8, 1e-12):
        box = certify(["x^2 - 2"], [np.sqrt(2) + error])
        if box is not None:
            assert abs(box.point[0] - np.sqrt(2)) <= box.radius
    assert certify(["x^2 - 2"], [1.0]) is None or certify(["x^2 - 2"], [1.0]).radius > 0.4
    assert certify(["x^2 - 2"], [0.0]) is None
    assert certify(["x^2 + y^2 - 5", "x*y - 2"], [1.0, 2.5], "xy") is None
    assert certify(["x^2 - 2"], [np.nan]) is None


@pytest.mark.parametrize("equation", ["x^2", "(x - 1)^2*(x - 2)", "x^2 - 2*x + 1"])
def test_double_roots_are_never_certified(equation):
    for point in (0.0, 1.0, 1.0 + 1e-9, 1.0 - 1e-6j):
        box = certify([equation], [point])
        assert box is None


def test_two_roots_closer_than_double_precision_tells_are_not_certified():
    # x = 1 and x = 1 + 2^-52: no box of one holds only one of them.
    assert certify(["x^2 - 2*x - 2.220446049250313e-16*x + 1 + 2.220446049250313e-16"], [1.0]) is None


def test_real_solutions_are_proved_real_and_complex_ones_not():
    real, other = certify(["x^2 - 2"], [np.sqrt(2) + 1e-17j]), certify(["x^2 + 2"], [1j * np.sqrt(2)])
    assert real.point.imag.tolist() == [0.0]
    assert abs(other.point.imag[0]) > other.radius
    # A root with an imaginary part of 1e-10 is not real, and must not pass for it.
    near = certify(["x^2 - 2*x + 1 + 1e-20"], [1 + 1e-10j])
    assert near.point.imag[0] == pytest.approx(1e-10)
    assert near.radius < 1e-14
    # Nor may a pair of which every coordinate is small, and points between that are no solution.
    small = certify(["x^2 + 1e-20"], [1e-10j])
    assert small.point.tolist() == [1e-10j]
    assert small.radius < 1e-24
    assert certify(["x^2 + 1e-20"], [0.0]) is None


def test_complex_coefficients_prove_nothing_real():
    solutions = certified(
        family("x^2 - (1 + 1e-12*I)"), np.zeros(0), Solutions(np.array([[1 + 5e-13j], [-1 - 5e-13j]]))
    )
    assert solutions.statistics["certified"] == 2
    assert solutions.statistics["certified_real"] == 0


def test_one_solution_given_twice_is_certified_never():
    points = np.array([[np.sqrt(2)], [np.sqrt(2) * (1 + 1e-15)], [-np.sqrt(2)]], dtype=complex)
    solutions = certified(family("x^2 - 2"), np.zeros(0), Solutions(points))
    assert np.isnan(solutions.certificates).tolist() == [True, True, False]
    assert "Not certified: number 0, 1" in solutions.evidence
    assert solutions.completeness == "unknown"


def test_a_wrong_point_among_right_ones_is_named():
    points = np.array([[1, 2], [2, 1], [-1, -2], [-2.001, -1]], dtype=complex)
    circle = family("x^2 + y^2 - 5", "x*y - 2", unknowns="xy")
    solutions = certified(circle, np.zeros(0), Solutions(points))
    assert np.isfinite(solutions.certificates).tolist() == [True, True, True, False]
    assert solutions.statistics["certified"] == 3
    assert "3 of 4" in solutions.evidence
    assert "number 3" in solutions.evidence


def test_as_many_as_the_bound_are_proved_complete():
    equations = ["x^2 + y^2 - 5", "x*y - 2"]
    solutions = TotalDegree(certified=True).solve(PolynomialSystem(equations, ["x", "y"]), generator())
    assert solutions.completeness == "proved"
    assert "at most 4" in solutions.evidence
    assert (solutions.certificates < 1e-14).all()
    fewer = TotalDegree(certified=True).solve(PolynomialSystem(["x*y - 1", "x - y"], ["x", "y"]), generator())
    assert (len(fewer), fewer.completeness) == (2, "proved")
    multiple = TotalDegree(certified=True).solve(PolynomialSystem(["x^2*(x - 1)"], ["x"]), generator())
    assert multiple.completeness == "heuristic"
    assert np.isfinite(multiple.certificates).tolist() == [True, False]


@pytest.mark.parametrize(
    ("widths", "examples", "completeness"),
    [
        ((1, 1, 1), 1, "proved"),
        ((2, 1, 3), 1, "proved"),
        ((2, 2, 2), 1, "proved"),
        ((3, 3, 1), 1, "proved"),
        ((1, 2, 2), 3, "proved"),
        ((2, 1, 2), 2, "trace test"),
        ((1, 1, 1, 1), 1, "trace test"),
    ],
)
def test_critical_points_of_deep_linear_networks_are_certified(widths, examples, completeness, tmp_path):
    model = ls.models.DeepLinear(widths=widths, examples=examples)
    study = ls.CriticalPointStudy(model, Monodromy(certified=True), samples=3)
    run = study.run(tmp_path)
    summary = run.summary()
    assert (summary["certified"] == summary["N_C"]).all()
    assert (summary["completeness"] == completeness).all()
    for (_, row), solutions in zip(summary.iterrows(), run.solutions, strict=True):
        assert solutions.statistics["certified_real"] == row["N_R"]
        assert not solutions.points[solutions.is_real()].imag.any()


def test_signs_carry_certificates_over():
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    (parameters,) = family.sample(1, 0)
    (solutions,) = Monodromy().solve_family(family, parameters[None], generator())
    ours = certified(family, parameters, solutions)
    certifier = Certifier(family, parameters)
    for point, radius in zip(ours.points, ours.certificates, strict=True):
        own = certifier.certify(point)
        assert own is not None
        assert np.abs(own.point - point).max() <= own.radius + radius


def test_the_structured_family_and_its_monomials_agree_in_ball_arithmetic():
    import flint

    family = ls.models.DeepLinear(widths=(2, 2, 2, 1), examples=2).family()
    (parameters,) = family.sample(1, 0)
    z = np.random.default_rng(0).normal(size=(1, len(family.unknown_names))) + 0.5j
    certifier = Certifier(family, parameters)
    x = [flint.acb(c.real, c.imag) for c in z[0]]
    value, jacobian = family.value_and_jacobian(z, parameters[None].astype(complex))
    np.testing.assert_allclose([complex(v.mid()) for v in certifier.value(x)], value[0], rtol=1e-12)
    found = [[complex(v.mid()) for v in row] for row in certifier.jacobian(x)]
    np.testing.assert_allclose(found, jacobian[0], rtol=1e-11, atol=1e-12)


def test_parameter_homotopy_certifies_too():
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    solver = ParameterHomotopy(parameters=[1.0], solutions=[[1.0], [-1.0]], certified=True)
    (solutions,) = solver.solve_family(family, np.array([[2.0]]), generator())
    assert np.isfinite(solutions.certificates).all()
    # Two are all there can be, whoever found them.
    assert solutions.completeness == "proved"


@pytest.mark.parametrize("widths", [(2, 2, 2), (2, 1, 2, 1)])
def test_balls_of_the_circuit_and_of_the_monomials_overlap(widths):
    import flint

    family = ls.models.DeepLinear(widths=widths, examples=2).family()
    (parameters,) = family.sample(1, 0)
    ours, theirs = Certifier(family, parameters), Certifier(family.expanded(), parameters)
    assert ours.is_real
    assert theirs.is_real
    point = np.random.default_rng(0).normal(size=len(family.unknown_names))
    with flint.ctx.workprec(106):
        for radius in (0.0, 1e-3):
            x = [flint.acb(flint.arb(float(c), radius), flint.arb(0.5, radius)) for c in point]
            assert all(a.overlaps(b) for a, b in zip(ours.value(x), theirs.value(x), strict=True))
            for row, other in zip(ours.jacobian(x), theirs.jacobian(x), strict=True):
                assert all(a.overlaps(b) for a, b in zip(row, other, strict=True))
