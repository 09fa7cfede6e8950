import math
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.errors import PolynomialError
from landscape.systems import (
    PolynomialSystem,
    Solutions,
    phc_lists,
    read_solutions,
    read_system,
    write_solutions,
)

RULE = "=" * 75


def entry(number, x, y, *, t="1.00000000000000E+00", closing=None, head=None):
    closing = closing or "== err :  1.234E-15 = rco :  3.102E-01 = res :  4.441E-16 =="
    return (
        f"{head or f'solution {number} :'}\nt :  {t}   0.00000000000000E+00\nm : 1\nthe solution for t :\n"
        f" x : {x}\n y : {y}\n{closing}\n"
    )


ONE, TWO = " 1.00000000000000E+00   0.00000000000000E+00", "-2.00000000000000E+00   1.82877982605164E-99"

#: Abridged from what phc -b of version 2.4.86 writes: start solutions of another system, solutions with zero
#: coordinates, endpoints of paths, the same endpoints again after a last refinement.
OUTPUT = f"""\
 2
x^2+y^2-5;
x*y-2;

ROOT COUNTS :

mixed volume : 4
stable mixed volume : 4

START SOLUTIONS :

1 2
{RULE}
{entry(1, ONE, ONE, t="0.00000000000000E+00")}
THE SOLUTIONS :

1 2
{RULE}
{entry(1, ONE, TWO, head="solution 1 :    start residual :  1.776E-15   #iterations : 1   success")}
TIMING INFORMATION for stable continuation
The elapsed time in seconds was                  0.000508000 =  0h 0m 0s  1ms

THE SOLUTIONS :
2 2
{RULE}
{entry(1, TWO, ONE, head="== 1 =  #step :  10 #fail :  0 #iter :  31 = regular solution ==")}\
{
    entry(
        2,
        "NaN*****************  NaN*****************",
        "-Inf****************  +Inf****************",
        t="9.98941076913685E-01",
        head="== 2 =  #step : 157 #fail : 48 #iter : 456 = failure ==",
        closing="== err :  NaN******* = rco :  2.317E-07 = res :  +Inf****** ==",
    )
}\
== #regu : 1 = #sing : 0 = #clus : 0 = #infi : 0 = #fail : 1 ==

THE SOLUTIONS :

1 2
{RULE}
{entry(1, TWO, ONE, closing="== err :  5.7E-83 = rco :  3.1E-01 = res :  4.3E-99 = real regular ==")}
{RULE}
A list of 1 solutions has been refined :
Number of regular solutions     : 1.
"""
CIRCLE = PolynomialSystem(["x^2 + y^2 - 5", "x*y - 2"], ["x", "y"])
TRUTH = Solutions(np.array([[1, 2], [2, 1], [-1, -2], [-2, -1]], dtype=complex), np.full(4, 1e-16))


# -- PHCpack ----------------------------------------------------------------------------------------------


def test_every_list_of_an_output_is_read_and_start_solutions_are_not():
    zeros, ends, refined = phc_lists(OUTPUT)
    assert zeros.points.tolist() == [[1, -2 + 1.82877982605164e-99j]]
    assert zeros.residuals.tolist() == [4.441e-16]
    assert refined.points.tolist() == [[-2 + 1.82877982605164e-99j, 1]]
    assert len(ends) == 2
    assert not ends.complete
    assert zeros.complete
    assert refined.complete


def test_fields_that_are_no_numbers_are_nan():
    ends = phc_lists(OUTPUT)[1]
    assert np.isnan(ends.points[1]).all()
    assert ends.t.tolist() == [1, 0.998941076913685]
    assert math.isnan(ends.corrections[1])
    assert math.isnan(ends.residuals[1])
    assert ends.conditions[1] == 2.317e-07


def test_coordinates_stand_in_the_order_of_the_system():
    (zeros, *_) = phc_lists(OUTPUT)
    assert zeros.unknowns == ("x", "y")
    assert zeros.ordered(("y", "x")).tolist() == [[-2 + 1.82877982605164e-99j, 1]]
    with pytest.raises(PolynomialError, match="coordinates x, y, the system the unknowns a, b"):
        zeros.ordered(("a", "b"))


