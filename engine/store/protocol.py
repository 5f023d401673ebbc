"""What a run keeps outside its process, as the engine asks for it: one protocol, whoever keeps it.

A `Store` holds runs and locks. Of a run (`RunEntry`) it keeps how it was started, its runbook, its
journal, what attempts wrote, and what people say to it; one process at a time owns it. A lock
(`LockEntry`) names an environment, says who owns it, and fences effects. `engine.store.files` keeps
all of it in files of one machine; whatever else does has to pass ``tests/store/``.

Nothing outside a store may assume that it is a folder: what people are told is `Store.name` and
`RunEntry.place`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.events import Person, Record
from engine.journal import Journal
from engine.model import Runbook


class RunInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a run was started (``run.json``), enough to load the same things for a resume."""

    run: str
    runbook: str
    inventory: str | None
    cwd: str
    options: dict[str, Any] = {}
    sources: dict[str, str] = {}


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message to the process that carries a run.

    Verbs: ``stop`` (interrupt), ``rescue`` (fail as cancelled, so that rescue or undo run),
    ``abandon`` (the same for a run that had been interrupted), ``approve`` and ``reject``
    (with `step`), ``reason`` (why the run was started, told afterwards).
    """

    verb: str
    by: Person
    step: str = ""
    reason: str = ""
    ticked: tuple[str, ...] = ()
    """With ``approve``: the points of the checklist that were ticked."""


class LockRecord(msgspec.Struct, omit_defaults=True):
    """What is known of a lock. `run` is empty when nobody owns it; `since` is epoch seconds.

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


class Taken(msgspec.Struct, frozen=True):
    """A lock that was taken: its `record` as it is now, and what was `over` before."""

    record: LockRecord
    over: LockRecord | None = None
    """What it said before, if a living run owned it."""
    doubts: tuple[str, ...] = ()
    """What of the former owner may still be at work, for people."""


class Message(Protocol):
    """A command that was left for a run."""

    def withdraw(self) -> None:
        """Take it back, if it is still there: whoever resumes the run later is not meant."""
        ...


class RunEntry(Protocol):
    """One run. Its methods raise JournalError or UsageError for what cannot be read or written."""

    @property
    def run_id(self) -> str:
        """The run's name."""
        ...

    @property
    def place(self) -> str:
        """Where a person finds its journal."""
        ...

    @property
    def logs(self) -> Path:
        """A folder of this machine, for what attempts write while the run is carried here."""
        ...

    # -- owning: one process at a time carries a run -------------------------------------------
    def own(self) -> None:
        """Become the process that carries the run. Raises ResumeRefused when another one does."""
        ...

    def beat(self, now: float, confirmed: int = 0) -> str:
        """Leave a sign of life, and how many records of the journal are confirmed.

        Returns what had to be mended for that, to be told to people; mostly nothing. Raises
        JournalError when what is kept is not what this process owns any more.
        """
        ...

    def last_beat(self) -> float:
        """When a process that carried the run last gave a sign of life; 0.0 if none did."""
        ...

    def disown(self) -> None:
        """Let go of the run."""
        ...

    def alive(self) -> bool:
        """Whether a process carries the run at this moment."""
        ...

    def owner(self) -> str:
        """The process that carries, or last carried, the run, for people: ``process 4711``."""
        ...

    # -- how it was started ---------------------------------------------------------------------
    def info(self) -> RunInfo:
        """How the run was started."""
        ...

    def runbook(self) -> Runbook:
        """The runbook that the run was last carried out with."""
        ...

    def keep_runbook(self, runbook: Runbook, records: int = 0) -> None:
        """Keep the runbook to read the journal with; the one before, until that many `records`,
        is kept as well."""
        ...

    def source(self, name: str) -> bytes | None:
        """A file that the run was made from, as it was; None if there is none of that name."""
        ...

    # -- the journal ------------------------------------------------------------------------------
    def records(self) -> list[Record]:
        """All records of the journal; raises JournalDamaged or JournalError."""
        ...

    def journal(self, *, durable: bool = True) -> Journal:
        """A new journal, for the process that owns the run."""
        ...

    def reopen(self) -> tuple[list[Record], Journal]:
        """The records of the journal, and the journal ready to be continued by the run's owner."""
        ...

    # -- messages -----------------------------------------------------------------------------
    def send(self, command: Command) -> Message:
        """Leave a message for the process that carries the run."""
        ...

    def take_commands(self) -> list[Command]:
        """The messages left so far, oldest first; each is handed out once.

        What is none is taken away, too: it must not stand in the way of those behind it.
        """
        ...

    # -- what attempts wrote --------------------------------------------------------------------
    def log_names(self) -> list[str]:
        """Names of all logs, sorted."""
        ...

    def read_log(self, name: str, start: int = 0) -> bytes:
        """What is in a log from a position on; empty if there is none of that name."""
        ...

    def captures(self, log: str) -> list[str]:
        """What the attempt of a log kept besides, for people."""
        ...

    def size(self) -> int:
        """Grows whenever the journal or a log does."""
        ...

    def keep(self, name: str, data: bytes) -> str:
        """Keep something else about the run; where a person finds it."""
        ...

    def remove(self) -> None:
        """Forget a run that never began."""
        ...


class LockEntry(Protocol):
    """One named lock."""

    @property
    def name(self) -> str:
        """The environment's name."""
        ...

    def record(self) -> LockRecord:
        """What is known of it now. Raises LockHeld when that cannot be read: who owns the lock is
        not known then."""
        ...

    def owner(self) -> LockRecord | None:
        """The record, if a living run owns the lock."""
        ...

    def take(self, run: str, by: Person, now: float, reason: str, *, force: bool) -> Taken:
        """Own the lock with a new token. Raises LockHeld when another living run owns it.

        With `force` it is taken over from whoever has it. Returns when no request and no command
        of the former owner is under way, as far as that can be known.
        """
        ...

    def release(self, run: str, token: int) -> None:
        """Give the lock up, if it is still the run's."""
        ...

    def break_open(self, by: Person, now: float, reason: str) -> LockRecord:
        """Take the lock away from whoever has it, owning it for nobody; returns what was."""
        ...

    def wait_for_effects(self) -> bool:
        """Wait until no effect of the former owner is on its way; False after the patience."""
        ...

    def effect(self) -> contextlib.AbstractContextManager[None]:
        """Hold the fence, shared, as long as one request takes."""
        ...

    def changed(self, run: str, token: int) -> LockRecord | None:
        """The record, if the lock is not this run's with this token any more. Asked all the time:
        must cost next to nothing while nothing has changed."""
        ...


class Store(Protocol):
    """All runs and locks that people share."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def local(self) -> Path:
        """The folder of this machine that goes with it: the lab lives there."""
        ...

    def create(
        self, label: str, now: float, info: RunInfo, sources: Mapping[str, Path]
    ) -> RunEntry:
        """A new run, owned. `sources` maps names to files of this machine to be kept with it."""
        ...

    def runs(self) -> Sequence[RunEntry]:
        """Every run that has begun, newest first."""
        ...

    def find(self, name: str) -> RunEntry:
        """The run with that id, or the only one whose id contains the text; ``last`` is newest.

        Raises UsageError when there is none or more than one.
        """
        ...

    def lock(self, name: str) -> LockEntry:
        """A lock, whether it was ever taken or not."""
        ...

    def locks(self) -> Sequence[LockEntry]:
        """Every lock that was ever taken, by name."""
        ...
