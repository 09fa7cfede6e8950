from fractions import Fraction

import numpy as np
import pytest

import landscape as ls
from landscape.errors import PolynomialError
from landscape.systems import PolynomialFamily, PolynomialSystem
from landscape.systems.rational import RationalFamily, rational_monomials


def test_the_text_is_read_without_rounding():
    (equation,) = rational_monomials(PolynomialSystem(["(0.1*x - 2/3)^2 - 1e-3*x^3/7"], ["x"]))
    assert equation == {
        (2,): Fraction(1, 100),
        (1,): Fraction(-2, 15),
        (0,): Fraction(4, 9),
        (3,): Fraction(-1, 7000),
    }


def test_the_rounded_system_is_near():
    system = PolynomialSystem(["(0.1*x - 2*y)^3/3 - x*y/7", "x^2 - 1.5e-7*y + 12"], ["x", "y"])
    for exact, rounded in zip(rational_monomials(system), system.monomials, strict=True):
        assert exact.keys() == rounded.keys()
        assert all(abs(complex(exact[e]) - rounded[e]) <= 1e-15 * abs(rounded[e]) for e in exact)


@pytest.mark.parametrize("text", ["I*x", "x - 2j", "(1 + I)*x"])
def test_complex_numbers_are_refused(text):
    with pytest.raises(PolynomialError, match=r"not real|not rational"):
        rational_monomials(PolynomialSystem([text], ["x"]))


def test_what_only_rounding_keeps_from_zero_is_refused():
    with pytest.raises(PolynomialError, match="equation 1 is identically zero"):
        PolynomialSystem(["0.1*x + 0.2*x - 0.3*x"], ["x"])


def test_members_keep_the_relations_between_their_coefficients():
    family = PolynomialFamily(["a^2*x^2 + 2*a*b*x + b^2"], ["x"], ["a", "b"])
    (equation,) = RationalFamily(family).at(np.array([0.1, 1 / 3]))
    assert equation[(1,)] ** 2 == 4 * equation[(2,)] * equation[(0,)]
    assert equation[(2,)] == Fraction(0.1) ** 2


def test_members_of_a_network_are_near_the_rounded_ones():
    family = ls.models.DeepLinear(widths=(2, 2, 2)).family()
    p = family.sample(1, 3)[0]
    rounded = family.system(p)
    assert rounded.unknowns == family.expanded().unknowns
    for exact, near in zip(RationalFamily(family.expanded()).at(p), rounded.monomials, strict=True):
        assert exact.keys() == near.keys()
        assert all(abs(complex(exact[e]) - near[e]) <= 1e-14 * abs(near[e]) for e in exact)


@pytest.mark.parametrize(
    ("p", "complaint"),
    [
        ([1.0], r"shape \(2,\)"),
        ([1.0, np.nan], "finite"),
        ([1.0, 1j], "not real"),
        ([0.0, 0.0], "identically zero"),
    ],
)
def test_impossible_parameters_are_refused(p, complaint):
    family = RationalFamily(PolynomialFamily(["a*x + b"], ["x"], ["a", "b"]))
    with pytest.raises(PolynomialError, match=complaint):
        family.at(p)


def test_other_families_say_that_they_are_not_known():
    with pytest.raises(PolynomialError, match="solve its members one by one"):
        ls.ParametricFamily.expanded(PolynomialFamily(["x"], ["x"], []))
