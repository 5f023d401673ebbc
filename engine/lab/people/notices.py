"""What the receivers of notices accept, and how they answer: pure functions of what arrived.

After the public descriptions of Slack's incoming webhooks, PagerDuty's Events API v2 and
Statuspage's REST API, as far as notices of a deployment use them.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

PAGERDUTY_ACTIONS = ("trigger", "acknowledge", "resolve")
PAGERDUTY_SEVERITIES = ("critical", "error", "warning", "info")
COMPONENT_STATES = (
    "operational",
    "under_maintenance",
    "degraded_performance",
    "partial_outage",
    "major_outage",
    "",
)
INCIDENT_STATES = (
    "investigating",
    "identified",
    "monitoring",
    "resolved",
    "scheduled",
    "in_progress",
    "verifying",
    "completed",
    "postmortem",
)
_ROUTING_KEY_LENGTH = 32


@dataclass(frozen=True)
class Reply:
    """The answer to a message, its text on one line, and the key that tells a repetition."""

    status: int
    body: Any
    summary: str
    key: str = ""


def slack(body: Any) -> Reply:
    """An incoming webhook's reply: `ok`, or a word that says what is wrong."""
    if not isinstance(body, dict):
        return Reply(400, "invalid_payload", str(body))
    text = body.get("text") or _first_text(body.get("blocks"))
    if not text and not body.get("attachments"):
        return Reply(400, "no_text", "")
    return Reply(200, "ok", str(text or _first_text(body["attachments"])))


def pagerduty(body: Any) -> Reply:
    """Events API v2: accepted with its dedup key, or every error of the event."""
    if not isinstance(body, dict):
        return _invalid_event(["The request body is not a JSON object"], str(body))
    errors = _pagerduty_errors(body)
    payload = body.get("payload")
    summary = str(payload.get("summary", "")) if isinstance(payload, dict) else ""
    summary = " ".join(filter(None, (str(body.get("event_action", "")), summary)))
    if errors:
        return _invalid_event(errors, summary)
    sender_key = str(body.get("dedup_key") or "")
    key = sender_key or secrets.token_hex(16)
    answer = {"status": "success", "message": "Event processed", "dedup_key": key}
    # The same incident may be triggered, acknowledged and resolved: three events, no repetition.
    return Reply(202, answer, summary, f"{sender_key}/{body['event_action']}" if sender_key else "")


def _pagerduty_errors(event: dict[str, Any]) -> list[str]:
    errors = []
    key, action = event.get("routing_key"), event.get("event_action")
    if not isinstance(key, str) or not key:
        errors.append("'routing_key' is missing or blank")
    elif len(key) != _ROUTING_KEY_LENGTH:
        errors.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if action not in PAGERDUTY_ACTIONS:
        errors.append("'event_action' is missing or not one of " + ", ".join(PAGERDUTY_ACTIONS))
    elif action != "trigger" and not event.get("dedup_key"):
        errors.append("'dedup_key' is missing or blank")
    elif action == "trigger":
        errors += _payload_errors(event.get("payload"))
    return errors


def _payload_errors(payload: Any) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing or not an object"]
    errors = [
        f"'payload.{name}' is missing or blank"
        for name in ("summary", "source", "severity")
        if not isinstance(payload.get(name), str) or not payload[name]
    ]
    if payload.get("severity") and payload["severity"] not in PAGERDUTY_SEVERITIES:
        known = ", ".join(PAGERDUTY_SEVERITIES)
        errors.append(f"'payload.severity' is invalid (must be one of: {known})")
    return errors


def _invalid_event(errors: list[str], summary: str) -> Reply:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    return Reply(400, body, summary)


def statuspage(
    method: str,
    target: str,
    body: Any,
    *,
    authorized: bool,
    incidents: dict[str, dict[str, Any]],
) -> Reply:
    """`/pages/P/incidents[/I]` and `/pages/P/components/C`; `incidents` is kept up to date."""
    if not authorized:
        return Reply(401, {"error": "Could not authenticate"}, target)
    match target.split("/"):
        case ["pages", _, "incidents"] if method == "GET":
            return Reply(200, list(incidents.values()), "")
        case ["pages", _, "incidents"] if method == "POST":
            return _incident(body, "", incidents, 201)
        case ["pages", _, "incidents", identifier] if method in ("PATCH", "PUT"):
            if identifier not in incidents:
                return Reply(404, {"error": "Not found"}, target)
            return _incident(body, identifier, incidents, 200)
        case ["pages", _, "components", identifier] if method in ("PATCH", "PUT"):
            return _component(body, identifier)
        case _:
            return Reply(404, {"error": "Not found"}, target)


def _incident(
    body: Any, identifier: str, incidents: dict[str, dict[str, Any]], status: int
) -> Reply:
    incident = body.get("incident") if isinstance(body, dict) else None
    if not isinstance(incident, dict):
        return Reply(422, {"error": ["incident is missing"]}, "")
    known = incidents.get(identifier, {"status": "investigating"})
    merged = {**known, **incident}
    summary = f"{merged.get('name', '')}: {merged['status']}"
    if not merged.get("name"):
        return Reply(422, {"error": ["Name can't be blank"]}, summary)
    if merged["status"] not in INCIDENT_STATES:
        return Reply(422, {"error": ["Status is not included in the list"]}, summary)
    merged["id"] = identifier or hashlib.sha256(secrets.token_bytes(8)).hexdigest()[:12]
    incidents[merged["id"]] = merged
    return Reply(status, merged, summary)


def _component(body: Any, identifier: str) -> Reply:
    component = body.get("component") if isinstance(body, dict) else None
    state = component.get("status", "") if isinstance(component, dict) else None
    if state is None or state not in COMPONENT_STATES:
        return Reply(422, {"error": ["Status is not included in the list"]}, identifier)
    return Reply(200, {"id": identifier, "status": state}, f"{identifier}: {state}")


def webhook(body: Any) -> Reply:
    """Whatever comes is taken; its text is looked for where such messages have one."""
    key = ""
    text: Any = body
    if isinstance(body, dict):
        key = str(body.get("dedup_key") or body.get("idempotency_key") or "")
        words = ("text", "message", "summary", "title", "subject")
        text = next((body[word] for word in words if body.get(word)), "")
    return Reply(200, {"ok": True}, str(text), key)


def _first_text(blocks: Any) -> str:
    """The first text in Slack's nested blocks or attachments."""
    if isinstance(blocks, str):
        return blocks
    if isinstance(blocks, dict):
        blocks = [blocks.get(name) for name in ("text", "fallback", "pretext", "title", "fields")]
    for block in blocks if isinstance(blocks, list) else []:
        text = _first_text(block)
        if text:
            return text
    return ""
