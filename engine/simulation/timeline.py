"""The run's virtual time, as the models of the production know it."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import VirtualClock


class _Planned:
    """Something that may still be called off."""

    __slots__ = ("cancelled", "step")

    def __init__(self, step: Callable[[], None]) -> None:
        self.step = step
        self.cancelled = False

    def __call__(self) -> None:
        if not self.cancelled:
            self.step()

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class ClockTimeline:
    """A `Timeline` that follows the run's clock: a second of the world is a second of the run."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def elapsed(self) -> float:
        """The same."""
        return self._clock.now()

    def later(self, seconds: float, step: Callable[[], None]) -> _Planned:
        """Have `step` called after so many seconds."""
        planned = _Planned(step)
        self._clock.schedule(self._clock.now() + max(0.0, seconds), planned)
        return planned

    def soon(self, step: Callable[[], None]) -> _Planned:
        """Have `step` called when what happens now is over."""
        return self.later(0.0, step)
