"""A failure in words: what, where, what to try next, and the other side's own words."""

from __future__ import annotations

from engine.events import Failure
from engine.plan import Node
from engine.report.words import LONGEST, Line, Span, line

INDENT = " " * 12
_MOST_EVIDENCE = 20


def kind_words(failure: Failure) -> str:
    """``unreachable: no answer from edge``; the kind is left out where it says nothing."""
    if failure.kind in ("failed", "guard_tripped", "cancelled"):
        return failure.message
    return f"{failure.kind.replace('_', ' ')}: {failure.message}"


def failure_lines(
    failure: Failure, node: Node | None, *, attempts: str = "", indent: str = INDENT
) -> list[Line]:
    """The lines below the headline of a failure."""
    lines: list[Line] = []
    more = _rows(failure.message.strip())[1:]
    lines += [line(indent, each) for each in more[:_MOST_EVIDENCE]]
    place = str(node.step.place) if node is not None and node.step is not None else ""
    where = ", ".join(part for part in (place, attempts) if part)
    if where:
        lines.append(line(Span(f"{indent}where: ", "dim"), where))
    for number, each in enumerate(_rows(failure.hint)):
        lines.append(line(Span(f"{indent}{'       ' if number else 'hint:  '}", "dim"), each))
    evidence = [row for each in failure.evidence for row in _rows(each) or [""]]
    for each in evidence[:_MOST_EVIDENCE]:
        lines.append(line(Span(f"{indent}| ", "dim"), each))
    left = len(evidence) - _MOST_EVIDENCE
    if left > 0:
        lines.append(line(Span(f"{indent}| … {left} more lines in the journal", "dim")))
    return lines


def _rows(text: str) -> list[str]:
    """The lines of a text, none of them endless."""
    return [row if len(row) <= LONGEST else f"{row[:LONGEST]}…" for row in text.splitlines()]
