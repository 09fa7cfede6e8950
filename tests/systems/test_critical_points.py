import numpy as np
import pytest
from attrs import evolve

from landscape.composition.critical_points import checks, real_points, sample_rows
from landscape.systems import PolynomialFamily, Solutions

# (x^2 - a)^2 + y^2: for a > 0 minima at (+-sqrt a, 0) and a saddle at the origin.
FAMILY = PolynomialFamily.gradient("(x^2 - a)^2 + y^2", ["x", "y"], ["a"])
FOUR = np.array([4.0])


def wells(points):
    return Solutions(np.array(points, dtype=complex), np.zeros(len(points)))


def test_the_double_well_has_two_minima_and_a_saddle():
    rows = real_points(FAMILY, FOUR, wells([[0, 0], [2, 0], [-2, 0]]))
    assert [row["loss"] for row in rows] == [0, 0, 16]
    assert [row["index"] for row in rows] == [0, 0, 1]
    assert [row["zero_pattern"] for row in rows] == ["*0", "*0", "00"]
    assert max(row["gradient_residual"] for row in rows) == 0


def test_imaginary_solutions_are_no_real_points():
    rows = real_points(FAMILY, np.array([-4.0]), wells([[0, 0], [2j, 0], [-2j, 0]]))
    assert [row["index"] for row in rows] == [0]


def test_the_row_of_a_sample_counts_and_bounds():
    row = sample_rows(FAMILY, FOUR, wells([[0, 0], [2, 0], [-2, 0]]))
    assert (row["N"], row["N_C"], row["N_C_torus"], row["N_R"], row["CBB"]) == (2, 3, 0, 3, 3.0)
    assert row["checks_failed"] == ""


def test_a_family_that_is_no_gradient_has_no_loss_and_no_index():
    family = PolynomialFamily(["x^2 - a"], ["x"], ["a"])
    (row, _) = real_points(family, FOUR, wells([[2], [-2]]))
    assert np.isnan(row["loss"])
    assert np.isnan(row["index"])


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ([[0, 0], [2, 0]], "not closed under the sign changes"),
        ([[0, 0], [2, 0]], "1 solutions besides the origin"),
        ([[0, 0], [2, 0], [2, 0]], "coincide"),
        ([[0, 0], [1 + 1j, 0], [-1 - 1j, 0]], "complex conjugation"),
    ],
)
def test_sets_that_cannot_be_right_are_named(points, complaint):
    # The sign changes of this family flip y alone too, which moves no solution here.
    one = PolynomialFamily.gradient("(x^2 - a)^2", ["x"], ["a"])
    assert complaint in "; ".join(checks(one, FOUR, wells([[row[0]] for row in points])))


def test_a_large_newton_correction_is_named():
    solutions = Solutions(np.array([[2.0 + 0j], [-2], [0]]), np.array([0, 1e-3, 0]))
    one = PolynomialFamily.gradient("(x^2 - a)^2", ["x"], ["a"])
    assert "Newton correction of 1.0e-03" in checks(one, FOUR, solutions)[0]


def test_complex_coefficients_need_no_conjugates():
    family = PolynomialFamily(["x - I*a"], ["x"], ["a"])
    assert checks(family, FOUR, wells([[4j]])) == []


def test_certified_solutions_are_counted():
    solutions = wells([[2.0], [-2.0], [0.0]])
    family = PolynomialFamily.gradient("(x^2 - a)^2", ["x"], ["a"])
    assert np.isnan(sample_rows(family, FOUR, solutions)["certified"])
    some = evolve(solutions, certificates=np.array([1e-14, np.nan, 1e-15]))
    assert sample_rows(family, FOUR, some)["certified"] == 2


def test_points_that_double_precision_cannot_tell_from_the_solution_pass():
    # The lines cross at (1, 1), at an angle of 1e-10: the point lies on both, as far as double precision sees.
    family = PolynomialFamily(["x + y - a", "x + 1.0000000001*y - a - 1e-10"], ["x", "y"], ["a"])
    near = wells([[1 + 1e-7, 1 - 1e-7]])
    assert checks(family, np.array([2.0]), near) == []
    far = wells([[1 + 1e-3, 1 - 1e-3 + 1e-9]])
    assert "are no solutions" in checks(family, np.array([2.0]), far)[0]


def test_points_beside_a_solution_are_named_even_if_the_solver_calls_them_exact():
    beside = wells([[0, 0], [2 + 1e-6, 0], [-2, 0]])
    assert "Newton's method moves number 1, counted from zero, by" in checks(FAMILY, FOUR, beside)[0]
