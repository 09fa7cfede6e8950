import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError, PolynomialError
from landscape.systems import PolynomialFamily, PolynomialSystem
from landscape.systems.polynomial import _solvable

EQUATIONS = ("x^3*y - 2*y + I", "(x + y)^2 - 3")


def test_values_and_jacobians_agree_with_sympy():
    x, y = sympy.symbols("x y")
    expressions = [x**3 * y - 2 * y + sympy.I, (x + y) ** 2 - 3]
    system = PolynomialSystem(EQUATIONS, ["x", "y"])
    rng = np.random.default_rng(0)
    z = rng.normal(size=(7, 2)) + 1j * rng.normal(size=(7, 2))
    value = sympy.lambdify((x, y), expressions)
    jacobian = sympy.lambdify((x, y), sympy.Matrix(expressions).jacobian([x, y]).tolist())
    np.testing.assert_allclose(system.value(z), np.array(value(*z.T)).T, rtol=1e-13)
    np.testing.assert_allclose(system.jacobian(z), [np.array(jacobian(*row)) for row in z], rtol=1e-13)


def test_sympy_and_text_give_the_same_system():
    x, y = sympy.symbols("x y")
    by_sympy = PolynomialSystem([x**3 * y - 2 * y + sympy.I, (x + y) ** 2 - 3], [x, y])
    by_text = PolynomialSystem(EQUATIONS, ["x", "y"])
    assert by_sympy.monomials == by_text.monomials


def test_degrees_multiply_to_the_bezout_number():
    system = PolynomialSystem(EQUATIONS, ["x", "y"])
    assert system.degrees == (4, 2)
    assert system.bezout_number == 8


def test_the_gradient_system_of_a_loss_vanishes_at_its_critical_points():
    system = PolynomialSystem.gradient("(x^2 - 1)^2 + y^2", ["x", "y"])
    np.testing.assert_allclose(system.value([[1, 0], [-1, 0], [0, 0]]), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("equations", "unknowns", "message"),
    [
        (["x + y"], ["x", "y"], "not square: 1 equations in 2 unknowns"),
        (["x + yy", "x"], ["x", "y"], "unknown variable 'yy'.*Did you mean 'y'"),
        (["x - x"], ["x"], "identically zero"),
        ("x", ["x"], "sequence"),
        (["x"], "x", "sequence of names"),
        (["I"], ["I"], "imaginary unit"),
        (["x", "x"], ["x", "x"], "repeat"),
        (["x"], ["2x"], "cannot name"),
    ],
)
def test_malformed_systems_are_refused(equations, unknowns, message):
    with pytest.raises(PolynomialError, match=message):
        PolynomialSystem(equations, unknowns)


def test_points_of_the_wrong_shape_are_refused():
    with pytest.raises(PolynomialError, match=r"shape \(S, 2\)"):
        PolynomialSystem(EQUATIONS, ["x", "y"]).value([1, 2])


def test_three_formats_are_written():
    system = PolynomialSystem(["x^2 + (1 - 2*I)*y", "y - 1/3"], ["x", "y"])
    assert "@var x y" in system.to_text("hc")
    assert "x^2 + (1 - 2*im)*y" in system.to_text("hc")
    assert "    y - 1//3,\n" in system.to_text("hc")
    assert system.to_text("phc") == "2\nx^2 + (1 - 2*i)*y;\ny - 1/3;\n"
    assert "variable_group x, y;" in system.to_text("bertini")
    assert "f1 = x^2 + (1 - 2*I)*y;" in system.to_text("bertini")
    with pytest.raises(PolynomialError, match="'hc', 'phc' or 'bertini'"):
        system.to_text("maple")
    with pytest.raises(PolynomialError, match="rename"):
        PolynomialSystem(["e1 - 1"], ["e1"]).to_text("phc")


def family():
    return PolynomialFamily(["a*x^2 + b*x*y - 1", "y^2 - a*b + x"], ["x", "y"], ["a", "b"])


def test_a_member_of_a_family_has_the_values_of_the_family():
    rng = np.random.default_rng(1)
    z, p = (rng.normal(size=(5, 2)) + 1j * rng.normal(size=(5, 2)) for _ in range(2))
    members = [family().at(row) for row in p]
    value = np.concatenate([m.value(row[None]) for m, row in zip(members, z, strict=True)])
    jacobian = np.concatenate([m.jacobian(row[None]) for m, row in zip(members, z, strict=True)])
    np.testing.assert_allclose(family().value(z, p), value, rtol=1e-13)
    np.testing.assert_allclose(family().jacobian(z, p), jacobian, rtol=1e-13)


