"""How a command ended, wherever it ran: on this machine, on another, in a pod, in a rehearsal."""

from __future__ import annotations

import msgspec


class Finished(msgspec.Struct, frozen=True):
    """A command that has ended, and what it said."""

    code: int
    """Its exit status; negative: the signal that ended it."""
    stdout: str
    stderr: str
    truncated: bool = False
    """Whether something of its output was left out."""
