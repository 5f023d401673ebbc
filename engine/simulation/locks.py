"""The locks of a simulated world: those who take part in a rehearsal meet at them, nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.events import Person
from engine.store.lookup import lock_is_held
from engine.store.protocol import LockRecord, Taken


class SimulatedLock:
    """One named lock (`engine.store.LockEntry`)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._record = LockRecord(name)

    def record(self) -> LockRecord:
        """What is known of it now."""
        return self._record

    def owner(self) -> LockRecord | None:
        """The record, if a run owns the lock."""
        return self._record if self._record.run else None

    def take(self, run: str, by: Person, now: float, reason: str, *, force: bool) -> Taken:
        """Own it with a new token. Raises LockHeld when another run owns it."""
        other = self.owner() if self._record.run != run else None
        if other is not None and not force:
            raise lock_is_held(other)
        self._record = LockRecord(self.name, self._record.token + 1, run, by, now, reason)
        return Taken(self._record, other)

    def release(self, run: str, token: int) -> None:
        """Give it up, if it is still the run's."""
        held = self._record
        if (held.run, held.token) == (run, token):
            self._record = LockRecord(
                self.name, token, "", held.by, held.since, held.reason, last=run
            )

    def break_open(self, by: Person, now: float, reason: str) -> LockRecord:
        """Take it away from whoever has it, owning it for nobody; returns what was."""
        held = self._record
        self._record = LockRecord(
            self.name, held.token + 1, "", by, now, reason, last=held.run, unlocked=True
        )
        return held

    def wait_for_effects(self) -> bool:
        """In virtual time an effect is over when anybody else comes to do something."""
        return True

    @contextlib.contextmanager
    def effect(self) -> Iterator[None]:
        """Hold the fence as long as one request takes."""
        yield

    def changed(self, run: str, token: int) -> LockRecord | None:
        """The record, if the lock is not this run's with this token any more."""
        held = self._record
        return None if (held.run, held.token) == (run, token) else held


class SimulatedLocks:
    """All locks of one world."""

    def __init__(self) -> None:
        self._locks: dict[str, SimulatedLock] = {}

    def lock(self, name: str) -> SimulatedLock:
        """A lock, whether it was ever taken or not."""
        return self._locks.setdefault(name, SimulatedLock(name))
