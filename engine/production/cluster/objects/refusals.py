"""The API's way to say no: Status objects, letter for letter as a real server words them.

Every refusal anywhere in the server is an `ApiError`; the HTTP layer only writes it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from engine.production.cluster.objects.common import Obj

Complaint = Literal[
    "FieldValueInvalid",
    "FieldValueRequired",
    "FieldValueDuplicate",
    "FieldValueNotSupported",
    "FieldValueForbidden",
    "FieldValueNotFound",
    "FieldValueTooLong",
    "FieldValueTypeInvalid",
]


class ApiError(Exception):
    """A refusal. `body` is the Status object, `code` the HTTP status it travels with."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.body = failure(code, reason, message, details)


class NoSuchPath(Exception):
    """Nothing is served at this path at all: a plain-text 404, not a Status."""


@dataclass(frozen=True)
class FieldError:
    """One complaint about one field of an object, as 422 answers list them."""

    kind: Complaint
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def quoted(value: Any) -> str:
    """A value as error messages show it: JSON, maps with sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    """A field whose value is wrong."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {quoted(value)}: {detail}")


def required(field: str, detail: str = "") -> FieldError:
    """A field that has to be there."""
    return FieldError(
        "FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value"
    )


def duplicate(field: str, value: Any) -> FieldError:
    """A value that stands twice where it may stand once."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {quoted(value)}")


def not_supported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    """A value that is none of those allowed."""
    names = ", ".join(quoted(name) for name in sorted(allowed))
    return FieldError(
        "FieldValueNotSupported",
        field,
        f"Unsupported value: {quoted(value)}: supported values: {names}",
    )


def field_forbidden(field: str, detail: str) -> FieldError:
    """A field that may not be set."""
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def go_kind(value: Any) -> str:
    """What Go's JSON decoder calls a value."""
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def failure(code: int, reason: str, message: str, details: Obj | None = None) -> Obj:
    """A Status object of a failed request; an empty `reason` is left out as the server does."""
    status: Obj = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        status["reason"] = reason
    if details is not None:
        status["details"] = details
    status["code"] = code
    return status


def deleted(plural: str, group: str, obj: Obj) -> Obj:
    """The Status that answers a deletion which is complete."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            **_details(obj["metadata"]["name"], group, plural),
            "uid": obj["metadata"]["uid"],
        },
    }


def _details(name: str, group: str, kind: str) -> Obj:
    named = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in named.items() if value}


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404 for an object."""
    message = f'{_qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(name, group, plural))


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409 for a name that is taken."""
    message = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(name, group, plural))


def conflict(plural: str, group: str, name: str, why: str = "") -> ApiError:
    """409 for an object that changed meanwhile."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version "
        "and try again"
    )
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, group, plural))


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: every complaint in the message and in details.causes."""
    complaints = list(dict.fromkeys(str(error) for error in errors))
    text = complaints[0] if len(complaints) == 1 else f"[{', '.join(complaints)}]"
    causes = [
        {"reason": error.kind, "message": error.message, "field": error.field} for error in errors
    ]
    return ApiError(
        422,
        "Invalid",
        f'{_qualified(kind, group)} "{name}" is invalid: {text}',
        {**_details(name, group, kind), "causes": causes},
    )


def immutable_uid(kind: str, group: str, name: str, uid: str) -> ApiError:
    """422 for a patch that would give an object another uid; a real server says it twice."""
    error = invalid_value("metadata.uid", uid, "field is immutable")
    return invalid(kind, group, name, [error, error])


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """403 for an object."""
    named = f' "{name}"' if name else ""
    message = f"{_qualified(plural, group)}{named} is forbidden: {why}"
    return ApiError(403, "Forbidden", message, _details(name, group, plural))


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no token, or a wrong one."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def invalid_options(kind: str, *errors: FieldError) -> ApiError:
    """422: what a request says about itself makes no sense; `kind` is such as "PatchOptions"."""
    return invalid(kind, "meta.k8s.io", "", errors)


def unknown_resource() -> ApiError:
    """404: there are no such resources."""
    message = "the server could not find the requested resource"
    return ApiError(404, "NotFound", message, {})


def method_not_allowed() -> ApiError:
    """405: not with this method."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: not in this format."""
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted)
    )
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(offered: Sequence[str]) -> ApiError:
    """406: no answer is to be had in a format that the client takes."""
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(offered)}"
    return ApiError(406, "NotAcceptable", message, {})


def unsupported_patch() -> ApiError:
    """415 for a patch of a form that there is not."""
    return ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def unprocessable() -> ApiError:
    """What a JSON patch gets whose test or path does not hold."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, {})


def too_large_version(asked: int, current: int) -> ApiError:
    """504: the version that was asked for has not come yet; a client waits a second and retries."""
    message = f"Too large resource version: {asked}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return ApiError(504, "Timeout", f"Timeout: {message}", details)


def expired(message: str) -> ApiError:
    """410: the history does not reach back so far."""
    return ApiError(410, "Expired", message)
