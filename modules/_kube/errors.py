"""What a cluster's refusals and a broken connection mean, in the engine's words.

A request ends in one of few ways that a runbook can tell apart: it cannot be reached (try
again), it is refused (trying again alone will not help), there is no such object, or it failed.
The server's own words, field by field, are the evidence.
"""

from __future__ import annotations

import json
from typing import Any

from engine.module_api import ActionError, Failed, Refused, Unreachable
from modules._kube.config import Access

_UNAVAILABLE = (429, 502, 503, 504)
_UNTYPED = "failed to create typed patch object"
"""How a server begins to say that a manifest does not fit its kind; its status for that is 500."""

UNPROCESSABLE = "the server rejected our request due to an error in our request"
"""All that a server says of a JSON patch that it could not carry out."""

_REFUSALS = (401, 403, 405, 406, 413, 415, 422)


class NotFound(Failed):
    """The server has no such object (or serves no such path)."""


class BadRequest(Refused):
    """The request makes no sense as things are: such as the log of a container that never ran."""


class Modified(Failed):
    """The object was changed by somebody else between our reading and our writing."""


class Expired(Failed):
    """What was asked for is too old for the server to know: list anew and go on from there."""


def unfit(label: str, error: Refused) -> Refused:
    """A JSON patch that does not fit the object; the server does not say which operation."""
    return Refused(
        f"the JSON patch does not fit {label} as it is now: a `test` in it does not hold, or a "
        "path in it leads nowhere",
        hint="compare its operations with the object; somebody else may have changed it meanwhile",
        evidence=error.evidence,
    )


def lost(error: Exception, access: Access) -> ActionError:
    """The error for an exception of the transport."""
    import urllib3

    where = f"the cluster at {access.server}"
    evidence = [f"{type(error).__name__}: {error}", f"configured by {access.source}"]
    if isinstance(error, urllib3.exceptions.SSLError) or "CERTIFICATE_VERIFY" in str(error):
        return Refused(
            f"{where} could not prove that it is the one: its TLS certificate is refused",
            hint="give its authority as `certificate_authority`, or `tls-server-name` in the "
            "kubeconfig; `verify: false` turns the proof off",
            evidence=evidence,
        )
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return Unreachable(
            f"{where} did not answer in time",
            hint=f"one answer may take {access.timeout:g} s (`kubectl.timeout`)",
            evidence=evidence,
        )
    return Unreachable(
        f"{where} cannot be reached",
        hint="check `kubectl` in the inventory, and the network between here and there",
        evidence=evidence,
    )


def retry_after(status: int, header: str) -> int | None:
    """Seconds after which a server that is too busy wants to be asked again; None: not at all."""
    busy = status == 429 or status >= 500
    return int(header) if busy and header.isdecimal() else None


def refusal(status: int, data: bytes, request: str, access: Access) -> ActionError:
    """The error for an answer of 400 or more."""
    said = _status_of(data)
    message = said.get("message") or f"HTTP {status}"
    evidence = [f"{request} → {status} {said.get('reason') or ''}".rstrip(), *_causes(said)]
    if status == 404:
        return NotFound(message, evidence=evidence)
    if status == 409:
        return _conflict(said, message, evidence)
    if status == 410:
        return Expired(message, evidence=evidence)
    if status in _UNAVAILABLE:
        return Unreachable(f"the cluster cannot answer now: {message}", evidence=evidence)
    if status == 400:
        return BadRequest(message, evidence=evidence)
    if status in _REFUSALS or message.startswith(_UNTYPED):
        return Refused(message, hint=_advice(status, access), evidence=evidence)
    return Failed(f"the cluster failed: {message}", evidence=evidence)


def _conflict(said: dict[str, Any], message: str, evidence: list[str]) -> ActionError:
    causes = (said.get("details") or {}).get("causes") or []
    owned = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if owned:
        fields = "; ".join(f"{_manager(cause)} owns {cause['field']}" for cause in owned)
        return Refused(
            f"another field manager owns what would be applied: {fields}",
            hint="leave the field out of the manifest, or take it over with "
            "`force_conflicts: true`",
            evidence=evidence,
            data={
                "conflicts": [
                    {"manager": _manager(cause), "field": cause["field"]} for cause in owned
                ]
            },
        )
    if said.get("reason") == "Conflict":
        return Modified(message, evidence=evidence)
    return Failed(message, evidence=evidence)


def _manager(cause: dict[str, Any]) -> str:
    """``conflict with "kubectl" using apps/v1`` → ``kubectl``."""
    return str(cause.get("message", "")).partition('"')[2].partition('"')[0] or "another manager"


def _advice(status: int, access: Access) -> str:
    if status == 401:
        return f"the credentials are not accepted; they come from {access.source}"
    if status == 403:
        return f"the user of {access.source} lacks the right; a Role and RoleBinding give it"
    if status in (422, 500):
        return "the server's words name the fields to correct"
    return ""


def _causes(said: dict[str, Any]) -> list[str]:
    causes = (said.get("details") or {}).get("causes") or []
    return [f"{cause.get('field') or '-'}: {cause.get('message')}" for cause in causes]


def _status_of(data: bytes) -> dict[str, Any]:
    """The Status object of an error; what is not JSON is taken as its message."""
    try:
        said = json.loads(data)
    except ValueError:
        return {"message": data.decode(errors="replace").strip()[:500]}
    return said if isinstance(said, dict) else {}
