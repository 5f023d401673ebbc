"""The log of an attempt, and the folder for what the attempt captured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import Failed

LOG_BYTES = 64 * 1024 * 1024
"""Size at which the log of an attempt is full: a command that floods it must not fill the disk."""

LOG_FULL = "… the log of this attempt is full: what comes after this line was not kept\n"


class AttemptLog:
    """The file ``logs/<stem>.log`` and the folder ``logs/<stem>.d`` of one attempt.

    Both are made when something is first put in; without `folder` (a run that keeps no logs)
    lines go nowhere.
    """

    __slots__ = ("_folder", "_masked", "_stem")

    def __init__(self, folder: Path | None, stem: str, masked: Callable[[str], str]) -> None:
        """`folder` is the run's ``logs/``; `masked(text)` hides secrets."""
        self._folder = folder
        self._stem = stem
        self._masked = masked

    def write(self, text: str) -> None:
        """Add lines. A full disk is the journal's to tell: an effect has not failed because of
        its log."""
        if self._folder is None or not text:
            return
        with contextlib.suppress(OSError), self._opened() as descriptor:
            size = os.fstat(descriptor).st_size
            lines = self._masked(text.rstrip("\n")) + "\n"
            if size < LOG_BYTES:
                full = size + len(lines) >= LOG_BYTES
                data = (lines + (LOG_FULL if full else "")).encode("utf-8", "backslashreplace")
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the file (0600), to add to it."""
        path = f"{self._folder}/{self._stem}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def folder(self) -> Path:
        """The attempt's own folder (0700). Raises Failed when the run keeps no logs."""
        if self._folder is None:
            raise Failed("this run keeps no logs, so there is no folder to write to")
        folder = self._folder / f"{self._stem}.d"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def log_stem(step: str, task: int, attempt: int) -> str:
    """The file name, without ending, of an attempt's log: ``canary/route`` → ``canary~route.0.1``.

    Paths hold no ``~``, so the name leads back to the step.
    """
    return f"{step.replace('/', '~')}.{task}.{attempt}"
