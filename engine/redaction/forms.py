"""What a secret looks like on its way through other systems.

A form is an expression for each character of a secret, however it may have been escaped; a text is
one of the forms of which also a part is recognised.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

SHORTEST = 4
"""Shorter values are not hidden: they would blank out half of every text."""

SecretForm = tuple[str, ...]
"""A secret in one form: an expression for each of its characters."""

_KEY = 16
"""Characters that a part of a URL has at least, to be taken for a key."""


def meant(value: str) -> Iterator[str]:
    """What has to be hidden when `value` has to be: itself, and what it is made of."""
    whole = value.strip()
    yield whole
    with contextlib.suppress(ValueError):
        yield from _meant_by_url(whole)
    inner = _decoded(whole)
    yield inner
    yield _decoded(inner)


def _meant_by_url(url: str) -> Iterator[str]:
    """What admits somebody in a URL: its password, or a user name that stands alone as a key
    does; of a webhook the path, which errors often tell without the host, and its parts that
    look like keys; values of its query."""
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme.isascii():
        return
    parts = urlsplit(url)
    if parts.password:
        yield unquote(parts.password)
    elif parts.username and len(parts.username) >= _KEY:
        yield unquote(parts.username)
    keys = [each for each in parts.path.split("/") if _is_key(each)]
    if keys:
        yield parts.path
        yield from map(unquote, keys)
    yield from (value for _, value in parse_qsl(parts.query) if _is_key(value))


def _is_key(text: str) -> bool:
    """Long, and of letters and figures, as no word of a path is."""
    return (
        len(text) >= _KEY
        and any(each.isdigit() for each in text)
        and any(each.isalpha() for each in text)
    )


def _decoded(value: str) -> str:
    """The text that `value` is base64 of; empty if it is none."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.strip() if text.isprintable() else ""


def forms(value: str) -> Iterator[SecretForm]:
    """A value with each character in all its spellings, in base64 and in hexadecimal."""
    yield tuple(map(_spellings, value))
    if not value.isascii():
        import unicodedata

        for form in ("NFC", "NFD"):
            yield tuple(map(_spellings, unicodedata.normalize(form, value)))
    for text in _base64_texts(value):
        yield tuple(_IN_BASE64.get(character, character) for character in text)
    for text in _twice_in_base64(value):
        yield tuple(_IN_BASE64.get(character, character) for character in text)
    first, *others = (_hex(f"{byte:02x}") for byte in _bytes(value))
    yield (first, *(f"[ :-]?{byte}" for byte in others))


def texts(value: str) -> Iterator[str]:
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


def _twice_in_base64(value: str) -> Iterator[str]:
    """Base64 of base64, as registries' credentials are in a Secret of a cluster."""
    data = _bytes(value)
    for offset in range(3):  # `user:password` in the inner one
        inner = base64.b64encode(b"\0" * offset + data).decode()
        last = len(inner.rstrip("=")) - (1 if (offset + len(data)) % 3 else 0)
        piece = inner[(offset * 8 + 5) // 6 : last]
        yield from (text for text in _base64_texts(piece) if len(text) > 2 * SHORTEST)


@functools.lru_cache(maxsize=1024)
def _spellings(character: str) -> str:
    """An expression for a character however it may have been escaped on its way."""
    if character.isascii() and (character.isalnum() or character in "-_.~"):
        return re.escape(character)
    code = ord(character)
    spellings = [
        rf"\\*{re.escape(character)}",  # a shell's or JSON's backslash, or several levels of it
        *_MORE.get(character, ()),
        f"&#(?:0*{code}|[xX]0*{_hex(f'{code:x}')});",
        rf"\\+(?:u00|x|U000000){_hex(f'{code:02x}')}",
    ]
    data = _bytes(character)
    spellings.append("".join(f"%(?:25)*{_hex(f'{byte:02x}')}" for byte in data))
    if not character.isascii():
        spellings += _beyond_ascii(character, data)
    return f"(?:{'|'.join(spellings)})"


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
