"""The guards at work in the live view: what each last saw, and when it trips.

Where there is little room the threshold and the unit stay: a name is shortened, and what else
there is to say stands at the end of the line, where it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.plan import Node
from engine.report.words import Line, Span, Style, cut, line, pad, planned, value_text, width
from engine.state import GuardState, RunState
from engine.units import figure, took

_VERDICTS: dict[str, Style] = {"pass": "good", "fail": "bad"}
_URGENCY = {"fail": 0, "pass": 2}
_SHORTEST_NAME = 8


class Watched(NamedTuple):
    """What there is to say about a guard."""

    name: str
    verdict: str
    value: str
    """Of its last observation, with its unit."""
    trips: str
    """When it trips."""
    more: str
    """For how long it has been failing, or why nothing can be told."""
    group: str


def watched_by(state: RunState, threshold: Callable[[Node, int], str] | None) -> list[Watched]:
    """The guards of all groups under way; `threshold` puts a condition into words."""
    guards: list[Watched] = []
    for node in state.open_groups():
        group = state.step(node.index).group
        if group is None or group.phase != "body":
            continue
        for number, (guard, seen) in enumerate(zip(node.guards, group.guards, strict=True)):
            trip = threshold(node, number) if threshold is not None else guard.trip
            guards.append(_watched(node.path, guard.name, trip, seen))
    return guards


def _watched(path: str, name: str, trip: str, seen: GuardState) -> Watched:
    value = f"{value_text(seen.value)}{_unit(seen)}" if seen.value is not None else ""
    trips = f"trips at {trip}{f' for {planned(seen.timing.hold)}' if seen.timing.hold else ''}"
    more = ""
    if seen.failing_since is not None:
        more = f"failing for {took(seen.observed - seen.failing_since)}"
    elif seen.value is None:
        more = seen.message
    return Watched(name, seen.last or "not yet", value, trips, more, path)


def _unit(seen: GuardState) -> str:
    """The unit that stands behind the value in the message of a metric: ``error_rate 0.18 %``."""
    if isinstance(seen.value, bool) or not isinstance(seen.value, int | float):
        return ""
    value = re.escape(figure(seen.value))
    match = re.search(rf"(?<![\w.]){value} ([%a-zA-Z°µ][\w/%]{{0,9}})(?= \(|$)", seen.message)
    return f" {match[1]}" if match is not None else ""


def guard_lines(guards: Sequence[Watched], columns: int, most: int) -> list[Line]:
    """The guards in columns; where lines are few, those that do not pass come first."""
    if most <= 0 or not guards:
        return []
    shown, hidden = list(guards), []
    if len(guards) > most:
        urgent = sorted(guards, key=lambda each: _URGENCY.get(each.verdict, 1))
        shown, hidden = urgent[: most - 1], urgent[most - 1 :]
    verdicts = max((width(each.verdict) for each in shown), default=0)
    values = max((width(each.value) for each in shown), default=0)
    trips = max((width(each.trips) for each in shown), default=0)
    room = columns - len("  guard ") - verdicts - values - trips - 7
    names = max((width(each.name) for each in shown), default=0)
    names = min(names, max(room, _SHORTEST_NAME))
    lines = [_guard_line(each, names, verdicts, values) for each in shown]
    if hidden:
        passing = all(each.verdict == "pass" for each in hidden)
        text = "more, which pass" if passing else "more"
        lines.append(line(Span(f"  … and {len(hidden)} {text}", "dim")))
    return lines


def _guard_line(guard: Watched, names: int, verdicts: int, values: int) -> Line:
    rest = [guard.trips, *([guard.more] if guard.more else [])]
    where = f" · {guard.group}" if guard.group else ""
    return (
        Span("  guard ", "dim"),
        Span(f"{pad(cut(guard.name, names), names)}  "),
        Span(pad(guard.verdict, verdicts), _VERDICTS.get(guard.verdict, "warn")),
        Span(f"  {guard.value:>{values}}", "head"),
        Span(f"  {', '.join(rest)}{where}", "dim"),
    )
