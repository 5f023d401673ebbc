"""Arguments made of others: unions, lists, mappings, records."""

from __future__ import annotations

import collections.abc
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.errors import ActionError
from engine.module_api import Check, Name
from engine.registry.types import (
    MISSED,
    ArgumentType,
    At,
    Nothing,
    Text,
    Walk,
    describe,
    plain,
    spell,
)
from engine.text import did_you_mean, quoted_list


class Either(ArgumentType):
    """A union: the first member that takes the value as it is, else the first it converts to."""

    def __init__(self, members: Sequence[ArgumentType]) -> None:
        self.members = members
        named = [each.words for each in members if not isinstance(each, Nothing)]
        self.words = " or ".join(dict.fromkeys(named))

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        tried: list[Walk] = []
        fitting: list[Walk] = []
        for member in self._in_order(value):
            trial = Walk(walk.templates)
            converted = member.convert(value, trial, at)
            if not trial.mismatches:
                return converted
            tried.append(trial)
            if member.takes(value) and not isinstance(value, list | dict):
                fitting.append(trial)
        deeper = [t for t in tried if any(len(m.at) > len(at) or m.of_key for m in t.mismatches)]
        telling = deeper or fitting
        if len(telling) == 1:
            walk.mismatches.extend(telling[0].mismatches)
            return MISSED
        return self.refuse(value, walk, at)

    def _in_order(self, value: Any) -> list[ArgumentType]:
        return sorted(self.members, key=lambda member: not member.takes(value))

    def takes(self, value: Any) -> bool:
        return any(member.takes(value) for member in self.members)

    def written(self, value: Any, raw: str | None) -> Any:
        ordered = self._in_order(value)
        if raw is not None and not ordered[0].takes(value):
            for member in ordered:
                text = member.written(value, raw)
                if text is not value:
                    return text
        return ordered[0].written(value, raw)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [member.schema() for member in self.members]}

    def parts(self) -> Sequence[ArgumentType]:
        return self.members

    def inner(self, key: str | int) -> ArgumentType | None:
        inner = (member.inner(key) for member in self.members)
        return next((each for each in inner if each is not None), None)

    @property
    def is_expression(self) -> bool:
        texts = [member for member in self.members if isinstance(member, Text)]
        return bool(texts) and all(text.is_expression for text in texts)

    @property
    def is_closed(self) -> bool:
        return self.is_expression and all(
            each.is_closed for each in self.members if each.is_expression
        )

    @property
    def names(self) -> Name | None:
        return next((one.names for one in self.members if one.names is not None), None)

    @property
    def stays_written(self) -> bool:
        texts = [member for member in self.members if isinstance(member, Text)]
        return bool(texts) and all(text.stays_written for text in texts)

    def key_kind(self) -> ArgumentType | None:
        return next((kind for one in self.members if (kind := one.key_kind()) is not None), None)


class Many(ArgumentType):
    """A list; `make` builds what the action wants of it. A single value is a list of one."""

    def __init__(
        self, item: ArgumentType, make: collections.abc.Callable[[list[Any]], Any]
    ) -> None:
        self.item = item
        self.make = make
        self.words = "a list" if type(item) is ArgumentType else f"a list, each {item.words}"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if not isinstance(value, list | tuple):
            return self.refuse(value, walk, at)
        converted = [self.item.convert(each, walk, (*at, n)) for n, each in enumerate(value)]
        return MISSED if any(each is MISSED for each in converted) else self.make(converted)

    def takes(self, value: Any) -> bool:
        return isinstance(value, list | tuple)

    def written(self, value: Any, raw: str | None) -> Any:
        if not isinstance(value, list):
            return plain(value)
        raws: Mapping[int, str] = getattr(value, "raws", None) or {}
        return [self.item.written(each, raws.get(n)) for n, each in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema()}

    def parts(self) -> Sequence[ArgumentType]:
        return (self.item,)

    def inner(self, key: str | int) -> ArgumentType | None:
        return self.item if isinstance(key, int) else None


class Row(ArgumentType):
    """A tuple of fixed length."""

    def __init__(self, items: Sequence[ArgumentType]) -> None:
        self.items = items
        self.words = f"a list of {len(items)}"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(self.items):
            return self.refuse(value, walk, at)
        pairs = enumerate(zip(self.items, value, strict=True))
        converted = [kind.convert(each, walk, (*at, n)) for n, (kind, each) in pairs]
        return MISSED if any(each is MISSED for each in converted) else tuple(converted)

    def takes(self, value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == len(self.items)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "prefixItems": [item.schema() for item in self.items]}


