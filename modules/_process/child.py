"""Child processes that really end: what `shell` and `sql` run programs with.

A command gets a session of its own, so that it and whatever it started can be signalled
together; its output is read without threads, kept within a bound and handed on line by line.
One process costs little more than a bare `subprocess.run`: that is measured (`make bench`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from engine.module_api import Cancelled, Context, Failed, Refused, TimedOut, command_mark
from modules._process import group as process_group
from modules._process.finished import Finished

GRACE = 2.0
"""Seconds between asking a process group to end (SIGTERM) and ending it (SIGKILL)."""

_CHUNK = 65536
_HELD = 1024
"""Bytes that are kept back where a line is broken: a secret that is cut there is recognised by its
two parts only in a text of some length."""
_COMMAND = b"CE_RUN_COMMAND"
"""A command's environment holds its number, by which daemons that it started are found: they have
left its session, and who their parent was nobody knows any more."""

_RUN = b"CE_RUN_ID"

_NUMBERS = itertools.count(1)


class Captured:
    """Output within a bound: its beginning and its end; what lay between is counted."""

    def __init__(self, limit: int, line: Callable[[str], None]) -> None:
        """Keep `limit` bytes; `line` gets every complete line (or several at once)."""
        self._half = max(1, limit // 2)
        self._head = b""
        self._tail = bytearray()
        self._dropped = 0
        self._unfinished = b""
        self._line = line

    def add(self, data: bytes) -> None:
        """Take what was read, and pass on the lines that are complete."""
        complete, newline, rest = (self._unfinished + data).rpartition(b"\n")
        if newline:
            self._line(complete.decode(errors="replace"))
        self._unfinished = rest
        if len(self._unfinished) > 4 * _CHUNK:  # no newline for 256 KiB: not a line of text
            self._line(self._unfinished[:-_HELD].decode(errors="replace"))
            self._unfinished = self._unfinished[-_HELD:]
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(room, 0) :]
        excess = len(self._tail) - self._half
        if excess > 0:
            self._dropped += excess
            del self._tail[:excess]

    def finish(self) -> str:
        """Pass on a last line without newline; the text to keep."""
        if self._unfinished:
            self._line(self._unfinished.decode(errors="replace"))
        gap = f"\n... {self._dropped} bytes left out ...\n".encode() if self._dropped else b""
        return (self._head + gap + bytes(self._tail)).decode(errors="replace")

    @property
    def truncated(self) -> bool:
        """Whether something had to be left out."""
        return self._dropped > 0


def run(
    ctx: Context,
    command: str | Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[bytes, bytes] | None = None,
    stdin: str | None = None,
    limit: int = 65536,
    grace: float | None = None,
    log: bool = True,
) -> Finished:
    """Run a command to its end: text through ``/bin/sh -c``, a list without a shell.

    `env` is the whole environment, bytes as the system keeps them; default: ours. Its lines go
    to the step's log unless `log` is False. Raises Refused when it cannot be
    started at all, Cancelled or TimedOut after the whole group was ended because the task must
    end. Background processes that a command leaves behind are not waited for.
    """
    words, environment = _words(ctx, command, os.environb if env is None else env)
    mark = b"%s=%d-%d" % (_COMMAND, os.getpid(), next(_NUMBERS))
    marked = {**environment, _COMMAND: mark.partition(b"=")[2], _RUN: ctx.run_id.encode()}
    carried = _carried(ctx)
    process = _start_fenced(ctx, lambda: _start(words, cwd, marked, stdin is not None, carried))
    group = process_group.ProcessGroup(process, GRACE if grace is None else grace, mark)
    tell = ctx.log if log else _silent
    with group.watched(), _closed(process, group), ctx.on_cancel(group.end):
        captured = Captured(limit, tell), Captured(limit, tell)
        try:
            _pump(ctx, process, group, captured, (stdin or "").encode())
        except BaseException as error:  # nothing of it may go on without us
            group.end()
            raise _still_running(error, group) from None
        code = process.wait()
        group.settle()
    out, err = (stream.finish() for stream in captured)
    try:
        ctx.checkpoint()  # ended by our own signal: then it was cancelled, whatever its exit code
    except (Cancelled, TimedOut) as error:
        raise _still_running(error, group) from None
    return Finished(code, out, err, any(stream.truncated for stream in captured))


@contextlib.contextmanager
def _closed(process: subprocess.Popen[bytes], group: process_group.ProcessGroup) -> Iterator[None]:
    """Close the pipes at the end and wait for the process, unless nothing can end it."""
    try:
        yield
    finally:
        for pipe in (process.stdout, process.stderr, process.stdin):
            if pipe is not None:
                pipe.close()
        if group.left:  # whoever ends it one day, it leaves no zombie
            threading.Thread(target=process.wait, daemon=True).start()
        else:
            process.wait()


def _still_running(error: BaseException, group: process_group.ProcessGroup) -> BaseException:
    """The same end, but with what could not be ended: then it was not just stopped."""
    if not group.left or not isinstance(error, Cancelled | TimedOut):
        return error
    pids = ", ".join(map(str, sorted(group.left)))
    return type(error)(
        f"what the command started could not be ended and still runs (process {pids})",
        hint="end it before the step is repeated",
    )


def _carried(ctx: Context) -> tuple[int, ...]:
    """A descriptor that commands carry besides their environment, which a command may clear: by
    either a run that takes over knows them. Its file lies in memory, and holds nothing."""
    if not hasattr(os, "memfd_create"):
        return ()
    name = command_mark(ctx.run_id)
    return (ctx.cached("process:mark", lambda: os.memfd_create(name), os.close),)


_HIDDEN = b"CE_RUN_SCRIPT"
_HIDING = 'ce_run_script=$CE_RUN_SCRIPT; unset CE_RUN_SCRIPT; eval "$ce_run_script"'


def _words(
    ctx: Context, command: str | Sequence[str], env: Mapping[bytes, bytes]
) -> tuple[list[str], Mapping[bytes, bytes]]:
    """The program and its arguments. A text with a secret in it goes by the environment, which
    only its user can read: the command line shows in every list of processes."""
    if not isinstance(command, str):
        return list(command), env
    if not ctx.holds_secret(command):
        return ["/bin/sh", "-c", command], env
    return ["/bin/sh", "-c", _HIDING], {**env, _HIDDEN: os.fsencode(command)}


def _silent(text: str) -> None:
    pass


def _start_fenced(
    ctx: Context, start: Callable[[], subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    process = None
    try:
        with ctx.fence():
            process = start()
    except BaseException:
        if process is not None:
            with process:
                process_group.ProcessGroup(process, 0).end()
        raise
    return process


def _start(
    words: list[str],
    cwd: Path | str | None,
    env: Mapping[bytes, bytes],
    feed: bool,
    carried: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # the pipes are read and written by their descriptors
            start_new_session=True,
            pass_fds=carried,
        )
    except FileNotFoundError as error:
        missing = error.filename or words[0]
        raise Refused(
            f"{missing}: no such file or folder", hint="is it installed, and is `cwd` right?"
        ) from None
    except (OSError, ValueError) as error:
        raise Refused(f"{words[0]} cannot be started: {error}") from None


def _pump(
    ctx: Context,
    process: subprocess.Popen[bytes],
    group: process_group.ProcessGroup,
    captured: tuple[Captured, Captured],
    feed: bytes,
) -> None:
    """Move bytes until the process has ended and its pipes are empty."""
    assert process.stdout is not None
    assert process.stderr is not None
    streams = dict(zip((process.stdout.fileno(), process.stderr.fileno()), captured, strict=True))
    poll = select.poll()
    for number in streams:
        poll.register(number, select.POLLIN)
    writer = _Writer(process, feed, poll)
    with _ended(process) as ended:
        if ended is not None:
            poll.register(ended, select.POLLIN)
        while True:
            for number, _ in poll.poll(_pause(ctx, ended is None)):
                if number in streams:
                    if not _read(number, streams[number]):
                        poll.unregister(number)
                        del streams[number]
                elif number != ended:
                    writer.write()
            if process.poll() is not None:
                _drain(streams)
                return
            if group.left:  # it does not end, whatever we do: it is left
                ctx.checkpoint()


def _pause(ctx: Context, busy: bool) -> float | None:
    """Milliseconds to wait for something to happen; `busy` where an end is not signalled."""
    remaining = ctx.remaining(at_most=0.05 if busy else 1.0)
    return None if remaining is None else remaining * 1000 + 1


def _read(number: int, stream: Captured) -> bool:
    """Take what is there; False at the end of the stream."""
    data = os.read(number, _CHUNK)
    stream.add(data)
    return bool(data)


def _drain(streams: Mapping[int, Captured]) -> None:
    """Take what an ended process has left; a child of it may still hold the pipes open."""
    for number, stream in streams.items():
        os.set_blocking(number, False)
        with contextlib.suppress(BlockingIOError):
            while _read(number, stream):
                pass


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[int | None]:
    """A descriptor that becomes readable when the process ends; None where there is no such."""
    try:
        number = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        yield None
        return
    try:
        yield number
    finally:
        os.close(number)


class _Writer:
    """Feeds a process's standard input as fast as it reads."""

    def __init__(self, process: subprocess.Popen[bytes], feed: bytes, poll: select.poll) -> None:
        self._pipe = process.stdin
        self._left = memoryview(feed)
        self._poll = poll
        if self._pipe is not None:
            os.set_blocking(self._pipe.fileno(), False)
            poll.register(self._pipe, select.POLLOUT)

    def write(self) -> None:
        """Write what fits; close the pipe after the last byte or when nobody reads."""
        if self._pipe is None:
            raise Failed("a process reported an event on a pipe that it does not have")
        try:
            self._left = self._left[os.write(self._pipe.fileno(), self._left[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self._poll.unregister(self._pipe)
            self._pipe.close()
            self._pipe = None
