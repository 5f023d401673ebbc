"""Messages that arrive in the runner's mailbox, besides outcomes, commands and answers."""

from __future__ import annotations

import msgspec

from engine.errors import JournalError


class Progress(msgspec.Struct, frozen=True):
    """Message: a line from a running task."""

    step: str
    task: int
    text: str


class Caution(msgspec.Struct, frozen=True):
    """Message: something unsafe goes on all the same."""

    step: str
    text: str


class Signal(msgspec.Struct, frozen=True):
    """Message: the process was asked to leave."""

    name: str


class Broken(msgspec.Struct, frozen=True):
    """Message: what is kept of this run is not what it was; nobody would find what is noted."""

    error: JournalError


class Wake(msgspec.Struct, frozen=True):
    """Message: something has happened elsewhere, have a look (at the locks, for instance)."""
