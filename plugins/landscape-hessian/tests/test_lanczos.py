"""The eigensolver on matrices whose eigenvalues dense solvers and ARPACK know."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import eigsh

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape_hessian.krylov import Krylov
from landscape_hessian.lanczos import extreme_eigenpairs


def with_spectrum(eigenvalues, seed=0, dtype=torch.float64):
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))[0]
    matrix = (basis * eigenvalues) @ basis.T
    return torch.from_numpy((matrix + matrix.T) / 2).to(dtype)


def with_exact_spectrum(eigenvalues, seed=0):
    """Return the same, of which the eigenvalues are these to half a unit of rounding of the largest entries.

    `numpy.linalg.eigvalsh` of such matrices is off by up to 27 units, more than what it would be the truth for.
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.longdouble)
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0].astype(np.longdouble)
    for _ in range(2):  # orthonormal in extended precision, by Newton's iteration
        basis = basis @ (1.5 * np.eye(size) - 0.5 * (basis.T @ basis))
    matrix = ((basis * eigenvalues) @ basis.T).astype(np.float64)
    return torch.from_numpy((matrix + matrix.T) / 2)


def solve(matrix, seed=0, **options):
    return extreme_eigenpairs(
        lambda v: matrix @ v,
        len(matrix),
        generator=torch.Generator().manual_seed(seed),
        dtype=matrix.dtype,
        **options,
    )


def errors(pairs, truth):
    return np.abs(pairs.values - truth[: len(pairs.values)])


spectra = st.one_of(
    # random matrices: nearly symmetric spectra with a flat edge
    st.integers(20, 120).map(
        lambda n: np.linalg.eigvalsh((lambda a: a + a.T)(np.random.default_rng(n).standard_normal((n, n))))
    ),
    # a few outliers, repeated, over a bulk
    st.tuples(
        st.lists(st.sampled_from([-2.0, -1.0, 1.5, 3.0, 3.0 + 1e-9, 4.0]), min_size=1, max_size=12),
        st.integers(20, 100),
        st.floats(1e-6, 1.0),
    ).map(lambda t: np.concatenate([t[0], t[2] * np.random.default_rng(t[1]).standard_normal(t[1])])),
    # low rank
    st.tuples(st.integers(1, 8), st.integers(20, 80)).map(
        lambda t: np.concatenate([np.arange(1.0, t[0] + 1), np.zeros(t[1])])
    ),
)


@settings(deadline=None, max_examples=80)
@given(spectra, st.integers(0, 6), st.integers(0, 6), st.sampled_from([1e-2, 1e-4, 1e-8]), st.integers(0, 9))
def test_no_eigenvalue_is_further_off_than_its_bound(spectrum, top, bottom, tolerance, seed):
    if top + bottom == 0:
        top = 1
    matrix = with_exact_spectrum(spectrum, seed)
    found = solve(matrix, seed, top=top, bottom=bottom, tolerance=tolerance, risk=1e-6)
    ascending = np.sort(spectrum)
    assert found.top.converged.all()
    assert found.bottom.converged.all()
    assert found.complete
    assert (errors(found.top, ascending[::-1]) <= found.top.bounds).all()
    assert (errors(found.bottom, ascending) <= found.bottom.bounds).all()
    # what was not reported ends where it is said to
    assert (ascending[::-1][top:] <= found.top.edge).all()
    assert (ascending[bottom:] >= found.bottom.edge).all()
    if found.resolved:
        # the bounds keep what the tolerance promises
        largest = max(tolerance * found.radius, found.rounding) + found.rounding
        assert np.concatenate([found.top.bounds, found.bottom.bounds]).max() <= 1.001 * largest


