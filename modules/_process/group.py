"""A command and everything that it started, to be ended together, and seen to be gone."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

_LOOK = 0.02


class ProcessGroup:
    """A process and everything it started, to be ended together."""

    def __init__(self, process: subprocess.Popen[bytes], grace: float, mark: bytes = b"") -> None:
        self._pid = process.pid
        self._grace = grace
        self._mark = mark
        self._strangers: set[Process] = set()
        self._begun = threading.Lock()
        self._over = threading.Event()
        self.left: set[int] = set()
        """Pids that not even SIGKILL has ended: another user's, or such that wait for a disk."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Should our process leave before the block does, none of them outlives it."""
        _watched.add(self)
        try:
            yield
        finally:
            _watched.discard(self)

    def kill(self) -> None:
        """End all of them, without asking or waiting."""
        self._signal(self._tree(), signal.SIGKILL)

    def end(self) -> None:
        """Ask all of them to end, make them after the grace; `left` has those that are left."""
        if not self._begun.acquire(blocking=False):
            self._over.wait()
            return
        members = self._tree()
        for number, patience in ((signal.SIGTERM, self._grace), (signal.SIGKILL, 1.0)):
            self._signal(members, number)
            members = self._outlasting(members, patience)
            if not members:
                break
        self.left = {member.pid for member in members}
        self._over.set()

    def _outlasting(self, members: set[Process], patience: float) -> set[Process]:
        """Who of them is still there when all are gone or the patience is."""
        pause = threading.Event()
        for _ in range(int(patience / _LOOK)):
            members = self._left(members)
            if not members:
                break
            pause.wait(_LOOK)
        return members

    def _left(self, members: set[Process]) -> set[Process]:
        """Who of them still runs, and whoever joined the session since."""
        return {
            one for one in processes() if not one.dead and (one in members or self._is_ours(one))
        }

    def _tree(self) -> set[Process]:
        """The processes below the command by parentage, in its session, or with its mark."""
        everyone = list(processes())
        tree = {one for one in everyone if self._is_ours(one)}
        parents = {one.pid for one in tree}
        while below := {one for one in everyone if one.parent in parents} - tree:
            tree |= below
            parents = {one.pid for one in below}
        return tree

    def _is_ours(self, one: Process) -> bool:
        if self._pid in (one.pid, one.session):
            return True
        if not self._mark or one in self._strangers:
            return False
        if self._mark in _environment(one.pid):
            return True
        self._strangers.add(one)
        return False

    def _signal(self, members: set[Process], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)
        for member in members:  # some may have left the group for a session of their own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member.pid, number)

    def settle(self) -> None:
        """If an end was begun, wait until it is over."""
        if not self._begun.acquire(blocking=False):
            self._over.wait()


_watched: set[ProcessGroup] = set()


@atexit.register
def _leave_none_behind() -> None:
    for group in list(_watched):
        group.kill()


class Process:
    """A line of /proc; equal to another by pid and start time, as pids are used again."""

    __slots__ = ("dead", "parent", "pid", "session", "started")

    def __init__(self, pid: int, fields: list[str]) -> None:
        self.pid = pid
        self.dead = fields[0] in "ZX"
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = fields[19]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and hash(self) == hash(other)

    def __hash__(self) -> int:
        return hash((self.pid, self.started))


def processes() -> Iterator[Process]:
    """Every process there is; none on systems without /proc, where the group must do."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = entry.read_text(errors="replace").rpartition(")")[2].split()
            yield Process(int(entry.parent.name), after_name)


def _environment(pid: int) -> list[bytes]:
    """The variables that a process was started with; none if it is not ours to look at."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
