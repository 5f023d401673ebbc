"""The cluster's time: what its controllers ask for, and time that only goes on when told to."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Callback = Callable[[], None]


class Timer(Protocol):
    """Something that was planned."""

    def cancel(self) -> None:
        """Let it not happen; no error if it has."""


class Timeline(Protocol):
    """Time as the cluster knows it. All seconds but those of `now` are the cluster's own.

    A world that is in a hurry lets them pass faster than time stamps do.
    """

    def now(self) -> float:
        """Seconds since the epoch, UTC: what time stamps are made of."""

    def elapsed(self) -> float:
        """Seconds of the cluster since some fixed moment, for measuring how long something took."""

    def later(self, seconds: float, step: Callback) -> Timer:
        """Have `step` called after so many seconds of the cluster; equal times keep their order."""

    def soon(self, step: Callback) -> Timer:
        """Have `step` called when what happens now is over."""


@dataclass(order=True, slots=True)
class _Planned:
    """A step and when it is due."""

    at: float
    number: int
    step: Callback = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class VirtualTimeline:
    """Time that stands still until `advance` lets it go on, from one planned step to the next.

    `start` is the first moment, in seconds since the epoch.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._planned: list[_Planned] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The virtual time."""
        return self._now

    def elapsed(self) -> float:
        """The virtual time, too."""
        return self._now

    def later(self, seconds: float, step: Callback) -> Timer:
        """Plan a step."""
        planned = _Planned(self._now + max(0.0, seconds), next(self._numbers), step)
        heapq.heappush(self._planned, planned)
        return planned

    def soon(self, step: Callback) -> Timer:
        """Plan a step for this very moment."""
        return self.later(0.0, step)

    def next_step(self) -> float | None:
        """When the next step is due; None if nothing is planned."""
        while self._planned and self._planned[0].cancelled:
            heapq.heappop(self._planned)
        return self._planned[0].at if self._planned else None

    def advance(self, until: float) -> None:
        """Let everything happen that is due up to `until` (epoch seconds), in order."""
        while (at := self.next_step()) is not None and at <= until:
            planned = heapq.heappop(self._planned)
            self._now = max(self._now, at)
            planned.step()
        self._now = max(self._now, until)
