"""Finds secrets in a text: whole, broken over lines, coloured, and cut off."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from engine.redaction.forms import SHORTEST, SecretForm

MASK = "***"

_WRAP = re.compile(r"(?:\r?\n|(?:\\r)?\\n)[ \t]*(?:[+-][ \t]+)?")
"""Where a long text is broken: a line's end with the next line's indentation, in a diff with its
mark; in JSON the end is escaped."""

_SHORTENED = 200
"""Characters that a text has at least if somebody shortened it without a sign."""

_REMEMBERED = 4096
"""Short texts of which it is known what is hidden of them."""

_CUT = re.compile(r"\.{3,}|…|\ufffd")
"""Where somebody left something out."""

_COLOUR = re.compile(r"(?:(?:\x1b|\\+(?:u001[bB]|x1[bB]|033|e))\[|\x9b)[0-9;:]*[A-Za-z]")
"""What colours a text or clears a line, between two characters of a secret: also as JSON."""

_URL = re.compile(r"(?::|%3a)(?:\\*/|%2f)", re.IGNORECASE)

_LEAST = 8
"""Characters of a beginning or an end that are recognised anywhere, if they are half of it."""

Extent = tuple[int, int]


class Search:
    """What a redactor knows at one moment, ready to search with."""

    def __init__(self, forms: Iterable[SecretForm], texts: Iterable[str]) -> None:
        self._known: dict[str, str] = {}
        self._all = re.compile(_pattern(sorted(forms)))
        self._overlapping: re.Pattern[str] | None = None  # made when there is something to hide
        self._texts = sorted(text for text in texts if len(text) > SHORTEST)
        self._halved = [
            (text[:half], text[-half:], text)
            for text in self._texts
            if _URL.search(text) is None  # of which half may be in every message
            and (half := max(_LEAST, (len(text) + 1) // 2)) < len(text)
        ]
        self._longest = max(map(len, self._texts), default=0)
        self._heads = _by_key(self._texts, lambda text: text[:SHORTEST])
        self._tails = _by_key(self._texts, lambda text: text[-SHORTEST:])
        self._head = re.compile(f"(?=({_any(self._heads)}))")
        self._tail = re.compile(f"(?=({_any(self._tails)}))")

    def mask(self, text: str) -> str:
        """`text` without secrets; what was looked at lately is remembered, since the keys and
        the words of results come again and again."""
        if len(text) > _SHORTENED:
            return self._masked(text)
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[text] = self._masked(text)
        return known

    def _masked(self, text: str) -> str:
        """`text` with every span that holds a secret, or a part of one, replaced."""
        spans = [*self._whole(text), *self._cut(text), *self._halves(text)]
        if "\n" in text or "\\n" in text:
            spans += self._folded(text, _WRAP)
        if _COLOUR.search(text) is not None:
            spans += self._folded(text, _COLOUR)
        if not spans:
            return text
        pieces: list[str] = []
        end = 0
        for start, stop in _joined(spans):
            pieces += [text[end:start], MASK]
            end = stop
        return "".join([*pieces, text[end:]])

    def _whole(self, text: str) -> Iterator[Extent]:
        """Also of secrets that overlap, or lie inside one another."""
        first = self._all.search(text)
        if first is None:
            return
        if self._overlapping is None:
            self._overlapping = re.compile(f"(?=({self._all.pattern}))")
        for match in self._overlapping.finditer(text, first.start()):
            yield match.span(1)

    def _folded(self, text: str, between: re.Pattern[str]) -> Iterator[Extent]:
        """Secrets that something stands in the middle of: a line's end, a colour."""
        breaks = [match.span() for match in between.finditer(text)]
        whole = between.sub("", text)
        starts, lost = [0], [0]
        for start, stop in breaks:
            starts.append(start - lost[-1])
            lost.append(lost[-1] + stop - start)
        for start, stop in (*self._whole(whole), *self._cut(whole, folded=True)):
            first = bisect.bisect_right(starts, start) - 1
            last = bisect.bisect_left(starts, stop) - 1
            if first != last:  # else it was found without that
                yield start + lost[first], stop + lost[last]

    def _halves(self, text: str) -> Iterator[Extent]:
        """Beginnings and ends that are at least half of a secret, wherever they stand."""
        for head, tail, secret in self._halved:
            place = text.find(head)
            while place >= 0:
                end = len(head)
                while end < len(secret) and text.startswith(secret[end], place + end):
                    end += 1
                yield place, place + end
                place = text.find(head, place + end)
            place = text.find(tail)
            while place >= 0:
                stop, start = place + len(tail), place
                left = len(secret) - len(tail)
                while left and start and text[start - 1] == secret[left - 1]:
                    left, start = left - 1, start - 1
                yield start, stop
                place = text.find(tail, stop)

    def _cut(self, text: str, *, folded: bool = False) -> Iterator[Extent]:
        """Beginnings of secrets where a text ends, ends where it begins, middles in between.

        A text ends and begins where something was left out of it. Its own beginning and end count
        only if it is long: nobody shortens a short text, and a word may well begin as a secret
        does. That does not go for a part that is `folded` over lines.
        """
        cuts = [match.span() for match in _CUT.finditer(text)]
        bounds = [(0, 0), *cuts, (len(text), len(text))]
        long = folded or len(text) >= _SHORTENED
        for number, ((_, start), (stop, _)) in enumerate(pairwise(bounds)):
            while start < stop and text[start].isspace():
                start += 1
            while start < stop and text[stop - 1].isspace():
                stop -= 1
            if stop - start < SHORTEST:
                continue
            if long or number < len(cuts):
                yield from self._cut_at_the_end(text, start, stop)
            if long or number:
                yield from self._cut_at_the_beginning(text, start, stop)
            if cuts and self._is_middle(text[start:stop]):
                yield start, stop

    def _cut_at_the_end(self, text: str, start: int, stop: int) -> Iterator[Extent]:
        for match in self._head.finditer(text, max(start, stop - self._longest), stop):
            part = text[match.start() : stop]
            if any(each.startswith(part) for each in self._heads.get(match[1], ())):
                yield match.start(), stop
                return

    def _cut_at_the_beginning(self, text: str, start: int, stop: int) -> Iterator[Extent]:
        reach = min(stop, start + self._longest)
        for match in reversed(list(self._tail.finditer(text, start, reach))):
            end = match.end(1)
            if any(each.endswith(text[start:end]) for each in self._tails.get(match[1], ())):
                yield start, end
                return

    def _is_middle(self, part: str) -> bool:
        return SHORTEST < len(part) < self._longest and any(part in each for each in self._texts)


def _by_key(texts: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(key(text), []).append(text)
    return groups


def _any(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts)) or "(?!)"


def _joined(spans: Iterable[Extent]) -> Iterator[Extent]:
    """Spans in order, those that overlap made one."""
    first, last = -1, -1
    for start, stop in sorted(spans):
        if start < last:
            last = max(last, stop)
            continue
        if last >= 0:
            yield first, last
        first, last = start, stop
    if last >= 0:
        yield first, last


def _pattern(forms: list[SecretForm], depth: int = 3) -> str:
    """An expression for any of the forms, the longest first; shared beginnings are tried once,
    so that it stays quick with many secrets."""
    if depth == 0 or len(forms) < 2:
        return "|".join("".join(form) for form in sorted(forms, key=len, reverse=True))
    groups: dict[str, list[SecretForm]] = {}
    for form in forms:
        groups.setdefault(form[0] if form else "", []).append(form[1:])
    branches = [
        f"{first}(?:{_pattern(rest, depth - 1)})" if first else "" for first, rest in groups.items()
    ]
    return "|".join(sorted(branches, key=bool, reverse=True))
