"""How a drill that was played is told: lines for people, data for programs."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.drill.stage import Played
from engine.report.words import Line, Span, line, pad, width
from engine.units import took


def drill_lines(played: Played, verbose: bool) -> list[Line]:
    """The drill's name, its expectations with what was measured, and what happened."""
    verdict = Span("passed", "good") if played.passed else Span("FAILED", "bad")
    ended = ", ".join(f"{name} {how}" for name, how in played.outcomes.items())
    told = [line(Span(played.name, "head"), ": ", verdict, f" · {took(played.seconds)} · {ended}")]
    if verbose or not played.passed:
        told += [
            line("  ", Span(f"+{took(each.at):>9}", "dim"), f"  {pad(each.what, 8)}  {each.text}")
            for each in played.happenings
        ]
    columns = max((width(each.expectation) for each in played.judgements), default=0)
    for each in played.judgements:
        mark = Span("pass", "good") if each.met else Span("FAIL", "bad")
        told.append(line("  ", mark, f"  {pad(each.expectation, columns)}  {each.figure}"))
    if verbose or not played.passed:
        told += [line("  ", Span(f"{name}: run {run}", "dim")) for name, run in played.runs.items()]
    return told


def play_data(played: Played) -> dict[str, Any]:
    """The same for programs."""
    data: dict[str, Any] = msgspec.to_builtins(played)
    return {"name": played.name, "passed": played.passed, **data}
