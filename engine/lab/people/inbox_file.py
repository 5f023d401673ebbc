"""The messages in a lab's inbox, as they lie in its file: for those who only read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

InboxChannel = Literal["slack", "pagerduty", "statuspage", "webhook", "email"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it arrived."""

    at: str
    """UTC, ISO 8601."""
    channel: InboxChannel
    target: str
    """Whom it was for: a path below the channel's address, or the mail's recipients."""
    summary: str
    """Its text or subject, on one line."""
    key: str
    """By which its receiver tells a repetition; empty if the sender gave none."""
    duplicate: bool
    """Whether an accepted message of this channel had the same key before."""
    accepted: bool
    answer: int
    """The HTTP status or SMTP code that the sender got."""
    headers: dict[str, str]
    body: Any


def read_inbox(path: Path) -> list[Notice]:
    """The messages in an inbox's file, oldest first; none if there is no such file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Notice) for line in lines]
