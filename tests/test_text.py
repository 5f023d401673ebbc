"""Yes and no, names of this machine, and the nearest name."""

from __future__ import annotations

import pytest

from engine.text import DEEPEST, as_json, did_you_mean, nearest, parse_boolean, quoted_list


def test_yes_and_no() -> None:
    assert [parse_boolean(each) for each in ("yes", "ON", " true ", 1)] == [True] * 4
    assert [parse_boolean(each) for each in ("no", "Off", "false", 0)] == [False] * 4
    assert [parse_boolean(each) for each in ("maybe", 2, None, "", 1.0)] == [None] * 5


def test_the_nearest_name() -> None:
    names = ["backup", "restore", "http-check"]
    assert nearest("bakup", names) == "backup"
    assert nearest("http_chek", names) == "http-check"
    assert nearest("BACKUP", names) == "backup"
    assert nearest("xyz", names) is None
    assert did_you_mean("xyz", names) == "known are: backup, restore, http-check"
    assert did_you_mean("xyz", []) == ""


def test_the_nearest_of_very_many_names_is_found_in_reasonable_time() -> None:
    names = [f"step-{n}" for n in range(100_000)]
    assert nearest("step-77", names) == "step-77"


def test_a_list_in_words() -> None:
    assert [quoted_list("abc"[:n]) for n in (1, 2, 3)] == ["'a'", "'a' and 'b'", "'a', 'b' and 'c'"]


class Speechless:
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), None),
        (Speechless(), "<Speechless>"),
        ({1: (2, float("-inf"))}, {"1": [2, None]}),
        ("half \udc80", "half \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ([{"a"}, object], [["a"], "<class 'object'>"]),
        ([True, 10**40, None], [True, 10**40, None]),
    ],
)
def test_any_value_can_be_written(value: object, written: object) -> None:
    assert as_json(value) == written


def test_what_lies_too_deep_is_left_out() -> None:
    value: list[object] = []
    for _ in range(5000):
        value = [value]
    assert str(as_json(value)).count("[") == DEEPEST
