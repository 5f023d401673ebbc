"""The part of Prometheus' query language that the lab's monitoring understands.

An instant vector selector: a metric's name and label matchers, nothing more. What is beyond that
is refused as Prometheus refuses what it cannot parse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec


class QueryError(Exception):
    """The query cannot be understood; the message is in Prometheus' form."""


@dataclass(frozen=True)
class Matcher:
    """One condition on a label."""

    label: str
    operator: str
    value: str

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it is met; a label that is absent counts as empty."""
        return _OPERATORS[self.operator](labels.get(self.label, ""), self.value)


@dataclass(frozen=True)
class Selector:
    """A metric's name and conditions on its labels."""

    name: str
    matchers: tuple[Matcher, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is selected."""
        return all(matcher.holds(labels) for matcher in self.matchers)


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda actual, value: actual == value,
    "!=": lambda actual, value: actual != value,
    "=~": lambda actual, value: re.fullmatch(value, actual) is not None,
    "!~": lambda actual, value: re.fullmatch(value, actual) is None,
}
_NAME = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*")
_MATCHER = re.compile(r"""\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|'[^'\\]*')\s*""")


def parse(query: str) -> Selector:
    """Understand a query. Raises QueryError."""
    if not query.strip():
        raise QueryError("unknown position: parse error: no expression found in input")
    name = _NAME.match(query)
    if name is None:
        raise QueryError(_unexpected(query, 0))
    place, matchers = name.end(), []
    if query[place : place + 1] == "{":
        place += 1
        while query[place : place + 1] != "}":
            match = _MATCHER.match(query, place)
            if match is None:
                raise QueryError(_unexpected(query, place))
            matchers.append(_matcher(match, place))
            place = match.end()
            if query[place : place + 1] == ",":
                place += 1
            elif query[place : place + 1] != "}":
                raise QueryError(_unexpected(query, place))
        place += 1
    if query[place:].strip():
        raise QueryError(_unexpected(query, place))
    return Selector(name[1], tuple(matchers))


def _matcher(match: re.Match[str], place: int) -> Matcher:
    text = match[3]
    value = msgspec.json.decode(text, type=str) if text[0] == '"' else text[1:-1]
    if match[2] in ("=~", "!~"):
        try:
            re.compile(value)
        except re.error as error:
            raise QueryError(f"1:{place + 1}: parse error: {error}") from error
    return Matcher(match[1], match[2], value)


def _unexpected(query: str, place: int) -> str:
    rest = query[place:].lstrip()
    what = f"unexpected character: {rest[0]!r}" if rest else "unexpected end of input"
    return f"1:{place + 1}: parse error: {what}"
