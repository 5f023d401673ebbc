"""Child processes that cannot outlive the lab.

The kernel is asked to signal each child when its parent dies, so a supervisor that is killed
with SIGKILL takes everything with it and nothing has to notice or clean up.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import LabError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process `signum` when its parent dies.

    `parent` is the pid of the parent as it knew itself: it may have died before we asked.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    cwd: Path,
    death_signal: int = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a server as a child that dies with this process, in a group of its own.

    Its output goes to the file `log`. Raises LabError if the program cannot be started. Call it
    from the main thread only: the kernel's idea of a parent is the thread that forked.
    """
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                process_group=0,
                preexec_fn=_bound_to(os.getpid(), death_signal),
            )
    except OSError as error:
        raise LabError(
            f"{command[0]} cannot be started: {error.strerror}",
            hint="see whether it is there and may be executed",
        ) from error


def _bound_to(parent: int, death_signal: int) -> Callable[[], None]:
    def prepare() -> None:
        die_with_parent(parent, death_signal)

    return prepare


def stop(process: subprocess.Popen[bytes], signum: int, patience: float = 5.0) -> None:
    """Ask a child to end, and make it end if it has not done so after `patience` seconds."""
    if process.poll() is None:
        process.send_signal(signum)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(path: Path, lines: int = 12) -> list[str]:
    """The last lines of a log, as evidence in an error; none if there is no such file."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def close_inherited(*keep: int) -> None:
    """After a fork: close every descriptor that came from the parent but the standard three.

    A child that held on to a listening socket would keep an address after its owner is gone.
    """
    for descriptor in sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the one that listed the folder


def fork_child(main: Callable[[], int], *keep: int) -> int:
    """Fork a child that runs `main` and exits with what it returns; the child's pid.

    The child dies with this process, leads a process group and keeps only `keep` open.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        # On both sides, so that the group exists whoever comes first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    status = 70
    try:
        die_with_parent(parent)
        os.setpgid(0, 0)
        close_inherited(*keep)
        status = main()
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # Not sys.exit: the parent's frames below this one are not the child's to unwind.
        os._exit(status)