class MappingType(ArgumentType):
    """A mapping with any keys; `key` is their kind where they are more than names."""

    def __init__(self, item: ArgumentType, key: ArgumentType | None = None) -> None:
        self.item = item
        self.key = key if key is not None and (key.stays_written or key.names) else None
        self.words = "a mapping"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if not isinstance(value, Mapping):
            return self.refuse(value, walk, at)
        converted = {k: self.item.convert(each, walk, (*at, str(k))) for k, each in value.items()}
        return MISSED if any(each is MISSED for each in converted.values()) else converted

    def takes(self, value: Any) -> bool:
        return isinstance(value, Mapping)

    def written(self, value: Any, raw: str | None) -> Any:
        if not isinstance(value, dict):
            return plain(value)
        raws: Mapping[str, str] = getattr(value, "raws", None) or {}
        return {k: self.item.written(each, raws.get(k)) for k, each in value.items()}

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.item.schema()}

    def parts(self) -> Sequence[ArgumentType]:
        return (self.item,) if self.key is None else (self.item, self.key)

    def key_kind(self) -> ArgumentType | None:
        return self.key if self.key is not None and self.key.stays_written else None

    def inner(self, key: str | int) -> ArgumentType | None:
        return self.item if isinstance(key, str) else None


class Field(msgspec.Struct, frozen=True):
    """A field of a record: its name in a runbook, in Python, and whether it must be given."""

    attribute: str
    kind: ArgumentType
    required: bool


class Structure(ArgumentType):
    """A mapping with known keys, made of a msgspec Struct or a TypedDict."""

    words = "a mapping"

    def __init__(self, build: collections.abc.Callable[..., Any], fields: dict[str, Field]) -> None:
        self.build = build
        self.fields = fields

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if not isinstance(value, Mapping):
            return self.refuse(value, walk, at)
        before = len(walk.mismatches)
        converted: dict[str, Any] = {}
        for key, each in value.items():
            field = self.fields.get(key)
            if field is None:
                message = f"`{spell(at)}` has no '{key}'"
                walk.miss((*at, key), message, did_you_mean(key, self.fields), of_key=True)
                continue
            converted[field.attribute] = field.kind.convert(each, walk, (*at, key))
        missing = [k for k, f in self.fields.items() if f.required and k not in value]
        if missing:
            walk.miss(at, f"`{spell(at)}` lacks {quoted_list(missing)}")
        if len(walk.mismatches) > before:
            return MISSED
        return converted if walk.templates else self.build(**converted)

    def takes(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(key in self.fields for key in value)

    def written(self, value: Any, raw: str | None) -> Any:
        if not isinstance(value, dict):
            return plain(value)
        raws: Mapping[str, str] = getattr(value, "raws", None) or {}
        return {
            key: self.fields[key].kind.written(each, raws.get(key))
            if key in self.fields
            else plain(each)
            for key, each in value.items()
        }

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {key: field.kind.schema() for key, field in self.fields.items()},
            "required": [key for key, field in self.fields.items() if field.required],
            "additionalProperties": False,
        }

    def parts(self) -> Sequence[ArgumentType]:
        return [field.kind for field in self.fields.values()]

    def inner(self, key: str | int) -> ArgumentType | None:
        field = self.fields.get(str(key))
        return field.kind if field else None


class Constrained(ArgumentType):
    """A kind with more to be checked after it: msgspec's own constraints (`Meta(ge=0, le=100)`),
    functions of the module (`Check`)."""

    def __init__(self, base: ArgumentType, annotation: Any) -> None:
        self.base = base
        self.annotation = annotation
        self.checks = [mark for mark in annotation.__metadata__ if isinstance(mark, Check)]
        self.bounded = any(isinstance(mark, msgspec.Meta) for mark in annotation.__metadata__)
        self.words = base.words

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        converted = self.base.convert(value, walk, at)
        if converted is MISSED:
            return MISSED
        for check in self.checks:
            try:
                check.function(converted)
            except (ActionError, ValueError) as error:
                message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
                return walk.miss(at, f"`{spell(at)}`: {message}", hint)
        if not self.bounded:
            return converted
        try:
            return msgspec.convert(converted, self.annotation, strict=False)
        except msgspec.ValidationError as error:
            message = str(error)[:1].lower() + str(error)[1:]
            return walk.miss(at, f"`{spell(at)}` does not fit: {message}, not {describe(value)}")

    def takes(self, value: Any) -> bool:
        return self.base.takes(value)

    def written(self, value: Any, raw: str | None) -> Any:
        return self.base.written(value, raw)

    def schema(self) -> dict[str, Any]:
        return self.base.schema()

    def parts(self) -> Sequence[ArgumentType]:
        return (self.base,)

    def inner(self, key: str | int) -> ArgumentType | None:
        return self.base.inner(key)

    @property
    def is_expression(self) -> bool:
        return self.base.is_expression

    @property
    def is_closed(self) -> bool:
        return self.base.is_closed

    @property
    def names(self) -> Name | None:
        return self.base.names

    @property
    def stays_written(self) -> bool:
        return self.base.stays_written

    def key_kind(self) -> ArgumentType | None:
        return self.base.key_kind()
