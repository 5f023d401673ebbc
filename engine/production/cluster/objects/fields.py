"""Sets of fields: which places of an object somebody owns or has changed.

A field is a path, a tuple of elements in the words of FieldsV1: `f:spec`, `k:{"name":"app"}` for
an item of a keyed list, `v:"x"` for one of a set. A set of fields is a plain Python set, so union
and difference need no code here; what is here walks objects by their type (schema.py) to find
the fields they have and the differences between two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.schema import Type

Path = tuple[str, ...]
FieldSet = frozenset[Path]

MISSING: Any = object()
"""Stands for a place that is not there; None is a value."""


def key_element(item: Any, kind: Type) -> str:
    """The path element of an item of a keyed list, its missing keys defaulted or left out."""
    keys = {}
    for name in sorted(kind.keys):
        value = item.get(name, kind.key_defaults.get(name)) if isinstance(item, dict) else None
        if value is not None:
            keys[name] = value
    return "k:" + msgspec.json.encode(keys).decode()


def children(value: Any, kind: Type) -> Iterator[tuple[str, Any, Type, bool]]:
    """(path element, value, type, declared?) of everything directly below `value`.

    Declared are the fields of a structure; map entries and list items are not.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"f:{name}", item, kind.child(name), name in kind.fields
    elif isinstance(value, list) and kind.element is not None:
        for item in value:
            if kind.form == "keyed":
                yield key_element(item, kind), item, kind.element, False
            else:
                yield "v:" + msgspec.json.encode(item).decode(), item, kind.element, False


def owned_fields(config: Any, kind: Type) -> FieldSet:
    """The fields that applying `config` claims: its leaves, its map entries, its list items."""
    paths: set[Path] = set()
    _collect(config, kind, (), paths)
    return frozenset(paths)


def _collect(value: Any, kind: Type, path: Path, paths: set[Path]) -> None:
    for element, item, item_kind, declared in children(value, kind):
        below = (*path, element)
        leaf = item_kind.is_leaf(item) or item in ({}, [], None)
        if leaf or not declared:
            paths.add(below)
        if not leaf:
            _collect(item, item_kind, below, paths)


@dataclass
class Comparison:
    """What differs between two states of one object."""

    added: set[Path]
    removed: set[Path]
    modified: set[Path]

    @property
    def taken(self) -> set[Path]:
        """The fields whose value is of the newer state's making."""
        return self.added | self.modified

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.modified)


def compare(old: Any, new: Any, kind: Type) -> Comparison:
    """The fields in which `new` differs from `old`, both of type `kind`."""
    result = Comparison(set(), set(), set())
    _compare(old, new, kind, (), result)
    return result


def _compare(old: Any, new: Any, kind: Type, path: Path, result: Comparison) -> None:
    if old is new:
        return
    if old is MISSING or new is MISSING:
        (result.added if old is MISSING else result.removed).add(path)
    value = old if new is MISSING else new
    if kind.is_leaf(value) or (old is not MISSING and new is not MISSING and kind.is_leaf(old)):
        if old is not MISSING and new is not MISSING and old != new:
            result.modified.add(path)
        return
    before, after = _by_element(old, kind), _by_element(new, kind)
    for element in before.keys() | after.keys():
        was, item_kind = before.get(element, (MISSING, None))
        now, now_kind = after.get(element, (MISSING, None))
        chosen = now_kind or item_kind
        assert chosen is not None
        _compare(was, now, chosen, (*path, element), result)


def _by_element(value: Any, kind: Type) -> dict[str, tuple[Any, Type]]:
    if value is MISSING:
        return {}
    return {element: (item, of_kind) for element, item, of_kind, _ in children(value, kind)}


def prefixes(fields: Iterable[Path]) -> set[Path]:
    """All places on the way to these fields, the fields included, the root not."""
    return {path[:length] for path in fields for length in range(1, len(path) + 1)}


def remove(value: Any, kind: Type, paths: set[Path], keep: set[Path], at: Path = ()) -> Any:
    """`value` without the places in `paths`; a place on the way to `keep` stays.

    A map or list that becomes empty by it goes too.
    """
    if not isinstance(value, (dict, list)) or kind.is_leaf(value):
        return value
    kept: list[tuple[str, Any]] = []
    for element, item, item_kind, _ in children(value, kind):
        below = (*at, element)
        if below in paths and below not in keep:
            continue
        remaining = remove(item, item_kind, paths, keep, below)
        if remaining in ({}, []) and remaining != item and below not in keep:
            continue
        kept.append((element, remaining))
    if isinstance(value, dict):
        return {element[2:]: item for element, item in kept}
    return [item for _, item in kept]


def encode(fields: FieldSet) -> Obj:
    """The FieldsV1 document of a set of fields."""
    root: Obj = {}
    for path in sorted(fields):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _without_lone_dots(root)


def _without_lone_dots(node: Mapping[str, Any]) -> Obj:
    if set(node) == {"."}:
        return {}
    return {name: {} if name == "." else _without_lone_dots(item) for name, item in node.items()}


def decode(document: Mapping[str, Any]) -> FieldSet:
    """The inverse of `encode`."""
    paths: set[Path] = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        if not node and path:
            paths.add(path)
        for name, item in node.items():
            if name == ".":
                paths.add(path)
            else:
                walk(item, (*path, name))

    walk(document, ())
    return frozenset(paths)


def dotted(path: Path) -> str:
    """A path as people read it: `.spec.containers[name="app"].image`."""
    parts: list[str] = []
    for element in path:
        sort, _, rest = element.partition(":")
        if sort == "f":
            parts.append(f".{rest}")
        elif sort == "v":
            parts.append(f"[={rest}]")
        else:
            keys = msgspec.json.decode(rest)
            shown = (
                f"{name}={msgspec.json.encode(value).decode()}" for name, value in keys.items()
            )
            parts.append(f"[{','.join(shown)}]")
    return "".join(parts)
