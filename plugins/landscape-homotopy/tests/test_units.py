"""Members and systems in any units; truths by hand, by the scaling itself, and by a proved count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landscape import PolynomialFamily, PolynomialSystem
from landscape.plugins import get
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.units import in_units, symmetries


def generator():
    return torch.Generator().manual_seed(0)


def network(widths, **settings):
    return get("models", "DeepLinear")(widths, **settings).family()


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 2, 2), (2, 3, 2, 1)])
def test_the_units_of_a_network_are_those_of_inputs_hidden_units_and_the_loss(widths):
    # Each input, each hidden unit, and outputs with the square root of the loss: by hand.
    assert len(symmetries(network(widths))) == sum(widths[:-1]) + 1


def test_a_family_with_fixed_coefficients_has_no_units_but_its_own():
    assert len(symmetries(PolynomialFamily(["x^2 - 2*x + 1 - p"], ["x"], ["p"]))) == 0
    # x = 2^k w, p = 4^k q.
    assert symmetries(PolynomialFamily(["x^2 - p"], ["x"], ["p"])).tolist() == [[1, 2]]


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e12])
def test_members_in_units_have_the_same_solutions(scale):
    family = network((2, 2, 2), examples=2)
    p = family.sample(3, 0)
    p[:, 8:12] *= scale
    own = in_units(family, p)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 8)) + 1j * rng.normal(size=(3, 8))
    there = family.value(w * own.units, p.astype(complex))
    here = family.value(w, own.parameters.astype(complex))
    # Every equation is multiplied by a power of two, without any rounding.
    factors = 2.0 ** np.round(np.log2(np.abs(there / here)))
    assert (there == here * factors).all()
    assert np.abs(np.log2(np.abs(own.parameters))).max() <= np.abs(np.log2(np.abs(p))).max() + 2


def test_zeros_have_no_units():
    own = in_units(PolynomialFamily(["a*x^2 - b"], ["x"], ["a", "b"]), np.array([[0.0, 4.0], [0.0, 0.0]]))
    assert np.isfinite(own.parameters).all()
    assert (own.parameters[:, 0] == 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"inputs": "normal(0, 1e6)"},
        {"inputs": "normal(0, 1e-12)"},
        {"targets": "normal(0, 1e6)"},
        {"targets": "normal(0, 1e-12)"},
        {"regularisation": "uniform(0, 1e-6)"},
        {"regularisation": "uniform(0, 1e12)"},
    ],
)
def test_networks_have_as_many_solutions_in_any_units(settings):
    family = network((2, 2, 2), **settings)
    for solutions in Monodromy().solve_family(family, family.sample(3, 0), generator()):
        # 1 + 2 * 2 * 4 + 16, as is proved.
        assert len(solutions) == 33
        assert solutions.completeness == "proved"
        assert not solutions.statistics["singular"]


def test_solutions_come_back_in_the_units_that_were_given():
    family = network((1, 1, 1), inputs="values(1e8)", targets="values(1e-3)", regularisation="values(1, 1e4)")
    (solutions,) = Monodromy().solve_family(family, family.sample(1, 0), generator())
    # l a^2 = m b^2 and a b x = y -+ sqrt(l m) / x, with x = 1e8, y = 1e-3, l = 1, m = 1e4: |a| = 100 |b|.
    x, y, root = 1e8, 1e-3, 1e2
    truth = [complex(s * np.sqrt(complex((y * t - root / x) / (root * x)))) for s in (1, -1) for t in (1, -1)]
    others = solutions.points[np.abs(solutions.points[:, 0]) > 0]
    assert len(others) == 4
    assert sorted(np.abs(others[:, 1])) == pytest.approx(sorted(np.abs(truth)), rel=1e-9)
    assert np.abs(others[:, 0]) == pytest.approx(root * np.abs(others[:, 1]), rel=1e-9)


def test_one_very_large_lambda():
    family = network((1, 1, 2), regularisation="values(0.1, 0.1, 1e12)")
    (solutions,) = Monodromy().solve_family(family, family.sample(1, 0), generator())
    assert len(solutions) == 9  # 1 + 2 * 4


@pytest.mark.parametrize(
    ("equations", "unknowns", "truth"),
    [
        (["(x - 1)*(x - 1.0001)*(x - 1.0002)"], ["x"], [[1.0], [1.0001], [1.0002]]),
        (["x^3 - 1e30"], ["x"], [[1e10 * np.exp(2j * np.pi * k / 3)] for k in range(3)]),
        (["x^2 - 1e12", "y*x - 1"], ["x", "y"], [[1e6, 1e-6], [-1e6, -1e-6]]),
    ],
)
def test_well_separated_solutions_of_badly_scaled_systems_are_found(equations, unknowns, truth):
    solutions = Monodromy(certified=True).solve(PolynomialSystem(equations, unknowns), generator())
    assert len(solutions) == len(truth)
    assert np.isfinite(solutions.certificates).all()
    for point in np.array(truth, dtype=complex):
        error = np.abs(solutions.points - point) / np.abs(point)
        # Coefficients of the first are rounded: 1e-16 by the square of the distances.
        assert error.max(axis=1).min() < 1e-7


@pytest.mark.parametrize("p", [1e-6, 1e-12, 1e-14])
def test_solutions_that_nearly_meet(p):
    family = PolynomialFamily(["x^2 - 2*x + 1 - p"], ["x"], ["p"])
    (solutions,) = Monodromy().solve_family(family, np.array([[p]]), generator())
    assert sorted(solutions.points[:, 0].real - 1) == pytest.approx([-np.sqrt(p), np.sqrt(p)], rel=1e-6)


def test_paths_to_infinity_are_not_followed_again_and_again():
    # Proportional rows of X and of Y: one example of one input does, 33 of the 225 solutions stay.
    family = network((2, 2, 2), examples=2, inputs="values(1, 1, 2, 2)", targets="values(1, 1, 3, 3)")
    solver = Monodromy(trace_test=False)
    (solutions,) = solver.solve_family(family, family.sample(1, 0), generator())
    assert len(solutions) == 33
    assert solutions.statistics["lost"] == solutions.statistics["infinite"] == 192
    assert "seen to grow without bound" in solutions.evidence
    assert solutions.completeness == "unknown"
    # Short steps on the same route, and on two others where the first one did not tell of all; not on six.
    assert solutions.statistics["retried"] <= 3 * 60
