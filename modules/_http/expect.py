"""What an HTTP answer must be like for `http-check`, and what of it does not hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from engine.module_api import (
    Check,
    Context,
    Expression,
    Failed,
    Refused,
    read_milliseconds,
    read_percent,
    regex,
)
from modules._http.response import Response, StatusText, fits, valid_status


def _valid_pattern(text: str) -> None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Refused(f"/{text}/ is not a pattern: {error}") from None


def _is_found(pattern: str, text: str) -> bool:
    """Whether a pattern is found; Refused if it takes too long."""
    try:
        return regex.search(pattern, text) is not None
    except ValueError as error:
        raise Refused(str(error), hint="make it simpler, such as without (a+)+") from None


Pattern = Annotated[str, Check(_valid_pattern)]
"""A regular expression."""

Milliseconds = Annotated[Any, Check(read_milliseconds)]
"""A time with its unit: ``500ms``."""


class Bounds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Upper bounds of the time until an answer was read, each with its unit: ``500ms``."""

    p50: Milliseconds | None = None
    p95: Milliseconds | None = None
    p99: Milliseconds | None = None
    max: Milliseconds | None = None

    def given(self) -> dict[str, Any]:
        """The bounds that are set."""
        fields = msgspec.structs.asdict(self)
        return {name: bound for name, bound in fields.items() if bound is not None}


class Expect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an answer, or a number of them, must be like."""

    status: StatusText | list[StatusText] = "2xx"
    """A status, a class such as ``2xx``, or several of them."""
    headers: dict[str, Any] = {}
    """A header's name and its value, or ``/…/``, a pattern to be found in it."""
    json: dict[Expression, Any] | list[Expression] | Expression = {}
    """Expressions over the document, each with its value; or expressions that must be true.
    In scope: ``json``, and its top-level keys by their names."""
    text: str | list[str] = []
    """What the body must contain."""
    regex: Pattern = ""
    """A pattern that must be found in the body."""
    latency: Bounds = msgspec.field(default_factory=Bounds)
    """Upper bounds of percentiles, such as ``p95: 500ms``."""
    error_rate: Annotated[float | str, Check(read_percent)] | None = None
    """Share of samples in percent that may fail; default: none may."""
    tls_days: float | None = None
    """Days that the server's certificate, and those it depends on, must still be good for."""

    def patterns(self) -> list[str]:
        """The regular expressions among them."""
        headers = filter(None, map(_pattern, self.headers.values()))
        return [*filter(None, [self.regex]), *headers]


def expectations(expect: Expect | Mapping[str, Any] | None) -> Expect:
    """The expectations, checked as far as they can be before anything is sent."""
    try:
        expected = expect if isinstance(expect, Expect) else msgspec.convert(expect or {}, Expect)
    except msgspec.ValidationError as error:
        raise Refused(f"`expect` is not right: {error}") from None
    for status in listed(expected.status):
        valid_status(status)
    for bound in expected.latency.given().values():
        read_milliseconds(bound)
    for pattern in expected.patterns():
        _valid_pattern(pattern)
    if expected.error_rate is not None:
        read_percent(expected.error_rate)
    return expected


def listed(value: Any) -> list[Any]:
    """One value, or several, as a list."""
    return list(value) if isinstance(value, list) else [value]


def unmet(ctx: Context, expected: Expect, answer: Response) -> list[str]:
    """What is expected of every answer and does not hold for this one."""
    reasons = []
    if not any(fits(answer.status, status) for status in listed(expected.status)):
        statuses = " or ".join(str(status) for status in listed(expected.status))
        elsewhere = answer.headers.get("location") if answer.is_redirect else None
        leads = f", which leads to {elsewhere[:300]}" if elsewhere else ""
        reasons.append(f"expected status {statuses}, got {answer.status}{leads}")
    for name, value in expected.headers.items():
        reasons += _header(name, str(value), answer.headers.get(name.lower()))
    for part in listed(expected.text):
        if part not in answer.text:
            reasons.append(f"expected the body to contain {part!r}")
    if expected.regex and not _is_found(expected.regex, answer.text):
        reasons.append(f"expected the body to match /{expected.regex}/")
    if expected.json:
        reasons += _json(ctx, expected.json, answer)
    return reasons


def _header(name: str, expected: str, value: str | None) -> list[str]:
    if value is None:
        return [f"expected header {name}, got none"]
    pattern = _pattern(expected)
    fits_it = value == expected if pattern is None else _is_found(pattern, value)
    return [] if fits_it else [f"expected header {name} to be {expected}, got {value}"]


def _pattern(expected: Any) -> str | None:
    """What stands between the slashes of ``/…/``; None for a plain value."""
    text = str(expected)
    return text[1:-1] if len(text) > 1 and text.startswith("/") and text.endswith("/") else None


def _json(ctx: Context, expected: dict[str, Any] | list[str] | str, answer: Response) -> list[str]:
    try:
        document = answer.json()
    except Failed as error:
        kind, why = (
            answer.headers.get("content-type", "no type"),
            error.message.partition("JSON: ")[2],
        )
        return [f"expected a JSON document, got {kind}{f': {why}' if why else ''}"]
    names = {**document} if isinstance(document, dict) else {}
    names = {name: value for name, value in names.items() if str(name).isidentifier()}
    names["json"] = document
    pairs = expected if isinstance(expected, dict) else dict.fromkeys(listed(expected), True)
    reasons = []
    for expression, value in pairs.items():
        try:
            result = ctx.evaluate(expression, **names)
        except Exception as error:  # undefined: the document has no such place
            reasons.append(f"expected {expression}, but {error}")
            continue
        if not isinstance(expected, dict):
            reasons += [] if result else [f"expected {expression}, which is {_short(result)}"]
        elif result != value or isinstance(result, bool) != isinstance(value, bool):
            reasons.append(f"expected {expression} to be {value!r}, got {_short(result)}")
    return reasons


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
