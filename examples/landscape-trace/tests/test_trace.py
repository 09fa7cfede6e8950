"""The trace against exact traces, and the rules of landscape."""

import math

import numpy as np
import pytest
import torch

from landscape.testing import check_probe, quadratic, tanh_regression
from landscape_trace import HessianTrace


def measure(known, samples, seed=0):
    return HessianTrace(samples).measure(known.point(), torch.Generator().manual_seed(seed))


def test_it_keeps_the_rules_of_landscape():
    check_probe(HessianTrace(samples=4))


@pytest.mark.parametrize("seed", range(5))
def test_on_a_diagonal_hessian_every_single_sample_is_exact(seed):
    found = measure(quadratic([4.0, 2.0, 0.5, -1.0]), samples=3, seed=seed)
    assert found.scalars["hessian_trace"] == pytest.approx(5.5, rel=1e-13)
    assert found.errors["hessian_trace"].value == pytest.approx(0, abs=1e-12)


def test_the_error_of_the_mean_of_many_samples_is_the_one_of_theory():
    hessian = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 1.0]])
    samples = 2000
    found = measure(quadratic(hessian), samples)
    off_diagonal = hessian - np.diag(np.diag(hessian))
    theory = math.sqrt(2 * (off_diagonal**2).sum() / samples)
    assert found.scalars["hessian_trace"] == pytest.approx(np.trace(hessian), abs=4 * theory)
    assert found.errors["hessian_trace"].value == pytest.approx(theory, rel=0.1)
    assert found.errors["hessian_trace"].kind == "standard error"


def test_on_a_network_the_error_covers_the_exact_trace():
    known = tanh_regression()
    exact = float(known.hessian(known.start).trace())
    found = measure(known, samples=400)
    error = found.errors["hessian_trace"].value
    assert found.scalars["hessian_trace"] == pytest.approx(exact, abs=4 * error)
    assert error < 0.2 * abs(exact)


def test_a_single_sample_does_not_pretend_to_know_its_error():
    found = measure(quadratic([1.0, 2.0]), samples=1)
    assert found.errors == {}
    assert len(found.warnings) == 1


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples):
    with pytest.raises(ValueError, match="samples"):
        HessianTrace(samples)
