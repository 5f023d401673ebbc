"""Reads a file into structs by their own types: every problem with its place, all at once.

A struct's fields are the keys, their types say what a key takes. What the types mean:

::

    Duration        90s, 5m, 1h30m or a number of seconds
    Condition       an expression without braces; whoever reads the struct checks its names
    str             text; plain numbers and booleans count as what was written
    Literal[…]      one of these words
    dict, list      of anything here; `Any` is taken as it is
    A | B           a struct where a mapping stands, else the other
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import msgspec

from engine.loader.fields import Fields
from engine.loader.problems import Problems
from engine.loader.source import Map, Seq, Source, Spot
from engine.registry import describe
from engine.registry.types import as_written, plain
from engine.text import did_you_mean
from engine.units import parse_duration

Duration: TypeAlias = Annotated[float, msgspec.Meta(title="duration")]
"""Seconds, written as people write them."""

Condition: TypeAlias = Annotated[str, msgspec.Meta(title="expression")]
"""An expression without braces."""

S = TypeVar("S", bound=msgspec.Struct)

_NOTHING: Any = object()


class StructReader:
    """Reads structs from one file.

    Args:
        source: the file.
        problems: where to note what does not fit.
    """

    def __init__(self, source: Source, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self._maps: dict[int, tuple[msgspec.Struct, Map]] = {}

    def read(self, kind: type[S], map: Map, what: str) -> S | None:
        """One struct; None, and problems, where something is missing or does not fit."""
        fields = Fields(map, self.source, self.problems)
        known = {each.encode_name: each for each in msgspec.structs.fields(kind)}
        fields.unknown_keys(known, what)
        values: dict[str, Any] = {}
        whole = True
        for key, field in known.items():
            if key in map:
                value = self._value(field.type, map[key], fields, key)
                whole &= value is not _NOTHING
                values[field.name] = value
            elif field.required:
                fields.problem(map.at, f"{what} lacks `{key}`")
                whole = False
        if not whole:
            return None
        try:
            made = kind(**values)
        except ValueError as error:
            fields.problem(map.at, f"{what}: {error}")
            return None
        self._maps[id(made)] = (made, map)
        return made

    def map_of(self, made: msgspec.Struct) -> Map:
        """The mapping that a struct was read from."""
        return self._maps[id(made)][1]

    def place(self, made: msgspec.Struct, key: str = "") -> Spot:
        """Where a struct that was read begins, or where the value of one of its keys stands."""
        map = self.map_of(made)
        return map.value_at(key) if key else map.at

    def problem(
        self, made: msgspec.Struct, key: str, message: str, suggestion: str = "", fragment: str = ""
    ) -> None:
        """Note a problem with a value of a struct that was read."""
        at = self.place(made, key)
        if fragment:
            at = self.source.find(at, 1, fragment)
        self.problems.add(self.source.name, at, message, suggestion)

    # -- one value --------------------------------------------------------------------------------
    def _value(self, kind: Any, value: Any, fields: Fields, key: str) -> Any:
        """The value as its type wants it; _NOTHING, and a problem, if it does not fit."""
        at, raw = fields.map.value_at(key), fields.raw(key)
        return self._fit(kind, value, raw, at, f"`{key}`")

    def _fit(self, kind: Any, value: Any, raw: str | None, at: Spot, what: str) -> Any:
        title = ""
        if get_origin(kind) is Annotated:
            kind, *marks = get_args(kind)
            title = next((m.title for m in marks if isinstance(m, msgspec.Meta) and m.title), "")
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._one_of(get_args(kind), value, raw, at, what)
        if title == "duration":
            seconds = parse_duration(value)
            if seconds is None:
                return self._wrong(at, what, "a duration such as 90s, 5m or 1h30m", value)
            return seconds
        if origin is Literal:
            return self._word(get_args(kind), value, raw, at, what)
        if origin in (list, tuple):
            return self._list(get_args(kind)[0], value, at, what)
        if origin is dict:
            return self._table(get_args(kind)[1], value, at, what)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if not isinstance(value, Map):
                return self._wrong(at, what, "a mapping", value)
            made = self.read(kind, value, what)
            return _NOTHING if made is None else made
        return self._plain(kind, value, raw, at, what)

    def _plain(self, kind: Any, value: Any, raw: str | None, at: Spot, what: str) -> Any:
        if kind is Any:
            return as_written(plain(value), raw)
        if kind is str:
            if isinstance(value, str) or raw is not None:
                return value if isinstance(value, str) else raw
            return self._wrong(at, what, "text", value)
        if kind is bool:
            return value if isinstance(value, bool) else self._wrong(at, what, "yes or no", value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is int:
            whole = number and float(value).is_integer()
            return int(value) if whole else self._wrong(at, what, "a whole number", value)
        return float(value) if number else self._wrong(at, what, "a number", value)

    def _one_of(
        self, kinds: tuple[Any, ...], value: Any, raw: str | None, at: Spot, what: str
    ) -> Any:
        if value is None and type(None) in kinds:
            return None
        wanted = [each for each in kinds if each is not type(None)]
        for each in wanted:
            if len(wanted) == 1 or _suits(each, value):
                return self._fit(each, value, raw, at, what)
        return self._fit(wanted[-1], value, raw, at, what)

    def _word(
        self, words: tuple[str, ...], value: Any, raw: str | None, at: Spot, what: str
    ) -> Any:
        text = value if isinstance(value, str) else raw
        if text in words:
            return text
        hint = did_you_mean(str(text), words, what="there are")
        self.problems.add(self.source.name, at, f"{what} is one word of a few, not {text!r}", hint)
        return _NOTHING

    def _list(self, kind: Any, value: Any, at: Spot, what: str) -> Any:
        if not isinstance(value, Seq):
            return self._wrong(at, what, "a list", value)
        raws = value.raws or {}
        made = [
            self._fit(kind, each, raws.get(index), value.item_at(index), f"an entry of {what}")
            for index, each in enumerate(value)
        ]
        return _NOTHING if any(each is _NOTHING for each in made) else made

    def _table(self, kind: Any, value: Any, at: Spot, what: str) -> Any:
        if not isinstance(value, Map):
            return self._wrong(at, what, "a mapping", value)
        raws = value.raws or {}
        made = {
            key: self._fit(kind, each, raws.get(key), value.value_at(key), f"`{key}` in {what}")
            for key, each in value.items()
        }
        return _NOTHING if any(each is _NOTHING for each in made.values()) else made

    def _wrong(self, at: Spot, what: str, wanted: str, value: Any) -> Any:
        said = f"{what} wants {wanted}, not {describe(value)}"
        self.problems.add(self.source.name, at, said)
        return _NOTHING


def _suits(kind: Any, value: Any) -> bool:
    """Whether a value has the form of a type, whatever is in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return isinstance(value, Map)
    origin = get_origin(kind) or kind
    if origin is dict:
        return isinstance(value, Map)
    if origin is list:
        return isinstance(value, Seq)
    return not isinstance(value, Map | Seq)


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a file that is read into such a struct, for editors."""
    schema: dict[str, Any] = msgspec.json.schema(kind)
    for each in _nodes(schema):
        if each.get("title") == "duration":
            each["type"] = ["string", "number"]
    return schema


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _nodes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _nodes(each)
