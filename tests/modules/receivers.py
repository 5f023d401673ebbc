"""Receivers of notices that behave as the public services document: they validate and remember."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

from tests.modules.conftest import Answer, Request

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


class PagerDuty:
    """Events API v2: 202, or 400 with what is wrong; alerts are one a dedup_key."""

    def __init__(self) -> None:
        self.alerts: dict[str, list[dict[str, Any]]] = {}
        self.overloaded = 0
        """So many events are turned away, each with the wish to be left alone for a second."""

    def __call__(self, request: Request) -> Answer:
        assert (request.method, request.path) == ("POST", "/v2/enqueue")
        if self.overloaded:
            self.overloaded -= 1
            return 429, {"status": "throttle exceeded"}, {"Retry-After": "1"}
        event = request.json()
        errors = self._errors(event)
        if errors:
            message = "Event object is invalid"
            return 400, {"status": "invalid event", "message": message, "errors": errors}
        self.alerts.setdefault(event["dedup_key"], []).append(event)
        return 202, {
            "status": "success",
            "message": "Event processed",
            "dedup_key": event["dedup_key"],
        }

    def _errors(self, event: dict[str, Any]) -> list[str]:
        errors = []
        if event.get("routing_key") != ROUTING_KEY:
            errors.append("Invalid routing key")
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            errors.append("'event_action' is missing or not valid")
        if len(event.get("dedup_key", "")) > 255:
            errors.append("'dedup_key' is too long")
        if event.get("event_action") == "trigger":
            payload = event.get("payload", {})
            for field in ("summary", "source", "severity"):
                if not payload.get(field):
                    errors.append(f"'payload.{field}' is missing or blank")
            if len(payload.get("summary", "")) > 1024:
                errors.append("'payload.summary' is too long")
            if payload.get("severity") not in ("critical", "error", "warning", "info"):
                errors.append("'payload.severity' is not valid")
        return errors


class Slack:
    """An incoming webhook: the word ok, or what is wrong as plain text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, request: Request) -> Answer:
        if request.path != "/services/T0/B0/XXXX":
            return 403, "invalid_token"
        if request.headers.get("content-type") != "application/json":
            return 400, "invalid_payload"
        text = request.json().get("text")
        if not text:
            return 400, "no_text"
        self.texts.append(text)
        return 200, "ok"


class Statuspage:
    """Incidents of a page, with their updates, metadata and components."""

    def __init__(self) -> None:
        self.incidents: list[dict[str, Any]] = []
        self.components = {"api": "operational", "web": "operational"}
        self._ids = itertools.count(1)

    def __call__(self, request: Request) -> Answer:
        if request.headers.get("authorization") != "OAuth secret-token":
            return 401, {"error": "Could not authenticate"}
        path = urlsplit(request.path).path
        if not path.startswith("/v1/pages/page-1/incidents"):
            return 404, {"error": "Not found"}
        if request.method == "GET":
            return 200, self.incidents[::-1]
        change = request.json()["incident"]
        known = ("investigating", "identified", "monitoring", "resolved")
        if change["status"] not in known:
            return 422, {"error": ["Status is not included in the list"]}
        for component, status in change.get("components", {}).items():
            assert component in change["component_ids"]
            self.components[component] = status
        if request.method == "POST":
            incident = {"id": f"i{next(self._ids)}", "name": change["name"], "updates": []}
            self.incidents.append(incident)
        else:
            incident = next(one for one in self.incidents if path.endswith(f"/{one['id']}"))
        incident.update(status=change["status"], metadata=change["metadata"])
        incident["updates"].append(change["body"])
        return (201 if request.method == "POST" else 200), incident


class Inbox:
    """A webhook that knows by the key what it has already."""

    def __init__(self) -> None:
        self.notices: dict[str, dict[str, Any]] = {}
        self.status = 200

    def __call__(self, request: Request) -> Answer:
        if self.status == 200:
            key = request.headers["idempotency-key"]
            self.notices.setdefault(key, {**request.json(), "headers": request.headers})
        return self.status, {"status": self.status}
