"""Hides secrets in everything that a run writes.

A `Redactor` is told each secret when it becomes known and from then on replaces it, and the
forms it takes on its way through other systems: base64 (at every alignment), hexadecimal,
URL-encoded, escaped for JSON, HTML, a shell or Python, wrapped over lines, and cut off where
somebody shortened a text. One compiled expression searches for all of them at once; as long as
there is no secret, nothing is searched at all.

A character that others escape is looked for in every spelling (`_spellings`), so that it does
not matter which of them a system chose to escape.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import contextlib
import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
SHORTEST = 4
"""Shorter values are not hidden: they would blank out half of every text."""

_WRAP = re.compile(r"(?:\r?\n|(?:\\r)?\\n)[ \t]*(?:[+-][ \t]+)?")
"""Where a long text is broken: a line's end with the next line's indentation, in a diff with its
mark; in JSON the end is escaped."""

_SHORTENED = 200
"""Characters that a text has at least if somebody shortened it without a sign."""

_CUT = re.compile(r"\.{3,}|…|\ufffd")
"""Where somebody left something out."""

Form = tuple[str, ...]
"""A secret in one form: an expression for each of its characters."""

Span = tuple[int, int]


class Redactor:
    """Knows values and replaces them by ``***``. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._forms: set[Form] = set()
        self._texts: set[str] = set()
        self._search: _Search | None = None

    @property
    def active(self) -> bool:
        """Whether there is anything to hide."""
        return bool(self._forms)

    def add(self, value: str) -> bool:
        """Hide `value` from now on, each line of it too if it has several (keys, certificates),
        the password inside a URL, and what it is base64 of.

        False if it is too short to be hidden.
        """
        with self._lock:
            if value in self._values:
                return True
            known = [each for each in _meant(value) if len(each) >= SHORTEST]
            if not known:
                return not value.strip()
            lines = [line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST]
            spelled = {*known, *lines}
            self._values |= {value, *spelled}
            self._forms = self._forms | {form for each in spelled for form in _forms(each)}
            self._texts = self._texts | {text for each in spelled for text in _texts(each)}
            self._search = None
            return True

    def mask(self, text: str) -> str:
        """`text` without secrets."""
        return self._searching().mask(text) if self._forms else text

    def mask_value(self, value: Any) -> Any:
        """A JSON value without secrets in its texts and keys; the same object if none was
        found."""
        if not self._forms:
            return value
        return self._mask_value(value)

    def _searching(self) -> _Search:
        """The search for all forms, made when it is needed after a change."""
        found = self._search
        if found is None:
            with self._lock:
                found = self._search = _Search(self._forms, self._texts)
        return found

    def _mask_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            masked = {self._mask_value(k): self._mask_value(v) for k, v in value.items()}
            same = len(masked) == len(value) and all(
                masked.get(k, MASK) is v for k, v in value.items()
            )
            return value if same else masked
        if isinstance(value, list | tuple):
            items = [self._mask_value(each) for each in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else items
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if str(value) in self._values else value
        return value


class _Search:
    """What a redactor knows at one moment, ready to search with."""

    def __init__(self, forms: Iterable[Form], texts: Iterable[str]) -> None:
        self._all = re.compile(_pattern(sorted(forms)))
        self._overlapping: re.Pattern[str] | None = None  # made when there is something to hide
        self._texts = sorted(text for text in texts if len(text) > SHORTEST)
        self._longest = max(map(len, self._texts), default=0)
        self._heads = _by_key(self._texts, lambda text: text[:SHORTEST])
        self._tails = _by_key(self._texts, lambda text: text[-SHORTEST:])
        self._head = re.compile(f"(?=({_any(self._heads)}))")
        self._tail = re.compile(f"(?=({_any(self._tails)}))")

    def mask(self, text: str) -> str:
        """`text` with every span that holds a secret, or a part of one, replaced."""
        spans = [*self._whole(text), *self._wrapped(text), *self._cut(text)]
        if not spans:
            return text
        made: list[str] = []
        end = 0
        for start, stop in _joined(spans):
            made += [text[end:start], MASK]
            end = stop
        return "".join([*made, text[end:]])

    def _whole(self, text: str) -> Iterator[Span]:
        """Also of secrets that overlap, or lie inside one another."""
        first = self._all.search(text)
        if first is None:
            return
        if self._overlapping is None:
            self._overlapping = re.compile(f"(?=({self._all.pattern}))")
        for found in self._overlapping.finditer(text, first.start()):
            yield found.span(1)

    def _wrapped(self, text: str) -> Iterator[Span]:
        """Secrets that are broken over lines."""
        if "\n" not in text and "\\n" not in text:
            return
        breaks = [found.span() for found in _WRAP.finditer(text)]
        whole = _WRAP.sub("", text)
        starts, lost = [0], [0]
        for start, stop in breaks:
            starts.append(start - lost[-1])
            lost.append(lost[-1] + stop - start)
        for start, stop in (*self._whole(whole), *self._cut(whole, folded=True)):
            first = bisect.bisect_right(starts, start) - 1
            last = bisect.bisect_left(starts, stop) - 1
            if first != last:  # else it was found without that
                yield start + lost[first], stop + lost[last]

    def _cut(self, text: str, *, folded: bool = False) -> Iterator[Span]:
        """Beginnings of secrets where a text ends, ends where it begins, middles in between.

        A text ends and begins where something was left out of it. Its own beginning and end count
        only if it is long: nobody shortens a short text, and a word may well begin as a secret
        does. That does not go for a part that is `folded` over lines.
        """
        cuts = [found.span() for found in _CUT.finditer(text)]
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

    def _cut_at_the_end(self, text: str, start: int, stop: int) -> Iterator[Span]:
        for found in self._head.finditer(text, max(start, stop - self._longest), stop):
            part = text[found.start() : stop]
            if any(each.startswith(part) for each in self._heads.get(found[1], ())):
                yield found.start(), stop
                return

    def _cut_at_the_beginning(self, text: str, start: int, stop: int) -> Iterator[Span]:
        reach = min(stop, start + self._longest)
        for found in reversed(list(self._tail.finditer(text, start, reach))):
            end = found.end(1)
            if any(each.endswith(text[start:end]) for each in self._tails.get(found[1], ())):
                yield start, end
                return

    def _is_middle(self, part: str) -> bool:
        return SHORTEST < len(part) < self._longest and any(part in each for each in self._texts)


def _by_key(texts: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(key(text), []).append(text)
    return found


def _any(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts)) or "(?!)"


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
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


def _pattern(forms: list[Form], depth: int = 3) -> str:
    """An expression for any of the forms, the longest first; shared beginnings are tried once,
    so that it stays quick with many secrets."""
    if depth == 0 or len(forms) < 2:
        return "|".join("".join(form) for form in sorted(forms, key=len, reverse=True))
    groups: dict[str, list[Form]] = {}
    for form in forms:
        groups.setdefault(form[0] if form else "", []).append(form[1:])
    branches = [
        f"{first}(?:{_pattern(rest, depth - 1)})" if first else "" for first, rest in groups.items()
    ]
    return "|".join(sorted(branches, key=bool, reverse=True))


# -- what a secret looks like ---------------------------------------------------------------------
def _meant(value: str) -> Iterator[str]:
    """What has to be hidden when `value` has to be: itself, and what it is made of."""
    whole = value.strip()
    yield whole
    if "://" in whole and "@" in whole:
        with contextlib.suppress(ValueError):
            yield unquote(urlsplit(whole).password or "")
    yield _decoded(whole)


def _decoded(value: str) -> str:
    """The text that `value` is base64 of; empty if it is none."""
    try:
        found = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return found.strip() if found.isprintable() else ""


def _forms(value: str) -> Iterator[Form]:
    """A value with each character in all its spellings, in base64 and in hexadecimal."""
    yield tuple(map(_spellings, value))
    if not value.isascii():
        import unicodedata

        for form in ("NFC", "NFD"):
            yield tuple(map(_spellings, unicodedata.normalize(form, value)))
    for text in _base64_texts(value):
        yield tuple(_IN_BASE64.get(character, character) for character in text)
    first, *others = (_hex(f"{byte:02x}") for byte in _bytes(value))
    yield (first, *(f"[ :-]?{byte}" for byte in others))


def _texts(value: str) -> Iterator[str]:
    """The forms of which also a part is recognised: those that are met most often."""
    data = _bytes(value)
    yield from _base64_texts(value)
    yield from (value, quote(data, safe=""), quote(data), quote_plus(data))
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _base64_texts(value: str) -> Iterator[str]:
    """Base64 of the value alone, and of it inside a longer text, at each of the three offsets."""
    data = _bytes(value)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            text = encode(b"\0" * offset + data).decode()
            first = (offset * 8 + 5) // 6
            last = len(text.rstrip("="))
            if (offset + len(data)) % 3:
                last -= 1  # the last character also holds bits of what follows
            inner = text[first:last]
            if len(inner) >= SHORTEST:
                yield inner
        yield encode(data).decode().rstrip("=")


@functools.lru_cache(maxsize=1024)
def _spellings(character: str) -> str:
    """An expression for a character however it may have been escaped on its way."""
    if character.isascii() and (character.isalnum() or character in "-_.~"):
        return re.escape(character)
    code = ord(character)
    found = [
        rf"\\*{re.escape(character)}",  # a shell's or JSON's backslash, or several levels of it
        *_MORE.get(character, ()),
        f"&#(?:0*{code}|[xX]0*{_hex(f'{code:x}')});",
        rf"\\+(?:u00|x|U000000){_hex(f'{code:02x}')}",
    ]
    data = _bytes(character)
    found.append("".join(f"%(?:25)*{_hex(f'{byte:02x}')}" for byte in data))
    if not character.isascii():
        found += _beyond_ascii(character, data)
    return f"(?:{'|'.join(found)})"


def _beyond_ascii(character: str, data: bytes) -> Iterator[str]:
    wide = character.encode("utf-16-be", "surrogatepass").hex()
    units = [wide[place : place + 4] for place in range(0, len(wide), 4)]
    yield "".join(rf"\\+u{_hex(unit)}" for unit in units)
    yield rf"\\+U{_hex(f'{ord(character):08x}')}"
    yield "".join(rf"\\+x{_hex(f'{byte:02x}')}" for byte in data)
    yield "".join(rf"\\+{byte:03o}" for byte in data)


_IN_BASE64 = {"+": r"(?:\+|%(?:25)*2[bB])", "/": r"(?:\\*/|%(?:25)*2[fF])"}
"""What is escaped of base64: in a query, or in the JSON of some."""

_MORE: dict[str, tuple[str, ...]] = {
    " ": (r"\+", r"\s+"),  # in a query; where a text was folded
    "\n": (r"\r?\n[ \t]*", r"(?:\\+r)?\\+n"),
    "&": ("&amp;",),
    "<": ("&lt;",),
    ">": ("&gt;",),
    "'": (r"'\\+''", "'\"'\"'", "''"),  # quoted for a shell; for SQL and YAML
    '"': ('""', "&quot;"),
    "\\": (r"\\+",),
    "\t": (r"\\+t",),
}


def _hex(digits: str) -> str:
    """Hexadecimal digits in either case."""
    return "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in digits)
