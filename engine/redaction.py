"""Hides secrets in everything that a run writes.

A `Redactor` is told each secret when it becomes known and from then on replaces it, and the
forms it takes on its way through other systems: base64, URL-encoded, JSON-escaped, quoted for a
shell. One compiled expression searches for all of them at once; as long as there is no secret,
nothing is searched at all.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Shorter values are not hidden: they would blank out half of every text."""


class Redactor:
    """Knows values and replaces them by ``***``. Any thread may use it."""

    def __init__(self, complain: Callable[[str], None] = lambda text: None) -> None:
        """`complain` is told, once, of a secret that is too short to be hidden."""
        self._complain = complain
        self._complained = False
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._forms: set[str] = set()
        self._compiled: re.Pattern[str] | None = None

    @property
    def active(self) -> bool:
        """Whether there is anything to hide."""
        return bool(self._forms)

    def add(self, value: str) -> None:
        """Hide `value` from now on, each line of it too if it has several (keys, certificates)."""
        lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
        with self._lock:
            if value in self._values:
                return
            self._values.add(value)
            new = {form for each in (value.strip(), *lines) for form in _forms(each)}
            if not new and value.strip():
                self._too_short()
            self._forms = self._forms | new
            self._compiled = None

    def mask(self, text: str) -> str:
        """`text` without secrets."""
        return self._search().sub(MASK, text) if self._forms else text

    def mask_value(self, value: Any) -> Any:
        """A JSON value without secrets in its texts and keys; the same object if none was
        found."""
        if not self._forms:
            return value
        return self._mask_value(value)

    def _search(self) -> re.Pattern[str]:
        """The expression for all forms, compiled when it is needed after a change."""
        found = self._compiled
        if found is None:
            with self._lock:
                found = self._compiled = re.compile(_pattern(sorted(self._forms)))
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

    def _too_short(self) -> None:
        if not self._complained:
            self._complained = True
            self._complain(
                f"a secret is shorter than {SHORTEST} characters and cannot be hidden in output"
            )


def _pattern(texts: list[str], depth: int = 3) -> str:
    """An expression for any of the texts, the longest first; shared beginnings are tried once,
    so that it stays quick with many secrets."""
    if depth == 0 or len(texts) < 2:
        return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text[:1], []).append(text[1:])
    branches = [
        f"{re.escape(first)}(?:{_pattern(rest, depth - 1)})" if first else ""
        for first, rest in groups.items()
    ]
    return "|".join(sorted(branches, key=bool, reverse=True))


def _forms(value: str) -> Iterator[str]:
    """The ways in which a secret may appear; none for one that is too short."""
    if len(value) < SHORTEST:
        return
    data = value.encode("utf-8", "surrogateescape")
    yield value
    yield from _base64_forms(data)
    yield quote(data, safe="")
    yield quote(data)
    yield quote_plus(data)
    yield quote(data, safe="").lower()
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1]
    if shlex.quote(value) != value:
        yield shlex.quote(value)
    yield repr(value)[1:-1]


def _base64_forms(data: bytes) -> Iterator[str]:
    """Base64 of the value alone, and of it inside a longer text, at each of the three offsets."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            text = encode(b"\0" * offset + data).decode()
            first = (offset * 8 + 5) // 6
            last = len(text.rstrip("="))
            if (offset + len(data)) % 3:
                last -= 1  # the last character also holds bits of what follows
            inner = text[first:last]
            if len(inner) >= SHORTEST + 2:
                yield inner
        yield encode(data).decode().rstrip("=")
