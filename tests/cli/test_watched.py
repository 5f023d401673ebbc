"""Guards in the live view: in 80 columns the threshold and the unit stay."""

from __future__ import annotations

from engine.cli.watched import Watched, guard_lines
from engine.report.words import cut, text_of

GUARDS = [
    Watched(
        "error rate of the users that were led to the canary",
        "fail",
        "0.72 %",
        "trips at > 0.5 for 1m",
        "failing for 12.0s",
        "execute/phases/canary",
    ),
    Watched("p95", "pass", "36.9 ms", "trips at > 500 for 2m", "", "execute/phases/canary"),
]


def test_in_80_columns_a_guard_keeps_its_threshold_and_its_unit() -> None:
    lines = [cut(text_of(each), 80) for each in guard_lines(GUARDS, 80, 10)]
    assert "0.72 %" in lines[0]
    assert "36.9 ms" in lines[1]
    assert "trips at > 0.5 for 1m" in lines[0]
    assert "trips at > 500 for 2m" in lines[1]
    assert lines[0].startswith("  guard error rate of the users")


def test_where_there_is_room_everything_is_told() -> None:
    first = text_of(guard_lines(GUARDS, 200, 10)[0])
    assert first.endswith("trips at > 0.5 for 1m, failing for 12.0s · execute/phases/canary")
    assert GUARDS[0].name in first
