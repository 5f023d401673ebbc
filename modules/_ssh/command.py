"""Remote commands: run with ``/bin/sh`` whatever the login shell is, and ended when they have to.

Closing a channel does not end what runs behind it. So a command is started by a small wrapper that
tells its process id, and ending it means a second session that signals that process and everything
below it, and looks whether it is gone.

The wrapper is the same for all commands and holds no sign that a shell reads in its own way (a line
break, a backslash, an exclamation mark); the command itself comes as the first line of the
wrapper's input. So csh and fish hand it on whole, and no list of processes shows it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shlex
import signal
import socket
import threading
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.module_api import Cancelled, Context, Failed, TimedOut, Unreachable
from modules._process import child as child_process
from modules._process.finished import Finished
from modules._ssh import connection as ssh_connection
from modules._ssh.address import CONNECT_TIMEOUT, Address

if TYPE_CHECKING:
    import paramiko

_WRAPPER = (
    'echo "ce-run-$1:$$"; IFS= read -r it; '
    'it=$(printf "%b_" "$it"); eval "unset it; set --; ${it%_}"'
)
_BEFORE = 65536
"""Bytes that a login script may say before the wrapper's line."""

_LEFT = """
set -- %(task)s %(engine)s
for file in $(grep -slzxF "CE_RUN_TASK=$1" /proc/[0-9]*/environ); do
  grep -qszxF "CE_RUN_ENGINE=$2" "$file" && continue
  grep -qszxF "CE_RUN_TASK=$1" "$file" || continue  # it was the search itself, and is gone
  pid=${file#/proc/}
  echo "${pid%%/environ}"
done
"""
"""Tells the processes of a task that another engine has started and that still run."""

_END = """
pids=$(ps -A -o pid= -o ppid= 2>/dev/null | awk -v root=%(pid)d '
  { parent[$1] = $2 }
  END {
    tree[root]
    do { n = 0; for (p in parent) if (!(p in tree) && (parent[p] in tree)) { tree[p]; n++ } }
    while (n)
    for (p in tree) print p
  }')
pids=${pids:-%(pid)d}
living() {
  left=
  for p in $pids; do
    kill -0 $p 2>/dev/null || continue
    case $(ps -o stat= -p $p 2>/dev/null) in Z*) ;; *) left="$left $p" ;; esac
  done
  [ -n "$left" ]
}
kill -TERM $pids 2>/dev/null
for _ in 1 2 3 4 5 6 7 8; do
  living || break
  sleep 0.2
done
if living; then
  kill -KILL $left 2>/dev/null
  sleep 0.2
  living
fi
echo "left:$left."
"""
"""Ends a process with all below it, and tells which of them are still there."""


def run(
    ctx: Context,
    where: Address,
    command: str,
    *,
    stdin: str = "",
    limit: int = 65536,
    log: bool = True,
) -> Finished:
    """Run a command with the remote ``/bin/sh`` to its end; ended there if the task must end."""
    with ssh_connection.lost(where):

        def session(connection: paramiko.Transport) -> paramiko.Channel:
            return connection.open_session(timeout=ctx.remaining(at_most=CONNECT_TIMEOUT))

        connection, channel = ssh_connection.opened(ctx, where, session)
        tell: Callable[[str], None] = ctx.log if log else lambda line: None
        remote = _Remote(connection, channel, limit, tell)
        with contextlib.closing(channel), ctx.on_cancel(remote.end):
            with ctx.fence():
                channel.exec_command(_line(remote.nonce, _safe(ctx.key), _engine()))
            try:
                remote.pump(ctx, where, _first_line(command) + stdin.encode())
                ctx.checkpoint()  # ended by our own signal
            except (Cancelled, TimedOut) as error:
                remote.end()
                raise _left_running(where, error, remote.gone) from None
        return remote.finished(where)


def _left_running(where: Address, error: Cancelled | TimedOut, gone: bool) -> Cancelled | TimedOut:
    """The same end, but for a command that goes on, or may: then with that."""
    if gone:
        return error
    message = f"the command on {where} could not be ended and may still run there"
    return type(error)(message, hint="look there before it is repeated")


def _line(nonce: str, task: str, engine: str) -> str:
    """The command line that every login shell reads alike."""
    marks = [f"CE_RUN_TASK={task}", f"CE_RUN_ENGINE={engine}"]
    # `exec`, so that the server sees how the command ends, not how the login shell tells it; `env`,
    # so that the shell itself carries the marks, whatever it runs.
    return f"exec {shlex.join(['env', *marks, '/bin/sh', '-c', _WRAPPER, 'sh', nonce])}"


def _first_line(command: str) -> bytes:
    """A command as the one line that the wrapper reads."""
    return command.replace("\\", r"\0134").replace("\n", r"\0012").encode() + b"\n"


def _safe(text: str) -> str:
    """A task's key without signs that a shell may read in its own way."""
    return urllib.parse.quote(text, safe="/:@._-+,=")


def _engine() -> str:
    """This process among all engines."""
    return _safe(f"{socket.gethostname()}:{os.getpid()}")


def left(ctx: Context, where: Address) -> list[int]:
    """Process ids there of this task's commands that outlived the engine that started them.

    An engine that is killed cannot end them, and two at the same time is more than was asked for.
    Where there is no /proc, nothing is found.
    """
    names = {"task": shlex.quote(_safe(ctx.key)), "engine": shlex.quote(_engine())}
    listing = run(ctx, where, _LEFT % names, log=False)
    return [int(word) for word in listing.stdout.split() if word.isdigit()]


