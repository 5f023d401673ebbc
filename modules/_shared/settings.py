"""Settings of the inventory, understood or refused by name.

A part of the inventory that a module reads is described by a struct. What the struct has no field
for is refused, and so is what is missing or of another kind, each in words of the inventory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from engine.module_api import Refused

T = TypeVar("T", bound=msgspec.Struct)

_KINDS = {
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def read(raw: Any, kind: type[T], where: str) -> T:
    """A part of the inventory as its struct; `where` names it, such as ``docker.tls``.

    Numbers may stand for text, and text for numbers and for true and false. Raises Refused.
    """
    if not isinstance(raw, Mapping):
        raise Refused(f"{where} of the inventory must be a mapping, not {_shown(raw)}")
    fields = _fields(kind)
    for key in raw:
        if key not in fields:
            raise Refused(
                f"{where} of the inventory is not right: unknown setting {str(key)!r}",
                hint=_nearest(str(key), list(fields)),
            )
    missing = [name for name, field in fields.items() if field.required and _empty(raw.get(name))]
    if missing:
        raise Refused(f"{where} of the inventory lacks {', '.join(missing)}")
    values = {}
    for name, field in fields.items():
        if name in raw and not (raw[name] is None and not field.required):
            values[field.name] = _value(raw[name], field.type, f"{name!r} of {where}")
    return kind(**values)


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The settings of a struct by the names that they have in the inventory; looked up once, since
    it takes as long as a request and a metric is read every few seconds."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _value(raw: Any, kind: Any, where: str) -> Any:
    if kind is str and isinstance(raw, int | float) and not isinstance(raw, bool):
        return str(raw)  # an identifier that is made of digits
    plain = dict(raw) if isinstance(raw, Mapping) else raw
    try:
        return msgspec.convert(plain, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(
            f"{where} of the inventory is not right: {_in_words(str(error), plain)}"
        ) from None


def _in_words(error: str, raw: Any) -> str:
    """``Expected `bool`, got `str` - at `$.x``` → it must be true or false."""
    expected = error.removeprefix("Expected `").partition("`")[0] if "Expected `" in error else ""
    words = [_KINDS.get(one.strip(), one.strip()) for one in expected.split("|") if one]
    if not words:
        return f"{_shown(raw)} is not possible there"
    place = error.partition(" - at `$")[2].rstrip("`").lstrip(".")
    return f"{place or 'it'} must be {' or '.join(words)}"


def _shown(value: Any) -> str:
    """What a value is, but not a secret that it may be."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else f"{type(value).__name__} {value!r:.40}"


def _nearest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"it may have {', '.join(known) or 'none'}"
