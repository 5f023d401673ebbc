"""One run in files: ``<state>/runs/<run-id>/``, and how one owns and talks to it.

::

    <state>/runs/<run-id>/
        journal.jsonl    every event (engine.journal)
        run.json         how it was started: files, options, working directory
        runbook.json     the runbook that the journal is read with
        source/          the runbook, its includes and the inventory as they were
        logs/            one file an attempt, and folders for what attempts captured
        control/         messages from other shells: one JSON file each, taken by the process
        run.lock         held (flock) by the process that carries the run; free means nobody does

A lock that a process holds goes away with the process however it ends, so a dead run is known to
be dead at once and never looks as if it were running. The folder itself is locked as well: should
``run.lock`` be removed under a living run, nobody else can carry it all the same, and its process
puts the file back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from pathlib import Path

import msgspec

from engine import journal
from engine.clock import SystemClock, look_until
from engine.errors import JournalError, ResumeRefused, UsageError
from engine.events import Record
from engine.files import (
    UNDECODABLE,
    check_folder,
    is_same,
    open_file,
    read_file,
    read_struct,
    replace_file,
    sync_folder,
    write_private,
)
from engine.journal import FileDisk, Journal
from engine.model import Runbook
from engine.store.protocol import Command, RunInfo

LOCK_NAME = "run.lock"

_PID_WIDTH = 10
"""Bytes of ``run.lock`` that name the process; its last sign of life follows."""

GLANCE = 0.1
"""Seconds for which somebody who only looks whether a run is alive may hold its lock, at most."""


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _locked(descriptor: int, how: int) -> bool:
    """Try to take a file lock, without waiting."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems lock no folders: there run.lock has to do
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)
    return True


