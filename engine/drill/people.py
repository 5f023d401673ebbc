"""The people of a drill: who answers a run's confirmations, when, and how."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from engine.clock import Mailbox
from engine.drill.scenario import ScenarioAnswer
from engine.events import GateOpened, Person, Record
from engine.simulation import SimulatedClock
from engine.state import RunState
from engine.store import Command

VIA = "the drill"

SOMEBODY = ScenarioAnswer(by="simulated people")
"""Answers what nobody in particular was named for."""


class DrillPeople:
    """Those who answer one run's questions; an observer of it."""

    def __init__(
        self, clock: SimulatedClock, mailbox: Mailbox, answers: Sequence[ScenarioAnswer]
    ) -> None:
        self._clock = clock
        self._mailbox = mailbox
        self._answers = answers

    def event(self, state: RunState, record: Record) -> None:
        """Answer a question in a while, if anybody does."""
        if not isinstance(record.event, GateOpened):
            return
        step = record.event.step
        fitting = (each for each in self._answers if fnmatchcase(step, each.gate))
        answer = next(fitting, SOMEBODY)
        if answer.answer == "never":
            return
        by = Person(answer.by or "simulated people", via=VIA)
        command = Command(answer.answer, by, step, answer.reason)
        self._clock.schedule(self._clock.now() + answer.after, lambda: self._mailbox.put(command))

    def progress(self, step: str, task: int, text: str) -> None:
        """Of no interest to them."""

    def tick(self, state: RunState, now: float) -> None:
        """Nor is this."""
