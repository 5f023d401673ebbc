"""Notices on a Statuspage: incidents that remember which updates they got, component states.

The page is asked before anything is created: an incident's metadata holds its name and the keys
of the updates that were sent, so an update is never posted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._http import client as http_client
from modules._http.response import Response
from modules._http.tls import Tls
from modules._notify.chat import shortened
from modules._notify.transports import Statuspage

_STATES = {
    "operational": "operational",
    "degraded": "degraded_performance",
    "down": "major_outage",
    "partial_outage": "partial_outage",
    "under_maintenance": "under_maintenance",
}
_NAME, _BODY = 255, 25000
"""Characters that a name and an update may have; what is longer is shortened."""

_IMPACT = {"critical": "critical", "error": "major", "warning": "minor", "info": "none"}


class Update(msgspec.Struct, frozen=True):
    """One update of an incident; `key` is this update's, `incident` what it belongs to."""

    key: str
    incident: str
    name: str
    body: str
    status: str
    component_status: str
    severity: str


def send(ctx: Context, settings: Statuspage, update: Update, patience: float) -> bool:
    """Create or update the incident, with `patience` seconds for each answer; whether it has this
    update already."""
    page = _Page(ctx, settings, patience)
    known = page.find(update.incident or update.key)
    sent = _sent(known)
    if update.key in sent:
        return True
    incident: dict[str, Any] = {
        "body": shortened(update.body, _BODY),
        "status": update.status or ("investigating" if known is None else known["status"]),
        "metadata": {
            "ce_run": {"incident": update.incident or update.key, "sent": [*sent, update.key]}
        },
    }
    if update.component_status:
        state = _STATES[update.component_status]
        incident["components"] = dict.fromkeys(settings.components, state)
        incident["component_ids"] = settings.components
    with ctx.fence():
        if known is None:
            incident["name"] = shortened(update.name, _NAME)
            incident["impact_override"] = _IMPACT[update.severity]
            saved = page.call("POST", "incidents", {"incident": incident})
        else:
            saved = page.call("PATCH", f"incidents/{known['id']}", {"incident": incident})
    if not isinstance(saved, dict) or not saved.get("id"):
        raise Failed("Statuspage did not answer with the incident", hint="check `url`")
    return False


def has(ctx: Context, settings: Statuspage, key: str, incident: str) -> bool:
    """Whether the page has this update."""
    page = _Page(ctx, settings, http_client.TIMEOUT)
    return key in _sent(page.find(incident or key))


def _sent(incident: Mapping[str, Any] | None) -> list[str]:
    return list(_ours(incident).get("sent", [])) if incident else []


def _ours(incident: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (incident.get("metadata") or {}).get("ce_run")
    return found if isinstance(found, Mapping) else {}


class _Page:
    """The API of one page."""

    def __init__(self, ctx: Context, settings: Statuspage, patience: float) -> None:
        self._ctx = ctx
        self._settings = settings
        self._patience = patience

    def find(self, name: str) -> dict[str, Any] | None:
        """The incident of that name; the newest hundred are looked through."""
        listed = self.call("GET", "incidents?limit=100", None)
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise Failed("Statuspage did not answer with a list of incidents", hint="check `url`")
        return next((one for one in listed if _ours(one).get("incident") == name), None)

    def call(self, method: str, path: str, body: Any) -> Any:
        """What it answers to a request; a failure where that is no success."""
        settings = self._settings
        answer = http_client.request(
            self._ctx,
            method,
            f"{settings.url.rstrip('/')}/pages/{settings.page}/{path}",
            headers={"Authorization": f"OAuth {settings.token}"},
            tls=Tls(settings.verify, settings.ca, "statuspage of notify"),
            timeout=self._patience,
            what="Statuspage",
            **http_client.content(body),
        )
        if answer.status in (200, 201):
            return answer.json()
        raise _refusal(answer, f"{method} {path.partition('?')[0]}")


def _refusal(answer: Response, request: str) -> ActionError:
    message = f"Statuspage answered {request} with status {answer.status}"
    if answer.status in (420, 429) or answer.status >= 500:
        later = answer.retry_after
        return Unreachable(
            message,
            hint="try again later (`retry`)",
            evidence=answer.lines(),
            data={} if later is None else {"retry_after": later},
        )
    if answer.status in (401, 403, 404) or answer.is_redirect:
        return Refused(message, hint="check `page` and `token`", evidence=answer.lines())
    return Failed(message, evidence=answer.lines())
