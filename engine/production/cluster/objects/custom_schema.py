"""Schemas of custom resources: what a CustomResourceDefinition says that its objects are.

Types, required fields, enumerations, bounds, patterns, defaults and pruning are honoured, in the
words of a real server. Rules in CEL (`x-kubernetes-validations`) are not evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.refusals import (
    FieldError,
    invalid_value,
    not_supported,
    quoted,
    required,
)
from engine.production.cluster.objects.schema import ANY, Type, free_type, type_of

Errors = Iterator[FieldError]

_HEAD = frozenset({"apiVersion", "kind", "metadata"})
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_RULES = "x-kubernetes-validations"
_UNCHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)
_STOPS_RULES = frozenset({"FieldValueRequired", "FieldValueTypeInvalid", "FieldValueNotSupported"})


def schema_of(definition_version: Obj) -> Obj:
    """The schema of one version of a definition; {} if it has none."""
    schema: Obj = (definition_version.get("schema") or {}).get("openAPIV3Schema") or {}
    return schema


# -- defaults and pruning -----------------------------------------------------------------


def fill_in(schema: Obj, value: Any) -> None:
    """Set the defaults of what is missing in `value`, in place."""
    if isinstance(value, dict):
        for name, below in (schema.get("properties") or {}).items():
            if name not in value and "default" in below:
                value[name] = copy_json(below["default"])
            if name in value:
                fill_in(below, value[name])
        further = schema.get("additionalProperties")
        if isinstance(further, dict):
            for name, item in value.items():
                if name not in (schema.get("properties") or {}):
                    fill_in(further, item)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            fill_in(schema["items"], item)


def prune(schema: Obj, value: Any, path: str = "") -> list[str]:
    """Drop what the schema does not know, in place; the paths of what was dropped."""
    dropped: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        further = schema.get("additionalProperties")
        for name in list(value):
            place = f"{path}.{name}" if path else name
            if not path and name in _HEAD:
                continue
            if name in known:
                dropped += prune(known[name], value[name], place)
            elif isinstance(further, dict):
                dropped += prune(further, value[name], place)
            elif not further and not schema.get(_PRESERVE) and _is_closed(schema):
                del value[name]
                dropped.append(place)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            dropped += prune(schema["items"], item, f"{path}[{index}]")
    return dropped


def _is_closed(schema: Obj) -> bool:
    return schema.get("type") == "object" or "properties" in schema


# -- validation -----------------------------------------------------------------------------


def complaints(schema: Obj, obj: Obj) -> list[FieldError]:
    """What is wrong with an object by its schema."""
    body = {name: value for name, value in obj.items() if name not in _HEAD}
    without_head = {
        **schema,
        "required": [n for n in schema.get("required") or () if n not in _HEAD],
    }
    errors = list(_check(without_head, body, ""))
    if any(each.kind in _STOPS_RULES for each in errors) and _has_rules(schema):
        errors.append(
            FieldError("FieldValueInvalid", "<nil>", f"Invalid value: null: {_UNCHECKED}")
        )
    return errors


def _check(schema: Obj, value: Any, path: str) -> Errors:
    if value is None and schema.get("nullable"):
        return
    kind = schema.get("type", "")
    if not _fits(schema, kind, value):
        shown = _kind_of(value)
        detail = f"{path} in body must be of type {kind}: {quoted(shown)}"
        yield FieldError("FieldValueTypeInvalid", path, f"Invalid value: {quoted(shown)}: {detail}")
        return
    if "enum" in schema and value not in schema["enum"]:
        yield not_supported(path, value, [str(each) for each in schema["enum"]])
    yield from _check_bounds(schema, value, path)
    if isinstance(value, dict):
        yield from _check_object(schema, value, path)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _check(schema["items"], item, f"{path}[{index}]")


def _check_object(schema: Obj, value: Obj, path: str) -> Errors:
    for name in schema.get("required") or ():
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    known = schema.get("properties") or {}
    further = schema.get("additionalProperties")
    for name, item in value.items():
        below = known.get(name, further if isinstance(further, dict) else None)
        if below is not None:
            yield from _check(below, item, f"{path}.{name}" if path else name)


def _check_bounds(schema: Obj, value: Any, path: str) -> Errors:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    bounds = (
        ("maximum", number, value, "be less than or equal to {}"),
        ("minimum", number, value, "be greater than or equal to {}"),
        ("maxLength", isinstance(value, str), value, "be at most {} chars long"),
        ("minLength", isinstance(value, str), value, "be at least {} chars long"),
        ("maxItems", isinstance(value, list), value, "have at most {} items"),
        ("minItems", isinstance(value, list), value, "have at least {} items"),
    )
    for name, applies, actual, words in bounds:
        if not applies or name not in schema:
            continue
        size = actual if number else len(actual)
        limit = schema[name]
        if size > limit if name.startswith("max") else size < limit:
            yield invalid_value(path, actual, f"{path} in body should {words.format(limit)}")
    if isinstance(value, str) and "pattern" in schema:
        try:
            fits = re.search(schema["pattern"], value) is not None
        except re.error:
            return  # a pattern of Go's that Python does not read
        if not fits:
            detail = f"{path} in body should match '{schema['pattern']}'"
            yield invalid_value(path, value, detail)


def _fits(schema: Obj, kind: str, value: Any) -> bool:
    if schema.get(_INT_OR_STRING):
        return isinstance(value, int | str) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": whole,
        "number": whole or isinstance(value, float),
    }.get(kind, True)


def _kind_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def _has_rules(schema: Any) -> bool:
    if isinstance(schema, dict):
        return _RULES in schema or any(_has_rules(each) for each in schema.values())
    return isinstance(schema, list) and any(_has_rules(each) for each in schema)


# -- types, for server-side apply -------------------------------------------------------------


def applied_type(schema: Obj) -> Type:
    """The type that an applied configuration is checked against."""
    if not schema.get("properties"):
        return free_type()
    kind = _type(schema)
    head = {"apiVersion": type_of("str"), "kind": type_of("str"), "metadata": type_of("ObjectMeta")}
    return Type(kind.form, kind.name, fields={**kind.fields, **head}, element=kind.element)


def _type(schema: Obj) -> Type:
    if schema.get(_INT_OR_STRING):
        return type_of("intstr")
    kind = schema.get("type")
    if kind == "object":
        fields = {name: _type(each) for name, each in (schema.get("properties") or {}).items()}
        further = schema.get("additionalProperties")
        if isinstance(further, dict) and not fields:
            return Type("map", element=_type(further))
        if schema.get(_PRESERVE) or further or not fields:
            return Type("free", fields=fields, element=ANY)
        return Type("struct", "", fields=fields)
    if kind == "array":
        element = _type(schema["items"]) if isinstance(schema.get("items"), dict) else ANY
        return Type("list", element=element, atomic=True)
    names = {"string": "str", "integer": "int", "boolean": "bool"}
    return type_of(names[kind]) if kind in names else ANY


def definition_complaints(versions: list[Any]) -> Errors:
    """What is wrong with the schemas of a definition: each must be structural at its root."""
    for version in versions:
        schema = schema_of(version) if isinstance(version, dict) else {}
        if schema and not schema.get("type"):
            path = "spec.validation.openAPIV3Schema.type"
            yield required(path, "must not be empty at the root")
