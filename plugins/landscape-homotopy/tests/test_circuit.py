"""Circuits, and the compiled tracker, against the families that they stand for."""

import numpy as np
import pytest
from attrs import frozen

import landscape as ls
from landscape.systems import ParametricFamily, PolynomialFamily
from landscape_homotopy import tracker
from landscape_homotopy.circuit import Walked, circuit_of, traced, vanishing
from landscape_homotopy.tracker import Settings, track

FAMILIES = [
    PolynomialFamily(["x^4 + a*x^3 + b*x + c"], ["x"], ["a", "b", "c"]),
    PolynomialFamily(["x^2*y - p^2*x + 3*q", "(x - 2*y)^3 - 1/3*I*p"], ["x", "y"], ["p", "q"]),
    PolynomialFamily(["x^2 - 2", "y - 1"], ["x", "y"], []),
    ls.models.DeepLinear(widths=(1, 1, 1)).family(),
    ls.models.DeepLinear(widths=(2, 2, 2), examples=2).family(),
    ls.models.DeepLinear(widths=(2, 1, 2, 1)).family(),
    ls.models.DeepLinear(widths=(3, 2, 2), convolution=(2, 1)).family(),
]


def numbers(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_circuit_computes_values_and_both_derivatives(family):
    rng = np.random.default_rng(1)
    n, m = len(family.unknown_names), len(family.parameter_names)
    z, p, dp = numbers(rng, 5, n), numbers(rng, 5, m), numbers(rng, 5, m)
    value, jacobian, along = circuit_of(family).evaluate(z, p, dp)
    np.testing.assert_allclose(value, family.value(z, p), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jacobian, family.jacobian(z, p), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(along, family.parameter_derivative(z, p, dp), rtol=1e-11, atol=1e-11)


def test_derivatives_of_a_circuit_are_those_of_finite_differences():
    circuit = traced(lambda z, p: [z[0] * z[0] * p[0] - 2 * z[1], p[1] * z[1] * z[0] * z[1] + 3], 2, 2)
    homotopy = Walked(circuit)
    rng = np.random.default_rng(2)
    z, p, dp = (numbers(rng, 1, 2) for _ in range(3))
    h = 1e-6
    for column in range(2):
        step = np.zeros((1, 2), dtype=complex)
        step[0, column] = h
        difference = (homotopy.value(z + step, p) - homotopy.value(z - step, p)) / (2 * h)
        np.testing.assert_allclose(homotopy.jacobian(z, p)[:, :, column], difference, rtol=1e-8, atol=1e-8)
    difference = (homotopy.value(z, p + h * dp) - homotopy.value(z, p - h * dp)) / (2 * h)
    np.testing.assert_allclose(homotopy.parameter_derivative(z, p, dp), difference, rtol=1e-8)


def test_products_of_matrices_are_not_multiplied_out():
    family = ls.models.DeepLinear(widths=(2, 2, 2, 2, 2)).family()
    monomials = sum(len(polynomial) for polynomial in family.expanded().monomials)
    circuit = circuit_of(family)
    assert circuit.first[circuit.plain] < 2 * len(family.unknown_names) ** 2 * 4
    # The values alone, without the Jacobian, have many more monomials than products.
    needed = circuit.values.max() + 1 - circuit.inputs
    assert circuit.first[needed] < monomials / 4


@frozen
class Rounded(ParametricFamily):
    """x^2 = a, by way of what no circuit does."""

    how: str

    unknown_names = ("x",)
    parameter_names = ("a",)

    def value(self, z, p):
        if self.how == "real parts":
            return (z**2 - p).real + 0j
        if self.how == "numbers":
            return np.asarray(z, dtype=complex) ** 2 - p
        # Symbols give something else than numbers.
        return z * z - p + (0 if z.dtype == object else 1)

    def jacobian(self, z, p):
        return 2 * z[:, :, None]

    def parameter_derivative(self, z, p, dp):
        return -dp

    def system(self, p):
        raise NotImplementedError

    def start_pair(self, generator):
        raise NotImplementedError

    def sample(self, n, seed):
        raise NotImplementedError

    def bezout_number(self):
        return 2


@pytest.mark.parametrize("how", ["real parts", "numbers", "other"])
def test_what_is_no_circuit_gets_none(how):
    assert circuit_of(Rounded(how)) is None


def test_families_without_a_circuit_are_tracked_all_the_same():
    ends = track(
        Rounded("numbers"), np.array([[1.0 + 0j], [-1.0]]), np.ones((2, 1)), np.full((2, 1), 4.0), Settings()
    )
    np.testing.assert_allclose(ends.points[:, 0], [2, -2], rtol=1e-14)


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("widths", [(1, 2, 2), (2, 2, 2), (1, 2, 2, 1)])
def test_both_engines_take_the_same_steps_to_the_same_ends(monkeypatch, widths, order):
    pytest.importorskip("numba")
    family = ls.models.DeepLinear(widths=widths).family()
    rng = np.random.default_rng(0)
    pairs = [family.start_pair(rng) for _ in range(20)]
    z, p = (np.array(each) for each in zip(*pairs, strict=True))
    corner, end = (np.tile(family.start_pair(rng)[1], (20, 1)) for _ in range(2))
    assert tracker.compiled_engine() is not None
    ours = track(family, z, p, end, Settings(order=order), via=[corner])
    monkeypatch.setattr(tracker, "compiled_engine", lambda: None)
    theirs = track(family, z, p, end, Settings(order=order), via=[corner])
    assert (ours.outcome == theirs.outcome).all()
    arrived = ours.outcome == tracker.REGULAR
    assert arrived.sum() >= 18
    np.testing.assert_allclose(ours.points[arrived], theirs.points[arrived], rtol=1e-9)
    assert ours.steps == pytest.approx(theirs.steps, rel=0.02)


@pytest.mark.parametrize("widths", [(2, 2, 2), (1, 2, 2, 1)])
def test_equations_of_weights_that_a_part_leaves_out_vanish(widths):
    family = ls.models.DeepLinear(widths=widths).family()
    n, m = len(family.unknown_names), len(family.parameter_names)
    rng = np.random.default_rng(0)
    for part in family.subfamilies():
        left_out = sorted(set(range(n)) - set(part.unknowns))
        found = vanishing(circuit_of(family), left_out)
        assert np.flatnonzero(found).tolist() == left_out
        z = numbers(rng, 3, n)
        z[:, left_out] = 0
        assert ((family.value(z, numbers(rng, 3, m)) == 0) == found).all()


def test_what_vanishes_only_because_terms_cancel_is_not_seen():
    family = PolynomialFamily(["x*y - a*x", "x + y^2 - y"], ["x", "y"], ["a"])
    assert vanishing(circuit_of(family), [0]).tolist() == [True, False]
    assert vanishing(circuit_of(family), [1]).tolist() == [False, False]
    assert vanishing(circuit_of(family), [0, 1]).tolist() == [True, True]
    constant = PolynomialFamily(["x - 1", "y"], ["x", "y"], ["a"])
    assert vanishing(circuit_of(constant), [0, 1]).tolist() == [False, True]
