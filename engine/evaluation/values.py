"""Values as templates see them: of steps, tasks and failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from engine.clock import utc
from engine.events import Failure
from engine.module_api import Result
from engine.text import DEEPEST, as_json, writable


def run_stamp(started: float) -> str:
    """``run.started`` in templates: UTC, fit for file names, such as ``20260131T140509Z``."""
    return utc(started).strftime("%Y%m%dT%H%M%SZ")


class Registered(Mapping[str, Any]):
    """The registered results that a reader knows, each made when a template first reads it.

    A run may register thousands, and most steps read none of them.
    """

    __slots__ = ("_make", "_results", "_scopes", "_steps")

    def __init__(
        self,
        steps: Mapping[tuple[int, str], int],
        scopes: tuple[int, ...],
        make: Callable[[int], Any],
    ) -> None:
        """`steps` has the step for each scope of names and name, `make` the result of a step;
        `scopes` are those that the reader knows, innermost first."""
        self._steps = steps
        self._scopes = scopes
        self._make = make
        self._results: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._results:
            scope = next((each for each in self._scopes if (each, name) in self._steps), 0)
            self._results[name] = self._make(self._steps[scope, name])
        return self._results[name]

    def __contains__(self, name: object) -> bool:
        return any((scope, name) in self._steps for scope in self._scopes)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for scope, name in self._steps if scope in self._scopes))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def result_value(data: Mapping[str, Any], changed: bool, message: str) -> dict[str, Any]:
    """``result`` of a task."""
    return {"changed": changed, "message": message, **data}


def failure_value(failure: Failure | None) -> dict[str, Any] | None:
    """``failure`` in a rescue, undo or always block."""
    if failure is None:
        return None
    fields = msgspec.structs.asdict(failure)
    del fields["final"]  # for advice, not for runbooks
    return {**fields, "summary": failure.summary}


def headlines(result: Result) -> tuple[dict[str, float], dict[str, float | str]]:
    """Shares and figures as the journal can hold them, whatever a module put there."""
    shares = {
        writable(str(version)): float(share)
        for version, share in result.shares.items()
        if _is_finite(share)
    }
    figures = {
        writable(str(name)): value if _is_finite(value) else writable(str(value))
        for name, value in result.figures.items()
    }
    return shares, figures


def _is_finite(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) < 1e300


def plain(value: Any) -> Any:
    """The value as it will be read from the journal again, so that a step finds the same result
    before a crash and after it."""
    if value is None or isinstance(value, bool | int):
        return value
    try:
        text = msgspec.json.encode(value, enc_hook=str)
        if text.count(b"{") + text.count(b"[") <= DEEPEST:  # or it may lie too deep to be read
            return msgspec.json.decode(text)
    except (UnicodeEncodeError, RecursionError, TypeError, OverflowError):
        pass
    return as_json(value)
