"""How a notice gets to each kind of receiver.

Every notice carries the same key in every attempt and after a resume. `deliver` says whether the
receiver had it already; `probe` whether it is known to have it.
"""

from __future__ import annotations

from typing import Literal

from engine.module_api import Context, Unreachable
from modules._notify import chat, posting
from modules._notify import mail as notify_mail
from modules._notify import statuspage as notify_statuspage
from modules._notify.channels import Notice, Target
from modules._notify.transports import Mail, Statuspage

_SIMULATED_LATENCY = 0.1

Answer = Literal["done", "not_done", "unknown"]


def deliver(ctx: Context, target: Target, notice: Notice, patience: float) -> bool:
    """Send, with so many seconds for each answer; whether the receiver had it already."""
    if target.broken is not None:
        raise target.broken
    if ctx.mode == "simulate":
        return _simulated(ctx, target, notice)
    key = posting.key_of(ctx, target)
    match target.transport:
        case "slack":
            return chat.slack(ctx, target, notice, patience)
        case "pagerduty":
            return chat.pagerduty(ctx, target, notice, patience)
        case "webhook":
            return chat.webhook(ctx, target, notice, patience)
        case "smtp":
            assert isinstance(target.settings, Mail)
            letter = notify_mail.Letter(key, notice.subject, notice.text, notice.severity)
            return notify_mail.send(ctx, target.settings, letter, patience)
        case "statuspage":
            assert isinstance(target.settings, Statuspage)
            update = notify_statuspage.Update(
                key,
                notice.incident,
                notice.subject,
                notice.text,
                notice.status,
                notice.component_status,
                notice.severity,
            )
            return notify_statuspage.send(ctx, target.settings, update, patience)
        case _:
            return _console(ctx, notice)


def _console(ctx: Context, notice: Notice) -> bool:
    for line in [notice.subject, *notice.text.splitlines()]:
        if line.strip():
            ctx.progress(line)
    return False


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
            key=posting.key_of(ctx, target),
        )
    if known is None:
        raise Unreachable(f"the {target.transport} of {target.name} does not answer")
    return known


def probe(ctx: Context, target: Target, incident: str) -> Answer:
    """Whether a receiver has the notice, as far as it can be known."""
    if target.broken is not None:
        return "unknown"
    if isinstance(target.settings, Statuspage):
        key = posting.key_of(ctx, target)
        sent = notify_statuspage.has(ctx, target.settings, key, incident)
        return "done" if sent else "not_done"
    return "not_done" if target.settings.deduplicates else "unknown"
