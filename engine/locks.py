"""Locks name environments; whoever owns one may change that environment, and nobody else.

A lock is a small file in ``<state>/locks/`` that says which run owns it, since when, why, and
with which *fencing token*, a number that only grows. Two more files beside it are only ever
flocked: ``.mutex`` around a change of the record, and ``.fence`` around effects:

- a run holds the fence *shared* while it sends a request, having checked its token under it;
- a run that takes over writes the record first and then takes the fence *exclusive* once, so it
  knows that every request of the old run has been answered and that none can follow. Should the
  old process be stopped (SIGSTOP) inside the fence, so that it would send what it has checked
  long ago whenever it is woken, it is ended. Commands of a run that is dead or stopped are ended
  as well, since nobody else would.

An owner is alive as long as its process holds its run's ``run.lock``. The lock of a dead owner
is free, without waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from engine.clock import look_until, time_text
from engine.errors import Cancelled, LockHeld
from engine.events import Person
from engine.journal import sync_folder
from engine.runs import RunFolder, Runs, make_private, write_private

TAKEOVER_PATIENCE = 1.0
"""Seconds a takeover waits for requests of the old run that are on their way."""

MUTEX_PATIENCE = 5.0
"""Seconds to wait for another process that changes a lock's record: that takes milliseconds."""

COMMANDS_PATIENCE = 0.3
"""Seconds that commands of a run which cannot end them itself have between SIGTERM and SIGKILL."""


class LockRecord(msgspec.Struct, omit_defaults=True):
    """What a lock's file says. `run` is empty when nobody owns it; `since` is epoch seconds.

    A run that gives its lock up stays named in `last`, with by whom and why it was taken: one
    from which it had been taken over may look only afterwards, and has to tell its people. So
    does one from which an operator took it: `unlocked` says that `by` and `reason` are theirs.
    """

    name: str
    token: int = 0
    run: str = ""
    by: Person | None = None
    since: float = 0.0
    reason: str = ""
    last: str = ""
    unlocked: bool = False


class Lock:
    """One named lock of a state folder."""

    def __init__(self, state: Path, name: str) -> None:
        self._runs = Runs(state)
        self._folder = state / "locks"
        self.name = name
        self._stem = quote(name, safe=" ")  # a name is not a path
        self.path = self._folder / f"{self._stem}.json"

    def record(self) -> LockRecord:
        """What the lock's file says now. Raises LockHeld when that cannot be read: who owns the
        lock is not known then."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=LockRecord)
        except FileNotFoundError:
            return LockRecord(self.name)
        except msgspec.MsgspecError as error:
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
        return bool(record.run) and RunFolder(self._runs.folder / record.run).alive()

    def take(
        self, run: str, by: Person, now: float, reason: str, *, force: bool
    ) -> tuple[LockRecord, LockRecord | None]:
        """Own the lock with a new token. Raises LockHeld when another living run owns it.

        With `force` it is taken over from whoever has it. Returns the lock's record as it is
        now, and the record of the living run that it was taken from.
        """
        with self._mutex(force=force):
            before = self._record_or_new(now) if force else self.record()
            other = before if before.run != run and self._lives(before) else None
            if other is not None and not force:
                raise _held(other)
            taken = LockRecord(self.name, before.token + 1, run, by, now, reason)
            self._write(taken, synced=True)
        # Also when it was free: whoever gave it up may have a request on its way all the same.
        if not self.wait_for_effects() and other is not None and self._end_stopped(other):
            self.wait_for_effects()
        if before.run not in ("", run) and not self._can_end_its_own(before.run):
            end_commands(before.run)
        return taken, other

    def _can_end_its_own(self, run: str) -> bool:
        """Whether a run's process will end the commands that it had started."""
        folder = RunFolder(self._runs.folder / run)
        pid = folder.owner_pid()
        return folder.alive() and pid is not None and not is_stopped(pid)

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
        return before

    def wait_for_effects(self) -> bool:
        """Wait until no effect of the former owner is on its way; False after the patience."""
        with self._opened("fence") as descriptor:
            return look_until(lambda: _flocked(descriptor, fcntl.LOCK_EX), TAKEOVER_PATIENCE)

    def _end_stopped(self, owner: LockRecord) -> bool:
        """Kill the former owner's process if it does not run at all; whether it was so."""
        folder = RunFolder(self._runs.folder / owner.run)
        pid = folder.owner_pid()
        return pid is not None and folder.alive() and _end_if_stopped(pid, folder.path / "run.lock")

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
                    _end_if_stopped(pid, self._file("mutex"))
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
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            make_private(self._folder)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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


