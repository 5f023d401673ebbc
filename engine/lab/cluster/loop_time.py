"""The lab's time for its cluster: real, or faster by the lab's pace, in the running event loop."""

from __future__ import annotations

import asyncio

from engine.clock import SystemClock
from engine.production.cluster.timeline import Callback, Timer


class LoopTimeline:
    """Time of the event loop. With a `pace` of 10, ten seconds of the cluster last one."""

    def __init__(self, pace: float = 1.0) -> None:
        self._pace = pace
        self._clock = SystemClock()

    def now(self) -> float:
        """The machine's time, which no pace changes."""
        return self._clock.now()

    def elapsed(self) -> float:
        """Seconds of the cluster."""
        return self._clock.monotonic() * self._pace

    def later(self, seconds: float, step: Callback) -> Timer:
        """Call `step` after so many seconds of the cluster."""
        delay = max(0.0, seconds) / self._pace
        return asyncio.get_running_loop().call_later(delay, step)

    def soon(self, step: Callback) -> Timer:
        """Call `step` in the loop's next turn."""
        return asyncio.get_running_loop().call_soon(step)
