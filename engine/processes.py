"""Processes of this machine: which of them were stopped, and those that a run has left behind."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from engine.clock import look_until

COMMANDS_PATIENCE = 0.3
"""Seconds that commands of a run that is taken over have between SIGTERM and SIGKILL."""

KILL_PATIENCE = 1.0
"""Seconds after SIGKILL: who is still there is another user's, or hangs in the kernel."""

_LOOK = 0.02
"""Seconds between two looks at all processes."""


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


def end_commands(run: str, engine: int | None = None) -> tuple[int, ...]:
    """End the commands of a run and return when they are gone; the pids of those that would not.

    `engine` is the process that carries the run, if it lives: whatever stands below it belongs to
    the run, too. Commands are asked first, and made to after `COMMANDS_PATIENCE`; they may start
    others meanwhile, so whoever is left is looked for again and again.
    """
    left = _commands(run, engine)
    if not left:
        return ()
    _signal(left, signal.SIGTERM)

    def gone() -> bool:
        nonlocal left
        left = _commands(run, engine)
        return not left

    def killed() -> bool:
        _signal(left, signal.SIGKILL)
        return gone()

    if not look_until(gone, COMMANDS_PATIENCE, _LOOK):
        look_until(killed, KILL_PATIENCE, _LOOK)
    return tuple(sorted(left))


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):  # gone, or somebody else's
            os.kill(pid, number)


class _Process(NamedTuple):
    """What of a process tells whose it is."""

    parent: int
    session: int
    dead: bool


def _commands(run: str, engine: int | None) -> set[int]:
    """Processes that a run has started; not ourselves, should it have started us, too.

    They are known by what they carry: the run's name in their environment, or its descriptor
    (`command_mark`), which also those have whose environment was cleared; by what they stand below,
    one of them or the engine; and by the session of one of them.
    """
    everyone = _processes()
    ours = set(_ourselves(everyone))
    if engine != os.getpid():  # else they are those that are meant
        ours |= _below(everyone, {os.getpid()})
    pids = {pid for pid in everyone if pid not in ours and _carries(pid, run)}
    if engine is not None and engine in everyone:
        pids |= _below(everyone, {engine}) - ours
    known = {everyone[pid].session for pid in pids}
    known -= {everyone[pid].session for pid in (*ours, engine) if pid in everyone}
    pids |= {pid for pid, each in everyone.items() if each.session in known}
    pids |= _below(everyone, pids)
    return {pid for pid in pids - ours - {engine} if not everyone[pid].dead}


def command_mark(run: str) -> str:
    """The name of the file in memory that every command of a run has open."""
    return f"ce-run {run}"


def _carries(pid: int, run: str) -> bool:
    if f"CE_RUN_ID={run}".encode() in _bytes_of(Path(f"/proc/{pid}/environ")).split(b"\0"):
        return True
    name = f"/memfd:{command_mark(run)}"
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for each in descriptors:
            with contextlib.suppress(OSError):
                if os.readlink(each.path).startswith(name):  # noqa: PTH115
                    return True
    return False


def _processes() -> dict[int, _Process]:
    """Every process of this machine that can be seen; none on systems without /proc."""
    everyone = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - a takeover waits for it
            if name.isdigit():
                fields = _bytes_of(Path(f"/proc/{name}/stat")).rpartition(b")")[2].split()
                if len(fields) > 3:
                    dead = fields[0] in (b"Z", b"X")
                    everyone[int(name)] = _Process(int(fields[1]), int(fields[3]), dead)
    return everyone


def _below(everyone: Mapping[int, _Process], tops: set[int]) -> set[int]:
    """The processes below others, by parentage."""
    pids: set[int] = set()
    parents = set(tops)
    while parents:
        parents = {pid for pid, each in everyone.items() if each.parent in parents} - pids
        pids |= parents
    return pids


def _ourselves(everyone: Mapping[int, _Process]) -> Iterator[int]:
    """This process and those above it."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        pid = everyone[pid].parent if pid in everyone else 0


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
