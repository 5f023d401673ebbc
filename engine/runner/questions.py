"""Questions to the world that are on their way: probes of tasks in doubt, looks of guards."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.clock import Clock
from engine.errors import TimedOut
from engine.executor import Executor, Job, JobResult
from engine.fold import CANCEL_GRACE

PROBE_TIME = 30.0
"""Seconds that a probe may take; then nothing is known about the task in doubt."""

SHORTEST_OBSERVATION = 5.0
"""Seconds that an observation may take at least; else as long as its guard's interval."""


class QuestionKey(msgspec.Struct, frozen=True):
    """What is asked: whether a task did its work, or how things look to a guard."""

    purpose: Literal["run", "probe", "guard"]
    node: int
    number: int
    """Of the task or the guard."""


class _Question(msgspec.Struct, frozen=True):
    """A probe or an observation on its way, and until when an answer is awaited."""

    job: Job
    until: float


class Questions:
    """Each is asked once at a time, and has an answer in the end: not knowing is one, too."""

    def __init__(self, clock: Clock, executor: Executor) -> None:
        self._clock = clock
        self._executor = executor
        self._open: dict[QuestionKey, _Question] = {}

    def __contains__(self, key: QuestionKey) -> bool:
        return key in self._open

    def ask(self, key: QuestionKey, job: Job, patience: float) -> None:
        """Have the question carried out; `patience` is in seconds."""
        until = self._clock.now() + patience + CANCEL_GRACE
        self._open[key] = _Question(job, until)
        self._executor.start(job)

    def answered(self, key: QuestionKey, outcome: JobResult) -> bool:
        """Whether the outcome answers a question that was not given up; it is closed then."""
        question = self._open.get(key)
        if question is None or question.job is not outcome.job:
            return False
        del self._open[key]
        return True

    def overdue(self, now: float) -> list[tuple[QuestionKey, JobResult]]:
        """Questions without an answer in time, given up, each with what stands for its answer."""
        late = [(key, each.job) for key, each in self._open.items() if each.until <= now]
        for key, job in late:
            del self._open[key]
            self._executor.cancel(job)
        return [
            (key, JobResult(job, error=TimedOut("no answer came in time"))) for key, job in late
        ]

    def jobs(self) -> list[Job]:
        """What is on its way."""
        return [each.job for each in self._open.values()]

    def wake_at(self) -> float | None:
        """When the next question is given up; None when there is none."""
        return min((each.until for each in self._open.values()), default=None)
