"""Collects the problems of a load, so that all are told at once and each only once."""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import Problem
from engine.redaction.written import hide_written, in_secrets

_MOST_SUGGESTIONS = 200
_LONGEST_LINE = 1000
_LONGEST_MESSAGE = 600


class Problems:
    """Problems found so far, by file and place."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Problem] = {}
        self._lines: dict[str, Callable[[int], str]] = {}
        self._order: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._found)

    def register(self, file: str, line: Callable[[int], str]) -> None:
        """Tell how to get at the lines of a file; files are reported in this order."""
        self._lines[file] = line
        self._order.setdefault(file, len(self._order))

    def add(self, file: str, at: tuple[int, int], message: str, suggestion: str = "") -> None:
        """Note a problem; the same one at the same place is noted once."""
        message, suggestion = one_line(message), one_line(suggestion)
        key = (file, at[0], at[1], message)
        if key in self._found:
            return
        line = self._lines.get(file)
        source = _shown(line(at[0])) if line is not None and at[0] else ""
        literal = line is not None and in_secrets(line, at[0])
        source, message, suggestion = hide_written(source, message, suggestion, all_values=literal)
        self._found[key] = Problem(
            file, at[0], at[1], message, suggestion=suggestion, source=source
        )

    def extend(self, others: list[Problem]) -> None:
        """Take over problems found elsewhere."""
        for each in others:
            key = (each.file, each.line, each.column, each.message)
            self._found.setdefault(key, each)

    @property
    def many(self) -> bool:
        """Whether there are so many that looking for suggestions is a waste of time."""
        return len(self._found) > _MOST_SUGGESTIONS

    def sorted(self) -> list[Problem]:
        """All of them, by file in the order of reading, then by place."""
        last = len(self._order)
        return sorted(
            self._found.values(),
            key=lambda p: (self._order.get(p.file, last), p.file, p.line, p.column, p.message),
        )


def _shown(line: str) -> str:
    """A source line as it can be shown, column for column; "" for one too long to be of use."""
    if len(line) > _LONGEST_LINE:
        return ""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() or each == "\t" else "\ufffd" for each in line)


def one_line(text: str) -> str:
    """Text of a file as it can be shown: line ends and control characters are spelt out."""
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]}…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _spelt(each) for each in text)


def _spelt(character: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return known.get(character) or f"\\x{ord(character):02x}"
