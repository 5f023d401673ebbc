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

``<state>/tokens/`` keeps the highest token of each lock once more. So a record that was removed is
known to have been there: its token goes on growing, its living owner puts it back, and nobody else
is let in meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from engine.clock import look_until
from engine.errors import CeRunError, JournalError, LockHeld, Refused
from engine.events import Person, RunStarted
from engine.files import (
    UNDECODABLE,
    check_folder,
    is_same,
    make_private,
    open_file,
    read_file,
    sync_folder,
    write_private,
)
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
        self._ours: LockRecord | None = None
        self._stem = quote(name, safe=" ")  # a name is not a path
        self.path = self._folder / f"{self._stem}.json"
        self._token_path = state / "tokens" / f"{self._stem}.token"

    def record(self) -> LockRecord:
        """What the lock's file says now. Raises LockHeld when that cannot be read: who owns the
        lock is not known then."""
        try:
            record = msgspec.json.decode(read_file(self.path), type=LockRecord)
        except FileNotFoundError:
            return LockRecord(self.name, self._highest())
        except (OSError, JournalError, *UNDECODABLE) as error:
            raise LockHeld(
                f"nobody knows who holds {self.name}: {self.path} is damaged ({error})",
                hint=f"see with `ce-run runs` who works there, then `ce-run unlock {self.name} "
                "--reason …`, or run a runbook that preempts with --force",
            ) from error
        if record.token < self._highest():  # an old copy of the file: it says nothing of now
            return LockRecord(self.name, self._highest())
        return record

    def _highest(self) -> int:
        """The highest token that was ever given out; 0 when that is not known."""
        try:
            return int(read_file(self._token_path))
        except (OSError, ValueError, JournalError):
            return 0

    def _record_or_new(self, now: float) -> LockRecord:
        """The record, or one with a token that is larger than any that was counted up to."""
        try:
            return self.record()
        except LockHeld:
            return LockRecord(self.name, self._highest() or int(now))

    def owner(self) -> LockRecord | None:
        """The record, if a living run owns the lock."""
        return self._living(self.record())

    def _living(self, record: LockRecord, asking: str = "") -> LockRecord | None:
        """The record, if its run is alive; where it tells of nobody, that of a run which has lost
        it. `asking` is the run that wants the lock."""
        if _is_name(record.run):
            return record if FileRun(self._runs / record.run).alive() else None
        blank = record.token > 0 and not record.last and not record.unlocked
        return self._claimed(record.token, asking) if blank else None

    def _claimed(self, token: int, asking: str) -> LockRecord | None:
        """The record as it must have been, of a living run that holds the lock by its runbook."""
        for path in sorted(self._runs.glob("*"), reverse=True):
            run = FileRun(path)
            with contextlib.suppress(CeRunError):
                if path.name != asking and run.alive() and self.name in run.runbook().locks:
                    by, since = _beginning(run)
                    return LockRecord(self.name, token, run.run_id, by, since, "its record is gone")
        return None

    def take(self, run: str, by: Person, now: float, reason: str, *, force: bool) -> Taken:
        """Own the lock with a new token. Raises LockHeld when another living run owns it.

        With `force` it is taken over from whoever has it. Returns when no request and no command
        of the former owner is under way, as far as this machine lets one know.
        """
        with self._mutex(force=force):
            before = self._record_or_new(now) if force else self.record()
            other = self._living(before, run)
            if other is not None and other.run == run:
                other = None
            if other is not None and not force:
                raise lock_is_held(other)
            before = other or before
            record = LockRecord(self.name, before.token + 1, run, by, now, reason)
            self._write(record, synced=True)
            self._ours = record
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
        if not _is_name(former):
            return ()
        entry = FileRun(self._runs / former)
        engine, doubts = None, []
        if entry.alive():
            pid = entry.owner_pid()
            if pid == os.getpid():  # what stands below us is ours, whichever run started it
                engine = None
            elif pid is not None and has_open(pid, entry.path / "run.lock"):
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
        """Wait until no effect of the former owner is on its way; False after the patience.

        Where the fence was removed, requests under the former one cannot be seen: they are given
        all the time.
        """
        removed = self._highest() > 1 and not self._file("fence").exists()
        with self._opened("fence", force=True) as descriptor:
            if removed:
                return look_until(lambda: False, TAKEOVER_PATIENCE)
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
            status = os.lstat(self.path)
        except OSError:
            if self._put_back(run, token):
                return None
            return LockRecord(self.name, reason=f"{self.path} was removed")
        stamp = (run, token, status.st_ino, status.st_mtime_ns)
        if self._seen == stamp:
            return None
        try:
            record = self.record()
        except LockHeld:
            return LockRecord(self.name, reason=f"{self.path} is damaged")
        if record.run == run and record.token == token:
            self._seen = stamp
            self._ours = record
            return None
        return record

    def _put_back(self, run: str, token: int) -> bool:
        """Write a record again that was removed while it was ours, unless somebody else has the
        lock by now; whether it is there."""
        ours = self._ours
        if ours is None or (ours.run, ours.token) != (run, token):
            return False
        with contextlib.suppress(OSError, CeRunError), self._mutex():
            if not os.path.lexists(self.path) and self._highest() <= token:
                self._write(ours, synced=True)
            record = self.record()
            return record.run == run and record.token == token
        return False

    @contextlib.contextmanager
    def effect(self) -> Iterator[None]:
        """Hold the fence, shared, as long as one request takes. Raises Refused when it cannot be
        held: then nobody knows whether the request may be sent."""
        try:
            descriptor = self._shared_fence()
        except (OSError, JournalError) as error:
            why = error.message if isinstance(error, JournalError) else error.strerror or error
            raise Refused(
                f"whether {self.name} is still ours cannot be checked ({why}); nothing was sent",
                hint=f"see that {self._folder} can be read and written",
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def _shared_fence(self) -> int:
        """A descriptor that holds the fence, as it is there now."""
        path = self._file("fence")
        while True:
            try:
                descriptor = open_file(path, os.O_RDONLY)
            except FileNotFoundError:
                make_private(self._folder)
                descriptor = open_file(path, os.O_RDONLY | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if is_same(path, descriptor):
                return descriptor
            os.close(descriptor)

    @contextlib.contextmanager
    def _mutex(self, *, force: bool = False) -> Iterator[None]:
        """Change the record alone. A process that was stopped while it did so is ended with
        `force`, and else named: nobody waits for it for ever."""
        with self._opened("mutex", force=force) as descriptor:

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
    def _opened(self, kind: str, *, force: bool = False) -> Iterator[int]:
        """A descriptor of its own: flock goes by open file, and is gone once that is closed.

        With `force` what is no file of ours is put aside: it must not hold up an emergency.
        """
        path = self._file(kind)
        check_folder(self._folder)
        make_private(self._folder)
        try:
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        except (OSError, JournalError):
            if not force:
                raise
            _put_aside(path)
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, record: LockRecord, *, synced: bool = False) -> None:
        """`synced`: once this returns, no power cut can bring an older token back."""
        if self.path.is_dir():
            _put_aside(self.path)
        draft = self._folder / f".{self._stem}.{os.getpid()}.new"
        write_private(draft, msgspec.json.encode(record), synced=True)
        draft.rename(self.path)
        if synced:
            sync_folder(self._folder)
        with contextlib.suppress(OSError, JournalError):  # it is of use only if the record is lost
            make_private(self._token_path.parent)
            write_private(self._token_path, b"%d\n" % record.token)


def _beginning(run: FileRun) -> tuple[Person | None, float]:
    """Who started a run, and when, as far as its journal tells."""
    with contextlib.suppress(CeRunError):
        for record in run.records()[:1]:
            event = record.event
            return event.by if isinstance(event, RunStarted) else None, record.time
    return None, 0.0


def _is_name(run: str) -> bool:
    """Whether a damaged or forged record may be followed to a run's folder."""
    return bool(run) and "/" not in run and "\0" not in run and run not in (".", "..")


def _put_aside(path: Path) -> None:
    """Get something out of the way that is not what it should be."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f".{path.name}.{secrets.token_hex(3)}.aside"))


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
