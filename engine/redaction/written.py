"""Secrets that somebody wrote where none belong: literally in an inventory or a runbook.

A key tells what its value is: ``password``, ``api_token``; a URL tells its password by its place.
Such a value is hidden as one of the inventory's `secrets` would be, also in the source line that a
problem shows before anything is known of secrets.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
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
_SECTION = re.compile(r"""["']?secrets["']?\s*:""")
_ENTRY = re.compile(r"""(?P<key>\s*(?:-\s+)?(?:["']?[\w.-]+["']?\s*:\s+)?)(?P<value>\S.*)""")
_KEY_ALONE = re.compile(r"""\s*(?:-\s+)?["']?[\w.-]+["']?\s*:\s*$""")
_MOST_LINES = 500
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


def in_secrets(line: Callable[[int], str], number: int) -> bool:
    """Whether a line (counted from 1) stands in the `secrets` of an inventory.

    Told from the text alone, since a file that is no YAML has lines to show as well.
    """
    depth: int | None = None
    for each in range(number, max(number - _MOST_LINES, 0), -1):
        text = line(each)
        content = text.lstrip()
        indent = len(text) - len(content)
        if not content or content.startswith("#") or (depth is not None and indent >= depth):
            continue
        if indent == 0:
            return _SECTION.match(content) is not None
        depth = indent
    return False


def hide_written(source: str, *texts: str, all_values: bool = False) -> tuple[str, ...]:
    """A source line without the secrets that are written in it, and texts that may repeat them.

    With `all_values` whatever the line says beside its key is taken for a secret.
    """
    values: set[str] = set()

    def hidden(match: re.Match[str]) -> str:
        value = match["value"].strip("\"'")
        if value.startswith(_TEMPLATE) or len(value) < SHORTEST:
            return match[0]
        values.add(value)
        return f"{match['key']}{MASK}"

    if all_values:
        line = source if _KEY_ALONE.match(source) else _ENTRY.sub(hidden, source)
    else:
        line = _IN_URL.sub(hidden, _WRITTEN.sub(hidden, source))
    masked = list(texts)
    for value in sorted(values, key=len, reverse=True):
        masked = [text.replace(value, MASK) for text in masked]
    return (line, *masked)
