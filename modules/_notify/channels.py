"""Channels of the inventory, and how a notice gets to each kind of receiver.

Every notice carries the same key in every attempt and after a resume. `deliver` says whether
the receiver had it already; `probe` whether it is known to have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._http import client as http_client
from modules._http.response import Response
from modules._http.tls import Tls
from modules._notify import mail as notify_mail
from modules._notify import statuspage as notify_statuspage
from modules._notify.text import Words

_SIMULATED_LATENCY = 0.1

Severity = Literal["critical", "error", "warning", "info"]
Answer = Literal["done", "not_done", "unknown"]


class Target(msgspec.Struct, frozen=True):
    """One receiver: its channel's name (with the transport, if the channel has several)."""

    name: str
    transport: str
    settings: dict[str, Any]
    languages: tuple[str, ...]
    broken: Any = None
    """The ActionError that its settings cannot be had by, for example for a missing secret."""

    def __str__(self) -> str:
        return f"{self.name} ({self.transport})"

    @property
    def deduplicates(self) -> bool:
        """Whether the receiver recognises a notice that it has already."""
        return self.settings.get("deduplicates") is True or self.transport in (
            "pagerduty",
            "console",
        )


class Notice(msgspec.Struct, frozen=True):
    """What is sent to one receiver."""

    words: dict[str, Words]
    severity: str
    incident: str
    status: str
    component_status: str
    alert: str = ""

    @property
    def subject(self) -> str:
        """The subject in all languages."""
        return " / ".join(dict.fromkeys(one.subject for one in self.words.values()))

    @property
    def text(self) -> str:
        """The text in all languages."""
        return "\n\n---\n\n".join(dict.fromkeys(one.text for one in self.words.values()))


# -- the inventory ------------------------------------------------------------------------------
_REQUIRED: dict[str, tuple[str, ...]] = {
    "slack": ("webhook",),
    "pagerduty": ("routing_key",),
    "statuspage": ("page", "token"),
    "smtp": ("host", "from", "to"),
    "webhook": ("url",),
    "console": (),
}
_SECRET = {"webhook", "routing_key", "token", "password", "sign"}


def targets(ctx: Context, names: list[str], languages: list[str] | None) -> list[Target]:
    """The receivers behind channels, each once; Refused if one is unknown or not right."""
    section = ctx.connection("notify")
    found: dict[str, Target] = {}
    for name in names:
        for target in _channel(section, name, languages, ()):
            found.setdefault(target.name, target)
    for target in found.values():
        for key in _SECRET & target.settings.keys():
            ctx.mask(str(target.settings[key]))
    return list(found.values())


def _channel(
    section: Mapping[str, Any], name: str, languages: list[str] | None, path: tuple[str, ...]
) -> list[Target]:
    channels = section.get("channels") or {}
    if name not in channels:
        raise Refused(
            f"the inventory has no channel {name!r}",
            hint=f"it has: {', '.join(channels) or 'none; add `notify: {channels: …}`'}",
        )
    if name in path:
        raise Refused(f"the channel {name!r} fans out to itself: {' → '.join([*path, name])}")
    try:
        entry = dict(channels[name] or {})
    except Refused:
        raise
    except ActionError as error:  # a secret that is not here: the others get their notice
        return [Target(name, "unknown", {}, _languages(section, languages, None), error)]
    own = entry.pop("languages", None)
    spoken = _languages(section, languages, own)
    found = []
    for other in entry.pop("channels", []):
        found += _channel(section, other, languages or own, (*path, name))
    for transport, settings in entry.items():
        label = name if len(entry) == 1 else f"{name}/{transport}"
        found.append(_target(label, transport, settings or {}, spoken))
    if not found:
        raise Refused(f"the channel {name!r} leads nowhere")
    return found


def _languages(
    section: Mapping[str, Any], asked: list[str] | None, own: list[str] | None
) -> tuple[str, ...]:
    return tuple(asked or own or section.get("languages") or ["en"])


def _target(name: str, transport: str, settings: Any, languages: tuple[str, ...]) -> Target:
    if transport not in _REQUIRED:
        raise Refused(
            f"the channel {name!r} has an unknown transport {transport!r}",
            hint=f"there are: {', '.join(_REQUIRED)}",
        )
    if not isinstance(settings, Mapping):
        raise Refused(f"the settings of {name!r} must be a mapping")
    missing = [key for key in _REQUIRED[transport] if not settings.get(key)]
    if missing:
        raise Refused(f"the channel {name!r} lacks {', '.join(missing)} for {transport}")
    return Target(name, transport, dict(settings), languages)


# -- delivering ---------------------------------------------------------------------------------
def key_of(ctx: Context, target: Target) -> str:
    """The key of a notice to one receiver: plain ASCII, below 255 characters, always the same."""
    import hashlib

    digest = hashlib.sha256(f"{ctx.key} {target.name}".encode()).hexdigest()
    return f"ce-run-{digest[:40]}"


