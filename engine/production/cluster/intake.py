"""What clients send in, made into objects that can be worked with, or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from engine.production.cluster.decoding import check_applied, clean, refuse_strictly
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import (
    ApiError,
    FieldError,
    bad_request,
    go_kind,
    quoted,
)
from engine.production.cluster.objects.resources import Resource


@dataclass(frozen=True)
class WriteOptions:
    """How a write is meant. `warnings` collects what the client should be told.

    `doubled` are the complaints about keys that stand twice in the request's body.
    """

    manager: str
    dry_run: bool = False
    force: bool = False
    validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    doubled: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


_HEAD = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; '
    'Kind string "json:\\"kind,omitempty\\"" }'
)


def read(resource: Resource, version: str, obj: Any, options: WriteOptions) -> Obj:
    """A cleaned copy of what a client sent, which must be of the right kind."""
    if not isinstance(obj, dict):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): couldn't get "
            f"version/kind; json parse error: json: cannot unmarshal {go_kind(obj)} into Go value "
            f"of type {_HEAD} ({quoted(obj).encode()[:30].hex()})"
        )
    _check_kind(resource, version, obj)
    cleaned, unknown = clean(resource, version, obj)
    complaints = [*options.doubled, *(f'unknown field "{path}"' for path in unknown)]
    if complaints and options.validation == "Strict":
        raise refuse_strictly(resource, version, complaints)
    if options.validation == "Warn":
        options.warnings.extend(complaints)
    return {
        "kind": resource.kind,
        "apiVersion": resource.api_version(version),
        "metadata": cleaned.pop("metadata"),
        **{name: v for name, v in cleaned.items() if name not in ("kind", "apiVersion")},
    }


def read_patched(resource: Resource, version: str, obj: Any, options: WriteOptions) -> Obj:
    """As `read`, of what a patch made: a mistake is answered with 422 and the whole object.

    So does a real server, and so a slip in a patch of a Secret brings the Secret to light.
    """
    try:
        return read(resource, version, obj, options)
    except ApiError as error:
        _, cannot, why = str(error).partition(f"cannot be handled as a {resource.kind}: ")
        if not cannot:
            raise
        shown = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), **obj}
        text = msgspec.json.encode(shown).decode()
        wrong = FieldError("FieldValueInvalid", "patch", f"Invalid value: {quoted(text)}: {why}")
        raise refusals.invalid("", "", "", [wrong]) from None


def _check_kind(resource: Resource, version: str, obj: Obj) -> None:
    expected = resource.api_version(version)
    actual = obj.get("apiVersion", expected)
    kind = obj.get("kind", resource.kind)
    if kind != resource.kind:
        own = str(actual).rpartition("/")[2]
        raise bad_request(
            f'{kind} in version "{own}" cannot be handled as a {resource.kind}: '
            f"converting ({own}.{kind}) to ({resource.group or 'core'}.{resource.kind}): "
            "unknown conversion"
        )
    if actual != expected:
        raise bad_request(
            f"the API version in the data ({actual}) does not match the expected API version "
            f"({expected})"
        )


def check_name(obj: Obj, name: str) -> None:
    """An object that is replaced cannot take another name; one without a name gets it."""
    actual = obj["metadata"].setdefault("name", name)
    if actual != name:
        raise bad_request(
            f"the name of the object ({actual}) does not match the name on the URL ({name})"
        )


def read_config(
    resource: Resource,
    version: str,
    namespace: str,
    name: str,
    document: Any,
    options: WriteOptions,
) -> Obj:
    """An applied configuration, checked, with the name and namespace of the request."""
    if not options.manager:
        error = refusals.required("fieldManager", "is required for apply patch")
        raise refusals.invalid("PatchOptions", "meta.k8s.io", "", [error])
    if not isinstance(document, dict):
        raise bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot "
            f"unmarshal {go_kind(document)} into Go value of type map[string]interface {{}}"
        )
    if not document.get("kind"):
        own = str(document.get("apiVersion") or "/")
        raise bad_request(f"invalid object type: {own if '/' in own else f'/{own}'}, Kind=")
    expected = resource.api_version(version)
    if document.get("apiVersion") != expected:
        raise bad_request(
            "Incorrect version specified in apply patch. Specified patch version: "
            f"{document.get('apiVersion', '')}, expected: {expected}"
        )
    own_metadata = document.get("metadata") or {}
    if not isinstance(own_metadata, dict):
        raise bad_request("metadata of the applied configuration must be an object")
    metadata = {"name": name, **own_metadata}
    if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    config = {**document, "metadata": metadata}
    check_applied(resource, version, document)
    cleaned = read(resource, version, config, options)
    check_name(cleaned, name)
    return cleaned
