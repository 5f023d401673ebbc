"""Notices to Slack, PagerDuty and webhooks: their forms, and their limits.

What is too long for a receiver is shortened and says so: the notice must go out.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from engine.module_api import Context, Failed
from modules._http.response import Response
from modules._notify import posting
from modules._notify.channels import Notice, Target
from modules._notify.transports import PagerDuty, Slack, Webhook

_MARKS = {"critical": "🔴 ", "error": "🟠 ", "warning": "🟡 ", "info": ""}
_SLACK_CHARACTERS = 39000
"""Slack cuts off at 40,000 without a word."""

_PAGER_SUMMARY = 1024
_PAGER_KEY = 255
_PAGER_FIELD = 255
_PAGER_BYTES = 400_000
"""Of the text: the whole event may have 512 KB."""


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters, the last of which says that there was more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shortened_bytes(text: str, most: int) -> str:
    """The beginning of a text that has at most `most` bytes as JSON, and a word of the rest."""
    from json import dumps

    if len(dumps(text, ensure_ascii=False).encode(errors="replace")) <= most:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        size = len(dumps(text[:middle], ensure_ascii=False).encode(errors="replace"))
        low, high = (middle, high) if size <= most else (low, middle - 1)
    return f"{text[:low]}…\n(shortened: {low} of {len(text)} characters)"


def slack(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    """Send to an incoming webhook; it cannot tell whether it had the notice already."""
    assert isinstance(target.settings, Slack)
    mark = _MARKS[notice.severity]
    text = f"{mark}*{_slack_text(notice.subject)}*\n{_slack_text(notice.text)}"
    if len(text) > _SLACK_CHARACTERS:
        # Not in the middle of an entity such as &amp;
        text = re.sub(r"&[a-z]{0,3}$", "", text[:_SLACK_CHARACTERS]) + "\n…"
    answer = posting.post(ctx, target, target.settings.webhook, {"text": text}, patience)
    if answer.status != 200:
        raise posting.refusal(target, answer)
    if reason := _slack_reason(answer):
        raise posting.unconfirmed(target, answer, reason)
    return False


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_reason(answer: Response) -> str:
    """Why a 200 is no success: who speaks as Slack does says ``ok`` in one way or another."""
    if "html" in answer.headers.get("content-type", "") or answer.text.lstrip().startswith("<"):
        return "with a page for people, not as Slack does"
    try:
        document = answer.json()
    except Failed:
        return ""
    if not isinstance(document, dict):
        return ""
    failed = document.get("ok") is False or document.get("success") is False
    return f"it says {str(document.get('error') or 'that it failed')[:100]}" if failed else ""


def pagerduty(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    """Send an event; PagerDuty knows by its key what it has."""
    settings = target.settings
    assert isinstance(settings, PagerDuty)
    becomes = notice.alert or ("resolve" if notice.status == "resolved" else "trigger")
    payload: dict[str, Any] = {
        "summary": shortened(notice.subject, _PAGER_SUMMARY),
        "source": shortened(settings.source, _PAGER_FIELD),
        "severity": notice.severity,
        "timestamp": ctx.now().isoformat(),
        "custom_details": {
            "text": _shortened_bytes(notice.text, _PAGER_BYTES),
            "run": ctx.run_id,
            "step": ctx.step,
        },
    }
    if settings.component:
        payload["component"] = shortened(settings.component, _PAGER_FIELD)
    body = {
        "routing_key": settings.routing_key,
        "event_action": becomes,
        "dedup_key": _pager_key(notice.incident) or posting.key_of(ctx, target),
        "client": "ce-run",
        "payload": payload,
    }
    answer = posting.post(ctx, target, settings.url, body, patience)
    if answer.status != 202:
        raise posting.refusal(target, answer)
    return False


def _pager_key(incident: str) -> str:
    """An incident as a key; a long one is shortened so that it stays its own, and the same."""
    if len(incident) <= _PAGER_KEY:
        return incident
    digest = hashlib.sha256(incident.encode(errors="replace")).hexdigest()[:40]
    return f"{incident[: _PAGER_KEY - 41]}-{digest}"


def webhook(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    """Send to a webhook; it cannot tell whether it had the notice already."""
    assert isinstance(target.settings, Webhook)
    body = {
        "key": posting.key_of(ctx, target),
        "run": ctx.run_id,
        "step": ctx.step,
        "severity": notice.severity,
        "incident": notice.incident,
        "subject": notice.subject,
        "text": notice.text,
        "notices": {
            language: {"subject": one.subject, "text": one.text}
            for language, one in notice.words.items()
        },
    }
    answer = posting.post(ctx, target, target.settings.url, body, patience)
    if not 200 <= answer.status < 300:
        raise posting.refusal(target, answer)
    return False
