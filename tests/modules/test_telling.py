"""Numbers in messages: plurals, and digits that people read."""

from __future__ import annotations

import pytest

from modules._shared.telling import count, figure, lasting, milliseconds


def test_one_is_singular() -> None:
    assert [count(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert count(2, "ingress", "ingresses") == "2 ingresses"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (0.18, "0.18"), (5391.61, "5391.61"), (12_345_678.0, "12345678"), (61.0, "61")],
)
def test_a_figure_has_no_exponent(value: float, said: str) -> None:
    assert figure(value) == said


def test_milliseconds_have_the_digits_that_matter() -> None:
    said = [milliseconds(value) for value in (0.4217, 36.886, 166.949, 1728.83)]
    assert said == ["0.422 ms", "36.9 ms", "167 ms", "1729 ms"]


def test_a_length_of_time_is_said_in_its_units() -> None:
    assert [lasting(seconds) for seconds in (7.95, 90, 5400)] == ["7.95s", "1m30s", "1h30m"]
