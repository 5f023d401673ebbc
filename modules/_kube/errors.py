"""What a cluster's refusals and a broken connection mean, in the engine's words.

A request ends in one of few ways that a runbook can tell apart: it cannot be reached (try
again), it is refused (trying again alone will not help), there is no such object, or it failed.
The server's own words, field by field, are the evidence, without the objects that they quote.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from engine.module_api import ActionError, Failed, Refused, Unreachable
from modules._kube import words as kube_words
from modules._kube.config import Access

_UNAVAILABLE = (429, 502, 503, 504)
_UNTYPED = "failed to create typed patch object"
"""How a server begins to say that a manifest does not fit its kind; its status for that is 500."""

UNPROCESSABLE = "the server rejected our request due to an error in our request"
"""All that a server says of a JSON patch that it could not carry out."""

_REFUSALS = (401, 403, 405, 406, 413, 415, 422)

_LONGEST_PAUSE = 86400


class NotFound(Failed):
    """The server has no such object (or serves no such path)."""


class Forbidden(Refused):
    """We may not do that: or, for a moment, a server that is starting does not know that we may."""


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


def succeeded(status: int) -> bool:
    """Whether a status is a success: as in client-go, anything outside 200 to 206 is not."""
    return 200 <= status <= 206


def retry_after(status: int, header: str, now: datetime) -> int | None:
    """Seconds after which a server that is too busy wants to be asked again; None: not at all.

    The header holds seconds or a date (RFC 9110).
    """
    if status != 429 and status < 500:
        return None
    if header.isdecimal():
        return int(header)
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    # A date counts whole seconds: one that has just passed means soon, not at once.
    return min(_LONGEST_PAUSE, max(1, math.ceil((when - now).total_seconds())))


def refusal(
    status: int,
    data: bytes,
    request: str,
    access: Access,
    *,
    body: object = None,
    location: str = "",
) -> ActionError:
    """The error for an answer that is no success.

    `request` is its method and path, `body` what was sent, `location` where it redirects to.
    """
    answer = _filtered(_status_of(data), request, body)
    message = answer.get("message") or f"HTTP {status}"
    evidence = [f"{request} → {status} {answer.get('reason') or ''}".rstrip(), *_causes(answer)]
    if status < 400:
        return _no_answer(status, location, evidence, access)
    if status == 404:
        return NotFound(message, evidence=evidence)
    if status == 409:
        return _conflict(answer, message, evidence)
    if status == 410:
        return Expired(message, evidence=evidence)
    if status in _UNAVAILABLE:
        return Unreachable(f"the cluster cannot answer now: {message}", evidence=evidence)
    if status == 400:
        return BadRequest(message, evidence=evidence)
    if status in (401, 403):
        return Forbidden(message, hint=_advice(status, message, access), evidence=evidence)
    if status in _REFUSALS or message.startswith(_UNTYPED):
        return Refused(message, hint=_advice(status, message, access), evidence=evidence)
    return Failed(f"the cluster failed: {message}", evidence=evidence)


def _no_answer(status: int, location: str, evidence: list[str], access: Access) -> Failed:
    """Neither success nor error: somebody else answers, such as a sign-in proxy."""
    place = urlsplit(location)
    where = f"{place.scheme}://{place.netloc}{place.path}" if place.netloc else place.path
    if 300 <= status < 400 and location:
        evidence = [*evidence, f"Location: {where}{'?…' if place.query else ''}"]
        message = f"redirects (status {status}) to {where}: what was asked for was not done"
    else:
        message = f"answered with status {status}, which is no success of a Kubernetes API"
    return Failed(
        f"the cluster's address {message}",
        hint=f"is a login page or a proxy in front of {access.server}? "
        f"it is configured by {access.source}",
        evidence=evidence,
    )


def _conflict(status: dict[str, Any], message: str, evidence: list[str]) -> ActionError:
    causes = (status.get("details") or {}).get("causes") or []
    owned = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if owned:
        fields = "; ".join(f"{_manager(cause)} owns {cause.get('field')}" for cause in owned)
        return Refused(
            f"another field manager owns what would be applied: {fields}",
            hint="leave the field out of the manifest, or take it over with "
            "`force_conflicts: true`",
            evidence=evidence,
            data={
                "conflicts": [
                    {"manager": _manager(cause), "field": cause.get("field")} for cause in owned
                ]
            },
        )
    if status.get("reason") == "Conflict":
        return Modified(message, evidence=evidence)
    return Failed(message, evidence=evidence)


def _manager(cause: dict[str, Any]) -> str:
    """``conflict with "kubectl" using apps/v1`` → ``kubectl``."""
    return str(cause.get("message", "")).partition('"')[2].partition('"')[0] or "another manager"


_ADVICE = (
    ("exceeded quota", "a ResourceQuota of the namespace is used up: free some of it or raise it"),
    ("being terminated", "the namespace is being deleted: wait until it is gone and make it anew"),
    ("service account", "a service account is missing: create it, or name one that is there"),
    ("serviceaccount", "a service account is missing: create it, or name one that is there"),
    ("violates PodSecurity", "the namespace's pod security level forbids it: correct the pod"),
    ("admission webhook", "an admission webhook of the cluster says no: its words say why"),
    ("ValidatingAdmissionPolicy", "an admission policy of the cluster says no: its words say why"),
    ("denied the request", "an admission rule of the cluster says no: its words say why"),
    ("maximum ", "a LimitRange of the namespace forbids it: correct requests and limits"),
    ("minimum ", "a LimitRange of the namespace forbids it: correct requests and limits"),
)
"""What a 403 that is no missing right means, by its words; the first that fits counts."""


def _advice(status: int, message: str, access: Access) -> str:
    if status == 401:
        return f"the credentials are not accepted; they come from {access.source}"
    if status == 403:
        if " cannot " in message and "User " in message:
            return _missing_right(access)
        for words, advice in _ADVICE:
            if words in message:
                return advice
        return _missing_right(access)
    if status in (422, 500):
        return "the server's words name the fields to correct"
    return ""


def _missing_right(access: Access) -> str:
    return f"the user of {access.source} lacks the right; a Role and RoleBinding give it"


def _causes(status: dict[str, Any]) -> list[str]:
    details = status.get("details")
    causes = (details.get("causes") if isinstance(details, dict) else None) or []
    return [f"{cause.get('field') or '-'}: {cause.get('message')}" for cause in causes]


def _status_of(data: bytes) -> dict[str, Any]:
    """The Status object of an error; what is not JSON is taken as its message."""
    try:
        status = json.loads(data)
    except ValueError:
        return {"message": " ".join(data.decode(errors="replace").split())[:500]}
    return status if isinstance(status, dict) else {}


def _filtered(status: dict[str, Any], request: str, body: object) -> dict[str, Any]:
    """A Status whose words hold no object and no value of a Secret."""
    secret = kube_words.is_secret(request)
    values = list(kube_words.sent_values(body)) if secret else []

    def clean(text: object) -> str:
        brief = kube_words.brief(str(text), secret=secret)
        return kube_words.without(brief, values)

    result = dict(status)
    if message := status.get("message"):
        result["message"] = clean(message)
    details = status.get("details")
    if isinstance(details, dict) and isinstance(details.get("causes"), list):
        causes = [cause for cause in details["causes"] if isinstance(cause, dict)]
        result["details"] = {
            **details,
            "causes": [{**one, "message": clean(one.get("message"))} for one in causes],
        }
    return result