def deliver(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    """Send, with so many seconds for each answer; whether the receiver had it already."""
    if target.broken is not None:
        raise target.broken
    if ctx.mode == "simulate":
        return _simulated(ctx, target, notice)
    senders: dict[str, Callable[[], bool]] = {
        "slack": lambda: _slack(ctx, target, notice, patience),
        "pagerduty": lambda: _pagerduty(ctx, target, notice, patience),
        "webhook": lambda: _webhook(ctx, target, notice, patience),
        "console": lambda: _console(ctx, notice),
        "smtp": lambda: notify_mail.send(
            ctx,
            {**target.settings, "patience": patience},
            key_of(ctx, target),
            notice.subject,
            notice.text,
            notice.severity,
        ),
        "statuspage": lambda: notify_statuspage.send(
            ctx,
            {**target.settings, "patience": patience},
            notify_statuspage.Update(
                key_of(ctx, target),
                notice.incident,
                notice.subject,
                notice.text,
                notice.status,
                notice.component_status,
                notice.severity,
            ),
        ),
    }
    return senders[target.transport]()


def _simulated(ctx: Context, target: Target, notice: Notice) -> bool:
    """Hand the notice to the people of the simulated world; whether they had it already."""
    ctx.sleep(_SIMULATED_LATENCY)
    with ctx.fence():
        known: bool | None = ctx.world.tell(
            target.name,
            target.transport,
            notice.subject,
            notice.text,
            severity=notice.severity,
            step=ctx.step,
            key=key_of(ctx, target),
        )
    if known is None:
        raise Unreachable(f"the {target.transport} of {target.name} does not answer")
    return known


def probe(ctx: Context, target: Target, incident: str) -> Answer:
    """Whether a receiver has the notice, as far as it can be known."""
    if target.broken is not None:
        return "unknown"
    if target.transport == "statuspage":
        sent = notify_statuspage.has(ctx, target.settings, key_of(ctx, target), incident)
        return "done" if sent else "not_done"
    return "not_done" if target.deduplicates else "unknown"


def post(ctx: Context, target: Target, url: str, body: dict[str, Any], patience: float) -> Response:
    """POST JSON to a receiver, whose address is never shown: it may be all one needs to write."""
    import json

    content = json.dumps(body, ensure_ascii=False, default=str).encode(errors="replace")
    headers = target.settings.get("headers") or {}
    with ctx.fence():
        return http_client.request(
            ctx,
            "POST",
            url,
            content=content,
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": key_of(ctx, target),
                **_signature(ctx, target, content),
                **{name: str(value) for name, value in headers.items()},
            },
            tls=Tls(
                target.settings.get("verify", True),
                target.settings.get("ca", ""),
                f"{target.transport} of notify.{target.name}",
            ),
            timeout=patience,
            what=f"the {target.transport} of {target.name}",
        )


def _signature(ctx: Context, target: Target, content: bytes) -> dict[str, str]:
    """What proves to a receiver who knows `sign` that the notice is ours, and how old it is."""
    secret = target.settings.get("sign")
    if not secret:
        return {}
    import hashlib
    import hmac

    moment = str(int(ctx.now().timestamp()))
    signed = hmac.new(str(secret).encode(), f"{moment}.".encode() + content, hashlib.sha256)
    return {"X-CE-Timestamp": moment, "X-CE-Signature": f"sha256={signed.hexdigest()}"}


def refusal(target: Target, answer: Response) -> ActionError:
    """What an answer that is no success means."""
    message = f"{target.transport} answered with status {answer.status}"
    if answer.status == 429 or answer.status >= 500:
        later = answer.retry_after
        hint = "try again later (`retry`)" if later is None else f"it asks to wait {later:g} s"
        data: dict[str, object] = {} if later is None else {"retry_after": later}
        return Unreachable(message, hint=hint, evidence=answer.lines(), data=data)
    if answer.status in (401, 403, 404, 410):
        return Refused(message, hint="check its address and credentials", evidence=answer.lines())
    return Failed(message, evidence=answer.lines())


_MARKS = {"critical": "🔴 ", "error": "🟠 ", "warning": "🟡 ", "info": ""}


def _slack(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    text = f"{_MARKS[notice.severity]}*{_slack_text(notice.subject)}*\n{_slack_text(notice.text)}"
    if len(text) > 39000:  # Slack cuts off at 40,000 without a word
        text = f"{text[:39000]}\n…"
    answer = post(ctx, target, str(target.settings["webhook"]), {"text": text}, patience)
    if answer.status != 200:
        raise refusal(target, answer)
    return False


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pagerduty(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    settings = target.settings
    becomes = notice.alert or ("resolve" if notice.status == "resolved" else "trigger")
    body: dict[str, Any] = {
        "routing_key": str(settings["routing_key"]),
        "event_action": becomes,
        "dedup_key": notice.incident or key_of(ctx, target),
        "client": "ce-run",
        "payload": {
            "summary": notice.subject[:1024],
            "source": str(settings.get("source") or "ce-run"),
            "severity": notice.severity,
            "timestamp": ctx.now().isoformat(),
            "custom_details": {"text": notice.text, "run": ctx.run_id, "step": ctx.step},
        },
    }
    if settings.get("component"):
        body["payload"]["component"] = str(settings["component"])
    url = str(settings.get("url") or "https://events.pagerduty.com/v2/enqueue")
    answer = post(ctx, target, url, body, patience)
    if answer.status != 202:
        raise refusal(target, answer)
    return False


def _webhook(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    body = {
        "key": key_of(ctx, target),
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
    answer = post(ctx, target, str(target.settings["url"]), body, patience)
    if not 200 <= answer.status < 300:
        raise refusal(target, answer)
    return False


def _console(ctx: Context, notice: Notice) -> bool:
    for line in [notice.subject, *notice.text.splitlines()]:
        if line.strip():
            ctx.progress(line)
    return False
