"""Values that know where they stand: what a YAML file becomes before it becomes a runbook.

Plain dicts and lists, with the places of what is in them in one small array each. Where a plain
``5.10`` or ``true`` became a number or boolean, the characters that were written are kept beside
it, because only whoever knows the wanted type can tell which of the two was meant.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from engine.model import Place
from engine.text import display_name

Spot = tuple[int, int]
"""Line and column, counting from 1."""

_WIDTH = 1 << 24  # more than a file has columns
_SMALL = 32  # below, looking through the keys is as quick as an index
_LONGEST_VALUE = 500
_MOST_TRIES = 200


class Map(dict[str, Any]):
    """A mapping with the places of its keys and values. Keys are always text."""

    __slots__ = ("_order", "_spots", "at", "raws")

    def __init__(self, at: Spot) -> None:
        super().__init__()
        self.at = at
        self._spots = array("Q")
        self._order: dict[str, int] | None = None
        self.raws: dict[str, str] | None = None
        """What was written for plain values that are not text, by key."""

    def put(self, key: str, value: Any, key_at: Spot, value_at: Spot, raw: str | None) -> None:
        """Add an entry; the key must be new."""
        self[key] = value
        self._spots.append(key_at[0] * _WIDTH + key_at[1])
        self._spots.append(value_at[0] * _WIDTH + value_at[1])
        if raw is not None:
            if self.raws is None:
                self.raws = {}
            self.raws[key] = raw

    def key_at(self, key: str) -> Spot:
        """Where a key stands; where the mapping begins if there is no such key."""
        return self._spot(key, 0)

    def value_at(self, key: str) -> Spot:
        """Where a value begins."""
        return self._spot(key, 1)

    def _spot(self, key: str, which: int) -> Spot:
        if len(self) <= _SMALL:
            for index, each in enumerate(self):
                if each == key:
                    return divmod(self._spots[2 * index + which], _WIDTH)
            return self.at
        if self._order is None or len(self._order) != len(self):
            self._order = {each: index for index, each in enumerate(self)}
        found = self._order.get(key)
        return self.at if found is None else divmod(self._spots[2 * found + which], _WIDTH)


class Seq(list[Any]):
    """A list with the places of its items."""

    __slots__ = ("_spots", "at", "raws")

    def __init__(self, at: Spot) -> None:
        super().__init__()
        self.at = at
        self._spots = array("Q")
        self.raws: dict[int, str] | None = None
        """What was written for plain items that are not text, by index."""

    def put(self, value: Any, at: Spot, raw: str | None) -> None:
        """Add an item."""
        if raw is not None:
            if self.raws is None:
                self.raws = {}
            self.raws[len(self)] = raw
        self.append(value)
        self._spots.append(at[0] * _WIDTH + at[1])

    def item_at(self, index: int) -> Spot:
        """Where an item begins."""
        return divmod(self._spots[index], _WIDTH)


class Source:
    """A file that was read: its text, how people know it, and what its YAML says."""

    def __init__(self, path: Path, text: str, digest: str) -> None:
        self.path = path
        """Absolute."""
        self.name = display_name(path)
        self.text = text
        self.digest = digest
        self._lines: list[str] | None = None
        self._value: tuple[Spot, list[tuple[int, int]]] = ((0, 0), [])
        self.root: Any = None

    def place(self, at: Spot) -> Place:
        """A place in this file."""
        return Place(self.name, at[0], at[1])

    def line(self, number: int) -> str:
        """A line of the text, counting from 1; "" beyond its end."""
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def find(self, at: Spot, line: int, fragment: str) -> Spot:
        """Where a fragment of a value stands: the value begins at `at`, the fragment is in its
        line `line` (counting from 1). The value's own place if it cannot be told."""
        first = self.line(at[0])[at[1] - 1 :]
        if first[:1] == "|":
            number = at[0] + line
            text = self.line(number)
            column = _find_word(text, fragment, 0) if fragment else -1
            return (number, (column if column >= 0 else len(text) - len(text.lstrip())) + 1)
        if fragment:
            for number, start in self._lines_of(at):
                column = _find_word(self.line(number), fragment, start)
                if column >= 0:
                    return (number, column + 1)
        return at

    def _lines_of(self, at: Spot) -> list[tuple[int, int]]:
        """Lines, and where in them to begin, that a value beginning at `at` may go on in: those
        that are indented deeper than its first."""
        if self._value[0] == at:
            return self._value[1]
        found = [(at[0], at[1] - 1)]
        outer = _indentation(self.line(at[0]))
        for number in range(at[0] + 1, at[0] + _LONGEST_VALUE):
            text = self.line(number)
            if text.strip() and _indentation(text) <= outer:
                break
            found.append((number, 0))
        self._value = (at, found)
        return found


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip())


def _find_word(text: str, fragment: str, start: int) -> int:
    """Index of a fragment that is not part of a longer word; -1 if there is none."""
    plain, tries = -1, 0
    found = text.find(fragment, start)
    while found >= 0 and tries < _MOST_TRIES:
        tries += 1
        end = found + len(fragment)
        before, after = text[found - 1 : found] if found else "", text[end : end + 1]
        if not (_is_word(after) or _is_word(before)):
            if before != ".":  # rather `version` than that of `inputs.version`
                return found
            plain = found if plain < 0 else plain
        found = text.find(fragment, found + 1)
    return plain if plain >= 0 else text.find(fragment, start)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
