"""Commands that outlived the engine that had started them.

An engine that is killed cannot end its children, and a command that goes on unseen would have its
effect after somebody had decided that it had none. Each command carries the task's key and its
engine's process in its environment; so the next process finds it and ends it before the task runs
again. Where there is no /proc, nothing is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from engine.module_api import Context, Failed

_TASK, _ENGINE = b"CE_RUN_TASK", b"CE_RUN_ENGINE"
_PATIENCE = 2.0
_LOOK = 0.05


def mark(ctx: Context) -> dict[bytes, bytes]:
    """What a command's environment says of the task and the engine that it belongs to."""
    return {_TASK: ctx.key.encode(), _ENGINE: str(os.getpid()).encode()}


def find(ctx: Context) -> set[int]:
    """The pids of this task's commands that another engine has started and that still run."""
    # A dead engine starts nothing more: to look at everything once a process is enough.
    known = ctx.cached("shell:orphans", lambda: _search(ctx.run_id))
    return {pid for pid in known.get(ctx.key.encode(), ()) if _owner(pid)[0] == ctx.key.encode()}


def _search(run: str) -> dict[bytes, set[int]]:
    """Task → pids of what other engines have left of a run."""
    tasks: dict[bytes, set[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        task, engine = _owner(int(path.name))
        if task.startswith(f"{run}/".encode()) and engine != str(os.getpid()).encode():
            tasks.setdefault(task, set()).add(int(path.name))
    return tasks


def _owner(pid: int) -> tuple[bytes, bytes]:
    """The task and the engine that a process belongs to; empty for any other process."""
    with contextlib.suppress(OSError):
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        variables = dict(entry.partition(b"=")[::2] for entry in entries)
        return variables.get(_TASK, b""), variables.get(_ENGINE, b"")
    return b"", b""


def end(ctx: Context) -> None:
    """End them; returns when none is left, and fails if one does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = find(ctx)
        if not left:
            return
        ctx.progress(f"ending what a killed engine has left running: {sorted(left)}")
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        for _ in range(int(_PATIENCE / _LOOK)):
            if not find(ctx):
                return
            ctx.sleep(_LOOK)
    if left := find(ctx):
        pids = ", ".join(map(str, sorted(left)))
        raise Failed(
            f"what a killed engine has left running does not end (process {pids})",
            hint="end it by hand: two of them at the same time is more than was asked for",
        )
