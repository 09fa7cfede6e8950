"""Two solvers on the same samples, played by solvers of which everything is known."""

import json

import numpy as np
import pytest
from attrs import field, frozen

import landscape as ls
from landscape.cli import main
from landscape.errors import ConfigurationError, SolverError
from landscape.interfaces import Solver
from landscape.systems import Solutions

FAMILY = ls.PolynomialFamily(["x^2 - a"], ["x"], ["a"], sampling="uniform(1, 2)")


@frozen
class Roots(Solver):
    """The square roots, which numpy knows."""

    off: float = 0.0
    lose: tuple[int, ...] = ()
    fail: tuple[int, ...] = ()
    reason: str = "no luck"
    told: list = field(factory=list, eq=False, repr=False)

    def solve(self, system, generator):
        sample = len(self.told)
        self.told.append(float(system.monomials[0][(0,)].real))
        if sample in self.fail:
            raise SolverError(self.reason)
        root = np.sqrt(-self.told[-1]) + self.off
        points = np.array([[root], [-root]])[: 1 if sample in self.lose else 2]
        return Solutions(
            points, completeness="heuristic", evidence="numpy", statistics={"tracked": 2, "lost": 0}
        )


@frozen
class Quiet(Roots):
    """Counts nothing."""

    def solve(self, system, generator):
        solved = super().solve(system, generator)
        return Solutions(solved.points)


def study(solver, samples=4):
    return ls.CriticalPointStudy(FAMILY, solver, samples=samples)


def test_equal_answers_agree():
    ours, theirs = Roots(), Quiet(off=1e-9)
    examination = study(ours).against(theirs)
    assert examination
    assert str(examination).startswith("Roots and Quiet agree on 4 of 4 samples, to 9.")
    assert ours.told == theirs.told
    assert len(set(ours.told)) == 4
    table = examination.samples()
    assert table["N_C_Roots"].tolist() == table["common"].tolist() == [2] * 4
    assert table["largest_difference"].to_numpy() == pytest.approx(1e-9, rel=0.3)
    assert not study(Roots()).against(Quiet(off=1e-9), tolerance=1e-10)


def test_what_is_missing_is_told_on_either_side():
    examination = study(Roots(lose=(1,))).against(Quiet(lose=(2,)))
    table = examination.samples()
    assert not examination
    assert table["agree"].tolist() == ["yes", "no", "no", "yes"]
    assert table["missing_Roots"].tolist() == [0, 1, 0, 0]
    assert table["missing_Quiet"].tolist() == [0, 0, 1, 0]
    assert examination.solvers()["missing"].tolist() == [1, 1]


def test_a_solver_that_fails_goes_on_with_the_next_sample():
    examination = study(Roots(fail=(1,))).against(Quiet())
    table = examination.samples()
    assert table["agree"].tolist() == ["yes", "Roots failed", "yes", "yes"]
    assert table["N_C_Roots"].isna().tolist() == [False, True, False, False]
    assert table["completeness_Roots"].tolist()[1] == "failed"
    assert examination.failures() == ["Roots, sample 1: no luck"]
    assert not examination


def test_a_solver_that_fails_alike_is_not_asked_for_every_sample():
    broken = Roots(fail=tuple(range(100)))
    examination = study(broken, samples=50).against(Quiet())
    assert len(broken.told) == 2
    assert examination.failures() == ["Roots, samples 0, 1, 2, 3, 4, 5, 6, 7 ...: no luck"]
    assert examination.solvers()["failed"].tolist() == [50, 0]


def test_what_a_solver_does_not_count_is_empty():
    table = study(Roots()).against(Quiet()).solvers()
    assert table["paths"].tolist()[0] == 8
    assert table["paths"].isna().tolist() == [False, True]
    assert table["lost"].tolist()[0] == 0
    assert (table["wall_seconds"] > 0).all()
    assert (table["cpu_seconds"] >= 0).all()


def test_a_solver_can_be_compared_with_itself():
    table = study(Roots()).against(Roots(off=1e-8)).samples()
    assert "N_C_Roots_1" in table
    assert "N_C_Roots_2" in table


def test_only_solvers_can_be_asked():
    with pytest.raises(ConfigurationError, match="is no solver"):
        study(Roots()).against("PHCpack")


def test_the_solutions_are_those_of_a_run(tmp_path):
    model = ls.models.DeepLinear(widths=(1, 1, 1))
    one = ls.CriticalPointStudy(model, ls.solvers.Monodromy(), samples=2)
    examination = one.against(ls.solvers.Monodromy(quiet_loops=5))
    run = one.run(store=tmp_path)
    for recorded, stated in zip(run.solutions, examination.first.solutions, strict=True):
        assert (recorded.points == stated.points).all()
    assert examination


@pytest.fixture
def registered(isolated_registry):
    """Register a solver for deep linear networks that loses a solution."""

    @ls.register
    @frozen
    class Forgetful(Solver):
        def solve(self, system, generator):
            solved = ls.solvers.Monodromy().solve(system, generator)
            return solved.select(np.arange(len(solved) - 1))


def test_the_command_prints_the_tables(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    network = ["critical-points", "--widths", "1", "1", "1", "--samples", "2"]
    assert main([*network, "--against", "Monodromy"]) == 0
    printed = capsys.readouterr().out
    assert "N_C_Monodromy_2" in printed
    assert "5 found" in printed
    assert main([*network, "--certify", "--against", "Msolve"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows.count(["N_C_Monodromy", "5"]) == rows.count(["N_C_Msolve", "5"]) == 2
    assert printed.rstrip().splitlines()[-1].startswith("Monodromy_1 and Monodromy_2 agree on 2 of 2 samples")
    assert main([*network, "--against", "Monodromy", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["agree"] is True
    assert [row["N_C_Monodromy_1"] for row in answer["samples"]] == [5, 5]
    assert answer["solvers"][1]["failed"] == 0
    assert answer["failures"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_where_solvers_disagree(registered, capsys):
    network = ["critical-points", "--widths", "1", "1", "1", "--samples", "2"]
    assert main([*network, "--against", "Forgetful", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["agree"] is False
    assert [row["missing_Forgetful"] for row in answer["samples"]] == [1, 1]
    assert main([*network, "--against", "Monodrony"]) == 2
    assert "Did you mean 'Monodromy'" in capsys.readouterr().err
