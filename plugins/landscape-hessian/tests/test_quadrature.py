"""Lanczos runs against Gauss quadrature, dense spectra and themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.errors import ConfigurationError, NonFiniteLossError
from landscape_hessian.quadrature import LanczosRun, extend_together


def symmetric(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return (matrix + matrix.T) / 2, torch.randn(size, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 15), st.integers(0, 99))
def test_the_rule_is_exact_for_polynomials_up_to_twice_the_steps(size, steps, seed):
    matrix, start = symmetric(size, seed)
    matrix = matrix / torch.linalg.matrix_norm(matrix, 2)
    run = LanczosRun(lambda v: matrix @ v, start).extend(steps)
    nodes, weights = run.rule()
    unit = start / torch.linalg.vector_norm(start)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    moved = unit
    for degree in range(2 * run.steps):
        assert (weights * nodes**degree).sum() == pytest.approx(float(unit @ moved), abs=1e-12)
        moved = matrix @ moved
    basis = run.basis
    torch.testing.assert_close(basis @ basis.T, torch.eye(run.steps, dtype=torch.float64), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=30)
@given(st.integers(5, 60), st.integers(2, 12), st.integers(0, 99), st.floats(-2, 2))
def test_cumulated_weights_bracket_the_distribution_of_the_start(size, steps, seed, level):
    from landscape_hessian.estimates import _shares

    matrix, start = symmetric(size, seed)
    values, vectors = np.linalg.eigh(matrix.numpy())
    unit = (start / torch.linalg.vector_norm(start)).numpy()
    run = LanczosRun(lambda v: matrix @ v, start).extend(steps)
    level = level * np.abs(values).max() / 2
    exact = ((vectors.T @ unit) ** 2)[values < level].sum()
    low, middle, high = _shares(run.rule()[0][None], run.rule()[1][None], level, "left")
    assert low[0] - 1e-12 <= exact <= high[0] + 1e-12
    assert low[0] <= middle[0] <= high[0]


def test_converged_eigenvalues_leave_no_copies():
    spectrum = np.concatenate([[100.0, 50.0], np.linspace(-1, 1, 198)])
    matrix = torch.diag(torch.tensor(spectrum))
    run = LanczosRun(lambda v: matrix @ v, torch.ones(200, dtype=torch.float64)).extend(80)
    assert (run.rule()[0] > 10).sum() == 2


def test_an_invariant_space_ends_the_run():
    matrix = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    run = LanczosRun(lambda v: matrix @ v, torch.ones(5, dtype=torch.float64)).extend(50)
    assert run.steps == 2
    assert run.exhausted
    np.testing.assert_allclose(run.rule()[0], [1, 2], atol=1e-14)
    np.testing.assert_allclose(run.rule()[1], [3 / 5, 2 / 5], atol=1e-14)
    zero = LanczosRun(lambda v: 0 * v, torch.ones(4, dtype=torch.float64)).extend(3)
    assert zero.steps == 1
    assert zero.rule()[0].tolist() == [0.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stop", [1, 16, 23])
def test_a_run_taken_up_from_disk_goes_on_bit_for_bit(tmp_path, stop, dtype):
    matrix, start = symmetric(90)
    matrix, start = matrix.to(dtype), start.to(dtype)
    whole = LanczosRun(lambda v: matrix @ v, start).extend(40)
    half = LanczosRun(lambda v: matrix @ v, start).extend(stop)
    half.save(tmp_path / "run.safetensors")
    again = LanczosRun.load(tmp_path / "run.safetensors", lambda v: matrix @ v).extend(40 - stop)
    assert again.diagonal == whole.diagonal
    assert again.coupling == whole.coupling
    assert torch.equal(again.basis, whole.basis)


def test_what_cannot_be_a_run_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(ConfigurationError, match="not zero"):
        LanczosRun(lambda v: v, torch.zeros(3))
    with pytest.raises(NonFiniteLossError):
        LanczosRun(lambda v: v * float("nan"), torch.ones(3)).extend(1)
    save_file({"weights": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigurationError, match="holds weights"):
        LanczosRun.load(tmp_path / "other.safetensors", lambda v: v)


def test_runs_that_go_on_together_are_the_runs_by_themselves():
    matrix, start = symmetric(40)
    small = torch.zeros(40, dtype=torch.float64)
    small[:2] = 1
    matrix[:2, 2:] = matrix[2:, :2] = 0  # two of the starts stay within two dimensions
    starts = [start, small, start.flip(0), 3 * small]
    runs = [LanczosRun(lambda v: matrix @ v, one) for one in starts]
    columns = []

    def matmat(block):
        columns.append(block.shape[1])
        return matrix @ block

    extend_together(runs, matmat, 6)
    assert [run.steps for run in runs] == [6, 2, 6, 2]
    assert columns == [4, 4, 2, 2, 2, 2]
    for run, one in zip(runs, starts, strict=True):
        alone = LanczosRun(lambda v: matrix @ v, one).extend(6)
        np.testing.assert_allclose(run.rule(), alone.rule(), atol=1e-12)
    extend_together(runs[1::2], matmat, 5)
    assert len(columns) == 6
    with pytest.raises(NonFiniteLossError):
        extend_together(runs, lambda block: block * float("nan"), 1)
