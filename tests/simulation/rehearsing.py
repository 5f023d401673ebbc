"""Rehearsals for tests: a runbook in a simulated world, and what happens to that world when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from engine.events import GuardObserved, Record, TaskFinished
from engine.session import Options, Session, Surroundings, begin
from engine.session.rehearsal import Rehearsal
from engine.simulation import World
from engine.state import RunState
from engine.store.files import FileStore
from tests.surroundings import ROOT

Happening: TypeAlias = Callable[[World], object]
"""Something that is done to the world."""


class Schedule:
    """What happens so many seconds after a step has ended; an observer of the run."""

    def __init__(
        self, happenings: Sequence[tuple[str, float, Happening]], world: World | None
    ) -> None:
        self.rehearsal = Rehearsal(world=world)
        self._waiting = list(happenings)
        self.times: list[float] = []
        """When they happened."""

    def event(self, state: RunState, record: Record) -> None:
        """A step has ended: what follows it is put on the clock."""
        event = record.event
        if not isinstance(event, TaskFinished) or event.status != "succeeded":
            return
        for step, seconds, happening in [each for each in self._waiting if each[0] == event.step]:
            self._waiting.remove((step, seconds, happening))
            self.rehearsal.clock.schedule(record.time + seconds, self._happening(happening))

    def _happening(self, happening: Happening) -> Callable[[], None]:
        def happen() -> None:
            self.times.append(self.rehearsal.clock.now())
            happening(self.rehearsal.world)

        return happen

    def progress(self, step: str, task: int, text: str) -> None:
        """Of no interest."""

    def tick(self, state: RunState, now: float) -> None:
        """Of no interest."""


class Rehearsed:
    """A run that has ended in its simulated world."""

    def __init__(self, session: Session, status: int, schedule: Schedule) -> None:
        self.status = status
        self.state = session.state
        self.run_id = session.entry.run_id
        self.records = session.entry.records()
        self.world = schedule.rehearsal.world
        self.times = schedule.times

    def observations(self, step: str, guard: int = 0) -> list[tuple[float, str]]:
        """When a guard was asked, and what was its verdict."""
        return [
            (record.time, record.event.verdict)
            for record in self.records
            if isinstance(record.event, GuardObserved)
            and record.event.step == step
            and record.event.guard == guard
        ]

    def ended(self, step: str) -> float:
        """When a step last ended. Raises IndexError if it never did."""
        return [
            record.time
            for record in self.records
            if isinstance(record.event, TaskFinished) and record.event.step == step
        ][-1]


def rehearse(
    runbook: Path | str,
    state: Path,
    *happenings: tuple[str, float, Happening],
    inventory: str | None = None,
    extra: Mapping[str, Any] | None = None,
    world: World | None = None,
    **options: Any,
) -> Rehearsed:
    """Run a runbook (a path below the project, or anywhere) in a simulated world.

    Each happening is (step, seconds, what): so long after the step has ended. With a `world` it
    is that one, as runs before have left it.
    """
    schedule = Schedule(happenings, world)
    around = schedule.rehearsal.surroundings(
        Surroundings(store=FileStore(state), observers=[schedule])
    )
    wanted = Options(simulate=True, inventory=inventory, extra=dict(extra or {}), **options)
    session = begin(str(ROOT / runbook), wanted, around)
    return Rehearsed(session, session.run(), schedule)
