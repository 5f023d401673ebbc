"""Lines for a terminal: continued between words, not broken where the screen ends."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.report.encoding import visible
from engine.report.words import Line, Span, width

_HANGING = 4
"""Columns by which a continued line stands further in than where it began."""
_NARROWEST = 20
"""Columns below which nothing is worth being wrapped."""
_AS_IT_IS = ("|", "+", "-", "@@")
_WORDS = re.compile(r"\s*\S+")


def wrapped(lines: Iterable[Line], columns: int | None) -> list[Line]:
    """The lines in so many columns; None is no terminal. What somebody else wrote (`| …`)
    and diffs stay as they are, so that they can be copied, and so does a word that is longer than
    a line."""
    if columns is None or columns < _NARROWEST:
        return list(lines)
    rows: list[Line] = []
    for each in lines:
        text = visible("".join(span.text for span in each)).rstrip()
        if width(text) <= columns or text.lstrip().startswith(_AS_IT_IS):
            rows.append(_trimmed(each))
        else:
            rows += _continued(each, columns, len(text) - len(text.lstrip()) + _HANGING)
    return rows


def _trimmed(whole: Line) -> Line:
    """Without the spaces at its end, which would begin another line where the screen ends."""
    kept = list(whole)
    while kept and not kept[-1].text.strip():
        kept.pop()
    return (*kept[:-1], Span(kept[-1].text.rstrip(), kept[-1].style)) if kept else ()


def _continued(whole: Line, columns: int, hanging: int) -> list[Line]:
    margin = Span(" " * min(hanging, columns // 2))
    rows: list[list[Span]] = [[]]
    used = 0
    for span in whole:
        text = visible(span.text)
        words = [match[0] for match in _WORDS.finditer(text)]
        rest = text[sum(map(len, words)) :]
        for word in [*words, rest] if rest else words:
            begun = any(part.text.strip() for part in rows[-1])
            between = word[:1].isspace() or (begun and rows[-1][-1].text[-1:].isspace())
            if begun and between and word.strip() and used + width(word) > columns:
                while not rows[-1][-1].text.strip():
                    rows[-1].pop()
                rows.append([margin])
                used = width(margin.text)
                word = word.lstrip()
            rows[-1].append(Span(word, span.style))
            used += width(word)
    return [tuple(row) for row in rows if row != [margin]]