def test_the_parameter_derivative_is_the_limit_of_differences():
    rng = np.random.default_rng(2)
    z, p, dp = (rng.normal(size=(5, 2)) + 1j * rng.normal(size=(5, 2)) for _ in range(3))
    h = 1e-6
    difference = (family().value(z, p + h * dp) - family().value(z, p - h * dp)) / (2 * h)
    np.testing.assert_allclose(family().parameter_derivative(z, p, dp), difference, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_start_pairs_solve_the_family(seed):
    linear = PolynomialFamily(["x^2*y + a*x - b", "x*y^3 + c*y + a*b"], ["x", "y"], ["a", "b", "c"])
    z, p = linear.start_pair(np.random.default_rng(seed))
    assert np.abs(linear.value(z[None], p[None])).max() < 1e-9


def test_a_family_without_enough_linear_parameters_says_what_it_needs():
    with pytest.raises(PolynomialError, match="constant term"):
        PolynomialFamily(["x^2 - a^2", "y - x - 1"], ["x", "y"], ["a"]).start_pair(np.random.default_rng(0))


def test_longer_samples_begin_with_shorter_ones_and_follow_their_distribution():
    assert (family().sample(9, 5)[:4] == family().sample(4, 5)).all()
    uniform = PolynomialFamily(["x - a"], ["x"], ["a"], sampling="uniform(2, 3)").sample(1000, 0)
    assert uniform.min() >= 2
    assert uniform.max() <= 3
    assert abs(uniform.mean() - 2.5) < 0.05
    fixed = PolynomialFamily(["x - a*b"], ["x"], ["a", "b"], sampling="values(1, 2)").sample(2, 0)
    assert fixed.tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "text", ["normal(0)", "gauss(0, 1)", "uniform(1, 0)", "normal(0, -1)", "7", "normal(a, b)"]
)
def test_bad_distributions_are_refused_when_the_family_is_made(text):
    with pytest.raises(ConfigurationError):
        PolynomialFamily(["x - a"], ["x"], ["a"], sampling=text)


def test_values_must_be_one_per_parameter():
    with pytest.raises(ConfigurationError, match="1 numbers"):
        PolynomialFamily(["x - a"], ["x"], ["a"], sampling="values(1, 2)")


def test_a_name_cannot_be_unknown_and_parameter():
    with pytest.raises(PolynomialError, match="both"):
        PolynomialFamily(["x - a"], ["x"], ["a", "x"])


def test_zero_patterns_of_a_hand_written_family_are_found():
    # x (x + a) = 0, y (x y + b) = 0: x = 0 forces y = 0; x = -a leaves y = 0 and y = b / a.
    hand = PolynomialFamily(["x^2 + a*x", "x*y^2 + b*y"], ["x", "y"], ["a", "b"])
    assert {part.unknowns for part in hand.subfamilies()} == {(0, 1), (0,), ()}
    only_x = next(part for part in hand.subfamilies() if part.unknowns == (0,))
    assert only_x.family.equations == ("x^2 + x*a",)
    assert only_x.parameters == (0,)


def test_families_with_more_unknowns_than_patterns_can_be_tried_for_are_refused():
    names = [f"x{k}" for k in range(17)]
    many = PolynomialFamily([f"{name}^2 - a" for name in names], names, ["a"])
    with pytest.raises(PolynomialError, match="subfamilies"):
        many.subfamilies()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(["x^2*y", "x*y^3", "y", "x", "x*y", "1", "x^4"]), min_size=1, max_size=4, unique=True
    )
)
def test_every_sign_change_that_is_found_maps_equations_to_plus_or_minus_themselves(terms):
    text = " + ".join(terms)
    signs = PolynomialFamily(
        [f"a + {text}" if "1" in terms else f"a*x + {text}", f"b*y^2 + {text}"], ["x", "y"], ["a", "b"]
    )
    rng = np.random.default_rng(0)
    z, p = (rng.normal(size=(1, 2)) + 1j * rng.normal(size=(1, 2)) for _ in range(2))
    value = np.abs(signs.value(z, p))
    for element in signs.sign_group().elements():
        np.testing.assert_allclose(np.abs(signs.value(z * element, p)), value, rtol=1e-12)