def test_the_closing_line_of_phcpy_is_read():
    text = f"THE SOLUTIONS :\n1 2\n{RULE}\n" + entry(1, ONE, TWO).replace(" ==\n", " =\n")
    assert phc_lists(text)[0].complete


def test_numbers_of_quad_double_precision_are_read():
    long = "-2.000000000000000000000000000000000000000000000000000000000000000E+00"
    text = f"THE SOLUTIONS :\n1 2\n{RULE}\n" + entry(1, f"{long}  {long}", ONE)
    assert phc_lists(text)[0].points.tolist() == [[-2 - 2j, 1]]


@pytest.mark.parametrize(
    "text",
    ["", "\n" * 1000, "THE SOLUTIONS :", "THE SOLUTIONS :\n\nnone\n", "THE SOLUTIONS\n-1 2\n", "\x00" * 4096],
)
def test_a_text_without_a_list_has_none(text):
    assert phc_lists(text) == ()
    with pytest.raises(PolynomialError, match="THE SOLUTIONS"):
        read_solutions(text, "phc", CIRCLE)


def test_a_declared_number_allocates_nothing():
    (found,) = phc_lists(f"THE SOLUTIONS :\n999999999999 999999999999\n{RULE}\n{entry(1, ONE, TWO)}")
    assert len(found) == 1
    assert not found.complete


def test_more_entries_than_declared_are_not_of_the_list():
    text = f"THE SOLUTIONS :\n1 2\n{RULE}\n{entry(1, ONE, TWO)}{entry(2, TWO, ONE)}"
    assert len(phc_lists(text)[0]) == 1


def test_an_entry_with_a_coordinate_missing_or_twice_is_no_number():
    whole = entry(1, ONE, TWO)
    missing, twice = whole.replace(f" y : {TWO}\n", ""), whole.replace(" y :", " x :")
    (found,) = phc_lists(f"THE SOLUTIONS :\n3 2\n{RULE}\n{whole}{missing}{twice}")
    assert len(found) == 3
    assert np.isfinite(found.points).all(axis=1).tolist() == [True, False, False]
    assert not found.complete


def test_with_the_system_solutions_are_told_from_endpoints():
    solved = read_solutions(OUTPUT, "phc", CIRCLE)
    assert len(solved) == 0  # none of the numbers of OUTPUT is a solution
    assert solved.statistics == {"read": 4, "unreadable": 1, "rejected": 3, "singular": 0, "repeated": 0}
    solved = read_solutions(OUTPUT, "phc", PolynomialSystem(["x^2 + x - 2", "y + x + 1"], ["x", "y"]))
    assert solved.points.tolist() == [[-2, 1], [1, -2]]
    assert solved.completeness == "unknown"


def test_without_the_system_one_list_of_numbers_is_needed():
    with pytest.raises(PolynomialError, match="has 3 lists"):
        read_solutions(OUTPUT, "phc")
    ends = OUTPUT[OUTPUT.index("TIMING") : OUTPUT.rindex("THE SOLUTIONS")]
    with pytest.raises(PolynomialError, match="no numbers"):
        read_solutions(ends, "phc")


# -- round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["phc", "hc", "bertini"])
def test_solutions_survive_every_format_bit_for_bit(format):
    generator = np.random.default_rng(1)
    points = generator.normal(size=(7, 3)) * 10.0 ** generator.integers(-200, 200, size=(7, 3))
    before = Solutions(points + 1j * generator.normal(size=(7, 3)))
    text = write_solutions(before, ("a", "b", "c"), format)
    assert (read_solutions(text, format).points == before.points).all()
    empty = write_solutions(before.select(np.arange(0)), ("a", "b", "c"), format)
    assert len(read_solutions(empty, format)) == 0


@pytest.mark.parametrize("format", ["phc", "hc", "bertini"])
def test_an_answer_can_be_brought_back(format):
    text = write_solutions(TRUTH, CIRCLE.unknowns, format)
    assert read_solutions(text, format, CIRCLE).matches(TRUTH)


