"""Where runs live: ``<state>/runs/<run-id>/``, and how one finds, owns and talks to them.

::

    <state>/runs/<run-id>/
        journal.jsonl    every event (engine.journal)
        run.json         how it was started: files, options, working directory
        source/          the runbook, its includes and the inventory as they were
        logs/            one file an attempt, and folders for what attempts captured
        control/         messages from other shells: one JSON file each, taken by the process
        run.lock         held (flock) by the process that carries the run; free means nobody does

Folders are 0700 and files 0600. A lock that a process holds goes away with the process however
it ends, so a dead run is known to be dead at once and never looks as if it were running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine import journal
from engine.clock import SystemClock, look_until, utc
from engine.errors import JournalError, ResumeRefused, UsageError
from engine.events import AnyEvent, Person, Record
from engine.text import writable

T = TypeVar("T")

STATE_VARIABLE = "CE_RUN_STATE"
DEFAULT_STATE = ".ce-run"

_PID_WIDTH = 10
"""Bytes of ``run.lock`` that name the process; its last sign of life follows."""

GLANCE = 0.1
"""Seconds for which somebody who only looks whether a run is alive may hold its lock, at most."""


def state_folder(given: str | None = None) -> Path:
    """``--state``, else ``CE_RUN_STATE``, else ``.ce-run``; absolute, not necessarily there."""
    return Path(given or os.environ.get(STATE_VARIABLE) or DEFAULT_STATE).absolute()


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


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def run_id(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

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
        try:
            descriptor = os.open(self.path / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}") from error

        def owned() -> bool:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

        if not look_until(owned, GLANCE):
            os.close(descriptor)
            raise ResumeRefused(
                f"run {self.run_id} is being carried by process {self.owner_pid() or '?'}",
                hint=f"watch it with `ce-run show {self.run_id}`, "
                f"or `ce-run stop {self.run_id}` first",
            )
        os.pwrite(descriptor, b"%-10d" % os.getpid(), 0)
        self._lock = descriptor

    def beat(self, now: float) -> None:
        """Leave a sign of life, for a resume to know until when the run was at work."""
        if self._lock is not None:
            os.pwrite(self._lock, b" %017.3f\n" % now, _PID_WIDTH)

    def last_beat(self) -> float:
        """When a process that carried the run last gave a sign of life; 0.0 if none did."""
        try:
            return float((self.path / "run.lock").read_bytes()[_PID_WIDTH:])
        except (OSError, ValueError):
            return 0.0

    def disown(self) -> None:
        """Let go of the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def alive(self) -> bool:
        """Whether a process carries the run at this moment."""
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self.path / "run.lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def owner_pid(self) -> int | None:
        """The process that carries (or last carried) the run."""
        try:
            return int((self.path / "run.lock").read_bytes()[:_PID_WIDTH])
        except (OSError, ValueError):
            return None

    # -- what is in it --------------------------------------------------------------------------
    def info(self) -> RunInfo:
        """How the run was started."""
        return _read_struct(self.path / "run.json", RunInfo)

    def records(self) -> list[Record]:
        """All records of the journal; raises JournalDamaged or JournalError."""
        return list(journal.read(self.journal_path))

    def append(
        self,
        event: AnyEvent,
        before: Callable[[list[Record]], Sequence[AnyEvent]] = lambda records: (),
    ) -> None:
        """Add an event to the journal of a run that nobody carries. Owns the run meanwhile.

        `before` is given all records, once nobody else can add any: it says what has to be noted
        first, and raises when the event cannot follow.
        """
        self.own()
        try:
            records, book = journal.reopen(self.journal_path)
            try:
                if not records:
                    raise ResumeRefused(
                        f"run {self.run_id} was never started: its journal is empty"
                    )
                now = max(SystemClock().now(), records[-1].time)
                for each in (*before(records), event):
                    book.append(each, now)
                book.sync()
            finally:
                book.close()
        finally:
            self.disown()

    # -- messages -------------------------------------------------------------------------------
    def send(self, command: Command) -> Path:
        """Leave a message for the process that carries the run; where it lies until it is taken."""
        folder = self.path / "control"
        name = f"{round(SystemClock().now() * 1e6):020d}-{secrets.token_hex(3)}"
        draft = folder / f".{name}"
        write_private(draft, msgspec.json.encode(command))
        return draft.rename(folder / f"{name}.json")

    def take_commands(self) -> list[Command]:
        """The messages left so far, oldest first; each is given out once.

        What is none is taken away, too: it must not stand in the way of those behind it.
        """
        commands = []
        for path in sorted((self.path / "control").glob("*.json")):
            with contextlib.suppress(UsageError):
                commands.append(_read_struct(path, Command))
            path.unlink()
        return commands


