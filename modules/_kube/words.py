"""The words of an API server, cut to what people may see.

A server that refuses an object often quotes it: a patch with a mistyped field is answered with the
whole stored object in the message, the values of a Secret among it. So the words of a server are
never passed on as they are: whole objects, JSON or in Go's notation, are cut to ``{…}``, and what
concerns a Secret loses every value that it quotes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

CUT = "{…}"
"""What stands in the place of an object that a server quoted."""

HIDDEN = "(hidden)"
"""What stands in the place of a value of a Secret."""

_LONGEST = 2000
"""Characters of a server's message that are kept."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)("|$)', re.DOTALL)
_MOST_QUOTED = 200
"""Characters that a quoted value may have; a name is never that long."""

_OBJECT = re.compile(r"^\s*(?:&?[\w.*\[\]{} ]*\{|\[|map\[|&)")
_TYPE = re.compile(r"&?(?:map\[\w+\]|\[\]|\*)*[\w.]+\{")
"""How Go begins to print an object: ``map[string]string{``, ``&v1.Secret{``."""

_OPENING = re.compile(r"map\[|[{\[]")
_VALUE = re.compile(
    r"((?:Invalid|Duplicate|Unsupported) value: |got )"
    r'("(?:[^"\\]|\\.)*(?:"|$)|[^\s:;,]+)',
    re.DOTALL,
)

_WARNING = re.compile(r'^\d{3} \S+ "((?:[^"\\]|\\.)*)"')


def brief(text: str, *, secret: bool = False) -> str:
    """A server's message without the objects that it quotes.

    `secret` says that it is about a Secret: then no value that it quotes is left either.
    """
    text = _QUOTED.sub(_quoted, text)
    text = _TYPE.sub("{", text.replace("interface {}", "any"))
    text = "".join(_without_objects(text))
    if secret:
        text = _VALUE.sub(lambda match: f"{match[1]}{HIDDEN}", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _quoted(match: re.Match[str]) -> str:
    """A quoted part: short names stay, objects and long values go."""
    plain = match[1].replace("\\", "")
    whole = bool(match[2]) and len(plain) <= _MOST_QUOTED
    return match[0] if whole and not (_OBJECT.match(plain) and len(plain) > 2) else CUT


def _without_objects(text: str) -> Iterator[str]:
    """`text` with each balanced ``{…}``, ``map[…]`` and list of objects cut."""
    place = 0
    for opening in _OPENING.finditer(text):
        if opening.start() < place:
            continue
        end = _closing(text, opening.end())
        inside = text[opening.end() : max(opening.end(), end - 1)]
        if not _holds_values(opening[0], inside):
            continue
        yield text[place : opening.start()]
        yield CUT
        place = end
    yield text[place:]


def _holds_values(opening: str, inside: str) -> bool:
    """Whether brackets hold an object, and not the index or the key of a field."""
    if opening == "[":  # data[a.key], containers[0], a list of names; not [{…}] or [map[…]]
        return inside.lstrip().startswith(("{", "map["))
    return bool(inside.strip())


def _closing(text: str, place: int) -> int:
    """The place after the bracket that closes what was opened before `place`."""
    depth = 1
    while place < len(text):
        letter = text[place]
        if letter == '"':
            quoted = _QUOTED.match(text, place)
            place = quoted.end() if quoted else place + 1
            continue
        depth += (letter in "{[") - (letter in "}]")
        place += 1
        if depth == 0:
            break
    return place


def is_secret(path: str) -> bool:
    """Whether the path of a request is that of a Secret, or of all of them."""
    return bool(re.search(r"/secrets(?:[/?]|$)", path))


def warning(header: str) -> str:
    """The text of a ``Warning`` header: ``299 - "v1 Endpoints is deprecated"``."""
    quoted = _WARNING.match(header.strip())
    text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header.strip()
    return brief(text)


def secret_values(item: object) -> Iterator[str]:
    """The values of a Secret, or of a patch of one, plain and as they are stored."""
    if not isinstance(item, dict):
        return
    for section in ("data", "stringData"):
        values = item.get(section)
        for value in values.values() if isinstance(values, dict) else ():
            if isinstance(value, str) and value:
                yield value
                if section == "data" and (plain := _decoded(value)):
                    yield plain


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def without(text: str, values: Iterable[str]) -> str:
    """`text` with each of the values replaced; those that were sent, in any of their forms."""
    forms = {form for value in values for form in _forms(value) if len(form) > 2}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _forms(value: str) -> tuple[str, ...]:
    import json

    return (
        value,
        json.dumps(value)[1:-1],
        base64.b64encode(value.encode()).decode(),
    )


def sent_values(body: object) -> Iterator[str]:
    """The values of a Secret that a request would write: of the object, or of a patch of it."""
    yield from secret_values(body)
    for one in body if isinstance(body, list) else ():  # the operations of a JSON patch
        value = one.get("value") if isinstance(one, dict) else None
        yield from secret_values({"data": {"": value}})
        yield from secret_values({"data": value})
        yield from secret_values(value)
