"""The solver against systems with known solutions, through the real phc and phcpy."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigurationError, SolverError
from landscape.systems import PolynomialSystem, Solutions
from landscape.testing import check_solver
from landscape_phcpack.phcpack import PHCpack

CIRCLE = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
TRUTH = Solutions(np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=complex))


def network(*widths, seed=0):
    family = ls.models.DeepLinear(widths=widths).family()
    return family.system(family.sample(1, seed)[0])


def test_it_keeps_the_rules_of_solvers(way):
    check_solver(PHCpack(way))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "dd"},
        {"precision": "qd"},
        {"tasks": 2},
        {"method": "total degree"},
        {"seed": 5},
    ],
    ids=str,
)
def test_every_option_finds_the_solutions(way, options, generator):
    solved = PHCpack(way, **options).solve(CIRCLE, generator)
    assert solved.matches(TRUTH, 1e-12)
    assert solved.completeness == "heuristic"
    assert solved.statistics["calls"] == 1
    assert solved.statistics["tracked"] == 4


@pytest.mark.parametrize("precision", ["d", "dd", "qd"])
def test_fractions_and_numbers_of_many_digits_are_not_misread(way, precision, generator):
    # PHCpack reads another magnitude from whole numbers of 25 digits, and others wrongly from 300 decimals.
    system = PolynomialSystem(
        [
            "x^2 - 2/3*x + 1/9 - 1/10000",
            "y*x - 1234567890123456789012345678/700000000000000000000000001",
            f"(1/3 + 1/1000003*I)*z - 0.{'7' * 300}",
        ],
        ["x", "y", "z"],
    )
    x = np.array([1 / 3 - 1e-2, 1 / 3 + 1e-2])
    z = np.full(2, (7 / 9) / (1 / 3 + 1j / 1000003))
    solved = PHCpack(way, precision=precision).solve(system, generator)
    truth = Solutions(
        np.stack([x, 1234567890123456789012345678 / 700000000000000000000000001 / x, z], axis=1)
    )
    assert solved.matches(truth, 1e-12), str(solved.matches(truth, 1e-12))


def test_polyhedral_homotopies_find_the_solutions(phcpy, generator):
    assert PHCpack(method="polyhedral").solve(CIRCLE, generator).matches(TRUTH)


def test_threads_of_phcpy_find_the_solutions_of_a_total_degree_homotopy(phcpy, generator):
    assert PHCpack(method="total degree", tasks=2).solve(CIRCLE, generator).matches(TRUTH)


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_networks_have_the_solutions_that_monodromy_finds(way, widths, generator):
    """Zero coordinates, diverged endpoints and several lists: 5, 9 and 33 solutions."""
    family = ls.models.DeepLinear(widths=widths).family()
    parameters = family.sample(1, 0)
    ours = PHCpack(way).solve(family.system(parameters[0]), generator)
    (theirs,) = ls.solvers.Monodromy().solve_family(family, parameters, torch.Generator().manual_seed(0))
    assert ours.matches(theirs)
    assert ours.matches(theirs).largest_difference < 1e-12
    assert len(ours) == sum(4**r * {1: (1, 1), 2: (1, 2, 1)}[widths[1]][r] * (1, widths[2], 1)[r]
                            for r in range(min(widths[1], widths[2]) + 1))  # fmt: skip
    assert ours.completeness == "heuristic"
    assert not ours.points[~ours.in_torus()].all(axis=1).any()


@pytest.mark.parametrize(
    ("equations", "count"),
    [
        (["x^3 - 1"], 3),  # one unknown: another part of PHCpack, another layout of its output
        (["x + y - 3", "x - y - 1"], 1),  # linear
        (["x^2*y - 1", "x*y^3 - 2"], 5),  # two monomials each
        (["x - 2", "x*y + 1"], 1),
        (["x^2 + I*y - 1", "y^2 - (1 + 2*I)*x"], 4),  # complex coefficients
        (["0.1*x^2*y + 1e-5*x - 2.5e3", "1e-3*y^2 - x"], 5),
    ],
)
def test_special_systems_are_solved(way, equations, count, generator):
    names = ["x", "y"][: len(equations)]
    system = PolynomialSystem(equations, names)
    solved = PHCpack(way).solve(system, generator)
    assert len(solved) == count
    size = np.abs(solved.points).max(axis=1)
    assert (solved.residuals <= 1e-12).all()
    assert np.abs(system.value(solved.points)).max() < 1e-9 * max(1, size.max()) ** 3


def test_names_that_phcpack_misreads_are_no_trouble(way, generator):
    awkward = PolynomialSystem(["i^2 + e1^2 - 5", "i*e1 - 2"], ["i", "e1"])
    assert PHCpack(way).solve(awkward, generator).matches(TRUTH)


def test_the_order_of_the_coordinates_is_that_of_the_unknowns(way, generator):
    """PHCpack numbers unknowns as they first occur: here the other way round."""
    turned = PolynomialSystem(["y - x^2", "x - 3"], ["x", "y"])
    for method in ("automatic", "total degree"):
        assert PHCpack(way, method=method).solve(turned, generator).points.tolist() == [[3, 9]]


def test_singular_solutions_are_counted_and_left_out(way, generator):
    system = PolynomialSystem(["(x - 1)^2*(x + 2)", "y - x"], ["x", "y"])
    solved = PHCpack(way).solve(system, generator)
    assert solved.points.tolist() == [[-2, -2]]
    assert solved.statistics["singular"] >= 1
    assert "multiple" in solved.evidence


def test_a_system_without_solutions_has_none(way, generator):
    solved = PHCpack(way).solve(PolynomialSystem(["x*y - 1", "x*y - 2"], ["x", "y"]), generator)
    assert len(solved) == 0
    assert solved.completeness == "unknown"
    solved = PHCpack(way).solve(PolynomialSystem(["x*y - 1", "2"], ["x", "y"]), generator)
    assert len(solved) == 0
    assert solved.completeness == "proved"


def test_a_seed_repeats_bit_for_bit_and_the_global_state_is_left_alone(way):
    system = network(2, 1, 2)
    first = PHCpack(way, seed=3).solve(system, torch.Generator().manual_seed(1))
    again = PHCpack(way, seed=3).solve(system, torch.Generator().manual_seed(2))
    assert (first.points == again.points).all()
    assert "seed 3" in first.evidence


def test_a_family_is_solved_member_by_member(phc, generator):
    family = ls.PolynomialFamily(["x^2 - a", "y^2 - b*x"], ["x", "y"], ["a", "b"])
    solved = list(PHCpack().solve_family(family, np.array([[1.0, 2.0], [4.0, 1.0]]), generator))
    assert [len(each) for each in solved] == [4, 4]
    assert solved[1].parameters.tolist() == [4, 1]


def test_a_study_can_use_it(phc, tmp_path):
    study = ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 1, 1)), PHCpack(), samples=2)
    table = study.run(store=tmp_path).summary()
    assert table["N_C"].tolist() == [5, 5]
    assert table["checks_failed"].tolist() == ["", ""]


def test_too_many_paths_are_refused(phc, generator):
    huge = PolynomialSystem([f"x{k}^4 + x{(k + 1) % 9} - 1" for k in range(9)], [f"x{k}" for k in range(9)])
    with pytest.raises(SolverError, match=r"262144 paths here.*method='automatic'"):
        PHCpack(method="total degree").solve(huge, generator)


@pytest.mark.parametrize(
    "options",
    [
        {"executable": "phcpyy"},
        {"method": "totaldegree"},
        {"precision": "q"},
        {"tasks": -1},
        {"time_limit": 0},
        {"retries": 1.5},
        {"seed": 0},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PHCpack(**options)


def test_what_one_way_in_cannot_do_is_said(phc, generator):
    with pytest.raises(SolverError, match="executable='phcpy'"):
        PHCpack("phc", method="polyhedral").solve(CIRCLE, generator)
    with pytest.raises(SolverError, match="double precision only"):
        PHCpack(method="total degree", precision="dd").solve(CIRCLE, generator)


@pytest.mark.parametrize("executable", ["auto", "phc", "phcpy"])
def test_without_phcpack_the_error_says_what_to_install(no_phcpack, executable, generator):
    with pytest.raises(SolverError) as caught:
        PHCpack(executable).solve(CIRCLE, generator)
    for word in ("not installed", "apt install phcpack python3-phcpy", "macOS", "From source"):
        assert word in str(caught.value)


def test_a_study_without_phcpack_leaves_no_run(no_phcpack, tmp_path):
    study = ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 1, 1)), PHCpack(), samples=2)
    with pytest.raises(SolverError, match="not installed"):
        study.run(store=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
