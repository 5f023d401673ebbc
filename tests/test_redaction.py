"""Secrets are hidden in every form in which they may appear."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import unicodedata
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRunbook
from engine.loader import load_inventory
from engine.redaction import MASK, Redactor
from engine.redaction.written import hide_written, literal_secrets
from engine.registry import Registry


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
    lambda value: repr(value.encode()),
    ascii,
    html.escape,
    lambda value: html.escape(html.escape(value, quote=False)) if "&" not in value else value,
    lambda value: value.encode().hex(),
    lambda value: value.encode().hex().upper(),
    lambda value: re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(value, "")),
    lambda value: urllib.parse.quote(urllib.parse.quote(value, ""), ""),
    lambda value: urllib.parse.quote(value, safe="!'()*"),
    lambda value: urllib.parse.quote(base64.b64encode(b"x" + value.encode()).decode(), ""),
    lambda value: json.dumps(json.dumps({"key": value})),
    lambda value: json.dumps(value).replace("/", "\\/"),
    lambda value: json.dumps(value).replace("'", "\\u0027").replace("+", "\\u002B"),
    lambda value: value.replace("'", "''"),
    lambda value: '"' + re.sub(r"([\"\\$`])", r"\\\1", value) + '"',
    lambda value: unicodedata.normalize("NFD", value),
    lambda value: "\n".join(re.findall(r"\S{1,3}\s?", value)),
    lambda value: value.replace(" ", "\n  "),
    lambda value: "\r\n    ".join(re.findall(".{1,4}", base64.b64encode(value.encode()).decode())),
    lambda value: json.dumps("\n".join(re.findall(".{1,4}", value.encode().hex()))),
]


@pytest.mark.parametrize("value", ["hunter2", AWKWARD, "a" * 50, "päß wörd"])
@pytest.mark.parametrize("form", range(len(FORMS)))
def test_a_secret_is_hidden_in_this_form(value: str, form: int) -> None:
    text = FORMS[form](value)
    masked = redactor(value).mask(f"before {text} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    shown = masked.removeprefix("before ").removesuffix(" after")
    assert shown.count(MASK) == 1
    # Around it there may be quotes, a key, or what stood before and after it in base64.
    assert not pieces(value) & pieces(shown.replace(MASK, " "))


def pieces(text: str) -> set[str]:
    """Every four characters in a row."""
    return {text[place : place + 4] for place in range(len(text) - 3)}


@settings(deadline=None)
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


def test_a_secret_too_short_to_hide_is_told() -> None:
    found = Redactor()
    assert [found.add(value) for value in ("abc", " xy ", "7", "", "  ", "abcd")] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    assert found.mask("abc") == "abc"
    assert found.mask_value({"replicas": 7}) == {"replicas": 7}


def test_secrets_that_overlap_are_hidden_whole() -> None:
    found = redactor("abcdefgh", "efghijkl")
    assert found.mask("<abcdefghijkl>") == f"<{MASK}>"


@pytest.mark.parametrize(
    "text",
    [
        "`curl -H 'Authorization: hunter-of-th... ended with exit status 22",
        "...st-password') ^",
        f"{'x ' * 100}expected header x to be hunter-of-the-lost-pas",
        f"lost-password and so on{' x' * 100}",
        "LINE 1: ...ter-of-the-lost-passw...",
        "it said hunter-of-th\n... 512 bytes left out ...\nlost-password again",
        "aHVudGVyLW9mLXRoZS1sb3…",
    ],
)
def test_what_is_left_of_a_secret_that_was_cut_is_hidden(text: str) -> None:
    masked = redactor("hunter-of-the-lost-password").mask(text)
    assert MASK in masked
    for part in ("hunter", "lost-pass", "aHVud", "ter-of"):
        assert part not in masked


@settings(deadline=None)
@given(st.integers(1, 25), st.text(alphabet="xyz .\n", max_size=30))
def test_a_stream_cut_in_the_middle_of_a_secret(place: int, around: str) -> None:
    secret = "hunter-of-the-lost-password"
    found = redactor(secret)
    text = f"{'around ' * 30}{around}>{secret}<{around}{' around' * 30}"
    cut = text.index(secret) + place
    shown = found.mask(text[:cut]) + found.mask(text[cut:])
    assert not pieces(secret) & pieces(shown)


def test_a_text_that_only_resembles_a_secret_stays() -> None:
    found = redactor("hunter-of-the-lost-password")
    for text in ("password is the word", "a hunter", "the password is lost", "...", "…", ""):
        assert found.mask(text) is text
    for text in ("hunters of the lost ark", "a hunter..."):
        masked = found.mask(text)
        assert masked in (text, "a ***...")


def test_the_password_of_a_url_is_hidden_by_itself() -> None:
    found = redactor("postgresql://me:p%40ssw0rd@db/x")
    assert found.mask("password=p@ssw0rd") == f"password={MASK}"


def test_what_a_secret_is_base64_of_is_hidden_too() -> None:
    found = redactor(base64.b64encode(b"hunter-two").decode())
    assert found.mask("it is hunter-two") == f"it is {MASK}"


def test_many_secrets_and_much_text() -> None:
    found = redactor(*(f"secret-number-{n}" for n in range(200)))
    text = "nothing to see here, " * 20_000
    assert found.mask(text) == text


HOOK = "https://hooks.slack.com/services/T024BE7LH/B01ABCDEFGH/x9Kq2LmZ8vTn4RsWc7YpQa1b"


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        (HOOK, "POST /services/T024BE7LH/B01ABCDEFGH/x9Kq2LmZ8vTn4RsWc7YpQa1b 404", "POST *** 404"),
        (HOOK, "no hook x9Kq2LmZ8vTn4RsWc7YpQa1b", "no hook ***"),
        ("https://x9Kq2LmZ8vTn4RsWc7@git/r", "user x9Kq2LmZ8vTn4RsWc7", "user ***"),
        ("https://h/in?key=x9Kq2LmZ8vTn4RsWc7", "key x9Kq2LmZ8vTn4RsWc7", "key ***"),
        ("correct-horse-battery", "it is correct-horse and more", "it is *** and more"),
        ("correct-horse-battery", "ends with rse-battery, it says", "ends with ***, it says"),
        (
            "correct-horse-battery",
            "\x1b[31mcorrect-\x1b[1;32mhorse-battery\x1b[0m",
            "\x1b[31m***\x1b[0m",
        ),
        ("correct-horse-battery", '"correct-\\u001b[01;31mhorse\\u001b[m-battery"', '"***"'),
    ],
)
def test_a_secret_is_hidden_as_others_tell_it(secret: str, text: str, shown: str) -> None:
    assert redactor(secret).mask(text) == shown


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("around", ["", '{"auths":{"r":{"auth":"', "xy"])
def test_a_secret_is_hidden_twice_in_base64(before: str, around: str) -> None:
    inner = base64.b64encode((before + "correct-horse-battery").encode()).decode()
    outer = base64.b64encode((around + inner + around).encode()).decode()
    assert MASK in redactor("correct-horse-battery").mask(f"auth {outer} end")


def test_the_word_of_a_path_is_no_secret() -> None:
    found = redactor("https://example.com/api/v1/notifications")
    assert found.mask("GET /api/v1/notifications") == "GET /api/v1/notifications"


def test_what_is_written_below_the_key_of_a_secret_is_one() -> None:
    inventory = {
        "db": {"password": "hunter2!", "user": "ada", "dsn": "postgresql://u:p%40ss@db/x"},
        "hosts": [{"ansible_ssh_pass": "tiger"}, {"api_token": "{{ secret('t') }}"}],
        "tokens": "many",
        "token": "canary",
    }
    assert set(literal_secrets(inventory)) == {"hunter2!", "p@ss", "tiger"}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  password: hunter2!", "  password: ***"),
        ("{user: ada, api_key: 'a b c d', x: 1}", "{user: ada, api_key: ***, x: 1}"),
        ("dsn: postgresql://u:hunter2@db/x", "dsn: postgresql://u:***@db/x"),
        ('"client_secret": "abcdef"', '"client_secret": ***'),
        ("password: \"{{ secret('db') }}\"", "password: \"{{ secret('db') }}\""),
        ("compass: north, pass_if: value", "compass: north, pass_if: value"),
        ("run: tool --password=hunter2 x", "run: tool --password=*** x"),
    ],
)
def test_a_source_line_is_shown_without_what_is_secret_in_it(line: str, shown: str) -> None:
    assert hide_written(line) == (shown,)


@pytest.mark.parametrize(
    "written",
    [
        "secrets:\n  slack: literal-value",
        "secrets:\n  # where\n  slack:\n    value: literal-value\nname: x",
        "secrets: {slack: {env: X, value: literal-value}}",
        "secrets: literal-value",
        "secrets:\n  slack: [literal-value]",
        "secrets:\n  slack: literal-value: x",  # no YAML at all
    ],
)
def test_a_problem_in_the_secrets_of_an_inventory_repeats_no_value(
    tmp_path: Path, written: str
) -> None:
    (tmp_path / "inv.yml").write_text(f"{written}\n")
    with pytest.raises(InvalidRunbook) as caught:
        load_inventory(tmp_path / "inv.yml", registry=Registry())
    assert "literal-value" not in "".join(f"{one}{one.source}" for one in caught.value.problems)
