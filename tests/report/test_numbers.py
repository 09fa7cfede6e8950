"""Numbers as people read them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.report.numbers import duration, name_of, number, with_error


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-7, "−7"),
        (12345, "12\N{NARROW NO-BREAK SPACE}345"),
        (0.0, "0"),
        (1.0, "1.000"),
        (0.123456, "0.1235"),
        (-1234.5678, "−1235"),
        (0.00012346, "0.0001235"),
        (1.2346e-7, "1.235×10⁻⁷"),
        (-1.2346e12, "−1.235×10¹²"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (True, "yes"),
        (9.9999e-5, "0.0001000"),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (39.64, 1.23, "39.6 ± 1.2"),
        (-0.5123, 0.0421, "−0.512 ± 0.042"),
        (100.0, 25.0, "100 ± 25"),
        (1.41325852, 2.8e-6, "1.4133"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (2.5e-9, 1.3e-10, "2.50×10⁻⁹ ± 1.3×10⁻¹⁰"),
        (1.0, 0.0, "1.000"),
        (1.0, math.nan, "1.000"),
        (math.nan, 1.0, "NaN"),
    ],
)
def test_errors_have_two_digits_and_values_end_where_they_do(value, error, text):
    assert with_error(value, error) == text


@settings(deadline=None)
@given(st.floats(-1e307, 1e307))
def test_what_is_printed_is_the_number_to_four_digits(value):
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", "\N{NARROW NO-BREAK SPACE}")
    back = float(number(value).replace("×10", "e").translate(digits))
    assert back == pytest.approx(value, rel=6e-4)


@settings(deadline=None)
@given(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300))
def test_any_value_with_any_error_can_be_printed(value, error):
    assert with_error(value, error)


def test_columns_have_names():
    assert name_of("loss_test") == "Loss (test)"
    assert name_of("hessian_eigenvalue_12") == "Hessian eigenvalue λ₁₂"
    assert name_of("gradient_hessian_overlap_3") == "Gradient in the first eigenvectors, i = 3"
    assert name_of("covariance_along_hessian_3") == "Gradient noise along the Hessian's eigenvector v₃"
    assert name_of("my_own_quantity_2") == "My own quantity 2"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("2020-01-01T00:00:59Z", "59 s"),
        ("2020-01-01T00:03:04Z", "3 min 4 s"),
        ("2020-01-02T01:30:00Z", "25 h 30 min"),
        (None, None),
    ],
)
def test_durations_are_in_words(end, words):
    assert duration("2020-01-01T00:00:00Z", end) == words
