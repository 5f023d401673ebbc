"""Summaries on narrow terminals."""

from __future__ import annotations

import pytest

from engine.report.words import Span, line, text_of, width
from engine.report.wrapping import wrapped

CHANGE = line(
    "  execute  6  ", Span("status/status/team, status/status/public and 4 more", "change")
)


@pytest.mark.parametrize("columns", [30, 40, 60, 80])
def test_words_stay_whole_and_no_line_is_too_long(columns: int) -> None:
    rows = wrapped([CHANGE], columns)
    texts = [text_of(row) for row in rows]
    assert " ".join(" ".join(texts).split()) == " ".join(text_of(CHANGE).split())
    assert all(width(text) <= columns for text in texts)
    assert all(text.startswith("      ") for text in texts[1:])


def test_styles_go_on_in_the_next_line() -> None:
    first, second = wrapped([CHANGE], 50)
    assert first[-1].style == second[-1].style == "change"


def test_what_fits_is_not_touched_nor_is_anything_where_no_terminal_is() -> None:
    assert wrapped([CHANGE], None) == [CHANGE]
    assert wrapped([CHANGE, ()], 200) == [CHANGE, ()]


def test_words_of_others_and_words_that_are_too_long_stay_as_they_are() -> None:
    evidence = line("    | " + "x y" * 30)
    assert wrapped([evidence], 40) == [evidence]
    path = line("Journal  " + "a/" * 40)
    assert [text_of(row) for row in wrapped([path], 40)] == ["Journal", "    " + "a/" * 40]


def test_spaces_at_the_end_begin_no_line() -> None:
    padded = line("start     prep", Span("   " * 20, "dim"))
    assert wrapped([padded], 40) == [line("start     prep")]
    (first, *_) = wrapped([line("lock prod", " " * 40, "held, token 7")], 40)
    assert first == line("lock", " prod")


def test_diffs_stay_as_they_are() -> None:
    change = line("    + " + "x y" * 30)
    assert wrapped([change], 40) == [change]


def test_chinese_counts_two_columns() -> None:
    rows = wrapped([line("  回滚 已经 完成 所有 流量 都在 旧版本 上")], 20)
    assert all(width(text_of(row)) <= 20 for row in rows)
    assert len(rows) > 1
