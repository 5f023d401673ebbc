"""Notices on a Statuspage: incidents that remember which updates they got, component states.

The page is asked before anything is created: an incident's metadata holds its name and the keys
of the updates that were sent, so an update is never posted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.module_api import Context, Failed, Refused, Unreachable
from modules._http import client as http_client
from modules._http.tls import Tls

_STATES = {
    "operational": "operational",
    "degraded": "degraded_performance",
    "down": "major_outage",
    "partial_outage": "partial_outage",
    "under_maintenance": "under_maintenance",
}
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


def send(ctx: Context, settings: Mapping[str, Any], update: Update) -> bool:
    """Create or update the incident; whether it has this update already."""
    found = _find(ctx, settings, update.incident or update.key)
    sent = _sent(found)
    if update.key in sent:
        return True
    incident: dict[str, Any] = {
        "body": update.body,
        "status": update.status or ("investigating" if found is None else found["status"]),
        "metadata": {
            "ce_run": {"incident": update.incident or update.key, "sent": [*sent, update.key]}
        },
    }
    components = [str(one) for one in settings.get("components") or []]
    if update.component_status:
        incident["components"] = dict.fromkeys(components, _STATES[update.component_status])
        incident["component_ids"] = components
    with ctx.fence():
        if found is None:
            incident["name"] = update.name
            incident["impact_override"] = _IMPACT[update.severity]
            _call(ctx, settings, "POST", "incidents", {"incident": incident})
        else:
            _call(ctx, settings, "PATCH", f"incidents/{found['id']}", {"incident": incident})
    return False


def has(ctx: Context, settings: Mapping[str, Any], key: str, incident: str) -> bool:
    """Whether the page has this update."""
    return key in _sent(_find(ctx, settings, incident or key))


def _sent(incident: Mapping[str, Any] | None) -> list[str]:
    return list(_ours(incident).get("sent", [])) if incident else []


def _ours(incident: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (incident.get("metadata") or {}).get("ce_run")
    return found if isinstance(found, Mapping) else {}


def _find(ctx: Context, settings: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The incident of that name; the newest hundred are looked through."""
    listed = _call(ctx, settings, "GET", "incidents?limit=100", None)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise Failed("Statuspage did not answer with a list of incidents", hint="check `url`")
    return next((one for one in listed if _ours(one).get("incident") == name), None)


def _call(ctx: Context, settings: Mapping[str, Any], method: str, path: str, body: Any) -> Any:
    base = str(settings.get("url") or "https://api.statuspage.io/v1").rstrip("/")
    url = f"{base}/pages/{settings['page']}/{path}"
    options = {} if body is None else {"json": body}
    answer = http_client.request(
        ctx,
        method,
        url,
        headers={"Authorization": f"OAuth {settings['token']}"},
        tls=Tls(settings.get("verify", True), settings.get("ca", ""), "statuspage of notify"),
        timeout=float(settings.get("patience") or http_client.TIMEOUT),
        what="Statuspage",
        **options,
    )
    if answer.status in (200, 201):
        return answer.json()
    message = f"Statuspage answered {method} {path.partition('?')[0]} with status {answer.status}"
    if answer.status in (420, 429) or answer.status >= 500:
        later = answer.retry_after
        raise Unreachable(
            message,
            hint="try again later (`retry`)",
            evidence=answer.lines(),
            data={} if later is None else {"retry_after": later},
        )
    if answer.status in (401, 403, 404):
        raise Refused(message, hint="check `page` and `token`", evidence=answer.lines())
    raise Failed(message, evidence=answer.lines())
