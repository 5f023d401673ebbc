"""Secrets that somebody wrote where none belong: literally in an inventory or a runbook.

A key tells what its value is: ``password``, ``api_token``; a URL tells its password by its place.
Such a value is hidden as one of the inventory's `secrets` would be, also in the source line that a
problem shows before anything is known of secrets.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from engine.redaction.forms import SHORTEST
from engine.redaction.search import MASK

_KEY = (
    r"(?:[\w-]*[_-])?"
    r"(?:password|passwd|passphrase|pass|pwd|secret|token|api_?key|access_?key|private_?key)"
)
_SECRET_KEY = re.compile(_KEY, re.IGNORECASE)
_TEMPLATE = ("{{", "{%", "!")
_WRITTEN = re.compile(
    rf"""(?P<key>(?<![\w-])["']?{_KEY}["']?\s*[:=]\s*)(?P<value>"[^"]*"?|'[^']*'?|[^\s,}}\]#]+)""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(?P<key>\w+://[^\s:/@]*:)(?P<value>[^\s/@{]+)(?=@)")


def literal_secrets(value: Any, key: str = "") -> Iterator[str]:
    """Values below keys that name a secret, and the passwords of URLs, in nested data."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from literal_secrets(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from literal_secrets(inner, key)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
        if any(mark in text for mark in _TEMPLATE[:2]) or len(text) < SHORTEST:
            return
        if _SECRET_KEY.fullmatch(key) and not _is_name(key, text):
            yield text
        elif "://" in text:
            with contextlib.suppress(ValueError):
                yield unquote(urlsplit(text).password or "")


def _is_name(key: str, text: str) -> bool:
    """Whether a short word below ``token`` or ``secret`` rather names one than is one."""
    return key.lower().endswith(("token", "secret")) and text.isalpha() and len(text) <= 10


def hide_written(source: str, *texts: str) -> tuple[str, ...]:
    """A source line without the secrets that are written in it, and texts that may repeat them."""
    values: set[str] = set()

    def hidden(match: re.Match[str]) -> str:
        value = match["value"].strip("\"'")
        if value.startswith(_TEMPLATE) or len(value) < SHORTEST:
            return match[0]
        values.add(value)
        return f"{match['key']}{MASK}"

    line = _IN_URL.sub(hidden, _WRITTEN.sub(hidden, source))
    masked = list(texts)
    for value in sorted(values, key=len, reverse=True):
        masked = [text.replace(value, MASK) for text in masked]
    return (line, *masked)
