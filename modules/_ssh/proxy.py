"""What stands around a connection: the command that leads to a host, and the log of the driver."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from engine.module_api import Context, Refused, Unreachable
from modules._ssh.address import Address

_NUMBERS = itertools.count(1)


class Way:
    """A command's standard input and output as a socket; it ends with the command."""

    def __init__(self, command: str) -> None:
        """Start it. Raises OSError."""
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the way
        try:
            with theirs:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._said,
                    start_new_session=True,
                )
        except OSError:
            ours.close()
            raise
        self._socket = ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def close(self) -> None:
        """End the command and the way."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._words = self.words()
        self._said.close()

    def words(self) -> list[str]:
        """The last lines that the command said on its standard error."""
        if self._said.closed:
            return self._words
        self._said.seek(0)
        return self._said.read(65536).decode(errors="replace").splitlines()[-10:]


def command(ctx: Context, where: Address) -> Way:
    """The way to a host that its `ProxyCommand` makes; Refused where a sign in it means nothing."""
    tokens = {"%": "%", "h": where.host, "n": where.host, "p": str(where.port), "r": where.user}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in tokens:
            raise Refused(f"the proxy command for {where} has %{match[1]}, which is not understood")
        return match[1] if match[1] == "%" else shlex.quote(tokens[match[1]])

    text = re.sub(r"%(.)", fill, where.proxy_command)
    ctx.log(f"reaching {where} by: {text}")
    try:
        return Way(text)
    except OSError as error:
        raise Unreachable(f"the proxy command for {where} cannot be started: {error}") from None


class _ToLog(logging.Handler):
    def __init__(self, ctx: Context) -> None:
        super().__init__()
        self._ctx = ctx
        self.over = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.over:
            self._ctx.log(f"ssh: {self.format(record)}")


@contextlib.contextmanager
def logged(ctx: Context) -> Iterator[str]:
    """A name for paramiko to log under: while the block runs into the step's log, then nowhere.

    Left alone, its tracebacks would stand between our own lines in the terminal.
    """
    name = f"ce-run.ssh.{next(_NUMBERS)}"
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    handler = _ToLog(ctx)
    logger.addHandler(handler)
    try:
        yield name
    finally:
        handler.over = True
