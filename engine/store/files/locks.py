"""Locks name environments; whoever owns one may change that environment, and nobody else.

A lock is a small file in ``<state>/locks/`` that says which run owns it, since when, why, and
with which *fencing token*, a number that only grows. Two more files beside it are only ever
flocked: ``.mutex`` around a change of the record, and ``.fence`` around effects:

- a run holds the fence *shared* while it sends a request, having checked its token under it;
- a run that takes over writes the record first and then takes the fence *exclusive* once, so it
  knows that every request of the old run has been answered and that none can follow. Should the
  old process be stopped (SIGSTOP) inside the fence, so that it would send what it has checked
  long ago whenever it is woken, it is ended. Then the old run's commands are ended, whether its
  process would do that or not, and the new run begins when they are gone (`engine.processes`).

An owner is alive as long as its process holds its run's ``run.lock``. The lock of a dead owner
is free, without waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from engine.clock import look_until
from engine.errors import JournalError, LockHeld
from engine.events import Person
from engine.files import UNDECODABLE, make_private, open_file, read_file, sync_folder, write_private
from engine.processes import end_commands, end_if_stopped, has_open
from engine.store.files.run import FileRun
from engine.store.lookup import lock_is_held
from engine.store.protocol import LockRecord, Taken

TAKEOVER_PATIENCE = 1.0
"""Seconds a takeover waits for requests of the old run that are on their way."""

MUTEX_PATIENCE = 5.0
"""Seconds to wait for another process that changes a lock's record: that takes milliseconds."""