def test_what_julia_and_bertini_write_is_read():
    assert read_solutions("2\n\n1 0\n1.5 -2.0e-5\n\n-1 0\n2 0\n", "hc").points.tolist() == [
        [1, 1.5 - 2e-5j],
        [-1, 2],
    ]
    start = "1\n\n1.000000000000000e+00 0.000000000000000e+00;\n-2.0 3.0;\n"
    assert read_solutions(start, "bertini").points.tolist() == [[1, -2 + 3j]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("THE SOLUTIONS :", "line 1 should be the number"),
        ("2\n\n1 0\n", "declares 2 solutions and has 1"),
        ("1\n\n1 0\n2\n", "line 4"),
        ("1\n\nnan 0\n", "line 3"),
        ("2\n\n1 0\n2 0\n\n1 0\n", "different numbers of coordinates"),
    ],
)
def test_damaged_lists_of_numbers_are_refused(text, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        read_solutions(text, "bertini")


def test_coordinates_must_fit_the_unknowns():
    with pytest.raises(PolynomialError, match="3 coordinates"):
        read_solutions("1\n\n1 0\n1 0\n1 0\n", "hc", CIRCLE)
    with pytest.raises(PolynomialError, match="2 coordinates cannot be named"):
        write_solutions(TRUTH, ("x",), "hc")
    with pytest.raises(PolynomialError, match="unknown format 'maple'"):
        write_solutions(TRUTH, ("x", "y"), "maple")


SYSTEM = PolynomialSystem(
    ["(0.1 - 1e-5*I)*x^2*y + y^2 - 1", "x*y + I*x - 1e-30*y_2", "y_2^7 - 2.5e300*x"], ["x", "y", "y_2"]
)


@pytest.mark.parametrize("format", ["phc", "hc", "bertini"])
def test_systems_survive_every_format(format):
    back = read_system(SYSTEM.to_text(format), format)
    assert back.monomials == SYSTEM.monomials
    assert back.unknowns == SYSTEM.unknowns


@pytest.mark.parametrize("format", ["phc", "hc", "bertini"])
@pytest.mark.parametrize(
    ("equations", "unknowns"),
    [
        (["y - x^2", "x - 3"], ["x", "y"]),  # in another order than they occur
        (["b*a - 1", "2*b + c^2", "b - c"], ["c", "a", "b"]),
        (["x^2 - 1", "x - 1"], ["y", "x"]),  # one that does not occur at all
        (["-y^2 + I*x", "-x"], ["x", "y"]),
    ],
)
def test_the_order_of_the_unknowns_survives_every_format(equations, unknowns, format):
    system = PolynomialSystem(equations, unknowns)
    back = read_system(system.to_text(format), format)
    assert back.unknowns == system.unknowns
    assert back.monomials == system.monomials


def test_networks_survive_every_format():
    family = ls.models.DeepLinear(widths=(1, 2, 2)).family()
    system = family.system(family.sample(1, 0)[0])
    for format in ("phc", "hc", "bertini"):
        back = read_system(system.to_text(format), format)
        assert (back.unknowns, back.monomials) == (system.unknowns, system.monomials)


def test_a_name_that_julia_reads_as_a_number_is_refused():
    with pytest.raises(PolynomialError, match="'im'"):
        PolynomialSystem(["im^2 - 1"], ["im"]).to_text("hc")


def test_systems_as_people_write_them_are_read():
    phc = read_system("2 2\n x**2 + 3.0*y -\n 1; x*y - i*x\n + 2E-01; trailing words", "phc")
    assert phc.monomials == ({(2, 0): 1, (0, 1): 3, (0, 0): -1}, {(1, 1): 1, (1, 0): -1j, (0, 0): 0.2})
    bertini = read_system(
        "% a comment\nCONFIG\nTRACKTYPE: 0;\nEND;\nINPUT\nvariable_group x, y;\nfunction f, g;\nconstant c;\n"
        "c = 2*I; % of no importance\ns = x + c;\nf = s^2 - y;\ng = s*y - 1;\nEND;\n",
        "bertini",
    )
    assert bertini.monomials[1] == {(1, 1): 1, (0, 1): 2j, (0, 0): -1}
    julia = read_system("@var x y # two\nF = System([x^2 - im*y; y^2 - 1])\nsolve(F)", "hc")
    assert julia.monomials == ({(2, 0): 1, (0, 1): -1j}, {(0, 2): 1, (0, 0): -1})


@pytest.mark.parametrize(
    ("text", "format", "complaint"),
    [
        ("x^2 - 1;", "phc", "first line"),
        ("2\nx^2 - 1;", "phc", "2 polynomials are declared and 1"),
        ("INPUT\nhom_variable_group x;\nEND;", "bertini", "hom_variable_group"),
        ("INPUT\nvariable_group x;\nfunction f;\nEND;", "bertini", "no definition of f"),
        ("INPUT\nvariable_group x;\nEND;", "bertini", "no function"),
        ("@var x[1:3]\nF = System([x[1]])", "hc", "plain names"),
        ("@var x p\nF = System([x - p]; parameters = [p])", "hc", "parameters"),
        ("@var x", "hc", "no System"),
        ("1\nx;", "maple", "unknown format"),
    ],
)
def test_systems_that_cannot_be_read_are_refused(text, format, complaint):
    with pytest.raises(PolynomialError, match=complaint):
        read_system(text, format)


# -- damage -----------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
points = st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=5)


