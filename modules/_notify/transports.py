"""What the inventory may say of each kind of receiver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.module_api import Refused
from modules._shared import settings


class Transport(msgspec.Struct, kw_only=True):
    """What every receiver's settings may hold."""

    deduplicates: bool = False
    """Whether it recognises a notice that it has already."""


class Posted(Transport, kw_only=True):
    """What settings of a receiver that is reached by HTTP may hold."""

    verify: bool = True
    ca: str = ""
    headers: dict[str, Any] = {}


class Slack(Posted, kw_only=True):
    """An incoming webhook."""

    webhook: str


class PagerDuty(Posted, kw_only=True):
    """Events API v2."""

    routing_key: str
    url: str = "https://events.pagerduty.com/v2/enqueue"
    source: str = "ce-run"
    component: str = ""
    deduplicates: bool = True


class Statuspage(Transport, kw_only=True):
    """A page of Statuspage."""

    page: str
    token: str
    url: str = "https://api.statuspage.io/v1"
    components: list[str] = []
    verify: bool = True
    ca: str = ""


class Mail(Transport, kw_only=True):
    """A mail server, and who writes to whom."""

    host: str
    from_: str = msgspec.field(name="from")
    to: str | list[str]
    port: int | None = None
    user: str = ""
    password: str = ""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    verify: bool = True
    ca: str = ""


class Webhook(Posted, kw_only=True):
    """Any server that takes a POST with JSON."""

    url: str
    sign: str = ""


class Console(Transport, kw_only=True):
    """The progress of the step."""

    deduplicates: bool = True


TRANSPORTS: dict[str, type[Transport]] = {
    "slack": Slack,
    "pagerduty": PagerDuty,
    "statuspage": Statuspage,
    "smtp": Mail,
    "webhook": Webhook,
    "console": Console,
}
SECRET = ("webhook", "routing_key", "token", "password", "sign")
"""Settings that are shown nowhere."""


def read(channel: str, name: str, raw: Any) -> Transport:
    """The settings of a channel's transport; Refused if they are not right."""
    kind = TRANSPORTS.get(name)
    if kind is None:
        raise Refused(
            f"the channel {channel!r} has an unknown transport {name!r}",
            hint=f"there are: {', '.join(TRANSPORTS)}",
        )
    if not isinstance(raw, Mapping):
        raise Refused(f"the settings of {channel!r} must be a mapping")
    fields = msgspec.structs.fields(kind)
    required = [one.encode_name for one in fields if one.required]
    missing = [key for key in required if raw.get(key) in (None, "", [])]
    if missing:
        raise Refused(f"the channel {channel!r} lacks {', '.join(missing)} for {name}")
    return settings.read(raw, kind, f"notify.channels.{channel}.{name}")
