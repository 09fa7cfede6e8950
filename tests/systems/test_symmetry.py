import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from landscape.systems import SignGroup
from landscape.systems.symmetry import kernel_mod_2

matrices = hnp.arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 7)))


@settings(deadline=None)
@given(matrices)
def test_the_kernel_mod_2_is_as_large_as_counting_says_and_nothing_else(matrix):
    basis = kernel_mod_2(matrix)
    assert not ((matrix.astype(int) @ basis.T.astype(int)) % 2).any()
    columns = matrix.shape[1]
    vectors = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1
    solutions = int((((vectors @ matrix.T.astype(int)) % 2) == 0).all(axis=1).sum())
    assert 2 ** len(basis) == solutions


@settings(deadline=None)
@given(matrices, st.integers(0, 1000))
def test_invariants_are_equal_on_orbits_and_differ_elsewhere(generators, seed):
    n = generators.shape[1]
    group = SignGroup(generators, n)
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(1, n)) + 1j * rng.normal(size=(1, n))
    orbit = group.orbits(z)[0]
    assert len(np.unique(orbit.round(12), axis=0)) == group.order
    invariants = group.invariants(orbit)
    np.testing.assert_allclose(invariants, np.broadcast_to(invariants[0], invariants.shape), atol=1e-12)
    # All 2^n sign changes: those with the same invariants are exactly the orbit.
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    same = np.abs(group.invariants(signs * z) - invariants[0]).max(axis=1) < 1e-9
    assert same.sum() == group.order


def test_only_the_origin_is_fixed_where_every_unknown_flips():
    assert SignGroup([[True, True, False], [False, True, True]], 3).moves_everything()
    assert not SignGroup([[True, True, False]], 3).moves_everything()
    assert SignGroup([], 0).order == 1


@pytest.mark.parametrize("n", [0, 3])
def test_the_trivial_group_leaves_points_alone(n):
    z = np.ones((4, n), dtype=complex)
    assert SignGroup([], n).orbits(z).shape == (4, 1, n)
    assert (SignGroup([], n).invariants(z) == z).all()
