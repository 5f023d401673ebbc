"""Notices by HTTP: what is posted, what proves that it is ours, and what answers mean."""

from __future__ import annotations

import json
from typing import Any

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._http import client as http_client
from modules._http.response import Response
from modules._http.tls import Tls
from modules._notify.channels import Target
from modules._notify.transports import Posted, Webhook


def key_of(ctx: Context, target: Target) -> str:
    """The key of a notice to one receiver: plain ASCII, below 255 characters, always the same."""
    import hashlib

    digest = hashlib.sha256(f"{ctx.key} {target.name}".encode()).hexdigest()
    return f"ce-run-{digest[:40]}"


def encoded(body: dict[str, Any]) -> bytes:
    """A body as JSON; what cannot be written as UTF-8 becomes a question mark."""
    return json.dumps(body, ensure_ascii=False, default=str).encode(errors="replace")


def post(ctx: Context, target: Target, url: str, body: dict[str, Any], patience: float) -> Response:
    """POST JSON to a receiver, whose address is never shown: it may be all one needs to write."""
    settings = target.settings
    assert isinstance(settings, Posted)
    content = encoded(body)
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": key_of(ctx, target),
        **_signature(ctx, settings, content),
        **{name: str(value) for name, value in settings.headers.items()},
    }
    section = f"{target.transport} of notify.{target.name}"
    with ctx.fence():
        return http_client.request(
            ctx,
            "POST",
            url,
            content=content,
            headers=headers,
            tls=Tls(settings.verify, settings.ca, section),
            timeout=patience,
            what=f"the {target.transport} of {target.name}",
        )


def _signature(ctx: Context, settings: Posted, content: bytes) -> dict[str, str]:
    """What proves to a receiver who knows `sign` that the notice is ours, and how old it is."""
    if not isinstance(settings, Webhook) or not settings.sign:
        return {}
    import hashlib
    import hmac

    moment = str(int(ctx.now().timestamp()))
    signed = hmac.new(settings.sign.encode(), f"{moment}.".encode() + content, hashlib.sha256)
    return {"X-CE-Timestamp": moment, "X-CE-Signature": f"sha256={signed.hexdigest()}"}


def refusal(target: Target, answer: Response) -> ActionError:
    """What an answer that is no success means."""
    message = f"{target.transport} answered with status {answer.status}"
    if answer.status == 429 or answer.status >= 500:
        later = answer.retry_after
        hint = "try again later (`retry`)" if later is None else f"it asks to wait {later:g} s"
        data: dict[str, object] = {} if later is None else {"retry_after": later}
        return Unreachable(message, hint=hint, evidence=answer.lines(), data=data)
    if answer.status in (401, 403, 404, 410) or answer.is_redirect:
        return Refused(message, hint="check its address and credentials", evidence=answer.lines())
    return Failed(message, evidence=answer.lines())


def unconfirmed(target: Target, answer: Response, reason: str) -> Failed:
    """A status of success with a body that says something else, such as a page to log in at."""
    return Failed(
        f"{target.transport} answered with status {answer.status}, but {reason}",
        hint="is its address right, or does a proxy answer?",
        evidence=answer.lines(),
    )
