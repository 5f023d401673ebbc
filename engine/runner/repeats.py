"""Observations that could only repeat the last one, and so are left out.

In a simulated world most observations of a healthy production find what the one before has found.
Whoever answered the last one may say until when that is so (`Context.holds_while`). As long as it
holds the guard is not asked; afterwards it is, at the moment at which it would have been anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from engine.executor import JobResult
from engine.runner.questions import QuestionKey
from engine.state.records import GuardState


class _Kept(msgspec.Struct):
    """An answer that holds for a while."""

    holds: Callable[[], bool]
    observed: float
    every: float
    tested: int
    """How much had happened when it was last seen to hold."""
    again: float | None = None
    """When it is to be asked again; None as long as the answer holds."""


class Repeats:
    """The guards of a run whose last answers hold still."""

    def __init__(self) -> None:
        self._kept: dict[QuestionKey, _Kept] = {}
        self._happened = 0

    def keep(self, key: QuestionKey, outcome: JobResult, guard: GuardState) -> None:
        """Remember an answer that was judged just now, if another like it would be judged alike.

        A guard that fails, or has too few samples yet, is asked each time.
        """
        holds = outcome.job.context.lasting
        if holds is None or not outcome.job.constant:
            return
        if guard.last == "pass" or (guard.last == "inconclusive" and guard.value is None):
            self._kept[key] = _Kept(holds, guard.observed, guard.timing.every, self._happened)

    def spares(self, key: QuestionKey, now: float) -> bool:
        """Whether the guard need not be asked at this moment."""
        kept = self._kept.get(key)
        if kept is None:
            return False
        if kept.again is None:
            if kept.tested == self._happened or kept.holds():
                kept.tested = self._happened
                return True
            intervals = math.ceil((now - kept.observed) / kept.every) if kept.every else 0
            kept.again = kept.observed + intervals * kept.every
        if now < kept.again:
            return True
        del self._kept[key]
        return False

    def something_happened(self) -> None:
        """What was told of the world may no longer hold."""
        self._happened += 1

    def wake_at(self, now: float) -> float | None:
        """When the next guard is to be asked again; None if none is.

        One that was due and was not asked belongs to a group that observes nothing any more.
        """
        times = (each.again for each in self._kept.values() if each.again is not None)
        return min((each for each in times if each > now), default=None)