@settings(deadline=None, max_examples=40)
@given(spectra, st.integers(0, 9))
def test_residuals_and_orthonormality_are_as_reported(spectrum, seed):
    matrix = with_spectrum(spectrum, seed)
    found = solve(matrix, seed, top=4, bottom=3)
    for pairs in (found.top, found.bottom):
        rows = pairs.vectors
        residuals = torch.linalg.vector_norm(
            rows @ matrix - torch.from_numpy(pairs.values.copy())[:, None] * rows, dim=1
        ).numpy()
        np.testing.assert_allclose(residuals, pairs.residuals, atol=1e-11 * max(found.radius, 1))
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-12)


def test_agrees_with_arpack_on_both_ends():
    matrix = with_spectrum(np.random.default_rng(1).standard_normal(300) ** 3)
    found = solve(matrix, top=5, bottom=5, tolerance=1e-10)
    np.testing.assert_allclose(found.top.values, np.sort(eigsh(matrix.numpy(), 5, which="LA")[0])[::-1])
    np.testing.assert_allclose(found.bottom.values, np.sort(eigsh(matrix.numpy(), 5, which="SA")[0]))


def test_every_copy_of_a_multiple_eigenvalue_is_found_and_no_ghost():
    outliers = [3.0] * 4 + [2.5] + [2.0] * 3 + [-1.5] * 3
    spectrum = np.concatenate([outliers, 0.1 * np.random.default_rng(0).standard_normal(300)])
    matrix = with_spectrum(spectrum)
    for seed in range(10):
        found = solve(matrix, seed, top=9, bottom=4, tolerance=1e-6)
        assert found.complete
        np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1][:9], atol=1e-9)
        np.testing.assert_allclose(found.bottom.values, np.sort(spectrum)[:4], atol=1e-9)


def test_an_eigenvalue_with_more_copies_than_are_wanted_fills_all_places():
    matrix = with_spectrum(np.repeat([4.0, 3.0, 2.0, 1.0, 0.5, 0.1, 0.0], 12))
    found = solve(matrix, top=5)
    np.testing.assert_allclose(found.top.values, 4.0)
    assert found.complete


@pytest.mark.parametrize("copies", [3, 9, 25])
def test_the_smallest_basis_holds_any_number_of_copies(copies):
    spectrum = np.concatenate([np.repeat([4.0, 3.0, 2.0], copies), np.linspace(-1, 1, 200)])
    found = solve(with_spectrum(spectrum), top=6, basis=16, tolerance=1e-6, max_products=5000)
    assert found.top.converged.all()
    np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1][:6], atol=1e-8)


def test_without_the_search_a_single_krylov_space_misses_copies():
    # The reason why the search is on by default.
    found = solve(with_spectrum(np.repeat([4.0, 3.0, 2.0, 1.0, 0.5, 0.1, 0.0], 12)), top=5, risk=None)
    assert not found.complete
    assert found.top.values[1] == pytest.approx(3.0)


@pytest.mark.parametrize("basis", [14, 18, 24])
def test_long_runs_with_many_restarts_bring_no_ghosts(basis):
    spectrum = np.concatenate([[9.0, 8.0, 7.0], np.linspace(-1, 1, 400)])
    found = solve(with_spectrum(spectrum), top=5, tolerance=1e-10, basis=basis, max_products=3000, risk=None)
    assert found.products > 3 * basis
    assert found.top.converged.all()
    np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1][:5], atol=1e-8)


