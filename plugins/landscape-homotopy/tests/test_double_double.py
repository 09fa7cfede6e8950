"""Double-double arithmetic against fractions and ball arithmetic, and what it is for."""

from fractions import Fraction

import flint
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.systems import PolynomialFamily
from landscape_homotopy.circuit import circuit_of
from landscape_homotopy.double_double import extended_precision, residual, two_product, two_sum
from landscape_homotopy.monodromy import Monodromy
from landscape_homotopy.points import is_regular
from landscape_homotopy.tracker import polish

NUMBERS = st.floats(-1e100, 1e100, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-100)


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_sums_and_products_have_no_error(a, b):
    for transformed, exact in (
        (two_sum, Fraction(a) + Fraction(b)),
        (two_product, Fraction(a) * Fraction(b)),
    ):
        high, low = transformed(np.array([a]), np.array([b]))
        assert Fraction(high[0]) + Fraction(low[0]) == exact
        assert high[0] == float(exact)


def exact(family, z, p):
    """Evaluate the monomials with 400 bits."""
    with flint.ctx.workprec(400):
        numbers = [flint.acb(float(c.real), float(c.imag)) for c in (*z, *p)]
        result = []
        for polynomial in family.monomials:
            total = flint.acb(0)
            for exponents, coefficient in polynomial.items():
                term = flint.acb(complex(coefficient).real, complex(coefficient).imag)
                for number, power in zip(numbers, exponents, strict=True):
                    term = term * number**power
                total = total + term
            result.append(complex(total))
    return np.array(result)


@pytest.mark.parametrize("widths", [(2, 2, 2), (1, 2, 2, 1)])
def test_residuals_of_solutions_are_right_where_double_precision_sees_rounding_only(widths):
    family = ls.models.DeepLinear(widths=widths).family()
    parameters = family.sample(1, 0)
    (solutions,) = Monodromy().solve_family(family, parameters, torch.Generator().manual_seed(0))
    z = solutions.torus().points
    p = np.tile(parameters.astype(complex), (len(z), 1))
    ours = residual(circuit_of(family), z, p)
    true = np.array([exact(family.expanded(), each, parameters[0]) for each in z])
    scale = np.abs(true).max(axis=1)
    assert (np.abs(ours - true).max(axis=1) <= 1e-12 * scale).all()
    # In double precision hardly a digit of the same residuals is right.
    assert np.median(np.abs(family.value(z, p) - true).max(axis=1) / scale) > 0.1


def test_regular_solutions_near_each_other_are_found_to_the_last_digits():
    # (x - 1) (x - 1 - d) with d = 2^-24: double precision knows each root to about 1e-9.
    d = 2.0**-24
    family = PolynomialFamily(["x^2 - b*x + c"], ["x"], ["b", "c"])
    p = np.array([[2 + d, 1 + d]], dtype=complex)
    start = np.array([[1.0 + 0.4 * d], [1.0 + 0.7 * d]], dtype=complex)
    both = np.tile(p, (2, 1))
    precise, corrections, _ = polish(extended_precision(family), start, both, iterations=20)
    assert precise[:, 0].tolist() == [1.0, 1.0 + d]
    assert corrections.max() < 1e-15
    assert is_regular(family, precise, p[0]).all()
    double = np.array([[1.0 + 0j]])
    assert not is_regular(family, double, np.array([2.0, 1.0])).any()
    assert not is_regular(family, double + 1e-9, np.array([2.0, 1.0])).any()


@pytest.mark.parametrize(("examples", "sample"), [(3, 28)])
def test_solutions_with_condition_1e10_are_found_and_known_to_twelve_digits(examples, sample):
    family = ls.models.DeepLinear(widths=(2, 2, 2), examples=examples).family()
    parameters = family.sample(sample + 1, 0)[[sample]]
    solver = Monodromy(trace_test=False)
    (solutions,) = solver.solve_family(family, parameters, torch.Generator().manual_seed(0))
    assert len(solutions) == 225
    assert solutions.statistics["extended"] > 0
    assert solutions.statistics["singular"] == 0
    z = solutions.points
    p = np.tile(parameters.astype(complex), (len(z), 1))
    correction = np.linalg.solve(family.jacobian(z, p), residual(circuit_of(family), z, p)[:, :, None])[
        :, :, 0
    ]
    assert (np.abs(correction).max(axis=1) <= 1e-12 * np.abs(z).max(axis=1)).all()


def test_badly_conditioned_members_keep_all_their_solutions():
    # Sample 40 of this seed has solutions of size 2,000 with lambda of 0.04: other solutions are near, relatively.
    family = ls.models.DeepLinear(widths=(1, 3, 3, 1)).family()
    parameters = family.sample(41, 1)[[31, 40]]
    for solutions in Monodromy().solve_family(family, parameters, torch.Generator().manual_seed(1)):
        assert len(solutions) == 977
        assert solutions.completeness == "trace test"
