"""How a run is put into words: lines with styles, times, lengths of time, columns.

A line is a tuple of spans, each a text with the name of a style. What a style looks like is the
terminal's business (`engine.cli.terminal`, the live view); without any style every line still
says everything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from engine.report.encoding import visible
from engine.units import figure, format_duration

if TYPE_CHECKING:  # `ce-run validate` prints with these words and needs to know no run
    from engine.events import Person
    from engine.state import Status

Style = Literal["", "good", "bad", "warn", "change", "dim", "head", "name"]


LONGEST = 1000
"""Characters of one line of somebody else's words."""


class Span(NamedTuple):
    """Some text in one style."""

    text: str
    style: Style = ""


Line: TypeAlias = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """A line of these parts; plain text has no style."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def text_of(given: Line) -> str:
    """The line without its styles, as it may be written anywhere."""
    return visible("".join(span.text for span in given)).rstrip()


def width(text: str) -> int:
    """Columns that a text takes once it is encoded; Chinese characters take two."""
    text = visible(text)
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, columns: int) -> str:
    """The text with spaces up to so many columns."""
    return text + " " * max(0, columns - width(text))


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns, with ``…`` where some is left out."""
    text = visible(text)
    if width(text) <= columns:
        return text
    kept, used = [], 0
    for character in text:
        used += _width_of(character)
        if used > columns - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if columns > 0 else ""


def one_line(text: str) -> str:
    """The first line, with a mark where there is more: whole texts are in the journal."""
    first, newline, _ = text.strip().partition("\n")
    first = first.removesuffix("\r")
    if len(first) > LONGEST:
        return f"{first[:LONGEST]}…"
    return f"{first} …" if newline else first


def table(rows: Sequence[Sequence[str]], *, head: bool = True, gap: int = 2) -> list[str]:
    """Rows as lines with aligned columns; the first row is the heading."""
    if len(rows) <= (1 if head else 0):
        return []
    widths = [max(width(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        (" " * gap)
        .join(pad(cell, columns) for cell, columns in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    ]


_BLOCKS = frozenset(("rescue", "undo", "always"))


def short_name(path: str) -> str:
    """The last part of a step's path; ``(rescue)`` and the like for a block."""
    own = path.rsplit("/", 1)[-1]
    block = own.rpartition(".")[2]
    return f"({block})" if block in _BLOCKS and block != own else own


# -- time ---------------------------------------------------------------------------------------
def planned(seconds: float | None) -> str:
    """A budget or time limit as it was written; ``-`` when there is none."""
    return "-" if seconds is None else format_duration(seconds)


def clock_time(seconds: float) -> str:
    """``14:05:09Z``."""
    from engine.clock import utc

    return f"{utc(seconds):%H:%M:%S}Z"


def day_time(seconds: float) -> str:
    """``2026-01-31 14:05:09Z``."""
    from engine.clock import utc

    return f"{utc(seconds):%Y-%m-%d %H:%M:%S}Z"


# -- people and statuses ------------------------------------------------------------------------
def who(person: Person | None) -> str:
    """``ada@host (via)``, as far as it is known."""
    if person is None:
        return "somebody"
    at = f"@{person.host}" if person.host else ""
    claims = f", who claims to be {person.claims}" if person.claims else ""
    return f"{person.name}{at}{claims}"


def from_where(person: Person) -> str:
    """``ada@host, no terminal``."""
    return f"{who(person)}, {person.via}" if person.via else who(person)


STATUS_WORDS: dict[Status, str] = {
    "pending": "waiting",
    "gate": "asking",
    "opened": "running",
    "succeeded": "ok",
    "skipped": "skipped",
    "failed": "FAILED",
    "rescued": "rescued",
    "cancelled": "cancelled",
    "not_run": "not run",
}
"""What people read; a word each, so that nothing depends on colour."""

STATUS_STYLES: dict[str, Style] = {
    "ok": "good",
    "changed": "change",
    "to change": "change",
    "running": "name",
    "asking": "warn",
    "in doubt": "warn",
    "interrupted": "warn",
    "retry": "warn",
    "WARNING": "warn",
    "ignored": "warn",
    "skipped": "dim",
    "waiting": "dim",
    "not run": "dim",
    "FAILED": "bad",
    "rescued": "warn",
    "cancelled": "warn",
    "undone": "warn",
    "stopped": "warn",
}


def status_span(word: str, columns: int = 0) -> Span:
    """A status word in its style, padded."""
    return Span(pad(word, columns), STATUS_STYLES.get(word, ""))


def listed(names: Iterable[str], most: int = 8) -> str:
    """``a, b, c and 4 more``."""
    every = list(names)
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[: most - 1])} and {len(every) - most + 1} more"


def value_text(value: object) -> str:
    """A measured value with the digits that people read."""
    return figure(value, digits=4) if isinstance(value, float) else str(value)


_MARKS = {
    ("check", "before"): "CHECK: nothing will be changed · ",
    ("check", "during"): "CHECK, nothing is changed · ",
    ("check", "after"): "CHECK RUN, nothing was changed · ",
    ("simulate", "before"): "SIMULATED: nothing will be touched · ",
    ("simulate", "during"): "SIMULATED, nothing is touched · ",
    ("simulate", "after"): "SIMULATED RUN, nothing was touched · ",
}


def mode_mark(mode: str, when: Literal["before", "during", "after"]) -> str:
    """What stands before the name of a run that is not for real; empty for one that is."""
    return _MARKS.get((mode, when), "")