@pytest.mark.parametrize("basis", [14, 40])
def test_rounding_does_not_pile_up_over_restarts(basis):
    # LAPACK's eigenvectors, used as they are, left 20 to 40 units after so many restarts.
    spectrum = np.linalg.eigvalsh((lambda a: a + a.T)(np.random.default_rng(0).standard_normal((100, 100))))
    matrix = with_exact_spectrum(spectrum)
    worst, skewed = [], []
    for seed in range(11):
        found = solve(matrix, seed, top=5, tolerance=1e-14, basis=basis, max_products=600, risk=None)
        unit = np.finfo(float).eps * found.radius
        assert found.products > 80
        worst.append(np.abs(found.top.values - spectrum[::-1][:5]).max() / unit)
        rows = found.top.vectors
        skewed.append(float((rows @ rows.T - torch.eye(5)).abs().max()) / np.finfo(float).eps)
    assert np.median(worst) < 8
    assert max(worst) < 16
    assert max(skewed) < 24


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_vector_of_a_basis_is_orthogonal_to_rounding(dtype):
    """Couplings that symmetry knows are removed without looking, also where they are large beside what is left."""
    generator = torch.Generator().manual_seed(0)
    spectrum = np.concatenate([[1e4, 1e3, 900.0], np.linspace(-1, 1, 397)])
    matrix = with_spectrum(spectrum, dtype=dtype)
    krylov = Krylov(lambda v: matrix @ v, 400, 60, generator, dtype, torch.device("cpu"))
    krylov.begin(None)
    eps = torch.finfo(dtype).eps
    for round_ in range(3):
        while not krylov.full:
            krylov.expand()
        rows = krylov.rows[: krylov.j + krylov.q].double()
        skewed = rows @ rows.T - torch.eye(len(rows), dtype=torch.float64)
        assert skewed.abs().max() < 32 * eps, round_
        relation = matrix.double() @ rows[: krylov.j].T - rows.T @ torch.from_numpy(
            np.vstack([krylov.H, krylov.B])
        )
        assert torch.linalg.matrix_norm(relation, 2) < 64 * eps * krylov.radius, round_
        _, vectors = krylov.ritz()
        krylov.restart(vectors[:, -20:])


def test_couplings_that_are_not_as_symmetry_knows_are_removed_all_the_same():
    matrix = with_spectrum(np.linspace(-1, 1, 200))
    skew = 0.5 * torch.triu(torch.randn(200, 200, generator=torch.Generator().manual_seed(1)).double()) / 14
    krylov = Krylov(
        lambda v: (matrix + skew) @ v,
        200,
        40,
        torch.Generator().manual_seed(0),
        torch.float64,
        torch.device("cpu"),
    )
    krylov.begin(None)
    for _ in range(30):
        krylov.expand()
    rows = krylov.rows[:31]
    assert (rows @ rows.T - torch.eye(31)).abs().max() < 1e-14
    assert krylov.asymmetry > 0.1


def test_sums_over_millions_of_weights_keep_the_precision_of_the_vectors():
    # A sum in float32 over so many terms, as torch takes it, is off by 6e-5.
    size = 2_000_000
    diagonal = torch.full((size,), 0.5)
    diagonal[:3] = torch.tensor([4.0, 3.0, 2.0])
    found = extreme_eigenpairs(
        lambda v: diagonal * v,
        size,
        top=3,
        bottom=1,
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float32,
    )
    np.testing.assert_allclose(found.top.values, [4.0, 3.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found.bottom.values, [0.5], rtol=2e-6)
    assert found.rounding < 1e-5
    norms = torch.linalg.vector_norm(found.top.vectors.double(), dim=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def test_the_gradient_is_a_start_that_hides_nothing():
    spectrum = np.concatenate([[5.0, 4.0, 3.0], 0.1 * np.random.default_rng(0).standard_normal(300)])
    matrix = with_spectrum(spectrum)
    vectors = torch.linalg.eigh(matrix).eigenvectors
    for gradient in (vectors[:, -1], torch.zeros(303, dtype=torch.float64), vectors[:, :50].sum(dim=1)):
        found = solve(matrix, top=3, gradient=gradient)
        assert found.complete
        np.testing.assert_allclose(found.top.values, [5.0, 4.0, 3.0], atol=1e-4)


def test_an_indefinite_operator_gives_the_algebraically_largest_not_the_largest_in_magnitude():
    spectrum = np.concatenate([[-10.0, -9.0, 5.0, 4.0], 0.1 * np.ones(50)])
    found = solve(with_spectrum(spectrum), top=2, bottom=2)
    np.testing.assert_allclose(found.top.values, [5.0, 4.0], atol=1e-4)
    np.testing.assert_allclose(found.bottom.values, [-10.0, -9.0], atol=1e-4)


def test_the_zero_operator_has_zero_eigenvalues_with_zero_bounds():
    found = solve(torch.zeros(50, 50, dtype=torch.float64), top=3, bottom=2)
    assert found.complete
    for pairs in (found.top, found.bottom):
        assert not pairs.values.any()
        assert not pairs.bounds.any()
        assert pairs.converged.all()


def test_the_identity_breaks_down_at_every_step_and_is_solved():
    found = solve(3 * torch.eye(60, dtype=torch.float64), top=4, bottom=1)
    np.testing.assert_allclose(found.top.values, 3.0, rtol=1e-13)
    assert found.products <= 10


@pytest.mark.parametrize(
    ("size", "top", "bottom"), [(1, 1, 0), (1, 1, 1), (2, 1, 1), (7, 7, 0), (20, 12, 12)]
)
def test_small_problems_are_solved_densely(size, top, bottom):
    spectrum = np.random.default_rng(size).standard_normal(size)
    found = solve(with_spectrum(spectrum), top=top, bottom=bottom)
    assert found.products == size
    np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1][:top], atol=1e-12)
    np.testing.assert_allclose(found.bottom.values, np.sort(spectrum)[:bottom], atol=1e-12)


