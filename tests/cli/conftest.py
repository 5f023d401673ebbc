"""A desk with a shell on it: ``ce-run`` as its users start it, in processes of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.events import AnyEvent, Record
from engine.store.files import FileRun, FileStore
from tests.surroundings import surroundings

PATIENCE = 20.0
"""Seconds after which something that should happen is taken not to happen any more."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look again and again until it is so."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.01)


class Desk:
    """A working folder, its state, and the processes that were started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".ce-run"
        self.environment = surroundings(USER="tester")
        self._processes: list[subprocess.Popen[str]] = []

    def write(self, text: str, name: str = "book.yml") -> Path:
        """Write a file; the text is dedented."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def ce_run(
        self, *words: str, env: dict[str, str] | None = None, umask: int = -1
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "engine.cli", *words],
            cwd=self.folder,
            env=self.environment | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            umask=umask,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on by itself."""
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str]:
        """Wait for a process, after sending it a signal if one is given; status and output."""
        if number is not None:
            process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def run(self, name: str = "last") -> FileRun:
        """A run's folder."""
        return FileStore(self.state).find(name)

    def records(self, name: str = "last") -> list[Record]:
        """What the journal of a run holds so far; nothing while there is no such run."""
        if not FileStore(self.state).runs():
            return []
        return self.run(name).records()

    def events(self, kind: type[AnyEvent], name: str = "last") -> list[AnyEvent]:
        """The events of one kind in a run's journal."""
        return [each.event for each in self.records(name) if isinstance(each.event, kind)]

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A fresh desk."""
    made = Desk(tmp_path)
    yield made
    made.close()
