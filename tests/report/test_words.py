"""Texts, times and columns."""

from __future__ import annotations

import pytest

from engine.report.words import (
    Span,
    cut,
    line,
    listed,
    one_line,
    pad,
    planned,
    table,
    text_of,
    value_text,
    width,
)
from engine.units import count, took


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00s"),
        (0.042, "0.04s"),
        (0.1, "0.1s"),
        (2.34, "2.3s"),
        (59.94, "59.9s"),
        (60, "1m00s"),
        (65.4, "1m05s"),
        (3725, "1h02m05s"),
        (90000, "1d01h"),
        (-1, "0.00s"),
    ],
)
def test_measured_times(seconds: float, text: str) -> None:
    assert took(seconds) == text


def test_planned_times() -> None:
    assert (planned(None), planned(90), planned(7200)) == ("-", "1m30s", "2h")


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("部署完成", 8, "部署完成"),
        ("部署完成", 7, "部署完…"),
        ("部署完成", 6, "部署…"),
        ("abc", 0, ""),
    ],
)
def test_cutting_counts_columns_not_characters(text: str, columns: int, shown: str) -> None:
    assert cut(text, columns) == shown
    assert width(cut(text, columns)) <= columns


def test_padding_counts_columns() -> None:
    assert pad("部署", 6) == "部署  "
    assert width("e\N{COMBINING ACUTE ACCENT}") == 1


def test_tables_are_aligned_whatever_the_script() -> None:
    assert table([("A", "B"), ("部署", "x"), ("abcde", "y")]) == [
        "A      B",
        "部署   x",
        "abcde  y",
    ]
    assert table([("A", "B")]) == []


def test_small_words() -> None:
    assert (count(1, "step"), count(1234, "step")) == ("1 step", "1,234 steps")
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefghij"), 4) == "a, b, c and 7 more"
    assert one_line("first\nsecond") == "first …"
    assert (value_text(0.123456), value_text(3), value_text("x")) == ("0.1235", "3", "x")
    assert text_of(line("a ", Span("b", "bad"), "  ")) == "a b"
