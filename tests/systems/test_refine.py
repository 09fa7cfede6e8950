import numpy as np
import pytest

from landscape.errors import PolynomialError
from landscape.systems import PolynomialSystem, Solutions, distinct, refine

CUBIC = PolynomialSystem(["x^3 - 6*x^2 + 11*x - 6"], ["x"])  # 1, 2, 3


def test_candidates_are_polished_sorted_and_told_apart():
    refined = refine(CUBIC, [[3.0001], [0.9999], [2.0], [2.00001 + 1e-6j]])
    assert np.abs(refined.points[:, 0] - [1, 2, 3]).max() < 1e-15
    assert refined.residuals.max() < 1e-15
    assert refined.counts == {"unreadable": 0, "rejected": 0, "singular": 0, "repeated": 1}


def test_what_is_no_solution_is_counted_and_left_out():
    refined = refine(CUBIC, [[1.0], [np.nan], [np.inf], [2.4], [1e12], [1e300 * 1j]])
    assert refined.points.tolist() == [[1.0]]
    assert refined.counts == {"unreadable": 2, "rejected": 3, "singular": 0, "repeated": 0}


@pytest.mark.parametrize("error", [1e-7, 1e-9, 1e-16, 0.0])
def test_multiple_solutions_are_not_regular(error):
    """Newton's method halves the distance to a double solution: it must not pass for having arrived."""
    refined = refine(PolynomialSystem(["x^2", "y - 1"], ["x", "y"]), [[error, 1]])
    assert len(refined.points) == 0
    assert refined.counts["singular"] == 1


@pytest.mark.parametrize("point", [[0.3, 0], [0, -2 + 1j], [1e-17, 1]])
def test_points_on_curves_of_solutions_are_singular(point):
    refined = refine(PolynomialSystem(["x*y", "2*x*y"], ["x", "y"]), [point])
    assert refined.counts["singular"] == 1
    assert refined.singular.tolist() == [point]


def test_close_but_distinct_solutions_stay_apart():
    near = PolynomialSystem(["(x - 1)*(x - 1.0001)"], ["x"])
    assert refine(near, [[1.0], [1.0001]]).points[:, 0] == pytest.approx([1, 1.0001], abs=1e-11)


def test_coordinates_at_rounding_level_are_exact_zeros():
    system = PolynomialSystem(["x*(x^2 - 2)", "y*(y - 1) + x"], ["x", "y"])
    refined = refine(system, [[1e-30, 1 + 1e-14j], [1e-25j, 1e-22]])
    assert refined.points.tolist() == [[0, 0], [0, 1]]


def test_the_solutions_are_those_of_numpy():
    generator = np.random.default_rng(0)
    coefficients = generator.normal(size=13)
    roots = np.roots(coefficients)
    system = PolynomialSystem.from_monomials([{(12 - k,): c for k, c in enumerate(coefficients)}], ["x"])
    noisy = np.repeat(roots, 3)[generator.permutation(36)] * (1 + 1e-6 * generator.normal(size=36))
    found = refine(system, noisy[:, None])
    assert found.counts["repeated"] == 24
    assert np.abs(np.sort_complex(found.points[:, 0]) - np.sort_complex(roots)).max() < 1e-10


def test_the_order_does_not_depend_on_the_order_of_the_candidates():
    points = np.array([[3.0], [1.0], [2.0]])
    assert (refine(CUBIC, points).points == refine(CUBIC, points[::-1]).points).all()


def test_no_candidates_give_no_solutions():
    assert refine(CUBIC, np.zeros((0, 1))).points.shape == (0, 1)


def test_candidates_need_the_coordinates_of_the_system():
    with pytest.raises(PolynomialError, match=r"shape \(n, 1\), got \(2, 3\)"):
        refine(CUBIC, np.zeros((2, 3)))


def test_distinct_keeps_the_first_of_each():
    points = np.array([[1, 0], [2, 5], [1, 1e-9], [2 + 1e-9j, 5], [1, 1e-7]], dtype=complex)
    assert distinct(points).tolist() == [True, True, False, False, True]
    assert distinct(points[:0]).tolist() == []


@pytest.mark.parametrize("scale", [1e-4, 1e-10, 1e-16, 1.0, 1e5])
@pytest.mark.parametrize("equation", ["(x - {0})*(x - 2*{0})", "x^2 + {0}^2", "(x - {0})*(x^2 + {0}^2)"])
def test_solutions_are_told_apart_at_every_scale(scale, equation):
    system = PolynomialSystem([equation.format(f"{scale:.0e}")], ["x"])
    unit = {
        "(x - {0})*(x - 2*{0})": [1, 2],
        "x^2 + {0}^2": [-1j, 1j],
        "(x - {0})*(x^2 + {0}^2)": [-1j, 1, 1j],
    }[equation]
    truth = scale * np.array(unit, dtype=complex)
    refined = refine(system, np.concatenate([truth, truth * (1 + 1e-7)])[:, None])
    found = np.array(sorted(refined.points[:, 0], key=lambda z: (round(z.real / scale, 6), z.imag)))
    expected = np.array(sorted(truth, key=lambda z: (round(z.real / scale, 6), z.imag)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14 * scale)
    assert refined.counts["repeated"] == len(truth)
    solutions = Solutions(refined.points, refined.residuals)
    assert solutions.is_real().sum() == sum(np.imag(unit) == 0)


def test_coordinates_of_different_size_do_not_make_solutions_singular():
    # At the scale of y the two values of x are no more than forty displacements apart.
    system = PolynomialSystem(["x^2 - 2/3*x + 1/9 - 1/10000", "x*y - 176"], ["x", "y"])
    x = np.array([1 / 3 - 1e-2, 1 / 3 + 1e-2])
    refined = refine(system, np.stack([x, 176 / x], axis=1))
    np.testing.assert_allclose(refined.points[:, 0], x, rtol=1e-13)
    double = PolynomialSystem(["(x - 1/1024)^2", "x*y - 17"], ["x", "y"])
    assert refine(double, [[1 / 1024, 17 * 1024], [1 / 1024 + 1e-12, 17 * 1024]]).counts["singular"] == 2


def test_distinct_merges_no_more_than_is_known():
    points = np.array([[1e-10], [2e-10], [2e-10 + 1e-20], [0.0], [1e-300]], dtype=complex)
    assert distinct(points).tolist() == [True, True, False, True, True]
    errors = np.full(5, 1e-17)
    assert distinct(points, errors=errors).tolist() == [True, True, False, True, False]
