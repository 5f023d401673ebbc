"""From bytes to objects: reading bodies, checking types, dropping what is not a field.

A built-in object is read against its type: a wrong type is refused, an unknown field is dropped
and, as the client wishes, refused or warned about; quantities become canonical. A custom object
is taken as it is, but for its metadata.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.production.cluster import protobuf
from engine.production.cluster.objects import custom_schema, quantity
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.fields import MISSING, dotted, key_element
from engine.production.cluster.objects.refusals import (
    ApiError,
    bad_request,
    go_kind,
    unsupported_media_type,
)
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.schema import Type, schema_for

BODY_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_GO_TYPES = {"int": "int32", "str": "string", "bool": "bool", "time": "v1.Time", "bytes": "[]uint8"}
_SUMMARY_BYTES = 30


def read_body(body: bytes, content_type: str, kind: str) -> Any:
    """The JSON or YAML document in a body that should hold an object of `kind`.

    Raises ApiError: 415 for another media type, 400 for what cannot be read.
    """
    if content_type in ("application/json", ""):
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise _unreadable(body, kind, f"json parse error: {_go_complaint(body)}") from None
    if content_type == "application/yaml":
        return read_yaml(body, kind)
    if content_type == "application/vnd.kubernetes.protobuf":
        return protobuf.decode(body)
    raise unsupported_media_type(BODY_TYPES)


def read_yaml(body: bytes, kind: str) -> Any:
    """A YAML (or JSON) document; JSON is tried first because nearly all of them are."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        import yaml  # only people send YAML

    try:
        loaded = yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return msgspec.to_builtins(loaded, str_keys=True)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else "malformed document"
        raise _unreadable(body, kind, f"yaml: {first}") from None


def read_patch(body: bytes) -> Any:
    """The JSON document of a plain patch. Raises ApiError (400) for what is none."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise bad_request(f"error decoding patch: {_go_complaint(body)}") from None


def _unreadable(body: bytes, kind: str, why: str) -> ApiError:
    shown = body[:_SUMMARY_BYTES].decode(errors="replace") if body[:1] == b"{" else body.hex()
    if not body:
        shown = "<empty>"
    elif len(body) > _SUMMARY_BYTES:
        shown = f"{shown[: _SUMMARY_BYTES * 2]} ..."
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): "
        f"couldn't get version/kind; {why} ({shown})"
    )


def _go_complaint(body: bytes) -> str:
    """What Go's JSON decoder says about a malformed document."""
    text = body.decode(errors="replace")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            return "unexpected end of JSON input"
        complaints = {
            "Expecting property name": "looking for beginning of object key string",
            "Expecting ':'": "after object key",
            "Expecting ','": "after object key:value pair",
            "Extra data": "after top-level value",
            "Invalid control": "in string literal",
        }
        where = next(
            (words for start, words in complaints.items() if error.msg.startswith(start)),
            "looking for beginning of value",
        )
        return f"invalid character {text[error.pos]!r} {where}"
    return "unexpected end of JSON input"


@dataclass
class _Reading:
    """One object being read: what it should be, and what did not belong in it."""

    kind: str
    version: str
    unknown: list[str] = field(default_factory=list)

    def refuse(self, why: str) -> ApiError:
        return bad_request(
            f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {why}'
        )

    def wrong_type(self, value: Any, kind: Type, owner: str, path: str) -> ApiError:
        place = re.sub(r"\[\d+\]", "", path)
        return self.refuse(
            f"json: cannot unmarshal {go_kind(value)} into Go struct field "
            f"{owner}.{place} of type {_go_type(kind)}"
        )


def _go_type(kind: Type) -> str:
    if kind.form in ("list", "keyed", "set") and kind.element is not None:
        return f"[]{_go_type(kind.element)}"
    if kind.form == "map" and kind.element is not None:
        return f"map[string]{_go_type(kind.element)}"
    return _GO_TYPES.get(kind.name, f"v1.{kind.name}")


def clean(resource: Resource, version: str, obj: Obj) -> tuple[Obj, list[str]]:
    """A copy of `obj` as its type allows it, and the paths of the fields that were dropped.

    Raises ApiError (400) for a value of the wrong type.
    """
    reading = _Reading(resource.kind, version)
    if not isinstance(obj.get("metadata", {}), dict):
        raise reading.wrong_type(
            obj["metadata"], schema_for("ObjectMeta"), resource.kind, "metadata"
        )
    cleaned = _clean(obj, schema_for(resource.schema), "", resource.kind, reading)
    cleaned.setdefault("metadata", {})
    if resource.custom:
        schema = resource.schemas.get(version, {})
        reading.unknown += custom_schema.prune(schema, cleaned)
    return cleaned, reading.unknown


def clean_body(kind: str, version: str, obj: Any) -> Obj:
    """What was sent as an object that is not stored, such as DeleteOptions, as its type allows it.

    Raises ApiError (400) for what is none, or a value in it of the wrong type.
    """
    if not isinstance(obj, dict):
        raise bad_request(f"the object provided is not a {kind}")
    cleaned: Obj = _clean(obj, schema_for(kind), "", kind, _Reading(kind, version))
    return cleaned


def refuse_strictly(resource: Resource, version: str, complaints: list[str]) -> ApiError:
    """The answer of strict field validation to unknown fields and doubled keys."""
    why = f"strict decoding error: {', '.join(complaints)}"
    return _Reading(resource.kind, version).refuse(why)


