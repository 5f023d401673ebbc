"""Secrets are hidden in every form in which they may appear."""

from __future__ import annotations

import base64
import json
import shlex
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.redaction import MASK, Redactor


def redactor(*values: str) -> Redactor:
    made = Redactor()
    for value in values:
        made.add(value)
    return made


AWKWARD = "p@ss 'word\"/+ü\\"

FORMS: list[Callable[[str], str]] = [
    str,
    lambda value: base64.b64encode(value.encode()).decode(),
    lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    lambda value: base64.b64encode(b"user:" + value.encode()).decode(),
    lambda value: base64.b64encode(b"user1:" + value.encode() + b"tail").decode(),
    lambda value: base64.b64encode(b"user12:" + value.encode() + b"x").decode(),
    lambda value: urllib.parse.quote(value),
    lambda value: urllib.parse.quote(value, safe=""),
    lambda value: urllib.parse.quote_plus(value),
    lambda value: urllib.parse.urlencode({"q": value}),
    lambda value: json.dumps(value),
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: shlex.quote(value),
    repr,
]


@pytest.mark.parametrize("value", ["hunter2", AWKWARD, "a" * 50, "päß wörd"])
@pytest.mark.parametrize("form", range(len(FORMS)))
def test_a_secret_is_hidden_in_this_form(value: str, form: int) -> None:
    text = FORMS[form](value)
    assert MASK in redactor(value).mask(f"before {text} after")


@given(st.text(min_size=4, max_size=20).filter(lambda text: len(text.strip()) >= 4), st.text())
def test_what_is_masked_does_not_hold_the_secret(value: str, around: str) -> None:
    text = f"{around}{value}{around}"
    masked = redactor(value).mask(text).replace(MASK, "\0")
    assert value.strip() not in masked


def test_longer_secrets_are_hidden_before_shorter_ones_inside_them() -> None:
    assert redactor("secret", "secretive").mask("secretive secret") == f"{MASK} {MASK}"


def test_every_line_of_a_long_secret_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEabcdef\nqwertzuiop\n-----END KEY-----\n"
    assert redactor(key).mask("it said qwertzuiop") == f"it said {MASK}"


def test_json_values_are_masked_inside() -> None:
    found = redactor("hunter2", "98765")
    value = {"a": ["x hunter2", 98765, 5, True, None], "hunter2": {"b": 1.5}}
    assert found.mask_value(value) == {"a": [f"x {MASK}", MASK, 5, True, None], MASK: {"b": 1.5}}


def test_values_without_secrets_are_passed_on_as_they_are() -> None:
    value = {"a": [1, {"b": "c"}], "d": True}
    assert redactor("hunter2").mask_value(value) is value
    assert redactor().mask_value(value) is value


def test_without_secrets_nothing_is_done() -> None:
    assert not redactor().active
    text = "x" * 10
    assert redactor().mask(text) is text


def test_a_secret_too_short_to_hide_is_told_once() -> None:
    told: list[str] = []
    found = Redactor(told.append)
    for value in ("abc", "xy", "", "  "):
        found.add(value)
    assert told == ["a secret is shorter than 4 characters and cannot be hidden in output"]
    assert found.mask("abc") == "abc"


def test_many_secrets_and_much_text() -> None:
    found = redactor(*(f"secret-number-{n}" for n in range(200)))
    text = "nothing to see here, " * 20_000
    assert found.mask(text) == text
