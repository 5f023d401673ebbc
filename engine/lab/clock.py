"""The lab's clock: its servers are real, and so is their time."""

from __future__ import annotations

from engine.clock import SystemClock, utc

CLOCK = SystemClock()


def stamp() -> str:
    """The time as logs and messages have it: UTC with milliseconds."""
    return utc(CLOCK.now()).isoformat(timespec="milliseconds")
