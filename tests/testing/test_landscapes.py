"""The known landscapes are what they say; differences in numpy are the judge."""

import numpy as np
import pytest
import torch

from landscape.testing import quadratic, rosenbrock, tanh_regression

HESSIAN = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, -0.5], [0.0, -0.5, -1.0]])
KNOWN = {
    "quadratic": lambda: quadratic(HESSIAN, (1.0, -2.0, 0.5), noise=0.7),
    "diagonal": lambda: quadratic((4.0, 1.0, -2.0)),
    "rosenbrock": rosenbrock,
    "tanh": tanh_regression,
}


@pytest.fixture(params=KNOWN)
def known(request):
    return KNOWN[request.param]()


def value(known, theta):
    return float(known.landscape.value(theta))


def test_the_minimum_is_critical_and_has_the_value_it_says(known):
    assert known.landscape.gradient(known.minimum).abs().max() < 1e-12
    assert value(known, known.minimum) == pytest.approx(known.value_at_minimum, abs=1e-13)


def test_the_start_is_not_critical_and_is_where_the_module_stands(known):
    assert known.landscape.gradient(known.start).norm() > 1e-2
    assert torch.equal(known.landscape.initial(), known.start)
    assert known.landscape.dtype is torch.float64
    assert torch.equal(known.point().theta, known.start)


@pytest.mark.parametrize("where", ["start", "minimum"])
def test_the_hessian_is_that_of_central_differences_of_the_gradient(known, where):
    theta, h = getattr(known, where), 1e-5
    columns = [
        (known.landscape.gradient(theta + h * e) - known.landscape.gradient(theta - h * e)) / (2 * h)
        for e in torch.eye(len(theta), dtype=torch.float64)
    ]
    exact = known.hessian(theta)
    torch.testing.assert_close(
        torch.stack(columns, 1), exact, rtol=1e-6, atol=1e-6 * float(exact.abs().max())
    )


def test_the_value_is_the_formula():
    known = KNOWN["quadratic"]()
    x, _ = known.landscape.data.everything()
    theta = known.start.numpy()
    expected = np.mean([(theta - each) @ HESSIAN @ (theta - each) / 2 for each in x.numpy()])
    assert value(known, known.start) == pytest.approx(expected, rel=1e-13)
    a, b = -1.2, 1.0
    assert value(rosenbrock(), rosenbrock().start) == pytest.approx(
        (1 - a) ** 2 + 100 * (b - a * a) ** 2, rel=1e-13
    )


def test_the_gradients_of_a_quadratics_examples_have_the_covariance_of_theory():
    known = KNOWN["quadratic"]()
    x, y = known.landscape.data.everything()
    gradients = known.landscape.example_gradients(known.start, (x, y)).numpy()
    covariance = HESSIAN @ np.cov(x.numpy().T, bias=True) @ HESSIAN
    np.testing.assert_allclose(np.cov(gradients.T, bias=True), covariance, atol=1e-12)


def test_a_known_landscape_is_the_same_every_time_and_leaves_the_global_state():
    before = torch.get_rng_state()
    first, second = tanh_regression(seed=3), tanh_regression(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.start, second.start)
    assert first.landscape.data.fingerprint() == second.landscape.data.fingerprint()
    assert not torch.equal(first.start, tanh_regression(seed=4).start)


@pytest.mark.parametrize("hessian", [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0, 3.0]], 3.0])
def test_what_is_no_symmetric_matrix_is_refused(hessian):
    with pytest.raises(ValueError, match="symmetric"):
        quadratic(hessian)


@pytest.mark.parametrize("examples", [0, 3])
def test_an_odd_number_of_examples_is_refused(examples):
    with pytest.raises(ValueError, match="even"):
        quadratic((1.0,), examples=examples)


def test_the_fixture_is_a_known_quadratic(known_landscape):
    assert torch.linalg.eigvalsh(known_landscape.hessian()).tolist() == [-1.0, 0.5, 1.0, 2.0, 4.0]