def _clean(value: Any, kind: Type, path: str, owner: str, reading: _Reading) -> Any:
    if kind.form == "scalar":
        return _clean_scalar(value, kind, path, owner, reading)
    if kind.form in ("list", "keyed", "set"):
        return _clean_list(value, kind, path, owner, reading)
    if not isinstance(value, dict):
        if kind.form == "free":
            return value
        raise reading.wrong_type(value, kind, owner, path)
    cleaned: Obj = {}
    for name, item in value.items():
        place = f"{path}.{name}" if path else name
        if kind.form == "struct" and name not in kind.fields:
            reading.unknown.append(place)
        elif kind.form == "free" and name not in kind.fields:
            cleaned[name] = item
        elif item is not None:
            # Go names fields on the way to a wrong value, but not the keys of maps.
            shown = path if kind.form == "map" else place
            cleaned[name] = _clean(item, kind.child(name), shown, kind.name or owner, reading)
        elif kind.form == "map" and kind.child(name).name == "str":
            cleaned[name] = ""
    return cleaned


def _clean_list(value: Any, kind: Type, path: str, owner: str, reading: _Reading) -> list[Any]:
    if not isinstance(value, list):
        raise reading.wrong_type(value, kind, owner, path)
    assert kind.element is not None
    return [
        _clean(item, kind.element, f"{path}[{index}]", owner, reading)
        for index, item in enumerate(value)
    ]


def _clean_scalar(value: Any, kind: Type, path: str, owner: str, reading: _Reading) -> Any:
    name = kind.name
    if name == "any":
        return value
    if name == "quantity":
        return _clean_quantity(value, path, owner, kind, reading)
    number = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "int": number,
        "str": isinstance(value, str),
        "time": isinstance(value, str),
        "bytes": isinstance(value, str),
        "bool": isinstance(value, bool),
        "intstr": number or isinstance(value, str),
    }[name]
    if not fits:
        raise reading.wrong_type(value, kind, owner, path)
    if name == "bytes":
        _check_base64(value, reading)
    return value


def _clean_quantity(value: Any, path: str, owner: str, kind: Type, reading: _Reading) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise reading.wrong_type(value, kind, owner, path)
    try:
        return quantity.canonical(value)
    except ValueError:
        raise reading.refuse(
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from None


def _check_base64(value: str, reading: _Reading) -> None:
    try:
        b64decode(value, validate=True)
    except Base64Error:
        good = 0
        while good + 4 <= len(value) and _is_base64(value[good : good + 4]):
            good += 4
        raise reading.refuse(f"illegal base64 data at input byte {good}") from None


def _is_base64(group: str) -> bool:
    try:
        return bool(b64decode(group, validate=True))
    except Base64Error:
        return False


def check_applied(resource: Resource, version: str, config: Obj) -> None:
    """Refuse an applied configuration that does not fit its type, in apply's own words (500).

    That a client's mistake is answered with 500 is the real server's behaviour.
    """
    kind = schema_for(resource.schema)
    if resource.custom:
        kind = custom_schema.applied_type(resource.schemas.get(version, {}))
    errors = list(_typed_errors(config, kind, ()))
    if not errors:
        return
    metadata = config.get("metadata") or {}
    where = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
    group_version = f"{resource.group}/{version}"
    text = errors[0] if len(errors) == 1 else "errors:\n" + "\n".join(f"  {e}" for e in errors)
    message = (
        f"failed to create typed patch object ({where}; {group_version}, Kind={resource.kind}): "
        f"{text}"
    )
    raise ApiError(500, "", message)


def _typed_errors(value: Any, kind: Type, path: tuple[str, ...]) -> Any:
    if value is None or value is MISSING:
        return
    expected = _mismatch(value, kind)
    if expected:
        shown = _typed_kind(value)
        if expected == "string" and not isinstance(value, (dict, list)):
            shown = f"&value.valueUnstructured{{Value:{str(value).lower()}}}"
        yield f"{dotted(path)}: expected {expected}, got {shown}"
    elif isinstance(value, dict):
        for name, item in value.items():
            below = (*path, f"f:{name}")
            if kind.form == "struct" and name not in kind.fields:
                yield f"{dotted(below)}: field not declared in schema"
            else:
                yield from _typed_errors(item, kind.child(name), below)
    elif isinstance(value, list) and kind.element is not None:
        yield from _typed_list_errors(value, kind, path)


def _typed_list_errors(value: list[Any], kind: Type, path: tuple[str, ...]) -> Any:
    assert kind.element is not None
    seen: set[str] = set()
    for index, item in enumerate(value):
        element = f"v:{index}"
        if kind.form == "keyed":
            if not isinstance(item, dict):
                yield f"{dotted(path)}: element {index}: expected map, got {_typed_kind(item)}"
                continue
            missing = [k for k in kind.keys if k not in item and k not in kind.key_defaults]
            if missing:
                yield (
                    f"{dotted(path)}: element {index}: associative list with keys has an element "
                    f'that omits key field "{missing[0]}" (and doesn\'t have default value)'
                )
                continue
            element = key_element(item, kind)
            if element in seen:
                yield f"{dotted(path)}: duplicate entries for key {dotted((element,))}"
            seen.add(element)
        yield from _typed_errors(item, kind.element, (*path, element))


def _mismatch(value: Any, kind: Type) -> str:
    """What was expected where `value` does not fit `kind`, else nothing."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind.form in ("struct", "map"):
        return "" if isinstance(value, dict) else "map"
    if kind.form in ("list", "keyed", "set"):
        return "" if isinstance(value, list) else "list"
    if kind.name == "int":
        return "" if number else "numeric (int or float)"
    if kind.name in ("str", "time", "bytes"):
        return "" if isinstance(value, str) else "string"
    if kind.name == "bool":
        return "" if isinstance(value, bool) else "boolean"
    return ""


def _typed_kind(value: Any) -> str:
    return {"bool": "bool", "number": "number", "string": "string", "array": "list"}.get(
        go_kind(value), "map"
    )
