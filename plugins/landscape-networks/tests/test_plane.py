"""Landscapes of the plane against sympy, and against what the literature says about their critical points."""

import math

import numpy as np
import pytest
import sympy
import torch
from scipy.optimize import root

import landscape as ls
from landscape.errors import ConfigurationError
from landscape.testing import check_component
from landscape_networks.plane import Plane
from landscape_networks.quadratic import GradientNoise

A, B = sympy.symbols("a b", real=True)
_R = sympy.Rational

# As the literature writes them: exact numbers, another way of computing.
FORMULAS = {
    "rosenbrock": (1 - A) ** 2 + 100 * (B - A**2) ** 2,
    "himmelblau": (A**2 + B - 11) ** 2 + (A + B**2 - 7) ** 2,
    "beale": sum((c - A * (1 - B**k)) ** 2 for k, c in enumerate((_R(3, 2), _R(9, 4), _R(21, 8)), start=1)),
    "saddle": A**2 / 2 - B**2 / 2,
    "monkey_saddle": sympy.re(sympy.expand((A + sympy.I * B) ** 3)),
    "double_well": A**4 / 4 - A**2 / 2 + _R(1, 4) + B**2 / 2,
    "six_hump_camel": 4 * A**2 - _R(21, 10) * A**4 + A**6 / 3 + A * B - 4 * B**2 + 4 * B**4,
    "rastrigin": sum(10 + u**2 - 10 * sympy.cos(2 * sympy.pi * u) for u in (A, B)),
}

# name, point, value, number of negative eigenvalues (None: degenerate)
CRITICAL = [
    ("rosenbrock", (1, 1), 0, 0),
    ("himmelblau", (3, 2), 0, 0),
    ("himmelblau", (-2.805118086952745, 3.131312518250573), 0, 0),
    ("himmelblau", (-3.779310253377747, -3.283185991286170), 0, 0),
    ("himmelblau", (3.584428340330492, -1.848126526964404), 0, 0),
    ("himmelblau", (-0.270844590667248, -0.923038522012303), 181.616522, 2),
    ("beale", (3, 0.5), 0, 0),
    ("beale", (0, 1), 14.203125, 1),
    ("saddle", (0, 0), 0, 1),
    ("monkey_saddle", (0, 0), 0, None),
    ("double_well", (1, 0), 0, 0),
    ("double_well", (-1, 0), 0, 0),
    ("double_well", (0, 0), 0.25, 1),
    ("six_hump_camel", (0.0898420131, -0.7126564030), -1.0316284535, 0),
    ("six_hump_camel", (-0.0898420131, 0.7126564030), -1.0316284535, 0),
    ("rastrigin", (0, 0), 0, 0),
]


def _landscape(function, scale=0.0, examples=1):
    experiment = ls.Experiment(
        Plane(function), GradientNoise(2, scale=scale, examples=examples), ls.walkers.SGD(lr=0.01),
        loss="model", dtype="float64",
    )  # fmt: skip
    return experiment.landscapes()["train"]


@pytest.mark.parametrize("function", sorted(FORMULAS))
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_value_gradient_and_hessian_are_sympys(function, noise):
    landscape = _landscape(function, noise, 8)
    formula = FORMULAS[function]
    gradient = [sympy.diff(formula, u) for u in (A, B)]
    for point in ((0.3, -0.7), (-1.9, 1.4), (2.5, 0.5)):
        at = dict(zip((A, B), map(sympy.Rational, map(str, point)), strict=True))
        theta = torch.tensor(point, dtype=torch.float64)
        scale = max(1.0, abs(float(formula.subs(at))))
        assert float(landscape.value(theta)) == pytest.approx(float(formula.subs(at)), abs=1e-12 * scale)
        slope = [float(entry.subs(at)) for entry in gradient]
        np.testing.assert_allclose(landscape.gradient(theta), slope, rtol=1e-12, atol=1e-11)
        dense = [[float(sympy.diff(entry, u).subs(at)) for u in (A, B)] for entry in gradient]
        np.testing.assert_allclose(landscape.hessian(theta).dense(), dense, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("function", "point", "value", "index"), CRITICAL)
def test_critical_points_are_where_the_literature_has_them(function, point, value, index):
    landscape = _landscape(function)
    theta = torch.tensor(point, dtype=torch.float64)
    assert float(landscape.gradient(theta).norm()) < 2e-6
    assert float(landscape.value(theta)) == pytest.approx(value, abs=1e-6)
    eigenvalues = torch.linalg.eigvalsh(landscape.hessian(theta).dense())
    if index is None:
        assert not eigenvalues.any()
    else:
        assert int((eigenvalues < 0).sum()) == index
        assert (eigenvalues != 0).all()


def test_himmelblau_has_four_saddles_and_no_further_critical_points():
    gradient = [sympy.diff(FORMULAS["himmelblau"], u) for u in (A, B)]
    # Eliminating b leaves a polynomial whose real roots are the abscissas of all real critical points.
    assert len(sympy.real_roots(sympy.Poly(sympy.resultant(*gradient, B), A))) == 9
    landscape = _landscape("himmelblau")
    slope = sympy.lambdify((A, B), gradient)
    for near in ((0.09, 2.88), (3.39, 0.07), (-3.07, -0.08), (-0.13, -1.95)):
        theta = torch.from_numpy(root(lambda point: slope(*point), near, tol=1e-13).x)
        assert float(landscape.gradient(theta).norm()) < 1e-9
        low, high = torch.linalg.eigvalsh(landscape.hessian(theta).dense()).tolist()
        assert low < 0 < high


def test_every_function_begins_where_the_gradient_is_not_zero():
    for function in FORMULAS:
        landscape = _landscape(function)
        assert float(landscape.gradient(landscape.initial()).norm()) > 1e-3, function


def test_start_and_scatter_say_where_a_walk_begins():
    batch = (torch.zeros(1, 2, dtype=torch.float64),)
    at = Plane("saddle", start=(3, -1)).build(batch, torch.Generator()).theta
    assert at.tolist() == [3.0, -1.0]
    model = Plane("saddle", start=(3, -1), scatter=0.1)
    draws = [model.build(batch, torch.Generator().manual_seed(seed)).theta.detach() for seed in range(400)]
    spread = torch.stack(draws).std(0)
    # 400 draws: the relative standard error of a deviation is 1/sqrt(800) = 3.5 %.
    assert torch.allclose(spread, torch.full((2,), 0.1, dtype=torch.float64), rtol=0.15)
    assert math.isclose(float(torch.stack(draws).mean(0)[0]), 3.0, abs_tol=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"function": "rosenbrok"}, r"function='rosenbrok'.*Did you mean 'rosenbrock'"),
        ({"start": (1.0,)}, "no point of the plane"),
        ({"scatter": -1.0}, r"scatter=-1.0"),
    ],
)
def test_impossible_fields_are_refused_by_value(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Plane(**fields)


def test_data_of_another_dimension_is_refused():
    with pytest.raises(ConfigurationError, match=r"dimension 3; give GradientNoise\(2\)"):
        Plane().build((torch.zeros(1, 3),), torch.Generator())
    with pytest.raises(ConfigurationError, match="GradientNoise"):
        Plane().build((torch.zeros(1, 2), torch.zeros(1)), torch.Generator())


def test_the_model_keeps_the_rules_of_a_component():
    check_component(Plane)
    check_component(Plane("beale", start=[1, 2], scatter=0.5))