class FileMessage:
    """A command that lies in a run's ``control/``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def withdraw(self) -> None:
        """Take the file away, if it is still there."""
        self.path.unlink(missing_ok=True)


class FileRun:
    """One run on disk (`engine.store.protocol.RunEntry`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._folder: int | None = None

    @property
    def run_id(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

    @property
    def place(self) -> str:
        """The path of its journal."""
        return str(self.journal_path)

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        return self.path / journal.FILE_NAME

    @property
    def logs(self) -> Path:
        """The folder of attempts' logs."""
        return self.path / "logs"

    # -- owning -------------------------------------------------------------------------------
    def own(self) -> None:
        """Become the process that carries the run. Raises ResumeRefused when another one does."""
        check_folder(self.path)
        try:
            self._folder = os.open(self.path, _FOLDER)
            if not look_until(self._owned, GLANCE):
                self.disown()
                raise ResumeRefused(
                    f"run {self.run_id} is being carried by {self.owner()}",
                    hint=f"watch it with `ce-run show {self.run_id}`, "
                    f"or `ce-run stop {self.run_id}` first",
                )
        except OSError as error:
            self.disown()
            raise JournalError(f"{self.path} cannot be written: {error.strerror}") from error

    def _owned(self) -> bool:
        """Try to lock ``run.lock`` and the folder, both as they are there now."""
        path = self.path / LOCK_NAME
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        assert self._folder is not None
        if (
            _locked(descriptor, fcntl.LOCK_EX)
            and _locked(self._folder, fcntl.LOCK_EX)
            and is_same(path, descriptor)
        ):
            os.pwrite(descriptor, b"%-10d" % os.getpid(), 0)
            self._lock = descriptor
            return True
        os.close(descriptor)
        return False

    def beat(self, now: float, confirmed: int = 0) -> str:
        """Leave a sign of life, for a resume to know until when the run was at work."""
        if self._lock is None or self._folder is None:
            return ""
        if not is_same(self.path, self._folder):
            raise JournalError(
                f"{self.path} was removed or replaced while the run was at work",
                hint="nothing more was started; put the folder back and `ce-run resume`, or look "
                "at what was done and start anew",
            )
        mended = "" if is_same(self.path / LOCK_NAME, self._lock) else self._put_lock_back()
        os.pwrite(self._lock, b" %017.3f %010d\n" % (now, confirmed), _PID_WIDTH)
        return mended

    def _put_lock_back(self) -> str:
        former, self._lock = self._lock, None
        if not self._owned():  # somebody tries the new file; they will not get the folder
            self._lock = former
            return ""
        assert former is not None
        os.close(former)
        return f"{self.path / LOCK_NAME} was removed or replaced under the run; it is there again"

    def _beat(self) -> list[bytes]:
        """When the last sign of life was left, and how many records were confirmed then."""
        try:
            return read_file(self.path / LOCK_NAME)[_PID_WIDTH:].split()
        except (OSError, JournalError):
            return []

    def last_beat(self) -> float:
        """When a process that carried the run last gave a sign of life; 0.0 if none did."""
        try:
            return float(self._beat()[0])
        except (ValueError, IndexError):
            return 0.0

    def _confirmed(self) -> int:
        """How many records the journal holds at least."""
        try:
            return int(self._beat()[1])
        except (ValueError, IndexError):
            return 0

    def disown(self) -> None:
        """Let go of the run."""
        for descriptor in (self._lock, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._folder = None

    def alive(self) -> bool:
        """Whether a process carries the run at this moment."""
        if self._lock is not None:
            return True
        for path, flags in ((self.path / LOCK_NAME, os.O_RDONLY), (self.path, _FOLDER)):
            try:
                descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if not _locked(descriptor, fcntl.LOCK_SH):
                    return True
            finally:
                os.close(descriptor)
        return False

    def owner(self) -> str:
        """The process that carries, or last carried, the run."""
        return f"process {self.owner_pid() or '?'}"

    def owner_pid(self) -> int | None:
        """Its number, on this machine."""
        try:
            return int(read_file(self.path / LOCK_NAME)[:_PID_WIDTH])
        except (OSError, ValueError, JournalError):
            return None

    # -- how it was started -------------------------------------------------------------------
    def info(self) -> RunInfo:
        """How the run was started."""
        return read_struct(self.path / "run.json", RunInfo)

    def runbook(self) -> Runbook:
        """The runbook that the run was last carried out with."""
        path = self.path / "runbook.json"
        try:
            return msgspec.json.decode(read_file(path), type=Runbook)
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
        except UNDECODABLE as error:
            raise JournalError(f"{path} is damaged: {error}") from error

    def keep_runbook(self, runbook: Runbook, records: int = 0) -> None:
        """Keep the runbook, and the one before it; safe from a power cut when this returns."""
        path = self.path / "runbook.json"
        try:
            data = msgspec.json.encode(runbook)
            if records:
                write_private(path.with_name(f"runbook-until-{records}.json"), read_file(path))
                replace_file(path, data)
            else:
                write_private(path, data, synced=True)
                self._sync()
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror or error}") from error

    def source(self, name: str) -> bytes | None:
        """A file that the run was made from, as it was."""
        try:
            return read_file(self.path / "source" / name)
        except OSError:
            return None

    # -- the journal ----------------------------------------------------------------------------
    def records(self) -> list[Record]:
        """All records of the journal; raises JournalDamaged or JournalError."""
        confirmed = self._confirmed()  # before the journal is read: meanwhile it may grow
        records = list(journal.read(self.journal_path))
        journal.refuse_loss(self.journal_path, len(records), confirmed)
        return records

    def journal(self, *, durable: bool = True) -> Journal:
        """A new journal; one that is not `durable` announces nothing that could be lost."""
        return Journal(FileDisk(self.journal_path, durable=durable))

    def reopen(self) -> tuple[list[Record], Journal]:
        """The records of the journal, and the journal ready to be continued."""
        return journal.reopen(self.journal_path, self._confirmed())

    def begun(self) -> bool:
        """Whether it has, or had, a journal."""
        return os.path.lexists(self.journal_path) or self._confirmed() > 0

    # -- messages -------------------------------------------------------------------------------
    def send(self, command: Command) -> FileMessage:
        """Leave a message for the process that carries the run."""
        folder = self.path / "control"
        name = f"{round(SystemClock().now() * 1e6):020d}-{secrets.token_hex(3)}"
        draft = folder / f".{name}"
        try:
            check_folder(folder)
            write_private(draft, msgspec.json.encode(command))
            return FileMessage(draft.rename(folder / f"{name}.json"))
        except OSError as error:
            raise JournalError(
                f"no message can be left in {folder}: {error.strerror or error}"
            ) from error

    def take_commands(self) -> list[Command]:
        """The messages left so far, oldest first; each is handed out once."""
        commands = []
        for path in sorted((self.path / "control").glob("*.json")):
            with contextlib.suppress(UsageError, JournalError):
                commands.append(read_struct(path, Command))
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return commands

    # -- what attempts wrote ----------------------------------------------------------------------
    def log_names(self) -> list[str]:
        """Names of all logs, without their ending."""
        return sorted(path.name.removesuffix(".log") for path in self.logs.glob("*.log"))

    def read_log(self, name: str, start: int = 0) -> bytes:
        """What is in a log from a position on."""
        try:
            descriptor = open_file(self.logs / f"{name}.log", os.O_RDONLY)
        except OSError:
            return b""
        with os.fdopen(descriptor, "rb") as stream:
            stream.seek(start)
            return stream.read()

    def captures(self, log: str) -> list[str]:
        """Paths of what the attempt of a log kept besides."""
        return sorted(str(path) for path in (self.logs / f"{log}.d").glob("*"))

    def size(self) -> int:
        """Bytes of journal and logs."""
        total = 0
        for path in (self.journal_path, *self.logs.glob("*.log")):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def keep(self, name: str, data: bytes) -> str:
        """Keep something else about the run: its path."""
        path = self.path / name
        write_private(path, data)
        return str(path)

    def remove(self) -> None:
        """Take the run's folder away."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _sync(self) -> None:
        """Have the disk confirm the folder, and that it is where it is."""
        for folder in (self.path, self.path.parent, self.path.parent.parent):
            sync_folder(folder)
