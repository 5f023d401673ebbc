"""From annotations of Python to kinds of arguments."""

from __future__ import annotations

import collections.abc
import types
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.module_api import Check, FileName, Name
from engine.registry.containers import Constrained, Either, Field, Many, MappingType, Row, Structure
from engine.registry.types import (
    Anything,
    ArgumentType,
    Boolean,
    Choice,
    DurationSeconds,
    ExpressionText,
    FileNameText,
    FilePath,
    Integer,
    NameText,
    Nothing,
    Number,
    TemplateText,
    Text,
)

_SCALARS: dict[Any, ArgumentType] = {
    Any: ArgumentType(),
    object: ArgumentType(),
    str: Text(),
    int: Integer(),
    float: Number(),
    bool: Boolean(),
    None: Nothing(),
    types.NoneType: Nothing(),
    Path: FilePath(below=False),
}
_MARKED: dict[str, ArgumentType] = {
    "duration": DurationSeconds(),
    "file": FilePath(below=True),
    "expression": ExpressionText(),
    "condition": ExpressionText(closed=True),
    "template": TemplateText(),
    "value": Anything(),
}
_LISTS: dict[Any, collections.abc.Callable[[list[Any]], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    set: set,
    frozenset: frozenset,
}


def kind_of(annotation: Any) -> ArgumentType:
    """What an annotation is; TypeError, naming it, for one that no runbook could fill."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _annotated(annotation, arguments[0], annotation.__metadata__)
    if origin is Literal:
        return Choice(arguments)
    if origin is typing.Union or origin is types.UnionType:
        return Either([kind_of(each) for each in arguments])
    if origin in (typing.Required, typing.NotRequired):
        return kind_of(arguments[0])
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return Row([kind_of(each) for each in arguments])
    if origin is tuple:
        return Many(kind_of(arguments[0] if arguments else Any), tuple)
    if origin in _LISTS:
        return Many(kind_of(arguments[0] if arguments else Any), _LISTS[origin])
    if origin in (dict, collections.abc.Mapping):
        key, item = arguments or (Any, Any)
        return MappingType(kind_of(item), kind_of(key))
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _struct(origin)
    if typing.is_typeddict(origin):
        return _typed_dict(origin)
    raise TypeError(f"no runbook can give a value for the annotation {annotation!r}")


def _annotated(annotation: Any, inner: Any, metadata: tuple[Any, ...]) -> ArgumentType:
    for mark in metadata:
        if isinstance(mark, str) and mark in _MARKED:
            return _MARKED[mark]
        if isinstance(mark, Name):
            return NameText(mark)
        if isinstance(mark, FileName):
            return FileNameText(mark)
    kind = kind_of(inner)
    if any(isinstance(mark, msgspec.Meta | Check) for mark in metadata):
        return Constrained(kind, annotation)
    return kind


def _struct(struct: type[msgspec.Struct]) -> ArgumentType:
    hints = typing.get_type_hints(struct, include_extras=True)
    fields = {
        field.encode_name.rstrip("_") or field.encode_name: Field(
            field.name, kind_of(hints[field.name]), field.required
        )
        for field in msgspec.structs.fields(struct)
    }
    return Structure(struct, fields)


def _typed_dict(table: Any) -> ArgumentType:
    hints = typing.get_type_hints(table, include_extras=True)
    required = table.__required_keys__
    fields = {
        name.rstrip("_"): Field(name, kind_of(hint), name in required)
        for name, hint in hints.items()
    }
    return Structure(dict, fields)
