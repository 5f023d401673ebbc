"""The terminal: whether there is one, what it can do, and how styled lines are written to it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterable
from typing import TextIO

from engine.cli.github import in_actions
from engine.report.encoding import for_actions, for_json, visible, visible_lines
from engine.report.words import Line, Style, text_of

_CODES: dict[Style, str] = {
    "good": "32",
    "bad": "1;31",
    "warn": "33",
    "change": "33",
    "dim": "2",
    "head": "1",
    "name": "36",
}


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that a person looks at."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def is_capable(stream: TextIO) -> bool:
    """Whether the terminal can move its cursor, which a live view needs."""
    return is_terminal(stream) and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def wants_colour(stream: TextIO, no_color: bool = False) -> bool:
    """Colours only on a capable terminal, and never with ``NO_COLOR`` or ``--no-color``."""
    return not no_color and not os.environ.get("NO_COLOR") and is_capable(stream)


def columns() -> int | None:
    """How wide the terminal is that the output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def can_ask() -> bool:
    """Whether a person sits at both ends, and this process is in the foreground."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False


def painted(line: Line, colour: bool) -> str:
    """A line for the stream, encoded, without its line feed."""
    if not colour:
        return text_of(line)
    return "".join(
        f"\x1b[{_CODES[span.style]}m{visible(span.text)}\x1b[0m"
        if span.style
        else visible(span.text)
        for span in line
    ).rstrip()


def echo(text: str, *, err: bool = False) -> None:
    """Write a text of one or several lines, encoded for who reads it there."""
    Writer(sys.stderr if err else sys.stdout).text(text)


def echo_json(text: str | bytes) -> None:
    """Write a JSON text; a line feed follows unless it has one."""
    whole = for_json(text.decode() if isinstance(text, bytes) else text)
    sys.stdout.write(whole if whole.endswith("\n") else f"{whole}\n")


class Writer:
    """Writes lines to a stream; any thread may use it.

    While `prompt` is set, a question stands in the last line: lines are written above it and the
    question again below them.
    """

    def __init__(self, stream: TextIO | None = None, *, no_color: bool = False) -> None:
        self.stream = stream or sys.stdout
        self.colour = wants_colour(self.stream, no_color)
        self._actions = in_actions()
        self.prompt = ""
        self._lock = threading.Lock()

    def lines(self, lines: Iterable[Line]) -> None:
        """Write lines at once."""
        self._write("".join(f"{self._encoded(painted(each, self.colour))}\n" for each in lines))

    def text(self, text: str) -> None:
        """Write a text without styles; its lines stay lines."""
        self._write(f"{self._encoded(visible_lines(text))}\n")

    def command(self, text: str) -> None:
        """Write a line that GitHub Actions shall obey (`engine.cli.github` spells them)."""
        self._write(f"{text}\n")

    def _encoded(self, text: str) -> str:
        return for_actions(text) if self._actions else text

    def _write(self, text: str) -> None:
        if not text:
            return
        with self._lock:
            if self.prompt:
                text = f"\r\x1b[K{text}{self.prompt}"
            self.stream.write(text)
            self.stream.flush()

    def ask(self, prompt: str) -> None:
        """Let a prompt stand in the last line; an empty one ends that."""
        with self._lock:
            self.prompt = prompt
            self.stream.write(prompt)
            self.stream.flush()

    def drop(self) -> None:
        """Take the prompt off the screen."""
        with self._lock:
            self.prompt = ""
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def pause(self) -> None:
        """A question is about to be asked; lines go above it by themselves."""

    def unpause(self) -> None:
        """The question is over."""