def _held(owner: LockRecord) -> LockHeld:
    why = f" ({owner.reason})" if owner.reason else ""
    return LockHeld(
        f"{owner.name} is locked by run {owner.run}, which {_who(owner)} started at "
        f"{time_text(owner.since)}{why}",
        hint=f"wait for it (`ce-run show {owner.run}`), stop it (`ce-run stop {owner.run}`), "
        "or run a runbook that preempts with --force",
    )


def _who(record: LockRecord) -> str:
    if record.by is None:
        return "somebody"
    return f"{record.by.name}@{record.by.host}" if record.by.host else record.by.name


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


def _end_if_stopped(pid: int, file: Path) -> bool:
    """Kill a process that does not run at all; whether it was so.

    A number may have been given to another process since it was written down: only one that has
    the file open is meant.
    """
    if not is_stopped(pid) or not _has_open(pid, file):
        return False
    with contextlib.suppress(OSError):  # somebody else's: nothing more can be done from here
        os.kill(pid, signal.SIGKILL)
    return True


def _has_open(pid: int, file: Path) -> bool:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.samefile(file):
                    return True
    return False


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger, and will go on when it is woken."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")


def end_commands(run: str) -> None:
    """End the commands of a run whose process is dead or stopped: they go on without it, and
    would change what now belongs to another run. Each carries its run in its environment."""
    for number, patience in ((signal.SIGTERM, COMMANDS_PATIENCE), (signal.SIGKILL, 1.0)):
        left = _commands(run)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        if not left or look_until(lambda: not _commands(run), patience):
            return


def _commands(run: str) -> set[int]:
    """Processes that a run has started; not ourselves, should it have started us, too."""
    mark = f"CE_RUN_ID={run}".encode()
    found = {
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/environ")
        if mark in _bytes_of(path).split(b"\0")
    }
    return found - set(_ourselves()) if found else found


def _ourselves() -> Iterator[int]:
    """This process and those above it."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        fields = _bytes_of(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def all_locks(state: Path) -> list[Lock]:
    """Every lock that was ever taken in a state folder, by name."""
    return [Lock(state, unquote(path.stem)) for path in sorted((state / "locks").glob("*.json"))]


class OwnedLocks:
    """The locks of a run: taken together, checked before every effect, released together.

    It is the run's fence (`engine.executor.Fence`).
    """

    def __init__(self, state: Path, names: Sequence[str], run: str) -> None:
        self._locks = [Lock(state, name) for name in sorted(set(names))]
        self._run = run
        self.tokens: dict[str, int] = {}
        self.over: dict[str, str] = {}
        self._seen: dict[str, tuple[int, int]] = {}

    def take(self, by: Person, now: float, reason: str, *, force: bool) -> None:
        """Own all of them, or none: raises LockHeld after giving back those taken."""
        try:
            for lock in self._locks:
                taken, over = lock.take(self._run, by, now, reason, force=force)
                self.tokens[lock.name] = taken.token
                if over is not None:
                    self.over[lock.name] = over.run
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
            record = self._changed(lock)
            if record is not None:
                return record
        return None

    def _changed(self, lock: Lock) -> LockRecord | None:
        """Reads the file only if it was replaced since we saw it as ours."""
        try:
            found = lock.path.stat()
        except FileNotFoundError:
            return LockRecord(lock.name, reason="its file was removed")
        stamp = (found.st_ino, found.st_mtime_ns)
        if self._seen.get(lock.name) == stamp:
            return None
        try:
            record = lock.record()
        except LockHeld:
            return LockRecord(lock.name, reason="its file is damaged")
        if record.run == self._run and record.token == self.tokens.get(lock.name):
            self._seen[lock.name] = stamp
            return None
        return record

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The fence around one request; raises Cancelled when a lock is no longer ours."""
        with contextlib.ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock.effect())
            lost = self.lost()
            if lost is not None:
                run = lost.run or ("" if lost.unlocked else lost.last) or "(nobody)"
                raise Cancelled(f"{lost.name} was taken over by run {run}; nothing was sent")
            yield

    def identity(self) -> dict[str, str]:
        """Headers that name the run and its tokens."""
        tokens = ",".join(f"{name}={token}" for name, token in sorted(self.tokens.items()))
        return {"X-CE-Run": self._run, "X-CE-Token": tokens or "0"}
