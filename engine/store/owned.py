"""The locks of one run, whoever keeps them: taken together, checked before every effect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from engine.errors import Cancelled, LockHeld
from engine.events import Person
from engine.store.protocol import LockEntry, LockRecord


def loss_text(lost: LockRecord) -> str:
    """How a lock was lost, as `OwnedLocks.lost` tells it."""
    run = lost.run or ("" if lost.unlocked else lost.last)
    if run:
        return f"run {run} took over {lost.name}"
    if lost.unlocked:
        return f"an operator (`ce-run unlock`) took over {lost.name}"
    return f"nobody knows any more who holds {lost.name}"


class LockKeeper(Protocol):
    """Whoever keeps locks: a store, or a simulated world."""

    def lock(self, name: str) -> LockEntry:
        """A lock, whether it was ever taken or not."""
        ...


class OwnedLocks:
    """The locks of a run: taken together, checked before every effect, released together.

    It is the run's fence (`engine.executor.Fence`).
    """

    def __init__(self, keeper: LockKeeper, names: Sequence[str], run: str) -> None:
        self._locks = [keeper.lock(name) for name in sorted(set(names))]
        self._run = run
        self.tokens: dict[str, int] = {}
        self.over: dict[str, str] = {}
        self.doubts: tuple[str, ...] = ()

    def take(self, by: Person, now: float, reason: str, *, force: bool) -> None:
        """Own all of them, or none: raises LockHeld after giving back those taken."""
        try:
            for lock in self._locks:
                taken = lock.take(self._run, by, now, reason, force=force)
                self.tokens[lock.name] = taken.record.token
                self.doubts += taken.doubts
                if taken.over is not None:
                    self.over[lock.name] = taken.over.run
        except BaseException:
            self.release()
            raise

    def taken_since(self, tokens: Mapping[str, int]) -> LockRecord | None:
        """The record of a lock that somebody else has owned after we had it with these tokens.

        What that run did is not undone by its being over: ours cannot simply go on.
        """
        for lock in self._locks:
            record = lock.record()
            if record.run != self._run and record.token > tokens.get(lock.name, record.token):
                return record
        return None

    def release(self) -> None:
        """Give up those that are still ours."""
        for lock in self._locks:
            if lock.name in self.tokens:
                # On a full disk, say: the lock of a process that is gone is free all the same.
                with contextlib.suppress(OSError, LockHeld):
                    lock.release(self._run, self.tokens[lock.name])
        self.tokens = {}

    def lost(self) -> LockRecord | None:
        """The record of a lock that another took from us, if that happened."""
        for lock in self._locks:
            record = lock.changed(self._run, self.tokens.get(lock.name, 0))
            if record is not None:
                return record
        return None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The fence around one request; raises Cancelled when a lock is no longer ours."""
        with contextlib.ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock.effect())
            lost = self.lost()
            if lost is not None:
                raise Cancelled(f"{loss_text(lost)}; nothing was sent")
            yield

    def identity(self) -> dict[str, str]:
        """Headers that name the run and its tokens."""
        tokens = ",".join(f"{name}={token}" for name, token in sorted(self.tokens.items()))
        return {"X-CE-Run": self._run, "X-CE-Token": tokens or "0"}
