"""Judges a drill by its expectations: what was met, and by how much."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.drill.names import Conditions
from engine.drill.scenario import Expectation
from engine.errors import CeRunError
from engine.units import figure, took

_COMPARISON = re.compile(r"\s(==|!=|<=|>=|<|>)\s")


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one expectation."""

    expectation: str
    met: bool
    figure: str
    """What was measured, for people."""


class _Watched:
    """An expectation while the drill is played."""

    def __init__(self, told: Expectation) -> None:
        self.told = told
        self.held_at: float | None = None
        self.broken_at: float | None = None
        self.broken = ""
        self.error = ""


class Judge:
    """Watches all expectations of one drill.

    Args:
        expect: what is expected.
        conditions: evaluates expressions.
        moments: name → epoch seconds, filled as they come.
    """

    def __init__(
        self, expect: Sequence[Expectation], conditions: Conditions, moments: Mapping[str, float]
    ) -> None:
        self._conditions = conditions
        self._moments = moments
        self._watched = [_Watched(each) for each in expect]

    def look(self, now: float) -> None:
        """See what holds at this moment."""
        for each in self._watched:
            if each.told.always and each.broken_at is None:
                if not self._holds(each, each.told.always):
                    each.broken_at = now
                    each.broken = self._shown(each.told.always)
            elif each.told.within is not None and each.held_at is None:
                since = self._moments.get(each.told.of)
                if since is not None and now >= since and self._holds(each, each.told.that):
                    each.held_at = now

    def waits(self, now: float) -> bool:
        """Whether something that is still to come true has time left."""
        for each in self._watched:
            since = self._moments.get(each.told.of)
            if each.told.within is None or each.held_at is not None or since is None:
                continue
            if now <= since + each.told.within:
                return True
        return False

    def verdicts(self, now: float) -> list[Assessment]:
        """The judgement on each, once all is over."""
        self.look(now)
        return [self._verdict(each) for each in self._watched]

    def _verdict(self, each: _Watched) -> Assessment:
        told = each.told
        if told.within is not None:
            met, shown = self._in_time(each, told.within)
        elif told.always:
            start = self._moments.get("start", 0.0)
            met = each.broken_at is None
            shown = "held" if met else f"{each.broken} after {took((each.broken_at or 0) - start)}"
        else:
            met = self._holds(each, told.that)
            shown = self._shown(told.that)
        return Assessment(expectation=told.shown, met=met, figure=each.error or shown)

    def _in_time(self, each: _Watched, within: float) -> tuple[bool, str]:
        since = self._moments.get(each.told.of)
        if since is None:
            return False, f"'{each.told.of}' never came"
        if each.held_at is None:
            return False, f"never held; {self._shown(each.told.that)}"
        seconds = each.held_at - since
        return seconds <= within, f"{took(seconds)} of {took(within)}"

    def _holds(self, each: _Watched, expression: str) -> bool:
        try:
            return self._conditions.holds(expression)
        except CeRunError as error:
            each.error = error.message
            return False

    def _shown(self, expression: str) -> str:
        """What the left side of a comparison is, or the whole of another expression."""
        match = _COMPARISON.search(expression)
        left = expression[: match.start()] if match else expression
        try:
            return _text(self._conditions.value(left))
        except CeRunError:
            return ""


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return figure(value, 4)
    return "none" if value is None else str(value)[:80]
