"""What templates can do to values beyond Jinja2's own filters, and how values leave a template."""

from __future__ import annotations

import functools
import json
import operator
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2.filters import do_join, do_sum
from jinja2.runtime import Undefined
from jinja2.utils import pass_environment, pass_eval_context

from engine.templating import ansible
from engine.templating.bounds import (
    ITEM,
    MOST_OUTPUT,
    STEP,
    meter,
    refuse_joining,
    refuse_long,
    refuse_percent,
    refuse_replacing,
    too_big,
)
from engine.text import parse_boolean
from engine.units import format_duration, parse_duration

MOST_LOOPS = 1_000_000
"""Iterations of ``{% for %}`` in one rendering."""

_MOST_INDENT = 100
_MOST_DIGITS = 400

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
        meter().spend(STEP + (len(value) // ITEM if isinstance(value, str) else 0))
        return value
    meter().spend(STEP)
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
        meter().spend(ITEM)
        return value
    if isinstance(value, str):
        meter().spend(len(value) // ITEM + ITEM)
        if len(value) > MOST_OUTPUT:
            raise too_big()
        return value if type(value) is str else str(value)
    if isinstance(value, Undefined):
        str(value)  # raises, saying what is undefined
    if depth > 64:
        raise ValueError("the result is nested too deeply")
    meter().spend(STEP)
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


def _center(value: Any, width: int = 80) -> str:
    refuse_long(width, MOST_OUTPUT)
    return str(value).center(width)


@pass_eval_context
def _join(eval_ctx: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    parts = list(value)
    refuse_joining(d, parts)
    return str(do_join(eval_ctx, parts, d, attribute))


@pass_environment
def _sum(environment: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    """As Jinja2's, but lists are not copied once for each list that is added."""
    if not isinstance(start, list | tuple):
        return do_sum(environment, iterable, attribute, start)
    found = list(start)
    for each in iterable:
        item = each if attribute is None else environment.getitem(each, attribute)
        if not isinstance(item, list | tuple):
            raise TypeError(f"lists are added up here, and this is {noun(item)}")
        meter().spend(len(item) * ITEM)
        found.extend(item)
    return found


FILTERS: dict[str, Callable[..., Any]] = {
    **ansible.FILTERS,
    "bool": _boolean,
    "center": _center,
    "duration": _duration,
    "from_json": json.loads,
    "join": _join,
    "quote": lambda value: shlex.quote(str(value)),
    "sum": _sum,
}
"""By the names that templates use."""


# -- bounds ---------------------------------------------------------------------------------------
def _refuse_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    unit = len(width) if isinstance(width, str) else width
    refuse_long(len(text) + unit * (str(text).count("\n") + 1))


def _refuse_wrap(
    text: Any,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    **_: Any,
) -> None:
    refuse_long(len(text) * (1 + len(wrapstring or "")))


def _refuse_count(value: Any, count: int, *_: Any, **__: Any) -> None:
    refuse_long(count, MOST_OUTPUT)


def _refuse_digits(value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    refuse_long(abs(precision), _MOST_DIGITS)


def _refuse_format(text: Any, *args: Any, **kwargs: Any) -> None:
    refuse_percent(str(text), kwargs or args)


def _refuse_replace(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    refuse_replacing(str(text), str(old), str(new))


_REFUSE: dict[str, Callable[..., None]] = {
    "batch": _refuse_count,
    "format": _refuse_format,
    "indent": _refuse_indent,
    "replace": _refuse_replace,
    "round": _refuse_digits,
    "slice": _refuse_count,
    "wordwrap": _refuse_wrap,
}
"""What looks at the arguments of a filter that could make something huge in one go."""

_GLANCES = frozenset(("count", "d", "default", "first", "last", "length"))
"""Filters and tests that do not go through what they are given."""


def charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test whose work is charged to the rendering's meter."""
    refuse = _REFUSE.get(name)
    hidden = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        now = meter()
        values = args[hidden:]
        if name in _GLANCES:
            now.spend(STEP)
        else:
            now.step(*values, *kwargs.values())
        if refuse is not None:
            refuse(*values, **kwargs)
        return now.made(function(*args, **kwargs))

    return call


def seen(value: Any) -> Any:
    """A value that is about to be compared or joined to another."""
    meter().step(value)
    return value


_DECIMAL = re.compile(r"[-+]?\d{1,20}\.\d{1,20}")

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
"""Comparisons that have a smaller and a greater side, by Jinja2's names."""


def counted(left: Any, right: Any) -> tuple[Any, Any]:
    """Two sides of an operation, where one is a number and the other a number that had to stay text
    because it is written ``5.10``: both as numbers."""
    if isinstance(left, str) and isinstance(right, int | float) and _DECIMAL.fullmatch(left):
        return float(left), right
    if isinstance(right, str) and isinstance(left, int | float) and _DECIMAL.fullmatch(right):
        return left, float(right)
    return left, right


def ordered(left: Any, order: str, right: Any) -> Any:
    """``left < right`` and the like."""
    meter().step(left, right)
    return ORDERS[order](*counted(left, right))


def made(value: Any) -> Any:
    """A list, mapping or piece that a template made just now."""
    return meter().made(value)
