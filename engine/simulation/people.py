"""The people of the simulated world: what they were sent, and which channels reach nobody."""

from __future__ import annotations

import msgspec


class Notice(msgspec.Struct, frozen=True):
    """Something that people were sent."""

    at: float
    """Epoch seconds."""
    channel: str
    transport: str
    subject: str
    text: str
    severity: str
    step: str
    key: str


class Inbox:
    """Everything that was sent, oldest first; a repeated key is kept once."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.dead: set[str] = set()
        """Channels that do not answer."""

    def receive(self, notice: Notice) -> bool:
        """Take a notice in; whether it was there already."""
        known = any(
            each.key == notice.key and each.channel == notice.channel for each in self.notices
        )
        if not known:
            self.notices.append(notice)
        return known
