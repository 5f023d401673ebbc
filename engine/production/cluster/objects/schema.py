"""The types of the built-in objects: field names, and how lists and maps are merged.

`schema.json` holds one line a type. A field's type reads:

    int str bool time bytes quantity intstr any   a scalar; "any" may hold whatever it likes
    Name                                          another type of the file
    {str}      {str}!                             a map; with "!" it is changed only as a whole
    [Name]                                        a list that is changed only as a whole
    [Name|name]  [Name|port,protocol=TCP]         a list keyed by fields (with a key's default)
    [str|]                                        a list without duplicates

Custom resources have no entry: they are *free*, maps are merged and lists replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

Form = Literal["scalar", "struct", "map", "list", "keyed", "set", "free"]
SCALARS = frozenset(["int", "str", "bool", "time", "bytes", "quantity", "intstr", "any"])


@dataclass(frozen=True, eq=False)
class Type:
    """How one place in an object behaves. `atomic` places are owned and changed as a whole."""

    form: Form
    name: str = ""
    atomic: bool = False
    fields: Mapping[str, Type] = field(default_factory=dict)
    element: Type | None = None
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, str] = field(default_factory=dict)

    def child(self, name: str) -> Type:
        """The type of a map's value or a structure's field; ANY for what is not declared."""
        return self.fields.get(name) or self.element or ANY

    def is_leaf(self, value: Any) -> bool:
        """Whether `value`, being of this type, is one indivisible field."""
        if self.atomic or self.form in ("scalar", "list"):
            return True
        if self.form in ("keyed", "set"):
            return value is not None and not isinstance(value, list)
        return value is not None and not isinstance(value, dict)


@cache
def _definitions() -> tuple[frozenset[str], dict[str, dict[str, str]]]:
    raw = msgspec.json.decode(Path(__file__).with_name("schema.json").read_bytes())
    return frozenset(raw["atomic"]), raw["types"]


def has_type(name: str) -> bool:
    """Whether the schema knows a type of that name."""
    return name in _definitions()[1]


@cache
def type_of(text: str) -> Type:
    """The type that `text` describes, in the notation of this file's beginning."""
    if text in SCALARS:
        return Type("scalar", text)
    if text[0] == "{":
        return Type("map", element=type_of(text.strip("{}!")), atomic=text.endswith("!"))
    if text[0] == "[":
        return _list_type(text[1:-1])
    atomic, types = _definitions()
    fields = {name: type_of(kind) for name, kind in types[text].items()}
    return Type("struct", text, atomic=text in atomic, fields=fields)


def _list_type(text: str) -> Type:
    element, bar, keys = text.partition("|")
    if not bar:
        return Type("list", element=type_of(element), atomic=True)
    if not keys:
        return Type("set", element=type_of(element))
    pairs = [key.partition("=") for key in keys.split(",")]
    return Type(
        "keyed",
        element=type_of(element),
        keys=tuple(name for name, _, _ in pairs),
        key_defaults={name: default for name, equals, default in pairs if equals},
    )


ANY = Type("scalar", "any")


@cache
def free_type() -> Type:
    """A custom resource: its metadata is typed, the rest is free."""
    inner = Type("free")
    object.__setattr__(inner, "element", inner)
    head = {"apiVersion": type_of("str"), "kind": type_of("str"), "metadata": type_of("ObjectMeta")}
    return Type("free", fields=head, element=inner)


def schema_for(name: str | None) -> Type:
    """The type of a resource by its schema name, or the free one."""
    return type_of(name) if name is not None else free_type()
