"""Quantities: what people write means the same everywhere, and is told with digits they read."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Refused
from engine.units import (
    count,
    figure,
    format_duration,
    format_milliseconds,
    parse_duration,
    read_milliseconds,
    read_percent,
    took,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("2d", 172800),
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        ("0", 0),
        ("5x", None),
        ("", None),
        ("m", None),
        ("-5s", None),
        (-5, None),
        (True, None),
        (None, None),
        ("1e3", None),
        ("99999d", None),
        (float("nan"), None),
        (float("inf"), None),
        ("9" * 1000 + "s", None),
    ],
)
def test_a_duration_is(written: object, seconds: float | None) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (5400, "1h30m"), (1.5, "1.5s"), (86400, "1d")],
)
def test_a_duration_is_written(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


@given(st.integers(0, 10**9))
def test_a_written_duration_means_what_it_was(milliseconds: int) -> None:
    seconds = parse_duration(format_duration(milliseconds / 1000))
    assert seconds is not None
    assert abs(seconds - milliseconds / 1000) < 0.001


def test_one_is_singular() -> None:
    assert [count(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert count(20_000, "ingress", "ingresses") == "20,000 ingresses"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (0.18, "0.18"),
        (5391.61, "5391.61"),
        (12_345_678.0, "12345678"),
        (61.0, "61"),
        (0.0000123, "0.0000123"),
        (float("inf"), "+Inf"),
        (-sys.float_info.max, "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_a_figure_has_no_exponent(value: float, said: str) -> None:
    assert figure(value) == said


def test_a_figure_with_few_digits_has_no_exponent_either() -> None:
    assert [figure(value, digits=4) for value in (12345.6, 0.123456)] == ["12346", "0.1235"]


def test_milliseconds_have_the_digits_that_matter() -> None:
    said = [format_milliseconds(value) for value in (0.4217, 36.886, 166.949, 1728.83)]
    assert said == ["0.422 ms", "36.9 ms", "167 ms", "1729 ms"]


def test_a_measured_time_has_the_precision_that_people_care_for() -> None:
    assert [took(s) for s in (0.04, 2.34, 65, 3700)] == ["0.04s", "2.3s", "1m05s", "1h01m40s"]


def test_a_bound_of_an_answer_has_its_unit() -> None:
    assert [read_milliseconds(text) for text in ("500ms", "1.5 s")] == [500, 1500]
    for wrong in (500, "500", "fast", "5x"):
        with pytest.raises(Refused):
            read_milliseconds(wrong)


def test_a_percentage_is_written_with_its_sign_or_without() -> None:
    assert [read_percent(value) for value in (0.1, "0.1", "0.1 %", "5%")] == [0.1, 0.1, 0.1, 5]
    for wrong in ("many", "", True, "nan", "1e400"):
        with pytest.raises(Refused):
            read_percent(wrong)