def test_the_sign_group_finds_all_sign_changes_of_an_example():
    # Invariant under x -> -x alone, and under flipping y and z together (the first equation changes sign).
    signs = PolynomialFamily(["x^2*y + a*z", "y*z + b", "x^2 + c*y^2"], ["x", "y", "z"], ["a", "b", "c"])
    assert signs.sign_group().order == 4
    assert signs.sign_group().elements().tolist() == [[1, 1, 1], [-1, 1, 1], [1, -1, -1], [-1, -1, -1]]


def test_the_objective_of_a_gradient_family_is_its_loss():
    loss = PolynomialFamily.gradient("a*(x - b)^2 + y^2", ["x", "y"], ["a", "b"])
    z, p = np.array([[3.0, 2.0]]), np.array([[2.0, 1.0]])
    assert loss.has_objective
    assert loss.objective_value(z, p).tolist() == [12.0]
    assert not family().has_objective
    with pytest.raises(PolynomialError, match="gradient"):
        family().objective_value(z, p)


def test_families_are_values():
    assert family() == family()
    assert hash(family()) == hash(family())
    assert family() != PolynomialFamily(["x - a"], ["x"], ["a"])


def test_parameters_that_are_not_finite_are_refused_by_name():
    family = PolynomialFamily(["x^2 + b*x + c"], ["x"], ["b", "c"])
    with pytest.raises(PolynomialError, match="parameter c is"):
        family.at([1, np.nan])
    squared = PolynomialFamily(["x^2 + b^3"], ["x"], ["b"])
    with pytest.raises(PolynomialError, match="finite"), np.errstate(over="ignore", invalid="ignore"):
        squared.at([1e200])


# -- whether start pairs lead to all solutions --------------------------------------------------------------


@pytest.mark.parametrize(
    ("equations", "unknowns", "parameters", "suffice"),
    [
        (["x^2 + b*x + c"], "x", "bc", True),
        # Solved one after another: q from the second, then p from the first.
        (["x + p*y + q", "x*y + q"], "xy", "pq", True),
        # One parameter for two equations: a*x = b and a*y = b only meet where x = y.
        (["a*x - 1", "a*y - 1"], "xy", "a", False),
        # Its coefficient is no monomial: it vanishes on a curve.
        (["(x + y)*a + 1", "x*y + b"], "xy", "ab", False),
        (["x^2 + a^2"], "x", "a", False),
        (["x^2 - 1"], "x", "", False),
        # A pattern of zeros leaves an equation without a parameter of its own.
        (["x*(x + a)", "y*(y + x*b - 1)"], "xy", "ab", False),
        # The pattern z = 0 leaves three equations, two of them proportional.
        (["x*y - p + t*z", "2*(x*y - p) + s*z", "x + y - q"], "xyz", "pqst", False),
    ],
)
def test_whether_start_pairs_suffice(equations, unknowns, parameters, suffice):
    family = PolynomialFamily(equations, list(unknowns), list(parameters))
    assert family.start_pairs_suffice is suffice


def test_a_start_pair_is_found_by_solving_one_equation_after_another():
    # No two of these parameters occur linearly together.
    family = PolynomialFamily(["x + p*q*y + 1", "x*y + q"], ["x", "y"], ["p", "q"])
    assert family.start_pairs_suffice
    z, p = family.start_pair(np.random.default_rng(0))
    assert np.abs(family.value(z[None], p[None])).max() < 1e-13


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_equations_are_solved_in_an_order_that_works(seed, order):
    # Triangular: equation k contains parameters k to 3.
    names = "abcd"
    texts = [" + ".join([f"{names[j]}*x{j}" for j in range(k, 4)] + ["1"]) for k in range(4)]
    family = PolynomialFamily([texts[k] for k in order], [f"x{k}" for k in range(4)], list(names))
    found = _solvable([[e[4:] for e in f] for f in family.monomials])
    assert sorted(equation for equation, _ in found) == [0, 1, 2, 3]
    solved = set()
    for equation, parameter in found:
        used = {j for j in range(4) if any(e[4 + j] for e in family.monomials[equation])}
        assert parameter in used
        assert used - {parameter} <= solved
        solved.add(parameter)