def _read_struct(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it that are missing."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Write a file that only its owner may read; `synced`: have the disk confirm it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        if synced:
            stream.flush()
            os.fsync(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another: whoever reads finds the one or the other, whole, even
    after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_private(draft, data, synced=True)
    draft.rename(path)
    journal.sync_folder(path.parent)


def _age(path: Path) -> tuple[str, int]:
    """Sorts runs as they began; of the same second, whose ids do not tell, by their first file."""
    try:
        made = (path / "run.json").stat().st_mtime_ns
    except OSError:
        made = 0
    return path.name[: len("20260131-140509")], made


class Runs:
    """All runs of a state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "runs"

    def create(self, label: str, now: float, info: RunInfo, sources: dict[str, Path]) -> RunFolder:
        """A new run's folder, owned. `sources` maps names below ``source/`` to files to keep."""
        make_private(self.folder)
        run_id = f"{utc(now):%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}"
        path = self.folder / run_id
        for part in ("", "logs", "control", "source"):
            (path / part).mkdir(mode=0o700)
        for name, source in sources.items():
            target = path / "source" / name
            make_private(target.parent)
            write_private(target, source.read_bytes())
        info = msgspec.structs.replace(info, run=run_id)
        text = msgspec.json.format(msgspec.json.encode(info), indent=2)
        write_private(path / "run.json", text, synced=True)
        folder = RunFolder(path)
        folder.own()
        return folder

    def all(self) -> list[RunFolder]:
        """Every run with a journal, newest first."""
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if (path / journal.FILE_NAME).exists())
        return [RunFolder(path) for path in sorted(found, key=_age, reverse=True)]

    def find(self, name: str) -> RunFolder:
        """The run with that id, or the only one whose id contains the text; ``last`` is newest.

        Raises UsageError when there is none or more than one.
        """
        runs = self.all()
        if not runs:
            raise UsageError(
                f"there are no runs in {self.folder}",
                hint="--state names another folder; `ce-run FILE` starts a run",
            )
        if name in ("last", "latest"):
            return runs[0]
        matches = [run for run in runs if run.run_id == name] or [
            run for run in runs if name and name in run.run_id
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(run.run_id for run in matches[:5])
            raise UsageError(f"{name!r} fits several runs: {ids}", hint="give more of the id")
        raise UsageError(
            f"there is no run {name!r} in {self.folder}",
            hint="`ce-run runs` lists them; `--state` names another folder",
        )

    def __iter__(self) -> Iterator[RunFolder]:
        return iter(self.all())


def this_person(name: str | None = None) -> Person:
    """Who is at work here: user, host, and by which way (terminal, CI job, or none)."""
    user = name or os.environ.get("SUDO_USER") or os.environ.get("USER") or _login_name()
    return Person(name=writable(user), host=os.uname().nodename, via=_via())


def _login_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _via() -> str:
    if job := os.environ.get("GITHUB_RUN_ID"):
        return f"GitHub Actions run {job} of {os.environ.get('GITHUB_WORKFLOW', '?')}"
    if os.environ.get("CI"):
        return "CI"
    try:
        return os.ttyname(0)
    except OSError:
        return "no terminal"
