import numpy as np
import pytest

from landscape.errors import PolynomialError
from landscape.systems import Solutions, match


def example():
    return Solutions(
        np.array([[1 + 0j, 2], [0, 1j], [1, -1j], [3, 1e-12j]]),
        np.full(4, 1e-15),
        completeness="heuristic",
        evidence="ten quiet loops",
        parameters=np.array([1.0, 2.0]),
        statistics={"lost": 2, "tracked": 6},
    )


def test_real_solutions_are_those_without_imaginary_part():
    real = example().real()
    assert real.points.tolist() == [[1, 2], [3, 0]]
    assert example().is_real(1e-13).tolist() == [True, False, False, False]


def test_the_original_keeps_its_imaginary_parts():
    solutions = example()
    solutions.real()
    assert solutions.points[3, 1] == 1e-12j


def test_torus_solutions_have_no_exact_zero():
    assert example().in_torus().tolist() == [True, False, True, True]
    assert len(example().torus(tolerance=1e-10)) == 2


def test_sets_match_in_any_order_and_only_one_to_one():
    shuffled = example().select(np.array([2, 0, 3, 1]))
    assert example().matches(shuffled)
    assert not example().matches(example().select(np.array([0, 1, 2])))
    assert not example().matches(example().select(np.array([0, 0, 1, 2])))


def test_what_is_missing_on_either_side_is_returned():
    ours, theirs = example().select(np.array([0, 1, 2])), example().select(np.array([3, 0, 0, 2]))
    agreement = ours.matches(theirs)
    assert agreement.common == 2
    assert agreement.missing.tolist() == [[3, 1e-12j], [1, 2]]
    assert agreement.surplus.tolist() == [[0, 1j]]
    assert str(agreement) == "2 in common, 2 missing, 1 more"
    assert str(ours.matches(ours)) == "the same 3 solutions"


def test_nearly_equal_points_find_a_partner_each():
    """The nearest neighbour of two points is the same one: the other must look again."""
    ours = Solutions(np.array([[0j], [4e-7]]))
    theirs = Solutions(np.array([[-3e-7 + 0j], [1e-7]]))
    assert ours.matches(theirs)
    assert ours.matches(theirs).largest_difference == pytest.approx(7e-7)
    assert not ours.matches(theirs, tolerance=1e-7)


def test_solutions_of_different_systems_cannot_be_compared():
    with pytest.raises(PolynomialError, match="2 and 1 coordinates"):
        example().matches(Solutions(np.zeros((1, 1))))


def test_everything_survives_a_file(tmp_path):
    example().save(tmp_path / "found.safetensors")
    after = Solutions.load(tmp_path / "found.safetensors")
    assert (after.points == example().points).all()
    assert (after.parameters == example().parameters).all()
    assert (after.completeness, after.evidence) == ("heuristic", "ten quiet loops")
    assert after.statistics == example().statistics
    assert [path.name for path in tmp_path.iterdir()] == ["found.safetensors"]


def test_files_that_hold_no_solutions_are_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for name in ("empty", "nowhere"):
        with pytest.raises(PolynomialError, match="does not hold solutions"):
            Solutions.load(tmp_path / name)
    with pytest.raises(PolynomialError, match="cannot be written"):
        example().save(tmp_path / "no" / "folder")


def test_match_names_the_nearest_within_the_tolerance():
    points = np.array([[0j], [1], [5]])
    assert match(points, np.array([[1 + 1e-9j], [0]])).tolist() == [1, 0, -1]
    assert match(points, np.zeros((0, 1), dtype=complex)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("parameters", [None, np.array([1.0, 2.0]), np.array([1.0 + 1j, 2.0])])
def test_everything_survives_the_store(parameters):
    before = Solutions(
        example().points, certificates=np.full(4, 1e-10), completeness="proved", parameters=parameters
    )
    arrays, metadata = before.to_arrays()
    assert all(not np.iscomplexobj(array) for array in arrays.values())
    after = Solutions.from_arrays(arrays, metadata)
    assert (after.points == before.points).all()
    assert (after.certificates == before.certificates).all()
    assert after.completeness == "proved"
    assert after.multiplicities.tolist() == [1, 1, 1, 1]
    if parameters is None:
        assert after.parameters is None
    else:
        assert (after.parameters == parameters).all()
        assert after.parameters.dtype == parameters.dtype


def test_incomplete_arrays_are_refused():
    arrays, metadata = example().to_arrays()
    del arrays["residuals"]
    with pytest.raises(PolynomialError, match="residuals"):
        Solutions.from_arrays(arrays, metadata)


def test_the_repr_says_what_is_there_and_what_was_lost():
    assert repr(example()) == (
        "Solutions(4 in 2 unknowns, 2 real, 3 without zero coordinate; completeness: heuristic; 2 lost)"
    )


def test_wrong_shapes_and_words_are_refused():
    with pytest.raises(PolynomialError, match=r"shape \(n, N\)"):
        Solutions(np.zeros(3))
    with pytest.raises(PolynomialError, match="residuals"):
        Solutions(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(PolynomialError, match="one of"):
        Solutions(np.zeros((3, 2)), completeness="sure")


def test_small_solutions_are_not_real_for_being_small():
    # The roots of x^2 + 1e-20, alone and beside a coordinate of size one.
    points = np.array([[1e-10j], [-1e-10j], [1e-10 + 1e-26j]])
    for residuals in (np.full(3, np.nan), np.full(3, 1e-20)):
        assert Solutions(points, residuals).is_real().tolist() == [False, False, True]
    beside = np.array([[1, 1e-10j], [1, 1e-10], [1, 1e-17 + 1e-17j]])
    assert Solutions(beside, np.full(3, 1e-16)).is_real().tolist() == [False, True, True]
    # Where the coordinates are known no better, nothing tells the first from a real one.
    assert Solutions(beside, np.full(3, 1e-12)).is_real().tolist() == [True, True, True]
    assert Solutions(np.array([[1e-17 + 1e-17j]]), np.array([1e-17])).is_real().tolist() == [True]


def test_certificates_decide_what_is_real():
    points = np.array([[1 + 1e-12j], [1 + 1e-12j], [1 + 1e-12j], [1.0], [0.0]])
    certificates = np.array([1e-14, 1e-11, np.nan, 1e-15, 0.0])
    found = Solutions(points, np.full(5, 1e-16), certificates=certificates).is_real()
    assert found.tolist() == [False, True, True, True, True]


def test_multiple_solutions_are_known_to_fewer_digits():
    points = np.array([[1e-9 + 1e-9j], [1e-9 + 1e-9j]])
    assert Solutions(points, np.full(2, 1e-16), np.array([1, 2])).is_real().tolist() == [False, True]