def test_the_whole_spectrum_is_found_by_blocks_of_products_however_few_are_allowed_by_default():
    spectrum = np.random.default_rng(0).standard_normal(1100)
    matrix, widths = with_spectrum(spectrum), []

    def matmat(columns):
        widths.append(columns.shape[1])
        return matrix @ columns

    found = extreme_eigenpairs(
        lambda v: matrix @ v, 1100, top=1100, matmat=matmat, generator=torch.Generator()
    )
    assert sum(widths) == found.products == 1100
    assert max(widths) < 1100
    np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1], atol=1e-11)


def flat_edges():
    """Return a matrix whose edges are flat: the density rises from zero there, as in the bulk of a Hessian."""
    x = np.linspace(0.5 / 600, 1 - 0.5 / 600, 600)
    return with_spectrum(np.concatenate([[40.0, 30.0, 25.0], -np.sqrt(1 - np.sqrt(x)) + 2 * x]))


@pytest.mark.parametrize("seed", range(4))
def test_a_search_at_a_flat_edge_ends_with_bounds_that_hold(seed):
    matrix = flat_edges()
    ascending = np.linalg.eigvalsh(matrix.numpy())
    found = solve(matrix, seed, bottom=5, top=0, tolerance=1e-4)
    iterating = solve(matrix, seed, bottom=5, top=0, tolerance=1e-4, risk=None).products
    assert found.complete
    assert found.products <= 2 * iterating + 1
    assert (errors(found.bottom, ascending) <= found.bottom.bounds).all()
    assert ascending[5] >= found.bottom.edge
    # not resolved to the tolerance perhaps, but not far from it
    assert found.bottom.bounds.max() <= 100 * 1e-4 * found.radius


def test_a_basis_that_grows_to_the_whole_space_is_exact():
    spectrum = np.linspace(-1, 1, 30)
    found = solve(with_spectrum(spectrum), top=10, tolerance=1e-12)
    np.testing.assert_allclose(found.top.values, np.sort(spectrum)[::-1][:10], atol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-12])
def test_float32_is_honest_about_rounding(tolerance):
    spectrum = np.concatenate(
        [[3.0, 3.0, 2.0, 1.9999, -1.0], 0.1 * np.random.default_rng(2).standard_normal(800)]
    )
    matrix = with_spectrum(spectrum, dtype=torch.float32)
    truth = np.linalg.eigvalsh(matrix.double().numpy())
    found = solve(matrix, top=4, bottom=2, tolerance=tolerance)
    assert found.top.vectors.dtype == torch.float32
    assert (errors(found.top, truth[::-1]) <= found.top.bounds).all()
    assert (errors(found.bottom, truth) <= found.bottom.bounds).all()
    assert found.top.converged.all()  # a tolerance below rounding means rounding
    assert 1e-7 < found.rounding < 1e-4


