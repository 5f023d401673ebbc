"""The lab's inbox: where the notices of a rehearsal land instead of reaching people.

It takes what Slack webhooks, PagerDuty Events v2, Statuspage, plain webhooks and e-mail take,
answers as they do, refuses what they refuse, and keeps every message as a line of `inbox.jsonl`. A
message whose key was seen before on its channel is kept and marked as a duplicate, so that a
notice that was sent twice shows. It can be told to fail, or to be down.
"""

from __future__ import annotations

import email.policy
from collections.abc import Mapping
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from engine.lab.clock import stamp
from engine.lab.people import notices
from engine.lab.people.inbox_file import InboxChannel, Notice, read_inbox
from engine.lab.people.notices import Reply

KEY_HEADERS = ("Idempotency-Key", "X-Idempotency-Key")


class Inbox:
    """Keeps messages, and decides how they are answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: set[tuple[str, str]] = set()
        self._to_fail = 0
        self._down = False
        self._incidents: dict[str, dict[str, Any]] = {}

    def fail_next(self, count: int) -> None:
        """Refuse this many messages with a server error."""
        self._to_fail = count

    def set_down(self, down: bool) -> None:
        """Refuse everything until told otherwise."""
        self._down = down

    def clear(self) -> None:
        """Forget all messages and all trouble."""
        self._path.unlink(missing_ok=True)
        self._keys.clear()
        self._incidents.clear()
        self._to_fail, self._down = 0, False

    @property
    def in_trouble(self) -> bool:
        """Whether the next message is to be refused; asking uses one failure up."""
        if self._down:
            return True
        if self._to_fail:
            self._to_fail -= 1
            return True
        return False

    def keep(
        self,
        channel: InboxChannel,
        target: str,
        summary: str,
        body: Any,
        *,
        key: str,
        answer: int,
        accepted: bool,
        headers: Mapping[str, str],
    ) -> Notice:
        """Write a message down."""
        message = Notice(
            at=stamp(),
            channel=channel,
            target=target,
            summary=" ".join(summary.split()),
            key=key,
            duplicate=bool(key) and (channel, key) in self._keys,
            accepted=accepted,
            answer=answer,
            headers=dict(headers),
            body=body,
        )
        if key and accepted:
            self._keys.add((channel, key))
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(message) + b"\n")
        self._path.chmod(0o600)
        return message

    # -- HTTP ------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """The routes of all channels but e-mail."""
        app = web.Application()
        app.router.add_post("/slack/{target:.*}", self._slack)
        app.router.add_post("/pagerduty/v2/enqueue", self._pagerduty)
        app.router.add_route("*", "/statuspage/v1/{target:.*}", self._statuspage)
        app.router.add_route("*", "/webhook/{target:.*}", self._webhook)
        app.router.add_get("/messages", self._list)
        return app

    async def _slack(self, request: web.Request) -> web.Response:
        body = await _json(request)
        return self._take(request, "slack", body, notices.slack(body))

    async def _pagerduty(self, request: web.Request) -> web.Response:
        body = await _json(request)
        return self._take(request, "pagerduty", body, notices.pagerduty(body))

    async def _statuspage(self, request: web.Request) -> web.Response:
        body = await _json(request)
        reply = notices.statuspage(
            request.method,
            request.match_info["target"],
            body,
            authorized=bool(request.headers.get("Authorization")),
            incidents=self._incidents,
        )
        if request.method == "GET":
            return _reply(reply)
        return self._take(request, "statuspage", body, reply)

    async def _webhook(self, request: web.Request) -> web.Response:
        body = await _json(request)
        return self._take(request, "webhook", body, notices.webhook(body))

    async def _list(self, request: web.Request) -> web.Response:
        return _reply(Reply(200, [*map(msgspec.to_builtins, read_inbox(self._path))], ""))

    def _take(
        self, request: web.Request, channel: InboxChannel, body: Any, reply: Reply
    ) -> web.Response:
        if self.in_trouble:
            reply = Reply(503, {"error": "the lab's inbox was told to fail"}, reply.summary)
        header_key = next((request.headers[h] for h in KEY_HEADERS if h in request.headers), "")
        self.keep(
            channel,
            request.match_info.get("target", ""),
            reply.summary,
            body,
            key=reply.key or header_key,
            answer=reply.status,
            accepted=reply.status < 300,
            headers=_telling(request.headers),
        )
        return _reply(reply)

    # -- SMTP ------------------------------------------------------------------------------

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Take an e-mail; the name is aiosmtpd's."""
        parsed = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        part = parsed.get_body(("plain", "html"))
        trouble = self.in_trouble
        self.keep(
            "email",
            ", ".join(envelope.rcpt_tos),
            str(parsed.get("Subject", "")),
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "subject": str(parsed.get("Subject", "")),
                "text": part.get_content() if part is not None else "",
                "login": getattr(session, "auth_data", None) and session.auth_data.login.decode(),
            },
            key=str(parsed.get("Message-ID", "")),
            answer=451 if trouble else 250,
            accepted=not trouble,
            headers={name: str(value) for name, value in parsed.items()},
        )
        return "451 The lab's inbox was told to fail" if trouble else "250 OK"


async def _json(request: web.Request) -> Any:
    """The body as JSON; as text if it is none, so that it can be shown."""
    raw = await request.read()
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return raw.decode(errors="replace")


def _telling(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers worth keeping; never the credentials."""
    return {
        name: value
        for name, value in headers.items()
        if name in KEY_HEADERS or name.lower().startswith("x-") or name.lower() == "user-agent"
    }


def _reply(reply: Reply) -> web.Response:
    if isinstance(reply.body, str):
        return web.Response(text=reply.body, status=reply.status)
    return web.Response(
        body=msgspec.json.encode(reply.body),
        status=reply.status,
        content_type="application/json",
    )
