"""What templates can do to values beyond Jinja2's own filters, and how values leave a template."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2.runtime import Undefined

from engine.templating.bounds import MOST_OUTPUT, bound_product, too_big
from engine.text import format_duration, parse_boolean, parse_duration

MOST_LOOPS = 1_000_000
"""Iterations of ``{% for %}`` in one rendering."""


_NOUNS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((list, tuple), "the list"),
    (str, "the text"),
    (bool, "true or false"),
    ((int, float), "the number"),
    (type(None), "nothing"),
)


def noun(value: object) -> str:
    """What a value is, in the words of a message."""
    if isinstance(value, Mapping):
        return "the mapping"
    for kinds, word in _NOUNS:
        if isinstance(value, kinds):
            return word
    return f"a {type(value).__name__}"


def finalize(value: Any) -> Any:
    """How a value reads inside other text: as in YAML or JSON, not as in Python."""
    if isinstance(value, str | Undefined):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(native(value), ensure_ascii=False)
    return value


def native(value: Any, depth: int = 0) -> Any:
    """A value of plain types: text, numbers, lists, mappings; undefined parts raise."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if len(value) > MOST_OUTPUT:
            raise too_big()
        return value if type(value) is str else str(value)
    if isinstance(value, Undefined):
        str(value)  # raises, saying what is undefined
    if depth > 64:
        raise ValueError("the result is nested too deeply")
    if isinstance(value, Mapping):
        return {key: native(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range | Iterator):
        return [native(each, depth + 1) for each in _bounded_items(value)]
    raise TypeError(f"it gives {noun(value)}, which is no value")


def _bounded_items(value: Iterable[Any]) -> Iterator[Any]:
    for count, each in enumerate(value):
        if count > MOST_LOOPS:
            raise ValueError(f"the result has more than {MOST_LOOPS} items")
        yield each


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(native(value), indent=indent, ensure_ascii=False)


def _duration(value: Any) -> Any:
    """Seconds as text, text as seconds."""
    if isinstance(value, str):
        seconds = parse_duration(value)
        if seconds is None:
            raise ValueError(f"{value!r} is no duration such as 90s or 1h30m")
        return seconds
    return format_duration(float(value))


def _boolean(value: Any) -> bool:
    found = parse_boolean(value)
    return bool(value) if found is None else found


def _regex_replace(value: Any, pattern: str, replacement: str = "", count: int = 0) -> str:
    return re.sub(pattern, replacement, str(value), count=count)


def _regex_search(value: Any, pattern: str) -> str | None:
    found = re.search(pattern, str(value))
    return found.group(0) if found else None


def _b64encode(value: Any) -> str:
    return base64.b64encode(str(value).encode()).decode()


def _b64decode(value: Any) -> str:
    return base64.b64decode(str(value), validate=True).decode()


def _center(value: Any, width: int = 80) -> str:
    bound_product(" ", width)
    return str(value).center(width)


def _combine(value: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(value)
    for other in others:
        made.update(other)
    return made


FILTERS: dict[str, Callable[..., Any]] = {
    "to_json": _to_json,
    "from_json": json.loads,
    "tojson": _to_json,
    "b64encode": _b64encode,
    "b64decode": _b64decode,
    "bool": _boolean,
    "center": _center,
    "combine": _combine,
    "duration": _duration,
    "quote": lambda value: shlex.quote(str(value)),
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
}
"""By the names that templates use."""
