"""What clients send in, made into objects that can be worked with, or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from engine.production.cluster.decoding import check_applied, clean, refuse_unknown
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import ApiError, FieldError, bad_request, quoted
from engine.production.cluster.objects.resources import Resource


@dataclass(frozen=True)
class WriteOptions:
    """How a write is meant. `warnings` collects what the client should be told."""

    manager: str
    dry_run: bool = False
    force: bool = False
    validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    warnings: list[str] = field(default_factory=list)


def read(resource: Resource, version: str, obj: Any, options: WriteOptions) -> Obj:
    """A cleaned copy of what a client sent, which must be of the right kind."""
    if not isinstance(obj, dict):
        raise bad_request(f"the object provided is not a {resource.kind}")
    _check_kind(resource, version, obj)
    cleaned, unknown = clean(resource, version, obj)
    if unknown and options.validation == "Strict":
        raise refuse_unknown(resource, version, unknown)
    if options.validation == "Warn":
        options.warnings.extend(f'unknown field "{path}"' for path in unknown)
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
        text = msgspec.json.encode(obj).decode()
        wrong = FieldError("FieldValueInvalid", "patch", f"Invalid value: {quoted(text)}: {why}")
        raise refusals.invalid("", "", "", [wrong]) from None


def _check_kind(resource: Resource, version: str, obj: Obj) -> None:
    expected = resource.api_version(version)
    actual = obj.get("apiVersion", expected)
    if actual != expected:
        raise bad_request(
            f"the API version in the data ({actual}) does not match the expected API version "
            f"({expected})"
        )
    kind = obj.get("kind", resource.kind)
    if kind != resource.kind:
        raise bad_request(
            f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
            f"converting ({version}.{kind}) to ({resource.group or 'core'}.{resource.kind}): "
            "unknown conversion"
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
    if not isinstance(document, dict) or not document.get("kind"):
        raise bad_request("Object 'Kind' is missing in the applied configuration")
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
    check_applied(resource, version, config)
    cleaned = read(resource, version, config, options)
    check_name(cleaned, name)
    return cleaned