class FileLock:
    """One named lock of a state folder (`engine.store.protocol.LockEntry`)."""

    def __init__(self, state: Path, name: str) -> None:
        self._runs = state / "runs"
        self._folder = state / "locks"
        self.name = name
        self._seen: tuple[str, int, int, int] | None = None
        self._stem = quote(name, safe=" ")  # a name is not a path
        self.path = self._folder / f"{self._stem}.json"

    def record(self) -> LockRecord:
        """What the lock's file says now. Raises LockHeld when that cannot be read: who owns the
        lock is not known then."""
        try:
            return msgspec.json.decode(read_file(self.path), type=LockRecord)
        except FileNotFoundError:
            return LockRecord(self.name)
        except (OSError, JournalError, *UNDECODABLE) as error:
            raise LockHeld(
                f"nobody knows who holds {self.name}: {self.path} is damaged ({error})",
                hint=f"see with `ce-run runs` who works there, then `ce-run unlock {self.name} "
                "--reason …`, or run a runbook that preempts with --force",
            ) from error

    def _record_or_new(self, now: float) -> LockRecord:
        """The record, or one with a token that is larger than any that was counted up to."""
        try:
            return self.record()
        except LockHeld:
            return LockRecord(self.name, int(now))

    def owner(self) -> LockRecord | None:
        """The record, if a living run owns the lock."""
        record = self.record()
        return record if self._lives(record) else None

    def _lives(self, record: LockRecord) -> bool:
        return bool(record.run) and FileRun(self._runs / record.run).alive()

    def take(self, run: str, by: Person, now: float, reason: str, *, force: bool) -> Taken:
        """Own the lock with a new token. Raises LockHeld when another living run owns it.

        With `force` it is taken over from whoever has it. Returns when no request and no command
        of the former owner is under way, as far as this machine lets one know.
        """
        with self._mutex(force=force):
            before = self._record_or_new(now) if force else self.record()
            other = before if before.run != run and self._lives(before) else None
            if other is not None and not force:
                raise lock_is_held(other)
            record = LockRecord(self.name, before.token + 1, run, by, now, reason)
            self._write(record, synced=True)
        # Also when it was free: whoever gave it up may have a request on its way all the same.
        if not self.wait_for_effects() and other is not None and self._end_stopped(other):
            self.wait_for_effects()
        doubts = self._end_commands(before) if before.run != run else ()
        return Taken(record, other, doubts)

    def _end_commands(self, before: LockRecord) -> tuple[str, ...]:
        """End the commands of a run that lost the lock; tells what of it could not be done.

        Its own process would do so, too, but in its own time. A run that gave the lock up is over:
        what it left running it was meant to.
        """
        former = before.run or (before.last if before.unlocked else "")
        if not former:
            return ()
        entry = FileRun(self._runs / former)
        engine, doubts = None, []
        if entry.alive():
            pid = entry.owner_pid()
            if pid is not None and has_open(pid, entry.path / "run.lock"):
                engine = pid
            else:  # a number of another container, say
                doubts.append(
                    f"the process of run {former} cannot be seen from here: commands of it may "
                    "still be at work"
                )
        left = end_commands(former, engine)
        if left:
            pids = ", ".join(map(str, left))
            doubts.append(
                f"commands of run {former} could not be ended (processes {pids}): they may still "
                "change something"
            )
        return tuple(doubts)

    def release(self, run: str, token: int) -> None:
        """Give the lock up, if it is still the run's."""
        with self._mutex():
            record = self.record()
            if record.run == run and record.token == token:
                self._write(msgspec.structs.replace(record, run="", last=run))

    def break_open(self, by: Person, now: float, reason: str) -> LockRecord:
        """Take the lock away from whoever has it, owning it for nobody; returns what was."""
        with self._mutex(force=True):
            before = self._record_or_new(now)
            last = before.run or before.last
            broken = LockRecord(self.name, before.token + 1, "", by, now, reason, last, True)
            self._write(broken, synced=True)
        self.wait_for_effects()
        self._end_commands(before)
        return before

    def wait_for_effects(self) -> bool:
        """Wait until no effect of the former owner is on its way; False after the patience."""
        with self._opened("fence") as descriptor:
            return look_until(lambda: _flocked(descriptor, fcntl.LOCK_EX), TAKEOVER_PATIENCE)

    def _end_stopped(self, owner: LockRecord) -> bool:
        """Kill the former owner's process if it does not run at all; whether it was so."""
        folder = FileRun(self._runs / owner.run)
        pid = folder.owner_pid()
        return pid is not None and folder.alive() and end_if_stopped(pid, folder.path / "run.lock")

    def changed(self, run: str, token: int) -> LockRecord | None:
        """The record, if the lock is not this run's with this token any more.

        Reads the file only if it was replaced since it was seen as ours.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return LockRecord(self.name, reason="its file was removed")
        stamp = (run, token, status.st_ino, status.st_mtime_ns)
        if self._seen == stamp:
            return None
        try:
            record = self.record()
        except LockHeld:
            return LockRecord(self.name, reason="its file is damaged")
        if record.run == run and record.token == token:
            self._seen = stamp
            return None
        return record

    @contextlib.contextmanager
    def effect(self) -> Iterator[None]:
        """Hold the fence, shared, as long as one request takes."""
        with self._opened("fence") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def _mutex(self, *, force: bool = False) -> Iterator[None]:
        """Change the record alone. A process that was stopped while it did so is ended with
        `force`, and else named: nobody waits for it for ever."""
        with self._opened("mutex") as descriptor:

            def alone() -> bool:
                return _flocked(descriptor, fcntl.LOCK_EX)

            if not look_until(alone, TAKEOVER_PATIENCE):
                pid = _pid_in(descriptor)
                if force and pid is not None:
                    end_if_stopped(pid, self._file("mutex"))
                if not look_until(alone, MUTEX_PATIENCE):
                    raise LockHeld(
                        f"process {pid or '?'} is taking or giving up {self.name} and does not "
                        "come to an end",
                        hint=f"look at it (`ps {pid or ''}`); if it was stopped, wake or end it",
                    )
            os.pwrite(descriptor, b"%-10d" % os.getpid(), 0)
            yield

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self._stem}.{kind}"

    @contextlib.contextmanager
    def _opened(self, kind: str) -> Iterator[int]:
        """A descriptor of its own: flock goes by open file, and is gone once that is closed."""
        path = self._file(kind)
        try:
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            make_private(self._folder)
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, record: LockRecord, *, synced: bool = False) -> None:
        """`synced`: once this returns, no power cut can bring an older token back."""
        draft = self.path.with_suffix(f".{os.getpid()}.new")
        write_private(draft, msgspec.json.encode(record), synced=True)
        draft.rename(self.path)
        if synced:
            sync_folder(self._folder)


def _flocked(descriptor: int, how: int) -> bool:
    """Try to take a file lock, without waiting."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pid_in(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 10, 0))
    except ValueError:
        return None
