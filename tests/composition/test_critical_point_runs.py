"""What a critical-point study records: tables, failed checks with their samples, refusals, interruption."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from attrs import evolve, frozen

import landscape as ls
from landscape.composition.critical_points import (
    evidence_table,
    failed_checks,
    index_table,
    joined,
    latex_of,
    network_row,
    pattern_table,
    real_count_table,
    real_points,
    sample_rows,
    unequal_counts,
)
from landscape.errors import PolynomialError
from landscape.report.counts import claim, footnote, latex, printed
from landscape.systems import PolynomialFamily, Solutions

# Critical points at (0, 0) and (+-sqrt a, 0): found by a solver that knows them, which the tests then break.
FAMILY = PolynomialFamily.gradient("(x^2 - a)^2/4 + b*y^2/2", ["x", "y"], ["a", "b"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDSCAPE_PROGRESS", "0")


def exact(parameters):
    """Return the solutions of FAMILY by hand: y = 0, and x = 0 or x^2 = a."""
    root = np.sqrt(complex(parameters[0]))
    return Solutions(np.array([[0, 0], [root, 0], [-root, 0]]), np.zeros(3), completeness="heuristic")


@frozen
class ByHand(ls.Solver):
    """Solves FAMILY by hand, and breaks the solutions of one sample."""

    breaking: str = ""
    where: int = 2

    def solve(self, system, generator):
        raise NotImplementedError

    def solve_family(self, family, parameters, generator) -> Iterator[Solutions]:
        for index, row in enumerate(parameters):
            solutions = exact(row)
            yield BREAKING[self.breaking](solutions) if self.breaking and index == self.where else solutions


def study(breaking="", samples=5, family=FAMILY):
    return ls.CriticalPointStudy(family, ByHand(breaking), samples=samples, seed=7)


def without(which):
    return lambda solutions: solutions.select(np.array([k for k in range(3) if k != which]))


def moved(solutions):
    points = solutions.points.copy()
    points[1] += 1e-4
    return evolve(solutions, points=points)


def turned(solutions):
    points = solutions.points.copy()
    points[1:] *= np.exp(0.3j)
    return evolve(solutions, points=points)


def doubled(solutions):
    return evolve(solutions, points=solutions.points[[0, 1, 1]])


def lossy(solutions):
    return evolve(without(0)(solutions), statistics={"lost": 1})


BREAKING = {
    "one of a pair missing": without(1),
    "the origin missing": without(0),
    "moved": moved,
    "turned": turned,
    "doubled": doubled,
    "lossy": lossy,
}


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
@pytest.mark.parametrize(
    ("breaking", "complaint"),
    [
        ("one of a pair missing", "not closed under the sign changes"),
        (
            "one of a pair missing",
            "2 solutions, 0 of them without zero coordinate; 4 of 5 samples have 3 and 0",
        ),
        ("the origin missing", "2 solutions, 0 of them"),
        ("doubled", "two solutions coincide"),
        ("doubled", "not closed under the sign changes"),
        ("moved", "1 points are no solutions: Newton's method moves number 1"),
        ("turned", "not closed under complex conjugation"),
        ("turned", "2 points are no solutions"),
        ("lossy", "1 solutions of a generic member did not arrive"),
    ],
)
def test_what_a_broken_solver_returns_is_reported_with_the_sample_and_seed(breaking, complaint, capsys):
    run = study(breaking).run()
    summary = run.summary()
    assert summary["checks_failed"].astype(bool).tolist() == [False, False, True, False, False]
    assert complaint in summary["checks_failed"][2]
    failed = run.tables["failed_checks"]
    assert failed[["sample", "seed"]].to_numpy().tolist() == [[2, 7]]
    assert complaint in failed["checks_failed"][0]
    # Whatever the solver said of it.
    assert summary["completeness"].tolist() == ["heuristic", "heuristic", "unknown", "heuristic", "heuristic"]
    assert run.tables["network"][["checks_failed", "completeness"]].to_numpy().tolist() == [[1, "unknown"]]
    assert "In 1 of 5 samples a check failed." in (run.path / "tables" / "network.tex").read_text()
    page = run.report().read_text()
    assert "sample 2 of seed 7" in page


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_tables_of_a_study_are_what_was_solved_by_hand():
    run = study().run()
    assert set(run.tables) == {
        "summary",
        "network",
        "real_points",
        "real_counts",
        "hessian_indices",
        "zero_patterns",
        "evidence",
    }
    a = run.study.parameters()[:, 0]
    b = run.study.parameters()[:, 1]
    assert run.summary()["N_R"].tolist() == [3 if value > 0 else 1 for value in a]
    counts = run.tables["real_counts"]
    assert dict(zip(counts["N_R"], counts["samples"], strict=True)) == {
        n: int((run.summary()["N_R"] == n).sum()) for n in set(run.summary()["N_R"])
    }
    # At (+-sqrt a, 0) the Hessian is diag(2a, b), at the origin diag(-a, b).
    expected = []
    for first, second in zip(a, b, strict=True):
        expected += [2 * [int(second < 0)] if first > 0 else [], [int(first > 0) + int(second < 0)]]
    flat = sorted(itertools.chain(*expected))
    assert sorted(run.tables["real_points"]["index"]) == flat
    shares = run.tables["hessian_indices"]
    assert shares["points"].tolist() == [flat.count(index) for index in shares["index"]]
    patterns = run.tables["zero_patterns"]
    assert patterns[["pattern", "solutions", "solutions_min"]].to_numpy().tolist() == [
        ["*0", 2, 2],
        ["00", 1, 1],
    ]
    metadata = next(iter(run.directory.solutions()))[1]
    assert metadata["unknowns"] == ["x", "y"]


LEFT = [0]


@frozen
class Interrupted(ByHand):
    """Ctrl-C comes after as many members as LEFT says."""

    def solve_family(self, family, parameters, generator):
        for row in parameters:
            LEFT[0] -= 1
            if LEFT[0] < 0:
                raise KeyboardInterrupt
            yield exact(row)


@pytest.mark.filterwarnings("ignore:This run cannot be replicated")
def test_an_interrupted_study_keeps_what_it_solved_and_goes_on():
    LEFT[0] = 3
    interrupted = ls.CriticalPointStudy(FAMILY, Interrupted(), samples=5, seed=7)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(store="runs", run_id="it")
    run = ls.open("runs/it", trust=True)
    assert run.status == "interrupted"
    assert len(run.solutions) == 3
    assert run.directory.state["reason"] == "3 of 5 samples done"
    LEFT[0] = 2
    done = interrupted.resume(run)
    assert LEFT == [0]
    assert done.status == "complete"
    whole = study().run()
    pd.testing.assert_frame_equal(done.summary(), whole.summary())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"regularisation": "constant(1)"}, "sample 0 of seed 0 are not isolated: the lambda .* are tied"),
        ({"regularisation": "constant(0)"}, "not isolated: all lambda"),
        ({"regularisation": "off"}, "without regularisation"),
        ({"widths": (2, 20, 2)}, "sub-networks"),
        ({"widths": (9, 9, 9)}, "each sample has 76499525 solutions in 162 unknowns; they need 739 GiB"),
        (
            {"widths": (60, 60, 60)},
            r"each sample has 1\.3e56 solutions in 7200 unknowns; they need 5\.9e52 GiB",
        ),
        ({"widths": (9000, 1, 9000)}, "18000 unknowns are too many: one path alone needs 29 GiB"),
    ],
)
def test_what_cannot_be_solved_leaves_no_run_behind(fields, message, tmp_path, monkeypatch):
    # A machine of 16 GiB.
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if "SIZE" in name else 2**22)
    wrong = ls.CriticalPointStudy(
        ls.models.DeepLinear(**{"widths": (2, 2, 2)} | fields), ls.solvers.Monodromy()
    )
    with pytest.raises(PolynomialError, match=message):
        wrong.run(store="runs")
    assert not (tmp_path / "runs").exists()


def rows(*pairs):
    return [
        {"N_C": n, "N_C_torus": torus, "completeness": "heuristic", "checks_failed": ""} for n, torus in pairs
    ]


def test_counts_that_differ_from_the_rule_are_failed_checks():
    same = rows((5, 4), (5, 4))
    unequal_counts(same)
    assert [row["checks_failed"] for row in same] == ["", ""]
    # Of two counts that are as frequent the larger is the rule: what is missing is missing there.
    mixed = rows((5, 4), (3, 2))
    unequal_counts(mixed)
    assert mixed[0]["checks_failed"] == ""
    assert (
        "3 solutions, 2 of them without zero coordinate; 1 of 2 samples have 5 and 4"
        in mixed[1]["checks_failed"]
    )


NAN = float("nan")


@pytest.mark.parametrize(
    ("found", "certified", "completeness", "said"),
    [
        (33, 33, "proved", "33"),
        (33, NAN, "proved", "≤ 33 (33 found)"),
        (33, 31, "proved", "≥ 31 (33 found)"),
        (33, 33, "heuristic", "≥ 33"),
        (33, 33, "trace test", "≥ 33"),
        (33, 31, "unknown", "≥ 31 (33 found)"),
        (33, NAN, "heuristic", "33 found"),
        (0, 0, "heuristic", "0 found"),
    ],
)
def test_equality_is_printed_only_where_completeness_is_proved(found, certified, completeness, said):
    assert claim(found, certified, completeness) == said


def table(*rows):
    names = ("N_C", "N_C_torus", "N_R", "certified", "certified_torus", "certified_real", "completeness")
    return pd.DataFrame(rows, columns=names)


def test_every_count_of_a_printed_table_says_how_it_is_known():
    frame = table(
        (9, 8, 3, 9, 8, 3, "proved"),
        (33, 16, 5, 33, 16, 5, "heuristic"),
        (33, 16, 5, NAN, NAN, NAN, "unknown"),
        # Complete, but of none it is proved that it is real.
        (9, 8, 3, 9, 8, NAN, "proved"),
        # A proved bound is met by what was not certified.
        (9, 8, 3, NAN, NAN, NAN, "proved"),
    )
    shown = printed(frame)
    assert shown[["N_C", "N_C_torus", "N_R"]].to_numpy().tolist() == [
        ["9", "8", "3"],
        ["≥ 33", "≥ 16", "≥ 5"],
        ["33 found", "16 found", "5 found"],
        ["9", "8", "3 found"],
        ["≤ 9 (9 found)", "8 found", "3 found"],
    ]
    note = footnote(frame)
    assert all(word in note for word in ("A number alone", "≥:", "≤:", "found:", "heuristic:", "unknown:"))
    assert "trace test" not in note
    assert "of what was found" not in note
    assert "of what was found" in footnote(frame.assign(N_R_max=5))
    text = latex(frame, caption="100 % of it")
    assert r"$\geq$ 33" in text
    assert r"\caption{100 \% of it}" in text
    assert r"\footnotesize A number alone" in text
    assert printed(pd.DataFrame({"loss": [1.0]})).columns.tolist() == ["loss"]
    assert footnote(pd.DataFrame({"loss": [1.0]})) == ""


def test_notes_say_what_was_not_certified_and_which_bound_is_missing():
    frame = table((73, 48, 5, 73, 48, 5, "trace test"), (0, 0, 0, 0, 0, 0, "heuristic"))
    assert "nothing was proved" not in footnote(frame)
    assert "n found: the solver computed n different solutions numerically" in footnote(frame)
    partly = table((73, 48, 5, 70, 48, 5, "heuristic"))
    assert "only what stands before the bracket is proved" in footnote(partly)
    assert "In 2 samples not every solution could be certified." in footnote(frame.assign(uncertified=[2, 0]))
    assert "not every" not in footnote(frame.assign(uncertified=[0, 0]))
    assert "Where BKK is missing" in footnote(frame.assign(BKK=[144.0, NAN]))
    assert "BKK" not in footnote(frame.assign(BKK=[144.0, 1.0]))


def test_a_table_for_latex_names_its_packages_and_fits_the_line():
    text = latex(table((9, 8, 3, 9, 8, 3, "proved")))
    assert text.startswith("% \\usepackage{amssymb, booktabs, adjustbox}\n")
    assert text.count(r"\begin{adjustbox}{max width=\linewidth}") == text.count(r"\end{adjustbox}") == 1


def network(found, completeness="heuristic", certified=None, family=FAMILY):
    parameters = family.sample(len(found), 1)
    summary = []
    for index, (p, solutions) in enumerate(zip(parameters, found, strict=True)):
        proof = None if certified is None else certified[: len(solutions)]
        solutions = evolve(solutions, completeness=completeness, certificates=proof)
        summary.append({"sample": index, "seed": 1} | sample_rows(family, p, solutions))
    unequal_counts(summary)
    points = [
        {"sample": index} | row
        for index, p in enumerate(parameters)
        for row in real_points(family, p, found[index])
    ]
    return pd.DataFrame(summary), pd.DataFrame(points)


def test_a_network_has_the_most_that_was_found_and_the_worst_that_is_known():
    family = FAMILY
    found = [exact(p) for p in family.sample(3, 1)]
    found[1] = without(0)(found[1])
    summary, points = network(found, certified=np.array([1e-14, 1e-14, np.nan]))
    summary.loc[2, "completeness"] = "unknown"
    row = network_row(family, summary, points)
    assert (row["N_C"], row["certified"], row["completeness"], row["checks_failed"]) == (3, 2, "unknown", 1)
    assert row["uncertified"] == 2
    assert row["samples"] == 3
    assert row["N_R_max"] == summary["N_R"].max()
    assert "formula" not in row
    assert failed_checks(summary)["sample"].tolist() == [1]


def test_conjectured_formulas_are_compared_and_decide_nothing():
    model = ls.models.DeepLinear(widths=(1, 1, 1))
    family = model.family()
    run = ls.CriticalPointStudy(model, ls.solvers.Monodromy(), samples=2).run()
    assert run.tables["network"]["formula"].tolist() == ["agrees"]
    assert run.tables["network"][["H", "d", "dx", "dy", "m"]].to_numpy().tolist() == [[1, 1, 1, 1, 1]]
    summary = run.summary().assign(N_C=3)
    row = network_row(family, summary, run.tables["real_points"])
    assert row["formula"] == "gives N_C = 5"
    assert row["checks_failed"] == 0


def test_tables_of_nothing_are_empty():
    nothing = Solutions(np.zeros((0, 2)), np.zeros(0))
    summary, points = network([nothing])
    assert pattern_table(FAMILY, [nothing]).empty
    assert index_table(points).empty
    assert real_count_table(summary)["N_R"].tolist() == [0]
    assert network_row(FAMILY, summary, points)["N_C"] == 0
    assert joined({"member-0000": ({}, {})}) == {}


def test_members_of_a_sweep_stand_in_one_table():
    base = ls.CriticalPointStudy(
        ls.models.DeepLinear(widths=(1, 1, 1)), ls.solvers.Monodromy(certified=True), samples=2
    )
    run = ls.Sweep(base, {"model.widths": ((1, 1, 1), (1, 2, 1))}, name="Two networks").run()
    summary = run.summary()
    assert summary[["member", "d", "N_C"]].to_numpy().tolist() == [
        ["member-0000", 1, 5],
        ["member-0001", 2, 9],
    ]
    first, second = summary["completeness"]
    assert first == "proved"
    said = claim(9, 9, second)
    assert len(run.tables["zero_patterns"]) == 2 + 3
    text = (run.path / "tables" / "summary.tex").read_text()
    assert text == latex_of(summary, "Two networks")
    assert f" & {said} & ".replace("≥", r"$\geq$") in text
    assert " & 5 & " in text
    page = run.report().read_text()
    assert f">{said}<" in page
    assert "A number alone" in page


def test_the_solver_sees_only_what_is_missing_when_a_run_is_resumed():
    """Rows by hand and the real solver agree on what a resumed run contains."""
    base = ls.CriticalPointStudy(ls.models.DeepLinear(widths=(1, 1, 1)), ls.solvers.Monodromy(), samples=3)
    whole = base.run(store="runs")
    assert base.resume(ls.open(whole.path)).summary().equals(whole.summary())


def test_what_is_said_of_several_samples_is_told_once():
    found = [Solutions(np.zeros((1, 1)), evidence=text) for text in ("of all", "of one", "of all", "")]
    table = evidence_table(found)
    assert table.to_numpy().tolist() == [[2, 0, "of all"], [1, 1, "of one"]]


def test_the_evidence_stands_in_the_report_unabridged():
    run = ls.CriticalPointStudy(
        ls.models.DeepLinear(widths=(1, 1, 1)), ls.solvers.Monodromy(), samples=2
    ).run()
    (text,) = run.tables["evidence"]["evidence"]
    assert "It is proved that generic members have 5 isolated solutions" in text
    assert f'<td class="words">{text}</td>' in run.report().read_text()
