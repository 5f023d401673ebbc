"""The headlines of a run's results: what was measured that people want to read at its end.

An action gives them as the typed fields `figures` and `shares` of its `Result`. Results without
such fields, in journals written before there were any and of steps that only answer with
somebody else's data, are read here and nowhere else: a step called `figures` tells by its
message, and an answer that has all of `FIGURE_KEYS` tells how users fared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.report.facts import StepFacts
from engine.state import FINAL, RunState, TaskState

FIGURES = "figures"
"""The id of a step, or of a group of steps, whose messages belong into every summary."""

FIGURE_KEYS = frozenset(("requests", "failures", "sessions_lost"))
"""An answer that has all of these tells how users fared; it belongs into every summary."""


def measured(state: RunState) -> dict[str, float | str]:
    """The typed figures of all results: of each name the value that was measured last."""
    tasks = (task for step in state.steps.values() for task in step.tasks if task.figures)
    figures: dict[str, float | str] = {}
    for task in sorted(tasks, key=lambda each: each.finished):
        figures |= task.figures
    return figures


def answered(state: RunState) -> dict[str, Any]:
    """The last answer that tells how users fared; {} when there is none."""
    best: tuple[float, dict[str, Any]] = (0.0, {})
    for step in state.steps.values():
        for task in step.tasks:
            figures = _figures_in(task)
            if figures is not None and task.finished >= best[0]:
                best = (task.finished, figures)
    return best[1]


def _figures_in(task: TaskState) -> dict[str, Any] | None:
    data: Any = task.data
    if not isinstance(data, dict):
        return None
    if data.keys() >= FIGURE_KEYS:
        return data
    for inner in data.values():
        if isinstance(inner, dict) and inner.keys() >= FIGURE_KEYS:
            return inner
    return None


def notes(steps: Iterable[StepFacts], state: RunState) -> dict[str, str]:
    """Messages of steps called or inside `figures` that gave none as a typed field, of the
    outermost such only."""
    found: dict[str, tuple[int, str]] = {}
    for each in steps:
        ids = each.path.split("/")
        text = each.failure.message if each.failure is not None else each.message
        if FIGURES in ids and not each.group and each.status in FINAL and text:
            found[each.path] = (ids.index(FIGURES), text)
    outermost = min((depth for depth, _ in found.values()), default=0)
    return {
        path: text
        for path, (depth, text) in found.items()
        if depth == outermost and not _typed(state, path)
    }


def _typed(state: RunState, path: str) -> bool:
    step = state.steps.get(state.plan.by_path[path])
    return step is not None and any(task.figures for task in step.tasks)
