"""Filters and tests that people know from Ansible, with Ansible's names and meanings.

Those that read files, run something or ask the network are not here: a step does that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from jinja2.runtime import Undefined

from engine import regex
from engine.templating.bounds import ITEM, MOST_OUTPUT, MOST_TEXT, meter, refuse_long, too_big
from engine.text import parse_boolean

_MOST_INDENT = 100
_VERSION_PART = re.compile(r"\d+|[a-z]+")
_ORDERS: dict[str, Callable[[int], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), lambda sign: sign == 0),
    **dict.fromkeys(("!=", "<>", "ne"), lambda sign: sign != 0),
    **dict.fromkeys(("<", "lt"), lambda sign: sign < 0),
    **dict.fromkeys(("<=", "le"), lambda sign: sign <= 0),
    **dict.fromkeys((">", "gt"), lambda sign: sign > 0),
    **dict.fromkeys((">=", "ge"), lambda sign: sign >= 0),
}


# -- choosing -----------------------------------------------------------------------------------
def ternary(value: Any, yes: Any, no: Any, none: Any = None) -> Any:
    """`yes` if the value is true, else `no`; `none`, if given, for nothing."""
    if value is None and none is not None:
        return none
    word = parse_boolean(value) if isinstance(value, str) else None
    return yes if (bool(value) if word is None else word) else no


def mandatory(value: Any, message: str = "") -> Any:
    """The value, which has to be defined."""
    if isinstance(value, Undefined):
        raise ValueError(message or "a mandatory variable is not defined")
    return value


# -- text and patterns --------------------------------------------------------------------------
def _flags(ignorecase: bool, multiline: bool) -> str:
    flags = ("i" if ignorecase else "") + ("m" if multiline else "")
    return f"(?{flags})" if flags else ""


def regex_search(
    value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False
) -> Any:
    r"""The first match, nothing if there is none; of ``'\\1'``, ``'\\g<name>'`` the groups."""
    pattern = _flags(ignorecase, multiline) + pattern
    if not groups:
        return regex.search(pattern, str(value))
    found = regex.search_groups(pattern, str(value))
    if found is None:
        return None
    return [found[_group(each)] for each in groups]


def _group(text: str) -> str:
    name = text.removeprefix("\\g<").removesuffix(">") if text.startswith("\\g<") else text
    return name.removeprefix("\\")


def regex_findall(
    value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False
) -> list[Any]:
    """All matches; with groups, those of each."""
    return regex.find_all(_flags(ignorecase, multiline) + pattern, str(value))


def regex_replace(
    value: Any,
    pattern: str = "",
    replacement: str = "",
    count: int = 0,
    ignorecase: bool = False,
    multiline: bool = False,
) -> str:
    """The text with every match replaced, the first `count` if that is not 0."""
    pattern = _flags(ignorecase, multiline) + pattern
    return regex.replace(pattern, str(value), replacement, count, MOST_TEXT)


def _matches(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    return bool(regex.beginning_with(_flags(ignorecase, multiline) + pattern, [str(value)]))


def _searches(value: Any, pattern: str, ignorecase: bool = False, multiline: bool = False) -> bool:
    return regex.search(_flags(ignorecase, multiline) + pattern, str(value)) is not None


def _hash(value: Any, kind: str = "sha1") -> str:
    if kind not in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        raise ValueError(f"there is no hash {kind!r}")
    return hashlib.new(kind, str(value).encode(), usedforsecurity=False).hexdigest()


def b64encode(value: Any, encoding: str = "utf-8") -> str:
    """Text in base64."""
    return base64.b64encode(str(value).encode(encoding)).decode()


def b64decode(value: Any, encoding: str = "utf-8") -> str:
    """Text out of base64."""
    try:
        return base64.b64decode(str(value), validate=True).decode(encoding)
    except binascii.Error:
        raise ValueError("this is no base64") from None


def _to_yaml(value: Any, indent: int = 2, **_: Any) -> str:
    from engine.templating.filters import native

    return yaml.safe_dump(
        native(value), default_flow_style=False, allow_unicode=True, indent=min(indent, 9)
    )


def to_json(value: Any, indent: int | None = None, sort_keys: bool = False, **_: Any) -> str:
    """JSON; `indent` spaces to a level."""
    from engine.templating.filters import native

    made = native(value)
    if indent is not None:
        if not isinstance(indent, int) or not 0 <= indent <= _MOST_INDENT:
            raise too_big()
        refuse_long(_lines(made, 1) * indent, MOST_OUTPUT)
    return json.dumps(made, indent=indent, ensure_ascii=False, sort_keys=sort_keys)


def _lines(value: Any, depth: int) -> int:
    """Lines of an indented JSON text, each as often as it is deep."""
    meter().spend(ITEM)
    if isinstance(value, Mapping | list):
        inner = value.values() if isinstance(value, Mapping) else value
        return sum(depth + _lines(each, depth + 1) for each in inner) + depth
    return 0


# -- lists and mappings -------------------------------------------------------------------------
def flatten(value: Iterable[Any], levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    """Lists in lists as one list, `levels` deep if that is given."""
    found: list[Any] = []
    for each in value:
        meter().spend(ITEM)
        if isinstance(each, list | tuple) and (levels is None or levels > 0):
            found.extend(flatten(each, None if levels is None else levels - 1, skip_nulls))
        elif not (skip_nulls and each in (None, "None", "null")):
            found.append(each)
    return found


def combine(
    value: Mapping[str, Any], *others: Any, recursive: bool = False, list_merge: str = "replace"
) -> dict[str, Any]:
    """Mappings as one, later ones winning; `recursive` also those inside."""
    made = dict(value)
    for other in flatten(others):
        for key, each in other.items():
            meter().spend(ITEM)
            old = made.get(key)
            if recursive and isinstance(old, Mapping) and isinstance(each, Mapping):
                made[key] = combine(old, each, recursive=True, list_merge=list_merge)
            elif isinstance(old, list) and isinstance(each, list):
                made[key] = _merged(old, each, list_merge)
            else:
                made[key] = each
    return made


def _merged(old: list[Any], new: list[Any], how: str) -> list[Any]:
    ways: dict[str, Callable[[], list[Any]]] = {
        "replace": lambda: new,
        "keep": lambda: old,
        "append": lambda: [*old, *new],
        "prepend": lambda: [*new, *old],
        "append_rp": lambda: [*(each for each in old if each not in new), *new],
        "prepend_rp": lambda: [*new, *(each for each in old if each not in new)],
    }
    if how not in ways:
        raise ValueError(f"list_merge cannot be {how!r}: it is one of {', '.join(ways)}")
    meter().spend(len(old) * len(new) if how.endswith("rp") else len(old))
    return ways[how]()


def dict2items(
    value: Mapping[str, Any], key_name: str = "key", value_name: str = "value"
) -> list[dict[str, Any]]:
    """A mapping as a list of its entries."""
    return [{key_name: key, value_name: each} for key, each in value.items()]


def items2dict(
    value: Iterable[Mapping[str, Any]], key_name: str = "key", value_name: str = "value"
) -> dict[str, Any]:
    """A list of entries as a mapping."""
    return {each[key_name]: each[value_name] for each in value}


def _distinct(value: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for each in value:
        meter().spend(ITEM + len(found))
        if each not in found:
            found.append(each)
    return found


def _among(value: Iterable[Any], other: Iterable[Any], inside: bool) -> list[Any]:
    others = list(other)
    values = _distinct(value)
    meter().spend(len(values) * len(others))
    return [each for each in values if (each in others) is inside]


def _zip(value: Iterable[Any], *others: Iterable[Any]) -> list[list[Any]]:
    return [list(each) for each in zip(value, *others, strict=False)]


def _extract(key: Any, container: Any, more: Any = None) -> Any:
    for each in [key, *([] if more is None else more if isinstance(more, list) else [more])]:
        container = container[each]
    return container


# -- versions -----------------------------------------------------------------------------------
def compare_versions(value: Any, other: Any, operator: str = "==", **_: Any) -> bool:
    """``'5.10' is version('5.9', '>')``: numbers by their size, words by the alphabet."""
    if operator not in _ORDERS:
        raise ValueError(f"a version cannot be compared by {operator!r}: {', '.join(_ORDERS)}")
    left, right = _version(value), _version(other)
    return _ORDERS[operator]((left > right) - (left < right))


def _version(value: Any) -> list[tuple[int, int, str]]:
    """Parts that compare: a release is above its candidates (``1.0rc1`` < ``1.0`` < ``1.0.1``)."""
    text = str(value).strip().lower().removeprefix("v").partition("+")[0]
    parts = _VERSION_PART.findall(text)
    if not parts or len(text) > 200:
        raise ValueError(f"{value!r} is no version")
    made = [(1, int(each), "") if each.isdigit() else (-1, 0, each) for each in parts]
    while made and made[-1] == (1, 0, ""):
        made.pop()  # 5 and 5.0 are the same
    return [*made, (0, 0, "")]


FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": b64decode,
    "b64encode": b64encode,
    "basename": lambda value: posixpath.basename(str(value)),
    "checksum": _hash,
    "combine": combine,
    "dict2items": dict2items,
    "difference": lambda value, other: _among(value, other, False),
    "dirname": lambda value: posixpath.dirname(str(value)),
    "extract": _extract,
    "flatten": flatten,
    "from_yaml": lambda value: yaml.safe_load(str(value)),
    "hash": _hash,
    "intersect": lambda value, other: _among(value, other, True),
    "items2dict": items2dict,
    "mandatory": mandatory,
    "md5": lambda value: _hash(value, "md5"),
    "path_join": lambda value: posixpath.join(*map(str, value)),
    "regex_escape": lambda value: re.escape(str(value)),
    "regex_findall": regex_findall,
    "regex_replace": regex_replace,
    "regex_search": regex_search,
    "sha1": _hash,
    "split": lambda value, separator=None: str(value).split(separator),
    "splitext": lambda value: list(posixpath.splitext(str(value))),
    "symmetric_difference": lambda value, other: [
        *_among(value, list(other), False),
        *_among(other, list(value), False),
    ],
    "ternary": ternary,
    "to_json": to_json,
    "to_nice_json": lambda value, indent=4, **more: to_json(value, indent, True),
    "to_nice_yaml": _to_yaml,
    "to_yaml": _to_yaml,
    "tojson": to_json,
    "type_debug": lambda value: type(value).__name__,
    "union": lambda value, other: _distinct([*value, *other]),
    "zip": _zip,
}
"""By the names that templates use."""


def _says(key: str) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        if not isinstance(value, Mapping):
            raise TypeError("this is no result of a step")
        return bool(value.get(key, False))

    return test


TESTS: dict[str, Callable[..., bool]] = {
    "all": lambda value: all(value),
    "any": lambda value: any(value),
    "changed": _says("changed"),
    "change": _says("changed"),
    "contains": lambda value, other: other in value,
    "failed": _says("failed"),
    "failure": _says("failed"),
    "falsy": lambda value: not value,
    "match": _matches,
    "regex": _searches,
    "search": _searches,
    "skipped": _says("skipped"),
    "subset": lambda value, other: all(each in other for each in value),
    "succeeded": lambda value: not _says("failed")(value),
    "success": lambda value: not _says("failed")(value),
    "superset": lambda value, other: all(each in value for each in other),
    "truthy": bool,
    "version": compare_versions,
    "version_compare": compare_versions,
}
"""``result is failed``, ``'5.10' is version('5.9', '>')``."""