def whole(rows):
    solutions = Solutions(np.array([[a + 1j * b, c + 1j * d] for a, b, c, d in rows]))
    return solutions, write_solutions(solutions, ("x", "y"), "phc")


@settings(max_examples=200, deadline=None)
@given(points, st.floats(0, 1))
def test_of_a_truncated_list_exactly_the_whole_entries_are_read(rows, share):
    solutions, text = whole(rows)
    cut = text[: int(share * len(text))]
    found = phc_lists(cut)
    closed = sum(line.startswith("== err") and line.count("=") > 4 for line in cut.splitlines())
    assert sum(map(len, found)) <= closed + 1
    for each in found:
        assert each.points.tolist() == solutions.points[: len(each)].tolist()
        assert each.complete == (len(each) == len(solutions))
    if not found or not found[0].complete:
        with pytest.raises(PolynomialError):
            read_solutions(cut, "phc")


NOISE = st.text(
    alphabet=st.sampled_from("0123456789.eE+-: =*xytm\n\r\x0b\x00\t§solutin"), min_size=0, max_size=200
)


@settings(max_examples=200, deadline=None)
@given(points, st.lists(NOISE, min_size=3, max_size=3))
def test_noise_around_a_list_changes_nothing(rows, noise):
    solutions, text = whole(rows)
    found = phc_lists(f"{noise[0]}\n{text}\n{noise[1]}\n{text}{noise[2]}")
    mine = [each for each in found if len(each) == len(solutions) and each.declared == len(solutions)]
    assert len(mine) == 2
    assert all((each.points == solutions.points).all() for each in mine)


@settings(max_examples=300, deadline=None)
@given(points, st.data())
def test_a_damaged_text_never_crashes_and_never_counts_more(rows, data):
    _, text = whole(rows)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        until = data.draw(st.integers(at, min(len(text), at + 300)))
        text = text[:at] + data.draw(NOISE) + text[until:]
    found = phc_lists(text)
    for each in found:
        assert len(each) <= max(each.declared, 0)
        assert each.points.shape == (len(each), len(each.unknowns))
    for format in ("phc", "hc", "bertini"):
        try:
            assert len(read_solutions(text, format)) == (found[0].declared if format == "phc" else 0)
        except PolynomialError:
            continue


@settings(max_examples=200, deadline=None)
@given(NOISE, st.sampled_from(["phc", "hc", "bertini"]))
def test_no_text_crashes_the_reader_of_systems(text, format):
    wrapped = {
        "phc": f"1\n{text};",
        "hc": f"@var x y\nF = System([{text}])",
        "bertini": f"INPUT\nvariable_group x, y;\nfunction f;\nf = {text};\nEND;",
    }[format]
    with suppress(PolynomialError):
        read_system(wrapped, format)


def test_ten_megabytes_of_noise_are_read_through():
    generator = np.random.default_rng(0)
    letters = np.frombuffer(b"0123456789.E+-: =\n", dtype=np.uint8)
    noise = letters[generator.integers(0, len(letters), 5_000_000)].tobytes().decode()
    text = f"{noise}\n{write_solutions(TRUTH, ('x', 'y'), 'phc')}{noise}"
    began = time.perf_counter()
    solved = read_solutions(text, "phc", CIRCLE)
    assert time.perf_counter() - began < 60  # linear in its length: a second or two here
    assert solved.matches(TRUTH)
