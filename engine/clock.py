"""Time: the only file that reads a clock or waits.

The runner asks its clock for the time and lets the clock turn a deadline into a wait for the
mailbox. With the `SystemClock` that wait is real; with the `VirtualClock` nothing waits: time
jumps to whatever was scheduled next, so two hours of runbook take milliseconds and every run of
a test sees the same instants.

Times are seconds since the epoch, UTC, as floats. Within a run they never run backwards: the
system clock is read once and carried on by the monotonic clock, and a resumed run starts no
earlier than the last event in its journal, whatever was done to the machine's clock meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Mailbox:
    """Where outcomes, answers and signals arrive for the runner; any thread may put."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: object) -> None:
        """Add a message; never blocks, safe in a signal handler."""
        self._queue.put(message)

    def take(self) -> list[Any]:
        """All messages that are there, oldest first; does not wait."""
        messages = []
        try:
            while True:
                messages.append(self._queue.get_nowait())
        except queue.Empty:
            return messages

    def empty(self) -> bool:
        """Whether nothing is waiting to be taken."""
        return self._queue.empty()

    def wait(self, seconds: float | None) -> list[Any]:
        """Messages as soon as there is one, or none after `seconds` (None: no limit)."""
        try:
            first = self._queue.get(timeout=seconds)
        except queue.Empty:
            return []
        return [first, *self.take()]


class Clock(Protocol):
    """What the engine knows of time."""

    def now(self) -> float:
        """Seconds since the epoch, never less than it was before."""
        ...

    def monotonic(self) -> float:
        """Seconds for measuring durations."""
        ...

    def wait(self, mailbox: Mailbox, until: float | None) -> list[Any]:
        """Messages once there are some, or an empty list at time `until` (None: no limit)."""
        ...

    def wait_event(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event at most `seconds`; whether it is set."""
        ...


class SystemClock:
    """Real time; starts at the machine's clock, or at `not_before` if that is later."""

    def __init__(self, not_before: float = 0.0) -> None:
        self._offset = max(time.time(), not_before) - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch, carried on by the monotonic clock."""
        return self._offset + time.monotonic()

    def monotonic(self) -> float:
        """The machine's monotonic clock."""
        return time.monotonic()

    def wait(self, mailbox: Mailbox, until: float | None) -> list[Any]:
        """Block until a message comes or the time is `until`."""
        return mailbox.wait(None if until is None else max(0.0, until - self.now()))

    def wait_event(self, event: threading.Event, seconds: float) -> bool:
        """Block until the event is set or the seconds are over."""
        return event.wait(seconds)


class VirtualClock:
    """Time that jumps from one scheduled happening to the next. For one thread only."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._scheduled: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()

    def now(self) -> float:
        """The virtual time."""
        return self._now

    def monotonic(self) -> float:
        """The virtual time, too."""
        return self._now

    def schedule(self, at: float, happen: Callable[[], None]) -> None:
        """Have `happen` called when time reaches `at`; equal times keep their order."""
        heapq.heappush(self._scheduled, (at, next(self._tie), happen))

    def next_happening(self) -> float | None:
        """When the next scheduled thing is due; None if there is none."""
        return self._scheduled[0][0] if self._scheduled else None

    def wait(self, mailbox: Mailbox, until: float | None) -> list[Any]:
        """Let scheduled things happen, in order, until there is a message or `until` is reached.

        Raises RuntimeError when nothing can ever happen again: a virtual dead-lock.
        """
        while mailbox.empty():
            due = self._scheduled[0][0] if self._scheduled else None
            if due is None or (until is not None and due > until):
                if until is None:
                    raise RuntimeError("nothing is scheduled and no deadline is set: dead-lock")
                self._now = max(self._now, until)
                return []
            self._happen()
        return mailbox.take()

    def wait_event(self, event: threading.Event, seconds: float) -> bool:
        """Let scheduled things happen, in order, until the event is set or the seconds are over."""
        until = self._now + seconds
        while not event.is_set():
            if not self._scheduled or self._scheduled[0][0] > until:
                self._now = max(self._now, until)
                break
            self._happen()
        return event.is_set()

    def _happen(self) -> None:
        """Go to the next thing that is scheduled, and let it happen."""
        due, _, happen = heapq.heappop(self._scheduled)
        self._now = max(self._now, due)
        happen()


def look_until(condition: Callable[[], bool], seconds: float, every: float = 0.002) -> bool:
    """Look again and again, in real time, until the condition holds or the seconds are over.

    For what tells nobody when it changes, such as a file lock. Returns whether it holds.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(every)
    return True


def utc(seconds: float) -> datetime:
    """An epoch time as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def time_text(seconds: float) -> str:
    """An epoch time as people and file names want it: ``2026-01-31T14:05:09Z``."""
    return utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
