"""Processes of this machine: which of them were stopped, and those that a run has left behind."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from engine.clock import look_until

COMMANDS_PATIENCE = 0.3
"""Seconds that commands of a run which cannot end them itself have between SIGTERM and SIGKILL."""


def end_if_stopped(pid: int, file: Path) -> bool:
    """Kill a process that does not run at all; whether it was so.

    A number may have been given to another process since it was written down: only one that has
    the file open is meant.
    """
    if not is_stopped(pid) or not has_open(pid, file):
        return False
    with contextlib.suppress(OSError):  # somebody else's: nothing more can be done from here
        os.kill(pid, signal.SIGKILL)
    return True


def has_open(pid: int, file: Path) -> bool:
    """Whether a process has a file open."""
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