def test_products_that_contradict_symmetry_are_noticed_in_the_bounds():
    matrix = with_spectrum(np.linspace(0, 1, 200))
    noise = torch.Generator().manual_seed(1)

    def noisy(v):
        return matrix @ v + 1e-3 * torch.randn(len(v), generator=noise, dtype=v.dtype) / len(v) ** 0.5

    found = extreme_eigenpairs(noisy, 200, top=2, generator=torch.Generator().manual_seed(0))
    assert found.rounding > 1e-4


def test_what_has_not_converged_is_marked_so():
    found = solve(with_spectrum(np.linspace(-1, 1, 500)), top=5, tolerance=1e-10, max_products=20)
    assert found.products == 20
    assert not found.top.converged.any()
    assert not found.complete


def test_fewer_products_than_wanted_pairs_are_survived():
    found = solve(with_spectrum(np.linspace(-1, 1, 500)), top=5, bottom=2, max_products=3)
    assert found.products == 3
    assert not found.top.converged.any()


def test_a_warm_start_saves_products_and_changes_no_value():
    spectrum = np.concatenate([[9.0, 8.0, 7.0, 6.0, 5.0], np.random.default_rng(0).standard_normal(500)])
    matrix = with_spectrum(spectrum)
    cold = solve(matrix, top=5, risk=None)
    nudged = matrix + 0.01 * with_spectrum(np.linspace(-1, 1, 505), seed=3)
    warm = solve(nudged, 1, top=5, risk=None, start=cold.top.vectors)
    again = solve(nudged, 1, top=5, risk=None)
    assert warm.products < again.products
    np.testing.assert_allclose(warm.top.values, again.top.values, atol=1e-4)


def test_a_warm_start_does_not_hide_what_has_risen_since():
    spectrum = np.concatenate([[5.0, 4.0, 3.0], 0.1 * np.random.default_rng(0).standard_normal(300)])
    matrix = with_spectrum(spectrum)
    cold = solve(matrix, top=3)
    risen = torch.linalg.eigh(matrix).eigenvectors[:, 100]
    found = solve(matrix + 8.0 * torch.outer(risen, risen), 1, top=3, start=cold.top.vectors)
    np.testing.assert_allclose(found.top.values, [8.0, 5.0, 4.0], atol=0.3)


def test_equal_generators_give_equal_bits():
    matrix = with_spectrum(np.linspace(-1, 1, 100))
    first, second = solve(matrix, 7, top=3), solve(matrix, 7, top=3)
    assert torch.equal(first.top.vectors, second.top.vectors)
    assert (first.top.values == second.top.values).all()


def test_a_product_that_is_not_finite_is_an_error():
    def broken(v):
        return v * torch.nan

    with pytest.raises(NonFiniteLossError, match="NaN or infinite"):
        extreme_eigenpairs(broken, 100, top=1, generator=torch.Generator())
    with pytest.raises(NonFiniteLossError):
        extreme_eigenpairs(broken, 5, top=1, generator=torch.Generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "At least one eigenpair"),
        ({"top": -1, "bottom": 3}, "no negative number"),
        ({"top": 31}, "31 eigenpairs .* 30 dimensions"),
        ({"top": 1, "tolerance": 0.0}, "between 0 and 1; got 0.0"),
        ({"top": 1, "max_products": 0}, "max_products=0"),
        ({"top": 5, "basis": 6}, "basis=14 or more"),
        ({"top": 1, "risk": 1.5}, "between 0 and 1"),
    ],
)
def test_impossible_requests_are_refused_with_the_cure(options, message):
    with pytest.raises(ConfigurationError, match=message):
        solve(torch.eye(30), **options)
