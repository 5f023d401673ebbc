"""What an argument names of the inventory, so that a wrong name is found before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.module_api import Name
from engine.registry.containers import MappingType
from engine.registry.types import ArgumentType, At
from engine.templating import is_template


class Named(NamedTuple):
    """A name that an argument has, and of what it is one."""

    name: Name
    text: str
    at: At
    of_key: bool = False
    """Whether it is the key at that place."""


def names_in(kind: ArgumentType | None, value: Any, at: At) -> Iterator[Named]:
    """All names in an argument as written; templates give theirs later."""
    if kind is None:
        return
    if isinstance(value, str):
        if kind.names is not None and value and not is_template(value):
            yield Named(kind.names, value, at)
    elif isinstance(value, dict):
        keys = _keys_of(kind)
        for key, each in value.items():
            if keys is not None and keys.names is not None and not is_template(key):
                yield Named(keys.names, key, (*at, key), True)
            yield from names_in(kind.inner(key), each, (*at, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from names_in(kind.inner(index), each, (*at, index))


def _keys_of(kind: ArgumentType) -> ArgumentType | None:
    tables = (each.key for each in (kind, *kind.parts()) if isinstance(each, MappingType))
    return next((key for key in tables if key is not None), None)
