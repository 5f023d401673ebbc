"""A terminal with somebody at it: runs a command on a pty, reads its screen, types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

PATIENCE = 20.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Screen:
    """A command on a terminal of its own, whose controlling process it is."""

    def __init__(
        self,
        *words: str,
        folder: Path,
        environment: Mapping[str, str],
        columns: int = 100,
        rows: int = 30,
    ) -> None:
        self.output = ""
        self.status: int | None = None
        self.pid, self._master = pty.fork()
        if self.pid == 0:  # the command's side
            with contextlib.suppress(Exception):
                os.chdir(folder)
                command = [sys.executable, "-m", "engine.cli", *words]
                os.execve(sys.executable, command, dict(environment))
            os._exit(127)
        self.resize(columns, rows)

    @property
    def text(self) -> str:
        """Everything that was written so far, without escape sequences."""
        return _ESCAPES.sub("", self.output).replace("\r", "")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        """Type; ``\\x03`` is Ctrl-C."""
        os.write(self._master, text.encode())

    def wait_for(self, *texts: str) -> None:
        """Read until each text has appeared, in this order, after what was waited for before."""
        start = getattr(self, "_seen", 0)
        for wanted in texts:
            until = time.monotonic() + PATIENCE
            while (found := self.text.find(wanted, start)) < 0:
                assert time.monotonic() < until, f"{wanted!r} did not appear:\n{self.text[start:]}"
                assert self._read(0.1), f"ended without {wanted!r}:\n{self.text}"
            start = found + len(wanted)
        self._seen = start

    def end(self) -> int:
        """Read to the end; the exit status."""
        until = time.monotonic() + PATIENCE
        while self._read(0.1):
            assert time.monotonic() < until, f"it does not end:\n{self.text}"
        _, status = os.waitpid(self.pid, 0)
        os.close(self._master)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def close(self) -> None:
        """Leave nothing behind."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """Read what is there; False once the other side is gone."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that the last one left the terminal
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