def end_left(ctx: Context, where: Address) -> None:
    """End them, with what they started; Failed if one goes on. Before a first attempt are none."""
    for pid in left(ctx, where) if ctx.attempt > 1 else ():
        ctx.progress(f"ending what a killed engine has left running on {where}: {pid}")
        done = run(ctx, where, _END % {"pid": pid}, log=False)
        if not _is_gone(done.stdout):
            raise Failed(
                f"process {pid} on {where}, which a killed engine has left running, does not end",
                hint="end it by hand: two of them at the same time is more than was asked for",
                evidence=done.stdout.splitlines()[-3:],
            )


def _is_gone(words: str) -> bool:
    return re.search(r"(?m)^left:\.$", words) is not None


class _Remote:
    """A running remote command; `gone` once it was seen that nothing of it runs any more."""

    def __init__(
        self,
        connection: paramiko.Transport,
        channel: paramiko.Channel,
        limit: int,
        tell: Callable[[str], None],
    ) -> None:
        self.nonce = secrets.token_hex(8)  # so that no login script can say our line for us
        self.gone = False
        self._connection = connection
        self._channel = channel
        self._out = child_process.Captured(limit, tell)
        self._err = child_process.Captured(limit, tell)
        self._head = b""
        self._pid = 0
        self._ending = threading.Lock()
        self._ended = threading.Event()

    def pump(self, ctx: Context, where: Address, stdin: bytes) -> None:
        """Move bytes until the command has ended and everything it said was read."""
        channel, unsent = self._channel, stdin
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        patience = 3
        while True:
            pause = ctx.remaining(at_most=0.02 if unsent else 0.1)
            poll.poll(pause * 1000 if pause is not None else None)
            if unsent:
                unsent = self._feed(unsent)
            read = self._read(where)
            if channel.exit_status_ready() or channel.closed:
                # What it left in the background may hold the streams open: do not wait for that.
                patience -= not read
                if not read and (channel.eof_received or channel.closed or patience <= 0):
                    return

    def _feed(self, unsent: bytes) -> bytes:
        """Send what goes through now; what is left of it."""
        channel = self._channel
        if channel.send_ready():
            with contextlib.suppress(OSError):  # it does not read: its business
                unsent = unsent[channel.send(unsent[:32768]) :]
            unsent = b"" if channel.closed else unsent
            if not unsent:
                with contextlib.suppress(OSError, EOFError):
                    channel.shutdown_write()
        return unsent

    def _read(self, where: Address) -> bool:
        read = False
        while self._channel.recv_ready():
            self._stdout(where, self._channel.recv(65536))
            read = True
        while self._channel.recv_stderr_ready():
            self._err.add(self._channel.recv_stderr(65536))
            read = True
        return read

    def _stdout(self, where: Address, data: bytes) -> None:
        """The wrapper's line comes first: the process id."""
        if self._pid:
            self._out.add(data)
            return
        self._head += data  # what a login script says before it is no output of the command
        line = re.search(rb"(?m)^ce-run-%s:(\d+)\r?\n" % self.nonce.encode(), self._head)
        if line:
            self._pid = int(line[1])
            self._out.add(self._head[line.end() :])
        elif len(self._head) > _BEFORE:
            raise Failed(
                f"{where} says more than {_BEFORE >> 10} KiB before the command begins",
                hint="a login script there writes without end; the command has not run",
                evidence=[self._head[:200].decode(errors="replace")],
            )

    def end(self) -> None:
        """Signal the command and everything below it, from a session beside it, and look."""
        if not self._ending.acquire(blocking=False):
            self._ended.wait(5)
            return
        try:
            if self._pid:
                with contextlib.suppress(Exception):  # not seen to be gone
                    self.gone = self._end_beside()
            elif self._channel.exit_status_ready():
                self.gone = True
        finally:
            with contextlib.suppress(Exception):
                self._channel.close()
            self._ended.set()

    def _end_beside(self) -> bool:
        beside = self._connection.open_session(timeout=1.5)
        with contextlib.closing(beside):
            beside.settimeout(3)
            beside.exec_command(_line("end", "-", "-"))
            beside.sendall(_first_line(_END % {"pid": self._pid}))
            words = b""
            while len(words) < _BEFORE and (data := beside.recv(4096)):
                words += data
                if _is_gone(words.decode(errors="replace")):
                    return True
        return False

    def finished(self, where: Address) -> Finished:
        """How it ended; Unreachable if the connection did so before."""
        channel = self._channel
        name = str(getattr(channel, "exit_signal", ""))
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
        if code < 0 and not name and not self._connection.is_active():
            raise Unreachable(
                f"the connection to {where} broke off while the command ran",
                hint="whether it has ended there is not known",
            )
        if not self._pid:
            raise Failed(
                f"{where} did not run the command with /bin/sh",
                evidence=[self._head.decode(errors="replace")[:500], self._err.finish()[:500]],
            )
        if code < 0:
            code = -_number(where, name)
        truncated = self._out.truncated or self._err.truncated
        return Finished(code, self._out.finish(), self._err.finish(), truncated)


def _number(where: Address, name: str) -> int:
    """The signal of a name as SSH has it (``KILL``); Failed where none was told."""
    with contextlib.suppress(KeyError):
        return int(signal.Signals[f"SIG{name}"])
    how = f"by a signal that is not known here, {name}" if name else "without an exit status"
    raise Failed(f"the command on {where} ended {how}", hint="its output is in the step's log")
